#!/bin/sh
# NSD 4.15.4 (Debian sid nsd 4.15.4-1) with its own metrics page, read by promtool 2.42.0 (Debian prometheus 2.42.0+ds-5+deb12u1).
# `nsd-control stats` prints statistics since it was last asked. One would guess that the page, whose samples are counters called
# _total, counts on beside it. `stats` sets them back to 0, while nsd_time_up_seconds_total goes on: each run of a munin plugin or
# of a person takes counts from Prometheus, which sees a restart. (`stats_noreset` does not.)
# With statistics of two zones the page has HELP and TYPE lines once for each zone: with one zone promtool takes it, with two it is
# refused, as by other readers that keep to the format's "only one".
. "$(dirname "$0")/lib.sh"
needs sid nsd=4.15.4-1
debs prometheus=2.42.0+ds-5+deb12u1
dns=$(free_port) port=$(free_port)
for zone in one two; do
    printf '@ 3600 IN SOA ns.example. root.example. 1 3600 900 86400 3600\n@ 3600 IN NS ns.example.\nwww 3600 IN A 192.0.2.1\n' > "$lab/$zone.zone"
done
start() { # ZONE...
    cat > "$lab/nsd.conf" <<CONF
server:
  ip-address: 127.0.0.1@$dns
  username: ""
  chroot: ""
  zonesdir: "$lab"
  zonelistfile: "$lab/zone.list"
  xfrdfile: ""
  pidfile: "$lab/pid"
  xfrdir: "$lab"
  server-count: 1
  metrics-enable: yes
  metrics-interface: 127.0.0.1
  metrics-port: $port
remote-control:
  control-enable: yes
  control-interface: $lab/control
CONF
    for zone in "$@"; do printf 'zone:\n  name: %s\n  zonefile: %s.zone\n  zonestats: "%%s"\n' "$zone" "$zone" >> "$lab/nsd.conf"; done
    $own "$lab/root/usr/sbin/nsd" -d -c "$lab/nsd.conf" > "$lab/log" 2>&1 & nsd=$!
    wait_for curl -sf "http://127.0.0.1:$port/metrics"
}
page() { curl -s "http://127.0.0.1:$port/metrics"; }
queries() { page | sed -n 's/^nsd_queries_by_type_total{type="A"} //p'; }
lint() { page | "$lab/root/usr/bin/promtool" check metrics 2>&1 | grep -o 'second HELP line' || echo taken; }
control() { $own "$lab/root/usr/sbin/nsd-control" -c "$lab/nsd.conf" "$@"; }
start one
expect "one zone" taken "$(lint)"
python3 - "$dns" <<'PY'
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)
for _ in range(3):
    s.sendto(b"\1\2\0\0\0\1\0\0\0\0\0\0\3www\3one\0\0\1\0\1", ("127.0.0.1", int(sys.argv[1]))); s.recv(512)
PY
expect "3 queries" 3 "$(queries)"
control stats_noreset > "$lab/out"
expect "after stats_noreset" 3 "$(queries)"
control stats > "$lab/out"
expect "after stats" 0 "$(queries)"
expect "and the uptime" "goes on" "$(page | awk '$1 == "nsd_time_up_seconds_total" { print ($2 > 0.05 ? "goes on" : "is 0") }')"
kill $nsd; wait $nsd || :
start one two
expect "two zones" 'second HELP line' "$(lint)"
kill $nsd; wait $nsd || :
finish
