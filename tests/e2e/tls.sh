#!/bin/sh
# Curl, openssl s_client and real Prometheus servers against TLS, mutual TLS, basic and bearer authentication.
. "$(dirname "$0")/lib.sh"

[ -x "$B/e2e/tls_server" ] || { echo "FAILED  $B/e2e/tls_server is not built"; exit 1; }
certs=$tmp/certs
sh tests/support/make_certs.sh "$certs" || exit 1
server() { # name [name value]...: sets $port
    port=$(free_port) name=$1; shift
    start "$name" "$B/e2e/tls_server" "$port" "$@"
    within 10 test -s "$tmp/$name.log" || ok "$name starts" false
}
curls() { curl -sS -m 5 -o "$tmp/page" -w '%{http_code}' "$@"; }
answer_is() { want=$1; shift; [ "$(curls "$@")" = "$want" ]; }
curl_fails() { code=$1; shift; curls "$@"; [ $? = "$code" ]; }
says() { pattern=$1; shift; "$@" 2>&1 < /dev/null | grep -q -e "$pattern"; }
logged() { grep -q "$2" "$tmp/$1.log"; }
ca="--cacert $certs/ca.pem"
us="--cert $certs/client.pem --key $certs/client.key"
refused() { curls $ca "$@" $https/metrics; code=$?; case $code in 35|56|60) ;; *) return 1 ;; esac; }  # by an alert

for by in openssl mbedtls; do
    server "$by" by $by cert "$certs/server.pem" key "$certs/server.key"
    https=https://localhost:$port
    ok "$by: url() is https" logged $by "^https://127.0.0.1:$port/\$"
    ok "$by: curl gets the page" answer_is 200 $ca $https/metrics
    ok "$by: curl gets it by IP address" answer_is 200 $ca https://127.0.0.1:$port/metrics
    ok "$by: curl that offers h2 gets HTTP/1.1" says 'HTTP/1.1 200' curl -sSi -m 5 --http2 $ca $https/metrics
    ok "$by: TLS 1.2 is enough" answer_is 200 $ca --tls-max 1.2 $https/metrics
    ok "$by: TLS 1.1 is refused" curl_fails 35 $ca --ciphers DEFAULT@SECLEVEL=0 --tlsv1.0 --tls-max 1.1 $https/metrics
    ok "$by: curl without the CA refuses us" curl_fails 60 $https/metrics
    ok "$by: curl keeps the connection" says 'Re-using existing connection' curl -sv -m 5 $ca $https/metrics $https/metrics
    ok "$by: plain HTTP gets one 400 that says why" answer_is 400 http://localhost:$port/metrics
    ok "$by: and its words are clear" grep -q TLS "$tmp/page"
    ok "$by: s_client verifies the certificate" says 'Verify return code: 0' \
        openssl s_client -connect localhost:$port -CAfile "$certs/ca.pem" -verify_hostname localhost
    ok "$by: s_client finds h2 not chosen" says 'ALPN protocol: http/1.1\|No ALPN negotiated' \
        openssl s_client -connect localhost:$port -CAfile "$certs/ca.pem" -alpn h2,http/1.1
    ok "$by: s_client that offers only h2 is not turned away" says 'Verify return code: 0' \
        openssl s_client -connect localhost:$port -CAfile "$certs/ca.pem" -alpn h2
    ok "$by: no renegotiation" says 'Secure Renegotiation IS supported\|no renegotiation\|closed' \
        sh -c "printf 'R\n' | openssl s_client -tls1_2 -connect localhost:$port -CAfile '$certs/ca.pem'"

    server $by-mutual by $by cert "$certs/server.pem" key "$certs/server.key" client-ca "$certs/ca.pem" \
        subject 'CN=scraper,O=Tests\, Inc,C=DE'
    https=https://localhost:$port
    ok "$by: a known client gets in" answer_is 200 $ca $us $https/metrics
    ok "$by: a stranger with a good certificate gets 401" \
        answer_is 401 $ca --cert "$certs/stranger.pem" --key "$certs/stranger.key" $https/metrics
    ok "$by: no certificate, no page" refused
    ok "$by: a certificate of another CA, no page" refused --cert "$certs/client-other.pem" --key "$certs/client-other.key"
    ok "$by: an expired certificate, no page" refused --cert "$certs/client-expired.pem" --key "$certs/client-expired.key"
    ok "$by: each refusal is told, with its reason" within 5 logged $by-mutual 'TLS: .*cert'

    for bad in expired wronghost; do
        server $by-$bad by $by cert "$certs/$bad.pem" key "$certs/$bad.key"
        ok "$by: curl refuses us with the certificate $bad" curl_fails 60 $ca https://localhost:$port/metrics
        # Of a wrong host curl complains when the handshake is over, to itself.
        [ $bad = wronghost ] || ok "$by: and that is told" within 5 logged $by-$bad 'event .*TLS'
    done
