#!/bin/sh
# What real Prometheus servers store of native histograms, over protobuf, and what their queries make of it.
. "$(dirname "$0")/lib.sh"

app=$(free_port)
plain=$(free_port)
undated=$(free_port)
start native "$B/e2e/native" "$app" "$plain" "$undated"
ok "the program serves" within 20 answers "http://127.0.0.1:$app/metrics"

protobuf='application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited'
type_is() { [ "$(curl -sS -m 5 -o /dev/null -w '%{content_type}' -H "Accept: $1" "http://127.0.0.1:$app/metrics")" = "$2" ]; }
ok "curl sees text" type_is '*/*' 'text/plain; version=0.0.4; charset=utf-8'
ok "protobuf is given who asks for it" type_is "$protobuf" \
    'application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores'
ok "OpenMetrics 2.0 is given who asks for it" type_is 'application/openmetrics-text;version=2.0.0' \
    'application/openmetrics-text; version=2.0.0; charset=utf-8; escaping=underscores'

same_when_gunzipped() {
    page() { curl -sS -m 5 -g -H "Accept: $protobuf" "$@" "http://127.0.0.1:$app/metrics?name[]=counters_total"; }
    page > "$tmp/whole" && page -H 'Accept-Encoding: gzip' > "$tmp/zipped" && gunzip < "$tmp/zipped" | cmp - "$tmp/whole" &&
        [ "$(wc -c < "$tmp/zipped")" -lt "$(($(wc -c < "$tmp/whole") / 3))" ]
}
ok "a protobuf page is compressed for who asks, to the same octets" same_when_gunzipped
python=python3
"$python" -c 'import google.protobuf' 2> /dev/null || python=/usr/bin/python3  # Debian's, where another stands before it
ok "Google's library decodes the protobuf page, to the values of the text page" "$python" "$(dirname "$0")/protobuf_page.py" "http://127.0.0.1:$app/metrics"

query() { # port expression -> value
    curl -sS -m 5 -G "http://127.0.0.1:$1/api/v1/query" --data-urlencode "query=$2" |
        python3 -c 'import json, sys; r = json.load(sys.stdin)["data"]["result"]; print(r[0]["value"][1] if r and "value" in r[0] else "none")'
}
is() { [ "$(query "$1" "$2")" = "$3" ]; }
near() { is_near "$1" "$2|$3"; }
is_near() { # port, lines of expression|number: but for 1e-12 of it
    echo "$2" | python3 -c '
import json, sys, urllib.parse, urllib.request
wrong = 0
for line in sys.stdin:
    asked, expected = line.strip().rsplit("|", 1)
    url = "http://127.0.0.1:" + sys.argv[1] + "/api/v1/query?" + urllib.parse.urlencode({"query": asked})
    result = json.load(urllib.request.urlopen(url, timeout=5))["data"]["result"]
    got = result[0]["value"][1] if result and "value" in result[0] else "none"
    if got == "none" or abs(float(got) - float(expected)) > 1e-12 * abs(float(expected)):
        wrong += 1
        print(asked, "is", got, "and not", expected)
sys.exit(wrong != 0)' "$1"
}
exemplar() { # port
    curl -sS -m 5 -G "http://127.0.0.1:$1/api/v1/query_exemplars" --data-urlencode 'query=both_seconds' -d start=0 -d end=9999999999 | grep -q '"trace_id":"abc"'
}
targets="static_configs: [{targets: ['127.0.0.1:$app']}]"
no_native="static_configs: [{targets: ['127.0.0.1:$plain']}]"

serve() { # name version features, then the scrape_configs
    port=$(free_port)
    mkdir "$tmp/$1"
    { echo 'global: {scrape_interval: 1s, scrape_timeout: 1s}'; echo "scrape_configs: [$4]"; } > "$tmp/$1/prometheus.yml"
    start "prometheus-$1" "$LAB/bin/prometheus-$2" --config.file="$tmp/$1/prometheus.yml" --storage.tsdb.path="$tmp/$1/data" \
        --web.listen-address="127.0.0.1:$port" --log.level=warn --enable-feature="$3"
}
# Columns: query, what servers from 3.0 on answer, what older ones do (linear within a bucket), "-" for the same.
reference='histogram_quantile(0.5,ds1)|0.40262258298731357|0.4030004569894212
histogram_quantile(0.9,ds1)|1.6104903319492543|1.6120018279576849
histogram_quantile(0.5,ds2)|0.9576032806985736|0.9585020216023356
histogram_quantile(0.9,ds2)|0.9913730874626621|0.9917004043204671
histogram_quantile(0.5,ds3)|1.4693679385278594e-39|-
histogram_quantile(0.9,ds3)|0.9785720620877001|0.9792510108011678
histogram_quantile(0,ds2)|0.9170040432046711|-
histogram_quantile(1,ds2)|1|-
histogram_quantile(0,ds3)|-1|-
histogram_quantile(0.5,nh)|1.189207115002721|1.25
histogram_quantile(0.9,nh)|5.65685424949238|6
histogram_count(ds1)|5|-
histogram_sum(ds1)|3.1|-
histogram_count(ds3)|10|-
histogram_sum(ds3)|2|-
histogram_fraction(0,1,ds1)|0.8|-
histogram_fraction(0,1,ds2)|1|-
histogram_fraction(0,1,ds3)|0.6|-
histogram_fraction(-Inf,0,ds3)|0.4|-
histogram_fraction(0,2,nh)|0.8|-
histogram_quantile(0.5,yielded{with=""})|1.189207115002721|1.25
histogram_count(yielded{with="both"})|10|-
histogram_count(waiting)|6|-
histogram_sum(waiting)|2|-
histogram_fraction(-Inf,0,waiting)|0.3333333333333333|-
histogram_count(wide)|800|-
count(histogram_count(many)>0)|1999|-
count(counters_total)|2000|-
sum(counters_total)|1999000|-
build_info|1|-
state{state="on"}|1|-
sizes_count|1|-
histogram_count(both_seconds)|5|-'
newer='histogram_avg(ds1)|0.62
histogram_avg(ds3)|0.2
histogram_stddev(ds1)|0.5491190405648617
histogram_stddev(ds2)|0.04239671930142641
histogram_stddev(ds3)|0.7166548426313163
histogram_fraction(-1,1.5,nh)|0.6339850002884625'
answers_of() { # version -> lines of query|answer
    case $1 in
        3) echo "$reference" | cut -d'|' -f1,2; echo "$newer" ;;
        *) echo "$reference" | awk -F'|' '{ print $1 "|" ($3 == "-" ? $2 : $3) }' ;;
    esac
}

