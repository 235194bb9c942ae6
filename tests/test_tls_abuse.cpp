// Rooms [62], [64].
// libs: -lssl -lcrypto -lcrypt -lmbedtls -lmbedx509 -lmbedcrypto
// needs-network
// needs-threads
//
// Clients that break TLS on purpose, against the server over both adapters, and as a web configuration file says: by a socket
// without a kernel and a clock that the test moves. Each connection ends in its time, and each session with it.
#define PROMETHEUS_ASYNC_DETAIL_STEP() static_cast<void>(0)  // so that this is compiled alone
#include "support/system.hpp"
#include "support/forwarding_session.hpp"

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "examples/tls_mbedtls.hpp"
#include "examples/web_config.hpp"
#include "support/certs.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace prom = prometheus_async;
using prom::detail::http_connection;
using prom::detail::interest;

namespace {

const bool long_form = std::getenv("TLS_CUTS") != nullptr;  // each octet, each record: takes minutes

const certs& files() {
    static const certs made;
    return made;
}

/// A session that is counted.
struct counted final : forwarding_session {
    static inline int living = 0;
    explicit counted(prom::owned<prom::tls_session> real) : forwarding_session(std::move(real)) { ++living; }
    ~counted() override { --living; }
};
/// A server without sockets, over one of the adapters.
struct service : prom::detail::http_service {
    prom::tls_config real;
    int failed = 0;
    explicit service(const prom::tls_config& by) : real(by) {
        routes.push_back({"/", "the text of the page\n", "text/plain", {}, true, false});
        tls = {[](void* self, std::string_view host) noexcept {
                   const prom::tls_config& r = static_cast<service*>(self)->real;
                   return prom::owned<prom::tls_session>(new counted(r.open(r.context, host)));
               },
               this};
        context = this;
        on_event = [](const prom::event& e, void* self) { static_cast<service*>(self)->failed += e.kind == prom::event_kind::handshake_failed; };
    }
};
/// One connection to it.
struct wire {
    service& on;
    double now = 1000;
    int fd = test_system::next_peer++;
    test_system::peer& peer = test_system::peers[fd];
    std::unique_ptr<http_connection> made;
    http_connection& c = *made;

    explicit wire(service& s) : on(s), made(new http_connection(s, fd, now)) {}
    wire(const wire&) = delete;
    ~wire() {
        made.reset();
        CHECK(peer.closed);
        test_system::peers.erase(fd);
    }
    bool due() const {
        const bool can_read = !peer.to_server.empty() || peer.fin || peer.recv_error != 0;
        return !c.closed() && (((c.wants() & interest::read) != interest::none && can_read) ||
                               ((c.wants() & interest::write) != interest::none && peer.room != 0));
    }
    void go() {
        for (int turns = 0; due(); ++turns) {
            REQUIRE(turns < 3000);
            on.handshake_done = false;
            c.run(now);
        }
    }
    /// Lets time pass until the connection is closed; returns how long that took.
    double outlast() {
        const double from = now;
        for (int i = 0; !c.closed(); ++i) {
            REQUIRE(i < 10);
            now = c.deadline() + 0.001;
            c.expire(now);
            go();
        }
        return now - from;
    }
};

/// A client made of OpenSSL, which does what it is told to.
struct client {
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL* ssl = nullptr;
    BIO *in = nullptr, *out = nullptr;
    std::string got;

