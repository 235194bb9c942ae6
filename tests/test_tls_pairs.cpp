// libs: -lssl -lcrypto -lmbedtls -lmbedx509 -lmbedcrypto
//
// The two TLS adapters of examples/ against each other and themselves, in memory, with the octets
// between them cut at every size.
#include "prometheus_async.hpp"
#include "examples/tls_mbedtls.hpp"
#include "examples/tls_openssl.hpp"
#include "support/certs.hpp"

#include <doctest/doctest.h>

#include <memory>

namespace prom = prometheus_async;

namespace {

const certs& files() {
    static const certs made;
    return made;
}

constexpr std::size_t cuts[] = {1, 7, 1400, 40000};
enum class library { openssl, mbedtls };
struct pairing {
    library client, server;
    const char* name;
};
constexpr pairing pairings[] = {{library::openssl, library::openssl, "openssl to openssl"},
                                {library::openssl, library::mbedtls, "openssl to mbedtls"},
                                {library::mbedtls, library::openssl, "mbedtls to openssl"},
                                {library::mbedtls, library::mbedtls, "mbedtls to mbedtls"}};

// Either adapter behind one face.
struct side {
    virtual ~side() = default;
    virtual prom::tls_config hook() = 0;
    virtual prom::result<void> reload() = 0;
    virtual void follow(prom::event_handler, void*) = 0;

    prom::owned<prom::tls_session> open(std::string_view host = {}) {
        const prom::tls_config h = hook();
        return h.open(h.context, host);
    }
};
template <class T>
struct side_of final : side {
    explicit side_of(T made) : it(std::move(made)) {}
    prom::tls_config hook() override { return it.hook(); }
    prom::result<void> reload() override {
        if constexpr (requires { it.reload(); }) return it.reload();
        else return {};
    }
    void follow(prom::event_handler f, void* c) override {
        if constexpr (requires { it.follow(f, c); }) it.follow(f, c);
    }
    T it;
};
template <class T>
std::unique_ptr<side> boxed(prom::result<T> made) {
    if (!made) MESSAGE(std::string(made.why().describe()));
    REQUIRE(bool(made));
    return std::make_unique<side_of<T>>(*std::move(made));
}
std::unique_ptr<side> server(library by, const char* name = "server", const char* client_ca = nullptr) {
    const std::string ca = client_ca ? files().pem(client_ca) : "";
    if (by == library::openssl) return boxed(openssl_server::load(files().pem(name), files().key(name), ca));
    return boxed(mbedtls_server::load(files().pem(name), files().key(name), ca));
}
std::unique_ptr<side> client(library by, const char* name = nullptr, const char* ca = "ca") {
    const std::string pem = name ? files().pem(name) : "", key = name ? files().key(name) : "";
    if (by == library::openssl) return boxed(openssl_client::load(files().pem(ca), pem, key));
    return boxed(mbedtls_client::load(files().pem(ca), pem, key));
}

/// Two sessions and the octets between them, `cut` at a time.
struct line {
    prom::owned<prom::tls_session> client, server;
    std::size_t cut;
    std::string to_server{}, to_client{};

    static bool carry(prom::tls_session& from, prom::tls_session& to, std::string& between, std::size_t cut) {
        if (between.empty()) {
            between.resize(cut);
            between.resize(from.drain({between.data(), cut}).produced);
        }
        if (between.empty()) return false;
        const auto fed = to.feed(between);
        between.erase(0, fed.consumed);
        return fed.consumed != 0;
    }
    bool carry() {
        const bool there = carry(*client, *server, to_server, cut);
        return carry(*server, *client, to_client, cut) || there;
    }
    // Both sides' last words, after everything has been carried.
    std::pair<prom::tls_status, prom::tls_status> handshake() {
        auto c = prom::tls_status::need_input, s = c;
        bool moved = true;
        while (moved || c == prom::tls_status::need_output || s == prom::tls_status::need_output) {
            if (c != prom::tls_status::ok && c != prom::tls_status::failed) c = client->handshake();
            if (s != prom::tls_status::ok && s != prom::tls_status::failed) s = server->handshake();
            moved = carry();
        }
        return {c, s};
    }
    void establish() {
        const auto [c, s] = handshake();
        if (c != prom::tls_status::ok) MESSAGE(client->last_error());
        if (s != prom::tls_status::ok) MESSAGE(server->last_error());
        REQUIRE(c == prom::tls_status::ok);
        REQUIRE(s == prom::tls_status::ok);
    }
};

// What read says once everything that is on its way has arrived.
prom::tls_status read_all(line& l, prom::tls_session& at, std::string& into) {
    for (;;) {
        char some[3000];
        const auto got = at.read(some);
        into.append(some, got.produced);
        if (got.status == prom::tls_status::ok) continue;
        if (got.status != prom::tls_status::need_input || !l.carry()) return got.status;
    }
}

std::string pattern(std::size_t size, unsigned seed) {
    std::string s(size, '\0');
    for (char& c : s) c = static_cast<char>((seed = seed * 1664525u + 1013904223u) >> 24);
    return s;
}

void each(auto&& f) {
    for (const pairing& p : pairings)
        for (std::size_t cut : cuts) {
            CAPTURE(p.name);
            CAPTURE(cut);
            f(p, cut);
        }
}

}  // namespace

