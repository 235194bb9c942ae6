// Declaring, conflicts, finding, removing.
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

#include "support/allocations.hpp"
#include "support/values.hpp"
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace prom = prometheus_async;

namespace {
std::string page(prom::registry& r) {
    prom::registry* const shown[] = {&r};
    return prom::expose({.registries = shown});
}
template <class Metric>
std::string fault(const prom::result<Metric>& made) {
    return made ? "none" : made.why().describe();
}
enum class color { red, green };
std::string_view to_label(color c) { return c == color::red ? "red" : "green"; }
struct url {
    std::string text;
    operator std::string_view() const { return text; }
};
}  // namespace


TEST_CASE("a family finds or makes the child of its label values") {
    prom::registry mine;
    const prom::family<prom::counter, "method", "status"> f{"http_requests", "h", {.registry = &mine}};
    f("GET", 200).inc();
    f("GET", "200").inc();
    f(std::string("GET"), std::string_view("200")).inc();
    f("GET", 200U).inc(0.5);
    CHECK(f.size() == 1);
    f("PUT", -1).inc();
    CHECK(f.size() == 2);
    CHECK(page(mine) ==
          "# HELP http_requests_total h\n# TYPE http_requests_total counter\n"
          "http_requests_total{method=\"GET\",status=\"200\"} 3.5\nhttp_requests_total{method=\"PUT\",status=\"-1\"} 1\n");
}

TEST_CASE("label values are strings, integers, bools, enums with to_label, and what converts to a string") {
    prom::registry mine;
    const prom::family<prom::gauge, "v"> f{"g", "h", {.registry = &mine}};
    f(true).set(1);
    f(color::green).set(2);
    f(url{"/a?b=\"c\"\\\n"}).set(3);
    f('x').set(4);
    f(static_cast<std::int64_t>(-9223372036854775807 - 1)).set(5);
    f(~std::uint64_t{0}).set(6);
    f(static_cast<signed char>(-7)).set(7);
    f("").set(8);
    CHECK(page(mine) ==
          "# HELP g h\n# TYPE g gauge\ng{v=\"true\"} 1\ng{v=\"green\"} 2\ng{v=\"/a?b=\\\"c\\\"\\\\\\n\"} 3\ng{v=\"x\"} 4\n"
          "g{v=\"-9223372036854775808\"} 5\ng{v=\"18446744073709551615\"} 6\ng{v=\"-7\"} 7\ng{v=\"\"} 8\n");
}

TEST_CASE("values of every length are told apart") {
    prom::registry mine;
    const prom::family<prom::counter, "a", "b"> f{"c", "h", {.registry = &mine}};
    std::vector<std::string> values;
    for (std::size_t n = 0; n <= 70; ++n)
        for (const char fill : {'a', '\0', '\x7f'}) {
            std::string s(n, fill);
            values.push_back(s);
            for (const std::size_t at : {std::size_t{0}, n / 2, n - 1}) {
                if (n == 0) continue;
                s = std::string(n, fill);
                s[at] = 'b';
                values.push_back(s);
            }
        }
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    for (std::size_t i = 0; i != values.size(); ++i) {
        f(values[i], "x").inc(i);
        f("x", values[i]).inc(i);
        f(values[i], values[i]).inc(i);
    }
    CHECK(f.size() == 3 * values.size() - (std::find(values.begin(), values.end(), "x") != values.end() ? 2 : 0));
    for (std::size_t i = 0; i != values.size(); ++i) {
        CHECK(f(values[i], "x").value() == static_cast<double>(i));
        CHECK(f(values[i], values[i]).value() == static_cast<double>(i));
    }
    for (const auto& v : values) CHECK(f.remove(v, v));
    for (const auto& v : values) CHECK(f.remove("x", v));
    CHECK(f.size() == values.size());
}

TEST_CASE("two values of any two lengths are found again, and told from those that differ in one octet") {
    prom::registry mine;
    const prom::family<prom::counter, "a", "b"> f{"c", "h", {.registry = &mine}};
    const auto value = [](std::size_t n, char last) { return n == 0 ? std::string() : std::string(n - 1, 'v') + last; };
    std::size_t made = 0;
    for (std::size_t a = 13; a <= 34; ++a)
        for (std::size_t b = 13; b <= 34; ++b)
            for (const char last : {'v', 'w'}) {
                const double n = static_cast<double>(++made);
                f(value(a, last), value(b, 'v')).inc(n);
                f(value(a, last), value(b, 'v')).inc(n);
                CHECK(f(value(a, last), value(b, 'v')).value() == 2 * n);
            }
    CHECK(f.size() == made);
    // A label that stands behind a long one is found by its value too.
    for (std::size_t b = 13; b <= 34; ++b) CHECK(f.remove_matching({{"b", value(b, 'v')}}) == 44);
    CHECK(f.size() == 0);
}

