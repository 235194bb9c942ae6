#!/usr/bin/env python3
"""client_cases.py < client_cases.json > client_cases.inc: the cases as C++ initialisers, so that the test needs no JSON reader."""
import json, sys

def literal(octets):
    text = "".join(chr(c) if 32 <= c < 127 and chr(c) not in '"\\?' else f"\\{c:03o}" for c in octets)
    return f'{{"{text}", {len(octets)}}}'

def part(p):
    text, n = (p["repeat"], p["n"]) if isinstance(p, dict) else (p, 1)
    return f"{{{literal(text.encode('latin-1'))}, {n}}}"

cases = json.load(sys.stdin)
print("// Made by client_cases.py from client_cases.json.")
print("constexpr response_case response_cases[] = {")
for c in cases["responses"]:
    body = literal((c["body"] or "").encode("latin-1"))
    print(f'    {{"{c["id"]}", {{{", ".join(part(p) for p in c["parts"])}}}, {str(c["outcome"] == "ok").lower()}, {c["status"] or 0}, '
          f'{str(c["body"] is not None).lower()}, {body}, {str(c["reuse"]).lower()}, {str(c.get("eof", False)).lower()}}},')
print("};\nconstexpr injection_case injection_cases[] = {")
for c in cases["injection"]:
    print(f'    {{"{c["field"]}", {literal(c["value"].encode())}}},')
print("};\nconstexpr escaping_case escaping_cases[] = {")
for c in cases["escaping"]:
    print(f'    {{{literal(c["input"].encode())}, {literal(c["json"].encode())}, {literal((c["path"] or "").encode())}}},')
print("};")