done

server live cert "$certs/live.pem" key "$certs/live.key" # not there yet
ok "a server without its certificate says which" logged live "cannot load certificate $certs/live.pem"
cp "$certs/server.pem" "$certs/live.pem"; cp "$certs/server.key" "$certs/live.key"
server live cert "$certs/live.pem" key "$certs/live.key"
serial() { openssl s_client -connect localhost:$port < /dev/null 2> /dev/null | openssl x509 -noout -serial; }
old=$(serial)
is_new() { new=$(serial); [ -n "$new" ] && [ "$new" != "$old" ]; }
cp "$certs/broken.pem" "$certs/live.new"; mv "$certs/live.new" "$certs/live.pem"
ok "a broken certificate is told of" within 10 sh -c "curl -sS -m 5 $ca -o /dev/null https://localhost:$port/; grep -q 'cannot load certificate' $tmp/live.log"
ok "and the old one stays" test "$(serial)" = "$old"
cp "$certs/server2.key" "$certs/live.key"; cp "$certs/server2.pem" "$certs/live.new"; mv "$certs/live.new" "$certs/live.pem"
ok "a new certificate is served without a restart" within 10 is_new

server auth cert "$certs/server.pem" key "$certs/server.key" user scraper password secret bearer t0ken
https=https://localhost:$port auth=$port
ok "without credentials: 401" answer_is 401 $ca $https/metrics
ok "the challenge names both schemes" says 'WWW-Authenticate: Bearer' curl -sSi -m 5 $ca $https/metrics
ok "basic authentication" answer_is 200 $ca -u scraper:secret $https/metrics
ok "a wrong password: 401" answer_is 401 $ca -u scraper:secre $https/metrics
ok "bearer authentication" answer_is 200 $ca -H 'Authorization: Bearer t0ken' $https/metrics
ok "401 comes before 404" answer_is 401 $ca $https/nowhere
ok "two Authorization fields: 400" answer_is 400 $ca -H 'Authorization: Bearer t0ken' -H 'Authorization: Bearer t0ken' $https/metrics
ok "no event shows a credential" sh -c "! grep -q 'secre\|t0ken' $tmp/auth.log"

server slow cert "$certs/server.pem" key "$certs/server.key" series 200000
slow=$port slow_pid=$pid
rss() { awk '/^VmRSS/ { print $2 }' "/proc/$slow_pid/status"; }
ok "a page of 10 MB over TLS" answer_is 200 $ca https://localhost:$slow/metrics
ok "is whole" sh -c "[ \$(grep -c '^items_total{' $tmp/page) = 200000 ]"
before=$(rss)
readers=
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    curl -sS --limit-rate 50k $ca -o /dev/null https://localhost:$slow/metrics 2> /dev/null &
    readers="$readers $!" started="$started $!"
done
sleep 2
after=$(rss)
ok "twenty slow readers of it cost less than 8 MB ($before kB, then $after kB)" test $((after - before)) -lt 8192
ok "and do not keep another from it" answer_is 200 $ca https://localhost:$slow/metrics
for reader in $readers; do kill "$reader" 2> /dev/null; done

server mutual-scrape by mbedtls cert "$certs/server.pem" key "$certs/server.key" client-ca "$certs/ca.pem" series 10
mutual=$port
server tls-scrape cert "$certs/server.pem" key "$certs/server.key" series 10
plain_tls=$port
for prometheus in prometheus-2.42 prometheus-3; do
    tls="scheme: https, tls_config: {ca_file: $certs/ca.pem, server_name: localhost"
    scraped_by "$prometheus" <<YML
