#!/bin/sh
# collectd 5.12.0 (Debian collectd-core 5.12.0-14), plugin write_prometheus. It can answer with protobuf.
# One would guess that the q values of Accept decide, and that q=0 excludes a format.
# It answers with protobuf wherever the media type occurs in Accept with encoding=delimited: last, with q=0.1, with q=0.
. "$(dirname "$0")/lib.sh"
collectd
kind() { curl -s -o /dev/null -w '%{content_type}' -H "Accept: $1" "http://127.0.0.1:$port/metrics" | cut -d';' -f1; }
pb='application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited'
expect "text only" text/plain "$(kind 'text/plain;version=0.0.4')"
expect "text q=0.9, protobuf q=0.1" application/vnd.google.protobuf "$(kind "text/plain;version=0.0.4;q=0.9,$pb;q=0.1")"
expect "text, protobuf q=0" application/vnd.google.protobuf "$(kind "text/plain;version=0.0.4,$pb;q=0")"
finish
