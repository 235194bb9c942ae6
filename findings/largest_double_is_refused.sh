#!/bin/sh
# prometheus-cpp 1.0.1 (Debian prometheus-cpp-dev 1.0.1-1), Net::Prometheus 0.12 (Debian libnet-prometheus-perl 0.12-1+b2) and
# Prometheus::Tiny 0.010 (Debian libprometheus-tiny-perl 0.010-1), scraped by Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1).
# A gauge of the largest double, as programs use it for "no limit". One would guess that a value comes back as it was set, or
# nearly. They print 16 and 15 digits: the last one is rounded up, so the text is over the largest double, which Prometheus
# does not read as infinity: it refuses the whole page. (Other values only lose a digit: 0.1 + 0.2 is 0.3.)
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1 prometheus-cpp-dev=1.0.1-1 libprometheus-cpp-core1.0=1.0.1-1 libprometheus-tiny-perl=0.010-1 \
    libnet-prometheus-perl=0.12-1+b2 libref-util-perl=0.204-2 libstruct-dumb-perl=0.14-1
gcc12
cat > "$lab/page.cpp" <<'CPP'
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <iostream>
#include <limits>
int main() {
    prometheus::Registry registry;
    prometheus::BuildGauge().Name("sum").Register(registry).Add({}).Set(0.1 + 0.2);
    prometheus::BuildGauge().Name("most").Register(registry).Add({}).Set(std::numeric_limits<double>::max());
    std::cout << prometheus::TextSerializer().Serialize(registry.Collect());
}
CPP
cpp=$lab/root/usr/lib/x86_64-linux-gnu
"$gcc" -std=c++17 -I"$lab/root/usr/include" "$lab/page.cpp" "$cpp/libprometheus-cpp-core.so.1.0" -Wl,-rpath,"$cpp" -o "$lab/page"
PERL5LIB=$lab/root/usr/share/perl5:$lab/root/usr/lib/x86_64-linux-gnu/perl5/5.36; export PERL5LIB
"$lab/page" > "$lab/cpp"
perl -MNet::Prometheus -e 'my $p = Net::Prometheus->new(disable_process_collector => 1, disable_perl_collector => 1);
    $p->new_gauge(name => "sum", help => "h")->set(0.1 + 0.2); $p->new_gauge(name => "most", help => "h")->set(1.7976931348623157e308); print $p->render' > "$lab/net"
perl -MPrometheus::Tiny -e 'my $p = Prometheus::Tiny->new; $p->set("sum", 0.1 + 0.2); $p->set("most", 1.7976931348623157e308); print $p->format' > "$lab/tiny"
value() { sed -n 's/^most //p' "$lab/$1"; }
expect "prometheus-cpp prints" 1.797693134862316e+308 "$(value cpp)"
expect "Net::Prometheus prints" 1.79769313486232e+308 "$(value net)"
expect "Prometheus::Tiny prints" 1.79769313486232e+308 "$(value tiny)"
for page in cpp net tiny; do
    serve "$lab/$page" 'text/plain; version=0.0.4'
    prometheus "$lab/root/usr/bin/prometheus"
    wait_for sh -c "curl -s 'http://127.0.0.1:$prom/api/v1/query?query=up' | grep -q value"
    expect "up, the other gauge" '0 ' "$(ask up | cut -d' ' -f2) $(ask sum)"
    curl -s "http://127.0.0.1:$prom/api/v1/targets" | sed 's/.*"lastError":"\(.*\)","lastScrape".*/said: \1/'; echo
    kill $prometheus
done
grep -v '^most' "$lab/cpp" > "$lab/less"
serve "$lab/less" 'text/plain; version=0.0.4'
prometheus "$lab/root/usr/bin/prometheus"
wait_for sh -c "curl -s 'http://127.0.0.1:$prom/api/v1/query?query=sum' | grep -q value"
expect "without the largest" '{__name__="sum"} 0.3' "$(ask sum)"
finish
