// The library's system calls, controlled by a test: include it before prometheus_async.hpp. A call fails when
// test_system::fault says so; descriptors from test_system::memory on are sockets without a kernel.
#pragma once
#include "faults.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <map>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#endif
#if defined(PROMETHEUS_ASYNC_POLLER_KQUEUE)
#include <sys/event.h>
#endif

namespace test_system {

/// A peer without a kernel: what it sent, what it got, and how its socket behaves.
struct peer {
    std::string to_server, from_server;
    bool fin = false;                    // after to_server
    int recv_error = 0, send_error = 0;  // errno, when there is nothing left to receive; at the next send
    std::size_t room = ~std::size_t{0};  // octets that send takes before EAGAIN
    std::size_t piece = ~std::size_t{0};  // octets that one recv or send moves at most
    bool shut = false, closed = false, reset = false;
    int little_unsent = 0;  // octets, if the system is to keep no more
    int receives = 0, sends = 0;
};
constexpr int memory = 1 << 20;
inline std::map<int, peer> peers;
inline int next_peer = memory;

/// Called with the name of each call; the errno to fail with, 0 to go on, or -1: a write of one octet only.
inline std::function<int(const char* name, int fd)> fault;
inline int fails(const char* name, int fd) {
    const int code = fault ? fault(name, fd) : 0;
    if (code > 0) errno = code;
    return code;
}

#define PASS(result, name, parameters, arguments, fd)   \
    inline result name parameters {                     \
        if (fails(#name, fd) > 0) return -1;            \
        return ::faults::name arguments;                        \
    }
PASS(int, bind, (int s, const sockaddr* a, socklen_t n), (s, a, n), s)
PASS(int, connect, (int s, const sockaddr* a, socklen_t n), (s, a, n), s)
PASS(int, fstat, (int s, struct ::stat* to), (s, to), s)
PASS(int, getpeername, (int s, sockaddr* a, socklen_t* n), (s, a, n), s)
PASS(int, getsockname, (int s, sockaddr* a, socklen_t* n), (s, a, n), s)
PASS(int, getsockopt, (int s, int l, int o, void* v, socklen_t* n), (s, l, o, v, n), s)
PASS(int, listen, (int s, int n), (s, n), s)
PASS(int, lstat, (const char* p, struct ::stat* to), (p, to), -1)
PASS(int, open, (const char* p, int f, mode_t m = 0), (p, f, m), -1)
PASS(int, poll, (pollfd* p, nfds_t n, int t), (p, n, t), -1)
PASS(ssize_t, read, (int s, void* p, size_t n), (s, p, n), s)
PASS(int, fchmod, (int fd, mode_t mode), (fd, mode), -1)
PASS(int, fsync, (int fd), (fd), -1)
PASS(int, rename, (const char* from, const char* to), (from, to), -1)
PASS(ssize_t, sendmsg, (int s, const msghdr* m, int f), (s, m, f), s)
PASS(int, socket, (int d, int t, int p), (d, t, p), -1)
PASS(int, unlink, (const char* p), (p), -1)
PASS(ssize_t, write, (int s, const void* p, size_t n), (s, p, n), s)
#if defined(__linux__)
PASS(int, accept4, (int s, sockaddr* a, socklen_t* n, int f), (s, a, n, f), s)
PASS(int, epoll_create1, (int f), (f), -1)
PASS(int, epoll_ctl, (int e, int o, int s, epoll_event* v), (e, o, s, v), s)
PASS(int, epoll_wait, (int e, epoll_event* v, int n, int t), (e, v, n, t), -1)
PASS(int, eventfd, (unsigned v, int f), (v, f), -1)
PASS(int, pipe2, (int* p, int f), (p, f), -1)
PASS(int, timerfd_create, (int c, int f), (c, f), -1)
PASS(int, timerfd_settime, (int s, int f, const itimerspec* n, itimerspec* o), (s, f, n, o), s)
#endif
inline int accept(int s, sockaddr* a, socklen_t* n) { return fails("accept4", s) > 0 ? -1 : ::faults::accept(s, a, n); }  // one name for both
PASS(int, pipe, (int* p), (p), -1)
#if defined(PROMETHEUS_ASYNC_POLLER_KQUEUE)
PASS(int, kqueue, (), (), -1)
PASS(int, kevent, (int q, const struct ::kevent* c, int n, struct ::kevent* v, int m, const timespec* t), (q, c, n, v, m, t), -1)
#endif
#undef PASS
using ::getpid;
using ::aligned_alloc, ::mmap, ::realloc;
#if defined(__linux__)
using ::getauxval, ::getrandom;
#else
using ::arc4random_buf;
#endif

inline int fcntl(int s, int command) { return fails("fcntl", s) > 0 ? -1 : ::faults::fcntl(s, command); }
inline int fcntl(int s, int command, int value) { return fails("fcntl", s) > 0 ? -1 : ::faults::fcntl(s, command, value); }
inline int close(int s) {
    if (s < memory) {
        const int code = fails("close", s), done = ::faults::close(s);  // Linux closes it whatever it returns
        if (code > 0) errno = code;
        return code > 0 ? -1 : done;
    }
    peers[s].closed = true;
    return 0;
}
inline int shutdown(int s, int how) {
    if (fails("shutdown", s) > 0) return -1;
    if (s < memory) return ::faults::shutdown(s, how);
    peers[s].shut = true;
    return 0;
}
inline int setsockopt(int s, int level, int option, const void* value, socklen_t size) {
    if (fails("setsockopt", s) > 0) return -1;
    if (s < memory) return ::faults::setsockopt(s, level, option, value, size);
    if (level == SOL_SOCKET && option == SO_LINGER) peers[s].reset = true;
    if (level == IPPROTO_TCP && option == TCP_NOTSENT_LOWAT) peers[s].little_unsent = *static_cast<const int*>(value);
    return 0;
}
inline ssize_t recv(int s, void* into, size_t size, int flags) {
    const int code = fails("recv", s);
    if (code > 0) return -1;
    if (s < memory) return ::faults::recv(s, into, code < 0 && size ? 1 : size, flags);
    peer& p = peers[s];
    ++p.receives;
    if (p.to_server.empty()) {
        if (p.recv_error) return errno = p.recv_error, -1;
        if (p.fin) return 0;
        return errno = EAGAIN, -1;
    }
    const size_t n = std::min({size, p.to_server.size(), p.piece});
    std::memcpy(into, p.to_server.data(), n);
    p.to_server.erase(0, n);
    return static_cast<ssize_t>(n);
}
inline ssize_t send(int s, const void* from, size_t size, int flags) {
    const int code = fails("send", s);
    if (code > 0) return -1;
    if (s < memory) return ::faults::send(s, from, code < 0 && size ? 1 : size, flags);
    peer& p = peers[s];
    ++p.sends;
    if (p.send_error) return errno = p.send_error, -1;
    const size_t n = std::min({size, p.room, p.piece});
    if (n == 0) return errno = EAGAIN, -1;
    p.from_server.append(static_cast<const char*>(from), n);
    p.room -= p.room == ~std::size_t{0} ? 0 : n;
    return static_cast<ssize_t>(n);
}

}  // namespace test_system
#undef PROMETHEUS_ASYNC_DETAIL_SYS
#define PROMETHEUS_ASYNC_DETAIL_SYS test_system
