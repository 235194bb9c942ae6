#!/bin/sh
# Runs every benchmark program: each prints ratios against a peer or a plain limit of the same run.
for bench in "$B"/bench/bench_*; do
    [ -x "$bench" ] && [ ! -d "$bench" ] || continue
    echo "==== ${bench##*/}"; "$bench" || exit 1
done
for script in tests/bench/*.sh; do
    [ -f "$script" ] || continue
    echo "==== ${script##*/}"; sh "$script" || exit 1
done
