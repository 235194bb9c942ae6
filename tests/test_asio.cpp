// The verbs against asio: awaitables, completion tokens, callbacks, strands, cancellation, abandoned work.
// libs:
// needs-exceptions
// needs-threads
#if defined(__clang__)  // asio 1.22.1 does not see clang's coroutines by itself
#define ASIO_HAS_CO_AWAIT 1
#define ASIO_HAS_STD_COROUTINE 1
#endif
#include <asio.hpp>
#include <asio/experimental/deferred.hpp>
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"
#include "examples/asio_tokens.hpp"
#include <doctest/doctest.h>
#include <chrono>
#include <memory>
#include <optional>
#include "support/verbs.hpp"

namespace {

using namespace std::chrono_literals;
using asio::awaitable;
using asio::use_awaitable;

awaitable<int> forty_two() { co_return 42; }
awaitable<void> pass() { co_await asio::post(co_await asio::this_coro::executor, use_awaitable); }
awaitable<int> pass_42() {
    co_await pass();
    co_return 42;
}
awaitable<void> never(asio::steady_timer& t) {
    t.expires_at(asio::steady_timer::time_point::max());
    co_await t.async_wait(use_awaitable);
}
std::exception_ptr the_fault() { return std::make_exception_ptr(std::runtime_error("x")); }
awaitable<int> fails_with(std::exception_ptr e) {
    co_await pass();
    std::rethrow_exception(e);
}

// Runs to the end and rethrows.
template <class A>
auto run(asio::io_context& io, A a) {
    auto f = asio::co_spawn(io, std::move(a), asio::use_future);
    io.restart();
    io.run();
    return f.get();
}

template <class T>
struct counting_allocator {
    using value_type = T;
    int* count;
    counting_allocator(int* n) noexcept : count(n) {}
    template <class U>
    counting_allocator(const counting_allocator<U>& other) noexcept : count(other.count) {}
    T* allocate(std::size_t n) { return ++*count, std::allocator<T>().allocate(n); }
    void deallocate(T* p, std::size_t n) { std::allocator<T>().deallocate(p, n); }
    friend bool operator==(const counting_allocator& a, const counting_allocator& b) { return a.count == b.count; }
};

struct metrics {
    fake_observer o;
    fake_counter c;
    fake_gauge g;
    auto all() { return prom::time(o) | prom::count_exceptions(c) | prom::track_inprogress(g); }
};

}  // namespace

TEST_CASE("An asio::awaitable stays one, its result and its exception pass") {
    counting_clock clock;
    asio::io_context io;
    metrics m;
    static_assert(std::is_same_v<decltype(m.all()(forty_two)()), awaitable<int>>);
    CHECK(run(io, m.all()(forty_two)()) == 42);
    CHECK(run(io, m.all()(pass_42())) == 42);
    CHECK(m.o.seen.size() == 2);
    CHECK(m.c.count == 0);
    const auto e = the_fault();
    std::exception_ptr caught;
    try {
        run(io, m.all()(fails_with)(e));
    } catch (...) {
        caught = std::current_exception();
    }
    CHECK(caught == e);
    CHECK(m.c.count == 1);
    CHECK(m.o.seen.size() == 3);
    CHECK(m.g.value == 0);
}

TEST_CASE("Results of asio::awaitable that are references or move-only pass") {
    asio::io_context io;
    metrics m;
    int target = 0;
    auto outer = [&]() -> awaitable<bool> {
        int* where = co_await m.all()([](int& x) -> awaitable<int*> { co_return &x; })(target);
        auto p = co_await m.all()([]() -> awaitable<std::unique_ptr<int>> { co_return std::make_unique<int>(7); })();
        co_await m.all()(pass)();
        co_return where == &target && *p == 7;
    };
    CHECK(run(io, outer()));
    CHECK((m.o.seen.size() == 3 && m.g.value == 0));
}

TEST_CASE("An asio::awaitable that is dropped, or abandoned with its io_context") {
    metrics m;
    { auto dropped = m.all()(forty_two()); CHECK(m.g.value == 1); }
    { auto dropped = m.all()(forty_two)(); CHECK(m.g.value == 0); }
    CHECK(m.o.seen.empty());
    {
        asio::io_context io;
        asio::steady_timer t(io), u(io);
        asio::co_spawn(io, m.all()(never)(t), asio::detached);
        asio::co_spawn(io, m.all()(never(u)), asio::detached);
        io.poll();
        CHECK(m.g.value == 2);
    }
    CHECK(m.g.value == 0);
    CHECK(m.o.seen.size() == 2);  // they had started
    CHECK(m.c.count == 0);
    {
        asio::io_context io;
        asio::co_spawn(io, m.all()(forty_two)(), asio::detached);  // never run
    }
    CHECK((m.g.value == 0 && m.o.seen.size() == 2));
}

