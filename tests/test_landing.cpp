// Rooms [65], [67], [71].
// needs-network
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/allocations.hpp"
#include "support/served.hpp"

#include <algorithm>
#include <stdexcept>

namespace {

std::string body_of(const std::string& answer) {
    const auto head = answer.find("\r\n\r\n");
    REQUIRE(head != std::string::npos);
    std::string body = answer.substr(head + 4);
    if (answer.find("Transfer-Encoding: chunked") > head) return body;
    std::string whole;
    for (std::size_t at = 0; at < body.size();) {
        const std::size_t n = std::strtoul(body.c_str() + at, nullptr, 16);
        at = body.find("\r\n", at) + 2;
        whole.append(body, at, n);
        at += n + 2;
    }
    return whole;
}
std::string main_of(const std::string& body) {
    const auto from = body.find("<main>\n"), to = body.find("</main>");
    REQUIRE(from != std::string::npos);
    REQUIRE(to != std::string::npos);
    return body.substr(from + 7, to - from - 7);
}
bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

struct page {
    prom::registry own;
    prom::registry* both[1] = {&own};
    prom::route routes[3] = {{.path = "/", .registries = both, .view = prom::landing_page},
                             {.path = "/metrics", .registries = both},
                             {.path = "/a \"b\"", .text = "x"}};
    std::string ask(std::string_view target = "/", prom::server_options options = {}) {
        options.routes = routes;
        served at(options);
        caller who(at);
        return who.ask(target);
    }
    std::string main(std::string_view target = "/") { return main_of(body_of(ask(target))); }
};

std::string section(const std::string& name, const std::string& type, const std::string& unit, const std::string& help,
                    const std::string& rows, const std::string& count) {
    return "<section><h2><bdi>" + name + "</bdi></h2><p class=m><span class=t>" + type + "</span>" + (unit.empty() ? "" : " in " + unit) +
           (help.empty() ? "" : "<p dir=auto>" + help) + "<table aria-label=\"Series of " + name +
           "\"><thead><tr><th scope=col>Labels<th scope=col>Value<tbody>\n" + rows + "</table><p class=m>" + count + " series</section>\n";
}
const std::string bare = "<tr><th scope=row><span class=m>no labels</span><td>";

}  // namespace

TEST_CASE("each type of metric is shown with its type, unit, help, series and values") {
    page p;
    p.own.make_counter("sent_bytes_total", "Octets sent.", {.unit = "bytes"}).inc(1500);
    p.own.make_gauge("depth", "").set(-0.25);
    auto took = p.own.make_histogram("took_seconds", "Time.", {.unit = "seconds", .buckets = {0.5, 1, 2}});
    for (double v : {0.1, 0.2, 0.7, 3.0}) took.observe(v);
    p.own.make_histogram("empty_seconds", "", {.buckets = {1}});
    auto sizes = p.own.make_summary("sizes", "Sizes.");
    sizes.observe(2);
    sizes.observe(4);
    p.own.make_state_set("mode", "Now.", {.states = {"idle", "busy"}}).set("busy");
    p.own.make_info("app", "About.").set({{"version", "1.2"}, {"branch", "main"}});
    auto calls = p.own.make_family<prom::counter>("calls_total", "Calls.", {"method", "code"});
    calls({"GET", "200"}).inc(3);
    calls({"PUT", "500"}).inc();
    CHECK(p.main() ==
          section("sent_bytes_total", "counter", "bytes", "Octets sent.", bare + "1500\n", "1") +
          section("depth", "gauge", "", "", bare + "-0.25\n", "1") +
          section("took_seconds", "histogram", "seconds", "Time.",
                  bare + "<svg role=img viewBox=\"0 0 32 32\" width=32 height=32 preserveAspectRatio=none "
                         "aria-label=\"4 buckets; the fullest, up to 0.5, has 2\"><path d=\"M0 32v-32h7v32zM8 32v-16h7v16zM24 32v-16h7v16z\"/></svg><br>"
                         "4 observed, sum 4, mean 1<br><span class=m>buckets up to 0.5 \xE2\x80\xA6 2, +Inf</span>\n", "1") +
          section("empty_seconds", "histogram", "", "", bare + "0 observed, sum 0<br><span class=m>buckets up to 1 \xE2\x80\xA6 1, +Inf</span>\n", "1") +
          section("sizes", "summary", "", "Sizes.", bare + "2 observed, sum 6, mean 3\n", "1") +
          section("mode", "stateset", "", "Now.", bare + "<bdi>idle</bdi>: 0, <bdi>busy</bdi>: <b>1</b>\n", "1") +
          section("app_info", "info", "", "About.", "<tr><th scope=row>version=&quot;<bdi>1.2</bdi>&quot; branch=&quot;<bdi>main</bdi>&quot;<td>1\n", "1") +
          section("calls_total", "counter", "", "Calls.",
                  "<tr><th scope=row>method=&quot;<bdi>GET</bdi>&quot; code=&quot;<bdi>200</bdi>&quot;<td>3\n"
                  "<tr><th scope=row>method=&quot;<bdi>PUT</bdi>&quot; code=&quot;<bdi>500</bdi>&quot;<td>1\n", "2"));
}

