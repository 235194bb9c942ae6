#!/bin/sh
# Poco 1.14.2 (Debian sid libpocoprometheus112 1.14.2-6), its MetricsServer, and Tor 0.4.9.15 (Debian sid tor 0.4.9.15-1), its
# MetricsPort. A scrape job with `params:` asks for /metrics?name=value. One would guess that a page without parameters ignores
# them, as RFC 9110 leaves the query to the resource and as the pages of client_golang, Python and node_exporter do.
# Both compare the whole target with "/metrics": with a query the answer is 404.
. "$(dirname "$0")/lib.sh"
cat > "$lab/page.cpp" <<'CPP'
#include <Poco/Prometheus/Gauge.h>
#include <Poco/Prometheus/MetricsServer.h>
#include <cstdint>
#include <iostream>
#include <string>
int main(int, char** argv) {
    Poco::Prometheus::Gauge gauge("g");
    Poco::Prometheus::MetricsServer server(static_cast<std::uint16_t>(std::stoi(argv[1])));
    server.start();
    std::string line;
    std::getline(std::cin, line);
    server.stop();
}
CPP
status() { curl -s -o "$lab/out" -w '%{http_code}' "http://127.0.0.1:$port/metrics$1"; }
port=$(free_port)
mkfifo "$lab/end"
poco "$lab/page.cpp" "$port" < /dev/null
poco "$lab/page.cpp" "$port" < "$lab/end" & exec 3> "$lab/end"
wait_for curl -sf "http://127.0.0.1:$port/metrics"
expect "Poco, without and with a query" "200 404" "$(status '') $(status '?x=1')"
exec 3>&-
needs sid tor=0.4.9.15-1
port=$(free_port)
mkdir -m 700 "$lab/tor"
# A bridge at a closed port of this machine: it connects to nothing outside.
printf 'DataDirectory %s\nSocksPort 0\nUseBridges 1\nBridge 127.0.0.1:9\nMetricsPort 127.0.0.1:%s\nMetricsPortPolicy accept 127.0.0.1\n' "$lab/tor" "$port" > "$lab/torrc"
$own "$lab/root/usr/bin/tor" -f "$lab/torrc" > "$lab/log" 2>&1 &
wait_for curl -sf "http://127.0.0.1:$port/metrics"
expect "Tor, without and with a query" "200 404" "$(status '') $(status '?x=1')"
finish
