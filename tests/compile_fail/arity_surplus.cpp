// expect: a family takes one value for each of its labels
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
prom::family<prom::counter, "method"> f{"f", "One label."};
void use() { f("GET", 200).inc(); }
