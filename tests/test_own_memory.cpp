// needs-network
// PROMETHEUS_ASYNC_ALLOCATE and PROMETHEUS_ASYNC_RELEASE: all memory comes from there, aligned as asked, and goes back with its size.
#include <cstddef>

void* take_counted(std::size_t bytes, std::size_t alignment) noexcept;
void give_counted(void* p, std::size_t bytes) noexcept;

#define PROMETHEUS_ASYNC_ALLOCATE(bytes, alignment) ::take_counted(bytes, alignment)
#define PROMETHEUS_ASYNC_RELEASE(p, bytes) ::give_counted(p, bytes)
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/allocations.hpp"
#include "support/scripted_peer.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#if !PROMETHEUS_ASYNC_NO_THREADS
#include <thread>
#endif
#include <utility>

namespace prom = prometheus_async;

namespace {
std::atomic<long> taken{0}, wrong{0}, fail_in{-1};  // fail_in: how many are given before one is not
std::atomic<long> held{0};                         // octets
std::atomic<long> left{-1};                        // octets that are still given; below 0: as many as are wanted
std::string_view secret;                           // octets that no memory may hold when it is given back
std::atomic<long> leaks{0};                        // how much memory held them
struct front {
    std::size_t bytes, mark;
    void* whole;
};
thread_local bool starved = false;                 // this thread gets nothing
thread_local bool dawdles = false;                 // this thread waits for its memory until `goes_on`
std::atomic<bool> waits{false}, goes_on{false};
constexpr std::size_t mark = 0x5ca1ab1e;
}  // namespace

void* take_counted(std::size_t bytes, std::size_t alignment) noexcept {
    wrong += bytes == 0 || alignment == 0 || (alignment & (alignment - 1)) != 0;
    if (dawdles) {
        waits = true;
        while (!goes_on) ::usleep(1000);  // the runner has a time limit
    }
    if (starved || (fail_in >= 0 && fail_in-- == 0)) return nullptr;
    if (left >= 0 && left < static_cast<long>(bytes)) return nullptr;
    if (left >= 0) left -= static_cast<long>(bytes);
    if (alignment < alignof(front)) alignment = alignof(front);
    void* const whole = std::malloc(bytes + alignment + sizeof(front));
    if (!whole) std::abort();
    const auto begin = (reinterpret_cast<std::uintptr_t>(whole) + sizeof(front) + alignment - 1) & ~(alignment - 1);
    front f{bytes, mark, whole};
    std::memcpy(reinterpret_cast<char*>(begin) - sizeof f, &f, sizeof f);
    std::memset(reinterpret_cast<void*>(begin), 0xa5, bytes);
    ++taken;
    held += static_cast<long>(bytes);
    return reinterpret_cast<void*>(begin);
}
void give_counted(void* p, std::size_t bytes) noexcept {
    front f{};
    std::memcpy(&f, static_cast<char*>(p) - sizeof f, sizeof f);
    wrong += f.mark != mark || f.bytes != bytes;
    held -= static_cast<long>(f.bytes);
    if (left >= 0) left += static_cast<long>(f.bytes);
    leaks += !secret.empty() && std::string_view(static_cast<const char*>(p), bytes).find(secret) != std::string_view::npos;
    f.mark = 0;
    std::memcpy(static_cast<char*>(p) - sizeof f, &f, sizeof f);
    std::free(f.whole);
}

