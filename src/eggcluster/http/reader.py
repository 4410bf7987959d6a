"""The reading half of a connection: bytes become requests, in order. Runs in the app workers."""

import asyncio
import contextvars
from abc import abstractmethod
from collections import deque
from typing import Any, cast

from eggcluster.http.head import Header
from eggcluster.http.parsers import BadRequest, CallbackFailed, SwitchProtocols, new_parser
from eggcluster.http.relief import is_trickle
from eggcluster.http.request import Refused, Request
from eggcluster.http.rules import (
    HEAD_TOO_LARGE,
    MALFORMED,
    UNAVAILABLE,
    Rejection,
    check_head,
    check_raw_head,
    check_trailers,
)
from eggcluster.http.server import NEVER, HttpServer
from eggcluster.kernel.peer_end import peer_end

SLICE = 64 * 1024  # bytes parsed at once: each may hold pipelined requests, and those after the first have to wait
PIECES = 4096  # of a body that are taken before others have their turn: one byte may be a piece
LOOK = 0.5  # seconds between two looks for the client's end while nothing is read

# The states of a connection: the table in connection.py. Plain numbers: up to Python 3.11 an Enum's member costs much
# more to look up.
IDLE, HEAD, ACTIVE, LINGER, UPGRADED, CLOSED = range(6)


