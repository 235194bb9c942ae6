// Pages as one list of samples: `name{a="b",le="1"}` and the bits of its value. What a page of one line for each series says
// with a composite value is taken apart into the samples that a page of lines has, so that formats can be compared.
#pragma once
#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace flat {

struct refused : std::runtime_error { using std::runtime_error::runtime_error; };
[[noreturn]] inline void refuse(const std::string& why) {
#ifdef __cpp_exceptions
    throw refused(why);
#else
    std::fprintf(stderr, "refused: %s\n", why.c_str());
    std::abort();
#endif
}

using labels = std::vector<std::pair<std::string, std::string>>;
struct span { std::int64_t offset; std::uint64_t length; };
struct exemplar {
    labels of;
    double value = 0, time = 0;
};
struct native {
    int schema = 0;
    double zero_threshold = 0;
    std::uint64_t zero_count = 0;
    std::vector<span> spans[2];                // positive, negative
    std::vector<std::uint64_t> buckets[2];
};
/// A series, of whichever format.
struct series {
    labels of;
    std::string key;  // its labels in order, as a text
    bool composite = false;
    double number = 0, sum = 0, time = 0, start = 0;
    std::uint64_t count = 0;
    std::vector<std::pair<double, std::uint64_t>> buckets;
    std::vector<std::pair<double, double>> quantiles;
    bool is_native = false;
    native nat;
    std::vector<exemplar> exemplars, native_exemplars;
};
struct family {
    std::string name, help, unit, type;
    std::vector<series> all;
};
using samples = std::vector<std::pair<std::string, std::uint64_t>>;  // in order

/// The shortest text that is this number and no other.
inline std::string number_text(double x) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, x).ptr};
}
inline std::uint64_t bits(double x) { return std::isnan(x) ? std::bit_cast<std::uint64_t>(std::nan("")) : std::bit_cast<std::uint64_t>(x); }
inline std::string key_of(labels& of) {
    if (of.size() > 1) std::sort(of.begin(), of.end());
    std::string out;
    for (const auto& [label, value] : of) (((((out += label) += '=') += std::to_string(value.size())) += ':') += value) += ',';
    return out;
}
/// A sample of a series: what a bound or a quantile adds to the labels stands behind them.
inline void put(samples& to, const std::string& name, std::string_view suffix, const std::string& key, double value, std::string_view added = {}) {
    std::string whole;
    whole.reserve(name.size() + suffix.size() + key.size() + added.size() + 2);
    (((((whole += name) += suffix) += '{') += key) += '}') += added;
    to.emplace_back(std::move(whole), bits(value));
}
inline samples in_order(samples all) {
    std::sort(all.begin(), all.end());
    for (std::size_t i = 1; i < all.size(); ++i) if (all[i - 1].first == all[i].first) refuse("twice: " + all[i].first);
    return all;
}
/// What a native histogram's own parts must agree in, for any server to take the page.
inline void check_native(const series& s) {
    const native& n = s.nat;
    if (n.schema < -4 || n.schema > 8) refuse("schema");
    if (!(n.zero_threshold >= 0) || std::isinf(n.zero_threshold)) refuse("zero threshold");
    std::uint64_t sum = n.zero_count;
    for (int side = 0; side != 2; ++side) {
        std::uint64_t length = 0;
        for (std::size_t i = 0; i != n.spans[side].size(); ++i) {
            if (i != 0 && n.spans[side][i].offset < 0) refuse("a later span goes back");
            length += n.spans[side][i].length;
        }
        if (length != n.buckets[side].size()) refuse("spans and buckets differ");
        for (std::uint64_t b : n.buckets[side]) sum += b;
    }
    if (std::isnan(s.sum) ? s.count < sum : s.count != sum) refuse("the count is not the sum of the buckets");
}
inline samples flatten(const std::vector<family>& page) {
    samples out;
    for (const family& f : page)
        for (const series& s : f.all) {
            if (!s.composite) {
                put(out, f.name, "", s.key, s.number);
            } else {
                for (const auto& [bound, count] : s.buckets) put(out, f.name, "_bucket", s.key, static_cast<double>(count), "le=" + number_text(bound));
                for (const auto& [q, value] : s.quantiles) put(out, f.name, "", s.key, value, "quantile=" + number_text(q));
                put(out, f.name, "_count", s.key, static_cast<double>(s.count));
                put(out, f.name, "_sum", s.key, s.sum);
            }
            if (s.start != 0) put(out, f.type == "counter" ? f.name.substr(0, f.name.size() - 6) : f.name, "_created", s.key, s.start);
        }
    return in_order(std::move(out));
}
/// What flatten() leaves out, for pages of protobuf and OpenMetrics 2.0: times, and native buckets.
inline std::map<std::string, std::string> details(const std::vector<family>& page) {
    std::map<std::string, std::string> out;
    for (const family& f : page)
        for (const series& s : f.all) {
            std::string& text = out[f.name + '{' + s.key];
            text = "time " + number_text(s.time) + " start " + number_text(s.start);
            if (!s.is_native) continue;
            text += " schema " + std::to_string(s.nat.schema) + " zeros " + std::to_string(s.nat.zero_count) + " within " + number_text(s.nat.zero_threshold);
            for (int side = 0; side != 2; ++side) {
                std::int64_t at = 0;
                const std::uint64_t* count = s.nat.buckets[side].data();
                for (const span& x : s.nat.spans[side]) {
                    at += x.offset;
                    for (std::uint64_t i = 0; i != x.length; ++i, ++at) text += (side == 0 ? " +" : " -") + std::to_string(at) + ':' + std::to_string(*count++);
                }
            }
        }
    return out;
}

