#!/usr/bin/env python3
"""check_parsers.py FOLDER LAB: asks promtool, the official Python client's parsers and real Prometheus servers what
they read in the pages of random_registry, and compares it with what was put in: names, labels, types, exemplars, and
values bit for bit (any NaN is as good as another). Ends with "N passed, N failed"."""
import collections, glob, http.server, json, math, os, signal, socket, struct, subprocess, sys, tempfile, threading, time
import urllib.parse, urllib.request

sys.path.append("/usr/lib/python3/dist-packages")  # where the official client is, whichever python3 this is
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as openmetrics_parser

folder, lab = sys.argv[1:3]
checks = collections.OrderedDict()  # sentence -> [good, faults]


def check(sentence, good, fault):
    entry = checks.setdefault(sentence, [0, []])
    if good:
        entry[0] += 1
    else:
        entry[1].append(fault)


def unhex(s):
    # As the library does: one U+FFFD for each longest part of a sequence that is broken.
    return bytes.fromhex(s).decode("utf-8", "replace")


def escaped(s):
    return s.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def double(bits_of_it):
    return struct.unpack(">d", bytes.fromhex(bits_of_it))[0]


def key_of(name, labels):
    return (name, frozenset((n, v) for n, v in labels.items() if v))


def bits(value):
    return "NaN" if math.isnan(value) else struct.pack(">d", value).hex()


# ---- prometheus/common's EscapeName, written once more ----

def escape(name, scheme, is_label):
    def kept(c, i):
        return c == "_" or (c.isascii() and c.isalpha()) or (c.isascii() and c.isdigit() and i > 0) or (c == ":" and not is_label)
    if scheme == "allow-utf-8" or not name:
        return name
    if scheme == "dots":
        return "".join("__" if c == "_" else "_dot_" if c == "." else c if kept(c, i) else "__" for i, c in enumerate(name))
    if all(kept(c, i) for i, c in enumerate(name)):
        return name
    if scheme == "underscores":
        return "".join(c if kept(c, i) else "_" for i, c in enumerate(name))
    return "U__" + "".join("__" if c == "_" else c if kept(c, i) else f"_{ord(c):x}_" for i, c in enumerate(name))


class Truth:
    def __init__(self, path):
        with open(path) as f:
            told = json.load(f)
        self.seed = os.path.basename(path)[:-5]
        self.created, self.pages = told["created"], told["pages"]
        self.lint = {unhex(line) for line in told["lint"]}
        self.families = told["families"]

    def expected(self, scheme, openmetrics):
        """{(name, labels): bits}, {family name: (type, help, unit)}, {(name, labels): exemplar}"""
        samples, families, exemplars = {}, {}, {}
        for f in self.families:
            base = unhex(f["name"])
            # _total and _info are part of the name that is escaped; other suffixes come after.
            own = {"counter": "_total", "info": "_info"}.get(f["type"], "")
            shown, unit = escape(base + own, scheme, False), unhex(f["unit"])
            shown = shown[:len(shown) - len(own)]
            families[shown] = (f["type"], unhex(f["help"]).strip(), unit if shown.endswith("_" + unit) else "")
            negative = f["type"] == "histogram" and any(
                s[0] == "_bucket" and float(unhex(dict(s[1])["6c65"])) < 0 for s in f["samples"])

            def tell(suffix, labels, value, stamp):
                pairs = {escape(unhex(n), scheme, True): unhex(v) for n, v in labels}
                key = key_of(shown + suffix, pairs)
                assert key not in samples, key
                samples[key] = (bits(value), stamp)
                return key

            no_sum = False
            for suffix, labels, value, more in f["samples"]:
                # OpenMetrics has no sum over negative bounds, none that is negative or NaN, no count without a sum, and
                # no negative quantile. The text formats know no gauge histograms.
                if suffix in ("_sum", "_gsum"):
                    no_sum = negative or math.isnan(double(value)) or double(value) < 0
                left_out = no_sum if suffix in ("_sum", "_count", "_gsum", "_gcount") else \
                    f["type"] == "summary" and double(value) < 0
                if not (openmetrics and left_out):
                    shown_suffix = suffix if openmetrics else suffix.replace("_g", "_")
                    key = tell(shown_suffix, labels, double(value), more.get("timestamp"))
                if "exemplar" in more and openmetrics:
                    e = more["exemplar"]
                    exemplars[key] = (frozenset((unhex(n), unhex(v)) for n, v in e["labels"]), bits(double(e["value"])), e["timestamp"])
                if "created" in more and (self.created == 2 or (self.created == 1 and openmetrics)):
                    tell("_created", labels, double(more["created"]), more.get("timestamp"))
        return samples, families, exemplars


