// Native histograms: the index of a bucket to the bit, limits, and cells that lose nothing.
// needs-threads
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/values.hpp"
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <thread>
#include <vector>

namespace prom = prometheus_async;
namespace det = prom::detail;

namespace {
constexpr double most = std::numeric_limits<double>::max(), inf = std::numeric_limits<double>::infinity();
double next(double x) { return std::bit_cast<double>(std::bit_cast<std::uint64_t>(x) + 1); }
std::int32_t key(double x, int schema) { return det::native_key(x, 8 - schema); }

/// The Go library's way: frexp, then the first of the schema's own table that is not below the fraction.
std::int32_t slow_key(double x, int schema) {
    static const std::vector<double> tables[] = {
        [] { return std::vector<double>{.5}; }(), {}, {}, {}, {}, {}, {}, {}, {}};
    static std::vector<double> made[9];
    if (made[0].empty()) {
        const double factors[] = {0, 0x1.6a09e667f3bccp+0, 0x1.306fe0a31b715p+0, 0x1.172b83c7d517bp+0, 0x1.0b5586cf9890fp+0,
                                  0x1.059b0d3158574p+0, 0x1.02c9a3e778061p+0, 0x1.0163da9fb3335p+0, 0x1.00b1afa5abcbfp+0};
        made[0] = {.5};
        for (std::size_t s = 1; s != 9; ++s)
            for (std::size_t i = 0; i != std::size_t{1} << s; ++i) made[s].push_back(i % 2 == 0 ? made[s - 1][i / 2] : made[s][i - 1] * factors[s]);
    }
    const bool endless = x == inf;
    if (endless) x = most;
    int e = 0;
    const double f = std::frexp(x, &e);
    std::int32_t k = 0;
    if (schema > 0) {
        const auto& t = made[schema];
        k = static_cast<std::int32_t>(std::lower_bound(t.begin(), t.end(), f) - t.begin()) + (e - 1) * static_cast<std::int32_t>(t.size());
    } else {
        k = e - (f == .5);
        k = (k + (1 << -schema) - 1) >> -schema;
    }
    return k + endless;
}

prom::registry* made() { return new prom::registry; }
struct shown {
    det::native_view v;
    double sum = 0;
    std::vector<std::uint64_t> classic;
    std::map<int, std::uint64_t> all() const {  // keys, negative ones as their complement
        std::map<int, std::uint64_t> m;
        for (const auto& b : v.positive) m[b.key * 2] = b.count;
        for (const auto& b : v.negative) m[b.key * 2 + 1] = b.count;
        return m;
    }
};
/// The only series of the registry's only family.
shown look(prom::registry& r) {
    const det::global_lock lock;
    det::family_state& f = *det::registry_state::of(r).families[0];
    det::record& one = *f.lines[0].living();
    std::uint64_t counts[256] = {};
    shown s;
    s.sum = det::view_native(one, one.place, counts, s.v, 0).real;
    s.classic.assign(counts, counts + f.bounds->count + 1);
    return s;
}
det::native_view reduced(det::vector<det::native_cell> cells, std::uint32_t limit, double widest = 0, int schema = 3,
                         det::native_reduction* kept = nullptr) {
    det::native_reduction own{static_cast<std::uint8_t>(8 - schema), det::native_reduction::none};
    det::native_view v;
    v.cells = std::move(cells);
    det::reduce(v, kept ? *kept : own, 0x1p-128, limit, widest);
    return v;
}
}  // namespace

