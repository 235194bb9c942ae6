// prometheus_async.hpp 0.1.0 - Prometheus metrics for asynchronous C++20
//
// SPDX-License-Identifier: MIT
//
// One file, no dependencies. In exactly one source file:
//
//     #define PROMETHEUS_ASYNC_IMPLEMENTATION
//     #include "prometheus_async.hpp"
//
// and everywhere else just the #include. Then:
//
//     namespace prom = prometheus_async;
//     prom::histogram req_time{"req_time_seconds", "Time spent in requests."};
//     prom::family<prom::counter, "method", "status"> requests{"http_requests_total", "Requests."};
//
//     auto timed = prom::time(req_time)(handle);          // any coroutine, callback or function
//     requests("GET", 200).inc();
//     auto server = prom::start_http_server_in_thread({.port = 9464}).value();
//
// Threads  Metrics and registries: any thread, an update takes no lock. Loop, server: one thread.
// Memory   An update, a lookup and a scrape on a kept-alive connection allocate nothing.
// Errors   An update cannot fail. What the world breaks is a result<T>; what you break is [12].
//
// CONTENTS                                          search for the number in brackets
//
//   interface                                   implementation
//   [10] config       switches, ABI             [40] platform     system calls, fd, clock
//   [12] errors       error, result             [42] core         cells, records, registry
//   [14] vocabulary   names, list, seconds      [44] numbers      doubles and integers as text
//   [16] cells        where an update goes      [46] text         UTF-8, names, escaping, labels
//   [18] registry     registry, options         [48] collectors   callback metrics, process_*
//   [20] metrics      counter, gauge, ...       [50] encoder      the cursor over a registry
//   [22] families     labelled metrics          [52] negotiation  Accept, escaping, name[]
//   [24] collectors   metrics made at scrape    [54] lint         promlint's rules, page diff
//   [26] exposition   cursor, expose            [56] pollers      epoll, kqueue, poll: one shape
//   [28] tasks        task<T>, awaitables       [58] loop         timers, posting, closing work
//   [30] deferreds    deferred<T>, completion   [60] http syntax  heads, no sockets
//   [32] instruments  time, count, track        [62] sessions     plain and TLS byte streams
//   [34] loop         event_loop                [64] http server  connections, limits, fairness
//   [36] server       start_http_server, TLS    [66] server main  starting, closing, the thread
//   [38] discovery    consul_agent, file_sd     [68] http client  one request, one response
//                                               [70] json         a writer, a small reader
//                                               [72] consul       registration that stays
//                                               [74] file_sd      an atomic target file
//                                               [88] epilogue     what the file leaves behind
#ifndef PROMETHEUS_ASYNC_HPP  // rooms [10] to [38]
#define PROMETHEUS_ASYNC_HPP

// =============================================================================
// [10] config                                       version, switches, ABI namespace
// =============================================================================
//
//   PROMETHEUS_ASYNC_IMPLEMENTATION  -         define in exactly one source file
//   PROMETHEUS_ASYNC_EXCEPTIONS      detected  0 builds without throw; part of the ABI namespace
//   PROMETHEUS_ASYNC_NO_THREADS      0         no locks, no thread_local; part of the ABI namespace
//   PROMETHEUS_ASYNC_NO_NETWORK      0         metrics and text only: drops [34]-[38], [56]-[74]
//   PROMETHEUS_ASYNC_SHARED          0         implementation symbols are exported from this object
//   PROMETHEUS_ASYNC_POLLER_POLL     0         poll(2) instead of epoll or kqueue
//   PROMETHEUS_ASYNC_FATAL(err)      print     what a broken contract does without exceptions

#define PROMETHEUS_ASYNC_VERSION 100  // major * 10000 + minor * 100 + patch
#define PROMETHEUS_ASYNC_VERSION_STRING "0.1.0"

#if defined(__clang__) && __clang_major__ < 16 && !defined(__apple_build_version__)
#error "prometheus_async.hpp needs clang 16 or newer: older ones accept metric names they must refuse"
#elif !defined(__clang__) && defined(__GNUC__) && __GNUC__ < 12
#error "prometheus_async.hpp needs g++ 12 or newer"
#elif __cplusplus < 202002L || !defined(__cpp_impl_coroutine)
#error "prometheus_async.hpp needs C++20: compile with -std=c++20"
#endif

#ifndef PROMETHEUS_ASYNC_EXCEPTIONS
#ifdef __cpp_exceptions
#define PROMETHEUS_ASYNC_EXCEPTIONS 1
#else
#define PROMETHEUS_ASYNC_EXCEPTIONS 0
#endif
#endif
#ifndef PROMETHEUS_ASYNC_NO_THREADS
#define PROMETHEUS_ASYNC_NO_THREADS 0
#endif
#ifndef PROMETHEUS_ASYNC_NO_NETWORK
#define PROMETHEUS_ASYNC_NO_NETWORK 0
#endif
#ifndef PROMETHEUS_ASYNC_SHARED
#define PROMETHEUS_ASYNC_SHARED 0
#endif
#ifndef PROMETHEUS_ASYNC_POLLER_POLL
#define PROMETHEUS_ASYNC_POLLER_POLL 0
#endif

#include <concepts>          // the verbs take any metric of the right shape
#include <coroutine>         // task
#include <cstddef>
#include <cstdint>
#include <cstdlib>           // abort
#include <cstring>           // memcpy
#if PROMETHEUS_ASYNC_EXCEPTIONS
#include <exception>         // exception_ptr
#endif
#include <initializer_list>  // list<T>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

// Units that disagree on exceptions or threads must not be linked together: they would not by name.
#if PROMETHEUS_ASYNC_EXCEPTIONS && !PROMETHEUS_ASYNC_NO_THREADS
#define PROMETHEUS_ASYNC_DETAIL_ABI v1
#elif PROMETHEUS_ASYNC_EXCEPTIONS
#define PROMETHEUS_ASYNC_DETAIL_ABI v1_nothreads
#elif !PROMETHEUS_ASYNC_NO_THREADS
#define PROMETHEUS_ASYNC_DETAIL_ABI v1_noexcept
#else
#define PROMETHEUS_ASYNC_DETAIL_ABI v1_noexcept_nothreads
#endif
#define PROMETHEUS_ASYNC_BEGIN namespace prometheus_async { inline namespace PROMETHEUS_ASYNC_DETAIL_ABI {
#define PROMETHEUS_ASYNC_END } }

// On every function, inline or not, that reaches the library's state: a plugin must find its own
// copy of both halves, never one half in another shared object. (On functions, not on types: g++
// warns about a user's struct that holds a hidden type.)
#if PROMETHEUS_ASYNC_SHARED
#define PROMETHEUS_ASYNC_DECL __attribute__((visibility("default")))
#else
#define PROMETHEUS_ASYNC_DECL __attribute__((visibility("hidden")))
#endif

PROMETHEUS_ASYNC_BEGIN
/// The version of the implementation that was linked, e.g. "0.1.0".
PROMETHEUS_ASYNC_DECL const char* version() noexcept;
namespace detail {
/// Undefined when no source file defines the macro that it names, defined twice when two do.
PROMETHEUS_ASYNC_DECL void define_PROMETHEUS_ASYNC_IMPLEMENTATION_in_exactly_one_source_file() noexcept;
}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [12] errors                                       errc, error, result<T>
//      needs [10]
// =============================================================================
//
// An update cannot fail. What the world breaks (a port in use, Consul down) is a result<T>. What the
// program breaks at start-up (a bad name, one name declared as two kinds) is raised: thrown as
// `failure`, or, without exceptions, given to PROMETHEUS_ASYNC_FATAL. Each raising function has a
// try_ twin that returns a result.
PROMETHEUS_ASYNC_BEGIN

enum class errc : std::uint8_t {
    invalid_name,     // a metric or label name that the format forbids
    invalid_option,   // an option, or a combination, that makes no sense
    conflict,         // the same name declared differently
    limit,            // a stated limit was reached
    system,           // a system call failed; sys() is errno
    timeout,          // a deadline passed
    canceled,         // closed or destroyed meanwhile
    protocol,         // the peer sent what the protocol forbids
    refused,          // the peer answered, and its answer is no
    tls,              // handshake or record layer
    unsupported       // not in this build or on this system
};

/// What went wrong, in one sentence that names what, where and why.
///
/// shape    trivially copyable; the message is cut at 120 bytes, at a code point; no allocation
/// threads  a value like any other
class error {
public:
    PROMETHEUS_ASYNC_DECL error(errc code, std::string_view message, int sys = 0) noexcept;
    /// "<what>: <strerror(sys)>", for a failed system call
    PROMETHEUS_ASYNC_DECL static error from_errno(std::string_view what, int sys) noexcept;

    errc code() const noexcept { return code_; }
    int sys() const noexcept { return sys_; }
    const char* describe() const noexcept { return text_; }

private:
    errc code_;
    int sys_;
    char text_[120];
};
static_assert(std::is_trivially_copyable_v<error>);

#if PROMETHEUS_ASYNC_EXCEPTIONS
/// The one exception type that the library itself throws; what() is why().describe().
class failure : public std::exception {
public:
    explicit failure(const error& why) noexcept : why_(why) {}
    const char* what() const noexcept override { return why_.describe(); }
    const error& why() const noexcept { return why_; }

private:
    error why_;
};
#endif