def difference(got, expected):
    lines = [f"- {k} {expected[k]}" for k in expected if k not in got]
    lines += [f"+ {k} {got[k]}" for k in got if k not in expected]
    lines += [f"! {k} {expected[k]} read as {got[k]}" for k in expected if k in got and got[k] != expected[k]]
    return "\n".join(lines[:5])


# ---- the official Python client ----

def python_parser(truth, page, text):
    scheme, openmetrics = page["escaping"], page["openmetrics"]
    if scheme == "allow-utf-8":
        return
    sentence = "the official Python client's " + ("strict OpenMetrics" if openmetrics else "text") + " parser reads what was put in"
    where = page["file"]
    parse = openmetrics_parser if openmetrics else text_parser
    samples, families, exemplars = truth.expected(scheme, openmetrics)

    def signed(read, put_in):  # its int("-0") forgets the sign
        return put_in if read == 0 and isinstance(read, int) and put_in == bits(-0.0) else bits(float(read))
    try:
        got, types, read = {}, {}, {}
        for family in parse.text_string_to_metric_families(text):
            types[family.name] = (family.type, family.documentation.strip(), family.unit)
            for s in family.samples:
                key = key_of(s.name, s.labels)
                if key in got:
                    raise ValueError(f"twice: {key}")
                got[key] = (signed(s.value, samples.get(key, (0,))[0]), None if s.timestamp is None else f"{float(s.timestamp):.3f}")
                if s.exemplar:
                    stamp = s.exemplar.timestamp
                    read[key] = (frozenset(s.exemplar.labels.items()), signed(s.exemplar.value, exemplars.get(key, (0, 0))[1]), None if stamp is None else f"{float(stamp):.3f}")
    except Exception as error:
        return check(sentence, False, f"{where}: {error}")
    fault = difference(got, samples)
    if openmetrics and not fault:
        fault = difference(types, families) or difference(read, exemplars)
    check(sentence, not fault, f"{where}:\n{fault}")


# ---- promtool ----

def promtool(truth, page, data):
    if page["openmetrics"] or page["escaping"] == "allow-utf-8":
        return  # it checks the text format only, and knows no quoted names
    for version in ("2.42", "3"):
        done = subprocess.run([f"{lab}/bin/promtool-{version}", "check", "metrics"], input=data, capture_output=True, timeout=60)
        said = set((done.stdout + done.stderr).decode("utf-8", "replace").splitlines())
        # 3 is a remark on a name, and the names are random.
        check(f"promtool {version} reads every text page", done.returncode in (0, 3), f"{page['file']}: {done.returncode} {sorted(said)[:3]}")
        if version == "3" and page["escaping"] == "underscores" and "0underscores" in page["file"]:
            check("lint() finds what promtool 3 finds", said == truth.lint, f"{page['file']}:\n" + difference(dict.fromkeys(truth.lint), dict.fromkeys(said)))


# ---- real Prometheus ----

types = {}  # path -> content type


class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name = self.path[1:]
        with open(os.path.join(folder, os.path.basename(name)), "rb") as f:
            data = f.read()
        self.send_response(200)
        self.send_header("Content-Type", types[name])
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url, **query):
    with urllib.request.urlopen(url + "?" + urllib.parse.urlencode(query), timeout=20) as answer:
        return json.load(answer)["data"]