TEST_CASE("the index of a bucket is that of the Go library and of the server") {
    struct golden { double v; std::int32_t at[6]; };
    constexpr int schemas[] = {-4, -1, 0, 1, 3, 8};
    const golden all[] = {
        {5e-324, {-67, -537, -1074, -2148, -8592, -274944}},
        {2.2250738585072009e-308, {-63, -511, -1022, -2044, -8176, -261632}},
        {2.2250738585072014e-308, {-63, -511, -1022, -2044, -8176, -261632}},
        {0x1p-128, {-8, -64, -128, -256, -1024, -32768}},
        {1e-9, {-1, -14, -29, -59, -239, -7653}},
        {0.001, {0, -4, -9, -19, -79, -2551}},
        {0.1, {0, -1, -3, -6, -26, -850}},
        {0.5, {0, 0, -1, -2, -8, -256}}, {next(0.5), {0, 0, 0, -1, -7, -255}},
        {1, {0, 0, 0, 0, 0, 0}}, {next(1), {1, 1, 1, 1, 1, 1}},
        {1.4142135623730951, {1, 1, 1, 2, 5, 129}},
        {2, {1, 1, 1, 2, 8, 256}}, {3, {1, 1, 2, 4, 13, 406}}, {4, {1, 1, 2, 4, 16, 512}}, {10, {1, 2, 4, 7, 27, 851}},
        {3600, {1, 6, 12, 24, 95, 3025}}, {1e6, {2, 10, 20, 40, 160, 5103}}, {1e9, {2, 15, 30, 60, 240, 7654}},
        {most, {64, 512, 1024, 2048, 8192, 262144}}, {inf, {65, 513, 1025, 2049, 8193, 262145}}};
    for (const golden& g : all)
        for (std::size_t i = 0; i != 6; ++i) {
            INFO(g.v, " at schema ", schemas[i]);
            CHECK(key(g.v, schemas[i]) == g.at[i]);
            CHECK(key(-g.v, schemas[i]) == g.at[i]);
        }
}

TEST_CASE("the table of bounds is the one of the Go library") {
    const std::uint64_t schema3[] = {0, 0x172b83c7d517b, 0x306fe0a31b715, 0x4bfdad5362a27, 0x6a09e667f3bcc, 0x8ace5422aa0db, 0xae89f995ad3ac, 0xd5818dcfba486};
    for (std::size_t i = 0; i != 8; ++i) CHECK((det::native_bounds.mantissa[i * 32] >> 12) == schema3[i]);
    double sum = 0;
    std::uint32_t crc = 0xffffffff;
    for (std::size_t i = 0; i != 256; ++i) {
        const std::uint64_t bits = std::uint64_t{1022} << 52 | det::native_bounds.mantissa[i] >> 12;
        sum += std::bit_cast<double>(bits);
        for (int b = 0; b != 8; ++b) {
            crc ^= static_cast<std::uint32_t>(bits >> (8 * b) & 0xff);
            for (int k = 0; k != 8; ++k) crc = crc >> 1 ^ (0xedb88320 & (0 - (crc & 1)));
        }
    }
    CHECK(~crc == 0x2a75afcd);
    CHECK(sum == doctest::Approx(184.41507805069742).epsilon(1e-15));
}

TEST_CASE("any double is where the Go library's way puts it, and within the bounds of its bucket") {
    std::mt19937_64 random(7);
    for (int n = 0; n != 20000; ++n) {
        std::uint64_t bits = random() >> 1;
        if (n % 3 == 0) bits = (1000 + random() % 40) << 52 | det::native_bounds.mantissa[random() & 255] >> 12;
        if (n % 6 == 0) bits += random() % 3 - 1;
        if (n % 7 == 0) bits = bits << 12 >> 12;
        const auto x = std::bit_cast<double>(bits);
        if (std::isnan(x) || x == 0) continue;
        for (int schema = -4; schema <= 8; ++schema) {
            const std::int32_t k = key(x, schema);
            INFO(x, " at schema ", schema);
            REQUIRE(k == slow_key(x, schema));
            REQUIRE(x <= det::native_bound(k, 8 - schema));
            if (bits >> 52 != 0) REQUIRE(x > det::native_bound(k - 1, 8 - schema));
        }
    }
}

TEST_CASE("bounds: powers of two, the greatest double, subnormals") {
    CHECK(det::native_bound(0, 5) == 1);
    CHECK(det::native_bound(8, 5) == 2);
    CHECK(det::native_bound(-1024, 5) == 0x1p-128);
    CHECK(det::native_bound(8192, 5) == most);
    CHECK(det::native_bound(8193, 5) == inf);
    CHECK(det::native_bound(64, 12) == most);
    CHECK(det::native_bound(-67, 12) == 0x1p-1072);
    CHECK(det::native_bound(-1074, 8) == 5e-324);
    CHECK(det::native_bound(1, 6) == 0x1.306fe0a31b715p+0);
}

