// 13_mutual_tls: only clients with a certificate of our CA get in, and only those that we know by name.
//
// libs: -lmbedtls -lmbedx509 -lmbedcrypto
//
//     sh tests/support/make_certs.sh certs        # a CA, a server's and two clients' certificates
//     c++ -std=c++20 examples/13_mutual_tls.cpp -o mutual -pthread -lmbedtls -lmbedx509 -lmbedcrypto
//     ./mutual 9464 certs
//     curl -s --cacert certs/ca.pem --cert certs/client.pem --key certs/client.key https://localhost:9464/metrics
//
// prints, and serves until Ctrl-C,
//
//     https://127.0.0.1:9464/
//
// and with every request who asks
//
//     CN=scraper,O=Tests\, Inc,C=DE asks for /metrics
//
// With certs/server.pem as the client's certificate the handshake fails, as it does without one; with
// certs/stranger.pem, which is of the right CA, curl -i shows 401.

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"
#include "tls_mbedtls.hpp"

#include <csignal>
#include <cstdio>

namespace prom = prometheus_async;

prom::counter answers{"answers_total", "Answers to everything."};

prom::event_loop* running;

bool allowed(const prom::authorization_request& request, void*) {
    std::printf("%s asks for %.*s\n", request.peer->subject.c_str(), static_cast<int>(request.path.size()), request.path.data());
    std::fflush(stdout);
    return request.peer->subject == "CN=scraper,O=Tests\\, Inc,C=DE";  // whole, never a part of it
}

prom::task<int> run(prom::event_loop& loop, std::uint16_t port, mbedtls_server& tls) {
    auto server = co_await prom::start_http_server(
        loop, {.addr = "127.0.0.1", .port = port, .tls = tls.hook(), .authorizer = {.now = allowed}});
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    std::printf("%s\n", server->url().c_str());
    std::fflush(stdout);
    for (;;) co_await loop.sleep(3600);
}

int main(int argc, char** argv) {
    const std::string certs = argc > 2 ? argv[2] : "certs";
    auto tls = mbedtls_server::load(certs + "/server.pem", certs + "/server.key", certs + "/ca.pem");
    if (!tls) return std::fprintf(stderr, "%s\n", tls.why().describe()), 1;

    prom::event_loop loop;
    running = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { running->stop(); });
    return loop.run(run(loop, port_of(argc, argv), *tls));
}