TEST_CASE("every pair of adapters shakes hands however the octets are cut, and knows the peer") {
    each([](const pairing& p, std::size_t cut) {
        auto s = server(p.server, "server", "ca");
        auto c = client(p.client, "client");
        line l{c->open("localhost"), s->open(), cut};
        l.establish();
        const auto of_client = l.server->peer(), of_server = l.client->peer();
        CHECK(of_client.verified);
        CHECK(of_client.subject == "CN=scraper,O=Tests\\, Inc,C=DE");
        CHECK(of_client.fingerprint.size() == 64);
        CHECK(of_server.verified);
        CHECK(of_server.subject == "CN=localhost");
        CHECK(of_server.protocol == of_client.protocol);
        CHECK(of_client.protocol >= "TLSv1.2");
        CHECK_FALSE(of_server.cipher.empty());
        CHECK(of_client.alpn == (p.server == library::openssl ? "http/1.1" : ""));
    });
}

TEST_CASE("both adapters tell the same fingerprint and subject of a certificate") {
    std::string fingerprint;
    for (const pairing& p : pairings) {
        auto s = server(p.server, "server", "ca");
        auto c = client(p.client, "client");
        line l{c->open("127.0.0.1"), s->open(), 1400};
        l.establish();
        const auto peer = l.server->peer();
        if (fingerprint.empty()) fingerprint = peer.fingerprint;
        CHECK(peer.fingerprint == fingerprint);
    }
}

TEST_CASE("without a client CA a server asks for no certificate") {
    for (const pairing& p : pairings) {
        CAPTURE(p.name);
        auto s = server(p.server);
        auto c = client(p.client);
        line l{c->open("localhost"), s->open(), 1400};
        l.establish();
        CHECK_FALSE(l.server->peer().verified);
        CHECK(l.server->peer().subject.empty());
        CHECK(l.server->peer().fingerprint.empty());
    }
}

TEST_CASE("a client accepts the host, a trailing dot, and the IP addresses of the certificate") {
    for (const pairing& p : pairings)
        for (const char* host : {"localhost", "localhost.", "127.0.0.1", "::1", "[::1]"}) {
            CAPTURE(p.name);
            CAPTURE(host);
            auto s = server(p.server);
            auto c = client(p.client);
            line l{c->open(host), s->open(), 1400};
            l.establish();
        }
}

TEST_CASE("a client refuses a certificate for another host, of another CA, or that has expired") {
    struct refusal {
        const char* certificate;
        const char* ca;
        const char* host;
    };
    for (const refusal& r : {refusal{"wronghost", "ca", "localhost"}, {"server", "ca", "example.org"}, {"server", "ca", "127.0.0.2"},
                             {"server", "ca", "::2"}, {"server", "other-ca", "localhost"}, {"expired", "ca", "localhost"}})
        for (const pairing& p : pairings) {
            CAPTURE(p.name);
            CAPTURE(r.certificate);
            CAPTURE(r.host);
            auto s = server(p.server, r.certificate);
            auto c = client(p.client, nullptr, r.ca);
            line l{c->open(r.host), s->open(), 1400};
            const auto [of_client, of_server] = l.handshake();
            CHECK(of_client == prom::tls_status::failed);
            CHECK(l.client->last_error().find(": ") != std::string::npos);
            std::string nothing;
            CHECK(read_all(l, *l.server, nothing) == prom::tls_status::failed);  // by the alert
            CHECK(nothing.empty());
            (void)of_server;
        }
}

