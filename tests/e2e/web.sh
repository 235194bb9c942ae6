#!/bin/sh
# Curl and real Prometheus servers against health checks (23), a landing page (27) and a web configuration file (25), which
# promtool and Prometheus itself are given too.
. "$(dirname "$0")/lib.sh"

answer_is() { want=$1; shift; [ "$(curl -sS -m 5 -o "$tmp/page" -w '%{http_code}' "$@")" = "$want" ]; }
curl_fails() { code=$1; shift; curl -sS -m 5 -o /dev/null "$@"; [ $? = "$code" ]; }
logged() { grep -q -e "$2" "$tmp/$1.log"; }
says() { grep -q -x -e "$1" "$tmp/page"; }

# ---- 23_health ----
port=$(free_port)
start 23 "$B/examples/23_health" "$port"
here=http://localhost:$port
ok "23_health starts" within 10 logged 23 "^http://127.0.0.1:$port/\$"
ok "it is healthy" answer_is 200 $here/-/healthy
ok "and says ok" says ok
ok "it is not ready yet" answer_is 503 $here/-/ready
ok "and says why" says 'the cache is being filled'
ok "then it is" within 10 answer_is 200 $here/-/ready
ok "HEAD says the same" answer_is 200 -I $here/-/ready
ok "the page is beside it" answer_is 200 $here/metrics
kill -STOP "$pid"; sleep 0.1; kill -CONT "$pid"
ok "a program that was stopped for a moment is healthy" answer_is 200 $here/-/healthy

# ---- 27_landing_page ----
port=$(free_port)
start 27 "$B/examples/27_landing_page" "$port"
here=http://localhost:$port
ok "27_landing_page starts" within 10 logged 27 "^http://127.0.0.1:$port/\$"
ok "/ is for people" answer_is 200 -D "$tmp/head" $here/
ok "it draws the histogram" grep -q '<svg role=img .*aria-label="15 buckets; the fullest, up to ' "$tmp/page"
ok "the policy allows the style that the page has, and no other" python3 -c '
import base64, hashlib, re, sys
style = re.search(rb"<style>(.*?)</style>", open(sys.argv[2], "rb").read(), re.S).group(1)
want = "style-src \x27sha256-" + base64.b64encode(hashlib.sha256(style).digest()).decode() + "\x27;"
sys.exit(want not in open(sys.argv[1]).read())' "$tmp/head" "$tmp/page"
ok "every element of it is closed where HTML asks for that" python3 -c '
import html.parser, sys
may_stay, void, open_now = {"p", "li", "tr", "td", "th", "tbody", "thead"}, {"meta", "input", "br", "path"}, []
class check(html.parser.HTMLParser):
    def handle_starttag(self, tag, attrs):
        if tag not in void | may_stay: open_now.append(tag)
    def handle_endtag(self, tag):
        if tag not in void | may_stay: assert open_now.pop() == tag, tag
check().feed(open(sys.argv[1]).read())
assert not open_now, open_now' "$tmp/page"
ok "a filter chooses" answer_is 200 "$here/?q=waiting"
ok "what it has" grep -q '<h2><bdi>jobs_waiting' "$tmp/page"
ok "and nothing else" sh -c "! grep -q '<h2><bdi>job_seconds' $tmp/page"
ok "the page for scrapers is beside it" answer_is 200 $here/metrics

# ---- 25_web_config ----
certs=$tmp/certs
sh tests/support/make_certs.sh "$certs" || exit 1
ca="--cacert $certs/ca.pem"
yml=$tmp/web.yml
fill() { # name cert password...: hashes by Python's crypt, as the library under test has no say in them
    : > "$yml.new"
    [ -z "$1" ] || printf 'tls_server_config:\n  cert_file: certs/%s.pem\n  key_file: "certs/%s.key"\n  min_version: %s\n' "$1" "$1" "$2" >> "$yml.new"
    shift 2
    printf 'basic_auth_users: # hashes\n' >> "$yml.new"
    for pair in "$@"; do
        python3 -W ignore -c 'import crypt, sys
name, password, rounds = sys.argv[1].split(":")
print("  %s: %s" % (name, crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << int(rounds)))))' "$pair" >> "$yml.new"
    done
    mv "$yml.new" "$yml"
}
fill server TLS12 alice:secret:10 bob:hunter2:4
for promtool in promtool-2.42 promtool-3; do
    ok "$promtool takes the file" "$LAB/bin/$promtool" check web-config "$yml"
