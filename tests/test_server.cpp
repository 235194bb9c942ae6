// needs-network
#include "prometheus_async.hpp"

#include "support/answers.hpp"
#include "support/client.hpp"
#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <cstring>
#include <optional>
#if !PROMETHEUS_ASYNC_NO_THREADS
#include <thread>
#endif

namespace prom = prometheus_async;
using test_client::answer;
using test_client::client;
using test_client::fetch;
using test_client::take_answers;

namespace {

const std::string page_text = "<html><body><a href=\"/metrics\">Metrics</a></body></html>";

std::string get(std::string_view target = "/metrics", std::string_view fields = "") {
    return "GET " + std::string(target) + " HTTP/1.1\r\nHost: localhost\r\n" + std::string(fields) + "\r\n";
}

std::size_t open_descriptors() {
    std::size_t n = 0;
    for (int fd = 0; fd != 1024; ++fd) n += ::fcntl(fd, F_GETFD) >= 0;
    return n;
}

double the_time = 5000;
bool time_flies = false;  // while a loop ends, which may wait for its closing budget
double moved_clock() { return time_flies ? the_time += 10 : the_time; }
double real_wall() { return prom::system_clock().wall(); }

/// A loop on the test's thread, turned by hand, on a clock of the test's.
struct rig {
    prom::event_loop loop{{.time = {&moved_clock, &real_wall}}};
    std::vector<prom::event_kind> told;

    rig() {
        the_time = 5000;
        time_flies = false;
    }
    ~rig() { time_flies = true; }
    /// Starts a server; the options' callback is the rig's.
    prom::result<prom::metrics_http_server> start(prom::server_options options) {
        options.on_event = [](const prom::event& e, void* self) { static_cast<rig*>(self)->told.push_back(e.kind); };
        options.context = this;
        return finish(prom::start_http_server(loop, options));
    }
    template <class T>
    T finish(prom::task<T> work) {
        std::vector<T> out;
        loop.spawn([](prom::task<T> w, std::vector<T>& to) -> prom::task<void> { to.push_back(co_await std::move(w)); }(std::move(work), out));
        for (int i = 0; out.empty() && i != 10000; ++i) loop.poll(0.001);
        REQUIRE(!out.empty());
        return std::move(out[0]);
    }
    void pass(double seconds) {
        the_time += seconds;
        for (int i = 0; i != 3; ++i) loop.poll(0);
    }
};

/// Upstream's tests' fake: stores which server it registered and whether it de-registered.
struct fake_discovery final : prom::service_discovery {
    std::string registered_url;
    int registered = 0, deregistered = 0;
    bool gives_none = false, fails = false, fails_to_leave = false, hangs = false;
    prom::event_loop* loop_seen = nullptr;

    prom::task<prom::result<prom::registration>> register_server(prom::event_loop& loop, const prom::metrics_http_server& server) override {
        ++registered;
        registered_url = server.url();
        loop_seen = &loop;
        if (fails) co_return prom::error(prom::errc::refused, "the fake says no");
        prom::registration r;
        if (!gives_none) r.deregister = [this, &loop]() -> prom::task<prom::result<void>> { return leave(*this, loop); };
        co_return std::move(r);
    }
    static prom::task<prom::result<void>> leave(fake_discovery& self, prom::event_loop& loop) {
        if (self.hangs) co_await loop.sleep(1000);
        ++self.deregistered;
        if (self.fails_to_leave) co_return prom::error(prom::errc::refused, "the fake keeps it");
        co_return {};
    }
};

}  // namespace

// ---- upstream's behaviours ----

TEST_CASE("19: the root page is cheap: exact octets, text/html") {
    rig r;
    auto server = r.start({.addr = "127.0.0.1"});
    REQUIRE(server);
    client c("127.0.0.1", server->port());
    const answer a = c.ask(r.loop, get("/"));
    CHECK(a.status == 200);
    CHECK(a.body == page_text);
    CHECK(a.field("Content-Type") == "text/html");
}

TEST_CASE("20: start_http_server serves, and is registered iff there is service discovery") {
    prom::registry mine;
    mine.make_counter("test_server_stats_total", "cnt").inc();
    prom::registry* const one[] = {&mine};
    const prom::route routes[] = {{.path = "/metrics", .registries = one}};
    for (bool discovered : {false, true}) {
        rig r;
        fake_discovery sd;
        auto server = r.start({.addr = "127.0.0.1", .service_discovery = discovered ? &sd : nullptr, .routes = routes});
        REQUIRE(server);
        CHECK(server->is_registered() == discovered);
        CHECK(sd.registered == discovered);
        if (discovered) CHECK(sd.registered_url == server->url());
        if (discovered) CHECK(sd.loop_seen == &r.loop);
        client c("127.0.0.1", server->port());
        const answer a = c.ask(r.loop, get());
        CHECK(a.body == "# HELP test_server_stats_total cnt\n# TYPE test_server_stats_total counter\ntest_server_stats_total 1\n");
        CHECK(r.finish(server->close()));
        CHECK(sd.deregistered == discovered);
        CHECK_FALSE(server->is_registered());
    }
}

TEST_CASE("20: a discovery that gives no deregisterer leaves the server running, unregistered") {
    rig r;
    fake_discovery sd;
    sd.gives_none = true;
    auto server = r.start({.addr = "127.0.0.1", .service_discovery = &sd});
    REQUIRE(server);
    CHECK_FALSE(server->is_registered());
    client c("127.0.0.1", server->port());
    CHECK(c.ask(r.loop, get("/")).status == 200);
    CHECK(r.finish(server->close()));
    CHECK(sd.deregistered == 0);
}

#if !PROMETHEUS_ASYNC_NO_THREADS
namespace {
int threads_named(std::string_view name) {
    int n = 0;
    if (DIR* tasks = ::opendir("/proc/self/task")) {
        while (const dirent* e = ::readdir(tasks)) {
            const std::string path = std::string("/proc/self/task/") + e->d_name + "/comm";
            char text[32] = "";
            if (const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC); fd >= 0) {
                const ssize_t got = ::read(fd, text, sizeof text - 1);
                ::close(fd);
                n += got > 0 && std::string_view(text, static_cast<std::size_t>(got)) == std::string(name) + "\n";
            }
        }
        ::closedir(tasks);
    }
    return n;
}
}  // namespace

TEST_CASE("21: start_http_server_in_thread serves from a thread of its own until close") {
    for (bool discovered : {false, true}) {
        fake_discovery sd;
        auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1", .service_discovery = discovered ? &sd : nullptr});
        REQUIRE(server);
#if defined(__linux__) && !PROMETHEUS_ASYNC_SMALL_LIBC
        CHECK(threads_named("PromAsyncWeb") == 1);
#endif
        CHECK(server->url().substr(0, 4) == "http");
        CHECK_FALSE(server->https());
        CHECK(server->is_registered() == discovered);
        if (discovered) CHECK(sd.registered_url == server->url());
        CHECK(server->address() == "127.0.0.1");
        CHECK(fetch("127.0.0.1", server->port(), "/").body == page_text);
        CHECK(fetch("127.0.0.1", server->port(), "/metrics").status == 200);
        CHECK(server->close());
        CHECK(threads_named("PromAsyncWeb") == 0);
        CHECK(sd.deregistered == discovered);
        CHECK_FALSE(server->is_registered());
        CHECK_FALSE(client("127.0.0.1", server->port()).connected());
        CHECK(server->close());  // again
    }
}

TEST_CASE("a start that fails in the thread is told to the caller, and leaves nothing") {
    const std::size_t before = open_descriptors();
    auto first = prom::start_http_server_in_thread({.addr = "127.0.0.1"});
    REQUIRE(first);
    auto second = prom::start_http_server_in_thread({.addr = "127.0.0.1", .port = first->port()});
    REQUIRE_FALSE(second);
    CHECK(std::string(second.why().describe()) == "cannot listen on 127.0.0.1:" + std::to_string(first->port()) + ": Address already in use");
    fake_discovery sd;
    sd.fails = true;
    auto third = prom::start_http_server_in_thread({.addr = "127.0.0.1", .service_discovery = &sd});
    REQUIRE_FALSE(third);
    CHECK(std::string(third.why().describe()) == "the fake says no");
    CHECK(first->close());
    CHECK(open_descriptors() == before);
    CHECK(threads_named("PromAsyncWeb") == 0);
}

