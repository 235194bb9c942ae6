// needs-network
// Rooms [34] and [58]: the loop, over whichever poller the build has.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include "support/allocations.hpp"

#include <algorithm>
#include <chrono>
#include <climits>
#include <cmath>
#include <memory>
#include <sys/resource.h>
#include <sys/wait.h>
#if !PROMETHEUS_ASYNC_NO_THREADS
#include <thread>
#endif

namespace prom = prometheus_async;
namespace detail = prom::detail;
using namespace std::chrono_literals;
using prom::event_loop;
using prom::detail::interest;
using prom::loop_options;
using prom::task;

namespace {

double time_now = 1000;
constexpr prom::clock fake{[] { return time_now; }, [] { return time_now; }};
const loop_options faked{.time = fake};

struct pipe_pair {
    detail::descriptor out, in;
    pipe_pair() { open(); }
    void open() {
        int ends[2];
        REQUIRE(detail::make_pipe(ends));
        out.reset(ends[0]);
        in.reset(ends[1]);
    }
    void fill() const { REQUIRE(::write(in.get(), "x", 1) == 1); }
    void drain() const {
        char c[64];
        while (::read(out.get(), c, sizeof c) > 0) {}
    }
};

struct counted {
    static inline int alive = 0;
    counted() { ++alive; }
    counted(const counted&) = delete;
    ~counted() { --alive; }
};

/// A timer that appends its number to a list.
struct numbered {
    std::vector<int>* fired;
    int number;
    detail::timer timer;
    numbered(event_loop& loop, std::vector<int>& to, int n) : fired(&to), number(n), timer(loop, &fire, this) {}
    static void fire(void* self) {
        auto& me = *static_cast<numbered*>(self);
        me.fired->push_back(me.number);
    }
};

template <class F>
struct calling {  // a timer or a watch that calls F
    F f;
    static void fire(void* self) { static_cast<calling*>(self)->f(); }
    static void ready(void* self, interest got) { static_cast<calling*>(self)->f(got); }
};
template <class F>
calling(F) -> calling<F>;

/// A host of the simplest kind: waits for what the loop says, then lets it do what is due.
void host_turn(event_loop& loop) {
    std::vector<pollfd> set(loop.fill({}));
    loop.fill(set);
    int ms = 10000;
    if (loop.native_handle() < 0) {
        const double left = loop.next_deadline() - loop.now();
        ms = left < 10 ? left > 0 ? static_cast<int>(left * 1000) + 1 : 0 : 10000;
    }
    const int n = ::poll(set.data(), static_cast<nfds_t>(set.size()), ms);
    CHECK((n > 0 || loop.native_handle() < 0));
    loop.poll();
}

}  // namespace

// ---- timers ----

TEST_CASE("timers fire in the order of their times, equal ones in the order of arming") {
    event_loop loop(faked);
    std::vector<int> fired, expected;
    std::vector<std::unique_ptr<numbered>> timers;
    struct model {
        double when;
        int order;
        int number;
    };
    std::vector<model> armed;
    for (int i = 0; i != 300; ++i) timers.push_back(std::make_unique<numbered>(loop, fired, i));
    std::uint32_t random = 7;
    const auto next = [&] { return (random = random * 1664525 + 1013904223) >> 16; };
    for (int step = 0; step != 6000; ++step) {
        const int i = static_cast<int>(next() % 300);
        const auto at = std::find_if(armed.begin(), armed.end(), [&](const model& m) { return m.number == i; });
        const bool had = at != armed.end();
        if (had) armed.erase(at);
        switch (next() % 4) {
        case 0: timers[std::size_t(i)]->timer.cancel(); break;
        case 1:  // time passes
            if (had) timers[std::size_t(i)]->timer.cancel();
            time_now += next() % 3;
            loop.poll();
            std::sort(armed.begin(), armed.end(),
                      [](const model& a, const model& b) { return a.when < b.when || (a.when == b.when && a.order < b.order); });
            while (!armed.empty() && armed[0].when <= time_now) {
                expected.push_back(armed[0].number);
                armed.erase(armed.begin());
            }
            break;
        default:
            const double when = time_now + next() % 8;
            timers[std::size_t(i)]->timer.at(when);
            armed.push_back({when, step, i});
        }
        REQUIRE(fired == expected);
        double earliest = HUGE_VAL;
        for (const model& m : armed) earliest = std::min(earliest, m.when);
        REQUIRE(loop.next_deadline() == earliest);
    }
    CHECK(fired.size() > 500);
}

TEST_CASE("an overdue timer fires once, however late the loop is") {
    event_loop loop(faked);
    std::vector<int> fired;
    numbered one(loop, fired, 1), two(loop, fired, 2);
    one.timer.after(1);
    two.timer.after(2s);
    time_now += 1e6;  // the machine was suspended
    loop.poll();
    CHECK(fired == std::vector{1, 2});
    for (int i = 0; i != 3; ++i) loop.poll();
    CHECK(fired.size() == 2);
    CHECK_FALSE(one.timer.armed());
    CHECK(loop.next_deadline() == HUGE_VAL);
}

