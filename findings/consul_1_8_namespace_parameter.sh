#!/bin/sh
# Consul 1.8.7 (Debian bullseye 1.8.7+dfsg1-2+b3), built as open source, which has no namespaces.
# One would guess that it ignores `?ns=default`, the only namespace that it has, as it ignores other unknown parameters.
# It answers 400 to every request that names one, so a client that always sends the parameter can do nothing.
. "$(dirname "$0")/lib.sh"
debs bullseye/consul=1.8.7+dfsg1-2+b3
http=$(free_port)
"$lab/root/usr/bin/consul" agent -dev -bind 127.0.0.1 -client 127.0.0.1 -http-port "$http" -dns-port -1 -grpc-port -1 \
    -serf-lan-port "$(free_port)" -serf-wan-port "$(free_port)" -server-port "$(free_port)" > "$lab/log" 2>&1 &
wait_for curl -sf "http://127.0.0.1:$http/v1/agent/self"
status() { curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$http/v1/agent/services$1"; }
expect "without a parameter" 200 "$(status '')"
expect "an unknown parameter" 200 "$(status '?unknown=default')"
expect "the default namespace" 400 "$(status '?ns=default')"
finish
