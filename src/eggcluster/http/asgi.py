"""A request for an ASGI application: its scope, `receive`, `send`, and its task. Runs in the app workers."""

import asyncio
import contextvars
import sys
from collections.abc import Coroutine, Iterable
from typing import Any
from urllib.parse import unquote

from eggcluster.http.exchange import BODY, DONE, HEAD, NOTHING, Exchange
from eggcluster.http.extensions import EXTENSIONS, send_early_hint, send_path
from eggcluster.http.framing import BadResponse, has_no_body, render_trailers
from eggcluster.http.request_timeout import GRACE
from eggcluster.http.rules import SERVER_ERROR, UNAVAILABLE, Rejection
from eggcluster.kernel.stacks import stack_of, waiting
from eggcluster.kernel.tasks import is_cancellation

LARGE = 256 * 1024  # bytes; a longer piece is written in parts of this size, so that the client's pace counts
PIECES = 16  # of a response that are sent before others have their turn
Loop = asyncio.AbstractEventLoop
VERSIONS = {"version": "3.0", "spec_version": "2.3"}


if sys.version_info >= (3, 12):

    def start_task(work: Coroutine[Any, Any, None], loop: Loop, context: contextvars.Context) -> "asyncio.Task[None]":
        """Run `work` as a task at once, until it waits for the first time."""
        return asyncio.Task(work, loop=loop, context=context, eager_start=True)

else:

    def start_task(work: Coroutine[Any, Any, None], loop: Loop, context: contextvars.Context) -> "asyncio.Task[None]":
        """Run `work` as a task from the loop's next turn on."""
        return asyncio.Task(work, loop=loop, context=context)


