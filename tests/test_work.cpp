// needs-network
// libs: -fsanitize-coverage=trace-pc
//
// Work, counted: blocks of code that are run, and octets that memchr, memcmp, memmove and memset pass over. What a client, an
// agent or a label value makes four times as long takes about four times the work, not sixteen times.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define TESTS_NO_COUNT 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TESTS_NO_COUNT 1
#endif
#if defined(__clang__)
#define UNCOUNTED __attribute__((no_sanitize("coverage"), visibility("default"), noinline))
#else
#define UNCOUNTED __attribute__((no_sanitize_coverage, visibility("default"), noinline))
#endif
static unsigned long done = 0;
extern "C" UNCOUNTED void __sanitizer_cov_trace_pc() { ++done; }
#ifdef TESTS_NO_COUNT
#include <doctest/doctest.h>
TEST_CASE("work is not counted here") { MESSAGE("SKIPPED: the sanitizer has these functions itself"); }
#else
#include "support/system.hpp"

#define PROMETHEUS_ASYNC_DETAIL_STEP() static_cast<void>(0)  // so that this is compiled alone
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

extern "C" {
void* counted_memchr(const void* at, int c, std::size_t n) noexcept asm("memchr");  // declared otherwise in C++
// The fence keeps the compiler from making a call of the function out of its loop.
UNCOUNTED void* counted_memchr(const void* at, int c, std::size_t n) noexcept {
    const auto* p = static_cast<const unsigned char*>(at);
    for (std::size_t i = 0; i != n; ++i, ++done)
        if (p[i] == static_cast<unsigned char>(c)) return const_cast<unsigned char*>(p + i);
    return nullptr;
}
UNCOUNTED int memcmp(const void* a, const void* b, std::size_t n) noexcept {
    const auto *p = static_cast<const unsigned char*>(a), *q = static_cast<const unsigned char*>(b);
    for (std::size_t i = 0; i != n; ++i, ++done)
        if (p[i] != q[i]) return p[i] < q[i] ? -1 : 1;
    return 0;
}
UNCOUNTED void* memmove(void* to, const void* from, std::size_t n) noexcept {
    auto* p = static_cast<unsigned char*>(to);
    const auto* q = static_cast<const unsigned char*>(from);
    done += n;
    if (p < q) {
        for (std::size_t i = 0; i != n; ++i) {
            p[i] = q[i];
            asm volatile("" ::: "memory");
        }
    } else {
        for (std::size_t i = n; i-- != 0;) {
            p[i] = q[i];
            asm volatile("" ::: "memory");
        }
    }
    return to;
}
UNCOUNTED void* memcpy(void* to, const void* from, std::size_t n) noexcept { return memmove(to, from, n); }
UNCOUNTED void* memset(void* to, int c, std::size_t n) noexcept {
    auto* p = static_cast<unsigned char*>(to);
    done += n;
    for (std::size_t i = 0; i != n; ++i) {
        p[i] = static_cast<unsigned char>(c);
        asm volatile("" ::: "memory");
    }
    return to;
}
}

namespace prom = prometheus_async;
using namespace prom::detail;

