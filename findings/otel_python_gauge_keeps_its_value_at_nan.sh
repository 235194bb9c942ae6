#!/bin/sh
# OpenTelemetry for Python 1.45.1 (Debian sid python3-opentelemetry-exporter-prometheus 1.45.1-2), its Prometheus exporter.
# In Prometheus a gauge without a value is NaN, and one without a limit +Inf; client libraries take both. One would guess that
# the page shows them, or has no sample. The SDK drops a value that is not finite with a line in the log, so the gauge goes on
# showing what it was set to before; an observable gauge whose callback gives NaN is left out.
. "$(dirname "$0")/lib.sh"
needs sid python3-opentelemetry-exporter-prometheus=1.45.1-2
cat > "$lab/gauge.py" <<'PY'
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest
meter = MeterProvider(metric_readers=[PrometheusMetricReader()]).get_meter("m")
gauge = meter.create_gauge("g")
value = 5.0
meter.create_observable_gauge("o", [lambda options: [Observation(value)]])
def page():
    samples = [line.split("{")[0] + " " + line.rsplit(" ", 1)[1] for line in generate_latest(REGISTRY).decode().splitlines() if line[:2] in ("g{", "o{")]
    print(", ".join(sorted(samples)))
for value in (5.0, float("nan"), float("inf"), 7.0):
    gauge.set(value)
    page()
PY
PYTHONHOME=$lab/root/usr PYTHONPATH=$lab/root/usr/lib/python3/dist-packages $own "$lab/root/usr/bin/python3" "$lab/gauge.py" > "$lab/out" 2> "$lab/log"
line() { sed -n "$1p" "$lab/out"; }
expect "set to 5" "g 5.0, o 5.0" "$(line 1)"
expect "set to NaN" "g 5.0" "$(line 2)"
expect "set to +Inf" "g 5.0" "$(line 3)"
expect "set to 7" "g 7.0, o 7.0" "$(line 4)"
expect "lines of the log" 2 "$(grep -c 'is not finite on Gauge g' "$lab/log" || :)"
finish
