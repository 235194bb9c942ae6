// Whatever is called back may throw: it is dropped, and what called it goes on.
// needs-network
// needs-exceptions
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/allocations.hpp"
#include "support/answers.hpp"
#include "support/client.hpp"
#include "support/scripted_peer.hpp"
#include <doctest/doctest.h>
#include <stdexcept>

namespace prom = prometheus_async;
using namespace prometheus_async::detail;
using scripted::until;

namespace {

/// An on_event that throws what is no std::exception, and remembers what it heard.
std::vector<prom::event_kind> heard;
std::string words;
void throws(const prom::event& e, void*) {
    failing_allocations = 0;
    heard.push_back(e.kind);
    words = e.why.describe();
    throw 1;
}
std::size_t count(prom::event_kind kind) {
    std::size_t n = 0;
    for (prom::event_kind k : heard) n += k == kind;
    return n;
}
struct quiet {  // nothing heard yet, whichever test runs
    quiet() { heard.clear(); }
};

}  // namespace

TEST_CASE_FIXTURE(quiet, "notify: an on_event is called, or none, and what it throws is dropped") {
    const prom::error why(prom::errc::tls, "a reason");
    prom::notify(nullptr, nullptr, {prom::event_kind::certificate_rejected, why});
    prom::notify(&throws, nullptr, {prom::event_kind::certificate_rejected, why});
    CHECK(count(prom::event_kind::certificate_rejected) == 1);
    CHECK(words == "a reason");
}

TEST_CASE_FIXTURE(quiet, "a loop whose on_event throws goes on, after posted callbacks and tasks that throw") {
    prom::event_loop loop({.on_event = &throws});
    int ran = 0;
    loop.post([] { throw std::runtime_error("posted"); });
    loop.spawn([](prom::event_loop& on) -> prom::task<void> {
        co_await on.sleep(0);
        throw std::runtime_error("spawned");
    }(loop));
    loop.post([&] { ++ran; });
    until(loop, [&] { return ran == 1 && heard.size() == 2; });
    CHECK(count(prom::event_kind::callback_failed) == 2);
}

TEST_CASE_FIXTURE(quiet, "a page whose on_event throws holds all but what a collector did not yield") {
    prom::registry mine;
    prom::counter c("c_total", "", {.registry = &mine});
    c.inc(-1.0);
    const prom::callback_gauge broken("broken", "", []() -> double { throw std::runtime_error("no"); }, {.registry = &mine});
    const auto collects = mine.add_collector([](prom::sample_sink&) { throw 1; });
    prom::registry* const of[] = {&mine};
    const std::string page = prom::expose({.registries = of, .on_event = &throws});
    CHECK(page.find("c_total 0\n") != std::string::npos);
    CHECK(page.find("broken") == std::string::npos);
    CHECK(count(prom::event_kind::step_ignored) == 1);
    CHECK(count(prom::event_kind::callback_failed) == 2);
}

TEST_CASE_FIXTURE(quiet, "a server whose on_event throws answers; a connection without memory is one that could not be accepted") {
    prom::event_loop loop(scripted::on_fake_time());
    prom::registry mine;
    const prom::gauge g("g", "", {.registry = &mine});
    const auto collects = mine.add_collector([](prom::sample_sink&) { throw 1; });
    prom::registry* const of[] = {&mine};
    const prom::route routes[] = {{.path = "/metrics", .registries = of}};
    const prom::credential who[] = {prom::bearer("word")};
    auto server = scripted::finish(loop, prom::start_http_server(loop, {.addr = "127.0.0.1", .port = 0, .credentials = who, .routes = routes, .on_event = &throws}));
    REQUIRE(server);
    const std::string request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n";
    test_client::client first("127.0.0.1", server->port());
    auto a = first.ask(loop, request + "Authorization: Bearer word\r\n\r\n");
    CHECK(a.status == 200);
    CHECK(a.body.find("g 0\n") != std::string::npos);
    CHECK(count(prom::event_kind::callback_failed) == 1);
    CHECK(first.ask(loop, request + "\r\n").status == 401);
    CHECK(count(prom::event_kind::authorization_failed) == 1);

    if (!counts_allocations) {
        MESSAGE("SKIPPED: memory cannot be made to fail under this sanitizer");
        return;
    }
    failing_allocation_size = sizeof(server_connection);
    failing_allocations = 1;
    test_client::client second("127.0.0.1", server->port());
    CHECK(second.ends(loop));
    failing_allocation_size = 0;
    CHECK(count(prom::event_kind::accept_failed) == 1);
    scripted::now += 1;
    test_client::client third("127.0.0.1", server->port());
    CHECK(third.ask(loop, request + "Authorization: Bearer word\r\n\r\n").status == 200);
}

