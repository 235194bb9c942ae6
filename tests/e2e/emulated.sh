#!/bin/sh
# The exporter on other machines: 32-bit ARM, MIPS with its big end first, RISC-V and 64-bit ARM, each static, for flash and
# without exceptions, under qemu-user; a real Prometheus scrapes them, over protobuf and as text.
. "$(dirname "$0")/lib.sh"

lean="-std=c++20 -Os -fno-exceptions -fno-rtti -Wno-psabi"
targets=
for machine in arm-linux-gnueabihf=arm mips-linux-gnu=mips riscv64-linux-gnu=riscv64 aarch64-linux-gnu=aarch64; do
    gcc=${machine%=*}-g++ qemu=qemu-${machine#*=}
    if ! command -v "$gcc" > /dev/null || ! command -v "$qemu" > /dev/null; then skip "${machine#*=}" "$gcc, $qemu"; continue; fi
    ok "the quickstart is built for ${machine#*=}" "$gcc" $lean examples/01_quickstart.cpp -o "$tmp/$qemu" -static -pthread
    port=$(free_port)
    start "$qemu" "$qemu" "$tmp/$qemu" "$port"
    ok "it serves" within 20 answers "http://127.0.0.1:$port/metrics"
    targets="$targets${targets:+, }{targets: ['127.0.0.1:$port'], labels: {machine: ${machine#*=}}}"
done

server=$(free_port)
cat > "$tmp/prometheus.yml" <<EOC
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - {job_name: protobuf, scrape_protocols: [PrometheusProto], static_configs: [$targets]}
  - {job_name: openmetrics, scrape_protocols: [OpenMetricsText1.0.0], static_configs: [$targets]}
EOC
start prometheus "$LAB/bin/prometheus-3" --config.file="$tmp/prometheus.yml" --storage.tsdb.path="$tmp/data" \
    --web.listen-address="127.0.0.1:$server" --log.level=warn
wanted=$(echo "$targets" | awk '{ print 2 * gsub(/machine:/, "") }')
is() { # expression that is to hold for each machine and each job
    [ "$(curl -fsS -m 5 -G "http://127.0.0.1:$server/api/v1/query" --data-urlencode "query=count($1)" |
        python3 -c 'import json, sys; r = json.load(sys.stdin)["data"]["result"]; print(r[0]["value"][1] if r else 0)' 2> /dev/null)" = "$wanted" ]
}
ok "each is up, over protobuf and as text" within 30 is 'up == 1'
ok "their counters grow" within 30 is 'rate(http_requests_total[10s]) > 0'
ok "histograms agree with their counters" within 30 is 'req_time_seconds_bucket{le=~"[+]Inf"} == on(job, machine) req_time_seconds_count > 5'
ok "some 100 ms were measured" is 'req_time_seconds_sum / req_time_seconds_count < 10 and req_time_seconds_sum / req_time_seconds_count > 0.099'
ok "what the emulator does not know of the process is left out" is 'up unless on(job, machine) {__name__=~"process_(threads|resident_memory_bytes|virtual_memory_bytes|start_time_seconds)"}'
ok "its processor time is there, from getrusage" is 'process_cpu_seconds_total > 0'
finish
