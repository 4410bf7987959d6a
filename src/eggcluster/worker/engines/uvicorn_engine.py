"""uvicorn as the HTTP engine. Runs in the app workers."""

import asyncio
import socket
import ssl  # uvicorn's Config has imported it anyway
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

from uvicorn.config import Config
from uvicorn.server import Server

from eggcluster.ipc.boot_order import Listener
from eggcluster.kernel.inherited import inherited_socket
from eggcluster.options import ClusterOptions
from eggcluster.worker.engines.engine import Engine, Load
from eggcluster.worker.engines.intake import Intake
from eggcluster.worker.engines.websocket_door import CLOSE, websocket_protocol
from eggcluster.worker.interface import Interface

LAST_REQUEST = 0.25  # seconds that connections without a request may hold up a drain; a far client's round trip
HANDSHAKE = 1.0  # seconds that a TLS handshake may take and hold it up: two more round trips, and work on both sides
LOOK = 0.01  # seconds between two looks at the connections: uvicorn has no event for a request


class UvicornEngine(Engine):
    """One uvicorn server for the TLS listeners and one for the plain ones, in the worker's own event loop."""

    def __init__(
        self,
        app: Callable[..., Any],
        interface: Interface,
        options: ClusterOptions,
        listeners: Sequence[Listener],
        state: dict[str, Any],
        before_accept: Callable[[Server], Awaitable[None]],
    ) -> None:
        if interface == "wsgi":
            from eggcluster.worker.engines.wsgi import WsgiBridge  # 3 MB that ASGI workers need not pay

            app = WsgiBridge(app)
        self._before_accept = before_accept
        self._tickers: list[asyncio.Task[None]] = []
        self._servers: list[tuple[Server, list[socket.socket]]] = []
        self._intakes: dict[bool, Intake] = {}
        for tls in sorted({listener.tls for listener in listeners}, reverse=True):
            fds = [listener.fd for listener in listeners if listener.tls is tls]
            sockets = [inherited_socket(fd) for fd in fds if fd is not None]
            self._servers.append((_server(app, options, state, tls=tls), sockets))

    async def start(self) -> None:
        for server, sockets in self._servers:
            await self._before_accept(server)
            await server.on_tick(0)  # the first response has its date header, too
            self._intakes[server.config.is_ssl] = Intake(server)
            await server.startup(sockets)
            self._tickers.append(asyncio.get_running_loop().create_task(server.main_loop()))

    def take(self, connection: socket.socket, *, tls: bool) -> None:
        intake = self._intakes.get(tls)
        if intake is None:
            connection.close()
        else:
            intake.take(connection)

    @property
    def load(self) -> Load:
        states = [server.server_state for server, _ in self._servers]
        return Load(
            requests=sum(state.total_requests for state in states),
            connections=sum(len(state.connections) for state in states),
            accepted=sum(_maker_of(server).made for server, _ in self._servers),
        )

    async def drain(self, limit: float) -> None:
        for ticker in self._tickers:
            ticker.cancel()
        await asyncio.gather(*(self._drain(server, sockets, limit) for server, sockets in self._servers))
        self._intakes.clear()

    async def _drain(self, server: Server, sockets: list[socket.socket], limit: float) -> None:
        if server.started:
            for listening in server.servers:
                listening.close()
            for sock in sockets:
                sock.close()
            waited = await _last_requests(server, limit)
            server.config.timeout_graceful_shutdown = max(0.0, limit - waited)  # type: ignore[assignment]  # given to wait_for
            await server.shutdown(sockets)


async def _last_requests(server: Server, limit: float) -> float:
    """Answer whatever comes now for the last time; half of `limit` seconds at most, gives how many it took.

    uvicorn closes what has no request, at once. A client may be sending one in just that moment: its first one, on a
    connection that was accepted a moment ago, or its next one. It would have to send it again (RFC 9112, 9.3.1), and
    may not if it is no idempotent one. A connection whose answer says `close` is closed without that risk.
    """
    loop = asyncio.get_running_loop()
    began = since = loop.time()
    server.server_state.default_headers = [*server.server_state.default_headers, CLOSE]
    await asyncio.sleep(LOOK)  # what the kernel has already is read meanwhile
    while (now := loop.time()) < began + limit / 2:
        if _maker_of(server).shakes_hands(now):
            since = now  # only then comes its first request
        elif now >= since + LAST_REQUEST or not any(map(_is_at_risk, server.server_state.connections)):
            break
        await asyncio.sleep(LOOK)
    return loop.time() - began


def _is_at_risk(connection: object) -> bool:
    """Whether uvicorn's shutdown may lose a request of it: one on its way here, or a WebSocket's handshake."""
    if hasattr(connection, "handshake_complete"):
        return not connection.handshake_complete
    cycle = getattr(connection, "cycle", None)
    return cycle is None or cycle.response_complete


class _Started:
    """Stands where uvicorn expects its own lifespan: ours has started already, and ends after the server."""

    should_exit = False

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    async def startup(self) -> None: ...

    async def shutdown(self) -> None: ...


class _ProtocolMaker:
    """Stands where uvicorn expects the class of its protocol: makes one for each connection, and counts them."""

    def __init__(self, config: Config) -> None:
        self.made = 0
        self._make: Any = config.http_protocol_class
        self._born: WeakKeyDictionary[Any, float] | None = WeakKeyDictionary() if config.is_ssl else None

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.made += 1
        protocol = self._make(*args, **named)
        if self._born is not None:
            self._born[protocol] = asyncio.get_running_loop().time()
        return protocol

    def shakes_hands(self, now: float) -> bool:
        """Whether any connection is in its TLS handshake: uvicorn does not know of it before its end.

        One that has failed looks as if it were; so each counts only for as long as a handshake may take.
        """
        young = (made for made, born in (self._born or {}).items() if now < born + HANDSHAKE)
        return any(made.transport is None for made in young)


def _maker_of(server: Server) -> _ProtocolMaker:
    return cast(_ProtocolMaker, server.config.http_protocol_class)


def _server(app: Callable[..., Any], options: ClusterOptions, state: dict[str, Any], *, tls: bool) -> Server:
    config = Config(
        app,
        http="httptools",
        ws=websocket_protocol,  # type: ignore[arg-type]  # it calls it and wants no more
        ws_max_size=options.ws_max_size,
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=bool(options.access_log),
        workers=1,
        server_header=options.server_header,
        headers=[_header(header) for header in options.headers],
        forwarded_allow_ips=options.forwarded_allow_ips,
        root_path=options.root_path,
        limit_concurrency=options.limit_concurrency,
        backlog=options.backlog,
        timeout_keep_alive=options.keep_alive_timeout,
        ssl_keyfile=options.https_key if tls else None,
        ssl_certfile=options.https_cert if tls else None,
        ssl_keyfile_password=options.https_key_password if tls else None,
        ssl_ca_certs=options.https_ca if tls else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if tls and options.https_ca else ssl.CERT_NONE,
    )
    config.load()
    config.http_protocol_class = _ProtocolMaker(config)  # type: ignore[assignment]  # it calls it and wants no more
    server = Server(config)
    server.lifespan = _Started(state)
    return server


def _header(header: str) -> tuple[str, str]:
    name, _, value = header.partition(":")
    return name.strip(), value.strip()
