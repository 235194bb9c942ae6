// The verbs on coroutines, awaitables, functions and handlers; numbers are behaviours of upstream's tests.
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"
#include <doctest/doctest.h>
#include <memory>
#include <system_error>
#include "support/allocations.hpp"
#include "support/verbs.hpp"
#if PROMETHEUS_ASYNC_EXCEPTIONS
#include <stdexcept>
#endif

namespace {

prom::task<int> forty_two() { co_return 42; }
prom::task<int> wait_for(future<int>& f) { co_return co_await f; }
struct service {
    int base = 40;
    int calls = 0;
    prom::task<int> add(int n) {
        ++calls;
        co_return base + n;
    }
    int plus(int n) const { return base + n; }
};

// A coroutine type that starts at once, and that need not be awaited.
struct eager_task {
    struct promise_type {
        int value = 0;
        eager_task get_return_object() { return eager_task{std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_never initial_suspend() { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_value(int v) { value = v; }
        void unhandled_exception() { std::abort(); }
    };
    explicit eager_task(std::coroutine_handle<promise_type> h) : frame(h) {}
    eager_task(eager_task&& other) noexcept : frame(std::exchange(other.frame, nullptr)) {}
    ~eager_task() { if (frame) frame.destroy(); }
    bool await_ready() const { return frame.done(); }
    void await_suspend(std::coroutine_handle<>) {}
    int await_resume() const { return frame.promise().value; }
    std::coroutine_handle<promise_type> frame;
};
eager_task at_once() { co_return 42; }

// A coroutine type that, like asio's, only its like can await, and only through await_transform.
struct picky {
    struct promise_type {
        int value = 0;
        std::coroutine_handle<> parent;
        picky get_return_object() { return picky{std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() { return {}; }
        struct last {
            bool await_ready() const noexcept { return false; }
            void await_suspend(std::coroutine_handle<promise_type> h) const noexcept { if (h.promise().parent) h.promise().parent.resume(); }
            void await_resume() const noexcept {}
        };
        last final_suspend() noexcept { return {}; }
        void return_value(int v) { value = v; }
        void unhandled_exception() { std::abort(); }
        struct inner {
            std::coroutine_handle<promise_type> child;
            bool await_ready() const { return false; }
            void await_suspend(std::coroutine_handle<promise_type> h) { child.promise().parent = h, child.resume(); }
            int await_resume() const { return child.promise().value; }
        };
        inner await_transform(picky&& p) { return {p.frame}; }
    };
    explicit picky(std::coroutine_handle<promise_type> h) : frame(h) {}
    picky(picky&& other) noexcept : frame(std::exchange(other.frame, nullptr)) {}
    ~picky() { if (frame) frame.destroy(); }
    std::coroutine_handle<promise_type> frame;
};
picky picky_42() { co_return 42; }

// Awaiters of each shape.
struct void_suspend {
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> h) { h.resume(); }
    int await_resume() const { return 1; }
};
struct bool_suspend {
    bool suspends;
    bool await_ready() const { return false; }
    bool await_suspend(std::coroutine_handle<> h) {
        if (!suspends) return false;
        h.resume();  // *this is gone
        return true;
    }
    int await_resume() const { return 2; }
};
struct handle_suspend {
    bool await_ready() const { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> h) { return h; }
    int await_resume() const { return 3; }
};
struct typed_suspend {  // knows the promise that it is awaited in
    bool await_ready() const { return false; }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> h) { return (void)h.promise(), false; }
    int await_resume() const { return 4; }
};
struct immovable {
    immovable() = default;
    immovable(const immovable&) = delete;
    immovable& operator=(const immovable&) = delete;
    bool await_ready() const { return true; }
    void await_suspend(std::coroutine_handle<>) const {}
    int await_resume() const { return 5; }
};
struct member_co_await {
    immovable operator co_await() && { return {}; }
};
struct free_co_await {};
immovable operator co_await(const free_co_await&) { return {}; }
struct gives_reference : immovable {
    int& target;
    explicit gives_reference(int& t) : target(t) {}
    int& await_resume() const { return target; }
};
struct gives_nothing : immovable {
    void await_resume() const {}
};
struct gives_move_only : immovable {
    std::unique_ptr<int> await_resume() const { return std::make_unique<int>(7); }
};
struct gives_immovable : immovable {
    immovable await_resume() const { return {}; }
};
struct gives_awaiter : immovable {
    member_co_await await_resume() const { return {}; }
};

struct templated {
    template <class T>
    auto operator()(T v) { return v; }
};
template <class H>
concept has_slot = requires(const H& h) { h.get_cancellation_slot(); };

}  // namespace

TEST_CASE("1: a decorated coroutine function still returns what it returned, free or method") {
    fake_observer o;
    static_assert(std::is_same_v<decltype(prom::time(o)(forty_two)()), prom::task<int>>);
    static_assert(std::is_same_v<decltype(prom::time(o)(&service::add)(std::declval<service&>(), 1)), prom::task<int>>);
    static_assert(std::is_same_v<decltype(prom::time(o, at_once())), eager_task>);
    static_assert(std::is_same_v<decltype(prom::time(o, picky_42())), picky>);
    CHECK(o.seen.empty());
}

TEST_CASE("a time that is started again goes on, and one that has ended stays ended") {
    static double now;
    now = 1;
    prom::set_clock({[] { return now; }, [] { return 0.0; }});
    {
        prom::registry mine;
        const prom::summary s{"s", "h", {.registry = &mine}};
        prom::detail::time_scope<prom::summary> scope(s, prom::detail::starts::at_await);
        now = 2;
        scope.start();
        now = 4;
        scope.start();
        now = 8;
        scope.end();
        CHECK(s.sum() == 6);
        scope.start();
        scope.end();
        CHECK(s.count() == 1);
    }
    prom::set_clock(prom::system_clock());
}

TEST_CASE("a clock that goes back or is nonsense gives spans and times of 0, everywhere") {
    static double now = 0, wall = 0;
    prom::set_clock({[] { return now; }, [] { return wall; }});
    const double nan = __builtin_nan(""), inf = __builtin_inf();
    for (const auto& [from, to] : {std::pair{10.0, 0.0}, {0.0, nan}, {nan, 0.0}, {0.0, inf}, {inf, inf}, {-inf, 0.0}, {0.0, -inf}, {0.0, 1e300}, {-1e300, 1e300}}) {
        CAPTURE(from);
        CAPTURE(to);
        prom::registry r;
        fake_observer o;
        const prom::histogram h{"h", "", {.registry = &r}};
        const prom::gauge g{"g", "", {.registry = &r}};
        g.set(7);
        const auto turn = [&] { now = to; };
        now = from;
        prom::time(o)(turn)();
        now = from;
        sync_wait(prom::time(o)([&]() -> prom::task<int> { now = to; co_return 1; })());
        now = from;
        auto awaited = prom::time(o, forty_two());
        now = to;
        sync_wait(std::move(awaited));
        now = from;
        auto handler = prom::time(o, prom::completion(turn));
        now = to;
        handler();
        CHECK(o.seen.at(0) == 0);
        CHECK(o.seen.at(1) == 0);
        CHECK(o.seen.at(2) == 0);
        CHECK(o.seen.at(3) == 0);
        now = from;
        {
            const auto of_h = h.timer();
            const auto of_g = g.timer();
            turn();
            CHECK(of_h.elapsed() == 0);
        }
        CHECK(h.count() == 1);
        CHECK(h.sum() == 0);
        CHECK(g.value() == 0);
    }
    for (const double t : {-5.0, nan, inf, -inf, 1e300, 9e15, -0.0}) {
        wall = t;
        prom::registry r;
        const prom::counter c{"c", "", {.registry = &r}};
        const prom::gauge g{"g", "", {.registry = &r}};
        c.inc(1, {.labels = {{"a", "b"}}});
        g.set(7);
        g.set_to_current_time();
        prom::registry* const shown[] = {&r};
        CHECK(prom::wall_now() == 0);
        CHECK(prom::expose({.as = prom::format::openmetrics_1_0_0, .registries = shown, .created = prom::created_series::all}).find("c_created 0\n") != std::string::npos);
        CHECK(g.value() == 0);
        c.reset();
        CHECK(prom::expose({.registries = shown, .created = prom::created_series::all}).find("c_created 0\n") != std::string::npos);
    }
    now = -3, wall = 5;  // a monotonic clock may have any origin
    {
        prom::registry r;
        const prom::summary s{"s", "", {.registry = &r}};
        {
            const auto t = s.timer();
            now = -1;
        }
        CHECK(s.sum() == 2);
        CHECK(prom::wall_now() == 5);
    }
    prom::set_clock(prom::system_clock());
}

TEST_CASE("2: a coroutine that never suspends is observed once, and its result passes") {
    counting_clock clock;
    fake_observer o;
    CHECK(sync_wait(prom::time(o)(forty_two)()) == 42);
    CHECK(o.seen == seen{1});
}

TEST_CASE("3: a decorated coroutine function observes nothing before it is awaited") {
    counting_clock clock;
    fake_observer o;
    auto t = prom::time(o)(forty_two)();
    CHECK(o.seen.empty());
    readings = 100;  // the clock starts when the body does
    CHECK(sync_wait(std::move(t)) == 42);
    CHECK(o.seen == seen{1});

    service s;
    auto m = prom::time(o)(&service::add)(s, 2);
    CHECK(o.seen == seen{1});
    CHECK(sync_wait(std::move(m)) == 42);
    CHECK(o.seen == seen{1, 1});
}

TEST_CASE("time() reads the clock twice, whatever it measures") {
    counting_clock clock;
    fake_observer o;
    const auto twice = [&](auto run) {
        readings = 0;
        run();
        CHECK(readings == 2);
        CHECK(o.seen == seen{1});
        o.seen.clear();
    };
    twice([&] { CHECK(sync_wait(prom::time(o)(forty_two)()) == 42); });
    twice([&] { CHECK(sync_wait(prom::time(o, forty_two())) == 42); });
    struct ready {
        bool await_ready() const { return true; }
        void await_suspend(std::coroutine_handle<>) const {}
        int await_resume() const { return 42; }
    };
    twice([&] { CHECK(sync_wait(prom::time(o)([] { return ready{}; })()) == 42); });
    twice([&] { CHECK(sync_wait(prom::time(o, ready{})) == 42); });
    twice([&] { CHECK(prom::time(o)([] { return 42; })() == 42); });
    twice([&] { prom::time(o, prom::completion([](int) {}))(42); });
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
namespace {
std::exception_ptr the_fault() { return std::make_exception_ptr(std::invalid_argument("bad")); }
prom::task<int> fails_with(std::exception_ptr e) {
    std::rethrow_exception(e);
    co_return 0;
}
struct failing_service {
    prom::task<int> run(std::exception_ptr e) { return fails_with(e); }
};
template <class Awaitable>
std::exception_ptr thrown_by(Awaitable&& a) {
    try {
        (void)sync_wait(std::forward<Awaitable>(a));
    } catch (...) {
        return std::current_exception();
    }
    return nullptr;
}
}  // namespace

TEST_CASE("4: an exception of the decorated function is observed, and is the same object") {
    counting_clock clock;
    fake_observer o;
    const auto e = the_fault();
    CHECK(thrown_by(prom::time(o)(fails_with)(e)) == e);
    failing_service s;
    CHECK(thrown_by(prom::time(o)(&failing_service::run)(s, e)) == e);
    CHECK(o.seen == seen{1, 1});
}

TEST_CASE("an exception goes through all verbs on a task, with and without a value, as the same object") {
    struct some {
        static prom::task<> nothing(std::exception_ptr e) {
            if (e) std::rethrow_exception(e);
            co_return;
        }
        static prom::task<int&> reference(std::exception_ptr e, int& x) {
            if (e) std::rethrow_exception(e);
            co_return x;
        }
    };
    prom::registry mine;
    const prom::histogram h{"h", "h", {.registry = &mine}};
    const prom::counter all{"all_total", "h", {.registry = &mine}}, arguments{"arguments_total", "h", {.registry = &mine}}, other{"other_total", "h", {.registry = &mine}};
    const prom::gauge g{"g", "h", {.registry = &mine}};
    const auto under = [&](auto&& x) {
        return prom::time(h, prom::count_exceptions(all, prom::count_exceptions<std::invalid_argument>(arguments,
                             prom::count_exceptions<std::bad_alloc>(other, prom::track_inprogress(g, std::move(x))))));
    };
    const auto e = the_fault();
    int x = 0;
    CHECK(thrown_by(under(some::nothing(e))) == e);
    CHECK(thrown_by(under(some::reference(e, x))) == e);
    CHECK(thrown_by(under(fails_with(e))) == e);
    CHECK(thrown_by(under(some::nothing(nullptr))) == nullptr);
    CHECK(thrown_by(under(some::reference(nullptr, x))) == nullptr);
    CHECK(h.count() == 5);
    CHECK(all.value() == 3);
    CHECK(arguments.value() == 3);
    CHECK(other.value() == 0);
    CHECK(g.value() == 0);
}

TEST_CASE("6: a future that fails is observed, and the exception is the same object") {
    counting_clock clock;
    fake_observer o;
    future<int> f;
    auto d = prom::make_deferred(prom::time(o, f));
    CHECK(o.seen.empty());
    const auto e = the_fault();
    f.set_fault(e);
    CHECK(o.seen == seen{1});
    CHECK(thrown_by(d) == e);
}
#endif

TEST_CASE("5: a future is observed when its result is set, from the call of time() on") {
    counting_clock clock;
    fake_observer o;
    future<int> f;
    auto timed = prom::time(o, f);
    readings = 9;
    auto d = prom::make_deferred(std::move(timed));
    CHECK(o.seen.empty());
    f.set_result(42);
    CHECK(o.seen == seen{9});
    CHECK(sync_wait(d) == 42);
}

TEST_CASE("7: stacked on a method, instance, arguments and parameter types are kept") {
    counting_clock clock;
    fake_observer o;
    int before = 0, after = 0;
    auto noting = [](int& n, auto f) {
        return [&n, f](auto&&... args) -> decltype(f(std::forward<decltype(args)>(args)...)) {
            ++n;
            return f(std::forward<decltype(args)>(args)...);
        };
    };
    auto add = noting(after, prom::time(o)(noting(before, [](service& s, int n) { return s.add(n); })));
    service a, b{50};
    CHECK(sync_wait(add(a, 2)) == 42);
    CHECK(sync_wait(add(b, 2)) == 52);
    CHECK(o.seen == seen{1, 1});
    CHECK((before == 2 && after == 2 && a.calls == 1 && b.calls == 1));
    static_assert(std::is_invocable_v<decltype(add)&, service&, int>);
    static_assert(!std::is_invocable_v<decltype(add)&, service&, const char*>);
    static_assert(!std::is_invocable_v<decltype(add)&, int>);
}

TEST_CASE("8: what does not throw is not counted") {
    fake_counter c;
    CHECK(sync_wait(prom::count_exceptions(c)(forty_two)()) == 42);
    CHECK(c.count == 0);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("9: an exception of another type is not counted, and goes on") {
    fake_counter c;
    const auto e = the_fault();
    CHECK(thrown_by(prom::count_exceptions<std::runtime_error>(c)(fails_with)(e)) == e);
    CHECK(c.count == 0);
}

TEST_CASE("10: an exception is counted once, and goes on") {
    fake_counter c;
    const auto e = the_fault();
    CHECK(thrown_by(prom::count_exceptions(c)(fails_with)(e)) == e);
    CHECK(c.count == 1);
    CHECK(thrown_by(prom::count_exceptions<std::logic_error>(c)(fails_with)(e)) == e);  // a base
    CHECK(c.count == 2);
    CHECK(thrown_by(prom::count_exceptions<std::runtime_error, std::invalid_argument>(c)(fails_with)(e)) == e);
    CHECK(c.count == 3);
}

TEST_CASE("11, 12, 13: futures: no exception, another type, an exception") {
    fake_counter c;
    const auto e = the_fault();
    {
        future<int> f;
        auto d = prom::make_deferred(prom::count_exceptions(c, f));
        f.set_result(42);
        CHECK(sync_wait(d) == 42);
        CHECK(c.count == 0);
    }
    {
        future<int> f;
        auto d = prom::make_deferred(prom::count_exceptions<std::runtime_error>(c, f));
        f.set_fault(e);
        CHECK(thrown_by(d) == e);
        CHECK(c.count == 0);
    }
    {
        future<int> f;
        auto d = prom::make_deferred(prom::count_exceptions<std::logic_error>(c, f));
        f.set_fault(e);
        CHECK(thrown_by(d) == e);
        CHECK(c.count == 1);
    }
}

TEST_CASE("A synchronous throw is measured by every verb, whatever the function would have returned") {
    counting_clock clock;
    const auto e = the_fault();
    auto probe = [&](auto function) {
        fake_observer o;
        fake_counter c;
        fake_gauge g;
        auto all = (prom::time(o) | prom::count_exceptions(c) | prom::track_inprogress(g))(function);
        std::exception_ptr caught;
        try {
            (void)all();
        } catch (...) {
            caught = std::current_exception();
        }
        CHECK(caught == e);
        CHECK(o.seen == seen{1});
        CHECK(c.count == 1);
        CHECK(g.value == 0);
    };
    probe([&]() -> int { std::rethrow_exception(e); });
    probe([&]() -> prom::task<int> { std::rethrow_exception(e); });
    probe([&]() -> eager_task { std::rethrow_exception(e); });
    probe([&]() -> immovable { std::rethrow_exception(e); });
    probe([&]() -> prom::deferred<int> { std::rethrow_exception(e); });
}

TEST_CASE("An exception of await_ready, await_suspend or await_resume is counted once, and timed") {
    struct throws_in {
        int where;
        bool await_ready() const { return where == 0 ? throw std::runtime_error("ready") : false; }
        bool await_suspend(std::coroutine_handle<>) const { return where == 1 ? throw std::runtime_error("suspend") : false; }
        void await_resume() const { if (where == 2) throw std::runtime_error("resume"); }
    };
    for (int where = 0; where != 3; ++where) {
        CAPTURE(where);
        counting_clock clock;
        fake_observer o;
        fake_counter c;
        fake_gauge g;
        CHECK(thrown_by((prom::time(o) | prom::track_inprogress(g) | prom::count_exceptions(c))(throws_in{where})) != nullptr);
        CHECK(c.count == 1);
        CHECK(o.seen.size() == 1);
        CHECK(g.value == 0);
    }
}

TEST_CASE("A cancellation that is an exception counts; one that destroys the frame does not") {
    struct canceled {};  // not a std::exception
    fake_counter c;
    fake_observer o;
    auto task = [](fake_counter& n, fake_observer& ob) -> prom::task<> {
        co_await (prom::time(ob) | prom::count_exceptions(n))([]() -> prom::task<> {
            throw canceled{};
            co_return;
        })();
    };
    CHECK(thrown_by(task(c, o)) != nullptr);
    CHECK(c.count == 1);
    CHECK(o.seen.size() == 1);
    future<int> never;
    { auto d = prom::make_deferred((prom::time(o) | prom::count_exceptions(c))(wait_for)(never)); }
    CHECK(c.count == 1);
    CHECK(o.seen.size() == 2);
}

TEST_CASE("A handler whose first argument is an exception_ptr is counted by it") {
    fake_counter all, some;
    int calls = 0;
    const auto e = the_fault();
    auto with = [&](std::exception_ptr p) {
        prom::count_exceptions(all, prom::count_exceptions<std::runtime_error>(some, prom::completion([&](std::exception_ptr got, int n) {
            calls += n;
            CHECK(got == p);
        })))(p, 1);
    };
    with(nullptr);
    CHECK((all.count == 0 && some.count == 0));
    with(e);
    CHECK((all.count == 1 && some.count == 0));
    with(std::make_exception_ptr(std::runtime_error("x")));
    CHECK((all.count == 2 && some.count == 1));
    CHECK(calls == 3);
}

TEST_CASE("What a completion handler throws is its own") {
    fake_counter c;
    CHECK_THROWS_AS(prom::count_exceptions(c, prom::completion([] { throw 1; }))(), int);
    CHECK(c.count == 0);
}

TEST_CASE("What a foreign metric or a predicate throws leaves what is measured as it is") {
    struct broken {
        void observe(double) { throw 1; }
        void inc() { throw 1; }
        void dec() { throw 1; }
    } m;
    const auto all = prom::time(m) | prom::track_inprogress(m) | prom::count_exceptions(m) |
                     prom::count_failures(m).when([](int n) -> bool { throw n; });
    CHECK(all([] { return 5; })() == 5);
    CHECK_THROWS_AS(all([]() -> int { throw std::runtime_error("its own"); })(), std::runtime_error);
    const auto d = prom::make_deferred(all([]() -> prom::task<int> { co_return 6; })());
    CHECK(d.settled().await_resume().value() == 6);
    const prom::deferred<int> fired;
    all(fired).fire(7);
    CHECK(fired.settled().await_resume().value() == 7);
    int got = 0;
    all(prom::completion([&](int n) { got = n; }))(8);
    CHECK(got == 8);
    prom::gauge g{"never_raised", ""};
    prom::track_inprogress(g)([] {})();
    CHECK(g.value() == 0);
}

TEST_CASE("A test's sync_wait: a failure propagates the same object") {
    const auto e = the_fault();
    CHECK(thrown_by(fails_with(e)) == e);
}
#endif

TEST_CASE("14: track_inprogress on a coroutine function: up and down once") {
    fake_gauge g;
    auto t = prom::track_inprogress(g)(forty_two)();
    CHECK(g.calls == 0);
    CHECK(sync_wait(std::move(t)) == 42);
    CHECK(g.value == 0);
    CHECK(g.calls == 2);
}

TEST_CASE("15: track_inprogress on a coroutine") {
    fake_gauge g;
    future<int> f;
    auto d = prom::make_deferred(prom::track_inprogress(g)(wait_for)(f));
    CHECK(g.value == 1);
    f.set_result(42);
    CHECK(g.value == 0);
    CHECK(sync_wait(d) == 42);
    CHECK(sync_wait(prom::track_inprogress(g, forty_two())) == 42);
    CHECK(g.value == 0);
    CHECK(g.calls == 4);
}

TEST_CASE("16: track_inprogress on a future is 1 right after the call") {
    fake_gauge g;
    future<int> f;
    auto tracked = prom::track_inprogress(g, f);
    CHECK(g.value == 1);
    f.set_result(42);
    CHECK(g.value == 1);
    CHECK(sync_wait(std::move(tracked)) == 42);
    CHECK(g.value == 0);
}

TEST_CASE("Never awaited: nothing is observed, and no gauge stays raised") {
    fake_observer o;
    fake_gauge g;
    future<int> f;
    {
        auto a = prom::time(o, prom::track_inprogress(g, forty_two()));
        auto b = prom::time(o, prom::track_inprogress(g, f));
        auto c = (prom::time(o) | prom::track_inprogress(g))(forty_two)();
        auto d = (prom::time(o) | prom::track_inprogress(g))([&]() -> future<int>& { return f; })();
        CHECK(g.value == 2);  // the decorated ones have not started
    }
    CHECK(o.seen.empty());
    CHECK(g.value == 0);
}

TEST_CASE("Destroyed half way: observed, and no gauge stays raised") {
    counting_clock clock;
    fake_observer o;
    fake_gauge g;
    future<int> f, h;
    {
        auto a = prom::make_deferred(prom::time(o, prom::track_inprogress(g, wait_for(f))));
        auto b = prom::make_deferred(prom::time(o, prom::track_inprogress(g, h)));
        CHECK(g.value == 2);
    }
    CHECK(o.seen.size() == 2);
    CHECK(g.value == 0);
}

TEST_CASE("A coroutine type that starts at once is timed from the call") {
    counting_clock clock;
    fake_observer o;
    fake_gauge g;
    auto t = (prom::time(o) | prom::track_inprogress(g))([] {
        readings += 5;  // before the coroutine is made
        return at_once();
    })();
    CHECK(o.seen == seen{6});
    CHECK((g.value == 0 && g.calls == 2));
    CHECK(t.await_resume() == 42);
}

TEST_CASE("A coroutine type that only its like can await") {
    counting_clock clock;
    fake_observer o;
    auto run = [](fake_observer& ob) -> picky {
        const int first = co_await prom::time(ob)(picky_42)();
        co_return first + co_await prom::time(ob, picky_42());
    };
    auto p = run(o);
    p.frame.resume();
    CHECK(p.frame.done());
    CHECK(p.frame.promise().value == 84);
    CHECK(o.seen == seen{1, 1});
}

TEST_CASE("Awaiters of every shape pass through the adaptor") {
    fake_observer o;
    fake_gauge g;
    auto all = prom::time(o) | prom::track_inprogress(g);
    auto run = [&]() -> prom::task<int> {
        int sum = 0;
        sum += co_await all(void_suspend{});
        sum += co_await all(bool_suspend{true});
        sum += co_await all(bool_suspend{false});
        sum += co_await all(handle_suspend{});
        sum += co_await all(typed_suspend{});
        sum += co_await all(member_co_await{});
        sum += co_await all(free_co_await{});
        immovable here;
        sum += co_await all(here);
        sum += co_await all([] { return immovable{}; })();  // made in place
        co_return sum;
    };
    CHECK(sync_wait(run()) == 1 + 2 + 2 + 3 + 4 + 5 + 5 + 5 + 5);
    CHECK(o.seen.size() == 9);
    CHECK((g.value == 0 && g.calls == 18));
}

TEST_CASE("Results pass unchanged: references, nothing, move-only, immovable, and awaitables") {
    fake_observer o;
    auto time = prom::time(o);
    int target = 0;
    auto run = [&]() -> prom::task<bool> {
        gives_reference reference(target);
        int& r = co_await time(reference);
        gives_nothing none;
        co_await time(none);
        static_assert(std::is_void_v<decltype(time(none).operator co_await().await_resume())>);
        gives_move_only only;
        std::unique_ptr<int> p = co_await time(only);
        gives_immovable still;
        const immovable whole = co_await time(still);
        gives_awaiter another;
        member_co_await next = co_await time(another);
        const int five = co_await std::move(next);
        co_return &r == &target && *p == 7 && whole.await_resume() == 5 && five == 5;
    };
    CHECK(sync_wait(run()));
    auto tasks = [&]() -> prom::task<bool> {
        int& r = co_await time([](int& x) -> prom::task<int&> { co_return x; })(target);
        std::unique_ptr<int> p = co_await time([]() -> prom::task<std::unique_ptr<int>> { co_return std::make_unique<int>(7); })();
        co_await time([]() -> prom::task<> { co_return; })();
        co_return &r == &target && *p == 7;
    };
    CHECK(sync_wait(tasks()));
    int& back = time([&]() -> int& { return target; })();
    CHECK(&back == &target);
    const std::unique_ptr<int> p = time([](std::unique_ptr<int> q) { return q; })(std::make_unique<int>(3));
    CHECK(*p == 3);
}

TEST_CASE("Free functions, lambdas, members, overloaded and templated function objects are decorated") {
    counting_clock clock;
    fake_observer o;
    auto time = prom::time(o);
    struct overloaded {
        int operator()(int) const { return 1; }
        int operator()(const char*) const { return 2; }
    };
    struct final_one final {
        int operator()() const { return 4; }
    };
    auto over = time(overloaded{});
    CHECK((over(1) == 1 && over("") == 2));
    auto any = time(templated{});
    CHECK((any(5) == 5 && any(2.5) == 2.5));
    static_assert(!std::is_invocable_v<const decltype(any)&, int>);
    CHECK(time(final_one{})() == 4);
    CHECK(time([p = std::make_unique<int>(3)](int n) { return *p + n; })(1) == 4);
    int n = 0;
    auto counts = time([n]() mutable { return ++n; });
    CHECK((counts() == 1 && counts() == 2));
    service s;
    CHECK((time(&service::plus)(s, 2) == 42 && time(&service::plus)(&s, 2) == 42));
    CHECK((time(&service::plus)(std::make_unique<service>(), 2) == 42));
    time(&service::base)(s) = 7;
    CHECK(s.base == 7);
    CHECK(o.seen == seen(12, 1.0));
}

namespace {
// A coroutine type, as libraries vary it: Promise adds or hides what the promise of P gives.
template <template <class> class Promise>
struct varied {
    using promise_type = Promise<varied>;
    std::coroutine_handle<promise_type> frame;
    explicit varied(std::coroutine_handle<promise_type> h) : frame(h) {}
    varied(varied&& other) noexcept : frame(std::exchange(other.frame, nullptr)) {}
    ~varied() { if (frame) frame.destroy(); }
    bool await_ready() const { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> h) { return frame.promise().parent = h, frame; }
    int await_resume() const { return frame.promise().value; }
};
template <class Made>
struct lazy_promise {
    int value = 0;
    std::coroutine_handle<> parent;
    std::suspend_always initial_suspend() { return {}; }
    struct last {
        std::coroutine_handle<> parent;
        bool await_ready() const noexcept { return false; }
        std::coroutine_handle<> await_suspend(std::coroutine_handle<>) const noexcept { return parent; }
        void await_resume() const noexcept {}
    };
    last final_suspend() noexcept { return {parent}; }
    void return_value(int v) { value = v; }
    void unhandled_exception() { std::abort(); }
};
struct pool {
    int taken = 0;
};
template <class Made>
struct own_parameters : lazy_promise<Made> {  // can be made from its own parameters only
    explicit own_parameters(pool& p) { ++p.taken; }
    Made get_return_object() { return Made(std::coroutine_handle<own_parameters>::from_promise(*this)); }
};
template <class Made>
struct own_memory : lazy_promise<Made> {  // its frames come from a pool only
    Made get_return_object() { return Made(std::coroutine_handle<own_memory>::from_promise(*this)); }
    static void* operator new(std::size_t n, pool& p) { return ++p.taken, ::operator new(n); }
    static void operator delete(void* p) { ::operator delete(p); }
};
template <class Made>
struct own_words : lazy_promise<Made> {  // awaits nothing of its own kind
    Made get_return_object() { return Made(std::coroutine_handle<own_words>::from_promise(*this)); }
    std::suspend_never await_transform(pool&) { return {}; }
};
template <class Made>
struct own_result : lazy_promise<Made> {  // returns another type than awaiting gives
    struct text { int n; };
    Made get_return_object() { return Made(std::coroutine_handle<own_result>::from_promise(*this)); }
    void return_value(text t) { this->value = t.n; }
};
varied<own_parameters> from_parameters(pool&) { co_return 1; }
varied<own_memory> from_pool(pool&) { co_return 2; }
varied<own_words> from_words(pool& p) { co_await p; co_return 3; }
varied<own_result> from_result() { co_return own_result<varied<own_result>>::text{4}; }

// A relay, as async_simple's RescheduleLazy: it has another type's promise, which makes that other type.
struct relay {
    using promise_type = eager_task::promise_type;
    eager_task to;
    explicit relay(eager_task t) : to(std::move(t)) {}  // no aggregate: g++ 12 destroys one twice in a co_await
    bool await_ready() const { return to.await_ready(); }
    void await_suspend(std::coroutine_handle<>) {}
    int await_resume() const { return to.await_resume(); }
};
// A coroutine type that cannot be moved.
struct unmoved {
    struct promise_type {
        unmoved get_return_object() { return unmoved{std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_never initial_suspend() { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::abort(); }
    };
    explicit unmoved(std::coroutine_handle<promise_type> h) : frame(h) {}
    unmoved(const unmoved&) = delete;
    unmoved& operator=(const unmoved&) = delete;
    ~unmoved() { frame.destroy(); }
    bool await_ready() const { return true; }
    void await_suspend(std::coroutine_handle<>) const {}
    int await_resume() const { return 6; }
    std::coroutine_handle<promise_type> frame;
};
unmoved never_moved() { co_return; }
}  // namespace

TEST_CASE("Coroutine types that the library cannot write a coroutine of: the adaptor takes them") {
    counting_clock clock;
    fake_observer o;
    fake_gauge g;
    pool p;
    auto all = prom::time(o) | prom::track_inprogress(g);
    static_assert(!std::is_same_v<decltype(prom::time(o, from_pool(p))), varied<own_memory>>);
    auto run = [&]() -> prom::task<int> {
        int sum = co_await all(from_parameters)(p) + co_await all(from_parameters(p));
        sum += 10 * (co_await all(from_pool)(p) + co_await all(from_pool(p)));
        sum += 100 * (co_await all(from_words)(p) + co_await all(from_words(p)));
        sum += 1000 * (co_await all(from_result)() + co_await all(from_result()));
        CHECK(g.value == 0);
        auto relayed = all([] { return relay(at_once()); })();
        CHECK(g.value == 1);  // a coroutine that starts at once: from the call on
        sum += (co_await std::move(relayed) == 42) + (co_await all(relay(at_once())) == 42);
        sum += co_await all(never_moved)() == 6;
        co_return sum;
    };
    CHECK(sync_wait(run()) == 8643 + 2);
    CHECK(p.taken == 4);
    CHECK(o.seen.size() == 11);
    CHECK((g.value == 0 && g.calls == 22));
}

// Futures of other libraries have get() and wait(), some for an rvalue only, or waitForFinished().
struct future_like {
    int get();
    void wait();
};
struct future_by_rvalue {
    int get() &&;
    void wait() &;
};
struct future_all_rvalue {
    int get() &&;
    future_all_rvalue wait() &&;
};
struct future_of_qt {
    void waitForFinished();
};
struct latch {
    void wait();
    bool try_wait();
};
struct slot {
    int get() const;
    bool wait(int) &&;
};
static_assert(prom::detail::work<future_like> && prom::detail::work<future_by_rvalue> && prom::detail::work<future_all_rvalue> && prom::detail::work<future_of_qt>);
static_assert(!prom::detail::work<latch> && !prom::detail::work<slot> && !prom::detail::work<std::unique_ptr<future_like>>);

TEST_CASE("What is no work: what call_only names, what only looks like a future, what is not even complete") {
    struct handle {  // looks like a future
        int get() const { return 5; }
        void wait() const {}
    };
    struct pointer : handle {  // looks like a smart pointer
        const handle* operator->() const { return this; }
    };
    counting_clock clock;
    fake_observer outer, inner;
    auto both = prom::time(outer) | prom::time(inner);
    CHECK(both(prom::call_only([] { return handle{}; }))().get() == 5);
    CHECK((outer.seen == seen{3} && inner.seen == seen{1}));
    CHECK(both([] { return pointer{}; })().get() == 5);
    struct worker : handle {  // has a get() and a wait(), and is a function
        int operator()() const { return 6; }
    };
    CHECK(both(worker{})() == 6);
    struct unknown_here;
    static int place;
    CHECK(&both([]() -> unknown_here& { return reinterpret_cast<unknown_here&>(place); })() == reinterpret_cast<unknown_here*>(&place));
    auto t = prom::time(inner)(prom::call_only(forty_two))();
    static_assert(std::is_same_v<decltype(t), prom::task<int>>);
    CHECK(inner.seen == seen{1, 1, 1, 1, 1});
    CHECK(sync_wait(std::move(t)) == 42);
    CHECK(inner.seen.size() == 5);
    const service s;
    CHECK(prom::time(inner, prom::call_only(&service::plus))(s, 2) == 42);
}

TEST_CASE("Nothing is copied in a decorated call: arguments are those of the plain one") {
    struct counted {
        int copies = 0;
        counted() = default;
        counted(const counted& other) : copies(other.copies + 1) {}
        counted(counted&& other) noexcept : copies(other.copies) {}
    };
    fake_observer o;
    counted c;
    auto by_reference = prom::time(o)([&](counted& x) { return &x == &c; });
    CHECK(by_reference(c));
    auto by_value = prom::time(o)([](counted x) { return x.copies; });
    CHECK(by_value(counted{}) == 0);
    CHECK(by_value(c) == 1);
}

TEST_CASE("(a | b)(f) is a(b(f)): the leftmost is outermost") {
    counting_clock clock;
    fake_observer outer, inner;
    auto both = prom::time(outer) | prom::time(inner);
    CHECK(sync_wait(both(forty_two)()) == 42);
    CHECK((outer.seen == seen{3} && inner.seen == seen{1}));
    CHECK(both([] { return 1; })() == 1);
    CHECK((outer.seen == seen{3, 3} && inner.seen == seen{1, 1}));
    auto three = (prom::time(outer) | prom::time(inner)) | prom::time(outer);
    (void)three;
}

TEST_CASE("Handles and rvalue metrics are kept by value, others where they stand") {
    prom::registry mine;
    prom::task<int> t;
    {
        prom::histogram h("h", "", {.registry = &mine});
        t = prom::time(h)(forty_two)();
    }
    CHECK(sync_wait(std::move(t)) == 42);
    prom::histogram h("h", "", {.registry = &mine});
    CHECK(h.count() == 1);

    struct adapter {
        fake_observer& theirs;
        void observe(double s) const { theirs.observe(s); }
    };
    fake_observer o;
    auto timed = prom::time(adapter{o})(forty_two);
    CHECK(sync_wait(timed()) == 42);
    CHECK(o.seen.size() == 1);

    prom::counter c("c", "", {.registry = &mine});
    prom::gauge g("g", "", {.registry = &mine});
    CHECK(sync_wait((prom::count_exceptions(c) | prom::track_inprogress(g))(forty_two)()) == 42);
    CHECK(c.value() == 0);
    CHECK(g.value() == 0);
    const prom::summary s("s", "", {.registry = &mine});
    CHECK(prom::time(s)([] { return 1; })() == 1);
    CHECK(s.count() == 1);
}

TEST_CASE("count_failures counts results without a value, by itself or by a predicate") {
    fake_counter c;
    const prom::error why(prom::errc::timeout, "late");
    auto may_fail = [&](bool ok) { return ok ? prom::result<int>(1) : prom::result<int>(why); };
    CHECK(prom::count_failures(c)(may_fail)(true));
    CHECK(c.count == 0);
    CHECK(!prom::count_failures(c)(may_fail)(false));
    CHECK(c.count == 1);
    auto task_may_fail = [](bool ok) -> prom::task<prom::result<void>> {
        if (!ok) co_return prom::error(prom::errc::timeout, "late");
        co_return {};
    };
    CHECK(sync_wait(prom::count_failures(c)(task_may_fail)(true)));
    CHECK(!sync_wait(prom::count_failures(c, task_may_fail(false))));
    CHECK(c.count == 2);
    future<prom::result<int>> f;
    auto d = prom::make_deferred(prom::count_failures(c, f));
    f.set_result(why);
    CHECK(c.count == 3);
    auto negative = [](int n) { return n < 0; };
    CHECK(prom::count_failures(c, [](int n) { return n; }, negative)(-1) == -1);
    CHECK(prom::count_failures(c).when(negative)([](int n) { return n; })(1) == 1);
    CHECK(sync_wait(prom::count_failures(c, forty_two(), [](int n) { return n == 42; })) == 42);
    CHECK(c.count == 5);
    auto code = [](std::errc e) { return std::make_error_code(e); };
    CHECK(prom::count_failures(c)(code)(std::errc::timed_out));
    CHECK(!prom::count_failures(c)(code)(std::errc{}));
    CHECK(c.count == 6);
}

TEST_CASE("count_failures on a handler looks at its error_code, or at all that the predicate takes") {
    fake_counter c;
    int calls = 0;
    auto handler = [&](std::error_code, std::size_t) { ++calls; };
    prom::count_failures(c, prom::completion(handler))(std::make_error_code(std::errc::timed_out), std::size_t{1});
    prom::count_failures(c, prom::completion(handler))(std::error_code(), std::size_t{1});
    CHECK(c.count == 1);
    auto short_read = [](std::error_code ec, std::size_t n) { return ec || n < 10; };
    prom::count_failures(c, prom::completion(handler), short_read)(std::error_code(), std::size_t{1});
    CHECK(c.count == 2);
    auto timed_out = [](std::error_code ec) { return ec == std::errc::timed_out; };  // takes the first alone
    for (const std::errc e : {std::errc::timed_out, std::errc::connection_reset, std::errc::connection_refused})
        prom::count_failures(c, prom::completion(handler), timed_out)(std::make_error_code(e), std::size_t{1});
    CHECK(c.count == 3);
    CHECK(calls == 6);
}

TEST_CASE("A completion handler is timed until it is called, and tracked until then or until it is dropped") {
    counting_clock clock;
    fake_observer o;
    fake_gauge g;
    double when_called = 0;
    auto make = [&] {
        return prom::time(o, prom::track_inprogress(g, prom::completion([&, only = std::make_unique<int>(2)](int n) {
            CHECK(g.value == 0);  // the operation is over when its handler runs
            when_called = readings;
            return n * *only;
        })));
    };
    auto h = make();
    CHECK(g.value == 1);
    CHECK(std::move(h)(21) == 42);
    CHECK(o.seen == seen{1});
    CHECK(when_called == 2);
    { auto dropped = make(); }
    CHECK(g.value == 0);
    CHECK(o.seen == seen{1});  // it never completed
}

TEST_CASE("A measured handler keeps its executor, allocator and cancellation slot") {
    struct executor { int id; };
    struct handler {
        using executor_type = executor;
        using allocator_type = std::allocator<void>;
        executor get_executor() const noexcept { return {7}; }
        allocator_type get_allocator() const noexcept { return {}; }
        void operator()() const {}
    };
    fake_observer o;
    auto h = prom::time(o, prom::completion(handler{}));
    static_assert(std::is_same_v<decltype(h)::executor_type, executor>);
    static_assert(std::is_same_v<decltype(h)::allocator_type, std::allocator<void>>);
    static_assert(!has_slot<decltype(h)>);
    CHECK(h.get_executor().id == 7);
    h();
    CHECK(o.seen.size() == 1);
}

TEST_CASE("A test's sync_wait: a pending result is an error, a result is the same object") {
    future<int> never;
    CHECK(!sync_wait_outcome(wait_for(never)));
    auto p = std::make_unique<int>(1);
    int* raw = p.get();
    auto gives = [](std::unique_ptr<int>& q) -> prom::task<std::unique_ptr<int>> { co_return std::move(q); };
    CHECK(sync_wait(gives(p)).get() == raw);
}

TEST_CASE("the verbs allocate nothing on awaitables, functions and handlers, and one frame each on a coroutine") {
    prom::registry mine;
    const prom::histogram seconds{"h", "", {.registry = &mine}};
    const prom::counter failures{"c", "", {.registry = &mine}};
    const prom::gauge running{"g", "", {.registry = &mine}};
    const auto measured = prom::time(seconds) | prom::count_exceptions(failures) | prom::track_inprogress(running);
    struct at_hand {
        bool await_ready() const { return true; }
        void await_suspend(std::coroutine_handle<>) const {}
        int await_resume() const { return 1; }
    };
    const auto function = measured([](int n) { return n; });
    const auto handler = [&](int& to) { return prom::time(seconds, prom::completion([&to](int n) { to = n; })); };
    const auto coroutine = measured([]() -> prom::task<int> { co_return 1; });
    long of_await = -1, of_bare_task = -1, of_task = -1;
    int got = 0;
    seconds.observe(0);
    failures.inc();
    running.inc();
    running.dec();
    sync_wait([&]() -> prom::task<void> {
        const auto bare = []() -> prom::task<int> { co_return 1; };
        for (int i = 0; i != 2; ++i) {
            long before = allocations;
            got += co_await prom::time(seconds, at_hand{});
            of_await = allocations - before;
            before = allocations;
            got += co_await bare();
            of_bare_task = allocations - before;
            before = allocations;
            got += co_await coroutine();
            of_task = allocations - before;
        }
    }());
    CHECK(got == 6);
    const long before = allocations;
    CHECK(function(3) == 3);
    handler(got)(4);
    CHECK(got == 4);
    if (!counts_allocations) return;
    CHECK(allocations == before);
    CHECK(of_await == 0);
    CHECK(of_bare_task == 1);
    CHECK(of_task == 1 + 3);
}
