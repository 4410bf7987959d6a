"""The way of an accepted connection into a uvicorn server. Runs in the app workers."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from uvicorn.server import Server

# Seconds that a TLS handshake may take and hold up a drain: two round trips, and work on both sides. A client may also
# have connected to say nothing.
HANDSHAKE = 1.0


class ConnectionIntake:
    """Gives accepted connections to one uvicorn server: protocol, TLS and socket options as its own listener would.

    `state` is what the lifespan has left for the requests.
    """

    def __init__(self, server: Server, state: dict[str, Any]) -> None:
        self.server = server
        self._state = state
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

    def take(self, connection: socket.socket) -> None:
        """Serve `connection`, which is non-blocking. Returns at once, never raises."""
        arrival = self._loop.connect_accepted_socket(self._protocol, connection, ssl=self.server.config.ssl)
        task = self._loop.create_task(arrival)
        self._arriving[task] = self._loop.time()
        self.taken += 1
        task.add_done_callback(self._arrived)

    def _protocol(self) -> asyncio.Protocol:
        server, make = self.server, cast(Callable[..., asyncio.Protocol], self.server.config.http_protocol_class)
        return make(config=server.config, server_state=server.server_state, app_state=self._state, _loop=self._loop)

    def _arrived(self, task: asyncio.Task[object]) -> None:
        del self._arriving[task]
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, OSError):  # OSError: the client left, or no TLS with it
            self._loop.call_exception_handler({"message": "taking a connection failed", "exception": error})
