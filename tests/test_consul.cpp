// Rooms [70], [72].
// needs-network
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/scripted_peer.hpp"

#include <fstream>
#include <limits>
#include <thread>
#include <sys/wait.h>

namespace prom = prometheus_async;
using namespace prometheus_async::detail;
using namespace scripted;

namespace {

/// Knows services as Consul does, and can be told to misbehave.
struct agent {
    explicit agent(prom::event_loop& loop) : there(loop, [this](const std::string& request) { return reply(request); }) {}

    answer reply(const std::string& request) {
        if (!next.empty()) {
            const answer now_this = next.front();
            next.erase(next.begin());
            return now_this;
        }
        std::string what = request.substr(0, request.find(" HTTP/1.1"));
        what = what.substr(0, what.find('?'));
        const std::string id = what.substr(what.rfind('/') + 1);
        if (what == "PUT /v1/agent/service/register") return known = 1, entry = request.substr(request.find("\r\n\r\n") + 4), ends(http(200));
        if (what.find("PUT /v1/agent/service/deregister/") == 0) return ends(known ? (known = 0, http(200)) : http(500, "Unknown service \"x\""));
        if (what.find("PUT /v1/agent/check/pass/service%3A") == 0) return ends(known ? http(200) : http(500, "CheckID \"x\" does not have associated TTL"));
        if (what.find("GET /v1/agent/service/") == 0) return ends(known ? http(200, service()) : http(404, "unknown service ID: " + id));
        return ends(http(404));
    }
    answer ends(answer a) const { return keeps ? kept(a) : a; }
    /// As an agent shows it, of what it was told.
    std::string service() const {
        const auto value = [this](const std::string& key, const std::string& otherwise) {
            const std::size_t at = entry.find(",\"" + key + "\":");
            if (at == std::string::npos) return otherwise;
            const std::size_t from = at + key.size() + 4;
            return entry.substr(from, entry.find_first_of(",}", from) - from);
        };
        return "{\n    \"ID\": \"x\",\n    \"Tags\": [\n        \"\\\"Port\\\": 1,\"\n    ],\n    \"Meta\": {\"Port\": \"2\"},\n    \"Port\": " + value("Port", "0") +
               ",\n    \"Address\": " + value("Address", "\"\"") + ",\n    \"ContentHash\": \"f83d\"\n}";
    }
    /// Lines of what was asked, without the questions of whose the id is.
    std::vector<std::string> orders() const {
        std::vector<std::string> all;
        for (const std::string& r : there.requests)
            if (r.compare(0, 4, "GET ") != 0) all.push_back(r.substr(0, r.find(" HTTP/1.1")));
        return all;
    }
    std::string body(std::size_t i) const { return there.requests.at(i).substr(there.requests.at(i).find("\r\n\r\n") + 4); }
    std::string line(std::size_t i) const { return there.requests.at(i).substr(0, there.requests.at(i).find("\r\n")); }
    std::size_t asked() const { return there.requests.size(); }

    int known = 0;
    bool keeps = true;  // connections
    std::string entry;
    std::vector<answer> next;
    peer there;
};

/// A registration without a server: what register_server would be told of one.
struct stage {
    explicit stage(prom::consul_options o = {}) : consul(loop), options(o) {
        where = consul.there.at();
        if (options.agent.empty()) options.agent = where;
        options.on_event = [](const prom::event& e, void* self) {
            static_cast<stage*>(self)->events.push_back(e.kind);
            static_cast<stage*>(self)->words.push_back(e.why.describe());
        };
        options.context = this;
    }
    prom::task<prom::result<prom::registration>> start(std::string_view address = "127.0.0.1", std::string_view advertise = {}, bool https = false) {
        return consul_start(prom::detail::shared(new consul_member(consul_settings(options), loop, address, advertise, std::uint16_t{9464}, https)));
    }
    prom::registration started() { return *finish(loop, start()); }
    prom::result<void> left(prom::registration& r) { return finish(loop, r.deregister()); }
    void until_asked(std::size_t n) { until(loop, [&] { return consul.asked() >= n; }); }
    std::size_t heard(prom::event_kind kind) const {
        std::size_t n = 0;
        for (prom::event_kind k : events) n += k == kind;
        return n;
    }

    std::vector<prom::event_kind> events;
    std::vector<std::string> words;
    prom::event_loop loop{on_fake_time()};
    agent consul;
    std::string where;
    prom::consul_options options;
};

prom::task<void> left_quietly(prom::task<prom::result<void>> work) { (void)co_await std::move(work); }

/// An environment variable, until the end of the test.
struct environment_of {
    const char* name;
    environment_of(const char* n, const std::string& value) : name(n) { ::setenv(n, value.c_str(), 1); }
    ~environment_of() { ::unsetenv(name); }
};

}  // namespace

TEST_CASE("23. a service is registered as it is, and after its close it is gone only if it was to be de-registered") {
    for (bool deregister : {true, false}) {
        const std::string_view tags[] = {"demo", "a\"b"};
        stage s({.name = "hello", .tags = tags, .deregister = deregister});
        prom::registration r = s.started();
        CHECK(s.consul.line(0) == "PUT /v1/agent/service/register HTTP/1.1");
        CHECK(s.consul.body(0) == R"({"Name":"hello","ID":"hello","Tags":["demo","a\"b"],"Address":"127.0.0.1","Port":9464,)"
                                  R"("Check":{"HTTP":"http://127.0.0.1:9464/","Interval":"10s"}})");
        CHECK(r.registered());
        CHECK(s.left(r));
        CHECK(s.consul.known == !deregister);
        CHECK(!r.registered());
    }
}

TEST_CASE("24. registering is asked for once, with id, name, tags and URL, de-registering once with the id, or never") {
    for (bool deregister : {true, false}) {
        stage s({.service_id = "id/1 \xc3\xa9", .deregister = deregister});
        prom::registration r = s.started();
        CHECK(s.consul.body(0) == "{\"Name\":\"app-metrics\",\"ID\":\"id/1 \xc3\xa9\",\"Address\":\"127.0.0.1\",\"Port\":9464,"
                                  "\"Check\":{\"HTTP\":\"http://127.0.0.1:9464/\",\"Interval\":\"10s\"}}");
        CHECK(s.left(r));
        REQUIRE(s.consul.orders().size() == (deregister ? 2 : 1));
        if (deregister) CHECK(s.consul.orders()[1] == "PUT /v1/agent/service/deregister/id%2F1%20%C3%A9");
        const std::size_t asked = s.consul.asked();
        CHECK(s.left(r));  // a second time does nothing
        CHECK(s.consul.asked() == asked);
        CHECK(s.consul.orders().size() == (deregister ? 2 : 1));
    }
}

TEST_CASE("25. a registration that the agent calls bad is none: the server runs on, unregistered, and hears the agent's words") {
    stage s;
    s.consul.next = {http(400, "Request decode failed: x")};
    prom::registration r = s.started();
    CHECK(!r.deregister);
    REQUIRE(s.events == std::vector{prom::event_kind::registration_failed});
    CHECK(s.words[0] == "Consul refused the registration: 400: Request decode failed: x");
    now += 3600;
    s.loop.poll(0);
    CHECK(s.consul.asked() == 1);
}

