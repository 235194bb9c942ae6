// Rooms [39], [69].
// needs-network
#include "support/faults.hpp"

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/flat_pages.hpp"
#include "support/scripted_peer.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace prom = prometheus_async;
using namespace prometheus_async::detail;
using namespace scripted;

namespace {

/// A gateway that says what it is told to, and a pusher with a registry of its own.
struct stage {
    explicit stage(prom::push_options o = {}, bool starts = true) : options(o) {
        where = there.at();
        if (options.gateway.empty()) options.gateway = where;
        if (options.job.empty()) options.job = "j";
        all[0] = &registry;
        options.registries = all;
        options.on_event = [](const prom::event& e, void* self) {
            static_cast<stage*>(self)->events.push_back(e.kind);
            static_cast<stage*>(self)->words.push_back(e.why.describe());
        };
        options.context = this;
        if (starts) start();
    }
    void start() { gateway = std::make_unique<prom::pushgateway>(loop, options); }
    answer reply() {
        if (next.empty()) return kept(http(200));
        const answer a = next.front();
        next.erase(next.begin());
        return a;
    }
    prom::result<void> push() { return finish(loop, gateway->push()); }
    /// Lets the clock go on until it has ended.
    prom::result<void> patient(prom::task<prom::result<void>> work, double step = 0.1) {
        outcome<prom::result<void>> out;
        loop.spawn(keep(std::move(work), out));
        for (int turns = 0; !out; ++turns) {
            REQUIRE(turns < 20000);
            loop.poll(0);
            now += step;
        }
        return *out;
    }
    void idle(int turns = 30) {
        for (int i = 0; i != turns; ++i) loop.poll(0.001);
    }
    std::string line(std::size_t i) const { return there.requests.at(i).substr(0, there.requests.at(i).find("\r\n")); }
    std::string head(std::size_t i) const { return there.requests.at(i).substr(0, there.requests.at(i).find("\r\n\r\n") + 4); }
    std::string body(std::size_t i) const { return peer::body_of(there.requests.at(i)); }
    std::size_t asked() const { return there.requests.size(); }
    std::string page() { return prom::expose({.registries = all}); }

    prom::registry registry;
    prom::registry* all[1];
    std::vector<prom::event_kind> events;
    std::vector<std::string> words;
    std::vector<answer> next;
    prom::event_loop loop{on_fake_time()};
    peer there{loop, [this](const std::string&) { return reply(); }};
    std::string where;
    prom::push_options options;
    std::unique_ptr<prom::pushgateway> gateway;
};

std::string path_of(std::string_view job, prom::list<prom::label> grouping = {}, std::string_view gateway = "h:1") {
    prom::event_loop loop;
    prom::push_options o;
    o.gateway = gateway;
    o.job = job;
    o.grouping = grouping;
    const prom::detail::shared m(new push_member(loop, o));
    return m->usable ? m->path : "! " + m->trouble;
}
std::string why_not(prom::push_options o) {
    stage s(o);
    const auto end = s.push();
    REQUIRE(!end);
    CHECK(end.why().code() == prom::errc::invalid_option);
    CHECK(s.there.connections == 0);
    CHECK(s.gateway->why() == end.why().describe());
    return end.why().describe();
}

/// 100 kB or so.
void fill(prom::registry& r, int series = 2000) {
    const auto f = r.make_family<prom::gauge>("many", "Of them.", {"number"});
    for (int i = 0; i != series; ++i) {
        const std::string number = std::to_string(i) + "th of these series";
        f({std::string_view(number)}).set(i);
    }
}

}  // namespace

TEST_CASE("a group's path: plain values as they are, all others as base64 for URLs, never percent-encoded") {
    CHECK(path_of("backup") == "/metrics/job/backup");
    CHECK(path_of("a-b.c_d~e") == "/metrics/job/a-b.c_d~e");
    CHECK(path_of("a b") == "/metrics/job@base64/YSBi");
    CHECK(path_of("a+b") == "/metrics/job@base64/YSti");
    CHECK(path_of("a/b", {{{"path", "/var/tmp"}}}) == "/metrics/job@base64/YS9i/path@base64/L3Zhci90bXA");
    CHECK(path_of("..") == "/metrics/job@base64/Li4");
    CHECK(path_of(".") == "/metrics/job@base64/Lg");
    CHECK(path_of("...") == "/metrics/job/...");
    CHECK(path_of("j", {{{"instance", ""}, {"z", "1"}}}) == "/metrics/job/j/instance@base64/=/z/1");
    CHECK(path_of("\xc3\xbc") == "/metrics/job@base64/w7w");
    CHECK(path_of("?>?") == "/metrics/job@base64/Pz4_");
    CHECK(path_of("\xef\xbf\xbf\xef\xbf\xbf") == "/metrics/job@base64/77-_77-_");
    CHECK(path_of(std::string_view("a\0b", 3)) == "/metrics/job@base64/YQBi");
    CHECK(path_of("j", {}, "http://h:1/prefix/") == "/prefix/metrics/job/j");
    CHECK(path_of("j", {}, "unix:///run/gateway") == "/metrics/job/j");
    for (int c = 1; c != 128; ++c) {  // each ASCII octet is one segment, or its base64
        const std::string job = "x" + std::string(1, static_cast<char>(c));
        const std::string path = path_of(job);
        CAPTURE(path);
        CHECK((path == "/metrics/job/" + job ? ascii_letter_or_digit(static_cast<char>(c)) || std::string("-._~").find(static_cast<char>(c)) != std::string::npos
                                             : path == "/metrics/job@base64/" + base64(job, true)));
    }
}