    explicit client(int version, bool certificate = false, void (*prepare)(SSL_CTX*) = nullptr) {
        SSL_CTX_set_min_proto_version(context, version);
        SSL_CTX_set_max_proto_version(context, version);
        if (certificate) {
            REQUIRE(SSL_CTX_use_certificate_chain_file(context, files().pem("client").c_str()) == 1);
            REQUIRE(SSL_CTX_use_PrivateKey_file(context, files().key("client").c_str(), SSL_FILETYPE_PEM) == 1);
        }
        if (prepare) prepare(context);
        begin();
    }
    client(const client&) = delete;
    ~client() {
        SSL_free(ssl);
        SSL_CTX_free(context);
    }
    /// A connection more of the same client.
    void begin() {
        if (ssl) SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);  // so that its session stays good
        SSL_free(ssl);
        ssl = SSL_new(context);
        SSL_set_bio(ssl, in = BIO_new(BIO_s_mem()), out = BIO_new(BIO_s_mem()));
        SSL_set_connect_state(ssl);
        SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, const_cast<char*>("localhost"));
    }
    bool done() const { return SSL_is_init_finished(ssl) != 0; }
    void step() {
        if (!done()) SSL_do_handshake(ssl);
        char some[4096];
        for (int n; done() && (n = SSL_read(ssl, some, sizeof some)) > 0;) got.append(some, static_cast<std::size_t>(n));
        ERR_clear_error();
    }
    std::string sends() {
        std::string octets(BIO_ctrl_pending(out), '\0');
        if (!octets.empty()) BIO_read(out, octets.data(), static_cast<int>(octets.size()));
        return octets;
    }
    void say(std::string_view text) { SSL_write(ssl, text.data(), static_cast<int>(text.size())); }
};
/// Carries octets until no more come; what the client sends goes through `change`.
template <class Change>
void converse(client& c, wire& w, Change change) {
    for (int quiet = 0; quiet != 2;) {
        c.step();
        const std::string there = change(c.sends());
        w.peer.to_server += there;
        w.go();
        const std::string back = std::exchange(w.peer.from_server, {});
        if (!back.empty()) BIO_write(c.in, back.data(), static_cast<int>(back.size()));
        quiet = there.empty() && back.empty() ? quiet + 1 : 0;
    }
}
void converse(client& c, wire& w) {
    converse(c, w, [](std::string octets) { return octets; });
}
constexpr std::string_view request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
bool served(client& c, wire& w) {
    c.got.clear();
    c.say(request);
    converse(c, w);
    return c.got.find("the text of the page") != std::string::npos;
}

struct kind {
    const char* name;
    prom::tls_config by;
    int version;
    bool certificate;
};
/// Each adapter, version of TLS, and both with and without client certificates.
template <class Act>
void each(Act act) {
    const std::string yml = files().dir + "/web.yml";
    std::ofstream(yml) << "tls_server_config:\n  cert_file: " << files().pem("server") << "\n  key_file: " << files().key("server")
                       << "\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: " << files().pem("ca") << "\n";
    static auto o = openssl_server::load(files().pem("server"), files().key("server")).value();
    static auto oc = openssl_server::load(files().pem("server"), files().key("server"), files().pem("ca")).value();
    static auto m = mbedtls_server::load(files().pem("server"), files().key("server")).value();
    static auto mc = mbedtls_server::load(files().pem("server"), files().key("server"), files().pem("ca")).value();
    static auto web = web_config::load(yml).value();
    for (const kind& k : {kind{"OpenSSL, TLS 1.3", o.hook(), TLS1_3_VERSION, false}, kind{"OpenSSL, TLS 1.2", o.hook(), TLS1_2_VERSION, false},
                          kind{"OpenSSL, TLS 1.2, mutual", oc.hook(), TLS1_2_VERSION, true}, kind{"mbedTLS, TLS 1.2", m.hook(), TLS1_2_VERSION, false},
                          kind{"mbedTLS, TLS 1.2, mutual", mc.hook(), TLS1_2_VERSION, true}, kind{"web configuration, TLS 1.3, mutual", web.tls(), TLS1_3_VERSION, true}}) {
        CAPTURE(k.name);
        act(k);
        CHECK(counted::living == 0);
    }
}

/// A record with this content.
std::string record(int type, std::string_view content, int version = 0x0303) {
    std::string r{static_cast<char>(type), static_cast<char>(version >> 8), static_cast<char>(version), static_cast<char>(content.size() >> 8), static_cast<char>(content.size())};
    return r.append(content);
}
/// The records of a text of octets, each with its head.
std::vector<std::string> records_of(std::string_view octets) {
    std::vector<std::string> all;
    while (!octets.empty()) {
        const std::size_t size = std::size_t{5} + 256u * static_cast<unsigned char>(octets[3]) + static_cast<unsigned char>(octets[4]);
        all.emplace_back(octets.substr(0, size));
        octets.remove_prefix(size);
    }
    return all;
}

}  // namespace

