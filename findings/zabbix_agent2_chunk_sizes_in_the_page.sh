#!/bin/sh
# zabbix_agent2 6.0.14 (Debian 1:6.0.14+dfsg-1+b1), item web.page.get.
# One would guess that it gives the body. Of a chunked answer it gives the chunk sizes too, as lines between the page's own:
# a dependent item that reads Prometheus text meets a line "f" before its first sample.
. "$(dirname "$0")/lib.sh"
debs zabbix-agent2=1:6.0.14+dfsg-1+b1
printf 'a 1\nb{c="d"} 2\n' > "$lab/page"
get() { # serve's last argument
    serve "$lab/page" 'text/plain; version=0.0.4' "$1"
    printf 'Server=127.0.0.1\nServerActive=127.0.0.1\nHostname=x\nPidFile=%s/pid\nLogFile=%s/log\nControlSocket=%s/sock\nPluginSocket=%s/psock\n' "$lab" "$lab" "$lab" "$lab" > "$lab/conf"
    "$lab/root/usr/sbin/zabbix_agent2" -c "$lab/conf" -t "web.page.get[http://127.0.0.1:$port/]" 2> "$lab/err" | tr -d '\r' | sed -n '/^$/,$p' | sed 's/\]$//' | grep . | paste -sd'|'
}
expect "Content-Length" 'a 1|b{c="d"} 2' "$(get '')"
expect "chunked" 'f|a 1|b{c="d"} 2|0' "$(get chunked)"
finish
