#!/bin/sh
# The unit tests in the configurations below, and the forms in which the header may be included.
# Ends with "N passed, N failed".  CONFIGS="gcc-asan clang19-tsan" runs only these. What "long" stands before runs only
# when it is named: make check-long does. JOBS=2 run at once; each compiles one program at a time, for one unit is half of
# its work. A configuration that runs alone compiles JOBS programs at a time.
set -u
jobs=${JOBS:-2}
case $jobs in *[!0-9]*|0*) echo "JOBS=$jobs: give the number of programs that are compiled at once" >&2; exit 2 ;; esac
known=$(sed -n 's/^ *config \([a-z][^ ]*\) .*/\1/p; s/^ *long config \([a-z][^ ]*\) .*/long:\1/p; s/^ *step \([a-z][^ ]*\) .*/\1/p' "$0")
for name in ${CONFIGS:-}; do
    case " $(echo $known) " in *" $name "*|*" long:$name "*) ;; *) echo "CONFIGS: there is no configuration \"$name\"" >&2; exit 2 ;; esac
done
mkdir -p build/check
set -- ${CONFIGS:-$(echo "$known" | grep -v '^long:')}
if [ $# -gt 1 ]; then
    export NAMED="${CONFIGS:-}"
    printf '%s\n' "$@" | xargs -P "$jobs" -n 1 sh -c 'began=$(date +%s)
        CONFIGS=$1 JOBS=1 "$0" > "build/check/$1.sum" 2>&1
        printf "  %-5s %s\n" CHECK "$1  $(($(date +%s) - began)) s"' "$0"
    for name; do
        echo "==== $name"
        grep -vE '^[0-9]+ passed, 0 failed' "build/check/$name.sum"
    done
    tail -q -n 1 $(printf 'build/check/%s.sum ' "$@") | awk -v wanted=$# '
        /^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3; s += $5; seen++ }
        END { f += wanted - seen; printf "%d passed, %d failed%s\n", p, f, s ? ", " s " skipped" : ""; exit f != 0 }'
    exit
fi

chosen=$1
san=-fsanitize=address,undefined
noexc='-fno-exceptions -fno-rtti -DDOCTEST_CONFIG_NO_EXCEPTIONS_BUT_WITH_ALL_ASSERTS'
export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 TSAN_OPTIONS=halt_on_error=1:die_after_fork=0

