// needs-network
// Room [56] pollers: each one that this build has, alone, over pipes and sockets.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include <sys/wait.h>

namespace prom = prometheus_async;
using prom::detail::interest;
namespace detail = prom::detail;

namespace {

#if PROMETHEUS_ASYNC_POLLER_KQUEUE
#define POLLERS detail::poll_poller, detail::epoll_poller, detail::kqueue_poller
#elif defined(__linux__) && !PROMETHEUS_ASYNC_SMALL_LIBC
#define POLLERS detail::poll_poller, detail::epoll_poller
#else
#define POLLERS detail::poll_poller
#endif

struct pipe_pair {
    detail::descriptor out, in;
    pipe_pair() {
        int ends[2];
        REQUIRE(detail::make_pipe(ends));
        out.reset(ends[0]);
        in.reset(ends[1]);
    }
    void fill(std::string_view text = "x") const { REQUIRE(::write(in.get(), text.data(), text.size()) == ssize_t(text.size())); }
    void drain() const {
        char c[64];
        while (::read(out.get(), c, sizeof c) > 0) {}
    }
};

struct socket_pair {
    detail::descriptor a, b;
    socket_pair() {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        a.reset(ends[0]);
        b.reset(ends[1]);
    }
};

template <class P>
std::vector<detail::ready> ready_now(P& p, std::size_t room = 64, int ms = 0) {
    std::vector<detail::ready> out(room);
    const int n = p.wait(out, ms);
    REQUIRE(n >= 0);
    out.resize(static_cast<std::size_t>(n));
    return out;
}

}  // namespace

TEST_CASE_TEMPLATE("a poller reports readiness for as long as it lasts", P, POLLERS) {
    P p;
    REQUIRE(p.open());
    const pipe_pair pipe;
    REQUIRE(p.set(pipe.out.get(), interest::none, interest::read));
    CHECK(ready_now(p).empty());
    pipe.fill();
    for (int i = 0; i != 3; ++i) {
        const auto got = ready_now(p, 64, -1);
        REQUIRE(got.size() == 1);
        CHECK(got[0].fd == pipe.out.get());
        CHECK(got[0].got == interest::read);
    }
    pipe.drain();
    CHECK(ready_now(p).empty());
    REQUIRE(p.set(pipe.out.get(), interest::read, interest::none));
    pipe.fill();
    CHECK(ready_now(p).empty());
    p.close();
    p.close();
}

TEST_CASE_TEMPLATE("both directions of one descriptor are one answer", P, POLLERS) {
    P p;
    REQUIRE(p.open());
    const socket_pair s;
    REQUIRE(p.set(s.a.get(), interest::none, interest::both));
    auto got = ready_now(p);
    REQUIRE(got.size() == 1);
    CHECK(got[0].got == interest::write);
    REQUIRE(::send(s.b.get(), "x", 1, 0) == 1);
    got = ready_now(p);
    REQUIRE(got.size() == 1);
    CHECK(got[0].got == interest::both);
    REQUIRE(p.set(s.a.get(), interest::both, interest::read));
    got = ready_now(p);
    REQUIRE(got.size() == 1);
    CHECK(got[0].got == interest::read);
    REQUIRE(p.set(s.a.get(), interest::read, interest::write));
    got = ready_now(p);
    REQUIRE(got.size() == 1);
    CHECK(got[0].got == interest::write);
    REQUIRE(p.set(s.a.get(), interest::write, interest::none));
    CHECK(ready_now(p).empty());
}

TEST_CASE_TEMPLATE("an end of data with data before it is readable, twice", P, POLLERS) {
    P p;
    REQUIRE(p.open());
    socket_pair s;
    REQUIRE(p.set(s.a.get(), interest::none, interest::read));
    REQUIRE(::send(s.b.get(), "x", 1, 0) == 1);
    s.b.reset();
    char c;
    auto got = ready_now(p);
    REQUIRE(got.size() == 1);
    CHECK((got[0].got & interest::read) == interest::read);
    CHECK(::recv(s.a.get(), &c, 1, 0) == 1);
    got = ready_now(p);
    REQUIRE(got.size() == 1);
    CHECK((got[0].got & interest::read) == interest::read);
    CHECK(::recv(s.a.get(), &c, 1, 0) == 0);
    REQUIRE(p.set(s.a.get(), interest::read, interest::none));
}

