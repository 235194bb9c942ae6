// needs-network
// Each allocation of each function failed in turn: an update never fails; what does leaves everything as it was.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TESTS_NO_ALLOCATIONS 1  // clang's has operators of its own that cannot be replaced
#endif
#endif
#ifdef TESTS_NO_ALLOCATIONS
#include <doctest/doctest.h>
TEST_CASE("memory that fails is not tested here") { MESSAGE("SKIPPED: clang's ThreadSanitizer has allocations of its own"); }
#else
#define PROMETHEUS_ASYNC_DETAIL_SYS ::failing
#include "support/failing_memory.hpp"

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>

#include <chrono>
#include <cstring>
#include <string>
#if !PROMETHEUS_ASYNC_NO_THREADS
#include <thread>
#endif
#include <vector>

namespace prom = prometheus_async;
using failing::each_allocation;
using namespace std::chrono_literals;

namespace {

std::string page(prom::registry& r, prom::format as = prom::format::openmetrics_1_0_0) {
    prom::registry* const shown[] = {&r};
    return prom::expose({.as = as, .registries = shown});
}
/// The page when nothing fails.
std::string whole(prom::registry& r) {
    const long chosen = failing::chosen.exchange(-1), done = failing::done.load();
    std::string text = page(r);
    failing::chosen = chosen;
    failing::done = done;
    return text;
}
/// Whether the page is whole and shows each series once.
void check_page(prom::registry& r) {
    const std::string text = whole(r);
    CHECK(text.ends_with("# EOF\n"));
    std::vector<std::string> seen;
    for (std::size_t at = 0, end; at < text.size(); at = end + 1) {
        end = text.find('\n', at);
        std::string line = text.substr(at, end - at);
        if (line[0] != '#') line = line.substr(0, line.rfind(' '));
        for (const auto& have : seen)
            if (have == line) FAIL_CHECK(line << " is shown twice");
        seen.push_back(line);
    }
}
#if PROMETHEUS_ASYNC_EXCEPTIONS
/// Runs `act` on what `prepare` makes, with each of its allocations failed in turn; then the registry must still
/// do all that it did, and `act` must succeed.
template <class Act>
void survives(Act act, bool keeps_bounds = false) {
    prom::gauge("this_thread_has_cells", "h").inc();
    const long before = failing::living;
    const long runs = each_allocation([&] {
        const long chosen = failing::chosen.exchange(-1);
        prom::registry r;
        const prom::counter c{"before", "h", {.registry = &r}};
        const prom::family<prom::counter, "l"> f{"children", "h", {.registry = &r}};
        f("x").inc();
        failing::done = 0;
        failing::chosen = chosen;
        struct afterwards {
            prom::registry& in;
            const prom::counter& c;
            const prom::family<prom::counter, "l">& f;
            ~afterwards() {
                const bool failed = failing::done > failing::chosen;
                const long at = failing::chosen.exchange(-1);
                c.inc();
                CHECK(c.value() == 1);
                f("x").inc();
                f("y").inc();
                CHECK(f("x").value() == 2);
                CHECK(f.size() == 2);
                check_page(in);
                failing::done = failed ? at + 1 : 0;
                failing::chosen = at;
            }
        } check{r, c, f};
        act(r);
    });
    CHECK(runs < 1000);
    if (!keeps_bounds) CHECK(failing::living.load() == before);
}
#endif

}  // namespace

TEST_CASE("an update does what it has to without memory") {
    prom::registry r;
    const prom::counter c{"c", "h", {.registry = &r}};
    const prom::gauge g{"g", "h", {.registry = &r}};
    const prom::histogram h{"h", "h", {.registry = &r}};
    const prom::summary s{"s", "h", {.registry = &r}};
    const prom::state_set states{"states", "h", {.registry = &r, .states = {"on", "of\xff"}}};
    const auto all = [&] {
        c.inc();
        c.inc(0.5);
        c.inc(1, {.labels = {{"trace", "a long text, longer than a string holds inside"}}});
        h.observe(0.3, {.labels = {{"trace", "a long text, longer than a string holds inside"}}});
        g.inc();
        h.observe(0.3);
        s.observe(2);
        CHECK(states.set("of\xff"));
        CHECK_FALSE(states.set("a state that nobody has declared, with a long name \xff"));
    };
#if !PROMETHEUS_ASYNC_NO_THREADS
    std::vector<std::thread> threads;
    for (long n = 0; n != 12; ++n) {  // a thread's first touch allocates its cells
        std::thread([&] {
            failing::done = 0;
            failing::chosen = n;
            all();
            failing::chosen = -1;
        }).join();
    }
    CHECK(c.value() == 12 * 2.5);
    CHECK(g.value() == 12);
    CHECK(h.count() == 24);
    CHECK(s.count() == 12);
#else
    each_allocation(all);
    CHECK(c.value() > 0);
#endif
    check_page(r);
}

