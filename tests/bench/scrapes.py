#!/usr/bin/env python3
"""Scrapes ours, prometheus-cpp's server, nginx (the same bytes from a file) and a loop that sends them from memory, round-robin
with wrk over 16 kept-alive connections: CPU of the server per request, and ours as a ratio to each. Needs wrk, nginx and
prometheus-cpp's pull library."""
import http.client, os, re, socket, statistics, subprocess, sys, tempfile, time

build = os.environ.get("B", "build")
rounds, span = int(os.environ.get("ROUNDS", "3")), os.environ.get("SPAN", "2s")
tick = os.sysconf("SC_CLK_TCK")

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

def family(pid):
    yield pid
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        for child in f.read().split():
            yield from family(int(child))

def cpu(pid):  # user and system seconds of the process and its children
    total = 0
    for p in family(pid):
        fields = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / tick

def memory(pid, what):  # kB
    return sum(int(re.search(what + r":\s+(\d+)", open(f"/proc/{p}/status").read()).group(1)) for p in family(pid))

def get(port):
    for _ in range(100):
        try:
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            c.request("GET", "/metrics")
            return c.getresponse().read()
        except OSError:
            time.sleep(0.1)
    sys.exit(f"nothing serves on port {port}")

def run(series, goals, only_ours=False):
    with tempfile.TemporaryDirectory() as tmp:
        ports = {n: free_port() for n in ("ours", "prometheus-cpp", "nginx", "memory")}
        servers = {}
        try:
            servers["ours"] = subprocess.Popen([f"{build}/bench/our_server", str(series), str(ports["ours"])])
            page = get(ports["ours"])
            if only_ours:
                pid, before = servers["ours"].pid, memory(servers["ours"].pid, "VmHWM")
                page = get(ports["ours"])
                get(ports["ours"])
                print(f"{series} series, {len(page)} bytes: peak memory grows by {memory(pid, 'VmHWM') - before} kB over two further "
                      f"scrapes (the first included in {before} kB)")
                return
            servers["prometheus-cpp"] = subprocess.Popen([f"{build}/bench/peer_server", str(series), str(ports["prometheus-cpp"])])
            get(ports["prometheus-cpp"])
            open(f"{tmp}/metrics", "wb").write(page)
            os.chmod(tmp, 0o755)
            open(f"{tmp}/nginx.conf", "w").write(
                f"worker_processes 1; daemon off; pid {tmp}/pid; error_log {tmp}/error.log; events {{ worker_connections 256; }}\n"
                f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; default_type text/plain;\n"
                f"server {{ listen 127.0.0.1:{ports['nginx']}; root {tmp}; }} }}\n")
            servers["nginx"] = subprocess.Popen(["nginx", "-c", f"{tmp}/nginx.conf", "-p", tmp], stderr=subprocess.DEVNULL)
            get(ports["nginx"])
            servers["memory"] = subprocess.Popen([f"{build}/bench/memory_server", f"{tmp}/metrics", str(ports["memory"])])
            get(ports["memory"])
            cost = {n: [] for n in servers}
            rate = {n: [] for n in servers}
            for _ in range(rounds):
                for name, server in servers.items():
                    before = cpu(server.pid)
                    out = subprocess.run(["wrk", "-t1", "-c16", f"-d{span}", f"http://127.0.0.1:{ports[name]}/metrics"],
                                         capture_output=True, text=True).stdout
                    count = int(re.search(r"(\d+) requests in", out).group(1))
                    cost[name].append((cpu(server.pid) - before) / max(count, 1) * 1e6)
                    rate[name].append(float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)))
            ours = statistics.median(cost["ours"])
            print(f"{series} series, {len(page)} bytes, 16 connections")
            for name in servers:
                mine = statistics.median(cost[name])
                goal = f"   ours / {name} = {ours / mine:.3f}" + (f" (goal {goals[name]})" if name in goals else "") if name != "ours" else ""
                print(f"  {name:<15}{mine:10.1f} us CPU a request {statistics.median(rate[name]):12.0f} requests/s{goal}")
        finally:
            for server in servers.values():
                server.terminate()
            for server in servers.values():
                server.wait()

run(30, {"nginx": "< 0.8", "prometheus-cpp": "<= 0.07"})
run(10000, {"prometheus-cpp": "<= 0.015", "nginx": "<= 3.5"})
run(100000, {}, only_ours=True)
