#!/bin/sh
# Asterisk 22.10.1 (Debian sid asterisk 1:22.10.1+dfsg+~cs6.17.60671434-1), res_prometheus, read by promtool 2.42.0 (Debian prometheus
# 2.42.0+ds-5+deb12u1). asterisk_calls_sum and asterisk_calls_count: one would guess a summary, whose quotient is the mean length of a
# call. The first is the number of calls since the start, a counter, the second that of current calls, a gauge. Counters are also
# asterisk_core_properties, which is always 1, the "total time taken to collect metrics", which is that of the last scrape, and the
# time since the last reload, which falls at each. Label values are written as they are: one endpoint [desk "1"] makes a page that is
# refused whole.
. "$(dirname "$0")/lib.sh"
needs sid asterisk=1:22.10.1+dfsg+~cs6.17.60671434-1
debs prometheus=2.42.0+ds-5+deb12u1
port=$(free_port) etc=$lab/etc
mkdir "$etc" "$lab/own"
{
    printf '[directories]\nastetcdir => %s\nastmoddir => %s\nastvarlibdir => %s\nastdatadir => %s\n' "$etc" "$at/asterisk/modules" "$lab/root/usr/share/asterisk" "$lab/root/usr/share/asterisk"
    for folder in astdbdir astkeydir astagidir astspooldir astrundir astlogdir; do printf '%s => %s\n' $folder "$lab/own"; done
} > "$etc/asterisk.conf"
{
    printf '[modules]\nautoload=no\n'
    printf 'load=res_%s.so\n' sorcery_config sorcery_memory sorcery_astdb pjproject pjsip prometheus
} > "$etc/modules.conf"
printf '[general]\nenabled=yes\nbindaddr=127.0.0.1\nbindport=%s\n' "$port" > "$etc/http.conf"
printf '[general]\nenabled=yes\nuri=metrics\n' > "$etc/prometheus.conf"
start() { # ENDPOINT
    printf '[udp]\ntype=transport\nprotocol=udp\nbind=127.0.0.1:0\n[%s]\ntype=endpoint\ncontext=default\ndisallow=all\nallow=ulaw\n' "$1" > "$etc/pjsip.conf"
    $own "$lab/root/usr/sbin/asterisk" -f -C "$etc/asterisk.conf" > "$lab/log" 2>&1 & asterisk=$!
    wait_for sh -c "curl -sf http://127.0.0.1:$port/metrics | grep -q desk"
    curl -s "http://127.0.0.1:$port/metrics" > "$lab/page"
    kill -9 $asterisk  # it may ignore a SIGTERM that comes while it starts
    wait $asterisk 2> /dev/null || :
}
lint() { "$lab/root/usr/bin/promtool" check metrics < "$lab/page" 2>&1 | grep -o 'unexpected end of label value' || echo read; }
start desk1
expect "types" "asterisk_calls_count gauge, asterisk_calls_sum counter, asterisk_core_last_reload_seconds counter, asterisk_core_properties counter, asterisk_core_scrape_time_ms counter" \
    "$(sed -n 's/^# TYPE \(asterisk_c[ao][lr].*\)/\1/p' "$lab/page" | grep -v uptime | sort | sed ':a;N;s/\n/, /;ta')"
expect "[desk1]" read "$(lint)"
start 'desk "1"'
expect '[desk "1"]' 'unexpected end of label value' "$(lint)"
finish