// Without exceptions, what an update does not need ends the process, as operator new does.
#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("a declaration that finds no memory has declared nothing") {
    survives([](prom::registry& r) {
        const prom::counter c{"a_counter_of_a_long_name", "A long help text, longer than a string holds inside.",
                              {.registry = &r, .labels = {{"constant", "a long value of a constant label, for it to be allocated"}}}};
        c.inc(2);
        CHECK(c.value() == 2);
    });
    survives([](prom::registry& r) { (void)r.make_histogram("h", "h", {.buckets = {1, 2, static_cast<double>(failing::chosen + 3)}}); }, true);
    survives([](prom::registry& r) { (void)r.make_state_set("states", "h", {.states = {"one", "two", "a state of a long name, longer than sixteen"}}); });
    survives([](prom::registry& r) { r.make_info("build", "h").set({{"version", "a long version, longer than a string holds inside"}}); });
    survives([](prom::registry& r) { r.target_info({{"service", "a long name of a service, longer than sixteen octets"}}); });
    survives([](prom::registry& r) { prom::declare_build_info(r); });
    survives([](prom::registry& r) { (void)r.try_counter("children", "another help: a conflict that is described at length"); });
    survives([](prom::registry& r) {
        prom::registry other;
        (void)other.make_summary("s", "h");
        prom::registry* const both[] = {&r, &other};
        (void)prom::expose({.registries = both});
    });
}

TEST_CASE("a child that finds no memory is not there, and is made when there is some") {
    survives([](prom::registry& r) {
        const prom::family<prom::gauge, "a", "b"> f{"g", "h", {.registry = &r}};
        for (int i = 0; i != 40; ++i) f(i, "a long value, longer than sixteen octets").set(i);
        CHECK(f.size() == 40);
        for (int i = 0; i != 40; ++i) CHECK(f(i, "a long value, longer than sixteen octets").value() == i);
        CHECK(f.remove(3, "a long value, longer than sixteen octets"));
        const bool none = f.remove(3, "a value that is no UTF-8 and long \xff\xfe");
        CHECK_FALSE(none);
        f(4, "a value that is no UTF-8 and long \xff\xfe").set(1);
        const bool one = f.remove(4, "a value that is no UTF-8 and long \xff\xfe");
        CHECK(one);
        const std::size_t some = f.remove_matching({{"a", "5"}});
        CHECK(some == 1);
        f.clear();
    });
    survives([](prom::registry& r) {
        const prom::family<prom::counter, "a"> f{"limited", "h", {.registry = &r, .max_series = 2}};
        for (int i = 0; i != 4; ++i) f(i).inc();
    });
}

TEST_CASE("a gauge that is removed while another thread may be setting it is removed without memory") {
#if !PROMETHEUS_ASYNC_NO_THREADS
    survives([](prom::registry& r) {
        const long chosen = failing::chosen.exchange(-1);
        const prom::family<prom::gauge, "a"> f{"g", "h", {.registry = &r}};
        const auto g = f(1);
        g.set(1);
        failing::done = 0;
        failing::chosen = chosen;
        CHECK(f.remove(1));
        CHECK(f.size() == 0);
    });
#endif
}

TEST_CASE("a reset that finds no memory has reset nothing") {
    survives([](prom::registry& r) {
        const long chosen = failing::chosen.exchange(-1);
        const prom::counter c{"c", "h", {.registry = &r}};
        c.inc(2.5);
        failing::done = 0;
        failing::chosen = chosen;
        try {
            c.reset();
        } catch (const std::bad_alloc&) {
            CHECK(c.value() == 2.5);
            throw;
        }
        CHECK(c.value() == 0);
    });
}

TEST_CASE("a collector that finds no memory is not added, and can be added again") {
    survives([](prom::registry& r) {
        struct large {
            double numbers[20] = {};
        } inside;
        const auto held = r.add_collector([inside](prom::sample_sink& to) {
            to.family(prom::metric_type::gauge, "collected", "A help text that is long enough to be allocated.");
            to.sample(inside.numbers[3], {{"label", "a long value, longer than sixteen octets"}});
        });
        CHECK(whole(r).find("collected") != std::string::npos);
    });
    survives([](prom::registry& r) {
        const prom::callback_gauge g{"asked_for_by_a_long_name", "A help text that is long enough.", [] { return 3.0; }, {.registry = &r}};
        CHECK(whole(r).find("asked_for_by_a_long_name 3\n") != std::string::npos);
    });
    survives([](prom::registry& r) {
        const prom::callback_counter c{"asked", "h", [] { return 3.0; }, {.registry = &r, .labels = {{"a", "a long value, longer than sixteen"}}}};
        CHECK(r.unregister("asked"));
    });
    survives([](prom::registry& r) {
        prom::add_process_metrics(r);
        CHECK(whole(r).find("process_open_fds") != std::string::npos);
    });
    // What failed once is there when it is asked for again.
    for (long n = 0; n != 8; ++n) {
        prom::registry r;
        failing::done = 0;
        failing::chosen = n;
        try {
            prom::add_process_metrics(r);
        } catch (const std::bad_alloc&) {
        }
        failing::chosen = -1;
        prom::add_process_metrics(r);
        prom::add_process_metrics(r);
        CHECK(whole(r).find("process_open_fds") != std::string::npos);
        check_page(r);
    }
}

