#!/usr/bin/env python3
"""reached.py LIFE PROGRAM LABEL GOAL [BESIDE SIZE]: how much of PROGRAM's code one life of it reaches.

PROGRAM keeps its symbols. It runs under valgrind, which notes each instruction that is executed. The code that was executed at
least once is less than any program needs that does the same work with this code: removing code that does not run cannot get below it.
    serve   PROGRAM PORT is a server: pages in all formats, with and without gzip; requests that are refused; SIGTERM
    run     PROGRAM URL FILE pushes to a peer that answers 200 and then 503, and writes FILE
With BESIDE only functions count that this other program does not have, and SIZE is what both differ by. NEVER=n prints the n largest
functions that were never entered, and the n that have most code that was not executed.
"""
import bisect, http.server, os, re, signal, socket, subprocess, sys, tempfile, threading, time

life, program, label, goal = sys.argv[1], os.path.abspath(sys.argv[2]), sys.argv[3], int(sys.argv[4])
work = tempfile.TemporaryDirectory()
profile = os.path.join(work.name, "profile")
valgrind = ["valgrind", "-q", "--tool=callgrind", "--dump-instr=yes", "--compress-pos=no", "--compress-strings=no",
            f"--callgrind-out-file={profile}", program]


def ask(port, head, body=""):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
        peer.sendall(f"{head}\r\n{body}".encode())
        answer = b""
        while part := peer.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 "), (head, answer)
    return answer[9:12]


def serve():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    child = subprocess.Popen([*valgrind, str(port)], stdout=subprocess.PIPE)
    assert child.stdout.readline().startswith(b"http://")
    host = "Host: a\r\nConnection: close\r\n"
    for accept in ("text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0", "application/openmetrics-text;version=2.0.0",
                   "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", "*/*"):
        for coding in ("", "Accept-Encoding: gzip\r\n"):
            assert ask(port, f"GET /metrics HTTP/1.1\r\n{host}Accept: {accept}\r\n{coding}") == b"200"
    assert ask(port, f"GET / HTTP/1.1\r\n{host}Accept: text/html\r\n") == b"200"
    assert ask(port, f"HEAD /metrics HTTP/1.1\r\n{host}") == b"200"
    assert ask(port, "GET /metrics?name[]=req_time_seconds HTTP/1.0\r\n") == b"200"
    assert ask(port, f"GET /absent HTTP/1.1\r\n{host}") == b"404"
    assert ask(port, f"POST /metrics HTTP/1.1\r\n{host}Content-Length: 3\r\n", "abc") == b"405"
    assert ask(port, "not http\r\n") == b"400"
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 0
    child.stdout.close()


def run():
    asked = []

    class gateway(http.server.BaseHTTPRequestHandler):
        def do_PUT(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(self.path)
            self.send_response(503 if len(asked) > 1 else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass
    with http.server.HTTPServer(("127.0.0.1", 0), gateway) as peer:
        threading.Thread(target=peer.serve_forever, daemon=True).start()
        page = os.path.join(work.name, "page.prom")
        subprocess.run([*valgrind, f"http://127.0.0.1:{peer.server_port}", page], check=True, timeout=120)
        peer.shutdown()
    assert len(asked) == 3 and os.path.getsize(page) > 0, asked


def functions(of):
    listed = subprocess.run(["nm", "-S", "-C", "--defined-only", of], capture_output=True, text=True, check=True).stdout
    return {int(m[1], 16): (int(m[2], 16), m[3]) for m in re.finditer(r"^(\S+) (\S+) [tTwW] (.*)$", listed, re.M)}


{"serve": serve, "run": run}[life]()
executed, ours = set(), False
with open(profile) as lines:
    for line in lines:
        if line.startswith("ob="):
            ours = line[3:].strip() == program
        elif ours and line.startswith("0x"):
            executed.add(int(line.split()[0], 16))
known = {name for _, name in functions(sys.argv[5]).values()} if len(sys.argv) > 5 else set()
all_of = {at: row for at, row in functions(program).items() if row[1] not in known}
starts, hits = sorted(all_of), {}
disassembly = subprocess.run(["objdump", "-d", "-w", "-j", ".text", program], capture_output=True, text=True, check=True).stdout
for m in re.finditer(r"^ *([0-9a-f]+):\t((?:[0-9a-f]{2} )+)", disassembly, re.M):
    at = int(m[1], 16)
    if at in executed and (i := bisect.bisect_right(starts, at)) and at < starts[i - 1] + all_of[starts[i - 1]][0]:
        hits[starts[i - 1]] = hits.get(starts[i - 1], 0) + len(m[2]) // 3
assert hits, "no instruction of the program was seen"
code = sum(size for size, _ in all_of.values())
if known:
    total = int(sys.argv[6])
else:
    stripped = os.path.join(work.name, "stripped")
    subprocess.run(["strip", "-o", stripped, program], check=True)
    total = os.path.getsize(stripped)
ran = sum(hits.values())
print(f"  {label}: goal {goal}\n"
      f"    {ran:7d} executed, {sum(all_of[at][0] for at in hits):7d} of functions that were entered, {code:7d} of all functions\n"
      f"    {total - code:7d} of constants, of the tables for the dynamic linker, and of headers and padding\n"
      f"    {ran + total - code:7d} executed and these: " +
      ("more than the goal, which removing unused code cannot reach" if ran + total - code > goal else "not more than the goal"))
shown = int(os.environ.get("NEVER", "0"))
for at in sorted(set(all_of) - set(hits), key=lambda at: -all_of[at][0])[:shown]:
    print(f"    {all_of[at][0]:7d} never entered: {all_of[at][1]}")
for at in sorted(hits, key=lambda at: hits[at] - all_of[at][0])[:shown]:
    print(f"    {all_of[at][0] - hits[at]:7d} of {all_of[at][0]:5d} not executed: {all_of[at][1]}")