TEST_CASE("neither an update nor a lookup allocates") {
    prom::registry mine;
    const prom::family<prom::histogram, "path", "status"> f{"h", "h", {.registry = &mine}};
    f("/a/rather/long/path/of/a/request", 200).observe(1);
    f("/short", 200).observe(1);
    const long before = allocations;
    for (int i = 0; i < 1000; ++i) {
        f("/a/rather/long/path/of/a/request", 200).observe(i);
        f("/short", 200).observe(i);
    }
    CHECK(allocations == before);
}

TEST_CASE("the same declaration twice gives the same series") {
    prom::registry mine;
    const prom::counter a{"c_total", "h", {.registry = &mine}};
    const prom::counter b{"c", "h", {.registry = &mine}};
    a.inc();
    b.inc();
    CHECK(a.value() == 2);
    const prom::family<prom::gauge, "l"> f{"g", "h", {.registry = &mine}}, g{"g", "h", {.registry = &mine}};
    f("x").inc();
    g("x").inc();
    CHECK(f("x").value() == 2);
    const prom::histogram h{"h", "h", {.registry = &mine}};
    const prom::histogram i{"h", "h", {.registry = &mine, .buckets = {.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}}};
    h.observe(1);
    i.observe(1);
    CHECK(h.count() == 2);
}

TEST_CASE("a conflict is an error that names both sides") {
    prom::registry mine;
    mine.make_counter("c", "help");
    mine.make_family<prom::counter>("f", "help", {"a", "b"});
    mine.make_histogram("h", "help");
    mine.make_gauge("u", "help", {.unit = "seconds"});
    CHECK(fault(mine.try_counter("c", "other")) == "c_total: help \"other\", declared before: \"help\"");
    CHECK(fault(mine.try_gauge("c", "help")) == "c is a gauge, declared before: c_total is a counter");
    CHECK(fault(mine.try_family<prom::counter>("f", "help", {"a"})) == "f_total(a) is a counter, declared before with other labels: f_total(a,b)");
    CHECK(fault(mine.try_counter("f", "help")) == "f_total is a counter, declared before with other labels: f_total(a,b)");
    CHECK(fault(mine.try_histogram("h", "help", {.buckets = {1}})) == "h is a histogram with other buckets than declared before");
    CHECK(fault(mine.try_counter("c", "help", {.labels = {{"a", "b"}}})) == "c_total is a counter with other constant labels than declared before");
    CHECK(fault(mine.try_gauge("u_seconds", "help")) == "u_seconds is a gauge with other unit than declared before");
    CHECK(fault(mine.try_family<prom::counter>("f", "help", {"a", "b"}, {.max_series = 3})) ==
          "f_total(a,b) is a counter with other max_series than declared before");
    // Names that another family's samples have.
    CHECK(fault(mine.try_gauge("c_total", "help")) == "c_total is a gauge, declared before: c_total is a counter");
    CHECK(fault(mine.try_gauge("c_created", "help")) == "c_created is a gauge, declared before: c_total is a counter");
    CHECK(fault(mine.try_gauge("h_bucket", "help")) == "h_bucket is a gauge, declared before: h is a histogram");
    mine.make_gauge("later_sum", "help");
    CHECK(fault(mine.try_summary("later", "help")) == "later is a summary, declared before: later_sum is a gauge");
    CHECK(mine.try_counter("c", "other").why().code() == prom::errc::conflict);
}

