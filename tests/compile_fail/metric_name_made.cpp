// expect: a name known only at run time: registry::make_counter(name, help) and so on
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

void declare(const std::string& name) { prometheus_async::family<prometheus_async::gauge, "a"> f{name.c_str(), "A name from outside."}; }
