#!/bin/sh
# @opentelemetry/exporter-prometheus 0.301.0 with @opentelemetry/sdk-metrics 3.1.1 (npm), scraped by Prometheus 3.5.3 (Debian sid
# 3.5.3+ds1-6). The exporter makes names valid: `9x` as a metric becomes `_9x`. One would guess the same of attributes. An attribute that begins
# with a digit (`2xx`) is written as it is, and `le` of a histogram is written beside the bound's own `le`. Prometheus refuses the
# whole page for either: `up` is 0, all other metrics are lost, from the first observation with that attribute on.
. "$(dirname "$0")/lib.sh"
npm_get @opentelemetry/exporter-prometheus@0.301.0 @opentelemetry/sdk-metrics@3.1.1 @opentelemetry/api@1.10.0
needs sid prometheus=3.5.3+ds1-6
cat > "$lab/page.mjs" <<'JS'
import { PrometheusExporter } from '@opentelemetry/exporter-prometheus';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
const exporter = new PrometheusExporter({ preventServerStart: true });
const meter = new MeterProvider({ readers: [exporter] }).getMeter('m');
meter.createCounter('good').add(1);
meter.createGauge('9x').record(1);
meter.createHistogram('h', { advice: { explicitBucketBoundaries: [10] } }).record(1, { [process.argv[2]]: 'v' });
exporter.getMetricsRequestHandler({ headers: {} }, { setHeader() {}, end(text) { process.stdout.write(text); } });
JS
printf '#!/bin/sh\nexec %s %s "$@"\n' "$own" "$lab/root/usr/bin/prometheus" > "$lab/prometheus"
chmod +x "$lab/prometheus"
scraped() { [ -n "$(ask up)" ]; }
look() { # attribute, line wanted, up and metrics wanted
    node "$lab/page.mjs" "$1" > "$lab/page"
    expect "$1, line" "$2" "$(grep -E '^_9x|^h_bucket.*"10"' "$lab/page" | sed 's/,*otel_scope_name="m"//' | paste -sd' ')"
    serve "$lab/page" text/plain; server=$!
    prometheus "$lab/prometheus"
    wait_for scraped
    expect "$1, stored" "$3" "up $(ask up | cut -d' ' -f2), good_total $(ask good_total | sed 's/.*} //')"
    kill "$prometheus" "$server"
}
look x2 '_9x{} 1 h_bucket{x2="v",le="10"} 1' 'up 1, good_total 1'
look 2xx '_9x{} 1 h_bucket{2xx="v",le="10"} 1' 'up 0, good_total '
look le '_9x{} 1 h_bucket{le="v",le="10"} 1' 'up 0, good_total '
finish