TEST_CASE("a clock that goes back fires nothing early, and does not hang what is armed then") {
    event_loop loop(faked);
    std::vector<int> fired;
    numbered one(loop, fired, 1), two(loop, fired, 2);
    one.timer.after(10);
    time_now -= 500;
    loop.poll();
    CHECK(fired.empty());
    two.timer.after(1);
    time_now += 1;
    loop.poll();
    CHECK(fired == std::vector{2});
}

TEST_CASE("a timer that is armed for now while others fire waits for the next turn, and lets them pass") {
    event_loop loop(faked);
    int again = 0;
    std::vector<int> fired;
    numbered other(loop, fired, 1);
    detail::timer* self = nullptr;
    calling forever{[&] {
        ++again;
        self->at(0);  // long ago
    }};
    detail::timer timer(loop, &decltype(forever)::fire, &forever);
    self = &timer;
    timer.after(0);
    other.timer.after(1);
    time_now += 1;
    loop.poll();
    CHECK(again == 1);
    CHECK(fired.size() == 1);
    for (int i = 2; i != 10; ++i) {
        loop.poll();
        CHECK(again == i);
    }
}

TEST_CASE("a timer may destroy itself and others while it fires") {
    event_loop loop(faked);
    std::vector<int> fired;
    auto victim = std::make_unique<numbered>(loop, fired, 1);
    std::unique_ptr<detail::timer> self;
    calling killer{[&] {
        victim.reset();
        self.reset();
    }};
    self = std::make_unique<detail::timer>(loop, &decltype(killer)::fire, &killer);
    self->after(1);
    victim->timer.after(1);
    numbered last(loop, fired, 2);
    last.timer.after(1);
    time_now += 1;
    loop.poll();
    CHECK(fired == std::vector{2});
    CHECK_FALSE(victim);
}

TEST_CASE("spans that are no spans are now or never") {
    event_loop loop(faked);
    std::vector<int> fired;
    numbered past(loop, fired, 1), nan(loop, fired, 2), never(loop, fired, 3);
    past.timer.after(-5);
    nan.timer.after(std::nan(""));
    never.timer.after(HUGE_VAL);
    loop.poll();
    CHECK(fired == std::vector{1, 2});
    time_now += 1e9;
    loop.poll();
    CHECK(fired.size() == 2);
    CHECK(never.timer.armed());
}

TEST_CASE("outside a turn, time is the clock's, not that of the last turn") {
    event_loop loop(faked);
    loop.poll();
    time_now += 60;  // the host was busy
    CHECK(loop.now() == time_now);
    std::vector<int> fired;
    numbered one(loop, fired, 1);
    one.timer.after(5);
    loop.poll();
    CHECK(fired.empty());
    CHECK(one.timer.when() == time_now + 5);
}

#if !PROMETHEUS_ASYNC_POLLER_POLL  // poll has no event for it
TEST_CASE("a watch that is called knows whether the peer has sent its last octet") {
    event_loop loop(faked);
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    const detail::descriptor ours(ends[0]), peers(ends[1]);
    std::vector<bool> last;
    calling on_ready{[&](interest) {
        char octet;
        static_cast<void>(!::read(ours.get(), &octet, 1));
        last.push_back(detail::loop_state::of(loop).last_octet);
    }};
    detail::watch watch(loop, &decltype(on_ready)::ready, &on_ready);
    REQUIRE(watch.set(ours.get(), interest::read));
    static_cast<void>(!::write(peers.get(), "x", 1));
    loop.poll();
    ::shutdown(peers.get(), SHUT_WR);
    loop.poll();
    REQUIRE(last.size() == 2);
    CHECK_FALSE(last[0]);
    CHECK(last[1]);
}
#endif

TEST_CASE("in steady state timers, posts and readiness allocate nothing") {
    event_loop loop(faked);
    const pipe_pair pipe;
    int told = 0, posted = 0;
    calling on_ready{[&](interest) {
        ++told;
        pipe.drain();
    }};
    detail::watch watch(loop, &decltype(on_ready)::ready, &on_ready);
    std::vector<int> fired;
    fired.reserve(10000);
    std::vector<std::unique_ptr<numbered>> timers;
    for (int i = 0; i != 50; ++i) timers.push_back(std::make_unique<numbered>(loop, fired, i));
    const auto work = [&] {
        for (auto& t : timers) t->timer.after(t->number % 7);
        static_cast<void>(watch.set(pipe.out.get(), interest::read));
        static_cast<void>(!::write(pipe.in.get(), "x", 1));
        for (int i = 0; i != 20; ++i) loop.post([&] { ++posted; });
        for (int i = 0; i != 3; ++i) {
            loop.poll();
            time_now += 3;
        }
        watch.forget();
    };
    for (int i = 0; i != 3; ++i) work();  // both buffers of posts have their size then
    const long before = allocations;
    for (int i = 0; i != 100; ++i) work();
    CHECK(allocations == before);
    CHECK(told == 103);
    CHECK(posted == 2060);
}

// ---- descriptors ----

