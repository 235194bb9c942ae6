// expect: a coroutine that cannot be awaited (a generator) ends where it is consumed
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
struct generator {
    struct promise_type {
        generator get_return_object();
        std::suspend_always initial_suspend();
        std::suspend_always final_suspend() noexcept;
        std::suspend_always yield_value(int);
        void unhandled_exception();
    };
    int operator()();  // the next one
};
generator f();
auto x = prometheus_async::time(m)(f());
