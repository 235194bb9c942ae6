// 23_health: /-/healthy and /-/ready, for Kubernetes, a load balancer, or other probes.
//
//     c++ -std=c++20 examples/23_health.cpp -o health -pthread && ./health 9464
//     curl -i localhost:9464/-/healthy
//     curl -i localhost:9464/-/ready
//
// prints, and serves until Ctrl-C,
//
//     http://127.0.0.1:9464/
//
// /-/healthy is 200 and "ok" while the worker goes on, and 503 and "the worker is stuck" when it has not for ten seconds.
// /-/ready is 503 and "the cache is being filled" for the first two seconds, then "ok"; it may take its time, and other
// requests are served meanwhile. Of Kubernetes:
//
//     livenessProbe:  {httpGet: {path: /-/healthy, port: 9464}}
//     readinessProbe: {httpGet: {path: /-/ready, port: 9464}, timeoutSeconds: 2}

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>

namespace prom = prometheus_async;
using namespace std::chrono_literals;

prom::counter jobs{"jobs_total", "Jobs done."};
prom::event_loop* running;

struct service {
    prom::event_loop& loop;
    double worked = loop.now();  // when the worker last did something
    bool filled = false;
};

prom::result<void> healthy(void* context) {
    const auto& s = *static_cast<service*>(context);
    if (s.loop.now() - s.worked < 10) return {};
    return prom::error(prom::errc::timeout, "the worker is stuck");
}

prom::task<prom::result<void>> ready(void* context) {  // an asynchronous check: it waits a second for what is missing
    auto& s = *static_cast<service*>(context);
    if (!s.filled) co_await s.loop.sleep(1s);
    if (!s.filled) co_return prom::error(prom::errc::refused, "the cache is being filled");
    co_return {};
}

prom::task<void> fill(service& s) {
    co_await s.loop.sleep(2s);
    s.filled = true;
}

prom::task<int> run(prom::event_loop& loop, std::uint16_t port) {
    service s{loop};
    const prom::route routes[] = {{.path = "/metrics"},
                                  {.path = "/-/healthy", .check = {.now = healthy, .context = &s}, .open = true},
                                  {.path = "/-/ready", .check = {.later = ready, .context = &s}, .open = true}};
    auto server = co_await prom::start_http_server(loop, {.addr = "127.0.0.1", .port = port, .routes = routes});
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    std::printf("%s\n", server->url().c_str());
    std::fflush(stdout);
    loop.spawn(fill(s));
    for (;; s.worked = loop.now(), jobs.inc()) co_await loop.sleep(1s);
}

int main(int argc, char** argv) {
    prom::event_loop loop;
    running = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { running->stop(); });
    return loop.run(run(loop, port_of(argc, argv)));
}
