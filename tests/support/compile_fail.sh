#!/bin/sh
# compile_fail.sh COMPILER FILE...: each file must not compile, and the text after its "// expect: " must stand in
# the first error or in that error's first note (their source lines included). One with a line "// links" must compile and
# not link: the text must stand in what the linker says. Ends with "N passed, N failed".
# The header is compiled once, before them all.
set -u
cxx=$1; shift
passed=0 failed=0
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
case $cxx in *clang*) made=pch once="-include-pch $dir/prometheus_async.hpp.pch" ;; *) made=gch once="-include $dir/prometheus_async.hpp" ;; esac
$cxx -std=c++20 -x c++-header prometheus_async.hpp -o "$dir/prometheus_async.hpp.$made" || { echo "0 passed, $# failed"; exit 1; }
for file in "$@"; do
    expect=$(sed -n 's,^// expect: ,,p' "$file")
    out=$($cxx -std=c++20 $once -I. -fsyntax-only -fdiagnostics-color=never "$file" 2>&1)
    rc=$?
    if [ $rc = 0 ] && grep -q '^// links$' "$file"; then
        said=$($cxx -std=c++20 $once -I. "$file" -o "$dir/linked" 2>&1) && rc=0 || rc=1
    else said=$(printf '%s\n' "$out" | awk '/ error: /{ if (++errors == 2) exit } / note: / && errors { if (++notes == 2) exit } errors')
    fi
    if [ $rc != 0 ] && [ -n "$expect" ] && printf '%s\n' "$said" | tr "‘’" "''" | grep -qF -- "$expect"; then passed=$((passed + 1))
    else
        failed=$((failed + 1))
        if [ $rc = 0 ]; then echo "FAILED: $file compiles"; else echo "FAILED: $file does not say: $expect"; printf '%s\n' "$said" | head -n 20; fi
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
