// Rooms [63], [64], [65].
// needs-network
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/served.hpp"

#include <memory>

namespace {

std::string base64(std::string_view in) {
    static constexpr char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (std::size_t i = 0; i < in.size(); i += 3) {
        std::uint32_t word = 0;
        for (std::size_t k = 0; k != 3; ++k) word = word << 8 | (i + k < in.size() ? static_cast<unsigned char>(in[i + k]) : 0u);
        for (std::size_t k = 0; k != 4; ++k) out += i + k > in.size() ? '=' : alphabet[word >> (18 - 6 * k) & 63];
    }
    return out;
}
std::string decoded(std::string_view text) {
    unsigned char out[512];
    const int n = prom::detail::strict_base64(text, out);
    return n < 0 ? "refused" : std::string(out, out + n);
}

}  // namespace

TEST_CASE("base64 is decoded when it is exactly RFC 4648 with padding") {
    CHECK(decoded("dTpw") == "u:p");
    CHECK(decoded("dTpwYQ==") == "u:pa");
    CHECK(decoded("dTpwYXM=") == "u:pas");
    CHECK(decoded("+/+/") == "\xfb\xff\xbf");
    for (std::string_view bad : {"", "d", "dT", "dTp", "dTpwY", "dTpwYQ", "dTpwYQ=", "dTpwYQ===", "dTpwYR==", "dTpwYXN=", "====",
                                 "=Tpw", "dT=w", "dTpw dTpw", " dTpw", "dTpw\n", "-_-_", "dT\0w", "dTpw=", "d==="}) {
        CAPTURE(bad);
        CHECK(decoded(bad) == "refused");
    }
    for (std::size_t size = 1; size <= 512; ++size) {
        const std::string text(size, static_cast<char>(size));
        if (decoded(base64(text)) != text) FAIL(size);
    }
    CHECK(decoded(base64(std::string(513, 'x'))) == "refused");
}

TEST_CASE("an authenticator knows its credentials from all others") {
    prom::detail::authenticator gate;
    REQUIRE(gate.open({prom::basic("scraper", "secret"), prom::basic("scraper", "new:secret"), prom::bearer("t0ken")}, {}));
    CHECK(gate.guards());
    const auto basic = [](std::string_view pair) { return "Basic " + base64(pair); };
    CHECK(gate.matches(basic("scraper:secret")));
    CHECK(gate.matches(basic("scraper:new:secret")));
    CHECK(gate.matches("Bearer t0ken"));
    CHECK(gate.matches("bEaReR   t0ken"));
    CHECK(gate.matches("bASIC " + base64("scraper:secret")));
    for (const std::string& wrong :
         {std::string(), std::string("Basic"), std::string("Basic "), std::string("Bearer"), std::string("Bearer "), std::string("t0ken"),
          std::string("Bearer t0ke"), std::string("Bearer t0ken "), std::string("Bearer t0kenn"), std::string("Basic t0ken"),
          std::string("Digest t0ken"), std::string("Bearer\tt0ken"), "Bearer " + base64("scraper:secret"), basic("scraper:secre"),
          basic("scraper:secret "), basic("scraper:secrets"), basic("other:secret"), basic("scraper"), basic(":secret"), basic("t0ken"),
          basic(std::string("scraper:secret\0", 15)), basic("scraper:secret") + "=", basic("Scraper:secret"),
          "Basic  x" + base64("scraper:secret"), "Bearer " + std::string(600, 't'), basic(std::string(600, 's'))}) {
        CAPTURE(wrong);
        CHECK_FALSE(gate.matches(wrong));
    }
}

TEST_CASE("an authenticator with nothing to accept guards nothing; one with an authoriser does") {
    prom::detail::authenticator none, asking;
    REQUIRE(none.open({}, {}));
    CHECK_FALSE(none.guards());
    CHECK_FALSE(none.matches("Basic Og=="));
    REQUIRE(asking.open({}, {.now = [](const prom::authorization_request&, void*) { return true; }}));
    CHECK(asking.guards());
    CHECK_FALSE(asking.matches(""));
}