TEST_CASE("a child that is forked while a new connection gets its first answer keeps neither it nor the listener") {
    static prom::threaded_metrics_http_server* running;
    static int status = -1;
    static std::uint16_t the_port = 0;
    prom::registry mine;
    const auto forks = mine.add_collector([](prom::sample_sink&) {
        const pid_t child = ::fork();
        if (child == 0) {
            static_cast<void>(running->close());
            int left = 0;
            for (int fd = 0; fd != 1024; ++fd) {
                sockaddr_in at{};
                socklen_t size = sizeof at;
                left += ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) == 0 && at.sin_family == AF_INET && ntohs(at.sin_port) == the_port;
            }
            ::_exit(left);
        }
        ::waitpid(child, &status, 0);
    });
    prom::registry* const shown[] = {&mine};
    const prom::route routes[] = {{.path = "/metrics", .registries = shown}};
    auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1", .routes = routes});
    REQUIRE(server);
    running = &*server;
    the_port = server->port();
    client c("127.0.0.1", server->port());
    c.send(get("/metrics"));
    char buffer[64];
    CHECK(::recv(c.fd, buffer, sizeof buffer, 0) > 0);
    CHECK(status == 0);
}

TEST_CASE("a child that is forked while connections come and go keeps none of them") {
    auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1"});
    REQUIRE(server);
    const std::uint16_t port = server->port();
    bool stop = false;
    std::vector<std::thread> clients;
    for (int i = 0; i != 2; ++i)
        clients.emplace_back([&] {
            while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
                const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                const sockaddr_in to{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
                char octets[4096] = "GET / HTTP/1.0\r\n\r\n";
                if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 && ::write(fd, octets, 18) == 18)
                    while (::read(fd, octets, sizeof octets) > 0) {}
                ::close(fd);
            }
        });
    int kept = 0;
    for (int i = 0; i != 40; ++i) {
        const pid_t child = ::fork();
        if (child == 0) {
            static_cast<void>(server->close());
            int left = 0;
            for (int fd = 0; fd != 256; ++fd) {
                sockaddr_in at{};
                socklen_t size = sizeof at;
                left += ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) == 0 && at.sin_family == AF_INET && ntohs(at.sin_port) == port;
            }
            ::_exit(left);
        }
        int status = -1;
        ::waitpid(child, &status, 0);
        kept += status != 0;
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    for (std::thread& t : clients) t.join();
    CHECK(kept == 0);
}

TEST_CASE("prefork: workers close their copy of the parent's server, and each serves on one of its own") {
    fake_discovery sd;
    const std::size_t before = open_descriptors();
    auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1", .service_discovery = &sd});
    REQUIRE(server);
    client kept("127.0.0.1", server->port());
    const auto answered = [&kept] {  // whole once the connection is asked to close
        kept.in.clear();
        kept.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        char buffer[1024];
        const ssize_t n = ::recv(kept.fd, buffer, sizeof buffer, 0);
        return n > 12 && std::string_view(buffer, 12) == "HTTP/1.1 200";
    };
    REQUIRE(answered());
    client untold("127.0.0.1", server->port());  // accepted, and asks nothing
    REQUIRE(answered());
    struct worker {
        pid_t pid;
        int to, from;
    };
    std::vector<worker> workers;
    for (int i = 0; i != 2; ++i) {
        int down[2], up[2];
        REQUIRE(::pipe(down) == 0);
        REQUIRE(::pipe(up) == 0);
        const pid_t pid = ::fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            ::close(down[1]);
            ::close(up[0]);
            for (const worker& w : workers) ::close(w.to), ::close(w.from);
            bool alone = server->close() && server->close() && !server->is_registered();
            alone = alone && open_descriptors() == before + 4;  // both clients and the pipes are the test's
            *server = {};
            auto own = prom::start_http_server_in_thread({.addr = "127.0.0.1"});
            const std::uint16_t port = alone && own ? own->port() : std::uint16_t{0};
            (void)!::write(up[1], &port, sizeof port);
            char end;
            (void)!::read(down[0], &end, 1);
            ::_exit(own && own->close() ? 0 : 1);
        }
        ::close(down[0]);
        ::close(up[1]);
        workers.push_back({pid, down[1], up[0]});
    }
    for (const worker& w : workers) {
        std::uint16_t port = 0;
        REQUIRE(::read(w.from, &port, sizeof port) == sizeof port);
        REQUIRE(port != 0);
        CHECK(fetch("127.0.0.1", port, "/metrics").status == 200);
    }
    CHECK(answered());
    CHECK(server->is_registered());
    CHECK(sd.deregistered == 0);
    CHECK(fetch("127.0.0.1", server->port(), "/metrics").status == 200);
    const std::uint16_t port = server->port();
    kept.close();
    untold.close();
    CHECK(server->close());
    CHECK(sd.deregistered == 1);
    CHECK_FALSE(client("127.0.0.1", port).connected());  // no other server listens there
    CHECK(prom::start_http_server_in_thread({.addr = "127.0.0.1", .port = port}));
    for (const worker& w : workers) {
        ::close(w.to);
        ::close(w.from);
        int status = 0;
        CHECK(::waitpid(w.pid, &status, 0) == w.pid);
        CHECK(status == 0);
    }
}

TEST_CASE("a threaded server's close() has the result of its de-registration, each time") {
    fake_discovery sd;
    sd.fails_to_leave = true;
    auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1", .service_discovery = &sd});
    REQUIRE(server);
    for (int i = 0; i != 2; ++i) CHECK(std::string(server->close().why().describe()) == "the fake keeps it");
    CHECK_FALSE(client("127.0.0.1", server->port()).connected());
}

TEST_CASE("a threaded server that is dropped or assigned over has closed and de-registered") {
    fake_discovery a, b;
    std::uint16_t port = 0;
    {
        auto one = prom::start_http_server_in_thread({.addr = "127.0.0.1", .service_discovery = &a});
        auto two = prom::start_http_server_in_thread({.addr = "127.0.0.1", .service_discovery = &b});
        REQUIRE(one);
        REQUIRE(two);
        port = two->port();
        *one = std::move(*two);
        CHECK(a.deregistered == 1);
        CHECK(one->port() == port);
        CHECK(fetch("127.0.0.1", port, "/").status == 200);
    }
    CHECK(b.deregistered == 1);
    CHECK_FALSE(client("127.0.0.1", port).connected());
    prom::threaded_metrics_http_server none;
    CHECK(none.close());
    CHECK_FALSE(none.is_registered());
}

TEST_CASE("a threaded server is closed by several threads at once, and each returns when it is over") {
    fake_discovery sd;
    sd.fails_to_leave = true;
    auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1", .service_discovery = &sd});
    REQUIRE(server);
    std::vector<int> over(4);
    std::vector<std::thread> threads;
    for (int& mine : over)
        threads.emplace_back([&server, &sd, &mine] {
            for (int i = 0; i != 2; ++i) {
                const auto how = server->close();
                mine += !how && std::string_view(how.why().describe()) == "the fake keeps it" && sd.deregistered == 1;
            }
        });
    for (auto& t : threads) t.join();
    for (int n : over) CHECK(n == 2);
}

TEST_CASE("a threaded server that is closed in its own thread says no, and goes on") {
    struct asked {
        prom::threaded_metrics_http_server* server;
        bool refused;
    } ask{nullptr, false};
    prom::server_options options{.addr = "127.0.0.1"};
    options.authorizer.context = &ask;
    options.authorizer.now = [](const prom::authorization_request&, void* context) {
        auto& a = *static_cast<asked*>(context);
        const auto how = a.server->close();
        a.refused = !how && how.why().code() == prom::errc::invalid_option;
        return true;
    };
    auto server = prom::start_http_server_in_thread(options);
    REQUIRE(server);
    ask.server = &*server;
    for (int i = 0; i != 2; ++i) {
        ask.refused = false;
        CHECK(fetch("127.0.0.1", server->port(), "/").body == page_text);
        CHECK(server->is_registered() == false);
    }
    CHECK(server->close());
    CHECK(ask.refused);
}

TEST_CASE("many threads scrape one threaded server while metrics change") {
    prom::registry mine;
    auto c = mine.make_counter("c_total", "");
    prom::registry* const one[] = {&mine};
    const prom::route routes[] = {{.path = "/metrics", .registries = one}};
    auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1", .routes = routes});
    REQUIRE(server);
    std::vector<std::thread> threads;
    std::vector<int> good(4);
    for (std::size_t t = 0; t != 4; ++t)
        threads.emplace_back([&, t] {
            for (int i = 0; i != 20; ++i) {
                c.inc();
                good[t] += fetch("127.0.0.1", server->port(), "/metrics").status == 200;
                good[t] += server->is_registered();
            }
        });
    for (auto& t : threads) t.join();
    for (int n : good) CHECK(n == 20);
    CHECK(fetch("127.0.0.1", server->port(), "/metrics").body.find("c_total 80\n") != std::string::npos);
}
#endif

TEST_CASE("22: the url is http://host:port/, and https when told so") {
    rig r;
    auto server = r.start({.addr = "127.0.0.1"});
    REQUIRE(server);
    const std::string rest = "://127.0.0.1:" + std::to_string(server->port()) + "/";
    CHECK(server->url() == "http" + rest);
    CHECK_FALSE(server->https());
    server->https(true);
    CHECK(server->https());
    CHECK(server->url() == "https" + rest);
}

