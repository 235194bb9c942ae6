// 26_pushgateway: a batch job that ends before it could be scraped, and pushes its metrics to a Pushgateway.
//
//     prometheus-pushgateway &
//     c++ -std=c++20 examples/26_pushgateway.cpp -o backup -pthread && ./backup
//     curl -s http://127.0.0.1:9091/metrics | grep backup_
//
// prints this line, and, if the push failed, the reason to stderr; the job itself has succeeded nevertheless:
//
//     backed up 3 files
//
// Prometheus must scrape the gateway with honor_labels: true. The first argument is another gateway:
// ./backup http://push.example:9091; with "loop" after it the job runs on a loop, which pushes while it works; with "add" only the
// families of this job are replaced in the group, which others may share; with "remove" the group is taken away at the end.

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"

#include <cstdio>
#include <string_view>

namespace prom = prometheus_async;

prom::task<int> on_loop(prom::event_loop& loop, prom::push_options options, prom::counter files) {
    options.interval = 0.5;
    prom::pushgateway gateway(loop, options);
    co_await loop.sleep(1);  // the work
    files.inc();
    const auto pushed = co_await gateway.close();  // pushes a last time
    if (!pushed) std::fprintf(stderr, "%s\n", gateway.why().c_str());
    co_return 0;
}

int main(int argc, char** argv) {
    prom::registry job;  // what is pushed, and nothing else
    const prom::histogram took{"backup_duration_seconds", "Time to back up.", {.registry = &job, .buckets = {60, 600, 3600}}};
    const prom::counter files{"backup_files_total", "Files that were backed up.", {.registry = &job}};
    const prom::gauge success{"backup_last_success_timestamp_seconds", "When it last succeeded.", {.registry = &job}};

    prom::time(took)([&] { files.inc(3); })();
    success.set(prom::wall_now());
    std::printf("backed up %.0f files\n", files.value());

    prom::registry* const pushed[] = {&job};
    const prom::label group[] = {{"instance", "host1"}};
    const prom::push_options options{.gateway = argc > 1 ? argv[1] : "127.0.0.1:9091", .job = "backup",
                                     .grouping = group, .registries = pushed};
    const std::string_view how = argc > 2 ? argv[2] : "";
    if (how == "loop") {
        prom::event_loop loop;
        return loop.run(on_loop(loop, options, files));
    }
    const auto done = how == "add"      ? prom::push_add_to_gateway(options)
                      : how == "remove" ? prom::remove_from_gateway(options)
                                        : prom::push_to_gateway(options);
    if (!done) std::fprintf(stderr, "%s\n", done.why().describe());
}
