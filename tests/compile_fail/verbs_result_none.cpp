// expect: count_failures() needs a result to look at, and this has none
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
void g() { prometheus_async::count_failures(m)([] {})(); }
