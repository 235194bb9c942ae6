#!/bin/sh
# mbedTLS 2.28.3 (Debian libmbedtls-dev 2.28.3-1), a client that has set the host of its URL by mbedtls_ssl_set_hostname, as it must
# for the certificate to be checked. RFC 6066 does not permit IP addresses in the server_name extension. One would guess that
# the library leaves the extension out for one, as Python does (it is asked here too, with the OpenSSL of the system). It sends the address as a DNS name:
# a scraper, whose targets are mostly addresses, asks each server for a virtual host of that name.
. "$(dirname "$0")/lib.sh"
debs libmbedtls-dev=2.28.3-1 libmbedtls14=2.28.3-1 libmbedx509-1=2.28.3-1 libmbedcrypto7=2.28.3-1
gcc12
cat > "$lab/hello.c" <<'C'
#include <mbedtls/ssl.h>
#include <stdio.h>
#include <string.h>
static int numbers(void* no, unsigned char* at, size_t n) { return (void) no, memset(at, 7, n), 0; }
static int sent(void* no, const unsigned char* at, size_t n) { return (void) no, fwrite(at, 1, n, stdout), (int) n; }
static int received(void* no, unsigned char* at, size_t n) { return (void) no, (void) at, (void) n, MBEDTLS_ERR_SSL_WANT_READ; }
int main(int argc, char** argv) {
    mbedtls_ssl_context tls;
    mbedtls_ssl_config config;
    mbedtls_ssl_init(&tls), mbedtls_ssl_config_init(&config);
    mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    mbedtls_ssl_conf_rng(&config, numbers, NULL);
    mbedtls_ssl_setup(&tls, &config);
    if (argc > 1) mbedtls_ssl_set_hostname(&tls, argv[1]);
    mbedtls_ssl_set_bio(&tls, NULL, sent, received, NULL);
    return mbedtls_ssl_handshake(&tls) != MBEDTLS_ERR_SSL_WANT_READ;
}
C
at=$lab/root/usr/lib/x86_64-linux-gnu
"${gcc%g++-12}gcc-12" -I"$lab/root/usr/include" "$lab/hello.c" "$at/libmbedtls.so.14" "$at/libmbedx509.so.1" "$at/libmbedcrypto.so.7" -Wl,-rpath,"$at" -Wl,-rpath-link,"$at" -o "$lab/hello"
cat > "$lab/name.py" <<'PY'
import sys
hello = sys.stdin.buffer.read()[5:]  # behind the record's head: type 1, length 3, version 2, random 32
at = 38
at += 1 + hello[at]
at += 2 + int.from_bytes(hello[at:at + 2], "big")
at += 1 + hello[at]
end = at + 2 + int.from_bytes(hello[at:at + 2], "big")
at += 2
name = "none"
while at < end:
    kind, n = int.from_bytes(hello[at:at + 2], "big"), int.from_bytes(hello[at + 2:at + 4], "big")
    if kind == 0: name = hello[at + 9:at + 4 + n].decode()
    at += 4 + n
print(name)
PY
name() { "$lab/hello" "$@" | python3 "$lab/name.py"; }
python_name() { python3 -c '
import ssl, sys
out = ssl.MemoryBIO()
context = ssl.create_default_context()
tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=sys.argv[1])
try: tls.do_handshake()
except ssl.SSLWantReadError: pass
sys.stdout.buffer.write(out.read())' "$1" | python3 "$lab/name.py"; }
expect "no name set" none "$(name)"
expect "metrics.example" metrics.example "$(name metrics.example)"
expect "192.0.2.1" 192.0.2.1 "$(name 192.0.2.1)"
expect "2001:db8::1" 2001:db8::1 "$(name 2001:db8::1)"
expect "Python's ssl, metrics.example" metrics.example "$(python_name metrics.example)"
expect "Python's ssl, 192.0.2.1" none "$(python_name 192.0.2.1)"
finish
