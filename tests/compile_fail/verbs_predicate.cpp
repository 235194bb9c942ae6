// expect: the predicate of count_failures() does not take this result
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
int x = prometheus_async::count_failures(m, [] { return 1; }, [](const char*) { return true; })();
