// Registries and collectors of any content: protobuf and OpenMetrics 2.0 are decoded, strictly, to the values that the text page
// of the same moment has, and to the same native histograms, through windows of every size.
// max_len: 192
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "support/flat_pages.hpp"
#include "support/fuzz_input.hpp"

#include <cmath>
#include <cstdlib>

namespace prom = prometheus_async;

namespace {

struct reader : fuzz_input {
    std::string text() {
        static const char* const known[] = {"", "a", "b", "a\"b", "a\\b", "a\nb", "x,y=\"z\"", "\xff", "\xc3\xa4", "a longer text than sixteen octets"};
        return fuzz_input::text(known, 40);
    }
    /// No colon, which the label of a state set cannot have, and no suffix, so that most are taken.
    std::string name() {
        static const char* const known[] = {"a", "b", "c", "seconds", "a.b", "a_b", "\xc3\xa4", "with space", "d", "e_bytes"};
        const unsigned n = byte();
        return known[n % std::size(known)] + (n > 127 ? std::to_string(n) : "");
    }
    double number() {
        static const double known[] = {0, -0.0, 1, -1, 0.5, 2, 1e300, 5e-324, INFINITY, -INFINITY, NAN, 1e-5, 3.14159, 9007199254740993.0};
        const unsigned n = byte();
        if (n < 128) return known[n % std::size(known)];
        std::uint64_t bits = n;
        for (int i = 0; i != 7; ++i) bits = bits << 8 | byte();
        return n < 192 ? std::bit_cast<double>(bits << 2) : static_cast<double>(bits >> 48) / 8;
    }
    double size() { const double x = number(); return x >= 0 ? x : 1; }
    double time() { return byte() / 8.0; }  // to the millisecond in each format
    std::uint64_t count() { const unsigned n = byte(); return n < 250 ? n : n == 250 ? ~std::uint64_t{0} : std::uint64_t{1} << (n - 192); }
};

void yield(reader in, prom::sample_sink& out) {
    using sink = prom::sample_sink;
    while (in.at != in.end) {
        const unsigned what = in.byte();
        std::string values[2] = {in.text(), in.text()};
        const prom::label both[] = {{prom::utf8("l.1"), values[0]}, {"l2", values[1]}};
        const prom::list<prom::label> labels(both, what >> 6 & 1U);
        prom::sample_details more;
        if (what & 128) more = {in.time(), in.time(), {labels, in.time()}, in.number()};
        switch (what & 7) {
        case 0: case 1: {
            const std::string name = in.name(), help = in.text();
            out.family(static_cast<prom::metric_type>(in.byte() % 8), prom::utf8(name), help, {});
            break;
        }
        case 2: out.sample(in.number(), labels, more); break;
        case 3: {
            std::vector<sink::bucket> buckets;
            for (unsigned n = in.byte() % 4; n != 0; --n) buckets.push_back({in.number(), in.count()});
            buckets.push_back({INFINITY, in.count()});
            out.histogram(buckets, in.number(), labels, more);
            break;
        }
        case 4: {
            std::vector<sink::quantile> quantiles;
            for (unsigned n = in.byte() % 3; n != 0; --n) quantiles.push_back({in.number(), in.number()});
            out.summary(in.count(), in.size(), quantiles, labels, more);  // OpenMetrics 2.0 has no summary with another sum
            break;
        }
        case 5: {
            const std::string one = in.text(), other = in.text();
            out.states({{one, true}, {other, false}}, labels);
            break;
        }
        default: {
            std::vector<sink::native_bucket> sides[2];
            sink::native_histogram h{.schema = static_cast<int>(in.byte() % 14) - 4, .zero_threshold = in.number(), .zero_count = in.count()};
            std::uint64_t all = h.zero_count;
            for (auto& side : sides) {
                std::int32_t at = static_cast<std::int32_t>(in.byte() << (in.byte() % 16)) - 100;
                for (unsigned n = in.byte() % 32; n != 0; --n, at += static_cast<std::int32_t>(in.byte() % 16)) {
                    side.push_back({at, in.count()});
                    all += side.back().count;
                }
            }
            h.positive = sides[0];
            h.negative = sides[1];
            h.count = all + in.byte() / 250;
            h.sum = in.number();
            const sink::bucket classic[] = {{1, all / 2}, {INFINITY, all}};
            if (what & 8) h.classic = classic;
            out.histogram(h, labels, more);
        }
        }
    }
}

/// Declares a metric with some series, or does not where the name is another's.
void declare(reader& in, prom::registry& r) {
    const std::string name = in.name(), help = in.text();
    const auto utf8 = prom::utf8(name);
    const unsigned how = in.byte();
    prom::metric_options o{.registry = &r};
    static const double bounds[] = {-1, 0.5, 10, 1000};
    static const std::string_view states[] = {"on", "off", "a \"state\""};
    static const prom::any_name label_texts[] = {"first", prom::utf8("second.label")};
    const auto children = [&](auto family, auto update) {
        if (!family) return;
        for (unsigned n = in.byte() % 6; n != 0; --n) {
            const std::string first = in.text(), second = std::to_string(n);
            const auto one = family.value()({first, second});
            for (unsigned times = in.byte() % 40; times != 0; --times) update(one);
        }
    };
    const auto of = [&]<class Metric>(const Metric*) { return r.try_family<Metric>(utf8, help, label_texts, o); };
    switch (how % 6) {
    case 0: children(of(static_cast<const prom::counter*>(nullptr)), [&](const auto& m) { m.inc(in.number()); }); break;
    case 1: children(of(static_cast<const prom::gauge*>(nullptr)), [&](const auto& m) { m.set(in.number()); }); break;
    case 2: children(of(static_cast<const prom::summary*>(nullptr)), [&](const auto& m) { m.observe(in.size()); }); break;
    case 3:
        o.states = states;
        children(of(static_cast<const prom::state_set*>(nullptr)), [&](const auto& m) { m.set(states[in.byte() % 3]); });
        break;
    default:
        if (how & 64) o.buckets = bounds;
        if (how & 128) o.native = {.factor = 1 + 1.0 / (1 + in.byte()), .zero_threshold = in.size(), .max_buckets = in.byte(), .max_zero_threshold = in.size()};
        children(of(static_cast<const prom::histogram*>(nullptr)), [&](const auto& m) { m.observe(in.number()); });
    }
}

void require(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    static double seconds = 1520430000.125;
    prom::set_clock({[] { return 0.0; }, [] { return seconds; }});
    reader in{{data, data + size / 2}};
    const unsigned options = in.byte(), window_size = in.byte();
    prom::registry mine;
    prom::registry* const shown[] = {&mine};
    const reader yielded{data + size / 2, data + size};
    mine.add_collector([yielded](prom::sample_sink& out) { yield(yielded, out); }).keep();
    while (in.at != in.end) declare(in, mine);

    prom::page_options asked;
    asked.names = static_cast<prom::escaping>(options & 3);
    asked.registries = shown;
    asked.native_histograms = (options & 4) == 0;
    asked.created = (options & 8) == 0 ? prom::created_series::all : prom::created_series::off;
    asked.start_timestamps = (options & 8) == 0;
    // Two of the three formats, or all; one of them, or all, through windows too.
    const auto made = [&](unsigned which, prom::format as) {
        std::string whole;
        if ((options >> 4 & 3) == which) return whole;
        asked.as = as;
        whole = prom::expose(asked);
        if ((options >> 6) != which && (options >> 6) != 3) return whole;
        std::string pieces, window(64 + window_size, '\0');
        prom::cursor c;
        c.start(asked);
        for (;;) {
            const prom::pulled got = c.next(window);
            pieces.append(window, 0, got.bytes);
            if (got.what != prom::pull::more) break;
        }
        require(pieces == whole, "the page depends on the window");
        return whole;
    };
    const std::string text = made(0, prom::format::text_1_0_0), om = made(1, prom::format::openmetrics_2_0_0), pb = made(2, prom::format::protobuf);
    std::vector<flat::family> from_om, from_pb;
    if (!om.empty()) from_om = flat::openmetrics_2(om).parse();
    from_pb = flat::protobuf(pb).parse();
    const bool no_om = om.empty(), no_pb = (options >> 4 & 3) == 2;
    const flat::samples expected = no_om ? flat::flatten(from_pb) : flat::flatten(from_om);
    if (!no_om && !no_pb) {
        require(flat::flatten(from_pb) == expected, "protobuf has other values than OpenMetrics 2.0");
        // Gauges have a time in OpenMetrics 2.0 too, but no series of several points has one there in one place.
        require(flat::details(from_pb) == flat::details(from_om), "protobuf and OpenMetrics 2.0 differ in a native histogram or a time");
    }
    if ((options >> 4 & 3) != 0) require(flat::flatten_lines(text) == expected, "the text has other values");
    return 0;
}
