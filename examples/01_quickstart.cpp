// 01_quickstart: a program that works in coroutines serves its metrics from its own event loop.
//
//     c++ -std=c++20 examples/01_quickstart.cpp -o quickstart -pthread && ./quickstart 9464
//     curl -s localhost:9464/metrics
//
// prints http://127.0.0.1:9464/ (it listens on all interfaces; `.addr = "localhost"` is this host alone) and ends with 0 on Ctrl-C or SIGTERM.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace prom = prometheus_async;
using namespace std::chrono_literals;

prom::histogram req_time{"req_time_seconds", "Time spent in requests."};
prom::family<prom::counter, "method", "status"> requests{"http_requests_total", "Requests served."};

prom::task<int> handle(prom::event_loop& loop, int x) {
    co_await loop.sleep(100ms);
    requests("GET", 200).inc();
    co_return x * 2;
}

prom::task<int> run(prom::event_loop& loop, std::uint16_t port) {
    prom::add_process_metrics(), prom::declare_build_info();  // process_*: CPU, memory, files, start time
    auto server = co_await prom::start_http_server(loop, {.port = port});
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    std::printf("%s\n", server->url().c_str());
    std::fflush(stdout);
    auto timed = prom::time(req_time)(handle);  // a decorated function: each call's time is observed
    for (int i = 0;; ++i) co_await timed(loop, i);
}

prom::event_loop* running;
extern "C" void end(int) { running->stop(); }

int main(int argc, char** argv) {
    prom::event_loop loop;
    running = &loop;
    std::signal(SIGINT, end), std::signal(SIGTERM, end);
    return loop.run(run(loop, port_of(argc, argv)));
}
