// tls_server PORT [name value]...: the server behind tls.sh, by either adapter.
//
// libs: -lssl -lcrypto -lmbedtls -lmbedx509 -lmbedcrypto
//
// names: cert, key, client-ca, by (openssl or mbedtls), user and password, bearer, subject, series
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "examples/tls_mbedtls.hpp"
#include "examples/tls_openssl.hpp"

#include <csignal>
#include <cstdio>
#include <map>
#include <optional>

namespace prom = prometheus_async;

namespace {

prom::event_loop* running;
std::map<std::string, std::string> given;

void tell(const prom::event& e, void*) {
    std::printf("event %d: %s\n", static_cast<int>(e.kind), e.why.describe());
    std::fflush(stdout);
}

// Decides by the certificate, and takes its time over it.
prom::task<bool> known(const prom::authorization_request& request, void* loop) {
    co_await static_cast<prom::event_loop*>(loop)->sleep(0.05);
    co_return request.peer && request.peer->verified && request.peer->subject == given["subject"];
}

prom::task<int> serve(prom::event_loop& loop, std::uint16_t port, prom::tls_config tls) {
    std::vector<prom::credential> credentials;
    if (given.count("user")) credentials.push_back(prom::basic(given["user"], given["password"]));
    if (given.count("bearer")) credentials.push_back(prom::bearer(given["bearer"]));
    prom::authorizer asked;
    if (given.count("subject")) asked = {nullptr, known, &loop};
    prom::server_options options{.addr = "127.0.0.1", .port = port, .tls = tls, .on_event = tell};
    options.credentials = credentials;
    options.authorizer = asked;
    auto server = co_await prom::start_http_server(loop, options);
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    std::printf("%s\n", server->url().c_str());
    std::fflush(stdout);
    for (;;) co_await loop.sleep(3600);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2 || argc % 2 != 0) return 2;
    for (int i = 2; i < argc; i += 2) given[argv[i]] = argv[i + 1];
    prom::family<prom::counter, "item"> items{"items_total", "So that the page is as long as it must be."};
    for (int i = 0; i < std::atoi(given["series"].c_str()); ++i) items("item number " + std::to_string(i)).inc();

    std::optional<openssl_server> by_openssl;
    std::optional<mbedtls_server> by_mbedtls;
    prom::tls_config tls;
    const auto load = [&]<class Adapter>(std::optional<Adapter>& into) {
        auto made = Adapter::load(given["cert"], given["key"], given["client-ca"]);
        if (!made) return std::fprintf(stderr, "%s\n", made.why().describe()), false;
        into.emplace(std::move(*made));
        into->follow(tell);
        tls = into->hook();
        return true;
    };
    if (given.count("cert") && !(given["by"] == "mbedtls" ? load(by_mbedtls) : load(by_openssl))) return 1;

    prom::event_loop loop;
    running = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { running->stop(); });
    return loop.run(serve(loop, static_cast<std::uint16_t>(std::atoi(argv[1])), tls));
}