TEST_CASE("readiness is told for as long as it lasts") {
    event_loop loop(faked);
    const pipe_pair pipe;
    int told = 0;
    calling on_ready{[&](interest got) { told += got == interest::read; }};
    detail::watch watch(loop, &decltype(on_ready)::ready, &on_ready);
    REQUIRE(watch.set(pipe.out.get(), interest::read));
    loop.poll();
    CHECK(told == 0);
    pipe.fill();
    for (int i = 1; i != 4; ++i) {
        loop.poll();
        CHECK(told == i);
    }
    REQUIRE(watch.set(pipe.out.get(), interest::none));
    loop.poll();
    CHECK(told == 3);
    REQUIRE(watch.set(pipe.out.get(), interest::read));
    loop.poll();
    CHECK(told == 4);
    watch.forget();
    loop.poll();
    CHECK(told == 4);
    CHECK(watch.fd() == -1);
}

TEST_CASE("of two ready watches that destroy each other, one is told") {
    event_loop loop(faked);
    const pipe_pair a, b;
    int told = 0;
    std::unique_ptr<detail::watch> first, second;
    calling kill_second{[&](interest) { ++told, second.reset(); }};
    calling kill_first{[&](interest) { ++told, first.reset(); }};
    first = std::make_unique<detail::watch>(loop, &decltype(kill_second)::ready, &kill_second);
    second = std::make_unique<detail::watch>(loop, &decltype(kill_first)::ready, &kill_first);
    REQUIRE(first->set(a.out.get(), interest::read));
    REQUIRE(second->set(b.out.get(), interest::read));
    a.fill();
    b.fill();
    loop.poll();
    CHECK(told == 1);
    CHECK(!first != !second);
}

TEST_CASE("a watch may destroy itself, and all watches of its descriptor") {
    event_loop loop(faked);
    const pipe_pair pipe;
    int told = 0;
    std::vector<std::unique_ptr<detail::watch>> all;
    calling end{[&](interest) {
        ++told;
        all.clear();
    }};
    for (int i = 0; i != 3; ++i) {
        all.push_back(std::make_unique<detail::watch>(loop, &decltype(end)::ready, &end));
        REQUIRE(all.back()->set(pipe.out.get(), interest::read));
    }
    pipe.fill();
    loop.poll();
    CHECK(told == 1);
    loop.poll();
    CHECK(told == 1);
}

namespace {
/// One of three: the first that is called does something to another.
struct of_three {
    std::vector<int>* told;
    void (*act)(void* context, int other);
    void* context;
    int index, offset;
    static void ready(void* self, interest) {
        auto& me = *static_cast<of_three*>(self);
        me.told->push_back(me.index);
        if (me.told->size() == 1) me.act(me.context, (me.index + me.offset) % 3);
    }
};
}  // namespace

TEST_CASE("of three watches of a descriptor the first forgets another, and one of another descriptor: the third is told") {
    for (const int offset : {1, 2}) {
        CAPTURE(offset);
        event_loop loop(faked);
        const pipe_pair pipe, silent;
        struct {
            std::unique_ptr<detail::watch> all[3], elsewhere[2];
        } watches;
        std::vector<int> told;
        of_three each[3];
        for (int i = 0; i != 3; ++i) {
            each[i] = {&told, [](void* context, int other) {
                           auto& w = *static_cast<decltype(watches)*>(context);
                           w.all[other]->forget();
                           w.elsewhere[0]->forget();
                       }, &watches, i, offset};
            watches.all[i] = std::make_unique<detail::watch>(loop, &of_three::ready, &each[i]);
            REQUIRE(watches.all[i]->set(pipe.out.get(), interest::read));
        }
        for (auto& w : watches.elsewhere) {
            w = std::make_unique<detail::watch>(loop, &of_three::ready, &each[0]);
            REQUIRE(w->set(silent.out.get(), interest::read));
        }
        pipe.fill();
        loop.poll();
        REQUIRE(told.size() == 2);
        CHECK(told[0] != told[1]);
        CHECK(told[1] != (told[0] + offset) % 3);
    }
}

TEST_CASE("a number that is another descriptor by now gets nothing of its predecessor") {
    for (const int offset : {1, 2}) {
        CAPTURE(offset);
        event_loop loop(faked);
        int late = 0;
        calling on_late{[&](interest) { ++late; }};
        struct {
            pipe_pair pipes[3], fresh;
            std::unique_ptr<detail::watch> watches[3];
            detail::watch* successor;
        } with;
        with.fresh.out.reset();
        with.fresh.in.reset();
        detail::watch successor(loop, &decltype(on_late)::ready, &on_late);
        with.successor = &successor;
        std::vector<int> told;
        of_three each[3];
        for (int i = 0; i != 3; ++i) {
            each[i] = {&told, [](void* context, int other) {
                           auto& w = *static_cast<decltype(with)*>(context);
                           const int number = w.pipes[other].out.get();
                           w.watches[other]->forget();
                           w.pipes[other].out.reset();
                           w.pipes[other].in.reset();
                           w.fresh.open();
                           if (w.fresh.out.get() != number && w.fresh.in.get() == number) std::swap(w.fresh.out, w.fresh.in);
                           REQUIRE(::fcntl(number, F_GETFD) >= 0);  // the lowest number that is free is taken again
                           REQUIRE(w.successor->set(number, interest::both));
                       }, &with, i, offset};
            with.watches[i] = std::make_unique<detail::watch>(loop, &of_three::ready, &each[i]);
            REQUIRE(with.watches[i]->set(with.pipes[i].out.get(), interest::read));
            with.pipes[i].fill();
        }
        loop.poll();
        CHECK(told.size() == 2);
        CHECK(late == 0);
        successor.forget();
    }
}

