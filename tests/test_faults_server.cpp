// Rooms [64], [66], [67].
// needs-network
#include "support/system.hpp"

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/answers.hpp"
#include "support/client.hpp"
#include <doctest/doctest.h>

namespace prom = prometheus_async;
using test_client::answer;
using test_client::client;

namespace {

double the_time = 5000;
double moved_clock() { return the_time; }

std::size_t open_descriptors() {
    std::size_t n = 0;
    for (int fd = 0; fd != 256; ++fd) n += ::fcntl(fd, F_GETFD) >= 0;
    return n;
}
std::string get(std::string_view target = "/") { return "GET " + std::string(target) + " HTTP/1.1\r\nHost: localhost\r\n\r\n"; }

/// A server on a loop that is turned by hand.
struct rig {
    prom::event_loop loop{{.time = {&moved_clock, prom::system_clock().wall}}};
    prom::registry mine;
    prom::result<prom::metrics_http_server> server{prom::error(prom::errc::canceled, "")};
    int told = 0;

    explicit rig(std::string_view addr = "127.0.0.1") {
        for (int i = 0; i != 40; ++i) mine.make_gauge("g" + std::to_string(i), std::string(900, 'h'));
        start(addr);
    }
    void start(std::string_view addr) {
        prom::registry* const one[] = {&mine};
        const prom::route routes[] = {{.path = "/", .text = "small"}, {.path = "/metrics", .registries = one}};
        loop.spawn([](rig& r, prom::task<prom::result<prom::metrics_http_server>> t) -> prom::task<void> { r.server = co_await std::move(t); }(
            *this, prom::start_http_server(loop, {.addr = addr, .routes = routes, .on_event = [](const prom::event&, void* n) { ++*static_cast<int*>(n); }, .context = &told})));
        for (int i = 0; i != 3; ++i) loop.poll(0);
    }
    /// One visit that may fail, as anything may: a request, a large answer, an error, an end.
    void visit() {
        client a("127.0.0.1", server->port()), b("127.0.0.1", server->port(), 2048);
        a.send(get() + get("/metrics"));
        b.send(get("/metrics") + "bad\r\n");
        for (int i = 0; i != 30; ++i) {
            loop.poll(0);
            a.receive();
            b.receive(3000);
        }
        a.half_close();
        b.reset();
        for (int i = 0; i != 5; ++i) loop.poll(0);
    }
    void pass(double seconds) {
        the_time += seconds;
        for (int i = 0; i != 5; ++i) loop.poll(0);
    }
    bool serves() {
        client c("127.0.0.1", server->port());
        return c.ask(loop, get()).body == "small" && c.ask(loop, get("/metrics")).status == 200;
    }
};

struct failing_call {
    const char* name;
    std::vector<int> codes;
};
const failing_call failing_calls[] = {
    {"accept4", {EINTR, ECONNABORTED, EPROTO, EPERM, ENETDOWN, EHOSTUNREACH, EOPNOTSUPP, ETIMEDOUT, EMFILE, ENFILE, ENOBUFS, ENOMEM, EAGAIN, EINVAL}},
    {"recv", {EINTR, EAGAIN, ECONNRESET, ECONNREFUSED, ETIMEDOUT, ENOMEM, ENOTCONN, EIO}},
    {"send", {EINTR, EAGAIN, EPIPE, ECONNRESET, ENOBUFS, ENOMEM, EHOSTUNREACH, ENETDOWN, ETIMEDOUT, -1}},
    {"setsockopt", {ENOPROTOOPT, EINVAL, ENOBUFS}},
    {"shutdown", {ENOTCONN, ENOBUFS, EINVAL}},
    {"close", {EINTR, EIO}},
#if !PROMETHEUS_ASYNC_POLLER_POLL && defined(__linux__)
    {"epoll_ctl", {ENOMEM, ENOSPC, EPERM}},
#endif
};

}  // namespace

TEST_CASE("any call that fails once, or from then on for a while, leaves a server that serves") {
    for (const failing_call& call : failing_calls) {
        for (int code : call.codes) {
            for (int at = 1; at <= 12; ++at) {
                for (bool once : {true, false}) {
                    CAPTURE(call.name);
                    CAPTURE(code);
                    CAPTURE(at);
                    CAPTURE(once);
                    rig r;
                    REQUIRE(r.server);
                    const std::size_t before = open_descriptors();
                    int seen = 0;
                    test_system::fault = [&](const char* name, int) {
                        if (std::strcmp(name, call.name) != 0) return 0;
                        ++seen;
                        if (code == EINTR && seen > at + 3) return 0;  // it interrupts, but not for ever
                        return seen == at || (!once && seen > at) ? code : 0;
                    };
                    r.visit();
                    test_system::fault = nullptr;
                    if (code != -1) CHECK(seen < 600);  // nothing spins
                    if (seen < at) break;
                    for (int i = 0; i != 8; ++i) r.pass(11);  // stalls, pauses, idle connections
                    CHECK(open_descriptors() == before);
                    CHECK(r.serves());
                }
            }
        }
    }
}

