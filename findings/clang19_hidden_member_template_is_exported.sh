#!/bin/sh
# clang 19.1.7 (Debian 1:19.1.7-3~deb12u1) and g++ 12.2.0 (Debian 12.2.0-14+deb12u1), -fPIC -shared: a member template of a class
# template, marked visibility("hidden"). One would guess that it is not exported, as an ordinary member with the mark is not.
# g++ hides both. clang hides the ordinary member and exports the template.
. "$(dirname "$0")/lib.sh"
cat > "$lab/hidden.cpp" <<'CPP'
template <class T>
struct box {
    __attribute__((visibility("hidden"), noinline)) int ordinary(int x) { return x + counter; }
    template <class U>
    __attribute__((visibility("hidden"), noinline)) int templated(U x) { return static_cast<int>(x) + counter; }
    int counter = 1;
};
extern "C" int use(int x) { box<long> b; return b.ordinary(x) + b.templated(x); }
CPP
exported() { nm -DC --defined-only "$lab/lib.so" | grep -c "$1" || :; }
gcc12
"$gcc" -std=c++20 -O0 -fPIC -shared "$lab/hidden.cpp" -o "$lab/lib.so"
expect "g++ 12.2.0: ordinary, template" "0 0" "$(exported ordinary) $(exported templated)"
clang19
"$clang" -std=c++20 -O0 -fPIC -shared "$lab/hidden.cpp" -o "$lab/lib.so"
expect "clang 19.1.7: ordinary, template" "0 1" "$(exported ordinary) $(exported templated)"
finish
