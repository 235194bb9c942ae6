#!/bin/sh
# exporter_exporter 0.4.0 (Debian prometheus-exporter-exporter 0.4.0-1+b14) before a target that negotiates.
# It passes the scraper's Accept on and verifies the answer. One would guess that it can verify what it asked for.
# It reads every answer as text 0.0.4: an OpenMetrics page with an exemplar becomes a 500, with `verify: false` a 200.
. "$(dirname "$0")/lib.sh"
debs prometheus-exporter-exporter=0.4.0-1+b14
printf '# TYPE x counter\nx_total 1.0\n# EOF\n' > "$lab/plain"
printf '# TYPE x counter\nx_total 1.0 # {id="7"} 1.0\n# EOF\n' > "$lab/exemplar"
status() { # page verify
    serve "$lab/$1" 'application/openmetrics-text; version=1.0.0; charset=utf-8'; server=$!
    front=$(free_port)
    printf 'modules:\n  m:\n    method: http\n    http: {port: %s, verify: %s}\n' "$port" "$2" > "$lab/config"
    "$lab/root/usr/bin/prometheus-exporter-exporter" -config.file "$lab/config" -web.listen-address "127.0.0.1:$front" > "$lab/log" 2>&1 & proxy=$!
    wait_for curl -s "http://127.0.0.1:$front/"
    curl -s -o /dev/null -w '%{http_code}' -H 'Accept: application/openmetrics-text' "http://127.0.0.1:$front/proxy?module=m"
    kill $proxy $server
}
expect "without an exemplar" 200 "$(status plain true)"
expect "with an exemplar" 500 "$(status exemplar true)"
expect "with an exemplar, verify off" 200 "$(status exemplar false)"
finish
