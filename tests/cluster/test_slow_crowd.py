"""A crowd of slow clients: heads and bodies byte by byte, and 200 MB that nothing reads. Others do not notice."""

import contextlib
import http.client
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles
from types import TracebackType

import httpx
import psutil
import pytest

from eggcluster.kernel.peer_end import peer_end
from tests.cluster.harness import Launched, Project
from tests.waiting import DEADLINE, wait_until

SIZE = 200 * 1024 * 1024
LIMITS = ["--header-timeout=6", "--body-timeout=3", "--write-timeout=3", "--keep-alive-timeout=60"]
PACE = 0.3  # seconds between two bytes of a client
REQUESTS = 2000  # of the others, in each phase
FACTOR = 20  # by which their p99 may grow; of less than SHORT seconds, it may grow to FACTOR times that
SHORT = 0.01
PER_CLIENT = 64 * 1024  # bytes of memory that each may cost the worker; a body that is read ahead has 64 KiB,
PER_READER = 1024 * 1024  # and a response that is not read, a part of 256 KiB and its copy
SLACK = 32 * 1024 * 1024
LISTENS = "0A"  # TCP_LISTEN, <net/tcp_states.h>

# /message, /stream and /path are the same 200 MB; a POST is read to its end.
LARGE = f"""
from eggcluster import Application

PART = bytes({SIZE // 200})
ALL = bytes({SIZE})

async def api(scope, receive, send):
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    way = scope["path"][1:]
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", LENGTHS[way])]}})
    if way == "message":
        await send({{"type": "http.response.body", "body": ALL}})
    elif way == "path":
        await send({{"type": "http.response.pathsend", "path": "large"}})
    elif way == "stream":
        for _ in range(200):
            await send({{"type": "http.response.body", "body": PART, "more_body": True}})
        await send({{"type": "http.response.body"}})
    else:
        await send({{"type": "http.response.body", "body": b"small"}})

LENGTHS = {{"message": b"{SIZE}", "stream": b"{SIZE}", "path": b"{SIZE}", "": b"5"}}
app = Application(api)
"""


class Drip(threading.Thread):
    """Sends each of its clients' requests byte by byte, until `stop`."""

    def __init__(self, address: tuple[str, int], count: int, head: bytes, rest: Callable[[int], bytes]) -> None:
        super().__init__()
        self.clients = [socket.create_connection(address, DEADLINE) for _ in range(count)]
        self._rest = rest
        self._stopped = threading.Event()
        for client in self.clients:
            client.sendall(head)

    def run(self) -> None:
        sent = 0
        while not self._stopped.wait(PACE):
            for client in self.clients:
                try:
                    client.send(self._rest(sent))
                except OSError:  # closed by its limit
                    continue
            sent += 1

    def stop(self) -> None:
        self._stopped.set()
        self.join()


class Crowd:
    """`count` clients that send slowly, and `readers` for each kind of response, that read nothing."""

    def __init__(self, launched: Launched, count: int, readers: int) -> None:
        url = httpx.URL(launched.address)
        address = (str(url.host), int(url.port or 0))
        body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
        self.heads = Drip(address, count // 2, b"GET / HTTP/1.1\r\nHost: x\r\nA: ", lambda sent: b"a")
        self.bodies = Drip(address, count // 2, body, lambda sent: b"b")
        self.readers = [socket.create_connection(address, DEADLINE) for _ in range(3 * readers)]
        for index, client in enumerate(self.readers):
            client.sendall(b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"message", b"stream", b"path")[index % 3])

    def __enter__(self) -> "Crowd":
        self.heads.start()
        self.bodies.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.heads.stop()
        self.bodies.stop()
        for client in (*self.heads.clients, *self.bodies.clients, *self.readers):
            client.close()


def p99(launched: Launched) -> float:
    """The 99th percentile of the seconds for a request, half of them with a connection of their own."""
    url = httpx.URL(launched.address)
    seconds: list[float] = []
    with contextlib.closing(http.client.HTTPConnection(url.host, url.port, timeout=DEADLINE)) as kept:
        for _ in range(REQUESTS // 2):
            with contextlib.closing(http.client.HTTPConnection(url.host, url.port, timeout=DEADLINE)) as own:
                seconds += [seconds_for(kept), seconds_for(own)]
    return quantiles(seconds, n=100)[98]


def seconds_for(connection: http.client.HTTPConnection) -> float:
    began = time.monotonic()
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"small"
    return time.monotonic() - began


def all_ended(clients: Sequence[socket.socket]) -> bool:
    return all(peer_end(client) is not None for client in clients)


def assert_bystanders_do_not_notice(project: Project, count: int, readers: int) -> None:
    """`count` slow senders and 3 x `readers` that read nothing: the others' p99, the memory, and the end of all."""
    with (project.folder / "large").open("wb") as file:
        file.truncate(SIZE)
    launched = project.write(app=LARGE).start("--workers", "1", *LIMITS).wait_ready()
    worker = psutil.Process(launched.workers()[1])
    calm, memory = p99(launched), worker.memory_info().rss
    with Crowd(launched, count, readers) as crowd:
        crowded = p99(launched)
        grown = worker.memory_info().rss - memory
        found = f"p99 {calm * 1000:.1f} ms, with the crowd {crowded * 1000:.1f} ms; {grown / 2**20:.0f} MiB more"
        assert crowded < FACTOR * max(calm, SHORT), found
        assert grown < count * PER_CLIENT + 3 * readers * PER_READER + SLACK, found
        sys.stdout.write(f"{found}\n")
        wait_until(lambda: all_ended(crowd.heads.clients), "heads end by their limit, though bytes come")
        wait_until(lambda: all_ended(crowd.readers), "what reads nothing is cut off")
        crowd.bodies.stop()
        wait_until(lambda: all_ended(crowd.bodies.clients), "bodies end by their limit")
        wait_until(lambda: open_connections(worker) == 0, "the worker has none of them")


def open_connections(worker: psutil.Process) -> int:
    folder = Path(f"/proc/{worker.pid}/fd")
    links = {os.readlink(folder / name) for name in os.listdir(folder) if (folder / name).is_symlink()}
    sockets = {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:")}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] != LISTENS and row[9] in sockets for row in rows)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="counts a worker's connections in /proc")
def test_a_crowd_of_slow_clients_costs_the_others_nothing(project: Project) -> None:
    assert_bystanders_do_not_notice(project, 200, 3)
