#!/bin/sh
# Both Pushgateways: pushes, additions, removals, odd groups, refusals, a restart, large pages, gzip, protobuf, credentials, TLS.
. "$(dirname "$0")/lib.sh"

client=$B/e2e/push_client
does() { "$client" "$@" > "$tmp/said" 2>&1 || { cat "$tmp/said"; false; }; }
says() { # sentence, then as does: it fails, and says so
    what=$1; shift
    ! "$client" "$@" > "$tmp/said" 2>&1 && { grep -qF -- "$what" "$tmp/said" || { cat "$tmp/said"; false; }; }
}
page() { curl -sS -m 5 "http://127.0.0.1:$port/metrics"; }
shows() { page | grep -qF -- "$1"; }
shows_not() { page > "$tmp/page" && ! grep -qF -- "$1" "$tmp/page"; }
of() { page | grep -F "job=\"$1\"" | grep -v '^push_' | sed "s/job=\"$1\"//" | sort; }
alike() { of "$1" > "$tmp/one"; of "$2" > "$tmp/other"; [ -s "$tmp/one" ] && diff "$tmp/one" "$tmp/other"; }  # the values of two jobs
count() { [ "$(page | grep -cF -- "$1")" = "$2" ]; }
groups() { curl -sS -m 5 "http://127.0.0.1:$port/api/v1/metrics" | python3 -c '
import json, sys
print(json.dumps(sorted([sorted(g["labels"].items()) for g in json.load(sys.stdin)["data"]])))'; }
has_group() { # job label value: the group is there with exactly these octets
    groups | python3 -c 'import json, sys
want = sorted([["job", sys.argv[1]]] + ([[sys.argv[2], sys.argv[3]]] if len(sys.argv) > 2 else []))
sys.exit(want not in json.load(sys.stdin))' "$@"
}
python=python3
"$python" -c 'import google.protobuf' 2> /dev/null || python=/usr/bin/python3  # Debian's, where another stands before it
decoded() { "$python" "$(dirname "$0")/protobuf_page.py" "http://127.0.0.1:$port/metrics" wire > "$tmp/native" && grep -q ' 3 native histograms' "$tmp/native"; }
gone() { ! has_group "$@"; }
each() { # verb value...: of the group with that job, and of one with that label
    verb=$1; shift
    for value; do
        "$client" odd x="$value" "$verb" && { [ -z "$value" ] || "$client" "$value" odd=1 "$verb"; } || return 1
    done
}
has_odd() { # value...: what each() has pushed is there, and no more of it
    groups | python3 -c 'import json, sys
odd = [g for g in json.load(sys.stdin) if ["job", "odd"] in g or ["odd", "1"] in g]
want = [[["job", "odd"], ["x", v]] for v in sys.argv[1:]] + [[["job", v], ["odd", "1"]] for v in sys.argv[1:] if v]
print(odd)
sys.exit(odd != sorted(want))' "$@"
}
gateway() { # version, further arguments: on $port
    version=$1; shift
    start "gateway-$version" "$LAB/bin/pushgateway-$version" --persistence.file= --web.listen-address="127.0.0.1:$port" "$@"
    gateway_pid=$pid
    within 20 answers "http://127.0.0.1:$port/-/ready"
}
stop() { kill "$gateway_pid"; wait "$gateway_pid" 2> /dev/null; }

for v in 1.5 1; do
    port=$(free_port)
    export GATEWAY="127.0.0.1:$port"
    ok "Pushgateway $v answers" gateway "$v"
    ok "$v: a push arrives" does backup instance=host1 put
    ok "$v: with its labels" shows 'files_total{instance="host1",job="backup",kind="small"} 3'
    ok "$v: every kind of metric is taken" env PAGE=all "$client" kinds put
    ok "$v: and shown" shows 'a_b{instance="",job="kinds",v="\\ \" \n { } , ="} -0.5'
    ok "$v: an addition replaces the families of its names" env PAGE=other "$client" backup instance=host1 post
    ok "$v: with the other's labels" shows_not 'kind="small"'
    ok "$v: and keeps others" env PAGE=none "$client" backup instance=host1 post
    ok "$v: that it does not name" shows 'files_total{instance="host1",job="backup",kind="other"} 3'
    ok "$v: a push of nothing empties the group" env PAGE=none "$client" backup instance=host1 put
    ok "$v: and leaves it there" has_group backup instance host1
    ok "$v: a removal takes it away" does backup instance=host1 delete
    ok "$v: wholly" gone backup instance host1
    ok "$v: a second removal too" does backup instance=host1 delete

    set -- "" " " "a b" "a+b" "a/b" "/" "//" . .. ... "../../metrics" "%2F" "%" "a?b#c" "\"\\" "$(printf 'a\nb\tc')" \
        "ü" "日本" "😀" "=" "a=b" "job" "@base64" "~-_." "$(printf 'x%.0s' $(seq 3000))/"
    ok "$v: groups with odd values are pushed" each put "$@"
    ok "$v: they have these values, octet by octet" has_odd "$@"
    ok "$v: and are removed" each delete "$@"
    ok "$v: those very ones" has_odd

    ok "$v: one group to clash with" does first put
    ok "$v: another type is refused, and the metric is named" env PAGE=clash sh -c "! '$client' second put > '$tmp/said'; grep -q 'put: Pushgateway: 400: .*files_total' '$tmp/said'"
    ok "$v: with what to do" grep -q "A metric of that name has another type in another group, or in the gateway itself" "$tmp/said"
    ok "$v: the gateway's own names clash too" env PAGE=own sh -c "! '$client' third put > '$tmp/said'; grep -q 'go_gc_duration_seconds' '$tmp/said'"
    ok "$v: a label job is refused before anything is sent" env PAGE=job sh -c "! '$client' fourth put > '$tmp/said'; grep -qF 'wrong{job}: ' '$tmp/said'"
    ok "$v: there is no such group" gone fourth
    ok "$v: a value that is not UTF-8 is refused before anything is sent" says "is not UTF-8" "$(printf 'x\377')" put
    ok "$v: a large page arrives, in chunks" env PAGE=large "$client" large put
    ok "$v: whole" count 'many{' 20000
    ok "$v: again, on the same connection, and is removed" env PAGE=large "$client" large put put post delete
    ok "$v: and gone" count 'many{' 0
    ok "$v: a page may be compressed" env GZIP=1 PAGE=large "$client" zipped put
    ok "$v: it arrives whole" count 'many{' 20000
    ok "$v: and is removed" does zipped delete

    export AS=protobuf
    ok "$v: as protobuf every kind of metric is taken" env PAGE=all "$client" wire put
    ok "$v: it is shown as what came as text" alike kinds wire
    ok "$v: native histograms too, by +Inf" shows 'native_only_bucket{instance="",job="wire",le="+Inf"} 5'
    ok "$v: who scrapes by protobuf has their buckets, says Google's library" decoded
    ok "$v: an addition as protobuf replaces the families of its names" env PAGE=other "$client" wire post
    ok "$v: and no others" shows 'native_only_count{instance="",job="wire"} 5'
    ok "$v: another type is refused" env PAGE=clash sh -c "! '$client' second put > '$tmp/said'; grep -q 'put: Pushgateway: 400: .*files_total' '$tmp/said'"
    ok "$v: the gateway's own names clash" env PAGE=own sh -c "! '$client' third put > '$tmp/said'; grep -q 'go_gc_duration_seconds' '$tmp/said'"
    ok "$v: a label job is refused before anything is sent" env PAGE=job sh -c "! '$client' fourth put > '$tmp/said'; grep -qF 'wrong{job}: ' '$tmp/said'"
    ok "$v: there is no such group" gone fourth
    ok "$v: a large family arrives" env PAGE=large "$client" large put
    ok "$v: whole, although the gateway keeps one message of a name" count 'many{' 20000
    ok "$v: and is removed" does large delete
    ok "$v: compressed, too" env GZIP=1 PAGE=large "$client" zipped put
    ok "$v: it arrives whole" count 'many{' 20000
    ok "$v: all are removed" does zipped delete
    ok "$v: nothing empties the group" env PAGE=none "$client" wire put
    ok "$v: which is removed" does wire delete
    unset AS
    ok "$v: a wrong prefix is told" env GATEWAY="http://127.0.0.1:$port/wrong" sh -c "! '$client' x put > '$tmp/said'; grep -q 'web.route-prefix' '$tmp/said'"
    ok "$v: the example pushes" sh -c "'$B/examples/26_pushgateway' 127.0.0.1:$port | grep -qx 'backed up 3 files'"
    ok "$v: what it did" shows 'backup_files_total{instance="host1",job="backup"} 3'
    ok "$v: the example pushes from a loop" sh -c "[ \"\$('$B/examples/26_pushgateway' 127.0.0.1:$port loop 2>&1)\" = 'backed up 3 files' ]"
    ok "$v: what it counted there has come" sh -c "curl -sS -m 5 http://127.0.0.1:$port/metrics | grep -q '^backup_files_total{.*} 4$'"
    ok "$v: the example adds to its group" sh -c "'$B/examples/26_pushgateway' 127.0.0.1:$port add | grep -qx 'backed up 3 files'"
    ok "$v: which has the newer value" shows 'backup_files_total{instance="host1",job="backup"} 3'
    ok "$v: the example takes its group away" "$B/examples/26_pushgateway" "127.0.0.1:$port" remove
    ok "$v: it is gone" shows_not backup_files_total

    # A restart between two pushes of one pusher, and in the midst of pushes by itself.
    mkfifo "$tmp/go-$v"
    start "restart-$v" sh -c "'$client' restarted put wait put delete < '$tmp/go-$v'"
    restarted=$pid
    exec 3> "$tmp/go-$v"
    ok "$v: before a restart" within 10 has_group restarted
    start "beat-$v" env INTERVAL=0.2 REMOVE=1 "$client" beats hold
    beats=$pid
    ok "$v: one pushes by itself" within 10 has_group beats
    stop
    ok "$v: it is restarted" gateway "$v"
    echo > /dev/fd/3
    exec 3>&-
    ok "$v: after it the same pusher pushes, and removes" wait "$restarted"
    ok "$v: so does the one that pushes by itself" within 10 has_group beats
    kill "$beats"
    ok "$v: which ends" wait "$beats"
    ok "$v: and removes its group" gone beats
    stop

    # Behind a prefix, with the checks off: 202. With a password.
    port=$(free_port)
    export GATEWAY="http://127.0.0.1:$port/a/prefix/"
    start "prefix-$v" "$LAB/bin/pushgateway-$v" --persistence.file= --web.listen-address="127.0.0.1:$port" --web.route-prefix=/a/prefix --push.disable-consistency-check
    gateway_pid=$pid
    ok "$v: a gateway with a prefix answers" within 20 answers "http://127.0.0.1:$port/a/prefix/-/ready"
    ok "$v: its 202 is success" does prefixed put post delete
    stop
    port=$(free_port)
    export GATEWAY="https://localhost:$port"
    [ -f "$tmp/cert.pem" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -keyout "$tmp/key.pem" -out "$tmp/cert.pem" 2> /dev/null
    cat > "$tmp/web.yml" <<'YML'
tls_server_config: {cert_file: cert.pem, key_file: key.pem}
basic_auth_users: {aladdin: "$2b$04$DPAuxwsdMb6Ua1MI.eRbReR2RtOCK4U.i09mXjOQiyCE.oedYuIa."}  # bcrypt of "open sesame"
YML
    start "tls-$v" "$LAB/bin/pushgateway-$v" --persistence.file= --web.listen-address="127.0.0.1:$port" --web.config.file="$tmp/web.yml"
    gateway_pid=$pid
    ok "$v: a gateway with TLS and a password answers" within 20 answers --cacert "$tmp/cert.pem" -u 'aladdin:open sesame' "https://localhost:$port/-/ready"
    export CA="$tmp/cert.pem"
    ok "$v: it takes a push" env USER_PASSWORD='aladdin:open sesame' "$client" secret put put
    ok "$v: and a large one" env USER_PASSWORD='aladdin:open sesame' PAGE=large "$client" secret put put delete
    ok "$v: not without the password" says "401" secret put
    ok "$v: nor with a wrong one, and a large page" env USER_PASSWORD='aladdin:x' PAGE=large sh -c "! '$client' secret put > '$tmp/said'; grep -q 'push_options::credential' '$tmp/said'"
    unset CA
    ok "$v: nor without TLS" says "needs push_options::tls" secret put
    export GATEWAY="127.0.0.1:$port"
    ok "$v: plain HTTP to it is told" says "400" secret put
    stop
done
finish