TEST_CASE("a client that sends only the first octets of all it has to say, and then ends in any way, is gone in its time") {
    each([](const kind& k) {
        service s(k.by);
        std::size_t all = 0;
        {
            wire w(s);
            client c(k.version, k.certificate);
            const auto counting = [&](std::string octets) { return all += octets.size(), octets; };
            converse(c, w, counting);
            REQUIRE(c.done());
            c.say(request);
            SSL_shutdown(c.ssl);
            converse(c, w, counting);
            CHECK(c.got.find("the text of the page") != std::string::npos);
            CHECK(w.outlast() < 3);
        }
        CHECK(s.failed == 0);
        enum class end { fin, reset, silence, notify };
        for (std::size_t cut = 0; cut < all; cut += long_form ? 1 : 211) {
            for (end how : {end::fin, end::reset, end::silence, end::notify}) {
                CAPTURE(cut);
                CAPTURE(static_cast<int>(how));
                wire w(s);
                client c(k.version, k.certificate);
                std::size_t sent = 0;
                const auto first = [&](std::string octets) {
                    octets.resize(std::min(octets.size(), cut - sent));
                    sent += octets.size();
                    return octets;
                };
                converse(c, w, first);
                if (c.done()) {
                    c.say(request);
                    converse(c, w, first);
                }
                if (how == end::notify) w.peer.to_server += record(21, std::string_view("\1\0", 2));
                w.peer.fin = how == end::fin;
                w.peer.recv_error = how == end::reset ? ECONNRESET : 0;
                w.go();
                if (how == end::fin || how == end::reset) CHECK(w.c.closed());
                CHECK(w.outlast() < 21);
            }
            CHECK(counted::living == 0);
        }
    });
}

TEST_CASE("a close_notify in the middle of a handshake ends it at once") {
    each([](const kind& k) {
        service s(k.by);
        wire w(s);
        client c(k.version, k.certificate);
        c.step();
        w.peer.to_server = c.sends();
        w.go();
        CHECK(w.peer.from_server.size() > 500);  // the server's flight
        w.peer.to_server = record(21, std::string_view("\1\0", 2));
        w.go();
        CHECK(s.failed == 1);
        CHECK(w.outlast() < 3);
    });
}

TEST_CASE("records that do not belong there end a handshake, or are passed over, and never hold a connection beyond its time") {
    std::vector<std::string> odd;
    for (int type : {0, 20, 21, 22, 23, 24, 255})
        for (std::string_view content : {std::string_view(), std::string_view("\1", 1), std::string_view("\1\0", 2), std::string_view("\2\0", 2),
                                         std::string_view("\1\144", 2), std::string_view("\1\132", 2), std::string_view("\2\50", 2),
                                         std::string_view("\0\0\0\0", 4), std::string_view("\30\0\0\1\1", 5), std::string_view("\1\377\377\377", 4)})
            odd.push_back(record(type, content));
    odd.push_back(record(22, std::string(16384, 'x')));
    odd.push_back(record(22, std::string(16385, 'x')));
    odd.push_back(record(22, std::string(65535, '\1')));
    odd.push_back(record(22, "\1", 0));
    odd.push_back(record(22, "\1", 0xffff));
    odd.push_back(std::string("\x80\x2e\1\3\1\0\x15\0\0\0\x10", 11) + std::string(40, 'x'));  // of SSL 2
    each([&](const kind& k) {
        for (std::size_t place = 0; place != 4; ++place)
            for (std::size_t which = long_form ? 0 : place % 3; which < odd.size(); which += long_form ? 1 : 3) {
                CAPTURE(place);
                CAPTURE(which);
                service s(k.by);
                wire w(s);
                client c(k.version, k.certificate);
                std::size_t at = 0;
                converse(c, w, [&](const std::string& octets) {
                    std::string all;
                    for (const std::string& r : records_of(octets)) {
                        if (at++ == place)
                            for (int i = 0; i != ((which + place) % 2 ? 1 : 50); ++i) all += odd[which];
                        all += r;
                    }
                    return all;
                });
                if (c.done() && !w.c.closed()) c.say(request);
                converse(c, w);
                CHECK(w.outlast() < 21);
                CHECK(s.failed <= 1);
            }
    });
}

