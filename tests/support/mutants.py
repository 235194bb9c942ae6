#!/usr/bin/env python3
"""mutants.py HEADER: makes N small changes of the header, one at a time, and tells which of them no test notices.

The changes are drawn by SEED, spread over the rooms by their size. For each, only the tests of the rooms that depend on
it are compiled and run, the nearest first, until one fails: a test's rooms are those that its first lines name
([44]), or the one of its own name, and for an interface what implements it; else all that it includes. Survivors are listed with line and change; those that
tests/support/mutants.txt judges to be equivalent are counted apart. Ends with "N passed, N failed": noticed, survived.
Variables: N, SEED, JOBS (mutants at once), MINUTES (no new mutant after so many), ROOMS ("44 50": only these), CXX.
"""
import concurrent.futures, os, random, re, shutil, signal, subprocess, sys, tempfile, threading, time

header = sys.argv[1]
def number(name, otherwise):
    said = os.environ.get(name) or str(otherwise)
    if not said.isdigit() or int(said) == 0:
        print(f"{name}={said}: give a number, 1 or more", file=sys.stderr)
        sys.exit(2)
    return int(said)
wanted, seed, jobs, minutes = number("N", 20), number("SEED", 1), number("JOBS", 2), number("MINUTES", 60)
cxx = os.environ.get("CXX") or "g++"
compile_ = [cxx, "-std=c++20", "-O0", "-w", "-fvisibility=hidden", "-I.", "-Itests"]

lines = open(header).read().split("\n")
text = "\n".join(lines)

# --- the rooms -----------------------------------------------------------------------------------------------------
banner = re.compile(r"^// =+\n// \[(\d\d)\] (.+?)  +.*\n(?://      needs ((?:\[\d\d\] ?)+)\n)?// =+\n", re.M)
found = list(banner.finditer(text))
needs = {m.group(1): set(re.findall(r"\d\d", m.group(3) or "")) for m in found}
names = {m.group(1): m.group(2).replace(" ", "_") for m in found}
starts = [(text.count("\n", 0, m.end()), m.group(1)) for m in found]
def room_of(line):
    return [n for at, n in starts if at <= line][-1] if line >= starts[0][0] else None
def dependents(room):
    all_, grew = {room}, True
    while grew:
        more = {n for n in needs if needs[n] & all_} | all_
        all_, grew = more, more != all_
    return all_
def is_interface(room):
    return int(room) < 40
only = set((os.environ.get("ROOMS") or " ".join(needs)).split())
if only - set(needs):
    print(f"ROOMS: there is no room {' '.join(sorted(only - set(needs)))}", file=sys.stderr)
    sys.exit(2)
network = {n for n in needs if 34 <= int(n) <= 38 or 56 <= int(n) <= 74}

# --- the tests -----------------------------------------------------------------------------------------------------
class Test:
    def __init__(self, path):
        self.path, self.name = path, os.path.basename(path)[len("test_"):-len(".cpp")]
        source = open(path).read()
        head = "\n".join(l for l in source.split("\n")[:12] if l.startswith("//"))
        self.private = bool(re.search(r"^#define PROMETHEUS_ASYNC_IMPLEMENTATION", source, re.M))
        self.alone = bool(re.search(r"^#define PROMETHEUS_ASYNC_(DETAIL_|NO_)", source, re.M))
        self.libs = re.findall(r"-l\S+", "".join(re.findall(r"^// libs:(.*)", source, re.M)))
        self.named = set(re.findall(r"\[(\d\d)\]", head)) | {n for n in names if names[n] == self.name}
        all_ = set(needs) - (network if "PROMETHEUS_ASYNC_NO_NETWORK 1" in source else set())
        # An interface is tested through what implements it.
        self.rooms = {r for n in self.named for r in ([n] if not is_interface(n) else dependents(n))} & all_ or all_
        self.size = len(self.rooms)
tests = [Test(os.path.join("tests", f)) for f in sorted(os.listdir("tests")) if re.fullmatch(r"test_\w+\.cpp", f)]

