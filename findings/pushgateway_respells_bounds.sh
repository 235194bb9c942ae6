#!/bin/sh
# Pushgateway 1.5.1 (Debian prometheus-pushgateway 1.5.1-2+b5). One would guess that it serves the text that was pushed to it.
# It reads values and writes its own: le="1.0" becomes "1" (other series than the same histogram scraped directly),
# a histogram of buckets only gains a sum and a count, -0 becomes 0, and an added instance="" label stands on each line.
. "$(dirname "$0")/lib.sh"
debs prometheus-pushgateway=1.5.1-2+b5
front=$(free_port)
"$lab/root/usr/bin/prometheus-pushgateway" --web.listen-address="127.0.0.1:$front" --persistence.file= > "$lab/log" 2>&1 &
wait_for curl -s "http://127.0.0.1:$front/-/ready"
curl -s --data-binary @- "http://127.0.0.1:$front/metrics/job/j" <<'PAGE'
# TYPE h histogram
h_bucket{le="1.0"} 1
h_bucket{le="+Inf"} 2
# TYPE z gauge
z -0
PAGE
served() { curl -s "http://127.0.0.1:$front/metrics" | grep -E "^$1" | paste -sd' '; }
expect "buckets" 'h_bucket{instance="",job="j",le="1"} 1 h_bucket{instance="",job="j",le="+Inf"} 2' "$(served h_bucket)"
expect "sum and count that were not pushed" 'h_sum{instance="",job="j"} 0 h_count{instance="",job="j"} 0' "$(served 'h_(sum|count)')"
expect "minus zero" 'z{instance="",job="j"} 0' "$(served z)"
finish