TEST_CASE("26. the token travels in X-Consul-Token, and only with one") {
    stage with({.token = "!tok-123~"});
    prom::registration r = with.started();
    CHECK(with.left(r));
    for (std::size_t i : {0u, 1u}) {
        CHECK(with.consul.there.requests[i].find("\r\nX-Consul-Token: !tok-123~\r\n") != std::string::npos);
        CHECK(with.consul.line(i).find("tok-123") == std::string::npos);
    }
    stage without;
    without.started();
    CHECK(without.consul.there.requests[0].find("X-Consul-Token") == std::string::npos);
}

TEST_CASE("everything that can be asked for is in the body") {
    const prom::label meta[] = {{"version", "1"}, {"zone", "b"}};
    stage s({.name = "n", .service_id = "i", .meta = meta, .interval = 1.5, .timeout = 2, .tls_skip_verify = true,
             .deregister_critical_after = 90, .status = "passing", .advertise = "10.1.2.3", .in_namespace = "team a"});
    prom::registration r = *finish(s.loop, s.start("0.0.0.0", "ignored", true));
    CHECK(s.consul.line(0) == "PUT /v1/agent/service/register?ns=team%20a HTTP/1.1");
    CHECK(s.consul.body(0) == R"({"Name":"n","ID":"i","Address":"10.1.2.3","Port":9464,"Meta":{"version":"1","zone":"b"},"Namespace":"team a",)"
                              R"("Check":{"HTTP":"https://10.1.2.3:9464/","Interval":"1500ms","Timeout":"2s","TLSSkipVerify":true,)"
                              R"("DeregisterCriticalServiceAfter":"90s","Status":"passing"}})");
    stage none({.check = prom::consul_check::none});
    none.started();
    CHECK(none.consul.body(0) == R"({"Name":"app-metrics","ID":"app-metrics","Address":"127.0.0.1","Port":9464})");
}

TEST_CASE("a server on a wildcard is checked on loopback and told without an address to an agent on this host") {
    const auto told = [](std::string_view address, std::string_view advertise = {}) {
        stage s({.check = prom::consul_check::http});
        finish(s.loop, s.start(address, advertise)).value();
        const std::string body = s.consul.body(0);
        const std::size_t from = body.find("\"ID\":\"app-metrics\",") + 19, url = body.find("\"HTTP\":\"") + 8;
        return body.substr(from, body.find("\"Port\"") - from) + ' ' + body.substr(url, body.find('"', url) - url);
    };
    CHECK(told("0.0.0.0") == " http://127.0.0.1:9464/");
    CHECK(told("::") == " http://127.0.0.1:9464/");
    CHECK(told("10.0.0.9") == "\"Address\":\"10.0.0.9\", http://10.0.0.9:9464/");
    CHECK(told("::1") == "\"Address\":\"::1\", http://[::1]:9464/");
    CHECK(told("::", "metrics.example") == "\"Address\":\"metrics.example\", http://metrics.example:9464/");
    CHECK(told("::", "[2001:db8::1]") == "\"Address\":\"2001:db8::1\", http://[2001:db8::1]:9464/");
}

TEST_CASE("a link-local address is not registered: on another host it means nothing") {
    for (auto [address, advertise] : {std::pair{"fe80::1%eth0", ""}, {"FE80::1", ""}, {"febf::1%2", ""}, {"::", "[fe80::1%25eth0]"}, {"0.0.0.0", "fe80::1"}}) {
        stage s({.check = prom::consul_check::http});
        const auto r = finish(s.loop, s.start(address, advertise));
        REQUIRE(!r);
        CHECK(r.why().code() == prom::errc::invalid_option);
        CHECK(std::string(r.why().describe()) == "a link-local address means nothing on another host: set advertise");
    }
    for (auto [address, advertise] : {std::pair{"fe80::1%eth0", "metrics.example"}, {"fec0::1", ""}, {"fe8::1", ""}, {"::", "fe80.example"}}) {
        stage s({.check = prom::consul_check::http});
        CHECK(finish(s.loop, s.start(address, advertise)));
    }
}

TEST_CASE("a server on loopback is not registered at an agent on another host: no check could pass there") {
    const consul_settings how{prom::consul_options{}};
    prom::event_loop loop{on_fake_time()};
    const auto address = [](std::string_view text) {
        net_address made;
        REQUIRE(parse_address(text, 8500, made));
        return made;
    };
    const auto found = [&](std::string_view host, std::string_view advertise, std::string_view here, std::string_view agent) {
        return consul_find(consul_member(how, loop, host, advertise, 9464, false), address(here), address(agent));
    };
    for (std::string_view host : {"127.0.0.1", "127.0.0.9", "::1"}) {
        const auto r = found(host, "", "10.0.0.2", "10.0.0.3");
        REQUIRE(!r);
        CHECK(r.why().code() == prom::errc::invalid_option);
        CHECK(std::string(r.why().describe()) == "the server listens on " + std::string(host) + ", the Consul agent is on another host: set advertise");
        CHECK(found(host, "", "127.0.0.1", "127.0.0.1"));
        CHECK(found(host, "", "10.0.0.2", "10.0.0.2"));  // beside us, by its other address
    }
    CHECK(found("0.0.0.0", "", "10.0.0.2", "10.0.0.3")->address == "10.0.0.2");
    CHECK(found("10.0.0.2", "", "10.0.0.2", "10.0.0.3")->address == "10.0.0.2");
    const consul_settings sidecar{prom::consul_options{.advertise = "metrics.example"}};
    CHECK(consul_find(consul_member(sidecar, loop, "127.0.0.1", "", 9464, false), address("10.0.0.2"), address("10.0.0.3"))->address == "metrics.example");
}

TEST_CASE("an id that Consul could never watch or de-register is refused before anything is sent") {
    for (const char* id : {"/a", "a//b", "http://a", ".", "..", "a/../b", "./a", "a/.", "register", "deregister", "deregister/a", "maintenance", "maintenance/a", "a\nb", "a\x7f", "a\xff", "a\u00a0", "\u00ad", "\u0085", "a\u200b", "\u2028",
                           "\U0001f468\u200d\U0001f469", "\u3000", "\ufeff", "\u0378", "\ue000", "\uffff", "\U0001fae8", "\U000e0001", "\U000f0000", "\U0010ffff"}) {
        CAPTURE(id);
        stage s({.service_id = id});
        const auto r = finish(s.loop, s.start());
        REQUIRE(!r);
        CHECK(r.why().code() == prom::errc::invalid_option);
        CHECK(std::string_view(r.why().describe()).find("Consul could never watch or de-register this id: it ") == 0);
        CHECK(s.consul.there.connections == 0);
    }
    for (const char* id : {"a/b", "registers", "register/a", "a/deregister", "a.b", "...", "a%2Fb", "a?b#c", "\xf0\x9f\x98\x80", "a b\"\\", "\u00a1", "e\u0301", "\u2764\ufe0f", "\u0e01\u0e34", "\u05d0", "\u09b2", "\u6f22\u5b57", "\uac00", "\ufffd", "\U0001f970",
                           "\U00020000", "\U0002fa1d"}) CHECK_MESSAGE(!consul_id_fault(id), id);
}

