# What the scripts of this folder share. It is sourced, not run.
#
#   debs  [SUITE/]PACKAGE=VERSION...  unpacks Debian packages into $lab/root, without installing them
#   needs SUITE PACKAGE=VERSION...    the same with all that the packages depend on, from Debian SUITE (the newest there); sets $own,
#                                     which runs a program of them with its own C library: $own PROGRAM [ARGUMENT...]
#   gcc12, clang19                    unpack these compilers; $gcc and $clang run them (the C library's headers are the system's)
#   gcc16                             the same for g++ 16.2.0 of Debian sid with its own C library; $gcc16 runs it, $own what it made
#   npm_get NAME@VERSION...           installs npm packages into $lab/node_modules
#   serve FILE CONTENT-TYPE [MORE]    serves FILE on a free port of 127.0.0.1; sets $port. MORE: a header line, or "chunked"
#   prometheus PROGRAM [FLAG...]      starts a Prometheus that scrapes 127.0.0.1:$port each second (job "j"), with the lines $more in its file; sets $prom
#   victoria_metrics                  starts VictoriaMetrics 1.79.5, which scrapes 127.0.0.1:$port each second (job "j"); sets $prom
#   influxdb                          starts InfluxDB 1.6.7 with an empty database "d" at $influx; $remote/write and $remote/read take Prometheus
#   collectd                          starts collectd 5.12.0 with write_prometheus on a free $port, metric: load
#   haproxy BACKEND-LINE...           starts haproxy 2.6.12 with its exporter at /metrics of a free $port, and these lines of a backend
#   poco FILE.cpp [ARGUMENT...]       builds FILE with g++ 12 and Poco 1.14.2's Prometheus library (of Debian sid), and runs it
#   ask QUERY                         prints the instant vector of $prom as sorted lines "{labels} value"
#   free_port                         prints a free port
#   wait_for COMMAND...               waits until COMMAND succeeds, at most 30 s
#   expect NAME WANTED GOT            compares; prints both; remembers a difference
#
# All is in a temporary folder, which is removed at the end with every process that was started in the background.
set -eu
lab=$(mktemp -d) changed=0
trap 'pkill -P $$ || :; rm -rf "$lab" 2> /dev/null || { sleep 2; rm -rf "$lab"; }' EXIT
trap 'exit 1' INT TERM

