// expect: // observe(value)
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::histogram m{"a", "A."};
void f() { m.Observe(0.5); }
