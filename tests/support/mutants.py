#!/usr/bin/env python3
"""mutants.py HEADER: makes N small changes of the header, one at a time, and tells which of them no test notices.

The changes are drawn by SEED, spread over the rooms by their size. For each, only the tests of the rooms that depend on
it are compiled and run, the nearest first, until one fails: a test's rooms are those that its first lines name
([44]), or the one of its own name, and for an interface what implements it; else all that it includes. Survivors are listed with line and change; those that
tests/support/mutants.txt judges to be equivalent are counted apart. Ends with "N passed, N failed": noticed, survived.
Variables: N, SEED, JOBS (mutants at once), MINUTES (no new mutant after so many), ROOMS ("44 50": only these), CXX,
RESULTS (a file: each result is appended at once; a run of the same header that was stopped goes on from there).
"""
import concurrent.futures, json, os, random, re, shutil, signal, subprocess, sys, tempfile, threading, time

header = sys.argv[1]
def number(name, otherwise):
    given = os.environ.get(name) or str(otherwise)
    if not given.isdigit() or int(given) == 0:
        print(f"{name}={given}: give a number, 1 or more", file=sys.stderr)
        sys.exit(2)
    return int(given)
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
        self.alone = bool(re.search(r"^#define PROMETHEUS_ASYNC_(?:DETAIL_|ALLOCATE)", source, re.M))
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

# --- many changes in one header ------------------------------------------------------------------------------------
# Compiling is most of the time. So changes that can be put behind a switch, which the program reads from its environment,
# share one header and one set of programs. The others, and those that turn out to be constants, are compiled one by one.
switch = """#pragma once
#include <cstdlib>
#include <fcntl.h>
#include <type_traits>
#include <unistd.h>
namespace mutant {
inline bool chosen(int k) noexcept {
    static const int active = std::getenv("MUTANT") ? std::atoi(std::getenv("MUTANT")) : 0;
    if (k != active) return false;
    static const bool told = [] { const char* path = std::getenv("MUTANT_REACHED"); return path && ::close(::open(path, O_CREAT | O_WRONLY, 0600)) == 0; }();
    return static_cast<void>(told), true;
}
constexpr bool on(int k) noexcept { return !std::is_constant_evaluated() && chosen(k); }
template <class A, class B>
constexpr auto value(int k, A is, B becomes) noexcept { return on(k) ? becomes : is; }
}
"""
def closes(code, at):
    """Where the bracket that opens at `at` closes, or None."""
    depth = 0
    for i in range(at, len(code)):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(code[i], 0)
        if depth == 0:
            return i
    return None
def whole(code):
    return closes("(" + code + ")", 0) == len(code) + 1
def top_level(code, what):
    """Where it stands outside of all brackets."""
    depth = 0
    for i, c in enumerate(code):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(c, 0)
        if depth == 0 and code.startswith(what, i):
            yield i
