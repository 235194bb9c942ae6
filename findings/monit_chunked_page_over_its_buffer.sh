#!/bin/sh
# monit 5.33.0 (Debian 1:5.33.0-1), `check host ... with content = "..."`, a page longer than httpContentBuffer (1 MB by default).
# One would guess that the page is cut at the limit. It is with Content-Length; the same page in chunks is an error
# ("invalid chunk size"), depending on where the limit falls in a chunk. A larger httpContentBuffer helps.
. "$(dirname "$0")/lib.sh"
debs monit=1:5.33.0-1
python3 -c 'print("# ok\n" + "x{a=\"%s\"} 1\n" * 1 % ("y" * 100) * 24000)' > "$lab/page"
check() { # serve's last argument, limits
    CHUNK=10000; export CHUNK
    serve "$lab/page" 'text/plain' "$1"; server=$!
    cat > "$lab/monitrc" <<CONF
set daemon 1
set pidfile $lab/pid
set idfile $lab/id
set statefile $lab/state
set log $lab/log
${2:-}
check host page with address 127.0.0.1
    if failed port $port protocol http request "/" with content = "ok" then alert
CONF
    chmod 600 "$lab/monitrc"; : > "$lab/log"
    "$lab/root/usr/bin/monit" -I -c "$lab/monitrc" > /dev/null 2>&1 & monit=$!
    wait_for test -s "$lab/page.requests"
    sleep 3
    kill $monit $server; wait $monit 2> /dev/null || :
    rm -f "$lab/page.requests"
    grep -o 'invalid chunk size' "$lab/log" | head -n 1 | grep . || { grep -q 'failed protocol test' "$lab/log" && echo "failed otherwise" || echo passed; }
}
expect "Content-Length" passed "$(check '')"
expect "chunked" 'invalid chunk size' "$(check chunked)"
expect "chunked, a larger buffer" passed "$(check chunked 'set limits { httpContentBuffer: 16 MB }')"
finish