namespace detail {
/// The only throw of the library; aborts through PROMETHEUS_ASYNC_FATAL without exceptions.
[[noreturn]] PROMETHEUS_ASYNC_DECL void raise(const error& why);
}  // namespace detail

/// A value, or the error that kept it from being.
///
/// errors   value() raises the error; *, -> and why() require that you looked first
template <class T>
class [[nodiscard]] result {
public:
    using value_type = T;

    result(T value) : good_(true) { ::new (static_cast<void*>(&value_)) T(std::move(value)); }
    result(const error& why) noexcept : good_(false), why_(why) {}
    result(result&& other) noexcept(std::is_nothrow_move_constructible_v<T>) : good_(other.good_) {
        if (good_) ::new (static_cast<void*>(&value_)) T(std::move(other.value_));
        else ::new (static_cast<void*>(&why_)) error(other.why_);
    }
    result(const result& other) requires std::copy_constructible<T> : good_(other.good_) {
        if (good_) ::new (static_cast<void*>(&value_)) T(other.value_);
        else ::new (static_cast<void*>(&why_)) error(other.why_);
    }
    result& operator=(result other) noexcept(std::is_nothrow_move_constructible_v<T>) {
        if (this != &other) {
            this->~result();
            ::new (static_cast<void*>(this)) result(std::move(other));
        }
        return *this;
    }
    ~result() { if (good_) value_.~T(); }

    explicit operator bool() const noexcept { return good_; }
    T& operator*() & noexcept { return value_; }
    const T& operator*() const& noexcept { return value_; }
    T&& operator*() && noexcept { return std::move(value_); }
    T* operator->() noexcept { return &value_; }
    const T* operator->() const noexcept { return &value_; }
    const error& why() const noexcept { return why_; }
    T& value() & { return check(), value_; }
    const T& value() const& { return check(), value_; }
    T&& value() && { return check(), std::move(value_); }
    T value_or(T otherwise) && { return good_ ? std::move(value_) : std::move(otherwise); }

private:
    void check() const { if (!good_) detail::raise(why_); }

    bool good_;
    union {
        T value_;
        error why_;
    };
};

/// Success, or an error.
template <>
class [[nodiscard]] result<void> {
public:
    using value_type = void;

    result() noexcept : good_(true), why_(errc::canceled, {}) {}
    result(const error& why) noexcept : good_(false), why_(why) {}

    explicit operator bool() const noexcept { return good_; }
    const error& why() const noexcept { return why_; }
    void value() const { if (!good_) detail::raise(why_); }

private:
    bool good_;
    error why_;
};

PROMETHEUS_ASYNC_END

// =============================================================================
// [14] vocabulary                                   names, list, seconds, clock, events, callback
//      needs [12]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN

/// A string as a template argument: family<counter, "method", "status">.
template <std::size_t N>
struct fixed_string {
    char text[N] = {};
    consteval fixed_string(const char (&from)[N]) {
        for (std::size_t i = 0; i != N; ++i) text[i] = from[i];
    }
    constexpr std::string_view view() const noexcept { return {text, N - 1}; }
};

