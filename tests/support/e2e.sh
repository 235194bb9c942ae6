#!/bin/sh
# Runs tests/e2e/*.sh but fetch.sh, each with a time limit: first, and alone, those that measure delays under load, then the
# others two at a time, since they mostly wait. Ends with "N passed, N failed".
mkdir -p "$B/e2e"
B=$(cd "$B" && pwd) LAB=$(cd "$LAB" && pwd) PORTS=$(mktemp -d)
export B LAB PORTS
trap 'rm -rf "$PORTS"' EXIT
alone="tests/e2e/abuse.sh tests/e2e/soak.sh"
others="tests/support/examples.sh $(ls tests/e2e/*.sh | grep -v -e /fetch.sh -e /lib.sh -e /abuse.sh -e /soak.sh)"
one='log=$B/e2e/$(basename "$1" .sh).log; began=$(date +%s)
    if [ $began -ge "${UNTIL:-9999999999}" ]; then  # .ci/run says until when something may begin
        printf "SKIPPED %s, too late\n0 passed, 0 failed, 1 skipped\nexit 0\n" "$1" | tee "$log"; exit
    fi
    timeout 1100 sh "$1" > "$log" 2>&1; echo "exit $?" >> "$log"
    printf "  %-5s %s\n" E2E "$1  $(($(date +%s) - began)) s"'
rm -f "$B"/e2e/*.log
printf '%s\n' $alone | xargs -n 1 sh -c "$one" one
printf '%s\n' $others | xargs -n 1 -P 2 sh -c "$one" one
tests/support/tally.sh $(for script in $alone $others; do echo "$B/e2e/$(basename "$script" .sh).log"; done)
