#!/bin/sh
# VictoriaMetrics 1.79.5 (Debian victoria-metrics 1.79.5+ds1-2+b5; 1.145.0 of Debian sid does the same).
# One would guess that a sample is stored as the double that it was, as Prometheus does, or rounded to some digits.
# The values of a block share one decimal exponent: 1.25 comes back as 1.25 among its like, and as 0 in a series that also
# reaches 1e20. By itself 1/3 comes back with 12 digits.
. "$(dirname "$0")/lib.sh"
port=9; victoria_metrics
now=$(date +%s)
for sample in 'even 1.25' 'even 2.25' 'wide 1.25' 'wide 1e20' 'third 0.3333333333333333' 'third 0.3333333333333333'; do
    now=$((now - 60))
    echo "$sample ${now}000"
done | curl -sf --data-binary @- "http://127.0.0.1:$prom/api/v1/import/prometheus"
values() { curl -s "http://127.0.0.1:$prom/api/v1/export" --data-urlencode "match[]=$1" | python3 -c 'import json, sys; print(*sorted(json.load(sys.stdin)["values"]))'; }
stored() { curl -s "http://127.0.0.1:$prom/internal/force_flush" && values third; }
wait_for stored
expect "among its like" '1.25 2.25' "$(values even)"
expect "beside 1e20" '0 100000000000000000000' "$(values wide)"
expect "1/3" '0.333333333333 0.333333333333' "$(values third)"
finish
