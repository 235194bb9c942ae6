#!/bin/sh
# The mbedTLS adapter with mbedTLS 3, which Debian 12 does not have: the stream, and all pairings with OpenSSL.
. "$(dirname "$0")/lib.sh"
of=$LAB/mbedtls3/usr lib=$LAB/mbedtls3/usr/lib/x86_64-linux-gnu
for test in tls_stream tls_pairs; do
    own=$B/shared/O0.o
    grep -q '^#define PROMETHEUS_ASYNC_IMPLEMENTATION' "tests/test_$test.cpp" && own=
    # shellcheck disable=SC2086
    ok "test_$test builds with mbedTLS 3" "${CXX:-g++}" -std=c++20 -O0 $own -I"$of/include" -I. "tests/test_$test.cpp" tests/support/runner.cpp \
        -o "$tmp/$test" -pthread -lssl -lcrypto "$lib/libmbedtls.a" "$lib/libmbedx509.a" "$lib/libmbedcrypto.a"
    ok "test_$test passes with mbedTLS 3" timeout 200 "$tmp/$test"
done
finish
