// 12_file_sd: found by Prometheus through a file, without Consul.
//
//     c++ -std=c++20 examples/12_file_sd.cpp -o file_sd && mkdir -p targets && ./file_sd 9464 targets/hello.json
//     # prometheus.yml: scrape_configs: [{job_name: apps, file_sd_configs: [{files: ["targets/*.json"]}]}]
//
// prints, and after Ctrl-C or SIGTERM the file is gone:
//
//     http://127.0.0.1:9464/ is in targets/hello.json

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace prom = prometheus_async;

prom::event_loop* running;

prom::task<int> run(prom::event_loop& loop, std::uint16_t port, const char* path) {
    prom::file_sd file{{.path = path, .labels = {{"team", "demo"}}}};
    auto server = co_await prom::start_http_server(loop, {.port = port, .service_discovery = &file});
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    std::printf("%s is in %s\n", server->url().c_str(), path);
    std::fflush(stdout);
    for (;;) co_await loop.sleep(3600);
}

int main(int argc, char** argv) {
    prom::event_loop loop;
    running = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { running->stop(); });
    return loop.run(run(loop, port_of(argc, argv, 0),
                        argc > 2 ? argv[2] : "targets.json"));
}
