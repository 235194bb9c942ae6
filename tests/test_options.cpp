// Every struct of options braced inside a co_await expression: g++ 12 destroys such an argument twice when it has a
// member with a destructor, so none has, and ASan would tell.
// needs-network
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace prom = prometheus_async;

namespace {
template <class Options>
prom::task<int> takes(Options given) {
    (void)given;
    co_return 1;
}
template <class Options>
prom::task<int> by_reference(const Options& given) {
    (void)given;
    return takes(0);
}

prom::task<int> all() {
    const prom::label labels[] = {{"a", "b"}};
    const std::string_view names[] = {"a"};
    int sum = 0;
    sum += co_await takes<prom::metric_options>({.unit = "seconds", .labels = labels, .max_series = 3});
    sum += co_await by_reference<prom::metric_options>({.subsystem = "http", .labels = labels});
    sum += co_await takes<prom::page_options>({.as = prom::format::openmetrics_1_0_0, .only = names});
    sum += co_await takes<prom::stats_request>({.accept = "text/plain", .only = names});
    sum += co_await takes<prom::loop_options>({.closing_budget = 1});
    sum += co_await takes<prom::server_limits>({.connections = 3});
    sum += co_await takes<prom::route>({.path = "/x", .text = "y"});
    sum += co_await takes<prom::server_options>({.addr = "127.0.0.1", .allowed_hosts = names});
    sum += co_await by_reference<prom::server_options>({.addr = "::1", .limits = {.connections = 2}});
    sum += co_await takes<prom::tls_config>({.context = nullptr});
    sum += co_await takes<prom::credential>({.kind = prom::credential::scheme::bearer, .user = {}, .secret = "s"});
    sum += co_await takes<prom::authorizer>({.context = nullptr});
    sum += co_await takes<prom::consul_options>({.name = "n", .token = "t"});
    sum += co_await takes<prom::file_sd_options>({.path = "p"});
    sum += co_await takes<prom::textfile_options>({.path = "p.prom", .only = names});
    co_return sum;
}
}  // namespace

TEST_CASE("every options struct can be braced inside co_await") {
    prom::event_loop loop;
    CHECK(loop.run(all()) == 15);
}

TEST_CASE("every options struct is trivially destructible") {
    CHECK(std::is_trivially_destructible_v<prom::metric_options>);
    CHECK(std::is_trivially_destructible_v<prom::page_options>);
    CHECK(std::is_trivially_destructible_v<prom::stats_request>);
    CHECK(std::is_trivially_destructible_v<prom::loop_options>);
    CHECK(std::is_trivially_destructible_v<prom::server_limits>);
    CHECK(std::is_trivially_destructible_v<prom::route>);
    CHECK(std::is_trivially_destructible_v<prom::server_options>);
    CHECK(std::is_trivially_destructible_v<prom::tls_config>);
    CHECK(std::is_trivially_destructible_v<prom::credential>);
    CHECK(std::is_trivially_destructible_v<prom::authorizer>);
    CHECK(std::is_trivially_destructible_v<prom::consul_options>);
    CHECK(std::is_trivially_destructible_v<prom::file_sd_options>);
    CHECK(std::is_trivially_destructible_v<prom::textfile_options>);
}

TEST_CASE("a server started with braced options inside co_await keeps copies of what they name") {
    prom::event_loop loop;
    const auto start = [](prom::event_loop& on) -> prom::task<bool> {
        auto server = co_await prom::start_http_server(on, {.addr = std::string("127.0.0.1"), .limits = {.connections = 4}});
        co_return server && server->address() == "127.0.0.1" && server->port() != 0;
    };
    CHECK(loop.run(start(loop)));
}