TEST_CASE("22: the url of a wildcard is reachable, that of an IPv6 address has brackets, advertise overrules") {
    rig r;
    auto all = r.start({});
    REQUIRE(all);
    CHECK(all->url() == "http://127.0.0.1:" + std::to_string(all->port()) + "/");
    auto v4 = r.start({.addr = "0.0.0.0", .advertise = "metrics.example"});
    REQUIRE(v4);
    CHECK(v4->address() == "0.0.0.0");
    CHECK(v4->advertise() == "metrics.example");
    CHECK(v4->url() == "http://metrics.example:" + std::to_string(v4->port()) + "/");
    auto six = r.start({.addr = "0.0.0.0", .advertise = "2001:db8::1"});
    REQUIRE(six);
    CHECK(six->url() == "http://[2001:db8::1]:" + std::to_string(six->port()) + "/");
    if (auto v6 = r.start({.addr = "::1"})) CHECK(v6->url() == "http://[::1]:" + std::to_string(v6->port()) + "/");
    for (std::string_view zoned : {"fe80::1%eth0", "[fe80::1%25eth0]"}) {
        auto link = r.start({.addr = "0.0.0.0", .advertise = zoned});
        REQUIRE(link);
        CHECK(link->url() == "http://[fe80::1%25eth0]:" + std::to_string(link->port()) + "/");
    }
}

TEST_CASE("formats that the server withholds are not served, nor their escaping") {
    rig r;
    prom::registry mine;
    mine.make_counter(prom::utf8("a.b"), "Is no legacy name.").inc();
    prom::registry* const shown[] = {&mine};
    const prom::route routes[] = {{.path = "/metrics", .registries = shown}};
    const prom::format text[] = {prom::format::text_0_0_4};
    const std::string prometheus_3 = "Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
                                     "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1\r\n";
    for (bool all : {false, true}) {
        auto server = r.start({.addr = "127.0.0.1", .routes = routes, .formats = all ? prom::list<prom::format>() : text});
        REQUIRE(server);
        client c("127.0.0.1", server->port());
        const answer a = c.ask(r.loop, get("/metrics", prometheus_3));
        CHECK(a.field("Content-Type") == (all ? "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8" : "text/plain; version=0.0.4; charset=utf-8"));
        CHECK((a.body.find(all ? "{\"a.b_total\"} 1" : "\na_b_total 1\n") != std::string::npos));
    }
}

TEST_CASE("a link-local address that is advertised is registered under no discovery of ours") {
    rig r;
    const std::string path = "/tmp/prom-test-" + std::to_string(::getpid()) + ".json";
    for (std::string_view host : {"fe80::1", "[FE80::1]", "[fe80::1%25eth0]", "fe80::1%eth0"}) {
        prom::file_sd of_server{{.path = path}}, of_file{{.path = path, .advertise = host}};
        for (const auto& refused : {r.start({.addr = "0.0.0.0", .advertise = host, .service_discovery = &of_server}), r.start({.addr = "127.0.0.1", .service_discovery = &of_file})}) {
            REQUIRE_FALSE(refused);
            CHECK(std::string(refused.why().describe()) == "a link-local address means nothing on another host: set advertise");
        }
        CHECK(::access(path.c_str(), F_OK) != 0);
    }
}

TEST_CASE("a link-local address is served, its url has its zone, and it is registered under no discovery of ours") {
    rig r;
    std::string mine;
    ::ifaddrs* all = nullptr;
    REQUIRE(::getifaddrs(&all) == 0);
    for (const ::ifaddrs* a = all; a; a = a->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        if (!a->ifa_addr || a->ifa_addr->sa_family != AF_INET6) continue;
        const in6_addr& at = reinterpret_cast<const sockaddr_in6*>(a->ifa_addr)->sin6_addr;
        if (IN6_IS_ADDR_LINKLOCAL(&at) && ::inet_ntop(AF_INET6, &at, text, sizeof text)) mine = std::string(text) + "%" + a->ifa_name;
    }
    ::freeifaddrs(all);
    if (mine.empty()) {
        MESSAGE("SKIPPED: this machine has no link-local address");
        return;
    }
    auto server = r.start({.addr = mine});
    REQUIRE(server);
    CHECK(server->address() == mine);
    std::string zone = mine;
    CHECK(server->url() == "http://[" + zone.insert(zone.find('%') + 1, "25") + "]:" + std::to_string(server->port()) + "/");
    char folder[] = "/tmp/prom-test-XXXXXX";
    REQUIRE(::mkdtemp(folder));
    const std::string path = std::string(folder) + "/t.json";
    prom::file_sd file{{.path = path}};
    auto refused = r.start({.addr = mine, .service_discovery = &file});
    REQUIRE_FALSE(refused);
    CHECK(refused.why().code() == prom::errc::invalid_option);
    CHECK(std::string(refused.why().describe()).find("advertise") != std::string::npos);
    CHECK(r.start({.addr = mine, .advertise = "host.example", .service_discovery = &file}));
    r.pass(0);
    prom::file_sd told{{.path = path, .advertise = "host.example"}};
    CHECK(r.start({.addr = mine, .service_discovery = &told}));
    r.pass(0);
    ::rmdir(folder);
}

TEST_CASE("file_sd: labels that Prometheus would refuse, and all targets with them, are refused here") {
    rig r;
    char folder[] = "/tmp/prom-test-XXXXXX";
    REQUIRE(::mkdtemp(folder));
    const std::string path = std::string(folder) + "/t.json";
    const prom::label bad[] = {{"a-b", "x"}, {"", "x"}, {"caf\xc3\xa9", "x"}, {"a:b", "x"}, {prom::utf8("\xff"), "x"}, {prom::utf8(""), "x"}};
    for (const prom::label& l : bad) {
        prom::file_sd file{{.path = path, .labels = {{"good", "x"}, l}}};
        const auto refused = r.start({.addr = "127.0.0.1", .service_discovery = &file});
        REQUIRE_FALSE(refused);
        CHECK(refused.why().code() == prom::errc::invalid_option);
    }
    prom::file_sd file{{.path = path, .labels = {{"__metrics_path__", "/metrics"}, {prom::utf8("a.b"), "x"}}}};
    CHECK(r.start({.addr = "127.0.0.1", .service_discovery = &file}));
    r.pass(0);
    CHECK(::rmdir(folder) == 0);
}

// ---- listening ----

TEST_CASE("an empty addr listens on IPv4 and IPv6 with one port") {
    rig r;
    auto server = r.start({});
    REQUIRE(server);
    CHECK(client("127.0.0.1", server->port()).ask(r.loop, get("/")).status == 200);
    if (server->address() == "::") CHECK(client("::1", server->port()).ask(r.loop, get("/")).status == 200);
    else CHECK(server->address() == "0.0.0.0");
}

TEST_CASE("localhost listens on both loopback addresses and on no other") {
    rig r;
    auto server = r.start({.addr = "localhost"});
    REQUIRE(server);
    CHECK(server->address() == "127.0.0.1");
    CHECK(client("127.0.0.1", server->port()).ask(r.loop, get("/")).status == 200);
    if (auto v6 = r.start({.addr = "::1"})) CHECK(client("::1", server->port()).ask(r.loop, get("/")).status == 200);
    CHECK_FALSE(client("127.0.0.2", server->port()).connected());
}

TEST_CASE("localhost is localhost in any case, absolute or not, and other names are looked up") {
    rig r;
    for (std::string_view addr : {"LocalHost", "LOCALHOST", "localhost."}) {
        auto server = r.start({.addr = addr});
        REQUIRE(server);
        CHECK(server->address() == "127.0.0.1");
        if (auto v6 = r.start({.addr = "::1"})) CHECK(client("::1", server->port()).ask(r.loop, get("/")).status == 200);
    }
    // A name of the hosts file that is ours; the system decides which there are.
    for (const char* name : {"ip6-localhost", "ip6-loopback", "localhost.localdomain", "vm", "localhost4"}) {
        addrinfo* found = nullptr;
        if (::getaddrinfo(name, nullptr, nullptr, &found) != 0) continue;
        ::freeaddrinfo(found);
        auto server = r.start({.addr = name});
        if (!server) continue;  // not an address of this host
        CHECK(client(std::string(server->address()).c_str(), server->port()).ask(r.loop, get("/")).status == 200);
    }
}

TEST_CASE("an IPv6 address takes brackets or not") {
    rig r;
    for (std::string_view addr : {"::1", "[::1]"}) {
        auto server = r.start({.addr = addr});
        if (!server) continue;  // a machine without IPv6
        CHECK(server->address() == "::1");
        CHECK(client("::1", server->port()).ask(r.loop, get("/")).status == 200);
        CHECK_FALSE(client("127.0.0.1", server->port()).connected());
    }
}

