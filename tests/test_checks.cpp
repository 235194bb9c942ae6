// Rooms [64], [65].
// needs-network
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/allocations.hpp"
#include "support/served.hpp"

#include <utility>

namespace {

struct state : held_back {
    std::string reason{};  // none: it is well
    int asked = 0;
};
prom::result<void> now(void* context) {
    auto& s = *static_cast<state*>(context);
    ++s.asked;
    if (s.reason.empty()) return {};
    return prom::error(prom::errc::refused, s.reason);
}
prom::task<prom::result<void>> later(void* context) {
    auto& s = *static_cast<state*>(context);
    held_back::counted_end at_end{s};
    co_await held_back::wait{s};
    co_return now(context);
}

std::string without_date(std::string answer) {
    const auto at = answer.find("Date: ");
    return at == std::string::npos ? answer : answer.erase(at, 37);
}

}  // namespace

TEST_CASE("a check that succeeds is 200, and one that does not is 503 with its reason") {
    state s;
    const prom::route routes[] = {{.path = "/healthz", .check = {.now = now, .context = &s}}};
    served at({.routes = routes});
    caller who(at);
    CHECK(without_date(who.ask("/healthz")) == "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n"
                                               "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\nok\n");
    s.reason = "the queue is full";
    const std::string bad = without_date(who.ask("/healthz?verbose=1"));
    CHECK(bad == "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 18\r\n"
                 "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\nthe queue is full\n");
    const std::string bare = without_date(who.ask("/healthz", {}, "HEAD"));
    CHECK(bare == bad.substr(0, bad.size() - 18));
    CHECK(s.asked == 3);
    s.reason.clear();
    who.ask("/healthz");
    CHECK(who.status() == 200);
    CHECK(at.events.empty());
}

