// expect: a label value is a string, an integer, a bool, or has to_label(value) beside its type
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

prometheus_async::family<prometheus_async::counter, "l"> f{"f", "One label."};
void use() { f(L'x').inc(); }
