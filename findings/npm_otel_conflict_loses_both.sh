#!/bin/sh
# @opentelemetry/exporter-prometheus 0.301.0 with @opentelemetry/sdk-metrics 3.1.1 (npm). Two libraries of one program, each with a
# meter of its own, call an instrument by one name. One would guess that the first keeps it, or that the second is refused where it is made.
# If the kinds differ, both leave the page from then on, also the one that was there before: a counter `x` is lost when a gauge
# `x_total` comes. If the units differ, they become one family: seconds and milliseconds under one name, with the UNIT of the first.
# The page keeps its other metrics. Only `diag` tells, at each scrape, and it has no logger unless the program sets one.
. "$(dirname "$0")/lib.sh"
npm_get @opentelemetry/exporter-prometheus@0.301.0 @opentelemetry/sdk-metrics@3.1.1 @opentelemetry/api@1.10.0
cat > "$lab/page.mjs" <<'JS'
import { diag } from '@opentelemetry/api';
import { PrometheusExporter } from '@opentelemetry/exporter-prometheus';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
if (process.env.LOGGER) diag.setLogger({ warn: text => console.log(text), error() {}, info() {}, debug() {}, verbose() {} });
const exporter = new PrometheusExporter({ preventServerStart: true });
const provider = new MeterProvider({ readers: [exporter] });
provider.getMeter('other').createCounter('other').add(1);
const make = {
  counter: (meter, name, options) => meter.createCounter(name, options).add(1),
  gauge: (meter, name, options) => meter.createGauge(name, options).record(2),
  histogram: (meter, name, options) => meter.createHistogram(name, { ...options, advice: { explicitBucketBoundaries: [] } }).record(3),
};
process.argv.slice(2).forEach((word, i) => {
  const [kind, name, unit] = word.split(':');
  make[kind](provider.getMeter(`m${i}`), name, { unit });
});
exporter.getMetricsRequestHandler({ headers: {} }, { setHeader() {}, end(text) {
  console.log(text.split('\n').filter(line => /^(x|other)|UNIT/.test(line)).map(line => line.replace('otel_scope_name=', '')).join(', '));
} });
JS
page() { node "$lab/page.mjs" "$@" 2>&1; }
other='other_total{"other"} 1'
expect "a counter x" "$other, x_total{\"m0\"} 1" "$(page counter:x)"
expect "a counter x, a gauge x" "$other, x_total{\"m0\"} 1, x{\"m1\"} 2" "$(page counter:x gauge:x)"
expect "a counter x, a gauge x_total" "$other" "$(page counter:x gauge:x_total)"
expect "a histogram x, a gauge x" "$other" "$(page histogram:x gauge:x)"
expect "the same with a logger" "Conflicting TYPE comments for metric \"x\": \"histogram\", \"gauge\"; dropping the metric.|$other" \
    "$(LOGGER=1 page histogram:x gauge:x | paste -sd'|')"
expect "a gauge x in s, one in ms" "$other, # UNIT x s, x{\"m0\"} 2, x{\"m1\"} 2" "$(page gauge:x:s gauge:x:ms)"
finish
