// A peer on loopback that sends what a script contains, on the loop of the test, and a clock that only the test changes.
#pragma once
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace scripted {

namespace prom = prometheus_async;

inline double now = 1000;
inline prom::loop_options on_fake_time() { return {.time = {[] { return now; }, [] { return now; }}}; }

/// Turns the loop until it is so. What hangs fails after some seconds in which the loop had nothing to do; no clock is read.
template <class Condition>
void until(prom::event_loop& loop, Condition so) {
    for (int turns = 0; !so(); ++turns) {
        if (turns == 2000) FAIL("the test waits for something that does not happen");
        loop.poll(0.002);
    }
}

/// What a task returned, once it has.
template <class T>
struct outcome {
    std::unique_ptr<T> value;
    explicit operator bool() const { return value != nullptr; }
    T* operator->() const { return value.get(); }
    T& operator*() const { return *value; }
};
template <class T>
prom::task<void> keep(prom::task<T> work, outcome<T>& out) {
    T value = co_await std::move(work);
    out.value = std::make_unique<T>(std::move(value));
}
template <class T>
T finish(prom::event_loop& loop, prom::task<T> work) {
    outcome<T> out;
    loop.spawn(keep(std::move(work), out));
    until(loop, [&] { return static_cast<bool>(out); });
    return std::move(*out);
}

struct answer {
    std::string octets;
    enum { close, stall, reset, keep } then = close;  // stall: takes requests and answers no more; keep: the next one
};
inline answer http(int status, const std::string& body = {}) {
    return {"HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body};
}
inline answer kept(answer a) {
    a.then = answer::keep;
    return a;
}

class peer {
public:
    using script = std::function<answer(const std::string& request)>;

    peer(prom::event_loop& loop, script what) : says(std::move(what)), loop_(loop), listening_(loop, &arrived, this) { up(); }
    ~peer() { down(); }

    /// Stops listening and drops every connection, as a killed process does.
    void down() {
        listening_.forget();
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
        talks_.clear();
    }
    void up() {
        fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
        const int on = 1;
        ::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        at.sin_port = htons(port);
        REQUIRE(::bind(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
        socklen_t size = sizeof at;
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size);
        port = ntohs(at.sin_port);
        ::listen(fd_, 16);
        ::fcntl(fd_, F_SETFL, O_NONBLOCK);
        listening_.set(fd_, prom::detail::interest::read).value();
    }
    std::string at() const { return "127.0.0.1:" + std::to_string(port); }

    script says;
    std::uint16_t port = 0;
    std::size_t connections = 0;
    std::vector<std::string> requests;
    std::vector<std::size_t> connection_of;  // each request
    bool deaf = false;                       // reads nothing, until it is false
    bool hasty = false;                      // answers when it has read a head

    /// The body of a request, out of its chunks. `check` is told the octets of each.
    static std::string body_of(const std::string& request, const std::function<void(const std::string&)>& check = {}) {
        std::size_t at = request.find("\r\n\r\n") + 4;
        if (request.find("\r\nTransfer-Encoding: chunked\r\n") > at) return request.substr(at);
        std::string body;
        for (std::size_t size = 1; size != 0; at += size + 2) {
            size = std::strtoul(request.c_str() + at, nullptr, 16);
            at = request.find('\n', at) + 1;
            if (check && size != 0) check(request.substr(at, size));
            body += request.substr(at, size);
        }
        return body;
    }

    /// What a stopped process does when it is continued: it answers all that has stalled, in the order of each connection.
    void go_on() {
        for (const auto& t : talks_) {
            for (const std::string& request : std::exchange(t->unanswered, {})) {
                t->says.octets += says(request).octets;
                t->says.then = answer::keep;
            }
            if (t->fd >= 0 && t->answered) t->turn();
        }
    }
    /// How many connections are open.
    std::size_t open() const {
        std::size_t n = 0;
        for (const auto& t : talks_) n += t->fd >= 0;
        return n;
    }

private:
    struct talk {
        talk(peer& p, int descriptor) : owner(p), fd(descriptor), watch(p.loop_, &talk::ready, this), number(p.connections) {
            ::fcntl(fd, F_SETFL, O_NONBLOCK);
            watch.set(fd, prom::detail::interest::read).value();
        }
        ~talk() { end(); }
        void end() {
            watch.forget();
            if (fd >= 0) ::close(std::exchange(fd, -1));
        }
        /// The next whole request, told to the owner.
        bool next() {
            const std::size_t head = in.find("\r\n\r\n"), length = in.find("Content-Length: ");
            if (head == std::string::npos) return false;
            std::size_t size = head + 4 + (length < head ? std::strtoul(in.c_str() + length + 16, nullptr, 10) : 0);
            if (owner.hasty) {
                size = head + 4;
            } else if (in.find("\r\nTransfer-Encoding: chunked\r\n") < head) {
                for (std::size_t chunk = 1; chunk != 0; size = in.find('\n', size) + 1 + chunk + 2) {
                    if (in.find('\n', size) == std::string::npos) return false;
                    chunk = std::strtoul(in.c_str() + size, nullptr, 16);
                }
            }
            if (in.size() < size) return false;
            owner.requests.push_back(in.substr(0, size));
            owner.connection_of.push_back(number);
            in.erase(0, size);
            return true;
        }
        static void ready(void* self, prom::detail::interest) { static_cast<talk*>(self)->turn(); }
        void turn() {
            if (owner.deaf) return;
            char buffer[4096];
            const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
            if (n == 0) return end();
            if (n > 0) in.append(buffer, static_cast<std::size_t>(n));
            for (;;) {
                if (!answered) {
                    if (!next()) return;
                    answered = true;
                    says = owner.says(owner.requests.back());
                    if (says.then == answer::stall) unanswered.push_back(owner.requests.back());
                }
                const ssize_t sent = ::send(fd, says.octets.data(), says.octets.size(), MSG_NOSIGNAL);
                if (sent > 0) says.octets.erase(0, static_cast<std::size_t>(sent));
                if (!says.octets.empty()) {
                    if (sent < 0 && errno != EAGAIN) return end();
                    watch.set(fd, prom::detail::interest::both).value();
                    return;
                }
                watch.set(fd, prom::detail::interest::read).value();
                if (says.then == answer::stall) {
                    while (next()) unanswered.push_back(owner.requests.back());
                    return;
                }
                if (says.then != answer::keep) break;
                answered = false;
            }
            const linger now_and_hard{1, 0};
            if (says.then == answer::reset) ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now_and_hard, sizeof now_and_hard);
            end();
        }

        peer& owner;
        int fd;
        prom::detail::watch watch;
        std::string in;
        bool answered = false;
        answer says;
        std::vector<std::string> unanswered;  // while stalled
        std::size_t number;                   // of the connection
    };
    static void arrived(void* self, prom::detail::interest) {
        auto& p = *static_cast<peer*>(self);
        const int fd = ::accept(p.fd_, nullptr, nullptr);
        if (fd < 0) return;
        ++p.connections;
        p.talks_.push_back(std::make_unique<talk>(p, fd));
    }

    prom::event_loop& loop_;
    int fd_ = -1;
    prom::detail::watch listening_;
    std::vector<std::unique_ptr<talk>> talks_;
};

}  // namespace scripted
