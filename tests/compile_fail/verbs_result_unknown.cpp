// expect: count_failures() cannot tell when this result is a failure: give it a predicate
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
int x = prometheus_async::count_failures(m)([] { return 1; })();
