// random_registry FOLDER FIRST LAST: for each seed a registry of random metrics, its page in every format and
// escaping (SEED.N.page) and what it holds (SEED.json), for check_parsers.py to compare.
//
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "examples/promlint.hpp"

#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <limits>

namespace prom = prometheus_async;

namespace {

// Near the true time, since Prometheus has samples of the last five minutes only; .25 is exact.
double now = 0;

struct generator {
    std::uint64_t state;
    std::uint64_t next() {
        std::uint64_t z = state += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }
    bool one_in(std::size_t n) { return below(n) == 0; }
    template <class T, std::size_t N>
    const T& pick(const T (&from)[N]) { return from[below(N)]; }

    double value() {
        static const double edges[] = {0.0, -0.0, 1, -1, 0.1, 1e-5, 1e-4, 123456, 999999.5, 1e6, 1e21, 1e23, 5e-324, 2.2250738585072014e-308,
                                       1.7976931348623157e308, 9007199254740991.0, 9007199254740992.0, 9007199254740994.0, -9007199254740993.0,
                                       std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                                       std::numeric_limits<double>::quiet_NaN()};
        switch (below(4)) {
        case 0: return pick(edges);
        case 1: return static_cast<double>(next() % 100000) / 1000;
        case 2: return static_cast<double>(next() % 1000000);
        default: {
            const double any = __builtin_bit_cast(double, next());
            return any == any ? any : 0;
        }
        }
    }
    double positive() {
        const double v = std::fabs(value());
        return v == v && v < 1e200 ? v : 7;
    }
    std::string text() {
        static const char* const pieces[] = {"a", "value", " ", "\"", "\\", "\n", "\\n", ",", "=", "{", "}", "{le=\"1\"}", "#", "# EOF", " # ", "\t", "\r", "'", "0",
                                             "\xc3\xbc", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xff", "\xe2\x82", "\xed\xa0\x80", "\x7f", "\x01", "+Inf", "/", "\xe2\x80\xa8"};
        std::string made;
        for (std::size_t n = below(8); n != 0; --n) made += pick(pieces);
        if (one_in(20)) made.append(below(600), 'x');
        return made;
    }
    // Unique by its number, in every escaping.
    std::string name(std::size_t number, bool is_label) {
        static const char* const pieces[] = {"http", "requests", "_", "x", "Y", "le", "total", "bucket", "9", "__x"};
        static const char* const wild[] = {".", "\xc3\xbc", "-", " ", "\"", "\\", "\xf0\x9f\x98\x80", "{", "/", "\n", "#", "="};
        std::string made;
        const bool exotic = one_in(4);
        for (std::size_t n = 1 + below(4); n != 0; --n) made += exotic && one_in(2) ? pick(wild) : pick(pieces);
        if (!is_label && one_in(10)) made += ":";
        if (!exotic && made[0] >= '0' && made[0] <= '9') made.insert(0, "n");
        made += (is_label ? "_l" : "_f") + std::to_string(number);
        return is_label && reserved(made) ? "l" + made : made;
    }
    /// As a label it would, or might once it is escaped, begin with two underscores.
    static bool reserved(std::string_view name) {
        const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
        return !letter(name[0]) && !letter(name[1]) && (name[1] < '0' || name[1] > '9');
    }
};

std::string hex(std::string_view s) {
    std::string made = "\"";
    for (char c : s) {
        made += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
        made += "0123456789abcdef"[static_cast<unsigned char>(c) & 15];
    }
    return made + "\"";
}
std::string bits(double v) {
    char text[32];
    std::snprintf(text, sizeof text, "\"%016" PRIx64 "\"", __builtin_bit_cast(std::uint64_t, v));
    return text;
}

using pairs = std::vector<std::pair<std::string, std::string>>;

// What was put into the registry, as JSON.
struct truth {
    std::string json, samples;

    static std::string pairs_json(const pairs& labels) {
        std::string made = "[";
        for (const auto& [n, v] : labels) made += (made.size() > 1 ? ",[" : "[") + hex(n) + "," + hex(v) + "]";
        return made + "]";
    }
    // `more`: members of an object, `"exemplar":...,"timestamp":...`
    void sample(std::string_view suffix, const pairs& labels, double v, const std::string& more = {}) {
        samples += (samples.empty() ? "[\"" : ",\n  [\"") + std::string(suffix) + "\"," + pairs_json(labels) + "," + bits(v) + ",{" + more + "}]";
    }
    void family(std::string_view base, const char* type, std::string_view help, std::string_view unit) {
        json += (json.empty() ? " {" : ",\n {") + ("\"name\":" + hex(base)) + ",\"type\":\"" + type + "\",\"help\":" + hex(help) + ",\"unit\":" + hex(unit) +
                ",\"samples\":[" + samples + "]}";
        samples.clear();
    }
};

std::string bound_text(double b) {
    char text[prom::detail::number_size];
    return std::string(+text, prom::detail::put_bound(text, b));
}

std::string seconds_text(double seconds) {
    char text[40];
    std::snprintf(text, sizeof text, "\"%.3f\"", seconds);
    return text;
}

// An exemplar to give, and its truth.
struct example {
    std::string id;
    std::vector<prom::label> labels;
    prom::exemplar given;
    std::string json;

