#!/bin/sh
# The quickstart under raw requests: tests/http/cases.json, whole, octet by octet, and cut at each octet.
. "$(dirname "$0")/lib.sh"
port=$(free_port)
start quickstart "$B/examples/01_quickstart" "$port"
quickstart=$pid
ok "the quickstart serves" within 20 answers "http://127.0.0.1:$port/metrics"
cases=$(dirname "$0")/../http/run_cases.py
for how in "" --split --split-every; do
    ok "every case of the profile 'ours' passes ${how:-whole}" python3 "$cases" --port "$port" --profile ours $how
done
ok "IPv6 too" python3 "$cases" --host ::1 --port "$port" --profile ours --only baseline,pipelining
ends() { kill -TERM "$quickstart" && wait "$quickstart"; }
ok "the quickstart ends with 0 on SIGTERM" ends
in_use() {
    python3 -c 'import socket, sys, time; s = socket.socket(); s.bind(("127.0.0.1", int(sys.argv[1]))); s.listen(); time.sleep(30)' "$port" &
    holder=$!
    started="$started $holder"
    within 10 sh -c "! python3 -c 'import socket; socket.socket().bind((\"127.0.0.1\", $port))' 2> /dev/null"
    said=$("$B/examples/01_quickstart" "$port" 2>&1) && return 1
    kill $holder
    [ "$said" = "cannot listen on 0.0.0.0:$port: Address already in use" ] || { echo "$said"; return 1; }
}
ok "a port in use is told, and ends with 1" in_use
finish