namespace {
/// One request over a connection of its own; the status, or 0.
int ask(std::uint16_t port, prom::event_loop& loop, const char* more = "") {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    char answer[100] = {}, rest[4096];
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) {
        char request[8192];
        const int size = std::snprintf(request, sizeof request, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nConnection: close\r\n%s\r\n", more);
        (void)::send(fd, request, static_cast<std::size_t>(size), MSG_NOSIGNAL);
        for (int i = 0; i != 2000; ++i) {
            loop.poll(0.001);
            char* const into = answer[0] != 0 ? rest : answer;
            const ssize_t n = ::recv(fd, into, answer[0] != 0 ? sizeof rest : sizeof answer - 1, MSG_DONTWAIT);
            if (n == 0) break;
        }
    }
    ::close(fd);
    return std::strlen(answer) > 12 ? std::atoi(answer + 9) : 0;
}

/// What each metric, a page and a server allocate; nothing is left of it.
void everything(std::string_view path) {
    prom::registry r;
    const prom::counter c{"jobs_with_a_long_name", "Help that is longer than a string holds inside.", {.registry = &r}};
    const prom::family<prom::gauge, "zone"> g{"depth", "Depth.", {.registry = &r}};
    const prom::histogram h{"seconds", "Time.", {.registry = &r, .buckets = {0.25, 0.75, 31}}};
    const prom::histogram native{"native_seconds", "Time.", {.registry = &r, .native = {.factor = 1.1}}};
    const prom::info i{"build", "Build.", {.registry = &r}};
    for (int k = 0; k != 300; ++k) g(k).set(k), native.observe(k * 0.7 + 1e-9);
    for (int k = 0; k != 200; ++k) CHECK(g.remove(k));
    c.inc(1, {.labels = {{"trace", "an exemplar of some length"}}});
    c.inc(0.5);
    h.observe(0.5);
    i.set({{"version", "a long version, longer than a string holds inside"}});
    double captured[16] = {};
    const auto collector = r.add_collector([captured](prom::sample_sink& to) {
        to.family(prom::metric_type::gauge, "collected", "Help.");
        to.sample(captured[3], {{"label", "a value that is longer than a string holds"}});
    });
    prom::registry* const all[] = {&r};
    prom::cursor page;
    char window[512];
    for (const auto as : {prom::format::text_0_0_4, prom::format::openmetrics_1_0_0, prom::format::protobuf, prom::format::openmetrics_2_0_0}) {
        page.start({.as = as, .names = prom::escaping::values, .registries = all});
        while (page.next(window).what == prom::pull::more) {}
    }
    prom::event_loop loop;
    prom::file_sd file{{.path = path}};
    const prom::credential known[] = {prom::basic("user", "a password that is long enough")};
    const prom::route routes[] = {{.path = "/metrics", .registries = all}, {.path = "/text", .text = "a text that is longer than a string holds"}};
    {
        prom::metrics_http_server server;
        loop.spawn([](prom::event_loop& l, const prom::server_options& options, prom::metrics_http_server& to) -> prom::task<void> {
            auto made = co_await prom::start_http_server(l, options);
            if (made) to = *std::move(made);
        }(loop, {.addr = "127.0.0.1", .service_discovery = &file, .routes = routes, .self_metrics = true}, server));
        for (int k = 0; k != 100 && server.port() == 0; ++k) loop.poll(0.01);
        int posted = 0;
        loop.post([&posted, captured] { posted = captured[5] < 1 ? 1 : 2; });
        CHECK(ask(server.port(), loop) == 200);
        CHECK(posted == 1);
    }
    loop.poll(0.01);
    loop.run([](prom::event_loop& l, const prom::server_options& options) -> prom::task<void> {
        auto server = co_await prom::start_http_server(l, options);
        CHECK(server);
        if (server) (void)co_await server->close();
    }(loop, {.addr = "127.0.0.1", .credentials = known}));
    prom::deferred<int> later;
    int got = 0;
    double more[8] = {};
    later.then([&got, more](int x) { got = x + static_cast<int>(more[0]); return 0; });
    later.fire(7);
    CHECK(got == 7);
    const auto pushed = prom::push_to_gateway({.gateway = "127.0.0.1:1", .job = "a job of a long name", .registries = all, .tries = 1});
    CHECK_FALSE(pushed);
}
}  // namespace

TEST_CASE("all memory is asked for in one place, and goes back there with its size") {
    char path[64];
    std::snprintf(path, sizeof path, "/tmp/prometheus_async_own_memory_%d.json", static_cast<int>(::getpid()));
    everything(path);  // what is made once for the process
    const long before = held, count = taken, by_new = allocations;
    everything(path);
    CHECK(taken > count + 100);
    CHECK(held == before);
    CHECK(wrong == 0);
    CHECK(allocations == by_new);
    ::unlink(path);
}

namespace {
struct alignas(64) wide {
    explicit wide(int n) noexcept : value(n) {}
    wide(wide&& from) noexcept : value(from.value) {}
    bool is_aligned() const noexcept { return reinterpret_cast<std::uintptr_t>(this) % 64 == 0; }
    int value;
};
}  // namespace

TEST_CASE("what holds an object of a wide alignment is aligned so, and goes back with its size") {
    const long before = held;
    {
        prom::callback<int()> moved = [w = wide(1)] { return w.is_aligned() ? w.value : 0; };
        auto called = std::move(moved);
        CHECK(called() == 1);
        prom::deferred<wide> d;
        d.fire(wide(2));
        int got = 0;
        d.add_callback([&](wide w) { got = w.is_aligned() ? w.value : 0; });
        CHECK(got == 2);
        CHECK(held > before);
    }
    CHECK(held == before);
    CHECK(wrong == 0);
}

