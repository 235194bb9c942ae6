// expect: time() takes a metric that has observe(double): a histogram, a summary
#include "prometheus_async.hpp"
prometheus_async::counter c;
auto x = prometheus_async::time(c)([] {});
