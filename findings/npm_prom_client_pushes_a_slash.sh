#!/bin/sh
# prom-client 15.1.3 (npm), its Pushgateway, with Pushgateway 1.5.1 (Debian prometheus-pushgateway 1.5.1-2+b5; 1.11.2 of Debian sid
# does the same). Grouping labels are a part of the URL's path. One would guess that the client, which percent-encodes their
# values, brings any value over, or that the gateway refuses it. %2F is split like "/": {path: "a/b/c"} is stored, with status
# 200, as path="a" and b="c" ("a/b" is a 400), and a value ".." is taken for a step up: the label is gone.
. "$(dirname "$0")/lib.sh"
debs prometheus-pushgateway=1.5.1-2+b5
npm_get prom-client@15.1.3
cat > "$lab/push.js" <<'JS'
const { Registry, Gauge, Pushgateway } = require('prom-client');
const registry = new Registry();
new Gauge({ name: 'x', help: 'h', registers: [registry] }).set(1);
new Pushgateway(process.argv[2], {}, registry).pushAdd({ jobName: 'j', groupings: { path: process.argv[3] } })
  .then(({ resp }) => console.log(resp.statusCode), error => console.log(error.message.match(/status \d+/)[0]));
JS
pushed() { # value of the label "path"
    front=$(free_port)
    "$lab/root/usr/bin/prometheus-pushgateway" --web.listen-address="127.0.0.1:$front" --persistence.file= > "$lab/log" 2>&1 & gateway=$!
    wait_for curl -s "http://127.0.0.1:$front/-/ready"
    echo "$(node "$lab/push.js" "http://127.0.0.1:$front" "$1"), $(curl -s "http://127.0.0.1:$front/metrics" | sed -n '/^x{/{ s/instance="",job="j",*//; s/,} 1$/}/; s/^x\(.*}\).*/\1/; p }')"
    kill $gateway
}
expect "path: 'a'" '200, {path="a"}' "$(pushed a)"
expect "path: 'a b'" '200, {path="a b"}' "$(pushed 'a b')"
expect "path: 'a/b'" 'status 400, ' "$(pushed a/b)"
expect "path: 'a/b/c'" '200, {b="c",path="a"}' "$(pushed a/b/c)"
expect "path: '..'" '200, {}' "$(pushed ..)"
finish
