// The deflater beside zlib -1 and libdeflate -1: octets, and speed without any checksum; then the CPU of a scrape. In one
// run, round-robin, CPU time of the thread. Arguments are files to compress as well.
// libs: -lz -ldeflate
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "../support/pages.hpp"

#include <libdeflate.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <time.h>
#include <vector>

namespace prom = prometheus_async;
using prom::detail::gzip_stream;

namespace {

double cpu(clockid_t of = CLOCK_THREAD_CPUTIME_ID) {
    timespec t;
    clock_gettime(of, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

std::size_t ours(gzip_stream& g, std::string_view text) {
    static std::array<char, 16384> out;
    std::size_t made = 0;
    g.start();
    for (;;) {
        const gzip_stream::piece p = g.next(out);
        made += p.bytes;
        if (p.what == gzip_stream::made::done) return made;
        if (p.what == gzip_stream::made::full) continue;
        if (text.empty()) g.finish();
        const std::size_t n = text.copy(g.room().data(), g.room().size());
        g.add(n);
        text.remove_prefix(n);
    }
}
/// Raw, so without a checksum, into windows of the same size.
struct zlib {
    z_stream z{};
    explicit zlib(int window_bits = -15) { deflateInit2(&z, 1, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY); }
    ~zlib() { deflateEnd(&z); }
    std::size_t of(const std::string& text) {
        static std::array<unsigned char, 16384> out;
        deflateReset(&z);
        z.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(text.data()));
        z.avail_in = static_cast<uInt>(text.size());
        do {
            z.next_out = out.data();
            z.avail_out = out.size();
        } while (deflate(&z, Z_FINISH) != Z_STREAM_END);
        return z.total_out;
    }
};

std::string histograms(int n, int observations) {
    prom::registry r;
    const prom::family<prom::histogram, "method", "path", "status"> f{"http_request_duration_seconds", "Time.", {.registry = &r}};
    std::mt19937_64 random(5);
    for (int i = 0; i < n; ++i) {
        const prom::histogram h = f("GET", "/item/" + std::to_string(i), 200);
        std::exponential_distribution<double> times(1 + static_cast<double>(i % 7));
        for (int k = 0; k < observations; ++k) h.observe(times(random));
    }
    return pages::of(r);
}
std::string gauges(int n) {
    prom::registry r;
    const prom::family<prom::gauge, "sensor"> f{"temperature_celsius", "What it measures.", {.registry = &r}};
    std::mt19937_64 random(6);
    for (int i = 0; i < n; ++i) f("sensor-" + std::to_string(i)).set(static_cast<double>(random() >> 11) * 0x1p-53);
    return pages::of(r);
}

struct page {
    std::string name, text;
    double size_goal = 0, speed_goal = 0;  // in octets of zlib -1, at most; in its speed, at least
};

void compare(const page& p) {
    struct contender {
        const char* name;
        std::function<std::size_t()> work;
        double best = 1e9;
        std::size_t made = 0;
    };
    const auto g = std::make_unique<gzip_stream>();
    const prom::detail::crc32 sums;
    zlib z;
    const std::unique_ptr<libdeflate_compressor, void (*)(libdeflate_compressor*)> d(libdeflate_alloc_compressor(1), libdeflate_free_compressor);
    std::string out(libdeflate_deflate_compress_bound(d.get(), p.text.size()), '\0');
    std::array<contender, 4> all{{{"ours", [&] { return ours(*g, p.text); }},
                                  {"the checksum", [&] { return std::size_t{sums.of(0, p.text)}; }},
                                  {"zlib -1", [&] { return z.of(p.text) + 18; }},
                                  {"libdeflate -1", [&] { return libdeflate_deflate_compress(d.get(), p.text.data(), p.text.size(), out.data(), out.size()) + 18; }}}};
    const int repeats = static_cast<int>(std::max<std::size_t>(1, 400000 / p.text.size()));
    for (int round = 0; round < 15; ++round)
        for (auto& c : all) {
            const double start = cpu();
            for (int i = 0; i < repeats; ++i) c.made = c.work();
            c.best = std::min(c.best, (cpu() - start) / repeats);
        }
    const double mine = all[0].best - all[1].best;
    const auto ratio = [&](const contender& c) { return static_cast<double>(all[0].made) / static_cast<double>(c.made); };
    std::printf("%-26s %8zu octets, gzip %7zu (%5.2f %%) at %4.0f MB/s; of zlib -1 size x%.3f", p.name.c_str(), p.text.size(), all[0].made,
                100.0 * static_cast<double>(all[0].made) / static_cast<double>(p.text.size()), static_cast<double>(p.text.size()) / mine * 1e-6, ratio(all[2]));
    // What the format allows, nearly: the slowest search there is says whether a goal can be met. On 10,000 counters it has
    // 0.740 of zlib -1; zopfli --i15, and 7z -mx=9 -mfb=258 -mpass=15, have 0.744 each.
    const std::unique_ptr<libdeflate_compressor, void (*)(libdeflate_compressor*)> slowest(libdeflate_alloc_compressor(12), libdeflate_free_compressor);
    const double least = static_cast<double>(libdeflate_deflate_compress(slowest.get(), p.text.data(), p.text.size(), out.data(), out.size()) + 18) /
                         static_cast<double>(all[2].made);
    const auto goal = [](double wanted, bool good, bool possible) {
        if (wanted != 0) std::printf(" (goal %.2f%s)", wanted, good ? "" : possible ? ", MISSED" : ", which libdeflate -12 does not reach");
    };
    goal(p.size_goal, ratio(all[2]) <= p.size_goal, least <= p.size_goal);
    std::printf(" speed x%.2f", all[2].best / mine);
    goal(p.speed_goal, all[2].best / mine >= p.speed_goal, true);
    std::printf("; of libdeflate -1 size x%.3f speed x%.2f; libdeflate -12 has x%.3f of zlib -1\n", ratio(all[3]), all[3].best / mine, least);
}

/// CPU of the server's thread for one scrape.
double scrape(int port, clockid_t server, bool gzip) {
    static std::string answer(1 << 22, '\0');
    std::string request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n";
    if (gzip) request += "Accept-Encoding: gzip\r\n";
    request += "Connection: close\r\n\r\n";
    double best = 1e9;
    for (int round = 0; round < 40; ++round) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(static_cast<std::uint16_t>(port));
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) std::abort();
        const double before = cpu(server);
        if (send(fd, request.data(), request.size(), 0) < 0) std::abort();
        while (recv(fd, answer.data(), answer.size(), 0) > 0) {}
        best = std::min(best, cpu(server) - before);
        close(fd);
    }
    return best;
}

