// Rooms [56], [58].
// needs-network
// The loop when system calls fail: each call that it makes, with each errno that its manual lists.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "support/faults.hpp"

#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <vector>

namespace prom = prometheus_async;
namespace detail = prom::detail;
using namespace std::chrono_literals;
using prom::event_loop;
using prom::detail::interest;
using prom::task;

namespace {

#if PROMETHEUS_ASYNC_POLLER_POLL
constexpr const char* wait_call = "poll";
const std::vector<int> wait_codes{EFAULT, EINVAL, ENOMEM};
constexpr const char* set_call = "fcntl";
const std::vector<int> set_codes{EBADF};
#elif PROMETHEUS_ASYNC_POLLER_KQUEUE
constexpr const char* wait_call = "kevent_wait";
const std::vector<int> wait_codes{EACCES, EFAULT, EBADF, EINVAL, ENOENT, ENOMEM, ESRCH};
constexpr const char* set_call = "kevent";
const std::vector<int> set_codes{EACCES, EFAULT, EBADF, EINVAL, ENOENT, ENOMEM, ESRCH};
#else
constexpr const char* wait_call = "epoll_wait";
const std::vector<int> wait_codes{EBADF, EFAULT, EINVAL};
constexpr const char* set_call = "epoll_ctl";
const std::vector<int> set_codes{EBADF, EINVAL, ELOOP, ENOMEM, ENOSPC, EPERM};
#endif

struct socket_pair {
    detail::descriptor a, b;
    socket_pair() {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
        a.reset(ends[0]);
        b.reset(ends[1]);
    }
};

struct undisturbed {
    int before;
    undisturbed() : before(faults::open_descriptors()) { faults::reset(); }
    ~undisturbed() {
        faults::reset();
        CHECK(faults::open_descriptors() == before);
    }
};

/// Sleeps, waits for a descriptor both ways, and for a post: everything that a loop does.
task<int> everything(event_loop& loop) {
    const socket_pair s;
    co_await loop.sleep(1ms);
    if (!co_await loop.writable(s.a.get())) co_return -1;
    loop.post([&] { static_cast<void>(::send(s.b.get(), "x", 1, 0)); });
    if (!co_await loop.readable(s.a.get())) co_return -2;
    bool posted = false;
    loop.post([&] { posted = true; });
    co_await loop.sleep(0);
    for (int i = 0; i != 3 && !posted; ++i) co_await loop.sleep(0);
    co_return posted ? 7 : -3;
}

}  // namespace

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("a loop for which the system has no descriptors says so, and leaves none open") {
    for (const char* call : {"epoll_create1", "timerfd_create", "eventfd", "pipe2", "kqueue", "fcntl", "epoll_ctl", "kevent"})
        for (int code : {EMFILE, ENFILE, ENOMEM, ENODEV, EINVAL, EPERM})
            for (long after : {0, 1}) {
                const undisturbed scope;
                faults::fail(call, code, after);
                try {
                    event_loop loop;
                    CHECK(faults::all().failed[call] == 0);  // this poller makes no such call
                } catch (const prom::failure& f) {
                    CHECK(f.why().sys() == code);
                    CHECK(faults::all().failed[call] == 1);
                }
            }
}

TEST_CASE("waiting that fails for good is an error of run(), which leaves its task destroyed; it is no endless turn") {
    for (int code : wait_codes) {
        if (code == ENOMEM) continue;
        const undisturbed scope;
        event_loop loop;
        faults::fail(wait_call, code, 0, 1000000);
        CHECK_THROWS_AS(loop.run(everything(loop)), prom::failure);
        CHECK(faults::all().calls[wait_call] == 1);
        CHECK_THROWS_AS(loop.poll(), prom::failure);
        faults::reset();
        CHECK(loop.run(everything(loop)) == 7);
    }
}
#endif

TEST_CASE("a system short of memory is asked again after a pause") {
    const undisturbed scope;
    event_loop loop;
    faults::fail(wait_call, ENOMEM, 1, 3);
    faults::fail(wait_call, EAGAIN, 2, 1);
    CHECK(loop.run(everything(loop)) == 7);
    CHECK(faults::all().failed[wait_call] == 4);
}