step() { # name command...; .ci/run says until when something may begin
    [ "$1" = "$chosen" ] || return
    if [ "$(date +%s)" -ge "${UNTIL:-9999999999}" ]; then
        echo "SKIPPED $1, too late"
        echo "0 passed, 0 failed, 1 skipped"
        return
    fi
    shift
    "$@"
}
config() { # name compiler CXXFLAGS [make variables]
    step "$1" tests_of "$@"
}
long() { "$@"; }
tests_of() {
    name=$1 cxx=$2 flags=$3; shift 3
    command -v "$cxx" > /dev/null || { echo "no $cxx"; echo "0 passed, 1 failed"; return; }
    make -k -j"$jobs" B="build/check/$name" CXX="$cxx" CXXFLAGS="$flags" "$@" > "build/check/$name.out" 2>&1 ||
        grep -qE '^[0-9]+ passed, [1-9]' "build/check/$name.out" || echo "0 passed, 1 failed" >> "build/check/$name.out"
    tail -n 80 "build/check/$name.out"
}
# NaN, infinity and -0 where the compiler assumes that there are none: the tests of values, as one unit. When the
# configuration is named, also with those flags and no optimisation.
fast_math() {
    names="core families encoder numbers" dir=build/check/fast-math
    rm -rf $dir && mkdir -p $dir
    tests/support/together.sh $(some $names) > $dir/unit.cpp
    g++ -std=c++20 -c tests/support/runner.cpp -o $dir/runner.o
    for o in -Ofast ${NAMED:+-O0}; do
        for cxx in g++ clang++-19; do
            {
                made=$dir/$cxx-$o
                [ "$o" = -Ofast ] || { [ $cxx = g++ ] && o="-O0 -ffast-math" || o="-O0 -ffinite-math-only"; }
                # g++ 12 sees overlaps where there are none (its bug 105651)
                $cxx ${STRICT:--std=c++20} -Wno-unknown-warning-option -Wno-restrict -Wno-nan-infinity-disabled -Wno-deprecated-ofast $o \
                    -DPROMETHEUS_ASYNC_NO_NETWORK=1 -I. -Itests $dir/unit.cpp $dir/runner.o -o $made -pthread
                for name in $names; do
                    { $made "--source-file=*/test_$name.cpp" --no-skipped-summary; echo "exit $?"; } > $made-$name.log 2>&1
                done
            } &
            [ "$jobs" -gt 1 ] || wait
        done
        wait
    done
    tests/support/tally.sh $dir/*.log
}
# The protocol of the cells in every order, and its mutants.
model() {
    g++ ${STRICT:--std=c++20} -O1 tests/model/protocol.cpp -o build/check/model && build/check/model || echo "0 passed, 1 failed"
}
some() { for name in "$@"; do printf 'tests/test_%s.cpp ' "$name"; done; }

# The longest first: both processors are busy until the end.
{
    config clang16-asan clang++-16 "-O0 -g1 $san -fno-sanitize=function" test test-real
    config clang19-tsan clang++-19 "-O0 -g1 -fsanitize=thread" ONLY=. test
    config gcc-noexcept g++        "-O0 -g1 $noexc" WITHOUT=exceptions ONLY=. test
    # Optimised: this clang computes the address of a thread_local once for a coroutine
    config clang16-O2   clang++-16 "-O2 -g1" TESTS="$(some core thread_changes)" test
    # Every poller, under plain streams and TLS.
    network="$(grep -lE '^// needs-network' tests/test_*.cpp | tr '\n' ' ')"
    config poll         clang++-19 "-O0 -g1" CPPFLAGS=-DPROMETHEUS_ASYNC_POLLER_POLL=1 TESTS="$network" test test-real
    config kqueue       clang++-19 "-O0 -g1" CPPFLAGS='-Itests/support/kqueue -DPROMETHEUS_ASYNC_POLLER_KQUEUE=1' TESTS="$network" test test-real
    config no-threads   g++        "-O0 -g1" CPPFLAGS=-DPROMETHEUS_ASYNC_NO_THREADS=1 WITHOUT=threads ONLY=. test
    step forms tests/support/forms.sh
    cross="-O0 -g1 -Wno-psabi -idirafter /usr/include"
    # 32 bits, the big end first, and no 64-bit atomics
    config mips mips-linux-gnu-g++ "$cross" LDFLAGS=-static RUN=qemu-mips \
        TESTS="$(some core families encoder numbers text instruments tasks deferreds http_server http_syntax loop hash)" test
    step fast-math fast_math
    # What small machines are made of, under qemu-user: what is exact about bits, clocks, system calls and their structures
    small="$(some core numbers text native loop)"
    config arm     arm-linux-gnueabihf-g++ "$cross" LDFLAGS=-static RUN=qemu-arm TESTS="$(some http_server)$small" test
    config riscv64 riscv64-linux-gnu-g++   "$cross" LDFLAGS=-static RUN=qemu-riscv64 TESTS="$small" test
    config aarch64 aarch64-linux-gnu-g++   "$cross" LDFLAGS=-static RUN=qemu-aarch64 TESTS="$small" test
    config small-libc g++          "-O0 -g1" CPPFLAGS=-DPROMETHEUS_ASYNC_SMALL_LIBC=1 \
        TESTS="$(some server loop http_server pollers faults_loop faults_server failing_memory hash)" test
    config no-discovery g++        "-O0 -g1" CPPFLAGS=-DPROMETHEUS_ASYNC_NO_DISCOVERY=1 TESTS="$(some http_server auth)" test
    step model model
    # g++ compiles slowly with sanitizers and optimisation: what is most delicate under it
    long config gcc-asan     g++   "-O0 -g1 $san" TESTS="$(some options tasks core families instruments deferreds)" test
    long config gcc-tsan     g++   "-O0 -g1 -fsanitize=thread" TESTS="$(some core families instruments deferreds loop)" test
    long config gcc-O2       g++   "-O2 -g1" TESTS="$(some core encoder instruments)" test
    long config clang19-tsan-real clang++-19 "-O0 -g1 -fsanitize=thread" test-real
} | awk '/^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3; s += $5 } { print }
         END { if (p + f + s == 0) f = 1; printf "%d passed, %d failed%s\n", p, f, s ? ", " s " skipped" : ""; exit f != 0 }'
