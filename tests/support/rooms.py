#!/usr/bin/env python3
"""rooms.py HEADER OBJECT: bytes of code and constants by room of the header. The object is compiled with -g1 or -g.

A function is in the room of its first line. Constants and tables of virtual functions have no line: theirs is the line that defines them.
"""
import collections, os, re, subprocess, sys, tempfile

header, binary = sys.argv[1:3]
lines = open(header).read().splitlines()
starts = [(i, m.group(1)) for i, line in enumerate(lines, 1)
          if (m := re.match(r"// (\[\d\d\] .+?)  +", line)) and lines[i - 2].startswith("// ====")]


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def room(line):
    return next((name for at, name in reversed(starts) if at <= line), "before the rooms")


def defined(name):
    last = re.sub(r"\(.*|<.*", "", name).split("::")[-1]
    form = rf"^(class|struct) .*\b{last}\b.*\{{" if name.startswith(("vtable", "typeinfo")) else rf"\b{last}(\[.*\])? *(=|\{{)"
    return next((i for i, line in enumerate(lines, 1) if re.search(form, line)), 0)


with tempfile.TemporaryDirectory() as work:  # linked, each function has an address of its own
    linked = os.path.join(work, "linked")
    run("ld", "--unresolved-symbols=ignore-all", "--defsym=__dso_handle=0", "-e", "0", "-o", linked, binary)
    symbols = [m.groups() for line in run("nm", "-S", "-C", linked) if (m := re.match(r"(\S+) (\S+) ([tTwWrRvVu]) (.*)$", line))]
    with open(os.path.join(work, "addresses"), "w") as file:
        file.writelines(address + "\n" for address, *_ in symbols)
    places = run("addr2line", "-e", linked, f"@{file.name}")

sizes, seen = collections.Counter(), set()
for (address, size, kind, name), place in zip(symbols, places, strict=True):
    if address in seen:  # a constructor has two names
        continue
    seen.add(address)
    at = re.match(rf"(?:.*/)?{re.escape(os.path.basename(header))}:(\d+)", place)
    line = int(at[1]) if at else defined(name) if "prometheus_async" in name and kind not in "tTwW" else 0
    sizes[room(line) if line else "[--] the standard library's templates and the rest"] += int(size, 16)
total = sum(sizes.values())
for name, size in sizes.most_common():
    print(f"  {size:8d}  {100 * size / total:4.1f} %  {name}")
