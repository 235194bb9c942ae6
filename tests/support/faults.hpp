// System calls that fail on request: include this before the header, and every call that the network
// rooms make goes through namespace faults.
//
//     faults::fail("accept4", EMFILE);          // the next call
//     faults::fail("recv", ECONNRESET, 3, 2);   // the fourth and the fifth
//     faults::all().interrupts = true;          // what can be interrupted is, every other time
//     faults::all().most = 1;                   // read, recv, write, send and sendmsg move one octet
//     faults::all().calls["epoll_ctl"]          // how often
//     faults::reset();
//
// A call that fails has no effect, except close(): it has closed the descriptor nevertheless.
#ifndef TESTS_SUPPORT_FAULTS_HPP
#define TESTS_SUPPORT_FAULTS_HPP

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
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

#ifndef PROMETHEUS_ASYNC_DETAIL_SYS
#define PROMETHEUS_ASYNC_DETAIL_SYS ::faults
#endif

namespace faults {

struct planned {
    int code;
    long after;
    long times;
};
struct world {
    std::mutex lock;
    std::map<std::string, std::vector<planned>> plans;
    std::map<std::string, long> calls;
    std::map<std::string, long> failed;
    bool interrupts = false;
    bool interrupted = false;
    int timeout = 0;       // of the last wait, in milliseconds
    std::size_t most = 0;  // octets that one call moves; 0: as many as there are
};
inline world& all() {
    static world* one = [] {
        // A forked child counts too: another thread may not hold the lock at the fork, for it is not there to give it back.
        ::pthread_atfork([] { all().lock.lock(); }, [] { all().lock.unlock(); }, [] { all().lock.unlock(); });
        return new world;
    }();
    return *one;
}
inline void fail(const char* call, int code, long after = 0, long times = 1) {
    const std::lock_guard hold(all().lock);
    all().plans[call].push_back({code, after, times});
}
inline void reset() {
    const std::lock_guard hold(all().lock);
    all().plans.clear();
    all().calls.clear();
    all().failed.clear();
    all().interrupts = false;
    all().most = 0;
}
/// Whether this call fails, with errno set.
inline bool fails(const char* call, bool interruptible = false) {
    world& w = all();
    const std::lock_guard hold(w.lock);
    ++w.calls[call];
    for (planned& p : w.plans[call]) {
        if (p.times == 0) continue;
        if (p.after > 0) {
            --p.after;
            continue;
        }
        --p.times;
        ++w.failed[call];
        errno = p.code;
        return true;
    }
    if (interruptible && w.interrupts && (w.interrupted = !w.interrupted)) {
        errno = EINTR;
        return true;
    }
    return false;
}
inline std::size_t cut(std::size_t n) {
    const std::size_t most = all().most;
    return most != 0 && n > most ? most : n;
}

/// How many descriptors the process has open.
inline int open_descriptors() {
    int n = 0;
    DIR* dir = ::opendir("/proc/self/fd");
    if (!dir) return -1;
    while (::readdir(dir)) ++n;
    ::closedir(dir);
    return n;
}

inline int bind(int fd, const sockaddr* a, socklen_t n) { return fails("bind") ? -1 : ::bind(fd, a, n); }
inline int close(int fd) {
    const bool failed = fails("close");
    const int code = errno;
    const int done = ::close(fd);
    if (failed) errno = code;
    return failed ? -1 : done;
}
inline int connect(int fd, const sockaddr* a, socklen_t n) { return fails("connect") ? -1 : ::connect(fd, a, n); }
inline int fchmod(int fd, mode_t mode) { return fails("fchmod") ? -1 : ::fchmod(fd, mode); }
inline int fsync(int fd) { return fails("fsync", true) ? -1 : ::fsync(fd); }
inline int fcntl(int fd, int what, int value = 0) { return fails("fcntl") ? -1 : ::fcntl(fd, what, value); }
inline int fstat(int fd, struct ::stat* to) { return fails("fstat") ? -1 : ::fstat(fd, to); }
inline int getpeername(int fd, sockaddr* a, socklen_t* n) { return fails("getpeername") ? -1 : ::getpeername(fd, a, n); }
inline pid_t getpid() { return ::getpid(); }
using ::aligned_alloc, ::mmap, ::realloc;
#if defined(__linux__)
inline ssize_t getrandom(void* to, std::size_t n, unsigned flags) { return fails("getrandom") ? -1 : ::getrandom(to, n, flags); }
inline unsigned long getauxval(unsigned long what) { return fails("getauxval") ? 0 : ::getauxval(what); }
#else
using ::arc4random_buf;
#endif
inline int getsockname(int fd, sockaddr* a, socklen_t* n) { return fails("getsockname") ? -1 : ::getsockname(fd, a, n); }
inline int getsockopt(int fd, int level, int name, void* value, socklen_t* n) {
    return fails("getsockopt") ? -1 : ::getsockopt(fd, level, name, value, n);
}
inline int listen(int fd, int backlog) { return fails("listen") ? -1 : ::listen(fd, backlog); }
inline int lstat(const char* path, struct ::stat* to) { return fails("lstat") ? -1 : ::lstat(path, to); }
inline int open(const char* path, int how, mode_t mode = 0) { return fails("open", true) ? -1 : ::open(path, how, mode); }
inline int poll(pollfd* set, nfds_t n, int ms) {
    __atomic_store_n(&all().timeout, ms, __ATOMIC_RELAXED);
    return fails("poll", true) ? -1 : ::poll(set, n, ms);
}
inline ssize_t read(int fd, void* to, std::size_t n) { return fails("read", true) ? -1 : ::read(fd, to, n); }
inline ssize_t recv(int fd, void* to, std::size_t n, int flags) {
    return fails("recv", true) ? -1 : ::recv(fd, to, cut(n), flags);
}
inline int rename(const char* from, const char* to) { return fails("rename") ? -1 : ::rename(from, to); }
inline ssize_t send(int fd, const void* from, std::size_t n, int flags) {
    return fails("send", true) ? -1 : ::send(fd, from, cut(n), flags);
}
inline ssize_t sendmsg(int fd, const msghdr* m, int flags) {
    if (fails("sendmsg", true)) return -1;
    if (all().most == 0) return ::sendmsg(fd, m, flags);
    for (std::size_t i = 0; i < static_cast<std::size_t>(m->msg_iovlen); ++i)
        if (m->msg_iov[i].iov_len != 0) return ::send(fd, m->msg_iov[i].iov_base, cut(m->msg_iov[i].iov_len), flags);
    return 0;
}
inline int setsockopt(int fd, int level, int name, const void* value, socklen_t n) {
    return fails("setsockopt") ? -1 : ::setsockopt(fd, level, name, value, n);
}
inline int shutdown(int fd, int how) { return fails("shutdown") ? -1 : ::shutdown(fd, how); }
inline int socket(int family, int type, int protocol) { return fails("socket") ? -1 : ::socket(family, type, protocol); }
inline int unlink(const char* path) { return fails("unlink") ? -1 : ::unlink(path); }
inline ssize_t write(int fd, const void* from, std::size_t n) { return fails("write", true) ? -1 : ::write(fd, from, n); }

#if defined(__linux__)
inline int accept4(int fd, sockaddr* a, socklen_t* n, int flags) {
    return fails("accept4", true) ? -1 : ::accept4(fd, a, n, flags);
}
inline int epoll_create1(int flags) { return fails("epoll_create1") ? -1 : ::epoll_create1(flags); }
inline int epoll_ctl(int set, int what, int fd, epoll_event* e) { return fails("epoll_ctl") ? -1 : ::epoll_ctl(set, what, fd, e); }
inline int epoll_wait(int set, epoll_event* e, int n, int ms) {
    __atomic_store_n(&all().timeout, ms, __ATOMIC_RELAXED);
    return fails("epoll_wait", true) ? -1 : ::epoll_wait(set, e, n, ms);
}
inline int eventfd(unsigned start, int flags) { return fails("eventfd") ? -1 : ::eventfd(start, flags); }
inline int pipe2(int* ends, int flags) { return fails("pipe2") ? -1 : ::pipe2(ends, flags); }
inline int timerfd_create(clockid_t id, int flags) { return fails("timerfd_create") ? -1 : ::timerfd_create(id, flags); }
inline int timerfd_settime(int fd, int flags, const itimerspec* to, itimerspec* was) {
    return fails("timerfd_settime") ? -1 : ::timerfd_settime(fd, flags, to, was);
}
#endif
inline int accept(int fd, sockaddr* a, socklen_t* n) { return fails("accept4", true) ? -1 : ::accept(fd, a, n); }  // one name for both
inline int pipe(int* ends) { return fails("pipe2") ? -1 : ::pipe(ends); }
#if defined(PROMETHEUS_ASYNC_POLLER_KQUEUE)
inline int kqueue() { return fails("kqueue") ? -1 : ::kqueue(); }
inline int kevent(int kq, const struct ::kevent* changes, int nchanges, struct ::kevent* events, int nevents,
                  const timespec* timeout) {
    if (nevents) all().timeout = timeout ? static_cast<int>(timeout->tv_sec * 1000 + timeout->tv_nsec / 1'000'000) : -1;
    return fails(nevents ? "kevent_wait" : "kevent", true) ? -1 : ::kevent(kq, changes, nchanges, events, nevents, timeout);
}
#endif

}  // namespace faults

#endif
