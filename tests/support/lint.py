#!/usr/bin/env python3
"""lint.py HEADER README: proves the rooms by compiling each with only the rooms that it names (and those that
these name) before it, and that it does not compile when one of these is left out; checks the contents table against the
banners, and compiles the README's C++ blocks.
Ends with "N passed, N failed"."""
import os, re, shutil, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor

header, readme = sys.argv[1:3]
cxx = os.environ.get("CXX") or "g++"
flags = (os.environ.get("STRICT") or "-std=c++20 -Wall -Wextra").split()
flags = [f for f in flags if f != "-Werror"] + ["-Wno-unused", "-Wno-undefined-inline", "-Wno-undefined-internal"]
passed, faults = 0, []

def check(good, sentence):
    global passed
    if good:
        passed += 1
    else:
        faults.append(sentence)
        print("FAILED:", sentence)

text = open(header).read()
banner = re.compile(r"^// =+\n// \[(\d\d)\] (.+?)  +(.*)\n(?://      needs ((?:\[\d\d\] ?)+)\n)?// =+\n", re.M)
found = list(banner.finditer(text))
numbers = [m.group(1) for m in found]
needs = {m.group(1): re.findall(r"\d\d", m.group(4) or "") for m in found}
names = {m.group(1): m.group(2) for m in found}
ends = [m.start() for m in found[1:]] + [len(text)]
# Lines that hold several rooms together say so, and are not part of any.
body = {m.group(1): re.sub(r"^#.*  // rooms \[.*\n", "", text[m.start():end], flags=re.M) for m, end in zip(found, ends)}

check(numbers == sorted(numbers) and len(set(numbers)) == len(numbers), "room numbers ascend")
for n in numbers:
    check(all(x in needs and x < n for x in needs[n]), f"room [{n}] needs only rooms before it: {needs[n]}")
for n, name in re.findall(r"\[(\d\d)\] (\S+(?: \S+)*)  ", text[:found[0].start()]):
    check(names.get(n) == name, f"the contents name room [{n}] as its banner does: {name!r}, {names.get(n)!r}")
contents = set(re.findall(r"^//.*?\[(\d\d)\] ", text[:found[0].start()], re.M)) | set(re.findall(r" \[(\d\d)\] ", text[:found[0].start()]))
for n in numbers:
    check(n in contents, f"the contents list room [{n}]")

def closure(n, without=None, seen=None):
    """The rooms that n needs, and those that these need; `without` is left out of n's own needs."""
    seen = set() if seen is None else seen
    for x in needs[n]:
        if x != without and x not in seen:
            seen.add(x)
            closure(x, None, seen)
    return seen

def compiles(source, with_=None, quiet=False):
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as f:
        f.write(source)
        f.flush()
        done = subprocess.run([*(with_ or [cxx, *flags]), "-I.", "-fsyntax-only", f.name], capture_output=True, text=True)
    if done.returncode and not quiet:
        print("\n".join(done.stderr.splitlines()[:12]))
    return done.returncode == 0

def room(n, without=None):
    before = [r for r in numbers if r in closure(n, without) | {"10"} and r != n]
    return before, "".join(body[r] for r in before) + body[n]

def prove(n):
    before, source = room(n)
    found = [(compiles(source), f"room [{n}] {names[n]} compiles with only {' '.join(before)} before it")]
    for x in needs[n]:
        if x == numbers[0]:  # is before each
            continue
        implied = room(n, x)[0] == before
        spare = implied or compiles(room(n, x)[1], [cxx, *flags, "-fmax-errors=1" if "clang" not in cxx else "-ferror-limit=1"], True)
        found.append((not spare, f"room [{n}] {names[n]} needs [{x}]" + " itself: another of its needs brings it" * implied))
    return found

with ThreadPoolExecutor(os.cpu_count()) as workers:
    for proofs in workers.map(prove, numbers):
        for proof in proofs:
            check(*proof)

# What a reader copies compiles without a warning, with both.
readers = [next(filter(shutil.which, names), None) for names in (["g++"], ["clang++-19", "clang++-16", "clang++"])]
for family, found_one in zip(("g++", "clang++"), readers):
    check(found_one, f"there is a {family} to compile the README with")
readers = [r for r in readers if r]
prelude = ('#include "prometheus_async.hpp"\n#include <chrono>\n#include <cstdio>\nnamespace prom = prometheus_async;\n'
           "using namespace std::chrono_literals;\n")
for i, (at, block) in enumerate((m.start(), m.group(1)) for m in re.finditer(r"^```cpp\n(.*?)^```", open(readme).read(), re.M | re.S)):
    whole = "#include" in block
    for compiler in readers:
        check(compiles(block if whole else prelude + block, [compiler, "-std=c++20", "-Wall", "-Wextra", "-Werror"]),
              f"README block {i + 1} compiles with {compiler} -Wall -Wextra -Werror: {block.splitlines()[0]}")

print(f"{passed} passed, {len(faults)} failed")
sys.exit(bool(faults))