for version in 2.42 2.53 3; do
    serve "$version" "$version" native-histograms,exemplar-storage "{job_name: native, $targets}"
    ok "$version scrapes it" within 60 is "$port" 'up' 1
    ok "$version answers as the reference says" within 30 is_near "$port" "$(answers_of "$version")"
    ok "$version has the exemplar" within 20 exemplar "$port"
    ok "$version has no classic buckets" is "$port" 'both_seconds_count' none
    ok "$version sees counter resets of a native histogram" within 40 is "$port" 'histogram_count(increase(moving[20s])) > bool 100' 1
    ok "$version has lost no scrape" is "$port" 'min_over_time(up[1m])' 1
    ok "$version knows that a collector's is of gauges" sh -c "curl -sS 'http://127.0.0.1:$port/api/v1/metadata?metric=waiting' | grep -q '\"type\":\"gaugehistogram\"'"
    ok "$version knows the types and help" sh -c "curl -sS 'http://127.0.0.1:$port/api/v1/metadata?metric=ds1' | grep 'Five values' | grep -q '\"type\":\"histogram\"'"
done
ok "3 has the name of UTF-8 as it is" is "$port" '{"dotted.name","a.b"="c"}' 1

serve jobs 3 native-histograms "{job_name: classic, always_scrape_classic_histograms: true, $targets},
    {job_name: text, scrape_protocols: [OpenMetricsText1.0.0], $targets}"
for job in classic text; do ok "3 scrapes it, job $job" within 60 is "$port" "up{job=\"$job\"}" 1; done
ok "always_scrape_classic_histograms: both are there" within 20 is "$port" 'both_seconds_bucket{job="classic",le="2.0"}' 3
ok "always_scrape_classic_histograms: both are there, the native one" is "$port" 'histogram_count(both_seconds{job="classic"})' 5
ok "OpenMetrics 1.0 has the classic buckets" within 20 is "$port" 'both_seconds_bucket{job="text",le="2.0"}' 3
ok "OpenMetrics 1.0 has the count of a histogram that is only native" is "$port" 'ds1_bucket{job="text",le="+Inf"}' 5