TEST_CASE("two tasks wait for the two directions of one descriptor") {
    event_loop loop(faked);
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    {
        const detail::descriptor a(ends[0]), b(ends[1]);
        int read = 0, written = 0;
        loop.spawn([](event_loop& l, int fd, int& n) -> task<void> { n += bool(co_await l.readable(fd)); }(loop, a.get(), read));
        loop.spawn([](event_loop& l, int fd, int& n) -> task<void> { n += bool(co_await l.readable(fd)); }(loop, a.get(), read));
        loop.spawn([](event_loop& l, int fd, int& n) -> task<void> { n += bool(co_await l.writable(fd)); }(loop, a.get(), written));
        loop.poll();
        CHECK(written == 1);
        CHECK(read == 0);
        REQUIRE(::send(b.get(), "x", 1, 0) == 1);
        loop.poll();
        CHECK(read == 2);
        CHECK(written == 1);
    }
}

TEST_CASE("a peer that is gone makes a reader and a writer ready") {
    event_loop loop(faked);
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    const detail::descriptor a(ends[0]);
    ::close(ends[1]);
    interest got = interest::none;
    calling on_ready{[&](interest g) { got = g; }};
    detail::watch watch(loop, &decltype(on_ready)::ready, &on_ready);
    for (interest want : {interest::read, interest::write, interest::both}) {
        REQUIRE(watch.set(a.get(), want));
        loop.poll();
        CHECK(got == want);
    }
    watch.forget();
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("an empty callback is refused where it is given") {
    event_loop loop(faked);
    void (*none)() = nullptr;
    CHECK_THROWS_AS(loop.post({}), prom::failure);
    CHECK_THROWS_AS(loop.post(none), prom::failure);
    loop.poll();
}
#endif

TEST_CASE("a descriptor that is not open is an error, in a task too") {
    event_loop loop(faked);
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const long before = usage.ru_maxrss;
    for (int fd : {-1, 100000, 20000000, INT_MAX}) {  // which take no memory for the numbers below them
        int sys = 0;
        loop.spawn([](event_loop& l, int f, int& to) -> task<void> { to = (co_await l.readable(f)).why().sys(); }(loop, fd, sys));
        CHECK(sys == EBADF);
    }
    loop.poll();
    ::getrusage(RUSAGE_SELF, &usage);
    CHECK(usage.ru_maxrss < before + 100000);
}

TEST_CASE("more descriptors than one turn fetches are all served, in a few turns") {
    event_loop loop(faked);
    struct served {
        pipe_pair pipe;
        int told = 0;
        detail::watch watch;
        explicit served(event_loop& l) : watch(l, [](void* self, interest) { ++static_cast<served*>(self)->told; }, this) {
            REQUIRE(watch.set(pipe.out.get(), interest::read));
            pipe.fill();
        }
        ~served() { watch.forget(); }
    };
    std::vector<std::unique_ptr<served>> all;
    for (int i = 0; i != 150; ++i) all.push_back(std::make_unique<served>(loop));
    for (int i = 0; i != 30; ++i) loop.poll();
    for (const auto& s : all) CHECK(s->told >= 3);
}

// ---- posting ----

TEST_CASE("what is posted runs in order, what it posts runs in the next turn") {
    event_loop loop(faked);
    std::vector<int> ran;
    loop.post([&] {
        ran.push_back(1);
        loop.post([&] { ran.push_back(3); });
    });
    loop.post([&] { ran.push_back(2); });
    CHECK(ran.empty());
    CHECK(loop.next_deadline() == loop.now());
    loop.poll();
    CHECK(ran == std::vector{1, 2});
    loop.poll();
    CHECK(ran == std::vector{1, 2, 3});
    CHECK(loop.next_deadline() == HUGE_VAL);
}

TEST_CASE("a poll inside a turn does nothing") {
    event_loop loop(faked);
    int ran = 0;
    loop.post([&] {
        loop.post([&] { ++ran; });
        loop.poll();
    });
    loop.poll();
    CHECK(ran == 0);
    loop.poll();
    CHECK(ran == 1);
}

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("posts from several threads wake the loop, each thread's in order") {
    event_loop loop;
    std::vector<int> seen[4];
    int ended = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t != 4; ++t)
        threads.emplace_back([&, t] {
            for (int i = 0; i != 2000; ++i) loop.post([&seen, t, i] { seen[t].push_back(i); });
            loop.post([&] { if (++ended == 4) loop.stop(); });
        });
    loop.run();
    for (std::thread& t : threads) t.join();
    for (const auto& s : seen) {
        REQUIRE(s.size() == 2000);
        CHECK(std::is_sorted(s.begin(), s.end()));
    }
}

