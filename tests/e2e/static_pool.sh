#!/bin/sh
# The exporter of 64 KiB: ten thousand scrapes, and twenty at once, leave its memory as it was.
. "$(dirname "$0")/lib.sh"

exporter=$B/examples/30_static_pool
[ -x "$exporter" ] || { echo "FAILED  $exporter is not built"; exit 1; }
port=$(free_port)
url=http://127.0.0.1:$port/metrics
start exporter "$exporter" "$port"
ok "it serves" within 10 answers "$url"
page() { curl -sS -m 10 "$url" > "$tmp/page"; }
value() { page && sed -n "s/^$1 //p" "$tmp/page"; }
all_families() { [ "$(value jobs_total\{status=\"_overflow\"\})" -gt 0 ]; }
ok "a family is full: the others count in one more series" within 10 all_families
# A thread that comes often to a series is given cells of its own for it: 32 times, a third of a second each.
settled() { [ "$(value jobs_total\{status=\"0\"\})" -gt 40 ]; }
ok "its thread has all cells that it will have" within 60 settled
held=$(value pool_held_bytes) most=$(value pool_most_bytes)
ok "it takes less than 64 KiB, and says how much" [ "${held:-0}" -gt 1000 ] && ok "and never more" [ "${most:-65537}" -le 65536 ]
many() { # scrapes over one connection, each counted
    curl -sS -m 300 -o /dev/null -w '%{http_code}\n' "$url?[1-$1]" > "$tmp/codes" && [ "$(grep -cx 200 "$tmp/codes")" = "$1" ]
}
ok "9900 scrapes over a connection are answered" many 9900
each() { for i in 1 2 3 4 5 6 7 8 9 10; do many 1 || return 1; done; }
for round in 1 2 3 4 5 6 7 8 9 10; do ok "10 scrapes over connections of their own are answered ($round)" each; done
ok "its memory is as it was: $held" [ "$(value pool_held_bytes)" = "$held" ]
ok "it never took more: $most" [ "$(value pool_most_bytes)" = "$most" ]
crowd() { for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do curl -s -m 5 -o /dev/null "$url" & done; wait_for=$!; wait $wait_for; true; }
ok "twenty come at once" crowd
same() { [ "$(value pool_held_bytes)" = "$held" ]; }
ok "its memory is as it was, and it serves" within 10 same
openmetrics() { curl -sS -m 10 -H 'Accept: application/openmetrics-text;version=1.0.0' "$url" | tail -n 1 | grep -qx '# EOF'; }
ok "it serves OpenMetrics" openmetrics
kill "$pid"
ok "it ends well" wait "$pid"
finish