# --- the changes ---------------------------------------------------------------------------------------------------
def active_lines():
    """Those that this compiler sees: a change behind a switch that is off is no change."""
    out = subprocess.run([cxx, "-std=c++20", "-E", "-DPROMETHEUS_ASYNC_IMPLEMENTATION", "-x", "c++", header], capture_output=True, text=True, check=True)
    seen, here, at = set(), False, 0
    for line in out.stdout.split("\n"):
        marker = re.match(r'# (\d+) "(.*?)"', line)
        if marker:
            here, at = marker.group(2) == header, int(marker.group(1)) - 1
        else:
            if here and line.strip():
                seen.add(at)
            at += 1
    return seen

def masked(line):
    """The line with its strings, characters and comment blanked, so that a column means the same in both."""
    line = re.sub(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'', lambda m: "\1" * len(m.group()), line)
    return re.sub(r"//.*", lambda m: " " * len(m.group()), line)

relations = {" < ": " <= ", " <= ": " < ", " > ": " >= ", " >= ": " > ", " == ": " != ", " != ": " == ", " && ": " || ", " || ": " && "}
signs = {" + ": " - ", " - ": " + ", " += ": " -= ", " -= ": " += ", "++": "--", "--": "++", " << ": " >> ", " >> ": " << "}
statement = re.compile(r"\s+(?:\(void\))?(?:\+\+|--|\*)?[\w:.\->\[\]]+(?:\(.*\)| [-+|&^]?= .*|\+\+|--)?(?:\.\w+\(.*\))?;\s*")
leaving = re.compile(r"\s+(?:else )?if \(.*\) (?:return|continue|break)\b[^{}]*;\s*")
never = re.compile(r"\s*(?:#|template|static_assert|using|friend|typedef|namespace|struct|class|enum|PROMETHEUS_ASYNC_|operator)|.*\b(?:static_assert|= (?:delete|default))\b")
def is_statement(code):
    return bool(statement.fullmatch(code)) and not re.match(r"\s+(?:return|break|continue|goto|throw|co_return|case|default|public|private)\b", code)

def swaps(code, line, table):
    for old, new in table.items():
        for m in re.finditer(re.escape(old), code):
            yield line[:m.start()] + new + line[m.end():]
def constants(code, line):
    for m in re.finditer(r"(?<![\w.'])(?:0x[0-9a-fA-F]+|0|[1-9]\d*)(?![\w.'])", code):
        for step in (1, -1):
            value = int(m.group(), 0) + step
            if value >= 0:
                yield line[:m.start()] + str(value) + line[m.end():]
    for old, new in (("true", "false"), ("false", "true")):
        for m in re.finditer(rf"\b{old}\b", code):
            yield line[:m.start()] + new + line[m.end():]
def negations(code, line):
    for m in re.finditer(r"\bif \(", code):
        depth, at = 1, m.end()
        while at < len(code) and depth:
            depth += {"(": 1, ")": -1}.get(code[at], 0)
            at += 1
        if depth == 0 and ";" not in code[m.end():at]:
            yield line[:m.end()] + "!(" + line[m.end():at - 1] + "))" + line[at:]
def dropped(code, line):
    indent = re.match(r"\s*", line).group()
    if is_statement(code):
        yield indent + ";"
def early(code, line):
    if leaving.fullmatch(code):
        yield re.match(r"\s*", line).group() + ("else ;" if code.strip().startswith("else") else ";")
rules = {"relation": lambda c, l: swaps(c, l, relations), "constant": constants, "sign": lambda c, l: swaps(c, l, signs),
         "dropped statement": dropped, "early return": early, "negated condition": negations, "swapped neighbours": None}

def changes_of(room, active):
    """By rule: (line, how many lines, what stands there then)."""
    all_ = {rule: [] for rule in rules}
    for i in sorted(active):
        code = masked(lines[i])
        if room_of(i) != room or never.match(code):
            continue
        for rule, make in rules.items():
            if make:
                all_[rule] += [(i, 1, [new]) for new in make(code, lines[i])]
        if i + 1 in active and all(is_statement(masked(lines[k])) for k in (i, i + 1)) and \
                re.match(r"\s*", lines[i]).group() == re.match(r"\s*", lines[i + 1]).group():
            all_["swapped neighbours"].append((i, 2, [lines[i + 1], lines[i]]))
    return all_

