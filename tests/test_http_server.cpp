// Rooms [64], [65], [66].
// needs-network
#include "support/system.hpp"

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/allocations.hpp"
#include "support/answers.hpp"
#include <doctest/doctest.h>

#include <cstdlib>
#include <deque>
#include <memory>

namespace prom = prometheus_async;
using prom::detail::http_connection;
using prom::detail::http_service;
using phase = http_connection::phase;
using test_client::answer;
using test_client::take_answers;

namespace {

double the_wall() { return 784111777; }

const std::string page_text = "<html><body><a href=\"/metrics\">Metrics</a></body></html>";

/// The default registry would grow with every test: each has one of its own.
struct service : http_service {
    prom::registry metrics_registry;
    std::vector<prom::event_kind> told;
    service() {
        prom::set_clock({prom::system_clock().monotonic, &the_wall});
        routes.push_back({"/", prom::detail::string(page_text), "text/html", {}, true, false});
        routes.push_back({"/metrics", {}, {}, {&metrics_registry}, false, false});
        context = this;
        on_event = [](const prom::event& e, void* self) { static_cast<service*>(self)->told.push_back(e.kind); };
    }
    ~service() { prom::set_clock(prom::system_clock()); }
    /// About `octets` of page, `each` a family.
    void grow(std::size_t octets, std::size_t each = 100) {
        for (std::size_t i = 0; i * each < octets; ++i) metrics_registry.make_counter("c" + std::to_string(i), std::string(each - 50, 'x'));
    }
};

/// One connection over a socket without a kernel, moved by hand.
struct wire {
    http_service& on;
    double now = 1000;
    int fd = test_system::next_peer++;
    test_system::peer& peer = test_system::peers[fd];
    http_connection c;
    int turns = 0;

    explicit wire(http_service& s, double at = 1000, std::uint64_t from = 0) : on(s), now(at), c(s, fd, at, from) {}
    wire(const wire&) = delete;
    ~wire() { test_system::peers.erase(fd); }

    bool due() const {
        using prom::detail::interest;
        const bool can_read = !peer.to_server.empty() || peer.fin || peer.recv_error != 0;
        const bool can_write = peer.room != 0 || peer.send_error != 0;
        return !c.closed() && (((c.wants() & interest::read) != interest::none && can_read) || ((c.wants() & interest::write) != interest::none && can_write));
    }
    /// As a loop does: as long as it has reason to.
    void go() {
        for (int i = 0; due(); ++i, ++turns) {
            REQUIRE(i < 100000);
            c.run(now);
        }
    }
    void give(std::string_view octets) {
        peer.to_server += octets;
        go();
    }
    std::vector<answer> got(std::string_view heads = "") {
        return take_answers(std::exchange(peer.from_server, {}), c.closed() || peer.shut, heads);
    }
    std::vector<answer> ask(std::string_view octets, std::string_view heads = "") {
        give(octets);
        return got(heads);
    }
    bool kept() const { return c.at() == phase::reading; }
    bool lingers() const { return c.at() == phase::lingering && peer.shut; }
};

std::string get(std::string_view target = "/metrics", std::string_view fields = "") {
    return "GET " + std::string(target) + " HTTP/1.1\r\nHost: localhost\r\n" + std::string(fields) + "\r\n";
}
std::string request(std::string_view line, std::string_view fields = "") {
    return std::string(line) + "\r\nHost: localhost\r\n" + std::string(fields) + "\r\n";
}
/// One request on a connection of its own: "200", "400 close", ...
std::string outcome(http_service& s, std::string_view octets, std::string_view heads = "") {
    wire w(s);
    std::string text;
    for (const answer& a : w.ask(octets, heads)) text += (text.empty() ? "" : ",") + std::to_string(a.status);
    if (w.lingers()) text += " close";
    if (w.c.closed()) text += " closed";
    return text;
}

}  // namespace

// ---- answers ----

TEST_CASE("an event is counted before it is told") {
    service s;
    static std::uint64_t counted;
    s.on_event = [](const prom::event& e, void*) { counted = prom::event_count(e.kind); };
    const auto before = prom::event_count(prom::event_kind::accept_failed);
    s.report(prom::event_kind::accept_failed, {prom::errc::limit, "no descriptor"});
    CHECK(counted == before + 1);
}

TEST_CASE("the root page is upstream's, to the octet") {
    service s;
    wire w(s);
    w.give(get("/"));
    CHECK(w.peer.from_server ==
          "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/html\r\nContent-Length: 56\r\n"
          "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\n" + page_text);
    CHECK(w.kept());
}

TEST_CASE("a page that fits one buffer has its length and leaves in one send") {
    service s;
    s.metrics_registry.make_counter("a_total", "help").inc(7);
    wire w(s);
    const auto a = w.ask(get());
    REQUIRE(a.size() == 1);
    CHECK(a[0].status == 200);
    CHECK(a[0].body == "# HELP a_total help\n# TYPE a_total counter\na_total 7\n");
    CHECK(a[0].field("Content-Length") == std::to_string(a[0].body.size()));
    CHECK(a[0].field("Content-Type") == "text/plain; version=0.0.4; charset=utf-8");
    for (std::string_view line : {"Vary: Accept, Accept-Encoding", "X-Content-Type-Options: nosniff", "Cache-Control: no-store",
                                  "Date: Sun, 06 Nov 1994 08:49:37 GMT"})
        CHECK(a[0].has(line));
    CHECK(a[0].field("Connection") == "");
    CHECK(w.peer.sends == 1);
    CHECK(w.peer.receives == 1);
    CHECK(w.kept());
}

TEST_CASE("a page of exactly one buffer, and one octet more, are whole") {
    for (int around = -3; around != 4; ++around) {
        service s;
        s.grow(15000);
        prom::page_options options;
        prom::registry* const one[] = {&s.metrics_registry};
        options.registries = one;
        const std::size_t have = prom::expose(options).size(), fixed = std::string("# HELP f \n# TYPE f gauge\nf 0\n").size();
        s.metrics_registry.make_gauge("f", std::string(static_cast<std::size_t>(16384 + around) - have - fixed, 'h'));
        wire w(s);
        const auto a = w.ask(get());
        REQUIRE(a.size() == 1);
        CHECK(a[0].body.size() == static_cast<std::size_t>(16384 + around));
        CHECK(a[0].body == prom::expose(options));
        CHECK(w.kept());
    }
}

TEST_CASE("a page larger than a buffer is chunked, and whole however the socket takes it") {
    service s;
    s.grow(200000);
    prom::page_options options;
    prom::registry* const one[] = {&s.metrics_registry};
    options.registries = one;
    const std::string page = prom::expose(options);
    REQUIRE(page.size() > 100000);
    for (std::size_t piece : {std::size_t{1} << 20, std::size_t{4096}, std::size_t{1000}, std::size_t{17}}) {
        wire w(s);
        w.peer.piece = piece;
        w.give(get());
        for (int i = 0; i != 20000 && w.c.at() == phase::writing; ++i) w.go();
        const auto a = w.got();
        REQUIRE(a.size() == 1);
        CHECK(a[0].has("Transfer-Encoding: chunked"));
        CHECK(a[0].field("Content-Length") == "");
        CHECK(a[0].body == page);
        CHECK(w.kept());
    }
}

