// 30_static_pool: the whole exporter in an array of 64 KiB. What finds no room there fails as described below; the heap is not used.
//
//     c++ -std=c++20 examples/30_static_pool.cpp -o static_pool -pthread && ./static_pool 9464
//     curl -s localhost:9464/metrics | grep pool
//
// prints how many octets are taken, some 39,000: as many after the ten thousandth scrape as after the first.
#include <bitset>
#include <cstddef>

namespace pool {
constexpr std::size_t unit = 32, units = 65536 / unit;
alignas(128) unsigned char memory[units * unit];
std::bitset<units> used;
std::size_t held, most;  // units; with threads that use the library, put a lock round both functions

void* take(std::size_t bytes, std::size_t alignment) noexcept {
    const std::size_t n = (bytes + unit - 1) / unit, step = alignment > unit ? alignment / unit : 1;
    for (std::size_t first = 0; first + n <= units; first += step) {
        std::size_t have = 0;
        while (have != n && !used[first + have]) ++have;
        if (have != n) continue;
        for (std::size_t i = 0; i != n; ++i) used[first + i] = true;
        if ((held += n) > most) most = held;
        return memory + first * unit;
    }
    return nullptr;
}
void give(void* p, std::size_t bytes) noexcept {
    const std::size_t n = (bytes + unit - 1) / unit, first = static_cast<std::size_t>(static_cast<unsigned char*>(p) - memory) / unit;
    for (std::size_t i = 0; i != n; ++i) used[first + i] = false;
    held -= n;
}
}  // namespace pool

#define PROMETHEUS_ASYNC_ALLOCATE(bytes, alignment) ::pool::take(bytes, alignment)
#define PROMETHEUS_ASYNC_RELEASE(p, bytes) ::pool::give(p, bytes)
#define PROMETHEUS_ASYNC_NO_GZIP 1    // which takes 64 KiB for each answer
#define PROMETHEUS_ASYNC_NO_NATIVE 1  // no protobuf page either
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <csignal>
#include <cstdio>

namespace prom = prometheus_async;

// These four families, and 20 series of jobs beside its overflow series: what would be more is refused, or counts there.
constexpr prom::registry_limits bound{.families = 4, .series = 24, .bytes = 512};

prom::histogram seconds{"work_seconds", "Time of a piece of work."};
prom::family<prom::counter, "status"> jobs{"jobs_total", "Jobs done."};
prom::callback_gauge held{"pool_held_bytes", "Memory that is taken.", [] { return static_cast<double>(pool::held * pool::unit); }};
prom::callback_gauge most{"pool_most_bytes", "The most that ever was.", [] { return static_cast<double>(pool::most * pool::unit); }};

prom::task<int> run(prom::event_loop& loop, std::uint16_t port) {
    constexpr prom::server_limits limits{.connections = 1, .answers = 1, .answer_bytes = 4096, .long_answers = 0};
    auto server = co_await prom::start_http_server(loop, {.addr = "127.0.0.1", .port = port, .limits = limits});
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    std::printf("http://127.0.0.1:%u/metrics\n", static_cast<unsigned>(server->port()));
    std::fflush(stdout);
    for (unsigned i = 0;; ++i) {
        jobs(i % 30).inc(), seconds.observe(i % 100 * 0.01);
        co_await loop.sleep(0.01);
    }
}

prom::event_loop* running;
extern "C" void end(int) { running->stop(); }

int main(int argc, char** argv) {
    prom::default_registry().set_limits(bound);
    prom::event_loop loop;
    running = &loop;
    std::signal(SIGINT, end), std::signal(SIGTERM, end);
    return loop.run(run(loop, port_of(argc, argv)));
}
