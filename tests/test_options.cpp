// Every struct of options braced inside a co_await expression: g++ 12 destroys such an argument twice when it has a
// member with a destructor, so none has, and ASan would tell.
// needs-network
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

namespace prom = prometheus_async;

namespace {
template <class Options>
prom::task<int> takes(Options given) {
    (void)given;
    co_return 1;
}
template <class Options>
prom::task<int> by_reference(const Options& given) {
    (void)given;
    return takes(0);
}

prom::task<int> all() {
    const prom::label labels[] = {{"a", "b"}};
    const std::string_view names[] = {"a"};
    int sum = 0;
    sum += co_await takes<prom::metric_options>({.unit = "seconds", .labels = labels, .max_series = 3});
    sum += co_await by_reference<prom::metric_options>({.subsystem = "http", .labels = labels});
    sum += co_await takes<prom::page_options>({.as = prom::format::openmetrics_1_0_0, .only = names});
    sum += co_await takes<prom::stats_request>({.accept = "text/plain", .only = names});
    sum += co_await takes<prom::loop_options>({.closing_budget = 1});
    sum += co_await takes<prom::server_limits>({.connections = 3});
    sum += co_await takes<prom::route>({.path = "/x", .text = "y"});
    sum += co_await takes<prom::server_options>({.addr = "127.0.0.1", .allowed_hosts = names});
    sum += co_await by_reference<prom::server_options>({.addr = "::1", .limits = {.connections = 2}});
    sum += co_await takes<prom::tls_config>({.context = nullptr});
    sum += co_await takes<prom::credential>({.kind = prom::credential::scheme::bearer, .user = {}, .secret = "s"});
    sum += co_await takes<prom::authorizer>({.context = nullptr});
    sum += co_await takes<prom::consul_options>({.name = "n", .token = "t"});
    sum += co_await takes<prom::file_sd_options>({.path = "p"});
    sum += co_await takes<prom::textfile_options>({.path = "p.prom", .only = names});
    co_return sum;
}
}  // namespace

TEST_CASE("every options struct can be braced inside co_await") {
    prom::event_loop loop;
    CHECK(loop.run(all()) == 15);
}

TEST_CASE("every options struct is trivially destructible") {
    CHECK(std::is_trivially_destructible_v<prom::metric_options>);
    CHECK(std::is_trivially_destructible_v<prom::page_options>);
    CHECK(std::is_trivially_destructible_v<prom::stats_request>);
    CHECK(std::is_trivially_destructible_v<prom::loop_options>);
    CHECK(std::is_trivially_destructible_v<prom::server_limits>);
    CHECK(std::is_trivially_destructible_v<prom::route>);
    CHECK(std::is_trivially_destructible_v<prom::server_options>);
    CHECK(std::is_trivially_destructible_v<prom::tls_config>);
    CHECK(std::is_trivially_destructible_v<prom::credential>);
    CHECK(std::is_trivially_destructible_v<prom::authorizer>);
    CHECK(std::is_trivially_destructible_v<prom::consul_options>);
    CHECK(std::is_trivially_destructible_v<prom::file_sd_options>);
    CHECK(std::is_trivially_destructible_v<prom::textfile_options>);
}

TEST_CASE("a server started with braced options inside co_await keeps copies of what they name") {
    prom::event_loop loop;
    const auto start = [](prom::event_loop& on) -> prom::task<bool> {
        auto server = co_await prom::start_http_server(on, {.addr = std::string("127.0.0.1"), .limits = {.connections = 4}});
        co_return server && server->address() == "127.0.0.1" && server->port() != 0;
    };
    CHECK(loop.run(start(loop)));
}
