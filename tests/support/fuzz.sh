#!/bin/sh
# fuzz.sh SECONDS [program...]: builds the tests/fuzz_*.cpp with libFuzzer, ASan and UBSan, replays the seeds of each
# (tests/corpus/<name>/) and fuzzes for so long. Ends with "N passed, N failed": one for each program.
# They are compiled as one unit; what a process fuzzes is the name by which it was started. For less than a minute each it is
# not optimised, which would take longer than it wins.
set -u
span=${1:-20}; [ $# -gt 0 ] && shift
case $span in *[!0-9]*|0*) echo "SECONDS=$span: give the seconds that each fuzzer runs, 1 or more" >&2; exit 2 ;; esac
cxx=${FUZZ_CXX:-clang++-19}
level=-O1; [ "$span" -ge 60 ] || level=-O0
[ $# -gt 0 ] || set -- tests/fuzz_*.cpp
mkdir -p build/fuzz
# What is freed is kept from use for a while: for 256 MB of it, by default, which a short run never fills again.
export ASAN_OPTIONS="${ASAN_OPTIONS:-quarantine_size_mb=16:malloc_context_size=8}"
{
    tests/support/together.sh "$@" |
        sed 's,^#include "tests/fuzz_\(.*\)\.cpp"$,#define LLVMFuzzerTestOneInput fuzz_\1_input\n&\n#undef LLVMFuzzerTestOneInput,'
    echo 'static int (*chosen)(const unsigned char*, std::size_t);'
    echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) { return chosen(data, size); }'
    echo 'extern "C" int LLVMFuzzerInitialize(int*, char*** arguments) {'
    echo '    const std::string path = **arguments, name = path.substr(path.rfind(0x2f) + 1);'
    for source; do
        name=$(basename "$source" .cpp)
        echo "    if (name == \"${name#fuzz_}\") chosen = &$name::${name}_input;"
    done
    echo '    return chosen ? 0 : 2;'
    echo '}'
} > build/fuzz/all.cpp
printf 'fun:%s\n' '_ZN4flat*' '_ZNSt*' '_ZNKSt*' '_ZSt*' > build/fuzz/no_coverage  # decoders and the standard library steer no fuzzer
$cxx -std=c++20 $level -g1 -fsanitize=fuzzer,address,undefined -fno-sanitize=function -fno-sanitize-recover=undefined \
    -fsanitize-coverage-ignorelist=build/fuzz/no_coverage -I. -Itests build/fuzz/all.cpp -o build/fuzz/all -pthread $(sed -n 's,^// libs:,,p' "$@" | sort -u) > build/fuzz/all.log 2>&1 ||
    { tail -n 40 build/fuzz/all.log; echo "FAILED: the fuzzers do not compile"; echo "0 passed, $# failed"; exit 1; }
one() { # source: its log ends with a line for the tally
    name=$(basename "$1" .cpp); name=${name#fuzz_}
    mkdir -p "build/fuzz/$name.found"
    ln -f build/fuzz/all "build/fuzz/$name"
    most=$(sed -n 's,^// max_len: ,,p' "$1")
    if "build/fuzz/$name" -max_total_time="$span" -rss_limit_mb=2048 -timeout=20 -max_len="${most:-4096}" -artifact_prefix="build/fuzz/$name-" \
            "build/fuzz/$name.found" "tests/corpus/$name" > "build/fuzz/$name.log" 2>&1
    then printf '  %-5s %s: %s\n' FUZZ "$1" "$(grep -o 'Done.*' "build/fuzz/$name.log" | tail -n 1)"
    else echo "FAILED $1"; tail -n 40 "build/fuzz/$name.log"; fi > "build/fuzz/$name.end"
}
# Two at a time.
sources=$*
while [ $# -gt 0 ]; do
    one "$1" & shift
    if [ $# -gt 0 ]; then one "$1" & shift; fi
    wait
done
passed=0 failed=0
for source in $sources; do
    name=$(basename "$source" .cpp)
    cat "build/fuzz/${name#fuzz_}.end"
    if grep -q '^FAILED' "build/fuzz/${name#fuzz_}.end"; then failed=$((failed + 1)); else passed=$((passed + 1)); fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
