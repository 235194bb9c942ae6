#!/bin/sh
# Prosody 13.0.7 (Debian sid prosody 13.0.7-1), the registry behind its mod_http_openmetrics, read by Prometheus 2.42.0 (Debian
# 2.42.0+ds-5+deb12u1). It escapes label values as the format has it, so one would guess that a value comes back as it was set. It
# escapes them twice: C:\ arrives as C:\\, and say "hi" with backslashes before its quotes. The page is well-formed and `up` is 1.
. "$(dirname "$0")/lib.sh"
needs sid prosody=13.0.7-1 lua5.4
debs prometheus=2.42.0+ds-5+deb12u1
cat > "$lab/page.lua" <<'LUA'
local root, value = ...
package.path = root .. "/usr/share/lua/5.4/?.lua;" .. root .. "/usr/lib/prosody/?.lua;" .. package.path
package.cpath = root .. "/usr/lib/prosody/?.so;" .. root .. "/usr/lib/x86_64-linux-gnu/lua/5.4/?.so;" .. package.cpath
table.insert(package.searchers, function(name)
    local own = name:match("^prosody%.(.*)")
    return own and function() return require(own) end
end)
local registry = require "util.statistics".new({}).metric_registry
registry:gauge("free", "", "Free.", {"disk"}):with_labels(value):set(1)
io.write(registry:render())
LUA
lua="$own $(find "$lab/root/usr/bin" -name lua5.4)"
page() { $lua "$lab/page.lua" "$lab/root" "$1"; }
# shellcheck disable=SC1003
expect 'C:\' 'free{disk="C:\\\\"} 1' "$(page 'C:\' | grep '^free{')"
page 'say "hi"' > "$lab/metrics"
expect 'say "hi"' 'free{disk="say \\\"hi\\\""} 1' "$(grep '^free{' "$lab/metrics")"
serve "$lab/metrics" 'application/openmetrics-text; version=0.0.4'
prometheus "$lab/root/usr/bin/prometheus"
wait_for sh -c "curl -s 'http://127.0.0.1:$prom/api/v1/query?query=free' | grep -q disk"
value() { curl -s "http://127.0.0.1:$prom/api/v1/query?query=free" | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"]["result"][0]["metric"]["disk"])'; }
expect "as Prometheus has it" 'say \"hi\"' "$(value)"
expect "up" 1 "$(ask up | cut -d' ' -f2)"
finish
