// UTF-8, names and escaping: room [45].
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

namespace prom = prometheus_async;
using namespace std::string_literals;
using namespace std::string_view_literals;
using prom::escaping;
using prom::detail::valid_utf8;

namespace {

std::string clean(std::string_view s) {
    bool changed = false;
    const std::string made = prom::detail::sanitize_utf8(s, changed);
    CHECK(changed == (made != s));
    CHECK(valid_utf8(made));
    return made;
}
std::string label(std::string_view s) {
    prom::detail::string made;
    prom::detail::append_escaped_label(made, s);
    return made;
}
std::string help(std::string_view s, bool openmetrics) {
    prom::detail::string made;
    prom::detail::append_escaped_help(made, s, openmetrics);
    return made;
}
std::string name(std::string_view s, escaping scheme, bool is_label = false) {
    prom::detail::string made;
    prom::detail::append_name(made, s, scheme, is_label);
    return made;
}

// UTF-8 from a code point, by the definition's table.
std::string encoded(std::uint32_t p) {
    const auto byte = [](std::uint32_t b) { return static_cast<char>(static_cast<unsigned char>(b)); };
    if (p < 0x80) return {byte(p)};
    if (p < 0x800) return {byte(0xc0 | p >> 6), byte(0x80 | (p & 63))};
    if (p < 0x10000) return {byte(0xe0 | p >> 12), byte(0x80 | (p >> 6 & 63)), byte(0x80 | (p & 63))};
    return {byte(0xf0 | p >> 18), byte(0x80 | (p >> 12 & 63)), byte(0x80 | (p >> 6 & 63)), byte(0x80 | (p & 63))};
}

}  // namespace

TEST_CASE("every code point but the surrogates is UTF-8, and reads back") {
    bool good = true;
    for (std::uint32_t p = 0; p <= 0x10ffff; ++p) {
        const std::string s = encoded(p);
        const bool surrogate = p >= 0xd800 && p <= 0xdfff;
        std::size_t i = 0;
        const std::uint32_t back = prom::detail::next_code_point(s, i);
        good = good && (surrogate ? back == prom::detail::no_code_point : back == p && i == s.size());
        good = good && valid_utf8(s) == !surrogate && (surrogate || prom::detail::code_points(s) == 1);
        if (s.size() > 1) good = good && !valid_utf8(std::string_view(s).substr(0, s.size() - 1));
    }
    CHECK(good);
}

TEST_CASE("overlong forms, surrogates, cut ends and stray bytes are not UTF-8, at any place in a text") {
    for (std::string_view bad : {"\x80"sv, "\xbf"sv, "\xc0\x80"sv, "\xc1\xbf"sv, "\xc2"sv, "\xc2\xc2"sv, "\xe0\x80\x80"sv, "\xe0\x9f\xbf"sv,
                                 "\xed\xa0\x80"sv, "\xed\xbf\xbf"sv, "\xe2\x82"sv, "\xf0\x80\x80\x80"sv, "\xf0\x8f\xbf\xbf"sv,
                                 "\xf4\x90\x80\x80"sv, "\xf5\x80\x80\x80"sv, "\xf0\x9f\x98"sv, "\xfe"sv, "\xff"sv}) {
        for (std::size_t before = 0; before != 20; ++before) {
            const std::string text = std::string(before, 'x') + std::string(bad) + "tail"s;
            CHECK_FALSE(valid_utf8(text));
            CHECK(clean(text).substr(0, before + 3) == std::string(before, 'x') + "\xef\xbf\xbd");
            CHECK(clean(text).substr(clean(text).size() - 4) == "tail");
        }
        CHECK_FALSE(valid_utf8(bad));
    }
}

TEST_CASE("sanitizing keeps what is good and puts one U+FFFD for each broken part") {
    CHECK(clean("") == "");
    CHECK(clean("plain") == "plain");
    CHECK(clean("gr\xc3\xbc\xc3\x9f" "e \xf0\x9f\x98\x80") == "gr\xc3\xbc\xc3\x9f" "e \xf0\x9f\x98\x80");
    CHECK(clean("a\xff\xfe" "b") == "a\xef\xbf\xbd\xef\xbf\xbd" "b");
    CHECK(clean("\xe2\x82") == "\xef\xbf\xbd");
    CHECK(clean("\xe2\x82\xc3\xbc") == "\xef\xbf\xbd\xc3\xbc");
    CHECK(clean("nul\0byte"sv) == "nul\0byte"sv);
    bool changed = true;
    CHECK(prom::detail::sanitize_utf8("fine", changed) == "fine");
    CHECK(changed);  // never cleared: a caller asks once for several texts
}

