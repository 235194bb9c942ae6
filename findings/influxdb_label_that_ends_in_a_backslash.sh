#!/bin/sh
# InfluxDB 1.6.7 (Debian influxdb 1.6.7~rc0-1+b13) as the remote write of Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1).
# A label may hold any text: disk="C:\" is the root of a Windows disk. InfluxDB's own line protocol has no spelling for such an
# end, but remote write is protobuf, so one would guess that it is kept as "C:\logs" is. It swallows the label behind it in the
# order of names (here `instance`), and the request is answered with 204: Prometheus counts no loss.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
influxdb
printf '%s\n' 'x{disk="C:\\logs"} 1' 'x{disk="C:\\"} 2' 'x{disk="C:"} 3' > "$lab/page"
more="remote_write: [{url: '$remote/write?db=d', queue_config: {batch_send_deadline: 1s}}]"
serve "$lab/page" 'text/plain; version=0.0.4'
prometheus "$lab/root/usr/bin/prometheus"
written() {
    curl -s --data-urlencode 'q=SHOW SERIES FROM x' "$influx/query?db=d" | python3 -c '
import json, sys
print("\n".join(v[0].replace("127.0.0.1:'"$port"'", "HOST") for s in json.load(sys.stdin)["results"][0]["series"] for v in s["values"]))'
}
some() { [ "$(written | wc -l)" = 3 ]; }
wait_for some
expect "disk=\"C:\"" 'x,__name__=x,disk=C:,instance=HOST,job=j' "$(written | sed -n 1p)"
expect "disk=\"C:\\logs\"" 'x,__name__=x,disk=C:\logs,instance=HOST,job=j' "$(written | grep logs)"
expect "disk=\"C:\\\", of its labels instance is a part of disk" 'x,__name__=x,disk=C:\,instance\=HOST,job=j' "$(written | grep -F 'C:\,')"
expect "labels of the last" 'disk' "$(curl -s --data-urlencode "q=SHOW TAG KEYS FROM x WHERE disk =~ /=/" "$influx/query?db=d" | grep -o '"disk"\|"instance"' | tr -d '"' | paste -sd' ')"
expect "counted as lost" 0 "$(curl -s "http://127.0.0.1:$prom/metrics" | sed -n 's/^prometheus_remote_storage_samples_failed_total{.*} //p')"
finish
