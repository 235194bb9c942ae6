#!/bin/sh
# InfluxDB 1.6.7 (Debian influxdb 1.6.7~rc0-1+b13) as the remote read of Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1).
# PromQL's manual says that regular expressions are anchored at both ends. One would guess that this holds with a remote read:
# either the store anchors them, or Prometheus tests what comes back. InfluxDB searches for them anywhere, and Prometheus takes
# what it is sent: x{a=~"b"} finds a="abc" too, {__name__=~"x"} finds "box", and x{a!~"b"} leaves "abc" out.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
influxdb
now=$(date +%s)
for series in x,__name__=x,a=b x,__name__=x,a=abc x,__name__=x,a=d box,__name__=box,a=b; do # as remote write stores them
    echo "$series value=1 $((now - 5))000000000"
done | curl -s --data-binary @- "$influx/write?db=d"
more="remote_read: [{url: '$remote/read?db=d', read_recent: true}]"
port=9; prometheus "$lab/root/usr/bin/prometheus"
found() { ask "$1" | sed 's/{__name__="\(.*\)", a="\(.*\)"} 1/\1 \2/' | paste -sd,; }
expect 'x{a="b"}' 'x b' "$(found 'x{a="b"}')"
expect 'x{a=~"b"}' 'x abc,x b' "$(found 'x{a=~"b"}')"
expect 'x{a=~"^b$"}' 'x b' "$(found 'x{a=~"^b$"}')"
expect 'x{a!~"b"}' 'x d' "$(found 'x{a!~"b"}')"
expect '{__name__=~"x", a="b"}' 'box b,x b' "$(found '{__name__=~"x", a="b"}')"
finish
