#!/bin/sh
# CPU time of compiling the header: see build_time.py.
for need in asio.hpp prometheus/exposer.h; do
    echo "#include <$need>" | g++ -std=c++20 -E -x c++ - > /dev/null 2>&1 || { echo "skipped: no $need"; exit 0; }
done
exec python3 tests/bench/build_time.py
