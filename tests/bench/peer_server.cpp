// peer_server SERIES PORT: prometheus-cpp serving counters with three labels, for scrapes.py.
// libs: -lprometheus-cpp-pull -lprometheus-cpp-core
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/registry.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <unistd.h>

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    auto registry = std::make_shared<prometheus::Registry>();
    auto& family = prometheus::BuildCounter().Name("http_requests_total").Help("Requests served.").Register(*registry);
    for (int i = 0; i != std::atoi(argv[1]); ++i)
        family.Add({{"method", "GET"}, {"path", "/item/" + std::to_string(i)}, {"status", "200"}}).Increment(i);
    prometheus::Exposer exposer(std::string("127.0.0.1:") + argv[2], 2);
    exposer.RegisterCollectable(registry);
    for (;;) pause();
}