// ---- lines: the text formats and OpenMetrics 1 ----

inline std::string take_quoted(std::string_view& rest) {
    std::string out;
    std::size_t i = 1;
    for (; i < rest.size() && rest[i] != '"'; ++i) {
        if (rest[i] != '\\') out += rest[i];
        else if (++i == rest.size()) break;
        else if (rest[i] == 'n') out += '\n';
        else if (rest[i] == '"' || rest[i] == '\\') out += rest[i];
        else refuse("an escape that there is not");
    }
    if (i >= rest.size()) refuse("a quote that does not end");
    rest.remove_prefix(i + 1);
    return out;
}
inline bool letter(char c, bool colon) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colon && c == ':'); }
inline bool digit(char c) { return c >= '0' && c <= '9'; }
inline std::string take_name(std::string_view& rest, bool colon) {
    if (rest.empty()) refuse("no name");
    if (rest[0] == '"') {
        std::string name = take_quoted(rest);
        if (name.empty()) refuse("an empty name");
        return name;
    }
    std::size_t i = 0;
    while (i != rest.size() && (letter(rest[i], colon) || (i != 0 && digit(rest[i])))) ++i;
    if (i == 0) refuse("no name: " + std::string(rest.substr(0, 20)));
    const std::string name(rest.substr(0, i));
    rest.remove_prefix(i);
    return name;
}
inline void eat(std::string_view& rest, std::string_view what) {
    if (rest.substr(0, what.size()) != what) refuse("expected " + std::string(what) + " at " + std::string(rest.substr(0, 30)));
    rest.remove_prefix(what.size());
}
/// `name{...}`: a quoted name is the first within the braces.
inline std::string take_series(std::string_view& rest, labels& of) {
    std::string name;
    if (rest[0] != '{') name = take_name(rest, true);
    if (rest.empty() || rest[0] != '{') return name;
    eat(rest, "{");
    for (bool first = true; !rest.empty() && rest[0] != '}'; first = false) {
        if (!first) eat(rest, ",");
        const bool quoted = !rest.empty() && rest[0] == '"';
        const std::string label = take_name(rest, false);
        if (first && quoted && name.empty() && (rest.empty() || rest[0] != '=')) {
            name = label;
            continue;
        }
        eat(rest, "=");
        if (rest.empty() || rest[0] != '"') refuse("a label's value without quotes");
        for (const auto& have : of) if (have.first == label) refuse("a label twice");
        of.emplace_back(label, take_quoted(rest));
    }
    eat(rest, "}");
    if (name.empty()) refuse("no name");
    return name;
}
inline double take_number(std::string_view& rest, std::string_view* as = nullptr) {
    std::size_t i = 0;
    while (i != rest.size() && std::strchr(" \n,]:}", rest[i]) == nullptr) ++i;
    const std::string_view text = rest.substr(0, i);
    rest.remove_prefix(i);
    if (as) *as = text;
    if (text == "NaN" || text == "+Inf" || text == "-Inf") return text == "NaN" ? std::nan("") : text[0] == '-' ? -INFINITY : INFINITY;
    double x = 0;
    const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), x);
    if (text.empty() || text.find_first_not_of("0123456789+-.eE") != text.npos || wrong != std::errc() || end != text.data() + text.size())
        refuse("no number: " + std::string(text));
    return x;
}
/// The samples of a page of lines; exemplars and comments are not looked at.
inline samples flatten_lines(std::string_view page) {
    samples out;
    while (!page.empty()) {
        const std::size_t end = page.find('\n');
        if (end == std::string_view::npos) refuse("the last line does not end");
        std::string_view line = page.substr(0, end);
        page.remove_prefix(end + 1);
        if (line.empty() || line[0] == '#') continue;
        labels of;
        const std::string name = take_series(line, of);
        std::string added;
        std::erase_if(of, [&](const auto& l) {
            if (l.first != "le" && l.first != "quantile") return false;
            std::string_view text = l.second;
            added = l.first + '=' + number_text(take_number(text));
            return true;
        });
        eat(line, " ");
        put(out, name, "", key_of(of), take_number(line), added);
    }
    return in_order(std::move(out));
}

