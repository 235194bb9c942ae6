// expect: // set(state)
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::state_set m{"a", "A.", {.states = {"on", "off"}}};
void f() { m.Set("on"); }
