#!/bin/sh
# Bounded abuse of a server while well-behaved clients scrape it, from another address and from the attacker's.
# SCALE=1 HOLD=12 P99=250 is full scale; CI has a busy machine and takes a tenth of it, with room in the latencies.
. "$(dirname "$0")/lib.sh"
needs_speed
scale=${SCALE:-0.1} hold=${HOLD:-3} p99=${P99:-500}
abuse=$(dirname "$0")/../http/abuse.py
port=$(free_port)
start quickstart "$B/examples/01_quickstart" "$port"
ok "the quickstart serves" within 20 answers "http://127.0.0.1:$port/metrics"
for scenario in idle slowheader slowbody slowreader stalledreader churn rst pipeline halftls halfclose bigheader mixed distant; do
    ok "a scraper is served through $scenario" python3 "$abuse" --port "$port" --pid "$pid" --only $scenario --scale "$scale" --hold "$hold" --p99-ms "$p99" --rss-mb 8
done
distant=$(dirname "$0")/../http/distant.py
missing=$(python3 "$distant" --missing 2>&1) || missing="$distant --missing, which ended with $?"
if [ -z "$missing" ]; then
    ok "a scraper whose packets take 50 ms is served at the attacker's own address" python3 "$distant" "$B/examples/01_quickstart"
else skip "a scraper whose packets take 50 ms is served at the attacker's own address" "$missing"
fi
few() { ulimit -n 64; exec "$B/examples/01_quickstart" "$few_port"; }
few_port=$(free_port)
start few few
ok "the quickstart serves with 64 descriptors" within 20 answers "http://127.0.0.1:$few_port/metrics"
for scenario in idle slowheader; do  # enough of them that the descriptors run out, whatever SCALE is
    ok "a scraper is served through $scenario with 64 descriptors" python3 "$abuse" --port "$few_port" --pid "$pid" --only $scenario --scale 0.5 --hold "$hold" --p99-ms "$p99" --rss-mb 8
done

# A page of 1.9 MB, whose readers are slow in one way or another.
port=$(free_port)
start long "$B/e2e/our_server" 27000 "$port"
ok "a page of 1.9 MB serves" within 20 answers "http://127.0.0.1:$port/metrics"
for scenario in slowreader stalledreader slowtakers freshstall; do
    ok "a scraper is served a page of 1.9 MB through $scenario" python3 "$abuse" --port "$port" --pid "$pid" --only $scenario --scale "$scale" --hold "$hold" --p99-ms "$p99" --rss-mb 8
done

# Handshakes that stop after a whole ClientHello.
if [ -x "$B/e2e/tls_server" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost -keyout "$tmp/key.pem" -out "$tmp/cert.pem" 2> "$tmp/openssl.log"
    port=$(free_port)
    start tls "$B/e2e/tls_server" "$port" cert "$tmp/cert.pem" key "$tmp/key.pem" series 10
    ok "a TLS server serves" within 20 answers -k "https://127.0.0.1:$port/metrics"
    ok "a scraper is served through hellos" python3 "$abuse" --port "$port" --tls-port "$port" --pid "$pid" --only hellos --hold "$hold" --p99-ms "$p99" --rss-mb 8
else skip "handshakes that stop" "$B/e2e/tls_server, which is not built"
fi

# 100,000 series, 200 readers that take nothing: a few MB, and once they were reset a scraper has its page.
port=$(free_port)
start large "$B/e2e/our_server" 100000 "$port"
ok "a page of 100,000 series serves" within 20 answers "http://127.0.0.1:$port/metrics"
ok "200 slow readers of it cost a few MB" python3 "$(dirname "$0")/slow_readers.py" "$port" "$pid" 200 5
finish
