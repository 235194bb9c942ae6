#!/bin/sh
# g++ 12.2.0 (Debian 12.2.0-14+deb12u1) and clang 19.1.7 (Debian 1:19.1.7-3~deb12u1), -O2: the size of a coroutine's frame.
# One would guess that a parameter which nothing reads costs nothing. In clang it does not. In g++ each by-value parameter
# and each local of a scope that holds an await stands in the frame at its full size, also when it is never used after it.
. "$(dirname "$0")/lib.sh"
cat > "$lab/frame.cpp" <<'CPP'
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
    std::coroutine_handle<promise_type> h;
};
struct kilobyte { char octets[1024] = {}; };
__attribute__((noinline)) task plain(int) { co_await std::suspend_always{}; }
__attribute__((noinline)) task unused(kilobyte) { co_await std::suspend_always{}; }
int main() {
    auto a = plain(1);
    const std::size_t without = asked;
    auto b = unused({});
    std::puts(asked - without >= 1000 ? "grows by the parameter" : "does not grow");
    a.h.destroy(), b.h.destroy();
}
CPP
gcc12
"$gcc" -std=c++20 -O2 "$lab/frame.cpp" -o "$lab/frame" && expect "g++ 12.2.0" "grows by the parameter" "$("$lab/frame")"
clang19
"$clang" -std=c++20 -O2 "$lab/frame.cpp" -o "$lab/frame" && expect "clang 19.1.7" "does not grow" "$("$lab/frame")"
finish