TEST_CASE("a handshake in records of one octet, and requests in records of one octet and of the most, are served or refused at once") {
    each([](const kind& k) {
        service s(k.by);
        {
            wire w(s);
            client c(k.version, k.certificate);
            bool plain = true;
            converse(c, w, [&](const std::string& octets) {
                std::string all;
                for (const std::string& r : records_of(octets)) {
                    plain = plain && r[0] == 22;
                    if (!plain) all += r;
                    else
                        for (char octet : r.substr(5)) all += record(22, {&octet, 1});
                }
                return all;
            });
            if (c.done()) CHECK(served(c, w));
            else CHECK(s.failed == 1);  // mbedTLS before 3.6.3 takes no divided messages
            CHECK(w.outlast() < 21);
        }
        wire w(s);
        client c(k.version, k.certificate);
        converse(c, w);
        REQUIRE(c.done());
        for (char octet : request) c.say({&octet, 1});
        converse(c, w);
        CHECK(c.got.find("the text of the page") != std::string::npos);

        wire full(s);
        client many(k.version, k.certificate);
        converse(many, full);
        std::string text;
        int asked = 0;
        for (const std::string one = "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"; text.size() + one.size() < 16384; ++asked) text += one;
        many.say(text + "\r\n\r\n\r\n");
        converse(many, full);
        int answered = 0;
        for (std::size_t i = 0; (i = many.got.find("HTTP/1.1 404", i)) != std::string::npos; ++i) ++answered;
        CHECK(answered == asked);
    });
}

TEST_CASE("no renegotiation, no early data and no ticket is granted, and to ask for them again and again costs the server nothing that stays") {
    each([](const kind& k) {
        service s(k.by);
        wire w(s);
        client c(k.version, k.certificate);
        converse(c, w);
        REQUIRE(c.done());
        CHECK(SSL_SESSION_has_ticket(SSL_get0_session(c.ssl)) == 0);
        for (int i = 0; i != 100 && !w.c.closed(); ++i) {
            if (k.version == TLS1_3_VERSION) SSL_key_update(c.ssl, SSL_KEY_UPDATE_REQUESTED);
            else SSL_renegotiate(c.ssl);
            SSL_do_handshake(c.ssl);
            w.peer.to_server += c.sends();
            w.go();
        }
        CHECK(w.peer.from_server.size() < 100 * 64);
        CHECK(w.outlast() < 21);
    });
}

