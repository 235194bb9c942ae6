// 16_serve_in_thread: a program without an event loop serves its metrics from a thread.
//
//     c++ -std=c++20 examples/16_serve_in_thread.cpp -o serve -pthread && ./serve 9464
//     curl -s localhost:9464/metrics
//
// prints, while it counts to three,
//
//     http://127.0.0.1:9464/
//
// and curl
//
//     # HELP ticks_total Seconds since start.
//     # TYPE ticks_total counter
//     ticks_total 2

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace prom = prometheus_async;

prom::counter ticks{"ticks_total", "Seconds since start."};

int main(int argc, char** argv) {
    const std::uint16_t port = port_of(argc, argv);
    auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1", .port = port});
    if (!server) return std::fprintf(stderr, "%s\n", server.why().describe()), 1;
    std::printf("%s\n", server->url().c_str());
    std::fflush(stdout);

    for (int second = 0; second != 3; ++second) {
        ticks.inc();
        std::this_thread::sleep_for(std::chrono::seconds(1));
    }
    return server->close() ? 0 : 1;
}
