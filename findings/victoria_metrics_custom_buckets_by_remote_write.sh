#!/bin/sh
# Prometheus 3.5.3 (Debian sid prometheus 3.5.3+ds1-6) with convert_classic_histograms_to_nhcb, remote write with
# send_native_histograms to VictoriaMetrics 1.145.0 (Debian sid victoria-metrics 1.145.0+ds1-2). VictoriaMetrics makes its own
# buckets of native histograms, and those converted from classic ones carry their bounds in the message. One would guess that
# they are kept, or that the write is refused. The bounds are not read: whatever the first is, its bucket is 0...1, and all
# others are NaN...+Inf, of which one is kept. The write succeeds, and only sum and count are right.
. "$(dirname "$0")/lib.sh"
debs sid/prometheus=3.5.3+ds1-6 sid/victoria-metrics=1.145.0+ds1-2
cat > "$lab/page" <<'PAGE'
# TYPE h histogram
h_bucket{le="20"} 3
h_bucket{le="50"} 8
h_bucket{le="+Inf"} 9
h_sum 300
h_count 9
PAGE
serve "$lab/page" 'text/plain; version=0.0.4'
store=$(free_port)
"$lab/root/usr/bin/victoria-metrics" -storageDataPath="$lab/vm" -search.latencyOffset=0s -httpListenAddr="127.0.0.1:$store" > "$lab/vm.log" 2>&1 &
wait_for curl -sf "http://127.0.0.1:$store/health"
scrape=', convert_classic_histograms_to_nhcb: true'
more="remote_write: [{url: 'http://127.0.0.1:$store/api/v1/write', send_native_histograms: true}]"
prometheus "$lab/root/usr/bin/prometheus" --enable-feature=native-histograms
own_prom=$prom prom=$store
stored() { ask h_count | grep -q .; }
wait_for stored
expect "count and sum" "9 300" "$(ask h_count | cut -d' ' -f2) $(ask h_sum | cut -d' ' -f2)"
expect "buckets" '{__name__="h_bucket", vmrange="0.000e+00...1.000e+00"} 3|{__name__="h_bucket", vmrange="NaN...+Inf"} 1' "$(ask h_bucket | paste -sd'|')"
failed() { curl -s "http://127.0.0.1:$own_prom/metrics" | sed -n 's/^prometheus_remote_storage_histograms_failed_total{.*} //p'; }
expect "histograms that Prometheus could not write" 0 "$(failed)"
finish