done
port=$(free_port)
start 25 "$B/examples/25_web_config" "$port" "$yml"
https=https://localhost:$port ours=$port
ok "25_web_config starts" within 10 logged 25 "^https://127.0.0.1:$port/\$"
ok "alice gets in" answer_is 200 $ca -u alice:secret $https/metrics
ok "and gets the page" says 'answers_total 42'
ok "and again, on one connection" answer_is 200200 $ca -u alice:secret $https/metrics -o /dev/null $https/metrics
ok "bob too" answer_is 200 $ca -u bob:hunter2 $https/metrics
ok "a wrong password: 401" answer_is 401 $ca -u alice:secre $https/metrics
ok "an unknown user: 401" answer_is 401 $ca -u carol:secret $https/metrics
ok "no user: 401" answer_is 401 $ca $https/metrics
ok "curl is told that Basic is asked for" sh -c "curl -sSi -m 5 $ca $https/metrics | grep -q '^WWW-Authenticate: Basic'"
ok "TLS 1.2 is enough" answer_is 200 $ca --tls-max 1.2 -u alice:secret $https/metrics
cp "$yml" "$tmp/good.yml"
for prometheus in prometheus-2.42 prometheus-3; do
    tls="scheme: https, tls_config: {ca_file: $certs/ca.pem, server_name: localhost}"
    scraped_by "$prometheus" --web.config.file="$tmp/good.yml" <<YML
- {job_name: good, $tls, basic_auth: {username: alice, password: secret}, static_configs: [{targets: ["127.0.0.1:$ours"]}]}
- {job_name: wrong, $tls, basic_auth: {username: alice, password: other}, static_configs: [{targets: ["127.0.0.1:$ours"]}]}
YML
    theirs=https://localhost:$port
    ok "$prometheus serves by the same file" within 30 answer_is 200 $ca -u alice:secret $theirs/-/ready
    for who in alice:secre carol:secret; do ok "$prometheus refuses $who too" answer_is 401 $ca -u $who $theirs/-/ready; done
    is() {
        curl -sS -m 5 $ca -u alice:secret -G "$theirs/api/v1/query" --data-urlencode "query=$1" |
            python3 -c 'import json, sys; r = json.load(sys.stdin)["data"]["result"]; sys.exit(not r or r[0]["value"][1] != sys.argv[1])' "$2"
    }
    ok "$prometheus scrapes with the right password" within 30 is 'up{job="good"}' 1
    ok "$prometheus finds us down with a wrong one" within 20 is 'up{job="wrong"}' 0
    ok "$prometheus has the value" within 20 is 'answers_total{job="good"}' 42
    kill "$pid"  # its wrong password is hashed each second
done
fill server2 TLS13 alice:changed:5
ok "a changed file is read: the new password" within 10 answer_is 200 $ca -u alice:changed $https/metrics
ok "the old one is wrong" answer_is 401 $ca -u alice:secret $https/metrics
ok "bob is gone" answer_is 401 $ca -u bob:hunter2 $https/metrics
ok "TLS 1.2 is too old now" curl_fails 35 $ca --tls-max 1.2 $https/metrics
fill '' '' alice:secret:4
ok "a file without TLS is told of" within 10 sh -c "curl -sS -m 5 $ca -o /dev/null -u alice:x $https/metrics; grep -q 'tls_server_config was added or removed' $tmp/25.log"
printf 'basic_auth_users:\n  alice: secret\n' > "$yml.new"; mv "$yml.new" "$yml"
ok "so is a password in clear" within 10 sh -c "curl -sS -m 5 $ca -o /dev/null -u alice:x $https/metrics; grep -q 'web.yml:2: basic_auth_users.alice: not a bcrypt hash' $tmp/25.log"
ok "and the last good file stays in use" answer_is 200 $ca -u alice:changed $https/metrics
ok "nothing shows a password or a hash" sh -c "! grep -e secret -e changed -e '[$]2.[$][0-9]' $tmp/25.log"
finish
