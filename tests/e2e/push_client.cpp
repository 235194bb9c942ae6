// libs: -lssl -lcrypto
// For push.sh: does to the group of JOB and NAME=VALUE... in $GATEWAY what the verbs say, one after the other, with one pusher.
// Verbs: put, post, delete, wait (until a line comes), close, hold (until SIGTERM, then close); each tells how it ended.
// $USER_PASSWORD, $TOKEN and $CA are for the gateway; $PAGE says what is pushed, $AS the format.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "examples/tls_openssl.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace prom = prometheus_async;

namespace {

const char* of(const char* name, const char* otherwise = "") { return std::getenv(name) ? std::getenv(name) : otherwise; }

/// What $PAGE names.
void declare(prom::registry& in, const std::string& page) {
    if (page == "clash") in.make_gauge("files_total", "Files.");
    else if (page != "none") in.make_counter("files_total", "Files.", {.labels = {{"kind", page}}}).inc(3);
    if (page == "job") in.make_gauge("wrong", "", {.labels = {{"job", "x"}}});
    if (page == "own") in.make_gauge("go_gc_duration_seconds", "");
    if (page == "all") {
        in.make_histogram("h", "A histogram.", {.buckets = {0.1, 1}}).observe(0.5);
        in.make_summary("s", "A summary.").observe(2);
        in.make_info("about", "An info.").set({{"version", "1"}});
        (void)in.make_state_set("phase", "A state set.", {.states = {"on", "off"}});
        in.make_unknown("u", "An unknown.").set(7);
        in.make_gauge(prom::utf8("a.b"), "A name outside the classic grammar.", {.labels = {{"v", "\\ \" \n { } , ="}}}).set(-0.5);
        in.make_gauge("nan", "").set(__builtin_nan(""));
    }
    if (page == "all" || page == "native") {
        const prom::histogram both = in.make_histogram("both", "Classic and native.", {.buckets = {1, 4}, .native = {.factor = 1.1}});
        const prom::histogram native = in.make_histogram("native_only", "Native.", {.native = {.factor = 1.1}});
        for (double x : {-1.0, 0.0, 2.0, 3.0, 100.0}) {
            both.observe(x, prom::exemplar{{{"trace", "abc"}}});
            native.observe(x);
        }
        static const auto yields = in.add_collector([](prom::sample_sink& out) {
            const prom::sample_sink::native_bucket at[] = {{0, 3}};
            const prom::sample_sink::bucket classic[] = {{1, 2}, {__builtin_inf(), 3}};
            out.family(prom::metric_type::gauge_histogram, "mixed", "Gauge histograms.");
            out.histogram(prom::sample_sink::native_histogram{.positive = at, .count = 3, .sum = 3}, {{"kind", "native"}});
            out.histogram(classic, 4, {{"kind", "classic"}});
        });
    }
    if (page == "large") {
        const auto many = in.make_family<prom::gauge>("many", "Of them.", {"number"});
        for (int i = 0; i != 20000; ++i) {
            const std::string number = std::to_string(i);
            many({std::string_view(number)}).set(i);
        }
    }
}

volatile std::sig_atomic_t ended = 0;

prom::task<int> run(prom::event_loop& loop, const prom::push_options& options, std::vector<std::string> verbs) {
    prom::pushgateway gateway(loop, options);
    int failed = 0;
    for (const std::string& verb : verbs) {
        prom::result<void> end;
        if (verb == "put") end = co_await gateway.push();
        if (verb == "post") end = co_await gateway.push_add();
        if (verb == "delete") end = co_await gateway.remove();
        if (verb == "close") end = co_await gateway.close();
        if (verb == "wait") {
            char line[8];
            if (!std::fgets(line, sizeof line, stdin)) break;
        }
        if (verb == "hold") {
            while (!ended) co_await loop.sleep(0.05);
            end = co_await gateway.close();
        }
        std::printf("%s: %s\n", verb.c_str(), end ? "done" : end.why().describe());
        if (!end) std::printf("%s\n", gateway.why().c_str());
        std::fflush(stdout);
        failed += !end;
    }
    co_return failed;
}

}  // namespace

int main(int argc, char** argv) {
    prom::registry pushed;
    declare(pushed, of("PAGE", "small"));
    prom::registry* const all[] = {&pushed};
    std::vector<prom::label> grouping;
    std::vector<std::string> verbs;
    for (int i = 2; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (const std::size_t equals = word.find('='); equals != word.npos) grouping.push_back({word.substr(0, equals), word.substr(equals + 1)});
        else verbs.emplace_back(word);
    }
    prom::push_options options{.gateway = of("GATEWAY"), .job = argc > 1 ? argv[1] : "", .gzip = *of("GZIP") != 0};
    options.grouping = grouping;
    options.registries = all;
    if (std::string_view(of("AS")) == "protobuf") options.as = prom::format::protobuf;
    const std::string both = of("USER_PASSWORD");
    if (!both.empty()) options.credential = prom::basic(std::string_view(both).substr(0, both.find(':')), std::string_view(both).substr(both.find(':') + 1));
    if (*of("TOKEN")) options.credential = prom::bearer(of("TOKEN"));
    if (*of("CA")) {
        static auto tls = openssl_client::load(of("CA")).value();
        options.tls = tls.hook();
    }
    options.tries = static_cast<unsigned>(std::atoi(of("TRIES", "1")));
    options.interval = std::atof(of("INTERVAL", "0"));
    options.remove_at_end = *of("REMOVE") != 0;
    std::signal(SIGTERM, [](int) { ended = 1; });
    prom::event_loop loop;
    return loop.run(run(loop, options, verbs));
}