TEST_CASE("what no gateway takes is refused before anything is sent") {
    CHECK(path_of("") == "! push_options::job is empty: a group must have a job");
    CHECK(path_of("\xff") == "! push_options::job has a value that is not UTF-8");
    CHECK(why_not({.grouping = {{"a", "\xc3"}}}) == "push_options::grouping: label a has a value that is not UTF-8");
    CHECK(why_not({.grouping = {{"job", "x"}}}) == "push_options::grouping: label job is set by push_options::job");
    CHECK(why_not({.grouping = {{"a", "x"}, {"a", "y"}}}) == "push_options::grouping: label a is given twice");
    for (const char* name : {"", "1l", "a-b", "__x", "a/b", "\xc3\xbc"})
        CHECK(why_not({.grouping = {{name, "x"}}}) == "push_options::grouping: label " + std::string(name) + " is not [a-zA-Z_][a-zA-Z0-9_]*, or begins with __");
    for (const char* at : {"http://", "host:0", "host:99999", "host:1?x", "http://h/a b", "http://u:p@h", "ftp://h", "h/#", "unix://x"})
        CHECK(why_not({.gateway = at}) == "push_options::gateway is not host:port, http://host:port/prefix, https://host or unix:///path");
    for (const char* at : {"http://h/metrics", "h:9091/metrics/job/x"})
        CHECK(why_not({.gateway = at}) == "push_options::gateway has /metrics in it: that and the group are added automatically");
    CHECK(why_not({.gateway = "https://h"}) == "an https gateway needs push_options::tls");
    CHECK(why_not({.timeout = 0}) == "push_options::timeout is not above 0");
    for (const char* token : {"", "a b", "a\r\nX: y", "\xc3\xbc"})
        CHECK(why_not({.credential = prom::bearer(token)}) == "push_options::credential: a token is empty, or has an octet that no field value may have");
    for (const prom::credential& c : {prom::basic("a:b", "x"), prom::basic("a\n", "x"), prom::basic("a", "\x7f")})
        CHECK(why_not({.credential = c}) == "push_options::credential: a user has a colon, or there is a control character");
}

TEST_CASE("a push is one PUT of the page, an addition one POST, a removal one DELETE, on one connection") {
    stage s({.job = "backup", .grouping = {{"instance", "host1"}}});
    s.registry.make_counter("done_total", "Files.").inc(3);
    CHECK(s.push());
    CHECK(finish(s.loop, s.gateway->push_add()));
    CHECK(finish(s.loop, s.gateway->remove()));
    REQUIRE(s.asked() == 3);
    CHECK(s.there.connections == 1);
    CHECK(s.there.requests[0] == "PUT /metrics/job/backup/instance/host1 HTTP/1.1\r\nHost: " + s.where +
              "\r\nUser-Agent: prometheus_async.hpp/0.1.0\r\nAccept: */*\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
              "Content-Length: " + std::to_string(s.page().size()) + "\r\n\r\n" + s.page());
    CHECK(s.body(1) == s.page());
    CHECK(s.line(1) == "POST /metrics/job/backup/instance/host1 HTTP/1.1");
    CHECK(s.line(2) == "DELETE /metrics/job/backup/instance/host1 HTTP/1.1");
    CHECK(s.body(2).empty());
    CHECK(s.gateway->why().empty());
    CHECK(s.events.empty());
}

TEST_CASE("an empty registry empties the group") {
    stage s;
    CHECK(s.push());
    CHECK(s.head(0).find("\r\nContent-Length: 0\r\n") != std::string::npos);
    CHECK(s.head(0).find("Content-Type") == std::string::npos);
}

TEST_CASE("names outside the classic grammar are escaped, and `only` is what is pushed") {
    const std::string_view only[] = {"a.b"};
    stage s({.only = only}, false);
    s.registry.make_gauge(prom::utf8("a.b"), "h", {.labels = {{prom::utf8("c.d"), "x"}}}).set(1);
    s.registry.make_gauge("other", "h").set(1);
    s.start();
    CHECK(s.push());
    CHECK(s.body(0) == "# HELP a_b h\n# TYPE a_b gauge\na_b{c_d=\"x\"} 1\n");
}

