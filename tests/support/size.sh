#!/bin/sh
# What the library costs in a binary: the quickstart, built for flash and stripped, beside prometheus-cpp's smallest server.
set -eu
cxx=${CXX:-g++}
mkdir -p "$B/size"
small="-std=c++20 -Os -ffunction-sections -fdata-sections -Wl,--gc-sections -s -pthread"
lean="-fno-exceptions -fno-rtti -fno-unwind-tables -fno-asynchronous-unwind-tables"
build() { # label source flags...
    label=$1 source=$2; shift 2
    $cxx "$source" -o "$B/size/out" -I. $small "$@" 2> "$B/size/err" || { printf '  %-58s not built: %s\n' "$label" "$(head -1 "$B/size/err")"; return 0; }
    printf '  %-58s %8d bytes\n' "$label" "$(wc -c < "$B/size/out")"
}
printf 'int main() {}\n' > "$B/size/empty.cpp"
build "an empty program, static"                      "$B/size/empty.cpp" -static
build "the quickstart, dynamic"                       examples/01_quickstart.cpp
build "the quickstart, dynamic, no exceptions"        examples/01_quickstart.cpp $lean
build "the quickstart, static"                        examples/01_quickstart.cpp -static
build "the quickstart, static, no exceptions"         examples/01_quickstart.cpp -static $lean
peer=0
for so in libprometheus-cpp-core.so libprometheus-cpp-pull.so libcivetweb.so libz.so; do
    file=$(readlink -f "$($cxx -print-file-name=$so)")
    [ -f "$file" ] && peer=$((peer + $(wc -c < "$file")))
done
printf '  %-58s %8d bytes\n' "what prometheus-cpp's server loads (core, pull, civetweb, z)" $peer
