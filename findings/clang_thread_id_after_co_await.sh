#!/bin/sh
# clang 19.1.7 (Debian 1:19.1.7-3~deb12u1; 16.0.6, 17.0.6, 18.1.8 and 22.1.8 do the same) and g++ 12.2.0 (Debian 12.2.0-14+deb12u1).
# A coroutine asks for the id of its thread, waits, is continued by another thread, and asks again. One would guess that the ids
# differ, also with optimisation, as the compiler knows where a coroutine waits. glibc declares pthread_self() as a function that
# always gives the same, and clang at -O2 calls it once for the coroutine: std::this_thread::get_id() is that of the thread before,
# so a check "am I on the loop's thread?" says yes where it is not. With g++, and with clang at -O0 and -O1, they differ.
# What to do: ask in a function that is not inlined and not pure (here: with an empty asm).
. "$(dirname "$0")/lib.sh"
cat > "$lab/ids.cpp" <<'CPP'
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
#ifdef OPAQUE
[[gnu::noinline]] static std::thread::id id() { asm volatile("" ::: "memory"); return std::this_thread::get_id(); }
#else
static std::thread::id id() { return std::this_thread::get_id(); }
#endif
static task ask() {
    const std::thread::id before = id();
    co_await std::suspend_always{};
    std::puts(id() == before ? "the same" : "another");
}
int main() {
    const task t = ask();
    t.frame.resume();
    std::thread([&] { t.frame.resume(); }).join();
    t.frame.destroy();
}
CPP
gcc12
clang19
run() { "$@" -std=c++20 -Wall -Wextra -Werror -pthread "$lab/ids.cpp" -o "$lab/ids" && "$lab/ids"; }
expect "g++ -O2" another "$(run "$gcc" -O2)"
expect "clang -O0" another "$(run "$clang" -O0)"
expect "clang -O1" another "$(run "$clang" -O1)"
expect "clang -O2" "the same" "$(run "$clang" -O2)"
expect "clang -Os" "the same" "$(run "$clang" -Os)"
expect "clang -O2, asked in a call" another "$(run "$clang" -O2 -DOPAQUE)"
finish
