#!/bin/sh
# rspamd 4.1.5 (Debian sid rspamd 4.1.5-1), /metrics of its controller, read by prometheus_client 0.16.0 (Debian
# python3-prometheus-client 0.16.0-0.1) and Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1). It answers with OpenMetrics to who asks for
# it, and one would guess that a reader of that format takes the page. Its TYPE lines have the counters' names with _total, where
# OpenMetrics wants the family's name without, as if it were text with another Content-Type and an # EOF: the reference parser refuses
# the page, Prometheus takes it.
. "$(dirname "$0")/lib.sh"
needs sid rspamd=4.1.5-1
debs prometheus=2.42.0+ds-5+deb12u1 python3-prometheus-client=0.16.0-0.1
port=$(free_port) share=$lab/root/usr/share/rspamd
cat > "$lab/rspamd.conf" <<CONF
options { pidfile = "$lab/pid"; filters = ""; disable_hyperscan = true; dns { nameserver = ["127.0.0.1"]; } control_socket = "$lab/control mode=0600"; }
logging { type = "console"; }
worker "controller" { bind_socket = "127.0.0.1:$port"; count = 1; secure_ip = ["127.0.0.1"]; }
CONF
own=$own:$(dirname "$(find "$lab/root" -name librspamd-server.so)")
$own "$lab/root/usr/bin/rspamd" -f -i -c "$lab/rspamd.conf" --var=RULESDIR="$share/rules" \
    --var=LUALIBDIR="$share/lualib" --var=PLUGINSDIR="$share/plugins" --var=SHAREDIR="$share" --var=DBDIR="$lab" --var=RUNDIR="$lab" \
    --var=CONFDIR="$lab/root/etc/rspamd" --var=LOCAL_CONFDIR="$lab" --var=WWWDIR="$lab" > "$lab/log" 2>&1 &
wait_for curl -sf "http://127.0.0.1:$port/metrics"
kind() { curl -s -o "$lab/page" -w '%{content_type}' -H "Accept: $1" "http://127.0.0.1:$port/metrics"; }
om='application/openmetrics-text; version=1.0.0; charset=utf-8'
expect "asked for text" 'text/plain; version=0.0.4; charset=utf-8' "$(kind text/plain)"
expect "asked for OpenMetrics" "$om" "$(kind application/openmetrics-text)"
expect "a counter" '# TYPE rspamd_scanned_total counter rspamd_scanned_total 0' "$(grep -E '^(# TYPE )?rspamd_scanned_total' "$lab/page" | paste -sd' ')"
expect "the parser of prometheus_client" "refused: Clashing name: rspamd_scanned_total" "$(PYTHONPATH=$lab/root/usr/lib/python3/dist-packages python3 -c '
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
try: print("read", len(list(read(sys.stdin.read()))))
except ValueError as error: print("refused:", error)' < "$lab/page")"
prometheus "$lab/root/usr/bin/prometheus"
wait_for sh -c "curl -s 'http://127.0.0.1:$prom/api/v1/query?query=up' | grep -q value"
expect "Prometheus: up, and the counter" "1 0" "$(ask up | cut -d' ' -f2) $(ask rspamd_scanned_total | cut -d' ' -f2)"
finish