TEST_CASE("whole numbers are shown in full") {
    page p;
    const double most = 9007199254740991;
    p.own.make_counter("c_total", "").inc(std::uint64_t{18446744073709551615U});
    p.own.make_gauge("g", "").set(-most);
    p.own.make_gauge("million", "").set(1e6);
    auto h = p.own.make_histogram("h", "", {.buckets = {1e6, 1e15}});
    h.observe(1e15);
    h.observe(1e15);
    p.own.make_summary("s", "").observe(most);
    auto kept = p.own.add_collector([&](prom::sample_sink& out) {
        out.family(prom::metric_type::summary, "q", "");
        out.summary(1234567890123456789, 1e15, {{0.5, 1e15}});
    });
    const std::string shown = p.main();
    for (const char* text : {"<td>18446744073709551615\n", "<td>-9007199254740991\n", "<td>1000000\n",
                             "the fullest, up to 1000000000000000, has 2\"", "2 observed, sum 2000000000000000, mean 1000000000000000<br>",
                             "buckets up to 1000000 \xE2\x80\xA6 1000000000000000, +Inf", "1 observed, sum 9007199254740991, mean 9007199254740991\n",
                             "<td>0.5: 1000000000000000<br>1234567890123456789 observed, sum 1000000000000000, mean "}) {
        CAPTURE(text);
        CHECK(has(shown, text));
    }
}

TEST_CASE("of a histogram that has native buckets alone, count and sum are shown") {
    page p;
    p.own.make_histogram("native_seconds", "", {.native = {.factor = 2}}).observe(3);
    const std::string shown = p.main();
    CHECK(has(shown, "1 observed, sum 3, mean 3\n"));
    CHECK_FALSE(has(shown, "buckets up to"));
}

TEST_CASE("other numbers are shown without an exponent if they are not very small or large, and means with six digits") {
    page p;
    p.own.make_gauge("now", "").set(1795999127.28);
    p.own.make_gauge("little", "").set(0.000125);
    p.own.make_gauge("less", "").set(1.5e-9);
    p.own.make_gauge("more", "").set(-1e22);
    const auto s = p.own.make_summary("s", "");
    for (double v : {0.008552055000109249, 0.25}) s.observe(v);
    const auto h = p.own.make_histogram("h", "");
    for (double v : {-123456.5, -123456.0, -1e3}) h.observe(v);
    const auto tiny = p.own.make_summary("tiny", "");
    for (double v : {1e-16, 2e-16}) tiny.observe(v);
    const std::string shown = p.main();
    for (const char* text : {"<td>1795999127.28\n", "<td>0.000125\n", "<td>1.5e-09\n", "<td>-1e+22\n", "sum 0.2585520550001092", ", mean 0.129276\n",
                             "sum -247912.5, mean -82637.5<br>", "mean 1.5e-16\n"}) {
        CAPTURE(text);
        CHECK(has(shown, text));
    }
}

