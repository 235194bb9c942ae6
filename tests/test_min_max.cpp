// The gauge of the smallest and the largest value in a window: rooms [16], [20], [42], [47].
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

#include "support/values.hpp"
#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace prom = prometheus_async;

namespace {
double now = 100;
struct moved_clock {
    moved_clock() {
        now = 100;
        prom::set_clock({[] { return now; }, [] { return 1520430000.123; }});
    }
    ~moved_clock() { prom::set_clock(prom::system_clock()); }
};
std::string page(prom::registry& r, prom::format as = prom::format::text_0_0_4, prom::escaping names = prom::escaping::underscores) {
    prom::registry* const shown[] = {&r};
    return prom::expose({.as = as, .names = names, .registries = shown, .created = prom::created_series::all});
}
struct both {
    double least, most;
    bool operator==(const both& o) const { return bits(least) == bits(o.least) && bits(most) == bits(o.most); }
};
/// What a scrape shows.
both scraped(prom::registry& r) {
    return {r.sample_value("m", {{"bound", "min"}}).value(), r.sample_value("m", {{"bound", "max"}}).value()};
}
bool none(const both& b) { return is_nan(b.least) && is_nan(b.most); }
template <class Metric>
std::string fault(const prom::result<Metric>& made) {
    return made ? "none" : made.why().describe();
}
}  // namespace

TEST_CASE("it is one family of gauges in every format, with its bound as a label") {
    const moved_clock clock;
    prom::registry mine;
    const prom::family<prom::min_max_gauge, "queue"> f{"depth", "Items waiting.", {.registry = &mine, .unit = "items"}};
    f("a").observe(3);
    f("a").observe(7.5);
    f("a").observe(-2);
    f("b").observe(1e23);
    f("c");
    const std::string samples = "depth_items{queue=\"a\",bound=\"min\"} -2\ndepth_items{queue=\"a\",bound=\"max\"} 7.5\n"
                                "depth_items{queue=\"b\",bound=\"min\"} 1e+23\ndepth_items{queue=\"b\",bound=\"max\"} 1e+23\n"
                                "depth_items{queue=\"c\",bound=\"min\"} NaN\ndepth_items{queue=\"c\",bound=\"max\"} NaN\n";
    const std::string text = "# HELP depth_items Items waiting.\n# TYPE depth_items gauge\n" + samples;
    const std::string openmetrics = "# HELP depth_items Items waiting.\n# TYPE depth_items gauge\n# UNIT depth_items items\n" + samples + "# EOF\n";
    CHECK(page(mine, prom::format::text_0_0_4) == text);
    CHECK(page(mine, prom::format::text_1_0_0) == text);
    CHECK(page(mine, prom::format::openmetrics_0_0_1) == openmetrics);
    CHECK(page(mine, prom::format::openmetrics_1_0_0) == openmetrics);
    CHECK(prom::type_name(prom::min_max_gauge::type) == std::string("min_max_gauge"));
}

TEST_CASE("names outside the legacy grammar are shown as those of other types") {
    const moved_clock clock;
    prom::registry mine;
    const auto f = mine.make_family<prom::min_max_gauge>(prom::utf8("queue.depth"), "h", {prom::utf8("queue.name")});
    f({"x\"y"}).observe(1);
    CHECK(page(mine, prom::format::text_1_0_0, prom::escaping::allow_utf8) ==
          "# HELP \"queue.depth\" h\n# TYPE \"queue.depth\" gauge\n{\"queue.depth\",\"queue.name\"=\"x\\\"y\",bound=\"min\"} 1\n"
          "{\"queue.depth\",\"queue.name\"=\"x\\\"y\",bound=\"max\"} 1\n");
    CHECK(page(mine, prom::format::text_0_0_4) == "# HELP queue_depth h\n# TYPE queue_depth gauge\nqueue_depth{queue_name=\"x\\\"y\",bound=\"min\"} 1\n"
                                                  "queue_depth{queue_name=\"x\\\"y\",bound=\"max\"} 1\n");
}

TEST_CASE("a value is shown for more than half of its window and then forgotten, however often it is read") {
    const moved_clock clock;
    prom::registry mine;
    const prom::min_max_gauge m{"m", "h", {.registry = &mine, .window = 60}};
    CHECK(none(scraped(mine)));  // begins a half-window
    now += 10;
    m.observe(5);
    CHECK(scraped(mine) == both{5, 5});
    now += 15;
    m.observe(3);
    m.observe(4);
    for (int scraper = 0; scraper < 3; ++scraper) CHECK(scraped(mine) == both{3, 5});
    now += 10;  // 35: the second half
    for (int scraper = 0; scraper < 3; ++scraper) CHECK(scraped(mine) == both{3, 5});
    m.observe(4);
    now += 20;  // 55
    for (int scraper = 0; scraper < 3; ++scraper) CHECK(scraped(mine) == both{3, 5});
    now += 10;  // 65: 30 after the last turn. What is of the first half is gone
    for (int scraper = 0; scraper < 3; ++scraper) CHECK(scraped(mine) == both{4, 4});
    CHECK(m.smallest() == 4);
    CHECK(m.largest() == 4);
    now += 30;
    for (int scraper = 0; scraper < 3; ++scraper) CHECK(none(scraped(mine)));
    m.observe(-1);
    CHECK(scraped(mine) == both{-1, -1});
}