TEST_CASE("credentials that could never be safe are refused when the server starts, without showing them") {
    const std::string longer(513, 'Q');
    for (const prom::credential& c : {prom::basic("user", ""), prom::bearer(""), prom::basic("us:er", "QQQ"), prom::bearer(longer),
                                      prom::basic(longer, "QQQ"), prom::basic("u", std::string_view(longer).substr(2))}) {
        prom::detail::authenticator gate;
        const auto opened = gate.open({prom::bearer("fine"), c}, {});
        REQUIRE_FALSE(bool(opened));
        CHECK(opened.why().code() == prom::errc::invalid_option);
        const std::string_view text = opened.why().describe();
        CHECK(text.find("credential 2") != std::string_view::npos);
        CHECK(text.find("QQ") == std::string_view::npos);
        CHECK(text.find("us:er") == std::string_view::npos);
    }
    prom::detail::authenticator fits;
    REQUIRE(fits.open({prom::basic("u", std::string_view(longer).substr(3)), prom::bearer(std::string_view(longer).substr(1))}, {}));
    CHECK(fits.matches("Bearer " + longer.substr(1)));
    CHECK(fits.matches("Basic " + base64("u:" + longer.substr(3))));
}

TEST_CASE("the challenge names the schemes that are accepted") {
    const auto challenge = [](prom::list<prom::credential> accepted) {
        prom::detail::authenticator gate;
        REQUIRE(gate.open(accepted, {}));
        return std::string(gate.challenge);
    };
    const std::string basic = "WWW-Authenticate: Basic realm=\"metrics\", charset=\"UTF-8\"\r\n";
    const std::string bearer = "WWW-Authenticate: Bearer realm=\"metrics\"\r\n";
    CHECK(challenge({prom::basic("a", "b")}) == basic);
    CHECK(challenge({prom::bearer("b")}) == bearer);
    CHECK(challenge({prom::bearer("b"), prom::basic("a", "b")}) == basic + bearer);
    CHECK(challenge({}) == basic);
}

TEST_CASE("ten refusals a second go at once, the next ones wait") {
    prom::detail::authenticator gate;
    for (int i = 0; i != 10; ++i) CHECK(gate.delay(5) == 0);
    CHECK(gate.delay(5.5) == 1);
    CHECK(gate.delay(5.9) == 1);
    for (int i = 0; i != 10; ++i) CHECK(gate.delay(6) == 0);
    CHECK(gate.delay(6) == 1);
}

// ---- the server ----

namespace {
const prom::credential accepted[] = {prom::basic("scraper", "s3cret"), prom::bearer("t0ken")};
const std::string good = "Authorization: Basic " + base64("scraper:s3cret") + "\r\n";
const std::string wrong = "Authorization: Basic " + base64("scraper:s3cre7") + "\r\n";
}  // namespace

namespace {
bool never(const prom::authorization_request&, void*) { return false; }
prom::task<bool> never_later(const prom::authorization_request&, void*) { co_return false; }
prom::result<void> ill(void*) { return prom::error(prom::errc::refused, "ill"); }
prom::task<prom::result<void>> ill_later(void*) { co_return prom::error(prom::errc::refused, "ill"); }
prom::owned<prom::tls_session> no_session(void*, std::string_view) noexcept { return {}; }
}  // namespace

