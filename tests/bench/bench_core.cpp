// The metric core against prometheus-cpp and against plain limits, round-robin in one run: machines differ, ratios in
// one run hold. Each figure is the best of its rounds; goals are those of the project.
// libs: -lprometheus-cpp-core
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace prom = prometheus_async;

namespace {

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
void keep(const void* p) { asm volatile("" : : "r"(p) : "memory"); }

struct contender {
    const char* name;
    double goal;  // of ours, as a part of this one's; 0: none
    std::function<void()> work;
    double best = 1e9;
};
/// Runs the contenders in turn; the first is ours. `per` is what one call of work does.
void compare(const char* title, double per, std::vector<contender> all, int rounds = 50) {
    for (auto& c : all) c.work();
    for (int round = 0; round < rounds; ++round)
        for (auto& c : all) {
            const double start = now();
            c.work();
            const double spent = (now() - start) / per * 1e9;
            if (spent < c.best) c.best = spent;
        }
    std::printf("%-44s %9.2f ns", title, all[0].best);
    for (std::size_t i = 1; i < all.size(); ++i) {
        const double ratio = all[0].best / all[i].best;
        std::printf("  %s %.2f: x%.4f", all[i].name, all[i].best, ratio);
        if (all[i].goal != 0) std::printf(" (goal %.3f%s)", all[i].goal, ratio <= all[i].goal ? "" : ", MISSED");
    }
    std::printf("\n");
}

thread_local std::uint64_t plain_cell;
thread_local double plain_double;
std::uint64_t shared_cell;

long peak_kilobytes() {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    return used.ru_maxrss;
}
/// How much more memory `work` needs than what the process had, in a process of its own.
long extra_kilobytes(const std::function<void()>& work) {
    int channel[2];
    if (pipe(channel) != 0) return -1;
    const pid_t child = fork();
    if (child == 0) {
        const long before = peak_kilobytes();
        work();
        const long after = peak_kilobytes() - before;
        _exit(write(channel[1], &after, sizeof after) == sizeof after ? 0 : 1);
    }
    long out = -1;
    if (read(channel[0], &out, sizeof out) != sizeof out) out = -1;
    waitpid(child, nullptr, 0);
    close(channel[0]);
    close(channel[1]);
    return out;
}

std::size_t pull_all(prom::cursor& c, prom::registry& r) {
    prom::registry* const shown[] = {&r};
    static char window[16384];
    std::size_t bytes = 0;
    c.start({.registries = shown});
    for (;;) {
        const prom::pulled got = c.next(window);
        keep(window);
        bytes += got.bytes;
        if (got.what != prom::pull::more) return bytes;
    }
}

std::string path_of(int i) { return "/api/v1/items/" + std::to_string(i); }

struct encoding {
    prom::registry mine;
    prometheus::Registry theirs;
    std::size_t lines = 0;
    explicit encoding(int counters) {
        const prom::family<prom::counter, "method", "path", "status"> f{"http_requests_total", "Requests.", {.registry = &mine}};
        auto& g = prometheus::BuildCounter().Name("http_requests_total").Help("Requests.").Register(theirs);
        for (int i = 0; i < counters; ++i) f("GET", path_of(i), 200).inc(1000 + i);
        for (int i = 0; i < counters; ++i) {
            if (counters <= 100000) g.Add({{"method", "GET"}, {"path", path_of(i)}, {"status", "200"}}).Increment(1000 + i);
        }
        lines = static_cast<std::size_t>(counters);
    }
};

void encode(int counters, bool peer) {
    encoding e(counters);
    prom::cursor c;
    const std::size_t bytes = pull_all(c, e.mine);
    std::string body(bytes, 'x'), copy(bytes, 'y');
    std::vector<contender> all{{"ours", 0, [&] { pull_all(c, e.mine); }},
                               {"memcpy of the page", 0, [&] { std::memcpy(copy.data(), body.data(), bytes); keep(copy.data()); }}};
    if (peer)
        all.push_back({"prometheus-cpp", 0.008, [&] {
            const prometheus::TextSerializer s;
            const std::string page = s.Serialize(e.theirs.Collect());
            keep(page.data());
        }});
    char title[80];
    std::snprintf(title, sizeof title, "encode %d counters, per line", counters);
    compare(title, counters, all, counters > 10000 ? 9 : 50);
    const long ours = extra_kilobytes([&] { pull_all(c, e.mine); });
    const long others = peer ? extra_kilobytes([&] {
        const prometheus::TextSerializer s;
        keep(s.Serialize(e.theirs.Collect()).data());
    }) : 0;
    std::printf("%-44s %9ld kB", "    extra memory of one page", ours);
    if (peer) std::printf("  prometheus-cpp %ld kB", others);
    std::printf("\n");
}

}  // namespace