declares = re.compile(r"(?:(?:static|const|constexpr|constinit|inline|mutable|thread_local|unsigned|struct) )*(?!(?:return|delete|throw|co_return|co_await|co_yield|goto|case|else|new|if|for|while|do|switch|using)\b)[\w:]+(?:<.*>)?(?: const)?[ *&]+(?:\w+|\[[\w, ]+\])(?: = |\{|\(|;|\[|, )")
def switched(k, change):
    """The lines with both forms in them, as many as there were; None where it is not known how."""
    room, rule, at, count, new = change
    old, code = lines[at:at + count], masked(lines[at])
    on = f"mutant::on({k})"
    def bare(l):
        return l[:len(masked(l).rstrip())].strip()  # without a comment
    if rule == "dropped statement":
        return ["{ if (!" + on + ") { " + bare(old[0]) + " } }"]
    if rule == "early return":
        return None if code.strip().startswith("else") else ["{ if (!" + on + ") { " + bare(old[0]) + " } }"]
    if rule == "swapped neighbours":
        return ["{ if (" + on + ") { " + " ".join(map(bare, new)) + " } else { " + " ".join(map(bare, old)) + " } }", ""]
    a, b = old[0], new[0]
    first = next(i for i in range(min(len(a), len(b)) + 1) if a[:i + 1] != b[:i + 1] or i >= min(len(a), len(b)))
    last = next(i for i in range(len(a) + 1) if a[len(a) - i - 1:] != b[len(b) - i - 1:] or i >= min(len(a), len(b)) - first)
    end = len(a) - last  # a[first:end] is what changes
    def inside(begin, stop):
        return begin <= first and end <= stop
    def both(begin, stop, form):
        """form(changed, unchanged) in the place of a[begin:stop]"""
        return [a[:begin] + form(b[begin:len(b) - (len(a) - stop)], a[begin:stop]) + a[stop:]] if inside(begin, stop) and whole(code[begin:stop]) else None
    def condition(begin, stop):
        text = code[begin:stop]
        if ";" in text or re.match(r"\s*(?:const )?(?:auto|[\w:]+(?:<.*>)?)[ *&]+\w+ = ", text) or not text.strip():
            return None
        return both(begin, stop, lambda to, was: f"{on} ? static_cast<bool>({to}) : static_cast<bool>({was})")
    def statement(begin, stop):
        return both(begin, stop, lambda to, was: f"{{ if ({on}) {{ {to.strip()} }} else {{ {was.strip()} }} }}")
    if "//" in a[first:end]:
        return None
    comment = len(code.rstrip())
    heads = [m for m in re.finditer(r"\b(?:if|while) \(", code)]
    for m in heads:
        stop = closes(code, m.end() - 1)
        if stop and inside(m.end(), stop):
            return condition(m.end(), stop)
    for m in re.finditer(r"\bfor \(", code):
        stop = closes(code, m.end() - 1)
        if stop and inside(m.end(), stop):
            parts = [m.end() + i for i in top_level(code[m.end():stop], ";")]
            if len(parts) == 2 and inside(parts[0] + 1, parts[1]):
                return condition(parts[0] + 2, parts[1])
            if len(parts) == 2 and inside(parts[1] + 1, stop):
                return both(parts[1] + 2, stop, lambda to, was: f"{on} ? static_cast<void>({to}) : static_cast<void>({was})")
            return None
    body = code.strip()
    begin = len(code) - len(code.lstrip())
    def value():
        if rule != "constant":
            return None
        for m in re.finditer(r"(?<![\w.'])(?:0x[0-9a-fA-F]+|\d+|true|false)(?![\w.'])", code):
            if inside(m.start(), m.end()):
                return both(m.start(), m.end(), lambda to, was: f"mutant::value({k}, {was}, {to})")
    if body.endswith(";") and whole(body) and (not heads or body.startswith("if (")):
        if not declares.match(body):
            if at + 1 < len(lines) and lines[at + 1].strip().startswith("else"):
                return value()
            return value() if body.startswith("else") else statement(begin, comment)
        initial = next((begin + i + 3 for i in top_level(body, " = ")), None)
        if initial and "constexpr" not in body and "{" not in code[initial:initial + 1] and not any(top_level(code[initial:comment - 1], ",")):
            return both(initial, comment - 1, lambda to, was: f"{on} ? ({to}) : ({was})") or value()
        return value()
    one_line = re.match(r".*?\) (?:const )?(?:noexcept )?(?:override )?(?:-> [\w:<>*& ]+ )?\{ ", code)
    if one_line and closes(code, one_line.end() - 2) in (comment - 1, comment - 2):
        return statement(one_line.end(), closes(code, one_line.end() - 2) - 1) or value()
    return value()

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
    def passes(self, *words, cpu=600, wall=None):
        """What takes more processor seconds, ten times as long (or `wall`), or 4 GB of memory does not, None if it only waited
        so long; it leaves no process behind."""
        limited = ["sh", "-c", f'ulimit -t {cpu}; ulimit -v 4000000; exec "$@"', "sh", *words]
        program = subprocess.Popen(limited, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            return program.wait(wall or 10 * cpu) == 0
        except subprocess.TimeoutExpired:
            return None
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
    return made and tree.compile(*parts, "-o", "test_" + test.name, "-pthread", *test.libs)
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
                sound[test.name] = (test.private or implementation(tree)) and link(tree, test) and tree.passes("./test_" + test.name, cpu=20)
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
                                    else tree.passes("./test_" + t.name, cpu=20))
                if not passed and passes_unchanged(t):
                    return "noticed", t.name + ("" if built else " (does not compile)")
        return ("noticed", "compile_fail") if is_interface(room) and not refused_as_before(tree) else ("survived", "")

