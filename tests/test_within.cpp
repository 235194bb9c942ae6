// needs-network
// within(): an awaitable, for at most so many seconds.
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

namespace prom = prometheus_async;
using namespace std::chrono_literals;
using prom::errc;
using prom::error;
using prom::event_loop;
using prom::result;
using prom::seconds;
using prom::task;

namespace {

double time_now = 1000;
const prom::loop_options faked{.time = {[] { return time_now; }, [] { return time_now; }}};

struct local {
    bool& ended;
    ~local() { ended = true; }
};

task<int> after(event_loop& loop, seconds span, int value, bool* ended = nullptr) {
    bool unused = false;
    const local at_end{ended ? *ended : unused};
    co_await loop.sleep(span);
    co_return value;
}
task<void> nothing_after(event_loop& loop, seconds span) { co_await loop.sleep(span); }
task<result<int>> refuse() { co_return error(errc::refused, "no"); }
task<result<void>> succeed() { co_return {}; }
task<std::unique_ptr<int>> owner() { co_return std::make_unique<int>(7); }

/// Starts `work`, and turns the loop once for each of `steps`, which is how far the clock goes on before the turn.
template <class T>
prom::deferred<T> driven(event_loop& loop, task<T> work, std::initializer_list<double> steps) {
    auto running = prom::make_deferred(std::move(work));
    for (const double step : steps) {
        time_now += step;
        loop.poll();
    }
    return running;
}
template <class T>
T outcome_of(const prom::deferred<T>& running) {
    REQUIRE(running.fired());
    std::vector<T> got;
    running.add_callback([&](T& value) { got.push_back(std::move(value)); });
    REQUIRE(got.size() == 1);
    return std::move(got[0]);
}

}  // namespace

TEST_CASE("within: what ends in time gives its value, and leaves no timer") {
    event_loop loop(faked);
    const auto running = driven(loop, prom::within(loop, 2s, after(loop, 1s, 5)), {0.5, 0.6});
    const auto got = outcome_of(running);
    REQUIRE(got);
    CHECK(*got == 5);
    CHECK(loop.next_deadline() == std::numeric_limits<double>::infinity());
}

TEST_CASE("within: what does not end in time is destroyed before the waiter goes on, which gets errc::timeout") {
    event_loop loop(faked);
    bool ended = false, ended_before = false;
    const auto waiter = [&]() -> task<result<int>> {
        auto got = co_await prom::within(loop, 1s, after(loop, 5s, 5, &ended));
        ended_before = ended;
        co_return got;
    };
    const auto running = driven(loop, waiter(), {0.9});
    CHECK_FALSE(running.fired());
    CHECK_FALSE(ended);
    time_now += 0.2;
    loop.poll();
    const auto got = outcome_of(running);
    REQUIRE_FALSE(got);
    CHECK(got.why().code() == errc::timeout);
    CHECK(ended_before);
    CHECK(loop.next_deadline() == std::numeric_limits<double>::infinity());
}

TEST_CASE("within: a result<T> stays one, void and move-only values pass, what is ready needs no turn") {
    event_loop loop(faked);
    const auto refused = outcome_of(driven(loop, prom::within(loop, 1s, refuse()), {}));
    REQUIRE_FALSE(refused);
    CHECK(refused.why().code() == errc::refused);
    CHECK(outcome_of(driven(loop, prom::within(loop, 1s, succeed()), {})));
    const auto moved = outcome_of(driven(loop, prom::within(loop, 1s, owner()), {}));
    REQUIRE(moved);
    CHECK(**moved == 7);
    CHECK(outcome_of(driven(loop, prom::within(loop, 2s, nothing_after(loop, 1s)), {1.5})));
    const auto late = outcome_of(driven(loop, prom::within(loop, 1s, nothing_after(loop, 3s)), {1.5}));
    REQUIRE_FALSE(late);
    CHECK(late.why().code() == errc::timeout);
    static_assert(std::is_same_v<decltype(prom::within(loop, 1s, refuse())), task<result<int>>>);
    static_assert(std::is_same_v<decltype(prom::within(loop, 1s, nothing_after(loop, 1s))), task<result<void>>>);
}