TEST_CASE("a descriptor that cannot be watched is an error of its co_await, and of nothing else") {
    for (int code : set_codes)
        for (long after : {0, 1}) {
            const undisturbed scope;
            event_loop loop;
            const socket_pair s;
            faults::fail(set_call, code, after);
            for (int i = 0; i != 3; ++i) {
                const int sys = loop.run([](event_loop& l, int fd) -> task<int> {
                    const auto got = co_await l.writable(fd);
                    co_return got ? 0 : got.why().sys();
                }(loop, s.a.get()));
                if (faults::all().failed[set_call] == 0 || i == 2) CHECK(sys == 0);
                else CHECK((sys == 0 || sys == code));
            }
        }
}

TEST_CASE("a watch that could not be changed keeps what it had") {
    const undisturbed scope;
    event_loop loop;
    const socket_pair s;
    interest got = interest::none;
    detail::watch watch(loop, [](void* to, interest g) { *static_cast<interest*>(to) = g; }, &got);
    REQUIRE(watch.set(s.a.get(), interest::read));
    if (std::string(set_call) == "fcntl") return;  // changing one is no system call for poll
    faults::fail(set_call, ENOMEM);
    CHECK_FALSE(watch.set(s.a.get(), interest::both));
    loop.poll();
    CHECK(got == interest::none);
    REQUIRE(::send(s.b.get(), "x", 1, 0) == 1);
    loop.poll();
    CHECK(got == interest::read);
    REQUIRE(watch.set(s.a.get(), interest::both));
    loop.poll();
    CHECK(got == interest::both);
    watch.forget();
}

TEST_CASE("every call that can be interrupted is interrupted, without effect") {
    const undisturbed scope;
    event_loop loop;
    faults::all().interrupts = true;
    for (int i = 0; i != 5; ++i) CHECK(loop.run(everything(loop)) == 7);
    CHECK(faults::all().calls[wait_call] < 500);
}

TEST_CASE("an interrupted wait fires no timer early and loses none") {
    static double now = 0;
    const undisturbed scope;
    event_loop loop({.time = {[] { return now; }, [] { return now; }}});
    int fired = 0;
    detail::timer timer(loop, [](void* n) { ++*static_cast<int*>(n); }, &fired);
    timer.after(10);
    faults::fail(wait_call, EINTR, 0, 5);
    for (int i = 0; i != 2; ++i) loop.poll();
    CHECK(fired == 0);
    now += 10;
    for (int i = 0; i != 3; ++i) loop.poll();
    CHECK(fired == 1);
    CHECK(faults::all().failed[wait_call] == 5);
}

TEST_CASE("a wait lasts a minute at most, ends late rather than early, and is none when something is due") {
    static double now = 0;
    const undisturbed scope;
    event_loop loop({.time = {[] { return now; }, [] { return now; }}});
    faults::fail(wait_call, EINTR, 0, 1000);
    detail::timer timer(loop, [](void*) {}, nullptr);
    const auto waits = [&](double timeout) {
        loop.poll(timeout);
        return faults::all().timeout;
    };
    CHECK(waits(0) == 0);
    CHECK(waits(1.5) == 1500);
    CHECK(waits(HUGE_VAL) == 60000);
    timer.after(1e6);
    CHECK(waits(HUGE_VAL) == 60000);
    timer.after(0.0101);
    CHECK(waits(HUGE_VAL) == 11);
    CHECK(waits(0.005) == 5);
    timer.after(1e-9);
    CHECK(waits(HUGE_VAL) == 1);
    timer.at(now - 5);
    CHECK(waits(HUGE_VAL) == 0);
    loop.post([] {});
    CHECK(waits(HUGE_VAL) == 0);
    CHECK(waits(HUGE_VAL) == 60000);
    loop.stop();
    CHECK(waits(HUGE_VAL) == 0);
}

TEST_CASE("a waker that cannot be read or rung spins nothing and loses no post that a turn can find") {
    for (int code : {EAGAIN, EIO, EINVAL, EBADF}) {
        const undisturbed scope;
        event_loop loop;
        faults::fail("read", code, 0, 2);
        int ran = 0;
        for (int i = 0; i != 3; ++i) {
            loop.post([&] { ++ran; });
            loop.poll();
        }
        CHECK(ran == 3);
        faults::fail("write", code);
        loop.post([&] { ++ran; });
        loop.poll();  // the queue is looked at, whatever the waker says
        CHECK(ran == 4);
        for (int i = 0; i != 3; ++i) loop.poll();
    }
}

TEST_CASE("an alarm that cannot be set leaves poll() and next_deadline() right") {
    const undisturbed scope;
    event_loop loop;
    faults::fail("timerfd_settime", EINVAL, 0, 100);
    static_cast<void>(loop.native_handle());
    int fired = 0;
    detail::timer timer(loop, [](void* n) { ++*static_cast<int*>(n); }, &fired);
    timer.after(0);
    CHECK(loop.next_deadline() <= loop.now());
    loop.poll();
    CHECK(fired == 1);
}