def scrape(version, jobs, port_of_pages, scratch):
    """jobs: {file: (truth, page)}. Yields, having scraped all, the server's base URL."""
    port = free_port()
    config = {"global": {"scrape_interval": "3s", "scrape_timeout": "3s"}, "scrape_configs": [
        {"job_name": name, "honor_labels": True, "metrics_path": "/" + name, "static_configs": [{"targets": [f"127.0.0.1:{port_of_pages}"]}]} for name in jobs]}
    home = os.path.join(scratch, version)
    os.mkdir(home)
    with open(home + "/prometheus.yml", "w") as f:
        json.dump(config, f)  # JSON is YAML
    log = open(home + "/log", "w")
    process = subprocess.Popen([f"{lab}/bin/prometheus-{version}", f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data",
                                f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn", "--enable-feature=exemplar-storage"], stdout=log, stderr=log)
    try:
        base, until, state = f"http://127.0.0.1:{port}/api/v1/", time.time() + 90, "nothing"
        while time.time() < until:
            if process.poll() is not None:
                state = "it ended: " + open(home + "/log").read()[-300:]
                break
            try:
                targets = get(base + "targets")["activeTargets"]
                state = f"{sum(t['health'] != 'unknown' for t in targets)} of {len(jobs)} targets were scraped"
                if len(targets) == len(jobs) and all(t["health"] != "unknown" for t in targets):
                    yield base, targets
                    return
            except OSError:
                pass
            time.sleep(0.2)
        check(f"Prometheus {version} scrapes every page", False, f"only {state} within 90 s")
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def metadata(truth, page):
    """{name: (type, help)} as a page has it: the text format names families by their samples, and knows fewer types."""
    _, families, _ = truth.expected(page["escaping"], page["openmetrics"])
    if page["openmetrics"]:
        return {name: (kind, text) for name, (kind, text, _) in families.items()}
    suffix = {"counter": "_total", "info": "_info"}
    lesser = {"info": "gauge", "stateset": "gauge", "gaugehistogram": "histogram"}
    return {name + suffix.get(kind, ""): (lesser.get(kind, kind), text) for name, (kind, text, _) in families.items()}


def ask_prometheus(version, jobs, port_of_pages, scratch):
    for base, targets in scrape(version, jobs, port_of_pages, scratch):
        for target in targets:
            name = target["labels"]["job"]
            check(f"Prometheus {version} scrapes every page", target["health"] == "up", f"{name}: {target['lastError']}")
        for name, (truth, page) in jobs.items():
            samples, _, exemplars = truth.expected(page["escaping"], page["openmetrics"])
            got = {}
            for series in get(base + "query", query=f'{{job="{name}"}}')["result"]:
                labels = dict(series["metric"])
                metric = labels.pop("__name__")
                del labels["job"], labels["instance"]
                if metric != "up" and not metric.startswith("scrape_"):
                    got[key_of(metric, labels)] = bits(float(series["value"][1]))
            fault = difference(got, {key: value for key, (value, _) in samples.items()})
            check(f"Prometheus {version} has the values that were put in, bit for bit", not fault, f"{name}:\n{fault}")
            told = {m["metric"]: (m["type"], m["help"].strip()) for m in get(base + "targets/metadata", match_target=f'{{job="{name}"}}')}
            wanted = {escaped(key): value for key, value in metadata(truth, page).items()}  # so it leaves quoted names
            fault = difference({key: told.get(key) for key in wanted}, wanted)
            check(f"Prometheus {version} knows types and help", not fault, f"{name}:\n{fault}")
            if not exemplars:
                continue
            read = {}
            now = time.time()
            for series in get(base + "query_exemplars", query=f'{{job="{name}"}}', start=now - 3600, end=now + 3600):
                labels = dict(series["seriesLabels"])
                metric = labels.pop("__name__")
                del labels["job"], labels["instance"]
                for e in series["exemplars"]:
                    stamp = f"{float(e['timestamp']):.3f}"
                    key = key_of(metric, labels)
                    read[key] = (frozenset(e["labels"].items()), bits(float(e["value"])), stamp if exemplars.get(key, (0, 0, None))[2] else None)
            # It leaves the values of their labels as they were escaped, and empty ones out.
            raw = {key: (frozenset((n, escaped(v)) for n, v in labels if v), value, stamp)
                   for key, (labels, value, stamp) in exemplars.items()}
            fault = difference(read, raw)
            check(f"Prometheus {version} has the exemplars that were put in", not fault, f"{name}:\n{fault}")


# Pages that promtool refuses, or nearly.
GAUGE = "# HELP x h\n# TYPE x gauge\n"
BROKEN = [GAUGE + line for line in (
    "", "x 1", "x", "x\n", "x \n", "x 1 \n", "x y\n", "x 0x1\n", "x 1_0\n", "x +Inf\n", "x -infinity\n", "x +nan\n", "x .5e-1\n", "x 1.e2\n", "x e1\n", "x .\n", "x 1e\n",
    "x 1 15\n", "x 1 -15\n", "x 1 +15\n", "x 1 1.5\n", "x 1 15 3\n", "x 1 # {a=\"b\"} 1\n", "x 1 5 # {a=\"b\"} 1\n", "x{a=\"b\"}1\n", "x\t1\n", "x 1\n# EOF", "x 1\n# EOF\n", "x 1\n  ",
    "x 1\n# TYPE x gauge\n", "# TYPE x gauge\nx 1\n", "# HELP x h\nx 1\n", "x 1\n# HELP x h\n", "# HELP y \\q\n", "# HELP y \\n \\\\\n", "# TYPE y foo\n", "# TYPE y info\n", "# TYPE y unknown\n",
    "# TYPE y GAUGE\n", "# TYPE y ga\\uge\n", "# TYPE y \n", "# TYPE y\n", "# TYPE\n", "# TYPE y gauge \n", "# TYPE 1 gauge\n", "# HELP\n", "# HELP \n", "# help y\n", "#\n", "#", "-x 1\n", "1x 1\n", "a b c\n", "é 1\n",
    "x{} 1\n", "x{a=\"1\",} 1\n", "x{,} 1\n", "x{a=\"1\",,} 1\n", "x{ a = \"1\" , b = \"2\" } 1\n", "x{1=\"2\"} 1\n", "x{a:b=\"2\"} 1\n", "x{a} 1\n", "x{a=b} 1\n", "x{a='b'} 1\n", "x{a=\n", "x{a=\"b",
    "x{a=\"b\n", "x{a=\"b\" 1\n", "x{a=\"b\"", "x{a=\"1\",a=\"2\"} 1\n", "x{__name__=\"1\"} 1\n", "x{a=\"\\q\"} 1\n", "x{a=\"\\n\\\"\"} 1\n", "x{a=\"\xff\"} 1\n", "x 1\r\n", "x{a=\"b\nc\"} 1\n")] + [
    "", "\n", "# HELP x h", "# HELP x h\nx 1\n# TYPE x gauge\n", "# HELP x h\n# TYPE x histogram\nx_bucket{le=\"a\"} 1\n", "# HELP x h\n# TYPE x histogram\nx_sum 1\n# TYPE x_sum gauge\n",
    "# HELP x h\n# TYPE x summary\nx{quantile=\"q\"} 1\n", "# HELP x h\n# TYPE x summary\nx_bucket 1\n# TYPE x_bucket gauge\n", "# HELP x h\n# TYPE x histogram\nx_bucket{le=\"1\",le=\"2\"} 1\n"]


def lint_pages():
    for i, page in enumerate(BROKEN):
        data = page.encode("latin-1")
        path = os.path.join(folder, "broken")
        with open(path, "wb") as f:
            f.write(data)
        ours = subprocess.run([os.environ["B"] + "/e2e/random_registry", "lint", path], capture_output=True).stdout.decode("utf-8", "replace").strip()
        for version in ("2.42", "3"):
            done = subprocess.run([f"{lab}/bin/promtool-{version}", "check", "metrics"], input=data, capture_output=True, timeout=60)
            theirs = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
            check(f"lint_page says of pages what promtool {version} says, refused or not", ours == theirs, f"{page!r}:\n{ours}\n{theirs}")


def main():
    lint_pages()
    truths = [Truth(path) for path in sorted(glob.glob(folder + "/*.json"))]
    old, new = {}, {}
    for i, truth in enumerate(truths):
        for page in truth.pages:
            types[page["file"]] = page["content_type"]
            with open(os.path.join(folder, page["file"]), "rb") as f:
                data = f.read()
            text = data.decode("utf-8")  # every page is UTF-8, whatever was put in
            python_parser(truth, page, text)
            if i < 16:
                promtool(truth, page, data)
                new[page["file"]] = (truth, page)
                if page["escaping"] != "allow-utf-8":
                    old[page["file"]] = (truth, page)

    http.server.ThreadingHTTPServer.handle_error = lambda *_: None  # a Prometheus that ends during a scrape
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as scratch:
        both = [threading.Thread(target=ask_prometheus, args=(version, jobs, server.server_port, scratch)) for version, jobs in (("2.42", old), ("3", new))]
        for t in both:
            t.start()
        for t in both:
            t.join()

    passed = failed = 0
    for sentence, (good, faults) in checks.items():
        print(("ok      " if not faults else "FAILED  ") + f"{sentence} ({good}{f', {len(faults)} faults' if faults else ''})")
        for fault in faults[:int(os.environ.get("FAULTS", "3"))]:
            print("    " + fault.replace("\n", "\n        "))
        passed, failed = passed + (not faults), failed + bool(faults)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
sys.exit(main())
