#!/bin/sh
# Random registries through promtool, the official Python client's parsers and real Prometheus: what comes back is
# what was put in. Needs python3-prometheus-client.
set -u
: "${B:?set B to the build directory}" "${LAB:?set LAB to the directory of fetch.sh}"
pages=$(mktemp -d) || exit 1
trap 'rm -rf "$pages"' EXIT
trap 'exit 1' INT TERM
"$B/e2e/random_registry" "$pages" 1 100 || { echo "FAILED  random_registry"; echo "0 passed, 1 failed"; exit 1; }
python3 "$(dirname "$0")/check_parsers.py" "$pages" "$LAB"