TEST_CASE("what stands before the families is short, and its head forbids all but its own style") {
    page p;
    const std::string answer = p.ask();
    CHECK(answer.substr(0, 15) == "HTTP/1.1 200 OK");
    CHECK(has(answer, "\r\nContent-Type: text/html; charset=utf-8\r\n"));
    CHECK(has(answer, "\r\nContent-Security-Policy: default-src 'none'; style-src 'sha256-"));
    CHECK(has(answer, "='; form-action 'self'; base-uri 'none'; frame-ancestors 'none'\r\n"));
    CHECK(has(answer, "\r\nReferrer-Policy: no-referrer\r\n"));
    CHECK(has(answer, "\r\nX-Content-Type-Options: nosniff\r\n"));
    CHECK(has(answer, "\r\nCache-Control: no-store\r\n"));
    const std::string body = body_of(answer);
    CHECK(body.size() < 8192);
    CHECK(body.substr(0, 42) == "<!DOCTYPE html><html lang=en><head><meta c");
    CHECK(has(body, "<nav aria-label=Pages><a href=\"/\">/</a> <a href=\"/metrics\">/metrics</a> <a href=\"/a%20%22b%22\">/a &quot;b&quot;</a> </nav>"));
    CHECK(has(body, "<a href=\"?as=text_0_0_4\">text 0.0.4</a> "));
    CHECK(has(body, "<a href=\"?as=openmetrics_1_0_0\">OpenMetrics 1.0.0</a> "));
    CHECK(has(body, "<label for=q>Filter by name</label> <input id=q name=q "));
    CHECK(has(body, std::string("prometheus_async ") + prom::version()));
    CHECK(has(body, "<footer class=m><p>No errors while this page was made.<p>Made on "));
    CHECK(body.ends_with(" GMT</footer></body></html>\n"));
    for (const char* none : {"<script", "http:", "https:", "style=", " on", "url(", "<img"}) {
        CAPTURE(none);
        CHECK_FALSE(has(body.substr(0, body.find("</style>")), none));
        if (none != std::string_view(" on")) CHECK_FALSE(has(body, none));
    }
}

TEST_CASE("HEAD has the same fields, and no content") {
    page p;
    served at({.routes = p.routes});
    caller who(at);
    const std::string head = who.ask("/", {}, "HEAD");
    CHECK(has(head, "Content-Security-Policy: "));
    CHECK(head.ends_with("\r\n\r\n"));
}

