#!/bin/sh
# express-prom-bundle 8.0.0 with prom-client 15.1.3 and express 5.3.0 (npm), scraped by Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1).
# prom-client writes exemplars in OpenMetrics only, so one sets that format on the registry. One would guess that the middleware sends
# the registry's content type. At its own /metrics it sends `text/plain` always (with `metricsApp` it sends the right one). Without
# exemplars Prometheus takes such a page, and tests pass; the first exemplar makes it refuse the whole page, so that `up` falls to 0
# not at the start but at the first observation that has one.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
npm_get express-prom-bundle@8.0.0 prom-client@15.1.3 express@5.3.0
cat > "$lab/server.js" <<'JS'
const bundle = require('express-prom-bundle'), { Counter, Registry, register } = require('prom-client'), app = require('express')();
const [port, exemplar, where] = process.argv.slice(2);
register.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
const counter = new Counter({ name: 'x_total', help: 'h', enableExemplars: true });
counter.inc(exemplar === 'exemplar' ? { exemplarLabels: { trace_id: 'a' }, value: 1 } : { value: 1 });
app.use(bundle(where === 'metricsApp' ? { autoregister: false, metricsApp: app } : {}));
app.listen(+port, '127.0.0.1');
JS
scraped() { [ -n "$(ask up)" ]; }
look() { # name, answer wanted, server's words
    port=$(free_port)
    # shellcheck disable=SC2086
    (cd "$lab" && exec node server.js "$port" $3) > "$lab/log" 2>&1 & server=$!
    wait_for curl -sf "http://127.0.0.1:$port/metrics"
    prometheus "$lab/root/usr/bin/prometheus"
    wait_for scraped
    expect "$1" "$2" "$(curl -s -o /dev/null -w '%{content_type}' "http://127.0.0.1:$port/metrics"), up $(ask up | cut -d' ' -f2)"
    kill "$prometheus" "$server"
}
om='application/openmetrics-text; version=1.0.0; charset=utf-8'
look "metricsApp, an exemplar" "$om, up 1" "exemplar metricsApp"
look "its own page, no exemplar" 'text/plain, up 1' "none own"
look "its own page, an exemplar" 'text/plain, up 0' "exemplar own"
finish
