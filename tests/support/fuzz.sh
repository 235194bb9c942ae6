#!/bin/sh
# fuzz.sh SECONDS [program...]: builds each tests/fuzz_*.cpp with libFuzzer, ASan and UBSan, replays its seeds
# (tests/corpus/<name>/) and fuzzes for so long. Ends with "N passed, N failed": one for each program.
set -u
span=${1:-20}; [ $# -gt 0 ] && shift
case $span in *[!0-9]*|0*) echo "SECONDS=$span: give the seconds that each fuzzer runs, 1 or more" >&2; exit 2 ;; esac
cxx=${FUZZ_CXX:-clang++-19}
[ $# -gt 0 ] || set -- tests/fuzz_*.cpp
mkdir -p build/fuzz
one() { # source: its log ends with a line for the tally
    name=$(basename "$1" .cpp); name=${name#fuzz_}
    mkdir -p "build/fuzz/$name.found"
    if $cxx -std=c++20 -O1 -g1 -fsanitize=fuzzer,address,undefined -fno-sanitize=function -fno-sanitize-recover=undefined -I. \
            "$1" -o "build/fuzz/$name" -pthread $(sed -n 's,^// libs:,,p' "$1") > "build/fuzz/$name.log" 2>&1 &&
        "build/fuzz/$name" -max_total_time="$span" -rss_limit_mb=2048 -timeout=20 -max_len=4096 -artifact_prefix="build/fuzz/$name-" \
            "build/fuzz/$name.found" "tests/corpus/$name" >> "build/fuzz/$name.log" 2>&1
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