TEST_CASE("stop() from another thread ends a loop that waits for nothing") {
    event_loop loop;
    std::thread other([&] { loop.stop(); });
    loop.run();
    other.join();
    CHECK(loop.stopped());
}
#endif

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("what a callback, a timer, a watch or a task throws is reported, and the loop goes on") {
    std::vector<std::string> said;
    static std::vector<std::uint64_t> counted;  // when it was told
    const auto before = prom::event_count(prom::event_kind::callback_failed);
    event_loop loop({.time = fake,
                     .on_event = [](const prom::event& e, void* to) {
                         CHECK(e.kind == prom::event_kind::callback_failed);
                         static_cast<std::vector<std::string>*>(to)->push_back(e.why.describe());
                         counted.push_back(prom::event_count(e.kind));
                     },
                     .context = &said});
    counted.clear();
    const pipe_pair pipe;
    pipe.fill();
    calling on_timer{[] { throw 5; }};
    calling on_ready{[](interest) { throw std::runtime_error("a watch's reason"); }};
    detail::timer timer(loop, &decltype(on_timer)::fire, &on_timer);
    detail::watch watch(loop, &decltype(on_ready)::ready, &on_ready);
    timer.after(0);
    REQUIRE(watch.set(pipe.out.get(), interest::read));
    int ran = 0;
    loop.post([] { throw prom::failure({prom::errc::refused, "no"}); });
    loop.post([&] { ++ran; });
    loop.spawn([](event_loop& l) -> task<void> {
        co_await l.sleep(0);
        throw std::runtime_error("a task's reason");
    }(loop));
    loop.poll();
    watch.forget();
    CHECK(ran == 1);
    CHECK(said == std::vector<std::string>{"a watch threw: a watch's reason", "a timer threw", "a task threw: a task's reason", "no"});
    CHECK(counted == std::vector{before + 1, before + 2, before + 3, before + 4});
}
#endif

// ---- run ----