TEST_CASE("a server listens on the address that it is given, in whatever way, and not on all interfaces") {
    struct own {
        operator std::string_view() const { return "127.0.0.1"; }
    };
    const char array[] = "127.0.0.1";
    const char* const pointer = array;
    const std::string held = array;
    prom::server_options assigned, copied, emptied{.addr = "127.0.0.1"};
    assigned.addr = held;
    copied = assigned;
    emptied.addr = {};
    const prom::server_options ways[] = {{.addr = array}, {.addr = pointer}, {.addr = held}, {.addr = std::string_view(held)}, {.addr = own()},
                                         {.addr = {array, 9}}, assigned, copied, prom::server_options(assigned), {.addr = assigned.addr}};
    const prom::server_options all[] = {{}, {.addr = ""}, {.addr = {}}, {.addr = std::string_view()}, emptied};
    prom::event_loop loop;
    const auto start = [](prom::event_loop& on, const prom::server_options& o) -> prom::task<std::string> {
        auto server = co_await prom::start_http_server(on, o);
        co_return server ? std::string(server->address()) : server.why().describe();
    };
    for (const auto& o : ways) CHECK(loop.run(start(loop, o)) == "127.0.0.1");
    for (const auto& o : all) {
        const std::string where = loop.run(start(loop, o));
        CHECK((where == "::" || where == "0.0.0.0"));
    }
    prom::server_options changed;
    static_cast<std::string_view&>(changed.addr) = "127.0.0.1";  // without the code
    CHECK(loop.run(start(loop, changed)).find("assign to addr itself") != std::string::npos);
    CHECK(changed.addr == "127.0.0.1");
    CHECK_FALSE(changed.addr.empty());
}

TEST_CASE("an option brings the code that it needs, in whatever way it is given") {
    prom::registry r;
    const prom::label constants[] = {{"zone", "1"}};
    const prom::list<prom::label> listed = constants;
    const std::vector<prom::label> held(constants, constants + 1);
    prom::metric_options assigned, from_list, copied;
    assigned.labels = constants;
    from_list.labels = listed;
    copied = from_list;
    static_assert(!std::is_convertible_v<decltype(&assigned.labels), prom::list<prom::label>*>);  // or it could be assigned without the code
    struct own {
        operator prom::list<prom::label>() const { return {&of, 1}; }
        prom::label of;
    };
    const own converts{{"zone", "1"}};
    const prom::metric_options from_own{.labels = converts}, from_pointer{.labels = {constants, 1}};
    CHECK((from_own.labels.code() && from_pointer.labels.code()));
    const prom::list<prom::label> read_back = copied.labels;
    CHECK(read_back.size() == 1);
    r.make_gauge("a", "", {.labels = {{"zone", "1"}}}).set(1);
    r.make_gauge("b", "", {.labels = constants}).set(1);
    r.make_gauge("c", "", {.labels = held}).set(1);
    r.make_gauge("d", "", {.labels = std::span<const prom::label>(constants)}).set(1);
    r.make_gauge("e", "", assigned).set(1);
    r.make_gauge("f", "", from_list).set(1);
    r.make_gauge("g", "", copied).set(1);
    r.make_gauge("h", "", {.labels = {}}).set(1);
    r.make_gauge("i", "", {.labels = prom::list<prom::label>()}).set(1);
    prom::registry* const shown[] = {&r};
    std::string all;
    for (const char name : std::string_view("abcdefg")) all += std::string("# TYPE ") + name + " gauge\n" + name + "{zone=\"1\"} 1\n";
    for (const char name : std::string_view("hi")) all += std::string("# TYPE ") + name + " gauge\n" + name + " 1\n";
    CHECK(prom::expose({.registries = shown}) == all);

    const std::string one = "# TYPE h gauge\nh 1\n";
    const std::string_view names[] = {"h"};
    const std::vector<std::string_view> wanted(names, names + 1);
    prom::page_options page{.registries = shown}, other = page;
    CHECK(prom::expose({.registries = shown, .only = names}) == one);
    CHECK(prom::expose({.registries = shown, .only = wanted}) == one);
    CHECK(prom::expose({.registries = shown, .only = prom::list<std::string_view>(wanted)}) == one);
    CHECK(prom::expose({.registries = shown, .only = {}}) == all);
    CHECK(prom::expose({.registries = shown, .only = prom::list<std::string_view>()}) == all);
    page.only = names;
    other = page;
    CHECK(prom::expose(page) == one);
    CHECK(prom::expose(other) == one);

    for (const prom::format as : {prom::format::protobuf, prom::format::openmetrics_2_0_0}) {
        const std::string wire = prom::expose({.as = as, .registries = shown});
        CHECK(wire != all);  // empty with PROMETHEUS_ASYNC_NO_NATIVE
        prom::page_options set{.registries = shown};
        set.as = as;
        const prom::page_options copy = set;
        prom::page_options later{.registries = shown};
        later.as = copy.as;
        CHECK(prom::expose(set) == wire);
        CHECK(prom::expose(copy) == wire);
        CHECK(prom::expose(later) == wire);
        later.as = prom::format::text_0_0_4;
        CHECK(prom::expose(later) == all);
    }
    CHECK(prom::expose({.as = prom::format::protobuf, .registries = shown}) == prom::expose({.as = prom::page_options{.as = prom::format::protobuf}.as, .registries = shown}));
}

