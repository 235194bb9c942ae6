#!/usr/bin/env python3
"""lint.py HEADER README: proves the rooms by compiling each with only the rooms that it names (and those that
these name) before it, and that it does not compile when one of these is left out; checks the contents table against the
banners, that a file which only includes the header makes no code, and compiles the README's C++ blocks and the code of its
table "Everything at a glance". Every link of the README leads somewhere, every example has a number of its own and stands in the README. Every public name is used by an example, has a comment with keys (shape,
unit, threads, ...), every class that has state says its threads, and each name stands in the README or below among those that users do not type. The manual's links lead somewhere.
Ends with "N passed, N failed"."""
import glob, html.parser, os, re, shutil, subprocess, sys, tempfile
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

without = [*flags, "-DPROMETHEUS_ASYNC_NO_DISCOVERY=1", "-DPROMETHEUS_ASYNC_IMPLEMENTATION"]
check(compiles(f'#include "{header}"\n', [cxx, *without]), "the rest compiles with PROMETHEUS_ASYNC_NO_DISCOVERY")

# Each file of a user's program includes the interface: it makes no code there. g++ writes all virtual functions of a class in
# each file if it takes one of them for the key function.
with tempfile.TemporaryDirectory() as folder:
    subprocess.run([cxx, *flags, "-I.", "-c", "-x", "c++", header, "-o", f"{folder}/o"], check=True)
    symbols = subprocess.run(["nm", "-C", f"{folder}/o"], capture_output=True, text=True, check=True).stdout.splitlines()
made = [s for s in symbols if re.search(r" [TtVWw] ", s)]
check(not made, f"the interface alone makes no code: {made[:9]}")

# What a reader copies compiles without a warning, with both.
readers = [next(filter(shutil.which, names), None) for names in (["g++"], ["clang++-19", "clang++-16", "clang++"])]
for family, found_one in zip(("g++", "clang++"), readers):
    check(found_one, f"there is a {family} to compile the README with")
readers = [r for r in readers if r]
prelude = ('#include "prometheus_async.hpp"\n#include <chrono>\n#include <cstdio>\nnamespace prom = prometheus_async;\n'
           "using namespace std::chrono_literals;\n")
page = open(readme).read()
for i, (at, block) in enumerate((m.start(), m.group(1)) for m in re.finditer(r"^```cpp\n(.*?)^```", page, re.M | re.S)):
    whole = "#include" in block
    for compiler in readers:
        check(compiles(block if whole else prelude + block, [compiler, "-std=c++20", "-Wall", "-Wextra", "-Werror"]),
              f"README block {i + 1} compiles with {compiler} -Wall -Wextra -Werror: {block.splitlines()[0]}")

# The rows of "at a glance": statements, or fields of server_options, which begin with a dot.
def section(title):
    return page[page.index(f"\n## {title}\n"):].split("\n## ")[1]
rows = [(what.strip(), re.findall(r"`([^`]+)`", code.replace("\\|", "|"))) for what, code in
        re.findall(r"^\| ([^|]+)\| ((?:\\\||[^|])+)\|[^|]*\[\d\d\]", section("Everything at a glance"), re.M)]
check(len(rows) > 20, f"the table at a glance has rows: {len(rows)}")
glance = "".join(f"// row: {what}\nprom::task<void> row_{i}() {{\n" +
                 "".join(f"    take({{{c}}});\n" if c[0] == "." else f"    {c}\n" for c in code) + "    co_return;\n}\n"
                 for i, (what, code) in enumerate(rows))
for compiler in readers:
    check(compiles('#include "tests/support/glance.hpp"\n' + glance, [compiler, "-std=c++20", "-Wall", "-Wextra", "-Wno-unused"]),
          f"the table at a glance compiles with {compiler}")

# Links, and the numbers of examples.
anchors = {re.sub(r"[^a-z0-9 _-]", "", t.lower()).replace(" ", "-") for t in re.findall(r"^#+ (.*)", page, re.M)}
for text_of, link in re.findall(r"\[([^][]+)\]\(([^)]+)\)", page):
    if link.startswith("#"):
        check(link[1:] in anchors, f"README: there is a section {link}")
    elif not link.startswith("http"):
        check(os.path.exists(link), f"README: there is {link}")
        check(not re.fullmatch(r"\d\d", text_of) or os.path.basename(link).startswith(text_of + "_"), f"README: {link} is example {text_of}")
