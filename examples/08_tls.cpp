// 08_tls: metrics over HTTPS with a password; a renewed certificate is served without a restart.
//
// libs: -lssl -lcrypto
//
//     sh tests/support/make_certs.sh certs        # throw-away: a CA and a server's certificate of it
//     c++ -std=c++20 examples/08_tls.cpp -o tls -pthread -lssl -lcrypto
//     ./tls 9464 certs/server.pem certs/server.key
//     curl -s --cacert certs/ca.pem -u scraper:secret https://localhost:9464/metrics
//
// prints, and serves until Ctrl-C,
//
//     https://127.0.0.1:9464/
//
// and curl
//
//     # HELP answers_total Answers to everything.
//     # TYPE answers_total counter
//     answers_total 42
//
// Without -u, curl -i shows 401; with http:// a 400 that says why; -H 'Authorization: Bearer t0ken' is
// as good as -u.

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"
#include "tls_openssl.hpp"

#include <csignal>
#include <cstdio>

namespace prom = prometheus_async;

prom::counter answers{"answers_total", "Answers to everything."};

prom::event_loop* running;

prom::task<int> run(prom::event_loop& loop, std::uint16_t port, openssl_server& tls) {
    const prom::credential accepted[] = {prom::basic("scraper", "secret"), prom::bearer("t0ken")};
    auto server = co_await prom::start_http_server(
        loop, {.addr = "127.0.0.1", .port = port, .tls = tls.hook(), .credentials = accepted});
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
    auto tls = openssl_server::load(argc > 2 ? argv[2] : "certs/server.pem", argc > 3 ? argv[3] : "certs/server.key");
    if (!tls) return std::fprintf(stderr, "%s\n", tls.why().describe()), 1;
    tls->follow([](const prom::event& e, void*) { std::fprintf(stderr, "%s\n", e.why.describe()); });

    prom::event_loop loop;
    running = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { running->stop(); });
    return loop.run(run(loop, port_of(argc, argv), *tls));
}
