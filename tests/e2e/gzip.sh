#!/bin/sh
# Compressed pages, as curl, nginx, real Prometheus servers and VictoriaMetrics read them.
. "$(dirname "$0")/lib.sh"

[ -x "$B/e2e/gzip_server" ] || { echo "FAILED  $B/e2e/gzip_server is not built"; exit 1; }
app=$(free_port)
start app "$B/e2e/gzip_server" "$app"
url=http://127.0.0.1:$app
ok "the server serves" within 20 answers "$url/small"

# ---- curl ----
fetch() { curl -sS -m 20 -D "$tmp/head" -o "$tmp/body" "$@"; }  # exit status as curl's
field() { tr -d '\r' < "$tmp/head" | sed -n "s/^$1: //ip"; }
gzipped() { fetch -H "Accept-Encoding: $1" "$2" && [ "$(field Content-Encoding)" = gzip ] && gzip -dc < "$tmp/body" | cmp - "$tmp/plain"; }
plain() { fetch -H "Accept-Encoding: $1" "$2" && [ -z "$(field Content-Encoding)" ] && cmp "$tmp/body" "$tmp/plain"; }
for page in metrics long; do
    curl -sS -m 20 -o "$tmp/plain" "$url/$page"
    for wish in gzip 'gzip, deflate, br' 'identity;q=0.5, gzip' 'GZIP;q=0.3, *;q=0' 'gzip, identity;q=0'; do
        ok "/$page compressed for '$wish' is what it is without" gzipped "$wish" "$url/$page"
    done
    for wish in '' identity 'gzip;q=0' 'gzip;q=0, *' '*' 'identity;q=0' 'deflate, br' 'identity, gzip;q=0.1'; do
        ok "/$page is as it is for '$wish'" plain "$wish" "$url/$page"
    done
    ok "curl --compressed reads /$page" sh -c "curl -sS -m 20 --compressed $url/$page | cmp - '$tmp/plain'"
    smaller() { fetch -H 'Accept-Encoding: gzip' "$url/$page" && [ "$(wc -c < "$tmp/body")" -lt "$(gzip -1 < "$tmp/plain" | wc -c)" ]; }
    ok "/$page is shorter than what gzip -1 makes of it" smaller
    varies() { fetch "$@" "$url/$page" && [ "$(field Vary)" = "Accept, Accept-Encoding" ]; }
    ok "/$page says what it depends on, compressed" varies -H 'Accept-Encoding: gzip'
    ok "/$page says what it depends on, as it is" varies
done
curl -sS -o "$tmp/plain" "$url/small"
ok "a small page is not compressed" plain gzip "$url/small"
ok "a small page is, where nothing else will do" gzipped 'gzip, identity;q=0' "$url/small"
has_length() { fetch -H 'Accept-Encoding: gzip, identity;q=0' "$url/small" && [ "$(field Content-Length)" = "$(($(wc -c < "$tmp/body")))" ]; }
ok "a compressed page that fits the first buffer has its length" has_length
is_chunked() { fetch -H 'Accept-Encoding: gzip' "$url/long" && [ "$(field Transfer-Encoding)" = chunked ] && [ -z "$(field Content-Length)" ]; }
ok "a longer one is chunked" is_chunked
head_of() { curl -sS -m 20 -I "$@" "$url/metrics" | grep -iq "^Content-Encoding: gzip"; }
ok "HEAD tells of gzip" head_of -H 'Accept-Encoding: gzip'
ok "HEAD without the field does not" sh -c "! curl -sS -m 20 -I $url/metrics | grep -i ^Content-Encoding"

# ---- a page that failed never looks whole ----
says_500() { fetch "$@" && head -1 "$tmp/head" | grep -q ' 500 ' && [ -z "$(field Content-Encoding)" ]; }
ok "a collector that fails in the first buffer is an answer 500" says_500 --compressed "$url/failing"
breaks_off() { fetch "$@"; case $? in 18|56) ! gzip -t < "$tmp/body" ;; *) return 1 ;; esac; }
ok "one that fails later breaks the connection off, and what came is no whole gzip" breaks_off -H 'Accept-Encoding: gzip' "$url/failing-late"
ok "also over HTTP/1.0, where the end of the connection ends a page" breaks_off -0 -H 'Accept-Encoding: gzip' "$url/failing-late"

# ---- over TLS ----
sh tests/support/make_certs.sh "$tmp/certs" || exit 1
tls=$(free_port)
start tls "$B/e2e/gzip_server" "$tls" "$tmp/certs/server.pem" "$tmp/certs/server.key"
ca="--cacert $tmp/certs/ca.pem"
ok "the server serves over TLS" within 20 answers $ca "https://localhost:$tls/small"
curl -sS -m 20 -o "$tmp/plain" "$url/long"
ok "curl --compressed reads the long page over TLS" sh -c "curl -sS -m 20 $ca --compressed https://localhost:$tls/long | cmp - '$tmp/plain'"
ok "a page that failed never looks whole over TLS" breaks_off $ca -H 'Accept-Encoding: gzip' "https://localhost:$tls/failing-late"

