#!/bin/sh
# node_exporter 1.5.0 (Debian prometheus-node-exporter 1.5.0-1+b6; 1.11.1 of Debian sid does the same), textfile collector.
# It has node_textfile_scrape_error, "1 if there was an error opening or reading a file", to alert on. One would guess that a file
# whose content cannot be shown sets it, as a file with a bad line does. Two files with the same series, or with one name
# as gauge and as counter: one of them is left out, with status 200 and the error at 0; only the program's log tells.
. "$(dirname "$0")/lib.sh"
debs prometheus-node-exporter=1.5.0-1+b6
mkdir "$lab/text"
page() {
    port=$(free_port)
    "$lab/root/usr/bin/prometheus-node-exporter" --collector.disable-defaults --collector.textfile --collector.textfile.directory="$lab/text" \
        --web.listen-address="127.0.0.1:$port" > "$lab/log" 2>&1 & node=$!
    wait_for curl -s "http://127.0.0.1:$port/"
    curl -s -w 'status %{http_code}\n' "http://127.0.0.1:$port/metrics" | grep -E '^(jobs|status|node_textfile_scrape_error)' | cut -d' ' -f2 | paste -sd' '
    kill $node
}
files() { printf "$1" > "$lab/text/a.prom"; printf "$2" > "$lab/text/b.prom"; }
head='# HELP jobs h\n# TYPE jobs gauge\n'
files "$head"'jobs{f="a"} 5\n' "$head"'jobs{f="b"} 5\n'
expect "two series: values, error, status" "5 5 0 200" "$(page)"
files "$head"'jobs 5\n' "$head"'jobs 5\n'
expect "one series in both" "5 0 200" "$(page)"
expect "the log" "was collected before with the same name and label values" "$(grep -o 'was collected before with the same name and label values' "$lab/log")"
files "$head"'jobs{f="a"} 5\n' '# HELP jobs h\n# TYPE jobs counter\njobs{f="b"} 5\n'
expect "gauge in one, counter in the other" "5 0 200" "$(page)"
files "$head"'jobs{f="a"} 5\n' "$head"'jobs{f="b"} five\n'
expect "a bad line in one" "5 1 200" "$(page)"
finish