TEST_CASE("a callback of up to four pointers takes no memory, a larger one takes what it holds") {
    void* const p = &secret;
    const long before = held, count = taken;
    {
        const prom::callback<void*()> four([a = p, b = p, c = p, d = p] { return a == b && c == d ? a : nullptr; });
        CHECK(taken == count);
        const prom::callback<void*()> five([a = p, b = p, c = p, d = p, e = p] { return a == b && c == d ? e : nullptr; });
        CHECK(taken == count + 1);
        CHECK(held == before + static_cast<long>(5 * sizeof p));
    }
    CHECK(held == before);
}

namespace {
/// A body of so many chunks, the last of so many octets.
struct chunked_body {
    int left;
    std::size_t last;
    static prom::pulled next(void* self, std::span<char> into) noexcept {
        auto& b = *static_cast<chunked_body*>(self);
        const bool more = --b.left > 0;
        const std::size_t n = more ? into.size() : b.last;
        std::memset(into.data(), 'b', n);
        return {n, more ? prom::pull::more : prom::pull::done};
    }
    prom::detail::http_body body{&next, this};
};
}  // namespace

TEST_CASE("memory that held a secret of a request is overwritten before it is given back") {
    using namespace scripted;
    // Each is longer than what is kept for the rest of a head: none may be forgotten where that is reserved.
    const std::string token = "token-of-many-octets", bearer = "Bearer " + std::string(700, 'b') + token, path = '/' + std::string(700, 'p'),
                      name(700, 'n'), type(700, 't');
    for (const std::size_t begun : {1u, 100u, 20000u})
        for (const std::size_t last : {0u, 1u, 300u}) {
            prom::event_loop loop(on_fake_time());
            peer there(loop, [](const std::string&) { return kept(http(200)); });
            prom::detail::wait_scope scope;
            const auto to = *prom::detail::parse_endpoint(there.at(), false, 80, 443);
            const std::string first(begun, 'a');
            secret = token;
            leaks = 0;
            {
                prom::detail::http_client client(loop, scope, to, {});
                prom::detail::http_request request{.method = "PUT", .target = path, .secret_name = name, .secret = token, .body = first, .authorization = bearer, .content_type = type};
                REQUIRE(finish(loop, client.connect(request)));
                CHECK(finish(loop, client.exchange(request))->status == 200);
                chunked_body longer{3, last};
                request.rest = &longer.body;
                CHECK(finish(loop, client.exchange(request))->status == 200);
                chunked_body shorter{1, last};
                request.rest = &shorter.body;
                CHECK(finish(loop, client.exchange(request))->status == 200);
            }
            secret = {};
            CHECK(leaks == 0);
            CHECK(there.requests.size() == 3);
            CHECK(there.requests.at(2).find(bearer) != std::string::npos);
        }
}

TEST_CASE("a registry at its limits takes no more memory, whatever is asked of it") {
    for (const prom::registry_limits limits : {prom::registry_limits{.series = 52}, prom::registry_limits{.bytes = 700}, prom::registry_limits{.families = 2, .series = 52, .bytes = 700}}) {
        prom::registry r(limits);
        const prom::family<prom::counter, "l"> f{"children", "h", {.registry = &r}};
        const prom::family<prom::histogram, "l"> g{"more", "h", {.registry = &r}};
        std::string value;
        const auto ask_for = [&](int from, int to) {
            for (int k = from; k != to; ++k) {
                value.assign(20, static_cast<char>('a' + k % 26)).append(std::to_string(k));
                f(value).inc(), g(value).observe(k);
            }
        };
        ask_for(0, 2000);
        const long before = held;
        ask_for(2000, 12000);
        CHECK(held == before);
        CHECK(f("_overflow").value() + static_cast<double>(f.size()) - 1 == 12000);
        CHECK(r.held().series <= 52);
        CHECK(r.held().bytes <= (limits.bytes == 0 ? 1300 : 700));
    }
    CHECK(wrong == 0);
}

// With exceptions each of these throws where test_failing_memory says. Without them each would end the program.
TEST_CASE("a client that finds no memory is let go, however much there is, and the server serves on") {
    const std::string words(3000, 'w');
    for (long room = 0; room <= 40000; room += room < 2048 ? 256 : 2048) {
        double now = 0;
        static double* time = nullptr;
        time = &now;
        prom::event_loop loop({.time = {[] { return *time += 0.001; }, [] { return 1.7e9; }}});
        prom::metrics_http_server server;
        loop.run([](prom::event_loop& l, prom::metrics_http_server& to) -> prom::task<void> {
            auto made = co_await prom::start_http_server(l, {.addr = "127.0.0.1", .self_metrics = true});
            if (made) to = *std::move(made);
        }(loop, server));
        REQUIRE(server.port() != 0);
        for (const std::string& more : {std::string(), "Accept: " + words + "\r\nAuthorization: " + words + "\r\n"}) {
            left = room;
            const int status = ask(server.port(), loop, more.c_str());
            left = -1;
            CHECK((status == 0 || status == 200 || status == 500 || status == 503));
            now += 1;  // it accepts again
            CHECK(ask(server.port(), loop) == 200);
        }
    }
    CHECK(wrong == 0);
}

