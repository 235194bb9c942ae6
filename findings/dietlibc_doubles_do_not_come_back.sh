#!/bin/sh
# dietlibc 0.34 (Debian dietlibc-dev 0.34~cvs20160606-14): numbers as an exporter prints and a scraper reads them.
# One would guess that "%.17g" and strtod bring each double back, as in glibc and musl, and that strtod reads what printf writes.
# "%.17g" of 1/3 has 16 digits, which are another number; "%g" has no exponent, and five digits where the standard has six.
# strtod gives the neighbour of 0.7, and 0 for the "inf" that printf writes and for the +Inf of a page. "%a" prints nothing.
. "$(dirname "$0")/lib.sh"
debs dietlibc-dev=0.34~cvs20160606-14
gcc12
cat > "$lab/numbers.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char** argv) {
    if (argc == 3) {
        char text[64];
        snprintf(text, sizeof text, argv[1], atoi(argv[2]) ? atoi(argv[2]) * 1e18 : 1.0 / 3);
        printf("[%s]", text);
        return 0;
    }
    char* end;
    const double read = strtod(argv[1], &end);
    unsigned long bits;
    memcpy(&bits, &read, sizeof bits);
    printf("%lx, %lu characters left", bits, (unsigned long) strlen(end));
}
C
diet=$lab/root/usr/lib/x86_64-linux-gnu/diet/lib-x86_64
c=${gcc%g++-12}gcc-12
"$c" -O1 -fno-builtin "$lab/numbers.c" -o "$lab/glibc"
"$c" -O1 -w -fno-builtin -fno-stack-protector -nostdinc -isystem "$lab/root/usr/include/diet" -isystem "$lab/root/usr/lib/gcc/x86_64-linux-gnu/12/include" \
    "$lab/numbers.c" -nostdlib -static -no-pie "$diet/start.o" "$diet/libm.a" "$diet/libc.a" -lgcc "$diet/libc.a" -o "$lab/diet" 2> "$lab/err"
both() { echo "$("$lab/glibc" "$@"); $("$lab/diet" "$@")"; }
expect "glibc; dietlibc: %.17g of 1/3" '[0.33333333333333331]; [0.3333333333333332]' "$(both %.17g 0)"
expect "%g of 1/3" '[0.333333]; [0.33333]' "$(both %g 0)"
expect "%g of 1e18" '[1e+18]; [1000000000000000000]' "$(both %g 1)"
expect "%a of 1/3" '[0x1.5555555555555p-2]; []' "$(both %a 0)"
expect "strtod of 0.7" '3fe6666666666666, 0 characters left; 3fe6666666666667, 0 characters left' "$(both 0.7)"
expect "strtod of 0.3333333333333332" '3fd5555555555553, 0 characters left; 3fd5555555555553, 0 characters left' "$(both 0.3333333333333332)"
expect "strtod of 0.5" '3fe0000000000000, 0 characters left; 3fe0000000000000, 0 characters left' "$(both 0.5)"
expect "strtod of +Inf" '7ff0000000000000, 0 characters left; 0, 3 characters left' "$(both +Inf)"
finish