TEST_CASE("run returns what its task returns") {
    event_loop loop;
    CHECK(loop.run([](event_loop& l) -> task<int> {
        co_await l.sleep(1ms);
        co_return 7;
    }(loop)) == 7);
    CHECK(*loop.run([](event_loop& l) -> task<std::unique_ptr<int>> {
        co_await l.sleep(0);
        co_return std::make_unique<int>(3);
    }(loop)) == 3);
    loop.run([]() -> task<void> { co_return; }());
    CHECK(loop.run([]() -> task<std::string> { co_return {}; }()).empty());
    CHECK_FALSE(loop.stopped());
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("run throws what its task throws, the same object") {
    event_loop loop;
    const std::runtime_error* thrown = nullptr;
    for (int waits = 0; waits != 2; ++waits) {
        try {
            loop.run([](event_loop& l, int n, const std::runtime_error*& out) -> task<int> {
                while (n-- != 0) co_await l.sleep(0);
                try {
                    throw std::runtime_error("reason");
                } catch (const std::runtime_error& e) {
                    out = &e;
                    throw;
                }
            }(loop, waits, thrown));
            CHECK(false);
        } catch (const std::runtime_error& e) {
            CHECK(&e == thrown);
        }
        CHECK_FALSE(loop.stopped());
    }
    CHECK_THROWS_AS(loop.run([]() -> task<void> { throw 3; co_return; }()), int);
}

TEST_CASE("run inside the same loop is refused") {
    event_loop loop;
    loop.run([](event_loop& l) -> task<void> {
        CHECK_THROWS_AS(l.run(), prom::failure);
        co_return;
    }(loop));
}
#endif

TEST_CASE("a stopped run destroys its task where it waits, and returns nothing in particular") {
    event_loop loop;
    for (int i = 0; i != 2; ++i) {  // and may run again
        loop.post([&] { loop.stop(); });
        CHECK(loop.run([](event_loop& l) -> task<int> {
            const counted one;
            CHECK(counted::alive == 1);
            co_await [](event_loop& inner) -> task<void> {
                const counted two;
                co_await inner.sleep(1h);
            }(l);
            co_return 7;
        }(loop)) == 0);
        CHECK(counted::alive == 0);
        CHECK(loop.stopped());
        CHECK(loop.run([]() -> task<int> { co_return 5; }()) == 5);
        CHECK_FALSE(loop.stopped());
    }
}

TEST_CASE("a stop() before run() is the end of that run, whose task is never begun") {
    event_loop loop;
    loop.stop();
    CHECK(loop.stopped());
    bool begun = false;
    CHECK(loop.run([](bool& b) -> task<int> {
        b = true;
        co_return 7;
    }(begun)) == 0);
    CHECK_FALSE(begun);
    CHECK(loop.stopped());
    loop.stop();
    loop.run();
    CHECK(loop.run([]() -> task<int> { co_return 5; }()) == 5);
}

static event_loop* signalled = nullptr;
TEST_CASE("stop() in a signal handler ends run, and leaves errno alone") {
    event_loop loop;
    signalled = &loop;
    const auto before = ::signal(SIGUSR1, [](int) { signalled->stop(); });
    loop.run([](event_loop& l) -> task<void> {
        co_await l.sleep(0);
        errno = 42;
        ::raise(SIGUSR1);
        CHECK(errno == 42);
        co_await l.sleep(1h);
    }(loop));
    CHECK(loop.stopped());
    ::signal(SIGUSR1, before);
}

TEST_CASE("spawned tasks go on in the next run, and end with the loop") {
    {
        event_loop loop;
        int steps = 0;
        loop.spawn([](event_loop& l, int& n) -> task<void> {
            const counted one;
            for (;;) {
                ++n;
                co_await l.sleep(0);
            }
        }(loop, steps));
        CHECK(steps == 1);
        loop.run([](event_loop& l) -> task<void> { co_await l.sleep(0); }(loop));
        const int then = steps;
        loop.run([](event_loop& l) -> task<void> { co_await l.sleep(0); }(loop));
        CHECK(steps > then);
        CHECK(counted::alive == 1);
    }
    CHECK(counted::alive == 0);
}

// Closing work that takes so many steps of a quarter of a second, by a clock that moves only here.
static task<void> close_slowly(event_loop& loop, int steps, int& done) {
    const counted one;
    for (int i = 0; i != steps; ++i) {
        co_await loop.sleep(0);
        time_now += 0.25;
        ++done;
    }
}

TEST_CASE("run finishes closing work within its budget, by the loop's clock") {
    event_loop loop({.time = fake, .closing_budget = 1500ms});
    int five = 0, hundred = 0;
    loop.run([](event_loop& l, int& a) -> task<void> {
        l.spawn_closing(close_slowly(l, 5, a));
        co_return;
    }(loop, five));
    CHECK(five == 5);
    CHECK(counted::alive == 0);
    loop.post([&] { loop.stop(); });
    loop.run([](event_loop& l, int& a) -> task<void> {
        struct closer {
            event_loop& loop;
            int& steps;
            ~closer() { loop.spawn_closing(close_slowly(loop, 100, steps)); }
        } at_the_end{l, a};
        co_await l.sleep(1h);
    }(loop, hundred));
    CHECK(hundred == 6);
    CHECK(counted::alive == 0);  // cut short by being destroyed
}

TEST_CASE("a second stop() does not cut closing work short") {
    event_loop loop(faked);
    int steps = 0;
    loop.run([](event_loop& l, int& n) -> task<void> {
        l.spawn_closing([](event_loop& in, int& m) -> task<void> {
            in.stop();
            co_await close_slowly(in, 4, m);
        }(l, n));
        co_return;
    }(loop, steps));
    CHECK(steps == 4);
    CHECK(loop.run([]() -> task<int> { co_return 5; }()) == 5);
}

TEST_CASE("the end of a loop gives closing work its budget, tells who is attached, and disarms what outlives it") {
    int steps = 0, told = 0, called = 0;
    std::vector<int> fired;
    std::unique_ptr<numbered> timer;
    std::unique_ptr<detail::watch> watch;
    std::unique_ptr<detail::attachment> attached, early;
    const pipe_pair pipe;
    pipe.fill();
    struct gone {
        event_loop* loop;
        int *told, *steps;
    } on_end{nullptr, &told, &steps};
    calling on_ready{[&](interest) { ++called; }};
    {
        event_loop loop(faked);
        on_end.loop = &loop;
        timer = std::make_unique<numbered>(loop, fired, 1);
        timer->timer.after(1h);
        watch = std::make_unique<detail::watch>(loop, &decltype(on_ready)::ready, &on_ready);
        REQUIRE(watch->set(pipe.out.get(), interest::read));
        const auto tell = [](void* self) noexcept {
            auto& g = *static_cast<gone*>(self);
            ++*g.told;
            g.loop->spawn_closing(close_slowly(*g.loop, 3, *g.steps));
        };
        attached = std::make_unique<detail::attachment>(loop, tell, &on_end);
        early = std::make_unique<detail::attachment>(loop, tell, &on_end);
        early.reset();
        loop.spawn([](event_loop& l) -> task<void> {
            const counted one;
            co_await l.sleep(1h);
        }(loop));
        loop.post([held = std::make_shared<counted>(), &called] { ++called; });
        watch->forget();
        REQUIRE(watch->set(pipe.out.get(), interest::write));
    }
    CHECK(told == 1);
    CHECK(steps == 3);
    CHECK(counted::alive == 0);
    CHECK_FALSE(attached->attached());
    CHECK_FALSE(timer->timer.armed());
    timer->timer.after(1);
    watch->forget();
    CHECK_FALSE(watch->set(pipe.out.get(), interest::read));
}

// ---- the loop as a guest ----

TEST_CASE("a host that waits for the loop's descriptor misses no timer, no event and no post") {
    event_loop loop;
    if (loop.native_handle() < 0) CHECK(loop.fill({}) == 1);  // poll: the waker
    int ticks = 0;
    loop.spawn([](event_loop& l, int& n) -> task<void> {
        for (; n != 10; ++n) co_await l.sleep(std::chrono::milliseconds(n % 3));
    }(loop, ticks));
    while (ticks != 10) host_turn(loop);

    const pipe_pair pipe;
    int events = 0;
    loop.spawn([](event_loop& l, int fd, int& n) -> task<void> { n += bool(co_await l.readable(fd)); }(loop, pipe.out.get(), events));
    pipe.fill();
    while (events != 1) host_turn(loop);

    int posts = 0;
    loop.post([&] { loop.post([&] { ++posts; }); });
    while (posts != 1) host_turn(loop);

    // Armed outside a turn, behind and then before what is armed already.
    std::vector<int> fired;
    numbered late(loop, fired, 1), early(loop, fired, 2);
    late.timer.after(1h);
    early.timer.after(2ms);
    while (fired.empty()) host_turn(loop);
    CHECK(fired == std::vector{2});
    if (loop.native_handle() >= 0) {
        pollfd host{loop.native_handle(), POLLIN, 0};
        loop.poll();
        CHECK(::poll(&host, 1, 0) == 0);
    }
}

TEST_CASE("a loop that ran by itself serves a host afterwards") {
    event_loop loop;
    static_cast<void>(loop.native_handle());
    int ticks = 0;
    loop.spawn([](event_loop& l, int& n) -> task<void> {
        for (; n != 6; ++n) co_await l.sleep(2ms);
    }(loop, ticks));
    host_turn(loop);
    loop.run([](event_loop& l, int& n) -> task<void> {
        while (n < 3) co_await l.sleep(1ms);
    }(loop, ticks));
    while (ticks != 6) host_turn(loop);
}

TEST_CASE("a host that only waits for the descriptor is woken for a timer that is left when the loop has run by itself") {
    event_loop loop(faked);
    pollfd host{loop.native_handle(), POLLIN, 0};
    if (host.fd < 0) return;
    std::vector<int> fired;
    numbered before(loop, fired, 1), within(loop, fired, 2);
    before.timer.after(2ms);
    for (const bool sooner : {false, true}) {
        loop.run([](event_loop&, numbered& one, bool arms) -> task<void> {
            if (arms) one.timer.after(1ms);
            co_return;
        }(loop, within, sooner));
        CHECK(::poll(&host, 1, 10000) == 1);
        time_now += 0.01;
        loop.poll();
        CHECK(fired == (sooner ? std::vector{1, 2} : std::vector{1}));
        CHECK(::poll(&host, 1, 0) == 0);
    }
}

TEST_CASE("the next deadline is that of the earliest timer, and infinity without one") {
    event_loop loop(faked);
    std::vector<int> fired;
    CHECK(loop.next_deadline() == HUGE_VAL);
    numbered a(loop, fired, 1), b(loop, fired, 2);
    a.timer.after(5);
    b.timer.after(3);
    CHECK(loop.next_deadline() == time_now + 3);
    b.timer.cancel();
    CHECK(loop.next_deadline() == time_now + 5);
}

TEST_CASE("a moved clock is obeyed by the next turn, whatever the descriptor says") {
    event_loop loop(faked);
    static_cast<void>(loop.native_handle());
    std::vector<int> fired;
    numbered one(loop, fired, 1);
    one.timer.after(3600);
    loop.poll();
    CHECK(fired.empty());
    time_now += 3600;
    loop.poll();
    CHECK(fired.size() == 1);
}

TEST_CASE("a clock that runs ahead of the system's wakes a host nevertheless") {
    event_loop loop(faked);
    if (loop.native_handle() < 0) return;
    std::vector<int> fired;
    numbered one(loop, fired, 1), two(loop, fired, 2);
    one.timer.after(3600);
    time_now += 3600;
    loop.poll();
    CHECK(fired == std::vector{1});
    two.timer.after(1ms);
    pollfd host{loop.native_handle(), POLLIN, 0};
    CHECK(::poll(&host, 1, 10000) == 1);
}

// ---- what surrounds it ----

TEST_CASE("a child's copy of the loop leaves the parent's alone") {
    event_loop loop(faked);
    const pipe_pair pipe;
    int told = 0;
    calling on_ready{[&](interest) { ++told; }};
    auto watch = std::make_unique<detail::watch>(loop, &decltype(on_ready)::ready, &on_ready);
    REQUIRE(watch->set(pipe.out.get(), interest::read));
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        loop.stop();
        loop.post([] {});
        watch.reset();  // as a destructor at exit would
#if PROMETHEUS_ASYNC_EXCEPTIONS
        try {
            loop.run();
            ::_exit(1);
        } catch (const prom::failure&) {
        }
#endif
        int mine[8];  // one has the number of a kqueue, which a child does not get
        for (int& fd : mine) fd = ::dup(STDERR_FILENO);
        std::destroy_at(&loop);
        for (const int fd : mine) if (::fcntl(fd, F_GETFD) < 0) ::_exit(2);
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    pollfd host{loop.native_handle(), POLLIN, 0};
    if (host.fd >= 0) CHECK(::poll(&host, 1, 0) == 0);  // it was not even woken
    CHECK_FALSE(loop.stopped());
    pipe.fill();
    loop.poll();
    CHECK(told == 1);
    watch->forget();
}

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("a child that is forked while other threads post and stop waits for none of them") {
    event_loop loop;
    detail::loop_state& state = detail::loop_state::of(loop);
    loop.post([] {});
    state.lock.lock();  // as a thread that posts
    state.stoppers = 1;  // as one that stops it
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(20);
        loop.post([] {});
        loop.stop();
        std::destroy_at(&loop);
        ::_exit(0);
    }
    state.stoppers = 0;
    state.lock.unlock();
    int status = 1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}