TEST_CASE("a half ends when it is over, not before") {
    const moved_clock clock;
    prom::registry mine;
    const prom::min_max_gauge m{"m", "h", {.registry = &mine, .window = 8}};
    CHECK(none(scraped(mine)));
    m.observe(1);
    now += 3.75;
    CHECK(scraped(mine) == both{1, 1});
    m.observe(2);  // of the same half
    now += 0.25;   // a turn
    CHECK(scraped(mine) == both{1, 2});
    now += 3.75;
    CHECK(scraped(mine) == both{1, 2});
    now += 0.25;
    CHECK(none(scraped(mine)));
}

TEST_CASE("nothing is lost where scrapes are further apart than the window") {
    const moved_clock clock;
    prom::registry mine;
    const prom::min_max_gauge m{"m", "h", {.registry = &mine}};
    m.observe(1);  // before any scrape
    m.observe(9);
    now += 1000;
    CHECK(scraped(mine) == both{1, 9});
    m.observe(5);
    now += 1000;
    CHECK(scraped(mine) == both{5, 5});  // since the last scrape
    now += 1000;
    CHECK(none(scraped(mine)));
    m.observe(6);
    now -= 5000;  // a clock that goes back ends a half too
    CHECK(scraped(mine) == both{6, 6});
    CHECK(scraped(mine) == both{6, 6});
    now += 30;
    CHECK(none(scraped(mine)));
}

TEST_CASE("every value has its place: zeros, infinities, and none for NaN") {
    const moved_clock clock;
    prom::registry mine;
    const prom::min_max_gauge m{"m", "h", {.registry = &mine}};
    m.observe(not_a_number());
    m.observe(minus_not_a_number());
    CHECK(none(scraped(mine)));
    m.observe(0);
    CHECK(scraped(mine) == both{0, 0});
    m.observe(not_a_number());
    CHECK(scraped(mine) == both{0, 0});
    m.observe(5e-324);
    CHECK(scraped(mine) == both{0, 5e-324});
    m.observe(-5e-324);
    CHECK(scraped(mine) == both{-5e-324, 5e-324});
    m.observe(infinity());
    m.observe(minus_infinity());
    m.observe(1);
    CHECK(scraped(mine) == both{minus_infinity(), infinity()});
    const prom::min_max_gauge dropped;
    dropped.observe(1);
    CHECK(is_nan(dropped.smallest()));
}

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("values of threads that have ended stay in their half-window") {
    const moved_clock clock;
    prom::registry mine;
    const prom::min_max_gauge m{"m", "h", {.registry = &mine, .window = 60}};
    CHECK(none(scraped(mine)));
    const auto in_a_thread = [&](std::vector<double> values) {
        std::thread([&] { for (double v : values) m.observe(v); }).join();
    };
    m.observe(10);
    in_a_thread({1, 4, 3});
    CHECK(scraped(mine) == both{1, 10});
    in_a_thread({20, 2, 2});
    CHECK(scraped(mine) == both{1, 20});
    now += 30;
    CHECK(scraped(mine) == both{1, 20});
    in_a_thread({7, 8, 9});
    CHECK(scraped(mine) == both{1, 20});
    now += 30;  // what the threads left of the first half is gone
    CHECK(scraped(mine) == both{7, 9});
    in_a_thread({8});
    CHECK(scraped(mine) == both{7, 9});
    now += 30;
    CHECK(scraped(mine) == both{8, 8});
}

TEST_CASE("a thread that was in an earlier half writes over its own cells only, and no other's") {
    const moved_clock clock;
    prom::registry mine;
    const prom::min_max_gauge m{"m", "h", {.registry = &mine, .window = 60}};
    CHECK(none(scraped(mine)));
    std::atomic<int> step{0};
    const auto until = [&](int n) { while (step.load() != n) std::this_thread::yield(); };
    std::thread other([&] {
        for (int i = 0; i < 5; ++i) m.observe(1);
        step = 1;
        until(2);
        m.observe(50);  // two turns later, in the same cells
        step = 3;
        until(4);
    });
    until(1);
    CHECK(scraped(mine) == both{1, 1});
    for (int i = 0; i < 5; ++i) m.observe(40);
    now += 30;
    CHECK(scraped(mine) == both{1, 40});
    for (int i = 0; i < 5; ++i) m.observe(40);
    now += 30;
    CHECK(scraped(mine) == both{40, 40});
    step = 2;
    until(3);
    CHECK(scraped(mine) == both{40, 50});
    now += 30;
    CHECK(scraped(mine) == both{50, 50});
    step = 4;
    other.join();
    CHECK(scraped(mine) == both{50, 50});
    now += 30;
    CHECK(none(scraped(mine)));
}
#endif

