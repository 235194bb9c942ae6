// libs: -lssl -lcrypto -lmbedtls -lmbedx509 -lmbedcrypto
// needs-network
//
// The stream of room [62] over a socket pair with small buffers, plain and by both TLS adapters.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "examples/tls_mbedtls.hpp"
#include "examples/tls_openssl.hpp"
#include "support/certs.hpp"
#include "support/forwarding_session.hpp"

#include <doctest/doctest.h>

#include <fcntl.h>

namespace prom = prometheus_async;

namespace {

using prom::detail::stream;
using prom::detail::stream_status;

const certs& files() {
    static const certs made;
    return made;
}

struct sockets {
    int fd[2] = {-1, -1};
    sockets() {
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
        const int small = 4096;
        for (int f : fd) {
            ::fcntl(f, F_SETFL, O_NONBLOCK);
            ::setsockopt(f, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        }
    }
    void close(int i) {
        if (fd[i] >= 0) ::close(std::exchange(fd[i], -1));
    }
    ~sockets() { close(0), close(1); }
};

// What a loop would do: both sides go on as far as they can.
struct pair {
    sockets s;
    stream client{s.fd[0]}, server{s.fd[1]};
    char scratch[16384];

    std::pair<stream_status, stream_status> handshake() {
        auto c = stream_status::want_read, v = c;
        const auto over = [](stream_status x) { return x == stream_status::ok || x == stream_status::failed || x == stream_status::cut; };
        for (int turns = 0; turns < 1000 && !(over(c) && over(v)); ++turns) {
            if (!over(c)) c = client.handshake(scratch);
            if (!over(v)) v = server.handshake(scratch);
            if (client.pending()) (void)client.flush(scratch);
            if (server.pending()) (void)server.flush(scratch);
        }
        return {c, v};
    }
};

auto openssl_files() { return openssl_server::load(files().pem("server"), files().key("server")); }
auto mbedtls_files() { return mbedtls_server::load(files().pem("server"), files().key("server")); }

void each(auto&& f) {
    auto os = openssl_files().value();
    auto ms = mbedtls_files().value();
    auto oc = openssl_client::load(files().pem("ca")).value();
    auto mc = mbedtls_client::load(files().pem("ca")).value();
    for (const prom::tls_config& c : {oc.hook(), mc.hook()})
        for (const prom::tls_config& s : {os.hook(), ms.hook()}) f(c, s);
}

}  // namespace

TEST_CASE("a stream carries a megabyte each way through small sockets, plain and over TLS") {
    const auto exchange = [](pair& p) {
        std::string up(1 << 20, 'u'), down(1 << 20, 'd'), got_up, got_down;
        for (std::size_t i = 0; i != up.size(); ++i) up[i] = static_cast<char>(i * 31 >> 5), down[i] = static_cast<char>(i * 37 >> 4);
        std::size_t sent_up = 0, sent_down = 0;
        for (int turns = 0; turns < 100000 && got_up.size() + got_down.size() < up.size() * 2; ++turns) {
            const auto step = [&](stream& at, const std::string& out, std::size_t& sent, std::string& in) {
                const auto put = at.send(std::string_view(out).substr(sent, 50000), p.scratch);
                sent += put.bytes;
                REQUIRE(put.status != stream_status::failed);
                char some[7000];
                const auto got = at.receive(some, p.scratch);
                in.append(some, got.bytes);
                REQUIRE(got.status != stream_status::failed);
            };
            step(p.client, up, sent_up, got_down);
            step(p.server, down, sent_down, got_up);
        }
        CHECK((got_up == up));
        CHECK((got_down == down));
    };
    pair plain;
    exchange(plain);
    each([&](const prom::tls_config& c, const prom::tls_config& s) {
        pair p;
        REQUIRE(p.client.start_tls(c, "localhost"));
        p.server.expect_tls(s);
        const auto [a, b] = p.handshake();
        REQUIRE(a == stream_status::ok);
        REQUIRE(b == stream_status::ok);
        exchange(p);
        REQUIRE(p.client.peer());
        CHECK(p.client.peer()->subject == "CN=localhost");
    });
}

TEST_CASE("close_notify ends a TLS stream, and a mere end of the connection cuts it") {
    each([](const prom::tls_config& c, const prom::tls_config& s) {
        for (bool politely : {true, false}) {
            pair p;
            REQUIRE(p.client.start_tls(c, "localhost"));
            p.server.expect_tls(s);
            CHECK_FALSE(p.server.handshaking());
            REQUIRE(p.handshake().second == stream_status::ok);
            CHECK_FALSE(p.server.handshaking());
            CHECK(p.server.send("last words", p.scratch).bytes == 10);
            if (politely) CHECK(p.server.shutdown(p.scratch) == stream_status::ok);
            p.s.close(1);
            char some[100];
            const auto got = p.client.receive(some, p.scratch);
            CHECK(std::string_view(some, got.bytes) == "last words");
            CHECK(p.client.buffered());
            CHECK(p.client.receive(some, p.scratch).status == (politely ? stream_status::ended : stream_status::cut));
        }
    });
}

TEST_CASE("a TLS stream may hold octets after it gave some, and holds none after it gave nothing") {
    each([](const prom::tls_config& c, const prom::tls_config& s) {
        pair p;
        REQUIRE(p.client.start_tls(c, "localhost"));
        p.server.expect_tls(s);
        REQUIRE(p.handshake() == std::pair(stream_status::ok, stream_status::ok));
        CHECK(p.server.buffered());  // a request may have come with the handshake's end
        char some[100];
        CHECK(p.server.receive(some, p.scratch).status == stream_status::want_read);
        CHECK_FALSE(p.server.buffered());
        REQUIRE(p.client.send("octets", p.scratch).bytes == 6);
        CHECK(p.server.receive(some, p.scratch).bytes == 6);
        CHECK(p.server.buffered());
        CHECK(p.server.receive(some, p.scratch).status == stream_status::want_read);
        CHECK_FALSE(p.server.buffered());
    });
}

TEST_CASE("a peer that speaks no TLS is noticed by its first octet, without a session being made") {
    auto server = openssl_files().value();
    static int made;
    made = 0;
    static prom::tls_config inner;
    inner = server.hook();
    const prom::tls_config counting{[](void*, std::string_view host) noexcept {
                                        ++made;
                                        return inner.open(inner.context, host);
                                    },
                                    nullptr};
    for (std::string_view first : {"GET / HTTP/1.1\r\n\r\n", "\x80\x2e\x01", "\x15\x03\x01"}) {
        pair p;
        p.server.expect_tls(counting);
        CHECK(p.server.handshake(p.scratch) == stream_status::want_read);
        CHECK_FALSE(p.server.handshaking());
        REQUIRE(p.client.send(first, p.scratch).bytes == first.size());
        CHECK(p.server.handshake(p.scratch) == stream_status::failed);
        CHECK(p.server.plain_peer() == (first[0] == 'G'));
        if (!p.server.plain_peer()) continue;
        CHECK(p.server.send("this port speaks TLS", p.scratch).bytes == 20);
        char some[100];
        CHECK(p.client.receive(some, p.scratch).bytes == 20);
        CHECK(std::string_view(p.server.why().describe()) == "the peer speaks no TLS");
    }
    CHECK(made == 0);
}

TEST_CASE("a failed handshake says why, sends its alert, and stays failed") {
    each([](const prom::tls_config& c, const prom::tls_config& s) {
        pair p;
        REQUIRE(p.client.start_tls(c, "example.org"));
        p.server.expect_tls(s);
        const auto [a, b] = p.handshake();
        CHECK(a == stream_status::failed);
        CHECK(std::string_view(p.client.why().describe()).substr(0, 5) == "TLS: ");
        CHECK(p.client.send("x", p.scratch).status == stream_status::failed);
        char some[10];
        CHECK(p.client.receive(some, p.scratch).status == stream_status::failed);
        if (b == stream_status::ok) CHECK(p.server.receive(some, p.scratch).status == stream_status::failed);
        else CHECK(b == stream_status::failed);
    });
}

TEST_CASE("a handshake whose other side goes away is cut") {
    auto client = openssl_client::load(files().pem("ca")).value();
    pair p;
    REQUIRE(p.client.start_tls(client.hook(), "localhost"));
    CHECK(p.client.handshake(p.scratch) == stream_status::want_read);
    CHECK(p.client.handshaking());
    p.s.close(1);
    CHECK(p.client.handshake(p.scratch) != stream_status::ok);
}

TEST_CASE("what the socket takes of octets kept from before is progress, though nothing new is taken") {
    each([](const prom::tls_config& c, const prom::tls_config& s) {
        pair p;
        REQUIRE(p.client.start_tls(c, "localhost"));
        p.server.expect_tls(s);
        REQUIRE(p.handshake().second == stream_status::ok);
        const std::string much(1 << 20, 'x');
        std::size_t taken = 0;
        for (bool full = false; !full;) {
            const auto put = p.server.send(std::string_view(much).substr(taken), p.scratch);
            taken += put.bytes;
            full = put.status == stream_status::want_write;
        }
        REQUIRE(p.server.pending());
        bool seen = false;
        for (int i = 0; i != 50 && !seen; ++i) {  // the peer takes a little at a time
            char some[4096];
            (void)p.client.receive(some, p.scratch);
            const std::uint64_t before = p.server.sent();
            const auto put = p.server.send(std::string_view(much).substr(taken), p.scratch);
            taken += put.bytes;
            seen = put.bytes == 0 && p.server.sent() > before;
        }
        CHECK(seen);
    });
}

namespace {
/// A session that takes and gives a few octets at a time, as one with small buffers of its own does.
struct narrow final : forwarding_session {
    using forwarding_session::forwarding_session;
    prom::tls_io feed(std::span<const char> in) noexcept override { return inner->feed(in.first(in.size() < 7 ? in.size() : 7)); }
    prom::tls_io drain(std::span<char> out) noexcept override { return inner->drain(out.first(out.size() < 11 ? out.size() : 11)); }
};
prom::tls_config real_side[2];
template <int Side>
prom::owned<prom::tls_session> open_narrow(void*, std::string_view host) noexcept {
    return prom::owned<prom::tls_session>(new narrow(real_side[Side].open(real_side[Side].context, host)));
}
}  // namespace

TEST_CASE("ciphertext that a session did not take at once is not lost") {
    each([](const prom::tls_config& c, const prom::tls_config& s) {
        real_side[0] = c, real_side[1] = s;
        pair p;
        REQUIRE(p.client.start_tls({&open_narrow<0>, nullptr}, "localhost"));
        p.server.expect_tls({&open_narrow<1>, nullptr});
        const auto [a, b] = p.handshake();
        REQUIRE(a == stream_status::ok);
        REQUIRE(b == stream_status::ok);
        std::string said(5000, 's'), heard;
        for (std::size_t i = 0; i != said.size(); ++i) said[i] = static_cast<char>(i * 31 >> 3);
        std::size_t sent = 0;
        for (int turns = 0; turns != 20000 && heard.size() != said.size(); ++turns) {
            sent += p.client.send(std::string_view(said).substr(sent), p.scratch).bytes;
            char some[300];
            const auto got = p.server.receive(some, p.scratch);
            REQUIRE(got.status != stream_status::failed);
            heard.append(some, got.bytes);
        }
        CHECK((heard == said));
    });
}
