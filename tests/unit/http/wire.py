"""The HTTP engine on a loopback port, in the test's own event loop, and a client that writes and reads bytes."""

import array
import asyncio
import fcntl
import socket
import termios
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NamedTuple

import pytest

from eggcluster.http import server as server_module
from eggcluster.http.asgi import AsgiExchange
from eggcluster.http.connection import HttpConnection
from eggcluster.http.http_settings import HttpSettings
from eggcluster.http.server import HttpServer, NewExchange
from tests.waiting import DEADLINE, until

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

RESET = b"<reset>"  # what `Client.rest` ends with if the server has reset the connection


class Answer(NamedTuple):
    """A response; the headers' names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    version: str = "1.1"

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Serving:
    """The engine with `app`; its kernel takes about `send_buffer` bytes that a client does not read.

    At its end no connection and no request may be left, nor an error that the test has not taken.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        settings: HttpSettings | None = None,
        *,
        send_buffer: int = 0,
        new_exchange: NewExchange = AsgiExchange,
    ) -> None:
        self._patches = pytest.MonkeyPatch()
        self._patches.setattr(server_module, "TICK", 0.01)  # the tests' timeouts are short
        self.server = HttpServer(app, new_exchange, settings or HttpSettings(), {})
        self.failures: list[BaseException] = []  # what the application raised
        self.defects: list[Any] = []  # errors of our own
        self._clients: list[Client] = []
        self._send_buffer = send_buffer
        self.server.log_failure = lambda exchange, error: self.failures.append(error)  # type: ignore[method-assign]
        self.server.log_defect = lambda text, error: self.defects.append((text, error))  # type: ignore[method-assign]

    async def __aenter__(self) -> "Serving":
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.defects.append(context))
        self._listener = await loop.create_server(self._new_connection, sock=self._listen())
        self.address = self._listener.sockets[0].getsockname()
        return self

    def _listen(self) -> socket.socket:
        sock = socket.create_server(("127.0.0.1", 0))
        if self._send_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
        return sock

    def _stop_listening(self) -> None:
        self._listener.close()

    def _new_connection(self) -> HttpConnection:
        return HttpConnection(self.server, is_tls=False)

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for client in self._clients:
            client.close()
        self._stop_listening()
        if kind is None:
            await until(lambda: not self.server.connections, "the connections are closed")
            await until(lambda: not self.server.running, "the requests have ended")
        self.server.close()
        self._patches.undo()
        if kind is None:
            assert self.defects == []
            assert not self.failures, self.failures

    async def connect(self, receive_buffer: int = 0) -> "Client":
        """Return a client; it takes about `receive_buffer` bytes that it does not read."""
        client = Client(await self.open_socket(receive_buffer), self.server)
        self._clients.append(client)
        return client

    async def open_socket(self, receive_buffer: int = 0) -> socket.socket:
        """Return a socket that is connected to the engine."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def failed(self) -> BaseException:
        """Return what the application has raised, or did wrong."""
        await until(lambda: self.failures, "the application has failed")
        return self.failures.pop()


class Client:
    def __init__(self, sock: socket.socket, server: HttpServer) -> None:
        self.sock = sock
        self._name = sock.getsockname()
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._received = b""

    @property
    def connection(self) -> HttpConnection | None:
        """The connection in the server; None once it is closed."""
        present = (each for each in self._server.connections if isinstance(each, HttpConnection))
        return next((each for each in present if each.client == self._name), None)

    async def accepted(self) -> HttpConnection:
        """Return the connection in the server."""
        await until(lambda: self.connection, "the connection is accepted")
        assert self.connection is not None
        return self.connection

    async def send(self, *pieces: bytes) -> None:
        """Send the pieces; the server has read each before the next is sent."""
        for index, piece in enumerate(pieces):
            if index:
                server_side = (await self.accepted()).transport.get_extra_info("socket")
                await until(lambda: not unread(server_side), "the server has read")  # noqa: B023
            await self._loop.sock_sendall(self.sock, piece)

    def shut_down(self) -> None:
        """Close the sending half."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    async def answer(self, *, to: str = "GET") -> Answer:
        """Read the next response."""
        lines = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        code = int(status)
        has_body = to != "HEAD" and code >= 200 and code not in (204, 304)
        return Answer(code, headers, await self._body(headers) if has_body else b"", version.removeprefix("HTTP/"))

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            assert "content-length" not in headers
            return b"".join(await self.chunks())
        if "content-length" in headers:
            return await self.exactly(int(headers["content-length"]))
        return await self.rest()

    async def chunks(self) -> list[bytes]:
        chunks = []
        while size := int(await self.until(b"\r\n"), 16):
            chunks.append((await self.exactly(size + 2))[:-2])
        assert await self.until(b"\r\n") == b"\r\n"
        return chunks

    async def until(self, end: bytes) -> bytes:
        while end not in self._received:
            assert await self._read(), f"the connection ended after {self._received!r}"
        head, _, self._received = self._received.partition(end)
        return head + end

    async def exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            assert await self._read(), f"the connection ended after {len(self._received)} of {size} bytes"
        data, self._received = self._received[:size], self._received[size:]
        return data

    async def rest(self) -> bytes:
        """Read to the connection's end."""
        try:
            while await self._read():
                pass
        except ConnectionResetError:
            self._received += RESET
        data, self._received = self._received, b""
        return data

    def has_unread(self) -> bool:
        """Whether something has come that was not read."""
        try:
            return bool(self._received or self.sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    async def _read(self) -> bytes:
        data = await self._receive()
        self._received += data
        return data

    async def _receive(self) -> bytes:
        return await asyncio.wait_for(self._loop.sock_recv(self.sock, 256 * 1024), DEADLINE)


def unread(sock: socket.socket) -> int:
    """Return how many bytes have come that were not read."""
    count = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.FIONREAD, count)
    return count[0]


async def turns(count: int = 50) -> None:
    """Let the event loop do what it has to do: for what must not happen there is no condition to wait for."""
    for _ in range(count):
        await asyncio.sleep(0)


async def respond(send: Send, *pieces: bytes, status: int = 200, headers: Any = ()) -> None:
    """Send a whole response whose body is these pieces."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in pieces[:-1]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"".join(pieces[-1:])})


async def read_body(receive: Receive) -> bytes:
    """Receive the whole body; ConnectionResetError if the client leaves before its end."""
    body = b""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ConnectionResetError("http.disconnect")
        body += event["body"]
        if not event["more_body"]:
            return bytes(body)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the method, the path and the body."""
    body = await read_body(receive)
    await respond(send, f"{scope['method']} {scope['path']} ".encode() + body)


def get(path: str = "/", *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    """Return a request's head, with a Host and these further lines."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: x", *lines, "", ""]).encode()


def post(body: bytes, *lines: str, path: str = "/") -> bytes:
    """Return a request with a Content-Length."""
    return get(path, f"Content-Length: {len(body)}", *lines, method="POST") + body
