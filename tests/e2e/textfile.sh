#!/bin/sh
# Real node_exporters read what the textfile example writes.
. "$(dirname "$0")/lib.sh"

job=$B/examples/29_textfile
[ -x "$job" ] || { echo "FAILED  $job is not built"; exit 1; }
mkdir "$tmp/metrics"
page() { curl -sS -m 10 "http://127.0.0.1:$port/metrics"; }
shows() { page > "$tmp/page" && grep -qx "$1" "$tmp/page"; }
hides() { page > "$tmp/page" && ! grep -q "$1" "$tmp/page"; }
as_root() { [ "$(id -u)" = 0 ] && command -v setpriv > /dev/null; }
for exporter in node_exporter-1.5 node_exporter-1; do
    rm -f "$tmp/metrics/"*
    port=$(free_port)
    chmod 755 "$tmp" "$tmp/metrics"
    other=
    as_root && other="setpriv --reuid=65534 --regid=65534 --clear-groups"  # another user, as it is on a real host
    start $exporter $other "$LAB/bin/$exporter" --collector.disable-defaults --collector.textfile \
        --collector.textfile.directory="$tmp/metrics" --web.listen-address="127.0.0.1:$port"
    served=$pid
    ok "$exporter serves" within 20 answers "http://127.0.0.1:$port/metrics"
    ok "a job writes its file, under a strict umask" sh -c "umask 077; '$job' '$tmp/metrics/backup.prom'"
    ok "$exporter shows its counter" shows 'backup_bytes_total 1.048576e+06'
    ok "$exporter shows its HELP" shows '# HELP backup_bytes_total Octets saved by the last backup\.'
    ok "$exporter shows its TYPE" shows '# TYPE backup_bytes_total counter'
    ok "$exporter found no fault" shows 'node_textfile_scrape_error 0'
    ok "$exporter knows when it was written" shows "node_textfile_mtime_seconds{file=\"$tmp/metrics/backup.prom\"} .*"
    cp "$tmp/metrics/backup.prom" "$tmp/metrics/other.prom.1.tmp"
    ok "$exporter does not take an unfinished file" shows 'node_textfile_scrape_error 0'
    rm "$tmp/metrics/backup.prom"
    ok "$exporter shows no more of a file that is gone" hides backup_bytes_total
    start daemon "$job" "$tmp/metrics/daemon.prom" 5
    daemon=$pid
    ok "$exporter shows what a program writes by itself" within 20 shows 'backup_bytes_total [1-9][0-9]*'
    sed -n 's/^backup_bytes_total //p' "$tmp/page" > "$tmp/first"
    more() { page > "$tmp/page" && [ "$(sed -n 's/^backup_bytes_total //p' "$tmp/page")" -gt "$(cat "$tmp/first")" ]; }
    ok "$exporter shows more of it later" within 20 more
    ok "$exporter shows how often it was written" shows "prometheus_async_textfile_written_total{path=\"$tmp/metrics/daemon.prom\"} [1-9][0-9]*"
    ok "$exporter found no fault in any of them" shows 'node_textfile_scrape_error 0'
    ok "the program ends well" wait $daemon
    ok "$exporter shows no more of it then" hides backup_bytes_total
    ok "and the folder is empty but for what was put there" sh -c "[ \"\$(ls '$tmp/metrics')\" = other.prom.1.tmp ]"
    kill "$served"
done
ok "a path that node_exporter does not read is refused" sh -c "! '$job' '$tmp/metrics/backup.txt' 2> '$tmp/said'"
ok "and the error says why" grep -q 'must end in \.prom' "$tmp/said"
ok "a directory that is not there is named" sh -c "! '$job' '$tmp/none/backup.prom' 2> '$tmp/said' && grep -q '$tmp/none/backup.prom.*No such file' '$tmp/said'"
finish
