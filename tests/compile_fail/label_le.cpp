// expect: the label le of a histogram is reserved
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::family<prom::histogram, "le"> f{"f", "le."};
