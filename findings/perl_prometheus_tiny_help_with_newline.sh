#!/bin/sh
# Prometheus::Tiny 0.010 (Debian libprometheus-tiny-perl 0.010-1), checked by promtool 2.42.0 (Debian prometheus 2.42.0+ds-5+deb12u1).
# It escapes label values. One would guess that it escapes help texts too.
# It does not: a help text of two lines makes a page that is refused whole.
. "$(dirname "$0")/lib.sh"
debs libprometheus-tiny-perl=0.010-1 prometheus=2.42.0+ds-5+deb12u1
page() { PERL5LIB=$lab/root/usr/share/perl5 perl -MPrometheus::Tiny -e '
    my $p = Prometheus::Tiny->new; $p->declare("jobs", help => $ARGV[0], type => "gauge"); $p->set("jobs", 1, { l => "a\nb" }); print $p->format' "$1"; }
verdict() { page "$1" | "$lab/root/usr/bin/promtool" check metrics > "$lab/out" 2>&1 && echo accepted || echo refused; }
expect "a label value of two lines" 'jobs{l="a\nb"} 1' "$(page one | tail -n 1)"
expect "a help text of one line" accepted "$(verdict one)"
expect "a help text of two lines" refused "$(verdict 'one
two')"
sed 's/^/said: /' "$lab/out"
finish
