// formats PORT: serves names outside the legacy grammar, for formats.sh to look at through each Prometheus.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <csignal>
#include <cstdio>
#include <unistd.h>

namespace prom = prometheus_async;

int main(int, char** arguments) {
    prom::registry& all = prom::default_registry();
    auto requests = all.make_family<prom::counter>(prom::utf8("http.requests"), "Requests.", {prom::utf8("http.method"), "kind"}, {.unit = "seconds"});
    requests({"GET", "x"}).inc(3);
    prom::histogram latency{prom::utf8("latency.seconds"), "Latency.", {.buckets = {0.5, 1}}};
    latency.observe(0.75, {.labels = {{"trace_id", "abc"}}});
    prom::gauge plain{"plain_ratio", "Plain.", {}};
    plain.set(0.25);
    prom::add_process_metrics();
    auto server = prom::start_http_server_in_thread({.addr = "127.0.0.1", .port = static_cast<std::uint16_t>(std::atoi(arguments[1]))});
    if (!server) return std::fprintf(stderr, "%s\n", server.why().describe()), 1;
    ::pause();
}
