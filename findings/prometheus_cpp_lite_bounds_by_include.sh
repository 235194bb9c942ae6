#!/bin/sh
# prometheus-cpp-lite 1.0+git20251202 (Debian sid 1.0+git20251202.48d09c4+ds-3), a library of headers, with g++ 12.2.0 (Debian
# 12.2.0-14+deb12u1) and g++ 16.2.0 (Debian sid 16.2.0-4). One would guess that a bound of a histogram is spelt alike wherever the same
# source is compiled. It is std::to_chars' shortest text where the macro of that feature is defined, and printf's otherwise, and the
# header asks for the macro before it includes the header that defines it. So the bound 100000 is le="100000", and it is le="1e+05"
# once the program includes <charconv> before, or g++ 16 compiles it as C++23 instead of C++20: for Prometheus 2 all these series end,
# and others begin. (std::format writes 1e+05 too; Go, and so Prometheus' own client library, 100000.)
. "$(dirname "$0")/lib.sh"
debs sid/prometheus-cpp-lite=1.0+git20251202.48d09c4+ds-3
cat > "$lab/sizes.cpp" <<'CPP'
#ifdef BEFORE
#include <charconv>
#endif
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <limits>
#include <memory>
#include <stdexcept>
#include <prometheus/registry.h>
#include <prometheus/histogram.h>
#include <prometheus/text_serializer.h>
int main() {
    prometheus::Registry registry;
    auto& sizes = prometheus::BuildHistogram().Name("sizes").Register(registry);
    sizes.Add({}, prometheus::Histogram<double>::BucketBoundaries{0.5, 1000, 100000, 1e6}).Observe(5);
    prometheus::TextSerializer::Serialize(std::cout, registry.Collect());
}
CPP
headers=$lab/root/usr/include
bounds() { "$@" | sed -n 's/.*le="\(.*\)".*/\1/p' | paste -sd' '; }
made() { "$@" -w -isystem "$headers" "$lab/sizes.cpp" -o "$lab/sizes"; }
gcc12
made "$gcc" -std=c++17 && expect "g++ 12" "0.5 1000 100000 1000000 +Inf" "$(bounds "$lab/sizes")"
made "$gcc" -std=c++17 -DBEFORE && expect "g++ 12, <charconv> before" "0.5 1000 1e+05 1e+06 +Inf" "$(bounds "$lab/sizes")"
made "$gcc" -std=c++11 -DBEFORE && expect "g++ 12, -std=c++11" "0.5 1000 100000 1000000 +Inf" "$(bounds "$lab/sizes")"
gcc16
# shellcheck disable=SC2086
made $gcc16 -std=c++20 && expect "g++ 16, -std=c++20" "0.5 1000 100000 1000000 +Inf" "$(bounds $own "$lab/sizes")"
# shellcheck disable=SC2086
made $gcc16 -std=c++23 && expect "g++ 16, -std=c++23" "0.5 1000 1e+05 1e+06 +Inf" "$(bounds $own "$lab/sizes")"
finish
