// needs-network
// Each allocation of each function failed in turn: an update never fails; what does leaves everything as it was.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TESTS_NO_ALLOCATIONS 1  // clang's has operators of its own that cannot be replaced
#endif
#endif
#ifdef TESTS_NO_ALLOCATIONS
#include <doctest/doctest.h>
TEST_CASE("memory that fails is not tested here") { MESSAGE("SKIPPED: clang's ThreadSanitizer has allocations of its own"); }
#else
#define PROMETHEUS_ASYNC_DETAIL_SYS ::failing
#include "support/failing_memory.hpp"

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/scripted_peer.hpp"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <string>
#if !PROMETHEUS_ASYNC_NO_THREADS
#include <thread>
#endif
#include <utility>
#include <vector>

namespace prom = prometheus_async;
using failing::each_allocation;
using namespace std::chrono_literals;

namespace {

std::string page(prom::registry& r, prom::format as = prom::format::openmetrics_1_0_0) {
    prom::registry* const shown[] = {&r};
    return prom::expose({.as = as, .registries = shown});
}
/// The page when nothing fails.
std::string whole(prom::registry& r) {
    const long chosen = failing::chosen.exchange(-1), done = failing::done.load();
    std::string text = page(r);
    failing::chosen = chosen;
    failing::done = done;
    return text;
}
/// Whether the page is whole and shows each series once.
void check_page(prom::registry& r) {
    const std::string text = whole(r);
    CHECK(text.ends_with("# EOF\n"));
    std::vector<std::string> seen;
    for (std::size_t at = 0, end; at < text.size(); at = end + 1) {
        end = text.find('\n', at);
        std::string line = text.substr(at, end - at);
        if (line[0] != '#') line = line.substr(0, line.rfind(' '));
        for (const auto& have : seen)
            if (have == line) FAIL_CHECK(line << " is shown twice");
        seen.push_back(line);
    }
}
#if PROMETHEUS_ASYNC_EXCEPTIONS
/// Runs `act` on what `prepare` makes, with each of its allocations failed in turn; then the registry must still
/// do all that it did, and `act` must succeed.
template <class Act>
void survives(Act act, bool keeps_bounds = false) {
    prom::gauge("this_thread_has_cells", "h").inc();
    const long before = failing::living;
    const long runs = each_allocation([&] {
        const long chosen = failing::chosen.exchange(-1);
        prom::registry r;
        const prom::counter c{"before", "h", {.registry = &r}};
        const prom::family<prom::counter, "l"> f{"children", "h", {.registry = &r}};
        f("x").inc();
        failing::done = 0;
        failing::chosen = chosen;
        struct afterwards {
            prom::registry& in;
            const prom::counter& c;
            const prom::family<prom::counter, "l">& f;
            ~afterwards() {
                const bool failed = failing::done > failing::chosen;
                const long at = failing::chosen.exchange(-1);
                c.inc();
                CHECK(c.value() == 1);
                f("x").inc();
                f("y").inc();
                CHECK(f("x").value() == 2);
                CHECK(f.size() == 2);
                check_page(in);
                failing::done = failed ? at + 1 : 0;
                failing::chosen = at;
            }
        } check{r, c, f};
        act(r);
    });
    CHECK(runs < 1000);
    if (!keeps_bounds) CHECK(failing::living.load() == before);
}
#endif

}  // namespace

TEST_CASE("an update does what it has to without memory") {
    prom::registry r;
    const prom::counter c{"c", "h", {.registry = &r}};
    const prom::gauge g{"g", "h", {.registry = &r}};
    const prom::histogram h{"h", "h", {.registry = &r}};
    const prom::summary s{"s", "h", {.registry = &r}};
    const prom::state_set states{"states", "h", {.registry = &r, .states = {"on", "of\xff"}}};
    const auto all = [&] {
        c.inc();
        c.inc(0.5);
        c.inc(1, {.labels = {{"trace", "a long text, longer than a string holds inside"}}});
        h.observe(0.3, {.labels = {{"trace", "a long text, longer than a string holds inside"}}});
        g.inc();
        h.observe(0.3);
        s.observe(2);
        CHECK(states.set("of\xff"));
        CHECK_FALSE(states.set("a state that was not declared, with a long name \xff"));
    };
#if !PROMETHEUS_ASYNC_NO_THREADS
    std::vector<std::thread> threads;
    for (long n = 0; n != 12; ++n) {  // a thread's first touch allocates its cells
        std::thread([&] {
            failing::done = 0;
            failing::chosen = n;
            all();
            failing::chosen = -1;
        }).join();
    }
    CHECK(c.value() == 12 * 2.5);
    CHECK(g.value() == 12);
    CHECK(h.count() == 24);
    CHECK(s.count() == 12);
#else
    each_allocation(all);
    CHECK(c.value() > 0);
#endif
    check_page(r);
}

TEST_CASE("an observation of a native histogram and of a window is counted without memory, whatever its value") {
    const auto run = [](auto each) {
        for (long n = 0; n != 40; ++n) {
            prom::registry r;
            const prom::histogram native{"native", "h", {.registry = &r, .native = {.factor = 1.1, .max_buckets = 20}}};
            const prom::histogram both{"both", "h", {.registry = &r, .buckets = {1, 1e6}, .native = {.factor = 1.01, .max_buckets = 0}}};
            const prom::min_max_gauge width{"width", "h", {.registry = &r}};
            const prom::unknown u{"u", "h", {.registry = &r}};
            double sum = 0;
            std::uint64_t count = 0;
            const auto all = [&] {
                for (int k = -60; k <= 60; ++k)
                    for (double sign : {1.0, -1.0}) {
                        const double v = sign * std::ldexp(1, k);
                        native.observe(v);
                        both.observe(v);
                        width.observe(v);
                        sum += v;
                        ++count;
                    }
                native.observe(0);
                both.observe(0);
                u.set(3);
                ++count;
            };
            each(n, all);
            CHECK(native.count() == count);
            CHECK(both.count() == count);
            CHECK(std::fabs(native.sum() - sum) < 1);
            CHECK(width.smallest() == -std::ldexp(1, 60));
            CHECK(width.largest() == std::ldexp(1, 60));
            CHECK(u.value() == 3);
            CHECK(r.sample_value("both_bucket", {{"le", "+Inf"}}).value() == static_cast<double>(count));
            CHECK(r.sample_value("both_bucket", {{"le", "1.0"}}).value() == 183);
            for (const auto as : {prom::format::protobuf, prom::format::openmetrics_2_0_0}) CHECK_FALSE(page(r, as).empty());
        }
    };
    const auto failing_at = [](long n, auto& all) {
        failing::done = 0;
        failing::chosen = n;
        all();
        failing::chosen = -1;
    };
    run([&](long n, auto& all) { failing_at(n, all); });
#if !PROMETHEUS_ASYNC_NO_THREADS
    run([&](long n, auto& all) { std::thread([&] { failing_at(n, all); }).join(); });
#endif
}

