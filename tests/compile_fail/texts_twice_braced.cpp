// expect: = delete;  // a list of texts has one pair of braces, {"a", "b"}; one text has none
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
bool removed(const prom::dynamic_family<prom::counter>& f) { return f.remove({{"a", "b"}}); }
