// Rooms [20], [22], [26], [37], [39], [67].
// needs-network
// needs-threads
// How much of a thread's stack the library uses: the README states these limits, for a build with optimisation.
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

namespace prom = prometheus_async;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TESTS_STACK_OF_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TESTS_STACK_OF_SANITIZER 1
#endif
#endif

namespace {
constexpr unsigned char paint = 0xc5;

/// How many octets below the thread's own data a call of `run` in a new thread writes.
template <class Run>
std::size_t depth_of(Run run) {
    struct task {
        Run& run;
        char* top;
        static void* main(void* self) {
            char here = 0;
            static_cast<task*>(self)->top = &here;
            static_cast<task*>(self)->run();
            return nullptr;
        }
    } it{run, nullptr};
    constexpr std::size_t size = 1 << 20;
    auto* const low = static_cast<char*>(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(low != MAP_FAILED);
    std::memset(low, paint, size);
    pthread_attr_t how;
    pthread_t thread;
    REQUIRE(pthread_attr_init(&how) == 0);
    REQUIRE(pthread_attr_setstack(&how, low, size) == 0);
    REQUIRE(pthread_create(&thread, &how, &task::main, &it) == 0);
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&how);
    std::size_t clean = 0;
    while (clean != size && static_cast<unsigned char>(low[clean]) == paint) ++clean;
    const auto depth = static_cast<std::size_t>(it.top - (low + clean));
    ::munmap(low, size);
    return depth;
}

void stays_within([[maybe_unused]] std::size_t most, const char* what, std::size_t depth) {
    std::printf("stack: %6zu octets  %s\n", depth, what);
#if !defined(TESTS_STACK_OF_SANITIZER)
    CHECK_MESSAGE(depth <= most, what);
#endif
    CHECK(depth > 100);
}

/// What a server at this port answers.
std::string asked(std::uint16_t port, const std::string& request) {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    std::string all;
    char some[4096];
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 && ::send(fd, request.data(), request.size(), MSG_NOSIGNAL) > 0)
        for (ssize_t n; (n = ::recv(fd, some, sizeof some, 0)) > 0;) all.append(some, static_cast<std::size_t>(n));
    ::close(fd);
    return all;
}

struct metrics {
    prom::registry mine;
    prom::registry* all[1] = {&mine};
    prom::counter counter{"c_total", "h", {.registry = &mine}};
    prom::gauge gauge{"g", "h", {.registry = &mine}};
    prom::histogram histogram{"h", "h", {.registry = &mine}};
    prom::histogram native{"n", "h", {.registry = &mine, .native = {.factor = 1.1}}};
    prom::min_max_gauge extremes{"m", "h", {.registry = &mine}};
    prom::family<prom::counter, "a", "b"> family{"f_total", "h", {.registry = &mine}};
};
}  // namespace

TEST_CASE("updates, look-ups and pages stay within a few kilobytes of stack") {
    metrics m;
    stays_within(4096, "first updates, and those that give the thread cells of its own", depth_of([&] {
        for (int i = 0; i != 100; ++i) m.counter.inc(), m.gauge.inc(2), m.histogram.observe(i), m.native.observe(i), m.extremes.observe(i);
    }));
    const std::string value(400, 'x');
    stays_within(16384, "series that are made, found and removed", depth_of([&] {
        for (int i = 0; i != 500; ++i) m.family(value, i).inc(), m.family("short", i).inc();
        for (int i = 0; i != 400; ++i) m.family.remove(value, i);
        m.family.remove_matching({{"a", "short"}});
    }));
    stays_within(16384, "a declaration", depth_of([&] { m.mine.make_histogram("later", "h", {.unit = "", .buckets = {0.1, 1}}); }));
    for (const prom::format as : {prom::format::text_0_0_4, prom::format::openmetrics_1_0_0, prom::format::openmetrics_2_0_0, prom::format::protobuf})
        stays_within(28672, "expose(), with its buffer of 16 KiB", depth_of([&] { CHECK(!prom::expose({.as = as, .registries = m.all}).empty()); }));
    stays_within(12288, "a cursor", depth_of([&] {
        static char into[512];
        prom::cursor page;
        page.start({.registries = m.all});
        while (page.next(into).what == prom::pull::more) {}
    }));
}

TEST_CASE("a server, from its start over its answers to its end, stays within 32 KiB of stack") {
    metrics m;
    for (int i = 0; i != 1000; ++i) m.family("v", i).inc();
    const prom::route routes[] = {{.path = "/metrics", .registries = m.all}, {.path = "/", .registries = m.all, .view = prom::landing_page}};
    const auto served = [&](std::initializer_list<std::string> requests) {
        return depth_of([&] {
            prom::event_loop loop;
            std::thread client;
            loop.run([](prom::event_loop& l, const prom::server_options& options, std::initializer_list<std::string> all, std::thread& asks) -> prom::task<void> {
                auto server = co_await prom::start_http_server(l, options);
                CHECK(server);
                if (!server) co_return;
                prom::deferred<int> done;
                asks = std::thread([&l, done, all, port = server->port()] {
                    int good = 0;
                    for (const std::string& one : all) good += asked(port, one).find(" 200 OK\r\n") != std::string::npos;
                    l.post([done, good] { done.fire(good); });
                });
                CHECK(co_await done == static_cast<int>(all.size()));
                (void)co_await server->close();
            }(loop, {.addr = "127.0.0.1", .routes = routes, .self_metrics = true}, requests, client));
            if (client.joinable()) client.join();
        });
    };
    const std::string get = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", end = "\r\n";
    stays_within(32768, "a server: text", served({get + end}));
    stays_within(32768, "a server: compressed", served({get + "Accept-Encoding: gzip\r\n" + end}));
    stays_within(32768, "a server: protobuf", served({get + "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n" + end}));
    stays_within(32768, "a server: the landing page", served({"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"}));
}

TEST_CASE("files and pushes stay within 32 KiB of stack") {
    metrics m;
    const std::string path = "/tmp/prometheus_async_stack." + std::to_string(::getpid()) + ".prom";
    stays_within(32768, "a textfile", depth_of([&] { CHECK(prom::textfile({.path = path, .registries = m.all}).write()); }));
    stays_within(32768, "a push that nobody takes", depth_of([&] {
        CHECK_FALSE(prom::push_to_gateway({.gateway = "127.0.0.1:1", .job = "job", .registries = m.all, .tries = 1}));
    }));
}
