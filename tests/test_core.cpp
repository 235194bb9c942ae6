// What an update costs nothing to promise: exact totals, whatever threads, processes and registries do.
// needs-threads
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/values.hpp"
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

namespace prom = prometheus_async;

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

namespace {
template <class F>
void in_threads(int count, F work) {
    std::vector<std::thread> all;
    for (int i = 0; i < count; ++i) all.emplace_back(work, i);
    for (auto& t : all) t.join();
}
/// As many updates as give a thread a run of its own.
template <class F>
void often(F update) {
    for (int i = 0; i != 40; ++i) update();
}
}  // namespace

TEST_CASE("a counter adds whole and fractional steps and never goes down") {
    prom::registry mine;
    const prom::counter c{"c", "h", {.registry = &mine}};
    c.inc();
    c.inc(41);
    c.inc(0.5);
    CHECK(c.value() == 42.5);
    const std::uint64_t before = prom::event_count(prom::event_kind::step_ignored);
    c.inc(-1);
    c.inc(-0.5);
    c.inc(not_a_number());
    CHECK(c.value() == 42.5);
    CHECK(prom::event_count(prom::event_kind::step_ignored) == before + 3);
}

TEST_CASE("a counter is exact where a double is not") {
    prom::registry mine;
    const prom::counter c{"c", "h", {.registry = &mine}};
    c.inc((std::uint64_t{1} << 63) + 1);
    c.inc(2);
    prom::registry* const shown[] = {&mine};
    CHECK(prom::expose({.registries = shown}) == "# HELP c_total h\n# TYPE c_total counter\nc_total 9223372036854775811\n");
}

TEST_CASE("gauges, histograms and summaries take whole numbers of any width, and no conversion is warned of") {
    prom::registry mine;
    const prom::gauge g{"g", "h", {.registry = &mine}};
    const prom::histogram h{"h", "h", {.registry = &mine}};
    const prom::summary s{"s", "h", {.registry = &mine}};
    g.inc(std::size_t{2});
    g.dec(1U);
    CHECK(g.value() == 1);
    g.set(std::int64_t{-5});
    CHECK(g.value() == -5);
    h.observe(std::size_t{3});
    s.observe(4L);
    CHECK(h.sum() == 3);
    CHECK(s.sum() == 4);
}

TEST_CASE("a summary that a thread updates often counts and sums as one that it updates seldom") {
    prom::registry mine;
    const prom::summary s{"s", "h", {.registry = &mine}};
    for (int i = 1; i <= 1000; ++i) {
        s.observe(2);
        CHECK(s.sum() == 2 * i);
        CHECK(s.count() == static_cast<std::uint64_t>(i));
    }
}

TEST_CASE("a state set whose registry has ended takes no state, and says so") {
    prom::state_set s;
    CHECK_FALSE(s.set("on"));
    {
        prom::registry mine;
        s = prom::state_set{"s", "h", {.registry = &mine, .states = {"on", "off"}}};
        CHECK(s.set("off"));
    }
    CHECK_FALSE(s.set("on"));
}

TEST_CASE("every update takes any duration, as seconds") {
    using namespace std::chrono_literals;
    prom::registry mine;
    const prom::counter c{"c", "", {.registry = &mine}};
    c.inc(1500ms);
    c.inc(-1s);
    c.inc(1min, {.labels = {{"a", "b"}}});
    CHECK(c.value() == 61.5);
    const prom::gauge g{"g", "", {.registry = &mine}};
    g.set(250ms);
    CHECK(g.value() == 0.25);
    g.inc(1.5h);
    g.dec(1s);
    CHECK(g.value() == 0.25 + 5400 - 1);
    g.set(prom::seconds(3));
    CHECK(g.value() == 3);
    const prom::unknown u{"u", "", {.registry = &mine}};
    u.set(1us);
    CHECK(u.value() == 1e-6);
    const prom::histogram h{"h", "", {.registry = &mine}};
    h.observe(100ms);
    h.observe(std::chrono::duration<float>(0.5F));
    h.observe(2s, {.labels = {{"a", "b"}}});
    CHECK(h.sum() == 0.1 + 0.5 + 2);
    CHECK(mine.sample_value("h_bucket", {{"le", "0.1"}}).value() == 1);
    const prom::summary s{"s", "", {.registry = &mine}};
    s.observe(-1ms);
    CHECK(s.sum() == -0.001);
    const auto handle = mine.add_collector([](prom::sample_sink& to) {
        to.family(prom::metric_type::gauge, "collected", "");
        to.sample(3min);
    });
    CHECK(mine.sample_value("collected").value() == 180);
}

