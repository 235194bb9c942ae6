#!/bin/sh
# VictoriaMetrics 1.79.5 (Debian victoria-metrics 1.79.5+ds1-2+b5; 1.145.0 of Debian sid does the same) and Prometheus 2.42.0 (Debian
# 2.42.0+ds-5+deb12u1). A gauge becomes NaN: a sensor that does not answer, a ratio without events. The format has NaN, and Prometheus
# stores and shows it. One would guess that VictoriaMetrics does, or that the series ends as if the line were gone. It leaves such
# samples out, without a trace in `up` or in scrape_samples_scraped, and answers with the last number, the only sign of which is its
# age. If the line is gone, it is gone.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
printf 'sensor 21.5\nother 1\n' > "$lab/metrics"
serve "$lab/metrics" 'text/plain; version=0.0.4'
prometheus "$lab/root/usr/bin/prometheus"
both=$prom
victoria_metrics
vm=$prom
value() { prom=$1; ask "$2" | sed 's/.* //'; }
is() { [ "$(value "$1" "$2")" = "$3" ]; }
wait_for is "$both" sensor 21.5; wait_for is "$vm" sensor 21.5
printf 'sensor NaN\nother 2\n' > "$lab/metrics"
wait_for is "$both" other 2; wait_for is "$vm" other 2
expect "Prometheus" NaN "$(value "$both" sensor)"
expect "VictoriaMetrics" 21.5 "$(value "$vm" sensor)"
expect "and counts as scraped" 2 "$(value "$vm" scrape_samples_scraped)"
printf 'other 3\n' > "$lab/metrics"
wait_for is "$vm" other 3
expect "without the line" "" "$(value "$vm" sensor)"
finish
