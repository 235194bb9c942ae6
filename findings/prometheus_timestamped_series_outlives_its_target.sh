#!/bin/sh
# Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1). Two gauges vanish from the page at the same time; one of them had explicit timestamps.
# One would guess that both are gone with the next scrape. The one with timestamps goes on answering (until the look-back of five minutes).
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
printf 'kept 1\nplain 1\nstamped 1 %s000\n' "$(date +%s)" > "$lab/page"
serve "$lab/page" 'text/plain; version=0.0.4'
prometheus "$lab/root/usr/bin/prometheus"
wait_for sh -c "curl -s '127.0.0.1:$prom/api/v1/query?query=stamped' | grep -q value"
expect "before" 2 "$(ask '{__name__=~"plain|stamped"}' | wc -l)"
printf 'kept 2\n' > "$lab/page"
wait_for sh -c "curl -s '127.0.0.1:$prom/api/v1/query?query=kept==2' | grep -q value"
wait_for sh -c "! curl -s '127.0.0.1:$prom/api/v1/query?query=plain' | grep -q value"
expect "after" '{__name__="stamped"} 1' "$(ask '{__name__=~"plain|stamped"}')"
finish
