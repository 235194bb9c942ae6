#!/bin/sh
# Prometheus 3.5.3 (Debian sid prometheus 3.5.3+ds1-6), --enable-feature=native-histograms and `convert_classic_histograms_to_nhcb: true`.
# The text format wants the lines of a family together and leaves their order free, so an exporter may print all series of one
# bound, then all of the next. One would guess that the conversion collects a histogram from them, as it does when the sum comes
# before the buckets or the bounds fall. It ends the histogram where the labels change: what is stored has the first bound's
# count, the sum 0, and no observation above it. `up` is 1; the only sign is a warning about samples of the same timestamp.
. "$(dirname "$0")/lib.sh"
debs sid/prometheus=3.5.3+ds1-6
cat > "$lab/together" <<'PAGE'
# TYPE h histogram
h_sum{a="1"} 3
h_count{a="1"} 2
h_bucket{a="1",le="+Inf"} 2
h_bucket{a="1",le="1"} 1
h_sum{a="2"} 30
h_count{a="2"} 6
h_bucket{a="2",le="+Inf"} 6
h_bucket{a="2",le="1"} 5
PAGE
cat > "$lab/interleaved" <<'PAGE'
# TYPE h histogram
h_bucket{a="1",le="1"} 1
h_bucket{a="2",le="1"} 5
h_bucket{a="1",le="+Inf"} 2
h_bucket{a="2",le="+Inf"} 6
h_sum{a="1"} 3
h_sum{a="2"} 30
h_count{a="1"} 2
h_count{a="2"} 6
PAGE
stored() { # page; sets $got
    serve "$lab/$1" 'text/plain; version=0.0.4'
    prometheus "$lab/root/usr/bin/prometheus" --enable-feature=native-histograms
    scraped() { [ -n "$(ask "histogram_count(h) or h_count")" ]; }
    wait_for scraped
    got="$(for a in 1 2; do for f in count sum; do ask "histogram_$f(h{a=\"$a\"}) or h_$f{a=\"$a\"}" | sed 's/.* //'; done; done | paste -sd' '), up $(ask up | cut -d' ' -f2)"
    kill $prometheus
}
for page in together interleaved; do
    scrape=
    stored $page
    expect "$page, classic: count and sum of both" "2 3 6 30, up 1" "$got"
    scrape=', convert_classic_histograms_to_nhcb: true'
    stored $page
    [ $page = together ] && right="2 3 6 30, up 1" || right="1 0 5 0, up 1"
    expect "$page, converted: count and sum of both" "$right" "$got"
done
finish
