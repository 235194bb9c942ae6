// 25_web_config: TLS and passwords as the web configuration file says that operators have for Prometheus and its exporters.
//
// libs: -lssl -lcrypto -lcrypt
//
//     sh tests/support/make_certs.sh certs        # throw-away: a CA and a server's certificate of it
//     cat > web.yml <<'YML'
//     tls_server_config:
//       cert_file: certs/server.pem
//       key_file: certs/server.key
//     basic_auth_users:
//       alice: $2y$10$QOauhQNbBCuQDKes6eFzPeyPuNvFcakVHA4BKvO2N5bbdl8u8T/oK
//     YML
//     c++ -std=c++20 examples/25_web_config.cpp -o web_config -pthread -lssl -lcrypto -lcrypt
//     ./web_config 9464 web.yml
//     curl -s --cacert certs/ca.pem -u alice:secret https://localhost:9464/metrics
//
// prints, and serves until Ctrl-C,
//
//     https://127.0.0.1:9464/
//
// A changed file, or a renewed certificate, is served without a restart; what is wrong with it is printed, and what was read
// before stays. htpasswd -nBC 10 "" makes hashes.

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"
#include "web_config.hpp"

#include <csignal>
#include <cstdio>

namespace prom = prometheus_async;

prom::counter answers{"answers_total", "Answers to everything."};

prom::event_loop* running;

prom::task<int> run(prom::event_loop& loop, std::uint16_t port, web_config& web) {
    auto server = co_await prom::start_http_server(
        loop, {.addr = "127.0.0.1", .port = port, .tls = web.tls(), .authorizer = web.authorizer()});
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    std::printf("%s\n", server->url().c_str());
    std::fflush(stdout);
    answers.inc(42);
    for (;;) co_await loop.sleep(3600);
}

int main(int argc, char** argv) {
    auto web = web_config::load(argc > 2 ? argv[2] : "web.yml");
    if (!web) return std::fprintf(stderr, "%s\n", web.why().describe()), 1;
    web->follow([](const prom::event& e, void*) { std::fprintf(stderr, "%s\n", e.why.describe()); });

    prom::event_loop loop;
    running = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { running->stop(); });
    return loop.run(run(loop, port_of(argc, argv), *web));
}
