"""Connections that have to come to their end, whatever comes at the same time; over a transport without a socket."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from eggcluster.http.asgi import AsgiExchange
from eggcluster.http.connection import HttpConnection
from eggcluster.http.http_settings import HttpSettings
from eggcluster.http.server import HttpServer
from tests.fuzz.memory_transport import MemoryTransport
from tests.unit.clock import in_no_time, now
from tests.unit.http.wire import Receive, Scope, Send, echo, get, respond, turns

BROKEN = get("/", "Transfer-Encoding: chunked", method="POST"), b"x\r\n"


class Wire:
    """A connection to a server of its own, on a clock that jumps."""

    def __init__(self, app: Callable[..., Any] = echo) -> None:
        self.server = HttpServer(app, AsgiExchange, HttpSettings(), {})
        self.connection = HttpConnection(self.server, is_tls=False)
        self.transport = MemoryTransport(self.connection, None)

    @property
    def statuses(self) -> list[bytes]:
        return [part[:3] for part in self.transport.written.split(b"HTTP/1.1 ")[1:]]

    async def end(self, within: float) -> None:
        """Wait for the connection's end; it has to come within that many seconds."""
        latest = now() + within
        while not self.transport.is_lost:
            assert now() < latest, f"the connection is open, in state {self.connection.state}"
            await asyncio.sleep(0.1)
        self.server.close()


@pytest.mark.parametrize("shuts", [False, True], ids=["open", "shut"])
def test_a_request_that_is_refused_while_its_client_does_not_read_is_answered(shuts: bool) -> None:
    async def scenario() -> None:
        wire = Wire()
        wire.connection.pause_writing()
        for piece in BROKEN:
            wire.connection.data_received(piece)
        if shuts:
            wire.transport.shut_down()
        await turns()
        wire.connection.resume_writing()
        await wire.end(within=5)
        assert wire.statuses == [b"400"]

    in_no_time(scenario())


def test_a_head_that_has_begun_behind_a_request_is_no_silence() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1)
        await respond(send, b"x")

    async def scenario() -> None:
        wire = Wire(slow)
        wire.connection.data_received(get() + b"GET /2 HTTP/1.1\r\nHost: x\r\n")
        await asyncio.sleep(7)  # longer than a silent connection is kept
        assert wire.statuses == [b"200"]
        assert wire.connection.activity == "request"  # for a drain, which does not close it in the middle of a head
        await wire.end(within=7)
        assert wire.statuses == [b"200", b"408"]

    in_no_time(scenario())


def test_responses_may_take_longer_than_a_silent_connection_is_kept() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(7)
        await respond(send, b"x")

    async def scenario() -> None:
        wire = Wire(slow)
        wire.connection.data_received(get() + get())
        await wire.end(within=21)
        assert wire.statuses == [b"200", b"200"]
        assert now() > 18

    in_no_time(scenario())


@pytest.mark.parametrize("expects", [(), ("Expect: 100-continue",)], ids=["body", "expect"])
def test_the_last_connection_does_not_wait_for_a_request_behind_the_last_one(expects: tuple[str, ...]) -> None:
    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        await turns()
        await respond(send, b"bye", headers=[(b"connection", b"close")])

    async def scenario() -> None:
        wire = Wire(closing)
        wire.connection.data_received(get() + get("/2", "Content-Length: 5", *expects, method="POST"))
        await wire.end(within=5)
        assert wire.statuses == [b"200"]

    in_no_time(scenario())
