#!/bin/sh
# g++ 12.2.0 (Debian 12.2.0-14+deb12u1): `co_await f({.text = made()})`, an aggregate with a member that has a destructor.
# One would guess that as many objects are destroyed as are made; clang 19.1.7 (Debian 1:19.1.7-3~deb12u1) does so.
# g++ 12 destroys the member of the braced argument once more. With the aggregate in a variable before it, or without co_await,
# the counts are equal. (A library that takes options in braces keeps them trivially destructible for this reason.)
. "$(dirname "$0")/lib.sh"
cat > "$lab/twice.cpp" <<'CPP'
#include <coroutine>
#include <cstdio>
static int made, destroyed;
struct counted {
    counted() { ++made; }
    counted(const counted&) { ++made; }
    ~counted() { ++destroyed; }
};
struct options { int number = 0; counted text{}; };
struct task {
    struct promise_type {
        task get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
};
static std::suspend_never start(const options&) { return {}; }
#ifdef IN_VARIABLE
static task run() { const options o{.number = 1, .text = counted()}; co_await start(o); }
#else
static task run() { co_await start({.number = 1, .text = counted()}); }
#endif
int main() { run(); std::puts(destroyed == made ? "equal" : destroyed > made ? "more destroyed than made" : "fewer destroyed than made"); }
CPP
gcc12
"$gcc" -std=c++20 -O0 "$lab/twice.cpp" -o "$lab/twice" && expect "g++ 12.2.0, braced in co_await" "more destroyed than made" "$("$lab/twice")"
"$gcc" -std=c++20 -O0 -DIN_VARIABLE "$lab/twice.cpp" -o "$lab/twice" && expect "g++ 12.2.0, in a variable" equal "$("$lab/twice")"
clang19
"$clang" -std=c++20 -O0 "$lab/twice.cpp" -o "$lab/twice" && expect "clang 19.1.7, braced in co_await" equal "$("$lab/twice")"
finish