TEST_CASE("what a server asks for is asked for however its options were set") {
    const auto status = [](const prom::server_options& with) {
        served at(with);
        REQUIRE_MESSAGE(at.fault.empty(), at.fault);
        caller who(at);
        who.ask("/metrics");
        return who.over() && who.got.empty() ? 0 : who.status();
    };
    const prom::route checked[] = {{.path = "/metrics", .check = {.now = ill}}}, checked_later[] = {{.path = "/metrics", .check = {.later = ill_later}}};
    CHECK(status({}) == 200);
    CHECK(status({.credentials = accepted}) == 401);
    CHECK(status({.credentials = {prom::basic("a", "b")}}) == 401);
    CHECK(status({.authorizer = {.now = never}}) == 401);
    CHECK(status({.authorizer = {.now = &never}}) == 401);
    CHECK(status({.authorizer = {.now = [](const prom::authorization_request&, void*) { return false; }}}) == 401);
    CHECK(status({.authorizer = {.later = never_later}}) == 401);
    CHECK(status({.routes = checked}) == 503);
    CHECK(status({.routes = checked_later}) == 503);
    CHECK(status({.tls = {.open = no_session}}) == 400);
    CHECK(status({.allowed_hosts = {"elsewhere"}}) == 421);
    CHECK(status({.routes = {{.path = "/other"}}}) == 404);
    // Assigned later, as a whole or a part of it, and copied.
    prom::server_options o;
    o.credentials = accepted;
    CHECK(status(o) == 401);
    const prom::server_options copy = o;
    CHECK(status(copy) == 401);
    o.credentials = {};
    CHECK(status(o) == 200);
    o.authorizer.now = never;
    CHECK(status(o) == 401);
    o.authorizer.now = nullptr;
    CHECK(status(o) == 200);
    o.authorizer.later = &never_later;
    CHECK(status(o) == 401);
    o = {};
    CHECK(status(o) == 200);
    o.authorizer = {.now = never};
    prom::server_options moved = std::move(o);
    CHECK(status(moved) == 401);
    const prom::authorizer by = moved.authorizer;
    moved = {};
    moved.authorizer = by;
    CHECK(status(moved) == 401);
    bool (*chosen)(const prom::authorization_request&, void*) = never;
    moved.authorizer = {.now = chosen};
    CHECK(status(moved) == 401);
    chosen = nullptr;
    moved.authorizer.now = chosen;
    CHECK(status(moved) == 200);
    prom::route late{.path = "/metrics"};
    late.check.now = ill;
    moved.routes = {&late, 1};
    CHECK(status(moved) == 503);
    late.check = {};
    late.check.later = ill_later;
    CHECK(status(moved) == 503);
    prom::server_options named;
    const std::string_view elsewhere[] = {"elsewhere"};
    named.allowed_hosts = elsewhere;
    CHECK(status(named) == 421);
    const prom::server_options again = named;
    CHECK(status(again) == 421);
    named.allowed_hosts = {};
    CHECK(status(named) == 200);
    prom::server_options secure;
    secure.tls.open = no_session;
    CHECK(status(secure) == 400);
    const prom::tls_config same = secure.tls;
    secure.tls = {};
    CHECK(status(secure) == 200);
    secure.tls = same;
    CHECK(status(secure) == 400);
}

TEST_CASE("credentials are asked for before anything else is said about a request") {
    const prom::route routes[] = {{.path = "/metrics"}, {.path = "/alive", .text = "yes\n", .open = true}};
    served at({.credentials = accepted, .routes = routes});
    caller who(at);
    for (const char* path : {"/metrics", "/nowhere", "/metrics/", "/alive/"}) {
        CAPTURE(path);
        who.ask(path);
        CHECK(who.status() == 401);
        CHECK(who.got.find("WWW-Authenticate: Basic realm=\"metrics\", charset=\"UTF-8\"\r\n") != std::string::npos);
        CHECK(who.got.find("WWW-Authenticate: Bearer realm=\"metrics\"\r\n") != std::string::npos);
        CHECK(who.got.find("Connection: close") == std::string::npos);
    }
    for (const char* method : {"POST", "OPTIONS", "BREW"}) {
        CAPTURE(method);
        who.ask("/metrics", {}, method);
        CHECK(who.status() == 401);
    }
    who.ask("/alive");
    CHECK(who.status() == 200);
    who.ask("/metrics", good);
    CHECK(who.status() == 200);
    who.ask("/metrics", "Authorization: Bearer t0ken\r\n");
    CHECK(who.status() == 200);
    who.ask("/nowhere", good);
    CHECK(who.status() == 404);
    who.ask("/metrics", good, "POST");
    CHECK(who.status() == 405);
    CHECK(at.told(prom::event_kind::authorization_failed) == 7);
}

