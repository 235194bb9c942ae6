#!/bin/sh
# VictoriaMetrics 1.79.5 (Debian victoria-metrics 1.79.5+ds1-2+b5; 1.145.0 of Debian sid does the same) scrapes an OpenMetrics page
# whose samples have exemplars. It reads them over, so one would guess that each sample is stored under its own name.
# It is where the sample has labels. Without them the exemplar's braces are taken for the sample's: the series is named
# "x_total 1.0 #", has the exemplar's labels (a new series for each trace) and the exemplar's value. `up` is 1.
. "$(dirname "$0")/lib.sh"
printf '# TYPE x counter\nx_total 5.0 # {id="7"} 2.0\n# TYPE y counter\ny_total{a="b"} 6.0 # {id="8"} 3.0\n# EOF\n' > "$lab/page"
serve "$lab/page" 'application/openmetrics-text; version=1.0.0; charset=utf-8'
victoria_metrics
scraped() { [ -n "$(ask y_total)" ]; }
wait_for scraped
expect "up" '{__name__="up"} 1' "$(ask up)"
expect "the one with labels" '{__name__="y_total", a="b"} 6' "$(ask y_total)"
expect "the one without, by its name" '' "$(ask x_total)"
expect "the one without, as stored" '{__name__="x_total 5.0 #", id="7"} 2' "$(ask '{id!=""}')"
finish
