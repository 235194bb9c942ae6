// 28_native_histogram: a native histogram, which needs no list of buckets. Prometheus stores it as one series.
//
//     c++ -std=c++20 examples/28_native_histogram.cpp -o native_histogram -pthread && ./native_histogram 9464
//
// Prometheus takes it over protobuf, which it asks for with this configuration:
//
//     scrape_configs:
//       - job_name: native
//         scrape_native_histograms: true        # from 3.8; older ones, from 2.40: --enable-feature=native-histograms
//         static_configs: [{targets: ["localhost:9464"]}]
//
// Queries have no _bucket and no le, and work on any quantile:
//
//     histogram_quantile(0.99, sum by (path) (rate(request_seconds[5m])))
//     histogram_count(rate(request_seconds[5m]))
//     histogram_fraction(0, 0.1, rate(request_seconds[5m]))    the part that took at most 100 ms
//
// A server that reads no native histograms finds the classic buckets of this one on the text page. A histogram without
// `.buckets` has none there: its sum and count alone.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>

namespace prom = prometheus_async;
using namespace std::chrono_literals;

prom::family<prom::histogram, "path"> request_seconds{
    "request_seconds", "Time to answer.",
    {.unit = "seconds",
     .buckets = {0.01, 0.1, 1},
     // Buckets 9 % apart; above 160 of them neighbours become one, which a new start undoes an hour later.
     .native = {.factor = 1.1, .max_buckets = 160, .min_reset = 1h}}};

prom::task<int> run(prom::event_loop& loop, std::uint16_t port) {
    auto server = co_await prom::start_http_server(loop, {.port = port});
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    std::printf("%s\n", server->url().c_str());
    std::fflush(stdout);
    const prom::histogram fast = request_seconds("/fast"), slow = request_seconds("/slow");
    for (int i = 0;; ++i) {
        fast.observe(0.002 * std::exp(std::sin(i * 0.7)));
        slow.observe(0.3 * std::exp(2 * std::sin(i * 0.3)));
        co_await loop.sleep(10ms);
    }
}

prom::event_loop* running;
extern "C" void end(int) { running->stop(); }

int main(int argc, char** argv) {
    prom::event_loop loop;
    running = &loop;
    std::signal(SIGINT, end), std::signal(SIGTERM, end);
    return loop.run(run(loop, port_of(argc, argv)));
}
