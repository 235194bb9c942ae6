// 15_process: the process metrics of the official clients, and a collector of one's own. It writes N for the
// numbers that are this process's; values that a system does not provide are left out.
//
//     c++ -std=c++20 examples/15_process.cpp -o process -pthread && ./process
//
// prints
//
//     # HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
//     # TYPE process_cpu_seconds_total counter
//     process_cpu_seconds_total N
//     # HELP process_open_fds Number of open file descriptors.
//     # TYPE process_open_fds gauge
//     process_open_fds N
//     # HELP process_max_fds Maximum number of open file descriptors.
//     # TYPE process_max_fds gauge
//     process_max_fds N
//     # HELP process_virtual_memory_bytes Virtual memory size in bytes.
//     # TYPE process_virtual_memory_bytes gauge
//     process_virtual_memory_bytes N
//     # HELP process_virtual_memory_max_bytes Maximum amount of virtual memory available in bytes.
//     # TYPE process_virtual_memory_max_bytes gauge
//     process_virtual_memory_max_bytes N
//     # HELP process_resident_memory_bytes Resident memory size in bytes.
//     # TYPE process_resident_memory_bytes gauge
//     process_resident_memory_bytes N
//     # HELP process_threads Number of OS threads in the process.
//     # TYPE process_threads gauge
//     process_threads N
//     # HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
//     # TYPE process_start_time_seconds gauge
//     process_start_time_seconds N
//     # HELP tank_level_ratio How full the tanks are.
//     # TYPE tank_level_ratio gauge
//     tank_level_ratio{tank="north"} 0.75
//     tank_level_ratio{tank="south"} 0.5

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#define PROMETHEUS_ASYNC_NO_NETWORK 1  // metrics and text only
#include "../prometheus_async.hpp"

#include <cstdio>

namespace prom = prometheus_async;

int main() {
    prom::add_process_metrics();

    // Called at each scrape, for values that live elsewhere.
    auto tanks = prom::default_registry().add_collector([](prom::sample_sink& out) {
        out.family(prom::metric_type::gauge, "tank_level", "How full the tanks are.", "ratio");
        out.sample(0.75, {{"tank", "north"}});
        out.sample(0.5, {{"tank", "south"}});
    });

    const std::string page = prom::expose();
    for (std::size_t at = 0; at != page.size();) {  // hides the numbers that change
        const std::size_t end = page.find('\n', at) + 1;
        const std::string line = page.substr(at, end - at);
        if (line.rfind("process_", 0) == 0) std::printf("%s N\n", line.substr(0, line.find(' ')).c_str());
        else std::fputs(line.c_str(), stdout);
        at = end;
    }
}