TEST_CASE("a start that fails at any call is an error, and leaves nothing open") {
    for (std::string_view addr : {"127.0.0.1", "", "localhost"}) {
        for (const char* name : {"socket", "bind", "listen", "setsockopt", "getsockname", "epoll_ctl", "fcntl"}) {
            for (int code : {EMFILE, ENOMEM, EACCES, EADDRINUSE, EAFNOSUPPORT, EADDRNOTAVAIL}) {
                for (int at = 1; at <= 4; ++at) {
                    CAPTURE(name);
                    CAPTURE(code);
                    prom::event_loop loop;
                    const std::size_t before = open_descriptors();
                    int seen = 0;
                    test_system::fault = [&](const char* called, int) { return std::strcmp(name, called) == 0 && ++seen == at ? code : 0; };
                    {
                        std::vector<prom::result<prom::metrics_http_server>> out;
                        loop.spawn([](prom::event_loop& on, std::string_view where, auto& to) -> prom::task<void> {
                            to.push_back(co_await prom::start_http_server(on, {.addr = where}));
                        }(loop, addr, out));
                        test_system::fault = nullptr;
                        REQUIRE(out.size() == 1);
                        if (!out[0]) CHECK(out[0].why().sys() == code);
                    }
                    CHECK(open_descriptors() == before);
                }
            }
        }
    }
}

TEST_CASE("a host without IPv6 listens on IPv4, and any other error ends the start") {
    struct failing { const char* name; int code; bool starts; };
    for (const failing& each : {failing{"socket", EAFNOSUPPORT, true}, failing{"bind", EADDRNOTAVAIL, true}, failing{"bind", EACCES, false}}) {
        CAPTURE(each.name);
        CAPTURE(each.code);
        prom::event_loop loop;
        bool first = true;
        test_system::fault = [&](const char* called, int) { return std::strcmp(each.name, called) == 0 && std::exchange(first, false) ? each.code : 0; };
        std::vector<prom::result<prom::metrics_http_server>> out;
        loop.spawn([](prom::event_loop& on, auto& to) -> prom::task<void> {
            to.push_back(co_await prom::start_http_server(on, {}));
        }(loop, out));
        test_system::fault = nullptr;
        REQUIRE(out.size() == 1);
        CHECK(bool(out[0]) == each.starts);
        if (!out[0]) continue;
        client c("127.0.0.1", out[0]->port());
        CHECK(c.ask(loop, get()).status == 200);
    }
}

TEST_CASE("a privileged port says so") {
    prom::event_loop loop;
    test_system::fault = [](const char* name, int) { return std::strcmp(name, "bind") == 0 ? EACCES : 0; };
    std::string said;
    loop.spawn([](prom::event_loop& on, std::string& to) -> prom::task<void> {
        auto server = co_await prom::start_http_server(on, {.addr = "0.0.0.0", .port = 80});
        to = server.why().describe();
    }(loop, said));
    test_system::fault = nullptr;
    CHECK(said == "cannot listen on 0.0.0.0:80: Permission denied");
}

TEST_CASE("without descriptors, a newcomer that cannot be served is let go, and accepting pauses") {
    rig r;
    REQUIRE(r.server);
    int accepts = 0;
    test_system::fault = [&](const char* name, int) {
        if (std::strcmp(name, "accept4") != 0) return 0;
        return ++accepts % 2 == 1 ? EMFILE : 0;  // the reserve descriptor makes room for one
    };
    client a("127.0.0.1", r.server->port());
    CHECK(a.ends(r.loop));
    CHECK(accepts == 2);
    client b("127.0.0.1", r.server->port());
    b.send(get());
    for (int i = 0; i != 50; ++i) r.loop.poll(0);
    CHECK(accepts == 2);
    test_system::fault = nullptr;
    r.pass(0.1);
    CHECK(b.next(r.loop).status == 200);
    CHECK(r.told == 1);
}

