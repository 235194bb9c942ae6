// 21_socket_activation: systemd opens the port, or a unix socket, and starts the program with it; without systemd it
// opens a unix socket itself. examples/deploy has the units.
//
//     c++ -std=c++20 examples/21_socket_activation.cpp -o activated -pthread
//     systemd-socket-activate -l 9464 ./activated &        # or: ./activated /tmp/metrics.sock
//     curl -s localhost:9464/metrics                       # or: curl -s --unix-socket /tmp/metrics.sock http://x/metrics
//
// prints where it listens and ends with 0 on Ctrl-C or SIGTERM; curl prints
//
//     # HELP starts_total How often this program was started.
//     # TYPE starts_total counter
//     starts_total 1

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

namespace prom = prometheus_async;

prom::counter starts{"starts_total", "How often this program was started."};

prom::event_loop* running;

/// The first socket that systemd passes, or -1. One of the variables names the process that they are for.
int handed_in() {
    const char *pid = std::getenv("LISTEN_PID"), *count = std::getenv("LISTEN_FDS");
    return pid && count && std::atol(pid) == ::getpid() && std::atoi(count) >= 1 ? 3 : -1;
}

prom::task<int> run(prom::event_loop& loop, const char* path) {
    const std::string address = std::string("unix:") + path;
    prom::server_options options{.addr = address};
    if (const int fd = handed_in(); fd >= 0) options = {.listen_fd = fd};  // the server owns it now
    auto server = co_await prom::start_http_server(loop, options);
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    const std::string where(server->address());
    std::printf("listens on %s, port %d\n", where.c_str(), server->port());
    std::fflush(stdout);
    starts.inc();
    for (;;) co_await loop.sleep(3600);
}

int main(int argc, char** argv) {
    prom::event_loop loop;
    running = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { running->stop(); });
    return loop.run(run(loop, argc > 1 ? argv[1] : "metrics.sock"));
}
