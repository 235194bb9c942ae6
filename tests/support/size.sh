#!/bin/sh
# What the library costs in a binary, built for flash and stripped, beside the goal, beside prometheus-cpp's smallest server,
# by room, and beside the code that really runs. tests/size.txt holds the figures of the last change: it ends with an error when one grew by more than 2 %.
# UPDATE=1 writes that file. MUSL=1 builds for musl too, by zig, which takes minutes the first time.
set -eu
cxx=${CXX:-g++}
dir=$B/size
mkdir -p "$dir"
small="-std=c++20 -Os -ffunction-sections -fdata-sections -Wl,--gc-sections -pthread -I."
least="-DPROMETHEUS_ASYNC_NO_NATIVE=1 -DPROMETHEUS_ASYNC_NO_GZIP=1"
lean="-fno-exceptions -fno-rtti -fno-unwind-tables -fno-asynchronous-unwind-tables"
grown=0
: > "$dir/now"

row() { # label bytes goal
    printf '%s %s\n' "$2" "$1" >> "$dir/now"
    before=$(sed -n "s/^\([0-9]*\) $1\$/\1/p" tests/size.txt 2> /dev/null || :)
    change=
    [ -n "$before" ] && change=$(awk "BEGIN { printf \"%+.1f %%\", ($2 / $before - 1) * 100 }")
    [ -n "$before" ] && [ "$2" -gt $((before + before / 50)) ] && grown=1 change="$change GREW"
    printf '  %-52s %9d  %9s  %s\n' "$1" "$2" "${3:-}" "$change"
}
build() { # label goal source compiler flags...
    label=$1 goal=$2 source=$3; shift 3
    "$@" $small -s "$source" -o "$dir/out" 2> "$dir/err" || { printf '  %-52s not built: %s\n' "$label" "$(head -1 "$dir/err")"; return 0; }
    row "$label" "$(wc -c < "$dir/out")" "$goal"
}

printf 'int main() {}\n' > "$dir/empty.cpp"
cat > "$dir/all.cpp" <<'EOC'
#define PROMETHEUS_ASYNC_NO_GZIP 0
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
namespace prom = prometheus_async;
prom::histogram seconds{"request_seconds", "Time."};
prom::summary sizes{"request_bytes", "Size."};
prom::family<prom::counter, "status"> requests{"requests_total", "Requests."};
prom::family<prom::gauge, "queue"> depth{"queue_depth", "Depth."};
prom::task<int> run(prom::event_loop& loop) {
    prom::consul_agent consul{{.name = "hello"}};
    prom::file_sd file{{.path = "targets.json"}};
    auto one = co_await prom::start_http_server(loop, {.service_discovery = &consul, .self_metrics = true});
    const prom::credential known[] = {{.user = "user", .secret = "secret"}};
    auto two = co_await prom::start_http_server(loop, {.service_discovery = &file, .credentials = known});
    if (!one || !two) co_return 1;
    prom::add_process_metrics(prom::default_registry());
    requests(200).inc(), depth("in").set(1), seconds.observe(0.1), sizes.observe(1);
    co_await loop.sleep(1);
    co_return 0;
}
int main() {
    prom::event_loop loop;
    return loop.run(run(loop));
}
EOC
cat > "$dir/metrics.cpp" <<'EOC'
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include <cstdio>
prometheus_async::counter events{"events_total", "Events."};
int main() {
    events.inc();
    std::fputs(prometheus_async::expose().c_str(), stdout);
}
EOC

printf '  %-52s %9s  %9s  %s\n' "" bytes goal "since tests/size.txt"
quickstart=examples/01_quickstart.cpp
build "an empty program, static"               ""     "$dir/empty.cpp" $cxx -static
build "the quickstart, dynamic"                ""     $quickstart $cxx
build "the quickstart, dynamic, lean"          110592 $quickstart $cxx $lean
build "the same, NO_NATIVE, NO_GZIP"           81920  $quickstart $cxx $lean $least
build "the quickstart, dynamic, smallest"      ""     $quickstart $cxx $lean $least \
      -flto -no-pie -Wl,-z,noseparate-code -Wl,--build-id=none
build "the quickstart, static, lean"           ""     $quickstart $cxx -static $lean
build "all of the library, dynamic, lean"      ""     "$dir/all.cpp" $cxx $lean
$cxx $small $lean -DPROMETHEUS_ASYNC_NO_NETWORK=1 "$dir/metrics.cpp" -o "$dir/metrics"
own=$(nm -S -C --defined-only "$dir/metrics" | awk '$3 ~ /[tTwW]/ && /prometheus_async/ && !seen[$1]++ { print $2 }' |
    while read -r hex; do echo $((0x$hex)); done | awk '{ n += $1 } END { print n }')
row "a counter and expose(): code of the library alone" "$own" 24576
$cxx $small $lean "$dir/metrics.cpp" -o "$dir/metrics"
for name in socket getaddrinfo epoll_wait; do
    if nm -D "$dir/metrics" | grep -qw "U $name"; then echo "  a counter and expose() link $name"; grown=1; fi
done
for name in protobuf_format openmetrics_2_format native_view sink_state take_buckets take_labels take_only tell_ \
    copy_lines siphash find_twin recycle_removed time_and_exemplar begin_created; do
    if nm -C "$dir/metrics" | grep -q "[:(]$name"; then echo "  a counter and expose() link $name"; grown=1; fi
