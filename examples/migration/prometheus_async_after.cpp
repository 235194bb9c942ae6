// prometheus_async_before.py in C++. Twisted's deferreds: examples/05_deferreds.cpp.
//
//     c++ -std=c++20 examples/migration/prometheus_async_after.cpp -o after -pthread && ./after 9464
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../../prometheus_async.hpp"
#include "../port.hpp"

#include <csignal>
#include <cstdio>
#include <stdexcept>

namespace prom = prometheus_async;

prom::family<prom::histogram, "route"> req_time{"req_time_seconds", "Time spent in requests.", {.buckets = {0.1, 1, 10}}};
prom::counter errors{"errors_total", "Requests that failed."};
prom::gauge running{"requests_in_progress", "Requests under way."};
prom::summary size{"request_bytes", "Size of a request."};
prom::info build{"build", "How it was built."};
prom::state_set mode{"mode", "What the program does.", {.states = {"idle", "busy"}}};

prom::task<int> handle_(prom::event_loop& loop, int n) {
    co_await loop.sleep(0);
    size.observe(n);
    if (n < 0) throw std::invalid_argument("negative");
    co_return n * 2;
}
auto handle = (prom::time(req_time("/")) | prom::count_exceptions<std::invalid_argument>(errors) | prom::track_inprogress(running))(handle_);

prom::task<int> run(prom::event_loop& loop, std::uint16_t port) {
    prom::add_process_metrics();  // prometheus_client has them by itself
    build.set({{"version", "1.2"}});
    mode.set("busy");
    prom::callback_gauge pool{"pool_size", "Workers that exist.", [] { return 8.0; }};
    prom::gauge start{"start_seconds", "Time of the start."};
    prom::metrics_http_server server;
    {
        auto timer = start.timer();
        server = (co_await prom::start_http_server(loop, {.addr = "127.0.0.1", .port = port})).value();
    }
    std::printf("%s\n", server.url().c_str());
    std::fflush(stdout);

    co_await handle(loop, 1);
    co_await prom::time(req_time("/"), loop.sleep(0));  // an awaitable, in flight
    try {
        co_await handle(loop, -1);
    } catch (const std::invalid_argument&) {
    }
    for (;;) co_await loop.sleep(3600);
}

prom::event_loop* looping;

int main(int argc, char** argv) {
    prom::event_loop loop;
    looping = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { looping->stop(); });
    return loop.run(run(loop, port_of(argc, argv)));
}
