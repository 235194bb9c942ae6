// Room [28]: task<T>.
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <memory>
#if !PROMETHEUS_ASYNC_NO_THREADS
#include <thread>
#endif

namespace prom = prometheus_async;
using prom::task;

namespace {

struct counted {
    static inline int alive = 0;
    static inline int moves = 0;
    int value;
    explicit counted(int v = 0) : value(v) { ++alive; }
    counted(const counted& o) : value(o.value) { ++alive; }
    counted(counted&& o) noexcept : value(o.value) { ++alive, ++moves; }
    counted& operator=(const counted&) = default;
    ~counted() { --alive; }
};

/// What drives tasks in these tests: starts one, and owns it until it has ended or is cancelled.
struct driver {
    struct promise_type {
        driver get_return_object() { return driver(std::coroutine_handle<promise_type>::from_promise(*this)); }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::abort(); }
    };
    std::coroutine_handle<promise_type> frame;
    explicit driver(std::coroutine_handle<promise_type> h) : frame(h) {}
    driver(driver&& o) noexcept : frame(std::exchange(o.frame, nullptr)) {}
    ~driver() { cancel(); }
    bool done() const { return !frame || frame.done(); }
    void cancel() {
        if (auto h = std::exchange(frame, nullptr)) h.destroy();
    }
};

template <class T>
driver drive(task<T> work, T& to) {
    to = co_await std::move(work);
}
driver drive(task<void> work, bool& ended) {
    co_await std::move(work);
    ended = true;
}

/// A place to wait at.
struct gate {
    std::coroutine_handle<> waiting;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) noexcept { waiting = h; }
    void await_resume() const noexcept {}
    void open() { std::exchange(waiting, nullptr).resume(); }
};

task<int> ready(int n) { co_return n; }

}  // namespace

TEST_CASE("a task is lazy") {
    bool begun = false;
    {
        const auto made = [](bool& b) -> task<void> {
            b = true;
            co_return;
        }(begun);
        CHECK(made.valid());
    }
    CHECK_FALSE(begun);
}

TEST_CASE("a million ready tasks are awaited in a row, without a stack for each") {
    long sum = 0;
    drive([]() -> task<long> {
        long n = 0;
        for (int i = 0; i != 1000000; ++i) n += co_await ready(1);
        co_return n;
    }(), sum);
    CHECK(sum == 1000000);
}

TEST_CASE("a deep chain gives its value all the way up") {
    struct deep {
        static task<int> go(gate& g, int n) {
            if (n == 0) {
                co_await g;
                co_return 0;
            }
            co_return co_await go(g, n - 1) + 1;
        }
    };
    gate g;
    int got = -1;
    const driver d = drive(deep::go(g, 100), got);
    CHECK_FALSE(d.done());
    g.open();
    CHECK(d.done());
    CHECK(got == 100);
}

TEST_CASE("values, references, move-only values and nothing come out of a task") {
    int target = 5;
    struct some {
        static task<int&> reference(int& x) { co_return x; }
        static task<const int&> constant(const int& x) { co_return x; }
        static task<std::unique_ptr<int>> unique() { co_return std::make_unique<int>(3); }
        static task<std::string> text() { co_return "text"; }
        static task<std::string> empty() { co_return {}; }
        static task<std::exception_ptr> no_exception() { co_return {}; }
        static task<void> nothing() { co_return; }
        static task<void> all(int& x, bool& checked) {
            int& same = co_await reference(x);
            CHECK(&same == &x);
            const int& constant_same = co_await constant(x);
            CHECK(&constant_same == &x);
            CHECK(*co_await unique() == 3);
            CHECK(co_await text() == "text");
            CHECK((co_await empty()).empty());
            CHECK(co_await no_exception() == nullptr);
            co_await nothing();
            checked = true;
        }
    };
    bool ended = false, checked = false;
    drive(some::all(target, checked), ended);
    CHECK(ended);
    CHECK(checked);
}

TEST_CASE("a value is moved, not copied, and destroyed once, taken or not") {
    {
        counted got;
        counted::moves = 0;
        drive([]() -> task<counted> { co_return counted(7); }(), got);
        CHECK(got.value == 7);
    }
    CHECK(counted::alive == 0);
    {
        gate g;
        const driver d = [](gate& wait) -> driver {
            auto child = [](gate&) -> task<counted> { co_return counted(1); }(wait);
            auto awaiter = std::move(child).operator co_await();
            static_cast<void>(awaiter.await_suspend(std::noop_coroutine()));  // finished, and never asked
            co_await wait;
        }(g);
        CHECK(counted::alive == 1);
    }
    CHECK(counted::alive == 0);
}

