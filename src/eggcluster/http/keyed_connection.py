"""A connection whose requests belong to workers by their keys. Runs in the app workers, with `--sticky-by` a key.

What was read is parsed in slices that end where a head ends, or a body. So the bytes of a request that belongs to
another worker, and of all that follow it, are still there as they came, and go to that worker with the connection: as
soon as the requests before it have been answered. Nothing of such a request has begun here.
"""

import asyncio
import json
from dataclasses import astuple
from typing import Protocol

from eggcluster.http.connection import HttpConnection
from eggcluster.http.head import Header, RequestHead
from eggcluster.http.parsers import new_parser
from eggcluster.http.proxy_protocol import Addresses
from eggcluster.http.reader import CLOSED, HEAD, IDLE
from eggcluster.http.request import Request
from eggcluster.http.rules import UNAVAILABLE
from eggcluster.http.server import NEVER, HttpServer
from eggcluster.model.steering.key_home import MOST_HOPS, Destination

END = b"\r\n\r\n"  # of each head, and of each body in chunks
RETRY = 0.001  # seconds until the next try to hand over, where the answers before are not sent yet, or there is no room
LONGEST_RETRY = 0.05


class KeyRouter(Protocol):
    """What finds the workers to which keys belong, as a connection sees it."""

    def destination(self, head: RequestHead) -> Destination | None:
        """Return where the request belongs; None: to this worker."""

    def hand_over(self, fd: int, destination: Destination, request: bytes) -> bool:
        """Hand a connection over, with what was read of it. Return False if there is no room at the moment; OSError if
        there never will be."""

    def learn(self, head: RequestHead, scheme: str, headers: list[Header]) -> list[Header]:
        """Learn the keys that a response to this request gives its client. Return its headers, or more of them."""


