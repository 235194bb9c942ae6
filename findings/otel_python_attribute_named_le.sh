#!/bin/sh
# OpenTelemetry for Python 1.45.1 (Debian sid python3-opentelemetry-exporter-prometheus 1.45.1-2), its Prometheus exporter, and
# Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1). A histogram whose attribute is called `le` (a length, a letter). Prometheus'
# client libraries refuse that label. One would guess that the exporter refuses or renames it. The buckets lose it, while the sum
# and the count keep it: two attribute sets write the same bucket series twice, with different counts. Prometheus takes the page,
# with `up` 1, and stores the first only.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
cp -r "$lab/root" "$lab/prom"
needs sid python3-opentelemetry-exporter-prometheus=1.45.1-2
cat > "$lab/page.py" <<'PY'
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest
meter = MeterProvider(metric_readers=[PrometheusMetricReader()]).get_meter("m")
histogram = meter.create_histogram("h", explicit_bucket_boundaries_advisory=[10.0])
for value in (1, 2): histogram.record(value, {"le": "a"})
for value in (3, 4, 5): histogram.record(value, {"le": "b"})
print("".join(line + "\n" for line in generate_latest(REGISTRY).decode().splitlines() if line[:2] == "h_" or " h " in line), end="")
PY
PYTHONHOME=$lab/root/usr PYTHONPATH=$lab/root/usr/lib/python3/dist-packages $own "$lab/root/usr/bin/python3" "$lab/page.py" > "$lab/page"
samples() { sed -n "s/^h_$1{\(le=\"[^\"]*\"\).*} /\1 /p" "$lab/page" | paste -sd'|'; }
expect "buckets" 'le="10.0" 2.0|le="+Inf" 2.0|le="10.0" 3.0|le="+Inf" 3.0' "$(samples bucket)"
expect "counts" 'le="a" 2.0|le="b" 3.0' "$(samples count)"
serve "$lab/page" 'text/plain; version=0.0.4'
prometheus "$lab/prom/usr/bin/prometheus"
scraped() { [ -n "$(ask h_count)" ]; }
wait_for scraped
expect "stored in le=+Inf, in all counts" "2 5" "$(ask 'sum(h_bucket{le="+Inf"})' | cut -d' ' -f2) $(ask 'sum(h_count)' | cut -d' ' -f2)"
expect up 1 "$(ask up | cut -d' ' -f2)"
finish