TEST_CASE("an unknown user and a wrong password are answered alike") {
    served at({.credentials = accepted});
    caller who(at);
    const auto answer = [&](std::string_view pair) {
        std::string text = who.ask("/metrics", "Authorization: Basic " + base64(pair) + "\r\n");
        const auto date = text.find("Date: ");
        return date == std::string::npos ? text : text.erase(date, 37);
    };
    const std::string reference = answer("scraper:s3cre7");
    CHECK(reference.substr(0, 12) == "HTTP/1.1 401");
    CHECK(answer("nobody:s3cret") == reference);
    CHECK(answer("nobody:x") == reference);
    CHECK(answer("no colon") == reference);
    who.ask("/metrics", "Authorization: Basic !!!\r\n");
    CHECK(who.status() == 401);
    who.ask("/metrics", "Authorization: Digest username=\"scraper\"\r\n");
    CHECK(who.status() == 401);
}

TEST_CASE("more than one Authorization field is no request") {
    served at({.credentials = accepted});
    caller who(at);
    who.ask("/metrics", good + good);
    CHECK(who.status() == 400);
    CHECK(who.ends());
}

TEST_CASE("no answer and no event shows a credential") {
    served at({.credentials = accepted, .self_metrics = true});
    caller who(at);
    std::string all;
    for (const std::string& fields : {std::string(), wrong, good, std::string("Authorization: Bearer t0ken2\r\n"), good + wrong}) all += who.ask("/metrics", fields);
    caller page(at);
    all += page.ask("/metrics", good) + page.ask("/", good);
    for (const auto& e : at.events) all += e.second;
    for (const std::string_view secret : {"s3cret", "s3cre7", "t0ken", "scraper"}) CHECK(all.find(secret) == std::string::npos);
    CHECK(all.find(base64("scraper:s3cret")) == std::string::npos);
}

TEST_CASE("after ten refusals in a second the next ones wait for one, and good requests do not") {
    served at({.credentials = accepted});
    caller who(at);
    for (int i = 0; i != 10; ++i) {
        who.ask("/metrics", wrong);
        CHECK(who.status() == 401);
    }
    std::vector<std::unique_ptr<caller>> late;
    for (int i = 0; i != 40; ++i) {
        late.push_back(std::make_unique<caller>(at));
        late.back()->send("GET /metrics HTTP/1.1\r\nHost: x\r\n" + wrong + "\r\n");
        REQUIRE(at.until([&] { return at.told(prom::event_kind::authorization_failed) == 11 + i; }));
    }
    // At most 32 wait; who comes then is not even answered: an answer at once would be a way round the delay.
    for (std::size_t i = 0; i != 32; ++i) CHECK_FALSE((late[i]->take(), late[i]->got.size()));
    for (std::size_t i = 32; i != 40; ++i) {
        CHECK(late[i]->ends());
        CHECK(late[i]->got.empty());
    }
    who.ask("/metrics", good);
    CHECK(who.status() == 200);
    late[0]->hang_up();
    at.pass(0.9);
    for (std::size_t i = 1; i != 32; ++i) CHECK_FALSE((late[i]->take(), late[i]->got.size()));
    at.pass(0.2);
    for (std::size_t i = 1; i != 32; ++i) {
        CHECK(late[i]->hears("HTTP/1.1 401"));
        late[i]->ask("/metrics", good);  // the connection goes on
        CHECK(late[i]->status() == 200);
    }
    // All 32 places are free again: of those that were answered, and of the one that hung up.
    at.pass(5);
    for (int i = 0; i != 10; ++i) {
        who.ask("/metrics", wrong);
        CHECK(who.status() == 401);
    }
    for (std::size_t i = 1; i != 33; ++i) {
        late[i] = std::make_unique<caller>(at);
        late[i]->send("GET /metrics HTTP/1.1\r\nHost: x\r\n" + wrong + "\r\n");
    }
    REQUIRE(at.until([&] { return at.told(prom::event_kind::authorization_failed) == 10 + 40 + 10 + 32; }));
    at.pass(1.1);
    for (std::size_t i = 1; i != 33; ++i) CHECK(late[i]->hears("HTTP/1.1 401"));
}

