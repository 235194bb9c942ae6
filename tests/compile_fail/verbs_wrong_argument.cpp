// expect: the_decorated_function_does_not_take_these_arguments
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
int f(int);
auto timed = prometheus_async::time(m)(f);
int x = timed("text");
