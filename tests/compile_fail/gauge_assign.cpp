// expect: // set(value): what is assigned is the handle
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::gauge g{"a", "A."};
void f() { g = 3; }
