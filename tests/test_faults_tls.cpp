// Rooms [62], [64], [68].
// libs: -lssl -lcrypto -lmbedtls -lmbedx509 -lmbedcrypto
// needs-network
//
// Every system call of a server that asks for credentials fails, and every one of a client that has some, in clear and
// over TLS by both adapters.
#include "support/system.hpp"

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "examples/tls_mbedtls.hpp"
#include "examples/tls_openssl.hpp"
#include "support/certs.hpp"
#include "support/served.hpp"

#include <sys/wait.h>

namespace {

using prom::detail::stream_status;

std::size_t open_descriptors() {
    std::size_t n = 0;
    for (int fd = 0; fd != 256; ++fd) n += ::fcntl(fd, F_GETFD) >= 0;
    return n;
}
const std::string good = "Authorization: Bearer s3cret\r\n", wrong = "Authorization: Bearer guess\r\n";
std::string get(std::string_view path, const std::string& fields) { return "GET " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n" + fields + "\r\n"; }

/// Turns a client and its server so often; that may end anyhow.
struct visitor {
    caller c;
    std::string left{};
    bool plain;
    visitor(served& at, const prom::tls_config* tls) : c(at, 4096), plain(tls == nullptr) { if (tls) REQUIRE(c.s.start_tls(*tls, "localhost")); }
    void turn() {
        if (!plain && !c.s.secured()) {
            if (!c.over()) c.last = c.s.handshake(c.scratch);
            return;
        }
        if (const auto put = c.s.send(left, c.scratch); put.status != stream_status::failed) left.erase(0, put.bytes);
        else left.clear();
        c.take();
    }
};

struct failing_call {
    const char* name;
    std::vector<int> codes;
};
const failing_call failing_calls[] = {
    {"accept4", {ECONNABORTED, EMFILE, ENOMEM}},
    {"recv", {EINTR, EAGAIN, ECONNRESET, ENOMEM, -1}},
    {"send", {EINTR, EAGAIN, EPIPE, ENOBUFS, -1}},
    {"setsockopt", {EINVAL}},
    {"shutdown", {ENOTCONN}},
    {"close", {EINTR}},
#if !PROMETHEUS_ASYNC_POLLER_POLL && !defined(PROMETHEUS_ASYNC_POLLER_KQUEUE)
    {"epoll_ctl", {ENOMEM}},
#endif
};

}  // namespace

TEST_CASE("any call that fails once, or from then on for a while, leaves a server that serves over TLS and asks for credentials") {
    static const certs files;
    auto by_openssl = openssl_server::load(files.pem("server"), files.key("server"), "").value();
    auto by_mbedtls = mbedtls_server::load(files.pem("server"), files.key("server"), "").value();
    auto client = openssl_client::load(files.pem("ca")).value();
    const prom::tls_config with = client.hook(), sides[] = {{}, by_openssl.hook(), by_mbedtls.hook()};
    prom::registry mine;
    for (int i = 0; i != 20; ++i) mine.make_gauge("g" + std::to_string(i), std::string(900, 'h'));
    prom::registry* const one[] = {&mine};
    const prom::route routes[] = {{.path = "/", .text = "small"}, {.path = "/metrics", .registries = one}};
    const prom::credential accepted[] = {prom::bearer("s3cret")};

    int served_after = 0;
    for (const prom::tls_config& side : sides) {
        for (const failing_call& call : failing_calls) {
            for (int code : call.codes) {
                for (int at : {1, 2, 4, 9}) {
                    const bool once = (at + code) % 2 == 0;
                    CAPTURE(call.name);
                    CAPTURE(code);
                    CAPTURE(at);
                    served here({.tls = side, .credentials = accepted, .routes = routes});
                    const std::size_t before = open_descriptors();
                    int seen = 0;
                    {
                        visitor a(here, side ? &with : nullptr), b(here, side ? &with : nullptr);
                        a.left = get("/metrics", good) + get("/metrics", wrong);
                        b.left = get("/metrics", good) + "bad\r\n";
                        test_system::fault = [&, of_a = a.c.fd, of_b = b.c.fd](const char* name, int fd) {
                            if (fd == of_a || fd == of_b || std::strcmp(name, call.name) != 0) return 0;
                            ++seen;
                            if (code == EINTR && seen > at + 3) return 0;  // it interrupts, but not for ever
                            return seen == at || (!once && seen > at) ? code : 0;
                        };
                        for (int i = 0; i != 40; ++i) {
                            here.loop.poll(0);
                            a.turn();
                            if (i % 2) b.turn();
                        }
                        ::shutdown(a.c.fd, SHUT_WR);
                        here.pass(0.2);
                    }
                    here.pass(0.2);
                    test_system::fault = nullptr;
                    if (code != -1) CHECK(seen < 800);  // nothing spins
                    if (seen < at) continue;
                    for (int i = 0; i != 8; ++i) here.pass(11);  // stalls, pauses, idle connections
                    CHECK(open_descriptors() == before);
                    caller after(here);
                    if (side) REQUIRE(after.handshake(with));
                    after.ask("/metrics", good);
                    CHECK(after.status() == 200);
                    ++served_after;
                }
            }
        }
    }
    CHECK(served_after > 100);
}

namespace {

struct fetched {
    bool done = false;
    int answers = 0, status = 0;
    std::size_t octets = 0;
    prom::errc code{};
    std::string why{};
};
/// Two requests with secrets, on one connection.
prom::task<void> fetch(prom::event_loop& loop, const prom::detail::http_endpoint& to, const prom::tls_config& tls, fetched& out) {
    prom::detail::wait_scope scope;
    prom::detail::http_client client(loop, scope, to, tls);
    const prom::detail::http_request request{
        .method = "GET", .target = "/metrics", .secret_name = "X-Token", .secret = "t0ken", .body = {}, .authorization = "Bearer s3cret"};
    prom::result<void> connected = co_await client.connect(request);
    if (!connected) out.code = connected.why().code(), out.why = connected.why().describe();
    static_cast<void>(client.here().text() + client.there().text());
    while (connected && out.answers != 2) {
        auto answer = co_await client.exchange(request);
        if (!answer) {
            out.code = answer.why().code(), out.why = answer.why().describe();
            break;
        }
        ++out.answers;
        out.status = answer->status;
        out.octets += answer->body.size();
        if (!client.reusable()) break;
    }
    out.done = true;
}

const failing_call client_calls[] = {
    {"socket", {EMFILE, ENFILE, ENOBUFS, EACCES}},
    {"connect", {ECONNREFUSED, EINTR, EAGAIN, ENETUNREACH, EADDRNOTAVAIL}},
    {"getsockopt", {ENOBUFS}},
    {"setsockopt", {EINVAL}},
    {"getsockname", {ENOBUFS}},
    {"getpeername", {ENOTCONN}},
    {"fcntl", {EBADF}},
    {"recv", {EINTR, EAGAIN, ECONNRESET, ENOMEM, -1}},
    {"send", {EINTR, EAGAIN, EPIPE, ENOBUFS, -1}},
    {"close", {EINTR, EIO}},
#if !PROMETHEUS_ASYNC_POLLER_POLL && !defined(PROMETHEUS_ASYNC_POLLER_KQUEUE)
    {"epoll_ctl", {ENOMEM, ENOSPC}},
#endif
};

}  // namespace

TEST_CASE("any call of a client that fails once, or from then on, ends in an answer or an error without its secrets") {
    static const certs files;
    auto by_openssl = openssl_server::load(files.pem("server"), files.key("server"), "").value();
    auto by_mbedtls = mbedtls_server::load(files.pem("server"), files.key("server"), "").value();
    auto openssl = openssl_client::load(files.pem("ca")).value();
    auto mbedtls = mbedtls_client::load(files.pem("ca")).value();
    struct way {
        prom::tls_config server, client;
    };
    const way ways[] = {{{}, {}}, {by_openssl.hook(), mbedtls.hook()}, {by_mbedtls.hook(), openssl.hook()}};
    prom::registry mine;
    for (int i = 0; i != 20; ++i) mine.make_gauge("g" + std::to_string(i), std::string(900, 'h'));
    prom::registry* const one[] = {&mine};
    const std::size_t page = prom::expose({.registries = one}).size();
    const prom::route routes[] = {{.path = "/metrics", .registries = one}};
    const prom::credential accepted[] = {prom::bearer("s3cret")};

    int answered = 0, failed = 0;
    for (const way& by : ways) {
        served here({.tls = by.server, .credentials = accepted, .routes = routes});
        const auto to = *prom::detail::parse_endpoint("127.0.0.1", static_cast<bool>(by.client), here.server.port(), here.server.port());
        const std::size_t before = open_descriptors();
        bool ours = false;  // the client's loop turns, not the server's
        const auto run = [&](fetched& out) {
            prom::event_loop loop({.time = {[] { return served::now(); }, [] { return served::now() + 1.7e9; }}});
            loop.spawn(fetch(loop, to, by.client, out));
            for (int turns = 0; !out.done && turns != 4000; ++turns) {
                ours = true;
                loop.poll(0);
                ours = false;
                here.loop.poll(0);
                if (turns % 50 == 49) served::now() += 0.5;
            }
            CHECK(out.done);  // whatever happens, its deadlines hold
        };
        for (const failing_call& call : client_calls) {
            for (int code : call.codes) {
                for (int at : {1, 2, 3, 7, 12}) {
                    const bool once = (at + code) % 2 == 0;
                    CAPTURE(call.name);
                    CAPTURE(code);
                    CAPTURE(at);
                    int seen = 0;
                    test_system::fault = [&](const char* name, int) {
                        if (!ours || std::strcmp(name, call.name) != 0) return 0;
                        ++seen;
                        if ((code == EINTR || code == EAGAIN) && seen > at + 3) return 0;  // no system says so for ever of what is ready
                        return seen == at || (!once && seen > at) ? code : 0;
                    };
                    fetched out;
                    run(out);
                    test_system::fault = nullptr;
                    if (code != -1) CHECK(seen < 1000);  // nothing spins
                    if (out.answers == 2) {
                        CHECK(out.status == 200);
                        CHECK(out.octets == 2 * page);
                    } else if (out.answers == 0 || !out.why.empty()) {  // else the connection was not used again
                        CHECK((out.code == prom::errc::system || out.code == prom::errc::timeout || out.code == prom::errc::tls || out.code == prom::errc::protocol));
                        CHECK(!out.why.empty());
                        CHECK(out.why.find("s3cret") == out.why.npos);
                        CHECK(out.why.find("t0ken") == out.why.npos);
                    }
                    answered += out.answers == 2;
                    failed += out.answers != 2;
                    here.pass(2);  // the server lets go
                    CHECK(here.until([&] { return open_descriptors() == before; }));
                    if (seen < at) break;  // so often it is not called
                }
            }
        }
        fetched after;
        run(after);
        CHECK(after.answers == 2);
        CHECK(after.octets == 2 * page);
    }
    CHECK(answered > 50);
    CHECK(failed > 50);
}

TEST_CASE("a stream whose socket has failed once stays failed, though the socket would go on") {
    for (const char* name : {"recv", "send"}) {
        CAPTURE(name);
        int both[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, both) == 0);
        {
            prom::detail::stream s(both[0]);
            char into[16], scratch[16];
            REQUIRE(::send(both[1], "hello", 5, 0) == 5);
            bool once = true;
            test_system::fault = [&](const char* called, int) { return std::strcmp(called, name) == 0 && std::exchange(once, false) ? ECONNRESET : 0; };
            const auto first = std::strcmp(name, "recv") == 0 ? s.receive(into, scratch) : s.send("x", scratch);
            CHECK(first.status == stream_status::failed);
            test_system::fault = nullptr;
            CHECK(s.receive(into, scratch).status == stream_status::failed);
            CHECK(s.send("x", scratch).status == stream_status::failed);
        }
        for (const int fd : both) ::close(fd);
    }
}

