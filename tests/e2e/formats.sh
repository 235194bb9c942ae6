#!/bin/sh
# What real Prometheus servers negotiate with ours: formats, escaping schemes, UTF-8 names, exemplars.
. "$(dirname "$0")/lib.sh"

app=$(free_port)
start formats "$B/e2e/formats" "$app"
ok "the program serves" within 20 answers "http://127.0.0.1:$app/metrics"

page() { curl -sS -m 5 "$@" "http://127.0.0.1:$app/metrics"; }
type_is() { [ "$(page -o /dev/null -w '%{content_type}' -H "Accept: $1")" = "$2" ]; }
ok "curl sees text" type_is '*/*' 'text/plain; version=0.0.4; charset=utf-8'
ok "a browser sees text" type_is 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' 'text/plain; version=0.0.4; charset=utf-8'
ok "OpenMetrics is given who asks for it" type_is 'application/openmetrics-text' 'application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores'
ok "promtool has nothing against the page" sh -c "curl -sS http://127.0.0.1:$app/metrics | '$LAB/bin/promtool-3' check metrics"

query() { # port expression -> value
    curl -sS -m 5 -G "http://127.0.0.1:$1/api/v1/query" --data-urlencode "query=$2" |
        python3 -c 'import json, sys; r = json.load(sys.stdin)["data"]["result"]; print(r[0]["value"][1] if r else "none")'
}
is() { [ "$(query "$1" "$2")" = "$3" ]; }
exemplar() { # port
    curl -sS -m 5 -G "http://127.0.0.1:$1/api/v1/query_exemplars" --data-urlencode 'query={job="default"}' -d start=0 -d end=9999999999 | grep -q '"trace_id":"abc"'
}

serve() { # version, then the scrape_configs
    port=$(free_port)
    mkdir "$tmp/$1"
    { echo 'global: {scrape_interval: 1s, scrape_timeout: 1s}'; echo "scrape_configs: [$2]"; } > "$tmp/$1/prometheus.yml"
    start "prometheus-$1" "$LAB/bin/prometheus-$1" --config.file="$tmp/$1/prometheus.yml" --storage.tsdb.path="$tmp/$1/data" \
        --web.listen-address="127.0.0.1:$port" --log.level=warn --enable-feature=exemplar-storage
}
targets="static_configs: [{targets: ['127.0.0.1:$app']}]"

serve 2.42 "{job_name: default, $targets}"
ok "2.42 scrapes it" within 60 is "$port" 'up{job="default"}' 1
ok "2.42 knows the names with underscores" within 20 is "$port" 'http_requests_seconds_total{http_method="GET"}' 3
ok "2.42 knows the buckets" is "$port" 'latency_seconds_bucket{le="1.0"}' 1
ok "2.42 has the exemplar" within 20 exemplar "$port"
ok "2.42 has the process's metrics" is "$port" 'process_open_fds > bool 2' 1

serve 3 "{job_name: default, $targets}, {job_name: dots, metric_name_escaping_scheme: dots, $targets},
    {job_name: values, metric_name_escaping_scheme: values, $targets},
    {job_name: legacy, metric_name_validation_scheme: legacy, metric_name_escaping_scheme: underscores, $targets},
    {job_name: text, scrape_protocols: [PrometheusText1.0.0], $targets},
    {job_name: old, scrape_protocols: [PrometheusText0.0.4], $targets}"
for job in default dots values legacy text old; do
    ok "3.5 scrapes it, job $job" within 60 is "$port" "up{job=\"$job\"}" 1
done
ok "3.5 has the UTF-8 names" within 20 is "$port" '{"http.requests_seconds_total","http.method"="GET",job="default"}' 3
ok "3.5 has them from text 1.0.0 too" within 20 is "$port" '{"http.requests_seconds_total","http.method"="GET",job="text"}' 3
ok "3.5 has the buckets" is "$port" '{"latency.seconds_bucket",le="1.0",job="default"}' 1
ok "3.5 has the exemplar" within 20 exemplar "$port"
ok "dots are spelt out" within 20 is "$port" 'http_dot_requests__seconds__total{http_dot_method="GET",job="dots"}' 3
ok "dots leave the suffix of a histogram alone" is "$port" 'latency_dot_seconds_bucket{le="0.5",job="dots"}' 0
ok "values are spelt out" within 20 is "$port" 'U__http_2e_requests__seconds__total{U__http_2e_method="GET",job="values"}' 3
ok "legacy names have underscores" within 20 is "$port" 'http_requests_seconds_total{http_method="GET",job="legacy"}' 3
ok "text 0.0.4 has underscores" within 20 is "$port" 'http_requests_seconds_total{http_method="GET",job="old"}' 3
finish