TEST_CASE("a list of series that finds no memory to become shorter stays as it is, and the page shows the living") {
    each_allocation([] {
        const long chosen = failing::chosen.exchange(-1);
        prom::registry r;
        const prom::family<prom::gauge, "l"> f{"fewer", "h", {.registry = &r}};
        for (int i = 0; i != 1300; ++i) f(i).set(i);
        failing::done = 0;
        failing::chosen = chosen;
        for (int i = 0; i != 1290; ++i)
            if (i % 7 != 0) CHECK(f.remove(i));
        const bool failed = failing::done > failing::chosen;
        failing::chosen = -1;
        CHECK(f.size() == 185 + 10);
        check_page(r);
        for (int i = 0; i < 1290; i += 7) CHECK(f.remove(i));
        CHECK(f.size() == 10);
        failing::done = failed ? chosen + 1 : 0;
        failing::chosen = chosen;
    });
}

TEST_CASE("a registry ends, and the default one is there, without memory") {
    auto* r = new prom::registry;
    const prom::family<prom::gauge, "l"> f{"f", "h", {.registry = r}};
    for (int i = 0; i != 100; ++i) f(i).set(1);
    for (int i = 0; i != 10; ++i) r->add_collector([](prom::sample_sink&) {}).keep();
    failing::done = 0;
    failing::chosen = 0;
    delete r;
    CHECK(&prom::default_registry() == &prom::default_registry());
    failing::chosen = -1;
    CHECK(failing::done.load() == 0);
}

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("what a thread counted is counted on when it ends without memory") {
    prom::registry r;
    const prom::family<prom::counter, "l"> f{"f", "h", {.registry = &r}};
    const prom::histogram h{"h", "h", {.registry = &r}};
    const prom::histogram native{"native", "h", {.registry = &r, .native = {.factor = 1.1}}};
    const prom::gauge g{"g", "h", {.registry = &r}};
    for (int round = 0; round != 3; ++round) {
        std::thread([&] {
            for (int k = 0; k != 100; ++k) {  // often enough for cells of its own
                for (int i = 0; i != 20; ++i) f(i).inc();
                h.observe(0.1), native.observe(std::ldexp(1, k % 20)), g.inc();
            }
            failing::done = 0;
            failing::chosen = 0;  // none from here on: its end adds what it has to what is shared
            for (int i = 0; i != 20; ++i) f(i).inc(0.5);
        }).join();
        failing::chosen = -1;
    }
    for (int i = 0; i != 20; ++i) CHECK(f(i).value() == 3 * 100.5);
    CHECK(h.count() == 300);
    CHECK(native.count() == 300);
    CHECK(g.value() == 300);
    check_page(r);
}
#endif

// Without exceptions, what an update does not need ends the process, as operator new does.
#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("a declaration that finds no memory has declared nothing") {
    survives([](prom::registry& r) {
        const prom::counter c{"a_counter_of_a_long_name", "A long help text, longer than a string holds inside.",
                              {.registry = &r, .labels = {{"constant", "a long value of a constant label, for it to be allocated"}}}};
        c.inc(2);
        CHECK(c.value() == 2);
    });
    survives([](prom::registry& r) { (void)r.make_histogram("h", "h", {.buckets = {1, 2, static_cast<double>(failing::chosen + 3)}}); }, true);
    survives([](prom::registry& r) { (void)r.make_state_set("states", "h", {.states = {"one", "two", "a state of a long name, longer than sixteen"}}); });
    survives([](prom::registry& r) { r.make_info("build", "h").set({{"version", "a long version, longer than a string holds inside"}}); });
    survives([](prom::registry& r) { r.target_info({{"service", "a long name of a service, longer than sixteen octets"}}); });
    survives([](prom::registry& r) { prom::declare_build_info(r); });
    survives([](prom::registry& r) { (void)r.try_counter("children", "another help: a conflict that is described at length"); });
    survives([](prom::registry& r) {
        prom::registry other;
        (void)other.make_summary("s", "h");
        prom::registry* const both[] = {&r, &other};
        (void)prom::expose({.registries = both});
    });
}

TEST_CASE("a child that finds no memory is not there, and is made when there is some") {
    survives([](prom::registry& r) {
        const prom::family<prom::gauge, "a", "b"> f{"g", "h", {.registry = &r}};
        for (int i = 0; i != 40; ++i) f(i, "a long value, longer than sixteen octets").set(i);
        CHECK(f.size() == 40);
        for (int i = 0; i != 40; ++i) CHECK(f(i, "a long value, longer than sixteen octets").value() == i);
        CHECK(f.remove(3, "a long value, longer than sixteen octets"));
        const bool none = f.remove(3, "a value that is no UTF-8 and long \xff\xfe");
        CHECK_FALSE(none);
        f(4, "a value that is no UTF-8 and long \xff\xfe").set(1);
        const bool one = f.remove(4, "a value that is no UTF-8 and long \xff\xfe");
        CHECK(one);
        const std::size_t some = f.remove_matching({{"a", "5"}});
        CHECK(some == 1);
        f.clear();
    });
    survives([](prom::registry& r) {
        const prom::family<prom::counter, "a"> f{"limited", "h", {.registry = &r, .max_series = 2}};
        for (int i = 0; i != 4; ++i) f(i).inc();
    });
    // What a registry at its limits counts is what is there, wherever memory ends.
    survives([](prom::registry& r) {
        struct counted {
            prom::registry& in;
            prom::registry_limits before = in.held();
            ~counted() {
                const bool failed = failing::done > failing::chosen;
                const long at = failing::chosen.exchange(-1);
                const std::string text = page(in);
                std::size_t families = before.families, series = before.series, bytes = before.bytes;
                const auto shows = [&](const char* what) { return text.find(what) != std::string::npos; };
                if (shows("# TYPE c ")) ++families, ++series, bytes += 7 + 1 + 1 + 9;
                for (const char* what : {"c_total{a=\"0\"}", "c_total{a=\"1\"}", "c_total{a=\"2\"}"})
                    if (shows(what)) ++series, ++bytes;
                if (shows("# TYPE i ")) ++families, ++series, bytes += 6 + 1;
                if (shows("i_info{name=")) bytes += 4 + 40;
                CHECK(in.held().families == families);
                CHECK(in.held().series == series);
                CHECK(in.held().bytes == bytes);
                if (!failed) CHECK(series == before.series + 5);
                for (const char* name : {"c_total", "i_info"}) (void)in.unregister(name);
                CHECK(in.held().bytes == before.bytes);
                CHECK(in.held().series == before.series);
                in.set_limits({});
                failing::done = failed ? at + 1 : 0;
                failing::chosen = at;
            }
        } check{r};
        r.set_limits({.series = check.before.series + 5});
        r.make_info("i", "h").set({{"name", "a long value, longer than sixteen octets"}});
        const prom::family<prom::counter, "a"> f{"c", "h", {.registry = &r}};
        for (int i = 0; i != 6; ++i) f(i).inc();
    });
}

TEST_CASE("a gauge that is removed while another thread may be setting it is removed without memory") {
#if !PROMETHEUS_ASYNC_NO_THREADS
    survives([](prom::registry& r) {
        const long chosen = failing::chosen.exchange(-1);
        const prom::family<prom::gauge, "a"> f{"g", "h", {.registry = &r}};
        const auto g = f(1);
        g.set(1);
        failing::done = 0;
        failing::chosen = chosen;
        CHECK(f.remove(1));
        CHECK(f.size() == 0);
    });
#endif
}

TEST_CASE("a reset that finds no memory has reset nothing") {
    survives([](prom::registry& r) {
        const long chosen = failing::chosen.exchange(-1);
        const prom::counter c{"c", "h", {.registry = &r}};
        c.inc(2.5);
        failing::done = 0;
        failing::chosen = chosen;
        try {
            c.reset();
        } catch (const std::bad_alloc&) {
            CHECK(c.value() == 2.5);
            throw;
        }
        CHECK(c.value() == 0);
    });
}