debs() {
    mkdir -p "$lab/root" "$lab/debs"
    for want in "$@"; do
        case $want in
            */*) other_suite "${want%%/*}"; want=${want#*/} ;;
            *) options= ;;
        esac
        # shellcheck disable=SC2086
        (cd "$lab/debs" && apt-get -qq -o APT::Sandbox::User="$(id -un)" $options download "$want") ||
            { echo "cannot get $want: run 'apt-get update', or the version is gone" >&2; exit 2; }
    done
    for deb in "$lab"/debs/*.deb; do dpkg -x "$deb" "$lab/root"; done
}

# The system's own sources of the main archive with another suite, in a folder of their own.
other_suite() {
    at=$lab/apt/$1
    options="-o Dir::Etc::sourcelist=$at/one.sources -o Dir::Etc::sourceparts=/dev/null -o Dir::State=$at -o Dir::State::status=/dev/null -o Dir::Cache=$at -o Acquire::Languages=none"
    [ -d "$at" ] && return
    mkdir -p "$at/lists/partial" "$at/archives/partial"
    uri=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2> /dev/null | grep -v security | head -n 1)
    [ -n "$uri" ] || uri=$(awk '$1 == "deb" && $0 !~ /security/ { for (i = 2; i <= NF; ++i) if ($i ~ /^http/) { print $i; exit } }' /etc/apt/sources.list)
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$uri" "$1" > "$at/one.sources"
    # shellcheck disable=SC2086
    apt-get -qq -o APT::Sandbox::User="$(id -un)" $options update || { echo "no index of Debian $1" >&2; exit 2; }
}

needs() {
    other_suite "$1"; shift
    mkdir -p "$lab/root"
    # shellcheck disable=SC2086
    apt-get -qq -y --no-install-recommends --download-only -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 $options install "$@" > "$lab/apt.log" 2>&1 ||
        { cat "$lab/apt.log" >&2; echo "cannot get $*: the version is gone, or what it needs" >&2; exit 2; }
    for deb in "$at"/archives/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$lab/root"; done
    at=$lab/root/usr/lib/x86_64-linux-gnu
    folders=$(find "$at" "$lab/root/lib/x86_64-linux-gnu" -maxdepth 1 -type d 2> /dev/null | paste -sd:)
    own="$(find "$lab/root" -name ld-linux-x86-64.so.2 | head -n 1) --library-path $folders"
}

gcc12() {
    v=12.2.0-14+deb12u1
    debs g++-12=$v gcc-12=$v cpp-12=$v libgcc-12-dev=$v libstdc++-12-dev=$v
    gcc=$lab/root/usr/bin/g++-12
}
clang19() {
    v=1:19.1.7-3~deb12u1
    debs clang-19=$v libclang-cpp19=$v libllvm19=$v libclang-common-19-dev=$v libstdc++-12-dev=12.2.0-14+deb12u1 libgcc-12-dev=12.2.0-14+deb12u1
    LD_LIBRARY_PATH=$(dirname "$(find "$lab/root" -name 'libclang-cpp.so*19*' | head -n 1)"):$(dirname "$(find "$lab/root" -name 'libLLVM*19*' | head -n 1)")
    export LD_LIBRARY_PATH
    clang=$lab/root/usr/lib/llvm-19/bin/clang++
}
gcc16() {
    all=$lab lab=$lab/16
    mkdir -p "$lab/tools"
    needs sid g++-16=16.2.0-4 libc6-dev
    ln -sfn usr/lib "$lab/root/lib"; ln -sfn usr/lib64 "$lab/root/lib64"
    ln -s "$lab/root/usr/bin/x86_64-linux-gnu-as" "$lab/tools/as"
    printf '#!/bin/sh\nexec %s %s "$@"\n' "$own" "$lab/root/usr/bin/x86_64-linux-gnu-ld" > "$lab/tools/ld"
    chmod +x "$lab/tools/ld"
    gcc16="$own $lab/root/usr/bin/g++-16 -wrapper $(echo "$own" | tr ' ' ,) -B$lab/tools --sysroot=$lab/root"
    lab=$all
}

npm_get() { npm install --prefix "$lab" --silent --no-audit --no-fund "$@" > /dev/null || { echo "cannot get $*" >&2; exit 2; }; }

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

serve() {
    rm -f "$lab/port"
    python3 - "$1" "$2" "$lab/port" "${3:-}" <<'PY' > /dev/null 2>&1 &
import http.server, os, sys
page, kind, where, more = sys.argv[1:]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = open(page, "rb").read()
        with open(page + ".requests", "a") as log: log.write(str(self.headers))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if ": " in more: self.send_header(*more.split(": "))
        if more == "chunked":
            self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
            step = int(os.environ.get("CHUNK", "16384"))
            for i in range(0, len(body), step):
                part = body[i:i + step]
                self.wfile.write(b"%x\r\n" % len(part) + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
open(where + ".new", "w").write(str(server.server_address[1])); os.rename(where + ".new", where)
server.serve_forever()
PY
    wait_for test -s "$lab/port"
    port=$(cat "$lab/port")
}

prometheus() {
    program=$1; shift
    prom=$(free_port)
    printf 'global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs: [{job_name: j, static_configs: [{targets: ["127.0.0.1:%s"]}]%s}]\n%s\n' "$port" "${scrape:-}" "${more:-}" > "$lab/prom.yml"
    "$program" --config.file="$lab/prom.yml" --storage.tsdb.path="$lab/tsdb.$prom" --web.listen-address="127.0.0.1:$prom" "$@" > "$lab/prom.log" 2>&1 & prometheus=$!
    wait_for curl -sf "http://127.0.0.1:$prom/-/ready"
}

victoria_metrics() {
    debs victoria-metrics=1.79.5+ds1-2+b5
    prom=$(free_port)
    printf 'scrape_configs: [{job_name: j, scrape_interval: 1s, static_configs: [{targets: ["127.0.0.1:%s"]}]}]\n' "$port" > "$lab/vm.yml"
    "$lab/root/usr/bin/victoria-metrics" -promscrape.config="$lab/vm.yml" -storageDataPath="$lab/vm.$prom" -search.latencyOffset=0s \
        -httpListenAddr="127.0.0.1:$prom" > "$lab/vm.log" 2>&1 &
    wait_for curl -sf "http://127.0.0.1:$prom/health"
}

influxdb() {
    debs influxdb=1.6.7~rc0-1+b13
    port=$(free_port)
    cat > "$lab/influx.conf" <<CONF
bind-address = "127.0.0.1:$(free_port)"
reporting-disabled = true
[meta]
  dir = "$lab/influx/meta"
[data]
  dir = "$lab/influx/data"
  wal-dir = "$lab/influx/wal"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:$port"
CONF
    "$lab/root/usr/bin/influxd" -config "$lab/influx.conf" > "$lab/influx.log" 2>&1 &
    wait_for curl -sf "http://127.0.0.1:$port/ping"
    curl -s -o "$lab/out" --data-urlencode 'q=CREATE DATABASE d' "http://127.0.0.1:$port/query"
    influx=http://127.0.0.1:$port remote=http://127.0.0.1:$port/api/v1/prom
}

collectd() {
    debs collectd-core=5.12.0-14 libmicrohttpd12=0.9.75-6 libprotobuf-c1=1.4.1-1+b1
    port=$(free_port)
    cat > "$lab/collectd.conf" <<CONF
Hostname "h"
BaseDir "$lab"
PIDFile "$lab/pid"
PluginDir "$lab/root/usr/lib/collectd"
TypesDB "$lab/root/usr/share/collectd/types.db"
Interval 1
LoadPlugin load
LoadPlugin write_prometheus
<Plugin write_prometheus>
  Port "$port"
</Plugin>
CONF
    LD_LIBRARY_PATH=$lab/root/usr/lib/x86_64-linux-gnu "$lab/root/usr/sbin/collectd" -f -C "$lab/collectd.conf" > "$lab/log" 2>&1 &
    wait_for curl -s "http://127.0.0.1:$port/metrics"
}

haproxy() {
    debs haproxy=2.6.12-1+deb12u4 libopentracing-c-wrapper0=1.1.3-3+b1 libopentracing1=1.6.0-4 liblua5.3-0=5.3.6-2
    port=$(free_port)
    cat > "$lab/haproxy.cfg" <<CONF
defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 1s
frontend f
  bind 127.0.0.1:$port
  http-request use-service prometheus-exporter if { path /metrics }
backend b
CONF
    printf '  %s\n' "$@" >> "$lab/haproxy.cfg"
    LD_LIBRARY_PATH=$lab/root/usr/lib/x86_64-linux-gnu "$lab/root/usr/sbin/haproxy" -db -f "$lab/haproxy.cfg" > "$lab/log" 2>&1 &
    wait_for curl -sf "http://127.0.0.1:$port/metrics"
}

poco() {
    poco=1.14.2-6
    if [ -z "${gcc:-}" ]; then
        gcc12
        debs sid/libpoco-dev=$poco sid/libpocoprometheus112=$poco sid/libpoconet112=$poco sid/libpocofoundation112=$poco sid/libutf8proc3=2.11.3-2 \
            sid/libc6=2.43-7 sid/libstdc++6=16.2.0-4 sid/libgcc-s1=16.2.0-4 sid/zlib1g=1:1.3.dfsg+really1.3.2-4 sid/libpcre2-8-0=10.49-1
    fi
    libraries=$lab/root/usr/lib/x86_64-linux-gnu program=$1; shift
    [ -x "$program.x" ] || "$gcc" -std=c++20 -Wall -Wextra -Wconversion -Werror -isystem "$lab/root/usr/include" "$program" -o "$program.x" -L"$libraries" \
        -lPocoPrometheus -lPocoNet -lPocoFoundation -Wl,--allow-shlib-undefined
    "$lab/root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" "$program.x" "$@"
}

ask() {
    curl -s --data-urlencode "query=$1" "http://127.0.0.1:$prom/api/v1/query" | python3 -c '
import json, sys
for line in sorted("{%s} %s" % (", ".join("%s=\"%s\"" % p for p in sorted(r["metric"].items()) if p[0] not in ("instance", "job")), r["value"][1])
                   for r in json.load(sys.stdin)["data"]["result"]): print(line)'
}

wait_for() {
    for _ in $(seq 300); do "$@" > /dev/null 2>&1 && return; sleep 0.1; done
    echo "gave up waiting for: $*" >&2; exit 2
}

expect() {
    if [ "$2" = "$3" ]; then printf 'as found: %s: %s\n' "$1" "$3"
    else changed=1; printf 'CHANGED: %s\n  found: %s\n  now:   %s\n' "$1" "$2" "$3"; fi
}

finish() { [ "$changed" = 0 ] && echo "unchanged" || { echo "changed"; exit 1; }; }
