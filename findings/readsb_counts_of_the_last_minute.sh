#!/bin/sh
# readsb 3.16 (Debian sid readsb 3.16-2), a receiver of aircraft, with --write-prom=FILE for node_exporter's textfile collector.
# readsb_messages_valid, readsb_network_bytes_in, readsb_position_count_total: one would guess counters since the start, and asks for
# their rate. The file has no TYPE lines, and these are the counts of the last whole minute: after a minute without messages they are 0,
# so a rate of them is nonsense and increase() over an hour far too large. Without an aircraft the signal strengths are not absent but
# -50.0, a value that a weak one may have. (This takes about two minutes.)
. "$(dirname "$0")/lib.sh"
needs sid readsb=3.16-2
port=$(free_port) file=$lab/readsb.prom
$own "$lab/root/usr/bin/readsb" --net-only --net-ri-port "$port" --net-bi-port 0 --net-bo-port 0 --net-ro-port 0 --net-sbs-port 0 --quiet \
    --write-prom="$file" > "$lab/log" 2>&1 &
value() { sed -n "s/^$1 //p" "$file"; }
reaches() { # VALUE SECONDS
    for _ in $(seq "$2"); do [ "$(value readsb_messages_valid 2> /dev/null)" = "$1" ] && return; sleep 1; done
    echo "gave up waiting for $1" >&2; exit 2
}
cat > "$lab/send.py" <<'PY'
import socket, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for _ in range(5): s.sendall(b"*8D4840D6202CC371C32CE0576098;\n"); time.sleep(0.1)
PY
wait_for python3 "$lab/send.py" "$port"
reaches 5 100
expect "messages, octets" "5 155" "$(value readsb_messages_valid) $(value readsb_network_bytes_in)"
expect "lines that begin with #" 0 "$(grep -c '^#' "$file" || :)"
reaches 0 100
expect "a minute later" "0 0" "$(value readsb_messages_valid) $(value readsb_network_bytes_in)"
finish
