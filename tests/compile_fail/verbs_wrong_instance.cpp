// expect: the_decorated_function_does_not_take_these_arguments
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
struct service { int f(int); };
struct other {};
auto timed = prometheus_async::time(m)(&service::f);
int x = timed(other{}, 1);