TEST_CASE("an option that links code has it however it is set") {
    prom::registry one, two;
    prom::metric_options made{.registry = &one};
    const double factor = PROMETHEUS_ASYNC_NO_NATIVE ? 0 : 2;
    made.native.factor = factor;
    const prom::metric_options copied = made;
    one.make_histogram("n", "", copied).observe(3);
    prom::native_buckets buckets;
    buckets = {.factor = factor};
    two.make_histogram("m", "", {.registry = &two, .buckets = {1}, .native = buckets}).observe(3);
    prom::exemplar kept;
    const prom::label trace[] = {{"trace", "7"}};
    kept.labels = trace;
    const prom::exemplar given = kept;
    two.make_counter("c", "").inc(1, given);

    prom::registry* const both[] = {&one, &two};
    prom::page_options page{.as = prom::format::openmetrics_1_0_0};
    page.registries = both;
    const prom::page_options plain = page;
    page.created = prom::created_series::all;
    prom::page_options last;
    last = page;
    const std::string without = prom::expose(plain), with = prom::expose(last);
    CHECK(without.find("n_count 1\n") != std::string::npos);
    CHECK(without.find("m_count 1\n") != std::string::npos);
    CHECK(without.find("c_total 1 # {trace=\"7\"} 1 ") != std::string::npos);
    CHECK(without.find("_created") == std::string::npos);
    CHECK(with.find("c_created ") != std::string::npos);
    last.created = prom::created_series::off;
    CHECK(prom::expose(last) == without);
#if !PROMETHEUS_ASYNC_NO_NATIVE
    last.as = prom::format::openmetrics_2_0_0;
    const std::string native = prom::expose(last);
    CHECK(native.find("n {count:1,sum:3,schema:0,") != std::string::npos);
    CHECK(native.find("m {count:1,sum:3,schema:0,") != std::string::npos);
#endif
}

TEST_CASE("what the code of options is missing for is refused, and not left out") {  // as in a plugin that was linked without the library
    const prom::credential known[] = {prom::bearer("s")};
    const std::string_view hosts[] = {"localhost"};
    const prom::route routes[] = {{.path = "/"}};
    prom::server_options locked, hosted, routed;
    locked.credentials = {known, 1, nullptr};
    hosted.allowed_hosts = {hosts, 1, nullptr};
    routed.routes = {routes, 1, nullptr};
    prom::server_options handed_in{.listen_fd = 1 << 20}, measured{.self_metrics = true};
    const auto without_code = [](auto& option) {  // the pointer to the code is its last member
        const void* const null = nullptr;
        std::memcpy(reinterpret_cast<char*>(&option) + sizeof option - sizeof null, &null, sizeof null);
        CHECK(option.code() == nullptr);
    };
    without_code(handed_in.listen_fd);
    without_code(measured.self_metrics);
    prom::event_loop loop;
    for (const auto& o : {locked, hosted, routed, handed_in, measured}) {
        const std::string why = loop.run([](prom::event_loop& on, const prom::server_options& with) -> prom::task<std::string> {
            auto server = co_await prom::start_http_server(on, with);
            co_return server ? "started" : server.why().describe();
        }(loop, o));
        CHECK(why.find("without the code of the library") != std::string::npos);
    }
}

