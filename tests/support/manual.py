#!/usr/bin/env python3
"""manual.py HEADER README OUT: writes OUT/manual.md and OUT/manual.html, a reference of every public name, made of the
header's declarations and their comments, the README's tables, and the examples that use each name. Nothing else is fetched.
As a module: rooms(text) gives the names to lint.py."""
import glob, html, os, re, sys, textwrap

KEYS = ("shape", "unit", "clock", "lifetime", "threads", "errors", "source")

class entity:
    """A declaration: a class, an enumeration, a function, ... `kind`, `name`, `heads` (all of that name), `doc` lines."""
    def __init__(self, kind, name, head, doc, note):
        self.kind, self.name, self.heads, self.doc, self.note = kind, name, [(head, note)], doc, note
        self.members, self.private, self.deleted = [], False, False

    def parts(self):
        """The prose, the code blocks in it as lists, and {key: text} of the last part of the comment."""
        prose, keys, key = [], {}, None
        for line in self.doc:
            m = re.match(r"(\w+) +(\S.*)", line)
            if m and m[1] in KEYS:
                key = m[1]
                keys[key] = m[2]
            elif key and line.startswith("  "):
                keys[key] += " " + line.strip()
            elif not (key and not line.strip()):
                key = None
                prose.append(line)
        return prose, keys

def blank(text):
    """The text without comments and literals, every other character where it was."""
    def out(m):
        return re.sub(r"[^\n]", " ", m[0]) if m[0][0] == "/" else m[0][0] + " " * (len(m[0]) - 2) + m[0][-1]
    return re.sub(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])'", out, text, flags=re.S)

def close(code, at, pair="{}"):
    depth = 0
    for i in range(at, len(code)):
        depth += (code[i] == pair[0]) - (code[i] == pair[1])
        if depth == 0:
            return i
    raise SystemExit(f"manual.py: not closed: {code[at:at + 60]!r}")

def comment_before(text, at):
    """The lines of the comment that ends right before `at`: /// ones, or else // ones."""
    lines = text[:at].split("\n")
    lines.pop()
    while lines and (lines[-1].startswith("#") or re.match(r"\s*(template|requires)\b", lines[-1])):
        lines.pop()
    found = []
    while lines and re.match(r"\s*//(?!/?\s*[=-]{4})", lines[-1]):
        found.insert(0, re.sub(r"^\s*///? ?", "", lines.pop()))
    return found

def head_of(text, code, start, end):
    """The declaration as one line, without bodies, initialisers, and macros of visibility."""
    head = " ".join(re.sub(r"//[^\n]*", "", text[start:end]).split())
    head = re.sub(r"PROMETHEUS_ASYNC_DECL ?|PROMETHEUS_ASYNC_LOCAL ?|\[\[nodiscard\]\] ?|\[\[__noreturn__\]\] ?", "", head)
    return re.sub(r"\s+([,;)])", r"\1", head).strip()

def name_of(head):
    m = re.match(r"(?:template <.*> )?(?:requires .* )?(?:class|struct|enum class|enum|concept|union) +([a-z_]\w*)", head)
    if m and not re.match(r"(template <.*> )?(friend|using)", head):
        return re.findall(r"\b(class|struct|enum|concept|union) ", m[0])[-1 if " enum" not in m[0] and not m[0].startswith("enum") else 0], m[1]
    m = re.match(r"using (\w+) =", head)
    if m:
        return "type", m[1]
    if "operator" in head:
        return "operator", "operator"
    plain = re.sub(r"^template <(?:[^<>]|<[^<>]*>)*> ?", "", head)
    plain = re.sub(r"requires ?(\([^()]*(?:\([^()]*(?:\([^()]*\)[^()]*)*\)[^()]*)*\)|[\w:]+(<[^<>]*>)?)( (&&|\|\|) )?", "", plain)
    m = re.search(r"\(\*(\w+)\)\(", plain)
    if m:
        return "variable", m[1]
    m = re.search(r"(~?[\w:]+)\(", plain)
    if m and not re.match(r"static_assert|alignas", plain):
        return "function", m[1]
    m = re.search(r"(\w+)(?: = .*|\{.*\})?;?$", plain)
    return "variable", m[1] if m else ""

