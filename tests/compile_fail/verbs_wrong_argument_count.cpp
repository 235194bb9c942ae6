// expect: the_decorated_function_does_not_take_these_arguments
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
prometheus_async::task<int> f(int);
const auto timed = prometheus_async::time(m)(f);
auto x = timed(1, 2);
