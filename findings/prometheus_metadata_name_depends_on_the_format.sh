#!/bin/sh
# Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1), /api/v1/metadata of one counter, `jobs_total`.
# One would guess that a series finds its help text under one name.
# Scraped as OpenMetrics it stands under `jobs`, as text 0.0.4 under `jobs_total`: a target that learns OpenMetrics moves its metadata.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
printf '# HELP jobs h\n# TYPE jobs counter\njobs_total 1\n# EOF\n' > "$lab/openmetrics"
printf '# HELP jobs_total h\n# TYPE jobs_total counter\njobs_total 1\n' > "$lab/text"
known() { # file, type
    serve "$lab/$1" "$2"
    prometheus "$lab/root/usr/bin/prometheus"
    wait_for sh -c "curl -s '127.0.0.1:$prom/api/v1/query?query=jobs_total' | grep -q value"
    curl -s "127.0.0.1:$prom/api/v1/metadata" | python3 -c 'import json, sys; print(" ".join(sorted(json.load(sys.stdin)["data"])))'
    kill $prometheus
}
expect "OpenMetrics" jobs "$(known openmetrics 'application/openmetrics-text; version=1.0.0')"
expect "text 0.0.4" jobs_total "$(known text 'text/plain; version=0.0.4')"
finish
