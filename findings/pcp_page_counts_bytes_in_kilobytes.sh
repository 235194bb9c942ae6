#!/bin/sh
# PCP 7.2.2 (Debian sid pcp 7.2.2-1), the metrics page of its pmproxy. PCP knows the unit of each of its metrics, and disk.all.read_bytes
# is in Kbyte there. One would guess that the page of Prometheus' format has it in bytes, as its conventions want and as the name
# says, or names the unit. disk_all_read_bytes is the number of kilobytes, with the unit in a comment that no scraper reads; so a panel
# that sets it beside node_exporter's node_disk_read_bytes_total is wrong by 1024. There is no help text, and counters have no _total.
. "$(dirname "$0")/lib.sh"
needs sid pcp=7.2.2-1
agent=$(free_port) port=$(free_port) agents=$lab/root/usr/lib/pcp/pmdas
mkdir "$lab/bin" "$lab/run" "$lab/run/pcp"
# Its programs start each other: by these.
for program in "$lab/root/usr/lib/pcp/bin"/*; do printf '#!/bin/sh\nexec %s %s "$@"\n' "$own" "$program" > "$lab/bin/${program##*/}"; done
chmod +x "$lab/bin"/*
sed -n '/^PCP_/p' "$lab/root/etc/pcp.conf" | sed "s#=/\(usr\|var\|etc\)#=$lab/root/\1#; s#=/run#=$lab/run#; s#^\(PCP_LOG_DIR\|PCP_TMP_DIR\|PCP_TMPFILE_DIR\)=.*#\1=$lab/run#; s#^PCP_BINADM_DIR=.*#PCP_BINADM_DIR=$lab/bin#" > "$lab/pcp.conf"
export PCP_CONF="$lab/pcp.conf"
printf 'linux 60 dso linux_init %s\npmcd 2 dso pmcd_init %s\n' "$agents/linux/pmda_linux.so" "$agents/pmcd/pmda_pmcd.so" > "$lab/pmcd.conf"
{
    printf 'root {\n disk\n pmcd\n}\ndisk {\n all\n}\ndisk.all {\n read_bytes 60:0:41\n}\n'
    awk '/^root \{/ { skip = 1 } !skip { print } /^\}/ { skip = 0 }' "$lab/root/usr/lib/pcp/pmns/root_pmcd"
} > "$lab/names"
printf '[pmproxy]\npcp.enabled = true\nhttp.enabled = true\nresp.enabled = false\n[resp]\nenabled = false\n' > "$lab/pmproxy.conf"
"$lab/bin/pmcd" -f -n "$lab/names" -c "$lab/pmcd.conf" -p "$agent" -s "$lab/pmcd.socket" -l "$lab/pmcd.log" -i 127.0.0.1 > "$lab/log" 2>&1 &
"$lab/bin/pmproxy" -f -c "$lab/pmproxy.conf" -p "$port" -s "$lab/pmproxy.socket" -l "$lab/pmproxy.log" -t -i 127.0.0.1 > "$lab/log2" 2>&1 &
page() { curl -sf "http://127.0.0.1:$port/metrics?hostspec=127.0.0.1:$agent&names=disk.all.read_bytes"; }
wait_for page
# Of whole disks; a kilobyte has two of the kernel's sectors.
kernel() { awk '$3 !~ /^(loop|ram|zram|dm-|md|sr|fd)/ && ($3 ~ /^(xv|[shv])d[a-z]+$/ || $3 ~ /^(nvme[0-9]+n|mmcblk)[0-9]+$/) { n += $6 } END { printf "%d", n / 2 }' /proc/diskstats; }
before=$(kernel)
page > "$lab/page"
after=$(kernel)
expect "PCP's unit, in a comment" "counter Kbyte" "$(sed -n 's/^# PCP5 disk.all.read_bytes .* \(counter .*\)$/\1/p' "$lab/page")"
expect "types and help texts" "# TYPE disk_all_read_bytes counter" "$(grep -E '^# (TYPE|HELP)' "$lab/page")"
expect "the kernel's kilobytes" yes "$(awk -v low="$before" -v high="$after" '/^disk_all/ { print ($NF >= low && $NF <= high ? "yes" : "no: " $NF " of " low " to " high) }' "$lab/page")"
finish