TEST_CASE("a factor is the coarsest schema that grows no faster") {
    const std::pair<double, int> all[] = {{1e300, -4}, {65536, -4}, {65535, -3}, {256, -3}, {16, -2}, {4, -1}, {3, 0}, {2, 0}, {1.5, 1},
                                          {1.4142135623730951, 1}, {1.4, 2}, {1.2, 2}, {1.1, 3}, {1.09, 4}, {1.05, 4}, {1.04, 5}, {1.003, 8}, {1.0001, 8}};
    for (const auto& [factor, schema] : all) {
        INFO(factor);
        CHECK(det::schema_of(factor) == schema);
    }
}

TEST_CASE("spans: a gap of two is filled, one of three begins another") {
    const auto spans = [](det::vector<det::native_count> from) {
        std::string out;
        det::each_span(from, [&](const det::native_span& x) { out += std::to_string(x.offset) + ':' + std::to_string(x.length) + ' '; });
        det::each_count(from, [&](std::uint64_t c) { out += std::to_string(c) + ','; });
        return out;
    };
    CHECK(spans({{-2, 3}, {-1, 5}, {2, 1}, {4, 3}, {5, 2}}) == "-2:8 3,5,0,0,1,0,3,2,");
    CHECK(spans({{0, 1}, {3, 1}}) == "0:4 1,0,0,1,");
    CHECK(spans({{0, 1}, {4, 1}}) == "0:1 3:1 1,1,");
    CHECK(spans({{2, 7}}) == "2:1 7,");
    CHECK(spans({}).empty());
}

TEST_CASE("too many buckets: the zero bucket is widened while it may be, then two become one; the limit is strict") {
    det::vector<det::native_cell> cells;
    for (std::int32_t k = -100; k != 100; ++k) cells.push_back({k, 5, k % 2 == 0, 1});
    auto v = reduced(cells, 160);
    CHECK(v.schema == 1);  // one sign has the odd keys, the other the even ones: the first halving merges none
    CHECK(v.positive.size() + v.negative.size() <= 160);
    CHECK(v.count == 200);
    CHECK(det::consistent(v));
    CHECK(v.zero_threshold == 0x1p-128);

    v = reduced(cells, 160, 1);
    CHECK(v.schema == 3);
    CHECK(v.positive.size() + v.negative.size() == 160);
    CHECK(v.zero_count == 40);
    CHECK(v.zero_threshold == det::native_bound(-61, 5));
    CHECK(det::consistent(v));

    v = reduced(cells, 20, 0x1p-30);
    CHECK(v.schema == -2);
    CHECK(v.positive.size() + v.negative.size() <= 20);

    const det::vector<det::native_cell> wide{{-262000, 0, false, 1}, {0, 0, true, 2}, {5, 0, false, 4}, {262145, 0, false, 8}, {262145, 0, true, 16}};
    v = reduced(wide, 2, 0, 8);
    CHECK(v.schema == -4);
    CHECK(v.positive.size() == 1);
    CHECK(v.negative.size() == 1);
    CHECK(v.positive[0].key == 65);
    CHECK(v.zero_count == 7);
    CHECK(std::isfinite(v.zero_threshold));
    CHECK(det::consistent(v));
}