TEST_CASE("when too many refusals wait, the oldest of the address that has most of them is closed") {
    served at({.credentials = accepted});
    caller who(at);
    for (int i = 0; i != 10; ++i) who.ask("/metrics", wrong);
    std::vector<std::unique_ptr<caller>> late;
    const auto refused = [&](unsigned from) {
        late.push_back(std::make_unique<caller>(at, 0, from));
        const int before = at.told(prom::event_kind::authorization_failed);
        late.back()->send("GET /metrics HTTP/1.1\r\nHost: x\r\n" + wrong + "\r\n");
        REQUIRE(at.until([&] { return at.told(prom::event_kind::authorization_failed) == before + 1; }));
        turns(at);
    };
    for (int i = 0; i != 31; ++i) refused(1);
    refused(2);
    for (const auto& one : late) CHECK_FALSE((one->take(), one->over()));
    CHECK(at.told(prom::event_kind::connection_evicted) == 0);
    refused(2);
    CHECK(late[0]->ends());
    CHECK(late[0]->got.empty());
    refused(3);
    CHECK(late[1]->ends());
    CHECK(at.told(prom::event_kind::connection_evicted) == 2);
    refused(1);  // its own address has most: it is the one
    CHECK(late[34]->ends());
    CHECK(at.told(prom::event_kind::connection_evicted) == 2);
    at.pass(1.1);
    for (std::size_t i = 2; i != 34; ++i) CHECK(late[i]->hears("HTTP/1.1 401"));
    for (std::size_t i : {0u, 1u, 34u}) CHECK(late[i]->got.empty());
}

TEST_CASE("an authoriser decides now, knowing the request") {
    struct seen {
        std::string method, path, authorization;
        bool peer = true;
        int asked = 0;
    } what;
    const auto decide = [](const prom::authorization_request& r, void* to) {
        auto& s = *static_cast<seen*>(to);
        s = {std::string(r.method), std::string(r.path), std::string(r.authorization), r.peer != nullptr, s.asked + 1};
        return r.authorization == "Token 7";
    };
    served at({.authorizer = {.now = decide, .context = &what}});
    caller who(at);
    who.ask("/metrics?x=1", "Authorization: Token 7\r\n");
    CHECK(who.status() == 200);
    CHECK(what.method == "GET");
    CHECK(what.path == "/metrics");
    CHECK(what.authorization == "Token 7");
    CHECK_FALSE(what.peer);
    who.ask("/nowhere", {}, "HEAD");
    CHECK(who.status() == 401);
    CHECK(what.method == "HEAD");
    CHECK(what.path == "/nowhere");
    CHECK(what.authorization.empty());
    CHECK(what.asked == 2);
}

TEST_CASE("an authoriser is asked when no credential fits") {
    int asked = 0;
    const auto decide = [](const prom::authorization_request&, void* n) { return ++*static_cast<int*>(n) == 1; };
    served at({.credentials = accepted, .authorizer = {.now = decide, .context = &asked}});
    caller who(at);
    who.ask("/metrics", good);
    CHECK(who.status() == 200);
    CHECK(asked == 0);
    who.ask("/metrics", wrong);
    CHECK(who.status() == 200);
    who.ask("/metrics", wrong);
    CHECK(who.status() == 401);
    CHECK(asked == 2);
}

namespace {
struct slow : held_back {
    bool yes = true;
};
prom::task<bool> decide_later(const prom::authorization_request& r, void* context) {
    auto& s = *static_cast<slow*>(context);
    held_back::counted_end at_end{s};
    co_await held_back::wait{s};
    co_return s.yes && r.path == "/metrics";
}
}  // namespace

