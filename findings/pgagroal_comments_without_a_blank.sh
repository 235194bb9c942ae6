#!/bin/sh
# pgagroal 2.1.0 (Debian sid pgagroal 2.1.0-1), a pool of connections to PostgreSQL, its metrics page, read by Prometheus 2.42.0 (Debian
# 2.42.0+ds-5+deb12u1), its promtool, Pushgateway 1.5.1 (Debian prometheus-pushgateway 1.5.1-2+b5) and prometheus_client 0.16.0 (Debian
# python3-prometheus-client 0.16.0-0.1). The page has "#HELP" and "#TYPE", without the blank of "# TYPE". One would guess that this is
# refused, or read alike by all of Prometheus' own readers. promtool and Pushgateway read the types and help texts: promtool complains
# of a name that only its type makes wrong. For the server, which scrapes the page, and for the Python parser these lines are plain
# comments: it has no type and no help text of any of these metrics. So `promtool check metrics` shows types that the server has not.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1 python3-prometheus-client=0.16.0-0.1 prometheus-pushgateway=1.5.1-2+b5
needs sid pgagroal=2.1.0-1
port=$(free_port)
mkdir "$lab/pool"
printf '[pgagroal]\nhost = 127.0.0.1\nport = %s\nmetrics = %s\nlog_type = file\nlog_path = %s/log\nunix_socket_dir = %s\nmax_connections = 4\nvalidation = off\n[primary]\nhost = 127.0.0.1\nport = 9\nprimary = on\n' \
    "$(free_port)" "$port" "$lab/pool" "$lab/pool" > "$lab/pool/pool.conf"
echo 'host all all all all' > "$lab/pool/hba.conf"
# It refuses to run as root.
as=
if [ "$(id -u)" = 0 ]; then chmod 755 "$lab"; chown -R 65534:65534 "$lab/pool"; as="setpriv --reuid=65534 --regid=65534 --clear-groups"; fi
# shellcheck disable=SC2086
(cd "$lab/pool" && HOME=$lab/pool exec $as $own "$lab/root/usr/bin/pgagroal" -c "$lab/pool/pool.conf" -a "$lab/pool/hba.conf" > "$lab/out" 2>&1) &
wait_for curl -sf "http://127.0.0.1:$port/metrics"
curl -s "http://127.0.0.1:$port/metrics" > "$lab/page"
expect "lines of the page" "#TYPE pgagroal_max_connections counter" "$(grep 'TYPE pgagroal_max_connections' "$lab/page")"
expect "promtool" 'pgagroal_max_connections counter metrics should have "_total" suffix' "$("$lab/root/usr/bin/promtool" check metrics < "$lab/page" 2>&1 | grep pgagroal_max_connections)"
push=$(free_port)
"$lab/root/usr/bin/prometheus-pushgateway" --web.listen-address="127.0.0.1:$push" --persistence.file= > "$lab/log" 2>&1 &
wait_for curl -s "http://127.0.0.1:$push/-/ready"
curl -s --data-binary @"$lab/page" "http://127.0.0.1:$push/metrics/job/x"
expect "Pushgateway" "# TYPE pgagroal_max_connections counter" "$(curl -s "http://127.0.0.1:$push/metrics" | grep 'TYPE pgagroal_max_connections')"
expect "Python" unknown "$(PYTHONPATH=$lab/root/usr/lib/python3/dist-packages python3 - "$lab/page" <<'PY'
import sys
from prometheus_client.parser import text_string_to_metric_families as text
print(*(f.type for f in text(open(sys.argv[1]).read()) if f.name == "pgagroal_max_connections"))
PY
)"
prometheus "$lab/root/usr/bin/prometheus"
scraped() { ask pgagroal_max_connections | grep -q ' 4$'; }
wait_for scraped
expect "Prometheus: the value" '{__name__="pgagroal_max_connections"} 4' "$(ask pgagroal_max_connections)"
expect "Prometheus: types and help texts" '{"status":"success","data":{}}' "$(curl -s "http://127.0.0.1:$prom/api/v1/metadata")"
finish