TEST_CASE("every pair of bytes sanitizes to UTF-8") {
    bool good = true;
    for (unsigned pair = 0; pair != 65536; ++pair) {
        const char text[] = {static_cast<char>(static_cast<unsigned char>(pair >> 8)), static_cast<char>(static_cast<unsigned char>(pair))};
        bool changed = false;
        const std::string made = prom::detail::sanitize_utf8({text, 2}, changed);
        good = good && valid_utf8(made) && changed == !valid_utf8({text, 2});
    }
    CHECK(good);
}

TEST_CASE("label values escape backslash, newline and quote; help escapes the quote in OpenMetrics only") {
    CHECK(label("") == "");
    CHECK(label("plain") == "plain");
    CHECK(label("a\\b\nc\"d") == "a\\\\b\\nc\\\"d");
    CHECK(label("\\\\\n\n\"\"") == "\\\\\\\\\\n\\n\\\"\\\"");
    CHECK(label("tab\tand\rreturn") == "tab\tand\rreturn");
    CHECK(help("say \"hi\"\\\n", false) == "say \"hi\"\\\\\\n");
    CHECK(help("say \"hi\"\\\n", true) == "say \\\"hi\\\"\\\\\\n");
}

TEST_CASE("names need quotes when they are outside the legacy grammar") {
    CHECK_FALSE(prom::detail::needs_quotes("http_requests:rate5m", false));
    CHECK(prom::detail::needs_quotes("http_requests:rate5m", true));
    CHECK(prom::detail::needs_quotes("http.requests", false));
    CHECK(prom::detail::needs_quotes("9lives", false));
    CHECK(prom::detail::needs_quotes("", true));
    prom::detail::string quoted;
    prom::detail::append_quoted(quoted, "a\"b");
    CHECK(quoted == "\"a\\\"b\"");
}

// The cases of prometheus/common's TestEscapeName, in its order.
TEST_CASE("names escape as prometheus/common's EscapeName does") {
    struct { std::string_view in, underscores, dots, values; } const cases[] = {
        {"", "", "", ""},
        {"no:escaping_required", "no:escaping_required", "no:escaping__required", "no:escaping_required"},
        {"mysystem.prod.west.cpu.load", "mysystem_prod_west_cpu_load", "mysystem_dot_prod_dot_west_dot_cpu_dot_load",
         "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load"},
        {"mysystem.prod.west.cpu.load_total", "mysystem_prod_west_cpu_load_total", "mysystem_dot_prod_dot_west_dot_cpu_dot_load__total",
         "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load__total"},
        {"http.status:sum", "http_status:sum", "http_dot_status:sum", "U__http_2e_status:sum"},
        {"label with \xf0\x9f\x98\xb1", "label_with__", "label__with____", "U__label_20_with_20__1f631_"},
        {"label\xe8\x8a\xb1\xe7\x81\xab", "label__", "label____", "U__label_82b1__706b_"},
        {"0leading", "_leading", "__leading", "U___30_leading"},
    };
    for (const auto& c : cases) {
        CHECK(name(c.in, escaping::allow_utf8) == c.in);
        CHECK(name(c.in, escaping::underscores) == c.underscores);
        CHECK(name(c.in, escaping::dots) == c.dots);
        CHECK(name(c.in, escaping::values) == c.values);
    }
}

TEST_CASE("a label's name has no colon, whatever the scheme") {
    CHECK(name("a:b", escaping::underscores, true) == "a_b");
    CHECK(name("a:b", escaping::dots, true) == "a__b");
    CHECK(name("a:b", escaping::values, true) == "U__a_3a_b");
    CHECK(name("a_b", escaping::values, true) == "a_b");
    CHECK(name("bad\xff", escaping::values) == "U__bad_FFFD_");
    CHECK(name("bad\xff", escaping::underscores) == "bad_");
}

TEST_CASE("whatever the name, what a legacy scheme makes of it is a legacy name") {
    for (std::uint32_t p = 1; p <= 0x10ffff; p += p < 0x3000 ? 1 : 251) {
        for (const std::string& s : {encoded(p), "x" + encoded(p), encoded(p) + "1"}) {
            for (escaping scheme : {escaping::underscores, escaping::dots, escaping::values}) {
                if (!prom::detail::legacy_metric_name(name(s, scheme))) FAIL_CHECK(s);
                if (!prom::detail::legacy_label_name(name(s, scheme, true))) FAIL_CHECK(s);
            }
        }
    }
}
