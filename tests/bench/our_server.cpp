// our_server SERIES PORT: counters with three labels, for scrapes.py.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <cstdio>

namespace prom = prometheus_async;

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    prom::family<prom::counter, "method", "path", "status"> requests{"http_requests_total", "Requests served."};
    for (int i = 0; i != std::atoi(argv[1]); ++i) requests("GET", "/item/" + std::to_string(i), 200).inc(i);
    prom::event_loop loop;
    auto serve = [](prom::event_loop& on, std::uint16_t port) -> prom::task<int> {
        auto server = co_await prom::start_http_server(on, {.addr = "127.0.0.1", .port = port});
        if (!server) std::fprintf(stderr, "%s\n", server.why().describe());
        while (server) co_await on.sleep(1000);
        co_return 1;
    };
    return loop.run(serve(loop, static_cast<std::uint16_t>(std::atoi(argv[2]))));
}