TEST_CASE("other options that cannot work are refused before anything is sent") {
    const auto refused = [](prom::consul_options o) {
        stage s(o);
        const auto r = finish(s.loop, s.start());
        REQUIRE(!r);
        CHECK(r.why().code() == prom::errc::invalid_option);
        CHECK(s.consul.there.connections == 0);
        return std::string(r.why().describe());
    };
    CHECK(refused({.name = ""}) == "a Consul service needs a name");
    CHECK(refused({.token = "a\r\nX: y"}) == "the Consul token has an octet that no field value may have");
    CHECK(refused({.agent = "https://127.0.0.1:8501"}) == "an https agent (by its address, or CONSUL_HTTP_SSL) needs consul_options::tls");
    CHECK(refused({.agent = "127.0.0.1:8500/v1"}).find("the Consul agent's address is not host:port") == 0);
    CHECK(refused({.check = prom::consul_check::ttl, .ttl = 0}) == "consul_options::ttl is not above 0");
    CHECK(refused({.check = prom::consul_check::ttl, .ttl = std::numeric_limits<double>::quiet_NaN()}) == "consul_options::ttl is not above 0");
    CHECK(refused({.interval = -1}) == "consul_options::interval is not above 0");
    CHECK(refused({.advertise = "a b"}) == "the address to advertise is not a host");
    stage unix_server;
    const auto r = finish(unix_server.loop, consul_start(prom::detail::shared(new consul_member(consul_settings(unix_server.options), unix_server.loop, "/run/x", "", std::uint16_t{0}, false))));
    REQUIRE(!r);
    CHECK(r.why().code() == prom::errc::invalid_option);
}

TEST_CASE("the environment that Consul's own tools read fills what the options leave out") {
    {
        const environment_of addr("CONSUL_HTTP_ADDR", "10.9.8.7:1"), token("CONSUL_HTTP_TOKEN", "from-env"), ssl("CONSUL_HTTP_SSL", "true");
        const consul_settings s{prom::consul_options{}};
        CHECK(s.agent.host == "10.9.8.7");
        CHECK(s.agent.tls);
        CHECK(!s.usable);  // https without a tls_config
        CHECK(s.token.text == "from-env");
        const consul_settings own{{.token = "own", .agent = "http://a:2"}};
        CHECK(own.agent.host == "a");
        CHECK(own.agent.tls);  // never back to plain HTTP
        CHECK(own.token.text == "own");
        const std::string path = "/tmp/prometheus_async_test_" + std::to_string(::getpid()) + ".token";
        std::ofstream(path) << "from-file\n";
        const environment_of file("CONSUL_HTTP_TOKEN_FILE", path);
        CHECK(consul_settings{prom::consul_options{}}.token.text == "from-file");
        ::unlink(path.c_str());
        CHECK(consul_settings{{.agent = "a"}}.usable.why().sys() == ENOENT);
        REQUIRE(::mkfifo(path.c_str(), 0600) == 0);  // to open it would wait for its writer
        CHECK(consul_settings{{.agent = "a"}}.usable.why().code() == prom::errc::invalid_option);
        CHECK(consul_settings{{.agent = "a"}}.usable.why().describe() == "CONSUL_HTTP_TOKEN_FILE: " + path + " is not a regular file");
        ::unlink(path.c_str());
        for (const char* other : {"/dev/zero", "/tmp"}) {
            const environment_of there("CONSUL_HTTP_TOKEN_FILE", other);
            CHECK(consul_settings{{.agent = "a"}}.usable.why().code() == prom::errc::invalid_option);
        }
    }
    for (const char* agent : {"127.0.0.1:1", "http://127.0.0.1:1", "HTTP://127.0.0.1:1/", "https://127.0.0.1:1", "unix:///run/consul.sock"})
        for (std::string ssl : {"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False", "", "yes", "on", "tRue", " true"}) {
            CAPTURE(agent);
            CAPTURE(ssl);
            const bool on = ssl == "1" || ssl[0] == 't' || ssl[0] == 'T', clear = ssl.empty() || std::strchr("0fF", ssl[0]);
            const environment_of asked("CONSUL_HTTP_SSL", ssl), addr("CONSUL_HTTP_ADDR", agent);
            const consul_settings from_environment{prom::consul_options{}}, in_code{{.agent = agent}};
            for (const consul_settings* s : {&from_environment, &in_code}) {
                CHECK(s->agent.tls == ((on && ssl != "tRue") || !std::strncmp(agent, "https", 5)));
                CHECK(static_cast<bool>(s->usable) == (clear && !s->agent.tls));  // without a tls_config
            }
        }
    const consul_settings s{prom::consul_options{}};
    CHECK(s.usable);
    CHECK(s.agent.host == "127.0.0.1");
    CHECK(s.agent.port == 8500);
}

TEST_CASE("an agent that is down at the start is tried again until it is there") {
    stage s;
    s.consul.there.down();
    prom::registration r = s.started();
    CHECK(!r.registered());
    CHECK(s.heard(prom::event_kind::registration_failed) == 1);
    CHECK(s.words[0].find("Consul at " + s.where + ": connect: ") == 0);
    now += 0.9;
    s.loop.poll(0);
    CHECK(s.heard(prom::event_kind::registration_failed) == 1);  // the first pause is at least 1 s
    now += 0.4;
    until(s.loop, [&] { return s.heard(prom::event_kind::registration_failed) == 2; });
    s.consul.there.up();
    now += 3;
    until(s.loop, [&] { return r.registered(); });
    CHECK(s.consul.known == 1);
    CHECK(s.left(r));
    CHECK(s.consul.known == 0);
}

TEST_CASE("the pauses grow from 1 s to 60 s, with jitter") {
    stage s;
    consul_member m(consul_settings(s.options), s.loop, "127.0.0.1", "", std::uint16_t{1}, false);
    for (double base : {1, 2, 4, 8, 16, 32, 60, 60}) {
        const double pause = m.next_pause();
        CHECK(pause >= base);
        CHECK(pause <= (base * 1.25 < 60 ? base * 1.25 : 60));
    }
    m.pauses.last = 0;
    m.retry_after = 3600;
    CHECK(m.next_pause() == 60);
}

TEST_CASE("a 403 may pass: it is tried again, and the agent's words are told") {
    stage s;
    s.consul.next = {http(403, "ACL not found")};
    prom::registration r = s.started();
    CHECK(!r.registered());
    CHECK(s.words.at(0) == "Consul refused the registration: 403: ACL not found");
    now += 1.3;
    until(s.loop, [&] { return r.registered(); });
    CHECK(s.consul.known == 1);
}

TEST_CASE("an agent without a leader, which takes 7 s, is waited for by the watchdog, and not by the start") {
    for (double takes : {7.0, 11.0}) {
        stage s;
        s.consul.next = {{"", answer::stall}};
        outcome<prom::result<prom::registration>> out;
        s.loop.spawn(keep(s.start(), out));
        s.until_asked(1);
        for (int i = 0; i != 5; ++i) s.loop.poll(0.001);
        CHECK(!out);
        now += 0.5;
        until(s.loop, [&] { return static_cast<bool>(out); });
        prom::registration r = std::move(**out);
        CHECK(!r.registered());
        CHECK(s.events.empty());
        now += takes;
        for (int i = 0; i != 5; ++i) s.loop.poll(0.001);
        if (takes > 10) {
            REQUIRE(s.words.size() == 1);  // no first octet
            CHECK(s.words[0] == "Consul at " + s.where + ": no answer in time");
            now += 1.3;
            s.until_asked(2);
            CHECK(s.consul.there.connection_of == std::vector<std::size_t>{1, 1});  // in order behind the first
        }
        s.consul.there.go_on();
        until(s.loop, [&] { return r.registered(); });
        CHECK(s.left(r));
        CHECK(s.consul.known == 0);
    }
}