TEST_CASE("an option that links code is read like what it was made from") {
    const prom::route routes[] = {{.path = "/a"}};
    prom::server_options o{.routes = routes, .self_metrics = true};
    const prom::list<prom::route>& bound = o.routes;
    prom::list<prom::route> assigned;
    assigned = o.routes;
    CHECK((bound.size() == 1 && assigned[0].path == "/a"));
    o.authorizer.now = [](const prom::authorization_request&, void*) { return true; };
    CHECK(bool(o.authorizer));
    o.authorizer.now = 0;
    o.authorizer.later = nullptr;
    CHECK_FALSE(bool(o.authorizer));
    const int none = o.listen_fd;
    const bool measured = o.self_metrics;
    CHECK((none == -1 && measured));
    constexpr prom::server_options measures{.self_metrics = true};
    static_assert(measures.self_metrics);
}

TEST_CASE("what is not given is what the comment beside it says") {
    const prom::native_buckets buckets;
    CHECK((buckets.factor == 0 && buckets.zero_threshold == 0x1p-128 && buckets.max_buckets == 160));
    CHECK((buckets.max_zero_threshold == 0 && buckets.min_reset.count() == 0));
    CHECK(prom::sample_details().example_value == 1);
    const prom::metric_options metric;
    CHECK(metric.max_series == 0);
    const prom::page_options page;
    CHECK((page.as == prom::format::text_0_0_4 && page.names == prom::escaping::underscores && page.created == prom::created_series::off));
    CHECK((page.native_histograms && page.start_timestamps));
    CHECK((page.on_collector_error == prom::collector_errors::skip && page.collector_bytes == 4194304));
    CHECK(prom::loop_options().closing_budget.count() == 2);

    const prom::server_limits limits;
    CHECK((limits.request_line == 8192 && limits.header_bytes == 16384 && limits.header_fields == 100 && limits.names == 256));
    CHECK((limits.connections == 512 && limits.answers == 128 && limits.handshakes == 64 && limits.requests_per_connection == 10000));
    CHECK((limits.header.count() == 5 && limits.handshake.count() == 5 && limits.idle.count() == 75 && limits.lingering.count() == 1));
    CHECK((limits.stall.count() == 10 && limits.response.count() == 60 && limits.reader_rate == 10000 && limits.backlog == 511));
    const prom::server_options server;
    CHECK((server.port == 0 && server.listen_fd == -1 && server.on_collector_error == prom::collector_errors::skip));
    CHECK((server.created == prom::created_series::off && server.native_histograms && server.start_timestamps));
    CHECK((server.gzip && !server.self_metrics && !server.process_start_header));
    const prom::route route;
    CHECK((route.content_type == "text/plain; charset=utf-8" && !route.open));

    const prom::consul_options consul;
    CHECK((consul.name == "app-metrics" && consul.deregister && consul.on_failure == prom::on_failure::retry && !consul.tls_skip_verify));
    CHECK((consul.check == prom::consul_check::automatic && consul.check_path == "/"));
    CHECK((consul.interval.count() == 10 && consul.timeout.count() == 0 && consul.ttl.count() == 30 && consul.deregister_critical_after.count() == 0));
    CHECK((consul.deadline.count() == 60 && consul.budget.count() == 2 && consul.watch.count() == 10));
    CHECK(!prom::file_sd_options().keep_file);
    const prom::textfile_options file;
    CHECK((!file.keep_file && file.interval.count() == 0 && file.on_collector_error == prom::collector_errors::skip));
    const prom::push_options push;
    CHECK((!push.gzip && push.timeout.count() == 10 && push.tries == 3 && push.interval.count() == 0 && push.on_collector_error == prom::collector_errors::skip));
    CHECK((push.push_at_end && !push.remove_at_end && push.remove_after.count() == 0));
}
