// expect: // dec(step)
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::gauge m{"a", "A."};
void f() { m.Decrement(); }
