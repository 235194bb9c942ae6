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
// Memory   Once warm, an update, a lookup and a scrape on a kept-alive connection allocate nothing.
// Errors   An update cannot fail. System and network failures are returned as result<T>; a bad name throws [12].
//
// CONTENTS                                          search for the number in brackets
//
//   interface                                   implementation
//   [10] config       switches, ABI             [40] platform     memory, texts, system calls
//   [12] errors       error, result             [41] process      process_* from /proc
//   [14] vocabulary   names, list, seconds      [42] core         cells, records, threads
//   [16] cells        where updates go          [43] native       native histograms
//   [18] registry     types, registry, options  [44] numbers      doubles and integers as text
//   [20] metrics      counter, gauge, ...       [45] text         UTF-8, names, escaping, labels
//   [22] families     labelled metrics          [46] families     names, bounds, tables of series
//   [24] collectors   metrics made at scrape    [47] series       made, found, removed
//   [26] exposition   cursor, expose            [48] declaring    metrics and registries
//   [28] tasks        task<T>, awaitables       [49] gzip         a deflate encoder
//   [30] deferreds    deferred<T>, completion   [50] formats      how each format writes a page
//   [32] instruments  time, count, track        [51] wire formats protobuf, OpenMetrics 2.0
//   [34] loop         event_loop                [52] cursor       makes pages from registries
//   [36] server       start_http_server, TLS    [53] collectors   calls them, checks what they yield
//   [37] textfile     for node_exporter         [54] negotiation  Accept, one sample, one page
//   [38] discovery    consul_agent, file_sd     [55] unhandled    failures that were not handled
//   [39] push         pushgateway               [56] pollers      epoll, kqueue, poll: one shape
//                                               [58] loop         timers, posting, closing work
//                                               [60] http syntax  hosts, URLs, paths, dates
//                                               [61] http heads   requests and responses
//                                               [62] sessions     plain and TLS byte streams
//                                               [63] authority    credentials, decisions
//                                               [64] connection   one peer, from accept to end
//                                               [65] answers      routes, heads and bodies
//                                               [66] http server  limits, fairness, accepting
//                                               [67] server main  starting, closing, the thread
//                                               [68] http client  one request, one response
//                                               [69] pushgateway  checks and sends pages
//                                               [70] json         a writer
//                                               [71] landing page the registries as HTML, for people
//                                               [72] consul       registration, and its watchdog
//                                               [74] file_sd      an atomic target file
//                                               [76] textfile     writes a file, renames it
//                                               [88] epilogue     undefines its macros

// =============================================================================
// [10] config                                       version, switches, ABI namespace
// =============================================================================
//
//   PROMETHEUS_ASYNC_IMPLEMENTATION  -         define in exactly one source file
//   PROMETHEUS_ASYNC_EXCEPTIONS      detected  0 builds without throw; part of the ABI namespace
//   PROMETHEUS_ASYNC_NO_THREADS      0         no locks, no thread_local; part of the ABI namespace
//   PROMETHEUS_ASYNC_NO_GZIP         0         1 in the implementation's file: pages are never compressed; drops [49]
//   PROMETHEUS_ASYNC_NO_NATIVE       0         in the implementation's file: no native histograms, protobuf, OpenMetrics 2.0; drops [51]
//   PROMETHEUS_ASYNC_NO_NETWORK      0         metrics and text only: drops [34]-[39], [56]-[76]
//   PROMETHEUS_ASYNC_NO_DISCOVERY    0         no consul_agent, file_sd and pushgateway: drops [39], [68]-[74]
//   PROMETHEUS_ASYNC_SHARED          0         implementation symbols are exported from this object
//   PROMETHEUS_ASYNC_POLLER_POLL     0         poll(2) instead of epoll or kqueue
//   PROMETHEUS_ASYNC_SMALL_LIBC      0         for a libc on Linux without accept4, pipe2, epoll, eventfd, timerfd, getrandom, getauxval,
//                                              pthread_setname_np: accept, pipe, poll(2) and /dev/urandom instead
//   PROMETHEUS_ASYNC_FATAL(err)      print     without exceptions: called with the error of a broken contract, before abort()
//   PROMETHEUS_ASYNC_ALLOCATE(n, a)  -         in the implementation's file: allocates all memory of the library: n octets,
//                                              aligned to a, a power of two; null when there is no memory (README, Contract). It must not throw. It
//                                              is called by any thread, and before main() by metrics with static storage
//   PROMETHEUS_ASYNC_RELEASE(p, n)   -         defined together with ALLOCATE: frees the n octets that it returned as p

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
#ifndef PROMETHEUS_ASYNC_NO_GZIP
#define PROMETHEUS_ASYNC_NO_GZIP 0
#endif
#ifndef PROMETHEUS_ASYNC_NO_NATIVE
#define PROMETHEUS_ASYNC_NO_NATIVE 0
#endif
#ifndef PROMETHEUS_ASYNC_NO_NETWORK
#define PROMETHEUS_ASYNC_NO_NETWORK 0
#endif
#ifndef PROMETHEUS_ASYNC_NO_DISCOVERY
#define PROMETHEUS_ASYNC_NO_DISCOVERY 0
#endif
#ifndef PROMETHEUS_ASYNC_SHARED
#define PROMETHEUS_ASYNC_SHARED 0
#endif
#ifndef PROMETHEUS_ASYNC_SMALL_LIBC
#define PROMETHEUS_ASYNC_SMALL_LIBC 0
#endif
#ifndef PROMETHEUS_ASYNC_POLLER_POLL
#define PROMETHEUS_ASYNC_POLLER_POLL PROMETHEUS_ASYNC_SMALL_LIBC
#endif

// The macros from here to the include guard are undefined at the end of the file, each time it is included.

// Units that disagree on the version, exceptions or threads must not be linked together. Their names differ, so the link fails.
#define PROMETHEUS_ASYNC_DETAIL_GLUE(version, mode) v##version##mode
#define PROMETHEUS_ASYNC_DETAIL_NAMED(version, mode) PROMETHEUS_ASYNC_DETAIL_GLUE(version, mode)
#if PROMETHEUS_ASYNC_EXCEPTIONS && !PROMETHEUS_ASYNC_NO_THREADS
#define PROMETHEUS_ASYNC_DETAIL_ABI PROMETHEUS_ASYNC_DETAIL_NAMED(PROMETHEUS_ASYNC_VERSION, )
#elif PROMETHEUS_ASYNC_EXCEPTIONS
#define PROMETHEUS_ASYNC_DETAIL_ABI PROMETHEUS_ASYNC_DETAIL_NAMED(PROMETHEUS_ASYNC_VERSION, _nothreads)
#elif !PROMETHEUS_ASYNC_NO_THREADS
#define PROMETHEUS_ASYNC_DETAIL_ABI PROMETHEUS_ASYNC_DETAIL_NAMED(PROMETHEUS_ASYNC_VERSION, _noexcept)
#else
#define PROMETHEUS_ASYNC_DETAIL_ABI PROMETHEUS_ASYNC_DETAIL_NAMED(PROMETHEUS_ASYNC_VERSION, _noexcept_nothreads)
#endif

// Each shared object has its own copy of all code and state. So no function of the interface is exported, inline
// or not: none can bind to the one of another object. Types are exported, because g++ warns about a user's struct
// with a hidden member. clang takes this as attributes of a namespace, which also apply to functions that the
// compiler generates; g++ needs DECL on each function. tests/e2e/plugins.sh finds functions without it.
#define PROMETHEUS_ASYNC_LOCAL __attribute__((__visibility__("hidden")))
#if PROMETHEUS_ASYNC_SHARED
#define PROMETHEUS_ASYNC_DECL __attribute__((__visibility__("default")))
#else
#define PROMETHEUS_ASYNC_DECL PROMETHEUS_ASYNC_LOCAL
#endif
#if defined(__clang__) && !PROMETHEUS_ASYNC_SHARED
#define PROMETHEUS_ASYNC_BEGIN namespace prometheus_async { inline namespace PROMETHEUS_ASYNC_DETAIL_ABI \
    __attribute__((__visibility__("hidden"), __type_visibility__("default"))) {
#else
#define PROMETHEUS_ASYNC_BEGIN namespace prometheus_async { inline namespace PROMETHEUS_ASYNC_DETAIL_ABI {
#endif
#define PROMETHEUS_ASYNC_END } }
#define PROMETHEUS_ASYNC_BEGIN_FAST PROMETHEUS_ASYNC_BEGIN

// Code that is linked only with what asks for it: the interface takes its address. Weak, because the linker of a shared object
// stops at a missing address before it names the macro that is missing.
#define PROMETHEUS_ASYNC_DETAIL_ON_DEMAND PROMETHEUS_ASYNC_DECL __attribute__((__weak__))

// With -Os, a small function that is used in many places is not inlined.
#ifdef __OPTIMIZE_SIZE__
#define PROMETHEUS_ASYNC_DETAIL_ONCE __attribute__((__noinline__))
#else
#define PROMETHEUS_ASYNC_DETAIL_ONCE
#endif

// The parts of a lookup become one function, in which keys stay in registers.
#ifdef __OPTIMIZE_SIZE__
#define PROMETHEUS_ASYNC_DETAIL_JOINED inline
#else
#define PROMETHEUS_ASYNC_DETAIL_JOINED inline __attribute__((__always_inline__))
#endif

// Most machines load and store 64 bits at once. For the others (MIPS, older ARM), cell and shared_value have another
// implementation, so that libatomic is not needed.
#if defined(__GCC_ATOMIC_LLONG_LOCK_FREE) && __GCC_ATOMIC_LLONG_LOCK_FREE == 2
#define PROMETHEUS_ASYNC_DETAIL_WIDE 1
#else
#define PROMETHEUS_ASYNC_DETAIL_WIDE 0
#endif

// Calls that only Linux has, by a libc that knows them.
#if defined(__linux__) && !PROMETHEUS_ASYNC_SMALL_LIBC
#define PROMETHEUS_ASYNC_DETAIL_LINUX 1
#else
#define PROMETHEUS_ASYNC_DETAIL_LINUX 0
#endif

// Tests count with this macro the steps of loops whose length a client or a label value decides.
#ifndef PROMETHEUS_ASYNC_DETAIL_STEP
#define PROMETHEUS_ASYNC_DETAIL_STEP() static_cast<void>(0)
#endif

#ifndef PROMETHEUS_ASYNC_HPP  // rooms [10] to [39]
#define PROMETHEUS_ASYNC_HPP  // rooms [10] to [39]

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

PROMETHEUS_ASYNC_BEGIN
/// The version of the implementation that was linked, e.g. "0.1.0".
///
/// lifetime static
/// threads  any
PROMETHEUS_ASYNC_DECL const char* version() noexcept;
namespace detail {
/// The linker reports this name as undefined when no source file defines the macro, and as defined twice when two do.
PROMETHEUS_ASYNC_DECL void define_PROMETHEUS_ASYNC_IMPLEMENTATION_in_exactly_one_source_file_or_PROMETHEUS_ASYNC_SHARED_in_all() noexcept;
}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [12] errors                                       errc, error, result<T>
//      needs [10]
// =============================================================================
//
// An update cannot fail. System and network failures (a port in use, Consul down) are returned as result<T>.
// Programming errors (a bad name, one name declared as two kinds) are raised: thrown as
// `failure`, or, without exceptions, given to PROMETHEUS_ASYNC_FATAL. Each raising function has a
// try_ twin that returns a result.
PROMETHEUS_ASYNC_BEGIN

/// What kind of error it is.
///
/// source   error::code(); a value's comment says when it is given
enum class errc : std::uint8_t {
    invalid_name,     // a metric or label name that the format forbids
    invalid_option,   // an option, or a combination, that makes no sense
    conflict,         // the same name declared differently
    limit,            // a stated limit was reached
    system,           // a system call failed; sys() is errno
    timeout,          // a deadline passed
    canceled,         // closed or destroyed before it ended
    protocol,         // the peer sent what the protocol forbids
    refused,          // the peer refused
    tls,              // handshake or record layer
    unsupported       // not in this build or on this system
};

/// What went wrong, as one sentence that says what failed, where and why.
///
/// shape    trivially copyable; the message is cut at 120 bytes, at a code point, its control characters are spaces;
///          no allocation
/// threads  a value like any other
class error {
public:
    PROMETHEUS_ASYNC_DECL __attribute__((__cold__)) error(errc code, std::string_view message, int sys = 0) noexcept;  // for your own checks and discoveries
    template <std::size_t N>  // the length of a literal is a constant
    PROMETHEUS_ASYNC_DECL __attribute__((__always_inline__)) error(errc code, const char (&message)[N], int sys = 0) noexcept
        : error(code, std::string_view(message, __builtin_strlen(message)), sys) {}
    /// "<what>: <strerror(sys)>", for a failed system call
    PROMETHEUS_ASYNC_DECL static error from_errno(std::string_view what, int sys) noexcept;
    template <std::size_t N>
    PROMETHEUS_ASYNC_DECL __attribute__((__always_inline__)) static error from_errno(const char (&what)[N], int sys) noexcept {
        return from_errno(std::string_view(what, __builtin_strlen(what)), sys);
    }

    PROMETHEUS_ASYNC_DECL errc code() const noexcept { return code_; }             // the kind of error
    PROMETHEUS_ASYNC_DECL int sys() const noexcept { return sys_; }                // errno of a failed system call; else 0
    PROMETHEUS_ASYNC_DECL const char* describe() const noexcept { return text_; }  // the message; valid as long as this object

private:
    errc code_;
    int sys_;
    char text_[120];
};
static_assert(std::is_trivially_copyable_v<error>);

#if PROMETHEUS_ASYNC_EXCEPTIONS
/// The one exception type that the library itself throws; what() is why().describe().
///
/// threads  a value like any other
class failure : public std::exception {
public:
    PROMETHEUS_ASYNC_DECL explicit failure(const error& why) noexcept : why_(why) {}
    PROMETHEUS_ASYNC_DECL const char* what() const noexcept override { return why_.describe(); }
    PROMETHEUS_ASYNC_DECL const error& why() const noexcept { return why_; }

private:
    error why_;
};
#endif

namespace detail {
/// The only throw of the library; aborts through PROMETHEUS_ASYNC_FATAL without exceptions.
[[__noreturn__]] PROMETHEUS_ASYNC_DECL void raise(const error& why);

/// Assigns by destroying `to` and constructing it again. If that throws, `to` becomes what failed() returns, and the exception
/// is thrown again.
template <class Object, class Failed>
PROMETHEUS_ASYNC_DECL void remake(Object& to, Object& from, [[maybe_unused]] Failed failed) noexcept(std::is_nothrow_move_constructible_v<Object>) {
    to.~Object();
#if PROMETHEUS_ASYNC_EXCEPTIONS
    if constexpr (!std::is_nothrow_move_constructible_v<Object>) {
        try {
            ::new (static_cast<void*>(&to)) Object(std::move(from));
        } catch (...) {
            ::new (static_cast<void*>(&to)) Object(failed());
            throw;
        }
        return;
    }
#endif
    ::new (static_cast<void*>(&to)) Object(std::move(from));
}
}  // namespace detail

namespace detail {
/// A Value, or the reason why there is none. The base of result, of outcome, and of a task's end.
template <class Value, class Why>
class value_or_why {
public:
    PROMETHEUS_ASYNC_DECL value_or_why() noexcept : good_(false), why_() {}
    PROMETHEUS_ASYNC_DECL value_or_why(Value value) : good_(true) { ::new (static_cast<void*>(&value_)) Value(static_cast<Value&&>(value)); }
    PROMETHEUS_ASYNC_DECL value_or_why(const Why& why) noexcept : good_(false), why_(why) {}
    PROMETHEUS_ASYNC_DECL value_or_why(value_or_why&& other) noexcept(std::is_nothrow_move_constructible_v<Value>) : good_(other.good_) {
        if (good_) ::new (static_cast<void*>(&value_)) Value(static_cast<Value&&>(other.value_));
        else ::new (static_cast<void*>(&why_)) Why(other.why_);
    }
    PROMETHEUS_ASYNC_DECL value_or_why(const value_or_why& other) requires std::copy_constructible<Value> : good_(other.good_) {
        if (good_) ::new (static_cast<void*>(&value_)) Value(other.value_);
        else ::new (static_cast<void*>(&why_)) Why(other.why_);
    }
    PROMETHEUS_ASYNC_DECL ~value_or_why() {
        if (good_) value_.~Value();
        else why_.~Why();
    }

    PROMETHEUS_ASYNC_DECL explicit operator bool() const noexcept { return good_; }
    PROMETHEUS_ASYNC_DECL Value& operator*() & noexcept { return value_; }
    PROMETHEUS_ASYNC_DECL const Value& operator*() const& noexcept { return value_; }
    PROMETHEUS_ASYNC_DECL Value&& operator*() && noexcept { return static_cast<Value&&>(value_); }
    PROMETHEUS_ASYNC_DECL Value* operator->() noexcept { return &value_; }
    PROMETHEUS_ASYNC_DECL const Value* operator->() const noexcept { return &value_; }
    PROMETHEUS_ASYNC_DECL const Why& why() const noexcept { return why_; }

    // Until it has a value it holds an empty Why, which needs no destructor.
    template <class From>
    PROMETHEUS_ASYNC_DECL void put(From&& from) {
        ::new (static_cast<void*>(&value_)) Value(static_cast<From&&>(from));
        good_ = true;
    }
    PROMETHEUS_ASYNC_DECL void put_why(Why why) noexcept { ::new (static_cast<void*>(&why_)) Why(static_cast<Why&&>(why)); }
    PROMETHEUS_ASYNC_DECL Why& why_inside() noexcept { return why_; }

private:
    bool good_;
    union {
        Value value_;
        Why why_;
    };
};
}  // namespace detail

/// A value, or the error that says why there is none:
///
///     auto server = prom::start_http_server_in_thread({.port = 9464});
///     if (!server) std::puts(server.why().describe());
///     else std::puts(server->url().c_str());
///
/// threads  a value like any other
/// errors   value() raises the error; before *, -> and why() the caller must test which of the two there is
template <class T>
class [[nodiscard]] result : detail::value_or_why<T, error> {
    using base = detail::value_or_why<T, error>;

public:
    using value_type = T;
    using base::operator bool;   // there is a value
    using base::operator*;
    using base::operator->;
    using base::why;             // the error

    PROMETHEUS_ASYNC_DECL result(T value) : base(static_cast<T&&>(value)) {}
    PROMETHEUS_ASYNC_DECL result(const error& failed) noexcept : base(failed) {}
    PROMETHEUS_ASYNC_DECL result(result&& other) noexcept(std::is_nothrow_move_constructible_v<T>) = default;
    PROMETHEUS_ASYNC_DECL result(const result& other) requires std::copy_constructible<T> = default;
    PROMETHEUS_ASYNC_DECL result& operator=(result other) noexcept(std::is_nothrow_move_constructible_v<T>) {
        detail::remake(*this, other, [] { return error(errc::canceled, "moving the value threw"); });
        return *this;
    }
    PROMETHEUS_ASYNC_DECL ~result() = default;

    /// The value; raises the error if there is none.
    PROMETHEUS_ASYNC_DECL T& value() & { return raise_if_bad(), **this; }
    PROMETHEUS_ASYNC_DECL const T& value() const& { return raise_if_bad(), **this; }
    PROMETHEUS_ASYNC_DECL T&& value() && { return raise_if_bad(), *static_cast<result&&>(*this); }
    /// The value, or `otherwise` if there is none.
    PROMETHEUS_ASYNC_DECL T value_or(T otherwise) && { return static_cast<T&&>(*this ? **this : otherwise); }

private:
    PROMETHEUS_ASYNC_DECL void raise_if_bad() const { if (!*this) detail::raise(this->why()); }
};

/// Success, or an error.
///
/// threads  a value like any other
template <>
class [[nodiscard]] result<void> {
public:
    using value_type = void;

    PROMETHEUS_ASYNC_DECL result() noexcept : good_(true), why_(errc::canceled, {}) {}
    PROMETHEUS_ASYNC_DECL result(const error& why) noexcept : good_(false), why_(why) {}

    PROMETHEUS_ASYNC_DECL explicit operator bool() const noexcept { return good_; }
    PROMETHEUS_ASYNC_DECL const error& why() const noexcept { return why_; }
    PROMETHEUS_ASYNC_DECL void value() const { if (!good_) detail::raise(why_); }  // raises the error if there is one

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
///
/// shape    N octets, the last one a NUL; made from a string literal only
/// lifetime that of a template argument: static
template <std::size_t N>
struct fixed_string {
    char text[N] = {};
    PROMETHEUS_ASYNC_DECL consteval fixed_string(const char (&from)[N]) {
        for (std::size_t i = 0; i != N; ++i) text[i] = from[i];
    }
    PROMETHEUS_ASYNC_DECL constexpr std::string_view view() const noexcept { return {text, N - 1}; }
};

namespace detail {
PROMETHEUS_ASYNC_DECL constexpr bool legacy_letter(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
PROMETHEUS_ASYNC_DECL constexpr bool legacy_digit(char c) noexcept { return c >= '0' && c <= '9'; }
PROMETHEUS_ASYNC_DECL constexpr bool legacy_metric_name(std::string_view s) noexcept {
    if (s.empty() || legacy_digit(s[0])) return false;
    for (char c : s) if (!legacy_letter(c) && !legacy_digit(c) && c != ':') return false;
    return true;
}
PROMETHEUS_ASYNC_DECL constexpr bool legacy_label_name(std::string_view s) noexcept {
    if (s.empty() || legacy_digit(s[0])) return false;
    for (char c : s) if (!legacy_letter(c) && !legacy_digit(c)) return false;
    return true;
}
PROMETHEUS_ASYNC_DECL constexpr bool reserved_label_name(std::string_view s) noexcept { return s.substr(0, 2) == "__"; }

// Not constexpr: a call in a constant expression does not compile, and the name of the function is the message.
// They are defined nevertheless, because clang 16 emits consteval constructors at -O0.
PROMETHEUS_ASYNC_DECL inline void a_metric_name_matches_letter_or_underscore_or_colon_then_also_digits() {}
}  // namespace detail

/// A metric's name, checked when the program is compiled: [a-zA-Z_:][a-zA-Z0-9_:]*.
/// Any other UTF-8 name is written as utf8("http.requests"). For names known only at run time use
/// registry::try_* and make_*.
///
/// lifetime static, that of a string literal
/// threads  a value like any other
class metric_name {
public:
    PROMETHEUS_ASYNC_DECL consteval metric_name(const char* const& literal) : text_(literal) {
        if (!detail::legacy_metric_name(text_))
            detail::a_metric_name_matches_letter_or_underscore_or_colon_then_also_digits();
    }
    template <class Text>  // also a pointer that is not a constant expression
        requires(std::convertible_to<Text, std::string_view> &&
                 !(std::is_const_v<std::remove_reference_t<Text>> && std::convertible_to<Text, const char*>))
    metric_name(Text&&) = delete;  // a name known only at run time: registry::make_counter(name, help) and so on
    PROMETHEUS_ASYNC_DECL constexpr std::string_view view() const noexcept { return text_; }
    PROMETHEUS_ASYNC_DECL constexpr bool is_utf8() const noexcept { return utf8_; }  // made by utf8()

private:
    friend constexpr metric_name utf8(std::string_view name) noexcept;
    struct unchecked {};
    PROMETHEUS_ASYNC_DECL constexpr metric_name(unchecked, std::string_view name) noexcept : text_(name), utf8_(true) {}
    std::string_view text_;
    bool utf8_ = false;
};

/// A name of a metric or label outside the legacy grammar. For scrapers that do not accept UTF-8 names it is escaped.
///
/// errors   the declaration that uses it raises when it is empty or not UTF-8
PROMETHEUS_ASYNC_DECL constexpr metric_name utf8(std::string_view name) noexcept { return {metric_name::unchecked{}, name}; }

/// A name of a metric or label known only at run time: any string, or the result of utf8(). The declaration that uses it
/// checks it: [a-zA-Z_:][a-zA-Z0-9_:]* for a metric, without colons for a label; any UTF-8 text with utf8().
///
/// lifetime a view
/// threads  a value like any other
class any_name : public std::string_view {
public:
    PROMETHEUS_ASYNC_DECL constexpr any_name() noexcept = default;
    template <class Text>
        requires std::convertible_to<const Text&, std::string_view>
    PROMETHEUS_ASYNC_DECL constexpr any_name(const Text& name) noexcept : std::string_view(name) {}
    PROMETHEUS_ASYNC_DECL constexpr any_name(const metric_name& name) noexcept : std::string_view(name.view()), utf8_(name.is_utf8()) {}
    PROMETHEUS_ASYNC_DECL constexpr bool is_utf8() const noexcept { return utf8_; }

private:
    bool utf8_ = false;
};

namespace detail {
/// An element of a braced list of texts. It refuses {{"a", "b"}}, from which a string_view takes "a" as the begin and "b" as the end
/// of one text.
class PROMETHEUS_ASYNC_LOCAL one_text : public std::string_view {
public:
    PROMETHEUS_ASYNC_DECL constexpr one_text() noexcept = default;
    template <class Text>
        requires std::convertible_to<const Text&, std::string_view>
    PROMETHEUS_ASYNC_DECL constexpr one_text(const Text& from) noexcept : std::string_view(from) {}
    PROMETHEUS_ASYNC_DECL constexpr one_text(const char* at, std::size_t n) noexcept : std::string_view(at, n) {}
    template <class First, class... Rest>
        requires(sizeof...(Rest) != 0 && std::convertible_to<const First&, std::string_view> && (std::convertible_to<const Rest&, std::string_view> && ...))
    one_text(const First&, const Rest&...) = delete;  // a list of texts has one pair of braces, {"a", "b"}; one text has none
};
static_assert(sizeof(one_text) == sizeof(std::string_view));  // an array of the one is read as one of the other
template <class T>
using braced = std::conditional_t<std::is_same_v<T, std::string_view>, one_text, T>;
}  // namespace detail

/// A text that ends with a NUL, so c_str() is a C string. It converts to std::string, and can be added to one. std::format
/// takes std::string_view(text).
///
/// shape    a std::string_view; size() does not count the NUL
/// lifetime valid as long as the function that returns it says
/// threads  a value like any other
class zstring_view : public std::string_view {
public:
    PROMETHEUS_ASYNC_DECL constexpr zstring_view() noexcept : std::string_view("", 0) {}
    PROMETHEUS_ASYNC_DECL constexpr zstring_view(const char* text, std::size_t size) noexcept : std::string_view(text, size) {}  // text[size] is NUL
    PROMETHEUS_ASYNC_DECL constexpr zstring_view(const char* text) noexcept : std::string_view(text) {}
    PROMETHEUS_ASYNC_DECL constexpr const char* c_str() const noexcept { return data(); }
    void remove_suffix(std::size_t) = delete;
    PROMETHEUS_ASYNC_DECL operator std::string() const { return std::string(data(), size()); }

    template <std::same_as<zstring_view> Same>
    PROMETHEUS_ASYNC_DECL friend std::string operator+(const Same& a, const Same& b) { return std::string(a).append(b); }
    template <std::same_as<char> Char>
    PROMETHEUS_ASYNC_DECL friend std::string operator+(const zstring_view& a, Char b) { return std::string(a) += b; }
    PROMETHEUS_ASYNC_DECL friend std::string operator+(const zstring_view& a, const std::string& b) { return std::string(a.data(), a.size()) + b; }
    PROMETHEUS_ASYNC_DECL friend std::string operator+(std::string a, const zstring_view& b) { return a.append(b.data(), b.size()); }
};

/// A view of elements given as a braced list, array, vector or span.
///
/// lifetime a braced list lives until the end of the full expression, so pass a list, and do not store it.
///          Trivially destructible, because g++ 12 destroys braced arguments of a co_await twice
/// threads  a value like any other
/// errors   none. In a constant expression clang reads only the first of braced texts: name an array of std::string_view
template <class T>
class list {
public:
    PROMETHEUS_ASYNC_DECL constexpr list() noexcept = default;
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Winit-list-lifetime"  // intended, see lifetime
#endif
    PROMETHEUS_ASYNC_DECL constexpr list(std::initializer_list<detail::braced<T>> from) noexcept : data_(from.begin()), size_(from.size()) {}
    template <class All>
        requires std::same_as<All, std::initializer_list<T>>
    PROMETHEUS_ASYNC_DECL constexpr list(const All& from) noexcept : data_(from.begin()), size_(from.size()) {}  // one that has a name
#pragma GCC diagnostic pop
    PROMETHEUS_ASYNC_DECL constexpr list(const T* data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <class Range>
        requires requires(const Range& r) {
            { r.data() } -> std::convertible_to<const T*>;
            { r.size() } -> std::convertible_to<std::size_t>;
        }
    PROMETHEUS_ASYNC_DECL constexpr list(const Range& from) noexcept : data_(from.data()), size_(from.size()) {
        static_assert(sizeof(*from.data()) == sizeof(T), "a list of a class cannot view elements of a larger derived class");
    }
    template <std::size_t N>
    PROMETHEUS_ASYNC_DECL constexpr list(T const (&from)[N]) noexcept : data_(from), size_(N) {}

    PROMETHEUS_ASYNC_DECL constexpr const T* begin() const noexcept { return data_; }
    PROMETHEUS_ASYNC_DECL constexpr const T* end() const noexcept { return data_ + size_; }
    PROMETHEUS_ASYNC_DECL constexpr std::size_t size() const noexcept { return size_; }
    PROMETHEUS_ASYNC_DECL constexpr bool empty() const noexcept { return size_ == 0; }
    PROMETHEUS_ASYNC_DECL constexpr const T& operator[](std::size_t i) const noexcept { return data_[i]; }

private:
    const T* data_ = nullptr;
    std::size_t size_ = 0;
};

namespace detail {
/// A list, and a pointer to code that only programs need which give such a list; null: none was given. It is no base, so that a
/// list cannot be assigned to it without the code.
template <class T, class Code>
class list_with {
public:
    PROMETHEUS_ASYNC_DECL constexpr list_with() noexcept : code_(nullptr) {}
    PROMETHEUS_ASYNC_DECL constexpr list_with(std::initializer_list<braced<T>> from) noexcept : list_(from) {}
    PROMETHEUS_ASYNC_DECL constexpr list_with(const T* at, std::size_t n) noexcept : list_(at, n) {}
    PROMETHEUS_ASYNC_DECL constexpr list_with(const T* at, std::size_t n, const Code* code) noexcept : list_(at, n), code_(code) {}
    template <class From>
        requires(!std::same_as<From, list_with> && std::convertible_to<const From&, list<T>>)
    PROMETHEUS_ASYNC_DECL constexpr list_with(const From& from) : list_(static_cast<list<T>>(from)) {}
    PROMETHEUS_ASYNC_DECL constexpr const Code* code() const noexcept { return code_; }
    PROMETHEUS_ASYNC_DECL constexpr const T* data() const noexcept { return list_.begin(); }
    PROMETHEUS_ASYNC_DECL constexpr const T* begin() const noexcept { return list_.begin(); }
    PROMETHEUS_ASYNC_DECL constexpr const T* end() const noexcept { return list_.end(); }
    PROMETHEUS_ASYNC_DECL constexpr std::size_t size() const noexcept { return list_.size(); }
    PROMETHEUS_ASYNC_DECL constexpr bool empty() const noexcept { return list_.empty(); }
    PROMETHEUS_ASYNC_DECL constexpr const T& operator[](std::size_t i) const noexcept { return list_[i]; }

private:
    list<T> list_;
    const Code* code_ = &Code::all;
};
/// The same for a number, an enumerator or a function; null: it is Code::unset, or Value{} if there is no such constant.
template <class Value, class Code>
class value_with {
public:
    PROMETHEUS_ASYNC_DECL constexpr value_with() noexcept = default;
    PROMETHEUS_ASYNC_DECL constexpr value_with(Value value) noexcept : value_(value), code_(is_set(value) ? &Code::all : nullptr) {}
    template <class From>
        requires(std::is_pointer_v<Value> && !std::same_as<From, value_with> && std::convertible_to<const From&, Value>)
    PROMETHEUS_ASYNC_DECL constexpr value_with(const From& from) noexcept : value_with(static_cast<Value>(from)) {}  // a lambda
    PROMETHEUS_ASYNC_DECL constexpr operator Value() const noexcept { return value_; }
    PROMETHEUS_ASYNC_DECL constexpr const Code* code() const noexcept { return code_; }

private:
    PROMETHEUS_ASYNC_DECL static constexpr bool is_set(Value value) noexcept {
        if constexpr (std::same_as<Value, double>) return __builtin_bit_cast(std::uint64_t, value) != 0;  // no comparison: -Wfloat-equal
        else return value != unset();
    }
    PROMETHEUS_ASYNC_DECL static constexpr Value unset() noexcept {
        if constexpr (requires { Code::unset; }) return Code::unset;
        else return Value{};
    }
    Value value_ = unset();
    const Code* code_ = nullptr;
};
}  // namespace detail

/// Names of labels known only at run time: a braced list of strings and results of utf8(), or an array, vector or
/// span of any kind of strings.
///
/// lifetime as list
/// threads  a value like any other
class label_names {
public:
    PROMETHEUS_ASYNC_DECL constexpr label_names() noexcept = default;
    PROMETHEUS_ASYNC_DECL constexpr label_names(std::initializer_list<any_name> names) noexcept
        : data_(names.begin()), size_(names.size()), at_(&as<any_name>) {}
    template <class Range>
        requires requires(const Range& r) { { *r.data() } -> std::convertible_to<any_name>; r.size(); }
    PROMETHEUS_ASYNC_DECL constexpr label_names(const Range& names) noexcept
        : data_(names.data()), size_(names.size()), at_(&as<std::remove_cvref_t<decltype(*names.data())>>) {}
    template <class Text, std::size_t N>
        requires std::convertible_to<const Text&, any_name>
    PROMETHEUS_ASYNC_DECL constexpr label_names(const Text (&names)[N]) noexcept : data_(names), size_(N), at_(&as<Text>) {}

    PROMETHEUS_ASYNC_DECL constexpr std::size_t size() const noexcept { return size_; }
    PROMETHEUS_ASYNC_DECL any_name operator[](std::size_t i) const noexcept { return at_(data_, i); }

private:
    template <class Text>
    PROMETHEUS_ASYNC_DECL static any_name as(const void* data, std::size_t i) noexcept { return static_cast<const Text*>(data)[i]; }

    const void* data_ = nullptr;
    std::size_t size_ = 0;
    any_name (*at_)(const void*, std::size_t) noexcept = nullptr;
};

/// A label's name and value, for constant labels, exemplars and run-time declarations.
///
/// lifetime a view: the texts must live until the call that it is passed to has returned
struct label {
    any_name name;                      // of a label, see any_name
    std::string_view value;             // any UTF-8; invalid octets become U+FFFD
};

namespace detail {
// NaN, infinity, sign and order are decided by the bits: with -ffast-math the compiler assumes that a double is
// neither NaN nor infinite, and computes wrong results when it is.
constexpr std::uint64_t infinite = 0x7ff0'0000'0000'0000;
PROMETHEUS_ASYNC_DECL inline std::uint64_t bits_of(double x) noexcept {
    auto bits = __builtin_bit_cast(std::uint64_t, x);
#if __FINITE_MATH_ONLY__
    __asm__("" : "+r"(bits));  // hides the value from that assumption
#endif
    return bits;
}
/// x, about which the compiler assumes nothing.
PROMETHEUS_ASYNC_DECL inline double opaque(double x) noexcept { return __builtin_bit_cast(double, bits_of(x)); }
PROMETHEUS_ASYNC_DECL inline bool is_nan(double x) noexcept { return bits_of(x) << 1 > infinite << 1; }
PROMETHEUS_ASYNC_DECL inline bool is_finite(double x) noexcept { return bits_of(x) << 1 < infinite << 1; }
/// An integer that ascends with x. -0 gives the same as 0, and NaN is beyond the infinities.
PROMETHEUS_ASYNC_DECL inline std::int64_t order(double x) noexcept {
    const std::uint64_t bits = bits_of(x);
    const auto size = static_cast<std::int64_t>(bits << 1 >> 1);
    return bits >> 63 != 0 ? -size : size;
}
/// False for NaN, as is the next function.
PROMETHEUS_ASYNC_DECL inline bool within(double x, double low, double high) noexcept {
    return order(low) <= order(x) && order(x) <= order(high);
}
PROMETHEUS_ASYNC_DECL inline bool from_zero(double x) noexcept { return static_cast<std::uint64_t>(order(x)) <= infinite; }
/// std::exchange for private types: g++ -O0 exports instances of std:: functions over the library's types.
template <class T, class To>
PROMETHEUS_ASYNC_DECL constexpr T exchanged(T& from, To to) noexcept {
    T was = static_cast<T&&>(from);
    from = static_cast<To&&>(to);
    return was;
}
/// x if it is above zero, else (and for NaN) 0.
PROMETHEUS_ASYNC_DECL inline double positive(double x) noexcept { return from_zero(x) ? x : 0; }
}  // namespace detail

/// A span of time in seconds. Any std::chrono::duration converts to it, although this file does not include <chrono>.
///
/// threads  a value like any other
class seconds {
public:
    PROMETHEUS_ASYNC_DECL constexpr seconds() noexcept = default;
    template <class Number>
        requires std::is_arithmetic_v<Number>
    PROMETHEUS_ASYNC_DECL constexpr seconds(Number count) noexcept : count_(static_cast<double>(count)) {}
    template <class Duration>
        requires requires(const Duration& d) { d.count(); Duration::period::num; Duration::period::den; }
    PROMETHEUS_ASYNC_DECL constexpr seconds(const Duration& d) noexcept
        : count_(static_cast<double>(d.count()) * static_cast<double>(Duration::period::num) /
                 static_cast<double>(Duration::period::den)) {}
    PROMETHEUS_ASYNC_DECL constexpr double count() const noexcept { return count_; }  // with fractions

private:
    double count_ = 0;
};

/// The source of time. Tests replace it.
///
/// unit     seconds; monotonic from any origin, wall since 1970
/// threads  called from any thread that updates, times or runs a loop
/// errors   a wall time or a span that is negative (the clock went back), not finite, or 9e15 or more counts as 0
///          wherever the library shows or observes it; if a function throws, the system's clock is read instead
struct clock {
    double (*monotonic)();  // from any origin, never decreasing: for spans and timers
    double (*wall)();       // since 1970
};
/// CLOCK_MONOTONIC and CLOCK_REALTIME.
///
/// unit     seconds
/// threads  any
PROMETHEUS_ASYNC_DECL clock system_clock() noexcept;
/// The clock that metrics and verbs read: one per process, system_clock() by default. Loops have
/// their own (loop_options::time).
///
/// threads  set it before threads that read it are started
PROMETHEUS_ASYNC_DECL void set_clock(clock c) noexcept;
/// The monotonic time of that clock, from any origin: for measuring spans.
///
/// unit     seconds
/// threads  any
/// errors   none; wrong times of a user's clock: see clock
PROMETHEUS_ASYNC_DECL double monotonic_now() noexcept;
/// The wall time of that clock.
///
/// unit     seconds since 1970
/// threads  any
/// errors   none, see clock
PROMETHEUS_ASYNC_DECL double wall_now() noexcept;
namespace detail {
/// The bits of negative, infinite and NaN values compare greater.
PROMETHEUS_ASYNC_DECL inline bool possible_time(double t) noexcept { return bits_of(t) < __builtin_bit_cast(std::uint64_t, 9e15); }
PROMETHEUS_ASYNC_DECL inline double seconds_since(double start) noexcept {
    const double span = monotonic_now() - start;
    return possible_time(span) ? span : 0;
}
}  // namespace detail

/// A failure or irregularity after which the library goes on. It never writes to stdout or stderr.
///
/// source   event::kind; event_count() counts them
enum class event_kind : std::uint8_t {
    accept_failed,        // accept(2) failed; the server goes on
    connection_evicted,   // a connection made room for a new one
    connection_refused,   // no connection could be evicted: the new one got 503
    connection_stalled,   // a client read nothing for too long and was reset
    handshake_failed,     // TLS
    certificate_rejected, // a reload failed; the old certificate stays
    credentials_in_clear, // basic or bearer on a plain port that is not loopback
    authorization_failed, // 401
    callback_failed,      // a collector, timer or posted callback threw
    step_ignored,         // a counter was given a negative or NaN step
    text_sanitized,       // invalid UTF-8 in a label value or help
    series_overflowed,    // a family reached its max_series, or a registry its limits
    registration_failed,  // service discovery; the library tries again
    registration_lost,    // the agent lost the registration: it is repeated; or another service took the id: it is left to that
    deregistration_failed,  // the service may stay in Consul; the server closes anyway
    push_failed,          // a push or removal was refused or abandoned
    textfile_failed,      // a page could not be written; the file is unchanged
    exemplar_dropped,     // more than 128 code points, or an invalid label name
    names_collided,       // a family or series was left out: its name is already used on this page
    sum_left_out,         // a sum is negative or NaN: OpenMetrics pages leave out _sum and _count of that series
    native_left_out,      // the parts of a native histogram did not agree: pages show its classic part only
    connection_lost       // a peer reset its connection; only counted, not given to on_event
};
/// The name of the enumerator: "connection_evicted", ...
///
/// lifetime static
/// threads  any
PROMETHEUS_ASYNC_DECL const char* event_name(event_kind kind) noexcept;

/// The argument of on_event.
///
/// errors   `why` holds no credentials
/// lifetime valid during the call only
struct event {
    event_kind kind;                    // what happened
    const error& why;                   // the message
};
/// Called when something happens, by the code that detected it. It may use the library.
///
/// lifetime the context must live as long as the object that it was given to
/// threads  the thread that detected it
/// errors   exceptions that it throws are dropped
using event_handler = void (*)(const event&, void* context);
/// Calls on_event, if it is not null; drops its exceptions. For your own adapters and discoveries.
///
/// threads  on_event is called on the caller's
/// errors   none
PROMETHEUS_ASYNC_DECL void notify(event_handler on_event, void* context, const event& what) noexcept;

namespace detail {

/// Allocates by PROMETHEUS_ASYNC_ALLOCATE, or operator new; without exceptions, malloc. Without memory it fails as operator new does.
PROMETHEUS_ASYNC_DECL void* take_memory(std::size_t bytes, std::size_t alignment);
PROMETHEUS_ASYNC_DECL void* try_memory(std::size_t bytes, std::size_t alignment) noexcept;
PROMETHEUS_ASYNC_DECL void give_memory(void* from, std::size_t bytes, std::size_t alignment) noexcept;

/// A base of promises: the frame of such a coroutine is allocated by take_memory().
struct allocated_frame {
    PROMETHEUS_ASYNC_DECL static void* operator new(std::size_t bytes) { return take_memory(bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__); }
    PROMETHEUS_ASYNC_DECL static void operator delete(void* from, std::size_t bytes) noexcept {
        give_memory(from, bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
    }
};
/// A base of classes: objects that are made with new are allocated by take_memory().
struct allocated : allocated_frame {
    using allocated_frame::operator new, allocated_frame::operator delete;
    PROMETHEUS_ASYNC_DECL static void* operator new(std::size_t bytes, std::align_val_t alignment) {
        return take_memory(bytes, static_cast<std::size_t>(alignment));
    }
    PROMETHEUS_ASYNC_DECL static void operator delete(void* from, std::size_t bytes, std::align_val_t alignment) noexcept {
        give_memory(from, bytes, static_cast<std::size_t>(alignment));
    }
    PROMETHEUS_ASYNC_DECL static void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
        return try_memory(bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
    }
};

}  // namespace detail

/// A move-only function object, as C++23's std::move_only_function, without <functional>. A default-constructed one, and one
/// of a null pointer to a function, is empty and must not be called. Small captures are stored inside.
///
/// threads  one at a time
template <class Signature>
class callback;

template <class Returned, class... Args>
class callback<Returned(Args...)> {
public:
    PROMETHEUS_ASYNC_DECL callback() noexcept = default;
    template <class F>
        requires(!std::same_as<std::remove_cvref_t<F>, callback> && std::is_invocable_r_v<Returned, std::decay_t<F>&, Args...>)
    PROMETHEUS_ASYNC_DECL callback(F&& f) {
        using held = std::decay_t<F>;
        if constexpr (std::is_pointer_v<held>)
            if (!static_cast<held>(f)) return;
        if constexpr (sizeof(held) <= sizeof(space_) && alignof(held) <= alignof(void*) &&
                      std::is_nothrow_move_constructible_v<held>) {
            ::new (static_cast<void*>(space_)) held(std::forward<F>(f));
            ops_ = inside<held>();
        } else {
            ::new (static_cast<void*>(space_)) outer<held>*(new outer<held>{{}, held(std::forward<F>(f))});
            ops_ = outside<held>();
        }
    }
    PROMETHEUS_ASYNC_DECL callback(callback&& other) noexcept { take(other); }
    PROMETHEUS_ASYNC_DECL callback& operator=(callback&& other) noexcept {
        if (this != &other) {
            reset();
            take(other);
        }
        return *this;
    }
    PROMETHEUS_ASYNC_DECL ~callback() { reset(); }

    PROMETHEUS_ASYNC_DECL explicit operator bool() const noexcept { return ops_ != nullptr; }
    PROMETHEUS_ASYNC_DECL Returned operator()(Args... args) { return ops_->call(space_, std::forward<Args>(args)...); }
    PROMETHEUS_ASYNC_DECL void reset() noexcept {
        if (const operations* ops = detail::exchanged(ops_, nullptr)) ops->destroy(space_);
    }

private:
    template <class Held>
    struct outer : detail::allocated {
        Held held;
    };
    struct operations {
        Returned (*call)(void*, Args&&...);
        void (*move)(void* to, void* from) noexcept;
        void (*destroy)(void*) noexcept;
    };
    template <class Held>
    PROMETHEUS_ASYNC_DECL static const operations* inside() noexcept {
        static constexpr operations all{
            [](void* p, Args&&... args) -> Returned { return (*static_cast<Held*>(p))(std::forward<Args>(args)...); },
            [](void* to, void* from) noexcept {
                ::new (to) Held(std::move(*static_cast<Held*>(from)));
                static_cast<Held*>(from)->~Held();
            },
            [](void* p) noexcept { static_cast<Held*>(p)->~Held(); }};
        return &all;
    }
    template <class Held>
    PROMETHEUS_ASYNC_DECL static const operations* outside() noexcept {
        static constexpr operations all{
            [](void* p, Args&&... args) -> Returned { return (*static_cast<outer<Held>**>(p))->held(std::forward<Args>(args)...); },
            [](void* to, void* from) noexcept { ::new (to) outer<Held>*(*static_cast<outer<Held>**>(from)); },
            [](void* p) noexcept { delete *static_cast<outer<Held>**>(p); }};
        return &all;
    }

    PROMETHEUS_ASYNC_DECL void take(callback& other) noexcept {
        ops_ = detail::exchanged(other.ops_, nullptr);
        if (ops_) ops_->move(space_, other.space_);
    }

    const operations* ops_ = nullptr;
    alignas(void*) unsigned char space_[4 * sizeof(void*)];
};

/// Sole owner of a T that was made with new: std::unique_ptr without <memory>.
///
/// threads  a value like any other
template <class T>
class owned {
public:
    PROMETHEUS_ASYNC_DECL owned() noexcept = default;
    PROMETHEUS_ASYNC_DECL explicit owned(T* made) noexcept : made_(made) {}
    template <class U>
        requires std::convertible_to<U*, T*>
    PROMETHEUS_ASYNC_DECL owned(owned<U>&& other) noexcept : made_(other.release()) {}
    PROMETHEUS_ASYNC_DECL owned(owned&& other) noexcept : made_(other.release()) {}
    PROMETHEUS_ASYNC_DECL owned& operator=(owned&& other) noexcept {
        if (this != &other) delete std::exchange(made_, other.release());
        return *this;
    }
    PROMETHEUS_ASYNC_DECL ~owned() { delete made_; }

    PROMETHEUS_ASYNC_DECL explicit operator bool() const noexcept { return made_ != nullptr; }
    PROMETHEUS_ASYNC_DECL T* get() const noexcept { return made_; }
    PROMETHEUS_ASYNC_DECL T& operator*() const noexcept { return *made_; }
    PROMETHEUS_ASYNC_DECL T* operator->() const noexcept { return made_; }
    PROMETHEUS_ASYNC_DECL T* release() noexcept { return std::exchange(made_, nullptr); }

private:
    T* made_ = nullptr;
};
PROMETHEUS_ASYNC_END

// =============================================================================
// [16] cells                                        where updates are stored
//      needs [14]
// =============================================================================
//
// A series has one run of cells, [tag][double][integers...], that all threads share. A thread that updates it
// often also has a run of its own, at the same place in its own pages. An update of the own run compares the
// tag with the handle's id, loads, adds, and stores: no lock prefix, nothing shared. A thread without an own run
// adds to the shared run by atomic additions, between two stores to its own epoch (see [42]). A scrape sums the
// runs under the lock. Ids are never used twice: a handle whose series was removed finds another tag, and
// its update is dropped. When a place is given to a new series, each thread zeroes its own run there itself, on
// its next update. So no thread ever writes the cells of another thread.
//
// tests/model/protocol.cpp checks all orders in which these steps can take effect.
PROMETHEUS_ASYNC_BEGIN

struct native_buckets;
namespace detail {
struct native_view;
struct record;
struct run_sum;
/// What only programs need that have native histograms.
struct native_code {
    const char* (*fault)(const native_buckets& n) noexcept;  // what is wrong with the options, or null
    int (*schema)(double factor) noexcept;
    run_sum (*sum)(record& r, std::uint32_t place, std::uint64_t* integers) noexcept;
    run_sum (*view)(record& r, std::uint32_t place, std::uint64_t* integers, native_view& v, double now);
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const native_code all;  // in [47]
};
}  // namespace detail

/// Buckets of a native histogram, which needs no list of bounds. Each is at most `factor` times as wide as the one before,
/// for all values above and below zero. It is made at its first observation. Prometheus reads them from the protobuf format.
///
/// shape    the bounds are 2^(n / 2^schema): a factor of 1.1 is schema 3, with 8 buckets from 1 to 2
struct native_buckets {
    detail::value_with<double, detail::native_code> factor{};  // above 1; 0: the histogram is not native
    double zero_threshold = 0x1p-128;      // values no farther from zero are in the zero bucket; a power of two, or 0
    std::uint32_t max_buckets = 160;       // on a page, without the zero bucket. With more, it is reduced as below; 0: no limit
    double max_zero_threshold = 0;         // first the zero bucket is widened, at most to this; then pairs of buckets are joined
    seconds min_reset = 0;                 // a histogram that was reduced is reset after this time; 0: never
};

namespace detail {

enum : unsigned { page_cells = 512 };  // 4 KiB; a run never crosses a page

/// Where a run is, in the pages of all threads.
PROMETHEUS_ASYNC_DECL constexpr std::uint32_t place_of(std::uint32_t page, std::uint32_t offset) noexcept { return page * page_cells + offset; }
PROMETHEUS_ASYNC_DECL constexpr std::uint32_t page_of(std::uint32_t place) noexcept { return place / page_cells; }
PROMETHEUS_ASYNC_DECL constexpr std::uint32_t offset_of(std::uint32_t place) noexcept { return place % page_cells; }
constexpr std::uint32_t most_pages = 0x7fffff;  // 32 GiB of cells

/// One writer, any number of readers; where additions are atomic, any number of writers that use add_shared.
struct cell {
#if PROMETHEUS_ASYNC_DETAIL_WIDE
    std::uint64_t word;

    PROMETHEUS_ASYNC_DECL std::uint64_t own() const noexcept { return word; }  // for its writer
    PROMETHEUS_ASYNC_DECL std::uint64_t load() const noexcept { return __atomic_load_n(&word, __ATOMIC_RELAXED); }
    PROMETHEUS_ASYNC_DECL void store(std::uint64_t n) noexcept { __atomic_store_n(&word, n, __ATOMIC_RELAXED); }
#else
    // Two copies, written in turn. Readers take the newer one, and never wait for a writer: in a forked child there
    // may be a copy of a store that no thread will finish.
    std::uint32_t version;
    std::uint32_t half[2][2];

    std::uint64_t own() const noexcept {
        const auto& newer = half[version & 1];
        return newer[0] | std::uint64_t{newer[1]} << 32;
    }
    std::uint64_t load() const noexcept {
        for (;;) {
            const std::uint32_t seen = __atomic_load_n(&version, __ATOMIC_ACQUIRE);
            const std::uint32_t low = __atomic_load_n(&half[seen & 1][0], __ATOMIC_RELAXED);
            const std::uint32_t high = __atomic_load_n(&half[seen & 1][1], __ATOMIC_RELAXED);
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
            if (__atomic_load_n(&version, __ATOMIC_RELAXED) == seen) return low | std::uint64_t{high} << 32;
        }
    }
    void store(std::uint64_t n) noexcept {
        const std::uint32_t next = version + 1;
        __atomic_thread_fence(__ATOMIC_RELEASE);
        __atomic_store_n(&half[next & 1][0], static_cast<std::uint32_t>(n), __ATOMIC_RELAXED);
        __atomic_store_n(&half[next & 1][1], static_cast<std::uint32_t>(n >> 32), __ATOMIC_RELAXED);
        __atomic_store_n(&version, next, __ATOMIC_RELEASE);
    }
#endif
    PROMETHEUS_ASYNC_DECL void add(std::uint64_t n) noexcept { store(own() + n); }
    PROMETHEUS_ASYNC_DECL void add(double d) noexcept { store(__builtin_bit_cast(std::uint64_t, real() + d)); }  // reset() may write here
    /// The same for updates that do more than one addition. With __atomic functions g++ moves doubles through integer
    /// registers: the next addition can read the value sooner, but there are more instructions.
#if defined(__LP64__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
    using real_word [[__gnu__::__may_alias__]] = double;
    PROMETHEUS_ASYNC_DECL void add_beside(double d) noexcept {
        auto* const at = reinterpret_cast<volatile real_word*>(&word);
        *at = *at + d;
    }
#else
    PROMETHEUS_ASYNC_DECL void add_beside(double d) noexcept { add(d); }
#endif
    PROMETHEUS_ASYNC_DECL double real() const noexcept { return __builtin_bit_cast(double, load()); }
#if PROMETHEUS_ASYNC_DETAIL_WIDE && !PROMETHEUS_ASYNC_NO_THREADS
    PROMETHEUS_ASYNC_DECL std::uint64_t load_tag() const noexcept { return __atomic_load_n(&word, __ATOMIC_SEQ_CST); }
    PROMETHEUS_ASYNC_DECL void store_tag(std::uint64_t n) noexcept { __atomic_store_n(&word, n, __ATOMIC_SEQ_CST); }
    PROMETHEUS_ASYNC_DECL void add_shared(std::uint64_t n) noexcept { __atomic_fetch_add(&word, n, __ATOMIC_RELAXED); }
    PROMETHEUS_ASYNC_DECL void add_shared(double d) noexcept {
        std::uint64_t seen = load();
        while (!__atomic_compare_exchange_n(&word, &seen, __builtin_bit_cast(std::uint64_t, __builtin_bit_cast(double, seen) + d), true,
                                            __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    }
#else
    PROMETHEUS_ASYNC_DECL std::uint64_t load_tag() const noexcept { return load(); }
    PROMETHEUS_ASYNC_DECL void store_tag(std::uint64_t n) noexcept { store(n); }
    template <class Number>
    PROMETHEUS_ASYNC_DECL void add_shared(Number n) noexcept { add(n); }  // the lock is held
#endif
};

/// The value of a gauge that was set; any number of writers. Until the first set it holds `unset`, and the value
/// is the sum of the cells. It cannot be the sum of both: an inc in another thread's cell would be added to
/// every later set.
struct shared_value {
    std::uint64_t word;

    static constexpr std::uint64_t unset = 0x7ff4'756e'7365'7421;  // a NaN that no arithmetic gives
    PROMETHEUS_ASYNC_DECL static std::uint64_t bits(double v) noexcept {
        const std::uint64_t b = bits_of(v);
        return b == unset ? 0x7ff8'0000'0000'0000 : b;
    }
#if PROMETHEUS_ASYNC_DETAIL_WIDE
    PROMETHEUS_ASYNC_DECL std::uint64_t load() const noexcept { return __atomic_load_n(&word, __ATOMIC_RELAXED); }
    PROMETHEUS_ASYNC_DECL void set(double v) noexcept { __atomic_store_n(&word, bits(v), __ATOMIC_RELAXED); }
    PROMETHEUS_ASYNC_DECL void clear() noexcept { __atomic_store_n(&word, unset, __ATOMIC_RELAXED); }
    PROMETHEUS_ASYNC_DECL void add(double d) noexcept {
        std::uint64_t seen = load();
        while (!__atomic_compare_exchange_n(&word, &seen, bits(__builtin_bit_cast(double, seen) + d), true,
                                            __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    }
#else
    PROMETHEUS_ASYNC_DECL std::uint64_t load() const noexcept;  // each takes values_lock
    PROMETHEUS_ASYNC_DECL void set(double v) noexcept;
    PROMETHEUS_ASYNC_DECL void clear() noexcept;
    PROMETHEUS_ASYNC_DECL void add(double d) noexcept;
#endif
};

// Words that lookups read without the lock. On 32-bit targets a word may be read half old, half new: the version that
// every lookup compares at its end detects that.
#if defined(__LP64__) || defined(__x86_64__)
PROMETHEUS_ASYNC_DECL inline std::uint64_t acquire(const std::uint64_t& word) noexcept { return __atomic_load_n(&word, __ATOMIC_ACQUIRE); }
PROMETHEUS_ASYNC_DECL inline void release(std::uint64_t& word, std::uint64_t n) noexcept { __atomic_store_n(&word, n, __ATOMIC_RELEASE); }
#else
using half_word [[__gnu__::__may_alias__]] = std::uint32_t;
constexpr int low_half = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__, high_half = 1 - low_half;
PROMETHEUS_ASYNC_DECL inline std::uint64_t acquire(const std::uint64_t& word) noexcept {
    const auto* half = reinterpret_cast<const half_word*>(&word);
    const std::uint64_t low = __atomic_load_n(half + low_half, __ATOMIC_ACQUIRE);
    return low | std::uint64_t{__atomic_load_n(half + high_half, __ATOMIC_ACQUIRE)} << 32;
}
PROMETHEUS_ASYNC_DECL inline void release(std::uint64_t& word, std::uint64_t n) noexcept {
    auto* half = reinterpret_cast<half_word*>(&word);
    __atomic_store_n(half + low_half, static_cast<std::uint32_t>(n), __ATOMIC_RELEASE);
    __atomic_store_n(half + high_half, static_cast<std::uint32_t>(n >> 32), __ATOMIC_RELEASE);
}
#endif

/// How one value is computed from the runs of all threads and the word of the record. The rule is part of the tag, so that
/// the end of a thread needs only cells and tags.
enum class cell_rule : std::uint8_t {
    none,       // no cells: record_word::state, or nothing
    sum,        // a double and integers, each added up
    sum_or_set, // a double and an integer with a sign, added up; once record_word::last_set is set, that is the value
    extremes    // two half-windows; of each: the number of its turn, the smallest and the largest value
};
/// The low 12 bits of an id: rule and length of its run.
PROMETHEUS_ASYNC_DECL constexpr unsigned run_kind(cell_rule rule, unsigned length) noexcept { return static_cast<unsigned>(rule) << 9 | length; }
PROMETHEUS_ASYNC_DECL constexpr unsigned run_length(std::uint64_t id) noexcept { return static_cast<unsigned>(id & 0x1ff); }
PROMETHEUS_ASYNC_DECL constexpr cell_rule rule_of(std::uint64_t id) noexcept { return static_cast<cell_rule>(id >> 9 & 7); }

struct family_state;
struct series_extra;
struct bucket_bounds;

/// The part of a series' value that is not in cells. The rule of its run selects the member.
union record_word {
    shared_value last_set;  // sum_or_set
    double last_shown;      // sum: the last double that was shown, for steady(). Under the lock
    std::uint64_t state;    // none: the index of a state set's state. Under the lock
    std::uint32_t turn;     // extremes: the number of the present half-window, from 2 on. Written under the lock
};

/// A series, at an address that is a multiple of 16. Its key follows it: the label values, stored only there. The memory is
/// never freed, only used again for records of the same size, because lookups read `place`, `hash`, `id` and the key without
/// the lock: these are adjacent, so that a lookup reads few cache lines.
struct record {
    record_word word;
    union {
        family_state* family;
        bucket_bounds* bounds;  // of a removed series
    };
    series_extra* extra;
    union {
        double created;  // seconds since 1970
        double turned;   // extremes: when the half-window began, by the monotonic clock
    };
    std::uint32_t units;  // its size in units of 16 bytes, with the key
    union {
        std::uint32_t size;  // of all label values together; `escaped` if they need escapes, or are too long for this
        std::uint32_t owed;  // of a removed series: how many threads may still be updating it, plus 1 while an old epoch may last
    };
    std::uint32_t place;
    std::uint32_t hash;  // the lower half
    std::uint64_t id;

    static constexpr std::uint32_t escaped = ~std::uint32_t{0};

    PROMETHEUS_ASYNC_DECL std::uint64_t* key() noexcept { return reinterpret_cast<std::uint64_t*>(this + 1); }
    PROMETHEUS_ASYNC_DECL const std::uint64_t* key() const noexcept { return reinterpret_cast<const std::uint64_t*>(this + 1); }
};

/// What a handle holds.
struct series {
    std::uint64_t id = 0;  // the lower 12 bits are the kind of its run
    std::uint32_t page = ~std::uint32_t{0};
    std::uint32_t offset = 0;
    record* rec = nullptr;
};

struct thread_cells {
    cell** pages;  // never null below `count`: an unused entry is a page whose tags match no id
    std::uint32_t count;
    bool ended;  // this thread's cells were folded into the shared ones; its updates now go there, under the lock
};
#if PROMETHEUS_ASYNC_NO_THREADS
extern PROMETHEUS_ASYNC_DECL thread_cells this_thread;
#else
extern PROMETHEUS_ASYNC_DECL constinit thread_local thread_cells this_thread;
#endif

/// `this_thread` of the thread that asks. Before clang 17, the address of a thread_local is computed once in a coroutine: one that
/// went on in another thread would write into the cells of the first. There it is asked for in a call.
#if defined(__clang__) && __clang_major__ < 17
PROMETHEUS_ASYNC_DECL __attribute__((__noinline__)) inline const thread_cells& own_cells() noexcept {
    __asm__ volatile("" ::: "memory");
    return this_thread;
}
#else
PROMETHEUS_ASYNC_DECL inline const thread_cells& own_cells() noexcept { return this_thread; }
#endif

/// This thread's run of the series, or null: it has none yet, or the series was removed.
PROMETHEUS_ASYNC_DECL inline cell* own_run(const series& s) noexcept {
    const thread_cells& mine = own_cells();
    if (s.page < mine.count) [[likely]] {
        cell* run = mine.pages[s.page] + s.offset;
        if (run->own() == s.id) [[likely]] return run;
    }
    return nullptr;
}

/// Adds values of a turn to its half-window, which one thread writes. Values of an earlier turn are overwritten. The number
/// of the turn is written last, so a reader that sees the new number sees no older values.
PROMETHEUS_ASYNC_DECL inline void widen(cell* half, std::uint64_t turn, double least, double most) noexcept {
    const bool fresh = half[0].own() != turn;
    if (fresh || order(least) < order(half[1].real())) half[1].store(bits_of(least));
    if (fresh || order(most) > order(half[2].real())) half[2].store(bits_of(most));
    if (fresh) half[0].store_tag(turn);
}
PROMETHEUS_ASYNC_DECL inline cell* half_of(cell* run, std::uint64_t turn) noexcept { return run + 1 + 3 * (turn & 1); }
PROMETHEUS_ASYNC_DECL inline void widen_run(cell* run, const record& r, double value) noexcept {
    const std::uint64_t turn = __atomic_load_n(&r.word.turn, __ATOMIC_RELAXED);
    if (!is_nan(value)) widen(half_of(run, turn), turn, value, value);
}

// Called where this thread has no run of its own: these add to the shared run, or make an own one, or drop the update.

/// Adds `d` to the double and `n` to cell `at`.
PROMETHEUS_ASYNC_DECL void add_slowly(const series& s, double d, unsigned at, std::uint64_t n) noexcept;
PROMETHEUS_ASYNC_DECL void observe_slowly(const series& s, const bucket_bounds* bounds, double value) noexcept;
PROMETHEUS_ASYNC_DECL void set_slowly(const series& s, double v) noexcept;
PROMETHEUS_ASYNC_DECL void widen_slowly(const series& s, double value) noexcept;
PROMETHEUS_ASYNC_DECL void count_event(event_kind what) noexcept;

/// Adds to the thread's own run where the bounds are not plain.
PROMETHEUS_ASYNC_DECL void observe_otherwise(const series& s, const bucket_bounds* bounds, cell* run, double value) noexcept;

/// The bounds of a histogram, interned, with a table: the exponent and two bits of the mantissa give the first
/// bound that may be the right one.
struct bucket_bounds : allocated {
    std::uint32_t count;
    bool direct;         // no table entry holds more than one bound
    bool native;         // there are native buckets; when count is 0, no others
    bool plain;          // direct, and not native
    std::uint8_t coarser;  // 8 minus the schema of the native buckets
    std::uint32_t round;   // 2^coarser - 1
    std::uint64_t least, most;  // bits of the smallest size outside the zero bucket; how many sizes from there on are usual ones
    std::int32_t first;  // index of the first table entry
    std::uint8_t table[256];
    static constexpr std::size_t spare = 32;  // octets after `text`, which is copied in steps
    const double* upper;  // count, then +Inf up to a power of two; ascending
    double zero_threshold, max_zero_threshold, min_reset, factor;  // as native_buckets
    const native_code* code;  // not null if `native`
    std::uint32_t max_buckets;
    std::uint32_t half;   // half of that power of two
    std::uint32_t users;  // families, and removed series that a thread may still be updating; at 0 it is freed
    std::size_t hash;
    bucket_bounds* next;
    char* text;           // each bound in canonical form: `0.005"} `; `ends` has the end of each
    std::uint16_t* ends;

    PROMETHEUS_ASYNC_DECL unsigned direct_bucket(double x) const noexcept {
        const auto i = static_cast<std::int32_t>(__builtin_bit_cast(std::int64_t, x) >> 50) - first;
        unsigned at = static_cast<unsigned>(i);
        if (at > 255) [[unlikely]] {  // zero, below zero, far from all bounds, or NaN, which is above all bounds whatever its sign
            if (is_nan(x)) return count;
            at = i < 0 ? 0 : 255;
        }
        at = table[at];
        return at + (x > upper[at] ? 1U : 0U);
    }
    PROMETHEUS_ASYNC_DECL unsigned bucket(double x) const noexcept {
        if (direct) [[likely]] return direct_bucket(x);
        if (is_nan(x)) [[unlikely]] return count;
        unsigned at = 0;
        for (unsigned step = half; step != 0; step >>= 1) {
            const std::uint64_t above = 0 - static_cast<std::uint64_t>(upper[at + step - 1] < x);
            at += step & static_cast<unsigned>(above);  // a mask, because compilers turn ?: into a branch here
        }
        return at;
    }
};

}  // namespace detail

/// How often an event has occurred since the program started, in all threads and registries together.
///
/// unit     a number of events, which only goes up
/// threads  any; it takes the lock
PROMETHEUS_ASYNC_DECL std::uint64_t event_count(event_kind what) noexcept;
PROMETHEUS_ASYNC_END

// =============================================================================
// [18] registry                                     types of metrics, registry, metric_options
//      needs [16]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN

/// The types of OpenMetrics. The text formats have fewer: see format.
///
/// source   the member `type` of each class of metrics
enum class metric_type : std::uint8_t {
    counter, gauge, histogram, summary, info, state_set, unknown, gauge_histogram, min_max_gauge
};
/// The name of a type, as OpenMetrics writes it: "counter", "gauge", ...; and "min_max_gauge", which pages show as a gauge.
///
/// lifetime static
/// threads  any
PROMETHEUS_ASYNC_DECL const char* type_name(metric_type type) noexcept;

namespace detail {

/// How many enumerators an enumeration has that counts from 0. The compiler's name for a value without one is a cast: `(format)4`.
template <auto Value>
PROMETHEUS_ASYNC_DECL consteval bool is_enumerator() {
    const std::string_view name = __PRETTY_FUNCTION__;
    return !legacy_digit(name[name.rfind(')') + 1]);
}
template <class Enum, std::size_t N = 0>
PROMETHEUS_ASYNC_DECL consteval std::size_t enumerators() {
    if constexpr (is_enumerator<static_cast<Enum>(N)>()) return enumerators<Enum, N + 1>();
    else return N;
}
/// Whether a table has a row for each enumerator, in their order.
template <class Enum, class Row, std::size_t N>
PROMETHEUS_ASYNC_DECL consteval bool rows_are(const Row (&rows)[N], Enum Row::*key) {
    for (std::size_t i = 0; i != N; ++i) if (rows[i].*key != static_cast<Enum>(i)) return false;
    return N == enumerators<Enum>();
}

/// What may follow the family's name in the name of a sample.
enum class suffix : std::uint8_t { total, created, bucket, sum, count, gsum, gcount, info };
constexpr std::string_view suffix_texts[] = {"_total", "_created", "_bucket", "_sum", "_count", "_gsum", "_gcount", "_info"};
template <class... Suffix>
PROMETHEUS_ASYNC_DECL consteval unsigned suffixes(Suffix... all) { return (0U | ... | (1U << static_cast<unsigned>(all))); }

/// The kind of value that a series has.
enum class value_shape : std::uint8_t {
    number,     // one number
    facts,      // 1, with additional labels
    points,     // several numbers, distinguished by the type's own label
    histogram,  // buckets; sum and count
    summary     // quantiles; sum and count
};

/// All properties of a type. To add a type: an enumerator, a row, a class in [20]; unless a series is one number, also a
/// type_code in [52], which takes its options and computes its values, and its case in declared_type below.
struct type_row {
    metric_type type;
    const char* name;            // as type_name() gives it
    const char* om_name;         // in OpenMetrics
    const char* text_name;       // in the text format
    std::string_view ending;     // of its samples' names; the declaration adds it
    unsigned suffixes;           // of its samples' names, with the ending
    std::string_view own_label;  // reserved for the library; empty: none
    bool labels_itself;          // the metric's name is also its own label's, so it has no unit
    value_shape shape;
    cell_rule cells;
    unsigned more_cells;         // in a run, besides the tag, the first cell, and one for each bound
    bool one_line;               // a series is one line, prepared except for the number
    bool created;                // can show when it was created
    bool unit;                   // may have a unit
};
constexpr type_row type_rows[] = {
    {metric_type::counter, "counter", "counter", "counter", "_total", suffixes(suffix::total, suffix::created),
     "", false, value_shape::number, cell_rule::sum, 1, true, true, true},
    {metric_type::gauge, "gauge", "gauge", "gauge", "", 0,
     "", false, value_shape::number, cell_rule::sum_or_set, 1, true, false, true},
    {metric_type::histogram, "histogram", "histogram", "histogram", "", suffixes(suffix::created, suffix::bucket, suffix::sum, suffix::count),
     "le", false, value_shape::histogram, cell_rule::sum, 1, false, true, true},
    {metric_type::summary, "summary", "summary", "summary", "", suffixes(suffix::created, suffix::sum, suffix::count),
     "quantile", false, value_shape::summary, cell_rule::sum, 1, false, true, true},
    {metric_type::info, "info", "info", "gauge", "_info", suffixes(suffix::info),
     "", false, value_shape::facts, cell_rule::none, 0, false, false, false},
    {metric_type::state_set, "stateset", "stateset", "gauge", "", 0,
     "", true, value_shape::points, cell_rule::none, 0, false, false, false},
    {metric_type::unknown, "unknown", "unknown", "untyped", "", 0,
     "", false, value_shape::number, cell_rule::sum_or_set, 1, true, false, true},
    {metric_type::gauge_histogram, "gaugehistogram", "gaugehistogram", "histogram", "",
     suffixes(suffix::bucket, suffix::sum, suffix::count, suffix::gsum, suffix::gcount),  // _sum and _count in a text format
     "le", false, value_shape::histogram, cell_rule::sum, 1, false, false, true},
    {metric_type::min_max_gauge, "min_max_gauge", "gauge", "gauge", "", 0,
     "bound", false, value_shape::points, cell_rule::extremes, 5, false, false, true}};
PROMETHEUS_ASYNC_DECL constexpr const type_row& row_of(metric_type type) noexcept { return type_rows[static_cast<std::size_t>(type)]; }
PROMETHEUS_ASYNC_DECL constexpr bool has_suffix(metric_type type, suffix s) noexcept {
    return (row_of(type).suffixes >> static_cast<unsigned>(s) & 1) != 0;
}
/// Whether `is` returns true for a suffix of the type. It is called with each, until it does.
template <class Is>
PROMETHEUS_ASYNC_DECL bool any_suffix(metric_type type, Is is) {
    for (std::size_t i = 0; i != std::size(suffix_texts); ++i)
        if (has_suffix(type, static_cast<suffix>(i)) && is(suffix_texts[i])) return true;
    return false;
}

}  // namespace detail

namespace detail {
struct line;
struct page_state;
struct page_text;
struct page_window;
class string;
template <class Item>
class vector;
/// What only families with labels need, constant ones or others.
struct label_code {
    string (*take)(family_state& f, list<label> constants, const label_names* names);
    void (*begin)(family_state& f);
    void (*tidy)(family_state& f) noexcept;
    bool (*lines)(page_state& page, const family_state& f, line* from, page_window& out);
    void (*prepared)(string& to, const family_state& f, const record& r);
    void (*shown)(string& to, page_text& page, const family_state& f, const record& r);
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const label_code all;  // in [52]
};
}  // namespace detail

class registry;
class counter;
class gauge;
class histogram;
class summary;
class info;
class state_set;
class unknown;
class min_max_gauge;
template <class Metric>
class dynamic_family;
class sample_sink;
class collector;
class collector_handle;

/// How a metric is declared. The full name is name_space_subsystem_name_unit, without empty parts and without a unit that
/// the name already ends with.
///
/// lifetime copied by the declaration; lists live until its end
struct metric_options {
    prometheus_async::registry* registry = nullptr;  // where it is declared; null: default_registry()
    std::string_view unit{};                         // "seconds": ends the name, and OpenMetrics shows it
    std::string_view name_space{};                   // before the name, for example "app"
    std::string_view subsystem{};                    // between the two, for example "cache"
    detail::list_with<label, detail::label_code> labels{};  // the same on every series
    list<double> buckets{};                          // upper bounds, ascending, without +Inf; empty: 5 ms to 10 s, as the Python client's
    native_buckets native{};                         // of a histogram: {.factor = 1.1}; without `buckets` it has no others
    list<std::string_view> states{};                 // of a state_set; the first is its start
    std::size_t max_series = 0;                      // of a family; further series count in one whose labels are all
                                                     // "_overflow" (event_kind::series_overflowed); 0: no limit
    seconds window{};                                // of a min_max_gauge; 0: 60 s
};
static_assert(std::is_trivially_destructible_v<metric_options>);
namespace detail {
PROMETHEUS_ASYNC_LOCAL inline constexpr metric_options plain_options{};  // one for all: to make them is 100 octets of code for each metric
}

/// How much a registry may hold. A declaration beyond a limit is an error (errc::limit). A series beyond `series` or `bytes`
/// counts in the series of its family whose labels are all "_overflow", like those beyond max_series. The declaration reserves
/// the room for that series, and for the only series of a metric without labels, so a limit is never exceeded. Removed series
/// and metrics no longer count.
///
/// unit     numbers, and octets; 0: no limit
/// shape    a repeated declaration counts once. Not counted: what collectors yield, exemplars, buckets, and the memory that
///          the library needs around a text
/// threads  a value like any other
/// errors   event_kind::series_overflowed for each series beyond a limit. An info whose new labels are beyond it keeps the
///          old ones, which counts as such an event too
struct registry_limits {
    std::size_t families = 0;  // declared metrics, with labels or without
    std::size_t series = 0;    // of all metrics together; the overflow series of each family counts from its declaration on
    std::size_t bytes = 0;     // names (with unit), units, helps, label names, states, and the values of the labels of each series
};

namespace detail {
struct registry_state;
struct family_face;
struct collector_hook;

struct type_code;  // in [52]
PROMETHEUS_ASYNC_DETAIL_ON_DEMAND extern const type_code histogram_code, summary_code, info_code, state_set_code, min_max_code;
/// A type, and the code that only metrics of this type need; null: none. So a program is linked only with the code of the types
/// that it declares.
struct declared_type {
    metric_type type;
    const type_code* code;

    PROMETHEUS_ASYNC_DECL consteval declared_type(metric_type of) noexcept
        : type(of), code(of == metric_type::histogram ? &histogram_code : of == metric_type::summary ? &summary_code
                         : of == metric_type::info ? &info_code : of == metric_type::state_set ? &state_set_code
                         : of == metric_type::min_max_gauge ? &min_max_code : nullptr) {}
};
/// The names of a family's labels, and the code that only families with labels need; null: none.
struct declared_labels {
    const label_names* names = nullptr;
    const label_code* code = nullptr;

    PROMETHEUS_ASYNC_DECL constexpr declared_labels() noexcept = default;
    PROMETHEUS_ASYNC_DECL constexpr declared_labels(const label_names* of) noexcept : names(of), code(&label_code::all) {}
};
struct declaration {
    declared_type type;
    any_name name;
    std::string_view help;
    const metric_options& options;
    declared_labels labels{};                        // without names: one series without labels
    collector_hook* hook = nullptr;                  // not null: a function gives its value
};
/// A declared metric: its only series, or its family.
struct declared {
    series one;
    family_face* face = nullptr;
    std::uint64_t id = 0;
    const bucket_bounds* bounds = nullptr;
};
PROMETHEUS_ASYNC_DECL result<declared> declare(const declaration& what);
PROMETHEUS_ASYNC_DECL declared declare_checked(const declaration& what);  // raises the error
/// Calls the link marker, so that the linker names the macro when no file defines the implementation.
PROMETHEUS_ASYNC_DECL inline declared declare_or_raise(const declaration& what) {
    define_PROMETHEUS_ASYNC_IMPLEMENTATION_in_exactly_one_source_file_or_PROMETHEUS_ASYNC_SHARED_in_all();
    return declare_checked(what);
}
}  // namespace detail

/// Owns metrics and their series, and copies all names and texts. Handles may outlive it: their updates are
/// then dropped.
///
/// threads  any; all calls but updates take one lock
/// errors   try_* return invalid_name, invalid_option, conflict or limit; make_* raise them. The same
///          declaration again gives the same series. Two names that escaping makes equal (utf8("a.b") and a_b)
///          are a conflict
class registry {
public:
    PROMETHEUS_ASYNC_DECL constexpr registry() noexcept = default;
    /// A registry with limits from the start.
    PROMETHEUS_ASYNC_DECL constexpr explicit registry(const registry_limits& limits) noexcept : limits_(limits) {}
    registry(const registry&) = delete;
    registry& operator=(const registry&) = delete;
    PROMETHEUS_ASYNC_DECL ~registry();

    // For names known only at run time. For a name outside the legacy grammar: make_counter(utf8(name), help).
    PROMETHEUS_ASYNC_DECL result<counter> try_counter(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL result<gauge> try_gauge(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL result<histogram> try_histogram(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL result<summary> try_summary(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL result<info> try_info(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL result<state_set> try_state_set(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL result<unknown> try_unknown(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL result<min_max_gauge> try_min_max_gauge(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    /// As try_counter() and so on, but raise the error.
    PROMETHEUS_ASYNC_DECL counter make_counter(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL gauge make_gauge(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL histogram make_histogram(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL summary make_summary(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL info make_info(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL state_set make_state_set(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL unknown make_unknown(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    PROMETHEUS_ASYNC_DECL min_max_gauge make_min_max_gauge(any_name name, std::string_view help, const metric_options& options = detail::plain_options);
    /// Several series of one metric, whose label names are known only at run time: try_family<counter>(name, help, {"disk"}).
    template <class Metric>
    PROMETHEUS_ASYNC_DECL result<dynamic_family<Metric>> try_family(any_name name, std::string_view help, label_names labels,
                                            const metric_options& options = detail::plain_options);
    /// The same, but raises the error.
    template <class Metric>
    PROMETHEUS_ASYNC_DECL dynamic_family<Metric> make_family(any_name name, std::string_view help, label_names labels,
                                     const metric_options& options = detail::plain_options);

    /// Sets the limits. What the registry already holds stays, even if that is more.
    PROMETHEUS_ASYNC_DECL void set_limits(const registry_limits& limits) noexcept;
    /// What the registry holds now, counted as for the limits.
    PROMETHEUS_ASYNC_DECL registry_limits held() const noexcept;

    /// Removes a metric and all its series, by its full name; false when there is none.
    PROMETHEUS_ASYNC_DECL bool unregister(detail::one_text name);

    /// Adds families that a function, or an object with collect(), makes at each scrape. They stay as long as
    /// the handle, or, after its keep(), as long as the registry. An empty function is an error.
    PROMETHEUS_ASYNC_DECL collector_handle add_collector(callback<void(sample_sink&)> collect);
    PROMETHEUS_ASYNC_DECL collector_handle add_collector(collector& source);
    /// Sets the labels of the metric target_info, which is the first on a page.
    PROMETHEUS_ASYNC_DECL void target_info(list<label> labels);

    /// The value that a scrape would show for one sample, for tests: sample_value("h_bucket", {{"le", "1.0"}}). It compares each
    /// label of each series with each of these.
    ///
    /// errors   refused: "no sample x{...}"
    PROMETHEUS_ASYNC_DECL result<double> sample_value(std::string_view name, list<label> labels = {});

private:
    friend struct detail::registry_state;
    detail::registry_state* state_ = nullptr;  // made when first used
    registry_limits limits_{};
};

/// The registry in which metrics are declared by default. Never destroyed.
///
/// lifetime static
/// threads  any
PROMETHEUS_ASYNC_DECL registry& default_registry() noexcept;
PROMETHEUS_ASYNC_END

// =============================================================================
// [20] metrics                                      counter, gauge, histogram, summary, ...
//      needs [18]
// =============================================================================
//
// Metrics are handles of two to four words: copy them. Their functions are const because they change the series
// and not the handle. Functions that read a value back take the lock; they are meant for tests.
PROMETHEUS_ASYNC_BEGIN
namespace detail {

template <class T>
concept has_to_label = requires(const T& v) { { to_label(v) } -> std::convertible_to<std::string_view>; };

/// A label's value as text; valid as long as both this object and the value.
class label_text {
public:
    template <class T>
    PROMETHEUS_ASYNC_DECL label_text(const T& v) noexcept {
        if constexpr (has_to_label<T>) {
            using R = decltype(to_label(v));
            static_assert(std::is_reference_v<R> || std::is_trivially_destructible_v<R>,
                          "to_label() gives a view or a reference: a string by value would be gone at once");
            text_ = to_label(v);
        } else if constexpr (std::convertible_to<const T&, std::string_view>) {
            text_ = v;
        } else if constexpr (std::same_as<T, bool>) {
            text_ = v ? std::string_view("true") : std::string_view("false");
        } else if constexpr (std::same_as<T, char>) {
            digits_[0] = v;
            text_ = {digits_, 1};
        } else if constexpr (std::integral<T> && !std::same_as<T, wchar_t> && !std::same_as<T, char8_t> &&
                             !std::same_as<T, char16_t> && !std::same_as<T, char32_t>) {
            digits(v < 0 ? 0 - static_cast<std::uint64_t>(v) : static_cast<std::uint64_t>(v), v < 0);
        } else {
            static_assert(has_to_label<T>, "a label value is a string, an integer, a bool, or has to_label(value) beside its type");
        }
    }
    label_text(const label_text&) = delete;
    PROMETHEUS_ASYNC_DECL std::string_view view() const noexcept { return text_; }

private:
    PROMETHEUS_ASYNC_DECL void digits(std::uint64_t n, bool negative) noexcept {
        char* at = digits_ + sizeof digits_;
        do *--at = static_cast<char>('0' + n % 10);
        while ((n /= 10) != 0);
        if (negative) *--at = '-';
        text_ = {at, static_cast<std::size_t>(digits_ + sizeof digits_ - at)};
    }
    char digits_[21];
    std::string_view text_;
};

}  // namespace detail

struct exemplar;
namespace detail {
struct kept_exemplar;
struct shown_series;
/// What only programs need that give exemplars.
struct exemplar_code {
    void (*keep)(vector<kept_exemplar>& to, unsigned at, double value, const exemplar& e);
    void (*show)(shown_series& s, const vector<kept_exemplar>& kept) noexcept;
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const exemplar_code all;  // in [47]
};
}  // namespace detail

/// A reference from a single increment or observation to something else, such as a trace. OpenMetrics shows it with the sample.
///
/// shape    names and values together have at most 128 code points; a longer one is dropped and counted
/// threads  any; storing one takes the lock, so give exemplars to few updates, not to all
struct exemplar {
    detail::list_with<label, detail::exemplar_code> labels;    // for example {{"trace_id", id}}
    double timestamp = 0;  // seconds since 1970; 0: now
};
static_assert(std::is_trivially_destructible_v<exemplar>);

namespace detail {
PROMETHEUS_ASYNC_DECL void keep_exemplar(const series& s, const bucket_bounds* bounds, double value, const exemplar& e) noexcept;
PROMETHEUS_ASYNC_DECL void reset_series(const series& s);
PROMETHEUS_ASYNC_DECL void set_info(const series& s, list<label> labels);
PROMETHEUS_ASYNC_DECL bool set_state(const series& s, std::string_view state) noexcept;
}  // namespace detail

/// Measures the time from its construction to its destruction: `auto t = h.timer();`.
///
/// unit     seconds, never negative
/// clock    monotonic_now()
/// threads  may be destroyed on another thread than it was made on
template <class Metric>
class [[nodiscard]] scoped_timer {
public:
    PROMETHEUS_ASYNC_DECL explicit scoped_timer(const Metric& metric) noexcept : metric_(metric), start_(monotonic_now()) {}
    scoped_timer(const scoped_timer&) = delete;
    PROMETHEUS_ASYNC_DECL ~scoped_timer() {
        const double span = elapsed();
        if constexpr (requires { metric_.observe(span); }) metric_.observe(span);
        else metric_.set(span);
    }
    /// The seconds since its construction.
    PROMETHEUS_ASYNC_DECL double elapsed() const noexcept { return detail::seconds_since(start_); }

private:
    Metric metric_;
    double start_;
};

/// A number that only goes up.
///
/// unit     whole steps are added exactly up to 2^64, fractional ones as a double
/// threads  any; inc() takes no lock. The first updates of a thread are atomic additions to cells that threads share; then
///          the thread has cells of its own, and shares no cache line with others. Not async-signal-safe
/// errors   none: a negative or NaN step changes nothing and is counted (event_kind::step_ignored)
class counter {
public:
    static constexpr metric_type type = metric_type::counter;

    PROMETHEUS_ASYNC_DECL counter() noexcept = default;  // drops its updates
    template <std::size_t N>
    counter(metric_name, std::string_view, const std::string_view (&)[N]) = delete;  // with labels: family<counter, "label"> or registry::make_family<counter>
    PROMETHEUS_ASYNC_DECL counter(metric_name name, std::string_view help, const metric_options& options = detail::plain_options)
        : counter(detail::declare_or_raise({type, name, help, options})) {}
    PROMETHEUS_ASYNC_DECL explicit counter(const detail::declared& from) noexcept : series_(from.one) {}

    /// Adds one, a number, or a duration in seconds.
    PROMETHEUS_ASYNC_DECL void inc() const noexcept { count(1); }
    template <std::integral Step>
    PROMETHEUS_ASYNC_DECL void inc(Step step) const noexcept {
        if constexpr (std::is_signed_v<Step>)
            if (step < 0) [[unlikely]] return detail::count_event(event_kind::step_ignored);
        count(static_cast<std::uint64_t>(step));
    }
    template <std::floating_point Step>
    PROMETHEUS_ASYNC_DECL void inc(Step step) const noexcept {
        const double d = detail::opaque(static_cast<double>(step));
        if (!detail::from_zero(d)) [[unlikely]] return detail::count_event(event_kind::step_ignored);
        if (detail::cell* run = detail::own_run(series_)) [[likely]] run[1].add(d);
        else detail::add_slowly(series_, d, 2, 0);
    }
    PROMETHEUS_ASYNC_DECL void inc(seconds step) const noexcept { inc(step.count()); }
    PROMETHEUS_ASYNC_DECL void inc(seconds step, const exemplar& e) const noexcept { inc(step.count(), e); }
    template <class Step>
        requires std::is_arithmetic_v<Step>
    PROMETHEUS_ASYNC_DECL void inc(Step step, const exemplar& e) const noexcept {
        inc(step);
        const double d = detail::opaque(static_cast<double>(step));
        if (detail::from_zero(d)) detail::keep_exemplar(series_, nullptr, d, e);
    }
    PROMETHEUS_ASYNC_DECL double value() const noexcept;
    // Names that other libraries use. There are no operators, because a handle can be assigned and a counter cannot.
    template <class Step> void add(Step) const = delete;         // inc(step)
    template <class Value> void set(Value) const = delete;       // a counter goes up by inc(step); a total that is kept elsewhere is a callback_counter
    template <class Step> void operator+=(Step) const = delete;  // inc(step)
    void operator++() const = delete;                            // inc()
    void operator++(int) const = delete;                         // inc()
    template <class... X> void Increment(X...) const = delete;   // inc(step)
    /// Sets it to zero, and its _created time to now.
    PROMETHEUS_ASYNC_DECL void reset() const { detail::reset_series(series_); }
#if PROMETHEUS_ASYNC_EXCEPTIONS
    /// Counts one when an exception leaves the scope of the result.
    PROMETHEUS_ASYNC_DECL auto count_exceptions() const noexcept;
#endif

private:
    PROMETHEUS_ASYNC_DECL void count(std::uint64_t n) const noexcept {
        if (detail::cell* run = detail::own_run(series_)) [[likely]] run[2].add(n);
        else detail::add_slowly(series_, 0, 2, n);
    }
    detail::series series_;
};

/// A number that goes up and down.
///
/// unit     until the first set(), whole steps below 2^53 are added exactly, together up to 2^63; other steps as a double of
///          each thread. So if many large ones go up in one thread and down in another, digits are lost: set(0) first
/// shape    until the first set(), inc() and dec() go to cells as a counter's; from then on the value is one shared word, and
///          set(v) reads back as v
/// threads  any; set() is one relaxed store; inc() and dec() cost as much as a counter's inc() before the
///          first set(), and one atomic addition after it
/// errors   none
class gauge {
public:
    static constexpr metric_type type = metric_type::gauge;

    PROMETHEUS_ASYNC_DECL gauge() noexcept = default;
    template <std::size_t N>
    gauge(metric_name, std::string_view, const std::string_view (&)[N]) = delete;  // with labels: family<gauge, "label"> or registry::make_family<gauge>
    PROMETHEUS_ASYNC_DECL gauge(metric_name name, std::string_view help, const metric_options& options = detail::plain_options)
        : gauge(detail::declare_or_raise({type, name, help, options})) {}
    PROMETHEUS_ASYNC_DECL explicit gauge(const detail::declared& from) noexcept : series_(from.one) {}

    PROMETHEUS_ASYNC_DECL void inc() const noexcept { count(1); }
    PROMETHEUS_ASYNC_DECL void dec() const noexcept { count(-1); }
    PROMETHEUS_ASYNC_DECL void inc(double step) const noexcept {
        step = detail::opaque(step);
        if (detail::cell* run = detail::own_run(series_)) [[likely]] {
            if (series_.rec->word.last_set.load() == detail::shared_value::unset) run[1].add(step);
            else series_.rec->word.last_set.add(step);
        } else {
            detail::add_slowly(series_, step, 2, 0);
        }
    }
    PROMETHEUS_ASYNC_DECL void dec(double step) const noexcept { inc(-detail::opaque(step)); }
    PROMETHEUS_ASYNC_DECL void set(double value) const noexcept {
        value = detail::opaque(value);
        if (detail::own_run(series_)) [[likely]] series_.rec->word.last_set.set(value);
        else detail::set_slowly(series_, value);
    }
    // Integers of any width, without a warning about the conversion.
    PROMETHEUS_ASYNC_DECL void inc(std::integral auto step) const noexcept {
        if (is_short(step)) count(static_cast<std::int64_t>(step));
        else inc(static_cast<double>(step));
    }
    PROMETHEUS_ASYNC_DECL void dec(std::integral auto step) const noexcept {
        if (is_short(step)) count(-static_cast<std::int64_t>(step));
        else inc(-static_cast<double>(step));
    }
    PROMETHEUS_ASYNC_DECL void set(std::integral auto value) const noexcept { set(static_cast<double>(value)); }
    // Any std::chrono::duration, as seconds.
    PROMETHEUS_ASYNC_DECL void inc(seconds step) const noexcept { inc(step.count()); }
    PROMETHEUS_ASYNC_DECL void dec(seconds step) const noexcept { dec(step.count()); }
    PROMETHEUS_ASYNC_DECL void set(seconds value) const noexcept { set(value.count()); }
    PROMETHEUS_ASYNC_DECL void set_to_current_time() const noexcept { set(wall_now()); }  // in seconds since 1970
    PROMETHEUS_ASYNC_DECL double value() const noexcept;
    // Names that other libraries use, see counter.
    template <class Step> void add(Step) const = delete;         // inc(step)
    template <class Step> void sub(Step) const = delete;         // dec(step)
    template <class Step> void operator+=(Step) const = delete;  // inc(step)
    template <class Step> void operator-=(Step) const = delete;  // dec(step)
    void operator++() const = delete;                            // inc()
    void operator++(int) const = delete;                         // inc()
    void operator--() const = delete;                            // dec()
    void operator--(int) const = delete;                         // dec()
    template <class... X> void Increment(X...) const = delete;   // inc(step)
    template <class... X> void Decrement(X...) const = delete;   // dec(step)
    template <class... X> void Set(X...) const = delete;         // set(value)
    void SetToCurrentTime() const = delete;                      // set_to_current_time()
    template <class Value>
        requires std::is_arithmetic_v<Value>
    void operator=(Value) const = delete;                        // set(value): what is assigned is the handle
    /// Sets the gauge to the duration of the result's scope in seconds.
    PROMETHEUS_ASYNC_DECL auto timer() const noexcept { return scoped_timer<gauge>(*this); }
    /// Adds one now, and subtracts one when the result is destroyed.
    PROMETHEUS_ASYNC_DECL auto track_inprogress() const noexcept;

private:
    template <std::integral Step>
    PROMETHEUS_ASYNC_DECL static bool is_short(Step step) noexcept {
        if constexpr (sizeof(Step) < 8) return true;
        else return step < Step{1} << 53 && (std::is_unsigned_v<Step> || step > -(Step{1} << 53));
    }
    PROMETHEUS_ASYNC_DECL void count(std::int64_t n) const noexcept {
        detail::cell* const run = detail::own_run(series_);
        if (!run) [[unlikely]] detail::add_slowly(series_, 0, 2, static_cast<std::uint64_t>(n));
        else if (series_.rec->word.last_set.load() == detail::shared_value::unset) run[2].add(static_cast<std::uint64_t>(n));
        else series_.rec->word.last_set.add(static_cast<double>(n));
    }
    detail::series series_;
};

/// A gauge of unknown type: for values that come from another system.
///
/// threads  as a gauge
/// errors   none
class unknown : public gauge {
public:
    static constexpr metric_type type = metric_type::unknown;

    PROMETHEUS_ASYNC_DECL unknown() noexcept = default;
    template <std::size_t N>
    unknown(metric_name, std::string_view, const std::string_view (&)[N]) = delete;  // with labels: family<unknown, "label"> or registry::make_family<unknown>
    PROMETHEUS_ASYNC_DECL unknown(metric_name name, std::string_view help, const metric_options& options = detail::plain_options)
        : unknown(detail::declare_or_raise({type, name, help, options})) {}
    PROMETHEUS_ASYNC_DECL explicit unknown(const detail::declared& from) noexcept : gauge(from) {}
};

namespace detail {
class [[nodiscard]] inprogress_scope {
public:
    PROMETHEUS_ASYNC_DECL explicit inprogress_scope(const gauge& g) noexcept : gauge_(g) { gauge_.inc(); }
    inprogress_scope(const inprogress_scope&) = delete;
    PROMETHEUS_ASYNC_DECL ~inprogress_scope() { gauge_.dec(); }

private:
    gauge gauge_;
};
#if PROMETHEUS_ASYNC_EXCEPTIONS
class [[nodiscard]] exceptions_scope {
public:
    PROMETHEUS_ASYNC_DECL explicit exceptions_scope(const counter& c) noexcept : counter_(c), before_(std::uncaught_exceptions()) {}
    exceptions_scope(const exceptions_scope&) = delete;
    PROMETHEUS_ASYNC_DECL ~exceptions_scope() { if (std::uncaught_exceptions() > before_) counter_.inc(); }

private:
    counter counter_;
    int before_;
};
#endif
}  // namespace detail
inline auto gauge::track_inprogress() const noexcept { return detail::inprogress_scope(*this); }
#if PROMETHEUS_ASYNC_EXCEPTIONS
inline auto counter::count_exceptions() const noexcept { return detail::exceptions_scope(*this); }
#endif

/// Counts observations in buckets of upper bounds, and sums them.
///
/// unit     upstream's default buckets suit seconds: 5 ms to 10 s
/// shape    at most 250 bounds; one sample for each, and +Inf, _sum and _count; or native buckets (metric_options::native),
///          with those or alone
/// threads  any; observe() takes no lock
/// errors   none: NaN counts in +Inf and makes the sum NaN. Without memory for a native bucket, the value counts in the zero
///          bucket
class histogram {
public:
    static constexpr metric_type type = metric_type::histogram;

    PROMETHEUS_ASYNC_DECL histogram() noexcept = default;
    template <std::size_t N>
    histogram(metric_name, std::string_view, const double (&)[N]) = delete;  // bounds: {.buckets = {0.1, 1}}
    template <std::size_t N>
    histogram(metric_name, std::string_view, const std::string_view (&)[N]) = delete;  // with labels: family<histogram, "label"> or registry::make_family<histogram>
    PROMETHEUS_ASYNC_DECL histogram(metric_name name, std::string_view help, const metric_options& options = detail::plain_options)
        : histogram(detail::declare_or_raise({type, name, help, options})) {}
    PROMETHEUS_ASYNC_DECL explicit histogram(const detail::declared& from) noexcept : series_(from.one), bounds_(from.bounds) {}

    PROMETHEUS_ASYNC_DECL void observe(double value) const noexcept {
        value = detail::opaque(value);
        if (detail::cell* run = detail::own_run(series_)) [[likely]] {
            if (bounds_->plain) [[likely]] {
                run[1].add_beside(value);
                run[2 + bounds_->direct_bucket(value)].add(std::uint64_t{1});
            } else {
                detail::observe_otherwise(series_, bounds_, run, value);
            }
        } else {
            detail::observe_slowly(series_, bounds_, value);
        }
    }
    PROMETHEUS_ASYNC_DECL void observe(double value, const exemplar& e) const noexcept {
        value = detail::opaque(value);
        observe(value);
        detail::keep_exemplar(series_, bounds_, value, e);
    }
    PROMETHEUS_ASYNC_DECL void observe(std::integral auto value) const noexcept { observe(static_cast<double>(value)); }
    PROMETHEUS_ASYNC_DECL void observe(seconds value) const noexcept { observe(value.count()); }
    PROMETHEUS_ASYNC_DECL void observe(seconds value, const exemplar& e) const noexcept { observe(value.count(), e); }
    template <class... X> void Observe(X...) const = delete;  // observe(value)
    /// Observes the duration of the result's scope in seconds.
    PROMETHEUS_ASYNC_DECL auto timer() const noexcept { return scoped_timer<histogram>(*this); }
    /// Removes all observations, and sets its _created time to now.
    PROMETHEUS_ASYNC_DECL void reset() const { detail::reset_series(series_); }
    PROMETHEUS_ASYNC_DECL std::uint64_t count() const noexcept;  // of all observations
    PROMETHEUS_ASYNC_DECL double sum() const noexcept;           // of all observed values

private:
    detail::series series_;
    const detail::bucket_bounds* bounds_ = nullptr;  // valid as long as this thread's run has the series' tag
};

/// Upper bounds for metric_options::buckets: start, start + width, ...
///
/// shape    `count` bounds, without +Inf
/// errors   none here: a declaration refuses bounds that do not ascend
PROMETHEUS_ASYNC_DECL std::vector<double> linear_buckets(double start, double width, std::size_t count);
/// Upper bounds for metric_options::buckets: start, start * factor, ...
///
/// shape    `count` bounds, without +Inf
/// errors   none here: a declaration refuses bounds that do not ascend
PROMETHEUS_ASYNC_DECL std::vector<double> exponential_buckets(double start, double factor, std::size_t count);

/// Counts observations and sums them. It has no quantiles: use a histogram for these.
///
/// threads  any; observe() takes no lock
/// errors   none: NaN counts and makes the sum NaN
class summary {
public:
    static constexpr metric_type type = metric_type::summary;

    PROMETHEUS_ASYNC_DECL summary() noexcept = default;
    template <std::size_t N>
    summary(metric_name, std::string_view, const std::string_view (&)[N]) = delete;  // with labels: family<summary, "label"> or registry::make_family<summary>
    PROMETHEUS_ASYNC_DECL summary(metric_name name, std::string_view help, const metric_options& options = detail::plain_options)
        : summary(detail::declare_or_raise({type, name, help, options})) {}
    PROMETHEUS_ASYNC_DECL explicit summary(const detail::declared& from) noexcept : series_(from.one) {}

    PROMETHEUS_ASYNC_DECL void observe(double value) const noexcept {
        value = detail::opaque(value);
        if (detail::cell* run = detail::own_run(series_)) [[likely]] {
            run[1].add(value);
            run[2].add(std::uint64_t{1});
        } else {
            detail::add_slowly(series_, value, 2, 1);
        }
    }
    PROMETHEUS_ASYNC_DECL void observe(std::integral auto value) const noexcept { observe(static_cast<double>(value)); }
    PROMETHEUS_ASYNC_DECL void observe(seconds value) const noexcept { observe(value.count()); }
    template <class... X> void Observe(X...) const = delete;  // observe(value)
    /// Observes the duration of the result's scope in seconds.
    PROMETHEUS_ASYNC_DECL auto timer() const noexcept { return scoped_timer<summary>(*this); }
    /// Removes all observations, and sets its _created time to now.
    PROMETHEUS_ASYNC_DECL void reset() const { detail::reset_series(series_); }
    PROMETHEUS_ASYNC_DECL std::uint64_t count() const noexcept;  // of all observations
    PROMETHEUS_ASYNC_DECL double sum() const noexcept;           // of all observed values

private:
    detail::series series_;
};

/// The smallest and the largest value of the last seconds. A plain gauge shows only the value at the moment of a scrape.
///
/// shape    one family of gauges: `name{bound="min"}` and `name{bound="max"}`, which are NaN where nothing was observed
/// unit     metric_options::window, 60 s by default: a value is shown for at least half of it, and on at least one page; at
///          most for all of it plus the time between two scrapes
/// clock    read by scrapes, not by updates: the first scrape after half a window begins the next half. All scrapers see the same
/// threads  any; the first updates of a series by a thread take the lock, the others do not
/// errors   none: NaN changes nothing
class min_max_gauge {
public:
    static constexpr metric_type type = metric_type::min_max_gauge;

    PROMETHEUS_ASYNC_DECL min_max_gauge() noexcept = default;
    template <std::size_t N>
    min_max_gauge(metric_name, std::string_view, const std::string_view (&)[N]) = delete;  // with labels: family<min_max_gauge, "label"> or registry::make_family<min_max_gauge>
    PROMETHEUS_ASYNC_DECL min_max_gauge(metric_name name, std::string_view help, const metric_options& options = detail::plain_options)
        : min_max_gauge(detail::declare_or_raise({type, name, help, options})) {}
    PROMETHEUS_ASYNC_DECL explicit min_max_gauge(const detail::declared& from) noexcept : series_(from.one) {}

    PROMETHEUS_ASYNC_DECL void observe(double value) const noexcept {
        value = detail::opaque(value);
        if (detail::cell* run = detail::own_run(series_)) [[likely]] detail::widen_run(run, *series_.rec, value);
        else detail::widen_slowly(series_, value);
    }
    PROMETHEUS_ASYNC_DECL void observe(std::integral auto value) const noexcept { observe(static_cast<double>(value)); }
    PROMETHEUS_ASYNC_DECL void observe(seconds value) const noexcept { observe(value.count()); }
    template <class... X> void Observe(X...) const = delete;  // observe(value)
    /// Observes the duration of the result's scope in seconds.
    PROMETHEUS_ASYNC_DECL auto timer() const noexcept { return scoped_timer<min_max_gauge>(*this); }
    /// As a scrape would show them now.
    PROMETHEUS_ASYNC_DECL double smallest() const noexcept;
    PROMETHEUS_ASYNC_DECL double largest() const noexcept;

private:
    detail::series series_;
};

/// Facts as labels; the value is always 1.
///
/// threads  any; set() takes the lock
/// errors   set() raises for a label that the declaration already has, and for the same label twice
class info {
public:
    static constexpr metric_type type = metric_type::info;

    PROMETHEUS_ASYNC_DECL info() noexcept = default;
    template <std::size_t N>
    info(metric_name, std::string_view, const std::string_view (&)[N]) = delete;  // with labels: family<info, "label"> or registry::make_family<info>
    PROMETHEUS_ASYNC_DECL info(metric_name name, std::string_view help, const metric_options& options = detail::plain_options)
        : info(detail::declare_or_raise({type, name, help, options})) {}
    PROMETHEUS_ASYNC_DECL explicit info(const detail::declared& from) noexcept : series_(from.one) {}

    /// Replaces the facts by these, unless that would exceed the registry's limits.
    PROMETHEUS_ASYNC_DECL void set(list<label> labels) const { detail::set_info(series_, labels); }
    void Set(list<label>) const = delete;  // set(labels)

private:
    detail::series series_;
};

/// One of several states (metric_options::states) is the present one.
///
/// threads  any; set() takes the lock
/// errors   set() returns false for a text that is not one of its states
class state_set {
public:
    static constexpr metric_type type = metric_type::state_set;

    PROMETHEUS_ASYNC_DECL state_set() noexcept = default;
    template <std::size_t N>
    state_set(metric_name, std::string_view, const std::string_view (&)[N]) = delete;  // with labels: family<state_set, "label"> or registry::make_family<state_set>
    PROMETHEUS_ASYNC_DECL state_set(metric_name name, std::string_view help, const metric_options& options = detail::plain_options)
        : state_set(detail::declare_or_raise({type, name, help, options})) {}
    PROMETHEUS_ASYNC_DECL explicit state_set(const detail::declared& from) noexcept : series_(from.one) {}

    /// Sets the present state: a string, or an enum with a to_label() in the namespace of its type.
    template <class State>
    PROMETHEUS_ASYNC_DECL bool set(const State& state) const noexcept {
        return detail::set_state(series_, detail::label_text(state).view());
    }
    template <class State> void Set(const State&) const = delete;  // set(state)

private:
    detail::series series_;
};

PROMETHEUS_ASYNC_END

// =============================================================================
// [22] families                                     family<M, "label"...>
//      needs [20]
// =============================================================================
//
// The lookup of a child takes no lock. It reads the family's face (version, table, id), probes the
// table, compares the key, and reads the version again. Removing a record or a table has this order: 1. unlink it,
// 2. increment the version, 3. allow its memory to be used again. So a lookup that read any recycled word also reads
// the new version. Only a hit is a result; after a miss the series is looked up again, or made, under the lock.
//
// A table that becomes too small is copied in portions, one with each series that is made. Until that has ended, a
// lookup that finds nothing in the new table also probes the older one, in a function that is not inlined.
PROMETHEUS_ASYNC_BEGIN
namespace detail {

/// The secret of the hashes of one table. Every table has its own, and no hash leaves the process.
struct hash_seed {
    std::uint64_t low, high;
};

/// Read without the lock, and recycled like records.
struct alignas(64) family_face {
    std::uintptr_t version;
    std::uintptr_t table;  // address of the entries | log2 of their number. An entry: address of the record | 4 bits of its hash
    std::uint64_t id;
    family_state* family;
    hash_seed seed;
    std::uintptr_t older;  // the previous table, until all of it has been copied; or 0
};

/// The exclusive or of both halves of the 128-bit product.
PROMETHEUS_ASYNC_DECL inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
#ifdef __SIZEOF_INT128__
    __extension__ using wide = unsigned __int128;
    const wide product = static_cast<wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
#else
    constexpr std::uint64_t half = 0xffffffff;
    const std::uint64_t one = (a >> 32) * (b & half), other = (a & half) * (b >> 32);
    const std::uint64_t middle = ((a & half) * (b & half) >> 32) + (one & half) + (other & half);
    return (a * b) ^ ((a >> 32) * (b >> 32) + (one >> 32) + (other >> 32) + (middle >> 32));
#endif
}
template <class Word>
PROMETHEUS_ASYNC_DECL inline std::uint64_t load_little(const char* from) noexcept {
    Word w;
    std::memcpy(&w, from, sizeof w);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    w = sizeof w == 8 ? static_cast<Word>(__builtin_bswap64(w)) : static_cast<Word>(__builtin_bswap32(static_cast<std::uint32_t>(w)));
#endif
    return w;
}

PROMETHEUS_ASYNC_DECL inline void store_little(char* to, std::uint64_t word) noexcept {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    std::memcpy(to, &word, sizeof word);
}

/// A label value as two words. Up to 15 bytes: the bytes and their number. A longer value: its first bytes and its length;
/// all its bytes follow the words of all values, and are hashed and compared too.
struct key_pair {
    std::uint64_t low, high;
};
PROMETHEUS_ASYNC_DECL std::uint64_t hash_long(const hash_seed& seed, std::uint64_t h, std::string_view value) noexcept;
PROMETHEUS_ASYNC_DECL bool long_values_equal(const record& r, const std::string_view* values, std::size_t count) noexcept;

PROMETHEUS_ASYNC_DECL inline bool is_long(const key_pair& k) noexcept { return (k.high >> 56) == 0xff; }
PROMETHEUS_ASYNC_DECL inline std::size_t long_size(const key_pair& k) noexcept { return static_cast<std::size_t>(k.high << 8 >> 8); }
PROMETHEUS_ASYNC_DECL PROMETHEUS_ASYNC_DETAIL_JOINED key_pair make_key(std::string_view value) noexcept {
    const char* p = value.data();
    const std::size_t n = value.size();
    key_pair k{0, 0};
    if (n >= 16) [[unlikely]] return {load_little<std::uint64_t>(p), std::uint64_t{0xff} << 56 | n};
    if (n >= 8) {  // two loads that overlap, then the overlap shifted out
        k.low = load_little<std::uint64_t>(p);
        k.high = load_little<std::uint64_t>(p + n - 8) >> 1 >> (127 - 8 * n);
    } else if (n >= 4) {
        k.low = load_little<std::uint32_t>(p) | load_little<std::uint32_t>(p + n - 4) << (8 * (n - 4));
    } else if (n != 0) {
        const auto at = [&](std::size_t i) { return std::uint64_t{static_cast<unsigned char>(p[i])} << (8 * i); };
        k.low = at(0) | at(n / 2) | at(n - 1);
    }
    k.high |= std::uint64_t{n} << 56;
    return k;
}
/// The hash of all label values. Each product has a secret in both factors, so that without the seed no colliding values
/// can be computed, and no factor can be made zero. Values with equal hashes may differ, so the keys are compared as well.
/// `values` is null if all are short.
PROMETHEUS_ASYNC_DECL inline std::uint64_t hash_values(const hash_seed& seed, const key_pair* keys, const std::string_view* values,
                                                       std::size_t count) noexcept {
    std::uint64_t h = seed.high;
#pragma GCC unroll 4
    for (std::size_t i = 0; i != count; ++i) {
        h = mix(keys[i].low ^ seed.low, keys[i].high ^ h);
        if (values && is_long(keys[i])) h = hash_long(seed, h, values[i]);
    }
    return mix(h, 0x9e3779b97f4a7c15U);
}
/// How far from its first place an entry may be. With half of the places free, chance practically never needs more. If an
/// entry would be farther away, the table gets another seed.
PROMETHEUS_ASYNC_DECL constexpr std::size_t most_probes(std::size_t log2) noexcept { return 16 + 8 * log2; }

/// What a lookup found: a record and its id, or null. It is returned in two registers, and the place beside them: a handle in
/// memory would be written in parts and then read as a whole, which processors do slowly.
struct found_record {
    const record* rec;
    std::uint64_t id;
};
/// Searches one table. A hit is valid only if the version is still the one that was read before.
PROMETHEUS_ASYNC_DECL PROMETHEUS_ASYNC_DETAIL_JOINED found_record find_in(std::uintptr_t table, std::uint64_t hash, const key_pair* keys,
                                                                          const std::string_view* values, std::size_t count,
                                                                          std::uint32_t& place) noexcept {
    const auto* entries = reinterpret_cast<const std::uintptr_t*>(table & ~std::uintptr_t{63});
    const std::size_t mask = (std::size_t{1} << (table & 63)) - 1;
    for (std::size_t i = static_cast<std::size_t>(hash) & mask, probes = most_probes(table & 63); probes != 0; --probes, i = (i + 1) & mask) {
        const std::uintptr_t entry = __atomic_load_n(&entries[i], __ATOMIC_ACQUIRE);
        if (entry == 0) break;
        if ((entry & 15) != hash >> 60) continue;
        const auto& r = *reinterpret_cast<const record*>(entry & ~std::uintptr_t{15});
        if (__atomic_load_n(&r.hash, __ATOMIC_ACQUIRE) != static_cast<std::uint32_t>(hash)) continue;
        std::uint64_t differs = 0;
#pragma GCC unroll 4
        for (std::size_t k = 0; k != count; ++k)
            differs |= (acquire(r.key()[2 * k]) ^ keys[k].low) | (acquire(r.key()[2 * k + 1]) ^ keys[k].high);
        if (differs != 0 || (values && !long_values_equal(r, values, count))) continue;
        place = __atomic_load_n(&r.place, __ATOMIC_ACQUIRE);
        return {&r, acquire(r.id)};
    }
    return {};
}
/// Finds the series, whose values are all short, if it is in the present table and nothing was removed meanwhile. After null,
/// call find_or_make_child().
template <std::size_t Count>
PROMETHEUS_ASYNC_DECL PROMETHEUS_ASYNC_DETAIL_JOINED found_record find_child(const family_face& face, std::uint64_t family, const key_pair* keys, std::uint32_t& place) noexcept {
    const std::uintptr_t version = __atomic_load_n(&face.version, __ATOMIC_ACQUIRE);
    const std::uintptr_t table = __atomic_load_n(&face.table, __ATOMIC_ACQUIRE);
    if (acquire(face.id) != family || table == 0) return {};
    const std::uint64_t hash = hash_values({acquire(face.seed.low), acquire(face.seed.high)}, keys, nullptr, Count);
    const found_record found = find_in(table, hash, keys, nullptr, Count, place);
    return __atomic_load_n(&face.version, __ATOMIC_RELAXED) == version ? found : found_record{};
}
/// Also searches the older table, and again after a removal, and for long values. If the series does not exist, it is made.
PROMETHEUS_ASYNC_DECL found_record find_or_make_child(const declared& family, const std::string_view* values, std::size_t count,
                                                      std::uint32_t& place);
PROMETHEUS_ASYNC_DECL series make_child(const declared& family, const std::string_view* values, std::size_t count);
PROMETHEUS_ASYNC_DECL bool remove_child(const declared& family, const std::string_view* values, std::size_t count);
PROMETHEUS_ASYNC_DECL std::size_t remove_children(const declared& family, list<label> where);
PROMETHEUS_ASYNC_DECL inline void clear_children(const declared& family) noexcept { remove_children(family, {}); }
PROMETHEUS_ASYNC_DECL std::size_t count_children(const declared& family) noexcept;

template <std::size_t Count>
PROMETHEUS_ASYNC_DECL found_record find_or_make(const declared& family, const std::string_view* values, std::uint32_t& place) {
    std::size_t sizes = 0;
#pragma GCC unroll 4
    for (std::size_t i = 0; i != Count; ++i) sizes |= values[i].size();
    if (sizes < 16) [[likely]] {
        key_pair keys[Count];
#pragma GCC unroll 4
        for (std::size_t i = 0; i != Count; ++i) keys[i] = make_key(values[i]);
        asm("" : "+m"(keys));
        if (const found_record found = find_child<Count>(*family.face, family.id, keys, place); found.rec) [[likely]] return found;
    }
    return find_or_make_child(family, values, Count, place);
}
template <class Metric, class... Views>
PROMETHEUS_ASYNC_DECL PROMETHEUS_ASYNC_DETAIL_JOINED Metric child_metric(const declared& family, Views... views) {
    declared child{{}, nullptr, 0, family.bounds};
    if (family.face == nullptr) return Metric(child);
    std::uint32_t place = ~std::uint32_t{0};
    const std::string_view values[] = {views...};
    const found_record found = find_or_make<sizeof...(Views)>(family, values, place);
    child.one = {found.id, page_of(place), offset_of(place), const_cast<record*>(found.rec)};
    return Metric(child);
}

PROMETHEUS_ASYNC_DECL consteval bool all_different(std::initializer_list<std::string_view> names) {
    for (auto i = names.begin(); i != names.end(); ++i)
        for (auto j = names.begin(); j != i; ++j)
            if (*i == *j) return false;
    return true;
}

}  // namespace detail

/// Metrics of one name that differ in the values of their labels. Each is made when it is first used.
///
/// shape    one series for each set of values, until it is removed
/// lifetime a handle; it returns handles too: store these where speed matters
/// threads  any; finding takes no lock and allocates nothing, making and removing take the lock
/// errors   none once declared. In values that are not UTF-8, invalid octets become U+FFFD, which is counted. Without memory
///          for a new series bad_alloc; without exceptions it counts in the family's series _overflow, or nowhere if there is none
template <class Metric, fixed_string... Labels>
class family {
    static_assert(sizeof...(Labels) != 0, "a family has at least one label; a metric without labels is declared as itself");
    static_assert((detail::legacy_label_name(Labels.view()) && ...), "a label name matches [a-zA-Z_][a-zA-Z0-9_]*");
    static_assert((!detail::reserved_label_name(Labels.view()) && ...), "label names that begin with __ are reserved");
    static_assert(((Labels.view() != detail::row_of(Metric::type).own_label) && ...),
                  "the label le of a histogram is reserved, the label quantile of a summary is reserved, "
                  "the label bound of a min_max_gauge is reserved");
    static_assert(detail::all_different({Labels.view()...}), "two labels of a family have the same name");

public:
    PROMETHEUS_ASYNC_DECL family() noexcept = default;  // makes metrics that drop their updates
    PROMETHEUS_ASYNC_DECL family(metric_name name, std::string_view help, const metric_options& options = detail::plain_options) {
        const std::string_view names[] = {Labels.view()...};
        const label_names labels(names);
        declared_ = detail::declare_or_raise({Metric::type, name, help, options, &labels});
    }

    /// The metric with these values: strings, integers, bools, or types that have to_label(value) in their namespace.
    template <class... Values>
    PROMETHEUS_ASYNC_DECL Metric operator()(const Values&... values) const {
        static_assert(sizeof...(Values) == sizeof...(Labels), "a family takes one value for each of its labels");
        if constexpr (sizeof...(Values) == sizeof...(Labels)) return find(detail::label_text(values).view()...);
        else return {};
    }
    template <class... Values> void labels(const Values&...) const = delete;       // family(values...)
    template <class... Values> void with_labels(const Values&...) const = delete;  // family(values...)
    void Add(list<label>) const = delete;                                          // family(values...)
    /// Removes a series; false when there is none. Its handles drop their updates from now on.
    template <class... Values>
    PROMETHEUS_ASYNC_DECL bool remove(const Values&... values) const {
        static_assert(sizeof...(Values) == sizeof...(Labels), "a family takes one value for each of its labels");
        if constexpr (sizeof...(Values) == sizeof...(Labels)) return removed(detail::label_text(values).view()...);
    }
    /// Removes the series that have all these values; returns how many. An empty list removes nothing; a name that is not
    /// a label of the family is raised. Like clear(), it releases the lock at times; a series that is made meanwhile stays.
    PROMETHEUS_ASYNC_DECL std::size_t remove_matching(list<label> where) const {
        return where.empty() ? 0 : detail::remove_children(declared_, where);
    }
    PROMETHEUS_ASYNC_DECL void clear() const noexcept { detail::clear_children(declared_); }            // removes all series
    PROMETHEUS_ASYNC_DECL std::size_t size() const noexcept { return detail::count_children(declared_); }  // how many series there are

private:
    template <class... Views>
    PROMETHEUS_ASYNC_DECL Metric find(Views... views) const {
        return detail::child_metric<Metric>(declared_, views...);
    }
    template <class... Views>
    PROMETHEUS_ASYNC_DECL bool removed(Views... views) const {
        const std::string_view values[] = {views...};
        return detail::remove_child(declared_, values, sizeof...(Labels));
    }
    detail::declared declared_;
};

/// A family whose label names are known only at run time: registry::make_family<counter>(...).
///
/// threads  as family
/// errors   a wrong number of values is raised
template <class Metric>
class dynamic_family {
public:
    PROMETHEUS_ASYNC_DECL dynamic_family() noexcept = default;
    PROMETHEUS_ASYNC_DECL explicit dynamic_family(const detail::declared& from) noexcept : declared_(from) {}

    /// The metric with these values, one for each label, in the order of their names: reads({"thermometer", "3"}).
    PROMETHEUS_ASYNC_DECL Metric operator()(list<std::string_view> values) const {
        detail::declared child{{}, nullptr, 0, declared_.bounds};
        if (declared_.face) child.one = detail::make_child(declared_, values.begin(), values.size());
        return Metric(child);
    }
    /// Removes a series, as family::remove().
    PROMETHEUS_ASYNC_DECL bool remove(list<std::string_view> values) const {
        return detail::remove_child(declared_, values.begin(), values.size());
    }
    /// Removes series, as family::remove_matching().
    PROMETHEUS_ASYNC_DECL std::size_t remove_matching(list<label> where) const {
        return where.empty() ? 0 : detail::remove_children(declared_, where);
    }
    PROMETHEUS_ASYNC_DECL void clear() const noexcept { detail::clear_children(declared_); }            // removes all series
    PROMETHEUS_ASYNC_DECL std::size_t size() const noexcept { return detail::count_children(declared_); }  // how many series there are

private:
    detail::declared declared_;
};

template <class Metric>
PROMETHEUS_ASYNC_DECL result<dynamic_family<Metric>> registry::try_family(any_name name, std::string_view help, label_names labels,
                                                    const metric_options& options) {
    metric_options mine = options;
    mine.registry = this;
    auto made = detail::declare({Metric::type, name, help, mine, &labels});
    if (!made) return made.why();
    return dynamic_family<Metric>(*made);
}
template <class Metric>
PROMETHEUS_ASYNC_DECL dynamic_family<Metric> registry::make_family(any_name name, std::string_view help, label_names labels,
                                             const metric_options& options) {
    return try_family<Metric>(name, help, labels, options).value();
}
PROMETHEUS_ASYNC_END

// =============================================================================
// [24] collectors                                   metrics made at scrape time, process_*
//      needs [20]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN

namespace detail {
struct collector_hook;
struct sink_state;
}

/// Optional parts of a collected series.
///
/// unit     seconds since 1970; 0: none
/// lifetime copied by the sink's function
struct sample_details {
    double timestamp = 0;  // seconds since 1970; 0: none. With one, Prometheus shows a series for five minutes after its end
    double created = 0;    // of a counter, histogram or summary: when it was created
    exemplar example{};    // of a counter, or of a native histogram, where it should have a time
    double example_value = 1;  // the observation or step that the exemplar belongs to
};

/// Receives the families of a collector, while a page is made.
///
/// shape    family(), then its series, then the next family(). Nothing of a collector is shown before it
///          has returned. Nothing is shown at all when it threw, or yielded something invalid (a bad name, the same
///          series or family twice, a name that the page already has), or more than page_options::collector_bytes
/// lifetime valid until collect() returns; copies what it is given
/// threads  the one that calls collect()
/// errors   counted (event_kind::callback_failed; names_collided too for a name that the page has already); reported to
///          page_options::on_event. A name outside the legacy grammar is invalid unless it is made by utf8()
class sample_sink {
public:
    struct bucket {  // cumulative, ascending, +Inf last
        double upper;
        std::uint64_t count;
        exemplar example{};  // of a histogram
        double example_value = 0;
    };
    struct native_bucket {  // of a native_histogram
        std::int32_t index;   // of the bucket with the upper bound 2^(index / 2^schema); below zero, of the one whose lower bound is minus that
        std::uint64_t count;  // in this bucket alone
    };
    struct native_histogram {  // one series
        int schema = 0;                       // -4 to 8
        double zero_threshold = 0x1p-128;     // values no farther from zero are in zero_count
        std::uint64_t zero_count = 0;
        list<native_bucket> positive{}, negative{};  // ascending by index
        std::uint64_t count = 0;              // of all buckets together; if sum is NaN, plus the observations of NaN
        double sum = 0;
        list<bucket> classic{};               // for formats without native buckets, with the same count; empty: +Inf only
    };
    struct quantile { double q; double value; };           // q from 0 to 1
    struct state { std::string_view name; bool on; };      // one for each state of the set

    /// Begins a family. As for declared metrics, `_total` and `_info` are added where the type has them.
    PROMETHEUS_ASYNC_DECL void family(metric_type type, any_name name, std::string_view help, std::string_view unit = {});
    /// Adds a series of a counter, gauge, unknown, or info (whose value is 1).
    PROMETHEUS_ASYNC_DECL void sample(double value, list<label> labels = {}, const sample_details& more = {});
    PROMETHEUS_ASYNC_DECL void sample(seconds value, list<label> labels = {}, const sample_details& more = {}) {
        sample(value.count(), labels, more);
    }
    /// Adds a series of a histogram or gauge_histogram. OpenMetrics pages leave out what that format forbids: a sum that is NaN
    /// or negative, and the sum of a histogram with bounds below zero, each with the count; negative values of quantiles.
    PROMETHEUS_ASYNC_DECL void histogram(list<bucket> buckets, double sum, list<label> labels = {}, const sample_details& more = {});
    /// The same with native buckets, which protobuf and OpenMetrics 2.0 show. Parts that do not agree are invalid: a scraper
    /// would refuse the whole page because of them.
    PROMETHEUS_ASYNC_DECL void histogram(const native_histogram& value, list<label> labels = {}, const sample_details& more = {});
    /// Adds a series of a summary.
    PROMETHEUS_ASYNC_DECL void summary(std::uint64_t count, double sum, list<quantile> quantiles = {}, list<label> labels = {},
                                       const sample_details& more = {});
    /// Adds a series of a state set: each state once.
    PROMETHEUS_ASYNC_DECL void states(list<state> states, list<label> labels = {});
    /// Leaves this collector out of the page, for this reason.
    PROMETHEUS_ASYNC_DECL void fail(std::string_view why);

private:
    friend struct detail::sink_state;
    PROMETHEUS_ASYNC_DECL explicit sample_sink(detail::sink_state& to) noexcept : to_(to) {}
    detail::sink_state& to_;
};

/// Metrics that are read from another source at each scrape. registry::add_collector also takes any function.
///
/// lifetime outlives its registration
/// threads  called on each thread that makes a page, also on several at once, without any lock of the library: it may update,
///          declare and remove metrics, read values (registry::sample_value) and make pages, on which it is not shown.
///          A collector that blocks delays its page and its removal. It must not wait for another thread that makes a page of
///          its registry: on that thread it would be called again, and so on
class collector {
public:
    virtual void collect(sample_sink& out) = 0;  // called for each page

protected:
    PROMETHEUS_ASYNC_DECL ~collector() = default;
};

/// Keeps a collector registered as long as it exists. Its destructor waits for calls of the collector that are running
/// (except the one that destroys it). So do registry::unregister and ~registry. When running collectors remove each other in
/// a circle, the last of them does not wait: it is left out of its page and reported, as one that threw.
///
/// threads  any, one at a time
class [[nodiscard]] collector_handle {
public:
    PROMETHEUS_ASYNC_DECL collector_handle() noexcept = default;
    PROMETHEUS_ASYNC_DECL explicit collector_handle(detail::collector_hook* hook) noexcept : hook_(hook) {}
    PROMETHEUS_ASYNC_DECL collector_handle(collector_handle&& other) noexcept : hook_(detail::exchanged(other.hook_, nullptr)) {}
    PROMETHEUS_ASYNC_DECL collector_handle& operator=(collector_handle&& other) noexcept {
        if (this != &other) {
            remove();
            hook_ = detail::exchanged(other.hook_, nullptr);
        }
        return *this;
    }
    PROMETHEUS_ASYNC_DECL ~collector_handle() { remove(); }
    PROMETHEUS_ASYNC_DECL void remove() noexcept;  // ends the registration now
    /// The registration lasts as long as the registry from now on.
    PROMETHEUS_ASYNC_DECL void keep() noexcept;

private:
    detail::collector_hook* hook_ = nullptr;
};

/// A gauge whose value a function returns at each scrape.
///
/// lifetime the metric exists as long as this; it waits as collector_handle does
/// threads  as a collector
/// errors   the constructor raises as any declaration; a function that throws leaves the metric out
class callback_gauge {
public:
    PROMETHEUS_ASYNC_DECL callback_gauge(metric_name name, std::string_view help, callback<double()> read,
                                         const metric_options& options = detail::plain_options);

private:
    collector_handle handle_;
};
/// A counter whose value a function returns at each scrape. The value must never decrease.
///
/// lifetime the metric exists as long as this; it waits as collector_handle does
/// threads  as a collector
/// errors   as callback_gauge
class callback_counter {
public:
    PROMETHEUS_ASYNC_DECL callback_counter(metric_name name, std::string_view help, callback<double()> read,
                                           const metric_options& options = detail::plain_options);

private:
    collector_handle handle_;
};

/// The metric prometheus_async_build_info: version, compiler, and how the library was built.
///
/// threads  any; it takes the lock
/// errors   raises if the registry has a metric of that name and another kind
PROMETHEUS_ASYNC_DECL void declare_build_info(registry& in = default_registry());

/// process_* as the official clients name them: CPU time, memory, files, threads, start time; read from
/// /proc at each scrape. Metrics that the system does not provide are left out. `proc` is the path of /proc, which differs in
/// some containers and in tests.
///
/// lifetime ends with the registry; a second call for the same registry changes nothing
/// threads  as a collector
PROMETHEUS_ASYNC_DECL void add_process_metrics(registry& to = default_registry(), std::string_view proc = "/proc");
PROMETHEUS_ASYNC_END

// =============================================================================
// [26] exposition                                   formats, negotiation, cursor, expose
//      needs [18]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN

/// The formats that Prometheus reads. In a text format `unknown` is `untyped`, infos and state sets are gauges, and
/// exemplars and units are left out.
///
/// The two with native histograms are sent only to clients that ask for them by name: protobuf is the delimited
/// io.prometheus.client.MetricFamily, and OpenMetrics 2.0 is the version that Prometheus 3.15 reads behind a flag.
///
/// source   negotiate(), from the client's Accept; or page_options::as
enum class format : std::uint8_t { text_0_0_4, text_1_0_0, openmetrics_0_0_1, openmetrics_1_0_0, protobuf, openmetrics_2_0_0 };
/// How a name outside the legacy grammar is shown. For a.b: a_b, a_dot_b, U__a_2e_b, or "a.b" in quotes.
///
/// source   negotiate(), from `escaping=` in the client's Accept; or page_options::names
enum class escaping : std::uint8_t { underscores, dots, values, allow_utf8 };

/// skip leaves a failed collector's families out; fail ends the page: pull::failed.
///
/// source   page_options, server_options, push_options and textfile_options::on_collector_error; skip by default
enum class collector_errors : std::uint8_t { skip, fail };
/// Whether counters, histograms and summaries have `_created` lines, which double the lines of a counter. From these times
/// Prometheus 3.5 can make samples of 0 (created-timestamp-zero-ingestion), also for each bucket of a classic histogram. In
/// protobuf and OpenMetrics 2.0 the time is part of the sample; start_timestamps = false leaves it out there.
///
/// source   page_options, stats_request and server_options::created; off by default
enum class created_series : std::uint8_t {
    off,          // no lines
    openmetrics,  // on OpenMetrics 1 pages, whose readers expect them
    all           // on pages of the text formats too, as gauges of the name `x_created`
};

namespace detail {
struct family_head;
struct page_text;
struct shown_series;
class line_format;
/// What only pages need that have `_created` lines.
struct created_code {
    void (line_format::*begin)(page_text& to, const family_head& f, std::string_view help);  // of a separate family
    void (line_format::*line)(page_text& to, const family_head& f, const shown_series& s);
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const created_code all;  // in [50]
};
}  // namespace detail

namespace detail {
struct wire_formats;
PROMETHEUS_ASYNC_DETAIL_ON_DEMAND wire_formats* make_wire_formats();
/// A format, with a pointer to the code of protobuf and OpenMetrics 2.0 if it is one of these. So a program that names only
/// text formats is not linked with that code. Text formats come before `protobuf` in the enumeration.
class chosen_format {
public:
    PROMETHEUS_ASYNC_DECL constexpr chosen_format() noexcept = default;
    PROMETHEUS_ASYNC_DECL constexpr chosen_format(format which) noexcept
        : which_(which), make_(which < format::protobuf ? nullptr : make_wire_formats) {}
    PROMETHEUS_ASYNC_DECL constexpr operator format() const noexcept { return which_; }
    /// The code that writes protobuf and OpenMetrics 2.0; null if this is a text format, or if the build has no such code.
    PROMETHEUS_ASYNC_DECL wire_formats* make() const { return make_ ? make_() : nullptr; }

private:
    format which_ = format::text_0_0_4;
    wire_formats* (*make_)() = nullptr;
};
}  // namespace detail

namespace detail {
/// What only pages need on which two families could have one name: those of several registries, or with a collector.
struct sharing_code {
    bool (*owns)(page_state& page, const family_state& f);
    const family_state* (*twin)(const page_state& page, const family_state& f, std::size_t k);
    bool (*repeats)(page_state& page, const family_state& f, const record& r);
    void (*compare_targets)(page_state& page, const family_state& shown);
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const sharing_code all;  // in [52]
};
/// What only pages need that show chosen families.
struct only_code {
    void (*take)(vector<string>& only, list<std::string_view> names);
    bool (*has)(const vector<string>& only, string& space, page_text& page, const family_head& f);
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const only_code all;  // in [52]
};
}  // namespace detail

/// What a page shows, and in which format.
///
/// lifetime lists and texts live until the page has been started; registries may end meanwhile, see cursor
struct page_options {
    detail::chosen_format as{};      // the format; text_0_0_4
    escaping names = escaping::underscores;  // how names outside the legacy grammar are shown
    detail::list_with<registry*, detail::sharing_code> registries{};    // several are merged on one page; empty: the default registry. Each family is looked up in all
                                     // of them: a page of 2000 registries with one family each takes a second
    detail::list_with<std::string_view, detail::only_code> only{};  // name[]: by family or sample name; empty: everything
    detail::value_with<created_series, detail::created_code> created{};  // off; _created lines
    bool native_histograms = true;   // false leaves native buckets out of the formats that have them
    bool start_timestamps = true;    // false: protobuf and OpenMetrics 2.0 do not show when a series was created
    collector_errors on_collector_error = collector_errors::skip;  // fail: the page ends with pull::failed
    std::size_t collector_bytes = 4 << 20;  // what one collector may yield
    event_handler on_event = nullptr;       // what was left out, and errors of updates
    void* context = nullptr;         // given to on_event
};
static_assert(std::is_trivially_destructible_v<page_options>);

/// How a pull ended: there is more, the page is complete, or it cannot be made.
///
/// source   pulled::what
enum class pull : std::uint8_t { more, done, failed };
/// What cursor::next() did.
///
/// unit     octets
struct pulled {
    std::size_t bytes;  // written to the span, also when done. It may be few or none although there is more
    pull what;          // whether there is more
};

/// One page, pulled piece by piece into the caller's buffers. Holds no lock between pulls. Series may be added and
/// removed meanwhile: none is shown twice, and those that exist all the time are shown exactly once.
///
/// lifetime copies the options; a registry may be destroyed meanwhile (the rest of it is then left out)
/// threads  one at a time; any number of cursors at once
/// errors   pull::failed without memory, for a span shorter than 64 bytes, and for a failed collector if on_collector_error is fail
class cursor {
public:
    PROMETHEUS_ASYNC_DECL cursor() noexcept = default;
    cursor(const cursor&) = delete;
    cursor& operator=(const cursor&) = delete;
    PROMETHEUS_ASYNC_DECL ~cursor();

    /// Begins a page. A cursor that is used again keeps its memory, so that the next page needs no allocation.
    PROMETHEUS_ASYNC_DECL void start(const page_options& options);
    /// Writes the next piece of the page, as much as fits. After pull::done or pull::failed there is none.
    PROMETHEUS_ASYNC_DECL pulled next(std::span<char> into) noexcept;

private:
    friend struct detail::page_state;
    detail::page_state* state_ = nullptr;
};

/// What is sent to a client.
///
/// source   negotiate()
struct negotiation {
    format as = format::text_0_0_4;  // the format of the page
    escaping names = escaping::underscores;  // how its names are escaped
    bool gzip = false;   // the client accepts gzip by name
    bool plain = true;   // false: the client refuses an uncompressed page
};
/// Chooses the answer to the fields Accept and Accept-Encoding of a request, from the formats that are offered (none: all).
/// It never fails: if nothing is acceptable it chooses text 0.0.4, offered or not.
///
/// threads  any
/// errors   none
PROMETHEUS_ASYNC_DECL negotiation negotiate(std::string_view accept, std::string_view accept_encoding = {},
                                            list<format> offered = {}) noexcept;
/// The exact Content-Type of a page, e.g. "text/plain; version=0.0.4; charset=utf-8".
///
/// lifetime static
/// threads  any
PROMETHEUS_ASYNC_DECL std::string_view content_type(format as, escaping names) noexcept;

/// The whole page as one string; empty when it could not be made, because a collector failed and
/// page_options::on_collector_error is fail, or without memory.
///
/// threads  any; collectors are called on the caller's
PROMETHEUS_ASYNC_DECL std::string expose(const page_options& options = {});

/// The argument of server_stats(): two fields of the request, and what is shown.
///
/// lifetime valid until server_stats() returns
struct stats_request {
    std::string_view accept{};           // the field Accept; empty: text 0.0.4
    std::string_view accept_encoding{};  // the field Accept-Encoding; empty: the body is not compressed
    detail::list_with<registry*, detail::sharing_code> registries{};        // as page_options
    list<std::string_view> only{};       // as page_options: the values of name[] in the query, decoded
    detail::value_with<created_series, detail::created_code> created{};  // off; _created lines
    list<format> formats{};        // empty: all; text 0.0.4 always remains
    bool native_histograms = true;  // as page_options
    bool start_timestamps = true;        // as page_options
};
/// What to send to the client.
///
/// lifetime content_type and content_encoding are static
struct stats_page {
    int status;                    // 200; 500 when there was no memory for the page
    std::string_view content_type;        // of the page
    std::string body;                     // what to send
    std::string_view content_encoding{};  // "gzip", or empty
};
/// A page for a program with its own HTTP server. Give it the request's field Accept. With the field Accept-Encoding too, a
/// large body is compressed if the client accepts that: then send content_encoding, and Vary: Accept, Accept-Encoding.
///
/// threads  any; collectors are called on the caller's
/// errors   a status of 500; a collector that fails is left out
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
concept has_member_co_await = requires(A&& a) { static_cast<A&&>(a).operator co_await(); };
template <class A>
concept has_free_co_await = requires(A&& a) { operator co_await(static_cast<A&&>(a)); };

/// The awaiter that `co_await a` uses where no await_transform intervenes.
template <class A>
PROMETHEUS_ASYNC_DECL decltype(auto) get_awaiter(A&& a) {
    if constexpr (has_member_co_await<A>) return static_cast<A&&>(a).operator co_await();
    else if constexpr (has_free_co_await<A>) return operator co_await(static_cast<A&&>(a));
    else return static_cast<A&&>(a);
}

// While the parent is still inside await_suspend, its child may finish, or destroy the whole chain of coroutines, or be
// resumed by another thread and finish there. Both sides call meet(); the second one resumes the parent.

struct promise_base : allocated_frame {
    struct final_awaiter {
        PROMETHEUS_ASYNC_DECL bool await_ready() const noexcept { return false; }
        template <class Promise>
        PROMETHEUS_ASYNC_DECL void await_suspend(std::coroutine_handle<Promise> self) const noexcept {
            promise_base& p = self.promise();
            const std::coroutine_handle<> waiting = p.parent;
            if (p.meet() && waiting) waiting.resume();  // *self may be destroyed by now. The first side does nothing: the parent goes on
        }
        PROMETHEUS_ASYNC_DECL void await_resume() const noexcept {}
    };

    PROMETHEUS_ASYNC_DECL promise_base() noexcept = default;
    promise_base(const promise_base&) = delete;
    PROMETHEUS_ASYNC_DECL ~promise_base() { if (destroyed) *destroyed = true; }

    PROMETHEUS_ASYNC_DECL std::suspend_always initial_suspend() const noexcept { return {}; }
    PROMETHEUS_ASYNC_DECL final_awaiter final_suspend() const noexcept { return {}; }

    /// Whether the other side has called it before. If it has, the load shows that, and the slower exchange is not needed.
    PROMETHEUS_ASYNC_DECL bool meet() noexcept {
        return __atomic_load_n(&met, __ATOMIC_ACQUIRE) != 0 || __atomic_exchange_n(&met, 1U, __ATOMIC_ACQ_REL) != 0;
    }

    std::coroutine_handle<> parent;
    bool* destroyed = nullptr;  // a variable of the parent's await_suspend, which outlives the chain
    unsigned met = 0;
};

#if PROMETHEUS_ASYNC_EXCEPTIONS
using thrown = std::exception_ptr;
#else
struct thrown {};
#endif
#if PROMETHEUS_ASYNC_EXCEPTIONS
/// Moves it out. It is cold, so that g++ puts the throw that follows into the cold part of the coroutine: to unwind that
/// part takes a third less time.
PROMETHEUS_ASYNC_DECL __attribute__((__cold__, __noinline__)) inline thrown taken(thrown& from) noexcept {
    return static_cast<thrown&&>(from);
}
/// A task returns it to end with an exception that was thrown before, without throwing it again.
struct failed_end {
    thrown& why;
    PROMETHEUS_ASYNC_DECL explicit failed_end(thrown& of) noexcept : why(of) {}  // explicit, so that `co_return {}` is not one
};
/// The same for a task without a value, which awaits it and then returns.
struct fails_with {
    thrown& why;

    PROMETHEUS_ASYNC_DECL bool await_ready() const noexcept { return false; }
    template <class Promise>
    PROMETHEUS_ASYNC_DECL bool await_suspend(std::coroutine_handle<Promise> self) const noexcept {
        self.promise().exception = static_cast<thrown&&>(why);
        return false;
    }
    PROMETHEUS_ASYNC_DECL void await_resume() const noexcept {}
};
#endif
template <class A>
struct task_end;

template <class T>
struct task_promise_value : promise_base {
    using stored = std::conditional_t<std::is_reference_v<T>, std::remove_reference_t<T>*, T>;

    PROMETHEUS_ASYNC_DECL task_promise_value() noexcept = default;
    PROMETHEUS_ASYNC_DECL ~task_promise_value() = default;
    template <class U = T>
        requires std::convertible_to<U&&, T>
    PROMETHEUS_ASYNC_DECL void return_value(U&& u) {
        if constexpr (std::is_reference_v<T>) {
            T reference = static_cast<U&&>(u);
            end.put(&reference);
        } else {
            end.put(static_cast<U&&>(u));
        }
    }
#if PROMETHEUS_ASYNC_EXCEPTIONS
    PROMETHEUS_ASYNC_DECL void return_value(const failed_end& failed) noexcept { end.put_why(static_cast<thrown&&>(failed.why)); }
    PROMETHEUS_ASYNC_DECL thrown take_why() noexcept { return end ? thrown{} : detail::taken(end.why_inside()); }
#endif
    PROMETHEUS_ASYNC_DECL void unhandled_exception() noexcept {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        end.put_why(std::current_exception());
#else
        std::abort();
#endif
    }
    PROMETHEUS_ASYNC_DECL __attribute__((__always_inline__)) T take() {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        if (!end) std::rethrow_exception(take_why());
#endif
        if constexpr (std::is_reference_v<T>) return static_cast<T>(**end);
        else return static_cast<T&&>(*end);
    }

    PROMETHEUS_ASYNC_DECL bool ended() const noexcept {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        if (!end && end.why()) return true;
#endif
        return bool(end);
    }

    value_or_why<stored, thrown> end;  // until the end neither a value nor an exception
};

template <>
struct task_promise_value<void> : promise_base {
    PROMETHEUS_ASYNC_DECL task_promise_value() noexcept = default;
    PROMETHEUS_ASYNC_DECL ~task_promise_value() = default;
    PROMETHEUS_ASYNC_DECL void return_void() noexcept {}
    PROMETHEUS_ASYNC_DECL void unhandled_exception() noexcept {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        exception = std::current_exception();
#else
        std::abort();
#endif
    }
#if PROMETHEUS_ASYNC_EXCEPTIONS
    PROMETHEUS_ASYNC_DECL thrown take_why() noexcept { return exception ? detail::taken(exception) : thrown{}; }
#endif
    PROMETHEUS_ASYNC_DECL __attribute__((__always_inline__)) void take() {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        if (exception) std::rethrow_exception(take_why());
#endif
    }
#if PROMETHEUS_ASYNC_EXCEPTIONS
    std::exception_ptr exception;
#endif
};

}  // namespace detail

/// A lazy coroutine: it starts when it is awaited, and ends with a value, with an exception, or when it is
/// destroyed, which is safe wherever it is suspended.
///
/// shape    await it once. Awaiting 10^6 ready tasks in a row uses no stack at any optimisation level: there
///          is no symmetric transfer, which compilers make a tail call only when they optimise
/// lifetime a task owns its frame, and destroys it, awaited or not
/// threads  resumed on whichever thread its awaitables resume it
/// errors   the body's exception leaves the co_await, the same object
template <class T>
class [[nodiscard]] task {
public:
    struct promise_type : detail::task_promise_value<T> {
        PROMETHEUS_ASYNC_DECL promise_type() noexcept = default;
        PROMETHEUS_ASYNC_DECL ~promise_type() = default;
        PROMETHEUS_ASYNC_DECL task get_return_object() noexcept {
            return task(std::coroutine_handle<promise_type>::from_promise(*this));
        }
    };
    using value_type = T;

    PROMETHEUS_ASYNC_DECL task() noexcept = default;
    PROMETHEUS_ASYNC_DECL task(task&& other) noexcept : frame_(detail::exchanged(other.frame_, nullptr)) {}
    PROMETHEUS_ASYNC_DECL task& operator=(task&& other) noexcept {
        if (this != &other) {
            if (auto old = detail::exchanged(frame_, detail::exchanged(other.frame_, nullptr))) old.destroy();
        }
        return *this;
    }
    PROMETHEUS_ASYNC_DECL ~task() {
        if (auto old = detail::exchanged(frame_, nullptr)) old.destroy();
    }

    /// Whether it has a coroutine. (There is no conversion to bool: `if (start_http_server(...))` would be a forgotten co_await.)
    PROMETHEUS_ASYNC_DECL bool valid() const noexcept { return frame_ != nullptr; }

    auto operator co_await() const& = delete;  // a task is awaited once: co_await std::move(it)
    PROMETHEUS_ASYNC_DECL auto operator co_await() && {
        if (!frame_ || frame_.done()) detail::raise(error(errc::conflict, "a task can be awaited only once, and not when it is empty"));
        return awaiter{frame_};
    }

private:
    struct awaiter {
        std::coroutine_handle<promise_type> child;

        PROMETHEUS_ASYNC_DECL bool await_ready() const noexcept { return false; }
        PROMETHEUS_ASYNC_DECL bool await_suspend(std::coroutine_handle<> parent) const {
            const auto frame = child;  // a copy: *this is destroyed if the child destroys the chain
            bool destroyed = false;
            frame.promise().parent = parent;
            frame.promise().destroyed = &destroyed;
            frame.resume();
            if (destroyed) return true;
            frame.promise().destroyed = nullptr;
            return !frame.promise().meet();
        }
        // Inlined: each call between the throw and the handler adds a sixth to what the throw costs.
        PROMETHEUS_ASYNC_DECL __attribute__((__always_inline__)) T await_resume() const { return child.promise().take(); }
    };
    friend struct detail::task_end<task>;
    PROMETHEUS_ASYNC_DECL explicit task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
    std::coroutine_handle<promise_type> frame_;
};

namespace detail {

template <class A>
constexpr bool is_task = false;
template <class T>
constexpr bool is_task<task<T>> = true;

/// Waits until a task has ended, and returns its promise, with the value or exception still in it.
template <class T>
struct task_end<task<T>> : task<T>::awaiter {
    PROMETHEUS_ASYNC_DECL explicit task_end(task<T>& of) : task<T>::awaiter(static_cast<task<T>&&>(of).operator co_await()) {}
    PROMETHEUS_ASYNC_DECL auto& await_resume() const noexcept { return this->child.promise(); }
};

}  // namespace detail

PROMETHEUS_ASYNC_END

// =============================================================================
// [30] deferreds                                    deferred<T>, completion handlers
//      needs [28]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN

template <class T>
class deferred;
template <class T>
class outcome;

/// Why a deferred failed: an exception, or, in a build without exceptions, an error.
///
/// lifetime an exception is shared by its holders
/// threads  any
#if PROMETHEUS_ASYNC_EXCEPTIONS
using fault = std::exception_ptr;
#else
using fault = error;
#endif

/// Called with every failure that was not handled (no errback ran after it, and it was not awaited), when the last
/// handle of its deferred is destroyed. One per process, none by default.
///
/// threads  set it before threads that use deferreds are started; called on the thread that destroys the last handle
using unhandled_handler = void (*)(const fault& why, void* context);
/// Sets the handler of failures that were not handled; null: none.
///
/// threads  before those that use deferreds are started
PROMETHEUS_ASYNC_DECL void on_unhandled_failure(unhandled_handler handler, void* context = nullptr) noexcept;

namespace detail {

PROMETHEUS_ASYNC_DECL void unhandled(const fault& why) noexcept;

PROMETHEUS_ASYNC_DECL inline fault this_failure() noexcept {
#if PROMETHEUS_ASYNC_EXCEPTIONS
    return std::current_exception();
#else
    return error(errc::canceled, {});
#endif
}

struct nothing {};  // stands for the value of a void

template <class T>
struct is_deferred : std::false_type {};
template <class T>
struct is_deferred<deferred<T>> : std::true_type {};

// std::invoke, which would cost <functional>.
template <class F, class... Args>
PROMETHEUS_ASYNC_DECL constexpr decltype(auto) invoke(F&& f, Args&&... args) {
    return static_cast<F&&>(f)(static_cast<Args&&>(args)...);
}
template <class C, class Member, class Object, class... Args>
PROMETHEUS_ASYNC_DECL constexpr decltype(auto) invoke(Member C::*member, Object&& object, Args&&... args) {
    auto on = [](auto&& o) -> decltype(auto) {
        using O = decltype(o);
        if constexpr (std::is_base_of_v<C, std::remove_cvref_t<O>>) return static_cast<O>(o);
        else if constexpr (requires { o.get(); } && !requires { *o; }) return (o.get());  // reference_wrapper
        else return (*static_cast<O>(o));
    };
    if constexpr (std::is_function_v<Member>)
        return (on(static_cast<Object&&>(object)).*member)(static_cast<Args&&>(args)...);
    else return (on(static_cast<Object&&>(object)).*member);
}

}  // namespace detail

/// A value, or the fault that says why there is none: what a deferred holds once it has fired.
///
/// threads  a value like any other
/// errors   value() raises: throws the exception itself, or, without exceptions, PROMETHEUS_ASYNC_FATAL
template <class T>
class outcome : detail::value_or_why<std::conditional_t<std::is_object_v<T>, T, detail::nothing>, fault> {
    using stored = std::conditional_t<std::is_object_v<T>, T, detail::nothing>;
    using base = detail::value_or_why<stored, fault>;
    static_assert(std::is_object_v<T> || std::is_void_v<T>, "a deferred holds a value or void: use a pointer for a reference");

public:
    using value_type = T;
    using base::operator bool;   // there is a value
    using base::operator*;
    using base::why;             // the failure

    PROMETHEUS_ASYNC_DECL outcome() noexcept requires std::is_void_v<T> : base(stored{}) {}
    PROMETHEUS_ASYNC_DECL outcome(stored value) : base(static_cast<stored&&>(value)) {}
    PROMETHEUS_ASYNC_DECL outcome(const fault& failed) noexcept : base(failed) {}
#if PROMETHEUS_ASYNC_EXCEPTIONS
    PROMETHEUS_ASYNC_DECL outcome(const error& failed) : base(std::make_exception_ptr(failure(failed))) {}
#endif
    PROMETHEUS_ASYNC_DECL outcome(outcome&& other) noexcept(std::is_nothrow_move_constructible_v<stored>) = default;
    PROMETHEUS_ASYNC_DECL outcome& operator=(outcome&& other) noexcept(std::is_nothrow_move_constructible_v<stored>) {
        if (this != &other) detail::remake(*this, other, &detail::this_failure);
        return *this;
    }
    PROMETHEUS_ASYNC_DECL ~outcome() = default;

    PROMETHEUS_ASYNC_DECL T value() && {
        if (!*this) raise();
        if constexpr (!std::is_void_v<T>) return static_cast<T&&>(**this);
    }

private:
    [[__noreturn__]] PROMETHEUS_ASYNC_DECL void raise() const {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        std::rethrow_exception(this->why());
#else
        detail::raise(this->why());
#endif
    }
};

namespace detail {

struct deferred_core;

/// What waits for a deferred: a callback, which deletes itself, or an awaiter, which its coroutine owns.
struct deferred_node {
    /// Without a core: the deferred was destroyed and never fired.
    void (*act)(deferred_node*, deferred_core*, deferred_core*& ready);
    deferred_node* next = nullptr;
};

// Fires once; then its callbacks run in order, each with the outcome that the previous one left. A deferred that
// waited for this one runs next, from a list and not by recursion, so a chain of a million deferreds needs no stack.
struct deferred_core : allocated {
    void (*destroy)(deferred_core*) noexcept;
    deferred_node* first = nullptr;
    deferred_node** end = &first;
    deferred_core* next_ready = nullptr;
    std::coroutine_handle<> source;  // the coroutine that is to fire it
    std::uint32_t refs = 1;
    bool fired = false;
    bool running = false;  // it is in a list of ready ones
    bool waiting = false;  // it waits for a deferred that a callback returned
    bool seen = false;     // the failure was handled

    PROMETHEUS_ASYNC_DECL explicit deferred_core(void (*d)(deferred_core*) noexcept) noexcept : destroy(d) {}
    /// Destroys it, and then what that releases, in a loop: a chain that never fired needs no stack either.
    PROMETHEUS_ASYNC_DECL static void drop(deferred_core* last) noexcept;
    deferred_core(const deferred_core&) = delete;
    deferred_core& operator=(const deferred_core&) = delete;
    PROMETHEUS_ASYNC_DECL ~deferred_core() {
        if (source) source.destroy();
        deferred_core* none = nullptr;
        while (first) {
            deferred_node* node = pop();
            node->act(node, nullptr, none);
        }
    }

    PROMETHEUS_ASYNC_DECL bool idle() const noexcept { return fired && !running && !waiting; }
#if PROMETHEUS_ASYNC_NO_THREADS
    PROMETHEUS_ASYNC_DECL void keep() noexcept { ++refs; }
    PROMETHEUS_ASYNC_DECL void release() noexcept { if (--refs == 0) drop(this); }
#else
    PROMETHEUS_ASYNC_DECL void keep() noexcept { __atomic_add_fetch(&refs, 1U, __ATOMIC_RELAXED); }
    PROMETHEUS_ASYNC_DECL void release() noexcept { if (__atomic_sub_fetch(&refs, 1U, __ATOMIC_ACQ_REL) == 0) drop(this); }
#endif
    PROMETHEUS_ASYNC_DECL void append(deferred_node* node) noexcept {
        *end = node;
        end = &node->next;
    }
    PROMETHEUS_ASYNC_DECL deferred_node* pop() noexcept {
        deferred_node* node = first;
        first = node->next;
        if (!first) end = &first;
        return node;
    }
    PROMETHEUS_ASYNC_DECL void unlink(deferred_node* node) noexcept {
        deferred_node** at = &first;
        while (*at != node) at = &(*at)->next;
        *at = node->next;
        if (!*at) end = at;
    }
    PROMETHEUS_ASYNC_DECL void make_ready(deferred_core*& ready) noexcept {
        keep();
        running = true;
        next_ready = detail::exchanged(ready, this);
    }
    PROMETHEUS_ASYNC_DECL static void run_callbacks(deferred_core* ready) {
        while (ready) {
            deferred_core* now = ready;
            if (now->first && !now->waiting) {
                deferred_node* node = now->pop();
                node->act(node, now, ready);
            } else {
                ready = now->next_ready;
                now->running = false;
                now->release();
            }
        }
    }
};

template <class T>
struct deferred_state;
struct deferred_access {
    template <class T>
    PROMETHEUS_ASYNC_DECL static deferred_state<T>& state(const deferred<T>& d) noexcept { return *d.state_; }
};

template <class T>
struct deferred_state : deferred_core {
    outcome<T> now;

    PROMETHEUS_ASYNC_DECL deferred_state() noexcept
        : deferred_core([](deferred_core* self) noexcept { delete static_cast<deferred_state*>(self); }),
          now(none()) {}
    PROMETHEUS_ASYNC_DECL ~deferred_state() {
        if (fired && !now && !seen) unhandled(now.why());
    }
    PROMETHEUS_ASYNC_DECL static fault none() noexcept {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        return nullptr;
#else
        return error(errc::canceled, "a deferred was not fired");
#endif
    }

    PROMETHEUS_ASYNC_DECL void become(outcome<T> next) noexcept {
        seen = false;
#if PROMETHEUS_ASYNC_EXCEPTIONS
        try {
            now = std::move(next);
        } catch (...) {  // a move threw: that is the failure now
        }
#else
        now = std::move(next);
#endif
    }
    PROMETHEUS_ASYNC_DECL outcome<T> take() {
        seen = true;
        return std::move(now);  // a fault stays, for later readers
    }
    PROMETHEUS_ASYNC_DECL void fire(outcome<T> with) {
        if (fired) raise(error(errc::conflict, "a deferred fires once, and this one has already fired"));
        fired = true;
        become(std::move(with));
        deferred_core* ready = nullptr;
        make_ready(ready);
        run_callbacks(ready);
    }
    /// Runs step(state, ready) now, or when its turn comes.
    template <class Step>
    PROMETHEUS_ASYNC_DECL void add(Step step) {
        struct node final : deferred_node, allocated {
            Step step;
            explicit node(Step&& s) : deferred_node{&go}, step(std::move(s)) {}
            static void go(deferred_node* self, deferred_core* core, deferred_core*& ready) {
                const owned<node> mine(static_cast<node*>(self));
                if (core) mine->step(*static_cast<deferred_state*>(core), ready);
            }
        };
        if (!idle()) return append(new node(std::move(step)));
        deferred_core* ready = nullptr;
        make_ready(ready);
        step(*this, ready);
        run_callbacks(ready);
    }
    /// The outcome of `inner` becomes ours; our callbacks wait until then.
    PROMETHEUS_ASYNC_DECL void follow(deferred_state& inner) {
        if (&inner == this) raise(error(errc::invalid_option, "a callback returned its own deferred"));
        if (inner.idle()) return become(inner.take());
        waiting = true;
        keep();
        inner.add(following{this});
    }
    /// Called when there is an outcome, unless it waits for another deferred.
    PROMETHEUS_ASYNC_DECL void outcome_is_there(deferred_core*& ready) noexcept {
        if (waiting) return;
        fired = true;
        if (!running) make_ready(ready);
    }

private:
    struct following {
        deferred_state* outer;
        PROMETHEUS_ASYNC_DECL explicit following(deferred_state* o) noexcept : outer(o) {}
        PROMETHEUS_ASYNC_DECL following(following&& other) noexcept : outer(detail::exchanged(other.outer, nullptr)) {}
        PROMETHEUS_ASYNC_DECL ~following() { if (outer) outer->release(); }
        PROMETHEUS_ASYNC_DECL void operator()(deferred_state& inner, deferred_core*& ready) {
            outer->become(inner.take());
            outer->waiting = false;
            outer->outcome_is_there(ready);
        }
    };
};

/// Calls f(). What it returns becomes the outcome of `to`, unless it returns nothing.
template <class T, class F>
PROMETHEUS_ASYNC_DECL void deferred_step(deferred_state<T>& to, F f) {
#if PROMETHEUS_ASYNC_EXCEPTIONS
    try {
#endif
        using R = std::remove_cvref_t<std::invoke_result_t<F&>>;
        if constexpr (is_deferred<R>::value) {
            static_assert(std::is_same_v<R, deferred<T>>,
                          "a callback of a deferred<T> returns a deferred of the same T: use then()");
            const R inner = f();
            to.follow(deferred_access::state(inner));
        } else if constexpr (std::is_void_v<R>) {
            f();
        } else if constexpr (std::is_convertible_v<R, outcome<T>>) {
            to.become(f());
        } else {
            static_assert(std::is_convertible_v<R, T>, "a callback of a deferred<T> returns a T, a deferred<T>, "
                          "an outcome<T>, a fault, or nothing: use then()");
            to.become(static_cast<T>(f()));
        }
#if PROMETHEUS_ASYNC_EXCEPTIONS
    } catch (...) {
        to.become(std::current_exception());
    }
#endif
}

// A callback that returns nothing leaves the value as it is; any other may move from it.
template <class F, class T>
concept only_looks = std::is_invocable_v<F&, T&> &&
                     (!std::is_invocable_v<F&, T> || std::is_void_v<std::invoke_result_t<F&, T&>>);
template <class F, class T>
PROMETHEUS_ASYNC_DECL decltype(auto) call_with(F& f, outcome<T>& from) {
    if constexpr (std::is_void_v<T>) {
        return detail::invoke(f);
    } else if constexpr (only_looks<F, T>) {
        return detail::invoke(f, *from);
    } else if constexpr (std::is_invocable_v<F&, T>) {
        return detail::invoke(f, std::move(*from));
    } else {
        static_assert(std::is_invocable_v<F&>, "a callback of a deferred<T> takes a T, or nothing");
        return detail::invoke(f);
    }
}
template <class R>
struct unwrapped { using type = std::remove_cvref_t<R>; };
template <class R>
struct unwrapped<deferred<R>> { using type = R; };
template <class R>
struct unwrapped<outcome<R>> { using type = R; };

template <class T>
struct deferred_awaiter : deferred_node {
    deferred_state<T>* state;
    std::coroutine_handle<> waiting;

    PROMETHEUS_ASYNC_DECL explicit deferred_awaiter(deferred_state<T>* s) noexcept : deferred_node{&go}, state(s) { state->keep(); }
    deferred_awaiter(const deferred_awaiter&) = delete;
    deferred_awaiter& operator=(const deferred_awaiter&) = delete;
    PROMETHEUS_ASYNC_DECL ~deferred_awaiter() {
        if (waiting) state->unlink(this);
        state->release();
    }
    PROMETHEUS_ASYNC_DECL bool await_ready() const noexcept { return state->idle(); }
    PROMETHEUS_ASYNC_DECL void await_suspend(std::coroutine_handle<> h) noexcept {
        waiting = h;
        state->append(this);
    }
    PROMETHEUS_ASYNC_DECL static void go(deferred_node* self, deferred_core*, deferred_core*&) {
        std::exchange(static_cast<deferred_awaiter*>(self)->waiting, nullptr).resume();
    }
};

}  // namespace detail

/// A value that comes later, for code that is written with callbacks: Twisted's Deferred.
///
/// It fires once, with a value or a fault. Functions added by add_callback(), add_errback() and add_both() run in the
/// order of their adding, each with the outcome that the previous one left; those added after it fired run at once.
/// What a function returns becomes the outcome; one that returns nothing leaves it as it is; what it
/// throws becomes the fault; if it returns a deferred, the later ones wait for that. A deferred is
/// awaitable. make_deferred() makes one from a coroutine. With a callback API, fire it in the callback:
///
///     prom::deferred<int> d;
///     old_api_read(fd, [d](int n) { n < 0 ? d.fail(...) : d.fire(n); });
///     return d;
///
/// shape    a handle: copies share one deferred. One allocation for it and one for each callback
/// lifetime the last handle destroys the callbacks that did not run and the coroutine that it was made
///          from; a callback that captures its own deferred keeps it alive until it has fired
/// threads  handles may be copied and destroyed on any thread; everything else happens on one thread
/// errors   firing twice is raised; a failure that was not handled goes to on_unhandled_failure()
template <class T = void>
class deferred {
    using state = detail::deferred_state<T>;

    struct value_awaiter : detail::deferred_awaiter<T> {
        PROMETHEUS_ASYNC_DECL explicit value_awaiter(state* s) noexcept : detail::deferred_awaiter<T>(s) {}
        PROMETHEUS_ASYNC_DECL ~value_awaiter() = default;
        PROMETHEUS_ASYNC_DECL T await_resume() { return this->state->take().value(); }
    };
    struct settled_awaiter : detail::deferred_awaiter<T> {
        PROMETHEUS_ASYNC_DECL explicit settled_awaiter(state* s) noexcept : detail::deferred_awaiter<T>(s) {}
        PROMETHEUS_ASYNC_DECL ~settled_awaiter() = default;
        PROMETHEUS_ASYNC_DECL outcome<T> await_resume() { return this->state->take(); }
    };

public:
    using value_type = T;

    PROMETHEUS_ASYNC_DECL deferred() : state_(new state) {}
    PROMETHEUS_ASYNC_DECL deferred(const deferred& other) noexcept : state_(other.state_) { if (state_) state_->keep(); }
    PROMETHEUS_ASYNC_DECL deferred(deferred&& other) noexcept : state_(detail::exchanged(other.state_, nullptr)) {}
    PROMETHEUS_ASYNC_DECL deferred& operator=(deferred other) noexcept {
        other.state_ = detail::exchanged(state_, other.state_);
        return *this;
    }
    PROMETHEUS_ASYNC_DECL ~deferred() { if (state_) state_->release(); }

    friend bool operator==(const deferred& a, const deferred& b) noexcept { return a.state_ == b.state_; }

    PROMETHEUS_ASYNC_DECL bool fired() const noexcept { return state_->fired; }  // or failed
    /// Fires it with a value: the callbacks run now.
    PROMETHEUS_ASYNC_DECL void fire() const requires std::is_void_v<T> { state_->fire({}); }
    template <class X>
        requires std::is_constructible_v<outcome<T>, X>
    PROMETHEUS_ASYNC_DECL void fire(X&& value) const { state_->fire(outcome<T>(static_cast<X&&>(value))); }
    /// Fires it with a failure: the errbacks run now.
    PROMETHEUS_ASYNC_DECL void fail(const fault& why) const { state_->fire(why); }
    template <class... X> void callback(X&&...) const = delete;  // fire(value)
    template <class... X> void succeed(X&&...) const = delete;   // fire(value)
    template <class... X> void errback(X&&...) const = delete;   // fail(fault)
#if PROMETHEUS_ASYNC_EXCEPTIONS
    PROMETHEUS_ASYNC_DECL void fail(const error& why) const { state_->fire(why); }
#endif

    /// Adds f(value) or f(), called if there is a value.
    template <class F>
    PROMETHEUS_ASYNC_DECL const deferred& add_callback(F f) const {
        return add([f = std::move(f)](state& s) mutable {
            if (s.now) detail::deferred_step(s, [&]() -> decltype(auto) { return detail::call_with(f, s.now); });
        });
    }
    /// Adds f(fault) or f(), called if there is a fault. It then counts as handled, also if f returns nothing and so leaves it.
    template <class F>
    PROMETHEUS_ASYNC_DECL const deferred& add_errback(F f) const {
        return add([f = std::move(f)](state& s) mutable {
            if (s.now) return;
            s.seen = true;
            detail::deferred_step(s, [&, why = s.now.why()]() -> decltype(auto) {
                if constexpr (std::is_invocable_v<F&, const fault&>) return detail::invoke(f, why);
                else return detail::invoke(f);
            });
        });
    }
    /// Adds f(outcome<T>&) or f(), called in both cases.
    template <class F>
    PROMETHEUS_ASYNC_DECL const deferred& add_both(F f) const {
        return add([f = std::move(f)](state& s) mutable {
            s.seen = true;
            detail::deferred_step(s, [&]() -> decltype(auto) {
                if constexpr (std::is_invocable_v<F&, outcome<T>&>) return detail::invoke(f, s.now);
                else return detail::invoke(f);
            });
        });
    }
    /// Returns another deferred, for what f(value) returns, or with the same fault. f may move from the value.
    template <class F>
    PROMETHEUS_ASYNC_DECL auto then(F f) const {
        using R = decltype(detail::call_with(f, std::declval<outcome<T>&>()));
        using U = typename detail::unwrapped<std::remove_cvref_t<R>>::type;
        deferred<U> out;
        state_->add([f = std::move(f), out](state& s, detail::deferred_core*& ready) mutable {
            detail::deferred_state<U>& to = *out.state_;
            s.seen = true;
            if (to.fired) return;  // fired by other code
            if constexpr (std::is_void_v<U>) to.become({});
            if (s.now) detail::deferred_step(to, [&]() -> decltype(auto) { return detail::call_with(f, s.now); });
            else to.become(s.now.why());
            to.outcome_is_there(ready);
        });
        return out;
    }
    /// Adds f(const outcome<T>&), which does not count as handling a failure: for instruments.
    template <class F>
    PROMETHEUS_ASYNC_DECL const deferred& watch(F f) const {
        return add([f = std::move(f)](state& s) mutable { detail::deferred_step(s, [&] { f(std::as_const(s.now)); }); });
    }

    /// Awaiting gives the value by moving it: callbacks added later find it moved from. A fault is raised.
    PROMETHEUS_ASYNC_DECL auto operator co_await() const noexcept { return value_awaiter(state_); }
    /// Awaiting this gives an outcome<T>: for code without exceptions.
    PROMETHEUS_ASYNC_DECL auto settled() const noexcept { return settled_awaiter(state_); }

private:
    template <class>
    friend class deferred;
    friend struct detail::deferred_access;

    template <class F>
    PROMETHEUS_ASYNC_DECL const deferred& add(F f) const {
        state_->add([f = std::move(f)](state& s, detail::deferred_core*&) mutable { f(s); });
        return *this;
    }

    state* state_;
};

// A coroutine whose end fires a deferred, which owns it until then. Not in detail: g++ exports the handles of its frame,
// as those of a task.
template <class T>
struct deferred_source {
    struct promise_type : detail::allocated_frame {
        PROMETHEUS_ASYNC_DECL promise_type() noexcept = default;
        PROMETHEUS_ASYNC_DECL ~promise_type() = default;
        detail::deferred_state<T>* to = nullptr;
        outcome<T> result{detail::deferred_state<T>::none()};

        struct last {
            PROMETHEUS_ASYNC_DECL bool await_ready() const noexcept { return false; }
            PROMETHEUS_ASYNC_DECL void await_suspend(std::coroutine_handle<promise_type> self) const noexcept {
                detail::deferred_state<T>* fires = self.promise().to;
                outcome<T> with = std::move(self.promise().result);
                fires->keep();  // the frame may hold the last handle
                fires->source = nullptr;
                self.destroy();
                if (!fires->fired) fires->fire(std::move(with));
                fires->release();
            }
            PROMETHEUS_ASYNC_DECL void await_resume() const noexcept {}
        };
        PROMETHEUS_ASYNC_DECL deferred_source get_return_object() noexcept {
            return {std::coroutine_handle<promise_type>::from_promise(*this)};
        }
        PROMETHEUS_ASYNC_DECL std::suspend_always initial_suspend() const noexcept { return {}; }
        PROMETHEUS_ASYNC_DECL last final_suspend() const noexcept { return {}; }
        PROMETHEUS_ASYNC_DECL void return_value(outcome<T> with) { result = std::move(with); }
        PROMETHEUS_ASYNC_DECL void unhandled_exception() noexcept {
#if PROMETHEUS_ASYNC_EXCEPTIONS
            result = outcome<T>(std::current_exception());
#else
            std::abort();
#endif
        }
    };
    std::coroutine_handle<promise_type> frame;
};

namespace detail {

template <class T, class A>
PROMETHEUS_ASYNC_DECL deferred_source<T> pump(A a) {
    if constexpr (std::is_void_v<T>) {
        co_await static_cast<A&&>(a);
        co_return outcome<void>();
    } else {
        co_return outcome<T>(co_await static_cast<A&&>(a));
    }
}

}  // namespace detail

/// Starts an awaitable (a task, an awaiter) and fires the deferred when it ends.
///
/// lifetime the deferred owns the awaitable. When the last handle is destroyed, which must not happen while the awaitable
///          itself runs, it is destroyed where it is suspended. An awaitable given as an lvalue is not moved: it must outlive that
template <class Awaitable>
[[nodiscard]] PROMETHEUS_ASYNC_DECL auto make_deferred(Awaitable&& awaitable) {
    using T = std::remove_cvref_t<decltype(detail::get_awaiter(std::declval<Awaitable>()).await_resume())>;
    static_assert(std::is_constructible_v<Awaitable, Awaitable>,
                  "this awaitable cannot be moved: keep it in a variable, and give that to make_deferred()");
    deferred<T> made;
    detail::deferred_state<T>& state = detail::deferred_access::state(made);
    auto source = detail::pump<T, Awaitable>(static_cast<Awaitable&&>(awaitable));
    source.frame.promise().to = &state;
    state.source = source.frame;
    source.frame.resume();
    return made;
}

namespace detail {
// The nested types of the handler, so that asio finds them without traits.
template <class H>
struct executor_of {};
template <class H>
    requires requires { typename H::executor_type; }
struct executor_of<H> { using executor_type = typename H::executor_type; };
template <class H>
struct allocator_of {};
template <class H>
    requires requires { typename H::allocator_type; }
struct allocator_of<H> { using allocator_type = typename H::allocator_type; };
template <class H>
struct cancellation_slot_of {};
template <class H>
    requires requires { typename H::cancellation_slot_type; }
struct cancellation_slot_of<H> { using cancellation_slot_type = typename H::cancellation_slot_type; };

struct no_scope {
    template <class... Args>
    PROMETHEUS_ASYNC_DECL void completed(const Args&...) noexcept {}
};
}  // namespace detail

/// A completion handler that is measured; made by completion() and the verbs.
///
/// shape    called once; move-only; its executor, allocator and cancellation slot are the handler's.
///          For asio traits that are specialised for a handler use examples/asio_tokens.hpp
/// threads  called on any
/// errors   exceptions of the handler itself are not measured: the operation has ended before it runs
template <class Handler, class Scope = detail::no_scope>
class completion_handler : public detail::executor_of<Handler>,
                           public detail::allocator_of<Handler>,
                           public detail::cancellation_slot_of<Handler> {
public:
    PROMETHEUS_ASYNC_DECL completion_handler(Scope scope, Handler handler)
        : scope_(static_cast<Scope&&>(scope)), handler_(std::move(handler)) {}

    template <class... Args>
        requires std::is_invocable_v<Handler&, Args...>
    PROMETHEUS_ASYNC_DECL decltype(auto) operator()(Args&&... args) & {
        scope_.completed(std::as_const(args)...);
        return detail::invoke(handler_, static_cast<Args&&>(args)...);
    }
    template <class... Args>
        requires std::is_invocable_v<Handler, Args...>
    PROMETHEUS_ASYNC_DECL decltype(auto) operator()(Args&&... args) && {
        scope_.completed(std::as_const(args)...);
        return detail::invoke(std::move(handler_), static_cast<Args&&>(args)...);
    }

    PROMETHEUS_ASYNC_DECL const Handler& handler() const noexcept { return handler_; }
    template <class H = Handler>
    PROMETHEUS_ASYNC_DECL auto get_executor() const noexcept -> typename H::executor_type { return handler_.get_executor(); }
    template <class H = Handler>
    PROMETHEUS_ASYNC_DECL auto get_allocator() const noexcept -> typename H::allocator_type { return handler_.get_allocator(); }
    template <class H = Handler>
    PROMETHEUS_ASYNC_DECL auto get_cancellation_slot() const noexcept -> typename H::cancellation_slot_type {
        return handler_.get_cancellation_slot();
    }

private:
    Scope scope_;
    Handler handler_;
};

/// Marks a handler that an operation will call once, to distinguish it from a function to decorate:
///
///     async_read(fd, prom::time(read_time, prom::completion(handler)));
///
/// lifetime the handler is moved or copied into the result, which is move-only
/// threads  called where the operation calls it
template <class Handler>
PROMETHEUS_ASYNC_DECL auto completion(Handler&& handler) {
    return completion_handler<std::decay_t<Handler>>({}, static_cast<Handler&&>(handler));
}

PROMETHEUS_ASYNC_END

// =============================================================================
// [32] instruments                                  time, count_exceptions, track_inprogress
//      needs [20] [30]
// =============================================================================
//
// verb(metric, x) measures x. What it returns depends on x: (1) a deferred: the same deferred; (2) an awaitable of a
// coroutine type whose coroutines can await it: the same type, with one more frame; (3) any other awaitable: an
// awaitable that allocates nothing; (4) a type of a companion header (senders): what that header makes of it; (5) a
// function: a decorated function. Other work does not compile, neither as x nor as a function's result. verb(metric)
// is the decorator, and (a | b)(x) is a(b(x)). A scope, one small type for each verb, receives what happens to x: it
// is made at the call and is moved to where x ends.
PROMETHEUS_ASYNC_BEGIN

/// A metric for time(). The metric of another library is adapted in a few lines:
///
///     struct seconds_of {
///         prometheus::Histogram& theirs;
///         void observe(double s) const { theirs.Observe(s); }
///     };
///
/// unit     seconds
/// threads  observe() is called where the work ends
template <class M>
concept observer = requires(M& m) { m.observe(0.5); };
/// A metric for count_exceptions() and count_failures().
///
/// threads  inc() is called where the work ends
template <class M>
concept incrementer = requires(M& m) { m.inc(); };
/// A metric for track_inprogress().
///
/// threads  inc() is called where the work starts, dec() where it ends
template <class M>
concept up_down = incrementer<M> && requires(M& m) { m.dec(); };

/// The default predicate of count_failures(). A failure is an expected, result or outcome without a
/// value, an error_code that is set, or an exception_ptr that is not null.
///
/// errors   for another type the program does not compile, with a message to give a predicate
struct failed {
    template <class R, class... Rest>
    PROMETHEUS_ASYNC_DECL bool operator()(const R& r, const Rest&...) const {
        if constexpr (requires { r.has_value(); }) return !r.has_value();
        else if constexpr (requires { r.category(); }) return static_cast<bool>(r);
        else if constexpr (requires { r.why(); } || requires { r.error(); }) return !static_cast<bool>(r);
#if PROMETHEUS_ASYNC_EXCEPTIONS
        else if constexpr (std::is_same_v<R, std::exception_ptr>) return r != nullptr;
#endif
        else
            static_assert(sizeof(R) == 0,
                          "count_failures() cannot tell when this result is a failure: give it a predicate");
    }
};

namespace detail {

// Handles of this library and rvalues are kept by value, other metrics by reference.
template <class M>
concept metric_handle = requires {
    requires std::is_same_v<const metric_type, decltype(std::remove_cvref_t<M>::type)>;
};
template <class M>
using kept_metric =
    std::conditional_t<std::is_lvalue_reference_v<M> && !metric_handle<M>, M, std::remove_cvref_t<M>>;

// ---- scopes

// at_call: the work starts with the call. at_await: the call only makes it, and it starts when it is awaited.
enum class starts : bool { at_call, at_await };
enum class phase : std::uint8_t { before, during, after };

// start(): the work starts. end(): it has ended; the destructor calls it too, if the work had started.
// cut_short(): the call that should have made the work threw, so the work starts and ends there. thrown(): called while an
// exception that leaves the work is handled. failed_with(), failed(), result(): how it ended. completed(): all arguments of
// a handler.
template <class Scope>
struct scope_base {
    static constexpr bool sees_exceptions = false;
    static constexpr bool sees_results = false;
    PROMETHEUS_ASYNC_DECL void start() noexcept {}
    PROMETHEUS_ASYNC_DECL void end() noexcept {}
    PROMETHEUS_ASYNC_DECL void cut_short() noexcept {}
    PROMETHEUS_ASYNC_DECL void thrown() noexcept {}
    PROMETHEUS_ASYNC_DECL void failed_with(const fault&) noexcept {}
    PROMETHEUS_ASYNC_DECL void failed() noexcept {}  // neither an exception nor a result: the error of a sender
    template <class... Args>
    PROMETHEUS_ASYNC_DECL void result(const Args&...) noexcept {}
    template <class... Args>
    PROMETHEUS_ASYNC_DECL void completed(const Args&... args) {
        Scope& self = static_cast<Scope&>(*this);
        self.start();
        self.look(args...);
        self.end();
    }
    template <class... Args>
    PROMETHEUS_ASYNC_DECL void look(const Args&...) noexcept {}
};

// Calls a metric or predicate of the user. Its exceptions are dropped, and the measured work goes on.
template <class F>
PROMETHEUS_ASYNC_DECL void update([[maybe_unused]] F&& f) noexcept {
#if PROMETHEUS_ASYNC_EXCEPTIONS
    try {
        static_cast<F&&>(f)();
    } catch (...) {
    }
#else
    static_cast<F&&>(f)();
#endif
}

template <class M>
class time_scope : public scope_base<time_scope<M>> {
public:
    PROMETHEUS_ASYNC_DECL time_scope(const M& metric, starts when)
        : metric_(metric), when_(when), began_(when == starts::at_call ? monotonic_now() : 0) {}
    PROMETHEUS_ASYNC_DECL time_scope(time_scope&& other) noexcept
        : metric_(static_cast<M&&>(other.metric_)), phase_(detail::exchanged(other.phase_, phase::after)),
          when_(other.when_), began_(other.began_) {}
    PROMETHEUS_ASYNC_DECL ~time_scope() { end(); }

    PROMETHEUS_ASYNC_DECL void start() noexcept {
        if (phase_ != phase::before) return;
        phase_ = phase::during;
        if (when_ == starts::at_await) began_ = monotonic_now();
    }
    PROMETHEUS_ASYNC_DECL void cut_short() noexcept { start(); }
    PROMETHEUS_ASYNC_DECL void end() noexcept {
        if (phase_ != phase::during) return;
        phase_ = phase::after;
        detail::update([&] { metric_.observe(seconds_since(began_)); });
    }

private:
    M metric_;
    phase phase_ = phase::before;
    starts when_;
    double began_;
};

template <class M>
class track_scope : public scope_base<track_scope<M>> {
public:
    PROMETHEUS_ASYNC_DECL track_scope(const M& metric, starts when) : metric_(metric) { if (when == starts::at_call) raise(); }
    PROMETHEUS_ASYNC_DECL track_scope(track_scope&& other) noexcept
        : metric_(static_cast<M&&>(other.metric_)), phase_(detail::exchanged(other.phase_, phase::after)) {}
    PROMETHEUS_ASYNC_DECL ~track_scope() { end(); }

    PROMETHEUS_ASYNC_DECL void start() noexcept { if (phase_ == phase::before) raise(); }
    PROMETHEUS_ASYNC_DECL void end() noexcept {
        if (detail::exchanged(phase_, phase::after) == phase::during) detail::update([&] { metric_.dec(); });
    }

private:
    PROMETHEUS_ASYNC_DECL void raise() noexcept {
        detail::update([&] {
            metric_.inc();
            phase_ = phase::during;
        });
    }
    M metric_;
    phase phase_ = phase::before;
};

#if PROMETHEUS_ASYNC_EXCEPTIONS
// Looks at the exception that is being handled.
template <class E>
PROMETHEUS_ASYNC_DECL bool current_is() noexcept {
    try {
        throw;
    } catch (const E&) {
        return true;
    } catch (...) {
        return false;
    }
}
#endif

template <class M, class... E>
class count_scope : public scope_base<count_scope<M, E...>> {
public:
    static constexpr bool sees_exceptions = true;
    PROMETHEUS_ASYNC_DECL count_scope(const M& metric, starts) : metric_(metric) {}
    PROMETHEUS_ASYNC_DECL count_scope(count_scope&&) = default;

    PROMETHEUS_ASYNC_DECL void thrown() noexcept {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        if constexpr (sizeof...(E) == 0) count();
        else if ((current_is<E>() || ...)) count();
#endif
    }
    PROMETHEUS_ASYNC_DECL void failed_with(const fault& why) noexcept {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        if (!why) return;
        if constexpr (sizeof...(E) == 0) {
            count();
        } else {
            try {
                std::rethrow_exception(why);
            } catch (...) {
                thrown();
            }
        }
#else
        (void)why;
        count();
#endif
    }
    template <class First, class... Rest>
    PROMETHEUS_ASYNC_DECL void look(const First& first, const Rest&...) noexcept {
        if constexpr (std::is_same_v<First, fault> && PROMETHEUS_ASYNC_EXCEPTIONS) failed_with(first);
    }
    PROMETHEUS_ASYNC_DECL void look() noexcept {}

private:
    PROMETHEUS_ASYNC_DECL void count() noexcept { detail::update([&] { metric_.inc(); }); }
    M metric_;
};

template <class M, class Predicate>
class failure_scope : public scope_base<failure_scope<M, Predicate>> {
public:
    static constexpr bool sees_results = true;
    PROMETHEUS_ASYNC_DECL failure_scope(const M& metric, const Predicate& p, starts) : metric_(metric), predicate_(p) {}
    PROMETHEUS_ASYNC_DECL failure_scope(failure_scope&&) = default;

    PROMETHEUS_ASYNC_DECL void failed() noexcept { detail::update([&] { metric_.inc(); }); }
    template <class First, class... Rest>
    PROMETHEUS_ASYNC_DECL void result(const First& first, const Rest&... rest) noexcept {
        if constexpr (std::is_invocable_v<Predicate&, const First&, const Rest&...>) {
            detail::update([&] { if (detail::invoke(predicate_, first, rest...)) metric_.inc(); });
        } else {
            static_assert(std::is_invocable_v<Predicate&, const First&>,
                          "the predicate of count_failures() does not take this result");
            detail::update([&] { if (detail::invoke(predicate_, first)) metric_.inc(); });
        }
    }
    template <class... Args>
    PROMETHEUS_ASYNC_DECL void look(const Args&... args) { result(args...); }

private:
    M metric_;
    Predicate predicate_;
};

// ---- what x may be

template <class A>
concept awaiter_like = requires(A& a) {
    static_cast<bool>(a.await_ready());
    a.await_resume();
};
template <class A>
concept awaitable = requires(A&& a) {
    { detail::get_awaiter(static_cast<A&&>(a)) } -> awaiter_like;
};
template <class A>
using promise_of = typename std::coroutine_traits<A>::promise_type;

struct some_transform { PROMETHEUS_ASYNC_DECL void await_transform(); };
template <class P>
struct transform_probe : P, some_transform {};
/// Whether P has an await_transform of any type: the name is then ambiguous in the probe.
template <class P>
concept transforms = !std::is_final_v<P> && !requires { &transform_probe<P>::await_transform; };

/// The awaiter that `co_await a` uses in a coroutine of A's own kind.
template <class A>
PROMETHEUS_ASYNC_DECL decltype(auto) awaiter_in_its_like(A&& a, promise_of<A>& p) {
    if constexpr (requires { p.await_transform(static_cast<A&&>(a)); })
        return detail::get_awaiter(p.await_transform(static_cast<A&&>(a)));
    else return detail::get_awaiter(static_cast<A&&>(a));
}
template <class A>
using awaited =
    decltype(detail::awaiter_in_its_like(std::declval<A>(), std::declval<promise_of<A>&>()).await_resume());
template <class P, class T>
concept returns = requires(P& p) { p.return_value(std::declval<T>()); } ||
                  (std::is_void_v<T> && requires(P& p) { p.return_void(); });
template <class A>
concept awaits_its_like = requires(promise_of<A>& p, A&& a) {
    { p.await_transform(static_cast<A&&>(a)) } -> awaitable;
} || (awaitable<A> && !transforms<promise_of<A>>);
// A coroutine type that wrap() can be written in: its frame needs no parameters of its own, its promise makes an A
// and returns what awaiting an A gives. (asio's awaitable can be awaited in no other coroutine.)
template <class A>
concept coroutine_type = requires(promise_of<A>& p) {
    new promise_of<A>;
    { p.get_return_object() } -> std::convertible_to<A>;
} && std::is_move_constructible_v<A> && awaits_its_like<A> && returns<promise_of<A>, awaited<A>>;
template <class A>
concept eager = requires(promise_of<A>& p) {
    { p.initial_suspend() } -> std::same_as<std::suspend_never>;
};

struct call_operator { PROMETHEUS_ASYNC_DECL void operator()(); };
template <class F>
struct call_probe : F, call_operator {};
// True also if operator() is overloaded or a template: then its name is ambiguous in the probe.
template <class F>
concept has_call_operator =
    std::is_class_v<F> && (std::is_final_v<F> || !requires { &call_probe<F>::operator(); });
template <class F>
concept function_like =
    std::is_member_pointer_v<F> || std::is_function_v<std::remove_pointer_t<F>> || has_call_operator<F>;

template <class T>
struct is_completion : std::false_type {};
template <class H, class S>
struct is_completion<completion_handler<H, S>> : std::true_type {};

/// For the kinds of a companion header, which specialises it: measure(scope, make) measures what make() returns.
template <class D>
struct foreign_kind : std::false_type {};

// Work that other code waits for. As a plain call, only its start would be measured.
template <class D>
concept sender_like = requires { typename D::sender_concept; } || requires { typename D::completion_signatures; };
template <class D>  // folly's functions take an rvalue
concept gets_by_waiting = (requires(D& d) { d.get(); } || requires(D& d) { static_cast<D&&>(d).get(); }) &&
    (requires(D& d) { d.wait(); } || requires(D& d) { static_cast<D&&>(d).wait(); });
template <class D>
concept future_like = (gets_by_waiting<D> || requires(D& d) { d.waitForFinished(); }) &&
    !requires(D& d) { d.operator->(); } && !function_like<D>;  // a smart pointer has a get() too
// An operation that asio starts when it is called with a token. Only its name distinguishes it from a function.
template <class D>
consteval std::string_view name_of() noexcept { return __PRETTY_FUNCTION__; }
template <class D>
consteval bool named_deferred() noexcept {
    for (std::string_view name : {"asio::deferred_", "asio::experimental::deferred_"})
        for (std::string_view by : {"D = ", "D = boost::"})
            if (const auto at = name_of<D>().find(by); at != std::string_view::npos && name_of<D>().substr(at + by.size()).starts_with(name)) return true;
    return false;
}
template <class D>
concept asio_deferred = std::is_class_v<D> && named_deferred<D>();
template <class D>
concept work = requires { typename promise_of<D>; } || awaitable<D&> || awaitable<D&&> || sender_like<D> || future_like<D> || asio_deferred<D>;

template <class D>
struct refused {
    static constexpr bool unawaited = !sender_like<D> && !future_like<D> && !asio_deferred<D>, awaited_otherwise = awaitable<D&> || awaitable<D&&>;
    static_assert(!sender_like<D>,
                  "a sender is measured with examples/stdexec_senders.hpp, included after stdexec; "
                  "call_only(f) measures the call of f and not what it returns");
    static_assert(sender_like<D> || !future_like<D>,
                  "a future is over where it is waited for: measure a function that waits, as in "
                  "time(metric, [&] { return f().get(); }), or what fires it; "
                  "call_only(f) measures the call of f and not what it returns");
    static_assert(!asio_deferred<D>,
                  "asio's deferred operation has not started yet: measure its token, by examples/asio_tokens.hpp, as in "
                  "async_wait(prom_asio::measured(time(metric), asio::deferred)); call_only(f) measures the call of f and not what it returns");
    static_assert(!unawaited || !awaited_otherwise,
                  "this awaitable cannot be awaited as it comes: return it by value, or await it in a coroutine function "
                  "that is measured; call_only(f) measures the call of f and not what it returns");
    static_assert(!unawaited || awaited_otherwise,
                  "a coroutine that cannot be awaited (a generator) ends where it is consumed: measure the function that "
                  "consumes it; call_only(f) measures the call of f and not what it returns");
};

// ---- measuring

template <class Scope, class F>
PROMETHEUS_ASYNC_DECL decltype(auto) catching([[maybe_unused]] Scope& scope, F&& f) {
#if PROMETHEUS_ASYNC_EXCEPTIONS
    if constexpr (Scope::sees_exceptions) {
        try {
            return static_cast<F&&>(f)();
        } catch (...) {
            scope.thrown();
            throw;
        }
    } else
#endif
        return static_cast<F&&>(f)();
}
template <class Scope, class F>
PROMETHEUS_ASYNC_DECL decltype(auto) finishing(Scope& scope, F&& f) {
    using R = std::invoke_result_t<F>;
    if constexpr (!Scope::sees_results) {
        return detail::catching(scope, static_cast<F&&>(f));
    } else {
        static_assert(!std::is_void_v<R>, "count_failures() needs a result to look at, and this has none");
        R result = static_cast<F&&>(f)();
        scope.result(std::as_const(result));
        if constexpr (std::is_reference_v<R>) return static_cast<R>(result);
        else return result;
    }
}
template <class Scope>
struct ending {
    Scope& scope;
    PROMETHEUS_ASYNC_DECL ~ending() { scope.end(); }
};
// Calls the function that makes the work. If that throws, there is no work.
template <class Scope, class F>
PROMETHEUS_ASYNC_DECL decltype(auto) making([[maybe_unused]] Scope& scope, F&& f) {
#if PROMETHEUS_ASYNC_EXCEPTIONS
    try {
        return static_cast<F&&>(f)();
    } catch (...) {
        scope.thrown();
        scope.cut_short();
        throw;
    }
#else
    return static_cast<F&&>(f)();
#endif
}

template <class T, class Scope>
PROMETHEUS_ASYNC_DECL void watch_deferred(const deferred<T>& d, Scope scope) {
    d.watch([scope = static_cast<Scope&&>(scope)](const outcome<T>& came) mutable {
        scope.start();
        if (!came) scope.failed_with(came.why());
        else if constexpr (!std::is_void_v<T>) scope.result(*came);
        scope.end();
    });
}

// The scope is a parameter, so that it ends with the frame if the body never starts.
template <class A, class Scope>
PROMETHEUS_ASYNC_DECL A wrap(Scope scope, A a) {
    const ending<Scope> at_end{scope};
    scope.start();
#if PROMETHEUS_ASYNC_EXCEPTIONS
    if constexpr (is_task<A> && !Scope::sees_results) {  // its exception is passed on as a pointer: to throw it again would cost more than everything else
        auto& end = co_await task_end<A>(a);
        thrown why = end.take_why();
        if (why) scope.failed_with(why);
        if constexpr (!std::is_void_v<awaited<A>>) {
            if (why) co_return failed_end(why);
            co_return end.take();
        } else if (why) {
            co_await fails_with{why};
        }
    } else
#endif
    if constexpr (Scope::sees_results) {
        static_assert(!std::is_void_v<awaited<A>>,
                      "count_failures() needs a result to look at, and this has none");
        decltype(auto) result = co_await std::move(a);
        scope.result(std::as_const(result));
        co_return static_cast<decltype(result)&&>(result);
#if PROMETHEUS_ASYNC_EXCEPTIONS
    } else if constexpr (Scope::sees_exceptions) {
        try {
            co_return co_await std::move(a);
        } catch (...) {
            scope.thrown();
            throw;
        }
#endif
    } else {
        co_return co_await std::move(a);
    }
}

template <class Scope, class Awaiter>
struct measured_awaiter {
    Scope& scope;
    Awaiter awaiter;  // or a reference to one

    PROMETHEUS_ASYNC_DECL bool await_ready() {
        scope.start();
        return detail::catching(scope, [this] { return static_cast<bool>(awaiter.await_ready()); });
    }
    template <class Promise>
    PROMETHEUS_ASYNC_DECL decltype(auto) await_suspend(std::coroutine_handle<Promise> h) {  // *this may be destroyed when it returns
        return detail::catching(scope, [this, h]() -> decltype(auto) { return awaiter.await_suspend(h); });
    }
    PROMETHEUS_ASYNC_DECL decltype(auto) await_resume() {
        const ending<Scope> at_end{scope};
        return detail::finishing(scope, [this]() -> decltype(auto) { return awaiter.await_resume(); });
    }
};

/// The result of the verbs for an awaitable whose type is not a coroutine type. A is a value, or a reference.
template <class Scope, class A>
class [[nodiscard]] measured {
    template <class B>
    using awaiter_of = measured_awaiter<Scope, decltype(detail::get_awaiter(std::declval<B>()))>;

public:
    template <class Make>
    PROMETHEUS_ASYNC_DECL measured(Scope& scope, Make&& make) : awaitable_(static_cast<Make&&>(make)()), scope_(static_cast<Scope&&>(scope)) {}

    PROMETHEUS_ASYNC_DECL auto operator co_await() && -> awaiter_of<A&&> {
        return {scope_, detail::get_awaiter(static_cast<A&&>(awaitable_))};
    }
    PROMETHEUS_ASYNC_DECL auto operator co_await() & -> awaiter_of<A&> requires awaitable<A&> {
        return {scope_, detail::get_awaiter(awaitable_)};
    }

private:
    A awaitable_;
    Scope scope_;
};

}  // namespace detail

/// A function that is measured: it calls the function at once, with its arguments forwarded, and measures what
/// that returns. The clock starts when the work starts: with the call, or, if that only makes a lazy
/// awaitable, when this is awaited.
///
/// shape    does not compile if the result is work that this library cannot follow, such as a std::future
/// lifetime only the function itself is copied; arguments live as long as in the plain call
/// threads  those that the function allows
/// errors   those of the function; a synchronous throw is measured too: where the function should have made a lazy
///          awaitable, whose clock has not started yet, about 0 seconds are observed
template <class Verb, class F, bool CallOnly = false>
class decorated {
public:
    PROMETHEUS_ASYNC_DECL decorated(Verb verb, F function) : verb_(static_cast<Verb&&>(verb)), function_(static_cast<F&&>(function)) {}

    template <class... Args>
        requires std::is_invocable_v<F&, Args...>
    PROMETHEUS_ASYNC_DECL decltype(auto) operator()(Args&&... args) & { return call<F&>(*this, static_cast<Args&&>(args)...); }
    template <class... Args>
        requires std::is_invocable_v<const F&, Args...>
    PROMETHEUS_ASYNC_DECL decltype(auto) operator()(Args&&... args) const& { return call<const F&>(*this, static_cast<Args&&>(args)...); }
    template <class... Args>
        requires std::is_invocable_v<F, Args...>
    PROMETHEUS_ASYNC_DECL decltype(auto) operator()(Args&&... args) && { return call<F>(*this, static_cast<Args&&>(args)...); }

    struct the_decorated_function_does_not_take_these_arguments {};
    template <class... Args>
        requires(!std::is_invocable_v<const F&, Args...>)
    the_decorated_function_does_not_take_these_arguments operator()(Args&&...) const& = delete;

private:
    template <class G, class Self, class... Args>
    PROMETHEUS_ASYNC_DECL static decltype(auto) call(Self& self, Args&&... args) {
        using R = std::invoke_result_t<G, Args...>;
        using D = std::remove_cvref_t<R>;
        auto work = [&]() -> R {
            return detail::invoke(static_cast<G&&>(self.function_), static_cast<Args&&>(args)...);
        };
        if constexpr (CallOnly) {
            return plain(self, work);
        } else if constexpr (detail::is_deferred<D>::value) {
            auto scope = self.verb_.scope(detail::starts::at_call);
            R made = detail::making(scope, work);
            detail::watch_deferred(made, static_cast<decltype(scope)&&>(scope));
            return static_cast<R>(made);
        } else if constexpr (detail::coroutine_type<D> && !std::is_lvalue_reference_v<R>) {
            auto scope = self.verb_.scope(detail::eager<D> ? detail::starts::at_call : detail::starts::at_await);
            D made = detail::making(scope, work);
            return detail::wrap<D>(static_cast<decltype(scope)&&>(scope), std::move(made));
        } else if constexpr (detail::awaitable<R>) {
            auto scope = self.verb_.scope(detail::eager<D> ? detail::starts::at_call : detail::starts::at_await);
            return detail::measured<decltype(scope), R>(scope, [&]() -> R { return detail::making(scope, work); });
        } else if constexpr (detail::foreign_kind<D>::value) {
            auto scope = self.verb_.scope(detail::starts::at_await);
            return detail::foreign_kind<D>::measure(scope, [&]() -> R { return detail::making(scope, work); });
        } else if constexpr (detail::work<D>) {
            static_cast<void>(detail::refused<D>());
        } else {
            return plain(self, work);
        }
    }
    template <class Self, class Work>
    PROMETHEUS_ASYNC_DECL static decltype(auto) plain(Self& self, Work& work) {
        auto scope = self.verb_.scope(detail::starts::at_call);
        scope.start();
        return detail::finishing(scope, work);
    }

    [[no_unique_address]] Verb verb_;
    [[no_unique_address]] F function_;
};

/// Marks a function of which only the call is measured, whatever it returns: time(start_time)(call_only(start)).
///
/// lifetime f is moved or copied into it
template <class F>
struct call_only {
    PROMETHEUS_ASYNC_DECL explicit call_only(F f) : function(static_cast<F&&>(f)) {}
    F function;                         // what is called
};

namespace detail {

template <class T>
struct is_call_only : std::false_type {};
template <class F>
struct is_call_only<call_only<F>> : std::true_type {};
template <class Verb, class F>
struct is_call_only<decorated<Verb, F, true>> : std::true_type {};

template <class Verb, class X>
PROMETHEUS_ASYNC_DECL auto measure(const Verb& verb, X&& x) {
    using D = std::remove_cvref_t<X>;
    if constexpr (is_deferred<D>::value) {
        D same(static_cast<X&&>(x));
        detail::watch_deferred(same, verb.scope(starts::at_call));
        return same;
    } else if constexpr (is_completion<D>::value) {
        auto scope = verb.scope(starts::at_call);
        return completion_handler<D, decltype(scope)>(static_cast<decltype(scope)&&>(scope), static_cast<X&&>(x));
    } else if constexpr (coroutine_type<D>) {
        static_assert(std::is_constructible_v<D, X>,
                      "a coroutine is measured where it ends: move it, as in time(metric, std::move(task))");
        return detail::wrap<D>(verb.scope(starts::at_call), static_cast<D>(static_cast<X&&>(x)));
    } else if constexpr (awaitable<X>) {
        using A = std::conditional_t<std::is_lvalue_reference_v<X>, X, D>;
        static_assert(std::is_constructible_v<A, X>, "this awaitable cannot be moved: decorate a function that returns it, "
                      "as in time(metric)([&] { return mutex.lock(); })()");
        auto scope = verb.scope(starts::at_call);
        return measured<decltype(scope), A>(scope, [&]() -> A { return static_cast<X&&>(x); });
    } else if constexpr (foreign_kind<D>::value) {
        auto scope = verb.scope(starts::at_call);
        return foreign_kind<D>::measure(scope, [&]() -> D { return static_cast<X&&>(x); });
    } else if constexpr (is_call_only<D>::value && !function_like<D>) {
        return decorated<Verb, decltype(D::function), true>(verb, static_cast<X&&>(x).function);
    } else if constexpr (work<D>) {
        static_cast<void>(detail::refused<D>());
    } else if constexpr (function_like<std::decay_t<X>>) {
        return decorated<Verb, std::decay_t<X>, is_call_only<D>::value>(verb, static_cast<X&&>(x));
    } else {
        static_assert(sizeof(D) == 0,
                      "what can be measured is a deferred, a coroutine, another awaitable, or a function");
    }
}

template <class M>
struct timing {
    static_assert(observer<std::remove_reference_t<M>>,
                  "time() takes a metric that has observe(double): a histogram, a summary");
    M metric;
    PROMETHEUS_ASYNC_DECL time_scope<M> scope(starts when) const { return {metric, when}; }
};
template <class M, class... E>
struct counting {
    static_assert(incrementer<std::remove_reference_t<M>>,
                  "count_exceptions() takes a metric that has inc(): a counter");
    static_assert(sizeof...(E) == 0 || PROMETHEUS_ASYNC_EXCEPTIONS,
                  "without exceptions there are no types to tell apart");
    M metric;
    PROMETHEUS_ASYNC_DECL count_scope<M, E...> scope(starts when) const { return {metric, when}; }
};
template <class M>
struct tracking {
    static_assert(up_down<std::remove_reference_t<M>>,
                  "track_inprogress() takes a metric that has inc() and dec(): a gauge");
    M metric;
    PROMETHEUS_ASYNC_DECL track_scope<M> scope(starts when) const { return {metric, when}; }
};
template <class M, class Predicate>
struct failing {
    static_assert(incrementer<std::remove_reference_t<M>>,
                  "count_failures() takes a metric that has inc(): a counter");
    M metric;
    Predicate predicate;
    PROMETHEUS_ASYNC_DECL failure_scope<M, Predicate> scope(starts when) const { return {metric, predicate, when}; }
    template <class P>
    PROMETHEUS_ASYNC_DECL failing<M, P> when(P other) const { return {metric, std::move(other)}; }
};

struct decorates {};
template <class D>
concept decorating = std::is_base_of_v<decorates, D>;

}  // namespace detail

/// A verb with its metric, before it has what to measure: time(metric).
///
/// threads  a value like any other
template <class Verb>
class [[nodiscard]] decorator : detail::decorates {
public:
    PROMETHEUS_ASYNC_DECL explicit decorator(Verb verb) : verb_(static_cast<Verb&&>(verb)) {}
    template <class X>
    PROMETHEUS_ASYNC_DECL auto operator()(X&& x) const { return detail::measure(verb_, static_cast<X&&>(x)); }

    /// count_failures(metric).when(predicate)
    template <class Predicate>
    PROMETHEUS_ASYNC_DECL auto when(Predicate p) const requires requires(Verb v) { v.when(p); } {
        return decorator<decltype(verb_.when(p))>(verb_.when(std::move(p)));
    }

private:
    Verb verb_;
};

/// (a | b)(x) is a(b(x)): the leftmost is outermost.
///
/// threads  a value like any other
template <class Outer, class Inner>
class [[nodiscard]] composed : detail::decorates {
public:
    PROMETHEUS_ASYNC_DECL composed(Outer outer, Inner inner) : outer_(static_cast<Outer&&>(outer)), inner_(static_cast<Inner&&>(inner)) {}
    template <class X>
    PROMETHEUS_ASYNC_DECL auto operator()(X&& x) const { return outer_(inner_(static_cast<X&&>(x))); }

private:
    Outer outer_;
    Inner inner_;
};
template <detail::decorating Outer, detail::decorating Inner>
PROMETHEUS_ASYNC_DECL composed<Outer, Inner> operator|(Outer outer, Inner inner) { return {static_cast<Outer&&>(outer), static_cast<Inner&&>(inner)}; }

/// Observes how long x takes, whether it ends well or not.
///
/// unit     seconds of monotonic_now()
/// clock    starts at this call; for a decorated function, when its work starts (see decorated)
/// shape    a result, an exception, a reference pass through unchanged. If x is destroyed half way, that is observed.
///          If it is never awaited, or is a deferred or handler that is dropped, nothing is observed
/// lifetime handles of this library and rvalue metrics are copied; other metrics must outlive x
template <class M, class X>
PROMETHEUS_ASYNC_DECL auto time(M&& metric, X&& x) {
    return detail::measure(detail::timing<detail::kept_metric<M>>{static_cast<M&&>(metric)}, static_cast<X&&>(x));
}
template <class M>
PROMETHEUS_ASYNC_DECL auto time(M&& metric) {
    return decorator(detail::timing<detail::kept_metric<M>>{static_cast<M&&>(metric)});
}

/// Counts the exceptions that leave x, of the types E, or of all types: thrown, as the fault of a deferred, or
/// as a std::exception_ptr in a handler's first argument. A cancellation counts if a library throws for it;
/// destruction half way does not count.
///
/// lifetime as of time()
/// threads  the metric counts where x ends
/// errors   the same exception object is passed on. Without exceptions only faults of deferreds are counted
template <class... E, class M, class X>
PROMETHEUS_ASYNC_DECL auto count_exceptions(M&& metric, X&& x) {
    return detail::measure(detail::counting<detail::kept_metric<M>, E...>{static_cast<M&&>(metric)}, static_cast<X&&>(x));
}
template <class... E, class M>
PROMETHEUS_ASYNC_DECL auto count_exceptions(M&& metric) {
    return decorator(detail::counting<detail::kept_metric<M>, E...>{static_cast<M&&>(metric)});
}

/// Increments the metric now (for a decorated function: when its work starts) and decrements it when x ends: it
/// has finished, has thrown, or is destroyed, awaited or not.
///
/// lifetime as of time()
/// threads  the metric is decremented where x ends
template <class M, class X>
PROMETHEUS_ASYNC_DECL auto track_inprogress(M&& metric, X&& x) {
    return detail::measure(detail::tracking<detail::kept_metric<M>>{static_cast<M&&>(metric)}, static_cast<X&&>(x));
}
template <class M>
PROMETHEUS_ASYNC_DECL auto track_inprogress(M&& metric) {
    return decorator(detail::tracking<detail::kept_metric<M>>{static_cast<M&&>(metric)});
}

/// Counts the results for which the predicate is true. For a handler the predicate gets all of its arguments, or
/// the first. Exceptions are not results: (count_failures(a) | count_exceptions(b))(f) counts both.
///
/// lifetime as of time(); the predicate is copied
/// threads  the predicate is called, and the metric counts, where x ends
template <class M, class X, class Predicate = failed>
PROMETHEUS_ASYNC_DECL auto count_failures(M&& metric, X&& x, Predicate predicate = {}) {
    return detail::measure(detail::failing<detail::kept_metric<M>, Predicate>{static_cast<M&&>(metric), std::move(predicate)},
                           static_cast<X&&>(x));
}
template <class M>
PROMETHEUS_ASYNC_DECL auto count_failures(M&& metric) {
    return decorator(detail::failing<detail::kept_metric<M>, failed>{static_cast<M&&>(metric), {}});
}

PROMETHEUS_ASYNC_END

#if !PROMETHEUS_ASYNC_NO_NETWORK  // rooms [34] to [39]

// =============================================================================
// [34] loop                                         event_loop: tasks, timers, posting, readiness
//      needs [30]
// =============================================================================
struct pollfd;  // <poll.h>, for event_loop::fill

PROMETHEUS_ASYNC_BEGIN

namespace detail {
/// What a descriptor is watched for.
enum class interest : std::uint8_t { none = 0, read = 1, write = 2, both = 3 };
PROMETHEUS_ASYNC_DECL constexpr interest operator|(interest a, interest b) noexcept {
    return static_cast<interest>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
PROMETHEUS_ASYNC_DECL constexpr interest operator&(interest a, interest b) noexcept {
    return static_cast<interest>(static_cast<unsigned>(a) & static_cast<unsigned>(b));
}
}  // namespace detail

/// How a loop is made.
///
/// unit     seconds
/// lifetime copied; context outlives the loop
struct loop_options {
    clock time{nullptr, nullptr};      // system_clock() when null; timers use `monotonic`
    event_handler on_event = nullptr;  // exceptions of posted callbacks and spawned tasks
    void* context = nullptr;           // given to on_event
    seconds closing_budget = 2;        // how long run() may take for closing work at its end
};

class event_loop;

namespace detail {

struct loop_state;

/// A timer, a member of its owner: arming and cancelling allocate nothing. Its destructor cancels it. A loop that
/// ends first disarms it; an owner that might arm it after that needs an attachment.
class timer {
public:
    PROMETHEUS_ASYNC_DECL timer(event_loop& loop, void (*fire)(void* self), void* self) noexcept;
    timer(const timer&) = delete;
    timer& operator=(const timer&) = delete;
    PROMETHEUS_ASYNC_DECL ~timer() { cancel(); }

    PROMETHEUS_ASYNC_DECL void at(double when) noexcept;  // the loop's monotonic seconds; re-arms
    PROMETHEUS_ASYNC_DECL void after(seconds span) noexcept;
    PROMETHEUS_ASYNC_DECL void cancel() noexcept;
    PROMETHEUS_ASYNC_DECL bool armed() const noexcept { return prev_ != nullptr; }
    PROMETHEUS_ASYNC_DECL double when() const noexcept { return when_; }

private:
    friend struct loop_state;
    loop_state* loop_;
    void (*fire_)(void*);
    void* self_;
    double when_ = 0;
    std::uint64_t order_ = 0;  // equal times fire in the order of arming
    timer* child_ = nullptr;   // a pairing heap: first child, next sibling, and the pointer to this
    timer* next_ = nullptr;
    timer** prev_ = nullptr;
};

/// Waits for one descriptor to be ready, level-triggered; a member of its owner. The callback may destroy the watch,
/// its owner, and any other watch. After an error or hang-up the descriptor is ready for everything that it is watched
/// for. Several watches may share a descriptor.
class watch {
public:
    PROMETHEUS_ASYNC_DECL watch(event_loop& loop, void (*ready)(void* self, interest got), void* self) noexcept;
    watch(const watch&) = delete;
    watch& operator=(const watch&) = delete;
    PROMETHEUS_ASYNC_DECL ~watch() { forget(); }

    PROMETHEUS_ASYNC_DECL result<void> set(int fd, interest want) noexcept;  // none: the callback is not called
    PROMETHEUS_ASYNC_DECL void forget() noexcept;                            // before closing fd
    PROMETHEUS_ASYNC_DECL int fd() const noexcept { return fd_; }

private:
    friend struct loop_state;
    loop_state* loop_;
    void (*ready_)(void*, interest);
    void* self_;
    int fd_ = -1;
    interest want_ = interest::none;
    watch* next_ = nullptr;
    watch** prev_ = nullptr;
};

/// An object that must be notified if the loop ends before it (a server, an agent).
class attachment {
public:
    PROMETHEUS_ASYNC_DECL attachment(event_loop& loop, void (*gone)(void* self) noexcept, void* self) noexcept;
    attachment(const attachment&) = delete;
    attachment& operator=(const attachment&) = delete;
    PROMETHEUS_ASYNC_DECL ~attachment();
    PROMETHEUS_ASYNC_DECL bool attached() const noexcept { return loop_ != nullptr; }

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
/// shape    run() drives it; or a host program does: it watches native_handle() in its own loop, and calls poll() when
///          that is readable; next_deadline() for hosts with timers of their own; fill() for poll(2)
/// clock    loop_options::time.monotonic, read once a turn
/// lifetime outlives its tasks; servers and timers that outlive it are disarmed, and may still be destroyed. After a
///          fork the loop belongs to the parent: what the child does to its copy, even destroying it, does not change that
/// threads  one thread, except post() and stop(); stop() is async-signal-safe
/// errors   the constructor raises when the system has no descriptors left; an exception of the task
///          leaves run(); those of posted callbacks and spawned tasks go to on_event
class event_loop {
public:
    PROMETHEUS_ASYNC_DECL explicit event_loop(const loop_options& options = {});
    event_loop(const event_loop&) = delete;
    event_loop& operator=(const event_loop&) = delete;
    PROMETHEUS_ASYNC_DECL ~event_loop();

    /// Runs until `main` ends or stop() is called, then finishes closing work within its budget.
    /// Returns the task's value, or T{} if it was stopped: see stopped().
    template <class T>
    PROMETHEUS_ASYNC_DECL T run(task<T> main);
    /// Runs until stop().
    PROMETHEUS_ASYNC_DECL void run();
    /// Ends the present run(), or, if there is none, the next one.
    PROMETHEUS_ASYNC_DECL void stop() noexcept;
    PROMETHEUS_ASYNC_DECL bool stopped() const noexcept;  // whether the last run() was ended by stop()

    /// One turn: waits at most `timeout` for something to be due, and does what is due at that time. What becomes due
    /// meanwhile waits for the next turn, so that a turn always ends. Inside a turn it does nothing.
    PROMETHEUS_ASYNC_DECL void poll(seconds timeout = 0);
    /// A descriptor that is readable when poll() has work, also for a host that is edge-triggered (EPOLLET) or one-shot. -1 with
    /// the poll backend, where fill() gives the set.
    PROMETHEUS_ASYNC_DECL int native_handle() const noexcept;
    /// The time by which poll() must be called, which may have passed; infinity when only a descriptor can wake the loop.
    PROMETHEUS_ASYNC_DECL double next_deadline() const noexcept;
    /// Fills `set` with the descriptors to poll; returns how many there are, even if that is more than fit.
    PROMETHEUS_ASYNC_DECL std::size_t fill(std::span<::pollfd> set) const noexcept;

    /// Runs `work` on the loop's thread, in the order of the calls. May be called by any thread. An empty one is an error.
    PROMETHEUS_ASYNC_DECL void post(callback<void()> work);
    /// Starts `work` now. The loop owns it, and destroys it if the loop ends first.
    PROMETHEUS_ASYNC_DECL void spawn(task<void> work);
    /// As spawn(), but at their end run() and the loop's destructor wait for it, at most closing_budget.
    PROMETHEUS_ASYNC_DECL void spawn_closing(task<void> work);

    /// The monotonic time at which the turn began; outside a turn, the present one.
    PROMETHEUS_ASYNC_DECL double now() const noexcept;
    PROMETHEUS_ASYNC_DECL auto sleep(seconds span) noexcept;         // co_await: void, in a later turn also when span is 0 or less
    PROMETHEUS_ASYNC_DECL auto readable(int fd) noexcept;            // co_await: result<void>. Keep fd open until then
    PROMETHEUS_ASYNC_DECL auto writable(int fd) noexcept;            // co_await: result<void>

private:
    friend struct detail::loop_state;
    PROMETHEUS_ASYNC_DECL void run_main(task<void> main);
    detail::loop_state* state_;
};

namespace detail {

class io_wait;

/// Cancels the waits of a coroutine from outside: each of its waits then ends at once, so that the coroutine can end.
struct wait_scope {
    io_wait* now = nullptr;
    bool canceled = false;
    PROMETHEUS_ASYNC_DECL wait_scope() noexcept = default;
    PROMETHEUS_ASYNC_DECL void cancel();
};

/// co_await: success when the descriptor is ready, timeout when the time is over, canceled when the scope is canceled.
/// Without a descriptor it waits for the time or for wake(); without a scope it cannot be canceled.
class [[nodiscard]] io_wait {
public:
    PROMETHEUS_ASYNC_DECL io_wait(event_loop& loop, wait_scope* scope, int fd, interest want, double until) noexcept
        : scope_(scope), fd_(fd), want_(want), until_(until), watch_(loop, &ready, this), timer_(loop, &late, this) {}
    io_wait(const io_wait&) = delete;
    io_wait& operator=(const io_wait&) = delete;
    PROMETHEUS_ASYNC_DECL ~io_wait() { if (scope_ && scope_->now == this) scope_->now = nullptr; }

    PROMETHEUS_ASYNC_DECL bool await_ready() noexcept;
    PROMETHEUS_ASYNC_DECL bool await_suspend(std::coroutine_handle<> waiting) noexcept;
    PROMETHEUS_ASYNC_DECL result<void> await_resume() const noexcept;

    enum class end : std::uint8_t { good, timeout, canceled, loop_ended, failed };  // failed: see sys_
    PROMETHEUS_ASYNC_DECL void wake(end how);
    PROMETHEUS_ASYNC_DECL void wake_soon() noexcept { timer_.at(0); }  // in the next turn: the wait ends with timeout

private:
    PROMETHEUS_ASYNC_DECL static void ready(void* self, interest);
    PROMETHEUS_ASYNC_DECL static void late(void* self);

    wait_scope* scope_;
    int fd_;
    int sys_ = 0;
    interest want_;
    end how_ = end::good;  // not a result: this is a part of many frames
    double until_;
    watch watch_;
    timer timer_;
    std::coroutine_handle<> waiting_;
};

// The results of sleep(), readable() and writable() can be moved until they are awaited, so that within() can take them.
struct [[nodiscard]] readiness {
    event_loop& loop;
    int fd;
    interest want;
    PROMETHEUS_ASYNC_DECL io_wait operator co_await() const noexcept {
        return io_wait(loop, nullptr, fd, want, __DBL_MAX__);
    }
};
struct sleep_wait : io_wait {
    PROMETHEUS_ASYNC_DECL sleep_wait(event_loop& loop, double until) noexcept : io_wait(loop, nullptr, -1, interest::none, until) {}
    PROMETHEUS_ASYNC_DECL ~sleep_wait() = default;
    PROMETHEUS_ASYNC_DECL void await_resume() const noexcept {}
};
struct [[nodiscard]] sleeping {
    event_loop& loop;
    seconds span;
    PROMETHEUS_ASYNC_DECL sleep_wait operator co_await() const noexcept {
        return sleep_wait(loop, loop.now() + positive(span.count()));
    }
};

/// Resumes when the deferred has fired, or when the span is over.
template <class T>
struct limited_awaiter : deferred_awaiter<T> {
    PROMETHEUS_ASYNC_DECL limited_awaiter(event_loop& loop, deferred_state<T>& of, seconds s) noexcept
        : deferred_awaiter<T>(&of), span(s), limit(loop, &late, this) {}
    PROMETHEUS_ASYNC_DECL ~limited_awaiter() = default;
    PROMETHEUS_ASYNC_DECL void await_suspend(std::coroutine_handle<> h) noexcept {
        deferred_awaiter<T>::await_suspend(h);
        limit.after(span);
    }
    PROMETHEUS_ASYNC_DECL bool await_resume() const noexcept { return this->state->fired; }
    PROMETHEUS_ASYNC_DECL static void late(void* self) {
        auto& me = *static_cast<limited_awaiter*>(self);
        me.state->unlink(&me);
        std::exchange(me.waiting, nullptr).resume();
    }

    seconds span;
    timer limit;
};

template <class T>
struct within_result { using type = result<T>; };
template <class T>
struct within_result<result<T>> { using type = result<T>; };

template <class R, class T, class A>
PROMETHEUS_ASYNC_DECL task<R> run_within(event_loop& loop, seconds span, A work) {
    const deferred<T> running = make_deferred(static_cast<A&&>(work));
    deferred_state<T>& state = deferred_access::state(running);
    if (!co_await limited_awaiter<T>(loop, state, span)) co_return error(errc::timeout, "the awaited operation did not end in time");
    if constexpr (std::is_void_v<T>) {
        state.take().value();
        co_return R{};
    } else {
        co_return state.take().value();
    }
}

/// Stores the outcome of `main` in `into`, which outlives it.
template <class T>
PROMETHEUS_ASYNC_DECL task<void> deliver(task<T> main, task_promise_value<T>& into) {
#if PROMETHEUS_ASYNC_EXCEPTIONS
    try {
#endif
        if constexpr (std::is_void_v<T>) co_await static_cast<task<T>&&>(main);
        else into.return_value(co_await static_cast<task<T>&&>(main));
#if PROMETHEUS_ASYNC_EXCEPTIONS
    } catch (...) {
        into.unhandled_exception();
    }
#endif
}

}  // namespace detail

template <class T>
T event_loop::run(task<T> main) {
    detail::task_promise_value<T> end;
    run_main(detail::deliver(static_cast<task<T>&&>(main), end));
    if constexpr (!std::is_void_v<T>) {
        static_assert(std::default_initializable<T>, "run() of a task that is stopped returns T{}");
        if (!end.ended()) return T{};
    }
    return end.take();
}

inline auto event_loop::sleep(seconds span) noexcept { return detail::sleeping{*this, span}; }
inline auto event_loop::readable(int fd) noexcept { return detail::readiness{*this, fd, detail::interest::read}; }
inline auto event_loop::writable(int fd) noexcept { return detail::readiness{*this, fd, detail::interest::write}; }

/// Awaits an awaitable for at most `span`. If it does not end in time, it is destroyed where it is suspended, and the
/// result is errc::timeout:
///
///     prom::result<int> n = co_await prom::within(loop, 2s, read_number(fd));
///
/// shape    a task<result<T>> for an awaitable of a T, also where that T is a result<T> itself. It starts when the
///          task is awaited. For a copy of a deferred only the waiting ends; the deferred goes on
/// unit     seconds. With 0, less, or NaN it must end before the loop's next turn; infinite: no limit
/// clock    the loop's monotonic one
/// lifetime the task owns an awaitable that is given as an rvalue; an lvalue is not moved. The loop outlives the task
/// threads  the awaitable resumes on the loop's thread
/// errors   an exception of the awaitable leaves the co_await, the same object; an error of an awaited result is returned
template <class Awaitable>
[[nodiscard]] PROMETHEUS_ASYNC_DECL auto within(event_loop& loop, seconds span, Awaitable&& awaitable) {
    using T = std::remove_cvref_t<decltype(detail::get_awaiter(std::declval<Awaitable>()).await_resume())>;
    using R = typename detail::within_result<T>::type;
    static_assert(std::is_constructible_v<Awaitable, Awaitable>,
                  "this awaitable cannot be moved: keep it in a variable, and give that to within()");
    return detail::run_within<R, T, Awaitable>(loop, span, static_cast<Awaitable&&>(awaitable));
}

PROMETHEUS_ASYNC_END

// =============================================================================
// [36] server                                       options, TLS hook, authorisation, servers
//      needs [26] [34]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN

class metrics_http_server;
class service_discovery;
struct credential;
struct authorizer;
struct tls_config;
struct tls_peer;
namespace detail {
class PROMETHEUS_ASYNC_LOCAL stream;
class PROMETHEUS_ASYNC_LOCAL http_connection;
struct PROMETHEUS_ASYNC_LOCAL kept_peer;
struct PROMETHEUS_ASYNC_LOCAL over_tls;
struct PROMETHEUS_ASYNC_LOCAL http_service;
struct PROMETHEUS_ASYNC_LOCAL http_metrics;
struct PROMETHEUS_ASYNC_LOCAL stream_io;
enum class stream_status : std::uint8_t;
enum class verdict : std::uint8_t;

/// What only programs need that set a tls_config.
struct tls_code {
    bool (*start)(stream& s, const tls_config& tls, std::string_view verify_name);
    stream_status (*handshake)(stream& s, std::span<char> scratch);
    stream_io (*receive)(stream& s, std::span<char> into, std::span<char> scratch);
    stream_io (*send)(stream& s, std::string_view octets, std::span<char> scratch);
    stream_status (*flush)(stream& s, std::span<char> scratch);
    stream_status (*shutdown)(stream& s, std::span<char> scratch);
    const tls_peer* (*peer)(stream& s);
    error (*why)(const stream& s);
    bool (*step)(http_connection& c);  // of its handshake
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const tls_code all;  // in [64]
};
/// What only programs need that authorise requests, or have a health check.
struct decision_code {
    result<void> (*open)(http_service& s, list<credential> accepted, const authorizer& asked);
    void (*look)(http_connection& c);
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const decision_code all;  // in [65]
};
/// What only programs need in which a coroutine decides that.
struct later_code {
    const decision_code* base;
    verdict (*authorize)(http_connection& c);
    verdict (*look)(http_connection& c);
    void (*late)(http_connection& c);
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const later_code all;  // in [65]
};
/// What only routes with a view need.
struct view_code {
    void (*answer)(http_connection& c);
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const view_code all;  // in [65]
};
/// What only servers need that have metrics of themselves.
struct self_metrics_code {
    http_metrics* (*make)();
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const self_metrics_code all;  // in [65]
};
}  // namespace detail

// ---- TLS: a session works on memory only. The library moves the octets between it and the socket. ----

/// How a call of a session ended.
///
/// source   the functions of tls_session
enum class tls_status : std::uint8_t {
    ok,           // there was progress: see consumed and produced
    need_input,   // call feed() with more of the peer's octets, then call again
    need_output,  // call drain(), then call again
    closed,       // close_notify was received (handshake, read) or queued (shutdown)
    failed        // fatal, and stays so; drain() may still give the alert
};
/// How many octets a call consumed and produced.
///
/// unit     octets
struct tls_io {
    tls_status status = tls_status::failed;  // how the call ended
    std::size_t consumed = 0;           // octets taken from the span
    std::size_t produced = 0;           // octets written to the span
};
/// The peer of a TLS connection, and how the connection is protected.
///
/// lifetime copied; filled after the handshake
struct tls_peer {
    std::string protocol;     // "TLSv1.3"
    std::string cipher;       // as the TLS library names it
    std::string alpn;         // "" or "http/1.1"
    std::string subject;      // of the verified certificate, RFC 4514; "" without one
    std::string fingerprint;  // SHA-256 of the certificate, lower-case hex; "" without one
    bool verified = false;    // whether its certificate was verified
};

/// One TLS connection over memory buffers, written by the user or copied from examples/.
///
/// shape    both directions are bounded: feed() takes what it has room for; write() (and read(), if it has to send much)
///          returns need_output instead of queueing more than about 64 kB
/// threads  one at a time
/// errors   after failed every call fails; read() returns `closed` only for a received close_notify
class tls_session {
public:
    PROMETHEUS_ASYNC_DECL virtual ~tls_session() = default;
    virtual tls_io feed(std::span<const char> from_peer) noexcept = 0;  // octets received from the network
    virtual tls_io drain(std::span<char> to_peer) noexcept = 0;         // octets to send to the network; produced == 0: nothing pending
    virtual tls_status handshake() noexcept = 0;                        // ok, need_input, need_output, closed, failed
    virtual tls_io read(std::span<char> plain) noexcept = 0;            // decrypted octets from the peer
    virtual tls_io write(std::span<const char> plain) noexcept = 0;     // octets to encrypt for the peer
    virtual tls_status shutdown() noexcept = 0;                         // queues close_notify; idempotent
    PROMETHEUS_ASYNC_DECL virtual tls_peer peer() const { return {}; }           // called after the handshake
    PROMETHEUS_ASYNC_DECL virtual std::string last_error() const { return {}; }  // why it has failed, for an event

private:
    friend struct detail::over_tls;
    // What the library does with std::string. It is virtual, so only programs that make a session are linked with it; and
    // inline already here, or g++ takes it for the key function and makes the code of all of them in each file.
    PROMETHEUS_ASYNC_DECL inline virtual detail::kept_peer* keep_peer() const;
    PROMETHEUS_ASYNC_DECL virtual std::size_t copy_error(std::span<char> into) const { return last_error().copy(into.data(), into.size()); }
};

namespace detail {
/// The result of tls_session::peer(), as long as its connection.
struct PROMETHEUS_ASYNC_LOCAL kept_peer : allocated {
    explicit kept_peer(const tls_session& of) : is(of.peer()) {}
    virtual ~kept_peer() = default;
    tls_peer is;
};
}  // namespace detail
inline detail::kept_peer* tls_session::keep_peer() const { return new detail::kept_peer(*this); }

/// Makes sessions. A server calls `open` for each accepted connection, with an empty verify_name; a client calls it
/// with the host that the certificate MUST be verified against. To reload a certificate, return
/// sessions with the new one from then on; running sessions keep the old one.
///
/// lifetime the context outlives the servers and clients that use it
/// threads  open is called on the loop's thread; if several loops share a context, on several threads
/// errors   an empty result refuses the connection
struct tls_config {
    detail::value_with<owned<tls_session> (*)(void* context, std::string_view verify_name) noexcept, detail::tls_code> open{};  // makes a session
    void* context = nullptr;  // given to open
    PROMETHEUS_ASYNC_DECL constexpr explicit operator bool() const noexcept { return open != nullptr; }
};

// ---- authorisation ----

/// A user and password, or a token, that is accepted. Compared in constant time; never printed.
///
/// lifetime a view: the texts must live until the start has been awaited
/// errors   the start fails with invalid_option if the secret is empty, is longer than 512 octets, or if the user has a colon
struct credential {
    enum class scheme : std::uint8_t { basic, bearer };
    scheme kind;                        // basic or bearer
    std::string_view user;              // of basic; without a colon
    std::string_view secret;            // the password, or the token
};
/// A user and a password, for server_options::credentials.
///
/// lifetime the texts must live until the start has been awaited
/// errors   none here: see credential
PROMETHEUS_ASYNC_DECL constexpr credential basic(std::string_view user, std::string_view password) noexcept {
    return {credential::scheme::basic, user, password};
}
/// A token, sent as `Authorization: Bearer ...`.
///
/// lifetime the text must live until the start has been awaited
/// errors   none here: see credential
PROMETHEUS_ASYNC_DECL constexpr credential bearer(std::string_view token) noexcept { return {credential::scheme::bearer, {}, token}; }

/// The request that an authorisation callback decides on.
///
/// lifetime valid until the decision
struct authorization_request {
    std::string_view method;         // "GET", ...
    std::string_view path;           // without the query
    std::string_view authorization;  // the field's value; empty without one
    const tls_peer* peer;            // null on a plain connection
    event_loop* loop = nullptr;      // the server's: post() to it from another thread
    std::uint64_t from = 0;          // the origin, as a number: equal for one IPv4 address, for one /64 of IPv6, and for all unix sockets
    bool* busy = nullptr;            // set it to true when no decision is possible now: the answer is then 503 with Retry-After,
                                     // whatever is returned, and does not count as refused. Null only outside of a server
};
/// Decides on requests: set one of the two functions. Neither may end the server that calls it (post() that). `later` may wait,
/// also for another thread, but must be resumed on the loop's thread. False is answered with 401: the first ten in a second at
/// once, the others after a second. At most 32 answers wait; for one more, a connection of the address with most of them is closed.
///
/// lifetime the context outlives the server. `later` is destroyed where it is suspended when its client has closed its side, or
///          has waited for server_limits::response; the connection then ends
/// threads  called on the loop's thread
/// errors   an exception is reported to on_event (callback_failed) without its text, and the answer is 500
struct authorizer {
    detail::value_with<bool (*)(const authorization_request&, void* context), detail::decision_code> now{};     // true: the request is allowed
    detail::value_with<task<bool> (*)(const authorization_request&, void* context), detail::later_code> later{};  // the same, as a coroutine
    void* context = nullptr;                                                                                         // given to them
    PROMETHEUS_ASYNC_DECL constexpr explicit operator bool() const noexcept { return now != nullptr || later != nullptr; }
};

// ---- options ----

/// A check that is called for each request of its route: set one of the two functions. Success is answered with
/// 200 and "ok", an error with 503 and its text (describe(): one line of at most 119 octets). Neither may end the server
/// that calls it (post() that).
///
/// lifetime `later` is destroyed where it is suspended when its client has closed its side, or after server_limits::response;
///          the answer is then 503 "the check has not ended in time". For a shorter time use within()
/// threads  called on the loop's thread; `later` may wait, also for another thread, but must be resumed on the loop's thread
/// errors   an exception is reported to on_event (callback_failed, with the route's path), and the answer is 503 without its
///          text. A check that has not ended in time is reported likewise
struct health_check {
    detail::value_with<result<void> (*)(void* context), detail::decision_code> now{};       // success, or the reason of the failure
    detail::value_with<task<result<void>> (*)(void* context), detail::later_code> later{};  // the same, as a coroutine
    void* context = nullptr;                                                                   // given to them
    PROMETHEUS_ASYNC_DECL constexpr explicit operator bool() const noexcept { return now != nullptr || later != nullptr; }
};

namespace detail {
class page_view;
}
/// For route::view: shows the registries of the route as HTML, for people. It shows each family with its type, unit, help,
/// number of series, and the current values of the first hundred (a histogram is drawn); a form that filters by name; links to
/// the other routes, and to the page in each format; and what was left out of the page, and why.
///
/// shape    no script, and nothing from other hosts: its Content-Security-Policy forbids both. Nothing of a request is
///          shown. It is made piece by piece, so a million series need no more memory
/// threads  the server calls it, on its loop's thread; a program only names it
/// errors   as a page of metrics, but a collector that fails is always left out, whatever server_options::on_collector_error is
PROMETHEUS_ASYNC_DECL detail::page_view* landing_page();

/// A path and what is served there: one or several registries merged on one page, a text, or the result of a check.
///
/// lifetime texts and lists must live until the start has been awaited; registries, and what a check uses, outlive the server
/// errors   the start fails with invalid_option for a path that does not begin with a slash, and for a route that serves two things
struct route {
    std::string_view path;             // of the request, compared as a whole; the first route that matches is used
    detail::list_with<registry*, detail::sharing_code> registries{};      // empty, with no text and no check: the default registry
    std::string_view text{};           // served as it is, never compressed
    std::string_view content_type = "text/plain; charset=utf-8";  // of the text
    health_check check{};              // whether the program is alive, or ready
    detail::value_with<detail::page_view* (*)(), detail::view_code> view{};  // landing_page: the registries as HTML. Programs that do not name it do not link its code
    bool open = false;                 // answered without authorisation and for any Host (a liveness path)
};

/// Limits for clients. Exceeding one gives the HTTP status, or the end of the connection, that its comment names.
///
/// unit     octets, counts, and seconds
struct server_limits {
    std::size_t request_line = 8192;   // octets: 414
    std::size_t header_bytes = 16384;  // octets of all fields: 431
    std::size_t header_fields = 100;   // how many: 431
    std::size_t connections = 512;     // beyond it, one of the address that has most is closed: the one that is idle longest, else
                                       // the slowest reader; if the new one is of that address and none is slow: 503
    std::size_t answers = 128;         // that are being sent; beyond it, the slowest reader is closed
    std::size_t requests_per_connection = 10000;  // the last answer says close
    std::size_t handshakes = 64;       // in progress; beyond it, the one that is silent longest is closed
    std::size_t names = 256;           // values of name[]: 400
    seconds header = 5;                // first octet (or accept) to the end of the header section: 408
    seconds handshake = 5;             // closed
    seconds idle = 75;                 // between two requests: closed
    seconds stall = 10;                // the client reads nothing: reset
    seconds response = 60;             // from the head of the request until the client has read the last octet: reset
    std::size_t reader_rate = 10000;   // octets per second that a client must read, after the first `stall` seconds: reset. 0: any
    seconds lingering = 1;             // how long a connection may stay open after its last answer
    int backlog = 511;                 // of listen(2)
    std::size_t answer_bytes = 16384;  // 2048 to 65536: the buffer of an answer, which is sent in pieces of this size
    std::size_t long_answers = 16;     // so many answers at once have a buffer of 64 KiB more, for pages that are longer than answer_bytes
};

namespace detail {
struct server_state;
/// What only servers need that are given an address: the addresses of a name, and unix sockets.
struct address_code {
    result<void> (*listen)(server_state& server);
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const address_code all;  // in [67]
};
/// What only servers need that are given routes, a list of hosts, or a socket.
struct routes_code {
    void (*take)(server_state& server, list<route> from);
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const routes_code all;  // in [67]
};
struct hosts_code {
    void (*take)(server_state& server, list<std::string_view> from);
    bool (*allows)(const http_service& server, std::string_view host);
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const hosts_code all;  // in [67]
};
struct handed_in_code {
    static constexpr int unset = -1;
    void (*take)(server_state& server, int fd);
    result<void> (*listen)(server_state& server);
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const handed_in_code all;  // in [67]
};
/// server_options::addr: a text, and the code above if one is given.
class server_address : public std::string_view {
public:
    PROMETHEUS_ASYNC_DECL constexpr server_address() noexcept : code_(nullptr) {}
    PROMETHEUS_ASYNC_DECL constexpr server_address(const char* at, std::size_t n) noexcept : std::string_view(at, n) {}
    template <class Text>
        requires(!std::same_as<Text, server_address> && std::convertible_to<const Text&, std::string_view>)
    PROMETHEUS_ASYNC_DECL constexpr server_address(const Text& text) noexcept : std::string_view(text) {}
    void swap(std::string_view&) = delete;
    PROMETHEUS_ASYNC_DECL constexpr const address_code* code() const noexcept { return code_; }

private:
    const address_code* code_ = &address_code::all;
};
}  // namespace detail

/// How a server is started.
///
/// unit     seconds and octets
/// lifetime copied; lists and texts must live until the start has been awaited. service_discovery, tls, authorizer and
///          context, and the registries of routes and what their checks use, outlive the server. Set them in the object (program
///          or plugin) that starts the server: some bring the code of the object that sets them
/// threads  on_event, authorizer and checks are called on the loop's thread; on_event may end the server
struct server_options {
    detail::server_address addr{};     // "": ALL interfaces, as upstream; "localhost": this host only; an address, "unix:/path",
                                       // "unix:@name", or a host name (looked up by the system, which blocks the loop)
    std::uint16_t port = 0;            // 0: the system chooses
    detail::value_with<int, detail::handed_in_code> listen_fd{};  // -1: none; a listening socket from outside (systemd); the server then owns it, also if the start
                                       // fails. A descriptor that is no such socket is left as it is
    std::string_view advertise{};      // the host in url() and for discovery, when addr is a wildcard or link-local
    prometheus_async::service_discovery* service_discovery = nullptr;  // null: none
    tls_config tls{};                  // empty: plain HTTP
    detail::list_with<credential, detail::decision_code> credentials{};  // one of them, or the authorizer, must accept; without both, every request is allowed
    prometheus_async::authorizer authorizer{};  // called when no credential matches
    detail::list_with<route, detail::routes_code> routes{};  // empty: "/" the link page, "/metrics" the default registry
    detail::list_with<std::string_view, detail::hosts_code> allowed_hosts{};  // any port, upper or lower case, with or without a dot at the end; others: 421. Empty: any host, which allows DNS rebinding
    server_limits limits{};            // for clients
    collector_errors on_collector_error = collector_errors::skip;  // fail: 500, or a reset once the page has begun
    detail::value_with<created_series, detail::created_code> created{};  // off: no _created lines
    list<format> formats{};            // empty: all, as the client asks; text 0.0.4 is always offered
    bool native_histograms = true;     // false: no native buckets, for a Prometheus that asks for protobuf and does not store
                                       // them: 2.42 then refuses the page, 2.53 stores zeros, 3.5 stores nothing of the histogram
    bool start_timestamps = true;      // false: protobuf and OpenMetrics 2.0 do not show when a series was created, for a Prometheus
                                       // that makes zeros of it: 2.53 adds zeros that are not histograms to a native histogram's series
    bool gzip = true;                  // pages of 1500 octets or more are compressed if the client accepts that, with 64 KiB for
                                       // each answer that is being sent. Set it to false where label values that strangers choose and
                                       // secrets are on one page: the length of a compressed page depends on both, also over TLS
    detail::value_with<bool, detail::self_metrics_code> self_metrics = false;  // prometheus_async_http_*, in the default registry: requests by code and format,
                                       // duration, octets, in flight, series, collector errors, events
    bool process_start_header = false; // Process-Start-Time-Unix on every page
    event_handler on_event = nullptr;  // called with each event: event_kind
    void* context = nullptr;           // given to on_event
};

namespace detail {
struct server_state;
}

/// A running server. Closing is idempotent and always closes the socket, whatever de-registration does.
///
/// lifetime the destructor closes the socket and connections at once; de-registration becomes closing work
///          of the loop. A loop that ends first closes the server
/// threads  the loop's; is_registered() any
class metrics_http_server {
public:
    PROMETHEUS_ASYNC_DECL metrics_http_server() noexcept = default;
    PROMETHEUS_ASYNC_DECL metrics_http_server(metrics_http_server&& other) noexcept : state_(detail::exchanged(other.state_, nullptr)) {}
    PROMETHEUS_ASYNC_DECL metrics_http_server& operator=(metrics_http_server&& other) noexcept;
    PROMETHEUS_ASYNC_DECL ~metrics_http_server();

    PROMETHEUS_ASYNC_DECL std::string_view address() const noexcept;   // that it is bound to: "0.0.0.0", "::", "/path"
    PROMETHEUS_ASYNC_DECL std::uint16_t port() const noexcept;         // that it is bound to; 0 for a unix socket
    PROMETHEUS_ASYNC_DECL bool https() const noexcept;                 // whether url() begins with https
    PROMETHEUS_ASYNC_DECL void https(bool on) noexcept;  // for a server behind a TLS proxy: changes url(), as upstream
    /// "http://127.0.0.1:9464/", also when the server listens on all interfaces; `advertise` gives another host. Valid
    /// until https() is called or the server ends.
    PROMETHEUS_ASYNC_DECL zstring_view url() const noexcept;
    PROMETHEUS_ASYNC_DECL std::string_view advertise() const noexcept;  // as given in the options
    PROMETHEUS_ASYNC_DECL bool is_registered() const noexcept;         // by service_discovery, as far as is known now
    /// De-registers (within the loop's closing budget), then closes. Returns the result of the de-registration.
    PROMETHEUS_ASYNC_DECL task<result<void>> close();

private:
    friend struct detail::server_state;
    PROMETHEUS_ASYNC_DECL explicit metrics_http_server(detail::server_state* state) noexcept : state_(state) {}
    detail::server_state* state_ = nullptr;
};

/// Listens, registers, and returns the running server. It copies the options before it returns the task.
///
/// lifetime the loop outlives the task
/// threads  the loop's
/// errors   system: "cannot listen on 0.0.0.0:9464: Address already in use"; invalid_option; the error of
///          the registration. Nothing is left open
PROMETHEUS_ASYNC_DECL task<result<metrics_http_server>> start_http_server(event_loop& loop, const server_options& options);

#if !PROMETHEUS_ASYNC_NO_THREADS
/// A server with its own loop and its own thread ("PromAsyncWeb").
///
/// lifetime the destructor closes, as close()
/// threads  any; close() waits for the thread, and may be called twice. In a forked child, close() and the destructor close
///          the child's descriptors, and change nothing in the parent: neither its connections nor its registration
class threaded_metrics_http_server {
public:
    PROMETHEUS_ASYNC_DECL threaded_metrics_http_server() noexcept = default;
    PROMETHEUS_ASYNC_DECL threaded_metrics_http_server(threaded_metrics_http_server&& other) noexcept
        : state_(detail::exchanged(other.state_, nullptr)) {}
    PROMETHEUS_ASYNC_DECL threaded_metrics_http_server& operator=(threaded_metrics_http_server&& other) noexcept;
    PROMETHEUS_ASYNC_DECL ~threaded_metrics_http_server();

    PROMETHEUS_ASYNC_DECL std::string_view address() const noexcept;  // as in metrics_http_server, also those below
    PROMETHEUS_ASYNC_DECL std::uint16_t port() const noexcept;
    PROMETHEUS_ASYNC_DECL bool https() const noexcept;
    PROMETHEUS_ASYNC_DECL zstring_view url() const noexcept;
    PROMETHEUS_ASYNC_DECL bool is_registered() const noexcept;
    /// De-registers, closes, and waits for the thread. Returns the result of the de-registration.
    PROMETHEUS_ASYNC_DECL result<void> close();

    struct state;

private:
    friend PROMETHEUS_ASYNC_DECL result<threaded_metrics_http_server> start_http_server_in_thread(const server_options&);
    state* state_ = nullptr;
};

/// Starts a server with its own loop and thread. Returns when it listens (and is registered), or has failed to start.
///
/// threads  any; the calling thread waits
/// errors   as start_http_server
PROMETHEUS_ASYNC_DECL result<threaded_metrics_http_server> start_http_server_in_thread(const server_options& options);
#endif

PROMETHEUS_ASYNC_END

// =============================================================================
// [37] textfile                                     a page in a file, for node_exporter
//      needs [26] [34]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN

/// Which file is written, when, and what it shows.
///
/// unit     seconds
/// lifetime copied by textfile; lists and texts live until then
struct textfile_options {
    std::string_view path;         // ends in ".prom": node_exporter reads no other files
    detail::list_with<registry*, detail::sharing_code> registries{};  // several as one page. Empty: the default registry
    list<std::string_view> only{}; // by family or sample name; empty: everything
    collector_errors on_collector_error = collector_errors::skip;  // fail: write() fails, the file stays as it was
    bool keep_file = false;        // the destructor does not remove the file: for a batch job, whose last values must stay
    seconds interval = 0;          // above 0: a thread of its own writes the file at once, and then at this interval;
                                   // with keep_file also at the end
    registry* self_metrics = nullptr;      // of prometheus_async_textfile_*{path}; null: there are none
    event_handler on_event = nullptr;      // textfile_failed, and events of pages; called on the thread that writes, during the write
    void* context = nullptr;               // given to on_event
};
static_assert(std::is_trivially_destructible_v<textfile_options>);

namespace detail {
struct textfile_state;
}

/// Writes a page to a file for the textfile collector of node_exporter. For a batch job: once, at its end, with keep_file. For a
/// long-running program that cannot be scraped: with interval.
///
/// Each write makes a new file of mode 0644 in the same directory, and renames it. So node_exporter, which runs as another
/// user, always reads a complete page: the new or the previous one. The page is text 0.0.4, written piece by piece.
///
/// If several files have the same family, they must have the same HELP and TYPE for it: node_exporter drops the series of the
/// second file, without an error, if only one has a HELP. Their series must differ in a label.
///
/// lifetime copies the options; the registries outlive it. The destructor waits for a running write, and removes
///          the file, unless keep_file is set, another process has replaced it, or this process was forked since it was written.
///          If on_event or a collector destroys it, the page is abandoned, and the write that called them cleans up
/// threads  one at a time, also with interval; why() any. Collectors are called on the thread that writes. Each file
///          needs its own object
/// errors   invalid_option for the path, also where it is a directory, a FIFO, a socket or a device, and where on_event or a
///          collector writes or removes the file that is being written;
///          system when the file cannot be written, or its thread cannot be started; canceled if a collector failed that
///          must not, and in a forked child whose parent has the thread; unsupported for a sample with a timestamp, because
///          node_exporter would refuse the whole file, and, without threads, for interval. The previous file stays
class textfile {
public:
    PROMETHEUS_ASYNC_DECL explicit textfile(const textfile_options& options);
    textfile(const textfile&) = delete;
    textfile& operator=(const textfile&) = delete;
    PROMETHEUS_ASYNC_DECL ~textfile();

    /// Blocks until the file is on the disk.
    PROMETHEUS_ASYNC_DECL result<void> write();
    /// The same on the textfile's own thread, without blocking the loop. Without threads: unsupported.
    PROMETHEUS_ASYNC_DECL task<result<void>> write(event_loop& loop);
    /// Removes the file if this object wrote it, even with keep_file. No file, or one that another process wrote: success.
    PROMETHEUS_ASYNC_DECL result<void> remove();
    /// Why the newest page could not be written; empty after a success.
    PROMETHEUS_ASYNC_DECL std::string why() const;

private:
    detail::textfile_state* state_;
};

PROMETHEUS_ASYNC_END

// =============================================================================
// [38] discovery                                    service_discovery, consul_agent, file_sd
//      needs [36]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN

/// How a registered server is de-registered. Both functions own copies of all that they use.
///
/// lifetime exists until the task that deregister returned has ended (which may be the coroutine of a lambda)
/// errors   an error of deregister is the result of the server's close(); the server closes anyway
struct registration {
    callback<task<result<void>>()> deregister;  // empty: nothing was registered, is_registered() is false
    callback<bool()> registered;                // empty: true as long as there is a deregister; called by any thread
};

namespace detail {
struct server_state;
struct registering;
PROMETHEUS_ASYNC_DETAIL_ON_DEMAND extern const registering with_discovery;
}  // namespace detail

/// Publishes the address of a server. Derive your own; consul_agent and file_sd are in this library.
///
/// lifetime outlives the start of the servers that it is given to
/// threads  the coroutine runs on the server's loop, and must not block it
/// errors   with an error result the server does not start, and nothing is left open
class service_discovery {
public:
    /// Called when the server listens; its start waits for the result.
    virtual task<result<registration>> register_server(event_loop& loop, const metrics_http_server& server) = 0;

protected:
    PROMETHEUS_ASYNC_DECL service_discovery() = default;
    PROMETHEUS_ASYNC_DECL ~service_discovery() = default;
    const detail::registering* work_ = &detail::with_discovery;  // so that a program without a discovery does not link that code
};

#if !PROMETHEUS_ASYNC_NO_DISCOVERY
/// How Consul checks whether a server is alive.
///
/// source   consul_options::check
enum class consul_check : std::uint8_t {
    automatic,  // http if it will pass; ttl if it cannot pass, or may not: with credentials, for a server without
                // check_path, over TLS unless tls_skip_verify is set
    http,       // the agent requests check_path every interval; refused if it could never pass
    ttl,        // the server reports to the agent, at least three times per ttl
    none
};
/// What the start of a server does when its registration fails.
///
/// source   consul_options::on_failure
enum class on_failure : std::uint8_t {
    retry,  // the start returns when registered, or after 0.5 s; the watchdog tries again, unless the agent answered that
            // the request is invalid
    wait,   // the start returns when registered, or fails after `deadline`; the last try is shortly before that
    fail    // the start fails
};

/// How servers are registered, and at which agent.
///
/// unit     seconds
/// lifetime copied by consul_agent
struct consul_options {
    std::string_view name = "app-metrics";  // of the service
    std::string_view service_id{};         // empty: the name. Each server of one agent needs its own
    list<std::string_view> tags{};         // of the service
    std::string_view token{};              // empty: CONSUL_HTTP_TOKEN_FILE (a regular file, read again after a 403), CONSUL_HTTP_TOKEN
    bool deregister = true;                // false: the service outlives the server
    std::string_view agent{};              // "host:8500", "https://host", "unix:///path"; empty: CONSUL_HTTP_ADDR,
                                           // then 127.0.0.1:8500. CONSUL_HTTP_SSL=true makes any of them https
    list<label> meta{};                    // of the service, for example {"version", "1.2"}
    consul_check check = consul_check::automatic;  // how Consul checks whether the server is alive
    std::string_view check_path = "/";     // of the HTTP check; a query may follow
    list<label> check_headers{};           // of the HTTP check, for example {"Authorization", "Basic ..."}: the agent stores them.
                                           // Host is added when the server has allowed_hosts
    seconds interval = 10;                 // of the HTTP check
    seconds timeout = 0;                   // of the HTTP check; 0: the agent's default, 10 s
    seconds ttl = 30;                      // of the TTL check
    bool tls_skip_verify = false;          // the HTTP check does not verify the certificate of the server
    seconds deregister_critical_after = 0; // the agent removes a service that is critical for so long; 0: never, else >= 60
    std::string_view status{};             // until the first check: "passing", ...; empty: critical
    std::string_view advertise{};          // the host to register; empty: the server's own, see consul_agent
    std::string_view in_namespace{};       // Consul Enterprise, empty: CONSUL_NAMESPACE; open-source agents refuse it
    prometheus_async::on_failure on_failure = prometheus_async::on_failure::retry;  // of the start when registration fails
    seconds deadline = 60;                 // of on_failure::wait
    seconds budget = 2;                    // of de-registration; the loop's closing_budget bounds it too
    seconds watch = 10;                    // the agent is asked at this interval, or up to twice as often, whether it still has the registration
    tls_config tls{};                      // for an https agent
    registry* metrics = nullptr;           // of prometheus_async_consul_*{id}; null: the default
    event_handler on_event = nullptr;      // registration_failed, _lost, deregistration_failed
    void* context = nullptr;               // given to on_event
};

static_assert(std::is_trivially_destructible_v<consul_options>);

namespace detail {
struct consul_settings;
struct file_sd_settings;
}  // namespace detail

/// Registers servers in a Consul agent, registers them again when the agent restarts
/// or loses them, and de-registers them when they close.
///
/// If a server listens on a wildcard address: with an agent on this host it is registered without an address
/// (Consul then uses the node's) and checked on loopback; with an agent on another host, under the local address of
/// the connection to it. `advertise`, here or in server_options, overrides both. A server on loopback with
/// an agent on another host needs consul_options::advertise.
///
/// If the agent has another port or address for the id, another program has taken it. That is reported as an event, and
/// the id is not de-registered; when the agent no longer has it, it is registered again. The consul_agents of one
/// loop share at most 16 connections to an agent (which accepts 200 from a host), kept open for a second.
///
/// The environment is read as by Consul's own tools: CONSUL_HTTP_ADDR, CONSUL_HTTP_SSL, CONSUL_HTTP_TOKEN,
/// CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_AUTH, CONSUL_NAMESPACE. The variables with certificates are not read: set `tls`.
///
/// clock    the loop's: 3 s to connect to each address, 10 s for the first octet, 15 s for a request;
///          the watchdog's pauses after a failure grow from 1 s to 60 s, with jitter
/// lifetime copies the options and reads the environment when it is made; may be destroyed before the servers
/// threads  servers on several loops may share one
/// errors   invalid_option, before anything is sent, for options that cannot work: an id that Consul could never
///          de-register or that another server of this process has, a token that is not a valid field value, https
///          without `tls`, an HTTP check that could never pass. For other errors see on_failure
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

/// Where the target file is, and what it has besides the address.
///
/// lifetime copied by file_sd
struct file_sd_options {
    std::string_view path;         // ends in ".json": Prometheus reads JSON only from such files
    list<label> labels{};          // of the target, also __metrics_path__ and similar ones
    std::string_view advertise{};  // the host of the target; empty: that of the server's url()
    bool keep_file = false;        // de-registration leaves an empty list instead of no file
};

static_assert(std::is_trivially_destructible_v<file_sd_options>);

/// Writes a target file for Prometheus' file_sd_configs: one server, one file, replaced atomically.
///
/// lifetime copies the options; may be destroyed before the servers
/// threads  servers on several loops may share one only if they have files of their own
/// errors   invalid_option for the path, also where it is a directory, a FIFO, a socket or a device, and for labels that
///          Prometheus would refuse with the file; system when the file cannot be written
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
#endif

PROMETHEUS_ASYNC_END

// =============================================================================
// [39] push                                         pushgateway: for jobs that end before they are scraped
//      needs [36]
// =============================================================================
#if !PROMETHEUS_ASYNC_NO_DISCOVERY
PROMETHEUS_ASYNC_BEGIN

namespace detail {
class PROMETHEUS_ASYNC_LOCAL push_check;
/// What only programs need that push protobuf.
struct push_code {
    bool (*rewrite)(push_check& by, string& page);
    PROMETHEUS_ASYNC_DETAIL_ON_DEMAND static const push_code all;  // in [69]
};
/// push_options::as: a format, and the code above and that of the format if it is protobuf.
class pushed_format {
public:
    PROMETHEUS_ASYNC_DECL constexpr pushed_format(format which) noexcept
        : page_(which), code_(which == format::protobuf ? &push_code::all : nullptr) {}
    PROMETHEUS_ASYNC_DECL constexpr operator format() const noexcept { return page_; }
    PROMETHEUS_ASYNC_DECL constexpr const chosen_format& page() const noexcept { return page_; }
    PROMETHEUS_ASYNC_DECL constexpr const push_code* code() const noexcept { return code_; }

private:
    chosen_format page_;
    const push_code* code_;
};
}  // namespace detail

/// Which group is pushed, to which gateway, and what it contains.
///
/// unit     seconds
/// lifetime copied by pushgateway; lists and texts must live until then
struct push_options {
    std::string_view gateway{};            // "host:9091", "http://host:9091/prefix", "https://host", "unix:///path";
                                           // empty: 127.0.0.1:9091
    std::string_view job{};                // of the group: any UTF-8, not empty
    list<label> grouping{};                // its other labels, for example {"instance", "host1"}: any UTF-8, also empty
    detail::list_with<registry*, detail::sharing_code> registries{};          // what is pushed; several are merged. Empty: the default registry
    list<std::string_view> only{};         // of these, by family or sample name; empty: everything
    detail::pushed_format as = format::text_0_0_4;  // or protobuf, which needs the whole page in memory; see pushgateway
    prometheus_async::credential credential{};  // basic(user, password) or bearer(token)
    tls_config tls{};                      // for an https gateway
    bool gzip = false;                     // with PROMETHEUS_ASYNC_NO_GZIP=0: pages of 1500 octets or more are compressed
    seconds timeout = 10;                  // of one request, including name look-up and connecting
    unsigned tries = 3;                    // of one push or removal: it is tried again without an answer, or after 408, 429 or 5xx
    seconds interval = 0;                  // above 0: pushes automatically at this interval, until close()
    bool push_at_end = true;               // close() pushes once more
    bool remove_at_end = false;            // close() then removes the group; so does the destructor, without pushing
    seconds remove_after = 0;              // the time between the two, in which Prometheus scrapes the last page
    collector_errors on_collector_error = collector_errors::skip;  // fail: the page is not pushed
    registry* self_metrics = nullptr;      // of prometheus_async_push_*{path}; null: there are none
    event_handler on_event = nullptr;      // push_failed, credentials_in_clear, and events of pages
    void* context = nullptr;               // given to on_event
};

static_assert(std::is_trivially_destructible_v<push_options>);

namespace detail {
struct push_member;
}

/// Pushes metrics to a Pushgateway, as text 0.0.4 or protobuf: one group, identified by its job and grouping labels.
///
/// In both formats names are escaped with underscores, because older gateways accept no others. Protobuf also has native
/// histograms, exemplars and start timestamps. The gateways pass these on when they are scraped by protobuf, as Prometheus does
/// when it collects native histograms; their text pages show the classic buckets, and of a native histogram +Inf, sum and count
/// (seen with 1.5.1 and 1.11.2). Both formats push gauge histograms as histograms: the page of an older gateway would end at one.
///
/// The gateway keeps a group until it is removed, even for years, and Prometheus must scrape it with
/// honor_labels: true. It is for jobs that end before they could be scraped; scrape long-running programs instead.
///
/// shape    push() replaces the group (PUT), push_add() replaces the families of the same names in it (POST: also series with
///          other labels), remove() removes the whole group (DELETE). Calls run one after the other, in order
/// clock    the loop's: the pauses between tries are 1 s, 2 s, ... 60 s, with jitter, or as Retry-After asks, at
///          most 60 s; the pauses of `interval` have 5 % of jitter
/// lifetime copies the options; the registries outlive it. The destructor cancels running pushes; with remove_at_end, the
///          removal becomes closing work of the loop. The tasks may outlive the object, but not the loop
/// threads  the loop's
/// errors   invalid_option, before anything is sent, for what every gateway refuses, would change, or what would harm its
///          other users: a group's value that is not UTF-8; a series with the label job or a grouping label, with a
///          timestamp, or called push_time_seconds (the text begins with metric and label).
///          refused: the gateway's status and message. timeout, system, tls, protocol: no try got an answer.
///          Each try makes a new page, so that the newest data is pushed. Redirects are not followed
class pushgateway {
public:
    PROMETHEUS_ASYNC_DECL pushgateway(event_loop& loop, const push_options& options);
    pushgateway(const pushgateway&) = delete;
    pushgateway& operator=(const pushgateway&) = delete;
    PROMETHEUS_ASYNC_DECL ~pushgateway();

    PROMETHEUS_ASYNC_DECL task<result<void>> push();
    PROMETHEUS_ASYNC_DECL task<result<void>> push_add();
    PROMETHEUS_ASYNC_DECL task<result<void>> remove();
    /// Ends the pushes of `interval`, then pushes and removes as push_at_end and remove_at_end say. A second call does nothing.
    PROMETHEUS_ASYNC_DECL task<result<void>> close();

    /// Why the newest page is not at the gateway, and what an operator should do; empty after a success. It has no secrets.
    PROMETHEUS_ASYNC_DECL std::string why() const;

private:
    detail::push_member* member_;
};

/// Replaces the group, as pushgateway::push(), for programs without a loop.
///
/// clock    returns when it has ended, after at most push_options::tries requests and their pauses
/// threads  any; the calling thread waits
/// errors   as pushgateway
PROMETHEUS_ASYNC_DECL result<void> push_to_gateway(const push_options& options);
/// Replaces the families of the same names in the group, as pushgateway::push_add(), for programs without a loop.
///
/// threads  as push_to_gateway
/// errors   as pushgateway
PROMETHEUS_ASYNC_DECL result<void> push_add_to_gateway(const push_options& options);
/// Removes the whole group, as pushgateway::remove(), for programs without a loop.
///
/// threads  as push_to_gateway
/// errors   as pushgateway
PROMETHEUS_ASYNC_DECL result<void> remove_from_gateway(const push_options& options);

PROMETHEUS_ASYNC_END
#endif
#endif  // rooms [34] to [39]

#endif  // rooms [10] to [39], PROMETHEUS_ASYNC_HPP

// #############################################################################
// implementation
// #############################################################################
#if defined(PROMETHEUS_ASYNC_IMPLEMENTATION) && !defined(PROMETHEUS_ASYNC_IMPLEMENTED)  // rooms [40] to [88]
#define PROMETHEUS_ASYNC_IMPLEMENTED  // rooms [40] to [88]

// In this half nothing is exported but what the interface marks: LOCAL is for types that it names first.
// (The attribute ends with the namespace: the system's headers are outside of it.)
#undef PROMETHEUS_ASYNC_BEGIN
#undef PROMETHEUS_ASYNC_BEGIN_FAST
#undef PROMETHEUS_ASYNC_END
#if defined(__clang__) && defined(__OPTIMIZE_SIZE__)
// With -Os clang still makes code larger to make it faster. This half is made as small as with -Oz, except where each sample of
// a page is written, and compressed (FAST). An update, in the other half, costs the same; a page costs 6 % more than without this.
#define PROMETHEUS_ASYNC_DETAIL_FAST _Pragma("clang attribute push")
#define PROMETHEUS_ASYNC_DETAIL_SMALL _Pragma("clang attribute push(__attribute__((__minsize__)), apply_to = function)")
#define PROMETHEUS_ASYNC_END } } _Pragma("clang attribute pop")
#else
#define PROMETHEUS_ASYNC_DETAIL_FAST
#define PROMETHEUS_ASYNC_DETAIL_SMALL
#define PROMETHEUS_ASYNC_END } }
#endif
#define PROMETHEUS_ASYNC_DETAIL_OPEN namespace prometheus_async { inline namespace PROMETHEUS_ASYNC_DETAIL_ABI PROMETHEUS_ASYNC_LOCAL {
#define PROMETHEUS_ASYNC_BEGIN PROMETHEUS_ASYNC_DETAIL_SMALL PROMETHEUS_ASYNC_DETAIL_OPEN
#define PROMETHEUS_ASYNC_BEGIN_FAST PROMETHEUS_ASYNC_DETAIL_FAST PROMETHEUS_ASYNC_DETAIL_OPEN

// =============================================================================
// [40] platform                                     memory, texts, system calls, fd, clock, errno
//      needs [14]
// =============================================================================
#include <cerrno>
#include <cstdio>  // the message of a broken contract
#include <ctime>
#if !PROMETHEUS_ASYNC_NO_THREADS
#include <pthread.h>
#endif
#include <sys/mman.h>
#include <unistd.h>
#if PROMETHEUS_ASYNC_DETAIL_LINUX
#include <sys/auxv.h>  // not there? Define PROMETHEUS_ASYNC_SMALL_LIBC as 1
#include <sys/random.h>  // not there? Define PROMETHEUS_ASYNC_SMALL_LIBC as 1
#elif defined(__linux__)
#include <fcntl.h>
#endif

// Every system call from here on is a function of the namespace sys. Tests replace this namespace by one whose
// functions can fail.
#ifndef PROMETHEUS_ASYNC_DETAIL_SYS
#define PROMETHEUS_ASYNC_DETAIL_SYS
#endif

PROMETHEUS_ASYNC_BEGIN

const char* version() noexcept { return PROMETHEUS_ASYNC_VERSION_STRING; }

namespace detail {

void define_PROMETHEUS_ASYNC_IMPLEMENTATION_in_exactly_one_source_file_or_PROMETHEUS_ASYNC_SHARED_in_all() noexcept {}

/// How many bytes of `s` fit into `room` bytes without dividing a code point.
static std::size_t whole_points(std::string_view s, std::size_t room) noexcept {
    if (s.size() <= room) return s.size();
    while (room != 0 && (static_cast<unsigned char>(s[room]) & 0xC0) == 0x80) --room;
    return room;
}

/// A whole number in decimal digits.
class digits {
public:
    explicit digits(std::uint64_t n) noexcept {
        do text_[--begin_] = static_cast<char>('0' + n % 10);
        while (n /= 10);
    }
    operator std::string_view() const noexcept { return {text_ + begin_, sizeof text_ - begin_}; }

private:
    char text_[20];
    std::uint8_t begin_ = sizeof text_;
};

// strerror is not thread-safe everywhere, and may depend on the locale.
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 32)
static const char* system_words(int sys, std::span<char>) noexcept { return ::strerrordesc_np(sys); }
#else
constexpr const char* chosen(int failed, const char* buffer) noexcept { return failed ? nullptr : buffer; }  // POSIX
constexpr const char* chosen(const char* text, const char*) noexcept { return text; }                        // GNU
static const char* system_words(int sys, std::span<char> buffer) noexcept {
    return chosen(::strerror_r(sys, buffer.data(), buffer.size()), buffer.data());
}
#endif

}  // namespace detail

error::error(errc code, std::string_view message, int sys) noexcept : code_(code), sys_(sys) {
    const std::size_t n = detail::whole_points(message, sizeof text_ - 1);
    message.copy(text_, n);
    text_[n] = 0;
    for (std::size_t i = 0; i != n; ++i) if (static_cast<unsigned char>(text_[i]) < 0x20 || text_[i] == 0x7f) text_[i] = ' ';
}

error error::from_errno(std::string_view what, int sys) noexcept {
    char buffer[80];
    const char* words = detail::system_words(sys, buffer);
    if (!words) {
        const detail::digits number(static_cast<unsigned>(sys));
        std::memcpy(buffer, "error ", 6);
        buffer[6 + std::string_view(number).copy(buffer + 6, 20)] = 0;
        words = buffer;
    }
    error made(errc::system, {}, sys);
    // A long `what` is cut, not the reason.
    const std::string_view why(words);
    const std::size_t n = detail::whole_points(what, sizeof made.text_ - 3 - why.size());
    what.copy(made.text_, n);
    std::memcpy(made.text_ + n, ": ", 2);
    std::memcpy(made.text_ + n + 2, why.data(), why.size() + 1);
    return made;
}

#ifndef PROMETHEUS_ASYNC_FATAL
#define PROMETHEUS_ASYNC_FATAL(err) \
    (std::fputs("prometheus_async: ", stderr), std::fputs((err).describe(), stderr), std::fputc('\n', stderr))
#endif

namespace detail {

void raise(const error& why) {
#if PROMETHEUS_ASYNC_EXCEPTIONS
    throw failure(why);
#else
    PROMETHEUS_ASYNC_FATAL(why);
    std::abort();
#endif
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
/// The exception that is being handled, as an error for on_event. Call it inside a catch block.
inline error caught(std::string_view where) noexcept {
    try {
        throw;
    } catch (const failure& f) {
        return f.why();
    } catch (const std::exception& e) {
        char text[120];
        std::snprintf(text, sizeof text, "%.*s threw: %s", static_cast<int>(where.size()), where.data(), e.what());
        return {errc::canceled, text};
    } catch (...) {
        char text[120];
        std::snprintf(text, sizeof text, "%.*s threw", static_cast<int>(where.size()), where.data());
        return {errc::canceled, text};
    }
}
#endif

// ---- memory ----

#if defined(PROMETHEUS_ASYNC_ALLOCATE) != defined(PROMETHEUS_ASYNC_RELEASE)
#error "prometheus_async.hpp: define both PROMETHEUS_ASYNC_ALLOCATE(bytes, alignment) and PROMETHEUS_ASYNC_RELEASE(p, bytes), or none"
#endif

/// Fails as operator new does without memory.
[[__noreturn__]] static void no_memory() {
#if PROMETHEUS_ASYNC_EXCEPTIONS
    throw std::bad_alloc();
#else
    std::abort();
#endif
}

namespace sys {
using PROMETHEUS_ASYNC_DETAIL_SYS::aligned_alloc, PROMETHEUS_ASYNC_DETAIL_SYS::mmap, PROMETHEUS_ASYNC_DETAIL_SYS::realloc;
}  // namespace sys

// All memory of the library is allocated here. give_memory frees the memory of take_memory and try_memory: objects, texts,
// frames of coroutines. give_table_memory frees that of take_table_memory, and of resize_memory, which is for tables that grow.
#if defined(PROMETHEUS_ASYNC_ALLOCATE) || !PROMETHEUS_ASYNC_EXCEPTIONS
void* take_memory(std::size_t bytes, std::size_t alignment) {
    void* const made = try_memory(bytes, alignment);
    if (!made) no_memory();
    return made;
}
#endif
#ifdef PROMETHEUS_ASYNC_ALLOCATE
void* try_memory(std::size_t bytes, std::size_t alignment) noexcept { return PROMETHEUS_ASYNC_ALLOCATE(bytes, alignment); }
void give_memory(void* from, std::size_t bytes, std::size_t) noexcept {
    if (from) PROMETHEUS_ASYNC_RELEASE(from, bytes);
}
static void* resize_memory(void* from, std::size_t bytes, std::size_t want) noexcept {
    void* const made = try_memory(want, alignof(std::max_align_t));
    if (!made || !from) return made;
    std::memcpy(made, from, bytes < want ? bytes : want);
    give_memory(from, bytes, alignof(std::max_align_t));
    return made;
}
static void* take_table_memory(std::size_t bytes, std::size_t alignment) noexcept { return try_memory(bytes, alignment); }
static void give_table_memory(void* from, std::size_t bytes) noexcept { give_memory(from, bytes, 0); }
#else
#if !PROMETHEUS_ASYNC_EXCEPTIONS
// Not operator new: it can throw, so a static program that calls it is linked with the unwinder and the demangler.
void* try_memory(std::size_t bytes, std::size_t alignment) noexcept {
    if (alignment <= alignof(std::max_align_t)) return std::malloc(bytes != 0 ? bytes : 1);
    return sys::aligned_alloc(alignment, (bytes + alignment - 1) & ~(alignment - 1));
}
void give_memory(void* from, std::size_t, std::size_t) noexcept { std::free(from); }
#else
constexpr bool is_usual(std::size_t alignment) noexcept { return alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__; }
void* try_memory(std::size_t bytes, std::size_t alignment) noexcept {
    return is_usual(alignment) ? ::operator new(bytes, std::nothrow) : ::operator new(bytes, std::align_val_t{alignment}, std::nothrow);
}
void* take_memory(std::size_t bytes, std::size_t alignment) {
    return is_usual(alignment) ? ::operator new(bytes) : ::operator new(bytes, std::align_val_t{alignment});
}
void give_memory(void* from, std::size_t, std::size_t alignment) noexcept {
    if (is_usual(alignment)) ::operator delete(from);
    else ::operator delete(from, std::align_val_t{alignment});
}
#endif
static void* resize_memory(void* from, std::size_t, std::size_t want) noexcept { return sys::realloc(from, want); }
static void* take_table_memory(std::size_t bytes, std::size_t alignment) noexcept { return sys::aligned_alloc(alignment, bytes); }
static void give_table_memory(void* from, std::size_t) noexcept { std::free(from); }
#endif

#if !PROMETHEUS_ASYNC_EXCEPTIONS
/// Whether so many octets can be allocated now. Without exceptions an allocation that fails ends the program: what a client or a
/// label value causes is asked for first.
static bool memory_for(std::size_t bytes) noexcept {
    void* const made = try_memory(bytes, alignof(std::max_align_t));
    if (made) give_memory(made, bytes, alignof(std::max_align_t));
    return made != nullptr;
}
#else
constexpr bool memory_for(std::size_t) noexcept { return true; }
#endif

/// Memory of zeros, aligned to a page, which the system provides only when it is written; null without memory. Never freed.
static void* map_zeros(std::size_t bytes) noexcept {
#if defined(PROMETHEUS_ASYNC_ALLOCATE)
    void* const made = try_memory(bytes, 64);
    return made ? std::memset(made, 0, bytes) : nullptr;
#else
#if defined(MAP_ANONYMOUS)
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#else
    constexpr int flags = MAP_PRIVATE | MAP_ANON;
#endif
    void* const made = sys::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    return made == MAP_FAILED ? nullptr : made;
#endif
}
/// Returns pages of zeros to the system, where it can take them; they may be written again later.
static void give_back_zeros([[maybe_unused]] void* from, [[maybe_unused]] std::size_t bytes) noexcept {
#if !defined(PROMETHEUS_ASYNC_ALLOCATE) && (defined(__linux__) || defined(MADV_FREE))
    if (bytes < 65536) return;
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(from) + page - 1) & ~(page - 1);
    const std::uintptr_t end = (reinterpret_cast<std::uintptr_t>(from) + bytes) & ~(page - 1);
#if defined(__linux__)
    constexpr int advice = MADV_DONTNEED;
#else
    constexpr int advice = MADV_FREE;  // the pages keep their zeros, or become zeros
#endif
    if (begin < end) static_cast<void>(::madvise(reinterpret_cast<void*>(begin), end - begin, advice));
#endif
}
/// Room for `want` objects of a vector, or more. The objects are moved to it, and the old room is freed.
struct vector_memory {
    void* data;
    std::size_t size, room;
};
static void grow_vector(vector_memory& of, std::size_t want, std::size_t each, std::size_t alignment, void (*move)(void* to, void* from, std::size_t n) noexcept) {
    if (want > PTRDIFF_MAX / each) no_memory();
    const std::size_t twice = of.room * 2;
    const std::size_t more = want > twice ? want : twice;
    void* const made = take_memory(more * each, alignment);
    if (move) move(made, of.data, of.size);
    else if (of.size != 0) std::memcpy(made, of.data, of.size * each);
    give_memory(of.data, of.room * each, alignment);
    of.data = made;
    of.room = more;
}

// ---- texts and vectors ----

// As std::string and std::vector, but in the library's memory, and with functions that grow them out of line: inlined everywhere,
// these would be a large part of the library's size and of its compile time.

/// Octets, and a NUL after them. Up to 15 are stored in the object.
class PROMETHEUS_ASYNC_LOCAL string {
public:
    static constexpr std::size_t npos = std::string_view::npos;

    PROMETHEUS_ASYNC_DETAIL_ONCE constexpr string() noexcept : data_(small_), small_{} {}
    string(const char* from) : string() { assign(from); }
    explicit string(std::string_view from) : string() { assign(from); }
    string(const char* from, std::size_t n) : string() { assign({from, n}); }
    string(std::size_t n, char c) : string() { append(n, c); }
    string(const string& other) : string() { assign(other); }
    string(string&& other) noexcept : string() { take(other); }
    string& operator=(const string& other) { return assign(other); }
    string& operator=(string&& other) noexcept {
        if (this != &other) take(other);
        return *this;
    }
    string& operator=(std::string_view from) { return assign(from); }
    string& operator=(const char* from) { return assign(from); }
    ~string() { drop(); }

    operator std::string_view() const noexcept { return {data_, size_}; }
    operator std::string() const { return {data_, size_}; }  // for values that users get
    const char* c_str() const noexcept { return data_; }
    const char* data() const noexcept { return data_; }
    char* data() noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    std::size_t capacity() const noexcept { return data_ == small_ ? sizeof small_ - 1 : room_; }
    bool empty() const noexcept { return size_ == 0; }
    char* begin() noexcept { return data_; }
    char* end() noexcept { return data_ + size_; }
    const char* begin() const noexcept { return data_; }
    const char* end() const noexcept { return data_ + size_; }
    char& operator[](std::size_t i) noexcept { return data_[i]; }
    char operator[](std::size_t i) const noexcept { return data_[i]; }
    char& back() noexcept { return data_[size_ - 1]; }
    char back() const noexcept { return data_[size_ - 1]; }
    char front() const noexcept { return data_[0]; }

    operator std::span<char>() noexcept { return {data_, size_}; }

    void swap(string& other) noexcept {
        string old(static_cast<string&&>(other));
        other.take(*this);
        take(old);
    }
    void clear() noexcept { cut(0); }
    void pop_back() noexcept { cut(size_ - 1); }
    void reserve(std::size_t want) {
        string old;
        if (want > capacity()) grow(want, old);
    }
    void resize(std::size_t n, char c = 0) {
        if (n <= size_) cut(n);
        else append(n - size_, c);
    }
    void push_back(char c) {
        if (size_ == capacity()) return static_cast<void>(append(1, c));
        data_[size_] = c;
        cut(size_ + 1);
    }
    string& append(std::string_view s) { return replace(size_, 0, s); }
    PROMETHEUS_ASYNC_DETAIL_ONCE string& append(const char* s) { return append(std::string_view(s)); }
    string& append(std::string_view s, std::size_t at, std::size_t n = npos) { return append(s.substr(at, n)); }
    string& append(const char* s, std::size_t n) { return append(std::string_view(s, n)); }
    string& append(std::size_t n, char c);
    string& operator+=(std::string_view s) { return append(s); }
    string& operator+=(const char* s) { return append(s); }
    string& operator+=(char c) { return append(1, c); }
    string& assign(std::string_view s) { return replace(0, size_, s); }
    string& assign(const char* s, std::size_t n) { return assign(std::string_view(s, n)); }
    string& insert(std::size_t at, std::string_view s) { return replace(at, 0, s); }
    string& erase(std::size_t at, std::size_t n = npos) { return replace(at, n, {}); }
    /// Replaces n octets from `at` on, or all that follow, by those of `by`, which may be part of this.
    string& replace(std::size_t at, std::size_t n, std::string_view by);

    string substr(std::size_t at, std::size_t n = npos) const { return string(std::string_view(*this).substr(at, n)); }
    std::size_t find(std::string_view s, std::size_t at = 0) const noexcept { return std::string_view(*this).find(s, at); }
    std::size_t find(char c, std::size_t at = 0) const noexcept { return std::string_view(*this).find(c, at); }
    std::size_t rfind(char c) const noexcept { return std::string_view(*this).rfind(c); }
    std::size_t find_first_of(std::string_view s, std::size_t at = 0) const noexcept { return std::string_view(*this).find_first_of(s, at); }
    std::size_t find_last_not_of(char c) const noexcept { return std::string_view(*this).find_last_not_of(c); }
    std::size_t copy(char* to, std::size_t n, std::size_t at = 0) const noexcept { return std::string_view(*this).substr(at).copy(to, n); }
    bool starts_with(std::string_view s) const noexcept { return std::string_view(*this).starts_with(s); }
    bool ends_with(std::string_view s) const noexcept { return std::string_view(*this).ends_with(s); }

    friend string operator+(string a, std::string_view b) { return static_cast<string&&>(a.append(b)); }
    friend string operator+(string a, char b) { return static_cast<string&&>(a.append(1, b)); }
    friend string operator+(const char* a, const string& b) { return string(a).append(b); }
    friend bool operator==(const string& a, const string& b) noexcept { return std::string_view(a) == std::string_view(b); }
    friend bool operator==(const string& a, std::string_view b) noexcept { return std::string_view(a) == b; }
    friend bool operator==(const string& a, const char* b) noexcept { return std::string_view(a) == b; }
    friend auto operator<=>(const string& a, const string& b) noexcept { return std::string_view(a) <=> std::string_view(b); }
    friend auto operator<=>(const string& a, std::string_view b) noexcept { return std::string_view(a) <=> b; }

private:
    void cut(std::size_t n) noexcept {
        size_ = n;
        data_[n] = 0;
    }
    void drop() noexcept { if (data_ != small_) give_memory(data_, room_ + 1, 1); }
    void take(string& other) noexcept;
    void grow(std::size_t want, string& old);

    char* data_;
    std::size_t size_ = 0;
    union {
        std::size_t room_;  // without the NUL; used when the octets are not in the object
        char small_[16];
    };
};
void string::take(string& other) noexcept {
    drop();
    const bool inside = other.data_ == other.small_;
    std::memcpy(small_, other.small_, sizeof small_);
    data_ = inside ? small_ : other.data_;
    size_ = other.size_;
    other.data_ = other.small_;
    other.cut(0);
}
/// Moves the octets to larger memory; `old` gets the former memory.
void string::grow(std::size_t want, string& old) {
    if (want >= PTRDIFF_MAX) no_memory();
    const std::size_t twice = capacity() * 2, more = want > twice ? want : twice;
    auto* made = static_cast<char*>(take_memory(more + 1, 1));
    std::memcpy(made, data_, size_ + 1);
    const std::size_t size = size_;
    old.take(*this);
    data_ = made;
    size_ = size;
    room_ = more;
}
string& string::append(std::size_t n, char c) {
    string old;
    if (n > PTRDIFF_MAX - size_) no_memory();  // the sum would overflow
    if (n > capacity() - size_) grow(size_ + n, old);
    std::memset(data_ + size_, c, n);
    cut(size_ + n);
    return *this;
}
string& string::replace(std::size_t at, std::size_t n, std::string_view by) {
    if (n > size_ - at) n = size_ - at;
    const std::size_t rest = size_ - at - n, made = at + by.size() + rest;
    const std::size_t from = reinterpret_cast<std::uintptr_t>(by.data()) - reinterpret_cast<std::uintptr_t>(data_);
    string old;
    if (made > capacity() || (from < size_ && rest != 0)) {
        grow(made, old);
        if (from < old.size_) by = {old.data_ + from, by.size()};
    }
    std::memmove(data_ + at + by.size(), data_ + at + n, rest);
    if (!by.empty()) std::memmove(data_ + at, by.data(), by.size());
    cut(made);
    return *this;
}

/// As std::pair, without functions of std::, because g++ exports these.
template <class A, class B>
struct PROMETHEUS_ASYNC_LOCAL pair {
    A first;
    B second;

    pair() = default;
    template <class From, class Other>
    pair(From&& a, Other&& b) : first(static_cast<From&&>(a)), second(static_cast<Other&&>(b)) {}
    friend bool operator==(const pair& a, const pair& b) { return a.first == b.first && a.second == b.second; }
    friend bool operator<(const pair& a, const pair& b) { return a.first == b.first ? a.second < b.second : a.first < b.first; }
};

/// Whether a T can be moved by copying its octets.
template <class T>
constexpr bool moves_as_octets = std::is_trivially_copyable_v<T>;
template <class T>
constexpr bool moves_as_octets<owned<T>> = true;
template <class A, class B>
constexpr bool moves_as_octets<pair<A, B>> = moves_as_octets<A> && moves_as_octets<B>;

template <class Item>
class PROMETHEUS_ASYNC_LOCAL vector {
public:
    constexpr vector() noexcept = default;
    explicit vector(std::size_t n) : vector() { resize(n); }
    vector(std::size_t n, const Item& x) : vector() {
        reserve(n);
        while (size() != n) push_back(x);
    }
    template <class From>
        requires(!std::is_integral_v<From>)
    vector(From from, From end) : vector() {
        for (; from != end; ++from) emplace_back(*from);
    }
    vector(std::initializer_list<Item> all) : vector(all.begin(), all.end()) {}
    vector(const vector& other) : vector(other.begin(), other.end()) {}
    vector(vector&& other) noexcept { swap(other); }
    vector& operator=(vector&& other) noexcept {
        vector old(static_cast<vector&&>(other));
        swap(old);
        return *this;
    }
    vector& operator=(const vector& other) {  // uses the memory of the elements again
        if (this == &other) return *this;
        if (size() > other.size()) cut(other.size());
        for (std::size_t i = 0; i != size(); ++i) data()[i] = other[i];
        reserve(other.size());
        while (size() != other.size()) put(other[size()]);
        return *this;
    }
    ~vector() {
        clear();
        give_memory(all_.data, all_.room * sizeof(Item), alignof(Item));
    }

    Item* data() const noexcept { return static_cast<Item*>(all_.data); }
    std::size_t size() const noexcept { return all_.size; }
    bool empty() const noexcept { return all_.size == 0; }
    Item* begin() noexcept { return data(); }
    Item* end() noexcept { return data() + size(); }
    const Item* begin() const noexcept { return data(); }
    const Item* end() const noexcept { return data() + size(); }
    Item& operator[](std::size_t i) noexcept { return data()[i]; }
    const Item& operator[](std::size_t i) const noexcept { return data()[i]; }
    Item& front() noexcept { return data()[0]; }
    const Item& front() const noexcept { return data()[0]; }
    Item& back() noexcept { return data()[size() - 1]; }
    const Item& back() const noexcept { return data()[size() - 1]; }

    friend bool operator==(const vector& a, const vector& b) {
        if (a.size() != b.size()) return false;
        for (std::size_t i = 0; i != a.size(); ++i) if (!(a[i] == b[i])) return false;
        return true;
    }

    operator std::span<Item>() noexcept { return {data(), size()}; }

    void swap(vector& other) noexcept { std::swap(all_, other.all_); }
    std::size_t capacity() const noexcept { return all_.room; }
    void reserve(std::size_t want) { if (want > all_.room) grow(want); }
    void clear() noexcept { cut(0); }
    void resize(std::size_t n) {
        if (n <= size()) return cut(n);
        reserve(n);
        while (size() != n) emplace_back();
    }
    template <class... Args>
    Item& emplace_back(Args&&... args) {
        if constexpr (std::is_trivially_copyable_v<Item> && sizeof(Item) <= 16) {
            const Item made(static_cast<Args&&>(args)...);
            reserve(size() == all_.room ? size() + 1 : 0);
            return put(made);
        }
        if (size() == all_.room) {
            Item made(static_cast<Args&&>(args)...);  // first, because the arguments may be in this vector
            grow(size() + 1);
            return put(static_cast<Item&&>(made));
        }
        return put(static_cast<Args&&>(args)...);
    }
    void push_back(const Item& x) { emplace_back(x); }
    void push_back(Item&& x) { emplace_back(static_cast<Item&&>(x)); }
    void pop_back() noexcept { cut(size() - 1); }
    Item* insert(const Item* before, Item x) {
        const auto index = static_cast<std::size_t>(before - data());
        reserve(size() == capacity() ? size() + 1 : size());
        Item* const at = data() + index;
        if constexpr (moves_as_octets<Item>) {
            std::memmove(static_cast<void*>(at + 1), static_cast<const void*>(at), (size() - index) * sizeof(Item));
            ::new (static_cast<void*>(at)) Item(static_cast<Item&&>(x));
            ++all_.size;
        } else {
            put(static_cast<Item&&>(x));
            for (Item* i = &back(); i != at; --i) std::swap(i[0], i[-1]);
        }
        return at;
    }
    Item* erase(const Item* which) noexcept {
        Item* const at = data() + (which - data());
        if constexpr (moves_as_octets<Item>) {
            at->~Item();
            std::memmove(static_cast<void*>(at), static_cast<const void*>(at + 1), static_cast<std::size_t>(end() - at - 1) * sizeof(Item));
            --all_.size;
        } else {
            for (Item* next = at + 1; next != end(); ++next) next[-1] = static_cast<Item&&>(*next);
            pop_back();
        }
        return at;
    }
    void assign(std::size_t n, const Item x) {
        reserve(n);  // if that throws, nothing has changed
        clear();
        while (size() != n) put(x);
    }
    template <class From>
    void assign(const From* from, const From* to_end) {
        clear();
        for (; from != to_end; ++from) emplace_back(*from);
    }

private:
    template <class... Args>
    Item& put(Args&&... args) {
        Item* const made = ::new (static_cast<void*>(end())) Item(static_cast<Args&&>(args)...);
        ++all_.size;
        return *made;
    }
    void cut(std::size_t n) noexcept {
        if constexpr (std::is_trivially_destructible_v<Item>) all_.size = n;
        else while (all_.size != n) data()[--all_.size].~Item();
    }
    void grow(std::size_t want) {
        if constexpr (moves_as_octets<Item>) {
            grow_vector(all_, want, sizeof(Item), alignof(Item), nullptr);
        } else {
            grow_vector(all_, want, sizeof(Item), alignof(Item), [](void* to, void* from, std::size_t n) noexcept {
                for (std::size_t i = 0; i != n; ++i) {
                    Item& old = static_cast<Item*>(from)[i];
                    ::new (static_cast<void*>(static_cast<Item*>(to) + i)) Item(static_cast<Item&&>(old));
                    old.~Item();
                }
            });
        }
    }

    vector_memory all_{nullptr, 0, 0};
};
template <class T>
inline constexpr bool moves_as_octets<vector<T>> = true;

// One function for all types, because std::sort takes a kilobyte for each type.
/// Heap sort of n elements, which `less` and `swap` access by index.
static void sort_places(std::size_t n, void* of, bool (*less)(void* of, std::size_t a, std::size_t b),
                        void (*swap)(void* of, std::size_t a, std::size_t b)) {
    const auto sink = [&](std::size_t from, std::size_t end) {
        for (std::size_t child; (child = 2 * from + 1) < end; from = child) {
            if (child + 1 < end && less(of, child, child + 1)) ++child;
            if (!less(of, from, child)) return;
            swap(of, from, child);
        }
    };
    for (std::size_t i = n / 2; i != 0;) sink(--i, n);
    for (std::size_t end = n; end > 1;) {
        swap(of, 0, --end);
        sink(0, end);
    }
}
template <class T, class Less>
void sort(vector<T>& all, Less less) {
    struct sorted {
        T* first;
        Less& less;
    } of{all.begin(), less};
    sort_places(all.size(), &of, [](void* p, std::size_t a, std::size_t b) { return static_cast<sorted*>(p)->less(static_cast<sorted*>(p)->first[a], static_cast<sorted*>(p)->first[b]); },
                [](void* p, std::size_t a, std::size_t b) { std::swap(static_cast<sorted*>(p)->first[a], static_cast<sorted*>(p)->first[b]); });
}
template <class T>
void sort(vector<T>& all) {
    sort(all, [](const T& a, const T& b) {
        PROMETHEUS_ASYNC_DETAIL_STEP();
        return a < b;
    });
}

// ---- texts made of parts ----

// Texts and errors are made from parts by one function each: inlined concatenations would be most of the code of a failure.
/// The parts, joined.
string text_of(std::initializer_list<std::string_view> parts) {
    std::size_t size = 0;
    for (std::string_view part : parts) size += part.size();
    string made;
    made.reserve(size);
    for (std::string_view part : parts) made += part;
    return made;
}
/// An error whose message is the parts, joined. It allocates nothing.
__attribute__((__cold__)) error error_of(errc code, std::initializer_list<std::string_view> parts, int sys = 0) noexcept {
    char text[sizeof(error)];
    std::size_t size = 0;
    for (std::string_view part : parts) size += part.copy(text + size, sizeof text - size);
    return {code, {text, size}, sys};
}

/// Calls a function at the end of the scope, unless `done` is set: undoes a change when later code throws.
template <class F>
struct undo {
    F back;
    bool done = false;
    ~undo() { if (!done) back(); }
};
template <class F>
undo(F) -> undo<F>;

/// A handle that keeps an object alive; the last one destroys it. The object has keep() and release().
template <class T>
class shared {
public:
    shared() noexcept = default;
    explicit shared(T* of) noexcept : to_(of) { if (to_) to_->keep(); }
    shared(const shared& other) noexcept : shared(other.to_) {}
    shared(shared&& other) noexcept : to_(exchanged(other.to_, nullptr)) {}
    shared& operator=(shared other) noexcept {
        other.to_ = exchanged(to_, other.to_);
        return *this;
    }
    ~shared() { if (to_) to_->release(); }

    explicit operator bool() const noexcept { return to_ != nullptr; }
    T* get() const noexcept { return to_; }
    T& operator*() const noexcept { return *to_; }
    T* operator->() const noexcept { return to_; }

private:
    T* to_ = nullptr;
};
/// A base with keep() and release(), for a T that begins without a handle.
template <class T>
class counted : public allocated {
public:
    void keep() noexcept { __atomic_add_fetch(&handles_, 1U, __ATOMIC_RELAXED); }
    void release() noexcept { if (__atomic_sub_fetch(&handles_, 1U, __ATOMIC_ACQ_REL) == 0) delete static_cast<T*>(this); }

private:
    unsigned handles_ = 0;
};

/// The library's only type of lock. Without threads it does nothing.
struct mutex {
#if PROMETHEUS_ASYNC_NO_THREADS
    void lock() noexcept {}
    bool try_lock() noexcept { return true; }
    void unlock() noexcept {}
#else
    void lock() noexcept { pthread_mutex_lock(&raw); }
    bool try_lock() noexcept { return pthread_mutex_trylock(&raw) == 0; }
    void unlock() noexcept { pthread_mutex_unlock(&raw); }
    void wait(pthread_cond_t& until) noexcept { pthread_cond_wait(&until, &raw); }

    pthread_mutex_t raw = PTHREAD_MUTEX_INITIALIZER;
#endif
};
/// A mutex, locked until the end of the scope.
class locked {
public:
    explicit locked(mutex& m) noexcept : held_(m) { held_.lock(); }
    struct taken {};
    locked(mutex& m, taken) noexcept : held_(m) {}
    locked(const locked&) = delete;
    ~locked() { held_.unlock(); }

private:
    mutex& held_;
};

/// Calls user code. What it throws is given to `failed`, as an error, and goes no further.
template <class F, class Failed>
void contain(std::string_view where, F&& f, Failed&& failed) noexcept {
#if PROMETHEUS_ASYNC_EXCEPTIONS
    try {
        f();
    } catch (...) {
        failed(caught(where));
    }
#else
    static_cast<void>(where), static_cast<void>(failed);
    f();
#endif
}

namespace sys {
#if PROMETHEUS_ASYNC_DETAIL_LINUX
using PROMETHEUS_ASYNC_DETAIL_SYS::getauxval, PROMETHEUS_ASYNC_DETAIL_SYS::getrandom;  // not there? Define PROMETHEUS_ASYNC_SMALL_LIBC as 1
#elif defined(__linux__)
using PROMETHEUS_ASYNC_DETAIL_SYS::close, PROMETHEUS_ASYNC_DETAIL_SYS::open, PROMETHEUS_ASYNC_DETAIL_SYS::read;
#else
using PROMETHEUS_ASYNC_DETAIL_SYS::arc4random_buf;
#endif
}  // namespace sys

/// 128 random bits that are unknown outside the process. May be called at any time, also before main().
static void take_secret(std::uint64_t (&to)[2]) noexcept {
#if defined(__linux__)
#if PROMETHEUS_ASYNC_DETAIL_LINUX
    if (sys::getrandom(to, sizeof to, GRND_NONBLOCK) == sizeof to) return;
    // getrandom() failed: the kernel is old, or has just booted. It gives each process 16 random octets at its start.
    if (const auto at = sys::getauxval(AT_RANDOM)) return static_cast<void>(std::memcpy(to, reinterpret_cast<const void*>(at), sizeof to));
#else
    if (const int fd = sys::open("/dev/urandom", O_RDONLY | O_CLOEXEC); fd >= 0) {
        const bool whole = sys::read(fd, to, sizeof to) == sizeof to;
        sys::close(fd);
        if (whole) return;
    }
#endif
    timespec now;
    ::clock_gettime(CLOCK_REALTIME, &now);
    to[0] = static_cast<std::uint64_t>(now.tv_sec) << 30 ^ static_cast<std::uint64_t>(now.tv_nsec);
    to[1] = reinterpret_cast<std::uintptr_t>(&now) ^ reinterpret_cast<std::uintptr_t>(&take_secret) << 20;
#else
    sys::arc4random_buf(to, sizeof to);
#endif
}

template <clockid_t Id>
static double read_clock() {
    timespec t;
    ::clock_gettime(Id, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}
constexpr clock real_clock{&read_clock<CLOCK_MONOTONIC>, &read_clock<CLOCK_REALTIME>};
static constinit clock process_clock = real_clock;

/// The time of a clock; `which` is monotonic or wall.
inline double reading(const clock& of, double (*clock::*which)()) noexcept {
    double now = 0;
    contain("a clock", [&] { now = (of.*which)(); }, [&](const error&) { now = (real_clock.*which)(); });
    return now;
}

}  // namespace detail

void notify(event_handler on_event, void* context, const event& what) noexcept {
    if (on_event) detail::contain("on_event", [&] { on_event(what, context); }, [](const error&) {});
}

clock system_clock() noexcept { return detail::real_clock; }
void set_clock(clock c) noexcept { detail::process_clock = c; }
double monotonic_now() noexcept { return detail::reading(detail::process_clock, &clock::monotonic); }
double wall_now() noexcept {
    const double now = detail::reading(detail::process_clock, &clock::wall);
    return detail::possible_time(now) ? now : 0;
}

PROMETHEUS_ASYNC_END

#if !PROMETHEUS_ASYNC_NO_NETWORK
#include <arpa/inet.h>
#include <csignal>
#include <fcntl.h>
#include <net/if.h>
#include <strings.h>  // strncasecmp
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sched.h>
#include <unistd.h>
#if PROMETHEUS_ASYNC_DETAIL_LINUX
#include <sys/epoll.h>  // not there? Define PROMETHEUS_ASYNC_SMALL_LIBC as 1
#include <sys/eventfd.h>  // not there? Define PROMETHEUS_ASYNC_SMALL_LIBC as 1
#include <sys/timerfd.h>  // not there? Define PROMETHEUS_ASYNC_SMALL_LIBC as 1
#endif
#ifndef PROMETHEUS_ASYNC_POLLER_KQUEUE  // tests say 1 on Linux too, over a <sys/event.h> of their own
#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__) || defined(__DragonFly__)
#define PROMETHEUS_ASYNC_POLLER_KQUEUE 1
#else
#define PROMETHEUS_ASYNC_POLLER_KQUEUE 0
#endif
#endif
#if PROMETHEUS_ASYNC_POLLER_KQUEUE
#include <sys/event.h>
#endif

PROMETHEUS_ASYNC_BEGIN
namespace detail {

namespace sys {
using PROMETHEUS_ASYNC_DETAIL_SYS::bind, PROMETHEUS_ASYNC_DETAIL_SYS::close,
    PROMETHEUS_ASYNC_DETAIL_SYS::connect, PROMETHEUS_ASYNC_DETAIL_SYS::fchmod,
    PROMETHEUS_ASYNC_DETAIL_SYS::fcntl, PROMETHEUS_ASYNC_DETAIL_SYS::fsync,
    PROMETHEUS_ASYNC_DETAIL_SYS::fstat, PROMETHEUS_ASYNC_DETAIL_SYS::getpeername,
    PROMETHEUS_ASYNC_DETAIL_SYS::getpid, PROMETHEUS_ASYNC_DETAIL_SYS::getsockname,
    PROMETHEUS_ASYNC_DETAIL_SYS::getsockopt, PROMETHEUS_ASYNC_DETAIL_SYS::listen,
    PROMETHEUS_ASYNC_DETAIL_SYS::lstat, PROMETHEUS_ASYNC_DETAIL_SYS::open,
    PROMETHEUS_ASYNC_DETAIL_SYS::poll, PROMETHEUS_ASYNC_DETAIL_SYS::read,
    PROMETHEUS_ASYNC_DETAIL_SYS::recv, PROMETHEUS_ASYNC_DETAIL_SYS::rename,
    PROMETHEUS_ASYNC_DETAIL_SYS::send, PROMETHEUS_ASYNC_DETAIL_SYS::setsockopt,
    PROMETHEUS_ASYNC_DETAIL_SYS::shutdown, PROMETHEUS_ASYNC_DETAIL_SYS::socket,
    PROMETHEUS_ASYNC_DETAIL_SYS::unlink, PROMETHEUS_ASYNC_DETAIL_SYS::write;
#if PROMETHEUS_ASYNC_DETAIL_LINUX
using PROMETHEUS_ASYNC_DETAIL_SYS::accept4, PROMETHEUS_ASYNC_DETAIL_SYS::pipe2;  // not there? Define PROMETHEUS_ASYNC_SMALL_LIBC as 1
using PROMETHEUS_ASYNC_DETAIL_SYS::epoll_create1, PROMETHEUS_ASYNC_DETAIL_SYS::epoll_ctl, PROMETHEUS_ASYNC_DETAIL_SYS::epoll_wait;  // not there? Define PROMETHEUS_ASYNC_SMALL_LIBC as 1
using PROMETHEUS_ASYNC_DETAIL_SYS::eventfd, PROMETHEUS_ASYNC_DETAIL_SYS::timerfd_create, PROMETHEUS_ASYNC_DETAIL_SYS::timerfd_settime;  // not there? Define PROMETHEUS_ASYNC_SMALL_LIBC as 1
#else
using PROMETHEUS_ASYNC_DETAIL_SYS::accept, PROMETHEUS_ASYNC_DETAIL_SYS::pipe;
#endif
#if PROMETHEUS_ASYNC_POLLER_KQUEUE
using PROMETHEUS_ASYNC_DETAIL_SYS::kevent, PROMETHEUS_ASYNC_DETAIL_SYS::kqueue;
#endif
}  // namespace sys

/// Sole owner of a file descriptor.
class descriptor {
public:
    descriptor() noexcept = default;
    explicit descriptor(int fd) noexcept : fd_(fd) {}
    descriptor(descriptor&& other) noexcept : fd_(other.release()) {}
    descriptor& operator=(descriptor&& other) noexcept {
        if (this != &other) reset(other.release());
        return *this;
    }
    ~descriptor() { reset(); }

    explicit operator bool() const noexcept { return fd_ >= 0; }
    int get() const noexcept { return fd_; }
    int release() noexcept { return std::exchange(fd_, -1); }
    void reset(int fd = -1) noexcept {
        if (const int old = std::exchange(fd_, fd); old >= 0) {
            const int kept = errno;
            sys::close(old);  // not repeated after EINTR: the number may be in use again by then
            errno = kept;
        }
    }

private:
    int fd_ = -1;
};

/// Repeats the call while it fails with EINTR.
template <class Call>
auto uninterrupted(Call&& call) noexcept {
    auto got = call();
    while (got < 0 && errno == EINTR) got = call();
    return got;
}

#if !PROMETHEUS_ASYNC_NO_THREADS
/// Starts a thread of the library, with all signals blocked. Returns 0, or an errno.
int start_thread(pthread_t& thread, void* (*run)(void*), void* with) noexcept {
    sigset_t all, before;
    sigfillset(&all);  // a macro on macOS
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&thread, nullptr, run, with);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return failed;
}
#endif

inline error not_regular(std::string_view path) noexcept { return error_of(errc::invalid_option, {path, " is not a regular file"}); }

/// Whether the file at this path is still the one with this device and inode.
inline result<bool> still_there(const string& path, dev_t device, ino_t inode) noexcept {
    struct stat there {};
    if (sys::lstat(path.c_str(), &there) == 0) return there.st_dev == device && there.st_ino == inode;
    if (errno != ENOENT) return error::from_errno(path, errno);
    return false;
}
/// A file that other processes see complete or not at all: it is written under another name, and then renamed. It replaces a
/// regular file or a symbolic link, and nothing else.
class replaced_file {
public:
    /// The name of the unfinished file ends in .tmp, so that readers of the directory ignore it. It is always a new file: what has
    /// that name already is removed and never opened, as it may be a FIFO.
    explicit replaced_file(const string& path) : path_(path), beside_(path + '.' + std::to_string(sys::getpid()) + ".tmp") {
        const auto open = [&] {
            fd_.reset(uninterrupted([&] { return sys::open(beside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644); }));
            if (!fd_) failed_ = errno;
            return failed_;
        };
        struct stat there {};
        if (path.find('\0') != path.npos) failed_ = EINVAL;  // the part before it is the name of another file
        else if (sys::lstat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode) && !S_ISLNK(there.st_mode)) unfit_ = true, failed_ = EEXIST;
        else if (open() == EEXIST && sys::unlink(beside_.c_str()) == 0) failed_ = 0, open();
        opened_ = left_ = failed_ == 0;
    }
    replaced_file(const replaced_file&) = delete;
    replaced_file& operator=(const replaced_file&) = delete;
    ~replaced_file() { if (left_) sys::unlink(beside_.c_str()); }

    bool write(std::string_view text) noexcept {
        while (!text.empty() && failed_ == 0) {
            const ssize_t n = uninterrupted([&] { return sys::write(fd_.get(), text.data(), text.size()); });
            if (n >= 0) text.remove_prefix(static_cast<std::size_t>(n));
            else failed_ = errno;
        }
        return failed_ == 0;
    }
    /// Makes it readable for other users, and writes it to the disk, so that a power failure leaves no empty file.
    void publish() noexcept {
        if (failed_ == 0 && (sys::fchmod(fd_.get(), 0644) != 0 || uninterrupted([&] { return sys::fsync(fd_.get()); }) != 0)) failed_ = errno;
    }
    /// Renames it to its own name, replacing the previous file.
    result<struct stat> replace() noexcept {
        struct stat made {};
        if (failed_ == 0 && sys::fstat(fd_.get(), &made) != 0) failed_ = errno;
        if (opened_ && sys::close(fd_.release()) != 0 && failed_ == 0) failed_ = errno;
        if (failed_ == 0) {
            const result<bool> ours = still_there(beside_, made.st_dev, made.st_ino);
            if (!ours) return ours.why();
            if (!*ours) {  // of a process with the same number in another container, too
                left_ = false;
                return error_of(errc::system, {path_, ": something else writes this file at the same time"});
            }
        }
        if (failed_ == 0 && sys::rename(beside_.c_str(), path_.c_str()) != 0) failed_ = errno;
        if (unfit_) return not_regular(path_);
        if (failed_ != 0) return error::from_errno(opened_ ? path_ : beside_, failed_);
        left_ = false;
        return made;
    }

private:
    string path_, beside_;
    descriptor fd_;
    int failed_ = 0;
    bool opened_, left_;  // left_: the unfinished file exists
    bool unfit_ = false;  // at the path is a directory, a FIFO, a socket or a device
};

#if PROMETHEUS_ASYNC_DETAIL_LINUX
inline bool make_pipe(int (&ends)[2]) noexcept { return sys::pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0; }
inline int raw_socket(int family, int type) noexcept {
    return sys::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}
inline int raw_accept(int listener, sockaddr* from, socklen_t* size) noexcept {
    return sys::accept4(listener, from, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
}
#else
// If another thread forks and executes a program before this, that inherits the descriptor. There is no better way.
inline bool make_quiet(int fd) noexcept {
    return sys::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && sys::fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
}
inline int quiet_or_closed(int fd) noexcept {
    descriptor made(fd);
    return fd >= 0 && make_quiet(fd) ? made.release() : -1;
}
inline bool make_pipe(int (&ends)[2]) noexcept {
    if (sys::pipe(ends) != 0) return false;
    descriptor out(ends[0]), in(ends[1]);
    return make_quiet(ends[0]) && make_quiet(ends[1]) && out.release() >= 0 && in.release() >= 0;
}
inline int raw_socket(int family, int type) noexcept { return quiet_or_closed(sys::socket(family, type, 0)); }
inline int raw_accept(int listener, sockaddr* from, socklen_t* size) noexcept {
    return quiet_or_closed(sys::accept(listener, from, size));
}
#endif

// Writing to a closed connection must not raise SIGPIPE. The library never sets a signal handler.
#if defined(MSG_NOSIGNAL)
constexpr int send_quietly = MSG_NOSIGNAL;
#else
constexpr int send_quietly = 0;
#endif
#if defined(SO_NOSIGPIPE)
inline void no_sigpipe(int fd) noexcept {
    const int on = 1;
    sys::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
}
#else
inline void no_sigpipe(int) noexcept {}
#endif

/// The address of a socket: IPv4, IPv6 or unix; a unix name that begins with @ is abstract.
struct net_address {
    sockaddr_storage any{};
    socklen_t size = 0;

    const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&any); }
    sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&any); }
    int family() const noexcept { return size == 0 ? AF_UNSPEC : any.ss_family; }
    const sockaddr_in& v4() const noexcept { return reinterpret_cast<const sockaddr_in&>(any); }
    const sockaddr_in6& v6() const noexcept { return reinterpret_cast<const sockaddr_in6&>(any); }
    const sockaddr_un& local() const noexcept { return reinterpret_cast<const sockaddr_un&>(any); }
    std::uint16_t port() const noexcept {
        return family() == AF_INET ? ntohs(v4().sin_port) : family() == AF_INET6 ? ntohs(v6().sin6_port) : std::uint16_t{0};
    }
    void port(std::uint16_t p) noexcept {  // for IPv4 and IPv6 only
        (family() == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(any).sin6_port : reinterpret_cast<sockaddr_in&>(any).sin_port) = htons(p);
    }
    bool loopback() const noexcept {
        if (family() == AF_INET) return (ntohl(v4().sin_addr.s_addr) >> 24) == 127;
        if (family() != AF_INET6) return family() == AF_UNIX;
        return IN6_IS_ADDR_LOOPBACK(&v6().sin6_addr) ||
               (IN6_IS_ADDR_V4MAPPED(&v6().sin6_addr) && v6().sin6_addr.s6_addr[12] == 127);
    }
    /// "127.0.0.1", "fe80::1%eth0", "/run/x.sock", "@name"
    string text() const {
        char out[INET6_ADDRSTRLEN + 1] = "";
        if (family() == AF_INET) ::inet_ntop(AF_INET, &v4().sin_addr, out, sizeof out);
        if (family() == AF_INET6) ::inet_ntop(AF_INET6, &v6().sin6_addr, out, sizeof out);
        if (family() == AF_UNIX && size > offsetof(sockaddr_un, sun_path)) {
            const char* path = local().sun_path;
            const std::size_t room = size - offsetof(sockaddr_un, sun_path);
            if (*path == 0) return text_of({"@", {path + 1, room - 1}});
            return {path, ::strnlen(path, room)};
        }
        if (family() != AF_INET6 || v6().sin6_scope_id == 0) return out;
        char name[IF_NAMESIZE] = "";
        const digits number(v6().sin6_scope_id);
        return text_of({out, "%", ::if_indextoname(v6().sin6_scope_id, name) ? std::string_view(name) : number});
    }
    /// "127.0.0.1:80", "[::1]:80", "unix:/run/x.sock"
    string text_with_port() const {
        if (family() == AF_UNIX) return text_of({"unix:", text()});
        const bool v6 = family() == AF_INET6;
        return text_of({v6 ? "[" : "", text(), v6 ? "]:" : ":", digits(port())});
    }
};

inline bool is_localhost(std::string_view host) noexcept {
    return (host.size() == 9 || (host.size() == 10 && host[9] == '.')) && ::strncasecmp(host.data(), "localhost", 9) == 0;
}
/// Parses a result of text(), "localhost" (as IPv4) and "unix:..."; false for any other text.
inline bool parse_address(std::string_view host, std::uint16_t port, net_address& to) noexcept {
    to = {};
    if (host.substr(0, 5) == "unix:") host.remove_prefix(5);
    if (!host.empty() && (host[0] == '/' || host[0] == '@')) {
        auto& made = reinterpret_cast<sockaddr_un&>(to.any);
        made.sun_family = AF_UNIX;
        if (host.size() >= sizeof made.sun_path || host.find('\0') != host.npos) return false;
        std::memcpy(made.sun_path, host.data(), host.size());
        const bool abstract = host[0] == '@';
        if (abstract) made.sun_path[0] = 0;
        to.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + host.size() + (abstract ? 0 : 1));
        return true;
    }
    if (is_localhost(host)) host = "127.0.0.1";
    char text[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
    if (host.empty() || host.size() >= sizeof text) return false;
    std::memcpy(text, host.data(), host.size());
    text[host.size()] = 0;
    auto& v4 = reinterpret_cast<sockaddr_in&>(to.any);
    if (::inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        v4.sin_family = AF_INET;
        v4.sin_port = htons(port);
        to.size = sizeof v4;
        return true;
    }
    auto& v6 = reinterpret_cast<sockaddr_in6&>(to.any);
    if (char* zone = std::strchr(text, '%')) {
        *zone++ = 0;
        v6.sin6_scope_id = ::if_nametoindex(zone);
        if (v6.sin6_scope_id == 0) v6.sin6_scope_id = static_cast<std::uint32_t>(std::strtoul(zone, nullptr, 10));
        if (v6.sin6_scope_id == 0) return false;
    }
    if (::inet_pton(AF_INET6, text, &v6.sin6_addr) != 1) return false;
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    to.size = sizeof v6;
    return true;
}

inline net_address local_address(int fd) noexcept {
    net_address at;
    at.size = sizeof at.any;
    if (sys::getsockname(fd, at.get(), &at.size) != 0) at.size = 0;
    return at;
}
inline net_address peer_address(int fd) noexcept {
    net_address at;
    at.size = sizeof at.any;
    if (sys::getpeername(fd, at.get(), &at.size) != 0) at.size = 0;
    return at;
}

/// A stream socket, non-blocking, closed on exec, that raises no SIGPIPE.
inline descriptor make_socket(int family, int type = SOCK_STREAM) noexcept {
    descriptor made(raw_socket(family, type));
    if (made) no_sigpipe(made.get());
    return made;
}

inline void no_delay(int fd) noexcept {
    const int on = 1;
    sys::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // fails on unix sockets, which do not need it
}

/// Limits the unsent octets that the system buffers to 64 kB; the default is megabytes.
inline void keep_little_unsent([[maybe_unused]] int fd) noexcept {
#if defined(TCP_NOTSENT_LOWAT)
    const int octets = 65536;
    sys::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &octets, sizeof octets);
#endif
}

/// Listens; "::" accepts IPv4 too. The file of a unix socket on which no process listens is replaced.
inline result<descriptor> listen_on(const net_address& at, int backlog) {
    const auto failed = [&](int code) { return error::from_errno(text_of({"cannot listen on ", at.text_with_port()}), code); };
    descriptor fd = make_socket(at.family());
    if (!fd) return failed(errno);
    const int on = 1, v6only = 0;
    if (at.family() != AF_UNIX) sys::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
#if defined(__linux__)
    if (at.family() != AF_UNIX) no_delay(fd.get());  // accepted sockets inherit it
#endif
    if (at.family() == AF_INET6) sys::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
    int bound = sys::bind(fd.get(), at.get(), at.size);
    if (bound != 0 && errno == EADDRINUSE && at.family() == AF_UNIX && at.local().sun_path[0] != 0) {
        struct stat file;  // a regular file refuses connections too
        const descriptor probe = make_socket(AF_UNIX);
        if (probe && sys::lstat(at.local().sun_path, &file) == 0 && S_ISSOCK(file.st_mode) && file.st_uid == ::geteuid() &&
            sys::connect(probe.get(), at.get(), at.size) != 0 && errno == ECONNREFUSED && sys::unlink(at.local().sun_path) == 0)
            bound = sys::bind(fd.get(), at.get(), at.size);
        else errno = EADDRINUSE;
    }
    if (bound != 0 || sys::listen(fd.get(), backlog) != 0) return failed(errno);
    return fd;
}

/// Accepts a connection; -1 and errno without one.
inline int accept_on(int listener, net_address& from) noexcept {
    const int fd = uninterrupted([&] {
        from.size = sizeof from.any;
        return raw_accept(listener, from.get(), &from.size);
    });
    if (fd >= 0) no_sigpipe(fd);
#if !defined(__linux__)
    if (fd >= 0) no_delay(fd);
#endif
    return fd;
}

/// The result of a connect, 0 or an errno, once the descriptor is writable. With kqueue the event may already have
/// consumed SO_ERROR.
inline int connect_error(int fd) noexcept {
    int code = 0;
    socklen_t size = sizeof code;
    if (sys::getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) != 0) return errno;
    if (code != 0 || peer_address(fd).size != 0) return code;
    char octet;
    return uninterrupted([&] { return sys::recv(fd, &octet, 1, MSG_PEEK); }) < 0 ? errno : ENOTCONN;
}

/// Wakes a waiting poller from any thread or signal handler: a descriptor that is readable after ring().
class pipe_waker {
public:
    bool open() noexcept {
        int ends[2];
        if (!make_pipe(ends)) return false;
        out_.reset(ends[0]);
        in_.reset(ends[1]);
        return true;
    }
    int fd() const noexcept { return out_.get(); }
    void ring() const noexcept {  // async-signal-safe; if the pipe is full, it is readable already
        const int kept = errno;
        uninterrupted([&] { return sys::write(in_.get(), "", 1); });
        errno = kept;
    }
    void silence() const noexcept {
        char rings[64];
        while (uninterrupted([&] { return sys::read(out_.get(), rings, sizeof rings); }) == sizeof rings) {}
    }

private:
    descriptor out_, in_;
};

#if PROMETHEUS_ASYNC_DETAIL_LINUX
class event_waker {
public:
    bool open() noexcept {
        fd_.reset(sys::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
        return bool(fd_);
    }
    int fd() const noexcept { return fd_.get(); }
    void ring() const noexcept {
        const std::uint64_t one = 1;
        const int kept = errno;
        uninterrupted([&] { return sys::write(fd_.get(), &one, sizeof one); });
        errno = kept;
    }
    void silence() const noexcept {
        std::uint64_t rings;
        uninterrupted([&] { return sys::read(fd_.get(), &rings, sizeof rings); });
    }

private:
    descriptor fd_;
};
#endif

}  // namespace detail
PROMETHEUS_ASYNC_END
#endif

// =============================================================================
// [41] process                                      process_* from /proc
//      needs [24] [40]
// =============================================================================
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

PROMETHEUS_ASYNC_BEGIN
namespace detail {

/// Returns whether process metrics were added to the registry before, and stores `added`.
bool note_process_metrics(registry& of, bool added);

class proc_file {
public:
    explicit proc_file(const string& path, int how = 0) noexcept
        : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | how)) {}
    proc_file(const proc_file&) = delete;
    ~proc_file() { if (fd_ >= 0) ::close(fd_); }
    int fd() const noexcept { return fd_; }

    std::size_t read(char* to, std::size_t room) const noexcept {
        ssize_t n = -1;
        if (fd_ >= 0) do n = ::read(fd_, to, room); while (n < 0 && errno == EINTR);
        return n < 0 ? 0 : static_cast<std::size_t>(n);
    }
    /// The number after `key`, which begins a line. Lines of /proc/stat may have many kilobytes.
    bool number_after(std::string_view key, std::uint64_t& number) const noexcept {
        char buffer[512];
        std::size_t matched = 0;  // octets of the key, from the begin of the line; above its size: it is not this line
        bool digits = false;
        number = 0;
        while (const std::size_t n = read(buffer, sizeof buffer))
            for (const char c : std::string_view(buffer, n)) {
                if (matched != key.size()) {
                    if (c == '\n') matched = 0;
                    else matched = matched < key.size() && c == key[matched] ? matched + 1 : key.size() + 1;
                } else if (legacy_digit(c)) {
                    digits = true;
                    number = number * 10 + static_cast<std::uint64_t>(c - '0');
                } else if (digits || c != ' ') {
                    if (!digits && c == 'u') number = ~std::uint64_t{0};  // unlimited
                    return digits || c == 'u';
                }
            }
        return digits;
    }

private:
    int fd_;
};

/// Reads what the system reports about this process.
struct process_facts {
    string proc;
    double started = 0;  // read once, because the kernel's boot time changes when the clock is set

    process_facts() : process_facts("/proc") {}
    explicit process_facts(std::string_view from) : proc(from) {
        std::uint64_t field[25], boot = 0;
        if (stat(field) && proc_file(proc + "/stat").number_after("btime ", boot))
            started = static_cast<double>(boot) + ticks(field[22]);
    }
    static double ticks(std::uint64_t n) noexcept {
        return static_cast<double>(n) / static_cast<double>(::sysconf(_SC_CLK_TCK));
    }

    /// Fields of /proc/self/stat by their numbers in proc(5), from the fourth on. The second is the
    /// program's name, which may hold anything.
    bool stat(std::uint64_t (&field)[25]) const noexcept {
        char buffer[1024];
        const proc_file file(proc + "/self/stat");
        const std::string_view text(buffer, file.read(buffer, sizeof buffer));
        std::size_t at = text.rfind(')');
        if (at == std::string_view::npos || (at += 4) > text.size()) return false;  // ") S "
        for (std::size_t i = 4; i != 25; ++i) {
            field[i] = 0;
            while (at < text.size() && text[at] != ' ') {
                const char c = text[at++];
                if (legacy_digit(c)) field[i] = field[i] * 10 + static_cast<std::uint64_t>(c - '0');
            }
            if (at++ == text.size() && i != 24) return false;
        }
        return field[20] != 0;  // a running process has a thread: an emulator (qemu-user) writes zeros for fields that it does not support
    }
    bool open_files(std::uint64_t& count) const noexcept {
#if defined(__linux__)
        const proc_file folder(proc + "/self/fd", O_DIRECTORY);
        if (folder.fd() < 0) return false;
        alignas(8) char buffer[1024];
        const label_text own(folder.fd());
        count = 0;
        for (;;) {  // readdir would allocate
            const long n = ::syscall(SYS_getdents64, folder.fd(), buffer, sizeof buffer);
            if (n <= 0) return n == 0;
            for (long at = 0; at < n;) {
                std::uint16_t size = 0;  // struct linux_dirent64: u64, u64, u16 size, u8 type, name
                std::memcpy(&size, buffer + at + 16, sizeof size);
                const std::string_view name(buffer + at + 19);
                count += name[0] != '.' && name != own.view();
                at += size;
            }
        }
#else
        return static_cast<void>(count), false;
#endif
    }
    void collect(sample_sink& out) const {
        const auto show = [&](const char* name, const char* unit, const char* help, double value) {
            const bool counts = name == std::string_view("process_cpu_seconds");
            out.family(counts ? metric_type::counter : metric_type::gauge, name, help, unit);
            out.sample(value);
        };
        const auto cpu = [&](double value) {
            show("process_cpu_seconds", "seconds", "Total user and system CPU time spent in seconds.", value);
        };
        const auto limit = [&](const char* line, const char* name, const char* unit, const char* help) {
            std::uint64_t n = 0;
            if (proc_file(proc + "/self/limits").number_after(line, n)) show(name, unit, help, static_cast<double>(n));
        };
        std::uint64_t field[25], files = 0;
        rusage used;
        const auto spent = [](const timeval& t) {
            return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
        };
        const bool known = stat(field);
        if (known) cpu(ticks(field[14] + field[15]));
        else if (proc == "/proc" && ::getrusage(RUSAGE_SELF, &used) == 0)
            cpu(spent(used.ru_utime) + spent(used.ru_stime));
        if (open_files(files))
            show("process_open_fds", "", "Number of open file descriptors.", static_cast<double>(files));
        limit("Max open files", "process_max_fds", "", "Maximum number of open file descriptors.");
        if (known)
            show("process_virtual_memory_bytes", "bytes", "Virtual memory size in bytes.",
                 static_cast<double>(field[23]));
        limit("Max address space", "process_virtual_memory_max_bytes", "bytes",
              "Maximum amount of virtual memory available in bytes.");
        if (known) {
            show("process_resident_memory_bytes", "bytes", "Resident memory size in bytes.",
                 static_cast<double>(field[24]) * static_cast<double>(::sysconf(_SC_PAGESIZE)));
            show("process_threads", "", "Number of OS threads in the process.", static_cast<double>(field[20]));
        }
        if (started > 0)
            show("process_start_time_seconds", "seconds",
                 "Start time of the process since unix epoch in seconds.", started);
    }
};

}  // namespace detail

void add_process_metrics(registry& to, std::string_view proc) {
    if (detail::note_process_metrics(to, true)) return;
    detail::undo mark{[&] { detail::note_process_metrics(to, false); }};
    to.add_collector([facts = detail::process_facts(proc)](sample_sink& out) { facts.collect(out); }).keep();
    mark.done = true;
}

PROMETHEUS_ASYNC_END

// =============================================================================
// [42] core                                         cells, records, tables, registry bodies
//      needs [22] [40]
// =============================================================================
//
// One object holds all state of the library. It is constant-initialised and never destroyed, and all allocated
// memory is reachable from it. One lock protects all slow operations.
//
// An update of a shared run takes no lock: the thread makes its epoch odd, reads the run's tag, adds if that is
// the handle's id, and makes its epoch even. The removal of a series writes another tag and then reads all
// epochs. All four are sequentially consistent, so either the update sees the new tag, or the removal sees the
// odd epoch. In that case run, record and bounds are not used again until that epoch has changed; the lock is released meanwhile.
// Where the system has membarrier(2), the removal calls it between its two steps: this is a fence in each thread, so updates need none.
#include <algorithm>
#if !PROMETHEUS_ASYNC_NO_THREADS
#include <sched.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif
#if defined(__GLIBC__) && PROMETHEUS_ASYNC_DETAIL_LINUX
#include <link.h>
#include <sys/auxv.h>
extern "C" __attribute__((__weak__, __visibility__("hidden"))) const ElfW(Ehdr) __ehdr_start;  // defined by the linker for this object
extern "C" __attribute__((__weak__)) void __lsan_disable();                                // by a sanitizer, where there is one
extern "C" __attribute__((__weak__)) void __lsan_enable();
#endif
#endif

PROMETHEUS_ASYNC_BEGIN
namespace detail {

/// The memory of a pod_vector, with room for `want` elements or more; null without memory.
PROMETHEUS_ASYNC_DETAIL_ONCE static void* grow_table(void* data, std::size_t& room, std::size_t want, std::size_t each) noexcept {
    if (want < 4) want = 4;
    const std::size_t more = want > room + room / 2 ? want : room + room / 2;
    void* const grown = resize_memory(data, room * each, more * each);
    if (grown) room = more;
    return grown;
}

/// A vector of trivial elements that is trivial itself: it can be constant-initialised, and is freed only by an
/// explicit call.
template <class T>
struct pod_vector {
    static_assert(std::is_trivially_copyable_v<T>);
    T* data;
    std::size_t size, room;

    T* begin() const noexcept { return data; }
    T* end() const noexcept { return data + size; }
    T& operator[](std::size_t i) const noexcept { return data[i]; }
    T& back() const noexcept { return data[size - 1]; }
    bool empty() const noexcept { return size == 0; }
    bool try_reserve(std::size_t want) noexcept {
        if (want <= room) return true;
        auto* grown = static_cast<T*>(grow_table(data, room, want, sizeof(T)));
        if (!grown) return false;
        data = grown;
        return true;
    }
    void reserve(std::size_t want) { if (!try_reserve(want)) no_memory(); }
    void push(const T& x) {
        const T kept = x;
        reserve(size + 1);
        data[size++] = kept;
    }
    void release() noexcept {
        give_table_memory(data, room * sizeof(T));
        *this = {};
    }
};

/// Stands for pages that are not allocated: its tags match no id.
static constinit cell nowhere[page_cells] = {};

struct cell_block {
    cell** pages;
    std::uint32_t count;

    cell* run_at(std::uint32_t place) const noexcept {
        return page_of(place) < count ? pages[page_of(place)] + offset_of(place) : nowhere;
    }
    /// The page; allocated if necessary; null without memory.
    cell* touch(std::uint32_t page) noexcept {
        if (page >= count) {
            std::uint32_t wide = count < 4 ? 4 : count * 2;
            if (wide <= page) wide = page + 1;
            auto** grown = static_cast<cell**>(resize_memory(pages, count * sizeof(cell*), wide * sizeof(cell*)));
            if (!grown) return nullptr;
            for (std::uint32_t i = count; i != wide; ++i) grown[i] = nowhere;
            pages = grown;
            count = wide;
        }
        if (pages[page] == nowhere) {
            // Aligned, so that two threads never share a cache line.
            void* fresh = take_table_memory(page_cells * sizeof(cell), 128);
            if (!fresh) return nullptr;
            std::memset(fresh, 0, page_cells * sizeof(cell));
            __atomic_store_n(&pages[page], static_cast<cell*>(fresh), __ATOMIC_RELAXED);
        }
        return pages[page];
    }
    void release() noexcept {
        for (std::uint32_t i = 0; i != count; ++i) if (pages[i] != nowhere) give_table_memory(pages[i], page_cells * sizeof(cell));
        give_table_memory(pages, count * sizeof(cell*));
        pages = nullptr;
        count = 0;
    }
};

/// Whether updates of shared runs need no lock. Without 64-bit atomic additions a thread has its own run from the first update.
constexpr bool adds_to_shared = PROMETHEUS_ASYNC_DETAIL_WIDE && !PROMETHEUS_ASYNC_NO_THREADS;

#if !PROMETHEUS_ASYNC_NO_NATIVE
// The run of a native histogram has two more integers, for zeros and NaN. Its buckets are in windows: runs for 32
// adjacent keys and the sum of their observations, made when the first of them is observed. A window is found through
// a table that belongs to the record and only grows, so code that may use the record may use the window. The tag of a
// window is the series' id with the window's length. Its place is freed only with the series, so no other series ever has this tag there.
constexpr unsigned window_keys = 32, window_kind = run_kind(cell_rule::sum, window_keys + 2);
/// How far pages have reduced a histogram since its last reset. It is never reduced less, because a scraper would take that
/// for a reset.
struct native_reduction {
    std::uint8_t coarser;
    std::int32_t zeros;  // the key of schema 8 up to which observations are in the zero bucket
    static constexpr std::int32_t none = -2147483647;
};
struct native_window {
    std::uint32_t name;   // 0: none; written last
    std::uint32_t place;
    static std::uint32_t name_of(std::uint32_t biased, bool negative, unsigned level) noexcept {
        return level << 24 | std::uint32_t{negative} << 20 | biased / window_keys;  // which is not 0
    }
    bool negative() const noexcept { return (name >> 20 & 1) != 0; }
    unsigned level() const noexcept { return name >> 24 & 15; }
    std::uint32_t first_biased() const noexcept { return (name & 0xfffff) * window_keys; }
    std::uint32_t seen() const noexcept { return __atomic_load_n(&name, __ATOMIC_ACQUIRE); }
    void publish(std::uint32_t as, std::uint32_t at) noexcept {
        place = at;
        __atomic_store_n(&name, as, __ATOMIC_RELEASE);
    }
};
struct native_table {
    native_table* older;  // freed with the record: an update may be reading it
    std::uint32_t mask, used;

    native_window* windows() noexcept { return reinterpret_cast<native_window*>(this + 1); }
    static std::size_t bytes(std::uint32_t size) noexcept { return sizeof(native_table) + size * sizeof(native_window); }
    /// The window of this name, or a free place for it.
    native_window& at(std::uint32_t name) noexcept {
        for (std::uint32_t i = name ^ name >> 17;; ++i) {
            native_window& w = windows()[i & mask];
            const std::uint32_t have = w.seen();
            if (have == name || have == 0) return w;
        }
    }
    void put(std::uint32_t name, std::uint32_t place) noexcept {
        at(name).publish(name, place);
        ++used;
    }
};
/// The additional part of a record of a native histogram.
struct native_cells {
    native_table* table;      // windows whose place in `first` was occupied; may be null
    native_reduction shown;   // by pages, since the last reset
    native_window first[16];

    static native_cells& of(const record& r) noexcept {
        return reinterpret_cast<native_cells*>(reinterpret_cast<char*>(const_cast<record*>(&r)) + r.units * std::size_t{16})[-1];
    }
    native_window& home(std::uint32_t name) noexcept { return first[(name ^ name >> 17) % std::size(first)]; }
    native_window* find(std::uint32_t name) noexcept {
        native_window& w = home(name);
        if (w.seen() == name) return &w;
        native_table* more = __atomic_load_n(&table, __ATOMIC_ACQUIRE);
        if (!more) return nullptr;
        native_window& other = more->at(name);
        return other.seen() != 0 ? &other : nullptr;
    }
    template <class F>
    void each(F f) const {
        for (unsigned i = 0; i != std::size(first); ++i)  // windows of values below 1 first, so that the order is mostly ascending
            if (const native_window& w = first[(i + std::size(first) / 2) % std::size(first)]; w.name != 0) f(w);
        for (std::uint32_t i = 0; table && i <= table->mask; ++i) if (const native_window& w = table->windows()[i]; w.name != 0) f(w);
    }
    /// False without memory.
    bool add(std::uint32_t name, std::uint32_t place) noexcept {
        if (native_window& w = home(name); w.name == 0) return w.publish(name, place), true;
        const std::uint32_t size = table ? table->mask + 1 : 0;
        if (!table || (table->used + 1) * 2 > size) {
            const std::uint32_t more = table ? size * 2 : 8;
            auto* wider = static_cast<native_table*>(resize_memory(nullptr, 0, native_table::bytes(more)));
            if (!wider) return false;
            std::memset(static_cast<void*>(wider), 0, native_table::bytes(more));
            wider->older = table;
            wider->mask = more - 1;
            for (std::uint32_t i = 0; i != size; ++i) if (const native_window& w = table->windows()[i]; w.name != 0) wider->put(w.name, w.place);
            __atomic_store_n(&table, wider, __ATOMIC_RELEASE);
        }
        table->put(name, place);
        return true;
    }
    void release() noexcept {
        while (table) {
            native_table* const last = std::exchange(table, table->older);
            give_table_memory(last, native_table::bytes(last->mask + 1));
        }
    }
};
#endif

struct thread_record : allocated {
    cell_block block;
    thread_cells* cells;  // the part of the block that the thread itself reads
    pod_vector<record*> owes;    // removed gauges and histograms that this thread may have been updating
    thread_record* next;
    thread_record** link;
    std::uintptr_t epoch = 0;        // odd while the thread updates a shared run
    std::uintptr_t seen_epoch = 0;   // when series were removed; if even, these do not wait for this thread
    std::uint32_t hits[256] = {};    // by series: 24 bits of its id, 8 bits of a count

    /// Counts an update; true when the series is updated often enough for an own run. Series that share an entry reduce
    /// each other's count, so that only a much more frequent one reaches the limit.
    bool comes_often(std::uint64_t id) noexcept {
        constexpr std::uint32_t often = 32;
        const std::uint64_t sequence = id >> 12;
        const auto name = static_cast<std::uint32_t>(sequence >> 8) << 8;
        std::uint32_t& have = hits[sequence & 255];
        if ((have & ~std::uint32_t{255}) != name) {
            if ((have & 255) != 0) return --have, false;
            have = name;
        }
        if ((++have & 255) < often) return false;
        have = 0;
        return true;
    }
};

enum class membarrier_command : int { fence = 8, enable = 16 };  // of this process only
/// False where it is missing, and with ThreadSanitizer, which does not know it.
static bool membarrier([[maybe_unused]] membarrier_command what) noexcept {
#if defined(__SANITIZE_THREAD__)
    return false;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
    return false;
#endif
#endif
#if defined(SYS_membarrier) && !PROMETHEUS_ASYNC_NO_THREADS
    return ::syscall(SYS_membarrier, static_cast<int>(what), 0) == 0;
#else
    return false;
#endif
}

struct fingerprint {
    std::uint64_t low, high;
    bool operator==(const fingerprint&) const = default;
};
/// SipHash-2-4 (Aumasson and Bernstein 2012) with a result of 128 bits.
static fingerprint siphash(const std::uint64_t (&key)[2], std::string_view text) noexcept {
    std::uint64_t v0 = key[0] ^ 0x736f6d6570736575, v1 = key[1] ^ 0x646f72616e646f6d ^ 0xee;
    std::uint64_t v2 = key[0] ^ 0x6c7967656e657261, v3 = key[1] ^ 0x7465646279746573;
    const auto turned = [](std::uint64_t x, int by) { return x << by | x >> (64 - by); };
    const auto rounds = [&](int n) {
        for (; n != 0; --n) {
            v0 += v1, v1 = turned(v1, 13) ^ v0, v0 = turned(v0, 32);
            v2 += v3, v3 = turned(v3, 16) ^ v2;
            v0 += v3, v3 = turned(v3, 21) ^ v0;
            v2 += v1, v1 = turned(v1, 17) ^ v2, v2 = turned(v2, 32);
        }
    };
    const auto take = [&](std::uint64_t word) {
        v3 ^= word;
        rounds(2);
        v0 ^= word;
    };
    std::size_t at = 0;
    for (; text.size() - at >= 8; at += 8) take(load_little<std::uint64_t>(text.data() + at));
    std::uint64_t last = std::uint64_t{text.size()} << 56;
    for (int shift = 0; at != text.size(); shift += 8) last |= std::uint64_t{static_cast<unsigned char>(text[at++])} << shift;
    take(last);
    v2 ^= 0xee;
    rounds(4);
    const std::uint64_t low = v0 ^ v1 ^ v2 ^ v3;
    v1 ^= 0xdd;
    rounds(4);
    return {low, v0 ^ v1 ^ v2 ^ v3};
}

/// What only programs need that remove series.
struct removal_code {
    void (*recycle)() noexcept;
    bool (*release_owed)(thread_record& t) noexcept;
};

struct library {
#if !PROMETHEUS_ASYNC_NO_THREADS
    mutex lock;
    pthread_cond_t collected = PTHREAD_COND_INITIALIZER;
    unsigned waiting = 0, let_in = 0;  // how many threads have begun to wait for the lock, and how many of them got it
    bool hooked = false, keyed = false;
    bool stays = false;  // the key has ended a thread: a thread_end would be made too late to be destroyed
    pthread_key_t key = {};  // its destructor calls end_thread
#endif
    bool fences = false;  // removals make a fence in each thread
    std::uint64_t sequence = 0;
    std::uint64_t secret[2] = {};  // taken when the first registry is used
    bool seeded = false;
    const removal_code* removals = nullptr;  // null until the first series is removed
    void (*fold_extremes)(cell* to, const cell* from) noexcept = nullptr;  // set when the first min_max_gauge is declared
    void (*after_fork)() noexcept = nullptr;  // of collectors; null until there is one
    std::uint64_t counted[32] = {};
    std::uint64_t reported[32] = {};  // how many of those were given to an on_event
    thread_record* threads = nullptr;
    unsigned thread_count = 0;

    // The shared runs. The tag of each says which series it belongs to, or that it is free. Cells of ending threads are added to them.
    cell_block shared = {};
    std::uint32_t open_page = 0, open_offset = 0;  // the first cell that was never used
    std::uint32_t free_runs[256] = {};             // by exact length: place + 1, linked through cell 1

    // Memory that lookups read without the lock: used again for the same size only, never freed or split.
    char* arena = nullptr;
    std::size_t arena_left = 0, arena_size = 0;
    void* arenas = nullptr;
    record* free_records[160] = {};
    record* removed = nullptr;  // linked through `extra`; then they are
    record* resting = nullptr;  // until each thread has left the epoch in which it was seen
    family_face* free_faces = nullptr;
    pod_vector<std::uintptr_t*> free_tables[48] = {};
    std::uint32_t tables_made[48] = {}, all_tables_made = 0;  // there is room for each in free_tables, and in
    pod_vector<std::uintptr_t> uncleared_tables = {};  // unused tables that are not cleared yet; with the log2 of their sizes
    std::size_t cleared = 0;                      // entries of the last of them
    record* tombstone = nullptr;                     // a tombstone: its key equals no key

    pod_vector<bucket_bounds*> bounds = {};  // chains by hash
    std::size_t bounds_count = 0;
    pod_vector<registry_state*> registries = {};  // by id
    bool (*target)(page_state& page, page_window& out) = nullptr;  // shows target_info; null if none was declared
    pod_vector<char> scratch = {};
    registry* standard = nullptr;
    alignas(registry) unsigned char standard_space[sizeof(registry)] = {};

    /// Made at the first call, and never destroyed.
    registry& default_registry() noexcept {
        if (!standard) standard = ::new (static_cast<void*>(standard_space)) registry;
        return *standard;
    }
    std::uint64_t next_id(unsigned kind) noexcept { return ++sequence << 12 | kind; }
    /// A new id for the same cells, which no handle has.
    std::uint64_t next_id_like(std::uint64_t id) noexcept { return next_id(static_cast<unsigned>(id & 0xfff)); }
    void take_seed() noexcept { if (!std::exchange(seeded, true)) take_secret(secret); }
    /// Represents a text: a keyed function of 128 bits that cannot be distinguished from a random one without its key.
    /// Among 2^40 texts, also if an attacker chose them, two have the same fingerprint with a probability of 2^-49.
    fingerprint fingerprint_of(std::string_view text) const noexcept { return siphash(secret, text); }
    fingerprint fingerprint_of(std::uint64_t n) const noexcept { return fingerprint_of({reinterpret_cast<const char*>(&n), sizeof n}); }

    /// Null without memory.
    void* try_type_stable(std::size_t bytes, std::size_t align = 64) noexcept {
        const std::size_t gap = (0 - reinterpret_cast<std::uintptr_t>(arena)) & (align - 1);
        if (gap + bytes <= arena_left) {
            arena_left -= gap + bytes;
            return std::exchange(arena, arena + gap + bytes) + gap;
        }
        const std::size_t wide = arena_size == 0 ? 4096 : arena_size >= 131072 ? 262144 : arena_size * 2;
        const std::size_t want = bytes + 64 > wide ? bytes + 64 : wide;
        auto* made = static_cast<char*>(take_table_memory((want + 63) & ~std::size_t{63}, 64));
        if (!made) return nullptr;
        arena_size = wide;
        *reinterpret_cast<void**>(made) = arenas;
        arenas = made;
        if (want - 64 - bytes < arena_left) return made + 64;  // keep the larger rest
        arena = made + 64 + bytes;
        arena_left = want - 64 - bytes;
        return made + 64;
    }
    void* type_stable(std::size_t bytes, std::size_t align = 64) {
        void* const made = try_type_stable(bytes, align);
        if (!made) no_memory();
        return made;
    }

    // ---- runs ----

    /// Makes sure that take_run cannot fail; false without memory. Updates read the list of pages without the lock, so an
    /// outgrown list is not freed.
    bool ensure_run(unsigned length) noexcept {
        const std::uint32_t page = open_page + (open_offset + length > page_cells);
        if (free_runs[length] != 0) return true;
        if (page >= most_pages) return false;
        if (page >= shared.count) {
            const std::uint32_t wide = shared.count == 0 ? 16 : shared.count * 2;
            auto** grown = static_cast<cell**>(try_type_stable(wide * sizeof(cell*)));
            if (!grown) return false;
            for (std::uint32_t i = 0; i != wide; ++i) grown[i] = i < shared.count ? shared.pages[i] : nowhere;
            __atomic_store_n(&shared.pages, grown, __ATOMIC_RELEASE);
            shared.count = wide;
        }
        return shared.touch(page) != nullptr;
    }
    std::uint32_t take_run(unsigned length) noexcept {
        if (const std::uint32_t head = free_runs[length]) {
            cell* run = shared.run_at(head - 1);
            free_runs[length] = static_cast<std::uint32_t>(run[1].own());
            run[1].store(0);
            return head - 1;
        }
        if (open_offset + length > page_cells) {
            ++open_page;
            open_offset = 0;
        }
        const std::uint32_t place = place_of(open_page, open_offset);
        open_offset += length;
        return place;
    }
    void give_run(std::uint32_t place, std::uint64_t id) noexcept {
        cell* run = shared.run_at(place);
        const unsigned length = run_length(id);
        for (unsigned i = 2; i < length; ++i) run[i].store(0);
        run[0].store(next_id_like(id));
        run[1].store(free_runs[length]);
        free_runs[length] = place + 1;
    }

    // ---- records and tables ----

    static constexpr std::size_t cleared_at_once = 65536 / sizeof(std::uintptr_t);  // places of a table

    static unsigned record_class(std::uint32_t units) noexcept {
        return units <= 128 ? units : 128 + static_cast<unsigned>(32 - __builtin_clz(units - 1)) - 7;
    }
    record* take_record(std::uint32_t units) {
        if (units > 128) units = std::uint32_t{1} << (32 - __builtin_clz(units - 1));
        record*& head = free_records[record_class(units)];
        record* r = head;
        if (r) head = reinterpret_cast<record*>(r->extra);
        else (r = static_cast<record*>(type_stable(units * std::size_t{16}, units % 4 == 0 ? 64 : 16)))->units = units;
        r->extra = nullptr;
        return r;
    }
    void give_record(record* r) noexcept {
        record*& head = free_records[record_class(r->units)];
        r->extra = reinterpret_cast<series_extra*>(head);
        head = r;
    }
    std::uintptr_t* take_table(unsigned log2) {
        auto& pool = free_tables[log2];
        if (!pool.empty()) return pool[--pool.size];
        pool.reserve(tables_made[log2] + 1);
        uncleared_tables.reserve(all_tables_made + 1);
        const std::size_t bytes = sizeof(std::uintptr_t) << log2;
        const bool large = bytes >= sizeof(std::uintptr_t) * cleared_at_once;
        auto* table = static_cast<std::uintptr_t*>(large ? map_zeros(bytes) : type_stable(bytes < 64 ? 64 : bytes));
        if (!table) no_memory();
        if (!large) std::memset(table, 0, bytes);
        ++tables_made[log2], ++all_tables_made;
        return table;
    }
    /// Frees a table. It can be used again when it has been cleared: a small one at once, if no other waits for that.
    void give_table(std::uintptr_t* table, unsigned log2) noexcept {
        uncleared_tables.push(reinterpret_cast<std::uintptr_t>(table) | log2);
        if (uncleared_tables.size > 1) std::swap(uncleared_tables.back(), (&uncleared_tables.back())[-1]);  // the one whose clearing has begun stays the last
        clear_tables();
    }
    /// Clears a portion. True when there is more.
    bool clear_tables() noexcept {
        if (uncleared_tables.empty()) return false;
        const auto log2 = static_cast<unsigned>(uncleared_tables.back() & 63);
        auto* table = reinterpret_cast<std::uintptr_t*>(uncleared_tables.back() & ~std::uintptr_t{63});
        const std::size_t begin = cleared, size = std::size_t{1} << log2, end = (std::min)(begin + cleared_at_once, size);
        for (; cleared != end; ++cleared) {
            if (cleared % 64 == 0) PROMETHEUS_ASYNC_DETAIL_STEP();
            __atomic_store_n(&table[cleared], std::uintptr_t{0}, __ATOMIC_RELEASE);
        }
        give_back_zeros(&table[begin], (end - begin) * sizeof *table);
        if (end != size) return true;
        free_tables[log2].push(table);
        --uncleared_tables.size;
        cleared = 0;
        return !uncleared_tables.empty();
    }
    /// Makes the tombstone, which replaces a removed record in an older table: its keys equal those of no value.
    void make_tombstone() {
        if (tombstone) return;
        tombstone = take_record((sizeof(record) + 2 * 64 * 8 + 15) / 16);
        for (unsigned i = 0; i != 2 * 64; ++i) release(tombstone->key()[i], std::uint64_t{0x80} << 56);
        __atomic_store_n(&tombstone->hash, 0U, __ATOMIC_RELEASE);
    }

    // ---- threads ----

    /// Adds one run to the shared one of the same series, which other threads may be updating.
    void fold_run(cell* to, const cell* from, std::uint64_t id) const noexcept {
        switch (rule_of(id)) {
        case cell_rule::none: return;
        case cell_rule::sum:
        case cell_rule::sum_or_set:
            to[1].add_shared(from[1].real());
            for (unsigned i = 2; i < run_length(id); ++i) to[i].add_shared(from[i].load());
            return;
        case cell_rule::extremes: fold_extremes(to, from);
        }
    }
    /// A shared run is written only under the lock.
    static void fold_both_halves(cell* to, const cell* from) noexcept {
        for (unsigned half : {1U, 4U})
            if (const std::uint64_t turn = from[half].load_tag(); turn >= to[half].own())
                widen(to + half, turn, from[half + 1].real(), from[half + 2].real());
    }
    /// Moves the values of one page of a block to the shared cells, for the series that exist.
    void fold(cell_block& block, std::uint32_t page) noexcept {
        cell* const from = exchanged(block.pages[page], +nowhere);
        if (from == nowhere) return;
        cell* to = shared.pages[page];
        for (unsigned at = 0; at < page_cells && to[at].own() != 0; at += run_length(to[at].own())) {
            PROMETHEUS_ASYNC_DETAIL_STEP();
            if (const std::uint64_t id = to[at].own(); from[at].load() == id) fold_run(to + at, from + at, id);
        }
        give_table_memory(from, page_cells * sizeof(cell));
    }
    void release_bounds(bucket_bounds* b) noexcept {
        if (--b->users != 0) return;
        bucket_bounds** link = &bounds[b->hash & (bounds.size - 1)];
        while (*link != b) link = &(*link)->next;
        *link = b->next;
        --bounds_count;
        destroy(b);
    }
    static void destroy(bucket_bounds* b) noexcept {
        if (b->text) give_memory(b->text, b->ends[b->count] + bucket_bounds::spare, 1);
        give_memory(b->ends, (b->count + 1) * sizeof(std::uint16_t), alignof(std::uint16_t));
        give_memory(const_cast<double*>(b->upper), (b->half == 0 ? 1 : 2 * b->half) * sizeof(double), alignof(double));
        delete b;
    }
    /// Gives the run of a removed series a tag that no handle has. Its memory is used again only after recycle().
    void retire(record* r) noexcept {
        shared.run_at(r->place)->store_tag(next_id_like(r->id));
        ++r->owed;
        r->extra = reinterpret_cast<series_extra*>(removed);
        removed = r;
    }
    /// One thread fewer may be updating it.
    void release_record(record* r) noexcept {
        if (--r->owed != 0) return;
#if !PROMETHEUS_ASYNC_NO_NATIVE
        if (r->bounds && r->bounds->native) native_cells::of(*r).release();
#endif
        if (r->bounds) release_bounds(r->bounds);
        give_record(r);
    }
    /// Frees the memory of removed series that no update can access any more, in small portions. Never waits: a series that a
    /// thread may be updating is left for later.
    void recycle() noexcept { if (removals) removals->recycle(); }
    void recycle_removed() noexcept {
        clear_tables();
        for (int portion = 1024; portion > 0;) {
            if (!resting) {
                if (!removed || (fences && !membarrier(membarrier_command::fence))) return;
                resting = removed;
                removed = nullptr;
                for (thread_record* t = threads; t; t = t->next) t->seen_epoch = __atomic_load_n(&t->epoch, __ATOMIC_SEQ_CST);
            }
            for (thread_record* t = threads; t; t = t->next) {
                if ((t->seen_epoch & 1) == 0) continue;
                if (__atomic_load_n(&t->epoch, __ATOMIC_ACQUIRE) == t->seen_epoch) return;
                t->seen_epoch = 0;
            }
            for (; resting && portion > 0; --portion) {
                PROMETHEUS_ASYNC_DETAIL_STEP();
                record* r = resting;
                resting = reinterpret_cast<record*>(r->extra);
                give_run(r->place, r->id);
#if !PROMETHEUS_ASYNC_NO_NATIVE
                if (r->bounds && r->bounds->native) native_cells::of(*r).each([&](const native_window& w) { give_run(w.place, window_kind), --portion; });
#endif
                release_record(r);
            }
        }
    }
    /// Called by the thread between two updates: it is not updating any removed series now, and as the tags have changed, it
    /// will not do so again. Handles a portion: true when there is more.
    bool release_owed(thread_record& t) noexcept { return removals && removals->release_owed(t); }
    bool release_removed(thread_record& t) noexcept {
        for (int portion = 512; portion != 0 && !t.owes.empty(); --portion) {
            PROMETHEUS_ASYNC_DETAIL_STEP();
            record* r = t.owes[--t.owes.size];
            if (cell* run = t.block.run_at(r->place); run != nowhere && run->own() == r->id) run->store(0);
            release_record(r);
        }
        return !t.owes.empty();
    }
    /// Folds the cells of a thread that has ended. `rest` may release the lock: at any time each count is in exactly one place.
    template <class Rest>
    void forget(thread_record* t, Rest rest) noexcept {
        for (std::uint32_t page = 0; page != t->block.count;) {
            fold(t->block, page);
            if (++page % 2 == 0) rest();
        }
        while (release_owed(*t)) rest();  // it has no pages, so nothing is added to the list meanwhile
        t->owes.release();
        t->block.release();
        if ((*t->link = t->next)) t->next->link = t->link;
        --thread_count;
        delete t;
    }
};

/// Protects every shared_value on machines without 64-bit loads and stores; taken after other locks.
[[maybe_unused]] static constinit mutex values_lock;

static constinit library state;
static_assert(std::is_trivially_destructible_v<library>);

#if PROMETHEUS_ASYNC_NO_THREADS
thread_cells this_thread = {nullptr, 0, true};
struct global_lock {
    global_lock() noexcept = default;
    ~global_lock() { pause(); }
    void pause() noexcept { this_thread = {state.shared.pages, state.shared.count, true}; }  // the one block
    void resume() noexcept {}
    static void let_others_in() noexcept {}
};
static constexpr thread_record* this_record = nullptr;
static thread_record* attach() noexcept { return nullptr; }
static void hook_process() noexcept {}
#else
constinit thread_local thread_cells this_thread = {nullptr, 0, false};
static constinit thread_local thread_record* this_record = nullptr;  // only its own thread reads it

/// The lock, held.
struct global_lock {
    global_lock() noexcept { resume(); }
    ~global_lock() { pause(); }
    void pause() noexcept { state.lock.unlock(); }  // around calls of user code
    void resume() noexcept { take(); }
    /// Called during long work: one of the waiting threads gets the lock, and then this thread gets it back.
    static void let_others_in() noexcept {
        state.lock.unlock();
        const unsigned let_in = __atomic_load_n(&state.let_in, __ATOMIC_RELAXED);
        for (int i = 0; i != 1000 && __atomic_load_n(&state.waiting, __ATOMIC_RELAXED) != let_in; ++i) {
            ::sched_yield();
            if (__atomic_load_n(&state.let_in, __ATOMIC_RELAXED) != let_in) break;
        }
        take();
    }
    static void take() noexcept {
        if (state.lock.try_lock()) return;
        __atomic_fetch_add(&state.waiting, 1, __ATOMIC_RELAXED);
        state.lock.lock();
        __atomic_fetch_add(&state.let_in, 1, __ATOMIC_RELAXED);
    }
    global_lock(const global_lock&) = delete;
};

/// Folds the thread's cells into the shared ones; its further updates go there. The key calls it with a record.
static void end_thread(void* keyed = nullptr) noexcept {
    const global_lock lock;
    if (keyed) state.stays = true;
    this_thread = {nullptr, 0, true};
    if (state.keyed) pthread_setspecific(state.key, nullptr);
    if (thread_record* t = std::exchange(this_record, nullptr)) state.forget(t, global_lock::let_others_in);
}

// musl unloads nothing: a key suffices, and a thread without one has no cells of its own. There an object with a destructor per
// thread would link libc++abi's unwinder and demangler.
#ifndef PROMETHEUS_ASYNC_DETAIL_UNLOADS  // a test says 0 on glibc too
#if defined(__linux__) && !defined(__GLIBC__) && !defined(__ANDROID__)
#define PROMETHEUS_ASYNC_DETAIL_UNLOADS 0
#else
#define PROMETHEUS_ASYNC_DETAIL_UNLOADS 1
#endif
#endif

/// An object with a destructor per thread: while one exists, glibc does not unload this shared object. One that is made
/// when the destructors of pthread keys are already running is never destroyed: glibc then keeps 32 bytes, and the shared
/// object stays loaded. Programs, and objects that are never unloaded, do not need it.
#if PROMETHEUS_ASYNC_DETAIL_UNLOADS
struct thread_end {
    static bool wanted() noexcept {
#if defined(__GLIBC__) && PROMETHEUS_ASYNC_DETAIL_LINUX
        return !&__ehdr_start || reinterpret_cast<std::uintptr_t>(&__ehdr_start) + __ehdr_start.e_phoff != getauxval(AT_PHDR);
#else
        return true;
#endif
    }
    ~thread_end() { end_thread(); }
};

/// Called when this shared object is unloaded, so that threads that end later do not call into it.
__attribute__((__destructor__)) static void forget_key() noexcept {
    const global_lock lock;
    if (thread_end::wanted() && std::exchange(state.keyed, false)) pthread_key_delete(state.key);
}
#endif

/// Called once, under the lock. A fork takes the lock, and the child gets it unlocked.
static void hook_process() noexcept {
    if (std::exchange(state.hooked, true)) return;
    state.keyed = pthread_key_create(&state.key, end_thread) == 0;
    state.fences = membarrier(membarrier_command::enable);
    pthread_atfork([] { state.lock.lock(), values_lock.lock(); },
                   [] { values_lock.unlock(), state.lock.unlock(); },
                   [] {  // the child has one thread; the counts of the others are folded
                       values_lock.unlock();
                       for (thread_record *t = state.threads, *next; t; t = next) {
                           next = t->next;
                           if (t != this_record) state.forget(t, [] {});
                       }
                       if (state.after_fork) state.after_fork();
                       state.fences = false;  // no system call in a child that may only be about to exec
                       state.waiting = state.let_in = 0;
                       state.lock.unlock();
                   });
}

/// This thread's record, made if necessary; null when the thread is ending. The lock is held.
static thread_record* attach() noexcept {
    if (this_record || this_thread.ended) return this_record;
    hook_process();
    auto* made = new (std::nothrow) thread_record{{}, {}, &this_thread, {}, state.threads, &state.threads};
    if (!made) return nullptr;
    const bool keyed = state.keyed && pthread_setspecific(state.key, made) == 0;
#if PROMETHEUS_ASYNC_DETAIL_UNLOADS
    if (!keyed || (!state.stays && thread_end::wanted())) {
#if defined(__GLIBC__) && PROMETHEUS_ASYNC_DETAIL_LINUX
        if (__lsan_disable) __lsan_disable();  // what glibc keeps for one that is never destroyed is not a leak
#endif
        static thread_local thread_end at_end;
        static_cast<void>(&at_end);
#if defined(__GLIBC__) && PROMETHEUS_ASYNC_DETAIL_LINUX
        if (__lsan_enable) __lsan_enable();
#endif
    }
#else
    if (!keyed) return delete made, nullptr;
#endif
    if (made->next) made->next->link = &made->next;
    ++state.thread_count;
    return state.threads = this_record = made;
}
#endif

#if !PROMETHEUS_ASYNC_DETAIL_WIDE
std::uint64_t shared_value::load() const noexcept {
    const locked hold(values_lock);
    return word;
}
void shared_value::set(double v) noexcept {
    const locked hold(values_lock);
    word = bits(v);
}
void shared_value::clear() noexcept {
    const locked hold(values_lock);
    word = unset;
}
void shared_value::add(double d) noexcept {
    const locked hold(values_lock);
    word = bits(__builtin_bit_cast(double, word) + d);
}
#endif

#if !PROMETHEUS_ASYNC_NO_NATIVE
/// The windows of native histograms in which this thread last counted. Mostly it counts there again, because a window spans
/// several octaves. An entry is valid as long as this thread has its own run of the series, and has given no run to another
/// series: ids are not used again, and the windows of a series do not move.
struct native_recent {
    std::uint64_t mark;
    cell* at;
    /// Identifies a series and one of its windows: 48 bits of the id suffice for 9 years of a million new series per second.
    static std::uint64_t mark_of(const series& s, std::uint32_t window) noexcept { return s.id << 4 ^ window; }
};
#if PROMETHEUS_ASYNC_NO_THREADS
static constinit native_recent recents[4] = {};
#else
static constinit thread_local native_recent recents[4] = {};
#endif
#endif

struct PROMETHEUS_ASYNC_LOCAL run_sum {
    double real;
    std::uint64_t whole;
};
/// Of a gauge.
inline double signed_sum(const run_sum& v) noexcept { return v.real + static_cast<double>(static_cast<std::int64_t>(v.whole)); }

/// The run for an update under the lock: this thread's, made if necessary, or the shared one; null if the series was removed.
static cell* adopt(const series& s) noexcept {
    const std::uint32_t place = place_of(s.page, s.offset);
    cell* shared = state.shared.run_at(place);
    if (shared == nowhere || s.id == 0) return nullptr;
    const std::uint64_t alive = shared->own();
    const bool known = !adds_to_shared || this_record;
    thread_record* t = attach();
    if (!t || !known) return alive == s.id ? shared : nullptr;
    state.release_owed(*t);
    cell* page = t->block.touch(s.page);
    this_thread.pages = t->block.pages;
    this_thread.count = t->block.count;
    if (!page) return alive == s.id ? shared : nullptr;
    cell* run = page + s.offset;
    if (run->own() != alive) {
#if !PROMETHEUS_ASYNC_NO_NATIVE
        for (native_recent& r : recents) r = {};
#endif
        for (unsigned i = 1; i != run_length(alive); ++i) run[i].store(0);
        run->store(alive);
    }
    return alive == s.id ? run : nullptr;
}

/// Whether the place of the handle's run belongs to a later series of this thread: then the update is dropped without the lock.
static bool known_stale(const series& s) noexcept {
    return s.id == 0 || (s.page < this_thread.count && this_thread.pages[s.page][s.offset].own() > s.id);
}

/// Adds to the shared run without the lock. False: this thread should have its own run, or has no record yet.
template <class Add>
static bool add_without_lock([[maybe_unused]] const series& s, [[maybe_unused]] Add add) noexcept {
    if constexpr (adds_to_shared) {
        thread_record* t = this_record;
        if (!t || t->comes_often(s.id)) return false;
        const std::uintptr_t before = t->epoch;
        if (state.fences) {
            __atomic_store_n(&t->epoch, before + 1, __ATOMIC_RELAXED);
            __atomic_signal_fence(__ATOMIC_SEQ_CST);
        } else {
            __atomic_store_n(&t->epoch, before + 1, __ATOMIC_SEQ_CST);
        }
        // The list of pages and the page are at least as new as the handle.
        cell* run = __atomic_load_n(&__atomic_load_n(&state.shared.pages, __ATOMIC_ACQUIRE)[s.page], __ATOMIC_RELAXED) + s.offset;
        if (run->load_tag() == s.id) add(run);
        __atomic_store_n(&t->epoch, before + 2, __ATOMIC_RELEASE);
        return true;
    } else {
        return false;
    }
}
template <class Add>
static void update(const series& s, Add add) noexcept {
    if (known_stale(s) || add_without_lock(s, add)) return;
    const global_lock lock;
    if (cell* run = adopt(s)) add(run);
}
__attribute__((__noinline__)) void add_slowly(const series& s, double d, unsigned at, std::uint64_t n) noexcept {
    update(s, [&](cell* run) {
        if (rule_of(s.id) == cell_rule::sum_or_set && s.rec->word.last_set.load() != shared_value::unset)
            return s.rec->word.last_set.add(signed_sum({d, n}));
        if (bits_of(d) != 0) run[1].add_shared(d);
        if (n != 0) run[at].add_shared(n);
    });
}
#if PROMETHEUS_ASYNC_NO_NATIVE
__attribute__((__noinline__)) void observe_slowly(const series& s, const bucket_bounds* bounds, double value) noexcept {
    update(s, [&](cell* run) {
        run[1].add_shared(value);
        run[2 + bounds->bucket(value)].add_shared(std::uint64_t{1});
    });
}
#endif
__attribute__((__noinline__)) void set_slowly(const series& s, double v) noexcept {
    update(s, [&](cell*) { s.rec->word.last_set.set(v); });
}
__attribute__((__noinline__)) void widen_slowly(const series& s, double value) noexcept {
    if (known_stale(s)) return;
    const global_lock lock;
    if (cell* run = adopt(s)) widen_run(run, *s.rec, value);
}
void count_event(event_kind what) noexcept {
    const global_lock lock;
    ++state.counted[static_cast<unsigned>(what)];
}
static bool alive(const series& s) noexcept {
    return s.id != 0 && state.shared.run_at(place_of(s.page, s.offset))->own() == s.id;
}

/// The double and the integers of a summed run, of all threads together. The lock is held.
static run_sum sum_run(std::uint64_t id, std::uint32_t place, std::uint64_t* integers = nullptr) noexcept {
    const unsigned length = run_length(id);
    run_sum sum{0, 0};
    const auto take = [&](const cell* run) {
        if (run->load() != id) return;
        sum.real += run[1].real();
        for (unsigned i = 2; i < length; ++i) {
            const std::uint64_t n = run[i].load();
            sum.whole += n;
            if (integers) integers[i - 2] += n;
        }
    };
    take(state.shared.run_at(place));
    for (thread_record* t = state.threads; t; t = t->next) take(t->block.run_at(place));
    return sum;
}
static double gauge_value(const record& r, std::uint32_t place) noexcept {
    const std::uint64_t shared = r.word.last_set.load();
    return shared == shared_value::unset ? signed_sum(sum_run(r.id, place)) : __builtin_bit_cast(double, shared);
}
run_sum sum_series(const series& s) noexcept;

/// Both half-windows, of all threads together; NaN without observations. The lock is held.
struct run_extremes {
    double least = __builtin_bit_cast(double, infinite | 1), most = least;
};
static run_extremes extremes_of_run(const record& r, std::uint32_t place) noexcept {
    run_extremes all;
    const auto take = [&](cell* run) {
        if (run->load() != r.id) return;
        for (std::uint64_t turn : {r.word.turn - 1, r.word.turn}) {
            const cell* half = half_of(run, turn);
            if (half[0].load_tag() != turn) continue;
            const double least = half[1].real(), most = half[2].real();
            if (is_nan(all.least) || order(least) < order(all.least)) all.least = least;
            if (is_nan(all.most) || order(most) > order(all.most)) all.most = most;
        }
    };
    take(state.shared.run_at(place));
    for (thread_record* t = state.threads; t; t = t->next) take(t->block.run_at(place));
    return all;
}
run_extremes extremes_of(const series& s) noexcept;

}  // namespace detail

std::uint64_t event_count(event_kind what) noexcept {
    const detail::global_lock lock;
    return detail::state.counted[static_cast<unsigned>(what)];
}

double counter::value() const noexcept {
    const detail::run_sum s = detail::sum_series(series_);
    return static_cast<double>(s.whole) + s.real;
}
double gauge::value() const noexcept {
    const detail::global_lock lock;
    return detail::alive(series_) ? detail::gauge_value(*series_.rec, series_.rec->place) : 0;
}
double min_max_gauge::smallest() const noexcept { return detail::extremes_of(series_).least; }
double min_max_gauge::largest() const noexcept { return detail::extremes_of(series_).most; }
std::uint64_t histogram::count() const noexcept { return detail::sum_series(series_).whole; }
double histogram::sum() const noexcept { return detail::sum_series(series_).real; }
std::uint64_t summary::count() const noexcept { return detail::sum_series(series_).whole; }
double summary::sum() const noexcept { return detail::sum_series(series_).real; }

std::vector<double> linear_buckets(double start, double width, std::size_t count) {
    std::vector<double> out(count);
    for (std::size_t i = 0; i != count; ++i) out[i] = start + width * static_cast<double>(i);
    return out;
}
std::vector<double> exponential_buckets(double start, double factor, std::size_t count) {
    std::vector<double> out(count);
    for (double& x : out) {
        x = start;
        start *= factor;
    }
    return out;
}
PROMETHEUS_ASYNC_END

// =============================================================================
// [43] native                                       native histograms: keys, bounds, cells, limits
//      needs [42]
// =============================================================================
//
// A native histogram has buckets whose bounds grow by one factor. With schema n the upper bounds are 2^(key / 2^n) for
// each integer key, for values above zero, and with the same sizes below zero. Each schema has every second bound of the
// next one, so a bucket of schema n + 1 lies within one of schema n, whose key is half of its key, rounded up. The bounds
// are bit for bit those of the Go library and of the server.
//
// Threads always count at the declared schema, and an update reads no clock. A page applies the limits (fewer buckets, a
// wider zero bucket, a reset) to a view that it makes from the cells.
PROMETHEUS_ASYNC_BEGIN
namespace detail {
#if !PROMETHEUS_ASYNC_NO_NATIVE

constexpr int least_schema = -4, most_schema = 8;

/// The bounds of schema 8 between 1/2 and 1. They are not the correctly rounded numbers 2^(n / 256), but those that the Go
/// library uses: the square root of two is one unit too low, and each bound is a product of an earlier one.
struct native_table_8 {
    std::uint64_t mantissa[257];  // in the upper 52 bits; ascending; the last one is above all values
    std::uint8_t below[512];      // how many are below all numbers of this 512th part of the range; 255: all
};
consteval native_table_8 make_native_table() {
    constexpr double factors[] = {0x1.6a09e667f3bccp+0, 0x1.306fe0a31b715p+0, 0x1.172b83c7d517bp+0, 0x1.0b5586cf9890fp+0,
                                  0x1.059b0d3158574p+0, 0x1.02c9a3e778061p+0, 0x1.0163da9fb3335p+0, 0x1.00b1afa5abcbfp+0};
    double bound[256] = {.5};
    int apart = 256;
    for (double factor : factors) {
        for (int i = apart / 2; i < 256; i += apart) bound[i] = bound[i - apart / 2] * factor;
        apart /= 2;
    }
    native_table_8 t{};
    for (int i = 0; i != 256; ++i) t.mantissa[i] = __builtin_bit_cast(std::uint64_t, bound[i]) << 12;
    t.mantissa[256] = ~std::uint64_t{0};
    unsigned passed = 0;
    for (unsigned part = 0; part != 512; ++part) {
        while (passed != 256 && t.mantissa[passed] >> 55 < part) ++passed;
        t.below[part] = static_cast<std::uint8_t>(passed == 256 ? 255 : passed);  // at most one bound is inside a part: their distance is more than a 512th
    }
    return t;
}
static constexpr native_table_8 native_bounds = make_native_table();

/// What is added to the keys of windows and cells, so that none is negative.
constexpr std::uint32_t native_bias(int coarser) noexcept { return std::uint32_t{1} << 19 >> coarser; }
/// The biased key of a normal finite value, given by its bits. `coarser` is 8 minus the schema; `round` is the number of
/// buckets of schema 8 in one of that schema, minus 1. The key of a negative value is that of its size plus
/// native_bias(coarser), which is above all others.
inline std::uint32_t biased_key(std::uint64_t bits, std::uint32_t round, int coarser) noexcept {
    const std::uint64_t mantissa = bits << 12;
    std::uint32_t key = native_bounds.below[mantissa >> 55];
    key += native_bounds.mantissa[key] < mantissa;
    return (key + static_cast<std::uint32_t>(bits >> 52) * 256 + (native_bias(0) - 1023 * 256) + round) >> coarser;
}
/// The bucket of a value's size; the value is not zero and not NaN. Infinity is in the bucket after the greatest finite one.
inline std::int32_t native_key(double value, int coarser) noexcept {
    std::uint64_t size = bits_of(value) << 1 >> 1;
    const bool endless = size == infinite;
    size -= endless;
    int down = 0;  // by how many octaves a subnormal value was scaled up
    if (size >> 52 == 0) {
        down = __builtin_clzll(size) - 11;
        size <<= down;  // its highest bit is now where the exponent is, as an exponent of 1
    }
    const auto key_8 = static_cast<std::int32_t>(biased_key(size, 0, 0) - native_bias(0)) - down * 256;
    return ((key_8 + (1 << coarser) - 1) >> coarser) + endless;
}
/// The upper bound of a bucket, limited to the greatest finite double, except for the bucket of infinity.
static double native_bound(std::int32_t key, int coarser) noexcept {
    const std::int64_t key_8 = static_cast<std::int64_t>(key) << coarser;
    if (key_8 > 1024 * 256) return __builtin_bit_cast(double, infinite);
    if (key_8 == 1024 * 256) return __builtin_bit_cast(double, infinite - 1);
    const std::int64_t exponent = (key_8 >> 8) + 1023;
    const std::uint64_t mantissa = native_bounds.mantissa[key_8 & 255] >> 12;
    if (exponent > 0) return __builtin_bit_cast(double, static_cast<std::uint64_t>(exponent) << 52 | mantissa);
    if (exponent < -200) return 0;
    return __builtin_bit_cast(double, static_cast<std::uint64_t>(exponent + 200) << 52 | mantissa) * 0x1p-200;
}
/// The coarsest schema whose buckets grow by no more than `factor`, above 1.
static int schema_of(double factor) noexcept {
    for (int schema = least_schema; schema != most_schema; ++schema)
        if (native_bound(1, most_schema - schema) <= factor) return schema;
    return most_schema;
}

/// The count of one cell. Its window has the schema 8 - `coarser`, which may differ from cell to cell.
struct native_cell {
    std::int32_t key;
    std::uint8_t coarser;
    bool negative;
    std::uint64_t count;
    std::int32_t fine() const noexcept { return key << coarser; }  // the key of schema 8 with the same upper bound
};
struct native_count {
    std::int32_t key;
    std::uint64_t count;
};
/// A native histogram as a page shows it.
struct PROMETHEUS_ASYNC_LOCAL native_view {
    int schema = 0;
    double zero_threshold = 0;
    std::uint64_t count = 0, zero_count = 0;
    std::uint64_t nans = 0;  // contained in count, but in no bucket
    vector<native_count> negative{}, positive{};  // with ascending keys; no empty buckets
    vector<native_cell> cells{};                  // the cells that it was made from; a member so that its memory is used again
    double created = 0;                                // when the counts that it shows began
};

/// Makes the view from its cells. More than `most` buckets (0: no limit) are reduced: first the zero bucket is widened to
/// include the nearest ones, while its threshold stays within `most_threshold`; then pairs of buckets are joined, repeatedly.
/// At schema -4 the zero bucket is widened beyond that, so that the limit is always kept.
static void reduce(native_view& v, native_reduction& done, double threshold, std::uint32_t most, double most_threshold) {
    std::int32_t last[2] = {native_reduction::none, native_reduction::none};
    bool ascends = true;  // within each sign, which is the usual case
    for (const native_cell& c : v.cells) ascends &= c.fine() >= std::exchange(last[c.negative], c.fine());
    if (!ascends) sort(v.cells, [](const native_cell& a, const native_cell& b) { return a.fine() < b.fine(); });
    for (const native_cell& c : v.cells)
        if (c.fine() > done.zeros && c.coarser > done.coarser) done.coarser = c.coarser;
    for (;;) {
        v.negative.clear();
        v.positive.clear();
        std::uint64_t close_count = 0, others = 0;
        const int coarser = done.coarser;
        for (const native_cell& c : v.cells) {
            if (c.fine() <= done.zeros) {
                close_count += c.count;
                continue;
            }
            others += c.count;
            const std::int32_t key = (c.fine() + (1 << coarser) - 1) >> coarser;
            auto& to = c.negative ? v.negative : v.positive;
            if (!to.empty() && to.back().key == key) to.back().count += c.count;
            else to.push_back({key, c.count});
        }
        const std::size_t have = v.negative.size() + v.positive.size();
        if (most == 0 || have <= most) {
            v.zero_count += close_count;
            v.count = v.zero_count + others + v.nans;
            break;
        }
        // Finds the key up to which lie as many buckets as are too many.
        std::size_t n = 0, p = 0;
        std::int32_t key = 0;
        while (n + p != have - most) {
            const bool from_negative = p == v.positive.size() || (n != v.negative.size() && v.negative[n].key <= v.positive[p].key);
            key = from_negative ? v.negative[n++].key : v.positive[p++].key;
        }
        if (coarser == most_schema - least_schema || native_bound(key, coarser) <= most_threshold) done.zeros = key << coarser;
        else ++done.coarser;
    }
    v.schema = most_schema - done.coarser;
    v.zero_threshold = done.zeros == native_reduction::none ? threshold : native_bound(done.zeros, 0);
}

struct native_span {
    std::int32_t offset;   // of the first span: its key; of others: how many buckets are left out before it
    std::uint32_t length;
};
/// Buckets in the form of the formats: spans, and the count of each bucket in them. A gap of one or two buckets is filled
/// with empty ones, which takes less room than another span.
template <class Put>
static void each_span(const vector<native_count>& from, Put put) {
    std::int32_t next = 0;
    for (std::size_t i = 0; i != from.size();) {
        const std::int32_t first = from[i].key, offset = first - next;
        do next = from[i].key + 1; while (++i != from.size() && from[i].key - next <= 2);
        put(native_span{offset, static_cast<std::uint32_t>(next - first)});
    }
}
template <class Put>
static void each_count(const vector<native_count>& from, Put put) {
    for (std::size_t i = 0; i != from.size(); ++i) {
        const std::int32_t gap = i == 0 ? 0 : from[i].key - from[i - 1].key - 1;
        for (std::int32_t empty = gap > 2 ? 0 : gap; empty != 0; --empty) put(std::uint64_t{0});
        put(from[i].count);
    }
}
/// Whether the parts agree. A scraper refuses the whole page if they disagree in one histogram.
static bool consistent(const native_view& v) noexcept {
    std::uint64_t sum = v.zero_count + v.nans;
    for (const auto* side : {&v.negative, &v.positive})
        for (std::size_t i = 0; i != side->size(); ++i) {
            if (i != 0 && (*side)[i - 1].key >= (*side)[i].key) return false;
            sum += (*side)[i].count;
        }
    return sum == v.count && v.schema >= least_schema && v.schema <= most_schema && is_finite(v.zero_threshold) && from_zero(v.zero_threshold);
}


// ---- cells ----

static series window_series(const series& s, std::uint32_t place) noexcept {
    return {(s.id & ~std::uint64_t{0xfff}) | window_kind, page_of(place), offset_of(place), s.rec};
}
/// How many windows a level may have; further ones have a coarser level. The last level, of schema -4, has room for all.
static std::uint32_t most_windows(const bucket_bounds& b, unsigned level) noexcept {
    const std::uint32_t most = b.max_buckets;
    if (most == 0 || level + b.coarser == most_schema - least_schema) return ~std::uint32_t{0};
    return level != 0 ? 4 : most < 64 ? 16 : most / 4;
}
/// Where an observation is counted.
struct native_spot {
    std::uint32_t biased = 0;  // the key of the declared schema
    bool negative = false;
    unsigned cell = 0;     // the cell of the main run, for zero and NaN; else 0

    native_spot(const bucket_bounds& b, double value) noexcept {
        const std::uint64_t size = bits_of(value) << 1 >> 1;
        if (size > infinite) {
            cell = b.count + 4;
        } else if (size < b.least) {
            cell = b.count + 3;
        } else {
            biased = static_cast<std::uint32_t>(native_key(value, b.coarser)) + native_bias(b.coarser);
            negative = bits_of(value) >> 63 != 0;
        }
    }
    std::uint32_t at(unsigned level) const noexcept { return (biased + (1U << level) - 1) >> level; }
    std::uint32_t name(unsigned level) const noexcept { return native_window::name_of(at(level), negative, level); }
    unsigned in_window(unsigned level) const noexcept { return 2 + at(level) % window_keys; }
    /// The finest window that exists for it.
    const native_window* find(native_cells& in, const bucket_bounds& b, unsigned& level) const noexcept {
        for (level = 0; level + b.coarser <= most_schema - least_schema; ++level)
            if (const native_window* w = in.find(name(level))) return w;
        return nullptr;
    }
    /// That window, made if necessary; null without memory. The lock is held.
    const native_window* make(const series& s, const bucket_bounds& b, unsigned& level) const noexcept {
        native_cells& in = native_cells::of(*s.rec);
        if (const native_window* w = find(in, b, level)) return w;
        std::uint32_t have[16] = {};
        in.each([&](const native_window& w) { ++have[w.level()]; });
        for (level = 0; have[level] >= most_windows(b, level);) ++level;
        if (!state.ensure_run(run_length(window_kind))) return nullptr;
        const std::uint32_t place = state.take_run(run_length(window_kind));
        state.shared.run_at(place)->store(window_series(s, place).id);
        if (in.add(name(level), place)) return in.find(name(level));
        state.give_run(place, window_kind);
        return nullptr;
    }
};
/// The bounds exist as long as the series, so they are read only where the series certainly exists: in an update of the
/// shared run after its tag was compared, and under the lock.
__attribute__((__noinline__)) void observe_slowly(const series& s, const bucket_bounds* bounds, double value) noexcept {
    unsigned level = 0;
    const auto add_classic = [&](cell* run) { if (bounds->count != 0) run[2 + bounds->bucket(value)].add_shared(std::uint64_t{1}); };
    const auto add_to = [&](cell* run, cell* bucket_run, unsigned at) {
        bucket_run[1].add_shared(value);
        if (at != 0) bucket_run[at].add_shared(std::uint64_t{1});
        add_classic(run);
    };
    bool found = true;
    const auto without_lock = [&](cell* run) {
        if (!bounds->native) return add_to(run, run, 0);
        const native_spot spot(*bounds, value);
        if (spot.cell != 0) return add_to(run, run, spot.cell);
        const native_window* w = spot.find(native_cells::of(*s.rec), *bounds, level);
        if (!w) return void(found = false);
        cell* page = __atomic_load_n(&__atomic_load_n(&state.shared.pages, __ATOMIC_ACQUIRE)[page_of(w->place)], __ATOMIC_RELAXED);
        add_to(run, page + offset_of(w->place), spot.in_window(level));
    };
    if (known_stale(s)) return;
    const bool rarely = add_without_lock(s, without_lock);
    if (rarely && found) return;
    const global_lock lock;
    cell* const shared = state.shared.run_at(place_of(s.page, s.offset));
    cell* const run = !rarely ? adopt(s) : shared->own() == s.id ? shared : nullptr;
    if (!run) return;
    if (!bounds->native) return add_to(run, run, 0);
    const native_spot spot(*bounds, value);
    if (spot.cell != 0) return add_to(run, run, spot.cell);
    const native_window* w = spot.make(s, *bounds, level);
    if (!w) return add_to(run, run, bounds->count + 3);  // no memory: it counts as a zero, so that count, sum and classic buckets are right
    cell* const own = run == shared ? nullptr : adopt(window_series(s, w->place));
    add_to(run, own ? own : state.shared.run_at(w->place), spot.in_window(level));
}
/// Observes unusual values (zero, NaN, infinite), and values whose window is not at its first place.
__attribute__((__noinline__)) static void observe_elsewhere(const series& s, const bucket_bounds& b, cell* run, double value) noexcept {
    const native_spot spot(b, value);
    unsigned level = 0, index = spot.cell;
    cell* at = run;
    if (index == 0) {
        const native_window* w = spot.find(native_cells::of(*s.rec), b, level);
        at = w ? own_run(window_series(s, w->place)) : nullptr;
        if (!at) return observe_slowly(s, &b, value);
        index = spot.in_window(level);
    }
    at[1].add(value);
    at[index].add(std::uint64_t{1});
    if (b.count != 0) run[2 + b.bucket(value)].add(std::uint64_t{1});
}
__attribute__((__noinline__)) static void observe_classic(const bucket_bounds& b, cell* run, double value) noexcept {
    run[2 + b.bucket(value)].add(std::uint64_t{1});
}
/// Counts in another window than the last time, and stores which.
__attribute__((__noinline__)) static void observe_anew(const series& s, const bucket_bounds& b, cell* run, double value, std::uint32_t key) noexcept {
    const bool negative = bits_of(value) >> 63 != 0;
    const std::uint32_t name = native_window::name_of(negative ? key - native_bias(b.coarser) : key, negative, 0);
    const native_window& w = native_cells::of(*s.rec).home(name);
    if (w.seen() != name) return observe_elsewhere(s, b, run, value);
    cell* const at = own_run(window_series(s, w.place));
    if (!at) return observe_slowly(s, &b, value);
    const std::uint32_t window = key / window_keys;
    recents[window % std::size(recents)] = {native_recent::mark_of(s, window), at};
    at[1].add(value);
    at[2 + key % window_keys].add(std::uint64_t{1});
    if (b.count != 0) observe_classic(b, run, value);
}
__attribute__((__noinline__)) void observe_otherwise(const series& s, const bucket_bounds* bounds, cell* run, double value) noexcept {
    if (!bounds->native) [[unlikely]] {
        run[1].add_beside(value);
        return observe_classic(*bounds, run, value);
    }
    const std::uint64_t bits = bits_of(value), size = bits << 1 >> 1;
    if (size - bounds->least >= bounds->most) [[unlikely]] return observe_elsewhere(s, *bounds, run, value);
    const std::uint32_t key = biased_key(bits, bounds->round, bounds->coarser), window = key / window_keys;
    const native_recent& r = recents[window % std::size(recents)];
    if (r.mark != native_recent::mark_of(s, window)) [[unlikely]] return observe_anew(s, *bounds, run, value, key);
    cell* const at = r.at;
    at[1].add_beside(value);
    at[2 + key % window_keys].add(std::uint64_t{1});
    if (bounds->count != 0) observe_classic(*bounds, run, value);
}
/// Reads the cells of a native histogram, of all threads together: returns sum and count, stores the integers of the main
/// run in `integers`, and the cells of windows that are not empty in `cells`. The lock is held.
template <class Each>
static run_sum sum_native(const record& r, std::uint32_t place, const bucket_bounds& b, std::uint64_t* integers, vector<native_cell>* cells, Each each_run) {
    run_sum sum = sum_run(r.id, place, integers);
    each_run(r.id, place, integers);
    sum.whole = integers[b.count + 1] + integers[b.count + 2];
    native_cells::of(r).each([&](const native_window& w) {
        std::uint64_t counts[window_keys] = {};
        const std::uint64_t id = (r.id & ~std::uint64_t{0xfff}) | window_kind;
        const run_sum in = sum_run(id, w.place, counts);
        each_run(id, w.place, counts);
        sum.real += in.real;
        sum.whole += in.whole;
        const auto coarser = static_cast<std::uint8_t>(b.coarser + w.level());
        for (unsigned i = 0; cells && i != window_keys; ++i)
            if (counts[i] != 0)
                cells->push_back({static_cast<std::int32_t>(w.first_biased() + i - native_bias(coarser)), coarser, w.negative(), counts[i]});
    });
    return sum;
}
#else
__attribute__((__noinline__)) void observe_otherwise(const series&, const bucket_bounds* bounds, cell* run, double value) noexcept {
    run[1].add_beside(value);
    run[2 + bounds->bucket(value)].add(std::uint64_t{1});
}
#endif
}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [44] numbers                                      doubles and integers as text
//      needs [14]
// =============================================================================
//
// Integers: eight digits at a time in one 64-bit word. Doubles: Schubfach (Giulietti 2020) finds the shortest
// decimal that reads back as the same double, and the closest one if there are several, by three multiplications
// with a power of ten of 128 bits. A table of its 617 powers would need 10 kB. Here the compiler computes 24 of them
// and 27 powers of five from one constant, and every power is a product of two.
PROMETHEUS_ASYNC_BEGIN_FAST
namespace detail {

// The room that a put_ function needs at `to`. It may write to all of it, even for a short number.
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
    // 10^-297 in 192 bits. It and each product are rounded up, so that 10^0 does not become 0.99...
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
        high = {high.high << free | high.low >> (64 - free),
                high.low << free | low.low >> (64 - free)};
    }
    if (++high.low == 0) ++high.high;
    return high;
}

// c * power / 2^128, with the last bit set if a fraction was cut off. The rounded power adds an error of less than
// 2^-67. A result that is not an integer is at least 2^-65.5 above one and 2^-61.6 below the next (the minimum
// over all doubles, by continued fractions). So a comparison with 2^-66 distinguishes the two.
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
    const int k = (q * 1262611 - (closer ? 524031 : 0)) >> 22;  // floor(log10(2^q, or 3/4 * 2^q))
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
    const auto cut = [&](std::uint64_t by, int zeros) {  // inlined, so that a division by a constant becomes a multiplication
        const std::uint64_t rest = found.digits / by;
        if (rest * by == found.digits) found = {rest, found.exponent + zeros};
    };
    cut(100000000, 8);
    cut(10000, 4);
    cut(100, 2);
    cut(10, 1);
    return found;
}

// Four digits as bytes of a word, the first one in the lowest byte.
inline std::uint32_t four_digits(std::uint32_t n) noexcept {
    const std::uint32_t hundreds = (n * 10486) >> 20;
    const std::uint32_t twos = hundreds | (n - 100 * hundreds) << 16;
    const std::uint32_t tens_of_each = ((twos * 103) >> 10) & 0x000f000f;
    return tens_of_each | (twos - 10 * tens_of_each) << 8;
}
// Eight of them.
inline std::uint64_t eight_digits(std::uint32_t n) noexcept {
    const std::uint64_t fours = n / 10000 | std::uint64_t{n % 10000} << 32;
    const std::uint64_t hundreds = ((fours * 10486) >> 20) & 0x0000007f0000007f;
    const std::uint64_t twos = hundreds | (fours - 100 * hundreds) << 16;
    const std::uint64_t tens_of_each = ((twos * 103) >> 10) & 0x000f000f000f000f;
    return tens_of_each | (twos - 10 * tens_of_each) << 8;
}
/// The digits of a word without its first zeros.
template <class Word>
inline char* put_word(char* to, Word word, int zeros = 0) noexcept {
    word = static_cast<Word>(word >> (zeros & -8)) | static_cast<Word>(0x3030303030303030);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = static_cast<Word>(__builtin_bswap64(word) >> (64 - 8 * sizeof word));
#endif
    std::memcpy(to, &word, sizeof word);
    return to + sizeof word - zeros / 8;
}
/// Writes the digits of a number below 10^8.
PROMETHEUS_ASYNC_DETAIL_JOINED char* put_short(char* to, std::uint64_t n) noexcept {
    if (n < 10) return *to = static_cast<char>('0' + n), to + 1;
    if (n < 10000) {
        const std::uint32_t word = four_digits(static_cast<std::uint32_t>(n));
        return put_word(to, word, __builtin_ctz(word));
    }
    const std::uint64_t word = eight_digits(static_cast<std::uint32_t>(n));
    return put_word(to, word, __builtin_ctzll(word));
}

/// Writes the digits of n.
///
/// shape    `to` has room for number_size bytes; returns the end of the number, as all put_ functions do
inline char* put_u64(char* to, std::uint64_t n) noexcept {
    constexpr std::uint64_t step = 100000000;
    if (n < step) [[likely]] return put_short(to, n);
    const std::uint64_t above = n / step, top = above / step;
    to = put_short(to, top != 0 ? top : above);
    if (top != 0) to = put_word(to, eight_digits(static_cast<std::uint32_t>(above % step)));
    return put_word(to, eight_digits(static_cast<std::uint32_t>(n % step)));
}

// Go's 'g' form: with an exponent if that is below -4 or above 5; or always without one. The digits are written one
// place to the right, where most forms need them.
inline char* put_decimal(char* to, const decimal& d, bool fixed) noexcept {
    char* end = put_u64(to + 1, d.digits);
    const int count = static_cast<int>(end - to) - 1;
    const int exponent = count - 1 + d.exponent;  // of the first digit
    if (!fixed && (exponent < -4 || exponent > 5)) {
        to[0] = to[1];
        to[1] = '.';
        if (count == 1) end = to + 1;
        *end++ = 'e';
        *end++ = exponent < 0 ? '-' : '+';
        const unsigned size = static_cast<unsigned>(exponent < 0 ? -exponent : exponent);
        if (size < 10) *end++ = '0';
        return put_u64(end, size);
    }
    if (exponent < 0) {
        const int zeros = -exponent - 1;
        std::memmove(to + 2 + zeros, to + 1, static_cast<std::size_t>(count));
        std::memcpy(to, "0.", 2);
        std::memset(to + 2, '0', static_cast<std::size_t>(zeros));
        return end + 1 + zeros;
    }
    if (count <= exponent + 1) {
        std::memmove(to, to + 1, static_cast<std::size_t>(count));
        std::memset(to + count, '0', static_cast<std::size_t>(exponent + 1 - count));
        return to + exponent + 1;
    }
    for (int i = 0; i <= exponent; ++i) to[i] = to[i + 1];
    to[exponent + 1] = '.';
    return end;
}

// Writes the sign, infinities and NaN; true when that was everything, else x becomes positive (or +0).
inline bool put_special(char*& to, double& x, std::uint64_t& bits) noexcept {
    const auto text = [&](const char* word, std::size_t n) { std::memcpy(to, word, n), to += n; };
    bits = bits_of(x);
    const bool negative = bits >> 63 != 0;
    bits &= ~(std::uint64_t{1} << 63);
    if (bits >= infinite) {
        if (bits > infinite) text("NaN", 3);
        else text(negative ? "-Inf" : "+Inf", 4);
        return true;
    }
    if (negative) text("-", 1);
    std::memcpy(&x, &bits, sizeof x);
    return false;
}

constexpr double two_to_53 = 9007199254740992.0;

/// Writes the shortest text that reads back as x: only digits if x is an integer and |x| < 2^53, else Go's 'g' form.
char* put_double(char* to, double x) noexcept {
    std::uint64_t bits = 0;
    if (put_special(to, x, bits)) return to;
    if (x < two_to_53) {
        const auto whole = static_cast<std::uint64_t>(x);
        if (bits_of(static_cast<double>(whole)) == bits) return put_u64(to, whole);  // a subnormal may compare as 0
    }
    return put_decimal(to, shortest(bits), false);
}

/// Writes the canonical form of `le` and `quantile`: 0.0, 0.25, 10.0, 1e+06, +Inf.
char* put_bound(char* to, double x) noexcept {
    std::uint64_t bits = 0;
    if (order(x) == 0) x = 0;  // -0 is the same bound
    if (put_special(to, x, bits)) return to;
    if (x < 1e6 && bits_of(static_cast<double>(static_cast<std::uint64_t>(x))) == bits) {
        to = put_u64(to, static_cast<std::uint64_t>(x));
        std::memcpy(to, ".0", 2);
        return to + 2;
    }
    return put_decimal(to, shortest(bits), false);
}

/// Writes an OpenMetrics timestamp: seconds, without an exponent for every possible time of a clock.
char* put_timestamp(char* to, double unix_seconds) noexcept {
    double size = unix_seconds < 0 ? -unix_seconds : unix_seconds;
    if (!within(size, 1e-6, two_to_53)) return put_double(to, unix_seconds);
    std::uint64_t bits = 0;
    put_special(to, unix_seconds, bits);
    return put_decimal(to, shortest(bits), true);
}

/// Writes a timestamp of the text format: milliseconds, rounded to the nearest integer.
char* put_milliseconds(char* to, double unix_seconds) noexcept {
    double size = (unix_seconds < 0 ? -unix_seconds : unix_seconds) * 1e3 + 0.5;
    if (!within(size, 0, 9e18)) size = 0;
    const auto n = static_cast<std::uint64_t>(size);
    if (unix_seconds < 0 && n != 0) *to++ = '-';
    return put_u64(to, n);
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [45] text                                         UTF-8, names, escaping, labels
//      needs [26] [40]
// =============================================================================
#include <algorithm>
PROMETHEUS_ASYNC_BEGIN
namespace detail {

constexpr char ascii_lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }
constexpr bool same_word(std::string_view a, std::string_view b) noexcept {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i != a.size(); ++i) if (ascii_lower(a[i]) != ascii_lower(b[i])) return false;
    return true;
}
constexpr std::string_view trimmed(std::string_view s) noexcept {
    while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
    while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
    return s;
}

constexpr std::uint32_t no_code_point = 0xffffffff;

// The code point that begins at s[i]; i then is the index after it. Or no_code_point; i then is the index after
// the longest beginning of a code point. The range of the second byte excludes overlong forms, surrogates, and
// values above U+10FFFF.
inline std::uint32_t next_code_point(std::string_view s, std::size_t& i) noexcept {
    const unsigned first = static_cast<unsigned char>(s[i++]);
    if (first < 0x80) return first;
    if (first < 0xc2 || first > 0xf4) return no_code_point;
    unsigned more = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
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

bool cleans_to(std::string_view s, std::string_view clean) noexcept {
    for (std::size_t i = 0; i != s.size();) {
        const std::size_t begin = i;
        const std::string_view part = next_code_point(s, i) == no_code_point ? "\xef\xbf\xbd" : s.substr(begin, i - begin);
        if (clean.substr(0, part.size()) != part) return false;
        clean.remove_prefix(part.size());
    }
    return clean.empty();
}
bool valid_utf8(std::string_view s) noexcept {
    for (std::size_t i = ascii_prefix(s); i != s.size();)
        if (next_code_point(s, i) == no_code_point) return false;
    return true;
}

/// How many code points a valid text has: the limit of an exemplar is a number of code points.
std::size_t code_points(std::string_view s) noexcept {
    std::size_t n = 0;
    for (char c : s) n += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    return n;
}

/// A copy in which invalid octets are replaced by U+FFFD: one bad octet in a label value would make the scrape of the
/// whole page fail.
///
/// errors   `changed` is set when something was replaced, and never cleared
string sanitize_utf8(std::string_view s, bool& changed) {
    string clean;
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

inline void append_escaped(string& to, std::string_view s, bool quotes) {
    std::size_t copied = 0;
    for (std::size_t i = 0; i != s.size(); ++i) {
        const char c = s[i];
        if (c != '\\' && c != '\n' && !(c == '"' && quotes)) continue;
        to.append(s, copied, i - copied).append(c == '\n' ? "\\n" : c == '"' ? "\\\"" : "\\\\");
        copied = i + 1;
    }
    to.append(s, copied);
}
inline void append_escaped_label(string& to, std::string_view value) {
    append_escaped(to, value, true);
}
inline void append_escaped_help(string& to, std::string_view help, bool openmetrics) {
    append_escaped(to, help, openmetrics);  // the text format reads \" as two characters
}

inline bool legacy_name(std::string_view name, bool is_label) noexcept {
    return is_label ? legacy_label_name(name) : legacy_metric_name(name);
}
/// Whether the name is written in quotes with escaping::allow_utf8.
inline bool needs_quotes(std::string_view name, bool is_label) noexcept {
    return !legacy_name(name, is_label);
}

/// Adds the name in this escaping scheme, as EscapeName of prometheus/common; with allow_utf8 the name is unchanged, and
/// the caller quotes it (append_quoted).
///
/// errors   two names may become equal: a caller that writes both must check that
inline void append_name(string& to, std::string_view name, escaping scheme, bool is_label) {
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
            for (std::uint32_t rest = point; at == sizeof hex || rest != 0; rest >>= 4)
                hex[--at] = "0123456789abcdef"[rest & 15];
            if (point == no_code_point) to.append("_FFFD_");
            else to.append("_").append(hex + at, sizeof hex - at).append("_");
        }
    }
}
/// Whether some escaping makes two names equal. Names that the scheme `dots` makes equal are also equal with `underscores`.
inline bool alike(std::string_view a, std::string_view b, bool is_label) {
    if (a == b) return true;
    if (legacy_name(a, is_label) && legacy_name(b, is_label)) return false;
    for (escaping scheme : {escaping::underscores, escaping::values}) {
        string shown[2];
        append_name(shown[0], a, scheme, is_label);
        append_name(shown[1], b, scheme, is_label);
        if (shown[0] == shown[1]) return true;
    }
    return false;
}
/// What is wrong with a label's name, or empty.
static string label_fault(const any_name& name) {
    if (name.empty()) return "a label has no name";
    if (!valid_utf8(name)) return "a label's name is not UTF-8";
    string shown;  // because utf8("..name..") would become __name__
    if (!legacy_label_name(name)) append_name(shown, name, escaping::underscores, true);
    if (reserved_label_name(shown.empty() ? name : shown)) return "label names that begin with __ are reserved";
    if (!name.is_utf8() && !legacy_label_name(name))
        return "label " + string(name) + " is not [a-zA-Z_][a-zA-Z0-9_]*: use utf8() for it";
    return {};
}
/// A message if an escaping makes two of these labels equal, or empty.
static string alike_labels(const vector<std::string_view>& names) {
    vector<string> shown;  // each escaped name, and after 0xff, which is in no name, the name itself
    for (escaping scheme : {escaping::underscores, escaping::values}) {
        shown.clear();
        for (std::string_view name : names) {
            string& text = shown.emplace_back();
            append_name(text, name, scheme, true);
            text.append("\xff").append(name);
        }
        sort(shown);
        for (std::size_t i = 1; i < shown.size(); ++i) {
            const std::string_view a = shown[i - 1], b = shown[i];
            const std::size_t end = a.find('\xff') + 1;
            if (b.substr(0, end) != a.substr(0, end)) continue;
            if (a == b) return "two labels have the same name";
            std::string_view one = a.substr(end), other = b.substr(end);
            for (std::string_view name : names) {
                if (name == other) std::swap(one, other);
                if (name == one) break;
            }
            return text_of({"labels ", one, " and ", other, " are equal after escaping"});
        }
    }
    return {};
}
void append_quoted(string& to, std::string_view s) {
    to.push_back('"');
    append_escaped_label(to, s);
    to.push_back('"');
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [46] families                                     what registries hold, names, bounds, tables of series
//      needs [43] [44] [45]
// =============================================================================
//
// The part of registries that is accessed under the lock: what was declared, the names that it uses, and the tables in which
// lookups find its series.
PROMETHEUS_ASYNC_BEGIN
namespace detail {

[[maybe_unused]] constexpr unsigned first_native_exemplar = 256, native_exemplars = 10;
struct PROMETHEUS_ASYNC_LOCAL kept_exemplar {
    unsigned at;  // the index of the bucket, or the place of a native one
    double value, timestamp;
    string labels;  // `a="b",c="d"`
};
void show_exemplars(shown_series& s, const vector<kept_exemplar>& kept) noexcept;
/// Data that only few series have.
struct PROMETHEUS_ASYNC_LOCAL series_extra : allocated {
    double base = 0;  // what reset() subtracts: integers can be made zero exactly, the double cannot
    vector<kept_exemplar> exemplars;  // by bucket
    void (*show)(shown_series& s, const vector<kept_exemplar>& kept) noexcept = nullptr;  // not null if it had one
    vector<pair<string, string>> info;
    bool sum_reported = false;  // it was reported that OpenMetrics leaves its sum out
};

/// A function that yields families, or the value of one. It is called without the lock, so its calls are counted:
/// a thread that removes it waits for them to end, except for its own call, and for calls that wait for this thread.
struct PROMETHEUS_ASYNC_LOCAL collector_hook : allocated {
    callback<void(sample_sink&)> run;
    family_state* family;  // its place in the registry; null when removed
    std::uint32_t running;
    std::uint32_t holders;  // handle, registry, and calls; the last one deletes it, without the lock
    void (*call)(page_state& page, global_lock& lock, const family_state& f);  // so that only programs with collectors have its code
    vector<string> sums_reported{};  // series whose sum OpenMetrics leaves out, sorted
};
void await_calls(const collector_hook& h) noexcept;

/// An entry of a family's list of series, in the order in which they were made. The entry of a removed series keeps its id,
/// until there are too many of them.
struct PROMETHEUS_ASYNC_LOCAL line {
    std::uint64_t held_;  // an odd one has the id

    explicit line(record* r) noexcept : held_(reinterpret_cast<std::uintptr_t>(r)) {}
    record* living() const noexcept { return (held_ & 1) != 0 ? nullptr : reinterpret_cast<record*>(static_cast<std::uintptr_t>(held_)); }
    /// If the series was removed, without the kind of its run.
    std::uint64_t id() const noexcept { return (held_ & 1) != 0 ? held_ >> 1 << 12 : living()->id; }
    void remove() noexcept { held_ = living()->id >> 12 << 1 | 1; }

    /// The first entry in [from, end) whose id is at least `id`.
    static line* first_from(line* from, line* end, std::uint64_t id) noexcept {
        return std::lower_bound(from, end, id, [](const line& a, std::uint64_t wanted) { return a.id() < wanted; });
    }
};
/// The text around the label values of a series, the same for all series of a family, so that a scrape copies it:
/// `name{a="`, `",b="`, and `"} ` if a series is one line, otherwise `a="`, `",b="`, and `",`.
struct label_frame {
    static constexpr std::size_t step = 32;  // it is copied in steps of this size, so it has that many octets more
    struct place {
        std::uint32_t begin, size;
    };
    string text;
    vector<place> places;  // of the pieces in it, one more than there are values

    void end_piece() {
        const std::uint32_t begin = places.empty() ? 0 : static_cast<std::uint32_t>(size());
        places.push_back({begin, static_cast<std::uint32_t>(text.size()) - begin});
    }
    std::size_t size() const noexcept { return std::size_t{places.back().begin} + places.back().size; }
    std::string_view piece(std::size_t i) const noexcept { return {text.data() + places[i].begin, places[i].size}; }
    /// Where these are, for loops.
    struct view {
        const char* text;
        const place* places;
        view(const label_frame& of) noexcept : text(of.text.data()), places(of.places.data()) {}
    };
};

/// Writes in steps of label_frame::step bytes, so up to one step more than the text, and reads as much.
inline char* put_piece(char* to, const char* from, std::size_t size) noexcept {
    std::memcpy(to, from, label_frame::step);
    for (std::size_t i = label_frame::step; i < size; i += label_frame::step) [[unlikely]] std::memcpy(to + i, from + i, label_frame::step);
    return to + size;
}

/// A family's name and its head on a page. A family that a collector yields has only this.
struct PROMETHEUS_ASYNC_LOCAL family_head {
    metric_type type{};
    bool non_legacy = false;  // one of its names is not legacy, and is escaped or quoted on a page
    string name;         // as declared, with unit and _total
    std::size_t base = 0;     // the length of the OpenMetrics family name, a prefix of `name`
    string underscored, as_values;  // that prefix in these escapings; empty: it needs none
    string help, unit;

    const type_row& row() const noexcept { return row_of(type); }
    std::string_view base_name() const noexcept { return std::string_view(name).substr(0, base); }
    std::string_view own_label() const noexcept { return row().labels_itself ? base_name() : row().own_label; }
    bool legacy() const noexcept { return underscored.empty(); }
    /// Unique in the registry. Names that the escaping `dots` makes equal are equal with `underscores` too.
    std::string_view key() const noexcept { return legacy() ? base_name() : underscored; }
};
/// What only metrics of one type need.
struct type_code {
    /// Takes the options that only they have; returns what is wrong with them, or null. Null: they have none.
    const char* (*take)(family_state& f, const metric_options& o);
    /// Puts the values of a series into `s`, and the counts of buckets, to which `s` points, into `counts`.
    void (*tell)(page_state& page, const family_state& f, record& r, shown_series& s, std::uint64_t* counts);
};
/// Where the series of a family come from.
enum class family_source : std::uint8_t {
    lines,     // it has them itself
    callback,  // it is declared, and a hook gives its value
    collector  // a hook yields families: it has no name, only a place on the page
};
constexpr std::string_view overflow_value = "_overflow";
struct PROMETHEUS_ASYNC_LOCAL family_state : family_head, allocated {
    std::uint64_t id = 0;
    registry_state* home = nullptr;
    family_source source = family_source::lines;
    const type_code* code = nullptr;
    const label_code* labelled = nullptr;  // null if it has no labels
    collector_hook* hook = nullptr;  // null if it has lines
    vector<string> labels, states;
    vector<std::uint32_t> sorted_states;  // their indexes
    vector<pair<string, string>> constants;
    bucket_bounds* bounds = nullptr;
    std::size_t max_series = 0;
    double window = 0;  // of a min_max_gauge, seconds

    family_face* face = nullptr;  // not null if it has label names
    label_frame frame{};
    pod_vector<line> lines{};
    pod_vector<line> compacted{};            // the existing ones of the first `copied` lines, until all are copied
    std::size_t copied = 0;
    std::size_t living = 0, entries = 0;  // existing series; those in the table
    std::size_t moved = 0;                // how many places of the older table were copied
    bool special = false;      // a series of it was reset or has an exemplar

    ~family_state() { if (bounds) state.release_bounds(bounds); }  // the lock is held
    /// What its declaration counts for the registry's limits, with the overflow series or the only one; a collector's family nothing.
    registry_limits needs() const noexcept {
        if (source == family_source::collector) return {};
        std::size_t bytes = name.size() + help.size() + unit.size() + labels.size() * overflow_value.size();
        for (const string& l : labels) bytes += l.size();
        for (const string& s : states) bytes += s.size();
        for (const auto& c : constants) bytes += c.first.size() + c.second.size();
        return {1, 1, bytes};
    }
    /// A native histogram has two more integers, for zeros and NaN.
    unsigned run_kind() const noexcept {
        return detail::run_kind(row().cells, 2 + row().more_cells + (bounds ? bounds->count + (bounds->native ? 2U : 0U) : 0));
    }
};

struct PROMETHEUS_ASYNC_LOCAL registry_state : allocated {
    std::uint64_t id;
    vector<family_state*> families;  // by id, which is the order of the page
    vector<family_state*> by_key;
    vector<family_state*> by_values;  // those that are not legacy, by as_values
    bool process_metrics;                 // were added
    std::uint32_t collectors;             // how many have no declared name
    const sharing_code* sharing;          // not null if it had a collector
    const registry_limits* most;
    registry_limits held;

    static registry_state& of(registry& r) {
        if (!r.state_) {
            hook_process();
            state.registries.reserve(state.registries.size + 1);
            r.state_ = new registry_state{{}, state.next_id(0), {}, {}, {}, false, 0, nullptr, &r.limits_, {}};
            state.registries.push(r.state_);
        }
        return *r.state_;
    }
    static registry_state* peek(const registry& r) noexcept { return r.state_; }
    static std::string_view key_of(const family_state& f) noexcept { return f.key(); }
    static std::string_view values_of(const family_state& f) noexcept { return f.as_values; }
    using text_of = std::string_view (*)(const family_state&) noexcept;
    static auto lower(vector<family_state*>& in, text_of text, std::string_view wanted) {
        return std::lower_bound(in.begin(), in.end(), wanted, [&](const family_state* f, std::string_view w) {
            PROMETHEUS_ASYNC_DETAIL_STEP();
            return text(*f) < w;
        });
    }
    static family_state* find(vector<family_state*>& in, text_of text, std::string_view wanted) {
        const auto at = lower(in, text, wanted);
        return at != in.end() && text(**at) == wanted ? *at : nullptr;
    }
    family_state* find(std::string_view key) { return find(by_key, key_of, key); }
    family_state* find_by_values(std::string_view values) { return find(by_values, values_of, values); }
    /// Finds a family by its full name, or by the name without what its type adds.
    family_state* find_named(std::string_view name) {
        for (const type_row& t : type_rows) {
            const std::string_view ending = name.ends_with(t.ending) ? t.ending : "";
            string key;
            append_name(key, name.substr(0, name.size() - ending.size()), escaping::underscores, false);
            if (family_state* f = find(key); f && (f->name == name || f->base_name() == name)) return f;
        }
        return nullptr;
    }
    /// The first limit that adding `more` would exceed, or null.
    std::size_t registry_limits::* lacks(const registry_limits& more) const noexcept {
        static constexpr std::size_t registry_limits::* all[] = {&registry_limits::families, &registry_limits::series, &registry_limits::bytes};
        for (const auto each : all) {
            const std::size_t limit = most->*each, now = held.*each;
            if (limit != 0 && more.*each != 0 && (now >= limit || more.*each > limit - now)) return each;
        }
        return nullptr;
    }
    void take(const registry_limits& more) noexcept {
        held.families += more.families;
        held.series += more.series;
        held.bytes += more.bytes;
    }
    void give(const registry_limits& back) noexcept {
        held.families -= back.families;
        held.series -= back.series;
        held.bytes -= back.bytes;
    }
    /// Allocates first, so that the change itself cannot fail.
    void reserve() { for (auto* v : {&families, &by_key, &by_values}) if (v->size() == v->capacity()) v->reserve(v->size() * 2 + 8); }
    void add(family_state& f) noexcept {
        take(f.needs());
        families.push_back(&f);
        by_key.insert(lower(by_key, key_of, f.key()), &f);
        if (!f.legacy()) by_values.insert(lower(by_values, values_of, f.as_values), &f);
    }
    void remove(const family_state& f) noexcept {
        give(f.needs());
        families.erase(std::lower_bound(families.begin(), families.end(), f.id, [](const family_state* a, std::uint64_t wanted) { return a->id < wanted; }));
        const auto without = [&](vector<family_state*>& in, text_of text) {
            if (const auto at = lower(in, text, text(f)); at != in.end() && *at == &f) in.erase(at);
        };
        without(by_key, key_of);
        if (!f.legacy()) without(by_values, values_of);
    }
};

// ---- names ----

inline bool ends_with(std::string_view s, std::string_view end) noexcept {
    return s.size() > end.size() && s.substr(s.size() - end.size()) == end;
}

/// Whether families of these base names have a sample name in common.
static bool overlap(std::string_view a, metric_type of_a, std::string_view b, metric_type of_b) noexcept {
    if (a.size() < b.size()) return overlap(b, of_b, a, of_a);
    if (a.substr(0, b.size()) != b) return false;
    const std::string_view more = a.substr(b.size());
    return more.empty() || any_suffix(of_b, [&](std::string_view s) { return s == more; });
}
/// A condition for families; an empty one is true for each. The object that it was made from must live as long.
class family_test {
public:
    constexpr family_test() noexcept = default;
    template <class Is>
    family_test(const Is& is) noexcept
        : of_(&is), is_([](const void* of, const family_state& f) -> bool { return (*static_cast<const Is*>(of))(f); }) {}
    bool operator()(const family_state& f) const { return !is_ || is_(of_, f); }

private:
    const void* of_ = nullptr;
    bool (*is_)(const void* of, const family_state& f) = nullptr;
};
/// A family that shares a sample name with `f`, as it is or escaped, and for which `counts` returns true; or null.
static family_state* clash(registry_state& home, const family_head& f, family_test counts = {}) {
    using finder = family_state* (*)(registry_state& home, std::string_view name);
    const auto owner = [&](std::string_view sample, finder find) -> family_state* {
        if (family_state* g = find(home, sample); g && counts(*g)) return g;
        for (std::size_t i = 0; i != std::size(suffix_texts); ++i)
            if (ends_with(sample, suffix_texts[i]))
                if (family_state* g = find(home, sample.substr(0, sample.size() - suffix_texts[i].size())))
                    if (has_suffix(g->type, static_cast<suffix>(i)) && counts(*g)) return g;
        return nullptr;
    };
    const auto owner_of_any = [&](std::string_view base, finder find) {
        family_state* g = owner(base, find);
        auto& whole = state.scratch;
        for (std::size_t i = 0; i != std::size(suffix_texts) && !g; ++i) {
            if (!has_suffix(f.type, static_cast<suffix>(i))) continue;
            const std::string_view s = suffix_texts[i];
            whole.reserve(base.size() + s.size());
            std::memcpy(whole.data, base.data(), base.size());
            std::memcpy(whole.data + base.size(), s.data(), s.size());
            g = owner({whole.data, base.size() + s.size()}, find);
        }
        return g;
    };
    if (family_state* g = owner_of_any(f.key(), [](registry_state& in, std::string_view key) { return in.find(key); })) return g;
    if (!f.legacy()) return owner_of_any(f.as_values, [](registry_state& in, std::string_view key) -> family_state* {
        family_state* g = in.find(key);
        return g && g->legacy() ? g : nullptr;
    });
    if (!f.name.starts_with("U__")) return nullptr;  // or a name that looks like an escaped one
    return owner_of_any(f.base_name(), [](registry_state& in, std::string_view values) { return in.find_by_values(values); });
}

// ---- bounds ----

static bool alike(const bucket_bounds& a, const native_buckets& b) noexcept {
    return a.factor == b.factor && a.zero_threshold == b.zero_threshold && a.max_buckets == b.max_buckets &&
           a.max_zero_threshold == b.max_zero_threshold && a.min_reset == b.min_reset.count();
}
/// What is wrong with these options, or null.
static const char* native_fault(const native_buckets& n) noexcept {
    if (PROMETHEUS_ASYNC_NO_NATIVE) return "this build does not have native histograms (PROMETHEUS_ASYNC_NO_NATIVE)";
    if (!is_finite(n.factor) || !(n.factor > 1)) return "native.factor must be above 1, for example 1.1";
    if (!is_finite(n.zero_threshold) || n.zero_threshold < 0) return "native.zero_threshold is negative or not finite";
    if (!is_finite(n.max_zero_threshold) || n.max_zero_threshold < 0) return "native.max_zero_threshold is negative or not finite";
    if (n.max_buckets == 1) return "native.max_buckets must be 0, for no limit, or at least 2";
    if (!possible_time(n.min_reset.count())) return "native.min_reset is not a valid time";
    return nullptr;
}
/// The interned bounds, with one more user: the caller.
static bucket_bounds* intern_bounds(const vector<double>& upper, const native_buckets& native) {
    state.take_seed();
    const auto hash = static_cast<std::size_t>(state.fingerprint_of({reinterpret_cast<const char*>(upper.data()), upper.size() * sizeof(double)}).low);
    auto& chains = state.bounds;
    if (state.bounds_count == chains.size) {
        pod_vector<bucket_bounds*> wider{};
        for (wider.reserve(chains.size == 0 ? 16 : chains.size * 2); wider.size != wider.room;) wider.push(nullptr);
        for (bucket_bounds* b : chains)
            for (bucket_bounds* next; b; b = next) next = detail::exchanged(b->next, detail::exchanged(wider[b->hash & (wider.size - 1)], b));
        std::exchange(chains, wider).release();
    }
    bucket_bounds*& chain = chains[hash & (chains.size - 1)];
    for (bucket_bounds* b = chain; b; b = b->next) {
        PROMETHEUS_ASYNC_DETAIL_STEP();
        if (b->hash == hash && b->count == upper.size() && std::equal(upper.begin(), upper.end(), b->upper) && alike(*b, native)) return ++b->users, b;
    }
    auto* b = new bucket_bounds{};
    undo made{[b] { state.destroy(b); }};
    b->count = static_cast<std::uint32_t>(upper.size());
    b->factor = native.factor;
    b->code = native.factor.code();
    b->zero_threshold = native.zero_threshold;
    b->max_zero_threshold = native.max_zero_threshold;
    b->min_reset = native.min_reset.count();
    b->max_buckets = native.max_buckets;
#if !PROMETHEUS_ASYNC_NO_NATIVE
    if ((b->native = b->code != nullptr)) {
        b->coarser = static_cast<std::uint8_t>(most_schema - b->code->schema(native.factor));
        b->round = (std::uint32_t{1} << b->coarser) - 1;
        b->least = __builtin_bit_cast(std::uint64_t, native.zero_threshold) + 1;
        // Usual sizes are normal and finite; with a subnormal threshold no size counts as usual.
        b->most = b->least >> 52 != 0 ? infinite - b->least : 0;
    }
#endif
    std::uint32_t power = 1;
    while (power <= b->count) power *= 2;
    b->half = power / 2;
    auto* padded = static_cast<double*>(take_memory(power * sizeof(double), alignof(double)));
    std::copy(upper.begin(), upper.end(), padded);
    for (std::uint32_t i = b->count; i != power; ++i) std::memcpy(&padded[i], &infinite, sizeof infinite);
    b->upper = padded;

    const auto key = [](double x) { return static_cast<std::int32_t>(__builtin_bit_cast(std::int64_t, x) >> 50); };
    double least = 0;  // the smallest positive bound
    for (double x : upper) if (x > 0) { least = x; break; }
    // The table begins one entry before that bound, or up to 32 octaves earlier if there is room, so that few values are outside. It has
    // neither infinity nor NaN, nor values below zero, whose keys are negative.
    const std::int32_t low = key(least) - 1, high = upper.empty() ? low : key(upper.back());
    b->first = (std::max)(0, (std::min)({low, (std::max)(low - 128, high - 254), static_cast<std::int32_t>(infinite >> 50) - 256}));
    unsigned held[256] = {};
    for (double x : upper) {
        const auto i = static_cast<std::int32_t>(key(x)) - b->first;
        ++held[i < 0 ? 0 : i > 255 ? 255 : i];
    }
    b->direct = true;
    for (unsigned i = 0, below = 0; i != 256; below += held[i++]) {
        b->table[i] = static_cast<std::uint8_t>(below);
        b->direct &= held[i] <= 1;
    }
    b->plain = b->direct && !b->native;

    string text;
    b->ends = static_cast<std::uint16_t*>(take_memory((b->count + 1) * sizeof(std::uint16_t), alignof(std::uint16_t)));
    for (std::uint32_t i = 0; i <= b->count; ++i) {
        char digits[40];
        text.append(digits, static_cast<std::size_t>(put_bound(digits, padded[i]) - digits));
        text += "\"} ";
        b->ends[i] = static_cast<std::uint16_t>(text.size());
    }
    text.append(bucket_bounds::spare, '\0');
    b->text = static_cast<char*>(take_memory(text.size(), 1));
    std::memcpy(b->text, text.data(), text.size());
    b->users = 1;
    b->hash = hash;
    b->next = chain;
    ++state.bounds_count;
    made.done = true;
    return chain = b;
}

// ---- the tables of series, which lookups read without the lock ([22]) ----

std::uint64_t hash_long(const hash_seed& seed, std::uint64_t h, std::string_view value) noexcept {
    const char *at = value.data() + 8, *const last = value.data() + value.size() - 16;  // the first 8 bytes are in the key
    const auto take = [&](const char* from) {
        h = mix(load_little<std::uint64_t>(from) ^ seed.low, load_little<std::uint64_t>(from + 8) ^ h);
    };
    for (; at < last; at += 16) take(at);
    take(last);
    return h;
}
bool long_values_equal(const record& r, const std::string_view* values, std::size_t count) noexcept {
    const std::uint64_t* stored = r.key() + 2 * count;
    for (std::size_t i = 0; i != count; ++i) {
        if (values[i].size() < 16) continue;
        const char *at = values[i].data(), *const last = at + values[i].size() - 8;
        std::uint64_t word;
        for (; at < last; at += 8) {
            std::memcpy(&word, at, 8);
            if (acquire(*stored++) != word) return false;
        }
        std::memcpy(&word, last, 8);
        const auto before = static_cast<unsigned>(at - last) * 8;  // bits that are in the word before too
        if (acquire(*stored++) != (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? word << before : word >> before)) return false;
    }
    return true;
}

static record* record_of(std::uintptr_t entry) noexcept { return reinterpret_cast<record*>(entry & ~std::uintptr_t{15}); }
static void bump(family_face& face) noexcept { __atomic_store_n(&face.version, face.version + 1, __ATOMIC_RELEASE); }

/// False when the nearest free place is too far away.
static bool insert(std::uintptr_t* entries, unsigned log2, std::uintptr_t entry) noexcept {
    const std::size_t mask = (std::size_t{1} << log2) - 1;
    std::size_t i = static_cast<std::size_t>(record_of(entry)->hash) & mask;
    for (std::size_t probes = most_probes(log2); entries[i] != 0; i = (i + 1) & mask) if (--probes == 0) return false;
    __atomic_store_n(&entries[i], entry, __ATOMIC_RELEASE);
    return true;
}
/// Computes the hash of a series with the present seed; returns its entry.
static std::uintptr_t hash_record(const family_state& f, record* r) noexcept {
    const std::size_t count = f.labels.size();
    key_pair keys[64];
    std::string_view values[64];
    const auto* stored = reinterpret_cast<const char*>(r->key() + 2 * count);
    for (std::size_t i = 0; i != count; ++i) {
        keys[i] = {r->key()[2 * i], r->key()[2 * i + 1]};
        if (!is_long(keys[i])) continue;
        values[i] = {stored, long_size(keys[i])};
        stored += (values[i].size() + 7) / 8 * 8;
    }
    const std::uint64_t hash = hash_values(f.face->seed, keys, values, count);
    __atomic_store_n(&r->hash, static_cast<std::uint32_t>(hash), __ATOMIC_RELEASE);
    return reinterpret_cast<std::uintptr_t>(r) | static_cast<std::uintptr_t>(hash >> 60);
}
static void new_seed(family_face& face) noexcept {
    const fingerprint fresh = state.fingerprint_of(state.next_id(0));
    release(face.seed.low, fresh.low);
    release(face.seed.high, fresh.high);
}
static std::uintptr_t* entries_of(std::uintptr_t table) noexcept { return reinterpret_cast<std::uintptr_t*>(table & ~std::uintptr_t{63}); }
static std::size_t size_of(std::uintptr_t table) noexcept { return table == 0 ? 0 : std::size_t{1} << (table & 63); }

/// Null: it is not there, or too many series were removed during the search.
static found_record find_anywhere(const family_face& face, std::uint64_t family, const key_pair* keys, const std::string_view* values,
                                  std::size_t count, std::uint32_t& place) noexcept {
    for (int attempt = 0; attempt != 4; ++attempt) {
        const std::uintptr_t version = __atomic_load_n(&face.version, __ATOMIC_ACQUIRE);
        const std::uintptr_t table = __atomic_load_n(&face.table, __ATOMIC_ACQUIRE);
        if (acquire(face.id) != family || table == 0) break;
        const std::uint64_t hash = hash_values({acquire(face.seed.low), acquire(face.seed.high)}, keys, values, count);
        found_record found = find_in(table, hash, keys, values, count, place);
        if (const std::uintptr_t older = __atomic_load_n(&face.older, __ATOMIC_ACQUIRE); !found.rec && older != 0) [[unlikely]]
            found = find_in(older, hash, keys, values, count, place);
        if (__atomic_load_n(&face.version, __ATOMIC_RELAXED) == version) return found;
    }
    return {};
}
/// Copies the entries of the next `places` places of the older table. They also stay in the older table, so that probing
/// there still works, until all are copied and lookups no longer use it.
static void move_entries(family_state& f, std::size_t places) noexcept {
    family_face& face = *f.face;
    const std::uintptr_t older = face.older;
    if (older == 0) return;
    for (; f.moved != size_of(older); ++f.moved) {
        if (places-- == 0) return;
        PROMETHEUS_ASYNC_DETAIL_STEP();
        const std::uintptr_t entry = entries_of(older)[f.moved];
        // If no place is near enough, which practically never happens by chance, the next growth takes another seed.
        if (entry != 0 && record_of(entry) != state.tombstone && !insert(entries_of(face.table), face.table & 63, entry)) return;
    }
    __atomic_store_n(&face.older, std::uintptr_t{0}, __ATOMIC_RELEASE);
    bump(face);
    state.give_table(entries_of(older), older & 63);
}
constexpr unsigned least_moved = 10;             // log2 of the size from which on a table is copied in portions
constexpr std::size_t places_a_series = 64;      // how many are copied with each new series: it ends long before the next growth

static void publish(family_state& f, record* r) {
    family_face& face = *f.face;
    move_entries(f, places_a_series);
    const auto log2 = static_cast<unsigned>(face.table & 63);
    auto* entries = entries_of(face.table);
    const std::size_t size = size_of(face.table);
    const bool room = ++f.entries * 2 <= size;
    std::uintptr_t added = hash_record(f, r);
    if (room && insert(entries, log2, added)) return;
    unsigned wider = size == 0 ? 3 : room ? log2 : log2 + 1;
    std::uintptr_t* grown = nullptr;
    const std::uintptr_t older = face.older;
    if (!room && log2 >= least_moved && older == 0) {
        undo counted{[&] { --f.entries; }};
        state.make_tombstone();
        grown = state.take_table(wider);
        counted.done = true;
        f.moved = 0;
        static_cast<void>(insert(grown, wider, added));  // always true: the table is empty
        __atomic_store_n(&face.older, face.table, __ATOMIC_RELEASE);
        __atomic_store_n(&face.table, reinterpret_cast<std::uintptr_t>(grown) | wider, __ATOMIC_RELEASE);
        return;
    }
    // Copies all at once: the table is small, or an entry found no place.
    const auto each = [&](auto take) {
        for (std::size_t i = 0; i != size; ++i) if (entries[i] != 0 && !take(entries[i])) return false;
        for (std::size_t i = f.moved; i < size_of(older); ++i)
            if (const std::uintptr_t e = entries_of(older)[i]; e != 0 && record_of(e) != state.tombstone && !take(e)) return false;
        return true;
    };
    // Without memory nothing changes.
    undo old{[&, seed = face.seed] {
        --f.entries;
        if (face.seed.low == seed.low && face.seed.high == seed.high) return;
        release(face.seed.low, seed.low);
        release(face.seed.high, seed.high);
        each([&](std::uintptr_t entry) { return hash_record(f, record_of(entry)) != 0; });
    }};
    // Without knowing the seeds no client can make this fail twice; if it happens, the table becomes larger.
    for (bool good = false, again = room; !good; again = true) {
        if (again) {
            new_seed(face);
            added = hash_record(f, r);
        }
        grown = state.take_table(wider);
        good = insert(grown, wider, added) && each([&](std::uintptr_t entry) {
            PROMETHEUS_ASYNC_DETAIL_STEP();
            return insert(grown, wider, again ? hash_record(f, record_of(entry)) : entry);
        });
        if (!good) state.give_table(grown, wider++);
    }
    old.done = true;
    __atomic_store_n(&face.table, reinterpret_cast<std::uintptr_t>(grown) | wider, __ATOMIC_RELEASE);
    __atomic_store_n(&face.older, std::uintptr_t{0}, __ATOMIC_RELEASE);
    bump(face);
    if (size != 0) state.give_table(entries, log2);
    if (older != 0) state.give_table(entries_of(older), older & 63);
}

/// Removes `r` from the table. Linear probing without tombstones: the entries that follow are moved back. An older table
/// gets a tombstone instead, because its places are copied in their order.
static void unlink(family_state& f, record* r) noexcept {
    --f.entries;
    const auto place_in = [r](std::uintptr_t table) -> std::uintptr_t* {
        const std::size_t mask = size_of(table) - 1;
        for (std::size_t i = static_cast<std::size_t>(r->hash) & mask;; i = (i + 1) & mask) {
            std::uintptr_t& entry = entries_of(table)[i];
            if (entry == 0) return nullptr;
            if (record_of(entry) == r) return &entry;
        }
    };
    if (f.face->older != 0)
        if (std::uintptr_t* const there = place_in(f.face->older))
            __atomic_store_n(there, reinterpret_cast<std::uintptr_t>(state.tombstone), __ATOMIC_RELEASE);
    std::uintptr_t* const here = place_in(f.face->table);
    if (!here) return;  // it is not copied yet
    auto* entries = entries_of(f.face->table);
    const std::size_t mask = size_of(f.face->table) - 1;
    auto hole = static_cast<std::size_t>(here - entries);
    for (std::size_t i = hole;;) {
        i = (i + 1) & mask;
        if (entries[i] == 0) break;
        const std::size_t home = static_cast<std::size_t>(record_of(entries[i])->hash) & mask;
        if (((i - home) & mask) < ((i - hole) & mask)) continue;  // it must not be before its first place
        __atomic_store_n(&entries[hole], entries[i], __ATOMIC_RELEASE);
        hole = i;
    }
    __atomic_store_n(&entries[hole], std::uintptr_t{0}, __ATOMIC_RELEASE);
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [47] series                                       made, found, removed; what few of them have
//      needs [46]
// =============================================================================
//
// A series stores only the values of its labels, as its key; the text around them on a page is stored in its family.
PROMETHEUS_ASYNC_BEGIN
namespace detail {

/// How much a sum of doubles may change if they are added in another order.
static double rounding(double of) noexcept { return 1.2e-16 * (100 + state.thread_count) * (of < 0 ? -of : of); }
/// After a thread's cells were folded, doubles are added in another order, and the rounded sum may be lower than before,
/// which a scraper takes for a restart. So the record keeps the value that was shown last, and shows it again if the new one is
/// lower by no more than rounding.
static double steady(record& r, double now) noexcept {
    const double last = r.word.last_shown, held = last + (r.extra ? r.extra->base : 0);
    if (is_finite(last) && is_finite(now) && now < last && last - now <= rounding(held)) return last;
    return r.word.last_shown = now;
}
/// The series must exist.
static bool is_native(const record& r) noexcept { return r.family->bounds && r.family->bounds->native; }
/// The sums of a series, of all threads together, since its last reset.
static run_sum since_reset(record& r, run_sum sum) noexcept {
    if (r.extra) {
        sum.real -= r.extra->base;
        if (is_finite(sum.real) && sum.real <= rounding(r.extra->base) && -sum.real <= rounding(r.extra->base)) sum.real = 0;
    }
    if (order(sum.real) != 0) sum.real = steady(r, sum.real);
    return sum;
}
/// Of what has no buckets.
static run_sum sum_of_number(record& r, std::uint32_t place) noexcept { return since_reset(r, sum_run(r.id, place)); }
static run_sum sum_since_reset(record& r, std::uint32_t place, std::uint64_t* integers = nullptr) noexcept {
#if !PROMETHEUS_ASYNC_NO_NATIVE
    if (is_native(r)) {
        std::uint64_t none[256] = {};
        return since_reset(r, r.family->bounds->code->sum(r, place, integers ? integers : none));
    }
#endif
    return since_reset(r, sum_run(r.id, place, integers));
}
/// Subtracts these counts from a series, for a reset. Integers become exactly zero; a double cannot, so its value is returned
/// and added to the base.
static double take_out(std::uint64_t id, std::uint32_t place, const std::uint64_t* counts) noexcept {
    cell* run = state.shared.run_at(place);
    // A value that is not finite cannot be subtracted: it is set to 0, even if a thread is adding to it.
    const auto make_finite = [&](cell* of) {
        if (of->load() == id && !is_finite(of[1].real())) of[1].store(0);
    };
    make_finite(run);
    for (thread_record* t = state.threads; t; t = t->next)
        if (PROMETHEUS_ASYNC_DETAIL_WIDE || t->cells == &this_thread)  // a cell of two words must have only one writer
            make_finite(t->block.run_at(place));
    for (unsigned i = 2; i < run_length(id); ++i) run[i].add_shared(0 - counts[i - 2]);
    return sum_run(id, place).real;
}
static void start_again(record& r, double now) noexcept {
    r.word.last_shown = 0;
    r.created = now;
    r.extra->sum_reported = false;
    r.family->special = true;
#if !PROMETHEUS_ASYNC_NO_NATIVE
    if (is_native(r)) native_cells::of(r).shown = {r.family->bounds->coarser, native_reduction::none};
#endif
}

#if !PROMETHEUS_ASYNC_NO_NATIVE
/// A native histogram as pages show it, its sum, and in `integers` its classic buckets. If it was reduced and is old
/// enough, it is shown for the last time and reset: what this page shows is subtracted. The lock is held.
static run_sum view_native(record& r, std::uint32_t place, std::uint64_t* integers, native_view& v, double now) {
    const bucket_bounds& b = *r.family->bounds;
    native_reduction& shown = native_cells::of(r).shown;
    const auto reduced = [&] { return shown.coarser != b.coarser || shown.zeros != native_reduction::none; };
    const double least = b.min_reset;
    const bool last = least > 0 && reduced() && now - r.created >= least;
    double base = 0;
    v.cells.clear();
    if (last) {  // what is subtracted must be shown: nothing may fail after it
        if (!r.extra) r.extra = new series_extra;
        std::size_t most = 0;
        native_cells::of(r).each([&](const native_window&) { most += window_keys; });
        v.cells.reserve(most);
        v.negative.reserve(most);
        v.positive.reserve(most);
    }
    const run_sum sum = since_reset(r, sum_native(r, place, b, integers, &v.cells, [&](std::uint64_t id, std::uint32_t at, const std::uint64_t* counts) {
        if (last) base += take_out(id, at, counts);
    }));
    v.zero_count = integers[b.count + 1];
    v.nans = integers[b.count + 2];
    reduce(v, shown, b.zero_threshold, b.max_buckets, b.max_zero_threshold);
    v.created = r.created;
    if (!last) return sum;
    r.extra->base = base;
    start_again(r, now);
    return sum;
}
constinit const native_code native_code::all{
    native_fault, schema_of,
    [](record& r, std::uint32_t place, std::uint64_t* integers) noexcept {
        return sum_native(r, place, *r.family->bounds, integers, nullptr, [](std::uint64_t, std::uint32_t, const std::uint64_t*) {});
    },
    view_native};
#else
constinit const native_code native_code::all{native_fault, nullptr, nullptr, nullptr};
#endif

/// The extremes of a series at `now`. If half a window has passed since the last turn, the older half is dropped and the
/// next one begins. Updates read no clock, so reading does that; reading again changes nothing.
static run_extremes extremes_at(record& r, std::uint32_t place, double now) noexcept {
    if (const std::int64_t passed = order(now - r.turned); passed < 0 || passed >= order(r.family->window / 2)) {
        r.turned = now;
        __atomic_store_n(&r.word.turn, r.word.turn + 1, __ATOMIC_RELAXED);
    }
    return extremes_of_run(r, place);
}

/// The values of a series, in the order of the labels. The lock is held.
class stored_values {
public:
    stored_values(const record& r, std::size_t count) noexcept : key_(r.key()), long_(reinterpret_cast<const char*>(key_ + 2 * count)) {}
    /// The next value; a short one is stored at `space`, which has 16 bytes.
    std::string_view next(char* space) noexcept {
        const key_pair k{*key_, key_[1]};
        key_ += 2;
        if (is_long(k)) [[unlikely]] return {std::exchange(long_, long_ + (long_size(k) + 7) / 8 * 8), long_size(k)};
        store_little(space, k.low);
        store_little(space + 8, k.high);
        return {space, static_cast<std::size_t>(k.high >> 56)};
    }

private:
    const std::uint64_t* key_;
    const char* long_;
};
static void make_frame(family_state& f) {
    string& text = f.frame.text;
    const bool whole = f.row().one_line && !f.non_legacy;
    const auto end_value = [&](bool last) { text.append(last && whole ? "\"} " : "\","); };
    if (whole) text.append(f.name) += '{';
    for (const auto& c : f.constants) {
        text.append(c.first).append("=\"");
        append_escaped_label(text, c.second);
        end_value(f.labels.empty() && &c == &f.constants.back());
    }
    for (const string& label_name : f.labels) {
        text.append(label_name).append("=\"");
        f.frame.end_piece();
        end_value(&label_name == &f.labels.back());
    }
    f.frame.end_piece();
    text.append(label_frame::step, '\0');
}
/// Prepares a family with labels.
static void begin_labelled(family_state& f) {
    make_frame(f);
    if (f.labels.empty()) return;
    state.take_seed();
    if (state.free_faces) f.face = exchanged(state.free_faces, reinterpret_cast<family_face*>(state.free_faces->family));
    else f.face = ::new (state.type_stable(sizeof(family_face))) family_face{};
    f.face->family = &f;
    new_seed(*f.face);
    release(f.face->id, f.id);
}
/// Writes `name{a="b"} ` or `a="b",`, by the family's frame, for a series without escapes.
PROMETHEUS_ASYNC_DETAIL_JOINED char* put_series_text(char* to, label_frame::view frame, const record& r, std::size_t count) noexcept {
    const std::uint64_t* key = r.key();
    const auto* stored = reinterpret_cast<const char*>(key + 2 * count);
    const label_frame::place* at = frame.places;
    to = put_piece(to, frame.text, at->size);
    for (const label_frame::place* const last = at + count; at != last; key += 2) {
        auto size = static_cast<std::size_t>(key[1] >> 56);
        if (size != 0xff) {
            store_little(to, key[0]);
            store_little(to + 8, key[1]);
        } else {
            size = long_size({key[0], key[1]});
            std::memcpy(to, stored, 16);
            if (size <= 32) std::memcpy(to + size - 16, stored + size - 16, 16);
            else std::memcpy(to + 16, stored + 16, size - 16);
            stored += (size + 7) / 8 * 8;
        }
        to += size;
        ++at;
        to = put_piece(to, frame.text + at->begin, at->size);
    }
    return to;
}
/// The same for any series, which it appends.
static void append_series_text(string& to, const family_state& f, const record& r) {
    if (r.size != record::escaped) [[likely]] {
        const std::size_t begin = to.size(), end = begin + f.frame.size() + r.size;
        to.resize(end + label_frame::step);
        put_series_text(to.data() + begin, f.frame, r, f.labels.size());
        return to.resize(end);
    }
    stored_values values(r, f.labels.size());
    char space[16];
    to.append(f.frame.piece(0));
    for (std::size_t i = 0; i != f.labels.size(); ++i) {
        append_escaped_label(to, values.next(space));
        to.append(f.frame.piece(i + 1));
    }
}

constexpr std::size_t lines_at_once = 512;  // handled before the lock is released for a moment

/// When half of the lines are of removed series, the others are copied to a new list, a portion at each call. The new list
/// then replaces the old one. True when there is more to copy. Without memory nothing is done.
static bool compact(family_state& f) noexcept {
    if (f.copied == 0 && (f.lines.size < 64 || f.living * 2 > f.lines.size)) return false;
    const std::size_t all = f.copied == 0 ? f.living : f.compacted.size + (std::min)(f.lines.size - f.copied, lines_at_once);
    if (!f.compacted.try_reserve(all)) {
        f.compacted.release();
        f.copied = 0;
        return false;
    }
    for (std::size_t left = lines_at_once; f.copied != f.lines.size; ++f.copied) {
        if (left-- == 0) return true;
        PROMETHEUS_ASYNC_DETAIL_STEP();
        if (f.lines[f.copied].living()) f.compacted.push(f.lines[f.copied]);
    }
    std::swap(f.lines, f.compacted);
    f.compacted.release();
    f.copied = 0;
    return false;
}
/// Does a portion of the work that growing and removing have left. Called with each piece of a page.
static void tidy(family_state& f) noexcept {
    if (!f.face) return;  // it has one series
    move_entries(f, 256);
    if (f.copied != 0) compact(f);
}

/// What a series counts for its registry's limits: nothing for the overflow series or the only one, which the declaration counted.
class series_needs {
public:
    void add(std::string_view value) noexcept {
        own_ |= value != overflow_value;
        bytes_ += value.size();
    }
    registry_limits sum() const noexcept { return own_ ? registry_limits{0, 1, bytes_} : registry_limits{}; }

private:
    std::size_t bytes_ = 0;
    bool own_ = false;
};
static std::size_t octets(const vector<pair<string, string>>& labels) noexcept {
    std::size_t sum = 0;
    for (const auto& l : labels) sum += l.first.size() + l.second.size();
    return sum;
}

/// A record for a new series, with room for `words` of its key, and its run, whose tag is its id. If it throws, nothing has
/// changed. The lock is held.
static record* begin_series(family_state& f, std::size_t words, double now) {
    f.lines.reserve(f.lines.size + 1);
    state.recycle();
    const unsigned kind = f.run_kind(), length = run_length(kind);
    if (!state.ensure_run(length)) no_memory();
    std::size_t units = (sizeof(record) + words * 8 + 15) / 16;
    if (f.row().cells != cell_rule::sum) units = (units + 3) / 4 * 4;  // so that threads that set different gauges share no cache line
#if !PROMETHEUS_ASYNC_NO_NATIVE
    const bool native = f.bounds && f.bounds->native;
    if (native) units += (sizeof(native_cells) + 15) / 16;
    record* r = state.take_record(static_cast<std::uint32_t>(units));
    if (native) ::new (static_cast<void*>(&native_cells::of(*r))) native_cells{nullptr, {f.bounds->coarser, native_reduction::none}, {}};
#else
    record* r = state.take_record(static_cast<std::uint32_t>(units));
#endif
    const std::uint32_t place = state.take_run(length);
    const std::uint64_t id = state.next_id(kind);
    release(r->id, id);
    __atomic_store_n(&r->place, place, __ATOMIC_RELEASE);
    r->created = now;
    switch (rule_of(id)) {
    case cell_rule::none: r->word.state = 0; break;
    case cell_rule::sum: r->word.last_shown = 0; break;
    case cell_rule::sum_or_set: r->word.last_set.clear(); break;
    case cell_rule::extremes:
        __atomic_store_n(&r->word.turn, 2, __ATOMIC_RELAXED);
        r->turned = __builtin_bit_cast(double, infinite | 1);  // the first page begins a turn
    }
    r->family = &f;
    r->size = 0;
    state.shared.run_at(place)[0].store(id);
    return r;
}
/// Now the page shows it. There is room for its line.
static void end_series(family_state& f, record* r) noexcept {
    f.lines.push(line(r));
    ++f.living;
}
/// Makes the series of these values, which must not exist yet. If it throws, nothing has changed. The lock is held.
static record* make_series(family_state& f, const std::string_view* values, const key_pair* keys, std::size_t count, double now) {
    std::size_t words = 2 * count;
    std::size_t size = 0;
    bool escapes = false;
    series_needs needs;
    for (std::size_t i = 0; i != count; ++i) {
        needs.add(values[i]);
        size += values[i].size();
        escapes |= values[i].find_first_of("\\\"\n") != values[i].npos;
        if (is_long(keys[i])) words += (values[i].size() + 7) / 8;
    }
    if (f.copied != 0) compact(f);
    state.clear_tables();
    record* const r = begin_series(f, words, now);
    r->size = escapes || size >= record::escaped ? record::escaped : static_cast<std::uint32_t>(size);
    std::uint64_t* key = r->key();
    for (std::size_t i = 0; i != count; ++i) {
        release(key[2 * i], keys[i].low);
        release(key[2 * i + 1], keys[i].high);
    }
    key += 2 * count;
    for (std::size_t i = 0; i != count; ++i) {
        if (!is_long(keys[i])) continue;
        for (std::size_t at = 0; at < values[i].size(); at += 8) {
            std::uint64_t word = 0;
            std::memcpy(&word, values[i].data() + at, values[i].size() - at < 8 ? values[i].size() - at : 8);
            release(*key++, word);
        }
    }
    undo made{[&] { state.give_run(r->place, r->id), state.give_record(r); }};
    publish(f, r);
    made.done = true;
    end_series(f, r);
    f.home->take(needs.sum());
    return r;
}

static line* line_of(const pod_vector<line>& in, std::uint64_t id) noexcept {
    line* at = line::first_from(in.begin(), in.end(), id);
    return at != in.end() && at->id() == id && at->living() ? at : nullptr;
}

static constexpr removal_code removing{[]() noexcept { state.recycle_removed(); }, [](thread_record& t) noexcept { return state.release_removed(t); }};
/// Order matters: 1. take it out of the table, 2. change the table's version, 3. let its memory be used again. A lookup that
/// saw anything of what replaces it then also sees the version.
static void remove_series(family_state& f, line& l, bool in_table) noexcept {
    PROMETHEUS_ASYNC_DETAIL_STEP();
    record* r = l.living();
    if (in_table) {
        unlink(f, r);
        bump(*f.face);
    }
    if (f.copied != 0)
        if (line* const copy = line_of(f.compacted, r->id)) copy->remove();
    l.remove();
    --f.living;
    stored_values values(*r, f.labels.size());
    series_needs needed;
    char space[16];
    for (std::size_t i = 0; i != f.labels.size(); ++i) needed.add(values.next(space));
    f.home->give(needed.sum());
    if (r->extra) f.home->give({0, 0, octets(r->extra->info)});
    r->owed = 0;
    delete std::exchange(r->extra, nullptr);
    // Besides its cells an update may access the record's word or the bounds. Each thread that has used this series may be about to
    // do so. So they are not freed until each of these threads has called release_owed().
    r->bounds = f.bounds;
    if (f.bounds) ++f.bounds->users;
    if (rule_of(r->id) != cell_rule::sum || f.bounds) {
        for (thread_record* t = state.threads; t; t = t->next) {
            cell* run = t->block.run_at(r->place);
            if (run->load() != r->id || run == nowhere) continue;
            ++r->owed;
            if (t->owes.try_reserve(t->owes.size + 1)) t->owes.push(r);  // without memory the record is never used again
        }
    }
    state.removals = &removing;
    state.retire(r);
#if !PROMETHEUS_ASYNC_NO_THREADS
    if (this_record) state.release_owed(*this_record);
#endif
}

// ---- children ----

/// "<name>: <why>"; without a name only the reason.
static error bad(errc code, std::string_view name, std::string_view why) { return error_of(code, {name, name.empty() ? "" : ": ", why}); }

/// Whether make_series() finds memory; asked only without exceptions.
static bool memory_for_series([[maybe_unused]] const family_state& f, [[maybe_unused]] const std::string_view* values, [[maybe_unused]] std::size_t count) noexcept {
#if !PROMETHEUS_ASYNC_EXCEPTIONS
    if (!state.ensure_run(run_length(f.run_kind()))) return false;
    std::size_t fixed = sizeof(record) + 16 * count + 512, more = 0;  // 512: what a native histogram's record has, and alignment
    for (std::size_t i = 0; i != count; ++i) fixed += values[i].size() + 8;
    if (count != 0 && (f.entries + 1) * 2 > size_of(f.face->table)) {  // a table of twice the size, its place in the lists, the tombstone
        fixed += 2 * sizeof(std::uintptr_t) * size_of(f.face->table) + 2048;
        more += 32 * (state.all_tables_made + 4);
    }
    if (f.lines.size == f.lines.room) more += (f.lines.room + f.lines.room / 2 + 4) * sizeof(line);
    if (fixed > state.arena_left) more += fixed + 2 * state.arena_size + 4096;
    return more == 0 || memory_for(more);
#else
    return true;
#endif
}

/// Finds a series, or makes it, created at `now`. If `now` is null it only finds, and the result may be empty; without
/// exceptions also without memory.
static series find_or_make(family_state& f, const std::string_view* values, std::size_t count, const double* now) {
    key_pair keys[64];
    std::size_t named = 0;
    do keys[named] = make_key(values[named]);  // there is at least one label
    while (++named != count);
    std::uint32_t place = 0;
    const record* r = find_anywhere(*f.face, f.face->id, keys, values, count, place).rec;
    if (!r && now && memory_for_series(f, values, count)) r = make_series(f, values, keys, count, *now);
    return r ? series{r->id, page_of(r->place), offset_of(r->place), const_cast<record*>(r)} : series{};
}

/// Label values as series store them: with U+FFFD for invalid octets.
struct clean_values {
    string cleaned[64];
    std::string_view views[64];
    bool changed = false;

    clean_values(const std::string_view* values, std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            views[i] = values[i];
            if (!valid_utf8(values[i])) views[i] = cleaned[i] = sanitize_utf8(values[i], changed);
        }
    }
};
series make_child(const declared& family, const std::string_view* values, std::size_t count) {
    const char* wrong = nullptr;
    const double now = wall_now();  // without the lock, because a clock may be user code
    {
        const global_lock lock;
        if (family.face->id != family.id) return {};  // the registry was destroyed
        family_state& f = *family.face->family;
        if (count == f.labels.size()) {
            clean_values clean(values, count);
            if (clean.changed) ++state.counted[static_cast<unsigned>(event_kind::text_sanitized)];
            series_needs needs;
            for (std::size_t i = 0; i != count; ++i) needs.add(clean.views[i]);
            bool full = f.home->lacks(needs.sum()) != nullptr;
            std::string_view rest[64];
            if (full || (f.max_series != 0 && f.living >= f.max_series)) {
                std::fill(rest, rest + count, overflow_value);
                full = full || f.living - (find_or_make(f, rest, count, nullptr).id != 0) >= f.max_series;
            }
            const series s = find_or_make(f, clean.views, count, full ? nullptr : &now);
            if (s.id != 0) return s;
            ++state.counted[static_cast<unsigned>(event_kind::series_overflowed)];
            if (!full) std::fill(rest, rest + count, overflow_value);
            return find_or_make(f, rest, count, &now);
        }
        wrong = "a family takes one value for each of its labels";
    }
    raise({errc::invalid_option, wrong});
}
found_record find_or_make_child(const declared& family, const std::string_view* values, std::size_t count, std::uint32_t& place) {
    key_pair keys[64];
    for (std::size_t i = 0; i != count; ++i) keys[i] = make_key(values[i]);
    if (const found_record found = find_anywhere(*family.face, family.id, keys, values, count, place); found.rec) return found;
    const series made = make_child(family, values, count);
    place = place_of(made.page, made.offset);
    return {made.rec, made.id};
}

bool remove_child(const declared& family, const std::string_view* values, std::size_t count) {
    if (!family.face) return false;
    const global_lock lock;
    if (family.face->id != family.id || count != family.face->family->labels.size()) return false;
    family_state& f = *family.face->family;
    const series s = find_or_make(f, clean_values(values, count).views, count, nullptr);
    line* l = s.id == 0 ? nullptr : line_of(f.lines, s.id);
    if (!l) return false;
    remove_series(f, *l, true);
    state.recycle();
    compact(f);
    return true;
}

/// The index of each label of `where`; those of constant labels come after those of the others.
static result<void> label_indexes(const family_state& f, list<label> where, vector<std::size_t>& to) {
    for (const label& want : where) {
        const auto at = std::find(f.labels.begin(), f.labels.end(), want.name);
        const auto named = [&](const auto& c) { return c.first == want.name; };
        if (at == f.labels.end() && std::none_of(f.constants.begin(), f.constants.end(), named))
            return bad(errc::invalid_option, f.name, "it has no label " + string(want.name));
        to.push_back(static_cast<std::size_t>(at - f.labels.begin()));
    }
    return {};
}
static bool has_values(const family_state& f, const record& r, list<label> where, const vector<std::size_t>& indexes,
                       const vector<string>& values) {
    for (std::size_t w = 0; w != where.size(); ++w) {
        const std::size_t at = indexes[w];
        const std::string_view value = values[w];
        if (at == f.labels.size()) {
            for (const auto& c : f.constants) if (c.first == where[w].name && c.second != value) return false;
            continue;
        }
        const key_pair k = make_key(value);
        if (r.key()[2 * at] != k.low || r.key()[2 * at + 1] != k.high) return false;
        if (!is_long(k)) continue;
        const auto* stored = reinterpret_cast<const char*>(r.key() + 2 * f.labels.size());
        for (std::size_t i = 0; i != at; ++i)
            if (const std::uint64_t high = r.key()[2 * i + 1]; high >> 56 == 0xff) stored += ((high << 8 >> 8) + 7) / 8 * 8;
        if (std::memcmp(stored, value.data(), value.size()) != 0) return false;
    }
    return true;
}
std::size_t remove_children(const declared& family, list<label> where) {
    if (!family.face) return 0;
    std::size_t removed = 0;
    result<void> known;
    bool changed = false;
    vector<string> values;
    for (const label& l : where) values.push_back(sanitize_utf8(l.value, changed));
    {
        const global_lock lock;
        vector<std::size_t> indexes;
        if (family.face->id == family.id) known = label_indexes(*family.face->family, where, indexes);
        const std::uint64_t limit = (state.sequence + 1) << 12;  // series that are made meanwhile stay
        for (std::uint64_t next = 0; known && next < limit && family.face->id == family.id; global_lock::let_others_in()) {
            family_state& f = *family.face->family;
            line* l = line::first_from(f.lines.begin(), f.lines.end(), next);
            line* const end = static_cast<std::size_t>(f.lines.end() - l) < lines_at_once ? f.lines.end() : l + lines_at_once;
            next = end == f.lines.end() ? limit : end->id();
            for (; l != end; ++l) {
                PROMETHEUS_ASYNC_DETAIL_STEP();
                if (!l->living() || l->id() >= limit || !has_values(f, *l->living(), where, indexes, values)) continue;
                remove_series(f, *l, true);
                ++removed;
            }
            state.recycle();
        }
        while (known && family.face->id == family.id && compact(*family.face->family)) global_lock::let_others_in();
    }
    known.value();
    return removed;
}
std::size_t count_children(const declared& family) noexcept {
    if (!family.face) return 0;
    const global_lock lock;
    return family.face->id == family.id ? family.face->family->living : 0;
}

// ---- what few series have ----

/// Makes the extra data if necessary; null if the series was removed. The lock is held.
static series_extra* extra_of(const series& s) {
    if (!alive(s)) return nullptr;
    if (!s.rec->extra) s.rec->extra = new series_extra;
    return s.rec->extra;
}
run_sum sum_series(const series& s) noexcept {
    const global_lock lock;
    return alive(s) ? sum_since_reset(*s.rec, s.rec->place) : run_sum{0, 0};
}
run_extremes extremes_of(const series& s) noexcept {
    const double now = monotonic_now();
    const global_lock lock;
    return alive(s) ? extremes_at(*s.rec, s.rec->place, now) : run_extremes{};
}
void reset_series(const series& s) {
    const double now = wall_now();
    const global_lock lock;
    series_extra* extra = extra_of(s);
    if (!extra) return;
    record& r = *s.rec;
    double base = 0;
    std::uint64_t counts[256] = {};
    const auto empty = [&](std::uint64_t id, std::uint32_t place, const std::uint64_t* held) { base += take_out(id, place, held); };
#if !PROMETHEUS_ASYNC_NO_NATIVE
    if (is_native(r)) sum_native(r, r.place, *r.family->bounds, counts, nullptr, empty);
#endif
    if (!is_native(r)) {
        sum_run(r.id, r.place, counts);
        empty(r.id, r.place, counts);
    }
    extra->base = base;
    extra->exemplars.clear();
    start_again(r, now);
}
/// `a="b",c="d"`; false when OpenMetrics forbids it.
static bool exemplar_text(list<label> labels, string& text) {
    std::size_t points = 0;
    bool changed = false;
    for (std::size_t i = 0; i != labels.size(); ++i) {
        const label& l = labels[i];
        if (!legacy_label_name(l.name) || l.name.size() + l.value.size() > 4 * 128 || i == 128) return false;
        for (std::size_t k = 0; k != i; ++k) if (labels[k].name == l.name) return false;
        const string safe = sanitize_utf8(l.value, changed);
        points += code_points(l.name) + code_points(safe);
        text.append(text.empty() ? "" : ",").append(l.name).append("=\"");
        append_escaped_label(text, safe);
        text += '"';
    }
    return points <= 128;
}
/// Adds one of a series that a collector yields.
static void add_exemplar(vector<kept_exemplar>& to, unsigned at, double value, const exemplar& e) {
    string text;
    if (exemplar_text(e.labels, text)) to.push_back({at, value, e.timestamp, std::move(text)});
    else count_event(event_kind::exemplar_dropped);
}
constinit const exemplar_code exemplar_code::all{add_exemplar, show_exemplars};
static void put_exemplar(const series& s, const bucket_bounds* bounds, double value, const exemplar& e) {
    string text;
    const bool good = exemplar_text(e.labels, text) && possible_time(e.timestamp);
    const double now = e.timestamp != 0 ? e.timestamp : wall_now();
    const global_lock lock;
    if (!good) {
        ++state.counted[static_cast<unsigned>(event_kind::exemplar_dropped)];
        return;
    }
    series_extra* extra = extra_of(s);
    if (!extra) return;
    s.rec->family->special = true;
    extra->show = show_exemplars;
    auto& kept = extra->exemplars;
    const auto keep = [&](unsigned at, string&& labels) {
        const auto k = std::lower_bound(kept.begin(), kept.end(), at, [](const kept_exemplar& have, unsigned place) { return have.at < place; });
        if (k != kept.end() && k->at == at) *k = {at, value, now, std::move(labels)};
        else kept.insert(k, {at, value, now, std::move(labels)});
    };
#if !PROMETHEUS_ASYNC_NO_NATIVE
    // There may be any number of native buckets: neighbours have different places, and each place keeps its newest exemplar.
    if (bounds && bounds->native) {
        const std::uint32_t key = bits_of(value) << 1 == 0 || is_nan(value) ? 0 : static_cast<std::uint32_t>(native_key(value, bounds->coarser)) + native_bias(0);
        keep(first_native_exemplar + key % native_exemplars, string(text));
    }
#endif
    keep(bounds ? bounds->bucket(value) : 0, std::move(text));
}
void keep_exemplar(const series& s, const bucket_bounds* bounds, double value, const exemplar& e) noexcept {
    contain("an exemplar", [&] { put_exemplar(s, bounds, value, e); }, [](const error&) { count_event(event_kind::exemplar_dropped); });
}
void set_info(const series& s, list<label> labels) {
    string family;
    vector<string> own;
    {
        const global_lock lock;
        if (!alive(s)) return;
        const family_state& f = *s.rec->family;
        family = f.name;
        for (const auto& have : f.constants) own.push_back(have.first);
        for (const string& l : f.labels) own.push_back(l);
    }
    vector<std::string_view> names(own.begin(), own.end());
    vector<pair<string, string>> facts;
    string why;
    for (const label& l : labels) {
        if (!why.empty()) break;
        why = label_fault(l.name);
        names.push_back(l.name);
        bool changed = false;
        facts.emplace_back(string(l.name), sanitize_utf8(l.value, changed));
        if (changed) count_event(event_kind::text_sanitized);
    }
    if (why.empty()) why = alike_labels(names);
    if (!why.empty()) raise({errc::invalid_name, family + ": " + why});
    const global_lock lock;
    series_extra* extra = extra_of(s);
    if (!extra) return;
    registry_state& home = *s.rec->family->home;
    const std::size_t was = octets(extra->info), is = octets(facts);
    if (is > was && home.lacks({0, 0, is - was})) {
        ++state.counted[static_cast<unsigned>(event_kind::series_overflowed)];
        return;
    }
    home.take({0, 0, is});
    home.give({0, 0, was});
    extra->info.swap(facts);
}
bool set_state(const series& s, std::string_view name) noexcept {
    const global_lock lock;
    if (!alive(s)) return false;
    const family_state& f = *s.rec->family;
    const auto after = std::lower_bound(f.sorted_states.begin(), f.sorted_states.end(), name, [&](std::uint32_t i, std::string_view wanted) {
        PROMETHEUS_ASYNC_DETAIL_STEP();
        return f.states[i] < wanted;
    });
    std::size_t at = after != f.sorted_states.end() && f.states[*after] == name ? *after : f.states.size();
    if (at == f.states.size() && !valid_utf8(name))
        for (at = 0; at != f.states.size() && !cleans_to(name, f.states[at]);) ++at;
    if (at == f.states.size()) return false;
    s.rec->word.state = at;
    return true;
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [48] declaring                                    metrics, families and registries, made and removed
//      needs [47]
// =============================================================================
//
// A declaration is checked completely before anything is changed. All allocations come first, so that the change itself
// cannot fail: a family is in its registry or it is not.
PROMETHEUS_ASYNC_BEGIN
namespace detail {

static string with_labels(const family_state& f) {
    string out = f.name;
    for (const auto& l : f.labels) out.append(&l == f.labels.data() ? "(" : ",").append(l);
    return f.labels.empty() ? out : out += ')';
}
static string describe(const family_state& f) { return with_labels(f).append(" is a ").append(type_name(f.type)); }
/// What two declarations of one name and type do not have in common, or null.
static const char* difference(const family_state& a, const family_state& b) {
    return a.labels != b.labels ? "labels" : a.help != b.help ? "help" : a.unit != b.unit ? "unit"
           : a.constants != b.constants ? "constant labels" : a.bounds != b.bounds ? "buckets"
           : a.states != b.states ? "states" : order(a.window) != order(b.window) ? "window"
           : a.max_series != b.max_series ? "max_series" : nullptr;
}
static error conflict(const family_state& had, const family_state& f) {
    const bool one = had.name == f.name && had.type == f.type;
    const char* const what = one ? difference(had, f) : nullptr;
    string first = describe(f), second = describe(had);
    const char *between = ", declared before: ", *end = "";
    if (!one && !overlap(had.base_name(), had.type, f.base_name(), f.type)) {
        first = f.name;
        between = " and ";
        second = had.name;
        end = ", declared before, are equal after escaping";
    } else if (what && had.labels != f.labels) {
        between = ", declared before with other labels: ";
        second = with_labels(had);
    } else if (what && had.help != f.help) {
        first.assign(f.name).append(": help \"").append(f.help, 0, 30);
        between = "\", declared before: \"";
        second = had.help.substr(0, 30);
        end = "\"";
    } else if (what) {
        between = " with other ";
        second = what;
        end = " than declared before";
    }
    return error_of(errc::conflict, {first, between, second, end});
}
static declared handle_of(const family_state& f) noexcept {
    declared d;
    d.bounds = f.bounds;
    if ((d.face = f.face)) {
        d.id = f.id;
    } else if (f.source == family_source::lines) {
        record* r = f.lines[0].living();
        d.one = {r->id, page_of(r->place), offset_of(r->place), r};
    }
    return d;
}

static string clean(std::string_view text) {
    bool changed = false;
    string out = sanitize_utf8(text, changed);
    if (changed) ++state.counted[static_cast<unsigned>(event_kind::text_sanitized)];
    return out;
}

/// What is wrong with a declaration; why is null if nothing is.
struct refusal {
    errc code = errc::invalid_option;
    const char* why = nullptr;
};
/// Adds the unit and the ending of the type to the name; or returns the reason why that is not possible.
static refusal complete_name(family_head& f, std::string_view unit, bool is_utf8) {
    const std::string_view ending = f.row().ending;
    const bool labels_itself = f.row().labels_itself;
    if (!ending.empty() && ends_with(f.name, ending)) f.name.resize(f.name.size() - ending.size());
    if (!unit.empty()) {
        if (!f.row().unit) return {errc::invalid_option, "an info or a state set cannot have a unit"};
        const string with = string("_").append(unit);
        if (!legacy_label_name(with)) return {errc::invalid_option, "a unit may have only letters, digits and underscores"};  // a unit is never quoted
        if (!ends_with(f.name, with)) f.name.append(with);
    }
    f.base = f.name.size();
    f.name.append(ending);
    f.unit = unit;
    if (!valid_utf8(f.name)) return f.name.clear(), refusal{errc::invalid_name, "a metric's name is not UTF-8"};
    const bool legacy = legacy_metric_name(f.name);
    f.non_legacy = !legacy || (labels_itself && !legacy_label_name(f.name));
    if (f.non_legacy && !is_utf8)
        return {errc::invalid_name, legacy ? "a state set's name is also a label's: without colons, or use utf8()"
                                                      : "not [a-zA-Z_:][a-zA-Z0-9_:]*: use utf8() for it"};
    for (escaping scheme : {escaping::underscores, escaping::values}) {
        if (legacy) break;
        string& to = scheme == escaping::values ? f.as_values : f.underscored;
        append_name(to, f.name, scheme, false);
        to.resize(to.size() - ending.size());
    }
    if (labels_itself && reserved_label_name(f.key())) return {errc::invalid_name, "a state set's name is also a label's: __ is reserved"};
    return {};
}

// What one type alone has: each returns what is wrong with it, or null.

static const char* take_buckets(family_state& f, const metric_options& o) {
    static constexpr double usual[] = {.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10};
    native_buckets native = o.native;
    const bool is_native = order(native.factor) != 0;
    if (!is_native) native = {};
    else if (!native.factor.code()) return "native.factor must be above 1, for example 1.1";  // NaN that -ffast-math took for 0
    else if (const char* why = native.factor.code()->fault(native)) return why;
    if (order(native.zero_threshold) == 0) native.zero_threshold = 0;  // no -0
    const list<double> asked = o.buckets.empty() && !is_native ? list<double>(usual) : o.buckets;
    vector<double> upper(asked.begin(), asked.end());
    if (!upper.empty() && bits_of(upper.back()) == infinite) upper.pop_back();
    if ((upper.empty() && !is_native) || upper.size() > 250) return "a histogram must have 1 to 250 bounds";
    for (std::size_t i = 0; i != upper.size(); ++i) {
        if (!is_finite(upper[i])) return "a bound is not finite";
        if (i != 0 && !(upper[i - 1] < upper[i])) return "the bounds do not ascend";
        if (order(upper[i]) == 0) upper[i] = 0;  // no -0
    }
    f.bounds = intern_bounds(upper, native);
    return nullptr;
}
static const char* take_states(family_state& f, const metric_options& o) {
    if (o.states.empty()) return "a state set must have at least one state";
    for (std::string_view s : o.states) f.states.push_back(clean(s));
    auto& sorted = f.sorted_states;
    for (std::uint32_t i = 0; i != f.states.size(); ++i) sorted.push_back(i);
    sort(sorted, [&](std::uint32_t a, std::uint32_t b) {
        PROMETHEUS_ASYNC_DETAIL_STEP();
        return f.states[a] < f.states[b];
    });
    const bool twice = std::adjacent_find(sorted.begin(), sorted.end(), [&](std::uint32_t a, std::uint32_t b) { return f.states[a] == f.states[b]; }) != sorted.end();
    return twice ? "two states have the same name" : nullptr;
}
static const char* take_window(family_state& f, const metric_options& o) {
    state.fold_extremes = library::fold_both_halves;
    f.window = order(o.window.count()) == 0 ? 60 : o.window.count();
    return possible_time(f.window) ? nullptr : "a window must be finite and not negative";
}
/// What is wrong with an option that only some types have, or with what this type makes of its own ones.
static const char* take_own(family_state& f, const metric_options& o) {
    if (order(o.window.count()) != 0 && f.row().cells != cell_rule::extremes) return "only a min_max_gauge has a window";
    if ((!o.buckets.empty() || order(o.native.factor) != 0) && f.row().shape != value_shape::histogram) return "only a histogram has buckets";
    if (!o.states.empty() && !f.row().labels_itself) return "only a state set has states";
    return f.code && f.code->take ? f.code->take(f, o) : nullptr;
}
/// Takes the constant labels, and the names of the others. Returns what is wrong with them, or nothing.
static string take_labels(family_state& f, list<label> constants, const label_names* own) {
    vector<std::string_view> names;
    const auto fault = [&](const any_name& l) -> string {
        f.non_legacy |= !legacy_label_name(l);
        names.push_back(l);
        if (f.row().labels_itself && alike(l, f.base_name(), true)) return "a state set's own name is reserved as a label";
        if (!l.empty() && l == f.own_label()) return text_of({"the label ", l, " of a ", type_name(f.type), " is reserved"});
        return label_fault(l);
    };
    for (const label& l : constants) {
        if (string why = fault(l.name); !why.empty()) return why;
        f.constants.emplace_back(string(l.name), clean(l.value));
    }
    for (std::size_t i = 0; own && i != own->size(); ++i) {
        if (string why = fault((*own)[i]); !why.empty()) return why;
        f.labels.emplace_back((*own)[i]);
    }
    if (names.empty()) f.labelled = nullptr;
    return alike_labels(names);
}

result<declared> declare(const declaration& what) {
    const metric_options& o = what.options;
    if (what.name.empty()) return error{errc::invalid_name, "a metric needs a name"};
    const double now = wall_now();  // a clock may be the user's: without the lock
    const global_lock lock;
    auto made = owned<family_state>(new family_state{});
    family_state& f = *made;
    f.type = what.type.type;
    f.code = what.type.code;
    for (std::string_view part : {o.name_space, o.subsystem})
        if (!part.empty()) f.name.append(part).append("_");
    f.name.append(what.name);
    refusal wrong = complete_name(f, o.unit, what.name.is_utf8());
    string why;
    if (!wrong.why) {
        wrong.code = errc::invalid_name;
        f.help = clean(what.help);
        f.max_series = o.max_series;
        if ((f.labelled = what.labels.code ? what.labels.code : o.labels.code())) why = f.labelled->take(f, o.labels, what.labels.names);
    }
    if (!wrong.why && why.empty()) {
        wrong.code = errc::invalid_option;
        wrong.why = what.labels.names && (f.labels.empty() || f.labels.size() > 64) ? "a family must have 1 to 64 labels" : take_own(f, o);
    }
    if (wrong.why) why = wrong.why;
    if (!why.empty()) return bad(wrong.code, f.name, why);

    registry_state& home = registry_state::of(o.registry ? *o.registry : state.default_registry());
    family_state* there = home.find(f.key());
    const bool same_name = there && there->name == f.name;
    if (!same_name || there->type != f.type || difference(*there, f) || there->source != family_source::lines || what.hook) {
        if (!same_name) there = clash(home, f);
        if (there) return conflict(*there, f);
        if (const auto limit = home.lacks(f.needs())) {
            return error_of(errc::limit, {"the registry's limit of ", digits(home.most->*limit),
                                          limit == &registry_limits::families ? " families" : limit == &registry_limits::series ? " series" : " bytes",
                                          " has no room for ", f.name});
        }
        home.reserve();
        f.id = state.next_id(0);
        f.home = &home;
        if (f.labelled) f.labelled->begin(f);
        undo lines{[&] { f.lines.release(); }};
        if (what.hook) {
            f.source = family_source::callback;
            f.hook = what.hook;
            what.hook->family = &f;
            ++what.hook->holders;
        } else if (!f.face) {
            end_series(f, begin_series(f, 0, now));
        }
        lines.done = true;
        home.add(f);
        there = made.release();
    }
    return handle_of(*there);
}

declared declare_checked(const declaration& what) { return declare(what).value(); }

// ---- removing ----

/// Removes a family that has a hook. Returns it if the caller must delete it, after releasing the lock, or null.
static collector_hook* remove_hooked(registry_state& home, family_state* f) noexcept {
    home.remove(*f);
    collector_hook* const hook = f->hook;
    hook->family = nullptr;
    home.collectors -= f->source == family_source::collector;
    delete f;
    await_calls(*hook);
    return --hook->holders == 0 ? hook : nullptr;
}
static void destroy_family(family_state* f) noexcept {
    family_face* const face = f->face;
    std::uintptr_t tables[2] = {};
    if (face) {
        tables[0] = face->table;
        tables[1] = face->older;
        __atomic_store_n(&face->table, std::uintptr_t{0}, __ATOMIC_RELEASE);
        __atomic_store_n(&face->older, std::uintptr_t{0}, __ATOMIC_RELEASE);
        release(face->id, 0);
        bump(*face);
    }
    for (std::size_t i = 0; i != f->lines.size;) {
        if (f->lines[i].living()) remove_series(*f, f->lines[i], false);
        if (++i % lines_at_once != 0 && i != f->lines.size) continue;
        state.recycle();
        global_lock::let_others_in();  // lookups no longer find it
    }
    for (std::uintptr_t gone : tables) if (gone != 0) state.give_table(entries_of(gone), gone & 63);
    if (face) face->family = reinterpret_cast<family_state*>(exchanged(state.free_faces, face));
    f->lines.release();
    f->compacted.release();
    delete f;
    while (state.clear_tables()) global_lock::let_others_in();
}
/// As remove_hooked(), for any family.
static collector_hook* remove_family(registry_state& home, family_state* f) noexcept {
    if (f->hook) return remove_hooked(home, f);
    home.remove(*f);
    destroy_family(f);
    return nullptr;
}
bool note_process_metrics(registry& of, bool added) {
    const global_lock lock;
    return std::exchange(registry_state::of(of).process_metrics, added);
}

template <class Metric>
static result<Metric> try_metric(registry& home, any_name name, std::string_view help, metric_options options) {
    options.registry = &home;
    auto made = declare({Metric::type, name, help, options});
    if (!made) return made.why();
    return Metric(*made);
}

// The tables of [18] are checked here, in one unit: to count enumerators takes a twentieth of the time in which g++
// compiles the interface.
static_assert(std::size(suffix_texts) == enumerators<suffix>());
static_assert(rows_are(type_rows, &type_row::type));

}  // namespace detail

const char* type_name(metric_type type) noexcept {
    return detail::row_of(type).name;
}
const char* event_name(event_kind kind) noexcept {
    static constexpr const char* names[] = {
        "accept_failed", "connection_evicted", "connection_refused", "connection_stalled", "handshake_failed", "certificate_rejected",
        "credentials_in_clear", "authorization_failed", "callback_failed", "step_ignored", "text_sanitized", "series_overflowed",
        "registration_failed", "registration_lost", "deregistration_failed", "push_failed", "textfile_failed", "exemplar_dropped", "names_collided", "sum_left_out", "native_left_out", "connection_lost"};
    static_assert(std::size(names) == static_cast<unsigned>(event_kind::connection_lost) + 1);
    return names[static_cast<unsigned>(kind)];
}

registry::~registry() {
    for (detail::collector_hook* idle = nullptr;; delete std::exchange(idle, nullptr)) {  // without the lock
        const detail::global_lock lock;
        if (!state_) return;
        for (std::size_t n = 1; !idle && !state_->families.empty(); ++n) {
            idle = detail::remove_family(*state_, state_->families.back());
            if (n % detail::lines_at_once == 0) detail::global_lock::let_others_in();
        }
        if (idle) continue;
        auto& all = detail::state.registries;
        --all.size;
        for (auto** at = std::find(all.begin(), all.end() + 1, state_); at != all.end(); ++at) *at = at[1];
        delete std::exchange(state_, nullptr);
    }
}
registry& default_registry() noexcept {
    const detail::global_lock lock;
    return detail::state.default_registry();
}
void registry::set_limits(const registry_limits& limits) noexcept {
    const detail::global_lock lock;
    limits_ = limits;
}
registry_limits registry::held() const noexcept {
    const detail::global_lock lock;
    return state_ ? state_->held : registry_limits{};
}
bool registry::unregister(detail::one_text name) {
    detail::collector_hook* idle = nullptr;
    {
        const detail::global_lock lock;
        if (!state_) return false;
        detail::family_state* f = state_->find_named(name);
        if (!f) return false;
        idle = detail::remove_family(*state_, f);
    }
    delete idle;
    return true;
}
void registry::target_info(list<label> labels) { make_info("target", "Target metadata").set(labels); }

void declare_build_info(registry& in) {
    // An array: g++ places equal literals of two functions once, with all other literals of one of them.
    static constexpr char words[2][6] = {"false", "true"};
    in.make_info("prometheus_async_build", "How prometheus_async.hpp was built.")
        .set({{"version", PROMETHEUS_ASYNC_VERSION_STRING},
#if defined(__clang__)
              {"compiler", "clang " __clang_version__},
#else
              {"compiler", "gcc " __VERSION__},
#endif
              {"exceptions", words[PROMETHEUS_ASYNC_EXCEPTIONS ? 1 : 0]},
              {"threads", words[PROMETHEUS_ASYNC_NO_THREADS ? 0 : 1]}});
}

#define PROMETHEUS_ASYNC_DETAIL_MADE(metric) \
    result<metric> registry::try_##metric(any_name name, std::string_view help, const metric_options& options) { \
        return detail::try_metric<metric>(*this, name, help, options); \
    } \
    metric registry::make_##metric(any_name name, std::string_view help, const metric_options& options) { \
        return try_##metric(name, help, options).value(); \
    }
PROMETHEUS_ASYNC_DETAIL_MADE(counter)
PROMETHEUS_ASYNC_DETAIL_MADE(gauge)
PROMETHEUS_ASYNC_DETAIL_MADE(histogram)
PROMETHEUS_ASYNC_DETAIL_MADE(summary)
PROMETHEUS_ASYNC_DETAIL_MADE(info)
PROMETHEUS_ASYNC_DETAIL_MADE(state_set)
PROMETHEUS_ASYNC_DETAIL_MADE(unknown)
PROMETHEUS_ASYNC_DETAIL_MADE(min_max_gauge)
#undef PROMETHEUS_ASYNC_DETAIL_MADE
namespace detail {
/// Declares the library's own metrics of the object that `path` names: counters, then a gauge. One that cannot be declared
/// drops its updates. `texts` has for each the name, the help, and the reason, which may be empty, each with its terminator.
inline void own_metrics(std::span<counter> counts, gauge& last, registry& in, std::string_view path, const char* texts) {
    const auto text = [&texts] {
        const std::string_view taken = texts;
        texts += taken.size() + 1;
        return taken;
    };
    const auto make = [&](declared_type type) {
        const std::string_view name = text(), help = text(), labels[] = {"path", "reason"}, values[] = {path, text()};
        const std::size_t n = values[1].empty() ? 1 : 2;
        const label_names names(std::span(labels, n));
        metric_options options;
        options.registry = &in;
        declared child;
        if (const auto made = declare({type, name, help, options, &names})) child.one = make_child(*made, values, n);
        return child;
    };
    for (counter& each : counts) each = counter(make(metric_type::counter));
    last = gauge(make(metric_type::gauge));
}
}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [49] gzip                                         a deflater that knows exposition pages
//      needs [26]
// =============================================================================
//
// It uses properties of pages: the digits of a value are random, so no match is searched there, and a line resembles the
// previous one from its newline on. Lines that begin with # are normal text. The history has only the newest place of each hash.
#if !PROMETHEUS_ASYNC_NO_GZIP
#include <bit>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

PROMETHEUS_ASYNC_BEGIN_FAST
namespace detail {

constexpr std::uint32_t crc_polynomial = 0xedb88320;

/// x^n modulo the polynomial of CRC-32, bits reflected.
constexpr std::uint64_t crc_power(unsigned n) noexcept {
    std::uint32_t power = 0x80000000;
    while (n-- > 0) power = (power >> 1) ^ (power & 1 ? crc_polynomial : 0);
    return std::uint64_t{power} << 1;
}

#if defined(__x86_64__)
typedef long long crc_pair __attribute__((__vector_size__(16)));

__attribute__((__target__("pclmul"))) static inline crc_pair crc_step(crc_pair sum, crc_pair by, crc_pair next) noexcept {
    return __builtin_ia32_pclmulqdq128(sum, by, 0x00) ^ __builtin_ia32_pclmulqdq128(sum, by, 0x11) ^ next;
}

/// Folds complete blocks of 32 bytes into one of 16 with the same remainder: by two sums, so that none waits for itself.
__attribute__((__target__("pclmul"))) static void crc_fold(const char*& from, std::size_t& size, char (&folded)[16], std::uint32_t crc) noexcept {
    constexpr crc_pair by_16{static_cast<long long>(crc_power(128 + 32)), static_cast<long long>(crc_power(128 - 32))};
    constexpr crc_pair by_32{static_cast<long long>(crc_power(256 + 32)), static_cast<long long>(crc_power(256 - 32))};
    crc_pair sum[2], next[2];
    std::memcpy(sum, from, 32);
    sum[0] ^= crc_pair{crc, 0};
    for (from += 32, size -= 32; size >= 32; from += 32, size -= 32) {
        std::memcpy(next, from, 32);
        sum[0] = crc_step(sum[0], by_32, next[0]);
        sum[1] = crc_step(sum[1], by_32, next[1]);
    }
    sum[0] = crc_step(sum[0], by_16, sum[1]);
    std::memcpy(folded, sum, 16);
}
#endif

/// CRC-32 of RFC 1952: four bytes at a time by tables, or sixteen by carry-less multiplication.
class crc32 {
public:
    crc32() noexcept {
        for (std::uint32_t i = 0; i < 256; ++i) {
            std::uint32_t c = i;
            for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ (c & 1 ? crc_polynomial : 0);
            table_[0][i] = c;
        }
        for (std::uint32_t i = 0; i < 256; ++i)
            for (unsigned k = 1; k < 4; ++k) table_[k][i] = (table_[k - 1][i] >> 8) ^ table_[0][table_[k - 1][i] & 255];
    }
    /// The checksum of more octets; `crc` is that of the octets before, 0 at first.
    std::uint32_t of(std::uint32_t crc, std::string_view text) const noexcept {
        crc = ~crc;
        const char* from = text.data();
        std::size_t size = text.size();
#if defined(__x86_64__)
        if (fold_ && size >= 64) {
            char folded[16];
            crc_fold(from, size, folded, crc);
            crc = slices(0, folded, 16);
        }
#endif
        return ~slices(crc, from, size);
    }
    /// Switches to tables, for tests.
    void plain() noexcept { fold_ = false; }

private:
    std::uint32_t slices(std::uint32_t crc, const char* from, std::size_t size) const noexcept {
        const auto octet_at = [&](std::size_t i) { return std::uint32_t{static_cast<unsigned char>(from[i])}; };
        for (; size >= 4; from += 4, size -= 4) {
            crc ^= octet_at(0) | octet_at(1) << 8 | octet_at(2) << 16 | octet_at(3) << 24;
            crc = table_[3][crc & 255] ^ table_[2][crc >> 8 & 255] ^ table_[1][crc >> 16 & 255] ^ table_[0][crc >> 24];
        }
        for (; size > 0; ++from, --size) crc = (crc >> 8) ^ table_[0][(crc ^ octet_at(0)) & 255];
        return crc;
    }

    std::uint32_t table_[4][256];
#if defined(__x86_64__)
    bool fold_ = [] {  // __builtin_cpu_supports would link 4 kB of libgcc
        unsigned a, b, c = 0, d;
        return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_PCLMUL) != 0;
    }();
#else
    bool fold_ = false;
#endif
};

/// Computes code lengths of at most `longest` bits from the frequency of each symbol; at least two symbols get a code.
static void code_lengths(std::uint16_t* often, unsigned symbols, unsigned longest, std::uint8_t* lengths) noexcept {
    std::uint32_t sorted[288], weight[288];
    unsigned used = 0;
    for (unsigned s = 0; s < symbols; ++s) used += often[s] != 0;
    for (unsigned s = 0; used < 2; ++s)
        if (often[s] == 0) often[s] = 1, ++used;
    used = 0;
    for (unsigned s = 0; s < symbols; ++s) {
        lengths[s] = 0;
        if (often[s] == 0) continue;
        const std::uint32_t key = std::uint32_t{often[s]} << 9 | s;
        unsigned at = used++;
        for (; at > 0 && sorted[at - 1] > key; --at) sorted[at] = sorted[at - 1];
        sorted[at] = key;
    }
    // Moffat and Katajainen: in one array, weights are replaced by parents, and parents by depths.
    for (unsigned i = 0; i < used; ++i) weight[i] = sorted[i] >> 9;
    unsigned leaf = 0, root = 0;
    const auto lightest = [&](unsigned next) {
        if (leaf >= used || (root < next && weight[root] < weight[leaf])) {
            const std::uint32_t w = weight[root];
            weight[root++] = next;
            return w;
        }
        return weight[leaf++];
    };
    for (unsigned next = 0; next + 1 < used; ++next) {
        const std::uint32_t one = lightest(next);
        weight[next] = one + lightest(next);
    }
    unsigned count[32] = {};
    weight[used - 2] = 0;
    for (unsigned i = used - 2; i-- > 0;) weight[i] = weight[weight[i]] + 1;
    unsigned open = 1, inner = used - 1;  // nodes of this depth; inner nodes that are not counted yet
    for (unsigned depth = 0; open > 0; ++depth) {
        unsigned here = 0;
        while (inner > 0 && weight[inner - 1] == depth) --inner, ++here;
        count[depth < longest ? depth : longest] += open - here;
        open = here * 2;
    }
    std::uint32_t sum = 0;
    for (unsigned n = 1; n <= longest; ++n) sum += count[n] << (longest - n);
    for (; sum > 1u << longest; --sum) {  // one leaf moves one level down, and one of the deepest becomes its sibling
        unsigned n = longest - 1;
        while (count[n] == 0) --n;
        --count[n], count[n + 1] += 2, --count[longest];
    }
    unsigned at = 0;
    for (unsigned n = longest; n > 0; --n)
        for (; count[n] > 0; --count[n]) lengths[sorted[at++] & 511] = static_cast<std::uint8_t>(n);
}

/// Computes canonical codes in the form of the stream: with reversed bits, and the number of bits in the top byte.
static void codes_of(const std::uint8_t* lengths, unsigned symbols, std::uint32_t* codes) noexcept {
    unsigned count[16] = {}, next[16] = {};
    for (unsigned s = 0; s < symbols; ++s) ++count[lengths[s]];
    count[0] = 0;
    for (unsigned n = 1; n < 16; ++n) next[n] = (next[n - 1] + count[n - 1]) << 1;
    for (unsigned s = 0; s < symbols; ++s) {
        std::uint32_t code = 0;
        for (unsigned i = 0, from = lengths[s] ? next[lengths[s]]++ : 0; i < lengths[s]; ++i, from >>= 1) code = code << 1 | (from & 1);
        codes[s] = code | std::uint32_t{lengths[s]} << 24;
    }
}

/// One gzip member, made piece by piece: write octets to room(), report how many by add(), get the output by next().
///
/// memory  its own size, less than 64 KiB: it never allocates
/// errors  none, for any octets
class gzip_stream : public allocated {
public:
    enum class made : std::uint8_t { more, full, done };  // more: it needs octets, or finish()
    struct piece {
        std::size_t bytes;
        made what;
    };

    gzip_stream() noexcept { start(); }
    /// Begins a new member.
    void start() noexcept;
    /// Where to write; at least least_room bytes after next() has returned more.
    std::span<char> room() noexcept { return {text_ + end_, static_cast<std::size_t>(text_size - end_)}; }
    void add(std::size_t octets) noexcept;
    void finish() noexcept { finished_ = true; }
    /// Writes output to a window of any size: full when there may be more.
    piece next(std::span<char> into) noexcept;
    std::uint32_t taken() const noexcept { return size_; }

    static constexpr std::size_t least_room = 1024;

private:
    static constexpr std::uint32_t text_size = 32768, window = 16384, held_back = 320, tokens_size = 4096;
    static constexpr std::uint32_t beyond = 16;  // octets after the text that may be read
    static constexpr std::uint32_t most_literals = 128, most_value = 64;  // that are not tokens yet; octets of a value
    static constexpr std::uint32_t most_later = 32;  // how many octets later a better match may begin
    static constexpr std::uint32_t step = 120;       // room for the tokens of one round of parse()
    static_assert(step > (most_literals + most_value + most_later) / 3 + 2);
    static constexpr unsigned end_of_block = 256, literals = 286, distances = 30;
    // Places in the tables of codes: an octet that is not there, distances by slot, octets, lengths minus 3.
    static constexpr std::uint32_t none = 0, distance_place = 1, octet_place = 31, length_place = 287, places = 543;
    enum class phase : std::uint8_t { parse, tokens, trailer, done };

    void parse() noexcept;
    void slide() noexcept;
    void begin_unit() noexcept;
    void literal_run(std::uint32_t from, std::uint32_t to) noexcept;
    void match(std::uint32_t length, std::uint32_t distance) noexcept;
    std::uint32_t common(std::uint32_t at, std::uint32_t there, std::uint32_t n) const noexcept;
    std::uint32_t match_at(std::uint32_t at, std::uint32_t& distance) noexcept;
    void begin_block() noexcept;
    char* put_tokens(char* to, const char* last) noexcept;
    char* flush(char* to) noexcept;
    void bits(std::uint64_t value, unsigned n) noexcept {
        bits_ |= value << bit_count_;
        bit_count_ += n;
    }
    void code(std::uint32_t c) noexcept { bits(c & 0xffffff, c >> 24); }
    void spill_bits(std::uint64_t value, unsigned n) noexcept {
        bits(value, n);
        spill_end_ = flush(spill_end_);
    }

    static std::uint32_t length_slot(std::uint32_t l) noexcept {  // of the length minus 3, at most 255
        if (l < 8 || l == 255) return l == 255 ? 28 : l;
        const auto k = static_cast<std::uint32_t>(31 - __builtin_clz(l));
        return 4 * (k - 1) + (l >> (k - 2) & 3);
    }
    static std::uint32_t length_extra(std::uint32_t slot) noexcept { return slot < 8 || slot == 28 ? 0 : slot / 4 - 1; }
    static std::uint32_t distance_slot(std::uint32_t d) noexcept {  // of the distance minus 1
        if (d < 2) return d;
        const auto k = static_cast<std::uint32_t>(31 - __builtin_clz(d));
        return 2 * k + (d >> (k - 1) & 1);
    }
    static std::uint32_t distance_extra(std::uint32_t slot) noexcept { return slot < 4 ? 0 : slot / 2 - 1; }
    static std::uint32_t load_word(const char* at) noexcept {
        std::uint32_t w;
        std::memcpy(&w, at, 4);
        return w;
    }
    static std::uint32_t hash(std::uint32_t w) noexcept { return w * 2654435761u >> 20; }

    crc32 sums_;
    std::uint32_t crc_, size_;
    std::uint64_t bits_;
    unsigned bit_count_;
    phase phase_;
    bool finished_, last_, prose_;
    std::uint32_t at_, end_;              // the end of the parsed octets, and of all octets
    std::uint32_t gone_;                  // how many octets of the page are before text_
    std::uint32_t line_, lines_before_[2];  // the newline before the present line, and before the last two
    std::uint32_t value_, unit_end_;      // of the present line: the begin of its value, and its newline
    std::uint32_t longest_, source_;      // the longest match in the line, and the end of its source
    std::uint32_t token_count_, tokens_put_;
    char *spill_at_, *spill_end_;
    std::uint16_t often_[places];
    std::uint32_t codes_[places], end_code_;  // lengths have their extra bits; bits 20 to 23 of a distance say how many follow
    std::uint16_t newest_[4096];         // by hash: the newest place in the page, modulo 65536; the text there is compared
    std::uint32_t tokens_[tokens_size];  // three octets, or a length, a distance and its extra bits: see literal_run() and match()
    char spill_[512];                    // output that does not fit in the caller's window
    char text_[text_size + beyond];      // a newline that is not part of the page, then the page
};
static_assert(sizeof(gzip_stream) <= 65536);

void gzip_stream::start() noexcept {
    crc_ = size_ = 0;
    bits_ = bit_count_ = 0;
    phase_ = phase::parse;
    finished_ = last_ = prose_ = false;
    text_[0] = '\n';
    at_ = end_ = 1;
    gone_ = line_ = lines_before_[0] = lines_before_[1] = value_ = unit_end_ = longest_ = source_ = 0;
    token_count_ = tokens_put_ = 0;
    std::memset(often_, 0, sizeof often_);
    std::memset(newest_, 0, sizeof newest_);
    std::memcpy(spill_, "\x1f\x8b\x08\0\0\0\0\0\4\xff", 10);  // no time, no name, fast, any system
    spill_at_ = spill_;
    spill_end_ = spill_ + 10;
}

void gzip_stream::add(std::size_t octets) noexcept {
    crc_ = sums_.of(crc_, {text_ + end_, octets});
    size_ += static_cast<std::uint32_t>(octets);
    end_ += static_cast<std::uint32_t>(octets);
    std::memset(text_ + end_, 0, beyond);
}

/// Begins a unit, from one newline to the next: the newline is the begin of the long match.
inline void gzip_stream::begin_unit() noexcept {
    const std::uint32_t begin = unit_end_;
    lines_before_[1] = std::exchange(lines_before_[0], std::exchange(line_, begin));
    const char* from = text_ + begin + 1;
    const void* newline = begin + 1 < end_ ? std::memchr(from, '\n', end_ - begin - 1) : nullptr;
    unit_end_ = newline ? static_cast<std::uint32_t>(static_cast<const char*>(newline) - text_) : end_;
    prose_ = *from == '#';
    value_ = unit_end_;
    if (prose_ || !newline) return;
    // The last space, or another octet below: in eight octets at a time.
    std::uint32_t value = unit_end_, found = 0;
    const std::uint32_t least = begin + most_value < value ? value - most_value : begin;
    for (; value >= least + 8 && found == 0; value -= 8) {
        constexpr std::uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
        std::uint64_t w;
        std::memcpy(&w, text_ + value - 8, 8);
        if constexpr (std::endian::native == std::endian::big) w = __builtin_bswap64(w);
        const std::uint64_t low = tops & ~(w | ((w | tops) - ones * 0x21));  // of octets below '!'
        if (low != 0) found = value - static_cast<std::uint32_t>(__builtin_clzll(low)) / 8;
    }
    if (found != 0 && text_[found - 1] == ' ' && text_[found] <= '9') value_ = found;
    else prose_ = true;
}

/// Tokens of three places, nine bits each; that of the first is without octet_place.
inline void gzip_stream::literal_run(std::uint32_t from, std::uint32_t to) noexcept {
    const auto place = [this](std::uint32_t at) { return octet_place + static_cast<unsigned char>(text_[at]); };
    std::uint32_t count = token_count_;
    for (; from < to; from += 3) {
        const std::uint32_t one = place(from);
        std::uint32_t two = place(from + 1), three = place(from + 2);
        two = from + 1 < to ? two : none;
        three = from + 2 < to ? three : none;
        ++often_[one], ++often_[two], ++often_[three];
        tokens_[count++] = (one - octet_place) | two << 9 | three << 18;
    }
    token_count_ = count;
}

/// A token of two places, the extra bits of the distance, and the top bit.
inline void gzip_stream::match(std::uint32_t length, std::uint32_t distance) noexcept {
    const std::uint32_t d = distance - 1, slot = distance_slot(d), extra = d & ((1u << distance_extra(slot)) - 1);
    const std::uint32_t one = length_place + length - 3, two = distance_place + slot;
    ++often_[one], ++often_[two];
    tokens_[token_count_++] = (one - octet_place) | two << 9 | extra << 18 | 1u << 31;
}

/// How many octets are equal from `at` on and from `there` on, up to `most`; the first `n` are known to be equal.
static __attribute__((__noinline__)) std::uint32_t equal_octets(const char* at, const char* there, std::uint32_t n, std::uint32_t most) noexcept {
    const auto load = [](const char* from) {
        std::uint64_t w;
        std::memcpy(&w, from, 8);
        return w;
    };
    for (; n < most; n += 16) {
        std::uint64_t differ = load(at + n) ^ load(there + n);
        const std::uint64_t second = load(at + n + 8) ^ load(there + n + 8);
        if ((differ | second) == 0) continue;
        n += differ ? 0 : 8;
        differ = differ ? differ : second;
        n += static_cast<std::uint32_t>(std::endian::native == std::endian::little ? __builtin_ctzll(differ) : __builtin_clzll(differ)) / 8;
        break;
    }
    return n < most ? n : most;
}
inline std::uint32_t gzip_stream::common(std::uint32_t at, std::uint32_t there, std::uint32_t n) const noexcept {
    return equal_octets(text_ + at, text_ + there, n, end_ - at < 258 ? end_ - at : 258);
}

/// The length of a match with the newest place of this hash; 0 if it is too short. This place becomes the newest one.
inline std::uint32_t gzip_stream::match_at(std::uint32_t at, std::uint32_t& distance) noexcept {
    const std::uint32_t here = load_word(text_ + at);
    std::uint16_t& newest = newest_[hash(here)];
    distance = static_cast<std::uint16_t>(gone_ + at - newest);
    newest = static_cast<std::uint16_t>(gone_ + at);
    if (distance == 0 || distance >= at || load_word(text_ + at - distance) != here) return 0;
    const std::uint32_t n = common(at, at - distance, 4);
    return n < 4 ? 0 : n;
}

void gzip_stream::parse() noexcept {
    const std::uint32_t limit = finished_ ? end_ : end_ > held_back ? end_ - held_back : 0;
    std::uint32_t at = at_, from = at;  // from: the first literal that is not a token yet
    std::uint32_t repeats = 0;          // the end of the last match's source
    while (at < limit && token_count_ <= tokens_size - step) {
        while (at >= unit_end_ && unit_end_ < end_) begin_unit();
        if (at - from >= most_literals) {
            literal_run(from, at);
            from = at;
            continue;
        }
        if (at >= value_ && at < unit_end_) {
            at = unit_end_ < limit ? unit_end_ : limit;
            continue;
        }
        std::uint32_t distance = 0;
        std::uint32_t length = match_at(at, distance);
        if (at == line_) {
            // Labels may repeat in a cycle: try the line after the one that matched the last line. (The hash has the last line.)
            const std::size_t reach = at - source_ < 512 ? at - source_ : 512;
            const bool cycle = source_ != 0 && source_ <= lines_before_[1] && at + length < value_;  // a better match would end in digits
            const void* newline = cycle ? std::memchr(text_ + source_, '\n', reach) : nullptr;
            if (newline) {
                const auto there = static_cast<std::uint32_t>(static_cast<const char*>(newline) - text_);
                const bool hope = length == 0 || load_word(text_ + at + length - 1) == load_word(text_ + there + length - 1);
                const std::uint32_t other = hope ? common(at, there, 0) : 0;
                if (other > length + 2) length = other, distance = at - there;
            }
            longest_ = source_ = 0;
        } else if (!prose_ && at == from && length != 0 && at + length < value_ && repeats != 0) {
            // If only one octet differs, the same line may match up to its value.
            if (load_word(text_ + at + 1) == load_word(text_ + repeats + 1)) {
                const std::uint32_t other = common(at + 1, repeats + 1, 4);
                if (other > length && at + 1 + other >= value_) distance = at - repeats, length = other, ++at;
            }
        }
        if (length == 0) {
            ++at;
            continue;
        }
        if (prose_) {
            std::uint32_t later = 0, other = 0;
            while (length < most_later && at + 1 < limit && (later = match_at(at + 1, other)) > length) ++at, length = later, distance = other;
            // Four places of a match are enough, and their number is known.
            for (const std::uint32_t i : {at + 1, at + 2, at + 3, at + length - 1}) newest_[hash(load_word(text_ + i))] = static_cast<std::uint16_t>(gone_ + i);
        }
        // Octets before it that are not tokens yet may match too: the digits of a value that did not change.
        while (at > from && text_[at - 1] == text_[at - 1 - distance] && at - distance > 1 && length < 258) --at, ++length;
        literal_run(from, at);
        match(length, distance);
        from = at += length;
        repeats = at - distance;
        source_ = length > longest_ ? repeats : source_;
        longest_ = length > longest_ ? length : longest_;
    }
    literal_run(from, at);
    at_ = at;
}

void gzip_stream::slide() noexcept {
    if (at_ <= window) return;
    const std::uint32_t by = at_ - window;
    std::memmove(text_, text_ + by, end_ - by + beyond);
    at_ -= by;
    end_ -= by;
    for (std::uint32_t* place : {&line_, &lines_before_[0], &lines_before_[1], &value_, &source_}) *place = *place > by ? *place - by : 0;
    unit_end_ -= by;
    gone_ += by;
}

inline char* gzip_stream::flush(char* to) noexcept {
    std::uint64_t out = bits_;
    if constexpr (std::endian::native == std::endian::big) out = __builtin_bswap64(out);
    std::memcpy(to, &out, 8);
    to += bit_count_ >> 3;
    bits_ >>= bit_count_ & ~7u;
    bit_count_ &= 7;
    return to;
}

void gzip_stream::begin_block() noexcept {
    static constexpr std::uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    std::uint8_t lengths[literals + distances];
    std::uint16_t often[literals] = {};
    std::uint32_t codes[literals];
    std::memcpy(often, often_ + octet_place, 256 * sizeof *often);
    often[end_of_block] = 1;
    for (std::uint32_t l = 0; l < 256; ++l) often[257 + length_slot(l)] = static_cast<std::uint16_t>(often[257 + length_slot(l)] + often_[length_place + l]);
    code_lengths(often, literals, 15, lengths);
    unsigned many = literals, reach = distances;
    while (lengths[many - 1] == 0) --many;
    codes_of(lengths, many, codes);
    code_lengths(often_ + distance_place, distances, 15, lengths + many);
    while (lengths[many + reach - 1] == 0) --reach;
    std::memset(often_, 0, sizeof often_);
    codes_[none] = 0;
    codes_of(lengths + many, reach, codes_ + distance_place);
    for (std::uint32_t slot = 0; slot < reach; ++slot) codes_[distance_place + slot] |= distance_extra(slot) << 20;
    std::memcpy(codes_ + octet_place, codes, 256 * sizeof *codes);
    for (std::uint32_t l = 0; l < 256; ++l) {
        const std::uint32_t slot = length_slot(l), extra = length_extra(slot);
        const std::uint32_t c = 257 + slot < many ? codes[257 + slot] : 0, n = c >> 24;
        codes_[length_place + l] = (c & 0xffffff) | (l & ((1u << extra) - 1)) << n | (n + extra) << 24;
    }
    end_code_ = codes[end_of_block];

    std::uint16_t runs[literals + distances];  // a symbol of the code-length code, with its extra bits above it
    unsigned count = 0;
    std::uint16_t run_often[19] = {};
    for (unsigned i = 0, n = 1; i < many + reach; i += n) {
        const unsigned here = lengths[i];
        for (n = 1; i + n < many + reach && lengths[i + n] == here && n < (here ? 7u : 138u);) ++n;
        unsigned symbol = here, extra = 0;
        if (here == 0 && n >= 3) symbol = n < 11 ? 17 : 18, extra = n < 11 ? n - 3 : n - 11;
        else if (here != 0 && i > 0 && lengths[i - 1] == here && n >= 3) {
            n = n < 6 ? n : 6;
            symbol = 16, extra = n - 3;
        } else n = 1;
        ++run_often[symbol];
        runs[count++] = static_cast<std::uint16_t>(symbol | extra << 8);
    }
    std::uint8_t run_lengths[19];
    std::uint32_t run_codes[19];
    code_lengths(run_often, 19, 7, run_lengths);
    codes_of(run_lengths, 19, run_codes);
    unsigned shown = 19;
    while (run_lengths[order[shown - 1]] == 0) --shown;

    last_ = finished_ && at_ == end_;
    spill_bits(std::uint64_t{last_} | 2 << 1 | std::uint64_t{many - 257} << 3 | std::uint64_t{reach - 1} << 8 | std::uint64_t{shown - 4} << 13, 17);
    for (unsigned i = 0; i < shown; ++i) spill_bits(run_lengths[order[i]], 3);
    for (unsigned i = 0; i < count; ++i) {
        const unsigned symbol = runs[i] & 255;
        code(run_codes[symbol]);
        spill_bits(runs[i] >> 8, symbol == 16 ? 2 : symbol == 17 ? 3 : symbol == 18 ? 7 : 0);
    }
    tokens_put_ = 0;
    phase_ = phase::tokens;
}

/// Writes tokens while there are 8 bytes for the next one. `last` is where the last one may begin.
char* gzip_stream::put_tokens(char* to, const char* last) noexcept {
    const std::uint32_t *token = tokens_ + tokens_put_, *end = tokens_ + token_count_;
    std::uint64_t out = bits_;
    unsigned n = bit_count_;
    const auto code = [&](std::uint32_t c) {
        out |= std::uint64_t{c & 0xffffff} << n;
        n += c >> 24;
    };
    const auto flush = [&] {
        const std::uint64_t little = std::endian::native == std::endian::big ? __builtin_bswap64(out) : out;
        std::memcpy(to, &little, 8);
        to += n >> 3;
        out >>= n & ~7u;
        n &= 7;
    };
    for (; token != end && to <= last; ++token) {
        const std::uint32_t t = *token;
        std::uint32_t literal = (t >> 31) - 1;  // all bits, or none
        __asm__("" : "+r"(literal));            // compilers would make a branch of it, which nothing could predict
        const std::uint32_t two = codes_[t >> 9 & 511];
        code(codes_[octet_place + (t & 511)]);
        code(two & 0xff0fffff);
        code(codes_[t >> 18 & 511 & literal] | (t >> 18 & 8191 & ~literal));
        n += two >> 20 & 15;
        flush();
    }
    tokens_put_ = static_cast<std::uint32_t>(token - tokens_);
    if (token == end && to <= last) {
        code(end_code_);
        flush();
        phase_ = last_ ? phase::trailer : phase::parse;
        token_count_ = 0;
    }
    bits_ = out;
    bit_count_ = n;
    return to;
}

gzip_stream::piece gzip_stream::next(std::span<char> into) noexcept {
    char *to = into.data(), *const end = to + into.size();
    for (;;) {
        const std::size_t spilled = (std::min)(static_cast<std::size_t>(spill_end_ - spill_at_), static_cast<std::size_t>(end - to));
        if (spilled > 0) std::memcpy(to, spill_at_, spilled);
        to += spilled;
        spill_at_ += spilled;
        const std::size_t bytes = static_cast<std::size_t>(to - into.data());
        if (spill_at_ != spill_end_) return {bytes, made::full};
        spill_at_ = spill_end_ = spill_;
        switch (phase_) {
            case phase::parse:
                if (!finished_ && room().size() >= least_room) return {bytes, made::more};
                parse();
                if (token_count_ > tokens_size - step || (finished_ && at_ == end_)) begin_block();
                else slide();
                break;
            case phase::tokens:
                if (end - to >= 16) to = put_tokens(to, end - 8);
                else spill_end_ = put_tokens(spill_, spill_ + sizeof spill_ - 8);
                break;
            case phase::trailer:
                bit_count_ = (bit_count_ + 7) & ~7u;
                spill_bits(0, 0);
                spill_bits(crc_, 32);
                spill_bits(size_, 32);
                phase_ = phase::done;
                break;
            case phase::done: return {bytes, made::done};
        }
    }
}

/// A page that is compressed while it is made.
struct gzip_filter {
    owned<gzip_stream> gzip;  // kept for the next page

    /// Begins a page with its first octets; `whole`: there are no others. False without memory.
    bool begin(std::string_view first, bool whole) noexcept {
        if (!gzip) gzip = owned<gzip_stream>(new (std::nothrow) gzip_stream);
        if (!gzip) return false;
        gzip->start();
        gzip->add(first.copy(gzip->room().data(), gzip->room().size()));
        if (whole) gzip->finish();
        return true;
    }
    /// The next octets of the page that `plain` makes. There may be few or none although there is more.
    template <class Plain>
    pulled next(std::span<char> into, Plain plain) noexcept {
        std::size_t bytes = 0, taken = 0;
        for (;;) {
            const gzip_stream::piece made = gzip->next(into.subspan(bytes));
            bytes += made.bytes;
            if (made.what == gzip_stream::made::done) return {bytes, pull::done};
            if (made.what == gzip_stream::made::full || taken >= gzip_stream::least_room) return {bytes, pull::more};
            const pulled got = plain(gzip->room());
            gzip->add(got.bytes);
            taken += got.bytes + gzip_stream::least_room / 4;  // a pull without octets was work too
            if (got.what == pull::failed) return {bytes, pull::failed};
            if (got.what == pull::done) gzip->finish();
        }
    }
};

/// Whether a page should be compressed: a small one is not smaller on the network.
constexpr bool worth_gzip(std::size_t octets, bool plain_will_do) noexcept { return octets >= 1500 || !plain_will_do; }

/// False without memory: the page is then unchanged.
static bool compress(std::string& page) {
    const owned<gzip_stream> gzip(new (std::nothrow) gzip_stream);
    if (!gzip) return false;
    std::string out;
    char window[4096];
    for (std::string_view rest = page;;) {
        const gzip_stream::piece made = gzip->next(window);
        out.append(window, made.bytes);
        if (made.what == gzip_stream::made::done) break;
        if (made.what == gzip_stream::made::full) continue;
        if (rest.empty()) gzip->finish();
        const std::size_t n = rest.copy(gzip->room().data(), gzip->room().size());
        gzip->add(n);
        rest.remove_prefix(n);
    }
    page = static_cast<std::string&&>(out);
    return true;
}

}  // namespace detail
PROMETHEUS_ASYNC_END
#endif

// =============================================================================
// [50] formats                                      what a page is made of, and how each format writes it
//      needs [24] [46]
// =============================================================================
//
// A format receives a page family by family and series by series, each series complete: labels, value, exemplars, times.
// The cursor gives it the series of registries, and the sink of collectors ([53]) what these yield. Neither depends on how
// the page is written, and no format depends on where the series come from.
//
// To add a format: an enumerator in [26], for a text format before `protobuf` (chosen_format has the reason); a row in
// `format_rows`; a class derived from page_format (or a line_style); its case in format_of() of [52]; its place in
// `preferred` of [54], and in `explicit_formats` if it must be asked for by name. If one of these is missing, except the
// last, the header does not compile.
PROMETHEUS_ASYNC_BEGIN_FAST
namespace detail {

constexpr std::size_t number_room = number_size + 8;  // the longest value, a space and a newline

inline char* put_text(char* to, std::string_view text) noexcept {
    if (!text.empty()) std::memcpy(to, text.data(), text.size());
    return to + text.size();
}
/// Whether the sum of a counter's integers and double is an integer; that is stored in `all`.
static bool is_whole(const run_sum& v, std::uint64_t& all) noexcept {
    return v.real < 9007199254740992.0 && v.real == static_cast<double>(static_cast<std::uint64_t>(v.real)) &&
           !__builtin_add_overflow(v.whole, static_cast<std::uint64_t>(v.real), &all);
}
inline char* put_counter(char* to, run_sum v) noexcept {
    if (bits_of(v.real) << 1 == 0) return put_u64(to, v.whole);
    std::uint64_t all = 0;
    return is_whole(v, all) ? put_u64(to, all) : put_double(to, static_cast<double>(v.whole) + v.real);
}
/// The value of a gauge, whose sum is in `real`, or of a counter.
static double value_of(const run_sum& v) noexcept {
    std::uint64_t all = 0;
    return v.whole == 0 ? v.real : is_whole(v, all) ? static_cast<double>(all) : static_cast<double>(v.whole) + v.real;
}

// ---- the formats ----

/// Where a page shows when a series was created.
enum class created_place : std::uint8_t {
    own_family,  // in a separate family `x_created` after it
    own_line,    // in a sample `x_created` of the same family
    beside       // in the sample itself
};
/// The properties of a format that the cursor and the sink of collectors need.
struct format_rules {
    created_place created;
    bool exemplars;
    bool sums_from_zero;  // a sum that is negative or NaN is forbidden
    bool copies_lines;    // a series of one sample is its prepared text, a value and a newline
    bool native = false;  // it has native histograms
    bool summary_sums_from_zero = false;
};
/// The differences between the line formats.
struct line_style {
    format_rules rules;
    const char* type_row::* type;  // the word after # TYPE
    bool base_names;               // the head of a family has the name without _total and _info
    bool units;
    bool escaped_quotes;           // in the help text
    bool gauge_sums;               // a gauge histogram has _gsum and _gcount
    bool milliseconds;             // the unit of a sample's timestamp; otherwise seconds
    std::string_view end;          // of the page
};
static constexpr line_style text_style{{created_place::own_family, false, false, true}, &type_row::text_name, false, false, false, false,
                                       true, ""};
static constexpr line_style openmetrics_style{{created_place::own_line, true, true, true}, &type_row::om_name, true, true, true, true,
                                              false, "# EOF\n"};

constexpr std::size_t escapings = enumerators<escaping>();
/// The names of a format.
struct format_row {
    format as;
    std::string_view name;                // the label value in the server's own metrics
    std::string_view media, version;      // in Accept
    bool by_wildcard;                     // matched by */*
    std::string_view content_types[escapings];
};
// From 1.0.0 on a page states its escaping; older formats only if it is not the default.
#define PROMETHEUS_ASYNC_DETAIL_TYPES(type, by_default) \
    {type by_default, type "; escaping=dots", type "; escaping=values", type "; escaping=allow-utf-8"}
#define PROMETHEUS_ASYNC_DETAIL_TEXT(v) "text/plain; version=" v "; charset=utf-8"
#define PROMETHEUS_ASYNC_DETAIL_OM(v) "application/openmetrics-text; version=" v "; charset=utf-8"
static constexpr format_row format_rows[] = {
    {format::text_0_0_4, "text_0_0_4", "text/plain", "0.0.4", true,
     PROMETHEUS_ASYNC_DETAIL_TYPES(PROMETHEUS_ASYNC_DETAIL_TEXT("0.0.4"), "")},
    {format::text_1_0_0, "text_1_0_0", "text/plain", "1.0.0", true,
     PROMETHEUS_ASYNC_DETAIL_TYPES(PROMETHEUS_ASYNC_DETAIL_TEXT("1.0.0"), "; escaping=underscores")},
    {format::openmetrics_0_0_1, "openmetrics_0_0_1", "application/openmetrics-text", "0.0.1", true,
     PROMETHEUS_ASYNC_DETAIL_TYPES(PROMETHEUS_ASYNC_DETAIL_OM("0.0.1"), "")},
    {format::openmetrics_1_0_0, "openmetrics_1_0_0", "application/openmetrics-text", "1.0.0", true,
     PROMETHEUS_ASYNC_DETAIL_TYPES(PROMETHEUS_ASYNC_DETAIL_OM("1.0.0"), "; escaping=underscores")},
    {format::protobuf, "protobuf", "application/vnd.google.protobuf", "", false,
     PROMETHEUS_ASYNC_DETAIL_TYPES("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", "; escaping=underscores")},
    {format::openmetrics_2_0_0, "openmetrics_2_0_0", "application/openmetrics-text", "2.0.0", false,
     PROMETHEUS_ASYNC_DETAIL_TYPES(PROMETHEUS_ASYNC_DETAIL_OM("2.0.0"), "; escaping=underscores")}};
#undef PROMETHEUS_ASYNC_DETAIL_TYPES
#undef PROMETHEUS_ASYNC_DETAIL_TEXT
#undef PROMETHEUS_ASYNC_DETAIL_OM
static_assert(rows_are(format_rows, &format_row::as));
static constexpr std::string_view escaping_names[] = {"underscores", "dots", "values", "allow-utf-8"};
static_assert(std::size(escaping_names) == escapings);

constexpr const format_row& row_of(format as) noexcept { return format_rows[static_cast<std::size_t>(as)]; }
std::string_view format_name(format as) noexcept { return row_of(as).name; }

// ---- the names on a page ----

/// A set of texts that a page has shown, as fingerprints, so that removed series stay in it. Each new text adds one chain, which
/// takes its part of another chain (Litwin's linear hashing), so that the whole set is never moved at once.
class shown_texts {
public:
    shown_texts() noexcept = default;
    shown_texts(const shown_texts&) = delete;
    shown_texts& operator=(const shown_texts&) = delete;
    ~shown_texts() { for (unsigned i = 0; portions_[i]; ++i) give_memory(portions_[i], bytes_of(i), alignof(place)); }

    /// False when the text is in the set already.
    bool add(std::string_view text) {
        const fingerprint print = state.fingerprint_of(text);
        for (std::uint32_t i = size_ == 0 ? none : at(chain_of(print)).chain; i != none; i = at(i).next) {
            PROMETHEUS_ASYNC_DETAIL_STEP();
            if (at(i).print == print) return false;
        }
        place*& portion = portions_[portion_of(size_)];
        if (!portion) portion = static_cast<place*>(take_memory(bytes_of(portion_of(size_)), alignof(place)));
        at(size_) = {print, none, none};
        if (size_ != 0) move_chain(at(before(size_)), at(size_), size_);
        ++size_;
        place& home = at(chain_of(print));
        at(size_ - 1).next = exchanged(home.chain, size_ - 1);
        return true;
    }
    std::size_t size() const noexcept { return size_; }
    void clear() noexcept { size_ = 0; }
    /// Removes all but the first n.
    void cut(std::size_t n) noexcept {
        for (; size_ > n; --size_) {
            const std::uint32_t last = size_ - 1;
            std::uint32_t* link = &at(chain_of(at(last).print)).chain;
            while (*link != last) link = &at(*link).next;
            *link = at(last).next;
            if (last != 0) move_chain(at(last), at(before(last)), none);
        }
    }

private:
    static constexpr std::uint32_t none = ~std::uint32_t{0}, first = 16;
    /// A text, and the begin of a chain: the chain of texts whose fingerprints end in the bits of this place's number.
    struct place {
        fingerprint print;
        std::uint32_t next, chain;
    };
    static std::uint32_t top_of(std::uint32_t n) noexcept { return std::uint32_t{1} << (31 - __builtin_clz(n)); }
    /// The number of the chain that had this chain's texts before this one was added. Not for the first one.
    static std::uint32_t before(std::uint32_t number) noexcept { return number - top_of(number); }
    std::uint32_t chain_of(const fingerprint& print) const noexcept {
        const std::uint32_t top = top_of(size_), i = static_cast<std::uint32_t>(print.low) & (2 * top - 1);
        return i < size_ ? i : i - top;
    }
    static unsigned portion_of(std::uint32_t number) noexcept { return static_cast<unsigned>(31 - __builtin_clz(number / first + 1)); }
    static std::size_t bytes_of(unsigned portion) noexcept { return (sizeof(place) * first) << portion; }
    place& at(std::uint32_t number) const noexcept {
        const unsigned portion = portion_of(number);
        return portions_[portion][number - ((first << portion) - first)];
    }
    /// Moves the texts that belong to the chain `number`, or all.
    void move_chain(place& from, place& to, std::uint32_t number) noexcept {
        for (std::uint32_t* link = &from.chain; *link != none;) {
            PROMETHEUS_ASYNC_DETAIL_STEP();
            const std::uint32_t i = *link;
            place& p = at(i);
            if (number != none && (static_cast<std::uint32_t>(p.print.low) & (2 * top_of(number) - 1)) != number) {
                link = &p.next;
                continue;
            }
            *link = p.next;
            p.next = exchanged(to.chain, i);
        }
    }
    place* portions_[28] = {};  // each is twice as large as the previous one; the last one stays null
    std::uint32_t size_ = 0;
};

/// The names of the samples on a page, if two families could share one: with more than one registry, or with a collector,
/// whose names no declaration has checked.
class claimed_names {
public:
    /// Claims all sample names of a family; false, without claiming any, if one is claimed already.
    bool claim(std::string_view base, metric_type type) {
        const std::size_t before = taken_.size();
        const auto take = [&](std::string_view suffix) { return taken_.add(name_.assign(base).append(suffix)); };
        const bool good = take({}) && !any_suffix(type, [&](std::string_view s) { return !take(s); });
        if (!good) taken_.cut(before);
        return good;
    }
    std::size_t size() const noexcept { return taken_.size(); }
    void clear() noexcept { taken_.clear(); }
    void cut(std::size_t to) noexcept { taken_.cut(to); }

private:
    shown_texts taken_;
    string name_;
};

// ---- what a format is given ----

struct native_view;
struct page_text;
class line_format;
struct shown_point {
    std::string_view label;  // the value of the type's own label
    double value;
};
/// One complete series. Members that its type does not use are empty.
struct PROMETHEUS_ASYNC_LOCAL shown_series {
    std::string_view labels;              // `a="b",`: names as this page shows them, values escaped; next_label() splits it
    double timestamp = 0, created = 0;    // seconds since 1970; timestamp 0: none
    bool has_created = false;
    void (line_format::*created_line)(page_text& to, const family_head& f, const shown_series& s) = nullptr;  // writes a line of it
    run_sum number{};                     // value_shape::number and facts: the value is the sum of both
    list<shown_point> points{};
    list<double> upper{};                 // the bounds of buckets, +Inf last
    const std::uint64_t* cumulative = nullptr;  // the count of each bucket and those below it
    const bucket_bounds* texts = nullptr; // has the bounds as text, if these are prepared
    list<sample_sink::quantile> quantiles{};
    bool summed = true;                   // sum and count are shown
    double sum = 0;
    std::uint64_t count = 0;
    list<kept_exemplar> exemplars{};      // ascending by bucket
    const native_view* native = nullptr;  // its count is equal to `count`
    void (line_format::*lines)(page_text& to, const family_head& f, const shown_series& s) = nullptr;  // in line_format; null: one number
    list<kept_exemplar> native_exemplars{};
    /// Writes the timestamp and the exemplar after a value; null: there is neither.
    void (line_format::*tail)(page_text& to, const shown_series& s, const kept_exemplar* e, const kept_exemplar* last) = nullptr;
};

/// Removes the first `name="value",` from the labels of a series, and returns name and value without quotes and escapes.
static bool next_label(std::string_view& labels, string& name, string& value) {
    if (labels.empty()) return false;
    const auto take = [&](string& word, char end) {
        word.clear();
        std::size_t i = labels[0] == '"';
        for (const char last = i != 0 ? '"' : end; labels[i] != last; ++i) {
            if (labels[i] != '\\') word += labels[i];
            else word += labels[++i] == 'n' ? '\n' : labels[i];
        }
        labels.remove_prefix(labels[i] == '"' ? i + 2 : i + 1);
    };
    take(name, '=');
    take(value, ',');
    return true;
}

/// Sets sum and count of a series, or neither if the format forbids the sum; true if that must be reported. With bounds below
/// zero a sum may decrease, so only a gauge histogram shows it; for other types it is left out without a report.
static bool set_sum(shown_series& s, const format_rules& as, metric_type type, double sum, std::uint64_t count) noexcept {
    s.sum = sum;
    s.count = count;
    if (!as.sums_from_zero && !(as.summary_sums_from_zero && type == metric_type::summary)) return false;
    const bool below = !s.upper.empty() && order(s.upper[0]) < 0, gauges = has_suffix(type, suffix::gsum);
    const bool good = from_zero(sum) || (below && !is_nan(sum)), expected = below && !gauges;
    s.summed = good && !expected;
    return !good && !expected;
}

/// The octets of a page that were not output yet, and how the page escapes names.
struct PROMETHEUS_ASYNC_LOCAL page_text {
    escaping names = escaping::underscores;
    pod_vector<char> octets{};
    string word, quoted;  // members, so that the next page allocates nothing

    page_text() = default;
    page_text(const page_text&) = delete;
    ~page_text() { octets.release(); }

    void text(std::string_view s) {
        octets.reserve(octets.size + s.size());
        octets.size = static_cast<std::size_t>(put_text(octets.end(), s) - octets.data);
    }
    template <std::size_t N>  // the length of a literal is a constant
    __attribute__((__always_inline__)) void text(const char (&s)[N]) { text(std::string_view(s, N - 1)); }
    template <class Put>
    void number(Put put) {
        octets.reserve(octets.size + number_room);
        octets.size = static_cast<std::size_t>(put(octets.end()) - octets.data);
    }
    void number(double v) { number([v](char* to) { return put_double(to, v); }); }
    void count(std::uint64_t n) { number([n](char* to) { return put_u64(to, n); }); }

    /// Whether names and prepared texts can be copied without escaping.
    bool plain(const family_head& f) const noexcept { return !f.non_legacy && names != escaping::dots; }
    /// The escaped name, in `word`; valid until the next call.
    std::string_view escaped(std::string_view name, bool is_label) {
        word.clear();
        if (names == escaping::allow_utf8 && needs_quotes(name, is_label)) append_quoted(word, name);
        else append_name(word, name, names, is_label);
        return word;
    }
    /// The name of a sample. `_total` and `_info` are part of the name and escaped with it; other suffixes are added after
    /// escaping, as in the Go library: the scheme `dots` makes a_b_total `a__b__total`, but the buckets of a_b `a__b_bucket`.
    std::string_view shown_name(const family_head& f, std::string_view base, std::string_view suffix = {}) {
        word.clear();
        append_name(word, f.name, names, false);
        word.resize(word.size() - (f.name.size() - base.size()));
        word.append(suffix);
        if (names != escaping::allow_utf8 || !needs_quotes(word, false)) return word;
        quoted.clear();
        append_quoted(quoted, word);
        return quoted;
    }
    /// The family's name as it is shown, without its quotes.
    std::string_view bare_name(const family_head& f) {
        shown_name(f, f.base_name());
        return word;
    }
    void name(const family_head& f, std::string_view base, std::string_view suffix = {}) {
        if (!plain(f)) return text(shown_name(f, base, suffix));
        text(base);
        text(suffix);
    }
    /// Adds `name="value",` with a value that is escaped already.
    void add_label(string& to, std::string_view name, std::string_view value) {
        to.append(escaped(name, true)).append("=\"").append(value).append("\",");
    }
};

/// One format: writes families and series to the page. It may hold octets back until the family ends.
///
/// threads  as the cursor that it belongs to; the library's lock may be held or not
class PROMETHEUS_ASYNC_LOCAL page_format {
public:
    explicit page_format(const format_rules& how) noexcept : rules(how) {}
    /// Drops what it holds back, because a page begins, or the families of a collector are left out.
    virtual void reset() noexcept {}
    virtual bool wants(const family_head&) { return true; }
    /// Help and unit may be those of another family that is merged with this one.
    virtual void begin_family(page_text& to, const family_head& f, std::string_view help, std::string_view unit) = 0;
    virtual void series(page_text& to, const family_head& f, const shown_series& s) = 0;
    /// The family may have been removed by now.
    virtual void end_family(page_text&) {}
    virtual void end_page(page_text&) {}

    const format_rules& rules;
    bool enough = false;      // the further series of this family are only counted:
    std::size_t counted = 0;

protected:
    ~page_format() = default;
};
/// Protobuf and OpenMetrics 2.0, with the native histogram that they show. A cursor makes it when a page first asks for one of them.
struct PROMETHEUS_ASYNC_LOCAL wire_formats : allocated {
    virtual ~wire_formats() = default;
    virtual page_format& of(format which) noexcept = 0;
    /// Lets s.native show a native histogram as it is now; null if its parts do not agree. Returns its sum and count, and puts the
    /// counts of its classic buckets into `integers`.
    virtual run_sum view(shown_series& s, record& r, std::uint64_t* integers, double now) = 0;
    /// The same of one that a collector yields.
    virtual void view(shown_series& s, const sample_sink::native_histogram& of) = 0;
};

/// Text 0.0.4 and 1.0.0, OpenMetrics 0.0.1 and 1.0.0: a line for each sample.
class PROMETHEUS_ASYNC_LOCAL line_format final : public page_format {
public:
    explicit line_format(const line_style& style) noexcept : page_format(style.rules), style_(style) {}

    void begin_family(page_text& to, const family_head& f, std::string_view help, std::string_view unit) override {
        const std::string_view base = style_.base_names ? f.base_name() : std::string_view(f.name);
        head(to, f, base, {}, help, f.row().*style_.type);
        // A unit that the name does not end with (escaping may cause that) makes the scrape fail.
        if (!style_.units || unit.empty() || !(to.plain(f) || ends_with_unit(to.shown_name(f, base), unit))) return;
        to.text("# UNIT ");
        to.name(f, base);
        to.text(" ");
        to.text(unit);
        to.text("\n");
    }
    void begin_created(page_text& to, const family_head& f, std::string_view help) {
        head(to, f, f.base_name(), "_created", help, "gauge");
    }
    void series(page_text& to, const family_head& f, const shown_series& s) override {
        if (s.lines) {
            (this->*s.lines)(to, f, s);
        } else {
            begin(to, f, f.name, {}, s.labels);
            to.number([&](char* at) { return s.number.whole == 0 ? put_double(at, s.number.real) : put_counter(at, s.number); });
            end(to, s, s.exemplars.begin(), s.exemplars.end());
        }
        if (rules.created == created_place::own_line && s.has_created) (this->*s.created_line)(to, f, s);
    }
    void created(page_text& to, const family_head& f, const shown_series& s) {
        begin(to, f, f.base_name(), "_created", s.labels);
        if (style_.milliseconds) to.number(s.created);
        else to.number([&](char* at) { return put_timestamp(at, s.created); });
        end(to, s);  // all samples of a series have the timestamp, or none
    }
    void end_page(page_text& to) override { to.text(style_.end); }

    // shown_series::tail
    void time_and_exemplar(page_text& to, const shown_series& s, const kept_exemplar* e, const kept_exemplar* last) {
        time(to, s.timestamp);
        for (; e != last; ++e) {
            to.text(" # {");
            to.text(e->labels);
            to.text("} ");
            to.number(e->value);
            time(to, e->timestamp);
        }
    }
    // shown_series::lines
    void points(page_text& to, const family_head& f, const shown_series& s) {
        for (const shown_point& p : s.points) {
            to.quoted.clear();
            append_escaped_label(to.quoted, p.label);
            own_.assign(s.labels);
            to.add_label(own_, f.own_label(), to.quoted);
            begin(to, f, f.name, {}, own_);
            to.number(p.value);
            end(to, s);
        }
    }
    void buckets(page_text& to, const family_head& f, const shown_series& s) {
        // 1. The beginning of the first line, up to the bound: all lines begin so.
        const std::size_t start = to.octets.size;
        begin(to, f, f.name, "_bucket", s.labels, "le=\"");
        to.octets.size -= 2;  // `} ` is part of the bound's text
        const std::size_t size = to.octets.size - start;
        own_.assign(to.octets.data + start, size).append(label_frame::step, '\0');
        to.octets.size = start;
        const kept_exemplar* e = s.exemplars.begin();
        // 2. A line for each bound, from prepared texts if there are any.
        for (std::uint32_t i = 0; i != s.upper.size(); ++i) {
            to.octets.reserve(to.octets.size + own_.size() + 2 * number_room);
            char* at = put_piece(to.octets.end(), own_.data(), size);
            if (s.texts) {
                const unsigned from = i == 0 ? 0U : s.texts->ends[i - 1];
                at = put_piece(at, s.texts->text + from, s.texts->ends[i] - from);
            } else {
                at = put_text(put_bound(at, s.upper[i]), "\"} ");
            }
            at = s.cumulative[i] < 100000000 ? put_short(at, s.cumulative[i]) : put_u64(at, s.cumulative[i]);
            const bool has_more = s.timestamp != 0 || (e != s.exemplars.end() && e->at == i);
            if (!has_more) *at++ = '\n';
            to.octets.size = static_cast<std::size_t>(at - to.octets.data);
            if (!has_more) continue;
            const kept_exemplar* const shown = e;
            if (e != s.exemplars.end() && e->at == i) ++e;
            end(to, s, shown, e);
        }
        // 3. Sum and count.
        const bool gauges = style_.gauge_sums && has_suffix(f.type, suffix::gsum);
        sum_and_count(to, f, s, gauges ? "_gsum" : "_sum", gauges ? "_gcount" : "_count");
    }
    void quantiles(page_text& to, const family_head& f, const shown_series& s) {
        for (const auto& q : s.quantiles) {
            char text[10 + number_room] = "quantile=\"";
            char* at = put_bound(text + 10, q.q);
            *at++ = '"';
            begin(to, f, f.name, {}, s.labels, {text, static_cast<std::size_t>(at - text)});
            to.number(q.value);
            end(to, s);
        }
        sum_and_count(to, f, s, "_sum", "_count");
    }

private:
    static bool ends_with_unit(std::string_view name, std::string_view unit) noexcept {
        return ends_with(name, unit) && name[name.size() - unit.size() - 1] == '_';
    }
    void head(page_text& to, const family_head& f, std::string_view base, std::string_view suffix, std::string_view help, std::string_view type) {
        if (!help.empty()) {
            to.text("# HELP ");
            to.name(f, base, suffix);
            to.word = " ";
            append_escaped_help(to.word, help, style_.escaped_quotes);
            to.text(to.word);
            to.text("\n");
        }
        to.text("# TYPE ");
        to.name(f, base, suffix);
        to.text(" ");
        to.text(type);
        to.text("\n");
    }
    /// `base_suffix{a="b"} `, with `extra` as the last label.
    void begin(page_text& to, const family_head& f, std::string_view base, std::string_view suffix, std::string_view own,
               std::string_view extra = {}) {
        const bool quoted = !to.plain(f) && to.names == escaping::allow_utf8 && !legacy_metric_name(base);
        if (quoted) to.text("{");
        to.name(f, base, suffix);
        if (own.empty() && extra.empty()) return to.text(quoted ? "} " : " ");
        if (extra.empty()) own.remove_suffix(1);
        to.octets.reserve(to.octets.size + own.size() + extra.size() + 3);
        char* at = to.octets.end();
        *at++ = quoted ? ',' : '{';
        at = put_text(put_text(put_text(at, own), extra), "} ");
        to.octets.size = static_cast<std::size_t>(at - to.octets.data);
    }
    void time(page_text& to, double when) {
        if (when == 0) return;
        to.text(" ");
        to.number([&](char* at) { return style_.milliseconds ? put_milliseconds(at, when) : put_timestamp(at, when); });
    }
    void end(page_text& to, const shown_series& s, const kept_exemplar* e = nullptr, const kept_exemplar* last = nullptr) {
        if (s.tail) (this->*s.tail)(to, s, e, last);
        to.text("\n");
    }
    void sum_and_count(page_text& to, const family_head& f, const shown_series& s, std::string_view sum, std::string_view count) {
        if (!s.summed) return;
        begin(to, f, f.name, sum, s.labels);
        to.number(s.sum);
        end(to, s);
        begin(to, f, f.name, count, s.labels);
        to.count(s.count);
        end(to, s);
    }
    const line_style& style_;
    string own_;
};

constinit const created_code created_code::all{&line_format::begin_created, &line_format::created};
void show_exemplars(shown_series& s, const vector<kept_exemplar>& kept) noexcept {
    std::size_t classic = kept.size();
    while (classic != 0 && kept[classic - 1].at >= first_native_exemplar) --classic;
    s.exemplars = {kept.data(), classic};
    s.native_exemplars = {kept.data() + classic, kept.size() - classic};
    s.tail = &line_format::time_and_exemplar;
}

}  // namespace detail

std::string_view content_type(format as, escaping names) noexcept {
    return detail::row_of(as).content_types[static_cast<std::size_t>(names)];
}
PROMETHEUS_ASYNC_END

// =============================================================================
// [51] wire formats                                 protobuf and OpenMetrics 2.0: series with composite values
//      needs [50]
// =============================================================================
//
// In addition to the older formats these show native histograms, their exemplars, and start timestamps as part of a sample.
PROMETHEUS_ASYNC_BEGIN
namespace detail {
#if !PROMETHEUS_ASYNC_NO_NATIVE

/// Whether classic buckets are shown. A histogram with native buckets only has just the +Inf bucket, which equals its count.
static bool shows_buckets(const shown_series& s) noexcept { return !s.native || s.upper.size() != 1; }

/// OpenMetrics 2.0: one line for each series of any type.
class PROMETHEUS_ASYNC_LOCAL openmetrics_2_format final : public page_format {
public:
    openmetrics_2_format() noexcept : page_format(how_) {}

    void begin_family(page_text& to, const family_head& f, std::string_view help, std::string_view unit) override {
        const auto line = [&](std::string_view what, std::string_view text) {
            to.text(what);
            to.name(f, f.name);
            to.text(" ");
            to.text(text);
            to.text("\n");
        };
        line("# TYPE ", f.row().om_name);
        if (!unit.empty()) line("# UNIT ", unit);
        if (help.empty()) return;
        own_.clear();
        append_escaped_help(own_, help, true);
        line("# HELP ", own_);
    }
    void series(page_text& to, const family_head& f, const shown_series& s) override {
        switch (f.row().shape) {
        case value_shape::points:
            for (const shown_point& p : s.points) {
                to.quoted.clear();
                append_escaped_label(to.quoted, p.label);
                own_.assign(s.labels);
                to.add_label(own_, f.own_label(), to.quoted);
                begin(to, f, own_);
                to.number(p.value);
                end(to, s);
            }
            return;
        case value_shape::summary:
            if (!s.summed) return;  // a histogram without a sum is not allowed
            begin(to, f, s.labels);
            to.text("{count:");
            to.count(s.count);
            to.text(",sum:");
            to.number(s.sum);
            to.text(",quantile:[");
            for (const auto& q : s.quantiles) pair(to, q.q, &q != s.quantiles.begin(), [&] { to.number(q.value); });
            to.text("]}");
            break;
        case value_shape::histogram:
            begin(to, f, s.labels);
            histogram(to, f, s);
            break;
        default:
            begin(to, f, s.labels);
            to.number([&](char* at) { return s.number.whole == 0 ? put_double(at, s.number.real) : put_counter(at, s.number); });
        }
        end(to, s);
    }
    void end_page(page_text& to) override { to.text("# EOF\n"); }

private:
    static constexpr format_rules how_{created_place::beside, true, false, true, true, true};

    static void begin(page_text& to, const family_head& f, std::string_view own) {
        if (!own.empty()) own.remove_suffix(1);
        if (to.names == escaping::allow_utf8 && needs_quotes(f.name, false)) {
            to.text("{");
            to.name(f, f.name);
            if (!own.empty()) to.text(",");
            to.text(own);
            to.text("} ");
            return;
        }
        to.name(f, f.name);
        if (!own.empty()) {
            to.text("{");
            to.text(own);
            to.text("}");
        }
        to.text(" ");
    }
    template <class Put>
    static void pair(page_text& to, double key, bool more, Put put) {
        if (more) to.text(",");
        to.number(key);
        to.text(":");
        put();
    }
    void histogram(page_text& to, const family_head& f, const shown_series& s) {
        const bool gauges = f.type == metric_type::gauge_histogram;
        to.text(gauges ? "{gcount:" : "{count:");
        to.count(s.count);
        to.text(gauges ? ",gsum:" : ",sum:");
        to.number(s.sum);
        if (s.native) {
            to.text(",schema:");
            to.number(static_cast<double>(s.native->schema));
            to.text(",zero_threshold:");
            to.number(s.native->zero_threshold);
            to.text(",zero_count:");
            to.count(s.native->zero_count);
            side(to, s.native->negative, ",negative_spans:[", "],negative_buckets:[");
            side(to, s.native->positive, ",positive_spans:[", "],positive_buckets:[");
        }
        if (shows_buckets(s)) {
            to.text(",bucket:[");
            for (std::size_t i = 0; i != s.upper.size(); ++i) pair(to, s.upper[i], i != 0, [&] { to.count(s.cumulative[i]); });
            to.text("]");
        }
        to.text("}");
    }
    static void side(page_text& to, const vector<native_count>& from, std::string_view spans, std::string_view counts) {
        if (from.empty()) return;
        to.text(spans);
        bool more = false;
        each_span(from, [&](const native_span& x) { pair(to, x.offset, std::exchange(more, true), [&] { to.count(x.length); }); });
        to.text(counts);
        more = false;
        each_count(from, [&](std::uint64_t c) {
            if (std::exchange(more, true)) to.text(",");
            to.count(c);
        });
        to.text("]");
    }
    static void time(page_text& to, std::string_view before, double when) {
        if (when == 0) return;
        to.text(before);
        to.number([&](char* at) { return put_timestamp(at, when); });
    }
    /// The end of a line. Exemplars without a timestamp are forbidden. If there are both, those of classic buckets come before
    /// those of native ones.
    static void end(page_text& to, const shown_series& s) {
        time(to, " ", s.timestamp);
        if (s.has_created) time(to, " st@", s.created);
        const list<kept_exemplar> kept = shows_buckets(s) ? s.exemplars : s.native_exemplars;
        for (const kept_exemplar& e : kept) {
            if (e.timestamp == 0) continue;
            to.text(" # {");
            to.text(e.labels);
            to.text("} ");
            to.number(e.value);
            time(to, " ", e.timestamp);
        }
        to.text("\n");
    }
    string own_;
};

inline void put_varint(string& to, std::uint64_t n) {
    for (; n > 127; n >>= 7) to.push_back(static_cast<char>(n | 128));
    to.push_back(static_cast<char>(n));
}

/// Delimited messages io.prometheus.client.MetricFamily. The length comes before each message, so a family is held back, but at
/// most some kilobytes of it: a large family becomes several messages of one name, which scrapers merge.
class PROMETHEUS_ASYNC_LOCAL protobuf_format final : public page_format {
public:
    protobuf_format() noexcept : page_format(how_) {}

    void reset() noexcept override { held_.clear(); }
    void begin_family(page_text& to, const family_head& f, std::string_view help, std::string_view unit) override {
        at_ = &head_;
        head_.clear();
        to.shown_name(f, f.name);
        put_text(1, to.word);
        if (!help.empty()) put_text(2, help);
        integer(3, type_of(f.type));  // written also for 0, a counter, which is the default
        end_of_head_ = head_.size();
        to.shown_name(f, f.base_name());
        // Prometheus before 3.9 refuses the page if the name does not end with the unit.
        if (!unit.empty() && ends_with(to.word, unit) && to.word[to.word.size() - unit.size() - 1] == '_') put_text(5, unit);
        at_ = &held_;
    }
    void series(page_text& to, const family_head& f, const shown_series& s) override {
        if (f.type == metric_type::gauge_histogram) {  // with classic buckets it is written as a histogram, because servers misread type 5
            const char type = s.native ? 5 : 4;
            if (head_[end_of_head_ - 1] != type) end_family(to);
            head_[end_of_head_ - 1] = type;
        }
        switch (f.row().shape) {
        case value_shape::points:
            for (const shown_point& p : s.points) {
                const std::size_t metric = begin(s);
                name_.clear();
                append_name(name_, f.own_label(), to.names, true);
                pair(name_, p.label);
                gauge(2, p.value);
                end(metric, s);
            }
            break;
        default:
            const std::size_t metric = begin(s);
            switch (f.type) {
            case metric_type::counter: {
                const std::size_t value = open(3);
                real(1, value_of(s.number));
                if (!s.exemplars.empty()) example(2, s.exemplars[0]);
                if (s.has_created) time(3, s.created);
                close(value);
                break;
            }
            case metric_type::histogram:
            case metric_type::gauge_histogram: histogram(s); break;
            case metric_type::summary: summary(s); break;
            case metric_type::unknown: gauge(5, value_of(s.number)); break;
            default: gauge(2, value_of(s.number));
            }
            end(metric, s);
        }
        if (held_.size() >= 4096) end_family(to);
    }
    void end_family(page_text& to) override {
        if (held_.empty()) return;
        string length;  // short, so it allocates nothing
        put_varint(length, head_.size() + held_.size());
        to.text(length);
        to.text(std::string_view(head_).substr(0, end_of_head_));
        to.text(held_);
        to.text(std::string_view(head_).substr(end_of_head_));
        held_.clear();
    }

private:
    static constexpr format_rules how_{created_place::beside, true, false, false, true, false};

    static std::uint64_t type_of(metric_type type) noexcept {
        switch (type) {
        case metric_type::counter: return 0;
        case metric_type::summary: return 2;
        case metric_type::unknown: return 3;
        case metric_type::histogram:
        case metric_type::gauge_histogram: return 4;
        default: return 1;
        }
    }
    static std::uint64_t zigzag(std::int64_t n) noexcept { return static_cast<std::uint64_t>(n) << 1 ^ static_cast<std::uint64_t>(n >> 63); }
    void tag(unsigned field, unsigned wire) { put_varint(*at_, field << 3 | wire); }
    void integer(unsigned field, std::uint64_t n) {
        tag(field, 0);
        put_varint(*at_, n);
    }
    void real(unsigned field, double x) {
        tag(field, 1);
        const std::uint64_t bits = bits_of(x);
        for (int i = 0; i != 64; i += 8) at_->push_back(static_cast<char>(bits >> i));
    }
    void put_text(unsigned field, std::string_view text) {
        tag(field, 2);
        put_varint(*at_, text.size());
        at_->append(text);
    }
    /// Begins an inner message. Its length is known when it is closed, and is mostly one octet.
    std::size_t open(unsigned field) {
        tag(field, 2);
        at_->push_back(0);
        return at_->size();
    }
    void close(std::size_t from) {
        const std::size_t size = at_->size() - from;
        if (size < 128) {
            (*at_)[from - 1] = static_cast<char>(size);
            return;
        }
        string length;
        put_varint(length, size);
        at_->replace(from - 1, 1, length);
    }
    void pair(std::string_view name, std::string_view value) {
        const std::size_t label = open(1);
        put_text(1, name);
        put_text(2, value);
        close(label);
    }
    void pairs(std::string_view labels) { while (next_label(labels, name_, value_)) pair(name_, value_); }
    void time(unsigned field, double when) {
        if (when == 0) return;
        const auto whole = static_cast<std::uint64_t>(when);
        const auto nanos = static_cast<std::uint64_t>((when - static_cast<double>(whole)) * 1e9);
        const std::size_t timestamp = open(field);
        integer(1, whole);
        if (nanos != 0) integer(2, nanos);
        close(timestamp);
    }
    void example(unsigned field, const kept_exemplar& e) {
        const std::size_t exemplar = open(field);
        if (!e.labels.empty()) pairs(own_.assign(e.labels).append(","));
        real(2, e.value);
        time(3, e.timestamp);
        close(exemplar);
    }
    std::size_t begin(const shown_series& s) {
        const std::size_t metric = open(4);
        pairs(s.labels);
        return metric;
    }
    void end(std::size_t metric, const shown_series& s) {
        if (s.timestamp != 0) integer(6, static_cast<std::uint64_t>(s.timestamp * 1e3 + 0.5));
        close(metric);
    }
    void gauge(unsigned field, double x) {
        const std::size_t value = open(field);
        real(1, x);
        close(value);
    }
    void summary(const shown_series& s) {
        const std::size_t value = open(4);
        integer(1, s.count);
        real(2, s.sum);
        for (const auto& q : s.quantiles) {
            const std::size_t quantile = open(3);
            real(1, q.q);
            real(2, q.value);
            close(quantile);
        }
        if (s.has_created) time(4, s.created);
        close(value);
    }
    void histogram(const shown_series& s) {
        const std::size_t value = open(7);
        integer(1, s.count);
        real(2, s.sum);
        const kept_exemplar* e = s.exemplars.begin();
        for (std::size_t i = 0; shows_buckets(s) && i != s.upper.size(); ++i) {
            const std::size_t bucket = open(3);
            integer(1, s.cumulative[i]);
            real(2, s.upper[i]);
            if (e != s.exemplars.end() && e->at == i) example(3, *e++);
            close(bucket);
        }
        if (s.native) {
            const native_view& v = *s.native;
            integer(5, zigzag(v.schema));
            real(6, v.zero_threshold);
            integer(7, v.zero_count);
            side(9, v.negative);
            side(12, v.positive);
            // Without this span nothing marks it as native, and other series of the family would be read as classic too.
            if (v.negative.empty() && v.positive.empty() && v.zero_count == 0 && order(v.zero_threshold) == 0) span(12, {0, 0});
        }
        if (s.has_created) time(15, s.created);
        for (const kept_exemplar& x : s.native_exemplars) example(16, x);
        close(value);
    }
    void span(unsigned field, const native_span& x) {
        const std::size_t message = open(field);
        integer(1, zigzag(x.offset));
        integer(2, x.length);
        close(message);
    }
    void side(unsigned field, const vector<native_count>& from) {
        if (from.empty()) return;
        each_span(from, [&](const native_span& x) { span(field, x); });
        const std::size_t deltas = open(field + 1);
        std::uint64_t last = 0;
        each_count(from, [&](std::uint64_t c) { put_varint(*at_, zigzag(static_cast<std::int64_t>(c - std::exchange(last, c)))); });
        close(deltas);
    }
    string head_, held_, name_, value_, own_;
    string* at_ = &held_;
    std::size_t end_of_head_ = 0;  // the unit comes after the metrics
};

struct PROMETHEUS_ASYNC_LOCAL both_wire_formats final : wire_formats {
    protobuf_format protobuf{};
    openmetrics_2_format openmetrics_2{};
    native_view shown{};  // the histogram that is being shown

    page_format& of(format which) noexcept override { return which == format::protobuf ? static_cast<page_format&>(protobuf) : openmetrics_2; }
    run_sum view(shown_series& s, record& r, std::uint64_t* integers, double now) override {
        run_sum sum = r.family->bounds->code->view(r, r.place, integers, shown, now);
        if (shown.nans != 0) sum.real = __builtin_bit_cast(double, std::uint64_t{0x7ff8'0000'0000'0000});  // otherwise the counts would not agree
        sum.whole = shown.count;
        s.created = shown.created;
        if (consistent(shown)) s.native = &shown;
        return sum;
    }
    void view(shown_series& s, const sample_sink::native_histogram& of) override {
        shown.schema = of.schema;
        shown.zero_threshold = of.zero_threshold;
        shown.zero_count = of.zero_count;
        const auto copy = [](vector<native_count>& to, list<sample_sink::native_bucket> all) {
            to.clear();
            for (const auto& b : all) if (b.count != 0) to.push_back({b.index, b.count});
        };
        copy(shown.positive, of.positive);
        copy(shown.negative, of.negative);
        s.native = &shown;
    }
};
wire_formats* make_wire_formats() { return new both_wire_formats; }

/// Iterates over the fields of a protobuf message that the library itself wrote, so that it is well-formed.
struct wire_fields {
    std::string_view rest;
    unsigned number = 0;
    std::string_view whole{}, text{};  // the field with its tag, and its content

    std::uint64_t varint() noexcept {
        std::uint64_t n = 0;
        for (unsigned shift = 0;; shift += 7) {
            const auto c = static_cast<unsigned char>(rest[0]);
            rest.remove_prefix(1);
            n |= std::uint64_t{c & 127U} << shift;
            if (c < 128) return n;
        }
    }
    std::string_view take(std::size_t size) noexcept {
        const std::string_view taken = rest.substr(0, size);
        rest.remove_prefix(taken.size());
        return taken;
    }
    bool next() noexcept {
        if (rest.empty()) return false;
        const char* const from = rest.data();
        const auto tag = static_cast<unsigned>(varint());
        number = tag >> 3;
        if ((tag & 7) == 0) {
            text = rest;
            varint();
        } else {
            text = take((tag & 7) == 1 ? 8 : static_cast<std::size_t>(varint()));
        }
        whole = {from, static_cast<std::size_t>(rest.data() - from)};
        return true;
    }
};
#else
wire_formats* make_wire_formats() { return nullptr; }
#endif
}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [52] cursor                                       a page pulled out of registries, piece by piece
//      needs [48] [51]
// =============================================================================
//
// A page is pulled. Each pull takes the lock once, continues where the last one stopped (found by id, because
// series may have been added and removed), and fills the caller's buffer. Lines of one sample are copied into it.
// What threads have in own runs is summed for about a hundred lines at a time, thread by thread. Units of several lines (a head, a histogram) are
// rendered as a whole, and output as room permits, so that +Inf equals _count wherever a buffer ends.
PROMETHEUS_ASYNC_BEGIN
namespace detail {

static_assert(label_frame::step <= number_room && label_frame::step <= bucket_bounds::spare);
static registry_state* registry_of(std::uint64_t id) noexcept {
    const auto at = std::lower_bound(state.registries.begin(), state.registries.end(), id, [](const registry_state* r, std::uint64_t i) { return r->id < i; });
    return at != state.registries.end() && (*at)->id == id ? *at : nullptr;
}
/// Whether families of two registries are shown as one.
static bool mergeable(const family_state& a, const family_state& b) noexcept {
    return a.name == b.name && a.type == b.type && a.labels == b.labels && a.bounds == b.bounds && a.states == b.states &&
           a.source == family_source::lines && b.source == family_source::lines && a.constants.size() == b.constants.size() &&
           std::equal(a.constants.begin(), a.constants.end(), b.constants.begin(),
                      [](const auto& x, const auto& y) { return x.first == y.first; });
}
static bool is_target(const family_state& f) noexcept { return f.type == metric_type::info && f.name == "target_info"; }
static bool same_facts(const family_state& a, const family_state& b) noexcept {
    if (!a.labels.empty() || !b.labels.empty() || a.constants != b.constants) return false;
    const series_extra *x = a.lines[0].living()->extra, *y = b.lines[0].living()->extra;
    return x && y ? x->info == y->info : (!x || x->info.empty()) && (!y || y->info.empty());
}

static void take_only(vector<string>& only, list<std::string_view> names) {
    for (std::string_view name : names) only.emplace_back(name);
    sort(only);
}
static bool has_name(const vector<string>& only, string& space, page_text& page, const family_head& f) {
    const auto first = [&](std::string_view name) {
        return std::lower_bound(only.begin(), only.end(), name, [](std::string_view a, std::string_view b) {
            PROMETHEUS_ASYNC_DETAIL_STEP();
            return a < b;
        });
    };
    const auto asked_for = [&](std::string_view full, std::string_view base) {
        auto at = first(base);
        if (at == only.end() || !at->starts_with(base)) return false;  // all of its names begin with that
        if (*at == base || ((at = first(full)) != only.end() && *at == full)) return true;
        return any_suffix(f.type, [&](std::string_view s) {
            at = first(space.assign(base).append(s));
            return at != only.end() && *at == space;
        });
    };
    if (asked_for(f.name, f.base_name())) return true;
    if (page.plain(f)) return false;
    page.shown_name(f, f.name);
    const string full(page.word), base(page.bare_name(f));
    return asked_for(full, base);
}
/// Appends the labels of a series as `a="b",`, with names escaped as the page says.
static void append_labels(string& to, page_text& page, const family_state& f, const record& r) {
    const auto add = [&](std::string_view label_name, std::string_view value) {
        page.quoted.clear();
        append_escaped_label(page.quoted, value);
        page.add_label(to, label_name, page.quoted);
    };
    for (const auto& c : f.constants) add(c.first, c.second);
    stored_values values(r, f.labels.size());
    char space[16];
    for (const string& label_name : f.labels) add(label_name, values.next(space));
}

using label_pairs = vector<pair<string, string>>;
/// Adds a text that identifies a set of labels, independent of their order and without empty ones. It uses 0xff as a
/// separator, which occurs in no UTF-8 text.
static void append_identity(string& to, label_pairs& labels) {
    sort(labels);
    for (const auto& [name, value] : labels)
        if (!value.empty()) to.append(name).append("\xff").append(value).append("\xff");
}

/// The rest of the caller's buffer.
struct PROMETHEUS_ASYNC_LOCAL page_window {
    char* at;
    char* end;
    std::size_t room() const noexcept { return static_cast<std::size_t>(end - at); }
};

struct PROMETHEUS_ASYNC_LOCAL page_state : allocated {
    // ---- the options ----
    page_options asked;                     // without its lists, which are copied here:
    vector<std::uint64_t> registries;  // ids
    vector<string> only;          // ascending
    const only_code* selects;             // not null if there are any
    const sharing_code* shares;           // not null if two families could have one name

    // ---- the position: families and series with smaller ids are done ----
    bool target_done;        // target_info comes first
    std::size_t at_registry;
    std::uint64_t at_family, at_line;
    std::size_t at_entry;    // where the line of this id was in its family's list
    std::uint64_t limit;     // series that were made after the start are not shown, because they could be shown twice
    double now;              // of the whole page, by the monotonic clock
    double began;            // the same by the wall clock, since 1970
    std::size_t at_twin;     // index of the registry whose series of this family are being shown
    bool begun;              // the head of at_family was shown, its end was not
    bool doubled;            // a series of it was left out as a duplicate
    bool created_part;       // its _created samples are being shown, as a separate family
    bool ended, failed;
    claimed_names names;
    shown_texts merged;   // series of this family, if several registries have it

    // ---- rendered octets, which are output from `drained` on ----
    page_format* as;
    page_text unit;
    std::size_t drained, capacity;
    vector<pair<event_kind, string>> notes;  // events for on_event, which is called without the lock
    string labels, all, mine;  // members, so that the next page allocates nothing
    vector<shown_point> points;
    label_pairs pairs;

    // ---- the formats ----
    line_format text{text_style}, openmetrics{openmetrics_style};
    owned<wire_formats> wire;

#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wswitch"  // a format without a case does not compile
    page_format& format_of(const chosen_format& which) {
        switch (which) {
        case format::text_0_0_4:
        case format::text_1_0_0: break;
        case format::openmetrics_0_0_1:
        case format::openmetrics_1_0_0: return openmetrics;
        case format::protobuf:
        case format::openmetrics_2_0_0:
            if (!wire) wire = owned<wire_formats>(which.make());
            if (wire) return wire->of(which);
            failed = true;  // PROMETHEUS_ASYNC_NO_NATIVE
        }
        return text;
    }
#pragma GCC diagnostic pop
    const format_rules& rules() const noexcept { return as->rules; }
    void start(const page_options& options, page_format* in = nullptr);
    static page_state& of(cursor& page) {
        if (!page.state_) page.state_ = new page_state{};
        return *page.state_;
    }

    // ---- series ----

    /// The help or unit of the first of the merged families that has one.
    const string& first_with(const family_state& f, string family_head::*what) const {
        for (std::size_t k = at_registry; (f.*what).empty() && k != registries.size(); ++k)
            if (const family_state* g = twin(f, k); g && !(g->*what).empty()) return g->*what;
        return f.*what;
    }
    /// The labels of a series as `a="b",`, with escaped names.
    std::string_view labels_of(const family_state& f, const record& r) {
        labels.clear();
        if (!f.labelled) return {};
        if (unit.plain(f) && !f.row().one_line) f.labelled->prepared(labels, f, r);
        else f.labelled->shown(labels, unit, f, r);
        return labels;
    }
    /// Whether the series of a type show when they were created.
    bool shows_created(metric_type type) const noexcept {
        if (!row_of(type).created) return false;
        if (rules().created == created_place::beside) return asked.start_timestamps;
        return asked.created == created_series::all ||
               (asked.created == created_series::openmetrics && rules().created != created_place::own_family);
    }
    void set_created(shown_series& s, metric_type type, double created) const noexcept {
        s.created = created;
        s.has_created = shows_created(type);
        if (asked.created.code()) s.created_line = asked.created.code()->line;
    }
    /// The format, if a separate family has the _created lines.
    line_format& lines_of() noexcept { return static_cast<line_format&>(*as); }
    void sum_and_count(shown_series& s, const family_state& f, record& r, double sum, std::uint64_t observed) {
        if (!set_sum(s, rules(), f.type, sum, observed)) return;
        if (!r.extra) r.extra = new series_extra;
        if (!std::exchange(r.extra->sum_reported, true)) note_sum(f, s.labels);
    }
    void note_sum(const family_head& f, std::string_view own) {
        if (!own.empty()) own.remove_suffix(1);
        note(event_kind::sum_left_out, f.name, string("{").append(own) + "}: OpenMetrics pages leave out a sum that is negative or NaN");
    }
    run_sum histogram_sum([[maybe_unused]] shown_series& s, [[maybe_unused]] const family_state& f, record& r, std::uint64_t* counts) {
#if !PROMETHEUS_ASYNC_NO_NATIVE
        if (is_native(r) && rules().native && asked.native_histograms) {
            const run_sum sum = wire->view(s, r, counts, began);
            if (!s.native) note(event_kind::native_left_out, f.name, ": native buckets are left out: their parts do not agree");
            return sum;
        }
#endif
        return sum_since_reset(r, r.place, counts);
    }
    /// Gives the format one series of a registry.
    void series(const family_state& f, record& r) {
        shown_series s;
        s.labels = labels_of(f, r);
        set_created(s, f.type, r.created);
        if (created_part) return (lines_of().*s.created_line)(unit, f, s);
        if (rules().exemplars && r.extra && r.extra->show) r.extra->show(s, r.extra->exemplars);
        std::uint64_t counts[256];
        if (f.code) f.code->tell(*this, f, r, s, counts);
        else if (f.row().cells == cell_rule::sum) s.number = sum_of_number(r, r.place);
        else s.number.real = gauge_value(r, r.place);
        as->series(unit, f, s);
    }

    // type_code
    static const char* take_facts(family_state& f, const metric_options&) {
        if (is_target(f)) state.target = target;
        return nullptr;
    }
    static void tell_facts(page_state& page, const family_state&, record& r, shown_series& s, std::uint64_t*) {
        s.number.whole = 1;
        if (!r.extra) return;
        page.all = s.labels;
        for (const auto& [label_name, label_value] : r.extra->info) {
            page.unit.quoted.clear();
            append_escaped_label(page.unit.quoted, label_value);
            page.unit.add_label(page.all, label_name, page.unit.quoted);
        }
        s.labels = page.all;
    }
    static void tell_states(page_state& page, const family_state& f, record& r, shown_series& s, std::uint64_t*) {
        page.points.clear();
        for (std::size_t i = 0; i != f.states.size(); ++i) page.points.push_back({f.states[i], r.word.state == i ? 1.0 : 0.0});
        s.points = page.points;
        s.lines = &line_format::points;
    }
    static void tell_extremes(page_state& page, const family_state&, record& r, shown_series& s, std::uint64_t*) {
        const run_extremes both = extremes_at(r, r.place, page.now);
        page.points.clear();
        page.points.push_back({"min", both.least});
        page.points.push_back({"max", both.most});
        s.points = page.points;
        s.lines = &line_format::points;
    }
    static void tell_buckets(page_state& page, const family_state& f, record& r, shown_series& s, std::uint64_t* counts) {
        const bucket_bounds& b = *f.bounds;
        std::memset(counts, 0, (b.count + 1 + (b.native ? 2U : 0U)) * sizeof counts[0]);
        const run_sum sum = page.histogram_sum(s, f, r, counts);
        for (unsigned i = 1; i <= b.count; ++i) counts[i] += counts[i - 1];
        if (b.native) {  // the count is that of the native part: an observation that a thread is adding may be in only one of the two
            for (unsigned i = 0; i != b.count; ++i) counts[i] = (std::min)(counts[i], sum.whole);
            counts[b.count] = sum.whole;
        }
        s.upper = {b.upper, b.count + std::size_t{1}};
        s.cumulative = counts;
        s.texts = &b;
        s.lines = &line_format::buckets;
        page.sum_and_count(s, f, r, sum.real, counts[b.count]);
    }
    static void tell_summary(page_state& page, const family_state& f, record& r, shown_series& s, std::uint64_t*) {
        const run_sum sum = sum_of_number(r, r.place);
        s.lines = &line_format::quantiles;
        page.sum_and_count(s, f, r, sum.real, sum.whole);
    }

    // ---- what is shown ----

    /// Whether name[] selects it: by its name or a sample's, escaped as on this page or not.
    bool wanted(const family_head& f) { return as->wants(f) && (only.empty() || selects->has(only, all, unit, f)); }
    /// A family of any registry that has one of the names of this one and takes precedence, or null. The lock is held.
    const family_state* owner(const family_head& f, bool declared) {
        state.take_seed();  // names and series of the page are compared by fingerprints from here on
        mine.assign(unit.bare_name(f));
        for (std::size_t k = 0; k != registries.size(); ++k) {
            registry_state* r = registry_of(registries[k]);
            if (!r) continue;
            const auto wins = [&](const family_state& g) {
                return g.id < limit && (!declared || (g.legacy() != f.legacy() ? g.legacy() : k < at_registry)) &&
                       ((unit.plain(f) && unit.plain(g)) || overlap(unit.bare_name(g), g.type, mine, f.type));
            };
            if (const family_state* g = clash(*r, f, wins)) return g;
        }
        return nullptr;
    }
    /// Whether a declared family has the right to its names on this page: a family that is never escaped takes precedence, then
    /// one of an earlier registry. The lock is held.
    static bool owns(page_state& page, const family_state& f) {
        const family_state* g = page.owner(f, true);
        return !(g && mergeable(*g, f)) && page.claims(f, g);  // it is merged with that
    }
    /// The same if the page is of one registry.
    static bool owns_alone(page_state& page, const family_state& f) { return page.claims(f, page.owner(f, true)); }
    bool claims(const family_state& f, const family_state* other) {
        if (!other && names.claim(mine, f.type)) return true;
        note(event_kind::names_collided, f.name, " is left out: its name is already used on this page");
        return false;
    }
    /// The family of another registry whose series are shown with those of `f`.
    static const family_state* find_twin(const page_state& page, const family_state& f, std::size_t k) {
        if (is_target(f)) return nullptr;  // a page has only one
        registry_state* r = registry_of(page.registries[k]);
        const family_state* g = r ? r->find(f.key()) : nullptr;
        return g && mergeable(f, *g) && g->id < page.limit ? g : nullptr;
    }
    /// Whether an earlier registry has this series: the same label values, as these families have the same label names.
    static bool repeats(page_state& page, const family_state& f, const record& r) {
        string& text = page.all;
        text.clear();
        if (f.labelled) f.labelled->prepared(text, f, r);
        if (f.type == metric_type::info && r.extra) {
            page.pairs.clear();
            for (const auto& [label_name, value] : r.extra->info) page.pairs.emplace_back(string(page.unit.escaped(label_name, true)), value);
            append_identity(text, page.pairs);
        }
        if (page.merged.add(text)) return false;
        if (!page.created_part && !std::exchange(page.doubled, true))
            page.note(event_kind::names_collided, f.name, ": a series is left out: an earlier registry has it");
        return true;
    }
    /// The same for a family that a collector yields: declared families take precedence. A callback metric counts as declared.
    /// The lock is held.
    bool own_names_of_yield(const family_head& f, bool declared) { return !owner(f, declared) && names.claim(mine, f.type); }
    /// Counts an event, and stores it for on_event, which is called after the lock is released. The lock is held.
    void note(event_kind kind, std::string_view of, std::string_view what) {
        const auto at = static_cast<unsigned>(kind);
        ++state.counted[at];
        if (!asked.on_event) return;
        ++state.reported[at];
        notes.emplace_back(kind, string(of).append(what));
    }

    // ---- pulling ----

    // How much work a pull may do without output, in steps of about 25 ns. So it holds the lock for much less than a
    // millisecond, whatever was selected or removed.
    std::size_t work;
    static constexpr std::size_t pull_work = 4096, family_work = 8, series_work = 4, hole_work = 1;
    /// False when the work of this pull is used up: then the pull ends.
    bool spend(std::size_t steps) noexcept {
        PROMETHEUS_ASYNC_DETAIL_STEP();
        return steps < work ? work -= steps, true : std::exchange(work, 0) != 0;
    }

    /// Outputs the unit; true when all of it was output.
    bool drain(page_window& out) noexcept {
        const std::size_t rest = unit.octets.size - drained;
        const std::size_t n = rest < out.room() ? rest : out.room();
        if (n != 0) out.at = put_text(out.at, {unit.octets.data + drained, n});
        drained += n;
        if (drained != unit.octets.size) return false;
        unit.octets.size = drained = 0;
        return true;
    }
    /// What the next lines have in the own runs of threads. It is summed thread by thread, so that each page of cells is read once
    /// for many lines, and not once for each line.
    struct own_sums {
        static constexpr std::size_t most = 128;  // few enough for their records to stay in the cache
        double real[most];
        std::uint64_t whole[most];

        void take(const line* from, std::size_t n) noexcept {
            std::uint64_t ids[most];
            std::uint32_t places[most];
            std::uint32_t low = ~std::uint32_t{0}, high = 0;  // of all pages
            for (std::size_t i = 0; i != n; ++i) {
                const record* const r = from[i].living();
                ids[i] = r ? r->id : from[i].id();  // the latter is in no cell
                places[i] = r ? r->place : i == 0 ? 0 : places[i - 1];
                low = (std::min)(low, page_of(places[i]));
                high = (std::max)(high, page_of(places[i]));
                real[i] = 0;
                whole[i] = 0;
            }
            for (const thread_record* t = state.threads; t; t = t->next) {
                const cell_block& block = t->block;
                bool any = low < block.count && high - low >= n;
                for (std::uint32_t p = low; !any && p <= high && p < block.count; ++p) any = block.pages[p] != nowhere;
                if (!any) continue;
                const cell* page = nowhere;
                std::uint32_t number = ~std::uint32_t{0};  // of this page: mostly that of the previous line
                for (std::size_t i = 0; i != n; ++i) {
                    if (page_of(places[i]) != number) {
                        number = page_of(places[i]);
                        page = block.run_at(place_of(number, 0));
                    }
                    const cell* run = page + offset_of(places[i]);
                    if (run->load() != ids[i]) continue;
                    real[i] += run[1].real();
                    whole[i] += run[2].load();
                }
            }
        }
        /// Whether a thread has runs of its own in this page.
        static bool any_in(std::uint32_t page) noexcept {
            for (const thread_record* t = state.threads; t; t = t->next) {
                PROMETHEUS_ASYNC_DETAIL_STEP();
                if (page < t->block.count && t->block.pages[page] != nowhere) return true;
            }
            return false;
        }
    };
    /// Copies lines of one sample; false when the window is full. It stores characters, which may be anything to the compiler, so
    /// what the loop needs is in local variables.
    bool copy_lines(const family_state& f, line* from, line* end, page_window& out) {
        const bool counts = f.row().cells == cell_rule::sum;
        const label_frame::view frame(f.frame);
        const std::size_t label_count = f.labels.size();
        const auto around = static_cast<std::int64_t>(f.frame.size() + number_room);
        constexpr std::ptrdiff_t ahead = 12;       // how many records ahead are prefetched
        const cell* page = nowhere;
        std::uint32_t number = ~std::uint32_t{0};  // of this page: mostly that of the previous line
        bool owned_too = false;                    // threads have runs of their own there
        own_sums own;
        line *summed = from, *summed_end = from;  // the lines in `own`
        line* looked = nullptr;                   // where the last page began
        if (end != from && end[-1].id() >= limit) end = line::first_from(from, end, limit);
        line* const near_end = end - (std::min)(ahead, end - from);
        char *to = out.at, *const window_end = out.end;
        bool full = false;
        for (; from != end; ++from) {
            const auto* later = reinterpret_cast<const char*>(static_cast<std::uintptr_t>(from[from < near_end ? ahead : 0].held_));
            __builtin_prefetch(later + offsetof(record, size));
            __builtin_prefetch(later + offsetof(record, size) + 64);
            record* const r = from->living();
            if (!r) [[unlikely]] {
                if ((full = !spend(hole_work))) break;
                continue;
            }
            if (std::int64_t{r->size} + around > window_end - to) [[unlikely]] {
                out.at = to;
                if ((full = r->size != record::escaped && out.room() != capacity)) break;
                at_line = r->id + 1;
                series(f, *r);  // it has escapes, or is longer than any window
                if (!drain(out)) return false;
                to = out.at;
                continue;
            }
            to = put_series_text(to, frame, *r, label_count);
            if (page_of(r->place) != number) [[unlikely]] {
                number = page_of(r->place);
                page = state.shared.run_at(place_of(number, 0));
                // To look through the threads for each page would be too much where places were used again, in any order.
                owned_too = from < summed_end || (looked && from - looked < 16) || own_sums::any_in(number);
                looked = from;
            }
            const cell* const run = page + offset_of(r->place);
            std::uint64_t real = run[1].load(), whole = run[2].load();  // the former are the bits of a double
            if (owned_too) [[unlikely]] {
                if (from >= summed_end) {
                    const auto fit = static_cast<std::ptrdiff_t>((window_end - to) / (around - std::ptrdiff_t{number_room} + 4 * static_cast<std::ptrdiff_t>(label_count) + 4) + 1);  // about as many as fit in the window
                    summed = from;
                    summed_end = from + (std::min)({fit, std::ptrdiff_t{own_sums::most}, end - from});
                    own.take(summed, static_cast<std::size_t>(summed_end - summed));
                }
                real = bits_of(__builtin_bit_cast(double, real) + own.real[from - summed]);
                whole += own.whole[from - summed];
            }
            const auto more = __builtin_bit_cast(double, real);
            if (!counts) {
                const std::uint64_t set = r->word.last_set.load();
                to = put_double(to, set == shared_value::unset ? signed_sum({more, whole}) : __builtin_bit_cast(double, set));
            } else if (real << 1 != 0) {
                to = put_counter(to, {steady(*r, more), whole});
            } else {
                to = whole < 100000000 ? put_short(to, whole) : put_u64(to, whole);
            }
            *to++ = '\n';
        }
        out.at = to;
        at_entry = static_cast<std::size_t>(from - f.lines.begin());
        at_line = from != f.lines.end() ? from->id() : limit;
        return !full;
    }
    /// The family of registry `k` whose series are shown with those of `f`.
    const family_state* twin(const family_state& f, std::size_t k) const {
        return k == at_registry ? &f : shares->twin(*this, f, k);
    }
    bool lines(const family_state& first, const family_state& f, page_window& out) {
        line* l = at_entry < f.lines.size && f.lines[at_entry].id() == at_line ? f.lines.begin() + at_entry
                                                                               : line::first_from(f.lines.begin(), f.lines.end(), at_line);
        bool several = at_twin != at_registry;
        for (std::size_t k = at_registry + 1; k != registries.size() && !several; ++k) several = twin(first, k) != nullptr;
        const bool plain = rules().copies_lines && f.row().one_line && unit.plain(f) && !f.special && !several && !shows_created(f.type);
        if (plain && f.labelled) return f.labelled->lines(*this, f, l, out);
        for (; l != f.lines.end() && l->id() < limit; ++l) {
            at_line = l->id() + 1;
            record* const r = l->living();
            const bool another = r && several && shares->repeats(*this, f, *r);
            if (!r || another || as->enough) {
                as->counted += r && !another;
                if (!spend(series_work)) return false;
                continue;
            }
            if (plain) line_alone(f, *r);
            else series(f, *r);
            if (!drain(out)) return false;
        }
        return true;
    }
    /// The line of a metric without labels.
    void line_alone(const family_state& f, record& r) {
        unit.text(f.name);
        unit.number([&](char* at) {
            *at++ = ' ';
            at = f.row().cells == cell_rule::sum ? put_counter(at, sum_of_number(r, r.place)) : put_double(at, gauge_value(r, r.place));
            *at++ = '\n';
            return at;
        });
    }
    /// Shows a family; false when the window is full.
    bool family(const family_state& f, page_window& out) {
        const auto begin = [&](bool of_created) {
            at_twin = at_registry;
            at_line = 0;
            merged.clear();
            doubled = false;
            created_part = of_created;
            const string& help = first_with(f, &family_head::help);
            if (of_created) (lines_of().*asked.created.code()->begin)(unit, f, help);
            else as->begin_family(unit, f, help, first_with(f, &family_head::unit));
            return drain(out);
        };
        if (!std::exchange(begun, true) && !begin(false)) return false;
        for (;;) {
            for (; at_twin != registries.size(); ++at_twin, at_line = 0)
                if (const family_state* g = twin(f, at_twin); g && !lines(f, *g, out)) return false;
            if (created_part || rules().created != created_place::own_family || !shows_created(f.type)) return true;
            if (!begin(true)) return false;
        }
    }
    /// Ends the family whose head was shown, even if it was removed.
    void end_family() { if (std::exchange(begun, false)) as->end_family(unit); }
    /// Shows a declared family if it is selected; false when the window is full.
    bool one(const family_state& f, page_window& out) { return !(begun || (wanted(f) && (!shares || shares->owns(*this, f)))) || family(f, out); }
    /// The target_info of registry `k`, or null.
    const family_state* target_of(std::size_t k) const {
        registry_state* home = registry_of(registries[k]);
        const family_state* f = home ? home->find("target") : nullptr;
        return f && is_target(*f) && f->id < limit ? f : nullptr;
    }
    /// Reports the target_infos of later registries that differ from the one that is shown.
    static void compare_targets(page_state& page, const family_state& shown) {
        for (std::size_t k = page.at_registry + 1; k != page.registries.size(); ++k)
            if (const family_state* g = page.target_of(k); g && page.wanted(*g) && !same_facts(shown, *g))
                page.note(event_kind::names_collided, g->name, " of a later registry is left out: a page has one");
    }
    /// Shows target_info, which is first on a page; false when the window is full.
    static bool target(page_state& page, page_window& out) {
        for (; page.at_registry != page.registries.size(); ++page.at_registry, page.end_family()) {
            if (!page.spend(family_work)) return false;
            const family_state* f = page.target_of(page.at_registry);
            if (!f) continue;
            if (!page.one(*f, out)) return false;
            if (page.registries.size() > 1) page.shares->compare_targets(page, *f);
            break;
        }
        page.target_done = true;
        page.end_family();
        page.at_registry = 0;
        return page.drain(out);
    }

    pull walk(page_window& out) {
        // 1. Octets for which the last pull had no room.
        if (failed) return pull::failed;
        if (!drain(out)) return pull::more;
        work = pull_work;
        global_lock lock;
        // 2. target_info, and 3. all families by registry and id. The position is a pair of ids, because anything may have been
        //    removed meanwhile.
        if (!target_done && !state.target(*this, out)) return pull::more;
        for (; at_registry != registries.size(); ++at_registry, at_family = 0, end_family()) {
            for (;;) {
                if (!drain(out) || !spend(family_work * registries.size())) return pull::more;  // each registry may have a family of this name
                registry_state* home = registry_of(registries[at_registry]);
                if (!home) break;
                const auto next = std::lower_bound(home->families.begin(), home->families.end(), at_family,
                                                   [](const family_state* f, std::uint64_t id) { return f->id < id; });
                if (next == home->families.end() || (*next)->id >= limit) break;
                const family_state& f = **next;
                if (f.id != at_family) end_family();
                at_family = f.id;
                if (!drain(out)) return pull::more;
                if (f.source == family_source::lines) {
                    if (f.labelled) f.labelled->tidy(**next);
                    if (!is_target(f) && !one(f, out)) return pull::more;
                } else {
                    if (f.hook->run && (f.source == family_source::collector || wanted(f))) f.hook->call(*this, lock, f);
                    if (failed) return pull::failed;
                }
                ++at_family;
                end_family();
            }
        }
        // 4. The end of the page.
        if (!std::exchange(ended, true)) as->end_page(unit);
        return drain(out) ? pull::done : pull::more;
    }
};

constinit const label_code label_code::all{
    take_labels, begin_labelled, detail::tidy,
    [](page_state& page, const family_state& f, line* from, page_window& out) { return page.copy_lines(f, from, f.lines.end(), out); },
    append_series_text, append_labels};
constinit const only_code only_code::all{take_only, has_name};
constinit const sharing_code sharing_code::all{page_state::owns, page_state::find_twin, page_state::repeats, page_state::compare_targets};
constinit const type_code histogram_code{take_buckets, page_state::tell_buckets};
constinit const type_code summary_code{nullptr, page_state::tell_summary};
constinit const type_code info_code{page_state::take_facts, page_state::tell_facts};
constinit const type_code state_set_code{take_states, page_state::tell_states};
constinit const type_code min_max_code{take_window, page_state::tell_extremes};
void page_state::start(const page_options& options, page_format* in) {
    asked = options;
    asked.registries = {};
    asked.only = {};
    began = wall_now();
    only.clear();
    if ((selects = options.only.code())) selects->take(only, options.only);
    registries.clear();
    names.clear();
    at_registry = 0;
    at_family = at_line = 0;
    begun = ended = failed = false;
    as = in ? in : &format_of(options.as);
    as->reset();
    unit.names = options.names;
    unit.octets.size = drained = 0;
    now = monotonic_now();
    global_lock lock;
    limit = (state.sequence + 1) << 12;
    target_done = !state.target;
    const auto add = [&](const registry* r) {
        const registry_state* made = r ? registry_state::peek(*r) : nullptr;
        if (made && std::find(registries.begin(), registries.end(), made->id) == registries.end()) registries.push_back(made->id);
    };
    if (options.registries.empty()) add(state.standard);
    for (const registry* r : options.registries) add(r);
    shares = nullptr;
    if (registries.size() > 1) shares = options.registries.code();
    else if (!registries.empty())
        if (const registry_state& r = *registry_of(registries[0]); r.collectors != 0) shares = r.sharing;

    // Errors of updates are reported here, because updates must be fast.
    static constexpr struct {
        event_kind kind;
        const char* what;
    } silent[] = {{event_kind::step_ignored, "a counter was given a negative or NaN step"},
                  {event_kind::text_sanitized, "a label value or help was not UTF-8"},
                  {event_kind::series_overflowed, "a family has reached max_series, or a registry its limits: further series are counted together"},
                  {event_kind::exemplar_dropped, "an exemplar was too long or had an invalid name"},
                  {event_kind::names_collided, "a family or series was left out: its name is already used"},
                  {event_kind::sum_left_out, "a sum is negative or NaN: OpenMetrics pages leave it out"}};
    for (const auto& e : silent) {
        const auto at = static_cast<unsigned>(e.kind);
        if (!options.on_event || state.reported[at] == state.counted[at]) continue;
        state.reported[at] = state.counted[at];
        lock.pause();
        notify(options.on_event, options.context, {e.kind, error(errc::invalid_option, e.what)});
        lock.resume();
    }
}
}  // namespace detail

void cursor::start(const page_options& options) {
    detail::page_state::of(*this).start(options);
}
pulled cursor::next(std::span<char> into) noexcept {
    if (!state_ || into.size() < 64) return {0, pull::failed};
    detail::page_window out{into.data(), into.data() + into.size()};
    state_->capacity = into.size();
    pull what = pull::failed;
    detail::contain("a page", [&] { what = state_->walk(out); }, [&](const error&) { state_->failed = true; });  // no memory
    for (const auto& [kind, text] : std::exchange(state_->notes, {}))
        notify(state_->asked.on_event, state_->asked.context, {kind, error(errc::conflict, text)});
    return {static_cast<std::size_t>(out.at - into.data()), what};
}
cursor::~cursor() { delete state_; }

namespace detail {
/// False when the page could not be made whole.
static bool render(const page_options& options, std::string& to) {
    cursor page;
    page.start(options);
    char buffer[16384];
    for (;;) {
        const pulled got = page.next(buffer);
        to.append(buffer, got.bytes);
        if (got.what != pull::more) return got.what != pull::failed;
    }
}
}  // namespace detail

std::string expose(const page_options& options) {
    std::string page;
    if (!detail::render(options, page)) page.clear();
    return page;
}
PROMETHEUS_ASYNC_END

// =============================================================================
// [53] collectors                                   calling them, waiting for them, what they yield
//      needs [52]
// =============================================================================
//
// A collector is called without the lock, because it may declare, update and remove metrics. So the removal of a collector
// waits until its calls have ended. What it yields is shown only after it has returned: until then it is in the page's
// unit, which is emptied if something in it is invalid.
PROMETHEUS_ASYNC_BEGIN
namespace detail {

/// A running call of a collector on this thread. A collector may make a page with other collectors: then there are several.
struct collector_call {
    const collector_hook* hook;
    collector_call* outer;
    bool unwaited = false;  // it removed another collector without waiting
    static collector_call* of(const collector_hook& h, collector_call* c) noexcept {
        while (c && c->hook != &h) c = c->outer;
        return c;
    }
};
#if PROMETHEUS_ASYNC_NO_THREADS
static constinit collector_call* calling = nullptr;
#else
static constinit thread_local collector_call* calling = nullptr;
/// A thread that waits for the calls of `hook` to end, while calls of its own are running.
struct collector_wait {
    const collector_hook& hook;
    collector_call* inside;
    collector_wait* next;
};
static constinit collector_wait* collector_waits = nullptr;
#endif

#if !PROMETHEUS_ASYNC_NO_THREADS
/// The call of this thread that a call of `h` waits for, directly or through others. The search ends, because a wait that
/// would close a circle never begins, and a removed collector gets no new calls.
static collector_call* waited_for_by(const collector_hook& h) noexcept {
    for (const collector_wait* w = collector_waits; w; w = w->next) {
        if (!collector_call::of(h, w->inside)) continue;
        collector_call* own = collector_call::of(w->hook, calling);
        if (own || (own = waited_for_by(w->hook))) return own;
    }
    return nullptr;
}
#endif
/// Waits until the calls of a removed hook have ended.
void await_calls([[maybe_unused]] const collector_hook& h) noexcept {
#if !PROMETHEUS_ASYNC_NO_THREADS
    // It does not wait for its own call, nor if that would close a circle of threads: then this call's collector is left out.
    if (h.running == 0 || collector_call::of(h, calling)) return;
    if (collector_call* own = calling ? waited_for_by(h) : nullptr) {
        own->unwaited = true;
        return;
    }
    collector_wait here{h, calling, collector_waits};
    collector_waits = &here;
    while (h.running != 0) state.lock.wait(state.collected);
    collector_wait** at = &collector_waits;
    while (*at != &here) at = &(*at)->next;
    *at = here.next;
#endif
}

/// Wakes the threads that wait for the calls of a hook, after one of these has ended.
static void collectors_done() noexcept {
#if !PROMETHEUS_ASYNC_NO_THREADS
    pthread_cond_broadcast(&state.collected);
#endif
}
/// A forked child has one thread: there are no calls of other threads, and no waits.
static void collectors_after_fork() noexcept {
#if !PROMETHEUS_ASYNC_NO_THREADS
    state.collected = PTHREAD_COND_INITIALIZER;
    collector_waits = nullptr;
    for (registry_state* r : state.registries)
        for (family_state* f : r->families) {
            if (!f->hook) continue;
            f->hook->running = 0;  // then only this thread's own calls are counted
            for (const collector_call* c = calling; c; c = c->outer) f->hook->running += c->hook == f->hook;
        }
#endif
}
/// In one registry no family has a twin.
static constexpr sharing_code sharing_of_collectors{page_state::owns_alone, nullptr, nullptr, nullptr};
static void call_collector(page_state& page, global_lock& lock, const family_state& f);
/// Adds a callback metric: it is declared, which reserves its name, and a collector of one sample shows it.
static collector_hook* add_metric(declared_type type, metric_name name, std::string_view help, callback<double()> read,
                                  const metric_options& options) {
    struct callback_sample {
        metric_type type;
        string name, help, unit;
        vector<pair<string, string>> constants;
        callback<double()> read;
        void operator()(sample_sink& to) {
            vector<label> labels;
            for (const auto& c : constants) labels.push_back({utf8(c.first), c.second});
            const double value = read();
            to.family(type, utf8(name), help, unit);
            to.sample(value, labels);
        }
    };
    if (!read) raise(error(errc::invalid_option, "a callback metric: the callback is empty"));
    auto hook = owned<collector_hook>(new collector_hook{{}, {}, nullptr, 0, 1, call_collector});
    declare({type, name, help, options, {}, hook.get()}).value();
    const global_lock lock;
    state.after_fork = collectors_after_fork;
    undo declared{[&] { if (hook->family) remove_hooked(*hook->family->home, hook->family); }};
    if (const family_state* f = hook->family)  // null if it was unregistered meanwhile
        hook->run = callback_sample{type.type, f->name, f->help, f->unit, f->constants, std::move(read)};
    declared.done = true;
    return hook.release();
}

}  // namespace detail

collector_handle registry::add_collector(callback<void(sample_sink&)> collect) {
    if (!collect) detail::raise(error(errc::invalid_option, "registry::add_collector: the callback is empty"));
    owned<detail::family_state> family(new detail::family_state{});
    owned<detail::collector_hook> hook(new detail::collector_hook{{}, std::move(collect), family.get(), 0, 2, detail::call_collector});
    const detail::global_lock lock;
    auto& home = detail::registry_state::of(*this);
    family->source = detail::family_source::collector;
    family->hook = hook.get();
    family->home = &home;
    family->id = detail::state.next_id(0);
    home.families.push_back(family.get());
    ++home.collectors;
    detail::state.after_fork = detail::collectors_after_fork;
    home.sharing = &detail::sharing_of_collectors;
    static_cast<void>(family.release());
    return collector_handle(hook.release());
}
collector_handle registry::add_collector(collector& source) {
    return add_collector([&source](sample_sink& to) { source.collect(to); });
}
void collector_handle::keep() noexcept {
    detail::collector_hook* hook = std::exchange(hook_, nullptr);
    if (!hook) return;
    {
        const detail::global_lock lock;
        if (--hook->holders != 0) return;
    }
    delete hook;
}
void collector_handle::remove() noexcept {
    detail::collector_hook* hook = std::exchange(hook_, nullptr);
    if (!hook) return;
    {
        const detail::global_lock lock;
        if (hook->family) detail::remove_hooked(*hook->family->home, hook->family);
        else detail::await_calls(*hook);
        if (--hook->holders != 0) return;
    }
    delete hook;
}
callback_gauge::callback_gauge(metric_name name, std::string_view help, callback<double()> read, const metric_options& options)
    : handle_(detail::add_metric(metric_type::gauge, name, help, std::move(read), options)) {}
callback_counter::callback_counter(metric_name name, std::string_view help, callback<double()> read, const metric_options& options)
    : handle_(detail::add_metric(metric_type::counter, name, help, std::move(read), options)) {}

/// Gives the format what a collector yields, and checks it.
struct PROMETHEUS_ASYNC_LOCAL detail::sink_state {
    page_state& page;
    collector_hook& hook;
    bool declared;  // for a callback metric
    family_head f{};
    bool open = false, skipped = false, failed = false, collided = false;
    detail::string why{}, labels{};
    shown_texts seen{};     // the series of this family
    detail::string created{};  // lines that follow as a separate family
    detail::vector<double> upper{};
    detail::vector<std::uint64_t> cumulative{};
    detail::vector<shown_point> points{};
    detail::vector<sample_sink::quantile> quantiles{};
    detail::vector<kept_exemplar> exemplars{};
    const exemplar_code* examples = nullptr;  // not null if there was one

    PROMETHEUS_ASYNC_DETAIL_ONCE void fail(const char* reason) noexcept { fail(std::string_view(reason)); }
    void fail(std::string_view reason) noexcept {
        if (std::exchange(failed, true)) return;
        contain("a reason", [&] { why = detail::string(f.name).append(f.name.empty() ? "" : ": ").append(reason); }, [](const error&) {});
    }
    void end_family() {
        seen.clear();
        if (!created.empty()) {
            (page.lines_of().*page.asked.created.code()->begin)(page.unit, f, f.help);
            page.unit.text(created);
            created.clear();
        }
        if (!skipped) page.as->end_family(page.unit);
        open = false;
    }
    void family(metric_type type, const any_name& name, std::string_view help, std::string_view unit) {
        if (open) end_family();
        if (failed) return;
        f = {};
        f.type = type;
        f.name = name;
        if (name.empty()) return fail("a metric needs a name");
        if (const refusal wrong = complete_name(f, unit, name.is_utf8()); wrong.why) return fail(wrong.why);
        const global_lock lock;
        f.help = clean(help);
        open = true;
        skipped = !page.wanted(f);
        if (skipped) return;
        if (!page.own_names_of_yield(f, declared)) {
            collided = true;
            return fail("its name is already used on this page");
        }
        page.as->begin_family(page.unit, f, f.help, f.unit);
        check_size();
    }
    void check_size() { if (page.unit.octets.size + created.size() > page.asked.collector_bytes) fail("more than collector_bytes"); }
    /// Checks labels and times; false when the series must not be shown.
    bool begin(shown_series& s, list<label> given, const sample_details& more) {
        for (double when : {more.timestamp, more.created, more.example.timestamp})
            if (!possible_time(when)) return fail("a timestamp is not a valid time"), false;
        if (!open && !failed) fail("a series came before its family");
        if (failed || skipped) return false;
        const std::string_view reserved = f.own_label();
        labels.clear();
        page.pairs.clear();
        for (const label& l : given) {
            const detail::string wrong = l.name == reserved ? "a label's name is reserved" : label_fault(l.name);
            if (!wrong.empty()) return fail(wrong), false;
            bool changed = false;
            detail::string safe;
            const auto& [shown, value] = page.pairs.emplace_back(page.unit.escaped(l.name, true), sanitize_utf8(l.value, changed));
            if (page.unit.escaped(reserved, true) == shown) return fail("two labels have the same name"), false;
            append_escaped_label(safe, value);
            page.unit.add_label(labels, l.name, safe);
        }
        page.all.clear();
        append_identity(page.all, page.pairs);
        for (std::size_t i = 1; i < page.pairs.size(); ++i)
            if (page.pairs[i - 1].first == page.pairs[i].first) return fail("two labels have the same name"), false;
        if (!seen.add(page.all)) return fail("a series twice"), false;
        s.labels = labels;
        s.timestamp = more.timestamp;
        if (s.timestamp != 0) s.tail = &line_format::time_and_exemplar;
        if (more.created != 0) page.set_created(s, f.type, more.created);
        exemplars.clear();
        return true;
    }
    void add_exemplar(unsigned at, const exemplar& e, double value) {
        if (e.labels.empty() || !page.rules().exemplars) return;
        examples = e.labels.code();
        examples->keep(exemplars, at, value, e);
    }
    void show(shown_series& s) {
        if (!exemplars.empty()) examples->show(s, exemplars);
        page.as->series(page.unit, f, s);
        if (s.has_created && page.rules().created == created_place::own_family) {
            const std::size_t start = page.unit.octets.size;
            (page.lines_of().*s.created_line)(page.unit, f, s);
            created.append(page.unit.octets.data + start, page.unit.octets.size - start);
            page.unit.octets.size = start;
        }
        check_size();
    }
    /// Reports that a part of this series is forbidden by the format and left out: once for each of the first thousand series
    /// of a collector.
    void report_sum() {
        detail::string series = f.name + '{' + labels;
        const global_lock lock;
        auto& reported = hook.sums_reported;
        const auto at = std::lower_bound(reported.begin(), reported.end(), series);
        if ((at != reported.end() && *at == series) || reported.size() == 1000) return;
        reported.insert(at, std::move(series));
        page.note_sum(f, labels);
    }
    void sample(double value, list<label> given, const sample_details& more) {
        const bool informs = f.row().shape == value_shape::facts, counts = f.type == metric_type::counter;
        if (open && !informs && f.row().shape != value_shape::number) return fail("a single value in a family of another type");
        if (counts && !from_zero(value)) return fail("a counter is negative or NaN");
        shown_series s;
        if (!begin(s, given, more)) return;
        s.number.real = informs ? 1 : value;
        if (counts) add_exemplar(0, more.example, more.example_value);
        show(s);
    }
    /// What is wrong with a native histogram, or null.
    static const char* fault_of(const sample_sink::native_histogram& v) noexcept {
        constexpr std::int64_t least = -1074, most = 1024;  // the exponents of doubles, which limit the indexes
        if (v.schema < -4 || v.schema > 8) return "a schema must be from -4 to 8";
        if (!is_finite(v.zero_threshold) || !from_zero(v.zero_threshold)) return "a zero threshold is negative or not finite";
        std::uint64_t all = v.zero_count;
        bool too_many = false;
        for (const auto* side : {&v.positive, &v.negative})
            for (const sample_sink::native_bucket& b : *side) {
                const std::int64_t fine = std::int64_t{b.index} << (8 - v.schema);
                if (&b != side->begin() && (&b)[-1].index >= b.index) return "the native buckets do not ascend";
                if (fine < least * 256 || fine > (most * 256) + (1 << (8 - v.schema))) return "an index is beyond the range of numbers";
                too_many |= __builtin_add_overflow(all, b.count, &all);
            }
        if (too_many || (all | v.count) >> 63 != 0) return "a count of 2^63 or more";
        if (is_nan(v.sum) ? v.count < all : v.count != all) return "the count differs from that of the native buckets";
        return nullptr;
    }
    void histogram(list<sample_sink::bucket> buckets, double sum, list<label> given, const sample_details& more,
                   const sample_sink::native_histogram* native = nullptr) {
        if (open && f.row().shape != value_shape::histogram) return fail("buckets in a family of another type");
        shown_series s;
        if (!begin(s, given, more)) return;
        const sample_sink::bucket no_bound{__builtin_bit_cast(double, infinite), native ? native->count : 0};
        if (native) {
            if (const char* wrong = fault_of(*native)) return fail(wrong);
            if (buckets.empty()) buckets = {&no_bound, 1};
        }
        if (buckets.empty() || bits_of(buckets[buckets.size() - 1].upper) != infinite) return fail("the bucket +Inf is missing");
        upper.clear();
        cumulative.clear();
        for (std::size_t i = 0; i != buckets.size(); ++i) {
            const sample_sink::bucket& b = buckets[i];
            if (is_nan(b.upper)) return fail("a bound is NaN");
            if (i != 0 && (order(buckets[i - 1].upper) >= order(b.upper) || b.count < buckets[i - 1].count))
                return fail("the buckets do not ascend");
            if (!possible_time(b.example.timestamp)) return fail("a timestamp is not a valid time");
            upper.push_back(b.upper);
            cumulative.push_back(b.count);
            if (f.type == metric_type::histogram) add_exemplar(static_cast<unsigned>(i), b.example, b.example_value);
        }
        s.upper = upper;
        s.cumulative = cumulative.data();
        if (native) {
            if (cumulative.back() != native->count) return fail("the count of the classic buckets differs from that of the native ones");
            if (page.rules().native && page.asked.native_histograms) page.wire->view(s, *native);
            add_exemplar(first_native_exemplar, more.example, more.example_value);
        }
        s.lines = &line_format::buckets;
        if (set_sum(s, page.rules(), f.type, sum, cumulative.back())) report_sum();
        show(s);
    }
    void summary(std::uint64_t count, double sum, list<sample_sink::quantile> given_quantiles, list<label> given, const sample_details& more) {
        if (open && f.row().shape != value_shape::summary) return fail("quantiles in a family of another type");
        shown_series s;
        if (!begin(s, given, more)) return;
        quantiles.clear();
        for (const auto& q : given_quantiles) {
            if (!within(q.q, 0, 1) || (&q != given_quantiles.begin() && (&q)[-1].q >= q.q)) return fail("the quantiles do not ascend from 0 to 1");
            if (!page.rules().sums_from_zero || is_nan(q.value) || order(q.value) >= 0) quantiles.push_back(q);
            else report_sum();
        }
        s.quantiles = quantiles;
        s.lines = &line_format::quantiles;
        if (set_sum(s, page.rules(), f.type, sum, count)) report_sum();
        show(s);
    }
    void states(list<sample_sink::state> all, list<label> given) {
        if (open && f.type != metric_type::state_set) return fail("states in a family of another type");
        shown_series s;
        if (!begin(s, given, {})) return;
        detail::vector<detail::string> names;
        bool changed = false;
        for (const auto& each : all) names.push_back(sanitize_utf8(each.name, changed));
        points.clear();
        for (std::size_t i = 0; i != all.size(); ++i) points.push_back({names[i], all[i].on ? 1.0 : 0.0});
        s.points = points;
        s.lines = &line_format::points;
        show(s);
        sort(names);
        if (std::adjacent_find(names.begin(), names.end()) != names.end()) fail("the same state twice");
    }
    void run() {
        sample_sink to(*this);
#if PROMETHEUS_ASYNC_EXCEPTIONS
        try {
            hook.run(to);
            if (open) end_family();
        } catch (const std::exception& thrown) {
            fail(thrown.what());
        } catch (...) {
            fail("threw");
        }
#else
        hook.run(to);
        if (open) end_family();
#endif
    }
};
void sample_sink::family(metric_type type, any_name name, std::string_view help, std::string_view unit) {
    to_.family(type, name, help, unit);
}
void sample_sink::sample(double value, list<label> labels, const sample_details& more) { to_.sample(value, labels, more); }
void sample_sink::histogram(list<bucket> buckets, double sum, list<label> labels, const sample_details& more) {
    to_.histogram(buckets, sum, labels, more);
}
void sample_sink::histogram(const native_histogram& value, list<label> labels, const sample_details& more) {
    to_.histogram(value.classic, value.sum, labels, more, &value);
}
void sample_sink::summary(std::uint64_t count, double sum, list<quantile> quantiles, list<label> labels, const sample_details& more) {
    to_.summary(count, sum, quantiles, labels, more);
}
void sample_sink::states(list<state> states, list<label> labels) { to_.states(states, labels); }
void sample_sink::fail(std::string_view why) { to_.fail(why); }

namespace detail {
/// Calls a collector without the lock. Afterwards its families are in the unit, or were left out.
static void call_collector(page_state& page, global_lock& lock, const family_state& f) {
    collector_hook& hook = *f.hook;
    if (collector_call::of(hook, calling)) return;  // it makes this page itself: without end, if it were called again
    // 1. The call is counted: a removal now waits for it, and the hook outlives it.
    ++hook.running;
    ++hook.holders;
    collector_call here{&hook, calling};
    calling = &here;
    // 2. It runs. When it returns, the family may have been removed; the hook still exists.
    const std::size_t had = page.names.size();
    const page_options& asked = page.asked;
    sink_state sink{page, hook, f.source == family_source::callback};
    lock.pause();
    sink.run();
    if (here.unwaited) sink.fail("it removed another collector that waits for it, so it did not wait for that one");
    // 3. If anything is invalid, all of it is left out: octets, what the format holds back, and claimed names.
    if (sink.failed) {
        page.unit.octets.size = 0;
        page.as->reset();
        if (asked.on_event)
            contain("a reason", [&] {
                const error why(errc::refused, "a collector is left out: " + sink.why);
                notify(asked.on_event, asked.context, {sink.collided ? event_kind::names_collided : event_kind::callback_failed, why});
            }, [](const error&) {});
        page.failed = asked.on_collector_error == collector_errors::fail;
    }
    lock.resume();
    if (sink.failed) {
        page.names.cut(had);
        ++state.counted[static_cast<unsigned>(event_kind::callback_failed)];
        if (sink.collided) {
            ++state.counted[static_cast<unsigned>(event_kind::names_collided)];
            state.reported[static_cast<unsigned>(event_kind::names_collided)] += asked.on_event != nullptr;
        }
    }
    // 4. The call has ended: waiting threads go on, and the last holder of the hook deletes it.
    calling = here.outer;
    const bool last = --hook.holders == 0;
    if (--hook.running == 0 && !last) collectors_done();
    if (!last) return;
    lock.pause();
    delete &hook;
    lock.resume();
}
}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [54] negotiation                                  Accept, Accept-Encoding; one sample, one page
//      needs [49] [52]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN
namespace detail {

// One element of Accept or Accept-Encoding, with the parameters that are used here.
struct clause {
    std::string_view type, version, escaping;
    bool family, delimited;  // proto=io.prometheus.client.MetricFamily; encoding=delimited
    std::uint32_t q;         // millionths
};

constexpr std::uint32_t no_q = 0xffffffff;

// Not strtod: it is slow, accepts hexadecimal numbers and infinity, and depends on the locale.
constexpr std::uint32_t parse_q(std::string_view s) noexcept {
    const bool minus = s.substr(0, 1) == "-";
    if (minus) s.remove_prefix(1);
    std::uint32_t whole = 0, part = 0, unit = 1000000;
    bool digits = false, point = false, tiny = false;
    for (char c : s) {
        if (c == '.' && !point) { point = true; continue; }
        if (!legacy_digit(c)) return no_q;
        digits = true;
        const auto n = static_cast<std::uint32_t>(c - '0');
        if (!point) whole = whole != 0 || n != 0;
        else if (unit != 1) part += n * (unit /= 10);
        else tiny = tiny || n != 0;
    }
    if (!digits) return no_q;
    if (minus) return 0;
    return whole != 0 ? 1000000 : part != 0 ? part : tiny;
}

// Removes the first element from the list; a comma or semicolon in quotes is not a separator. Every octet is
// read once.
constexpr bool next_clause(std::string_view& list, clause& c) noexcept {
    c = {{}, {}, {}, false, false, 1000000};
    if (list.empty()) return false;
    for (bool first = true, more = true; more; first = false) {
        std::size_t end = 0, equals = std::string_view::npos;
        for (bool quoted = false; end != list.size(); ++end) {
            const char at = list[end];
            if (quoted && at == '\\' && end + 1 != list.size()) ++end;
            else if (at == '"') quoted = !quoted;
            else if (!quoted && (at == ',' || at == ';')) break;
            else if (!quoted && at == '=' && equals == std::string_view::npos) equals = end;
        }
        const std::string_view part = list.substr(0, end);
        more = end != list.size() && list[end] == ';';
        list.remove_prefix(end == list.size() ? end : end + 1);
        if (first) {
            c.type = trimmed(part);
        } else if (equals != std::string_view::npos) {
            const std::string_view name = trimmed(part.substr(0, equals));
            std::string_view value = trimmed(part.substr(equals + 1));
            if (value.size() > 1 && value.front() == '"' && value.back() == '"')
                value = value.substr(1, value.size() - 2);
            if (same_word(name, "q")) c.q = parse_q(value);
            else if (same_word(name, "version")) c.version = value;
            else if (same_word(name, "escaping")) c.escaping = value;
            else if (same_word(name, "proto")) c.family = value == "io.prometheus.client.MetricFamily";
            else if (same_word(name, "encoding")) c.delimited = value == "delimited";
        }
    }
    if (c.q == no_q) c = {{}, {}, {}, false, false, 0};  // not a number: the clause is ignored
    return true;
}

constexpr unsigned bit_of(format f) noexcept { return 1u << static_cast<unsigned>(f); }

// The formats that match a clause: none for an unknown version.
constexpr unsigned formats_of(const clause& c) noexcept {
    unsigned all = 0;
    for (const format_row& f : format_rows) {
        const bool meant = same_word(c.type, "*/*") ? f.by_wildcard
                           : same_word(c.type, "text/*") ? f.by_wildcard && f.media.starts_with("text/")
                           : same_word(c.type, f.media) && (f.as == format::protobuf ? c.family && c.delimited
                                                            : c.version.empty() ? f.by_wildcard : c.version == f.version);
        if (meant) all |= bit_of(f.as);
    }
    return all;
}
// If several formats match, the first of these is chosen: users of curl should get text. Without a version it is the
// newest OpenMetrics, but the oldest text.
constexpr format preferred[] = {format::text_0_0_4, format::text_1_0_0, format::openmetrics_1_0_0, format::openmetrics_0_0_1,
                                format::openmetrics_2_0_0, format::protobuf};
// Formats that only an explicit clause selects.
constexpr unsigned explicit_formats = bit_of(format::protobuf) | bit_of(format::openmetrics_2_0_0);
static_assert(std::size(preferred) == std::size(format_rows));
constexpr format first_of(unsigned formats) noexcept {
    for (format f : preferred) if (formats & bit_of(f)) return f;
    return format::text_0_0_4;
}
constexpr bool escaping_of(std::string_view name, escaping& found) noexcept {
    for (std::size_t i = 0; i != escapings; ++i)
        if (name == escaping_names[i]) return found = static_cast<escaping>(i), true;
    return false;
}

// gzip is used if it is accepted by name, with a q that is not lower than that of the plain page. `*` alone does not select it.
constexpr void codings_of(std::string_view accept_encoding, negotiation& agreed) noexcept {
    std::uint32_t gzip = 0, identity = 0;
    bool refused = false, named = false, none_other = false;
    for (clause c; next_clause(accept_encoding, c);) {
        if (same_word(c.type, "gzip") || same_word(c.type, "x-gzip")) {
            gzip = c.q > gzip ? c.q : gzip;
            refused = refused || c.q == 0;
        } else if (same_word(c.type, "identity")) {
            identity = c.q;
            named = true;
        } else if (same_word(c.type, "*")) {
            none_other = c.q == 0;
        }
    }
    agreed.gzip = gzip != 0 && gzip >= identity && !refused;
    agreed.plain = named ? identity != 0 : !none_other;
}

}  // namespace detail

negotiation negotiate(std::string_view accept, std::string_view accept_encoding, list<format> offered) noexcept {
    negotiation agreed;
    detail::codings_of(accept_encoding, agreed);

    unsigned ours = offered.empty() ? ~0u : detail::bit_of(format::text_0_0_4);
    for (format f : offered) ours |= detail::bit_of(f);
    if (PROMETHEUS_ASYNC_NO_NATIVE) ours &= ~detail::explicit_formats;
    unsigned refused = 0;
    detail::clause c{};
    for (std::string_view list = accept; detail::next_clause(list, c);)
        if (c.q == 0) refused |= detail::formats_of(c);

    // The highest q wins; of equal ones the first. A format that is requested by its version may be used even if a
    // less exact clause refuses it.
    std::uint32_t best = 0;
    std::size_t chosen = accept.size(), at = 0;
    for (std::string_view list = accept; detail::next_clause(list, c); ++at) {
        unsigned formats = detail::formats_of(c) & ours;
        if ((formats & (formats - 1)) != 0) formats &= ~refused;
        if (formats == 0 || c.q <= best) continue;
        best = c.q;
        chosen = at;
        agreed.as = detail::first_of(formats);
    }

    // The last valid `escaping` up to the chosen clause, reading the list in the order of decreasing q. The Go library does
    // the same, and the lists that Prometheus sends depend on it.
    std::uint32_t nearest = 1000001;
    at = 0;
    for (std::string_view list = accept; detail::next_clause(list, c); ++at) {
        escaping named{};
        const bool before = c.q > best || (c.q == best && at <= chosen);
        if (c.q == 0 || !before || c.q > nearest) continue;
        if (!offered.empty() && (detail::formats_of(c) & ours) == 0) continue;  // it matches only formats that are not offered
        if (!detail::escaping_of(c.escaping, named)) continue;
        nearest = c.q;
        agreed.names = named;
    }
    // Prometheus has no `escaping` in these clauses, and accepts any name in these formats if it does so in another one. A
    // metric must not get another name because native histograms are requested.
    if (detail::bit_of(agreed.as) & detail::explicit_formats)
        for (std::string_view list = accept; detail::next_clause(list, c);)
            if (c.q != 0 && c.escaping == detail::escaping_names[static_cast<std::size_t>(escaping::allow_utf8)]) agreed.names = escaping::allow_utf8;
    return agreed;
}

namespace detail {
/// Finds the sample of a name and labels: a format that receives the page and writes nothing.
class PROMETHEUS_ASYNC_LOCAL sample_finder final : public page_format {
public:
    sample_finder(std::string_view name, list<label> labels) noexcept : page_format(rules_), name_(name), labels_(labels) {}
    bool found = false;
    double value = 0;

    void begin_family(page_text&, const family_head&, std::string_view, std::string_view) override {}
    void series(page_text&, const family_head& f, const shown_series& s) override {
        if (found || !name_.starts_with(f.base_name())) return;
        char bound[number_room];
        const auto bound_text = [&](double of) { return std::string_view(bound, static_cast<std::size_t>(put_bound(bound, of) - bound)); };
        switch (f.row().shape) {
        case value_shape::number:
        case value_shape::facts:
            try_one(f.name, {}, s, value_of(s.number));
            break;
        case value_shape::points:
            for (const shown_point& p : s.points) try_one(f.name, {}, s, p.value, f.own_label(), p.label);
            break;
        case value_shape::histogram:
            for (std::size_t i = 0; i != s.upper.size(); ++i)
                try_one(f.name, "_bucket", s, static_cast<double>(s.cumulative[i]), f.own_label(), bound_text(s.upper[i]));
            break;
        case value_shape::summary:
            for (const auto& q : s.quantiles) try_one(f.name, {}, s, q.value, f.own_label(), bound_text(q.q));
        }
        if (f.row().shape == value_shape::histogram || f.row().shape == value_shape::summary) {
            try_one(f.name, "_sum", s, s.sum);
            try_one(f.name, "_count", s, static_cast<double>(s.count));
        }
        if (s.has_created) try_one(f.base_name(), "_created", s, s.created);
    }

private:
    static constexpr format_rules rules_{created_place::own_line, false, false, false};

    void try_one(std::string_view base, std::string_view suffix, const shown_series& s, double v, std::string_view own_label = {},
                 std::string_view own_value = {}) {
        if (found || name_.size() != base.size() + suffix.size() || !name_.starts_with(base) || !name_.ends_with(suffix)) return;
        std::size_t matched = 0, all = 0;
        const auto take = [&](std::string_view label_name, std::string_view label_value) {
            ++all;
            for (const label& l : labels_) matched += l.name == label_name && l.value == label_value;
        };
        string label_name, label_value;
        for (std::string_view rest = s.labels; next_label(rest, label_name, label_value);) take(label_name, label_value);
        if (!own_label.empty()) take(own_label, own_value);
        if (matched != labels_.size() || all != matched) return;
        found = true;
        value = v;
    }
    std::string_view name_;
    list<label> labels_;
};
}  // namespace detail

result<double> registry::sample_value(std::string_view name, list<label> labels) {
    registry* const mine[] = {this};
    detail::sample_finder finder(name, labels);
    result<void> looked;
    detail::contain("a page", [&] {
        detail::page_state page{};
        page.start({.names = escaping::allow_utf8, .registries = {mine, 1, nullptr}, .created = created_series::all}, &finder);
        detail::page_window nothing{nullptr, nullptr};
        while (!finder.found && page.walk(nothing) == pull::more) {}
    }, [&](const error& why) { looked = why; });
    if (finder.found) return finder.value;
    if (!looked) return looked.why();
    detail::string what = "no sample " + detail::string(name) + '{';
    for (const label& l : labels) what.append(l.name).append("=\"").append(l.value).append("\",");
    return error{errc::refused, what + '}'};
}

stats_page server_stats(const stats_request& request) {
    const negotiation agreed = negotiate(request.accept, request.accept_encoding, request.formats);
    page_options page;
    page.as = agreed.as;
    page.names = agreed.names;
    page.registries = request.registries;
    page.only = request.only;
    page.created = request.created;
    page.native_histograms = request.native_histograms;
    page.start_timestamps = request.start_timestamps;
    stats_page out{200, content_type(agreed.as, agreed.names), {}};
    // An empty page with 200 would end every series in Prometheus.
    if (!detail::render(page, out.body)) return {500, "text/plain; charset=utf-8", "the page could not be made\n"};
#if !PROMETHEUS_ASYNC_NO_GZIP
    if (agreed.gzip && detail::worth_gzip(out.body.size(), agreed.plain) && detail::compress(out.body)) out.content_encoding = "gzip";
#endif
    return out;
}

PROMETHEUS_ASYNC_END

// =============================================================================
// [55] unhandled                                    failures that were not handled, chains that were not fired
//      needs [30] [40]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN
namespace detail {
struct unhandled_hook {
    unhandled_handler handler;
    void* context;
};
constinit unhandled_hook unhandled_sink{nullptr, nullptr};
void unhandled(const fault& why) noexcept {
    if (unhandled_sink.handler) contain("on_unhandled_failure", [&] { unhandled_sink.handler(why, unhandled_sink.context); }, [](const error&) {});
}

void deferred_core::drop(deferred_core* last) noexcept {
    struct dropped {
        deferred_core* next;
        bool busy;
    };
#if PROMETHEUS_ASYNC_NO_THREADS
    static constinit dropped list{nullptr, false};
#else
    static constinit thread_local dropped list{nullptr, false};
#endif
    last->next_ready = detail::exchanged(list.next, last);
    if (std::exchange(list.busy, true)) return;
    while (deferred_core* now = list.next) {
        list.next = now->next_ready;
        now->destroy(now);
    }
    list.busy = false;
}
}  // namespace detail
void on_unhandled_failure(unhandled_handler handler, void* context) noexcept {
    detail::unhandled_sink = {handler, context};
}
PROMETHEUS_ASYNC_END

#if !PROMETHEUS_ASYNC_NO_NETWORK  // rooms [56] to [74]

// =============================================================================
// [56] pollers                                      epoll, kqueue, poll: one shape, three bodies
//      needs [34] [40]
// =============================================================================
//
// A poller is a class with exactly these members. Code above this room does not depend on which one it is.
// Level-triggered; a descriptor that failed or hung up is ready for everything that it is watched for, so that recv or
// send returns the reason. Ready descriptors that did not fit into `out` are returned by the next wait.
//
//     result<void> open()
//     void         close()                              idempotent
//     result<void> set(fd, from, to)                    add, change, or with none remove, before fd is closed; adding a closed
//                                                       one is an error
//     int          wait(span<ready> out, int ms)        how many, or -errno; -1 ms waits for ever
//     int          handle()                             one descriptor to poll for all of them, or -1
//     void         alarm(double span)                   after it handle() is readable, and wait() returns
//                                                       alarm_fd; infinity: never
//     size_t       fill(span<pollfd>)                   the descriptors and events to poll when there is no handle; returns
//                                                       how many there are, even if that is more than fit
//
// To add a poller: such a class, a static_assert of its shape, and its choice, with that of its waker ([40]), at the room's
// end; its name in POLLERS of tests/test_pollers.cpp, which tests all of this.
PROMETHEUS_ASYNC_BEGIN
namespace detail {

struct ready {
    int fd;
    interest got;
};

constexpr int alarm_fd = -1;
constexpr interest no_more = static_cast<interest>(4);  // in ready::got: the peer will send no more; its last octets may not be read yet

constexpr bool wants(interest mask, interest what) noexcept { return (mask & what) != interest::none; }
constexpr interest either(bool readable, bool writable) noexcept {
    return (readable ? interest::read : interest::none) | (writable ? interest::write : interest::none);
}

/// poll(2), on every system: one entry for each descriptor, in no particular order.
class poll_poller {
public:
    result<void> open() noexcept { return {}; }
    void close() noexcept {
        set_.clear();
        at_.clear();
    }
    result<void> set(int fd, interest from, interest to) {
        const auto key = static_cast<std::size_t>(fd);
        if (from == interest::none) {
            if (sys::fcntl(fd, F_GETFD) < 0) return error::from_errno("poll", errno);  // a closed descriptor is an error, as in the other pollers
            if (!memory_for((2 * set_.size() + 1) * sizeof(pollfd) + 2 * (key + 1) * sizeof(std::uint32_t))) return error::from_errno("poll", ENOMEM);
            if (at_.size() <= key) at_.resize(key + 1);
            at_[key] = static_cast<std::uint32_t>(set_.size());
            set_.push_back({fd, 0, 0});
        }
        const std::size_t at = at_[key];
        if (to == interest::none) {
            set_[at] = set_.back();
            at_[static_cast<std::size_t>(set_[at].fd)] = static_cast<std::uint32_t>(at);
            set_.pop_back();
        } else {
            set_[at].events = static_cast<short>((wants(to, interest::read) ? POLLIN : 0) |
                                                 (wants(to, interest::write) ? POLLOUT : 0));
        }
        return {};
    }
    int wait(std::span<ready> out, int ms) noexcept {
        int left = sys::poll(set_.data(), static_cast<nfds_t>(set_.size()), ms);
        if (left < 0) return -errno;
        std::size_t n = 0;
        for (std::size_t seen = 0; seen != set_.size() && left > 0 && n != out.size(); ++seen) {
            if (next_ >= set_.size()) next_ = 0;  // begins at another descriptor each time, so that none is always last
            const pollfd& one = set_[next_++];
            if (one.revents == 0) continue;
            const bool gone = (one.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
            out[n++] = {one.fd, either(gone || (one.revents & POLLIN) != 0, gone || (one.revents & POLLOUT) != 0)};
            --left;
        }
        return static_cast<int>(n);
    }
    int handle() const noexcept { return -1; }
    void alarm(double) noexcept {}
    std::size_t fill(std::span<pollfd> out) const noexcept {
        for (std::size_t i = 0; i != out.size() && i != set_.size(); ++i) out[i] = {set_[i].fd, set_[i].events, 0};
        return set_.size();
    }

private:
    vector<pollfd> set_;
    vector<std::uint32_t> at_;  // by descriptor
    std::size_t next_ = 0;
};

#if PROMETHEUS_ASYNC_DETAIL_LINUX
class epoll_poller {
public:
    result<void> open() noexcept {
        fd_.reset(sys::epoll_create1(EPOLL_CLOEXEC));
        if (!fd_) return error::from_errno("epoll_create1", errno);
        timer_.reset(sys::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
        if (!timer_) return error::from_errno("timerfd_create", errno);
        return set(timer_.get(), interest::none, interest::read);
    }
    void close() noexcept {
        fd_.reset();
        timer_.reset();
    }
    result<void> set(int fd, interest from, interest to) noexcept {
        epoll_event event{};
        event.data.fd = fd;
        event.events = (wants(to, interest::read) ? std::uint32_t{EPOLLIN | EPOLLRDHUP} : 0) |
                       (wants(to, interest::write) ? std::uint32_t{EPOLLOUT} : 0);
        if (to == interest::none) {
            sys::epoll_ctl(fd_.get(), EPOLL_CTL_DEL, fd, &event);  // fails if it was closed before, which is harmless
            return {};
        }
        // Edge-triggered: an expired timer is reported once, and need not be reset.
        if (fd == timer_.get()) event.events |= EPOLLET;
        // The descriptor may have been closed and its number used again: then try the other operation.
        const bool fresh = from == interest::none;
        if (sys::epoll_ctl(fd_.get(), fresh ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) == 0) return {};
        if (errno == (fresh ? EEXIST : ENOENT) &&
            sys::epoll_ctl(fd_.get(), fresh ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) == 0)
            return {};
        return error::from_errno("epoll_ctl", errno);
    }
    int wait(std::span<ready> out, int ms) noexcept {
        epoll_event events[64];
        const int room = static_cast<int>(out.size() < 64 ? out.size() : 64);
        const int got = sys::epoll_wait(fd_.get(), events, room, ms);
        if (got < 0) return -errno;
        std::size_t n = 0;
        for (int i = 0; i != got; ++i) {
            const std::uint32_t bits = events[i].events;
            const bool gone = (bits & (EPOLLERR | EPOLLHUP)) != 0;
            if (events[i].data.fd == timer_.get()) {
                out[n++] = {alarm_fd, interest::none};
            } else {
                out[n++] = {events[i].data.fd, either(gone || (bits & EPOLLIN) != 0, gone || (bits & EPOLLOUT) != 0) |
                                                   ((bits & EPOLLRDHUP) != 0 ? no_more : interest::none)};
            }
        }
        return static_cast<int>(n);
    }
    int handle() const noexcept { return fd_.get(); }
    void alarm(double span) noexcept {
        itimerspec when{};
        const bool soon = within(span, 0, 1e9);
        if (soon) {
            when.it_value.tv_sec = static_cast<time_t>(span);
            when.it_value.tv_nsec = static_cast<long>((span - static_cast<double>(when.it_value.tv_sec)) * 1e9);
        }
        if (soon && when.it_value.tv_sec == 0 && when.it_value.tv_nsec == 0)
            when.it_value.tv_nsec = 1;  // 0 would disarm
        sys::timerfd_settime(timer_.get(), 0, &when, nullptr);
    }
    std::size_t fill(std::span<pollfd> out) const noexcept {
        if (!out.empty()) out[0] = {fd_.get(), POLLIN, 0};
        return 1;
    }

private:
    descriptor fd_, timer_;
};
#endif

#if PROMETHEUS_ASYNC_POLLER_KQUEUE
class kqueue_poller {
public:
    result<void> open() noexcept {
        fd_.reset(sys::kqueue());
        if (fd_ && sys::fcntl(fd_.get(), F_SETFD, FD_CLOEXEC) == 0) return {};
        return error::from_errno("kqueue", errno);
    }
    ~kqueue_poller() { close(); }
    /// A forked child does not inherit a kqueue: its number there is another descriptor.
    void close() noexcept {
        if (sys::getpid() != process_) fd_.release();
        fd_.reset();
    }
    result<void> set(int fd, interest from, interest to) noexcept {
        const auto key = static_cast<std::uintptr_t>(fd);
        for (const auto& [what, filter] : {side{interest::read, EVFILT_READ}, side{interest::write, EVFILT_WRITE}}) {
            if (wants(from, what) && !wants(to, what)) change(key, filter, EV_DELETE);  // fails if it was closed before, which is harmless
            if (wants(from, what) || !wants(to, what) || change(key, filter, EV_ADD)) continue;
            const int code = errno;
            if (what == interest::write && !wants(from, interest::read)) change(key, EVFILT_READ, EV_DELETE);
            return error::from_errno("kevent", code);
        }
        return {};
    }
    int wait(std::span<ready> out, int ms) noexcept {
        struct ::kevent events[64];
        const int room = static_cast<int>(out.size() < 64 ? out.size() : 64);
        const timespec timeout{ms / 1000, ms % 1000 * 1'000'000L};
        const int got = sys::kevent(fd_.get(), nullptr, 0, events, room, ms < 0 ? nullptr : &timeout);
        if (got < 0) return -errno;
        std::size_t n = 0;
        for (int i = 0; i != got; ++i) {
            const auto& e = events[i];
            const bool timed = e.filter == EVFILT_TIMER;
            const bool gone = e.filter == EVFILT_WRITE && (e.flags & EV_EOF) != 0;  // EOF of the read filter does not matter to a writer
            const ready one{timed ? alarm_fd : static_cast<int>(e.ident),
                            either(gone || e.filter == EVFILT_READ, e.filter == EVFILT_WRITE) |
                                ((e.flags & EV_EOF) != 0 ? no_more : interest::none)};
            std::size_t at = 0;
            while (at != n && out[at].fd != one.fd) ++at;
            if (at == n) out[n++] = {one.fd, interest::none};
            if (!timed) out[at].got = out[at].got | one.got;
        }
        while (got == room && n != static_cast<std::size_t>(room)) out[n++] = {alarm_fd, interest::none};  // a full result stays full
        return static_cast<int>(n);
    }
    int handle() const noexcept { return fd_.get(); }
    void alarm(double span) noexcept {
        // In milliseconds, which every kqueue supports; a long timer may expire early.
        if (!within(span, 0, 1e9)) change(0, EVFILT_TIMER, EV_DELETE);
        else change(0, EVFILT_TIMER, EV_ADD | EV_ONESHOT, span > 1e6 ? 1'000'000'000 : static_cast<int>(span * 1000) + 1);
    }
    std::size_t fill(std::span<pollfd> out) const noexcept {
        if (!out.empty()) out[0] = {fd_.get(), POLLIN, 0};
        return 1;
    }

private:
    struct side {
        interest what;
        int filter;
    };
    /// Makes one change in a separate call, so that its error is not mixed with events.
    bool change(std::uintptr_t ident, int filter, int flags, int data = 0) noexcept {
        struct ::kevent one{};
        one.ident = ident;
        one.filter = static_cast<decltype(one.filter)>(filter);
        one.flags = static_cast<decltype(one.flags)>(flags);
        one.data = data;
        return uninterrupted([&] { return sys::kevent(fd_.get(), &one, 1, nullptr, 0, nullptr); }) == 0;
    }

    descriptor fd_;
    pid_t process_ = sys::getpid();
};
#endif

template <class P>
concept poller_shape = requires(P p, const P c, std::span<ready> out, std::span<pollfd> set) {
    { p.open() } -> std::same_as<result<void>>;
    { p.close() } -> std::same_as<void>;
    { p.set(0, interest::none, interest::read) } -> std::same_as<result<void>>;
    { p.wait(out, 0) } -> std::same_as<int>;
    { c.handle() } -> std::same_as<int>;
    { p.alarm(1.0) } -> std::same_as<void>;
    { c.fill(set) } -> std::same_as<std::size_t>;
};
static_assert(poller_shape<poll_poller>);
#if PROMETHEUS_ASYNC_POLLER_KQUEUE
static_assert(poller_shape<kqueue_poller>);
#endif
#if PROMETHEUS_ASYNC_DETAIL_LINUX
static_assert(poller_shape<epoll_poller>);
#endif

#if PROMETHEUS_ASYNC_POLLER_POLL
using poller = poll_poller;
using waker = pipe_waker;
#elif PROMETHEUS_ASYNC_POLLER_KQUEUE
using poller = kqueue_poller;
using waker = pipe_waker;
#elif PROMETHEUS_ASYNC_DETAIL_LINUX
using poller = epoll_poller;
using waker = event_waker;
#else
using poller = poll_poller;
using waker = pipe_waker;
#endif

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [58] loop                                         timers, posting, readiness, closing work
//      needs [42] [56]
// =============================================================================
//
// A turn: wait, then handle descriptors, timers and posted callbacks, but only those that were due when the
// wait ended, so that a turn always ends. Descriptors come first: after a suspension of the machine, a
// request that has already arrived is served and not timed out.
#include <limits>
PROMETHEUS_ASYNC_BEGIN
namespace detail {

constexpr double never = (std::numeric_limits<double>::max)();

/// A coroutine that the loop owns. It destroys itself at its end; if the loop ends first, the loop destroys it.
struct root_promise;
struct root_frame {
    using promise_type = root_promise;
    root_promise& promise;
};
struct root_promise : allocated_frame {
    enum class role : std::uint8_t { plain, closing, main };

    root_promise() noexcept = default;
    root_promise(const root_promise&) = delete;
    ~root_promise() { if (loop) remove_from_loop(); }
    void remove_from_loop() noexcept;

    root_frame get_return_object() noexcept { return {*this}; }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept { std::abort(); }  // the body catches all

    loop_state* loop = nullptr;
    root_promise* next = nullptr;
    root_promise** prev = nullptr;
    role is = role::plain;
};

struct PROMETHEUS_ASYNC_LOCAL loop_state : allocated {
    struct watched {  // by descriptor
        watch* first = nullptr;
        interest set = interest::none;
    };

    clock time;
    event_handler on_event;
    void* context;
    double budget;

    waker wake;
    poller polled;  // declared after the waker, so that it forgets the waker before that is closed
    pid_t process = sys::getpid();

    double now = 0;         // of this turn
    std::uint64_t turns = 0;
    bool in_turn = false;
    bool running = false;   // inside run(): the alarm is not needed
    bool ending = false;
    bool was_stopped = false;
    bool guest = false;     // native_handle() was called
    bool behind = false;    // this turn left work for which no event will come
    int unwatched = -1;     // a descriptor that was opened and has no watch yet
    bool last_octet = false;  // the descriptor that is being handled has no_more
    bool stop = false;      // any thread, signal handlers
    double alarm_at = never;

    timer* timers = nullptr;
    std::uint64_t armed = 0;

    vector<watched> watches;
    watch* next_watch = nullptr;  // of the descriptor that is being handled
    ready batch[64];
    std::size_t batch_at = 0, batch_end = 0;
    unsigned full = 0;  // how many batches in a row were full: timers wait for the rest, with a limit
    unsigned stoppers = 0;

    attachment* attachments = nullptr;
    root_promise* roots = nullptr;
    root_promise* main = nullptr;
    std::size_t closing = 0;

    mutex lock;  // protects the next two
    vector<callback<void()>> posted;
    bool rung = false;
    bool torn = false;  // in a forked child: another thread was in post() at the fork
    vector<callback<void()>> due;  // the callbacks that were posted before this turn

    explicit loop_state(const loop_options& o)
        : time(o.time.monotonic ? o.time : system_clock()), on_event(o.on_event), context(o.context),
          budget(positive(o.closing_budget.count())) {}

    static loop_state& of(event_loop& loop) noexcept { return *loop.state_; }

    // After a fork the poller is shared with the parent: what a child removes from it
    // would be removed for the parent.
    bool ours() const noexcept { return sys::getpid() == process; }
    void require_ours() const {
        if (!ours()) raise({errc::invalid_option, "event_loop::run() in a forked child: the loop is the parent's"});
    }
    /// Ends the copy of a forked child that does not have the loop's thread. That thread may have been anywhere in the code, so
    /// nothing is destroyed.
    void close_copies() noexcept {
        for (std::size_t fd = 0; fd != watches.size(); ++fd) if (watches[fd].first) sys::close(static_cast<int>(fd));
        if (unwatched >= 0) sys::close(unwatched);
        polled.close();
        wake = {};
    }
    /// Makes a descriptor that has no watch yet. A fork waits meanwhile, so that close_copies() in a child finds it.
    template <class Make>
    int opened(Make make) {
        const global_lock all;
        hook_process();
        return unwatched = make();
    }

    double read_time() const noexcept { return reading(time, &clock::monotonic); }
    double current() noexcept { return in_turn ? now : read_time(); }

    void report(const error& why) noexcept {
        count_event(event_kind::callback_failed);
        notify(on_event, context, {event_kind::callback_failed, why});
    }
    template <class F>
    void call(std::string_view what, F&& f) noexcept {
        contain(what, f, [this](const error& why) { report(why); });
    }

    // ---- timers: a pairing heap ----

    static bool before(const timer& a, const timer& b) noexcept {
        return a.when_ < b.when_ || (a.when_ == b.when_ && a.order_ < b.order_);
    }
    /// Joins two heaps without siblings.
    static timer* meld(timer* a, timer* b) noexcept {
        if (!a || !b) return a ? a : b;
        if (before(*b, *a)) b = exchanged(a, b);
        if ((b->next_ = a->child_)) b->next_->prev_ = &b->next_;
        a->child_ = b;
        b->prev_ = &a->child_;
        return a;
    }
    /// Joins a list of siblings: first pairs from the left, then all from the right.
    static timer* gather(timer* first) noexcept {
        timer* pairs = nullptr;
        while (first) {
            timer* a = first;
            timer* b = a->next_;
            first = b ? b->next_ : nullptr;
            a->next_ = nullptr;
            if (b) b->next_ = nullptr;
            a = meld(a, b);
            a->next_ = pairs;
            pairs = a;
        }
        timer* whole = nullptr;
        while (pairs) {
            timer* rest = detail::exchanged(pairs->next_, nullptr);
            whole = meld(whole, pairs);
            pairs = rest;
        }
        return whole;
    }
    void crown(timer* root) noexcept {
        timers = root;
        if (root) root->prev_ = &timers, root->next_ = nullptr;
    }
    void arm(timer& t, double when) noexcept {
        disarm(t);
        t.when_ = in_turn && when < now ? now : when;  // so that a timer that is always overdue does not delay others
        t.order_ = ++armed;
        crown(meld(timers, &t));
        if (timers == &t) rearm();
    }
    void disarm(timer& t) noexcept {
        if (!t.prev_) return;
        if ((*t.prev_ = t.next_)) t.next_->prev_ = t.prev_;
        timer* orphans = gather(detail::exchanged(t.child_, nullptr));
        const bool root = t.prev_ == &timers;
        t.next_ = nullptr;
        t.prev_ = nullptr;
        crown(root ? orphans : meld(timers, orphans));
    }
    void fire_timers(std::uint64_t until) noexcept {
        while (timers && timers->when_ <= now && timers->order_ <= until) {
            timer& t = *timers;
            disarm(t);
            call("a timer", [&] { t.fire_(t.self_); });
        }
    }
    double deadline() const noexcept { return timers ? timers->when_ : never; }

    /// Sets the alarm, so that a host that waits for native_handle() wakes in time. For an edge-triggered host an alarm also
    /// makes an edge when a turn has left work.
    void rearm() noexcept {
        const double when = behind ? now : deadline();
        if (!guest || in_turn || running || !(when < alarm_at) || !ours()) return;
        alarm_at = when;
        const double span = alarm_at - read_time();
        polled.alarm(span > 0 ? span : 0);
    }

    // ---- descriptors ----

    interest wanted(int fd) const noexcept {
        interest all = interest::none;
        for (watch* w = watches[static_cast<std::size_t>(fd)].first; w; w = w->next_) all = all | w->want_;
        return all;
    }
    result<void> refresh(int fd) {
        watched& at = watches[static_cast<std::size_t>(fd)];
        const interest all = wanted(fd);
        if (all == at.set) return {};
        // If a ready descriptor is watched for more, an edge-triggered host gets no edge; if it is removed and added again, it does.
        if (guest && !running && !behind && at.set != interest::none && (all & at.set) != all && ours()) {
            static_cast<void>(polled.set(fd, at.set, interest::none));
            at.set = interest::none;
        }
        result<void> done;
        if (ours()) done = polled.set(fd, at.set, all);
        if (done) at.set = all;
        return done;
    }
    result<void> make_room(std::size_t fd) {
        if (fd < watches.size()) return {};
        // A number that is no open descriptor must not take memory for all numbers below it.
        if (sys::fcntl(static_cast<int>(fd), F_GETFD) < 0) return error::from_errno("event_loop", errno);
        if (!memory_for((fd + 1 + fd / 2) * sizeof(watched))) return error::from_errno("event_loop", ENOMEM);
        const global_lock all;  // a fork takes it: close_copies() finds the list complete
        hook_process();
        watches.resize(fd + 1 + fd / 2);
        for (watched& at : watches) if (at.first) at.first->prev_ = &at.first;
        return {};
    }
    result<void> add(watch& w, int fd, interest want) {
        if (fd < 0) return error::from_errno("event_loop", EBADF);
        if (w.fd_ == fd && w.want_ == want) return {};
        if (w.fd_ != fd) {
            remove(w);
            if (const result<void> made = make_room(static_cast<std::size_t>(fd)); !made) return made;
            watch*& first = watches[static_cast<std::size_t>(fd)].first;
            if ((w.next_ = first)) first->prev_ = &w.next_;
            w.prev_ = &first;
            first = &w;
            w.fd_ = fd;
            if (unwatched == fd) unwatched = -1;
        }
        const interest had = exchanged(w.want_, want);
        result<void> done = refresh(fd);
        if (!done) {
            if (had == interest::none) remove(w);
            else w.want_ = had;
        } else {
            scrub(fd);
        }
        return done;
    }
    void remove(watch& w) noexcept {
        if (!w.prev_) return;
        const int fd = std::exchange(w.fd_, -1);
        if (next_watch == &w) next_watch = w.next_;
        if ((*w.prev_ = w.next_)) w.next_->prev_ = w.prev_;
        w.next_ = nullptr;
        w.prev_ = nullptr;
        w.want_ = interest::none;
        static_cast<void>(refresh(fd));
        scrub(fd);
    }
    /// Events that were fetched and are no longer wanted must not reach a watch that is set later in this turn: by then
    /// the number may belong to another descriptor.
    void scrub(int fd) noexcept {
        for (std::size_t i = batch_at; i < batch_end; ++i)
            if (batch[i].fd == fd) batch[i].got = batch[i].got & watches[static_cast<std::size_t>(fd)].set;  // without no_more
    }
    void tell(ready r) noexcept {
        if (static_cast<std::size_t>(r.fd) >= watches.size()) return;
        for (watch* w = watches[static_cast<std::size_t>(r.fd)].first; w; w = next_watch) {
            next_watch = w->next_;
            const interest got = r.got & w->want_;
            last_octet = (r.got & no_more) != interest::none;
            if (got != interest::none) call("a watch", [&] { w->ready_(w->self_, got); });
        }
        next_watch = nullptr;
    }

    // ---- turns ----

    bool stop_asked() const noexcept { return __atomic_load_n(&stop, __ATOMIC_ACQUIRE); }

    bool anything_posted() noexcept {
        const locked hold(lock);
        return !posted.empty();
    }
    int milliseconds(double timeout) noexcept {
        if (stop_asked() || anything_posted()) return 0;
        if (timers && timeout > 0) {
            const double left = deadline() - read_time();
            if (left < timeout) timeout = left;
        }
        if (positive(timeout) == 0) return 0;
        if (timeout >= 60) return 60000;
        const int whole = static_cast<int>(timeout * 1000);
        return whole < timeout * 1000 ? whole + 1 : whole;  // rounded up: waking too early would be a busy loop
    }
    void turn(double timeout) {
        const int got = polled.wait(batch, milliseconds(timeout));
        if (got < 0 && got != -EINTR) failed_wait(-got);
        batch_at = 0;
        batch_end = got > 0 ? static_cast<std::size_t>(got) : 0;
        const turning scope(*this);
        for (ready& r : std::span(batch, batch_end)) {
            if (r.fd == wake.fd()) wake.silence();
            else if (r.fd == alarm_fd) alarm_at = never;
            else continue;
            r.got = interest::none;
        }
        {
            const locked hold(lock);
            due.swap(posted);
            rung = false;
        }
        const std::uint64_t until = armed;
        while (batch_at != batch_end) {
            const ready next = batch[batch_at++];
            if (next.got != interest::none) tell(next);
        }
        full = batch_end == std::size(batch) ? full + 1 : 0;
        behind = behind || full != 0;
        if (full % 8 == 0) fire_timers(until);
        for (callback<void()>& work : due) {
            call("a posted callback", work);
            work.reset();
        }
        due.clear();
    }
    void failed_wait(int code) {
        if (code != ENOMEM && code != EAGAIN) raise(error::from_errno("event_loop: waiting", code));
        timespec pause{0, 10'000'000};  // the system has no memory: nothing is ready, and the pause avoids a busy loop
        ::nanosleep(&pause, nullptr);
    }
    struct turning {
        loop_state& loop;
        explicit turning(loop_state& l) : loop(l) {
            loop.now = loop.read_time();
            loop.in_turn = true;
            loop.behind = false;
            ++loop.turns;
        }
        turning(const turning&) = delete;
        ~turning() { loop.in_turn = false; }
    };

    // ---- coroutines that the loop owns ----

    void start(task<void> work, root_promise::role role) {
        if (ending && role != root_promise::role::closing) return;
        root_promise& p = own(*this, static_cast<task<void>&&>(work)).promise;
        p.loop = this;
        p.is = role;
        if ((p.next = roots)) p.next->prev = &p.next;
        p.prev = &roots;
        roots = &p;
        if (role == root_promise::role::main) main = &p;
        if (role == root_promise::role::closing) ++closing;
        std::coroutine_handle<root_promise>::from_promise(p).resume();
    }
    static root_frame own(loop_state& loop, task<void> work) {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        try {
            co_await static_cast<task<void>&&>(work);
        } catch (...) {
            loop.report(caught("a task"));
        }
#else
        static_cast<void>(loop);
        co_await static_cast<task<void>&&>(work);
#endif
    }
    void drop(root_promise* p) noexcept {
        if (p) std::coroutine_handle<root_promise>::from_promise(*p).destroy();
    }
    template <class Which>
    void drop_all(Which which) noexcept {
        for (root_promise* p = roots; p;) {
            if (!which(*p)) {
                p = p->next;
            } else {
                drop(p);  // its destruction may have ended or started others
                p = roots;
            }
        }
    }
    void finish_closing() {
        const double until = read_time() + budget;
        while (closing != 0) {
            const double left = until - read_time();
            if (!(left > 0)) break;
            __atomic_store_n(&stop, false, __ATOMIC_RELEASE);  // a further stop() during the end has no effect
            turn(left);
        }
        drop_all([](root_promise& p) { return p.is == root_promise::role::closing; });
    }
    struct run_scope {
        loop_state& loop;
        explicit run_scope(loop_state& l) : loop(l) {
            loop.running = true;
            loop.was_stopped = false;
            if (std::exchange(loop.alarm_at, never) != never) loop.polled.alarm(never);
        }
        run_scope(const run_scope&) = delete;
        ~run_scope() {
            loop.drop(loop.main);
            __atomic_store_n(&loop.stop, false, __ATOMIC_RELEASE);
            loop.running = false;
            loop.rearm();
        }
    };
    /// Runs until stop(), or until `main` has ended if there is one.
    void run(task<void> work) {
        if (running || in_turn) raise({errc::invalid_option, "event_loop::run() inside the same loop"});
        require_ours();
        const run_scope scope(*this);
        const bool has_main = work.valid();
        if (has_main && !stop_asked()) {
            const turning here(*this);
            start(static_cast<task<void>&&>(work), root_promise::role::main);
        } else if (has_main) {
            work = {};
            was_stopped = true;
        }
        while ((main || !has_main) && !stop_asked()) {
            turn(never);
            require_ours();  // one of its callbacks may have forked
        }
        if (main || !has_main) was_stopped = true;
        drop(main);
        finish_closing();
    }

    void end() noexcept {
        ending = running = true;
        drop_all([](root_promise& p) { return p.is != root_promise::role::closing; });
        tell_attached();
        if (ours()) call("the loop's end", [&] { finish_closing(); });
        drop_all([](root_promise&) { return true; });
        {
            vector<callback<void()>> dropped;
            if (take_lock()) {
                const locked hold(lock, locked::taken{});
                dropped.swap(posted);
            } else {
                torn = true;
            }
        }
        tell_attached();
        while (timers) {
            timer& t = *timers;
            disarm(t);
            t.loop_ = nullptr;
        }
        for (watched& at : watches)
            while (watch* w = at.first) {
                remove(*w);
                w->loop_ = nullptr;
            }
    }

    void join(attachment& a) noexcept {
        if ((a.next_ = attachments)) a.next_->prev_ = &a.next_;
        a.prev_ = &attachments;
        attachments = &a;
    }
    void detach(attachment& a) noexcept {
        if ((*a.prev_ = a.next_)) a.next_->prev_ = a.prev_;
        a.loop_ = nullptr;
    }
    void tell_attached() noexcept {
        while (attachment* a = attachments) {
            detach(*a);
            a->gone_(a->self_);
        }
    }

    /// False in a child that was forked while another thread had the lock: there it is never released.
    bool take_lock() noexcept {
        if (lock.try_lock()) return true;
        if (!ours()) return false;
        lock.lock();
        return true;
    }
    /// The waker is rung once for all callbacks until the loop takes them. It is rung under the lock, because the
    /// loop may end as soon as it has taken the callback.
    void post(callback<void()> work) {
        if (!take_lock()) return;
        const locked hold(lock, locked::taken{});
        posted.push_back(static_cast<callback<void()>&&>(work));
        if (!std::exchange(rung, true) && ours()) wake.ring();
    }
    /// The loop must not be destroyed between the flag and the waker: its destructor waits for `stoppers`.
    void ask_to_stop() noexcept {
        __atomic_add_fetch(&stoppers, 1, __ATOMIC_ACQ_REL);
        __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
        if (ours()) wake.ring();
        __atomic_sub_fetch(&stoppers, 1, __ATOMIC_RELEASE);  // synchronises with ~event_loop
    }
};

void root_promise::remove_from_loop() noexcept {
    if ((*prev = next)) next->prev = prev;
    if (loop->main == this) loop->main = nullptr;
    if (is == role::closing) --loop->closing;
}

timer::timer(event_loop& loop, void (*fire)(void*), void* self) noexcept
    : loop_(&loop_state::of(loop)), fire_(fire), self_(self) {}
void timer::at(double when) noexcept {
    if (loop_) loop_->arm(*this, is_nan(when) ? 0 : when);
}
void timer::after(seconds span) noexcept {
    if (loop_) loop_->arm(*this, loop_->current() + positive(span.count()));
}
void timer::cancel() noexcept {
    if (prev_) loop_->disarm(*this);
}

watch::watch(event_loop& loop, void (*ready)(void*, interest), void* self) noexcept
    : loop_(&loop_state::of(loop)), ready_(ready), self_(self) {}
result<void> watch::set(int fd, interest want) noexcept {
    if (!loop_) return error(errc::canceled, "the event loop has ended");
    result<void> done = error::from_errno("event_loop", ENOMEM);
    contain("a watch", [&] { done = loop_->add(*this, fd, want); }, [this](const error&) { forget(); });
    return done;
}
void watch::forget() noexcept {
    if (prev_) loop_->remove(*this);
}

bool io_wait::await_ready() noexcept {
    if (!scope_ || !scope_->canceled) return false;
    how_ = end::canceled;
    return true;
}
bool io_wait::await_suspend(std::coroutine_handle<> waiting) noexcept {
    if (want_ != interest::none)
        if (const result<void> watched = watch_.set(fd_, want_); !watched) {
            sys_ = watched.why().sys();
            how_ = sys_ ? end::failed : end::loop_ended;
            return false;
        }
    waiting_ = waiting;
    if (scope_) scope_->now = this;
    if (!(until_ >= never)) timer_.at(until_);
    return true;
}
result<void> io_wait::await_resume() const noexcept {
    switch (how_) {
    case end::good: break;
    case end::timeout: return error(errc::timeout, "timeout");
    case end::canceled: return error(errc::canceled, "canceled");
    case end::loop_ended: return error(errc::canceled, "the event loop has ended");
    case end::failed: return error::from_errno("event_loop", sys_);
    }
    return {};
}
void io_wait::wake(end how) {
    watch_.forget();
    timer_.cancel();
    if (scope_) scope_->now = nullptr;
    how_ = how;
    waiting_.resume();  // *this may be gone
}
void io_wait::ready(void* self, interest) { static_cast<io_wait*>(self)->wake(end::good); }
void io_wait::late(void* self) { static_cast<io_wait*>(self)->wake(end::timeout); }
#if !PROMETHEUS_ASYNC_NO_THREADS
/// A question of a coroutine to another thread. The coroutine and its loop may be destroyed before the answer comes, so both
/// sides share the question.
template <class Question>
struct asked_elsewhere : counted<Question> {
    mutex lock;
    event_loop* loop;  // null when the coroutine is destroyed. post() is called under the lock, so that the loop exists
    io_wait* asks;

    struct forgotten {
        Question& q;
        ~forgotten() {
            const locked hold(q.lock);
            q.loop = nullptr;
            q.asks = nullptr;
        }
    };
    /// The lock is held.
    void wake_asker() {
        if (loop) loop->post([q = shared(static_cast<Question*>(this))] { if (q->asks) q->asks->wake(io_wait::end::good); });
    }
};
#endif
/// A wait whose end needs no reason: a result, also one that is not used, is a part of the frame.
struct pause_wait : io_wait {
    using io_wait::io_wait;
    ~pause_wait() = default;
    void await_resume() const noexcept {}
    result<void> how() const noexcept { return io_wait::await_resume(); }  // after it, of a variable
};
/// Waits for a task, and gives its value where it is, in the task's frame: a copy would be a part of this frame too. The task is a
/// variable, in a scope that ends soon.
template <class T>
struct value_in : task_end<task<T>> {
    explicit value_in(task<T>& of) : task_end<task<T>>(of) {}
    T& await_resume() const {
        auto& ended = task_end<task<T>>::await_resume();
#if PROMETHEUS_ASYNC_EXCEPTIONS
        if (!ended.end) std::rethrow_exception(ended.take_why());
#endif
        return *ended.end;
    }
};
void wait_scope::cancel() {
    canceled = true;
    if (now) now->wake(io_wait::end::canceled);
}

attachment::attachment(event_loop& loop, void (*gone)(void*) noexcept, void* self) noexcept
    : loop_(&loop_state::of(loop)), gone_(gone), self_(self) {
    loop_->join(*this);
}
attachment::~attachment() {
    if (loop_) loop_->detach(*this);
}

}  // namespace detail

event_loop::event_loop(const loop_options& options) {
    owned<detail::loop_state> made(new detail::loop_state(options));
    if (!made->wake.open()) detail::raise(error::from_errno("event_loop", errno));
    made->polled.open().value();
    made->polled.set(made->wake.fd(), detail::interest::none, detail::interest::read).value();
    state_ = made.release();
}
event_loop::~event_loop() {
    state_->end();
    while (__atomic_load_n(&state_->stoppers, __ATOMIC_ACQUIRE) != 0 && state_->ours()) ::sched_yield();
    if (!state_->torn) delete state_;
}

void event_loop::run() { state_->run({}); }
void event_loop::run_main(task<void> main) { state_->run(static_cast<task<void>&&>(main)); }
void event_loop::stop() noexcept { state_->ask_to_stop(); }
bool event_loop::stopped() const noexcept { return state_->was_stopped || state_->stop_asked(); }

void event_loop::poll(seconds timeout) {
    if (state_->in_turn || !state_->ours()) return;
    state_->turn(detail::positive(timeout.count()));
    if (state_->alarm_at <= state_->now) state_->alarm_at = detail::never;  // the clock of the options may be ahead of the alarm's
    state_->rearm();
}
int event_loop::native_handle() const noexcept {
    state_->guest = true;
    state_->rearm();
    return state_->polled.handle();
}
double event_loop::next_deadline() const noexcept {
    if (state_->anything_posted()) return state_->current();
    return state_->timers ? state_->deadline() : __builtin_bit_cast(double, detail::infinite);
}
std::size_t event_loop::fill(std::span<::pollfd> set) const noexcept {
    state_->guest = true;
    state_->rearm();
    return state_->polled.fill(set);
}

void event_loop::post(callback<void()> work) {
    if (!work) detail::raise(error(errc::invalid_option, "event_loop::post: the callback is empty"));
    state_->post(static_cast<callback<void()>&&>(work));
}
void event_loop::spawn(task<void> work) {
    state_->start(static_cast<task<void>&&>(work), detail::root_promise::role::plain);
}
void event_loop::spawn_closing(task<void> work) {
    state_->start(static_cast<task<void>&&>(work), detail::root_promise::role::closing);
}
double event_loop::now() const noexcept { return state_->current(); }
PROMETHEUS_ASYNC_END

// =============================================================================
// [60] http syntax                                  words, lists, hosts, URLs, paths, dates
//      needs [45]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN
namespace detail {

constexpr bool all_digits(std::string_view s) noexcept {
    for (char c : s) if (!legacy_digit(c)) return false;
    return true;
}
constexpr bool ascii_letter_or_digit(char c) noexcept { return legacy_digit(c) || (legacy_letter(c) && c != '_'); }
/// Removes the next element from a comma-separated list (without quoted strings). Empty elements are skipped
/// (RFC 9110 s.5.6.1.2). False when there are no more.
constexpr bool next_element(std::string_view& list, std::string_view& element) noexcept {
    for (element = {}; element.empty() && !list.empty();) {
        const std::size_t comma = list.find(',');
        element = trimmed(list.substr(0, comma));
        list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
    }
    return !element.empty();
}
constexpr int hex_digit(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct octet_classes {
    enum : unsigned char { token = 1, target = 2, value = 4, name = 8 };  // name: of a host, RFC 3986
    unsigned char of[256] = {};
    consteval octet_classes() {
        for (int c = 0; c != 256; ++c) {
            const char ch = static_cast<char>(c);
            const auto among = [ch](std::string_view set) { return set.find(ch) != std::string_view::npos; };
            const bool alnum = c < 128 && ascii_letter_or_digit(ch);
            of[c] = static_cast<unsigned char>(
                (alnum || among("!#$%&'*+-.^_`|~") ? token : 0) | (c > 0x20 && c < 0x7f && c != '#' && c != '%' ? target : 0) |
                (c == '\t' || (c >= 0x20 && c != 0x7f) ? value : 0) | (alnum || among("-._~!$&'()*+,;=") ? name : 0));
        }
    }
    constexpr bool is(char c, unsigned char what) const noexcept { return of[static_cast<unsigned char>(c)] & what; }
};
inline constexpr octet_classes classes{};
constexpr bool token_char(char c) noexcept { return classes.is(c, octet_classes::token); }

constexpr bool visible(std::string_view s) noexcept {
    for (char c : s) if (c <= ' ' || c > '~') return false;
    return true;
}
constexpr bool unreserved(char c) noexcept { return ascii_letter_or_digit(c) || c == '-' || c == '.' || c == '_' || c == '~'; }
/// Escapes all but the unreserved characters of RFC 3986, so that the octets are one path segment.
/// The caller must refuse "." and "..".
inline string percent_encoded(std::string_view segment) {
    string out;
    for (char c : segment) {
        if (unreserved(c)) {
            out += c;
        } else {
            out += '%';
            out += "0123456789ABCDEF"[static_cast<unsigned char>(c) >> 4];
            out += "0123456789ABCDEF"[static_cast<unsigned char>(c) & 15];
        }
    }
    return out;
}
/// RFC 4648; `url`: with the alphabet for URLs, and without padding.
inline string base64(std::string_view octets, bool url = false) {
    const char* const letters = url ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
                                    : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    string out;
    out.reserve(octets.size() / 3 * 4 + 4);
    for (std::size_t i = 0; i < octets.size(); i += 3) {
        std::uint32_t bits = 0;
        for (std::size_t k = i; k != i + 3; ++k) bits = bits << 8 | (k < octets.size() ? static_cast<unsigned char>(octets[k]) : 0u);
        for (std::size_t k = 0; k != 4; ++k) {
            if (i + k <= octets.size()) out += letters[bits >> (18 - 6 * k) & 63];
            else if (!url) out += '=';
        }
    }
    return out;
}
/// A host as in a URL: with brackets if it is an IPv6 address.
inline string bracketed(std::string_view host) {
    return host.find(':') == std::string_view::npos ? string(host) : text_of({"[", host, "]"});
}
constexpr std::string_view unbracketed(std::string_view host) noexcept {
    return host.size() > 2 && host.front() == '[' && host.back() == ']' ? host.substr(1, host.size() - 2) : host;
}
constexpr bool host_text(std::string_view host) noexcept {
    for (char c : host)
        if (!ascii_letter_or_digit(c) && std::string_view("-._~:%").find(c) == std::string_view::npos) return false;
    return !host.empty();
}
inline bool valid_ipv6(std::string_view s) noexcept {
    char text[INET6_ADDRSTRLEN];
    in6_addr address;
    if (s.size() >= sizeof text || s.find('\0') != s.npos) return false;
    text[s.copy(text, s.size())] = 0;
    return ::inet_pton(AF_INET6, text, &address) == 1;
}
/// uri-host [":" port] of RFC 3986, as in Host. The grammar allows an empty one.
inline bool valid_authority(std::string_view s) noexcept {
    if (s.substr(0, 1) == "[") {
        const std::size_t end = s.find(']');
        if (end == std::string_view::npos) return false;
        std::string_view inside = s.substr(1, end - 1);
        if (!inside.empty() && ascii_lower(inside[0]) == 'v') {  // IPvFuture
            std::size_t n = 1;
            while (n != inside.size() && hex_digit(inside[n]) >= 0) ++n;
            if (n == 1 || n + 1 >= inside.size() || inside[n] != '.') return false;
            for (char c : inside.substr(n + 1)) if (c != ':' && !classes.is(c, octet_classes::name)) return false;
        } else if (!valid_ipv6(inside)) {
            return false;
        }
        s.remove_prefix(end + 1);
    } else {
        while (!s.empty() && s[0] != ':') {
            const bool escape = s[0] == '%' && s.size() > 2 && hex_digit(s[1]) >= 0 && hex_digit(s[2]) >= 0;
            if (!escape && !classes.is(s[0], octet_classes::name)) return false;
            s.remove_prefix(escape ? 3 : 1);
        }
    }
    if (s.empty()) return true;
    if (s[0] != ':') return false;
    unsigned port = 0;
    for (char c : s.substr(1)) {
        if (!legacy_digit(c)) return false;
        port = port * 10 + static_cast<unsigned>(c - '0');
        if (port > 65535) return false;
    }
    return true;
}
/// The host of "host:port", an IPv6 address without its brackets, a name without the dot that makes it absolute.
constexpr std::string_view host_of(std::string_view authority) noexcept {
    if (authority.substr(0, 1) == "[") return authority.substr(1, authority.find(']') - 1);
    authority = authority.substr(0, authority.find(':'));
    return authority.substr(0, authority.size() - (authority.size() > 1 && authority.back() == '.'));
}
/// fe80::/10, with or without brackets and zone: such an address is not valid on another host.
constexpr bool link_local(std::string_view host) noexcept {
    if (host.substr(0, 1) == "[") host.remove_prefix(1);
    return host.size() > 4 && same_word(host.substr(0, 2), "fe") && hex_digit(host[2]) >> 2 == 2 && hex_digit(host[3]) >= 0 && host[4] == ':';
}
inline error no_link_local() {
    return {errc::invalid_option, "a link-local address means nothing on another host: set advertise"};
}

/// Decodes percent escapes (and, in a query, `+`) in place. The parser has already refused invalid escapes.
inline std::size_t percent_decode(char* text, std::size_t size, bool plus_is_space) noexcept {
    std::size_t out = 0;
    for (std::size_t i = 0; i != size; ++i) {
        char c = text[i];
        if (c == '%' && size - i > 2) {
            c = static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        text[out++] = c;
    }
    return out;
}
/// Compares the path of a request with a route. An escaped slash is not equal to a slash: it does not separate segments.
constexpr bool same_path(std::string_view sent, std::string_view ours) noexcept {
    std::size_t n = 0;
    for (std::size_t i = 0; i != sent.size(); ++i, ++n) {
        char c = sent[i];
        if (c == '%' && sent.size() - i > 2) {
            c = static_cast<char>(hex_digit(sent[i + 1]) * 16 + hex_digit(sent[i + 2]));
            if (c == '/') return false;
            i += 2;
        }
        if (n == ours.size() || c != ours[n]) return false;
    }
    return n == ours.size();
}
/// Calls field(key, value) for each key=value of a target's query, decoded in place, until it returns false.
template <class Field>
bool query_fields(string& target, Field field) {
    for (std::size_t at = target.find('?'), end; at < target.size(); at = end) {
        if ((end = target.find('&', ++at)) == string::npos) end = target.size();
        const std::size_t key_size = std::string_view(target).substr(at, end - at).find('=');  // only up to `end`, so that each octet is read once
        if (key_size == std::string_view::npos) continue;
        const std::size_t equals = at + key_size;
        char* const key = target.data() + at;
        char* const value = target.data() + equals + 1;
        const std::string_view named(key, percent_decode(key, equals - at, true));
        if (!field(named, std::string_view(value, percent_decode(value, end - equals - 1, true)))) return false;
    }
    return true;
}
/// The values of name[] in a target's query. False when one is too long or too many.
inline bool query_names(string& target, std::size_t limit, vector<std::string_view>& names) {
    constexpr std::size_t longest = 512;
    return query_fields(target, [&](std::string_view key, std::string_view value) {
        if (key != "name[]" || value.empty()) return true;  // an empty field of a form selects nothing
        if (value.size() > longest || names.size() == limit) return false;
        names.push_back(value);
        return true;
    });
}

/// IMF-fixdate, always 29 octets: "Wed, 25 Nov 2026 08:59:17 GMT". Locale-free, UTC, years 1970-9999.
inline void http_date(double wall, char* into) noexcept {
    const auto now = static_cast<std::uint64_t>(within(wall, 0, 253402300799.0) ? wall : 0);
    const auto days = static_cast<std::uint32_t>(now / 86400), second = static_cast<std::uint32_t>(now % 86400);
    // Days to a date by eras of 400 years that begin in March, so that a leap day ends a year.
    const auto shifted = days + 719468, era = shifted / 146097, of_era = shifted % 146097;
    const auto year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    const auto of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const auto from_march = (5 * of_year + 2) / 153, day = of_year - (153 * from_march + 2) / 5 + 1;
    const auto month = from_march < 10 ? from_march + 2 : from_march - 10;  // 0: January
    const auto year = year_of_era + era * 400 + (month < 2);
    const auto digits = [into](std::size_t at, std::uint32_t v, int n) {
        for (int i = n; i-- != 0; v /= 10) into[at + static_cast<std::size_t>(i)] = static_cast<char>('0' + v % 10);
    };
    std::memcpy(into, "Thu, 00 Jan 1970 00:00:00 GMT", 29);
    std::memcpy(into, &"ThuFriSatSunMonTueWed"[days % 7 * 3], 3);
    std::memcpy(into + 8, &"JanFebMarAprMayJunJulAugSepOctNovDec"[month * 3], 3);
    digits(5, day, 2), digits(12, year, 4);
    digits(17, second / 3600, 2), digits(20, second / 60 % 60, 2), digits(23, second % 60, 2);
}

// ---- fields ----

/// Reads the fields of a head, or of trailers, up to the empty line that ends them. Each octet is read once.
class field_reader {
public:
    enum class got : std::uint8_t {
        more,     // more octets are needed
        field,    // which() and value() have a known field
        end,      // the section has ended
        wrong,    // a syntax error: see fault()
        too_much  // too many octets or fields: see fault()
    };

    /// With `folds`, a line that begins with a blank continues the previous one (RFC 9112 s.5.2: a client must accept
    /// it). A field is then complete only when the next line has begun.
    constexpr field_reader(std::span<const std::string_view> known, std::size_t octets, std::size_t fields, bool folds) noexcept
        : known_(known), octets_(octets), most_(fields), folds_(folds) {}

    /// Consumes octets of `in`.
    got next(std::string_view& in);
    std::size_t which() const noexcept { return which_; }
    std::string_view value() const noexcept { return trimmed(value_); }
    bool folded() const noexcept { return folded_; }
    const char* fault() const noexcept { return fault_; }
    /// Prepares for another section. Frees memory that only an unusually long value needed.
    void reset() noexcept {
        if (value_.capacity() > 480) string().swap(value_);
        at_ = at::line;
        folded_ = whole_ = false;
        used_ = fields_ = 0;
    }

private:
    enum class at : std::uint8_t { line, name, blank, value, line_end, end };
    got fail(got how, const char* why) noexcept { return fault_ = why, how; }

    std::span<const std::string_view> known_;
    std::size_t octets_, most_;     // limits of the section
    std::size_t used_ = 0, fields_ = 0;
    std::size_t which_ = 0;         // known_.size(): not a known field
    std::size_t name_size_ = 0;
    const char* fault_ = "";
    bool folds_;
    bool folded_ = false;
    bool whole_ = false;            // a known field that the next line may continue
    at at_ = at::line;
    char name_[20] = {};            // longer than each known name
    string value_;
};

field_reader::got field_reader::next(std::string_view& in) {
    while (!in.empty()) {
        if (at_ == at::value) {  // nearly all octets are here
            const std::size_t room = octets_ - used_;
            std::size_t n = 0;
            while (n != in.size() && n != room && classes.is(in[n], octet_classes::value)) ++n;
            if (which_ != known_.size()) value_.append(in.data(), n);
            used_ += n;
            in.remove_prefix(n);
            if (in.empty()) break;
        }
        const char c = in[0];
        const bool blank = c == ' ' || c == '\t';
        if (at_ == at::line && !blank && std::exchange(whole_, false)) return got::field;
        in.remove_prefix(1);
        if (++used_ > octets_) return fail(got::too_much, "head too large");
        switch (at_) {
        case at::line:
            if (c == '\r') {
                at_ = at::end;
                break;
            }
            if (blank && folds_ && fields_ != 0) {
                folded_ = true;
                if (which_ != known_.size()) value_ += ' ';
                at_ = at::blank;
                break;
            }
            if (!token_char(c)) return fail(got::wrong, "malformed field");
            if (fields_++ == most_) return fail(got::too_much, "too many fields");
            name_size_ = 0;
            at_ = at::name;
            [[__fallthrough__]];
        case at::name:
            if (c == ':') {
                const std::string_view name(name_, name_size_);
                for (which_ = 0; which_ != known_.size() && known_[which_] != name;) ++which_;
                value_.clear();
                at_ = at::blank;
                break;
            }
            if (!token_char(c)) return fail(got::wrong, "malformed field name");
            if (name_size_ != sizeof name_) name_[name_size_++] = ascii_lower(c);
            break;
        case at::blank:
            if (blank) break;
            at_ = at::value;
            [[__fallthrough__]];
        case at::value:
            if (c == '\r') at_ = at::line_end;
            else if (!classes.is(c, octet_classes::value)) return fail(got::wrong, "control character in a head");
            else if (which_ != known_.size()) value_ += c;
            break;
        case at::line_end:
        case at::end:
            if (c != '\n') return fail(got::wrong, "CR without LF");
            if (at_ == at::end) return got::end;
            at_ = at::line;
            whole_ = which_ != known_.size();
            if (!folds_ && std::exchange(whole_, false)) return got::field;
            break;
        }
    }
    return got::more;
}

// ---- the URL of a server ----

struct http_endpoint {
    bool tls = false;
    std::uint16_t port = 0;
    string host;  // no brackets; empty for a unix socket
    string path;  // of the unix socket
};

/// "host", "host:port", "http://[::1]:8500", "https://host/", "unix:///path". With `tls`, "http://" means TLS too.
result<http_endpoint> parse_endpoint(std::string_view text, bool tls, std::uint16_t port, std::uint16_t tls_port) {
    const error bad(errc::invalid_option, "not host:port, http://host:port, https://host:port or unix:///path");
    http_endpoint to;
    const auto starts = [&](std::string_view with) {
        if (!same_word(text.substr(0, with.size()), with)) return false;
        text.remove_prefix(with.size());
        return true;
    };
    if (starts("unix://")) {
        if (text.empty() || text[0] != '/' || text.find('\0') != std::string_view::npos) return bad;
        to.path = text;
        to.tls = tls;
        return to;
    }
    to.tls = starts("https://") || (starts("http://"), tls);
    to.port = to.tls ? tls_port : port;
    if (!text.empty() && text.back() == '/') text.remove_suffix(1);
    const bool quoted = !text.empty() && text[0] == '[';
    const std::size_t end = quoted ? text.find(']') : text.find(':');
    if (quoted && end == std::string_view::npos) return bad;
    to.host = text.substr(quoted, end == std::string_view::npos ? end : end - quoted);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + quoted);
    if (!host_text(to.host) || quoted != (to.host.find(':') != string::npos)) return bad;
    if (text.empty()) return to;
    std::uint32_t number = 0;
    for (char c : text.substr(1)) {
        if (!legacy_digit(c) || number > 6553) return bad;
        number = number * 10 + static_cast<std::uint32_t>(c - '0');
    }
    if (text[0] != ':' || number == 0 || number > 65535) return bad;
    to.port = static_cast<std::uint16_t>(number);
    return to;
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [61] http heads                                   fields, requests and responses; no sockets
//      needs [36] [60]
// =============================================================================
//
// Parsers that read pieces of any size, and stop at the first octet that violates the grammar of RFC 9112.
// Both use field_reader ([60]), and give it the names of the fields that they need: it stores only the values of these.
PROMETHEUS_ASYNC_BEGIN
namespace detail {

// ---- the head of a request ----

enum class http_method : std::uint8_t { get, head, options, other, unknown };  // other: a known method that is never allowed

struct request_head {
    http_method method = http_method::unknown;
    bool http_1_0 = false;
    bool close = false;           // the client asked for it
    bool keep_alive = false;      // an HTTP/1.0 client asked for it: possible after an answer with a length
    bool content = false;         // announced; it is never read
    bool expects_other = false;   // an Expect that is not 100-continue
    string verb;             // as sent
    string target;           // origin form, still escaped, or "*"
    string host;             // of the target when that had one, else of Host
    string accept;           // several lines are one list
    string accept_encoding;
    string authorization;

    std::string_view path() const noexcept { return std::string_view(target).substr(0, target.find('?')); }
};

/// Reads one request head after another, cut anywhere.
///
/// errors   the status to answer with. Then the connection must close: where the next request begins is unknown
class request_parser {
public:
    explicit request_parser(const server_limits& limits) noexcept
        : line_limit_(limits.request_line), fields_(known_fields, limits.header_bytes, limits.header_fields, false) {}

    request_head head;

    /// Takes octets up to the end of the head or the first error; returns how many.
    std::size_t feed(std::string_view in);
    /// Prepares for the next head. Frees memory that only an unusually long head needed.
    void reset() noexcept;

    /// How much memory n more octets may take: a text has up to twice its size, and a value is copied.
    std::size_t memory_of(std::size_t n) const noexcept {
        return 3 * ((at_ < at::fields ? head.target.size() : fields_.value().size()) + n) + 2 * (head.accept.size() + head.accept_encoding.size());
    }

    bool done() const noexcept { return at_ == at::done; }
    int failed() const noexcept { return status_; }
    bool begun() const noexcept { return at_ != at::start || empty_lines_ != 0; }  // an octet came
    bool looks_like_tls() const noexcept { return tls_; }

private:
    enum class at : std::uint8_t { start, start_lf, verb, target, version, line_lf, fields, done, failed };
    enum known : std::size_t { host, connection, content_length, transfer_encoding, expect, accept, accept_encoding, authorization };
    static constexpr std::string_view known_fields[] = {"host",   "connection", "content-length",  "transfer-encoding",
                                                        "expect", "accept",     "accept-encoding", "authorization"};

    // Each returns 0, or the status of the error.
    int line_octet(char c);
    int end_of_target();
    int next_field(std::string_view& in);
    int field();
    int end_of_head() noexcept;
    bool seen(known what) const noexcept { return seen_ >> what & 1; }

    std::size_t line_limit_;
    at at_ = at::start;
    bool tls_ = false;
    bool absolute_ = false;
    std::uint8_t empty_lines_ = 0;
    std::uint8_t escape_ = 0;     // how many digits of a percent escape are missing
    std::uint8_t version_at_ = 0;
    char version_ = '1';          // the major one
    unsigned seen_ = 0;           // bits of `known`
    int status_ = 0;
    std::size_t line_ = 0;        // octets of the request line
    field_reader fields_;
};

void request_parser::reset() noexcept {
    for (string* s : {&head.verb, &head.target, &head.host, &head.accept, &head.accept_encoding, &head.authorization}) {
        if (s->capacity() > 480) string().swap(*s);  // what Prometheus sends fits, so a kept connection allocates once
        s->clear();
    }
    head.method = http_method::unknown;
    head.http_1_0 = head.close = head.keep_alive = head.content = head.expects_other = false;
    at_ = at::start;
    tls_ = absolute_ = false;
    empty_lines_ = escape_ = version_at_ = 0;
    seen_ = 0;
    status_ = 0;
    line_ = 0;
    fields_.reset();
}

std::size_t request_parser::feed(std::string_view in) {
    const std::size_t size = in.size();
    while (!in.empty() && at_ < at::done) {
        if (at_ == at::fields) {
            status_ = next_field(in);
        } else {
            if (at_ == at::target && escape_ == 0 && !head.target.empty()) {
                std::size_t n = 0;
                while (n != in.size() && line_ + n != line_limit_ && classes.is(in[n], octet_classes::target)) ++n;
                head.target.append(in.data(), n);
                line_ += n;
                in.remove_prefix(n);
                if (in.empty()) break;
            }
            status_ = line_octet(in[0]);
            in.remove_prefix(1);
        }
        if (status_ != 0) at_ = at::failed;
    }
    return size - in.size();
}

int request_parser::line_octet(char c) {
    if (at_ >= at::verb && at_ <= at::version && c != '\r' && ++line_ > line_limit_) return 414;
    switch (at_) {
    case at::start:
        if (c == '\r') {
            at_ = at::start_lf;
            return ++empty_lines_ > 4 ? 400 : 0;
        }
        tls_ = c == 0x16;
        ++line_;
        at_ = at::verb;
        [[__fallthrough__]];
    case at::verb:
        if (c == ' ' && !head.verb.empty()) return at_ = at::target, 0;
        if (!token_char(c)) return 400;
        head.verb.push_back(c);
        return head.verb.size() > 32 ? 501 : 0;
    case at::target:
        if (escape_ != 0) {
            if (hex_digit(c) < 0 || (--escape_ == 0 && c == '0' && head.target.back() == '0')) return 400;
        } else if (head.target.empty()) {
            absolute_ = ascii_lower(c) == 'h';
            if (!absolute_ && c != '/' && c != '*') return 400;
        } else if (c == ' ') {
            at_ = at::version;
            return end_of_target();
        } else if (c == '%') {
            escape_ = 2;
        } else if (!classes.is(c, octet_classes::target)) {
            return 400;
        }
        head.target.push_back(c);
        return 0;
    case at::version: {
        constexpr std::string_view pattern = "HTTP/d.d\r";
        const char want = pattern[version_at_];
        if (want == 'd' ? !legacy_digit(c) : c != want) return 400;
        if (version_at_ == 5) version_ = c;
        if (version_at_ == 7) head.http_1_0 = c == '0';
        if (++version_at_ != pattern.size()) return 0;
        at_ = at::line_lf;
        if (version_ != '1') return 505;
        return head.target[0] == '*' && head.method != http_method::options ? 400 : 0;
    }
    default:  // start_lf, line_lf
        at_ = at_ == at::line_lf ? at::fields : at::start;
        return c == '\n' ? 0 : 400;
    }
}

int request_parser::end_of_target() {
    const std::string_view verb = head.verb;
    head.method = verb == "GET"       ? http_method::get
                  : verb == "HEAD"    ? http_method::head
                  : verb == "OPTIONS" ? http_method::options
                                      : http_method::unknown;
    for (std::string_view refused : {"POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"})
        if (verb == refused) head.method = http_method::other;
    if (!absolute_) return head.target[0] == '*' && head.target.size() != 1 ? 400 : 0;
    std::string_view rest = head.target;
    const std::size_t colon = rest.find("://");
    if (colon == std::string_view::npos) return 400;
    const std::string_view scheme = rest.substr(0, colon);
    if (!same_word(scheme, "http") && !same_word(scheme, "https")) return 400;
    rest.remove_prefix(colon + 3);
    const std::size_t end = rest.find_first_of("/?");
    const std::string_view authority = rest.substr(0, end);
    if (host_of(authority).empty() || !valid_authority(authority)) return 400;
    head.host = authority;
    rest.remove_prefix(authority.size());
    string origin = rest.substr(0, 1) == "/" ? "" : "/";
    origin += rest;
    head.target.swap(origin);
    return 0;
}

int request_parser::next_field(std::string_view& in) {
    switch (fields_.next(in)) {
    case field_reader::got::more: return 0;
    case field_reader::got::field: return field();
    case field_reader::got::end: at_ = at::done; return end_of_head();
    case field_reader::got::wrong: return 400;
    default: return 431;
    }
}

int request_parser::field() {
    std::string_view value = fields_.value(), word;
    const auto which = static_cast<known>(fields_.which());
    const bool again = seen(which);
    seen_ |= 1u << which;
    switch (which) {
    case host:
        if (again || !valid_authority(value)) return 400;
        if (!absolute_) head.host = value;
        return 0;
    case connection:
        while (next_element(value, word)) {
            if (same_word(word, "close")) head.close = true;
            if (same_word(word, "keep-alive")) head.keep_alive = true;
        }
        return 0;
    case content_length:
        if (again || value.empty() || value.size() > 18) return 400;
        for (char c : value) {
            if (!legacy_digit(c)) return 400;
            if (c != '0') head.content = true;
        }
        return 0;
    case transfer_encoding: {
        if (again) return 400;
        head.content = true;
        int before = 0;  // unknown codings before a known last one: 501, else 400
        for (; next_element(value, word); ++before)
            if (same_word(word, "chunked")) return next_element(value, word) ? 400 : before ? 501 : 0;
        return 400;
    }
    case expect:
        head.expects_other |= !next_element(value, word);
        for (; !word.empty(); next_element(value, word)) head.expects_other |= !same_word(word, "100-continue");
        return 0;
    case accept:
    case accept_encoding: {
        string& list = which == accept ? head.accept : head.accept_encoding;
        if (again) list += ',';
        list += value;
        return 0;
    }
    case authorization:
        if (again) return 400;
        head.authorization = value;
        return 0;
    }
    return 0;
}

int request_parser::end_of_head() noexcept {
    if (!head.http_1_0 && !seen(host)) return 400;
    if (seen(transfer_encoding) && (head.http_1_0 || seen(content_length))) return 400;
    if (head.http_1_0) head.expects_other = false;
    return 0;
}

// ---- the answer ----

/// Reads one response, in pieces of any size. A body that would be larger than the limit fails before memory is
/// allocated for it.
class response_parser {
public:
    enum class status : std::uint8_t { more, done, failed };

    /// A longer body is an error; with `cuts`, the answer ends there.
    explicit response_parser(std::size_t body_limit = 1 << 20, bool cuts = false) noexcept : cuts_(cuts), limit_(body_limit) {}

    status feed(std::string_view octets);
    /// The peer closed its side.
    status finish() noexcept;

    const char* fault() const noexcept { return fault_; }
    int code() const noexcept { return code_; }
    bool reusable() const noexcept { return reuse_; }  // the end of the answer is certain, and the server did not send close
    double retry_after() const noexcept { return retry_after_; }
    std::size_t surplus() const noexcept { return surplus_; }  // octets of the last feed() after the end of the answer
    string body;

private:
    enum class at : std::uint8_t { status_line, fields, sized, chunk_size, chunk, chunk_end, trailers, to_the_end };

    enum known : std::size_t { content_length, transfer_encoding, connection, retry };
    static constexpr std::string_view known_fields[] = {"content-length", "transfer-encoding", "connection", "retry-after"};

    void line_octet(char c);
    void status_line();
    void chunk_size();
    void body_octets(std::string_view& in);
    void next_field(std::string_view& in);
    void field();
    void head_end();
    void take(std::size_t n) noexcept {
        const std::size_t room = limit_ - body.size();
        if (n > room && !cuts_) return fail("body too large");
        cut_ = n > room;
        left_ = cut_ ? room : n;
    }
    void fail(const char* why) noexcept { status_ = status::failed, fault_ = why; }
    void done() noexcept { status_ = status::done; }

    static constexpr std::size_t none = static_cast<std::size_t>(-1);

    status status_ = status::more;
    at at_ = at::status_line;
    bool cr_ = false, reuse_ = true, chunked_ = false, old_ = false, cut_ = false, cuts_;
    std::size_t extensions_ = 0;  // octets, of all chunks
    int code_ = 0, interim_ = 0;
    std::size_t limit_, left_ = 0, length_ = none, surplus_ = 0;
    double retry_after_ = 0;
    const char* fault_ = "";
    string line_;  // the status line, or that of a chunk's size
    field_reader fields_{known_fields, 16384, 100, true};
};

response_parser::status response_parser::feed(std::string_view octets) {
    while (!octets.empty() && status_ == status::more) {
        switch (at_) {
        case at::fields:
        case at::trailers: next_field(octets); break;
        case at::sized:
        case at::chunk:
        case at::to_the_end: body_octets(octets); break;
        default: line_octet(octets[0]); octets.remove_prefix(1);
        }
    }
    surplus_ = octets.size();
    if (!octets.empty()) reuse_ = false;
    return status_;
}

response_parser::status response_parser::finish() noexcept {
    if (status_ == status::more) {
        reuse_ = false;
        if (at_ == at::to_the_end) done();
        else fail(at_ == at::status_line && line_.empty() ? "closed without an answer" : "closed before the answer's end");
    }
    return status_;
}

void response_parser::body_octets(std::string_view& in) {
    if (at_ == at::to_the_end) take(in.size());
    if (status_ != status::more) return;
    const std::string_view piece = in.substr(0, left_);
    body += piece;
    in.remove_prefix(piece.size());
    if ((left_ -= piece.size()) != 0) return;
    if (cut_) reuse_ = false;
    if (at_ == at::sized || cut_) done();
    if (at_ == at::chunk) at_ = at::chunk_end;
}

void response_parser::line_octet(char c) {
    constexpr std::string_view begin = "HTTP/1.";
    if (std::exchange(cr_, c == '\r')) {
        if (c != '\n') return fail("CR without LF");
        if (at_ == at::status_line) status_line();
        else if (at_ == at::chunk_size) chunk_size();
        else at_ = at::chunk_size;
        line_.clear();
    } else if (cr_) {
    } else if (!classes.is(c, octet_classes::value)) {
        fail("control character in a head");
    } else if (at_ == at::chunk_end) {
        fail("chunk longer than its size");
    } else if ((line_ += c).size() > 1022) {
        fail("head too large");
    } else if (at_ == at::status_line && line_.size() <= begin.size() && c != begin[line_.size() - 1]) {
        fail("not an HTTP/1 answer");
    }
}

void response_parser::status_line() {  // HTTP/1.1 200 OK
    const std::string_view s = line_;
    if (s.size() < 12 || !legacy_digit(s[7]) || s[8] != ' ' || !legacy_digit(s[9]) || !legacy_digit(s[10]) ||
        !legacy_digit(s[11]) || (s.size() > 12 && s[12] != ' '))
        return fail("malformed status line");
    old_ = s[7] == '0';
    code_ = (s[9] - '0') * 100 + (s[10] - '0') * 10 + (s[11] - '0');
    if (code_ < 100 || code_ > 599) return fail("status out of range");
    if (old_ || s.size() == 12) reuse_ = false;  // the space after the code is missing: some servers do that
    at_ = at::fields;
}

void response_parser::next_field(std::string_view& in) {
    const auto what = fields_.next(in);
    if (fields_.folded()) reuse_ = false;
    switch (what) {
    case field_reader::got::more: break;
    case field_reader::got::field: if (at_ == at::fields) field(); break;
    case field_reader::got::end: fields_.reset(); at_ == at::trailers ? done() : head_end(); break;
    default: fail(fields_.fault());
    }
}

void response_parser::field() {
    std::string_view value = fields_.value(), word;
    switch (static_cast<known>(fields_.which())) {
    case content_length:
        for (std::size_t comma = 0; comma != none;) {  // equal values are one (RFC 9112 s.6.3); different ones are an attack
            word = trimmed(value.substr(0, comma = value.find(',')));
            value.remove_prefix(comma == none ? value.size() : comma + 1);
            std::size_t n = 0;
            for (char c : word) {
                if (!legacy_digit(c)) return fail("malformed Content-Length");
                n = n > none / 16 ? none - 1 : n * 10 + static_cast<std::size_t>(c - '0');  // larger than any limit
            }
            if (word.empty() || word.size() > 18) return fail("malformed Content-Length");
            if (length_ != none) reuse_ = false;
            if (length_ != none && length_ != n) return fail("conflicting Content-Length");
            length_ = n;
        }
        return;
    case transfer_encoding:
        if (chunked_ || !next_element(value, word) || !same_word(word, "chunked") || next_element(value, word))
            return fail("Transfer-Encoding is not chunked");
        chunked_ = true;
        return;
    case connection:
        while (next_element(value, word)) if (same_word(word, "close")) reuse_ = false;
        return;
    case retry:
        retry_after_ = 0;
        for (char c : value) {
            if (!legacy_digit(c)) return void(retry_after_ = 0);  // a date: dates are not read
            if (retry_after_ < 3600) retry_after_ = retry_after_ * 10 + (c - '0');
        }
        if (retry_after_ > 3600) retry_after_ = 3600;
    }
}

void response_parser::head_end() {
    if (code_ < 200) {
        if (code_ == 101) return fail("switched protocols unasked");
        if (++interim_ > 8) return fail("too many interim answers");
        at_ = at::status_line;
        length_ = none;
        chunked_ = false;
    } else if (code_ == 204 || code_ == 304) {  // never has a body, whatever it says
        if (chunked_ || (code_ == 204 && length_ != none && length_ != 0)) reuse_ = false;
        done();
    } else if (chunked_) {
        if (length_ != none || old_) return fail("Transfer-Encoding where it must not be");
        at_ = at::chunk_size;
    } else if (length_ != none) {
        at_ = at::sized;
        take(length_);
        if (length_ == 0) done();
    } else {
        at_ = at::to_the_end;
        reuse_ = false;
    }
}

void response_parser::chunk_size() {
    std::size_t n = 0, digits = 0;
    for (; digits != line_.size(); ++digits) {
        const int value = hex_digit(line_[digits]);
        if (value < 0) break;
        if (n > limit_) return fail("body too large");
        n = n * 16 + static_cast<std::size_t>(value);
    }
    const std::string_view rest = trimmed(std::string_view(line_).substr(digits));
    if (digits == 0 || digits > 16 || (rest.empty() ? digits != line_.size() : rest[0] != ';'))
        return fail("malformed chunk size");
    if ((extensions_ += rest.size()) > 16384) return fail("chunk extensions too large");
    at_ = n == 0 ? at::trailers : at::chunk;
    take(n);
}

// ---- the head of an answer that is written ----

/// Copies text into a head, and cuts what does not fit. Everything fits, because a route's content type has at most 128 octets.
struct head_writer {
    char* at;
    char* end;
    void put(std::string_view s) noexcept {
        const auto room = static_cast<std::size_t>(end - at), n = s.size() < room ? s.size() : room;
        std::memcpy(at, s.data(), n);
        at += n;
    }
    void number(std::size_t v, unsigned base = 10) noexcept {
        char digits[20];
        std::size_t n = sizeof digits;
        do digits[--n] = "0123456789abcdef"[v % base];
        while ((v /= base) != 0);
        put({digits + n, sizeof digits - n});
    }
};

constexpr std::string_view reason_of(int status) noexcept {
    switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 414: return "URI Too Long";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    }
    return "";
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [62] sessions                                     plain and TLS byte streams over a descriptor
//      needs [36] [40]
// =============================================================================
//
// A stream never blocks: each call does what the socket and the TLS session allow now, and returns what to wait for. Its
// owner waits: a connection of the server, or a coroutine of the client.
// Memory: ciphertext passes through `scratch`, which all streams of a loop share. A stream itself keeps only ciphertext
// that the socket did not take (at most about two TLS records) or that the session did not take.
PROMETHEUS_ASYNC_BEGIN
namespace detail {

enum class stream_status : std::uint8_t {
    ok,
    want_read,   // call again when the descriptor is readable
    want_write,  // call again when it is writable
    ended,       // the peer closed its side, over TLS by a close_notify
    cut,         // over TLS: the connection ended without one, so the last octets may be incomplete
    failed       // see why()
};
struct PROMETHEUS_ASYNC_LOCAL stream_io {
    stream_status status;
    std::size_t bytes = 0;  // sent or received, also with want_write
};

/// The octets of one connection over a non-blocking socket, which it does not own: plain, or through a
/// TLS session after start_tls (a client) or expect_tls (a server).
///
/// shape    scratch has about 16 KiB (at least 512 bytes); it is not used between two calls
/// threads  the loop's
/// errors   after failed every call fails; the alert has then been sent, as far as the socket took it
class PROMETHEUS_ASYNC_LOCAL stream {
public:
    stream() noexcept = default;
    explicit stream(int fd) noexcept : fd_(fd) {}

    /// Makes the session now; the certificate must be for `verify_name`. False: no session could be made.
    bool start_tls(const tls_config& tls, std::string_view verify_name) { return tls.open.code()->start(*this, tls, verify_name); }
    /// The session is made when the first octet arrives, so that a silent connection does not have one.
    void expect_tls(const tls_config& tls) noexcept { config_ = tls, tls_ = tls.open.code(); }

    /// Unless it returns ok: wait for what it returns, and for writability while pending(). The arithmetic after a
    /// received flight takes long, so one call does it at most once.
    stream_status handshake(std::span<char> scratch);
    const tls_code* over() const noexcept { return tls_; }  // null: it is plain
    /// Whether a handshake has begun and is not over.
    bool handshaking() const noexcept { return session_ && !secured_; }
    bool secured() const noexcept { return secured_; }
    /// The first octet was not TLS, so the peer probably sent an HTTP request. Its octets are dropped. The stream is
    /// plain from then on, so that one line can tell the peer why.
    bool plain_peer() const noexcept { return plain_peer_; }

    /// Call it until it returns want_read: a session may hold octets when the socket has none left. See buffered().
    stream_io receive(std::span<char> into, std::span<char> scratch);
    bool buffered() const noexcept { return buffered_; }
    /// Octets that it accepts will be sent: it stores what the socket does not take, and accepts no more until that is sent.
    stream_io send(std::string_view octets, std::span<char> scratch);
    /// Sends what is kept. pending() is false when it returns ok.
    stream_status flush(std::span<char> scratch) { return tls_ ? tls_->flush(*this, scratch) : stream_status::ok; }
    bool pending() const noexcept { return !kept_.empty(); }
    bool lost() const noexcept { return sys_ != 0; }
    /// How many octets the socket has taken so far.
    std::uint64_t sent() const noexcept { return sent_; }
    /// Queues close_notify, once, and flushes; after a TLS failure, what is left of the alert. Nothing is
    /// sent after it.
    stream_status shutdown(std::span<char> scratch) {
        return sys_ ? stream_status::failed : tls_ ? tls_->shutdown(*this, scratch) : stream_status::ok;
    }

    /// The peer, after the handshake; null on a plain stream. Made at the first call.
    const tls_peer* peer() { return secured_ ? tls_->peer(*this) : nullptr; }
    error why() const;

private:
    friend struct over_tls;
    stream_io receive_raw(std::span<char> into) noexcept;
    stream_io send_raw(std::string_view octets) noexcept;

    std::uint64_t sent_ = 0;
    int fd_ = -1;
    int sys_ = 0;
    bool secured_ = false, buffered_ = false, plain_peer_ = false, failed_ = false;
    const tls_code* tls_ = nullptr;  // null: plain
    tls_config config_{};
    owned<tls_session> session_;
    owned<kept_peer> peer_;
    string kept_;    // ciphertext that the socket did not take
    string unfed_;   // ciphertext that the session did not take
};

constexpr int idle_rounds = 64;  // after so many calls of a session without progress the stream fails, so that the loop does not hang

stream_io stream::receive_raw(std::span<char> into) noexcept {
    for (;;) {
        const ssize_t n = sys::recv(fd_, into.data(), into.size(), 0);
        if (n > 0) return {stream_status::ok, static_cast<std::size_t>(n)};
        if (n == 0) return {stream_status::ended};
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return {stream_status::want_read};
        sys_ = errno;
        failed_ = true;
        return {stream_status::failed};
    }
}

stream_io stream::send_raw(std::string_view octets) noexcept {
    std::size_t sent = 0;
    while (sent != octets.size()) {
        const ssize_t n = sys::send(fd_, octets.data() + sent, octets.size() - sent, send_quietly);
        if (n >= 0) {
            sent += static_cast<std::size_t>(n);
            sent_ += static_cast<std::size_t>(n);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return {stream_status::want_write, sent};
        } else if (errno != EINTR) {
            sys_ = errno;
            failed_ = true;
            return {stream_status::failed, sent};
        }
    }
    return {stream_status::ok, sent};
}

stream_status stream::handshake(std::span<char> scratch) {
    return failed_ || plain_peer_ ? stream_status::failed : tls_->handshake(*this, scratch);
}
stream_io stream::receive(std::span<char> into, std::span<char> scratch) {
    if (failed_) return {stream_status::failed};
    return tls_ ? tls_->receive(*this, into, scratch) : receive_raw(into);
}
stream_io stream::send(std::string_view octets, std::span<char> scratch) {
    if (failed_) return {stream_status::failed};
    return tls_ ? tls_->send(*this, octets, scratch) : send_raw(octets);
}
error stream::why() const {
    if (sys_) return error::from_errno("connection", sys_);
    if (plain_peer_) return {errc::tls, "the peer speaks no TLS"};
    return tls_ ? tls_->why(*this) : error(errc::tls, "TLS failed");
}

/// What streams do over TLS.
struct over_tls {
    static bool start(stream& s, const tls_config& tls, std::string_view verify_name) {
        s.session_ = tls.open(tls.context, verify_name);
        s.tls_ = s.session_ ? tls.open.code() : nullptr;
        return s.tls_ != nullptr;
    }
    static stream_status handshake(stream& s, std::span<char> scratch);
    static stream_io receive(stream& s, std::span<char> into, std::span<char> scratch);
    static stream_io send(stream& s, std::string_view octets, std::span<char> scratch);
    static stream_status flush(stream& s, std::span<char> scratch);
    static stream_status shutdown(stream& s, std::span<char> scratch) {
        if (s.secured_ && !s.failed_) (void)s.session_->shutdown();
        return flush(s, scratch);
    }
    static const tls_peer* peer(stream& s) {
        if (!s.peer_) s.peer_ = owned(s.session_->keep_peer());
        return &s.peer_->is;
    }
    static error why(const stream& s) {
        char text[120];
        const std::size_t n = s.session_ ? s.session_->copy_error(text) : 0;
        return n == 0 ? error(errc::tls, "TLS failed") : error_of(errc::tls, {"TLS: ", {text, n}});
    }

private:
    static stream_status pull(stream& s, std::span<char> scratch);  // from the socket into the session
    static stream_status fail(stream& s, std::span<char> scratch);
};

stream_status over_tls::flush(stream& s, std::span<char> scratch) {
    if (!s.kept_.empty()) {
        const stream_io sent = s.send_raw(s.kept_);
        s.kept_.erase(0, sent.bytes);
        if (sent.status != stream_status::ok) return sent.status;
        string().swap(s.kept_);
    }
    while (s.session_) {
        const std::size_t n = s.session_->drain(scratch).produced;
        if (n == 0) break;
        const stream_io sent = s.send_raw({scratch.data(), n});
        if (sent.status == stream_status::want_write) s.kept_.assign(scratch.data() + sent.bytes, n - sent.bytes);
        if (sent.status != stream_status::ok) return sent.status;
    }
    return stream_status::ok;
}

stream_status over_tls::fail(stream& s, std::span<char> scratch) {
    if (!s.failed_) {
        s.failed_ = true;
        (void)flush(s, scratch);  // the alert
    }
    return stream_status::failed;
}

stream_status over_tls::pull(stream& s, std::span<char> scratch) {
    if (s.unfed_.empty()) {
        const stream_io got = s.receive_raw(scratch);
        if (got.status == stream_status::ended) return stream_status::cut;
        if (got.status != stream_status::ok) return got.status;
        const std::string_view octets(scratch.data(), got.bytes);
        if (!s.session_) {
            // Every TLS record of a client begins with 22, and no HTTP request does.
            if (octets[0] != 22) {
                s.plain_peer_ = octets[0] > 0x20 && octets[0] < 0x7F;
                s.failed_ = !s.plain_peer_;
                s.tls_ = nullptr;
                return stream_status::failed;
            }
            s.session_ = s.config_.open(s.config_.context, {});
            if (!s.session_) return fail(s, scratch);
        }
        const tls_io fed = s.session_->feed(octets);
        if (fed.status == tls_status::failed) return fail(s, scratch);
        s.unfed_.assign(octets.substr(fed.consumed));
        return stream_status::ok;
    }
    const tls_io fed = s.session_->feed(std::string_view(s.unfed_));
    if (fed.status == tls_status::failed || fed.consumed == 0) return fail(s, scratch);
    s.unfed_.erase(0, fed.consumed);
    return stream_status::ok;
}

stream_status over_tls::handshake(stream& s, std::span<char> scratch) {
    bool pulled = false;
    for (int rounds = 0;; ++rounds) {
        const tls_status how = s.session_ ? s.session_->handshake() : tls_status::need_input;
        if (how == tls_status::failed) return fail(s, scratch);
        const stream_status sent = flush(s, scratch);
        if (sent == stream_status::failed) return sent;
        if (how == tls_status::closed) return stream_status::cut;
        if (how == tls_status::ok) {
            s.secured_ = s.buffered_ = true;  // a request may have come with the last flight
            return stream_status::ok;
        }
        if (how == tls_status::need_output) {
            if (sent != stream_status::ok) return sent;
            if (rounds >= idle_rounds) return fail(s, scratch);
        } else {
            if (std::exchange(pulled, true) && s.unfed_.empty()) return stream_status::want_read;
            if (const auto got = pull(s, scratch); got != stream_status::ok) return got;
        }
    }
}

stream_io over_tls::receive(stream& s, std::span<char> into, std::span<char> scratch) {
    for (int pulls = 0;; ++pulls) {
        const tls_io got = s.session_->read(into);
        s.buffered_ = got.produced != 0;
        if (got.produced) return {stream_status::ok, got.produced};
        if (got.status == tls_status::closed) return {stream_status::ended};
        if (got.status == tls_status::failed) return {fail(s, scratch)};
        const stream_status sent = flush(s, scratch);  // the session's own messages; reading goes on
        if (sent == stream_status::failed || (sent == stream_status::want_write && got.status == tls_status::need_output))
            return {sent};
        if (got.status == tls_status::need_output) {
            if (pulls >= idle_rounds) return {fail(s, scratch)};
            continue;
        }
        if (pulls >= 4) {  // records without content must not keep the loop busy
            s.buffered_ = !s.unfed_.empty();
            return {stream_status::want_read};
        }
        if (const auto in = pull(s, scratch); in != stream_status::ok) return {in};
    }
}

stream_io over_tls::send(stream& s, std::string_view octets, std::span<char> scratch) {
    std::size_t taken = 0;
    for (int idle = 0;; ++idle) {
        if (const auto sent = flush(s, scratch); sent != stream_status::ok) return {sent, taken};
        if (taken == octets.size()) return {stream_status::ok, taken};
        const tls_io put = s.session_->write(octets.substr(taken));
        taken += put.consumed;
        if (put.consumed != 0) idle = 0;
        if ((put.status != tls_status::ok && put.status != tls_status::need_output) || idle >= idle_rounds) return {fail(s, scratch), taken};
    }
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [63] authority                                    credentials, decisions; no sockets
//      needs [36] [60]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN
namespace detail {

/// RFC 4648 s.4 with its padding, nothing else: no other alphabet, no white space, unused bits zero.
/// Returns how many octets it wrote, or -1.
inline int strict_base64(std::string_view text, std::span<unsigned char> into) noexcept {
    if (text.empty() || text.size() % 4 != 0 || text.size() / 4 * 3 > into.size() + 2) return -1;
    const std::size_t padding = text.back() != '=' ? 0 : text[text.size() - 2] != '=' ? 1 : 2;
    std::size_t n = 0;
    std::uint32_t bits = 0, have = 0;
    for (char c : text.substr(0, text.size() - padding)) {
        const int value = c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 :
                          c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
        if (value < 0) return -1;
        bits = bits << 6 | static_cast<std::uint32_t>(value);
        if ((have += 6) < 8) continue;
        if (n == into.size()) return -1;
        into[n++] = static_cast<unsigned char>(bits >> (have -= 8) & 0xFF);
    }
    return (bits & ((1u << have) - 1)) == 0 ? static_cast<int>(n) : -1;
}

/// The code of an authorizer or a check; null: none is set.
template <class Decides>
PROMETHEUS_ASYNC_DECL constexpr const decision_code* code_of(const Decides& d) noexcept {
    return d.now.code() ? d.now.code() : d.later.code() ? d.later.code()->base : nullptr;
}

/// What a server asks before it answers.
struct authority : allocated {
    authority() noexcept = default;
    authority(const authority&) = delete;
    virtual ~authority() = default;
    /// Answers the request of `c`, or begins to decide on it.
    virtual void authorize(http_connection& c) = 0;
    /// Whether the value of an Authorization field is one of the credentials. It takes the same time for right and wrong
    /// ones, so that the time shows nothing.
    virtual bool matches(std::string_view authorization) const noexcept = 0;

    prometheus_async::authorizer asked{};
    bool has_credentials = false;
    std::string_view challenge{};  // the WWW-Authenticate fields of every 401, each with its CRLF
};

/// The credentials that a server accepts, and how many requests it has refused in the last second.
///
/// threads  the loop's
/// errors   open: invalid_option; it names the credential by its place in the list, never by its text
class authenticator final : public authority {
public:
    result<void> open(list<credential> accepted, const prometheus_async::authorizer& by);

    bool guards() const noexcept { return has_credentials || asked; }
    void authorize(http_connection& c) override;
    bool matches(std::string_view authorization) const noexcept override;
    /// Call it for each 401: how long its answer must wait. The first ten of a second do not wait.
    double delay(double now) noexcept {
        if (now - since_ >= 1 || now < since_) since_ = now, refusals_ = 0;
        return ++refusals_ > 10 ? 1 : 0;
    }

private:
    static constexpr std::size_t longest = 512;
    struct secret {
        unsigned kind = 0;  // 1 + scheme; 0 is equal to none
        unsigned size = 0;
        unsigned char octets[longest] = {};

        secret() noexcept = default;
        secret(const secret&) noexcept = default;
        secret& operator=(const secret&) = delete;
        ~secret() { for (volatile unsigned char& c : octets) c = 0; }
        bool put(std::string_view text) noexcept {
            if (text.size() > longest - size) return false;
            if (!text.empty()) std::memcpy(octets + size, text.data(), text.size());
            size += static_cast<unsigned>(text.size());
            return true;
        }
    };
    static void parse(std::string_view authorization, secret& shown) noexcept;

    vector<secret> kept_;
    double since_ = 0;
    unsigned refusals_ = 0;
};

result<void> authenticator::open(list<credential> accepted, const prometheus_async::authorizer& by) {
    bool basics = false, bearers = false;
    kept_.reserve(accepted.size());  // never moved: no copy is left behind
    for (const credential& c : accepted) {
        secret& s = kept_.emplace_back();
        const bool has_user = c.kind == credential::scheme::basic;
        (has_user ? basics : bearers) = true;
        s.kind = 1 + static_cast<unsigned>(c.kind);
        bool good = !c.secret.empty() && c.user.find(':') == std::string_view::npos;
        if (has_user) good = good && s.put(c.user) && s.put(":");
        if (!good || !s.put(c.secret))
            return error_of(errc::invalid_option, {"credential ", digits(kept_.size()),
                                                   " is empty, longer than 512 octets, or its user has a colon"});
    }
    has_credentials = !kept_.empty();
    asked = by;
    constexpr std::string_view both = "WWW-Authenticate: Basic realm=\"metrics\", charset=\"UTF-8\"\r\n"
                                      "WWW-Authenticate: Bearer realm=\"metrics\"\r\n";
    constexpr std::size_t basic_size = both.find('\n') + 1;
    challenge = !bearers ? both.substr(0, basic_size) : basics ? both : both.substr(basic_size);
    return {};
}

void authenticator::parse(std::string_view authorization, secret& shown) noexcept {
    const std::size_t space = authorization.find(' ');
    if (space == std::string_view::npos) return;
    const std::string_view scheme = authorization.substr(0, space);
    std::string_view rest = authorization.substr(space);
    while (!rest.empty() && rest[0] == ' ') rest.remove_prefix(1);
    if (same_word(scheme, "basic")) {
        const int n = strict_base64(rest, shown.octets);
        shown.size = n < 0 ? 0 : static_cast<unsigned>(n);
        shown.kind = n < 0 ? 0 : 1 + static_cast<unsigned>(credential::scheme::basic);
    } else if (same_word(scheme, "bearer") && shown.put(rest)) {
        shown.kind = 1 + static_cast<unsigned>(credential::scheme::bearer);
    }
}

bool authenticator::matches(std::string_view authorization) const noexcept {
    secret shown;
    parse(authorization, shown);
    volatile unsigned found = 0;  // volatile, so that no compiler stops at the first difference
    for (const secret& s : kept_) {
        volatile unsigned different = (s.kind ^ shown.kind) | (s.size ^ shown.size);
        for (std::size_t i = 0; i != longest; ++i) different = different | (s.octets[i] ^ unsigned{shown.octets[i]});
        found = found | ((different - 1) >> 31);  // 1 only for 0: it stays far below 2^31
    }
    return found != 0;
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [64] connection                                   one peer: handshake, requests, answers, end
//      needs [49] [58] [61] [62] [63]
// =============================================================================
//
// One http_connection serves one peer. It has a parser, at most one buffer of output, and a phase. run() does what the
// stream allows now; wants() and deadline() say what it waits for then. It uses no loop and no timer: server_connection
// ([66]) waits for it, and a test calls run() itself.
// While an answer is being sent nothing is read, so a peer that pipelines or reads slowly costs one buffer, never more.
PROMETHEUS_ASYNC_BEGIN
namespace detail {

class http_connection;

struct http_service;

/// What a route shows instead of a page for scrapers, for one request.
class PROMETHEUS_ASYNC_LOCAL page_view : public allocated {
public:
    page_view() = default;
    page_view(const page_view&) = delete;
    virtual ~page_view() = default;
    /// Reads the query of the target, and begins the page of these registries. Returns fields of the answer's head, each with
    /// its CRLF, Content-Type among them.
    virtual std::string_view start(cursor& page, http_service& of, string& target, list_with<registry*, sharing_code> registries) = 0;
    virtual pulled next(cursor& page, std::span<char> into) noexcept = 0;  // as the cursor's
};

/// A page as a stream of octets, compressed or not. Counts its samples on request.
struct page_body {
    cursor page;
    owned<page_view> view;  // writes it in another way; null: the cursor alone
#if !PROMETHEUS_ASYNC_NO_GZIP
    gzip_filter gzip;
#endif
    bool compressed = false;
    std::size_t samples = 0;
    bool counts = false, line_start = true;

    void start(const page_options& options, bool count) {
        view = {};
        page.start(options);
        begin(count);
    }
    void begin(bool count) noexcept {
        compressed = false;
        samples = 0;
        counts = count;
        line_start = true;
    }
    /// The next octets. After much work there may be few or none although there is more: the connection's turn then ends.
    pulled next(std::span<char> into) noexcept {
#if !PROMETHEUS_ASYNC_NO_GZIP
        if (compressed) return gzip.next(into, [this](std::span<char> room) noexcept { return plain(room); });
#endif
        return plain(into);
    }
    /// The next octets of the page itself.
    pulled plain(std::span<char> into) noexcept {
        const pulled got = view ? view->next(page, into) : page.next(into);
        for (std::string_view part(into.data(), counts ? got.bytes : 0); !part.empty();) {
            if (line_start && part[0] != '#') ++samples;
            const std::size_t end = part.find('\n');
            line_start = end != std::string_view::npos;
            part.remove_prefix(line_start ? end + 1 : part.size());
        }
        return got;
    }
#if !PROMETHEUS_ASYNC_NO_GZIP
    /// Compresses the page from now on, beginning with its `first` octets. False without memory.
    bool compress(std::string_view first, bool whole) noexcept { return compressed = gzip.begin(first, whole); }
#endif
};

/// The memory of one answer: its head, a piece of its body, and framing before and after it, so that the octets to send are
/// always contiguous.
struct http_block : allocated {
    static constexpr std::size_t head_size = 768, input_size = 2048, most_pulled = 16384;
    static constexpr std::size_t wide_size = 65536, framing = 16, wide_bytes = framing + wide_size + 8;
    static constexpr std::size_t spare = 1024;  // a wide one with less room than this is full: another pull would be for some lines only
    page_body page;
    http_block* next = nullptr;
    error reason{errc::canceled, {}};      // why a check failed
    std::size_t ahead = 0, ahead_end = 0;
    char* wide = nullptr;                  // the place of a later piece of a long page, until it is sent
    const std::size_t body_size;
    char* const head;                      // room for the head, for a piece, and for "\r\n0\r\n\r\n"
    char input[input_size];                // octets after the request: pipelined requests
    explicit http_block(std::size_t body_bytes) : body_size(body_bytes), head(static_cast<char*>(take_memory(octets(body_bytes), 1))) {}
    http_block(const http_block&) = delete;
    ~http_block() { give_memory(head, octets(body_size), 1); }
    static constexpr std::size_t octets(std::size_t body_bytes) noexcept { return head_size + body_bytes + 8; }
    char* body() noexcept { return wide ? wide + framing : head + head_size; }
    std::size_t room() const noexcept { return wide ? wide_size : body_size; }
};

/// Where connections come from: an IPv4 address, the /64 of an IPv6 address (one host may use all of its addresses),
/// or all unix sockets together.
struct http_peer : allocated {
    std::uint64_t address;
    std::size_t connections = 0;
    std::size_t answers = 0;      // that are being sent to them
    std::size_t delayed = 0;      // answers 401 that are delayed
    http_peer* next = nullptr;
    std::uint64_t turn = 0;       // the last turn in which one of them ran
    std::size_t octets_left = 0;  // how many they may still send in that turn

    static std::uint64_t of(const net_address& at) noexcept;
};

/// Connections in the order in which they began to wait, or last sent something.
struct http_queue {
    http_connection* first = nullptr;
    http_connection* last = nullptr;
    std::size_t size = 0;
};

struct http_route {
    string path, text, content_type;
    vector<registry*> registries;
    bool is_text = false, open = false;
    health_check check{};
    value_with<page_view* (*)(), view_code> view{};
    const sharing_code* sharing = nullptr;  // of `registries`

    list_with<registry*, sharing_code> shown() const noexcept { return {registries.data(), registries.size(), sharing}; }
};

/// The scrapes themselves as metrics, in the default registry.
/// Its functions are virtual, so that only programs which ask for these metrics are linked with them.
struct http_metrics : allocated {
    virtual ~http_metrics() = default;
    virtual void counted(event_kind what) { events(event_name(what)).inc(); }
    virtual void began() noexcept { in_flight.inc(); }
    virtual void abandoned() noexcept { in_flight.dec(); }
    virtual void sent(std::size_t n) noexcept { octets.inc(n); }
    virtual void missed_collector() noexcept { collector_errors.inc(); }
    /// `as` is empty for what is not a page; `samples` are those of a whole page.
    virtual void answered(int status, std::string_view as, double time, const std::size_t* samples) {
        requests(status, as).inc();
        duration.observe(time);
        in_flight.dec();
        if (samples) series.set(static_cast<double>(*samples));
    }

    family<counter, "event"> events{"prometheus_async_http_events_total", "What the server noticed and went on from."};
    family<counter, "code", "format"> requests{"prometheus_async_http_requests_total", "Requests answered."};
    histogram duration{"prometheus_async_http_response_seconds",
                       "Time from a request's head to the last octet of its answer."};
    counter octets{"prometheus_async_http_response_bytes_total", "Octets sent."};
    gauge in_flight{"prometheus_async_http_responses_in_flight", "Answers being sent."};
    gauge series{"prometheus_async_http_scrape_series", "Samples on the last whole page."};
    counter collector_errors{"prometheus_async_http_collector_errors_total", "Collectors left out of a page."};
};

/// What the connections of one server share.
struct http_service {
    server_limits limits;
    vector<http_route> routes;
    vector<string> allowed_hosts;
    const hosts_code* hosts = nullptr;  // of these; without it no request is allowed
    collector_errors on_collector_error = collector_errors::skip;
    value_with<created_series, created_code> created{};
    bool native_histograms = true, start_timestamps = true;
    vector<format> formats;             // none: all
    bool gzip = !PROMETHEUS_ASYNC_NO_GZIP;
    string process_start;               // the whole field, or empty
    event_handler on_event = nullptr;
    void* context = nullptr;
    owned<http_metrics> metrics;
    tls_config tls{};
    owned<authority> auth;                   // null: every request is allowed
    event_loop* runs_on = nullptr;           // what its connections run on
    double read_time(double of_turn) const noexcept { return runs_on ? loop_state::of(*runs_on).read_time() : of_turn; }
    void (*move)(http_connection& who, void (http_connection::*how)(double now)) = nullptr;  // calls it, as the loop does

    http_queue waiting;                      // for the peer's octets: evicted first
    http_queue handshaking;                  // TLS handshakes that have begun
    http_queue writing;                      // answers being sent
    std::size_t connections = 0;
    std::size_t delayed = 0;                 // answers 401 that are delayed
    static constexpr std::size_t most_delayed = 32;
    std::uint64_t turn = 0;                  // of the loop; 0: there is none
    bool handshake_done = false;             // one step of a handshake, in this turn
    vector<std::string_view> names;     // of one request, while it is answered
    char input[http_block::input_size];
    vector<char> scratch;               // for a TLS record, or for octets that are dropped

    explicit http_service(bool with_tls = true, const server_limits& most = {}) : limits(most), scratch(with_tls ? std::size_t{16384} : std::size_t{4096}) {}
    http_service(const http_service&) = delete;
    ~http_service();
    void count(event_kind kind) noexcept;
    void report(event_kind kind, const error& why) noexcept;
    /// Events of making a page: counts failed collectors, and passes all on.
    static void page_event(const event& e, void* self) {
        const auto& s = *static_cast<http_service*>(self);
        if (s.metrics && e.kind == event_kind::callback_failed) s.metrics->missed_collector();
        notify(s.on_event, s.context, e);
    }
    http_block* take_block();
    /// How much memory the answer to a request may take, besides that for its octets.
    std::size_t memory_of_answer(const http_block* have) const noexcept;
    void give_block(http_block* block) noexcept;
    /// Gives it a buffer of 64 KiB, unless too many connections have one: the page then needs fewer system calls. It is
    /// given back with each piece that was sent: so it is mostly the same one, which the processor's cache has.
    void widen(http_block& block) noexcept;
    void narrow(http_block& block) noexcept;
    std::size_t wide_buffers() const noexcept { return wide_count_; }
    bool allows(std::string_view host) const noexcept { return allowed_hosts.empty() || (hosts && hosts->allows(*this, host)); }
    const http_route* find(std::string_view path) const noexcept;
    /// The connection to drop so that a new one can be served, or null. Of the address that has most connections:
    ///   1. the oldest that waits for a request;
    ///   2. else a handshake;
    ///   3. else the slowest reader, if it lags by 0.1 s or more, or if the new one's address has fewer connections
    ///      (`newcomers`, with the new one).
    http_connection* victim(double now, std::size_t newcomers = ~std::size_t{0}) const noexcept;
    /// The handshake to drop. Of the address that has most connections:
    ///   1. one that was answered and has then been silent for 0.25 s;
    ///   2. else the oldest that has not sent enough for an answer;
    ///   3. else the oldest. So many new handshakes do not end one that makes progress.
    http_connection* handshake_victim(double now) const noexcept;
    /// The connection to drop when too many 401 are delayed: the oldest of the address that has most of them, or the
    /// new one, if no address has more than its own.
    http_connection* delayed_victim(http_connection* newcomer) const noexcept;
    /// The reader that lags most, of the address that has most connections.
    http_connection* slowest(double now, const http_connection* but = nullptr) const noexcept;
    http_peer* peer(std::uint64_t address) const noexcept;
    bool several_peers() const noexcept { return peers_ && peers_->next; }
    http_peer* add_peer(std::uint64_t address);
    void drop_peer(http_peer* peer) noexcept;
    std::string_view date() noexcept;

private:
    static constexpr std::size_t kept_blocks = 4;
    http_peer* peers_ = nullptr;
    http_block* free_ = nullptr;
    std::size_t free_count_ = 0, wide_count_ = 0, free_wide_count_ = 0;
    char* free_wide_[kept_blocks];
    double date_second_ = -1;
    char date_[29];
};

/// One answer: the part that was made, and the part that must be sent.
struct response {
    int status = 0;
    format as = format::text_0_0_4;
    bool page = false;             // it is a page of metrics, in `as`
    bool head_only = false;        // it answers HEAD
    bool head_sent = false;        // or is about to be sent, as part of `out`
    bool chunked = false;
    bool more = false;             // the page has more pieces
    bool paused = false;           // making a piece took much work for few octets
    bool gzip = false;             // accepted by the client; whether it is used is not decided yet
    bool plain = true;             // an uncompressed page is acceptable
    std::size_t filled = 0;        // octets of the piece that is being made
    const char* out = nullptr;     // the octets that are being sent
    const char* out_end = nullptr;
    std::string_view rest{};       // of a text, after those
    std::uint64_t sent_before = 0; // octets of the connection before this answer
    double began = 0;              // where its time is measured
    head_writer head{};
};

/// What was decided about a request.
enum class verdict : std::uint8_t { waiting, no, yes, failed, late };

class PROMETHEUS_ASYNC_LOCAL http_connection : public allocated {
public:
    enum class phase : std::uint8_t {
        handshake, reading,
        deciding,   // an asynchronous authoriser or check is running
        delaying,   // a 401 is delayed, so that passwords cannot be tried fast
        writing,
        lingering,  // the last answer is sent: reads until the peer has closed
        closed
    };

    /// Owns `fd`, and closes it when it is destroyed: a watch of it must forget it before.
    http_connection(http_service& service, int fd, double now, std::uint64_t from = 0);
    http_connection(const http_connection&) = delete;
    ~http_connection();

    /// Does what the descriptor allows, within a turn's budget of octets and requests.
    void run(double now);
    /// Whether run() ended although the descriptor allowed more.
    bool unfinished() const noexcept { return turn_.unfinished; }
    /// The peer will send no more octets: run() reads to the end.
    void last_octet() noexcept { last_octet_ = true; }
    /// Acts on a deadline() that has passed.
    void expire(double now);
    /// Continues after the decision of an asynchronous authoriser or check.
    void decide(double now);
    double deadline() const noexcept;
    interest wants() const noexcept { return wants_; }
    phase at() const noexcept { return phase_; }
    bool closed() const noexcept { return phase_ == phase::closed; }
    int fd() const noexcept { return fd_; }
    void close_descriptor() noexcept {  // not repeated after EINTR: the number may be in use again by then
        if (fd_ >= 0) sys::close(std::exchange(fd_, -1));
    }
    /// Octets of the answer that is being sent.
    double taken() const noexcept { return static_cast<double>(stream_.sent() - answer_.sent_before); }
    /// For how many seconds the client has read nothing; or how late it is compared with a million octets per
    /// second, if that is more.
    double lag(double now) const noexcept {
        const double silent = now - moved_, late = now - since_ - taken() * 1e-6;
        return silent > late ? silent : late;
    }
    /// Answers 503: there is no room for this connection.
    void refuse(double now);
    void close() noexcept;
    void reset() noexcept;  // a TCP reset, so that the peer does not take an incomplete answer for a complete one

private:
    friend class authenticator;
    friend struct http_service;
    friend struct decision_code;
    friend struct later_code;
    friend struct tls_code;
    friend struct view_code;
    static constexpr std::size_t turn_octets = 65536, peer_octets = 4 * turn_octets, linger_octets = 262144;
    static constexpr int turn_requests = 8;
    static constexpr std::size_t few_answers = 8;

    /// The limits of one call of run(), and what it has done.
    struct budget {
        std::size_t octets = 0;   // left
        int requests = turn_requests;
        bool drained = false;     // the socket had fewer octets than there was room for
        bool unfinished = false;  // run() ended although the descriptor allowed more
    };

    // Each does one step, and returns true when the next step may follow at once. If not, it has set wants_.
    bool handshake();
    bool read();
    bool watch_peer();
    bool write();
    bool write_on();
    bool linger();
    bool wait_for(stream_status how) noexcept;
    std::size_t share() const noexcept;
    /// Lets other connections run: the next turn calls run() again.
    bool pause(interest until) noexcept {
        wants_ = until;
        turn_.unfinished = true;
        return false;
    }

    void respond();
    void authorize();
    template <class Ask>
    void decide_by(std::string_view what, Ask ask);
    verdict decide_later(task<bool> asked);
    static verdict verdict_of(deferred_state<bool>& decided) noexcept;
    void judge(verdict is);
    void check_route();
    static task<bool> checked(task<result<void>> running, error& reason);
    void answer_check(verdict is);
    void end();
    void answer();
    void answer_fixed(int status);
    void answer_text(const http_route& route);
    void answer_page(const http_route& route);
    void answer_view(const http_route& route);
    void fill();
    void begin_head(int status);
    void put_length(std::size_t body) noexcept;
    void put_no_length() noexcept;
    void send_head(std::size_t body) noexcept;
    void send_piece(std::size_t body) noexcept;
    void finished();
    void enter(phase next);

    http_service& service_;
    http_peer* const peer_;
    http_connection* next_ = nullptr;      // in its queue
    http_connection* previous_ = nullptr;
    http_queue* in_ = nullptr;
    stream stream_;
    request_parser parser_;
    const http_route* route_ = nullptr;    // of the request; null: there is none
    authorization_request asking_{};
    shared<deferred_state<bool>> decision_;  // of an authoriser or check that decides later
    http_block* block_ = nullptr;
    response answer_;
    budget turn_;
    double now_;
    double since_;                         // when the time of deadline() began to run
    double moved_;                         // when the peer last read an octet
    std::size_t requests_ = 0;
    std::size_t discarded_ = 0;
    int fd_;
    phase phase_ = phase::reading;
    interest wants_ = interest::read;
    bool closing_ = false;                 // the connection closes after this answer
    bool shut_ = false;                    // our side is closed
    bool last_octet_ = false;
    bool checking_ = false;                // the running decision is the route's check
    bool busy_ = false;                    // the authoriser cannot decide now
};

// ---- one connection ----

http_connection::http_connection(http_service& service, int fd, double now, std::uint64_t from)
    : service_(service), peer_(service.add_peer(from)), stream_(fd), parser_(service.limits), now_(now), since_(now), moved_(now), fd_(fd) {
    ++service_.connections;
    if (service.tls) stream_.expect_tls(service.tls);
    enter(stream_.over() ? phase::handshake : phase::reading);
}

http_connection::~http_connection() {
    close();
    --service_.connections;
    service_.drop_peer(peer_);
    close_descriptor();
}

void http_connection::enter(phase next) {
    http_queue* const to = next == phase::closed                            ? nullptr
                           : next == phase::writing                         ? &service_.writing
                           : next == phase::handshake && stream_.handshaking() ? &service_.handshaking
                                                                            : &service_.waiting;
    for (std::size_t* delayed : {&service_.delayed, &peer_->delayed}) {
        *delayed += next == phase::delaying;
        *delayed -= phase_ == phase::delaying;
    }
    // With many slow readers, a complete page for each in the system's buffers would use much memory, and much time at once.
    if (next == phase::writing && phase_ != phase::writing && ++peer_->answers > few_answers) keep_little_unsent(fd_);
    peer_->answers -= phase_ == phase::writing && next != phase::writing;
    if (in_) {
        --in_->size;
        (previous_ ? previous_->next_ : in_->first) = next_;
        (next_ ? next_->previous_ : in_->last) = previous_;
    }
    in_ = to;
    if (to) {
        ++to->size;
        next_ = nullptr;
        previous_ = std::exchange(to->last, this);
        (previous_ ? previous_->next_ : to->first) = this;
    }
    phase_ = next;
}

void http_connection::close() noexcept {
    if (closed()) return;
    if (service_.metrics && phase_ == phase::writing) service_.metrics->abandoned();
    enter(phase::closed);
    wants_ = interest::none;
    decision_ = {};
    service_.give_block(std::exchange(block_, nullptr));
}
// Over TLS a close_notify is sent first: without it the peer could suspect that an attacker has cut the connection.
void http_connection::end() {
    if (!stream_.secured()) return close();
    since_ = now_;
    enter(phase::lingering);
}
void http_connection::reset() noexcept {
    const ::linger at_once{1, 0};
    if (!closed()) (void)sys::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close();
}

double http_connection::deadline() const noexcept {
    const server_limits& l = service_.limits;
    switch (phase_) {
    case phase::handshake: return since_ + l.handshake.count();
    case phase::reading: return since_ + (requests_ == 0 || parser_.begun() ? l.header : l.idle).count();
    case phase::deciding: return since_ + l.response.count();
    case phase::delaying: return since_ + 1;
    case phase::writing: {
        const double whole = since_ + l.response.count();
        const double stalled = moved_ + l.stall.count();
        const double slow = l.reader_rate == 0 ? whole : since_ + l.stall.count() + taken() / static_cast<double>(l.reader_rate);
        return (std::min)({whole, stalled, slow});
    }
    case phase::lingering: return since_ + l.lingering.count();
    case phase::closed: break;
    }
    return never;
}

void http_connection::expire(double now) {
    now_ = now;
    switch (phase_) {
    case phase::reading:
        closing_ = true;
        parser_.begun() ? answer_fixed(408) : end();
        return run(now);
    case phase::writing:
        service_.report(event_kind::connection_stalled,
                      {errc::timeout, "a client read nothing for too long, or read too slowly"});
        return reset();
    case phase::handshake:
        if (stream_.handshaking()) service_.report(event_kind::handshake_failed, {errc::timeout, "TLS: no handshake in time"});
        return close();
    case phase::delaying:
        answer_fixed(401);
        return run(now);
    case phase::deciding: {
        if (!checking_) return close();
        const auto ends_here = std::exchange(decision_, {});  // destroyed after the answer has begun
        route_->check.later.code()->late(*this);
        return run(now);
    }
    case phase::lingering: return close();
    case phase::closed: return;
    }
}

void http_connection::refuse(double now) {
    now_ = now;
    closing_ = true;
    if (service_.tls) return close();  // a handshake would cost more than serving it
    answer_fixed(503);
    run(now);
}

void http_connection::run(double now) {
    now_ = now;
    turn_ = {};
    turn_.octets = share();
    for (bool on = true; on;) {
        switch (phase_) {
        case phase::handshake: on = stream_.over()->step(*this); break;
        case phase::reading: on = read(); break;
        case phase::writing: on = write(); break;
        case phase::lingering: on = linger(); break;
        case phase::deciding: on = watch_peer(); break;
        case phase::delaying:
        case phase::closed: on = false; break;
        }
    }
}

// Sets what the stream waits for, or ends the connection.
bool http_connection::wait_for(stream_status how) noexcept {
    if (how == stream_status::want_read || how == stream_status::want_write) {
        wants_ = how == stream_status::want_write ? interest::write
                 : stream_.pending()              ? interest::both
                                                  : interest::read;
        return false;
    }
    if (stream_.lost()) service_.count(event_kind::connection_lost);
    how == stream_status::ended && phase_ == phase::reading ? end() : close();
    return !closed();
}

// Only one step of all handshakes in a turn: its arithmetic takes longer than everything else here, and other connections wait.
bool http_connection::handshake() {
    if (std::exchange(service_.handshake_done, true)) return pause(stream_.pending() ? interest::both : interest::read);
    const bool begun = stream_.handshaking();
    moved_ = now_;
    const stream_status how = stream_.handshake(service_.scratch);
    if (how == stream_status::ok) {
        since_ = now_;
        enter(phase::reading);
        return true;
    }
    if (how == stream_status::want_read || how == stream_status::want_write) {
        if (!begun && stream_.handshaking()) enter(phase::handshake);
        wait_for(how);
        return how == stream_status::want_read ? pause(wants_) : false;  // it takes one flight at a time
    }
    closing_ = true;
    if (stream_.plain_peer()) {
        answer_fixed(400);
        return true;
    }
    if (how == stream_status::failed) service_.report(event_kind::handshake_failed, stream_.why());
    else if (begun) service_.report(event_kind::handshake_failed, {errc::tls, "TLS: the peer left during the handshake"});
    since_ = now_;
    enter(phase::lingering);
    return true;
}

const tls_code tls_code::all{&over_tls::start, &over_tls::handshake, &over_tls::receive, &over_tls::send, &over_tls::flush,
                             &over_tls::shutdown, &over_tls::peer, &over_tls::why, [](http_connection& c) { return c.handshake(); }};

bool http_connection::read() {
    if (turn_.requests == 0) return pause(interest::write);  // the socket is writable, so the next turn calls again
    const bool ahead = block_ && block_->ahead != block_->ahead_end;
    std::string_view in;
    if (!ahead && turn_.drained) return wait_for(stream_status::want_read);
    if (ahead) {
        in = {block_->input + block_->ahead, block_->ahead_end - block_->ahead};
    } else {
        const stream_io got = stream_.receive(service_.input, service_.scratch);
        if (got.bytes == 0 && got.status == stream_status::want_read && stream_.buffered()) return pause(interest::write);
        if (got.bytes == 0) return wait_for(got.status);
        in = {service_.input, got.bytes};
        turn_.drained = got.bytes < sizeof service_.input && !stream_.buffered() && !last_octet_;
    }
    if (!PROMETHEUS_ASYNC_EXCEPTIONS && !memory_for(parser_.memory_of(in.size()) + service_.memory_of_answer(block_))) {
        service_.report(event_kind::callback_failed, {errc::system, "a connection: no memory for a request", ENOMEM});
        return close(), false;
    }
    const bool fresh = !parser_.begun();
    const std::size_t used = parser_.feed(in);
    if (fresh && requests_ != 0) since_ = now_;  // the time for a head runs from its first octet
    if (ahead) block_->ahead += used;
    if (!parser_.done() && parser_.failed() == 0) {
        service_.give_block(std::exchange(block_, nullptr));
        return true;
    }
    if (!block_) block_ = service_.take_block();
    if (!ahead) {
        block_->ahead = 0;
        block_->ahead_end = in.size() - used;
        std::memcpy(block_->input, in.data() + used, block_->ahead_end);
    }
    --turn_.requests;
    respond();
    return true;
}

// Called during a decision: if the peer closes its side, it no longer waits for the answer. Octets that it sends are stored for
// later; if they fill the room for them, the socket is not read until the decision.
bool http_connection::watch_peer() {
    http_block& b = *block_;
    if (b.ahead == b.ahead_end) b.ahead = b.ahead_end = 0;
    while (b.ahead_end != http_block::input_size) {
        const stream_io got = stream_.receive({b.input + b.ahead_end, http_block::input_size - b.ahead_end}, service_.scratch);
        if (got.bytes == 0 && got.status == stream_status::want_read && stream_.buffered()) return pause(interest::write);
        if (got.bytes == 0) return wait_for(got.status);
        b.ahead_end += got.bytes;
    }
    wants_ = interest::none;
    return false;
}

// The peer may still be sending. close() would then send a reset, and the peer could lose the answer. So:
// 1. close our side; 2. read and drop what comes, up to a limit; 3. close when the peer has closed.
bool http_connection::linger() {
    if (!shut_) {
        const stream_status how = stream_.shutdown(service_.scratch);
        if (how != stream_status::ok) return wait_for(how);
        if (sys::shutdown(fd_, SHUT_WR) != 0) return close(), false;
        shut_ = true;
    }
    for (;;) {
        const ssize_t n = sys::recv(fd_, service_.scratch.data(), service_.scratch.size(), 0);
        if (n > 0) {
            discarded_ += static_cast<std::size_t>(n);
            if (discarded_ >= linger_octets) return close(), false;
            if (turn_.octets < static_cast<std::size_t>(n)) return pause(interest::read);
            turn_.octets -= static_cast<std::size_t>(n);
        } else if (n == 0 || (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)) {
            return close(), false;
        } else if (errno != EINTR) {
            wants_ = interest::read;
            return false;
        }
    }
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [65] answers                                      routes, authorisation, heads and bodies of answers
//      needs [50] [64]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN
namespace detail {

// Order matters: 1. syntax, because octets after an error cannot be parsed; 2. the host; 3. authorisation; 4. everything else,
// so that a client without authorisation does not learn which routes exist.
void http_connection::respond() {
    const request_head& h = parser_.head;
    ++requests_;
    closing_ = parser_.failed() != 0 || h.close || (h.http_1_0 && !h.keep_alive) || h.content ||
               requests_ >= service_.limits.requests_per_connection;
    route_ = nullptr;
    checking_ = false;
    if (parser_.failed() != 0) return answer_fixed(parser_.failed());
    route_ = service_.find(h.path());
    const bool open = route_ && route_->open;
    if (!open && !service_.allows(h.host)) return answer_fixed(421);
    if (!open && service_.auth) return service_.auth->authorize(*this);
    answer();
}

void http_connection::authorize() {
    const request_head& h = parser_.head;
    if (service_.auth->matches(h.authorization)) return answer();
    const authorizer& asked = service_.auth->asked;
    if (!asked) return judge(verdict::no);
    busy_ = false;
    asking_ = {h.verb, h.path(), h.authorization, stream_.peer(), service_.runs_on, peer_->address, &busy_};
    decide_by("the authoriser", [&] {
        return !asked.now ? asked.later.code()->authorize(*this) : asked.now(asking_, asked.context) ? verdict::yes : verdict::no;
    });
}

void http_connection::check_route() {
    const health_check& asked = route_->check;
    checking_ = true;
    decide_by("the check", [&] {
        if (!asked.now) return asked.later.code()->look(*this);
        const result<void> how = asked.now(asked.context);
        if (!how) block_->reason = how.why();
        return how ? verdict::yes : verdict::no;
    });
}
task<bool> http_connection::checked(task<result<void>> running, error& reason) {
    const result<void> how = co_await std::move(running);
    if (!how) reason = how.why();
    co_return bool(how);
}

template <class Ask>
void http_connection::decide_by(std::string_view what, Ask ask) {
    verdict is = verdict::failed;
    contain(what, [&] { is = ask(); }, [](const error&) {});  // the text of the exception may contain a credential
    if (is != verdict::waiting) return judge(is);
    since_ = now_;
    enter(phase::deciding);
}

verdict http_connection::decide_later(task<bool> asked) {
    const deferred<bool> decided = make_deferred(std::move(asked));
    if (decided.fired()) return verdict_of(deferred_access::state(decided));
    decided.add_both([this] { service_.move(*this, &http_connection::decide); });
    decision_ = shared(&deferred_access::state(decided));
    return verdict::waiting;
}

verdict http_connection::verdict_of(deferred_state<bool>& decided) noexcept {
    decided.seen = true;  // a failure is reported here, without the text of the exception
    return !decided.now ? verdict::failed : *decided.now ? verdict::yes : verdict::no;
}

void http_connection::decide(double now) {
    now_ = now;
    const verdict is = verdict_of(*decision_);
    decision_ = {};
    judge(is);
    run(now);
}

constexpr std::string_view late_check = " has not ended in time";

void http_connection::judge(verdict is) {
    if (checking_ && (is == verdict::failed || is == verdict::late))
        service_.report(event_kind::callback_failed, is == verdict::late ? error_of(errc::timeout, {"the check of ", route_->path, late_check})
                                                                         : error_of(errc::canceled, {"the check of ", route_->path, " threw"}));
    if (checking_) return answer_check(is);
    if (is == verdict::failed) {
        service_.report(event_kind::callback_failed, {errc::canceled, "the authoriser threw"});
        return answer_fixed(500);
    }
    if (busy_) return answer_fixed(503);
    if (is == verdict::yes) return answer();
    service_.report(event_kind::authorization_failed, {errc::refused, "a request was not authorised"});
    if (static_cast<authenticator&>(*service_.auth).delay(now_) == 0) return answer_fixed(401);
    since_ = now_;
    wants_ = interest::none;
    enter(phase::delaying);
}

void authenticator::authorize(http_connection& c) { c.authorize(); }
const decision_code decision_code::all{
    [](http_service& s, list<credential> accepted, const authorizer& asked) {
        owned<authenticator> made(new authenticator);
        const result<void> opened = made->open(accepted, asked);
        if (made->guards()) s.auth = std::move(made);
        return opened;
    },
    [](http_connection& c) { c.check_route(); }};
const later_code later_code::all{
    &decision_code::all,
    [](http_connection& c) {
        const authorizer& asked = c.service_.auth->asked;
        return c.decide_later(asked.later(c.asking_, asked.context));
    },
    [](http_connection& c) {
        const health_check& asked = c.route_->check;
        return c.decide_later(c.checked(asked.later(asked.context), c.block_->reason));
    },
    [](http_connection& c) { c.judge(verdict::late); }};

const self_metrics_code self_metrics_code::all{[]() -> http_metrics* { return new http_metrics; }};

void http_connection::answer() {
    const request_head& h = parser_.head;
    if (h.expects_other) return answer_fixed(417);
    if (h.method == http_method::unknown) return answer_fixed(501);
    if (!route_ && h.target != "*") return answer_fixed(404);
    if (h.method == http_method::options) return answer_fixed(204);
    if (h.method == http_method::other) return answer_fixed(405);
    if (route_->check) return code_of(route_->check)->look(*this);
    if (route_->is_text) return answer_text(*route_);
    if (route_->view) return route_->view.code()->answer(*this);
    answer_page(*route_);
}

// Every answer begins here, also one that replaces an answer before any of it was sent.
void http_connection::begin_head(int status) {
    if (!block_) block_ = service_.take_block();
    service_.narrow(*block_);
    if (service_.metrics && phase_ != phase::writing) service_.metrics->began();
    since_ = moved_ = now_;
    answer_ = {};
    answer_.status = status;
    if (service_.metrics) answer_.began = service_.read_time(now_);  // not the time of the turn, because most answers begin and end in the same turn
    answer_.head_only = parser_.head.verb == "HEAD";
    answer_.sent_before = stream_.sent();
    answer_.head = {block_->head, block_->body()};
    enter(phase::writing);
    head_writer& head = answer_.head;
    head.put("HTTP/1.1 ");
    head.number(static_cast<unsigned>(status));
    head.put(" ");
    head.put(reason_of(status));
    head.put("\r\nDate: ");
    head.put(service_.date());
    head.put("\r\n");
    if (closing_) head.put("Connection: close\r\n");
}

// An HTTP/1.0 client knows the end of an answer by its length, or by the end of the connection.
void http_connection::put_length(std::size_t body) noexcept {
    answer_.head.put("Content-Length: ");
    answer_.head.number(body);
    answer_.head.put(parser_.head.http_1_0 && !closing_ ? "\r\nConnection: keep-alive\r\n" : "\r\n");
}
void http_connection::put_no_length() noexcept {
    if (parser_.head.http_1_0 && !std::exchange(closing_, true)) answer_.head.put("Connection: close\r\n");
}

// The head is copied directly before the first octets of the body, so that one system call sends both.
void http_connection::send_head(std::size_t body) noexcept {
    answer_.head.put("\r\n");
    answer_.head_sent = true;
    send_piece(answer_.head_only ? 0 : body);
}
void http_connection::send_piece(std::size_t body) noexcept {
    if (answer_.chunked && body != 0) {
        answer_.head.number(body, 16);
        answer_.head.put("\r\n");
    }
    const auto n = static_cast<std::size_t>(answer_.head.at - block_->head);
    answer_.out = block_->body() - n;
    answer_.out_end = block_->body() + body;
    std::memmove(block_->body() - n, block_->head, n);
    answer_.head.at = block_->head;
}

void http_connection::answer_fixed(int status) {
    begin_head(status);
    if (status == 405 || status == 204) answer_.head.put("Allow: GET, HEAD, OPTIONS\r\n");
    if (status == 503) answer_.head.put("Retry-After: 1\r\n");
    if (status == 401) answer_.head.put(service_.auth->challenge);
    if (status == 204) return put_no_length(), send_head(0);
    const std::string_view text = status == 421             ? ""
                                  : stream_.plain_peer()     ? "this port speaks TLS: https"
                                  : parser_.looks_like_tls() ? "this port speaks plain HTTP"
                                                             : reason_of(status);
    answer_.head.put("Content-Type: text/plain; charset=utf-8\r\n");
    put_length(text.size() + !text.empty());
    std::memcpy(block_->body(), text.data(), text.size());
    block_->body()[text.size()] = '\n';
    send_head(text.size() + !text.empty());
}

constexpr std::string_view fields_of_200 = "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n";

void http_connection::answer_text(const http_route& route) {
    begin_head(200);
    answer_.head.put("Content-Type: ");
    answer_.head.put(route.content_type);
    answer_.head.put("\r\n");
    put_length(route.text.size());
    answer_.head.put(fields_of_200);
    const std::size_t first = route.text.copy(block_->body(), block_->room());
    send_head(first);
    if (!answer_.head_only) answer_.rest = std::string_view(route.text).substr(first);
}

void http_connection::answer_check(verdict is) {
    begin_head(is == verdict::yes ? 200 : 503);
    answer_.head.put("Content-Type: text/plain; charset=utf-8\r\n");
    head_writer body{block_->body(), block_->body() + block_->room()};
    body.put(is == verdict::yes ? "ok" : is == verdict::no ? block_->reason.describe() : is == verdict::late ? "the check" : "the check threw");
    if (is == verdict::late) body.put(late_check);
    body.put("\n");
    const auto size = static_cast<std::size_t>(body.at - block_->body());
    put_length(size);
    answer_.head.put(fields_of_200);
    send_head(size);
}

void http_connection::answer_page(const http_route& route) {
    const request_head& h = parser_.head;
    service_.names.clear();
    if (!PROMETHEUS_ASYNC_EXCEPTIONS && !memory_for(6 * h.target.size())) return answer_fixed(503);  // an entry of `names` is longer than its text
    if (!query_names(parser_.head.target, service_.limits.names, service_.names)) {
        closing_ = true;
        return answer_fixed(400);
    }
    begin_head(200);
    const negotiation agreed = negotiate(h.accept, h.accept_encoding, service_.formats);
    answer_.as = agreed.as;
    answer_.head.put("Content-Type: ");
    answer_.head.put(content_type(agreed.as, agreed.names));
    answer_.head.put(service_.gzip ? "\r\nVary: Accept, Accept-Encoding\r\n" : "\r\nVary: Accept\r\n");
    answer_.gzip = service_.gzip && agreed.gzip;
    answer_.plain = agreed.plain;
    answer_.head.put(fields_of_200);
    answer_.head.put(service_.process_start);
    block_->page.start({.as = agreed.as,
                        .names = agreed.names,
                        .registries = route.shown(),
                        .only = service_.names,
                        .created = service_.created,
                        .native_histograms = service_.native_histograms,
                        .start_timestamps = service_.start_timestamps,
                        .on_collector_error = service_.on_collector_error,
                        .on_event = service_.metrics || service_.on_event ? &http_service::page_event : nullptr,
                        .context = &service_},
                       service_.metrics.get() != nullptr);
    answer_.more = true;
    answer_.page = true;
    fill();
}

void http_connection::answer_view(const http_route& route) {
    begin_head(200);
    page_body& body = block_->page;
    body.view = owned<page_view>(route.view());
    answer_.head.put(body.view->start(body.page, service_, parser_.head.target, route.shown()));
    body.begin(false);
    const negotiation agreed = negotiate({}, parser_.head.accept_encoding, service_.formats);
    answer_.gzip = service_.gzip && agreed.gzip;
    answer_.plain = agreed.plain;
    if (service_.gzip) answer_.head.put("Vary: Accept-Encoding\r\n");
    answer_.head.put(fields_of_200);
    answer_.more = true;
    fill();
}

const view_code view_code::all{[](http_connection& c) { c.answer_view(*c.route_); }};

// Makes the next piece of a page. The head is sent with the first piece: only then is it known whether the page is
// complete, and has a length, or is sent in chunks.
void http_connection::fill() {
    pull what = pull::more;
    if (answer_.head_sent && answer_.filled == 0 && !block_->page.compressed) service_.widen(*block_);
    const std::size_t least = block_->wide ? http_block::spare : 64;
    while (what == pull::more && block_->room() - answer_.filled >= least) {
        const std::size_t room = block_->room() - answer_.filled;  // small: each pull holds the registries' lock
        const std::span<char> piece(block_->body() + answer_.filled, room < http_block::most_pulled ? room : http_block::most_pulled);
        const pulled got = block_->page.next(piece);
        answer_.filled += got.bytes;
        what = got.what;
        answer_.paused = what == pull::more && got.bytes < piece.size() / 2;
        if (answer_.paused) return;
    }
    if (what == pull::failed) {
        service_.report(event_kind::callback_failed, {errc::canceled, "a collector failed: no page"});
        return answer_.head_sent ? reset() : answer_fixed(500);
    }
#if !PROMETHEUS_ASYNC_NO_GZIP
    if (std::exchange(answer_.gzip, false) && worth_gzip(answer_.filled, answer_.plain) &&
        block_->page.compress({block_->body(), answer_.filled}, what == pull::done)) {
        answer_.filled = 0;
        answer_.head.put("Content-Encoding: gzip\r\n");
        return fill();
    }
#endif
    answer_.more = what == pull::more && !answer_.head_only;
    const std::size_t body = std::exchange(answer_.filled, 0);
    if (answer_.head_sent) {
        send_piece(body);
    } else {
        answer_.chunked = what == pull::more && !parser_.head.http_1_0;
        if (answer_.chunked) {
            answer_.head.put("Transfer-Encoding: chunked\r\n");
        } else if (what == pull::done) {
            put_length(body);
        } else {
            put_no_length();
        }
        send_head(body);
    }
    if (answer_.chunked && !answer_.head_only) {
        head_writer after{block_->body() + body, block_->body() + block_->room() + 8};
        if (body != 0) after.put("\r\n");
        if (what == pull::done) after.put("0\r\n\r\n");
        answer_.out_end = after.at;
    }
}

// ---- sending ----

bool http_connection::write() {
    const std::uint64_t before = stream_.sent();
    const bool on = write_on();
    if (stream_.sent() != before && phase_ == phase::writing) {
        moved_ = now_;
        enter(phase::writing);  // to the end of the queue
    }
    return on;
}
bool http_connection::write_on() {
    response& a = answer_;
    while (a.out != a.out_end) {
        if (turn_.octets == 0) return pause(interest::write);
        const auto whole = static_cast<std::size_t>(a.out_end - a.out);
        constexpr std::size_t piece = http_block::wide_bytes;  // a piece that was begun is sent completely
        const stream_io sent = stream_.send({a.out, whole < piece ? whole : piece}, service_.scratch);
        a.out += sent.bytes;
        turn_.octets -= sent.bytes < turn_.octets ? sent.bytes : turn_.octets;
        peer_->octets_left -= sent.bytes < peer_->octets_left ? sent.bytes : peer_->octets_left;
        if (service_.metrics) service_.metrics->sent(sent.bytes);
        if (sent.status != stream_status::ok) return wait_for(sent.status);
    }
    if (std::exchange(a.paused, false)) return pause(interest::write);
    if (!a.rest.empty()) {
        a.out = a.rest.data();
        a.out_end = a.out + std::exchange(a.rest, {}).size();
        return true;
    }
    if (a.more) {
        if (a.filled == 0) service_.narrow(*block_);
        if (turn_.octets == 0) return pause(interest::write);  // it is made directly before it is sent
        fill();
        return true;
    }
    if (stream_.pending())
        if (const stream_status how = stream_.flush(service_.scratch); how != stream_status::ok) return wait_for(how);
    finished();
    return true;
}

void http_connection::finished() {
    if (service_.metrics)
        service_.metrics->answered(answer_.status, answer_.page ? format_name(answer_.as) : std::string_view(),
                                   positive(service_.read_time(now_) - answer_.began),
                                   answer_.page && !answer_.head_only ? &block_->page.samples : nullptr);
    since_ = now_;
    if (closing_) {
        service_.give_block(std::exchange(block_, nullptr));
        return enter(phase::lingering);
    }
    if (block_->ahead == block_->ahead_end) service_.give_block(std::exchange(block_, nullptr));
    parser_.reset();
    enter(phase::reading);
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [66] http server                                  limits and fairness, connections on a loop
//      needs [64]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN
namespace detail {

// ---- what connections share, and which of them makes room ----

http_service::~http_service() {
    while (http_block* block = free_) {
        free_ = block->next;
        delete block;
    }
    while (free_wide_count_ != 0) give_memory(free_wide_[--free_wide_count_], http_block::wide_bytes, 1);
}

void http_service::count(event_kind kind) noexcept {
    count_event(kind);
    if (metrics) contain("the server's metrics", [&] { metrics->counted(kind); }, [](const error&) {});
}
void http_service::report(event_kind kind, const error& why) noexcept {
    count(kind);
    notify(on_event, context, {kind, why});
}

http_block* http_service::take_block() {
    http_block* const block = free_;
    if (!block) return new http_block(limits.answer_bytes);
    free_ = block->next;
    --free_count_;
    return block;
}
std::size_t http_service::memory_of_answer(const http_block* have) const noexcept {
    constexpr std::size_t texts = 2048, position = 4096;  // of a page: as long as its longest series; what its cursor keeps
    return have || free_ ? texts : sizeof(http_block) + http_block::octets(limits.answer_bytes) + position + texts;
}
void http_service::give_block(http_block* block) noexcept {
    if (!block) return;
    narrow(*block);
    if (free_count_ == kept_blocks) {
        delete block;
        return;
    }
    block->ahead = block->ahead_end = 0;
    block->page.view = {};
    block->next = std::exchange(free_, block);
    ++free_count_;
}

void http_service::widen(http_block& block) noexcept {
    if (free_wide_count_ != 0) {
        block.wide = free_wide_[--free_wide_count_];
    } else if (wide_count_ < limits.long_answers) {
        block.wide = static_cast<char*>(try_memory(http_block::wide_bytes, 1));
        wide_count_ += block.wide != nullptr;
    }
}
void http_service::narrow(http_block& block) noexcept {
    if (!block.wide) return;
    if (free_wide_count_ != kept_blocks) {
        free_wide_[free_wide_count_++] = block.wide;
    } else {
        give_memory(block.wide, http_block::wide_bytes, 1);
        --wide_count_;
    }
    block.wide = nullptr;
}

const http_route* http_service::find(std::string_view path) const noexcept {
    for (const http_route& r : routes) if (same_path(path, r.path)) return &r;
    return nullptr;
}
std::uint64_t http_peer::of(const net_address& at) noexcept {
    std::uint64_t key = 1;
    const auto v4 = [](const void* octets) {
        std::uint32_t whole;
        std::memcpy(&whole, octets, 4);
        return std::uint64_t{0xffff} << 32 | whole;
    };
    if (at.family() == AF_INET) return v4(&at.v4().sin_addr);
    if (at.family() != AF_INET6) return key;
    const unsigned char* const octets = at.v6().sin6_addr.s6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&at.v6().sin6_addr)) return v4(octets + 12);
    std::memcpy(&key, octets, 8);
    return key;
}
http_peer* http_service::peer(std::uint64_t address) const noexcept {
    http_peer* p = peers_;
    while (p && p->address != address) p = p->next;
    return p;
}
http_peer* http_service::add_peer(std::uint64_t address) {
    http_peer* p = peer(address);
    if (!p) p = peers_ = new http_peer{{}, address, 0, 0, 0, peers_};
    ++p->connections;
    return p;
}
void http_service::drop_peer(http_peer* peer) noexcept {
    if (--peer->connections != 0) return;
    http_peer** at = &peers_;
    while (*at != peer) at = &(*at)->next;
    *at = peer->next;
    delete peer;
}
http_connection* http_service::handshake_victim(double now) const noexcept {
    const auto rank = [now](const http_connection* c) {
        return c->stream_.sent() == 0 ? 1 : now - c->moved_ >= 0.25 ? 2 : 0;
    };
    http_connection* found = handshaking.first;
    for (http_connection* c = found; c; c = c->next_) {
        const std::size_t more = c->peer_->connections, most = found->peer_->connections;
        if (more > most || (more == most && rank(c) > rank(found))) found = c;
    }
    return found;
}
http_connection* http_service::slowest(double now, const http_connection* but) const noexcept {
    http_connection* found = nullptr;
    for (http_connection* c = writing.first; c; c = c->next_) {
        const std::size_t more = c->peer_->connections, most = found ? found->peer_->connections : 0;
        if (c != but && (more > most || (more == most && c->lag(now) > found->lag(now)))) found = c;
    }
    return found;
}
http_connection* http_service::victim(double now, std::size_t newcomers) const noexcept {
    std::size_t most = 0;
    for (const http_peer* p = peers_; p; p = p->next) most = p->connections > most ? p->connections : most;
    for (http_connection* c = waiting.first; c; c = c->next_) if (c->peer_->connections == most) return c;
    http_connection* const silent = handshake_victim(now);
    if (silent && silent->peer_->connections == most) return silent;
    http_connection* const slow = slowest(now);
    return slow && (newcomers < most || slow->lag(now) >= 0.1) ? slow : nullptr;
}
http_connection* http_service::delayed_victim(http_connection* newcomer) const noexcept {
    std::size_t most = newcomer->peer_->delayed;
    for (const http_peer* p = peers_; p; p = p->next) most = p->delayed > most ? p->delayed : most;
    if (newcomer->peer_->delayed == most) return newcomer;
    http_connection* c = waiting.first;
    while (c->phase_ != http_connection::phase::delaying || c->peer_->delayed != most) c = c->next_;
    return c;
}
std::string_view http_service::date() noexcept {
    const double now = wall_now();
    if (now < date_second_ || now >= date_second_ + 1) {
        date_second_ = static_cast<double>(static_cast<std::int64_t>(now));
        http_date(now, date_);
    }
    return {date_, sizeof date_};
}

// If several addresses have connections, those of one address share what it may send in a turn, so that many readers
// at one address do not delay the others.
std::size_t http_connection::share() const noexcept {
    if (service_.turn == 0 || !service_.several_peers()) return turn_octets;
    if (std::exchange(peer_->turn, service_.turn) != service_.turn) peer_->octets_left = peer_octets;
    return peer_->octets_left < turn_octets ? peer_->octets_left : turn_octets;
}

// ---- connections on a loop ----

class http_server;

/// A connection that waits on a loop: for readiness and for one timer. The timer is only moved to earlier moments, which
/// is cheap; when it fires too early, it is set again.
class server_connection final : public http_connection {
public:
    server_connection(http_server& server, int fd, std::uint64_t from);
    ~server_connection() {
        const global_lock all;  // a fork takes it: in a child the descriptor is watched, or closed
        watch_.forget();
        close_descriptor();
    }
    /// Called after every move(): waits for what the connection wants, or deletes it.
    void wait_or_delete() noexcept;

    static void ready(void* self, interest);
    static void due(void* self) { static_cast<server_connection*>(self)->move(&http_connection::expire); }
    void move(void (http_connection::*how)(double));

private:
    http_server& server_;
    watch watch_;
    timer timer_;
};

struct http_listener : allocated {
    http_listener(http_server& owner, descriptor listens);
    http_listener(const http_listener&) = delete;
    http_server& server;
    descriptor held;
    const int fd = held.get();
    watch readiness;
};

class http_server : public http_service {
public:
    explicit http_server(event_loop& loop, bool with_tls = true, const server_limits& most = {});
    ~http_server();

    /// Owns `fd`, which listens and does not block.
    result<void> add(descriptor fd) { return add(owned<http_listener>(new http_listener(*this, std::move(fd)))); }
    result<void> add(owned<http_listener> made);
    /// A listener that accepts nothing yet.
    result<owned<http_listener>> listen_at(const net_address& at);
    /// Closes listeners and connections, as soon as none of them writes an answer.
    void stop() noexcept;
    bool moves() const noexcept { return inside_ != 0; }
    void (*destroy_after)(http_server& self) = nullptr;  // called when no connection writes an answer any more
    event_loop& loop() noexcept { return loop_; }
    void close_reserve() noexcept { reserve_.reset(); }

private:
    friend struct http_listener;
    static constexpr int turn_accepts = 16;
    static constexpr double pause = 0.1;

    friend class server_connection;
    void accept_from(http_listener& from);
    bool evict(std::size_t newcomers = ~std::size_t{0}) noexcept;
    void evict(http_connection* out) noexcept;
    void pause_accepting() noexcept;  // stops accepting for a short time
    static void rested(void* self);
    static int open_reserve() noexcept { return raw_socket(AF_UNIX, SOCK_DGRAM); }

    /// Exists while a connection or listener runs. Callbacks may end the server; that is then done afterwards.
    struct entered {
        http_server& server;
        explicit entered(http_server& s) noexcept : server(s) { ++server.inside_; }
        entered(const entered&) = delete;
        ~entered() {
            if (--server.inside_ != 0) return;
            if (std::exchange(server.stop_after_, false)) server.stop();
            if (server.destroy_after) server.destroy_after(server);
        }
    };
    int inside_ = 0;
    bool stop_after_ = false;

    event_loop& loop_;
    vector<owned<http_listener>> listeners_;
    timer resting_;
    descriptor reserve_;  // closed when no descriptors are left, to accept one connection and close it
};

server_connection::server_connection(http_server& server, int fd, std::uint64_t from)
    : http_connection(server, fd, server.loop().now(), from),
      server_(server),
      watch_(server.loop(), &ready, this),
      timer_(server.loop(), &due, this) {
    static_cast<void>(watch_.set(fd, interest::none));
}

void server_connection::ready(void* self, interest) {
    auto& c = *static_cast<server_connection*>(self);
    if (loop_state::of(c.server_.loop()).last_octet) c.last_octet();
    c.move(&http_connection::run);
}

// 1. The connection runs; an exception ends only this connection. 2. If too many 401 are delayed, this connection or
// another is dropped. If there are too many handshakes or answers, another one is dropped, never this one. 3. It waits again,
// or is deleted: *this may be destroyed at the end.
void server_connection::move(void (http_connection::*how)(double)) {
    const http_server::entered scope(server_);
    const double now = server_.loop().now();
    if (how == &http_connection::expire && deadline() > now) return wait_or_delete();
    const std::uint64_t turn = loop_state::of(server_.loop()).turns;
    if (std::exchange(server_.turn, turn) != turn) server_.handshake_done = false;
#if PROMETHEUS_ASYNC_EXCEPTIONS
    try {
        (this->*how)(now);
    } catch (...) {  // no memory, or an exception of a TLS adapter: only this connection ends
        server_.report(event_kind::callback_failed, caught("a connection"));
        at() == phase::writing ? reset() : close();
    }
#else
    (this->*how)(now);
#endif
    if (server_.delayed > http_service::most_delayed) {  // it is dropped without an answer, which would make the delay useless
        http_connection* const out = server_.delayed_victim(this);
        out == this ? close() : server_.evict(out);
    }
    if (server_.handshaking.size > server_.limits.handshakes)
        if (http_connection* const out = server_.handshake_victim(now); out != this) server_.evict(out);
    if (server_.writing.size > server_.limits.answers)
        if (http_connection* const out = server_.slowest(now, this)) server_.evict(out);
    wait_or_delete();
}

void server_connection::wait_or_delete() noexcept {
    if (!closed()) {
        const double when = deadline();
        if (unfinished()) loop_state::of(server_.loop()).behind = true;
        if (!timer_.armed() || when < timer_.when()) timer_.at(when);
        if (watch_.set(fd(), wants())) return;
    }
    delete this;
}

http_listener::http_listener(http_server& owner, descriptor listens)
    : server(owner), held(std::move(listens)), readiness(
          owner.loop(),
          [](void* self, interest) {
              auto& listener = *static_cast<http_listener*>(self);
              listener.server.accept_from(listener);
          },
          this) {
    static_cast<void>(readiness.set(fd, interest::none));  // so that a forked child finds the descriptor there
}

http_server::http_server(event_loop& loop, bool with_tls, const server_limits& most)
    : http_service(with_tls, most), loop_(loop), resting_(loop, &rested, this), reserve_(open_reserve()) {
    runs_on = &loop;
    move = [](http_connection& who, void (http_connection::*how)(double)) { static_cast<server_connection&>(who).move(how); };
}
http_server::~http_server() { stop(); }

result<owned<http_listener>> http_server::listen_at(const net_address& at) {
    result<descriptor> fd = descriptor();
    loop_state::of(loop_).opened([&] { return (fd = listen_on(at, limits.backlog)) ? fd->get() : -1; });
    if (!fd) return fd.why();
    return owned<http_listener>(new http_listener(*this, std::move(*fd)));
}
result<void> http_server::add(owned<http_listener> made) {
    listeners_.push_back(std::move(made));
    http_listener& from = *listeners_.back();
    return from.readiness.set(from.fd, interest::read);
}

void http_server::stop() noexcept {
    if (inside_ != 0) {
        stop_after_ = true;
        return;
    }
    {   // not in a destructor, because instances of std:: templates export it, and it uses the lock
        const global_lock all;  // in a forked child each is watched, or closed
        for (const auto& l : listeners_) {
            l->readiness.forget();
            l->held.reset();
        }
    }
    listeners_.clear();
    resting_.cancel();
    while (http_connection* const c = writing.first) {  // if the loop has ended before this server, there is none
        if (loop_state::of(loop_).ours()) c->reset();  // in a forked child the connection belongs to the parent
        delete static_cast<server_connection*>(c);
    }
    for (http_queue* q : {&waiting, &handshaking}) while (q->first) delete static_cast<server_connection*>(q->first);
    reserve_.reset();
}

bool http_server::evict(std::size_t newcomers) noexcept {
    http_connection* const out = victim(loop_.now(), newcomers);
    if (out) evict(out);
    return out != nullptr;
}
void http_server::evict(http_connection* out) noexcept {
    report(event_kind::connection_evicted, {errc::limit, "a connection was closed to make room: of the address with most connections, the longest idle or the slowest"});
    if (out->at() == http_connection::phase::writing) out->reset();
    delete static_cast<server_connection*>(out);
}

void http_server::pause_accepting() noexcept {
    for (const auto& l : listeners_) (void)l->readiness.set(l->fd, interest::none);
    resting_.after(pause);
}
void http_server::rested(void* self) {
    auto& server = *static_cast<http_server*>(self);
    if (!server.reserve_) server.reserve_.reset(open_reserve());
    for (const auto& l : server.listeners_)
        if (!l->readiness.set(l->fd, interest::read)) server.resting_.after(pause);
}

void http_server::accept_from(http_listener& from) {
    const entered scope(*this);
    int failures = 0;
    bool evicted = false;
    net_address whose;
    for (int i = 0; i != turn_accepts && !stop_after_; ++i) {
        const int fd = loop_state::of(loop_).opened([&] { return accept_on(from.fd, whose); });
        if (fd < 0) {
            const int why = errno;
            if (why == EAGAIN || why == EWOULDBLOCK) return;
            if (why == EMFILE || why == ENFILE || why == ENOBUFS || why == ENOMEM) {
                if (!std::exchange(evicted, true) && evict()) continue;  // once for each new one, because the whole machine may have no descriptors left
                report(event_kind::accept_failed, error::from_errno("accept", why));
                if (reserve_) {  // removes one from the queue; otherwise the listener would stay readable
                    reserve_.reset();
                    descriptor(accept_on(from.fd, whose)).reset();
                    reserve_.reset(open_reserve());
                }
                return pause_accepting();
            }
            report(event_kind::accept_failed, error::from_errno("accept", why));  // an error of this connection only
            if (++failures == turn_accepts) return pause_accepting();
            continue;
        }
        evicted = false;
        const std::uint64_t from_address = http_peer::of(whose);
        const http_peer* const others = peer(from_address);
        const bool full = connections >= limits.connections && !evict(others ? others->connections + 1 : 1);
        server_connection* c = nullptr;
        if (!memory_for(sizeof(server_connection) + sizeof(http_peer))) {
            loop_state::of(loop_).unwatched = -1;
            sys::close(fd);
            report(event_kind::accept_failed, {errc::system, "a connection: no memory", ENOMEM});
            return pause_accepting();
        }
#if PROMETHEUS_ASYNC_EXCEPTIONS
        try {
            c = new server_connection(*this, fd, from_address);
        } catch (...) {
            loop_state::of(loop_).unwatched = -1;
            sys::close(fd);
            report(event_kind::accept_failed, caught("a connection"));
            return pause_accepting();
        }
#else
        c = new server_connection(*this, fd, from_address);
#endif
        if (!full) {
            c->move(&http_connection::run);  // its request may be there already: serve it before new ones evict it
            continue;
        }
        report(event_kind::connection_refused, {errc::limit, "no connection could be evicted for a new one"});
        c->move(&http_connection::refuse);
        return pause_accepting();
    }
    loop_state::of(loop_).behind = true;
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [67] server main                                  starting, closing, the thread
//      needs [38] [41] [66]
// =============================================================================
#include <netdb.h>
PROMETHEUS_ASYNC_BEGIN
namespace detail {

struct PROMETHEUS_ASYNC_LOCAL server_state final : http_server, allocated {
    server_state(event_loop& loop, const server_options& options);
    ~server_state();

    void bad(std::string_view why) { if (valid) valid = error(errc::invalid_option, why); }
    http_route& add_route(std::string_view path, std::string_view text, std::string_view type);
    result<void> listen();
    void shut() noexcept;  // closes socket and connections; idempotent
    void make_url();
    void set_https(bool on) noexcept;
    registration take_registration();  // the registration, if there is one; empty afterwards
    bool registered();
    void end() noexcept;  // closes, and makes de-registration closing work of the loop

    static metrics_http_server handle(server_state* s) noexcept { return metrics_http_server(s); }
    static const server_state* of(const metrics_http_server& server) noexcept { return server.state_; }
    static void close_reserve_of(metrics_http_server& server) noexcept { server.state_->close_reserve(); }
    void keep() noexcept { ++references; }
    void release() noexcept {
        if (--references != 0) return;
        if (moves()) destroy_after = [](http_server& self) { delete static_cast<server_state*>(&self); };
        else delete this;
    }

    unsigned references = 1;
    string wanted, address, advertise, url;
    const address_code* const places;  // null: all interfaces
    std::uint16_t port;
    descriptor handed_in;
    const handed_in_code* from_outside = nullptr;
    bool https = false, unix_socket = false;
    service_discovery* discovery = nullptr;   // until the start has ended
    const registering* const work = nullptr;  // null: without a discovery
    result<void> valid;
    registration with;
    mutex lock;  // protects `with`, because any thread may call is_registered()
    attachment attached;

private:
    static result<void> listen_wanted(server_state& s);
    result<void> listen_any();
    result<void> listen_first(std::span<net_address> at);
    result<void> use(owned<http_listener> first);
    result<void> listen_handed_in();
    result<void> listen_unix(const net_address& at);
    friend struct address_code;
    friend struct handed_in_code;
    const ::pid_t process_ = sys::getpid();  // a forked child must not remove the parent's socket file or registration
    ::dev_t device_ = 0;  // of the socket's file, because another file at its path is not removed
    ::ino_t file_ = 0;
};

/// What only a server with a discovery does: reached by a pointer that each service_discovery has.
struct PROMETHEUS_ASYNC_LOCAL registering {
    task<result<metrics_http_server>> (*start)(owned<server_state> made);
    task<result<void>> (*close)(shared<server_state> server);
    bool (*begin)(server_state& server, const deferred<result<void>>& ended);
};

/// Reads the protected member: a friend would make the destructor accessible, about which g++ warns.
struct PROMETHEUS_ASYNC_LOCAL work_of_discovery : service_discovery {
    static const registering* of(const service_discovery* d) noexcept { return d ? d->*&work_of_discovery::work_ : nullptr; }

protected:
    ~work_of_discovery() = default;
};

/// A text that may stand in a head.
static bool plain(std::string_view s) noexcept {
    for (char c : s) if (!classes.is(c, octet_classes::value)) return false;
    return s.size() <= 128;
}
static bool is_listening(int fd) noexcept {
    int is = 0;
    socklen_t size = sizeof is;
    return fd >= 0 && sys::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is, &size) == 0 && is != 0;
}

server_state::server_state(event_loop& on, const server_options& o)
    : http_server(on, bool(o.tls), o.limits), wanted(o.addr), advertise(o.advertise), places(o.addr.code()), port(o.port), https(bool(o.tls)),
      discovery(o.service_discovery), work(work_of_discovery::of(discovery)),
      attached(on, [](void* self) noexcept { static_cast<server_state*>(self)->end(); }, this) {
    if (o.listen_fd.code()) o.listen_fd.code()->take(*this, o.listen_fd);
    // A linker may resolve weak addresses to null in an object without the library's code: what was asked for is then refused.
    if ((o.tls && !o.tls.open.code()) || (!o.credentials.empty() && !o.credentials.code()) || (o.authorizer && !code_of(o.authorizer)) ||
        (!o.allowed_hosts.empty() && !o.allowed_hosts.code()) || (!o.routes.empty() && !o.routes.code()) ||
        (o.listen_fd != handed_in_code::unset && !o.listen_fd.code()) || (o.self_metrics && !o.self_metrics.code()))
        bad("server_options were filled in an object without the code of the library: see PROMETHEUS_ASYNC_SHARED");
    if (!wanted.empty() && !places) bad("server_options::addr was changed through a reference to std::string_view: assign to addr itself");
    tls = o.tls;
    const decision_code* const asks = o.credentials.code() ? o.credentials.code() : code_of(o.authorizer);
    if (asks)
        if (const auto opened = asks->open(*this, o.credentials, o.authorizer); !opened) valid = opened;
    on_collector_error = o.on_collector_error;
    created = o.created;
    native_histograms = o.native_histograms;
    start_timestamps = o.start_timestamps;
    formats.assign(o.formats.begin(), o.formats.end());
    gzip = gzip && o.gzip;
    on_event = o.on_event;
    context = o.context;
    if (o.self_metrics.code()) metrics = owned<http_metrics>(o.self_metrics.code()->make());
    if (limits.connections == 0 || limits.handshakes == 0 || limits.answers == 0 || limits.requests_per_connection == 0 ||
        limits.header_bytes < 64 || limits.request_line < 16 || limits.answer_bytes < 2048 || limits.answer_bytes > http_block::wide_size)
        bad("server limits: with these no request could be answered");
    if (!plain(advertise) || advertise.find_first_of(" /?#@") != string::npos)
        bad("advertise: a host, without scheme, port or path");
    if (o.allowed_hosts.code()) o.allowed_hosts.code()->take(*this, o.allowed_hosts);
    if (o.routes.code()) o.routes.code()->take(*this, o.routes);
    if (o.routes.empty()) {
        add_route("/", "<html><body><a href=\"/metrics\">Metrics</a></body></html>", "text/html");  // upstream's octets
        add_route("/metrics", {}, {});
    }
    if (o.process_start_header) {
        const double known = process_facts().started;
        const auto seconds_since_1970 = static_cast<std::uint64_t>(known > 0 ? known : wall_now());
        process_start = text_of({"Process-Start-Time-Unix: ", digits(seconds_since_1970), "\r\n"});
    }
}

http_route& server_state::add_route(std::string_view path, std::string_view text, std::string_view type) {
    http_route& made = routes.emplace_back();
    made.path = path;
    made.text = text;
    made.content_type = type;
    made.is_text = !text.empty();
    return made;
}
const routes_code routes_code::all{[](server_state& s, list<route> from) {
    for (const route& r : from) {
        if (!r.path.starts_with('/')) s.bad("routes: a path begins with /");
        if (!plain(r.content_type)) s.bad("routes: a content type of at most 128 printable characters");
        if (!r.text.empty() + bool(r.check) + (!r.registries.empty() || r.view) > 1) s.bad("routes: either registries, or a text, or a check");
        http_route& made = s.add_route(r.path, r.text, r.content_type);
        made.registries.assign(r.registries.begin(), r.registries.end());
        made.sharing = r.registries.code();
        made.open = r.open;
        made.check = r.check;
        made.view = r.view;
    }
}};
const hosts_code hosts_code::all{
    [](server_state& s, list<std::string_view> from) {
        s.hosts = &all;
        for (std::string_view host : from) {
            const string& kept = s.allowed_hosts.emplace_back(valid_ipv6(host) ? bracketed(host) : string(host));
            if (!valid_authority(kept) || host_of(kept).empty() || host_of(kept) == ".")
                s.bad(text_of({"allowed_hosts: \"", kept, "\" is not a host: a name (in ASCII: xn--...) or an address, with or without a port"}));
        }
    },
    [](const http_service& s, std::string_view host) {
        const std::string_view name = host_of(host);
        net_address asked, ours;
        const bool is_v6 = name.find(':') != name.npos && parse_address(name, 0, asked);
        for (const string& allowed : s.allowed_hosts) {
            const std::string_view other = host_of(allowed);
            if (same_word(name, other)) return true;
            if (is_v6 && other.find(':') != other.npos && parse_address(other, 0, ours) &&
                IN6_ARE_ADDR_EQUAL(&asked.v6().sin6_addr, &ours.v6().sin6_addr))
                return true;
        }
        return false;
    }};

server_state::~server_state() { shut(); }

void server_state::shut() noexcept {
    stop();
    struct ::stat now;
    if (file_ != 0 && sys::getpid() == process_ && sys::lstat(address.c_str(), &now) == 0 && now.st_dev == device_ && now.st_ino == file_)
        sys::unlink(address.c_str());
    file_ = 0;
}

result<void> server_state::listen_handed_in() {
    descriptor fd = std::move(handed_in);
    const int flags = sys::fcntl(fd.get(), F_GETFL);
    if (flags < 0 || sys::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0 ||
        sys::fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0)
        return error::from_errno("listen_fd", errno);
    no_delay(fd.get());
    const net_address at = local_address(fd.get());
    address = at.text();
    port = at.port();
    unix_socket = at.family() == AF_UNIX;
    return add(std::move(fd));
}
const handed_in_code handed_in_code::all{
    [](server_state& s, int fd) {
        s.from_outside = &all;
        if (is_listening(fd)) s.handed_in.reset(fd);
        else if (fd >= 0) s.bad("listen_fd: not a listening socket");
    },
    [](server_state& s) { return s.listen_handed_in(); }};

result<void> server_state::listen_unix(const net_address& at) {
    unix_socket = true;
    address = at.text();
    const ::mode_t before = ::umask(0117);  // access for owner and group only; during this call it also applies to files of other threads
    auto made = listen_at(at);
    ::umask(before);
    if (!made) return made.why();
    struct ::stat file;
    if (address[0] != '@' && sys::lstat(address.c_str(), &file) == 0) device_ = file.st_dev, file_ = file.st_ino;
    return add(std::move(*made));
}

static void two_addresses(std::span<net_address> to, std::string_view first, std::string_view second, std::uint16_t port) noexcept {
    parse_address(first, port, to[0]);
    parse_address(second, port, to[1]);
}

/// The addresses of server_options::addr, in the order to try: several for localhost and a host name.
static result<vector<net_address>> addresses_of(std::string_view host, std::uint16_t port) {
    vector<net_address> found(2);
    if (is_localhost(host)) return two_addresses(found, "127.0.0.1", "::1", port), std::move(found);
    found.resize(1);
    if (parse_address(host, port, found[0])) return found;
    const auto no = [host](std::string_view why) {
        return error_of(errc::invalid_option, {"cannot listen on ", host.substr(0, 50), ": ", why});
    };
    if (host.find("://") != host.npos) return no("a host, without scheme, port or path");
    if (host == "*") return no("for all interfaces use \"\"");
    const std::string_view after = host.substr(host.rfind(':') + 1);
    bool name = true;
    if (after.size() != host.size() && !after.empty() && all_digits(after) && host[host.size() - after.size() - 1] == ':' &&
        (host[0] == '[' || host.find(':') == host.size() - after.size() - 1))
        return no("give the port in .port");
    // A name that ends in a number is an invalid address, which resolvers interpret differently.
    const std::string_view whole = host_of(host), last = whole.substr(whole.rfind('.') + 1);
    for (char c : host) name = name && (ascii_letter_or_digit(c) || c == '.' || c == '-' || c == '_');
    if (!name || all_digits(last) || same_word(last.substr(0, 2), "0x"))
        return no("it is not an address, a host name or unix:/path");
    addrinfo hints{}, *first = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    const int failed = ::getaddrinfo(string(host).c_str(), text_of({digits(port)}).c_str(), &hints, &first);
    if (failed != 0) return no(::gai_strerror(failed));
    found.clear();
    for (const addrinfo* a = first; a; a = a->ai_next) {
        net_address to;
        std::memcpy(&to.any, a->ai_addr, to.size = a->ai_addrlen);
        bool again = false;  // a name may occur twice in the hosts file
        for (const net_address& one : found) again = again || (one.size == to.size && std::memcmp(&one.any, &to.any, sizeof to.any) == 0);
        if (!again) found.push_back(to);
    }
    ::freeaddrinfo(first);
    return found;
}

/// Whether an address does not exist on this host.
constexpr bool absent(int why) noexcept { return why == EAFNOSUPPORT || why == EADDRNOTAVAIL; }

result<void> server_state::listen() {
    if (handed_in) return from_outside->listen(*this);
    return places ? places->listen(*this) : listen_any();
}
/// Where "::" exists, it accepts IPv4 too.
result<void> server_state::listen_any() {
    net_address at;
    parse_address("::", port, at);
    auto made = listen_at(at);
    if (!made && absent(made.why().sys())) {
        parse_address("0.0.0.0", port, at);
        made = listen_at(at);
    }
    if (made) return use(std::move(*made));
    return error::from_errno(text_of({"cannot listen on 0.0.0.0:", digits(port)}), made.why().sys());
}
result<void> server_state::use(owned<http_listener> first) {
    const net_address bound = local_address(first->fd);
    address = bound.text();
    port = bound.port();
    return add(std::move(first));
}

result<void> server_state::listen_wanted(server_state& s) {
    std::string_view host = s.wanted;
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    if (host.empty()) return s.listen_any();
    auto at = addresses_of(host, s.port);
    if (!at) return at.why();
    if (at->front().family() == AF_UNIX) return s.listen_unix(at->front());
    return s.listen_first({at->begin(), at->size()});
}
const address_code address_code::all{&server_state::listen_wanted};

result<void> server_state::listen_first(std::span<net_address> at) {
    for (int attempt = 0;; ++attempt) {
        vector<owned<http_listener>> open;  // each has a watch without interest, so that a forked child finds the descriptor there
        result<void> failed;
        bool clash = false;  // the port that the system chose for one address is in use on another
        for (net_address& one : at) {
            if (clash) break;
            one.port(open.empty() ? port : local_address(open[0]->fd).port());
            auto made = listen_at(one);
            if (made) {
                open.push_back(std::move(*made));
                continue;
            }
            failed = made.why();
            const int why = made.why().sys();
            if (absent(why)) continue;  // another address may be there
            clash = !open.empty() && port == 0 && attempt != 16;
            if (!clash) return failed;
        }
        if (clash) continue;
        if (open.empty()) return failed;
        result<void> added;
        for (auto& one : open)
            if (added) added = &one == open.begin() ? use(std::move(one)) : add(std::move(one));
        return added;
    }
}

void server_state::make_url() {
    if (unix_socket) return void(url = text_of({"unix:", address}));
    std::string_view host = !advertise.empty() ? advertise : address, zone;
    if (advertise.empty() && (host == "0.0.0.0" || host == "::")) host = "127.0.0.1";
    const bool bare = host.find(':') != host.npos && host[0] != '[';  // IPv6 without its brackets
    const std::size_t percent = bare ? host.find('%') : host.npos;
    if (percent != host.npos) {
        zone = host.substr(percent + 1);  // RFC 6874
        host = host.substr(0, percent);
    }
    url = text_of({"https://", bare ? "[" : "", host, percent == host.npos ? "" : "%25", zone, bare ? "]:" : ":", digits(port), "/"});
    if (!https) url.erase(4, 1);
}
void server_state::set_https(bool on) noexcept {
    if (https == on) return;
    https = on;
    if (unix_socket || url.empty()) return;
    if (on) url.insert(4, "s");  // it has had this octet before, so this allocates nothing
    else url.erase(4, 1);
}

registration server_state::take_registration() {
    const locked hold(lock);
    if (sys::getpid() != process_) return {};
    return std::exchange(with, {});
}
bool server_state::registered() {
    const locked hold(lock);
    bool known = bool(with.deregister);
    if (known && with.registered) contain("a registration", [&] { known = with.registered(); }, [&](const error&) { known = false; });
    return known;
}

// ---- de-registration: it may outlive its server and the coroutine that waits for it ----

/// Runs to its end, or to the end of the loop's budget, also when no coroutine waits any more. It moves `from` when it starts.
inline task<void> deregister(registration& from, deferred<result<void>> ended) {
    registration with = std::move(from);
    undo abandoned{[&] { ended.fire(result<void>(error(errc::canceled, "de-registration was abandoned"))); }};
    result<void> how;
#if PROMETHEUS_ASYNC_EXCEPTIONS
    try {
        how = co_await with.deregister();
    } catch (...) {
        how = caught("de-registration");
    }
#else
    how = co_await with.deregister();
#endif
    abandoned.done = true;
    ended.fire(how);
}

/// False when there is nothing to de-register. When there is no memory, the server keeps its registration.
inline bool begin_deregistration(server_state& server, const deferred<result<void>>& ended) {
    registration with = server.take_registration();
    if (!with.deregister) return false;
    undo back{[&] {
        const locked hold(server.lock);
        server.with = std::move(with);
    }};
    server.loop().spawn_closing(deregister(with, ended));
    back.done = true;
    return true;
}

void server_state::end() noexcept {
    shut();
    if (work) contain("de-registration", [this] { work->begin(*this, {}); }, [](const error&) {});
}

inline task<result<void>> close_registered(shared<server_state> server) {
    const undo at_end{[&] { server->shut(); }};  // whatever de-registration does
    const deferred<result<void>> ended;
    if (!begin_deregistration(*server, ended)) co_return {};
    const result<void> how = co_await within(server->loop(), seconds(loop_state::of(server->loop()).budget), ended);
    if (!ended.fired()) co_return error(errc::timeout, "de-registration took longer than the closing budget");
    co_return how;
}

inline task<result<void>> close_alone(shared<server_state> server) {
    if (server) server->shut();
    co_return {};
}

/// Listens. After an error nothing is open.
inline result<metrics_http_server> open_server(owned<server_state> made) {
    server_state& s = *made.get();
    if (!s.valid) return s.valid.why();
    if (const auto listening = s.listen(); !listening) return listening.why();
    s.make_url();
    if (s.auth && s.auth->has_credentials && !s.tls && !s.unix_socket && s.address != "::1" && !s.address.starts_with("127."))
        s.report(event_kind::credentials_in_clear, {errc::invalid_option, "passwords and tokens are sent without encryption: use TLS"});
    return server_state::handle(made.release());
}
inline task<result<metrics_http_server>> start_alone(owned<server_state> made) { co_return open_server(std::move(made)); }
inline task<result<metrics_http_server>> start_registered(owned<server_state> made) {
    server_state& s = *made.get();
    auto server = open_server(std::move(made));
    if (!server) co_return server.why();
    auto with = co_await s.discovery->register_server(s.loop(), *server);
    if (!with) co_return with.why();
    s.with = std::move(*with);
    co_return std::move(server);
}

const registering with_discovery{&start_registered, &close_registered, &begin_deregistration};

}  // namespace detail

task<result<metrics_http_server>> start_http_server(event_loop& loop, const server_options& options) {
    owned<detail::server_state> made(new detail::server_state(loop, options));
    return made->work ? made->work->start(std::move(made)) : detail::start_alone(std::move(made));
}

metrics_http_server& metrics_http_server::operator=(metrics_http_server&& other) noexcept {
    if (this != &other) {
        metrics_http_server old(std::move(*this));
        state_ = detail::exchanged(other.state_, nullptr);
    }
    return *this;
}
metrics_http_server::~metrics_http_server() {
    if (detail::server_state* const s = detail::exchanged(state_, nullptr)) {
        s->end();
        s->release();
    }
}

std::string_view metrics_http_server::address() const noexcept {
    return state_ ? std::string_view(state_->address) : std::string_view();
}
std::uint16_t metrics_http_server::port() const noexcept { return state_ ? state_->port : std::uint16_t{0}; }
bool metrics_http_server::https() const noexcept { return state_ && state_->https; }
void metrics_http_server::https(bool on) noexcept { if (state_) state_->set_https(on); }
zstring_view metrics_http_server::url() const noexcept { return state_ ? zstring_view(state_->url.c_str(), state_->url.size()) : zstring_view(); }
std::string_view metrics_http_server::advertise() const noexcept {
    return state_ ? std::string_view(state_->advertise) : std::string_view();
}
bool metrics_http_server::is_registered() const noexcept { return state_ && state_->registered(); }
task<result<void>> metrics_http_server::close() {
    const detail::shared<detail::server_state> s(state_);
    return s && s->work ? s->work->close(s) : detail::close_alone(s);
}

#if !PROMETHEUS_ASYNC_NO_THREADS
// ---- a server with its own loop and thread ----

struct PROMETHEUS_ASYNC_LOCAL threaded_metrics_http_server::state : detail::allocated {
    const server_options* options = nullptr;  // until the start has ended
    pthread_t thread{};
    const ::pid_t process = detail::sys::getpid();
    detail::mutex lock;
    pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
    bool started = false, closing = false, joined = false, finished = false;
    result<void> outcome;                // of the start, then of close()
    event_loop* loop = nullptr;          // while it runs
    metrics_http_server* server = nullptr;
    std::coroutine_handle<> sleeper;     // serve(), until close() wakes it
    detail::string address, url;
    std::uint16_t port = 0;
    bool https = false;

    struct woken {
        state& s;
        bool await_ready() const noexcept { return s.closing; }
        void await_suspend(std::coroutine_handle<> h) const noexcept { s.sleeper = h; }
        void await_resume() const noexcept {}
    };
    task<void> serve(event_loop& on);
    void announce(result<void> how) noexcept;
    static void* main(void* self) noexcept;
    /// False in a forked child: it does not have the thread, and the lock may be locked forever there.
    bool ours() const noexcept { return detail::sys::getpid() == process; }
};

void threaded_metrics_http_server::state::announce(result<void> how) noexcept {
    const detail::locked hold(lock);
    outcome = how;
    started = true;
    pthread_cond_signal(&changed);
}

task<void> threaded_metrics_http_server::state::serve(event_loop& on) {
    auto made = co_await start_http_server(on, *options);
    if (!made) {
        announce(made.why());
        co_return;
    }
    address = made->address();
    url = made->url();
    port = made->port();
    https = made->https();
    loop = &on;
    server = &*made;
    announce({});
    co_await woken{*this};
    result<void> how = co_await made->close();
    const detail::locked hold(lock);
    server = nullptr;
    outcome = how;
}

void* threaded_metrics_http_server::state::main(void* self) noexcept {
    auto& s = *static_cast<state*>(self);
#if defined(__APPLE__)
    pthread_setname_np("PromAsyncWeb");
#elif PROMETHEUS_ASYNC_DETAIL_LINUX
    pthread_setname_np(pthread_self(), "PromAsyncWeb");  // not there? Define PROMETHEUS_ASYNC_SMALL_LIBC as 1
#endif
    detail::contain("the server's thread", [&s] {
        event_loop own;
        struct forget {  // also when the loop throws, because close() must not post to a destroyed loop
            state& of;
            ~forget() {
                const detail::locked hold(of.lock);
                of.loop = nullptr;
                of.server = nullptr;
            }
        } at_end{s};
        own.run(s.serve(own));
    }, [&s](const error& why) { if (!s.started) s.announce(why); });
    return nullptr;
}

result<threaded_metrics_http_server> start_http_server_in_thread(const server_options& options) {
    threaded_metrics_http_server made;
    auto* const s = made.state_ = new threaded_metrics_http_server::state{};
    s->options = &options;
    if (const int failed = detail::start_thread(s->thread, &threaded_metrics_http_server::state::main, s)) {
        s->joined = s->finished = true;
        return error::from_errno("cannot start a thread", failed);
    }
    {
        const detail::locked hold(s->lock);
        while (!s->started) s->lock.wait(s->changed);
    }
    s->options = nullptr;
    if (s->outcome) return made;
    pthread_join(s->thread, nullptr);
    s->joined = s->finished = true;
    return s->outcome.why();
}

threaded_metrics_http_server& threaded_metrics_http_server::operator=(threaded_metrics_http_server&& other) noexcept {
    if (this != &other) {
        threaded_metrics_http_server old(std::move(*this));
        state_ = detail::exchanged(other.state_, nullptr);
    }
    return *this;
}
threaded_metrics_http_server::~threaded_metrics_http_server() {
    static_cast<void>(close());
    delete state_;
}
std::string_view threaded_metrics_http_server::address() const noexcept {
    return state_ ? std::string_view(state_->address) : std::string_view();
}
std::uint16_t threaded_metrics_http_server::port() const noexcept { return state_ ? state_->port : std::uint16_t{0}; }
bool threaded_metrics_http_server::https() const noexcept { return state_ && state_->https; }
zstring_view threaded_metrics_http_server::url() const noexcept { return state_ ? zstring_view(state_->url.c_str(), state_->url.size()) : zstring_view(); }
bool threaded_metrics_http_server::is_registered() const noexcept {
    if (!state_ || !state_->ours()) return false;
    const detail::locked hold(state_->lock);
    return state_->server && state_->server->is_registered();
}
result<void> threaded_metrics_http_server::close() {
    if (!state_) return {};
    state& s = *state_;
    if (!s.ours()) {
        if (s.server) detail::server_state::close_reserve_of(*std::exchange(s.server, nullptr));
        if (s.loop) detail::loop_state::of(*std::exchange(s.loop, nullptr)).close_copies();
        return {};
    }
    s.lock.lock();
    if (!s.joined && pthread_equal(pthread_self(), s.thread)) {
        s.lock.unlock();
        return error(errc::invalid_option, "close() was called in the server's own thread");
    }
    const bool first = !std::exchange(s.joined, true);
    if (first && s.loop) {
        const auto ask = [&s] {
            s.loop->post([&s] {
                s.closing = true;
                if (auto sleeper = std::exchange(s.sleeper, nullptr)) sleeper.resume();
            });
        };
        // Without memory the server closes too, but the result of the de-registration is unknown.
        detail::contain("close()", ask, [&s](const error&) { s.loop->stop(); });
    }
    while (!first && !s.finished) s.lock.wait(s.changed);
    s.lock.unlock();
    if (first) {
        pthread_join(s.thread, nullptr);
        const detail::locked hold(s.lock);
        s.finished = true;
        pthread_cond_broadcast(&s.changed);
    }
    return s.outcome;
}
#endif

PROMETHEUS_ASYNC_END

#if !PROMETHEUS_ASYNC_NO_DISCOVERY  // rooms [68] to [74]

// =============================================================================
// [68] http client                                  one request, one response, deadlines
//      needs [58] [61] [62]
// =============================================================================
#if !PROMETHEUS_ASYNC_NO_THREADS
#include <netdb.h>
#endif
PROMETHEUS_ASYNC_BEGIN
namespace detail {

/// A text that is overwritten before its memory is freed.
struct secret_text {
    string text;
    secret_text() = default;
    explicit secret_text(std::string_view from) : text(from) {}
    secret_text(const secret_text&) = default;
    secret_text& operator=(const secret_text&) = delete;
    /// All of the memory: a shorter text may have taken the place of a longer one.
    ~secret_text() { for (volatile char *c = text.data(), *const end = c + text.capacity(); c != end; ++c) *c = 0; }
};

/// Removes a secret of ours from the answer of a server that repeats it.
inline void redact(string& said, std::string_view secret) {
    if (secret.empty()) return;
    string rest;  // a new text, so that removing many repetitions takes linear time
    std::size_t from = 0;
    for (std::size_t at; (at = said.find(secret, from)) != string::npos; from = at + secret.size())
        rest.append(said, from, at - from).append("[token]");
    if (from != 0) said.swap(rest.append(said, from));
}

// ---- waiting ----

/// The pauses after failures: 1 s, 2 s, ... 60 s, and up to a quarter more, so that many processes do not all try at the same
/// time.
struct retry_pauses {
    double last = 0;  // the last pause; 0 after a success
    std::uint64_t seed = 0;

    /// A random number from 0 to 1.
    double jitter() noexcept {
        if (seed == 0) {
            const double now = wall_now();
            std::memcpy(&seed, &now, sizeof seed);
            seed ^= reinterpret_cast<std::uintptr_t>(this) ^ (static_cast<std::uint64_t>(sys::getpid()) << 32);
        }
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        return static_cast<double>(seed >> 11) * 0x1p-53;
    }
    /// The next pause; at least what the server asked for.
    double next(double retry_after) noexcept {
        last = last == 0 ? 1 : last < 30 ? last * 2 : 60;
        const double pause = (last > retry_after ? last : retry_after) * (1 + jitter() / 4);
        return pause < 60 ? pause : 60;
    }
};

/// The same error; but a timeout gets the text `late`, which says what the wait was for.
inline error name_timeout(const error& why, std::string_view late) noexcept {
    return why.code() == errc::timeout ? error(errc::timeout, late) : why;
}

// ---- names ----

#if !PROMETHEUS_ASYNC_NO_THREADS
/// One question to the resolver, which blocks, on its own thread.
struct name_question : asked_elsewhere<name_question> {
    string host;
    std::uint16_t port;
    int code = 0;
    vector<net_address> found;

    static void* answer(void* held) {
        const shared<name_question> q(static_cast<name_question*>(held));
        q->release();  // was kept when the thread was started
        addrinfo hints{}, *first = nullptr;
        hints.ai_socktype = SOCK_STREAM;
        hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV;
        contain("a resolver", [&] {
            const int how = ::getaddrinfo(q->host.c_str(), std::to_string(q->port).c_str(), &hints, &first);
            const locked hold(q->lock);
            q->code = how;
            for (const addrinfo* a = first; a; a = a->ai_next) {
                net_address& to = q->found.emplace_back();
                std::memcpy(&to.any, a->ai_addr, to.size = a->ai_addrlen);
            }
            q->wake_asker();
        }, [](const error&) {});  // no memory: the coroutine that waits gets a timeout
        if (first) ::freeaddrinfo(first);
        return nullptr;
    }
};
#endif

task<result<vector<net_address>>> resolve(
    [[maybe_unused]] event_loop& loop, [[maybe_unused]] wait_scope& scope, const http_endpoint& to,
    [[maybe_unused]] double until) {
    vector<net_address> found(1);
    if (same_word(to.host, "localhost")) {
        found.emplace_back();
        parse_address("127.0.0.1", to.port, found[0]);
        parse_address("::1", to.port, found[1]);
        co_return std::move(found);
    }
    if (parse_address(to.path.empty() ? to.host : to.path, to.port, found[0])) co_return std::move(found);
    if (!to.path.empty()) co_return error(errc::invalid_option, "the path of the unix socket is too long");
#if PROMETHEUS_ASYNC_NO_THREADS
    co_return error(errc::unsupported, "without threads names are not looked up: give an address for \"" + to.host + '"');
#else
    const auto question = shared(new name_question);
    question->host = to.host;
    question->port = to.port;
    question->loop = &loop;
    pause_wait answer(loop, &scope, -1, interest::none, until);
    question->asks = &answer;
    const name_question::forgotten at_the_end{*question};

    pthread_t thread;
    question->keep();  // for the thread
    if (const int failed = start_thread(thread, &name_question::answer, question.get())) {
        question->release();
        co_return error::from_errno("cannot start a resolver thread", failed);
    }
    ::pthread_detach(thread);

    co_await answer;
    if (!answer.how()) co_return name_timeout(answer.how().why(), "no address for the name in time");
    if (question->code == 0) co_return std::move(question->found);
    co_return error(errc::system, "no address for \"" + to.host + "\": " + ::gai_strerror(question->code));
#endif
}

// ---- one request, one response ----

struct http_deadlines {
    seconds connect = 3;     // for each address
    seconds handshake = 5;
    seconds first_octet = 10;
    seconds total = 15;
    std::size_t words = 0;   // how many octets of a body are stored; the body may be longer. 0: a body of at most 1 MiB
};

/// The rest of a body, made while it is sent.
struct http_body {
    pulled (*next)(void* self, std::span<char> into) noexcept;  // never failed; there may be no octets although there is more
    void* self;
};
struct http_request {
    std::string_view method;
    std::string_view target;         // percent-encoded
    std::string_view secret_name;    // a field whose value is overwritten after use and never shown; may be empty
    std::string_view secret{};
    std::string_view body{};
    std::string_view authorization{};  // a field's value, also overwritten; may be empty
    std::string_view content_type = "application/json";
    std::string_view content_encoding{};
    const http_body* rest = nullptr;   // the rest of the body, which is then sent in chunks

    /// Why it is not a valid request; null if it is.
    const char* flaw() const noexcept {
        bool good = !method.empty() && !target.empty() && target[0] == '/';
        for (char c : method) good = good && token_char(c);
        for (char c : secret_name) good = good && token_char(c);
        for (char c : authorization) good = good && c >= ' ' && c <= '~';
        if (!good || !visible(target)) return "not a request target, method or field";
        return visible(secret) ? nullptr : "a token has only visible ASCII characters";
    }
};
struct http_response {
    int status;
    double retry_after;
    string body;
};

/// One connection, and its requests one after the other. Redirects are not followed, and compressed answers are not
/// requested. After an exchange that was abandoned, its answer may still come: the next request is sent on the same
/// connection, so that the peer executes both in their order, and the client reads the first answer before the second.
///
/// lifetime the endpoint outlives the client; the client, the scope and the request outlive the tasks
/// errors   invalid_option before anything is sent; timeout, system, tls, protocol, canceled
class http_client : public allocated {
public:
    http_client(event_loop& loop, wait_scope& scope, const http_endpoint& to, const tls_config& tls,
                const http_deadlines& limits = {}) noexcept
        : loop_(loop), scope_(&scope), to_(to), tls_(tls), limits_(limits) {}
    http_client(const http_client&) = delete;

    /// Tries every address of the name. The time limit of the whole begins.
    task<result<void>> connect(const http_request& request);
    task<result<http_response>> exchange(const http_request& request);
    /// Called before an exchange on an open connection: sets the scope of its waits, and their time limit.
    void renew(wait_scope& scope, seconds total) noexcept {
        scope_ = &scope;
        total_ = loop_.now() + total.count();
    }
    bool owes() const noexcept { return owed_ != 0 && whole_; }
    /// Whether every answer was read, and the peer has neither closed nor sent anything since.
    bool reusable() const noexcept {
        char octet;
        return kept_ && owed_ == 0 && uninterrupted([&] { return sys::recv(fd_.get(), &octet, 1, MSG_PEEK); }) < 0 &&
               (errno == EAGAIN || errno == EWOULDBLOCK);
    }
    /// Sends close_notify over TLS, without waiting.
    void send_close_notify() { (void)stream_.shutdown(scratch_); }

    /// The local address of the connection. On loopback or a unix socket the peer is on this host.
    net_address here() const noexcept { return local_address(fd_.get()); }
    net_address there() const noexcept { return peer_address(fd_.get()); }

private:
    void hang_up() noexcept {
        const global_lock all;  // a fork takes it: in a child the descriptor is watched, or closed
        held_.forget();
        fd_.reset();
    }
    void compose(const http_request& request);
    bool next_chunk(const http_body& rest);
    bool answered_early();
    response_parser parser() const noexcept { return limits_.words ? response_parser(limits_.words, true) : response_parser(); }
    // The tasks of a bool leave the reason in failed_: a result would be a part of their frames and of their callers'.
    task<bool> send(const http_request& request);
    stream_io take_some(response_parser::status& status);
    task<bool> receive();  // into said_
    task<bool> let_others_run(double until, const char* late);
    response_parser::status feed(std::string_view octets) {
        heard_ = heard_ || !octets.empty();
        const auto status = answer_.feed(octets);
        early_.assign(octets.substr(octets.size() - answer_.surplus()));
        return status;
    }
    task<bool> connect_to(const net_address& address);
    task<bool> wait_for(stream_status how);  // until it may be tried again
    bool fail(const error& why) noexcept {
        if (failed_) failed_ = why;
        return false;
    }
    bool fail_late(std::string_view late) noexcept {
        failed_ = name_timeout(failed_.why(), late);
        return false;
    }
    void step(seconds limit) noexcept {              // begins a step with its own deadline, within the whole
        until_ = loop_.now() + limit.count() < total_ ? loop_.now() + limit.count() : total_;
    }

    event_loop& loop_;
    wait_scope* scope_;
    const http_endpoint& to_;
    tls_config tls_;
    http_deadlines limits_;
    descriptor fd_;
    watch held_{loop_, nullptr, nullptr};  // of fd_, without interest: a forked child finds there the descriptor that it must close
    double total_ = 0, until_ = 0;  // the deadlines of the whole and of the present step
    stream stream_;
    secret_text out_;         // requests; the first sent_ octets were sent
    std::size_t sent_ = 0;
    unsigned owed_ = 0;       // how many answers are still to come
    bool whole_ = true;       // out_ has the end of the last request
    bool kept_ = false;       // the connection can be used after the last answer
    bool heard_ = false;      // a part of the present answer was received
    response_parser answer_ = parser();
    result<void> failed_;  // the first failure of the present call
    http_response said_{};
    string early_;       // octets of the next answer
    char scratch_[4096];
};

task<result<void>> http_client::connect(const http_request& request) {
    if (const char* flaw = request.flaw()) co_return error(errc::invalid_option, flaw);
    if (to_.path.empty() && !host_text(to_.host)) co_return error(errc::invalid_option, "not a host name");
    if (to_.tls && !tls_) co_return error(errc::invalid_option, "https needs a tls_config");

    total_ = loop_.now() + limits_.total.count();
    const auto addresses = co_await resolve(loop_, *scope_, to_, total_);
    if (!addresses) co_return addresses.why();
    failed_ = error(errc::system, "no address");
    for (const net_address& address : *addresses) {
        failed_ = {};
        step(limits_.connect);
        if (co_await connect_to(address) || failed_.why().code() == errc::canceled) break;
    }
    if (!failed_) co_return name_timeout(failed_.why(), "no connection in time");
    stream_ = stream(fd_.get());
    if (!to_.tls) co_return {};
    if (!stream_.start_tls(tls_, host_of(bracketed(to_.host)))) co_return error(errc::tls, "no TLS session could be made");
    step(limits_.handshake);
    for (auto how = stream_status::want_write; how != stream_status::ok;) {
        how = stream_.handshake(scratch_);
        if (!co_await wait_for(how)) co_return name_timeout(failed_.why(), "no TLS handshake in time");
    }
    co_return {};
}

task<bool> http_client::connect_to(const net_address& address) {
    hang_up();
    fd_.reset(loop_state::of(loop_).opened([&] { return make_socket(address.family()).release(); }));
    if (!fd_) co_return fail(error::from_errno("socket", errno));
    no_delay(fd_.get());  // otherwise the end of a request waits until the peer has acknowledged its beginning
    if (failed_ = held_.set(fd_.get(), interest::none); !failed_) co_return false;
    if (sys::connect(fd_.get(), address.get(), address.size) == 0) co_return true;
    if (errno != EINPROGRESS && errno != EINTR) co_return fail(error::from_errno("connect", errno));
    pause_wait writable(loop_, scope_, fd_.get(), interest::write, until_);
    co_await writable;
    if (failed_ = writable.how(); !failed_) co_return false;
    if (const int failed = connect_error(fd_.get())) co_return fail(error::from_errno("connect", failed));
    co_return true;
}

task<bool> http_client::wait_for(stream_status how) {
    switch (how) {
    case stream_status::ok: co_return true;
    case stream_status::want_read:
    case stream_status::want_write: {
        const bool read = how == stream_status::want_read;
        const bool both = read ? stream_.pending() : !whole_ && owed_ == 1;
        const interest want = both ? interest::both : read ? interest::read : interest::write;
        if (loop_.now() >= until_) co_return fail({errc::timeout, "too late"});  // checked also if the descriptor is ready, because a peer may send all the time
        pause_wait ready(loop_, scope_, fd_.get(), want, until_);
        co_await ready;
        co_return ready.how() || fail(ready.how().why());
    }
    case stream_status::ended:
    case stream_status::cut: co_return fail({errc::tls, "the peer ended the connection"});
    default: co_return fail(stream_.why());
    }
}

constexpr std::size_t chunk_before = 8;  // "00004000\r\n" without its first two octets
inline void chunk_head(char* to, std::size_t size) noexcept {
    for (std::size_t i = chunk_before - 2; i-- != 0; size /= 16) to[i] = "0123456789abcdef"[size % 16];
    to[chunk_before - 2] = '\r';
    to[chunk_before - 1] = '\n';
}

void http_client::compose(const http_request& request) {
    secret_text message;  // its memory must not move when there is a secret in it
    string& out = message.text;
    out.reserve(out_.text.size() - sent_ + request.target.size() + to_.host.size() + request.secret_name.size() +
                request.secret.size() + request.authorization.size() + request.body.size() + request.content_type.size() + 512);
    out.append(out_.text, sent_).append(request.method).append(" ").append(request.target).append(" HTTP/1.1\r\nHost: ");
    out += to_.host.empty() ? "localhost" : bracketed(to_.host) + ':' + std::to_string(to_.port);
    out += "\r\nUser-Agent: prometheus_async.hpp/" PROMETHEUS_ASYNC_VERSION_STRING "\r\nAccept: */*\r\n";
    if (!request.body.empty()) out.append("Content-Type: ").append(request.content_type).append("\r\n");
    if (!request.content_encoding.empty()) out.append("Content-Encoding: ").append(request.content_encoding).append("\r\n");
    if (request.rest) out += "Transfer-Encoding: chunked\r\n";
    else if (request.method != "GET") out += "Content-Length: " + std::to_string(request.body.size()) + "\r\n";
    if (!request.secret.empty()) out.append(request.secret_name).append(": ").append(request.secret).append("\r\n");
    if (!request.authorization.empty()) out.append("Authorization: ").append(request.authorization).append("\r\n");
    out += "\r\n";
    if (request.rest) {
        char size[chunk_before + 1];
        chunk_head(size, request.body.size());
        out.append(size, chunk_before).append(request.body).append("\r\n");
    } else {
        out += request.body;
    }
    out.swap(out_.text);
    sent_ = 0;
    whole_ = !request.rest;
    ++owed_;
}

/// Makes the next chunk; false when there is nothing to send yet.
bool http_client::next_chunk(const http_body& rest) {
    constexpr std::size_t room = 16384;
    if (out_.text.capacity() < chunk_before + room + 7) {  // the memory of the head is overwritten
        secret_text larger;
        larger.text.reserve(chunk_before + room + 7);
        larger.text.swap(out_.text);
    }
    string& out = out_.text;
    out.resize(chunk_before + room);
    const pulled got = rest.next(rest.self, {out.data() + chunk_before, room});
    whole_ = got.what != pull::more;
    chunk_head(out.data(), got.bytes);
    out.resize(chunk_before + got.bytes);
    if (got.bytes != 0) out += "\r\n";
    else out.clear();
    if (whole_) out += "0\r\n\r\n";
    sent_ = 0;
    return !out.empty();
}

/// Whether the peer has answered, or has closed, before the end of the request.
bool http_client::answered_early() {
    if (whole_ || owed_ != 1) return false;  // the octets may belong to the answer of an earlier request
    char buffer[1024];
    const stream_io got = stream_.receive(buffer, scratch_);
    if (got.status == stream_status::want_read || got.status == stream_status::want_write) return false;
    return got.status != stream_status::ok || feed({buffer, got.bytes}) != response_parser::status::more || answer_.code() >= 200;
}

task<result<http_response>> http_client::exchange(const http_request& request) {
    if (const char* flaw = request.flaw()) co_return error(errc::invalid_option, flaw);
    compose(request);
    kept_ = false;
    failed_ = {};
    if (!co_await send(request)) {
        if (failed_.why().code() == errc::system && owed_ == 1 && !to_.tls) {
            stream_ = stream(fd_.get());  // the peer has closed, but may have sent an answer before, which can be read
            until_ = total_ = loop_.now();
            const bool said = co_await receive();
            owed_ = 0;
            kept_ = false;
            if (said) co_return std::move(said_);
        }
        if (failed_.why().code() != errc::timeout && failed_.why().code() != errc::canceled) owed_ = 0;  // the answers will never come
        co_return failed_.why();
    }
    for (;;) {
        const bool said = co_await receive();
        if (!whole_) kept_ = false;
        if (said && --owed_ != 0) continue;  // it is the answer of an earlier request
        if (!said && failed_.why().code() != errc::timeout && failed_.why().code() != errc::canceled) owed_ = 0;
        if (!said) co_return failed_.why();
        if (!kept_) send_close_notify();
        co_return std::move(said_);
    }
}

/// Lets the loop do other work, unless it is too late.
task<bool> http_client::let_others_run(double until, const char* late) {
    pause_wait turned(loop_, scope_, -1, interest::none, loop_.now());
    co_await turned;
    if (turned.how().why().code() == errc::canceled) co_return fail(turned.how().why());
    if (loop_.now() >= until) co_return fail({errc::timeout, std::string_view(late)});
    co_return true;
}

task<bool> http_client::send(const http_request& request) {
    step(limits_.first_octet);
    auto how = stream_status::ok;
    for (int chunks = 1;; ++chunks) {
        bool rests = false;
        if (how == stream_status::ok && sent_ == out_.text.size() && !whole_) rests = !next_chunk(*request.rest) || chunks % 8 == 0;
        const stream_io sent = stream_.send(std::string_view(out_.text).substr(sent_), scratch_);
        sent_ += sent.bytes;
        how = sent.status;
        if (how == stream_status::ok && whole_) co_return true;
        // With a long body other work of the loop must go on.
        if (rests && !co_await let_others_run(until_, "the request was not taken in time")) co_return false;
        if (!co_await wait_for(how)) co_return fail_late("the request was not taken in time");
        if (answered_early()) co_return true;
    }
}

/// Reads once. Its buffer is on the stack: in receive() it would be 4 KiB of the frame.
stream_io http_client::take_some(response_parser::status& status) {
    char buffer[4096];
    const stream_io got = stream_.receive(buffer, scratch_);
    if (got.status == stream_status::ok || got.status == stream_status::ended)
        status = got.bytes ? feed({buffer, got.bytes}) : answer_.finish();
    return got;
}
task<bool> http_client::receive() {
    std::size_t in_a_row = 0;
    for (auto status = feed(std::exchange(early_, {})); status != response_parser::status::done;) {
        if (status == response_parser::status::failed)
            co_return fail({errc::protocol, string("bad answer: ") + answer_.fault()});
        if (in_a_row >= 65536) {  // with an endless answer other work of the loop must go on, and the deadline is kept
            in_a_row = 0;
            if (!co_await let_others_run(total_, "no whole answer in time")) co_return false;
        }
        const stream_io got = take_some(status);
        if (got.status == stream_status::ok || got.status == stream_status::ended) {
            until_ = total_;
            in_a_row += got.bytes;
        } else if (!co_await wait_for(got.status)) {
            co_return fail_late(heard_ ? "no whole answer in time" : "no answer in time");
        }
    }
    said_ = {answer_.code(), answer_.retry_after(), std::move(answer_.body)};
    kept_ = answer_.reusable();
    heard_ = false;
    answer_ = parser();
    co_return true;
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [69] pushgateway                                  pages are checked, sent, and sent again
//      needs [39] [48] [49] [51] [68]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN
namespace detail {

// ---- what is pushed ----

inline bool is_among(const vector<string>& names, std::string_view name) noexcept {
    for (const string& each : names) if (each == name) return true;
    return false;
}

/// Reads a page while it is made, and finds series that a Pushgateway refuses, or whose labels it would overwrite.
class PROMETHEUS_ASYNC_LOCAL push_check {
public:
    /// `group`: the label names of the group; it outlives the check.
    explicit push_check(const vector<string>& group) noexcept : group_(&group) {}

    /// Checks octets of a page in text 0.0.4. False when it must not be pushed: see fault().
    bool feed(std::string_view octets);
#if !PROMETHEUS_ASYNC_NO_NATIVE
    /// The same for a complete page of delimited messages, which it rewrites: a gateway stores only the last message of a name,
    /// and the page of an older one ends, for all its users, at a gauge histogram.
    bool rewrite(string& page);
#endif
    const string& fault() const noexcept { return fault_; }

private:
    enum class at : std::uint8_t { line, comment, name, label, quote, value, escape, after, space, number };
    void octet(char c);
#if !PROMETHEUS_ASYNC_NO_NATIVE
    void message(std::string_view of);
#endif
    void metric();
    void label();

    static constexpr std::string_view has_timestamp = " has a timestamp, which a Pushgateway refuses";
    const vector<string>* group_;
    at at_ = at::line;
    string metric_, label_, fault_;
};

bool push_check::feed(std::string_view octets) {
    for (std::size_t i = 0; i != octets.size() && fault_.empty(); ++i) {
        if (at_ == at::comment) {  // a part of a page
            i = octets.find('\n', i);
            if (i == std::string_view::npos) break;
        }
        octet(octets[i]);
    }
    return fault_.empty();
}

void push_check::octet(char c) {
    switch (at_) {
    case at::line:
        metric_.clear();
        at_ = c == '#' ? at::comment : at::name;
        if (c != '#') metric_ += c;
        break;
    case at::comment: at_ = c == '\n' ? at::line : at::comment; break;
    case at::name:
        if (c != '{' && c != ' ') {
            metric_ += c;
            break;
        }
        metric();
        label_.clear();
        at_ = c == '{' ? at::label : at::number;
        break;
    case at::label:
        if (c != '=') {
            label_ += c;
            break;
        }
        label();
        at_ = at::quote;
        break;
    case at::quote: at_ = at::value; break;
    case at::value: at_ = c == '\\' ? at::escape : c == '"' ? at::after : at::value; break;
    case at::escape: at_ = at::value; break;
    case at::after:
        label_.clear();
        at_ = c == ',' ? at::label : at::space;
        break;
    case at::space: at_ = at::number; break;
    case at::number:
        if (c == ' ') fault_ = text_of({metric_, has_timestamp});
        if (c == '\n') at_ = at::line;
        break;
    }
}

#if !PROMETHEUS_ASYNC_NO_NATIVE
bool push_check::rewrite(string& page) {
    string out, family;
    std::string_view unit;
    const auto end = [&] {
        if (family.empty()) return;
        family.append(std::exchange(unit, {}));
        put_varint(out, family.size());
        out.append(family);
        family.clear();
    };
    for (wire_fields messages{page}; !messages.rest.empty() && fault_.empty();) {
        wire_fields f{messages.take(static_cast<std::size_t>(messages.varint()))};
        f.next();  // the name; all messages of one family are adjacent
        const bool another = !family.empty() && f.text == metric_;
        if (!another) {
            end();
            metric_ = f.text;
            metric();
            family.append(f.whole);
        }
        while (f.next() && fault_.empty()) {
            if (f.number == 4) message(f.text);
            else if (another) continue;
            if (f.number == 5) unit = f.whole;
            else family.append(f.number == 3 && f.text[0] == 5 ? "\x18\x04" : f.whole);
        }
    }
    end();
    page.swap(out);
    return fault_.empty();
}
void push_check::message(std::string_view of) {
    for (wire_fields f{of}; f.next() && fault_.empty();) {
        if (f.number == 6) fault_ = text_of({metric_, has_timestamp});
        if (f.number != 1 && f.number != 4 && f.number != 7) continue;
        // A label, or what is shown with one.
        for (wire_fields v{f.text}; v.next();) {
            if (f.number == 1 ? v.number != 1 : f.number == 4 && v.number != 3) continue;
            label_ = f.number == 1 ? v.text : f.number == 4 ? "quantile" : "le";
            label();
        }
    }
}
#endif
#if !PROMETHEUS_ASYNC_NO_NATIVE
const push_code push_code::all{[](push_check& by, string& page) { return by.rewrite(page); }};
#else
constinit const push_code push_code::all{nullptr};  // push_options::as is refused
#endif
void push_check::metric() {
    if (metric_ == "push_time_seconds" || metric_ == "push_failure_time_seconds")
        fault_ = text_of({metric_, ": a Pushgateway has its own metric of that name for each group"});
}
void push_check::label() {
    if (is_among(*group_, label_)) fault_ = text_of({metric_, "{", label_, "}: the Pushgateway would overwrite this label by the group's"});
}

// ---- pushers ----

/// How a push or a removal ended.
enum class push_end : std::uint8_t { page, refused, unanswered, canceled, taken };
/// The metrics of the pusher. `path` is the path of the group, not one of its labels.
struct push_metrics : allocated {
    push_metrics(registry& in, std::string_view path) {
        own_metrics(counts, last_success, in, path,
                    "prometheus_async_push_dropped_total\0Pushes and removals that were abandoned.\0page\0"
                    "prometheus_async_push_dropped_total\0Pushes and removals that were abandoned.\0refused\0"
                    "prometheus_async_push_dropped_total\0Pushes and removals that were abandoned.\0unanswered\0"
                    "prometheus_async_push_dropped_total\0Pushes and removals that were abandoned.\0canceled\0"
                    "prometheus_async_push_sent_total\0Pushes and removals that the Pushgateway accepted.\0\0"
                    "prometheus_async_push_refused_total\0Pushes and removals that the Pushgateway refused.\0\0"
                    "prometheus_async_push_retries_total\0Further tries, after no answer, 408, 429 or 5xx.\0\0"
                    "prometheus_async_push_octets_total\0Octets of bodies that were sent, in all tries.\0\0"
                    "prometheus_async_push_last_success_timestamp_seconds\0When the Pushgateway last accepted a push or removal; 0: never.\0");
    }
    enum : unsigned { sent = static_cast<unsigned>(push_end::taken), refused, retries, octets_sent, all };
    counter counts[all];  // before those: what was abandoned, by push_end
    gauge last_success;
};

struct push_work;

/// One group and its connection, shared by a pushgateway, its tasks and its closing work.
struct PROMETHEUS_ASYNC_LOCAL push_member : counted<push_member> {
    push_member(event_loop& its, const push_options& o);
    push_member(const push_member&) = delete;

    void read_gateway(std::string_view text, bool has_tls);
    void add(std::string_view name, std::string_view value);  // to the group
    void read_credential(const credential& who);
    /// `name` replaces the % of `why`, if there is one.
    void flaw(std::string_view why, std::string_view name = {});
    void cancel() noexcept;                        // all running pushes and removals
    void forget(std::string_view what, std::string_view advice);  // replaces the text of why()
    /// The result of a push or removal. A failure is reported, and why() explains it.
    result<void> report_end(push_end how, const error& why);
    error no(const http_response& answer);
    const char* advice(const error& why) const noexcept;

    push_options numbers;                          // its views must not be used
    string where, path;                       // "host:9091", "/prefix/metrics/job/..."
    http_endpoint to;
    secret_text secret, authorization;
    vector<string> group, only;          // `group`: its label names
    vector<registry*> registries;
    result<void> usable;
    owned<push_metrics> metrics;
    event_loop& loop;
    attachment alive;
    owned<http_client> client;                     // of the last request; kept if it can be used again, or if an answer may still come
    unsigned carried = 0;                          // how often in a row that answer has not come
    double used = 0;                               // when it was last used
    push_work* calls = nullptr;                    // in order; the first one is running
    wait_scope periodic_wait, lingering;           // of the periodic pushes, and of remove_after
    retry_pauses pauses;
    bool maybe_there = false;                      // the gateway may have the group
    bool closed = false, cleartext = false;        // cleartext: reported
    string trouble;                           // the text of why()
};

inline bool push_text(std::string_view s) noexcept {
    for (char c : s) if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) return false;
    return true;
}

push_member::push_member(event_loop& its, const push_options& o)
    : numbers(o), where(o.gateway.empty() ? "127.0.0.1:9091" : o.gateway), secret(o.credential.secret),
      registries(o.registries.begin(), o.registries.end()), loop(its),
      alive(its, [](void* self) noexcept { static_cast<push_member*>(self)->client = {}; }, this) {
    only.assign(o.only.begin(), o.only.end());
    read_gateway(where, bool(o.tls));
    if (o.job.empty()) flaw("push_options::job is empty: a group must have a job");
    add("job", o.job);
    for (const label& l : o.grouping) {
        if (!legacy_label_name(l.name) || reserved_label_name(l.name))
            flaw("push_options::grouping: label % is not [a-zA-Z_][a-zA-Z0-9_]*, or begins with __", l.name);
        add(l.name, l.value);
    }
    read_credential(o.credential);
    if (positive(o.timeout.count()) == 0) flaw("push_options::timeout is not above 0");
    const format as = o.as;
    if (as != format::text_0_0_4 && (PROMETHEUS_ASYNC_NO_NATIVE || as != format::protobuf))
        flaw("push_options::as is neither text_0_0_4 nor protobuf, or PROMETHEUS_ASYNC_NO_NATIVE has left that out");
    if (o.self_metrics) metrics = owned<push_metrics>(new push_metrics(*o.self_metrics, path));
    if (!usable) trouble = usable.why().describe();
}
void push_member::flaw(std::string_view why, std::string_view name) {
    if (!usable) return;
    const std::size_t at = why.find('%');
    if (at == std::string_view::npos) usable = error(errc::invalid_option, why);
    else usable = error_of(errc::invalid_option, {why.substr(0, at), name, why.substr(at + 1)});
}
void push_member::read_gateway(std::string_view text, bool has_tls) {
    std::string_view prefix;
    const std::size_t scheme = text.find("://");
    if (!same_word(text.substr(0, 7), "unix://")) {
        const std::size_t slash = text.find('/', scheme == std::string_view::npos ? 0 : scheme + 3);
        if (slash != std::string_view::npos) {
            prefix = text.substr(slash);
            text = text.substr(0, slash);
        }
        while (prefix.ends_with('/')) prefix.remove_suffix(1);
    }
    auto at = parse_endpoint(text, false, 9091, 443);
    if (at) to = *std::move(at);
    if (!at || !visible(prefix) || prefix.find_first_of("?#") != std::string_view::npos)
        flaw("push_options::gateway is not host:port, http://host:port/prefix, https://host or unix:///path");
    path = text_of({prefix, "/metrics"});
    if (path.find("/metrics/") != string::npos) flaw("push_options::gateway has /metrics in it: that and the group are added automatically");
    if (to.tls && !has_tls) flaw("an https gateway needs push_options::tls");
}
/// Values with special characters are written as base64, because proxies and the gateway itself change "//", "..", and "%2F".
void push_member::add(std::string_view name, std::string_view value) {
    const bool first = group.empty();
    if (!valid_utf8(value)) flaw(first ? "push_options::job has a value that is not UTF-8" : "push_options::grouping: label % has a value that is not UTF-8", name);
    if (is_among(group, name)) flaw(name == "job" ? "push_options::grouping: label job is set by push_options::job" : "push_options::grouping: label % is given twice", name);
    group.emplace_back(name);
    bool plain = !value.empty() && value != "." && value != "..";
    for (char c : value) plain = plain && unreserved(c);
    string encoded("=");
    if (plain) encoded = value;
    else if (!value.empty()) encoded = base64(value, true);
    path = text_of({path, "/", name, plain ? "/" : "@base64/", encoded});
}
void push_member::read_credential(const credential& who) {
    std::string_view scheme = "Bearer ", token = who.secret;
    secret_text pair, encoded;
    if (who.kind == credential::scheme::bearer) {
        if (token.empty() || !visible(token)) flaw("push_options::credential: a token is empty, or has an octet that no field value may have");
    } else if (!who.user.empty() || !token.empty()) {
        pair.text = text_of({who.user, ":", token});
        if (!push_text(pair.text) || who.user.find(':') != std::string_view::npos)
            flaw("push_options::credential: a user has a colon, or there is a control character");
        encoded.text = base64(pair.text);
        scheme = "Basic ";
        token = encoded.text;
    }
    if (!token.empty()) authorization.text = text_of({scheme, token});
}

void push_member::forget(std::string_view what, std::string_view how) {
    contain("a reason", [&] {
        trouble = text_of({"the Pushgateway at ", where, ", group ", path, ": ", what, how.empty() ? "" : ". ", how});
    }, [&](const error&) { trouble = "no memory"; });
}

/// What an operator should do about it.
const char* push_member::advice(const error& why) const noexcept {
    switch (why.code()) {
    case errc::timeout: return "It is tried again. A gateway checks all its groups at each push: look at its load, or give push_options::timeout more";
    case errc::system: return "It is tried again. Start the gateway, or correct push_options::gateway";
    case errc::tls: return "Look at push_options::tls: its CA, and the name in the gateway's certificate";
    case errc::protocol: return "Is that a Pushgateway? Correct push_options::gateway, or look at the proxy before it";
    default: return "";
    }
}
inline const char* push_advice(int status, std::string_view said) noexcept {
    if (status >= 300 && status < 400) return "Give push_options::gateway the address that it redirects to: no redirect is followed";
    if (status == 400 && said.find("inconsistent") != std::string_view::npos)
        return "A metric of that name has another type in another group, or in the gateway itself: rename one of them, or delete that group";
    if (status == 401 || status == 403) return "Give push_options::credential what the gateway's web.config.file, or the proxy before it, asks for";
    if (status == 404 || status == 405) return "Is that a Pushgateway? One with --web.route-prefix needs it in push_options::gateway";
    if (status == 413) return "Push less: push_options::only";
    if (status == 408 || status == 429 || status >= 500) return "It is tried again. Look at the log of the gateway, or of the proxy before it";
    return "";
}

/// The gateway's message: printable, of limited length, without secrets that it repeats.
error push_member::no(const http_response& answer) {
    bool changed = false;
    string said = sanitize_utf8(answer.body, changed);
    const std::string_view credentials = authorization.text;
    redact(said, credentials.substr(credentials.find(' ') + 1));
    redact(said, secret.text);
    for (char& c : said) if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = ' ';
    said.resize(whole_points(said, 1000));
    said.resize(said.find_last_not_of(' ') + 1);
    const digits status(static_cast<unsigned>(answer.status));
    const std::string_view colon = said.empty() ? "" : ": ";
    forget(text_of({status, colon, said}), push_advice(answer.status, said));
    // An error text is short, and the name of the metric comes after this.
    constexpr std::string_view begin = "pushed metrics are invalid or inconsistent with existing metrics: ";
    std::string_view rest = said;
    if (rest.substr(0, begin.size()) == begin) rest.remove_prefix(begin.size());
    return error_of(errc::refused, {"Pushgateway: ", status, colon, rest});
}

result<void> push_member::report_end(push_end how, const error& why) {
    if (how == push_end::taken) {
        trouble.clear();
        pauses.last = 0;
        if (!metrics) return {};
        metrics->counts[push_metrics::sent].inc();
        metrics->last_success.set(wall_now());
        return {};
    }
    if (metrics) {
        metrics->counts[static_cast<unsigned>(how)].inc();
        if (how == push_end::refused) metrics->counts[push_metrics::refused].inc();
    }
    if (how == push_end::page) forget(why.describe(), "The gateway has stored nothing of it");
    error described = why;
    if (how == push_end::unanswered && why.code() != errc::refused)
        described = error_of(why.code(), {"Pushgateway at ", where, ": ", why.describe()}, why.sys());
    if (how != push_end::canceled) notify(numbers.on_event, numbers.context, {event_kind::push_failed, described});
    return described;
}

// ---- one try ----

/// A page that is being sent: checked again meanwhile, compressed or not.
///
/// A gateway of version 1.5 accepts a request that was cut at the end of a line as complete. So no piece but the last ends
/// there, and a page that must not be stored is not cut, but gets a line that every gateway refuses.
struct push_page : allocated {
    explicit push_page(push_member& of) : m(of), checked(of.group) { start(); }
    push_page(const push_page&) = delete;

    /// Makes the next piece of a page that does not fit the buffer, and false if there is none. Such a page is made twice, so
    /// that an error at its end is found before its beginning is sent.
    bool look() {
        if (whole || !good || looked) return false;
        piece.resize(65536);
        const pulled got = plain(piece);
        if (delimited) all.append(piece, 0, got.bytes);
        looked = got.what != pull::more;
        return true;
    }
    void begin() {
        if (looked && good) rendered();
#if !PROMETHEUS_ASYNC_NO_GZIP
        if (!good || !m.numbers.gzip || !worth_gzip(text.size(), true)) return;
        if (std::exchange(held, false)) text += last;
        zipped = zip.begin(text, whole);
        octets = 0;
        if (zipped) fill();
#endif
    }

private:
    void start() {
        page_options how;
        how.registries = {m.registries.data(), m.registries.size(), m.numbers.registries.code()};
        names.assign(m.only.begin(), m.only.end());
        how.only = names;
        how.on_collector_error = m.numbers.on_collector_error;
        how.on_event = m.numbers.on_event;
        how.context = m.numbers.context;
        how.as = m.numbers.as.page();
        page.start(how);
        checked = push_check(m.group);
        if (!delimited) refill();
    }
    /// Called after the page was made once. Text is made again while it is sent; messages, which begin with their sizes, are
    /// stored and sent.
    void rendered() {
        piece = string();
        if (!delimited) return start();
#if !PROMETHEUS_ASYNC_NO_NATIVE
        if (!m.numbers.as.code()->rewrite(checked, all)) {
            good = error(errc::invalid_option, checked.fault());
            return;
        }
        ready = true;
        refill();
#endif
    }
    void refill() {
        held = false;
        octets = 0;
        fill();
    }
    void fill() {
        text.resize(16384);
        std::size_t n = 0;
        whole = false;
        for (int pulls = 0; !whole && text.size() - n >= 128 && pulls != 256; ++pulls) {
            const pulled got = next({text.data() + n, text.size() - n});
            n += got.bytes;
            whole = got.what != pull::more;
        }
        text.resize(n);
    }

public:
    /// The next piece. Its last octet is held back until the piece after it.
    pulled next(std::span<char> into) noexcept {
        into[0] = last;
        pulled got = made(into.subspan(held));
        got.bytes += held;
        held = got.what == pull::more && got.bytes != 0;
        if (held) last = into[--got.bytes];
        octets += got.bytes;
        return got;
    }

private:
    pulled made(std::span<char> into) noexcept {
#if !PROMETHEUS_ASYNC_NO_GZIP
        if (zipped) return zip.next(into, [this](std::span<char> room) noexcept { return plain(room); });
#endif
        return plain(into);
    }
    /// The next octets of the page itself.
    pulled plain(std::span<char> into) noexcept {
        constexpr std::string_view invalid_line = "\nthis page is not whole\n";  // a metric whose value is no number
        if (ready) {
            const std::size_t n = all.copy(into.data(), into.size(), given);
            given += n;
            return {n, given == all.size() ? pull::done : pull::more};
        }
        const pulled got = page.next(into);
        if (got.what == pull::failed) good = error(errc::canceled, "a collector failed, or there was no memory for the page");
        contain("a page", [&] {
            if (good && !delimited && !checked.feed({into.data(), got.bytes})) good = error(errc::invalid_option, checked.fault());
        }, [this](const error& why) { good = why; });
        return good ? got : pulled{invalid_line.copy(into.data(), into.size()), pull::done};
    }

    push_member& m;
    cursor page;
    push_check checked;
    vector<std::string_view> names;
    const bool delimited = m.numbers.as == format::protobuf;
    bool looked = false;                   // the page was made once; if delimited, `all` has it
    bool ready = false;                    // `all` is what is sent; `given` octets of it were taken
    string piece, all;
    std::size_t given = 0;
    bool held = false;
    char last = 0;

public:
    result<void> good;                     // an error: the page must not be pushed
    string text;                           // the beginning, as it is sent
    bool whole = false;                    // `text` is the whole page
    bool zipped = false;
    std::size_t octets = 0;

private:
#if !PROMETHEUS_ASYNC_NO_GZIP
    gzip_filter zip;
#endif
};

// ---- one push, from its place in the queue to its end ----

/// What a pusher is asked for. `beat`: pushes periodically until that is canceled; `close`: what close() does.
enum class push_job : std::uint8_t { put, post, remove, beat, close };
enum class push_wait : std::uint8_t { none, pause, connection, answer };

/// A job and its place in the queue of its pusher. Everything but the waiting is here, because the code of a coroutine is much
/// larger.
struct PROMETHEUS_ASYNC_LOCAL push_work {
    push_work(push_member& of, push_job what) noexcept : m(of), job(what) {}
    push_work(const push_work&) = delete;
    ~push_work() {  // also when the coroutine is destroyed
        end_try();
        leave();
    }
    /// Continues, and returns what to wait for; after `none`, `end` is the result.
    push_wait next();
    void take(const result<http_response>& answer);
    void done(push_end how, const error& why);
    bool queued() const noexcept { return queued_; }

    push_member& m;
    wait_scope own;
    wait_scope* scope = &own;
    io_wait* wait = nullptr;
    double until = 0;               // of a pause
    result<void> waited;            // the result of what was waited for
    http_request ask{};
    owned<http_client> client;
    result<void> end;
    push_work* following = nullptr;

private:
    enum class step : std::uint8_t { begin, attempt, page, connected, pause_over, beat, pushed, removal, over };
    void start(std::string_view with);
    void attempt();
    push_wait request();
    push_wait send();
    void tried(push_end how, const error& why, double retry_after = 0);
    void after() noexcept;
    void leave() noexcept;
    void end_try() noexcept;
    void pause(double time, step then) noexcept {
        until = time;
        at_ = then;
        pausing_ = true;
    }

    const push_job job;
    step at_ = step::begin;
    bool pausing_ = false, queued_ = false;
    bool old_ = false;              // the connection was there before
    bool removes_ = false;
    unsigned tries_ = 0;
    double late_ = 0;               // when this try must be over
    result<void> pushed_;           // of close(): what its push came to
    owned<push_page> page_;         // null: a removal
    http_body rest_{[](void* self, std::span<char> into) noexcept { return static_cast<push_page*>(self)->next(into); }, nullptr};
};

void push_member::cancel() noexcept {
    contain("a push", [&] { lingering.cancel(); }, [](const error&) {});
    contain("a push", [&] { periodic_wait.cancel(); }, [](const error&) {});
    for (push_work* c = calls; c;) {
        if (c->scope->canceled) {
            c = c->following;
            continue;
        }
        contain("a push", [&] { c->scope->cancel(); }, [](const error&) {});
        c = calls;  // it may be gone, and others with it
    }
}

push_wait push_work::next() {
    const double interval = m.numbers.interval.count();
    for (;;) {
        if (std::exchange(pausing_, false)) return push_wait::pause;
        switch (at_) {
        case step::begin:
            if (job == push_job::beat) {
                scope = &m.periodic_wait;
                pause(m.loop.now() + (interval < 1 ? interval : 1) * m.pauses.jitter(), step::beat);
            } else if (job != push_job::close) {
                start(job == push_job::put ? "PUT" : job == push_job::post ? "POST" : "DELETE");
            } else if (std::exchange(m.closed, true)) {
                at_ = step::over;
            } else {
                m.periodic_wait.cancel();
                at_ = step::pushed;
                if (m.numbers.push_at_end) start("PUT");
            }
            break;
        case step::attempt: attempt(); break;
        case step::page: {
            const push_wait waits = request();
            if (waits != push_wait::none) return waits;
            break;
        }
        case step::connected: {
            const push_wait waits = send();
            if (waits != push_wait::none) return waits;
            break;
        }
        case step::pause_over:
            if (m.metrics && !scope->canceled) m.metrics->counts[push_metrics::retries].inc();
            at_ = step::attempt;
            break;
        case step::beat:
            if (m.periodic_wait.canceled) at_ = step::over;
            else start("PUT");
            break;
        case step::pushed:
            pushed_ = end;
            at_ = step::over;
            if (!m.numbers.remove_at_end) break;
            at_ = step::removal;
            scope = &m.lingering;
            if (end) pause(m.loop.now() + positive(m.numbers.remove_after.count()), step::removal);
            break;
        case step::removal:
            end = error(errc::canceled, "the removal was canceled");
            at_ = step::over;
            if (m.lingering.canceled) break;
            scope = &own;
            start("DELETE");
            break;
        case step::over: return push_wait::none;
        }
    }
}

/// Takes its place in the queue.
void push_work::start(std::string_view with) {
    ask.method = with;
    ask.target = m.path;
    ask.authorization = m.authorization.text;
    removes_ = with == "DELETE";
    tries_ = 0;
    end = m.usable;
    if (!end) return after();
    push_work** at = &m.calls;
    while (*at) at = &(*at)->following;
    *at = this;
    queued_ = true;
    at_ = step::attempt;
    if (m.calls != this) pause(__DBL_MAX__, step::attempt);
}
void push_work::leave() noexcept {
    if (!std::exchange(queued_, false)) return;
    push_work** at = &m.calls;
    while (*at != this) at = &(*at)->following;
    *at = std::exchange(following, nullptr);
    if (at == &m.calls && *at && (*at)->wait) (*at)->wait->wake_soon();
}
/// A page is made for each try; a connection goes back to its owner.
void push_work::end_try() noexcept {
    page_ = {};
    owned<http_client> used = std::move(client);
    if (!used || !m.alive.attached() || !(used->reusable() || used->owes())) return;
    m.used = m.loop.now();
    m.client = std::move(used);
}

void push_work::attempt() {
    if (scope->canceled) return done(push_end::canceled, {errc::canceled, "the push was canceled"});
    ++tries_;
    late_ = m.loop.now() + m.numbers.timeout.count();
    if (!removes_) page_ = owned<push_page>(new push_page(m));
    at_ = step::page;
}
/// When the page is made: a connection that is there, or a new one.
push_wait push_work::request() {
    constexpr double kept_for = 60;  // a connection: routers forget quiet ones
    if (scope->canceled) {
        tried(push_end::canceled, waited.why());
        return push_wait::none;
    }
    if (page_ && page_->look()) {
        pause(m.loop.now(), step::page);
        return push_wait::none;
    }
    ask.body = ask.content_encoding = {};
    ask.rest = nullptr;
    if (page_) {
        page_->begin();
        if (!page_->good) {
            tried(push_end::page, page_->good.why());
            return push_wait::none;
        }
        ask.content_type = content_type(m.numbers.as, escaping::underscores);
        ask.body = page_->text;
        rest_.self = page_.get();
        if (!page_->whole) ask.rest = &rest_;
        if (page_->zipped) ask.content_encoding = "gzip";
    }
    client = std::move(m.client);
    if (client && (client->owes() ? ++m.carried > 3 : !client->reusable() || m.loop.now() - m.used > kept_for)) client = {};
    old_ = bool(client);
    at_ = step::connected;
    waited = {};
    const double left = late_ - m.loop.now();
    if (old_) {
        client->renew(*scope, left);
        return push_wait::none;
    }
    m.carried = 0;
    http_deadlines limits;
    limits.first_octet = limits.total = left;
    limits.words = 4096;
    client = owned(new http_client(m.loop, *scope, m.to, m.numbers.tls, limits));
    return push_wait::connection;
}
push_wait push_work::send() {
    if (!waited) {
        const errc code = waited.why().code();
        tried(code == errc::invalid_option || code == errc::unsupported ? push_end::page : push_end::unanswered, waited.why());
        return push_wait::none;
    }
    if (!m.authorization.text.empty() && !m.to.tls && m.to.path.empty() && !client->there().loopback() && !std::exchange(m.cleartext, true))
        notify(m.numbers.on_event, m.numbers.context,
               {event_kind::credentials_in_clear, {errc::invalid_option, "a push sends credentials over plain HTTP"}});
    if (page_) m.maybe_there = true;
    return push_wait::answer;
}
void push_work::take(const result<http_response>& answer) {
    if (m.metrics && page_) m.metrics->counts[push_metrics::octets_sent].inc(page_->octets);
    if (page_ && !page_->good) return tried(push_end::page, page_->good.why());
    if (!answer) {
        const errc code = answer.why().code();
        if (old_ && (code == errc::system || code == errc::protocol)) {  // it had been closed meanwhile: on a new one then
            --tries_;
            at_ = step::attempt;
            return end_try();
        }
        return tried(push_end::unanswered, answer.why());
    }
    m.carried = 0;
    const int status = answer->status;
    if (status == 200 || status == 202) {
        if (removes_) m.maybe_there = false;
        return tried(push_end::taken, {errc::canceled, {}});
    }
    const bool again = status == 408 || status == 429 || status >= 500;
    tried(again ? push_end::unanswered : push_end::refused, m.no(*answer), answer->retry_after);
}
/// After a try: another one, if that may help and is allowed.
void push_work::tried(push_end how, const error& reason, double retry_after) {
    const error why = reason;
    if (scope->canceled && (how == push_end::page || how == push_end::unanswered)) how = push_end::canceled;
    end_try();
    if (how == push_end::unanswered && why.code() != errc::refused) m.forget(why.describe(), m.advice(why));
    if (how != push_end::unanswered || tries_ >= m.numbers.tries) return done(how, why);
    pause(m.loop.now() + m.pauses.next(retry_after), step::pause_over);
}
void push_work::done(push_end how, const error& why) {
    end = m.report_end(how, why);
    end_try();
    leave();
    after();
}
/// What follows, after it has left the queue.
void push_work::after() noexcept {
    at_ = step::over;
    if (job == push_job::beat) pause(m.loop.now() + m.numbers.interval.count() * (0.95 + 0.1 * m.pauses.jitter()), step::beat);
    if (job != push_job::close) return;
    if (!removes_) at_ = step::pushed;
    else if (!pushed_) end = pushed_;
}

task<result<void>> push_run(shared<push_member> m, push_job what) {
    push_work work(*m, what);
    for (;;) {
#if PROMETHEUS_ASYNC_EXCEPTIONS
        try {
#endif
            switch (work.next()) {
            case push_wait::none: co_return work.end;
            case push_wait::connection: {
                auto connecting = work.client->connect(work.ask);
                work.waited = co_await value_in(connecting);
                break;
            }
            case push_wait::answer: {
                auto exchange = work.client->exchange(work.ask);
                work.take(co_await value_in(exchange));
                break;
            }
            case push_wait::pause: {
                pause_wait pause(m->loop, work.scope, -1, interest::none, work.until);
                work.wait = &pause;
                co_await pause;
                work.waited = pause.how();
                work.wait = nullptr;
                break;
            }
            }
#if PROMETHEUS_ASYNC_EXCEPTIONS
        } catch (...) {
            work.wait = nullptr;
            if (!work.queued()) throw;
            work.done(push_end::page, caught("a push"));
        }
#endif
    }
}
task<void> push_alone(shared<push_member> m, push_job what) {
    (void)co_await push_run(std::move(m), what);  // a failure was reported
}

/// Runs it on its own loop, which cannot be stopped.
static result<void> push_and_wait(const push_options& options, push_job what) {
    result<void> how;
    contain("a push", [&] {
        event_loop loop;
        how = loop.run(push_run(shared(new push_member(loop, options)), what));
    }, [&](const error& why) { how = why; });
    return how;
}

}  // namespace detail

pushgateway::pushgateway(event_loop& loop, const push_options& options) {
    const detail::shared made(new detail::push_member(loop, options));
    if (made->usable && detail::positive(options.interval.count()) > 0) loop.spawn(detail::push_alone(made, detail::push_job::beat));
    made->keep();
    member_ = made.get();
}
pushgateway::~pushgateway() {
    const detail::shared m(member_);
    m->release();
    m->cancel();
    if (!m->numbers.remove_at_end || !m->maybe_there || !m->alive.attached()) return;
    detail::contain("a removal", [&] { m->loop.spawn_closing(detail::push_alone(m, detail::push_job::remove)); },
                    [&](const error& why) { (void)m->report_end(detail::push_end::unanswered, why); });
}
task<result<void>> pushgateway::push() { return detail::push_run(detail::shared(member_), detail::push_job::put); }
task<result<void>> pushgateway::push_add() { return detail::push_run(detail::shared(member_), detail::push_job::post); }
task<result<void>> pushgateway::remove() { return detail::push_run(detail::shared(member_), detail::push_job::remove); }
task<result<void>> pushgateway::close() { return detail::push_run(detail::shared(member_), detail::push_job::close); }
std::string pushgateway::why() const { return member_->trouble; }

result<void> push_to_gateway(const push_options& options) { return detail::push_and_wait(options, detail::push_job::put); }
result<void> push_add_to_gateway(const push_options& options) { return detail::push_and_wait(options, detail::push_job::post); }
result<void> remove_from_gateway(const push_options& options) { return detail::push_and_wait(options, detail::push_job::remove); }
PROMETHEUS_ASYNC_END

// =============================================================================
// [70] json                                         a writer
//      needs [45]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN
namespace detail {

/// Appends one JSON document (RFC 8259). It writes the commas; the caller writes brackets.
class json_writer {
public:
    json_writer& open(char bracket) {
        separate();
        out_ += bracket;
        fresh_ = true;
        return *this;
    }
    json_writer& close(char bracket) {
        out_ += bracket;
        fresh_ = false;
        return *this;
    }
    json_writer& key(std::string_view name) {
        text(name);
        out_ += ':';
        fresh_ = true;
        return *this;
    }
    json_writer& number(std::uint64_t n) {
        separate();
        out_.append(std::string_view(digits(n)));
        return *this;
    }
    json_writer& truth(bool b) {
        separate();
        out_ += b ? "true" : "false";
        return *this;
    }
    /// Invalid octets become U+FFFD, as Consul itself would replace them.
    json_writer& text(std::string_view s);
    json_writer& field(std::string_view name, std::string_view value) { return key(name).text(value); }
    string take() { return std::move(out_); }

private:
    void separate() {
        if (!std::exchange(fresh_, false)) out_ += ',';
    }

    string out_;
    bool fresh_ = true;
};

json_writer& json_writer::text(std::string_view s) {
    separate();
    out_ += '"';
    bool changed = false;
    for (char c : sanitize_utf8(s, changed)) {
        if (c == '"' || c == '\\') out_ += '\\';
        if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) out_ += c;
        else (out_.append("\\u00") += "01234567"[c >> 4]) += "0123456789abcdef"[c & 15];
    }
    out_ += '"';
    return *this;
}

}  // namespace detail
PROMETHEUS_ASYNC_END

// =============================================================================
// [71] landing page                                 the registries as HTML, for people
//      needs [41] [52] [64]
// =============================================================================
//
// One more format: the cursor gives it families and series, and it writes HTML. The view writes the text before and after
// them. All names and texts of programs and clients are escaped, and cut if they are long.
PROMETHEUS_ASYNC_BEGIN
namespace detail {

// The policy has the hash of exactly this text: tests/e2e/web.sh compares them.
static constexpr char landing_style[] =  // an array of its own, which programs without the page are not linked with
    ":root{color-scheme:light dark;--f:#1b1f24;--b:#fff;--m:#57606a;--l:#d0d7de;--a:#0550ae;--c:#f6f8fa;--h:#3d7cc0}"
    "@media(prefers-color-scheme:dark){:root{--f:#e6edf3;--b:#0d1117;--m:#9aa4af;--l:#30363d;--a:#79b8ff;--c:#161b22;--h:#58a6ff}}"
    "*{box-sizing:border-box}"
    "body{margin:0 auto;max-width:60rem;padding:1rem;font:1rem/1.5 system-ui,sans-serif;color:var(--f);background:var(--b);overflow-wrap:anywhere}"
    "a{color:var(--a)}"
    "a:focus-visible,input:focus-visible,button:focus-visible{outline:3px solid var(--a);outline-offset:2px}"
    "h1{font-size:1.5rem;margin:0}"
    "h2{display:inline;font:600 1rem/1.5 ui-monospace,monospace;margin:0 .5rem 0 0}"
    "h2+p{display:inline}"
    "p,nav,form{margin:.5rem 0}"
    "nav a{display:inline-block;margin-right:.75rem;padding:.25rem 0}"
    "input,button{font:inherit;padding:.4rem .6rem;color:inherit;background:var(--c);border:1px solid var(--m);border-radius:.3rem}"
    "input{width:16rem;max-width:100%}"
    "section{margin:1rem 0;padding:.75rem;background:var(--c);border:1px solid var(--l);border-radius:.5rem}"
    ".m{color:var(--m);font-size:.875rem}"
    ".t{border:1px solid var(--m);border-radius:1rem;padding:0 .5rem}"
    "table{border-collapse:collapse;width:100%;font:.875rem/1.5 ui-monospace,monospace}"
    "th,td{text-align:left;vertical-align:top;padding:.25rem .5rem .25rem 0;border-top:1px solid var(--l);font-weight:400}"
    "td{text-align:right;width:40%}"
    "svg{max-width:100%;vertical-align:bottom;fill:var(--h)}"
    "thead{position:absolute;clip-path:inset(50%);width:1px;height:1px;overflow:hidden}"
    "@media(max-width:30rem){td{width:50%}body{padding:.5rem}}";
static constexpr std::string_view landing_fields =
    "Content-Type: text/html; charset=utf-8\r\n"
    "Content-Security-Policy: default-src 'none'; style-src 'sha256-xThYkJZrWEDMwBsSQ3aGK0bh71JKS+piefOSkiHtzQc='; form-action 'self'; base-uri 'none'; frame-ancestors 'none'\r\n"
    "Referrer-Policy: no-referrer\r\n";

/// Gives a text to put(), escaped as HTML: at most `most` octets of it, and without control characters.
template <class Put>
void put_html(std::string_view text, std::size_t most, Put put) {
    const bool cut = text.size() > most;
    if (cut) text = text.substr(0, whole_points(text, most));
    std::size_t from = 0;
    for (std::size_t i = 0; i != text.size(); ++i) {
        const char c = text[i];
        const bool control = (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f;
        const std::string_view instead = c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&quot;" :
                                         c == '\'' ? "&#39;" : control ? "\xEF\xBF\xBD" : "";
        if (instead.empty()) continue;
        put(text.substr(from, i - from));
        put(instead);
        from = i + 1;
    }
    put(text.substr(from));
    if (cut) put("\xE2\x80\xA6");
}

static constexpr format_rules landing_rules{created_place::own_line, false, false, false};

class PROMETHEUS_ASYNC_LOCAL landing_format final : public page_format {
public:
    explicit landing_format(const string& filter) noexcept : page_format(landing_rules), filter_(filter) {}

    bool wants(const family_head& f) override {
        const auto same = [](char a, char b) { return lower(a) == lower(b); };
        return filter_.empty() || std::search(f.name.begin(), f.name.end(), filter_.begin(), filter_.end(), same) != f.name.end();
    }
    void begin_family(page_text& to, const family_head& f, std::string_view help, std::string_view unit) override {
        enough = false;
        counted = shown_ = 0;
        to.text("<section><h2><bdi>");
        escape(to, f.name, 300);
        to.text("</bdi></h2><p class=m><span class=t>");
        to.text(f.row().name);
        to.text("</span>");
        if (!unit.empty()) {
            to.text(" in ");
            escape(to, unit, 100);
        }
        if (!help.empty()) {
            to.text("<p dir=auto>");
            escape(to, help, 1000);
        }
        to.text("<table aria-label=\"Series of ");
        escape(to, f.name, 300);
        to.text("\"><thead><tr><th scope=col>Labels<th scope=col>Value<tbody>\n");
    }
    void series(page_text& to, const family_head& f, const shown_series& s) override {
        ++counted;
        if (enough) return;
        enough = ++shown_ == most_series;
        to.text("<tr><th scope=row>");
        labels(to, s.labels);
        to.text("<td>");
        switch (f.row().shape) {
        case value_shape::number:
        case value_shape::facts:
            s.number.whole == 0 ? number(to, s.number.real) : to.number([&](char* at) { return put_counter(at, s.number); });
            break;
        case value_shape::points:
            for (const shown_point& p : s.points) {
                to.text(&p == s.points.begin() ? "<bdi>" : ", <bdi>");
                escape(to, p.label, longest_value);
                to.text(p.value != 0 ? "</bdi>: <b>1</b>" : "</bdi>: 0");
            }
            break;
        case value_shape::histogram: histogram(to, s); break;
        case value_shape::summary:
            for (const auto& q : s.quantiles) {
                number(to, q.q);
                to.text(": ");
                number(to, q.value);
                to.text("<br>");
            }
            sum_and_count(to, s);
        }
        to.text("\n");
    }
    void end_family(page_text& to) override {
        to.text("</table><p class=m>");
        to.count(counted);
        to.text(" series");
        if (counted > shown_) {
            to.text(", the first ");
            to.count(shown_);
            to.text(" of them above");
        }
        to.text("</section>\n");
    }

private:
    static constexpr std::size_t most_series = 100, longest_value = 200, longest_labels = 1500;
    static constexpr char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
    static void number(page_text& to, double v) { to.number([v](char* at) { return put_timestamp(at, v); }); }  // rarely with an exponent
    /// Rounded, unless it is an integer: further digits of a mean have no meaning.
    static double six_digits(double v) noexcept {
        const double size = v < 0 ? -v : v;
        double scale = 1;
        if (!within(size, 1e-15, 1e15) || size == static_cast<double>(static_cast<std::uint64_t>(size))) return v;
        while (size * scale < 1e5) scale *= 10;
        const auto rounded = static_cast<double>(static_cast<std::uint64_t>(size * scale + 0.5)) / scale;
        return v < 0 ? -rounded : rounded;
    }
    static void escape(page_text& to, std::string_view text, std::size_t most) {
        put_html(text, most, [&](std::string_view part) { to.text(part); });
    }
    void labels(page_text& to, std::string_view of) {
        if (of.empty()) return to.text("<span class=m>no labels</span>");
        const std::size_t all = of.size();
        for (const char* between = ""; next_label(of, name_, value_); between = " ") {
            to.text(between);
            escape(to, name_, longest_value);
            to.text("=&quot;<bdi>");
            escape(to, value_, longest_value);
            to.text("</bdi>&quot;");
            if (!of.empty() && all - of.size() > longest_labels) return to.text(" \xE2\x80\xA6");
        }
    }
    void sum_and_count(page_text& to, const shown_series& s) {
        to.count(s.count);
        to.text(" observed, sum ");
        number(to, s.sum);
        if (s.count == 0) return;
        to.text(", mean ");
        number(to, six_digits(s.sum / static_cast<double>(s.count)));
    }
    /// A bar for each bucket, whose height is the bucket's own count, and the same as text.
    void histogram(page_text& to, const shown_series& s) {
        const std::size_t buckets = s.upper.size();
        const auto alone = [&](std::size_t i) { return s.cumulative[i] - (i == 0 ? 0 : s.cumulative[i - 1]); };
        std::size_t fullest = 0;
        for (std::size_t i = 1; i != buckets; ++i) if (alone(i) > alone(fullest)) fullest = i;
        const double most = static_cast<double>(alone(fullest));
        if (most > 0) {
            to.text("<svg role=img viewBox=\"0 0 ");
            to.count(buckets * 8);
            to.text(" 32\" width=");
            to.count(buckets * 8);
            to.text(" height=32 preserveAspectRatio=none aria-label=\"");
            to.count(buckets);
            to.text(" buckets; the fullest, up to ");
            number(to, s.upper[fullest]);
            to.text(", has ");
            to.count(alone(fullest));
            to.text("\"><path d=\"");
            for (std::size_t i = 0; i != buckets; ++i) {
                if (alone(i) == 0) continue;
                const auto high = 1 + static_cast<std::uint64_t>(31 * (static_cast<double>(alone(i)) / most));
                to.text("M");
                to.count(i * 8);
                to.text(" 32v-");
                to.count(high);
                to.text("h7v");
                to.count(high);
                to.text("z");
            }
            to.text("\"/></svg><br>");
        }
        sum_and_count(to, s);
        if (buckets < 2) return;
        to.text("<br><span class=m>buckets up to ");
        number(to, s.upper[0]);
        to.text(" \xE2\x80\xA6 ");
        number(to, s.upper[buckets - 2]);
        to.text(", +Inf</span>");
    }

    const string& filter_;
    std::size_t shown_ = 0;
    string name_, value_;
};

class PROMETHEUS_ASYNC_LOCAL landing_view final : public page_view {
public:
    std::string_view start(cursor& page, http_service& of, string& target, list_with<registry*, sharing_code> registries) override {
        service_ = &of;
        std::string_view as;
        query_fields(target, [&](std::string_view key, std::string_view value) {
            if (key == "q") filter_ = trimmed(value).substr(0, 128);
            if (key == "as") as = value;
            return true;
        });
        page_options what{.registries = registries, .created = of.created, .native_histograms = of.native_histograms,
                          .start_timestamps = of.start_timestamps, .on_event = &event_of, .context = this};
        for (const format_row& row : format_rows) {
            if (!offers(row) || row.name != as) continue;
            what.as = row.as;
            if (row.as != format::text_0_0_4) what.names = escaping::allow_utf8;
            raw_ = true;
            page.start(what);
            return "Content-Type: text/plain; charset=utf-8\r\n";
        }
        what.names = escaping::allow_utf8;
        what.created = created_series::off;
        page_state::of(page).start(what, &format_);  // which outlives the page
        begin();
        return landing_fields;
    }
    pulled next(cursor& page, std::span<char> into) noexcept override {
        if (raw_) return page.next(into);
        // 1. The text before the families; 2. the families; 3. the text after them, with the events of the page.
        const std::size_t n = frame_.copy(into.data(), into.size(), done_);
        done_ += n;
        if (ended_) return {n, done_ == frame_.size() ? pull::done : pull::more};
        if (into.size() - n < 64) return {n, pull::more};
        pulled got = page.next(into.subspan(n));
        got.bytes += n;
        if (got.what != pull::done) return got;
        got.what = pull::failed;
        contain("a page", [&] {
            end();
            got.what = pull::more;
        }, [](const error&) {});
        return got;
    }

private:
    static constexpr std::size_t most_notes = 20;

    bool offers(const format_row& row) const noexcept {  // and browsers can show it
        const auto& all = service_->formats;
        return row.media.find("text") != row.media.npos &&
               (all.empty() || row.as == format::text_0_0_4 || std::find(all.begin(), all.end(), row.as) != all.end());
    }
    void put(std::string_view text) { frame_.append(text); }
    void escape(std::string_view text, std::size_t most) {
        put_html(text, most, [this](std::string_view part) { put(part); });
    }
    void link_to(std::string_view path) {
        put("<a href=\"");
        for (char c : path) {
            if (ascii_letter_or_digit(c) || std::string_view("/-._~").find(c) != std::string_view::npos) {
                frame_ += c;
                continue;
            }
            frame_ += '%';
            for (unsigned shift : {4U, 0U}) frame_ += "0123456789ABCDEF"[static_cast<unsigned char>(c) >> shift & 15];
        }
        put("\">");
        escape(path, 100);
        put("</a> ");
    }
    void uptime(double seconds) {
        auto rest = static_cast<std::uint64_t>(positive(seconds));
        put("Up ");
        bool begun = false;
        for (const auto& [unit, size] : {std::pair(" d ", 86400U), std::pair(" h ", 3600U), std::pair(" min ", 60U), std::pair(" s ", 1U)}) {
            begun |= rest >= size || size == 1;
            if (begun) frame_.append(std::to_string(rest / size)).append(unit);
            rest %= size;
        }
        put("\xC2\xB7 ");
    }
    void begin() {
        put("<!DOCTYPE html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">"
            "<title>Metrics</title><style>");
        put(landing_style);
        put("</style></head><body><header><h1>Metrics</h1><p class=m>");
        if (const double started = process_facts().started; started > 0) uptime(wall_now() - started);
        put("prometheus_async ");
        put(version());
        put("<nav aria-label=Pages>");
        for (const http_route& r : service_->routes) if (r.path.substr(0, 2) != "//") link_to(r.path);
        put("</nav><nav aria-label=Formats>");
        for (const format_row& row : format_rows) {
            if (!offers(row)) continue;
            put("<a href=\"?as=");
            put(row.name);
            put("\">");
            put(row.media.starts_with('t') ? "text " : "OpenMetrics ");
            put(row.version);
            put("</a> ");
        }
        put("</nav><form><label for=q>Filter by name</label> <input id=q name=q type=search maxlength=128 autocomplete=off spellcheck=false> "
            "<button>Filter</button></form>");
        if (!filter_.empty()) put("<p role=status>Only families whose name has the filter's text. <a href=\"?\">Show all</a>");
        put("</header><main>\n");
    }
    void end() {
        frame_.clear();
        done_ = 0;
        put("</main><footer class=m>");
        put(notes_.empty() ? "<p>No errors while this page was made." : "<p>Errors while this page was made:<ul>");
        for (const string& note : notes_) {
            put("<li dir=auto>");
            escape(note, 200);
        }
        if (notes_.size() == most_notes) put("<li>There may have been more.");
        if (!notes_.empty()) put("</ul>");
        char date[29];
        http_date(wall_now(), date);
        put("<p>Made on ");
        put({date, sizeof date});
        put("</footer></body></html>\n");
        ended_ = true;
    }
    static void event_of(const event& e, void* self) {
        auto& v = *static_cast<landing_view*>(self);
        if (v.notes_.size() != most_notes) v.notes_.emplace_back(e.why.describe());
        http_service::page_event(e, v.service_);
    }

    http_service* service_ = nullptr;
    string filter_, frame_;
    landing_format format_{filter_};
    std::size_t done_ = 0;  // of frame_
    bool raw_ = false, ended_ = false;
    vector<string> notes_;
};

}  // namespace detail

detail::page_view* landing_page() { return new detail::landing_view; }
PROMETHEUS_ASYNC_END

// =============================================================================
// [72] consul                                       registration, and its watchdog
//      needs [67] [68] [70]
// =============================================================================
PROMETHEUS_ASYNC_BEGIN
namespace detail {

/// From U+0080 on: how many code points Go's unicode.IsPrint refuses, then how many it accepts, and so on
/// (it accepts letters, marks, numbers, punctuation and symbols). An agent refuses characters that its Go version does not
/// know, so these are those of Unicode 12, which Consul 1.8 has. Above U+FFFF only blocks of 64 or
/// more are listed, such as emoji and CJK. Historic scripts are refused, to keep the table small.
constexpr std::uint16_t consul_runs[] = {
    33, 12, 1, 714, 2, 6, 4, 7, 1, 1, 1, 20, 1, 397, 1, 38, 2, 50, 2, 3, 1, 55, 8, 27, 4, 6, 17, 22, 2, 191, 1, 48,
    2, 59, 2, 101, 14, 59, 2, 49, 2, 15, 1, 28, 2, 1, 1, 11, 53, 21, 1, 8, 21, 15, 1, 161, 1, 8, 2, 2, 2, 22, 1, 7,
    1, 1, 3, 4, 2, 9, 2, 2, 2, 4, 8, 1, 4, 2, 1, 5, 2, 25, 2, 3, 1, 6, 4, 2, 2, 22, 1, 7, 1, 2, 1, 2, 1, 2, 2, 1,
    1, 5, 4, 2, 2, 3, 3, 1, 7, 4, 1, 1, 7, 17, 10, 3, 1, 9, 1, 3, 1, 22, 1, 7, 1, 2, 1, 5, 2, 10, 1, 3, 1, 3, 2, 1,
    15, 4, 2, 12, 7, 7, 1, 3, 1, 8, 2, 2, 2, 22, 1, 7, 1, 2, 1, 5, 2, 9, 2, 2, 2, 3, 8, 2, 4, 2, 1, 5, 2, 18, 10,
    2, 1, 6, 3, 3, 1, 4, 3, 2, 1, 1, 1, 2, 3, 2, 3, 3, 3, 12, 4, 5, 3, 3, 1, 4, 2, 1, 6, 1, 14, 21, 5, 13, 1, 3, 1,
    23, 1, 16, 3, 8, 1, 3, 1, 4, 7, 2, 1, 3, 5, 4, 2, 10, 7, 22, 1, 3, 1, 23, 1, 10, 1, 5, 2, 9, 1, 3, 1, 4, 7, 2,
    7, 1, 1, 4, 2, 10, 1, 2, 13, 4, 1, 8, 1, 3, 1, 51, 1, 3, 1, 6, 4, 16, 2, 26, 2, 2, 1, 18, 3, 24, 1, 9, 1, 1, 2,
    7, 3, 1, 4, 6, 1, 1, 1, 8, 6, 10, 2, 3, 12, 58, 4, 29, 37, 2, 1, 1, 1, 5, 1, 24, 1, 1, 1, 23, 2, 5, 1, 1, 1, 6,
    2, 10, 2, 4, 32, 72, 1, 36, 4, 39, 1, 36, 1, 15, 1, 13, 37, 198, 1, 1, 5, 1, 2, 377, 1, 4, 2, 7, 1, 1, 1, 4, 2,
    41, 1, 4, 2, 33, 1, 4, 2, 7, 1, 1, 1, 4, 2, 15, 1, 57, 1, 4, 2, 67, 2, 32, 3, 26, 6, 86, 2, 6, 2, 640, 1, 28,
    3, 89, 7, 13, 1, 7, 11, 23, 9, 20, 12, 13, 1, 3, 1, 2, 12, 94, 2, 10, 6, 10, 6, 14, 2, 10, 6, 89, 7, 43, 5, 70,
    10, 31, 1, 12, 4, 12, 4, 1, 3, 42, 2, 5, 11, 44, 4, 26, 6, 11, 3, 62, 2, 65, 1, 29, 2, 11, 6, 10, 6, 14, 2, 15,
    65, 76, 4, 45, 3, 116, 8, 60, 3, 15, 3, 60, 7, 43, 2, 11, 8, 43, 5, 250, 1, 283, 2, 6, 2, 38, 2, 6, 2, 8, 1, 1,
    1, 1, 1, 1, 1, 31, 2, 53, 1, 15, 1, 14, 2, 6, 1, 19, 2, 3, 1, 9, 17, 24, 8, 47, 17, 2, 2, 27, 1, 13, 3, 32, 16,
    33, 15, 140, 4, 663, 25, 11, 21, 1812, 2, 32, 2, 151, 1, 47, 1, 148, 5, 45, 1, 1, 5, 1, 2, 56, 7, 2, 14, 24, 9,
    7, 1, 7, 1, 7, 1, 7, 1, 7, 1, 7, 1, 7, 1, 7, 1, 112, 48, 26, 1, 89, 12, 214, 26, 12, 5, 63, 1, 86, 2, 103, 5,
    43, 1, 94, 1, 43, 5, 36, 12, 47, 1, 223, 1, 6838, 10, 21040, 16, 1165, 3, 55, 9, 348, 20, 184, 8, 192, 2, 5,
    48, 53, 4, 10, 6, 56, 8, 70, 8, 12, 6, 116, 11, 30, 3, 78, 1, 11, 4, 33, 1, 55, 9, 14, 2, 10, 2, 103, 24, 28,
    10, 6, 2, 6, 2, 6, 9, 7, 1, 7, 1, 56, 8, 126, 2, 10, 6, 11172, 12, 23, 4, 49, 8452, 366, 2, 106, 38, 7, 12, 5,
    5, 26, 1, 5, 1, 1, 1, 2, 1, 2, 1, 124, 17, 365, 16, 64, 2, 54, 40, 14, 2, 26, 6, 51, 1, 19, 1, 4, 4, 5, 1, 135,
    4, 190, 3, 6, 2, 6, 2, 6, 2, 3, 3, 7, 1, 7, 13, 2, 130, 123, 60, 88, 625, 158, 354, 311, 288, 72, 449, 64, 352,
    73, 951, 78, 306, 78, 562, 90, 38, 72, 312, 69, 603, 83, 269, 72, 8, 83, 1372, 923, 102, 111, 17, 196, 2748,
    1071, 4049, 583, 8633, 569, 199, 70, 762, 91, 101, 75, 181, 6136, 8, 755, 9485, 287, 81, 396, 2308, 107, 5013,
    246, 51, 74, 8, 110, 23, 70, 186, 87, 169, 85, 1, 71, 40, 65, 76, 340, 2, 292, 2, 702, 3444, 197, 59, 76, 805,
    68, 891, 100, 124, 93, 403, 982, 42, 116, 12, 89, 308, 101, 91, 135, 1452, 42711, 41, 4149, 11, 222, 2, 5762,
    14, 7473, 3103, 542};
constexpr bool consul_prints(std::uint32_t point) noexcept {
    std::uint32_t at = 0x80;
    bool prints = true;
    if (point < at) return point >= 0x20 && point != 0x7f;
    for (std::uint16_t run : consul_runs) {
        prints = !prints;
        if (point < (at += run)) return prints;
    }
    return false;
}

/// Why Consul could never watch or de-register this id; null if it can. Its router normalises the path and
/// redirects, so that "//", "." and ".." lead to another service. It refuses a path with unprintable characters, and a GET
/// of the paths beside the ids: /v1/agent/service/register.
inline const char* consul_id_fault(std::string_view id) noexcept {
    if (id.empty()) return "is empty";
    if (id[0] == '/') return "begins with /";
    if (const auto first = id.substr(0, id.find('/')); id == "register" || first == "deregister" || first == "maintenance")
        return "is a path that Consul itself uses";
    for (std::size_t i = 0; i != id.size();) {
        const std::uint32_t point = next_code_point(id, i);
        if (point == no_code_point) return "is not UTF-8";
        if (!consul_prints(point))
            return "holds a character that does not print: a control character, a space but U+0020, a joiner, or one newer than Unicode 12";
    }
    while (!id.empty()) {
        const std::size_t slash = id.find('/');
        const std::string_view segment = id.substr(0, slash);
        if (segment == "." || segment == "..") return "has a . or .. between slashes";
        if (segment.empty()) return "holds //";
        id.remove_prefix(slash == std::string_view::npos ? id.size() : slash + 1);
    }
    return nullptr;
}

/// A duration in the syntax of Go.
inline string go_duration(seconds span) {
    const double ms = positive(span.count()) * 1e3;
    const auto n = static_cast<std::uint64_t>(ms < 1 ? 1 : ms > 1e15 ? 1e15 : ms + 0.5);
    return n % 1000 ? text_of({digits(n), "ms"}) : text_of({digits(n / 1000), "s"});
}

/// Copies of consul_options and of the environment's settings.
struct PROMETHEUS_ASYNC_LOCAL consul_settings : allocated {
    explicit consul_settings(const consul_options& o);

    consul_options numbers;   // the views in it are not to be read
    string name, id, agent_text, status, advertise, in_namespace, check_path, token_file;
    secret_text token, authorization;
    vector<string> tags;
    vector<pair<string, string>> meta, check_headers;
    http_endpoint agent;
    result<void> usable;
};

inline std::string_view environment(const char* name) noexcept {
    const char* value = std::getenv(name);
    return value ? std::string_view(value) : std::string_view();
}

constexpr std::string_view unspaced(std::string_view s) noexcept {
    while (!s.empty() && static_cast<unsigned char>(s.front()) <= ' ') s.remove_prefix(1);
    while (!s.empty() && static_cast<unsigned char>(s.back()) <= ' ') s.remove_suffix(1);
    return s;
}
/// Leaves no copies of the secret in memory. Only a regular file is read: a FIFO would block the loop.
inline result<void> read_token(const string& path, string& into) {
    const string what = text_of({"CONSUL_HTTP_TOKEN_FILE: ", path});
    const descriptor fd(uninterrupted([&] { return sys::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }));
    struct stat there {};
    if (!fd || sys::fstat(fd.get(), &there) != 0) return error::from_errno(what, errno);
    if (!S_ISREG(there.st_mode)) return not_regular(what);
    char buffer[4096];
    const ssize_t n = sys::read(fd.get(), buffer, sizeof buffer);
    const int failed = n < 0 ? errno : n == sizeof buffer ? EFBIG : 0;
    into = unspaced({buffer, n < 0 ? 0 : static_cast<std::size_t>(n)});
    for (volatile char& c : buffer) c = 0;
    return failed == 0 ? result<void>() : error::from_errno(what, failed);
}

consul_settings::consul_settings(const consul_options& o)
    : numbers(o), name(o.name), id(o.service_id.empty() ? o.name : o.service_id), agent_text(o.agent), status(o.status),
      advertise(unbracketed(o.advertise)), in_namespace(o.in_namespace), check_path(o.check_path), token(o.token) {
    const auto flaw = [this](std::string_view why) {
        if (usable) usable = error(errc::invalid_option, why);
    };
    for (std::string_view tag : o.tags) tags.emplace_back(tag);
    for (const label& l : o.meta) meta.emplace_back(l.name, l.value);
    for (const label& l : o.check_headers) {
        bool good = !l.name.empty();
        for (char c : l.name) good = good && token_char(c);
        for (char c : l.value) good = good && classes.is(c, octet_classes::value);
        if (!good) flaw("consul_options::check_headers: a field has a name or value that HTTP does not allow");
        check_headers.emplace_back(l.name, l.value);
    }
    if (check_path.substr(0, 1) != "/" || !visible(check_path) || check_path.find('#') != string::npos)
        flaw("consul_options::check_path is not a path, as in \"/health\"");
    if (token.text.empty()) token_file = environment("CONSUL_HTTP_TOKEN_FILE");
    if (!token_file.empty())
        if (const result<void> read = read_token(token_file, token.text); !read && usable) usable = read.why();
    if (token.text.empty()) token.text = environment("CONSUL_HTTP_TOKEN");
    if (!visible(token.text)) flaw("the Consul token has an octet that no field value may have");
    if (const std::string_view auth = environment("CONSUL_HTTP_AUTH"); !auth.empty()) {
        secret_text pair(auth);  // "user:password"; a user alone has an empty one
        if (auth.find(':') == std::string_view::npos) pair.text += ':';
        secret_text encoded(base64(pair.text));
        authorization.text.reserve(encoded.text.size() + 6);
        authorization.text.append("Basic ").append(encoded.text);
    }
    if (in_namespace.empty()) in_namespace = environment("CONSUL_NAMESPACE");

    const std::string_view ssl = environment("CONSUL_HTTP_SSL");
    const auto one_of = [ssl](std::initializer_list<std::string_view> words) {
        for (std::string_view word : words) if (ssl == word) return true;
        return false;
    };
    const bool secure = one_of({"1", "t", "T", "true", "True", "TRUE"});  // as Go's strconv.ParseBool
    if (!secure && !one_of({"", "0", "f", "F", "false", "False", "FALSE"}))
        flaw("CONSUL_HTTP_SSL is neither true nor false");
    if (agent_text.empty()) agent_text = environment("CONSUL_HTTP_ADDR");
    if (agent_text.empty()) agent_text = "127.0.0.1";
    auto to = parse_endpoint(agent_text, secure, 8500, 8501);
    if (to) agent = *std::move(to);
    else flaw("the Consul agent's address is not host:port, http://host:port, https://host:port or unix:///path");
    if (secure && !agent.path.empty()) flaw("CONSUL_HTTP_SSL asks for TLS, and the agent is on a unix socket: unset it");
    else if (agent.tls && !o.tls) flaw("an https agent (by its address, or CONSUL_HTTP_SSL) needs consul_options::tls");

    const bool any = o.check == consul_check::automatic;
    if ((any || o.check == consul_check::ttl) && positive(o.ttl.count()) == 0) flaw("consul_options::ttl is not above 0");
    if ((any || o.check == consul_check::http) && positive(o.interval.count()) == 0) flaw("consul_options::interval is not above 0");
    if (name.empty()) flaw("a Consul service needs a name");
    if (const char* fault = consul_id_fault(id)) flaw(text_of({"Consul could never watch or de-register this id: it ", fault}));
    if (!advertise.empty() && !host_text(advertise)) flaw("the address to advertise is not a host");
}

// ---- connections ----

struct consul_lease;

/// The connections of one loop to one agent: a limited number, given out in order, and kept for a short time.
struct consul_connections : counted<consul_connections> {
    static constexpr std::size_t most = 16;

    consul_connections(event_loop& its, const http_endpoint& at, const tls_config& by)
        : loop(its), to(at), tls(by), hang_up(its, [](void* self) {
              for (auto& client : static_cast<consul_connections*>(self)->idle) client->send_close_notify();
              static_cast<consul_connections*>(self)->idle.clear();
          }, this) {
        idle.reserve(most);
    }

    event_loop& loop;
    http_endpoint to;
    tls_config tls;
    std::size_t used = 0;
    vector<owned<http_client>> idle;
    vector<consul_lease*> waiting;  // in order
    timer hang_up;
};

/// One of them, or the wait for one.
struct consul_lease : allocated {
    explicit consul_lease(shared<consul_connections> of) : line(std::move(of)) {}
    consul_lease(const consul_lease&) = delete;
    ~consul_lease() {
        if (consul_lease** const at = std::find(line->waiting.begin(), line->waiting.end(), this); at != line->waiting.end()) line->waiting.erase(at);
        if (!held) return;
        if (client && client->reusable()) {
            line->idle.push_back(std::move(client));
            line->hang_up.after(1);
        }
        client = {};
        if (line->waiting.empty()) {
            --line->used;
            return;
        }
        consul_lease& next = *line->waiting.front();
        line->waiting.erase(line->waiting.begin());
        next.held = true;
        next.wait->wake_soon();
    }
    /// Gets a connection: an open one, or a new one.
    task<result<void>> take(wait_scope& scope, double until) {
        if (line->used < line->most) {
            held = true;
            ++line->used;
        } else {
            pause_wait turn(line->loop, &scope, -1, interest::none, until);
            wait = &turn;
            line->waiting.push_back(this);
            co_await turn;
            if (!held) co_return name_timeout(turn.how().why(), "no free connection in time");
        }
        while (!client && !line->idle.empty()) {
            client = std::move(line->idle.back());
            line->idle.pop_back();
            if (!client->reusable()) client = {};
        }
        co_return {};
    }

    shared<consul_connections> line;
    owned<http_client> client;
    io_wait* wait = nullptr;
    bool held = false;
};

// ---- members ----

/// Whether a server would pass the HTTP check.
struct consul_check_forecast {
    const char* never = nullptr;  // why it cannot pass
    bool doubtful = false;        // it may pass or not, depending on the agent's configuration
    string host{};           // the Host that the check must send, one of allowed_hosts
};

/// The address to register, and the host of the check.
struct consul_place {
    string address, check_host;
};

/// One registered server, shared by deregister, the watchdog and is_registered().
struct consul_member : counted<consul_member> {
    consul_member(const consul_settings& copied, event_loop& its, std::string_view address_, std::string_view advertise,
                  std::uint16_t port_, bool https_, const consul_check_forecast& forecast = {})
        : how(copied), loop(its), address(address_), server_advertises(unbracketed(advertise)), port(port_),
          https(https_) {
        consul_check& check = how.numbers.check;
        if (check == consul_check::automatic)
            check = forecast.never || forecast.doubtful ? consul_check::ttl : consul_check::http;
        if (check == consul_check::http && forecast.never && how.usable)
            how.usable = error_of(errc::invalid_option, {"Consul's HTTP check could never pass: ", forecast.never});
        if (!forecast.host.empty()) how.check_headers.emplace_back("Host", forecast.host);
        registry& page = how.numbers.metrics ? *how.numbers.metrics : default_registry();
        const std::string_view by[] = {"id"}, id[] = {how.id};
        auto up = page.try_family<gauge>("prometheus_async_consul_registered",
                                         "Whether the Consul agent knows this service.", by);
        if (up) (registered_metric = (*up)(id)).set(0);
        auto failures = page.try_family<counter>("prometheus_async_consul_failures_total",
                                                 "Refused and failed requests to the Consul agent.", by);
        if (failures) failures_metric = (*failures)(id);
    }
    consul_member(const consul_member&) = delete;
    ~consul_member() { disown(); }

    enum class claim : std::uint8_t { ours, another_is_leaving, taken };
    /// Claims the id in this process, and finds the connections, which members of one loop share.
    claim own();
    void disown() noexcept;

    consul_settings how;
    event_loop& loop;
    string address, server_advertises;
    std::uint16_t port;
    bool https;
    wait_scope scope;                     // of the start and the watchdog
    bool registered = false;              // other threads read it
    gauge registered_metric;
    counter failures_metric;
    shared<consul_connections> line;
    owned<consul_lease> carrier;  // of a registration whose answer has not come: further requests use the same connection
    unsigned carried = 0;                 // how often in a row
    bool maybe_there = false;             // the agent may have the service, whatever it answered
    bool accepted = false;                // the agent has accepted the registration, with registered_address
    consul_place place;                   // found for the last request
    string registered_address;             // empty: the node's address
    bool taken = false;                   // the id belongs to another service now
    bool leaving = false;
    bool rejected = false;                // the agent answered that the request is invalid, so it is not repeated
    int reported_status = 0;                   // the status in the last event; 0 after a success
    retry_pauses pauses;
    double retry_after = 0;
    result<void> first;                   // the result of the first try of on_failure::retry
    bool tried = false;
    io_wait* start = nullptr;             // the start, which waits for that
    const pid_t process = sys::getpid();
    consul_member* next = nullptr;        // in `consul_members`
    bool listed = false;

    void now_registered(bool yes) {
        __atomic_store_n(&registered, yes, __ATOMIC_RELAXED);
        registered_metric.set(yes);
    }
    void tell(event_kind kind, const error& why) {
        failures_metric.inc();
        notify(how.numbers.on_event, how.numbers.context, {kind, why});
    }
    error at_agent(const error& why) const {
        return error_of(why.code(), {"Consul at ", how.agent_text, ": ", why.describe()}, why.sys());
    }
    string path(std::string_view before) const { return text_of({before, percent_encoded(how.id)}); }
    double next_pause() { return pauses.next(retry_after); }
    /// A random time between half of the period and the period, so that many servers do not all ask at the same time.
    double healthy_pause() { return period() * (1 + pauses.jitter()) / 2; }
    double period() const {
        const double third = how.numbers.ttl.count() / 3, watch = how.numbers.watch.count();
        return how.numbers.check == consul_check::ttl && (watch <= 0 || third < watch) ? third : watch;
    }
};

/// All members of this process; protected by the lock.
static constinit consul_member* consul_members = nullptr;

consul_member::claim consul_member::own() {
    const http_endpoint& to = how.agent;
    const auto same = [](std::string_view host) { return same_word(host, "localhost") ? std::string_view("127.0.0.1") : host; };
    const global_lock all;
    for (consul_member* m = consul_members; m; m = m->next) {
        const http_endpoint& at = m->how.agent;
        if (m->process != process || at.port != to.port || at.path != to.path || !same_word(same(at.host), same(to.host)))
            continue;
        if (m->how.id == how.id && m->how.in_namespace == how.in_namespace)
            return m->leaving ? claim::another_is_leaving : claim::taken;
        const tls_config &ours = how.numbers.tls, &theirs = m->how.numbers.tls;
        if (&m->loop == &loop && at.tls == to.tls && at.host == to.host && theirs.open == ours.open && theirs.context == ours.context)
            line = m->line;
    }
    if (!line) line = shared(new consul_connections(loop, to, how.numbers.tls));
    next = std::exchange(consul_members, this);
    listed = true;
    return claim::ours;
}
void consul_member::disown() noexcept {
    const global_lock all;
    if (!std::exchange(listed, false)) return;
    consul_member** at = &consul_members;
    while (*at != this) at = &(*at)->next;
    *at = next;
}

// ---- requests ----

/// The body of a registration. With an empty address the agent chooses it.
inline string consul_body(const consul_settings& how, std::string_view address, std::string_view check_host,
                               std::uint16_t port, bool https) {
    json_writer out;
    out.open('{').field("Name", how.name).field("ID", how.id);
    if (!how.tags.empty()) {
        out.key("Tags").open('[');
        for (const string& tag : how.tags) out.text(tag);
        out.close(']');
    }
    if (!address.empty()) out.field("Address", address);
    out.key("Port").number(port);
    if (!how.meta.empty()) {
        out.key("Meta").open('{');
        for (const auto& [key, value] : how.meta) out.field(key, value);
        out.close('}');
    }
    if (!how.in_namespace.empty()) out.field("Namespace", how.in_namespace);
    if (const consul_options& o = how.numbers; o.check != consul_check::none) {
        out.key("Check").open('{');
        if (o.check == consul_check::http) {
            out.field("HTTP", text_of({https ? "https://" : "http://", bracketed(check_host), ":", digits(port), how.check_path}));
            if (!how.check_headers.empty()) {
                out.key("Header").open('{');
                for (auto at = how.check_headers.begin(); at != how.check_headers.end(); ++at) {
                    const auto named_so = [&](const auto& other) { return same_word(other.first, at->first); };
                    if (std::any_of(how.check_headers.begin(), at, named_so)) continue;
                    out.key(at->first).open('[');
                    for (const auto& field : how.check_headers) if (named_so(field)) out.text(field.second);
                    out.close(']');
                }
                out.close('}');
            }
            out.field("Interval", go_duration(o.interval));
            if (positive(o.timeout.count()) > 0) out.field("Timeout", go_duration(o.timeout));
            if (o.tls_skip_verify) out.key("TLSSkipVerify").truth(true);
        } else {
            out.field("TTL", go_duration(o.ttl));
        }
        if (positive(o.deregister_critical_after.count()) > 0)
            out.field("DeregisterCriticalServiceAfter", go_duration(o.deregister_critical_after));
        if (!how.status.empty()) out.field("Status", how.status);
        out.close('}');
    }
    return out.close('}').take();
}

/// The address to register when the connection to the agent has the local address `here`. If it is empty, the agent chooses it.
inline result<consul_place> consul_find(const consul_member& m, const net_address& here, const net_address& agent) {
    const bool any6 = m.address == "::", any = any6 || m.address == "0.0.0.0";
    string host = m.how.advertise;
    if (host.empty() && (any || link_local(m.address))) host = m.server_advertises;
    if (host.empty() && !any) host = m.address;
    if (host.empty() && here.loopback()) return consul_place{{}, any6 && here.family() == AF_INET6 ? "::1" : "127.0.0.1"};
    if (host.empty() && !any6 && here.family() == AF_INET6)
        return error(errc::invalid_option, "the server is on IPv4, the Consul agent on IPv6: set advertise");
    if (host.empty()) host = here.text();
    if (link_local(host)) return no_link_local();
    net_address at;
    if (host == m.address && parse_address(host, 0, at) && at.loopback() && !here.loopback() && here.text() != agent.text())
        return error_of(errc::invalid_option, {"the server listens on ", host, ", the Consul agent is on another host: set advertise"});
    return consul_place{host, host};
}

/// Finds the place for the connection. With `body` it also writes the registration, which needs one.
inline result<void> consul_settle(consul_member& m, const http_client& client, string* body) {
    auto place = consul_find(m, client.here(), client.there());
    if (place) m.place = std::move(*place);
    if (!body) return {};
    if (!place) return place.why();
    *body = consul_body(m.how, m.place.address, m.place.check_host, m.port, m.https);
    return {};
}

/// Reads the token file again: tools that renew tokens may have changed it.
inline bool consul_new_token(consul_settings& how) {
    secret_text now;
    if (how.token_file.empty() || !read_token(how.token_file, now.text) || now.text.empty() ||
        !visible(now.text) || now.text == how.token.text)
        return false;
    now.text.swap(how.token.text);
    return true;
}

/// The connection of one request. If the answer of a registration has not come, the connection is kept, also when the
/// coroutine is destroyed.
struct consul_exchange {
    consul_member& m;
    owned<consul_lease> lease;
    bool registers = false;
    ~consul_exchange() {
        if (registers && lease->client && lease->client->owes()) m.carrier = std::move(lease);
    }
};

/// One request to the agent; after a registration whose answer has not come, on the same connection. The body of a
/// registration depends on the local address of the connection.
task<result<http_response>> consul_ask(
    consul_member& m, wait_scope& scope, std::string_view method, string path, bool registers,
    double seconds_left = 15) {
    consul_exchange on{m, std::move(m.carrier)};
    const double until = m.loop.now() + (seconds_left < 15 ? seconds_left : 15);
    if (!m.how.in_namespace.empty())
        path += (path.find('?') == string::npos ? "?ns=" : "&ns=") + percent_encoded(m.how.in_namespace);
    if (on.lease && ++m.carried > 3) on.lease = {};  // that connection does not work any more
    if (!on.lease) {
        m.carried = 0;
        on.lease = owned(new consul_lease(m.line));
        auto taking = on.lease->take(scope, until);
        if (const auto& taken = co_await value_in(taking); !taken) co_return m.at_agent(taken.why());
    }
    owned<http_client>& client = on.lease->client;
    for (bool again = true;; again = false) {
        http_request ask{method, path, "X-Consul-Token", m.how.token.text, {}, m.how.authorization.text};
        const double left = until - m.loop.now();
        if (client) {
            client->renew(scope, left);
        } else {
            http_deadlines limits;
            limits.total = left;
            client = owned(new http_client(m.loop, scope, m.line->to, m.line->tls, limits));
            auto connecting = client->connect(ask);
            if (const auto& connected = co_await value_in(connecting); !connected) co_return m.at_agent(connected.why());
        }
        string body;
        if (const result<void> settled = consul_settle(m, *client, registers ? &body : nullptr); !settled) co_return settled.why();
        ask.body = body;
        if (registers) m.maybe_there = on.registers = true;
        auto exchange = client->exchange(ask);
        auto& answer = co_await value_in(exchange);
        if (!answer) co_return m.at_agent(answer.why());
        if (answer->status != 403 || !again || !consul_new_token(m.how)) co_return std::move(answer);
        if (!client->reusable()) client = {};
    }
}

inline bool good(const http_response& answer) noexcept { return answer.status >= 200 && answer.status < 300; }
/// Whether the agent does not know the service or check: newer agents answer 404, older ones 500.
inline bool unknown(const http_response& answer) noexcept {
    const std::string_view said = answer.body;
    return answer.status == 404 ||
           (answer.status == 500 && (said.substr(0, 7) == "Unknown" || said.substr(0, 7) == "CheckID"));
}
/// The agent's message, without secrets that it repeats.
inline error consul_refusal(const consul_member& m, std::string_view what, const http_response& answer) {
    string said(answer.body);
    for (const secret_text* secret : {&m.how.token, &m.how.authorization}) redact(said, secret->text);
    const digits status(static_cast<unsigned>(answer.status));
    return error_of(errc::refused, {what, " ", status, said.empty() ? "" : ": ", said});
}

/// The value of a member of a JSON object, as JSON; empty if there is none.
inline std::string_view json_member(std::string_view object, std::string_view name) noexcept {
    std::size_t depth = 0, from = 0;
    std::string_view key;
    for (std::size_t i = 0; i < object.size(); ++i) {
        const char c = object[i];
        if (c == '"') {
            const std::size_t begin = i++;
            for (; i < object.size() && object[i] != '"'; ++i) if (object[i] == '\\') ++i;
            if (depth == 1 && from == 0) key = object.substr(begin + 1, i - begin - 1);
        } else if (c == ':' && depth == 1) {
            from = i + 1;
        } else if ((c == ',' || c == '}') && depth == 1) {
            if (from != 0 && key == name) return unspaced(object.substr(from, i - from));
            from = 0;
            if (c == '}') break;
        } else if (c == '{' || c == '[') {
            ++depth;
        } else if (c == '}' || c == ']') {
            --depth;
        }
    }
    return {};
}

/// Whether the service that the agent has under our id belongs to another program. False for an answer that is not a service.
inline bool consul_taken_over(const consul_member& m, std::string_view service) {
    const std::string_view port = json_member(service, "Port"), address = json_member(service, "Address");
    return (!port.empty() && port != std::string_view(digits(m.port))) || (!address.empty() && address != text_of({"\"", m.registered_address, "\""}));
}
inline error consul_taken(const consul_member& m, std::string_view service) {
    return error_of(errc::refused, {"the Consul service id \"", m.how.id, "\" belongs to another service, at port ", json_member(service, "Port"),
                                    ", address ", json_member(service, "Address"), ": set service_id"});
}

task<result<void>> consul_enroll(consul_member& m, double seconds_left = 15) {
    m.retry_after = 0;
    const bool before = m.maybe_there;
    auto asking = consul_ask(m, m.scope, "PUT", "/v1/agent/service/register", true, seconds_left);
    const auto& answer = co_await value_in(asking);
    if (!answer) {
        const errc code = answer.why().code();  // for some errors a further try is useless
        m.rejected = code == errc::invalid_option || code == errc::unsupported;
        co_return answer.why();
    }
    m.retry_after = answer->retry_after;
    if (!good(*answer)) {
        if (answer->status < 500) m.maybe_there = before;  // after a 504 of a proxy it is unknown whether the agent has it
        m.rejected = answer->status == 400 || answer->status == 405;
        co_return consul_refusal(m, "Consul refused the registration:", *answer);
    }
    m.pauses.last = 0;
    m.accepted = true;
    m.registered_address = m.place.address;
    m.now_registered(true);
    co_return {};
}

/// Why a service was not de-registered.
inline error consul_kept(const consul_member& m, const result<http_response>& answer) {
    return answer ? consul_refusal(m, "Consul refused the de-registration:", *answer) : answer.why();
}

/// Frees the id when de-registration has ended, with or without success.
struct consul_id_guard {
    consul_member& m;
    ~consul_id_guard() {
        m.carrier = {};
        m.disown();
    }
};

task<result<void>> consul_deregister(shared<consul_member> m) {
    const consul_id_guard at_end{*m};
    {
        const global_lock all;
        m->leaving = true;
    }
    m->scope.cancel();  // ends the watchdog, even during a registration
    m->now_registered(false);
    if (!m->how.numbers.deregister || !m->maybe_there) co_return {};
    wait_scope scope;
    const double budget = m->how.numbers.budget.count(), until = m->loop.now() + budget;
    if (m->accepted && !m->carrier) {  // is it still ours? If the agent does not answer, it is de-registered nevertheless
        auto asking = consul_ask(*m, scope, "GET", m->path("/v1/agent/service/"), false, budget / 2);
        const auto& seen = co_await value_in(asking);
        const bool others = seen && good(*seen) && consul_taken_over(*m, seen->body);
        if (others) m->tell(event_kind::registration_lost, consul_taken(*m, seen->body));
        if (others || (seen && unknown(*seen))) m->maybe_there = false;
        if (!m->maybe_there) co_return {};
    }
    for (;;) {
        auto asking = consul_ask(*m, scope, "PUT", m->path("/v1/agent/service/deregister/"), false, until - m->loop.now());
        const auto& answer = co_await value_in(asking);
        if (answer && (good(*answer) || unknown(*answer))) {
            m->maybe_there = false;
            co_return {};
        }
        const double pause = 0.1 + 0.2 * m->pauses.jitter();  // others may be de-registering too
        const int sys = answer ? 0 : answer.why().sys();
        if (m->loop.now() + pause >= until || sys == ECONNREFUSED || sys == ENOENT) {
            m->tell(event_kind::deregistration_failed, consul_kept(*m, answer));
            co_return consul_kept(*m, answer);
        }
        asking = {};
        co_await pause_wait(m->loop, &scope, -1, interest::none, m->loop.now() + pause);
    }
}

task<void> consul_deregister_quietly(shared<consul_member> m) {
    (void)co_await consul_deregister(std::move(m));  // a failure was reported
}

struct consul_lookup {  // not an enumeration alone: g++ exports what std:: makes of one
    enum kind : std::uint8_t { ours, others, refused, gone, away };
    consul_lookup(kind what) noexcept : is(what) {}
    operator kind() const noexcept { return is; }
    kind is;
};

/// The request target that updates our TTL check.
inline string consul_heartbeat(const consul_member& m) {
    const string note = text_of({"heartbeat of ", m.https ? "https://" : "http://", bracketed(m.place.check_host), ":", digits(m.port)});
    return text_of({m.path("/v1/agent/check/pass/service%3A"), "?note=", percent_encoded(note)});
}

/// Asks the agent for our service, and updates our TTL check.
task<consul_lookup> consul_look_up(consul_member& m) {
    const bool was_there = m.registered;
    auto asking = consul_ask(m, m.scope, "GET", m.path("/v1/agent/service/"), false);
    const auto* answer = &co_await value_in(asking);
    if (m.scope.canceled) co_return consul_lookup::away;
    if (*answer && good(**answer)) {
        if (consul_taken_over(m, (*answer)->body)) {
            if (!std::exchange(m.taken, true)) m.tell(event_kind::registration_lost, consul_taken(m, (*answer)->body));
            m.maybe_there = false;
            m.now_registered(false);
            co_return consul_lookup::others;
        }
        m.taken = false;
        m.maybe_there = true;
        if (m.place.address != m.registered_address) {
            m.now_registered(false);
            m.tell(event_kind::registration_lost,
                   error_of(errc::refused, {"the address of this server is ", m.place.address, " now: Consul has ", m.registered_address}));
            co_return consul_lookup::gone;
        }
        m.now_registered(true);
        if (m.how.numbers.check == consul_check::ttl) {
            asking = consul_ask(m, m.scope, "PUT", consul_heartbeat(m), false);
            answer = &co_await value_in(asking);
            if (m.scope.canceled) co_return consul_lookup::away;
        }
    }
    if (!*answer || unknown(**answer)) {
        m.now_registered(false);
        const event_kind news = was_there ? event_kind::registration_lost : event_kind::registration_failed;
        if (!*answer || was_there) m.tell(news, *answer ? consul_refusal(m, "Consul has lost the registration:", **answer) : answer->why());
        if (!*answer) co_return consul_lookup::away;
        m.taken = false;
        co_return consul_lookup::gone;
    }
    if (!good(**answer)) {  // a 403 or 500 says nothing about the service, only that the agent is running. Reported once
        if (std::exchange(m.reported_status, (*answer)->status) != (*answer)->status)
            m.tell(event_kind::registration_failed, consul_refusal(m, "Consul refused the query:", **answer));
        co_return consul_lookup::refused;
    }
    m.reported_status = 0;
    m.pauses.last = 0;
    co_return consul_lookup::ours;
}

task<void> consul_watch(shared<consul_member> m, double pause) {
    const bool ttl = m->how.numbers.check == consul_check::ttl;
    while (!m->registered || m->period() > 0) {
        co_await pause_wait(m->loop, &m->scope, -1, interest::none, m->loop.now() + pause);
        if (m->scope.canceled) co_return;
        consul_lookup sight = consul_lookup::gone;
        if (m->accepted) sight = co_await consul_look_up(*m);
        if (m->scope.canceled) co_return;
        if (sight == consul_lookup::gone) {
            auto enrolling = consul_enroll(*m);
            const auto& again = co_await value_in(enrolling);
            if (m->scope.canceled) co_return;
            if (!again) m->tell(event_kind::registration_failed, again.why());
            if (!std::exchange(m->tried, true)) m->first = again;
            if (m->start) m->start->wake_soon();
            if (m->rejected) co_return;
            pause = !again ? m->next_pause() : ttl ? 0 : m->healthy_pause();
        } else if (sight == consul_lookup::ours || sight == consul_lookup::others) {
            pause = m->healthy_pause();
        } else {
            pause = m->next_pause();
            if (ttl && pause > m->period()) pause = m->period();  // otherwise the service would be critical until then
        }
    }
}

/// The watchdog. An exception in it (no memory) is reported, and it continues.
task<void> consul_watchdog(shared<consul_member> m, double pause) {
#if PROMETHEUS_ASYNC_EXCEPTIONS
    while (!m->scope.canceled) {
        try {
            co_await consul_watch(m, pause);
            co_return;
        } catch (...) {
            m->tell(event_kind::registration_failed, caught("the watchdog"));
        }
        co_await pause_wait(m->loop, &m->scope, -1, interest::none, m->loop.now() + m->next_pause());
        pause = 0;
    }
#else
    co_await consul_watch(std::move(m), pause);
#endif
}

/// De-registers if the start fails or is destroyed, so that nothing is left in the agent.
struct consul_start_guard {
    shared<consul_member> member;
    ~consul_start_guard() {
        if (!member) return;
        member->start = nullptr;
        contain("de-registration", [&] { member->loop.spawn_closing(consul_deregister_quietly(member)); },
                [&](const error& why) { member->tell(event_kind::deregistration_failed, why); });
    }
};

inline error consul_id_in_use(const consul_member& m, bool taken) {
    return taken ? error_of(errc::invalid_option, {"another server of this process has the Consul service id \"", m.how.id, "\": give each its own service_id"})
                 : error_of(errc::timeout, {"another server of this process is still de-registering the Consul service id \"", m.how.id, "\""});
}

task<result<registration>> consul_start(shared<consul_member> m) {
    if (!m->how.usable) co_return m->how.usable.why();
    if (m->port == 0) co_return error(errc::invalid_option, "a server on a unix socket cannot be registered in Consul");
    wait_scope here;
    const double latest = m->loop.now() + m->how.numbers.deadline.count();
    for (auto claim = m->own(); claim != consul_member::claim::ours; claim = m->own()) {
        if (claim == consul_member::claim::taken || m->loop.now() >= latest) co_return consul_id_in_use(*m, claim == consul_member::claim::taken);
        co_await pause_wait(m->loop, &here, -1, interest::none, m->loop.now() + 0.05);
    }
    consul_start_guard leaves{m};
    const on_failure policy = m->how.numbers.on_failure;
    if (policy == on_failure::retry) {
        m->loop.spawn(consul_watchdog(m, 0));
        pause_wait first(m->loop, &here, -1, interest::none, m->loop.now() + 0.5);
        m->start = &first;
        if (!m->tried) co_await first;
        m->start = nullptr;
        const errc code = m->first.why().code();
        if (code == errc::invalid_option || code == errc::unsupported) co_return m->first.why();
        if (m->rejected) co_return registration{};
    } else {
        const double deadline = m->how.numbers.deadline.count(), until = m->loop.now() + deadline;
        const double last = until - (deadline < 10 ? deadline / 10 : 1);
        while (!m->registered) {
            auto enrolling = consul_enroll(*m, policy == on_failure::wait ? until - m->loop.now() : 15);
            const auto& tried = co_await value_in(enrolling);
            if (tried) break;
            const errc code = tried.why().code();
            if (code == errc::invalid_option || code == errc::unsupported) co_return tried.why();
            m->tell(event_kind::registration_failed, tried.why());
            const double now = m->loop.now(), next = now + m->next_pause();
            if (policy == on_failure::fail || m->rejected || now >= last) co_return tried.why();
            enrolling = {};
            co_await pause_wait(m->loop, &m->scope, -1, interest::none, next < last ? next : last);
        }
        m->loop.spawn(consul_watchdog(m, m->how.numbers.check == consul_check::ttl ? 0 : m->healthy_pause()));
    }
    leaves.member = {};
    registration kept;
    kept.deregister = [m] { return consul_deregister(m); };
    kept.registered = [m] { return __atomic_load_n(&m->registered, __ATOMIC_RELAXED); };
    co_return std::move(kept);
}

/// Whether the HTTP check of these settings would pass at this server.
inline consul_check_forecast consul_forecast_check(const server_state& server, const consul_settings& how) {
    consul_check_forecast out;
    const string *host = nullptr, *authorization = nullptr;
    for (const auto& [name, value] : how.check_headers) {
        if (same_word(name, "host")) host = &value;
        if (same_word(name, "authorization")) authorization = &value;
    }
    const http_route* const route = server.find(std::string_view(how.check_path).substr(0, how.check_path.find('?')));
    if (!route) {
        out.never = "the server has no route for consul_options::check_path";
    } else if (!route->open) {
        if (server.auth && server.auth->asked) out.doubtful = true;
        else if (server.auth && !(authorization && server.auth->matches(*authorization)))
            out.never = "the server asks for credentials: make check_path a route that is open, or give check_headers an Authorization";
        if (host && !server.allows(*host)) out.never = "the Host of consul_options::check_headers is not in allowed_hosts";
        else if (!host && !server.allowed_hosts.empty()) out.host = server.allowed_hosts.front();
    }
    if (server.tls && !how.numbers.tls_skip_verify) out.doubtful = true;  // the agent must trust the CA, and have a certificate if the server requires one
    return out;
}

}  // namespace detail

consul_agent::consul_agent(const consul_options& options)
    : settings_(new detail::consul_settings(options)) {}
consul_agent::~consul_agent() { delete settings_; }
task<result<registration>> consul_agent::register_server(event_loop& loop,
                                                                               const metrics_http_server& server) {
    const detail::server_state* const of = detail::server_state::of(server);
    return detail::consul_start(detail::shared(new detail::consul_member(
        *settings_, loop, server.address(), server.advertise(), server.port(), server.https(),
        of ? detail::consul_forecast_check(*of, *settings_) : detail::consul_check_forecast{})));
}

PROMETHEUS_ASYNC_END

// =============================================================================
// [74] file_sd                                      an atomic target file
//      needs [38] [68] [70]
// =============================================================================
#include <sys/stat.h>
PROMETHEUS_ASYNC_BEGIN
namespace detail {

struct PROMETHEUS_ASYNC_LOCAL file_sd_settings : allocated {
    string path, advertise;
    vector<pair<string, string>> labels;
    bool keep_file;
    string flaw{};
};

/// The file that was written; its identity is stored, so that a file of another process is not removed.
struct file_sd_target : counted<file_sd_target> {
    file_sd_settings how;
    string target;    // "host:port"
    bool https;
    dev_t device = 0;
    ino_t inode = 0;

    result<void> write(std::string_view text);
    result<void> remove();
};

result<void> file_sd_target::write(std::string_view text) {
    replaced_file file(how.path);
    file.write(text);
    const result<struct stat> made = file.replace();
    if (!made) return made.why();
    device = made->st_dev;
    inode = made->st_ino;
    return {};
}

result<void> file_sd_target::remove() {
    const result<bool> ours = still_there(how.path, device, inode);
    if (!ours) return ours.why();
    if (!*ours) return {};
    if (how.keep_file) return write("[]\n");
    return sys::unlink(how.path.c_str()) == 0 ? result<void>() : error::from_errno(how.path, errno);
}

task<result<void>> file_sd_leave(shared<file_sd_target> t) { co_return t->remove(); }

task<result<registration>> file_sd_start(shared<file_sd_target> t) {
    const std::string_view path = t->how.path;
    if (path.size() < 6 || path.substr(path.size() - 5) != ".json")
        co_return error(errc::invalid_option, "file_sd: the path must end in .json");
    if (!t->how.flaw.empty()) co_return error(errc::invalid_option, t->how.flaw);
    if (t->target.empty()) co_return error(errc::invalid_option, "file_sd: Prometheus scrapes no unix socket");
    if (link_local(t->target)) co_return no_link_local();
    json_writer out;
    out.open('[').open('{').key("targets").open('[').text(t->target).close(']').key("labels").open('{');
    if (t->https) out.field("__scheme__", "https");
    for (const auto& [name, value] : t->how.labels) out.field(name, value);
    const result<void> written = t->write(out.close('}').close('}').close(']').take() + '\n');
    if (!written) co_return written.why();
    registration kept;
    kept.deregister = [t] { return file_sd_leave(t); };
    co_return std::move(kept);
}

}  // namespace detail

file_sd::file_sd(const file_sd_options& o)
    : settings_(new detail::file_sd_settings{{}, detail::string(o.path), detail::string(o.advertise), {}, o.keep_file}) {
    for (const label& l : o.labels) {
        if (l.name.is_utf8() ? l.name.empty() || !detail::valid_utf8(l.name) : !detail::legacy_label_name(l.name))
            settings_->flaw = detail::text_of({"file_sd: label ", l.name, " is not [a-zA-Z_][a-zA-Z0-9_]*: use utf8() for it"});
        settings_->labels.emplace_back(l.name, l.value);
    }
}
file_sd::~file_sd() { delete settings_; }
task<result<registration>> file_sd::register_server(event_loop&,
                                                                          const metrics_http_server& server) {
    detail::string target(server.url());  // "http://host:port/"
    target.erase(0, target.find("//") + 2);
    target.erase(target.find_last_not_of('/') + 1);
    if (!settings_->advertise.empty())
        target = detail::text_of({detail::bracketed(detail::unbracketed(settings_->advertise)), ":", detail::digits(server.port())});
    return detail::file_sd_start(detail::shared(
        new detail::file_sd_target{{}, *settings_, server.port() ? target : detail::string(), server.https()}));
}

PROMETHEUS_ASYNC_END

#endif  // rooms [68] to [74]

#endif  // rooms [56] to [74]

// =============================================================================
// [76] textfile                                     written under another name, then renamed
//      needs [37] [48] [58]
// =============================================================================
#if !PROMETHEUS_ASYNC_NO_NETWORK
PROMETHEUS_ASYNC_BEGIN
namespace detail {

/// The metrics of a textfile.
struct textfile_metrics : allocated {
    textfile_metrics(registry& in, std::string_view path) {
        own_metrics(counts, last_success, in, path,
                    "prometheus_async_textfile_failed_total\0Pages that were not written.\0page\0"
                    "prometheus_async_textfile_failed_total\0Pages that were not written.\0timestamp\0"
                    "prometheus_async_textfile_failed_total\0Pages that were not written.\0file\0"
                    "prometheus_async_textfile_written_total\0Pages that were written to the file.\0\0"
                    "prometheus_async_textfile_octets_total\0Octets of these pages.\0\0"
                    "prometheus_async_textfile_last_success_timestamp_seconds\0When the file was last written; 0: never.\0");
    }
    enum : unsigned { written = 3, octets_written, all };
    counter counts[all];  // before those: what failed, by reason
    gauge last_success;
};

struct PROMETHEUS_ASYNC_LOCAL textfile_state : allocated {
    explicit textfile_state(const textfile_options& o)
        : given(o), path(o.path), registries(o.registries.begin(), o.registries.end()), only(o.only.begin(), o.only.end()) {
        if (o.self_metrics) metrics = owned<textfile_metrics>(new textfile_metrics(*o.self_metrics, path));
    }
    textfile_state(const textfile_state&) = delete;
    result<void> write() noexcept;
    result<void> write_alone(bool& ends) noexcept;
    result<void> write_page(std::size_t& octets);
    result<void> report_end(const result<void>& how, std::size_t octets) noexcept;
    result<void> remove();
    result<void> start_thread() noexcept;
    void end_thread() noexcept;
    void finish() noexcept;
    bool on_own_thread() const noexcept { return __atomic_load_n(&runner, __ATOMIC_RELAXED) == &this_thread; }
    /// Whether this thread is inside a write: then it must not wait for the end of the write.
    bool within() const noexcept { return __atomic_load_n(&writer, __ATOMIC_RELAXED) == &this_thread; }
    bool parents() const noexcept { return loop && home != sys::getpid(); }  // a forked child: its lock may be locked forever

    textfile_options given;          // its views must not be used
    string path;
    vector<registry*> registries;
    vector<string> only;
    owned<textfile_metrics> metrics;
    const thread_cells* writer = nullptr;  // this_thread of the one that writes
    const thread_cells* runner = nullptr;  // that of its own thread
    bool destroyed = false;                // by on_event or a collector: then the end of the write that called them finishes,
    bool ends_itself = false;              // or the end of its own thread
    mutex writing, telling;          // telling: protects only `trouble`, so that why() does not wait for the disk
    string trouble;             // the text of why()
    cursor page{};                   // a member, to keep its memory
    dev_t device = 0;
    ino_t inode = 0;
    pid_t process = 0;               // the process that wrote the file; 0: none
    pid_t home = sys::getpid();      // the process in which the thread runs, if there is one
    owned<event_loop> loop;          // of the thread; null: there is no thread
#if !PROMETHEUS_ASYNC_NO_THREADS
    pthread_t thread{};
#endif
};

/// Finds a sample with a timestamp: its line has two blanks after the last brace.
class timestamp_finder {
public:
    /// False at the end of such a line; name() is the name of the sample.
    bool none_in(std::string_view text) noexcept {
        for (char c : text) {
            if (c == '\n') {
                if (blanks_ > 1 && name_[0] != '#') return false;
                size_ = blanks_ = 0;
                named_ = false;
                continue;
            }
            if (c == '}') blanks_ = 0;
            else if (c == ' ') ++blanks_;
            named_ = named_ || c == '{' || c == ' ';
            if (!named_ && size_ < sizeof name_) name_[size_++] = c;
        }
        return true;
    }
    std::string_view name() const noexcept { return {name_, size_}; }

private:
    char name_[48] = {};
    std::size_t size_ = 0, blanks_ = 0;
    bool named_ = false;
};

result<void> textfile_state::write_page(std::size_t& octets) {
    if (path.size() < 6 || !std::string_view(path).ends_with(".prom"))
        return error(errc::invalid_option, "textfile: the path must end in .prom, or node_exporter does not read it");
    const vector<std::string_view> names(only.begin(), only.end());
    page_options options;
    options.registries = {registries.data(), registries.size(), given.registries.code()};
    options.only = names;
    options.on_collector_error = given.on_collector_error;
    options.on_event = [](const event& e, void* self) {
        const textfile_options& now = static_cast<textfile_state*>(self)->given;
        notify(now.on_event, now.context, e);
    };
    options.context = this;
    page.start(options);
    replaced_file file(path);
    timestamp_finder timestamps;
    char piece[4096];
    for (pulled got{0, pull::more}; got.what == pull::more;) {
        got = page.next(piece);
        if (destroyed) return error(errc::canceled, "textfile: it was destroyed by on_event or a collector");
        if (got.what == pull::failed) return error(errc::canceled, "textfile: a collector failed; the file is unchanged");
        const std::string_view text(piece, got.bytes);
        if (!timestamps.none_in(text))
            return error_of(errc::unsupported, {"textfile: node_exporter refuses a file with a timestamp, as of ", timestamps.name()});
        if (!file.write(text)) break;
        octets += got.bytes;
    }
    file.publish();
    const result<struct stat> made = file.replace();
    if (!made) return made.why();
    device = made->st_dev;
    inode = made->st_ino;
    process = sys::getpid();
    return {};
}
constexpr const char* parents_textfile = "textfile: it belongs to the parent process";
constexpr const char* inside_textfile = "textfile: it is being written: neither on_event nor a collector may write or remove it";
result<void> textfile_state::write() noexcept {
    if (parents()) return error(errc::canceled, parents_textfile);
    if (within()) return error(errc::invalid_option, inside_textfile);
    bool ends = false;
    const result<void> how = write_alone(ends);
    if (ends) finish();
    return how;
}
result<void> textfile_state::write_alone(bool& ends) noexcept {
    const locked hold(writing);
    const auto writes = [this](const thread_cells* by) noexcept { __atomic_store_n(&writer, by, __ATOMIC_RELAXED); };
    writes(&this_thread);
    const undo at_the_end{[writes] { writes(nullptr); }};
    std::size_t octets = 0;
    result<void> how;
    contain("a textfile", [&] { how = write_page(octets); }, [&](const error& why) { how = why; });
    const result<void> reported = report_end(how, octets);
    ends = destroyed && !on_own_thread();
    return reported;
}
/// The result of a write. A failure is reported, and why() explains it.
result<void> textfile_state::report_end(const result<void>& how, std::size_t octets) noexcept {
    {
        const locked hold(telling);
        contain("a reason", [&] { trouble = how ? "" : how.why().describe(); }, [](const error&) {});
    }
    if (metrics && how) {
        metrics->counts[textfile_metrics::written].inc();
        metrics->counts[textfile_metrics::octets_written].inc(octets);
        metrics->last_success.set(wall_now());
    }
    if (how) return {};
    const errc code = how.why().code();
    if (metrics) metrics->counts[code == errc::canceled ? 0 : code == errc::unsupported ? 1 : 2].inc();
    notify(given.on_event, given.context, {event_kind::textfile_failed, how.why()});
    return how;
}
result<void> textfile_state::remove() {
    if (parents()) return {};
    if (within()) return error(errc::invalid_option, inside_textfile);
    const locked hold(writing);
    if (process != sys::getpid()) return {};
    const result<bool> ours = still_there(path, device, inode);
    if (!ours) return ours.why();
    if (*ours && sys::unlink(path.c_str()) != 0) return error::from_errno(path, errno);
    return {};
}

// ---- its own thread: a loop that has a timer, and handles the requests of others ----

#if PROMETHEUS_ASYNC_NO_THREADS
result<void> textfile_state::start_thread() noexcept { return error(errc::unsupported, "textfile: this build has no threads: call write(), which blocks"); }
void textfile_state::end_thread() noexcept {}
#else
static task<void> textfile_beat(textfile_state& s) {
    for (;;) {
        static_cast<void>(s.write());
        co_await s.loop->sleep(s.given.interval);
    }
}
static void* textfile_thread(void* of) {
    auto& s = *static_cast<textfile_state*>(of);
    __atomic_store_n(&s.runner, &this_thread, __ATOMIC_RELAXED);
    contain("a textfile's thread", [&] {
        if (positive(s.given.interval.count()) > 0) s.loop->run(textfile_beat(s));
        else s.loop->run();
    }, [&](const error& why) { static_cast<void>(s.report_end(why, 0)); });
    if (s.ends_itself) {
        pthread_detach(pthread_self());
        s.finish();
    }
    return nullptr;
}
result<void> textfile_state::start_thread() noexcept {
    if (loop) return {};
    result<void> made;
    contain("a textfile's loop", [&] { loop = owned<event_loop>(new event_loop); }, [&](const error& why) { made = why; });
    if (!loop) return made;
    home = sys::getpid();
    const int failed = detail::start_thread(thread, &textfile_thread, this);
    if (failed == 0) return {};
    loop = {};
    return error::from_errno("textfile: cannot start a thread", failed);
}
void textfile_state::end_thread() noexcept {
    if (!loop) return;
    loop->stop();
    if (!on_own_thread()) pthread_join(thread, nullptr);
    loop = {};  // requests that have not begun are answered
}
struct textfile_question : asked_elsewhere<textfile_question> {
    result<void> how = error(errc::canceled, "textfile: it was destroyed before the page was written");
    bool answered = false;
};
/// Its destructor answers, whether the file was written or not.
struct textfile_ticket {
    textfile_state* of;
    shared<textfile_question> question;
    textfile_ticket(textfile_state* s, const shared<textfile_question>& q) noexcept : of(s), question(q) {}
    textfile_ticket(textfile_ticket&&) noexcept = default;
    ~textfile_ticket() {
        if (!question) return;
        const locked hold(question->lock);
        question->answered = true;
        contain("a textfile", [&] { question->wake_asker(); }, [](const error&) {});  // no memory: the coroutine that waits looks by itself
    }
    void operator()() const {
        const result<void> how = of->write();
        const locked hold(question->lock);
        question->how = how;
    }
};
#endif
/// Called when no part of it runs any more.
void textfile_state::finish() noexcept {
    end_thread();
    if (!given.keep_file) static_cast<void>(remove());
    else if (positive(given.interval.count()) > 0 && home == sys::getpid() && !destroyed) static_cast<void>(write());  // the last values
    delete this;
}
static task<result<void>> textfile_ask(textfile_state* s, [[maybe_unused]] event_loop* asking) {
    if (s->parents()) co_return s->write();
    const result<void> started = s->start_thread();
#if PROMETHEUS_ASYNC_NO_THREADS
    co_return s->report_end(started, 0);
#else
    if (!started) co_return s->report_end(started, 0);
    const shared question(new textfile_question);
    question->loop = asking;
    const textfile_question::forgotten at_the_end{*question};
    s->loop->post(textfile_ticket(s, question));
    for (;;) {
        pause_wait answer(*asking, nullptr, -1, interest::none, asking->now() + 1);
        question->asks = &answer;
        co_await answer;
        const locked hold(question->lock);
        if (question->answered) co_return question->how;
    }
#endif
}

}  // namespace detail

textfile::textfile(const textfile_options& o) : state_(new detail::textfile_state(o)) {
    if (detail::positive(o.interval.count()) == 0) return;
    if (const result<void> started = state_->start_thread(); !started) static_cast<void>(state_->report_end(started, 0));
}
textfile::~textfile() {
    detail::textfile_state& s = *state_;
    if (s.parents()) {  // its thread may have been anywhere in the code: nothing is destroyed
        detail::loop_state::of(*s.loop).close_copies();
        return;
    }
    if (!s.within() && !s.on_own_thread()) {
        s.finish();
        return;
    }
    s.destroyed = true;
    s.given.on_event = nullptr;  // objects of the user may be destroyed with it
    s.metrics = {};
    if (!s.on_own_thread()) return;
    s.ends_itself = true;
    s.loop->stop();
}
result<void> textfile::write() { return state_->write(); }
task<result<void>> textfile::write(event_loop& loop) { return detail::textfile_ask(state_, &loop); }
result<void> textfile::remove() { return state_->remove(); }
std::string textfile::why() const {
    if (state_->parents()) return detail::parents_textfile;
    const detail::locked hold(state_->telling);
    return state_->trouble;
}

PROMETHEUS_ASYNC_END
#endif

// =============================================================================
// [88] epilogue                                     undefines all macros except the switches
//      needs [10]
// =============================================================================
#undef PROMETHEUS_ASYNC_DETAIL_SYS
#undef PROMETHEUS_ASYNC_DETAIL_UNLOADS
#endif  // rooms [40] to [88]
#undef PROMETHEUS_ASYNC_BEGIN
#undef PROMETHEUS_ASYNC_BEGIN_FAST
#undef PROMETHEUS_ASYNC_DECL
#undef PROMETHEUS_ASYNC_DETAIL_GLUE
#undef PROMETHEUS_ASYNC_DETAIL_NAMED
#undef PROMETHEUS_ASYNC_DETAIL_ABI
#undef PROMETHEUS_ASYNC_DETAIL_FAST
#undef PROMETHEUS_ASYNC_DETAIL_ON_DEMAND
#undef PROMETHEUS_ASYNC_DETAIL_OPEN
#undef PROMETHEUS_ASYNC_DETAIL_SMALL
#undef PROMETHEUS_ASYNC_DETAIL_ONCE
#undef PROMETHEUS_ASYNC_DETAIL_JOINED
#undef PROMETHEUS_ASYNC_DETAIL_LINUX
#undef PROMETHEUS_ASYNC_DETAIL_STEP
#undef PROMETHEUS_ASYNC_DETAIL_WIDE
#undef PROMETHEUS_ASYNC_END
#undef PROMETHEUS_ASYNC_LOCAL