class KeyedConnection(HttpConnection):
    """Serves the requests that belong to this worker, and hands itself over before the first one that does not."""

    __slots__ = (
        "_body_left", "_destination", "_early", "_has_left", "_head", "_hops", "_is_departing", "_is_held", "_stays",
        "router",
    )  # fmt: skip

    def __init__(
        self,
        server: HttpServer,
        router: KeyRouter,
        *,
        is_tls: bool = False,
        source: Addresses | None = None,
        early: bytes = b"",
        hops: int = 0,
    ) -> None:
        """`early`: what other workers have read; `hops`: how many times the first request was handed over."""
        super().__init__(server, is_tls=is_tls, source=source)
        self.router = router
        self._early = early
        self._hops = hops
        self._head = b""  # of the request that comes in, as far as it was parsed
        self._body_left: int | None = 0  # bytes of the body that comes in; None: it comes in chunks
        self._destination: Destination | None = None  # of the request that was read last
        self._is_held = False  # it belongs elsewhere, and requests before it have no answer yet
        self._is_departing = False
        self._has_left = False  # another worker has the connection
        self._stays = False  # the next request is served here

    # -- the transport's calls -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._early:
            self.server.loop.call_soon(self._begin)

    def _begin(self) -> None:
        if self._early and self.state != CLOSED:
            self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        if self._early:  # the loop may be faster with what comes in than with `_begin`
            data, self._early = self._early + data, b""
        if self._is_departing:
            self._unparsed = bytes(self._unparsed) + data
        else:
            super().data_received(data)

    def eof_received(self) -> bool:
        self._begin()
        return super().eof_received() or self._is_departing

    def _before_close(self) -> None:
        if not self._has_left:
            super()._before_close()

    # -- parsing -------------------------------------------------------------------------------------------

    def _parse(self, data: bytes | memoryview) -> None:
        rest = bytes(data)
        while rest and self._rejection is None:
            if self._waiting or self._is_upgrading:
                self._unparsed = rest + bytes(self._unparsed)
                return
            piece, rest = self._cut(rest)
            is_body = self._reading is not None
            super()._parse(piece)
            if is_body and self._reading is None:
                self._head = b""
            if self._destination is not None:
                self._set_out(rest)
                return

    def _cut(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the piece that is parsed next, and the rest: what is parsed as a head ends with a piece."""
        if self._reading is not None and self._body_left:
            size = min(len(data), self._body_left)
            self._body_left -= size
            return data[:size], data[size:]
        at = (self._head + data).find(END, max(0, len(self._head) - len(END) + 1))
        size = at + len(END) - len(self._head) if at >= 0 else len(data)
        piece = data[:size]
        self._head = self._head + piece if self._reading is None else piece[-len(END) :]
        return piece, data[size:]

    def _add(self, request: Request) -> None:
        head = request.head
        self._destination = self._elsewhere(head)
        if self._destination is None:
            self._head, self._hops = b"", 0
            self._body_left = None if head.chunked else head.content_length
            super()._add(request)

    def _elsewhere(self, head: RequestHead) -> Destination | None:
        if self._stays or self._hops >= MOST_HOPS:
            self._stays = False
            return None
        return self.router.destination(head)

    def _switch(self, rest: bytes | memoryview) -> None:
        if self._destination is None:
            super()._switch(rest)

    # -- on the way ----------------------------------------------------------------------------------------

    def _set_out(self, rest: bytes) -> None:
        """Leave the request, and what follows it, to another worker, once the requests before it are answered."""
        self._unparsed = self._head + rest + bytes(self._unparsed)
        self._forget_head()
        self._is_upgrading = True  # nothing more is parsed here
        self.choose_reading()
        if self.exchange is None and not self._waiting:
            self._is_departing = True
            self.state, self.deadline = HEAD, NEVER
            self._depart(RETRY)
        else:
            self._is_held, self._destination = True, None

    def _forget_head(self) -> None:
        self._head, self._head_bytes, self._reading = b"", 0, None
        self._parser = new_parser(self)

    def _go_on(self) -> None:
        if self._is_held:  # the answers before it are written: it is parsed again, and may belong here by now
            self._is_held = self._is_upgrading = False
        super()._go_on()

    def _depart(self, wait: float) -> None:
        """Hand the connection over, or try again later."""
        if not self._is_departing or self.state == CLOSED or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() or not self._hand_over():
            self.server.loop.call_later(wait, self._depart, min(2 * wait, LONGEST_RETRY))

    def _hand_over(self) -> bool:
        assert self._destination is not None
        destination = self._destination._replace(hops=self._hops + 1)
        fd = self.transport.get_extra_info("socket").fileno()
        request = pack_source(self._source) + bytes(self._unparsed)
        try:
            if not self.router.hand_over(fd, destination, request):
                return False
        except OSError:
            self._stay()
            return True
        self._has_left, self._unparsed = True, b""
        self.transport.abort()  # closes this worker's copy, without a word to the client
        return True

    def _stay(self) -> None:
        """Serve the request here after all."""
        self._is_departing = self._is_upgrading = False
        self._destination, self._stays, self.state = None, True, IDLE
        self._parse_rest()

    # -- the end -------------------------------------------------------------------------------------------

    def close(self) -> None:
        if not self._is_departing:
            super().close()

    def cut(self) -> None:
        if self._is_departing:
            self._is_departing = False
            self._refuse(UNAVAILABLE)
        else:
            super().cut()

    def overdue(self) -> None:
        if not self._is_departing:
            super().overdue()
        elif self.is_write_paused:
            self.deadline = NEVER
            self._check_progress()


def pack_source(source: Addresses | None) -> bytes:
    """Return what a PROXY header has said, as the beginning of a handed-over request."""
    packed = json.dumps(astuple(source)).encode() if source is not None else b""
    return len(packed).to_bytes(2) + packed


def unpack_source(data: bytes) -> tuple[Addresses | None, bytes]:
    """Return what a PROXY header has said, and the bytes that came in on the connection."""
    end = 2 + int.from_bytes(data[:2])
    if end == 2:
        return None, data[2:]
    client, server, is_tls = json.loads(data[2:end])
    return Addresses(client and (client[0], client[1]), server and (server[0], server[1]), is_tls), data[end:]
