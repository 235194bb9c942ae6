// The verbs on another library's metrics: three lines each, here for prometheus-cpp.
// libs: -lprometheus-cpp-core
// needs-exceptions
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"
#include <doctest/doctest.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <stdexcept>
#include "support/verbs.hpp"

namespace {

struct observes {
    prometheus::Histogram& theirs;
    void observe(double s) const { theirs.Observe(s); }
};
struct counts {
    prometheus::Counter& theirs;
    void inc() const { theirs.Increment(); }
};
struct tracks {
    prometheus::Gauge& theirs;
    void inc() const { theirs.Increment(); }
    void dec() const { theirs.Decrement(); }
};

}  // namespace

TEST_CASE("prometheus-cpp's metrics are measured with, adapted in three lines each") {
    prometheus::Registry theirs;
    auto& histogram = prometheus::BuildHistogram().Name("h").Register(theirs).Add({}, prometheus::Histogram::BucketBoundaries{0.1, 1});
    auto& counter = prometheus::BuildCounter().Name("c").Register(theirs).Add({});
    auto& gauge = prometheus::BuildGauge().Name("g").Register(theirs).Add({});

    auto all = prom::time(observes{histogram}) | prom::count_exceptions(counts{counter}) | prom::track_inprogress(tracks{gauge});
    future<int> f;
    auto d = prom::make_deferred(all([](future<int>& on) -> prom::task<int> { co_return co_await on; })(f));
    CHECK(gauge.Value() == 1);
    f.set_result(42);
    CHECK(*d.settled().await_resume() == 42);
    CHECK(gauge.Value() == 0);
    CHECK(counter.Value() == 0);
    CHECK_THROWS(all([]() -> int { throw std::runtime_error("x"); })());
    CHECK(counter.Value() == 1);
    CHECK(histogram.Collect().histogram.sample_count == 2);
}
