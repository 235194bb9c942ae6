// Random registries, shown through windows of every size while series, families and collectors come and go: what comes
// is a page to a strict decoder, and nothing that lived all the time is missing.
// max_len: 256
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <cstdlib>
#include <map>
#include <set>

namespace prom = prometheus_async;

namespace {

void require(bool good) { if (!good) std::abort(); }

struct input {
    const unsigned char* at;
    const unsigned char* end;
    unsigned octet() { return at != end ? *at++ : 0; }
    double number() {
        static const double known[] = {0, 1, -1, 0.5, 1e300, 5e-324, __builtin_inf(), -__builtin_inf(), __builtin_nan("")};
        return known[octet() % std::size(known)];
    }
    std::string text() {
        std::string made;
        for (unsigned n = octet() % 6; n != 0; --n) made += static_cast<char>(octet());
        return made;
    }
};

/// A page as its grammar has it, strictly: family -> its samples.
struct decoder {
    std::string_view left;
    bool openmetrics;
    std::map<std::string, std::set<std::string>> families{};  // each series: name, sorted labels
    bool ended = false;

    static std::string name(std::string_view& s, bool of_label) {
        std::string out;
        if (s.starts_with('"')) return quoted(s);
        while (!s.empty() && (prom::detail::legacy_letter(s[0]) || (!of_label && s[0] == ':') || (!out.empty() && prom::detail::legacy_digit(s[0])))) take(s, out);
        require(!out.empty());
        return out;
    }
    static void take(std::string_view& s, std::string& to) {
        to += s[0];
        s.remove_prefix(1);
    }
    static void skip(std::string_view& s, std::string_view what) {
        require(s.starts_with(what));
        s.remove_prefix(what.size());
    }
    static std::string quoted(std::string_view& s) {
        skip(s, "\"");
        std::string out;
        while (!s.starts_with('"')) {
            require(!s.empty());
            if (s[0] == '\\') {
                require(s.size() > 1 && (s[1] == 'n' || s[1] == '"' || s[1] == '\\'));
                out += s[1] == 'n' ? '\n' : s[1];
                s.remove_prefix(2);
            } else take(s, out);
        }
        skip(s, "\"");
        return out;
    }
    static void number(std::string_view& s) {
        const std::string word(s.substr(0, s.find(' ')));
        s.remove_prefix(word.size());
        require(!word.empty() && word.find_first_of("xXpP_") == word.npos);
        char* end = nullptr;
        std::strtod(word.c_str(), &end);
        require(*end == 0 && (word.find_first_of("NnIi") == word.npos || word == "NaN" || word == "+Inf" || word == "-Inf"));
    }
    void decode() {
        std::string family;
        require(left.empty() || left.ends_with('\n'));
        while (!left.empty()) {
            std::string_view line = left.substr(0, left.find('\n'));
            left.remove_prefix(line.size() + 1);
            require(!ended && !line.empty() && prom::detail::valid_utf8(line));
            if (line == "# EOF") {
                require(openmetrics);
                ended = true;
            } else if (line.starts_with("# TYPE ")) {
                line.remove_prefix(7);
                family = name(line, false);
                skip(line, " ");
                require(line.find(' ') == line.npos && families.try_emplace(family).second);
            } else if (line.starts_with('#')) {
                require(line.starts_with("# HELP ") || (openmetrics && line.starts_with("# UNIT ")));
                line.remove_prefix(7);
                name(line, false);
                skip(line, " ");
                for (std::size_t i = 0; i != line.size(); ++i)
                    if (line[i] == '\\') require(++i < line.size() && (line[i] == 'n' || line[i] == '\\' || (openmetrics && line[i] == '"')));
            } else sample(line, family);
        }
        require(ended == openmetrics);
    }
    void sample(std::string_view line, const std::string& family) {
        std::string of;
        std::map<std::string, std::string> labels;
        if (!line.starts_with('{')) of = name(line, false);
        if (line.starts_with('{')) {
            skip(line, "{");
            for (bool first = true; !line.starts_with('}'); first = false) {
                if (!first) skip(line, ",");
                const std::string label = name(line, true);
                if (first && of.empty() && !line.starts_with('=')) {
                    of = label;
                    continue;
                }
                skip(line, "=");
                require(labels.emplace(label, quoted(line)).second);
            }
            skip(line, "}");
        }
        require(!of.empty() && of.starts_with(family) && !family.empty());
        skip(line, " ");
        number(line);
        if (!line.empty()) {  // a timestamp; no exemplars here
            skip(line, " ");
            number(line);
        }
        require(line.empty());
        for (const auto& [n, v] : labels) ((of += '\0') += n + '\1') += v;
        require(families[family].insert(of).second);
    }
};

struct world {
    prom::registry home[2];
    std::vector<prom::dynamic_family<prom::counter>> counters{};
    std::vector<prom::dynamic_family<prom::histogram>> histograms{};
    std::vector<std::string> names{};
    std::vector<prom::collector_handle> handles{};