    example(generator& random, double value) {
        do id = random.text();
        while (id.size() > 80 || id.find('}') != std::string::npos);  // at a brace the Python parser is lost
        if (!random.one_in(5)) labels.push_back({"trace_id", id});
        if (random.one_in(3)) labels.push_back({"span", "17"});
        if (labels.empty()) labels.push_back({"span", ""});
        given.labels = labels;
        if (random.one_in(2)) given.timestamp = now - 10;
        pairs told;
        for (const auto& l : labels) told.emplace_back(l.name, l.value);
        json = "\"exemplar\":{\"labels\":" + truth::pairs_json(told) + ",\"value\":" + bits(value) + ",\"timestamp\":" +
               seconds_text(given.timestamp == 0 ? now : given.timestamp) + "}";
    }
    example(const example&) = delete;
};

struct world {
    generator random;
    prom::registry registries[2];
    truth told;
    std::size_t names = 0;

    std::string name, help, unit;
    pairs constant;
    std::vector<std::string> labels, states;
    std::vector<std::string_view> state_views;
    std::vector<double> buckets;

    prom::metric_options options(std::vector<prom::label>& kept) {
        for (const auto& [n, v] : constant) kept.push_back({prom::utf8(n), v});
        prom::metric_options o;
        o.registry = &registries[random.below(2)];
        state_views.assign(states.begin(), states.end());
        o.states = state_views;
        o.unit = unit;
        o.labels = kept;
        o.buckets = buckets;
        return o;
    }
    pairs all(const std::vector<std::string>& values) const {
        pairs made = constant;
        for (std::size_t i = 0; i != values.size(); ++i) made.emplace_back(labels[i], values[i]);
        return made;
    }
    static pairs with(pairs labels_too, std::string_view n, std::string_view v) {
        labels_too.emplace_back(n, v);
        return labels_too;
    }

    // `fill(metric, labels)` updates one series and tells the truth of it.
    template <class Metric, class Fill>
    void declare(const char* type, std::string_view suffix, Fill fill) {
        std::vector<prom::label> kept;
        const prom::metric_options o = options(kept);
        const std::string declared = name + (!suffix.empty() && random.one_in(2) ? std::string(suffix) : "");
        if (labels.empty()) {
            auto made = prom::detail::declare({Metric::type, prom::utf8(declared), help, o});
            if (!made) return std::fprintf(stderr, "%s\n", made.why().describe()), std::exit(1);
            fill(Metric(*made), all({}));
        } else {
            std::vector<prom::any_name> names_of_labels;
            for (const std::string& l : labels) names_of_labels.push_back(prom::utf8(l));
            auto made = o.registry->try_family<Metric>(prom::utf8(declared), help, names_of_labels, o);
            if (!made) return std::fprintf(stderr, "%s\n", made.why().describe()), std::exit(1);
            for (std::size_t n = 1 + random.below(5), i = 0; i != n; ++i) {
                std::vector<std::string> values{"series " + std::to_string(i)};
                while (values.size() < labels.size()) values.push_back(random.text());
                fill((*made)(std::vector<std::string_view>(values.begin(), values.end())), all(values));
            }
        }
        told.family(name + (unit.empty() ? "" : "_" + unit), type, help, unit);
    }

    // The name of a state set is also a label's.
    void as_label() {
        while (name.find(':') != std::string::npos) name.erase(name.find(':'), 1);
        if (random.reserved(name)) name.insert(0, "s");
    }