// ---- OpenMetrics 2.0, strictly ----

class openmetrics_2 {
public:
    explicit openmetrics_2(std::string_view page) : rest_(page) {}
    std::vector<family> parse() {
        while (rest_.substr(0, 5) != "# EOF") {
            if (rest_.empty()) refuse("no # EOF");
            if (rest_[0] == '#') descriptor();
            else sample();
        }
        rest_.remove_prefix(5);
        if (!rest_.empty()) eat(rest_, "\n");
        if (!rest_.empty()) refuse("more after # EOF");
        for (const family& f : all_) {
            if (f.type == "info" && !f.name.ends_with("_info")) refuse("an info without _info");
            if ((f.type == "info" || f.type == "stateset") && !f.unit.empty()) refuse("an info or state set with a unit");
        }
        return all_;
    }

private:
    std::string_view rest_;
    std::vector<family> all_;
    bool sampled_ = true;
    unsigned described_ = 0;

    family& of(const std::string& name) {
        if (!all_.empty() && all_.back().name == name) return all_.back();
        for (const family& f : all_) if (f.name == name) refuse("a family twice: " + name);
        described_ = 0;
        sampled_ = false;
        all_.push_back({name, {}, {}, "unknown", {}});
        return all_.back();
    }
    void descriptor() {
        eat(rest_, "# ");
        const std::string_view what = rest_.substr(0, 5);
        if (what != "TYPE " && what != "UNIT " && what != "HELP ") refuse("a comment");
        rest_.remove_prefix(5);
        family& f = of(take_name(rest_, true));
        eat(rest_, " ");
        if (sampled_) refuse("a descriptor after samples");
        const unsigned bit = what[0] == 'T' ? 1U : what[0] == 'U' ? 2U : 4U;
        if (described_ & bit) refuse("a descriptor twice");
        described_ |= bit;
        const std::size_t end = rest_.find('\n');
        if (end == std::string_view::npos) refuse("a line does not end");
        const std::string text(rest_.substr(0, end));
        rest_.remove_prefix(end + 1);
        if (bit == 1) {
            bool known = false;
            for (const char* t : {"counter", "gauge", "histogram", "gaugehistogram", "stateset", "info", "summary", "unknown"}) known |= text == t;
            if (!known) refuse("a type that there is not: " + text);
            f.type = text;
        } else if (bit == 2) {
            for (char c : text) if (!letter(c, true) && !digit(c)) refuse("a unit that is none");
            f.unit = text;
        } else {
            for (std::size_t i = 0; i != text.size(); ++i) {
                if (text[i] == '"') refuse("a quote in help");
                if (text[i] == '\\' && (i + 1 == text.size() || !std::strchr("n\"\\", text[++i]))) refuse("an escape in help");
            }
            f.help = text;
        }
    }
    double time(bool positive = true) {
        const double t = take_number(rest_);
        if (std::isnan(t) || std::isinf(t) || (positive && t < 0)) refuse("a time that is none");
        return t;
    }
    std::uint64_t integer() {
        std::string_view text;
        static_cast<void>(take_number(rest_, &text));
        std::uint64_t n = 0;
        const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), n);
        if (wrong != std::errc() || end != text.data() + text.size()) refuse("a count that is no integer: " + std::string(text));
        return n;
    }
    template <class Item>
    void items(Item item) {
        eat(rest_, "[");
        for (bool first = true; rest_.substr(0, 1) != "]"; first = false) {
            if (!first) eat(rest_, ",");
            item();
        }
        eat(rest_, "]");
    }
    void composite(const family& f, series& s) {
        const bool gauge = f.type == "gaugehistogram", summary = f.type == "summary";
        if (!gauge && !summary && f.type != "histogram") refuse("a composite value of a " + f.type);
        s.composite = true;
        eat(rest_, gauge ? "{gcount:" : "{count:");
        s.count = integer();
        eat(rest_, gauge ? ",gsum:" : ",sum:");
        s.sum = take_number(rest_);
        if (summary) {
            if (std::isnan(s.sum) || s.sum < 0) refuse("a summary's sum is negative or NaN");
            eat(rest_, ",quantile:");
            items([&] {
                const double q = take_number(rest_);
                eat(rest_, ":");
                if (!(q >= 0 && q <= 1) || (!s.quantiles.empty() && s.quantiles.back().first >= q)) refuse("quantiles");
                s.quantiles.emplace_back(q, take_number(rest_));
            });
            return eat(rest_, "}");
        }
        if (rest_.starts_with(",schema:")) {
            s.is_native = true;
            eat(rest_, ",schema:");
            s.nat.schema = static_cast<int>(take_number(rest_));
            eat(rest_, ",zero_threshold:");
            s.nat.zero_threshold = take_number(rest_);
            eat(rest_, ",zero_count:");
            s.nat.zero_count = integer();
            for (int side = 1; side >= 0; --side) {
                const std::string sign = side == 1 ? "negative" : "positive";
                if (!rest_.starts_with("," + sign + "_spans:")) continue;
                eat(rest_, "," + sign + "_spans:");
                items([&] {
                    const double offset = take_number(rest_);
                    eat(rest_, ":");
                    s.nat.spans[side].push_back({static_cast<std::int64_t>(offset), integer()});
                });
                eat(rest_, "," + sign + "_buckets:");
                items([&] { s.nat.buckets[side].push_back(integer()); });
                if (s.nat.buckets[side].empty()) refuse("an empty side");
            }
            check_native(s);
        }
        if (rest_.starts_with(",bucket:")) {
            eat(rest_, ",bucket:");
            items([&] {
                const double bound = take_number(rest_);
                eat(rest_, ":");
                const std::uint64_t count = integer();
                if (std::isnan(bound)) refuse("a bound is NaN");
                if (!s.buckets.empty() && (s.buckets.back().first >= bound || s.buckets.back().second > count)) refuse("buckets do not ascend");
                s.buckets.emplace_back(bound, count);
            });
            if (s.buckets.empty() || s.buckets.back().first != INFINITY || s.buckets.back().second != s.count) refuse("+Inf is not the count");
        } else if (!s.is_native) {
            refuse("a histogram without buckets");
        } else {
            s.buckets.emplace_back(INFINITY, s.count);  // as a server that has no native histograms makes it
        }
        eat(rest_, "}");
    }
    void sample() {
        labels own;
        const std::string name = take_series(rest_, own);
        family& f = of(name);
        sampled_ = true;
        series s;
        s.of = own;
        s.key = key_of(s.of);
        for (const series& have : f.all) if (have.key == s.key) refuse("a series twice");
        eat(rest_, " ");
        if (rest_.starts_with("{")) {
            composite(f, s);
        } else {
            s.number = take_number(rest_);
            if (f.type == "histogram" || f.type == "gaugehistogram" || f.type == "summary") refuse("a number where a composite value belongs");
            if (f.type == "counter" && !(s.number >= 0)) refuse("a counter is negative or NaN");
            if (f.type == "info" && s.number != 1) refuse("an info is not 1");
            if (f.type == "stateset") {
                bool has = false;
                for (const auto& l : own) has |= l.first == f.name;
                if (!has || (s.number != 0 && s.number != 1)) refuse("a state set");
            }
        }
        if (rest_.starts_with(" ") && !rest_.starts_with(" st@") && !rest_.starts_with(" #")) {
            eat(rest_, " ");
            s.time = time(false);
        }
        if (rest_.starts_with(" st@")) {
            eat(rest_, " st@");
            s.start = time();
            if (f.type != "counter" && f.type != "histogram" && f.type != "summary") refuse("st@ of a " + f.type);
        }
        while (rest_.starts_with(" #")) {
            if (f.type != "counter" && f.type != "histogram" && f.type != "gaugehistogram") refuse("an exemplar of a " + f.type);
            eat(rest_, " # ");
            exemplar e;
            std::string_view braces = rest_;
            std::string with_name = "x" + std::string(rest_.substr(0, rest_.find('\n')));
            std::string_view taken = with_name;
            static_cast<void>(take_series(taken, e.of));
            rest_ = braces.substr(with_name.size() - 1 - taken.size());
            eat(rest_, " ");
            e.value = take_number(rest_);
            eat(rest_, " ");
            e.time = time();
            s.exemplars.push_back(std::move(e));
        }
        eat(rest_, "\n");
        f.all.push_back(std::move(s));
    }
};

