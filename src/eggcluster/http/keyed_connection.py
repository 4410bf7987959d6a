"""A connection whose requests belong to workers by their keys. Runs in the app workers, with `--sticky-by` a key.

A head is looked at as it came; only one that belongs here is parsed. What was read is parsed in slices that end where
a head ends, or a body. So the bytes of a request that belongs to another worker, and of all that follow it, are still
there as they came, and go to that worker with the connection: as soon as the requests before it have been answered.
Nothing of such a request has begun here.
"""

import socket
from typing import NamedTuple, Protocol

from eggcluster.http.connection import HttpConnection
from eggcluster.http.head import Header, RequestHead
from eggcluster.http.parsers import new_parser
from eggcluster.http.plain_transport import PlainTransport
from eggcluster.http.proxy_protocol import Addresses
from eggcluster.http.reader import CLOSED, HEAD, IDLE
from eggcluster.http.request import Request
from eggcluster.http.rules import UNAVAILABLE
from eggcluster.http.server import NEVER, HttpServer
from eggcluster.model.steering.key_home import MOST_HOPS, Destination
from eggcluster.packing import Decoder, encode

SHORTEST = b"GET / HTTP/1.0\r\n\r\n"  # a head; what is shorter may be an empty line before one
END = b"\r\n\r\n"  # of each head, and of each body in chunks
RETRY = 0.001  # seconds until the next try to hand over, where the answers before are not sent yet, or there is no room
LONGEST_RETRY = 0.05


class Origin(NamedTuple):
    """What the worker that accepted a connection knows of it."""

    client: tuple[str, int] | None
    local: tuple[str, int | None] | None
    scheme: str
    is_proxied: bool


_origins = Decoder(Origin)


class KeyRouter(Protocol):
    """What finds the workers to which keys belong, as a connection sees it."""

    def destination(self, head: RequestHead) -> Destination | None:
        """Return where the request belongs; None: to this worker."""

    def look(self, raw: bytes) -> Destination | None:
        """Return the same for a head as it came, up to its empty line."""

    def is_here(self, destination: Destination) -> bool:
        """Return whether a request that was handed over belongs to this worker, without a look at its head."""

    def hand_over(self, fd: int, destination: Destination, request: bytes) -> bool:
        """Hand a connection over, with what was read of it. Return False if there is no room at the moment; OSError if
        there never will be."""

    def learn(self, head: RequestHead, scheme: str, headers: list[Header]) -> list[Header]:
        """Learn the keys that a response to this request gives its client. Return its headers, or more of them."""


class KeyedConnection(HttpConnection):
    """Serves the requests that belong to this worker, and hands itself over before the first one that does not."""

    __slots__ = (
        "_body_left", "_destination", "_has_left", "_head", "_hops", "_is_departing", "_is_held", "_is_settled",
        "_origin", "_stays", "router",
    )  # fmt: skip

    def __init__(
        self,
        server: HttpServer,
        router: KeyRouter,
        *,
        is_tls: bool = False,
        source: Addresses | None = None,
        origin: bytes = b"",
        arrived: Destination | None = None,
    ) -> None:
        """`origin`: what the first worker knows of the connection, packed; `arrived`: where its first request belongs,
        as another worker sees it."""
        super().__init__(server, is_tls=is_tls, source=source)
        self.router = router
        self._origin = origin
        self._hops = arrived.hops if arrived is not None else 0
        self._head = b""  # of the request that comes in, as far as it was parsed
        self._body_left: int | None = 0  # bytes of the body that comes in; None: it comes in chunks
        self._destination: Destination | None = None  # of the request that was read last
        self._is_settled = False  # the request that comes in is served here
        self._is_held = False  # it belongs elsewhere, and requests before it have no answer yet
        self._is_departing = False
        self._has_left = False  # another worker has the connection
        self._stays = arrived is not None and router.is_here(arrived)  # the next request is served here

    # -- the transport's calls -----------------------------------------------------------------------------

    def _find_addresses(self) -> None:
        if self._origin:
            self.client, self.local, self.scheme, self.is_proxied = _origins.decode(self._origin)
        else:
            super()._find_addresses()

    def eof_received(self) -> bool:
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
            is_body = self._reading is not None
            size = 0 if is_body or self._head else rest.find(END) + len(END)
            if size < len(SHORTEST):  # it does not begin with a whole head: `_add` looks where the request belongs
                piece, rest = self._cut(rest)
            elif self._belongs_elsewhere(rest[:size]):
                self._set_out(rest)
                return
            else:
                piece, rest = rest[:size], rest[size:]
            super()._parse(piece)
            if is_body and self._reading is None:
                self._head = b""
            if self._destination is not None:
                self._set_out(rest)
                return

    def _belongs_elsewhere(self, head: bytes) -> bool:
        """Look where the request with this head belongs, without the parser: its worker parses it."""
        self._is_settled = True
        if self._stays or self._hops >= MOST_HOPS:
            self._stays = False
            return False
        self._destination = self.router.look(head)
        return self._destination is not None

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
        self._destination = None if self._is_settled else self._elsewhere(head)
        self._is_settled = False
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
        self._head, self._head_bytes, self._reading = b"", 0, None
        self._is_upgrading = True  # nothing more is parsed here
        self.since = self.server.now
        self.choose_reading()
        if self.exchange is None and not self._waiting:
            self._is_departing = True
            self.state, self.deadline = HEAD, NEVER
            self._depart(RETRY)
        else:
            self._is_held, self._destination = True, None

    def _parse_anew(self) -> None:
        self._parser = new_parser(self)
        self._is_upgrading = False

    def _go_on(self) -> None:
        if self._is_held:  # the answers before it are written: it is parsed again, and may belong here by now
            self._is_held = False
            self._parse_anew()
        super()._go_on()

    def _depart(self, wait: float) -> None:
        """Hand the connection over, or try again later."""
        if not self._is_departing or self.state == CLOSED or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() or not self._hand_over():
            self.server.loop.call_later(wait, self._depart, min(2 * wait, LONGEST_RETRY))

    def _hand_over(self) -> bool:
        assert self._destination is not None
        part, slot, _, digest = self._destination
        destination = Destination(part, slot, self._hops + 1, digest)
        fd = self.transport.get_extra_info("socket").fileno()
        self._origin = self._origin or encode(Origin(self.client, self.local, self.scheme, self.is_proxied))
        request = len(self._origin).to_bytes(2) + self._origin + bytes(self._unparsed)
        try:
            if not self.router.hand_over(fd, destination, request):
                return False
        except OSError:
            self._stay()
            return True
        self._has_left, self._unparsed = True, b""
        if isinstance(self.transport, PlainTransport):
            self.transport.leave()
            self.connection_lost(None)
        else:
            self.transport.abort()  # closes this worker's copy, without a word to the client
        return True

    def _stay(self) -> None:
        """Serve the request here after all."""
        self._is_departing = False
        self._parse_anew()
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


def resume(server: HttpServer, router: KeyRouter, sock: socket.socket, where: Destination, request: bytes) -> None:
    """Serve a connection that another worker has handed over with this request, because of where that belongs."""
    end = 2 + int.from_bytes(request[:2])
    connection = KeyedConnection(server, router, origin=request[2:end], arrived=where)
    PlainTransport(server.loop, sock, connection)
    connection.data_received(request[end:])