TEST_CASE("a client without a host to verify does not exist") {
    for (library by : {library::openssl, library::mbedtls}) {
        CHECK_FALSE(client(by)->open(""));
        CHECK_FALSE(client(by)->open("."));
    }
}

TEST_CASE("an insecure client is asked for in words, and its peer is not verified") {
    for (library by : {library::openssl, library::mbedtls}) {
        auto s = server(by, "wronghost");
        auto c = by == library::openssl ? boxed(openssl_client::insecure_without_verification())
                                        : boxed(mbedtls_client::insecure_without_verification());
        line l{c->open("localhost"), s->open(), 1400};
        l.establish();
        CHECK_FALSE(l.client->peer().verified);
        CHECK(l.client->peer().subject.empty());
    }
}

TEST_CASE("a client without a certificate, or with a bad one, is refused by mutual TLS") {
    each([](const pairing& p, std::size_t cut) {
        if (cut != cuts[0] && cut != cuts[3]) return;
        for (const char* certificate : {static_cast<const char*>(nullptr), "client-other", "client-expired"}) {
            auto s = server(p.server, "server", "ca");
            auto c = client(p.client, certificate);
            line l{c->open("localhost"), s->open(), cut};
            const auto [of_client, of_server] = l.handshake();
            CHECK(of_server == prom::tls_status::failed);
            CHECK_FALSE(l.server->last_error().empty());
            // TLS 1.3: the client is done before the server has looked; it learns by its first read.
            std::string nothing;
            CHECK((of_client == prom::tls_status::ok || of_client == prom::tls_status::failed));
            CHECK(read_all(l, *l.client, nothing) == prom::tls_status::failed);
            CHECK(nothing.empty());
        }
    });
}

TEST_CASE("plain HTTP fed to a TLS server is a failure, at once, and for good") {
    for (library by : {library::openssl, library::mbedtls}) {
        auto s = server(by)->open();
        std::string_view request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        auto last = prom::tls_status::need_input;
        for (char c : request) {
            s->feed({&c, 1});
            last = s->handshake();
            if (last == prom::tls_status::failed) break;
        }
        CHECK(last == prom::tls_status::failed);
        CHECK_FALSE(s->last_error().empty());
        char some[100];
        CHECK(s->handshake() == prom::tls_status::failed);
        CHECK(s->read(some).status == prom::tls_status::failed);
        CHECK(s->write(request).status == prom::tls_status::failed);
        CHECK(s->feed(request).status == prom::tls_status::failed);
        CHECK(s->shutdown() == prom::tls_status::failed);
    }
}

TEST_CASE("300 kB each way, 30 kB in small pieces, arrive whole while both directions stay bounded") {
    each([](const pairing& p, std::size_t cut) {
        auto s = server(p.server, "server", "ca");
        auto c = client(p.client, "client");
        line l{c->open("localhost"), s->open(), cut};
        l.establish();
        const std::size_t size = cut < 1000 ? 30000 : 300000;
        const std::string up = pattern(size, 1), down = pattern(size, 2);
        std::string got_up, got_down;
        std::size_t sent_up = 0, sent_down = 0;
        const auto push = [](prom::tls_session& at, const std::string& all, std::size_t& sent) {
            std::size_t without_drain = 0;
            for (;;) {
                // Another address each time, as a refilled buffer would be.
                const std::string copy = all.substr(sent, 20000);
                const auto w = at.write(copy);
                sent += w.consumed;
                without_drain += w.consumed;
                REQUIRE(without_drain <= 65536);
                if (w.status != prom::tls_status::ok || sent == all.size()) return w.status;
            }
        };
        const auto pull = [](prom::tls_session& at, std::string& into) {
            for (;;) {
                char some[5000];
                const auto r = at.read(some);
                into.append(some, r.produced);
                if (r.status != prom::tls_status::ok) return r.status;
            }
        };
        bool moved = true;
        while (moved) {
            const auto before = sent_up + sent_down;
            const auto a = push(*l.client, up, sent_up), b = push(*l.server, down, sent_down);
            REQUIRE(a != prom::tls_status::failed);
            REQUIRE(b != prom::tls_status::failed);
            moved = l.carry() || sent_up + sent_down != before;
            REQUIRE(pull(*l.server, got_up) == prom::tls_status::need_input);
            REQUIRE(pull(*l.client, got_down) == prom::tls_status::need_input);
        }
        CHECK((got_up == up));
        CHECK((got_down == down));

        // Octets that are not read are taken up to a limit.
        std::size_t taken = 0, from = 0;
        for (bool stuck = false; !stuck;) {
            l.client->write(pattern(16000, 3));
            char some[20000];
            const std::size_t n = l.client->drain(some).produced;
            for (from = 0; from < n;) {
                const auto fed = l.server->feed({some + from, n - from});
                from += fed.consumed;
                taken += fed.consumed;
                if (fed.consumed == 0) {
                    stuck = true;
                    break;
                }
            }
            REQUIRE(taken <= 65536);
        }
    });
}