#endif

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("a child that a task forked does not go on with its parent's loop") {
    event_loop loop;
    pid_t child = -1;
    try {
        loop.run([](event_loop& l, pid_t& pid) -> task<void> {
            co_await l.sleep(0);
            pid = ::fork();
            co_await l.sleep(0);
        }(loop, child));
        if (child == 0) ::_exit(1);
    } catch (const prom::failure&) {
        ::_exit(child == 0 ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}
#endif

TEST_CASE("a child that polls its copy of the loop takes no timer from its parent") {
    event_loop loop;
    const int handle = loop.native_handle();
    if (handle < 0) return;
    std::vector<int> fired;
    numbered one(loop, fired, 1);
    one.timer.after(10ms);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        pollfd host{handle, POLLIN, 0};
        ::poll(&host, 1, 10000);
        loop.poll(0);
        loop.poll(0);
        ::_exit(fired.empty() ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    pollfd host{handle, POLLIN, 0};
    CHECK(::poll(&host, 1, 10000) == 1);
    loop.poll(0);
    CHECK(fired.size() == 1);
}

static task<int> takes_options(const loop_options& options, event_loop& loop) {
    return [](double budget, event_loop& l) -> task<int> {
        co_await l.sleep(0);
        co_return static_cast<int>(budget);
    }(options.closing_budget.count(), loop);
}
TEST_CASE("options are braced inside co_await, and a loop lives inside a task") {
    event_loop loop;
    CHECK(loop.run([](event_loop& l) -> task<int> {
        event_loop inner({.time = fake, .closing_budget = 3s});
        inner.poll(0);
        co_return co_await takes_options({.time = fake, .on_event = nullptr, .closing_budget = 4s}, l) +
            co_await takes_options({.closing_budget = 5}, l);
    }(loop)) == 9);
}

TEST_CASE("a million sleeps use no stack, and many tasks sleep at once") {
    event_loop loop(faked);
    int woken = 0;
    for (int i = 0; i != 1000; ++i)
        loop.spawn([](event_loop& l, int n, int& w) -> task<void> {
            for (int k = 0; k != 20; ++k) co_await l.sleep(n % 10);
            ++w;
        }(loop, i, woken));
    for (int i = 0; i != 400; ++i, ++time_now) loop.poll();
    CHECK(woken == 1000);
}

TEST_CASE("what is ready goes before the timers, more than fits into a batch too; but the timers come, whatever is ready") {
    event_loop loop(faked);
    const pipe_pair pipe;
    struct pair {
        detail::descriptor fd;
        bool takes, told = false, fired = false, in_order = true;
        detail::watch watch;
        detail::timer timer;
        pair(event_loop& on, int of, bool once) : fd(::dup(of)), takes(once), watch(on, &ready, this), timer(on, &expired, this) {
            REQUIRE(watch.set(fd.get(), interest::read));
            timer.after(1);
        }
        static void ready(void* self, interest) {
            auto& me = *static_cast<pair*>(self);
            me.told = true;
            if (me.takes) me.watch.forget();
        }
        static void expired(void* self) {
            auto& me = *static_cast<pair*>(self);
            me.fired = true;
            me.in_order = me.told;
        }
    };
    for (const bool once : {true, false}) {
        std::vector<std::unique_ptr<pair>> pairs;
        for (int i = 0; i != 100; ++i) pairs.push_back(std::make_unique<pair>(loop, pipe.out.get(), once));
        pipe.fill();
        time_now += 2;
        for (int i = 0; i != 10; ++i) loop.poll(0);
        CHECK(std::all_of(pairs.begin(), pairs.end(), [](auto& p) { return p->fired; }));
        if (once) CHECK(std::all_of(pairs.begin(), pairs.end(), [](auto& p) { return p->in_order; }));
        pairs.clear();
        pipe.drain();
    }
}

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("a loop may end as soon as another thread's post or stop has reached it") {
    for (int i = 0; i != 200; ++i) {
        auto loop = std::make_unique<event_loop>();
        bool done = false;
        std::thread other([&, to = loop.get()] {
            if (i % 2) to->stop();
            else to->post([&] { done = true; });
        });
        while (!done && !loop->stopped()) loop->poll(0);
        loop.reset();
        other.join();
    }
}
#endif
