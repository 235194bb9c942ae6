#!/bin/sh
# blackbox_exporter 0.23.0 (Debian prometheus-blackbox-exporter 0.23.0-4+b4) with `compression: gzip` in an http module.
# One would guess: it asks for gzip and decodes what is gzipped.
# It decodes always: a server that answers 200 without Content-Encoding (a small page is often not compressed) fails the probe.
. "$(dirname "$0")/lib.sh"
debs prometheus-blackbox-exporter=0.23.0-4+b4
echo 'x 1' > "$lab/page"
serve "$lab/page" 'text/plain; version=0.0.4'
front=$(free_port)
cat > "$lab/config" <<'CONF'
modules:
  plain: {prober: http}
  packed: {prober: http, http: {compression: gzip, headers: {Accept-Encoding: gzip}}}
CONF
"$lab/root/usr/bin/prometheus-blackbox-exporter" --config.file="$lab/config" --web.listen-address="127.0.0.1:$front" > "$lab/log" 2>&1 &
wait_for curl -s "http://127.0.0.1:$front/"
probe() { curl -s "http://127.0.0.1:$front/probe?target=127.0.0.1:$port&module=$1" | grep -E "^$2 " | cut -d' ' -f2; }
expect "success without compression" 1 "$(probe plain probe_success)"
expect "success with compression: gzip" 0 "$(probe packed probe_success)"
expect "status with compression: gzip" 200 "$(probe packed probe_http_status_code)"
finish