class AsgiExchange(Exchange):
    """Calls the application in a task of its own."""

    offered = EXTENSIONS
    task: "asyncio.Task[None]"
    _receivers: "tuple[asyncio.Future[None], ...]" = ()  # several tasks may wait: one for the client's end, as a rule
    _end_told = False
    _awaits_trailers = False
    _trailers = b""
    _pieces = 0  # of the body, sent without a wait
    _writers: "tuple[asyncio.Future[None], ...]" = ()

    def begin(self, context: contextvars.Context) -> None:
        server = self.connection.server
        server.running.add(self)  # holds the task
        self.task = start_task(self._run(), server.loop, context)

    def cancel(self) -> None:
        self.task.cancel()

    def time_out(self) -> None:
        stack = stack_of(waiting(self.task.get_coro()))
        self.answer_timeout()
        self.connection.server.log_overrun(self, "took longer than its --request-timeout and is cancelled", stack)
        self.task.cancel()

    def outlast(self) -> None:
        stack = stack_of(waiting(self.task.get_coro()))
        self.connection.server.log_overrun(self, f"goes on {GRACE:g}s after it was cancelled", stack)

    def wake(self) -> None:
        receivers, self._receivers = self._receivers, ()
        self.is_waiting = False
        _complete(receivers)

    def writable(self) -> None:
        super().writable()
        writers, self._writers = self._writers, ()
        _complete(writers)

    async def _wait_for_room(self) -> None:
        """Wait until the client has taken enough of what was written."""
        if self.connection.is_write_paused and self.stage != DONE:  # after its end, nothing tells it of room
            writer = self.connection.server.loop.create_future()
            self._writers = (*self._writers, writer)
            await writer

    async def _give_turn(self) -> None:
        """Let others run now and then, and the connection's end be told: an application that only sends, to a client
        that takes all at once or is gone, would never wait for anything."""
        self._pieces += 1
        if self._pieces % PIECES == 0 or self.connection.transport.is_closing():
            await asyncio.sleep(0)

    # -- the application's side ------------------------------------------------------------------------------

    async def _run(self) -> None:
        server = self.connection.server
        try:
            await server.app(self._scope(), self.receive, self.send)
            if self.stage != DONE:
                self._incomplete()
        except BaseException as error:  # a request's error stays with it
            if is_cancellation(error):
                self._fail(UNAVAILABLE)
                raise
            server.log_failure(self, error)
            self._fail(SERVER_ERROR)
        finally:
            server.running.discard(self)

    def _incomplete(self) -> None:
        server = self.connection.server
        ends_stream = self.stage == BODY and server.should_exit  # as sse-starlette ends its own
        if not self.client_is_gone and not ends_stream:
            text = (
                "returned without a response" if self.stage == NOTHING else "returned before its response was complete"
            )
            server.log_failure(self, BadResponse(f"the application {text}"))
        self._fail(SERVER_ERROR)

    def _scope(self) -> dict[str, Any]:
        connection, head = self.connection, self.head
        server = connection.server
        path, _, query = head.target.partition(b"?")
        decoded = path.decode("ascii") if b"%" not in path else unquote(path.decode("ascii"))
        root_path = server.settings.root_path
        return {
            "type": "http",
            "asgi": VERSIONS,
            "http_version": head.version,
            "server": connection.local,
            "client": self.client,
            "scheme": self.scheme,
            "method": head.method.decode("ascii"),
            "root_path": root_path,
            "path": root_path + decoded,
            "raw_path": path,
            "query_string": query,
            "headers": head.headers,
            "state": server.state.copy(),
            "extensions": self._more_extensions() if connection.has_more_extensions else self.offered.copy(),
        }

    def _more_extensions(self) -> dict[str, Any]:
        connection = self.connection
        extensions: dict[str, Any] = self.offered.copy()
        encrypted = connection.transport.get_extra_info("ssl_object")  # None once the connection is lost
        if connection.tls is None and encrypted is not None:
            from eggcluster.http.tls_extension import tls_extension  # loads ssl

            connection.tls = tls_extension(encrypted)
        if connection.tls is not None:
            extensions["tls"] = connection.tls.copy()
        if connection.server.settings.request_timeout and self.is_limited:
            extensions["eggcluster.timeout"] = self.allow
        return extensions

    async def receive(self) -> dict[str, Any]:
        """Return the next event: a piece of the body, or `http.disconnect` when the client or the response is done.

        The latter again and again: others have their turn then, because an application may ignore it in a loop.
        """
        if self.head.expects_continue:
            self.invite_body()
        while True:
            if self.stage == DONE:
                return await _disconnect()
            if self.body or (self.body_is_complete and not self._end_told):
                body = self.take_body()
                self._end_told = self.body_is_complete
                return {"type": "http.request", "body": body, "more_body": not self.body_is_complete}
            if self.client_is_gone:
                return await _disconnect()
            receiver = self.connection.server.loop.create_future()
            self._receivers, self.is_waiting = (*self._receivers, receiver), True
            await receiver

    async def send(self, message: dict[str, Any]) -> None:
        """Take a part of the response; wait while the client is slow. Ignored once the client is gone."""
        stage, kind = self.stage, message["type"]
        if kind == "http.response.body" and stage in (HEAD, BODY):
            body, more = message.get("body", b""), message.get("more_body", False)
            if len(body) > LARGE:
                await self._write_large(body, more)
            elif self.has_trailers:
                self.write(body, more=True)
                self._awaits_trailers = not more
            else:
                self.write(body, more=more)
            if self.connection.is_write_paused:
                await self._wait_for_room()
            elif more:
                await self._give_turn()
        elif kind == "http.response.start" and stage == NOTHING:
            self.start(message["status"], message.get("headers", ()))
            if message.get("trailers"):
                self.has_trailers = self._can_have_trailers()
            self.connection.server.flush_soon(self)
        else:
            await self._send_other(kind, message)

    async def _send_other(self, kind: str, message: dict[str, Any]) -> None:
        """Take what is seldom sent, or sent at the wrong moment."""
        if self.stage == DONE:
            if kind == "http.response.body" and not self.client_is_gone and not self.was_cut:
                raise RuntimeError("unexpected ASGI message 'http.response.body': the response is complete")
            await asyncio.sleep(0)  # an endless stream to a client that is gone must not stop the loop
        elif kind == "http.response.early_hint":
            send_early_hint(self, message)
        elif kind == "http.response.pathsend":
            await send_path(self, message["path"], self._wait_for_room)
        elif kind == "http.response.trailers" and self._awaits_trailers:
            self._trailers += render_trailers(message.get("headers", ()))
            if not message.get("more_trailers", False):
                self.write_trailers(self._trailers)
        elif kind != "http.response.trailers":
            expected = "http.response.start" if self.stage == NOTHING else "http.response.body"
            raise RuntimeError(f"expected ASGI message {expected!r}, but got {kind!r}")

    def _can_have_trailers(self) -> bool:
        """Return whether the client takes trailers: others lose them (RFC 9110, 6.5.1)."""
        wanted = any(name == b"te" and b"trailers" in value.lower() for name, value in self.head.headers)
        return wanted and self.head.version == "1.1" and self.head.method != b"HEAD" and not has_no_body(self.status)

    async def _write_large(self, body: bytes, more: bool) -> None:
        self._awaits_trailers = self.has_trailers and not more
        view = memoryview(body)
        if not more and not self.has_trailers:
            self.announce_size(len(body))
        for begin in range(0, len(body), LARGE):
            rest = begin + LARGE < len(body)
            if self.stage == DONE:
                return
            self.write(bytes(view[begin : begin + LARGE]), more=more or rest or self.has_trailers)
            if self.connection.is_write_paused:
                await self._wait_for_room()

    def _fail(self, rejection: Rejection) -> None:
        """Answer instead of the application; if that has begun, the client sees that its response broke off."""
        if self.stage != DONE:
            self.fail(rejection)


async def _disconnect() -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"type": "http.disconnect"}


def _complete(waiting: "Iterable[asyncio.Future[None]]") -> None:
    for future in waiting:
        if not future.done():  # its task may have been cancelled
            future.set_result(None)
