#!/usr/bin/env python3
"""What a shared object exports of the library: nothing of it may bind to another object's copy.

    exports.py OBJECT COMPILER     prints what should not be there, and why; ends with 1 when there is something

A symbol is ours when its mangled name holds our namespace, wherever: functions, their lambdas and statics, templates of
std:: over our types. These may be exported, each for its reason:
  types      vtable and typeinfo of classes that users catch or derive from, typeinfo of bases of hidden ones: a type is one
             type everywhere
  constants  template arguments (fixed_string): the name holds the value
  made       with g++, which marks no member that the language makes itself: those listed, of plain structs
  elsewhere  functions of std:: over our public types, which no mark reaches: the same code in each copy of one version.
             Over private types only those in INSIDE, which g++ takes from the inside of a container whatever is hidden
And none of these may reach state, whatever it calls: objects that can be written, and what is a thread's. That is read
from the code, on x86-64; a call through a pointer counts for the code that names the function or a table that holds it.
"""
import collections, platform, re, subprocess, sys

OURS = "16prometheus_async"
OWN = re.compile(rf"_Z(?:G[VR]|T[HW]|Th\w*?_|Tv\w*?_|Z)*N?[KVRO]*{OURS}")
TYPED = re.compile(r"(vtable|typeinfo|typeinfo name) for (failure|collector|tls_session|service_discovery|consul_agent|file_sd|detail::allocated(_frame)?)")
MADE = re.compile(r"""(
    failure::(~failure\(\)|failure\(failure\ const&\))
  | detail::(declared|series|key_pair)::(declared|series|key_pair)\(\)
  | (page_options|server_limits)::(page_options|server_limits)\(\)
  | (lint_finding|registration|stats_page|tls_peer)::~(lint_finding|registration|stats_page|tls_peer)\(\)
  | lint_finding::lint_finding\(lint_finding(&&|\ const&)\)
  | (registration|stats_page)::(registration|stats_page)\((registration&&|stats_page&&)?\)
  | (registration|stats_page)::operator=\((registration|stats_page)&&\)
)""", re.X)

PRIVATE = re.compile(r"detail::|::operations")
INSIDE = re.compile(r"std::(_Destroy_aux|__copy_move|__copy_move_backward|__uninitialized_default_n_1)<[^>]*>::|std::__is_complete_or_unbounded<")

def lines(*command, text=None):
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout.splitlines()

def plain(names):
    return [re.sub(r"prometheus_async::v\d+\w*::", "", l) for l in lines("c++filt", text="\n".join(names) + "\n")]

def code(path):
    """For each function and each table of pointers, what it names; and the names of what is state."""
    names, ranges, state = {}, [], {"__tls_get_addr"}
    for l in lines("nm", "-S", "--defined-only", path):
        at, *size, kind, name = l.split()
        if len(at) != 16:
            continue
        names.setdefault(int(at, 16), name)
        if kind in "dDuVvrR" and size:
            ranges.append((int(at, 16), int(size[0], 16), name))
        if kind in "bBdDu" and OURS in name and not name.startswith("_ZT"):
            state.add(name)
    uses = collections.defaultdict(set)
    for l in lines("objdump", "-d", "--no-show-raw-insn", "-j", ".text", path):
        if m := re.match(r"[0-9a-f]+ <(.+)>:$", l):
            at = m[1]
        elif m := re.search(r"<([^>+]+)(?:\+0x[0-9a-f]+)?>", l):
            uses[at].add(m[1].removesuffix("@plt"))
        if "%fs:" in l and "%fs:0x28" not in l:
            uses[at].add("__tls_get_addr")
    pointers = {}
    for l in lines("readelf", "-rW", path):
        if m := re.match(r"([0-9a-f]{16}) .* R_X86_64_RELATIVE +([0-9a-f]+)", l):
            pointers[int(m[1], 16)] = names.get(int(m[2], 16))
        elif m := re.match(r"([0-9a-f]{16}) .* R_X86_64_(?:64|GLOB_DAT) +[0-9a-f]+ ([^ @]+)", l):
            pointers[int(m[1], 16)] = m[2]
    for start, size, name in ranges:
        if name not in state:  # a table whose pointers are constant
            uses[name] |= {pointers[at] for at in range(start, start + size, 8) if pointers.get(at)}
    return uses, state

def way_to_state(start, uses, state):
    came, todo = {start: None}, [start]
    for f in todo:
        for to in uses.get(f, ()):
            if to not in came:
                came[to] = f
                todo.append(to)
            if to in state:
                way = []
                while to:
                    way.append(to)
                    to = came[to]
                return " -> ".join(plain(reversed(way)))

path, compiler = sys.argv[1:]
exported = sorted({l.split()[-1] for l in lines("nm", "-D", "--defined-only", path) if OURS in l})
uses, state = code(path) if platform.machine() == "x86_64" else ({}, set())
if not state:
    print("SKIPPED: whether what is exported reaches state is read on x86-64 only", file=sys.stderr)
wrong = 0
for name, said in zip(exported, plain(exported)):
    if name.startswith("_ZTAX") or TYPED.fullmatch(said):
        continue
    why = None
    if OWN.match(name) and not (compiler == "g++" and MADE.fullmatch(said)):
        why = "has no mark"
    elif name.startswith("_ZT") or name.startswith("_ZG"):
        why = "is data"
    elif compiler == "g++" and not OWN.match(name) and PRIVATE.search(said) and not INSIDE.search(said):
        why = "is of std:: over a private type"
    elif way := way_to_state(name, uses, state):
        why = "reaches state: " + way
    if why:
        wrong += 1
        print(f"{said} {why}")
sys.exit(wrong != 0)
