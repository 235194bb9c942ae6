#!/bin/sh
# Pushgateway 1.11.2 (Debian sid prometheus-pushgateway 1.11.2-1) with --push.enable-utf8-names, scraped by Prometheus 2.42.0
# (Debian 2.42.0+ds-5+deb12u1), for which such names are escaped: "a.b" becomes a_b. A push that does not fit what is stored is a
# 400, for instance a second a_b of another type. One would guess that this check knows the escaped names, as they are what most
# clients see. It does not: "a.b" beside a_b is taken (200). The page has a_b twice with the same labels, and Prometheus keeps one.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1 sid/prometheus-pushgateway=1.11.2-1
port=$(free_port)
"$lab/root/usr/bin/prometheus-pushgateway" --web.listen-address="127.0.0.1:$port" --push.enable-utf8-names > "$lab/log" 2>&1 &
wait_for curl -s "http://127.0.0.1:$port/-/ready"
push() { curl -s -o "$lab/said" -w '%{http_code}' --data-binary @- "http://127.0.0.1:$port/metrics/job/$1"; }
page() { curl -s -H 'Accept: text/plain; version=0.0.4' "http://127.0.0.1:$port/metrics" | grep "^$1{" | paste -sd'|'; }
expect "push of a.b and a_b" 200 "$(printf '# TYPE "a.b" gauge\n{"a.b"} 1\n# TYPE a_b gauge\na_b 2\n' | push one)"
expect "push of a_b as a counter" 400 "$(printf '# TYPE a_b counter\na_b 3\n' | push two)"
expect "on the page" 'a_b{instance="",job="one"} 1|a_b{instance="",job="one"} 2' "$(page a_b)"
prometheus "$lab/root/usr/bin/prometheus"
up() { [ "$(ask up)" = "{__name__=\"up\"} $1" ]; }
wait_for up 1
expect "series in Prometheus" 1 "$(ask a_b | wc -l)"
finish
