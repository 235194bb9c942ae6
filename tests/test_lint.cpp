// promlint's rules and the difference of two pages: examples/promlint.hpp.
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"
#include "examples/promlint.hpp"

#include <doctest/doctest.h>

namespace prom = prometheus_async;

namespace {

std::string findings(const std::vector<prom_lint::finding>& found) {
    std::string lines;
    for (const auto& f : found) lines += f.metric + " " + f.text + "\n";
    return lines;
}
std::string page(std::string_view text) { return findings(prom_lint::lint_page(text)); }
std::string gauge(const std::string& name) { return page("# HELP " + name + " h\n# TYPE " + name + " gauge\n" + name + " 1\n"); }

}  // namespace

TEST_CASE("a page that follows the conventions has no findings") {
    CHECK(page("") == "");
    CHECK(page("# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total{a=\"b\"} 1\nrequests_total{a=\"c\"} 1\n"
               "# HELP d_seconds D.\n# TYPE d_seconds histogram\nd_seconds_bucket{le=\"1.0\"} 1\nd_seconds_bucket{le=\"+Inf\"} 1\n"
               "d_seconds_sum 1\nd_seconds_count 1\n"
               "# HELP s_bytes S.\n# TYPE s_bytes summary\ns_bytes{quantile=\"0.5\"} 1\ns_bytes_sum 1\ns_bytes_count 1\n"
               "# HELP last_timestamp_seconds T.\n# TYPE last_timestamp_seconds gauge\nlast_timestamp_seconds 1\n") == "");
}

TEST_CASE("every metric needs help") {
    CHECK(page("# TYPE x gauge\nx 1\n") == "x no help text\n");
    CHECK(page("x 1\n") == "x no help text\n");
    CHECK(page("# HELP x \n# TYPE x gauge\nx 1\n") == "x no help text\n");
}

TEST_CASE("units are base units, spelt out") {
    CHECK(gauge("x_milliseconds") == "x_milliseconds use base unit \"seconds\" instead of \"milliseconds\"\n");
    CHECK(gauge("x_hours_used") == "x_hours_used use base unit \"seconds\" instead of \"hours\"\n");
    CHECK(gauge("x_kilobytes") == "x_kilobytes use base unit \"bytes\" instead of \"kilobytes\"\n");
    CHECK(gauge("x_fahrenheit") == "x_fahrenheit use base unit \"celsius\" instead of \"fahrenheit\"\n");
    CHECK(gauge("thermometers") == "");
    CHECK(gauge("x_metres") == "");
    CHECK(gauge("x_ms") == "x_ms metric names should not contain abbreviated units\n");
    CHECK(gauge("x_KB_used") == "x_KB_used metric names should not contain abbreviated units\n");
    CHECK(gauge("ms_x") == "");
}

TEST_CASE("suffixes and labels belong to their types") {
    CHECK(page("# HELP x h\n# TYPE x counter\nx 1\n") == "x counter metrics should have \"_total\" suffix\n");
    CHECK(gauge("x_total") == "x_total non-counter metrics should not have \"_total\" suffix\n");
    CHECK(gauge("x_bucket") == "x_bucket non-histogram metrics should not have \"_bucket\" suffix\n");
    CHECK(gauge("x_count") == "x_count non-histogram and non-summary metrics should not have \"_count\" suffix\n");
    CHECK(gauge("x_sum") == "x_sum non-histogram and non-summary metrics should not have \"_sum\" suffix\n");
    CHECK(page("# HELP x h\n# TYPE x gauge\nx{le=\"1\",quantile=\"1\"} 1\nx{le=\"2\"} 1\n") ==
          "x non-histogram metrics should not have \"le\" label\nx non-summary metrics should not have \"quantile\" label\n");
    CHECK(page("# HELP x_total h\nx_total{le=\"1\"} 1\n# HELP y_count h\ny_count 1\n") == "");  // untyped
}

TEST_CASE("names hold no type, no colon and no camels") {
    CHECK(gauge("x_gauge_y") == "x_gauge_y metric name should not include type 'gauge'\n");
    CHECK(gauge("x_Gauge") == "x_Gauge metric name should not include type 'gauge'\n");
    CHECK(gauge("x_histogram") == "");  // of another type: as promtool 3
    CHECK(gauge("gauge_x") == "");
    CHECK(gauge("x:y") == "x:y metric names should not contain ':'\n");
    CHECK(gauge("xY") == "xY metric names should be written in 'snake_case' not 'camelCase'\n");
    CHECK(page("# HELP x h\n# TYPE x gauge\nx{aB=\"1\",ok=\"aB\"} 1\n") == "x label names should be written in 'snake_case' not 'camelCase'\n");
}

TEST_CASE("a series that is shown twice is found") {
    CHECK(page("# HELP x h\n# TYPE x gauge\nx{a=\"1\"} 1\nx{a=\"2\"} 1\nx{a=\"1\"} 2\n") == "x metric not unique\n");
}

TEST_CASE("quoted names and hostile values are read as the grammar has them") {
    CHECK(page("# HELP \"a.b\" h\n# TYPE \"a.b\" gauge\n{\"a.b\",\"c.d\"=\"}{\\\",le=\\\"\\\\\"} 1\n") == "");
    CHECK(page("# HELP \"a.b\" h\n# TYPE \"a.b\" gauge\n{\"a.b\",\"c.dE\"=\"x\"} 1\n") == "a.b label names should be written in 'snake_case' not 'camelCase'\n");
    for (std::string_view broken : {"{", "{\"", "x{", "x{a", "x{a=", "x{a=\"", "x{a=\"\\", "x{a=\"b", "x{a=\"b\"", "x{,,}", "#", "# HELP ", "# HELP", "# TYPE x", "# TYPE \"",
                                    " ", "{}", "\n\n", "x{=}", "}", "\"", "x{\"\"}"})
        prom_lint::lint_page(broken);  // reads nothing beyond its end: the sanitizers tell
}

