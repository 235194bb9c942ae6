#!/usr/bin/env python3
"""rooms.py HEADER OBJECT: bytes of code and constants by room of the header. The object is compiled with -g1 or -g."""
import collections, re, subprocess, sys

header, binary = sys.argv[1:3]
lines = open(header).read().splitlines()
starts = [(i, m.group(1)) for i, line in enumerate(lines, 1)
          if (m := re.match(r"// (\[\d\d\] .+?)  +", line)) and lines[i - 2].startswith("// ====")]

def room(line):
    return next((name for at, name in reversed(starts) if at <= line), "before the rooms")

sizes, seen = collections.Counter(), set()
names = subprocess.run(["nm", "-S", "-C", "-l", "--size-sort", binary], capture_output=True, text=True, check=True).stdout
for line in names.splitlines():
    m = re.match(r"(\S+) (\S+) ([tTwWrRvVu]) (.*?)(?:\t(.*):(\d+))?$", line)
    if m and (m.group(4), m.group(2)) not in seen:  # a constructor has two names
        seen.add((m.group(4), m.group(2)))
        ours = (m.group(5) or "").endswith(header)
        sizes[room(int(m.group(6))) if ours else "[--] the standard library's templates and the rest"] += int(m.group(2), 16)
total = sum(sizes.values())
for name, size in sizes.most_common():
    print(f"  {size:8d}  {100 * size / total:4.1f} %  {name}")
