#!/bin/sh
# CMake with FetchContent and Meson with a wrap fetch the project from git and build a program with it, as the README says.
. "$(dirname "$0")/lib.sh"
here=$(pwd)
mkdir "$tmp/origin"
cp -r prometheus_async.hpp examples "$tmp/origin/"
(cd "$tmp/origin" && git init -q -b main && git add -A && git -c user.name=t -c user.email=t@localhost commit -qm all) || exit 1

program() { # two units: the program, and one that only counts. Neither has the implementation
    mkdir -p "$1"
    cat > "$1/hello.cpp" <<'CPP'
#include "prometheus_async.hpp"
#include <cstdio>
void work();
int main() { work(); std::fputs(prometheus_async::expose().c_str(), stdout); }
CPP
    cat > "$1/work.cpp" <<'CPP'
#include "prometheus_async.hpp"
prometheus_async::counter works{"works_total", "Calls of work()."};
void work() { works.inc(); }
CPP
}
block() { # language: the README's block of that language
    awk -v fence="\`\`\`$1" '$0 == fence { on = 1; next } /^```$/ { on = 0 } on' README.md
}
counts() { "$@" | grep -qx 'works_total 1'; }

program "$tmp/cmake"
block cmake | sed "s,https://[^ )]*,file://$tmp/origin," > "$tmp/cmake/CMakeLists.txt"
ok "the README has the lines for CMake" grep -q SOURCE_SUBDIR "$tmp/cmake/CMakeLists.txt"
ok "cmake finds it" cmake -S "$tmp/cmake" -B "$tmp/cmake/build" -DCMAKE_CXX_COMPILER="${CXX:-g++}"
ok "cmake builds it" cmake --build "$tmp/cmake/build" -j2
ok "the program counts" counts "$tmp/cmake/build/hello"

program "$tmp/meson"
mkdir "$tmp/meson/subprojects"
cp -r examples/meson/prometheus_async.wrap examples/meson/packagefiles "$tmp/meson/subprojects/"
sed -i "s,^url = .*,url = file://$tmp/origin," "$tmp/meson/subprojects/prometheus_async.wrap"
block meson > "$tmp/meson/meson.build"
ok "the README has the lines for Meson" grep -q "dependency('prometheus_async')" "$tmp/meson/meson.build"
ok "meson finds it" env CXX="${CXX:-g++}" meson setup "$tmp/meson/build" "$tmp/meson"
ok "meson builds it" ninja -C "$tmp/meson/build"
ok "the program counts" counts "$tmp/meson/build/hello"

# An implementation in a file of the program's own, with the header's target; add_subdirectory.
program "$tmp/own"
cat > "$tmp/own/CMakeLists.txt" <<CMAKE
cmake_minimum_required(VERSION 3.18)
project(own CXX)
add_subdirectory($here/examples/cmake prometheus_async)
add_executable(hello hello.cpp work.cpp)
target_link_libraries(hello PRIVATE prometheus_async::header)
CMAKE
sed -i '1i #define PROMETHEUS_ASYNC_IMPLEMENTATION' "$tmp/own/work.cpp"
ok "add_subdirectory and the header's target" sh -c "cmake -S '$tmp/own' -B '$tmp/own/build' -DCMAKE_CXX_COMPILER='${CXX:-g++}' && cmake --build '$tmp/own/build' -j2"
ok "the program counts" counts "$tmp/own/build/hello"
finish
