#!/bin/sh
# protobuf-c 1.4.1 (Debian 1.4.1-1+b1) and python3-protobuf 3.21.12 (Debian 3.21.12-3+deb12u1; its two implementations), a proto3
# field `double value` as in the Sample of remote write. Protobuf's guide says that +0 is not serialized and that -0 is. One
# would guess that every implementation does so. protobuf-c and the Python one in Python leave -0 out, so that it is read as +0;
# protobuf-c reads a -0 that another wrote, the Python one in Python makes +0 of it. The Python one in C++ keeps it both ways.
. "$(dirname "$0")/lib.sh"
protobuf=3.21.12-3+deb12u1
debs protobuf-compiler=$protobuf libprotoc32=$protobuf libprotobuf32=$protobuf python3-protobuf=$protobuf \
    protobuf-c-compiler=1.4.1-1+b1 libprotobuf-c1=1.4.1-1+b1 libprotobuf-c-dev=1.4.1-1+b1
gcc12
LD_LIBRARY_PATH=$lab/root/usr/lib/x86_64-linux-gnu; export LD_LIBRARY_PATH
printf 'syntax = "proto3";\nmessage Sample { double value = 1; int64 timestamp = 2; }\n' > "$lab/sample.proto"
(cd "$lab" && root/usr/bin/protoc --plugin=root/usr/bin/protoc-gen-c --c_out=. --python_out=. sample.proto)
cat > "$lab/use.c" <<'C'
#include "sample.pb-c.h"
#include <stdio.h>
int main(void) {
    Sample minus = SAMPLE__INIT;
    minus.value = -0.0;
    printf("%zu octets, ", sample__get_packed_size(&minus));
    printf("reads %g\n", sample__unpack(NULL, 9, (const unsigned char*) "\x09\0\0\0\0\0\0\0\x80")->value);
}
C
"${gcc%g++-12}gcc-12" -I"$lab" -I"$lab/root/usr/include" "$lab/use.c" "$lab/sample.pb-c.c" "$LD_LIBRARY_PATH/libprotobuf-c.so.1" -o "$lab/use"
python_one() {
    PYTHONPATH=$lab:$lab/root/usr/lib/python3/dist-packages PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=$1 /usr/bin/python3 -c '
from sample_pb2 import Sample
print("%d octets, reads %g" % (Sample(value=-0.0).ByteSize(), Sample.FromString(b"\x09\0\0\0\0\0\0\0\x80").value))'
}
expect "Python, in C++" "9 octets, reads -0" "$(python_one cpp)"
expect "Python, in Python" "0 octets, reads 0" "$(python_one python)"
expect "protobuf-c" "0 octets, reads -0" "$("$lab/use")"
finish
