#!/bin/sh
# Real Prometheus servers scrape the quickstart, and their query API tells what it served.
. "$(dirname "$0")/lib.sh"

app=$(free_port)
start quickstart "$B/examples/01_quickstart" "$app"
quickstart=$pid
ok "the quickstart serves" within 20 answers "http://127.0.0.1:$app/metrics"
ok "promtool has nothing against the page" sh -c "curl -sS http://127.0.0.1:$app/metrics | '$LAB/bin/promtool-2.42' check metrics"
ok "promtool 3 has nothing against the page" sh -c "curl -sS http://127.0.0.1:$app/metrics | '$LAB/bin/promtool-3' check metrics"

query() { # port expression -> value
    curl -sS -m 5 -G "http://127.0.0.1:$1/api/v1/query" --data-urlencode "query=$2" |
        python3 -c 'import json, sys; r = json.load(sys.stdin)["data"]["result"]; print(r[0]["value"][1] if r else "none")'
}
is() { [ "$(query "$1" "$2")" = "$3" ]; }

for prometheus in prometheus-2.42 prometheus-3; do
    port=$(free_port)
    mkdir "$tmp/$prometheus"
    cat > "$tmp/$prometheus/prometheus.yml" <<YML
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: quickstart, static_configs: [{targets: ["127.0.0.1:$app"]}]}]
YML
    start "$prometheus" "$LAB/bin/$prometheus" --config.file="$tmp/$prometheus/prometheus.yml" \
        --storage.tsdb.path="$tmp/$prometheus/data" --web.listen-address="127.0.0.1:$port" --log.level=warn
    ok "$prometheus finds the quickstart up" within 60 is "$port" 'up{job="quickstart"}' 1
    ok "$prometheus sees the histogram count up" within 30 is "$port" 'req_time_seconds_count > bool 3' 1
    ok "$prometheus sees +Inf equal to the count" is "$port" 'req_time_seconds_bucket{le="+Inf"} == bool ignoring(le) req_time_seconds_count' 1
    ok "$prometheus sees a request take at least 0.1 s and less than 1 s" is "$port" \
        '(req_time_seconds_sum / req_time_seconds_count >= bool 0.1) * (req_time_seconds_sum / req_time_seconds_count < bool 1)' 1
    ok "$prometheus sees the labelled counter" within 30 is "$port" 'http_requests_total{method="GET",status="200"} > bool 3' 1
    ok "$prometheus knows the types" sh -c "curl -sS 'http://127.0.0.1:$port/api/v1/metadata?metric=req_time_seconds' | grep -q '\"type\":\"histogram\"'"
done

ends() { kill -TERM "$quickstart" && wait "$quickstart"; }
ok "the quickstart ends with 0 on SIGTERM" ends
finish
