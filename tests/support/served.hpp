// A server on a loop that the test turns, with a clock that the test moves, and its clients, all on
// one thread. Include after prometheus_async.hpp.
#ifndef TESTS_SUPPORT_SERVED_HPP
#define TESTS_SUPPORT_SERVED_HPP

#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

namespace prom = prometheus_async;

struct served {
    static double& now() {
        static double seconds = 1000;
        return seconds;
    }
    static double real() {
        timespec t;
        ::clock_gettime(CLOCK_MONOTONIC, &t);
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
    }

    prom::event_loop loop{{.time = {[] { return now(); }, [] { return now() + 1.7e9; }}}};
    prom::metrics_http_server server;
    std::vector<std::pair<prom::event_kind, std::string>> events;
    bool started = false;
    int host = -1;
    std::string fault;

    explicit served(prom::server_options options) {
        if (std::string_view(options.addr).empty()) options.addr = "127.0.0.1";
        options.on_event = [](const prom::event& e, void* self) {
            static_cast<served*>(self)->events.emplace_back(e.kind, e.why.describe());
        };
        options.context = this;
        loop.spawn(start(prom::start_http_server(loop, options)));
        REQUIRE(until([this] { return started; }));
    }
    prom::task<void> start(prom::task<prom::result<prom::metrics_http_server>> starting) {
        auto made = co_await std::move(starting);
        started = true;
        if (made) server = *std::move(made);
        else fault = made.why().describe();
    }

    /// From now on until() turns the loop only when an edge-triggered epoll tells of it. False over poll(2).
    bool host_by_edges() {
        if (loop.native_handle() < 0) return false;
        epoll_event e{.events = EPOLLIN | EPOLLET, .data = {}};
        host = ::epoll_create1(EPOLL_CLOEXEC);
        return ::epoll_ctl(host, EPOLL_CTL_ADD, loop.native_handle(), &e) == 0;
    }
    ~served() { if (host >= 0) ::close(host); }
    void turn() {
        epoll_event e;
        if (host < 0) loop.poll(0.001);
        else if (::epoll_wait(host, &e, 1, 1) == 1) loop.poll();
    }

    /// Turns the loop until it is so. The limit is real time, and long: it only ends what is broken.
    template <class Done>
    bool until(Done done) {
        for (const double end = real() + 20; !done();) {
            if (real() > end) return false;
            turn();
        }
        return true;
    }
    /// Moves the clock, and lets what is then due happen.
    void pass(double seconds) {
        loop.poll(0);
        now() += seconds;
        for (int i = 0; i != 20; ++i) loop.poll(0);
    }
    int told(prom::event_kind kind) const {
        int n = 0;
        for (const auto& e : events) n += e.first == kind;
        return n;
    }
};

struct caller {
    served& at;
    int fd;
    prom::detail::stream s;
    std::string got{};
    prom::detail::stream_status last = prom::detail::stream_status::want_read;
    bool bare = false;
    char scratch[16384];

    /// `from` is the last part of the address 127.0.0.x that it calls from.
    explicit caller(served& on, int receive_buffer = 0, unsigned from = 1) : at(on), fd(::socket(AF_INET, SOCK_STREAM, 0)), s(fd) {
        if (receive_buffer) ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        sockaddr_in to{};
        to.sin_family = AF_INET;
        if (from != 1) {
            to.sin_addr.s_addr = htonl(0x7F000000 + from);
            REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
        }
        to.sin_port = htons(at.server.port());
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
        ::fcntl(fd, F_SETFL, O_NONBLOCK);
    }
    caller(const caller&) = delete;
    caller& operator=(const caller&) = delete;
    ~caller() { hang_up(); }
    void hang_up() {
        if (fd >= 0) ::close(std::exchange(fd, -1));
    }

    bool over() const {
        using prom::detail::stream_status;
        return last == stream_status::ended || last == stream_status::cut || last == stream_status::failed;
    }
    bool handshake(const prom::tls_config& tls, std::string_view host = "localhost") {
        REQUIRE(s.start_tls(tls, host));
        at.until([this] {
            last = s.handshake(scratch);
            return s.secured() || over();
        });
        return s.secured();
    }
    void send(std::string_view octets) {
        at.until([&] {
            const auto put = s.send(octets, scratch);
            octets.remove_prefix(put.bytes);
            return (octets.empty() && !s.pending()) || put.status == prom::detail::stream_status::failed;
        });
    }
    /// Takes what is there; false when there is nothing, for now or for good.
    bool take() {
        char some[8192];
        const auto in = s.receive(some, scratch);
        got.append(some, in.bytes);
        last = in.status;
        return in.bytes != 0;
    }
    bool ends() {
        return at.until([this] {
            while (take()) {}
            return over();
        });
    }
    bool hears(std::string_view text) {
        return at.until([&] {
            take();
            return got.find(text) != std::string::npos || over();
        }) && got.find(text) != std::string::npos;
    }
    /// One request on a kept connection; the answer's head and (small) content.
    std::string ask(std::string_view path, std::string_view fields = {}, std::string_view method = "GET") {
        got.clear();
        bare = method == "HEAD";
        send(std::string(method) + " " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n" + std::string(fields) + "\r\n");
        CHECK(at.until([this] {
            take();
            return over() || whole();
        }));
        return got;
    }
    bool whole() const {
        const auto head = got.find("\r\n\r\n");
        if (head == std::string::npos) return false;
        if (bare) return true;
        if (got.find("Transfer-Encoding: chunked") < head) return got.ends_with("0\r\n\r\n");
        const auto length = got.find("Content-Length: ");
        return length < head && got.size() >= head + 4 + std::strtoul(got.c_str() + length + 16, nullptr, 10);
    }
    int status() const { return got.size() > 12 ? std::atoi(got.c_str() + 9) : 0; }
};

/// What was sent has been read, whatever the order in which the poller tells of descriptors.
inline void turns(served& at) {
    for (int i = 0; i != 20; ++i) at.loop.poll(0);
}

/// Coroutines that wait until the test lets them go on, counted when they end.
struct held_back {
    std::vector<std::coroutine_handle<>> waiting{};
    int destroyed = 0;

    struct counted_end {
        held_back& by;
        ~counted_end() { ++by.destroyed; }
    };
    struct wait {
        held_back& by;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) const { by.waiting.push_back(h); }
        void await_resume() const noexcept {}
    };
    void go_on() { for (auto h : std::exchange(waiting, {})) h.resume(); }
};

#endif
