#!/bin/sh
# g++ 12.2.0 (Debian 12.2.0-14+deb12u1) and g++ 16.2.0 (Debian sid 16.2.0-4), -std=c++20, -O0 and -O2. In a coroutine:
# `co_await connected() && push(render())`. One would guess that `render` is called after the wait, and only if it gave true, as
# the language has it for && and as clang 19.1.7 (Debian 1:19.1.7-3~deb12u1) does. g++ calls `push` under that condition, but makes the
# temporary objects of its arguments before the wait, whatever comes of it: the page is rendered, a connection or a lock is taken, for
# nothing, and from the state before. The same with ||, in the condition of `if`, and for an int that is bound to a reference.
# The orders that the language fixes, in braces (`pair{co_await first(), render()}`) and of `<<`, are broken likewise: a temporary object
# of the right is made before the wait at the left. There is no warning. ?: is right, and so are arguments without a temporary object.
# What to do: await in a statement of its own, then test the variable; or a nested `if`.
. "$(dirname "$0")/lib.sh"
gcc12
clang19
cat > "$lab/and.cpp" <<'CPP'
#include <coroutine>
#include <cstdio>
#include <string>
static std::string log;
struct page {
    page() { log += "rendered "; }
    page(const page&) = delete;
    page& operator=(const page&) = delete;
    ~page() { log += "gone "; }
};
static page render() { return page{}; }
static int count() { log += "counted "; return 1; }
static bool push(const page&) { log += "pushed "; return true; }
static bool push_reference(const int&) { log += "pushed "; return true; }
static bool push_value(int) { log += "pushed "; return true; }
struct waited {
    bool answer;
    bool await_ready() const noexcept { return true; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    bool await_resume() const { log += answer ? "yes " : "no "; return answer; }
};
struct task {
    struct promise_type {
        task get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
    std::coroutine_handle<promise_type> coroutine;
};
static void end(bool result) { log += result ? "true" : "false"; }
static task both() { const bool result = co_await waited{false} && push(render()); end(result); }
static task either() { const bool result = co_await waited{true} || push(render()); end(result); }
static task condition() { if (co_await waited{false} && push(render())) end(true); else end(false); }
static task reference() { const bool result = co_await waited{false} && push_reference(count()); end(result); }
static task value() { const bool result = co_await waited{false} && push_value(count()); end(result); }
static task ternary() { const bool result = co_await waited{false} ? push(render()) : false; end(result); }
static task variable() { const bool connected = co_await waited{false}; const bool result = connected && push(render()); end(result); }
struct pair { bool first, second; pair(bool one, bool two) : first(one), second(two) {} };
static task braces() { const pair result{co_await waited{true}, push(render())}; end(result.second); }
struct stream {
    const stream& operator<<(bool) const { log += "<< "; return *this; }
    const stream& operator<<(const page&) const { log += "<< "; return *this; }
};
static task shift() { const stream to; to << co_await waited{true} << render(); }
int main() {
    for (task (*const run)() : {both, either, condition, reference, value, ternary, variable, braces, shift}) {
        log.clear();
        run().coroutine.destroy();
        std::printf("%s%s", run == both ? "" : " | ", log.c_str());
    }
    std::puts("");
}
CPP
build() { "$@" -std=c++20 -Wall -Wextra -Werror "$lab/and.cpp" -o "$lab/and"; }
right='no false | yes true | no false | no false | no false | no false | no false | yes rendered pushed gone true | yes << rendered << gone '
wrong='rendered no gone false | rendered yes gone true | rendered no gone false | counted no false | no false | no false | no false | rendered yes pushed gone true | rendered yes << << gone '
build "$clang" -O0
expect "clang 19" "$right" "$("$lab/and")"
for level in -O0 -O2; do
    build "$gcc" $level
    expect "g++ 12 $level" "$wrong" "$("$lab/and")"
done
unset LD_LIBRARY_PATH
gcc16
for level in -O0 -O2; do
    # shellcheck disable=SC2086
    build $gcc16 $level
    expect "g++ 16 $level" "$wrong" "$($own "$lab/and")"
done
finish
