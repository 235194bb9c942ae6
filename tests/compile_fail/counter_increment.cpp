// expect: // inc(step)
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::counter m{"a_total", "A."};
void f() { m.Increment(); }
