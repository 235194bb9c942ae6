#!/bin/sh
# A real Consul agent, with and without ACLs, and a real Prometheus that finds the example through it; then file_sd.
. "$(dirname "$0")/lib.sh"

agent_at() { # name, further arguments: an agent on ports of its own; sets $http, and $pid
    name=$1; shift
    start "$name" "$LAB/bin/consul" agent -dev -bind=127.0.0.1 -node=here -http-port="$http" -server-port="$rpc" \
        -serf-lan-port="$lan" -serf-wan-port=-1 -dns-port=-1 -grpc-port=-1 -log-level=warn "$@"
}
ports() { http=$(free_port) rpc=$(free_port) lan=$(free_port); }
ask() { curl -sS -m 5 -H "X-Consul-Token: ${master-}" "http://127.0.0.1:$http$1"; }
leads() { ask /v1/status/leader | grep -q :; }
knows() { ask /v1/agent/services | grep -q "\"$1\""; }
forgot() { ! knows "$1"; }
passes() { ask "/v1/health/service/$1?passing" | grep -q ServiceID; }
query() { # port expression -> value
    curl -sS -m 5 -G "http://127.0.0.1:$1/api/v1/query" --data-urlencode "query=$2" |
        python3 -c 'import json, sys; r = json.load(sys.stdin)["data"]["result"]; print(r[0]["value"][1] if r else "none")'
}
is() { [ "$(query "$1" "$2")" = "$3" ]; }
targets() { [ "$(curl -sS -m 5 "http://127.0.0.1:$1/api/v1/targets?state=active" | grep -o '"health"' | wc -l)" = "$2" ]; }
says() { grep -qF -- "$2" "$tmp/$1.log"; }
ends() { kill -TERM "$1" && wait "$1"; }

# ---- without ACLs ----
ports
agent_at consul
consul=$pid
ok "the agent has a leader" within 60 leads
app=$(free_port)
start app env CONSUL_HTTP_ADDR="127.0.0.1:$http" "$B/examples/07_consul" "$app"
app_pid=$pid
ok "the example says that it is registered" within 20 says app "is registered in Consul"
ok "the agent knows the service" knows hello
ok "its name, tags and port are as given" sh -c "curl -sS http://127.0.0.1:$http/v1/agent/service/hello | tr -d ' \n\t' |
    grep -q '\"ID\":\"hello\",\"Service\":\"hello\",\"Tags\":\[\"demo\"\].*\"Port\":$app'"
ok "its check passes" within 30 passes hello

prom=$(free_port)
mkdir "$tmp/prom"
cat > "$tmp/prom/prometheus.yml" <<YML
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: consul, consul_sd_configs: [{server: "127.0.0.1:$http", services: [hello], refresh_interval: 1s}]}]
YML
start prometheus "$LAB/bin/prometheus-2.24" --config.file="$tmp/prom/prometheus.yml" --storage.tsdb.path="$tmp/prom/data" \
    --web.listen-address="127.0.0.1:$prom" --log.level=warn
ok "Prometheus finds the example through Consul, and it is up" within 60 is "$prom" 'up{job="consul"}' 1
ok "the metric says that it is registered" within 20 is "$prom" 'prometheus_async_consul_registered{id="hello"}' 1

kill -9 "$consul"; wait "$consul" 2> /dev/null
ok "the example notices that the agent is gone" within 40 says app "Consul at 127.0.0.1:$http: connect: Connection refused"
agent_at consul2
agent=$pid
ok "a new agent is told within a minute" within 90 knows hello
ok "its check passes again" within 30 passes hello
ok "Prometheus still finds it up" within 60 is "$prom" 'up{job="consul"}' 1
ok "the example ends with 0 on SIGTERM" ends "$app_pid"
ok "the agent has forgotten it then" forgot hello
ok "and so has Prometheus" within 60 targets "$prom" 0