TEST_CASE("within: spans of zero, below zero and NaN end in the next turn, an infinite one never") {
    event_loop loop(faked);
    for (const double span : {0.0, -1.0, -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
        CAPTURE(span);
        const auto running = driven(loop, prom::within(loop, seconds(span), after(loop, 1s, 1)), {});
        CHECK_FALSE(running.fired());
        loop.poll();
        const auto got = outcome_of(running);
        REQUIRE_FALSE(got);
        CHECK(got.why().code() == errc::timeout);
        const auto ready = outcome_of(driven(loop, prom::within(loop, seconds(span), owner()), {}));
        CHECK(ready);
    }
    const seconds forever(std::numeric_limits<double>::infinity());
    const auto running = driven(loop, prom::within(loop, forever, after(loop, 1000s, 1)), {999, 0.5});
    CHECK_FALSE(running.fired());
    time_now += 1;
    loop.poll();
    CHECK(outcome_of(running));
}

TEST_CASE("within: sleeps and descriptors are awaited directly, also a deferred, which goes on") {
    event_loop loop(faked);
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const auto late = outcome_of(driven(loop, prom::within(loop, 1s, loop.readable(ends[0])), {1.1}));
    REQUIRE_FALSE(late);
    CHECK(late.why().code() == errc::timeout);
    const auto waits = driven(loop, prom::within(loop, 1s, loop.readable(ends[0])), {0.5});
    CHECK_FALSE(waits.fired());
    REQUIRE(::write(ends[1], "x", 1) == 1);
    loop.poll();
    CHECK(outcome_of(waits));
    CHECK(outcome_of(driven(loop, prom::within(loop, 2s, loop.sleep(1s)), {1.5})));
    const auto closed = outcome_of(driven(loop, prom::within(loop, 1s, loop.writable(-1)), {}));
    REQUIRE_FALSE(closed);
    CHECK(closed.why().sys() == EBADF);
    ::close(ends[0]);
    ::close(ends[1]);

    prom::deferred<int> shared;
    CHECK_FALSE(outcome_of(driven(loop, prom::within(loop, 1s, shared), {1.1})));
    int seen = 0;
    shared.add_callback([&](int value) { seen = value; });
    shared.fire(3);
    CHECK(seen == 3);
    CHECK(*outcome_of(driven(loop, prom::within(loop, 1s, shared), {})) == 3);
}

TEST_CASE("within: an end in the same turn as the deadline, and an awaitable that is never awaited") {
    event_loop loop(faked);
    prom::deferred<int> shared;
    const auto running = driven(loop, prom::within(loop, 1s, shared), {});
    loop.post([&] { shared.fire(4); });
    time_now += 2;  // timers come before what is posted
    loop.poll();
    CHECK_FALSE(outcome_of(running));
    bool ended = false;
    { const auto unused = prom::within(loop, 1s, after(loop, 1s, 1, &ended)); }
    CHECK_FALSE(ended);  // it was never begun
}

TEST_CASE("within: a waiter that is destroyed, or whose loop ends first, takes with it what waits") {
    bool ended = false;
    {
        event_loop loop(faked);
        { const auto running = driven(loop, prom::within(loop, 1s, after(loop, 5s, 1, &ended)), {0}); }
        CHECK(ended);
        time_now += 2;
        loop.poll();
        ended = false;
        const auto waiter = [](event_loop& on, bool* at_end) -> task<void> {
            (void)co_await prom::within(on, 1s, after(on, 5s, 1, at_end));
        };
        loop.spawn(waiter(loop, &ended));
        CHECK_FALSE(ended);
    }
    CHECK(ended);
    ended = false;
    prom::deferred<result<int>> outlives;
    {
        event_loop loop(faked);
        outlives = driven(loop, prom::within(loop, 1s, after(loop, 5s, 1, &ended)), {0});
    }
    CHECK_FALSE(outlives.fired());
    outlives = {};
    CHECK(ended);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("within: an exception leaves the co_await, the same object") {
    event_loop loop(faked);
    const std::string* thrown = nullptr;
    struct carries { std::string text; };
    const auto throws = [&]() -> task<int> {
        co_await loop.sleep(1s);
        throw carries{"it"};
    };
    bool same = false;
    const auto waiter = [&]() -> task<void> {
        try {
            (void)co_await prom::within(loop, 5s, throws());
        } catch (const carries& it) {
            thrown = &it.text;
            same = *thrown == "it";
        }
    };
    const auto running = driven(loop, waiter(), {1.5});
    CHECK(running.fired());
    CHECK(same);
}

TEST_CASE("within: what gives no value fails with its exception, too") {
    event_loop loop(faked);
    const auto throws = [&]() -> task<void> {
        co_await loop.sleep(1s);
        throw 7;
    };
    int caught = 0;
    const auto waiter = [&](prom::deferred<> first) -> task<void> {
        try {
            (void)co_await prom::within(loop, 5s, throws());
        } catch (int it) {
            caught = it;
        }
        (void)co_await prom::within(loop, 5s, first);
        caught = 0;
    };
    prom::deferred<> never;
    const auto running = driven(loop, waiter(never), {1.5});
    CHECK(caught == 7);
    CHECK_FALSE(running.fired());
    never.fail(error(errc::refused, "no"));
    CHECK(running.fired());
    CHECK(caught == 7);
    running.add_errback([] {});
}
#endif