    void family() {
        static const char* const units[] = {"seconds", "bytes", "ratio"};
        name = random.name(names++, false);
        help = random.text();
        unit = random.one_in(3) ? random.pick(units) : "";
        constant.clear();
        labels.clear();
        buckets.clear();
        states.clear();
        for (std::size_t n = random.one_in(4) ? 1 + random.below(2) : 0; n != 0; --n) constant.emplace_back(random.name(names++, true), random.text());
        for (std::size_t n = random.below(4); n != 0; --n) labels.push_back(random.name(names++, true));

        switch (random.below(9)) {
        case 0:
            return declare<prom::counter>("counter", "_total", [&](prom::counter c, const pairs& at) {
                const std::uint64_t whole = random.one_in(4) ? ~std::uint64_t{0} - random.below(3) : random.next() >> random.below(64);
                const double part = random.one_in(3) ? random.positive() : 0;
                c.inc(whole);
                std::string more;
                if (random.one_in(3)) {
                    const example e(random, part);
                    c.inc(part, e.given);
                    more = e.json + ",";
                } else {
                    c.inc(part);
                }
                more += "\"created\":" + bits(now);
                // Whole steps add up exactly, as long as there is room for them.
                std::uint64_t sum = 0;
                const bool exact = part < 9007199254740992.0 && std::trunc(part) == part && !__builtin_add_overflow(whole, static_cast<std::uint64_t>(part), &sum);
                told.sample("_total", at, exact ? static_cast<double>(sum) : static_cast<double>(whole) + part, more);
            });
        case 1:
        case 2:
            return declare<prom::gauge>("gauge", "", [&](prom::gauge g, const pairs& at) {
                const double v = random.value();
                if (random.one_in(2)) {
                    g.set(v);
                    told.sample("", at, v);
                } else {
                    g.inc(v);
                    told.sample("", at, 0 + v);
                }
            });
        case 3:
            if (random.one_in(2)) {
                double at = random.one_in(2) ? random.positive() / 1e3 : -100;
                for (std::size_t n = 1 + random.below(random.one_in(8) ? 250 : 12); n != 0; --n) buckets.push_back(at), at += (at < 0 ? -at : at) * 0.3 + 1e-6;
            }
            return declare<prom::histogram>("histogram", "", [&](prom::histogram h, const pairs& at) {
                static const double standard[] = {.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10};
                const std::vector<double> upper = buckets.empty() ? std::vector<double>(std::begin(standard), std::end(standard)) : buckets;
                std::vector<std::uint64_t> counts(upper.size() + 1);
                std::vector<std::string> examples(upper.size() + 1);
                double sum = 0;
                for (std::size_t n = random.below(40); n != 0; --n) {
                    const double v = random.one_in(3) ? upper[random.below(upper.size())] : random.value();
                    std::size_t i = 0;
                    while (i != upper.size() && !(v <= upper[i])) ++i;
                    ++counts[i];
                    if (random.one_in(10)) {
                        const example e(random, v);
                        h.observe(v, e.given);
                        examples[i] = e.json;
                    } else {
                        h.observe(v);
                    }
                    sum += v;
                }
                std::uint64_t total = 0;
                for (std::size_t i = 0; i != counts.size(); ++i)
                    told.sample("_bucket", with(at, "le", i == upper.size() ? "+Inf" : bound_text(upper[i])), static_cast<double>(total += counts[i]), examples[i]);
                told.sample("_sum", at, sum);
                told.sample("_count", at, static_cast<double>(total), "\"created\":" + bits(now));
            });
        case 4:
            return declare<prom::unknown>("unknown", "", [&](prom::unknown u, const pairs& at) {
                const double v = random.value();
                u.set(v);
                told.sample("", at, v);
            });
        case 5:
            unit.clear();
            return declare<prom::info>("info", "_info", [&](prom::info i, pairs at) {
                std::vector<prom::label> given;
                const std::size_t before = at.size();
                for (std::size_t n = random.below(3); n != 0; --n) at.emplace_back(random.name(names++, true), random.text());
                for (std::size_t n = before; n != at.size(); ++n) given.push_back({prom::utf8(at[n].first), at[n].second});
                i.set(given);
                told.sample("_info", at, 1);
            });
        case 6:
            unit.clear();
            as_label();
            for (std::size_t n = 1 + random.below(4); n != 0; --n) states.push_back("state " + std::to_string(n) + random.text());
            return declare<prom::state_set>("stateset", "", [&](prom::state_set s, const pairs& at) {
                const std::size_t on = random.below(states.size());
                s.set(states[on]);
                for (std::size_t n = 0; n != states.size(); ++n) told.sample("", with(at, name, states[n]), n == on ? 1 : 0);
            });
        case 7: return collected();
        default:
            return declare<prom::summary>("summary", "", [&](prom::summary s, const pairs& at) {
                double sum = 0;
                const std::size_t n = random.below(20);
                for (std::size_t i = 0; i != n; ++i) {
                    const double v = random.value();
                    s.observe(v);
                    sum += v;
                }
                told.sample("_sum", at, sum);
                told.sample("_count", at, static_cast<double>(n), "\"created\":" + bits(now));
            });
        }
    }

