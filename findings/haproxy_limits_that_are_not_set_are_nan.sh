#!/bin/sh
# haproxy 2.6.12 (Debian 2.6.12-1+deb12u4), its built-in prometheus-exporter.
# One would guess that a limit that is not configured has no sample. It has one whose value is NaN, so a sum over
# servers, of which one has a limit, is NaN (asked of Prometheus 2.42.0, Debian 2.42.0+ds-5+deb12u1).
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
haproxy "server limited 127.0.0.1:1 maxconn 10" "server free 127.0.0.1:2"
page() { curl -s "http://127.0.0.1:$port/metrics$1"; }
expect "servers' limits" "10 NaN" "$(page '?scope=server' | grep '^haproxy_server_limit_sessions{' | cut -d' ' -f2 | paste -sd' ')"
prometheus "$lab/root/usr/bin/prometheus"
scraped() { [ -n "$(ask haproxy_server_limit_sessions)" ]; }
wait_for scraped
expect "sum of the limits" "{} NaN" "$(ask 'sum(haproxy_server_limit_sessions)')"
expect "max of the limits" "{} 10" "$(ask 'max(haproxy_server_limit_sessions)')"
finish
