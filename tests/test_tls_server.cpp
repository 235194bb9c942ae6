// Rooms [62], [64].
// libs: -lssl -lcrypto -lmbedtls -lmbedx509 -lmbedcrypto
// needs-network
//
// The server over TLS, by both adapters.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "examples/tls_mbedtls.hpp"
#include "examples/tls_openssl.hpp"
#include "support/certs.hpp"
#include "support/served.hpp"
#include "support/forwarding_session.hpp"

#include <memory>

namespace {

using prom::detail::stream_status;
using prom::event_kind;

const certs& files() {
    static const certs made;
    return made;
}
openssl_server by_openssl(const char* name = "server", const char* ca = nullptr) {
    return openssl_server::load(files().pem(name), files().key(name), ca ? files().pem(ca) : "").value();
}
mbedtls_server by_mbedtls(const char* name = "server", const char* ca = nullptr) {
    return mbedtls_server::load(files().pem(name), files().key(name), ca ? files().pem(ca) : "").value();
}
void each(auto&& f) {
    auto os = by_openssl();
    auto ms = by_mbedtls();
    auto oc = openssl_client::load(files().pem("ca")).value();
    auto mc = mbedtls_client::load(files().pem("ca")).value();
    for (const prom::tls_config& s : {os.hook(), ms.hook()})
        for (const prom::tls_config& c : {oc.hook(), mc.hook()}) f(s, c);
}
const prom::tls_config& client() {
    static auto made = openssl_client::load(files().pem("ca")).value();
    static const prom::tls_config hook = made.hook();
    return hook;
}

}  // namespace

TEST_CASE("a page is served over TLS, whichever library is on which side") {
    each([](const prom::tls_config& s, const prom::tls_config& c) {
        served at({.tls = s});
        CHECK(at.server.https());
        CHECK(at.server.url() == "https://127.0.0.1:" + std::to_string(at.server.port()) + "/");
        caller who(at);
        REQUIRE(who.handshake(c));
        who.ask("/metrics");
        CHECK(who.status() == 200);
        who.ask("/nowhere");
        CHECK(who.status() == 404);
        who.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        CHECK(who.ends());
        CHECK(who.last == stream_status::ended);  // by a close_notify
        CHECK(at.told(event_kind::handshake_failed) == 0);
    });
}