TEST_CASE("names, help, units and label values are text, whatever they hold") {
    page p;
    const std::string evil = "</bdi><script>alert('1')</script>&lt;\" onload=\"x\x01\x7f";
    p.own.make_family<prom::gauge>(prom::utf8("a" + evil), evil, {prom::utf8("l" + evil)})({evil}).set(1);
    p.own.make_state_set(prom::utf8("mode"), evil, {.states = {"<b>", "</svg>"}}).set("<b>");
    p.own.make_info(prom::utf8("<i>"), evil).set({{"x", evil}});
    auto kept = p.own.add_collector([&](prom::sample_sink& out) {
        out.family(prom::metric_type::gauge, "broken", "");
        out.fail(evil);
    });
    const std::string body = body_of(p.ask());
    std::vector<std::string> tags;
    for (std::size_t at = body.find("</style>"); (at = body.find('<', at + 1)) != std::string::npos;) {
        std::size_t end = at + 1 + (body[at + 1] == '/');
        while (end < body.size() && std::isalnum(static_cast<unsigned char>(body[end]))) ++end;
        tags.push_back(body.substr(at, end - at));
    }
    std::sort(tags.begin(), tags.end());
    tags.erase(std::unique(tags.begin(), tags.end()), tags.end());
    const std::vector<std::string> allowed = {
        "</a", "</b", "</bdi", "</body", "</button", "</footer", "</form", "</h1", "</h2", "</head", "</header", "</html", "</label", "</main", "</nav",
        "</section", "</span", "</table", "</ul", "<a", "<b", "<bdi", "<body", "<button", "<footer", "<form", "<h1", "<h2", "<header", "<input", "<label",
        "<li", "<main", "<nav", "<p", "<section", "<span", "<table", "<tbody", "<td", "<th", "<thead", "<tr", "<ul"};
    for (const std::string& tag : tags) {
        CAPTURE(tag);
        CHECK(std::find(allowed.begin(), allowed.end(), tag) != allowed.end());
    }
    const std::string escaped = "&lt;/bdi&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;lt;&quot; onload=&quot;x\xEF\xBF\xBD\xEF\xBF\xBD";
    CHECK(has(body, "<h2><bdi>a" + escaped + "</bdi></h2>"));
    CHECK(has(body, "aria-label=\"Series of a" + escaped + "\">"));
    CHECK(has(body, "<p dir=auto>" + escaped + "<table"));
    CHECK(has(body, "<th scope=row>l" + escaped + "=&quot;<bdi>" + escaped + "</bdi>&quot;<td>1\n"));
    CHECK(has(body, "<bdi>&lt;b&gt;</bdi>: <b>1</b>, <bdi>&lt;/svg&gt;</bdi>: 0"));
#if PROMETHEUS_ASYNC_EXCEPTIONS
    CHECK(has(body, "<li dir=auto>a collector is left out: broken: &lt;/bdi&gt;&lt;script&gt;"));
#endif
    for (char c : body) CHECK((static_cast<unsigned char>(c) >= 0x20 || c == '\n'));
}

TEST_CASE("long texts are cut at a whole character") {
    page p;
    std::string value(199, 'v');
    value += "\xC3\xA4 and more";
    p.own.make_family<prom::gauge>("long_one", std::string(1001, 'h'), {"a"})({value}).set(1);
    std::vector<prom::label> many;
    std::vector<std::string> names;
    for (int i = 0; i != 40; ++i) names.push_back("n" + std::to_string(i));
    const std::string hundred(100, 'x');
    for (const auto& n : names) many.push_back({n, hundred});
    p.own.make_info("app", "").set(many);
    const std::string shown = p.main();
    CHECK(has(shown, "<p dir=auto>" + std::string(1000, 'h') + "\xE2\x80\xA6<table"));
    CHECK(has(shown, "<bdi>" + std::string(199, 'v') + "\xE2\x80\xA6</bdi>"));
    CHECK(has(shown, "n0=&quot;"));
    CHECK_FALSE(has(shown, "n20=&quot;"));
    CHECK(has(shown, "</bdi>&quot; \xE2\x80\xA6<td>1\n"));
}

TEST_CASE("a filter chooses by name, and is never shown back") {
    page p;
    p.own.make_gauge("alpha_one", "").set(1);
    p.own.make_gauge("beta_two", "").set(2);
    p.own.make_gauge(prom::utf8("Gamma & <three>"), "").set(3);
    auto kept = p.own.add_collector([](prom::sample_sink& out) {
        out.family(prom::metric_type::gauge, "delta_one", "");
        out.sample(4);
        out.family(prom::metric_type::gauge, "epsilon", "");
        out.sample(5);
    });
    const auto shown = [&](std::string_view target) {
        std::string found;
        const std::string body = body_of(p.ask(target));
        for (const char* name : {"alpha_one", "beta_two", "Gamma", "delta_one", "epsilon"}) if (has(body, std::string("<h2><bdi>") + name)) found += name[0];
        return found;
    };
    CHECK(shown("/") == "abGde");
    CHECK(shown("/?q=") == "abGde");
    CHECK(shown("/?q=_ONE") == "ad");
    CHECK(shown("/?q=++_one%20+") == "ad");
    CHECK(shown("/?q=+++") == "abGde");
    CHECK(shown("/?q=gamma+%26") == "G");
    CHECK(shown("/?q=one&q=two") == "b");
    CHECK(shown("/?other=x&q=gamma+%26+%3Cth") == "G");
    CHECK(shown("/?q=nothing_has_this") == "");
    CHECK(shown("/?q=" + std::string(200, 'a')) == "");
    const std::string body = body_of(p.ask("/?q=zebra<script>%3Cscript%3E%22'"));
    CHECK_FALSE(has(body, "zebra"));
    CHECK(has(body, "<p role=status>Only families whose name has the filter's text. <a href=\"?\">Show all</a>"));
    CHECK_FALSE(has(body_of(p.ask("/")), "Show all"));
}