# ---- a process that ends while its agent is stopped, and one whose id was taken over ----
stopped() { # name: the example under a stopped agent, from its start to its end; then the agent goes on
    kill -STOP "$agent"
    start "$1" env CONSUL_HTTP_ADDR="127.0.0.1:$http" "$B/examples/07_consul" "$(free_port)"
    within 20 says "$1" "is not registered" && ends "$pid"
    ended=$?
    kill -CONT "$agent"
    return $ended
}
for round in 1 2 3; do ok "a start at a stopped agent returns, and the program ends with 0" stopped "stopped$round"; done
ok "the agent that goes on answers" within 20 leads
ok "and none of them is left" forgot hello
start first env CONSUL_HTTP_ADDR="127.0.0.1:$http" "$B/examples/07_consul" "$(free_port)"
first=$pid
ok "a program is registered" within 20 says first "is registered in Consul"
second_port=$(free_port)
start second env CONSUL_HTTP_ADDR="127.0.0.1:$http" "$B/examples/07_consul" "$second_port"
second=$pid
ok "another takes its id" within 20 says second "is registered in Consul"
ok "the first notices" within 20 says first "belongs to another service, at port $second_port"
ok "the first ends with 0" ends "$first"
ok "the id of the second is left" knows hello
ok "the second ends with 0" ends "$second"
ok "then it is gone" forgot hello
ok "with CONSUL_HTTP_SSL=true nothing is ever said in clear" sh -c "CONSUL_HTTP_SSL=true CONSUL_HTTP_TOKEN=x CONSUL_HTTP_ADDR=http://127.0.0.1:$http '$B/examples/07_consul' 0 2>&1 | grep 'needs consul_options::tls'"

ok "odd ids are registered and gone again, with every check" env CONSUL_HTTP_ADDR="http://127.0.0.1:$http/" "$B/e2e/consul_client" \
    plain a/b 'a b' 'a%2Fb' 'a?b' 'a#b' 'a&b+c;d' "a'b\"c\\d" 'ä☃😀' '...' 'a/.b' 'a:b' 'a/' '~-_.'
ok "nothing of them is left" sh -c "curl -sS http://127.0.0.1:$http/v1/agent/services | grep -qx '{}'"
ok "an id that could never be de-registered is refused" sh -c "! CONSUL_HTTP_ADDR=127.0.0.1:$http '$B/e2e/consul_client' a/../b"
ok "so is one that does not print" sh -c "! CONSUL_HTTP_ADDR=127.0.0.1:$http '$B/e2e/consul_client' '$(printf 'a\302\240b')'"
ok "and was never sent" sh -c "curl -sS http://127.0.0.1:$http/v1/agent/services | grep -qx '{}'"

# ---- over a unix socket ----
ports
echo "{\"addresses\": {\"http\": \"unix://$tmp/consul.sock\"}}" > "$tmp/unix.json"
agent_at unix -config-file="$tmp/unix.json"
ok "an agent on a unix socket answers" within 60 sh -c "curl -sS -m 5 --unix-socket '$tmp/consul.sock' http://x/v1/status/leader | grep -q :"
start unix_app env CONSUL_HTTP_ADDR="unix://$tmp/consul.sock" "$B/examples/07_consul" "$(free_port)"
ok "the example registers over it" within 20 says unix_app "is registered in Consul"
ok "and ends with 0" ends "$pid"
ok "and is gone" sh -c "curl -sS --unix-socket '$tmp/consul.sock' http://x/v1/agent/services | grep -qx '{}'"

# ---- over TLS, and a service that speaks it ----
ports
https=$http
"$(dirname "$0")/../support/make_certs.sh" "$tmp/certs"
echo "{\"addresses\": {\"https\": \"127.0.0.1\"}, \"ports\": {\"http\": $(free_port), \"https\": $https},
    \"cert_file\": \"$tmp/certs/server.pem\", \"key_file\": \"$tmp/certs/server.key\"}" > "$tmp/tls.json"
start tls_agent "$LAB/bin/consul" agent -dev -bind=127.0.0.1 -node=here -config-file="$tmp/tls.json" -server-port="$rpc" \
    -serf-lan-port="$lan" -serf-wan-port=-1 -dns-port=-1 -grpc-port=-1 -log-level=warn
secure() { curl -sS -m 5 --cacert "$tmp/certs/ca.pem" "https://127.0.0.1:$https$1"; }
secure_leads() { secure /v1/status/leader | grep -q :; }
secure_passes() { secure '/v1/health/service/safe?passing' | grep -q ServiceID; }
none() { secure /v1/agent/services | grep -qx '{}'; }
ok "an agent that speaks TLS answers" within 60 secure_leads
ok "services are registered over TLS and gone again" env CA="$tmp/certs/ca.pem" CONSUL_HTTP_ADDR="127.0.0.1:$https" CONSUL_HTTP_SSL=true "$B/e2e/consul_client" a b/c
ok "nothing is left" none
ok "an agent with a certificate of another CA is refused" sh -c "! CA='$tmp/certs/other-ca.pem' CONSUL_HTTP_ADDR='https://127.0.0.1:$https' '$B/e2e/consul_client' a"
start held env CA="$tmp/certs/ca.pem" CERT="$tmp/certs/server.pem" KEY="$tmp/certs/server.key" CONSUL_HTTP_ADDR="https://127.0.0.1:$https" "$B/e2e/consul_client" hold safe
ok "a server with TLS is registered" within 20 says held registered
ok "its check passes" within 30 secure_passes
ok "it ends with 0" ends "$pid"
ok "and is gone" none