for n, name in re.findall(r"`\[(\d\d)\] ([a-z ]+)`", page):
    check(names.get(n) == name, f"README: room [{n}] is {names.get(n)!r}, not {name!r}")
for path in re.findall(r"`((?:tests|examples|findings)/[\w./]+)`", page):
    check(os.path.exists(path), f"README: there is {path}")
for holds in re.findall(r"\| ([^|]*) \|$", section("What servers do with a page"), re.M):
    for script in re.findall(r"`(\w+)`", holds):
        check(os.path.exists(f"findings/{script}.sh"), f"README: there is findings/{script}.sh")
examples = sorted(map(os.path.basename, glob.glob("examples/[0-9]*.cpp")))
listed = re.findall(r"\[(\d\d)\]", section("All examples"))
check(sorted(listed) == [e[:2] for e in examples], f"README lists each example once, and their numbers differ: {listed}, {examples}")

# Public names. These are not in the README: the type of a value that one gets or of an option that one fills by braces.
UNTYPED = """fixed_string metric_name any_name label_names system_clock monotonic_now wall_now event_handler notify owned
    collector_handle collector_errors pulled stats_request stats_page unhandled_handler completion_handler composed
    tls_status tls_io tls_peer credential authorization_request file_sd_options textfile_options""".split()
sys.path.insert(0, os.path.dirname(__file__))
import manual
public = [(n, e) for n, _, _, found in manual.rooms(text) for e in found]
check(len(public) > 110, f"manual.py finds the public names: {len(public)}")
uses = manual.examples()
for n, e in public:
    check(manual.used_in(e, uses), f"[{n}] {e.name} is used by an example, by its name or as manual.py's UNNAMED says")
    prose, keys = e.parts()
    check(any(prose) or e.heads[0][1], f"[{n}] {e.name} says what it is")
    check(keys, f"[{n}] {e.name} says its shape, unit, clock, lifetime, threads, errors or source: one of them at least")
    for m in e.members:
        told = any(m.parts()[0]) or any(note for _, note in m.heads)
        check(e.kind != "struct" or m.kind != "variable" or told, f"[{n}] {e.name}::{m.name} says what it is")
    check(not e.private or "threads" in keys, f"[{n}] {e.name} has state and says its threads")
    said = re.search(rf"\b{e.name}\b", page) is not None
    check(said or e.name in UNTYPED, f"[{n}] {e.name} stands in the README")
    check(not said or e.name not in UNTYPED, f"[{n}] {e.name} stands in the README, and in lint.py among those that do not")
for name in {*UNTYPED, *manual.UNNAMED}:
    check(any(e.name == name for _, e in public), f"lint.py, manual.py: {name} is a public name")

# The manual: links that lead somewhere, and HTML whose elements are closed.
made = list(manual.blocks(manual.rooms(text), page, uses))
markdown, as_html = manual.markdown(made), manual.page(made)
for what, written, ids, links in (("manual.md", re.sub(r"```.*?```|`[^`]*`|^    .*?$", "", markdown, flags=re.S | re.M), r'<a id="([^"]+)"', r"\]\(([^)]+)\)"),
                                  ("manual.html", as_html, r' id="([^"]+)"', r'href="([^"]+)"')):
    known = set(re.findall(ids, written))
    def leads(to):
        return to.startswith("https:") or to[1:] in known or to.startswith("../../") and os.path.exists(to[6:].split("#")[0])
    lost = [to for to in re.findall(links, written) if not leads(to)]
    check(not lost, f"{what}: its links lead somewhere: {lost[:5]}")
    check(all(e.name in known for _, e in public), f"{what} has each public name")
open_now = []
class closes(html.parser.HTMLParser):
    def handle_starttag(self, tag, _):
        if tag not in ("meta", "br"):
            open_now.append(tag)
    def handle_endtag(self, tag):
        if not open_now or open_now.pop() != tag:
            open_now.append(f"</{tag}> before its time")
closes().feed(as_html)
check(not open_now, f"manual.html: every element is closed: {open_now[-3:]}")

print(f"{passed} passed, {len(faults)} failed")
sys.exit(bool(faults))