TEST_CASE("a gauge reads back exactly what was set, whatever was added before") {
    prom::registry mine;
    const prom::gauge g{"g", "h", {.registry = &mine}};
    g.inc(3);
    g.dec();
    CHECK(g.value() == 2);
    g.set(0.1);
    CHECK(g.value() == 0.1);
    g.inc(1);
    CHECK(g.value() == 1.1);
    g.set(minus_infinity());
    CHECK(bits(g.value()) == bits(minus_infinity()));
    g.set(not_a_number());
    CHECK(is_nan(g.value()));
    g.inc(5);
    g.set(__builtin_bit_cast(double, prom::detail::shared_value::unset));  // even this one NaN
    CHECK(is_nan(g.value()));
}

TEST_CASE("a gauge is exact where a double is not, until it is set") {
    prom::registry mine;
    const prom::gauge g{"g", "h", {.registry = &mine}};
    const prom::family<prom::gauge, "l"> children{"children", "h", {.registry = &mine}};
    constexpr std::int64_t big = (std::int64_t{1} << 53) - 1;
    for (int i = 0; i < 100; ++i) {  // in the shared run, then in its own
        for (int k = 0; k < 4; ++k) g.inc(big);
        g.inc();
        for (int k = 0; k < 4; ++k) g.dec(big);
        children(7).dec();
    }
    CHECK(g.value() == 100);
    g.dec(0.25);
    CHECK(g.value() == 99.75);
    std::thread([&] { for (int i = 0; i < 100; ++i) g.dec(2), children(7).dec(); }).join();
    CHECK(g.value() == -100.25);
    prom::registry* const shown[] = {&mine};
    const std::string page = prom::expose({.registries = shown});
    CHECK(page.find("\ng -100.25\n") != page.npos);
    CHECK(page.find("\nchildren{l=\"7\"} -200\n") != page.npos);

    const prom::gauge far{"far", "h", {.registry = &mine}};  // large steps are added as doubles, whose sum does not wrap
    far.inc(~std::uint64_t{0});
    CHECK(far.value() == 0x1p64);
    far.dec(std::numeric_limits<std::int64_t>::min());
    CHECK(far.value() == 0x1p64 + 0x1p63);
    const prom::gauge sum{"sum", "h", {.registry = &mine}}, down{"down", "h", {.registry = &mine}};
    for (int i = 0; i < 100; ++i) sum.inc(std::int64_t{1} << 61), down.dec(std::uint64_t{1} << 53), down.inc(-(std::int64_t{1} << 61));
    CHECK(sum.value() == 100 * 0x1p61);
    CHECK(down.value() == -100 * (0x1p61 + 0x1p53));

    g.set(5);
    g.inc();
    g.dec(3U);
    std::thread([&] { g.inc(10); }).join();  // by a thread without a run of its own
    CHECK(g.value() == 13);
}
TEST_CASE("incs of threads that raced with the first set never offset a later one") {
    prom::registry mine;
    for (int round = 0; round < 20; ++round) {
        const prom::gauge g{"g", "h", {.registry = &mine}};
        in_threads(3, [&](int i) {
            for (int n = 0; n < 200; ++n) i == 0 && n == 100 ? g.set(7) : g.inc();
        });
        g.set(12);
        CHECK(g.value() == 12);
        mine.unregister("g");
    }
}