TEST_CASE("a collector that finds no memory is not added, and can be added again") {
    survives([](prom::registry& r) {
        struct large {
            double numbers[20] = {};
        } inside;
        const auto held = r.add_collector([inside](prom::sample_sink& to) {
            to.family(prom::metric_type::gauge, "collected", "A help text that is long enough to be allocated.");
            to.sample(inside.numbers[3], {{"label", "a long value, longer than sixteen octets"}});
        });
        CHECK(whole(r).find("collected") != std::string::npos);
    });
    survives([](prom::registry& r) {
        const prom::callback_gauge g{"asked_for_by_a_long_name", "A help text that is long enough.", [] { return 3.0; }, {.registry = &r}};
        CHECK(whole(r).find("asked_for_by_a_long_name 3\n") != std::string::npos);
    });
    survives([](prom::registry& r) {
        const prom::callback_counter c{"asked", "h", [] { return 3.0; }, {.registry = &r, .labels = {{"a", "a long value, longer than sixteen"}}}};
        CHECK(r.unregister("asked"));
    });
    survives([](prom::registry& r) {
        prom::add_process_metrics(r);
        CHECK(whole(r).find("process_open_fds") != std::string::npos);
    });
    // What failed once is there when it is asked for again.
    for (long n = 0; n != 8; ++n) {
        prom::registry r;
        failing::done = 0;
        failing::chosen = n;
        try {
            prom::add_process_metrics(r);
        } catch (const std::bad_alloc&) {
        }
        failing::chosen = -1;
        prom::add_process_metrics(r);
        prom::add_process_metrics(r);
        CHECK(whole(r).find("process_open_fds") != std::string::npos);
        check_page(r);
    }
}

TEST_CASE("a table that grows by and by finds no memory: each series is there once, and so it is when some are removed meanwhile") {
    // 512 series fill the table of 1024 places; the next one begins another, to which each that follows copies 64 places.
    const long before = failing::living;
    const long runs = each_allocation([] {
        const long chosen = failing::chosen.exchange(-1);
        {
            prom::registry r;
            const prom::family<prom::counter, "l"> f{"grown", "h", {.registry = &r}};
            for (int i = 0; i != 505; ++i) f(i).inc();
            failing::done = 0;
            failing::chosen = chosen;
            std::size_t made = 505;
            for (int i = 505; i != 530; ++i) {
                try {
                    f(i).inc();
                    ++made;
                } catch (const std::bad_alloc&) {
                }
                if (i == 515) f.remove(3), f.remove(513), made -= 2;
                if (i == 520) made -= f.remove_matching({{"l", "7"}});
            }
            const bool failed = failing::done > failing::chosen;
            failing::chosen = -1;
            CHECK(f.size() == made);
            for (int i = 0; i != 1100; ++i) f(i).inc();  // through the next growth too
            CHECK(f.size() == 1100);
            for (int i : {0, 4, 504}) CHECK(f(i).value() == 2);
            for (int i : {3, 7, 513}) CHECK(f(i).value() == 1);
            f.clear();
            CHECK(f.size() == 0);
            failing::done = failed ? chosen + 1 : 0;
            failing::chosen = chosen;
        }
    });
    CHECK(runs < 200);
    CHECK(failing::living.load() == before);
}

TEST_CASE("each kind of metric finds no memory to be declared, changed or taken away, and all is as it was") {
    survives([](prom::registry& r) {
        const auto f = r.make_family<prom::histogram>("dynamic_of_a_long_name", "A help text that is long enough.",
                                                      {"first_label_of_a_long_name", "b"}, {.buckets = {1, 2}});
        f({"one", "a long value, longer than sixteen octets"}).observe(1);
        f({"two", "a long value, longer than sixteen octets"}).observe(1);
        const bool one = f.remove({"one", "a long value, longer than sixteen octets"});
        CHECK(one);
        const std::size_t two = f.remove_matching({{"first_label_of_a_long_name", "two"}});
        CHECK(two == 1);
        CHECK(f.size() == 0);
        f.clear();
    });
    survives([](prom::registry& r) {
        const auto made = r.try_family<prom::min_max_gauge>(prom::utf8("a name of UTF-8, dotted.too"), "h", {prom::utf8("a label, dotted.too")}, {.window = 5});
        REQUIRE(made);
        (*made)({"x"}).observe(4);
        const bool gone = r.unregister("a name of UTF-8, dotted.too");
        CHECK(gone);
    });
    survives([](prom::registry& r) {
        const prom::min_max_gauge g{"width", "h", {.registry = &r, .labels = {{"constant", "a long value, longer than sixteen octets"}}}};
        for (int i = 0; i != 100; ++i) g.observe(i);
        CHECK(g.largest() == 99);
        const prom::unknown u{"unknown", "h", {.registry = &r}};
        u.set(4);
        CHECK(u.value() == 4);
        const prom::summary s{"sizes", "h", {.registry = &r}};
        s.observe(2);
        s.reset();
        CHECK(s.count() == 0);
    });
    survives([](prom::registry& r) {
        const prom::histogram h{"native", "h", {.registry = &r, .native = {.factor = 1.1 + 1e-9 * static_cast<double>(failing::chosen + 2)}}};
        for (int k = -20; k != 20; ++k) h.observe(std::ldexp(1, k), {.labels = {{"trace", "a long text, longer than a string holds inside"}}});
        CHECK(h.count() == 40);
        h.reset();
        CHECK(h.count() == 0);
        h.observe(3);
        const auto counted = r.sample_value("native_count");
        CHECK((counted ? *counted == 1 : counted.why().code() != prom::errc::refused));  // "no sample" would not be true
    });
    survives([](prom::registry& r) {
        const auto name = r.try_gauge("not a name, and a long one", "h");
        CHECK_FALSE(name);
        const auto label = r.try_summary("s", "h", {.labels = {{"quantile", "the library's own label, and a long value"}}});
        CHECK_FALSE(label);
        const auto another = r.try_unknown("children_total", "a name that another one has already");
        CHECK_FALSE(another);
        const auto none = r.sample_value("nothing_of_this_long_name", {{"label", "and a long value, longer than sixteen"}});
        CHECK_FALSE(none);
    });
}

TEST_CASE("a native histogram that a page resets for want of room loses nothing when there is no memory for that page") {
    for (long n = 0;; ++n) {
        prom::registry r;
        const prom::histogram h{"native", "h", {.registry = &r, .native = {.factor = 1.01, .max_buckets = 4, .min_reset = 1e-9}}};
        for (int k = -40; k != 40; ++k) h.observe(std::ldexp(1, k));
        (void)page(r, prom::format::openmetrics_2_0_0);  // reduces it
        for (int k = -40; k != 40; ++k) h.observe(std::ldexp(1, k));
        const std::uint64_t before = h.count();
        failing::done = 0;
        failing::chosen = n;
        std::string text;
        try {
            text = page(r, prom::format::openmetrics_2_0_0);
        } catch (const std::bad_alloc&) {
        }
        const bool failed = failing::done > n;
        failing::chosen = -1;
        const std::string shown = "count:" + std::to_string(before);
        CHECK((text.find(shown) != std::string::npos || h.count() == before || h.count() == 0));
        CHECK((h.count() == before || h.count() == 0));
        const double sum = h.sum();
        CHECK((h.count() == 0 ? sum == 0 : sum > 1));
        if (!failed) break;
    }
}