TEST_CASE("what a page has shown is only ever coarsened, and no bucket's count falls") {
    std::mt19937_64 random(3);
    for (int round = 0; round != 200; ++round) {
        const auto limit = static_cast<std::uint32_t>(2 + random() % 40);
        const double widest = round % 3 == 0 ? 0x1p-3 : round % 3 == 1 ? 8 : 0;
        det::native_reduction kept{5, det::native_reduction::none};
        std::map<std::tuple<std::int32_t, int, bool>, std::uint64_t> held;
        det::native_view last;
        for (int step = 0; step != 12; ++step) {
            for (int n = 0; n != 8; ++n) {
                const auto level = static_cast<std::uint8_t>(random() % 20 == 0 ? random() % 4 : 0);
                held[{static_cast<std::int32_t>(random() % 200) - 100, 5 + level, random() % 2 == 0}] += 1 + random() % 3;
            }
            det::vector<det::native_cell> cells;
            std::uint64_t total = 0;
            for (const auto& [at, count] : held) {
                cells.push_back({std::get<0>(at), static_cast<std::uint8_t>(std::get<1>(at)), std::get<2>(at), count});
                total += count;
            }
            const auto v = reduced(cells, limit, widest, 3, &kept);
            REQUIRE(v.count == total);
            REQUIRE(det::consistent(v));
            REQUIRE(v.positive.size() + v.negative.size() <= limit);
            if (step != 0) {
                REQUIRE(v.schema <= last.schema);
                REQUIRE(v.zero_threshold >= last.zero_threshold);
                REQUIRE(v.zero_count >= last.zero_count);
                for (const bool negative : {false, true})
                    for (const auto& old : negative ? last.negative : last.positive) {
                        if (det::native_bound(old.key, 8 - last.schema) <= v.zero_threshold) continue;
                        const std::int32_t now = (old.key + (1 << (last.schema - v.schema)) - 1) >> (last.schema - v.schema);
                        std::uint64_t count = 0;
                        for (const auto& b : negative ? v.negative : v.positive) if (b.key == now) count = b.count;
                        REQUIRE(count >= old.count);
                    }
            }
            last = v;
        }
    }
}

TEST_CASE("an inconsistent native histogram is found") {
    det::native_view v;
    v.schema = 3;
    v.positive = {{1, 2}, {2, 3}};
    v.count = 5;
    CHECK(det::consistent(v));
    v.count = 6;
    CHECK_FALSE(det::consistent(v));
    v.nans = 1;
    CHECK(det::consistent(v));
    v.positive[1].key = 1;
    CHECK_FALSE(det::consistent(v));
    v.positive[1].key = 2;
    v.schema = 9;
    CHECK_FALSE(det::consistent(v));
    v.schema = 3;
    v.zero_threshold = inf;
    CHECK_FALSE(det::consistent(v));
    v.zero_threshold = -1;
    CHECK_FALSE(det::consistent(v));
}

TEST_CASE("a native histogram counts each value in its bucket, zero and NaN apart") {
    const std::unique_ptr<prom::registry> r(made());
    const prom::histogram h{"h", "h", {.registry = r.get(), .native = {.factor = 1.1}}};
    for (int n = 0; n != 3; ++n) {  // by the shared run, and by an own one
        for (int i = 0; i != 50; ++i)
            for (double x : {1.0, -1.0, 0.0, -0.0, 3.0, 300.0, 1e-300, 0x1p-128}) h.observe(x);
        const shown s = look(*r);
        const auto times = static_cast<std::uint64_t>(50 * (n + 1));
        CHECK(s.v.schema == 3);
        CHECK(s.v.zero_count == times * 4);
        CHECK(s.v.count == times * 8);
        CHECK(s.all() == std::map<int, std::uint64_t>{{0, times}, {1, times}, {26, times}, {2 * key(300, 3), times}});
        CHECK(h.count() == times * 8);
        CHECK(s.sum == doctest::Approx(303.0 * static_cast<double>(times)));
        CHECK(h.sum() == s.sum);
        CHECK(det::consistent(s.v));
    }
    h.observe(not_a_number());
    const shown s = look(*r);
    CHECK(s.v.nans == 1);
    CHECK(s.v.count == 1201);
    CHECK(std::isnan(s.sum));
    CHECK(det::consistent(s.v));
    h.observe(inf);
    h.observe(-inf);
    h.observe(most);
    const auto all = look(*r).all();
    CHECK(all.at(2 * 8193) == 1);
    CHECK(all.at(2 * 8193 + 1) == 1);
    CHECK(all.at(2 * 8192) == 1);
}

