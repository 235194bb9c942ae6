#!/bin/sh
# nginx 1.22.1 (Debian nginx 1.22.1-9+deb12u11) as a proxy before a metrics page.
# One would guess: `gzip_types text/plain` covers text/plain with any parameters.
# It does with `charset` first; `text/plain; version=0.0.4` (every exposition page) is passed on uncompressed.
# What to do: name the whole value, `gzip_types "text/plain; version=0.0.4; charset=utf-8";`, or compress at the source.
. "$(dirname "$0")/lib.sh"
debs nginx=1.22.1-9+deb12u11
python3 -c 'print("\n".join("x%d 1" % i for i in range(400)))' > "$lab/page"
encoding() { # content type [gzip_types]
    serve "$lab/page" "$1"; server=$!
    front=$(free_port)
    cat > "$lab/nginx.conf" <<CONF
daemon off; master_process off; pid $lab/pid; error_log $lab/log;
events {}
http {
    access_log off; client_body_temp_path $lab/b; proxy_temp_path $lab/p; fastcgi_temp_path $lab/f; uwsgi_temp_path $lab/u; scgi_temp_path $lab/s;
    gzip on; gzip_types ${2:-text/plain}; gzip_proxied any;
    server { listen 127.0.0.1:$front; location / { proxy_pass http://127.0.0.1:$port; } }
}
CONF
    "$lab/root/usr/sbin/nginx" -c "$lab/nginx.conf" -e "$lab/log" & nginx=$!
    wait_for curl -s "http://127.0.0.1:$front/"
    curl -s -o /dev/null -D - -H 'Accept-Encoding: gzip' "http://127.0.0.1:$front/" | tr -d '\r' | sed -n 's/^Content-Encoding: //p' | grep . || echo none
    kill $nginx $server
}
expect "text/plain" gzip "$(encoding 'text/plain')"
expect "text/plain; charset=utf-8; version=0.0.4" gzip "$(encoding 'text/plain; charset=utf-8; version=0.0.4')"
expect "text/plain; version=0.0.4" none "$(encoding 'text/plain; version=0.0.4')"
expect "text/plain; version=0.0.4; charset=utf-8" none "$(encoding 'text/plain; version=0.0.4; charset=utf-8')"
expect "...; version=0.0.4 named whole" gzip "$(encoding 'text/plain; version=0.0.4' '"text/plain; version=0.0.4"')"
expect "...; version=0.0.4; charset=utf-8 named whole" none "$(encoding 'text/plain; version=0.0.4; charset=utf-8' '"text/plain; version=0.0.4; charset=utf-8"')"
expect "...; version=0.0.4; charset=utf-8 named without its charset" gzip "$(encoding 'text/plain; version=0.0.4; charset=utf-8' '"text/plain; version=0.0.4"')"
finish
