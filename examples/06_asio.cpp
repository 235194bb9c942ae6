// 06_asio: asio's coroutines and completion tokens under measurement; asio needs no special build of either.
//
//     c++ -std=c++20 examples/06_asio.cpp -o asio -pthread && ./asio      (clang with asio 1.22: see tests/test_asio.cpp)
//
// prints
//
//     session said 42
//     wait canceled
//     0 sessions in progress, 1 timed; 3 waits timed, 2 canceled
//
// libs:
#if defined(__clang__)  // asio 1.22 does not see clang's coroutines by itself
#define ASIO_HAS_CO_AWAIT 1
#define ASIO_HAS_STD_COROUTINE 1
#endif
#include <asio.hpp>

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "../prometheus_async.hpp"
#include "asio_tokens.hpp"

#include <cstdio>

namespace prom = prometheus_async;
using namespace std::chrono_literals;

prom::histogram session_time{"session_seconds", "Time spent in sessions."};
prom::gauge sessions{"sessions_in_progress", "Sessions that are open."};
prom::histogram wait_time{"wait_seconds", "Time spent waiting."};
prom::counter failures{"wait_failures_total", "Waits that were canceled."};

asio::awaitable<int> session() {
    asio::steady_timer timer(co_await asio::this_coro::executor, 1ms);
    co_await timer.async_wait(prom_asio::measured(prom::time(wait_time), asio::use_awaitable));  // a token
    co_return 42;
}

asio::awaitable<void> run() {
    auto measured = (prom::time(session_time) | prom::track_inprogress(sessions))(session);
    std::printf("session said %d\n", co_await measured());
}

int main() {
    asio::io_context io;
    asio::co_spawn(io, run(), asio::detached);
    io.run();

    asio::steady_timer timer(io, 1h);
    auto measured = prom::time(wait_time) | prom::count_failures(failures);
    timer.async_wait(measured(prom::completion([](asio::error_code ec) {  // a plain handler
        std::printf("wait %s\n", ec ? "canceled" : "over");
    })));
    timer.async_wait(prom_asio::measured(measured, asio::detached));
    timer.cancel();
    io.restart();
    io.run();
    std::printf("%.0f sessions in progress, %d timed; %d waits timed, %.0f canceled\n", sessions.value(),
                static_cast<int>(session_time.count()), static_cast<int>(wait_time.count()), failures.value());
}
