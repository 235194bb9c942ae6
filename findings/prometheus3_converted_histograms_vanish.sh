#!/bin/sh
# Prometheus 3.5.3 (Debian sid prometheus 3.5.3+ds1-6), `convert_classic_histograms_to_nhcb: true` in its configuration, without
# --enable-feature=native-histograms, which such histograms need in this release. One would guess that the configuration is
# refused, or that the classic series are kept as long as nothing can be made of them. It is accepted, and no histogram is stored
# in any form: buckets, sums and counts are gone, with `up` 1 and no line in the log. Only scrape_samples_scraped and
# scrape_samples_post_metric_relabeling tell: they differ.
. "$(dirname "$0")/lib.sh"
debs sid/prometheus=3.5.3+ds1-6
cat > "$lab/page" <<'PAGE'
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 2
h_sum 3
h_count 2
# TYPE x gauge
x 1
PAGE
serve "$lab/page" 'text/plain; version=0.0.4'
scraped() { [ -n "$(ask x)" ]; }
stored() { # flags; sets $got
    prometheus "$lab/root/usr/bin/prometheus" "$@"
    wait_for scraped
    got=$(curl -s --data-urlencode 'query={__name__=~"h.*|x|up"}' "http://127.0.0.1:$prom/api/v1/query" | python3 -c '
import json, sys
print(*sorted(r["metric"]["__name__"] + (" " + r["value"][1] if "value" in r else " native") for r in json.load(sys.stdin)["data"]["result"]), sep="|")')
}
samples() { ask "scrape_samples_$1" | cut -d' ' -f2; }
stored
expect "without the option" "h_bucket 1|h_bucket 2|h_count 2|h_sum 3|up 1|x 1" "$got"
scrape=', convert_classic_histograms_to_nhcb: true'
stored --enable-feature=native-histograms
expect "with the option and the flag" "h native|up 1|x 1" "$got"
stored
expect "with the option alone" "up 1|x 1" "$got"
expect "samples scraped, kept" "2, 1" "$(samples scraped), $(samples post_metric_relabeling)"
expect "lines of warning or error" 0 "$(grep -c -E 'level=(WARN|ERROR)' "$lab/prom.log" || :)"
finish
