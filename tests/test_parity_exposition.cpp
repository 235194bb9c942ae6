// Rooms [50], [52].
// What upstream's own tests say about exposition and packaging: behaviours 17, 18, 19 and 40.
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

namespace prom = prometheus_async;

namespace {

struct frozen_clock {
    frozen_clock() { prom::set_clock({[] { return 1.0; }, [] { return 1400000000.5; }}); }
    ~frozen_clock() { prom::set_clock(prom::system_clock()); }
};

}  // namespace

TEST_CASE("17: without an Accept field server_stats answers the text format, _created as a gauge of its own") {
    const frozen_clock clock;
    prom::registry mine;
    prom::registry* const one[] = {&mine};
    prom::counter counter{"test_server_stats_total", "cnt", {.registry = &mine}};
    counter.inc();

    const prom::stats_page page = prom::server_stats({.registries = one, .created = prom::created_series::all});
    CHECK(page.status == 200);
    CHECK(page.content_type == "text/plain; version=0.0.4; charset=utf-8");
    CHECK(page.body == "# HELP test_server_stats_total cnt\n"
                       "# TYPE test_server_stats_total counter\n"
                       "test_server_stats_total 1\n"
                       "# HELP test_server_stats_created cnt\n"
                       "# TYPE test_server_stats_created gauge\n"
                       "test_server_stats_created 1.4000000005e+09\n");
    // Ours by default: without _created, which doubles the series of a counter.
    CHECK(prom::server_stats({.registries = one}).body == "# HELP test_server_stats_total cnt\n"
                                                          "# TYPE test_server_stats_total counter\n"
                                                          "test_server_stats_total 1\n");
}

TEST_CASE("18: a Prometheus that asks for OpenMetrics gets it, ended by EOF") {
    const frozen_clock clock;
    prom::registry mine;
    prom::registry* const one[] = {&mine};
    prom::counter counter{"test_server_stats_total", "cnt", {.registry = &mine}};
    counter.inc();

    const prom::stats_page page = prom::server_stats({.accept = "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                                                      .registries = one, .created = prom::created_series::openmetrics});
    CHECK(page.status == 200);
    CHECK(page.content_type == "application/openmetrics-text; version=0.0.1; charset=utf-8");
    CHECK(page.body == "# HELP test_server_stats cnt\n"
                       "# TYPE test_server_stats counter\n"
                       "test_server_stats_total 1\n"
                       "test_server_stats_created 1400000000.5\n"
                       "# EOF\n");
}

TEST_CASE("18: the name that the program gave makes no difference, with _total or without") {
    prom::registry with, without;
    prom::registry* const first[] = {&with};
    prom::registry* const second[] = {&without};
    prom::counter{"jobs_total", "Jobs.", {.registry = &with}}.inc(2);
    prom::counter{"jobs", "Jobs.", {.registry = &without}}.inc(2);
    for (std::string_view accept : {"", "application/openmetrics-text"})
        CHECK(prom::server_stats({.accept = accept, .registries = first}).body == prom::server_stats({.accept = accept, .registries = second}).body);
}

TEST_CASE("19: server_stats is a page for any server: of the default registry, filtered by name[], empty when nothing has the name") {
    prom::gauge shown{"parity_shown", "Shown.", {}};
    prom::gauge hidden{"parity_hidden", "Hidden.", {}};
    shown.set(4);
    const std::string_view names[] = {"parity_shown"}, nothing[] = {"parity_nothing"};
    CHECK(prom::server_stats({.only = names}).body == "# HELP parity_shown Shown.\n# TYPE parity_shown gauge\nparity_shown 4\n");
    CHECK(prom::server_stats().body.find("parity_hidden 0\n") != std::string::npos);
    CHECK(prom::server_stats({.only = nothing}).status == 200);
    CHECK(prom::server_stats({.only = nothing}).body.empty());
}

TEST_CASE("40: the version is there, as a number, a text and a function, and they agree") {
    const std::string text = std::to_string(PROMETHEUS_ASYNC_VERSION / 10000) + "." + std::to_string(PROMETHEUS_ASYNC_VERSION / 100 % 100) + "." +
                             std::to_string(PROMETHEUS_ASYNC_VERSION % 100);
    CHECK(text == PROMETHEUS_ASYNC_VERSION_STRING);
    CHECK(text == prom::version());
}