TEST_CASE("a collector that finds no memory while it yields is left out, or the page fails, and the next page is whole") {
    prom::registry r;
    const auto held = r.add_collector([](prom::sample_sink& to) {
        to.family(prom::metric_type::histogram, "a_histogram_of_a_long_name", "A help text, longer than a string holds inside.", "seconds");
        to.histogram({{1, 2}, {HUGE_VAL, 3, {.labels = {{"trace", "a long text, longer than a string"}}}, 2}}, 5, {{"a", "a long value, longer than sixteen"}});
        to.family(prom::metric_type::summary, "a_summary", "h");
        to.summary(3, 4, {{0.5, 1}, {0.9, 2}}, {{"a", "a long value, longer than sixteen"}});
        to.family(prom::metric_type::state_set, "states", "h");
        to.states({{"on, which is a long name", true}, {"off", false}});
        to.family(prom::metric_type::counter, "counted", "h");
        to.sample(3, {{"a", "b"}}, {.timestamp = 5, .created = 4, .example = {.labels = {{"trace", "long, longer than a string holds"}}}});
        to.family(prom::metric_type::info, "about", "h");
        to.sample(1, {{"version", "a long version, longer than sixteen"}});
    });
    const prom::histogram native{"native", "h", {.registry = &r, .native = {.factor = 1.1}}};
    for (int k = -20; k != 20; ++k) native.observe(std::ldexp(1, k), {.labels = {{"trace", "of the native one"}}});
    const prom::family<prom::counter, "l"> f{"children", "h", {.registry = &r}};
    f("a \"value\" with escapes, and long").inc(2, {.labels = {{"trace", "of a counter"}}});
    r.target_info({{"service", "a long name of a service, longer than sixteen octets"}});
    prom::registry other;
    const prom::family<prom::counter, "l"> twin{"children", "h", {.registry = &other}};
    twin("other").inc();
    twin("a \"value\" with escapes, and long").inc();
    prom::registry* const both[] = {&r, &other};
    static int told = 0;
    for (const auto as : {prom::format::text_0_0_4, prom::format::text_1_0_0, prom::format::openmetrics_0_0_1, prom::format::openmetrics_1_0_0,
                          prom::format::protobuf, prom::format::openmetrics_2_0_0})
        for (const auto names : {prom::escaping::underscores, prom::escaping::values}) {
            const prom::page_options options{.as = as, .names = names, .registries = both, .created = prom::created_series::all,
                                             .on_event = [](const prom::event&, void*) { ++told; }};
            const std::string good = prom::expose(options);
            REQUIRE(good.size() > 1000);
            const long runs = each_allocation([&] {
                prom::cursor page;
                page.start(options);
                std::string text;
                char buffer[300];
                const auto rest = [&] {
                    for (;;) {
                        const prom::pulled got = page.next(buffer);
                        const long chosen = failing::chosen.exchange(-1), done = failing::done.load();
                        text.append(buffer, got.bytes);
                        failing::done = done;
                        failing::chosen = chosen;
                        if (got.what != prom::pull::more) return got.what;
                    }
                };
                const prom::pull end = rest();
                const long chosen = failing::chosen.exchange(-1), done = failing::done.load();
                if (end == prom::pull::done) CHECK(text.size() <= good.size());
                text.clear();
                page.start(options);  // the same cursor makes a whole page once there is memory
                CHECK(rest() == prom::pull::done);
                CHECK(text == good);
                failing::done = done;
                failing::chosen = chosen;
            });
            CHECK(runs > 10);
            CHECK(runs < 1000);
        }
    CHECK(told > 0);
}

TEST_CASE("a page that finds no memory is 500, never an empty 200") {
    prom::registry r;
    const prom::counter c{"c", "h", {.registry = &r}};
    const auto held = r.add_collector([](prom::sample_sink& to) {
        to.family(prom::metric_type::gauge, "collected", "");
        to.sample(1);
    });
    prom::registry* const shown[] = {&r};
    each_allocation([&] {
        const prom::stats_page answer = prom::server_stats({.accept = "application/openmetrics-text", .registries = shown});
        CHECK((answer.status == 200 ? answer.body.ends_with("# EOF\n") : answer.status == 500 && !answer.body.empty()));
    });
    check_page(r);
    prom::registry without;  // a collector, which would be left out
    const prom::histogram h{"native", "h", {.registry = &without, .native = {.factor = 1.1}}};
    for (int k = -20; k != 20; ++k) h.observe(std::ldexp(1, k));
    const prom::family<prom::counter, "l"> many{"many", "Of them.", {.registry = &without}};
    for (int i = 0; i != 300; ++i) many(i).inc();
    prom::registry* const whole_ones[] = {&without};
    for (const char* accept : {"application/openmetrics-text", "text/plain", "application/openmetrics-text;version=2.0.0",
                               "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"})
        for (const char* encoding : {"", "gzip"}) {
            const prom::stats_request request{.accept = accept, .accept_encoding = encoding, .registries = whole_ones};
            const std::string plain = prom::server_stats({.accept = accept, .registries = whole_ones}).body, good = prom::server_stats(request).body;
            CHECK((good.size() < plain.size()) == (*encoding != '\0'));
            each_allocation([&] {
                const prom::stats_page answer = prom::server_stats(request);
                if (answer.status == 200) CHECK((answer.body == good || (answer.content_encoding.empty() && answer.body == plain)));
                else CHECK((answer.status == 500 && !answer.body.empty()));
            });
        }
}

// ---- loop, server, client ----

namespace {

int open_descriptors() {
    int n = 0;
    DIR* const dir = ::opendir("/proc/self/fd");
    while (::readdir(dir)) ++n;
    ::closedir(dir);
    return n;
}
/// The time of waits that support/failing_memory.hpp cuts short passes too.
const prom::clock hurried{[] { return prom::system_clock().monotonic() + static_cast<double>(failing::skipped) / 1e3; }, prom::system_clock().wall};
/// One request over a connection of its own; the status, or 0.
int ask(const sockaddr* to, socklen_t size, prom::event_loop* loop, const char* path, const char* fields = "", const char* greeting = "") {
    const int fd = ::socket(to->sa_family, SOCK_STREAM, 0);
    char answer[100] = {};
    if (::connect(fd, to, size) == 0) {
        char request[300];
        const int length = std::snprintf(request, sizeof request, "%sGET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n", greeting, path, fields);
        (void)::send(fd, request, static_cast<std::size_t>(length), MSG_NOSIGNAL);
        ssize_t n = -1;
        for (int i = 0; i != 20 && n < 0; ++i) {
            if (loop) loop->poll(1);
            n = ::recv(fd, answer, sizeof answer - 1, loop ? MSG_DONTWAIT : 0);
            if (n < 0 && errno != EAGAIN) break;
        }
    }
    ::close(fd);
    return std::strlen(answer) > 12 ? std::atoi(answer + 9) : 0;
}
int ask(std::uint16_t port, prom::event_loop* loop, const char* path = "/metrics", const char* fields = "", const char* greeting = "") {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return ask(reinterpret_cast<const sockaddr*>(&to), sizeof to, loop, path, fields, greeting);
}
int ask(const std::string& unix_path, prom::event_loop* loop) {
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    std::memcpy(to.sun_path, unix_path.data(), unix_path.size());
    return ask(reinterpret_cast<const sockaddr*>(&to), sizeof to, loop, "/metrics");
}
/// As each allocation is failed, but for this part.
template <class Part>
auto undisturbed(Part part) {
    struct pause {
        long chosen = failing::chosen.exchange(-1), done = failing::done.load();
        ~pause() {
            failing::done = done;
            failing::chosen = chosen;
        }
    } const now;
    return part();
}
/// Runs it with each allocation failed; nothing may stay open or allocated.
template <class Run>
void leaves_nothing(Run run) {
    run();  // what is made once for the process
    const int descriptors = open_descriptors();
    const long living = failing::living;
    const long runs = each_allocation(run);
    CHECK(runs > 2);
    CHECK(runs < 3000);
    CHECK(open_descriptors() == descriptors);
    CHECK(failing::living.load() == living);
}

}  // namespace

