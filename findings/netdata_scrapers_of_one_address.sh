#!/bin/sh
# netdata 1.37.1 (Debian netdata-core 1.37.1-2), /api/v1/allmetrics?format=prometheus, read by promtool 2.42.0 (Debian prometheus
# 2.42.0+ds-5+deb12u1). With source=as-collected it gives values as they were collected. One would guess that they are the same
# for whoever asks. It remembers when each address last asked and leaves out what was not collected since: the second of two
# requests from one address lacks most series, so that two Prometheus servers behind one address, or a look with curl, take
# series from each other. `&server=NAME` tells them apart. With types=yes it has a TYPE line for each series,
# which promtool refuses and Prometheus reads.
. "$(dirname "$0")/lib.sh"
needs bookworm netdata-core=1.37.1-2
debs prometheus=2.42.0+ds-5+deb12u1
port=$(free_port)
mkdir "$lab/nd"
cat > "$lab/nd/netdata.conf" <<CONF
[global]
    run as user = $(id -un)
    hostname = h
[directories]
    config = $lab/nd
    stock config = $lab/nd
    plugins = $lab/nd
    web = $lab/nd
    cache = $lab/nd
    lib = $lab/nd
    log = $lab/nd
    home = $lab/nd
[db]
    mode = ram
    update every = 5
[web]
    bind to = 127.0.0.1:$port
[statsd]
    enabled = no
[ml]
    enabled = no
CONF
$own "$lab/root/usr/sbin/netdata" -D -P "$lab/pid" -c "$lab/nd/netdata.conf" > "$lab/log" 2>&1 &
url="http://127.0.0.1:$port/api/v1/allmetrics?format=prometheus"
series() { curl -s "$url&source=as-collected$1" | grep -c '^netdata_' || :; }
# Charts appear within the first seconds.
many() { [ "$(series "&server=$(date +%s)")" -gt 200 ]; }
wait_for many
# Three requests at once; again if the agent collected between them.
for try in 1 2 3 4 5 6 7 8 9 10; do
    curl -s -o "$lab/first" -o "$lab/second" -o "$lab/other" "$url&source=as-collected&server=a$try" "$url&source=as-collected&server=a$try" "$url&source=as-collected&server=b$try"
    all=$(grep -c '^netdata_' "$lab/first") again=$(grep -c '^netdata_' "$lab/second" || :) other=$(grep -c '^netdata_' "$lab/other")
    [ $((again * 2)) -lt "$all" ] && break
done
share() { [ $(($1 * 2)) -gt "$all" ] && echo most || echo "less than half"; }
expect "the second request of one name, another name's" "less than half, most" "$(share "$again"), $(share "$other")"
curl -s "$url&types=yes&source=as-collected&server=types" > "$lab/page"
expect "promtool, types=yes" "second TYPE line" "$("$lab/root/usr/bin/promtool" check metrics < "$lab/page" 2>&1 | grep -o 'second TYPE line')"
cp "$lab/page" "$lab/served"
serve "$lab/served" 'text/plain; version=0.0.4'
prometheus "$lab/root/usr/bin/prometheus"
wait_for sh -c "curl -s 'http://127.0.0.1:$prom/api/v1/query?query=up' | grep -q value"
expect "Prometheus, types=yes: up" 1 "$(ask up | cut -d' ' -f2)"
finish