TEST_CASE("random values, of all sizes, are all counted where they belong, however many windows they take") {
    std::mt19937_64 random(11);
    for (const double factor : {65536.0, 2.0, 1.1, 1.002}) {
        for (const std::uint32_t limit : {0U, 20U, 160U}) {
            const std::unique_ptr<prom::registry> r(made());
            const prom::histogram h{"h", "h", {.registry = r.get(), .buckets = {-1, 1, 1e100}, .native = {.factor = factor, .max_buckets = limit}}};
            std::vector<double> all;
            for (int i = 0; i != 3000; ++i) {
                auto x = std::bit_cast<double>(random());
                if (i % 2 == 0) x = std::exp(static_cast<double>(random() % 4000) * 0.001);
                if (std::isnan(x)) x = 0;
                all.push_back(x);
                h.observe(x);
            }
            const shown s = look(*r);
            CHECK(s.v.count == all.size());
            CHECK(h.count() == all.size());
            CHECK(det::consistent(s.v));
            if (limit != 0) CHECK(s.v.positive.size() + s.v.negative.size() <= limit);
            std::map<int, std::uint64_t> expected;
            std::uint64_t zeros = 0;
            for (double x : all) {
                if (std::abs(x) <= s.v.zero_threshold) ++zeros;
                else expected[2 * key(x, s.v.schema) + std::signbit(x)] += 1;
            }
            if (limit != 20) {  // with 20 the zero bucket's end is within a bucket of what came later
                CHECK(s.all() == expected);
                CHECK(s.v.zero_count == zeros);
            }
            std::vector<std::uint64_t> classic(4);
            for (double x : all) ++classic[x <= -1 ? 0 : x <= 1 ? 1 : x <= 1e100 ? 2 : 3];
            CHECK(s.classic == classic);
            CHECK(s.v.schema <= det::schema_of(factor));
            if (limit == 0) CHECK(s.v.schema == det::schema_of(factor));
        }
    }
}

TEST_CASE("threads that come and go lose no observation of a native histogram") {
    const std::unique_ptr<prom::registry> r(made());
    const prom::histogram h{"h", "h", {.registry = r.get(), .native = {.factor = 1.1}}};
    constexpr int each = 4000;
    std::uint64_t seen = 0;
    for (int round = 0; round != 3; ++round) {
        std::vector<std::thread> all;
        for (int t = 0; t != 4; ++t)
            all.emplace_back([&, t] {
                for (int i = 0; i != each; ++i) h.observe(std::exp2((i * 7 + t) % 40 - 20));
            });
        for (int i = 0; i != 50; ++i) {
            const shown s = look(*r);
            CHECK(det::consistent(s.v));
            CHECK(s.v.count >= seen);
            seen = s.v.count;
        }
        for (auto& t : all) t.join();
        CHECK(h.count() == static_cast<std::uint64_t>(4 * each * (round + 1)));
    }
    const shown s = look(*r);
    CHECK(s.v.positive.size() == 40);
    for (const auto& b : s.v.positive) CHECK(b.count == 3 * 4 * each / 40);
}

TEST_CASE("reset() empties a native histogram, and what was coarsened is fine again") {
    const std::unique_ptr<prom::registry> r(made());
    const prom::histogram h{"h", "h", {.registry = r.get(), .native = {.factor = 1.1, .max_buckets = 10}}};
    for (int i = 0; i != 2000; ++i) h.observe(1 + i % 100);
    std::thread([&] { for (int i = 0; i != 2000; ++i) h.observe(-1 - i % 100); }).join();
    h.observe(inf);
    CHECK(look(*r).v.schema < 3);
    h.reset();
    shown s = look(*r);
    CHECK(s.v.count == 0);
    CHECK(s.sum == 0);
    CHECK(s.v.schema == 3);
    CHECK(s.all().empty());
    h.observe(2);
    s = look(*r);
    CHECK(s.all() == std::map<int, std::uint64_t>{{16, 1}});
    CHECK(s.sum == 2);
}

