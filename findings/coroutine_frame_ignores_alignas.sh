#!/bin/sh
# g++ 12.2.0 (Debian 12.2.0-14+deb12u1) and clang 19.1.7 (Debian 1:19.1.7-3~deb12u1), -std=c++20, -O0 and -O2: a coroutine with a
# local variable, or a parameter, of a type with alignas(64), as a cache line or a vector is. C++17 has aligned operator new for
# such types, so one would guess that the frame is allocated with it, or that the variable is moved within the frame. Neither: the
# plain operator new is called, which promises 16, and the variable stands where that falls. There is no warning. clang at -O2 even
# relies on what it did not do: an address % 64 that the program computes is 0 where it is 16.
# clang does it right with -fcoro-aligned-allocation, which is off by default; g++ 12 has no such option.
. "$(dirname "$0")/lib.sh"
gcc12
clang19
cat > "$lab/aligned.cpp" <<'CPP'
#include <coroutine>
#include <cstdint>
#include <cstdio>
#include <new>
alignas(4096) static unsigned char pool[65536];
static std::size_t used;
static const char* which = "none";
void* operator new(std::size_t size) { // 16, and no more than that
    void* const place = pool + (used = (used + 63) / 64 * 64 + 16);
    used += size, which = "plain";
    return place;
}
void* operator new(std::size_t size, std::align_val_t alignment) {
    const auto unit = static_cast<std::size_t>(alignment);
    void* const place = pool + (used = (used + unit - 1) / unit * unit);
    used += size, which = "aligned";
    return place;
}
void operator delete(void*) noexcept {}
void operator delete(void*, std::size_t) noexcept {}
void operator delete(void*, std::align_val_t) noexcept {}
void operator delete(void*, std::size_t, std::align_val_t) noexcept {}

struct task {
    struct promise_type {
        task get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
    std::coroutine_handle<promise_type> coroutine;
};
struct alignas(64) line { unsigned char octets[64]; };
static const void* volatile place;
static volatile std::uintptr_t computed;
[[gnu::noinline]] void look(line& at) {
    place = &at;
    computed = reinterpret_cast<std::uintptr_t>(&at) % 64;
}
task local() { line x{}; look(x); co_await std::suspend_always{}; look(x); }
task parameter(line x) { look(x); co_await std::suspend_always{}; look(x); }
int main() {
    local().coroutine.resume();
    const void* const first = place;
    std::printf("local +%d %s, ", static_cast<int>(reinterpret_cast<std::uintptr_t>(first) % 64), which);
    parameter(line{}).coroutine.resume();
    const void* const second = place;
    std::printf("parameter +%d %s, computed +%d\n", static_cast<int>(reinterpret_cast<std::uintptr_t>(second) % 64), which, static_cast<int>(computed));
}
CPP
run() { "$@" -std=c++20 -Wall -Wextra -Werror -Wno-psabi "$lab/aligned.cpp" -o "$lab/aligned" && "$lab/aligned"; }
for level in -O0 -O2; do
    expect "g++ 12 $level" "local +16 plain, parameter +16 plain, computed +16" "$(run "$gcc" $level)"
done
expect "clang 19 -O0" "local +16 plain, parameter +16 plain, computed +16" "$(run "$clang" -O0)"
expect "clang 19 -O2" "local +16 plain, parameter +16 plain, computed +0" "$(run "$clang" -O2)"
expect "clang 19 -fcoro-aligned-allocation" "local +0 aligned, parameter +0 aligned, computed +0" "$(run "$clang" -O2 -fcoro-aligned-allocation)"
finish
