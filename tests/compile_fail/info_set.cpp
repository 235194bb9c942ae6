// expect: // set(labels)
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::info m{"a", "A."};
void f() { m.Set({{"version", "1"}}); }
