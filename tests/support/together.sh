#!/bin/sh
# together.sh FILE...: prints one unit that holds all these tests, each in a namespace of its own, after the header's
# implementation half and everything that any of them includes.
set -u
echo '#define PROMETHEUS_ASYNC_IMPLEMENTATION'
grep -hE '^#include "support/(faults|system)\.hpp"' "$@" | sort -u  # they come before the header
echo '#include "prometheus_async.hpp"'
# The includes, with the conditions around them.
awk '/^# *if/ { depth++; text[depth] = $0; used[depth] = 0; next }
     /^# *(else|elif)/ { text[depth] = text[depth] "\n" $0; next }
     /^# *endif/ {
         whole = text[depth] "\n" $0; any = used[depth]; depth--
         if (!any) next
         if (depth) { text[depth] = text[depth] "\n" whole; used[depth] = 1 } else print whole
         next
     }
     /^# *include/ && !/\.inc"/ { if (depth) { text[depth] = text[depth] "\n" $0; used[depth] = 1 } else print }' "$@"
echo '#if !defined(__clang__)'
echo '#pragma GCC diagnostic ignored "-Wsubobject-linkage"  // the tests are no headers, though they are included'
echo '#endif'
for file in "$@"; do
    echo "#undef PROMETHEUS_ASYNC_NO_NETWORK"
    echo "namespace $(basename "$file" .cpp) {"
    echo "#include \"$file\""
    echo "}"
done
