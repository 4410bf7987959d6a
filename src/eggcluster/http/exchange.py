"""One request and its response, whichever interface the application speaks. Runs in the app workers.

The request's side is called by the connection, in the order of the bytes; the response's side by the subclass.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Sequence

from eggcluster.http.connection import HttpConnection
from eggcluster.http.forwarded import has_fields
from eggcluster.http.framing import (
    CHUNKED,
    CLOSE,
    DATE,
    LENGTH,
    NO_BODY,
    SERVER,
    UNTIL_CLOSE,
    BadResponse,
    choose_framing,
    connection_line,
    render_chunk_head,
    render_head,
)
from eggcluster.http.head import RequestHead
from eggcluster.http.request import Refused, Request
from eggcluster.http.request_timeout import UNSEEN
from eggcluster.http.rules import BODY_TOO_LARGE, SERVER_ERROR, TIMED_OUT, UNAVAILABLE, Rejection
from eggcluster.http.server import NEVER

BODY_AHEAD = 64 * 1024  # bytes of a body that are read before the application asks for them
MOST_PIECES = 256  # that they are kept in: the object around a chunk of two bytes is twenty times as large
SHORT_REST = 64 * 1024  # bytes of a body that are read and dropped so that the connection can be used again

Headers = Iterable[tuple[bytes, bytes]]


# How far a response is. Plain numbers: a member of an Enum costs ten times as much to look up.
NOTHING = 0  # nothing of it is known
HEAD = 1  # its head is known, and goes out with the first bytes of its body
BODY = 2  # its head is out
DONE = 3  # all of it has been written, or nothing of it counts any more


class Exchange(Request):
    """A request and its response. `connection` tells the way back; `head` is the request's."""

    # Class attributes: most requests leave most of them as they are, and each assignment costs.
    stage = NOTHING
    status = 0
    body: list[bytes] | None = None  # received, and not yet given to the application
    body_bytes = 0  # in `body`
    client_is_gone = False
    was_cut = False  # its response is another one than the application's, or not complete
    bytes_sent = 0  # of the body
    has_trailers = False  # they end the response, after its body
    file_waiter: "asyncio.Future[None] | None" = None  # what sends a file past `write` waits for room
    deadline = UNSEEN  # of the application, with --request-timeout
    is_timed_out = False
    began = 0.0  # the instant on the loop's clock; only if something hears of responses
    response_headers: Sequence[tuple[bytes, bytes]] = ()  # the application's
    _left: int | None = None  # bytes that the body still has, by its Content-Length
    _kind = NO_BODY  # how the body is framed

    def __init__(self, connection: HttpConnection, head: RequestHead) -> None:
        self.connection = connection
        self.head = head
        self.keep_alive = head.keep_alive
        self.client = connection.client
        self.scheme = connection.scheme
        server = connection.server
        if connection.is_proxied and has_fields(head.headers):
            self.client, self.scheme, _, _ = server.trusted.resolve(self.client, self.scheme, head.headers)
        if server.on_response is not None:
            self.began = server.loop.time()

    # -- the request: called by the connection ---------------------------------------------------------------

    @property
    def wants_body(self) -> bool:
        """Whether more of the body may be read: little is waiting for the application, or it is dropped."""
        return self.body_bytes < BODY_AHEAD or self.stage == DONE

    def body_received(self, data: bytes) -> None:
        if self.stage == DONE:
            return
        self.body_size += len(data)
        if 0 < self.connection.server.settings.limits.max_body_bytes < self.body_size:
            raise Refused(BODY_TOO_LARGE)
        if self.body is None:
            self.body = []
        elif len(self.body) >= MOST_PIECES:
            self.body = [b"".join(self.body)]
        self.body.append(data)
        self.body_bytes += len(data)
        if self.is_waiting:
            self.wake()

    def client_left(self) -> None:
        """The client has shut its sending half, or is gone: it may still read, but an application that waits for it
        need not wait any longer."""
        self.client_is_gone = True
        self.wake()

    def connection_lost(self) -> None:
        """Nothing can be sent any more."""
        if self.stage == BODY:
            self._tell_end()
        if self.stage != DONE:
            self.stage, self.was_cut = DONE, True
        self.client_left()

    def writable(self) -> None:
        self.wake_file()

    def wake_file(self) -> None:
        """Have what sends a file past `write` look again: at the socket, and whether the connection is still there."""
        if self.file_waiter is not None and not self.file_waiter.done():
            self.file_waiter.set_result(None)

    def fail(self, rejection: Rejection) -> None:
        """Answer with `rejection` instead of the application's response; close if that has begun."""
        begun, self.was_cut = self.stage >= BODY, True
        self.stage, self.keep_alive = DONE, False
        if not begun:
            self.status = rejection.status
        self._tell_end()
        connection = self.connection
        if begun and self._kind == UNTIL_CLOSE:
            connection.reset()  # its end is the connection's
        elif begun:
            connection.close()
        else:
            answer = connection.server.plain_response(rejection, with_body=self.head.method != b"HEAD")
            connection.transport.write(answer)
            connection.response_ended(self, reuse=False)
        self.client_left()

    @property
    def activity(self) -> str:
        """What would be lost now: the `request`, or the `stream` that its response is."""
        return "stream" if self.stage >= BODY else "request"

    def cut(self) -> None:
        """End it in the middle: 503 if no response has begun."""
        self.fail(UNAVAILABLE)

    @abstractmethod
    def cancel(self) -> None:
        """Have the application stop serving the request, if it can be stopped."""

    def take_body(self) -> bytes:
        """Return what has come of the body since the last call."""
        body, self.body, self.body_bytes = self.body, None, 0
        if not self.body_is_complete:
            self.connection.choose_reading()
        if not body:
            return b""
        return body[0] if len(body) == 1 else b"".join(body)

    def invite_body(self) -> None:
        """Send `100 Continue` if the client waits for it, before the first read."""
        if self.head.expects_continue and self.stage == NOTHING:
            self.head.expects_continue = False
            self.connection.set_body_deadline()
            if not self.body_is_complete and not self.body:
                self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # -- the time limit --------------------------------------------------------------------------------------

    @property
    def is_limited(self) -> bool:
        """Whether the time limit counts: until the response is complete. What follows it keeps no client waiting."""
        return self.stage != DONE or self.was_cut

    @abstractmethod
    def time_out(self) -> None:
        """Answer in the application's place, log where it is, and have it stop if it can be stopped."""

    @abstractmethod
    def outlast(self) -> None:
        """The application is still at it, a while after `time_out`."""

    def allow(self, seconds: float | None) -> None:
        """Let the request take `seconds` from now on, None: as long as it likes. `eggcluster.timeout` of ASGI and WSGI.

        May be called from any thread, and again. Too late once the time is over.
        """
        self.deadline = NEVER if seconds is None else self.connection.server.loop.time() + seconds

    def answer_timeout(self) -> None:
        """Answer with 504; if a response has begun, the client has to see that it broke off: a reset."""
        begun, self.is_timed_out = self.stage == BODY, True
        if self.stage != DONE:
            self.fail(TIMED_OUT)
        if begun:
            self.connection.reset()

    # -- the response: called by the subclass, in the event loop ---------------------------------------------

    def start(self, status: int, headers: Headers) -> None:
        """Set the response's head; it is sent with the first piece of the body."""
        self.status = status
        # They are read again for the access log, and before a length is added: an iterator would be empty by then.
        self.response_headers = headers if isinstance(headers, list) else list(headers)
        self.stage = HEAD

    def announce_size(self, size: int) -> None:
        """Set the Content-Length of a body that is written in pieces, if the application has not set one."""
        if self.stage == HEAD and not any(name.lower() == b"content-length" for name, _ in self.response_headers):
            self.response_headers = [*self.response_headers, (b"content-length", b"%d" % size)]

    def flush_head(self) -> None:
        """Send the head now: its body is longer in coming. A head that cannot be sent is answered with 500."""
        if self.stage != HEAD:
            return
        try:
            head = self._render_head(None)
        except BadResponse as error:  # the application waits for something else: it is not told
            self.connection.server.log_failure(self, error)
            self.fail(SERVER_ERROR)
            return
        self.stage = BODY
        self.connection.transport.write(head)

    def write(self, body: bytes, *, more: bool) -> None:
        """Send a piece of the body; the response ends with the one that has no `more`.

        BadResponse if the body is longer than its Content-Length says (the piece is not sent), or shorter (the
        connection is closed: the client sees that something is missing).
        """
        begins = self.stage == HEAD
        data = self._render_head(None if more else len(body)) if begins else b""
        if not more and begins and self._kind == LENGTH and self._left == len(body):
            self._write_whole(data, body)  # what most responses are; the same as below, in less time
            return
        if body:
            data += self._frame(body, len(body))
        if begins:
            self.stage = BODY
        if not more and self._kind == CHUNKED:
            data += b"0\r\n\r\n"
        if data:
            self.connection.transport.write(data)
        if not more:
            self._end_body()

    def _write_whole(self, head: bytes, body: bytes) -> None:
        self.bytes_sent, self._left = len(body), 0
        self.connection.transport.write(head + body)
        self._end()

    def _end_body(self) -> None:
        missing = self._left
        if missing:
            self.keep_alive = False
        self._end()
        if missing:
            raise BadResponse(f"the body is {missing} bytes shorter than the response's Content-Length")

    def write_trailers(self, lines: bytes) -> None:
        """End a body in chunks with trailers."""
        self.connection.transport.write(b"0\r\n" + lines + b"\r\n")
        self._end()

    def can_send_raw(self) -> bool:
        """Return whether the body may be written to the socket as it is, past `write`: neither encrypted nor framed."""
        return self._kind == LENGTH and not self.connection.is_tls

    def room_in_body(self, size: int) -> int:
        """Return how many of `size` bytes the body takes, once the head is sent: up to its Content-Length, if any."""
        if self._kind == NO_BODY:
            return 0
        return size if self._left is None else min(size, self._left)

    def raw_sent(self, size: int) -> None:
        """End the response: its body, `size` bytes, has been written past `write`. BadResponse if it is too short."""
        if self.stage != DONE:
            self.bytes_sent += size
            if self._left is not None:
                self._left -= size
            self._end_body()

    def _frame(self, body: bytes, size: int) -> bytes:
        if self._kind == NO_BODY:
            return b""
        self.bytes_sent += size
        if self._kind == CHUNKED:
            return b"%b%b\r\n" % (render_chunk_head(size), body)
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                self.keep_alive = False
                raise BadResponse("the body is longer than the response's Content-Length")
        return body

    def _end(self) -> None:
        self.stage = DONE
        self._tell_end()
        self.connection.response_ended(self, reuse=self.keep_alive)
        if self.is_waiting:  # for the client's end, as a rule: the response's end comes first
            self.wake()

    def _tell_end(self) -> None:
        on_response = self.connection.server.on_response
        if on_response is not None:
            on_response(self)

    def _render_head(self, size: int | None) -> bytes:
        """Return the response's head; `size` is that of its whole body where that is known already."""
        head, server = self.head, self.connection.server
        rendered, length, special = render_head(self.status, self.response_headers)
        if self.has_trailers:
            size = None
        if length is not None and length == size and self.status == 200 and head.method != b"HEAD":
            self._kind, self._left = LENGTH, length  # what most responses are; the same as below, in less time
        else:
            self._kind, self._left, line = choose_framing(head.method, head.version, self.status, length, size)
            rendered += line
        has_long_rest = not self.body_is_complete and self._has_long_rest()
        if special & CLOSE or server.is_draining or self._kind == UNTIL_CLOSE or has_long_rest:
            self.keep_alive = False
        if not self.keep_alive or special or head.version != "1.1":
            rendered += connection_line(head.version, special, keep_alive=self.keep_alive)
        return rendered + server.default_lines(special & (DATE | SERVER))

    def _has_long_rest(self) -> bool:
        """Return whether too much of the request's body is to come to be read and dropped."""
        length = self.head.content_length
        return self.head.expects_continue or length is None or length > SHORT_REST
