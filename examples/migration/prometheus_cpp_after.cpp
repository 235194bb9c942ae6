// prometheus_cpp_before.cpp with prometheus_async.hpp. Nothing is linked but threads.
//
//     c++ -std=c++20 examples/migration/prometheus_cpp_after.cpp -o after -pthread
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../../prometheus_async.hpp"
#include "../port.hpp"

#include <cstdio>
#include <string>

namespace prom = prometheus_async;

// Values that live elsewhere.
class pool final : public prom::collector {
public:
    void collect(prom::sample_sink& out) override {
        out.family(prom::metric_type::gauge, "pool_size", "Workers that exist.");
        out.sample(8, {{"pool", "main"}});
    }
};

int main(int argc, char** argv) {
    prom::registry& registry = prom::default_registry();  // or one of your own: .registry = &mine in each declaration

    prom::family<prom::counter, "method", "status"> requests{"http_requests_total", "Requests served.", {.labels = {{"service", "shop"}}}};
    auto get_ok = requests("GET", 200);
    auto post_bad = requests("POST", 500);
    get_ok.inc();
    get_ok.inc(2);
    post_bad.inc();
    requests.remove("POST", 500);  // post_bad drops its updates now, and is not dangling

    prom::gauge depth{"queue_depth", "Jobs that wait."};
    depth.set(5);
    depth.inc();
    depth.dec(2);

    prom::family<prom::histogram, "queue"> jobs{"job_seconds", "Time to do a job.", {.buckets = {0.1, 1, 10}}};
    auto took = jobs("mail");
    took.observe(0.25);
    took.observe(2.5);

    prom::summary size{"job_bytes", "Size of a job."};
    size.observe(1024);

    pool workers;
    auto registered = registry.add_collector(workers);

    const prom::credential accepted[] = {prom::basic("scraper", "secret")};
    auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1", .port = port_of(argc, argv), .credentials = accepted});
    if (!server) return std::fprintf(stderr, "%s\n", server.why().describe()), 1;
    std::printf("%s\n", server->url().c_str());
    std::fflush(stdout);

    std::fputs(prom::expose().c_str(), stderr);  // a page without the server
    std::getchar();
}