TEST_CASE("wait returns once registered, and fails after its deadline") {
    stage s({.on_failure = prom::on_failure::wait, .deadline = 10});
    s.consul.next = {http(500, "No cluster leader"), {"garbage\r\n", answer::close}, {"", answer::reset}};
    outcome<prom::result<prom::registration>> out;
    s.loop.spawn(keep(s.start(), out));
    for (std::size_t n : {1u, 2u, 3u}) {
        until(s.loop, [&] { return s.heard(prom::event_kind::registration_failed) == n; });
        CHECK(!out);
        now += n == 1 ? 1.3 : n == 2 ? 2.6 : 5.1;
    }
    until(s.loop, [&] { return static_cast<bool>(out); });
    CHECK((*out)->registered());
}

TEST_CASE("wait tries until its deadline, the last time shortly before, whether the agent is down or does not answer") {
    for (double deadline : {0.5, 5.0, 60.0, 100.0})
        for (bool stalls : {false, true}) {
            CAPTURE(deadline);
            CAPTURE(stalls);
            stage s({.on_failure = prom::on_failure::wait, .deadline = deadline});
            if (stalls) s.consul.next.assign(50, {"", answer::stall});
            else s.consul.there.down();
            const double began = now;
            double last = 0;
            outcome<prom::result<prom::registration>> out;
            s.loop.spawn(keep(s.start(), out));
            for (std::size_t known = 0; !out;) {
                for (int i = 0; i != 20; ++i) s.loop.poll(0);
                if (const std::size_t n = s.events.size() + s.consul.asked(); n != known) known = n, last = now - began;
                if (!out) now += deadline / 100;
                REQUIRE(now - began < deadline * 1.1);
            }
            CHECK(!*out);
            CHECK(last >= deadline * 0.89);
            CHECK(now - began >= deadline * 0.89);
            now += 10;  // of closing
        }
}

