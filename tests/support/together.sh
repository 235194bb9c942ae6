#!/bin/sh
# together.sh FILE...: prints one unit that holds all these tests, each in a namespace of its own, after the header's
# implementation half and everything that any of them includes.
set -u
echo '#define PROMETHEUS_ASYNC_IMPLEMENTATION'
grep -hE '^#include "support/(faults|system)\.hpp"' "$@" | sort -u  # they come before the header
echo '#include "prometheus_async.hpp"'
for file in "$@"; do grep -E '^# *(include|if|ifdef|ifndef|elif|else|endif)\b' "$file" | grep -v '\.inc"'; done
echo '#if !defined(__clang__)'
echo '#pragma GCC diagnostic ignored "-Wsubobject-linkage"  // the tests are no headers, though they are included'
echo '#endif'
for file in "$@"; do
    echo "#undef PROMETHEUS_ASYNC_NO_NETWORK"
    echo "namespace $(basename "$file" .cpp) {"
    echo "#include \"$file\""
    echo "}"
done
