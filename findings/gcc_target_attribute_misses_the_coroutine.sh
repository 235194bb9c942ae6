#!/bin/sh
# g++ 12.2.0 (Debian 12.2.0-14+deb12u1), g++ 16.2.0 (Debian sid 16.2.0-4) and clang 19.1.7 (Debian 1:19.1.7-3~deb12u1): a coroutine with
# __attribute__((target("avx2"))), as one has it for a fast path that is chosen at run time. One would guess that its body is compiled
# for AVX2, as a function with the attribute is, and as section("...") does hold for all parts of a coroutine. In g++ it holds for the
# beginning only, which runs up to the first wait: the body, which a resume runs, is compiled for the machine of the command line. It
# is correct and slow, and there is no warning. In clang all of it is compiled for AVX2.
# What to do: put the work in an ordinary function with the attribute, and call it.
. "$(dirname "$0")/lib.sh"
cat > "$lab/sum.cpp" <<'CPP'
#include <coroutine>
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
extern int data[1024];
__attribute__((target("avx2"))) void function(int n) {
    for (int& x : data) x += n;
}
__attribute__((target("avx2"))) task coroutine(int n) {
    co_await std::suspend_always{};
    for (int& x : data) x += n;
}
CPP
# Which functions have instructions of 256 bits.
wide() {
    "$@" -std=c++20 -O3 -Wall -Wextra -Werror -c "$lab/sum.cpp" -o "$lab/sum.o"
    objdump -d --no-show-raw-insn "$lab/sum.o" | awk '/^[0-9a-f]+ </ { f = $0 ~ /_Z8function/ ? "function" : "coroutine" } /%ymm/ { wide[f] = 1 }
        END { printf "function %s, coroutine %s", wide["function"] ? "yes" : "no", wide["coroutine"] ? "yes" : "no" }'
}
gcc12
expect "g++ 12" "function yes, coroutine no" "$(wide "$gcc")"
gcc16
# shellcheck disable=SC2086
expect "g++ 16" "function yes, coroutine no" "$(wide $gcc16)"
clang19
expect "clang 19" "function yes, coroutine yes" "$(wide "$clang")"
finish
