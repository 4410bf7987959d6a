"""A request for a WebSocket, and its ASGI application. Runs in the app workers."""

import contextvars
import logging
from typing import TYPE_CHECKING, Any

from eggcluster.http.asgi import AsgiExchange, start_task
from eggcluster.http.connection import HttpConnection
from eggcluster.http.exchange import DONE, NOTHING
from eggcluster.http.framing import DATE, SERVER, BadResponse, render_head
from eggcluster.http.head import RequestHead
from eggcluster.http.rules import SERVER_ERROR, Rejection
from eggcluster.http.websocket_connection import OPEN, OPENING, WebSocketConnection
from eggcluster.http.websocket_frames import BINARY, INTERNAL_ERROR, NORMAL, TEXT
from eggcluster.kernel.tasks import is_cancellation

if TYPE_CHECKING:
    from eggcluster.http.websocket_handshake import Handshake

SWITCHING_PROTOCOLS = 101
FORBIDDEN = 403
PLAIN_TEXT = [(b"content-type", b"text/plain; charset=utf-8")]
VERSIONS = {"version": "3.0", "spec_version": "2.4"}  # 2.4: `send` raises OSError once the client is gone
EXTENSIONS: dict[str, dict[str, Any]] = {"websocket.http.response": {}}

_logger = logging.getLogger("eggcluster.http")

_handshake: "type[Handshake] | None" = None


def asgi_exchange(connection: HttpConnection, head: RequestHead) -> AsgiExchange:
    """Return what serves the request: a WebSocket if it asks for one. The server's `new_exchange`."""
    return WebSocketExchange(connection, head) if head.upgrade == "websocket" else AsgiExchange(connection, head)


class ClientDisconnected(OSError):
    """Raised by `send`: the client is gone, or the server has closed the WebSocket because it stops."""


