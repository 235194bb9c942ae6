#!/usr/bin/env python3
"""CPU time of compiling: one implementation unit as a ratio to a minimal asio coroutine server at -O2, and the interface
as a ratio to prometheus-cpp's three headers. The limit beside it: how much code (octets of all sections that are loaded) the
compiler makes in a second after it has read the source, and how much there would have to be for the goal at that rate, for -Og and for -O2.
Round-robin, the least of ROUNDS: other work on the machine only adds.
BASE=<commit> compiles that commit's header too, at -O0. Needs libasio-dev and prometheus-cpp-dev."""
import os, resource, shutil, subprocess, sys, tempfile

rounds = int(os.environ.get("ROUNDS", "3"))
header = os.path.abspath("prometheus_async.hpp")
base = os.environ.get("BASE")
compilers = {"g++": [], "clang++-16": ["-DASIO_HAS_CO_AWAIT", "-DASIO_HAS_STD_COROUTINE"]}
levels = ["-O0", "-Og", "-O2"]
goals = {("g++", "-Og"): 1.0, ("g++", "-O2"): 1.6, ("clang++-16", "-Og"): 1.0, ("clang++-16", "-O2"): 1.6}

sources = {
    "asio": """
#include <asio.hpp>
asio::awaitable<void> serve(asio::ip::tcp::socket peer) {
    char data[1024];
    for (;;) {
        const std::size_t n = co_await peer.async_read_some(asio::buffer(data), asio::use_awaitable);
        co_await asio::async_write(peer, asio::buffer(data, n), asio::use_awaitable);
    }
}
asio::awaitable<void> accept() {
    const auto loop = co_await asio::this_coro::executor;
    asio::ip::tcp::acceptor acceptor(loop, {asio::ip::tcp::v4(), 9464});
    for (;;) asio::co_spawn(loop, serve(co_await acceptor.async_accept(asio::use_awaitable)), asio::detached);
}
int main() {
    asio::io_context loop(1);
    asio::co_spawn(loop, accept(), asio::detached);
    loop.run();
}
""",
    "ours": f'#define PROMETHEUS_ASYNC_IMPLEMENTATION\n#include "{header}"\n',
    "no discovery": f'#define PROMETHEUS_ASYNC_IMPLEMENTATION\n#define PROMETHEUS_ASYNC_NO_DISCOVERY 1\n#include "{header}"\n',
    "interface": f'#include "{header}"\n',
    "peer": "#include <prometheus/counter.h>\n#include <prometheus/exposer.h>\n#include <prometheus/registry.h>\n",
}

def cpu(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(" ".join(command) + "\n" + done.stderr)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

def loaded(object_file):
    return int(subprocess.run(["size", object_file], capture_output=True, text=True, check=True).stdout.split("\n")[1].split()[0])

with tempfile.TemporaryDirectory() as tmp:
    if base:
        old = subprocess.run(["git", "show", f"{base}:prometheus_async.hpp"], capture_output=True, text=True, check=True)
        open(f"{tmp}/old.hpp", "w").write(old.stdout)
        sources["base"] = f'#define PROMETHEUS_ASYNC_IMPLEMENTATION\n#include "{tmp}/old.hpp"\n'
    for name, text in sources.items():
        open(f"{tmp}/{name}.cpp", "w").write(text)
    for compiler, flags in compilers.items():
        if not shutil.which(compiler):
            print(f"skipped: no {compiler}")
            continue
        jobs = [("asio", "-O2"), ("asio", "-Og"), ("asio", "-fsyntax-only"), *(("ours", o) for o in levels), ("ours", "-fsyntax-only"), ("no discovery", "-O2"), ("interface", "-O2"), ("peer", "-O2")]
        if base:
            jobs.append(("base", "-O0"))
        least, made = {}, {}
        for _ in range(rounds):
            for name, level in jobs:
                time = cpu([compiler, "-std=c++20", level, *flags, "-c", f"{tmp}/{name}.cpp", "-o", f"{tmp}/out.o"])
                least[name, level] = min(time, least.get((name, level), time))
                if level != "-fsyntax-only":
                    made[name, level] = loaded(f"{tmp}/out.o")
        asio = least["asio", "-O2"]
        print(f"{compiler}: a minimal asio coroutine server at -O2 {asio:.2f} s")
        rate = lambda name, level: made[name, level] / (least[name, level] - least[name, "-fsyntax-only"])
        for name, level in jobs:
            time = least[name, level]
            if name == "asio" or level == "-fsyntax-only":
                continue
            if name == "interface":
                print(f"  the interface alone {time:.2f} s, {time / least['peer', '-O2']:.2f}x prometheus-cpp's headers (goal <= 0.7x)")
            elif name == "base":
                print(f"  the implementation -O0 {least['ours', '-O0'] / time:.2f}x of {base}'s (goal <= 0.7x)")
            elif name != "peer":
                goal = goals.get((compiler, level)) if name == "ours" else None
                what = "the implementation" if name == "ours" else "without discovery "
                print(f"  {what} {level} {time:.2f} s, {time / asio:.2f}x" + (f" (goal <= {goal}x)" if goal else ""))
        for level in ("-Og", "-O2"):
            allowed = (goals[compiler, level] * asio - least["ours", "-fsyntax-only"]) * rate("ours", level)
            print(f"  code in a second at {level}: asio's {rate('asio', level) / 1e3:.0f} kB, ours {rate('ours', level) / 1e3:.0f} kB; "
                  f"ours is {made['ours', level] / 1e3:.0f} kB, at this rate the goal allows {max(allowed, 0) / 1e3:.0f} kB")
