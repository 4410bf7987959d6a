"""An ASGI and a WSGI application that note each request whose body they have read to its end.

What they answer says which request it is the answer to. The first part of the path says how they answer.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any

from eggcluster.http.wsgi import WsgiExchange
from tests.fuzz.request_streams import Header, Sent
from tests.unit.http.wire import Receive, Scope, Send, read_body, respond


class Record:
    """What an application has seen, in the order of the calls."""

    def __init__(self) -> None:
        self.requests: list[Sent] = []
        self.messages: list[bytes] | None = None  # of a WebSocket

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._talk(receive, send)
            return
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        method, body = scope["method"].encode(), b""
        pause = 0.2 if target.startswith(b"/slow") else 0.0
        await asyncio.sleep(pause)
        if not target.startswith(b"/early"):
            try:
                body = await read_body(receive)
            except ConnectionResetError:
                return
            await asyncio.sleep(pause)
        self.requests.append(Sent(method, target, tuple(scope["headers"]), body))
        pieces = [b"%b " % method, target, b" %d" % len(body)]
        if not target.startswith(b"/pieces"):
            pieces = [b"".join(pieces)]
        await respond(send, *pieces, headers=[(b"x-method", method)])

    async def _talk(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self.messages = []
        while (event := await receive())["type"] == "websocket.receive":
            self.messages.append(event["bytes"] if event.get("bytes") is not None else event["text"].encode())

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        target, method, body = environ["REQUEST_URI"].encode("latin-1"), environ["REQUEST_METHOD"].encode(), b""
        if not target.startswith(b"/early"):
            try:
                body = environ["wsgi.input"].read()
            except ConnectionResetError:
                start_response("400 Bad Request", [])
                return [b""]
        self.requests.append(Sent(method, target, tuple(sorted(_variables_of(environ))), body))
        start_response("200 OK", [("X-Method", method.decode())])
        pieces = [b"%b " % method, target, b" %d" % len(body)]
        return pieces if target.startswith(b"/pieces") else [b"".join(pieces)]


def _variables_of(environ: dict[str, Any]) -> Iterable[Header]:
    for name, value in environ.items():
        if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            yield name.encode(), value.encode("latin-1")


def as_wsgi(sent: Sent) -> Sent:
    """Return the request with its headers as the variables of an environ (RFC 3875, 4.1)."""
    variables: dict[bytes, bytes] = {}
    for name, value in sent.headers:
        variable = name.upper().replace(b"-", b"_")
        variable = variable if variable in (b"CONTENT_TYPE", b"CONTENT_LENGTH") else b"HTTP_" + variable
        if b"_" not in name:
            joint = b"; " if name == b"cookie" else b","
            variables[variable] = variables[variable] + joint + value if variable in variables else value
    return sent._replace(headers=tuple(sorted(variables.items())))


class Threads:
    """Knows whether a thread of a WSGI pool does something, for a clock that must not jump meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def add(self, number: int) -> None:
        with self._lock:
            self._count += number

    def are_busy(self) -> bool:
        return self._count > 0


threads = Threads()


class _Condition(threading.Condition):
    """A thread that waits for it is not busy, from then on until it is notified."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._waiting = 0

    def wait(self, timeout: float | None = None) -> bool:
        self._waiting += 1
        threads.add(-1)
        self._loop.call_soon_threadsafe(_nothing)
        return super().wait(timeout)

    def notify_all(self) -> None:
        threads.add(self._waiting)
        self._waiting = 0
        super().notify_all()


def _nothing() -> None: ...


class CountedExchange(WsgiExchange):
    """A request whose thread is counted among `threads`."""

    def begin(self, context: Any) -> None:
        threads.add(1)
        super().begin(context)

    def _prepare_to_wait(self) -> None:
        if not self.is_waiting:
            self._changed = _Condition(self.connection.server.loop)
            self.is_waiting = True

    def serve(self) -> None:
        super().serve()
        threads.add(-1)
        self.connection.server.loop.call_soon_threadsafe(_nothing)
