"""Receiving the connections that the master has accepted. Runs in the app workers."""

import asyncio
import logging

from eggcluster.kernel.connection_handover import receive
from eggcluster.kernel.descriptors import Descriptors
from eggcluster.kernel.inherited_sockets import inherited_socket
from eggcluster.worker.engines.engine import Engine

BATCH = 64  # connections received in a row before the loop's other work has its turn
LOOK = 0.25  # seconds between two looks whether there are descriptors again
COMPLAINT_INTERVAL = 10.0  # seconds between two log lines that say there are none

_logger = logging.getLogger("eggcluster.worker")


class HandoverReader:
    """Gives the engine every connection that arrives at the inherited `fd`, while there are file descriptors for them.

    Without one the kernel would drop what is received (unix(7), MSG_CTRUNC). So it stays in the socket until there are
    some again, or until the master takes it back.
    """

    def __init__(self, fd: int, engine: Engine) -> None:
        self._sock = inherited_socket(fd)
        self._engine = engine
        self._descriptors = Descriptors()
        self._timer: asyncio.TimerHandle | None = None
        self._complained = float("-inf")
        self.is_shut = False  # nothing arrives any more, by the application's doing

    def start(self) -> None:
        """Receive from now on."""
        asyncio.get_running_loop().add_reader(self._sock, self._read)

    def finish(self) -> None:
        """Receive what is there and has room, and no more. The master sends nothing to a worker that it has asked to
        close, and takes back what is left when that is dead."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._sock.is_lost:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._receive(None)

    def _read(self) -> None:
        if not self._receive(BATCH):
            asyncio.get_running_loop().remove_reader(self._sock)
            if not self.is_shut:
                self._look_later()

    def _receive(self, most: int | None) -> bool:
        """False where there was no room for all."""
        arriving = receive(self._sock, most)
        try:
            while self._descriptors.have_one():
                arrived = next(arriving, None)
                if arrived is None:
                    return True
                connection, tls = arrived
                self._engine.take(connection, tls=tls)
        except BrokenPipeError:
            self.is_shut = True
        except OSError as error:  # a thread has been faster
            _logger.error("a connection from the master could not be received: %s", error)
        return False

    # -- without descriptors -------------------------------------------------------------------------------

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LOOK, self._look)
        if loop.time() > self._complained + COMPLAINT_INTERVAL:
            self._complained = loop.time()
            _logger.error(
                "no file descriptor is left (limit %s): connections from the master have to wait",
                self._descriptors.limit,
            )

    def _look(self) -> None:
        if self._descriptors.have_room():
            self._timer = None
            self.start()
        else:
            self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)
