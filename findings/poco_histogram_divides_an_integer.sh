#!/bin/sh
# Poco 1.14.2 (Debian sid libpocoprometheus112 1.14.2-6), Histogram::observe of its Prometheus library, with the value 4096.
# One would guess that it is 4096 as a double and as a std::int64_t. The overload for Int64 takes a clock's microseconds and
# divides by a million: the sum is 0.004096 and the value falls in the smallest bucket. g++ 12 has no warning for it.
. "$(dirname "$0")/lib.sh"
cat > "$lab/sizes.cpp" <<'CPP'
#include <Poco/Prometheus/Histogram.h>
#include <Poco/Prometheus/Registry.h>
#include <Poco/Prometheus/TextExporter.h>
#include <cstdint>
#include <iostream>
#include <string>
int main(int, char** arguments) {
    Poco::Prometheus::Histogram sizes("sizes", {.help = "h", .labelNames = {}, .buckets = {1.0, 1000.0}});
    const std::int64_t octets = 4096;
    if (arguments[1] == std::string("double")) sizes.observe(static_cast<double>(octets));
    else sizes.observe(octets);
    Poco::Prometheus::TextExporter exporter(std::cout);
    Poco::Prometheus::Registry::defaultRegistry().exportTo(exporter);
}
CPP
poco "$lab/sizes.cpp" double > "$lab/double"
poco "$lab/sizes.cpp" int64 > "$lab/int64"
samples() { sed -n 's/^sizes_bucket{le=//p; s/^sizes_sum/sum/p' "$lab/$1" | tr -d '}"' | paste -sd'|'; }
expect "a double" "1 0|1000 0|+Inf 1|sum 4096" "$(samples double)"
expect "an int64" "1 1|1000 1|+Inf 1|sum 0.004096" "$(samples int64)"
finish