// ---- protobuf: delimited io.prometheus.client.MetricFamily, strictly ----

class protobuf {
public:
    explicit protobuf(std::string_view page) : rest_(page) {}
    /// The messages, as they come: several may have one name.
    std::vector<family> messages() {
        std::vector<family> all;
        while (!rest_.empty()) {
            const std::uint64_t size = varint(rest_);
            if (size > rest_.size()) refuse("a message is longer than the page");
            all.push_back(read_family(rest_.substr(0, size)));
            rest_.remove_prefix(size);
        }
        return all;
    }
    /// Messages of one name as one family.
    std::vector<family> parse() {
        std::vector<family> all;
        for (family& f : messages()) {
            family* same = nullptr;
            for (family& have : all) if (have.name == f.name) same = &have;
            if (!same) {
                all.push_back(std::move(f));
                continue;
            }
            const bool histograms = same->type.ends_with("histogram") && f.type.ends_with("histogram");  // native gauge ones have a type of their own
            if ((same->type != f.type && !histograms) || same->help != f.help || same->unit != f.unit) refuse("messages of one name differ");
            for (series& s : f.all) same->all.push_back(std::move(s));
        }
        return all;
    }

private:
    std::string_view rest_;

    static std::uint64_t varint(std::string_view& from) {
        std::uint64_t n = 0;
        for (unsigned i = 0;; ++i) {
            if (i == 10 || i == from.size()) refuse("a varint does not end");
            const auto c = static_cast<unsigned char>(from[i]);
            n |= std::uint64_t{c & 127U} << (7 * i);
            if (c < 128) {
                if (c == 0 && i != 0) refuse("a varint longer than it need be");
                from.remove_prefix(i + 1);
                return n;
            }
        }
    }
    static std::int64_t zigzag(std::uint64_t n) { return static_cast<std::int64_t>(n >> 1) ^ -static_cast<std::int64_t>(n & 1); }
    struct field {
        unsigned number, wire;
        std::uint64_t whole = 0;
        double real = 0;
        std::string_view bytes{};
    };
    static bool next(std::string_view& from, field& f) {
        if (from.empty()) return false;
        const std::uint64_t tag = varint(from);
        f = {static_cast<unsigned>(tag >> 3), static_cast<unsigned>(tag & 7)};
        if (f.wire == 0) {
            f.whole = varint(from);
        } else if (f.wire == 1) {
            if (from.size() < 8) refuse("a double is cut off");
            std::uint64_t b = 0;
            for (unsigned i = 0; i != 8; ++i) b |= std::uint64_t{static_cast<unsigned char>(from[i])} << (8 * i);
            f.real = std::bit_cast<double>(b);
            from.remove_prefix(8);
        } else if (f.wire == 2) {
            const std::uint64_t size = varint(from);
            if (size > from.size()) refuse("a field is longer than its message");
            f.bytes = from.substr(0, size);
            from.remove_prefix(size);
        } else {
            refuse("a wire type that is not used");
        }
        return true;
    }
    static void expect(const field& f, unsigned wire) { if (f.wire != wire) refuse("field " + std::to_string(f.number) + " has another wire type"); }
    static double time(std::string_view from) {
        std::uint64_t whole = 0, nanos = 0;
        for (field f; next(from, f);) {
            expect(f, 0);
            if (f.number == 1) whole = f.whole;
            else if (f.number == 2) nanos = f.whole;
            else refuse("a timestamp");
        }
        if (nanos >= 1'000'000'000) refuse("nanoseconds");
        return static_cast<double>(whole) + static_cast<double>(nanos) * 1e-9;
    }
    static void label(std::string_view from, labels& to) {
        std::pair<std::string, std::string> l;
        for (field f; next(from, f);) {
            expect(f, 2);
            if (f.number == 1) l.first = f.bytes;
            else if (f.number == 2) l.second = f.bytes;
            else refuse("a label");
        }
        if (l.first.empty()) refuse("a label without a name");
        for (const auto& have : to) if (have.first == l.first) refuse("a label twice");
        to.push_back(std::move(l));
    }
    static exemplar example(std::string_view from) {
        exemplar e;
        for (field f; next(from, f);) {
            if (f.number == 1) label(f.bytes, e.of);
            else if (f.number == 2) expect(f, 1), e.value = f.real;
            else if (f.number == 3) e.time = time(f.bytes);
            else refuse("an exemplar");
        }
        return e;
    }
    static void histogram(std::string_view from, series& s) {
        s.composite = true;
        unsigned last = 0;
        bool no_op = false;
        for (field f; next(from, f);) {
            if (f.number < last) refuse("fields out of order");
            last = f.number;
            switch (f.number) {
            case 1: expect(f, 0); s.count = f.whole; break;
            case 2: expect(f, 1); s.sum = f.real; break;
            case 3: {
                std::pair<double, std::uint64_t> b{};
                const std::size_t at = s.buckets.size();
                for (field g; next(f.bytes, g);) {
                    if (g.number == 1) expect(g, 0), b.second = g.whole;
                    else if (g.number == 2) expect(g, 1), b.first = g.real;
                    else if (g.number == 3) s.exemplars.push_back(example(g.bytes));
                    else refuse("a bucket");
                }
                if (at != 0 && (s.buckets.back().first >= b.first || s.buckets.back().second > b.second)) refuse("buckets do not ascend");
                s.buckets.push_back(b);
                break;
            }
            case 5: expect(f, 0); s.nat.schema = static_cast<int>(zigzag(f.whole)); break;
            case 6: expect(f, 1); s.nat.zero_threshold = f.real; s.is_native |= f.real > 0; break;
            case 7: expect(f, 0); s.nat.zero_count = f.whole; s.is_native |= f.whole > 0; break;
            case 9:
            case 12: {
                span x{0, 0};
                for (field g; next(f.bytes, g);) {
                    expect(g, 0);
                    if (g.number == 1) x.offset = zigzag(g.whole);
                    else if (g.number == 2) x.length = g.whole;
                    else refuse("a span");
                }
                s.is_native = true;
                no_op |= x.length == 0;
                s.nat.spans[f.number == 9].push_back(x);
                break;
            }
            case 10:
            case 13: {
                expect(f, 2);
                std::int64_t now = 0;
                for (std::string_view deltas = f.bytes; !deltas.empty();) {
                    now += zigzag(varint(deltas));
                    if (now < 0) refuse("a bucket below zero");
                    s.nat.buckets[f.number == 10].push_back(static_cast<std::uint64_t>(now));
                }
                break;
            }
            case 15: s.start = time(f.bytes); break;
            case 16:
                s.native_exemplars.push_back(example(f.bytes));
                if (s.native_exemplars.back().time == 0) refuse("a native exemplar without a time");
                break;
            default: refuse("a histogram");
            }
        }
        if (s.is_native) check_native(s);
        if (no_op && s.nat.spans[0].size() + s.nat.spans[1].size() != 1) refuse("an empty span for nothing");
        if (s.buckets.empty()) s.buckets.emplace_back(INFINITY, s.count);
        if (s.buckets.back().first != INFINITY || s.buckets.back().second != s.count) refuse("+Inf is not the count");
    }
    static series metric(std::string_view from, const std::string& type) {
        series s;
        bool has = false;
        for (field f; next(from, f);) {
            const auto only = [&](const char* of) {
                if (type != of || has) refuse("a value of another type than " + type);
                has = true;
            };
            const auto number = [&] {
                for (field g; next(f.bytes, g);) {
                    if (g.number == 1) expect(g, 1), s.number = g.real;
                    else if (g.number == 2 && type == "counter") s.exemplars.push_back(example(g.bytes));
                    else if (g.number == 3 && type == "counter") s.start = time(g.bytes);
                    else refuse("a number");
                }
            };
            switch (f.number) {
            case 1: label(f.bytes, s.of); break;
            case 2: only("gauge"); number(); break;
            case 3: only("counter"); number(); break;
            case 5: only("unknown"); number(); break;
            case 4:
                only("summary");
                s.composite = true;
                for (field g; next(f.bytes, g);) {
                    if (g.number == 1) s.count = g.whole;
                    else if (g.number == 2) s.sum = g.real;
                    else if (g.number == 4) s.start = time(g.bytes);
                    else if (g.number == 3) {
                        std::pair<double, double> q{};
                        for (field h; next(g.bytes, h);) (h.number == 1 ? q.first : q.second) = h.real;
                        s.quantiles.push_back(q);
                    } else refuse("a summary");
                }
                break;
            case 6: s.time = static_cast<double>(f.whole) / 1000; break;
            case 7:
                only(type == "gaugehistogram" ? "gaugehistogram" : "histogram");
                histogram(f.bytes, s);
                if (type == "gaugehistogram" && !s.is_native) refuse("classic buckets of type 5");
                break;
            default: refuse("a metric");
            }
        }
        if (!has) refuse("a metric without a value");
        s.key = key_of(s.of);
        return s;
    }
    static family read_family(std::string_view from) {
        family out;
        bool typed = false;
        for (field f; next(from, f);) {
            if (f.number == 3) {
                expect(f, 0);
                const char* types[] = {"counter", "gauge", "summary", "unknown", "histogram", "gaugehistogram"};
                if (f.whole > 5) refuse("a type that there is not");
                out.type = types[f.whole];
                typed = true;
                continue;
            }
            expect(f, 2);
            if (f.number == 1) out.name = f.bytes;
            else if (f.number == 2) out.help = f.bytes;
            else if (f.number == 5) out.unit = f.bytes;
            else if (f.number != 4) refuse("a family");
            else if (!typed) refuse("a family without a type");
            else out.all.push_back(metric(f.bytes, out.type));
        }
        if (out.name.empty()) refuse("a family without a name");
        if (out.all.empty()) refuse("a family without a metric");
        return out;
    }
};

}  // namespace flat
