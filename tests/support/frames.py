#!/usr/bin/env python3
"""frames.py OBJECT: the size in octets of the frame of each coroutine, and their sum. The object is compiled by g++ with -g."""
import re, subprocess, sys

info = subprocess.run(["readelf", "--debug-dump=info", sys.argv[1]], capture_output=True, text=True, check=True).stdout
sizes = dict(re.findall(r"DW_AT_name .*: (_Z\w+)\.Frame\n.*DW_AT_byte_size .* (\d+)\n", info))
names = subprocess.run(["c++filt", "-p", *sizes], capture_output=True, text=True, check=True).stdout.splitlines()
for name, size in sorted(zip(names, map(int, sizes.values())), key=lambda row: -row[1]):
    print(f"  {size:8d}  {re.sub(r'prometheus_async::v[0-9a-z_]*::(detail::)?', '', name)}")
print(f"  {sum(map(int, sizes.values())):8d}  all of them")
