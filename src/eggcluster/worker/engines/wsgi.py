"""WSGI applications for an ASGI engine: a2wsgi, and what it leaves to its caller. Runs in the app workers."""

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, cast

from a2wsgi import WSGIMiddleware

_CLIENT = "eggcluster.client"
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class WsgiBridge:
    """A WSGI application as an ASGI one; its requests are served by ten threads.

    When a client leaves, the reading of its request raises OSError, and its response is not asked for more: a stream
    without end would otherwise keep its thread for ever.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self._threads = cast(Any, WSGIMiddleware)(self._call)  # it has names of its own for a dict[str, Any]

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._threads(scope, receive, send)
            return
        client = _Client(receive, send)
        try:
            await self._threads({**scope, _CLIENT: client}, client.receive, client.send)
        finally:
            client.forget()

    def _call(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["wsgi.errors"] = sys.stderr
        if "CONTENT_LENGTH" not in environ:
            environ["wsgi.input_terminated"] = True  # without it Flask takes a chunked body for an empty one
        return _while_there(environ["asgi.scope"][_CLIENT], self._app(environ, start_response))


class _Client:
    """Who sent the request. `gone` is known from the time when the response starts, or the request has ended."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.gone = False
        self._receive = receive
        self._send = send
        self._ahead: deque[dict[str, Any]] = deque()
        self._watcher: asyncio.Task[None] | None = None

    async def receive(self) -> dict[str, Any]:
        while not self._ahead:
            if self._watcher is None or self._watcher.done():
                await self._read()
            else:
                await asyncio.wait({self._watcher})
        message = self._ahead.popleft()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client left before its request was complete")
        return message

    async def send(self, message: dict[str, Any]) -> None:
        await self._send(message)
        if not self.gone and (self._watcher is None or self._watcher.done()):
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def forget(self) -> None:
        """The request is over, for its thread too, which cannot be cancelled."""
        self.gone = True
        if self._watcher is not None:
            self._watcher.cancel()

    async def _watch(self) -> None:
        """Read on until the client leaves; but not a body that the application may not want."""
        while not self.gone and not (self._ahead and self._ahead[-1].get("more_body")):
            await self._read()

    async def _read(self) -> None:
        message = await self._receive()
        self.gone = message["type"] == "http.disconnect"
        self._ahead.append(message)


def _while_there(client: _Client, chunks: Iterable[bytes]) -> Iterator[bytes]:
    try:
        for chunk in chunks:
            if client.gone:
                return
            yield chunk
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
