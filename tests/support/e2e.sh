#!/bin/sh
# Runs tests/e2e/*.sh but fetch.sh, one after another, each with a time limit. Ends with "N passed, N failed".
mkdir -p "$B/e2e"
B=$(cd "$B" && pwd) LAB=$(cd "$LAB" && pwd)
logs= n=0
set -- tests/support/examples.sh $(ls tests/e2e/*.sh | grep -v -e /fetch.sh -e /lib.sh)
for script in "$@"; do
    n=$((n + 1))
    log=$B/e2e/$(basename "$script" .sh).log
    printf '  %-5s %s\n' E2E "$n of $#  $script"
    timeout 900 sh "$script" > "$log" 2>&1; echo "exit $?" >> "$log"
    logs="$logs $log"
done
exec tests/support/tally.sh $logs
