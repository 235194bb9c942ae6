// expect: to_label() gives a view or a reference: a string by value would be gone at once
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
enum class color { red };
std::string to_label(color) { return "red"; }
prom::family<prom::counter, "color"> f{"f", "A to_label that gives a string."};
void use() { f(color::red).inc(); }
