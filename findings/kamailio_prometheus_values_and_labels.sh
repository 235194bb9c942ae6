#!/bin/sh
# Kamailio 6.1.5 (Debian sid kamailio 6.1.5-1), module xhttp_prom, read by promtool 2.42.0 (Debian prometheus 2.42.0+ds-5+deb12u1).
# One would guess that a value has the digits it needs: six are written behind the point, so a histogram of seconds whose sum is a
# fifth of a microsecond has the sum 0, and the bounds 0.0000002 and 0.0000004 are le="0.000000" both, the same series twice.
# A label is written as it is: one with a quote in it makes a page that is refused whole. Each sample has a timestamp.
. "$(dirname "$0")/lib.sh"
needs sid kamailio=6.1.5-1 kamailio-extra-modules=6.1.5-1
debs prometheus=2.42.0+ds-5+deb12u1
page() { # label
    port=$(free_port)
    cat > "$lab/cfg" <<CONF
log_stderror=yes
children=1
listen=tcp:127.0.0.1:$port
mpath="$at/kamailio/modules/"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "xhttp.so"
loadmodule "xhttp_prom.so"
modparam("xhttp_prom", "prom_counter", "name=c; label=agent;")
modparam("xhttp_prom", "prom_histogram", "name=h; buckets=0.0000002:0.0000004:1;")
tcp_accept_no_cl=yes
request_route { exit; }
event_route[xhttp:request] { prom_counter_inc("c", "1", "$1"); prom_histogram_observe("h", "0.0000002"); prom_dispatch(); }
CONF
    $own "$lab/root/usr/sbin/kamailio" -DD -E -f "$lab/cfg" -Y "$lab" > "$lab/log" 2>&1 & kamailio=$!
    wait_for curl -sf "http://127.0.0.1:$port/metrics"
    curl -s "http://127.0.0.1:$port/metrics" > "$lab/page"
    kill $kamailio
}
read_by_promtool() { "$lab/root/usr/bin/promtool" check metrics < "$lab/page" 2>&1 | grep -q 'parsing error' && echo refused || echo read; }
page phone
expect "bounds" '0.000000 0.000000 1.000000 +Inf' "$(sed -n 's/.*h_bucket{le="\(.*\)"}.*/\1/p' "$lab/page" | paste -sd' ')"
expect "sum of two" 0.000000 "$(sed -n 's/^kamailio_h_sum \([^ ]*\) [0-9]*$/\1/p' "$lab/page")"
expect "a plain label" 'agent="phone"} 2, read' "$(sed -n 's/^kamailio_c{\(.*\) [0-9]*$/\1/p' "$lab/page"), $(read_by_promtool)"
page 'my \"phone\"'
expect "a label with quotes" 'agent="my "phone""} 2, refused' "$(sed -n 's/^kamailio_c{\(.*\) [0-9]*$/\1/p' "$lab/page"), $(read_by_promtool)"
finish