TEST_CASE("HTTP/1.0 is served, closes, and is never chunked") {
    service s;
    CHECK(outcome(s, "GET / HTTP/1.0\r\n\r\n") == "200 close");
    s.grow(60000);
    wire w(s);
    const auto a = w.ask("GET /metrics HTTP/1.0\r\n\r\n");
    REQUIRE(a.size() == 1);
    CHECK(a[0].has("Connection: close"));
    CHECK(a[0].field("Transfer-Encoding") == "");
    CHECK(a[0].field("Content-Length") == "");
    CHECK(a[0].body.size() > 50000);
    CHECK(w.lingers());
}

TEST_CASE("an HTTP/1.0 client that asks for it is kept, after an answer with a length only") {
    service s;
    const auto ask = [&](std::string_view line, std::string_view fields, std::string_view heads = "") {
        wire w(s);
        const auto a = w.ask(std::string(line) + " HTTP/1.0\r\n" + std::string(fields) + "\r\n", heads);
        REQUIRE(a.size() == 1);
        CHECK(a[0].field("Transfer-Encoding") == "");
        CHECK(a[0].has("Connection: keep-alive") == w.kept());
        CHECK(a[0].has("Connection: close") == !w.kept());
        CHECK((!w.kept() || a[0].field("Content-Length") != ""));
        CHECK(a[0].head.find("Connection") == a[0].head.rfind("Connection"));
        return std::to_string(a[0].status) + (w.kept() ? " kept" : " close");
    };
    for (std::string_view yes : {"keep-alive", "Keep-Alive", "keep-alive, foo", ",foo , KEEP-ALIVE,", "x\r\nConnection: keep-alive"}) {
        const std::string fields = "Connection: " + std::string(yes) + "\r\n";
        CHECK(ask("GET /", fields) == "200 kept");
        CHECK(ask("GET /metrics", fields) == "200 kept");
        CHECK(ask("HEAD /metrics", fields, "H") == "200 kept");
        CHECK(ask("GET /nope", fields) == "404 kept");
        CHECK(ask("POST /", fields) == "405 kept");
        CHECK(ask("OPTIONS /", fields) == "204 close");  // no content, so no length
        CHECK(ask("GET /", fields + "Content-Length: 1\r\n") == "200 close");
        CHECK(ask("GET /metrics?name[]=" + std::string(600, 'x'), fields) == "400 close");
        CHECK(ask("GET /", fields + "Host: a b\r\n") == "400 close");
    }
    for (std::string_view no : {"", "Connection: keep-alive, close\r\n", "Connection: close, keep-alive\r\n", "Connection: xkeep-alive\r\n", "Connection: \"keep-alive\"\r\n",
                                "Keep-Alive: timeout=9\r\n", "Proxy-Connection: keep-alive\r\n", "Connection: keep-alive\r\nConnection: close\r\n"})
        CHECK(ask("GET /", no) == "200 close");
    {
        wire w(s);  // two requests at once, as `ab -k` sends them one by one
        const std::string one = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        CHECK(w.ask(one + one).size() == 2);
        CHECK(w.ask("GET / HTTP/1.0\r\n\r\n").size() == 1);
        CHECK(w.lingers());
    }
    s.limits.requests_per_connection = 1;
    CHECK(ask("GET /", "Connection: keep-alive\r\n") == "200 close");
    s.limits.requests_per_connection = 100;
    s.allowed_hosts = {"metrics.example"};
    s.hosts = &prom::detail::hosts_code::all;
    CHECK(ask("GET /", "Connection: keep-alive\r\n") == "421 kept");
    s.allowed_hosts.clear();
    s.grow(60000);  // a page that is not whole in one buffer has no length
    CHECK(ask("GET /metrics", "Connection: keep-alive\r\n") == "200 close");
    CHECK(ask("HEAD /metrics", "Connection: keep-alive\r\n", "H") == "200 close");
}

TEST_CASE("HTTP/1.2 to 1.9 are served as 1.1") {
    service s;
    CHECK(outcome(s, "GET / HTTP/1.2\r\nHost: a\r\n\r\n") == "200");
    CHECK(outcome(s, "GET / HTTP/1.9\r\nHost: a\r\n\r\n") == "200");
    CHECK(outcome(s, "GET / HTTP/1.9\r\n\r\n") == "400 close");
}

TEST_CASE("HEAD has the fields that GET would have, and no content") {
    service s;
    for (int big = 0; big != 2; ++big) {
        if (big) s.grow(60000);
        for (std::string_view target : {"/", "/metrics", "/nope"}) {
            wire g(s), h(s);
            const auto a = g.ask(get(target));
            const auto b = h.ask("HEAD " + get(target).substr(4), "H");
            REQUIRE(a.size() == 1);
            REQUIRE(b.size() == 1);
            CHECK(b[0].head == a[0].head);
            CHECK(h.kept());
        }
    }
    CHECK(outcome(s, "HEAD / HTTP/1.1\r\n\r\n", "H") == "400 close");
    CHECK(outcome(s, "HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HH") == "200,200");
}

