"""Receives the connections that the master has accepted, or another worker has given away. Runs in the app workers."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from eggcluster.kernel.connection_handover import Handed, pass_on, receive
from eggcluster.kernel.descriptors import Descriptors
from eggcluster.kernel.inherited_sockets import InheritedSocket, inherited_socket
from eggcluster.kernel.throttle import Throttle
from eggcluster.model.steering.key_home import NO_PART, Destination
from eggcluster.worker.engines.engine import Engine

BATCH = 64  # connections received in a row before the loop turns to its other work
CHECK_INTERVAL = 0.25  # seconds between two checks whether descriptors are free again
SOON = 0.01  # seconds until a check after connections were closed to make room
COMPLAINT_INTERVAL = 10.0  # seconds between two log lines that say that none is free

AddDirect = Callable[[bytes, socket.socket], None]

_logger = logging.getLogger("eggcluster.worker")


class HandoverReader:
    """Gives the engine the connections that arrive at the inherited `fd`, as long as file descriptors are free.

    Without a free descriptor the kernel would drop a received connection (unix(7), MSG_CTRUNC). So connections stay in
    the socket until a descriptor is free, or until the master takes them back.
    """

    def __init__(self, fd: int, engine: Engine, add_direct: AddDirect | None = None) -> None:
        """`add_direct` is called with the name of another worker and the direct socket to it, which it takes over."""
        self._sock = inherited_socket(fd)
        self._engine = engine
        self._add_direct = add_direct
        self._descriptors = Descriptors()
        self._timer: asyncio.TimerHandle | None = None
        self._throttle = Throttle(COMPLAINT_INTERVAL)
        self.is_shut = False  # the application has shut the socket down: nothing arrives any more

    @property
    def exit(self) -> InheritedSocket:
        """The socket on which this worker gives connections away: the same one."""
        return self._sock

    def start(self) -> None:
        """Receive from now on."""
        asyncio.get_running_loop().add_reader(self._sock, self._read)

    def finish(self) -> None:
        """Receive what is there, as far as descriptors are free, and then no more. The master sends nothing to a worker
        that it has asked to close, and takes back what is left when the worker is dead."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._sock.is_lost:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._receive(None)

    def _read(self) -> None:
        if not self._receive(BATCH):
            asyncio.get_running_loop().remove_reader(self._sock)
            if not self.is_shut:
                self._wait_for_descriptors()

    def _receive(self, most: int | None) -> bool:
        """Receive at most `most` connections (None: all). Return False if that was cut short."""
        arriving = receive(self._sock, most)
        try:
            has_room = self._descriptors.has_number(self._sock.fileno())
            while has_room:
                arrived = next(arriving, None)
                if arrived is None:
                    return True
                has_room = arrived.connection.fileno() < self._descriptors.ceiling  # it is the lowest that was free
                self._take(arrived)
                has_room = has_room or self._descriptors.have_one()
        except BrokenPipeError:
            self.is_shut = True
        except OSError as error:  # a thread has taken the last descriptor
            _logger.error("a connection from the master could not be received: %s", error)
        return False

    def _take(self, arrived: Handed) -> None:
        if arrived.direct_to:
            self._take_direct(arrived)
        elif not arrived.request:
            self._engine.take(arrived.connection, tls=arrived.tls)
        elif not self._engine.resume(arrived.connection, arrived.request):
            self._give_back(arrived)

    def _take_direct(self, arrived: Handed) -> None:
        if self._add_direct is None:
            arrived.connection.close()
        else:
            self._add_direct(arrived.direct_to, arrived.connection)

    def _give_back(self, arrived: Handed) -> None:
        """Give a request back that this worker cannot serve any more; the master finds another one. What does not fit
        is lost with a log line: for that, all that fits has to come in a moment after the drain."""
        where, rest = Destination.unpack(arrived.request)
        with arrived.connection as connection, contextlib.suppress(OSError):
            request = where._replace(part=NO_PART).pack() + rest
            if not pass_on(self._sock, connection.fileno(), request=request):
                _logger.error("a request that came after the drain could not be given to another worker")

    # -- without descriptors -------------------------------------------------------------------------------

    def _wait_for_descriptors(self) -> None:
        self._check_again()
        if self._throttle.allows():
            _logger.error(
                "no file descriptor is left (limit %s): connections from the master have to wait",
                self._descriptors.limit,
            )

    def _check_descriptors(self) -> None:
        if self._descriptors.have_room():
            self._timer = None
            self.start()
        else:
            self._check_again()

    def _check_again(self) -> None:
        closed = self._engine.make_room(self._descriptors.needed)
        interval = SOON if closed else CHECK_INTERVAL
        self._timer = asyncio.get_running_loop().call_later(interval, self._check_descriptors)
