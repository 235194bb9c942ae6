// 14_collectors: metrics that are read from elsewhere when a page is made.
//
//     c++ -std=c++20 examples/14_collectors.cpp -o collectors -pthread && ./collectors
//
// prints
//
//     # HELP pool_size Workers that exist.
//     # TYPE pool_size gauge
//     pool_size 8
//     # HELP pool_jobs_total Jobs that are done.
//     # TYPE pool_jobs_total counter
//     pool_jobs_total 12
//     # HELP disk_free_bytes Free space.
//     # TYPE disk_free_bytes gauge
//     disk_free_bytes{mount="/"} 1048576
//     disk_free_bytes{mount="/var"} 4096
//     # HELP battery_volts The last value of the sensor.
//     # TYPE battery_volts gauge
//     battery_volts 3.7 1700000000000
//     # HELP rpc_seconds Time of remote calls.
//     # TYPE rpc_seconds summary
//     rpc_seconds{quantile="0.5"} 0.25
//     rpc_seconds{quantile="0.99"} 0.75
//     rpc_seconds_sum 12.5
//     rpc_seconds_count 40
//     # HELP queue_wait_seconds Time in the queue.
//     # TYPE queue_wait_seconds histogram
//     queue_wait_seconds_bucket{le="+Inf"} 9
//     queue_wait_seconds_sum 4.25
//     queue_wait_seconds_count 9

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#define PROMETHEUS_ASYNC_NO_NETWORK 1  // metrics and text only
#include "../prometheus_async.hpp"

#include <cstdio>

namespace prom = prometheus_async;

int main() {
    int workers = 8;
    prom::callback_gauge size{"pool_size", "Workers that exist.", [&workers] { return double(workers); }};

    int done = 12;
    prom::callback_counter jobs{"pool_jobs_total", "Jobs that are done.", [&done] { return double(done); }};  // never goes down

    // A family at a time, its series after it. Should the function throw, its families are left out and the page stays valid.
    const prom::collector_handle disks = prom::default_registry().add_collector([](prom::sample_sink& out) {
        out.family(prom::metric_type::gauge, "disk_free_bytes", "Free space.");
        out.sample(1048576, {{"mount", "/"}});
        out.sample(4096, {{"mount", "/var"}});
        out.family(prom::metric_type::gauge, "battery_volts", "The last value of the sensor.");
        const prom::sample_details then{.timestamp = 1700000000};  // only for what was taken at another time than this page
        out.sample(3.7, {}, then);
        out.family(prom::metric_type::summary, "rpc_seconds", "Time of remote calls.");
        out.summary(40, 12.5, {{0.5, 0.25}, {0.99, 0.75}});
        // A native histogram: 3 values in (0.25, 0.5], 6 in (0.5, 1]. A text page has no more of it than its count and sum.
        out.family(prom::metric_type::histogram, "queue_wait_seconds", "Time in the queue.");
        out.histogram({.schema = 0, .positive = {{-1, 3}, {0, 6}}, .count = 9, .sum = 4.25});
    });

    std::fputs(prom::expose().c_str(), stdout);
}
