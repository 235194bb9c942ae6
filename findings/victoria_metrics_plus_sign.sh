#!/bin/sh
# VictoriaMetrics 1.79.5 (Debian victoria-metrics 1.79.5+ds1-2+b5) and Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1).
# A value is what Go's ParseFloat reads, so `+1` (printf's "%+g"), `.5` and `5.` are values. VictoriaMetrics is written in Go and
# reads +Inf and 1e+3, so one would guess that it reads these too. It leaves the three lines out, and `up` stays 1.
# (1.145.0 of Debian sid reads .5 and 5., and still not +1.)
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
printf 'x{n="one"} 1\nx{n="plus"} +1\nx{n="inf"} +Inf\nx{n="exponent"} 1e+3\nx{n="dot"} .5\nx{n="point"} 5.\n' > "$lab/page"
serve "$lab/page" 'text/plain; version=0.0.4'
scraped() { [ -n "$(ask x)" ]; }
samples() { ask x | sed -n 's/.*n="\([a-z]*\)"} /\1 /p' | paste -sd' '; }
prometheus "$lab/root/usr/bin/prometheus"
wait_for scraped
expect "Prometheus" "dot 0.5 exponent 1000 inf +Inf one 1 plus 1 point 5" "$(samples)"
victoria_metrics
wait_for scraped
expect "VictoriaMetrics" "exponent 1000 inf +Inf one 1" "$(samples)"
expect "its up" '{__name__="up"} 1' "$(ask up)"
finish
