// expect: time(metric, [&] { return f().get(); })
#include <future>
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
std::future<int> f();
void g() { prometheus_async::time(m)(f)(); }
