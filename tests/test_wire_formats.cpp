// Protobuf and OpenMetrics 2.0: golden pages, strict parsers of our own, and the same values as the text page has.
// Rooms [51], [53].
// needs-exceptions
#include "prometheus_async.hpp"

#include "support/flat_pages.hpp"
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace prom = prometheus_async;

namespace {
double time_now = 1520430000.123;
struct own_clock {
    own_clock() { prom::set_clock({[] { return 0.0; }, [] { return time_now; }}); }
    ~own_clock() {
        time_now = 1520430000.123;
        prom::set_clock(prom::system_clock());
    }
};
constexpr double inf = INFINITY;

std::string page(prom::registry& r, prom::format as, prom::escaping names = prom::escaping::allow_utf8, bool native = true) {
    prom::registry* const shown[] = {&r};
    return prom::expose({.as = as, .names = names, .registries = shown, .native_histograms = native});
}
/// What follows the head, without # EOF.
std::string om2(prom::registry& r, prom::escaping names = prom::escaping::allow_utf8) {
    const std::string text = page(r, prom::format::openmetrics_2_0_0, names);
    CHECK_NOTHROW(flat::openmetrics_2(text).parse());
    CHECK(text.ends_with("# EOF\n"));
    return text.substr(0, text.size() - 6);
}
std::string hex(const std::string& bytes) {
    std::string out;
    char two[3];
    for (char c : bytes) {
        std::snprintf(two, sizeof two, "%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
        out += two;
    }
    return out;
}
std::string protobuf(prom::registry& r, prom::escaping names = prom::escaping::allow_utf8) {
    const std::string bytes = page(r, prom::format::protobuf, names);
    CHECK_NOTHROW(flat::protobuf(bytes).parse());
    return hex(bytes);
}
/// The page of what a collector yields.
template <class F>
std::unique_ptr<prom::registry> collected(F yield) {
    auto r = std::make_unique<prom::registry>();
    r->add_collector(yield).keep();
    return r;
}
/// The upper bound of a bucket of schema 3.
double bound(int key) { return std::exp2(key / 8.0) * (1 - 1e-12); }
std::unique_ptr<prom::registry> native_of(std::vector<double> values, const prom::native_buckets& how = {.factor = 1.1}) {
    auto r = std::make_unique<prom::registry>();
    const prom::histogram h{"d", "", {.registry = r.get(), .native = how}};
    for (double x : values) h.observe(x);
    return r;
}
std::string composite(prom::registry& r) {
    const std::string text = om2(r);
    const std::size_t from = text.find("\nd {");
    return from == std::string::npos ? text : text.substr(from + 3, text.rfind(" st@") - from - 3);
}
}  // namespace

TEST_CASE("golden pages 1 to 9: numbers, exemplars, escapes, infos and state sets") {
    const own_clock clock;
    prom::registry r;
    const prom::counter c{"x", "", {.registry = &r}};
    c.inc(17);
    CHECK(om2(r) == "# TYPE x_total counter\nx_total 17 st@1520430000.123\n");
    c.inc(0, {.labels = {{"trace_id", "a"}}, .timestamp = 1520879606.1});
    CHECK(om2(r) == "# TYPE x_total counter\nx_total 17 st@1520430000.123 # {trace_id=\"a\"} 0 1520879606.1\n");

    auto yielded = collected([](prom::sample_sink& to) {
        to.family(prom::metric_type::counter, "x", "");
        to.sample(17, {}, {.timestamp = 1520879607.789, .created = 1520430000.123,
                           .example = {.labels = {{"trace_id", "a"}}, .timestamp = 1520879606.1}, .example_value = 0.67});
    });
    CHECK(om2(*yielded) == "# TYPE x_total counter\nx_total 17 1520879607.789 st@1520430000.123 # {trace_id=\"a\"} 0.67 1520879606.1\n");
    yielded = collected([](prom::sample_sink& to) {
        to.family(prom::metric_type::counter, "x", "");
        to.sample(17, {}, {.example = {.labels = {{"trace_id", "a"}}}, .example_value = 0.67});
    });
    CHECK(om2(*yielded) == "# TYPE x_total counter\nx_total 17\n");  // no time: not shown
    CHECK(protobuf(*yielded).find("0a0874726163655f6964") != std::string::npos);

    yielded = collected([](prom::sample_sink& to) {
        to.family(prom::metric_type::gauge, "g", "a \"b\" \\ c\nd");
        to.sample(NAN, {{"a", "b\n\"\\"}});
        to.sample(-inf, {{"a", "c"}});
        to.sample(1e300);
    });
    CHECK(om2(*yielded) == "# TYPE g gauge\n# HELP g a \\\"b\\\" \\\\ c\\nd\ng{a=\"b\\n\\\"\\\\\"} NaN\ng{a=\"c\"} -Inf\ng 1e+300\n");

    prom::registry utf;
    const prom::gauge u{prom::utf8("http.req"), "h", {.registry = &utf, .labels = {{prom::utf8("a.b"), "c"}}}};
    u.set(1);
    CHECK(om2(utf) == "# TYPE \"http.req\" gauge\n# HELP \"http.req\" h\n{\"http.req\",\"a.b\"=\"c\"} 1\n");
    CHECK(om2(utf, prom::escaping::underscores) == "# TYPE http_req gauge\n# HELP http_req h\nhttp_req{a_b=\"c\"} 1\n");
    CHECK(protobuf(utf).find(hex("http.req")) != std::string::npos);
    CHECK(protobuf(utf, prom::escaping::underscores).find(hex("http_req")) != std::string::npos);

    prom::registry facts;
    const prom::info i{"build", "", {.registry = &facts}};
    i.set({{"v", "1"}});
    const prom::state_set s{"s", "", {.registry = &facts, .states = {"a", "bb"}}};
    s.set("bb");
    CHECK(om2(facts) == "# TYPE build_info info\nbuild_info{v=\"1\"} 1\n# TYPE s stateset\ns{s=\"a\"} 0\ns{s=\"bb\"} 1\n");
}

TEST_CASE("golden pages 10 to 14: summaries and classic histograms") {
    const own_clock clock;
    auto r = collected([](prom::sample_sink& to) {
        to.family(prom::metric_type::summary, "s", "");
        to.summary(3, 4.5);
        to.summary(3, 4.5, {{0.5, 1.5}, {0.99, NAN}}, {{"a", "b"}});
    });
    CHECK(om2(*r) == "# TYPE s summary\ns {count:3,sum:4.5,quantile:[]}\ns{a=\"b\"} {count:3,sum:4.5,quantile:[0.5:1.5,0.99:NaN]}\n");
    prom::registry classic;
    const prom::histogram h{"h", "", {.registry = &classic, .buckets = {1, 2}}};
    for (double x : {0.5, 1.5, 9.0}) h.observe(x);
    CHECK(om2(classic) == "# TYPE h histogram\nh {count:3,sum:11,bucket:[1:1,2:2,+Inf:3]} st@1520430000.123\n");
    h.observe(0.5, {.labels = {{"t", "1"}}, .timestamp = 5});
    h.observe(3, {.labels = {}, .timestamp = 7});
    CHECK(om2(classic) == "# TYPE h histogram\nh {count:5,sum:14.5,bucket:[1:2,2:3,+Inf:5]} st@1520430000.123 # {t=\"1\"} 0.5 5 # {} 3 7\n");
    r = collected([](prom::sample_sink& to) {
        to.family(prom::metric_type::histogram, "h", "");
        to.histogram({{-inf, 1}, {0, 2}, {inf, 3}}, -3);
        to.family(prom::metric_type::gauge_histogram, "g", "");
        to.histogram({{1, 1}, {inf, 1000000}}, 3);
        to.family(prom::metric_type::histogram, "big", "");
        to.histogram({{1, 1}, {inf, (std::uint64_t{1} << 53) + 1}}, 3);
    });
    CHECK(om2(*r) == "# TYPE h histogram\nh {count:3,sum:-3,bucket:[-Inf:1,0:2,+Inf:3]}\n"
                     "# TYPE g gaugehistogram\ng {gcount:1000000,gsum:3,bucket:[1:1,+Inf:1000000]}\n"
                     "# TYPE big histogram\nbig {count:9007199254740993,sum:3,bucket:[1:1,+Inf:9007199254740993]}\n");
}

TEST_CASE("golden pages 15 to 25: native histograms") {
    const own_clock clock;
    const std::string head = "schema:3,zero_threshold:2.938735877055719e-39,";
    CHECK(composite(*native_of(std::vector<double>(10, 1.0))) == "{count:10,sum:10," + head + "zero_count:0,positive_spans:[0:1],positive_buckets:[10]}");
    CHECK(composite(*native_of({0, 0, 0, 0, 1, 1, 1, 1, -1, -1})) ==
          "{count:10,sum:2," + head + "zero_count:4,negative_spans:[0:1],negative_buckets:[2],positive_spans:[0:1],positive_buckets:[4]}");
    CHECK(composite(*native_of({3, 300, 70000, 5e9}, {.factor = 65536})) ==
          "{count:4,sum:5000070303,schema:-4,zero_threshold:2.938735877055719e-39,zero_count:0,positive_spans:[1:3],positive_buckets:[2,1,1]}");
    std::vector<double> several;
    for (const auto& [key, times] : {std::pair{-2, 3}, {-1, 5}, {2, 1}, {4, 3}, {5, 2}}) several.insert(several.end(), static_cast<std::size_t>(times), bound(key));
    std::string text = composite(*native_of(several));
    CHECK(text.substr(text.find("positive")) == "positive_spans:[-2:8],positive_buckets:[3,5,0,0,1,0,3,2]}");
    CHECK(protobuf(*native_of(several)).find("620408031008"  // the span
                                             "6a08060409000201" "0601") != std::string::npos);
    text = composite(*native_of({bound(0), bound(3)}));
    CHECK(text.substr(text.find("positive")) == "positive_spans:[0:4],positive_buckets:[1,0,0,1]}");
    text = composite(*native_of({bound(0), bound(4)}));
    CHECK(text.substr(text.find("positive")) == "positive_spans:[0:1,3:1],positive_buckets:[1,1]}");
    CHECK(composite(*native_of({})) == "{count:0,sum:0," + head + "zero_count:0}");
    CHECK(composite(*native_of({}, {.factor = 1.1, .zero_threshold = 0})) == "{count:0,sum:0,schema:3,zero_threshold:0,zero_count:0}");
    CHECK(composite(*native_of({1, 2, NAN, 4})) == "{count:4,sum:NaN," + head + "zero_count:0,positive_spans:[0:1,7:1,7:1],positive_buckets:[1,1,1]}");
    CHECK(composite(*native_of({inf, -inf, std::numeric_limits<double>::max()}, {.factor = 2})) ==
          "{count:3,sum:NaN,schema:0,zero_threshold:2.938735877055719e-39,zero_count:0,negative_spans:[1025:1],negative_buckets:[1],"
          "positive_spans:[1024:2],positive_buckets:[1,1]}");

    prom::registry both;
    const prom::histogram d{"d", "", {.registry = &both, .buckets = {1, 2}, .native = {.factor = 2}}};
    for (double x : {0.5, 1.5, 9.0}) d.observe(x);
    CHECK(composite(both) == "{count:3,sum:11,schema:0,zero_threshold:2.938735877055719e-39,zero_count:0,positive_spans:[-1:6],"
                             "positive_buckets:[1,0,1,0,0,1],bucket:[1:1,2:2,+Inf:3]}");
    CHECK(page(both, prom::format::text_0_0_4) == "# TYPE d histogram\nd_bucket{le=\"1.0\"} 1\nd_bucket{le=\"2.0\"} 2\nd_bucket{le=\"+Inf\"} 3\nd_sum 11\nd_count 3\n");
    CHECK(page(*native_of({1, 1, 0, NAN}), prom::format::text_0_0_4) == "# TYPE d histogram\nd_bucket{le=\"+Inf\"} 4\nd_sum NaN\nd_count 4\n");
    CHECK(page(both, prom::format::openmetrics_2_0_0, prom::escaping::underscores, false) ==
          "# TYPE d histogram\nd {count:3,sum:11,bucket:[1:1,2:2,+Inf:3]} st@1520430000.123\n# EOF\n");
}

TEST_CASE("protobuf, octet by octet") {
    const own_clock clock;
    time_now = 1520430000.5;
    const auto native = [](std::vector<double> values, const prom::native_buckets& how = {.factor = 1.1}) {
        const std::string bytes = page(*native_of(std::move(values), how), prom::format::protobuf);
        const auto all = flat::protobuf(bytes).messages();
        REQUIRE(all.size() == 1);
        CHECK(all[0].all[0].start == 1520430000.5);
        return hex(bytes);
    };
    // As the servers took them, but for the start timestamp: `7a` and 13 octets before the end.
    CHECK(native(std::vector<double>(10, 1.0)).substr(0, 2 * (43)).substr(2).starts_with("0a01641804223"));
    CHECK(native(std::vector<double>(10, 1.0)).find("080a110000000000002440280631000000000000f037380062040800100" "16a0114") != std::string::npos);
    CHECK(native({0, 0, 0, 0, 1, 1, 1, 1, -1, -1}).find("080a110000000000000040280631000000000000f03738044a0408001001520104620408001001"
                                                        "6a0108") != std::string::npos);
    CHECK(native({3, 300, 70000, 5e9}, {.factor = 65536}).find("0804110000f04970a0f241280731000000000000f037380062040802100" "36a03040100") != std::string::npos);
    CHECK(native({}, {.factor = 2, .zero_threshold = 0}).find("080011000000000000000028003100000000000000003800620408001000") != std::string::npos);

    time_now = 1700000000.5;
    prom::registry r;
    const prom::counter c{"c", "", {.registry = &r, .labels = {{"a", "x"}}}};
    c.inc(3);
    CHECK(protobuf(r) == "2e0a07635f746f74616c180022210a060a01611201781a170900000000000008401a0c0880e2cfaa061080cab5ee01");
}

TEST_CASE("native histograms and gauge histograms of a collector") {
    static bool classic_too = false;
    const auto r = collected([](prom::sample_sink& to) {
        using sink = prom::sample_sink;
        to.family(prom::metric_type::histogram, "h", "");
        to.histogram({.schema = 3, .zero_count = 4, .positive = {{0, 4}}, .negative = {{0, 2}}, .count = 10, .sum = 2}, {},
                     {.created = 1520430000.5, .example = {.labels = {{"t", "1"}}, .timestamp = 5}, .example_value = 0.5});
        to.histogram({.positive = {{1, 0}, {2, 1}}, .count = 3, .sum = NAN}, {{"a", "an empty bucket, and two of NaN"}});
        to.histogram({.zero_threshold = 0}, {{"a", "nothing"}});
        static const sink::native_bucket far[] = {{-1074 * 256, 1}, {1024 * 256 + 1, 1}};
        to.histogram({.schema = 8, .positive = far, .negative = far, .count = 4, .sum = 0}, {{"a", "the first bucket and the last"}});
        to.family(prom::metric_type::gauge_histogram, "g", "");
        to.histogram({.positive = {{1, 5}}, .count = 5, .sum = -1, .classic = {{2, 5}, {inf, 5}}});
        if (classic_too) to.histogram({{2, 5}, {inf, 6}}, 1, {{"a", "classic"}});
    });
    const std::string head = "# TYPE h histogram\nh {count:10,sum:2,", rest =
        "h{a=\"an empty bucket, and two of NaN\"} {count:3,sum:NaN,schema:0,zero_threshold:2.938735877055719e-39,zero_count:0,positive_spans:[2:1],positive_buckets:[1]}\n"
        "h{a=\"nothing\"} {count:0,sum:0,schema:0,zero_threshold:0,zero_count:0}\n"
        "h{a=\"the first bucket and the last\"} {count:4,sum:0,schema:8,zero_threshold:2.938735877055719e-39,zero_count:0,"
        "negative_spans:[-274944:1,537088:1],negative_buckets:[1,1],positive_spans:[-274944:1,537088:1],positive_buckets:[1,1]}\n"
        "# TYPE g gaugehistogram\ng {gcount:5,gsum:-1,schema:0,zero_threshold:2.938735877055719e-39,zero_count:0,positive_spans:[1:1],positive_buckets:[5],bucket:[2:5,+Inf:5]}\n";
    CHECK(om2(*r) == head + "schema:3,zero_threshold:2.938735877055719e-39,zero_count:4,negative_spans:[0:1],negative_buckets:[2],"
                            "positive_spans:[0:1],positive_buckets:[4]} st@1520430000.5 # {t=\"1\"} 0.5 5\n" + rest);
    std::string bytes = page(*r, prom::format::protobuf);
    auto all = flat::protobuf(bytes).messages();
    REQUIRE(all.size() == 2);
    CHECK(all[0].type == "histogram");
    CHECK(all[0].all[0].native_exemplars.size() == 1);
    CHECK(all[0].all[0].start == 1520430000.5);
    for (const auto& s : all[0].all) CHECK(s.is_native);
    CHECK(all[1].type == "gaugehistogram");
    CHECK(all[1].all[0].buckets.size() == 2);
    // Without native buckets both are what they were before: of type 4, which servers do not misread.
    bytes = page(*r, prom::format::protobuf, prom::escaping::underscores, false);
    all = flat::protobuf(bytes).messages();
    REQUIRE(all.size() == 2);
    CHECK(all[1].type == "histogram");
    // One family of both kinds is a message of each.
    classic_too = true;
    bytes = page(*r, prom::format::protobuf);
    all = flat::protobuf(bytes).messages();
    REQUIRE(all.size() == 3);
    CHECK(all[1].type == "gaugehistogram");
    CHECK(all[2].type == "histogram");
    CHECK(all[2].name == "g");
    classic_too = false;
}

TEST_CASE("what is wrong with a collector's native histogram is said, and the rest of the page stays") {
    using native = prom::sample_sink::native_histogram;
    static native yielded;
    static std::string told;
    prom::registry r;
    const prom::counter before{"before", "", {.registry = &r}};
    r.add_collector([](prom::sample_sink& to) {
         to.family(prom::metric_type::histogram, "h", "");
         to.histogram(yielded);
     }).keep();
    prom::registry* const shown[] = {&r};
    const auto reason = [&](const native& of) {
        yielded = of;
        std::string first;
        for (const prom::format as : {prom::format::protobuf, prom::format::openmetrics_2_0_0, prom::format::text_0_0_4}) {
            told.clear();
            const std::string text = prom::expose({.as = as, .registries = shown, .on_event = [](const prom::event& e, void*) { told = e.why.describe(); }});
            CHECK((text.find("before_total") != std::string::npos));
            if (as == prom::format::text_0_0_4) CHECK((text.find("# TYPE h ") == std::string::npos) == !told.empty());
            if (as == prom::format::protobuf) first = told;
            else CHECK(told == first);
        }
        return first.substr(0, first.find("h: ")) == "a collector is left out: " ? first.substr(28) : first;
    };
    using bucket = prom::sample_sink::native_bucket;
    static const bucket good[] = {{-1, 1}, {7, 2}}, twice[] = {{1, 1}, {1, 1}}, down[] = {{2, 1}, {1, 1}}, below[] = {{-1075, 1}}, above[] = {{1026, 1}},
                        last[] = {{-1074, 1}, {1025, 1}}, huge[] = {{0, ~std::uint64_t{0}}, {1, 2}}, half[] = {{0, std::uint64_t{1} << 63}};
    static const prom::sample_sink::bucket one[] = {{inf, 1}};
    CHECK(reason({.positive = good, .count = 3}).empty());
    CHECK(reason({.positive = last, .negative = last, .count = 4}).empty());
    CHECK(reason({.zero_count = 2, .count = 3, .sum = NAN}).empty());
    CHECK(reason({.schema = 9}) == "a schema must be from -4 to 8");
    CHECK(reason({.schema = -5}) == "a schema must be from -4 to 8");
    for (const double threshold : {-1.0, inf, static_cast<double>(NAN)})
        CHECK(reason({.zero_threshold = threshold}) == "a zero threshold is negative or not finite");
    CHECK(reason({.positive = twice, .count = 2}) == "the native buckets do not ascend");
    CHECK(reason({.negative = down, .count = 2}) == "the native buckets do not ascend");
    CHECK(reason({.positive = below, .count = 1}) == "an index is beyond the range of numbers");
    CHECK(reason({.negative = above, .count = 1}) == "an index is beyond the range of numbers");
    CHECK(reason({.positive = huge, .count = 1}) == "a count of 2^63 or more");
    CHECK(reason({.positive = half, .count = std::uint64_t{1} << 63}) == "a count of 2^63 or more");
    CHECK(reason({.count = std::uint64_t{1} << 63, .sum = NAN}) == "a count of 2^63 or more");
    CHECK(reason({.positive = good, .count = 4}) == "the count differs from that of the native buckets");
    CHECK(reason({.zero_count = 2, .count = 1, .sum = NAN}) == "the count differs from that of the native buckets");
    CHECK(reason({.zero_count = 2, .count = 2, .classic = one}) == "the count of the classic buckets differs from that of the native ones");
}

TEST_CASE("a page with every type is the golden one, tests/corpus/golden: UPDATE=1 writes it anew") {
    const own_clock clock;
    prom::registry r;
    const prom::family<prom::counter, "code"> requests{"requests", "Requests.", {.registry = &r}};
    requests(200).inc(17, {.labels = {{"trace_id", "a"}}, .timestamp = 1520879606.5});
    requests("a \"quote\"\n").inc(0.5);
    const prom::gauge level{prom::utf8("water.level"), "A name of \"UTF-8\".", {.registry = &r, .unit = "meters"}};
    level.set(-0.25);
    const prom::histogram classic{"classic_seconds", "Classic.", {.registry = &r, .unit = "seconds", .buckets = {0.5, 1}}};
    classic.observe(0.75, {.labels = {{"trace_id", "b"}}, .timestamp = 5});
    classic.observe(2);
    const prom::histogram native{"native_seconds", "Native.", {.registry = &r, .unit = "seconds", .native = {.factor = 1.1}}},
        both{"both", "Classic and native.", {.registry = &r, .buckets = {1}, .native = {.factor = 2}}};
    for (const double x : {0.0, 1.0, 1.05, 40.0, -1.0, std::nan("")}) native.observe(x);
    native.observe(1.5, {.labels = {{"trace_id", "c"}}, .timestamp = 6});
    both.observe(3);
    const prom::summary sizes{"sizes", "", {.registry = &r}};
    sizes.observe(3.5);
    const prom::info build{"build", "An info.", {.registry = &r}};
    build.set({{"version", "1"}});
    const prom::state_set state{"state", "A state set.", {.registry = &r, .states = {"on", "off"}}};
    const prom::unknown unknown{"anything", "Unknown.", {.registry = &r}};
    unknown.set(1e300);
    r.add_collector([](prom::sample_sink& to) {
         to.family(prom::metric_type::gauge_histogram, "waiting", "Gauges in buckets.");
         to.histogram({{1, 2}, {inf, 3}}, 4.5);
         to.family(prom::metric_type::gauge_histogram, "waiting_native", "Gauges in native buckets.");
         to.histogram({.schema = -1, .zero_count = 1, .positive = {{-3, 1}, {0, 2}}, .negative = {{7, 1}}, .count = 5, .sum = 4.5});
         to.family(prom::metric_type::summary, "latency", "Quantiles.");
         to.summary(3, 4.5, {{0.5, 1.5}, {0.99, NAN}}, {}, {.timestamp = 1520879607.5, .created = 1520430000.5});
     }).keep();
    const std::string folder = std::string(__FILE__).substr(0, std::string(__FILE__).rfind('/') + 1) + "corpus/golden/";
    for (const auto& [as, name] : {std::pair{prom::format::openmetrics_2_0_0, "types.openmetrics2"}, {prom::format::protobuf, "types.protobuf"}}) {
        const std::string text = page(r, as);
        if (std::getenv("UPDATE")) std::ofstream(folder + name, std::ios::binary) << text;
        std::ostringstream kept;
        kept << std::ifstream(folder + name, std::ios::binary).rdbuf();
        INFO(folder, name);
        CHECK((kept.str() == text));
        CHECK((as == prom::format::protobuf ? flat::protobuf(text).parse() : flat::openmetrics_2(text).parse()).size() == 12);
    }
}

TEST_CASE("a family longer than a message's buffer is several messages of one name, each with type, help and unit") {
    prom::registry r;
    const prom::family<prom::counter, "path"> f{"requests_bytes", "Octets.", {.registry = &r, .unit = "bytes"}};
    for (int i = 0; i != 2000; ++i) f("/a/path/" + std::to_string(i)).inc(static_cast<unsigned>(i));
    const std::string bytes = page(r, prom::format::protobuf);
    const auto all = flat::protobuf(bytes).messages();
    CHECK(all.size() > 10);
    std::size_t series = 0;
    for (const auto& m : all) {
        CHECK(m.name == "requests_bytes_total");
        CHECK(m.help == "Octets.");
        CHECK(m.unit == "bytes");
        CHECK(m.type == "counter");
        series += m.all.size();
    }
    CHECK(series == 2000);
    // For any window, and whatever is removed meanwhile: each message is complete.
    prom::registry* const shown[] = {&r};
    prom::cursor c;
    c.start({.as = prom::format::protobuf, .registries = shown});
    std::string pulled;
    char window[97];
    for (int n = 0;; ++n) {
        const prom::pulled got = c.next(window);
        pulled.append(window, got.bytes);
        if (got.what != prom::pull::more) break;
        if (n % 7 == 0) f.remove("/a/path/" + std::to_string(n));
        f("/a/path/" + std::to_string(n % 2000)).inc(1000000);
    }
    std::size_t left = 0;
    for (const auto& m : flat::protobuf(pulled).parse()) left += m.all.size();
    CHECK(left > 1000);
}

TEST_CASE("a unit that is not the end of the name is left out of protobuf: older servers refuse the page") {
    prom::registry r;
    const prom::gauge g{prom::utf8("a.b"), "", {.registry = &r, .unit = "k_s"}};
    g.set(1);
    CHECK(flat::protobuf(page(r, prom::format::protobuf)).parse()[0].unit == "k_s");
    CHECK(flat::protobuf(page(r, prom::format::protobuf, prom::escaping::dots)).parse()[0].unit.empty());
}

TEST_CASE("protobuf leaves out what is not there: a start, an exemplar's time, a unit that only looks like the end of the name") {
    const auto r = collected([](prom::sample_sink& to) {
        to.family(prom::metric_type::counter, "c", "");
        to.sample(3);
    });
    CHECK(protobuf(*r) == "180a07635f746f74616c1800220b1a09090000000000000840");
    const auto timeless = collected([](prom::sample_sink& to) {
        to.family(prom::metric_type::counter, "c", "");
        to.sample(3, {}, {.example = {.labels = {{"t", "1"}}}, .example_value = 1});
    });
    CHECK(protobuf(*timeless) == "2b0a07635f746f74616c1800221e1a1c09000000000000084012110a060a017412013111000000000000f03f");

    prom::registry mine;
    const prom::gauge g{prom::utf8("a.b"), "", {.registry = &mine, .unit = "k_l_s"}};  // under dots it ends in k__l__s
    CHECK(flat::protobuf(page(mine, prom::format::protobuf)).parse()[0].unit == "k_l_s");
    CHECK(flat::protobuf(page(mine, prom::format::protobuf, prom::escaping::dots)).parse()[0].unit.empty());
}

TEST_CASE("a collector's gauge histograms of one kind are one message") {
    const auto r = collected([](prom::sample_sink& to) {
        to.family(prom::metric_type::gauge_histogram, "g", "");
        for (const char* a : {"1", "2", "3"}) to.histogram({.positive = {{1, 5}}, .count = 5, .sum = 1}, {{"a", a}});
    });
    const std::string bytes = page(*r, prom::format::protobuf);
    const auto all = flat::protobuf(bytes).messages();
    REQUIRE(all.size() == 1);
    CHECK(all[0].all.size() == 3);
}

TEST_CASE("a bound is in its own native bucket, also in the run of a thread that observes often") {
    for (const double factor : {1.003, 1.01, 1.1, 1.5, 2.0, 4.0, 16.0, 65536.0})
        for (const int times : {1, 1000})
            CHECK(composite(*native_of(std::vector<double>(static_cast<std::size_t>(times), 1.0), {.factor = factor}))
                      .ends_with("positive_spans:[0:1],positive_buckets:[" + std::to_string(times) + "]}"));
}

TEST_CASE("an empty native histogram does not make its siblings classic") {
    for (const double threshold : {0.0, 0x1p-128}) {
        prom::registry r;
        const prom::family<prom::histogram, "a"> f{"h", "", {.registry = &r, .native = {.factor = 1.1, .zero_threshold = threshold}}};
        static_cast<void>(f("empty"));
        f("full").observe(1);
        const std::string bytes = page(r, prom::format::protobuf);
        const auto all = flat::protobuf(bytes).parse();
        for (const auto& s : all[0].all) CHECK(s.is_native);
    }
}

TEST_CASE("native buckets are left out where they are not wanted") {
    auto r = native_of({1, 2, 3});
    const auto all = flat::protobuf(page(*r, prom::format::protobuf, prom::escaping::underscores, false)).parse();
    CHECK_FALSE(all[0].all[0].is_native);
    CHECK(all[0].all[0].count == 3);
}

TEST_CASE("exemplars of a native histogram: ten, each the newest of its place, with a time; classic ones beside them") {
    const own_clock clock;
    prom::registry r;
    const prom::histogram h{"h", "", {.registry = &r, .buckets = {1, 100}, .native = {.factor = 1.1}}};
    for (int i = 0; i != 100; ++i) h.observe(std::exp2(i / 8.0) * 0.99, {.labels = {{"i", std::to_string(i)}}, .timestamp = 1000.0 + i});
    h.observe(NAN, {.labels = {{"i", "nan"}}});
    const auto s = flat::protobuf(page(r, prom::format::protobuf)).parse()[0].all[0];
    CHECK(s.native_exemplars.size() == 10);
    for (const auto& e : s.native_exemplars) CHECK(e.time > 1000);
    CHECK(s.exemplars.size() == 3);
    const auto text = flat::openmetrics_2(page(r, prom::format::openmetrics_2_0_0)).parse()[0].all[0];
    CHECK(text.exemplars.size() == 3);
    h.reset();
    CHECK(flat::protobuf(page(r, prom::format::protobuf)).parse()[0].all[0].native_exemplars.empty());
}

TEST_CASE("start timestamps are left out where they are not wanted; what created_series asks for stays") {
    const own_clock clock;
    prom::registry r;
    const prom::counter c{"c", "", {.registry = &r}};
    const prom::histogram h{"h", "", {.registry = &r, .native = {.factor = 2}}};
    const prom::summary s{"s", "", {.registry = &r}};
    r.add_collector([](prom::sample_sink& to) {
         to.family(prom::metric_type::counter, "yielded", "");
         to.sample(1, {}, {.created = 5});
     }).keep();
    prom::registry* const shown[] = {&r};
    for (const bool wanted : {true, false})
        for (const prom::format as : {prom::format::protobuf, prom::format::openmetrics_2_0_0}) {
            const std::string text = prom::expose({.as = as, .registries = shown, .created = prom::created_series::all, .start_timestamps = wanted});
            const auto all = as == prom::format::protobuf ? flat::protobuf(text).parse() : flat::openmetrics_2(text).parse();
            CHECK(all.size() == 4);
            for (const auto& f : all) CHECK((f.all[0].start != 0) == wanted);
        }
    const auto page = prom::expose({.as = prom::format::openmetrics_1_0_0, .registries = shown, .created = prom::created_series::openmetrics, .start_timestamps = false});
    CHECK((page.find("c_created ") != std::string::npos));
    const auto stats = [&](bool wanted) {
        return prom::server_stats({.accept = "application/openmetrics-text;version=2.0.0", .registries = shown, .start_timestamps = wanted}).body.find(" st@") != std::string::npos;
    };
    CHECK(stats(true));
    CHECK_FALSE(stats(false));
}

TEST_CASE("a start timestamp changes at each reset and never otherwise") {
    const own_clock clock;
    prom::registry r;
    const prom::histogram h{"h", "", {.registry = &r, .native = {.factor = 1.1, .max_buckets = 10, .min_reset = 60}}};
    const auto look = [&] { return flat::protobuf(page(r, prom::format::protobuf)).parse()[0].all[0]; };
    const double made = time_now;
    h.observe(1);
    time_now = made + 100;
    CHECK(look().start == made);
    CHECK(look().count == 1);
    for (int i = 0; i != 50; ++i) h.observe(std::exp2(i / 8.0));
    auto s = look();  // the limit is passed: coarser from now on
    CHECK(s.start == made);
    CHECK(s.nat.schema < 3);
    CHECK(s.count == 51);
    h.observe(1);
    time_now = made + 110;
    s = look();  // the last page of the old ones, on which all is that was observed
    CHECK(s.start == made);
    CHECK(s.count == 52);
    h.observe(2);
    s = look();
    CHECK(s.start == made + 110);
    CHECK(s.nat.schema == 3);
    CHECK(s.count == 1);
    CHECK(s.sum == 2);
    time_now = made + 1000;
    CHECK(look().start == made + 110);
    h.reset();
    CHECK(look().start == made + 1000);
    CHECK(look().count == 0);
}

TEST_CASE("the parsers of the tests refuse what servers refuse") {
    const auto refused = [](const std::string& page) {
        try {
            flat::openmetrics_2(page).parse();
            return false;
        } catch (const flat::refused&) {
            return true;
        }
    };
    const std::string h = "# TYPE h histogram\n", end = "# EOF\n";
    CHECK_FALSE(refused(h + "h {count:1,sum:1,bucket:[1:1,+Inf:1]}\n" + end));
    CHECK_FALSE(refused("a 1\n# EOF"));
    for (const std::string& bad : std::vector<std::string>{
             "a 1\n", "a 1\n# EOF\nmore", "a 1\r\n# EOF\n", "a  1\n# EOF\n", "a 1 \n# EOF\n", "\n# EOF\n", "# a comment\n# EOF\n", "a{b=\"c\",} 1\n# EOF\n",
             "a{b=\"\\x\"} 1\n# EOF\n", "# TYPE a counter\na NaN\n# EOF\n", "# TYPE a counter\na 1 # {b=\"c\"} 1\n# EOF\n", "# TYPE a gauge\na 1 st@5\n# EOF\n",
             "# TYPE a info\na 1\n# EOF\n", "# TYPE a_info info\na_info 2\n# EOF\n", "# TYPE a_info info\n# UNIT a_info s\n# EOF\n", "# TYPE a stateset\na{b=\"c\"} 1\n# EOF\n",
             "# TYPE a stateset\na{a=\"c\"} 2\n# EOF\n", "# TYPE a gauge\n# TYPE a gauge\n# EOF\n", "a 1\n# TYPE a gauge\n# EOF\n", "# HELP a\n# EOF\n",
             "a {count:1,sum:1,quantile:[]}\n# EOF\n", "# TYPE a summary\na 1\n# EOF\n", "# TYPE a summary\na {count:1,sum:NaN,quantile:[]}\n# EOF\n",
             "# TYPE a summary\na {count:1,sum:1,quantile:[2:1]}\n# EOF\n", "# TYPE a summary\na {count:1,sum:1,quantile:[0.5:1,0.4:1]}\n# EOF\n",
             h + "h {sum:1,count:1,bucket:[+Inf:1]}\n" + end, h + "h {count:1,sum:1,bucket:[1:1]}\n" + end, h + "h {count:2,sum:1,bucket:[+Inf:1]}\n" + end,
             h + "h {count:1e+06,sum:1,bucket:[+Inf:1e+06]}\n" + end, h + "h {count:1.0,sum:1,bucket:[+Inf:1.0]}\n" + end,
             h + "h {count:1,sum:1,bucket:[2:1,1:1,+Inf:1]}\n" + end, h + "h {count:1,sum:1,bucket:[NaN:1,+Inf:1]}\n" + end, h + "h {count:1,sum:1}\n" + end,
             h + "h {count:1,sum:1,schema:9,zero_threshold:0,zero_count:1}\n" + end, h + "h {count:1,sum:1,schema:3,zero_threshold:NaN,zero_count:1}\n" + end,
             h + "h {count:2,sum:1,schema:3,zero_threshold:0,zero_count:1}\n" + end,
             h + "h {count:1,sum:1,schema:3,zero_threshold:0,zero_count:0,positive_spans:[0:2],positive_buckets:[1]}\n" + end,
             h + "h {count:2,sum:1,schema:3,zero_threshold:0,zero_count:0,positive_spans:[0:1,-1:1],positive_buckets:[1,1]}\n" + end,
             "{a=\"b\"} 1\n# EOF\n", "a{\"\"=\"b\"} 1\n# EOF\n", "a 1\na 1\n# EOF\n", "a 1\nb 1\na{c=\"d\"} 1\n# EOF\n"}) {
        INFO(bad);
        CHECK(refused(bad));
    }
}

TEST_CASE("random registries: every format says the same") {
    const own_clock clock;
    for (unsigned seed = 0; seed != 60; ++seed) {
        std::mt19937_64 random(seed);
        prom::registry r;
        std::vector<std::function<void()>> update;
        const auto value = [&] {
            switch (random() % 8) {
            case 0: return 0.0;
            case 1: return -static_cast<double>(random() % 1000) / 16;
            case 2: return std::exp2(static_cast<double>(random() % 200) - 100);
            default: return static_cast<double>(random() % 100000) / 64;
            }
        };
        const auto text = [&] {
            static const char* const all[] = {"", "a", "with \"quotes\"", "back\\slash", "line\nline", "\xc3\xa4", "two words", "x,y=\"z\""};
            return std::string(all[random() % 8]);
        };
        const std::size_t families = 1 + random() % 8;
        for (std::size_t i = 0; i != families; ++i) {
            const std::string base = (random() % 4 == 0 ? "dotted.name" : "name") + std::to_string(i);
            const auto name = prom::utf8(base);
            const bool native = random() % 2 == 0;
            static const double bounds[] = {-1, 0.5, 10, 1000};
            prom::metric_options o{.registry = &r};
            if (random() % 3 == 0) o.unit = "seconds";
            const auto children = [&](auto family, auto how) {
                const std::size_t n = random() % 5;
                for (std::size_t k = 0; k != n; ++k) {
                    const std::string first = text(), second = std::to_string(k);
                    const auto one = family({first, second});
                    const std::size_t times = random() % 60;
                    for (std::size_t t = 0; t != times; ++t) how(one);
                }
            };
            static const prom::any_name label_texts[] = {"first", prom::utf8("second.label")};
            const prom::label_names labels(label_texts);
            switch (random() % 7) {
            case 0: children(r.make_family<prom::counter>(name, text(), labels, o), [&](const auto& m) { m.inc(std::abs(value())); }); break;
            case 1: children(r.make_family<prom::gauge>(name, text(), labels, o), [&](const auto& m) { m.set(value()); }); break;
            case 2: children(r.make_family<prom::summary>(name, text(), labels, o), [&](const auto& m) { m.observe(std::abs(value())); }); break;
            case 3: children(r.make_family<prom::unknown>(name, text(), labels, o), [&](const auto& m) { m.inc(value()); }); break;
            case 4: {
                o.unit = {};
                const std::string_view states[] = {"on", "off", "a \"state\""};
                o.states = states;
                children(r.make_family<prom::state_set>(name, text(), labels, o), [&](const auto& m) { m.set(states[random() % 3]); });
                break;
            }
            default: {
                if (native) o.native = {.factor = random() % 2 == 0 ? 1.1 : 2, .max_buckets = static_cast<std::uint32_t>(random() % 3 == 0 ? 10 : 160)};
                if (random() % 2 == 0) o.buckets = bounds;
                children(r.make_family<prom::histogram>(name, text(), labels, o), [&](const auto& m) { m.observe(value()); });
            }
            }
        }
        const std::uint64_t natives = random() % 4;
        r.add_collector([natives](prom::sample_sink& to) {
             std::mt19937_64 again(natives);
             for (const auto type : {prom::metric_type::histogram, prom::metric_type::gauge_histogram}) {
                 to.family(type, type == prom::metric_type::histogram ? "yielded" : "yielded_gauges", "");
                 for (std::uint64_t i = 0; i != natives; ++i) {
                     std::vector<prom::sample_sink::native_bucket> sides[2];
                     std::uint64_t count = again() % 3;
                     prom::sample_sink::native_histogram h{.schema = static_cast<int>(again() % 13) - 4, .zero_count = count};
                     for (auto& side : sides) {
                         std::int32_t at = -static_cast<std::int32_t>(again() % 50);
                         for (std::uint64_t n = again() % 20; n != 0; --n, at += 1 + static_cast<std::int32_t>(again() % 5)) {
                             side.push_back({at, again() % 1000});
                             count += side.back().count;
                         }
                     }
                     h.positive = sides[0];
                     h.negative = sides[1];
                     h.count = count;
                     h.sum = static_cast<double>(again() % 1000) / 8;
                     to.histogram(h, {{"i", std::to_string(i)}});
                 }
             }
         }).keep();
        for (const prom::escaping names : {prom::escaping::allow_utf8, prom::escaping::underscores, prom::escaping::dots, prom::escaping::values}) {
            INFO("seed ", seed, " escaping ", static_cast<int>(names));
            prom::registry* const shown[] = {&r};
            const auto expected = flat::flatten_lines(
                prom::expose({.as = prom::format::text_1_0_0, .names = names, .registries = shown, .created = prom::created_series::all}));
            const std::string om = page(r, prom::format::openmetrics_2_0_0, names), pb = page(r, prom::format::protobuf, names);
            const auto from_pb = flat::protobuf(pb).parse(), from_om = flat::openmetrics_2(om).parse();
            CHECK(flat::flatten(from_pb) == expected);
            CHECK(flat::flatten(from_om) == expected);
            CHECK(flat::details(from_pb) == flat::details(from_om));
        }
    }
}
