#!/bin/sh
# parse-prometheus-text-format 1.1.1 (npm). One would guess one metric for each set of labels.
# Histograms and summaries with labels collapse into one without labels: the last value of each bucket wins, sum and count are lost.
. "$(dirname "$0")/lib.sh"
npm_get parse-prometheus-text-format@1.1.1
cat > "$lab/read.js" <<'JS'
const parsed = require('parse-prometheus-text-format');
const page = (a, b) => `# TYPE h histogram
h_bucket${a}le="1"} 1
h_bucket${a}le="+Inf"} 3
h_sum${a.replace(/,?$/, '}').replace('{}', '')} 7
h_count${a.replace(/,?$/, '}').replace('{}', '')} 3
` + (b ? page(b) : '');
const read = (parsed.default || parsed)(page(...process.argv.slice(2)));
console.log(JSON.stringify(read[0].metrics));
JS
expect "without labels" '[{"buckets":{"1":"1","+Inf":"3"},"count":"3","sum":"7"}]' "$(node "$lab/read.js" '{')"
expect "two series" '[{"buckets":{"1":"1","+Inf":"3"}}]' "$(node "$lab/read.js" '{a="x",' '{a="y",')"
finish
