// 18_exemplars: which trace an observation belongs to, and when a counter began. Prometheus keeps exemplars with
// --enable-feature=exemplar-storage; it asks for OpenMetrics by itself, where they are.
//
//     c++ -std=c++20 examples/18_exemplars.cpp -o exemplars -pthread && ./exemplars
//
// prints
//
//     1 failure
//     # HELP request_seconds Time spent in requests.
//     # TYPE request_seconds histogram
//     # UNIT request_seconds seconds
//     request_seconds_bucket{le="0.1"} 1
//     request_seconds_bucket{le="1.0"} 2 # {trace_id="4bf92f3577b34da6"} 0.25 1700000001
//     request_seconds_bucket{le="+Inf"} 2
//     request_seconds_sum 0.3125
//     request_seconds_count 2
//     request_seconds_created 1700000000
//     # HELP failures Requests that failed.
//     # TYPE failures counter
//     failures_total 1 # {trace_id="00f067aa0ba902b7"} 1 1700000002
//     failures_created 1700000000
//     # EOF

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#define PROMETHEUS_ASYNC_NO_NETWORK 1  // metrics and text only
#include "../prometheus_async.hpp"

#include <cstdio>

namespace prom = prometheus_async;

int main() {
    static double now = 1700000000;
    const prom::clock stands{[] { return now; }, [] { return now; }};
    prom::set_clock(stands);  // so that it prints the same each time; in tests too

    prom::histogram took{"request_seconds", "Time spent in requests.", {.unit = "seconds", .buckets = {0.1, 1}}};
    prom::counter failures{"failures_total", "Requests that failed."};

    took.observe(0.0625);
    now += 1;
    took.observe(0.25, {.labels = {{"trace_id", "4bf92f3577b34da6"}}});
    now += 1;
    failures.inc(1, {.labels = {{"trace_id", "00f067aa0ba902b7"}}});

    // What a test asks for, without a page.
    std::printf("%.0f failure\n", prom::default_registry().sample_value("failures_total").value());
    std::fputs(prom::expose({.as = prom::format::openmetrics_1_0_0, .created = prom::created_series::openmetrics}).c_str(), stdout);
    prom::set_clock(prom::system_clock());  // what a test leaves to the next one
}
