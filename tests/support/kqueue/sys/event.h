// <sys/event.h> for Linux: kqueue over epoll and timerfd, as far as the library uses it, and strict: what
// would be lost or wrong on a real kqueue aborts here with a line that says so.
//
//   -Itests/support/kqueue -DPROMETHEUS_ASYNC_POLLER_KQUEUE=1
//
// Faithful in: one knote for each (ident, filter); EV_ADD again changes it; deleting an unknown one is
// ENOENT; a filter on a descriptor that is not open is EBADF; EV_EOF comes with the data that is still to
// be read (in `data`); a hang-up or error is EV_EOF in both filters; timers are milliseconds; a kqueue can
// be polled; it does not survive a fork.
// Strict in: close() of a descriptor that still has filters; changes and events in one call; a filter,
// flag or timer that it does not know; use in a forked child.
#ifndef TESTS_SUPPORT_KQUEUE_SYS_EVENT_H
#define TESTS_SUPPORT_KQUEUE_SYS_EVENT_H

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define EVFILT_READ (-1)
#define EVFILT_WRITE (-2)
#define EVFILT_TIMER (-7)
#define EV_ADD 0x0001
#define EV_DELETE 0x0002
#define EV_ONESHOT 0x0010
#define EV_ERROR 0x4000
#define EV_EOF 0x8000

struct kevent {
    std::uintptr_t ident;
    std::int16_t filter;
    std::uint16_t flags;
    std::uint32_t fflags;
    std::intptr_t data;
    void* udata;
};

namespace kqueue_double {

enum : unsigned { reads = 1, writes = 2 };

/// A kernel's memory: not the program's operator new, which tests count and fail.
template <class T>
struct memory {
    using value_type = T;
    memory() = default;
    template <class Other>
    memory(const memory<Other>&) noexcept {}
    T* allocate(std::size_t n) {
        void* const p = std::malloc(n * sizeof(T));
        if (!p) std::abort();
        return static_cast<T*>(p);
    }
    void deallocate(T* p, std::size_t) noexcept { std::free(p); }
    bool operator==(const memory&) const { return true; }
};
template <class Value>
using table = std::map<int, Value, std::less<int>, memory<std::pair<const int, Value>>>;

struct queue {
    int timer;                     // in the epoll set; its ident is -1 there
    std::intptr_t timer_data = 0;  // 0: no timer
    table<unsigned> filters;
    bool write_first = false;
};

struct world {
    std::mutex lock;
    table<queue> queues;
    // Whether an event takes the socket's error into fflags, so that SO_ERROR is 0 by then.
    bool takes_errors = false;
    bool forked = false;  // this process is a child
};
inline world& all() {
    static world* one = [] {  // a child does not get its parent's kqueues: their numbers are free there
        ::pthread_atfork([] { all().lock.lock(); }, [] { all().lock.unlock(); },
                         [] {
                             for (auto& [kq, q] : all().queues) {
                                 ::syscall(SYS_close, kq);
                                 ::syscall(SYS_close, q.timer);
                             }
                             all().queues.clear();
                             all().forked = true;
                             all().lock.unlock();
                         });
        return ::new (memory<world>().allocate(1)) world;
    }();
    return *one;
}

[[noreturn]] inline void misuse(const char* what, int fd) {
    std::fprintf(stderr, "kqueue double: %s (descriptor %d)\n", what, fd);
    std::abort();
}

inline int close(int fd) {
    world& w = all();
    const std::lock_guard hold(w.lock);
    for (auto& [kq, q] : w.queues)
        if (kq != fd && q.filters.count(fd)) misuse("close() before its filters were deleted", fd);
    if (const auto q = w.queues.find(fd); q != w.queues.end()) {
        ::syscall(SYS_close, q->second.timer);
        w.queues.erase(q);
    }
    return static_cast<int>(::syscall(SYS_close, fd));
}

inline std::uint32_t epoll_bits(unsigned filters) {
    return (filters & reads ? EPOLLIN | EPOLLRDHUP : 0U) | (filters & writes ? std::uint32_t{EPOLLOUT} : 0U);
}

inline int change(int kq, queue& q, const struct kevent& c) {
    if (c.flags & ~(EV_ADD | EV_DELETE | EV_ONESHOT)) misuse("a flag that it does not know", kq);
    if (!(c.flags & EV_ADD) == !(c.flags & EV_DELETE)) misuse("neither added nor deleted", kq);
    if (c.filter == EVFILT_TIMER) {
        if (c.ident != 0) misuse("more than one timer", kq);
        if ((c.flags & EV_DELETE) && q.timer_data == 0) return ENOENT;
        if ((c.flags & EV_ADD) && (!(c.flags & EV_ONESHOT) || c.data <= 0)) misuse("a timer that is not one shot and positive", kq);
        q.timer_data = c.flags & EV_ADD ? c.data : 0;
        itimerspec when{};
        when.it_value.tv_sec = static_cast<time_t>(q.timer_data / 1000);
        when.it_value.tv_nsec = static_cast<long>(q.timer_data % 1000) * 1'000'000;
        ::timerfd_settime(q.timer, 0, &when, nullptr);
        return 0;
    }
    if (c.filter != EVFILT_READ && c.filter != EVFILT_WRITE) misuse("a filter that it does not know", kq);
    if (c.flags & EV_ONESHOT) misuse("one shot, but the library is level-triggered", kq);
    const int fd = static_cast<int>(c.ident);
    if (::fcntl(fd, F_GETFD) < 0) {
        if (c.flags & EV_DELETE) misuse("a filter deleted after close()", fd);
        return EBADF;
    }
    const unsigned bit = c.filter == EVFILT_READ ? reads : writes;
    const unsigned had = q.filters.count(fd) ? q.filters[fd] : 0U;
    if ((c.flags & EV_DELETE) && !(had & bit)) return ENOENT;
    const unsigned has = c.flags & EV_ADD ? had | bit : had & ~bit;
    epoll_event e{};
    e.events = epoll_bits(has);
    e.data.fd = fd;
    if (::epoll_ctl(kq, had == 0 ? EPOLL_CTL_ADD : has == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, fd, &e) != 0) return errno;
    if (has == 0) q.filters.erase(fd);
    else q.filters[fd] = has;
    return 0;
}

}  // namespace kqueue_double

