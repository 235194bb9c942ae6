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
in_use() {
    said=$(timeout 10 "$B/examples/01_quickstart" "$port" 2>&1)
    [ $? = 1 ] && [ "$said" = "cannot listen on 0.0.0.0:$port: Address already in use" ] || { echo "$said"; return 1; }
}
ok "a port in use is told, and ends with 1" in_use
ends() { kill -TERM "$quickstart" && wait "$quickstart"; }
ok "the quickstart ends with 0 on SIGTERM" ends
finish