namespace {

template <class Act>
unsigned long work_of(Act act) {
    const unsigned long before = done;
    act();
    return done - before;
}
/// What of(n) gives a size to is done with n, and with four times that. Nothing is less than linear in what it reads, so that
/// linear is shown by at most five times the work.
template <class Make, class Act>
void linear(const char* what, std::size_t n, Make make, Act act) {
    CAPTURE(what);
    const auto small = make(n), large = make(4 * n);
    act(small);  // what is kept from then on
    act(large);
    const unsigned long few = work_of([&] { act(small); }), many = work_of([&] { act(large); });
    CAPTURE(few);
    CAPTURE(many);
    CHECK(few != 0);
    CHECK(many < 5 * few);
}
std::string times(std::string_view part, std::size_t n) {
    std::string all;
    while (n-- != 0) all += part;
    return all;
}

struct service : http_service {
    prom::registry shown;
    service() {
        shown.make_counter("a_total", "help").inc();
        routes.push_back({"/", "x", "text/html", {}, true, false});
        routes.push_back({"/m", {}, {}, {&shown}, false, false});
        limits.request_line = limits.header_bytes = 1 << 22;
        limits.header_fields = limits.names = limits.requests_per_connection = 1 << 20;
    }
};
std::string answers(service& s, std::string_view octets, std::size_t piece = 4096) {
    const int fd = test_system::next_peer++;
    test_system::peer& p = test_system::peers[fd];
    {
        http_connection c(s, fd, 1000);
        while (!c.closed()) {
            if (p.to_server.empty()) {
                p.to_server = octets.substr(0, piece);
                octets.remove_prefix(p.to_server.size());
                p.fin = octets.empty();
            }
            c.run(1000);
        }
    }
    std::string all = std::move(p.from_server);
    test_system::peers.erase(fd);
    return all;
}
/// A request with so many of what it is given.
void requests(const char* what, std::size_t n, std::string_view before, std::string_view part, std::string_view after) {
    service s;
    linear(what, n, [&](std::size_t k) { return std::string(before) + times(part, k) + std::string(after); },
           [&](const std::string& octets) { CHECK(answers(s, octets).starts_with("HTTP/1.1 ")); });
}

}  // namespace

TEST_CASE("the counts see work that is square") {
    const auto square = [](const std::string& text) {
        std::size_t found = 0;
        for (std::size_t i = 0; i != text.size(); ++i) found += text.find('b', i) != text.npos;
        return found;
    };
    const std::string small = times("a", 1000), large = times("a", 4000);
    CHECK(work_of([&] { square(large); }) > 10 * work_of([&] { square(small); }));
}