TEST_CASE("a loop that finds no memory ends what could not begin, and leaves nothing open") {
    leaves_nothing([] {
        prom::event_loop loop;
        int done = 0;
        for (int i = 0; i != 3; ++i)
            loop.spawn([](prom::event_loop& l, int& n) -> prom::task<void> {
                co_await l.sleep(0);
                ++n;
            }(loop, done));
        loop.post([&] { ++done; });
        const int got = loop.run([](prom::event_loop& l) -> prom::task<int> {
            co_await l.sleep(1ms);
            co_return 7;
        }(loop));
        CHECK(got == 7);
    });
}

TEST_CASE("a server that finds no memory does not start, or loses a connection, and leaves nothing open") {
    leaves_nothing([] {
        prom::registry shown;
        prom::registry* const all[] = {&shown};
        const prom::route routes[] = {{.path = "/metrics", .registries = all}, {.path = "/text", .text = "a text that is longer than a string holds"}};
        const std::string_view hosts[] = {"localhost", "a.host.with.a.long.name.example"};
        const prom::credential accepted[] = {prom::bearer("t0ken")};
        prom::event_loop loop;
        loop.run([](prom::event_loop& l, const prom::server_options& options) -> prom::task<void> {
            auto server = co_await prom::start_http_server(l, options);
            if (server) (void)co_await server->close();
        }(loop, {.addr = "127.0.0.1", .credentials = accepted, .routes = routes, .allowed_hosts = hosts, .self_metrics = true}));
    });
    leaves_nothing([] {
        prom::registry shown;
        const prom::counter c{"c", "h", {.registry = &shown}};
        const auto held = shown.add_collector([](prom::sample_sink& to) {
            to.family(prom::metric_type::gauge, "collected", "");
            to.sample(1);
        });
        prom::registry* const all[] = {&shown};
        const prom::route routes[] = {{.path = "/metrics", .registries = all}};
        prom::event_loop loop;
        prom::metrics_http_server server;
        loop.spawn([](prom::event_loop& l, const prom::server_options& options, prom::metrics_http_server& to) -> prom::task<void> {
            auto made = co_await prom::start_http_server(l, options);
            if (made) to = *std::move(made);
        }(loop, {.addr = "127.0.0.1", .routes = routes}, server));
        for (int i = 0; i != 5 && server.port() == 0; ++i) loop.poll(0.001);
        if (server.port() == 0) return;
        const int first = ask(server.port(), &loop);
        CHECK((first == 200 || first == 500 || first == 503 || first == 0));
        const long chosen = failing::chosen.exchange(-1), done = failing::done.load();
        CHECK(ask(server.port(), &loop) == 200);
        failing::done = done;
        failing::chosen = chosen;
    });
}

namespace {

/// A server on a loop, which answers whatever it is asked or ends the connection; then it still answers.
void serves(prom::server_options options, const std::vector<std::pair<const char*, const char*>>& requests, std::vector<int> statuses) {
    const struct alone {  // both sides are on this thread
        int before = std::exchange(failing::enough, 0);
        ~alone() { failing::enough = before; }
    } here;
    leaves_nothing([&] {
        prom::event_loop loop({.time = hurried});
        prom::metrics_http_server server;
        loop.spawn([](prom::event_loop& l, const prom::server_options& o, prom::metrics_http_server& to) -> prom::task<void> {
            auto made = co_await prom::start_http_server(l, o);
            if (made) to = *std::move(made);
        }(loop, options, server));
        for (int i = 0; i != 20 && server.port() == 0; ++i) loop.poll(0.001);
        if (server.port() == 0) return;
        const char* const greeting = options.tls ? "\x16" : "";
        const auto allowed = [&](int status, std::size_t i) { return status == statuses[i] || status == 500 || status == 503 || status == 0; };
        for (std::size_t i = 0; i != requests.size(); ++i) {
            const int first = ask(server.port(), &loop, requests[i].first, requests[i].second, greeting);
            CHECK_MESSAGE(allowed(first, i), std::string(requests[i].first) << ": " << first);
        }
        undisturbed([&] {
            for (std::size_t i = 0; i != requests.size(); ++i) {
                const int again = ask(server.port(), &loop, requests[i].first, requests[i].second, greeting);
                CHECK_MESSAGE(again == statuses[i], std::string(requests[i].first) << ": " << again << " instead of " << statuses[i]);
            }
        });
    });
}
prom::result<void> is_ready(void*) { return prom::error(prom::errc::refused, "not yet, for a reason that is told at some length"); }
prom::task<prom::result<void>> is_ready_later(void*) { co_return prom::result<void>(); }
prom::task<bool> may_later(const prom::authorization_request& asked, void*) { co_return asked.authorization == "Bearer a token"; }

}  // namespace

TEST_CASE("pages for people, compressed pages, filtered ones, checks and decisions find no memory, and come again") {
    prom::registry shown;
    prom::registry* const all[] = {&shown};
    const prom::family<prom::counter, "l"> many{"many", "Of them.", {.registry = &shown}};
    for (int i = 0; i != 110; ++i) many("the " + std::to_string(i) + "th").inc();
    const prom::histogram h{"native", "h", {.registry = &shown, .native = {.factor = 1.1}}};
    for (int k = -20; k != 20; ++k) h.observe(std::ldexp(1, k));
    const prom::route routes[] = {{.path = "/", .registries = all, .view = prom::landing_page},
                                  {.path = "/metrics", .registries = all},
                                  {.path = "/ready", .check = {.now = is_ready}, .open = true},
                                  {.path = "/later", .check = {.later = is_ready_later}, .open = true}};
    serves({.addr = "127.0.0.1", .routes = routes}, {{"/", ""}, {"/?name%5B%5D=many&q=x", ""}}, {200, 200});
    serves({.addr = "127.0.0.1", .routes = routes},
           {{"/metrics", "Accept-Encoding: gzip\r\nAccept: application/openmetrics-text;version=1.0.0\r\n"},
            {"/metrics?name[]=many_total&name[]=a%20long%20name%20that%20nothing%20has", "Accept: application/openmetrics-text;version=2.0.0\r\n"},
            {"/metrics", "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n"}},
           {200, 200, 200});
    serves({.addr = "127.0.0.1", .routes = routes}, {{"/ready", ""}, {"/later", ""}, {"/nothing", ""}}, {503, 200, 404});
    serves({.addr = "127.0.0.1", .authorizer = {.later = may_later}, .routes = routes, .self_metrics = true, .process_start_header = true},
           {{"/metrics", "Authorization: Bearer a token\r\n"}, {"/metrics", "Authorization: Bearer another\r\n"}, {"/later", ""}}, {200, 401, 200});
}

