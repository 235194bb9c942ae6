// expect: a label value is a string, an integer, a bool
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
enum class color { red };
prom::family<prom::counter, "color"> f{"f", "An enum without to_label."};
void use() { f(color::red).inc(); }
