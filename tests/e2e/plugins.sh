#!/bin/sh
# A program and two shared objects, linked to it or loaded, with the library inside: hidden, each has a registry of
# its own; exported from the program, they share one. Each totals exactly what its own code counted, also from
# threads that end after the object did its work or was closed. Nothing of the library is exported that can bind to
# another copy. PLUGINS=full tries every compiler, optimisation and switch; by itself, a choice that showed faults.
set -u
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
root=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
cat > "$dir/plugin.cpp" <<'CPP'
#if OWN
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#endif
#include "prometheus_async.hpp"
namespace prom = prometheus_async;
namespace {
struct kept {  // a user's own struct warns of no member of it
    prom::counter work{"work", HELP};
    prom::family<prom::gauge, "who"> level{"level", "By somebody."};
    prom::histogram latency{"latency_seconds", "By somebody.", {.buckets = BOUNDS}};
    prom::summary size{"size_bytes", "By somebody."};
    prom::info about{"about", "By somebody."};
    prom::state_set phase{"phase", "By somebody.", {.states = {"on", "off"}}};
};
kept& all() {
    static kept k;
    return k;
}
prom::task<int> answer(int n) { co_return n; }
#if !PROMETHEUS_ASYNC_NO_NETWORK
prom::task<int> sum(prom::deferred<int> a) { co_return co_await a + co_await answer(1); }
prom::task<int> serve(prom::event_loop& loop) {
    auto server = co_await prom::start_http_server(loop, {.addr = "127.0.0.1", .port = 0});
    if (!server) co_return 0;
    co_await loop.sleep(0);
    const int port = server->port();
    co_await server->close();
    co_return port;
}
#endif
}  // namespace
#define EXPORTED extern "C" __attribute__((visibility("default")))
EXPORTED void DO_WORK(int n) {
    for (int i = 0; i < n; ++i) {
        all().work.inc();
        all().level(NAME).set(i + 1);
        all().latency.observe(i);
        all().size.observe(i);
    }
    all().about.set({{"name", NAME}});
    all().phase.set("on");
    prom::time(all().latency)([](int x) { return x; })(1);
    auto timed = prom::time(all().latency)(answer);
    static_cast<void>(timed);
}
EXPORTED double DONE() { return all().work.value(); }
EXPORTED bool SHOWS(const char* what) { return prom::expose().find(what) != std::string::npos; }
EXPORTED bool CATCHES() {
    prom::deferred<int> d;
    d.add_callback([](int x) { return x; });
    d.fire(4);
#if !PROMETHEUS_ASYNC_NO_NETWORK
    prom::event_loop loop;
    if (loop.run(serve(loop)) == 0 || loop.run(sum(d)) != 5) return false;
#endif
    try {
        prom::default_registry().make_gauge("work", "Is a counter.");
    } catch (const prom::failure& f) {
        return f.why().code() == prom::errc::conflict;
    }
    return false;
}
CPP
cat > "$dir/host.cpp" <<'CPP'
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include <dlfcn.h>
#include <pthread.h>
#include <cstdio>
#include <thread>
namespace prom = prometheus_async;
#if LINKED
extern "C" { void one_do_work(int); double one_done(); bool one_shows(const char*); bool one_catches(); }
extern "C" { void two_do_work(int); double two_done(); bool two_shows(const char*); bool two_catches(); }
#endif
static void (*run[2])(int);
static double (*done[2])();
static bool (*shows[2])(const char*), (*catches[2])();
static int step;
static bool wrong(const char* what) { return std::printf("wrong: %s\n", what), true; }
int main(int argc, char** argv) {
    const bool shared = argc > 4;
    const prom::counter work{"work", shared ? "By all." : "By the host."};
    void* handle[2] = {};
#if LINKED
    run[0] = one_do_work, done[0] = one_done, shows[0] = one_shows, catches[0] = one_catches;
    run[1] = two_do_work, done[1] = two_done, shows[1] = two_shows, catches[1] = two_catches;
    static_cast<void>(argv);
#else
    const char* names[2][4] = {{"one_do_work", "one_done", "one_shows", "one_catches"}, {"two_do_work", "two_done", "two_shows", "two_catches"}};
    for (int i = 0; i < 2; ++i) {
        handle[i] = dlopen(argv[i + 1], RTLD_NOW | (argv[3][0] == 'g' ? RTLD_GLOBAL : RTLD_LOCAL));
        if (!handle[i]) return std::puts(dlerror()), 1;
        run[i] = reinterpret_cast<void (*)(int)>(dlsym(handle[i], names[i][0]));
        done[i] = reinterpret_cast<double (*)()>(dlsym(handle[i], names[i][1]));
        shows[i] = reinterpret_cast<bool (*)(const char*)>(dlsym(handle[i], names[i][2]));
        catches[i] = reinterpret_cast<bool (*)()>(dlsym(handle[i], names[i][3]));
    }
#endif
    std::thread threads[4];
    for (int i = 0; i < 4; ++i) threads[i] = std::thread([&, i] { run[i % 2](1000); work.inc(); });
    for (auto& t : threads) t.join();
    static pthread_key_t key;  // a thread that touches an object first when the destructors of keys run
    pthread_key_create(&key, [](void*) { run[0](1); });
    for (int i = 0; i < 5; ++i) std::thread([] { pthread_setspecific(key, &key); }).join();
    const double all = 4 + 4000 + 5;
    bool bad = false;
    if (work.value() != (shared ? all : 4)) bad = wrong("the host's total");
    if (done[0]() != (shared ? all : 2005) || done[1]() != (shared ? all : 2000)) bad = wrong("an object's total");
    for (int i = 0; i < 2; ++i) if (!catches[i]()) bad = wrong("an object's own failure, loop, server");
    if (!shows[0]("level{who=\"one\"}") || !shows[1]("level{who=\"two\"}") || shows[0]("level{who=\"two\"}") != shared) bad = wrong("a page");
    std::thread alive([] {  // it counted in an object that is closed before it ends
        run[1](1);
        __atomic_store_n(&step, 1, __ATOMIC_RELEASE);
        while (__atomic_load_n(&step, __ATOMIC_ACQUIRE) != 2) std::this_thread::yield();
    });
    while (__atomic_load_n(&step, __ATOMIC_ACQUIRE) != 1) std::this_thread::yield();
    for (void* h : handle) if (h) dlclose(h);
    __atomic_store_n(&step, 2, __ATOMIC_RELEASE);
    alive.join();
    std::thread([&] { work.inc(); }).join();
    if (work.value() != (shared ? all + 1 : 4) + 1) bad = wrong("the host's total at the end");
    return bad;
}
CPP
passed=0 failed=0
ok() { sentence=$1; shift; if "$@" > "$dir/out" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $sentence"; head -n 20 "$dir/out"; fi; }

# What an object may export of ours: what carries a type's identity, and with g++, which has no mark for them, the
# constructors, destructors and assignments that the language makes itself: they reach no state.
exports() { # file: prints what is exported and should not be
    nm -D --defined-only "$1" | awk '{print $NF}' | grep -E '^_ZN?K?[VRO]*16prometheus_async|^_ZNK?[VRO]*16prometheus_async|^_Z(T[VISTHW]|G[VR])N?16prometheus_async' |
        c++filt | sed -E 's/prometheus_async::v1[a-z_]*:://g' | grep -vxE "$typed" | grep -vxE "$made"
}
typed='(vtable for|typeinfo for|typeinfo name for) (failure|collector|tls_session|service_discovery|consul_agent|file_sd)'
languages='(.*::)?([a-z_]+)(<.*>)?::(~\2\(\)|\2\(\)|\2\((.*::)?\2(<.*>)?( const)?&+\)|operator=\(.*&\)|value_awaiter::deferred_awaiter\(.*\))'
private() { [ $cxx = g++ ] || made='nothing'; ! exports "$1" | grep .; }

build() { # object-or-host extra flags...
    $cxx -std=c++20 -Wall -Wextra -Werror $opt -I"$root" $with "$@" -pthread
}
objects() { # directory suffix own flags...
    for name in one two; do
        help='"By '$name'."'; [ $own = 1 ] || help='"By all."'
        bounds='{1, 2, 3}'; [ $name = one ] || bounds='{1, 2, 3, 4, 5}'
        build -fPIC -shared $flags -DOWN=$own -DNAME="\"$name\"" -DHELP="$help" -DBOUNDS="$bounds" -DDO_WORK=${name}_do_work \
            -DDONE=${name}_done -DSHOWS=${name}_shows -DCATCHES=${name}_catches "$dir/plugin.cpp" -o "$dir/lib$name.so" || return 1
    done
}
tries() { # cxx opt with
    cxx=$1 opt=$2 with=$3 what="$1 $2 $3" made=$languages
    own=1 flags=
    ok "two objects build, without a warning: $what" objects
    ok "an object exports nothing of the library: $what" private "$dir/libone.so"
    ok "a host of loaded objects builds: $what" build "$dir/host.cpp" -o "$dir/host" -ldl
    ok "loaded objects count exactly, local: $what" "$dir/host" "$dir/libone.so" "$dir/libtwo.so" local
    ok "loaded objects count exactly, global: $what" "$dir/host" "$dir/libone.so" "$dir/libtwo.so" global
    ok "a host of linked objects builds: $what" build -DLINKED=1 "$dir/host.cpp" -o "$dir/linked" -L"$dir" -lone -ltwo -Wl,-rpath,"$dir" -ldl
    ok "linked objects count exactly: $what" "$dir/linked" - - -
}
shares() { # cxx opt with
    cxx=$1 opt=$2 with=$3 what="$1 $2 $3"
    own=0 flags=-DPROMETHEUS_ASYNC_SHARED=1
    ok "two objects build for one library: $what" objects
    ok "their host builds: $what" build $flags -rdynamic "$dir/host.cpp" -o "$dir/host" -ldl
    ok "they count as one: $what" "$dir/host" "$dir/libone.so" "$dir/libtwo.so" local shared
}
forgotten() {
    cxx=g++ opt=-O0 with=$none own=0 flags=
    ! objects > "$dir/said" 2>&1 && grep -q "IMPLEMENTATION_in_exactly_one_source_file_or_PROMETHEUS_ASYNC_SHARED_in_all" "$dir/said"
}
none=-DPROMETHEUS_ASYNC_NO_NETWORK=1
ok "a plugin without an implementation names both ways when it is linked" forgotten
if [ "${PLUGINS:-}" = full ]; then
    for cxx in g++ clang++-16 clang++-19; do
        command -v $cxx > /dev/null || { echo "FAILED: no $cxx"; failed=$((failed + 1)); continue; }
        for opt in -O0 -O1 -O2; do
            for with in "" $none; do tries $cxx $opt "$with"; shares $cxx $opt "$with"; done
        done
    done
else
    tries g++ -O0 ""
    tries clang++-16 -O0 $none
    tries g++ -O1 $none
    shares g++ -O0 $none
    shares clang++-16 -O1 $none
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