TEST_CASE("close_notify is sent before the connection ends, also when the socket takes nothing for a while") {
    static const certs files;
    auto by_openssl = openssl_server::load(files.pem("server"), files.key("server"), "").value();
    auto by_mbedtls = mbedtls_server::load(files.pem("server"), files.key("server"), "").value();
    auto client = openssl_client::load(files.pem("ca")).value();
    for (const prom::tls_config& side : {by_openssl.hook(), by_mbedtls.hook()}) {
        served at({.tls = side});
        caller who(at);
        REQUIRE(who.handshake(client.hook()));
        who.ask("/nowhere");
        CHECK(who.status() == 404);
        int refused = 0;
        test_system::fault = [&](const char* name, int) { return std::strcmp(name, "send") == 0 && ++refused ? EAGAIN : 0; };
        at.pass(76);
        test_system::fault = nullptr;
        CHECK(refused > 0);
        CHECK(who.ends());
        CHECK(who.last == stream_status::ended);
    }
}

TEST_CASE("a descriptor that a client has closed is none of its own, in a child neither") {
    prom::event_loop loop;
    prom::detail::wait_scope scope;
    const int closed = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    REQUIRE(::bind(closed, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    REQUIRE(::getsockname(closed, reinterpret_cast<sockaddr*>(&at), &size) == 0);  // nobody listens there
    const auto to = *prom::detail::parse_endpoint("localhost", false, ntohs(at.sin_port), 443);
    prom::detail::http_client client(loop, scope, to, {});
    const prom::detail::http_request request{"GET", "/", {}};
    int sockets = 0, error = 0;
    test_system::fault = [&](const char* name, int) { return std::strcmp(name, "socket") == 0 && ++sockets == 2 ? EMFILE : 0; };
    loop.run([](prom::detail::http_client& by, const prom::detail::http_request& r, int& failed) -> prom::task<void> {
        failed = (co_await by.connect(r)).why().sys();
    }(client, request, error));
    test_system::fault = nullptr;
    CHECK(error == EMFILE);
    int ends[2];  // one of them has the number that the first socket had
    REQUIRE(::pipe(ends) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        prom::detail::loop_state::of(loop).close_copies();
        ::_exit(::fcntl(ends[0], F_GETFD) < 0 || ::fcntl(ends[1], F_GETFD) < 0);
    }
    int status = 1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    for (const int fd : {closed, ends[0], ends[1]}) ::close(fd);
}
