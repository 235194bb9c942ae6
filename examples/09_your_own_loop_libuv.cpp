// 09_your_own_loop_libuv: a program that runs on libuv serves its metrics from libuv's loop.
//
// libs: -luv
//
//     c++ -std=c++20 examples/09_your_own_loop_libuv.cpp -o guest -pthread -luv && ./guest 9464
//     curl -s localhost:9464/metrics
//
// prints http://127.0.0.1:9464/ and ends with 0 on Ctrl-C or SIGTERM; curl prints
//
//     # HELP ticks_total How often libuv's timer fired.
//     # TYPE ticks_total counter
//     ticks_total 42
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <uv.h>

namespace prom = prometheus_async;

prom::counter ticks{"ticks_total", "How often libuv's timer fired."};

prom::task<void> serve(prom::event_loop& loop, std::uint16_t port, prom::metrics_http_server& server) {
    auto started = co_await prom::start_http_server(loop, {.addr = "127.0.0.1", .port = port});
    if (!started) std::fprintf(stderr, "%s\n", started.why().describe()), std::exit(1);
    server = *std::move(started);
    std::printf("%s\n", server.url().c_str());
    std::fflush(stdout);
}

int main(int argc, char** argv) {
    uv_loop_t host;
    uv_loop_init(&host);
    uv_timer_t timer;
    uv_timer_init(&host, &timer);
    uv_timer_start(&timer, [](uv_timer_t*) { ticks.inc(); }, 0, 100);

    // All that the guest needs: when its one descriptor is readable, let it do what is due.
    prom::event_loop loop;
    uv_poll_t guest;
    uv_poll_init(&host, &guest, loop.native_handle());
    guest.data = &loop;
    uv_poll_start(&guest, UV_READABLE, [](uv_poll_t* p, int, int) { static_cast<prom::event_loop*>(p->data)->poll(); });

    prom::metrics_http_server server;
    loop.spawn(serve(loop, port_of(argc, argv), server));

    uv_signal_t interrupt, terminate;
    for (auto [signal, number] : {std::pair{&interrupt, SIGINT}, std::pair{&terminate, SIGTERM}}) {
        uv_signal_init(&host, signal);
        uv_signal_start(signal, [](uv_signal_t* s, int) { uv_stop(s->loop); }, number);
    }
    uv_run(&host, UV_RUN_DEFAULT);
    uv_walk(&host, [](uv_handle_t* h, void*) { uv_close(h, nullptr); }, nullptr);
    uv_run(&host, UV_RUN_DEFAULT);
    return uv_loop_close(&host);
}
