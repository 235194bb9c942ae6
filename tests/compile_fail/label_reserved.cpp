// expect: label names that begin with __ are reserved
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::family<prom::counter, "__name__"> f{"f", "A reserved label."};
