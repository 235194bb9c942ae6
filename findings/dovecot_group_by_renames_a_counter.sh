#!/bin/sh
# Dovecot 2.3.19 (Debian dovecot-core 1:2.3.19.1+dfsg1-2.1+deb12u6), the OpenMetrics page of its stats service, read by
# prometheus_client 0.16.0 (Debian python3-prometheus-client 0.16.0-0.1). `group_by` splits a metric by a field, so one would guess
# that the total keeps its name and gains labelled series. It is renamed: dovecot_auths_total becomes dovecot_auths_count (and
# dovecot_auths_duration_seconds_total ..._sum), still under `# TYPE dovecot_auths counter`. The reader says nothing, and the type
# is lost: a counter family without samples, and a series of unknown type.
. "$(dirname "$0")/lib.sh"
debs dovecot-core=1:2.3.19.1+dfsg1-2.1+deb12u6 libunwind8=1.6.2-3 python3-prometheus-client=0.16.0-0.1
port=$(free_port) user=$(id -un)
cat > "$lab/conf" <<CONF
import_environment = LD_LIBRARY_PATH
base_dir = $lab/run
state_dir = $lab/state
libexec_dir = $lab/root/usr/lib/dovecot
log_path = $lab/log
protocols =
ssl = no
default_internal_user = $user
default_login_user = $user
default_internal_group = $(id -gn)
service stats {
  inet_listener http {
    address = 127.0.0.1
    port = $port
  }
}
metric plain {
  filter = event=auth_request_finished
}
metric grouped {
  filter = event=auth_request_finished
  group_by = success
}
CONF
LD_LIBRARY_PATH=$lab/root/usr/lib/x86_64-linux-gnu:$lab/root/usr/lib/dovecot "$lab/root/usr/bin/doveconf" -f service=master -c "$lab/conf" \
    -e "$lab/root/usr/sbin/dovecot" -F -c "$lab/conf" > "$lab/said" 2>&1 &
wait_for curl -sf -o "$lab/page" "http://127.0.0.1:$port/metrics"
lines() { grep -E "^(# TYPE )?dovecot_$1(_total|_count)? " "$lab/page" | paste -sd'|'; }
read_as() {
    PYTHONPATH=$lab/root/usr/lib/python3/dist-packages python3 -c '
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
print(*("%s %s %d" % (f.name, f.type, len(f.samples)) for f in text_string_to_metric_families(sys.stdin.read()) if sys.argv[1] in f.name), sep="|")' "$1" < "$lab/page"
}
expect "without group_by" '# TYPE dovecot_plain counter|dovecot_plain_total 0' "$(lines plain)"
expect "read" 'dovecot_plain counter 1|dovecot_plain_duration_seconds counter 1' "$(read_as plain)"
expect "with group_by" '# TYPE dovecot_grouped counter|dovecot_grouped_count 0' "$(lines grouped)"
expect "read" 'dovecot_grouped counter 0|dovecot_grouped_count unknown 1|dovecot_grouped_duration_seconds counter 0|dovecot_grouped_duration_seconds_sum unknown 1' "$(read_as grouped)"
finish
