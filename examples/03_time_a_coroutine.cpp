// 03_time_a_coroutine: a decorated coroutine is timed, counted and tracked; nothing else in it changes.
//
//     c++ -std=c++20 examples/03_time_a_coroutine.cpp -o coroutine -pthread && ./coroutine
//
// prints
//
//     handle(2) = 4, 1 in progress
//     handle(-2): negative
//     handle(3) within 1 ms: the awaited operation did not end in time
//     4 timed, 1 failed, 0 in progress

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"

#include <chrono>
#include <cstdio>
#include <stdexcept>

namespace prom = prometheus_async;
using namespace std::chrono_literals;

prom::histogram took{"request_seconds", "Time spent in requests."};
prom::counter failures{"request_failures_total", "Requests that threw."};
prom::gauge running{"requests_in_progress", "Requests being handled."};
double most = 0;

prom::task<int> handle(prom::event_loop& loop, int x) {
    co_await loop.sleep(5ms);
    most = running.value();
    if (x < 0) throw std::domain_error("negative");
    co_return x * 2;
}

prom::task<int> run(prom::event_loop& loop) {
    {
        auto timer = took.timer();  // times this scope
        co_await loop.sleep(1ms);
    }
    auto measured = prom::time(took) | prom::count_exceptions<std::domain_error>(failures) | prom::track_inprogress(running);
    auto measured_handle = measured(handle);
    const int y = co_await measured_handle(loop, 2);
    std::printf("handle(2) = %d, %.0f in progress\n", y, most);
    try {
        co_await measured(handle(loop, -2));  // a task that is there already is measured from here on
    } catch (const std::domain_error& e) {
        std::printf("handle(-2): %s\n", e.what());
    }
    const prom::result<int> late = co_await prom::within(loop, 1ms, measured_handle(loop, 3));  // handle() takes 5 ms
    std::printf("handle(3) within 1 ms: %s\n", late ? "in time" : late.why().describe());
    co_return 0;
}

int main() {
    prom::event_loop loop;
    const int status = loop.run(run(loop));
    std::printf("%d timed, %.0f failed, %.0f in progress\n", static_cast<int>(took.count()), failures.value(), running.value());
    return status;
}
