#!/bin/sh
# nginx 1.22.1 (Debian nginx 1.22.1-9+deb12u11) with proxy_cache, which keeps an answer for each variant that `Vary` names, before
# prometheus_client 0.16.0 (Debian python3-prometheus-client 0.16.0-0.1), which chooses format and gzip by the request.
# One would guess that the library names what it chose by. It sends no Vary: who asks first decides for all what they get,
# OpenMetrics for a client that takes text only, gzip for one that did not offer it. (Go's client library sends none either.)
. "$(dirname "$0")/lib.sh"
debs nginx=1.22.1-9+deb12u11 python3-prometheus-client=0.16.0-0.1
back=$(free_port) front=$(free_port)
PYTHONPATH=$lab/root/usr/lib/python3/dist-packages python3 -c '
import prometheus_client, sys, time
prometheus_client.start_http_server(int(sys.argv[1]), "127.0.0.1"); time.sleep(100)' "$back" &
cat > "$lab/nginx.conf" <<CONF
daemon off; master_process off; pid $lab/pid; error_log $lab/log;
events {}
http {
    access_log off; client_body_temp_path $lab/a; fastcgi_temp_path $lab/a; scgi_temp_path $lab/a; uwsgi_temp_path $lab/a; proxy_temp_path $lab/b;
    proxy_cache_path $lab/cache keys_zone=z:1m;
    server {
        listen 127.0.0.1:$front;
        location / { proxy_pass http://127.0.0.1:$back; proxy_cache z; proxy_cache_valid 200 1m; }
    }
}
CONF
wait_for curl -sf "http://127.0.0.1:$back/metrics"
"$lab/root/usr/sbin/nginx" -c "$lab/nginx.conf" -e "$lab/log" &
wait_for curl -s "http://127.0.0.1:$front/no"
head_of() { curl -s -o /dev/null -D - "$@" | tr -d '\r' > "$lab/head"; sed -n 's/^\(content-type\|content-encoding\|vary\): \([^;]*\).*/\2/ip' "$lab/head" | sort | paste -sd' '; }
text='Accept: text/plain' open='Accept: application/openmetrics-text'
expect "directly, text" text/plain "$(head_of -H "$text" "http://127.0.0.1:$back/1")"
expect "directly, OpenMetrics in gzip" "application/openmetrics-text gzip" "$(head_of -H "$open" -H 'Accept-Encoding: gzip' "http://127.0.0.1:$back/1")"
expect "through the cache, OpenMetrics in gzip" "application/openmetrics-text gzip" "$(head_of -H "$open" -H 'Accept-Encoding: gzip' "http://127.0.0.1:$front/1")"
expect "through the cache, then text" "application/openmetrics-text gzip" "$(head_of -H "$text" "http://127.0.0.1:$front/1")"
finish
