#!/bin/sh
# fetch.sh DIR: unpacks the real programs that the end-to-end tests talk to into DIR, from Debian packages.
# Nothing is installed, root is not needed. Afterwards DIR/bin has
#
#   consul              bullseye   1.8.7, the newest that Debian has
#   prometheus-2.24     bullseye   the newest in Debian built with consul_sd_configs
#   prometheus-2.42     bookworm   with promtool-2.42
#   prometheus-2.53     trixie     stores native histograms, interpolates linearly
#   prometheus-3        sid        with promtool-3
#   victoria-metrics    sid
#   nginx               bookworm
#   node_exporter-1.5   bookworm
#   node_exporter-1     sid
#   pushgateway-1.5     bookworm
#   pushgateway-1       sid        the newest
#
# and DIR/mbedtls3 mbedTLS 3 of trixie, to build with. Packages of older releases are checked against the SHA-256
# below, those of sid and trixie by apt against the signed index; what is there already is kept.
set -eu
[ $# -eq 1 ] || { sed -n '2,18p' "$0"; exit 2; }
mkdir -p "$1/bin" "$1/apt" "$1/debs"
dir=$(cd "$1" && pwd)
: > "$dir/apt/no-status"

apt_in() { # suite arguments...: apt-get with an index and a cache of its own, for one suite only
    suite=$1; shift
    at=$dir/apt/$suite
    mkdir -p "$at/lists/partial" "$at/archives/partial"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
        "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" "$suite" > "$at/debian.sources"
    apt-get -qq -o Dir::Etc::sourcelist="$at/debian.sources" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
        -o Dir::State="$at" -o Dir::State::lists="$at/lists" -o Dir::State::status="$dir/apt/no-status" \
        -o Dir::Cache="$at" -o Dir::Cache::archives="$at/archives" -o APT::Sandbox::User="$(id -un)" \
        -o Debug::NoLocking=1 -o Acquire::Languages=none -o Acquire::Retries=5 \
        -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false \
        -o Acquire::Check-Valid-Until=false "$@"
}

get() { # component suite sha256|- package
    [ -f "$dir/$1/.done" ] && return 0
    [ -f "$dir/apt/$2/.updated" ] || { apt_in "$2" update && : > "$dir/apt/$2/.updated"; } ||
        { echo "fetch.sh: no index of Debian $2: the end-to-end tests cannot run" >&2; exit 1; }
    rm -rf "$dir/debs/$1"; mkdir -p "$dir/debs/$1" "$dir/$1"
    (cd "$dir/debs/$1" && apt_in "$2" download "$4") ||
        { echo "fetch.sh: no package $4 in Debian $2: the end-to-end tests cannot run" >&2; exit 1; }
    if [ "$3" != - ] && ! echo "$3  $(echo "$dir/debs/$1"/*.deb)" | sha256sum -c --quiet -; then
        echo "fetch.sh: $4 of Debian $2 is not the package that this project knows" >&2; exit 1
    fi
    dpkg -x "$dir/debs/$1"/*.deb "$dir/$1"
    echo "$1: $(dpkg-deb -f "$dir/debs/$1"/*.deb Package Version | sed 's/^[A-Za-z]*: //' | tr '\n' ' ')from $2"
    : > "$dir/$1/.done"
}

run_as() { # name path [major version required [option that shows it]]
    ln -sf "../$2" "$dir/bin/$1"
    "$dir/bin/$1" ${4:---version} > "$dir/version" 2>&1 && grep -q "v\?${3:-}" "$dir/version" ||
        { echo "fetch.sh: $2 does not run here as version ${3:-any}: $(head -1 "$dir/version")" >&2; exit 1; }
}

[ "$(dpkg --print-architecture)" = amd64 ] || { echo "fetch.sh: the pinned packages are for amd64" >&2; exit 1; }
get consul bullseye e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9 consul
get prom224 bullseye 7f98887c0fa36e0dd81bb39abc57a9e2535c2a0dc20442a431255ebc0b87b73a prometheus
get prom242 bookworm 81d59a24fce84f7fbe97a45a4f2914b6a5881b5cd1db2a6a0e129e515e1a5f55 prometheus=2.42.0+ds-5+deb12u1
get prom3 sid - prometheus
get prom253 trixie - prometheus
get promtool3 sid - promtool
get mbedtls3 trixie - libmbedtls-dev
get victoria sid - victoria-metrics
get nginx bookworm - nginx
get node15 bookworm - prometheus-node-exporter
get node1 sid - prometheus-node-exporter
get pushgateway15 bookworm f779c46f571ea0c341630e4b36c1d608d46bb08c5658de99966c5c2e49486b9d prometheus-pushgateway=1.5.1-2+b5
get pushgateway1 sid - prometheus-pushgateway
run_as consul consul/usr/bin/consul 'Consul v1.8'
run_as prometheus-2.24 prom224/usr/bin/prometheus 'version 2.24'
run_as prometheus-2.42 prom242/usr/bin/prometheus 'version 2.42'
run_as promtool-2.42 prom242/usr/bin/promtool 'version 2.42'
run_as prometheus-2.53 prom253/usr/bin/prometheus 'version 2.53'
run_as prometheus-3 prom3/usr/bin/prometheus 'version 3'
run_as promtool-3 promtool3/usr/bin/promtool 'version 3'
run_as victoria-metrics victoria/usr/bin/victoria-metrics
run_as nginx nginx/usr/sbin/nginx 'nginx/1' -v
run_as node_exporter-1.5 node15/usr/bin/prometheus-node-exporter 'version 1.5'
run_as node_exporter-1 node1/usr/bin/prometheus-node-exporter 'version 1'
run_as pushgateway-1.5 pushgateway15/usr/bin/prometheus-pushgateway 'version 1.5'
run_as pushgateway-1 pushgateway1/usr/bin/prometheus-pushgateway 'version 1'
