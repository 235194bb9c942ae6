// expect: = delete;  // a list of texts has one pair of braces, {"a", "b"}; one text has none
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
std::string page() { return prom::expose({.only = {{"a_total", "b_total"}}}); }
