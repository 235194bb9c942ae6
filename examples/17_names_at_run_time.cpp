// 17_names_at_run_time: names and labels that are known only when the program runs, the types that are no numbers, a
// limit on the series of a family, and series that are removed.
//
//     c++ -std=c++20 examples/17_names_at_run_time.cpp -o names -pthread && ./names
//
// prints
//
//     9 lives_total: not [a-zA-Z_:][a-zA-Z0-9_:]*: use utf8() for it
//     2 series after a third client and remove_matching, 0 after clear
//     # HELP sensor_reads_total Reads of the sensor.
//     # TYPE sensor_reads_total counter
//     sensor_reads_total{kind="thermometer",unit="3"} 2
//     # HELP client_requests_total Requests by client.
//     # TYPE client_requests_total counter
//     client_requests_total{client="b"} 1
//     client_requests_total{client="_overflow"} 1
//     # HELP worker_jobs Jobs of a worker.
//     # TYPE worker_jobs gauge
//     # HELP mode What the program does.
//     # TYPE mode gauge
//     mode{mode="idle"} 0
//     mode{mode="busy"} 1
//     # HELP build_info How it was built.
//     # TYPE build_info gauge
//     build_info{commit="06db99e"} 1
//     # HELP http_open A name of OpenTelemetry, escaped for who did not ask for UTF-8.
//     # TYPE http_open gauge
//     http_open{http_method="GET"} 7

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#define PROMETHEUS_ASYNC_NO_NETWORK 1  // metrics and text only
#include "../prometheus_async.hpp"

#include <cstdio>
#include <map>

namespace prom = prometheus_async;

int main() {
    prom::registry& all = prom::default_registry();

    // From a configuration file, say. try_* return what is wrong, make_* raise it.
    const std::string name = "sensor_reads_total";
    const std::map<std::string, std::string> labels{{"kind", "thermometer"}, {"unit", "3"}};
    if (auto bad = all.try_counter("9 lives", "."); !bad) std::printf("%s\n", bad.why().describe());
    std::vector<std::string> keys, values;
    for (const auto& [key, value] : labels) keys.push_back(key), values.push_back(value);
    const prom::dynamic_family<prom::counter> reads = all.make_family<prom::counter>(name, "Reads of the sensor.", keys);
    const std::vector<std::string_view> these(values.begin(), values.end());
    reads(these).inc(2);
    reads({"hygrometer", "1"}).inc();
    reads.remove({"hygrometer", "1"});

    // What a client chooses has a limit: from the third on, all count in one series.
    prom::family<prom::counter, "client"> clients{"client_requests_total", "Requests by client.", {.max_series = 2}};
    for (const char* client : {"a", "b", "c"}) clients(client).inc();
    clients.remove_matching({{"client", "a"}});
    prom::family<prom::gauge, "worker"> workers{"worker_jobs", "Jobs of a worker."};
    for (const char* worker : {"1", "2"}) workers(worker).set(1);
    workers.clear();
    std::printf("%zu series after a third client and remove_matching, %zu after clear\n", clients.size(), workers.size());

    prom::state_set mode{"mode", "What the program does.", {.states = {"idle", "busy"}}};
    mode.set("busy");
    prom::info build{"build", "How it was built."};
    build.set({{"commit", "06db99e"}});

    const auto open = all.make_family<prom::gauge>(prom::utf8("http.open"), "A name of OpenTelemetry, escaped for who did not ask for UTF-8.",
                                                   {prom::utf8("http.method")});
    open({"GET"}).set(7);

    std::fputs(prom::expose().c_str(), stdout);
}
