#!/bin/sh
# Examples that serve in ways of their own, asked by curl: a page in another HTTP server, registries on paths, a unix
# socket, systemd's socket activation, and a prefork server.
. "$(dirname "$0")/lib.sh"
page() { curl -sS -m 5 "$@"; }
shows() { # pattern curl-arguments...
    pattern=$1; shift
    page "$@" > "$tmp/page"; status=$?
    grep -qxe "$pattern" "$tmp/page" || { cat "$tmp/page"; return 1; }
    return $status
}
first() { grep -o "http://127[^ ]*" "$tmp/$1.log" | sed -n "${2:-1}p"; }
ends() { kill -TERM "$1" && wait "$1"; }

start page "$B/examples/19_your_own_http_server" 0
own=$pid
ok "a page in one's own server" within 20 sh -c "grep -q http '$tmp/page.log'"
url=$(first page)
ok "it has the metrics" shows 'requests_total [1-9]' "$url"
ok "it is negotiated" shows '# EOF' -H 'Accept: application/openmetrics-text;version=1.0.0' "$url"
ok "its type says so" sh -c "curl -sSi -m 5 -H 'Accept: application/openmetrics-text;version=1.0.0' '$url' | grep -qi '^content-type: application/openmetrics-text; version=1.0.0'"
ok "another path is not there" sh -c "[ \"\$(curl -sS -m 5 -o /dev/null -w '%{http_code}' '${url%metrics}')\" = 404 ]"
ok "it ends with 0" ends $own

start paths "$B/examples/20_registries_and_paths" 0
paths=$pid
ok "several registries on several paths" within 20 sh -c "grep -q http '$tmp/paths.log'"
url=$(first paths); url=${url%metrics}
ok "/tenants has one" shows 'orders_total{tenant="one"} 3' "${url}tenants"
ok "/tenants has two" shows 'orders_total{tenant="two"} 4' "${url}tenants"
ok "/tenants has no more" sh -c "[ \$(wc -l < '$tmp/page') = 4 ]"
ok "/metrics has the process" shows 'process_start_time_seconds [0-9.e+]*' "${url}metrics"
ok "/metrics has how it was built" shows 'prometheus_async_build_info{.*} 1' "${url}metrics"
ok "/metrics has no tenants" sh -c "! grep -q orders '$tmp/page'"
ok "/metrics has the server's own" shows 'prometheus_async_http_requests_total{.*} [0-9]*' "${url}metrics"
ok "/all has both" shows 'orders_total{tenant="two"} 4' "${url}all"
ok "/all has the process too" grep -q '^process_cpu_seconds_total ' "$tmp/page"
ok "a text" shows '1.2.3' "${url}version"
ok "the header with the start time" sh -c "curl -sSi -m 5 '${url}metrics' | grep -qi '^process-start-time-unix: [0-9]'"
ok "it ends with 0" ends $paths

start unix "$B/examples/21_socket_activation" "$tmp/metrics.sock"
unix=$pid
ok "a unix socket" within 20 shows 'starts_total 1' --unix-socket "$tmp/metrics.sock" http://x/metrics
ok "it ends with 0" ends $unix
port=$(free_port)
cat > "$tmp/activate.py" <<'PY'
import os, socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))  # what systemd does: the socket is descriptor 3
if s.fileno() != 3: os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
PY
start handed python3 "$tmp/activate.py" "$port" "$B/examples/21_socket_activation"
handed=$pid
ok "a socket that was handed in" within 20 shows 'starts_total 1' "http://127.0.0.1:$port/metrics"
ok "it ends with 0" ends $handed
if command -v systemd-socket-activate > /dev/null; then
    port=$(free_port)
    start activated systemd-socket-activate -l "127.0.0.1:$port" "$B/examples/21_socket_activation"
    activated=$pid
    ok "systemd-socket-activate starts it with the first request" within 20 shows 'starts_total 1' "http://127.0.0.1:$port/metrics"
    ok "it ends with 0" ends $activated
fi
if command -v systemd-analyze > /dev/null; then
    cp examples/deploy/hello.service examples/deploy/hello.socket "$tmp/"
    sed -i "s,/usr/local/bin/hello,$(readlink -f "$B/examples/21_socket_activation")," "$tmp/hello.service"
    ok "systemd has nothing against the units" sh -c "systemd-analyze verify --man=no '$tmp/hello.service' '$tmp/hello.socket' > '$tmp/verify' 2>&1; ! grep -e '/hello\\.' '$tmp/verify'"
fi

start prefork "$B/examples/22_prefork" 0
prefork=$pid
ok "three processes serve" within 20 sh -c "[ \$(grep -c http '$tmp/prefork.log') = 3 ]"
at() { grep "^$1" "$tmp/prefork.log" | grep -o 'http://[^ ]*'; }
ok "the parent counted its configuration" shows 'config_reads_total 1' "$(at parent)metrics"
ok "the parent has no jobs" sh -c "! grep -q '^jobs_total' '$tmp/page'"
ok "worker 1 has its own" shows 'jobs_total{worker="1"} 10' "$(at 'worker 1')metrics"
ok "worker 2 has its own" shows 'jobs_total{worker="2"} 20' "$(at 'worker 2')metrics"
ok "worker 2 has what was counted before the fork" grep -qx 'config_reads_total 1' "$tmp/page"
ok "all end with 0" ends $prefork
finish
