# A program with prometheus-async and prometheus_client. prometheus_async_after.cpp is the same in C++, line by line.
#
#     pip install prometheus-async aiohttp && python3 examples/migration/prometheus_async_before.py 9464
import asyncio
import sys

from prometheus_client import Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_async.aio import count_exceptions, time, track_inprogress
from prometheus_async.aio.web import start_http_server

REQ_TIME = Histogram("req_time_seconds", "Time spent in requests.", ["route"], buckets=[0.1, 1, 10])
ERRORS = Counter("errors_total", "Requests that failed.")
RUNNING = Gauge("requests_in_progress", "Requests under way.")
SIZE = Summary("request_bytes", "Size of a request.")
BUILD = Info("build", "How it was built.")
MODE = Enum("mode", "What the program does.", states=["idle", "busy"])


@time(REQ_TIME.labels("/"))
@count_exceptions(ERRORS, exc=ValueError)
@track_inprogress(RUNNING)
async def handle(n):
    await asyncio.sleep(0)
    SIZE.observe(n)
    if n < 0:
        raise ValueError(n)
    return n * 2


async def main(port):
    BUILD.info({"version": "1.2"})
    MODE.state("busy")
    Gauge("pool_size", "Workers that exist.").set_function(lambda: 8)
    with Gauge("start_seconds", "Time of the start.").time():
        server = await start_http_server(addr="127.0.0.1", port=port)
    print(f"http://127.0.0.1:{server.socket.port}/", flush=True)

    await handle(1)
    await time(REQ_TIME.labels("/"), asyncio.sleep(0))  # an awaitable, in flight
    try:
        await handle(-1)
    except ValueError:
        pass
    await asyncio.sleep(3600)


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 9464))