TEST_CASE("an authoriser may take its time, while others are served") {
    slow s;
    served at({.authorizer = {.later = decide_later, .context = &s}});
    caller first(at), second(at);
    first.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    second.send("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n");
    REQUIRE(at.until([&] { return s.waiting.size() == 2; }));
    turns(at);
    CHECK_FALSE((first.take(), first.got.size()));
    s.go_on();
    CHECK(first.hears("200 OK"));
    CHECK(second.hears("401 Unauthorized"));
    REQUIRE(at.until([&] { return s.waiting.size() == 1; }));  // the pipelined one, which waited its turn
    s.go_on();
    CHECK(first.ends());
    std::size_t answers = 0;
    for (std::size_t i = 0; (i = first.got.find("200 OK", i)) != std::string::npos; ++i) ++answers;
    CHECK(answers == 2);
    CHECK(s.destroyed == 3);
}

TEST_CASE("a decision that is never made ends with the server, or with the time for an answer") {
    slow s;
    {
        served at({.authorizer = {.later = decide_later, .context = &s}});
        caller who(at);
        who.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        REQUIRE(at.until([&] { return s.waiting.size() == 1; }));
        at.pass(61);
        CHECK(who.ends());
        CHECK(who.got.empty());
        CHECK(s.destroyed == 1);
        caller other(at);
        other.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        REQUIRE(at.until([&] { return s.waiting.size() == 2; }));
    }
    CHECK(s.destroyed == 2);
}