#if !PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("a series that finds no memory counts in the overflow series, or where there is none, nowhere") {
    for (const bool overflow : {true, false})
        for (long room = 0; room <= 100000; room += room < 2048 ? 256 : 4096) {
            prom::registry r;
            const prom::family<prom::histogram, "l"> f{"children", "h", {.registry = &r}};
            if (overflow) f("_overflow").observe(1);
            const std::uint64_t before = prom::event_count(prom::event_kind::series_overflowed);
            left = room;
            for (int k = 0; k != 1500; ++k) f(k).observe(1);
            left = -1;
            const std::uint64_t without = prom::event_count(prom::event_kind::series_overflowed) - before;
            CHECK(f.size() == 1500 - without + overflow);
            if (overflow) CHECK(f("_overflow").count() == 1 + without);
            f("later").observe(1);
            CHECK(f("later").count() == 1);
        }
    CHECK(wrong == 0);
}
#endif

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("null is what operator new's failure is") {
    prom::registry r;
    const prom::family<prom::counter, "l"> f{"children", "h", {.registry = &r}};
    f("x").inc();
    fail_in = 0;
    CHECK_THROWS_AS(r.make_counter("another_counter_of_a_long_name", "h"), std::bad_alloc);
    fail_in = -1;
    r.make_counter("another_counter_of_a_long_name", "h").inc();
    for (long n = 0, failed = 1; failed != 0; ++n) {
        fail_in = n;
        try {
            for (int k = 0; k != 50; ++k) f(k).inc();
            failed = fail_in >= 0 ? 0 : 1;
            fail_in = -1;
        } catch (const std::bad_alloc&) {
        }
    }
    CHECK(f(49).value() > 0);
    CHECK(wrong == 0);
}
#endif

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("a child that is forked while another thread posts leaves alone what was posted") {
    static int dropped = 0;
    struct work {
        bool held = true;
        work() = default;
        work(work&& from) noexcept : held(std::exchange(from.held, false)) {}
        ~work() { dropped += held; }
        void operator()() const {}
    };
    std::optional<prom::event_loop> loop(std::in_place);
    loop->post(work());
    waits = goes_on = false;
    std::thread other([&] {
        dawdles = true;
        loop->post(work());  // the list of what was posted grows, under its lock
        dawdles = false;
    });
    while (!waits) ::usleep(1000);
    dropped = 0;
    const pid_t child = ::fork();
    if (child == 0) {
        loop.reset();
        ::_exit(dropped);
    }
    int status = 1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    goes_on = true;
    other.join();
    loop.reset();
    CHECK(dropped == 2);
}

TEST_CASE("a forked child destroys nothing that the thread of a textfile was at work with") {
    const std::string path = "/tmp/prometheus_async_own_memory_" + std::to_string(::getpid()) + ".prom";
    prom::registry r;
    prom::registry* const all[] = {&r};
    std::atomic<bool> inside = false, ends = false;
    const auto blocking = r.add_collector([&](prom::sample_sink&) {
        inside = true;
        while (!ends) ::usleep(1000);  // the runner has a time limit
    });
    std::optional<prom::textfile> f(std::in_place, prom::textfile_options{.path = path, .registries = all, .interval = 1e6});
    while (!inside) ::usleep(1000);
    const pid_t child = ::fork();
    if (child == 0) {
        const long before = held;
        f.reset();
        ::_exit(before > 0 && held == before ? 0 : 1);
    }
    int status = 1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    ends = true;
    f.reset();
    CHECK(::access(path.c_str(), F_OK) != 0);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("a write from a loop ends, also when the textfile's thread has no memory to say so") {
    const std::string path = "/tmp/prometheus_async_own_memory_" + std::to_string(::getpid()) + ".prom";
    static double now = 0;
    prom::registry r;
    prom::registry* const all[] = {&r};
    const auto starves = r.add_collector([](prom::sample_sink&) { starved = true; });
    prom::textfile f({.path = path, .registries = all});
    prom::event_loop loop({.time = {[] { return now += 0.1; }, [] { return 1.7e9; }}});
    (void)loop.run(f.write(loop));  // written or not, as far as its memory goes
    CHECK_FALSE(starved);
}
#endif
#endif
