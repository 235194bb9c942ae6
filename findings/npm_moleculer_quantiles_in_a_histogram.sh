#!/bin/sh
# moleculer 0.15.2 (npm), its Prometheus reporter, read by prometheus_client 0.16.0 (Debian python3-prometheus-client 0.16.0-0.1) and
# Pushgateway 1.5.1 (Debian prometheus-pushgateway 1.5.1-2+b5). A histogram with buckets and quantiles, as moleculer's own
# moleculer.request.time has them. One would guess a family of each type, or one of them. All stand under one `# TYPE ... histogram`, the
# quantile between the buckets and the sum. The Python parser ends the histogram there: sum and count are of unknown type, so there is no
# mean. Pushgateway takes the quantile for a label: a second histogram quantile="0.5", in which nothing was observed, and 1.5 is lost.
. "$(dirname "$0")/lib.sh"
npm_get moleculer@0.15.2
debs prometheus-pushgateway=1.5.1-2+b5 python3-prometheus-client=0.16.0-0.1
port=$(free_port)
cat > "$lab/page.js" <<'JS'
const { ServiceBroker } = require('moleculer');
const reporter = { type: 'Prometheus', options: { port: +process.argv[2], includes: ['my.*'], defaultLabels: () => ({}) } };
const broker = new ServiceBroker({ nodeID: 'n', logger: false, metrics: { enabled: true, collectProcessMetrics: false, reporter: [reporter] } });
broker.start().then(() => {
    broker.metrics.register({ type: 'histogram', name: 'my.wait', buckets: [1, 2, 4], quantiles: [0.5] });
    for (const seconds of [0.5, 1.5, 3, 9]) broker.metrics.observe('my.wait', seconds);
});
JS
(cd "$lab" && exec node page.js "$port" > "$lab/out" 2>&1) &
whole() { curl -sf "http://127.0.0.1:$port/metrics" > "$lab/page" && grep -q my_wait_count "$lab/page"; }
wait_for whole
expect "the page" "# TYPE my_wait histogram, my_wait_bucket{le=\"+Inf\"} 4, my_wait{quantile=\"0.5\"} 1.5, my_wait_sum 14, my_wait_count 4" \
    "$(grep -E 'TYPE|Inf|quantile|_sum|_count' "$lab/page" | sed 's/{}//' | paste -sd, | sed 's/,\([#m]\)/, \1/g')"
expect "Python" "my_wait histogram, my_wait unknown, my_wait_sum unknown, my_wait_count unknown" "$(PYTHONPATH=$lab/root/usr/lib/python3/dist-packages python3 - "$lab/page" <<'PY'
import sys
from prometheus_client.parser import text_string_to_metric_families as text
print(*(f.name + " " + f.type for f in text(open(sys.argv[1]).read()) if f.name in ("my_wait", "my_wait_sum", "my_wait_count")), sep=", ")
PY
)"
push=$(free_port)
"$lab/root/usr/bin/prometheus-pushgateway" --web.listen-address="127.0.0.1:$push" --persistence.file= > "$lab/log" 2>&1 &
wait_for curl -s "http://127.0.0.1:$push/-/ready"
curl -s --data-binary @"$lab/page" "http://127.0.0.1:$push/metrics/job/x"
curl -s "http://127.0.0.1:$push/metrics" | grep '^my_wait' > "$lab/pushed" || :
expect "Pushgateway: its lines with quantile=\"0.5\"" 'my_wait_bucket{le="+Inf"} 0, my_wait_sum{} 0, my_wait_count{} 0' "$(grep 'quantile="0.5"' "$lab/pushed" | sed 's/instance="",job="x",quantile="0.5",*//' | paste -sd, | sed 's/,m/, m/g')"
finish