    // A family that a collector yields; its calls are recorded, for each page to repeat.
    struct recorded {
        prom::metric_type type;
        std::string name, help, unit;
        struct series {
            pairs labels;
            std::vector<prom::sample_sink::bucket> buckets;
            std::vector<prom::sample_sink::quantile> quantiles;
            std::vector<std::string> states;
            double value;
            std::uint64_t count;
            prom::sample_details details;
        };
        std::vector<series> all;

        void yield(prom::sample_sink& out) const {
            out.family(type, prom::utf8(name), help, unit);
            for (const series& s : all) {
                std::vector<prom::label> given;
                for (const auto& [n, v] : s.labels) given.push_back({prom::utf8(n), v});
                std::vector<prom::sample_sink::state> shown;
                for (std::size_t i = 0; i != s.states.size(); ++i) shown.push_back({s.states[i], i == s.count});
                if (type == prom::metric_type::histogram || type == prom::metric_type::gauge_histogram) out.histogram(s.buckets, s.value, given, s.details);
                else if (type == prom::metric_type::summary) out.summary(s.count, s.value, s.quantiles, given, s.details);
                else if (type == prom::metric_type::state_set) out.states(shown, given);
                else out.sample(s.value, given, s.details);
            }
        }
    };
    void collected() {
        recorded f;
        f.type = static_cast<prom::metric_type>(random.below(8));
        const bool bare = f.type == prom::metric_type::info || f.type == prom::metric_type::state_set;
        if (bare) as_label();
        f.name = name;
        f.help = help;
        f.unit = bare ? "" : unit;
        const bool timed = random.one_in(3);
        for (std::size_t n = 1 + random.below(4), k = 0; k != n; ++k) {
            recorded::series s{};
            s.labels = {{"series_l", std::to_string(k)}, {"text_l", random.text()}};
            std::string more;
            if (timed && !bare) {
                s.details.timestamp = now - 3;
                more = "\"timestamp\":" + seconds_text(s.details.timestamp);
            }
            std::string created = more;
            if (random.one_in(2) && (f.type == prom::metric_type::counter || f.type == prom::metric_type::histogram || f.type == prom::metric_type::summary)) {
                s.details.created = now - 100;
                created += (more.empty() ? "\"created\":" : ",\"created\":") + bits(s.details.created);
            }
            s.value = f.type == prom::metric_type::info ? 1 : f.type == prom::metric_type::counter ? random.positive() : random.value();
            s.count = random.below(1000);
            switch (f.type) {
            case prom::metric_type::histogram:
            case prom::metric_type::gauge_histogram: {
                double upper = random.positive() / 1e3;
                for (std::size_t b = random.below(6); b != 0; --b) s.buckets.push_back({upper, s.count += random.below(9)}), upper += upper + 1e-3;
                s.buckets.push_back({std::numeric_limits<double>::infinity(), s.count += random.below(9)});
                for (const auto& b : s.buckets) told.sample("_bucket", with(s.labels, "le", bound_text(b.upper)), static_cast<double>(b.count), more);
                const bool gauges = f.type == prom::metric_type::gauge_histogram;
                told.sample(gauges ? "_gsum" : "_sum", s.labels, s.value, more);
                told.sample(gauges ? "_gcount" : "_count", s.labels, static_cast<double>(s.count), created);
                break;
            }
            case prom::metric_type::summary:
                for (double q : {0.0, 0.5, 0.99, 1.0})
                    if (random.one_in(2)) s.quantiles.push_back({q, random.value()});
                for (const auto& q : s.quantiles) told.sample("", with(s.labels, "quantile", bound_text(q.q)), q.value, more);
                told.sample("_sum", s.labels, s.value, more);
                told.sample("_count", s.labels, static_cast<double>(s.count), created);
                break;
            case prom::metric_type::state_set:
                for (std::size_t n_states = 1 + random.below(3), i = 0; i != n_states; ++i) s.states.push_back(std::to_string(i) + random.text());
                s.count = random.below(s.states.size());
                for (std::size_t i = 0; i != s.states.size(); ++i) told.sample("", with(s.labels, name, s.states[i]), i == s.count ? 1 : 0, more);
                break;
            default:
                told.sample(f.type == prom::metric_type::counter ? "_total" : f.type == prom::metric_type::info ? "_info" : "", s.labels, s.value,
                            f.type == prom::metric_type::counter ? created : more);
            }
            f.all.push_back(std::move(s));
        }
        static const char* const type_names[] = {"counter", "gauge", "histogram", "summary", "info", "stateset", "unknown", "gaugehistogram"};
        told.family(name + (f.unit.empty() ? "" : "_" + f.unit), type_names[static_cast<unsigned>(f.type)], help, f.unit);
        registries[random.below(2)].add_collector([kept = std::move(f)](prom::sample_sink& out) { kept.yield(out); }).keep();
    }
};

void write(const std::string& path, const std::string& text) {
    std::FILE* file = std::fopen(path.c_str(), "wb");
    if (!file || std::fwrite(text.data(), 1, text.size(), file) != text.size() || std::fclose(file) != 0) std::perror(path.c_str()), std::exit(1);
}

}  // namespace

int main(int count, char** arguments) {
    if (count == 3 && std::string_view(arguments[1]) == "lint") {  // what lint_page says about a file
        std::ifstream file(arguments[2], std::ios::binary);
        const std::string page(std::istreambuf_iterator<char>(file), {});
        for (const auto& finding : prom_lint::lint_page(page)) std::printf("%s%s%s\n", finding.metric.c_str(), finding.metric.empty() ? "" : " ", finding.text.c_str());
        return 0;
    }
    if (count != 4) return std::fprintf(stderr, "random_registry FOLDER FIRST LAST, or lint PAGE\n"), 2;
    const std::string folder = arguments[1];
    now = static_cast<double>(std::time(nullptr)) + 0.25;
    prom::set_clock({[] { return 1.0; }, [] { return now; }});
    for (int seed = std::atoi(arguments[2]); seed <= std::atoi(arguments[3]); ++seed) {
        world w{{static_cast<std::uint64_t>(seed)}, {}, {}, 0, {}, {}, {}, {}, {}, {}, {}, {}};
        if (w.random.one_in(3)) {
            const std::string text = w.random.text();
            w.registries[0].target_info({{"service", text}});
            w.told.sample("_info", {{"service", text}}, 1);
            w.told.family("target", "info", "Target metadata", "");
        }
        const auto created = static_cast<prom::created_series>(w.random.below(3));
        for (std::size_t n = 3 + w.random.below(25); n != 0; --n) w.family();

        static const prom::format formats[] = {prom::format::text_0_0_4, prom::format::text_1_0_0, prom::format::openmetrics_0_0_1, prom::format::openmetrics_1_0_0};
        static const char* const escapings[] = {"underscores", "dots", "values", "allow-utf-8"};
        std::string pages;
        prom::registry* const both[] = {&w.registries[0], &w.registries[1]};
        for (std::size_t f = 0; f != std::size(formats); ++f)
            for (std::size_t e = 0; e != std::size(escapings); ++e) {
                if ((f == 0 || f == 2) && e != 0) continue;
                prom::page_options asked;
                asked.as = formats[f];
                asked.names = static_cast<prom::escaping>(e);
                asked.registries = both;
                asked.created = created;
                // Through a window of some odd size: where it ends must not matter.
                std::string page;
                std::vector<char> window(64 + w.random.below(w.random.one_in(2) ? 100 : 5000));
                prom::cursor pull;
                pull.start(asked);
                for (;;) {
                    const prom::pulled got = pull.next(window);
                    page.append(window.data(), got.bytes);
                    if (got.what == prom::pull::done) break;
                    if (got.what == prom::pull::failed) return std::fprintf(stderr, "seed %d: the cursor failed\n", seed), 1;
                }
                if (page != prom::expose(asked)) return std::fprintf(stderr, "seed %d: the window's size matters\n", seed), 1;
                const std::string file = std::to_string(seed) + "." + std::to_string(f) + escapings[e] + ".page";
                write(folder + "/" + file, page);
                pages += (pages.empty() ? " {" : ",\n {") + ("\"file\":\"" + file) + "\",\"openmetrics\":" + (f < 2 ? "false" : "true") + ",\"escaping\":\"" + escapings[e] +
                         "\",\"content_type\":\"" + std::string(prom::content_type(asked.as, asked.names)) + "\"}";
            }
        std::string lint;
        prom::page_options plain;
        plain.registries = both;
        plain.created = created;
        for (const auto& finding : prom_lint::lint_page(prom::expose(plain))) lint += (lint.empty() ? "" : ",") + hex(finding.metric + " " + finding.text);
        write(folder + "/" + std::to_string(seed) + ".json", std::string("{\"created\":") + std::to_string(static_cast<int>(created)) + ",\"pages\":[\n" + pages + "],\n\"lint\":[" + lint +
                                                                 "],\n\"families\":[\n" + w.told.json + "]}\n");
    }
}