TEST_CASE("HEAD costs one buffer, however large the page is") {
    service s;
    s.grow(1000000);
    wire w(s);
    CHECK(w.ask("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "H").at(0).has("Transfer-Encoding: chunked"));
    CHECK(w.peer.sends == 1);
    CHECK(w.turns == 1);
}

TEST_CASE("the format is negotiated") {
    service s;
    s.metrics_registry.make_counter("a_total", "help");
    wire w(s);
    const auto a = w.ask(get("/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n"));
    CHECK(a.at(0).field("Content-Type").substr(0, 28) == "application/openmetrics-text");
    CHECK(a.at(0).body.substr(a.at(0).body.size() - 6) == "# EOF\n");
    // Never 406, and nothing is compressed.
    for (std::string_view field : {"Accept: image/png", "Accept: text/plain;q=0", "Accept: ;;;,,,//,q=,", "Accept-Encoding: gzip", "Accept-Encoding: identity;q=0",
                                   "Accept-Encoding: gzip;q=0", "Accept-Encoding:", "Accept-Encoding: *"}) {
        const auto b = w.ask(get("/metrics", std::string(field) + "\r\n"));
        CHECK(b.at(0).status == 200);
        CHECK(b.at(0).field("Content-Type").substr(0, 10) == "text/plain");
        CHECK(b.at(0).field("Content-Encoding") == "");
    }
}

TEST_CASE("a format that the server withholds is not given, text 0.0.4 always is") {
    service s;
    s.metrics_registry.make_counter("c", "C.").inc();
    const auto type = [&](std::string_view accept) { return wire(s).ask(get("/metrics", "Accept: " + std::string(accept) + "\r\n")).at(0).field("Content-Type"); };
    const std::string om = "application/openmetrics-text", text = "text/plain; version=0.0.4; charset=utf-8";
    CHECK(type(om).substr(0, om.size()) == om);
    s.formats = {prom::format::text_0_0_4};
    for (std::string accept : {om, om + ";version=1.0.0", om + ";q=1, text/plain;version=1.0.0;q=0.9, */*;q=0.1", std::string("*/*"), std::string()}) CHECK(type(accept) == text);
    s.formats = {prom::format::openmetrics_1_0_0};
    CHECK(type(om) == om + "; version=1.0.0; charset=utf-8; escaping=underscores");
    CHECK(type(om + ";version=0.0.1") == text);
    CHECK(type("text/plain;version=1.0.0") == text);
    CHECK(type("text/plain") == text);
    s.formats = {prom::format::text_1_0_0};
    CHECK(type(om + ", text/plain;version=1.0.0;q=0.5, text/plain;version=0.0.4;q=0.4") == "text/plain; version=1.0.0; charset=utf-8; escaping=underscores");
    CHECK(type("*/*") == text);
}

TEST_CASE("name[] filters; unknown names give an empty page, unknown parameters are ignored") {
    service s;
    s.metrics_registry.make_gauge("a", "");
    s.metrics_registry.make_gauge("b", "");
    wire w(s);
    CHECK(w.ask(get("/metrics?name[]=a")).at(0).body.find("b 0") == std::string::npos);
    CHECK(w.ask(get("/metrics?name%5B%5D=b")).at(0).body.find("b 0\n") != std::string::npos);
    const auto none = w.ask(get("/metrics?name[]=c"));
    CHECK(none.at(0).status == 200);
    CHECK(none.at(0).field("Content-Length") == "0");
    CHECK(w.ask(get("/metrics?collect[]=cpu&x")).at(0).body.find("a 0\n") != std::string::npos);
    for (const char* all : {"/metrics?name[]", "/metrics?name[]="}) CHECK(w.ask(get(all)).at(0).body == w.ask(get("/metrics")).at(0).body);
    std::string many = "/metrics?";
    for (int i = 0; i != 256; ++i) many += "name[]=a&";
    CHECK(outcome(s, get(many)) == "200");
    CHECK(outcome(s, get(many + "name[]=a")) == "400 close");
    CHECK(outcome(s, get("/metrics?name[]=" + std::string(513, 'a'))) == "400 close");
}

TEST_CASE("a filter that fits little of much lets others come first, and its page is whole") {
    service s;
    s.grow(300000);
    s.metrics_registry.make_gauge("last", "");
    std::string target = "/metrics?name[]=last&name[]=c1";
    for (int i = 0; i != 200; ++i) target += "&name[]=none" + std::to_string(i);
    for (const bool head : {false, true}) {
        wire w(s), other(s);
        std::string sent = get(target);
        if (head) sent.replace(0, 3, "HEAD");
        w.peer.to_server = sent;
        w.c.run(w.now);
        CHECK(w.peer.from_server.empty());  // the first turn is for a part of the families
        CHECK(w.due());
        CHECK(other.ask(get("/"))[0].status == 200);
        w.go();
        CHECK(w.turns > 3);
        const auto got = w.got(head ? "H" : "");
        REQUIRE(got.size() == 1);
        CHECK(got[0].status == 200);
        if (!head) CHECK(got[0].body == "# HELP c1_total " + std::string(50, 'x') + "\n# TYPE c1_total counter\nc1_total 0\n# TYPE last gauge\nlast 0\n");
        CHECK(w.kept());
    }
}

TEST_CASE("routes serve registries and texts, and no others") {
    service s;
    prom::registry other;
    other.make_gauge("other", "");
    s.routes.push_back({"/other", {}, {}, {&other, &s.metrics_registry}, false, false, {}, nullptr, &prom::detail::sharing_code::all});
    s.routes.push_back({"/health", "ok\n", "text/plain", {}, true, false});
    s.metrics_registry.make_gauge("mine", "");
    wire w(s);
    const auto a = w.ask(get("/other"));
    CHECK(a.at(0).body.find("other 0\n") != std::string::npos);
    CHECK(a.at(0).body.find("mine 0\n") != std::string::npos);
    CHECK(w.ask(get("/health")).at(0).body == "ok\n");
}

TEST_CASE("a text of any length is sent whole") {
    for (std::size_t n : {std::size_t{0}, std::size_t{16383}, std::size_t{16384}, std::size_t{16385}, std::size_t{300000}}) {
        service s;
        std::string text(n, 't');
        for (std::size_t i = 0; i < n; i += 97) text[i] = static_cast<char>('a' + i % 26);
        s.routes.push_back({"/text", prom::detail::string(text), "text/plain", {}, true, false});
        wire w(s);
        const auto a = w.ask(get("/text"));
        REQUIRE(a.size() == 1);
        CHECK(a[0].body == text);
        CHECK(w.kept());
        wire h(s);
        h.give("HEAD " + get("/text").substr(4));
        const std::string head = std::exchange(h.peer.from_server, {});
        CHECK(head.find("\r\n\r\n") == head.size() - 4);
        CHECK((h.ask(get("/text")).at(0).body == text));  // the next answer is where a reader looks for it
    }
}

TEST_CASE("Process-Start-Time-Unix is on pages when asked for") {
    service s;
    s.process_start = "Process-Start-Time-Unix: 12345\r\n";
    wire w(s);
    CHECK(w.ask(get()).at(0).has("Process-Start-Time-Unix: 12345"));
}

// ---- what is refused ----

TEST_CASE("an error of syntax or framing is answered, closed, and ends the parsing") {
    service s;
    for (const auto& [octets, status] : {std::pair<std::string, int>{"GET  / HTTP/1.1\r\n", 400},
                                         {"\x16\x03\x01", 400},
                                         {"GET / HTTP/2.0\r\n", 505},
                                         {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
                                         {"GET / HTTP/1.1\r\n\r\n", 400},
                                         {request("GET / HTTP/1.1", "Host: b\r\n"), 400},
                                         {"GET /" + std::string(9000, 'a'), 414},
                                         {"GET / HTTP/1.1\r\nX: " + std::string(70000, 'a'), 431},
                                         {std::string(33, 'A'), 501},
                                         {request("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked\r\n"), 501},
                                         {request("POST / HTTP/1.1", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400},
                                         {request("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n"), 400},
                                         {get("/%"), 400},
                                         {request("GET / HTTP/1.1", "Authorization: a\r\nAuthorization: b\r\n"), 400}}) {
        wire w(s);
        w.give(octets);
        w.give(get());
        const auto a = w.got();
        CAPTURE(octets.substr(0, 40));
        REQUIRE(a.size() == 1);
        CHECK(a[0].status == status);
        CHECK(a[0].has("Connection: close"));
        CHECK(w.lingers());
    }
}

TEST_CASE("a TLS client learns that the port is plain") {
    service s;
    wire w(s);
    CHECK(w.ask("\x16\x03\x01\x02").at(0).body == "this port speaks plain HTTP\n");
    CHECK(w.lingers());
}

TEST_CASE("nothing of a request is reflected") {
    service s;
    for (std::string_view octets : {"GET /canary HTTP/1.1\r\nHost: canary\r\nX: canary\r\n\r\n", "CANARY /canary HTTP/1.1\r\nHost: canary\r\n\r\n",
                                    "TRACE /metrics HTTP/1.1\r\nHost: canary\r\nX: canary\r\n\r\n", "GET /canary HTTP/canary\r\n", "GET /metrics?name[]=canary HTTP/1.1\r\nHost: canary\r\n\r\n",
                                    "GET http://canary/canary HTTP/1.1\r\nHost: canary\r\n\r\n", "GET /x%0d%0aX-canary:%201 HTTP/1.1\r\nHost: a\r\n\r\n"}) {
        wire w(s);
        w.give(octets);
        CHECK_FALSE(w.peer.from_server.empty());
        CHECK(w.peer.from_server.find("anary") == std::string::npos);
        CHECK(w.peer.from_server.find("ANARY") == std::string::npos);
    }
}

TEST_CASE("paths are compared, never normalised") {
    service s;
    for (std::string_view yes : {"/metrics", "/m%65trics", "/metrics?", "http://a/metrics", "HTTP://a:1/metrics?x"}) CHECK(outcome(s, get(yes)) == "200");
    for (std::string_view no : {"/nope", "/metrics/", "//metrics", "/./metrics", "/x/../metrics", "/%2Fmetrics", "/metrics%2f", "/%2e%2e/etc/passwd", "/..\\x", "/METRICS", "/metrics;x"})
        CHECK(outcome(s, get(no)) == "404");
}

TEST_CASE("methods other than GET, HEAD and OPTIONS are not allowed, and OPTIONS says so") {
    service s;
    for (std::string_view method : {"POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"}) {
        wire w(s);
        const auto a = w.ask(request(std::string(method) + " /metrics HTTP/1.1"));
        CHECK(a.at(0).status == 405);
        CHECK(a.at(0).has("Allow: GET, HEAD, OPTIONS"));
        CHECK(w.kept());
    }
    for (std::string_view target : {"/metrics", "/", "*"}) {
        wire w(s);
        const auto a = w.ask(request("OPTIONS " + std::string(target) + " HTTP/1.1"));
        CHECK(a.at(0).status == 204);
        CHECK(a.at(0).has("Allow: GET, HEAD, OPTIONS"));
        CHECK(a.at(0).field("Content-Length") == "");
        CHECK(w.kept());
    }
    CHECK(outcome(s, request("OPTIONS /nope HTTP/1.1")) == "404");
    CHECK(outcome(s, request("BREW /metrics HTTP/1.1")) == "501");
    CHECK(outcome(s, request("GET * HTTP/1.1")) == "400 close");
    CHECK(outcome(s, request("CONNECT a:80 HTTP/1.1")) == "400 close");
}

TEST_CASE("announced content is never parsed: the answer closes") {
    service s;
    for (std::string_view body : {"", "hello", "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"}) {
        CHECK(outcome(s, get("/metrics", "Content-Length: 5\r\n") + std::string(body)) == "200 close");
        CHECK(outcome(s, get("/metrics", "Transfer-Encoding: chunked\r\n") + std::string(body)) == "200 close");
        CHECK(outcome(s, request("POST /metrics HTTP/1.1", "Content-Length: 999999999999999999\r\n") + std::string(body)) == "405 close");
        CHECK(outcome(s, request("POST /nope HTTP/1.1", "Transfer-Encoding: chunked\r\n") + std::string(body)) == "404 close");
    }
    CHECK(outcome(s, get("/metrics", "Content-Length: 0\r\n") + get()) == "200,200");
}

TEST_CASE("Expect is answered by the final status at once") {
    service s;
    CHECK(outcome(s, request("POST /metrics HTTP/1.1", "Expect: 100-continue\r\nContent-Length: 5\r\n")) == "405 close");
    CHECK(outcome(s, get("/metrics", "Expect: 100-continue\r\n")) == "200");
    CHECK(outcome(s, get("/metrics", "Expect: 200-ok\r\n")) == "417");
    CHECK(outcome(s, "GET / HTTP/1.0\r\nExpect: 200-ok\r\n\r\n") == "200 close");
}

TEST_CASE("a host that is not allowed is misdirected") {
    service s;
    s.allowed_hosts = {"metrics.example", "localhost:9464", "[::1]"};
    const auto with = [&](std::string_view host) { return outcome(s, "GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n"); };
    CHECK(with("metrics.example") == "421");  // without the code that compares them
    s.hosts = &prom::detail::hosts_code::all;
    for (std::string_view yes : {"metrics.example", "METRICS.example:80", "localhost", "localhost:9464", "[::1]:9464",
                                 "metrics.example.", "Metrics.Example.:9464", "localhost.", "LOCALHOST.:1", "localhost:", "[::1]:", "[0:0:0:0:0:0:0:1]", "[0::1]:80", "[::0.0.0.1]"})
        CHECK(with(yes) == "200");
    for (std::string_view no : {"evil.example", "", "xmetrics.example", "127.0.0.1", ".", "..", ":9464", "metrics.example..", ".metrics.example", "metrics", "[::2]", "[::1:0]",
                                "[::ffff:127.0.0.1]", "[v1.a]", "localhos", "localhost.localdomain", "xn--mtrics-3ya.example"}) CHECK(with(no) == "421");
    CHECK(outcome(s, "GET http://evil.example/ HTTP/1.1\r\nHost: metrics.example\r\n\r\n") == "421");
    CHECK(outcome(s, "GET http://metrics.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n") == "200");
    CHECK(outcome(s, "GET HTTP://Metrics.Example.:80/ HTTP/1.1\r\nHost: evil.example\r\n\r\n") == "200");
    CHECK(outcome(s, "GET http://[::0:1]:80/ HTTP/1.1\r\nHost: evil.example\r\n\r\n") == "200");
    CHECK(outcome(s, "GET http://evil.example./ HTTP/1.1\r\nHost: metrics.example.\r\n\r\n") == "421");
    CHECK(outcome(s, "GET / HTTP/1.0\r\n\r\n") == "421 close");
    wire w(s);
    CHECK(w.ask("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").at(0).body == "");
}

TEST_CASE("an empty Host, Upgrade, Range, conditions and odd fields change nothing") {
    service s;
    CHECK(outcome(s, "GET / HTTP/1.1\r\nHost:\r\n\r\n") == "200");
    for (std::string_view field : {"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__", "Range: bytes=0-9", "If-None-Match: *", "Keep-Alive: timeout=9999",
                                   "X-HTTP-Method-Override: DELETE", "User-Agent: () { :;}; echo x", "Authorization: Basic", "X: caf\xe9"})
        CHECK(outcome(s, get("/metrics", std::string(field) + "\r\n")) == "200");
}

// ---- one connection, many requests ----

TEST_CASE("pipelined requests are answered in order, at any depth") {
    service s;
    std::string many;
    for (int i = 0; i != 500; ++i) many += get(i % 3 == 0 ? "/nope" : "/");
    wire w(s);
    const auto a = w.ask(many);
    REQUIRE(a.size() == 500);
    for (std::size_t i = 0; i != 500; ++i) CHECK(a[i].status == (i % 3 == 0 ? 404 : 200));
    CHECK(w.kept());
    CHECK(outcome(s, get("/") + "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + get("/nope"), "GHG") == "200,200,404");
}

TEST_CASE("requests are the same however they are cut") {
    service s;
    const std::string all = get("/") + get("/nope") + "\r\n" + request("OPTIONS * HTTP/1.1") + get("/metrics", "Connection: close\r\n") + get("/");
    std::string whole;
    {
        wire w(s);
        w.give(all);
        whole = w.peer.from_server;
        CHECK(w.lingers());
    }
    for (std::size_t cut = 1; cut != all.size(); ++cut) {
        wire w(s);
        w.give(all.substr(0, cut));
        w.give(all.substr(cut));
        CHECK(w.peer.from_server == whole);
        CHECK(w.lingers());
    }
    wire w(s);
    for (char c : all) w.give({&c, 1});
    CHECK(w.peer.from_server == whole);
}

TEST_CASE("after a close option nothing is parsed") {
    service s;
    CHECK(outcome(s, get("/", "Connection: close\r\n") + get()) == "200 close");
    CHECK(outcome(s, get("/", "connection: foo, ClOsE\r\n") + "garbage") == "200 close");
    wire w(s);
    CHECK(w.ask(get("/", "Connection: close\r\n")).at(0).has("Connection: close"));
}

TEST_CASE("the last request of a connection says that it closes") {
    service s;
    s.limits.requests_per_connection = 3;
    wire w(s);
    const auto a = w.ask(get("/") + get("/") + get("/") + get("/"));
    REQUIRE(a.size() == 3);
    CHECK_FALSE(a[1].has("Connection: close"));
    CHECK(a[2].has("Connection: close"));
    CHECK(w.lingers());
}

TEST_CASE("a turn serves eight pipelined requests, then others come first") {
    service s;
    std::string many;
    for (int i = 0; i != 20; ++i) many += get("/");
    wire w(s);
    w.peer.to_server = many;
    for (std::size_t served : {std::size_t{8}, std::size_t{16}, std::size_t{20}}) {
        REQUIRE(w.due());
        w.c.run(w.now);
        CHECK(take_answers(w.peer.from_server).size() == served);
    }
    CHECK_FALSE(w.due());
}

TEST_CASE("few long pages at once have wide buffers, the others go on in narrow ones, and all are whole") {
    service s;
    s.grow(200000);
    constexpr std::size_t readers = 24, each = 25000;
    std::vector<std::unique_ptr<wire>> all;
    for (int round = 0; round != 2; ++round) {  // the second one finds every buffer given back
        for (std::size_t i = 0; i != readers; ++i) {
            all.push_back(std::make_unique<wire>(s));
            all.back()->peer.room = each;
            all.back()->give(get());
            CHECK(all.back()->peer.from_server.size() == each);
        }
        CHECK(s.wide_buffers() == 16);
        all.erase(all.begin(), all.begin() + 4);  // they leave during their pages
        CHECK(s.wide_buffers() == 16);  // kept for the next ones
        std::string first;
        for (auto& w : all) {
            w->peer.room = ~std::size_t{0};
            w->go();
            const auto a = w->got();
            REQUIRE(a.size() == 1);
            if (first.empty()) first = a[0].body;
            CHECK(a[0].body == first);
            CHECK(w->kept());
        }
        CHECK(first.size() > 100000);
        CHECK(s.wide_buffers() <= 4);  // of which few are kept
        all.clear();
    }
}

TEST_CASE("a page is the same whatever buffer it is sent from, and a buffer takes what its option says") {
    std::string whole, text(30000, 't');
    for (const std::size_t bytes : {std::size_t{16384}, std::size_t{2048}, std::size_t{2500}, std::size_t{65536}})
        for (const std::size_t long_answers : {std::size_t{16}, std::size_t{0}}) {
            service s;
            s.limits.answer_bytes = bytes;
            s.limits.long_answers = long_answers;
            s.grow(100000);
            s.routes.emplace_back().path = "/long";
            s.routes.back().text = text;
            s.routes.back().is_text = true;
            wire w(s);
            w.peer.room = 100;  // all of a piece is never taken at once
            w.give(get());
            CHECK(s.wide_buffers() == 0);  // the first piece comes from the usual one
            w.peer.room = ~std::size_t{0};
            w.go();
            auto a = w.got();
            REQUIRE(a.size() == 1);
            if (whole.empty()) whole = a[0].body;
            CHECK(whole.size() > 70000);
            CHECK(a[0].body == whole);
            CHECK(s.wide_buffers() == (long_answers != 0));
            a = w.ask(get("/long"));
            REQUIRE(a.size() == 1);
            CHECK(a[0].body == text);
            for (const char* encoding : {"", "Accept-Encoding: gzip\r\n"}) CHECK(w.ask(get("/", encoding)).at(0).status == 200);
        }
}

TEST_CASE("a turn writes 64 kB and the piece that was begun, then others come first") {
    service s;
    s.grow(1000000);
    wire w(s);
    w.peer.to_server = get();
    w.c.run(w.now);
    const std::size_t first = w.peer.from_server.size();
    CHECK(first >= 65536);
    CHECK(first <= 2 * 65536);
    CHECK(w.c.wants() == prom::detail::interest::write);
    w.c.run(w.now);
    CHECK(w.peer.from_server.size() - first >= 65536);
    CHECK(w.peer.from_server.size() - first <= 2 * 65536);
}

TEST_CASE("of several addresses the readers at one share what it may send in a turn") {
    service s;
    s.grow(2000000);
    std::deque<wire> many;
    for (int i = 0; i != 20; ++i) many.emplace_back(s, 1000, 7).peer.to_server = get();
    const auto turn = [&](wire* other = nullptr) {
        ++s.turn;
        std::size_t before = 0, after = 0;
        for (wire& w : many) before += w.peer.from_server.size(), w.c.run(w.now), after += w.peer.from_server.size();
        if (other) other->c.run(other->now);
        return after - before;
    };
    CHECK(turn() >= 20 * 65536);  // it is the only one
    wire other(s, 1000, 8);
    other.peer.to_server = get();
    CHECK(turn(&other) <= 5 * 65536);
    CHECK(other.peer.from_server.size() >= 65536);
    for (const wire& w : many) CHECK(w.c.wants() == prom::detail::interest::write);  // all go on
    const std::size_t first = other.peer.from_server.size();
    CHECK(turn(&other) >= 4 * 65536);  // the next turn has a share of its own
    CHECK(other.peer.from_server.size() - first >= 65536);
}

TEST_CASE("of many answers to one address the system keeps little that it cannot send") {
    service s;
    s.grow(200000);
    for (int round = 0; round != 2; ++round) {  // in the second the places are free again
        std::deque<wire> many;
        for (int i = 0; i != 12; ++i) {
            many.emplace_back(s, 1000, 7).peer.room = 1000;
            many.back().give(get());
            many.back().give("");  // and again, in the midst of the same answer
        }
        for (std::size_t i = 0; i != many.size(); ++i) CHECK((many[i].peer.little_unsent != 0) == (i >= 8));
        wire other(s, 1000, 8);
        other.peer.room = 1000;
        other.give(get());
        CHECK(other.peer.little_unsent == 0);
        for (wire& w : many) {
            w.peer.room = ~std::size_t{0};
            w.go();
            CHECK(w.kept());
        }
        many[0].give(get());
        CHECK(many[0].peer.little_unsent == 0);  // one at a time again
    }
}

TEST_CASE("while output is pending nothing is read") {
    service s;
    s.grow(400000);
    wire w(s);
    w.peer.room = 1000;
    w.give(get() + get("/"));
    for (int i = 0; i != 50; ++i) w.give(get("/"));
    CHECK(w.peer.from_server.size() == 1000);
    CHECK(w.peer.receives == 1);
    CHECK(w.c.wants() == prom::detail::interest::write);
    w.peer.room = ~std::size_t{0};
    w.go();
    CHECK(w.got().size() == 52);
    CHECK(w.kept());
}

TEST_CASE("a half-closed peer gets all its answers, then the end") {
    service s;
    s.grow(100000);
    wire w(s);
    w.peer.fin = true;
    const auto a = w.ask(get("/") + get() + get("/"));
    CHECK(a.size() == 3);
    CHECK(w.c.closed());
    CHECK_FALSE(w.peer.reset);
}

TEST_CASE("a peer that leaves inside a head, or says nothing, is let go in silence") {
    service s;
    for (std::string_view octets : {"", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"}) {
        wire w(s);
        w.peer.fin = true;
        w.give(octets);
        CHECK(w.c.closed());
        CHECK(w.peer.from_server == "");
    }
}

TEST_CASE("a peer that resets is dropped at any point, without an event") {
    service s;
    s.grow(100000);
    {
        wire w(s);
        w.peer.recv_error = ECONNRESET;
        w.give("GET /");
        CHECK(w.c.closed());
    }
    for (int error : {EPIPE, ECONNRESET, ETIMEDOUT, EHOSTUNREACH}) {
        wire w(s);
        w.peer.room = 20000;
        w.give(get());
        w.peer.send_error = error;
        w.go();
        CHECK(w.c.closed());
    }
    {
        wire w(s);
        w.give("bad\x01");
        CHECK(w.lingers());
        w.peer.recv_error = ECONNRESET;
        w.go();
        CHECK(w.c.closed());
    }
    CHECK(s.told.empty());
}

TEST_CASE("an answer takes the time from its request to its end") {
    service s;
    s.metrics = prom::owned<prom::detail::http_metrics>(new prom::detail::http_metrics);
    const auto sum = [] {
        const std::string page = prom::expose(), name = "\nprometheus_async_http_response_seconds_sum ";
        return std::strtod(page.c_str() + page.find(name) + name.size(), nullptr);
    };
    const double before = sum();
    wire w(s);
    CHECK(w.ask(get("/")).size() == 1);
    CHECK(sum() - before < 500);  // the clocks of the test are at 1000 and more
}

TEST_CASE("lost connections are counted, and what the server notices is a metric of its own") {
    service s;
    s.grow(100000);
    s.metrics = prom::owned<prom::detail::http_metrics>(new prom::detail::http_metrics);
    const auto lost = prom::event_count(prom::event_kind::connection_lost);
    const double before = s.metrics->events("connection_lost").value(), stalled = s.metrics->events("connection_stalled").value();
    wire w(s);
    w.peer.room = 20000;
    w.give(get());
    w.peer.send_error = ECONNRESET;
    w.go();
    CHECK(w.c.closed());
    CHECK(prom::event_count(prom::event_kind::connection_lost) == lost + 1);
    CHECK(s.metrics->events("connection_lost").value() == before + 1);
    wire slow(s);
    slow.peer.room = 20000;
    slow.give(get());
    slow.c.expire(slow.c.deadline());
    CHECK(s.metrics->events("connection_stalled").value() == stalled + 1);
}

// ---- time ----

TEST_CASE("a head has 5 s from the accept: nothing came, a silent end; something came, 408") {
    service s;
    wire silent(s, 1000);
    CHECK(silent.c.deadline() == 1005);
    silent.c.expire(1005);
    CHECK(silent.c.closed());
    CHECK(silent.peer.from_server == "");

    wire slow(s, 1000);
    slow.now = 1002;
    slow.give("GET / HT");
    CHECK(slow.c.deadline() == 1005);
    slow.now = 1004.5;
    slow.give("TP/1.1\r\n");
    CHECK(slow.c.deadline() == 1005);  // total, not for each read
    slow.c.expire(1005);
    const auto a = slow.got();
    CHECK(a.at(0).status == 408);
    CHECK(a.at(0).has("Connection: close"));
    CHECK(slow.lingers());
}

TEST_CASE("a kept connection may be idle for 75 s, and a head has 5 s from its first octet") {
    service s;
    wire w(s, 1000);
    w.now = 1003;
    w.give(get("/"));
    CHECK(w.c.deadline() == 1078);
    w.now = 1070;
    w.give("\r");
    CHECK(w.c.deadline() == 1075);
    w.now = 1074;
    w.give("\n" + get("/"));
    CHECK(w.c.deadline() == 1149);
    w.c.expire(1149);
    CHECK(w.c.closed());
    CHECK_FALSE(w.peer.reset);
    CHECK(w.got().size() == 2);
}

TEST_CASE("a connection is idle, or lingers, from the end of its answer, however long that took") {
    for (const bool closes : {false, true}) {
        service s;
        s.grow(100000);
        wire w(s, 1000);
        w.peer.room = 20000;
        w.give(get("/metrics", closes ? "Connection: close\r\n" : ""));
        w.now = 1005;
        w.peer.room = 1 << 20;
        w.go();
        CHECK(w.got().at(0).status == 200);
        CHECK(w.lingers() == closes);
        CHECK(w.c.deadline() == (closes ? 1006 : 1080));
    }
}

TEST_CASE("a reader that takes nothing for 10 s is reset, and so is one that takes less than it must, or a minute in all") {
    service s;
    s.grow(4000000, 2000);
    {
        wire w(s, 1000);
        w.peer.room = 200000;
        w.give(get());
        CHECK(w.c.deadline() == 1010);
        w.now = 1009;
        w.peer.room = 1;
        w.go();
        CHECK(w.c.deadline() == 1019);
        w.c.expire(1019);
        CHECK(w.c.closed());
        CHECK(w.peer.reset);
        CHECK(s.told == std::vector{prom::event_kind::connection_stalled});
    }
    for (const bool limited : {true, false}) {  // 8,000 octets a second
        s.limits.reader_rate = limited ? 10000 : 0;
        wire w(s, 1000);
        w.peer.room = 0;
        w.give(get());
        CHECK(w.c.deadline() == 1010);
        for (int i = 1; i != 9; ++i) {
            w.now = 1000 + 5 * i;
            w.peer.room = 40000;
            w.go();
            CHECK(w.c.deadline() == (limited ? std::min(w.now + 10, 1010 + 4.0 * i) : w.now + 10));
        }
    }
    s.limits.reader_rate = 10000;
    wire w(s, 1000);
    w.peer.room = 200000;
    w.give(get());
    for (int i = 1; i != 12; ++i) {
        w.now = 1000 + 5 * i;
        w.peer.room = 50000;
        w.go();
        CHECK(w.c.deadline() == (i < 10 ? w.now + 10 : 1060));
    }
    w.c.expire(1060);
    CHECK(w.c.closed());
    CHECK(w.peer.reset);
}

TEST_CASE("a lingering close lasts a second, or 256 kB, or until the peer has closed") {
    service s;
    {
        wire w(s, 1000);
        w.give("bad\x01");
        CHECK(w.lingers());
        CHECK(w.c.deadline() == 1001);
        w.c.expire(1001);
        CHECK(w.c.closed());
        CHECK_FALSE(w.peer.reset);
    }
    {
        wire w(s, 1000);
        w.give("bad\x01");
        w.peer.to_server += std::string(200000, 'x');
        for (std::size_t left = 200000; left != 0; left = w.peer.to_server.size()) {  // others have their turns
            w.c.run(1000);
            CHECK(left - w.peer.to_server.size() <= 65536 + s.scratch.size());
        }
        CHECK(w.lingers());
    }
    {
        wire w(s, 1000);
        w.give("bad\x01");
        w.give(std::string(262143, 'x'));
        CHECK(w.lingers());
        w.give("x");
        CHECK(w.c.closed());
    }
    wire w(s, 1000);
    w.give("bad\x01");
    w.peer.fin = true;
    w.go();
    CHECK(w.c.closed());
    CHECK(w.got().size() == 1);
}

// ---- pressure ----

TEST_CASE("the oldest waiting connection is the one to go") {
    service s;
    wire a(s, 1000), b(s, 1001), c(s, 1002);
    CHECK(s.connections == 3);
    CHECK(s.victim(1003) == &a.c);
    a.now = 1003;
    a.give(get("/"));  // a waits anew
    CHECK(s.victim(1003) == &b.c);
    b.now = 1004;
    b.give("GET / HT");  // b still waits for the same head
    CHECK(s.victim(1004) == &b.c);
    b.c.close();
    CHECK(s.victim(1004) == &c.c);
}

TEST_CASE("if none waits, the one whose peer has taken nothing for longest, and for a tenth of a second") {
    service s;
    s.grow(400000);
    wire a(s, 1000), b(s, 1000);
    for (wire* w : {&a, &b}) {
        w->peer.room = 1000;
        w->give(get());
    }
    CHECK(s.victim(1000.05) == nullptr);
    CHECK(s.victim(1000.15) == &a.c);
    CHECK(s.victim(1001) == &a.c);
    a.now = 1000.5;
    a.peer.room = 10;
    a.go();
    CHECK(s.victim(1001) == &b.c);
}

TEST_CASE("a reader that takes a little all the time goes before one that takes much, and one that began now before none") {
    service s;
    s.grow(4000000);
    wire slow(s, 1000), fast(s, 1000);
    for (wire* w : {&slow, &fast}) w->peer.room = 1000, w->give(get());
    for (int i = 1; i != 40; ++i)
        for (wire* w : {&slow, &fast}) {
            w->now = 1000 + 0.05 * i;
            w->peer.room = w == &slow ? 2000 : 60000;
            w->go();
        }
    CHECK(s.writing.size == 2);
    CHECK(s.victim(1001.95) == &slow.c);
    slow.c.close();
    CHECK(s.victim(1001.95) == nullptr);
    wire more(s, 1001.95);
    CHECK(s.victim(1001.95) == &more.c);     // one that waits
    more.peer.room = 1000;
    more.give(get());
    CHECK(s.victim(1001.95) == nullptr);
    CHECK(s.victim(1001.95, 1) != nullptr);  // the address has more than the newcomer's
}

TEST_CASE("the one to go is of the address that has most connections") {
    service s;
    wire lone(s, 1000, 7), a(s, 1001, 8), b(s, 1002, 8), c(s, 1003, 9);
    CHECK(s.victim(1004) == &a.c);
    a.give("GET / HT");
    CHECK(s.victim(1004) == &a.c);
    a.now = 1004;
    a.give("TP/1.1\r\nHost: a\r\n\r\n");
    CHECK(s.victim(1004) == &b.c);
    {
        wire d(s, 1005, 9), e(s, 1005, 9);
        CHECK(s.victim(1006) == &c.c);
    }
    CHECK(s.victim(1006) == &b.c);
    b.c.close();  // closed, but not gone
    CHECK(s.victim(1006) == &a.c);
}

TEST_CASE("an address is that of IPv4, in IPv6 too, the /64 of IPv6, or all unix sockets") {
    const auto of = [](std::string_view text) {
        prom::detail::net_address at;
        REQUIRE(prom::detail::parse_address(text, 80, at));
        return prom::detail::http_peer::of(at);
    };
    CHECK(of("10.0.0.1") == of("::ffff:10.0.0.1"));
    CHECK(of("10.0.0.1") != of("10.0.0.2"));
    CHECK(of("2001:db8::1") == of("2001:db8::ffff:1"));
    CHECK(of("2001:db8::1") != of("2001:db8:0:1::1"));
    CHECK(of("unix:/a") == of("unix:@b"));
    CHECK(of("unix:/a") != of("::1"));
    CHECK(of("unix:/a") != of("1.0.0.0"));
    CHECK(of("unix:/a") != of("0.0.0.1"));
    CHECK(of("10.0.0.1") != of("a00:1::1"));  // the same octets
    CHECK(of("10.0.0.1") != of("::a00:1"));
}

TEST_CASE("a newcomer without room gets 503 and an end") {
    service s;
    wire w(s);
    w.c.refuse(1000);
    w.go();
    const auto a = w.got();
    CHECK(a.at(0).status == 503);
    CHECK(a.at(0).has("Retry-After: 1"));
    CHECK(a.at(0).has("Connection: close"));
    CHECK(w.lingers());
}

TEST_CASE("a kept connection allocates nothing from one scrape to the next") {
    service s;
    s.grow(100000);
    s.metrics = prom::owned<prom::detail::http_metrics>(new prom::detail::http_metrics);
    wire w(s);
    const std::string prometheus =
        get("/metrics?name[]=c1&name[]=c2", "User-Agent: Prometheus/3.5.0\r\nAccept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n"
            "Accept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n");
    const std::string asks[] = {prometheus, get(), get("/"), get("/nope"), "HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n"};
    for (int round = 0; round != 4; ++round) {
        for (const std::string& ask : asks) {
            w.peer.to_server.reserve(4096);
            w.peer.from_server.clear();
            w.peer.from_server.reserve(1000000);
            w.peer.to_server = ask;
            const long before = allocations;
            while (w.due()) w.c.run(w.now);
            if (round > 1) CHECK(allocations == before);
            CHECK(w.kept());
        }
    }
}

TEST_CASE("an idle connection holds less than 2 kB, whatever it was asked before") {
    service s;
    const std::string asks[] = {get("/", "Accept: " + std::string(420, 'a') + "\r\n"),
                                get("/?" + std::string(4000, 'q'), "Accept: " + std::string(9000, 'a') + "\r\nAuthorization: " + std::string(3000, 'b') + "\r\n")};
    for (const std::string& ask : asks) {
        wire w(s);
        w.peer.to_server.reserve(20000);
        w.peer.from_server.reserve(20000);
        w.give(get("/"));  // the block goes to the service's pool
        const std::size_t before = live;
        w.give(ask);
        CHECK(take_answers(w.peer.from_server).size() == 2);
        CHECK(w.kept());
        CHECK(sizeof(prom::detail::server_connection) + (live - before) < 2048);
    }
}

TEST_CASE("a connection that ends has closed its descriptor, and one that lingers leaves its buffer to others") {
    service s;
    const int fd = test_system::next_peer++;
    test_system::peers[fd];
    {
        const http_connection c(s, fd, 1000, 0);
        CHECK_FALSE(test_system::peers[fd].closed);
    }
    CHECK(test_system::peers[fd].closed);
    test_system::peers.erase(fd);

    wire first(s), second(s);
    second.peer.to_server.reserve(2000);
    second.peer.from_server.reserve(2000);
    first.give(get("/"));
    first.give(get("/", "Connection: close\r\n"));
    CHECK(first.lingers());
    const std::size_t before = live;
    second.give(get("/"));
    CHECK(take_answers(second.peer.from_server).size() == 1);
    CHECK(live < before + 2048);
}

// ---- metrics of the scrape ----

TEST_CASE("the server's own metrics count requests, octets, time and samples") {
    service s;
    s.metrics = prom::owned<prom::detail::http_metrics>(new prom::detail::http_metrics);
    s.metrics_registry.make_counter("a_total", "help");
    s.metrics_registry.make_histogram("h", "help");
    auto& m = *s.metrics;
    const double before = m.requests(200, "text_0_0_4").value(), octets = m.octets.value();
    const double missing = m.requests(404, "").value(), om = m.requests(200, "openmetrics_1_0_0").value();
    wire w(s);
    w.give(get() + get("/nope") + get("/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n"));
    CHECK(m.requests(200, "text_0_0_4").value() == before + 1);
    CHECK(m.requests(404, "").value() == missing + 1);
    CHECK(m.requests(200, "openmetrics_1_0_0").value() == om + 1);
    CHECK(m.octets.value() == octets + static_cast<double>(w.peer.from_server.size()));
    CHECK(m.in_flight.value() == 0);
    CHECK(m.series.value() == 1 + 17);
    {
        service large;  // its page comes in pieces that end within lines
        large.metrics = prom::owned<prom::detail::http_metrics>(new prom::detail::http_metrics);
        large.grow(100000);
        wire other(large);
        const std::string body = other.ask(get()).at(0).body;
        double samples = 0;
        for (std::size_t at = 0; at < body.size(); at = body.find('\n', at) + 1) samples += body[at] != '#';
        CHECK(samples > 900);
        CHECK(large.metrics->series.value() == samples);
    }
    const double failed = m.collector_errors.value();
    {
        const auto broken = s.metrics_registry.add_collector([](prom::sample_sink& out) { out.fail("the disk is gone"); });
        w.give(get());
    }
    CHECK(m.collector_errors.value() == failed + 1);
    w.peer.room = 0;
    w.give(get());
    CHECK(m.in_flight.value() == 1);
    w.c.close();
    CHECK(m.in_flight.value() == 0);
}

TEST_CASE("with collector_errors::fail a failed collector is 500 before the first octet, and a reset after it") {
    for (const bool large : {false, true}) {
        CAPTURE(large);
        service s;
        s.on_collector_error = prom::collector_errors::fail;
        s.metrics = prom::owned<prom::detail::http_metrics>(new prom::detail::http_metrics);
        const double failed = s.metrics->requests(500, "").value();
        if (large) s.grow(100000);
        const auto fails = s.metrics_registry.add_collector([](prom::sample_sink& to) { to.fail("today"); });
        wire w(s);
        if (large) {
            w.give(get());
            CHECK(w.c.closed());
            CHECK(w.peer.from_server.find("\r\n0\r\n\r\n") == std::string::npos);  // the page is not whole, and does not look so
            CHECK(w.peer.from_server.size() > 16384);
        } else {
            const auto a = w.ask(get());
            REQUIRE(a.size() == 1);
            CHECK(a[0].status == 500);
            CHECK(a[0].body == "Internal Server Error\n");
            CHECK(w.kept());
            CHECK(s.metrics->requests(500, "").value() == failed + 1);  // an answer without a format
        }
        CHECK(s.told == std::vector{prom::event_kind::callback_failed, prom::event_kind::callback_failed});
        wire other(s);
        CHECK(other.ask(get("/"))[0].body == page_text);
    }
}

TEST_CASE("created_series is the server's option") {
    service s;
    prom::counter{"c", "", {.registry = &s.metrics_registry}}.inc();
    const auto all = [&](std::string_view accept) {
        wire w(s);
        return w.ask(get("/metrics", accept))[0].body;
    };
    const std::string_view asked = "Accept: application/openmetrics-text;version=1.0.0\r\n";
    CHECK(all(asked).find("_created") == std::string::npos);
    s.created = prom::created_series::openmetrics;
    CHECK(all(asked).find("c_created ") != std::string::npos);
    CHECK(all("").find("_created") == std::string::npos);
    s.created = prom::created_series::all;
    CHECK(all("").find("# TYPE c_created gauge\nc_created ") != std::string::npos);
}

#if !PROMETHEUS_ASYNC_NO_NATIVE
TEST_CASE("native_histograms and start_timestamps are the server's options") {
    service s;
    prom::histogram{"h", "", {.registry = &s.metrics_registry, .native = {.factor = 2}}}.observe(1);
    const auto has = [&](std::string_view what) {
        wire w(s);
        return w.ask(get("/metrics", "Accept: application/openmetrics-text;version=2.0.0\r\n"))[0].body.find(what) != std::string::npos;
    };
    CHECK(has("schema:0"));
    CHECK(has(" st@"));
    s.start_timestamps = false;
    CHECK(has("schema:0"));
    CHECK_FALSE(has(" st@"));
    s.native_histograms = false;
    CHECK_FALSE(has("schema:0"));
    CHECK(has("bucket:[+Inf:1]"));
}
#endif

TEST_CASE("while a collector blocks, others are not served; once it has returned, all are, and its page is whole") {
    service s;
    int calls = 0;
    wire first(s), second(s);
    const auto blocks = s.metrics_registry.add_collector([&](prom::sample_sink& to) {
        if (++calls == 1) second.peer.to_server = get("/");  // comes meanwhile
        to.family(prom::metric_type::gauge, "slow", "");
        to.sample(1);
    });
    CHECK(first.ask(get())[0].body == "# TYPE slow gauge\nslow 1\n");
    CHECK(second.due());
    second.go();
    CHECK(second.got()[0].body == page_text);
}

TEST_CASE("several scrapers that scrape at once, again and again, allocate nothing") {
    service s;
    s.grow(200000);
    std::vector<std::unique_ptr<wire>> all;
    for (int i = 0; i != 4; ++i) all.push_back(std::make_unique<wire>(s));
    for (int round = 0; round != 4; ++round) {
        for (auto& w : all) {
            w->peer.to_server.reserve(4096);
            w->peer.from_server.clear();
            w->peer.from_server.reserve(1000000);
            w->peer.to_server = get();
        }
        const long before = allocations;
        for (bool due = true; due;) {
            due = false;
            for (auto& w : all) if (w->due()) due = true, w->c.run(w->now);
        }
        if (round > 1) CHECK(allocations == before);
        for (auto& w : all) CHECK(w->got().size() == 1);
    }
}