TEST_CASE("fail makes the start fail, and takes back what the agent may have heard") {
    stage s({.on_failure = prom::on_failure::fail});
    s.consul.next = {http(403, "Permission denied: Missing service:write on app-metrics")};
    auto r = finish(s.loop, s.start());
    REQUIRE(!r);
    CHECK(r.why().code() == prom::errc::refused);
    CHECK(s.consul.asked() == 1);  // a clear no needs no taking back
    s.consul.next = {{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", answer::close}};
    r = finish(s.loop, s.start());
    CHECK(!r);
    s.until_asked(3);
    CHECK(s.consul.line(2).find("PUT /v1/agent/service/deregister/") == 0);
}

TEST_CASE("a start that is destroyed while it registers leaves nothing behind") {
    stage s;
    s.consul.next = {{"", answer::stall}};
    {
        outcome<prom::result<prom::registration>> out;
        prom::task<void> work = keep(s.start(), out);
        (void)std::move(work).operator co_await().await_suspend(std::noop_coroutine());
        s.until_asked(1);
    }
    s.until_asked(2);
    CHECK(s.consul.line(1).find("PUT /v1/agent/service/deregister/") == 0);
    CHECK(s.consul.there.connection_of == std::vector<std::size_t>{1, 1});
    s.consul.there.go_on();
}

TEST_CASE("an agent that restarts and forgets the service is told again") {
    stage s;
    prom::registration r = s.started();
    s.consul.known = 0;
    now += 11.1;
    until(s.loop, [&] { return s.consul.known == 1 && r.registered(); });
    CHECK(s.events == std::vector{prom::event_kind::registration_lost});
    CHECK(s.words[0] == "Consul has lost the registration: 404: unknown service ID: app-metrics");
    CHECK(s.consul.line(1) == "GET /v1/agent/service/app-metrics HTTP/1.1");
}

TEST_CASE("an agent that is away for a while is found again") {
    stage s;
    prom::registration r = s.started();
    s.consul.there.down();
    s.consul.known = 0;
    now += 11.1;
    until(s.loop, [&] { return !r.registered(); });
    CHECK(s.heard(prom::event_kind::registration_lost) == 1);
    now += 1.3;
    until(s.loop, [&] { return s.heard(prom::event_kind::registration_failed) == 1; });
    s.consul.there.up();
    now += 2.6;
    until(s.loop, [&] { return r.registered(); });
    CHECK(s.consul.known == 1);
    // The next time it begins with a short pause again.
    s.consul.there.down();
    s.consul.known = 0;
    now += 11.1;
    until(s.loop, [&] { return !r.registered(); });
    now += 1.3;
    until(s.loop, [&] { return s.heard(prom::event_kind::registration_failed) == 2; });
    s.consul.there.up();
    now += 2.6;
    until(s.loop, [&] { return r.registered(); });
}

TEST_CASE("a watch that the agent refuses is no loss") {
    stage s;
    prom::registration r = s.started();
    s.consul.next = {http(403, "ACL not found")};
    now += 11.1;
    s.until_asked(2);
    until(s.loop, [&] { return s.heard(prom::event_kind::registration_failed) == 1; });
    CHECK(r.registered());
    now += 1.3;
    s.until_asked(3);
    CHECK(s.consul.line(2).find("GET ") == 0);
}

TEST_CASE("a TTL check is fed at once and three times per TTL, and found again when it was lost") {
    stage s({.check = prom::consul_check::ttl, .ttl = 15});
    prom::registration r = s.started();
    CHECK(s.consul.body(0).find("\"Check\":{\"TTL\":\"15s\"}") != std::string::npos);
    const std::string beat = "PUT /v1/agent/check/pass/service%3Aapp-metrics?note=heartbeat%20of%20http%3A%2F%2F127.0.0.1%3A9464";
    const auto orders = [&s](std::size_t n) { until(s.loop, [&] { return s.consul.orders().size() == n; }); };
    orders(2);
    CHECK(s.consul.orders()[1] == beat);
    for (int i = 0; i != 5; ++i) s.loop.poll(0.001);
    now += 5.1;
    orders(3);
    for (int i = 0; i != 5; ++i) s.loop.poll(0.001);
    s.consul.known = 0;
    now += 5.1;
    orders(5);
    CHECK(s.consul.orders()[3] == "PUT /v1/agent/service/register");
    CHECK(s.consul.orders()[4] == beat);
}

TEST_CASE("de-registering what the agent does not know is done, whichever way it says so") {
    for (const answer& said : {http(404, "Unknown service ID \"x\""), http(500, "Unknown service {\"app-metrics\" {}}"), http(200)}) {
        stage s;
        prom::registration r = s.started();
        s.consul.next = {http(200, "{}"), said};
        CHECK(s.left(r));
        CHECK(s.events.empty());
        CHECK(s.consul.asked() == 3);
    }
}

TEST_CASE("de-registration has a budget and never hangs; half of it goes to the question whose the id is") {
    stage s;
    prom::registration r = s.started();
    s.consul.next = {{"", answer::stall}, {"", answer::stall}};
    outcome<prom::result<void>> out;
    s.loop.spawn(keep(r.deregister(), out));
    s.until_asked(2);
    CHECK(s.consul.line(1) == "GET /v1/agent/service/app-metrics HTTP/1.1");
    now += 1.1;
    s.until_asked(3);
    CHECK(s.consul.line(2) == "PUT /v1/agent/service/deregister/app-metrics HTTP/1.1");
    now += 0.8;
    for (int i = 0; i != 5; ++i) s.loop.poll(0.001);
    CHECK(!out);
    now += 0.2;
    until(s.loop, [&] { return static_cast<bool>(out); });
    CHECK(!*out);
    CHECK(s.events == std::vector{prom::event_kind::deregistration_failed});
    CHECK(s.words[0] == "Consul at " + s.where + ": no answer in time");
}

TEST_CASE("a de-registration that fails at once is tried again within its budget, but not at a closed door") {
    stage s;
    prom::registration r = s.started();
    s.consul.next = {http(403, "ACL not found"), http(403, "ACL not found"), {"", answer::reset}};
    outcome<prom::result<void>> out;
    s.loop.spawn(keep(r.deregister(), out));
    s.until_asked(3);
    for (std::size_t n : {4u, 5u}) {
        for (int i = 0; i != 5; ++i) s.loop.poll(0.001);
        now += 0.31;
        s.until_asked(n);
    }
    until(s.loop, [&] { return static_cast<bool>(out); });
    CHECK(*out);
    CHECK(s.consul.known == 0);

    stage gone;
    prom::registration q = gone.started();
    gone.consul.there.down();
    const auto left = gone.left(q);
    REQUIRE(!left);
    CHECK(left.why().sys() == ECONNREFUSED);
}

TEST_CASE("closing in the midst of registering sends the end after it on its connection, to an agent that is stopped too") {
    for (bool again : {false, true}) {
        stage s;
        s.consul.next.assign(again ? 0 : 1, {"", answer::stall});
        outcome<prom::result<prom::registration>> in;
        s.loop.spawn(keep(s.start(), in));
        if (!again) s.until_asked(1), now += 0.6;
        until(s.loop, [&] { return static_cast<bool>(in); });
        prom::registration r = std::move(**in);
        if (again) {
            s.consul.known = 0;
            s.consul.next = {kept(http(404)), {"", answer::stall}};
            now += 10.1;
            s.until_asked(3);  // the watchdog registers, and the agent does not answer
        }
        outcome<prom::result<void>> out;
        s.loop.spawn(keep(r.deregister(), out));
        const std::size_t last = again ? 4 : 2;
        s.until_asked(last);
        CHECK(s.consul.line(last - 1).find("PUT /v1/agent/service/deregister/") == 0);
        CHECK(s.consul.there.connection_of[last - 1] == s.consul.there.connection_of[last - 2]);
        s.consul.there.go_on();
        until(s.loop, [&] { return static_cast<bool>(out); });
        CHECK(*out);
        CHECK(s.consul.known == 0);
        now += 100;
        s.loop.poll(0);
        CHECK(s.consul.asked() == last);
    }
}

TEST_CASE("an id that another has now is told once and left to it, and taken back when it is free") {
    for (prom::consul_check check : {prom::consul_check::http, prom::consul_check::ttl, prom::consul_check::none})
        for (const char* other : {R"({"Address":"127.0.0.1","Port":9465})", R"({"Address":"10.0.0.1","Port":9464})", R"({"Address":"","Port":9464})"}) {
            CAPTURE(other);
            stage s({.check = check});
            prom::registration r = s.started();
            for (int i = 0; i != 20; ++i) s.loop.poll(0.001);
            s.consul.entry = other;
            if (other[12] == '"') s.consul.entry = R"({"Name":"x","Address":"","Port":9464})";
            else s.consul.entry.insert(1, "\"Name\":\"x\",");
            now += 10.1;
            until(s.loop, [&] { return s.events.size() == 1; });
            CHECK(s.events[0] == prom::event_kind::registration_lost);
            CHECK(s.words[0].find("the Consul service id \"app-metrics\" belongs to another service, at port 946") == 0);
            CHECK(s.words[0].find(": set service_id") != std::string::npos);
            CHECK(!r.registered());
            const std::size_t orders = s.consul.orders().size();
            for (int i = 0; i != 3; ++i) {
                const std::size_t asked = s.consul.asked();
                now += 10.1;
                s.until_asked(asked + 1);
                for (int k = 0; k != 5; ++k) s.loop.poll(0.001);
            }
            CHECK(s.events.size() == 1);
            CHECK(s.consul.orders().size() == orders);  // its TTL is not fed either
            SUBCASE("closing leaves it there") {
                CHECK(s.left(r));
                CHECK(s.consul.known == 1);
                CHECK(s.consul.orders().size() == orders);
            }
            SUBCASE("when the other has gone, it is ours again") {
                s.consul.known = 0;
                now += 10.1;
                until(s.loop, [&] { return r.registered(); });
                CHECK(s.left(r));
                CHECK(s.consul.known == 0);
            }
        }
}

TEST_CASE("an id that another took just before the close is left to it as well") {
    stage s({.watch = 0});
    prom::registration r = s.started();
    s.consul.entry = R"({"Name":"x","Address":"127.0.0.1","Port":1})";
    CHECK(s.left(r));
    CHECK(s.consul.known == 1);
    CHECK(s.heard(prom::event_kind::registration_lost) == 1);
}

TEST_CASE("an agent that comes back with its data is not told again") {
    stage s;
    prom::registration r = s.started();
    s.consul.there.down();
    now += 10.1;
    until(s.loop, [&] { return !r.registered(); });
    s.consul.there.up();
    now += 1.3;
    until(s.loop, [&] { return r.registered(); });
    CHECK(s.consul.orders().size() == 1);
    // The next time it begins with a short pause again.
    s.consul.there.down();
    now += 11.1;
    until(s.loop, [&] { return !r.registered(); });
    s.consul.there.up();
    now += 1.3;
    until(s.loop, [&] { return r.registered(); });
    CHECK(s.consul.orders().size() == 1);
}

TEST_CASE("two servers of one process may not have one id at one agent; a successor waits for the end of the first") {
    stage s;
    prom::registration r = s.started();
    const auto second = finish(s.loop, s.start());
    REQUIRE(!second);
    CHECK(second.why().code() == prom::errc::invalid_option);
    CHECK(std::string_view(second.why().describe()) == "another server of this process has the Consul service id \"app-metrics\": give each its own service_id");
    CHECK(s.consul.asked() == 1);
    stage elsewhere;  // another agent
    CHECK(elsewhere.started().registered());
    s.options.service_id = "other";
    CHECK(finish(s.loop, s.start()));
    s.options.service_id = {};
    s.consul.next = {{"", answer::stall}};
    s.loop.spawn_closing(left_quietly(r.deregister()));
    outcome<prom::result<prom::registration>> next;
    s.loop.spawn(keep(s.start(), next));
    const std::size_t asked = s.consul.asked();
    for (int i = 0; i != 5; ++i) now += 0.06, s.loop.poll(0.001);
    CHECK(!next);
    s.consul.there.go_on();
    for (int i = 0; i != 50 && !next; ++i) now += 0.06, s.loop.poll(0.001);
    REQUIRE(next);
    CHECK((*next)->registered());
    CHECK(s.consul.orders().back() == "PUT /v1/agent/service/register");
    CHECK(s.consul.asked() > asked);
}

TEST_CASE("a successor waits for the end of the first until its deadline, and then says so") {
    stage s({.deadline = 2, .budget = 10});
    prom::registration r = s.started();
    s.consul.next = {{"", answer::stall}};
    s.loop.spawn_closing(left_quietly(r.deregister()));
    s.until_asked(2);
    outcome<prom::result<prom::registration>> next;
    s.loop.spawn(keep(s.start(), next));
    for (int i = 0; i != 19; ++i) now += 0.1, s.loop.poll(0);
    CHECK(!next);
    for (int i = 0; i != 2; ++i) now += 0.1, s.loop.poll(0);
    REQUIRE(next);
    REQUIRE(!*next);
    CHECK(next->why().code() == prom::errc::timeout);
    CHECK(std::string_view(next->why().describe()) == "another server of this process is still de-registering the Consul service id \"app-metrics\"");
    CHECK(s.consul.asked() == 2);
    s.consul.there.go_on();  // the first has left: its id is free again
    for (int i = 0; i != 50; ++i) now += 0.01, s.loop.poll(0.001);
    CHECK(s.started().registered());
}

TEST_CASE("a token that was changed in its file is read after a 403, for every request") {
    const std::string path = "/tmp/prometheus_async_test_" + std::to_string(::getpid()) + ".token";
    std::ofstream(path) << "one\n";
    const environment_of file("CONSUL_HTTP_TOKEN_FILE", path);
    const auto with = [](const stage& s) {
        const std::string& r = s.consul.there.requests.back();
        const std::size_t at = r.find("X-Consul-Token: ");
        return r.substr(at + 16, r.find('\r', at) - at - 16);
    };
    stage s({.check = prom::consul_check::ttl});
    int n = 1;
    const auto rotate = [&] {
        s.consul.next = {http(403, "ACL not found")};
        std::ofstream(path) << "token" << ++n;
    };
    const auto member = prom::detail::shared(new consul_member(consul_settings(s.options), s.loop, "127.0.0.1", "", std::uint16_t{9464}, false));
    rotate();
    prom::registration r = *finish(s.loop, consul_start(member));
    CHECK(r.registered());
    CHECK(with(s) == "token2");
    until(s.loop, [&] { return s.consul.orders().size() == 3; });
    for (int i = 0; i != 5; ++i) s.loop.poll(0.001);
    rotate();  // for the question
    now += 10.1;
    until(s.loop, [&] { return s.consul.orders().size() == 4; });
    CHECK(with(s) == "token3");
    for (int i = 0; i != 5; ++i) s.loop.poll(0.001);
    rotate();
    s.consul.next.insert(s.consul.next.begin(), kept(http(200, s.consul.service())));  // for the heartbeat
    now += 10.1;
    until(s.loop, [&] { return s.consul.orders().size() == 6; });
    CHECK(with(s) == "token4");
    for (int i = 0; i != 5; ++i) s.loop.poll(0.001);
    CHECK(s.events.empty());
    for (const char* bad : {"", "a b\n", "token4\n"}) {  // half written, or the same: the 403 stands
        s.consul.next = {http(403, "ACL not found")};
        std::ofstream(path) << bad;
        const std::size_t heard = s.events.size();
        now += 10.1;
        const std::size_t asked = s.consul.asked();
        s.until_asked(asked + 1);
        for (int i = 0; i != 5; ++i) s.loop.poll(0.001);
        CHECK(s.consul.asked() == asked + 1);
        CHECK(with(s) == "token4");
        CHECK(s.events.size() == (heard ? heard : 1));  // and is told once
    }
    rotate();
    CHECK(s.left(r));
    CHECK(with(s) == "token5");
    CHECK(s.consul.known == 0);
    ::unlink(path.c_str());
}

TEST_CASE("a watch that is refused beat after beat is told once") {
    for (int status : {400, 403, 500}) {
        for (prom::consul_check check : {prom::consul_check::http, prom::consul_check::ttl}) {
            stage s({.check = check});
            prom::registration r = s.started();
            for (int i = 0; i != 10; ++i) s.loop.poll(0.001);
            for (int beat = 0; beat != 5; ++beat) {
                s.consul.next = {http(status, "no")};
                const std::size_t asked = s.consul.asked();
                now += 61;
                s.until_asked(asked + 1);
                for (int i = 0; i != 10; ++i) s.loop.poll(0.001);
            }
            CHECK(s.events == std::vector{prom::event_kind::registration_failed});
        }
    }
}

TEST_CASE("user, password and namespace of the environment are sent") {
    const auto field = [](const std::string& value) {
        const environment_of auth("CONSUL_HTTP_AUTH", value);
        stage s;
        prom::registration r = s.started();
        const std::string& sent = s.consul.there.requests.at(0);
        const std::size_t at = sent.find("\r\nAuthorization: ");
        return at == std::string::npos ? "" : sent.substr(at + 17, sent.find('\r', at + 2) - at - 17);
    };
    CHECK(field("") == "");
    CHECK(field("user:pass") == "Basic dXNlcjpwYXNz");
    CHECK(field("user") == "Basic dXNlcjo=");
    CHECK(field("a:b:c") == "Basic YTpiOmM=");
    CHECK(field("\xc3\xbc:1") == "Basic w7w6MQ==");
    const environment_of team("CONSUL_NAMESPACE", "team");
    stage s({.check = prom::consul_check::ttl});
    prom::registration r = s.started();
    until(s.loop, [&] { return s.consul.orders().size() == 2; });
    CHECK(s.consul.orders()[0] == "PUT /v1/agent/service/register?ns=team");
    CHECK(s.consul.orders()[1].find("&ns=team") != std::string::npos);
    stage own({.in_namespace = "mine"});
    prom::registration q = own.started();
    CHECK(own.consul.orders()[0] == "PUT /v1/agent/service/register?ns=mine");
}

TEST_CASE("huge, garbled and cut answers to a registration are failures that are tried again") {
    for (const answer& said : {http(200, std::string(2 << 20, 'x')), answer{std::string(100000, 'a'), answer::close}, answer{"HTTP/1.1 200", answer::close}, answer{"", answer::close},
                               answer{"HTTP/1.1 301 Moved Permanently\r\nLocation: /v1/agent/service/other\r\nContent-Length: 0\r\n\r\n", answer::close}}) {
        stage s;
        s.consul.next = {said};
        prom::registration r = s.started();
        CHECK(!r.registered());
        CHECK(s.heard(prom::event_kind::registration_failed) == 1);
        now += 1.3;
        until(s.loop, [&] { return r.registered(); });
    }
}

TEST_CASE("the agent's words are told on one line, cut, and without the token") {
    stage s({.token = "s3cret"});
    s.consul.next = {http(403, "line one\nline two\x1b[31m" + std::string(500, 'x'))};
    prom::registration r = s.started();
    REQUIRE(s.words.size() == 1);
    CHECK(s.words[0].find("Consul refused the registration: 403: line one line two [31mxxx") == 0);
    s.consul.next = {http(403, "ACL not found: s3cret, s3cret")};
    now += 1.3;
    until(s.loop, [&] { return s.words.size() == 2; });
    CHECK(s.words[1] == "Consul refused the registration: 403: ACL not found: [token], [token]");
    stage odd({.token = "ken"});
    odd.consul.next = {http(403, "kenken")};
    prom::registration other = odd.started();
    CHECK(odd.words.at(0) == "Consul refused the registration: 403: [token][token]");
}

TEST_CASE("a gateway that gives up has perhaps registered us: that is taken back") {
    stage s({.on_failure = prom::on_failure::fail});
    s.consul.next = {http(504, "upstream timed out")};
    CHECK_FALSE(finish(s.loop, s.start()));
    s.until_asked(2);
    CHECK(s.consul.line(1).find("PUT /v1/agent/service/deregister/") == 0);
}

TEST_CASE("a registration that turns out to be bad later is not tried for ever") {
    stage s;
    s.consul.there.down();
    prom::registration r = s.started();
    s.consul.there.up();
    s.consul.next = {http(400, "Invalid check: no")};
    now += 1.3;
    until(s.loop, [&] { return s.heard(prom::event_kind::registration_failed) == 2; });
    for (int i = 0; i != 10; ++i) {
        now += 100;
        for (int turn = 0; turn != 5; ++turn) s.loop.poll(0.001);
    }
    CHECK(s.consul.asked() == 1);
    CHECK_FALSE(r.registered());
}

TEST_CASE("a heartbeat that was refused comes again in time for the TTL") {
    stage s({.check = prom::consul_check::ttl, .ttl = 15});
    prom::registration r = s.started();
    s.until_asked(2);
    for (std::size_t n = 3; n != 10; ++n) {
        s.consul.next = {http(500, "No cluster leader")};
        for (int turn = 0; turn != 5; ++turn) s.loop.poll(0.001);
        now += 5.1;
        s.until_asked(n);
    }
    CHECK(r.registered());
}

// ---- with a real server ----

namespace {
prom::task<prom::result<prom::metrics_http_server>> serve(stage& s, prom::consul_agent& consul) {
    prom::server_options options{.addr = "127.0.0.1"};
    options.service_discovery = &consul;
    return prom::start_http_server(s.loop, options);
}
}  // namespace

TEST_CASE("a server is registered under its own address while it runs, and gone after its close") {
    stage s({.name = "hello"});
    auto consul = std::make_unique<prom::consul_agent>(s.options);
    auto server = finish(s.loop, serve(s, *consul)).value();
    consul.reset();  // the agent's object may die first
    CHECK(server.is_registered());
    const std::string port = std::to_string(server.port());
    CHECK(s.consul.body(0) == R"({"Name":"hello","ID":"hello","Address":"127.0.0.1","Port":)" + port + R"(,"Check":{"HTTP":"http://127.0.0.1:)" + port + R"(/","Interval":"10s"}})");
    CHECK(finish(s.loop, server.close()));
    CHECK(!server.is_registered());
    CHECK(s.consul.known == 0);
    CHECK(finish(s.loop, server.close()));
    CHECK(s.consul.orders().size() == 2);
}

TEST_CASE("the check is one that can pass at this server") {
    const std::string_view hosts[] = {"metrics.example:80", "b"};
    const prom::credential credentials[] = {prom::basic("u", "p")};
    const prom::route own[] = {{.path = "/health", .text = "ok", .open = true}, {.path = "/page"}};
    const prom::authorizer asks{.now = [](const prom::authorization_request&, void*) { return true; }};
    const prom::tls_config tls{[](void*, std::string_view) noexcept { return prom::owned<prom::tls_session>(); }, nullptr};
    const prom::label password[] = {{"X-A", "1"}, {"authorization", "Basic dTpw"}, {"x-a", "2"}}, wrong[] = {{"Authorization", "Basic dTpx"}}, host[] = {{"Host", "b"}}, other[] = {{"host", "c"}};
    const auto check = [](prom::server_options server, prom::consul_options consul) {
        stage s(consul);
        prom::consul_agent agent(s.options);
        server.addr = "127.0.0.1";
        server.service_discovery = &agent;
        auto made = finish(s.loop, prom::start_http_server(s.loop, server));
        if (!made) {
            CHECK(made.why().code() == prom::errc::invalid_option);
            CHECK(s.consul.asked() == 0);
            return std::string(made.why().describe());
        }
        const std::string body = s.consul.body(0), port = std::to_string(made->port());
        std::string said = body.substr(body.find("\"Check\":") + 8);
        if (const std::size_t at = said.find(port); at != std::string::npos) said.replace(at, port.size(), "P");
        CHECK(finish(s.loop, made->close()));
        return said;
    };
    const auto http = [](const std::string& rest) { return "{\"HTTP\":\"http://127.0.0.1:P" + rest + ",\"Interval\":\"10s\"}}"; };
    const std::string ttl = "{\"TTL\":\"30s\"}}", no = "Consul's HTTP check could never pass: ";
    constexpr auto must = prom::consul_check::http;
    CHECK(check({}, {}) == http("/\""));
    CHECK(check({.allowed_hosts = hosts}, {}) == http("/\",\"Header\":{\"Host\":[\"metrics.example:80\"]}"));
    CHECK(check({.allowed_hosts = hosts}, {.check_headers = host}) == http("/\",\"Header\":{\"Host\":[\"b\"]}"));
    CHECK(check({.allowed_hosts = hosts}, {.check_headers = other}) == ttl);
    CHECK(check({.allowed_hosts = hosts}, {.check = must, .check_headers = other}).find(no + "the Host of") == 0);
    CHECK(check({.routes = own}, {}) == ttl);
    CHECK(check({.routes = own}, {.check = must}) == no + "the server has no route for consul_options::check_path");
    CHECK(check({.routes = own}, {.check_path = "/page?x=1"}) == http("/page?x=1\""));
    CHECK(check({.credentials = credentials, .routes = own, .allowed_hosts = hosts}, {.check_path = "/health"}) == http("/health\""));  // it is open
    CHECK(check({.credentials = credentials}, {}) == ttl);
    CHECK(check({.credentials = credentials}, {.check = must}).find(no + "the server asks for credentials: ") == 0);
    CHECK(check({.credentials = credentials}, {.check = must, .check_headers = wrong}).find(no + "the server asks for credentials: ") == 0);
    CHECK(check({.credentials = credentials}, {.check_headers = password}) == http("/\",\"Header\":{\"X-A\":[\"1\",\"2\"],\"authorization\":[\"Basic dTpw\"]}"));
    CHECK(check({.authorizer = asks}, {}) == ttl);
    CHECK(check({.authorizer = asks}, {.check = must}) == http("/\""));  // the user knows
    CHECK(check({.tls = tls}, {}) == ttl);
    CHECK(check({.tls = tls}, {.tls_skip_verify = true}) == "{\"HTTP\":\"https://127.0.0.1:P/\",\"Interval\":\"10s\",\"TLSSkipVerify\":true}}");
    CHECK(check({.tls = tls}, {.check = must}) == "{\"HTTP\":\"https://127.0.0.1:P/\",\"Interval\":\"10s\"}}");
    for (std::string_view path : {"", "x", "/a b", "/a#b", "/\n"}) CHECK(check({}, {.check_path = path}) == "consul_options::check_path is not a path, as in \"/health\"");
    for (const prom::label& bad : {prom::label{"", "x"}, prom::label{"a b", "x"}, prom::label{"a", "x\r\ny: z"}})
        CHECK(check({}, {.check_headers = std::span(&bad, 1)}) == "consul_options::check_headers: a field has a name or value that HTTP does not allow");
}

TEST_CASE("a forked child takes no service from the agent, and says nothing on its parent's connection") {
    auto s = std::make_unique<stage>();
    prom::registration r = s->started();
    const std::size_t asked = s->consul.asked();
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        r = {};
        s.reset();
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    for (int i = 0; i != 5; ++i) s->loop.poll(0);
    CHECK(s->consul.asked() == asked);
    CHECK(s->consul.there.open() == 1);
    CHECK(r.registered());
    CHECK(s->left(r));
    CHECK(s->consul.orders().back() == "PUT /v1/agent/service/deregister/app-metrics");
    CHECK(s->consul.there.connections == 1);
}

TEST_CASE("a fleet shares few connections, is not in step, and leaves nothing behind when it closes at once") {
    stage s;
    s.options.check = prom::consul_check::none;
    s.options.on_failure = prom::on_failure::fail;
    constexpr std::size_t fleet = 100;
    std::vector<prom::registration> all;
    std::vector<std::string> ids;
    for (std::size_t i = 0; i != fleet; ++i) ids.push_back("f" + std::to_string(i));
    for (const std::string& id : ids) {
        s.options.service_id = id;
        all.push_back(s.started());
    }
    CHECK(s.consul.there.connections == 1);  // one after the other
    const std::size_t before = s.consul.asked();
    std::vector<std::size_t> per_second;
    for (double began = now; now < began + 10; now += 0.5) {
        for (int i = 0; i != 20; ++i) s.loop.poll(0);
        per_second.push_back(s.consul.asked());
    }
    CHECK(s.consul.asked() >= before + fleet / 2);  // each in half of the period to the whole
    CHECK(s.consul.asked() <= before + 2 * fleet);
    for (std::size_t i = 1; i != per_second.size(); ++i) CHECK(per_second[i] - per_second[i - 1] < fleet / 2);
    CHECK(s.consul.there.connections < fleet / 2);

    std::vector<outcome<prom::result<void>>> gone(fleet);
    s.consul.known = 1;
    std::size_t most = 0, left = 0;
    const auto ordinary = s.consul.there.says;
    s.consul.there.says = [&](const std::string& request) {
        most = std::max(most, s.consul.there.open());
        left += request.find("PUT /v1/agent/service/deregister/") == 0;
        s.consul.known = 1;
        return ordinary(request);
    };
    for (std::size_t i = 0; i != fleet; ++i) s.loop.spawn(keep(all[i].deregister(), gone[i]));
    until(s.loop, [&] { return std::all_of(gone.begin(), gone.end(), [](auto& g) { return static_cast<bool>(g); }); });
    for (auto& g : gone) CHECK(*g);
    CHECK(left == fleet);
    CHECK(most <= 16);
    CHECK(s.events.empty());
    for (int i = 0; i != 5; ++i) s.loop.poll(0.001);
    now += 1.1;
    until(s.loop, [&] { return s.consul.there.open() == 0; });  // none is kept for long
}

TEST_CASE("of a fleet that closes at an agent that does not answer, those that had no connection say so") {
    stage s;
    s.options.check = prom::consul_check::none;
    std::vector<prom::registration> all;
    std::vector<std::string> ids;
    for (int i = 0; i != 20; ++i) ids.push_back("f" + std::to_string(i));
    for (const std::string& id : ids) s.options.service_id = id, all.push_back(s.started());
    s.consul.next.assign(100, {"", answer::stall});
    std::vector<outcome<prom::result<void>>> gone(all.size());
    for (std::size_t i = 0; i != all.size(); ++i) s.loop.spawn(keep(all[i].deregister(), gone[i]));
    for (int i = 0; i != 10; ++i) s.loop.poll(0.001);
    for (int turn = 0; turn != 30; ++turn) {
        now += 0.1;
        for (int i = 0; i != 5; ++i) s.loop.poll(0);
    }
    for (auto& g : gone) CHECK((g && !*g));
    CHECK(s.heard(prom::event_kind::deregistration_failed) == all.size());
}

TEST_CASE("a server that is destroyed is de-registered by its loop") {
    stage s;
    prom::consul_agent consul(s.options);
    { auto server = finish(s.loop, serve(s, consul)).value(); }
    until(s.loop, [&] { return s.consul.known == 0; });
}

TEST_CASE("a server whose task ends, or is stopped, is de-registered before run returns") {
    for (bool stopped : {false, true}) {
        stage s;
        prom::consul_agent consul(s.options);
        s.loop.run([](stage& st, prom::consul_agent& agent, bool stop) -> prom::task<void> {
            auto server = (co_await serve(st, agent)).value();
            if (stop) st.loop.stop();
            if (stop) co_await st.loop.sleep(3600);
        }(s, consul, stopped));
        CHECK(s.consul.known == 0);
        CHECK(s.consul.orders().size() == 2);
    }
}

TEST_CASE("a server closes also when its de-registration fails, and says so") {
    stage s;
    prom::consul_agent consul(s.options);
    auto server = finish(s.loop, serve(s, consul)).value();
    s.consul.there.down();
    const auto closed = finish(s.loop, server.close());
    REQUIRE(!closed);
    CHECK(closed.why().sys() == ECONNREFUSED);
    CHECK(!server.is_registered());
    CHECK(s.heard(prom::event_kind::deregistration_failed) == 1);
}

TEST_CASE("a start that fails to register leaves nothing open, and one that is refused for good runs on") {
    stage s({.on_failure = prom::on_failure::fail});
    s.consul.there.down();
    prom::consul_agent consul(s.options);
    CHECK(!finish(s.loop, serve(s, consul)));
    s.consul.there.up();
    s.options.on_failure = prom::on_failure::retry;
    prom::consul_agent again(s.options);
    s.consul.next = {http(400, "Missing service name")};
    auto server = finish(s.loop, serve(s, again)).value();
    CHECK(!server.is_registered());
    CHECK(finish(s.loop, server.close()));
    CHECK(s.consul.asked() == 1);
}

TEST_CASE("the registration is a metric") {
    prom::registry page;
    stage s({.service_id = "one", .metrics = &page});
    s.consul.next = {http(500, "no")};
    prom::registration r = s.started();
    const auto shows = [&](std::string_view line) {
        prom::registry* pages[] = {&page};
        return prom::expose({.registries = pages}).find(line) != std::string::npos;
    };
    CHECK(shows("\nprometheus_async_consul_registered{id=\"one\"} 0\n"));
    CHECK(shows("\nprometheus_async_consul_failures_total{id=\"one\"} 1\n"));
    now += 1.3;
    until(s.loop, [&] { return r.registered(); });
    CHECK(shows("\nprometheus_async_consul_registered{id=\"one\"} 1\n"));
    CHECK(s.left(r));
    CHECK(shows("\nprometheus_async_consul_registered{id=\"one\"} 0\n"));
}

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("a server is de-registered by the end of its loop, also when it outlives it, and by the close of its thread") {
    prom::event_loop loop;
    agent there(loop);
    std::size_t told = 0;
    std::thread program([&, at = there.there.at()] {
        prom::consul_agent consul{{.name = "hello", .agent = at}};
        prom::metrics_http_server server;
        for (bool outlives : {false, true}) {
            prom::event_loop own;
            const auto start = [&]() -> prom::task<void> {
                auto started = (co_await prom::start_http_server(own, {.addr = "127.0.0.1", .service_discovery = &consul})).value();
                if (outlives) server = std::move(started);
                else co_await own.sleep(0.001);
            };
            own.run(start());
            if (outlives) CHECK(server.is_registered());
        }
        CHECK(!server.is_registered());
        auto thread = prom::start_http_server_in_thread({.addr = "127.0.0.1", .service_discovery = &consul}).value();
        CHECK(thread.is_registered());
        CHECK(thread.close());
        CHECK(!thread.is_registered());
        loop.post([&] {
            told = there.orders().size();
            loop.stop();
        });
    });
    loop.run();
    program.join();
    CHECK(there.known == 0);
    CHECK(told == 6);
}
#endif
