// A collector that yields anything, beside declared metrics: the page stays valid in every format.
// max_len: 192
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "examples/promlint.hpp"
#include "support/fuzz_input.hpp"

#include <algorithm>

namespace prom = prometheus_async;

namespace {

struct reader : fuzz_input {
    std::string text() {
        static const char* const known[] = {"a", "b", "a_total", "a_count", "a.b", "a_b", "le", "quantile", "declared", "declared_total", "h", "h_bucket", "h_sum", "", "__x", "\xff", "x_info", "x"};
        return fuzz_input::text(known, 8);
    }
    double number() {
        static const double known[] = {0, 1, -1, 0.5, 2, 1e300, __builtin_inf(), -__builtin_inf(), __builtin_nan(""), 1700000000.5};
        return known[byte() % std::size(known)];
    }
};

void yield(reader in, prom::sample_sink& out) {
    while (in.at != in.end) {
        std::vector<std::string> kept;
        std::vector<prom::label> labels;
        const unsigned what = in.byte();
        for (unsigned n = what >> 4 & 3; n != 0; --n) kept.push_back(in.text()), kept.push_back(in.text());
        for (std::size_t i = 0; i + 1 < kept.size(); i += 2) labels.push_back({prom::utf8(kept[i]), kept[i + 1]});
        prom::sample_details more;
        if (what & 64) more = {in.number(), in.number(), {labels, in.number()}, in.number()};
        switch (what & 15) {
        case 0: case 1: case 2: case 3: case 4: {
            const std::string name = in.text(), help = in.text(), unit = what & 128 ? in.text() : "";
            const auto type = static_cast<prom::metric_type>(in.byte() % 8);
            if (what & 32) out.family(type, prom::utf8(name), help, unit);
            else out.family(type, name, help, unit);
            break;
        }
        case 5: case 6: case 7: out.sample(in.number(), labels, more); break;
        case 8: case 9: {
            std::vector<prom::sample_sink::bucket> buckets;
            for (unsigned n = in.byte() % 4; n != 0; --n) {
                const double upper = in.number();
                buckets.push_back({upper, in.byte()});
            }
            if (what & 128) buckets.push_back({__builtin_inf(), 1000});
            out.histogram(buckets, in.number(), labels, more);
            break;
        }
        case 10: case 11: {
            std::vector<prom::sample_sink::quantile> quantiles;
            for (unsigned n = in.byte() % 3; n != 0; --n) {
                const double q = in.number();
                quantiles.push_back({q, in.number()});
            }
            out.summary(in.byte(), in.number(), quantiles, labels, more);
            break;
        }
        case 12: case 13: {
            const std::string one = in.text(), other = in.text();
            out.states({{one, true}, {other, false}}, labels);
            break;
        }
        case 14: if (what & 128) out.fail("enough"); break;
        default: break;
        }
    }
}

void require(bool good) { if (!good) std::abort(); }

// What every parser asks of a page: UTF-8, one head for a family, no series twice, EOF at its end and only there.
void judge(const std::string& page, bool openmetrics) {
    require(prom::detail::valid_utf8(page));
    std::vector<std::string_view> types, keys;
    std::string_view rest = page;
    bool ended = false;
    for (std::string_view line; prom_lint::detail::next_line(rest, line);) {
        require(!line.empty() && !ended);
        if (line == "# EOF") {
            require(openmetrics);
            ended = true;
        } else if (line.substr(0, 7) == "# TYPE ") {
            line.remove_prefix(7);
            types.push_back(prom_lint::detail::take_name(line, " "));
        } else if (line[0] != '#') {
            require(!types.empty());
            const std::size_t size = prom_lint::detail::key_size(line);
            require(size < line.size() && line[size] == ' ');
            keys.push_back(line.substr(0, size));
            // The family's name begins the sample's.
            std::string_view name = line;
            if (name[0] == '{') name.remove_prefix(1);
            require(prom_lint::detail::take_name(name, "{ ").substr(0, types.back().size()) == types.back());
        }
    }
    require(ended == openmetrics);
    for (auto* all : {&types, &keys}) {
        std::sort(all->begin(), all->end());
        require(std::adjacent_find(all->begin(), all->end()) == all->end());
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    reader in{{data, data + size}};
    static prom::registry mine;
    static prom::registry* const one[] = {&mine};
    static const prom::counter declared{"declared_total", "Declared.", {.registry = &mine}};
    static const prom::histogram h{"h", "H.", {.registry = &mine, .buckets = {1}}};
    static prom::cursor pull;
    static std::string page;
    const reader first{data, data + size / 2}, second{data + size / 2, data + size};
    const unsigned options = in.byte();
    const auto one_of_them = mine.add_collector([first](prom::sample_sink& out) { yield(first, out); });
    prom::collector_handle other;
    if (options & 4) other = mine.add_collector([second](prom::sample_sink& out) { yield(second, out); });
    for (const auto as : {prom::format::text_0_0_4, prom::format::openmetrics_1_0_0}) {
        prom::page_options asked;
        asked.as = as;
        asked.names = static_cast<prom::escaping>(options & 3);
        asked.created = static_cast<prom::created_series>((options >> 3) % 3);
        asked.registries = one;
        pull.start(asked);
        page.clear();
        static char window[16384];
        for (prom::pulled got{0, prom::pull::more}; got.what == prom::pull::more; page.append(window, got.bytes)) got = pull.next(window);
        judge(page, as == prom::format::openmetrics_1_0_0);
        const char* const counter = asked.names == prom::escaping::dots ? "\ndeclared__total 0\n" : "\ndeclared_total 0\n";
        require(page.find(counter) != std::string::npos && page.find("\nh_bucket{le=\"+Inf\"} 0\n") != std::string::npos);
    }
    return 0;
}
