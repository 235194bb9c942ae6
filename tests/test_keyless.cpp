// Room [42].
// needs-threads
// A thread that gets no pthread key, on a system where only a key tells of a thread's end (musl): it has no cells of its own.
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include <cerrno>
#include <thread>
#include <vector>

#include <pthread.h>

static bool no_keys = false;
[[maybe_unused]] static int set_key(pthread_key_t key, const void* value) { return no_keys ? ENOMEM : pthread_setspecific(key, value); }
#define pthread_setspecific(key, value) set_key(key, value)
#define PROMETHEUS_ASYNC_DETAIL_UNLOADS 0
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#undef pthread_setspecific

#include <doctest/doctest.h>

namespace prom = prometheus_async;

TEST_CASE("a thread without a key counts in the cells that all share, and leaves nothing behind") {
    prom::registry r;
    const prom::counter c{"c_total", "h", {.registry = &r}};
    const prom::gauge g{"g", "h", {.registry = &r}};
    const prom::histogram h{"h", "h", {.registry = &r, .buckets = {1, 2}}};
    const prom::histogram n{"n", "h", {.registry = &r, .native = {.factor = 1.1}}};
    const prom::min_max_gauge m{"m", "h", {.registry = &r}};
    const prom::family<prom::counter, "l"> f{"f_total", "h", {.registry = &r}};
    const auto count = [&] {
        for (int i = 0; i != 1000; ++i) c.inc(), c.inc(0.5), g.dec(2), h.observe(1.5), n.observe(i), m.observe(i), f(i % 3).inc();
        for (int i = 0; i != 10; ++i) f.remove("gone"), f("gone").inc();
    };
    const unsigned before = prom::detail::state.thread_count;
    for (const bool none : {true, false}) {
        no_keys = none;
        std::vector<std::thread> threads;
        for (int i = 0; i != 4; ++i) threads.emplace_back([&] {
            count();
            CHECK((prom::detail::this_record == nullptr) == none);
        });
        for (std::thread& t : threads) t.join();
        CHECK(prom::detail::state.thread_count == before);
        const double times = none ? 4000 : 8000;
        CHECK(c.value() == 1.5 * times);
        CHECK(g.value() == -2 * times);
        CHECK(h.count() == times);
        CHECK(n.count() == times);
        CHECK(n.sum() == 499.5 * times);
        CHECK(m.largest() == 999);
        CHECK(f(0).value() + f(1).value() + f(2).value() == times);
    }
}
