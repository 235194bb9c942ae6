#!/bin/sh
# snmp_exporter 0.30.1 (Debian sid prometheus-snmp-exporter 0.30.1-1) before Net-SNMP's agent 5.9.5.2 (Debian sid snmpd
# 5.9.5.2+dfsg-3). A Counter64 beyond 2^53, where doubles have no odd numbers: octets of a link of 100 Gbit/s are there in eight days.
# One would guess the nearest double, as other exporters have it. It is the remainder of a division by 2^53: 2^53 + 1 is shown as 1,
# and twice 2^53 as 0, also for a gauge. A rate is right, as that is a restart for Prometheus; the total is not, nor a comparison with
# it. With the flag --no-snmp.wrap-large-counters it is the nearest double.
. "$(dirname "$0")/lib.sh"
needs sid prometheus-snmp-exporter=0.30.1-1 snmpd=5.9.5.2+dfsg-3
agent=$(free_port) port=$(free_port) here=.1.3.6.1.4.1.8072.9999.9999
cat > "$lab/values" <<'SH'
#!/bin/sh
case $2 in
*.9999.1.0) printf '%s\ncounter64\n9007199254740993\n' "$2" ;;
*.9999.2.0) printf '%s\ncounter64\n18014398509481984\n' "$2" ;;
esac
SH
chmod +x "$lab/values"
printf 'agentaddress udp:127.0.0.1:%s\nrocommunity public 127.0.0.1\npass %s %s\n' "$agent" $here "$lab/values" > "$lab/snmpd.conf"
cat > "$lab/snmp.yml" <<YML
auths:
  a: {version: 2, community: public}
modules:
  m:
    get: [${here#.}.1.0, ${here#.}.2.0]
    metrics:
    - {name: one_more, oid: ${here#.}.1, type: counter, help: A.}
    - {name: twice, oid: ${here#.}.2, type: counter, help: B.}
  g:
    get: [${here#.}.2.0]
    metrics:
    - {name: twice, oid: ${here#.}.2, type: gauge, help: B.}
YML
SNMP_PERSISTENT_DIR=$lab MIBDIRS=$lab $own "$lab/root/usr/sbin/snmpd" -f -Lo -C -c "$lab/snmpd.conf" > "$lab/log" 2>&1 &
page() { # MODULE FLAG...
    module=$1; shift
    $own "$lab/root/usr/bin/prometheus-snmp-exporter" --config.file="$lab/snmp.yml" --web.listen-address="127.0.0.1:$port" "$@" > "$lab/log2" 2>&1 & exporter=$!
    wait_for curl -sf "http://127.0.0.1:$port/snmp?target=127.0.0.1:$agent&module=$module&auth=a"
    curl -s "http://127.0.0.1:$port/snmp?target=127.0.0.1:$agent&module=$module&auth=a" | grep -E '^(one_more|twice) ' | paste -sd,
    kill $exporter; wait $exporter 2> /dev/null || :
}
expect "counters" "one_more 1,twice 0" "$(page m)"
expect "with the flag" "one_more 9.007199254740992e+15,twice 1.8014398509481984e+16" "$(page m --no-snmp.wrap-large-counters)"
expect "a gauge" "twice 0" "$(page g)"
finish