TEST_CASE("A cancellation that asio throws is an exception and is observed") {
    asio::io_context io;
    metrics m;
    asio::steady_timer t(io);
    auto f = asio::co_spawn(io, m.all()(never)(t), asio::use_future);
    io.poll();
    CHECK(m.g.value == 1);
    t.cancel();
    io.restart();
    io.run();
    CHECK_THROWS_AS(f.get(), std::system_error);
    CHECK((m.c.count == 1 && m.o.seen.size() == 1 && m.g.value == 0));
    fake_counter others;
    auto g = asio::co_spawn(io, prom::count_exceptions<std::logic_error>(others)(never)(t), asio::use_future);
    io.restart();
    io.poll();
    t.cancel();
    io.run();
    CHECK_THROWS_AS(g.get(), std::system_error);
    CHECK(others.count == 0);
}

TEST_CASE("Per-operation cancellation reaches the operation through a measured awaitable and a measured handler") {
    asio::io_context io;
    metrics m;
    asio::steady_timer t(io, asio::steady_timer::time_point::max());
    asio::cancellation_signal stop;
    std::optional<std::error_code> got;
    asio::co_spawn(io, m.all()(never)(t), asio::bind_cancellation_slot(stop.slot(), [&](std::exception_ptr p) {
        got.emplace(p ? std::make_error_code(std::errc::operation_canceled) : std::error_code());
    }));
    io.poll();
    stop.emit(asio::cancellation_type::terminal);
    io.restart();
    io.run();
    REQUIRE(got);
    CHECK(*got);
    CHECK((m.c.count == 1 && m.g.value == 0));
    got.reset();
    t.async_wait(prom::time(m.o, prom::count_failures(m.c, prom::completion(
        asio::bind_cancellation_slot(stop.slot(), [&](std::error_code ec) { got = ec; })))));
    stop.emit(asio::cancellation_type::terminal);
    io.restart();
    io.run();
    REQUIRE(got);
    CHECK(*got == asio::error::operation_aborted);
    CHECK((m.c.count == 2 && m.o.seen.size() == 2));
}

TEST_CASE("A measured callback runs where the plain one would: on its strand, with its allocator") {
    asio::io_context io;
    metrics m;
    auto strand = asio::make_strand(io);
    int ran = 0;
    asio::steady_timer t(io, asio::steady_timer::time_point::min());
    t.async_wait(prom::time(m.o, prom::track_inprogress(m.g, prom::completion(asio::bind_executor(strand, [&](std::error_code) {
        ran += strand.running_in_this_thread();
        CHECK(m.g.value == 0);
    })))));
    CHECK(m.g.value == 1);
    asio::post(io, prom::time(m.o, prom::completion(asio::bind_executor(strand, [&, only = std::make_unique<int>(1)] {
        ran += strand.running_in_this_thread() ? *only : 0;
    }))));
    io.run();
    CHECK(ran == 2);
    CHECK(m.o.seen.size() == 2);

    int allocations = 0;
    struct handler {
        using allocator_type = counting_allocator<void>;
        int* n;
        allocator_type get_allocator() const noexcept { return {n}; }
        void operator()() const {}
    };
    asio::post(io, prom::time(m.o, prom::completion(handler{&allocations})));
    io.restart();
    io.run();
    CHECK(allocations > 0);
    CHECK(m.o.seen.size() == 3);
}

namespace {
// Associations by trait alone.
struct by_trait {
    int* ran;
    void operator()(std::error_code) const { ++*ran; }
};
}  // namespace
template <class Default>
struct asio::associated_executor<by_trait, Default> {
    using type = asio::system_executor;
    static type get(const by_trait&, const Default& = Default()) noexcept { return {}; }
};
TEST_CASE("A handler whose executor is known by trait keeps it") {
    fake_observer o;
    int ran = 0;
    auto measured = prom::time(o, prom::completion(by_trait{&ran}));
    static_assert(std::is_same_v<asio::associated_executor_t<decltype(measured), asio::io_context::executor_type>, asio::system_executor>);
    measured(std::error_code());
    CHECK((ran == 1 && o.seen.size() == 1));
}

