#!/bin/sh
# The header in each form in which it may be included: every switch under every compiler, alone, twice, in
# two units, and the mistakes that must not link. Ends with "N passed, N failed".
set -u
strict="${STRICT:--std=c++20 -Wall -Wextra -Werror}"
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0
ok() { # sentence command...
    sentence=$1; shift
    if "$@" > "$dir/out" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $sentence"; head -n 20 "$dir/out"; fi
}
says() { # pattern command...: the command fails, and its output says so
    pattern=$1; shift
    ! "$@" > "$dir/said" 2>&1 && { grep -q "$pattern" "$dir/said" || { cat "$dir/said"; false; }; }
}
printf '#include "prometheus_async.hpp"\n#include "prometheus_async.hpp"\n' > "$dir/alone.cpp"
printf '#include "prometheus_async.hpp"\n#define PROMETHEUS_ASYNC_IMPLEMENTATION\n#include "prometheus_async.hpp"\n#include "prometheus_async.hpp"\n' > "$dir/impl.cpp"
for cxx in g++ clang++-16 clang++-19; do
    for with in "" -DPROMETHEUS_ASYNC_NO_NETWORK=1 -DPROMETHEUS_ASYNC_NO_THREADS=1 -DPROMETHEUS_ASYNC_SHARED=1 \
        -DPROMETHEUS_ASYNC_POLLER_POLL=1 -DPROMETHEUS_ASYNC_NO_GZIP=1 "-fno-exceptions -fno-rtti" \
        "-fno-exceptions -fno-rtti -DPROMETHEUS_ASYNC_NO_THREADS=1 -DPROMETHEUS_ASYNC_NO_NETWORK=1"; do
        ok "the header alone compiles: $cxx $with" $cxx $strict $with -I. -fsyntax-only "$dir/alone.cpp"
        ok "the implementation compiles after an earlier include: $cxx $with" $cxx $strict $with -I. -fsyntax-only "$dir/impl.cpp"
    done
done

ok "the implementation has nothing that g++ warns of when it optimises" g++ $strict -I. -O2 -c "$dir/impl.cpp" -o /dev/null

cat > "$dir/use.cpp" <<'CPP'
#include "prometheus_async.hpp"
prometheus_async::counter other{"other_total", "Made in a unit without the implementation."};
int main() { other.inc(); return other.value() == 1 ? 0 : 1; }
CPP
g++ $strict -I. -c "$dir/impl.cpp" -o "$dir/impl.o" && g++ $strict -I. -c "$dir/use.cpp" -o "$dir/use.o"
g++ $strict -fno-exceptions -I. -c "$dir/use.cpp" -o "$dir/use_noexcept.o"
ok "two units link and run" sh -c "g++ '$dir/use.o' '$dir/impl.o' -pthread -o '$dir/two' && '$dir/two'"
ok "a forgotten implementation is named" says define_PROMETHEUS_ASYNC_IMPLEMENTATION_in_exactly_one_source_file g++ "$dir/use.o" -o "$dir/none"
ok "a second implementation is named" says define_PROMETHEUS_ASYNC_IMPLEMENTATION_in_exactly_one_source_file g++ "$dir/use.o" "$dir/impl.o" "$dir/impl.o" -pthread -o "$dir/twice"
ok "units that disagree on exceptions do not link, by name" says 'v[0-9]*_noexcept' g++ "$dir/use_noexcept.o" "$dir/impl.o" -pthread -o "$dir/mixed"

cat > "$dir/serves_nothing.cpp" <<'CPP'
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
prometheus_async::counter counted{"counted_total", "A page of it is made, and not served."};
int main() { return prometheus_async::expose().empty() ? 1 : 0; }
CPP
without_deflater() { # program
    nm -C "$1" > "$dir/names" && grep -q 'prometheus_async.*expose' "$dir/names" && ! grep -i 'gzip\|crc_fold\|code_lengths' "$dir/names"
}
ok "a program that serves nothing is built" g++ $strict -I. -ffunction-sections -fdata-sections -Wl,--gc-sections "$dir/serves_nothing.cpp" -pthread -o "$dir/serves_nothing"
ok "a program that serves nothing has no deflater" without_deflater "$dir/serves_nothing"

cat > "$dir/pushes.cpp" <<'CPP'
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
int main(int n, char**) {
    prometheus_async::push_options o{.job = "j"};
    o.as = n == 1 ? prometheus_async::format::text_0_0_4 : prometheus_async::format::protobuf;
    prometheus_async::event_loop loop;
    prometheus_async::pushgateway by(loop, o);
    return 0;
}
CPP
ok "a program that pushes links without protobuf" g++ $strict -I. -DPROMETHEUS_ASYNC_NO_NATIVE=1 "$dir/pushes.cpp" -pthread -o "$dir/pushes"