def declarations(text, code, at, end, owner=None):
    """Walks what stands between `at` and `end` of a namespace or class; yields entities of what is public."""
    found, public, announced = [], owner is None or owner.kind == "struct", {}  # comments of forward declarations
    noted = 0  # where the comment beside the last declaration ends
    def add(kind, name, head, start, note):
        doc = comment_before(text[noted:], max(text.rfind("\n", 0, start) + 1 - noted, 0)) or announced.get(name, [])
        if not doc and owner is None and found and found[-1].kind == kind == "function" and text[:start].endswith(";\n"):
            doc = found[-1].doc  # one comment for a block of functions
        if found and found[-1].name == name and found[-1].kind == kind and not doc:
            found[-1].heads.append((head, note))
            return found[-1]
        found.append(entity(kind, name, head, doc, note))
        return found[-1]
    while True:
        while at < end and (code[at].isspace() or code[at] == ";"):
            at += 1
        if at >= end:
            return found
        if code[at] == "#":
            at = code.find("\n", at) + 1 or end
            while code[at - 2] == "\\":
                at = code.find("\n", at) + 1 or end
            continue
        m = re.compile(r"(public|private|protected):").match(code, at)
        if m:
            public = m[1] == "public"
            if owner and m[1] != "public":
                owner.private = True
            at = m.end()
            continue
        if re.compile(r"PROMETHEUS_ASYNC_(BEGIN|END)\b").match(code, at):
            at = code.find("\n", at)
            continue
        start = at
        while code[at] not in ";{" or code[start:at].count("(") != code[start:at].count(")") or \
                (code[at] == "{" and not re.match(r"(template\s*<.*>\s*(requires[^;]*?\s)?)?(class|struct|enum|union|namespace|extern)\b", code[start:at].lstrip(), re.S)
                 and re.search(r"(\w|>|=)\s*$", code[start:at]) and not re.search(r"(\)|const|noexcept|override|&|(->|requires)[^;]*)\s*$", code[start:at])):
            at = close(code, at, code[at] + "}") + 1 if code[at] == "{" else at + 1  # braces of an initialiser
        head_end, body = at, None
        if code[at] == "{":
            body = at
            at = close(code, at)
        line_end = text.find("\n", head_end)
        first = text[head_end:line_end] if body is None or at < line_end else text[body:line_end]
        note = re.search(r"// (.*)", first)
        beside, note, before = note.start() if note else 0, note[1] if note else "", noted
        if note and owner:  # it may go on below, in the same column
            column = (head_end if body is None or at < line_end else body) + beside - text.rfind("\n", 0, line_end) - 1
            while m := re.compile(rf" {{{column}}}// (.*)\n").match(text, line_end + 1):
                note, line_end = f"{note} {m[1]}", m.end() - 1
        at += 1
        if re.match(r"namespace\b|static_assert\b|friend\b|extern\b", code[start:]) or not public:
            if re.match(r"namespace prometheus_async", code[start:]):
                found += declarations(text, code, body + 1, at - 1)
            continue
        head = head_of(text, code, start, head_end)
        head = re.sub(r"(\)|noexcept)\s* : .*$", r"\1", head) if re.match(r"(constexpr |explicit |template .*)*\w+\(", head) else head
        kind, name = name_of(head)
        if body is None and kind in ("class", "struct"):
            announced[name] = comment_before(text, text.rfind("\n", 0, start) + 1)
        if not name or name.startswith("~") or "::" in name or (body is None and kind in ("class", "struct", "enum")) or kind == "operator" and owner is None:
            continue
        one = add(kind, name, head, start, note)
        noted = max(before, line_end + 1 if note and owner else 0)
        one.deleted = re.search(r"= delete\b", head) is not None and len(one.heads) == 1
        if body is not None and kind in ("class", "struct"):
            one.members += declarations(text, code, body + 1, at - 1, one)
        elif body is not None and kind == "enum":
            inside = text[body + 1:at - 1]
            for line in inside.split("\n"):
                value, _, said = line.partition("//")
                names = re.findall(r"\b([a-z]\w*)\b(?: = [^,]*)?", value)
                for n in names:
                    one.members.append(entity("value", n, n, [], said.strip() if n == names[-1] else ""))
                if not names and said and one.members:
                    one.members[-1].note += " " + said.strip()

MACHINERY = {"16", "22"}         # rooms whose first comment is for who reads the header's code
NOT_PUBLIC = {"deferred_source"}  # of which the header says why it is not in detail

def rooms(text):
    """[(number, title, prose lines, entities)] of the interface."""
    half = text[:text.index("\n// implementation\n")]
    banner = re.compile(r"^// =+\n// \[(\d\d)\] (.+?)  +(.*)\n(?://      needs .*\n)?// =+\n", re.M)
    found = list(banner.finditer(half))
    result = []
    for m, end in zip(found, [n.start() for n in found[1:]] + [len(half)]):
        body = half[m.end():end]
        prose = []
        for line in body.split("\n"):
            if not line.startswith("//"):
                break
            prose.append(line[3:])
        public = [e for e in declarations(body, blank(body), 0, len(body)) if e.name not in NOT_PUBLIC and not e.deleted]
        result.append((m[1], m[2], prose, public))
    return result

