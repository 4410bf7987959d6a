"""The way of an accepted socket into an HTTP server: PROXY header, TLS, transport. Runs in the app workers."""

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from eggcluster.http.forwarded import TrustedProxies
from eggcluster.http.proxy_protocol import Addresses, Local, ProxyHeader, ProxyHeaderParser, ProxyProtocolError

if TYPE_CHECKING:
    import ssl

# Seconds that a TLS handshake may take and hold up a drain: two round trips, and work on both sides. A client may also
# have connected to say nothing.
HANDSHAKE = 1.0
# Seconds after which the loop cuts off a closed connection whose client still takes what was written before. The
# connections have deadlines of their own, which know whether it takes something.
SHUTDOWN = 86_400.0
PEEKED = 16 * 1024 + 16  # bytes looked at for a PROXY header: the longest that is read

NewProtocol = Callable[[bool, Addresses | None], asyncio.Protocol]


class Intake:
    """Gives accepted sockets a transport and a protocol.

    `new_protocol` is told whether the protocol is behind TLS, and which addresses a PROXY header has named. With
    `proxies`, each connection from one of them begins with such a header; other peers send none. `timeout`: seconds
    after which a client that does not finish its header or its TLS handshake is closed.
    """

    def __init__(
        self,
        new_protocol: NewProtocol,
        tls: "ssl.SSLContext | None",
        timeout: float,
        proxies: TrustedProxies | None,
        log_defect: Callable[[str, BaseException], None],
    ) -> None:
        self._new_protocol = new_protocol
        self._tls = tls
        self._timeout = timeout or None
        self._proxies = proxies
        self._log_defect = log_defect
        self._loop = asyncio.get_running_loop()
        self._arriving: dict[asyncio.Task[object], float] = {}
        self.taken = 0

    @property
    def is_expecting(self) -> bool:
        """Whether a connection is on its way for which a closing server waits: a TLS handshake in its time."""
        recent = self._loop.time() - HANDSHAKE
        return any(began > recent for began in self._arriving.values())

    def close(self) -> None:
        """Give up those that are still on their way."""
        for task in self._arriving:
            task.cancel()

    def make_room(self) -> None:
        """Give up those that have been on their way for longer than a handshake takes: no descriptor is left."""
        recent = self._loop.time() - HANDSHAKE
        for task, began in self._arriving.items():
            if began <= recent:
                task.cancel()

    def take(self, connection: socket.socket, *, tls: bool) -> None:
        """Serve `connection`, which is non-blocking. Returns at once, never raises."""
        if self._proxies is None or not self._proxies.trusts(_host_of(connection)):
            arrival = self._connect(connection, tls, None)
        else:
            arrival = self._connect_proxied(connection, tls)
        task = self._loop.create_task(arrival)
        self._arriving[task] = self._loop.time()
        self.taken += 1
        task.add_done_callback(self._arrived)

    async def _connect(self, connection: socket.socket, tls: bool, source: Addresses | None) -> None:
        await self._loop.connect_accepted_socket(
            lambda: self._new_protocol(tls, source),
            connection,
            ssl=self._tls if tls else None,
            ssl_handshake_timeout=self._timeout if tls else None,
            ssl_shutdown_timeout=SHUTDOWN if tls else None,
        )

    async def _connect_proxied(self, connection: socket.socket, tls: bool) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                header = await self._read_header(connection)
        except BaseException:
            connection.close()
            raise
        await self._connect(connection, tls, None if isinstance(header.source, Local) else header.source)

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
        del self._arriving[task]
        if task.cancelled():
            return
        error = task.exception()
        # OSError: the client left, was too slow, or sent no TLS.
        if error is not None and not isinstance(error, (OSError, ProxyProtocolError)):
            self._log_defect("taking a connection failed", error)


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