- {job_name: tls, $tls}, static_configs: [{targets: ["127.0.0.1:$plain_tls"]}]}
- {job_name: mutual, $tls, cert_file: $certs/client.pem, key_file: $certs/client.key}, static_configs: [{targets: ["127.0.0.1:$mutual"]}]}
- {job_name: uncertified, $tls}, static_configs: [{targets: ["127.0.0.1:$mutual"]}]}
- {job_name: basic, $tls}, basic_auth: {username: scraper, password: secret}, static_configs: [{targets: ["127.0.0.1:$auth"]}]}
- {job_name: bearer, $tls}, authorization: {credentials: t0ken}, static_configs: [{targets: ["127.0.0.1:$auth"]}]}
- {job_name: wrong, $tls}, authorization: {credentials: other}, static_configs: [{targets: ["127.0.0.1:$auth"]}]}
YML
    query() {
        curl -sS -m 5 -G "http://127.0.0.1:$port/api/v1/query" --data-urlencode "query=$1" |
            python3 -c 'import json, sys; r = json.load(sys.stdin)["data"]["result"]; print(r[0]["value"][1] if r else "none")'
    }
    is() { [ "$(query "$1")" = "$2" ]; }
    ok "$prometheus scrapes over TLS" within 60 is 'up{job="tls"}' 1
    ok "$prometheus scrapes over mutual TLS" within 20 is 'up{job="mutual"}' 1
    ok "$prometheus scrapes with basic authentication" within 20 is 'up{job="basic"}' 1
    ok "$prometheus scrapes with a bearer token" within 20 is 'up{job="bearer"}' 1
    ok "$prometheus without a certificate finds us down" within 20 is 'up{job="uncertified"}' 0
    ok "$prometheus with a wrong token finds us down" within 20 is 'up{job="wrong"}' 0
    reason() { curl -sS -m 5 "http://127.0.0.1:$port/api/v1/targets" | python3 -c '
import json, sys
print([t["lastError"] for t in json.load(sys.stdin)["data"]["activeTargets"] if t["labels"]["job"] == sys.argv[1]][0])' "$1"; }
    ok "$prometheus was told why: a certificate is missing" says 'tls: ' reason uncertified
    ok "$prometheus was told why: 401" says '401' reason wrong
    ok "$prometheus scraped the page" within 20 is 'count(items_total{job="tls"})' 10
done

# The examples, as their first comments say.
port=$(free_port)
start 08 "$B/examples/08_tls" "$port" "$certs/server.pem" "$certs/server.key"
https=https://localhost:$port
ok "08_tls starts" within 10 logged 08 "^https://127.0.0.1:$port/\$"
ok "08_tls: curl gets the page with the password" answer_is 200 $ca -u scraper:secret $https/metrics
ok "08_tls: and it is the one shown" grep -q '^answers_total 42$' "$tmp/page"
ok "08_tls: 401 without" answer_is 401 $ca $https/metrics
ok "08_tls: the bearer token is as good" answer_is 200 $ca -H 'Authorization: Bearer t0ken' $https/metrics
ok "08_tls: 400 to plain HTTP" answer_is 400 http://localhost:$port/metrics
port=$(free_port)
start 13 "$B/examples/13_mutual_tls" "$port" "$certs"
https=https://localhost:$port
ok "13_mutual_tls starts" within 10 logged 13 "^https://127.0.0.1:$port/\$"
ok "13_mutual_tls: a known client gets in" answer_is 200 $ca $us $https/metrics
ok "13_mutual_tls: and is told" within 5 logged 13 '^CN=scraper,O=Tests\\, Inc,C=DE asks for /metrics$'
ok "13_mutual_tls: a stranger of the right CA gets 401" answer_is 401 $ca --cert "$certs/stranger.pem" --key "$certs/stranger.key" $https/metrics
ok "13_mutual_tls: no certificate, no page" refused
ok "13_mutual_tls: a server's certificate is none of a client" refused --cert "$certs/server.pem" --key "$certs/server.key"
finish
