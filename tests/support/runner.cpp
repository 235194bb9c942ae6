// The one translation unit that compiles doctest's runner; every test program links it.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

// No test may depend on which ports are free: a program that binds a port that the system did not give it is ended.
#if defined(__linux__)
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

static std::atomic<bool> given[65536];
static unsigned port_in(const sockaddr* at) {
    if (at->sa_family != AF_INET && at->sa_family != AF_INET6) return 0;
    std::uint16_t port;
    std::memcpy(&port, at->sa_data, sizeof port);  // first in both
    return ntohs(port);
}
extern "C" int bind(int fd, const sockaddr* at, socklen_t size) noexcept {
    const unsigned port = port_in(at);
    if (port && !given[port]) {
        std::fprintf(stderr, "a test binds port %u: bind port 0, and ask which one it is\n", port);
        std::_Exit(99);
    }
    const long bound = ::syscall(SYS_bind, fd, at, size);
    sockaddr_storage got{};
    socklen_t room = sizeof got;
    if (bound == 0 && ::getsockname(fd, reinterpret_cast<sockaddr*>(&got), &room) == 0)
        given[port_in(reinterpret_cast<sockaddr*>(&got))] = true;
    return static_cast<int>(bound);
}
#endif
