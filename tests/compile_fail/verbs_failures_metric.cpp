// expect: count_failures() takes a metric that has inc(): a counter
#include "prometheus_async.hpp"
prometheus_async::summary s;
auto x = prometheus_async::count_failures(s)([] { return 1; });
