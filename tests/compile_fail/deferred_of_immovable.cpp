// expect: this awaitable cannot be moved: keep it in a variable
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
struct lock : std::suspend_always {
    lock() = default;
    lock(const lock&) = delete;
};
auto x = prometheus_async::make_deferred(lock{});