TEST_CASE("close_notify ends a stream, in both directions; octets before it arrive") {
    each([](const pairing& p, std::size_t cut) {
        auto s = server(p.server);
        auto c = client(p.client);
        line l{c->open("localhost"), s->open(), cut};
        l.establish();
        CHECK(l.server->write(std::string_view("bye")).consumed == 3);
        while (l.carry()) {}
        CHECK(l.server->shutdown() == prom::tls_status::closed);
        CHECK(l.server->shutdown() == prom::tls_status::closed);
        std::string got;
        CHECK(read_all(l, *l.client, got) == prom::tls_status::closed);
        CHECK(got == "bye");
        CHECK(l.client->shutdown() == prom::tls_status::closed);
        CHECK(read_all(l, *l.server, got) == prom::tls_status::closed);
    });
}

TEST_CASE("h2 is never chosen: http/1.1 when it is offered, else no protocol and no alert") {
    struct offer {
        const char* wire;
        unsigned size;
        const char* chosen;
    };
    for (library by : {library::openssl, library::mbedtls})
        for (const offer& o : {offer{"\x02h2\x08http/1.1", 12, "http/1.1"}, {"\x08http/1.1\x02h2", 12, "http/1.1"}, {"\x02h2", 3, ""}}) {
            CAPTURE(o.size);
            auto s = server(by)->open();
            SSL_CTX* context = SSL_CTX_new(TLS_client_method());
            SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(o.wire), o.size);
            auto c = openssl_detail::session::make(context, false, "localhost", false);  // OpenSSL without our offer
            SSL_CTX_free(context);
            line l{std::move(c), std::move(s), 1400};
            l.establish();
            CHECK(l.server->peer().alpn == (by == library::openssl ? o.chosen : ""));
            CHECK(l.client->peer().alpn == l.server->peer().alpn);
        }
}

TEST_CASE("a stream that is not closed by the peer never reads as closed") {
    for (const pairing& p : pairings) {
        auto s = server(p.server);
        auto c = client(p.client);
        line l{c->open("localhost"), s->open(), 1400};
        l.establish();
        l.server->write(std::string_view("half"));
        std::string got;
        CHECK(read_all(l, *l.client, got) == prom::tls_status::need_input);
        CHECK(got == "half");
    }
}

TEST_CASE("a changed octet on the way is a failure, not data") {
    for (const pairing& p : pairings) {
        auto s = server(p.server);
        auto c = client(p.client);
        line l{c->open("localhost"), s->open(), 1400};
        l.establish();
        l.server->write(std::string_view("true"));
        char some[1000];
        const std::size_t n = l.server->drain(some).produced;
        REQUIRE(n > 10);
        some[n - 1] = static_cast<char>(some[n - 1] ^ 1);
        CHECK(l.client->feed({some, n}).consumed == n);
        char plain[100];
        const auto r = l.client->read(plain);
        CHECK(r.status == prom::tls_status::failed);
        CHECK(r.produced == 0);
    }
}