serve nhcb 3 native-histograms "{job_name: nhcb, convert_classic_histograms_to_nhcb: true, $no_native}"
ok "classic buckets become native ones with custom bounds" within 60 near "$port" 'histogram_quantile(0.5, both_seconds)' 1.75

# Limits of a scrape. `wide` has 13 buckets of schema -1, seven or eight of schema -2.
stored_buckets() { # port job
    curl -sS -m 5 -G "http://127.0.0.1:$1/api/v1/query" --data-urlencode "query=wide{job=\"$2\"}" |
        python3 -c 'import json, sys; r = json.load(sys.stdin)["data"]["result"]; print(len(r[0]["histogram"][1]["buckets"]) if r else "none")'
}
at_most() { n=$(stored_buckets "$1" "$2") && [ "$n" != none ] && [ "$n" -ge 1 ] && [ "$n" -le "$3" ]; }
for version in 2.53 3; do
    serve "limits-$version" "$version" native-histograms "{job_name: buckets, native_histogram_bucket_limit: 8, params: {'name[]': [wide]}, $targets},
        {job_name: factor, native_histogram_min_bucket_factor: 16, params: {'name[]': [wide]}, $targets},
        {job_name: none, params: {'name[]': [wide]}, $targets},
        {job_name: no_way, native_histogram_bucket_limit: 1, params: {'name[]': [ds3]}, $targets},
        {job_name: samples, sample_limit: 100, $targets}, {job_name: enough_samples, sample_limit: 100, params: {'name[]': [ds1]}, $targets},
        {job_name: body, body_size_limit: 1KB, $targets}, {job_name: enough_body, body_size_limit: 1KB, params: {'name[]': [ds1]}, $targets}"
    for job in buckets factor none enough_samples enough_body; do ok "$version scrapes it, job $job" within 60 is "$port" "up{job=\"$job\"}" 1; done
    ok "native_histogram_bucket_limit: $version makes 8 buckets of more" within 20 at_most "$port" buckets 8
    ok "native_histogram_bucket_limit: $version has each observation" is "$port" 'histogram_count(wide{job="buckets"})' 800
    ok "native_histogram_min_bucket_factor: $version has coarser buckets" within 20 at_most "$port" factor 9
    ok "without a limit it has more" sh -c "[ $(stored_buckets "$port" none) -gt 9 ]"
    for job in no_way samples body; do ok "$version refuses the page, job $job" within 20 is "$port" "up{job=\"$job\"}" 0; done
    curl -sS -m 5 "http://127.0.0.1:$port/api/v1/targets" > "$tmp/targets-$version"
    for why in 'histogram bucket limit exceeded' 'sample limit exceeded' 'body size limit exceeded'; do
        ok "$version says why: $why" grep -q "$why" "$tmp/targets-$version"
    done
done

only_histograms() { # port: the samples of ds1
    curl -sS -m 5 -G "http://127.0.0.1:$1/api/v1/query" --data-urlencode 'query=ds1[5m]' |
        python3 -c 'import json, sys; r = json.load(sys.stdin)["data"]["result"][0]; sys.exit("values" in r or not r["histograms"])'
}
# With start timestamps both of these would make other samples of a native histogram than histograms, or worse: see the README.
for version in 2.53 3; do
    serve "undated-$version" "$version" native-histograms,created-timestamp-zero-ingestion "{job_name: undated, static_configs: [{targets: ['127.0.0.1:$undated']}]}"
    ok ".start_timestamps = false: $version with created-timestamp-zero-ingestion scrapes it" within 60 is "$port" up 1
    ok ".start_timestamps = false: $version has native histograms" within 20 is "$port" 'histogram_count(ds1)' 5
    ok ".start_timestamps = false: $version has no other samples in their series" only_histograms "$port"
done

# A server that asks for protobuf and does not store native histograms.
serve off 3 exemplar-storage "{job_name: with, scrape_protocols: [PrometheusProto], $targets}, {job_name: without, scrape_protocols: [PrometheusProto], $no_native}"
for job in with without; do ok "3 without native histograms scrapes it, job $job" within 60 is "$port" "up{job=\"$job\"}" 1; done
ok "3.5 loses a histogram whose native buckets it does not want" is "$port" 'both_seconds_count{job="with"}' none
ok ".native_histograms = false: it has the classic ones" within 20 is "$port" 'both_seconds_bucket{job="without",le="2.0"}' 3
finish
