// soak PORT: a server in a thread, and metrics that come, change and go in others, until SIGTERM. Says then whether every
// count arrived.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

namespace prom = prometheus_async;
using namespace std::chrono_literals;

namespace soak {

static std::atomic<bool> over{false};
static std::atomic<unsigned long> made{0};  // counts that `kept` should have
static prom::counter kept{"kept_total", "What all threads counted."};
static prom::family<prom::counter, "tenant", "status"> requests{"requests_total", "Series that come and go.", {.max_series = 5000}};
static prom::family<prom::histogram, "tenant"> times{"times_seconds", "Histograms that come and go."};
static prom::histogram all_times{"all_times_seconds", "One that stays."};

/// A thread that lives for a moment, as those of a pool do.
static void worker(unsigned seed) {
    std::minstd_rand random(seed);
    for (int i = 0; i != 200; ++i) {
        kept.inc();
        made.fetch_add(1, std::memory_order_relaxed);
        const unsigned tenant = static_cast<unsigned>(random() % 2000);
        requests(tenant, random() % 5 == 0 ? 500 : 200).inc();
        times(tenant % 200).observe(static_cast<double>(random() % 1000) / 500);
        all_times.observe(0.01);
    }
}
static void churn() {
    std::minstd_rand random(1);
    for (unsigned n = 1; !over; ++n) {
        std::vector<std::thread> pool;
        for (unsigned i = 0; i != 4; ++i) pool.emplace_back(worker, n * 4 + i);
        for (std::thread& t : pool) t.join();
        requests.remove(random() % 2000, 200);
        if (n % 20 == 0) requests.remove_matching({{"status", "500"}});
        if (n % 50 == 0) times.clear();
        if (n % 500 == 0) requests.clear();
        prom::registry mine;
        const auto handle = mine.add_collector([n](prom::sample_sink& to) {
            to.family(prom::metric_type::gauge, "collected", "h");
            for (unsigned i = 0; i != n % 50; ++i) to.sample(1, {{"i", std::to_string(i)}});
        });
        const std::string name = "passing_" + std::to_string(n % 30);
        prom::default_registry().make_gauge(name, "A family that comes and goes.").set(n);
        prom::registry* const shown[] = {&mine};
        static_cast<void>(prom::expose({.registries = shown}));
        if (n % 2) prom::default_registry().unregister(name);
        std::this_thread::sleep_for(20ms);
    }
}

}  // namespace soak

int main(int argc, char** argv) {
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, nullptr);
    auto server = prom::start_http_server_in_thread({.port = static_cast<std::uint16_t>(argc > 1 ? std::atoi(argv[1]) : 0), .self_metrics = true});
    if (!server) return std::fprintf(stderr, "%s\n", server.why().describe()), 1;
    std::thread churner(soak::churn);
    int got = 0;
    sigwait(&ends, &got);
    soak::over = true;
    churner.join();
    static_cast<void>(server->close());
    std::printf("%lu counts made, %.0f on the page\n", soak::made.load(), soak::kept.value());
    return static_cast<double>(soak::made.load()) == soak::kept.value() ? 0 : 1;
}
