"""What a worker asks of an HTTP engine, whichever it is."""

import socket
from abc import ABC, abstractmethod
from typing import NamedTuple


class Load(NamedTuple):
    """What an engine has to do: requests answered since its start, connections that are open now, whether it takes
    more, and how many it has got since its start, by whatever way. `full`: others should get the new ones, if they can.
    `lost_threads`: how many do not come back from the application."""

    requests: int = 0
    connections: int = 0
    accepting: bool = True
    accepted: int = 0
    full: bool = False
    lost_threads: int = 0


class Engine(ABC):
    """Serves one application on the listeners that the worker inherited."""

    @abstractmethod
    async def start(self) -> None:
        """Begin to accept connections. Called once, after the application has started."""

    @abstractmethod
    def take(self, connection: socket.socket, *, tls: bool) -> None:
        """Serve a connection that somebody else has accepted as if this worker had; returns at once.

        The socket is non-blocking, and the engine's from now on. `tls`: the client begins with a TLS handshake; one
        that fails closes the connection, quietly as everywhere. During a drain the connection is served like the
        others that are open then; before the start and after the drain it is closed. Never raises.
        """

    @abstractmethod
    def resume(self, connection: socket.socket, request: bytes) -> bool:
        """Serve a connection whose requests belong here, with what other workers have read of it; returns at once.

        As `take`, but return False, and leave the connection to the caller, before the start and after the drain.
        """

    @abstractmethod
    def make_room(self, least: int) -> int:
        """Close `least` connections that wait for their clients, or some more: file descriptors run short.

        Return how many were closed; their descriptors are free a moment later. Never raises.
        """

    @property
    @abstractmethod
    def load(self) -> Load:
        """Costs next to nothing: may be read many times a second. WebSockets are connections, too."""

    @abstractmethod
    async def drain(self, limit: float) -> None:
        """Stop accepting, let what is in flight finish; cut what is not done after `limit` seconds.

        A connection is closed with its next response, which says so, or when it has been silent for a while; a
        silent WebSocket is told that the service restarts (1012), or ends (1001). What is cut: WebSockets in the same
        way, requests without an answer with 503, streams in the middle; one log line for all. Does nothing before the
        start.
        """