# ---- with ACLs ----
ports
master=8e7d2a0c-0000-4000-8000-000000000001
cat > "$tmp/acl.json" <<JSON
{"acl": {"enabled": true, "default_policy": "deny", "tokens": {"master": "$master", "agent": "$master"}}}
JSON
agent_at acl -config-file="$tmp/acl.json"
ok "the agent with ACLs has a leader" within 60 leads
put() { curl -sS -m 5 -X PUT -H "X-Consul-Token: $master" -d "$2" "http://127.0.0.1:$http$1"; }
policy() { put /v1/acl/policy '{"Name": "hello", "Rules": "service \"hello\" { policy = \"write\" }"}' | grep -q '"ID"'; }
ok "a policy for the one service is made" within 30 policy
put /v1/acl/token '{"Policies": [{"Name": "hello"}]}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["SecretID"])' > "$tmp/token"
start denied env CONSUL_HTTP_ADDR="127.0.0.1:$http" "$B/examples/07_consul" "$(free_port)"
ok "without a token the server runs, unregistered, and tells the agent's words" within 20 says denied "403: Permission denied"
ok "it ends with 0" ends "$pid"
start token env CONSUL_HTTP_ADDR="127.0.0.1:$http" CONSUL_HTTP_TOKEN_FILE="$tmp/token" "$B/examples/07_consul" "$(free_port)"
ok "with a token for its service it is registered" within 20 says token "is registered in Consul"
ok "the agent knows it" knows hello
ok "its check passes" within 30 passes hello
ok "it watches without complaint" sh -c "sleep 12; ! grep -v registered '$tmp/token.log'"
ok "it ends with 0" ends "$pid"
ok "the agent has forgotten it then" forgot hello
ok "the token was printed nowhere" sh -c "! grep -rF -f '$tmp/token' '$tmp'/*.log"

# ---- no leader: the agent takes 7 s for everything ----
ports
start noleader "$LAB/bin/consul" agent -server -bootstrap-expect=2 -data-dir="$tmp/noleader" -bind=127.0.0.1 -node=here \
    -http-port="$http" -server-port="$rpc" -serf-lan-port="$lan" -serf-wan-port=-1 -dns-port=-1 -grpc-port=-1 -log-level=err
ok "an agent without a leader answers" within 60 sh -c "curl -sS -m 5 http://127.0.0.1:$http/v1/status/leader | grep -qx '\"\"'"
start waits env CONSUL_HTTP_ADDR="127.0.0.1:$http" "$B/examples/07_consul" "$(free_port)"
ok "the example comes up at once" within 5 says waits "is not registered"
ok "and is registered later" within 60 says waits "is registered in Consul"
began=$(date +%s)
ok "it ends with 0 and does not wait that long for its de-registration" ends "$pid"
ok "but about its budget of 2 s" [ $(($(date +%s) - began)) -le 6 ]

# ---- file_sd ----
mkdir "$tmp/targets" "$tmp/prom3"
cat > "$tmp/prom3/prometheus.yml" <<YML
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: files, file_sd_configs: [{files: ["$tmp/targets/*.json"], refresh_interval: 2s}]}]
YML
prom=$(free_port)
start prometheus3 "$LAB/bin/prometheus-3" --config.file="$tmp/prom3/prometheus.yml" --storage.tsdb.path="$tmp/prom3/data" \
    --web.listen-address="127.0.0.1:$prom" --log.level=warn
start files "$B/examples/12_file_sd" "$(free_port)" "$tmp/targets/hello.json"
files=$pid
ok "Prometheus finds the example through its file, and it is up" within 60 is "$prom" 'up{job="files",team="demo"}' 1
ok "the example ends with 0 on SIGTERM" ends "$files"
ok "its file is gone" sh -c "! ls '$tmp/targets' | grep ."
ok "and Prometheus has no target" within 60 targets "$prom" 0

# ---- an own discovery ----
start own "$B/examples/11_own_discovery" 0
ok "an own discovery is told of the server" within 20 says own "up   http://127.0.0.1:"
ok "it ends with 0 on SIGTERM" ends "$pid"
ok "and was told of the end" says own "down http://127.0.0.1:"
finish