def draw(rng):
    """Endless: (room, rule, line, how many, new lines), none twice; the rooms in proportion to their lines that compile."""
    active = active_lines()
    weight = {n: sum(room_of(i) == n for i in active) for n in needs if n in only}
    possible = {n: changes_of(n, active) for n in weight}
    given = {n: 0 for n in weight}
    while True:
        open_ = [n for n in weight if any(possible[n].values())]
        if not open_:
            return
        room = max(open_, key=lambda n: (weight[n] / (given[n] + 0.5 + rng.random() / 10), n))
        given[room] += 1
        rule = rng.choice([r for r in rules if possible[room][r]])
        change = possible[room][rule].pop(rng.randrange(len(possible[room][rule])))
        yield (room, rule, *change)

# --- one change ----------------------------------------------------------------------------------------------------
class Tree:
    """A copy of what compiles, with a header of its own."""
    def __init__(self, with_lines):
        self.dir = tempfile.mkdtemp()
        for sub in ("tests", "examples"):
            shutil.copytree(sub, os.path.join(self.dir, sub))
        with open(os.path.join(self.dir, header), "w") as f:
            f.write("\n".join(with_lines))
    def __enter__(self):
        return self
    def __exit__(self, *_):
        shutil.rmtree(self.dir)
    def passes(self, *words, cpu=600):
        """What takes more processor seconds, ten times as long, or 4 GB of memory does not; it leaves no process behind."""
        limited = ["sh", "-c", f'ulimit -t {cpu}; ulimit -v 4000000; exec "$@"', "sh", *words]
        program = subprocess.Popen(limited, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            return program.wait(10 * cpu) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            try:
                os.killpg(program.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            program.wait()
    def compile(self, *words):
        return self.passes(*compile_, *words)

objects = {}  # of what a change of the implementation half does not touch, made once
kept = tempfile.mkdtemp()
def object_of(test, tree):
    own = test.private or tree.room is not None and is_interface(tree.room)
    if not own and test.name in objects:
        return objects[test.name]
    to = os.path.join(tree.dir if own else kept, test.name + ".o")
    part = f"{to}.{os.path.basename(tree.dir)}"
    if not tree.compile("-c", test.path, "-o", part):
        return None
    os.replace(part, to)
    if not own:
        objects[test.name] = to
    return to

def link(tree, test):
    """A program of this test alone."""
    made = object_of(test, tree)
    parts = [made, runner] if test.private else [made, "implementation.o", runner]
    return made and tree.compile(*parts, "-o", test.name, "-pthread", *test.libs)
def link_together(tree, several):
    with open(os.path.join(tree.dir, "unit.cpp"), "w") as f:
        subprocess.run(["tests/support/together.sh", *[t.path for t in several]], cwd=tree.dir, stdout=f, check=True)
    return tree.compile("unit.cpp", runner, "-o", "unit", "-pthread", *sorted({l for t in several for l in t.libs}))
def implementation(tree):
    return tree.compile("-c", "-DPROMETHEUS_ASYNC_IMPLEMENTATION", "-x", "c++", header, "-o", "implementation.o")

sound = {}  # by test: passes without a change
sound_lock = threading.Lock()
def passes_unchanged(test):
    """A test that fails without a change notices nothing. Tried once for each test that claims to notice."""
    with sound_lock:
        if test.name not in sound:
            with Tree(lines) as tree:
                tree.room = None
                sound[test.name] = (test.private or implementation(tree)) and link(tree, test) and tree.passes("./" + test.name, cpu=20)
            if not sound[test.name]:
                print(f"  {test.path} fails without a change: it is left out", flush=True)
        return sound[test.name]

def groups_of(room):
    """(tests, as one unit?), the nearest first: private ones that name the room, those that only link, the others."""
    affected = dependents(room)
    chosen = sorted((t for t in tests if t.rooms & affected), key=lambda t: (room not in t.named, bool(t.libs), t.size))
    for group in ([t for t in chosen if t.private and room in t.named], [t for t in chosen if not t.private],
                  [t for t in chosen if t.private and room not in t.named]):
        for t in group:
            if t.alone or not t.private:
                yield [t], False
        for libs in (False, True):
            unit = [t for t in group if t.private and not t.alone and bool(t.libs) == libs]
            if unit:
                yield unit, True

def examine(room, rule, at, count, new):
    """("noticed", by), ("survived", ""), or ("does not compile", "")."""
    with Tree(lines[:at] + new + lines[at + count:]) as tree:
        tree.room = room
        if not implementation(tree):
            return "does not compile", ""
        for several, unit in groups_of(room):
            built = link_together(tree, several) if unit else link(tree, several[0])
            for t in several:
                passed = built and (tree.passes("./unit", f"--source-file=*/{os.path.basename(t.path)}", cpu=20) if unit
                                    else tree.passes("./" + t.name, cpu=20))
                if not passed and passes_unchanged(t):
                    return "noticed", t.name + ("" if built else " (does not compile)")
        if is_interface(room):
            cases = [os.path.join("tests/compile_fail", f) for f in sorted(os.listdir("tests/compile_fail")) if f.endswith(".cpp")]
            if not tree.passes("tests/support/compile_fail.sh", cxx, *cases):
                return "noticed", "compile_fail"
        return "survived", ""

# --- all of them ---------------------------------------------------------------------------------------------------
def shown(change):
    room, rule, at, count, new = change
    return "\n".join([f"{header}:{at + 1}: [{room}] {names[room]}: {rule}", *(f"  - {l.strip()}" for l in lines[at:at + count]), *(f"  + {l.strip()}" for l in new)])
def key(change):
    return "\n".join(shown(change).split("\n")[1:])

# Each judged change: its "  - " and "  + " lines as they are printed, then the reason.
judged = set()
at_file = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mutants.txt")
for block in re.split(r"\n\s*\n", open(at_file).read()):
    change = [l for l in block.split("\n") if l.startswith(("  - ", "  + "))]
    if change:
        judged.add("\n".join(change))

print(f"{wanted} changes, seed {seed}, {jobs} at once, no new one after {minutes} min", flush=True)
runner = os.path.join(kept, "runner.o")
if subprocess.run([*compile_, "-c", "tests/support/runner.cpp", "-o", runner]).returncode:
    sys.exit("the tests' runner does not compile")
began, table, survivors, uncompiled = time.monotonic(), {}, [], 0
drawn = draw(random.Random(seed))
done = 0
try:
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {}
        while True:
            late = time.monotonic() - began > 60 * minutes
            while len(running) < min(jobs, wanted - done) and not late and (change := next(drawn, None)):
                running[pool.submit(examine, *change)] = change
            if not running:
                break
            for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                change = running.pop(future)
                what, by = future.result()
                if what == "does not compile":  # another instead
                    uncompiled += 1
                    continue
                if what == "survived" and key(change) in judged:
                    what = "equivalent"
                done += 1
                row = table.setdefault(change[0], {"noticed": 0, "survived": 0, "equivalent": 0})
                row[what] += 1
                if what == "survived":
                    survivors.append(change)
                print(f"  {done} of {wanted}  {what}{' by ' + by if by else ''}: {shown(change)}", flush=True)
finally:
    shutil.rmtree(kept)

print(f"\n{'room':22} changes noticed equivalent survived")
for n in sorted(table):
    row = table[n]
    print(f"[{n}] {names[n]:17} {sum(row.values()):7} {row['noticed']:7} {row['equivalent']:10} {row['survived']:8}")
if survivors:
    print("\nNo test notices:")
    for change in sorted(survivors, key=lambda c: c[2]):
        print(shown(change))
print(f"\n{uncompiled} more did not compile; {wanted - done} were not tried in the time")
noticed = sum(row["noticed"] for row in table.values())
print(f"{noticed} passed, {len(survivors)} failed")
sys.exit(bool(survivors))