TEST_CASE_TEMPLATE("a writer is ready when the reader has closed", P, POLLERS) {
    P p;
    REQUIRE(p.open());
    pipe_pair pipe;
    const std::vector<char> much(1 << 20);
    while (::write(pipe.in.get(), much.data(), much.size()) > 0) {}
    REQUIRE(p.set(pipe.in.get(), interest::none, interest::write));
    CHECK(ready_now(p).empty());
    pipe.out.reset();
    const auto got = ready_now(p);
    REQUIRE(got.size() == 1);
    CHECK((got[0].got & interest::write) == interest::write);
    REQUIRE(p.set(pipe.in.get(), interest::write, interest::none));
}

TEST_CASE_TEMPLATE("a half close is no news to a writer that waits for room", P, POLLERS) {
    P p;
    REQUIRE(p.open());
    const socket_pair s;
    const std::vector<char> much(1 << 20);
    while (::send(s.a.get(), much.data(), much.size(), MSG_DONTWAIT | detail::send_quietly) > 0) {}
    REQUIRE(p.set(s.a.get(), interest::none, interest::write));
    REQUIRE(::shutdown(s.b.get(), SHUT_WR) == 0);
    CHECK(ready_now(p).empty());
    REQUIRE(p.set(s.a.get(), interest::write, interest::none));
}

TEST_CASE_TEMPLATE("a refused connection is told, and why", P, POLLERS) {
    P p;
    REQUIRE(p.open());
    detail::net_address at;
    REQUIRE(detail::parse_address("127.0.0.1", 0, at));
    auto listener = detail::listen_on(at, 1);
    REQUIRE(listener);
    at = detail::local_address(listener->get());
    listener->reset();  // no process listens there now
    const detail::descriptor fd = detail::make_socket(AF_INET);
    if (::connect(fd.get(), at.get(), at.size) == 0) return;  // another program took the port meanwhile
    if (errno == EINPROGRESS) {
        REQUIRE(p.set(fd.get(), interest::none, interest::write));
        const auto got = ready_now(p, 64, 10000);
        REQUIRE(got.size() == 1);
        CHECK((got[0].got & interest::write) == interest::write);
        CHECK(detail::connect_error(fd.get()) == ECONNREFUSED);
        REQUIRE(p.set(fd.get(), interest::write, interest::none));
    } else {
        CHECK(errno == ECONNREFUSED);
    }
}

TEST_CASE("a refused connection whose error the event consumed is still an error") {
    detail::net_address at;
    REQUIRE(detail::parse_address("127.0.0.1", 0, at));
    const detail::descriptor fd = detail::make_socket(AF_INET);  // not connected, and no error to tell
    CHECK(detail::connect_error(fd.get()) != 0);
    CHECK(detail::connect_error(-1) == EBADF);
}

TEST_CASE_TEMPLATE("what is not open cannot be waited for", P, POLLERS) {
    P p;
    REQUIRE(p.open());
    const auto failed = p.set(1 << 20, interest::none, interest::read);
    REQUIRE_FALSE(failed);
    CHECK(failed.why().sys() == EBADF);
}

TEST_CASE_TEMPLATE("with room for one, everyone has a turn", P, POLLERS) {
    P p;
    REQUIRE(p.open());
    const std::vector<pipe_pair> pipes(10);
    for (const pipe_pair& one : pipes) {
        REQUIRE(p.set(one.out.get(), interest::none, interest::read));
        one.fill();
    }
    std::vector<int> seen;
    for (int i = 0; i != 40; ++i)
        for (const detail::ready& r : ready_now(p, i % 2 ? 1 : 2)) seen.push_back(r.fd);
    for (const pipe_pair& one : pipes) {
        CHECK(std::count(seen.begin(), seen.end(), one.out.get()) >= 2);
        REQUIRE(p.set(one.out.get(), interest::read, interest::none));
    }
}

TEST_CASE_TEMPLATE("descriptors come and go in any order", P, POLLERS) {
    P p;
    REQUIRE(p.open());
    const std::vector<pipe_pair> pipes(16);
    std::vector<bool> in(16), full(16);
    std::uint32_t random = 1;
    for (int step = 0; step != 2000; ++step) {
        random = random * 1664525 + 1013904223;
        const std::size_t at = random >> 28;
        if (random & 0x8000) {
            REQUIRE(p.set(pipes[at].out.get(), in[at] ? interest::read : interest::none, in[at] ? interest::none : interest::read));
            in[at] = !in[at];
        } else {
            full[at] ? pipes[at].drain() : pipes[at].fill();
            full[at] = !full[at];
        }
        std::vector<int> expected, got;
        for (std::size_t i = 0; i != 16; ++i) if (in[i] && full[i]) expected.push_back(pipes[i].out.get());
        for (const detail::ready& r : ready_now(p)) got.push_back(r.fd);
        std::sort(got.begin(), got.end());
        std::sort(expected.begin(), expected.end());
        REQUIRE(got == expected);
    }
    for (std::size_t i = 0; i != 16; ++i) if (in[i]) CHECK(p.set(pipes[i].out.get(), interest::read, interest::none));
}