    void change(input& in) {
        prom::registry& r = home[in.octet() & 1];
        const unsigned what = in.octet();
        const std::string value = in.text();
        switch (what % 9) {
        case 0: {
            const std::string name = "f" + std::to_string(what >> 4);
            if (auto made = r.try_gauge(name, in.text())) {
                made->set(in.number());
                names.push_back(name);
            }
            break;
        }
        case 1:
            if (counters.size() < 8) counters.push_back(home[counters.size() & 1].make_family<prom::counter>("c" + std::to_string(counters.size() / 2), in.text(), {"a", "b"}));
            break;
        case 2:
            if (histograms.size() < 8) histograms.push_back(home[histograms.size() & 1].make_family<prom::histogram>("h" + std::to_string(histograms.size() / 2), in.text(), {"a"}));
            break;
        case 3: case 4:
            if (!counters.empty()) counters[what / 9 % counters.size()]({value, in.text()}).inc(in.number());
            break;
        case 5:
            if (!histograms.empty()) histograms[what / 9 % histograms.size()]({value}).observe(in.number());
            break;
        case 6:
            if (!counters.empty()) counters[what / 9 % counters.size()].remove_matching({{"a", value}});
            else if (!names.empty()) r.unregister(names[what / 9 % names.size()]);
            break;
        case 7:
            if (what & 128 && !names.empty()) r.unregister(names[what % names.size()]);
            else if (!histograms.empty()) histograms[what / 9 % histograms.size()].remove_matching({{"a", value}});
            break;
        default:
            if (handles.size() > 3 || what & 128) handles.clear();
            else handles.push_back(r.add_collector([value, n = handles.size()](prom::sample_sink& out) {
                out.family(prom::metric_type::gauge, "k" + std::to_string(n), value);
                out.sample(1, {{"v", value}});
            }));
        }
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    input in{data, data + size};
    world w;
    prom::gauge{"always", "", {.registry = &w.home[0]}}.set(1);
    prom::gauge{"zz_always", "", {.registry = &w.home[1]}}.set(1);
    prom::registry* const both[] = {&w.home[0], &w.home[1]};
    for (unsigned n = in.octet() % 32; n != 0; --n) w.change(in);
    prom::cursor pull;
    for (int round = 0; round != 2; ++round) {
        const unsigned how = in.octet();
        prom::page_options asked;
        asked.as = how & 1 ? prom::format::openmetrics_1_0_0 : how & 2 ? prom::format::text_1_0_0 : prom::format::text_0_0_4;
        asked.names = static_cast<prom::escaping>(how >> 2 & 3);
        asked.created = static_cast<prom::created_series>((how >> 4) % 3);
        asked.registries = both;
        pull.start(asked);
        std::string page;
        char window[1024];
        for (;;) {
            const prom::pulled got = pull.next(std::span(window).first(64 + in.octet() * 2));
            require(got.what != prom::pull::failed);
            page.append(window, got.bytes);
            if (got.what == prom::pull::done) break;
            if (in.octet() % 4 == 0) w.change(in);
        }
        decoder read{page, (how & 1) != 0};
        read.decode();
        const bool dots = asked.names == prom::escaping::dots;
        require(read.families.count("always") == 1 && read.families.count(dots ? "zz__always" : "zz_always") == 1);
    }
    return 0;
}
