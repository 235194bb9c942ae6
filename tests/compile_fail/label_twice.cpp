// expect: two labels of a family have the same name
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::family<prom::counter, "a", "b", "a"> f{"f", "a twice."};
