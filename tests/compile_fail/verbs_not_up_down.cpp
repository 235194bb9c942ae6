// expect: track_inprogress() takes a metric that has inc() and dec(): a gauge
#include "prometheus_async.hpp"
prometheus_async::counter c;
auto x = prometheus_async::track_inprogress(c)([] {});
