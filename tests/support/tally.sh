#!/bin/sh
# tally.sh LOG...: sums the results of test programs and scripts. Prints the logs that show a failure, removes
# them so that the next make runs them again, and ends with "N passed, N failed[, N skipped]" and the matching status. A log in which nothing ran is a failure.
passed=0 failed=0 skipped=0
for log in "$@"; do
    # doctest:  [doctest] test cases:  9 | 9 passed | 0 failed | 0 skipped      scripts:  9 passed, 0 failed
    set -- $(awk '/^\[doctest\] test cases:/ { p = $6; f = $9; s = $12; seen = 1 }
                  /^[0-9]+ passed, [0-9]+ failed/ { p = $1; f = $3; s = $5; seen = 1 }
                  /^exit [0-9]+$/ { rc = $2 }
                  END { if (!seen || p + f + s == 0) f = 1; if (rc != 0 && f == 0) f = 1; print p + 0, f + 0, s + 0 }' "$log")
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
    if [ "$2" != 0 ]; then echo "==== $log"; tail -n 60 "$log"; mv "$log" "$log.failed"; fi
done
if [ $skipped != 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"; else echo "$passed passed, $failed failed"; fi
[ $failed = 0 ]