def examples():
    """[(file, its code)] of the examples, those with a number first."""
    files = sorted(glob.glob("examples/[0-9]*.cpp")) + sorted(glob.glob("examples/migration/*_after.cpp")) + sorted(glob.glob("examples/*.hpp"))
    return [(f, re.sub(r"(^|\s)//[^\n]*", r"\1", open(f).read())) for f in files]

# What a program uses without writing its name: what it writes instead, and how that is found.
UNNAMED = {
    "fixed_string": ('prom::family<prom::counter, "method">', r'\bprom::family<[\w:]+, "'),
    "metric_name": ('prom::counter sent{"sent_total", ...}', r'\bprom::(counter|gauge|histogram) \w+\{"'),
    "any_name": ("registry.make_counter(name, ...)", r"\.(make|try)_\w+(<[\w:]+>)?\("),
    "list": (".buckets = {0.1, 1}", r"\.(buckets|states|registries|tags) = "),
    "zstring_view": ("server->url().c_str()", r"\burl\(\)\.c_str\("),
    "label_names": ('registry.make_family<prom::counter>(name, help, {"disk"})', r"\.make_family<"),
    "seconds": ("loop.sleep(100ms)", r"\.sleep\(|\.(window|interval|min_reset) = "),
    "metric_options": ("prom::histogram took{name, help, {.buckets = {0.1, 1}}};", r"\.(buckets|states|max_series|window|registry|unit|native) = "),
    "native_buckets": (".native = {.factor = 1.1}", r"\.native = \{"),
    "exemplar": ('took.observe(0.25, {.labels = {{"trace_id", id}}})', r"(observe|inc)\([^()]+, \{\.labels"),
    "scoped_timer": ("auto timer = took.timer();", r"= \w+\.timer\(\)"),
    "textfile_options": ("prom::textfile({.path = ...})", r"prom::textfile \w+\(\{"),
    "stats_request": ("prom::server_stats({.accept = ...})", r"server_stats\(\{"),
    "unhandled_handler": ("prom::on_unhandled_failure([](const prom::fault& why, void*) { ... })", r"on_unhandled_failure\("),
    "completion_handler": ("prom::time(took, prom::completion(handler))", r"prom::completion\("),
    "failed": ("prom::count_failures(errors)(f)", r"prom::count_failures\(\w+\)"),
    "decorated": ("auto timed = prom::time(took)(handle);", r"= prom::\w+\(\w+\)\(\w+\);"),
    "decorator": ("prom::time(took)", r"prom::(time|track_inprogress)\(\w+\)"),
    "composed": ("prom::time(took) | prom::track_inprogress(running)", r"prom::\w+(<[\w:]+>)?\(\w+\) \| prom::"),
    "credential": ('prom::basic("scraper", "secret")', r"prom::(basic|bearer)\("),
    "health_check": (".check = {.now = ready}", r"\.check = \{"),
    "server_limits": (".limits = {.connections = 64}", r"\.limits = \{"),
    "server_options": ("prom::start_http_server(loop, {.port = 9464})", r"start_http_server(_in_thread)?\(\s*(loop, )?\{\."),
    "loop_options": ("prom::event_loop loop({.on_event = ...});", r"prom::event_loop \w+[({]+\."),
    "consul_options": ('prom::consul_agent consul{{.name = "hello"}};', r"consul_agent \w+[({]+\."),
    "file_sd_options": ("prom::file_sd file{{.path = ...}};", r"prom::file_sd \w+[({]+\."),
}

def used_in(e, uses):
    """The files whose code names it, or writes what stands for it."""
    pattern = rf"\b(prom|prometheus_async)::{e.name}\b" + (f"|{UNNAMED[e.name][1]}" if e.name in UNNAMED else "")
    return [f for f, text in uses if re.search(pattern, text)]

# ---- Writing: one list of blocks, two formats ----