def refused_as_before(tree):
    cases = [os.path.join("tests/compile_fail", f) for f in sorted(os.listdir("tests/compile_fail")) if f.endswith(".cpp")]
    return tree.passes("tests/support/compile_fail.sh", cxx, *cases)

running_test = {t.name: threading.Lock() for t in tests}
class Batch:
    """Changes behind switches: number -> change. What does not compile so is left out of it."""
    def __init__(self, changes):
        self.changes, self.forms, taken = {}, {}, set()
        for k, change in enumerate(changes, 1):
            at, count = change[2:4]
            form = None if taken & set(range(at, at + count)) else switched(k, change)
            if form:
                taken |= set(range(at, at + count))
                self.changes[k], self.forms[k] = change, form
        self.programs, self.made = {}, set()
        self.tests = {k: [t for several, _ in groups_of(c[0]) for t in several] for k, c in self.changes.items()}
        self.tree = Tree(lines)
        with open(os.path.join(self.tree.dir, "mutant.hpp"), "w") as f:
            f.write(switch)
        while self.changes and not self.builds():
            pass
        self.wall = {}
        def first(test):
            start = time.monotonic()
            if self.passes(test):
                self.wall[test.name] = max(20, 5 * (time.monotonic() - start))
            else:
                print(f"  {test.path} fails without a change: it is left out", flush=True)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            if self.changes:
                list(pool.map(first, [t for t in tests if any(t in several for several in self.tests.values())]))
        for k, c in self.changes.items():  # the nearest first, then the quickest
            self.tests[k] = sorted((t for t in self.tests[k] if t.name in self.wall), key=lambda t: (c[0] not in t.named, self.wall[t.name]))
    def compiled(self, *words):
        """Whether it is; if not, the changes that the errors name are left out."""
        made = subprocess.run([*compile_, "-fmax-errors=0" if "g++" in cxx and "clang" not in cxx else "-ferror-limit=0", "-include", "mutant.hpp", *words],
                              cwd=self.tree.dir, capture_output=True, text=True)
        if made.returncode == 0:
            return True
        named = {int(n) - 1 for n in re.findall(rf"{re.escape(header)}:(\d+):", made.stderr)}
        for reach in (0, 3, 20, len(lines)):
            bad = {k for k, c in self.changes.items() if any(c[2] - reach <= n < c[2] + c[3] + reach for n in named)}
            if bad or reach == len(lines):
                break
        for k in bad or set(self.changes):
            del self.changes[k], self.forms[k], self.tests[k]
        return False
    def builds(self):
        """What is made stays: a change that is left out later is not chosen in it."""
        changed = list(lines)
        for k, c in self.changes.items():
            changed[c[2]:c[2] + c[3]] = self.forms[k]
        with open(os.path.join(self.tree.dir, header), "w") as f:
            f.write("\n".join(changed))
        if not self.compiled("-fsyntax-only", "-DPROMETHEUS_ASYNC_IMPLEMENTATION", "-x", "c++", header):
            return False
        chosen = [t for t in tests if any(t in several for several in self.tests.values())]
        units = [[t for t in chosen if t.private and not t.alone and bool(t.libs) == libs] for libs in (False, True)]
        steps = [["-c", "-DPROMETHEUS_ASYNC_IMPLEMENTATION", "-x", "c++", header, "-o", "implementation.o"]]
        for n, unit in enumerate(u for u in units if u):
            with open(os.path.join(self.tree.dir, f"unit{n}.cpp"), "w") as f:
                subprocess.run(["tests/support/together.sh", *[t.path for t in unit]], cwd=self.tree.dir, stdout=f, check=True)
            steps.append([f"unit{n}.cpp", runner, "-pthread", *sorted({l for t in unit for l in t.libs}), "-o", f"unit{n}"])
            for t in unit:
                self.programs[t.name] = [f"./unit{n}", f"--source-file=*/{os.path.basename(t.path)}"]
        linked = []
        for t in chosen:
            if t.alone or not t.private:
                steps.append(["-c", t.path, "-o", t.name + ".o"])
                linked.append([t.name + ".o", runner, *([] if t.private else ["implementation.o"]), "-pthread", *t.libs, "-o", "test_" + t.name])  # a program "limits" would be found as <limits>
                self.programs[t.name] = ["./test_" + t.name]
        def make(words):
            if words[-1] not in self.made and self.compiled(*words):
                self.made.add(words[-1])
            return words[-1] in self.made
        for group in (steps, linked):
            with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
                if not all(list(pool.map(make, group))):
                    return False
        return True
    def passes(self, test, *variables):
        return self.tree.passes("env", *variables, *self.programs[test.name], cpu=20, wall=self.wall.get(test.name))
    def examine(self, k):
        """As below; "" where no test came to the change: it may be a constant."""
        reached = os.path.join(self.tree.dir, f"reached{k}")
        for t in self.tests[k]:
            with running_test[t.name]:  # it may have files
                passed = self.passes(t, f"MUTANT={k}", f"MUTANT_REACHED={reached}")
                if passed is False:  # again, since a busy machine may fail it
                    passed = self.passes(t, f"MUTANT={k}", f"MUTANT_REACHED={reached}")
            if not passed:
                return "noticed", t.name
        if not os.path.exists(reached):
            return "", ""
        room, rule, at, count, new = self.changes[k]
        if is_interface(room):
            with Tree(lines[:at] + new + lines[at + count:]) as tree:
                if not refused_as_before(tree):
                    return "noticed", "compile_fail"
        return "survived", ""