TEST_CASE("cells of a native histogram that was removed are used again, and old handles count nowhere") {
    prom::registry r;
    for (int round = 0; round != 5; ++round) {
        const prom::family<prom::histogram, "a"> f{"h", "h", {.registry = &r, .native = {.factor = 1.1}}};
        std::vector<prom::histogram> old;
        for (int i = 0; i != 50; ++i) {
            old.push_back(f(i));
            for (int k = 0; k != 60; ++k) old.back().observe(std::exp2(k));
        }
        for (int i = 0; i != 50; ++i) CHECK(f.remove(i));
        for (const auto& h : old) h.observe(1);
        const prom::histogram fresh = f("new");
        CHECK(fresh.count() == 0);
        fresh.observe(5);
        for (const auto& h : old) h.observe(5);
        CHECK(fresh.count() == 1);
        CHECK(fresh.sum() == 5);
        std::thread([&] { for (int k = 0; k != 100; ++k) fresh.observe(5), old[0].observe(5); }).join();
        CHECK(fresh.count() == 101);
        r.unregister("h");
    }
}

TEST_CASE("where a thread last counted is forgotten when it is given a run: a window there may have been another series'") {
    prom::registry r;
    const prom::histogram h{"h", "h", {.registry = &r, .native = {.factor = 1.1}}};
    const auto remembered = [] { return std::any_of(std::begin(det::recents), std::end(det::recents), [](const auto& x) { return x.at != nullptr; }); };
    for (int i = 0; i != 200; ++i) h.observe(i % 2 == 0 ? 3 : -3);
    CHECK(remembered());
    const prom::counter c{"c", "c", {.registry = &r}};
    for (int i = 0; i != 200 && remembered(); ++i) c.inc();
    CHECK(!remembered());
    h.observe(3);
    CHECK(remembered());
    CHECK(h.count() == 201);
    CHECK(h.sum() == 3);
}

TEST_CASE("native histograms that are updated in turn count each their own, in windows that go by one name and by many") {
    prom::registry r;
    const prom::family<prom::histogram, "a"> f{"h", "h", {.registry = &r, .native = {.factor = 1.1}}};
    const prom::histogram all[] = {f(0), f(1), f(2)};
    for (int i = 0; i != 300; ++i)
        for (std::size_t k = 0; k != 3; ++k)
            for (std::size_t times = 0; times <= k; ++times) all[k].observe(std::exp2(i % 2 == 0 ? 3 : i % 60));
    double sum = 0;
    for (int i = 0; i != 300; ++i) sum += std::exp2(i % 2 == 0 ? 3 : i % 60);
    for (std::size_t k = 0; k != 3; ++k) {
        CHECK(all[k].count() == 300 * (k + 1));
        CHECK(all[k].sum() == doctest::Approx(sum * static_cast<double>(k + 1)));
    }
}

TEST_CASE("what is wrong with the options of a native histogram is said") {
    prom::registry r;
    const auto why = [&](const prom::native_buckets& n) {
        const auto made = r.try_histogram("h", "h", {.native = n});
        return std::string(made ? "" : made.why().describe());
    };
    CHECK(why({.factor = 1}) == "h: native.factor must be above 1, for example 1.1");
    CHECK(why({.factor = -2}) == "h: native.factor must be above 1, for example 1.1");
    CHECK(why({.factor = not_a_number()}) == "h: native.factor must be above 1, for example 1.1");
    CHECK(why({.factor = 1.1, .zero_threshold = -1}) == "h: native.zero_threshold is negative or not finite");
    CHECK(why({.factor = 1.1, .max_buckets = 1}) == "h: native.max_buckets must be 0, for no limit, or at least 2");
    CHECK(why({.factor = 1.1, .max_zero_threshold = inf}) == "h: native.max_zero_threshold is negative or not finite");
    CHECK(why({.factor = 1.1, .min_reset = -1}) == "h: native.min_reset is not a valid time");
    CHECK(!r.try_summary("s", "h", {.native = {.factor = 1.1}}));
    CHECK(r.try_histogram("h", "h", {.native = {.factor = 1.1}}));
    CHECK(r.try_histogram("h", "h", {.native = {.factor = 1.1}}));
    CHECK(!r.try_histogram("h", "h", {.native = {.factor = 1.2}}));
    CHECK(!r.try_histogram("h", "h", {}));
}
