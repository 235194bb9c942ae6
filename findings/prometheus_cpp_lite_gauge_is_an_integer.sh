#!/bin/sh
# prometheus-cpp-lite 1.0+git20251202 (Debian sid 1.0+git20251202.48d09c4+ds-3), made in the image of prometheus-cpp, with g++ 12.2.0
# (Debian 12.2.0-14+deb12u1). Its metrics are templates of their value, and BuildGauge and BuildHistogram are those of double. One would
# guess that Gauge<> and Histogram<> are too, as values of Prometheus are doubles. They are of uint64_t: Set(0.75) is 0, Set(-1) is
# 1.8e+19, and observed durations are whole seconds, rounded down, in the sum and for the bucket. -Wall -Wextra says nothing.
. "$(dirname "$0")/lib.sh"
debs sid/prometheus-cpp-lite=1.0+git20251202.48d09c4+ds-3
gcc12
cat > "$lab/values.cpp" <<'CPP'
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <limits>
#include <memory>
#include <stdexcept>
#include <prometheus/registry.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/text_serializer.h>
int main() {
    prometheus::Registry registry;
    prometheus::BuildGauge().Name("built").Register(registry).Add({}).Set(0.75);
    auto& gauges = prometheus::Builder<prometheus::Gauge<>>().Name("load").Register(registry);
    gauges.Add({{"at", "three quarters"}}).Set(0.75);
    gauges.Add({{"at", "minus one"}}).Set(-1);
    auto& wait = prometheus::Builder<prometheus::Histogram<>>().Name("wait").Register(registry).Add({}, prometheus::Histogram<>::BucketBoundaries{1, 2});
    wait.Observe(0.75);
    wait.Observe(1.5);
    prometheus::TextSerializer::Serialize(std::cout, registry.Collect());
}
CPP
"$gcc" -std=c++17 -Wall -Wextra -Werror -isystem "$lab/root/usr/include" "$lab/values.cpp" -o "$lab/values"
"$lab/values" > "$lab/page"
expect "BuildGauge, 0.75" "built 0.75" "$(grep '^built ' "$lab/page")"
expect "Gauge<>, 0.75" 0 "$(sed -n 's/^load{at="three quarters"} //p' "$lab/page")"
expect "Gauge<>, -1" 1.844674407370955e+19 "$(sed -n 's/^load{at="minus one"} //p' "$lab/page")"
expect "Histogram<>, 0.75 and 1.5" 'wait_count 2, wait_sum 1, wait_bucket{le="1"} 2, wait_bucket{le="2"} 2, wait_bucket{le="+Inf"} 2' "$(grep '^wait' "$lab/page" | paste -sd, | sed 's/,/, /g')"
finish
