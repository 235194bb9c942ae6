#!/bin/sh
# g++ 12.2.0 (Debian 12.2.0-14+deb12u1), g++ 16.2.0 (Debian sid 16.2.0-4) and clang 19.1.7 (Debian 1:19.1.7-3~deb12u1; 16.0.6 does
# the same), -O2: a header with an inline coroutine, used in eight files. Of an inline function each object file has one where it is not
# inlined, and the linker keeps one. One would guess that a coroutine's body, which cannot be inlined where a resume calls it, is kept
# once too. The compilers inline the coroutine's beginning, which is short, and the body is then a local function of each file: the
# program has it eight times, and --gc-sections removes none. So a library of headers costs its coroutines again in each file that
# uses them, and a profile has eight of one name. With [[gnu::noinline]] g++ has one, and clang has one with --gc-sections.
# What to do: that, or define coroutines in one file.
. "$(dirname "$0")/lib.sh"
cat > "$lab/header.hpp" <<'CPP'
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
inline volatile int shown;
[[gnu::noinline]] inline void function(int n) { shown = n; }
BEGINNING inline task coroutine(int n) {
    function(n);
    co_await std::suspend_always{};
    function(n + 1);
}
CPP
for i in 1 2 3 4 5 6 7 8; do printf '#include "header.hpp"\ntask use%s(int n) { return function(n), coroutine(n); }\n' $i > "$lab/$i.cpp"; done
# How many bodies a library of the eight files has.
count() { # macros linker's-flags compiler...
    macros=$1 flags=$2; shift 2
    for i in 1 2 3 4 5 6 7 8; do "$@" -std=c++20 -O2 -fPIC -ffunction-sections -Wall -Wextra -Werror "$macros" -c "$lab/$i.cpp" -o "$lab/$i.o"; done
    # shellcheck disable=SC2086
    ld -shared $flags "$lab"/[1-8].o -o "$lab/all.so"
    nm -C "$lab/all.so" | grep -cE ' coroutine\(.*\[clone .(actor|resume)\]$'
}
counts() { # compiler...
    echo "$(count -DBEGINNING= "" "$@"), $(count -DBEGINNING= --gc-sections "$@"); $(count -DBEGINNING='[[gnu::noinline]]' "" "$@"), $(count -DBEGINNING='[[gnu::noinline]]' --gc-sections "$@")"
}
gcc12
expect "g++ 12: bodies, with --gc-sections; noinline, with --gc-sections" "8, 8; 1, 1" "$(counts "$gcc")"
gcc16
# shellcheck disable=SC2086
expect "g++ 16" "8, 8; 1, 1" "$(counts $gcc16)"
clang19
expect "clang 19" "8, 8; 8, 1" "$(counts "$clang")"
finish
