"""The way of an accepted connection into a uvicorn server. Runs in the app workers."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from uvicorn.server import Server


class Intake:
    """Gives accepted connections to one uvicorn server: protocol, TLS and socket options as its own listener would."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        """How many are on their way: TLS handshakes, for the most part."""
        return len(self._arriving)

    def take(self, connection: socket.socket) -> None:
        """Serve `connection`, which is non-blocking. Returns at once, never raises."""
        arrival = self._loop.connect_accepted_socket(self._protocol, connection, ssl=self._server.config.ssl)
        task = self._loop.create_task(arrival)
        self._arriving.add(task)
        task.add_done_callback(self._arrived)

    def _protocol(self) -> asyncio.Protocol:
        server, make = self._server, cast(Callable[..., asyncio.Protocol], self._server.config.http_protocol_class)
        return make(
            config=server.config, server_state=server.server_state, app_state=server.lifespan.state, _loop=self._loop
        )

    def _arrived(self, task: asyncio.Task[object]) -> None:
        self._arriving.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, OSError):  # OSError: the client left, or no TLS with it
            self._loop.call_exception_handler({"message": "taking a connection failed", "exception": error})
