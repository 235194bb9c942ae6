#!/bin/sh
# VictoriaMetrics 1.145.0 (Debian sid victoria-metrics 1.145.0+ds1-2), /federate, a series whose name has a dot. Prometheus 3 says
# by `escaping=` in Accept what a client can read. One would guess that this decides. `allow-utf-8` is heeded; without it the
# User-Agent decides: one that begins with "Prometheus/" gets underscores, any other a line with the bare dot, which is
# no line of the format and makes a reader refuse the page, also where it asked for escaping=underscores. Vary names neither.
. "$(dirname "$0")/lib.sh"
debs sid/victoria-metrics=1.145.0+ds1-2
port=$(free_port)
"$lab/root/usr/bin/victoria-metrics" -storageDataPath="$lab/vm" -search.latencyOffset=0s -httpListenAddr="127.0.0.1:$port" > "$lab/vm.log" 2>&1 &
wait_for curl -sf "http://127.0.0.1:$port/health"
printf '{"http.requests"} 7\n' | curl -sf --data-binary @- "http://127.0.0.1:$port/api/v1/import/prometheus"
federated() { # user agent, accept
    curl -s -D "$lab/head" -A "$1" -H "Accept: $2" -G --data-urlencode 'match[]={__name__="http.requests"}' "http://127.0.0.1:$port/federate" | sed 's/ [0-9]*$//'
}
there() { federated any any | grep -q http; }
wait_for there
expect "an agent, allow-utf-8" '{"http.requests"} 7' "$(federated agent/1 'text/plain;version=1.0.0;escaping=allow-utf-8')"
for accept in 'text/plain;version=0.0.4' 'text/plain;version=1.0.0;escaping=underscores'; do
    expect "Prometheus, $accept" 'http_requests 7' "$(federated Prometheus/3.5.3 "$accept")"
    expect "an agent, $accept" 'http.requests 7' "$(federated agent/1 "$accept")"
done
expect "Vary" "Accept-Encoding" "$(tr -d '\r' < "$lab/head" | sed -n 's/^Vary: //p')"
finish
