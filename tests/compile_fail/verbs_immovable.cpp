// expect: decorate a function that returns it, as in time(metric)([&] { return mutex.lock(); })()
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
struct lock : std::suspend_always {
    lock() = default;
    lock(const lock&) = delete;
};
auto x = prometheus_async::time(m, lock{});
