// deferred<T>: once, in order, chained, awaited; and the verbs on it. Numbers are behaviours of upstream's tests.
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"
#include <doctest/doctest.h>
#include <memory>
#include "support/verbs.hpp"
#if PROMETHEUS_ASYNC_EXCEPTIONS
#include <stdexcept>
#endif

namespace {

const prom::error late(prom::errc::timeout, "late");
std::string log_;
auto note(char c) {
    return [c] { log_ += c; };
}
template <class T>
prom::outcome<T> now(const prom::deferred<T>& d) {
    REQUIRE(d.fired());
    auto taken = d.settled();
    return taken.await_resume();
}
const char* text(const prom::fault& why) {
#if PROMETHEUS_ASYNC_EXCEPTIONS
    try {
        std::rethrow_exception(why);
    } catch (const prom::failure& f) {
        return f.why().code() == prom::errc::timeout ? "late" : "another";
    } catch (...) {
        return "foreign";
    }
#else
    return why.describe();
#endif
}

}  // namespace

TEST_CASE("27: a decorated function that returns a value is observed at once") {
    counting_clock clock;
    fake_observer o;
    CHECK(prom::time(o)([](int x) { return x; })(42) == 42);
    CHECK(o.seen == seen{1});
}

TEST_CASE("28: a deferred that has fired is observed at once, and awaiting it observes nothing more") {
    counting_clock clock;
    fake_observer o;
    auto timed = prom::time(o)([] {
        prom::deferred<int> d;
        d.fire(42);
        return d;
    });
    auto d = timed();
    CHECK(o.seen == seen{1});
    CHECK(sync_wait(d) == 42);
    CHECK(o.seen == seen{1});
}

TEST_CASE("29: a failure of a decorated function's deferred is observed and not swallowed") {
    counting_clock clock;
    fake_observer o;
    auto d = prom::time(o)([] {
        prom::deferred<int> made;
        made.fail(late);
        return made;
    })();
    CHECK(o.seen == seen{1});
    const auto came = now(d);
    REQUIRE(!came);
    CHECK(std::string_view(text(came.why())) == "late");
}

TEST_CASE("30: a deferred is observed when it fires, from the call of time() on, and the same comes back") {
    counting_clock clock;
    fake_observer o;
    prom::deferred<int> d;
    CHECK(prom::time(o, d) == d);
    CHECK(o.seen.empty());
    d.fire(42);
    CHECK(o.seen == seen{1});
    CHECK(*now(d) == 42);
}

TEST_CASE("31, 32, 36: what does not fail is not counted: deferred, plain value, given deferred") {
    fake_counter c;
    auto d = prom::count_exceptions(c)([] {
        prom::deferred<int> made;
        made.fire(42);
        return made;
    })();
    CHECK(*now(d) == 42);
    CHECK(prom::count_exceptions(c)([] { return 42; })() == 42);
    prom::deferred<int> given;
    auto same = prom::count_exceptions(c, given);
    given.fire(42);
    CHECK(*now(same) == 42);
    CHECK(c.count == 0);
}