TEST_CASE("of a page that promtool refuses, its words and the line, and nothing else") {  // tests/e2e/check_parsers.py asks the real one
    const auto refused = [](std::string_view text) {
        const std::string said = page(text), begin = " error while linting: text format parsing error in line ";
        return said.starts_with(begin) ? said.substr(begin.size(), said.size() - begin.size() - 1) : "not refused: " + said;
    };
    const std::string head = "# HELP x h\n# TYPE x gauge\n";
    CHECK(refused(head + "x 1") == "3: unexpected end of input stream");
    CHECK(refused("# HELP x h\nx 1\n# TYPE x gauge\n") == "3: second TYPE line for metric name \"x\", or TYPE reported after samples");
    CHECK(refused(head + "# TYPE x gauge\nx 1\n") == "3: second TYPE line for metric name \"x\", or TYPE reported after samples");
    CHECK(refused(head + "x 1\n# HELP x h\n") == "4: second HELP line for metric name \"x\"");
    CHECK(refused("# TYPE x info\nx 1\n") == "1: unknown metric type \"info\"");
    CHECK(refused(head + "x 1 # {a=\"b\"} 1\n") == "3: expected integer as timestamp, got \"#\"");
    CHECK(refused(head + "x 1 5 # {a=\"b\"} 1\n") == "3: spurious string after timestamp: \" # {a=\\\"b\\\"} 1\"");
    CHECK(refused("\n\na b c\n") == "3: expected float as value, got \"b\"");
    CHECK(refused("-x 1\n") == "1: invalid metric name");
    CHECK(refused("x{a=\"1\",a=\"2\"} 1\n") == "1: duplicate label names for metric \"x\"");
    CHECK(refused("x{a=\"\xff\"} 1\n") == "1: invalid label value \"\\xff\"");
    CHECK(refused("x{a=b} 1\n") == "1: expected '\"' at start of label value, found 'b'");
    CHECK(refused("x_bad 1\n") == "not refused: x_bad no help text\n");
    CHECK(page("") == "");
    CHECK(page(head) == "");  // promtool takes a family without a sample for none
    CHECK(page(head + "# EOF\n") == "");
    const std::string whole = head + "x{a=\"b\"} 1 15\n";
    for (std::size_t n = whole.find("x{"); n != whole.size(); ++n) CHECK((n == head.size() ? page(whole.substr(0, n)) == "" : refused(whole.substr(0, n)) == "3: unexpected end of input stream"));
}

TEST_CASE("a registry is asked through its page") {
    prom::registry mine;
    prom::gauge good{"temperature_celsius", "Outside.", {.registry = &mine}};
    CHECK(findings(prom_lint::lint(mine)) == "");
    prom::gauge bad{"latencyMs", "", {.registry = &mine}};
    prom::gauge dotted{prom::utf8("http.latency_ms"), "Latency.", {.registry = &mine}};
    CHECK(findings(prom_lint::lint(mine)) == "latencyMs no help text\nlatencyMs metric names should be written in 'snake_case' not 'camelCase'\n"
                                        "http.latency_ms metric names should not contain abbreviated units\n");
}

TEST_CASE("a difference of pages names what is gone, new and changed") {
    CHECK(prom_lint::page_diff("", "") == "");
    CHECK(prom_lint::page_diff("x 1\n", "x 1\n") == "");
    CHECK(prom_lint::page_diff("x 1\ny 2\n", "y 2\nx 1\n") == "");
    CHECK(prom_lint::page_diff("x 1\n", "x 2\n") == "  x 1 -> 2\n");
    CHECK(prom_lint::page_diff("x{a=\"b c} 5\"} 1\nz 1\n", "x{a=\"b c} 5\"} 3\ny 1\n") == "- z 1\n  x{a=\"b c} 5\"} 1 -> 3\n+ y 1\n");
    CHECK(prom_lint::page_diff("x 1\nx 2\n", "x 2\nx 1\n") == "");  // no page of ours, but a page
    CHECK(prom_lint::page_diff("# HELP x a\nx 1\n", "# HELP x b\nx 1\n") == "- # HELP x a\n+ # HELP x b\n");
    CHECK(prom_lint::page_diff("x_total 1 # {a=\"b\"} 1\n", "x_total 2 # {a=\"b\"} 1\n") == "  x_total 1 # {a=\"b\"} 1 -> 2 # {a=\"b\"} 1\n");
}

TEST_CASE("a difference shows what a piece of a program did") {
    prom::registry mine;
    prom::family<prom::counter, "code"> requests{"requests_total", "Requests.", {.registry = &mine}};
    requests(200).inc();
    prom::registry* const one[] = {&mine};
    const std::string before = prom::expose({.registries = one});
    requests(200).inc(2);
    requests(500).inc();
    CHECK(prom_lint::page_diff(before, prom::expose({.registries = one})) ==
          "  requests_total{code=\"200\"} 1 -> 3\n+ requests_total{code=\"500\"} 1\n");
}
