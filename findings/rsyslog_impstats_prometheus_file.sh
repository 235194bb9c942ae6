#!/bin/sh
# rsyslog 8.2610.0 (Debian sid rsyslog 8.2610.0-1), impstats with format="prometheus" and log.file, read by promtool 2.42.0
# (Debian prometheus 2.42.0+ds-5+deb12u1). One would guess that the file is a page, for node_exporter's textfile or a web server.
# It is a log: each interval is appended, and the time of day stands before the first comment of each family, so a
# reader refuses it. Without these times, `size` (of a queue, which rises and falls) and `maxqsize` are counters ending in _total,
# and the object is a part of the name: there is no label to select or sum by.
. "$(dirname "$0")/lib.sh"
needs sid rsyslog=8.2610.0-1
debs prometheus=2.42.0+ds-5+deb12u1
cat > "$lab/conf" <<CONF
global(workDirectory="$lab")
module(load="$at/rsyslog/impstats" interval="1" format="prometheus" log.syslog="off" log.file="$lab/stats")
action(name="disk" type="omfile" file="$lab/out")
CONF
RSYSLOG_MODDIR=$at/rsyslog/ $own "$lab/root/usr/sbin/rsyslogd" -n -f "$lab/conf" -i NONE > "$lab/log" 2>&1 & rsyslog=$!
name=U__main_20_Q__size__total
intervals() { grep -c "^$name " "$lab/stats"; }
two() { [ "$(intervals)" -ge 2 ]; }
wait_for two
kill $rsyslog
sed 's/^[A-Z][a-z]\{2\} [A-Z][a-z]\{2\} [ 0-9:]*: #/#/' "$lab/stats" > "$lab/page"
promtool() { "$lab/root/usr/bin/promtool" check metrics < "$1" 2>&1 | grep -o -m 1 'parsing error[^,]*' || echo read; }
expect "the file" "parsing error in line 1: expected float as value" "$(promtool "$lab/stats")"
expect "without the times" "parsing error: second HELP line for metric name" "$(promtool "$lab/page" | sed 's/ in line [0-9]*//; s/ "U__.*//')"
expect "type of a queue's size" "counter" "$(sed -n "s/^# TYPE $name //p" "$lab/page" | sort -u)"
expect "labels" 0 "$(grep -v '^#' "$lab/page" | grep -c '{' || :)"
finish
