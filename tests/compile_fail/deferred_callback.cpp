// expect: // fire(value)
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
void f(prom::deferred<int> d) { d.callback(3); }
