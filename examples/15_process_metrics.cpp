// 15_process_metrics: what the official clients tell of the process, read from /proc at each scrape.
//
//     c++ -std=c++20 examples/15_process_metrics.cpp -o process -pthread && ./process
//
// prints, with numbers of its own,
//
//     # HELP process_open_fds Number of open file descriptors.
//     # TYPE process_open_fds gauge
//     process_open_fds 4
//     ... process_cpu_seconds_total, process_resident_memory_bytes, process_start_time_seconds, ...

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#define PROMETHEUS_ASYNC_NO_NETWORK 1  // metrics and text only
#include "../prometheus_async.hpp"

#include <cstdio>

namespace prom = prometheus_async;

int main() {
    prom::add_process_metrics();
    prom::declare_build_info();
    std::fputs(prom::expose().c_str(), stdout);
}