TEST_CASE("close() that fails has closed") {
    const undisturbed scope;
    for (int code : {EINTR, EIO, EDQUOT}) {
        faults::fail("close", code, 0, 3);
        detail::descriptor fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        errno = 42;
        fd.reset();
        CHECK(errno == 42);
        faults::reset();
    }
}

// ---- the sockets of room [40] ----

TEST_CASE("listening says which address failed and why, and leaves nothing open") {
    detail::net_address at;
    REQUIRE(detail::parse_address("127.0.0.1", 0, at));
    struct {
        const char* call;
        std::vector<int> codes;
    } const all[] = {
        {"socket", {EACCES, EAFNOSUPPORT, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTONOSUPPORT}},
        {"bind", {EACCES, EADDRINUSE, EBADF, EINVAL, ENOTSOCK, EADDRNOTAVAIL, ENOMEM}},
        {"listen", {EADDRINUSE, EBADF, ENOTSOCK, EOPNOTSUPP}},
    };
    for (const auto& [call, codes] : all)
        for (int code : codes) {
            const undisturbed scope;
            faults::fail(call, code);
            const auto made = detail::listen_on(at, 1);
            REQUIRE_FALSE(made);
            CHECK(made.why().sys() == code);
            CHECK(std::string_view(made.why().describe()).starts_with("cannot listen on 127.0.0.1:0: "));
        }
}

TEST_CASE("accept is repeated when interrupted, and tells every other errno") {
    const undisturbed scope;
    detail::net_address at;
    REQUIRE(detail::parse_address("127.0.0.1", 0, at));
    auto listener = detail::listen_on(at, 4);
    REQUIRE(listener);
    at = detail::local_address(listener->get());
    const detail::descriptor client = detail::make_socket(AF_INET);
    REQUIRE((::connect(client.get(), at.get(), at.size) == 0 || errno == EINPROGRESS));
    pollfd host{listener->get(), POLLIN, 0};
    REQUIRE(::poll(&host, 1, 10000) == 1);
    detail::net_address from;
    for (int code : {EAGAIN, EBADF, ECONNABORTED, EFAULT, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOTSOCK, EOPNOTSUPP, EPERM,
                     EPROTO, ENETDOWN, EHOSTUNREACH}) {
        faults::fail("accept4", code);
        CHECK(detail::accept_on(listener->get(), from) == -1);
        CHECK(errno == code);
    }
    faults::fail("accept4", EINTR, 0, 3);
    faults::fail("setsockopt", EINVAL);  // TCP_NODELAY is a wish
    const long options = faults::all().calls["setsockopt"];
    const detail::descriptor got(detail::accept_on(listener->get(), from));
    CHECK(got);
#if defined(__linux__)
    CHECK(faults::all().calls["setsockopt"] == options);  // the listener has it
#else
    CHECK(faults::all().calls["setsockopt"] > options);
#endif
}

TEST_CASE("the fate of a connect is told, also when the system will not say") {
    const undisturbed scope;
    const socket_pair s;
    CHECK(detail::connect_error(s.a.get()) == 0);
    faults::fail("getsockopt", ENOBUFS);
    CHECK(detail::connect_error(s.a.get()) == ENOBUFS);
    faults::fail("getpeername", ENOTCONN);
    faults::fail("recv", ECONNREFUSED);
    CHECK(detail::connect_error(s.a.get()) == ECONNREFUSED);
}

TEST_CASE("an address that the system does not tell is none") {
    const undisturbed scope;
    const socket_pair s;
    faults::fail("getsockname", ENOBUFS);
    CHECK(detail::local_address(s.a.get()).text().empty());
    faults::fail("getpeername", ENOTCONN);
    CHECK(detail::peer_address(s.a.get()).family() == AF_UNSPEC);
}

TEST_CASE("a stopped loop waits while closing work goes on: it does not spin") {
    event_loop loop;
    faults::reset();
    loop.post([&] { loop.stop(); });
    loop.run([](event_loop& l) -> task<void> {
        struct closer {
            event_loop& in;
            ~closer() {
                in.spawn_closing([](event_loop& at) -> task<void> {
                    for (int i = 0; i != 4; ++i) co_await at.sleep(5ms);
                }(in));
            }
        } at_the_end{l};
        co_await l.sleep(1h);
    }(loop));
    CHECK(faults::all().calls[wait_call] < 30);
}
