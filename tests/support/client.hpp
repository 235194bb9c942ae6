// A client on the test's own thread, or a blocking one. Include it after prometheus_async.hpp and answers.hpp.
#pragma once
#include <cerrno>
#include <cstring>
#include <algorithm>
#include <arpa/inet.h>
#include <cstddef>
#include <cstdint>
#include <netinet/in.h>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

namespace test_client {

namespace prom = prometheus_async;

/// "127.0.0.1" or "::1" and a port, "unix:/path", "unix:@abstract".
struct socket_address {
    sockaddr_storage any{};
    socklen_t size = 0;

    socket_address(std::string_view host, std::uint16_t port) {
        if (host.substr(0, 5) == "unix:") {
            host.remove_prefix(5);
            sockaddr_un un{};
            un.sun_family = AF_UNIX;
            host.copy(un.sun_path, sizeof un.sun_path - 1);
            const bool abstract = host.substr(0, 1) == "@";
            if (abstract) un.sun_path[0] = 0;
            set(un, offsetof(sockaddr_un, sun_path) + std::min(host.size(), sizeof un.sun_path - 1) + !abstract);
            return;
        }
        sockaddr_in v4{};
        sockaddr_in6 v6{};
        const std::string text(host);
        if (::inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
            v4.sin_family = AF_INET;
            v4.sin_port = htons(port);
            set(v4, sizeof v4);
        } else if (::inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) == 1) {
            v6.sin6_family = AF_INET6;
            v6.sin6_port = htons(port);
            set(v6, sizeof v6);
        }
    }
    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&any); }
    /// A socket that is bound here; a port of 0 is chosen.
    int bound() const {
        const int fd = ::socket(any.ss_family, SOCK_STREAM, 0);
        if (fd >= 0 && ::bind(fd, get(), size) != 0) {
            ::close(fd);
            return -1;
        }
        return fd;
    }

private:
    template <class Family>
    void set(const Family& from, std::size_t n) {
        std::memcpy(&any, &from, sizeof from);
        size = static_cast<socklen_t>(n);
    }
};

/// A connected socket that does not block; text that came.
struct client {
    int fd = -1;
    std::string in;
    bool ended = false, was_reset = false;

    client() = default;
    explicit client(std::string_view host, std::uint16_t port = 0, int receive_buffer = 0) {
        const socket_address at(host, port);
        if (at.size == 0) return;
        fd = ::socket(at.any.ss_family, SOCK_STREAM, 0);
        if (receive_buffer) ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        if (::connect(fd, at.get(), at.size) != 0) close();
    }
    client(client&& o) noexcept : fd(std::exchange(o.fd, -1)), in(std::move(o.in)), ended(o.ended), was_reset(o.was_reset) {}
    client& operator=(client&& o) noexcept {
        close();
        fd = std::exchange(o.fd, -1), in = std::move(o.in), ended = o.ended, was_reset = o.was_reset;
        return *this;
    }
    ~client() { close(); }

    bool connected() const { return fd >= 0; }
    void close() {
        if (fd >= 0) ::close(std::exchange(fd, -1));
    }
    void send(std::string_view octets) const { (void)!::send(fd, octets.data(), octets.size(), MSG_NOSIGNAL); }
    void half_close() const { ::shutdown(fd, SHUT_WR); }
    void reset() {
        const ::linger now{1, 0};
        ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close();
    }
    void receive(std::size_t most = ~std::size_t{0}) {
        char buffer[4096];
        while (!ended && most != 0) {
            const ssize_t n = ::recv(fd, buffer, most < sizeof buffer ? most : sizeof buffer, MSG_DONTWAIT);
            if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
            if (n <= 0) {
                ended = true;
                was_reset = n < 0;
                return;
            }
            in.append(buffer, static_cast<std::size_t>(n));
            most -= static_cast<std::size_t>(n);
        }
    }
    /// Turns the loop until the client has an answer, or the end.
    answer ask(prom::event_loop& loop, std::string_view octets, bool to_head = false) {
        send(octets);
        return next(loop, to_head);
    }
    answer next(prom::event_loop& loop, bool to_head = false) {
        answer a;
        for (int i = 0; i != 10000; ++i) {
            receive();
            if (take_answer(in, to_head, ended, a) || ended) break;
            loop.poll(0.001);
        }
        return a;
    }
    bool ends(prom::event_loop& loop) {
        for (int i = 0; i != 1000 && !ended; ++i) {
            loop.poll(0.001);
            receive();
        }
        return ended;
    }
    bool open(prom::event_loop& loop) {
        for (int i = 0; i != 5; ++i) loop.poll(0);
        receive();
        return !ended;
    }
};

/// For servers with threads of their own: waits.
inline answer fetch(std::string_view host, std::uint16_t port, std::string_view target) {
    client c(host, port);
    answer a;
    if (!c.connected()) return a;
    c.send("GET " + std::string(target) + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    pollfd p{c.fd, POLLIN, 0};
    while (!c.ended && ::poll(&p, 1, 20000) > 0) c.receive();
    take_answer(c.in, false, true, a);
    return a;
}

}  // namespace test_client
