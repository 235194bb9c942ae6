#!/usr/bin/env python3
"""slow_readers.py PORT PID COUNT MB: so many clients ask for /metrics and read nothing. The server's memory grows by no
more than MB, and when it has reset them it serves a scraper the whole page."""
import http.client, re, socket, sys, time

port, pid, count, most = (int(a) for a in sys.argv[1:])

def resident():
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1)) / 1024

def scrape():
    try:
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        c.request("GET", "/metrics")
        answer = c.getresponse()
        return answer.status, len(answer.read())
    except OSError as e:
        return 0, str(e)

status, whole = scrape()
assert status == 200, (status, whole)
before = peak = resident()
readers = []
for _ in range(count):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(10)
    s.connect(("127.0.0.1", port))
    s.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    readers.append(s)
    peak = max(peak, resident())
until = time.monotonic() + 15
refused = 0
while time.monotonic() < until:
    peak = max(peak, resident())
    status, length = scrape()
    if status == 200 and time.monotonic() > until - 10: break
    refused += status != 200
    time.sleep(0.2)
print(f"{whole} octets a page; memory {before:.1f} MB, at most {peak:.1f} MB; {refused} scrapes refused meanwhile")
assert status == 200 and length == whole, (status, length, whole)
assert peak - before <= most, f"grew by {peak - before:.1f} MB"