// In the program, so that it is found before libc's.
extern "C" inline int close(int fd) noexcept(noexcept(::close(0))) { return kqueue_double::close(fd); }

inline int kqueue() {
    const int kq = ::epoll_create1(0);
    const int timer = kq < 0 ? -1 : ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer < 0) {
        if (kq >= 0) ::syscall(SYS_close, kq);
        return -1;
    }
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.fd = -1;
    ::epoll_ctl(kq, EPOLL_CTL_ADD, timer, &e);
    kqueue_double::world& w = kqueue_double::all();
    const std::lock_guard hold(w.lock);
    w.queues[kq] = {timer, 0, {}, false};
    return kq;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"  // the function has the struct's name, as on BSD
inline int kevent(int kq, const struct kevent* changes, int nchanges, struct kevent* events, int nevents,
                  const timespec* timeout) {
    using namespace kqueue_double;
    if (nchanges > 0 && nevents > 0) misuse("changes among events, where an error is lost", kq);
    if (timeout && (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1'000'000'000)) {
        errno = EINVAL;
        return -1;
    }
    {
        const std::lock_guard hold(all().lock);
        const auto q = all().queues.find(kq);
        if (q == all().queues.end()) {
            if (all().forked) misuse("a kqueue does not survive a fork", kq);
            errno = EBADF;
            return -1;
        }
        for (int i = 0; i < nchanges; ++i)
            if (const int failed = change(kq, q->second, changes[i])) {
                errno = failed;
                return -1;
            }
    }
    if (nevents == 0) return 0;
    epoll_event got[64];
    const int room = nevents < 64 ? nevents : 64;  // each may become two: what has no room is told again, it is level-triggered
    const long ms = timeout ? static_cast<long>(timeout->tv_sec) * 1000 + (timeout->tv_nsec + 999'999) / 1'000'000 : -1;
    const int n = ::epoll_wait(kq, got, room, static_cast<int>(ms));
    if (n < 0) return -1;
    const std::lock_guard hold(all().lock);
    queue& q = all().queues[kq];
    int out = 0;
    for (int i = 0; i < n && out < nevents; ++i) {
        struct kevent e{};
        if (got[i].data.fd == -1) {
            std::uint64_t times = 0;
            if (::read(q.timer, &times, sizeof times) != sizeof times) continue;
            e.filter = EVFILT_TIMER;
            e.flags = EV_ONESHOT;
            e.data = 1;
            q.timer_data = 0;
            events[out++] = e;
            continue;
        }
        const int fd = got[i].data.fd;
        const std::uint32_t bits = got[i].events;
        const bool gone = bits & (EPOLLERR | EPOLLHUP);
        const unsigned has = q.filters.count(fd) ? q.filters[fd] : 0U;
        e.ident = static_cast<std::uintptr_t>(fd);
        if (gone && all().takes_errors) {
            int code = 0;
            socklen_t size = sizeof code;
            if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) == 0) e.fflags = static_cast<std::uint32_t>(code);
        }
        struct kevent two[2];
        int made = 0;
        if ((has & reads) && (gone || (bits & (EPOLLIN | EPOLLRDHUP)))) {
            int waiting = 0;
            ::ioctl(fd, FIONREAD, &waiting);
            two[made] = e;
            two[made].filter = EVFILT_READ;
            two[made].data = waiting;
            if (gone || (bits & EPOLLRDHUP)) two[made].flags = EV_EOF;
            ++made;
        }
        if ((has & writes) && (gone || (bits & EPOLLOUT))) {
            two[made] = e;
            two[made].filter = EVFILT_WRITE;
            if (gone) two[made].flags = EV_EOF;
            ++made;
        }
        q.write_first = !q.write_first;
        for (int k = 0; k < made && out < nevents; ++k) events[out++] = two[q.write_first ? made - 1 - k : k];
    }
    return out;
}
#pragma GCC diagnostic pop

#endif