TEST_CASE("Completion tokens: use_awaitable, use_future, detached, deferred, a callback") {
    counting_clock clock;
    asio::io_context io;
    metrics m;
    auto measure = prom::time(m.o) | prom::count_failures(m.c) | prom::track_inprogress(m.g);
    asio::steady_timer t(io, asio::steady_timer::time_point::min());
    SUBCASE("use_awaitable") {
        auto wait = [&]() -> awaitable<void> {
            auto lazy = t.async_wait(prom_asio::measured(measure, use_awaitable));
            CHECK(m.g.value == 0);
            co_await std::move(lazy);
        };
        run(io, wait());
    }
    SUBCASE("use_future") {
        auto f = t.async_wait(prom_asio::measured(measure, asio::use_future));
        CHECK(m.g.value == 1);
        io.run();
        f.get();
    }
    SUBCASE("detached") {
        t.async_wait(prom_asio::measured(measure, asio::detached));
        CHECK(m.g.value == 1);
        io.run();
    }
    SUBCASE("deferred") {
        // Without a measured token it is refused, as work that has not started.
        static_assert(prom::detail::work<decltype(t.async_wait(asio::experimental::deferred))>);
        static_assert(!prom::detail::work<decltype(asio::bind_executor(io, [] {}))>);
        auto later = t.async_wait(prom_asio::measured(measure, asio::experimental::deferred));
        CHECK(m.g.value == 0);
        bool ran = false;
        std::move(later)([&](std::error_code ec) { ran = !ec; });
        CHECK(m.g.value == 1);
        io.run();
        CHECK(ran);
    }
    SUBCASE("a callback") {
        bool ran = false;
        t.async_wait(prom_asio::measured(measure, [&](std::error_code ec) { ran = !ec; }));
        io.run();
        CHECK(ran);
    }
    CHECK(m.o.seen.size() == 1);
    CHECK(m.c.count == 0);
    CHECK((m.g.value == 0 && m.g.calls == 2));
}

TEST_CASE("A measured token counts what is canceled, and the error reaches the token") {
    asio::io_context io;
    metrics m;
    asio::steady_timer t(io, asio::steady_timer::time_point::max());
    auto f = t.async_wait(prom_asio::measured(prom::count_failures(m.c) | prom::time(m.o), asio::use_future));
    t.cancel();
    io.run();
    CHECK_THROWS_AS(f.get(), std::system_error);
    CHECK((m.c.count == 1 && m.o.seen.size() == 1));
}

TEST_CASE("co_spawn's token is measured too: its exception_ptr is counted") {
    asio::io_context io;
    metrics m;
    const auto e = the_fault();
    auto f = asio::co_spawn(io, fails_with(e), prom_asio::measured(m.all(), asio::use_future));
    io.run();
    CHECK_THROWS_AS(f.get(), std::runtime_error);
    CHECK((m.c.count == 1 && m.o.seen.size() == 1 && m.g.value == 0));
}

TEST_CASE("An io_context destroyed with measured operations in flight leaves no gauge raised") {
    metrics m;
    std::future<void> f;
    {
        asio::io_context io;
        asio::steady_timer t(io, asio::steady_timer::time_point::max());
        t.async_wait(m.all()(prom::completion([](std::error_code) { FAIL("ran"); })));
        t.async_wait(prom_asio::measured(m.all(), asio::detached));
        f = t.async_wait(prom_asio::measured(m.all(), asio::use_future));
        asio::co_spawn(io, [&]() -> awaitable<void> { co_await t.async_wait(prom_asio::measured(m.all(), use_awaitable)); }, asio::detached);
        io.poll();
        CHECK(m.g.value == 4);
    }
    CHECK(m.g.value == 0);
    CHECK(m.o.seen.empty());  // they did not complete
    CHECK_THROWS_AS(f.get(), std::future_error);
}

TEST_CASE("Measured work on a pool of threads is counted once each") {
    prom::registry mine;
    prom::histogram h("h_seconds", "", {.registry = &mine});
    prom::gauge g("g", "", {.registry = &mine});
    asio::thread_pool pool(4);
    for (int i = 0; i != 200; ++i) asio::co_spawn(pool, (prom::time(h) | prom::track_inprogress(g))(pass_42)(), asio::detached);
    for (int i = 0; i != 200; ++i) asio::post(pool, prom::time(h, prom::track_inprogress(g, prom::completion([] {}))));
    pool.join();
    CHECK(h.count() == 400);
    CHECK(g.value() == 0);
}