TEST_CASE_TEMPLATE("an alarm makes the handle readable, once, and can be taken back", P, POLLERS) {
    P p;
    REQUIRE(p.open());
    if (p.handle() < 0) return;  // poll has none
    pollfd host{p.handle(), POLLIN, 0};
    CHECK(::poll(&host, 1, 0) == 0);
    for (double span : {0.0, 1e-9, 0.002}) {
        p.alarm(span);
        CHECK(::poll(&host, 1, 10000) == 1);
        const auto got = ready_now(p);
        REQUIRE(got.size() == 1);
        CHECK(got[0].fd == detail::alarm_fd);
        CHECK(got[0].got == interest::none);
        CHECK(ready_now(p).empty());
        CHECK(::poll(&host, 1, 0) == 0);
    }
    p.alarm(0);
    CHECK(::poll(&host, 1, 10000) == 1);
    p.alarm(HUGE_VAL);
    CHECK(::poll(&host, 1, 0) == 0);
    p.alarm(HUGE_VAL);
    p.alarm(1e8);
    CHECK(::poll(&host, 1, 0) == 0);
    CHECK(ready_now(p).empty());
}

#if defined(__linux__) && !PROMETHEUS_ASYNC_SMALL_LIBC
TEST_CASE("an alarm is set to its whole span, the part of a second included") {
    detail::epoll_poller p;
    REQUIRE(p.open());
    itimerspec left{};
    int timer = 0;
    while (timer != 1024 && ::timerfd_gettime(timer, &left) != 0) ++timer;
    REQUIRE(timer != 1024);
    const auto seconds_left = [&] {
        ::timerfd_gettime(timer, &left);
        return static_cast<double>(left.it_value.tv_sec) + static_cast<double>(left.it_value.tv_nsec) * 1e-9;
    };
    for (const double span : {0.5, 0.999, 1.0, 1.75, 1000.25, 1e8 + 0.5, 999999999.0}) {
        CAPTURE(span);
        bool near = false;
        for (int tries = 0; tries != 100 && !near; ++tries) {  // this thread may rest between the two calls, but not each time
            p.alarm(span);
            const double is = seconds_left();
            CHECK(is <= span);
            near = is > span - 0.1;
        }
        CHECK(near);
    }
    for (const double never : {HUGE_VAL, 2e9, static_cast<double>(NAN)}) {
        p.alarm(1000);
        p.alarm(never);
        CHECK(seconds_left() == 0);
    }
}
#endif

TEST_CASE_TEMPLATE("fill gives a host what to poll, also how much did not fit", P, POLLERS) {
    P p;
    REQUIRE(p.open());
    const pipe_pair one, two;
    REQUIRE(p.set(one.out.get(), interest::none, interest::read));
    REQUIRE(p.set(two.in.get(), interest::none, interest::write));
    std::vector<pollfd> set(p.fill({}));
    CHECK(p.fill(set) == set.size());
    CHECK(::poll(set.data(), static_cast<nfds_t>(set.size()), 0) == 1);  // two.in has room
    if (p.handle() < 0) CHECK(set.size() == 2);
    else CHECK(set.size() == 1);
    REQUIRE(p.set(one.out.get(), interest::read, interest::none));
    REQUIRE(p.set(two.in.get(), interest::write, interest::none));
}

