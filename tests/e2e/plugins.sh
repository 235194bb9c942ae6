#!/bin/sh
# A program and two shared objects, linked to it or loaded, with the library inside: hidden, each has a registry of
# its own; exported from the program, they share one. Each totals exactly what its own code counted, also from
# threads that end after the object did its work or was closed, and threads that count while the program ends. Nothing
# of the library is exported that can bind to another copy (exports.py).
# PLUGINS=full tries every compiler, optimisation and switch; by itself, a choice that showed faults.
set -u
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
root=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
cat > "$dir/plugin.cpp" <<'CPP'
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
    const auto closed = co_await server->close();
    co_return closed ? port : 0;
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
    const auto all_verbs = prom::track_inprogress(all().level(NAME)) | prom::time(all().latency);
    static_cast<void>(all_verbs(answer));
    static_cast<void>(prom::time(all().latency)(prom::call_only([](int x) { return x; }))(1));
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
#include "prometheus_async.hpp"
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <cstdio>
#include <cstdlib>
#include <thread>
namespace prom = prometheus_async;
#define LINKED extern "C" __attribute__((weak))  // null when the objects are loaded
LINKED void one_do_work(int); LINKED double one_done(); LINKED bool one_shows(const char*); LINKED bool one_catches();
LINKED void two_do_work(int); LINKED double two_done(); LINKED bool two_shows(const char*); LINKED bool two_catches();
static void (*run[2])(int);
static double (*done[2])();
static bool (*shows[2])(const char*), (*catches[2])();
static int step;
static bool wrong(const char* what) { return std::printf("wrong: %s\n", what), true; }
static pthread_key_t key;
struct late { ~late() { run[0](1); } };
int main(int, char** argv) {  // linked, or local or global and two files; shared or -; quick or -
    const bool shared = argv[2][0] == 's', quick = argv[3][0] == 'q';
    static const prom::counter work{"work", shared ? "By all." : "By the host."};
    void* handle[2] = {};
    const char* names[2][4] = {{"one_do_work", "one_done", "one_shows", "one_catches"}, {"two_do_work", "two_done", "two_shows", "two_catches"}};
    run[0] = one_do_work, done[0] = one_done, shows[0] = one_shows, catches[0] = one_catches;
    run[1] = two_do_work, done[1] = two_done, shows[1] = two_shows, catches[1] = two_catches;
    for (int i = 0; i < 2 && !one_do_work; ++i) {
        handle[i] = dlopen(argv[i + 4], RTLD_NOW | (argv[1][0] == 'g' ? RTLD_GLOBAL : RTLD_LOCAL));
        if (!handle[i]) return std::puts(dlerror()), 1;
        run[i] = reinterpret_cast<void (*)(int)>(dlsym(handle[i], names[i][0]));
        done[i] = reinterpret_cast<double (*)()>(dlsym(handle[i], names[i][1]));
        shows[i] = reinterpret_cast<bool (*)(const char*)>(dlsym(handle[i], names[i][2]));
        catches[i] = reinterpret_cast<bool (*)()>(dlsym(handle[i], names[i][3]));
    }
    std::thread threads[4];
    for (int i = 0; i < 4; ++i) threads[i] = std::thread([&, i] { run[i % 2](1000); work.inc(); });
    for (auto& t : threads) t.join();
    bool bad = false;
    pthread_key_create(&key, [](void*) { run[0](1); });  // threads that touch an object first when keys' destructors run
    const int lates = 1000;
    std::size_t memory = 0;
    for (int i = 0; i < lates; ++i) {
        std::thread([] { pthread_setspecific(key, &key); }).join();
        if (i == 10) memory = mallinfo2().uordblks;
    }
    if (mallinfo2().uordblks > memory + 16 * lates) bad = wrong("memory is kept for threads that ended");
    std::thread([] {  // and one that does so once more after its thread_local objects are gone
        static thread_local late at_end;
        static_cast<void>(&at_end);
        run[0](1);
    }).join();
    const double all = 4 + 4000 + lates + 2;
    if (work.value() != (shared ? all : 4)) bad = wrong("the host's total");
    if (done[0]() != (shared ? all : 2000 + lates + 2) || done[1]() != (shared ? all : 2000)) bad = wrong("an object's total");
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
    std::thread([] { work.inc(); }).join();
    if (work.value() != (shared ? all + 1 : 4) + 1) bad = wrong("the host's total at the end");
    std::fflush(stdout);
    for (int i = 0; i < 4; ++i) std::thread([] {  // they count while the program ends
        for (;;) {
            if (!one_do_work) work.inc();
            else std::thread([] { work.inc(), run[0](1), run[1](1); }).join();
            __atomic_fetch_add(&step, 1, __ATOMIC_RELEASE);
        }
    }).detach();
    while (__atomic_load_n(&step, __ATOMIC_ACQUIRE) < 20) std::this_thread::yield();
    if (quick) std::quick_exit(bad);
    return bad;
}
CPP
cat > "$dir/opened.cpp" <<'CPP'
#include "prometheus_async.hpp"
namespace prom = prometheus_async;
namespace {
double workers = 4;
prom::counter work{"work", "Text of the object."};
prom::family<prom::gauge, "who"> level{"level", "Text of the object."};
prom::family<prom::histogram, "who"> spread{"spread_seconds", "Text of the object.", {.native = {.factor = 1.1}}};
prom::family<prom::min_max_gauge, "who"> depth{"depth", "Text of the object."};
prom::info about{"about", "Text of the object."};
prom::state_set phase{"phase", "Text of the object.", {.states = {"on", "off"}}};
const prom::callback_gauge size{"size", "Text of the object.", [] { return workers; }};
const prom::collector_handle disks = prom::default_registry().add_collector([](prom::sample_sink& out) {
    out.family(prom::metric_type::gauge, "disk", "Text of the object.");
    out.sample(workers, {{"mount", "/"}});
});
}  // namespace
extern "C" __attribute__((visibility("default"))) void do_work(int i) {
    work.inc(1, {.labels = {{"of", "object"}}}), about.set({{"name", "object"}}), phase.set("on");
    level("a").set(i), spread("a").observe(i), depth("a").observe(i);
    if (i % 3 == 0) level.remove("a"), spread.clear(), static_cast<void>(depth.remove_matching({{"who", "a"}}));
}
CPP
cat > "$dir/opens.cpp" <<'CPP'
#include "prometheus_async.hpp"
#include <dlfcn.h>
#include <atomic>
#include <cstdio>
#include <thread>
namespace prom = prometheus_async;
int main(int, char** argv) {  // pages are made while an object with metrics is loaded, works, and is unloaded, again and again
    std::atomic<bool> done = false;
    std::thread scraper([&] {
        using enum prom::format;
        while (!done) for (auto as : {text_0_0_4, text_1_0_0, openmetrics_1_0_0, openmetrics_2_0_0, protobuf}) (void)prom::expose({.as = as});
    });
    const int times = 40, each = 20;
    for (int i = 0; i < times; ++i) {
        void* object = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (!object) return std::puts(dlerror()), 1;
        auto work = reinterpret_cast<void (*)(int)>(dlsym(object, "do_work"));
        std::thread([&] { for (int n = 0; n < each; ++n) work(n); }).join();
        dlclose(object);
        if (dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD)) return std::puts("the object was not unloaded"), 1;
    }
    done = true;
    scraper.join();
    const std::string page = prom::expose();
    const auto shows = [&](const char* what) { return page.find(what) != std::string::npos; };
    const bool right = shows("work_total 800\n") && shows("# HELP level Text of the object.\n") && !shows("size") && !shows("disk");
    if (!right) std::printf("wrong page:\n%s", page.c_str());
    return !right;
}
CPP
cat > "$dir/all.cpp" <<'CPP'
#include "prometheus_async.hpp"  // all that is inline in it, and all members of its templates
namespace prom = prometheus_async;
template class prom::result<int>;
template class prom::task<int>;
template class prom::deferred<int>;
template class prom::outcome<int>;
template class prom::list<int>;
template class prom::callback<int(int)>;
template class prom::family<prom::counter, "who">;
template class prom::family<prom::histogram, "who", "what">;
CPP
passed=0 failed=0
ok() { sentence=$1; shift; if "$@" > "$dir/out" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $sentence"; head -n 20 "$dir/out"; fi; }

compile() { # source object extra flags...
    source=$1 object=$2; shift 2
    $cxx -std=c++20 -Wall -Wextra -Werror $opt -I"$root" $with $flags -fPIC "$@" -c "$dir/$source.cpp" -o "$dir/$object.o" -pthread
}
link() { $cxx $opt "$@" -pthread; }
objects() { # a library of the implementation, or of none, and one's or two's code
    for name in one two; do
        if [ -n "$implementation" ]; then help="By $name." bounds='{1, 2, 3}'; else help="By all." bounds='{1, 2}'; fi
        [ $name = one ] || [ -z "$implementation" ] || bounds='{1, 2, 3, 4, 5}'
        compile plugin $name -DNAME="\"$name\"" -DHELP="\"$help\"" -DBOUNDS="$bounds" -DDO_WORK=${name}_do_work -DDONE=${name}_done \
            -DSHOWS=${name}_shows -DCATCHES=${name}_catches &&
            link -shared "$dir/$name.o" $implementation -o "$dir/lib$name.so" || return 1
    done
}
private() { python3 "$root/tests/support/exports.py" "$dir/lib$1.so" $cxx; }
complete() { compile all all -fkeep-inline-functions && link -shared "$dir/all.o" "$dir/impl.o" -o "$dir/liball.so" && private all; }
linked() { link "$dir/host.o" "$dir/impl.o" -o "$dir/linked" -L"$dir" -Wl,--no-as-needed -lone -ltwo -Wl,-rpath,"$dir" -ldl; }
tries() { # cxx opt with
    cxx=$1 opt=$2 with=$3 what="$1 $2 $3" flags= implementation=$dir/impl.o
    ok "units build, without a warning: $what" eval "compile impl impl && compile host host && objects"
    ok "an object exports nothing of the library: $what" private one
    [ "$1 $2" != "g++ -O0" ] || ok "no inline function lacks its mark: $what" complete
    ok "a host of loaded objects links: $what" link "$dir/host.o" "$dir/impl.o" -o "$dir/host" -ldl
    ok "loaded objects count exactly, local: $what" "$dir/host" local - - "$dir/libone.so" "$dir/libtwo.so"
    ok "loaded objects count exactly, global: $what" "$dir/host" global - quick "$dir/libone.so" "$dir/libtwo.so"
    ok "a host of linked objects links: $what" linked
    ok "linked objects count exactly: $what" "$dir/linked" linked - -
    ok "linked objects count exactly, quick_exit: $what" "$dir/linked" linked - quick
}
shares() { # cxx opt with
    cxx=$1 opt=$2 with=$3 what="$1 $2 $3" flags=-DPROMETHEUS_ASYNC_SHARED=1 implementation=
    ok "units build for one library: $what" eval "compile impl impl && compile host host && objects"
    ok "their host links: $what" link -rdynamic "$dir/host.o" "$dir/impl.o" -o "$dir/host" -ldl
    ok "they count as one: $what" "$dir/host" local shared - "$dir/libone.so" "$dir/libtwo.so"
    opt="$2 -fsanitize=address"
    ok "a program that loads and unloads builds: $what" eval 'compile impl impl && compile opens opens && compile opened opened &&
        link -rdynamic "$dir/opens.o" "$dir/impl.o" -o "$dir/opens" -ldl && link -shared "$dir/opened.o" -o "$dir/libopened.so"'
    ok "an object is unloaded while pages are made, and its metrics stay: $what" "$dir/opens" "$dir/libopened.so"
}
forgotten() {
    cxx=g++ opt=-O0 with=$none flags= implementation=
    ! objects > "$dir/said" 2>&1 && grep -q "IMPLEMENTATION_in_exactly_one_source_file_or_PROMETHEUS_ASYNC_SHARED_in_all" "$dir/said"
}
printf '#define PROMETHEUS_ASYNC_IMPLEMENTATION\n#include "prometheus_async.hpp"\n' > "$dir/impl.cpp"
none=-DPROMETHEUS_ASYNC_NO_NETWORK=1
ok "a plugin without an implementation names both ways when it is linked" forgotten
if [ "${PLUGINS:-}" = full ]; then
    for cxx in g++ clang++-16 clang++-19; do
        command -v $cxx > /dev/null || { echo "FAILED: no $cxx"; failed=$((failed + 1)); continue; }
        for opt in -O0 -O1 -O2; do
            for with in "" $none; do tries $cxx $opt "$with"; shares $cxx $opt "$with"; done
        done
        tries $cxx "-O1 -fsanitize=address" $none
    done
else
    tries g++ -O0 ""
    tries clang++-16 -O1 $none
    tries g++ "-O0 -fsanitize=address" $none  # a leak fails
    shares g++ -O0 $none
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
