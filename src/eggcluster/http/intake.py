"""The way of an accepted socket into an HTTP server: PROXY header, TLS, transport. Runs in the app workers."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING

from eggcluster.http.connection import HttpConnection
from eggcluster.http.forwarded import TrustedProxies
from eggcluster.http.proxy_protocol import Addresses, Local, ProxyHeader, ProxyHeaderParser, ProxyProtocolError
from eggcluster.http.relief import UNFINISHED, Waiting

if TYPE_CHECKING:
    import ssl

# Seconds that a TLS handshake may take and hold up a drain: two round trips, and work on both sides. A client may also
# have connected to say nothing.
HANDSHAKE = 1.0
# Seconds after which the loop cuts off a closed connection whose client still takes what was written before. The
# connections have deadlines of their own, which know whether it takes something.
SHUTDOWN = 86_400.0
PEEKED = 16 * 1024 + 16  # bytes looked at for a PROXY header: the longest that is read

NewConnection = Callable[[bool, Addresses | None], HttpConnection]


class Intake:
    """Gives accepted sockets a transport and a protocol.

    `new_connection` is told whether the connection is behind TLS, and which addresses a PROXY header has named. With
    `proxies`, each connection from one of them begins with such a header; other peers send none. `timeout`: seconds
    after which a client that does not finish its header or its TLS handshake is closed.
    """

    def __init__(
        self,
        new_connection: NewConnection,
        tls: "ssl.SSLContext | None",
        timeout: float,
        proxies: TrustedProxies | None,
        log_defect: Callable[[str, BaseException], None],
    ) -> None:
        self._new_connection = new_connection
        self._tls = tls
        self._timeout = timeout or None
        self._proxies = proxies
        self._log_defect = log_defect
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()  # in the next turn of the loop they are connections
        self._arriving: dict[asyncio.Task[object], _Arrival] = {}  # at their clients' pace
        self.taken = 0

    @property
    def is_expecting(self) -> bool:
        """Whether a connection is on its way for which a closing server waits: a TLS handshake in its time."""
        recent = self._loop.time() - HANDSHAKE
        return bool(self._connecting) or any(arrival.began > recent for arrival in self._arriving.values())

    def waiting(self) -> Iterator[Waiting]:
        """Yield the connections whose clients have not finished their TLS handshake or PROXY header."""
        for task, arrival in self._arriving.items():
            if not arrival.is_made:
                yield Waiting(UNFINISHED, arrival.began, task.cancel)

    def close(self) -> None:
        """Give up those that are still on their way."""
        for task in (*self._arriving, *self._connecting):
            task.cancel()

    def take(self, connection: socket.socket, *, tls: bool) -> None:
        """Serve `connection`, which is non-blocking. Returns at once, never raises."""
        self.taken += 1
        if self._proxies is not None and self._proxies.trusts(_host_of(connection)):
            self._await_client(partial(self._connect_proxied, connection, tls))
        elif tls:
            self._await_client(partial(self._connect_tls, connection, None))
        else:
            self._connect(connection, None)

    def _await_client(self, connect: "Callable[[_Arrival], Coroutine[None, None, None]]") -> None:
        arrival = _Arrival(self._loop.time())
        task = self._loop.create_task(connect(arrival))
        self._arriving[task] = arrival
        task.add_done_callback(self._arrived)

    def _connect(self, connection: socket.socket, source: Addresses | None) -> None:
        new_connection = partial(self._new_connection, False, source)
        task = self._loop.create_task(self._loop.connect_accepted_socket(new_connection, connection))
        self._connecting.add(task)
        task.add_done_callback(self._connected)

    async def _connect_tls(self, accepted: socket.socket, source: Addresses | None, arrival: "_Arrival") -> None:
        arrival.connection = connection = self._new_connection(True, source)
        await self._loop.connect_accepted_socket(
            lambda: connection,
            accepted,
            ssl=self._tls,
            ssl_handshake_timeout=self._timeout,
            ssl_shutdown_timeout=SHUTDOWN,
        )

    async def _connect_proxied(self, connection: socket.socket, tls: bool, arrival: "_Arrival") -> None:
        try:
            async with asyncio.timeout(self._timeout):
                header = await self._read_header(connection)
        except BaseException:
            connection.close()
            raise
        source = None if isinstance(header.source, Local) else header.source
        if tls:
            await self._connect_tls(connection, source, arrival)
        else:
            self._connect(connection, source)

    async def _read_header(self, connection: socket.socket) -> ProxyHeader:
        """Read the PROXY header and nothing after it: that belongs to the TLS handshake, or to the first request."""
        parser = ProxyHeaderParser()
        while True:
            await self._readable(connection)
            peeked = connection.recv(PEEKED, socket.MSG_PEEK)
            if not peeked:
                raise ConnectionResetError("the proxy left before its header was complete")
            header = parser.feed(peeked)
            connection.recv(len(peeked) - (len(header.rest) if header is not None else 0))
            if header is not None:
                return header

    async def _readable(self, connection: socket.socket) -> None:
        readable: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(connection, _set, readable)
        try:
            await readable
        finally:
            self._loop.remove_reader(connection)

    def _arrived(self, task: "asyncio.Task[object]") -> None:
        self._arriving.pop(task, None)
        self._check(task)

    def _connected(self, task: "asyncio.Task[object]") -> None:
        self._connecting.discard(task)
        self._check(task)

    def _check(self, task: "asyncio.Task[object]") -> None:
        if task.cancelled():
            return
        error = task.exception()
        # OSError: the client left, was too slow, or sent no TLS.
        if error is not None and not isinstance(error, (OSError, ProxyProtocolError)):
            self._log_defect("taking a connection failed", error)


class _Arrival:
    """A client that has to say something before its connection is made."""

    __slots__ = ("began", "connection")

    def __init__(self, began: float) -> None:
        self.began = began
        self.connection: HttpConnection | None = None

    @property
    def is_made(self) -> bool:
        return self.connection is not None and self.connection.transport is not None


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _host_of(connection: socket.socket) -> str | None:
    """Return the peer's address; None for a Unix socket's, and for one that has gone already."""
    try:
        peer = connection.getpeername()
    except OSError:
        return ""
    return peer[0] if isinstance(peer, tuple) else None
