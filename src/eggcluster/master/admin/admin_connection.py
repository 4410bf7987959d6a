"""A connection of the admin port, for which older ones make room. Runs in the master.

A probe has to be answered, however many clients are forgotten or silent. So the connection that has waited longest for
its client goes, and not the newest one, which is the least likely to be forgotten.
"""

import asyncio

from eggcluster.http.connection import HttpConnection
from eggcluster.http.server import HttpServer
from eggcluster.kernel.descriptors import Descriptors
from eggcluster.master.listening.acceptor import RESERVE, SHARE

MOST_CONNECTIONS = 64  # a prober, a scraper and some browsers have a few each


class AdminConnection(HttpConnection):
    """There are `MOST_CONNECTIONS` at most. Of the master's reserve of descriptors they take a single one, so that
    workers can be started."""

    __slots__ = ("_descriptors",)

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server, is_tls=False)
        self._descriptors = Descriptors(RESERVE, SHARE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        others = [each for each in self.server.connections if isinstance(each, AdminConnection) and each.counts(self)]
        if len(others) < MOST_CONNECTIONS and not (others and self._is_of_the_reserve()):
            return
        waiting = [found for each in others if (found := each.waiting) is not None]
        if waiting:
            min(waiting, key=lambda each: each.since).end()
        else:
            self.transport.abort()

    def counts(self, newest: "AdminConnection") -> bool:
        """Return whether this is another one, and still open."""
        return self is not newest and not self.transport.is_closing()

    def _is_of_the_reserve(self) -> bool:
        return self._descriptors.is_reserve(self.transport.get_extra_info("socket").fileno())
