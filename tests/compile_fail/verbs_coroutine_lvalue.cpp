// expect: a coroutine is measured where it ends: move it, as in time(metric, std::move(task))
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
prometheus_async::task<int> f();
void g() {
    auto t = f();
    auto x = prometheus_async::time(m, t);
}