TEST_CASE("34: a failure of a deferred is counted and goes on") {
    fake_counter c;
    prom::deferred<int> d;
    auto same = prom::count_exceptions(c)([&] { return d; })();
    d.fail(late);
    CHECK(c.count == 1);
    CHECK(!now(same));
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("33: a failure of another type is not counted and goes on") {
    fake_counter c;
    const auto e = std::make_exception_ptr(std::invalid_argument("x"));
    prom::deferred<int> d;
    prom::count_exceptions<std::runtime_error>(c, prom::count_exceptions<prom::failure, std::domain_error>(c, d));
    d.fail(e);
    CHECK(c.count == 0);
    CHECK(now(d).why() == e);
    prom::deferred<int> f;
    prom::count_exceptions<std::runtime_error, std::logic_error>(c, f);
    f.fail(e);
    CHECK(c.count == 1);
    CHECK(now(f).why() == e);
}

TEST_CASE("35: a synchronous exception is counted, and goes on") {
    fake_counter c;
    auto throws = prom::count_exceptions(c)([]() -> prom::deferred<int> { throw std::runtime_error("x"); });
    CHECK_THROWS_AS(throws(), std::runtime_error);
    auto plain = prom::count_exceptions<std::logic_error>(c)([]() -> int { throw std::runtime_error("x"); });
    CHECK_THROWS_AS(plain(), std::runtime_error);
    CHECK(c.count == 1);
}
#endif

TEST_CASE("37: track_inprogress on a deferred: 1 until it fires, and the result passes") {
    fake_gauge g;
    prom::deferred<int> d;
    prom::track_inprogress(g, d);
    CHECK(g.value == 1);
    d.fire(42);
    CHECK(g.value == 0);
    CHECK(*now(d) == 42);
}

TEST_CASE("38: track_inprogress on a function that returns a deferred: 1, then 0") {
    fake_gauge g;
    prom::deferred<int> d;
    auto same = prom::track_inprogress(g)([&] { return d; })();
    CHECK(g.value == 1);
    d.fail(late);
    CHECK(g.value == 0);
    CHECK(!now(same));
}

TEST_CASE("39: track_inprogress on a function that returns a value: 0, two calls") {
    fake_gauge g;
    CHECK(prom::track_inprogress(g)([] { return 42; })() == 42);
    CHECK((g.value == 0 && g.calls == 2));
}

TEST_CASE("A deferred that is dropped lowers the gauge, is not observed, and runs nothing") {
    fake_observer o;
    fake_gauge g;
    {
        prom::deferred<int> d;
        prom::time(o, prom::track_inprogress(g, d));
        d.add_both([] { FAIL("ran"); });
        CHECK(g.value == 1);
    }
    CHECK(g.value == 0);
    CHECK(o.seen.empty());
}

TEST_CASE("A deferred counts failing results") {
    fake_counter c;
    prom::deferred<prom::result<int>> d;
    prom::count_failures(c, d);
    d.fire(prom::result<int>(late));
    CHECK(c.count == 1);
}

TEST_CASE("Callbacks run once, in order, each on what the one before it left; late ones at once") {
    prom::deferred<int> d;
    log_.clear();
    d.add_callback(note('a')).add_callback([](int x) { return x + 1; }).add_both(note('b')).add_errback(note('x'));
    CHECK(log_.empty());
    d.fire(1);
    CHECK(log_ == "ab");
    d.add_callback([](int& x) { x *= 10; }).add_callback([](const int& x) { CHECK(x == 20); });
    d.add_callback(note('c'));
    CHECK(log_ == "abc");
    CHECK(*now(d) == 20);
}

TEST_CASE("An errback recovers by returning a value, and changes nothing by returning nothing") {
    prom::deferred<int> d;
    log_.clear();
    d.add_callback(note('x')).add_errback(note('a')).add_errback([](const prom::fault& why) {
        CHECK(std::string_view(text(why)) == "late");
        return 7;
    }).add_errback(note('x')).add_callback([](int x) { return x + 1; });
    d.fail(late);
    CHECK(log_ == "a");
    CHECK(*now(d) == 8);
    prom::deferred<> nothing;
    nothing.add_errback([] { return prom::outcome<void>(); }).add_callback(note('b'));
    nothing.fail(late);
    CHECK(log_ == "ab");
}

TEST_CASE("A callback fails by returning a fault or an outcome, and a both sees either") {
    prom::deferred<int> d;
    d.add_callback([](int) { return prom::outcome<int>(late); })
        .add_both([](prom::outcome<int>& o) { CHECK(!o); })
        .add_errback([](const prom::fault& why) { return why; });
    d.fire(1);
    CHECK(!now(d));
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("What a callback throws becomes the fault") {
    prom::deferred<int> d;
    log_.clear();
    d.add_callback([](int) -> int { throw std::runtime_error("x"); }).add_callback(note('x')).add_errback(note('a'));
    auto next = d.then([](int x) { return x; });
    d.fire(1);
    CHECK(log_ == "a");
    CHECK_THROWS_AS(sync_wait(next), std::runtime_error);
}

TEST_CASE("Firing twice is raised, and so is a callback that returns its own deferred") {
    prom::deferred<int> d;
    d.fire(1);
    CHECK_THROWS_AS(d.fire(2), prom::failure);
    CHECK_THROWS_AS(d.fail(late), prom::failure);
    prom::deferred<int> self;
    self.add_callback([weak = &self](int) { return *weak; });
    self.fire(1);
    CHECK(!now(self));
}
#endif

TEST_CASE("A callback that returns a deferred makes the later ones wait for it") {
    prom::deferred<int> outer, inner, innermost;
    log_.clear();
    inner.add_callback([=](int x) { return innermost.add_callback([x](int y) { return x + y; }); });
    outer.add_callback([=](int) { return inner; }).add_callback([](int x) { log_ += std::to_string(x); });
    outer.fire(1);
    outer.add_callback(note('b'));
    CHECK(log_.empty());
    inner.fire(20);
    CHECK(log_.empty());
    innermost.fire(3);
    CHECK(log_ == "23b");
    prom::deferred<int> ready;  // one that has fired goes on at once
    ready.fire(5);
    outer.add_callback([=](int) { return ready; }).add_callback([](int x) { log_ += std::to_string(x); });
    CHECK(log_ == "23b5");
}

TEST_CASE("A failure of a deferred in a chain fails the chain, and is seen there") {
    prom::deferred<int> outer, inner;
    outer.add_callback([=](int) { return inner; });
    outer.fire(1);
    inner.fail(late);
    CHECK(!now(outer));
}

TEST_CASE("then() makes a deferred of another type, for a value, a deferred, an outcome or nothing") {
    prom::deferred<int> d;
    prom::deferred<std::string> later;
    auto a = d.then([](int x) { return std::to_string(x); });
    static_assert(std::is_same_v<decltype(a), prom::deferred<std::string>>);
    auto b = a.then([=](std::string) { return later; });
    static_assert(std::is_same_v<decltype(b), prom::deferred<std::string>>);
    auto c = b.then([](std::string&& s) { CHECK(s == "late"); });
    static_assert(std::is_same_v<decltype(c), prom::deferred<void>>);
    auto e = c.then([]() -> prom::outcome<std::unique_ptr<int>> { return std::make_unique<int>(3); });
    auto f = e.then([](std::unique_ptr<int> p) { return *p; });
    d.fire(1);
    CHECK(a.fired());
    CHECK(!b.fired());  // it waits for the deferred that its function returned
    CHECK(!c.fired());
    later.fire("late");
    CHECK(b.fired());
    CHECK(*now(f) == 3);
    prom::deferred<int> bad;
    auto g = bad.then([](int) { FAIL("ran"); });
    bad.fail(late);
    CHECK(!now(g));
}

TEST_CASE("Callbacks added by a callback run after those that were there") {
    prom::deferred<> d;
    log_.clear();
    d.add_callback([&] {
        log_ += 'a';
        d.add_callback(note('c'));
    }).add_callback(note('b'));
    d.fire();
    CHECK(log_ == "abc");
}

TEST_CASE("A callback may drop the last handle") {
    auto* d = new prom::deferred<int>;
    int ran = 0;
    d->add_callback([&] { delete std::exchange(d, nullptr); }).add_callback([&](int x) { ran = x; });
    const auto* firing = d;
    firing->fire(42);
    CHECK(ran == 42);
    CHECK(d == nullptr);
}

TEST_CASE("Chains of 100000 deferreds use no stack") {
    constexpr int n = 100000;
    {
        std::vector<prom::deferred<int>> all(n);
        for (std::size_t i = 0; i + 1 != n; ++i) all[i].add_callback([next = all[i + 1]](int) { return next; });
        for (std::size_t i = 0; i + 1 != n; ++i) all[i].fire(0);
        all[n - 1].fire(42);
        CHECK(*now(all[0]) == 42);
    }
    prom::deferred<int> first, last = first;
    for (int i = 0; i != n; ++i) last = last.then([](int x) { return x + 1; });
    first.fire(0);
    CHECK(*now(last) == n);
}

TEST_CASE("A deferred is awaitable, before and after it fired, and by several") {
    prom::deferred<int> d;
    auto waits = [](prom::deferred<int> on) -> prom::task<int> { co_return (co_await on) + 1; };
    auto first = prom::make_deferred(waits(d));
    auto second = prom::make_deferred(waits(d));
    CHECK(!first.fired());
    d.fire(41);
    CHECK(*now(first) == 42);
    CHECK(*now(second) == 42);
    CHECK(*now(prom::make_deferred(waits(d))) == 42);
    prom::deferred<std::unique_ptr<int>> only;
    only.fire(std::make_unique<int>(5));
    CHECK(*sync_wait(only) == 5);
}

TEST_CASE("A coroutine that is destroyed no longer waits for its deferred") {
    prom::deferred<int> d;
    log_.clear();
    d.add_callback(note('a'));
    {
        auto waits = prom::make_deferred([](prom::deferred<int> on) -> prom::task<> {
            (void)co_await on;
            log_ += 'x';
        }(d));
        d.add_callback(note('b'));
    }
    d.add_callback(note('c'));
    d.fire(1);
    CHECK(log_ == "abc");
}

TEST_CASE("settled() gives the outcome to code without exceptions") {
    auto asks = [](prom::deferred<int> d) -> prom::task<std::string> {
        auto o = co_await d.settled();
        co_return o ? std::to_string(*o) : text(o.why());
    };
    prom::deferred<int> good, bad;
    good.fire(42);
    bad.fail(late);
    CHECK(sync_wait(asks(good)) == "42");
    CHECK(sync_wait(asks(bad)) == "late");
}

TEST_CASE("make_deferred starts a coroutine, which its deferred owns") {
    future<int> f;
    bool gone = false;
    struct mark {
        bool& gone;
        ~mark() { gone = true; }
    };
    auto run = [](future<int>& on, bool& g) -> prom::task<int> {
        const mark m{g};
        co_return co_await on;
    };
    {
        auto d = prom::make_deferred(run(f, gone)).add_callback([](int x) { return x + 1; });
        CHECK(!d.fired());
        f.set_result(41);
        CHECK(gone);
        CHECK(*now(d) == 42);
    }
    future<int> never;
    gone = false;
    { auto d = prom::make_deferred(run(never, gone)); }
    CHECK(gone);
    future<int> other;  // the last handle goes when it fires
    gone = false;
    int got = 0;
    auto d = std::make_unique<prom::deferred<int>>(prom::make_deferred(run(other, gone)));
    d->add_callback([&](int x) {
        got = x;
        d.reset();
    });
    other.set_result(3);
    CHECK((got == 3 && gone));
}

TEST_CASE("A callback API fires a deferred that it holds") {
    prom::callback<void(int)> api;
    auto read = [&] {
        prom::deferred<int> d;
        api = [d](int n) { n < 0 ? d.fail(late) : d.fire(n); };
        return d;
    };
    auto d = read();
    api(42);
    CHECK(*now(d) == 42);
    auto e = read();
    api(-1);
    CHECK(!now(e));
}

TEST_CASE("A failure that was not handled is reported when the last handle is destroyed") {
    static int told;
    told = 0;
    prom::on_unhandled_failure([](const prom::fault& why, void* context) {
        ++told;
        CHECK(context == &told);
        CHECK(std::string_view(text(why)) == "late");
    }, &told);
    {
        prom::deferred<int> d;
        d.fail(late);
        CHECK(told == 0);
    }
    CHECK(told == 1);
    fake_observer o;
    { prom::deferred<int> d; prom::time(o, d); d.fail(late); }  // an instrument does not handle it
    CHECK(told == 2);
    { prom::deferred<int> d; d.add_errback([] {}); d.fail(late); }
    { prom::deferred<int> d; d.add_both([] {}); d.fail(late); }
    { prom::deferred<int> d; d.fail(late); CHECK(!now(d)); }
    { prom::deferred<int> d; d.fire(1); }
    { prom::deferred<int> d; }
    CHECK(told == 2);
    { prom::deferred<int> d; auto e = d.then([](int x) { return x; }); d.fail(late); }  // once, by the last in the chain
    CHECK(told == 3);
    { prom::deferred<int> d; d.add_errback([](const prom::fault& why) { return why; }); d.fail(late); }  // failed again
    CHECK(told == 4);
    {  // what never came is no failure
        prom::deferred<int> d, never;
        auto e = d.then([=](int) { return never; });
        d.fire(1);
    }
    CHECK(told == 4);
    prom::on_unhandled_failure(nullptr);
}

TEST_CASE("A coroutine that holds the last handle of its own deferred ends without using it after its end") {
    struct job {
        prom::deferred<int> result;
        bool& gone;
        ~job() { gone = true; }
    };
    future<int> f;
    bool gone = false;
    int got = 0;
    auto run = [](std::shared_ptr<job>, future<int>& on) -> prom::task<int> { co_return co_await on; };
    {
        auto j = std::make_shared<job>(job{{}, gone});
        gone = false;
        j->result = prom::make_deferred(run(j, f)).add_callback([&](int x) { got = x; });
    }
    CHECK(!gone);
    f.set_result(42);
    CHECK(gone);
    CHECK(got == 42);
}

TEST_CASE("A coroutine's deferred that was failed by hand stays failed when the coroutine ends") {
    future<int> f;
    auto run = [](future<int>& on) -> prom::task<int> { co_return co_await on; };
    auto d = prom::make_deferred(run(f));
    int failures = 0, values = 0;
    d.add_callback([&](int) { ++values; });
    d.add_errback([&](const prom::fault&) { ++failures; });
    d.fail(late);
    f.set_result(1);
    CHECK(failures == 1);
    CHECK(values == 0);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("What an instrument throws becomes the fault, and those that come later are still told") {
    for (const bool before : {true, false}) {
        prom::deferred<int> d;
        if (!before) d.fire(1);
        d.watch([](const prom::outcome<int>&) { throw std::runtime_error("from the instrument"); });
        int told = 0, again = 0;
        d.add_both([&](prom::outcome<int>& o) {
            ++told;
            REQUIRE(!o);
            CHECK(std::string_view(text(o.why())) == "foreign");
        });
        if (before) d.fire(1);
        d.add_both([&](prom::outcome<int>&) { ++again; });
        CHECK(told == 1);
        CHECK(again == 1);
    }
}
#endif

TEST_CASE("a chain of a million deferreds that never fires is dropped without a stack") {
    int gone = 0;
    struct counted {
        int* at;
        explicit counted(int* to) : at(to) {}
        counted(counted&& other) noexcept : at(std::exchange(other.at, nullptr)) {}
        ~counted() { if (at) ++*at; }
    };
    {
        prom::deferred<int> first;
        prom::deferred<int> last = first;
        for (int i = 0; i != 1000000; ++i) last = last.then([c = counted(&gone)](int x) { return x; });
    }
    CHECK(gone == 1000000);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("a value whose move throws leaves its error behind, and is destroyed once") {
    static int live = 0;
    struct brittle {
        bool breaks;
        explicit brittle(bool b) : breaks(b) { ++live; }
        brittle(brittle&& other) : breaks(other.breaks) {
            if (breaks) throw std::runtime_error("broke");
            ++live;
        }
        ~brittle() { --live; }
    };
    {
        prom::result<brittle> to(prom::error(prom::errc::canceled, "none yet"));
        prom::result<brittle> good{brittle(false)};
        to = std::move(good);
        REQUIRE(to);
        good->breaks = true;
        CHECK_THROWS_WITH(prom::detail::remake(to, good, [] { return prom::error(prom::errc::canceled, "moving the value threw"); }), "broke");
        CHECK_FALSE(to);
        CHECK(std::string_view(to.why().describe()) == "moving the value threw");
    }
    CHECK(live == 0);
    {
        prom::outcome<brittle> to{brittle(false)}, from{brittle(false)};
        (*from).breaks = true;
        CHECK_THROWS_WITH(to = std::move(from), "broke");
        REQUIRE_FALSE(to);
        CHECK_THROWS_WITH(std::rethrow_exception(to.why()), "broke");
    }
    CHECK(live == 0);
}
#endif

namespace {
struct looks {  // at its deferred, when it is moved
    const prom::deferred<looks>* at = nullptr;
    bool* fired = nullptr;
    looks(const prom::deferred<looks>& d, bool& to) : at(&d), fired(&to) {}
    looks(looks&& other) noexcept : at(other.at), fired(other.fired) { *fired = at->fired(); }
    looks& operator=(looks&&) = delete;
};
}  // namespace

TEST_CASE("a deferred has fired when the value moves into it") {
    bool fired = false;
    const prom::deferred<looks> d;
    d.fire(looks(d, fired));
    CHECK(fired);
}

TEST_CASE("what then() made may be fired by other code first: it fires only once") {
    prom::deferred<int> d;
    auto o = d.then([](int x) { return x + 1; });
    o.fire(7);
    d.fire(1);
    int seen_after = 0;
    o.add_callback([&](int x) { seen_after = x; });
    CHECK(seen_after == 7);
}
