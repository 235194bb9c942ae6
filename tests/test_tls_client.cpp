// Rooms [62], [68].
// libs: -lssl -lcrypto -lmbedtls -lmbedx509 -lmbedcrypto
// needs-network
//
// The HTTP client, on which Consul's agent stands, over TLS by both adapters, against the server.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "examples/tls_mbedtls.hpp"
#include "examples/tls_openssl.hpp"
#include "support/certs.hpp"
#include "support/served.hpp"
#include "support/forwarding_session.hpp"

namespace {

const certs& files() {
    static const certs made;
    return made;
}

struct outcome {
    bool done = false;
    int status = 0;
    std::string body, why;
    prom::errc code{};
};
prom::task<void> fetch(prom::event_loop& loop, prom::detail::http_endpoint to, prom::tls_config tls, outcome& out) {
    prom::detail::wait_scope scope;
    prom::detail::http_client client(loop, scope, to, tls);
    const prom::detail::http_request request{.method = "GET", .target = "/metrics", .secret_name = {}};
    auto connected = co_await client.connect(request);
    if (connected) {
        auto answer = co_await client.exchange(request);
        if (answer) out.status = answer->status, out.body = answer->body;
        else out.why = answer.why().describe(), out.code = answer.why().code();
    } else {
        out.why = connected.why().describe(), out.code = connected.why().code();
    }
    out.done = true;
}
outcome ask(served& at, std::string_view host, const prom::tls_config& tls) {
    outcome out;
    at.loop.spawn(fetch(at.loop, *prom::detail::parse_endpoint("https://" + std::string(host), true, 80, at.server.port()), tls, out));
    CHECK(at.until([&] { return out.done; }));
    return out;
}
template <class Each>
void each_client(const char* ca, const char* certificate, Each&& f) {
    const std::string pem = certificate ? files().pem(certificate) : "", key = certificate ? files().key(certificate) : "";
    auto o = openssl_client::load(files().pem(ca), pem, key).value();
    auto m = mbedtls_client::load(files().pem(ca), pem, key).value();
    f(o.hook());
    f(m.hook());
}
template <class Each>
void each_server(const char* certificate, const char* ca, Each&& f) {
    const std::string trusted = ca ? files().pem(ca) : "";
    auto o = openssl_server::load(files().pem(certificate), files().key(certificate), trusted).value();
    auto m = mbedtls_server::load(files().pem(certificate), files().key(certificate), trusted).value();
    f(o.hook());
    f(m.hook());
}

}  // namespace

TEST_CASE("the client fetches a page over TLS of a server whose certificate is for the address it asked for") {
    each_server("server", nullptr, [](const prom::tls_config& s) {
        served at({.tls = s});
        each_client("ca", nullptr, [&](const prom::tls_config& c) {
            const outcome got = ask(at, "127.0.0.1", c);
            CHECK(got.status == 200);
            CHECK(got.why == "");
        });
    });
}

TEST_CASE("server and client speak TLS as guests of a host that is told of edges only") {
    const std::string text(300000, 'x');
    const prom::route routes[] = {{.path = "/metrics", .text = text}, {.path = "/", .text = "short"}};
    each_server("server", nullptr, [&](const prom::tls_config& s) {
        served at({.tls = s, .routes = routes});
        if (!at.host_by_edges()) return;
        each_client("ca", nullptr, [&](const prom::tls_config& c) {
            CHECK(ask(at, "127.0.0.1", c).body.size() == text.size());
            caller who(at, 4096);  // its buffer is small: the server waits for it in the midst of an answer
            REQUIRE(who.handshake(c));
            CHECK(who.ask("/metrics").size() > text.size());
            who.got.clear();
            std::string many;  // more than a turn serves, in few records
            for (int i = 0; i != 41; ++i) many += "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
            who.send(many);
            CHECK(at.until([&] {
                who.take();
                std::size_t answers = 0;
                for (std::size_t i = 0; (i = who.got.find("short", i)) != std::string::npos; ++i) ++answers;
                return answers == 41 || who.over();
            }));
        });
    });
}

TEST_CASE("the client shows its certificate where mutual TLS wants one") {
    each_server("server", "ca", [](const prom::tls_config& s) {
        served at({.tls = s});
        each_client("ca", "client", [&](const prom::tls_config& c) { CHECK(ask(at, "127.0.0.1", c).status == 200); });
        for (const char* bad : {static_cast<const char*>(nullptr), "client-other", "client-expired"})
            each_client("ca", bad, [&](const prom::tls_config& c) {
                const outcome got = ask(at, "127.0.0.1", c);
                CHECK(got.status == 0);
                CHECK(got.code == prom::errc::tls);
            });
    });
}

TEST_CASE("the client refuses another name, another authority and an expired certificate, and says which") {
    struct refusal {
        const char* certificate;
        const char* ca;
    };
    for (const refusal& r : {refusal{"wronghost", "ca"}, {"server", "other-ca"}, {"expired", "ca"}})
        each_server(r.certificate, nullptr, [&](const prom::tls_config& s) {
            served at({.tls = s});
            each_client(r.ca, nullptr, [&](const prom::tls_config& c) {
                CAPTURE(r.certificate);
                const outcome got = ask(at, "127.0.0.1", c);
                CHECK(got.status == 0);
                CHECK(got.code == prom::errc::tls);
                CHECK(got.why.find("TLS") != std::string::npos);
                CHECK(got.why.find(": ", got.why.find("TLS: ") + 5) != std::string::npos);  // the library's reason
            });
        });
}

TEST_CASE("https never falls back to plain HTTP") {
    served plain({});
    each_client("ca", nullptr, [&](const prom::tls_config& c) {
        const outcome got = ask(plain, "127.0.0.1", c);
        CHECK(got.status == 0);
        CHECK(got.body == "");
        CHECK(got.code == prom::errc::tls);
    });
    CHECK(ask(plain, "127.0.0.1", {}).code == prom::errc::invalid_option);
    CHECK(plain.told(prom::event_kind::authorization_failed) == 0);
}

namespace {
struct vanishing final : forwarding_session {  // ends without a close_notify
    using forwarding_session::forwarding_session;
    prom::tls_io read(std::span<char> out) noexcept override { return said ? prom::tls_io{prom::tls_status::closed, 0, 0} : inner->read(out); }
    prom::tls_io write(std::span<const char> in) noexcept override {
        // Half of what there is to say, and no length that would tell.
        constexpr std::string_view half = "HTTP/1.1 200 OK\r\n\r\nhalf of it";
        if (!std::exchange(said, true)) (void)inner->write(half);
        return {prom::tls_status::ok, in.size(), 0};
    }
    prom::tls_status shutdown() noexcept override { return prom::tls_status::closed; }
    bool said = false;
};
}  // namespace

TEST_CASE("an answer that is cut off over TLS is not taken for a whole one") {
    static auto s = openssl_server::load(files().pem("server"), files().key("server")).value();
    served at({.tls = {[](void*, std::string_view) noexcept {
                           const auto hook = s.hook();
                           return prom::owned<prom::tls_session>(new vanishing(hook.open(hook.context, {})));
                       },
                       nullptr}});
    each_client("ca", nullptr, [&](const prom::tls_config& c) {
        const outcome got = ask(at, "127.0.0.1", c);
        CHECK(got.status == 0);
        CHECK(got.body == "");
        CHECK(got.why != "");
    });
}
