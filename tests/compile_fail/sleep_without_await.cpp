// expect: ignoring
#pragma GCC diagnostic error "-Wunused-result"
#pragma GCC diagnostic error "-Wunused-value"
#include "prometheus_async.hpp"

void wait(prometheus_async::event_loop& loop) { loop.sleep(1); }
