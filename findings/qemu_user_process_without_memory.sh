#!/bin/sh
# qemu-user 7.2 (Debian 1:7.2+dfsg-7+deb12u18+b3), and exporters built for 64-bit ARM that run under it, as in a multi-arch container.
# One would guess that the process metrics are those of the emulator's process, or missing: they are read from /proc.
# qemu answers /proc/self/stat itself: name, parent and start time are right, all else is 0. So an exporter of client_golang
# (Debian's Pushgateway 1.5.1) has 0 bytes of memory and 0 s of CPU, while its start time and its open files are right.
# /proc/self/statm and /proc/self/status are passed through and have the memory.
. "$(dirname "$0")/lib.sh"
debs qemu-user=1:7.2+dfsg-7+deb12u18+b3
pool=http://deb.debian.org/debian/pool/main
for deb in p/prometheus-pushgateway/prometheus-pushgateway_1.5.1-2+b5_arm64.deb g/glibc/libc6_2.36-9+deb12u14_arm64.deb \
    b/busybox/busybox-static_1.35.0-4+deb12u1+b1_arm64.deb; do
    curl -sSf -o "$lab/arm.deb" "$pool/$deb" || { echo "cannot get $deb" >&2; exit 2; }
    dpkg -x "$lab/arm.deb" "$lab/arm"
done
qemu="$lab/root/usr/bin/qemu-aarch64 -L $lab/arm"
stat() { $qemu "$lab/arm/bin/busybox" cat /proc/self/stat | awk '{ print "threads " $20 ", virtual " $23 ", resident " $24 ", started " ($22 > 0 ? "yes" : "no") }'; }
expect "/proc/self/stat: threads, memory, start" 'threads 0, virtual 0, resident 0, started yes' "$(stat)"
expect "/proc/self/statm has pages" yes "$($qemu "$lab/arm/bin/busybox" cat /proc/self/statm | awk '{ print ($1 > 0 && $2 > 0) ? "yes" : "no" }')"
port=$(free_port)
$qemu "$lab/arm/usr/bin/prometheus-pushgateway" --web.listen-address="127.0.0.1:$port" --persistence.file= > "$lab/log" 2>&1 &
wait_for curl -sf "http://127.0.0.1:$port/metrics"
shown() { curl -s "http://127.0.0.1:$port/metrics" | awk -v name="process_$1" '$1 == name { print ($2 > 0 ? "above 0" : $2) }'; }
expect "resident memory" 0 "$(shown resident_memory_bytes)"
expect "virtual memory" 0 "$(shown virtual_memory_bytes)"
expect "CPU" 0 "$(shown cpu_seconds_total)"
expect "start time" 'above 0' "$(shown start_time_seconds)"
expect "open files" 'above 0' "$(shown open_fds)"
finish