TEST_CASE("requests that arrive in one record, or with the end of the handshake, are all answered") {
    each([](const prom::tls_config& s, const prom::tls_config& c) {
        served at({.tls = s});
        caller who(at);
        REQUIRE(who.handshake(c));
        std::string many;
        for (int i = 0; i != 20; ++i) many += "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n";
        who.send(many + "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        CHECK(who.ends());
        std::size_t answers = 0;
        for (std::size_t i = 0; (i = who.got.find("HTTP/1.1 404", i)) != std::string::npos; ++i) ++answers;
        CHECK(answers == 21);
    });
}

TEST_CASE("a client that closes its side after the request still gets the answer") {
    auto s = by_openssl();
    served at({.tls = s.hook()});
    caller who(at);
    REQUIRE(who.handshake(client()));
    who.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(who.s.shutdown(who.scratch) == stream_status::ok);
    ::shutdown(who.fd, SHUT_WR);
    CHECK(who.hears("200 OK"));
    CHECK(who.ends());
}

TEST_CASE("plain HTTP on the TLS port gets one line that says so, and nothing else") {
    auto s = by_openssl();
    served at({.tls = s.hook()});
    caller who(at);
    who.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(who.ends());
    CHECK(who.status() == 400);
    CHECK(who.got.find("TLS") != std::string::npos);
    CHECK(who.got.find("HTTP/1.1", 1) == std::string::npos);
    CHECK(who.got.find("# HELP") == std::string::npos);
    caller noise(at);
    noise.send("\x80\x80\x80");
    CHECK(noise.ends());
    CHECK(noise.got.empty());
}

TEST_CASE("a TLS client on the plain port is answered at once") {
    served at({});
    CHECK_FALSE(at.server.https());
    caller who(at);
    CHECK_FALSE(who.handshake(client()));
    CHECK(who.over());
}

TEST_CASE("a handshake has five seconds, whether nothing of it came, or a part") {
    auto s = by_openssl();
    served at({.tls = s.hook()});
    caller silent(at), half(at), after(at);
    half.send(std::string_view("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11));
    CHECK(after.handshake(client()));  // so those before it were accepted
    at.pass(4.9);
    CHECK_FALSE((silent.take(), silent.over()));
    half.send("\x01");  // a trickle buys no time
    CHECK_FALSE((half.take(), half.over()));
    at.pass(0.2);
    CHECK(silent.ends());
    CHECK(half.ends());
    CHECK(silent.got.empty());
    caller good(at);
    CHECK(good.handshake(client()));
}

TEST_CASE("after the handshake the request has its own time") {
    auto s = by_openssl();
    served at({.tls = s.hook()});
    caller who(at);
    at.pass(4);
    REQUIRE(who.handshake(client()));
    at.pass(4);
    who.send("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\nGET / HT");
    CHECK(who.hears("Not Found\n"));
    CHECK(who.status() == 404);
    who.got.clear();
    at.pass(4.9);
    CHECK_FALSE((who.take(), who.over()));
    at.pass(0.2);
    CHECK(who.ends());
    CHECK(who.status() == 408);
}

TEST_CASE("when too many handshakes are in progress the oldest makes room") {
    static auto s = by_openssl();
    static int opened;
    opened = 0;
    served at({.tls = {[](void*, std::string_view) noexcept {
                           ++opened;
                           const auto hook = s.hook();
                           return hook.open(hook.context, {});
                       },
                       nullptr},
               .limits = {.handshakes = 3}});
    std::vector<std::unique_ptr<caller>> stalled;
    for (int i = 0; i != 5; ++i) {
        stalled.push_back(std::make_unique<caller>(at));
        stalled.back()->send(std::string_view("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11));
        REQUIRE(at.until([&] { return opened == i + 1; }));
    }
    CHECK(stalled[0]->ends());
    CHECK(stalled[1]->ends());
    for (std::size_t i : {2u, 3u, 4u}) CHECK_FALSE((stalled[i]->take(), stalled[i]->over()));
    CHECK(at.told(event_kind::connection_evicted) == 2);
    caller good(at);
    REQUIRE(good.handshake(client()));
    good.ask("/nowhere");
    CHECK(good.status() == 404);

    // One that has had the server's flight is not pushed out by any number of beginnings, for a quarter of a second from then.
    const auto begins = [&](int count) {
        for (int i = 0; i != count; ++i) {
            stalled.push_back(std::make_unique<caller>(at));
            stalled.back()->send(std::string_view("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11));
            for (int turn = 0; turn != 5; ++turn) at.loop.poll(0);
        }
    };
    for (const bool later : {false, true}) {
        CAPTURE(later);
        caller slow(at), stuck(at);
        for (int i = 0; i != 10; ++i) at.loop.poll(0);
        if (later) at.pass(0.5);  // since they were accepted
        for (caller* c : {&slow, &stuck}) {
            REQUIRE(c->s.start_tls(client(), "localhost"));
            c->last = c->s.handshake(c->scratch);
        }
        for (int i = 0; i != 50; ++i) at.loop.poll(0);
        begins(10);
        at.pass(0.2);
        begins(10);
        CHECK(at.until([&] {
            slow.last = slow.s.handshake(slow.scratch);
            return slow.s.secured() || slow.over();
        }));
        CHECK(slow.s.secured());
        slow.ask("/nowhere");
        CHECK(slow.status() == 404);
        at.pass(0.1);
        begins(3);  // the first takes a free place
        at.until([&] { return stuck.s.handshake(stuck.scratch) == stream_status::ok || stuck.s.secured(); });  // as far as it saw
        CHECK(stuck.ends());
        CHECK_FALSE((stalled.back()->take(), stalled.back()->over()));
    }
}

namespace {
// Counts whose handshake was stepped.
struct watched final : forwarding_session {
    using forwarding_session::forwarding_session;
    static inline std::vector<const watched*> stepped;
    prom::tls_status handshake() noexcept override {
        const auto how = inner->handshake();
        if (stepped.empty() || stepped.back() != this) stepped.push_back(this);
        return how;
    }
};
}  // namespace

TEST_CASE("one handshake goes a step further in each turn of the loop") {
    static auto s = by_openssl();
    served at({.tls = {[](void*, std::string_view) noexcept {
                           const auto hook = s.hook();
                           return prom::owned<prom::tls_session>(new watched(hook.open(hook.context, {})));
                       },
                       nullptr}});
    std::vector<std::unique_ptr<caller>> all;
    for (int i = 0; i != 8; ++i) {
        all.push_back(std::make_unique<caller>(at));
        REQUIRE(all.back()->s.start_tls(client(), "localhost"));
        all.back()->s.handshake(all.back()->scratch);
    }
    watched::stepped.clear();
    std::size_t before = 0;
    const bool done = at.until([&] {
        CHECK(watched::stepped.size() <= before + 1);
        before = watched::stepped.size();
        bool every = true;
        for (auto& c : all) {
            if (!c->s.secured()) c->s.handshake(c->scratch);
            every = every && c->s.secured();
        }
        return every;
    });
    CHECK(done);
}

namespace {
// Takes a few octets at a time: most of its reads give nothing although more has been received.
struct narrow final : forwarding_session {
    using forwarding_session::forwarding_session;
    prom::tls_io feed(std::span<const char> in) noexcept override { return inner->feed(in.first(in.size() < 7 ? in.size() : 7)); }
};
}  // namespace

TEST_CASE("what was received and not yet given to the session is read in the next turns, without another octet of the peer") {
    static auto s = by_openssl();
    served at({.tls = {[](void*, std::string_view) noexcept {
                           const auto hook = s.hook();
                           return prom::owned<prom::tls_session>(new narrow(hook.open(hook.context, {})));
                       },
                       nullptr}});
    caller who(at);
    REQUIRE(who.handshake(client()));
    for (int i = 0; i != 3; ++i) {
        who.ask("/nowhere", "X: " + std::string(1000, 'x') + "\r\n");
        CHECK(who.status() == 404);
    }
}

TEST_CASE("a handshake that fails is told of, with its reason, and the client gets the alert") {
    auto s = by_openssl("server", "ca");
    served at({.tls = s.hook()});
    caller who(at);
    const bool early = who.handshake(client());  // TLS 1.3: before the server has seen that there is no certificate
    CHECK(who.ends());
    CHECK(who.last == stream_status::failed);
    (void)early;
    REQUIRE(at.told(event_kind::handshake_failed) == 1);
    CHECK(at.events.back().second.find("certificate") != std::string::npos);
}

TEST_CASE("a client that goes away in the middle of a handshake is forgotten") {
    auto s = by_openssl();
    served at({.tls = s.hook()});
    {
        caller who(at);
        REQUIRE(who.s.start_tls(client(), "localhost"));
        who.s.handshake(who.scratch);
        at.loop.poll(0);
    }
    for (int turn = 0; turn != 20; ++turn) at.loop.poll(0);
    caller good(at);
    CHECK(good.handshake(client()));
}

TEST_CASE("a hook that gives no session closes the connection") {
    served at({.tls = {[](void*, std::string_view) noexcept { return prom::owned<prom::tls_session>(); }, nullptr}});
    caller who(at);
    CHECK_FALSE(who.handshake(client()));
    CHECK(who.over());
}

TEST_CASE("the authoriser knows who the client is, by its verified certificate") {
    struct seen {
        std::string subject, fingerprint;
        bool verified = false;
    };
    const auto ask = [](const prom::tls_config& s) {
        seen what;
        const auto look = [](const prom::authorization_request& r, void* into) {
            REQUIRE(r.peer);
            *static_cast<seen*>(into) = {r.peer->subject, r.peer->fingerprint, r.peer->verified};
            return r.peer->subject == "CN=scraper,O=Tests\\, Inc,C=DE" && r.path == "/metrics";
        };
        served at({.tls = s, .authorizer = {.now = look, .context = &what}});
        auto mine = openssl_client::load(files().pem("ca"), files().pem("client"), files().key("client")).value();
        auto theirs = openssl_client::load(files().pem("ca"), files().pem("stranger"), files().key("stranger")).value();
        caller who(at);
        REQUIRE(who.handshake(mine.hook()));
        who.ask("/metrics");
        CHECK(who.status() == 200);
        CHECK(what.verified);
        CHECK(what.fingerprint.size() == 64);
        caller stranger(at);
        REQUIRE(stranger.handshake(theirs.hook()));
        stranger.ask("/metrics");
        CHECK(stranger.status() == 401);
        CHECK(what.subject == "CN=stranger");
    };
    auto o = by_openssl("server", "ca");
    auto m = by_mbedtls("server", "ca");
    ask(o.hook());
    ask(m.hook());
}

namespace {
// How much ciphertext a session holds for us, at most.
struct metered final : forwarding_session {
    using forwarding_session::forwarding_session;
    static inline std::size_t written, drained;
    prom::tls_io drain(std::span<char> out) noexcept override {
        const auto io = inner->drain(out);
        drained += io.produced;
        return io;
    }
    prom::tls_io write(std::span<const char> in) noexcept override {
        const auto io = inner->write(in);
        written += io.consumed;
        return io;
    }
};
}  // namespace

TEST_CASE("a slow reader over TLS gets the whole page, which is made no faster than it reads") {
    prom::registry big;
    {
        const std::string long_one(70, 'x');
        prom::family<prom::counter, "n"> many{"many_total", "Many.", {.registry = &big}};
        for (int i = 0; i != 60000; ++i) many(long_one + std::to_string(i)).inc();  // more than kernels buffer
    }
    static auto s = by_openssl();
    metered::written = metered::drained = 0;
    prom::registry* const shown[] = {&big};
    const prom::route routes[] = {{.path = "/metrics", .registries = shown}};
    served at({.tls = {[](void*, std::string_view) noexcept {
                           const auto hook = s.hook();
                           return prom::owned<prom::tls_session>(new metered(hook.open(hook.context, {})));
                       },
                       nullptr},
               .routes = routes});
    caller who(at, 8192);
    REQUIRE(who.handshake(client()));
    who.send("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    CHECK(who.hears("200 OK"));
    // It reads nothing now: what was encrypted is in the kernel's buffers, and a little more.
    for (int turn = 0; turn != 500; ++turn) at.loop.poll(0);
    CHECK(metered::written < 5000000);
    CHECK(metered::written <= metered::drained);
    CHECK(who.ends());
    CHECK(who.last == stream_status::ended);
    CHECK(who.got.find("x59999\"} 1\n") != std::string::npos);
    CHECK(who.got.ends_with("0\r\n\r\n"));
    CHECK(who.got.size() > 5400000);

    {  // a reader that stops is reset
        caller stuck(at, 8192);
        REQUIRE(stuck.handshake(client()));
        stuck.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        CHECK(stuck.hears("200 OK"));
        for (int i = 0; i != 20 && at.told(event_kind::connection_stalled) == 0; ++i) at.pass(5);
        CHECK(at.told(event_kind::connection_stalled) == 1);
        CHECK(stuck.ends());
        CHECK(stuck.last != stream_status::ended);  // never half a page for a whole one
    }
}

TEST_CASE("an idle connection is closed with a close_notify") {
    auto s = by_openssl();
    served at({.tls = s.hook()});
    caller who(at);
    REQUIRE(who.handshake(client()));
    who.ask("/nowhere");
    at.pass(74);
    CHECK_FALSE((who.take(), who.over()));
    at.pass(2);
    CHECK(who.ends());
    CHECK(who.last == stream_status::ended);
}

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("a server in its own thread serves a blocking OpenSSL client") {
    auto s = by_mbedtls();
    auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1", .tls = s.hook()});
    REQUIRE(bool(server));
    CHECK(server->https());
    CHECK(server->url().substr(0, 8) == "https://");
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_load_verify_file(context, files().pem("ca").c_str());
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(server->port());
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    SSL_set1_host(ssl, "localhost");
    REQUIRE(SSL_connect(ssl) == 1);
    const std::string_view request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    CHECK(SSL_write(ssl, request.data(), static_cast<int>(request.size())) == static_cast<int>(request.size()));
    std::string got;
    int n;
    for (char some[4096]; (n = SSL_read(ssl, some, sizeof some)) > 0;) got.append(some, static_cast<std::size_t>(n));
    CHECK(SSL_get_error(ssl, n) == SSL_ERROR_ZERO_RETURN);
    CHECK(got.substr(0, 15) == "HTTP/1.1 200 OK");
    SSL_free(ssl);
    SSL_CTX_free(context);
    ::close(fd);
    CHECK(server->close());
}
#endif
