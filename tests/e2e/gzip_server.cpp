// gzip_server PORT [CERT KEY]: pages for gzip.sh. /metrics has 10,000 counters, /long 40,000, /small three, /failing and
// /failing-late a collector that fails, /self the server's own metrics.
//
// libs: -lssl -lcrypto
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "examples/tls_openssl.hpp"

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>

namespace prom = prometheus_async;

namespace {

prom::event_loop* running;

struct page {
    prom::registry of;
    std::array<prom::registry*, 1> list{&of};
    explicit page(int series) {
        const prom::family<prom::counter, "method", "item"> items{"items_total", "Counters whose values the test knows.", {.registry = &of}};
        for (int i = 0; i < series; ++i) items("GET", i).inc(static_cast<std::uint64_t>(i) * 7919 % 1000003);
    }
};

prom::task<int> serve(prom::event_loop& loop, std::uint16_t port, prom::tls_config tls) {
    page metrics(10000), longer(40000), small(3), failing(3), late(40000);
    const auto fails = [](prom::sample_sink& to) { to.fail("not today"); };
    const auto one = failing.of.add_collector(fails), other = late.of.add_collector(fails);
    const std::array<prom::registry*, 1> self{&prom::default_registry()};
    const std::array<prom::route, 6> routes{{{.path = "/metrics", .registries = metrics.list},
                                             {.path = "/long", .registries = longer.list},
                                             {.path = "/small", .registries = small.list},
                                             {.path = "/failing", .registries = failing.list},
                                             {.path = "/failing-late", .registries = late.list},
                                             {.path = "/self", .registries = self}}};
    prom::server_options options{.addr = "127.0.0.1", .port = port, .tls = tls};
    options.routes = routes;
    options.on_collector_error = prom::collector_errors::fail;
    options.self_metrics = true;
    auto server = co_await prom::start_http_server(loop, options);
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    for (;;) co_await loop.sleep(3600);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2 && argc != 4) return 2;
    std::optional<openssl_server> by_openssl;
    prom::tls_config tls;
    if (argc == 4) {
        auto made = openssl_server::load(argv[2], argv[3]);
        if (!made) return std::fprintf(stderr, "%s\n", made.why().describe()), 1;
        by_openssl.emplace(std::move(*made));
        tls = by_openssl->hook();
    }
    prom::event_loop loop;
    running = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { running->stop(); });
    return loop.run(serve(loop, static_cast<std::uint16_t>(std::atoi(argv[1])), tls));
}
