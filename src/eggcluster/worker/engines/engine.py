"""What a worker asks of an HTTP engine, whichever it is."""

from abc import ABC, abstractmethod


class Engine(ABC):
    """Serves one application on the listeners that the worker inherited."""

    @abstractmethod
    async def start(self) -> None:
        """Begin to accept connections. Called once, after the application has started."""

    @abstractmethod
    async def drain(self, limit: float) -> None:
        """Stop accepting, let what is in flight finish; cancel what is not done after `limit` seconds.

        Idle connections are closed, WebSockets are told that the service restarts (1012).
        """
