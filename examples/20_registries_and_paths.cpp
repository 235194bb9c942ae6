// 20_registries_and_paths: several registries on several paths of one server, a text beside them, and what the server
// tells about itself.
//
//     c++ -std=c++20 examples/20_registries_and_paths.cpp -o paths -pthread && ./paths 9464
//     curl -s localhost:9464/metrics; curl -s localhost:9464/tenants; curl -s localhost:9464/all; curl -s localhost:9464/version
//
// prints http://127.0.0.1:9464/metrics and ends with 0 on Ctrl-C or SIGTERM. /tenants has
//
//     # HELP orders_total Orders of one tenant.
//     # TYPE orders_total counter
//     orders_total{tenant="one"} 3
//     orders_total{tenant="two"} 4
//
// /metrics the program's own metrics, process_* and prometheus_async_http_*, and /all everything on one page.

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <csignal>
#include <cstdio>

namespace prom = prometheus_async;

prom::event_loop* running;

prom::task<int> run(prom::event_loop& loop, std::uint16_t port) {
    prom::add_process_metrics();
    prom::declare_build_info();

    // Each has the same metric with a label of its own, so that both may stand on one page.
    prom::registry one, two;
    one.make_counter("orders_total", "Orders of one tenant.", {.labels = {{"tenant", "one"}}}).inc(3);
    two.make_counter("orders_total", "Orders of one tenant.", {.labels = {{"tenant", "two"}}}).inc(4);

    prom::registry* const tenants[] = {&one, &two};
    prom::registry* const all[] = {&prom::default_registry(), &one, &two};
    const prom::route routes[] = {
        {.path = "/metrics"},  // the default registry
        {.path = "/tenants", .registries = tenants},
        {.path = "/all", .registries = all},
        {.path = "/version", .text = "1.2.3\n", .open = true},
    };
    auto server = co_await prom::start_http_server(
        loop, {.addr = "localhost", .port = port, .routes = routes,
               .limits = {.connections = 64, .response = 20},  // what few scrapers need; a page that takes longer is reset
               .self_metrics = true, .process_start_header = true});
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    std::printf("%smetrics\n", server->url().c_str());
    std::fflush(stdout);
    for (;;) co_await loop.sleep(3600);
}

int main(int argc, char** argv) {
    prom::event_loop loop;
    running = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { running->stop(); });
    return loop.run(run(loop, port_of(argc, argv)));
}
