// 29_textfile: a batch job leaves its values to node_exporter, in a file; a program that runs on writes it again and again.
//
//     c++ -std=c++20 examples/29_textfile.cpp -o textfile -pthread && mkdir -p metrics
//     prometheus-node-exporter --collector.textfile.directory=metrics &
//     ./textfile metrics/backup.prom          the file stays: the last values are scraped until the next run replaces them
//     ./textfile metrics/daemon.prom 60       for 60 seconds, written each second; the file goes with the program

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace prom = prometheus_async;
using namespace std::chrono_literals;

prom::gauge finished{"backup_finished_timestamp_seconds", "When the last backup ended."};
prom::gauge took{"backup_duration_seconds", "What the last backup took."};
prom::counter saved{"backup_bytes_total", "Octets saved by the last backup."};

int batch(const char* path) {
    using namespace std::chrono;
    const auto begin = steady_clock::now();
    saved.inc(1 << 20);  // the work
    took.set(steady_clock::now() - begin);
    finished.set(system_clock::now().time_since_epoch());

    prom::textfile file({.path = path,
                         .on_collector_error = prom::collector_errors::fail,  // rather the file of the last run than half of this one
                         .keep_file = true});
    const auto written = file.write();
    if (!written) std::fprintf(stderr, "%s\n", written.why().describe());
    return written ? 0 : 1;
}

prom::task<int> keep_writing(prom::event_loop& loop, const char* path, int seconds) {
    // A thread of its own writes it, so the loop never waits for the disk. Who asks for self-metrics finds them in the file.
    prom::textfile file({.path = path, .interval = 1s, .self_metrics = &prom::default_registry()});
    for (int i = 0; i < 10 * seconds; ++i) {
        saved.inc();
        co_await loop.sleep(100ms);
    }
    const auto last = co_await file.write(loop);  // when it matters that the newest values are there
    if (!last) std::fprintf(stderr, "%s\n", last.why().describe());
    co_return last ? 0 : 1;
}

/// A number of seconds, or the program ends.
int seconds_of(const char* text) {
    int n = 0;
    const char* at = text;
    while (*at >= '0' && *at <= '9' && n < 100000) n = n * 10 + (*at++ - '0');
    if (*at == 0 && at != text) return n;
    std::fprintf(stderr, "\"%s\" is no number of seconds\n", text);
    std::exit(2);
}

int main(int argc, char** argv) {
    const char* const path = argc > 1 ? argv[1] : "backup.prom";
    if (argc < 3) return batch(path);
    prom::event_loop loop;
    return loop.run(keep_writing(loop, path, seconds_of(argv[2])));
}