TEST_CASE("credentials travel in Authorization, and are shown nowhere") {
    stage basic({.credential = prom::basic("Aladdin", "open sesame"), .tries = 1});
    basic.next = {http(401, "no QWxhZGRpbjpvcGVuIHNlc2FtZQ== and no open sesame"), http(401, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")};
    for (int i = 0; i != 2; ++i) {
        const auto end = basic.push();
        REQUIRE(!end);
        CHECK(basic.head(0).find("\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n") != std::string::npos);
        for (const std::string& text : {std::string(end.why().describe()), basic.gateway->why(), basic.words.at(0)}) {
            CHECK(text.find("sesame") == std::string::npos);
            CHECK(text.find("QWxh") == std::string::npos);
            CHECK(text.find("401") != std::string::npos);
        }
    }
    CHECK(basic.gateway->why().find("Give push_options::credential what the gateway's web.config.file") != std::string::npos);
    stage bearer({.credential = prom::bearer("tok-123")});
    CHECK(bearer.push());
    CHECK(bearer.head(0).find("\r\nAuthorization: Bearer tok-123\r\n") != std::string::npos);
    CHECK(bearer.events.empty());  // loopback
}

TEST_CASE("a series with a label of the group, a timestamp or a name of the gateway's is refused by name, and nothing is sent") {
    const auto refused = [](auto declare) {
        stage s({.grouping = {{"instance", "i"}, {"zone", "b"}}});
        s.registry.make_counter("fine_total", "Before { \" it.", {.labels = {{"jobs", "job=\"x\",job"}, {"x", "a\\\"},instance=\"\n"}}}).inc();
        CHECK(s.push());
        const std::size_t before = s.asked();
        [[maybe_unused]] const auto held = declare(s.registry);
        const auto end = s.push();
        REQUIRE(!end);
        CHECK(end.why().code() == prom::errc::invalid_option);
        CHECK(s.asked() == before);
        CHECK(s.events == std::vector{prom::event_kind::push_failed});
        CHECK(s.gateway->why().find(end.why().describe()) != std::string::npos);
        return std::string(end.why().describe());
    };
    CHECK(refused([](prom::registry& r) { return r.make_gauge("g", "h", {.labels = {{"a", "b"}, {"job", "x"}}}); }) ==
          "g{job}: the Pushgateway would overwrite this label by the group's");
    CHECK(refused([](prom::registry& r) { return r.make_histogram("h", "h", {.labels = {{"instance", ""}}, .buckets = {1}}); }) ==
          "h_bucket{instance}: the Pushgateway would overwrite this label by the group's");
    CHECK(refused([](prom::registry& r) { return r.make_family<prom::gauge>("f", "h", {"zone"})({std::string_view("z")}); }) ==
          "f{zone}: the Pushgateway would overwrite this label by the group's");
    for (const char* name : {"push_time_seconds", "push_failure_time_seconds"})
        CHECK(refused([name](prom::registry& r) { return r.make_gauge(name, "h"); }) == std::string(name) + ": a Pushgateway has its own metric of that name for each group");
    CHECK(refused([](prom::registry& r) {
        return r.add_collector([](prom::sample_sink& out) {
            out.family(prom::metric_type::gauge, "dated", "");
            out.sample(1, {{"a", "b"}}, {.timestamp = 1700000000});
        });
    }) == "dated has a timestamp, which a Pushgateway refuses");
    stage le({.grouping = {{"le", "1"}}});
    le.registry.make_histogram("h", "h", {.buckets = {1}});
    const auto end = le.push();
    REQUIRE(!end);
    CHECK(std::string(end.why().describe()) == "h_bucket{le}: the Pushgateway would overwrite this label by the group's");
}

TEST_CASE("the check reads a page alike, however it is cut, and takes label values of every octet") {
    const prom::detail::vector<prom::detail::string> group{"job", "a"};
    std::string value;
    for (int c = 1; c != 256; ++c) value += static_cast<char>(c);
    prom::registry r;
    prom::registry* const all[] = {&r};
    r.make_gauge("g", value, {.labels = {{"v", value}, {"ab", "a=\"1\",a=\"2\"} 1 2\n"}}}).set(-1.5e300);
    const std::string good = prom::expose({.registries = all}), bad = good + "g{ab=\"\\\"\",a=\"\"} 1\n";
    for (std::size_t step = 1; step != 40; ++step) {
        push_check a(group), b(group);
        bool taken = true;
        for (std::size_t i = 0; i < good.size(); i += step) taken = a.feed(std::string_view(good).substr(i, step)) && taken;
        CHECK(taken);
        CHECK(a.fault().empty());
        for (std::size_t i = 0; i < bad.size(); i += step) taken = b.feed(std::string_view(bad).substr(i, step));
        CHECK(!taken);
        CHECK(b.fault() == "g{a}: the Pushgateway would overwrite this label by the group's");
    }
}

TEST_CASE("only 200 and 202 are success; a refusal is final, and has the gateway's words") {
    for (int status : {200, 202}) {
        stage s;
        s.next = {http(status, "ignored")};
        CHECK(s.push());
    }
    for (int status : {201, 204, 301, 302, 307, 400, 401, 403, 404, 405, 413, 422}) {
        CAPTURE(status);
        stage s;
        s.next = {http(status, " bad\x01 \xff news\r\n\n")};
        if (status == 307) s.next[0].octets = "HTTP/1.1 307 X\r\nLocation: http://" + s.where + "/x\r\nContent-Length: 0\r\n\r\n";
        const auto end = s.push();
        REQUIRE(!end);
        CHECK(end.why().code() == prom::errc::refused);
        if (status == 204 || status == 307) CHECK(end.why().describe() == "Pushgateway: " + std::to_string(status));
        else CHECK(end.why().describe() == "Pushgateway: " + std::to_string(status) + ":  bad  \xef\xbf\xbd news");
        now += 100;
        s.idle();
        CHECK(s.asked() == 1);
        CHECK(s.gateway->why().find("the Pushgateway at " + s.where + ", group /metrics/job/j: " + std::to_string(status)) == 0);
        CHECK((s.gateway->why().find("Is that a Pushgateway?") != std::string::npos) == (status == 404 || status == 405));
        CHECK(s.push());
        CHECK(s.gateway->why().empty());
    }
}

TEST_CASE("a clash of types names the metric, and what to do") {
    stage s;
    s.next = {http(400, "pushed metrics are invalid or inconsistent with existing metrics: collected metric \"a\" { label:<name:\"job\" value:\"j\" > } is not a COUNTER\n")};
    const auto end = s.push();
    REQUIRE(!end);
    CHECK(std::string(end.why().describe()).find("Pushgateway: 400: collected metric \"a\" {") == 0);
    CHECK(s.gateway->why().find("400: pushed metrics are invalid or inconsistent with existing metrics: collected metric \"a\"") != std::string::npos);
    CHECK(s.gateway->why().find("A metric of that name has another type in another group, or in the gateway itself") != std::string::npos);
}

TEST_CASE("words without end are cut: the status stands") {
    std::string chunked = "HTTP/1.1 400 X\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i != 3000; ++i) chunked += "400\r\n" + std::string(1024, 'a') + "\r\n";
    for (const std::string& said : {http(400, std::string(3 << 20, 'a')).octets, chunked, "HTTP/1.1 400 X\r\n\r\n" + std::string(3 << 20, 'a'),
                                    std::string("HTTP/1.1 400 X\r\nContent-Length: 99999999999999999\r\n\r\n") + std::string(9000, 'a')}) {
        stage s;
        s.next = {{said, answer::stall}};
        const auto end = s.push();
        REQUIRE(!end);
        CHECK(end.why().describe() == "Pushgateway: 400: " + std::string(101, 'a'));
        CHECK(s.gateway->why().size() < 1300);
        s.idle();
        CHECK(s.there.open() == 0);  // what else comes is not waited for
    }
    stage s;
    s.next = {{http(200, std::string(3 << 20, 'a')).octets, answer::stall}};
    CHECK(s.push());
}

TEST_CASE("after 5xx, 429, 408 or no answer the newest page is pushed, after a pause that grows") {
    stage s({.tries = 4});
    auto g = s.registry.make_gauge("g", "h");
    s.next = {http(503), http(429, "slow"), http(408), http(200)};
    outcome<prom::result<void>> out;
    s.loop.spawn(keep(s.gateway->push(), out));
    double least = 1;
    for (std::size_t n = 1; n != 4; ++n, least *= 2) {
        until(s.loop, [&] { return s.asked() == n; });
        s.idle();
        g.set(static_cast<double>(n));
        now += least - 0.1;
        s.idle();
        CHECK(s.asked() == n);
        now += least / 4 + 0.2;
        until(s.loop, [&] { return s.asked() == n + 1; });
        CHECK(s.body(n) == s.page());
    }
    until(s.loop, [&] { return static_cast<bool>(out); });
    CHECK(*out);
    CHECK(s.events.empty());
    CHECK(s.gateway->why().empty());
}

TEST_CASE("Retry-After is kept to, up to a minute") {
    stage s({.tries = 3});
    s.next = {{"HTTP/1.1 503 X\r\nRetry-After: 20\r\nContent-Length: 0\r\n\r\n"}, {"HTTP/1.1 503 X\r\nRetry-After: 100000\r\nContent-Length: 0\r\n\r\n"}};
    outcome<prom::result<void>> out;
    s.loop.spawn(keep(s.gateway->push(), out));
    for (double least : {20, 60}) {
        const std::size_t n = s.asked() == 0 ? 1 : 2;
        until(s.loop, [&] { return s.asked() == n; });
        s.idle();
        now += least - 0.5;
        s.idle();
        CHECK(s.asked() == n);
        now += least == 20 ? 6 : 1;
        until(s.loop, [&] { return s.asked() == n + 1; });
    }
    until(s.loop, [&] { return static_cast<bool>(out); });
    CHECK(*out);
}

TEST_CASE("tries are bounded, and why() tells what an operator has to do") {
    stage s({.tries = 2});
    s.next = {http(500, "x"), http(502, "bad gateway"), http(200)};
    auto end = s.patient(s.gateway->push());
    REQUIRE(!end);
    CHECK(end.why().code() == prom::errc::refused);
    CHECK(std::string(end.why().describe()) == "Pushgateway: 502: bad gateway");
    CHECK(s.asked() == 2);
    CHECK(s.events == std::vector{prom::event_kind::push_failed});
    CHECK(s.gateway->why() == "the Pushgateway at " + s.where + ", group /metrics/job/j: 502: bad gateway. It is tried again. Look at the log of the gateway, or of the proxy before it");
    s.there.down();
    end = s.patient(s.gateway->push());
    REQUIRE(!end);
    CHECK(std::string(end.why().describe()) == "Pushgateway at " + s.where + ": connect: Connection refused");
    CHECK(s.gateway->why().find("connect: Connection refused. It is tried again. Start the gateway, or correct push_options::gateway") != std::string::npos);
    s.there.up();
    CHECK(s.push());
    CHECK(s.gateway->why().empty());
    s.next = {{"SSH-2.0\r\n"}, {"SSH-2.0\r\n"}};
    end = s.patient(s.gateway->push());
    REQUIRE(!end);
    CHECK(end.why().code() == prom::errc::protocol);
    CHECK(s.gateway->why().find("Is that a Pushgateway?") != std::string::npos);
    s.next = {{"", answer::stall}, {"", answer::stall}};
    end = s.patient(s.gateway->push());
    REQUIRE(!end);
    CHECK(end.why().code() == prom::errc::timeout);
    CHECK(s.gateway->why().find("give push_options::timeout more") != std::string::npos);
    CHECK(s.gateway->why().find("\n") == std::string::npos);
}

TEST_CASE("one request has its time, however the answer trickles") {
    stage s({.timeout = 5, .tries = 1});
    s.next = {{"HTTP/1.1 200 OK\r\nContent-Le", answer::stall}};
    outcome<prom::result<void>> out;
    s.loop.spawn(keep(s.gateway->push(), out));
    until(s.loop, [&] { return s.asked() == 1; });
    s.idle();
    now += 4.5;
    s.idle();
    CHECK(!out);
    now += 0.6;
    until(s.loop, [&] { return static_cast<bool>(out); });
    CHECK(!*out);
    CHECK(out->why().code() == prom::errc::timeout);
}

TEST_CASE("a connection that the gateway has closed meanwhile costs no try and no pause") {
    stage s({.tries = 1});
    for (auto then : {answer::close, answer::reset}) {
        s.next = {{kept(http(200)).octets, then}};
        CHECK(s.push());
        s.idle();
        CHECK(s.push());
    }
    const std::size_t before = s.there.connections;
    s.next = {{"", answer::close}};  // the gateway closes just when the next request arrives
    CHECK(s.push());
    CHECK(s.there.connections == before + 1);
    s.next = {{"", answer::close}, {"", answer::close}};  // and the new connection too: that is no answer
    CHECK(!s.push());
    CHECK(s.push());
    now += 61;  // a quiet connection may be dead without a word
    const std::size_t quiet = s.there.connections;
    CHECK(s.push());
    CHECK(s.there.connections == quiet + 1);
}

TEST_CASE("a removal follows a push whose answer has not come, on its connection: the gateway does both in order") {
    stage s({.timeout = 2, .tries = 1});
    s.next = {{"", answer::stall}};
    CHECK(!s.patient(s.gateway->push()));
    outcome<prom::result<void>> out;
    s.loop.spawn(keep(s.gateway->remove(), out));
    until(s.loop, [&] { return s.asked() == 2; });
    CHECK(s.there.connections == 1);
    CHECK(s.line(1).find("DELETE ") == 0);
    s.next = {http(200), http(202)};
    s.there.go_on();
    until(s.loop, [&] { return static_cast<bool>(out); });
    CHECK(*out);
}

TEST_CASE("calls go one after the other, and one that is destroyed lets the next go on") {
    stage s;
    s.next = {{"", answer::stall}};
    outcome<prom::result<void>> first, second, third;
    auto limited = prom::within(s.loop, 3, s.gateway->push());
    s.loop.spawn(keep(std::move(limited), first));
    until(s.loop, [&] { return s.asked() == 1; });
    s.loop.spawn(keep(s.gateway->push_add(), second));
    s.loop.spawn(keep(s.gateway->remove(), third));
    s.idle();
    CHECK(s.asked() == 1);
    now += 3.5;
    s.next = {http(200), kept(http(200)), http(202)};
    until(s.loop, [&] { return static_cast<bool>(first); });
    CHECK(first->why().code() == prom::errc::timeout);
    until(s.loop, [&] { return s.asked() == 2; });
    s.there.go_on();
    until(s.loop, [&] { return third && second; });
    CHECK(*second);
    CHECK(*third);
    CHECK(s.line(1).find("POST ") == 0);
    CHECK(s.line(2).find("DELETE ") == 0);
}

TEST_CASE("the end of the pusher ends what is under way, at each point") {
    for (int turns = 0; turns != 12; ++turns) {
        stage s;
        s.next = {{"", answer::stall}};
        fill(s.registry, turns % 2 ? 2000 : 1);
        outcome<prom::result<void>> first, second;
        s.loop.spawn(keep(s.gateway->push(), first));
        s.loop.spawn(keep(s.gateway->remove(), second));
        s.idle(turns);
        s.gateway = {};
        until(s.loop, [&] { return first && second; });
        CHECK(first->why().code() == prom::errc::canceled);
        CHECK(second->why().code() == prom::errc::canceled);
        CHECK(s.events.empty());
        s.idle();
        CHECK(s.there.open() == 0);
    }
}

TEST_CASE("a loop that ends first leaves nothing behind, and the pusher may end after it") {
    for (bool pushed : {true, false}) {
        auto loop = std::make_unique<prom::event_loop>(on_fake_time());
        auto there = std::make_unique<peer>(*loop, [](const std::string&) { return kept(http(200)); });
        const std::string at = there->at();
        prom::registry r;
        prom::registry* const all[] = {&r};
        prom::pushgateway g(*loop, {.gateway = at, .job = "j", .registries = all, .interval = 5, .remove_at_end = true});
        if (pushed) CHECK(finish(*loop, g.push()));
        else loop->spawn([](prom::pushgateway& p) -> prom::task<void> { (void)co_await p.push(); }(g));
        there = {};
        loop = {};
    }
}

TEST_CASE("a page that does not fit the buffer is sent in chunks, the same octets, and never ends at the end of a line but with its end") {
    stage s;
    fill(s.registry, 20000);
    const std::string page = s.page();
    REQUIRE(page.size() > 500000);
    CHECK(s.push());
    CHECK(s.head(0).find("\r\nTransfer-Encoding: chunked\r\n") != std::string::npos);
    CHECK(s.head(0).find("Content-Length") == std::string::npos);
    std::string chunks;
    std::size_t longest = 0;
    CHECK(peer::body_of(s.there.requests[0], [&](const std::string& chunk) {
        chunks += chunk;
        longest = std::max(longest, chunk.size());
        CHECK((chunk.back() != '\n' || chunks.size() == page.size()));
    }) == page);
    CHECK(longest <= 16384);
    CHECK(s.push());
    CHECK(s.there.connections == 1);
}

TEST_CASE("a large page is checked to its end before its beginning is sent") {
    stage s;
    fill(s.registry);
    s.registry.make_gauge("z", "h", {.labels = {{"job", "x"}}});
    const auto end = s.push();
    REQUIRE(!end);
    CHECK(std::string(end.why().describe()) == "z{job}: the Pushgateway would overwrite this label by the group's");
    CHECK(s.there.connections == 0);
}

TEST_CASE("what is found only while a page is sent makes it one that no gateway takes, instead of a shorter one") {
    for (bool fails : {false, true}) {
        stage s({.on_collector_error = prom::collector_errors::fail});
        s.next = {kept(http(400, "text format parsing error")), kept(http(200))};
        fill(s.registry);
        int pages = 0;
        const auto held = s.registry.add_collector([&](prom::sample_sink& out) {
            out.family(prom::metric_type::gauge, "z", "");
            if (++pages == 2 && fails) out.fail("now it fails");
            out.sample(1, {{pages == 2 ? "job" : "jobs", "x"}});
        });
        const auto end = s.push();
        REQUIRE(!end);
        if (fails) CHECK(end.why().code() == prom::errc::canceled);
        else CHECK(std::string(end.why().describe()) == "z{job}: the Pushgateway would overwrite this label by the group's");
        REQUIRE(s.asked() == 1);
        CHECK(s.body(0).ends_with("\nthis page is not whole\n"));
        CHECK(s.gateway->why().find("The gateway has stored nothing of it") != std::string::npos);
        CHECK(s.push());
        CHECK(s.there.connections == 1);
        CHECK(s.body(1) == s.page());
    }
}

TEST_CASE("a collector that fails is left out, or nothing is pushed, as the option says") {
    for (auto how : {prom::collector_errors::skip, prom::collector_errors::fail}) {
        stage s({.on_collector_error = how});
        s.registry.make_gauge("g", "h");
        const auto held = s.registry.add_collector([](prom::sample_sink& out) { out.fail("broken"); });
        const bool pushed(s.push());
        CHECK(pushed == (how == prom::collector_errors::skip));
        CHECK(s.asked() == pushed);
        CHECK(s.events.front() == prom::event_kind::callback_failed);
    }
}

TEST_CASE("a gateway that answers before it has read the request is heard") {
    for (bool closes : {true, false}) {
        stage s({.timeout = 5, .tries = 1});
        fill(s.registry, 40000);
        s.there.hasty = true;
        s.next = {{http(401, "who are you?").octets, closes ? answer::close : answer::stall}};
        const auto end = s.push();
        REQUIRE(!end);
        if (std::string(end.why().describe()).find("401") == std::string::npos) CHECK(end.why().code() == prom::errc::system);  // a reset may overtake it
        else CHECK(std::string(end.why().describe()) == "Pushgateway: 401: who are you?");
        until(s.loop, [&] { return s.there.open() == 0; });
    }
}

TEST_CASE("a gateway that reads nothing costs no more than the time of a request") {
    stage s({.timeout = 5, .tries = 1});
    fill(s.registry, 200000);
    s.there.deaf = true;
    outcome<prom::result<void>> out;
    s.loop.spawn(keep(s.gateway->push(), out));
    s.idle(500);
    CHECK(!out);
    now += 6;
    until(s.loop, [&] { return static_cast<bool>(out); });
    CHECK(out->why().code() == prom::errc::timeout);
    CHECK(std::string(out->why().describe()).find("the request was not taken in time") != std::string::npos);
    // Half a request is never followed by another one on its connection.
    s.there.down();
    s.there.up();
    s.there.deaf = false;
    CHECK(s.registry.unregister("many"));
    CHECK(s.push());
    CHECK(s.there.connections == 2);
}

#if !PROMETHEUS_ASYNC_NO_GZIP
std::uint32_t size_in_trailer(const std::string& zipped) {  // its last four octets
    std::uint32_t size = 0;
    for (std::size_t i = 0; i != 4; ++i) size |= std::uint32_t{static_cast<unsigned char>(zipped[zipped.size() - 4 + i])} << (8 * i);
    return size;
}
TEST_CASE("a page is compressed if that is asked for and worth it") {  // what it unpacks to, the gateways say: e2e/push.sh
    for (int series : {1, 100, 20000}) {
        stage s({.gzip = true});
        fill(s.registry, series);
        CHECK(s.push());
        const std::string body = s.body(0), page = s.page();
        CHECK((s.head(0).find("\r\nContent-Encoding: gzip\r\n") != std::string::npos) == (series != 1));
        if (series == 1) {
            CHECK(body == page);
            continue;
        }
        CHECK(body.size() < page.size() / 4);
        CHECK(body.substr(0, 3) == "\x1f\x8b\x08");
        CHECK(size_in_trailer(body) == page.size());
    }
}
#endif

#if !PROMETHEUS_ASYNC_NO_NATIVE
TEST_CASE("as protobuf, if it is asked for: one message of each family, whatever its size, with the values of the text page") {
    for (int series : {0, 1, 3000}) {
        stage s({.as = prom::format::protobuf});
        if (series) fill(s.registry, series);
        s.registry.make_counter("done_total", "Files.").inc(3);
        s.registry.make_histogram("classic", "h", {.buckets = {1, 2}}).observe(1.5);
        s.registry.make_summary("sizes", "h").observe(2);
        s.registry.make_info("about", "h").set({{"version", "1"}});
        (void)s.registry.make_state_set("phase", "h", {.states = {"on", "off"}});
        s.registry.make_unknown("u", "h").set(7);
        s.registry.make_gauge("warm_celsius", "h", {.unit = "celsius"}).set(-0.5);
        s.registry.make_gauge(prom::utf8("a.b"), "h", {.labels = {{prom::utf8("c.d"), "\xc3\xbc \n"}}}).set(1);
        const auto held = s.registry.add_collector([&](prom::sample_sink& out) {
            out.family(prom::metric_type::gauge, "yielded_celsius", "help", "celsius");
            for (int i = 0; i != series; ++i) out.sample(i, {{"number", std::to_string(i)}});
        });
        CHECK(s.push());
        CHECK(finish(s.loop, s.gateway->push_add()));
        REQUIRE(s.asked() == 2);
        CHECK(s.there.connections == 1);
        CHECK(s.head(0).find("\r\nContent-Type: application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores\r\n") != std::string::npos);
        CHECK((s.head(0).find("\r\nTransfer-Encoding: chunked\r\n") != std::string::npos) == (series == 3000));
        auto all = flat::protobuf(s.body(0)).messages();
        std::vector<std::string> names;
        for (flat::family& f : all) {
            for (flat::series& of : f.all) of.start = 0;  // text pages are without
            names.push_back(f.name);
            CHECK(f.unit == (f.name.ends_with("_celsius") ? "celsius" : ""));
        }
        CHECK(std::find(names.begin(), names.end(), "a_b") != names.end());
        std::sort(names.begin(), names.end());
        CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
        CHECK(flat::flatten(all) == flat::flatten_lines(s.page()));
        CHECK(s.body(1) == s.body(0));
    }
    stage empty({.as = prom::format::protobuf});
    CHECK(empty.push());
    CHECK(empty.head(0).find("\r\nContent-Length: 0\r\n") != std::string::npos);
}

TEST_CASE("native histograms are pushed as they are, and gauge histograms as histograms, which every gateway can show") {
    stage s({.as = prom::format::protobuf});
    s.registry.make_histogram("n", "h", {.native = {.factor = 1.1}}).observe(2);
    s.registry.make_histogram("both", "h", {.buckets = {1}, .native = {.factor = 1.1}}).observe(2);
    const auto held = s.registry.add_collector([](prom::sample_sink& out) {
        const prom::sample_sink::native_bucket at[] = {{0, 3}};
        const prom::sample_sink::bucket classic[] = {{1, 2}, {INFINITY, 3}};
        out.family(prom::metric_type::gauge_histogram, "mixed", "h");
        out.histogram(prom::sample_sink::native_histogram{.positive = at, .count = 3, .sum = 3}, {{"kind", "native"}});
        out.histogram(classic, 4, {{"kind", "classic"}});
        out.histogram(prom::sample_sink::native_histogram{.positive = at, .count = 3, .sum = 3}, {{"kind", "more"}});
    });
    CHECK(s.push());
    const auto all = flat::protobuf(s.body(0)).messages();
    REQUIRE(all.size() == 3);
    CHECK(all[0].all[0].is_native);
    CHECK(all[1].all[0].is_native);
    CHECK(all[1].all[0].buckets.size() == 2);
    CHECK(all[2].type == "histogram");
    REQUIRE(all[2].all.size() == 3);
    CHECK(all[2].all[0].is_native);
    CHECK_FALSE(all[2].all[1].is_native);
}

TEST_CASE("protobuf: what the gateway would refuse or change is refused by name, and nothing is sent") {
    const auto refused = [](auto declare, prom::list<prom::label> more = {}) {
        for (int series : {0, 3000}) {
            std::vector<prom::label> group{{"instance", "i"}};
            for (const prom::label& l : more) group.push_back(l);
            stage s({.grouping = group, .as = prom::format::protobuf, .on_collector_error = prom::collector_errors::fail});
            if (series) fill(s.registry, series);
            s.registry.make_counter("fine_total", "job", {.labels = {{"jobs", "job"}}}).inc();
            CHECK(s.push());
            [[maybe_unused]] const auto held = declare(s.registry);
            const auto end = s.push();
            REQUIRE(!end);
            CHECK(s.asked() == 1);
            CHECK(s.events.back() == prom::event_kind::push_failed);
            CHECK(s.gateway->why().find(end.why().describe()) != std::string::npos);
            if (series) return std::string(end.why().describe());
        }
        return std::string();
    };
    const std::string changed = ": the Pushgateway would overwrite this label by the group's";
    CHECK(refused([](prom::registry& r) { return r.make_gauge("g", "h", {.labels = {{"a", "b"}, {"job", "x"}}}); }) == "g{job}" + changed);
    CHECK(refused([](prom::registry& r) { return r.make_gauge("g", "h", {.labels = {{prom::utf8("z.b"), ""}}}); }, {{{"z_b", "1"}}}) == "g{z_b}" + changed);
    CHECK(refused([](prom::registry& r) { return r.make_histogram("h", "h", {.labels = {{"instance", ""}}, .buckets = {1}}); }) == "h{instance}" + changed);
    CHECK(refused([](prom::registry& r) { return r.make_histogram("h", "h", {.buckets = {1}}); }, {{{"le", "1"}}}) == "h{le}" + changed);
    CHECK(refused([](prom::registry& r) { return r.make_histogram("h", "h", {.native = {.factor = 1.1}}); }, {{{"le", "1"}}}) == "h{le}" + changed);
    CHECK(refused([](prom::registry& r) {
        return r.add_collector([](prom::sample_sink& out) {
            const prom::sample_sink::quantile q[] = {{0.5, 1}};
            out.family(prom::metric_type::summary, "s", "");
            out.summary(1, 1, q);
        });
    }, {{{"quantile", "1"}}}) == "s{quantile}" + changed);
    CHECK(refused([](prom::registry& r) { return r.make_state_set("phase", "h", {.states = {"on"}}); }, {{{"phase", "x"}}}) == "phase{phase}" + changed);
    for (const char* name : {"push_time_seconds", "push_failure_time_seconds"})
        CHECK(refused([name](prom::registry& r) { return r.make_gauge(name, "h"); }) == std::string(name) + ": a Pushgateway has its own metric of that name for each group");
    CHECK(refused([](prom::registry& r) {
        return r.add_collector([](prom::sample_sink& out) {
            out.family(prom::metric_type::gauge, "dated", "");
            out.sample(1, {{"a", "b"}}, {.timestamp = 1700000000});
        });
    }) == "dated has a timestamp, which a Pushgateway refuses");
    CHECK(refused([](prom::registry& r) { return r.add_collector([](prom::sample_sink& out) { out.fail("broken"); }); }).find("a collector failed") != std::string::npos);
    // A summary without quantiles has no such label.
    stage plain({.grouping = {{"quantile", "1"}}, .as = prom::format::protobuf});
    plain.registry.make_summary("s", "h").observe(1);
    CHECK(plain.push());
    // Only these two formats.
    for (auto as : {prom::format::text_1_0_0, prom::format::openmetrics_1_0_0, prom::format::openmetrics_2_0_0, static_cast<prom::format>(99)})
        CHECK(why_not({.as = as}).find("push_options::as is neither text_0_0_4 nor protobuf") == 0);
}

#if !PROMETHEUS_ASYNC_NO_GZIP
TEST_CASE("protobuf may be compressed, too") {
    for (int series : {1, 100, 3000}) {
        stage plain({.as = prom::format::protobuf}), s({.as = prom::format::protobuf, .gzip = true});
        fill(plain.registry, series);
        fill(s.registry, series);
        CHECK(plain.push());
        CHECK(s.push());
        CHECK((s.head(0).find("\r\nContent-Encoding: gzip\r\n") != std::string::npos) == (series != 1));
        if (series == 1) CHECK(s.body(0) == plain.body(0));
        else CHECK(size_in_trailer(s.body(0)) == plain.body(0).size());
    }
}
#endif
#endif

TEST_CASE("pushes by itself: at the start, every interval, whatever the gateway says, and a last time") {
    stage s({.tries = 1, .interval = 15, .remove_at_end = true, .remove_after = 60});
    auto g = s.registry.make_gauge("g", "h");
    s.idle();
    now += 1;
    until(s.loop, [&] { return s.asked() == 1; });
    for (std::size_t n = 1; n != 5; ++n) {
        s.idle();
        s.next = {n == 2 ? kept(http(400)) : n == 3 ? http(503) : kept(http(200))};
        g.set(static_cast<double>(n));
        now += 14.2;
        s.idle();
        CHECK(s.asked() == n);
        now += 1.6;
        until(s.loop, [&] { return s.asked() == n + 1; });
        CHECK(s.body(n) == s.page());
    }
    s.idle();
    CHECK(s.events.size() == 2);
    g.set(77);
    outcome<prom::result<void>> closed;
    s.loop.spawn(keep(s.gateway->close(), closed));
    until(s.loop, [&] { return s.asked() == 6; });
    CHECK(s.line(5).find("PUT ") == 0);
    CHECK(s.body(5) == s.page());
    s.idle();
    now += 59;
    s.idle();
    CHECK(s.asked() == 6);
    now += 2;
    until(s.loop, [&] { return static_cast<bool>(closed); });
    CHECK(*closed);
    REQUIRE(s.asked() == 7);
    CHECK(s.line(6).find("DELETE ") == 0);
    CHECK(finish(s.loop, s.gateway->close()));
    now += 100;
    s.idle();
    CHECK(s.asked() == 7);
}

TEST_CASE("once at the end; then it may be deleted, or stays") {
    for (bool removes : {true, false}) {
        stage s({.remove_at_end = removes});
        now += 1000;
        s.idle();
        CHECK(s.asked() == 0);
        CHECK(finish(s.loop, s.gateway->close()));
        CHECK(s.asked() == (removes ? 2 : 1));
        CHECK(s.line(0).find("PUT ") == 0);
        s.gateway = {};
        s.idle();
        CHECK(s.asked() == (removes ? 2 : 1));
    }
    stage none({.push_at_end = false});
    CHECK(finish(none.loop, none.gateway->close()));
    CHECK(none.asked() == 0);
}

TEST_CASE("a pusher that ends without close() leaves no group behind, if it is told so, and pushes no more") {
    for (bool removes : {true, false}) {
        for (bool lingers : {false, true}) {
            stage s({.interval = 5, .remove_at_end = removes, .remove_after = 100});
            CHECK(s.push());
            outcome<prom::result<void>> closed;
            if (lingers) {
                s.loop.spawn(keep(s.gateway->close(), closed));
                until(s.loop, [&] { return s.asked() == 2; });
                s.idle();
            }
            const std::size_t before = s.asked();
            s.gateway = {};
            s.idle();
            now += 20;
            s.idle();
            REQUIRE(s.asked() == before + removes);
            if (removes) CHECK(s.line(before).find("DELETE ") == 0);
            if (lingers) CHECK(closed);
        }
    }
    stage never({.remove_at_end = true});
    never.gateway = {};
    never.idle();
    CHECK(never.asked() == 0);  // there was nothing to remove
}

TEST_CASE("the pusher counts what it does, of each group") {
    prom::registry own;
    stage s({.tries = 2, .self_metrics = &own});
    s.registry.make_gauge("g", "h");
    const auto value = [&](const char* name, const char* reason = nullptr) {
        std::vector<prom::label> labels{{"path", "/metrics/job/j"}};
        if (reason) labels.push_back({"reason", reason});
        return own.sample_value(std::string("prometheus_async_push_") + name, labels).value();
    };
    CHECK(value("last_success_timestamp_seconds") == 0);
    CHECK(s.push());
    CHECK(value("sent_total") == 1);
    CHECK(value("last_success_timestamp_seconds") > 0);
    const double size = static_cast<double>(s.page().size());
    CHECK(value("octets_total") == size);
    s.next = {http(500), kept(http(200))};
    CHECK(s.patient(s.gateway->push()));
    CHECK(value("retries_total") == 1);
    CHECK(value("octets_total") == 3 * size);
    s.next = {http(400)};
    CHECK(!s.push());
    CHECK(value("refused_total") == 1);
    CHECK(value("dropped_total", "refused") == 1);
    s.next = {http(500), http(500)};
    CHECK(!s.patient(s.gateway->push()));
    CHECK(value("dropped_total", "unanswered") == 1);
    s.next = {{"", answer::stall}};
    outcome<prom::result<void>> out;
    s.loop.spawn(keep(s.gateway->push(), out));
    s.idle();
    s.gateway = {};
    until(s.loop, [&] { return static_cast<bool>(out); });
    CHECK(value("dropped_total", "canceled") == 1);
    s.start();
    s.registry.make_gauge("bad", "h", {.labels = {{"job", "x"}}});
    CHECK(!s.push());
    CHECK(value("dropped_total", "page") == 1);
    CHECK(value("sent_total") == 2);
}

TEST_CASE("its own metrics can be pushed with the others") {
    stage s({}, false);
    s.options.self_metrics = &s.registry;
    s.start();
    CHECK(s.push());
    CHECK(s.push());
    CHECK(s.body(1).find("prometheus_async_push_sent_total{path=\"/metrics/job/j\"} 1\n") != std::string::npos);
}

TEST_CASE("a program without a loop pushes by one call") {
    prom::registry r;
    r.make_gauge("g", "h", {.labels = {{"job", "x"}}});
    prom::registry* const all[] = {&r};
    prom::push_options o{.gateway = "127.0.0.1:1", .job = "j", .registries = all, .tries = 1};
    CHECK(prom::push_to_gateway(o).why().code() == prom::errc::invalid_option);
    CHECK(prom::push_add_to_gateway(o).why().code() == prom::errc::invalid_option);
    const auto removed = prom::remove_from_gateway(o);
    REQUIRE(!removed);
    CHECK(std::string(removed.why().describe()) == "Pushgateway at 127.0.0.1:1: connect: Connection refused");
}

// ---- a gateway that is slow, closes anywhere, or says anything; system calls that fail ----

TEST_CASE("octet by octet, both ways, a push is the same") {
    faults::reset();
    faults::all().most = 1;
    faults::all().interrupts = true;
    stage s;
    fill(s.registry, 400);
    CHECK(s.push());
    CHECK(s.push());
    CHECK(s.body(0) == s.page());
    CHECK(s.there.connections == 1);
    faults::reset();
}

TEST_CASE("an answer that ends after any octet is an error, or the answer") {
    const std::string whole = kept(http(200, "ok")).octets;
    for (std::size_t n = 0; n <= whole.size(); ++n) {
        for (auto then : {answer::close, answer::reset}) {
            stage s({.tries = 1});
            s.next = {{whole.substr(0, n), then}, {whole.substr(0, n), then}};
            CHECK(bool(s.push()) == (n == whole.size()));
            s.next.clear();
            CHECK(s.push());
        }
    }
    for (int c = 0; c != 256; ++c) {
        stage s({.tries = 1});
        s.next = {{std::string(1, static_cast<char>(c)) + whole, answer::stall}};
        const auto end = s.patient(s.gateway->push(), 1);
        CHECK(!end);
        CHECK(s.push());
    }
}

TEST_CASE("a system call that fails fails the try, and the next one succeeds") {
    for (auto [call, code] : {std::pair{"socket", EMFILE}, {"connect", ENETUNREACH}, {"send", ECONNRESET}, {"send", EPIPE}, {"recv", ECONNRESET}, {"recv", ETIMEDOUT}}) {
        for (int series : {1, 2000}) {
            CAPTURE(call);
            stage s({.tries = 2});
            fill(s.registry, series);
            const int before = faults::open_descriptors();
            faults::reset();
            faults::fail(call, code);
            CHECK(s.patient(s.gateway->push()));
            CHECK(faults::all().failed[call] == 1);
            CHECK(s.body(s.asked() - 1) == s.page());
            faults::reset();
            CHECK(s.push());
            s.gateway = {};
            s.idle();
            CHECK(faults::open_descriptors() <= before + 1);  // the gateway's side may not have noticed yet
        }
    }
}
