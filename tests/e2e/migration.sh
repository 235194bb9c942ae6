#!/bin/sh
# The programs of examples/migration, side by side: both are built, serve the same samples, and ask for the same password.
. "$(dirname "$0")/lib.sh"
build() { "${CXX:-g++}" $STRICT -O0 "examples/migration/$1.cpp" -o "$tmp/$1" -pthread; }
# The samples of two pages: names, labels and numbers. What each library adds about itself and its process is left out.
cat > "$tmp/same.py" <<'PY'
import re, subprocess, sys
def samples(url):
    page = subprocess.run(["curl", "-sSf", "-m", "5", *sys.argv[3:], url], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in page.splitlines():
        if line.startswith("#") or re.match("exposer_|process_|python_|prometheus_async_|start_seconds|[a-z_]*_created", line):
            continue
        name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
        pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels or ""))
        if "le" in pairs:
            pairs["le"] = float(pairs["le"])
        found[name, tuple(sorted(pairs.items()))] = None if name == "req_time_seconds_sum" else float(value)
    return found
one, other = samples(sys.argv[1]), samples(sys.argv[2])
for key in sorted(set(one) | set(other), key=str):
    if one.get(key, "-") != other.get(key, "-"):
        print(key, one.get(key, "-"), other.get(key, "-"))
print(len(one), "samples")
sys.exit(one != other or len(one) < 8)
PY
url() { within 20 grep -q http "$tmp/$1.log" && grep -om1 'http://[^ ]*' "$tmp/$1.log"; }
mkfifo "$tmp/never"
exec 3<> "$tmp/never"

ok "prometheus-cpp's program is built" "${CXX:-g++}" -std=c++17 -O0 examples/migration/prometheus_cpp_before.cpp -o "$tmp/prometheus_cpp_before" -pthread -lprometheus-cpp-pull -lprometheus-cpp-core
ok "ours is built" build prometheus_cpp_after
start cpp_before sh -c "exec '$tmp/prometheus_cpp_before' 0 <&3"
start cpp_after sh -c "exec '$tmp/prometheus_cpp_after' 0 <&3"
before=$(url cpp_before) after=$(url cpp_after)
ok "both show the same samples" python3 "$tmp/same.py" "${before}metrics" "${after}metrics" -u scraper:secret
for one in "$before" "$after"; do ok "without the password it is 401" sh -c "[ \"\$(curl -sS -m 5 -o /dev/null -w '%{http_code}' '${one}metrics')\" = 401 ]"; done

ok "the Python program compiles" python3 -c 'import sys; compile(open(sys.argv[1]).read(), sys.argv[1], "exec")' examples/migration/prometheus_async_before.py
ok "the C++ one is built" build prometheus_async_after
start py_after "$tmp/prometheus_async_after" 0
after=$(url py_after)
ok "it counts what it should" sh -c "curl -sS -m 5 '${after}metrics' | grep -qx 'req_time_seconds_count{route=\"/\"} 3'"
if python3 -c 'import prometheus_async.aio.web, aiohttp' 2> /dev/null; then
    start py_before python3 examples/migration/prometheus_async_before.py "$(free_port)"
    ok "both show the same samples" python3 "$tmp/same.py" "$(url py_before)metrics" "${after}metrics"
fi
finish