TEST_CASE("a port in use is an error that names it, and leaves nothing open") {
    rig r;
    auto first = r.start({.addr = "0.0.0.0"});
    REQUIRE(first);
    const std::size_t before = open_descriptors();
    for (std::string_view addr : {"0.0.0.0", "", "127.0.0.1", "localhost"}) {
        auto second = r.start({.addr = addr, .port = first->port()});
        REQUIRE_FALSE(second);
        CHECK(second.why().code() == prom::errc::system);
        CHECK(second.why().sys() == EADDRINUSE);
        const std::string host(addr.empty() ? "0.0.0.0" : addr == "localhost" ? "127.0.0.1" : addr);
        CHECK(std::string(second.why().describe()) == "cannot listen on " + host + ":" + std::to_string(first->port()) + ": Address already in use");
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("an address that is not ours, and one that is none, are errors") {
    rig r;
    const std::size_t before = open_descriptors();
    auto foreign = r.start({.addr = "192.0.2.1"});
    REQUIRE_FALSE(foreign);
    CHECK(std::string(foreign.why().describe()) == "cannot listen on 192.0.2.1:0: Cannot assign requested address");
    for (std::string_view none : {"name.invalid", "1.2.3", "0", "0x7f000001", "1.2.3.4.", "a b", "a/b", "::g", "*", "unix:", "unix:relative", "."}) {
        auto s = r.start({.addr = none});
        REQUIRE_FALSE(s);
        CHECK(s.why().code() == prom::errc::invalid_option);
    }
    for (std::string_view with_port : {"0.0.0.0:9464", "[::1]:9464", "localhost:9464", ":9464", "[fe80::1%lo]:1"}) {
        auto s = r.start({.addr = with_port});
        REQUIRE_FALSE(s);
        CHECK(std::string(s.why().describe()) == "cannot listen on " + std::string(with_port) + ": give the port in .port");
    }
    CHECK(std::string(r.start({.addr = "http://0.0.0.0"}).why().describe()) == "cannot listen on http://0.0.0.0: a host, without scheme, port or path");
    CHECK(std::string(r.start({.addr = "*"}).why().describe()) == "cannot listen on *: for all interfaces use \"\"");
    auto longest = r.start({.addr = "unix:/" + std::string(200, 'x')});
    CHECK_FALSE(longest);
    CHECK(open_descriptors() == before);
}

TEST_CASE("options that make no sense are refused before anything is opened") {
    rig r;
    const std::size_t before = open_descriptors();
    prom::registry mine;
    prom::registry* const one[] = {&mine};
    const prom::route relative{.path = "metrics"}, both{.path = "/", .registries = one, .text = "x"},
        split{.path = "/", .text = "x", .content_type = "text/plain\r\nX: y"};
    const std::string_view hosts[] = {"a b"}, dot[] = {"."}, dots[] = {"b\xc3\xbc" "cher.example"}, only_port[] = {":9464"}, nothing_said[] = {""};
    prom::server_limits nothing;
    nothing.connections = 0;
    std::vector<prom::server_options> senseless(12);
    senseless[10].limits.answer_bytes = 2047;
    senseless[11].limits.answer_bytes = 65537;
    senseless[6].allowed_hosts = dot;
    senseless[7].allowed_hosts = dots;
    senseless[8].allowed_hosts = only_port;
    senseless[9].allowed_hosts = nothing_said;
    senseless[0].routes = prom::list<prom::route>(&relative, 1);
    senseless[1].routes = prom::list<prom::route>(&both, 1);
    senseless[2].routes = prom::list<prom::route>(&split, 1);
    senseless[3].allowed_hosts = hosts;
    senseless[4].limits = nothing;
    senseless[5].advertise = "http://x";
    for (const prom::server_options& o : senseless) {
        auto s = r.start(o);
        REQUIRE_FALSE(s);
        CHECK(s.why().code() == prom::errc::invalid_option);
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("a unix socket serves, and its file goes with the server") {
    rig r;
    const std::string path = "/tmp/prometheus_async_test." + std::to_string(::getpid());
    struct stat file;
    {
        auto server = r.start({.addr = "unix:" + path});
        REQUIRE(server);
        CHECK(server->address() == path);
        CHECK(server->port() == 0);
        CHECK(server->url() == "unix:" + path);
        REQUIRE(::stat(path.c_str(), &file) == 0);
        CHECK((file.st_mode & 0777) == 0660);
        CHECK(client("unix:" + path).ask(r.loop, get("/")).body == page_text);
        auto second = r.start({.addr = "unix:" + path});
        REQUIRE_FALSE(second);
        CHECK(std::string(second.why().describe()) == "cannot listen on unix:" + path + ": Address already in use");
        CHECK(r.finish(server->close()));
        CHECK(::stat(path.c_str(), &file) != 0);
    }
    {  // what a server that died left behind is replaced
        const test_client::socket_address at("unix:" + path, 0);
        const int dead = at.bound();
        REQUIRE(dead >= 0);
        ::close(dead);
        auto server = r.start({.addr = "unix:" + path});
        REQUIRE(server);
        CHECK(client("unix:" + path).ask(r.loop, get("/")).status == 200);
        // and a file of another program at its place stays
        REQUIRE(::unlink(path.c_str()) == 0);
        const int other = at.bound();
        REQUIRE(other >= 0);
        ::close(other);
    }
    CHECK(::stat(path.c_str(), &file) == 0);
    ::unlink(path.c_str());
    // A file that is no socket stays, too.
    ::close(::open(path.c_str(), O_CREAT | O_WRONLY, 0600));
    CHECK_FALSE(r.start({.addr = "unix:" + path}));
    CHECK(::stat(path.c_str(), &file) == 0);
    ::unlink(path.c_str());
}

#if defined(__linux__)
TEST_CASE("an abstract unix socket serves") {
    rig r;
    const std::string name = "@prometheus_async_test." + std::to_string(::getpid());
    auto server = r.start({.addr = "unix:" + name});
    REQUIRE(server);
    CHECK(server->address() == name);
    CHECK(client("unix:" + name).ask(r.loop, get("/")).status == 200);
}
#endif

TEST_CASE("a listening descriptor that is handed in serves, and is the server's") {
    rig r;
    const test_client::socket_address at("127.0.0.1", 0);
    const int fd = at.bound();
    REQUIRE(::listen(fd, 5) == 0);
    sockaddr_in bound{};
    socklen_t size = sizeof bound;
    REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) == 0);
    const std::uint16_t port = ntohs(bound.sin_port);
    ::fcntl(fd, F_SETFL, 0);  // blocking, and open across exec
    ::fcntl(fd, F_SETFD, 0);
    {
        auto server = r.start({.listen_fd = fd});
        REQUIRE(server);
        CHECK(server->port() == port);
        CHECK(server->address() == "127.0.0.1");
        CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
        CHECK(::fcntl(fd, F_GETFD) == FD_CLOEXEC);
#if defined(__linux__)
        int at_once = 0;  // what it accepts has it from there
        socklen_t as_big = sizeof at_once;
        CHECK((::getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, &as_big) == 0 && at_once != 0));
#endif
        CHECK(client("127.0.0.1", port).ask(r.loop, get("/")).status == 200);
    }
    CHECK(::fcntl(fd, F_GETFD) < 0);
    {
        const std::string path = "/tmp/prometheus_async_handed." + std::to_string(::getpid());
        const int on_file = test_client::socket_address("unix:" + path, 0).bound();
        REQUIRE(::listen(on_file, 5) == 0);
        auto server = r.start({.listen_fd = on_file});
        REQUIRE(server);
        CHECK(server->port() == 0);
        CHECK(server->address() == path);
        CHECK(client("unix:" + path).ask(r.loop, get("/")).status == 200);
        ::unlink(path.c_str());
    }
    // What does not listen is refused, and stays its owner's: it may be any file of the program.
    const int other = ::socket(AF_INET, SOCK_STREAM, 0);
    auto server = r.start({.listen_fd = other});
    REQUIRE_FALSE(server);
    CHECK(std::string(server.why().describe()) == "listen_fd: not a listening socket");
    CHECK(::close(other) == 0);
    // One that listens is the server's, also with an option that is refused.
    const int good = at.bound();
    REQUIRE(::listen(good, 5) == 0);
    CHECK_FALSE(r.start({.listen_fd = good, .limits = {.connections = 0}}));
    CHECK(::fcntl(good, F_GETFD) < 0);
}

TEST_CASE("a child that lets its copies of the servers go takes nothing from its parent") {
    rig r;
    const std::string path = "/tmp/prometheus_async_fork." + std::to_string(::getpid());
    fake_discovery sd;
    auto on_file = r.start({.addr = "unix:" + path});
    auto on_port = r.start({.addr = "127.0.0.1", .service_discovery = &sd});
    REQUIRE(on_file);
    REQUIRE(on_port);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        *on_file = {};
        *on_port = {};
        ::_exit(sd.deregistered);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(on_port->is_registered());
    CHECK(client("unix:" + path).ask(r.loop, get("/")).body == page_text);
    CHECK(client("127.0.0.1", on_port->port()).ask(r.loop, get("/")).body == page_text);
    CHECK(r.finish(on_file->close()));
    CHECK(::access(path.c_str(), F_OK) != 0);
    CHECK(r.finish(on_port->close()));
    CHECK(sd.deregistered == 1);
}

TEST_CASE("several servers share a loop, each with its own pages") {
    rig r;
    const prom::route a_routes[] = {{.path = "/", .text = "a"}}, b_routes[] = {{.path = "/", .text = "b"}};
    auto a = r.start({.addr = "127.0.0.1", .routes = a_routes});
    auto b = r.start({.addr = "127.0.0.1", .routes = b_routes});
    REQUIRE(a);
    REQUIRE(b);
    client to_a("127.0.0.1", a->port()), to_b("127.0.0.1", b->port());
    CHECK(to_a.ask(r.loop, get("/")).body == "a");
    CHECK(to_b.ask(r.loop, get("/")).body == "b");
    CHECK(r.finish(a->close()));
    CHECK(to_a.ends(r.loop));
    CHECK(to_b.ask(r.loop, get("/")).body == "b");
}

TEST_CASE("the options' texts need not outlive the call") {
    rig r;
    prom::task<prom::result<prom::metrics_http_server>> starting;
    {
        std::string addr = "127.0.0.1", path = "/somewhere/long/enough/to/be/on/the/heap", text = "the text of it, long enough too", host = "localhost";
        const prom::route routes[] = {{.path = path, .text = text}};
        const std::string_view hosts[] = {host};
        starting = prom::start_http_server(r.loop, {.addr = addr, .routes = routes, .allowed_hosts = hosts});
        for (std::string* s : {&addr, &path, &text, &host}) s->assign(s->size(), '!');
    }
    auto server = r.finish(std::move(starting));
    REQUIRE(server);
    client c("127.0.0.1", server->port());
    CHECK(c.ask(r.loop, get("/somewhere/long/enough/to/be/on/the/heap")).body == "the text of it, long enough too");
}

TEST_CASE("options may be braced inside co_await") {
    prom::event_loop loop;
    const int status = loop.run([](prom::event_loop& on) -> prom::task<int> {
        const prom::route routes[] = {{.path = "/", .text = "x"}};  // g++ 12 refuses lists in lists here
        auto server = co_await prom::start_http_server(on, {.addr = "127.0.0.1", .routes = routes, .self_metrics = true});
        co_return server && server->port() != 0 ? 1 : 0;
    }(loop));
    CHECK(status == 1);
}

TEST_CASE("Process-Start-Time-Unix is the time the process was started") {
    rig r;
    auto server = r.start({.addr = "127.0.0.1", .process_start_header = true});
    REQUIRE(server);
    const double started = std::atof(client("127.0.0.1", server->port()).ask(r.loop, get()).field("Process-Start-Time-Unix").c_str());
    CHECK(started <= prom::system_clock().wall() + 1);
    CHECK(started > prom::system_clock().wall() - 3600);
}

TEST_CASE("self_metrics: a response that ends in the turn that it begins in has its time") {
    rig r;
    auto server = r.start({.addr = "127.0.0.1", .self_metrics = true});
    REQUIRE(server);
    const auto sum = [] { return prom::default_registry().sample_value("prometheus_async_http_response_seconds_sum").value_or(0); };
    const double before = sum();
    time_flies = true;  // 10 seconds a reading
    client("127.0.0.1", server->port()).ask(r.loop, get());
    time_flies = false;
    CHECK(sum() >= before + 10);
}

TEST_CASE("self_metrics: a response that took less than no time took none") {
    rig r;
    const std::string text(std::size_t{16} << 20, 'x');  // more than the system holds
    const prom::route routes[] = {{.path = "/", .text = text}};
    auto server = r.start({.addr = "127.0.0.1", .routes = routes, .self_metrics = true});
    REQUIRE(server);
    client c("127.0.0.1", server->port());
    c.send(get("/"));
    r.pass(0);
    const auto sum = [] { return prom::default_registry().sample_value("prometheus_async_http_response_seconds_sum").value(); };
    const double before = sum();
    the_time -= 100;
    CHECK(c.next(r.loop).body.size() == text.size());
    CHECK(sum() == before);
}

// ---- closing ----

TEST_CASE("close() de-registers, then closes; a second one is nothing") {
    rig r;
    fake_discovery sd;
    auto server = r.start({.addr = "127.0.0.1", .service_discovery = &sd});
    REQUIRE(server);
    client c("127.0.0.1", server->port());
    CHECK(c.ask(r.loop, get("/")).status == 200);
    CHECK(r.finish(server->close()));
    CHECK(sd.deregistered == 1);
    CHECK(c.ends(r.loop));
    CHECK_FALSE(client("127.0.0.1", server->port()).connected());
    CHECK(r.finish(server->close()));
    CHECK(sd.deregistered == 1);
    prom::metrics_http_server none;
    CHECK(r.finish(none.close()));
}

TEST_CASE("a failed de-registration is the result of close(), and the server is closed nevertheless") {
    rig r;
    fake_discovery sd;
    sd.fails_to_leave = true;
    auto server = r.start({.addr = "127.0.0.1", .service_discovery = &sd});
    REQUIRE(server);
    const auto closed = r.finish(server->close());
    CHECK_FALSE(closed);
    CHECK(std::string(closed.why().describe()) == "the fake keeps it");
    CHECK_FALSE(client("127.0.0.1", server->port()).connected());
}

TEST_CASE("a de-registration that hangs is given the loop's closing budget") {
    rig r;
    fake_discovery sd;
    sd.hangs = true;
    auto server = r.start({.addr = "127.0.0.1", .service_discovery = &sd});
    REQUIRE(server);
    std::vector<prom::result<void>> out;
    r.loop.spawn([](prom::metrics_http_server& s, std::vector<prom::result<void>>& to) -> prom::task<void> { to.push_back(co_await s.close()); }(*server, out));
    r.pass(1.99);
    CHECK(out.empty());
    r.pass(0.01);
    REQUIRE(out.size() == 1);
    CHECK(out[0].why().code() == prom::errc::timeout);
    CHECK_FALSE(client("127.0.0.1", server->port()).connected());
}

TEST_CASE("a destroyed server is closed at once and de-registered by its loop") {
    rig r;
    fake_discovery sd;
    std::uint16_t port = 0;
    client c;
    {
        auto server = r.start({.addr = "127.0.0.1", .service_discovery = &sd});
        REQUIRE(server);
        port = server->port();
        c = client("127.0.0.1", port);
        CHECK(c.ask(r.loop, get("/")).status == 200);
    }
    CHECK(c.ends(r.loop));
    CHECK_FALSE(client("127.0.0.1", port).connected());
    CHECK(sd.deregistered == 1);
}

TEST_CASE("a close() that is abandoned leaves nothing behind") {
    rig r;
    fake_discovery sd;
    sd.hangs = true;
    const std::size_t before = open_descriptors();
    {
        auto server = r.start({.addr = "127.0.0.1", .service_discovery = &sd});
        REQUIRE(server);
        { auto never_awaited = server->close(); }
        CHECK(server->is_registered());
        prom::event_loop other;
        r.loop.spawn([](prom::metrics_http_server& s) -> prom::task<void> { (void)co_await s.close(); }(*server));
        CHECK_FALSE(server->is_registered());
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("a loop that ends first closes its servers and has them de-registered") {
    fake_discovery sd;
    prom::metrics_http_server server;
    std::uint16_t port = 0;
    {
        rig r;
        auto made = r.start({.addr = "127.0.0.1", .service_discovery = &sd});
        REQUIRE(made);
        server = std::move(*made);
        port = server.port();
    }
    CHECK(sd.deregistered == 1);
    CHECK_FALSE(client("127.0.0.1", port).connected());
    CHECK(server.port() == port);
    CHECK_FALSE(server.is_registered());
}

TEST_CASE("a discovery that fails leaves nothing open, whether it returns or throws") {
    rig r;
    const std::size_t before = open_descriptors();
    fake_discovery sd;
    sd.fails = true;
    auto failed = r.start({.addr = "127.0.0.1", .service_discovery = &sd});
    REQUIRE_FALSE(failed);
    CHECK(std::string(failed.why().describe()) == "the fake says no");
    CHECK(open_descriptors() == before);
#if PROMETHEUS_ASYNC_EXCEPTIONS
    struct thrower final : prom::service_discovery {
        prom::task<prom::result<prom::registration>> register_server(prom::event_loop&, const prom::metrics_http_server&) override {
            throw 42;
            co_return prom::registration{};
        }
    } throws;
    bool caught = false;
    r.loop.spawn([](prom::event_loop& loop, thrower& t, bool& out) -> prom::task<void> {
        try {
            auto s = co_await prom::start_http_server(loop, {.addr = "127.0.0.1", .service_discovery = &t});
        } catch (int) {
            out = true;
        }
    }(r.loop, throws, caught));
    r.pass(0);
    CHECK(caught);
    CHECK(open_descriptors() == before);
#endif
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("a de-registration that throws closes the server nevertheless") {
    rig r;
    struct thrower final : prom::service_discovery {
        prom::task<prom::result<prom::registration>> register_server(prom::event_loop&, const prom::metrics_http_server&) override {
            prom::registration out;
            out.deregister = []() -> prom::task<prom::result<void>> {
                throw 42;
                co_return prom::result<void>{};
            };
            co_return std::move(out);
        }
    } sd;
    auto server = r.start({.addr = "127.0.0.1", .service_discovery = &sd});
    REQUIRE(server);
    CHECK_FALSE(r.finish(server->close()));
    CHECK_FALSE(client("127.0.0.1", server->port()).connected());
}
#endif

TEST_CASE("a program that is stopped has its server de-registered by run()") {
    fake_discovery sd;
    prom::event_loop loop;
    const int status = loop.run([](prom::event_loop& on, fake_discovery& with) -> prom::task<int> {
        auto server = co_await prom::start_http_server(on, {.addr = "127.0.0.1", .service_discovery = &with});
        on.stop();
        co_await on.sleep(1000);
        co_return server ? 1 : 2;
    }(loop, sd));
    CHECK(status == 0);
    CHECK(sd.deregistered == 1);
}

// ---- time and pressure, on a loop ----

TEST_CASE("an idle connection ends after 75 s, to the millisecond") {
    rig r;
    auto server = r.start({.addr = "127.0.0.1"});
    REQUIRE(server);
    client c("127.0.0.1", server->port());
    CHECK(c.ask(r.loop, get("/")).status == 200);
    r.pass(74.999);
    CHECK(c.open(r.loop));
    r.pass(0.001);
    CHECK(c.ends(r.loop));
    CHECK_FALSE(c.was_reset);
}

TEST_CASE("a half-sent head ends in 408 after 5 s from the accept") {
    rig r;
    auto server = r.start({.addr = "127.0.0.1"});
    REQUIRE(server);
    client c("127.0.0.1", server->port());
    c.send("GET / HT");
    CHECK(c.open(r.loop));
    r.pass(4.999);
    c.send("TP/1.1\r\n");
    CHECK(c.open(r.loop));
    r.pass(0.001);
    CHECK(c.next(r.loop).status == 408);
    CHECK(c.ends(r.loop));
}

TEST_CASE("a reader that takes nothing is reset after 10 s; the others are served meanwhile") {
    rig r;
    const std::string big(8 << 20, 'x');
    const prom::route routes[] = {{.path = "/big", .text = big}, {.path = "/", .text = "small"}};
    auto server = r.start({.addr = "127.0.0.1", .routes = routes});
    REQUIRE(server);
    std::vector<client> slow;
    for (int i = 0; i != 100; ++i) {
        slow.emplace_back("127.0.0.1", server->port(), 2048);
        slow.back().send(get("/big"));
    }
    client good("127.0.0.1", server->port());
    for (int i = 0; i != 5; ++i) {
        good.send(get("/"));
        answer a;
        int turns = 0;
        do {
            r.loop.poll(0);
            good.receive();
        } while (!take_answer(good.in, false, false, a) && ++turns < 200);
        CHECK(a.body == "small");
        CHECK(turns < 100);  // a bounded part of a turn goes to each slow reader
    }
    for (int i = 0; i != 200; ++i) r.loop.poll(0);  // the sockets' buffers are full now
    r.pass(9.9);
    r.pass(0.2);
    int gone = 0;
    for (client& c : slow) gone += c.ends(r.loop) && c.was_reset;
    CHECK(gone == 100);
    CHECK(r.told == std::vector(100, prom::event_kind::connection_stalled));
    CHECK(good.ask(r.loop, get("/")).status == 200);
}

TEST_CASE("a connection whose descriptor is 0 is one like any other") {
    const int kept = ::dup(0);
    if (kept < 0) return;
    rig r;
    auto server = r.start({.addr = "127.0.0.1"});
    REQUIRE(server);
    client c("127.0.0.1", server->port());
    ::close(0);  // as daemons do
    for (int i = 0; i != 20; ++i) r.loop.poll(0);
    CHECK(::fcntl(0, F_GETFD) >= 0);
    CHECK(c.ask(r.loop, get("/")).status == 200);
    c.close();
    for (int i = 0; i != 20; ++i) r.loop.poll(0);
    CHECK(::fcntl(0, F_GETFD) < 0);
    CHECK(r.told.empty());
    ::dup2(kept, 0);
    ::close(kept);
}

TEST_CASE("a newcomer takes the place of the oldest that waits") {
    rig r;
    prom::server_limits few;
    few.connections = 3;
    auto server = r.start({.addr = "127.0.0.1", .limits = few});
    REQUIRE(server);
    client a("127.0.0.1", server->port()), b("127.0.0.1", server->port()), c("127.0.0.1", server->port());
    for (client* each : {&a, &b, &c}) CHECK(each->ask(r.loop, get("/")).status == 200);
    CHECK(a.ask(r.loop, get("/")).status == 200);  // a waits anew: b is the oldest
    client d("127.0.0.1", server->port());
    CHECK(d.ask(r.loop, get("/")).status == 200);
    CHECK(b.ends(r.loop));
    CHECK(a.open(r.loop));
    CHECK(c.open(r.loop));
    CHECK(r.told == std::vector{prom::event_kind::connection_evicted});
}

TEST_CASE("when no connection can be evicted the new one gets 503, and accepting pauses for 100 ms") {
    rig r;
    const std::string big(8 << 20, 'x');
    const prom::route routes[] = {{.path = "/big", .text = big}, {.path = "/", .text = "small"}};
    prom::server_limits few;
    few.connections = 2;
    auto server = r.start({.addr = "127.0.0.1", .routes = routes, .limits = few});
    REQUIRE(server);
    client a("127.0.0.1", server->port(), 2048), b("127.0.0.1", server->port(), 2048);
    for (client* each : {&a, &b}) each->send(get("/big"));
    for (int i = 0; i != 50; ++i) r.loop.poll(0);
    client c("127.0.0.1", server->port());
    const answer no = c.ask(r.loop, get("/"));
    CHECK(no.status == 503);
    CHECK(no.has("Retry-After: 1"));
    CHECK(r.told == std::vector{prom::event_kind::connection_refused});
    client d("127.0.0.1", server->port());
    d.send(get("/"));
    for (int i = 0; i != 10; ++i) r.loop.poll(0);
    d.receive();
    CHECK(d.in.empty());
    r.pass(0.1);
    CHECK(d.next(r.loop).status == 200);
    CHECK(c.ends(r.loop));
}

TEST_CASE("an address with one connection that reads does not lose it to the first of another address") {
    rig r;
    const std::string big(8 << 20, 'x');
    const prom::route routes[] = {{.path = "/big", .text = big}, {.path = "/", .text = "small"}};
    prom::server_limits one;
    one.connections = 1;
    auto server = r.start({.addr = "127.0.0.1", .routes = routes, .limits = one});
    REQUIRE(server);
    client a("127.0.0.1", server->port(), 2048);
    a.send(get("/big"));
    for (int i = 0; i != 50; ++i) r.loop.poll(0);
    client c;
    c.fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    REQUIRE(::bind(c.fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    at.sin_port = htons(server->port());
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(c.fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    ::fcntl(c.fd, F_SETFL, O_NONBLOCK);
    CHECK(c.ask(r.loop, get("/")).status == 503);
    CHECK(r.told == std::vector{prom::event_kind::connection_refused});
}

TEST_CASE("that a newcomer is refused is told before it is answered") {
    rig r;
    const std::string big(8 << 20, 'x');
    const prom::route routes[] = {{.path = "/big", .text = big}};
    prom::server_limits one;
    one.connections = 1;
    struct newcomer {
        std::optional<client> c;
        int told = 0;
        bool answered = false;
    } late;
    auto server = r.finish(prom::start_http_server(r.loop, {.addr = "127.0.0.1", .routes = routes, .limits = one, .on_event = [](const prom::event& e, void* of) {
                               auto& n = *static_cast<newcomer*>(of);
                               if (e.kind != prom::event_kind::connection_refused) return;
                               ++n.told;
                               n.c->receive();
                               n.answered = !n.c->in.empty();
                           }, .context = &late}));
    REQUIRE(server);
    client reader("127.0.0.1", server->port(), 2048);
    reader.send(get("/big"));
    for (int i = 0; i != 50; ++i) r.loop.poll(0);
    late.c.emplace("127.0.0.1", server->port());
    CHECK(late.c->ask(r.loop, get("/")).status == 503);
    CHECK(late.told == 1);
    CHECK_FALSE(late.answered);
}

TEST_CASE("everything that waits is accepted, a bounded number in each turn") {
    rig r;
    auto server = r.start({.addr = "127.0.0.1"});
    REQUIRE(server);
    std::vector<client> many;
    for (int i = 0; i != 40; ++i) {
        many.emplace_back("127.0.0.1", server->port());
        many.back().send(get("/"));
    }
    for (client& c : many) CHECK(c.next(r.loop).status == 200);
}

TEST_CASE("of a flood of newcomers, all that have asked already are answered before they make room") {
    rig r;
    const std::string path = "/tmp/prometheus_async_flood." + std::to_string(::getpid());
    auto server = r.start({.addr = "unix:" + path, .limits = {.connections = 8}});
    REQUIRE(server);
    std::vector<client> many;
    for (int i = 0; i != 40; ++i) {
        many.emplace_back("unix:" + path);
        REQUIRE(many.back().connected());
        many.back().send(get("/"));
    }
    int answered = 0;
    for (client& c : many) answered += c.next(r.loop).status == 200;
    CHECK(answered == 40);
}

TEST_CASE("a peer that leaves in the middle leaves nothing") {
    rig r;
    prom::registry mine;
    for (int i = 0; i != 5000; ++i) mine.make_gauge("g" + std::to_string(i), "some help for it");
    prom::registry* const one[] = {&mine};
    const prom::route routes[] = {{.path = "/metrics", .registries = one}};
    auto server = r.start({.addr = "127.0.0.1", .routes = routes});
    REQUIRE(server);
    r.loop.poll(0);
    const std::size_t before = open_descriptors();
    const std::string ask = get() + get();
    for (std::size_t cut = 0; cut <= ask.size(); cut += 7) {
        for (bool hard : {false, true}) {
            client c("127.0.0.1", server->port(), 2048);
            c.send(ask.substr(0, cut));
            for (std::size_t i = 0; i != cut % 3; ++i) r.loop.poll(0);
            c.receive(cut * 10);
            if (hard) c.reset();
            else c.close();
            for (int i = 0; i != 3; ++i) r.loop.poll(0);
        }
    }
    for (int i = 0; i != 100 && open_descriptors() != before; ++i) {
        r.pass(5);
    }
    CHECK(open_descriptors() == before);
    CHECK(client("127.0.0.1", server->port()).ask(r.loop, get()).status == 200);
}

// ---- callbacks that end their server ----

TEST_CASE("a server may be ended by its own callbacks: what they were called for is done first") {
    for (int how = 0; how != 4; ++how) {
        CAPTURE(how);
        rig r;
        struct ends {
            rig& on;
            prom::metrics_http_server server;
            int calls = 0;
            int how;
            void end() {
                if (++calls != 1) return;
                if (how % 2 == 0) server = {};
                else on.loop.spawn([](prom::metrics_http_server& s) -> prom::task<void> { (void)co_await s.close(); }(server));
            }
        } it{r, {}, 0, how};
        prom::registry mine;
        const auto collects = mine.add_collector([&](prom::sample_sink& to) {
            if (how < 2) it.end();
            to.family(prom::metric_type::gauge, "last", "");
            to.sample(1);
        });
        prom::registry* const shown[] = {&mine};
        const prom::route routes[] = {{.path = "/metrics", .registries = shown}};
        const prom::credential accepted[] = {prom::bearer("t0ken")};
        auto started = r.finish(prom::start_http_server(
            r.loop, {.addr = "127.0.0.1", .credentials = how < 2 ? prom::list<prom::credential>() : accepted, .routes = routes,
                     .on_event = [](const prom::event&, void* self) { static_cast<ends*>(self)->end(); }, .context = &it}));
        REQUIRE(started);
        it.server = *std::move(started);
        const std::uint16_t port = it.server.port();
        client idle("127.0.0.1", port), asks("127.0.0.1", port);
        for (int i = 0; i != 5; ++i) r.loop.poll(0);
        asks.send(get());
        for (int i = 0; i != 20; ++i) r.loop.poll(0);
        asks.receive();
        CHECK(it.calls == 1);
        CHECK(asks.in.find(how < 2 ? "last 1\n" : "HTTP/1.1 401") != std::string::npos);
        CHECK(idle.ends(r.loop));
        CHECK(asks.ends(r.loop));
        CHECK_FALSE(r.finish(prom::start_http_server(r.loop, {.addr = "127.0.0.1", .port = port})).value().url().empty());  // the port is free
    }
}

TEST_CASE("a server whose eviction is told to a callback that ends it accepts no more") {
    rig r;
    struct ends {
        prom::metrics_http_server server;
    } it;
    auto started = r.finish(prom::start_http_server(
        r.loop, {.addr = "127.0.0.1", .limits = {.connections = 2},
                 .on_event = [](const prom::event&, void* self) { static_cast<ends*>(self)->server = {}; }, .context = &it}));
    REQUIRE(started);
    it.server = *std::move(started);
    std::vector<client> all;
    for (int i = 0; i != 5; ++i) all.emplace_back("127.0.0.1", it.server.port());
    for (int i = 0; i != 20; ++i) r.loop.poll(0);
    for (client& c : all) CHECK(c.ends(r.loop));
}

TEST_CASE("a server that ends during an HTTP/1.0 page resets: half a page does not end like a whole one") {
    rig r;
    prom::registry mine;
    const prom::family<prom::gauge, "l"> many{"many", "", {.registry = &mine}};
    for (int i = 0; i != 20000; ++i) many(std::string(400, 'x') + std::to_string(i)).set(1);  // more than kernels buffer
    prom::registry* const shown[] = {&mine};
    const prom::route routes[] = {{.path = "/metrics", .registries = shown}};
    auto server = r.start({.addr = "127.0.0.1", .routes = routes});
    REQUIRE(server);
    client old("127.0.0.1", server->port(), 4096);
    old.send("GET /metrics HTTP/1.0\r\n\r\n");
    for (int i = 0; i != 50; ++i) r.loop.poll(0);
    *server = {};
    CHECK(old.ends(r.loop));
    CHECK(old.was_reset);
}

TEST_CASE("when too many answers are being sent, the one whose reader takes least makes room, and no other") {
    rig r;
    const std::string text(8000000, 'x');
    const prom::route routes[] = {{.path = "/long", .text = text}};
    auto server = r.start({.addr = "127.0.0.1", .routes = routes, .limits = {.answers = 2}});
    REQUIRE(server);
    client taking("127.0.0.1", server->port(), 4096), silent("127.0.0.1", server->port(), 4096);
    for (client* c : {&silent, &taking}) {
        c->send(get("/long"));
        for (int i = 0; i != 50; ++i) r.loop.poll(0);
    }
    r.pass(1);
    for (int i = 0; i != 10; ++i) taking.receive(20000), r.loop.poll(0);
    CHECK(std::count(r.told.begin(), r.told.end(), prom::event_kind::connection_evicted) == 0);
    client third("127.0.0.1", server->port(), 4096);
    third.send(get("/long"));
    for (int i = 0; i != 50; ++i) r.loop.poll(0);
    CHECK(std::count(r.told.begin(), r.told.end(), prom::event_kind::connection_evicted) == 1);
    CHECK(silent.ends(r.loop));
    CHECK(silent.was_reset);
    for (client* c : {&taking, &third}) {
        for (int i = 0; i != 3000 && c->in.size() < text.size(); ++i) c->receive(), r.loop.poll(0);
        CHECK(c->in.size() > text.size());
    }
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("an on_event that throws takes neither its connection nor the server along") {
    rig r;
    const prom::credential accepted[] = {prom::bearer("t0ken")};
    auto server = r.finish(prom::start_http_server(
        r.loop, {.addr = "127.0.0.1", .credentials = accepted, .on_event = [](const prom::event&, void*) { throw 7; }}));
    REQUIRE(server);
    client asks("127.0.0.1", server->port());
    CHECK(asks.ask(r.loop, get()).status == 401);
    CHECK(asks.ask(r.loop, get("/metrics", "Authorization: Bearer t0ken\r\n")).status == 200);
}
#endif

// ---- a guest in other loops ----

#if defined(__linux__) && !PROMETHEUS_ASYNC_POLLER_POLL && !defined(PROMETHEUS_ASYNC_POLLER_KQUEUE)
#include <linux/io_uring.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

namespace {

/// A host waits for the loop's descriptor and calls poll(), once for each time that it is told.
struct epoll_host {
    std::uint32_t how;
    int outer = ::epoll_create1(EPOLL_CLOEXEC), inner = -1;
    explicit epoll_host(std::uint32_t events) : how(events | EPOLLIN) {}
    ~epoll_host() { ::close(outer); }
    bool watch(int fd) {
        epoll_event e{.events = how, .data = {}};
        return ::epoll_ctl(outer, EPOLL_CTL_ADD, inner = fd, &e) == 0;
    }
    bool told() const {
        epoll_event e;
        return ::epoll_wait(outer, &e, 1, 10) == 1;
    }
    void polled() const {
        epoll_event e{.events = how, .data = {}};
        if ((how & EPOLLONESHOT) != 0) ::epoll_ctl(outer, EPOLL_CTL_MOD, inner, &e);
    }
};

/// Polls by io_uring: one submission for each completion, or one for all.
struct uring_host {
    bool many;
    int ring = -1, inner = -1;
    io_uring_params p{};
    char *sq = nullptr, *cq = nullptr;
    io_uring_sqe* entries = nullptr;
    explicit uring_host(bool multishot) : many(multishot) {
        ring = static_cast<int>(::syscall(__NR_io_uring_setup, 64, &p));
        if (ring < 0) return;
        const auto map = [this](std::size_t size, std::uint64_t at) {
            return static_cast<char*>(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, static_cast<off_t>(at)));
        };
        sq = map(p.sq_off.array + p.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
        cq = map(p.cq_off.cqes + p.cq_entries * sizeof(io_uring_cqe), IORING_OFF_CQ_RING);
        entries = reinterpret_cast<io_uring_sqe*>(map(p.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES));
    }
    ~uring_host() { if (ring >= 0) ::close(ring); }
    unsigned* word(char* base, unsigned at) const { return reinterpret_cast<unsigned*>(base + at); }
    long submit(int fd) const {
        unsigned* const tail = word(sq, p.sq_off.tail);
        const unsigned at = *tail & *word(sq, p.sq_off.ring_mask);
        io_uring_sqe& e = entries[at] = {};
        e.opcode = IORING_OP_POLL_ADD;
        e.fd = fd;
        e.poll32_events = POLLIN;
        e.len = many ? IORING_POLL_ADD_MULTI : 0;
        word(sq, p.sq_off.array)[at] = at;
        __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
        return ::syscall(__NR_io_uring_enter, ring, 1, 0, 0, nullptr, 0);
    }
    bool watch(int fd) { return submit(inner = fd) == 1; }
    bool ended = false;  // the submission: submit again
    bool told() {
        pollfd ready{ring, POLLIN, 0};  // readable when there are completions
        if (::poll(&ready, 1, 10) != 1) return false;
        bool any = false;
        for (unsigned* const head = word(cq, p.cq_off.head); *head != __atomic_load_n(word(cq, p.cq_off.tail), __ATOMIC_ACQUIRE);) {
            const io_uring_cqe c = reinterpret_cast<io_uring_cqe*>(cq + p.cq_off.cqes)[*head & *word(cq, p.cq_off.ring_mask)];
            __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
            ended = (c.flags & IORING_CQE_F_MORE) == 0;
            any = any || c.res > 0;
        }
        return any;
    }
    void polled() {
        if (std::exchange(ended, false)) submit(inner);
    }
};

template <class Host>
void hosts_a_guest(Host& host) {
    rig r;
    const std::string text(1000000, 'x');
    prom::registry mine;
    for (int i = 0; i != 500; ++i) mine.make_counter("c" + std::to_string(i), std::string(500, 'x'));
    prom::registry* const shown[] = {&mine};
    const prom::route routes[] = {{.path = "/metrics", .registries = shown}, {.path = "/", .text = "short"}, {.path = "/long", .text = text}};
    auto server = r.start({.addr = "127.0.0.1", .routes = routes});
    REQUIRE(server);
    REQUIRE(host.watch(r.loop.native_handle()));
    const auto until = [&](auto done) {
        for (int silent = 0; silent != 300;) {  // then it has stalled
            if (done()) return true;
            const bool told = host.told();
            silent = told ? 0 : silent + 1;  // or the network is slow
            if (told) r.loop.poll();
            host.polled();
        }
        return false;
    };
    const auto answers = [](client& c, std::size_t n) {
        return [&c, n] {
            c.receive();
            return take_answers(c.in, c.ended).size() == n;
        };
    };
    {   // requests in one go, more than a turn serves
        client c("127.0.0.1", server->port());
        std::string many;
        for (int i = 0; i != 41; ++i) many += get("/");
        c.send(many);
        CHECK(until(answers(c, 41)));
        c.in.clear();
        c.send(get("/"));  // the connection goes on
        CHECK(until(answers(c, 1)));
    }
    {   // a long text and a long page, and both again; their reader takes little at a time
        client c("127.0.0.1", server->port(), 20000);
        for (int i = 0; i != 4; ++i) {
            c.in.clear();
            c.send(get(i % 2 ? "/metrics" : "/long"));
            CHECK(until([&] {
                c.receive(60000);
                return i % 2 ? c.in.size() > 250000 && c.in.compare(c.in.size() - 5, 5, "0\r\n\r\n") == 0 : c.in.size() > text.size();
            }));
        }
    }
    {   // the end of what the peer sends is there with its request
        client c("127.0.0.1", server->port());
        c.send(get("/"));
        c.half_close();
        CHECK(until([&] {
            c.receive();
            return c.ended;
        }));
        CHECK(take_answers(c.in, true).size() == 1);
    }
    {   // more newcomers than a turn accepts, more events than a turn fetches
        std::vector<client> all;
        for (int i = 0; i != 100; ++i) {
            all.emplace_back("127.0.0.1", server->port());
            all.back().send(get("/"));
        }
        for (client& c : all) CHECK(until(answers(c, 1)));
        for (client& c : all) c.in.clear(), c.send(get("/"));
        for (client& c : all) CHECK(until(answers(c, 1)));
    }
    {   // content that a closing server discards
        client c("127.0.0.1", server->port());
        c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + std::string(200000, 'x'));
        c.half_close();
        CHECK(until([&] {
            c.receive();
            return c.ended;
        }));
        CHECK(take_answers(c.in, true).size() == 1);
    }
    {   // two tasks on one descriptor, of which one takes an octet at a time
        int ends[2], got = 0, wrote = 0;
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        (void)!::write(ends[1], "0123456789", 10);
        r.loop.spawn([](prom::event_loop& loop, int fd, int& n) -> prom::task<void> {
            for (char c; n != 10; ++n) {
                (void)co_await loop.readable(fd);
                (void)!::read(fd, &c, 1);
            }
        }(r.loop, ends[0], got));
        r.loop.spawn([](prom::event_loop& loop, int fd, int& n) -> prom::task<void> {
            for (; n != 10; ++n) (void)co_await loop.writable(fd);
        }(r.loop, ends[0], wrote));
        CHECK(until([&] { return got == 10 && wrote == 10; }));
        ::close(ends[0]);
        ::close(ends[1]);
    }
    int posts = 0;
    r.loop.post([&] { r.loop.post([&] { ++posts; }); });
    CHECK(until([&] { return posts == 1; }));
}

}  // namespace

TEST_CASE("a host that is told of edges, once, or of levels serves as a loop of its own does") {
    for (std::uint32_t how : {std::uint32_t{EPOLLET}, std::uint32_t{EPOLLONESHOT}, std::uint32_t{EPOLLET | EPOLLONESHOT}, std::uint32_t{0}}) {
        CAPTURE(how);
        epoll_host host(how);
        hosts_a_guest(host);
    }
}

TEST_CASE("a host that polls by io_uring serves as a loop of its own does") {
    for (bool multishot : {false, true}) {
        CAPTURE(multishot);
        uring_host host(multishot);
        if (host.ring < 0) {
            MESSAGE("SKIPPED: no io_uring here");
            return;
        }
        hosts_a_guest(host);
    }
}

TEST_CASE("a scrape that leaves nothing to do sets no alarm") {
    rig r;
    auto server = r.start({.addr = "127.0.0.1"});
    REQUIRE(server);
    pollfd host{r.loop.native_handle(), POLLIN, 0};
    client c("127.0.0.1", server->port());
    CHECK(c.ask(r.loop, get("/")).status == 200);
    CHECK(::poll(&host, 1, 0) == 0);
    for (int i = 0; i != 3; ++i) {
        c.send(get("/"));
        r.loop.poll(1);
        c.receive();
        CHECK(take_answers(c.in).size() == 1);
        c.in.clear();
        CHECK(::poll(&host, 1, 0) == 0);  // an alarm would be there at once
    }
}
#endif

TEST_CASE("url() is used as a C string, a view and a string") {
    rig r;
    auto server = r.start({.addr = "127.0.0.1"}).value();
    const std::string text = server.url();
    CHECK(std::strlen(server.url().c_str()) == text.size());
    CHECK(server.url() + "metrics" == text + "metrics");
    CHECK("at " + server.url() + server.url() == "at " + text + text);
    CHECK(server.url() + server.url() + 'x' == text + text + 'x');
    CHECK(server.url() + 'x' == text + 'x');
    CHECK((text.empty() ? "" : server.url()) == text);
    CHECK(std::string(prom::metrics_http_server().url().c_str()).empty());
}