TEST_CASE("a series that takes the place of a removed one knows nothing of it") {
    const moved_clock clock;
    prom::registry mine;
    const prom::family<prom::min_max_gauge, "k"> f{"m", "h", {.registry = &mine}};
    const prom::family<prom::summary, "k"> other{"s", "h", {.registry = &mine}};
    for (int round = 0; round < 50; ++round) {
        const prom::min_max_gauge old = f("x");
        for (int i = 0; i < 4; ++i) old.observe(round);
        CHECK(old.largest() == round);
        CHECK(f.remove("x"));
        CHECK(is_nan(old.largest()));
        const prom::min_max_gauge fresh = f("x");
        old.observe(1e9);
        CHECK(is_nan(fresh.largest()));
        fresh.observe(-round);
        CHECK(fresh.smallest() == -round);
        CHECK(fresh.largest() == -round);
        f.clear();
        other("x").observe(1);
        CHECK(other("x").count() == 1);
        other.clear();
    }
    CHECK(f.size() == 0);
}

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("threads observe while others scrape: no value out of what was observed, and in the end all of them") {
    prom::registry mine;
    const prom::family<prom::min_max_gauge, "k"> f{"m", "h", {.registry = &mine, .window = 1e-5}};  // turns at each scrape
    const prom::min_max_gauge whole{"w", "h", {.registry = &mine, .window = 3600}};
    std::atomic<bool> stop{false};
    std::vector<std::thread> all;
    for (int t = 0; t < 3; ++t)
        all.emplace_back([&, t] {
            for (int i = 0; i < 4000; ++i) {
                f("a").observe(100 + t * 1000 + i % 1000);
                whole.observe(i == 2000 ? t : 10);
                if (i == 3000) whole.observe(1000 + t);
            }
        });
    std::thread scraper([&] {
        while (!stop.load()) {
            const double least = f("a").smallest(), most = f("a").largest();
            if (!is_nan(least)) CHECK((least >= 100 && least < 3100));
            if (!is_nan(most)) CHECK((most >= 100 && most < 3100));
            static_cast<void>(page(mine));
        }
    });
    for (auto& t : all) t.join();
    stop = true;
    scraper.join();
    CHECK(whole.smallest() == 0);
    CHECK(whole.largest() == 1002);
}
#endif

TEST_CASE("two registries on a page share a family, and each series keeps its own window") {
    const moved_clock clock;
    prom::registry one, other;
    const prom::family<prom::min_max_gauge, "k"> f{"m", "h", {.registry = &one}}, g{"m", "h", {.registry = &other}};
    f("a").observe(1);
    g("b").observe(2);
    prom::registry* const shown[] = {&one, &other};
    CHECK(prom::expose({.registries = shown}) == "# HELP m h\n# TYPE m gauge\nm{k=\"a\",bound=\"min\"} 1\nm{k=\"a\",bound=\"max\"} 1\n"
                                                 "m{k=\"b\",bound=\"min\"} 2\nm{k=\"b\",bound=\"max\"} 2\n");
}

TEST_CASE("what may not be declared is told") {
    prom::registry mine;
    CHECK(fault(mine.try_family<prom::min_max_gauge>("m", "h", {"bound"})) == "m: the label bound of a min_max_gauge is reserved");
    CHECK(fault(mine.try_min_max_gauge("m", "h", {.labels = {{"bound", "x"}}})) == "m: the label bound of a min_max_gauge is reserved");
    CHECK(fault(mine.try_min_max_gauge("m", "h", {.window = -1})) == "m: a window must be finite and not negative");
    CHECK(fault(mine.try_min_max_gauge("m", "h", {.window = infinity()})) == "m: a window must be finite and not negative");
    CHECK(fault(mine.try_min_max_gauge("m", "h", {.window = not_a_number()})) == "m: a window must be finite and not negative");
    CHECK(fault(mine.try_gauge("m", "h", {.window = 5})) == "m: only a min_max_gauge has a window");
    CHECK(fault(mine.try_min_max_gauge("m", "h", {.window = 5})) == "none");
    CHECK(fault(mine.try_min_max_gauge("m", "h", {.window = 5})) == "none");  // the same series
    CHECK(fault(mine.try_min_max_gauge("m", "h")) == "m is a min_max_gauge with other window than declared before");
    CHECK(fault(mine.try_gauge("m", "h")) == "m is a gauge, declared before: m is a min_max_gauge");
    CHECK(fault(mine.try_min_max_gauge("n", "h")) == "none");
    CHECK(fault(mine.try_min_max_gauge("n", "h", {.window = 60})) == "none");
}

TEST_CASE("the verbs take it, as anything with observe()") {
    const moved_clock clock;
    prom::registry mine;
    const prom::min_max_gauge m{"m_seconds", "h", {.registry = &mine}};
    {
        auto timer = m.timer();
        now += 2;
    }
    const auto timed = prom::time(m)([](double span) { now += span; });
    timed(0.5);
    CHECK(m.smallest() == 0.5);
    CHECK(m.largest() == 2);
}

TEST_CASE("a collector yields plain gauges instead") {
    prom::registry mine;
    mine.add_collector([](prom::sample_sink& to) {
        to.family(prom::metric_type::min_max_gauge, "m", "");
        to.sample(1);
    }).keep();
    CHECK(page(mine) == "");
}
