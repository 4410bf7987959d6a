"""A connection that has become a WebSocket (RFC 6455): its states, and its way to the end. Runs in the app workers.

| state   | waits for                            | deadline                     | then                |
| ------- | ------------------------------------ | ---------------------------- | ------------------- |
| OPENING | the application's answer             | write                        | aborted             |
| OPEN    | messages                             | ping, then its pong; write   | ping; 1011; aborted |
| CLOSING | the client's close frame             | CLOSE_TIMEOUT                | aborted             |
| ENDING  | the client's end; all has been said  | CLOSE_TIMEOUT, LINGER_TIME   | aborted; closed     |
| CLOSED  | nothing                              |                              |                     |

A close frame is sent once. The first reason to close counts; it is what the application is told.
"""

import asyncio
from typing import TYPE_CHECKING

from eggcluster.http.connection import LINGER_TIME
from eggcluster.http.exchange import Exchange
from eggcluster.http.server import NEVER
from eggcluster.http.unsent import unsent
from eggcluster.http.websocket_frames import (
    ABNORMAL,
    GOING_AWAY,
    INTERNAL_ERROR,
    SERVICE_RESTART,
    TEXT,
    Keepalive,
    message_frame,
    short_reason,
)
from eggcluster.http.websocket_reader import WebSocketReader
from eggcluster.kernel.tcp_info import has_unread, silence_of

if TYPE_CHECKING:
    from websockets.server import ServerProtocol  # see websocket_handshake.py

CLOSE_TIMEOUT = 10.0  # seconds for the client's part of the closing handshake
QUIET = 0.3  # seconds of silence after which a draining server closes: a client that is told 1012 knows what it misses
COMPRESSED = 1024  # bytes from which on a message is compressed, if the client can unpack it; ws for Node.js: 1,024

OPENING, OPEN, CLOSING, ENDING, CLOSED = range(5)