# --- all of them ---------------------------------------------------------------------------------------------------
def shown(change):
    room, rule, at, count, new = change
    return "\n".join([f"{header}:{at + 1}: [{room}] {names[room]}: {rule}", *(f"  - {l.strip()}" for l in lines[at:at + count]), *(f"  + {l.strip()}" for l in new)])
def key(change):
    return "\n".join(shown(change).split("\n")[1:])

results = os.environ.get("RESULTS")
known = {}  # by the change as it is shown: (what, by), of a run that was stopped
if results and os.path.exists(results):
    for line in open(results):
        at_line, what, by = json.loads(line)
        known[at_line] = what, by

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
def late():
    return time.monotonic() - began > 60 * minutes
def said(change, what, by):
    global done, uncompiled
    if results and shown(change) not in known:
        with open(results, "a") as f:
            f.write(json.dumps([shown(change), what, by]) + "\n")
    if what == "does not compile":  # another instead
        uncompiled += 1
        return
    if what == "survived" and key(change) in judged:
        what = "equivalent"
    done += 1
    row = table.setdefault(change[0], {"noticed": 0, "survived": 0, "equivalent": 0})
    row[what] += 1
    if what == "survived":
        survivors.append(change)
    print(f"  {done} of {wanted}  {what}{' by ' + by if by else ''}: {shown(change)}", flush=True)
def all_of(work, changes):
    """work(change) in parallel, until it is late; what each gave is said as it comes."""
    waiting, running = list(changes), {}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        while running or waiting and not late():
            while waiting and len(running) < jobs and not late():
                change = waiting.pop(0)
                running[pool.submit(work, change)] = change
            for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                yield running.pop(future), *future.result()
try:
    while done < wanted and not late():
        changes = [c for _, c in zip(range(wanted - done), drawn)]
        if not changes:
            break
        for change in changes:
            if shown(change) in known:
                said(change, *known[shown(change)])
        alone = changes = [c for c in changes if shown(c) not in known]
        if len(changes) >= 10:
            batch = Batch(changes)
            number_of = {id(c): k for k, c in batch.changes.items()}
            alone = [c for c in changes if id(c) not in number_of]
            print(f"  {len(number_of)} of {len(changes)} compile together", flush=True)
            for change, what, by in all_of(lambda c: batch.examine(number_of[id(c)]), batch.changes.values()):
                if what:
                    said(change, what, by)
                else:
                    alone.append(change)
            shutil.rmtree(batch.tree.dir)
        for change, what, by in all_of(lambda c: examine(*c), alone):
            said(change, what, by)
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