int main() {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    constexpr int n = 100'000;

    std::puts("The goals come from a machine whose locked add takes 9.8 ns; where it is cheaper, peers that lock come closer to\n"
              "the plain limits, and so to ours, than the goals foresee.");
    prom::registry mine;
    prometheus::Registry theirs;
    const prom::counter c{"c", "h", {.registry = &mine}};
    auto& pc = prometheus::BuildCounter().Name("c_total").Help("h").Register(theirs).Add({});
    compare("counter.inc()", n, {{"ours", 0, [&] { for (int i = 0; i < n; ++i) c.inc(); }},
        {"plain thread-local add", 0, [] { for (int i = 0; i < n; ++i) { ++plain_cell; keep(&plain_cell); } }},
        {"locked add", 0, [] { for (int i = 0; i < n; ++i) __atomic_fetch_add(&shared_cell, 1, __ATOMIC_RELAXED); }},
        {"prometheus-cpp", 0.12, [&] { for (int i = 0; i < n; ++i) pc.Increment(); }}});
    compare("counter.inc(1.5)", n, {{"ours", 0, [&] { for (int i = 0; i < n; ++i) c.inc(1.5); }},
        {"plain thread-local add", 0, [] { for (int i = 0; i < n; ++i) { plain_double += 1.5; keep(&plain_double); } }},
        {"prometheus-cpp", 0.2, [&] { for (int i = 0; i < n; ++i) pc.Increment(1.5); }}});
    const auto twice = [](const std::function<void()>& work) {
        std::thread other(work);
        work();
        other.join();
    };
    constexpr int many = 20 * n;  // starting the thread is in it
    compare("counter.inc(), two threads at once", many, {{"ours", 0, [&] { twice([&] { for (int i = 0; i < many; ++i) c.inc(); }); }},
        {"prometheus-cpp", 0.04, [&] { twice([&] { for (int i = 0; i < many; ++i) pc.Increment(); }); }}}, 5);

    const prom::gauge g{"g", "h", {.registry = &mine}}, deltas{"d", "h", {.registry = &mine}};
    auto& pg = prometheus::BuildGauge().Name("g").Help("h").Register(theirs).Add({});
    compare("gauge.set()", n, {{"ours", 0, [&] { for (int i = 0; i < n; ++i) g.set(i); }},
        {"prometheus-cpp", 0.15, [&] { for (int i = 0; i < n; ++i) pg.Set(i); }}});
    compare("gauge.inc(), never set", n, {{"ours", 0, [&] { for (int i = 0; i < n; ++i) deltas.inc(); }},
        {"prometheus-cpp", 0.2, [&] { for (int i = 0; i < n; ++i) pg.Increment(); }}});
    compare("gauge.inc(), set before", n, {{"ours", 0, [&] { for (int i = 0; i < n; ++i) g.inc(); }},
        {"prometheus-cpp", 1.0, [&] { for (int i = 0; i < n; ++i) pg.Increment(); }}});

    double spread[1024];
    for (int i = 0; i < 1024; ++i) spread[i] = 0.001 * (1 + (i * 7919) % 12000);
    const prom::histogram h{"h", "h", {.registry = &mine}};
    auto& ph = prometheus::BuildHistogram().Name("h").Help("h").Register(theirs)
                   .Add({}, prometheus::Histogram::BucketBoundaries{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10});
    compare("histogram.observe(), 14 buckets, spread", n, {{"ours", 0, [&] { for (int i = 0; i < n; ++i) h.observe(spread[i & 1023]); }},
        {"prometheus-cpp", 0.1, [&] { for (int i = 0; i < n; ++i) ph.Observe(spread[i & 1023]); }}});

    for (const int children : {1, 100, 10000}) {
        prom::registry r;
        const prom::family<prom::counter, "method", "path", "status"> f{"f", "h", {.registry = &r}};
        auto& pf = prometheus::BuildCounter().Name("f_total").Help("h").Register(theirs);
        std::vector<std::string> paths;
        for (int i = 0; i < children; ++i) paths.push_back("/items/" + std::to_string(i));
        constexpr int m = 20'000;
        const std::string_view method = "GET", status = "200";
        const auto ours = [&] {
            std::size_t k = 0;
            for (int i = 0; i < m; ++i) {
                f(method, std::string_view(paths[k]), status).inc();
                k = k + 1 == paths.size() ? 0 : k + 1;
            }
        };
        const auto peers = [&] {
            std::size_t k = 0;
            for (int i = 0; i < m; ++i) {
                pf.Add({{"method", std::string(method)}, {"path", paths[k]}, {"status", std::string(status)}}).Increment();
                k = k + 1 == paths.size() ? 0 : k + 1;
            }
        };
        char title[80];
        std::snprintf(title, sizeof title, "lookup of 3 labels and inc, %d children", children);
        compare(title, m, {{"ours", 0, ours}, {"prometheus-cpp", children == 1 ? 0.04 : 0.06, peers}}, 20);
    }

    std::printf("%-44s %9ld B", "memory of a counter with 3 labels", extra_kilobytes([] {
        auto* r = new prom::registry;
        const prom::family<prom::counter, "method", "path", "status"> f{"http_requests_total", "Requests.", {.registry = r}};
        for (int i = 0; i < 100000; ++i) f("GET", path_of(i), 200).inc();
    }) * 1024 / 100000);
    std::printf("  prometheus-cpp %ld B\n", extra_kilobytes([] {
        auto* r = new prometheus::Registry;
        auto& all = prometheus::BuildCounter().Name("http_requests_total").Help("Requests.").Register(*r);
        for (int i = 0; i < 100000; ++i) all.Add({{"method", "GET"}, {"path", path_of(i)}, {"status", "200"}}).Increment();
    }) * 1024 / 100000);
    encode(1000, true);
    encode(100000, true);
    encode(1000000, false);
    {
        prom::registry r;
        prometheus::Registry pr;
        const prom::family<prom::histogram, "path"> f{"http_seconds", "h", {.registry = &r}};
        auto& pf = prometheus::BuildHistogram().Name("http_seconds").Help("h").Register(pr);
        for (int i = 0; i < 1000; ++i) {
            auto& one = pf.Add({{"path", path_of(i)}}, prometheus::Histogram::BucketBoundaries{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10});
            for (int k = 0; k < 40; ++k) {
                f(path_of(i)).observe(spread[k * 25]);
                one.Observe(spread[k * 25]);
            }
        }
        prom::cursor cur;
        compare("encode 1000 histograms, per line", 17000, {{"ours", 0, [&] { pull_all(cur, r); }},
            {"prometheus-cpp", 0.03, [&] { const prometheus::TextSerializer s; keep(s.Serialize(pr.Collect()).data()); }}}, 9);
    }
    for (const int threads : {1, 16, 64}) {
        encoding e(20000);
        const prom::family<prom::counter, "method", "path", "status"> f{"http_requests_total", "Requests.", {.registry = &e.mine}};
        std::vector<std::thread> all;
        int ready = 0;
        bool stop = false;
        for (int t = 0; t < threads; ++t)
            all.emplace_back([&] {
                for (int i = 0; i < 20000; ++i) f("GET", path_of(i), 200).inc();
                __atomic_fetch_add(&ready, 1, __ATOMIC_RELEASE);
                while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) usleep(1000);
            });
        while (__atomic_load_n(&ready, __ATOMIC_ACQUIRE) != threads) usleep(1000);
        prom::cursor cur;
        char title[80];
        std::snprintf(title, sizeof title, "encode 20000 counters that %d threads count", threads);
        compare(title, 20000, {{"ours", 0, [&] { pull_all(cur, e.mine); }}}, 20);
        __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
        for (auto& t : all) t.join();
    }
    return 0;
}
