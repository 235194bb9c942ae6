// native PORT PLAIN UNDATED: serves native histograms on PORT, on PLAIN the same without native buckets, and on UNDATED without
// start timestamps, for native.sh to look at through each Prometheus.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <unistd.h>

namespace prom = prometheus_async;

int main(int, char** arguments) {
    const prom::native_buckets eight{.factor = 1.1};  // in each octave
    prom::histogram ds1{"ds1", "Five values.", {.native = eight}}, ds2{"ds2", "Ten ones.", {.native = eight}},
        ds3{"ds3", "Zeros and values of both signs.", {.native = eight}},
        nh{"nh", "Schema 0.", {.native = {.factor = 2, .zero_threshold = 1e-6}}},
        both{"both_seconds", "Classic and native.", {.unit = "seconds", .buckets = {1, 2}, .native = eight}};
    for (double x : {0.1, 0.2, 0.4, 0.8, 1.6}) ds1.observe(x);
    for (int i = 0; i != 10; ++i) ds2.observe(1);
    for (double x : {0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0}) ds3.observe(x);
    for (double x : {0.0, 1.0, 2.0, 1.5, 8.0}) nh.observe(x);
    for (double x : {0.5, 1.5, 1.6, 3.0}) both.observe(x);
    both.observe(9.0, {.labels = {{"trace_id", "abc"}}});

    // Whose schema the limit changes, of threads that have ended.
    prom::histogram wide{"wide", "More buckets than its limit.", {.native = {.factor = 1.1, .max_buckets = 20}}};
    for (int t = 0; t != 4; ++t)
        std::thread([&] { for (int i = 0; i != 200; ++i) wide.observe(std::exp2(i / 8.0)); }).join();

    prom::family<prom::histogram, "i"> many{"many", "Many children, the first of them empty.", {.native = eight}};
    prom::family<prom::counter, "i"> counters{"counters", "Many counters.", {}};
    for (int i = 0; i != 2000; ++i) {
        counters(i).inc(static_cast<unsigned>(i));
        if (const prom::histogram h = many(i); i != 0) h.observe(i);
    }
    prom::gauge dotted{prom::utf8("dotted.name"), "A name of UTF-8.", {.labels = {{prom::utf8("a.b"), "c"}}}};
    dotted.set(1);
    prom::info build{"build", "An info.", {}};
    build.set({{"v", "1"}});
    prom::state_set state{"state", "A state set.", {.states = {"on", "off"}}};
    prom::summary sizes{"sizes", "A summary.", {}};
    sizes.observe(3);
    const auto yielded = prom::default_registry().add_collector([](prom::sample_sink& to) {
        to.family(prom::metric_type::histogram, "yielded", "A collector's.");
        to.histogram({.zero_threshold = 1e-6, .zero_count = 1, .positive = {{0, 1}, {1, 2}, {3, 1}}, .count = 5, .sum = 18});  // as nh
        to.histogram({.schema = 3, .positive = {{0, 10}}, .count = 10, .sum = 10, .classic = {{1, 10}, {INFINITY, 10}}}, {{"with", "both"}});
        to.family(prom::metric_type::gauge_histogram, "waiting", "A collector's gauges.");
        to.histogram({.schema = 3, .positive = {{0, 4}}, .negative = {{0, 2}}, .count = 6, .sum = 2});
    });
    const prom::counter reset{"starts", "Reset now and then.", {}};
    prom::histogram moving{"moving", "Reset now and then.", {.native = eight}};

    const auto serve = [](const char* port, bool native, bool started) {
        return prom::start_http_server_in_thread({.addr = "127.0.0.1",
                                                  .port = static_cast<std::uint16_t>(std::atoi(port)),
                                                  .native_histograms = native,
                                                  .start_timestamps = started});
    };
    auto with = serve(arguments[1], true, true), without = serve(arguments[2], false, true), undated = serve(arguments[3], true, false);
    for (const auto* server : {&with, &without, &undated})
        if (!*server) return std::fprintf(stderr, "%s\n", server->why().describe()), 1;
    for (int i = 0;; ++i) {
        reset.inc();
        moving.observe(std::exp2(i % 16));
        if (i % 30 == 29) reset.reset(), moving.reset();
        // Children come and go while pages are made.
        many.remove(1000 + i % 900);
        many(1000 + i % 900).observe(1);
        ::usleep(100000);
    }
}