class WebSocketConnection(asyncio.Protocol):
    """Takes over the transport of `exchange`. Until `open`, it only keeps what the client sends."""

    __slots__ = (
        "_held_pong", "_keepalive", "_mark", "_reader", "_write_due", "_writers",
        "deadline", "exchange", "is_write_paused", "receive", "server", "state", "transport",
    )  # fmt: skip

    def __init__(self, exchange: Exchange) -> None:
        connection = exchange.connection
        self.exchange = exchange
        self.server = server = connection.server
        self.transport = connection.transport
        self.state = OPENING
        self.deadline = self._write_due = NEVER
        self.is_write_paused = False
        self._keepalive = Keepalive(server.after, server.settings.ws_ping_interval, server.settings.ws_ping_timeout)
        self._reader = WebSocketReader(self)
        self.receive = self._reader.queue.receive  # ASGI's
        self._held_pong = b""  # waits until the client takes what was written
        self._mark = NEVER
        self._writers: list[asyncio.Future[None]] = []
        early = connection.hand_over(self)
        if connection.is_write_paused:
            self.pause_writing()
        server.connections.add(self)
        self._reader.receive(early)

    def open(self, protocol: "ServerProtocol", response: bytes) -> None:
        """Send the 101 response; let messages pass from now on."""
        self.transport.write(response)
        self.state = OPEN
        self._keepalive.start()
        self._set_deadline()
        self._reader.protocol = protocol
        self._reader.parse_rest()

    # -- the transport's calls -----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.state != ENDING:
            self._reader.receive(data)

    def eof_received(self) -> bool:
        """End the connection: a client that has shut its sending half cannot take part in the closing handshake."""
        self._client_left()
        self._await_end(ENDING)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.server.before_close(self.transport)
        self.server.connections.discard(self)
        self.state, self.deadline, self.is_write_paused = CLOSED, NEVER, False
        self._client_left()
        self.exchange.connection_lost()

    def _client_left(self) -> None:
        self._reader.receive_end()
        self._wake_writers()
        self.exchange.client_left()

    def pause_writing(self) -> None:
        self.is_write_paused = True
        if self.state < CLOSING:
            self._mark = unsent(self.transport).mark
            self._write_due = self.server.after(self.server.settings.write_timeout)
            self._set_deadline()

    def resume_writing(self) -> None:
        self.is_write_paused = False
        if self.state < CLOSING:
            self._write_due = NEVER
            self._set_deadline()
        if self._held_pong and self.state == OPEN:
            self.transport.write(self._held_pong)
        self._held_pong = b""
        self._wake_writers()

    @property
    def waiting(self) -> None:
        """None: a WebSocket is silent by nature, and what becomes of it is the application's."""

    # -- the reader's calls --------------------------------------------------------------------------------

    def reply(self, frames: list[bytes], *, closes: bool) -> None:
        """Send what the protocol answers by itself: pongs, or a close frame if it `closes`.

        Of the pongs to a client that does not read, the last is enough (RFC 6455, 5.5.3).
        """
        if self.is_write_paused and not closes:
            self._held_pong = frames[-1]
        else:
            self._write(frames)

    def pong_received(self, payload: bytes) -> None:
        if self._keepalive.take_pong(payload):
            self._set_deadline()

    def close_received(self, code: int, reason: str) -> None:
        self._reader.queue.end(code, reason)
        if self.state < ENDING:
            self.transport.close()
            self._await_end(ENDING)

    def fail(self, code: int, reason: str) -> None:
        self._reader.queue.end(code, reason)
        self._linger()

    # -- the exchange's calls ------------------------------------------------------------------------------

    def send(self, opcode: int, data: bytes) -> None:
        """Send a message. The connection must be open."""
        protocol = self._reader.protocol
        assert protocol is not None
        if len(data) < COMPRESSED or not protocol.extensions:
            self.transport.write(message_frame(opcode, data))
            return
        if opcode == TEXT:
            protocol.send_text(data)
        else:
            protocol.send_binary(data)
        self._write(protocol.data_to_send())

    async def wait_for_room(self) -> None:
        """Wait until the client has taken enough of what was written, or never will."""
        while self.is_write_paused and self.state < CLOSING:
            writer = self.server.loop.create_future()
            self._writers.append(writer)
            await writer

    def _wake_writers(self) -> None:
        for writer in self._writers:
            if not writer.done():
                writer.set_result(None)
        self._writers.clear()

    def _write(self, frames: list[bytes]) -> None:
        if self.state < ENDING:
            self.transport.write(b"".join(frames))

    # -- the end -------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake, if the connection is open. A reason that is too long for a frame is cut.

        ProtocolError, of websockets, for a code that cannot be sent (RFC 6455, 7.4).
        """
        protocol = self._reader.protocol
        if self.state == OPEN and protocol is not None:
            protocol.send_close(code, short_reason(reason))
            self._write(protocol.data_to_send())
            self._reader.queue.end(code, reason)
            self._await_end(CLOSING)
            self._reader.parse_rest()  # the client's close frame may be there

    def finish(self) -> None:
        """End the connection after a response: it does not become a WebSocket."""
        behind = self._reader.has_unparsed
        self._reader.queue.end(ABNORMAL)
        if behind:
            self._linger()
        elif self.state < ENDING:
            self.transport.close()
            self._await_end(ENDING)

    def _linger(self) -> None:
        """Read on, and drop it, until the client has seen the end: a socket that is closed while data comes in answers
        with a reset, which can take away what the client has not read yet (RFC 9112, 9.6). TLS has no end of one half
        here, and a client waits for the server's (RFC 6455, 7.1.1): that comes after LINGER_TIME."""
        if self.state < ENDING and not self.transport.is_closing():
            self._await_end(ENDING)
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.deadline = self.server.after(LINGER_TIME)
        self._reader.drop()

    def _await_end(self, state: int) -> None:
        """Go to `state`, on the way to the end."""
        if self.state < state:
            self.state = state
        self._mark = unsent(self.transport).mark
        self.deadline = self.server.after(CLOSE_TIMEOUT)
        self._wake_writers()

    # -- the server's calls --------------------------------------------------------------------------------

    def overdue(self) -> None:
        if self.state == OPEN and self._keepalive.due <= self._write_due:
            self._check_pong()
        elif not self._is_taking():
            self._end()
        elif self.state >= CLOSING:
            self._await_end(self.state)
        else:
            self._write_due = self.server.after(self.server.settings.write_timeout)
            self._set_deadline()

    def _end(self) -> None:
        """Close, after a lingering over TLS; abort what had all its time."""
        if self.state == ENDING and not self.transport.is_closing() and not self.transport.can_write_eof():
            self.transport.close()
            self._await_end(ENDING)
        else:
            self.deadline = NEVER
            self.abort()

    def _check_pong(self) -> None:
        """Send a ping; close if the one before has no pong. But that may still be behind the messages that wait in the
        client because the application does not receive, or the ping behind those that the client is taking."""
        keepalive, protocol = self._keepalive, self._reader.protocol
        assert protocol is not None
        if not keepalive.awaits_pong:
            protocol.send_ping(keepalive.next_ping())
            self._write(protocol.data_to_send())
            self._mark = unsent(self.transport).mark
        elif self._reader.has_paused() or self._is_taking():
            keepalive.wait_again()
        else:
            self.close(INTERNAL_ERROR, "keepalive ping timeout")
            return
        self._set_deadline()

    def _is_taking(self) -> bool:
        """Return whether the client has taken a part of what was written since the last look, and not yet all."""
        before, (waits, self._mark) = self._mark, unsent(self.transport)
        return waits and self._mark < before

    def _set_deadline(self) -> None:
        self.deadline = min(self._keepalive.due, self._write_due)

    @property
    def activity(self) -> str | None:
        """What would be lost if the connection were closed now: `WebSocket`; before it is one, the `request`."""
        if self.state == OPENING:
            return self.exchange.activity
        return "WebSocket" if self.state == OPEN else None

    @property
    def path(self) -> str:
        """The path of the request that asked for the WebSocket."""
        return str(self.exchange.head.target.partition(b"?")[0], "latin-1")

    def end_when_quiet(self, quiet: float) -> None:
        """Close the WebSocket if nothing has passed over it for QUIET seconds, and nothing waits."""
        if self.state == OPEN and not self._reader.is_behind:
            sock = self.transport.get_extra_info("socket")
            silence = silence_of(sock)
            if (silence is None or silence >= QUIET) and not has_unread(sock):
                self._say_goodbye()

    def cut(self) -> None:
        """End the connection in the middle: with 503, or with a close frame that says why the server closes."""
        if self.state == OPENING:
            self.exchange.cut()
        else:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """Close because the server does. The answer may change in the middle of a drain."""
        self.close(GOING_AWAY if self.server.is_final() else SERVICE_RESTART)

    def abort(self) -> None:
        """Close at once; what has not been sent is lost."""
        self.transport.abort()
