// 27_landing_page: the metrics for people, at /, beside the page for scrapers.
//
//     c++ -std=c++20 examples/27_landing_page.cpp -o landing -pthread && ./landing 9464
//     xdg-open http://localhost:9464/
//
// prints, and serves until Ctrl-C,
//
//     http://127.0.0.1:9464/
//
// / shows each family with its values and draws the histogram; /?q=jobs those whose name has "jobs"; /?as=text_0_0_4 is the
// page for scrapers as a browser shows it. Each route can have its own: give it .registries.

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>

namespace prom = prometheus_async;
using namespace std::chrono_literals;

prom::family<prom::counter, "queue", "outcome"> jobs{"jobs_total", "Jobs done, by queue."};
prom::histogram took{"job_seconds", "Time to do a job.", {.unit = "seconds"}};
prom::gauge depth{"jobs_waiting", "Jobs that wait."};
prom::state_set mode{"worker_mode", "What the worker does.", {.states = {"idle", "busy"}}};
prom::event_loop* running;

prom::task<int> run(prom::event_loop& loop, std::uint16_t port) {
    const prom::route routes[] = {{.path = "/", .view = prom::landing_page}, {.path = "/metrics"}};
    auto server = co_await prom::start_http_server(loop, {.addr = "127.0.0.1", .port = port, .routes = routes});
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    std::printf("%s\n", server->url().c_str());
    std::fflush(stdout);
    for (unsigned i = 0;; i = (i * 37 + 11) % 101) {  // some jobs
        mode.set(i % 3 == 0 ? "idle" : "busy");
        depth.set(i % 7);
        took.observe(i * i * 1e-4);
        jobs(i % 2 == 0 ? "mail" : "thumbnails", i % 11 == 0 ? "failed" : "done").inc();
        co_await loop.sleep(100ms);
    }
}

int main(int argc, char** argv) {
    prom::add_process_metrics();
    prom::declare_build_info();
    prom::event_loop loop;
    running = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { running->stop(); });
    return loop.run(run(loop, port_of(argc, argv)));
}
