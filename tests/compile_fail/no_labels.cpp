// expect: a family has at least one label
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::family<prom::counter> f{"f", "No label."};
