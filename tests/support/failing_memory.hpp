// Memory that fails on request: include this before the header, with PROMETHEUS_ASYNC_DETAIL_SYS ::failing. Every allocation of the
// program (operator new, and what the library takes by realloc, aligned_alloc and mmap) is counted, and one can fail.
//
//     each_allocation([] { ... });   // runs it again and again: the first allocation fails, then the second, ...
//
// Code that throws bad_alloc, or reports it in its own way, is correct; what ends the process, leaks, or holds the
// library's lock is not. Without exceptions operator new must not fail, so only the others do.
#ifndef TESTS_SUPPORT_FAILING_MEMORY_HPP
#define TESTS_SUPPORT_FAILING_MEMORY_HPP

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
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

namespace failing {

inline std::atomic<long> done = 0, chosen = -1;  // allocations so far; the one that fails
inline std::atomic<long> living = 0;             // by operator new
inline bool fails() noexcept { return done++ == chosen; }

// All else is the system's.
using ::bind, ::close, ::connect, ::fcntl, ::fstat, ::getpeername, ::getpid, ::getsockname, ::getsockopt, ::listen, ::lstat, ::open,
    ::fchmod, ::fsync, ::read, ::recv, ::rename, ::send, ::setsockopt, ::shutdown, ::socket, ::unlink, ::write;
#if defined(__linux__)
using ::accept4, ::epoll_create1, ::epoll_ctl, ::eventfd, ::getauxval, ::getrandom, ::pipe2, ::timerfd_create,
    ::timerfd_settime;
#else
using ::arc4random_buf;
#endif
using ::accept, ::pipe;
inline std::atomic<long> skipped = 0;  // milliseconds of waits in which nothing came
inline int enough = 20;                // a wait is cut to so many; 0 if nothing comes from another thread or process
/// Waits less, where nothing comes: a loop whose clock adds `skipped` makes no pause last.
template <class Wait>
int cut(int ms, Wait wait) noexcept {
    const int got = wait(ms > enough ? enough : ms);
    if (got == 0 && ms > enough) skipped += ms - enough;
    return got;
}
inline int poll(pollfd* set, ::nfds_t size, int ms) noexcept {
    return cut(ms, [&](int most) { return ::poll(set, size, most); });
}
#if defined(__linux__)
inline int epoll_wait(int from, epoll_event* to, int size, int ms) noexcept {
    return cut(ms, [&](int most) { return ::epoll_wait(from, to, size, most); });
}
#endif
#if defined(PROMETHEUS_ASYNC_POLLER_KQUEUE)
using ::kqueue;
inline int kevent(int from, const struct ::kevent* changes, int changed, struct ::kevent* to, int size, const timespec* span) noexcept {
    if (!span) return ::kevent(from, changes, changed, to, size, nullptr);
    return cut(static_cast<int>(span->tv_sec * 1000 + span->tv_nsec / 1000000), [&](int most) {
        const timespec less{most / 1000, most % 1000 * 1000000L};
        return ::kevent(from, changes, changed, to, size, &less);
    });
}
#endif
inline void* realloc(void* p, std::size_t n) noexcept { return fails() ? nullptr : ::realloc(p, n); }
inline void* mmap(void* at, std::size_t n, int protection, int flags, int fd, ::off_t from) noexcept {
    return fails() ? MAP_FAILED : ::mmap(at, n, protection, flags, fd, from);
}
inline void* aligned_alloc(std::size_t alignment, std::size_t n) noexcept { return fails() ? nullptr : ::aligned_alloc(alignment, n); }

#ifdef __cpp_exceptions
constexpr bool by_new = true;
#else
constexpr bool by_new = false;
#endif

/// How many runs it took until one had its fill. `run` must leave nothing behind that a later run would mind.
template <class Run>
long each_allocation(Run run) {
    for (long n = 0;; ++n) {
        done = 0;
        chosen = n;
#ifdef __cpp_exceptions
        try {
            run();
        } catch (const std::bad_alloc&) {
        }
#else
        run();
#endif
        const bool failed = done > chosen;
        chosen = -1;
        if (!failed) return n;
    }
}

}  // namespace failing

__attribute__((noinline)) void* operator new(std::size_t n) {
    if (failing::by_new && failing::fails())
#ifdef __cpp_exceptions
        throw std::bad_alloc();
#else
        std::abort();
#endif
    void* const p = std::malloc(n != 0 ? n : 1);
    if (!p) std::abort();
    ++failing::living;
    return p;
}
__attribute__((noinline)) void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
    void* const p = failing::fails() ? nullptr : std::malloc(n != 0 ? n : 1);
    failing::living += p != nullptr;
    return p;
}
__attribute__((noinline)) void operator delete(void* p) noexcept {
    failing::living -= p != nullptr;
    std::free(p);
}
__attribute__((noinline)) void operator delete(void* p, std::size_t) noexcept { operator delete(p); }
__attribute__((noinline)) void operator delete(void* p, const std::nothrow_t&) noexcept { operator delete(p); }

#endif
