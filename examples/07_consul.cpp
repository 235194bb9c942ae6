// 07_consul: a metrics server that Consul knows while it runs, and Prometheus finds through consul_sd_configs.
//
//     consul agent -dev &
//     c++ -std=c++20 examples/07_consul.cpp -o consul_demo -pthread && ./consul_demo
//     curl -s http://127.0.0.1:8500/v1/agent/service/hello
//
// prints, and after Ctrl-C or SIGTERM the service is gone from the agent:
//
//     http://127.0.0.1:9464/ is registered in Consul as "hello"
//
// CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_AUTH and CONSUL_NAMESPACE are read as Consul's
// own tools read them. CONSUL_HTTP_SSL asks for TLS, which this example does not have: it then says so and ends.
// CONSUL_CACERT and similar variables are not read: a TLS adapter has the trusted certificates (08_tls).

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace prom = prometheus_async;
using namespace std::chrono_literals;

prom::counter ticks{"ticks_total", "Seconds since the start."};
prom::event_loop* running;

void say(const prom::event& e, void*) { std::fprintf(stderr, "%s\n", e.why.describe()); }

prom::task<int> run(prom::event_loop& loop, std::uint16_t port) {
    prom::consul_agent consul{{.name = "hello", .tags = {"demo"},
                               .check = prom::consul_check::automatic,      // by HTTP where that can pass, else a heartbeat
                               .status = "passing",
                               .on_failure = prom::on_failure::retry,       // the start does not wait for an agent that is down
                               .on_event = say}};
    auto server = co_await prom::start_http_server(loop, {.port = port, .service_discovery = &consul});
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    bool is = false;
    for (bool first = true;; first = false, ticks.inc()) {
        const bool was = std::exchange(is, server->is_registered());  // a start does not wait for an agent that is down
        if (first || is != was)
            std::printf("%s is %s in Consul as \"hello\"\n", server->url().c_str(), is ? "registered" : "not registered");
        std::fflush(stdout);
        co_await loop.sleep(1s);
    }
}

int main(int argc, char** argv) {
    prom::event_loop loop({.on_event = say, .closing_budget = 1});  // the time that de-registration may take at the end
    running = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { running->stop(); });
    return loop.run(run(loop, port_of(argc, argv)));
}
