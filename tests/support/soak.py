#!/usr/bin/env python3
"""soak.py PROGRAM MINUTES: runs soak.cpp's server under the scenarios of abuse.py in random order, while a scraper of its
own takes a page ten times a second over a kept connection and over fresh ones in turn. No scrape may be lost; after the
first quarter of the time, memory and descriptors stay what they are. Last line: 'N passed, N failed'."""
import collections, http.client, os, random, re, socket, subprocess, sys, threading, time

program, minutes = sys.argv[1], float(sys.argv[2])
abuse = os.path.join(os.path.dirname(__file__), "..", "http", "abuse.py")
scenarios = ["idle", "slowheader", "slowbody", "slowreader", "stalledreader", "churn", "rst", "pipeline", "halftls", "halfclose",
             "bigheader", "mixed", "slowtakers", "freshstall"]

with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
server = subprocess.Popen([program, str(port)], stdout=subprocess.PIPE, text=True)
for _ in range(100):
    try: socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError: time.sleep(0.1)
    else: break

def resident():
    return int([l for l in open(f"/proc/{server.pid}/status") if l.startswith("VmRSS")][0].split()[1]) / 1024
def descriptors():
    return len(os.listdir(f"/proc/{server.pid}/fd"))

scrapes = 0
lost = []  # what became of each, and when
slowest = 0.0
over = threading.Event()
def scrape():
    """At an address that no scenario uses."""
    global scrapes, slowest
    kept = None
    while not over.wait(0.1):
        begun, fresh = time.monotonic(), kept is None
        try:
            if fresh: kept = http.client.HTTPConnection("127.0.0.1", port, timeout=5, source_address=("127.0.0.3", 0))
            kept.request("GET", "/metrics")
            answer = kept.getresponse()
            page = answer.read()
            good = answer.status == 200 and page.endswith(b"\n") and b"\nkept_total " in page
            what = f"status {answer.status}, {len(page)} octets"
        except (OSError, http.client.HTTPException) as e: good, what = False, repr(e)
        scrapes += 1
        if not good: lost.append(f"{what} on {'a fresh' if fresh else 'a kept'} connection, at {time.strftime('%H:%M:%S')}, after "
                                 f"{(time.monotonic() - begun) * 1000:.0f} ms, in {under}")
        slowest = max(slowest, time.monotonic() - begun)
        if not good or scrapes % 50 == 0: kept = kept and kept.close()
scraper = threading.Thread(target=scrape)
scraper.start()

failures, rounds, samples, under = [], 0, [], "none"
own = collections.Counter()  # scrapes at the attacker's own address: how many, and what became of those that were lost
until = time.monotonic() + minutes * 60
warm = time.monotonic() + minutes * 15
order = []
while time.monotonic() < until and server.poll() is None:
    if not order: order = random.sample(scenarios, len(scenarios))
    name = under = order.pop()
    run = subprocess.run([sys.executable, abuse, "--port", str(port), "--pid", str(server.pid), "--only", name, "--scale", "0.2", "--hold",
                          "3", "--p99-ms", "2000", "--settle", "20"], capture_output=True, text=True)
    rounds += 1
    said = run.stdout.strip().split("\n")[0]
    if run.returncode: failures.append(said[-600:] or run.stderr[-400:])
    if counts := re.search(r" own=(\d+) own_failed=(\d+)", said): own["all"] += int(counts[1]); own["lost"] += int(counts[2])
    if why := re.search(r" own_lost=(.*?)(  <- |$)", said): own[f"{name}: {why[1]}"] += 1
    if server.poll() is None: samples.append((time.monotonic(), resident(), descriptors()))
over.set()
scraper.join()
alive = server.poll() is None
server.terminate()
said = server.communicate(timeout=60)[0].strip()

first = [s for s in samples if s[0] <= warm] or samples[:1]
later = [s for s in samples if s[0] > warm] or samples[-1:]
base, top = max(s[1] for s in first), max(s[1] for s in later)
passed = failed = 0
def ok(sentence, good):
    global passed, failed
    passed += bool(good)
    failed += not good
    print("ok     " if good else "FAILED ", sentence)
ok(f"the server lived through {rounds} scenarios in {minutes:g} minutes", alive)
for f in failures: ok("a scenario: " + f, False)
ok(f"{scrapes} scrapes, {len(lost)} lost, the slowest {slowest * 1000:.0f} ms", scrapes and not lost)
for l in lost: print("       lost:", l)
print(f"       at the attacker's own address {own.pop('all', 0)} scrapes, {own.pop('lost', 0)} lost")
for why in own: print("       lost there:", why)
ok(f"memory: at most {base:.1f} MB in the first quarter, {top:.1f} MB later", top <= base * 1.05 + (1 if minutes >= 15 else 8))  # in a short run not each buffer was there in the first quarter
ok(f"descriptors: {min(s[2] for s in samples)} to {max(s[2] for s in samples)} between the scenarios", max(s[2] for s in samples) - min(s[2] for s in samples) <= 2)
ok(f"{said}", server.returncode == 0)
print(f"{passed} passed, {failed} failed")
sys.exit(failed != 0)
