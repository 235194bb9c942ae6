# Sourced by the end-to-end scripts: . "$(dirname "$0")/lib.sh"
set -u
: "${B:?set B to the build directory}" "${LAB:?set LAB to the directory of fetch.sh}"
tmp=$(mktemp -d) || exit 1
started= passed=0 failed=0 skipped=0
cleanup() { for pid in $started; do kill "$pid" 2> /dev/null; done; sleep 0.2; for pid in $started; do kill -9 "$pid" 2> /dev/null; done; rm -rf "$tmp"; }
trap cleanup EXIT
trap 'exit 1' INT TERM

ok() { # sentence command...: counts, and shows the output of what failed
    sentence=$1; shift
    if "$@" > "$tmp/out" 2>&1; then passed=$((passed + 1)); echo "ok      $sentence"
    else failed=$((failed + 1)); echo "FAILED  $sentence: $*"; tail -n 20 "$tmp/out"; fi
}
skip() { # what, what is missing: counted as skipped; in CI, which is to have all, as failed
    if [ "${CI:-}" = true ]; then failed=$((failed + 1)); echo "FAILED  $1: missing in CI: $2"
    else skipped=$((skipped + 1)); echo "SKIPPED $1: missing: $2"; echo "$0: SKIPPED $1: missing: $2" >&2; fi
}
within() { # seconds command...: tries until it succeeds
    until=$(($(date +%s) + $1)); shift
    until "$@"; do [ "$(date +%s)" -lt "$until" ] || return 1; sleep 0.2; done
}
start() { # name command...: in the background, output in $tmp/name.log, process id in $pid
    name=$1; shift
    "$@" > "$tmp/$name.log" 2>&1 &
    pid=$!
    started="$started $pid"
}
# One that no other script of this run was given, while several run at once.
free_port() {
    while :; do
        given=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        mkdir "${PORTS:-$tmp}/port-$given" 2> /dev/null && break
    done
    echo "$given"
}
scraped_by() { # prometheus-3 argument... < scrape jobs: a Prometheus scrapes them each second, and listens on $port
    scraper=$1; shift
    port=$(free_port)
    mkdir "$tmp/$scraper"
    { echo 'global: {scrape_interval: 1s, scrape_timeout: 1s}'; echo 'scrape_configs:'; cat; } > "$tmp/$scraper/prometheus.yml"
    start "$scraper" "$LAB/bin/$scraper" --config.file="$tmp/$scraper/prometheus.yml" --storage.tsdb.path="$tmp/$scraper/data" \
        --web.listen-address="127.0.0.1:$port" --log.level=warn "$@"
}
# For what measures delays: ends the script on a machine so slow that they say nothing of the program.
needs_speed() {
    took=$(python3 -c 'import time; n = time.process_time(); sum(i * i for i in range(3000000)); print(round((time.process_time() - n) * 1000))')
    [ "$took" -le 450 ] && return
    echo "SKIPPED $0: it measures delays, and this machine is too slow ($took ms for a piece of work that may take 450)" | tee /dev/stderr
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}
answers() { curl -sS -m 5 -o /dev/null "$@"; }
finish() {
    if [ $skipped != 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"; else echo "$passed passed, $failed failed"; fi
    [ $failed = 0 ]
    exit
}