def blocks(all_rooms, readme, uses):
    yield "h1", "prometheus_async.hpp: reference"
    yield "p", "Made from the header's comments by `make manual`. In namespace `prometheus_async`. The number beside a name is that of an example that uses it."
    yield "toc", [(f"room-{n}", f"[{n}] {title}", [e.name for e in found]) for n, title, _, found in all_rooms if found] + \
        [("tables", "Tables of the README", [])]
    for number, title, prose, found in all_rooms:
        if not found:
            continue
        yield "h2", (f"room-{number}", f"[{number}] {title}")
        if prose and number not in MACHINERY:
            yield "text", prose
        for e in found:
            yield "h3", (e.name, e.name, e.kind, used_in(e, uses)[:4])
            text, keys = e.parts()
            if text:
                yield "text", text
            if e.name in UNNAMED:
                yield "p", f"A program writes `{UNNAMED[e.name][0]}`, and seldom its name."
            yield "code", [h for h, _ in e.heads if "= delete" not in h]
            if keys:
                yield "keys", list(keys.items())
            elif e.note:
                yield "p", e.note
            rows = []
            for m in e.members:
                if m.deleted or m.kind == "operator" and not m.doc and not any("operator()" in h for h, _ in m.heads):
                    continue
                said, mkeys = m.parts()
                heads = [(h, n) for h, n in m.heads if "= delete" not in h and "(const detail::" not in h and "(detail::" not in h]
                words = " ".join(said) or " ".join(n for _, n in heads if n)
                words += "".join(f" {k}: {v}." for k, v in mkeys.items())
                if heads and (words or m.kind not in ("class", "struct")):
                    rows.append(([h for h, _ in heads], words))
            if rows:
                yield "members", rows
    yield "h2", ("tables", "Tables of the README")
    for heading, table in re.findall(r"^#+ ([^\n]+)\n(?:(?!^#).*\n)*?((?:^\|.*\n)+)", readme, re.M):
        if heading not in ("All examples", "Compared"):
            yield "table", (heading, [re.split(r"(?<!\\) ?\| ?", line.strip().strip("|")) for line in table.strip().split("\n")])

def unique(found):
    """The blocks, with one anchor for a name that two rooms declare parts of."""
    seen = set()
    for kind, what in found:
        if kind == "h3":
            name = what[0]
            if name in seen:
                what = (f"{name}-{sum(s.startswith(name + '-') for s in seen) + 2}", *what[1:])
            seen.add(what[0])
        yield kind, what

def markdown(found):
    out = []
    found = unique(found)
    cell = lambda s: s.replace("|", "\\|")
    for kind, what in found:
        if kind == "h1": out += [f"# {what}", ""]
        elif kind == "p": out += [what, ""]
        elif kind == "h2": out += [f'<a id="{what[0]}"></a>', "", f"## {what[1]}", ""]
        elif kind == "h3": out += [f'<a id="{what[0]}"></a>', "", f"### {what[1]} ({what[2]})" + "".join(f" [{os.path.basename(f)[:2] if os.path.basename(f)[0].isdigit() else os.path.basename(f)}](../../{f})" for f in what[3]), ""]
        elif kind == "text": out += [*("  " + line if line.startswith("  ") else line for line in what), ""]
        elif kind == "code": out += ["```cpp", *what, "```", ""]
        elif kind == "keys": out += ["| | |", "|---|---|", *(f"| {k} | {cell(v)} |" for k, v in what), ""]
        elif kind == "members": out += ["| member | |", "|---|---|", *("| " + "<br>".join(f"`{cell(h)}`" for h in heads) + f" | {cell(words)} |" for heads, words in what), ""]
        elif kind == "toc": out += [*(f"- [{t}](#{a}): " + " ".join(f"[{n}](#{n})" for n in dict.fromkeys(names)) for a, t, names in what), ""]
        elif kind == "table": out += [f"### {what[0]}", "", *(re.sub(r"\]\((?=#|examples/|tests/|findings/)(#?)", lambda m: "](../../" + ("README.md#" if m[1] else ""), "| " + " | ".join(row) + " |") for row in what[1]), ""]
    return "\n".join(out)

