// expect: = delete;  // bounds: {.buckets = {0.1, 1}}
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

prometheus_async::histogram took{"took_seconds", "Time.", {0.1, 0.5, 1}};
