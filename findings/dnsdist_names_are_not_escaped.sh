#!/bin/sh
# dnsdist 2.1.3 (Debian sid dnsdist 2.1.3-1), read by promtool 2.42.0 (Debian prometheus 2.42.0+ds-5+deb12u1).
# It escapes the label values of metrics that its configuration declares. One would guess that it escapes its own too, and keeps
# the names. The name of a server goes into the page as it is, but for its dots, which become underscores: `dc\west` makes a page
# that is refused whole, and ns.one is server="ns_one". The help text of a declared metric is not escaped either.
. "$(dirname "$0")/lib.sh"
needs sid dnsdist=2.1.3-1
debs prometheus=2.42.0+ds-5+deb12u1
promtool=$lab/root/usr/bin/promtool
page() { # lines of the configuration
    port=$(free_port)
    printf '%s\n' 'setSecurityPollSuffix("")' "setLocal('127.0.0.1:$(free_port)')" "webserver('127.0.0.1:$port')" 'setWebserverConfig({statsRequireAuthentication=false, acl="127.0.0.0/8"})' "$1" > "$lab/dnsdist.conf"
    $own "$lab/root/usr/bin/dnsdist" --supervised -C "$lab/dnsdist.conf" > "$lab/log" 2>&1 & dnsdist=$!
    wait_for curl -sf "http://127.0.0.1:$port/metrics"
    curl -s "http://127.0.0.1:$port/metrics" > "$lab/page"
    kill $dnsdist
}
read_by_promtool() { "$promtool" check metrics < "$lab/page" 2>&1 | grep -q 'parsing error' && echo refused || echo read; }
server() { sed -n 's/^dnsdist_server_order{\(server="[^,]*\),.*/\1/p' "$lab/page"; }
page 'newServer({address="127.0.0.1:9", name="ns.one", healthCheckMode="up"})'
expect "ns.one" 'server="ns_one", read' "$(server), $(read_by_promtool)"
page 'newServer({address="127.0.0.1:9", name="dc\\west", healthCheckMode="up"})'
expect 'dc\west' 'server="dc\west", refused' "$(server), $(read_by_promtool)"
page 'declareMetric("mine", "counter", "a help", "mine_total") incMetric("mine", {labels={path="dc\\west"}})'
expect 'a declared metric with path=dc\west' 'mine_total{path="dc\\west"} 1, read' "$(grep '^mine_total{' "$lab/page"), $(read_by_promtool)"
page 'declareMetric("mine", "counter", "two\nlines", "mine_total")'
expect "a help text of two lines" refused "$(read_by_promtool)"
finish
