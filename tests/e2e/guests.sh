#!/bin/sh
# The loop as a guest: the examples that drive a server from libuv and from a poll() loop answer a scraper,
# keep their own work going, time out a silent client, and end cleanly.
. "$(dirname "$0")/lib.sh"

guest() { # name input...: starts the example, waits until it answers
    name=$1
    port=$(free_port)
    mkfifo "$tmp/$name.in"
    start "$name" sh -c "exec '$B/examples/$name' $port < '$tmp/$name.in'"
    exec 7> "$tmp/$name.in"
    ok "$name serves" within 10 answers "http://127.0.0.1:$port/metrics"
}
scrape() { curl -sS -m 5 "http://127.0.0.1:$port/metrics"; }
says() { scrape | grep -q "$1"; }
times_out() { # a client that says nothing is let go by a timer of the guest's, though the host knows no timers
    python3 - "$port" <<'EOP'
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.settimeout(15)
s.sendall(b"GET /met")
sys.exit(0 if s.recv(100).startswith(b"HTTP/1.1 408 ") else 1)
EOP
}
ends() { kill -TERM "$pid" && within 5 gone && wait "$pid"; }
gone() { ! kill -0 "$pid" 2> /dev/null || [ "$(sed 's/.*) //' "/proc/$pid/stat" | cut -c1)" = Z ]; }

guest 09_your_own_loop_libuv
ok "libuv's timer goes on" within 5 says '^ticks_total [2-9]'
ok "under libuv, a request that does not end is answered 408" times_out
ok "under libuv, the program ends cleanly" ends

guest 10_your_own_loop_poll
printf hello >&7
ok "the poll() loop reads its own input" within 5 says '^input_bytes_total 5$'
ok "under poll(), a request that does not end is answered 408" times_out
ok "under poll(), the program ends cleanly" ends
finish
