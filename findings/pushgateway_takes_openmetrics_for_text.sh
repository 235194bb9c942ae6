#!/bin/sh
# Pushgateway 1.11.2 (Debian sid prometheus-pushgateway 1.11.2-1). A push whose Content-Type is OpenMetrics. One would guess that it is read as
# such, or answered with 415. It is read as the text format, without a word: 200, while the counter has become untyped (its samples are
# called x_total, its TYPE line x) and `_created` is a series of its own. The same counter is refused with 400 from the day that it
# has an exemplar, and so is every page with an info metric. A client that writes OpenMetrics must change to text to push.
. "$(dirname "$0")/lib.sh"
needs sid prometheus-pushgateway=1.11.2-1
port=$(free_port)
$own "$lab/root/usr/bin/prometheus-pushgateway" --web.listen-address="127.0.0.1:$port" > "$lab/log" 2>&1 &
wait_for curl -sf "http://127.0.0.1:$port/-/ready"
push() { # job, type, page: status, what the Pushgateway shows or says
    status=$(printf "$3" | curl -s -o "$lab/out" -w '%{http_code}' -X PUT -H "Content-Type: $2" --data-binary @- "http://127.0.0.1:$port/metrics/job/$1")
    echo "$status" $(head -n 1 "$lab/out") $(curl -s "http://127.0.0.1:$port/metrics" | grep -E "TYPE $1|^$1" | sed 's/{.*}//' | paste -sd,)
}
text='text/plain; version=0.0.4' om='application/openmetrics-text; version=1.0.0; charset=utf-8'
expect "text" "200 # TYPE a_total counter,a_total 1" "$(push a "$text" '# TYPE a_total counter\na_total 1\n')"
expect "OpenMetrics" "200 # TYPE b_created untyped,b_created 5,# TYPE b_total untyped,b_total 1" \
    "$(push b "$om" '# TYPE b counter\nb_total 1\nb_created 5\n# EOF\n')"
expect "an exemplar" '400 text format parsing error in line 2: expected integer as timestamp, got "#"' \
    "$(push c "$om" '# TYPE c counter\nc_total 1 # {trace_id="x"} 1\n# EOF\n')"
expect "an info" '400 text format parsing error in line 1: unknown metric type "info"' "$(push d "$om" '# TYPE d info\nd_info{v="1"} 1\n# EOF\n')"
finish
