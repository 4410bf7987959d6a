"""Owns the rows of the engine benchmark: what a server is asked, and which figures it is measured by.

Runs in the benchmark.
"""

import http.client
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.boot import HOST, BenchmarkError
from benchmarks.engine_peers.contestants import Interface
from benchmarks.engine_peers.idle import idle_connections, kept
from benchmarks.http_peers.load import CONNECTIONS, REPORT, Load, Result, run_generator, under_wrk
from benchmarks.http_peers.server import START_TIMEOUT, Server

POST = Path(__file__).resolve().parent / "post.lua"
POSTED = b"x" * 10_240
BESIDE = 1_000  # idle connections beside the load
MANY = 10_000  # idle connections whose memory is weighed
WARM_UP = 1  # s, not counted
REST = 0.5  # s before memory is read

Figures = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One kind of load. `body` is posted, `idle` connections are held; `measure` loads it for so many seconds."""

    name: str
    title: str
    interface: Interface
    target: str
    measure: Callable[["Row", Server, int], Figures]
    path: str = "/"
    answer: bytes = b"hello world"
    body: bytes | None = None
    close: bool = False
    idle: int = 0

    def check(self, server: Server) -> None:
        """Raise BenchmarkError unless the server gives the answer that all are to give."""
        answer = ask(server, self.path, self.body)
        if answer != self.answer:
            raise BenchmarkError(f"{server.name} answers {self.path} with {answer[:80]!r}, not {self.answer[:80]!r}")

    def load(self, server: Server, seconds: int) -> Load:
        """Load it with wrk."""
        script = REPORT if self.body is None else POST
        return under_wrk(server, seconds, close=self.close, path=self.path, script=script)


def ask(server: Server, path: str, body: bytes | None = None) -> bytes:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=START_TIMEOUT)
    try:
        connection.request("GET" if body is None else "POST", path, body)
        return connection.getresponse().read()
    finally:
        connection.close()


# --- Ways to measure --------------------------------------------------------------------------------------


def requests(row: Row, server: Server, seconds: int) -> Figures:
    row.load(server, WARM_UP)
    return asdict(row.load(server, seconds)) | memory(server)


def requests_beside(row: Row, server: Server, seconds: int) -> Figures:
    """The same while idle connections are open, which the memory includes."""
    row.load(server, WARM_UP)
    with idle_connections(server, row.idle) as idle:
        figures = asdict(row.load(server, seconds)) | memory(server)
        return figures | {"closed": row.idle - kept(idle)}


def echoes(row: Row, server: Server, seconds: int) -> Figures:
    under_echo(server, WARM_UP)
    return asdict(under_echo(server, seconds)) | memory(server)


def many_connections(row: Row, server: Server, seconds: int) -> Figures:
    """Memory alone, in bytes, before and with the connections; `seconds` does not matter."""
    row.load(server, WARM_UP)
    time.sleep(REST)
    before = memory(server)
    with idle_connections(server, row.idle) as idle:
        time.sleep(REST)
        figures, closed = memory(server), row.idle - kept(idle)
    return figures | {"before": before["rss"], "each": (figures["rss"] - before["rss"]) / row.idle, "closed": closed}


def under_echo(server: Server, seconds: int) -> Load:
    """32 WebSockets, each with one message on its way."""
    numbers = map(str, (server.port, seconds, CONNECTIONS))

    def read(text: str) -> Result:
        said = json.loads(text)
        return Result(said["requests"], said["seconds"], (said["p50"], said["p99"], said["p99.9"]))

    return run_generator(server, [sys.executable, "-m", "benchmarks.engine_peers.echo", *numbers], read, seconds)


def memory(server: Server) -> Figures:
    """Bytes of the worker: the process that has worked most."""
    text = Path(f"/proc/{server.busiest()}/smaps_rollup").read_text()
    sizes = {name.lower(): float(size) * 1024 for name, size in re.findall(r"^(Rss|Pss): +(\d+) kB$", text, re.M)}
    return {"rss": sizes["rss"], "pss": sizes["pss"]}


# --- The rows ---------------------------------------------------------------------------------------------

JSON = b'{"message":"hello world","numbers":[1,2,3]}'
ROWS = (
    Row("asgi", "ASGI, hello", "asgi", "plain:app", requests),
    Row("fastapi", "FastAPI, JSON", "asgi", "api:app", requests, answer=JSON),
    Row("post", "ASGI, POST of 10 KiB", "asgi", "plain:app", requests, answer=b"10240", body=POSTED),
    Row("download", "ASGI, download of 1 MiB", "asgi", "plain:app", requests, "/download", bytes(2**20)),
    Row("close", "ASGI, one connection a request", "asgi", "plain:app", requests, close=True),
    Row("idle", f"ASGI, hello, {BESIDE:,} idle beside", "asgi", "plain:app", requests_beside, idle=BESIDE),
    Row("wsgi", "WSGI, hello", "wsgi", "plain_wsgi:app", requests),
    Row("flask", "Flask", "wsgi", "flask_app:app", requests),
    Row("django", "Django", "wsgi", "django_app:app", requests),
    Row("websocket", "WebSocket, echo of 64 B", "asgi", "plain:app", echoes),
    Row("connections", f"{MANY:,} idle connections", "asgi", "plain:app", many_connections, idle=MANY),
)