TEST_CASE_FIXTURE(quiet, "Consul's watchdog goes on after its on_event and its own memory failed") {
    prom::event_loop loop(scripted::on_fake_time());
    int known = 0;
    scripted::peer agent(loop, [&](const std::string& request) {
        if (request.find("PUT /v1/agent/service/register ") == 0) return known = 1, scripted::http(200);
        return known ? scripted::http(200, "{}") : scripted::http(404, "unknown service");
    });
    const std::string where = agent.at();
    const prom::consul_options options{.name = "x", .deregister = false, .agent = where, .on_event = &throws};
    auto kept = scripted::finish(loop, consul_start(prom::detail::shared(new consul_member(
        consul_settings(options), loop, "127.0.0.1", "", std::uint16_t{9464}, false))));
    REQUIRE(kept);
    CHECK(known == 1);
    known = 0;  // forgotten: told, by an on_event that throws
    until(loop, [&] { return scripted::now += 5, known == 1; });
    CHECK(count(prom::event_kind::registration_lost) == 1);

    if (!counts_allocations) {
        MESSAGE("SKIPPED: memory cannot be made to fail under this sanitizer");
        return;
    }
    for (int i = 0; i != 3; ++i) {
        until(loop, [&] { return kept->registered(); });
        for (int turn = 0; turn != 20; ++turn) loop.poll(0);  // it sleeps
        heard.clear();
        failing_allocations = 1;  // of its next look
        until(loop, [&] { return scripted::now += 5, !heard.empty(); });
        CHECK(count(prom::event_kind::registration_failed) == 1);
        CHECK(words.find("the watchdog threw") == 0);
        known = 0;
        until(loop, [&] { return scripted::now += 5, known == 1; });
    }
    CHECK(scripted::finish(loop, kept->deregister()));
}

TEST_CASE_FIXTURE(quiet, "a discovery that cannot say whether a server is registered: it is not") {
    struct unsure final : prom::service_discovery {
        prom::task<prom::result<prom::registration>> register_server(prom::event_loop&, const prom::metrics_http_server&) override {
            prom::registration r;
            r.registered = []() -> bool { throw 1; };
            r.deregister = []() -> prom::task<prom::result<void>> { co_return {}; };
            co_return std::move(r);
        }
    } discovery;
    prom::event_loop loop;
    auto server = scripted::finish(loop, prom::start_http_server(loop, {.addr = "127.0.0.1", .port = 0, .service_discovery = &discovery}));
    REQUIRE(server);
    CHECK(!server->is_registered());
}

TEST_CASE_FIXTURE(quiet, "a clock that throws: the system's is read") {
    const prom::clock broken{[]() -> double { throw 1; }, []() -> double { throw 1; }};
    prom::set_clock(broken);
    const double wall = prom::wall_now(), monotonic = prom::monotonic_now();
    prom::set_clock(prom::system_clock());
    CHECK((wall > 1e9 && wall <= prom::wall_now()));
    CHECK((monotonic > 0 && monotonic <= prom::monotonic_now()));
    prom::event_loop loop({.time = broken});
    CHECK(loop.run([](prom::event_loop& on) -> prom::task<int> {
        co_await on.sleep(0);
        co_return 4;
    }(loop)) == 4);
}

TEST_CASE_FIXTURE(quiet, "a handler of unhandled failures that throws") {
    int unseen = 0;
    prom::on_unhandled_failure([](const prom::fault&, void* n) {
        ++*static_cast<int*>(n);
        throw 1;
    }, &unseen);
    {
        const prom::deferred<int> d;
        d.fail(std::make_exception_ptr(1));
    }
    prom::on_unhandled_failure(nullptr);
    CHECK(unseen == 1);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("an empty callback is refused where it is given") {
    prom::registry mine;
    prom::registry* const shown[] = {&mine};
    double (*none)() = nullptr;
    CHECK_THROWS_AS(mine.add_collector(prom::callback<void(prom::sample_sink&)>()).remove(), prom::failure);
    CHECK_THROWS_AS(prom::callback_gauge("g", "h", {}, {.registry = &mine}), prom::failure);
    CHECK_THROWS_AS(prom::callback_counter("c", "h", none, {.registry = &mine}), prom::failure);
    CHECK(prom::expose({.registries = shown}).empty());
}
#endif
