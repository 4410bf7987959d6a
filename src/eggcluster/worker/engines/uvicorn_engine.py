"""uvicorn as the HTTP engine. Runs in the app workers."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from uvicorn.server import Server

from eggcluster.ipc.worker_spec import ListenerSpec
from eggcluster.kernel.inherited_sockets import InheritedSocket, inherited_socket
from eggcluster.options import ResolvedOptions
from eggcluster.worker.app.interface import Interface
from eggcluster.worker.engines.accept_loop import AcceptLoop
from eggcluster.worker.engines.connection_intake import ConnectionIntake
from eggcluster.worker.engines.drain import Drain
from eggcluster.worker.engines.engine import Engine, Load
from eggcluster.worker.engines.uvicorn_server import uvicorn_server

DATE = 1.0  # seconds for which a Date header is good; uvicorn's


class UvicornEngine(Engine):
    """One uvicorn server for the TLS listeners and one for the plain ones, in the worker's own event loop."""

    def __init__(
        self,
        app: Callable[..., Any],
        interface: Interface,
        options: ResolvedOptions,
        listeners: Sequence[ListenerSpec],
        state: dict[str, Any],
        before_accept: Callable[[Server], Awaitable[None]],
    ) -> None:
        if interface == "wsgi":
            from eggcluster.worker.engines.wsgi import WsgiBridge  # 3 MB that ASGI workers need not pay

            app = WsgiBridge(app)
        self._before_accept = before_accept
        self._state = state
        self._listeners = [(inherited_socket(each.fd), each.tls) for each in listeners if each.fd is not None]
        tls = sorted({listener.tls for listener in listeners}, reverse=True)
        self._servers = {each: uvicorn_server(app, options, tls=each) for each in tls}
        self._alone = options.workers == 1 or bool(options.ports)
        self._intakes: dict[bool, ConnectionIntake] = {}
        self._door: AcceptLoop | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        for server in self._servers.values():
            await self._before_accept(server)
            await server.on_tick(0)  # the first response has its date header, too
        self._intakes = {tls: ConnectionIntake(server, self._state) for tls, server in self._servers.items()}
        self._ticker = asyncio.get_running_loop().create_task(self._tick())
        takes = [(sock, self._intakes[tls].take) for sock, tls in self._listeners]
        self._door = AcceptLoop(takes, lambda: self.load.connections, alone=self._alone or _are_own(self._listeners))
        self._door.open()

    def take(self, connection: socket.socket, *, tls: bool) -> None:
        intake = self._intakes.get(tls)
        if intake is None or self._closed:
            connection.close()
        else:
            intake.take(connection)

    @property
    def load(self) -> Load:
        states = [server.server_state for server in self._servers.values()]
        return Load(
            requests=sum(state.total_requests for state in states),
            connections=sum(len(state.connections) for state in states),
            accepting=self._door is not None and self._door.is_open,
            accepted=sum(intake.taken for intake in self._intakes.values()),
        )

    async def drain(self, limit: float) -> None:
        if self._door is None or self._ticker is None:
            return
        self._door.close()
        await Drain(list(self._intakes.values()), limit).run()
        self._closed = True
        self._ticker.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(DATE)
            for server in self._servers.values():
                await server.on_tick(0)


def _are_own(listeners: Sequence[tuple[InheritedSocket, bool]]) -> bool:
    """Whether each is this worker's alone: where slots have listeners of their own, they share a port."""
    return all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for sock, _ in listeners)
