#!/bin/sh
# CPU per scrape against prometheus-cpp and nginx: see scrapes.py.
for need in wrk nginx; do command -v $need > /dev/null || { echo "skipped: no $need"; exit 0; }; done
make -s "$B/bench/our_server" "$B/bench/peer_server" "$B/bench/memory_server" && exec python3 tests/bench/scrapes.py
