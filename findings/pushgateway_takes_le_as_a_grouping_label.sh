#!/bin/sh
# Pushgateway 1.5.1 (Debian prometheus-pushgateway 1.5.1-2+b5; 1.11.2 of Debian sid does the same), promtool 2.42.0 (Debian
# prometheus 2.42.0+ds-5+deb12u1). A grouping label of the name that a type keeps for itself: one would guess that both are
# refused, as "quantile" is for a summary (400, "must not have an explicit"). "le" is taken for a histogram (200): its buckets
# then have le twice on the gateway's page, its sum and count once, and promtool refuses the whole page.
. "$(dirname "$0")/lib.sh"
debs prometheus-pushgateway=1.5.1-2+b5 prometheus=2.42.0+ds-5+deb12u1
front=$(free_port)
"$lab/root/usr/bin/prometheus-pushgateway" --web.listen-address="127.0.0.1:$front" --persistence.file= > "$lab/log" 2>&1 &
wait_for curl -s "http://127.0.0.1:$front/-/ready"
push() { curl -s -o "$lab/said" -w '%{http_code}' --data-binary @- "http://127.0.0.1:$front/metrics/job/j/$1"; }
histogram='# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 2
h_sum 3
h_count 2'
summary='# TYPE s summary
s{quantile="0.5"} 1
s_sum 3
s_count 2'
expect "a summary under quantile" 400 "$(echo "$summary" | push quantile/x)"
expect "in its words" 'must not have an explicit "quantile" label' "$(grep -o 'must not have.*' "$lab/said")"
expect "a histogram under le" 200 "$(echo "$histogram" | push le/x)"
page() { curl -s "http://127.0.0.1:$front/metrics"; }
expect "its page" 'h_bucket{instance="",job="j",le="x",le="1"} 1 h_bucket{instance="",job="j",le="x",le="+Inf"} 2 h_sum{instance="",job="j",le="x"} 3 h_count{instance="",job="j",le="x"} 2' "$(page | grep '^h_' | paste -sd' ')"
expect "promtool" "expected float as value for 'le' label, got \"x\"" "$(page | "$lab/root/usr/bin/promtool" check metrics 2>&1 | grep -o 'expected float.*')"
finish