TEST_CASE("a server on a unix socket, on a socket that it is given, or at a name finds no memory, and leaves nothing behind") {
    const std::string path = "/tmp/prometheus_async_memory_" + std::to_string(::getpid()) + ".sock", address = "unix:" + path;
    leaves_nothing([&] {
        prom::event_loop loop;
        prom::metrics_http_server server;
        loop.spawn([](prom::event_loop& l, const prom::server_options& o, prom::metrics_http_server& to) -> prom::task<void> {
            auto made = co_await prom::start_http_server(l, o);
            if (made) to = *std::move(made);
        }(loop, {.addr = address}, server));
        for (int i = 0; i != 20 && server.address().empty(); ++i) loop.poll(0.001);
        if (server.address().empty()) return;
        (void)ask(path, &loop);
        CHECK(undisturbed([&] { return ask(path, &loop); }) == 200);
        const std::string url = server.url();
        CHECK(url.find(path) != std::string::npos);
    });
    CHECK(::access(path.c_str(), F_OK) != 0);
    leaves_nothing([&] {
        const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        CHECK(::bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
        CHECK(::listen(fd, 5) == 0);
        struct closed {
            int fd;
            bool taken = false;
            ~closed() { if (!taken) ::close(fd); }
        } own{fd};
        prom::event_loop loop;
        prom::metrics_http_server server;
        const prom::server_options options{.listen_fd = fd};
        prom::task<prom::result<prom::metrics_http_server>> start = prom::start_http_server(loop, options);
        own.taken = true;  // by the task, whatever becomes of it
        loop.spawn([](prom::task<prom::result<prom::metrics_http_server>> begun, prom::metrics_http_server& to) -> prom::task<void> {
            auto made = co_await std::move(begun);
            if (made) to = *std::move(made);
        }(std::move(start), server));
        for (int i = 0; i != 20 && server.port() == 0; ++i) loop.poll(0.001);
        if (server.port() != 0) CHECK(undisturbed([&] { return ask(server.port(), &loop); }) == 200);
    });
#if !PROMETHEUS_ASYNC_NO_THREADS
    leaves_nothing([] {
        prom::event_loop loop;
        loop.run([](prom::event_loop& l, const prom::server_options& options) -> prom::task<void> {
            auto server = co_await prom::start_http_server(l, options);
            if (server) (void)co_await server->close();
        }(loop, {.addr = "127.1"}));  // what inet_pton does not read is looked up, by a thread
    });
#endif
}

TEST_CASE("a file for node_exporter that finds no memory stays as it was, and nothing is left beside it") {
    const std::string folder = "/tmp/prometheus_async_memory_" + std::to_string(::getpid()), path = folder + "/a_job_of_some_name.prom";
    REQUIRE(::mkdir(folder.c_str(), 0755) == 0);
    prom::registry shown;
    prom::registry* const all[] = {&shown};
    const prom::family<prom::counter, "l"> many{"many", "Of them.", {.registry = &shown}};
    for (int i = 0; i != 100; ++i) many("the " + std::to_string(i) + "th of these").inc();
    const auto entries = [&] {
        int n = 0;
        DIR* const dir = ::opendir(folder.c_str());
        while (::readdir(dir)) ++n;
        ::closedir(dir);
        return n - 2;
    };
    leaves_nothing([&] {
        {
            prom::textfile file({.path = path, .registries = all, .only = {"many"}});
            (void)file.write();
            (void)file.write();
            (void)file.remove();
            (void)file.write();
        }
        CHECK(undisturbed(entries) == 0);
    });
    CHECK(entries() == 0);
    ::rmdir(folder.c_str());
}

TEST_CASE("tasks, deferreds and verbs that find no memory tell so, call what they owe once, and leave nothing behind") {
    prom::registry own;
    const prom::histogram took{"took", "h", {.registry = &own}};
    const prom::counter thrown{"thrown", "h", {.registry = &own}};
    const prom::gauge running{"running", "h", {.registry = &own}};
    const auto work = [](prom::event_loop& l, int n) -> prom::task<int> {
        co_await l.sleep(0);
        co_return n + 1;
    };
    leaves_nothing([&] {
        prom::event_loop loop;
        const auto measured = (prom::time(took) | prom::count_exceptions(thrown) | prom::track_inprogress(running))(work);
        const int got = loop.run([](prom::event_loop& l, const auto& f) -> prom::task<int> {
            const int two = co_await f(l, 1);
            const prom::result<int> three = co_await prom::within(l, 5s, f(l, two));
            co_return three.value();
        }(loop, measured));
        CHECK(got == 3);
    });
    CHECK(running.value() == 0);
    leaves_nothing([&] {
        int called = 0;
        {
            prom::deferred<int> d;
            d.add_callback([](int n) { return n + 1; });
            d.add_both([&called](prom::outcome<int>&) { ++called; });
            auto measured = prom::time(took, std::move(d));
            (void)measured;
        }
        prom::event_loop loop;
        prom::deferred<int> e = prom::make_deferred(work(loop, 41));
        e.add_callback([&called](int n) { called += n; });
        for (int i = 0; i != 5; ++i) loop.poll(0);
        CHECK(called <= 42);
    });
    leaves_nothing([&] {
        int called = 0;
        {
            auto handler = prom::time(took, prom::completion([&called, text = std::string("a capture of some length, allocated")](int n) { called += n; }));
            std::move(handler)(3);
        }
        CHECK((called == 0 || called == 3));
        const auto bounds = prom::linear_buckets(1, 2, 10), wider = prom::exponential_buckets(1, 2, 10);
        CHECK(bounds.size() == wider.size());
    });
}

TEST_CASE("waits for a descriptor, and the set of a host's poll, find no memory and leave nothing behind") {
    leaves_nothing([] {
        int both[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, both) == 0);
        const prom::detail::descriptor one(both[0]), other(both[1]);
        prom::event_loop loop;
        loop.spawn([](prom::event_loop& l, int fd) -> prom::task<void> {
            if (co_await l.writable(fd)) (void)::send(fd, "x", 1, MSG_NOSIGNAL);
        }(loop, both[1]));
        const bool came = loop.run([](prom::event_loop& l, int fd) -> prom::task<bool> {
            const prom::result<prom::result<void>> read = co_await prom::within(l, 0.1, l.readable(fd));
            co_return read && *read;
        }(loop, both[0]));
        CHECK((came || failing::done > failing::chosen));
        pollfd set[4];
        CHECK(loop.fill(set) <= 4);
    });
}

TEST_CASE("failures are counted, and reported when they were not handled, without memory too") {
    prom::registry own;
    const prom::counter failed{"failed", "h", {.registry = &own}};
    static int told = 0;
    prom::on_unhandled_failure([](const prom::fault&, void*) { ++told; });
    leaves_nothing([&] {
        prom::event_loop loop;
        const auto counted = prom::count_failures(failed)([](prom::event_loop& l) -> prom::task<prom::result<int>> {
            co_await l.sleep(0);
            co_return prom::error(prom::errc::refused, "a reason of some length, for it to be allocated");
        });
        const bool succeeded = loop.run([](prom::event_loop& l, const auto& f) -> prom::task<bool> { co_return bool(co_await f(l)); }(loop, counted));
        CHECK_FALSE(succeeded);
        const int before = told;
        bool made = false;
        {
            prom::deferred<int> d;
            d.fail(std::make_exception_ptr(std::string("a reason of some length, for it to be allocated")));
            made = true;
        }
        CHECK(told == before + made);
    });
    prom::on_unhandled_failure(nullptr);
    CHECK(failed.value() >= 2);
}

