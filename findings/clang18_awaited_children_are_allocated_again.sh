#!/bin/sh
# clang 16.0.6 (Debian 1:16.0.6-15~deb12u1), clang 19.1.7 (Debian 1:19.1.7-3~deb12u1) and g++ 12.2.0 (Debian 12.2.0-14+deb12u1), -O2: a
# coroutine that awaits ten others, one after the other, by symmetric transfer. clang is known to put such a child into the frame of
# its parent instead of allocating it, and one would guess that a newer clang does so at least as often. clang 16 (17.0.6 too) asks
# the promise's operator new for none of the eleven frames, clang 19 (18.1.8 and 22.1.8 too) for each child: only the outermost, which
# is not awaited, is spared. g++ allocates all. So the numbers of allocations that a benchmark found with one clang do not hold for
# the next, and an operator new that counts or limits frames is not asked for those that are spared.
. "$(dirname "$0")/lib.sh"
gcc12
clang19
debs clang-16=1:16.0.6-15~deb12u1 libclang-cpp16=1:16.0.6-15~deb12u1 libllvm16=1:16.0.6-15~deb12u1 libclang-common-16-dev=1:16.0.6-15~deb12u1
cat > "$lab/children.cpp" <<'CPP'
#include <coroutine>
#include <cstdio>
#include <cstdlib>
#include <utility>
static int allocated;
struct task {
    struct promise_type {
        std::coroutine_handle<> parent = std::noop_coroutine();
        int value = 0;
        static void* operator new(std::size_t n) { return ++allocated, std::malloc(n); }
        static void operator delete(void* p) { std::free(p); }
        task get_return_object() { return task{std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        struct end {
            bool await_ready() noexcept { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> h) noexcept { return h.promise().parent; }
            void await_resume() noexcept {}
        };
        end final_suspend() noexcept { return {}; }
        void return_value(int v) { value = v; }
        void unhandled_exception() { std::abort(); }
    };
    explicit task(std::coroutine_handle<promise_type> h) : frame(h) {}
    task(task&& from) noexcept : frame(std::exchange(from.frame, nullptr)) {}
    ~task() { if (frame) frame.destroy(); }
    bool await_ready() { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> parent) { return frame.promise().parent = parent, frame; }
    int await_resume() { return frame.promise().value; }
    std::coroutine_handle<promise_type> frame;
};
static task child(int i) { co_return i; }
static task parent() {
    int sum = 0;
    for (int i = 1; i <= 10; ++i) sum += co_await child(i);
    co_return sum;
}
int main() {
    task all = parent();
    all.frame.resume();
    std::printf("sum %d, frames allocated: %d\n", all.frame.promise().value, allocated);
}
CPP
run() { "$@" -std=c++20 -Wall -Wextra -Werror "$lab/children.cpp" -o "$lab/children" && "$lab/children"; }
clang16=$lab/root/usr/lib/llvm-16/bin/clang++
expect "g++ 12 -O2" "sum 55, frames allocated: 11" "$(run "$gcc" -O2)"
expect "clang 16 -O0" "sum 55, frames allocated: 11" "$(run "$clang16" -O0)"
expect "clang 16 -O2" "sum 55, frames allocated: 0" "$(run "$clang16" -O2)"
expect "clang 19 -O2" "sum 55, frames allocated: 10" "$(run "$clang" -O2)"
finish
