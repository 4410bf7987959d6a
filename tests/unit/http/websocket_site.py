"""An HTTP server with one ASGI application, in the test's own loop, and a WebSocket client that writes raw bytes."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any

import pytest
import uvloop

from eggcluster.http import server as server_module
from eggcluster.http.connection import HttpConnection
from eggcluster.http.http_settings import HttpSettings
from eggcluster.http.server import HttpServer
from eggcluster.http.websocket import asgi_exchange
from eggcluster.http.websocket_connection import WebSocketConnection
from eggcluster.http.websocket_frames import BINARY, CLOSE, CONTINUATION, PONG, TEXT
from tests.unit.http.tls_wire import Contexts
from tests.waiting import until

__all__ = ["BINARY", "CLOSE", "CONTINUATION", "PONG", "TEXT"]

PING = 9
DEADLINE = 5.0

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Event, Receive, Send], Awaitable[None]]

Run = Callable[[Coroutine[Any, Any, None]], None]

ACCEPT = {"type": "websocket.accept"}


@pytest.fixture(name="run", params=["asyncio", "uvloop"])
def run_websockets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a coroutine in an event loop of either kind, with a clock that is fine enough for short deadlines."""
    monkeypatch.setattr(server_module, "TICK", 0.01)
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        yield lambda work: runner.run(asyncio.wait_for(work, 20))


async def echo(scope: Event, receive: Receive, send: Send) -> None:
    """Accept, and send back each message."""
    assert (await receive())["type"] == "websocket.connect"
    await send(ACCEPT)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


async def listen(scope: Event, receive: Receive, send: Send) -> None:
    """Accept, and receive until the end."""
    await receive()
    await send(ACCEPT)
    while (await receive())["type"] == "websocket.receive":
        pass


class Site:
    """Serves `app`, behind TLS with `contexts`, and keeps the events that each of its tasks has received."""

    def __init__(self, app: App = echo, *, contexts: Contexts | None = None, **settings: Any) -> None:
        self._app = app
        self._contexts = contexts
        self._settings = HttpSettings(**settings)
        self.events: list[Event] = []
        self.scopes: list[Event] = []
        self.errors: list[BaseException] = []
        self.ended = 0

    async def _serve(self, scope: Event, receive: Receive, send: Send) -> None:
        async def watched() -> Event:
            self.events.append(await receive())
            return self.events[-1]

        self.scopes.append(scope)
        try:
            await self._app(scope, watched, send)
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            self.ended += 1

    async def __aenter__(self) -> "Site":
        self.server = HttpServer(self._serve, asgi_exchange, self._settings, {"shared": "state"})
        tls = self._contexts.server if self._contexts is not None else None
        self.listener = await asyncio.get_running_loop().create_server(self._connection, "127.0.0.1", 0, ssl=tls)
        self.address = self.listener.sockets[0].getsockname()
        return self

    def _connection(self) -> HttpConnection:
        return HttpConnection(self.server, is_tls=self._contexts is not None)

    async def __aexit__(self, *error: object) -> None:
        self.listener.close()
        for connection in list(self.server.connections):
            connection.abort()
        for running in list(self.server.running):
            running.cancel()
        await until(lambda: not self.server.is_busy, "the end of all connections", DEADLINE)
        self.server.close()

    @property
    def url(self) -> str:
        return "{}://{}:{}/".format("ws" if self._contexts is None else "wss", *self.address)

    @property
    def connection(self) -> WebSocketConnection:
        """The only connection."""
        (connection,) = self.server.connections
        assert isinstance(connection, WebSocketConnection)
        return connection

    async def wait_connection(self) -> WebSocketConnection:
        """Wait until the only connection is a WebSocket's; return it."""

        def is_websocket() -> bool:
            return [type(each) for each in self.server.connections] == [WebSocketConnection]

        await until(is_websocket, "the request for a WebSocket", DEADLINE)
        return self.connection

    @property
    def end(self) -> tuple[int, str] | None:
        """The code and reason of the first disconnect."""
        ends = [(event["code"], event["reason"]) for event in self.events if event["type"] == "websocket.disconnect"]
        return ends[0] if ends else None

    async def wait_end(self, *codes: int) -> str:
        """Wait until the application is told of the end; return the reason."""
        await until(lambda: self.end, "websocket.disconnect", DEADLINE)
        assert self.end is not None
        assert self.end[0] in codes
        return self.end[1]

    async def wait_idle(self) -> None:
        """Wait until no connection and no task is left."""
        await until(lambda: not self.server.is_busy, "the end of all connections", DEADLINE)

    @contextlib.asynccontextmanager
    async def raw(self, request: bytes | None = None, *, accepted: bool = True) -> AsyncIterator["RawClient"]:
        """A client that has sent `request`, and read the 101 response."""
        tls = self._contexts.client if self._contexts is not None else None
        client = RawClient(*await asyncio.open_connection(*self.address, ssl=tls))
        try:
            client.write(upgrade() if request is None else request)
            if accepted:
                assert (await client.read_head()).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            yield client
        finally:
            client.writer.close()

    @contextlib.asynccontextmanager
    async def piped(self, request: bytes) -> AsyncIterator["RawClient"]:
        """A client whose request, and what is behind it, the server reads at once: over a Unix socket, which has room
        for 200 KB before anything is read."""
        ours, theirs = socket.socketpair()
        ours.sendall(request)
        client = RawClient(*await asyncio.open_connection(sock=ours))
        await asyncio.get_running_loop().connect_accepted_socket(self._connection, theirs)
        try:
            yield client
        finally:
            client.writer.close()


KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, 1.3
FIELDS = {
    b"Host": b"cluster", b"Connection": b"Upgrade", b"Upgrade": b"websocket",
    b"Sec-WebSocket-Version": b"13", b"Sec-WebSocket-Key": KEY,
}  # fmt: skip
DEFLATE = {b"Sec-WebSocket-Extensions": b"permessage-deflate"}


def upgrade(fields: Mapping[bytes, bytes | None] | None = None, target: bytes = b"/") -> bytes:
    """Return a request for a WebSocket; a field that is None is left out."""
    lines = [b"%b: %b\r\n" % (name, value) for name, value in {**FIELDS, **(fields or {})}.items() if value is not None]
    return b"GET %b HTTP/1.1\r\n" % target + b"".join(lines) + b"\r\n"


def frame(opcode: int, data: bytes = b"", *, final: bool = True, rsv1: bool = False, masked: bool = True) -> bytes:
    """Return a client's frame. Its mask is 0: the data is readable."""
    first, mask = final << 7 | rsv1 << 6 | opcode, masked << 7
    if len(data) < 126:
        head = struct.pack("!BB", first, mask | len(data))
    elif len(data) < 1 << 16:
        head = struct.pack("!BBH", first, mask | 126, len(data))
    else:
        head = struct.pack("!BBQ", first, mask | 127, len(data))
    return head + (bytes(4) if masked else b"") + data


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


class RawClient:
    """Bytes out, frames in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def read_head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE)

    async def write_on(self, data: bytes) -> None:
        """Write `data` again and again, at the server's pace, until its end of the stream has come."""
        while not self.reader.at_eof():
            self.write(data)
            await asyncio.sleep(0)
            await self.writer.drain()

    async def read_rest(self) -> bytes:
        """Read until the server's end of the stream."""
        return await asyncio.wait_for(self.reader.read(), DEADLINE)

    async def read_frame(self) -> tuple[int, bytes]:
        """Return a frame's opcode, with its flags, and its data."""
        return await asyncio.wait_for(self._read_frame(), DEADLINE)

    async def _read_frame(self) -> tuple[int, bytes]:
        first, size = await self.reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x7F, await self.reader.readexactly(size)  # all are final; but RSV1 tells of compression

    async def read_close(self) -> tuple[int, str]:
        """Return the code and reason of the close frame, which is next."""
        opcode, data = await self.read_frame()
        assert opcode == CLOSE, (opcode, data)
        return int.from_bytes(data[:2], "big"), data[2:].decode()
