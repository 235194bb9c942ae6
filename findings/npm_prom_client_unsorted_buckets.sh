#!/bin/sh
# prom-client 15.1.3 (npm), histogram with `buckets: [1, 0.5, 2]`.
# One would guess that the bounds are sorted, or refused as other client libraries do.
# They are neither: the page shows them in the order given, and 0.7 is counted in le="0.5" too, so quantiles are wrong without an error.
. "$(dirname "$0")/lib.sh"
npm_get prom-client@15.1.3
cat > "$lab/page.js" <<'JS'
const { Registry, Histogram } = require('prom-client');
const registry = new Registry();
new Histogram({ name: 'h', help: 'h', buckets: process.argv[2].split(',').map(Number), registers: [registry] }).observe(0.7);
registry.metrics().then(text => console.log(text));
JS
buckets() { node "$lab/page.js" "$1" | sed -n 's/^h_bucket//p' | paste -sd' '; }
expect "sorted bounds" '{le="0.5"} 0 {le="1"} 1 {le="2"} 1 {le="+Inf"} 1' "$(buckets 0.5,1,2)"
expect "the same bounds unsorted" '{le="1"} 1 {le="0.5"} 1 {le="2"} 1 {le="+Inf"} 1' "$(buckets 1,0.5,2)"
finish
