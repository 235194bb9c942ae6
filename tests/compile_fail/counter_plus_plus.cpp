// expect: // inc()
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::counter c{"a_total", "A."};
void f() { ++c; }
