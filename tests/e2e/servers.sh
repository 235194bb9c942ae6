#!/bin/sh
# What real Prometheus servers do with valid pages: the README's table "What servers do with a page". The pages are files
# that a small server of Python's gives, so that nothing here is about this library.
. "$(dirname "$0")/lib.sh"
mkdir "$tmp/pages"
cat > "$tmp/serve.py" <<'PY'
import http.server, os, sys
class handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = os.path.join(sys.argv[1], os.path.basename(self.path))
        body = open(path, "rb").read()
        openmetrics = body.endswith(b"# EOF\n")
        self.send_response(200)
        self.send_header("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8" if openmetrics else "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print(server.server_address[1], flush=True)
server.serve_forever()
PY
page() { cat > "$tmp/pages/new" && mv "$tmp/pages/new" "$tmp/pages/$1"; }
now=$(python3 -c 'import time; print(int(time.time() * 1000))')
page times <<E2
plain 1
timed 2 $now
E2
cp "$tmp/pages/times" "$tmp/pages/tracked"
page twice <<E2
twice 1
twice 2
E2
long=$(printf 'x%.0s' $(seq 100))
page long <<E2
short{l="x"} 1
long{l="$long"} 1
E2
page bounds <<E2
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 1
h_sum 1
h_count 1
E2
c=$((now / 1000 - 1))
fits=$(printf 'x%.0s' $(seq 120)) over=$(printf 'x%.0s' $(seq 121))  # beside the 8 of trace_id
page exemplars <<E2
# TYPE fits counter
fits_total 1 # {trace_id="$fits"} 1 $c.5
fits_created $c
# TYPE over counter
over_total 1 # {trace_id="$over"} 1 $c.5
# EOF
E2
start serve python3 "$tmp/serve.py" "$tmp/pages"
within 20 grep -q . "$tmp/serve.log"
target=127.0.0.1:$(cat "$tmp/serve.log")

jobs() { # name [more settings]
    echo "  - {job_name: $1, metrics_path: /$1, static_configs: [{targets: [\"$target\"]}]${2:+, $2}}"
}
query() { curl -sS -m 5 -G "http://127.0.0.1:$port/api/v1/query" --data-urlencode "query=$1" |
    python3 -c 'import json, sys; print(" ".join(r["value"][1] for r in json.load(sys.stdin)["data"]["result"]) or "none")'; }
is() { got=$(query "$1"); [ "$got" = "$2" ] || { echo "$1 is $got, not $2"; return 1; }; }
exemplars() { curl -sS -m 5 -G "http://127.0.0.1:$port/api/v1/query_exemplars" --data-urlencode "query=$1" \
    --data-urlencode "start=$((c - 60))" --data-urlencode "end=$((c + 600))" | grep -o trace_id | wc -l; }
has_exemplars() { [ "$(exemplars "$1")" = "$2" ]; }

for prometheus in prometheus-2.42 prometheus-3; do
    case $prometheus in *-3) three=yes features=exemplar-storage,created-timestamp-zero-ingestion ;; *) three= features=exemplar-storage ;; esac
    cp "$tmp/pages/tracked" "$tmp/pages/times"
    port=$(free_port)
    { echo 'global: {scrape_interval: 1s, scrape_timeout: 1s}'; echo 'scrape_configs:'
      jobs times; jobs twice; jobs long 'label_value_length_limit: 50'; jobs bounds; jobs exemplars
      [ -z "$three" ] || jobs tracked 'track_timestamps_staleness: true'; } > "$tmp/$prometheus.yml"
    start "$prometheus" "$LAB/bin/$prometheus" --config.file="$tmp/$prometheus.yml" --storage.tsdb.path="$tmp/data-$prometheus" \
        --web.listen-address="127.0.0.1:$port" --log.level=warn --enable-feature=$features
    ok "$prometheus scrapes" within 60 is 'sum(up{job!="long"})' "${three:+5}$([ -n "$three" ] || echo 4)"
    ok "$prometheus: of a series twice, the first is stored" is 'twice' 1
    ok "$prometheus: one label over the limit loses the scrape" within 20 is 'up{job="long"}' 0
    ok "$prometheus: with the series that was fine" is 'short' none
    ok "$prometheus: an exemplar of 128 characters is stored" within 20 has_exemplars fits_total 1
    ok "$prometheus: one of 129 is not" has_exemplars over_total 0
    ok "$prometheus: its sample is" is 'over_total' 1
    if [ -n "$three" ]; then
        ok "$prometheus: le=\"1\" is stored as 1.0" is 'h_bucket{le="1.0"}' 1
        ok "$prometheus: and under no other name" is 'h_bucket{le="1"}' none
        ok "$prometheus: no _created with the flag" is 'fits_created' none
    else
        ok "$prometheus: le=\"1\" is stored as it was sent" is 'h_bucket{le="1"}' 1
        ok "$prometheus: _created is a series" is 'fits_created' "$c"
    fi
    ok "$prometheus: both are there" is 'count({job="times", __name__=~"plain|timed"})' 2
    echo 'other 1' | page times
    [ -z "$three" ] || { cp "$tmp/pages/tracked" "$tmp/kept"; echo 'other 1' | page tracked; }
    ok "$prometheus: without a timestamp, a series ends with the next scrape" within 20 is 'plain{job="times"}' none
    ok "$prometheus: with one, it is still answered" is 'timed{job="times"}' 2
    [ -z "$three" ] || ok "$prometheus: with track_timestamps_staleness it ends" within 20 is 'timed{job="tracked"}' none
done
finish
