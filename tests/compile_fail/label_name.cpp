// expect: a label name matches
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::family<prom::counter, "a.b"> f{"f", "A label with a dot."};
