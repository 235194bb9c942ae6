#!/bin/sh
# prometheus-cpp 1.0.1 (Debian prometheus-cpp-dev 1.0.1-1), prometheus_client 0.16.0 for Python (Debian python3-prometheus-client
# 0.16.0-0.1), prom-client 15.1.3 (npm), Net::Prometheus 0.12 (Debian libnet-prometheus-perl 0.12-1+b2), and one NaN, as the ratio or
# the duration that was 0/0. A counter refuses or ignores a negative step in each of them; one would guess that a step which is no
# number is refused too. Only Net::Prometheus does: in the others the counter is NaN from then on until the process ends, and so is
# each rate of it, for which no alert with > or < fires. (prom-client refuses Infinity in the same check, and NaN in a histogram.)
# In a histogram NaN is refused, or in no bucket and not in the count (Python), or in the lowest bucket (prometheus-cpp); the sum is
# NaN for good.
. "$(dirname "$0")/lib.sh"
debs prometheus-cpp-dev=1.0.1-1 libprometheus-cpp-core1.0=1.0.1-1 python3-prometheus-client=0.16.0-0.1 libnet-prometheus-perl=0.12-1+b2 \
    libref-util-perl=0.204-2 libstruct-dumb-perl=0.14-1
npm_get prom-client@15.1.3
gcc12
cat > "$lab/page.cpp" <<'CPP'
#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <cmath>
#include <iostream>
int main() {
    prometheus::Registry registry;
    auto& jobs = prometheus::BuildCounter().Name("jobs_total").Register(registry).Add({});
    auto& wait = prometheus::BuildHistogram().Name("wait").Register(registry).Add({}, prometheus::Histogram::BucketBoundaries{1, 2});
    for (const double step : {5.0, -1.0, std::nan(""), 1.0}) jobs.Increment(step);
    for (const double value : {1.5, std::nan(""), 1.5}) wait.Observe(value);
    std::cout << prometheus::TextSerializer().Serialize(registry.Collect());
}
CPP
cpp=$lab/root/usr/lib/x86_64-linux-gnu
"$gcc" -std=c++17 -I"$lab/root/usr/include" "$lab/page.cpp" "$cpp/libprometheus-cpp-core.so.1.0" -Wl,-rpath,"$cpp" -o "$lab/page"
cat > "$lab/page.py" <<'PY'
from prometheus_client import Counter, Histogram, generate_latest, CollectorRegistry
registry = CollectorRegistry()
jobs, wait = Counter("jobs", "J.", registry=registry), Histogram("wait", "W.", buckets=[1, 2], registry=registry)
def attempt(what, value):
    try: what(value)
    except ValueError: pass
for step in 5, -1, float("nan"), 1: attempt(jobs.inc, step)
for value in 1.5, float("nan"), 1.5: attempt(wait.observe, value)
print(generate_latest(registry).decode())
PY
cat > "$lab/page.mjs" <<'JS'
import client from 'prom-client';
const jobs = new client.Counter({ name: 'jobs_total', help: 'J.' }), wait = new client.Histogram({ name: 'wait', help: 'W.', buckets: [1, 2] });
const attempt = f => { try { f(); } catch { } };
for (const step of [5, -1, Infinity, NaN, 1]) attempt(() => jobs.inc(step));
for (const value of [1.5, NaN, 1.5]) attempt(() => wait.observe(value));
console.log(await client.register.metrics());
JS
cat > "$lab/page.pl" <<'PL'
use Net::Prometheus;
my $all = Net::Prometheus->new(disable_process_collector => 1, disable_perl_collector => 1);
my $jobs = $all->new_counter(name => "jobs_total", help => "J.");
my $nan = 9**9**9 / 9**9**9;
for my $step (5, -1, $nan, 1) { eval { $jobs->inc($step) }; }
print $all->render;
PL
shown() { grep -E '^(jobs_total|wait_[a-z{}="+0-9.I]*) ' | grep -viE 'created' | sed 's/ nan/ NaN/I; s/wait_//; s/\.0\b//g; s/bucket{le="\(.*\)"}/\1:/' | sort | paste -sd, | sed 's/,/, /g'; }
expect "prometheus-cpp" '+Inf: 3, 1: 1, 2: 3, count 3, jobs_total NaN, sum NaN' "$("$lab/page" | shown)"
expect "Python" '+Inf: 2, 1: 0, 2: 2, count 2, jobs_total NaN, sum NaN' "$(PYTHONPATH=$lab/root/usr/lib/python3/dist-packages python3 "$lab/page.py" | shown)"
expect "prom-client" '+Inf: 2, 1: 0, 2: 2, count 2, jobs_total NaN, sum 3' "$(node "$lab/page.mjs" | shown)"
expect "Net::Prometheus, a counter" 'jobs_total 6' "$(PERL5LIB=$lab/root/usr/share/perl5:$lab/root/usr/lib/x86_64-linux-gnu/perl5/5.36 perl "$lab/page.pl" | grep '^jobs_total ')"
finish
