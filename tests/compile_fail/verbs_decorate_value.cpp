// expect: what can be measured is a deferred, a coroutine, another awaitable, or a function
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
auto x = prometheus_async::time(m)(42);
