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
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
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
/// The time of this thread on a processor: other programs that run meanwhile do not count.
double time_of(clockid_t which) {
    timespec t{};
    clock_gettime(which, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}
double own_time() { return time_of(CLOCK_THREAD_CPUTIME_ID); }
/// The same of all threads together. Waiting for a lock does not count.
double time_of_all() { return time_of(CLOCK_PROCESS_CPUTIME_ID); }
void keep(const void* p) { asm volatile("" : : "r"(p) : "memory"); }

struct contender {
    const char* name;
    double goal;  // of ours, as a part of this one's; 0: none
    std::function<void()> work;
    double best = 1e9;
};
/// Runs the contenders in turn, each twice: the second run is timed, so that none meets the caches as another left them. The first
/// is ours. `per` is what one call of work does. Work that starts threads needs another clock.
void compare(const char* title, double per, std::vector<contender> all, int rounds = 50, double (*clock)() = own_time) {
    for (int round = 0; round < rounds; ++round)
        for (auto& c : all) {
            c.work();
            const double start = clock();
            c.work();
            const double spent = (clock() - start) / per * 1e9;
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
double shared_double;

/// The least that an update of a cell can be which a handle names: its tag is compared with the handle's, then it is added to,
/// through a pointer that the compiler cannot know.
struct plain_run {
    std::uint64_t tag = 1;
    double real = 0;
    std::uint64_t whole = 0, buckets[16] = {};
};
plain_run* run_of_thread = new plain_run;
template <class Add>
void add_to_run(std::uint64_t tag, Add add) {
    plain_run* run = __atomic_load_n(&run_of_thread, __ATOMIC_RELAXED);
    if (run->tag == tag) add(*run);
}
void add_plainly(std::uint64_t& to, std::uint64_t n) { __atomic_store_n(&to, __atomic_load_n(&to, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED); }
void add_plainly(double& to, double d) {
    double now;
    __atomic_load(&to, &now, __ATOMIC_RELAXED);
    now += d;
    __atomic_store(&to, &now, __ATOMIC_RELAXED);
}
void store_plainly(double& to, double d) { __atomic_store(&to, &d, __ATOMIC_RELAXED); }
void add_locked(double& to, double d) {
    double seen, next;
    __atomic_load(&to, &seen, __ATOMIC_RELAXED);
    do next = seen + d;
    while (!__atomic_compare_exchange(&to, &seen, &next, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

long peak_kilobytes() {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    return used.ru_maxrss;
}
/// How much more memory `work` needs than what the process had after `before`, in a process of its own.
long extra_kilobytes(const std::function<void()>& work, const std::function<void()>& before_work = [] {}) {
    int channel[2];
    if (pipe(channel) != 0) return -1;
    const pid_t child = fork();
    if (child == 0) {
        before_work();
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

/// The least that a lookup of three short values can be: their keys, a seeded hash, and a table whose entries hold key and count
/// in one cache line. It is for one thread, nothing can be removed from it, and it cannot grow.
class plain_table {
public:
    explicit plain_table(std::size_t children) {
        while (size_ < 2 * children) size_ *= 2;
        entries_.resize(size_);
    }
    std::uint64_t& operator()(std::string_view a, std::string_view b, std::string_view c) {
        using namespace prom::detail;
        const key_pair keys[] = {make_key(a), make_key(b), make_key(c)};
        for (std::size_t i = hash_values({0x0123456789abcdef, 0xfedcba9876543210}, keys, nullptr, 3);; ++i) {
            entry& e = entries_[i & (size_ - 1)];
            std::uint64_t differs = 0;
            for (std::size_t k = 0; k != 3; ++k) differs |= (e.keys[k].low ^ keys[k].low) | (e.keys[k].high ^ keys[k].high);
            if (differs == 0) return e.count;
            if (e.keys[0].high == 0) {
                std::memcpy(e.keys, keys, sizeof keys);
                return e.count;
            }
        }
    }

private:
    struct alignas(64) entry {
        prom::detail::key_pair keys[3];
        std::uint64_t count = 0;
    };
    std::size_t size_ = 8;
    std::vector<entry> entries_;
};

/// The least that finding and updating a series can be that many threads share, where table, keys and cells are apart: one random
/// entry of a table, a key of 92 octets, which is compared, and a cell, to which a locked add is made. All series are known, and
/// nothing is removed.
class plain_series {
public:
    explicit plain_series(const std::vector<std::string>& paths) : records_(paths.size()), cells_(paths.size()) {
        while (table_.size() < 2 * paths.size()) table_.resize(table_.empty() ? 8 : 2 * table_.size());
        for (std::size_t n = 0; n != paths.size(); ++n) {
            record& r = records_[n];
            std::uint64_t hash = read(r, paths[n]);
            r.cell = static_cast<std::uint32_t>(n);
            r.hash = static_cast<std::uint32_t>(hash);
            while (table_[hash & (table_.size() - 1)] != nullptr) ++hash;
            table_[hash & (table_.size() - 1)] = &r;
        }
    }
    void add(const std::string& path) {
        record wanted;
        const std::uint64_t hash = read(wanted, path);
        for (std::uint64_t i = hash;; ++i) {
            const record& r = *table_[i & (table_.size() - 1)];
            if (r.hash != static_cast<std::uint32_t>(hash)) continue;
            std::uint64_t differs = 0;
            for (std::size_t k = 0; k != std::size(r.key); ++k) differs |= r.key[k] ^ wanted.key[k];
            if (differs == 0) return static_cast<void>(__atomic_fetch_add(&cells_[r.cell].whole, 1, __ATOMIC_RELAXED));
        }
    }

private:
    struct alignas(64) record {
        std::uint32_t cell = 0, hash = 0;
        std::uint64_t key[10] = {};  // three words for each of two values, and four for the path
    };
    struct cell {
        std::uint64_t tag = 0, real = 0, whole = 0;
    };
    static std::uint64_t read(record& r, std::string_view path) {
        using namespace prom::detail;
        const std::string_view values[] = {"GET", path, "200"};
        const key_pair keys[] = {make_key(values[0]), make_key(values[1]), make_key(values[2])};
        std::memcpy(r.key, keys, sizeof keys);
        std::memset(r.key + 6, 0, 4 * sizeof r.key[0]);
        std::memcpy(r.key + 6, path.data(), path.size());
        return hash_values({0x0123456789abcdef, 0xfedcba9876543210}, keys, values, 3);
    }
    std::vector<const record*> table_;
    std::vector<record> records_;
    std::vector<cell> cells_;
};

/// The least that a page of counters can be for whoever keeps values and not lines: the text of each line and its number, by
/// the library's own functions, without lock, sums, limits and the end of a window.
std::size_t put_lines(const prom::detail::family_state& f) {
    static char window[16384];
    char* to = window;
    std::size_t bytes = 0;
    std::uint64_t n = 1000;
    for (const prom::detail::line& l : f.lines) {
        to = prom::detail::put_u64(prom::detail::put_series_text(to, f.frame, *l.living(), 3), n++);
        *to++ = '\n';
        if (to < window + sizeof window - 256) continue;
        keep(window);
        bytes += static_cast<std::size_t>(to - window);
        to = window;
    }
    return bytes;
}
/// The same where each series keeps its line: some 70 octets more of memory for each, which the goal for memory forbids.
std::size_t put_kept_lines(const std::string& text, std::size_t line, std::size_t lines) {
    static char window[16384];
    char* to = window;
    std::size_t bytes = 0;
    for (std::size_t i = 0; i != lines; ++i) {
        std::memcpy(to, text.data() + i * line, 80);
        to = prom::detail::put_u64(to + line, 1000 + i);
        *to++ = '\n';
        if (to < window + sizeof window - 256) continue;
        keep(window);
        bytes += static_cast<std::size_t>(to - window);
        to = window;
    }
    return bytes;
}

struct encoding {
    prom::registry mine;
    const prom::detail::family_state* state = nullptr;
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
        state = prom::detail::registry_state::peek(mine)->find_named("http_requests_total");
    }
};

void encode(int counters, bool peer) {
    encoding e(counters);
    prom::cursor c;
    const std::size_t bytes = pull_all(c, e.mine);
    std::string body(bytes, 'x'), copy(bytes, 'y');
    const std::string kept(72 * e.lines + 80, 'x');
    std::vector<contender> all{{"ours", 0, [&] { pull_all(c, e.mine); }},
                               {"texts and numbers alone", 0, [&] { put_lines(*e.state); }},
                               {"kept lines and numbers", 0, [&] { put_kept_lines(kept, 72, e.lines); }},
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
    // A page of one series first: the code that makes it is not counted.
    encoding one(1);
    prom::cursor other;
    const auto serialize = [](const encoding& of) {
        const prometheus::TextSerializer s;
        keep(s.Serialize(of.theirs.Collect()).data());
    };
    const long ours = extra_kilobytes([&] { pull_all(other, e.mine); }, [&] { pull_all(other, one.mine); });
    const long others = peer ? extra_kilobytes([&] { serialize(e); }, [&] { serialize(one); }) : 0;
    std::printf("%-44s %9ld kB", "    memory beyond a page of one series", ours);
    if (peer) std::printf("  prometheus-cpp %ld kB", others);
    std::printf("\n");
}

/// Runs `work` in so many threads at once, then `then` while all still live.
template <class Work, class Then>
void in_living_threads(int threads, Work work, Then then) {
    std::vector<std::thread> all;
    int ready = 0;
    std::atomic<bool> stop{false};
    for (int t = 0; t < threads; ++t)
        all.emplace_back([&, t] {
            work(t);
            __atomic_fetch_add(&ready, 1, __ATOMIC_RELEASE);
            stop.wait(false);  // not by looking again and again, which would take time from `then`
        });
    while (__atomic_load_n(&ready, __ATOMIC_ACQUIRE) != threads) usleep(1000);
    then();
    stop = true;
    stop.notify_all();
    for (auto& t : all) t.join();
}

/// What a series takes that so many threads have touched three times, in all; their stacks and the like, measured apart, are
/// not counted. The peer's, which knows no threads, is measured with one.
void memory_line(const char* what, int series, double goal, const std::function<void(int)>& ours, const std::function<void(int)>& theirs) {
    const auto bytes = [&](int threads, const std::function<void(int)>& touch) {
        return static_cast<double>(extra_kilobytes([&] { in_living_threads(threads, touch, [] {}); }) -
                                   extra_kilobytes([&] { in_living_threads(threads, [](int) {}, [] {}); })) * 1024 / series;
    };
    const double peer = bytes(1, theirs);
    for (const int threads : {1, 8, 64}) {
        const double mine = bytes(threads, ours);
        std::printf("memory of a %s, %2d threads%*s %9.0f B   prometheus-cpp %.0f B: x%.3f (goal %.2f%s)\n", what, threads,
                    static_cast<int>(21 - std::strlen(what)), "", mine, peer, mine / peer, goal, mine <= goal * peer ? "" : ", MISSED");
    }
}
void memory() {
    auto* mine = new prom::registry;
    auto* peer = new prometheus::Registry;
    constexpr int counters = 100'000, histograms = 20'000;
    const prom::family<prom::counter, "method", "path", "status"> f{"http_requests_total", "Requests.", {.registry = mine}};
    auto& pf = prometheus::BuildCounter().Name("http_requests_total").Help("Requests.").Register(*peer);
    memory_line("counter with 3 labels", counters, 0.45,
                [&](int) { for (int k = 0; k < 3; ++k) for (int i = 0; i < counters; ++i) f("GET", path_of(i), 200).inc(); },
                [&](int) { for (int k = 0; k < 3; ++k) for (int i = 0; i < counters; ++i) pf.Add({{"method", "GET"}, {"path", path_of(i)}, {"status", "200"}}).Increment(); });
    const prom::family<prom::histogram, "path"> h{"http_seconds", "h", {.registry = mine}};
    auto& ph = prometheus::BuildHistogram().Name("http_seconds").Help("h").Register(*peer);
    memory_line("histogram", histograms, 0.5,
                [&](int) { for (int k = 0; k < 3; ++k) for (int i = 0; i < histograms; ++i) h(path_of(i)).observe(k); },
                [&](int) {
                    for (int k = 0; k < 3; ++k)
                        for (int i = 0; i < histograms; ++i)
                            ph.Add({{"path", path_of(i)}}, prometheus::Histogram::BucketBoundaries{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}).Observe(k);
                });
}

void encode_of_threads() {
    double one = 0;
    for (const int threads : {1, 16, 64}) {
        encoding e(20000);
        const prom::family<prom::counter, "method", "path", "status"> f{"http_requests_total", "Requests.", {.registry = &e.mine}};
        double best = 1e9;
        in_living_threads(threads, [&](int) { for (int i = 0; i < 20000; ++i) f("GET", path_of(i), 200).inc(); }, [&] {
            prom::cursor page;
            for (int round = 0; round < 20; ++round) {
                const double start = own_time();
                pull_all(page, e.mine);
                best = std::min(best, (own_time() - start) / 20000 * 1e9);
            }
        });
        if (threads == 1) one = best;
        std::printf("encode 20000 counters that %2d threads touched %10.2f ns  one thread: x%.2f (goal 2.00%s)\n", threads, best, best / one,
                    best <= 2 * one ? "" : ", MISSED");
    }
}

/// Look-ups and updates of series chosen evenly at random by many threads: a thread hardly ever meets one again.
void cold_updates() {
    constexpr int series = 100'000, threads = 64, each = 4'000;
    std::vector<std::string> paths;
    for (int i = 0; i < series; ++i) paths.push_back(path_of(i));
    prom::registry mine;
    prometheus::Registry peer;
    const prom::family<prom::counter, "method", "path", "status"> f{"http_requests_total", "Requests.", {.registry = &mine}};
    auto& pf = prometheus::BuildCounter().Name("http_requests_total").Help("Requests.").Register(peer);
    const std::string_view method = "GET", status = "200";
    const auto all = [&](auto update) {
        std::vector<std::thread> running;
        for (int t = 0; t < threads; ++t)
            running.emplace_back([&, t] {
                auto random = static_cast<std::uint32_t>(t + 1) * 2654435761U;
                for (int i = 0; i < each; ++i) {
                    random = random * 1664525U + 1013904223U;
                    update(paths[(random >> 8) % series]);
                }
            });
        for (auto& r : running) r.join();
    };
    const auto ours = [&](const std::string& path) { f(method, std::string_view(path), status).inc(); };
    const auto peers = [&](const std::string& path) {
        pf.Add({{"method", std::string(method)}, {"path", path}, {"status", std::string(status)}}).Increment();
    };
    plain_series plain(paths);
    for (const auto& path : paths) ours(path), peers(path);
    compare("cold updates: 64 threads, 100000 series", threads * each,
            {{"ours", 0, [&] { all(ours); }},
             {"the same cache lines of plain memory", 0, [&] { all([&](const std::string& path) { plain.add(path); }); }},
             {"nothing but the paths", 0, [&] { all([](const std::string& path) { keep(reinterpret_cast<const void*>(std::uintptr_t{static_cast<unsigned char>(path[14])})); }); }},
             {"prometheus-cpp", 0.15, [&] { all(peers); }}}, 5, time_of_all);
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
        {"one tagged cell", 0, [] { for (int i = 0; i < n; ++i) add_to_run(1, [](plain_run& r) { add_plainly(r.whole, 1); }); }},
        {"locked add", 0, [] { for (int i = 0; i < n; ++i) __atomic_fetch_add(&shared_cell, 1, __ATOMIC_RELAXED); }},
        {"prometheus-cpp", 0.12, [&] { for (int i = 0; i < n; ++i) pc.Increment(); }}});
    compare("counter.inc(1.5)", n, {{"ours", 0, [&] { for (int i = 0; i < n; ++i) c.inc(1.5); }},
        {"plain thread-local add", 0, [] { for (int i = 0; i < n; ++i) { plain_double += 1.5; keep(&plain_double); } }},
        {"one tagged cell", 0, [] { for (int i = 0; i < n; ++i) add_to_run(1, [](plain_run& r) { add_plainly(r.real, 1.5); }); }},
        {"prometheus-cpp", 0.2, [&] { for (int i = 0; i < n; ++i) pc.Increment(1.5); }}});
    const auto twice = [](const std::function<void()>& work) {
        std::thread other(work);
        work();
        other.join();
    };
    constexpr int many = 20 * n;  // starting the thread is in it
    compare("counter.inc(), two threads at once", many, {{"ours", 0, [&] { twice([&] { for (int i = 0; i < many; ++i) c.inc(); }); }},
        {"prometheus-cpp", 0.04, [&] { twice([&] { for (int i = 0; i < many; ++i) pc.Increment(); }); }}}, 5, now);

    const prom::gauge g{"g", "h", {.registry = &mine}}, deltas{"d", "h", {.registry = &mine}};
    auto& pg = prometheus::BuildGauge().Name("g").Help("h").Register(theirs).Add({});
    compare("gauge.set()", n, {{"ours", 0, [&] { for (int i = 0; i < n; ++i) g.set(i); }},
        {"one tagged cell, stored", 0, [] { for (int i = 0; i < n; ++i) add_to_run(1, [i](plain_run& r) { store_plainly(r.real, i); }); }},
        {"prometheus-cpp", 0.15, [&] { for (int i = 0; i < n; ++i) pg.Set(i); }}});
    compare("gauge.inc(), never set", n, {{"ours", 0, [&] { for (int i = 0; i < n; ++i) deltas.inc(); }},
        {"prometheus-cpp", 0.2, [&] { for (int i = 0; i < n; ++i) pg.Increment(); }}});
    compare("gauge.inc(), set before", n, {{"ours", 0, [&] { for (int i = 0; i < n; ++i) g.inc(); }},
        {"locked add of a double", 0, [] { for (int i = 0; i < n; ++i) add_locked(shared_double, 1); }},
        {"prometheus-cpp", 1.0, [&] { for (int i = 0; i < n; ++i) pg.Increment(); }}});

    double spread[1024];
    for (int i = 0; i < 1024; ++i) spread[i] = 0.001 * (1 + (i * 7919) % 12000);
    const prom::histogram h{"h", "h", {.registry = &mine}};
    auto& ph = prometheus::BuildHistogram().Name("h").Help("h").Register(theirs)
                   .Add({}, prometheus::Histogram::BucketBoundaries{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10});
    const prom::detail::bucket_bounds& bounds = *prom::detail::registry_state::peek(mine)->find_named("h")->bounds;
    compare("histogram.observe(), 14 buckets, spread", n, {{"ours", 0, [&] { for (int i = 0; i < n; ++i) h.observe(spread[i & 1023]); }},
        {"a bucket by table, two tagged cells", 0, [&] {
            for (int i = 0; i < n; ++i) {
                const double x = spread[i & 1023];
                add_to_run(1, [&](plain_run& r) {
                    add_plainly(r.real, x);
                    add_plainly(r.buckets[bounds.bucket(x)], 1);
                });
            }
        }},
        {"prometheus-cpp", 0.1, [&] { for (int i = 0; i < n; ++i) ph.Observe(spread[i & 1023]); }}});

    const prom::histogram native{"n", "h", {.registry = &mine, .native = {.factor = 1.1}}};
    const prom::detail::bucket_bounds& native_bounds = *prom::detail::registry_state::peek(mine)->find_named("n")->bounds;
    compare("native histogram.observe(), spread", n, {{"ours", 0, [&] { for (int i = 0; i < n; ++i) native.observe(spread[i & 1023]); }},
        {"a key by table, two tagged cells", 0, [&] {
            for (int i = 0; i < n; ++i) {
                const double x = spread[i & 1023];
                add_to_run(1, [&](plain_run& r) {
                    add_plainly(r.real, x);
                    add_plainly(r.buckets[prom::detail::biased_key(__builtin_bit_cast(std::uint64_t, x), native_bounds.round, native_bounds.coarser) % std::size(r.buckets)], 1);
                });
            }
        }},
        {"our classic one, 14 buckets", 1.5, [&] { for (int i = 0; i < n; ++i) h.observe(spread[i & 1023]); }},
        {"prometheus-cpp, classic", 0.12, [&] { for (int i = 0; i < n; ++i) ph.Observe(spread[i & 1023]); }}});
    {
        prom::registry r;
        const prom::histogram full{"full", "h", {.registry = &r, .native = {.factor = 1.1}}};
        for (int i = 0; i < 160; ++i) full.observe(std::exp2(i / 8.0));
        prom::registry* const shown[] = {&r};
        prom::cursor cur;
        static char window[16384];
        const auto pull = [&](prom::format as) {
            cur.start({.as = as, .registries = shown});
            while (cur.next(window).what == prom::pull::more) {}
            keep(window);
        };
        constexpr int pages = 20;
        compare("native histogram of 160 buckets, goal 3000 ns", pages, {{"protobuf", 0, [&] { for (int i = 0; i < pages; ++i) pull(prom::format::protobuf); }},
            {"OpenMetrics 2.0", 0, [&] { for (int i = 0; i < pages; ++i) pull(prom::format::openmetrics_2_0_0); }}}, 100);
    }

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
        plain_table table(paths.size());
        const auto least = [&](auto add) {
            return [&, add] {
                std::size_t k = 0;
                for (int i = 0; i < m; ++i) {
                    add(table(method, std::string_view(paths[k]), status));
                    k = k + 1 == paths.size() ? 0 : k + 1;
                }
            };
        };
        char title[80];
        std::snprintf(title, sizeof title, "lookup of 3 labels and inc, %d children", children);
        compare(title, m, {{"ours", 0, ours},
            {"one line of a plain table, add", 0, least([](std::uint64_t& count) { __atomic_store_n(&count, count + 1, __ATOMIC_RELAXED); })},
            {"the same, locked add", 0, least([](std::uint64_t& count) { __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED); })},
            {"prometheus-cpp", children == 1 ? 0.045 : 0.06, peers}}, 50);
    }

    memory();
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
    encode_of_threads();
    cold_updates();
    return 0;
}
