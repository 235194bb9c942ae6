// 19_your_own_http_server: a program that has an HTTP server adds a page of metrics to it. server_stats() does not know
// how the request came: give it two fields, send back what it returns. Here the server is twenty lines of sockets.
//
//     c++ -std=c++20 examples/19_your_own_http_server.cpp -o page -pthread && ./page 9464
//     curl -s localhost:9464/metrics
//
// prints http://127.0.0.1:9464/metrics and ends with 0 on Ctrl-C or SIGTERM; curl prints
//
//     # HELP requests_total Requests to this server.
//     # TYPE requests_total counter
//     requests_total 1

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#define PROMETHEUS_ASYNC_NO_NETWORK 1  // the library's own server, client and loop are left out
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <arpa/inet.h>
#include <csignal>
#include <cstdio>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

namespace prom = prometheus_async;

prom::counter requests{"requests_total", "Requests to this server."};

/// The value of a field of the request. Your framework has a function for it.
std::string_view field(std::string_view head, std::string_view name) {
    for (std::size_t at = head.find("\r\n"); at != head.npos && at + 2 < head.size(); at = head.find("\r\n", at + 2)) {
        const std::string_view line = head.substr(at + 2, head.find("\r\n", at + 2) - at - 2);
        if (line.size() > name.size() && line[name.size()] == ':' && ::strncasecmp(line.data(), name.data(), name.size()) == 0)
            return line.substr(line.find_first_not_of(' ', name.size() + 1));
    }
    return {};
}

std::string answer(std::string_view head) {
    requests.inc();
    if (head.substr(0, 13) != "GET /metrics ") return "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const prom::stats_page page = prom::server_stats({.accept = field(head, "Accept"), .accept_encoding = field(head, "Accept-Encoding")});
    std::string out = "HTTP/1.1 " + std::to_string(page.status) + " \r\nConnection: close\r\nVary: Accept, Accept-Encoding\r\n";
    out.append("Content-Type: ").append(page.content_type).append("\r\n");
    if (!page.content_encoding.empty()) out.append("Content-Encoding: ").append(page.content_encoding).append("\r\n");
    return out + "Content-Length: " + std::to_string(page.body.size()) + "\r\n\r\n" + page.body;
}

int main(int argc, char** argv) {
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { ::_exit(0); });
    std::signal(SIGPIPE, SIG_IGN);
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port_of(argc, argv));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    if (::bind(listener, reinterpret_cast<sockaddr*>(&at), size) != 0 || ::listen(listener, 16) != 0) return std::perror("listen"), 1;
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size);
    std::printf("http://127.0.0.1:%d/metrics\n", ntohs(at.sin_port));
    std::fflush(stdout);

    for (int peer; (peer = ::accept(listener, nullptr, nullptr)) >= 0; ::close(peer)) {
        const timeval limit{2, 0};
        ::setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        ::setsockopt(peer, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        std::string head;
        char part[2048];
        for (ssize_t n; head.find("\r\n\r\n") == head.npos && head.size() < 16384 && (n = ::read(peer, part, sizeof part)) > 0;)
            head.append(part, static_cast<std::size_t>(n));
        const std::string out = answer(head);
        for (std::size_t sent = 0; sent < out.size();) {
            const ssize_t n = ::write(peer, out.data() + sent, out.size() - sent);
            if (n <= 0) break;
            sent += static_cast<std::size_t>(n);
        }
    }
    return 1;
}