# With macros as users' headers define them; hostile_macros.txt lists them.
sed '/^#/d; /^$/d' tests/support/hostile_macros.txt | tr ' ' '\n' |
    sed 's/^\(.*\)()$/#undef \1\n#define \1(...) @\1/; t; s/.*/#undef &\n#define & @&/' > "$dir/hostile.hpp"
[ "$(grep -c '#define' "$dir/hostile.hpp")" -gt 600 ] || { echo "FAILED: no macros"; failed=$((failed + 1)); }
among_macros() { # file...
    grep -hoE '^#include <[^>]*>' "$@" | sort -u | sed 's/^#include \(.*\)/#if __has_include(\1)\n&\n#endif/'
    printf '#include "hostile.hpp"\n#define PROMETHEUS_ASYNC_IMPLEMENTATION\n'
    for file; do echo "#include \"$file\""; done
}
among_macros prometheus_async.hpp > "$dir/hostile.cpp"
{ echo '#include <asio.hpp>'; echo '#include "tests/support/stdexec.hpp"'; among_macros prometheus_async.hpp examples/*_*.hpp examples/promlint.hpp; } > "$dir/hostile_all.cpp"
ok "the header and its companions compile among hostile macros: g++" g++ $strict -I. -fsyntax-only "$dir/hostile_all.cpp"
ok "the header compiles among hostile macros: clang++-19, -Os" clang++-19 $strict -I. -Os -fsyntax-only "$dir/hostile.cpp"
ok "the header compiles among hostile macros: clang++-19, poll" clang++-19 $strict -I. -fsyntax-only -DPROMETHEUS_ASYNC_POLLER_POLL=1 "$dir/hostile.cpp"
ok "the header compiles among hostile macros: g++, no exceptions, no threads" g++ $strict -I. -fsyntax-only -fno-exceptions -fno-rtti -DPROMETHEUS_ASYNC_NO_THREADS=1 "$dir/hostile.cpp"

# What a small libc does not have.
{ grep -hoE '^#include <[^>]*>' prometheus_async.hpp | sort -u
  echo '#pragma GCC poison accept4 pipe2 epoll_create1 epoll_ctl epoll_wait eventfd timerfd_create timerfd_settime getrandom getauxval pthread_setname_np'
  printf '#define PROMETHEUS_ASYNC_IMPLEMENTATION\n#include "prometheus_async.hpp"\n'; } |
    sed 's/^#include \(<.*\)/#if __has_include(\1)\n&\n#endif/' > "$dir/poisoned.cpp"
ok "PROMETHEUS_ASYNC_SMALL_LIBC uses no call that such a libc lacks" g++ $strict -I. -fsyntax-only -DPROMETHEUS_ASYNC_SMALL_LIBC=1 "$dir/poisoned.cpp"
ok "what such a libc lacks is named with the switch" says 'Define PROMETHEUS_ASYNC_SMALL_LIBC' g++ $strict -I. -fsyntax-only "$dir/poisoned.cpp"

# What is meant to be copied, beside the header, in a program that has a `prom` of its own.
mkdir "$dir/copied"
cp prometheus_async.hpp examples/*_*.hpp examples/promlint.hpp tests/support/stdexec.hpp "$dir/copied"
before() { # what the user includes before the companion
    case $1 in asio_tokens) echo '#include <asio.hpp>' ;; stdexec_senders) echo '#include "stdexec.hpp"' ;; esac
}
for name in tls_openssl tls_mbedtls asio_tokens stdexec_senders promlint; do
    { echo 'static int prom = 1;'; before $name; echo "#include \"$name.hpp\""; echo 'int main() { return prom - 1; }'; } > "$dir/copied/$name.cpp"
    ok "$name.hpp compiles beside the header" g++ $strict -fsyntax-only "$dir/copied/$name.cpp"
done
all_of() { for name; do before $name; echo "#include \"$name.hpp\""; done; }
{ echo 'static int prom = 1;'; all_of tls_openssl tls_mbedtls asio_tokens stdexec_senders promlint
  echo 'bool load() { return prom == 1 && prom_lint::lint().empty() && !openssl_server::load("none", "none") && !mbedtls_server::load("none", "none"); }'; } > "$dir/copied/one.cpp"
{ echo 'namespace prom { static int own = 1; }'; all_of promlint stdexec_senders asio_tokens tls_mbedtls tls_openssl
  echo 'bool load(); int main() { return load() && prom::own == 1 && !prom_lint::page_diff("x 1", "x 2").empty() && !openssl_client::load("none") && !mbedtls_client::load("none") ? 0 : 1; }'; } > "$dir/copied/two.cpp"
ok "all companions compile in one unit: clang++-19" clang++-19 $strict -fsyntax-only "$dir/copied/two.cpp"
ok "companions in two units link and run" sh -c "g++ $strict '$dir/copied/one.cpp' '$dir/copied/two.cpp' '$dir/impl.o' -lssl -lcrypto -lmbedtls -lmbedx509 -lmbedcrypto -pthread -o '$dir/copied/both' && '$dir/copied/both'"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
