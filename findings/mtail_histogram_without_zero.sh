#!/bin/sh
# mtail 3.0.0-rc50 (Debian mtail 3.0.0~rc50-1+b6), `histogram x buckets 0, 1, 2`, and a log whose values are 0 among others.
# One would guess that 0 falls into the first bucket, le="1", and knows that le="+Inf" equals the count.
# 0 is in no bucket, not even in le="+Inf", and is in the count. It is the same with `buckets 1, 2`.
. "$(dirname "$0")/lib.sh"
debs mtail=3.0.0~rc50-1+b6
cat > "$lab/x.mtail" <<'MTAIL'
histogram x buckets 0, 1, 2
histogram y buckets 1, 2
/^(?P<value>[0-9.]+)$/ {
  x = $value
  y = $value
}
MTAIL
: > "$lab/log"
port=$(free_port)
"$lab/root/usr/bin/mtail" --progs "$lab/x.mtail" --logs "$lab/log" --address 127.0.0.1 --port "$port" --poll_interval 100ms > "$lab/out" 2>&1 &
wait_for curl -sf "http://127.0.0.1:$port/metrics"
printf '0\n0\n0.5\n1\n1.5\n7\n' >> "$lab/log"
values() { curl -s "http://127.0.0.1:$port/metrics" | sed -n "s/^$1_\(bucket.*le=\"\([^\"]*\)\"}\|\(count\).*\) /\2\3 /p" | paste -sd,; }
all() { values x | grep -q 'count 6'; }
wait_for all
expect "buckets 0, 1, 2" '1 2,2 3,+Inf 4,count 6' "$(values x)"
expect "buckets 1, 2" '1 2,2 3,+Inf 4,count 6' "$(values y)"
finish
