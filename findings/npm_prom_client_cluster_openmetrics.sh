#!/bin/sh
# prom-client 15.1.3 (npm) in a Node.js cluster, scraped by Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1). The primary process joins
# the workers' metrics with `new AggregatorRegistry(contentType)`. One would guess that `clusterMetrics()` writes that format. It always
# writes the text format, while `contentType` still says OpenMetrics. An endpoint that sends the two together, as all examples do, is
# refused by Prometheus for the missing `# EOF`: `up` is 0. The same registry without a cluster is well.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
npm_get prom-client@15.1.3
cat > "$lab/server.js" <<'JS'
const cluster = require('cluster'), fs = require('fs'), http = require('http');
const { AggregatorRegistry, Counter, Registry, register } = require('prom-client');
const type = Registry[process.argv[2]], single = process.argv[3] === 'single';
register.setContentType(type);
if (single || cluster.isWorker) new Counter({ name: 'x_total', help: 'h' }).inc();
const joined = new AggregatorRegistry(type);
if (cluster.isPrimary) {
  const server = http.createServer(async (_, answer) => {
    answer.setHeader('Content-Type', (single ? register : joined).contentType);
    answer.end(await (single ? register.metrics() : joined.clusterMetrics()));
  });
  const listen = () => server.listen(+process.argv[4], '127.0.0.1');
  if (single) listen();
  else cluster.fork().on('message', message => message === 'ready' && listen());
} else process.send('ready');
JS
scraped() { [ -n "$(ask up)" ]; }
for which in "PROMETHEUS_CONTENT_TYPE cluster" "OPENMETRICS_CONTENT_TYPE single" "OPENMETRICS_CONTENT_TYPE cluster"; do
    port=$(free_port)
    # shellcheck disable=SC2086
    (cd "$lab" && exec node server.js $which "$port") > "$lab/log" 2>&1 & server=$!
    wait_for curl -sf "http://127.0.0.1:$port/"
    case $which in
        PROM*) wanted='text/plain; version=0.0.4; charset=utf-8, x_total 1, up 1' ;;
        *single) wanted='application/openmetrics-text; version=1.0.0; charset=utf-8, x_total 1 # EOF, up 1' ;;
        *) wanted='application/openmetrics-text; version=1.0.0; charset=utf-8, x_total 1, up 0' ;;
    esac
    prometheus "$lab/root/usr/bin/prometheus"
    wait_for scraped
    got="$(curl -s -o "$lab/page" -w '%{content_type}' "http://127.0.0.1:$port/"), $(grep -E '^x|EOF' "$lab/page" | paste -sd' '), up $(ask up | cut -d' ' -f2)"
    expect "$which" "$wanted" "$got"
    kill "$prometheus" "$server"
done
finish