STYLE = """:root{color-scheme:light dark;--fg:#1b1f24;--bg:#fff;--soft:#57606a;--line:#d0d7de;--code:#f2f4f7;--link:#0550ae}
@media(prefers-color-scheme:dark){:root{--fg:#e3e6ea;--bg:#14171b;--soft:#9aa4af;--line:#373e47;--code:#20252b;--link:#7cb8ff}}
*{box-sizing:border-box}body{margin:0 auto;max-width:60rem;padding:1rem;font:16px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg)}
a{color:var(--link)}h2{border-bottom:1px solid var(--line);margin-top:3rem}h3{margin:2.2rem 0 .4rem;overflow-wrap:anywhere}h3 small{font-weight:400;color:var(--soft)}
pre,code{font:14px/1.45 ui-monospace,monospace;background:var(--code);border-radius:4px}code{padding:.1em .25em;overflow-wrap:anywhere}
.wide code{overflow-wrap:normal}.wide td{min-width:8rem}.wide td:nth-child(2){min-width:16rem}pre{padding:.6rem;overflow-x:auto}pre code{padding:0;overflow-wrap:normal}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
td,th{border:1px solid var(--line);padding:.35rem .5rem;text-align:left;vertical-align:top}nav li{margin:.3rem 0}nav{overflow-wrap:anywhere}
td:first-child code{display:inline-block;margin:.1rem 0}@media(max-width:40rem){.members tr,.members td{display:block;border:0;padding:.15rem 0}.members tr{border-top:1px solid var(--line)}h1{font-size:1.5rem}}
"""

def inline(s):
    s = html.escape(s.replace("\\|", "|"), quote=False)
    s = re.sub(r"`([^`]+)`", r"<code>\1</code>", s)
    s = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", s)
    def link(m):
        to = m[2] if m[2].startswith("http") else "../../README.md" + m[2] if m[2].startswith("#") else "../../" + m[2]
        return f'<a href="{to}">{m[1]}</a>'
    return re.sub(r"\[([^][]+)\]\(([^)]+)\)", link, s)

def page(found):
    out = []
    found = unique(found)
    def text(lines):
        """Paragraphs, and code where four blanks or a table's bar say so."""
        for part in re.split(r"\n\s*\n", "\n".join(lines)):
            if part.strip() and all(l.startswith("  ") for l in part.split("\n") if l.strip()):
                out.append("<pre><code>" + html.escape(textwrap.dedent(part.strip("\n")), quote=False) + "</code></pre>")
            elif part.strip():
                out.append(f"<p>{inline(' '.join(part.split()))}</p>")
    for kind, what in found:
        if kind == "h1": out.append(f"<h1>{html.escape(what)}</h1>")
        elif kind == "p": out.append(f"<p>{inline(what)}</p>")
        elif kind == "h2": out.append(f'<h2 id="{what[0]}">{html.escape(what[1])}</h2>')
        elif kind == "h3":
            used = "".join(f' <a href="../../{f}">{os.path.basename(f)[:2] if os.path.basename(f)[0].isdigit() else os.path.basename(f)}</a>' for f in what[3])
            out.append(f'<h3 id="{what[0]}">{what[1]} <small>{what[2]}{used}</small></h3>')
        elif kind == "text": text(what)
        elif kind == "code": out.append("<pre><code>" + "\n".join(html.escape(h, quote=False) for h in what) + "</code></pre>")
        elif kind == "keys": out.append('<div class="wide"><table>' + "".join(f"<tr><th>{k}</th><td>{inline(v)}</td></tr>" for k, v in what) + "</table></div>")
        elif kind == "members":
            out.append('<table class="members">' + "".join("<tr><td>" + "<br>".join(f"<code>{html.escape(h, quote=False)}</code>" for h in heads) + f"</td><td>{inline(words)}</td></tr>" for heads, words in what) + "</table>")
        elif kind == "toc":
            out.append("<nav><ul>" + "".join(f'<li><a href="#{a}">{html.escape(t)}</a> ' + " ".join(f'<a href="#{n}"><code>{n}</code></a>' for n in dict.fromkeys(names)) + "</li>" for a, t, names in what) + "</ul></nav>")
        elif kind == "table":
            head, _, *rows = what[1]
            out.append(f"<h3>{inline(what[0])}</h3>" + '<div class="wide"><table>' + ("<tr>" + "".join(f"<th>{inline(c)}</th>" for c in head) + "</tr>" if any(map(str.strip, head)) else "") +
                       "".join("<tr>" + "".join(f"<td>{inline(c)}</td>" for c in row) + "</tr>" for row in rows) + "</table></div>")
    return ('<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>prometheus_async.hpp: reference</title><style>{STYLE}</style>\n<main>" + "\n".join(out) + "</main></html>\n")

if __name__ == "__main__":
    header, readme, to = sys.argv[1:4]
    found = list(blocks(rooms(open(header).read()), open(readme).read(), examples()))
    os.makedirs(to, exist_ok=True)
    open(os.path.join(to, "manual.md"), "w").write(markdown(found))
    open(os.path.join(to, "manual.html"), "w").write(page(found))
    print(f"{to}/manual.md and {to}/manual.html: {sum(k == 'h3' for k, _ in found)} names")