TEST_CASE("names and options that make no sense are refused") {
    prom::registry mine;
    CHECK(fault(mine.try_counter("", "h")) == "a metric needs a name");
    CHECK(fault(mine.try_counter("\xff", "h")) == "a metric's name is not UTF-8");
    CHECK(fault(mine.try_family<prom::histogram>("h", "h", {"le"})) == "h: the label le of a histogram is reserved");
    CHECK(fault(mine.try_family<prom::summary>("s", "h", {"quantile"})) == "s: the label quantile of a summary is reserved");
    CHECK(fault(mine.try_family<prom::counter>("c", "h", {"__a"})) == "c_total: label names that begin with __ are reserved");
    CHECK(fault(mine.try_family<prom::counter>("c", "h", {"a", "a"})) == "c_total: two labels have the same name");
    CHECK(fault(mine.try_family<prom::counter>("c", "h", {"a"}, {.labels = {{"a", "x"}}})) == "c_total: two labels have the same name");
    CHECK(fault(mine.try_family<prom::counter>("c", "h", {})) == "c_total: a family must have 1 to 64 labels");
    CHECK(fault(mine.try_histogram("h", "h", {.buckets = {2, 1}})) == "h: the bounds do not ascend");
    CHECK(fault(mine.try_histogram("h", "h", {.buckets = prom::linear_buckets(0, 1, 251)})) == "h: a histogram must have 1 to 250 bounds");
    CHECK(fault(mine.try_histogram("h", "h", {.buckets = {infinity()}})) == "h: a histogram must have 1 to 250 bounds");
    CHECK(fault(mine.try_histogram("h", "h", {.buckets = {1, not_a_number()}})) == "h: a bound is not finite");
    CHECK(fault(mine.try_histogram("h", "h", {.buckets = {minus_infinity(), 1}})) == "h: a bound is not finite");
    for (const double factor : {not_a_number(), minus_not_a_number(), from_bits(1)})
        CHECK(fault(mine.try_histogram("h", "h", {.native = {.factor = factor}})).find("native") != std::string::npos);
    CHECK(fault(mine.try_histogram("h", "h", {.buckets = {minus_not_a_number(), 1}})) == "h: a bound is not finite");
    CHECK(fault(mine.try_counter("c", "h", {.buckets = {1}})) == "c_total: only a histogram has buckets");
    CHECK(fault(mine.try_info("i", "h", {.unit = "seconds"})) == "i: an info or a state set cannot have a unit");
    CHECK(fault(mine.try_state_set("s", "h")) == "s: a state set must have at least one state");
    CHECK(fault(mine.try_state_set("s", "h", {.labels = {{"s", "x"}}, .states = {"a"}})) == "s: a state set's own name is reserved as a label");
    CHECK(page(mine).empty());
#if PROMETHEUS_ASYNC_EXCEPTIONS
    CHECK_THROWS_AS(mine.make_counter("", "h"), prom::failure);
#endif
}

TEST_CASE("a name known only at run time is what the program text may have, or asked for by utf8()") {
    prom::registry mine;
    using prom::utf8;
    for (const char* bad : {"a-b", "http.requests", "caf\xc3\xa9 bad name", "5xx", "a b", "a\nb", "\"a\""}) {
        CAPTURE(bad);
        CHECK(fault(mine.try_counter(bad, "h")).find("[a-zA-Z_:][a-zA-Z0-9_:]*: use utf8() for it") != std::string::npos);
        CHECK(fault(mine.try_family<prom::gauge>(std::string(bad), "h", {"l"})).find("utf8()") != std::string::npos);
        CHECK(fault(mine.try_family<prom::gauge>("f", "h", {"good", bad})).find("[a-zA-Z_][a-zA-Z0-9_]*: use utf8() for it") != std::string::npos);
        CHECK(fault(mine.try_gauge("g", "h", {.labels = {{bad, "x"}}})).find("utf8()") != std::string::npos);
    }
    CHECK(fault(mine.try_family<prom::histogram>("h", "h", {"le-x"})) == "h: label le-x is not [a-zA-Z_][a-zA-Z0-9_]*: use utf8() for it");
    CHECK(fault(mine.try_family<prom::gauge>("f", "h", {"a:b"})).find("label a:b is not") != std::string::npos);
    CHECK(fault(mine.try_gauge("g", "h", {.name_space = "my-app"})).find("my-app_g: not") != std::string::npos);
    for (const char* bad : {"a:b", "a-b", "a b", "\xc3\xa9"}) CHECK(fault(mine.try_gauge("g", "h", {.unit = bad})) == "g: a unit may have only letters, digits and underscores");
    CHECK(fault(mine.try_state_set("a:b", "h", {.states = {"x"}})).find("without colons") != std::string::npos);
    CHECK(fault(mine.try_state_set(utf8("__s"), "h", {.states = {"x"}})).find("reserved") != std::string::npos);
    CHECK(fault(mine.try_counter(utf8("\xff"), "h")) == "a metric's name is not UTF-8");
    CHECK(fault(mine.try_counter(utf8(""), "h")) == "a metric needs a name");
    CHECK(fault(mine.try_family<prom::gauge>("f", "h", {utf8("__a.b")})) == "f: label names that begin with __ are reserved");
    for (const char* bad : {"..name..", "_.a", "\xc3\xa9\xc3\xa9"}) {  // once escaped
        CHECK(fault(mine.try_family<prom::gauge>("f", "h", {utf8(bad)})) == "f: label names that begin with __ are reserved");
        CHECK(fault(mine.try_gauge("g", "h", {.labels = {{utf8(bad), "x"}}})) == "g: label names that begin with __ are reserved");
        CHECK(fault(mine.try_state_set(utf8(bad), "h", {.states = {"x"}})).find("__ is reserved") != std::string::npos);
    }
    CHECK(page(mine).empty());

    mine.make_counter(utf8("http.requests"), "", {.labels = {{utf8("a.b"), "1"}}});
    mine.make_family<prom::gauge>("f", "", {"plain", utf8("le-x")})({"1", "2"}).set(3);
    const std::vector<std::string> of_strings{"a", "b"};
    const std::vector<prom::any_name> of_names{"a", utf8("c.d")};
    mine.make_family<prom::gauge>("g", "", of_strings)({"1", "2"}).set(4);
    mine.make_family<prom::gauge>("i", "", of_names)({"1", "2"}).set(5);
    CHECK(page(mine) == "# TYPE http_requests_total counter\nhttp_requests_total{a_b=\"1\"} 0\n# TYPE f gauge\nf{plain=\"1\",le_x=\"2\"} 3\n"
                        "# TYPE g gauge\ng{a=\"1\",b=\"2\"} 4\n# TYPE i gauge\ni{a=\"1\",c_d=\"2\"} 5\n");
}

