#!/bin/sh
# A program and two plugins that it loads, each with the library inside: hidden, each has a registry of its own;
# exported from the program, they share one. Each totals exactly what its own code counted, also from threads
# that end after the plugin did its work, and after a plugin was unloaded.
set -u
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
root=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
cat > "$dir/plugin.cpp" <<'CPP'
#if OWN
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#endif
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"
namespace prom = prometheus_async;
namespace {
prom::counter work{"work", "By " NAME};
prom::family<prom::gauge, "who"> level{"level", "By somebody."};
}
extern "C" __attribute__((visibility("default"))) void do_work(int n) {
    for (int i = 0; i < n; ++i) {
        work.inc();
        level(NAME).set(i + 1);
    }
}
extern "C" __attribute__((visibility("default"))) double done() { return work.value(); }
extern "C" __attribute__((visibility("default"))) bool shows(const char* what) { return prom::expose().find(what) != std::string::npos; }
CPP
sed -i 's/"By " NAME/HELP/' "$dir/plugin.cpp"
cat > "$dir/host.cpp" <<'CPP'
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include <dlfcn.h>
#include <cstdio>
#include <cstring>
#include <thread>
namespace prom = prometheus_async;
int main(int argc, char** argv) {
    const bool shared = argc > 3;
    const prom::counter work{"work", shared ? "By all." : "By the host."};
    void (*run[2])(int);
    double (*done[2])();
    bool (*shows[2])(const char*);
    void* handle[2];
    for (int i = 0; i < 2; ++i) {
        handle[i] = dlopen(argv[i + 1], RTLD_NOW | RTLD_LOCAL);
        if (!handle[i]) return std::puts(dlerror()), 1;
        run[i] = reinterpret_cast<void (*)(int)>(dlsym(handle[i], "do_work"));
        done[i] = reinterpret_cast<double (*)()>(dlsym(handle[i], "done"));
        shows[i] = reinterpret_cast<bool (*)(const char*)>(dlsym(handle[i], "shows"));
    }
    std::thread threads[4];
    for (int i = 0; i < 4; ++i) threads[i] = std::thread([&, i] { run[i % 2](1000); work.inc(); });
    for (auto& t : threads) t.join();
    run[0](5);
    const double all = 4 + 4000 + 5;
    const bool right = shared ? work.value() == all && done[0]() == all && done[1]() == all
                              : work.value() == 4 && done[0]() == 2005 && done[1]() == 2000;
    const bool apart = shows[0]("level{who=\"one\"}") && shows[1]("level{who=\"two\"}") && shows[0]("level{who=\"two\"}") == shared;
    for (void* h : handle) dlclose(h);
    std::thread([&] { work.inc(); }).join();
    return right && apart && work.value() == (shared ? all : 4) + 1 ? 0 : 1;
}
CPP
passed=0 failed=0
ok() { sentence=$1; shift; if "$@" > "$dir/out" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $sentence"; head -n 20 "$dir/out"; fi; }
for cxx in g++ clang++-16; do
    command -v $cxx > /dev/null || continue
    for mode in own shared; do
        own=1 flags= link= arg= one=-DHELP='"By one."' two=-DHELP='"By two."'
        if [ $mode = shared ]; then
            own=0 flags=-DPROMETHEUS_ASYNC_SHARED=1 link=-rdynamic arg=shared one=-DHELP='"By all."' two=-DHELP='"By all."'
        fi
        build() {
            $cxx -std=c++20 -O1 -I"$root" $flags $link "$dir/host.cpp" -o "$dir/host" -pthread -ldl &&
                $cxx -std=c++20 -O1 -fPIC -shared -I"$root" $flags -DOWN=$own -DNAME='"one"' "$one" "$dir/plugin.cpp" -o "$dir/one.so" &&
                $cxx -std=c++20 -O1 -fPIC -shared -I"$root" $flags -DOWN=$own -DNAME='"two"' "$two" "$dir/plugin.cpp" -o "$dir/two.so"
        }
        ok "a host and two plugins build: $cxx, $mode" build
        ok "a host and two plugins count exactly: $cxx, $mode" "$dir/host" "$dir/one.so" "$dir/two.so" $arg
    done
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
