#!/bin/sh
# collectd 5.12.0 (Debian collectd-core 5.12.0-14), plugin write_prometheus.
# One would guess that HEAD, which health checks send, gets the head of the page, and that another method gets 405.
# Every method but GET gets no answer: the connection is closed. Every path is the page.
. "$(dirname "$0")/lib.sh"
collectd
got() { curl -s -o /dev/null -w '%{http_code}' "$@" || echo " curl $?"; }
expect "GET /metrics" 200 "$(got "http://127.0.0.1:$port/metrics")"
expect "GET /no/such/path" 200 "$(got "http://127.0.0.1:$port/no/such/path")"
expect "HEAD /metrics" "000 curl 52" "$(got --head "http://127.0.0.1:$port/metrics")"
expect "OPTIONS /metrics" "000 curl 52" "$(got -X OPTIONS "http://127.0.0.1:$port/metrics")"
finish