TEST_CASE("an observation falls in the first bucket whose bound it does not exceed") {
    prom::registry mine;
    std::vector<double> awkward{-3, -1e-300, 0, 1e-300, 0.1, 0.10000000000000002, 0.11, 1, 1e300};
    std::vector<double> many;
    for (int i = 0; i < 250; ++i) many.push_back(0.001 * (i + 1));
    const auto usual = std::vector<double>{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10};
    for (const auto& bounds : {awkward, many, usual, prom::exponential_buckets(1e-9, 4, 40), prom::linear_buckets(-5, 1, 11),
                               std::vector<double>{0}, std::vector<double>{1}, std::vector<double>{1e-310, 1e308}, std::vector<double>{5e-324},
                               std::vector<double>{-1e308}, std::vector<double>{1.7976931348623157e308}, std::vector<double>{1e305, 1e308}}) {
        const prom::histogram h{"h", "h", {.registry = &mine, .buckets = bounds}};
        const auto* b = prom::detail::declare({prom::metric_type::histogram, "h", "h", {.registry = &mine, .buckets = bounds}})->bounds;
        std::vector<double> tried{0, -0.0, 1e-320, 5e-324, 1e308, 1.7976931348623157e308};
        for (double x : bounds) {
            tried.push_back(x);
            tried.push_back(std::nextafter(x, HUGE_VAL));
            tried.push_back(std::nextafter(x, -HUGE_VAL));
        }
        for (int i = 0; i < 2000; ++i) tried.push_back(std::ldexp(1 + i * 0.0004, (i * 7) % 60 - 30) * (i % 5 ? 1 : -1));
        int wrong = 0;
        for (double x : tried) {
            unsigned expected = 0;
            while (expected < bounds.size() && !(x <= bounds[expected])) ++expected;
            wrong += b->bucket(x) != expected;
        }
        CHECK(wrong == 0);
        const double inf = infinity();
        CHECK(b->bucket(inf) == bounds.size());
        CHECK(b->bucket(minus_infinity()) == 0);
        CHECK(b->bucket(not_a_number()) == bounds.size());
        CHECK(b->bucket(minus_not_a_number()) == bounds.size());
        for (const std::uint64_t bits : {std::uint64_t{0x7ff0000000000001}, std::uint64_t{0x7fffffffffffffff}, std::uint64_t{0xfff0000000000001}, std::uint64_t{0xffffffffffffffff}})
            CHECK(b->bucket(prom::detail::opaque(__builtin_bit_cast(double, bits))) == bounds.size());
        CHECK(b->bucket(-1e308) == 0);
        mine.unregister("h");
    }
}

TEST_CASE("observing NaN counts in +Inf and makes the sum NaN") {
    prom::registry mine;
    const prom::histogram h{"h", "h", {.registry = &mine, .buckets = {1}}};
    const prom::summary s{"s", "h", {.registry = &mine}};
    h.observe(not_a_number());
    s.observe(not_a_number());
    prom::registry* const shown[] = {&mine};
    CHECK(prom::expose({.registries = shown}) ==
          "# HELP h h\n# TYPE h histogram\nh_bucket{le=\"1.0\"} 0\nh_bucket{le=\"+Inf\"} 1\nh_sum NaN\nh_count 1\n"
          "# HELP s h\n# TYPE s summary\ns_sum NaN\ns_count 1\n");
}

TEST_CASE("NaN and negative steps change no counter, and NaN no other series") {
    prom::registry mine;
    std::vector<double> bounds;
    std::vector<prom::histogram> all;
    for (const char* name : {"a", "b", "c", "d"}) {
        for (int i = 0; i != 2; ++i) bounds.push_back(static_cast<double>(bounds.size() + 1));
        all.push_back(mine.make_histogram(name, "h", {.buckets = bounds}));
    }
    const prom::counter c = mine.make_counter("e", "h");
    for (const double x : {not_a_number(), minus_not_a_number(), infinity(), minus_infinity(), -0.0})
        for (const auto& h : all) h.observe(x);
    for (const auto& h : all) CHECK(h.count() == 5);
    for (const char* name : {"a", "b", "c", "d"}) {
        CHECK(mine.sample_value(std::string(name) + "_bucket", {{"le", "1.0"}}).value() == 2);
        CHECK(mine.sample_value(std::string(name) + "_bucket", {{"le", "+Inf"}}).value() == 5);
    }
    const auto ignored = prom::event_count(prom::event_kind::step_ignored);
    for (const double step : {not_a_number(), minus_not_a_number(), minus_infinity(), -1e-300}) c.inc(step);
    c.inc(static_cast<float>(not_a_number()));
    c.inc(static_cast<long double>(minus_infinity()));
    c.inc(-0.0);
    CHECK(prom::event_count(prom::event_kind::step_ignored) == ignored + 6);
    CHECK(c.value() == 0);
    c.inc(infinity());
    CHECK(bits(c.value()) == bits(infinity()));
}

TEST_CASE("totals are exact over threads that come and go while others scrape") {
    prom::registry mine;
    const prom::counter c{"c", "h", {.registry = &mine}};
    const prom::histogram h{"h", "h", {.registry = &mine}};
    const prom::family<prom::counter, "who"> f{"f", "h", {.registry = &mine}};
    std::atomic<bool> stop{false};
    std::thread scraper([&] {
        prom::registry* const shown[] = {&mine};
        double last = 0;
        while (!stop) {
            const double now = c.value();
            CHECK(now >= last);
            last = now;
            prom::expose({.registries = shown});
        }
    });
    for (int wave = 0; wave < 10; ++wave)
        in_threads(4, [&](int i) {
            for (int n = 0; n < 1000; ++n) {
                c.inc();
                h.observe(0.01 * n);
                f(i).inc(0.25);
            }
        });
    stop = true;
    scraper.join();
    CHECK(c.value() == 40000);
    CHECK(h.count() == 40000);
    for (int i = 0; i < 4; ++i) CHECK(f(i).value() == 2500);
}

