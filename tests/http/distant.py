#!/usr/bin/env python3
"""distant.py SERVER [RATE [SECONDS [AWAY]]]: scrapes `SERVER PORT` over TCP whose packets need AWAY (0.05) seconds each way,
while RATE (4,800) connections a second that say nothing come from the scraper's own address. 95 % of the scrapes must be
answered: the server sees a connection when the third packet of the handshake has come, and the request is right behind.

Server and client are in network namespaces of their own, joined by a veth pair for the attacker and by two tun devices for
the scraper, between which this program passes packets. Last line: 'N passed, N failed'.

It needs root (a network namespace of its own), /dev/net/tun and the command `ip`. distant.py --missing prints which of them are
not there, or nothing."""
import ctypes, fcntl, heapq, os, resource, select, shutil, signal, socket, struct, subprocess, sys, threading, time

NEWNET, PORT = 0x40000000, 9464
libc = ctypes.CDLL(None, use_errno=True)
def checked(result):
    if result != 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def missing():
    """what is not there, in words. Each is tried, in a process of its own: a file that is there may not open"""
    found = []
    def needs(what, tried):
        child = os.fork()
        if child == 0:
            try: tried()
            except OSError as e: os._exit(e.errno)
            os._exit(0)
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]): found.append(f"{what} ({os.strerror(code)})")
    def make_device():
        checked(libc.unshare(NEWNET))
        tun("tun_try")
    needs("root, to make a network namespace", lambda: checked(libc.unshare(NEWNET)))
    if os.path.exists("/dev/net/tun"): needs("a tun device, made in one", make_device)
    else: found.append("/dev/net/tun")
    if not shutil.which("ip"): found.append("the command ip (iproute2)")
    return ", ".join(found)

def configure(commands):
    for line in commands.strip().split("\n"): subprocess.run(line.split(), check=True)
def no_source_check(*names):
    for name in ("all", "default") + names:
        with open(f"/proc/sys/net/ipv4/conf/{name}/rp_filter", "w") as f: f.write("0")
def tun(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))  # TUNSETIFF: IFF_TUN | IFF_NO_PI
    return fd

def pass_packets(one, other):
    """process: each packet comes out of the other device `away` seconds later"""
    late, n = [], 0
    while True:
        for fd in select.select([one, other], [], [], max(0, late[0][0] - time.monotonic()) if late else None)[0]:
            try:
                while True:
                    packet = os.read(fd, 65536)
                    n += 1
                    heapq.heappush(late, (time.monotonic() + away, n, other if fd == one else one, packet))
            except BlockingIOError: pass
        while late and late[0][0] <= time.monotonic():
            _, _, to, packet = heapq.heappop(late)
            try: os.write(to, packet)
            except OSError: pass  # that end is gone

def scrape():
    """-> (answered?, seconds until connected, seconds)"""
    begun = time.perf_counter()
    try:
        with socket.create_connection(("10.9.1.1", PORT), timeout=3, source_address=("10.9.0.2", 0)) as s:
            connected = time.perf_counter() - begun
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            page = b""
            while got := s.recv(65536): page += got
            return page[:12] == b"HTTP/1.1 200", connected, time.perf_counter() - begun
    except OSError: return False, 0, time.perf_counter() - begun

def client():
    """process, in the client's namespace"""
    alone = [scrape() for _ in range(5)]
    scrapes, over = [], threading.Event()
    def keep_scraping():
        while not over.wait(0.05): scrapes.append(scrape())
    def attack():
        live, made, begun = [], 0, time.time()
        while (now := time.time()) < begun + seconds:
            while made < (now - begun) * rate and len(live) < 3000:
                s = socket.socket()
                s.setblocking(False)
                try: s.connect(("10.9.0.1", PORT))
                except BlockingIOError: pass
                live.append(s)
                made += 1
            if len(live) > 1500:
                for s in live[:500]: s.close()
                live = live[500:]
            time.sleep(0.002)
        print(f"{made / seconds:.0f} silent connections a second, at once {len(live)}", flush=True)
    attacker = os.fork()
    if attacker == 0:
        attack()
        os._exit(0)
    scrapers = [threading.Thread(target=keep_scraping) for _ in range(4)]
    for t in scrapers: t.start()
    os.waitpid(attacker, 0)
    over.set()
    for t in scrapers: t.join()
    times = sorted(s[2] * 1000 for s in scrapes)
    lost = sum(not s[0] for s in scrapes)
    print(f"{len(scrapes)} scrapes of a scraper {away * 1000:.0f} ms away, {lost} lost; p50 {times[len(times) // 2]:.0f} ms, p99 {times[int(len(times) * 0.99)]:.0f} ms; "
          f"connected after {min(s[1] for s in alone) * 1000:.0f} ms when alone")
    far = all(s[0] and s[1] >= 2 * away for s in alone)
    good = len(scrapes) > 10 and lost <= 0.05 * len(scrapes)
    print("ok     " if far else "FAILED ", "the way is as long as it should be")
    print("ok     " if good else "FAILED ", "at least 95 % of the scrapes are answered")
    print(f"{far + good} passed, {2 - far - good} failed")
    return 0 if far and good else 1

if sys.argv[1:] == ["--missing"]: sys.exit(print(missing()))
server = sys.argv[1]
rate, seconds, away = [float(given) for given in sys.argv[2:5]] + [4800, 6, 0.05][len(sys.argv[2:5]):]
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(8000, most), most))
checked(libc.unshare(NEWNET))
ready, begin = os.pipe(), os.pipe()
there = os.fork()
if there == 0:
    checked(libc.unshare(NEWNET))
    os.write(ready[1], b"r")
    os.read(begin[0], 1)
    os._exit(client())
os.read(ready[0], 1)
mine, theirs = (os.open(f"/proc/{pid}/ns/net", os.O_RDONLY) for pid in ("self", there))
configure(f"""ip link set lo up
ip link add near type veth peer name far netns {there}
ip addr add 10.9.0.1/24 dev near
ip addr add 10.9.1.1/32 dev lo
ip link set near up""")
near_end = tun("tun_near")
no_source_check("near", "tun_near")
configure("""ip link set tun_near up
ip rule add from 10.9.1.1 lookup 77
ip route add default dev tun_near table 77""")
checked(libc.setns(theirs, NEWNET))
far_end = tun("tun_far")
no_source_check("far", "tun_far")
configure("""ip link set lo up
ip addr add 10.9.0.2/24 dev far
ip link set far up
ip link set tun_far up
ip route add 10.9.1.1/32 dev tun_far src 10.9.0.2""")
checked(libc.setns(mine, NEWNET))
passing = os.fork()
if passing == 0: pass_packets(near_end, far_end)
serving = subprocess.Popen([server, str(PORT)], stdout=subprocess.DEVNULL)
for _ in range(100):
    try: socket.create_connection(("10.9.1.1", PORT), 1).close()
    except OSError: time.sleep(0.1)
    else: break
os.write(begin[1], b"b")
status = os.waitstatus_to_exitcode(os.waitpid(there, 0)[1])
serving.terminate()
serving.wait()
os.kill(passing, signal.SIGKILL)
sys.exit(status)
