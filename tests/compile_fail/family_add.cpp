// expect: // family(values...)
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::family<prom::counter, "method"> m{"a_total", "A."};
void f() { m.Add({{"method", "get"}}); }