TEST_CASE("when each accept of a turn fails for the connection's own sake, accepting pauses, and no turn takes more") {
    rig r;
    REQUIRE(r.server);
    int accepts = 0;
    test_system::fault = [&](const char* name, int) { return std::strcmp(name, "accept4") == 0 && ++accepts ? ECONNABORTED : 0; };
    client a("127.0.0.1", r.server->port());
    a.send(get());
    for (int i = 0; i != 50; ++i) r.loop.poll(0);
    CHECK(accepts == 16);  // and not 16 of each turn, for ever
    r.pass(0.1);
    for (int i = 0; i != 50; ++i) r.loop.poll(0);
    CHECK(accepts == 32);
    test_system::fault = nullptr;
    r.pass(0.1);
    CHECK(a.next(r.loop).status == 200);
    CHECK(r.told == 32);
}

TEST_CASE("without descriptors, the oldest that waits makes room") {
    rig r;
    REQUIRE(r.server);
    client a("127.0.0.1", r.server->port());
    CHECK(a.ask(r.loop, get()).status == 200);
    bool full = true;
    test_system::fault = [&](const char* name, int) { return std::strcmp(name, "accept4") == 0 && std::exchange(full, false) ? EMFILE : 0; };
    client b("127.0.0.1", r.server->port());
    CHECK(b.ask(r.loop, get()).status == 200);
    test_system::fault = nullptr;
    CHECK(a.ends(r.loop));
}

TEST_CASE("without descriptors, one makes room for each newcomer of a turn") {
    rig r;
    REQUIRE(r.server);
    client a("127.0.0.1", r.server->port()), b("127.0.0.1", r.server->port());
    CHECK(a.ask(r.loop, get()).status == 200);
    CHECK(b.ask(r.loop, get()).status == 200);
    client c("127.0.0.1", r.server->port()), d("127.0.0.1", r.server->port());
    int accepts = 0;
    test_system::fault = [&](const char* name, int) { return std::strcmp(name, "accept4") == 0 && ++accepts % 2 == 1 && accepts < 4 ? EMFILE : 0; };
    CHECK(c.ask(r.loop, get()).status == 200);
    CHECK(d.ask(r.loop, get()).status == 200);
    test_system::fault = nullptr;
    CHECK(accepts >= 4);
    CHECK(a.ends(r.loop));
    CHECK(b.ends(r.loop));
}

TEST_CASE("when accepting fails for want of memory, one that waits makes room, and not all of them") {
    rig r;
    REQUIRE(r.server);
    std::vector<client> kept;
    for (int i = 0; i != 20; ++i) {
        kept.emplace_back("127.0.0.1", r.server->port());
        CHECK(kept.back().ask(r.loop, get()).status == 200);
    }
    test_system::fault = [](const char* name, int) { return std::strcmp(name, "accept4") == 0 ? ENOMEM : 0; };
    client late("127.0.0.1", r.server->port());
    for (int i = 0; i != 10; ++i) r.loop.poll(0);
    test_system::fault = nullptr;
    int served = 0;
    for (std::size_t i = 1; i != kept.size(); ++i) served += kept[i].ask(r.loop, get()).status == 200;
    CHECK(served == 19);
    CHECK(kept[0].ends(r.loop));
}

TEST_CASE("answers are whole when each write takes one octet") {
    rig r;
    REQUIRE(r.server);
    client c("127.0.0.1", r.server->port());
    const std::string whole = c.ask(r.loop, get("/metrics")).body;
    test_system::fault = [](const char* name, int) { return std::strcmp(name, "send") == 0 || std::strcmp(name, "recv") == 0 ? -1 : 0; };
    CHECK(c.ask(r.loop, get("/metrics")).body == whole);
    CHECK(c.ask(r.loop, get()).body == "small");
    test_system::fault = nullptr;
}

TEST_CASE("a clock that jumps ahead ends what is overdue once, and the server goes on") {
    rig r;
    REQUIRE(r.server);
    client c("127.0.0.1", r.server->port());
    CHECK(c.ask(r.loop, get()).status == 200);
    r.pass(1e9);
    CHECK(c.ends(r.loop));
    CHECK(r.serves());
    r.pass(-1e6);  // no monotonic clock does this; it must not hang either
    CHECK(r.serves());
}

TEST_CASE("a loop that is told to stop is told before it is woken, and not ended before it was") {
    prom::event_loop loop;
    int rings = 0;
    bool asked = false;
    unsigned stoppers = 0;
    test_system::fault = [&](const char* name, int) {
        if (std::strcmp(name, "write") == 0) ++rings, asked = loop.stopped(), stoppers = prom::detail::loop_state::of(loop).stoppers;
        return 0;
    };
    loop.stop();
    test_system::fault = nullptr;
    CHECK(rings == 1);
    CHECK(asked);
    CHECK(stoppers == 1);
}
