// A coroutine that updates a metric, waits, and goes on in another thread: each update goes to the cells of the thread that it is in.
// Compilers that compute the address of a thread_local once for a coroutine (clang 16 with optimisation) would lose counts here.
// needs-threads
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <coroutine>
#include <exception>
#include <thread>

namespace prom = prometheus_async;

namespace {
struct stepwise {
    struct promise_type {
        stepwise get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
    std::coroutine_handle<promise_type> frame;
};
void update(const prom::counter& c) { c.inc(); }
void update(const prom::gauge& g) { g.inc(); }
void update(const prom::histogram& h) { h.observe(1); }
template <class Metric>
stepwise updates(const Metric& m) {
    update(m);
    for (;;) {
        co_await std::suspend_always{};
        update(m);
    }
}
/// What this thread has counted in its own cells; -1: it has none.
template <class Metric>
__attribute__((noinline)) int counted_here(const Metric& m) {
    prom::detail::series s;
    static_assert(sizeof m >= sizeof s);
    __builtin_memcpy(static_cast<void*>(&s), static_cast<const void*>(&m), sizeof s);
    const prom::detail::cell* run = prom::detail::own_run(s);
    return run ? static_cast<int>(run[2].own()) : -1;
}
template <class Metric>
void check(const Metric& m, double (*total)(const Metric&)) {
    const stepwise s = updates(m);
    int before = -1, after = -1, other = -1;
    for (int i = 0; i != 1000; ++i) s.frame.resume();
    before = counted_here(m);
    std::thread([&] {
        for (int i = 0; i != 1000; ++i) s.frame.resume();
        other = counted_here(m);
    }).join();
    after = counted_here(m);
    s.frame.destroy();
    CHECK(before > 900);  // the first go to shared cells
    CHECK(after == before);
    CHECK(other > 900);
    CHECK(total(m) == 2000);
}
}  // namespace

TEST_CASE("a coroutine that goes on in another thread updates the cells of that thread") {
    prom::registry reg;
    check<prom::counter>({"c_total", "C.", {.registry = &reg}}, [](const auto& m) { return m.value(); });
    check<prom::gauge>({"g", "G.", {.registry = &reg}}, [](const auto& m) { return m.value(); });
    check<prom::histogram>({"h", "H.", {.registry = &reg, .buckets = {1}}}, [](const auto& m) { return static_cast<double>(m.count()); });
}
