#!/bin/sh
# InfluxDB 1.6.7 (Debian influxdb 1.6.7~rc0-1+b13) as the remote write of Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1).
# Its manual says that NaN and the infinities are not supported and that such samples are dropped. One would guess: these alone.
# NaN is. One infinity makes it answer 400 to the request, and Prometheus gives up all samples that went with it, each time.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
influxdb
printf 'x{v="one"} 1\nx{v="nan"} NaN\n' > "$lab/nan"
printf 'x{v="one"} 1\nx{v="inf"} +Inf\n' > "$lab/inf"
more="remote_write: [{url: '$remote/write?db=d', queue_config: {batch_send_deadline: 1s}}]"
own() { curl -s "http://127.0.0.1:$prom/metrics" | sed -n "s/^prometheus_remote_storage_samples_$1{.*} //p"; }
written() { curl -s --data-urlencode 'q=SELECT * FROM x' "$influx/query?db=d" | grep -o '"one"\|"nan"\|"inf"' | sort -u | paste -sd' '; }
some() { n=$("$@"); [ -n "$n" ] && [ "$n" != 0 ]; }
start() {
    serve "$lab/$1" 'text/plain; version=0.0.4'
    prometheus "$lab/root/usr/bin/prometheus"
}
start inf
wait_for some own failed_total
expect "beside an infinity, written" '' "$(written)"
sed -n 's/.*level=error.*remote_name.*err="\(.*\)"$/said: \1/p' "$lab/prom.log" | head -n 1
kill $prometheus
start nan
wait_for some written
expect "beside a NaN, written" '"one"' "$(written)"
expect "beside a NaN, lost" 0 "$(own failed_total)"
finish
