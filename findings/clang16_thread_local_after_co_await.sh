#!/bin/sh
# clang 16.0.6 (Debian 1:16.0.6-15~deb12u1) and 19.1.7 (1:19.1.7-3~deb12u1), -std=c++20. A coroutine adds to a thread_local, waits, is
# continued by another thread, and adds again. One would guess that each thread has one: clang 16 has an intrinsic for addresses of
# thread_locals so that coroutines compute them anew. At -O2 it computes them once all the same: both go to the first thread, which
# another thread then writes without a lock (a counter with a cell for each thread loses counts). clang 19 does it right (17.0.6 and
# 18.1.8 too), and clang 16 does at -O0, so tests that are not optimised do not show it.
. "$(dirname "$0")/lib.sh"
clang19
debs clang-16=1:16.0.6-15~deb12u1 libclang-cpp16=1:16.0.6-15~deb12u1 libllvm16=1:16.0.6-15~deb12u1 libclang-common-16-dev=1:16.0.6-15~deb12u1
cat > "$lab/mine.cpp" <<'CPP'
thread_local int mine = 0;
CPP
cat > "$lab/add.cpp" <<'CPP'
#include <coroutine>
#include <cstdio>
#include <thread>
struct task {
    struct promise_type {
        task get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
    std::coroutine_handle<promise_type> frame;
};
extern constinit thread_local int mine;
static task add() {
    for (;;) {
        ++mine;
        co_await std::suspend_always{};
    }
}
int main() {
    const task t = add();
    t.frame.resume();
    int other = 0;
    std::thread([&] { t.frame.resume(); other = mine; }).join();
    std::printf("%d and %d\n", mine, other);
    t.frame.destroy();
}
CPP
run() { "$@" -std=c++20 -Wall -Wextra -Werror -pthread "$lab/add.cpp" "$lab/mine.cpp" -o "$lab/add" && "$lab/add"; }
clang16=$lab/root/usr/lib/llvm-16/bin/clang++
expect "clang 16 -O0" "1 and 1" "$(run "$clang16" -O0)"
expect "clang 16 -O2" "2 and 0" "$(run "$clang16" -O2)"
expect "clang 19 -O2" "1 and 1" "$(run "$clang" -O2)"
finish
