// expect: count_exceptions() takes a metric that has inc(): a counter
#include "prometheus_async.hpp"
prometheus_async::histogram h;
auto x = prometheus_async::count_exceptions(h)([] {});
