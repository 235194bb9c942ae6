// expect: a task is awaited once: co_await std::move(it)
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

prometheus_async::task<int> outer(prometheus_async::task<int> inner) { co_return co_await inner; }
