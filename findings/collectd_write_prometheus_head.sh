#!/bin/sh
# collectd 5.12.0 (Debian collectd-core 5.12.0-14), plugin write_prometheus.
# One would guess that HEAD, which health checks send, gets the head of the page, and that another method gets 405.
# Every method but GET gets no answer: the connection is closed. Every path is the page.
. "$(dirname "$0")/lib.sh"
debs collectd-core=5.12.0-14 libmicrohttpd12=0.9.75-6 libprotobuf-c1=1.4.1-1+b1
LD_LIBRARY_PATH=$lab/root/usr/lib/x86_64-linux-gnu; export LD_LIBRARY_PATH
port=$(free_port)
cat > "$lab/collectd.conf" <<CONF
Hostname "h"
BaseDir "$lab"
PIDFile "$lab/pid"
PluginDir "$lab/root/usr/lib/collectd"
TypesDB "$lab/root/usr/share/collectd/types.db"
LoadPlugin write_prometheus
<Plugin write_prometheus>
  Port "$port"
</Plugin>
CONF
"$lab/root/usr/sbin/collectd" -f -C "$lab/collectd.conf" > "$lab/log" 2>&1 &
wait_for curl -s "http://127.0.0.1:$port/metrics"
got() { curl -s -o /dev/null -w '%{http_code}' "$@" || echo " curl $?"; }
expect "GET /metrics" 200 "$(got "http://127.0.0.1:$port/metrics")"
expect "GET /no/such/path" 200 "$(got "http://127.0.0.1:$port/no/such/path")"
expect "HEAD /metrics" "000 curl 52" "$(got --head "http://127.0.0.1:$port/metrics")"
expect "OPTIONS /metrics" "000 curl 52" "$(got -X OPTIONS "http://127.0.0.1:$port/metrics")"
finish