# ---- nginx: passed on, inflated for a client without gzip, kept by what Vary says ----
front=$(free_port)
mkdir "$tmp/nginx"
cat > "$tmp/nginx.conf" <<CONF
daemon off; master_process off; pid $tmp/nginx/pid; error_log $tmp/nginx/log;
events {}
http {
    access_log off; client_body_temp_path $tmp/nginx/b; proxy_temp_path $tmp/nginx/p; fastcgi_temp_path $tmp/nginx/f;
    uwsgi_temp_path $tmp/nginx/u; scgi_temp_path $tmp/nginx/s; proxy_cache_path $tmp/nginx/cache keys_zone=kept:1m; proxy_http_version 1.1;
    server {
        listen 127.0.0.1:$front;
        location / { proxy_pass $url; proxy_set_header Connection ""; }
        location /inflated/ { proxy_pass $url/; gunzip on; proxy_set_header Accept-Encoding gzip; }
        location /kept/ { proxy_pass $url/; proxy_cache kept; proxy_ignore_headers Cache-Control; proxy_cache_valid 1h; add_header Kept \$upstream_cache_status; }
    }
}
CONF
start nginx "$LAB/bin/nginx" -c "$tmp/nginx.conf" -e "$tmp/nginx/log"
ok "nginx answers" within 20 answers "http://127.0.0.1:$front/small"
for page in metrics long; do
    curl -sS -m 20 -o "$tmp/plain" "$url/$page"
    ok "nginx passes /$page on compressed" gzipped gzip "http://127.0.0.1:$front/$page"
    ok "nginx passes /$page on as it is" plain '' "http://127.0.0.1:$front/$page"
    ok "nginx inflates /$page" plain '' "http://127.0.0.1:$front/inflated/$page"
    for round in MISS HIT; do
        kept() { "$@" && [ "$(field Kept)" = $round ]; }
        ok "nginx keeps /$page compressed: $round" kept gzipped gzip "http://127.0.0.1:$front/kept/$page"
        ok "nginx keeps /$page as it is, too: $round" kept plain '' "http://127.0.0.1:$front/kept/$page"
    done
done
ok "through nginx a page that failed never looks whole" breaks_off -H 'Accept-Encoding: gzip' "http://127.0.0.1:$front/failing-late"

# ---- scrapers: each value of 10,000, compressed on the way ----
cat > "$tmp/exact.py" <<'PY'
import json, sys, urllib.parse, urllib.request
port, scheme, series = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
query = urllib.parse.quote('items_total{job="%s"}' % scheme)
found = json.load(urllib.request.urlopen("http://127.0.0.1:%d/api/v1/query?query=%s" % (port, query), timeout=20))["data"]["result"]
values = {int(s["metric"]["item"]): float(s["value"][1]) for s in found}
assert len(found) == len(values) == series, len(found)
assert all(values[i] == i * 7919 % 1000003 for i in range(series))
PY
cat > "$tmp/scrape.yml" <<YML
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- {job_name: http, static_configs: [{targets: ["127.0.0.1:$app"]}]}
- {job_name: https, scheme: https, tls_config: {ca_file: $tmp/certs/ca.pem, server_name: localhost}, static_configs: [{targets: ["127.0.0.1:$tls"]}]}
- {job_name: nginx, static_configs: [{targets: ["127.0.0.1:$front"]}]}
- {job_name: failing, metrics_path: /failing-late, static_configs: [{targets: ["127.0.0.1:$app"]}]}
YML
exact() { python3 "$tmp/exact.py" "$@"; }
down() { curl -sS -m 5 -G "http://127.0.0.1:$1/api/v1/query" --data-urlencode 'query=up{job="failing"}' | grep -q '"0"\]'; }
none() { curl -sS -m 5 -G "http://127.0.0.1:$1/api/v1/query" --data-urlencode 'query=items_total{job="failing"}' | grep -q '"result":\[\]'; }
for scraper in prometheus-2.24 prometheus-2.42 prometheus-3 victoria-metrics; do
    port=$(free_port)
    if [ $scraper = victoria-metrics ]; then
        start $scraper "$LAB/bin/$scraper" -promscrape.config="$tmp/scrape.yml" -storageDataPath="$tmp/$scraper" \
            -httpListenAddr="127.0.0.1:$port" -search.latencyOffset=0s -search.maxUniqueTimeseries=100000
    else
        start $scraper "$LAB/bin/$scraper" --config.file="$tmp/scrape.yml" --storage.tsdb.path="$tmp/$scraper" \
            --web.listen-address="127.0.0.1:$port" --log.level=warn
    fi
    for job in http https nginx; do
        ok "$scraper reads all 10,000 values, exactly: $job" within 60 exact "$port" $job 10000
    done
    ok "$scraper finds the page that fails down" within 30 down "$port"
    ok "$scraper takes nothing of it" none "$port"
    kill $pid
done
sent() { curl -sS -m 5 "$url/self" | awk '/^prometheus_async_http_response_bytes_total/ { octets = $2 } END { print octets }'; }
before=$(sent)
curl -sS -m 20 -o "$tmp/plain" --compressed "$url/metrics"
after=$(sent)
ok "the octets sent are those of compressed pages" [ $((after - before)) -lt $(($(wc -c < "$tmp/plain") / 5)) ]
finish
