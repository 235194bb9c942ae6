// 10_your_own_loop_poll: a program with a poll() loop of its own serves its metrics from it.
//
//     c++ -std=c++20 examples/10_your_own_loop_poll.cpp -o guest -pthread && ./guest 9464
//     curl -s localhost:9464/metrics
//
// prints http://127.0.0.1:9464/, counts what comes in on standard input, and ends with 0 on Ctrl-C or
// SIGTERM; curl prints
//
//     # HELP input_bytes_total Read from standard input.
//     # TYPE input_bytes_total counter
//     input_bytes_total 5
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <unistd.h>

namespace prom = prometheus_async;

prom::counter input{"input_bytes_total", "Read from standard input."};

prom::task<void> serve(prom::event_loop& loop, std::uint16_t port, prom::metrics_http_server& server) {
    auto started = co_await prom::start_http_server(loop, {.addr = "127.0.0.1", .port = port});
    if (!started) std::fprintf(stderr, "%s\n", started.why().describe()), std::exit(1);
    server = *std::move(started);
    std::printf("%s\n", server.url().c_str());
    std::fflush(stdout);
}

static prom::event_loop* running = nullptr;

int main(int argc, char** argv) {
    prom::event_loop loop;
    running = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { running->stop(); });

    prom::metrics_http_server server;
    loop.spawn(serve(loop, port_of(argc, argv), server));

    std::vector<pollfd> set;
    for (int ours = STDIN_FILENO; !loop.stopped();) {
        set.resize(1 + loop.fill({}));
        set[0] = {ours, POLLIN, 0};                     // what this program is about
        loop.fill(std::span(set).subspan(1));           // and its guest
        const double left = std::clamp(loop.next_deadline() - loop.now(), 0.0, 60.0);
        ::poll(set.data(), static_cast<nfds_t>(set.size()), static_cast<int>(left * 1000) + (left > 0));

        char buffer[4096];
        if (set[0].revents != 0) {
            const ssize_t n = ::read(ours, buffer, sizeof buffer);
            if (n > 0) input.inc(n);
            else ours = -1;
        }
        loop.poll();
    }
}
