"""One HTTP/1.1 connection: bytes become requests, in order; timeouts; its end. Runs in the app workers.

A connection is in one of these states. `deadline` is the instant at which the state has lasted too long.

| state    | waits for                                 | deadline                    | then                      |
| -------- | ----------------------------------------- | --------------------------- | ------------------------- |
| IDLE     | a request's first byte                    | keep-alive or header        | closed without a word     |
| HEAD     | the rest of a head                        | header, from its start      | 408, closed               |
| ACTIVE   | the response; the rest of a body          | body, from its latest piece | 408, closed               |
|          | the application, while nothing is read    | LOOK                        | told of the client's end  |
| LINGER   | the client's end, after the last response | LINGER_TIME, LINGER_LIMIT   | closed                    |
| UPGRADED | nothing: another protocol owns it         |                             |                           |
| CLOSED   | nothing                                   |                             |                           |

In each of the first four, the deadline is that of the writing while the client does not take what was written: it is
set anew as long as the client takes something, and ends the connection with a reset otherwise.
"""

import asyncio
import logging
from typing import Any, cast

from eggcluster.http import relief
from eggcluster.http.proxy_protocol import Addresses
from eggcluster.http.reader import ACTIVE, CLOSED, HEAD, IDLE, LINGER, UPGRADED, RequestReader
from eggcluster.http.relief import Waiting
from eggcluster.http.request import Request
from eggcluster.http.rules import TOO_SLOW, UNAVAILABLE, Rejection
from eggcluster.http.server import NEVER, HttpServer
from eggcluster.http.transport_addresses import local_address, remote_address
from eggcluster.http.unsent import unsent
from eggcluster.kernel.peer_end import reset_on_close
from eggcluster.kernel.tcp_info import has_unread, silence_of

LINGER_TIME = 2.0  # seconds without a byte: a round trip, a lost segment sent again, a proxy that has no time
LINGER_LIMIT = 30.0  # seconds for a client that goes on sending; nginx: lingering_time, 30

_logger = logging.getLogger("eggcluster.http")


