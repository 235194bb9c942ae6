// needs-network
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

namespace prom = prometheus_async;

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

TEST_CASE("a gate knows its credentials from all others") {
    prom::detail::gate gate;
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

TEST_CASE("a gate with nothing to accept guards nothing; one with an authoriser does") {
    prom::detail::gate none, asking;
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
        prom::detail::gate gate;
        const auto opened = gate.open({prom::bearer("fine"), c}, {});
        REQUIRE_FALSE(bool(opened));
        CHECK(opened.why().code() == prom::errc::invalid_option);
        const std::string_view text = opened.why().describe();
        CHECK(text.find("credential 2") != std::string_view::npos);
        CHECK(text.find("QQ") == std::string_view::npos);
        CHECK(text.find("us:er") == std::string_view::npos);
    }
    prom::detail::gate fits;
    REQUIRE(fits.open({prom::basic("u", std::string_view(longer).substr(3)), prom::bearer(std::string_view(longer).substr(1))}, {}));
    CHECK(fits.matches("Bearer " + longer.substr(1)));
    CHECK(fits.matches("Basic " + base64("u:" + longer.substr(3))));
}

TEST_CASE("the challenge names the schemes that are accepted") {
    const auto challenge = [](prom::list<prom::credential> accepted) {
        prom::detail::gate gate;
        REQUIRE(gate.open(accepted, {}));
        return std::string(gate.challenge());
    };
    const std::string basic = "WWW-Authenticate: Basic realm=\"metrics\", charset=\"UTF-8\"\r\n";
    const std::string bearer = "WWW-Authenticate: Bearer realm=\"metrics\"\r\n";
    CHECK(challenge({prom::basic("a", "b")}) == basic);
    CHECK(challenge({prom::bearer("b")}) == bearer);
    CHECK(challenge({prom::bearer("b"), prom::basic("a", "b")}) == basic + bearer);
    CHECK(challenge({}) == basic);
}

TEST_CASE("ten refusals a second go at once, the next ones wait") {
    prom::detail::gate gate;
    for (int i = 0; i != 10; ++i) CHECK(gate.delay(5) == 0);
    CHECK(gate.delay(5.5) == 1);
    CHECK(gate.delay(5.9) == 1);
    for (int i = 0; i != 10; ++i) CHECK(gate.delay(6) == 0);
    CHECK(gate.delay(6) == 1);
}

namespace {
struct later {
    std::coroutine_handle<> waiting{};
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) noexcept { waiting = h; }
    void await_resume() const noexcept {}
};
prom::task<bool> at_once(bool yes) { co_return yes; }
prom::task<bool> when(later& l, bool yes) {
    co_await l;
    co_return yes;
}
}  // namespace

TEST_CASE("a decision that needs no waiting is there when it has been started") {
    using prom::detail::decision;
    decision d;
    int told = 0;
    CHECK(d.now() == decision::state::none);
    CHECK(d.start(at_once(true), [](void* n) { ++*static_cast<int*>(n); }, &told) == decision::state::yes);
    CHECK(d.start(at_once(false), [](void* n) { ++*static_cast<int*>(n); }, &told) == decision::state::no);
    CHECK(told == 0);
#if PROMETHEUS_ASYNC_EXCEPTIONS
    const auto thrower = []() -> prom::task<bool> {
        throw 1;
        co_return true;
    };
    CHECK(d.start(thrower(), nullptr, nullptr) == decision::state::failed);
#endif
}

TEST_CASE("a decision that is made later is told of, and may be destroyed in the call or before it") {
    using prom::detail::decision;
    later l;
    struct owner {
        prom::owned<decision> d{new decision};
        decision::state last = decision::state::none;
    } o;
    const auto told = [](void* self) {
        auto* me = static_cast<owner*>(self);
        me->last = me->d->now();
        me->d = {};
    };
    CHECK(o.d->start(when(l, true), told, &o) == decision::state::waiting);
    CHECK(o.d->now() == decision::state::waiting);
    l.waiting.resume();
    CHECK(o.last == decision::state::yes);
    CHECK_FALSE(o.d);
    o.d = prom::owned<decision>(new decision);
    CHECK(o.d->start(when(l, false), told, &o) == decision::state::waiting);
    o.d = {};
    CHECK(o.last == decision::state::yes);
}
