#!/bin/sh
# haproxy 2.6.12 (Debian 2.6.12-1+deb12u4), its built-in prometheus-exporter, parameter `scope`.
# One would guess that an empty `scope=`, as a template writes it, means no restriction, or is refused as an unknown scope is.
# It is status 200 with a page of no octet, which a scraper takes for a good scrape without samples.
. "$(dirname "$0")/lib.sh"
haproxy "server s 127.0.0.1:1"
got() { curl -s -o "$lab/page" -w '%{http_code}' "http://127.0.0.1:$port/metrics$1"; [ -s "$lab/page" ] && echo ", octets" || echo ", empty"; }
expect "no scope" "200, octets" "$(got '')"
expect "scope=server" "200, octets" "$(got '?scope=server')"
expect "scope=bogus" "400, octets" "$(got '?scope=bogus')"
expect "scope=" "200, empty" "$(got '?scope=')"
finish