TEST_CASE("a page that finds no memory is 500, never an empty 200") {
    prom::registry r;
    const prom::counter c{"c", "h", {.registry = &r}};
    const auto held = r.add_collector([](prom::sample_sink& to) {
        to.family(prom::metric_type::gauge, "collected", "");
        to.sample(1);
    });
    prom::registry* const shown[] = {&r};
    each_allocation([&] {
        const prom::stats_page answer = prom::server_stats({.accept = "application/openmetrics-text", .registries = shown});
        CHECK((answer.status == 200 ? answer.body.ends_with("# EOF\n") : answer.status == 500 && !answer.body.empty()));
    });
    check_page(r);
}

TEST_CASE("a registry ends, and the default one is there, without memory") {
    auto* r = new prom::registry;
    const prom::family<prom::gauge, "l"> f{"f", "h", {.registry = r}};
    for (int i = 0; i != 100; ++i) f(i).set(1);
    for (int i = 0; i != 10; ++i) r->add_collector([](prom::sample_sink&) {}).keep();
    failing::done = 0;
    failing::chosen = 0;
    delete r;
    CHECK(&prom::default_registry() == &prom::default_registry());
    failing::chosen = -1;
    CHECK(failing::done.load() == 0);
}

// ---- loop, server, client ----

namespace {

int open_descriptors() {
    int n = 0;
    DIR* const dir = ::opendir("/proc/self/fd");
    while (::readdir(dir)) ++n;
    ::closedir(dir);
    return n;
}
/// One request over a connection of its own; the status, or 0.
int ask(std::uint16_t port, prom::event_loop* loop) {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    char answer[100] = {};
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) {
        const char request[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        (void)::send(fd, request, sizeof request - 1, MSG_NOSIGNAL);
        ssize_t n = -1;
        for (int i = 0; i != 200 && n < 0; ++i) {
            if (loop) loop->poll(0.001);
            n = ::recv(fd, answer, sizeof answer - 1, loop ? MSG_DONTWAIT : 0);
            if (n < 0 && errno != EAGAIN) break;
        }
    }
    ::close(fd);
    return std::strlen(answer) > 12 ? std::atoi(answer + 9) : 0;
}
/// Runs it with each allocation failed; nothing may stay open or allocated.
template <class Run>
void leaves_nothing(Run run) {
    run();  // what is made once for the process
    const int descriptors = open_descriptors();
    const long living = failing::living;
    const long runs = each_allocation(run);
    CHECK(runs > 3);
    CHECK(runs < 3000);
    CHECK(open_descriptors() == descriptors);
    CHECK(failing::living.load() == living);
}

}  // namespace

TEST_CASE("a loop that finds no memory ends what could not begin, and leaves nothing open") {
    leaves_nothing([] {
        prom::event_loop loop;
        int done = 0;
        for (int i = 0; i != 3; ++i)
            loop.spawn([](prom::event_loop& l, int& n) -> prom::task<void> {
                co_await l.sleep(0);
                ++n;
            }(loop, done));
        loop.post([&] { ++done; });
        const int got = loop.run([](prom::event_loop& l) -> prom::task<int> {
            co_await l.sleep(1ms);
            co_return 7;
        }(loop));
        CHECK(got == 7);
    });
}

