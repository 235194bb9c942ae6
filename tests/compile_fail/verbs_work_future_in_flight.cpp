// expect: a future is over where it is waited for
#include "prometheus_async.hpp"
struct metric { void observe(double) {} void inc() {} void dec() {} };
metric m;
struct qfuture { void waitForFinished(); };
qfuture f();
auto x = prometheus_async::track_inprogress(m, f());