TEST_CASE("a client that has all its keys changed and reads nothing makes the server keep no more than some records") {
    each([](const kind& k) {
        if (k.version != TLS1_3_VERSION) return;
        service s(k.by);
        wire w(s);
        client c(k.version, k.certificate);
        converse(c, w);
        REQUIRE(c.done());
        w.peer.room = 0;
        for (int i = 0; i != 20'000; ++i) {
            SSL_key_update(c.ssl, SSL_KEY_UPDATE_REQUESTED);
            SSL_do_handshake(c.ssl);
            w.peer.to_server += c.sends();
            w.go();
        }
        CHECK(w.peer.to_server.size() > 100'000);  // not read
        CHECK(w.outlast() < 60);
    });
}

TEST_CASE("early data is not taken for a request") {
    // A session with a ticket, from a server that gives tickets and takes early data.
    each([](const kind& k) {
        if (k.version != TLS1_3_VERSION) return;
        client c(k.version, k.certificate);
        static SSL_SESSION* kept;
        kept = nullptr;
        SSL_CTX_set_session_cache_mode(c.context, SSL_SESS_CACHE_CLIENT);
        SSL_CTX_sess_set_new_cb(c.context, [](SSL*, SSL_SESSION* given) { return SSL_SESSION_free(std::exchange(kept, given)), 1; });
        SSL_CTX* const generous = SSL_CTX_new(TLS_server_method());
        REQUIRE(SSL_CTX_use_certificate_chain_file(generous, files().pem("server").c_str()) == 1);
        REQUIRE(SSL_CTX_use_PrivateKey_file(generous, files().key("server").c_str(), SSL_FILETYPE_PEM) == 1);
        SSL_CTX_set_max_early_data(generous, 16384);
        SSL* const peer = SSL_new(generous);
        BIO *to = BIO_new(BIO_s_mem()), *from = BIO_new(BIO_s_mem());
        SSL_set_bio(peer, to, from);
        SSL_set_accept_state(peer);
        for (int i = 0; i != 6; ++i) {
            c.step();
            const std::string there = c.sends();
            if (!there.empty()) BIO_write(to, there.data(), static_cast<int>(there.size()));
            char some[1];
            SSL_is_init_finished(peer) ? SSL_read(peer, some, 1) : SSL_do_handshake(peer);
            ERR_clear_error();
            std::string back(BIO_ctrl_pending(from), '\0');
            if (back.empty()) continue;
            BIO_read(from, back.data(), static_cast<int>(back.size()));
            BIO_write(c.in, back.data(), static_cast<int>(back.size()));
        }
        SSL_free(peer);
        SSL_CTX_free(generous);
        REQUIRE(kept);
        REQUIRE(SSL_SESSION_get_max_early_data(kept) > 0);

        service s(k.by);
        wire w(s);
        c.begin();
        REQUIRE(SSL_set_session(c.ssl, kept) == 1);
        std::size_t written = 0;
        const std::string_view early = "GET / HTTP/1.1\r\nHost: early\r\n\r\n";
        CHECK(SSL_write_early_data(c.ssl, early.data(), early.size(), &written) == 1);
        converse(c, w);
        CHECK(c.got.empty());
        CHECK(SSL_get_early_data_status(c.ssl) != SSL_EARLY_DATA_ACCEPTED);
        CHECK((w.c.closed() || served(c, w)));
        SSL_SESSION_free(kept);
        CHECK(w.outlast() < 21);
    });
}

TEST_CASE("protocols that make no sense to ALPN are refused, or no protocol is chosen") {
    static std::string offer;
    std::vector<std::string> offers{std::string("\10http/1.1", 9), std::string("\2h2\10http/1.1", 12), std::string("\2h2", 3), std::string("\1h", 2), std::string("\10http/1.0\10http/1.1", 18)};
    offers.emplace_back(std::string("\xff") + std::string(255, 'x'));
    std::string many;
    while (many.size() < 16000) many += "\1x";
    offers.push_back(many + std::string("\10http/1.1", 9));
    each([&](const kind& k) {
        for (std::size_t i = 0; i != offers.size(); ++i) {
            CAPTURE(i);
            offer = offers[i];
            service s(k.by);
            wire w(s);
            client c(k.version, k.certificate, [](SSL_CTX* context) {
                SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(offer.data()), static_cast<unsigned>(offer.size()));
            });
            converse(c, w);
            CHECK((c.done() || s.failed == 1));
            if (c.done()) {
                const unsigned char* chosen = nullptr;
                unsigned size = 0;
                SSL_get0_alpn_selected(c.ssl, &chosen, &size);
                CHECK((size == 0 || std::string(chosen, chosen + size) == "http/1.1"));
                CHECK(served(c, w));
            }
            CHECK(w.outlast() < 21);
        }
    });
}

TEST_CASE("after its close_notify a client is heard no more, whatever it sends") {
    each([](const kind& k) {
        for (std::string_view after : {std::string_view(), std::string_view("x"), std::string_view("\x15\3\3\0\2\1\0", 7),
                                       std::string_view("GET / HTTP/1.1\r\nHost: x\r\n\r\n")}) {
            service s(k.by);
            wire w(s);
            client c(k.version, k.certificate);
            converse(c, w);
            REQUIRE(c.done());
            c.say("GET / HTTP/1.1\r\n");
            SSL_shutdown(c.ssl);
            w.peer.to_server.append(c.sends()).append(after);
            w.go();
            c.got.clear();
            converse(c, w);
            CHECK(c.got.empty());
            CHECK(w.outlast() < 21);
        }
    });
}
