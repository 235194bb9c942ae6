#!/bin/sh
# Caddy 2.11.4 (Debian sid caddy 2.11.4-1) with `encode` before a metrics page. One would guess that a page is compressed in each of its
# formats, or in none. The default list of types has all of text/* and not application/openmetrics-text, nor the protobuf format: the
# same page is compressed for curl and a browser, and grows to its full size for a Prometheus, which prefers the other formats where
# they are offered. What to do: name them in `encode`'s `match`, or compress at the source.
# A HEAD of a page that is compressed answers Content-Length: 20, the size of an empty gzip stream, where GET has the page's.
. "$(dirname "$0")/lib.sh"
needs sid caddy=2.11.4-1
python3 -c 'print("\n".join("x%d 1" % i for i in range(400)))' > "$lab/page"
cat > "$lab/back.py" <<'PY'
import http.server, sys
page = open(sys.argv[1], "rb").read()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", self.headers["Accept"])
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command == "GET": self.wfile.write(page)
    do_HEAD = do_GET
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
PY
back=$(free_port)
python3 "$lab/back.py" "$lab/page" "$back" &
start() { # encode's words
    port=$(free_port)
    printf '{\n admin off\n auto_https off\n}\nhttp://127.0.0.1:%s {\n encode %s\n reverse_proxy 127.0.0.1:%s\n}\n' "$port" "$1" "$back" > "$lab/Caddyfile"
    HOME=$lab $own "$lab/root/usr/bin/caddy" run --config "$lab/Caddyfile" --adapter caddyfile > "$lab/log" 2>&1 &
    wait_for curl -sf "http://127.0.0.1:$port/"
}
answer() { # type [curl's option]: encoding and length
    # shellcheck disable=SC2086
    curl -s ${2:-} -o "$lab/out" -D - -H "Accept: $1" -H 'Accept-Encoding: gzip' "http://127.0.0.1:$port/" | tr -d '\r' |
        sed -n 's/^Content-\(Encoding\|Length\): //p' | sort | paste -sd' '
}
text='text/plain; version=0.0.4; charset=utf-8' om='application/openmetrics-text; version=1.0.0; charset=utf-8'
protobuf='application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited'
start gzip
expect "text" "784 gzip" "$(answer "$text")"
expect "OpenMetrics" "2690" "$(answer "$om")"
expect "protobuf" "2690" "$(answer "$protobuf")"
expect "HEAD of text" "20 gzip" "$(answer "$text" -I)"
start "gzip {
  match header Content-Type application/openmetrics-text*
 }"
expect "OpenMetrics named" "784 gzip" "$(answer "$om")"
finish
