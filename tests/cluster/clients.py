"""Clients with addresses of their own, each with one short connection: the worker that answers, and its delay."""

import http.client
import select
import socket
import ssl
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.cluster.harness import Launched
from tests.waiting import DEADLINE

IPV6_FREEBIND = 78  # <linux/in6.h>


# GET /blockSLOT-SECONDS blocks the event loop for so long where it comes to that slot.
BLOCKING = """
import os, time
from eggcluster import Application

async def api(scope, receive, send):
    slot, _, seconds = scope["path"].removeprefix("/block").partition("-")
    if slot == str(app.slot):
        time.sleep(float(seconds))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": f"{app.slot}:{os.getpid()}".encode()})

app = Application(api)
"""


class Answer(NamedTuple):
    """The worker that answered, from HELLO's text, and after how many seconds."""

    slot: int
    pid: int
    seconds: float


class Client:
    """One connection, opened at once; its request is sent with it. `stay` keeps it open until `close`.

    `source` is its address; of IPv6 any will do that is routed here, also one that no interface has.
    """

    def __init__(
        self, cluster: "Target", source: str | None = None, *, tls: bool = False, path: str = "/", stay: bool = False
    ) -> None:
        self._began = time.monotonic()
        self._sock = socket.socket(socket.AF_INET6 if ":" in cluster.host else socket.AF_INET)
        self._sock.settimeout(DEADLINE)
        if source:
            if ":" in source:
                self._sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            self._sock.bind((source, 0))
        self._sock.connect((cluster.host, cluster.port))
        if tls:
            self._sock = _unverified().wrap_socket(self._sock, server_hostname="localhost")
        self._stay = stay
        more = "" if stay else "Connection: close\r\n"
        self._sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode())

    def waits(self, seconds: float) -> bool:
        """Whether there is no answer within so many seconds."""
        return not select.select([self._sock], [], [], seconds)[0]

    def read(self) -> Answer:
        """Wait for the answer. Whatever goes wrong raises."""
        response = http.client.HTTPResponse(self._sock)
        response.begin()
        assert response.status == 200
        slot, pid = map(int, response.read().split(b":"))
        if not self._stay:
            self.close()
        return Answer(slot, pid, time.monotonic() - self._began)

    def close(self) -> None:
        self._sock.close()


class Target(NamedTuple):
    """Where a cluster listens; asked for once."""

    host: str
    port: int

    @classmethod
    def of(cls, cluster: Launched) -> "Target":
        host, _, port = cluster.address.partition("://")[2].rpartition(":")
        return cls(host.strip("[]"), int(port))


def ask(target: Target, sources: Iterable[str | None]) -> list[Answer]:
    """One connection from each of `sources`, one after the other."""
    return [Client(target, source).read() for source in sources]


def homes(target: Target, sources: Iterable[str], *, tls: bool = False) -> dict[str, int]:
    """The slot that answers each of `sources`; a few are under way at a time."""
    listed = list(sources)
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda source: Client(target, source, tls=tls).read().slot, listed)
        return dict(zip(listed, answers, strict=True))


def block(target: Target, slot: int, seconds: float, source: str | None = None) -> Client:
    """Block the event loop of the worker in `slot`; gives the client that it has not answered yet."""
    while True:
        client = Client(target, source, path=f"/block{slot}-{seconds:g}")
        if client.waits(0.2):
            return client
        client.read()


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