TEST_CASE("names that some escaping makes one are a conflict, whichever comes first") {
    using prom::utf8;
    static constexpr struct {
        const char* first;
        const char* second;
    } pairs[] = {{"http-requests", "http.requests"}, {"a_b", "a.b"}, {"a b", "a_b"}, {"\xc3\xa9", "_"}, {"U__a_2e_b", "a.b"}, {"5xx", "_xx"}};
    for (const auto& [first, second] : pairs)
        for (const bool turned : {false, true}) {
            const char* one = turned ? second : first;
            const char* two = turned ? first : second;
            CAPTURE(one);
            prom::registry mine;
            mine.make_gauge(utf8(one), "h");
            CHECK(mine.try_gauge(utf8(two), "h").why().code() == prom::errc::conflict);
            CHECK(fault(mine.try_gauge(utf8(two), "h")) == std::string(two) + " and " + one + ", declared before, are equal after escaping");
            CHECK(mine.unregister(one));
            CHECK(mine.try_gauge(utf8(two), "h"));
            // Labels: those of the program, of a family, and of an info.
            CHECK(fault(mine.try_gauge("l", "h", {.labels = {{utf8(one), "1"}, {utf8(two), "2"}}})) ==
                  std::string("l: labels ") + one + " and " + two + " are equal after escaping");
            CHECK(fault(mine.try_family<prom::gauge>("l", "h", {utf8(one)}, {.labels = {{utf8(two), "2"}}})).find("after escaping") != std::string::npos);
#if PROMETHEUS_ASYNC_EXCEPTIONS
            CHECK_THROWS_AS(mine.make_info("i", "h").set({{utf8(one), "1"}, {utf8(two), "2"}}), prom::failure);
#endif
        }
    // Names of samples too, in the escaping that adds them after.
    prom::registry mine;
    mine.make_histogram(utf8("h.x"), "h");
    for (const char* taken : {"h_x", "h-x", "h_x_sum", "h-x_count", "h.x-bucket", "U__h_2e_x", "U__h_2e_x_bucket"})
        CHECK(mine.try_gauge(utf8(taken), "h").why().code() == prom::errc::conflict);
    mine.make_gauge("U__q_2e_r_sum", "h");
    CHECK(mine.try_summary(utf8("q.r"), "h").why().code() == prom::errc::conflict);
    for (const char* free : {"h_x_total", "hx", "U__h_2e_y", "U__h_2e_x_total"}) CHECK(mine.try_gauge(utf8(free), "h"));
    CHECK(mine.try_histogram(utf8("h.x"), "h"));
}

