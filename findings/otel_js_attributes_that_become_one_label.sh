#!/bin/sh
# @opentelemetry/exporter-prometheus 0.223.0 (npm), scraped by Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1).
# The attributes `a.b` and `a_b` are two in OpenTelemetry. One would guess that the exporter joins their values or renames one.
# It writes the label a_b twice on the line, and Prometheus then refuses the whole page: `up` is 0, all other series are lost too.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
npm_get @opentelemetry/exporter-prometheus@0.223.0 @opentelemetry/sdk-metrics@2.12.1
cat > "$lab/page.js" <<'JS'
const { PrometheusExporter } = require('@opentelemetry/exporter-prometheus');
const { MeterProvider } = require('@opentelemetry/sdk-metrics');
const exporter = new PrometheusExporter({ preventServerStart: true });
const meter = new MeterProvider({ readers: [exporter] }).getMeter('m');
meter.createCounter('good').add(1);
meter.createCounter('twice').add(1, process.argv[2] === 'both' ? { 'a.b': 'x', a_b: 'y' } : { 'a.b': 'x' });
exporter.getMetricsRequestHandler({}, { setHeader() {}, end(text) { process.stdout.write(text); } });
JS
page() { node "$lab/page.js" "$1" | grep -v '^# '; }
page one > "$lab/one"; page both > "$lab/both"
expect "one attribute" 'twice_total{a_b="x",otel_scope_name="m"} 1' "$(grep twice "$lab/one")"
expect "both attributes" 'twice_total{a_b="x",a_b="y",otel_scope_name="m"} 1' "$(grep twice "$lab/both")"
for which in one both; do
    serve "$lab/$which" 'text/plain; version=0.0.4'
    prometheus "$lab/root/usr/bin/prometheus"
    wait_for sh -c "curl -s '127.0.0.1:$prom/api/v1/targets' | grep -qE '\"health\":\"(up|down)\"'"
    wait_for test -n "$(sleep 2; ask up)"
    if [ $which = one ]; then expect "up, one attribute" '{__name__="up"} 1' "$(ask up)"
    else
        expect "up, both" '{__name__="up"} 0' "$(ask up)"
        expect "the other metric" '' "$(ask good_total)"
        curl -s "127.0.0.1:$prom/api/v1/targets" | sed 's/.*"lastError":"\([^}]*\)","lastScrape".*/said: \1/'; echo
    fi
    kill $prometheus
done
finish
