// How the cost of a counter grows with series, threads and labels: the tables of README.md, "How cost grows". Takes some
// minutes and 5 GB, so `make bench` does not run it:
//   g++ -std=c++20 -O2 -I. tests/bench/growth.cpp -o growth -pthread && ./growth
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace prom = prometheus_async;

namespace {

double cpu_ns() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}
double peak_bytes() {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    return static_cast<double>(used.ru_maxrss) * 1024;
}
struct figures {
    double bytes = 0, line = 0, look_up = 0;
};
/// In a process of its own.
figures apart(const std::function<figures()>& work) {
    int channel[2];
    if (pipe(channel) != 0) return {};
    const pid_t child = fork();
    if (child == 0) {
        const figures f = work();
        _exit(write(channel[1], &f, sizeof f) == sizeof f ? 0 : 1);
    }
    figures f;
    if (read(channel[0], &f, sizeof f) != sizeof f) f = {};
    waitpid(child, nullptr, 0);
    close(channel[0]);
    close(channel[1]);
    return f;
}
std::string path_of(std::size_t i) { return "/api/v1/items/" + std::to_string(i); }

double line_ns(prom::registry& mine, std::size_t lines) {
    static char window[16384];
    prom::registry* const shown[] = {&mine};
    prom::cursor page;
    double best = 1e18;
    for (int round = 0; round < (lines > 1000000 ? 2 : 5); ++round) {
        const double begin = cpu_ns();
        page.start({.registries = shown});
        while (page.next(window).what == prom::pull::more) {}
        const double ns = (cpu_ns() - begin) / static_cast<double>(lines);
        if (ns < best) best = ns;
    }
    return best;
}

/// Each of the threads, which all live until the end, touches each series once.
figures touched(std::size_t series, int threads) {
    auto* mine = new prom::registry;
    const prom::family<prom::counter, "method", "path", "status"> f{"http_requests_total", "Requests.", {.registry = mine}};
    const auto run = [&](bool touch, figures* look) {
        std::vector<std::thread> all;
        int ready = 0;
        bool stop = false;
        for (int t = 0; t < threads; ++t) {
            all.emplace_back([&, t] {
                const double begin = cpu_ns();
                if (touch) for (std::size_t i = 0; i < series; ++i) f("GET", path_of(i), 200).inc();
                if (look && t == threads - 1) look->look_up = (cpu_ns() - begin) / static_cast<double>(series);
                __atomic_fetch_add(&ready, 1, __ATOMIC_RELEASE);
                while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) usleep(1000);
            });
        }
        while (__atomic_load_n(&ready, __ATOMIC_ACQUIRE) != threads) usleep(1000);
        figures got;
        got.bytes = peak_bytes();
        if (touch) got.line = line_ns(*mine, series);
        __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
        for (auto& t : all) t.join();
        return got;
    };
    const figures idle = apart([&] { return run(false, nullptr); });
    return apart([&] {
        figures look, got = run(true, &look);
        got.bytes = (got.bytes - idle.bytes) / static_cast<double>(series);
        got.look_up = look.look_up;
        return got;
    });
}
figures labelled(int labels) {
    return apart([&] {
        auto* mine = new prom::registry;
        constexpr std::size_t series = 100000;
        std::string names[8];
        std::vector<std::string_view> views;
        for (int l = 0; l < labels; ++l) views.emplace_back(names[l] = "label" + std::to_string(l));
        const double before = peak_bytes();
        const auto f = mine->make_family<prom::counter>("f_total", "h", prom::label_names(views));
        for (std::size_t i = 0; i < series; ++i) {
            const std::string value = std::to_string(i);
            std::vector<std::string_view> values(static_cast<std::size_t>(labels), "GET");
            values[0] = value;
            f(values).inc();
        }
        figures got;
        got.bytes = (peak_bytes() - before) / static_cast<double>(series);
        got.line = line_ns(*mine, series);
        return got;
    });
}

double wall_ms() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
}
/// How long another thread, which asks for the lock some thousand times a second, waits for it at most. Where other programs run,
/// it also waits for its turn.
void locked(std::size_t series) {
    auto* mine = new prom::registry;
    const prom::family<prom::counter, "method", "path", "status"> f{"http_requests_total", "Requests.", {.registry = mine}};
    bool over = false;
    double most = 0;
    std::thread other([&] {
        while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
            const double begin = wall_ms();
            static_cast<void>(prom::event_count(prom::event_kind::accept_failed));
            double waited = wall_ms() - begin, seen = 0;
            __atomic_load(&most, &seen, __ATOMIC_RELAXED);
            if (waited > seen) __atomic_store(&most, &waited, __ATOMIC_RELAXED);
            usleep(100);
        }
    });
    const auto phase = [&](const char* what, auto work) {
        double seen = 0;
        __atomic_store(&most, &seen, __ATOMIC_RELAXED);
        const double begin = cpu_ns();
        work();
        const double spent = (cpu_ns() - begin) * 1e-6;
        __atomic_load(&most, &seen, __ATOMIC_RELAXED);
        std::printf("%zu series, %-24s %6.0f ms of CPU, the lock at most %.2f ms\n", series, what, spent, seen);
        std::fflush(stdout);
    };
    const auto make = [&] { for (std::size_t i = 0; i < series; ++i) f("GET", path_of(i), 200).inc(); };
    phase("made", make);
    phase("removed singly", [&] { for (std::size_t i = 0; i < series; i += 2) f.remove("GET", path_of(i), 200); });
    phase("cleared", [&] { f.clear(); });
    phase("made again", make);
    phase("matched, removed", [&] { f.remove_matching({{"method", "GET"}}); });
    phase("made again", make);
    phase("of a registry that ends", [&] { delete mine; });
    __atomic_store_n(&over, true, __ATOMIC_RELEASE);
    other.join();
}

}  // namespace

int main() {
    apart([] { return locked(1000000), figures{}; });
    std::puts("bytes a series, ns a line of a page, ns to find and update one (the last thread's)");
    for (std::size_t series = 1000; series <= 10000000; series *= 10) {
        for (const int threads : {1, 8, 64, 256}) {
            if (series * static_cast<std::size_t>(threads) > 26000000) continue;
            const figures f = touched(series, threads);
            std::printf("10^%d series, %3d threads: %6.0f B %5.0f ns %5.0f ns\n", static_cast<int>(std::to_string(series).size()) - 1, threads, f.bytes, f.line, f.look_up);
            std::fflush(stdout);
        }
    }
    for (const int labels : {1, 2, 4, 8}) {
        const figures f = labelled(labels);
        std::printf("10^5 series, %d labels: %6.0f B %5.0f ns\n", labels, f.bytes, f.line);
    }
}