TEST_CASE("a client that leaves while an authoriser decides is noticed, and the late decision does nothing") {
    struct asked {
        std::vector<prom::deferred<bool>> decisions{};
        int destroyed = 0;
    } s;
    const auto later = [](const prom::authorization_request&, void* context) -> prom::task<bool> {
        struct guard {
            int& n;
            ~guard() { ++n; }
        } at_end{static_cast<asked*>(context)->destroyed};
        co_return co_await static_cast<asked*>(context)->decisions.emplace_back();
    };
    const prom::route routes[] = {{.path = "/metrics"}, {.path = "/open", .text = "open", .open = true}};
    served at({.authorizer = {.later = later, .context = &s}, .routes = routes});
    caller other(at);
    enum { closes, resets, half_closes, closes_after_more };
    for (int how : {closes, resets, half_closes, closes_after_more}) {
        CAPTURE(how);
        caller who(at);
        who.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        REQUIRE(at.until([&] { return s.decisions.size() == 1; }));
        turns(at);
        CHECK(s.destroyed == 0);
        if (how == closes_after_more) {
            who.send("GET /open HTTP/1.1\r\nHost: x\r\n\r\n");
            turns(at);
            CHECK(s.destroyed == 0);
        }
        const ::linger at_once{1, 0};
        if (how == resets) ::setsockopt(who.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        how == half_closes ? static_cast<void>(::shutdown(who.fd, SHUT_WR)) : who.hang_up();
        CHECK(at.until([&] { return s.destroyed == 1; }));
        if (how == half_closes) CHECK(who.ends());
        CHECK(who.got.empty());
        s.decisions[0].fire(true);
        turns(at);
        CHECK(other.ask("/open").ends_with("open"));
        s = {};
    }
    CHECK(at.events.empty());

    // What is sent meanwhile is kept, also when it is more than is looked at.
    caller who(at);
    std::string all = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    for (int i = 0; i != 200; ++i) all += "GET /open HTTP/1.1\r\nHost: x\r\n\r\n";
    who.send(all + "GET /open HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    REQUIRE(at.until([&] { return s.decisions.size() == 1; }));
    turns(at);
    CHECK_FALSE((who.take(), who.got.size()));
    s.decisions[0].fire(true);
    CHECK(who.ends());
    std::size_t answers = 0;
    for (std::size_t i = 0; (i = who.got.find("200 OK", i)) != std::string::npos; ++i) ++answers;
    CHECK(answers == 202);
}

namespace {
bool busy_now(const prom::authorization_request& r, void* answer) {
    *r.busy = r.path != "/metrics";
    return *static_cast<bool*>(answer);
}
prom::task<bool> busy_later(const prom::authorization_request& r, void* context) {
    const bool is = co_await decide_later(r, context);
    *r.busy = r.method == "HEAD";
    co_return is;
}
}  // namespace

TEST_CASE("an authoriser that is busy answers 503, which is no refusal, and the next request is decided anew") {
    for (bool answer : {false, true}) {
        served at({.authorizer = {.now = busy_now, .context = &answer}});
        caller who(at);
        for (int i = 0; i != 20; ++i) {
            who.ask("/");
            CHECK(who.status() == 503);
            CHECK(who.got.find("\r\nRetry-After: 1\r\n") != std::string::npos);
            CHECK(who.got.find("WWW-Authenticate") == std::string::npos);
        }
        CHECK(at.events.empty());
        who.ask("/metrics");  // the twenty have not used up the ten of a second
        CHECK(who.status() == (answer ? 200 : 401));
    }
    slow s;
    served at({.authorizer = {.later = busy_later, .context = &s}});
    caller who(at);
    for (const char* method : {"HEAD", "GET"}) {
        who.got.clear();
        who.send(std::string(method) + " /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        REQUIRE(at.until([&] { return s.waiting.size() == 1; }));
        s.go_on();
        CHECK(who.hears(*method == 'H' ? "503 Service Unavailable" : "200 OK"));
        turns(at);
        who.take();
    }
}

TEST_CASE("an authoriser knows which requests come from one address") {
    std::vector<std::uint64_t> from;
    const auto note = [](const prom::authorization_request& r, void* to) {
        static_cast<std::vector<std::uint64_t>*>(to)->push_back(r.from);
        return true;
    };
    served at({.authorizer = {.now = note, .context = &from}});
    for (unsigned last : {1u, 1u, 2u}) caller(at, 0, last).ask("/metrics");
    REQUIRE(from.size() == 3);
    CHECK(from[0] == from[1]);
    CHECK(from[0] != from[2]);
    CHECK(from[0] != 0);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("an authoriser that throws refuses the request, and the server goes on") {
    served now({.authorizer = {.now = [](const prom::authorization_request&, void*) -> bool { throw 1; }}});
    caller who(now);
    who.ask("/metrics");
    CHECK(who.status() == 500);
    who.ask("/metrics");
    CHECK(who.status() == 500);
    CHECK(now.told(prom::event_kind::callback_failed) == 2);
    const auto thrower = [](const prom::authorization_request&, void*) -> prom::task<bool> {
        throw 1;
        co_return true;
    };
    served later({.authorizer = {.later = thrower}});
    caller also(later);
    also.ask("/metrics");
    CHECK(also.status() == 500);
    CHECK(later.told(prom::event_kind::callback_failed) == 1);
    static int unhandled = 0;  // the exception of an authoriser may show a credential: it is given to no handler
    prom::on_unhandled_failure([](const prom::fault&, void*) { ++unhandled; });
    slow s;
    const auto throws_later = [](const prom::authorization_request& r, void* context) -> prom::task<bool> {
        co_await decide_later(r, context);
        throw 1;
    };
    {
        served at({.authorizer = {.later = throws_later, .context = &s}});
        caller third(at);
        third.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        REQUIRE(at.until([&] { return s.waiting.size() == 1; }));
        s.go_on();
        CHECK(third.hears("500 "));
        CHECK(at.told(prom::event_kind::callback_failed) == 1);
    }
    CHECK(unhandled == 0);
    prom::on_unhandled_failure(nullptr);
}
#endif

TEST_CASE("credentials on a port that others can reach in clear are told of once") {
    const auto told = [](prom::server_options options) {
        served at(options);
        CHECK(at.started);
        if (std::string_view(options.addr).substr(0, 5) != "unix:") {
            caller who(at);
            who.ask("/metrics", good);
        }
        return at.told(prom::event_kind::credentials_in_clear);
    };
    CHECK(told({.addr = "0.0.0.0", .credentials = accepted}) == 1);
    CHECK(told({.addr = "127.0.0.1", .credentials = accepted}) == 0);
    CHECK(told({.addr = "unix:@prometheus_async_test_auth", .credentials = accepted}) == 0);
    CHECK(told({.addr = "0.0.0.0"}) == 0);
}

TEST_CASE("a server with a credential that could never be safe does not start") {
    const prom::credential empty[] = {prom::bearer("")};
    served at({.credentials = empty});
    CHECK(at.fault.find("credential 1") != std::string::npos);
}