namespace detail {
constexpr bool legacy_letter(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
constexpr bool legacy_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr bool legacy_metric_name(std::string_view s) noexcept {
    if (s.empty() || legacy_digit(s[0])) return false;
    for (char c : s) if (!legacy_letter(c) && !legacy_digit(c) && c != ':') return false;
    return true;
}
constexpr bool legacy_label_name(std::string_view s) noexcept {
    if (s.empty() || legacy_digit(s[0])) return false;
    for (char c : s) if (!legacy_letter(c) && !legacy_digit(c)) return false;
    return true;
}
constexpr bool reserved_label_name(std::string_view s) noexcept { return s.substr(0, 2) == "__"; }

// Never defined: calling one in a constant expression is the compile error, and its name the message.
void a_metric_name_matches_letter_or_underscore_or_colon_then_also_digits();
}  // namespace detail

/// A metric's name, checked when the program is compiled: [a-zA-Z_:][a-zA-Z0-9_:]*.
/// Any other UTF-8 name is asked for in words: utf8("http.requests"). Names known only at run time
/// go through registry::try_* and make_*.
///
/// lifetime names in the program text live for ever
class metric_name {
public:
    consteval metric_name(const char* literal) : text_(literal) {
        if (!detail::legacy_metric_name(text_))
            detail::a_metric_name_matches_letter_or_underscore_or_colon_then_also_digits();
    }
    constexpr std::string_view view() const noexcept { return text_; }

private:
    friend constexpr metric_name utf8(std::string_view name) noexcept;
    struct unchecked {};
    constexpr metric_name(unchecked, std::string_view name) noexcept : text_(name) {}
    std::string_view text_;
};

/// A name outside the legacy grammar. Scrapers that did not ask for UTF-8 get it escaped.
///
/// errors   the declaration that uses it raises when it is empty or not UTF-8
constexpr metric_name utf8(std::string_view name) noexcept { return {metric_name::unchecked{}, name}; }

/// A view of elements given as a braced list, array, vector or span.
///
/// lifetime a braced list lives until the end of the full expression: a list is for passing, not for
///          keeping. Trivially destructible, because g++ 12 destroys braced arguments of a co_await twice
template <class T>
class list {
public:
    constexpr list() noexcept = default;
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Winit-list-lifetime"  // that is the point, see lifetime
#endif
    constexpr list(std::initializer_list<T> from) noexcept : data_(from.begin()), size_(from.size()) {}
#pragma GCC diagnostic pop
    constexpr list(const T* data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <class Range>
        requires requires(const Range& r) {
            { r.data() } -> std::convertible_to<const T*>;
            { r.size() } -> std::convertible_to<std::size_t>;
        }
    constexpr list(const Range& from) noexcept : data_(from.data()), size_(from.size()) {}
    template <std::size_t N>
    constexpr list(const T (&from)[N]) noexcept : data_(from), size_(N) {}

    constexpr const T* begin() const noexcept { return data_; }
    constexpr const T* end() const noexcept { return data_ + size_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr const T& operator[](std::size_t i) const noexcept { return data_[i]; }

private:
    const T* data_ = nullptr;
    std::size_t size_ = 0;
};

/// A label's name and value, for constant labels, exemplars and run-time declarations.
struct label {
    std::string_view name;
    std::string_view value;
};

/// A span of time in seconds, as every number of this library that measures time. Any
/// std::chrono::duration converts, without this file including <chrono>.
class seconds {
public:
    constexpr seconds() noexcept = default;
    constexpr seconds(double count) noexcept : count_(count) {}
    constexpr seconds(int count) noexcept : count_(count) {}
    template <class Duration>
        requires requires(const Duration& d) { d.count(); Duration::period::num; Duration::period::den; }
    constexpr seconds(const Duration& d) noexcept
        : count_(static_cast<double>(d.count()) * static_cast<double>(Duration::period::num) /
                 static_cast<double>(Duration::period::den)) {}
    constexpr double count() const noexcept { return count_; }

private:
    double count_ = 0;
};

/// Where time comes from, so that tests can move it.
///
/// unit     seconds; monotonic from any origin, wall since 1970
/// threads  called from any thread that updates, times or runs a loop
struct clock {
    double (*monotonic)();
    double (*wall)();
};
/// CLOCK_MONOTONIC and CLOCK_REALTIME.
PROMETHEUS_ASYNC_DECL clock system_clock() noexcept;
/// The clock that metrics and verbs read: one per process, system_clock() by default. Loops have
/// their own (loop_options::time).
///
/// threads  set it before threads that read it are started
PROMETHEUS_ASYNC_DECL void set_clock(clock c) noexcept;
PROMETHEUS_ASYNC_DECL double monotonic_now() noexcept;
PROMETHEUS_ASYNC_DECL double wall_now() noexcept;

/// What the library noticed and went on from: it never writes to stdout or stderr.
enum class event_kind : std::uint8_t {
    accept_failed,        // accept(2) failed; the server goes on
    connection_evicted,   // the oldest waiting connection made room for a new one
    connection_refused,   // nothing could be evicted: the newcomer got 503
    connection_stalled,   // a reader took nothing for too long and was reset
    handshake_failed,     // TLS
    certificate_rejected, // a reload failed; the old certificate stays
    credentials_in_clear, // basic or bearer on a plain port that is not loopback
    authorization_failed, // 401
    callback_failed,      // a collector, timer or posted callback threw
    step_ignored,         // a counter was given a negative or NaN step
    text_sanitized,       // invalid UTF-8 in a label value or help
    series_overflowed,    // a family reached its max_series
    registration_failed,  // service discovery; it is tried again
    registration_lost,    // the agent forgot us; it is registered again
    deregistration_failed
};

/// errors   `why` holds no credentials
/// lifetime valid during the call only
struct event {
    event_kind kind;
    const error& why;
};
using event_handler = void (*)(const event&, void* context);

/// A move-only function object: std::move_only_function for those who do not have it, without
/// <functional>. Empty when default-made; small captures are kept inside.
template <class Signature>
class callback;

template <class R, class... Args>
class callback<R(Args...)> {
public:
    callback() noexcept = default;
    template <class F>
        requires(!std::same_as<std::remove_cvref_t<F>, callback> && std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
    callback(F&& f) {
        using held = std::decay_t<F>;
        if constexpr (sizeof(held) <= sizeof(space_) && alignof(held) <= alignof(void*) &&
                      std::is_nothrow_move_constructible_v<held>) {
            ::new (static_cast<void*>(space_)) held(std::forward<F>(f));
            ops_ = &inside<held>;
        } else {
            ::new (static_cast<void*>(space_)) held*(new held(std::forward<F>(f)));
            ops_ = &outside<held>;
        }
    }
    callback(callback&& other) noexcept { take(other); }
    callback& operator=(callback&& other) noexcept {
        if (this != &other) {
            reset();
            take(other);
        }
        return *this;
    }
    ~callback() { reset(); }

    explicit operator bool() const noexcept { return ops_ != nullptr; }
    R operator()(Args... args) { return ops_->call(space_, std::forward<Args>(args)...); }
    void reset() noexcept {
        if (const operations* ops = std::exchange(ops_, nullptr)) ops->destroy(space_);
    }

private:
    struct operations {
        R (*call)(void*, Args&&...);
        void (*move)(void* to, void* from) noexcept;
        void (*destroy)(void*) noexcept;
    };
    template <class F>
    static constexpr operations inside{
        [](void* p, Args&&... args) -> R { return (*static_cast<F*>(p))(std::forward<Args>(args)...); },
        [](void* to, void* from) noexcept {
            ::new (to) F(std::move(*static_cast<F*>(from)));
            static_cast<F*>(from)->~F();
        },
        [](void* p) noexcept { static_cast<F*>(p)->~F(); }};
    template <class F>
    static constexpr operations outside{
        [](void* p, Args&&... args) -> R { return (**static_cast<F**>(p))(std::forward<Args>(args)...); },
        [](void* to, void* from) noexcept { ::new (to) F*(*static_cast<F**>(from)); },
        [](void* p) noexcept { delete *static_cast<F**>(p); }};

    void take(callback& other) noexcept {
        ops_ = std::exchange(other.ops_, nullptr);
        if (ops_) ops_->move(space_, other.space_);
    }

    const operations* ops_ = nullptr;
    alignas(void*) unsigned char space_[4 * sizeof(void*)];
};

/// Sole owner of a T that was made with new: std::unique_ptr without <memory>.
template <class T>
class owned {
public:
    owned() noexcept = default;
    explicit owned(T* made) noexcept : made_(made) {}
    template <class U>
        requires std::convertible_to<U*, T*>
    owned(owned<U>&& other) noexcept : made_(other.release()) {}
    owned(owned&& other) noexcept : made_(other.release()) {}
    owned& operator=(owned&& other) noexcept {
        if (this != &other) {
            delete made_;
            made_ = other.release();
        }
        return *this;
    }
    ~owned() { delete made_; }

    explicit operator bool() const noexcept { return made_ != nullptr; }
    T* get() const noexcept { return made_; }
    T& operator*() const noexcept { return *made_; }
    T* operator->() const noexcept { return made_; }
    T* release() noexcept { return std::exchange(made_, nullptr); }

private:
    T* made_ = nullptr;
};
PROMETHEUS_ASYNC_END

// =============================================================================
// [16] cells                                        where an update goes
//      needs [14]
// =============================================================================

// =============================================================================
// [18] registry                                     registry, metric_options
//      needs [16]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN

class registry;

PROMETHEUS_ASYNC_END

// =============================================================================
// [20] metrics                                      counter, gauge, histogram, summary, ...
//      needs [18]
// =============================================================================

// =============================================================================
// [22] families                                     family<M, "label"...>
//      needs [20]
// =============================================================================

// =============================================================================
// [24] collectors                                   metrics made at scrape time, process_*
//      needs [20]
// =============================================================================

// =============================================================================
// [26] exposition                                   formats, negotiation, cursor, expose
//      needs [18]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN

enum class format : std::uint8_t { text_0_0_4, text_1_0_0, openmetrics_0_0_1, openmetrics_1_0_0 };
enum class escaping : std::uint8_t { underscores, dots, values, allow_utf8 };

/// skip leaves a failed collector's families out; fail ends the page: pull::failed.
enum class collector_errors : std::uint8_t { skip, fail };
/// Whether counters, histograms and summaries show when they were made: doubles a counter's lines.
enum class created_series : std::uint8_t { off, openmetrics, all };

struct page_options {
    format as = format::text_0_0_4;
    escaping names = escaping::underscores;
    list<registry*> registries{};    // several are merged on one page; empty: the default registry
    list<std::string_view> only{};   // name[]: by family or sample name; empty: everything
    created_series created = created_series::off;
    collector_errors on_collector_error = collector_errors::skip;
};

enum class pull : std::uint8_t { more, done, wait, failed };
struct pulled {
    std::size_t bytes;  // written to the span, also when done
    pull what;          // wait: an asynchronous collector is at work, call again later
};

/// One page, pulled piece by piece into buffers of the caller's. Holds no lock between pulls; series
/// may come and go meanwhile: none is shown twice, those that live throughout exactly once.
///
/// lifetime copies the options; the registries may die meanwhile (their rest is then left out)
/// threads  one at a time; any number of cursors at once
/// errors   none but collectors'. A span shorter than 64 bytes is refused (failed)
class cursor {
public:
    cursor() noexcept = default;
    cursor(const cursor&) = delete;
    cursor& operator=(const cursor&) = delete;
    PROMETHEUS_ASYNC_DECL ~cursor();

    /// Begins a page. A cursor that is used again keeps its memory: no allocation in steady state.
    PROMETHEUS_ASYNC_DECL void start(const page_options& options);
    PROMETHEUS_ASYNC_DECL pulled next(std::span<char> into) noexcept;

    struct state;

private:
    state* state_ = nullptr;
};

struct negotiation {
    format as = format::text_0_0_4;
    escaping names = escaping::underscores;
    bool gzip = false;
};
/// What to answer to these two fields of a request. Never fails: nothing acceptable is text 0.0.4.
PROMETHEUS_ASYNC_DECL negotiation negotiate(std::string_view accept, std::string_view accept_encoding = {}) noexcept;
/// The exact Content-Type of a page, e.g. "text/plain; version=0.0.4; charset=utf-8".
PROMETHEUS_ASYNC_DECL std::string_view content_type(format as, escaping names) noexcept;

/// The whole page as one string.
PROMETHEUS_ASYNC_DECL std::string expose(const page_options& options = {});

struct stats_request {
    std::string_view accept{};
    list<registry*> registries{};
    list<std::string_view> only{};
};
struct stats_page {
    int status;                    // 200
    std::string_view content_type;
    std::string body;
};
/// A page for a program with an HTTP server of its own: give it the request's Accept field.
PROMETHEUS_ASYNC_DECL stats_page server_stats(const stats_request& request = {});

PROMETHEUS_ASYNC_END

// =============================================================================
// [28] tasks                                        task<T>, what is awaitable
//      needs [14]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN

template <class T = void>
class task;

namespace detail {

template <class A>
concept awaiter = requires(A& a, std::coroutine_handle<> h) {
    { a.await_ready() } -> std::convertible_to<bool>;
    a.await_suspend(h);
    a.await_resume();
};
template <class A>
concept has_member_co_await = requires(A&& a) { static_cast<A&&>(a).operator co_await(); };
template <class A>
concept has_free_co_await = requires(A&& a) { operator co_await(static_cast<A&&>(a)); };

/// The awaiter that `co_await a` uses where no await_transform intervenes.
template <class A>
decltype(auto) get_awaiter(A&& a) {
    if constexpr (has_member_co_await<A>) return static_cast<A&&>(a).operator co_await();
    else if constexpr (has_free_co_await<A>) return operator co_await(static_cast<A&&>(a));
    else return static_cast<A&&>(a);
}

// How far a child got while its parent was still inside await_suspend. It lives in that call's stack
// frame, so it outlives the whole chain of coroutines should the child destroy it.
enum class progress : std::uint8_t { suspended, finished, destroyed };

struct promise_base {
    struct final_awaiter {
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> self) const noexcept {
            promise_base& p = self.promise();
            if (p.starting) {
                *std::exchange(p.starting, nullptr) = progress::finished;  // the parent just goes on
            } else if (p.parent) {
                p.parent.resume();  // may destroy *self; nothing is touched after
            }
        }
        void await_resume() const noexcept {}
    };

    promise_base() noexcept = default;
    promise_base(const promise_base&) = delete;
    ~promise_base() { if (starting) *starting = progress::destroyed; }

    std::suspend_always initial_suspend() const noexcept { return {}; }
    final_awaiter final_suspend() const noexcept { return {}; }

    std::coroutine_handle<> parent;
    progress* starting = nullptr;
};

template <class T>
struct task_promise_value : promise_base {
    using stored = std::conditional_t<std::is_reference_v<T>, std::remove_reference_t<T>*, T>;
    enum class holds : std::uint8_t { nothing, value, exception };

    task_promise_value() noexcept {}
    ~task_promise_value() {
        if (what == holds::value) value.~stored();
#if PROMETHEUS_ASYNC_EXCEPTIONS
        if (what == holds::exception) exception.~exception_ptr();
#endif
    }
    template <class U = T>
        requires std::convertible_to<U&&, T>
    void return_value(U&& u) {
        if constexpr (std::is_reference_v<T>) {
            T reference = static_cast<U&&>(u);
            ::new (static_cast<void*>(&value)) stored(&reference);
        } else {
            ::new (static_cast<void*>(&value)) stored(static_cast<U&&>(u));
        }
        what = holds::value;
    }
    void unhandled_exception() noexcept {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        ::new (static_cast<void*>(&exception)) std::exception_ptr(std::current_exception());
        what = holds::exception;
#else
        std::abort();
#endif
    }
    T take() {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        if (what == holds::exception) std::rethrow_exception(std::exchange(exception, nullptr));
#endif
        if constexpr (std::is_reference_v<T>) return static_cast<T>(*value);
        else return std::move(value);
    }

    union {
        stored value;
#if PROMETHEUS_ASYNC_EXCEPTIONS
        std::exception_ptr exception;
#endif
    };
    holds what = holds::nothing;
};

template <>
struct task_promise_value<void> : promise_base {
    void return_void() noexcept {}
    void unhandled_exception() noexcept {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        exception = std::current_exception();
#else
        std::abort();
#endif
    }
    void take() {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        if (exception) std::rethrow_exception(std::exchange(exception, nullptr));
#endif
    }
#if PROMETHEUS_ASYNC_EXCEPTIONS
    std::exception_ptr exception;
#endif
};

}  // namespace detail

/// A lazy coroutine: it starts when it is awaited, and ends with its value, its exception, or by
/// being destroyed, which is safe at every point where it is suspended.
///
/// shape    await it once. Awaiting 10^6 ready tasks in a row uses no stack, at any optimisation
///          level: no symmetric transfer, which compilers keep only when they optimise
/// lifetime a task owns its frame; the frame ends with the task, awaited or not
/// threads  resumed on whichever thread its awaitables resume it
/// errors   the body's exception leaves the co_await, the same object
template <class T>
class [[nodiscard]] task {
public:
    struct promise_type : detail::task_promise_value<T> {
        task get_return_object() noexcept {
            return task(std::coroutine_handle<promise_type>::from_promise(*this));
        }
    };
    using value_type = T;

    task() noexcept = default;
    task(task&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
    task& operator=(task&& other) noexcept {
        if (this != &other) {
            if (auto old = std::exchange(frame_, std::exchange(other.frame_, nullptr))) old.destroy();
        }
        return *this;
    }
    ~task() {
        if (auto old = std::exchange(frame_, nullptr)) old.destroy();
    }

    explicit operator bool() const noexcept { return frame_ != nullptr; }

    auto operator co_await() && noexcept {
        struct awaiter {
            std::coroutine_handle<promise_type> child;

            bool await_ready() const noexcept { return false; }
            bool await_suspend(std::coroutine_handle<> parent) const {
                const auto frame = child;  // *this is gone when the child destroys the chain
                auto how_far = detail::progress::suspended;
                frame.promise().parent = parent;
                frame.promise().starting = &how_far;
                frame.resume();
                if (how_far == detail::progress::suspended) frame.promise().starting = nullptr;
                return how_far != detail::progress::finished;
            }
            T await_resume() const { return child.promise().take(); }
        };
        return awaiter{frame_};
    }

private:
    explicit task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
    std::coroutine_handle<promise_type> frame_;
};

PROMETHEUS_ASYNC_END

// =============================================================================
// [30] deferreds                                    deferred<T>, completion handlers
//      needs [28]
// =============================================================================

// =============================================================================
// [32] instruments                                  time, count_exceptions, track_inprogress
//      needs [20] [28] [30]
// =============================================================================

#if !PROMETHEUS_ASYNC_NO_NETWORK  // rooms [34] to [38]

// =============================================================================
// [34] loop                                         event_loop: tasks, timers, posting, readiness
//      needs [28]
// =============================================================================
struct pollfd;  // <poll.h>, for event_loop::fill

PROMETHEUS_ASYNC_BEGIN

enum class interest : std::uint8_t { none = 0, read = 1, write = 2, both = 3 };
constexpr interest operator|(interest a, interest b) noexcept {
    return static_cast<interest>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr interest operator&(interest a, interest b) noexcept {
    return static_cast<interest>(static_cast<unsigned>(a) & static_cast<unsigned>(b));
}

struct loop_options {
    clock time{nullptr, nullptr};      // system_clock() when null; timers use `monotonic`
    event_handler on_event = nullptr;  // exceptions of posted callbacks and spawned tasks
    void* context = nullptr;
    seconds closing_budget = 2;        // how long run() finishes closing work after its end
};

class event_loop;

namespace detail {

struct loop_state;
struct root_frame;  // a coroutine that the loop owns

/// A timer inside its owner: arming and cancelling allocate nothing. Destroying it cancels it, and a
/// loop that ends first disarms it.
class timer {
public:
    PROMETHEUS_ASYNC_DECL timer(event_loop& loop, void (*fire)(void* self), void* self) noexcept;
    timer(const timer&) = delete;
    timer& operator=(const timer&) = delete;
    ~timer() { cancel(); }

    PROMETHEUS_ASYNC_DECL void at(double when) noexcept;  // the loop's monotonic seconds; re-arms
    PROMETHEUS_ASYNC_DECL void after(seconds span) noexcept;
    PROMETHEUS_ASYNC_DECL void cancel() noexcept;
    bool armed() const noexcept { return prev_ != nullptr; }
    double when() const noexcept { return when_; }

private:
    friend struct loop_state;
    loop_state* loop_;
    void (*fire_)(void*);
    void* self_;
    double when_ = 0;
    std::uint64_t order_ = 0;  // equal times fire in the order of arming
    timer* child_ = nullptr;   // a pairing heap: first child, next sibling, and who points here
    timer* next_ = nullptr;
    timer** prev_ = nullptr;
};

/// Readiness of one descriptor, level-triggered, inside its owner. The callback may destroy the watch
/// or its owner, and any other watch. Errors and hang-ups are reported as both interests.
class watch {
public:
    PROMETHEUS_ASYNC_DECL watch(event_loop& loop, void (*ready)(void* self, interest got), void* self) noexcept;
    watch(const watch&) = delete;
    watch& operator=(const watch&) = delete;
    ~watch() { forget(); }

    PROMETHEUS_ASYNC_DECL result<void> set(int fd, interest want) noexcept;  // none: keeps quiet
    PROMETHEUS_ASYNC_DECL void forget() noexcept;                            // before closing fd
    int fd() const noexcept { return fd_; }

private:
    friend struct loop_state;
    loop_state* loop_;
    void (*ready_)(void*, interest);
    void* self_;
    int fd_ = -1;
    interest want_ = interest::none;
    watch* next_ = nullptr;
    watch** prev_ = nullptr;
    std::uint32_t slot_ = 0;  // the backend's
};

/// Something that must know when the loop ends before it does (a server, an agent).
class attachment {
public:
    PROMETHEUS_ASYNC_DECL attachment(event_loop& loop, void (*gone)(void* self) noexcept, void* self) noexcept;
    attachment(const attachment&) = delete;
    attachment& operator=(const attachment&) = delete;
    PROMETHEUS_ASYNC_DECL ~attachment();
    bool attached() const noexcept { return loop_ != nullptr; }

private:
    friend struct loop_state;
    loop_state* loop_;
    void (*gone_)(void*) noexcept;
    void* self_;
    attachment* next_ = nullptr;
    attachment** prev_ = nullptr;
};

}  // namespace detail

/// A reactor: tasks, timers, posted callbacks and descriptors on one thread, by epoll, kqueue or poll.
///
/// shape    run() drives it; or a host does: native_handle() in the host's own loop and poll() when
///          that is readable; next_deadline() for hosts with timers of their own; fill() with poll(2)
/// clock    loop_options::time.monotonic, read once a turn
/// lifetime outlives its tasks; servers and timers that outlive it are disarmed, never dangling
/// threads  one thread, except post() and stop(); stop() is async-signal-safe
/// errors   the constructor raises when the system gives no descriptors; an exception of the task
///          leaves run(); those of posted callbacks and spawned tasks go to on_event
class event_loop {
public:
    PROMETHEUS_ASYNC_DECL explicit event_loop(const loop_options& options = {});
    event_loop(const event_loop&) = delete;
    event_loop& operator=(const event_loop&) = delete;
    PROMETHEUS_ASYNC_DECL ~event_loop();

    /// Runs until `main` ends or stop() is called, then finishes closing work within its budget.
    /// Returns the task's value, or T{} when stopped, which stopped() tells.
    template <class T>
    T run(task<T> main);
    /// Runs until stop().
    PROMETHEUS_ASYNC_DECL void run();
    PROMETHEUS_ASYNC_DECL void stop() noexcept;
    PROMETHEUS_ASYNC_DECL bool stopped() const noexcept;

    /// One turn: waits at most `timeout` for something to be due, does what is due.
    PROMETHEUS_ASYNC_DECL void poll(seconds timeout = 0);
    /// Readable when poll() has work; -1 with the poll backend, where fill() gives the set.
    PROMETHEUS_ASYNC_DECL int native_handle() const noexcept;
    /// When poll() must be called at the latest; infinity when only a descriptor can wake it.
    PROMETHEUS_ASYNC_DECL double next_deadline() const noexcept;
    /// Fills `set` with what to poll; returns how many entries there are, also when more than fit.
    PROMETHEUS_ASYNC_DECL std::size_t fill(std::span<::pollfd> set) const noexcept;

    /// Runs `work` on the loop's thread, in order. From any thread.
    PROMETHEUS_ASYNC_DECL void post(callback<void()> work);
    /// Starts `work` now; the loop owns it and destroys it if it ends first.
    PROMETHEUS_ASYNC_DECL void spawn(task<void> work);
    /// As spawn, but run() (and the loop's destructor) gives it closing_budget to finish.
    PROMETHEUS_ASYNC_DECL void spawn_closing(task<void> work);

    double now() const noexcept;   // the turn's monotonic time
    auto sleep(seconds span) noexcept;         // co_await: void
    auto readable(int fd) noexcept;            // co_await: result<void>
    auto writable(int fd) noexcept;            // co_await: result<void>

private:
    friend class detail::timer;
    friend class detail::watch;
    friend class detail::attachment;
    detail::loop_state* state_;
};

PROMETHEUS_ASYNC_END

// =============================================================================
// [36] server                                       options, TLS hook, authorisation, servers
//      needs [26] [34]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN

class metrics_http_server;
class service_discovery;

// ---- TLS: a session is pure memory. The library feeds and drains it; no descriptor is ever seen. ----

enum class tls_status : std::uint8_t {
    ok,           // progress: see consumed and produced
    need_input,   // feed more of the peer's octets before calling again
    need_output,  // drain first, then call again
    closed,       // close_notify was received (read) or queued (shutdown)
    failed        // fatal and sticky; what can still be drained is the alert
};
struct tls_io {
    tls_status status = tls_status::failed;
    std::size_t consumed = 0;
    std::size_t produced = 0;
};
struct tls_peer {             // filled after the handshake
    std::string protocol;     // "TLSv1.3"
    std::string cipher;
    std::string alpn;         // "" or "http/1.1"
    std::string subject;      // of the verified certificate, RFC 4514; "" without one
    std::string fingerprint;  // SHA-256 of the certificate, lower-case hex; "" without one
    bool verified = false;
};

/// One TLS connection over memory buffers, written by the user or copied from examples/.
///
/// shape    both directions bounded: feed takes what it has room for, write returns need_output
///          instead of queueing more than about 64 kB
/// threads  one at a time
/// errors   failed is sticky; `closed` from read only for a received close_notify
class tls_session {
public:
    virtual ~tls_session() = default;
    virtual tls_io feed(std::span<const char> from_peer) noexcept = 0;
    virtual tls_io drain(std::span<char> to_peer) noexcept = 0;  // produced == 0: nothing pending
    virtual tls_status handshake() noexcept = 0;                 // ok, need_input, need_output, failed
    virtual tls_io read(std::span<char> plain) noexcept = 0;
    virtual tls_io write(std::span<const char> plain) noexcept = 0;
    virtual tls_status shutdown() noexcept = 0;                  // queues close_notify; idempotent
    virtual tls_peer peer() const { return {}; }
    virtual std::string last_error() const { return {}; }
};

/// How sessions are made: by a server for each accepted connection (verify_name is empty), by a client
/// with the host that the certificate MUST be verified against. To reload a certificate, return
/// sessions of the new one from then on; running sessions keep what they have.
///
/// errors   an empty result refuses the connection
struct tls_config {
    owned<tls_session> (*open)(void* context, std::string_view verify_name) noexcept = nullptr;
    void* context = nullptr;
    constexpr explicit operator bool() const noexcept { return open != nullptr; }
};

// ---- authorisation ----

/// A user and password, or a token, that is accepted. Compared in constant time; never printed.
struct credential {
    enum class scheme : std::uint8_t { basic, bearer };
    scheme kind;
    std::string_view user;
    std::string_view secret;
};
constexpr credential basic(std::string_view user, std::string_view password) noexcept {
    return {credential::scheme::basic, user, password};
}
constexpr credential bearer(std::string_view token) noexcept { return {credential::scheme::bearer, {}, token}; }

/// What an authorisation callback decides on.
///
/// lifetime valid until the decision
struct authorization_request {
    std::string_view method;
    std::string_view path;
    std::string_view authorization;  // the field's value; empty without one
    const tls_peer* peer;            // null on a plain connection
};
/// One of the two functions; `later` may take its time, on another thread too, as long as it is
/// resumed on the loop's.
struct authorizer {
    bool (*now)(const authorization_request&, void* context) = nullptr;
    task<bool> (*later)(const authorization_request&, void* context) = nullptr;
    void* context = nullptr;
    constexpr explicit operator bool() const noexcept { return now != nullptr || later != nullptr; }
};

// ---- options ----

/// A path and what is served there: one or several registries merged on one page, or a text.
struct route {
    std::string_view path;
    list<registry*> registries{};      // empty, with an empty text: the default registry
    std::string_view text{};
    std::string_view content_type = "text/plain; charset=utf-8";
    bool open = false;                 // answered without authorisation (a liveness path)
};

struct server_limits {
    std::size_t request_line = 8192;
    std::size_t header_bytes = 16384;
    std::size_t header_fields = 100;
    std::size_t connections = 128;
    std::size_t requests_per_connection = 10000;
    std::size_t handshakes = 16;       // in progress; the oldest is evicted
    std::size_t names = 256;           // values of name[]
    seconds header = 5;                // first octet (or accept) to the end of the header section
    seconds handshake = 5;
    seconds idle = 75;                 // kept alive, nothing asked
    seconds stall = 10;                // a reader that takes nothing
    seconds response = 60;
    seconds lingering = 1;
    int backlog = 511;
};

struct server_options {
    std::string_view addr{};           // "" all interfaces; "127.0.0.1", "::1", "localhost", "unix:/path", "unix:@name"
    std::uint16_t port = 0;            // 0: the system chooses
    int listen_fd = -1;                // a listening socket handed in (systemd); the server owns it then
    std::string_view advertise{};      // the host that url() and discovery tell, when addr is a wildcard
    prometheus_async::service_discovery* service_discovery = nullptr;
    tls_config tls{};
    list<credential> credentials{};
    prometheus_async::authorizer authorizer{};
    list<route> routes{};              // empty: "/" the link page, "/metrics" the default registry
    list<std::string_view> allowed_hosts{};  // empty: any Host
    server_limits limits{};
    collector_errors on_collector_error = collector_errors::skip;
    created_series created = created_series::off;
    bool self_metrics = false;         // of the scrape, in the default registry
    bool process_start_header = false; // Process-Start-Time-Unix on every page
    bool gzip = true;
    event_handler on_event = nullptr;
    void* context = nullptr;
};

namespace detail {
struct server_state;
}

/// A running server. Closing is idempotent and always closes the socket, whatever de-registration does.
///
/// lifetime the destructor closes the socket and connections at once and hands de-registration to the
///          loop as closing work; a loop that ends first closes it
/// threads  the loop's, but is_registered()
class metrics_http_server {
public:
    metrics_http_server() noexcept = default;
    metrics_http_server(metrics_http_server&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    PROMETHEUS_ASYNC_DECL metrics_http_server& operator=(metrics_http_server&& other) noexcept;
    PROMETHEUS_ASYNC_DECL ~metrics_http_server();

    PROMETHEUS_ASYNC_DECL std::string_view address() const noexcept;  // as bound: "0.0.0.0", "::", "/path"
    PROMETHEUS_ASYNC_DECL std::uint16_t port() const noexcept;
    PROMETHEUS_ASYNC_DECL bool https() const noexcept;
    PROMETHEUS_ASYNC_DECL void https(bool on) noexcept;  // behind a TLS proxy: url() follows, as upstream
    PROMETHEUS_ASYNC_DECL std::string url() const;       // "http://127.0.0.1:9464/"
    PROMETHEUS_ASYNC_DECL std::string_view advertise() const noexcept;  // as given in the options
    PROMETHEUS_ASYNC_DECL bool is_registered() const noexcept;
    /// De-registers (within the loop's closing budget), then closes. The result is de-registration's.
    PROMETHEUS_ASYNC_DECL task<result<void>> close();

private:
    friend struct detail::server_state;
    explicit metrics_http_server(detail::server_state* state) noexcept : state_(state) {}
    detail::server_state* state_ = nullptr;
};

/// Listens, registers, and returns the running server. Takes its copies of the options before it
/// returns the task.
///
/// errors   system: "cannot listen on 0.0.0.0:9464: Address already in use"; invalid_option; what
///          registration fails with. Nothing is left open
PROMETHEUS_ASYNC_DECL task<result<metrics_http_server>> start_http_server(event_loop& loop, const server_options& options);

#if !PROMETHEUS_ASYNC_NO_THREADS
/// A server with a loop and a thread ("PromAsyncWeb") of its own.
///
/// threads  any; close() joins and may be called twice; the destructor closes
class threaded_metrics_http_server {
public:
    threaded_metrics_http_server() noexcept = default;
    threaded_metrics_http_server(threaded_metrics_http_server&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)) {}
    PROMETHEUS_ASYNC_DECL threaded_metrics_http_server& operator=(threaded_metrics_http_server&& other) noexcept;
    PROMETHEUS_ASYNC_DECL ~threaded_metrics_http_server();

    PROMETHEUS_ASYNC_DECL std::string_view address() const noexcept;
    PROMETHEUS_ASYNC_DECL std::uint16_t port() const noexcept;
    PROMETHEUS_ASYNC_DECL bool https() const noexcept;
    PROMETHEUS_ASYNC_DECL std::string url() const;
    PROMETHEUS_ASYNC_DECL bool is_registered() const noexcept;
    PROMETHEUS_ASYNC_DECL result<void> close();

    struct state;

private:
    friend PROMETHEUS_ASYNC_DECL result<threaded_metrics_http_server> start_http_server_in_thread(const server_options&);
    state* state_ = nullptr;
};

/// Returns once the server listens (and is registered), or with the error that kept it from that.
PROMETHEUS_ASYNC_DECL result<threaded_metrics_http_server> start_http_server_in_thread(const server_options& options);
#endif

PROMETHEUS_ASYNC_END

// =============================================================================
// [38] discovery                                    service_discovery, consul_agent, file_sd
//      needs [36]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN

/// What a discovery keeps of a registered server. Both functions own copies of all that they need.
///
/// lifetime kept until the task that deregister returned has ended (it may be a lambda's coroutine)
/// errors   what deregister fails with is the result of the server's close(); the server closes anyway
struct registration {
    callback<task<result<void>>()> deregister;  // empty: nothing was registered, is_registered() is false
    callback<bool()> registered;                // empty: as long as there is a deregister; any thread
};

/// Tells others where a server is. Write one by deriving; consul_agent and file_sd are two.
///
/// lifetime outlives the start of the servers that it is given to
/// threads  the coroutine runs on the server's loop and never blocks it
/// errors   an error result fails the start of the server and leaves nothing open
class service_discovery {
public:
    virtual task<result<registration>> register_server(event_loop& loop, const metrics_http_server& server) = 0;

protected:
    ~service_discovery() = default;
};

enum class consul_check : std::uint8_t {
    http,  // the agent asks for "/" every interval
    ttl,   // we tell the agent that we live, three times per ttl
    none
};
/// What the start of a server does when its registration fails.
enum class on_failure : std::uint8_t {
    retry,  // the server runs; the watchdog goes on trying unless the agent called the request bad
    wait,   // the start returns once registered, or fails after `deadline`
    fail    // the start fails
};

/// unit     seconds
struct consul_options {
    std::string_view name = "app-metrics";
    std::string_view service_id{};         // empty: the name
    list<std::string_view> tags{};
    std::string_view token{};              // empty: CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_TOKEN
    bool deregister = true;                // false: the service outlives the server
    std::string_view agent{};              // "host:8500", "https://host", "unix:///path"; empty:
                                           // CONSUL_HTTP_ADDR (and _SSL), then 127.0.0.1:8500
    list<label> meta{};
    consul_check check = consul_check::http;
    seconds interval = 10;                 // of the HTTP check
    seconds timeout = 0;                   // of the HTTP check; 0: the agent's own, 10 s
    seconds ttl = 30;                      // of the TTL check
    bool tls_skip_verify = false;          // the agent need not trust the certificate of our server
    seconds deregister_critical_after = 0; // the agent forgets a dead service; 0: never, else >= 60
    std::string_view status{};             // until the first check: "passing", ...; empty: critical
    std::string_view advertise{};          // the host to tell; empty: the server's own, see consul_agent
    std::string_view in_namespace{};       // Consul Enterprise; open-source agents refuse it
    prometheus_async::on_failure on_failure = prometheus_async::on_failure::retry;
    seconds deadline = 60;                 // of on_failure::wait
    seconds budget = 2;                    // of de-registration
    seconds watch = 10;                    // how often the agent is asked whether it still knows us
    tls_config tls{};                      // for an https agent
    event_handler on_event = nullptr;      // registration_failed, _lost, deregistration_failed
    void* context = nullptr;
};

namespace detail {
struct consul_settings;
struct file_sd_settings;
}  // namespace detail

/// Registers servers in a Consul agent, sees to it that they stay registered when the agent restarts
/// or forgets, and de-registers them when they close.
///
/// A server on a wildcard address, told to an agent on this host, is registered without an address
/// (Consul then gives the node's) and checked on loopback; told to another host, under the address of
/// our side of the connection. `advertise`, here or in server_options, overrules both.
///
/// clock    the loop's: 3 s for each address to connect, 10 s for the first octet, 15 s for a request;
///          the watchdog's pauses after a failure grow from 1 s to 60 s, with jitter
/// lifetime copies the options and reads the environment when made; may die before the servers
/// threads  servers on several loops may share one
/// errors   invalid_option, before anything is sent, for what cannot work: an id that Consul could never
///          de-register, a token that is no field value, https without `tls`. All else: on_failure
class consul_agent final : public service_discovery {
public:
    PROMETHEUS_ASYNC_DECL explicit consul_agent(const consul_options& options = {});
    consul_agent(const consul_agent&) = delete;
    consul_agent& operator=(const consul_agent&) = delete;
    PROMETHEUS_ASYNC_DECL ~consul_agent();
    PROMETHEUS_ASYNC_DECL task<result<registration>> register_server(
        event_loop& loop, const metrics_http_server& server) override;

private:
    detail::consul_settings* settings_;
};

struct file_sd_options {
    std::string_view path;         // ends in ".json": Prometheus takes no other name for JSON
    list<label> labels{};
    std::string_view advertise{};  // the host to tell; empty: that of the server's url()
    bool keep_file = false;        // de-registration leaves an empty list instead of no file
};

/// Writes a target file for Prometheus' file_sd_configs: one server, one file, replaced atomically.
///
/// lifetime copies the options; may die before the servers
/// threads  servers on several loops may share one only if they have files of their own
/// errors   invalid_option for the path; system when the file cannot be written
class file_sd final : public service_discovery {
public:
    PROMETHEUS_ASYNC_DECL explicit file_sd(const file_sd_options& options);
    file_sd(const file_sd&) = delete;
    file_sd& operator=(const file_sd&) = delete;
    PROMETHEUS_ASYNC_DECL ~file_sd();
    PROMETHEUS_ASYNC_DECL task<result<registration>> register_server(
        event_loop& loop, const metrics_http_server& server) override;

private:
    detail::file_sd_settings* settings_;
};

PROMETHEUS_ASYNC_END
#endif  // rooms [34] to [38]

#endif  // rooms [10] to [38], PROMETHEUS_ASYNC_HPP

// #############################################################################
// implementation
// #############################################################################
#if defined(PROMETHEUS_ASYNC_IMPLEMENTATION) && !defined(PROMETHEUS_ASYNC_IMPLEMENTED)  // rooms [40] to [88]
#define PROMETHEUS_ASYNC_IMPLEMENTED  // rooms [40] to [88]

// =============================================================================
// [40] platform                                     system calls, fd, clock, errno
//      needs [14]
// =============================================================================

// =============================================================================
// [42] core                                         cells, records, tables, registry bodies
//      needs [16] [18] [20] [22] [40]
// =============================================================================

// =============================================================================
// [44] numbers                                      doubles and integers as text
//      needs [10]
// =============================================================================
//
// Integers: eight digits at a time inside one 64-bit word. Doubles: Schubfach (Giulietti 2020), which
// finds the shortest decimal that reads back as the same double, the closest one of these, by three
// multiplications with a power of ten of 128 bits. Its 617 powers would be 10 kB; here the compiler
// makes 24 of them and 27 powers of five out of one constant, and a power is their product.
PROMETHEUS_ASYNC_BEGIN
namespace detail {

// What a put_ function may write at `to`: all of it, however short the number is.
constexpr std::size_t number_size = 32;

struct wide {
    std::uint64_t high, low;
};
constexpr wide multiply_portable(std::uint64_t a, std::uint64_t b) noexcept {
    const std::uint64_t half = 0xffffffff, a0 = a & half, a1 = a >> 32, b0 = b & half, b1 = b >> 32;
    const std::uint64_t low = a0 * b0, one = a1 * b0 + (low >> 32), other = a0 * b1 + (one & half);
    return {a1 * b1 + (one >> 32) + (other >> 32), other << 32 | (low & half)};
}
inline wide multiply(std::uint64_t a, std::uint64_t b) noexcept {
#ifdef __SIZEOF_INT128__
    __extension__ typedef unsigned __int128 native;
    const native product = static_cast<native>(a) * b;
    return {static_cast<std::uint64_t>(product >> 64), static_cast<std::uint64_t>(product)};
#else
    return multiply_portable(a, b);
#endif
}

struct powers_of_ten {
    wide coarse[24];         // 10^-297, 10^-270, ... 10^324: the top 128 bits, rounded up
    std::uint64_t fine[27];  // 5^0 ... 5^26
};
consteval powers_of_ten make_powers() {
    powers_of_ten made{};
    std::uint64_t five = 1;
    for (auto& f : made.fine) f = five, five *= 5;
    // 10^-297 in 192 bits, rounded up, as each product is: 10^0 must not come out as 0.99...
    std::uint64_t at[3] = {0xa76c582338ed2621, 0xaf2af2b80af6f24e, 0x657c8f4d43323a37};
    for (auto& c : made.coarse) {
        c = {at[0] + (at[1] == ~std::uint64_t{0}), at[1] + 1};
        const wide low = multiply_portable(at[2], five), middle = multiply_portable(at[1], five),
                   high = multiply_portable(at[0], five);
        std::uint64_t word[4] = {high.high, high.low, middle.low, low.low};
        word[2] += low.high;
        std::uint64_t carry = word[2] < low.high;
        word[1] += carry;
        carry = word[1] < carry;
        word[1] += middle.high;
        word[0] += carry + (word[1] < middle.high);
        const int free = __builtin_clzll(word[0]);  // 1 or 2: 5^27 has 63 bits
        for (int i = 0; i != 3; ++i) at[i] = word[i] << free | word[i + 1] >> (64 - free);
        if (++at[2] == 0 && ++at[1] == 0) ++at[0];
    }
    return made;
}
inline constexpr powers_of_ten tens = make_powers();

// The top 128 bits of 10^k, at most 3 units too large, never too small.
inline wide power_of_ten(int k) noexcept {
    const unsigned from = static_cast<unsigned>(k + 297);
    const wide& coarse = tens.coarse[from / 27];
    const std::uint64_t fine = tens.fine[from % 27];
    const wide low = multiply(coarse.low, fine);
    wide high = multiply(coarse.high, fine);
    high.low += low.high;
    high.high += high.low < low.high;
    if (high.high == 0) {  // fine is 1
        high = coarse;
    } else if (const int free = __builtin_clzll(high.high)) {
        high = {high.high << free | high.low >> (64 - free), high.low << free | low.low >> (64 - free)};
    }
    if (++high.low == 0) ++high.high;
    return high;
}

// c * power / 2^128, the last bit set when anything was cut off. 10^-k's excess adds less than
// 2^-67 here, and what is no integer lies at least 2^-65.5 above one and 2^-61.6 below the next (the
// minimum over all doubles, by continued fractions), so that 2^-66 tells them apart.
inline std::uint64_t round_to_odd(const wide& power, std::uint64_t c) noexcept {
    const wide low = multiply(power.low, c);
    wide high = multiply(power.high, c);
    high.low += low.high;
    high.high += high.low < low.high;
    return high.high | (high.low != 0 || low.low >> 62 != 0);
}

struct decimal {
    std::uint64_t digits;  // no zeros at the end
    int exponent;          // digits * 10^exponent
};

// `bits` of a finite double above zero.
inline decimal shortest(std::uint64_t bits) noexcept {
    const std::uint64_t fraction = bits & ((std::uint64_t{1} << 52) - 1);
    const int biased = static_cast<int>(bits >> 52);
    const std::uint64_t c = biased ? fraction | std::uint64_t{1} << 52 : fraction;
    const int q = (biased ? biased : 1) - 1075;  // the double is c * 2^q
    const bool closer = fraction == 0 && biased > 1, even = c % 2 == 0;
    const int k = (q * 1262611 - (closer ? 524031 : 0)) >> 22;  // floor(log10(2^q)), of 3/4 * 2^q when closer
    const int h = q + ((-k * 1741647) >> 19) + 1;
    const wide power = power_of_ten(-k);
    const std::uint64_t lower = round_to_odd(power, (4 * c - 2 + closer) << h) + !even;
    const std::uint64_t here = round_to_odd(power, (4 * c) << h);
    const std::uint64_t upper = round_to_odd(power, (4 * c + 2) << h) - !even;

    decimal found{here / 4, k};
    const std::uint64_t s = here / 4, tenth = s / 10;
    const bool tenth_down = lower <= 40 * tenth, tenth_up = 40 * tenth + 40 <= upper;
    const bool down = lower <= 4 * s, up = 4 * s + 4 <= upper;
    if (s >= 10 && tenth_down != tenth_up) {
        found = {tenth + tenth_up, k + 1};
    } else if (down != up) {
        found.digits += up;
    } else {
        const std::uint64_t middle = 4 * s + 2;
        found.digits += here > middle || (here == middle && s % 2 != 0);
    }
    struct step { std::uint64_t by; int zeros; };
    for (const step& cut : {step{100000000, 8}, step{10000, 4}, step{100, 2}, step{10, 1}})
        if (found.digits % cut.by == 0) found = {found.digits / cut.by, found.exponent + cut.zeros};
    return found;
}

// Eight digits as bytes of a word, the first one in the lowest byte.
inline std::uint64_t eight_digits(std::uint32_t n) noexcept {
    const std::uint64_t fours = n / 10000 | std::uint64_t{n % 10000} << 32;
    const std::uint64_t hundreds = ((fours * 10486) >> 20) & 0x0000007f0000007f;
    const std::uint64_t twos = hundreds | (fours - 100 * hundreds) << 16;
    const std::uint64_t tens_of_each = ((twos * 103) >> 10) & 0x000f000f000f000f;
    return tens_of_each | (twos - 10 * tens_of_each) << 8;
}
inline char* put_word(char* to, std::uint64_t word, unsigned bytes) noexcept {
    word |= 0x3030303030303030;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    std::memcpy(to, &word, sizeof word);
    return to + bytes;
}

/// The digits of n.
///
/// shape    `to` has room for number_size bytes; returns the end of the number. So do all put_ functions
inline char* put_u64(char* to, std::uint64_t n) noexcept {
    if (n >= 100000000) {
        const std::uint64_t above = n / 100000000;
        to = put_u64(to, above);
        return put_word(to, eight_digits(static_cast<std::uint32_t>(n - above * 100000000)), 8);
    }
    const std::uint64_t word = eight_digits(static_cast<std::uint32_t>(n));
    const unsigned zeros = static_cast<unsigned>(__builtin_ctzll(word | std::uint64_t{1} << 56)) / 8;
    return put_word(to, word >> (8 * zeros), 8 - zeros);
}

// Go's 'g' form: an exponent iff it is below -4 or above 5; or always the fixed form.
inline char* put_decimal(char* to, const decimal& d, bool fixed) noexcept {
    char digits[number_size];
    const int count = static_cast<int>(put_u64(digits, d.digits) - digits);
    const int exponent = count - 1 + d.exponent;  // of the first digit
    const auto copy = [&](const char* from, int n) {
        std::memcpy(to, from, static_cast<std::size_t>(n));
        to += n;
    };
    const auto zeros = [&](int n) { while (n-- > 0) *to++ = '0'; };
    if (!fixed && (exponent < -4 || exponent > 5)) {
        copy(digits, 1);
        if (count > 1) *to++ = '.', copy(digits + 1, count - 1);
        *to++ = 'e';
        *to++ = exponent < 0 ? '-' : '+';
        const unsigned size = static_cast<unsigned>(exponent < 0 ? -exponent : exponent);
        if (size < 10) *to++ = '0';
        return put_u64(to, size);
    }
    if (exponent < 0) {
        copy("0.", 2);
        zeros(-exponent - 1);
        copy(digits, count);
    } else if (count <= exponent + 1) {
        copy(digits, count);
        zeros(exponent + 1 - count);
    } else {
        copy(digits, exponent + 1);
        *to++ = '.';
        copy(digits + exponent + 1, count - exponent - 1);
    }
    return to;
}

// Sign, infinities and NaN; true when that was all, else x is made positive (or +0).
inline bool put_special(char*& to, double& x, std::uint64_t& bits) noexcept {
    const auto text = [&](const char* word, std::size_t n) { std::memcpy(to, word, n), to += n; };
    std::memcpy(&bits, &x, sizeof bits);
    const bool negative = bits >> 63 != 0;
    bits &= ~(std::uint64_t{1} << 63);
    if (bits >= std::uint64_t{0x7ff} << 52) {
        if (bits > std::uint64_t{0x7ff} << 52) text("NaN", 3);
        else text(negative ? "-Inf" : "+Inf", 4);
        return true;
    }
    if (negative) text("-", 1);
    std::memcpy(&x, &bits, sizeof x);
    return false;
}

constexpr double two_to_53 = 9007199254740992.0;

/// The shortest text that reads back as x: digits only when x is whole and |x| < 2^53, else Go's 'g'.
PROMETHEUS_ASYNC_DECL char* put_double(char* to, double x) noexcept {
    std::uint64_t bits = 0;
    if (put_special(to, x, bits)) return to;
    if (x < two_to_53) {
        const auto whole = static_cast<std::uint64_t>(x);
        if (static_cast<double>(whole) == x) return put_u64(to, whole);
    }
    return put_decimal(to, shortest(bits), false);
}

/// The canonical form of `le` and `quantile`: 0.0, 0.25, 10.0, 1e+06, +Inf.
PROMETHEUS_ASYNC_DECL char* put_bound(char* to, double x) noexcept {
    std::uint64_t bits = 0;
    if (x == 0) x = 0;  // -0 is the same bound
    if (put_special(to, x, bits)) return to;
    if (x < 1e6 && static_cast<double>(static_cast<std::uint64_t>(x)) == x) {
        to = put_u64(to, static_cast<std::uint64_t>(x));
        std::memcpy(to, ".0", 2);
        return to + 2;
    }
    return put_decimal(to, shortest(bits), false);
}

/// An OpenMetrics timestamp: seconds, without an exponent for any time that a clock can tell.
PROMETHEUS_ASYNC_DECL char* put_timestamp(char* to, double unix_seconds) noexcept {
    double size = unix_seconds < 0 ? -unix_seconds : unix_seconds;
    if (!(size >= 1e-6 && size < two_to_53)) return put_double(to, unix_seconds);
    std::uint64_t bits = 0;
    put_special(to, unix_seconds, bits);
    return put_decimal(to, shortest(bits), true);
}

/// A timestamp of the text format: whole milliseconds, the nearest.
PROMETHEUS_ASYNC_DECL char* put_milliseconds(char* to, double unix_seconds) noexcept {
    double size = (unix_seconds < 0 ? -unix_seconds : unix_seconds) * 1e3 + 0.5;
    if (!(size < 9e18)) size = 0;
    const auto n = static_cast<std::uint64_t>(size);
    if (unix_seconds < 0 && n != 0) *to++ = '-';
    return put_u64(to, n);
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [46] text                                         UTF-8, names, escaping, labels
//      needs [14] [26]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN
namespace detail {

constexpr std::uint32_t no_code_point = 0xffffffff;

// The code point that begins at s[i], with i moved behind it; or no_code_point, with i behind the
// longest part that could have begun one. The second byte's range keeps out what is overlong,
// a surrogate, or above U+10FFFF.
inline std::uint32_t next_code_point(std::string_view s, std::size_t& i) noexcept {
    const unsigned first = static_cast<unsigned char>(s[i++]);
    if (first < 0x80) return first;
    unsigned more = 0, low = 0x80, high = 0xbf;
    if (first >= 0xc2 && first <= 0xdf) more = 1;
    else if (first >= 0xe0 && first <= 0xef) more = 2, low = first == 0xe0 ? 0xa0 : 0x80, high = first == 0xed ? 0x9f : 0xbf;
    else if (first >= 0xf0 && first <= 0xf4) more = 3, low = first == 0xf0 ? 0x90 : 0x80, high = first == 0xf4 ? 0x8f : 0xbf;
    else return no_code_point;
    std::uint32_t point = first & (0x3fu >> more);
    for (; more != 0; --more, low = 0x80, high = 0xbf) {
        const unsigned next = i < s.size() ? static_cast<unsigned char>(s[i]) : 0u;
        if (next < low || next > high) return no_code_point;
        point = point << 6 | (next & 0x3f);
        ++i;
    }
    return point;
}

inline std::size_t ascii_prefix(std::string_view s) noexcept {
    std::size_t i = 0;
    for (std::uint64_t word = 0; s.size() - i >= sizeof word; i += sizeof word) {
        std::memcpy(&word, s.data() + i, sizeof word);
        if (word & 0x8080808080808080) break;
    }
    while (i != s.size() && static_cast<unsigned char>(s[i]) < 0x80) ++i;
    return i;
}

PROMETHEUS_ASYNC_DECL bool valid_utf8(std::string_view s) noexcept {
    for (std::size_t i = ascii_prefix(s); i != s.size();)
        if (next_code_point(s, i) == no_code_point) return false;
    return true;
}

/// How many code points a valid text has; the limit of an exemplar is counted in them.
PROMETHEUS_ASYNC_DECL std::size_t code_points(std::string_view s) noexcept {
    std::size_t n = 0;
    for (char c : s) n += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    return n;
}

/// A copy in which what is not UTF-8 became U+FFFD: one bad byte in a label value would fail the
/// scrape of the whole page.
///
/// errors   `changed` is set when something was replaced, and never cleared
PROMETHEUS_ASYNC_DECL std::string sanitize_utf8(std::string_view s, bool& changed) {
    std::string clean;
    std::size_t good = 0;  // copied up to here
    for (std::size_t i = ascii_prefix(s); i != s.size();) {
        const std::size_t begin = i;
        if (next_code_point(s, i) != no_code_point) continue;
        clean.append(s, good, begin - good).append("\xef\xbf\xbd");
        good = i;
        changed = true;
    }
    return clean.append(s, good);
}

inline void append_escaped(std::string& to, std::string_view s, bool quotes) {
    std::size_t copied = 0;
    for (std::size_t i = 0; i != s.size(); ++i) {
        const char c = s[i];
        if (c != '\\' && c != '\n' && !(c == '"' && quotes)) continue;
        to.append(s, copied, i - copied).append(c == '\n' ? "\\n" : c == '"' ? "\\\"" : "\\\\");
        copied = i + 1;
    }
    to.append(s, copied);
}
PROMETHEUS_ASYNC_DECL void append_escaped_label(std::string& to, std::string_view value) { append_escaped(to, value, true); }
PROMETHEUS_ASYNC_DECL void append_escaped_help(std::string& to, std::string_view help, bool openmetrics) {
    append_escaped(to, help, openmetrics);  // the text format reads \" as two characters
}

inline bool legacy_name(std::string_view name, bool is_label) noexcept {
    return is_label ? legacy_label_name(name) : legacy_metric_name(name);
}
/// Whether the name stands in quotes where escaping::allow_utf8 was agreed on.
inline bool needs_quotes(std::string_view name, bool is_label) noexcept { return !legacy_name(name, is_label); }

/// The name as a scraper of this scheme reads it, as prometheus/common's EscapeName makes it; with
/// allow_utf8 unchanged, for the caller to quote (append_quoted).
///
/// errors   two names may become one: whoever emits both must look
PROMETHEUS_ASYNC_DECL void append_name(std::string& to, std::string_view name, escaping scheme, bool is_label) {
    const bool legacy = name.empty() || legacy_name(name, is_label);
    if (scheme == escaping::allow_utf8 || (legacy && scheme != escaping::dots)) {
        to.append(name);
        return;
    }
    if (scheme == escaping::values) to.append("U__");
    for (std::size_t i = 0; i != name.size();) {
        const std::size_t begin = i;
        const std::uint32_t point = next_code_point(name, i);
        const char c = point < 0x80 ? static_cast<char>(point) : '\0';
        if (c == '_' && scheme != escaping::underscores) {
            to.append("__");
        } else if (legacy_letter(c) || (legacy_digit(c) && begin != 0) || (c == ':' && !is_label)) {
            to.push_back(c);
        } else if (scheme == escaping::underscores) {
            to.push_back('_');
        } else if (scheme == escaping::dots) {
            to.append(c == '.' ? "_dot_" : "__");
        } else {
            char hex[8];
            std::size_t at = sizeof hex;
            const std::uint32_t shown = point == no_code_point ? 0xfffd : point;
            for (std::uint32_t rest = shown; at == sizeof hex || rest != 0; rest >>= 4)
                hex[--at] = (point == no_code_point ? "0123456789ABCDEF" : "0123456789abcdef")[rest & 15];
            to.append("_").append(hex + at, sizeof hex - at).append("_");
        }
    }
}
PROMETHEUS_ASYNC_DECL void append_quoted(std::string& to, std::string_view s) {
    to.push_back('"');
    append_escaped_label(to, s);
    to.push_back('"');
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [48] collectors                                   callback metrics, process_*
//      needs [24] [42]
// =============================================================================

// =============================================================================
// [50] encoder                                      the cursor over a registry
//      needs [26] [42] [44] [46] [48]
// =============================================================================

// =============================================================================
// [52] negotiation                                  Accept, escaping, name[]
//      needs [26]
// =============================================================================

// =============================================================================
// [54] lint                                         promlint's rules, page difference
//      needs [26] [50]
// =============================================================================

#if !PROMETHEUS_ASYNC_NO_NETWORK  // rooms [56] to [74]

// =============================================================================
// [56] pollers                                      epoll, kqueue, poll: one shape, three bodies
//      needs [34] [40]
// =============================================================================

// =============================================================================
// [58] loop                                         timers, posting, readiness, closing work
//      needs [34] [56]
// =============================================================================

// =============================================================================
// [60] http syntax                                  request and response heads, chunks; no sockets
//      needs [12]
// =============================================================================

// =============================================================================
// [62] sessions                                     plain and TLS byte streams over a descriptor
//      needs [36] [58]
// =============================================================================

// =============================================================================
// [64] http server                                  connections, limits, fairness
//      needs [36] [50] [52] [60] [62]
// =============================================================================

// =============================================================================
// [66] server main                                  starting, closing, the thread
//      needs [38] [64]
// =============================================================================

// =============================================================================
// [68] http client                                  one request, one response, deadlines
//      needs [58] [60] [62]
// =============================================================================

// =============================================================================
// [70] json                                         a writer, and a reader just big enough
//      needs [46]
// =============================================================================

// =============================================================================
// [72] consul                                       registration that stays
//      needs [38] [68] [70]
// =============================================================================

// =============================================================================
// [74] file_sd                                      an atomic target file
//      needs [38] [70]
// =============================================================================

#endif  // rooms [56] to [74]

// =============================================================================
// [88] epilogue                                     what the file leaves behind
//      needs [10]
// =============================================================================
#endif  // rooms [40] to [88]
