// expect: is ambiguous
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
bool f(const prom::dynamic_family<prom::counter>& of) { return of.remove({{"GET", "200"}}); }
