#!/bin/sh
# prom-client 15.1.3 (npm). The format belongs to the registry, so a server that answers by Accept calls `setContentType` before each page.
# One would guess that a page depends on that call alone. The first OpenMetrics page cuts `_total` from the counters' own names, for
# good: in each text page after it `x_total` is called `x`. One look by a scraper that prefers OpenMetrics thus ends the series of all
# others, and a push to a Pushgateway has the new name as well. Histograms and gauges keep theirs.
# What to do: one registry with one format; Prometheus takes the text format always.
. "$(dirname "$0")/lib.sh"
npm_get prom-client@15.1.3
cat > "$lab/pages.js" <<'JS'
const { Counter, Gauge, Registry } = require('prom-client');
const registry = new Registry();
new Counter({ name: 'x_total', help: 'h', registers: [registry] }).inc();
new Gauge({ name: 'y_total', help: 'h', registers: [registry] }).set(2);
const page = async type => {
  registry.setContentType(type);
  const lines = (await registry.metrics()).split('\n').filter(line => /^[xy#] ?(TYPE)?|_total /.test(line) && !/HELP|EOF/.test(line));
  console.log(lines.join(', '));
};
(async () => {
  for (const type of [Registry.PROMETHEUS_CONTENT_TYPE, Registry.OPENMETRICS_CONTENT_TYPE, Registry.PROMETHEUS_CONTENT_TYPE]) await page(type);
})();
JS
node "$lab/pages.js" > "$lab/pages"
line() { sed -n "$1p" "$lab/pages"; }
gauge='# TYPE y_total gauge, y_total 2'
expect "text" "# TYPE x_total counter, x_total 1, $gauge" "$(line 1)"
expect "OpenMetrics" "# TYPE x counter, x_total 1, $gauge" "$(line 2)"
expect "text again" "# TYPE x counter, x 1, $gauge" "$(line 3)"
finish