TEST_CASE("the page in each format is shown as text") {
    page p;
    p.own.make_counter("sent_bytes_total", "Octets sent.", {.unit = "bytes"}).inc();
    p.own.make_gauge(prom::utf8("a.b"), "").set(1);
    const std::string plain = p.ask("/?as=text_0_0_4");
    CHECK(has(plain, "\r\nContent-Type: text/plain; charset=utf-8\r\n"));
    CHECK(body_of(plain) == prom::expose({.registries = p.both}));
    CHECK(body_of(p.ask("/?as=openmetrics_1_0_0")) ==
          prom::expose({.as = prom::format::openmetrics_1_0_0, .names = prom::escaping::allow_utf8, .registries = p.both}));
    CHECK(has(p.ask("/?as=nonsense"), "text/html"));
#if !PROMETHEUS_ASYNC_NO_NATIVE
    p.own.make_histogram("spread", "", {.native = {.factor = 2}}).observe(1);
    CHECK(has(p.ask("/?as=openmetrics_2_0_0"), ",schema:"));
    CHECK(has(p.ask("/?as=openmetrics_2_0_0"), " st@"));
    const std::string without = p.ask("/?as=openmetrics_2_0_0", {.native_histograms = false, .start_timestamps = false});
    CHECK(has(without, "spread"));
    CHECK_FALSE(has(without, ",schema:"));
    CHECK_FALSE(has(without, " st@"));
#endif
    const prom::format only[] = {prom::format::text_0_0_4};
    const std::string withheld = p.ask("/?as=openmetrics_1_0_0", {.formats = only});
    CHECK(has(withheld, "text/html"));
    CHECK_FALSE(has(withheld, "as=openmetrics"));
    CHECK(has(withheld, "as=text_0_0_4"));
}

TEST_CASE("of many series the first hundred are shown, and all are counted") {
    page p;
    auto many = p.own.make_family<prom::gauge>("many", "", {"i"});
    for (int i = 0; i != 250; ++i) many({std::to_string(i)}).set(i);
    auto kept = p.own.add_collector([](prom::sample_sink& out) {
        out.family(prom::metric_type::gauge, "yielded", "");
        for (int i = 0; i != 101; ++i) {
            const std::string value = std::to_string(i);
            const prom::label labels[] = {{"i", value}};
            out.sample(i, labels);
        }
        out.family(prom::metric_type::gauge, "after", "");
        out.sample(1);
    });
    const std::string shown = p.main();
    CHECK(has(shown, "<bdi>99</bdi>&quot;<td>99\n</table><p class=m>250 series, the first 100 of them above</section>"));
    CHECK(has(shown, "</table><p class=m>101 series, the first 100 of them above</section>"));
    CHECK(has(shown, "<h2><bdi>after</bdi></h2>"));
    CHECK_FALSE(has(shown, "<bdi>100</bdi>"));
    many.remove({"7"});
    CHECK(has(p.main(), "249 series"));
}

