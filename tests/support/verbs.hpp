// What the tests of the verbs share: metrics that remember, a clock that counts, an awaitable that is not a
// coroutine, and a wait for what needs no event loop.
#pragma once
#include "prometheus_async.hpp"

#include <string>
#include <utility>
#include <vector>

namespace prom = prometheus_async;

struct fake_observer {
    std::vector<double> seen;
    void observe(double v) { seen.push_back(v); }
};
struct fake_counter {
    int count = 0;
    void inc() { ++count; }
};
struct fake_gauge {
    int value = 0, calls = 0;
    void inc() { ++value, ++calls; }
    void dec() { --value, ++calls; }
};
using seen = std::vector<double>;

// Every reading is one more than the one before, as in upstream's tests.
inline double readings = 0;
struct counting_clock {
    counting_clock() {
        readings = 0;
        prom::set_clock({[] { return ++readings; }, [] { return 0.0; }});
    }
    counting_clock(const counting_clock&) = delete;
    counting_clock& operator=(const counting_clock&) = delete;
    ~counting_clock() { prom::set_clock(prom::system_clock()); }
};

// asyncio's Future: one coroutine may wait; the holder sets the result.
template <class T>
class future {
public:
    void set_result(T v) { finish(prom::outcome<T>(std::move(v))); }
    void set_fault(const prom::fault& f) { finish(prom::outcome<T>(f)); }

    bool await_ready() const { return done_; }
    void await_suspend(std::coroutine_handle<> h) { waiting_ = h; }
    T await_resume() { return std::move(result_).value(); }

private:
    void finish(prom::outcome<T> r) {
        result_ = std::move(r);
        done_ = true;
        if (waiting_) std::exchange(waiting_, nullptr).resume();
    }
    prom::outcome<T> result_{prom::error(prom::errc::timeout, "pending")};
    bool done_ = false;
    std::coroutine_handle<> waiting_;
};

// TestFromAsyncFn's helper: the outcome of a deferred that must have ended without other help.
template <class Awaitable>
auto sync_wait_outcome(Awaitable&& awaitable) {
    auto d = prom::make_deferred(std::forward<Awaitable>(awaitable));
    if (!d.fired()) d = {}, d.fail(prom::error(prom::errc::timeout, "the result is pending"));
    auto taken = d.settled();
    return taken.await_resume();
}
template <class Awaitable>
auto sync_wait(Awaitable&& awaitable) {
    return sync_wait_outcome(std::forward<Awaitable>(awaitable)).value();
}