TEST_CASE("a fractional counter and a sum never fall by a rounding, in whatever order threads end") {
    prom::registry mine;
    const prom::counter c{"c", "h", {.registry = &mine}};
    const prom::histogram h{"h", "h", {.registry = &mine}};
    const prom::summary s{"s", "h", {.registry = &mine}};
    double last[3] = {};
    int fell = 0;
    const auto look = [&] {
        const double now[3] = {c.value(), h.sum(), s.sum()};
        for (int i = 0; i < 3; ++i) fell += now[i] < std::exchange(last[i], now[i]);
    };
    for (int round = 0; round < 40; ++round) {
        constexpr int count = 5;
        std::atomic<int> ready{0}, leave{-1};
        std::vector<std::thread> all;
        for (int t = 0; t < count; ++t)
            all.emplace_back([&, t] {
                const double step = std::fmod(1.0 / (1 + t) + 0.7310585786 * round, 1);
                c.inc(step);
                h.observe(step * 3);
                s.observe(step / 3);
                ++ready;
                while (leave < t) std::this_thread::yield();
            });
        while (ready != count) std::this_thread::yield();
        look();
        for (int t = 0; t < count; ++t) {  // their cells are folded one after the other
            leave = t;
            all[static_cast<std::size_t>(t)].join();
            look();
        }
    }
    CHECK(fell == 0);
    s.observe(-1);
    CHECK(s.sum() < last[2]);
    std::thread other([&] {
        c.inc(0.3);
        c.reset();
    });
    other.join();  // folded after the reset
    CHECK(c.value() >= 0);
    CHECK(c.value() < 1e-10);
}

TEST_CASE("a stale handle is dropped and never touches the series that took its place") {
    prom::registry mine;
    const prom::family<prom::counter, "l"> counters{"c", "h", {.registry = &mine}};
    const prom::family<prom::gauge, "l"> gauges{"g", "h", {.registry = &mine}};
    const prom::family<prom::histogram, "l"> histograms{"h", "h", {.registry = &mine}};
    const auto c = counters("old");
    const auto g = gauges("old");
    const auto h = histograms("old");
    const auto set = gauges("set");
    c.inc();
    g.inc();
    h.observe(1);
    set.set(5);
    CHECK(counters.remove("old"));
    CHECK(!counters.remove("old"));
    CHECK(gauges.remove("old"));
    CHECK(gauges.remove("set"));
    CHECK(histograms.remove("old"));
    const auto update_old = [&] {
        for (int i = 0; i < 3; ++i) {
            c.inc();
            c.inc(0.5);
            g.inc();
            g.set(77);
            set.set(78);
            set.inc();
            h.observe(1);
        }
    };
    update_old();  // no series there
    const auto c2 = counters("new");
    const auto g2 = gauges("new");
    const auto set2 = gauges("new set");
    const auto h2 = histograms("new");
    update_old();  // another series there, which this thread has not updated
    c2.inc(10);
    g2.inc(10);
    set2.set(10);
    h2.observe(10);
    update_old();  // and now it has
    std::thread(update_old).join();
    CHECK(c2.value() == 10);
    CHECK(g2.value() == 10);
    CHECK(set2.value() == 10);
    CHECK(h2.sum() == 10);
    CHECK(c.value() == 0);
    CHECK(counters("old").value() == 0);
}

TEST_CASE("a gauge that other threads may still be setting rests until they have come by") {
    prom::registry mine;
    const prom::family<prom::gauge, "l"> gauges{"g", "h", {.registry = &mine}};
    std::atomic<int> step{0};
    const auto old = gauges("old");
    std::thread other([&] {
        often([&] { old.set(1); });
        step = 1;
        while (step != 2) std::this_thread::yield();
        for (int i = 0; i < 100; ++i) old.set(-77777);  // its thread has the tag still
    });
    while (step != 1) std::this_thread::yield();
    gauges.remove("old");
    std::vector<prom::gauge> fresh;
    for (int i = 0; i < 50; ++i) fresh.push_back(gauges(i));
    step = 2;
    other.join();
    for (const auto& g : fresh) CHECK(g.value() == 0);
}

