// Rooms [50], [52], [53].
// The cursor: pages in every format, in windows of every size, while everything changes.
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"
#include "examples/promlint.hpp"

#include "support/allocations.hpp"
#include "support/values.hpp"
#include <doctest/doctest.h>

#include <algorithm>
#include <clocale>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#if !PROMETHEUS_ASYNC_NO_THREADS
#include <atomic>
#include <barrier>
#include <functional>
#include <optional>
#include <thread>
#include <vector>
#endif

namespace prom = prometheus_async;
using type = prom::metric_type;

namespace {
std::string page(prom::registry& r, prom::page_options options = {}) {
    prom::registry* const shown[] = {&r};
    options.registries = shown;
    return prom::expose(options);
}
constexpr prom::page_options openmetrics{.as = prom::format::openmetrics_1_0_0};

std::string pulled_by(prom::registry& r, std::size_t window, prom::page_options options = {}) {
    prom::registry* const shown[] = {&r};
    options.registries = shown;
    prom::cursor c;
    c.start(options);
    std::string out, buffer(window, '\0');
    for (;;) {
        const prom::pulled got = c.next(buffer);
        out.append(buffer, 0, got.bytes);
        if (got.what != prom::pull::more) return out;
        if (got.bytes == 0) return "nothing came, but more was promised";
    }
}
struct fixed_clock {
    fixed_clock() { prom::set_clock({[] { return 0.0; }, [] { return 1520430000.123; }}); }
    ~fixed_clock() { prom::set_clock(prom::system_clock()); }
};
/// One of everything.
struct everything {
    fixed_clock clock;
    prom::registry r;
    prom::counter c{"jobs", "Jobs \"done\"\nand \\ so on.", {.registry = &r, .labels = {{"zone", "a\"b\\c\nd"}}}};
    prom::gauge g{"temperature_celsius", "", {.registry = &r, .unit = "celsius"}};
    prom::family<prom::histogram, "path"> h{"latency_seconds", "Latency.", {.registry = &r, .buckets = {0.1, 1, 1e6}}};
    prom::summary s{"size_bytes", "Size.", {.registry = &r}};
    prom::info i{"build", "Build.", {.registry = &r}};
    prom::family<prom::state_set, "disk"> st{"mode", "Mode.", {.registry = &r, .states = {"idle", "busy"}}};
    prom::unknown u{"legacy", "Who knows.", {.registry = &r}};
    everything() {
        c.inc(3);
        g.set(-21.5);
        h("/a").observe(0.05);
        h("/a").observe(2);
        s.observe(1000);
        i.set({{"version", "1.2"}, {"rev", "x\"y"}});
        st(1).set("busy");
        st(2);
        u.set(1e23);
        r.target_info({{prom::utf8("service.name"), "shop"}});
    }
};
}  // namespace


TEST_CASE("text 0.0.4 shows every type") {
    everything e;
    CHECK(page(e.r) ==
          "# HELP target_info Target metadata\n# TYPE target_info gauge\ntarget_info{service_name=\"shop\"} 1\n"
          "# HELP jobs_total Jobs \"done\"\\nand \\\\ so on.\n# TYPE jobs_total counter\njobs_total{zone=\"a\\\"b\\\\c\\nd\"} 3\n"
          "# TYPE temperature_celsius gauge\ntemperature_celsius -21.5\n"
          "# HELP latency_seconds Latency.\n# TYPE latency_seconds histogram\n"
          "latency_seconds_bucket{path=\"/a\",le=\"0.1\"} 1\nlatency_seconds_bucket{path=\"/a\",le=\"1.0\"} 1\n"
          "latency_seconds_bucket{path=\"/a\",le=\"1e+06\"} 2\nlatency_seconds_bucket{path=\"/a\",le=\"+Inf\"} 2\n"
          "latency_seconds_sum{path=\"/a\"} 2.05\nlatency_seconds_count{path=\"/a\"} 2\n"
          "# HELP size_bytes Size.\n# TYPE size_bytes summary\nsize_bytes_sum 1000\nsize_bytes_count 1\n"
          "# HELP build_info Build.\n# TYPE build_info gauge\nbuild_info{version=\"1.2\",rev=\"x\\\"y\"} 1\n"
          "# HELP mode Mode.\n# TYPE mode gauge\nmode{disk=\"1\",mode=\"idle\"} 0\nmode{disk=\"1\",mode=\"busy\"} 1\n"
          "mode{disk=\"2\",mode=\"idle\"} 1\nmode{disk=\"2\",mode=\"busy\"} 0\n"
          "# HELP legacy Who knows.\n# TYPE legacy untyped\nlegacy 1e+23\n");
}

TEST_CASE("OpenMetrics 1.0.0 shows every type, units, and when series were made if asked") {
    everything e;
    CHECK(page(e.r, openmetrics) ==
          "# HELP target Target metadata\n# TYPE target info\ntarget_info{service_name=\"shop\"} 1\n"
          "# HELP jobs Jobs \\\"done\\\"\\nand \\\\ so on.\n# TYPE jobs counter\njobs_total{zone=\"a\\\"b\\\\c\\nd\"} 3\n"
          "# TYPE temperature_celsius gauge\n# UNIT temperature_celsius celsius\ntemperature_celsius -21.5\n"
          "# HELP latency_seconds Latency.\n# TYPE latency_seconds histogram\n"
          "latency_seconds_bucket{path=\"/a\",le=\"0.1\"} 1\nlatency_seconds_bucket{path=\"/a\",le=\"1.0\"} 1\n"
          "latency_seconds_bucket{path=\"/a\",le=\"1e+06\"} 2\nlatency_seconds_bucket{path=\"/a\",le=\"+Inf\"} 2\n"
          "latency_seconds_sum{path=\"/a\"} 2.05\nlatency_seconds_count{path=\"/a\"} 2\n"
          "# HELP size_bytes Size.\n# TYPE size_bytes summary\nsize_bytes_sum 1000\nsize_bytes_count 1\n"
          "# HELP build Build.\n# TYPE build info\nbuild_info{version=\"1.2\",rev=\"x\\\"y\"} 1\n"
          "# HELP mode Mode.\n# TYPE mode stateset\nmode{disk=\"1\",mode=\"idle\"} 0\nmode{disk=\"1\",mode=\"busy\"} 1\n"
          "mode{disk=\"2\",mode=\"idle\"} 1\nmode{disk=\"2\",mode=\"busy\"} 0\n"
          "# HELP legacy Who knows.\n# TYPE legacy unknown\nlegacy 1e+23\n# EOF\n");
    const std::string_view only[] = {"jobs", "size_bytes"};
    CHECK(page(e.r, {.as = prom::format::openmetrics_1_0_0, .only = only, .created = prom::created_series::openmetrics}) ==
          "# HELP jobs Jobs \\\"done\\\"\\nand \\\\ so on.\n# TYPE jobs counter\njobs_total{zone=\"a\\\"b\\\\c\\nd\"} 3\n"
          "jobs_created{zone=\"a\\\"b\\\\c\\nd\"} 1520430000.123\n"
          "# HELP size_bytes Size.\n# TYPE size_bytes summary\nsize_bytes_sum 1000\nsize_bytes_count 1\nsize_bytes_created 1520430000.123\n# EOF\n");
    CHECK(page(e.r, {.only = only, .created = prom::created_series::openmetrics}).find("_created") == std::string::npos);
}

TEST_CASE("behaviour 17: an old scraper gets the counter, then a gauge family of when it was made") {
    const fixed_clock clock;
    prom::registry r;
    const prom::counter c{"test_server_stats", "cnt", {.registry = &r}};
    c.inc();
    CHECK(page(r, {.created = prom::created_series::all}) ==
          "# HELP test_server_stats_total cnt\n# TYPE test_server_stats_total counter\ntest_server_stats_total 1\n"
          "# HELP test_server_stats_created cnt\n# TYPE test_server_stats_created gauge\ntest_server_stats_created 1.520430000123e+09\n");
}

TEST_CASE("behaviour 18: OpenMetrics has the family without _total, and ends with EOF") {
    const fixed_clock clock;
    prom::registry r;
    const prom::counter c{"test_server_stats", "cnt", {.registry = &r}};
    c.inc();
    CHECK(page(r, {.as = prom::format::openmetrics_1_0_0, .created = prom::created_series::all}) ==
          "# HELP test_server_stats cnt\n# TYPE test_server_stats counter\ntest_server_stats_total 1\n"
          "test_server_stats_created 1520430000.123\n# EOF\n");
}

