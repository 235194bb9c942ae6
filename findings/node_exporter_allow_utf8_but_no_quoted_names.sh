#!/bin/sh
# node_exporter 1.11.1 (Debian sid prometheus-node-exporter 1.11.1-3), textfile collector, asked as Prometheus 3 asks. It answers
# with `escaping=allow-utf-8`. One would guess that a textfile may then hold a name in quotes, as Prometheus 3's own parser takes
# it and as the page that it announces could show. The file with one is refused, all its other samples with it, and
# node_textfile_scrape_error is 1: such names reach Prometheus by scrape and by Pushgateway, and not by a file.
. "$(dirname "$0")/lib.sh"
debs sid/prometheus-node-exporter=1.11.1-3
mkdir "$lab/text"
port=$(free_port)
"$lab/root/usr/bin/prometheus-node-exporter" --collector.disable-defaults --collector.textfile --collector.textfile.directory="$lab/text" \
    --web.listen-address="127.0.0.1:$port" > "$lab/log" 2>&1 &
page() {
    printf '%s\n' "$@" > "$lab/text/a.prom"
    curl -s -D "$lab/head" -H 'Accept: text/plain;version=1.0.0;escaping=allow-utf-8' "http://127.0.0.1:$port/metrics" > "$lab/page"
    echo "$(tr -d '\r' < "$lab/head" | grep -o 'version=.*'), $(sed -n 's/^jobs //p' "$lab/page" | grep . || echo none), error $(sed -n 's/^node_textfile_scrape_error //p' "$lab/page")"
}
wait_for curl -s "http://127.0.0.1:$port/"
expect "a plain name" "version=0.0.4; charset=utf-8; escaping=allow-utf-8, 5, error 0" "$(page 'jobs 5')"
expect "a quoted name beside it" "version=0.0.4; charset=utf-8; escaping=allow-utf-8, none, error 1" "$(page 'jobs 5' '{"jobs.done"} 5')"
expect "a quoted label beside it" "version=0.0.4; charset=utf-8; escaping=allow-utf-8, none, error 1" "$(page 'jobs 5' 'x{"a.b"="c"} 5')"
finish
