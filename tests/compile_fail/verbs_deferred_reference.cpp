// expect: a deferred holds a value or void: use a pointer for a reference
#include "prometheus_async.hpp"
prometheus_async::deferred<int&> d;
