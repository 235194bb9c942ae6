// 04_callbacks: functions and completion handlers, for code that has no coroutines.
//
//     c++ -std=c++20 examples/04_callbacks.cpp -o callbacks && ./callbacks
//
// prints
//
//     2 lookups in progress
//     lookup of "a": 1
//     lookup of "": not there
//     0 lookups in progress, 2 timed, 1 failed
//     parsed 42, 1 parse timed

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#define PROMETHEUS_ASYNC_NO_NETWORK 1  // metrics and verbs only
#include "../prometheus_async.hpp"

#include <cstdio>
#include <system_error>

namespace prom = prometheus_async;

prom::histogram took{"lookup_seconds", "From the start of a lookup to its handler."};
prom::counter failures{"lookup_failures_total", "Lookups that found nothing."};
prom::gauge running{"lookups_in_progress", "Lookups without an answer yet."};
prom::histogram parsing{"parse_seconds", "Time spent in parse()."};

// Any interface that calls back later, and once.
using handler = prom::callback<void(std::error_code, int)>;
std::vector<std::pair<std::string, handler>> queue;
void async_lookup(std::string key, handler done) { queue.emplace_back(std::move(key), std::move(done)); }
void answer_all() {
    for (auto& [key, done] : queue) done(key.empty() ? std::make_error_code(std::errc::invalid_argument) : std::error_code(), 1);
    queue.clear();
}

int parse(const char* text) { return std::atoi(text); }

int main() {
    // completion() says that this is a handler: the clock runs from here until it is called.
    auto measured = prom::time(took) | prom::count_failures(failures) | prom::track_inprogress(running);
    for (const char* key : {"a", ""})
        async_lookup(key, measured(prom::completion([key](std::error_code ec, int value) {
            if (ec) std::printf("lookup of \"%s\": not there\n", key);
            else std::printf("lookup of \"%s\": %d\n", key, value);
        })));
    std::printf("%.0f lookups in progress\n", running.value());
    answer_all();
    std::printf("%.0f lookups in progress, %d timed, %.0f failed\n", running.value(), static_cast<int>(took.count()), failures.value());

    auto timed_parse = prom::time(parsing)(parse);  // a plain function is timed while it runs
    const int n = timed_parse("42");
    std::printf("parsed %d, %d parse timed\n", n, static_cast<int>(parsing.count()));
}
