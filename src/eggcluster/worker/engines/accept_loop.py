"""The worker's door: accepts connections while there are file descriptors for them. Runs in the app workers.

Ours and not the event loop's, for the day on which the descriptors run out: libuv then accepts what waits and closes
it (its "emfile trick"), and every client is reset. Here they wait in the kernel's queue, for as long as it takes to
close connections that wait for their clients. It costs no more: where connections come fast, several are accepted at a
time.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence

from eggcluster.kernel.descriptors import Descriptors
from eggcluster.kernel.inherited_sockets import InheritedSocket
from eggcluster.kernel.listen_socket import is_shut
from eggcluster.kernel.tcp_info import waiting_connections

AT_ONCE = 8  # connections accepted before those that are there have their turn; nginx's multi_accept is without limit
REST = 0.05  # seconds without accepting where a listener does not listen, or the worker is full
LOOK = 0.25  # seconds between two looks whether there are descriptors again
SOON = 0.01  # seconds until a look after connections were closed to make room
SETTLED = 5.0  # seconds without a shortage after which one is over: connections come and go, the log need not tell each
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}  # accept(2)

_logger = logging.getLogger("eggcluster.worker")

Take = Callable[[socket.socket], None]


class AcceptLoop:
    """Gives what it accepts to the `take` of the listener. `connections` says how many are being served."""

    def __init__(
        self,
        listeners: Sequence[tuple[InheritedSocket, Take]],
        connections: Callable[[], int],
        make_room: Callable[[int], int],
        *,
        alone: bool,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        """`make_room` closes at least so many connections that can be done without, and returns how many it did.

        `alone`: no other worker accepts from these listeners. From a shared one each takes one at a time, and none
        while `is_full()`.
        """
        self._listeners = listeners
        self._connections = connections
        self._make_room = make_room
        self._at_once = AT_ONCE if alone else 1
        self._is_full: Callable[[], bool] = (lambda: False) if alone else is_full
        self._descriptors = Descriptors()
        self._timer: asyncio.TimerHandle | None = None
        self._short_since: float | None = None
        self._resting = False
        self.is_open = False

    def open(self) -> None:
        """Accept from now on."""
        self.is_open = True
        loop = asyncio.get_running_loop()
        for listener, take in self._listeners:
            if not listener.is_lost:
                loop.add_reader(listener.fileno(), self._accept, listener, take)

    def close(self) -> None:
        """Accept nothing more, for good. What the kernel has connected already is taken in: nobody else may come."""
        if self._timer is not None:
            self._timer.cancel()
        if self.is_open:
            self._shut()
            for listener, take in self._listeners:
                if not listener.is_lost:
                    listener.setblocking(False)  # as it was, but whoever shares it can unset that
                    while self._accept_one(listener, take):
                        pass
        for listener, _ in self._listeners:
            listener.close()

    def _accept(self, listener: socket.socket, take: Take) -> None:
        if not self.is_open:
            return  # of a number that somebody else had closed the loop may hear after all
        if self._is_full():
            self._rest()  # another worker takes it; if all are full, the connections wait in the kernel
        elif self._accept_one(listener, take) and self._at_once > 1:
            for _ in range(min(waiting_connections(listener), self._at_once - 1)):
                if not self._accept_one(listener, take):
                    return

    def _accept_one(self, listener: socket.socket, take: Take) -> bool:
        """False where there was none, or may be none after it."""
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._wait_for_descriptors()
            elif is_shut(listener):
                self._rest()
            return False  # nobody there; or what was there has failed, which concerns nobody else
        connection.setblocking(False)
        room = connection.fileno() < self._descriptors.ceiling  # open(2): it is the lowest one that was free
        take(connection)
        if not room:
            self._wait_for_descriptors()
        return room

    def _rest(self) -> None:
        """Accept nothing for a moment: the worker is full, or a listener has been shut down, which the master puts
        right. Until then the loop would not come to rest."""
        if self.is_open and not self._resting:
            self._resting = True
            self._stop_reading()
            asyncio.get_running_loop().call_later(REST, self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        if self.is_open:
            self.open()

    # -- without descriptors -------------------------------------------------------------------------------

    def _shut(self) -> None:
        self.is_open = False
        self._stop_reading()

    def _stop_reading(self) -> None:
        loop = asyncio.get_running_loop()
        for listener, _ in self._listeners:
            if not listener.is_lost:
                loop.remove_reader(listener.fileno())

    def _wait_for_descriptors(self) -> None:
        if not self.is_open:
            return
        self._shut()
        if self._timer is not None:
            self._timer.cancel()
        self._complain()
        self._look_again()

    def _look_again(self) -> None:
        closed = self._make_room(self._descriptors.needed)
        self._timer = asyncio.get_running_loop().call_later(SOON if closed else LOOK, self._look)

    def _complain(self) -> None:
        if self._short_since is None:
            self._short_since = asyncio.get_running_loop().time()
            _logger.error(
                "no file descriptor is left (limit %s) beside %d connections: idle ones are closed, new ones may wait",
                self._descriptors.limit,
                self._connections(),
            )

    def _look(self) -> None:
        if self._descriptors.have_room():
            self.open()
            self._timer = asyncio.get_running_loop().call_later(SETTLED, self._settle)
        else:
            self._look_again()

    def _settle(self) -> None:
        assert self._short_since is not None
        seconds = asyncio.get_running_loop().time() - self._short_since
        self._short_since = self._timer = None
        _logger.warning(
            "there are file descriptors again: connections had to wait at times for %.0fs", seconds - SETTLED
        )
