#!/bin/sh
# g++ 12.2.0 (Debian 12.2.0-14+deb12u1), g++ 16.2.0 (Debian sid 16.2.0-4) and clang 19.1.7 (Debian 1:19.1.7-3~deb12u1), -O2: the frame of
# a coroutine that awaits eight things of 256 octets, one after the other. Each lives until its statement ends, so one would guess
# that they share one place, as temporary objects of a function share the stack, and variables of blocks that end. In g++ each
# co_await has a place of its own: the frame grows by 256 octets for each that is written down, and the same with variables of
# blocks. In clang they share one. What to do with g++: a loop, or a coroutine for the part.
. "$(dirname "$0")/lib.sh"
cat > "$lab/frames.cpp" <<'CPP'
#include <coroutine>
#include <cstdio>
#include <cstdlib>
static std::size_t asked;
struct task {
    struct promise_type {
        static void* operator new(std::size_t n) { return asked = n, std::malloc(n); }
        static void operator delete(void* p) { std::free(p); }
        task get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
    std::coroutine_handle<promise_type> frame;
};
[[gnu::noinline]] static void use(char* p) { asm volatile("" ::"r"(p) : "memory"); }
struct reading {
    char state[256];
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<>) { use(state); }
    void await_resume() { use(state); }
};
[[gnu::noinline]] static task one() { co_await reading{}; }
[[gnu::noinline]] static task eight() {
    co_await reading{}; co_await reading{}; co_await reading{}; co_await reading{};
    co_await reading{}; co_await reading{}; co_await reading{}; co_await reading{};
}
[[gnu::noinline]] static task loop() { for (int i = 0; i != 8; ++i) co_await reading{}; }
[[gnu::noinline]] static task blocks() {
    { char a[256]; use(a); co_await std::suspend_always{}; use(a); }
    { char a[256]; use(a); co_await std::suspend_always{}; use(a); }
    { char a[256]; use(a); co_await std::suspend_always{}; use(a); }
}
static std::size_t frame_of(task t) { t.frame.destroy(); return asked / 256; }
int main() { std::printf("%zu, eight %zu, in a loop %zu, three blocks %zu\n", frame_of(one()), frame_of(eight()), frame_of(loop()), frame_of(blocks())); }
CPP
made() { "$@" -std=c++20 -O2 -Wall -Wextra -Werror "$lab/frames.cpp" -o "$lab/frames"; }
gcc12
made "$gcc" && expect "g++ 12: one, in 256 octets" "1, eight 8, in a loop 1, three blocks 3" "$("$lab/frames")"
gcc16
# shellcheck disable=SC2086
made $gcc16 && expect "g++ 16" "1, eight 8, in a loop 1, three blocks 3" "$($own "$lab/frames")"
clang19
made "$clang" && expect "clang 19" "1, eight 1, in a loop 1, three blocks 1" "$("$lab/frames")"
finish
