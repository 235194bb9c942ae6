// expect: return it by value
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
prometheus_async::task<int>& f();
void g() { prometheus_async::track_inprogress(m)(f)(); }
