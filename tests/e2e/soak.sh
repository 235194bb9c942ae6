#!/bin/sh
# The short form of `make soak`: half a minute of mixed load, abuse and churn.
. "$(dirname "$0")/lib.sh"
needs_speed
ok "no scrape is lost, memory and descriptors stay flat, every count arrives" python3 "$(dirname "$0")/../support/soak.py" "$B/e2e/soak" 0.4
finish
