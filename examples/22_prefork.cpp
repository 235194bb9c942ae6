// 22_prefork: a server that forks its workers. Each process counts for itself and is scraped on a port of its own, as
// instances of one job; a sum over them is the query's.
//
//     c++ -std=c++20 examples/22_prefork.cpp -o prefork -pthread && ./prefork 9464
//     curl -s localhost:9465/metrics
//
// prints, and ends with 0 on Ctrl-C or SIGTERM,
//
//     parent   http://127.0.0.1:9464/
//     worker 1 http://127.0.0.1:9465/
//     worker 2 http://127.0.0.1:9466/
//
// and curl: what was counted before the fork, then what this worker counted.
//
//     # HELP config_reads_total Reads of the configuration.
//     # TYPE config_reads_total counter
//     config_reads_total 1
//     # HELP jobs_total Jobs done, by worker.
//     # TYPE jobs_total counter
//     jobs_total{worker="1"} 10

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <csignal>
#include <cstdio>
#include <sys/wait.h>
#include <unistd.h>

namespace prom = prometheus_async;

prom::counter reads{"config_reads_total", "Reads of the configuration."};
prom::family<prom::counter, "worker"> jobs{"jobs_total", "Jobs done, by worker."};

volatile std::sig_atomic_t over = 0;

prom::threaded_metrics_http_server serve(std::uint16_t port, const char* who) {
    auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1", .port = port});
    if (!server) std::fprintf(stderr, "%s: %s\n", who, server.why().describe()), ::_exit(1);
    std::printf("%s %s\n", who, server->url().c_str());
    std::fflush(stdout);
    return *std::move(server);
}

void until_over(const sigset_t& wait_with) {
    while (!over) ::sigsuspend(&wait_with);
}

int worker(int number, std::uint16_t port, prom::threaded_metrics_http_server& parents, const sigset_t& wait_with) {
    (void)parents.close();  // frees this process's copies of its descriptors; the parent notices nothing
    auto server = serve(port, number == 1 ? "worker 1" : "worker 2");
    jobs(number).inc(10 * number);
    until_over(wait_with);
    return server.close() ? 0 : 1;
}

int main(int argc, char** argv) {
    const std::uint16_t port = port_of(argc, argv);
    struct sigaction ends{};
    ends.sa_handler = [](int) { over = 1; };
    for (int signal : {SIGINT, SIGTERM}) ::sigaction(signal, &ends, nullptr);
    sigset_t blocked, before;  // but for the waiting: a signal that comes earlier is not lost
    sigemptyset(&blocked), sigaddset(&blocked, SIGINT), sigaddset(&blocked, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &blocked, &before);

    reads.inc();
    auto server = serve(port, "parent  ");
    pid_t workers[2];
    for (int i = 0; i != 2; ++i)
        if ((workers[i] = ::fork()) == 0) return worker(i + 1, static_cast<std::uint16_t>(port ? port + 1 + i : 0), server, before);
    until_over(before);
    int bad = 0;
    for (pid_t w : workers) {
        int status = 1;
        ::kill(w, SIGTERM), ::waitpid(w, &status, 0);
        bad += status != 0;
    }
    return server.close() && bad == 0 ? 0 : 1;
}
