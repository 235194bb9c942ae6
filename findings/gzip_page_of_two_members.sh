#!/bin/sh
# curl 7.88.1 (Debian 7.88.1-10+deb12u15), wget 1.21.3 (Debian 1.21.3-1+deb12u1), varnish 7.1.1 (Debian 7.1.1-2+deb12u1), Prometheus
# 2.42.0 (Debian 2.42.0+ds-5+deb12u1) and a page whose gzip is a series of members, as RFC 1952 allows: an exporter that keeps
# parts of its page compressed would send it so. zlib's and Go's readers take it, so one would guess that all take it.
# Prometheus does. wget shows the first part alone and says that all is well; curl shows it and fails; through varnish, for a
# client without gzip, comes no line of the page (with status 200 or 503, by how far varnish is when it finds the second part).
. "$(dirname "$0")/lib.sh"
debs curl=7.88.1-10+deb12u15 libcurl4=7.88.1-10+deb12u15 wget=1.21.3-1+deb12u1 varnish=7.1.1-2+deb12u1 libvarnishapi3=7.1.1-2+deb12u1 \
    libjemalloc2=5.3.0-1 prometheus=2.42.0+ds-5+deb12u1
gcc12
printf 'a 1\n' | gzip > "$lab/one"; printf 'b 2\n' | gzip > "$lab/two"
cat "$lab/one" "$lab/two" > "$lab/members"
printf 'a 1\nb 2\n' | gzip > "$lab/whole"
root=$lab/root/usr
libraries=$root/lib/x86_64-linux-gnu:$root/lib/varnish
front=$(free_port)
fetched() { "$@" > "$lab/out" 2> "$lab/err" && status=0 || status=$?; echo "$(paste -sd, "$lab/out"), exit $status"; }
for page in whole members; do
    serve "$lab/$page" 'text/plain; version=0.0.4' 'Content-Encoding: gzip'
    [ $page = whole ] && good='a 1,b 2, exit 0' wget=$good curl=$good varnish=2 || { wget='a 1, exit 0' curl='a 1, exit 23' varnish=0; }
    expect "wget, $page" "$wget" "$(fetched "$root/bin/wget" -q -O - --compression=gzip "http://127.0.0.1:$port/")"
    expect "curl, $page" "$curl" "$(LD_LIBRARY_PATH=$libraries fetched "$root/bin/curl" -sS --compressed "http://127.0.0.1:$port/")"
    mkdir "$lab/$page.varnish"
    printf 'vcl 4.1; backend default { .host = "127.0.0.1"; .port = "%s"; }\n' "$port" > "$lab/vcl"
    front=$(free_port)
    LD_LIBRARY_PATH=$libraries "$root/sbin/varnishd" -F -n "$lab/$page.varnish" -j none -a "127.0.0.1:$front" -f "$lab/vcl" -s malloc,10m \
        -p cc_command="exec '${gcc%g++-12}gcc-12' -O0 -fPIC -shared -o %o %s" > "$lab/log" 2>&1 &
    varnish_runs() { curl -s -o "$lab/out" "http://127.0.0.1:$front/"; [ -s "$lab/$page.requests" ] && grep -q 'X-Varnish' "$lab/$page.requests"; }
    wait_for varnish_runs
    expect "varnish, $page, lines of it" "$varnish" "$(curl -s "http://127.0.0.1:$front/" | grep -c '^[ab] ')"
    prometheus "$root/bin/prometheus"
    wait_for sh -c "curl -s 'http://127.0.0.1:$prom/api/v1/query?query=up' | grep -q value"
    expect "Prometheus, $page" '{__name__="a"} 1,{__name__="b"} 2' "$(ask '{__name__=~"[ab]"}' | paste -sd,)"
    kill $prometheus
done
finish
