// The limits of a registry: exact, given back by what is removed, and never an end of the program.
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace prom = prometheus_async;

namespace {
template <class Metric>
std::string fault(const prom::result<Metric>& made) {
    return made ? "none" : made.why().describe();
}
std::string page(prom::registry& r) {
    prom::registry* const shown[] = {&r};
    return prom::expose({.registries = shown});
}
bool holds(const prom::registry& r, std::size_t families, std::size_t series, std::size_t bytes) {
    const prom::registry_limits held = r.held();
    return held.families == families && held.series == series && held.bytes == bytes;
}
std::uint64_t overflows() { return prom::event_count(prom::event_kind::series_overflowed); }
}  // namespace

TEST_CASE("a registry without limits counts what it holds") {
    prom::registry r;
    CHECK(holds(r, 0, 0, 0));
    r.make_counter("c", "help", {.unit = "seconds", .labels = {{"site", "ab"}}});
    std::size_t bytes = sizeof "c_seconds_total" - 1 + sizeof "help" - 1 + sizeof "seconds" - 1 + 4 + 2;
    CHECK(holds(r, 1, 1, bytes));
    r.make_counter("c", "help", {.unit = "seconds", .labels = {{"site", "ab"}}});  // the same again
    CHECK(holds(r, 1, 1, bytes));
    CHECK_FALSE(r.try_counter("c", "other", {.unit = "seconds"}));
    CHECK_FALSE(r.try_gauge("9", "h"));
    CHECK(holds(r, 1, 1, bytes));
    r.make_state_set("s", "h", {.states = {"on", "off"}});
    CHECK(holds(r, 2, 2, bytes += 1 + 1 + 2 + 3));
    const auto f = r.make_family<prom::gauge>("f", "h", {"one", "two"});
    CHECK(holds(r, 3, 3, bytes += 1 + 1 + 6 + 2 * 9));
    f({"a", "a value of more than sixteen octets"}).set(1);
    CHECK(holds(r, 3, 4, bytes += 1 + 35));
    f({"_overflow", "_overflow"}).set(1);  // has its room already
    CHECK(holds(r, 3, 4, bytes));
    f({"_overflow", "\"\n\\"}).set(1);
    CHECK(holds(r, 3, 5, bytes += 9 + 3));
    f({"\xff", ""}).set(1);  // as it is kept: U+FFFD
    CHECK(holds(r, 3, 6, bytes += 3));
    const bool removed = f.remove({"a", "a value of more than sixteen octets"});
    CHECK(removed);
    CHECK(holds(r, 3, 5, bytes -= 36));
    f.clear();
    CHECK(holds(r, 3, 3, bytes -= 15));
    f({"x", "y"}).set(1);
    CHECK(r.unregister("f"));
    CHECK(holds(r, 2, 2, bytes -= 26));
    CHECK(r.unregister("s"));
    CHECK(r.unregister("c_seconds_total"));
    CHECK(holds(r, 0, 0, 0));
}

