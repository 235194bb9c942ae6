#!/bin/sh
# g++ 12.2.0 (Debian 12.2.0-14+deb12u1) and clang 19.1.7 (Debian 1:19.1.7-3~deb12u1), -O2: an await_suspend that returns a handle,
# in a loop. One knows that g++ makes a jump of it only when it optimizes, and would guess that -O2 is enough, whatever else is on.
# With -fsanitize=address or =thread it is a call: each transfer leaves a frame on the stack, so a loop that is sound in production
# uses up the stack in the test build. -fsanitize=undefined changes nothing. In clang it is a jump in each of them, at -O0 too.
. "$(dirname "$0")/lib.sh"
cat > "$lab/loop.cpp" <<'CPP'
#include <coroutine>
#include <cstdint>
#include <cstdio>
static std::uintptr_t least, most;
__attribute__((noinline)) static void mark() {
    const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    if (!least || here < least) least = here;
    if (here > most) most = here;
}
struct task {
    struct promise_type {
        struct back {
            bool await_ready() noexcept { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> h) noexcept { return mark(), h.promise().caller; }
            void await_resume() noexcept {}
        };
        task get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        back final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
        std::coroutine_handle<> caller = std::noop_coroutine();
    };
    bool await_ready() noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> h) noexcept { return mark(), here.promise().caller = h, here; }
    void await_resume() noexcept { here.destroy(); }
    std::coroutine_handle<promise_type> here;
};
static task leaf() { co_return; }
static task loop(int n) { while (n--) co_await leaf(); }
static std::uintptr_t depth(int n) {
    least = most = 0;
    auto t = loop(n);
    t.here.resume(), t.here.destroy();
    return most - least;
}
int main() { std::puts(depth(200) > depth(10) + 1000 ? "stack grows" : "stack stays"); }
CPP
stack() { "$@" -std=c++20 "$lab/loop.cpp" -o "$lab/loop" && "$lab/loop"; }
gcc12; debs libasan8=12.2.0-14+deb12u1 libtsan2=12.2.0-14+deb12u1 libubsan1=12.2.0-14+deb12u1
at="-Wl,-rpath,$lab/root/usr/lib/x86_64-linux-gnu"
expect "g++ -O0" "stack grows" "$(stack "$gcc" -O0)"
expect "g++ -O2" "stack stays" "$(stack "$gcc" -O2)"
expect "g++ -O2 -fsanitize=undefined" "stack stays" "$(stack "$gcc" -O2 -fsanitize=undefined "$at")"
expect "g++ -O2 -fsanitize=address" "stack grows" "$(stack "$gcc" -O2 -fsanitize=address "$at")"
expect "g++ -O2 -fsanitize=thread" "stack grows" "$(stack "$gcc" -O2 -fsanitize=thread "$at")"
clang19; debs libclang-rt-19-dev=1:19.1.7-3~deb12u1
expect "clang++ -O0" "stack stays" "$(stack "$clang" -O0)"
expect "clang++ -O2 -fsanitize=address" "stack stays" "$(stack "$clang" -O2 -fsanitize=address)"
expect "clang++ -O2 -fsanitize=thread" "stack stays" "$(stack "$clang" -O2 -fsanitize=thread)"
finish