TEST_CASE("namespace, subsystem and unit make the full name") {
    prom::registry mine;
    mine.make_counter("requests", "h", {.registry = nullptr, .unit = "bytes", .name_space = "app", .subsystem = "http"});
    mine.make_gauge("age_seconds", "h", {.unit = "seconds"});
    mine.make_info("build", "h", {.name_space = "app"});
    const std::string shown = page(mine);
    CHECK(shown.find("app_http_requests_bytes_total 0\n") != std::string::npos);
    CHECK(shown.find("\nage_seconds 0\n") != std::string::npos);
    CHECK(shown.find("\napp_build_info 1\n") != std::string::npos);
}

TEST_CASE("constant labels are on every series, before the others") {
    prom::registry mine;
    const prom::family<prom::summary, "l"> f{"s", "h", {.registry = &mine, .labels = {{"host", "a\"b"}, {"zone", "1"}}}};
    f("x").observe(2);
    CHECK(page(mine) == "# HELP s h\n# TYPE s summary\ns_sum{host=\"a\\\"b\",zone=\"1\",l=\"x\"} 2\ns_count{host=\"a\\\"b\",zone=\"1\",l=\"x\"} 1\n");
}

TEST_CASE("series are removed by their values, by some of them, or all") {
    prom::registry mine;
    const prom::family<prom::counter, "a", "b"> f{"c", "h", {.registry = &mine}};
    for (int a = 0; a < 10; ++a) for (int b = 0; b < 10; ++b) f(a, "a long value, longer than sixteen " + std::to_string(b)).inc();
    CHECK(f.remove(3, "a long value, longer than sixteen 4"));
    CHECK(!f.remove(3, "a long value, longer than sixteen 4"));
    CHECK(f.size() == 99);
    CHECK(prom::family<prom::counter, "a">().remove_matching({{"a", "3"}}) == 0);  // one that has no registry
    CHECK(f.remove_matching({{"a", "3"}}) == 9);
    CHECK(f.remove_matching({{"b", "a long value, longer than sixteen 7"}}) == 9);
    CHECK(f.remove_matching({{"b", "a long value, longer than sixteen 8"}, {"a", "1"}}) == 1);
#if PROMETHEUS_ASYNC_EXCEPTIONS
    CHECK_THROWS_WITH(f.remove_matching({{"a", "1"}, {"no such label", "x"}}), "c_total: it has no label no such label");
#endif
    CHECK(f.remove_matching({}) == 0);
    CHECK(f.size() == 80);
    f.clear();
    CHECK(f.size() == 0);
    f(1, 2).inc();
    CHECK(page(mine) == "# HELP c_total h\n# TYPE c_total counter\nc_total{a=\"1\",b=\"2\"} 1\n");
}

TEST_CASE("beyond max_series everything goes to one overflow series") {
    prom::registry mine;
    const prom::family<prom::counter, "user"> f{"c", "h", {.registry = &mine, .max_series = 2}};
    const std::uint64_t before = prom::event_count(prom::event_kind::series_overflowed);
    for (int i = 0; i < 5; ++i) f(i).inc();
    CHECK(f(0).value() == 1);
    CHECK(f(1).value() == 1);
    CHECK(f("_overflow").value() == 3);
    CHECK(f.size() == 3);
    CHECK(prom::event_count(prom::event_kind::series_overflowed) == before + 3);
    f.remove(0);
    f(7).inc();
    CHECK(f(7).value() == 1);  // the overflow series takes no other's place
    f(8).inc();
    CHECK(f("_overflow").value() == 4);
    CHECK(f.size() == 3);
}

TEST_CASE("values that are not UTF-8 are made harmless, and stay one series") {
    prom::registry mine;
    const prom::family<prom::counter, "l"> f{"c", "h\xff", {.registry = &mine}};
    const std::uint64_t before = prom::event_count(prom::event_kind::text_sanitized);
    f("a\xff").inc();
    f("a\xff").inc();
    f("a\xef\xbf\xbd").inc();
    CHECK(f.size() == 1);
    CHECK(f("a\xef\xbf\xbd").value() == 3);
    CHECK(prom::event_count(prom::event_kind::text_sanitized) == before + 2);
    CHECK(page(mine).find("\xff") == std::string::npos);
}