TEST_CASE("families: as many as the limit says") {
    prom::registry r{prom::registry_limits{.families = 2}};
    CHECK(r.try_counter("a", "h"));
    CHECK(r.try_family<prom::gauge>("b", "h", {"l"}));
    const auto more = r.try_histogram("c", "h");
    CHECK(fault(more) == "the registry's limit of 2 families has no room for c");
    CHECK(more.why().code() == prom::errc::limit);
    CHECK(r.try_counter("a", "h"));  // has its place
    CHECK(r.try_counter("a", "other").why().code() == prom::errc::conflict);
    CHECK(holds(r, 2, 2, 7 + 1 + 1 + 1 + 1 + 9));
    CHECK(r.unregister("a_total"));
    CHECK(r.try_histogram("c", "h"));
    CHECK_FALSE(r.try_counter("a", "h"));
    // Those that a function tells count as well, and nothing that collectors yield.
    CHECK(r.unregister("c"));
    {
        const prom::callback_gauge g{"g", "h", [] { return 1.0; }, {.registry = &r}};
        CHECK(fault(r.try_counter("a", "h")) == "the registry's limit of 2 families has no room for a_total");
        CHECK(holds(r, 2, 2, 12 + 2));
    }
    CHECK(holds(r, 1, 1, 12));
    CHECK(r.try_counter("a", "h"));
    auto handle = r.add_collector([](prom::sample_sink& to) {
        to.family(prom::metric_type::gauge, "collected", "h");
        for (const char* value : {"a", "b", "c"}) to.sample(1, {{"l", value}});
    });
    CHECK(page(r).find("collected") != std::string::npos);
    CHECK(r.held().families == 2);
    handle.remove();
    CHECK(r.held().families == 2);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("at a limit, what raises other errors raises this one") {
    prom::registry r{prom::registry_limits{.families = 1}};
    r.make_counter("a", "h");
    CHECK_THROWS_WITH_AS(r.make_gauge("b", "h"), "the registry's limit of 1 families has no room for b", prom::failure);
    CHECK_THROWS_WITH_AS((prom::family<prom::counter, "l">{"b", "h", {.registry = &r}}), "the registry's limit of 1 families has no room for b_total", prom::failure);
    CHECK_THROWS_WITH_AS((prom::callback_gauge{"b", "h", [] { return 1.0; }, {.registry = &r}}), "the registry's limit of 1 families has no room for b", prom::failure);
    CHECK(holds(r, 1, 1, 8));
}
#endif

TEST_CASE("series: as many as the limit says, of all families together, the overflow series among them") {
    prom::registry r{prom::registry_limits{.series = 6}};
    const prom::counter alone{"alone", "h", {.registry = &r}};                                     // one
    const prom::family<prom::counter, "l"> f{"f", "h", {.registry = &r}}, g{"g", "h", {.registry = &r}};  // one each
    const std::uint64_t before = overflows();
    f(1).inc(), f(2).inc(), g(1).inc();
    CHECK(r.held().series == 6);
    CHECK(f.size() + g.size() == 3);
    CHECK(overflows() == before);
    f(3).inc(), f(4).inc(), g(2).inc();
    f(1).inc();  // is there
    alone.inc();
    CHECK(overflows() == before + 3);
    CHECK(f("_overflow").value() == 2);
    CHECK(g("_overflow").value() == 1);
    CHECK(f(1).value() == 2);
    CHECK(f.size() + g.size() == 5);
    CHECK(r.held().series == 6);
    CHECK(overflows() == before + 3);
    CHECK(fault(r.try_gauge("more", "h")) == "the registry's limit of 6 series has no room for more");
    CHECK(fault(r.try_family<prom::gauge>("more", "h", {"l"})) == "the registry's limit of 6 series has no room for more");
    CHECK(r.held().families == 3);
    CHECK(g.remove("_overflow"));  // gives nothing: its room stays its own
    CHECK(r.held().series == 6);
    CHECK(g.remove(1));
    CHECK(r.held().series == 5);
    f(5).inc();
    CHECK(f(5).value() == 1);
    f(6).inc();
    CHECK(f("_overflow").value() == 3);
    CHECK(r.unregister("g_total"));
    CHECK(r.held().series == 5);
    f(6).inc();
    CHECK(f(6).value() == 1);
    CHECK(r.held().series == 6);
    f.clear();
    CHECK(r.try_gauge("more", "h"));
    CHECK(page(r) ==
          "# HELP alone_total h\n# TYPE alone_total counter\nalone_total 1\n# HELP f_total h\n# TYPE f_total counter\n# HELP more h\n# TYPE more gauge\nmore 0\n");
}

TEST_CASE("bytes: as many as the limit says") {
    for (std::size_t limit : {29U, 30U, 31U}) {
        prom::registry r{prom::registry_limits{.bytes = limit}};
        const auto f = r.make_family<prom::counter>("f", "h", {"l"});  // f_total h l _overflow: 18
        CHECK(holds(r, 1, 1, 18));
        f({"twelve octet"}).inc();
        CHECK(f({"twelve octet"}).value() == (limit >= 30 ? 1 : f({"_overflow"}).value()));
        CHECK(r.held().bytes == (limit >= 30 ? 30 : 18));
        f({"a"}).inc();
        CHECK(r.held().bytes == (limit == 30 ? 30 : limit == 31 ? 31 : 19));
        f({""}).inc();  // needs no octets
        CHECK(f({""}).value() == 1);
    }
    prom::registry r{prom::registry_limits{.bytes = 9}};
    const auto more = r.try_counter("ab", "h");
    CHECK(more);  // ab_total h: 9
    CHECK(fault(r.try_gauge("g", "")) == "the registry's limit of 9 bytes has no room for g");
    CHECK(r.unregister("ab_total"));
    CHECK(fault(r.try_counter("ab", "he")) == "the registry's limit of 9 bytes has no room for ab_total");
    CHECK(holds(r, 0, 0, 0));
    CHECK(r.try_gauge("g", "12345678"));
}

TEST_CASE("an info keeps its labels when the new ones have no room") {
    prom::registry r{prom::registry_limits{.bytes = 20}};
    const prom::info i = r.make_info("i", "h");  // i_info h: 7
    i.set({{"a", "12345678"}});
    CHECK(holds(r, 1, 1, 16));
    const std::uint64_t before = overflows();
    i.set({{"a", "1234567890123"}});
    CHECK(overflows() == before + 1);
    CHECK(holds(r, 1, 1, 16));
    CHECK(page(r).find("i_info{a=\"12345678\"} 1") != std::string::npos);
    i.set({{"a", "123456789012"}});
    CHECK(holds(r, 1, 1, 20));
    r.set_limits({.bytes = 1});
    i.set({{"b", "1"}});  // less than before
    CHECK(holds(r, 1, 1, 9));
    CHECK(overflows() == before + 1);
    CHECK(r.unregister("i_info"));
    CHECK(holds(r, 0, 0, 0));
}

TEST_CASE("limits are set later, also below what is held") {
    prom::registry r;
    r.set_limits({.families = 9});
    CHECK(holds(r, 0, 0, 0));
    const prom::family<prom::gauge, "a", "b"> f{"f", "h", {.registry = &r}};
    for (int i = 0; i != 10; ++i) f(i, i).set(1);
    r.set_limits({.series = 3});
    CHECK(f.size() == 10);
    f(77, 77).set(5);
    CHECK(f.size() == 11);
    CHECK(f("_overflow", "_overflow").value() == 5);
    CHECK_FALSE(r.try_gauge("g", "h"));
    for (int i = 0; i != 8; ++i) f.remove(i, i);
    CHECK(r.held().series == 3);
    f(0, 0).set(2);
    CHECK(f("_overflow", "_overflow").value() == 2);
    f.remove(8, 8);
    f(0, 0).set(2);
    CHECK(f(0, 0).value() == 2);
    CHECK(f("_overflow", "_overflow").value() == 2);
    r.set_limits({});
    for (int i = 0; i != 100; ++i) f(i, i).set(1);
    CHECK(r.held().series == 101);
}

TEST_CASE("max_series and the limits of the registry: whichever comes first") {
    prom::registry r{prom::registry_limits{.series = 5}};
    const prom::family<prom::counter, "l"> f{"f", "h", {.registry = &r, .max_series = 2}}, g{"g", "h", {.registry = &r, .max_series = 9}};
    for (int i = 0; i != 4; ++i) f(i).inc();
    CHECK(f("_overflow").value() == 2);
    CHECK(r.held().series == 4);
    for (int i = 0; i != 4; ++i) g(i).inc();
    CHECK(g("_overflow").value() == 3);
    CHECK(r.held().series == 5);
}

TEST_CASE("each type of metric takes one of the series") {
    prom::registry r{prom::registry_limits{.series = 8}};
    CHECK(r.try_counter("c", "h"));
    CHECK(r.try_gauge("g", "h"));
    CHECK(r.try_histogram("h", "h"));
    CHECK(r.try_summary("s", "h"));
    CHECK(r.try_info("i", "h"));
    CHECK(r.try_state_set("t", "h", {.states = {"on", "off"}}));
    CHECK(r.try_unknown("u", "h"));
    CHECK(r.try_min_max_gauge("m", "h"));
    CHECK(r.held().series == 8);
    CHECK_FALSE(r.try_min_max_gauge("n", "h"));
    prom::registry few{prom::registry_limits{.series = 5}};
    const auto m = few.make_family<prom::min_max_gauge>("m", "h", {"l"});
    const auto t = few.make_family<prom::state_set>("t", "h", {"l"}, {.states = {"on", "off"}});
    const auto n = few.make_family<prom::histogram>("n", "h", {"l"}, {.native = {.factor = 1.1}});
    for (const char* value : {"a", "b", "c"}) {
        m({value}).observe(1);
        t({value}).set("off");
        n({value}).observe(1);
    }
    CHECK(few.held().series == 5);
    CHECK(m.size() == 2);
    CHECK(t.size() == 2);
    CHECK(n.size() == 1);
    CHECK(n({"_overflow"}).count() == 3);
}

TEST_CASE("registries that share a page have limits of their own") {
    prom::registry one{prom::registry_limits{.series = 3}}, two{prom::registry_limits{.series = 2}};
    const prom::family<prom::counter, "l"> f{"f", "h", {.registry = &one, .labels = {{"of", "one"}}}}, g{"f", "h", {.registry = &two, .labels = {{"of", "two"}}}};
    for (int i = 0; i != 3; ++i) f(i).inc(), g(i).inc();
    CHECK(one.held().series == 3);
    CHECK(two.held().series == 2);
    prom::registry* const both[] = {&one, &two};
    CHECK(prom::expose({.registries = both}) ==
          "# HELP f_total h\n# TYPE f_total counter\nf_total{of=\"one\",l=\"0\"} 1\nf_total{of=\"one\",l=\"1\"} 1\nf_total{of=\"one\",l=\"_overflow\"} 1\n"
          "f_total{of=\"two\",l=\"0\"} 1\nf_total{of=\"two\",l=\"_overflow\"} 2\n");
}

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("several threads at the limit lose nothing and exceed nothing") {
    prom::registry r{prom::registry_limits{.series = 22, .bytes = 400}};
    const prom::family<prom::counter, "l"> f{"f", "h", {.registry = &r}}, g{"g", "h", {.registry = &r}};
    std::atomic<int> exceeded{0};
    std::vector<std::thread> threads;
    for (int t = 0; t != 4; ++t)
        threads.emplace_back([&, t] {
            for (int i = 0; i != 500; ++i) {
                f(i % 40 + t).inc();
                g(i % 7).inc();
                if (i % 5 == 0) g.remove(i % 7);
                const prom::registry_limits held = r.held();
                if (held.series > 22 || held.bytes > 400) ++exceeded;
            }
        });
    for (auto& t : threads) t.join();
    CHECK(exceeded == 0);
    g.clear();
    double all = 0;
    for (int i = 0; i != 43; ++i)
        if (const auto v = r.sample_value("f_total", {{"l", std::to_string(i)}})) all += *v;
    all += r.sample_value("f_total", {{"l", "_overflow"}}).value();
    CHECK(all == 2000);
    CHECK(r.held().series <= 22);
    f.clear();
    CHECK(holds(r, 2, 2, 2 * (7 + 1 + 1 + 9)));
}
#endif
