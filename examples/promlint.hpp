// promlint's rules and the difference of two pages, for tests: copy this file beside prometheus_async.hpp.
//
//     CHECK(prom_lint::lint().empty());                                  // what "promtool check metrics" says
//     const std::string before = prom::expose();
//     handle(request);
//     CHECK(prom_lint::page_diff(before, prom::expose()) == "  requests_total{code=\"200\"} 1 -> 2\n");
//
// threads  any; a page is read, never a metric
#ifndef PROMETHEUS_ASYNC_PROMLINT_HPP
#define PROMETHEUS_ASYNC_PROMLINT_HPP

#ifndef PROMETHEUS_ASYNC_HPP
#include "prometheus_async.hpp"
#endif

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace prom_lint {

struct finding {
    std::string metric;
    std::string text;  // as promtool has it: "no help text"
};

namespace detail {

constexpr bool letter(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
constexpr bool digit(char c) noexcept { return c >= '0' && c <= '9'; }
/// Whether a word equals `lower`, in small or capital letters.
inline bool is_word(std::string_view word, std::string_view lower) noexcept {
    return std::equal(word.begin(), word.end(), lower.begin(), lower.end(),
                      [](char a, char b) { return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b; });
}
inline bool valid_utf8(std::string_view s) noexcept {
    for (std::size_t i = 0; i != s.size();) {
        const unsigned lead = static_cast<unsigned char>(s[i]);
        const std::size_t size = lead < 0x80 ? 1 : lead >= 0xc2 && lead < 0xe0 ? 2 : (lead & 0xf0) == 0xe0 ? 3 : lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
        if (size == 0 || s.size() - i < size) return false;
        unsigned point = size == 1 ? lead : lead & (0x7fu >> size);
        for (std::size_t k = 1; k != size; ++k) {
            const unsigned next = static_cast<unsigned char>(s[i + k]);
            if ((next & 0xc0) != 0x80) return false;
            point = point << 6 | (next & 0x3f);
        }
        // An overlong form, one half of a UTF-16 pair, or above the last code point.
        if ((size == 3 && (point < 0x800 || (point >= 0xd800 && point < 0xe000))) || (size == 4 && (point < 0x10000 || point > 0x10ffff))) return false;
        i += size;
    }
    return true;
}

inline bool next_line(std::string_view& page, std::string_view& line) noexcept {
    if (page.empty()) return false;
    line = page.substr(0, page.find('\n'));
    page.remove_prefix(line.size() == page.size() ? line.size() : line.size() + 1);
    return true;
}
// The position after the closing quote of a text that begins with one, or the end.
inline std::size_t past_quotes(std::string_view s, std::size_t i) noexcept {
    for (++i; i < s.size() && s[i] != '"'; ++i) if (s[i] == '\\') ++i;
    return i < s.size() ? i + 1 : s.size();
}
// The length of a sample's name and labels; a comment counts as a name.
inline std::size_t key_size(std::string_view line) noexcept {
    if (line.substr(0, 1) == "#") return line.size();
    std::size_t i = line.find_first_of("{ \t");
    if (i == std::string_view::npos) return line.size();
    if (line[i] == '{') {
        while (i < line.size() && line[i] != '}') i = line[i] == '"' ? past_quotes(line, i) : i + 1;
        if (i < line.size()) ++i;
    }
    return i;
}
// Removes a name from the front: one in quotes, or up to one of `ends`.
inline std::string_view take_name(std::string_view& s, const char* ends) noexcept {
    const bool quoted = s.substr(0, 1) == "\"";
    std::size_t size = quoted ? past_quotes(s, 0) : s.find_first_of(ends);
    if (size > s.size()) size = s.size();
    const std::string_view name = quoted && size > 1 ? s.substr(1, size - 2) : s.substr(0, size);
    s.remove_prefix(size);
    return name;
}
inline bool ends_in(std::string_view s, std::string_view with) noexcept {
    return s.size() >= with.size() && s.substr(s.size() - with.size()) == with;
}
inline bool has_part(std::string_view name, std::string_view part) {
    const std::string inside = std::string("_").append(part);
    return ends_in(name, inside) || name.find(inside + "_") != std::string_view::npos;
}

// The base unit of a word that names a unit, with a prefix or without; empty for any other word.
inline std::string_view base_unit(std::string_view word) noexcept {
    constexpr std::string_view bases[] = {"amperes", "bytes", "celsius", "grams", "joules", "kelvin",
                                          "meters", "metres", "seconds", "volts"};
    constexpr std::string_view others[][2] = {
        {"minutes", "seconds"}, {"hours", "seconds"}, {"days", "seconds"}, {"weeks", "seconds"},
        {"kelvins", "kelvin"}, {"fahrenheit", "celsius"}, {"rankine", "celsius"}, {"inches", "meters"},
        {"yards", "meters"}, {"miles", "meters"}, {"bits", "bytes"}, {"calories", "joules"},
        {"pounds", "grams"}, {"ounces", "grams"}};
    constexpr std::string_view prefixes[] = {
        "", "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega",
        "mibi", "giga", "gibi", "tera", "tebi", "peta", "pebi"};
    for (std::string_view prefix : prefixes) {
        if (word.substr(0, prefix.size()) != prefix) continue;
        const std::string_view unit = word.substr(prefix.size());
        for (std::string_view base : bases) if (unit == base) return base;
        for (const auto& other : others) if (unit == other[0]) return other[1];
    }
    return {};
}

// Reads the text format as promtool does, until what it refuses; but names in quotes are read.
struct text_reader {
    struct family {
        std::string_view name, type;  // no type: neither declared nor derived from a sample
        bool helped;
    };
    std::vector<family> families;  // by name
    std::string_view line;
    std::size_t at = 0;
    bool past_end = false;  // has read beyond the line
    std::string why;

    bool refuse(std::string text) {
        why = std::move(text);
        return false;
    }
    /// As Go quotes a text or an octet.
    static std::string quoted(std::string_view s, char with = '"') {
        std::string out(1, with);
        const bool whole = valid_utf8(s);
        for (const char c : s) {
            constexpr std::string_view from = "\a\b\f\n\r\t\v\\", to = "abfnrtv\\";
            const unsigned octet = static_cast<unsigned char>(c);
            if (const std::size_t k = from.find(c); k != from.npos || c == with) (out += '\\') += c == with ? c : to[k];
            else if (octet < 0x20 || octet == 0x7f || (octet > 0x7f && !whole)) (out.append("\\x") += "0123456789abcdef"[octet >> 4]) += "0123456789abcdef"[octet & 15];
            else out += c;
        }
        return out += with;
    }
    char peek() noexcept {
        past_end |= at >= line.size();
        return at < line.size() ? line[at] : '\n';
    }
    bool ends() noexcept { return peek() == '\n'; }
    bool blank() noexcept { return peek() == ' ' || peek() == '\t'; }
    void skip_blanks() noexcept { while (blank()) ++at; }
    std::string_view taken(std::size_t from) noexcept { return line.substr(from, at - from); }
    std::string_view next_word() noexcept {
        const std::size_t from = at;
        while (!blank() && !ends()) ++at;
        return taken(from);
    }
    std::string_view rest() noexcept {
        const std::size_t from = at;
        at = line.size();
        past_end = true;
        return taken(from);
    }
    std::string_view name(bool of_label) noexcept {
        const std::size_t from = at;
        if (peek() == '"') {
            at = past_quotes(line, at);
            past_end |= at == line.size();
            return at > from + 1 ? line.substr(from + 1, at - from - 2) : std::string_view();
        }
        while (letter(peek()) || (peek() == ':' && !of_label) || (at != from && digit(peek()))) ++at;
        return taken(from);
    }
    /// The family of a sample or comment: for a part of a declared summary or histogram, that family.
    family& family_of(std::string_view name) {
        const auto place = [&](std::string_view of) {
            return std::lower_bound(families.begin(), families.end(), of, [](const family& f, std::string_view n) { return f.name < n; });
        };
        for (std::string_view part : {"", "_count", "_sum", "_bucket"}) {
            if (!ends_in(name, part)) continue;
            const std::string_view of = name.substr(0, name.size() - part.size());
            const auto f = place(of);
            if (f != families.end() && f->name == of && (part.empty() || f->type == "histogram" || (f->type == "summary" && part != "_bucket"))) return *f;
        }
        return *families.insert(place(name), {name, {}, false});
    }
    static bool number(std::string_view s) noexcept {
        const bool has_sign = !s.empty() && (s[0] == '+' || s[0] == '-');
        s.remove_prefix(has_sign);
        if (is_word(s, "inf") || is_word(s, "infinity") || (is_word(s, "nan") && !has_sign)) return true;
        std::size_t i = 0, digits = 0;
        for (bool point = false; i != s.size() && (digit(s[i]) || (s[i] == '.' && !std::exchange(point, true))); ++i) digits += s[i] != '.';
        if (digits == 0 || i == s.size()) return digits != 0;
        if (s[i] != 'e' && s[i] != 'E') return false;
        ++i;
        i += i != s.size() && (s[i] == '+' || s[i] == '-');
        return i != s.size() && s.find_first_not_of("0123456789", i) == s.npos;
    }
    bool comment() {
        ++at;
        skip_blanks();
        const std::string_view what = next_word();
        if (what != "HELP" && what != "TYPE") rest();
        skip_blanks();
        const std::string_view of = name(false);
        if (ends()) return true;
        if (!blank()) return refuse("invalid metric name in comment");
        family& f = family_of(of);
        skip_blanks();
        if (ends()) return true;
        if (what == "TYPE") {
            if (!f.type.empty()) return refuse("second TYPE line for metric name " + quoted(f.name) + ", or TYPE reported after samples");
            std::string type(rest());
            std::erase(type, '\\');  // promtool ignores them
            for (std::string_view known : {"counter", "gauge", "summary", "untyped", "histogram", "gauge_histogram"}) if (is_word(type, known)) f.type = known;
            return !f.type.empty() || refuse("unknown metric type " + quoted(type));
        }
        if (std::exchange(f.helped, true)) return refuse("second HELP line for metric name " + quoted(f.name));
        for (; !ends(); ++at)
            if (peek() == '\\' && (++at, peek() != '\\' && peek() != 'n')) return refuse(std::string("invalid escape sequence '\\") + peek() + '\'');
        return true;
    }
    bool label_value(std::string& value) {
        if (peek() != '"') return refuse("expected '\"' at start of label value, found " + quoted(std::string(1, peek()), '\''));
        for (++at; peek() != '"'; ++at) {
            if (ends()) return refuse("label value " + quoted(value) + " contains unescaped new-line");
            if (peek() != '\\') {
                value += peek();
                continue;
            }
            ++at;
            const char c = peek();
            if (c != '"' && c != '\\' && c != 'n') return refuse(std::string("invalid escape sequence '\\") + c + '\'');
            value += c == 'n' ? '\n' : c;
        }
        ++at;
        return valid_utf8(value) || refuse("invalid label value " + quoted(value));
    }
    bool sample() {
        family* f = nullptr;
        const auto begin = [&](std::string_view of) {
            f = &family_of(of);
            if (f->type.empty()) f->type = "untyped";
        };
        if (peek() != '{') {
            const std::string_view of = name(false);
            if (of.empty()) return refuse("invalid metric name");
            begin(of);
            skip_blanks();
        }
        std::vector<std::string_view> seen;
        if (peek() == '{') {
            ++at;
            for (skip_blanks(); peek() != '}'; skip_blanks()) {
                const bool in_quotes = peek() == '"';
                const std::string_view label = name(true);
                if (label.empty()) return refuse("invalid label name for metric " + quoted(f ? f->name : ""));
                skip_blanks();
                if (!f && in_quotes && peek() != '=') {
                    begin(label);
                    if (peek() == ',') ++at;
                    continue;
                }
                if (label == "__name__") return refuse("label name \"__name__\" is reserved");
                if (peek() != '=') return refuse("expected '=' after label name, found " + quoted(std::string(1, peek()), '\''));
                const bool special = f && ((label == "le" && f->type == "histogram") || (label == "quantile" && f->type == "summary"));
                if (std::find(seen.begin(), seen.end(), label) != seen.end()) return refuse("duplicate label names for metric " + quoted(f ? f->name : ""));
                if (!special) seen.push_back(label);
                ++at;
                skip_blanks();
                std::string value;
                if (!label_value(value)) return false;
                if (special && !number(value)) return refuse("expected float as value for '" + std::string(label) + "' label, got " + quoted(value));
                skip_blanks();
                if (peek() == ',') ++at;
                else if (peek() != '}') return refuse("unexpected end of label value " + quoted(value));
            }
            ++at;
            skip_blanks();
        }
        if (!f) return refuse("invalid metric name");
        if (const std::string_view value = next_word(); !number(value)) return refuse("expected float as value, got " + quoted(value));
        if (ends()) return true;
        skip_blanks();
        const std::string_view when = next_word(), digits = when.substr(!when.empty() && (when[0] == '+' || when[0] == '-'));
        if (digits.empty() || digits.size() > 19 || digits.find_first_not_of("0123456789") != digits.npos)
            return refuse("expected integer as timestamp, got " + quoted(when));
        const std::string_view more = rest();
        return more.empty() || refuse("spurious string after timestamp: " + quoted(more));
    }
    /// Empty, or the first thing that promtool refuses.
    std::string refused(std::string_view page) {
        for (std::size_t lines = 1; !page.empty(); ++lines) {
            const std::size_t size = page.find('\n');
            const bool cut = size == page.npos;
            line = page.substr(0, size);
            page.remove_prefix(cut ? page.size() : size + 1);
            at = 0;
            past_end = false;
            skip_blanks();
            if (ends()) continue;
            past_end = false;
            const bool good = peek() == '#' ? comment() : sample();
            if (cut && past_end) why = "unexpected end of input stream";
            else if (good) continue;
            return "error while linting: text format parsing error in line " + std::to_string(lines) + ": " + why;
        }
        return {};
    }
};

// Reads a page line by line, one family at a time.
struct linter {
    std::vector<finding> found;
    std::string name, type;
    bool helped = false;
    std::size_t first = 0;  // finding of this family
    std::vector<std::string_view> keys;

    void find(std::string text) {
        for (std::size_t i = first; i != found.size(); ++i) if (found[i].text == text) return;
        found.push_back({name, std::move(text)});
    }
    void begin(std::string_view next) {
        finish();
        name = next;
        type = "untyped";
        helped = false;
        first = found.size();
        keys.clear();
    }
    static bool camel(std::string_view s) noexcept {
        for (std::size_t i = 1; i < s.size(); ++i)
            if (s[i - 1] >= 'a' && s[i - 1] <= 'z' && s[i] >= 'A' && s[i] <= 'Z') return true;
        return false;
    }
    void take(std::string_view line) {
        const std::string_view head = line.substr(0, 7);
        if (head == "# HELP " || head == "# TYPE ") {
            line.remove_prefix(7);
            const std::string_view of = take_name(line, " ");
            if (of != name) begin(of);
            if (head == "# HELP ") helped = line.find_first_not_of(" \t") != std::string_view::npos;
            else type = line.substr(line.empty() ? 0 : 1);
            return;
        }
        if (line.empty() || line[0] == '#') return;
        const std::string_view key = line.substr(0, key_size(line));
        std::string_view rest = key, of;
        if (rest[0] != '{') of = take_name(rest, "{ ");
        std::vector<std::string_view> labels;
        if (!rest.empty()) rest.remove_prefix(1);
        while (!rest.empty() && rest[0] != '}') {
            const std::string_view label = take_name(rest, "=,}");
            if (rest.substr(0, 1) == "=") {
                rest.remove_prefix(1);
                take_name(rest, ",}");
                labels.push_back(label);
            } else {
                of = label;  // {"a.b","c"="d"}
            }
            if (rest.substr(0, 1) == ",") rest.remove_prefix(1);
        }
        const bool buckets = type == "histogram", sums = type == "summary";
        std::string_view ending = of;
        if (of.substr(0, name.size()) == name) ending.remove_prefix(name.size());
        const bool part = ending == "_sum" || ending == "_count" || ending == "_bucket";
        if (!ending.empty() && !(part && (buckets || sums))) begin(of);
        keys.push_back(key);
        for (std::string_view label : labels) {
            if (camel(label)) find("label names should be written in 'snake_case' not 'camelCase'");
            if (type == "untyped") continue;
            if (label == "le" && !buckets) find("non-histogram metrics should not have \"le\" label");
            if (label == "quantile" && !sums) find("non-summary metrics should not have \"quantile\" label");
        }
    }
    void finish() {
        if (name.empty() || keys.empty()) return;
        if (!helped) find("no help text");
        for (std::size_t at = 0; at < name.size();) {
            const std::string word = name.substr(at, name.find('_', at) - at);
            at += word.size() + 1;
            const std::string_view base = base_unit(word);
            if (base.empty()) continue;
            if (base != word)
                find(std::string("use base unit \"").append(base) + "\" instead of \"" + word + '"');
            break;
        }
        const bool counts = type == "counter", sums = type == "summary", buckets = type == "histogram";
        const struct {
            const char* text;
            bool belongs;
            const char* who;
        } endings[] = {{"_total", counts, "non-counter"},
                       {"_bucket", buckets, "non-histogram"},
                       {"_count", buckets || sums, "non-histogram and non-summary"},
                       {"_sum", buckets || sums, "non-histogram and non-summary"}};
        for (const auto& e : endings)
            if (type != "untyped" && !e.belongs && ends_in(name, e.text))
                find(std::string(e.who) + " metrics should not have \"" + e.text + "\" suffix");
        if (counts && !ends_in(name, "_total"))
            find("counter metrics should have \"_total\" suffix");
        std::string folded = name;
        for (char& c : folded) if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
        if (type != "untyped" && has_part(folded, type))
            find(std::string("metric name should not include type '").append(type) + '\'');
        if (name.find(':') != std::string::npos) find("metric names should not contain ':'");
        if (camel(name)) find("metric names should be written in 'snake_case' not 'camelCase'");
        for (const char* unit :
             {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"})
            if (has_part(folded, unit)) find("metric names should not contain abbreviated units");
        std::sort(keys.begin(), keys.end());
        if (std::adjacent_find(keys.begin(), keys.end()) != keys.end()) find("metric not unique");
    }
};

}  // namespace detail

/// What `promtool check metrics` reports for a page in the text format: each fault once for a metric,
/// in the order of the page. For a page that promtool cannot read only that, with the line and without a metric:
/// "error while linting: text format parsing error in line 3: unexpected end of input stream". Names in quotes, which
/// promtool 3.5 refuses, are read.
inline std::vector<finding> lint_page(std::string_view page) {
    if (std::string why = detail::text_reader{}.refused(page); !why.empty()) return {{{}, std::move(why)}};
    detail::linter reader;
    for (std::string_view line; detail::next_line(page, line);) reader.take(line);
    reader.finish();
    return std::move(reader.found);
}
/// The same for a registry's page; one finding if the page could not be made.
/// Not exported: it calls the library of the shared object that it is compiled into.
__attribute__((__visibility__("hidden"))) inline std::vector<finding> lint(prometheus_async::registry& from = prometheus_async::default_registry()) {
    prometheus_async::registry* const one[] = {&from};
    prometheus_async::page_options page;
    page.names = prometheus_async::escaping::allow_utf8;
    page.registries = one;
    prometheus_async::cursor pull;
    pull.start(page);
    std::string text;
    char window[4096];
    for (;;) {
        const prometheus_async::pulled got = pull.next(window);
        text.append(window, got.bytes);
        if (got.what == prometheus_async::pull::failed) return {{{}, "error while linting: the page could not be made"}};
        if (got.what == prometheus_async::pull::done) return lint_page(text);
    }
}

/// How a page differs from an earlier one, a line for each difference: `- series 1` is gone,
/// `+ series 1` is new, `  series 1 -> 2` changed. Empty if both have the same samples, in any order.
inline std::string page_diff(std::string_view before, std::string_view after) {
    struct entry {
        std::string_view line, key;
        std::string_view value() const noexcept {
            return line.substr(key.size() < line.size() ? key.size() + 1 : key.size());
        }
    };
    const auto entries_of = [](std::string_view page) {
        std::vector<entry> all;
        for (std::string_view line; detail::next_line(page, line);)
            all.push_back({line, line.substr(0, detail::key_size(line))});
        return all;
    };
    const auto by_key = [](const entry& a, const entry& b) { return a.key < b.key; };
    const auto by_line = [](const entry& a, const entry& b) {
        return a.key != b.key ? a.key < b.key : a.line < b.line;
    };
    const std::vector<entry> old = entries_of(before), now = entries_of(after);
    std::vector<entry> old_sorted = old, now_sorted = now;
    std::sort(old_sorted.begin(), old_sorted.end(), by_line);
    std::sort(now_sorted.begin(), now_sorted.end(), by_line);
    std::string out;
    for (const entry& e : old)
        if (!std::binary_search(now_sorted.begin(), now_sorted.end(), e, by_key))
            out.append("- ").append(e.line).append("\n");
    for (const entry& e : now) {
        if (std::binary_search(old_sorted.begin(), old_sorted.end(), e, by_line)) continue;
        const auto was = std::lower_bound(old_sorted.begin(), old_sorted.end(), e, by_key);
        if (was == old_sorted.end() || was->key != e.key) out.append("+ ").append(e.line);
        else out.append("  ").append(e.key).append(" ").append(was->value()).append(" -> ").append(e.value());
        out.append("\n");
    }
    return out;
}

}  // namespace prom_lint

#endif  // PROMETHEUS_ASYNC_PROMLINT_HPP
