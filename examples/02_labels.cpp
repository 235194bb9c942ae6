// 02_labels: counters, gauges, a histogram and a summary with labels, printed the way a scraper reads them.
//
//     c++ -std=c++20 examples/02_labels.cpp -o labels -pthread && ./labels
//
// prints
//
//     # HELP jobs_total Jobs finished since start.
//     # TYPE jobs_total counter
//     jobs_total{queue="mail",result="ok"} 3
//     jobs_total{queue="mail",result="failed"} 1
//     jobs_total{queue="print",result="ok"} 1
//     # HELP queue_length Jobs that wait.
//     # TYPE queue_length gauge
//     queue_length{queue="print"} 2
//     # HELP queue_peak Jobs that waited, at the least and at the most, in the last minute.
//     # TYPE queue_peak gauge
//     queue_peak{queue="print",bound="min"} 1
//     queue_peak{queue="print",bound="max"} 7
//     # HELP job_seconds Time to do a job.
//     # TYPE job_seconds histogram
//     job_seconds_bucket{queue="mail",le="0.1"} 1
//     job_seconds_bucket{queue="mail",le="1.0"} 1
//     job_seconds_bucket{queue="mail",le="+Inf"} 2
//     job_seconds_sum{queue="mail"} 2.55
//     job_seconds_count{queue="mail"} 2
//     # HELP job_bytes Size of a job.
//     # TYPE job_bytes summary
//     job_bytes_sum{queue="print"} 1500
//     job_bytes_count{queue="print"} 1

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#define PROMETHEUS_ASYNC_NO_NETWORK 1  // metrics and text only
#include "../prometheus_async.hpp"

#include <cstdio>

namespace prom = prometheus_async;

enum class result { ok, failed };
std::string_view to_label(result r) { return r == result::ok ? "ok" : "failed"; }  // found by ADL

prom::family<prom::counter, "queue", "result"> jobs{"jobs_total", "Jobs finished since start."};
prom::family<prom::gauge, "queue"> length{"queue_length", "Jobs that wait."};
prom::family<prom::min_max_gauge, "queue"> peak{"queue_peak", "Jobs that waited, at the least and at the most, in the last minute."};
prom::family<prom::histogram, "queue"> took{"job_seconds", "Time to do a job.", {.buckets = {0.1, 1}}};
prom::family<prom::summary, "queue"> size{"job_bytes", "Size of a job."};

int main() {
    jobs("mail", result::ok).inc(3);
    jobs("mail", result::failed).inc();
    jobs("print", result::ok).inc();

    auto print_queue = length("print");  // a handle that is kept needs no look-up
    print_queue.inc();
    print_queue.inc();

    peak("print").observe(7);  // between two scrapes, which a gauge alone would not show
    peak("print").observe(1);

    took("mail").observe(0.05);
    took("mail").observe(2.5);

    size("print").observe(1500);

    std::fputs(prom::expose().c_str(), stdout);
}
