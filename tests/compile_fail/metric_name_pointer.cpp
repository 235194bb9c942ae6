// expect: a name known only at run time: registry::make_counter(name, help) and so on
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

void declare(const char* name) { prometheus_async::counter c{name, "A name from outside."}; }