class RequestReader(asyncio.Protocol):
    """Gives each request to the server's application, one at a time: `exchange` is the one whose response is due."""

    __slots__ = (
        "_context", "_fresh", "_head_bytes", "_headers", "_is_upgrading", "_parser", "_pieces", "_reading",
        "_reading_paused", "_rejection", "_sees_end", "_unparsed", "_url", "_waiting", "deadline", "exchange",
        "has_asked", "is_write_paused", "server", "since", "state", "transport",
    )  # fmt: skip

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.transport: asyncio.Transport = cast(Any, None)
        self.state = IDLE
        self.since = server.now  # the client's turn began then: to ask, to finish its head, or its body
        self.has_asked = False  # a request has been answered
        self.deadline = NEVER
        self.exchange: Request | None = None
        self.is_write_paused = False  # the client takes what is written more slowly than it comes
        self._context = contextvars.copy_context()
        self._parser = new_parser(self)
        self._url = b""
        self._headers: list[Header] = []  # of the head, or the trailers, that comes in
        self._head_bytes = (
            0  # fed to the parser since its last event: of a head, or of trailers, that it keeps for itself
        )
        self._reading: Request | None = None  # whose body comes in
        self._fresh: Request | None = None  # has a head, and begins after this piece of data
        self._waiting: deque[Request] = deque()  # pipelined, or not begun because the client does not read
        self._unparsed: bytes | memoryview = b""
        self._rejection: Rejection | None = None  # the answer to what comes after the waiting requests
        self._reading_paused = False
        self._pieces = 0  # of bodies, since others had their turn
        self._sees_end = False  # the client has shut its sending half
        self._is_upgrading = False  # nothing more is parsed: another protocol begins

    def data_received(self, data: bytes) -> None:
        if self.state == LINGER:
            self._keep_lingering()
            return
        if self._rejection is not None:
            return  # nothing that comes now has an answer
        if len(data) > SLICE or self._unparsed:
            self._unparsed = memoryview(bytes(self._unparsed) + data)
            self._parse_rest()
        else:
            self._parse(data)
            if self._unparsed:  # what came after a request for another protocol
                self._parse_rest()
            elif self._waiting:
                self.choose_reading()

    # -- parsing -------------------------------------------------------------------------------------------

    def _parse(self, data: bytes | memoryview) -> None:
        """Feed one piece to the parser; begin the request that it completes, if none is before it."""
        if self.state == IDLE and data != b"\r\n":  # some clients send an empty line after a body (RFC 9112, 2.2)
            self.state = HEAD
            self.since = self.server.now
            if not self.is_write_paused:
                self.deadline = self.server.header_end
        self._head_bytes += len(data)  # before it is fed: the events set it to 0
        try:
            self._parser.feed_data(data)
        except SwitchProtocols as switch:
            self._switch(data[switch.args[0] :])
        except CallbackFailed as failure:
            self._refuse(self._rejection_of(failure))
        except BadRequest:
            self._refuse(self._reason(data))
        if self._head_bytes > self.server.settings.limits.max_header_bytes:
            self._refuse(HEAD_TOO_LARGE)
        if self._fresh is not None:
            fresh, self._fresh = self._fresh, None
            fresh.begin(self._context.copy())

    def _parse_rest(self) -> None:
        """Parse what has been received, until a request has to wait for the one before."""
        while self._unparsed and not self._waiting and not self._is_upgrading and self._rejection is None:
            piece, self._unparsed = self._unparsed[:SLICE], self._unparsed[SLICE:]
            self._parse(piece)
        self.choose_reading()

    def _reason(self, data: bytes | memoryview) -> Rejection:
        """Return what is wrong with a head that the parser has refused."""
        if self.state != HEAD or self._head_bytes != len(data):
            return MALFORMED
        return check_raw_head(bytes(data), self.server.settings.limits) or MALFORMED

    def _rejection_of(self, failure: Exception) -> Rejection:
        cause = failure.__context__
        if isinstance(cause, Refused):
            return cause.rejection
        self.server.log_defect("reading a request failed", cause or failure)
        return MALFORMED

    # -- the parser's events -------------------------------------------------------------------------------

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.rstrip()))  # the parser leaves white space at the end

    def on_headers_complete(self) -> None:
        parser, server = self._parser, self.server
        headers, self._headers = self._headers, []
        url, self._url = self._url, b""
        self._head_bytes = 0
        if self._reading is not None:
            return  # the head that makes a parser read the body of `_reading`
        limits = server.settings.limits
        head = check_head(parser.get_method(), url, parser.get_http_version(), headers, limits)
        if isinstance(head, Rejection):
            raise Refused(head)
        if server.settings.limit_concurrency and server.is_at_limit:
            raise Refused(UNAVAILABLE)
        if not self.is_write_paused:
            self.deadline = NEVER
        self._add(server.new_exchange(self, head))
        if head.chunked or head.content_length:
            self.set_body_deadline()

    def _add(self, request: Request) -> None:
        self._reading = request
        self.state = ACTIVE
        if self.exchange is None and not self._waiting and not self.is_write_paused:
            self.exchange = self._fresh = request
        else:
            self._waiting.append(request)

    def on_body(self, data: bytes) -> None:
        request = self._reading
        if request is None:
            return
        self._head_bytes = 0
        request.body_received(data)
        self._pieces += 1
        if self._pieces == PIECES:  # uvloop reads up to 8 MB in one turn, unless reading is paused
            self.server.loop.call_soon(self._next_turn)
            self.choose_reading()
        elif not request.wants_body:
            self.choose_reading()
        self.set_body_deadline()

    def _next_turn(self) -> None:
        self._pieces = 0
        self.choose_reading()

    def on_message_complete(self) -> None:
        request, self._reading = self._reading, None
        self._head_bytes = 0
        if self._headers:  # trailers
            trailers, self._headers = self._headers, []
            rejection = check_trailers(trailers, self.server.settings.limits)
            if rejection is not None:
                self._reading = request
                raise Refused(rejection)
        if request is not None:
            if not self.is_write_paused:
                self.deadline = NEVER
            request.body_is_complete = True
            if request.is_waiting:
                request.wake()
            if self.exchange is None and not self._waiting:  # it has been answered already
                self._become_idle()

    def _switch(self, rest: bytes | memoryview) -> None:
        """Another protocol was asked for: the connection becomes a WebSocket's, or the request is one like any other.

        The parser takes what follows the head for the other protocol's (RFC 9110, 7.8). So a new one reads the body.
        """
        self._unparsed = memoryview(bytes(rest) + bytes(self._unparsed))
        latest = self._waiting[-1] if self._waiting else self.exchange
        if latest is not None and latest.is_upgrade:
            self._is_upgrading = True
            return
        self._parser = new_parser(self)
        if latest is not None and latest.head.has_body:
            latest.body_is_complete, self._reading = False, latest
            self._parser.feed_data(latest.head.body_prelude())
            self.set_body_deadline()

    # -- reading, or not -----------------------------------------------------------------------------------

    def choose_reading(self) -> None:
        """Read on, or stop: while requests wait for the one before, a body for its application, or others for their
        turn."""
        if self.state == UPGRADED:
            return
        exchange = self._reading
        takes_body = exchange is None or (exchange.wants_body and self._pieces < PIECES)
        wanted = takes_body and not self._waiting and not self._is_upgrading
        if wanted is self._reading_paused and not self._sees_end and not self.transport.is_closing():
            self._reading_paused = not wanted
            if wanted:
                self.transport.resume_reading()
                if exchange is not None:
                    self.since = self.server.now
                    self.set_body_deadline()
            else:
                self.transport.pause_reading()
        if self._reading_paused and self.state == ACTIVE:
            self.set_body_deadline()

    def set_body_deadline(self) -> None:
        """Begin the time anew in which the next piece of a body has to come, or, while nothing is read, the time until
        the look for the client's end. End both if none is awaited."""
        if self.is_write_paused:
            return
        reading = self._reading
        if self._reading_paused:
            self.deadline = self.server.after(LOOK)
        elif reading is not None and not reading.head.expects_continue:
            self.deadline = self.server.after(self.server.settings.body_timeout)
        else:
            self.deadline = NEVER

    def _look_for_end(self) -> None:
        """Tell the application of an end that the transport does not see while it reads nothing. Of a body, the rest
        comes first."""
        end = peer_end(self.transport.get_extra_info("socket"))
        if end == "reset":
            self.abort()
        elif end and self.exchange is not None and self.exchange.body_is_complete:
            self.exchange.client_left()
        else:
            self.deadline = self.server.after(LOOK)

    def _is_trickling(self) -> bool:
        reading = self._reading
        if self.state != ACTIVE or reading is None or self._reading_paused or reading.head.expects_continue:
            return False
        return is_trickle(reading.body_size, self.server.now - self.since)

    # -- the other half ------------------------------------------------------------------------------------

    @abstractmethod
    def abort(self) -> None:
        """Close at once; what has not been sent is lost."""

    @abstractmethod
    def _keep_lingering(self) -> None:
        """Drop what comes after the last response: its client still sends, and may not have read it yet."""

    @abstractmethod
    def _become_idle(self) -> None:
        """Wait for the next request: there is no other."""

    @abstractmethod
    def _refuse(self, rejection: Rejection) -> None:
        """Answer what has just been read with `rejection`, after the requests before it; then close."""