TEST_CASE("a task destroyed where it waits destroys its whole chain, once, at every point where it can wait") {
    struct waits {
        static task<counted> leaf(gate& g, int& left) {
            const counted mine;
            if (left-- == 0) co_await g;
            co_return counted(1);
        }
        static task<counted> branch(gate& g, int& left) {
            const counted mine;
            int sum = 0;
            for (int i = 0; i != 3; ++i) {
                const counted got = co_await leaf(g, left);
                sum += got.value;
                if (left-- == 0) co_await g;
            }
            co_return counted(sum);
        }
        static task<counted> root(gate& g, int left) {
            const counted mine;
            const counted a = co_await branch(g, left), b = co_await branch(g, left);
            co_return counted(a.value + b.value);
        }
    };
    int points = 0;
    for (int at = 0;; ++at) {
        gate g;
        counted got;
        driver d = drive(waits::root(g, at), got);
        if (d.done()) {
            CHECK(got.value == 6);
            break;
        }
        ++points;
        if (at % 2 == 0) {
            g.open();
            CHECK(d.done());
            CHECK(got.value == 6);
        }
        d.cancel();
        CHECK(counted::alive == 1);  // got
    }
    CHECK(points == 12);
    CHECK(counted::alive == 0);
}

TEST_CASE("a child may destroy the chain that awaits it, while it is being started") {
    // As a server does whose callback closes it.
    struct chain {
        std::unique_ptr<driver>* self;
        bool async;
        gate g;
        static task<int> child(chain& c) {
            const counted mine;
            if (c.async) co_await c.g;
            struct killer {
                std::unique_ptr<driver>& victim;
                bool await_ready() const { return false; }
                void await_suspend(std::coroutine_handle<>) const { victim->cancel(); }
                void await_resume() const {}
            };
            co_await killer{*c.self};
            CHECK(false);
            co_return 1;
        }
        static task<int> parent(chain& c) {
            const counted mine;
            const int got = co_await child(c);
            CHECK(false);
            co_return got;
        }
        static driver root(chain& c, gate& begin) {
            co_await begin;
            static_cast<void>(co_await parent(c));
        }
    };
    for (bool async : {false, true}) {
        std::unique_ptr<driver> d;
        chain c{&d, async, {}};
        gate begin;
        d = std::make_unique<driver>(chain::root(c, begin));
        begin.open();
        if (async) {
            CHECK(counted::alive == 2);
            c.g.open();
        }
        CHECK(counted::alive == 0);
        CHECK_FALSE(d->frame);
    }
}

TEST_CASE("a moved task owns what the other owned") {
    bool begun = false;
    const auto make = [&](bool& b) -> task<int> {
        const counted mine;
        b = true;
        co_return 4;
    };
    task<int> a = make(begun), b;
    CHECK_FALSE(b.valid());
    b = std::move(a);
    CHECK(b.valid());
    b = make(begun);  // the old one ends unstarted
    auto& same = b;
    b = std::move(same);
    CHECK(b.valid());
    int got = 0;
    drive(std::move(b), got);
    CHECK(got == 4);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("an exception leaves each co_await as the same object, at once or later") {
    struct thrower {
        static task<int> leaf(gate* g, const std::string*& out) {
            const counted mine;
            if (g) co_await *g;
            try {
                throw std::string("reason");
            } catch (const std::string& s) {
                out = &s;
                throw;
            }
        }
        static task<int> middle(gate* g, const std::string*& out) { co_return co_await leaf(g, out) + 1; }
        static task<bool> root(gate* g) {
            const std::string* thrown = nullptr;
            try {
                co_await middle(g, thrown);
            } catch (const std::string& s) {
                co_return &s == thrown && s == "reason";
            }
            co_return false;
        }
    };
    gate g;
    bool same = false;
    drive(thrower::root(nullptr), same);
    CHECK(same);
    same = false;
    const driver d = drive(thrower::root(&g), same);
    g.open();
    CHECK(same);
    CHECK(counted::alive == 0);
}
#endif

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("a task that another thread resumes while it is being started ends once, and its parent goes on once") {
    // Resumes on another thread at once: it races with the parent's await_suspend.
    struct elsewhere {
        std::thread& thread;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) const {
            std::thread& to = thread;  // *this may be gone once the other thread runs
            to = std::thread([h] { h.resume(); });
        }
        void await_resume() const noexcept {}
    };
    struct race {
        static task<int> child(std::thread& t) {
            co_await elsewhere{t};
            co_return 1;
        }
        static task<int> parent(std::thread& t) { co_return co_await child(t) + 1; }
    };
    for (int i = 0; i != 500; ++i) {
        std::thread other;
        int got = 0;
        const driver d = drive(race::parent(other), got);
        other.join();
        REQUIRE(d.done());
        REQUIRE(got == 2);
    }
}
#endif

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("a task that is awaited again, or is empty, is an error and not a crash") {
    const auto twice = [](prom::task<int> once) -> prom::task<int> {
        const int first = co_await std::move(once);
        try {
            co_await std::move(once);
        } catch (const prom::failure& e) {
            CHECK(e.why().code() == prom::errc::conflict);
            co_return first;
        }
        co_return -1;
    };
    const auto seven = []() -> prom::task<int> { co_return 7; };
    int got = 0;
    drive(twice(seven()), got);
    CHECK(got == 7);
    const auto none = []() -> prom::task<int> {
        prom::task<int> empty;
        CHECK_FALSE(empty.valid());
        try {
            co_await std::move(empty);
        } catch (const prom::failure&) {
            co_return 1;
        }
        co_return 0;
    };
    drive(none(), got);
    CHECK(got == 1);
}
#endif