TEST_CASE("what a removed gauge held is used again once the threads that set it have ended or come by") {
    prom::registry mine;
    const prom::family<prom::gauge, "l"> gauges{"g", "h", {.registry = &mine}};
    const auto round = [&](int n) {
        const auto g = gauges(n);
        std::thread([&] { often([&] { g.set(1); }); }).join();
        std::atomic<int> step{0};
        std::thread alive([&] {
            often([&] { g.set(2); });
            step = 1;
            while (step != 2) std::this_thread::yield();
        });
        while (step != 1) std::this_thread::yield();
        gauges.remove(n);  // while a thread may still be setting it
        step = 2;
        alive.join();
    };
    for (int i = 0; i != 100; ++i) round(i);
    const auto held = [] { return prom::detail::state.arena_size + prom::detail::state.arena_left; };
    const auto before = held();
    for (int i = 100; i != 2000; ++i) round(i);
    CHECK(held() == before);
}

TEST_CASE("memory that stays where it is has the size that was asked for") {
    auto& from = prom::detail::state;
    const prom::detail::locked hold(from.lock);
    for (const std::size_t over : {0U, 1U, 63U, 64U, 65U, 127U, 128U}) {
        const std::size_t next = from.arena_size == 0 ? 4096 : from.arena_size >= 131072 ? 262144 : from.arena_size * 2;
        const std::size_t bytes = next - 64 + over - 64;  // as many as a block holds beside its head, and some fewer and more
        auto* const one = static_cast<char*>(from.try_type_stable(bytes));
        REQUIRE(one);
        REQUIRE(from.arena_left <= 262144);
        std::memset(one, 1, bytes);
        auto* const other = static_cast<char*>(from.try_type_stable(64));
        REQUIRE(other);
        std::memset(other, 2, 64);
        CHECK(std::count(one, one + bytes, 1) == static_cast<std::ptrdiff_t>(bytes));
    }
}

TEST_CASE("a registry that dies before its handles takes their updates with it") {
    prom::counter c;
    prom::gauge g;
    prom::histogram h;
    prom::family<prom::summary, "l"> f;
    c.inc();  // a handle of nothing
    h.observe(1);
    f("x").observe(1);
    {
        prom::registry mine;
        c = {"c", "h", {.registry = &mine}};
        g = {"g", "h", {.registry = &mine}};
        h = {"h", "h", {.registry = &mine}};
        f = {"f", "h", {.registry = &mine}};
        c.inc();
        g.set(1);
        h.observe(1);
        f("x").observe(1);
    }
    prom::registry next;
    const prom::counter heir{"c", "h", {.registry = &next}};
    const prom::family<prom::summary, "l"> heirs{"f", "h", {.registry = &next}};
    heirs("x").observe(2);
    c.inc();
    g.set(2);
    g.inc();
    h.observe(2);
    f("x").observe(5);
    CHECK(!f.remove("x"));
    f.clear();
    CHECK(f.size() == 0);
    CHECK(heir.value() == 0);
    CHECK(heirs("x").sum() == 2);
    CHECK(c.value() == 0);
    CHECK(g.value() == 0);
}

namespace {
struct late {
    const prom::counter* c = nullptr;
    ~late() { if (c) c->inc(); }
};
}  // namespace

TEST_CASE("updates from thread_local destructors count, before and after the library's own") {
    prom::registry mine;
    const prom::counter c{"c", "h", {.registry = &mine}};
    std::thread([&] {
        static thread_local late made_before_the_first_update;
        made_before_the_first_update.c = &c;
        c.inc();
        static thread_local late made_after;
        made_after.c = &c;
    }).join();
    CHECK(c.value() == 3);
    std::thread([&] {
        static thread_local late first_update_is_the_destructor;
        first_update_is_the_destructor.c = &c;
    }).join();
    CHECK(c.value() == 4);
}

#if !UNDER_TSAN
TEST_CASE("a thread that counts first, or again, in the destructor of a pthread key is folded") {
    static prom::counter late_total{"key_destructor_total", "Counted in destructors of keys."};
    static prom::family<prom::counter, "n"> late_family{"key_destructor_family_total", "Counted in destructors of keys."};
    late_total.inc();  // this thread has its record
    static pthread_key_t first, again;
    const auto count = [](void* n) {
        late_total.inc();
        late_family(*static_cast<int*>(n)).inc();
    };
    REQUIRE(pthread_key_create(&first, count) == 0);  // destructors run in the order of the keys, on glibc
    REQUIRE(pthread_key_create(&again, [](void* round) {
                late_total.inc();
                if (--*static_cast<int*>(round) != 0) pthread_setspecific(again, round);
            }) == 0);
    const unsigned before = prom::detail::state.thread_count;
    for (int i = 0; i < 100; ++i)
        std::thread([&] {
            static thread_local int n, rounds;
            n = i % 4;
            rounds = 3;
            if (i % 2) late_total.inc();
            pthread_setspecific(first, &n);
            pthread_setspecific(again, &rounds);
        }).join();
    CHECK(prom::detail::state.thread_count == before);
    CHECK(late_total.value() == 1 + 100 * 4 + 50);
    for (int n = 0; n < 4; ++n) CHECK(late_family(n).value() == 25);
    pthread_key_delete(first);
    pthread_key_delete(again);
}