TEST_CASE("server_stats() makes the page that its request asks for, each field by itself") {
    const fixed_clock clock;
    prom::registry r;
    prom::registry* const shown[] = {&r};
    r.make_counter(prom::utf8("caf\xc3\xa9"), "h").inc();
    r.make_counter("plain", "h").inc();
    r.make_histogram("h", "h", {.native = {.factor = 1.1}}).observe(1);
    const std::string_view only[] = {"plain_total"};
    const prom::format few[] = {prom::format::openmetrics_0_0_1};
    const std::string_view newest = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    using prom::format, prom::escaping;
    const auto gives = [&](prom::stats_request request, prom::page_options same) {
        request.registries = shown;
        const prom::stats_page got = prom::server_stats(request);
        CHECK(got.status == 200);
        CHECK(got.content_type == prom::content_type(same.as, same.names));
        CHECK(got.body == page(r, same));
        return got.body;
    };
    const std::string plain = gives({}, {});
    CHECK(gives({.accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"}, {.as = format::openmetrics_1_0_0, .names = escaping::allow_utf8}).find("{\"caf\xc3\xa9_total\"} 1") != std::string::npos);
    CHECK(gives({.accept = "text/plain;version=1.0.0;escaping=dots"}, {.as = format::text_1_0_0, .names = escaping::dots}) != plain);
    CHECK(gives({.only = only}, {.only = only}) != plain);
    CHECK(gives({.created = prom::created_series::all}, {.created = prom::created_series::all}) != plain);
    CHECK(gives({.accept = "text/plain;version=1.0.0, application/openmetrics-text;version=0.0.1;q=0.5", .formats = few}, {.as = format::openmetrics_0_0_1}) != plain);
    if (!PROMETHEUS_ASYNC_NO_NATIVE) {
        const std::string all = gives({.accept = newest}, {.as = format::protobuf});
        const std::string classic = gives({.accept = newest, .native_histograms = false}, {.as = format::protobuf, .native_histograms = false});
        const std::string timeless = gives({.accept = newest, .start_timestamps = false}, {.as = format::protobuf, .start_timestamps = false});
        CHECK(all != classic);
        CHECK(all != timeless);
    }
}

TEST_CASE("a page is the same through windows of every size") {
    everything e;
    for (int i = 0; i < 30; ++i) e.h("/path/" + std::string(static_cast<std::size_t>(i * 3), 'x')).observe(i);
    const prom::family<prom::counter, "l"> f{"f", "h", {.registry = &e.r}};
    for (int i = 0; i < 200; ++i) f(std::string(static_cast<std::size_t>(i), 'v') + std::to_string(i)).inc(static_cast<std::uint64_t>(i));
    for (const auto& options : {prom::page_options{}, openmetrics, prom::page_options{.names = prom::escaping::dots, .created = prom::created_series::all}}) {
        const std::string whole = page(e.r, options);
        for (std::size_t window = 64; window < 600; window += window < 140 ? 1 : 13) CHECK(pulled_by(e.r, window, options) == whole);
    }
    CHECK(prom::expose({.as = prom::format::text_0_0_4}).find("jobs") == std::string::npos);
    prom::cursor refused;
    refused.start({});
    char tiny[63];
    CHECK(refused.next(tiny).what == prom::pull::failed);
}

TEST_CASE("a name in UTF-8 is quoted, or escaped as the scraper asked") {
    prom::registry r;
    const prom::family<prom::counter, "ok"> f{prom::utf8("http.requests"), "h", {.registry = &r, .labels = {{prom::utf8("a.b"), "c\"d"}}}};
    f(1).inc();
    const prom::gauge g{prom::utf8("温度"), "", {.registry = &r}};
    g.set(2);
    const prom::gauge labels_only{"plain_name", "", {.registry = &r, .labels = {{prom::utf8("x-y"), "z"}}}};
    CHECK(page(r) == "# HELP http_requests_total h\n# TYPE http_requests_total counter\nhttp_requests_total{a_b=\"c\\\"d\",ok=\"1\"} 1\n"
                     "# TYPE __ gauge\n__ 2\n# TYPE plain_name gauge\nplain_name{x_y=\"z\"} 0\n");
    CHECK(page(r, {.as = prom::format::text_1_0_0, .names = prom::escaping::allow_utf8}) ==
          "# HELP \"http.requests_total\" h\n# TYPE \"http.requests_total\" counter\n"
          "{\"http.requests_total\",\"a.b\"=\"c\\\"d\",ok=\"1\"} 1\n# TYPE \"温度\" gauge\n{\"温度\"} 2\n"
          "# TYPE plain_name gauge\nplain_name{\"x-y\"=\"z\"} 0\n");
    CHECK(page(r, {.names = prom::escaping::values}).find("U__http_2e_requests__total{U__a_2e_b=\"c\\\"d\",ok=\"1\"} 1\n") != std::string::npos);
    CHECK(page(r, {.names = prom::escaping::dots}).find("http_dot_requests__total{a_dot_b=\"c\\\"d\",ok=\"1\"} 1\n") != std::string::npos);
    CHECK(page(r, {.names = prom::escaping::dots}).find("plain__name{x__y=\"z\"} 0\n") != std::string::npos);
}

TEST_CASE("of two registries' names that escaping makes one, the second is left out, with an event each time a page loses it") {
    prom::registry r, later;
    prom::gauge{prom::utf8("c.d"), "", {.registry = &r}}.set(4);
    prom::gauge{prom::utf8("a.b"), "", {.registry = &r}}.set(2);
    prom::gauge{"a_b", "", {.registry = &later}}.set(1);  // one that is never escaped wins
    prom::gauge{prom::utf8("c-d"), "", {.registry = &later}}.set(5);
    const auto handle = later.add_collector([](prom::sample_sink& to) {
        to.family(prom::metric_type::gauge, prom::utf8("c d"), "");
        to.sample(6);
    });
    prom::registry* const both[] = {&r, &later};
    std::vector<std::string> told;
    prom::page_options options{.registries = both, .on_event = [](const prom::event& e, void* to) {
                                   CHECK(e.kind == prom::event_kind::names_collided);
                                   static_cast<std::vector<std::string>*>(to)->push_back(e.why.describe());
                               }, .context = &told};
    for (int time = 0; time != 2; ++time)
        for (const auto names : {prom::escaping::underscores, prom::escaping::dots}) {
            const std::uint64_t before = prom::event_count(prom::event_kind::names_collided);
            options.names = names;
            const bool dots = names == prom::escaping::dots;
            told.clear();
            const std::string shown = prom::expose(options);
            CHECK(shown.find("4\n") != std::string::npos);
            CHECK(shown.find("1\n") != std::string::npos);
            CHECK(shown.find(" 2\n") == (dots ? shown.find("a_dot_b 2\n") + 7 : std::string::npos));
            CHECK(shown.find(" 6\n") == std::string::npos);
            if (dots) CHECK(told == std::vector<std::string>{"a collector is left out: c d: its name is already used on this page"});
            else CHECK(told == std::vector<std::string>{"a collector is left out: c d: its name is already used on this page",
                                                         "a.b is left out: its name is already used on this page", "c-d is left out: its name is already used on this page"});
            CHECK(prom::event_count(prom::event_kind::names_collided) == before + told.size());
        }
    options.as = prom::format::text_1_0_0;
    options.names = prom::escaping::allow_utf8;
    told.clear();
    CHECK(prom::expose(options) == "# TYPE \"c.d\" gauge\n{\"c.d\"} 4\n# TYPE \"a.b\" gauge\n{\"a.b\"} 2\n# TYPE a_b gauge\na_b 1\n"
                                   "# TYPE \"c-d\" gauge\n{\"c-d\"} 5\n# TYPE \"c d\" gauge\n{\"c d\"} 6\n");
    CHECK(told.empty());
}

TEST_CASE("what merged registries have is told once: the first help and unit that one has, one target_info, each series once") {
    prom::registry a, b;
    const prom::gauge first{"x_seconds", "", {.registry = &a}};
    const prom::gauge second{"x", "Of b.", {.registry = &b, .unit = "seconds", .labels = {}}};
    a.target_info({{"service", "a"}});
    b.target_info({{"service", "b"}});
    prom::registry* const both[] = {&a, &b};
    std::vector<std::string> told;
    const prom::page_options options{.as = prom::format::openmetrics_1_0_0, .registries = both, .on_event = [](const prom::event& e, void* to) {
                                         if (e.kind == prom::event_kind::names_collided) static_cast<std::vector<std::string>*>(to)->push_back(e.why.describe());
                                     }, .context = &told};
    const std::string shown = "# HELP target Target metadata\n# TYPE target info\ntarget_info{service=\"a\"} 1\n"
                              "# HELP x_seconds Of b.\n# TYPE x_seconds gauge\n# UNIT x_seconds seconds\nx_seconds 0\n# EOF\n";
    prom::expose(options);
    for (int time = 0; time != 2; ++time) {
        told.clear();
        CHECK(prom::expose(options) == shown);
        CHECK(told == std::vector<std::string>{"target_info of a later registry is left out: a page has one",
                                               "x_seconds: a series is left out: an earlier registry has it"});
    }
    b.target_info({{"service", "a"}});  // the same
    told.clear();
    CHECK(prom::expose(options) == shown);
    CHECK(told.size() == 1);
}

TEST_CASE("OpenMetrics has no sum that is negative or NaN, and no count then; one event a series") {
    const fixed_clock clock;
    const double nan = __builtin_nan(""), inf = __builtin_inf();
    prom::registry r;
    const prom::family<prom::histogram, "v"> h{"h", "", {.registry = &r, .buckets = {1}}};
    const prom::family<prom::summary, "v"> s{"s", "", {.registry = &r}};
    for (const double v : {nan, -1.0, -inf, inf, -0.0}) {
        const std::string text = v != v ? "nan" : std::to_string(v);
        h(text).observe(v);
        s(text).observe(v);
    }
    const auto handle = r.add_collector([=](prom::sample_sink& to) {
        to.family(prom::metric_type::summary, "cs", "");
        to.summary(2, -1, {{0.5, -1}, {0.9, nan}, {1, 3}});
        to.family(prom::metric_type::gauge_histogram, "cg", "");
        to.histogram({{1, 1}, {inf, 2}}, -1, {{"of", "over zero"}});
        to.histogram({{-1, 1}, {inf, 2}}, -1, {{"of", "below zero"}});
        to.histogram({{-1, 1}, {inf, 2}}, nan, {{"of", "NaN"}});
        to.family(prom::metric_type::histogram, "ch", "");
        to.histogram({{1, 1}, {inf, 2}}, -0.5);
    });
    const std::string shown =
        "# TYPE h histogram\nh_bucket{v=\"nan\",le=\"1.0\"} 0\nh_bucket{v=\"nan\",le=\"+Inf\"} 1\n"
        "h_bucket{v=\"-1.000000\",le=\"1.0\"} 1\nh_bucket{v=\"-1.000000\",le=\"+Inf\"} 1\n"
        "h_bucket{v=\"-inf\",le=\"1.0\"} 1\nh_bucket{v=\"-inf\",le=\"+Inf\"} 1\n"
        "h_bucket{v=\"inf\",le=\"1.0\"} 0\nh_bucket{v=\"inf\",le=\"+Inf\"} 1\nh_sum{v=\"inf\"} +Inf\nh_count{v=\"inf\"} 1\n"
        "h_bucket{v=\"-0.000000\",le=\"1.0\"} 1\nh_bucket{v=\"-0.000000\",le=\"+Inf\"} 1\nh_sum{v=\"-0.000000\"} 0\nh_count{v=\"-0.000000\"} 1\n"
        "# TYPE s summary\ns_sum{v=\"inf\"} +Inf\ns_count{v=\"inf\"} 1\ns_sum{v=\"-0.000000\"} 0\ns_count{v=\"-0.000000\"} 1\n"
        "# TYPE cs summary\ncs{quantile=\"0.9\"} NaN\ncs{quantile=\"1.0\"} 3\n"
        "# TYPE cg gaugehistogram\ncg_bucket{of=\"over zero\",le=\"1.0\"} 1\ncg_bucket{of=\"over zero\",le=\"+Inf\"} 2\n"
        "cg_bucket{of=\"below zero\",le=\"-1.0\"} 1\ncg_bucket{of=\"below zero\",le=\"+Inf\"} 2\ncg_gsum{of=\"below zero\"} -1\ncg_gcount{of=\"below zero\"} 2\n"
        "cg_bucket{of=\"NaN\",le=\"-1.0\"} 1\ncg_bucket{of=\"NaN\",le=\"+Inf\"} 2\n"
        "# TYPE ch histogram\nch_bucket{le=\"1.0\"} 1\nch_bucket{le=\"+Inf\"} 2\n# EOF\n";
    std::vector<std::string> told;
    prom::registry* const shown_of[] = {&r};
    const prom::page_options options{.as = prom::format::openmetrics_1_0_0, .registries = shown_of, .on_event = [](const prom::event& e, void* to) {
                                         if (e.kind == prom::event_kind::sum_left_out) static_cast<std::vector<std::string>*>(to)->push_back(e.why.describe());
                                     }, .context = &told};
    const std::uint64_t before = prom::event_count(prom::event_kind::sum_left_out);
    CHECK(page(r).find("h_sum{v=\"nan\"} NaN\nh_count{v=\"nan\"} 1\n") != std::string::npos);  // the text formats keep them
    CHECK(page(r).find("cg_sum{of=\"NaN\"} NaN\ncg_count{of=\"NaN\"} 2\n") != std::string::npos);
    CHECK(page(r).find("cs{quantile=\"0.5\"} -1\n") != std::string::npos);
    CHECK(prom::event_count(prom::event_kind::sum_left_out) == before);
    CHECK(prom::expose(options) == shown);
    CHECK(told.size() == 10);
    CHECK(std::find(told.begin(), told.end(), "h{v=\"nan\"}: OpenMetrics pages leave out a sum that is negative or NaN") != told.end());
    CHECK(prom::event_count(prom::event_kind::sum_left_out) == before + 10);
    CHECK(prom::expose(options) == shown);
    CHECK(told.size() == 10);
    h("nan").reset();
    h("nan").observe(1);
    CHECK(prom::expose(options).find("h_sum{v=\"nan\"} 1\n") != std::string::npos);
    h("nan").observe(nan);
    prom::expose(options);
    CHECK(told.size() == 11);
}

TEST_CASE("name[] takes family names and sample names") {
    everything e;
    const auto has = [&](std::string_view name, std::string_view found) {
        const std::string_view only[] = {name};
        const std::string got = page(e.r, {.only = only});
        return got.find(found) != std::string::npos && std::count(got.begin(), got.end(), '#') <= 2;
    };
    CHECK(has("jobs_total", "jobs_total{"));
    CHECK(has("jobs", "jobs_total{"));
    CHECK(has("latency_seconds", "latency_seconds_count{"));
    CHECK(has("latency_seconds_bucket", "latency_seconds_bucket{"));
    CHECK(has("size_bytes_sum", "size_bytes_sum "));
    CHECK(has("build_info", "build_info{"));
    CHECK(has("target_info", "target_info{"));
    const std::string_view none[] = {"jobs_bucket", "nothing"};
    CHECK(page(e.r, {.only = none}).empty());
    prom::registry dotted;
    prom::counter{prom::utf8("a.b"), "", {.registry = &dotted}}.inc();
    for (const std::string_view seen : {"a.b", "a.b_total", "a_b", "a_b_total"}) {
        const std::string_view only[] = {seen};
        CHECK(page(dotted, {.only = only}) == "# TYPE a_b_total counter\na_b_total 1\n");
    }
}

TEST_CASE("exemplars stand beside the sample in OpenMetrics, and nowhere else") {
    const fixed_clock clock;
    prom::registry r;
    const prom::counter c{"c", "", {.registry = &r}};
    const prom::histogram h{"h", "", {.registry = &r, .buckets = {1, 2}}};
    c.inc(2, prom::exemplar{{{"trace_id", "a\"b"}}});
    h.observe(1.5, prom::exemplar{{{"trace_id", "old"}}, 12.5});
    h.observe(1.75, prom::exemplar{{{"trace_id", "new"}, {"span_id", "s"}}, 13.5});
    h.observe(99, prom::exemplar{{}});
    CHECK(page(r, openmetrics) ==
          "# TYPE c counter\nc_total 2 # {trace_id=\"a\\\"b\"} 2 1520430000.123\n# TYPE h histogram\nh_bucket{le=\"1.0\"} 0\n"
          "h_bucket{le=\"2.0\"} 2 # {trace_id=\"new\",span_id=\"s\"} 1.75 13.5\nh_bucket{le=\"+Inf\"} 3 # {} 99 1520430000.123\n"
          "h_sum 102.25\nh_count 3\n# EOF\n");
    CHECK(page(r).find("trace_id") == std::string::npos);
    const std::uint64_t before = prom::event_count(prom::event_kind::exemplar_dropped);
    std::string umlauts;
    for (int i = 0; i < 120; ++i) umlauts += "\xc3\xbc";
    c.inc(1, prom::exemplar{{{"trace_id", umlauts}}});  // 128 code points
    CHECK(prom::event_count(prom::event_kind::exemplar_dropped) == before);
    CHECK(page(r, openmetrics).find(umlauts) != std::string::npos);
    umlauts += 'x';
    c.inc(1, prom::exemplar{{{"trace_id", umlauts}}});
    c.inc(1, prom::exemplar{{{"trace id", "x"}}});
    CHECK(prom::event_count(prom::event_kind::exemplar_dropped) == before + 2);
    CHECK(c.value() == 5);
    c.inc(1, prom::exemplar{{{"trace_id", "a\xff"}}});
    CHECK(page(r, openmetrics).find("{trace_id=\"a\xef\xbf\xbd\"} 1 ") != std::string::npos);
}

TEST_CASE("registries on one page are merged: a name has one head, a series one line") {
    prom::registry a, b;
    const prom::family<prom::counter, "l"> fa{"f", "h", {.registry = &a}}, fb{"f", "other help", {.registry = &b}};
    fa("1").inc();
    fa("a value of more than sixteen bytes").inc();
    fb("1").inc(10);
    fb("2").inc(10);
    fb("a value of more than sixteen bytes").inc(10);
    fb("a value of more than sixteen bytez").inc(10);
    prom::gauge{"same", "", {.registry = &a}}.set(1);
    prom::gauge{"same", "", {.registry = &b}}.set(2);
    prom::gauge{"kind", "", {.registry = &a}}.set(1);
    prom::counter{"kind", "", {.registry = &b}}.inc();
    prom::gauge{"constant", "", {.registry = &a, .labels = {{"from", "a"}}}}.set(1);
    prom::gauge{"constant", "", {.registry = &b, .labels = {{"from", "b"}}}}.set(2);
    prom::gauge{"only_b", "", {.registry = &b}}.set(3);
    prom::registry* const both[] = {&a, &b, &a};
    const std::string expected =
        "# HELP f_total h\n# TYPE f_total counter\nf_total{l=\"1\"} 1\nf_total{l=\"a value of more than sixteen bytes\"} 1\n"
        "f_total{l=\"2\"} 10\nf_total{l=\"a value of more than sixteen bytez\"} 10\n"
        "# TYPE same gauge\nsame 1\n# TYPE kind gauge\nkind 1\n"
        "# TYPE constant gauge\nconstant{from=\"a\"} 1\nconstant{from=\"b\"} 2\n# TYPE only_b gauge\nonly_b 3\n";
    CHECK(prom::expose({.registries = both}) == expected);
    prom::cursor c;
    c.start({.registries = both});
    std::string out;
    char window[64];
    for (prom::pulled got{0, prom::pull::more}; got.what == prom::pull::more;) {
        got = c.next(window);
        out.append(window, got.bytes);
    }
    CHECK(out == expected);
}

TEST_CASE("a collector yields families of every type") {
    const fixed_clock clock;
    prom::registry r;
    const auto handle = r.add_collector([](prom::sample_sink& to) {
        to.family(type::counter, "hits", "Hits.");
        to.sample(5, {{"a", "x\n"}}, {.created = 3, .example = {{{"id", "7"}}, 4.5}, .example_value = 2});
        to.sample(6, {{"a", "y"}}, {.timestamp = 1.5});
        to.family(type::gauge, "level", "", "bytes");
        to.sample(-1);
        to.family(type::histogram, "h", "");
        to.histogram({{1, 2}, {infinity(), 3}}, 4.5, {{"a", "b"}});
        to.family(type::gauge_histogram, "gh", "");
        to.histogram({{1, 2}, {infinity(), 3}}, 4.5);
        to.family(type::histogram, "nh", "");
        to.histogram({.schema = 3, .zero_count = 1, .positive = {{-2, 3}, {5, 2}}, .negative = {{0, 1}}, .count = 7, .sum = 2.5}, {{"a", "b"}});
        to.family(type::gauge_histogram, "ngh", "");
        to.histogram({.positive = {{0, 3}}, .count = 3, .sum = 4.5, .classic = {{1, 2}, {infinity(), 3}}});
        to.family(type::summary, "s", "");
        to.summary(3, 4.5, {{0.5, 1}, {0.99, 2}});
        to.family(type::info, "i", "");
        to.sample(1, {{"v", "1"}});
        to.family(type::state_set, "st", "");
        to.states({{"on", true}, {"off", false}}, {{"a", "b"}});
        to.family(type::unknown, "u", "");
        to.sample(1);
        to.family(type::gauge, "empty", "");
    });
    CHECK(page(r, {.created = prom::created_series::all}) ==
          "# HELP hits_total Hits.\n# TYPE hits_total counter\nhits_total{a=\"x\\n\"} 5\nhits_total{a=\"y\"} 6 1500\n"
          "# HELP hits_created Hits.\n# TYPE hits_created gauge\nhits_created{a=\"x\\n\"} 3\n"
          "# TYPE level_bytes gauge\nlevel_bytes -1\n"
          "# TYPE h histogram\nh_bucket{a=\"b\",le=\"1.0\"} 2\nh_bucket{a=\"b\",le=\"+Inf\"} 3\nh_sum{a=\"b\"} 4.5\nh_count{a=\"b\"} 3\n"
          "# TYPE gh histogram\ngh_bucket{le=\"1.0\"} 2\ngh_bucket{le=\"+Inf\"} 3\n"
          "gh_sum 4.5\ngh_count 3\n"
          "# TYPE nh histogram\nnh_bucket{a=\"b\",le=\"+Inf\"} 7\nnh_sum{a=\"b\"} 2.5\nnh_count{a=\"b\"} 7\n"
          "# TYPE ngh histogram\nngh_bucket{le=\"1.0\"} 2\nngh_bucket{le=\"+Inf\"} 3\nngh_sum 4.5\nngh_count 3\n"
          "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns{quantile=\"0.99\"} 2\ns_sum 4.5\ns_count 3\n"
          "# TYPE i_info gauge\ni_info{v=\"1\"} 1\n# TYPE st gauge\nst{a=\"b\",st=\"on\"} 1\nst{a=\"b\",st=\"off\"} 0\n"
          "# TYPE u untyped\nu 1\n# TYPE empty gauge\n");
    CHECK(page(r, openmetrics) ==
          "# HELP hits Hits.\n# TYPE hits counter\nhits_total{a=\"x\\n\"} 5 # {id=\"7\"} 2 4.5\nhits_total{a=\"y\"} 6 1.5\n"
          "# TYPE level_bytes gauge\n# UNIT level_bytes bytes\nlevel_bytes -1\n"
          "# TYPE h histogram\nh_bucket{a=\"b\",le=\"1.0\"} 2\nh_bucket{a=\"b\",le=\"+Inf\"} 3\nh_sum{a=\"b\"} 4.5\nh_count{a=\"b\"} 3\n"
          "# TYPE gh gaugehistogram\ngh_bucket{le=\"1.0\"} 2\ngh_bucket{le=\"+Inf\"} 3\ngh_gsum 4.5\ngh_gcount 3\n"
          "# TYPE nh histogram\nnh_bucket{a=\"b\",le=\"+Inf\"} 7\nnh_sum{a=\"b\"} 2.5\nnh_count{a=\"b\"} 7\n"
          "# TYPE ngh gaugehistogram\nngh_bucket{le=\"1.0\"} 2\nngh_bucket{le=\"+Inf\"} 3\nngh_gsum 4.5\nngh_gcount 3\n"
          "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns{quantile=\"0.99\"} 2\ns_sum 4.5\ns_count 3\n"
          "# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE st stateset\nst{a=\"b\",st=\"on\"} 1\nst{a=\"b\",st=\"off\"} 0\n"
          "# TYPE u unknown\nu 1\n# TYPE empty gauge\n# EOF\n");
    const std::string_view only[] = {"level_bytes", "s_sum"};
    CHECK(page(r, {.only = only}) ==
          "# TYPE level_bytes gauge\nlevel_bytes -1\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns{quantile=\"0.99\"} 2\ns_sum 4.5\ns_count 3\n");
}

TEST_CASE("a series that a collector yields shows nothing of the one before it") {
    const fixed_clock clock;
    prom::registry r;
    const auto handle = r.add_collector([](prom::sample_sink& to) {
        static const prom::label id[] = {{"id", "7"}};
        const prom::sample_details all{.timestamp = 1.5, .created = 3, .example = {id, 4.5}, .example_value = 0.5};
        to.family(type::counter, "c", "");
        to.sample(1, {{"a", "x"}, {"b", "y"}}, all);
        to.sample(2, {{"a", "z"}});
        to.family(type::histogram, "h", "");
        to.histogram({{1, 2}, {2, 3}, {infinity(), 4}}, 4.5, {{"a", "x"}}, all);
        to.histogram({{infinity(), 1}}, 0.5, {{"a", "z"}});
        to.family(type::summary, "s", "");
        to.summary(3, 4.5, {{0.5, 1}, {0.99, 2}}, {{"a", "x"}}, all);
        to.summary(1, 0.5, {}, {{"a", "z"}});
        to.family(type::state_set, "st", "");
        to.states({{"on", true}, {"off", false}}, {{"a", "x"}});
        to.states({{"idle", true}}, {{"a", "z"}});
    });
    auto asked = openmetrics;
    asked.created = prom::created_series::all;
    const std::string said = page(r, asked);
    std::string plain;  // the lines of what has the label z
    for (std::size_t at = 0, end; at != said.size(); at = end + 1) {
        end = said.find('\n', at);
        const std::string line = said.substr(at, end - at + 1);
        if (line.find("a=\"z\"") != std::string::npos) plain += line;
    }
    CHECK(plain == "c_total{a=\"z\"} 2\n"
                   "h_bucket{a=\"z\",le=\"+Inf\"} 1\nh_sum{a=\"z\"} 0.5\nh_count{a=\"z\"} 1\n"
                   "s_sum{a=\"z\"} 0.5\ns_count{a=\"z\"} 1\n"
                   "st{a=\"z\",st=\"idle\"} 1\n");
    CHECK(said.find("c_created{a=\"x\",b=\"y\"}") != std::string::npos);
}

TEST_CASE("a collector that yields nonsense is left out, counted and reported; the page stays valid") {
    using sink = prom::sample_sink;
    static void (*const nonsense[])(sink&) = {
        [](sink& to) { to.sample(1); },
        [](sink& to) { to.family(type::gauge, "", ""); },
        [](sink& to) { to.family(type::gauge, "\xff", ""); },
        [](sink& to) { to.family(type::gauge, "before", ""); to.sample(1); },
        [](sink& to) { to.family(type::gauge, "after_sum", ""); to.sample(1); },
        [](sink& to) { to.family(type::gauge, "x", ""); to.sample(1); to.family(type::counter, "x", ""); },
        [](sink& to) { to.family(type::gauge, "x", ""); to.sample(1); to.family(type::gauge, "x", ""); },
        [](sink& to) { to.family(type::gauge, "x", ""); to.sample(1); to.sample(1); },
        [](sink& to) { to.family(type::gauge, "x", ""); to.sample(1, {{"a", "1"}, {"b", "2"}}); to.sample(2, {{"b", "2"}, {"a", "1"}, {"c", ""}}); },
        [](sink& to) { to.family(type::gauge, "x", ""); to.sample(1, {{"a", "1"}, {"a", "2"}}); },
        [](sink& to) { to.family(type::gauge, "x", ""); to.sample(1, {{"", "1"}}); },
        [](sink& to) { to.family(type::gauge, "x", ""); to.sample(1, {{"__name__", "1"}}); },
        [](sink& to) { to.family(type::gauge, "x", ""); to.summary(1, 1); },
        [](sink& to) { to.family(type::summary, "x", ""); to.sample(1); },
        [](sink& to) { to.family(type::summary, "x", ""); to.summary(1, 1, {}, {{"quantile", "1"}}); },
        [](sink& to) { to.family(type::summary, "x", ""); to.summary(1, 1, {{1.5, 1}}); },
        [](sink& to) { to.family(type::histogram, "x", ""); to.histogram({{1, 1}}, 1); },
        [](sink& to) { to.family(type::histogram, "x", ""); to.histogram({{__builtin_nan(""), 1}, {infinity(), 2}}, 1); },
        [](sink& to) { to.family(type::histogram, "x", ""); to.histogram({{-__builtin_nan(""), 1}, {infinity(), 2}}, 1); },
        [](sink& to) { to.family(type::histogram, "x", ""); to.histogram({{1, 2}, {infinity(), 1}}, 1); },
        [](sink& to) { to.family(type::histogram, "x", ""); to.histogram({{1, 2}, {infinity(), 3}}, 1, {{"le", "1"}}); },
        [](sink& to) { to.family(type::histogram, "x", ""); to.histogram({.positive = {{0, 1}}, .count = 2}); },
        [](sink& to) { to.family(type::summary, "x", ""); to.histogram({.zero_count = 1, .count = 1}); },
        [](sink& to) { to.family(type::counter, "x", ""); to.sample(-1); },
        [](sink& to) { to.family(type::counter, "x", ""); to.sample(not_a_number()); },
        [](sink& to) { to.family(type::info, "x", "", "seconds"); },
        [](sink& to) { to.family(type::state_set, "x", ""); to.states({{"a", true}, {"a", false}}); },
        [](sink& to) { to.family(type::gauge, "x", ""); to.sample(1); to.fail("changed its mind"); },
        [](sink& to) {
            to.family(type::gauge, "x", "");
            for (int i = 0; i < 100000; ++i) to.sample(1, {{"i", std::to_string(i)}});
        },
#if PROMETHEUS_ASYNC_EXCEPTIONS
        [](sink& to) { to.family(type::gauge, "x", ""); to.sample(1); throw std::runtime_error("no sensor"); },
        [](sink&) { throw 1; },
#endif
    };
    static std::string told;
    for (std::size_t i = 0; i != std::size(nonsense); ++i) {
        CAPTURE(i);
        prom::registry r;
        prom::gauge{"before", "", {.registry = &r}}.set(1);
        const auto handle = r.add_collector(nonsense[i]);
        const auto good = r.add_collector([](sink& to) {
            to.family(type::gauge, "x", "");
            to.sample(7);
        });
        const prom::summary after{"after", "", {.registry = &r}};
        told.clear();
        const std::uint64_t before = prom::event_count(prom::event_kind::callback_failed);
        const prom::page_options options{.collector_bytes = 100000, .on_event = [](const prom::event& e, void*) { told = e.why.describe(); }};
        CHECK(page(r, options) == "# TYPE before gauge\nbefore 1\n# TYPE x gauge\nx 7\n# TYPE after summary\nafter_sum 0\nafter_count 0\n");
        CHECK(told.substr(0, 24) == "a collector is left out:");
        CHECK(prom::event_count(prom::event_kind::callback_failed) == before + 1);
        prom::registry* const shown[] = {&r};
        prom::cursor c;
        c.start({.registries = shown, .on_collector_error = prom::collector_errors::fail, .collector_bytes = 100000});
        char window[1024];
        CHECK(c.next(window).what == prom::pull::failed);
        CHECK(c.next(window).what == prom::pull::failed);
    }
}

TEST_CASE("what updates had to swallow is told when the next page begins, once") {
    static std::string told;
    prom::registry r;
    const prom::counter c{"c", "", {.registry = &r}};
    const prom::page_options options{.on_event = [](const prom::event& e, void*) { told.append(e.why.describe()) += ';'; }};
    page(r, options);
    told.clear();
    c.inc(-1);
    c.inc(-1);
    page(r, options);
    CHECK(told == "a counter was given a negative or NaN step;");
    page(r, options);
    CHECK(told == "a counter was given a negative or NaN step;");
}

TEST_CASE("a collector may update, declare, remove, scrape, and end itself") {
    prom::registry r;
    const prom::counter calls{"calls", "", {.registry = &r}};
    const prom::family<prom::gauge, "l"> f{"f", "", {.registry = &r}};
    prom::collector_handle handle;
    handle = r.add_collector([&](prom::sample_sink& to) {
        calls.inc();
        f(static_cast<int>(calls.value())).set(1);
        f.remove(static_cast<int>(calls.value()) - 1);
        r.make_gauge("born_" + std::to_string(static_cast<int>(calls.value())), "");
        prom::registry other;
        prom::gauge{"g", "", {.registry = &other}}.set(1);
        CHECK(page(other) == "# TYPE g gauge\ng 1\n");
        to.family(type::gauge, "x", "");
        to.sample(1);
        if (calls.value() == 3) handle.remove();
    });
    CHECK(page(r).find("x 1\n") != std::string::npos);
    CHECK(page(r).find("born_1 0\n") != std::string::npos);
    CHECK(page(r).find("x 1\n") != std::string::npos);  // the call that ends it still counts
    CHECK(page(r).find("x 1\n") == std::string::npos);
    CHECK(calls.value() == 3);
}

TEST_CASE("a collector may read the registry that it belongs to: it is not on a page that it makes itself") {
    prom::registry r, other;
    r.make_counter("c_total", "").inc(4);
    std::string inner;
    const prom::callback_gauge twice("twice", "", [&] { return 2 * r.sample_value("c_total").value(); }, {.registry = &r});
    const auto handle = r.add_collector([&](prom::sample_sink& to) {
        inner = page(r);
        to.family(type::gauge, "x", "");
        to.sample(static_cast<double>(page(other).size()));
    });
    const auto back = other.add_collector([&](prom::sample_sink& to) {
        to.family(type::gauge, "y", "");
        to.sample(page(r).find("x ") != std::string::npos);
    });
    const std::string whole = page(r);
    CHECK(whole.find("twice 8\n") != std::string::npos);
    CHECK(whole.find("x 19\n") != std::string::npos);
    CHECK(inner.find("twice 8\n") != std::string::npos);
    CHECK(inner.find("x ") == std::string::npos);
    CHECK(page(other) == "# TYPE y gauge\ny 1\n");  // x is on it: only y is its own
    CHECK(r.sample_value("twice").value() == 8);
}

namespace {
struct probe final : prom::collector {
    int calls = 0;
    void collect(prom::sample_sink& out) override {
        out.family(type::gauge, "probe", "");
        out.sample(++calls);
    }
};
}  // namespace

TEST_CASE("collectors live as long as their handle, or, kept, as their registry") {
    probe p;
    {
        prom::registry r;
        {
            const auto handle = r.add_collector(p);
            CHECK(page(r) == "# TYPE probe gauge\nprobe 1\n");
        }
        CHECK(page(r).empty());
        r.add_collector(p).keep();
        CHECK(page(r) == "# TYPE probe gauge\nprobe 2\n");
    }
    prom::collector_handle orphan;
    {
        prom::registry r;
        orphan = r.add_collector(p);
    }
    orphan.remove();
    CHECK(p.calls == 2);
}

TEST_CASE("callback metrics ask a function at each scrape") {
    prom::registry r;
    double depth = 3;
    {
        const prom::callback_gauge g{"depth", "h", [&] { return depth; }, {.registry = &r, .name_space = "app", .labels = {{"a", "b"}}}};
        const prom::callback_counter c{"ticks", "", [] { return 42.0; }, {.registry = &r}};
        CHECK(page(r) == "# HELP app_depth h\n# TYPE app_depth gauge\napp_depth{a=\"b\"} 3\n# TYPE ticks_total counter\nticks_total 42\n");
        depth = 4;
        CHECK(r.sample_value("app_depth", {{"a", "b"}}).value() == 4);
        CHECK(r.try_gauge("ticks", "").why().code() == prom::errc::conflict);
#if PROMETHEUS_ASYNC_EXCEPTIONS
        CHECK_THROWS_AS((prom::callback_gauge{"ticks", "", [] { return 1.0; }, {.registry = &r}}), prom::failure);
        const prom::callback_gauge broken{"broken", "", []() -> double { throw std::runtime_error("no"); }, {.registry = &r}};
        CHECK(page(r).find("broken") == std::string::npos);
#endif
    }
    CHECK(page(r).empty());
    prom::gauge{"ticks", "", {.registry = &r}}.set(1);
}

TEST_CASE("sample_value reads any sample, in any locale") {
    everything e;
    CHECK(e.r.sample_value("jobs_total", {{"zone", "a\"b\\c\nd"}}).value() == 3);
    CHECK(e.r.sample_value("latency_seconds_bucket", {{"le", "1.0"}, {"path", "/a"}}).value() == 1);
    CHECK(e.r.sample_value("latency_seconds_sum", {{"path", "/a"}}).value() == 2.05);
    CHECK(e.r.sample_value("jobs_created", {{"zone", "a\"b\\c\nd"}}).value() == 1520430000.123);
    CHECK(e.r.sample_value("mode", {{"disk", "1"}, {"mode", "busy"}}).value() == 1);
    CHECK(e.r.sample_value("legacy").value() == 1e23);
    prom::gauge{prom::utf8("a b"), "", {.registry = &e.r, .labels = {{prom::utf8("c d"), "e f"}}}}.set(0.1);
    if (std::setlocale(LC_ALL, "de_DE.UTF-8")) {
        CHECK(e.r.sample_value("a b", {{"c d", "e f"}}).value() == 0.1);
        std::setlocale(LC_ALL, "C");
    }
    CHECK(e.r.sample_value("a b", {{"c d", "e f"}}).value() == 0.1);
    CHECK(std::string(e.r.sample_value("jobs_total", {{"zone", "x"}}).why().describe()) == "no sample jobs_total{zone=\"x\",}");
    CHECK(!e.r.sample_value("latency_seconds_sum"));
}

TEST_CASE("series that come and go during a scrape: none twice, those that stay exactly once") {
    prom::registry r;
    const prom::family<prom::counter, "l"> f{"f", "", {.registry = &r}};
    const prom::family<prom::histogram, "l"> h{"h", "", {.registry = &r, .buckets = {1}}};
    for (int i = 0; i < 500; ++i) {
        f(i).inc();
        h(i).observe(1);
    }
    for (const std::size_t window : {64U, 200U, 1000U}) {
        prom::registry* const shown[] = {&r};
        prom::cursor c;
        c.start({.registries = shown});
        std::string out, buffer(window, '\0');
        int step = 0;
        for (prom::pulled got{0, prom::pull::more}; got.what == prom::pull::more; ++step) {
            got = c.next(buffer);
            out.append(buffer, 0, got.bytes);
            const int i = (step * 7) % 500;
            if (i % 2) {  // the even ones stay
                f.remove(i);
                h.remove(i);
                f(i).inc();
                h(i).observe(2);
                f("new " + std::to_string(step)).inc();
            }
        }
        std::map<std::string, int> seen;
        for (std::size_t at = 0; at < out.size();) {
            const std::size_t end = out.find('\n', at);
            ++seen[out.substr(at, out.find(' ', out.find('"', out.find('"', at) + 1)) - at)];
            at = end + 1;
        }
        for (const auto& [key, times] : seen) {
            CAPTURE(key);
            CHECK(times == 1);
        }
        for (int i = 0; i < 500; i += 2) {
            CHECK(seen["f_total{l=\"" + std::to_string(i) + "\"}"] == 1);
            CHECK(seen["h_count{l=\"" + std::to_string(i) + "\"}"] == 1);
        }
    }
}

TEST_CASE("a registry or family that ends during a scrape leaves the rest of the page whole") {
    for (int variant = 0; variant < 3; ++variant) {
        prom::registry kept;
        auto* dies = new prom::registry;
        const prom::family<prom::counter, "l"> f{"f", "", {.registry = dies}};
        for (int i = 0; i < 100; ++i) f(i).inc();
        prom::gauge{"g", "", {.registry = dies}}.set(1);
        prom::gauge{"last", "", {.registry = &kept}}.set(1);
        prom::registry* const shown[] = {dies, &kept};
        prom::cursor c;
        c.start({.registries = shown});
        std::string out;
        char window[256];
        for (int step = 0;; ++step) {
            if (step == 2 && variant == 0) dies->unregister("f");
            if (step == 2 && variant == 1) delete std::exchange(dies, nullptr);
            const prom::pulled got = c.next(window);
            out.append(window, got.bytes);
            if (got.what == prom::pull::done) break;
        }
        delete dies;
        CHECK(out.substr(out.size() - 25) == "# TYPE last gauge\nlast 1\n");
        CHECK((out.find("g 1\n") != std::string::npos) == (variant != 1));
        CHECK(std::count(out.begin(), out.end(), '\n') == static_cast<long>(std::count(out.begin(), out.end(), ' ') - 2 * std::count(out.begin(), out.end(), '#')));
    }
}

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("+Inf equals the count on every page, while observers run") {
    prom::registry r;
    const prom::histogram h{"h", "", {.registry = &r}};
    std::atomic<bool> stop{false};
    std::thread other([&] {
        for (int i = 0; !stop; ++i) h.observe(0.001 * (i % 20000));
    });
    for (int i = 0; i < 200; ++i) {
        const std::string p = pulled_by(r, 64 + static_cast<std::size_t>(i % 50));
        const auto number = [&](std::string_view after) {
            const std::size_t at = p.find(after) + after.size();
            return p.substr(at, p.find('\n', at) - at);
        };
        CHECK(number("le=\"+Inf\"} ") == number("h_count "));
    }
    stop = true;
    other.join();
}

TEST_CASE("removing a collector waits for the scrape that is calling it") {
    prom::registry r;
    std::atomic<int> step{0};
    std::atomic<bool> ended{false};
    auto handle = r.add_collector([&](prom::sample_sink&) {
        step = 1;
        while (step != 2) std::this_thread::yield();
        for (int i = 0; i < 1000; ++i) std::this_thread::yield();
        ended = true;
    });
    std::thread scraper([&] { page(r); });
    while (step != 1) std::this_thread::yield();
    step = 2;
    handle.remove();
    CHECK(ended);
    scraper.join();
}

namespace {
/// Collectors, each in a registry and a scrape of its own, that end each other in a circle while all of them are called.
struct circle {
    struct place {
        std::optional<prom::registry> r{std::in_place};
        prom::collector_handle handle;
        std::unique_ptr<prom::callback_gauge> told;
        std::vector<std::string> heard;
    };
    std::vector<place> all;
    std::function<void(place&)> end;
    std::barrier<> called;
    bool nested;  // each is called during a call of another collector

    circle(std::size_t n, bool with_gauges, bool inside, std::function<void(place&)> how)
        : all(n), end(std::move(how)), called(static_cast<std::ptrdiff_t>(n)), nested(inside) {
        for (std::size_t i = 0; i != n; ++i) {
            const auto ends_next = [this, i] {
                called.arrive_and_wait();
                end(all[(i + 1) % all.size()]);
            };
            if (with_gauges)
                all[i].told.reset(new prom::callback_gauge{"g", "", [ends_next] {
                    ends_next();
                    return 1.0;
                }, {.registry = &*all[i].r}});
            else all[i].handle = all[i].r->add_collector([ends_next](prom::sample_sink&) { ends_next(); });
        }
    }
    void scrape(place& p) {
        page(*p.r, {.on_event = [](const prom::event& e, void* to) { static_cast<place*>(to)->heard.push_back(e.why.describe()); }, .context = &p});
    }
    /// Each ends, and one of them says that it did not wait.
    void run() {
        std::vector<std::thread> scrapers;
        for (place& p : all)
            scrapers.emplace_back([this, &p] {
                if (!nested) return scrape(p);
                prom::registry outer;
                const auto calls = outer.add_collector([&](prom::sample_sink&) { scrape(p); });
                page(outer);
            });
        for (auto& t : scrapers) t.join();
        std::vector<std::string> heard;
        for (place& p : all) heard.insert(heard.end(), p.heard.begin(), p.heard.end());
        REQUIRE(heard.size() == 1);
        CHECK(heard[0].find("removed another collector that waits for it") != std::string::npos);
    }
};
}  // namespace

TEST_CASE("collectors that end each other while all are called do not wait for ever; one says so") {
    using place = circle::place;
    for (const std::size_t n : {2u, 3u, 5u})
        for (const bool nested : {false, true}) {
            CAPTURE(n);
            CAPTURE(nested);
            circle(n, false, nested, [](place& p) { p.handle.remove(); }).run();
            circle(n, false, nested, [](place& p) { p.handle = {}; }).run();
            circle(n, false, nested, [](place& p) { p.r.reset(); }).run();
            circle(n, true, nested, [](place& p) { p.told.reset(); }).run();
            circle(n, true, nested, [](place& p) { CHECK(p.r->unregister("g")); }).run();
            circle(n, true, nested, [](place& p) { p.r.reset(); }).run();
        }
}

TEST_CASE("a thread outside the circle that ends one of it waits for its call") {
    circle c(2, false, false, [](circle::place& p) { p.handle.remove(); });
    prom::collector_handle third;
    std::atomic<bool> ended{false};
    std::barrier<> called(2);
    prom::registry r;
    third = r.add_collector([&](prom::sample_sink&) {
        called.arrive_and_wait();
        c.run();
        ended = true;
    });
    std::thread scraper([&] { page(r); });
    called.arrive_and_wait();
    third.remove();
    CHECK(ended);
    scraper.join();
}
#endif

TEST_CASE("a cursor that is used again allocates nothing for declared metrics") {
    everything e;
    prom::registry more;
    prom::gauge{prom::utf8("a name in UTF-8"), "A help text.", {.registry = &more, .labels = {{prom::utf8("a label in UTF-8"), "with a value"}}}}.set(1);
    prom::gauge{"temperature_celsius", "", {.registry = &more, .labels = {{"a", "b"}}}}.set(1);
    prom::registry* const shown[] = {&e.r, &more};
    for (const auto names : {prom::escaping::underscores, prom::escaping::dots, prom::escaping::allow_utf8})
        for (const auto as : {prom::format::text_0_0_4, prom::format::openmetrics_1_0_0}) {
            prom::cursor c;
            long before = 0;
            for (int round = 0; round < 3; ++round) {
                if (round == 2) before = allocations;
                char window[4096];
                c.start({.as = as, .names = names, .registries = shown, .created = prom::created_series::all});
                while (c.next(window).what == prom::pull::more) {}
            }
            CHECK(allocations == before);
        }
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("an on_event that throws leaves the library as usable as before") {
    prom::registry r;
    const prom::counter c{"c", "", {.registry = &r}};
    prom::registry* const shown[] = {&r};
    c.inc(-1);  // something to tell
    prom::cursor p;
    int told = 0;
    const auto on_event = [](const prom::event&, void* n) {
        ++*static_cast<int*>(n);
        throw 1;
    };
    p.start({.registries = shown, .on_event = on_event, .context = &told});
    CHECK(told > 0);
    c.inc();
#if !PROMETHEUS_ASYNC_NO_THREADS
    std::thread([&] { CHECK(pulled_by(r, 64) == "# TYPE c_total counter\nc_total 1\n"); }).join();
#endif
    CHECK(page(r) == "# TYPE c_total counter\nc_total 1\n");
}
#endif

TEST_CASE("a timestamp is not a valid time leaves out its collector only") {
    prom::registry r;
    const prom::gauge g{"g", "", {.registry = &r}};
    g.set(1);
    for (const double when : {not_a_number(), -5.0, 9e15, infinity()}) {
        const auto bad = r.add_collector([&](prom::sample_sink& to) {
            to.family(type::gauge, "odd", "");
            to.sample(1, {}, {.timestamp = when});
        });
        const auto good = r.add_collector([&](prom::sample_sink& to) {
            to.family(type::gauge, "timely", "");
            to.sample(2, {}, {.timestamp = 5});
        });
        CHECK(page(r) == "# TYPE g gauge\ng 1\n# TYPE timely gauge\ntimely 2 5000\n");
    }
}

TEST_CASE("a step that is refused, or an exemplar of no time, leaves no exemplar") {
    prom::registry r;
    const prom::counter c{"c", "", {.registry = &r}};
    c.inc(-1, prom::exemplar{{{"t", "1"}}});
    c.inc(1, prom::exemplar{{{"t", "2"}}, not_a_number()});
    CHECK(page(r, {.as = prom::format::openmetrics_1_0_0, .created = prom::created_series::off}) ==
          "# TYPE c counter\nc_total 1\n# EOF\n");
}

TEST_CASE("label names that are the same once they are escaped stand in no series twice") {
    prom::registry r;
    const prom::info i{"i", "", {.registry = &r}};
    i.set({{"a", "0"}});
    const auto set = [&] { i.set({{prom::utf8("a.b"), "1"}, {"a_b", "2"}}); };
#if PROMETHEUS_ASYNC_EXCEPTIONS
    CHECK_THROWS(set());
#else
    static_cast<void>(set);
#endif
    const std::string_view states[] = {"on", "off"};
    const prom::label labels[] = {{"a_b", "z"}};
    CHECK_FALSE(r.try_state_set(prom::utf8("a:b"), "", {.labels = labels, .states = states}));
    for (const auto names : {prom::escaping::underscores, prom::escaping::dots, prom::escaping::values, prom::escaping::allow_utf8}) {
        const std::string shown = page(r, {.names = names});
        CHECK(shown.find("info{a=\"0\"} 1\n") != std::string::npos);
        CHECK(shown.find("a_b=\"z\",a_b=") == std::string::npos);
    }
}

TEST_CASE("a series that is newer than the scrape hides no older one of a registry merged with its own") {
    prom::registry a, b;
    const prom::family<prom::gauge, "l"> of_a{"m", "", {.registry = &a}}, of_b{"m", "", {.registry = &b}};
    of_a("1").set(1);
    of_b("z").set(7);
    prom::registry* const shown[] = {&a, &b};
    prom::cursor c;
    c.start({.registries = shown});
    of_a("z").set(9);
    std::string out;
    char window[64];
    for (prom::pulled got{0, prom::pull::more}; got.what == prom::pull::more; out.append(window, got.bytes)) got = c.next(window);
    CHECK(out == "# TYPE m gauge\nm{l=\"1\"} 1\nm{l=\"z\"} 7\n");
}

namespace {
/// A page pulled in windows of 64 octets, with `now` called before each.
template <class F>
std::string pulled_amid(prom::list<prom::registry*> shown, F now) {
    prom::cursor c;
    c.start({.registries = shown});
    std::string out;
    char window[64];
    for (;;) {
        now(out);
        const prom::pulled got = c.next(window);
        out.append(window, got.bytes);
        if (got.what != prom::pull::more) return out;
    }
}
std::size_t times(std::string_view text, std::string_view what) {
    std::size_t n = 0;
    for (std::size_t at = 0; (at = text.find(what, at)) != std::string_view::npos; ++at) ++n;
    return n;
}
}  // namespace

TEST_CASE("what was shown of merged registries is not shown again when it is removed during the scrape") {
    for (int how = 0; how != 4; ++how) {
        CAPTURE(how);
        auto first = std::make_unique<prom::registry>();
        prom::registry second;
        for (prom::registry* r : {first.get(), &second}) {
            prom::gauge{"x", "Help.", {.registry = r}}.set(1);
            const prom::family<prom::gauge, "l"> f{"f", "", {.registry = r}};
            for (int i = 0; i != 20; ++i) f(i).set(1);
        }
        const prom::family<prom::gauge, "l"> f{"f", "", {.registry = first.get()}};
        bool done = false;
        prom::registry* const both[] = {first.get(), &second};
        const std::string out = pulled_amid(both, [&](const std::string& so_far) {
            if (done || so_far.find(how == 3 ? "f{l=\"2\"}" : "\nx 1\n") == std::string::npos) return;
            done = true;
            if (how == 0) first->unregister("x");
            if (how == 1) first.reset();
            if (how == 2) {
                first->unregister("x");
                prom::gauge{"x", "Help.", {.registry = first.get()}}.set(2);
            }
            if (how == 3) f.remove(0);
        });
        CHECK(done);
        CHECK(times(out, "# TYPE x gauge\n") == 1);
        CHECK(times(out, "# TYPE f gauge\n") == 1);
        CHECK(times(out, "\nx ") == 1);
        for (int i = 0; i != 20; ++i) {
            const std::size_t n = times(out, "f{l=\"" + std::to_string(i) + "\"} ");
            CHECK((n == 1 || (how == 1 && n == 0)));  // the first one's end may take a family along that was begun
        }
    }
}

TEST_CASE("a collector does not show again what it has taken from the page") {
    prom::registry r;
    prom::gauge{"x", "", {.registry = &r}}.set(1);
    const auto taking = r.add_collector([&](prom::sample_sink& to) {
        r.unregister("x");
        to.family(type::gauge, "x", "");
        to.sample(2);
    });
    CHECK(page(r) == "# TYPE x gauge\nx 1\n");
    CHECK(page(r) == "# TYPE x gauge\nx 2\n");
}

TEST_CASE("infos of merged registries that tell other facts are both shown; there is one target_info, and it comes first") {
    prom::registry a, b, c;
    prom::gauge{"g", "", {.registry = &a}};
    a.make_info("app", "").set({{"part", "one"}});
    b.make_info("app", "").set({{"part", "two"}});
    c.make_info("app", "").set({{"part", "one"}});
    b.target_info({{"host", "b"}});
    c.target_info({{"host", "c"}});
    prom::registry* const all[] = {&a, &b, &c};
    CHECK(prom::expose({.registries = all}) ==
          "# HELP target_info Target metadata\n# TYPE target_info gauge\ntarget_info{host=\"b\"} 1\n"
          "# TYPE g gauge\ng 0\n"
          "# TYPE app_info gauge\napp_info{part=\"one\"} 1\napp_info{part=\"two\"} 1\n");
    CHECK(pulled_amid(all, [](const std::string&) {}) == prom::expose({.registries = all}));
}

TEST_CASE("a collector's labels that escaping makes the same are one series, shown twice: refused") {
    prom::registry r;
    const auto two = r.add_collector([](prom::sample_sink& to) {
        to.family(type::gauge, "g", "");
        to.sample(1, {{prom::utf8("a.b"), "1"}});
        to.sample(2, {{"a_b", "1"}});
    });
    CHECK(page(r).empty());
    CHECK(page(r, {.as = prom::format::text_1_0_0, .names = prom::escaping::allow_utf8}) == "# TYPE g gauge\ng{\"a.b\"=\"1\"} 1\ng{a_b=\"1\"} 2\n");
}

TEST_CASE("collector_bytes bounds heads, too") {
    prom::registry r;
    const auto long_winded = r.add_collector([](prom::sample_sink& to) {
        for (int i = 0; i != 100; ++i) to.family(type::gauge, "g" + std::to_string(i), std::string(1000, 'h'));
    });
    CHECK(page(r).size() > 100000);
    CHECK(page(r, {.collector_bytes = 50000}).empty());
}

TEST_CASE("a collector's buckets have exemplars in OpenMetrics; one that is too long is dropped and counted") {
    prom::registry r;
    const std::string much(200, 'x');
    const auto traced = r.add_collector([&](prom::sample_sink& to) {
        to.family(type::histogram, "h", "");
        to.histogram({{1, 2, {{{"trace", "abc"}}, 12.5}, 0.5}, {infinity(), 3, {{{"trace", much}}}, 7}}, 8);
        to.family(type::counter, "c", "");
        to.sample(1, {}, {.example = {{{"trace", much}}}});
    });
    const auto before = prom::event_count(prom::event_kind::exemplar_dropped);
    CHECK(page(r, openmetrics) ==
          "# TYPE h histogram\nh_bucket{le=\"1.0\"} 2 # {trace=\"abc\"} 0.5 12.5\nh_bucket{le=\"+Inf\"} 3\nh_sum 8\nh_count 3\n"
          "# TYPE c counter\nc_total 1\n# EOF\n");
    CHECK(prom::event_count(prom::event_kind::exemplar_dropped) == before + 2);
    CHECK(times(page(r), "#") == 2);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("an on_event that throws during a page ends neither the page nor the program") {
    prom::registry r;
    const auto failing = r.add_collector([](prom::sample_sink& to) { to.fail("today"); });
    prom::gauge{"g", "", {.registry = &r}}.set(1);
    CHECK(page(r, {.on_event = [](const prom::event& e, void*) {
              if (e.kind == prom::event_kind::callback_failed) throw std::runtime_error("no");
          }}) == "# TYPE g gauge\ng 1\n");
}
#endif

TEST_CASE("the build tells its version") {
    prom::registry r;
    prom::declare_build_info(r);
    const std::string text = page(r);
    CHECK(text.find("# TYPE prometheus_async_build_info gauge\nprometheus_async_build_info{") != std::string::npos);
    CHECK(text.find("version=\"" + std::string(prom::version()) + "\"") != std::string::npos);
    CHECK(prom_lint::lint_page(text).empty());
}

TEST_CASE("an OpenMetrics histogram whose first bound is zero keeps its sum and count; below zero they have no place") {
    for (const double first : {0.0, 1e-300, -1.0}) {
        prom::registry r;
        const prom::histogram h{"h", "", {.registry = &r, .buckets = {first, 2}}};
        h.observe(1.5);
        const std::string text = page(r, openmetrics);
        CAPTURE(text);
        CHECK((text.find("\nh_sum 1.5\nh_count 1\n") != std::string::npos) == (first >= 0));
    }
}

TEST_CASE("a unit stands on a line of its own only where the name, as escaped, still ends with it") {
    prom::registry r;
    const prom::gauge way{"way", "", {.registry = &r, .unit = "light_years"}};
    const prom::gauge age{"age", "", {.registry = &r, .unit = "seconds"}};
    const auto has_unit = [&](prom::escaping names, std::string_view line) {
        return page(r, {.as = prom::format::openmetrics_1_0_0, .names = names}).find("# UNIT " + std::string(line) + "\n") != std::string::npos;
    };
    for (const prom::escaping names : {prom::escaping::underscores, prom::escaping::allow_utf8, prom::escaping::values}) {
        CHECK(has_unit(names, "way_light_years light_years"));
        CHECK(has_unit(names, "age_seconds seconds"));
    }
    CHECK(has_unit(prom::escaping::dots, "age__seconds seconds"));
    CHECK(page(r, {.as = prom::format::openmetrics_1_0_0, .names = prom::escaping::dots}).find("UNIT way") == std::string::npos);
}

TEST_CASE("timestamps are the nearest millisecond in text, and as they are in OpenMetrics") {
    struct moment {
        double seconds;
        const char* text;
        const char* exact;
    };
    for (const moment& m : {moment{1.0006, "1001", "1.0006"}, {1.0004, "1000", "1.0004"}, {0.0009, "1", "0.0009"},
                            {1520430000.1239, "1520430000124", "1520430000.1239"}, {2, "2000", "2"}}) {
        prom::registry r;
        const auto held = r.add_collector([&](prom::sample_sink& to) {
            to.family(prom::metric_type::gauge, "g", "");
            to.sample(1, {}, {.timestamp = m.seconds});
        });
        CHECK(page(r) == "# TYPE g gauge\ng 1 " + std::string(m.text) + "\n");
        CHECK(page(r, openmetrics) == "# TYPE g gauge\ng 1 " + std::string(m.exact) + "\n# EOF\n");
    }
}
