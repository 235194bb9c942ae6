// expect: a callback of a deferred<T> takes a T, or nothing
#include "prometheus_async.hpp"
void g(prometheus_async::deferred<int> d) { d.add_callback([](const char*) {}); }