void scrapes() {
    const prom::family<prom::counter, "method", "path", "status"> f{"http_requests_total", "Requests."};
    for (int i = 0; i < 10000; ++i) f("GET", "/item/" + std::to_string(i), 200).inc(static_cast<std::uint64_t>(i) * 7919 % 10007);
    prom::event_loop loop;
    std::atomic<int> port{0};
    clockid_t clock{};
    std::thread server([&] {
        pthread_getcpuclockid(pthread_self(), &clock);
        auto serve = [](prom::event_loop& on, std::atomic<int>& at) -> prom::task<int> {
            auto made = co_await prom::start_http_server(on, {.addr = "127.0.0.1"});
            at = made ? made->port() : -1;
            while (made) co_await on.sleep(1000);
            co_return 1;
        };
        loop.run(serve(loop, port));
    });
    while (port == 0) std::this_thread::yield();
    const double plain = scrape(port, clock, false), gzip = scrape(port, clock, true);
    loop.stop();
    server.join();
    const std::string text = prom::expose();
    zlib z(15 + 16);
    double by_zlib = 1e9;
    for (int round = 0; round < 15; ++round) {
        const double start = cpu();
        z.of(text);
        by_zlib = std::min(by_zlib, cpu() - start);
    }
    std::printf("a scrape of 10,000 series: %.2f ms of CPU with gzip, %.2f without: x%.2f (goal 5%s); of it and zlib -1: x%.2f (goal 0.45%s)\n", gzip * 1e3,
                plain * 1e3, gzip / plain, gzip / plain <= 5 ? "" : ", MISSED", gzip / (plain + by_zlib), gzip / (plain + by_zlib) <= 0.45 ? "" : ", MISSED");
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<page> compared{{"10,000 counters", pages::counters(10000), 0.72, 2.7},
                               {"10,000 of cycling labels", pages::labels_in_turn(10000)},
                               {"1,000 histograms, busy", histograms(1000, 2000), 0.80, 3.5},
                               {"1,000 histograms, idle", histograms(1000, 30)},
                               {"10,000 random gauges", gauges(10000)}};
    const auto add = [&](const char* file, double size_goal, double speed_goal) {
        std::ostringstream text;
        text << std::ifstream(file).rdbuf();
        if (!text.str().empty()) compared.push_back({file, text.str(), size_goal, speed_goal});
    };
    add("README.md", 1.0, 1.2);
    for (int i = 1; i < argc; ++i) add(argv[i], 1.0, 1.2);
    for (const page& p : compared) compare(p);
    scrapes();
}
