// What a verb costs: a measured ready awaitable, callback and function against the bare ones, as a ratio to what
// no measurement can do without, two readings of the clock and one observe; and what each allocates.
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace prom = prometheus_async;

static std::size_t allocations = 0;
[[gnu::noinline]] void* operator new(std::size_t n) {
    ++allocations;
    if (void* p = std::malloc(n)) return p;
    std::abort();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace {

prom::registry mine;
prom::histogram h("bench_seconds", "", {.registry = &mine});
constexpr int rounds = 31, each = 20000;

template <class T>
void keep(T& v) { asm volatile("" : "+m"(v)); }

struct ready {
    int v;
    bool await_ready() const { return true; }
    void await_suspend(std::coroutine_handle<>) const {}
    int await_resume() const { return v; }
};
prom::task<int> coroutine(int v) { co_return v; }
int function(int v) { return v; }

prom::counter failures("bench_failures_total", "", {.registry = &mine});
prom::gauge running("bench_running", "", {.registry = &mine});
prom::task<int> throwing() {
    throw std::runtime_error("no");
    co_return 0;
}
[[gnu::noinline]] void throws() { throw std::runtime_error("no"); }
// In a function of its own: in main() the tables that a throw searches are long, and a task would seem cheap.
[[gnu::noinline]] void throws_once() {
    try {
        throws();
    } catch (const std::runtime_error&) {
    }
}
/// The language asks two throws of a task: its body's exception is caught into a pointer, and thrown again where it is
/// awaited. Here they are in one function without a coroutine.
[[gnu::noinline]] void throws_twice() {
    std::exception_ptr why;
    try {
        throw std::runtime_error("no");
    } catch (...) {
        why = std::current_exception();
    }
    try {
        std::rethrow_exception(std::move(why));
    } catch (const std::runtime_error&) {
    }
}

// A coroutine that runs n times before it ends, so that its own frame is not counted.
template <class Make>
prom::task<> awaits(Make make, int n) {
    for (int i = 0; i != n; ++i) {
        int v = co_await make(i);
        keep(v);
    }
}
struct runner {
    struct promise_type {
        runner get_return_object() { return {}; }
        std::suspend_never initial_suspend() { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::abort(); }
    };
};
runner run(prom::task<> t) { co_await std::move(t); }

struct figure {
    double ns = 1e9;
    double allocated = 0;
};
template <class Work>
void measure(figure& f, Work work) {
    const std::size_t before = allocations;
    const double start = prom::monotonic_now();
    work(each);
    const double ns = (prom::monotonic_now() - start) * 1e9 / each;
    f.allocated = static_cast<double>((allocations - before) * 10 / each) / 10;  // the runner allocates a little too
    if (ns < f.ns) f.ns = ns;
}
template <class Make>
auto awaiting(Make make) {
    return [make](int n) { run(awaits(make, n)); };
}
/// Each of the n fails, and is caught where it is awaited.
template <class Make>
prom::task<> failing(Make make, int n) {
    for (int i = 0; i != n; ++i) {
        try {
            co_await make();
        } catch (const std::runtime_error&) {
        }
    }
}
template <class Make>
auto catching(Make make) {
    return [make](int n) { run(failing(make, n / 20)); };  // each takes microseconds
}
template <class Make>
auto calling(Make make) {
    return [make](int n) {
        for (int i = 0; i != n; ++i) {
            int v = make(i);
            keep(v);
        }
    };
}

#if defined(__x86_64__) || defined(__aarch64__)
std::uint64_t counter_of_processor() {
    std::uint64_t n;
#if defined(__x86_64__)
    n = __builtin_ia32_rdtsc();
#else
    asm volatile("mrs %0, cntvct_el0" : "=r"(n));
#endif
    return n;
}
// The library does not read the counter itself. How fast it counts must be measured, and what that measurement is wrong by
// grows with time. A virtual machine that moves to another host may find another rate there; only the kernel is told.
// A counter may stop in a suspended machine, may differ between processors (the kernel then uses another clock), and a
// process may be forbidden to read it (PR_SET_TSC: SIGSEGV). No bound of the error holds in all of these cases. A user who
// knows the machine gives its counter to set_clock().
void counter_instead_of_clock() {
    figure clock, counter;
    for (int r = 0; r != rounds; ++r) {
        measure(clock, calling([](int) { return static_cast<int>(prom::monotonic_now()); }));
        measure(counter, calling([](int) { return static_cast<int>(counter_of_processor()); }));
    }
    const auto wait = [](double seconds) {
        const double start = prom::monotonic_now();
        while (prom::monotonic_now() - start < seconds) {}
    };
    const double t = prom::monotonic_now();
    const std::uint64_t n = counter_of_processor();
    wait(0.001);
    const double rate = static_cast<double>(counter_of_processor() - n) / (prom::monotonic_now() - t);
    wait(0.2);
    const double span = prom::monotonic_now() - t, counted = static_cast<double>(counter_of_processor() - n) / rate;
    std::printf("one reading of the clock             %6.1f ns   of the processor's counter %.1f ns (not used); its rate measured in 1 ms: "
                "%.0f millionths off\n", clock.ns, counter.ns, (counted > span ? counted - span : span - counted) / span * 1e6);
}
#else
void counter_instead_of_clock() {}
#endif

}  // namespace

int main() {
    figure floor, bare[4], timed[4];
    const auto decorated = prom::time(h)(function);
    const auto decorated_task = prom::time(h)(coroutine);
    h.observe(0);
    for (int r = 0; r != rounds; ++r) {  // interleaved, the minimum counts
        measure(floor, calling([](int) {
            const double start = prom::monotonic_now();
            h.observe(prom::monotonic_now() - start);
            return 0;
        }));
        measure(bare[0], awaiting([](int i) { return ready{i}; }));
        measure(timed[0], awaiting([](int i) { return prom::time(h, ready{i}); }));
        measure(bare[1], calling([](int i) { return prom::completion([](int v) { return v; })(i); }));
        measure(timed[1], calling([](int i) { return prom::time(h, prom::completion([](int v) { return v; }))(i); }));
        measure(bare[2], calling([](int i) { return function(i); }));
        measure(timed[2], calling([&](int i) { return decorated(i); }));
        measure(bare[3], awaiting([](int i) { return coroutine(i); }));
        measure(timed[3], awaiting([&](int i) { return decorated_task(i); }));
    }
    std::printf("two clock readings and one observe    %6.1f ns\n", floor.ns);
    const char* names[] = {"ready awaitable", "completion handler", "function", "task"};
    bool as_promised = true;
    for (int i = 0; i != 4; ++i) {
        const double extra = timed[i].allocated - bare[i].allocated;
        std::printf("%-20s bare %6.1f  timed %6.1f ns   cost / floor %4.2f   allocations +%.0f\n", names[i], bare[i].ns, timed[i].ns,
                    (timed[i].ns - bare[i].ns) / floor.ns, extra);
        as_promised = as_promised && static_cast<int>(extra + 0.5) == (i == 3 ? 1 : 0);
    }
    counter_instead_of_clock();
    figure plain, twice, thrown[4];
    const char* const throwing_names[] = {"a task that throws", "  under count_exceptions", "  under time", "  under these and track_inprogress"};
    for (int r = 0; r != rounds; ++r) {
        measure(plain, [](int n) {
            for (int i = 0; i != n / 20; ++i) throws_once();
        });
        measure(twice, [](int n) {
            for (int i = 0; i != n / 20; ++i) throws_twice();
        });
        measure(thrown[0], catching([] { return throwing(); }));
        measure(thrown[1], catching([] { return prom::count_exceptions(failures, throwing()); }));
        measure(thrown[2], catching([] { return prom::time(h, throwing()); }));
        measure(thrown[3], catching([] { return prom::time(h, prom::count_exceptions(failures, prom::track_inprogress(running, throwing()))); }));
    }
    std::printf("%-36s %6.0f ns   x%.2f of a plain throw and catch\n", "the same two throws in one function", twice.ns * 20,
                twice.ns / plain.ns);
    for (int i = 0; i != 4; ++i) {
        std::printf("%-36s %6.0f ns   x%.2f of a plain throw and catch", throwing_names[i], thrown[i].ns * 20, thrown[i].ns / plain.ns);
        const double ratio = i == 0 ? thrown[0].ns / plain.ns : thrown[i].ns / thrown[0].ns, goal = i == 0 ? 1.6 : 1.15;
        if (i != 0) std::printf(", x%.2f of the bare task", ratio);
        std::printf(" (goal %.2f%s)\n", goal, ratio > goal ? ", MISSED" : "");
    }
    if (!as_promised) std::puts("FAILED: no allocation but one frame for a coroutine type");
    return as_promised ? 0 : 1;
}