done
cat > "$dir/push.cpp" <<'EOC'
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
namespace prom = prometheus_async;
prom::counter events{"events_total", "Events."};
prom::task<int> run(prom::event_loop& loop) {
    prom::consul_agent consul{{.name = "hello"}};
    auto server = co_await prom::start_http_server(loop, {.service_discovery = &consul, .self_metrics = true});
    if (!server) co_return 1;
#ifdef PUSHES
    prom::pushgateway gateway(loop, {.job = "hello"});
    prom::textfile file({.path = "hello.prom"});
    if (!co_await gateway.push() || !co_await gateway.close() || !file.write()) co_return 1;
#endif
    co_await loop.sleep(1);
    co_return 0;
}
int main() {
    prom::event_loop loop;
    return loop.run(run(loop));
}
EOC
$cxx $small $lean "$dir/push.cpp" -o "$dir/push0"
$cxx $small $lean -DPUSHES "$dir/push.cpp" -o "$dir/push1"
push=$(($(size "$dir/push1" | awk 'NR == 2 { print $1 }') - $(size "$dir/push0" | awk 'NR == 2 { print $1 }')))
row "push and textfile: code and constants, two programs" "$push" 12288
if [ -n "${MUSL:-}" ]; then
    export ZIG_GLOBAL_CACHE_DIR="$B/zig/cache" ZIG_LOCAL_CACHE_DIR="$B/zig/cache"
    zig=$(tests/support/zig.sh "$B/zig")
    no_abort='-D_LIBCPP_VERBOSE_ABORT(...)=__builtin_abort()'  # libc++'s own function brings the unwinder and the demangler
    for target in x86_64-linux-musl=192512=163840 thumb-linux-musleabihf=153600= arm-linux-musleabihf== aarch64-linux-musl== riscv64-linux-musl== mipsel-linux-musl==; do
        on=${target%%=*} goals=${target#*=}
        cpu=
        [ "$on" != thumb-linux-musleabihf ] || cpu=-mcpu=cortex_a7  # armhf as distributions build it: ARMv7, Thumb-2
        set -- "$zig" c++ -target "$on" $cpu -static "$no_abort" $lean
        build "the quickstart, static, lean, $on" "${goals%=*}" $quickstart "$@"
        build "the same, NO_NATIVE, NO_GZIP, $on" "${goals#*=}" $quickstart "$@" $least
    done
    build "all of the library, static, lean, x86_64-linux-musl" 307200 "$dir/all.cpp" "$zig" c++ -target x86_64-linux-musl -static "$no_abort" $lean
fi
peer=0
for so in libprometheus-cpp-core.so libprometheus-cpp-pull.so libcivetweb.so libz.so; do
    file=$(readlink -f "$($cxx -print-file-name=$so)")
    [ -f "$file" ] && peer=$((peer + $(wc -c < "$file")))
done
printf '  %-52s %9d\n' "what prometheus-cpp's server loads" $peer

echo
if command -v valgrind > /dev/null && [ "$(uname -m)" = x86_64 ]; then
    echo "  octets of code that one life of each program executes (tests/support/reached.py)"
    cat > "$dir/pushes.cpp" <<'EOC'
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
namespace prom = prometheus_async;
prom::counter events{"events_total", "Events."};
prom::task<int> run(prom::event_loop& loop, const char* url, const char* path) {
    prom::pushgateway gateway(loop, {.gateway = url, .job = "hello", .tries = 2, .push_at_end = false});
    prom::textfile file({.path = path, .keep_file = true});
    if (!co_await gateway.push() || co_await gateway.push() || !co_await gateway.close() || !file.write()) co_return 1;
    co_return 0;
}
int main(int, char** argv) {
    prom::event_loop loop;
    return loop.run(run(loop, argv[1], argv[2]));
}
EOC
    $cxx $small $lean $quickstart -o "$dir/lives"
    $cxx $small $lean $least $quickstart -o "$dir/lives-least"
    $cxx $small $lean "$dir/pushes.cpp" -o "$dir/pushes"
    python3 tests/support/reached.py serve "$dir/lives" "the quickstart, dynamic, lean" 110592
    python3 tests/support/reached.py serve "$dir/lives-least" "the same, NO_NATIVE, NO_GZIP" 81920
    python3 tests/support/reached.py run "$dir/pushes" "push and textfile" 12288 "$dir/push0" "$push"
else
    echo "  WHAT RUNS IS NOT MEASURED: this needs valgrind on x86-64"
fi

echo
echo "  the implementation by room, -Os, lean: bytes of code and constants, used or not"
$cxx -std=c++20 -Os -g $lean -DPROMETHEUS_ASYNC_IMPLEMENTATION -x c++ -c prometheus_async.hpp -o "$dir/unit.o"
python3 tests/support/rooms.py prometheus_async.hpp "$dir/unit.o"
if $cxx --version | grep -q 'Free Software'; then  # clang's frames are not in the object
    echo
    echo "  the frames of the coroutines, in octets of heap while each runs"
    python3 tests/support/frames.py "$dir/unit.o"
fi
if [ -n "${UPDATE:-}" ]; then
    [ -n "${MUSL:-}" ] || sed -n '/musl/p' tests/size.txt >> "$dir/now" 2> /dev/null || :
    cp "$dir/now" tests/size.txt
    grown=0
fi
[ $grown = 0 ] || { echo "  a figure grew by more than 2 %, or what is not used was linked: if it is meant, make size UPDATE=1"; exit 1; }
