// 05_deferreds: Twisted's Deferred for C++: a result that comes later, its callbacks, and how it is measured.
//
//     c++ -std=c++20 examples/05_deferreds.cpp -o deferreds && ./deferreds
//
// prints
//
//     2 in progress
//     good: 14 bytes
//     bad: recovered with 0 bytes
//     0 in progress, 2 timed, 1 failed
//     awaited: 7 and 8

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#define PROMETHEUS_ASYNC_NO_NETWORK 1  // metrics and verbs only
#include "../prometheus_async.hpp"

#include <cstdio>

namespace prom = prometheus_async;

prom::histogram took{"fetch_seconds", "Time until a page is there."};
prom::counter failures{"fetch_failures_total", "Pages that did not come."};
prom::gauge running{"fetches_in_progress", "Pages on their way."};

// A callback API, made one that returns deferreds: the handle that it keeps fires it.
struct network {
    std::vector<std::pair<std::string, prom::deferred<std::string>>> waiting;
    prom::deferred<std::string> fetch(std::string url) {
        prom::deferred<std::string> page;
        waiting.emplace_back(std::move(url), page);
        return page;
    }
    void poll() {
        for (auto& [url, page] : std::exchange(waiting, {}))
            if (url == "bad") page.fail(prom::error(prom::errc::refused, "no such page"));
            else page.fire("page of " + url + "!!");
    }
};

prom::task<int> sum(prom::deferred<int> a, prom::deferred<int> b) { co_return co_await a * 10 + co_await b; }

int main() {
    network net;
    auto fetch = (prom::time(took) | prom::count_exceptions(failures) | prom::track_inprogress(running))(&network::fetch);
    for (const char* url : {"good", "bad"})
        fetch(net, url)
            .then([](const std::string& page) { return static_cast<int>(page.size()); })       // of another type
            .add_callback([url](int n) { std::printf("%s: %d bytes\n", url, n); })             // returns nothing: only looks
            .add_errback([url](const prom::fault&) { return std::printf("%s: recovered with 0 bytes\n", url), 0; });
    std::printf("%.0f in progress\n", running.value());
    net.poll();
    std::printf("%.0f in progress, %d timed, %.0f failed\n", running.value(), static_cast<int>(took.count()), failures.value());

    prom::deferred<int> a, b;
    auto total = prom::make_deferred(sum(a, b));  // a coroutine that awaits deferreds is one again
    total.add_callback([](int n) { std::printf("awaited: %d and %d\n", n / 10, n % 10); });
    a.fire(7);
    b.fire(8);
}
