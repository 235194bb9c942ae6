#!/bin/sh
# node_exporter 1.5.0 (Debian prometheus-node-exporter 1.5.0-1+b6), etcd 3.4.23 (Debian etcd-server 3.4.23-4+b4), prometheus_client
# 0.16.0 (Debian python3-prometheus-client 0.16.0-0.1), asked with `Accept-Encoding: gzip;q=0`, which excludes gzip.
# Go's exporters weigh the q values of Accept, so one would guess that they do so with those of Accept-Encoding.
# All three answer with gzip. (node_exporter 1.11.1 of Debian sid does not.)
. "$(dirname "$0")/lib.sh"
debs prometheus-node-exporter=1.5.0-1+b6 etcd-server=3.4.23-4+b4 python3-prometheus-client=0.16.0-0.1
node=$(free_port) etcd=$(free_port) peer=$(free_port) python=$(free_port)
"$lab/root/usr/bin/prometheus-node-exporter" --collector.disable-defaults --collector.loadavg --web.listen-address="127.0.0.1:$node" > "$lab/log" 2>&1 &
"$lab/root/usr/bin/etcd" --data-dir "$lab/etcd" --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer" > "$lab/log2" 2>&1 &
PYTHONPATH=$lab/root/usr/lib/python3/dist-packages python3 -c '
import prometheus_client, sys, time
prometheus_client.start_http_server(int(sys.argv[1]), "127.0.0.1"); time.sleep(100)' "$python" &
coding() { curl -s -o /dev/null -D - -H "Accept-Encoding: $2" "http://127.0.0.1:$1/metrics" | tr -d '\r' | sed -n 's/^content-encoding: //ip' | grep . || echo identity; }
for port in $node $etcd $python; do
    wait_for curl -sf "http://127.0.0.1:$port/metrics"
    expect "identity, gzip, gzip;q=0" "identity gzip gzip" "$(coding "$port" identity) $(coding "$port" gzip) $(coding "$port" 'gzip;q=0')"
done
finish