TEST_CASE("a server that finds no memory does not start, or loses a connection, and leaves nothing open") {
    leaves_nothing([] {
        prom::registry shown;
        prom::registry* const all[] = {&shown};
        const prom::route routes[] = {{.path = "/metrics", .registries = all}, {.path = "/text", .text = "a text that is longer than a string holds"}};
        const std::string_view hosts[] = {"localhost", "a.host.with.a.long.name.example"};
        const prom::credential accepted[] = {prom::bearer("t0ken")};
        prom::event_loop loop;
        loop.run([](prom::event_loop& l, const prom::server_options& options) -> prom::task<void> {
            auto server = co_await prom::start_http_server(l, options);
            if (server) (void)co_await server->close();
        }(loop, {.addr = "127.0.0.1", .credentials = accepted, .routes = routes, .allowed_hosts = hosts, .self_metrics = true}));
    });
    leaves_nothing([] {
        prom::registry shown;
        const prom::counter c{"c", "h", {.registry = &shown}};
        const auto held = shown.add_collector([](prom::sample_sink& to) {
            to.family(prom::metric_type::gauge, "collected", "");
            to.sample(1);
        });
        prom::registry* const all[] = {&shown};
        const prom::route routes[] = {{.path = "/metrics", .registries = all}};
        prom::event_loop loop;
        prom::metrics_http_server server;
        loop.spawn([](prom::event_loop& l, const prom::server_options& options, prom::metrics_http_server& to) -> prom::task<void> {
            auto made = co_await prom::start_http_server(l, options);
            if (made) to = *std::move(made);
        }(loop, {.addr = "127.0.0.1", .routes = routes}, server));
        for (int i = 0; i != 5 && server.port() == 0; ++i) loop.poll(0.001);
        if (server.port() == 0) return;
        const int first = ask(server.port(), &loop);
        CHECK((first == 200 || first == 500 || first == 503 || first == 0));
        const long chosen = failing::chosen.exchange(-1), done = failing::done.load();
        CHECK(ask(server.port(), &loop) == 200);
        failing::done = done;
        failing::chosen = chosen;
    });
}

TEST_CASE("a discovery that finds no memory registers nothing, or says so, and leaves nothing behind") {
    const std::string path = "/tmp/prometheus_async_memory_" + std::to_string(::getpid()) + ".json";
    leaves_nothing([&] {
        prom::event_loop loop;
        prom::file_sd targets{{.path = path}};
        loop.run([](prom::event_loop& l, const prom::server_options& options) -> prom::task<void> {
            auto server = co_await prom::start_http_server(l, options);
            if (server) (void)co_await server->close();
        }(loop, {.addr = "127.0.0.1", .service_discovery = &targets}));
    });
    ::unlink(path.c_str());
    leaves_nothing([] {
        prom::event_loop loop;
        prom::registry own;
        prom::consul_agent agent{{.name = "a", .agent = "http://127.0.0.1:1", .on_failure = prom::on_failure::fail, .metrics = &own}};
        loop.run([](prom::event_loop& l, const prom::server_options& options) -> prom::task<void> {
            auto server = co_await prom::start_http_server(l, options);
            CHECK_FALSE(server);
        }(loop, {.addr = "127.0.0.1", .service_discovery = &agent}));
    });
}

TEST_CASE("a push that finds no memory says so, pushes nothing or all of it, and leaves nothing behind") {
    leaves_nothing([] {
        prom::registry own, shown;
        prom::registry* const all[] = {&shown};
        const auto done = prom::push_to_gateway({.gateway = "127.0.0.1:1", .job = "a job of a long name", .grouping = {{"instance", "a/b"}},
                                                 .registries = all, .credential = prom::basic("user", "a password of some length"), .tries = 1,
                                                 .self_metrics = &own});
        CHECK_FALSE(done);
    });
    // The gateway: a server of our own, which answers 405 to a PUT, and the pusher on one loop.
    leaves_nothing([] {
        const long chosen = failing::chosen.exchange(-1);
        prom::registry shown;
        prom::registry* const all[] = {&shown};
        const prom::family<prom::gauge, "number"> f{"many", "Of them.", {.registry = &shown}};
        for (int i = 0; i != 600; ++i) f("the " + std::to_string(i) + "th of these").set(i);
        prom::event_loop loop;
        prom::metrics_http_server server;
        loop.run([](prom::event_loop& l, prom::metrics_http_server& to) -> prom::task<void> {
            to = (co_await prom::start_http_server(l, {.addr = "127.0.0.1"})).value();
        }(loop, server));
        const std::string at = "127.0.0.1:" + std::to_string(server.port());
        failing::done = 0;
        failing::chosen = chosen;
        {
            prom::pushgateway gateway(loop, {.gateway = at, .job = "j", .registries = all, .tries = 1, .remove_at_end = true});
            const auto pushed = loop.run([](prom::pushgateway& g) -> prom::task<prom::result<void>> { co_return co_await g.push(); }(gateway));
            CHECK_FALSE(pushed);
            const std::string why = gateway.why();
            CHECK_FALSE(why.empty());
        }
    });
}

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("a server in a thread that finds no memory tells so, can be closed twice, and leaves nothing open") {
    leaves_nothing([] {
        auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1"});
        if (!server) return;
        const int status = ask(server->port(), nullptr);
        CHECK((status == 200 || status == 500 || status == 503 || status == 0));
        (void)server->close();
        (void)server->close();
    });
    leaves_nothing([] { auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1"}); });
}
#endif
#endif
#endif
