#!/bin/sh
# g++ 12.2.0 (Debian 12.2.0-14+deb12u1) and clang 19.1.7 (Debian 1:19.1.7-3~deb12u1). An instrument that takes
# std::source_location::current() as a default argument, to name what it measures, called in a coroutine. One would guess that its
# function_name() is that of the coroutine, as in a function, and as __PRETTY_FUNCTION__ is there. In g++ 12 it is that of the
# function that the compiler made of the coroutine's body: another result type, and a mangled frame in place of the parameters, so
# that overloads, logs and labels do not have the names that clang and g++ 16 give them. A lambda within it has its own name.
. "$(dirname "$0")/lib.sh"
cat > "$lab/where.cpp" <<'CPP'
#include <coroutine>
#include <cstdio>
#include <source_location>
struct task {
    struct promise_type {
        task get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
    std::coroutine_handle<promise_type> frame;
};
static void measure(std::source_location at = std::source_location::current()) { std::puts(at.function_name()); }
struct server {
    task handle(int) {
        measure();
        std::puts(__PRETTY_FUNCTION__);
        co_return;
    }
    void plain(int) { measure(); }
};
int main() {
    server s;
    s.plain(1);
    s.handle(1).frame.destroy();
}
CPP
run() { "$@" -std=c++20 -Wall -Wextra -Werror "$lab/where.cpp" -o "$lab/where" && "$lab/where" | paste -sd';'; }
gcc12
expect "g++ 12" "void server::plain(int);void server::handle(server::handle(int)::_ZN6server6handleEi.Frame*);task server::handle(int)" "$(run "$gcc")"
clang19
expect "clang 19" "void server::plain(int);task server::handle(int);task server::handle(int)" "$(run "$clang")"
finish