TEST_CASE("callback metrics are on the page, or the page fails") {
    prom::registry r;
    double seen = 3;
    const prom::callback_counter counts{"counts_total", "A help text, longer than a string holds inside.", [&seen] { return ++seen; }, {.registry = &r}};
    const prom::callback_gauge holds{"holds_bytes", "h", [] { return 4.0; }, {.registry = &r, .labels = {{"where", "a long value, longer than sixteen"}}}};
    prom::registry* const shown[] = {&r};
    for (const auto as : {prom::format::text_0_0_4, prom::format::openmetrics_1_0_0, prom::format::protobuf}) {
        const long runs = each_allocation([&] {
            const std::string text = prom::expose({.as = as, .registries = shown});
            if (failing::done <= failing::chosen) CHECK(text.find("holds_bytes") != text.npos);
        });
        CHECK(runs > 3);
        const std::string text = prom::expose({.as = as, .registries = shown});
        CHECK(text.find("counts") != text.npos);
        CHECK(text.find("holds_bytes") != text.npos);
    }
}

TEST_CASE("a discovery that finds no memory registers nothing, or says so, and leaves nothing behind") {
    const std::string path = "/tmp/prometheus_async_memory_" + std::to_string(::getpid()) + ".json";
    leaves_nothing([&] {
        prom::event_loop loop;
        prom::file_sd targets{{.path = path}};
        loop.run([](prom::event_loop& l, const prom::server_options& options) -> prom::task<void> {
            auto server = co_await prom::start_http_server(l, options);
            if (server) (void)co_await server->close();
        }(loop, {.addr = "127.0.0.1", .service_discovery = &targets}));
    });
    ::unlink(path.c_str());
    leaves_nothing([] {
        prom::event_loop loop;
        prom::registry own;
        prom::consul_agent agent{{.name = "a", .agent = "http://127.0.0.1:1", .on_failure = prom::on_failure::fail, .metrics = &own}};
        loop.run([](prom::event_loop& l, const prom::server_options& options) -> prom::task<void> {
            auto server = co_await prom::start_http_server(l, options);
            CHECK_FALSE(server);
        }(loop, {.addr = "127.0.0.1", .service_discovery = &agent}));
    });
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("a watch of Consul that finds no memory tells so, and looks again after a pause") {
    std::vector<std::string> told;
    prom::event_loop loop{scripted::on_fake_time()};
    scripted::peer agent(loop, [](const std::string&) { return scripted::kept(scripted::http(200, "{}")); });
    const std::string at = agent.at();
    prom::registry own;
    const prom::consul_options how{.agent = at, .watch = 10, .metrics = &own,
        .on_event = [](const prom::event& e, void* to) { static_cast<std::vector<std::string>*>(to)->push_back(e.why.describe()); }, .context = &told};
    auto kept = scripted::finish(loop, prom::detail::consul_start(prom::detail::shared(new prom::detail::consul_member(
        prom::detail::consul_settings(how), loop, "127.0.0.1", "", std::uint16_t{9464}, false)))).value();
    REQUIRE(agent.requests.size() == 1);
    scripted::now += 10;
    failing::done = failing::chosen = 0;
    loop.poll(0);
    failing::chosen = -1;
    REQUIRE(told.size() == 1);
    for (int i = 0; i != 5; ++i) loop.poll(0.001);
    CHECK(agent.requests.size() == 1);
    scripted::now += 1.3;
    scripted::until(loop, [&] { return agent.requests.size() == 2; });
    CHECK(agent.requests[1].starts_with("GET /v1/agent/service/"));
    CHECK(scripted::finish(loop, kept.deregister()));
}
#endif

TEST_CASE("a push that finds no memory says so, pushes nothing or all of it, and leaves nothing behind") {
    leaves_nothing([] {
        prom::registry own, shown;
        prom::registry* const all[] = {&shown};
        const auto done = prom::push_to_gateway({.gateway = "127.0.0.1:1", .job = "a job of a long name", .grouping = {{"instance", "a/b"}},
                                                 .registries = all, .credential = prom::basic("user", "a password of some length"), .tries = 1,
                                                 .self_metrics = &own});
        CHECK_FALSE(done);
    });
    // The gateway: a server of our own, which answers 405 to a PUT, and the pusher on one loop.
    for (prom::format as : {prom::format::text_0_0_4, prom::format::protobuf}) leaves_nothing([as] {
        const long chosen = failing::chosen.exchange(-1);
        prom::registry shown;
        prom::registry* const all[] = {&shown};
        const prom::family<prom::gauge, "number"> f{"many", "Of them.", {.registry = &shown}};
        for (int i = 0; i != 600; ++i) f("the " + std::to_string(i) + "th of these").set(i);
        prom::event_loop loop;
        prom::metrics_http_server server;
        loop.run([](prom::event_loop& l, prom::metrics_http_server& to) -> prom::task<void> {
            to = (co_await prom::start_http_server(l, {.addr = "127.0.0.1"})).value();
        }(loop, server));
        const std::string at = "127.0.0.1:" + std::to_string(server.port());
        failing::done = 0;
        failing::chosen = chosen;
        {
            prom::pushgateway gateway(loop, {.gateway = at, .job = "j", .registries = all, .as = as, .tries = 1, .remove_at_end = true});
            const auto pushed = loop.run([](prom::pushgateway& g) -> prom::task<prom::result<void>> { co_return co_await g.push(); }(gateway));
            CHECK_FALSE(pushed);
            const std::string why = gateway.why();
            CHECK_FALSE(why.empty());
        }
    });
}

#if !PROMETHEUS_ASYNC_NO_THREADS
namespace {

/// A TLS of which the client says one octet, and nothing else is changed. It allocates nothing but itself.
struct clear_session final : prom::tls_session {
    bool client, greeted = false;
    explicit clear_session(bool of_client) noexcept : client(of_client) {
        if (client) out.put(std::string_view("\x16"));
    }
    struct {
        char octets[8192];
        std::size_t size = 0;
        std::size_t put(std::span<const char> from) noexcept {
            const std::size_t n = (std::min)(from.size(), sizeof octets - size);
            std::memcpy(octets + size, from.data(), n);
            size += n;
            return n;
        }
        std::size_t take(std::span<char> to) noexcept {
            const std::size_t n = (std::min)(to.size(), size);
            std::memcpy(to.data(), octets, n);
            std::memmove(octets, octets + n, size -= n);
            return n;
        }
    } in, out;
    prom::tls_io feed(std::span<const char> octets) noexcept override { return {prom::tls_status::ok, in.put(octets), 0}; }
    prom::tls_io drain(std::span<char> to) noexcept override { return {prom::tls_status::ok, 0, out.take(to)}; }
    prom::tls_status handshake() noexcept override {
        char first[1];
        if (!client && !greeted && in.take(first) == 0) return prom::tls_status::need_input;
        greeted = true;
        return prom::tls_status::ok;
    }
    prom::tls_io read(std::span<char> plain) noexcept override {
        const std::size_t n = in.take(plain);
        return {n != 0 ? prom::tls_status::ok : prom::tls_status::need_input, 0, n};
    }
    prom::tls_io write(std::span<const char> plain) noexcept override {
        const std::size_t n = out.put(plain);
        return {n != 0 ? prom::tls_status::ok : prom::tls_status::need_output, n, 0};
    }
    prom::tls_status shutdown() noexcept override { return prom::tls_status::ok; }
};
constexpr prom::tls_config clear_text{[](void*, std::string_view of) noexcept {
                                          return prom::owned<prom::tls_session>(new (std::nothrow) clear_session(!of.empty()));
                                      }, nullptr};

/// An agent of Consul, or a gateway, that says 200 to whatever changes something and 503 to questions: a process of its own, whose
/// memory and descriptors are not counted.
class agent {
public:
    agent() : listening_(::socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof at;
        REQUIRE(::bind(listening_, reinterpret_cast<const sockaddr*>(&at), size) == 0);
        REQUIRE(::listen(listening_, 50) == 0);
        ::getsockname(listening_, reinterpret_cast<sockaddr*>(&at), &size);
        where = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
        void* const shared = ::mmap(nullptr, sizeof(std::atomic<long>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        REQUIRE(shared != MAP_FAILED);
        changes = ::new (shared) std::atomic<long>(0);
        process_ = ::fork();
        if (process_ == 0) answer();
        ::close(listening_);
    }
    ~agent() {
        ::kill(process_, SIGKILL);
        ::waitpid(process_, nullptr, 0);
        ::munmap(changes, sizeof *changes);
    }
    std::string where;
    std::atomic<long>* changes;

private:
    [[noreturn]] void answer() {
        pollfd all[32] = {{listening_, POLLIN, 0}};
        static char heard[32][20000];
        std::size_t sizes[32] = {};
        nfds_t n = 1;
        for (;;) {
            ::poll(all, n, -1);
            if ((all[0].revents & POLLIN) != 0 && n != 32) {
                const int fd = ::accept(listening_, nullptr, nullptr);
                if (fd >= 0) all[n] = {fd, POLLIN, 0}, sizes[n++] = 0;
            }
            for (nfds_t i = 1; i < n;) {
                const ssize_t got = ::recv(all[i].fd, heard[i] + sizes[i], sizeof heard[i] - 1 - sizes[i], MSG_DONTWAIT);
                if (got == 0 || (got < 0 && errno != EAGAIN)) {
                    ::close(all[i].fd);
                    all[i] = all[--n];
                    std::memcpy(heard[i], heard[n], sizes[i] = sizes[n]);
                    continue;
                }
                if (got > 0) answer(all[i].fd, heard[i], sizes[i] += static_cast<std::size_t>(got));
                ++i;
            }
        }
    }
    void answer(int fd, char* heard, std::size_t& size) {
        heard[size] = '\0';
        const char* const end = std::strstr(heard, "\r\n\r\n");
        if (!end) return;
        const char* const length = std::strstr(heard, "Content-Length: ");
        const bool chunked = std::strstr(heard, "chunked") != nullptr;
        if (chunked && !std::string_view(heard, size).ends_with("\r\n0\r\n\r\n")) return;
        if (!chunked && length && size < static_cast<std::size_t>(end + 4 - heard) + std::strtoul(length + 16, nullptr, 10)) return;
        const bool asks = heard[heard[0] == '\x16'] == 'G';
        if (!asks) ++*changes;
        size = 0;
        const std::string_view says = asks ? "HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n" : "HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n";
        (void)::send(fd, says.data(), says.size(), MSG_NOSIGNAL);
    }
    const int listening_;
    ::pid_t process_ = 0;
};

}  // namespace

TEST_CASE("a server over TLS that finds no memory loses a connection and not itself") {
    prom::registry shown;
    prom::registry* const all[] = {&shown};
    const prom::family<prom::counter, "l"> many{"many", "Of them.", {.registry = &shown}};
    for (int i = 0; i != 300; ++i) many("the " + std::to_string(i) + "th of these").inc();
    const prom::route routes[] = {{.path = "/metrics", .registries = all}};
    serves({.addr = "127.0.0.1", .tls = clear_text, .routes = routes}, {{"/metrics", ""}, {"/metrics", "Accept-Encoding: gzip\r\n"}}, {200, 200});
}

TEST_CASE("a server that is registered over TLS leaves Consul also when that finds no memory, or says that it could not") {
    agent consul;
    const std::string at = "https://" + consul.where;
    static std::atomic<long> told = 0;
    leaves_nothing([&] {
        told = 0;
        prom::registry own;
        prom::event_loop loop;
        prom::consul_agent discovery{{.name = "a service of a long name", .tags = {"one", "two"}, .token = "a-token-of-some-length", .agent = at, .meta = {{"a", "b"}},
                                      .check = prom::consul_check::ttl, .on_failure = prom::on_failure::fail, .tls = clear_text, .metrics = &own,
                                      .on_event = [](const prom::event&, void*) { ++told; }}};
        bool left = true;
        const long before = *consul.changes;
        loop.run([](prom::event_loop& l, const prom::server_options& options, bool& gone) -> prom::task<void> {
            auto server = co_await prom::start_http_server(l, options);
            if (!server) co_return;
            CHECK(server->is_registered());
            gone = static_cast<bool>(co_await server->close());
        }(loop, {.addr = "127.0.0.1", .advertise = "127.0.0.1", .service_discovery = &discovery}, left));
        if (failing::done <= failing::chosen || failing::chosen < 0) CHECK(*consul.changes - before >= 2);
    });
}

TEST_CASE("a gateway over TLS is told all of a page or is told that it is not whole") {
    agent gateway;
    const std::string at = "https://" + gateway.where;
    prom::registry shown;
    prom::registry* const all[] = {&shown};
    const prom::family<prom::counter, "l"> many{"many", "Of them.", {.registry = &shown}};
    for (int i = 0; i != 300; ++i) many("the " + std::to_string(i) + "th of these").inc();
    leaves_nothing([&] {
        prom::registry own;
        prom::event_loop loop({.time = hurried});
        prom::pushgateway pusher(loop, {.gateway = at, .job = "j", .grouping = {{"instance", "a/b"}}, .registries = all, .tls = clear_text, .gzip = true,
                                        .timeout = 5, .tries = 1, .remove_at_end = true, .self_metrics = &own});
        const auto ended = loop.run([](prom::pushgateway& p) -> prom::task<prom::result<void>> {
            (void)co_await p.push();
            (void)co_await p.push_add();
            (void)co_await p.remove();
            co_return co_await p.close();
        }(pusher));
        CHECK((ended || ended.why().describe()[0] != '\0'));
    });
    CHECK(prom::push_add_to_gateway({.gateway = at, .job = "j", .registries = all, .tls = clear_text}));
    CHECK(prom::remove_from_gateway({.gateway = at, .job = "j", .tls = clear_text}));
}

TEST_CASE("a server in a thread that finds no memory tells so, can be closed twice, and leaves nothing open") {
    leaves_nothing([] {
        auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1"});
        if (!server) return;
        const int status = ask(server->port(), nullptr);
        CHECK((status == 200 || status == 500 || status == 503 || status == 0));
        (void)server->close();
        (void)server->close();
    });
    leaves_nothing([] { auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1"}); });
}
#endif
#endif
#endif
