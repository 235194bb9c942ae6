// libs: -lssl -lcrypto
// For consul.sh.  consul_client ID...: registers a server under each id, with each kind of check, and de-registers it.
// consul_client hold ID: one server over TLS, until SIGTERM.  CA, CERT and KEY name PEM files: CA for an https agent.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "examples/tls_openssl.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace prom = prometheus_async;

namespace {

prom::tls_config agent_tls() {
    if (!std::getenv("CA")) return {};
    static auto tls = openssl_client::load(std::getenv("CA")).value();
    return tls.hook();
}
void say(const prom::event& e, void*) { std::printf("%s\n", e.why.describe()); }

prom::task<int> each(prom::event_loop& loop, int count, char** ids) {
    int failed = 0;
    for (int i = 0; i != count; ++i) {
        for (prom::consul_check check : {prom::consul_check::http, prom::consul_check::ttl, prom::consul_check::none}) {
            prom::consul_options options{.name = "ids"};
            options.service_id = ids[i];
            options.check = check;
            options.on_failure = prom::on_failure::fail;
            options.tls = agent_tls();
            prom::consul_agent consul(options);
            prom::server_options serving{.addr = "127.0.0.1"};
            serving.service_discovery = &consul;
            auto server = co_await prom::start_http_server(loop, serving);
            if (server) co_await loop.sleep(0.05);
            const prom::result<void> over = server ? co_await server->close() : prom::result<void>(server.why());
            if (!over) std::printf("%s: %s\n", ids[i], over.why().describe());
            failed += !over;
        }
    }
    co_return failed;
}

prom::task<int> hold(prom::event_loop& loop, const char* id) {
    auto tls = openssl_server::load(std::getenv("CERT"), std::getenv("KEY")).value();
    prom::consul_options options{.name = id, .interval = 1, .tls_skip_verify = true};
    options.tls = agent_tls();
    options.on_event = say;
    prom::consul_agent consul(options);
    prom::server_options serving{};
    serving.tls = tls.hook();
    serving.service_discovery = &consul;
    auto server = (co_await prom::start_http_server(loop, serving)).value();
    std::printf("%s\n", server.is_registered() ? "registered" : "not registered");
    std::fflush(stdout);
    for (;;) co_await loop.sleep(3600);
}

prom::event_loop* running;

}  // namespace

int main(int argc, char** argv) {
    prom::event_loop loop;
    running = &loop;
    std::signal(SIGTERM, [](int) { running->stop(); });
    if (argc == 3 && std::string_view(argv[1]) == "hold") return loop.run(hold(loop, argv[2]));
    return loop.run(each(loop, argc - 1, argv + 1));
}