TEST_CASE("a family of names known only at run time takes its values as a list") {
    prom::registry mine;
    const auto f = mine.make_family<prom::gauge>("g", "h", {"a", "b"});
    f({"x", "y"}).set(1);
    CHECK(f({"x", "y"}).value() == 1);
    CHECK(f.size() == 1);
#if PROMETHEUS_ASYNC_EXCEPTIONS
    CHECK_THROWS_AS(f({"x"}), prom::failure);
#endif
    CHECK(f.remove({"x", "y"}));
    CHECK(!f.remove({"x"}));
}

TEST_CASE("an unregistered metric is gone, and its name is free") {
    prom::registry mine;
    const prom::family<prom::counter, "l"> f{"c", "h", {.registry = &mine}};
    f("x").inc();
    CHECK(mine.unregister("c"));
    CHECK(!mine.unregister("c"));
    CHECK(!mine.unregister({"c"}));
    CHECK(page(mine).empty());
    f("y").inc();
    CHECK(f.size() == 0);
    const prom::gauge g{"c", "h", {.registry = &mine}};
    g.set(1);
    CHECK(page(mine) == "# HELP c h\n# TYPE c gauge\nc 1\n");
}

TEST_CASE("scoped timers, exceptions and work in progress are measured by scopes") {
    static double now = 100;
    prom::set_clock({[] { return now; }, [] { return now + 1e9; }});
    prom::registry mine;
    const prom::histogram h{"h", "h", {.registry = &mine}};
    const prom::summary s{"s", "h", {.registry = &mine}};
    const prom::gauge g{"g", "h", {.registry = &mine}}, busy{"busy", "h", {.registry = &mine}};
    {
        const auto th = h.timer();
        const auto ts = s.timer();
        const auto tg = g.timer();
        const auto in = busy.track_inprogress();
        CHECK(busy.value() == 1);
        now += 2.5;
        CHECK(th.elapsed() == 2.5);
    }
    CHECK(h.sum() == 2.5);
    CHECK(s.sum() == 2.5);
    CHECK(g.value() == 2.5);
    CHECK(busy.value() == 0);
    {
        const auto backwards = s.timer();
        now -= 10;
    }
    CHECK(s.sum() == 2.5);
    CHECK(s.count() == 2);
    g.set_to_current_time();
    CHECK(g.value() == now + 1e9);
#if PROMETHEUS_ASYNC_EXCEPTIONS
    const prom::counter c{"c", "h", {.registry = &mine}};
    for (const bool fails : {true, false}) {
        try {
            const auto scope = c.count_exceptions();
            if (fails) throw 1;
        } catch (int) {
            const auto in_a_handler = c.count_exceptions();
        }
    }
    CHECK(c.value() == 1);
#endif
    prom::set_clock(prom::system_clock());
}

TEST_CASE("reset makes a metric zero, to the last bit") {
    prom::registry mine;
    const prom::counter c{"c", "h", {.registry = &mine}};
    const prom::histogram h{"h", "h", {.registry = &mine, .buckets = {1}}};
    const prom::summary s{"s", "h", {.registry = &mine}};
    for (int i = 0; i < 100; ++i) {
        c.inc(0.1);
        c.inc();
        h.observe(0.1);
        s.observe(0.1);
    }
    c.reset();
    h.reset();
    s.reset();
    CHECK(c.value() == 0);
    CHECK(page(mine) ==
          "# HELP c_total h\n# TYPE c_total counter\nc_total 0\n# HELP h h\n# TYPE h histogram\nh_bucket{le=\"1.0\"} 0\n"
          "h_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0\n# HELP s h\n# TYPE s summary\ns_sum 0\ns_count 0\n");
    c.inc(2);
    h.observe(2);
    CHECK(c.value() == 2);
    CHECK(h.count() == 1);
}

TEST_CASE("a reset series was created when it was reset") {
    static double wall;
    wall = 1000;
    prom::set_clock({prom::system_clock().monotonic, [] { return wall; }});
    prom::registry mine;
    const prom::counter c{"c", "", {.registry = &mine}};
    const prom::histogram h{"h", "", {.registry = &mine, .buckets = {1}}};
    const prom::summary s{"s", "", {.registry = &mine}};
    const auto created = [&](std::string_view name) {
        prom::registry* const shown[] = {&mine};
        const std::string text = prom::expose({.as = prom::format::openmetrics_1_0_0, .registries = shown, .created = prom::created_series::openmetrics});
        const std::size_t at = text.find("\n" + std::string(name) + "_created ") + 1;
        return text.substr(at, text.find('\n', at) - at);
    };
    wall = 2000;
    CHECK(created("c") == "c_created 1000");
    c.reset();
    h.reset();
    s.reset();
    wall = 3000;
    CHECK(created("c") == "c_created 2000");
    CHECK(created("h") == "h_created 2000");
    CHECK(created("s") == "s_created 2000");
    prom::set_clock(prom::system_clock());
}

