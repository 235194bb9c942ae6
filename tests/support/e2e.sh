#!/bin/sh
# Runs tests/e2e/*.sh but fetch.sh, one after another, each with a time limit. Ends with "N passed, N failed".
mkdir -p "$B/e2e"
B=$(cd "$B" && pwd) LAB=$(cd "$LAB" && pwd)
logs=
for script in tests/support/examples.sh tests/e2e/*.sh; do
    case $script in */fetch.sh|*/lib.sh) continue ;; esac
    log=$B/e2e/$(basename "$script" .sh).log
    printf '  %-5s %s\n' E2E "$script"
    timeout 900 sh "$script" > "$log" 2>&1; echo "exit $?" >> "$log"
    logs="$logs $log"
done
exec tests/support/tally.sh $logs
