#!/bin/sh
# Runs the built examples that end by themselves and compares what they print with what their first comment says:
# the indented lines after "// prints". Ends with "N passed, N failed".
set -u
passed=0 failed=0
for source in examples/[0-9]*.cpp; do
    said=$(awk '/^\/\/ prints$/ { on = 1; next } on && /^\/\/ [^ ]/ { exit } on && !/^\/\// { exit } on { sub(/^\/\/(     )?/, ""); print }' "$source" | sed '/./,$!d')
    [ -n "$said" ] || continue
    program=$B/examples/$(basename "$source" .cpp)
    [ -x "$program" ] || { echo "FAILED: $program is not built"; failed=$((failed + 1)); continue; }
    if [ "$(timeout 20 "$program" 2>&1)" = "$said" ]; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAILED: $program does not print what $source says:"; timeout 20 "$program" | head -n 30; fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
