#!/bin/sh
# The CLI of Consul 1.8.7 (Debian bullseye 1.8.7+dfsg1-2+b3) with CONSUL_HTTP_SSL=true and an agent behind a unix socket.
# One would guess that TLS is left out, or that the pair is refused: an agent speaks plain HTTP on its socket.
# The CLI begins a TLS handshake on the socket.
. "$(dirname "$0")/lib.sh"
debs bullseye/consul=1.8.7+dfsg1-2+b3
cat > "$lab/listen.py" <<'PY'
import socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1)
c, _ = s.accept()
first = c.recv(3)
print("TLS" if first[:1] == b"\x16" else "HTTP" if first[:3] == b"GET" else first)
PY
first() { # value of CONSUL_HTTP_SSL
    rm -f "$lab/sock"
    python3 "$lab/listen.py" "$lab/sock" > "$lab/first" & listener=$!
    wait_for test -S "$lab/sock"
    CONSUL_HTTP_ADDR="unix://$lab/sock" CONSUL_HTTP_SSL=$1 timeout 5 "$lab/root/usr/bin/consul" catalog services > /dev/null 2>&1 || :
    wait $listener
    cat "$lab/first"
}
expect "CONSUL_HTTP_SSL=false" HTTP "$(first false)"
expect "CONSUL_HTTP_SSL=true" TLS "$(first true)"
finish
