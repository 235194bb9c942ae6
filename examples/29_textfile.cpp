// 29_textfile: a batch job leaves its values to node_exporter, in a file.
//
//     c++ -std=c++20 examples/29_textfile.cpp -o textfile && mkdir -p metrics && ./textfile metrics/backup.prom
//     prometheus-node-exporter --collector.textfile.directory=metrics
//
// The file stays when the job has ended: the last values are scraped until the next run replaces them.

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"

#include <chrono>
#include <cstdio>

namespace prom = prometheus_async;

prom::gauge finished{"backup_finished_timestamp_seconds", "When the last backup ended."};
prom::gauge took{"backup_duration_seconds", "What the last backup took."};
prom::counter saved{"backup_bytes_total", "Octets saved by the last backup."};

int main(int argc, char** argv) {
    using namespace std::chrono;
    const auto begin = steady_clock::now();
    saved.inc(1 << 20);  // the work
    took.set(steady_clock::now() - begin);
    finished.set(system_clock::now().time_since_epoch());

    prom::textfile file({.path = argc > 1 ? argv[1] : "backup.prom",
                         .on_collector_error = prom::collector_errors::fail,  // rather the file of the last run than half of this one
                         .keep_file = true});
    const auto written = file.write();
    if (!written) std::fprintf(stderr, "%s\n", written.why().describe());
    return written ? 0 : 1;
}
