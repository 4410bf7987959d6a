"""Receiving the connections that the master has accepted. Runs in the app workers."""

import asyncio
import logging

from eggcluster.kernel.handover import receive
from eggcluster.kernel.inherited import inherited_socket
from eggcluster.worker.engines.engine import Engine

BATCH = 64  # connections received in a row before the loop's other work has its turn

_logger = logging.getLogger("eggcluster.worker")


class HandoverReader:
    """Gives the engine every connection that arrives at the inherited `fd`."""

    def __init__(self, fd: int, engine: Engine) -> None:
        self._sock = inherited_socket(fd)
        self._engine = engine

    def start(self) -> None:
        """Receive from now on."""
        asyncio.get_running_loop().add_reader(self._sock, self._receive, BATCH)

    def finish(self) -> None:
        """Receive what is there, and no more. The master sends nothing to a worker that it has asked to close."""
        asyncio.get_running_loop().remove_reader(self._sock)
        self._receive(None)

    def _receive(self, most: int | None) -> None:
        try:
            for connection, tls in receive(self._sock, most):
                self._engine.take(connection, tls=tls)
        except OSError as error:
            _logger.error("a connection from the master could not be received: %s", error)