TEST_CASE("reset makes a metric zero that was infinite or NaN, and what comes after counts") {
    prom::registry mine;
    const prom::counter c{"c", "", {.registry = &mine}};
    const prom::histogram h{"h", "", {.registry = &mine, .buckets = {1}}};
    const prom::summary s{"s", "", {.registry = &mine}};
    for (int round = 0; round != 2; ++round) {
        c.inc(infinity());
        h.observe(not_a_number());
        s.observe(minus_infinity());
        CHECK(page(mine).find("c_total +Inf") != std::string::npos);
        c.reset();
        h.reset();
        s.reset();
        CHECK(page(mine) == "# TYPE c_total counter\nc_total 0\n# TYPE h histogram\nh_bucket{le=\"1.0\"} 0\nh_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0\n"
                            "# TYPE s summary\ns_sum 0\ns_count 0\n");
        c.inc(2.5);
        h.observe(0.5);
        s.observe(-1);
        CHECK(c.value() == 2.5);
        CHECK(h.sum() == 0.5);
        CHECK(s.sum() == -1);
    }
}

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("a reset total stays zero when the threads that counted before end, in whatever order") {
    prom::registry mine;
    const prom::counter c{"c", "", {.registry = &mine}};
    for (int round = 0; round != 100; ++round) {
        std::atomic<int> counted{0};
        std::atomic<bool> go{false};
        std::vector<std::thread> threads;
        for (int i = 0; i != 4; ++i)
            threads.emplace_back([&, i] {
                for (int k = 0; k != 37; ++k) c.inc(0.1 * (i + 1));
                ++counted;
                while (!go) std::this_thread::yield();
            });
        while (counted != 4) std::this_thread::yield();
        c.reset();
        go = true;
        for (auto& t : threads) t.join();
        CHECK(c.value() == 0);
    }
}
#endif

TEST_CASE("a clock of the user's may use metrics") {
    static prom::registry mine;
    static const prom::counter asked{"asked", "", {.registry = &mine}};
    prom::set_clock({prom::system_clock().monotonic, [] {
                         asked.inc();  // this thread's first: takes the lock
                         return 1.0;
                     }});
    const prom::family<prom::counter, "l"> f{"f", "", {.registry = &mine}};
    f(1).inc();
    f(1).reset();
    prom::set_clock(prom::system_clock());
    CHECK(asked.value() >= 2);
}

TEST_CASE("a series whose value was not UTF-8 is removed by that value") {
    prom::registry mine;
    const prom::family<prom::counter, "a", "b"> f{"f", "h", {.registry = &mine}};
    const std::string longer = "\xff and much more than is kept in a word or two";
    for (const std::string& value : {std::string("\xff"), longer}) {
        f(value, "1").inc();
        CHECK(f.remove(value, "1"));
        CHECK_FALSE(f.remove(value, "1"));
        f(value, "1").inc();
        f(value, "2").inc();
        f("other", "2").inc();
        CHECK(f.remove_matching({{"a", value}}) == 2);
        CHECK(f.size() == 1);
    }
}

TEST_CASE("a family of infos that is named target is shown, as any other") {
    prom::registry mine;
    const prom::family<prom::info, "a"> f{"target", "h", {.registry = &mine}};
    f("x").set({{"b", "c"}});
    CHECK(f.size() == 1);
    CHECK(page(mine).find("target_info{a=\"x\",b=\"c\"} 1\n") != std::string::npos);
    CHECK(f.remove("x"));
    CHECK(f.size() == 0);
}

TEST_CASE("a list is made of a braced list that has a name") {
    const std::initializer_list<std::string_view> names = {"a", "b"};
    const prom::list<std::string_view> seen = names;
    CHECK(seen.size() == 2);
    CHECK(seen[1] == "b");
    prom::registry mine;
    const auto f = mine.make_family<prom::counter>("f_total", "h", {"one", "two"});
    f(names).inc();
    CHECK(f.remove(names));
}