TEST_CASE("a reload serves the new certificate from then on, and running sessions keep the old one") {
    for (const pairing& p : pairings) {
        CAPTURE(p.name);
        const std::string pem = files().dir + "/live.pem", key = files().dir + "/live.key";
        files().copy(files().pem("server"), pem);
        files().copy(files().key("server"), key);
        auto s = server(p.server, "live");
        auto c = client(p.client);
        line first{c->open("localhost"), s->open(), 1400};  // its handshake comes after the reload
        files().copy(files().pem("server2"), pem);
        files().copy(files().key("server2"), key);
        CHECK(s->reload());
        line second{c->open("localhost"), s->open(), 1400};
        first.establish();
        second.establish();
        CHECK(first.client->peer().fingerprint != second.client->peer().fingerprint);

        {  // a bad pair keeps the one in use, and says which file is bad
            const auto refused = [&](const char* what) {
                const auto done = s->reload();
                REQUIRE_FALSE(bool(done));
                CHECK(done.why().code() == prom::errc::tls);
                CHECK(std::string_view(done.why().describe()).find(what) != std::string_view::npos);
                line third{c->open("localhost"), s->open(), 1400};
                third.establish();
                CHECK(third.client->peer().fingerprint == second.client->peer().fingerprint);
            };
            files().copy(files().key("server"), key);
            refused("live");
            files().copy(files().pem("broken"), pem);
            refused("cannot load certificate");
            certs::run("rm -f " + pem);
            refused("live.pem");
            files().copy(files().pem("server"), pem);
            certs::run("rm -f " + key);
            refused("cannot load key");
        }
        std::string got;
        CHECK(second.server->write(std::string_view("still here")).consumed == 10);
        CHECK(read_all(second, *second.client, got) == prom::tls_status::need_input);
        CHECK(got == "still here");
    }
}

TEST_CASE("a server that follows its files reloads them by itself and tells of a bad pair once") {
    static double now = 100;
    prom::set_clock({[] { return now; }, [] { return now; }});
    for (library by : {library::openssl, library::mbedtls}) {
        const std::string pem = files().dir + "/live.pem", key = files().dir + "/live.key";
        files().copy(files().pem("server"), pem);
        files().copy(files().key("server"), key);
        auto s = server(by, "live");
        auto c = client(by);
        int rejected = 0;
        s->follow([](const prom::event& e, void* n) {
            *static_cast<int*>(n) += e.kind == prom::event_kind::certificate_rejected;
            throw 1;  // is dropped
        }, &rejected);
        const auto fingerprint = [&] {
            line l{c->open("localhost"), s->open(), 1400};
            l.establish();
            return l.client->peer().fingerprint;
        };
        const std::string old = fingerprint();
        certs::run("cp " + files().pem("server2") + " " + pem + ".new && mv " + pem + ".new " + pem);
        CHECK(fingerprint() == old);  // it has just looked
        now += 1;
        CHECK(fingerprint() == old);  // the key does not match yet
        CHECK(rejected == 1);
        now += 1;
        CHECK(fingerprint() == old);
        CHECK(rejected == 1);
        certs::run("cp " + files().key("server2") + " " + key + ".new && mv " + key + ".new " + key);
        now += 1;
        CHECK(fingerprint() != old);
        CHECK(rejected == 1);
        now += 1;
    }
    prom::set_clock(prom::system_clock());
}

TEST_CASE("files that are missing, or do not belong together, are refused when a server starts") {
    const auto refused = [](const auto& made) { return made ? std::string() : std::string(made.why().describe()); };
    const certs& f = files();
    CHECK(refused(openssl_server::load("/nowhere/a.pem", f.key("server"))).find("/nowhere/a.pem") != std::string::npos);
    CHECK(refused(mbedtls_server::load("/nowhere/a.pem", f.key("server"))).find("/nowhere/a.pem") != std::string::npos);
    CHECK_FALSE(refused(openssl_server::load(f.pem("server"), f.key("client"))).empty());
    CHECK(refused(mbedtls_server::load(f.pem("server"), f.key("client"))).find("does not match") != std::string::npos);
    CHECK(refused(openssl_server::load(f.pem("server"), f.key("server"), f.pem("broken"))).find("cannot load CA") != std::string::npos);
    CHECK(refused(mbedtls_server::load(f.pem("server"), f.key("server"), f.pem("broken"))).find("cannot load CA") != std::string::npos);
    CHECK_FALSE(refused(openssl_client::load(f.pem("broken"))).empty());
    CHECK_FALSE(refused(mbedtls_client::load(f.pem("broken"))).empty());
}
