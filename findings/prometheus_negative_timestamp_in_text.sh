#!/bin/sh
# Prometheus 2.42.0 and its promtool (Debian prometheus 2.42.0+ds-5+deb12u1; 3.5.3 of Debian sid does the same), a sample from
# before 1970. The text format's timestamp is an int64 of milliseconds, and `promtool check metrics` finds no fault.
# One would guess that the sample is dropped as out of bounds, as one of 1970 is. The server refuses the whole page for its "-".
# As OpenMetrics the same sample costs nothing but itself.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
head='# HELP x h\n# TYPE x gauge\n'
printf "${head}"'x{a="1"} 1\nx{a="2"} 2 1000\n' > "$lab/old"
printf "${head}"'x{a="1"} 1\nx{a="2"} 2 -1000\n' > "$lab/negative"
printf "${head}"'x{a="1"} 1\nx{a="2"} 2 -1.0\n# EOF\n' > "$lab/openmetrics"
scrape() { # page, type
    serve "$lab/$1" "$2"
    prometheus "$lab/root/usr/bin/prometheus"
    wait_for sh -c "curl -s 'http://127.0.0.1:$prom/api/v1/query?query=up' | grep -q value"
    echo "up $(ask up | cut -d' ' -f2), samples: $(ask x | paste -sd' ')"
    kill $prometheus
}
verdict() { "$lab/root/usr/bin/promtool" check metrics < "$lab/$1" > "$lab/out" 2>&1 && echo accepted || echo refused; }
expect "promtool, before 1970" accepted "$(verdict negative)"
expect "text, of 1970" 'up 1, samples: {__name__="x", a="1"} 1' "$(scrape old 'text/plain; version=0.0.4')"
expect "text, before 1970" 'up 0, samples: ' "$(scrape negative 'text/plain; version=0.0.4')"
expect "OpenMetrics, before 1970" 'up 1, samples: {__name__="x", a="1"} 1' "$(scrape openmetrics 'application/openmetrics-text; version=1.0.0')"
finish
