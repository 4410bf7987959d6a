"""The cluster's own HTTP engine, as a worker uses it. Runs in the app workers."""

import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from eggcluster.http.connection import HttpConnection
from eggcluster.http.drain import Drain
from eggcluster.http.exchange import Exchange
from eggcluster.http.head import MAX_TARGET_BYTES, Limits
from eggcluster.http.http_settings import HttpSettings
from eggcluster.http.intake import Intake, NewConnection
from eggcluster.http.relief import close_waiting
from eggcluster.http.server import HttpServer, NewExchange
from eggcluster.http.websocket import asgi_exchange
from eggcluster.http.wsgi import WsgiExchange
from eggcluster.ipc.worker_spec import ListenerSpec
from eggcluster.kernel.inherited_sockets import InheritedSocket, inherited_socket
from eggcluster.model.steering.key_home import Destination
from eggcluster.options import ResolvedOptions
from eggcluster.worker.app.interface import Interface
from eggcluster.worker.engines.accept_loop import AcceptLoop
from eggcluster.worker.engines.engine import Engine, Load

if TYPE_CHECKING:
    import ssl

    from eggcluster.http.keyed_connection import KeyRouter


class HttpEngine(Engine):
    """One HTTP server for all listeners, in the worker's own event loop."""

    def __init__(
        self,
        app: Callable[..., Any],
        interface: Interface,
        options: ResolvedOptions,
        listeners: Sequence[ListenerSpec],
        state: dict[str, Any],
        before_accept: Callable[[HttpServer], Awaitable[None]],
        is_final: Callable[[], bool],
        on_response: Callable[[Exchange], None] | None = None,
        router: "KeyRouter | None" = None,
    ) -> None:
        """`is_final` tells a drain whether no worker will take this one's place. `on_response` is called with each
        request whose response has ended. With a `router`, requests with keys go to the workers they belong to."""
        self._app = app
        self._interface = interface
        self._options = options
        self._before_accept = before_accept
        self._is_final = is_final
        self._on_response = on_response
        self._router = router
        self._state = state
        self._listeners = [(inherited_socket(each.fd), each.tls) for each in listeners if each.fd is not None]
        self._tls = tls_context(options) if any(each.tls for each in listeners) else None
        self._alone = options.workers == 1 or bool(options.ports)
        self._serving: tuple[HttpServer, Intake] | None = None
        self._accept_loop: AcceptLoop | None = None
        self._closed = False

    async def start(self) -> None:
        server = HttpServer(self._app, self._new_exchange(), http_settings(self._options), self._state)
        server.is_final = self._is_final
        server.on_response = self._on_response
        await self._before_accept(server)
        proxies = server.trusted if self._options.proxy_protocol else None
        intake = Intake(
            self._new_connection(server),
            self._tls,
            server.settings.header_timeout,
            proxies,
            server.log_defect,
        )
        self._serving = server, intake
        takes = [(sock, partial(intake.take, tls=tls)) for sock, tls in self._listeners]
        alone = self._alone or _are_own(self._listeners)
        self._accept_loop = AcceptLoop(
            takes, lambda: len(server.connections), self.make_room, alone=alone, is_full=server.pool.is_full
        )
        self._accept_loop.open()
        server.started = True

    def take(self, connection: socket.socket, *, tls: bool) -> None:
        if self._serving is None or self._closed:
            connection.close()
        else:
            self._serving[1].take(connection, tls=tls)

    def _new_exchange(self) -> NewExchange:
        is_wsgi = self._interface == "wsgi"
        if self._router is None:
            return WsgiExchange if is_wsgi else asgi_exchange
        from eggcluster.http.keyed_exchange import KeyedWsgiExchange, keyed_asgi_exchange

        return KeyedWsgiExchange if is_wsgi else keyed_asgi_exchange

    def _new_connection(self, server: HttpServer) -> NewConnection:
        router = self._router
        if router is None:
            return lambda tls, source: HttpConnection(server, is_tls=tls, source=source)
        from eggcluster.http.keyed_connection import KeyedConnection

        return lambda tls, source: KeyedConnection(server, router, is_tls=tls, source=source)

    def resume(self, connection: socket.socket, request: bytes) -> bool:
        if self._serving is None or self._closed or self._router is None:
            return False
        from eggcluster.http.keyed_connection import resume

        server, _ = self._serving
        where, rest = Destination.unpack(request)
        try:
            resume(server, self._router, connection, where, rest)
        except Exception as error:
            server.log_defect("taking a connection failed", error)
            connection.close()
        return True

    def make_room(self, least: int) -> int:
        if self._serving is None:
            return 0
        server, intake = self._serving
        present = [waiting for each in server.connections if (waiting := each.waiting) is not None]
        return close_waiting([*present, *intake.waiting()], least, server.now)

    @property
    def load(self) -> Load:
        if self._serving is None:
            return Load(accepting=False)
        server, intake = self._serving
        return Load(
            requests=server.requests,
            connections=len(server.connections),
            accepting=self._accept_loop is not None and self._accept_loop.is_open,
            accepted=intake.taken,
            full=server.pool.is_full(),
            lost_threads=server.pool.lost,
        )

    async def drain(self, limit: float) -> None:
        if self._accept_loop is None or self._serving is None:
            return
        self._accept_loop.close()
        await Drain(*self._serving, limit).run()
        self._closed = True


def http_settings(options: ResolvedOptions) -> HttpSettings:
    """Return what the HTTP server has to know of the options."""
    return HttpSettings(
        limits=Limits(
            max_header_bytes=options.max_header_bytes,
            max_headers=options.max_headers,
            max_target_bytes=min(MAX_TARGET_BYTES, options.max_header_bytes),
            max_body_bytes=options.max_body_bytes,
        ),
        header_timeout=options.header_timeout,
        body_timeout=options.body_timeout,
        write_timeout=options.write_timeout,
        keep_alive_timeout=options.keep_alive_timeout,
        request_timeout=options.request_timeout,
        threads=options.threads,
        trusted_proxies=options.forwarded_allow_ips,
        limit_concurrency=options.limit_concurrency or 0,
        root_path=options.root_path,
        server_header=options.server_header,
        headers=tuple(_header(header) for header in options.headers),
        ws_max_size=options.ws_max_size,
        ws_ping_interval=options.ws_ping_interval,
        ws_ping_timeout=options.ws_ping_timeout,
    )


def tls_context(options: ResolvedOptions) -> "ssl.SSLContext":
    """Return the context of the TLS listeners; the files have been checked before the start."""
    import ssl  # 3 MB that a worker without TLS need not pay

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert options.https_cert is not None
    context.load_cert_chain(options.https_cert, options.https_key, options.https_key_password)
    if options.https_ca:
        context.load_verify_locations(options.https_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _header(header: str) -> tuple[bytes, bytes]:
    name, _, value = header.partition(":")
    return name.strip().lower().encode("latin-1"), value.strip().encode("latin-1")


def _are_own(listeners: Sequence[tuple[InheritedSocket, bool]]) -> bool:
    """Return whether each is this worker's alone: where slots have listeners of their own, they share a port."""
    return all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for sock, _ in listeners)