class HttpConnection(RequestReader):
    """Reads requests from its transport and gives each to a `Request`, one at a time."""

    __slots__ = (
        "_linger_end", "_mark", "_source", "client", "environ", "has_more_extensions", "is_proxied", "is_tls", "local",
        "scheme", "tls",
    )  # fmt: skip

    def __init__(self, server: HttpServer, *, is_tls: bool, source: Addresses | None = None) -> None:
        """`source`: the addresses that a PROXY header has named, instead of the transport's own."""
        super().__init__(server)
        self._source = source
        self.is_tls = is_tls
        self.has_more_extensions = is_tls or bool(server.settings.request_timeout)  # ASGI's, of this connection alone
        self.scheme = "https" if is_tls else "http"
        self.tls: dict[str, Any] | None = None  # what the ASGI requests of this connection have in common
        self.is_proxied = False  # the peer is a proxy whose headers are trusted
        self.environ: dict[str, Any] | None = None  # what the WSGI requests of this connection have in common
        self.client: tuple[str, int] | None = None
        self.local: tuple[str, int | None] | None = None
        self._linger_end = NEVER
        self._mark = NEVER  # what was unsent when the deadline was set

    # -- the transport's calls -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._find_addresses()
        self.deadline = self.server.header_end
        self.server.connections.add(self)

    def _find_addresses(self) -> None:
        self.client, self.local = remote_address(self.transport), local_address(self.transport)
        source = self._source
        if source is None:
            self.is_proxied = self.server.trusted.trusts(self.client[0] if self.client else None)
        else:  # None: a Unix socket of the proxy's, which is no peer of ours
            self.client, self.local = source.client, source.server or self.local
            self.is_proxied = self.client is not None and self.server.trusted.trusts(self.client[0])
            self.scheme = "https" if self.is_tls or source.is_tls else "http"

    def eof_received(self) -> bool:
        """Keep the sending half: a client that has shut its own still gets the answers to what it has sent."""
        self._sees_end = True
        due = [each for each in (self.exchange, *self._waiting) if each is not None]
        self.server.for_each(due, lambda exchange: exchange.client_left(), "a request could not be told of its end")
        is_owed = bool(due) or (self.state == ACTIVE and self._rejection is not None)
        return is_owed and not self.is_tls and self.state != LINGER  # a response that broke off is no longer owed

    def connection_lost(self, error: Exception | None) -> None:
        self._before_close()
        self.server.connections.discard(self)
        self.state, self.deadline = CLOSED, NEVER
        exchanges = [each for each in (self.exchange, *self._waiting) if each is not None]
        self.exchange = self._reading = self._fresh = None
        self._waiting.clear()
        self._parser = cast(Any, None)  # they refer to each other
        self._unparsed = b""
        self.is_write_paused = False
        self.server.for_each(exchanges, _tell_lost, "a request could not be told of its connection's end")

    def _before_close(self) -> None:
        self.server.before_close(self.transport)

    def pause_writing(self) -> None:
        self.is_write_paused = True
        self._mark = unsent(self.transport).mark
        self.deadline = self.server.after(self.server.settings.write_timeout)

    def resume_writing(self) -> None:
        self.is_write_paused = False
        if self.state == ACTIVE:
            self.set_body_deadline()
        elif self.state in (IDLE, HEAD):
            self._set_head_deadline()
        if self.exchange is not None:
            self.exchange.writable()
        elif self._waiting or self._rejection is not None:  # the last that waited may have been refused
            self.server.loop.call_soon(self._begin_next)

    # -- refusals ------------------------------------------------------------------------------------------

    def _refuse(self, rejection: Rejection) -> None:
        """Answer what has just been read with `rejection`, after the requests before it; then close."""
        if self._rejection is not None:
            return
        self._rejection = rejection
        _logger.debug("%s: %d %s", self.client, rejection.status, rejection.reason)
        reading, self._reading = self._reading, None
        if reading is None:
            if self.exchange is None and not self._waiting:
                self._send_rejection(rejection)
        elif reading is self.exchange:  # its body is wrong
            self._fresh = None
            reading.fail(rejection)
        elif self._waiting:  # that of the latest request
            self._waiting.pop()
        else:  # the request has been answered already
            self.close()

    def _send_rejection(self, rejection: Rejection) -> None:
        self.transport.write(self.server.plain_response(rejection))
        self.close()

    # -- the exchanges' calls ------------------------------------------------------------------------------

    def response_ended(self, exchange: Request, *, reuse: bool) -> None:
        """Go on with the next request, or close: the response to `exchange` has been written."""
        self.server.requests += 1
        if self.exchange is not exchange:
            return  # the connection is lost
        self.exchange = None
        if not reuse:
            self.close()
        elif self._waiting:
            self.server.loop.call_soon(self._begin_next)
        elif self._unparsed or self._sees_end or self._rejection or self._reading or self._reading_paused:
            self._go_on()
        else:
            self._become_idle()

    def _begin_next(self) -> None:
        if self.exchange is not None or self.state != ACTIVE or self.is_write_paused:
            return
        if self._waiting:
            self.exchange = self._waiting.popleft()
            self.since = self.server.now
            self.exchange.begin(self._context.copy())
            self._parse_rest()
        else:  # it was refused meanwhile
            self._go_on()

    def _become_idle(self) -> None:
        self.state = HEAD if self._url or self._headers else IDLE  # the next head may have begun meanwhile
        self.has_asked = True
        self.since = self.server.now
        self._set_head_deadline()

    def _set_head_deadline(self) -> None:
        if not self.is_write_paused:
            self.deadline = self.server.keep_alive_end if self.state == IDLE else self.server.header_end

    def _go_on(self) -> None:
        """Read what comes next, or end: no response is due."""
        if self._rejection is not None:
            self._send_rejection(self._rejection)
        elif self._reading is not None and not self._sees_end:  # the rest of a body that was not wanted
            self.choose_reading()
            self.set_body_deadline()
        else:
            self._become_idle()
            self._parse_rest()
            if self._sees_end and self.exchange is None and not self._waiting:
                self.close()

    def hand_over(self, protocol: asyncio.Protocol) -> bytes:
        """Give the transport to another protocol; return the bytes that came after the request."""
        self.state, self.deadline = UPGRADED, NEVER
        rest, self._unparsed = bytes(self._unparsed), b""
        self._parser = cast(Any, None)
        self.exchange = None
        self.server.connections.discard(self)
        self.transport.set_protocol(protocol)
        if self._reading_paused:
            self.transport.resume_reading()
        return rest

    # -- the end -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close once everything is sent.

        A socket that is closed while data comes in answers with a reset, and a reset can take away from the client what
        it has not read yet (RFC 9112, 9.6). So a connection whose client is sending shuts its own sending half, reads
        on until the client is done too, and closes then.
        """
        if self.state in (LINGER, CLOSED, UPGRADED):
            return
        lingers = bool(
            self._reading is not None
            or self._rejection is not None
            or self._waiting
            or self._unparsed
            or self._reading_paused
            or self.server.is_draining
        )
        self.state = LINGER
        self._waiting.clear()  # the client does not expect that they are served (RFC 9112, 9.6)
        self._unparsed = b""
        self._reading = None  # what comes now is dropped, and has no other time than this state's
        now = self.server.loop.time()  # exact: `after` counts from the latest tick
        limit = LINGER_TIME if self._rejection is TOO_SLOW else LINGER_LIMIT  # a slow client has had its time
        self.deadline, self._linger_end = now + LINGER_TIME, now + limit
        self._mark = NEVER
        if self.transport.get_write_buffer_size():
            self._mark = unsent(self.transport).mark
            self.deadline = self.server.after(self.server.settings.write_timeout)
        if lingers and self.transport.can_write_eof() and not self._sees_end:
            self.transport.write_eof()
            self.choose_reading()
        else:
            self.transport.close()

    def _keep_lingering(self) -> None:
        if not self.transport.get_write_buffer_size():
            self.deadline = min(self.server.loop.time() + LINGER_TIME, self._linger_end)

    def abort(self) -> None:
        """Close at once; what has not been sent is lost."""
        self.transport.abort()

    def reset(self) -> None:
        """Close at once, so that the client sees an error: it would take an end in order for that of the response."""
        reset_on_close(self.transport.get_extra_info("socket"))
        self.transport.abort()

    @property
    def activity(self) -> str | None:
        """What would be lost if the connection were closed now: `request` or `stream`; None if that is nothing."""
        if self.exchange is not None:
            return self.exchange.activity
        return "request" if self.state == HEAD or self._waiting else None

    @property
    def path(self) -> str:
        """The path of the request that is being served."""
        return self.exchange.head.target.partition(b"?")[0].decode("latin-1") if self.exchange is not None else "?"

    def end_when_quiet(self, quiet: float) -> None:
        """Close the connection if it does nothing, and nothing has passed over it for `quiet` seconds."""
        if self.state == IDLE and not self.transport.is_closing():
            sock = self.transport.get_extra_info("socket")
            silence = silence_of(sock)
            if (silence is None or silence >= quiet) and not has_unread(sock):
                self.transport.close()

    @property
    def waiting(self) -> Waiting | None:
        """What the connection waits for, if others can do without it."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            return None
        if self.state == IDLE and self.has_asked:
            kind = relief.IDLE
        elif self.state in (IDLE, HEAD, LINGER):
            kind = relief.UNFINISHED
        elif self._is_trickling():
            kind = relief.TRICKLING
        else:
            return None
        return Waiting(kind, self.since, self.give_up)

    def give_up(self) -> None:
        """Close at once, for the sake of others. What is incomplete is answered with 503, but not behind TLS, where a
        close in order takes the client's part."""
        if self.state == IDLE and has_unread(self.transport.get_extra_info("socket")):
            return  # its next request has come
        if self.state not in (IDLE, LINGER):
            self._refuse(UNAVAILABLE)
        end = self.transport.abort if self.is_tls else self.transport.close
        end()

    def cut(self) -> None:
        """End the connection in the middle. A request without a response is answered with 503."""
        if self.exchange is None:
            self.close()
        else:
            self.exchange.cut()

    def overdue(self) -> None:
        """The state has lasted too long."""
        self.deadline = NEVER
        if self.state == IDLE:
            self.close()
        elif self.state == HEAD:
            self._refuse(TOO_SLOW)
        elif self.is_write_paused or self.state == LINGER:
            self._check_progress()
        elif self._reading_paused:
            self._look_for_end()
        elif self._reading is not None:
            self._refuse(TOO_SLOW)

    def _check_progress(self) -> None:
        waits, mark = unsent(self.transport)
        if waits and mark < self._mark:
            self._mark = mark
            self.deadline = self.server.after(self.server.settings.write_timeout)
        elif waits:
            self.reset()  # the kernel forgets what the client does not take, too
        elif self._linger_end > self.server.loop.time() and has_unread(self.transport.get_extra_info("socket")):
            self._keep_lingering()  # this worker is late, not the client
        else:
            self.abort()


def _tell_lost(exchange: Request) -> None:
    exchange.connection_lost()
    exchange.writable()