TEST_CASE("a page of any size costs the server a bounded amount of memory") {
    page p;
    auto many = p.own.make_family<prom::gauge>("many", "", {"i"});
    for (int i = 0; i != 100000; ++i) many({std::to_string(i)}).set(i);
    for (int i = 0; i != 3000; ++i) p.own.make_gauge("g" + std::to_string(i), std::string(300, 'h')).set(i);
    served at({.routes = p.routes});
    caller who(at);
    who.ask("/metrics?name[]=g1");
    who.got.reserve(8 << 20);
    const std::size_t before = live;
    std::size_t most = before;
    who.got.clear();
    who.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    REQUIRE(at.until([&] {
        most = std::max(most, live);
        who.take();
        return who.whole();
    }));
    CHECK(has(who.got, "Transfer-Encoding: chunked"));
    const std::string body = body_of(who.got);
    CHECK(body.size() > 1000000);
    CHECK(has(body, "100000 series, the first 100 of them above"));
    CHECK(has(body, "<h2><bdi>g2999</bdi></h2>"));
    CHECK(body.ends_with("</html>\n"));
    if (counts_allocations) CHECK(most - before < 200000);
}

TEST_CASE("pages for people and for scrapers follow each other on one connection") {
    page p;
    p.own.make_gauge("depth", "").set(1);
    served at({.routes = p.routes});
    caller who(at);
    for (int i = 0; i != 3; ++i) {
        CHECK(has(who.ask("/"), "<h2><bdi>depth"));
        CHECK(body_of(who.ask("/metrics")) == "# TYPE depth gauge\ndepth 1\n");
        CHECK(body_of(who.ask("/?as=text_0_0_4")) == "# TYPE depth gauge\ndepth 1\n");
    }
    who.got.clear();
    who.send("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    CHECK(who.ends());
    std::size_t pages = 0, texts = 0;
    for (std::size_t i = 0; (i = who.got.find("</html>\n", i)) != std::string::npos; ++i) ++pages;
    for (std::size_t i = 0; (i = who.got.find("\r\n\r\n# TYPE depth gauge\n", i)) != std::string::npos; ++i) ++texts;
    CHECK(pages == 2);
    CHECK(texts == 1);
}

TEST_CASE("a view is compressed, guarded and refused as other routes are") {
    page p;
    p.own.make_gauge("depth", std::string(2000, 'h')).set(1);
    const prom::credential accepted[] = {prom::bearer("t0ken")};
    served at({.credentials = accepted, .routes = p.routes});
    caller who(at);
    who.ask("/");
    CHECK(who.status() == 401);
    who.ask("/", "Authorization: Bearer t0ken\r\n");
    CHECK(who.status() == 200);
    who.ask("/", "Authorization: Bearer t0ken\r\nAccept-Encoding: gzip\r\n");
    CHECK(who.status() == 200);
#if !PROMETHEUS_ASYNC_NO_GZIP
    CHECK(has(who.got, "Content-Encoding: gzip\r\n"));
    CHECK(has(who.got, "Vary: Accept-Encoding\r\n"));
#endif
    const prom::route bad[] = {{.path = "/", .text = "x", .view = prom::landing_page}};
    served none({.routes = bad});
    CHECK(none.fault == "routes: either registries, or a text, or a check");
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("a collector that fails is named on the page, whatever pages for scrapers do") {
    page p;
    auto kept = p.own.add_collector([](prom::sample_sink& out) {
        out.family(prom::metric_type::gauge, "broken", "");
        out.sample(1);
        throw std::runtime_error("no database");
    });
    p.own.make_gauge("whole", "").set(1);
    served at({.routes = p.routes, .on_collector_error = prom::collector_errors::fail});
    caller who(at);
    who.ask("/metrics");
    CHECK(who.status() == 500);
    const std::string body = body_of(who.ask("/"));
    CHECK(has(body, "<h2><bdi>whole</bdi></h2>"));
    CHECK_FALSE(has(body, "<h2><bdi>broken"));
    CHECK(has(body, "<p>Errors while this page was made:<ul><li dir=auto>a collector is left out: broken: no database</ul>"));
    CHECK(at.told(prom::event_kind::callback_failed) >= 1);
}
#endif