TEST_CASE("a query of any form is read once") {
    for (const char* part : {"&", "&=", "&a", "&a=b", "&name[]=", "&name[]=x", "&name%5B%5D=%41", "%", "=", "+", "&name[]=a_total"}) {
        CAPTURE(part);
        requests("a query", 4000, "GET /m?", part, " HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    requests("a path", 4000, "GET /", "%2e%2E/", " HTTP/1.1\r\nHost: a\r\n\r\n");
}

TEST_CASE("lists in fields are read once") {
    const std::string_view head = "GET /m HTTP/1.1\r\nHost: a\r\n";
    for (const char* field : {"Accept", "Accept-Encoding", "Connection", "Expect", "Forwarded", "X-Forwarded-For", "Transfer-Encoding", "Content-Length", "Authorization", "Host"})
        for (const char* part : {",", ", ", "a,", "a;q=0.5,", "text/plain;version=1.0.0;q=0.1,", "\"\\\"\",", "\"", ";", "close,", "0,", " "}) {
            CAPTURE(field);
            CAPTURE(part);
            requests("a field", 1000, std::string(head) + field + ": a,", part, "\r\n\r\n");
        }
    for (const char* line : {"Accept: a\r\n", "X: y\r\n", "Connection: close\r\n", "A:\r\n"}) requests("fields", 1000, head, line, "\r\n");
}

TEST_CASE("requests in a row, bodies in small chunks, their extensions and trailers are read once") {
    requests("pipelined", 500, "", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "");
    const std::string_view head = "POST /m HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    requests("chunks", 1000, head, "1\r\nx\r\n", "0\r\n\r\n");
    requests("an extension", 1000, std::string(head) + "1", ";a=\"\\b\"", "\r\nx\r\n0\r\n\r\n");
    requests("trailers", 1000, std::string(head) + "0\r\n", "a: b\r\n", "\r\n");
    requests("empty lines", 1000, "", "\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    service s;
    linear("octet by octet", 500, [](std::size_t n) { return "GET /m?" + times("&name[]=x", n) + " HTTP/1.1\r\nHost: a\r\nAccept: " + times("a,", n) + "\r\n\r\n"; },
           [&](const std::string& octets) { CHECK(answers(s, octets, 1).starts_with("HTTP/1.1 ")); });
}

TEST_CASE("routes and allowed hosts are compared once each") {
    linear("routes", 1000,
           [](std::size_t n) {
               auto s = std::make_unique<service>();
               for (std::size_t i = 0; i != n; ++i) s->routes.push_back({prom::detail::string("/r" + std::to_string(i)), "x", "text/plain", {}, true, false});
               for (std::size_t i = 0; i != n; ++i) s->allowed_hosts.emplace_back("h" + std::to_string(i));
               s->hosts = &prom::detail::hosts_code::all;
               return s;
           },
           [](const std::unique_ptr<service>& s) { CHECK(answers(*s, "GET /nowhere HTTP/1.1\r\nHost: nobody\r\n\r\n").starts_with("HTTP/1.1 ")); });
}

TEST_CASE("names to choose families are looked up, not compared with each family") {
    linear("families and names", 200,
           [](std::size_t n) {
               auto s = std::make_unique<service>();
               for (std::size_t i = 0; i != n; ++i) s->shown.make_gauge("g" + std::to_string(i), "h");
               std::string query = "GET /m?name[]=x";
               for (std::size_t i = 0; i != n; ++i) query += "&name[]=g" + std::to_string(i) + "_count";
               return std::pair(std::move(s), query + " HTTP/1.1\r\nHost: a\r\n\r\n");
           },
           [](const auto& asked) { CHECK(answers(*asked.first, asked.second).starts_with("HTTP/1.1 200")); });
}

TEST_CASE("an answer of any form is read once, whole and octet by octet") {
    for (const char* part : {"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n"}) {
        linear(part, 500, [&](std::size_t n) { return times(part, n) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"; },
               [](const std::string& octets) {
                   response_parser whole, single;
                   static_cast<void>(whole.feed(octets));
                   for (char c : octets) static_cast<void>(single.feed({&c, 1}));
                   CHECK(whole.finish() == single.finish());
               });
    }
    const std::string chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (const auto& [before, part, after] : std::vector<std::array<std::string, 3>>{{chunked, "1\r\nx\r\n", "0\r\n\r\n"},
                                                                                     {chunked + "1", ";a=b", "\r\nx\r\n0\r\n\r\n"},
                                                                                     {chunked + "0\r\n", "a: b\r\n", "\r\n"},
                                                                                     {"HTTP/1.1 200 OK\r\n", "A: b\r\n", "\r\n"},
                                                                                     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: a", ",", "\r\n\r\n"},
                                                                                     {"HTTP/1.1 200 OK\r\nConnection: a", ", close", "\r\n\r\n"},
                                                                                     {"HTTP/1.1 200 OK\r\nContent-Length: 1", ", 1", "\r\n\r\nx"}})
        linear(part.c_str(), 1000, [&](std::size_t n) { return before + times(part, n) + after; },
               [](const std::string& octets) {
                   response_parser whole, single;
                   static_cast<void>(whole.feed(octets));
                   for (char c : octets) static_cast<void>(single.feed({&c, 1}));
                   CHECK(whole.finish() == single.finish());
               });
}

TEST_CASE("a token that an answer repeats is taken out of it once each, and others are passed over") {
    for (const char* part : {"secret", "s", "se", "secre", "secretsecre"})
        linear(part, 2000, [&](std::size_t n) { return times(part, n); },
               [](const std::string& text) {
                   prom::detail::string said(text);
                   redact(said, "secret");
                   CHECK(said.find("secret") == prom::detail::string::npos);
               });
}

TEST_CASE("texts are escaped, mended and negotiated in one pass") {
    for (const char* part : {"\xff", "\xc3", "\xe2\x82", "\xc3\xa4", "a", "\n", "\"", "\\", "_", "."}) {
        CAPTURE(part);
        linear("mended", 2000, [&](std::size_t n) { return times(part, n); },
               [](const std::string& text) {
                   bool changed = false;
                   CHECK_FALSE(sanitize_utf8(text, changed).empty());
                   for (auto how : {prom::escaping::underscores, prom::escaping::dots, prom::escaping::values}) {
                       prom::detail::string name;
                       append_name(name, text, how, true);
                   }
                   static_cast<void>(prom::negotiate(text, text));
               });
        linear("a label's value", 500, [&](std::size_t n) { return times(part, n); },
               [](const std::string& text) {
                   prom::registry of;
                   prom::registry* const shown[] = {&of};
                   of.make_family<prom::counter>("f_total", text, {"a"})({text}).inc();
                   CHECK_FALSE(prom::expose({.as = prom::format::openmetrics_1_0_0, .registries = shown}).empty());
               });
    }
}

TEST_CASE("a text longer than any buffer is declared, shown, looked up and removed in one pass, in each format") {
    for (const char* part : {"\xff", "a", "\n"}) {
        CAPTURE(part);
        linear("a text", 4'200, [&](std::size_t n) { return times(part, n); },
               [](const std::string& text) {
                   prom::registry of;
                   prom::registry* const shown[] = {&of};
                   of.make_counter("c_total", text, {.labels = {{"a", text}}}).inc(1, {.labels = {{"a", text}}});
                   of.make_info("i", "h").set({{"a", text}});
                   static_cast<void>(of.make_state_set("s", text, {.states = {text, "b"}}).set(text));
                   if (auto made = of.try_counter(text, "h")) made->inc();
                   if (auto made = of.try_gauge(prom::utf8(text), "h")) made->set(1);
                   const auto f = of.make_family<prom::histogram>("f", "h", {"a"});
                   f({text}).observe(1);
                   for (auto as : {prom::format::text_0_0_4, prom::format::text_1_0_0, prom::format::openmetrics_1_0_0, prom::format::protobuf, prom::format::openmetrics_2_0_0}) {
                       prom::cursor page;
                       page.start({.as = as, .names = prom::escaping::values, .registries = shown});
                       char piece[64];
                       while (page.next(piece).what == prom::pull::more) {}
                   }
                   CHECK_FALSE(prom::expose({.registries = shown, .only = {text, "c_total"}}).empty());
                   CHECK((of.sample_value("f_count", {{"a", text}}) || text[0] == '\xff'));  // its value is what the page shows
                   CHECK_FALSE(of.sample_value(text, {{text, text}}));
                   CHECK(f.remove_matching({{"a", text}}) == 1);
                   static_cast<void>(of.unregister(text));
               });
        if (part[0] != 'a' && part[0] != '\n') continue;
        for (const char* path : {"/m", "/people"})
            linear("an answer", 17'000,
                   [&](std::size_t n) {
                       auto made = std::make_unique<service>();
                       made->routes.push_back({"/people", {}, {}, {&made->shown}, false, false});
                       made->routes.back().view = prom::landing_page;
                       made->shown.make_family<prom::counter>("f_total", times(part, n), {"a"})({times(part, n)}).inc();
                       return made;
                   },
                   [&](const std::unique_ptr<service>& from) {
                       CHECK(answers(*from, "GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n").starts_with("HTTP/1.1 200"));
                   });
    }
}

TEST_CASE("label values that come and go leave no work behind") {
    linear("values", 500, [](std::size_t n) { return n; },
           [](std::size_t n) {
               prom::registry of;
               const auto f = of.make_family<prom::counter>("f_total", "h", {"a"});
               for (std::size_t i = 0; i != n; ++i) f({std::to_string(i)}).inc();
               for (std::size_t i = 0; i != n; ++i) CHECK(f.remove({std::to_string(i)}));
           });
    prom::registry of;
    prom::registry* const shown[] = {&of};
    const auto f = of.make_family<prom::counter>("f_total", "h", {"a"});
    f({"stays"}).inc();
    const auto page = [&] { return work_of([&] { CHECK_FALSE(prom::expose({.registries = shown}).empty()); }); };
    page();
    const unsigned long before = page();
    for (int i = 0; i != 3000; ++i) f({std::to_string(i)}).inc();
    for (int i = 0; i != 3000; ++i) CHECK(f.remove({std::to_string(i)}));
    page();
    const unsigned long after = page();
    CAPTURE(before);
    CAPTURE(after);
    CHECK(after < before + 6000);  // of fewer than 64 lines no list is made shorter
}
#endif