TEST_CASE_TEMPLATE("a waker is readable once rung, however often, until it is silenced", B, detail::pipe_waker, detail::waker) {
    B b;
    REQUIRE(b.open());
    pollfd host{b.fd(), POLLIN, 0};
    CHECK(::poll(&host, 1, 0) == 0);
    for (int i = 0; i != 100000; ++i) b.ring();  // more than a pipe holds
    CHECK(::poll(&host, 1, 0) == 1);
    b.silence();
    CHECK(::poll(&host, 1, 0) == 0);
    errno = 42;
    b.ring();
    CHECK(errno == 42);
    CHECK((::fcntl(b.fd(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("addresses are read as they are written") {
    detail::net_address at;
    for (const char* text : {"127.0.0.1", "0.0.0.0", "::", "::1", "fe80::1%lo", "/run/x.sock", "@name"}) {
        REQUIRE(detail::parse_address(text, 80, at));
        CHECK(at.text() == text);
    }
    REQUIRE(detail::parse_address("::1", 80, at));
    CHECK(at.text_with_port() == "[::1]:80");
    CHECK(at.loopback());
    REQUIRE(detail::parse_address("127.1.2.3", 9464, at));
    CHECK(at.text_with_port() == "127.1.2.3:9464");
    CHECK(at.loopback());
    REQUIRE(detail::parse_address("localhost", 1, at));
    CHECK(at.text() == "127.0.0.1");
    REQUIRE(detail::parse_address("::", 1, at));
    CHECK_FALSE(at.loopback());
    REQUIRE(detail::parse_address("::ffff:127.0.0.1", 1, at));
    CHECK(at.loopback());
    REQUIRE(detail::parse_address("unix:/run/x.sock", 0, at));
    CHECK(at.text_with_port() == "unix:/run/x.sock");
    for (const std::string& bad : {std::string(), std::string("example.org"), std::string("127.0.0.1.5"), std::string("::1%nosuch"),
                                   std::string("[::1]"), "/" + std::string(200, 'x'), std::string(100, '1')})
        CHECK_FALSE(detail::parse_address(bad, 80, at));
}

TEST_CASE("a unix socket on which no process listens is replaced, one in use is not") {
    char dir[] = "/tmp/prometheus_async_test.XXXXXX";
    REQUIRE(::mkdtemp(dir));
    const std::string path = std::string(dir) + "/s";
    detail::net_address at;
    REQUIRE(detail::parse_address(path, 0, at));
    {
        auto first = detail::listen_on(at, 1);
        REQUIRE(first);
        const auto second = detail::listen_on(at, 1);
        REQUIRE_FALSE(second);
        CHECK(std::string_view(second.why().describe()) == "cannot listen on unix:" + path + ": Address already in use");
    }
    CHECK(detail::listen_on(at, 1));
    ::unlink(path.c_str());
    ::rmdir(dir);
}

TEST_CASE("a listening address that is taken is named in the error") {
    detail::net_address at;
    REQUIRE(detail::parse_address("127.0.0.1", 0, at));
    auto first = detail::listen_on(at, 1);
    REQUIRE(first);
    at = detail::local_address(first->get());
    const auto second = detail::listen_on(at, 1);
    REQUIRE_FALSE(second);
    CHECK(second.why().sys() == EADDRINUSE);
    CHECK(std::string_view(second.why().describe()) ==
          "cannot listen on 127.0.0.1:" + std::to_string(at.port()) + ": Address already in use");
}

TEST_CASE("an accepted connection is non-blocking, closed on exec, without delay") {
    const char* address = "127.0.0.1";
    SUBCASE("IPv4") {}
    SUBCASE("IPv4 by a listener for IPv6") { address = "::"; }
    detail::net_address at;
    REQUIRE(detail::parse_address(address, 0, at));
    auto listener = detail::listen_on(at, 1);
    REQUIRE(listener);
    REQUIRE(detail::parse_address("127.0.0.1", detail::local_address(listener->get()).port(), at));
    const detail::descriptor client = detail::make_socket(AF_INET);
    REQUIRE((::connect(client.get(), at.get(), at.size) == 0 || errno == EINPROGRESS));
    pollfd host{listener->get(), POLLIN, 0};
    REQUIRE(::poll(&host, 1, 10000) == 1);
    detail::net_address from;
    const detail::descriptor got(detail::accept_on(listener->get(), from));
    REQUIRE(got);
    CHECK(from.text().find("127.0.0.1") != std::string::npos);
    CHECK((::fcntl(got.get(), F_GETFL) & O_NONBLOCK) != 0);
    CHECK((::fcntl(got.get(), F_GETFD) & FD_CLOEXEC) != 0);
    int on = 0;
    socklen_t size = sizeof on;
    REQUIRE(::getsockopt(got.get(), IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0);
    CHECK(on != 0);
    CHECK(detail::accept_on(listener->get(), from) == -1);
    CHECK((errno == EAGAIN || errno == EWOULDBLOCK));
}

#if defined(__linux__)
TEST_CASE("a test program that binds a port of its own choice is ended") {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    detail::descriptor first(::socket(AF_INET, SOCK_STREAM, 0)), again(::socket(AF_INET, SOCK_STREAM, 0));
    REQUIRE(::bind(first.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    socklen_t size = sizeof at;
    REQUIRE(::getsockname(first.get(), reinterpret_cast<sockaddr*>(&at), &size) == 0);
    CHECK(::bind(again.get(), reinterpret_cast<sockaddr*>(&at), size) == -1);  // one that was given may be asked for
    const pid_t child = ::fork();
    if (child == 0) {
        at.sin_port = htons(9464);
        ::bind(again.get(), reinterpret_cast<sockaddr*>(&at), size);
        std::_Exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 99);
}
#endif