TEST_CASE("a thread that ends is folded, too, where the process had no key left for it") {
    static prom::counter total{"no_key_total", "Counted by threads without a key."};
    total.inc();
    auto& state = prom::detail::state;
    const unsigned before = state.thread_count;
    REQUIRE(state.keyed);
    state.keyed = false;
    unsigned during = 0;
    for (int i = 0; i < 3; ++i)
        std::thread([&] {
            total.inc();
            during = state.thread_count;
        }).join();
    state.keyed = true;
    CHECK(during == before + 1);
    CHECK(state.thread_count == before);
    CHECK(total.value() == 4);
}

#if defined(__GLIBC__)
TEST_CASE("the end of a program leaves it the key of its threads, which may still end") {
    static prom::counter total{"end_of_program_total", "Counted after the destructors of a program."};
    total.inc();
    const unsigned before = prom::detail::state.thread_count;
    prom::detail::forget_key();  // as exit() calls it
    CHECK(prom::detail::state.keyed);
    std::thread([&] { total.inc(); }).join();
    CHECK(prom::detail::state.thread_count == before);
    CHECK(total.value() == 2);
}
#endif

TEST_CASE("a child that is forked inside a collector's call ends that call, and may remove the collector") {
    prom::registry mine;
    pid_t child = -1;
    auto handle = mine.add_collector([&](prom::sample_sink& to) {
        to.family(prom::metric_type::gauge, "g", "");
        to.sample(1);
        if (child < 0) child = ::fork();
    });
    prom::registry* const shown[] = {&mine};
    const std::string page = prom::expose({.registries = shown});
    if (child == 0) {
        ::alarm(20);
        handle.remove();  // waits for calls of the collector
        ::_exit(page.find("\ng 1\n") == std::string::npos || prom::expose({.registries = shown}).find("g 1") != std::string::npos);
    }
    REQUIRE(child > 0);
    int status = 1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

TEST_CASE("the child of a fork has its parent's totals, of threads too that it does not have") {
    prom::registry mine;
    const prom::counter c{"c", "h", {.registry = &mine}};
    c.inc(5);
    std::atomic<int> step{0};
    std::thread other([&] {
        c.inc(100);
        step = 1;
        while (step != 2) std::this_thread::yield();
        c.inc(1000);
    });
    while (step != 1) std::this_thread::yield();
    const pid_t child = fork();
    if (child == 0) {
        c.inc();
        const bool right = c.value() == 106 && prom::default_registry().unregister("nothing") == false;
        _exit(right ? 0 : 1);
    }
    step = 2;
    other.join();
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(c.value() == 1105);
}

TEST_CASE("static destruction with threads that still update ends the process well") {
    const pid_t child = fork();
    if (child == 0) {
        static const prom::counter c{"static_destruction", "h"};
        static const prom::family<prom::gauge, "l"> f{"static_destruction_gauge", "h"};
        for (int i = 0; i < 3; ++i)
            std::thread([i] {
                for (;;) {
                    c.inc();
                    f(i).set(1);
                    f.remove(i);
                }
            }).detach();
        static struct at_exit {
            ~at_exit() {
                c.inc();
                f("late").inc();
                prom::expose();
            }
        } last;
        while (c.value() < 1000) {}
        std::exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}
#endif

TEST_CASE("each hit of a lookup is the child that was asked for, while others are removed") {
    // Owner[n] is the label of the n-th series made; ids are never used twice, so a hit can be checked.
    using namespace prom::detail;
    prom::registry mine;
    constexpr int names = 24, rounds = 100000;
    std::string text[names];
    const std::string begins[] = {"v", "a rather long label value ", std::string(300, 'x'), "a \"quoted\" \\ one\n"};
    for (int i = 0; i < names; ++i) text[i] = begins[i % 4] + std::to_string(i);
    static std::atomic<int> owner[4 * rounds];
    const std::string_view label_names[] = {"l"};
    const prom::label_names label_list(label_names);
    const declared f = declare_or_raise({prom::metric_type::gauge, "f", "h", {.registry = &mine}, &label_list});
    const std::uint64_t first = f.id >> 12;
    std::atomic<bool> stop{false};
    std::atomic<int> hits{0}, wrong{0};
    const auto look = [&] {
        for (int i = 0; !stop; i = (i + 7) % names) {
            const std::string_view value = text[i];
            const key_pair key = make_key(value);
            std::uint32_t place = 0;
            const found_record s = i % 2 != 0 && value.size() < 16 ? find_child<1>(*f.face, f.id, &key, place)
                                                                   : find_anywhere(*f.face, f.id, &key, &value, 1, place);
            if (!s.rec) continue;
            ++hits;
            const std::uint64_t n = (s.id >> 12) - first;
            const int who = n < 4 * rounds ? owner[n].load() : -1;
            if (who != 0 && who != i + 1) ++wrong;  // 0: made a moment ago, not written down yet
        }
    };
    std::thread one(look), two(look);
    const auto make = [&](int i) {
        const std::string_view value = text[i];
        const series s = make_child(f, &value, 1);
        if (const std::uint64_t n = (s.id >> 12) - first; n < 4 * rounds) owner[n] = i + 1;
    };
    for (int i = 0; i < names; i += 2) make(i);
    for (int round = 0; round < rounds; ++round) {
        const int i = (round * 5) % names;
        const std::string_view value = text[i];
        if (!remove_child(f, &value, 1)) make(i);
    }
    stop = true;
    one.join();
    two.join();
    CHECK(wrong == 0);
    CHECK(hits > 0);
}

TEST_CASE("chaos: makers, removers, setters, scrapers and dying registries leave exact totals") {
    prom::registry mine;
    const prom::counter total{"total", "h", {.registry = &mine}};
    const prom::family<prom::counter, "l"> f{"f", "h", {.registry = &mine}};
    const prom::family<prom::gauge, "l"> g{"g", "h", {.registry = &mine}};
    const prom::family<prom::gauge, "l"> own{"own", "h", {.registry = &mine}};
    in_threads(4, [&](int me) {
        for (int n = 0; n < 1500; ++n) {
            total.inc();
            f(n % 13).inc();
            g(n % 7).set(n);
            g(n % 5).inc();
            const auto kept = own(me);
            kept.set(n);
            CHECK(kept.value() == n);
            if (n % 11 == me) f.remove(n % 13);
            if (n % 17 == me) g.remove(n % 7);
            if (n % 19 == me) own.remove(me);
            if (n % 97 == me) {
                prom::registry brief;
                const prom::family<prom::histogram, "l"> h{"h", "h", {.registry = &brief}};
                for (int k = 0; k < 20; ++k) h(k).observe(k);
            }
            if (n % 101 == me) {
                prom::registry* const shown[] = {&mine};
                prom::expose({.registries = shown});
            }
            if (n % 211 == me) std::thread([&] { total.inc(); g(1).set(1); }).join();
        }
    });
    double extra = 0;
    for (int me = 0; me < 4; ++me) for (int n = 0; n < 1500; ++n) extra += n % 211 == me;
    CHECK(total.value() == 6000 + extra);
}

TEST_CASE("threads that touch a series now and then cost it no memory, and one that comes often gets a run of its own") {
    prom::registry mine;
    const prom::counter c{"c", "h", {.registry = &mine}};
    c.inc();
    in_threads(8, [&](int) {
        for (int i = 0; i != 20; ++i) c.inc(i % 2 ? 1.0 : 2.0);
        CHECK((prom::detail::this_record->block.count == 0) == prom::detail::adds_to_shared);
        often([&] { c.inc(); });
        CHECK(prom::detail::this_record->block.count != 0);
    });
    CHECK(c.value() == 1 + 8 * (30 + 40));
}

TEST_CASE("what a removed series had is used again only when an update that was under way has ended") {
    if constexpr (prom::detail::adds_to_shared) {
        auto& state = prom::detail::state;
        prom::registry mine;
        const std::size_t bounds = state.bounds_count;
        const std::string_view names[] = {"l"}, old[] = {"old"};
        const prom::label_names labels(names);
        const double upper[] = {11, 22};
        const prom::metric_options options{.registry = &mine, .buckets = upper};
        const auto family = prom::detail::declare_or_raise({prom::metric_type::histogram, "h", "", options, &labels});
        const prom::detail::series s = prom::detail::make_child(family, old, 1);
        std::atomic<int> step{0};
        std::thread other([&] {
            prom::detail::observe_slowly(s, family.bounds, 1);  // with the lock: the thread is not known before
            CHECK(prom::detail::add_without_lock(s, [&](prom::detail::cell* run) {
                step = 1;
                while (step != 2) std::this_thread::yield();
                run[2 + family.bounds->bucket(20)].add_shared(std::uint64_t{1000});
            }));
            step = 3;
            while (step != 4) std::this_thread::yield();
        });
        while (step != 1) std::this_thread::yield();
        CHECK(prom::detail::remove_child(family, old, 1));
        const auto is_old = [&](const prom::detail::series& fresh) { return fresh.page == s.page && fresh.offset == s.offset; };
        std::vector<prom::detail::series> all;
        const auto make = [&] {
            const std::string value = std::to_string(all.size());
            const std::string_view values[] = {value};
            return all.emplace_back(prom::detail::make_child(family, values, 1));
        };
        for (int i = 0; i != 10; ++i) CHECK(!is_old(make()));
        CHECK(prom::detail::remove_children(family, {}) == 10);  // these wait behind it
        for (int i = 0; i != 10; ++i) CHECK(!is_old(make()));
        CHECK(mine.unregister("h"));
        CHECK(state.bounds_count == bounds + 1);
        step = 2;
        while (step != 3) std::this_thread::yield();
        const auto again = prom::detail::declare_or_raise({prom::metric_type::histogram, "h", "", options, &labels});
        bool used_again = false;
        for (int i = 0; i != 40; ++i) {
            const std::string value = std::to_string(i);
            const std::string_view values[] = {value};
            const auto fresh = prom::detail::make_child(again, values, 1);
            used_again |= is_old(fresh);
            CHECK(prom::detail::sum_series(fresh).whole == 0);
        }
        CHECK(used_again);
        step = 4;
        other.join();
    }
}

TEST_CASE("chaos: updates with and without runs of their own, removals and threads that end leave exact totals") {
    prom::registry mine;
    const prom::family<prom::counter, "l"> stays{"stays", "h", {.registry = &mine}}, goes{"goes", "h", {.registry = &mine}};
    const prom::family<prom::histogram, "l"> seen{"seen", "h", {.registry = &mine, .buckets = {1, 2, 3}}};
    const prom::family<prom::gauge, "l"> level{"level", "h", {.registry = &mine}}, brief{"brief", "h", {.registry = &mine}};
    std::atomic<int> others{0};
    constexpr int threads = 16, rounds = UNDER_TSAN ? 300 : 1000;
    prom::registry* const shown[] = {&mine};
    in_threads(threads, [&](int me) {
        const auto often_used = stays("often");
        for (int n = 0; n < rounds; ++n) {
            often_used.inc();
            stays(n % 50).inc(n % 2);
            stays(n % 50).inc(0.5);
            seen(n % 20).observe(n % 5);
            level(n % 20).inc();
            level(n % 20).dec(0.5);
            const auto gone = goes(n % 7);
            const auto set = brief(n % 3);
            if (n % 13 == me % 13) goes.remove(n % 7);
            if (n % 17 == me) brief.remove(n % 3);
            for (int i = 0; i != 3; ++i) gone.inc(1000), set.set(-1000);
            if (n % 50 == me) {
                const auto fresh = goes("fresh" + std::to_string(me));  // made of what was removed: by this thread alone
                CHECK(fresh.value() == 0);
                often([&] { fresh.inc(); });
                CHECK(fresh.value() == 40);
                const auto level_of_its_own = brief("fresh" + std::to_string(me));
                CHECK(level_of_its_own.value() == 0);
                level_of_its_own.set(me);
                CHECK(level_of_its_own.value() == me);
                CHECK(goes.remove("fresh" + std::to_string(me)));
                CHECK(brief.remove("fresh" + std::to_string(me)));
            }
            if (n % 100 == me) {
                std::thread([&] { stays("often").inc(); }).join();
                ++others;
                prom::expose({.registries = shown});
            }
        }
    });
    double total = 0, observed = 0, levels = 0;
    for (int i = 0; i != 50; ++i) total += stays(i).value();
    for (int i = 0; i != 20; ++i) observed += static_cast<double>(seen(i).count()), levels += level(i).value();
    CHECK(stays("often").value() == threads * rounds + others);
    CHECK(total == threads * rounds);
    CHECK(observed == threads * rounds);
    CHECK(levels == threads * rounds / 2);
}
