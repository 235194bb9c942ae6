#!/bin/sh
# haproxy 2.6.12 (Debian 2.6.12-1+deb12u4), its built-in prometheus-exporter, parameter `scope`.
# One would guess that an empty `scope=`, as a template writes it, means no restriction, or is refused as an unknown scope is.
# It is status 200 with a page of no octet, which a scraper takes for a good scrape without samples.
. "$(dirname "$0")/lib.sh"
debs haproxy=2.6.12-1+deb12u4 libopentracing-c-wrapper0=1.1.3-3+b1 libopentracing1=1.6.0-4 liblua5.3-0=5.3.6-2
LD_LIBRARY_PATH=$lab/root/usr/lib/x86_64-linux-gnu; export LD_LIBRARY_PATH
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
  server s 127.0.0.1:1
CONF
"$lab/root/usr/sbin/haproxy" -db -f "$lab/haproxy.cfg" > "$lab/log" 2>&1 &
wait_for curl -sf "http://127.0.0.1:$port/metrics"
got() { curl -s -o "$lab/page" -w '%{http_code}' "http://127.0.0.1:$port/metrics$1"; [ -s "$lab/page" ] && echo ", octets" || echo ", empty"; }
expect "no scope" "200, octets" "$(got '')"
expect "scope=server" "200, octets" "$(got '?scope=server')"
expect "scope=bogus" "400, octets" "$(got '?scope=bogus')"
expect "scope=" "200, empty" "$(got '?scope=')"
finish
