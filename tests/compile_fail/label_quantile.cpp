// expect: the label quantile of a summary is reserved
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::family<prom::summary, "quantile"> f{"f", "quantile."};
