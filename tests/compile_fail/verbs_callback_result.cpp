// expect: a callback of a deferred<T> returns a T, a deferred<T>, an outcome<T>, a fault, or nothing
#include "prometheus_async.hpp"
void g(prometheus_async::deferred<int> d) { d.add_callback([](int) { return "text"; }); }