class WebSocketExchange(AsgiExchange):
    """Calls the application with the events of a WebSocket. Until that is accepted, the response is one like any other.

    `websocket` is the connection from the request's beginning on.
    """

    is_upgrade = True
    offered = EXTENSIONS
    websocket: "WebSocketConnection | None" = None
    is_limited = False  # a WebSocket lasts as long as its two sides want
    _has_closed = False  # the application has
    _handshake: "Handshake"

    def begin(self, context: contextvars.Context) -> None:
        server = self.connection.server
        server.running.add(self)
        self.keep_alive = False
        self.websocket = WebSocketConnection(self)
        if self.client_is_gone:  # while requests before this one were served: its end is not told twice
            self.websocket.transport.close()
            self.websocket.eof_received()
        self.task = start_task(self._run(), server.loop, context)

    def wake(self) -> None: ...

    def fail(self, rejection: Rejection) -> None:
        super().fail(rejection)
        if self.websocket is not None:
            self.websocket.finish()

    # -- the application's task ------------------------------------------------------------------------------

    async def _run(self) -> None:
        websocket, server = self.websocket, self.connection.server
        assert websocket is not None
        try:
            if await self._shake_hands(websocket):
                await server.app(self._scope(), websocket.receive, self.send)
                self._returned(websocket)
        except BaseException as error:  # what one connection raises stays with it
            if is_cancellation(error):
                websocket.cut()
                raise
            if not isinstance(error, ClientDisconnected) or websocket.state == OPEN:  # OPEN: it is of another one
                server.log_failure(self, error)
            self._fail(SERVER_ERROR)
            websocket.close(INTERNAL_ERROR)
        finally:
            server.running.discard(self)

    async def _shake_hands(self, websocket: WebSocketConnection) -> bool:
        """Check the handshake; return whether to call the application. Otherwise the request has been answered."""
        try:
            handshake = _handshake
            if handshake is None:
                handshake = await websocket.server.loop.run_in_executor(None, load_handshake)
        except Exception as error:
            _logger.error("%s: no WebSocket, because websockets cannot be imported: %s", websocket.path, error)
            self._fail(SERVER_ERROR)
            return False
        if websocket.state != OPENING:
            return False
        self._handshake = handshake(self.head, websocket.server.settings.ws_max_size)
        if self._handshake.status != SWITCHING_PROTOCOLS:
            self._respond(self._handshake.status, self._handshake.headers, self._handshake.body)
        return self.stage == NOTHING

    def _returned(self, websocket: WebSocketConnection) -> None:
        """The application has nothing more to say."""
        if websocket.state == OPENING:
            text = "without accepting the WebSocket" if self.stage == NOTHING else "before its response was complete"
            websocket.server.log_failure(self, BadResponse(f"the application returned {text}"))
            self._fail(SERVER_ERROR)
        websocket.close(NORMAL)

    def _scope(self) -> dict[str, Any]:
        scope = super()._scope()
        del scope["method"]
        secure = scope["scheme"] in ("https", "wss")
        more = {"asgi": VERSIONS, "subprotocols": self._subprotocols()}
        return scope | more | {"type": "websocket", "scheme": "wss" if secure else "ws"}

    def _subprotocols(self) -> list[str]:
        fields = [value for name, value in self.head.headers if name == b"sec-websocket-protocol"]
        names = [name.strip() for field in fields for name in field.decode("latin-1").split(",")]
        return [name for name in names if name]

    # -- the application's events ----------------------------------------------------------------------------

    async def send(self, message: dict[str, Any]) -> None:
        """Take an event; wait while the client is slow.

        ClientDisconnected if the event cannot be sent any more; a second `websocket.close` is ignored. RuntimeError for
        an event out of order.
        """
        websocket, kind = self.websocket, message["type"]
        assert websocket is not None
        if websocket.is_write_paused:
            await websocket.wait_for_room()
        else:
            await self._give_turn()
        if websocket.state == OPEN:
            self._send(websocket, kind, message)
        elif websocket.state == OPENING:
            self._answer(websocket, kind, message)
        elif kind != "websocket.close":
            if self._has_closed:
                raise RuntimeError(f"unexpected ASGI message '{kind}' after the end of the WebSocket")
            raise ClientDisconnected("the WebSocket is closed")

    def _send(self, websocket: WebSocketConnection, kind: str, message: dict[str, Any]) -> None:
        if kind == "websocket.send":
            data = message.get("bytes")
            if data is None:
                websocket.send(TEXT, message["text"].encode())
            else:
                websocket.send(BINARY, data)
        elif kind == "websocket.close":
            websocket.close(message.get("code") or NORMAL, message.get("reason") or "")
            self._has_closed = True
        else:
            raise RuntimeError(f"expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'")

    def _answer(self, websocket: WebSocketConnection, kind: str, message: dict[str, Any]) -> None:
        """Take an event before the WebSocket is accepted."""
        if self.stage != NOTHING:
            if kind != "websocket.http.response.body":
                raise RuntimeError(f"expected ASGI message 'websocket.http.response.body', but got '{kind}'")
            self._write_response(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "websocket.accept":
            self._accept(websocket, message)
        elif kind == "websocket.close":
            self._respond(FORBIDDEN, PLAIN_TEXT, b"Forbidden")
        elif kind == "websocket.http.response.start":
            self.start(message["status"], message.get("headers", ()))
            self.connection.server.flush_soon(self)
        else:
            raise RuntimeError(f"expected ASGI message 'websocket.accept' or 'websocket.close', but got '{kind}'")

    def _accept(self, websocket: WebSocketConnection, message: dict[str, Any]) -> None:
        handshake, server = self._handshake, websocket.server
        headers = handshake.accept(message.get("headers") or (), message.get("subprotocol"))
        lines, _, special = render_head(SWITCHING_PROTOCOLS, headers)  # drops `connection`
        lines += b"connection: Upgrade\r\n" + server.default_lines(special & (DATE | SERVER))
        self.status, self.stage = SWITCHING_PROTOCOLS, DONE
        websocket.open(handshake.protocol, lines)
        if server.on_response is not None:
            server.on_response(self)
        self.connection.response_ended(self, reuse=False)

    def _respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole response instead of a WebSocket."""
        self.start(status, headers)
        self._write_response(body, more=False)

    def _write_response(self, body: bytes, *, more: bool) -> None:
        assert self.websocket is not None
        self.write(body, more=more)
        if not more:
            self._has_closed = True
            self.websocket.finish()


def load_handshake() -> "type[Handshake]":
    """Import websockets: once, in a thread, so that the event loop goes on meanwhile."""
    global _handshake
    from eggcluster.http.websocket_handshake import Handshake

    _handshake = Handshake
    return Handshake