TEST_CASE("other methods do not ask a check") {
    state s;
    const prom::route routes[] = {{.path = "/healthz", .check = {.now = now, .context = &s}}};
    served at({.routes = routes});
    caller who(at);
    who.send("OPTIONS /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(who.hears("HTTP/1.1 204 "));
    who.ask("/healthz", "Content-Length: 0\r\n", "POST");
    CHECK(who.status() == 405);
    caller other(at);
    other.ask("/healthz/");
    CHECK(other.status() == 404);
    CHECK(s.asked == 0);
}

TEST_CASE("a reason is one line of bounded length, whatever it holds") {
    state s;
    const prom::route routes[] = {{.path = "/healthz", .check = {.now = now, .context = &s}}};
    served at({.routes = routes});
    caller who(at);
    s.reason = "no\r\nSet-Cookie: a=b\r\n\r\n<script>alert(1)</script>" + std::string(500, 'x');
    who.ask("/healthz");
    CHECK(who.status() == 503);
    const auto head = who.got.find("\r\n\r\n");
    REQUIRE(head != std::string::npos);
    CHECK(who.got.substr(0, head).find("Set-Cookie") == std::string::npos);
    const std::string body = who.got.substr(head + 4);
    CHECK(body.size() == 120);
    CHECK(body.substr(0, 27) == "no  Set-Cookie: a=b    <scr");
    CHECK(body.find('\n') == body.size() - 1);
}

TEST_CASE("a check may take its time, while others are served") {
    state s;
    const prom::route routes[] = {{.path = "/metrics"}, {.path = "/ready", .check = {.later = later, .context = &s}}};
    served at({.routes = routes});
    caller first(at), second(at);
    first.send("GET /ready HTTP/1.1\r\nHost: x\r\n\r\nGET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    REQUIRE(at.until([&] { return s.waiting.size() == 1; }));
    second.ask("/metrics");
    CHECK(second.status() == 200);
    CHECK_FALSE((first.take(), first.got.size()));
    s.reason = "not yet";
    s.go_on();
    CHECK(first.hears("503 Service Unavailable"));
    CHECK(first.hears("\r\n\r\nnot yet\n"));
    REQUIRE(at.until([&] { return s.waiting.size() == 1; }));  // the pipelined one
    s.reason.clear();
    s.go_on();
    CHECK(first.ends());
    CHECK(first.got.find("200 OK") != std::string::npos);
    CHECK(first.got.ends_with("\r\n\r\nok\n"));
    CHECK(s.destroyed == 2);
}

TEST_CASE("a check that decides later may decide at once") {
    state s;
    const auto at_once = [](void* context) -> prom::task<prom::result<void>> { co_return now(context); };
    const prom::route routes[] = {{.path = "/ready", .check = {.later = at_once, .context = &s}}};
    served at({.routes = routes});
    caller who(at);
    who.ask("/ready");
    CHECK(who.status() == 200);
    s.reason = "no";
    CHECK(who.ask("/ready").ends_with("\r\n\r\nno\n"));
}

TEST_CASE("a check that never ends is destroyed with the server, or is 503 after the time for an answer, and says so") {
    state s;
    const prom::route routes[] = {{.path = "/ready", .check = {.later = later, .context = &s}}};
    {
        served at({.routes = routes});
        caller who(at);
        who.send("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");
        REQUIRE(at.until([&] { return s.waiting.size() == 1; }));
        at.pass(61);
        CHECK(who.hears("\r\n\r\nthe check has not ended in time\n"));
        CHECK(who.status() == 503);
        CHECK(s.destroyed == 1);
        REQUIRE(at.events.size() == 1);
        CHECK(at.events[0] == std::pair(prom::event_kind::callback_failed, std::string("the check of /ready has not ended in time")));
        s.waiting.clear();
        who.got.clear();
        who.send("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");  // the connection goes on, and the next check is a new one
        REQUIRE(at.until([&] { return s.waiting.size() == 1; }));
        s.go_on();
        CHECK(who.hears("\r\n\r\nok\n"));
        CHECK(s.destroyed == 2);
        caller other(at);
        other.send("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");
        REQUIRE(at.until([&] { return s.waiting.size() == 1; }));
    }
    CHECK(s.destroyed == 3);
}

TEST_CASE("a check is destroyed when its client has left") {
    state s;
    const prom::route routes[] = {{.path = "/ready", .check = {.later = later, .context = &s}}};
    served at({.routes = routes});
    caller who(at);
    who.send("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");
    REQUIRE(at.until([&] { return s.waiting.size() == 1; }));
    who.hang_up();
    CHECK(at.until([&] { return s.destroyed == 1; }));
    CHECK(at.events.empty());
}

TEST_CASE("credentials are asked for before a check is, unless its route is open") {
    state s;
    const prom::credential accepted[] = {prom::bearer("t0ken")};
    const prom::route routes[] = {{.path = "/ready", .check = {.now = now, .context = &s}},
                                  {.path = "/open", .check = {.now = now, .context = &s}, .open = true}};
    served at({.credentials = accepted, .routes = routes});
    caller who(at);
    who.ask("/ready");
    CHECK(who.status() == 401);
    CHECK(s.asked == 0);
    who.ask("/ready", "Authorization: Bearer t0ken\r\n");
    CHECK(who.status() == 200);
    who.ask("/open");
    CHECK(who.status() == 200);
}

TEST_CASE("an authoriser and then a check may both decide later") {
    static state authoriser, s;
    authoriser = s = {};
    const auto asks = [](const prom::authorization_request&, void*) -> prom::task<bool> {
        const auto how = co_await later(&authoriser);
        co_return bool(how);
    };
    const prom::route routes[] = {{.path = "/ready", .check = {.later = later, .context = &s}}};
    served at({.authorizer = {.later = asks}, .routes = routes});
    caller who(at);
    for (const char* reason : {"", "not yet"}) {
        s.reason = reason;
        who.got.clear();
        who.send("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");
        REQUIRE(at.until([&] { return authoriser.waiting.size() == 1; }));
        CHECK(s.waiting.empty());
        authoriser.go_on();
        REQUIRE(at.until([&] { return s.waiting.size() == 1; }));
        s.go_on();
        CHECK(who.hears(*reason ? "\r\n\r\nnot yet\n" : "\r\n\r\nok\n"));
    }
    authoriser.reason = "nobody";
    who.got.clear();
    who.send("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");
    REQUIRE(at.until([&] { return authoriser.waiting.size() == 1; }));
    authoriser.go_on();
    CHECK(who.hears("401 "));
    CHECK(s.asked == 2);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("a check that throws is 503 without what it threw, and the server goes on") {
    static int unhandled = 0;
    prom::on_unhandled_failure([](const prom::fault&, void*) { ++unhandled; });
    state s;
    const auto throws = [](void*) -> prom::result<void> { throw std::string("password=s3cret"); };
    const auto throws_later = [](void* context) -> prom::task<prom::result<void>> {
        static_cast<void>(co_await later(context));
        throw std::string("password=s3cret");
    };
    const prom::route routes[] = {{.path = "/now", .check = {.now = throws}},
                                  {.path = "/later", .check = {.later = throws_later, .context = &s}},
                                  {.path = "/fine", .check = {.now = now, .context = &s}}};
    {
        served at({.routes = routes});
        caller who(at);
        CHECK(who.ask("/now").ends_with("\r\n\r\nthe check threw\n"));
        CHECK(who.status() == 503);
        who.got.clear();
        who.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
        REQUIRE(at.until([&] { return s.waiting.size() == 1; }));
        s.go_on();
        CHECK(who.hears("\r\n\r\nthe check threw\n"));
        CHECK(at.told(prom::event_kind::callback_failed) == 2);
        REQUIRE(at.events.size() == 2);
        CHECK(at.events[0].second == "the check of /now threw");
        CHECK(at.events[1].second == "the check of /later threw");
        who.ask("/fine");
        CHECK(who.status() == 200);
    }
    CHECK(unhandled == 0);
    prom::on_unhandled_failure(nullptr);
}
#endif

TEST_CASE("a route serves one thing only") {
    state s;
    prom::registry own;
    prom::registry* const both[] = {&own};
    const prom::route with_text[] = {{.path = "/a", .text = "x", .check = {.now = now, .context = &s}}};
    const prom::route with_page[] = {{.path = "/a", .registries = both, .check = {.now = now, .context = &s}}};
    for (prom::list<prom::route> routes : {prom::list<prom::route>(with_text), prom::list<prom::route>(with_page)}) {
        served at({.routes = routes});
        CHECK(at.fault == "routes: either registries, or a text, or a check");
    }
}

TEST_CASE("a check on a kept connection allocates nothing") {
    state s;
    s.reason = "a reason";
    const prom::route routes[] = {{.path = "/healthz", .check = {.now = now, .context = &s}}};
    served at({.routes = routes});
    caller who(at);
    who.got.reserve(4096);
    for (int i = 0; i != 3; ++i) who.ask("/healthz");
    const std::string request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    s.reason = "x";  // short: no allocation of the test's own
    who.got.clear();
    const auto before = allocations;
    who.send(request);
    CHECK(who.hears("\r\n\r\nx\n"));
    CHECK(allocations == before);
}

TEST_CASE("the requests of checks are counted by their code") {
    state s;
    const prom::route routes[] = {{.path = "/healthz", .check = {.now = now, .context = &s}}};
    served at({.routes = routes, .self_metrics = true});
    caller who(at);
    const auto count = [](const char* code) {
        const prom::label labels[] = {{"code", code}, {"format", ""}};
        return prom::default_registry().sample_value("prometheus_async_http_requests_total", labels).value_or(0);
    };
    const double well = count("200"), ill = count("503");
    who.ask("/healthz");
    s.reason = "no";
    who.ask("/healthz");
    CHECK(count("200") - well == 1);
    CHECK(count("503") - ill == 1);
}
