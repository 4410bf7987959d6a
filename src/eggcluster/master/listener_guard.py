"""Puts a listener right that application code has shut down (shutdown(2)). Runs in the master.

A worker shares its listener with the master, so what it does to it outlasts the worker: for the rest of the master's
life that address would refuse everybody, while every worker looks healthy.
"""

import asyncio
import errno
import logging
import select
import socket
from collections.abc import Callable

from eggcluster.errors import OptionsError
from eggcluster.kernel.shutdown_watch import ShutdownWatch
from eggcluster.master.binding import bind_uds
from eggcluster.master.listeners import Listeners

RETRY = 1.0  # seconds until the next try, where somebody else has taken the address meanwhile
REST = 10.0  # seconds until a new Unix socket is watched: for each of them all workers are replaced

_logger = logging.getLogger("eggcluster.master")


class ListenerGuard:
    """Watches the listeners from `start` to `close`. A TCP one listens again at once, also for the workers that have
    it. A Unix one cannot: a new one takes its path, and `reload` is called, so that there are workers who have that.
    """

    def __init__(self, listeners: Listeners, backlog: int, reload: Callable[[], None]) -> None:
        self._listeners = listeners
        self._backlog = backlog
        self._reload = reload
        self._addresses = {sock: sock.getsockname() for sock, _ in listeners.everything()}
        self._watch: ShutdownWatch | None = None

    def start(self) -> None:
        """Watch from now on, in the running loop. Where there is no epoll(7), not on Linux, it does nothing."""
        if not hasattr(select, "epoll"):
            return
        try:
            self._watch = ShutdownWatch()
            for sock in self._addresses:
                self._watch.add(sock)
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self._put_right)
        except OSError as error:
            _logger.warning("a listener that a worker shuts down stays so: it cannot be watched (%s)", error)
            self.close()

    def close(self) -> None:
        """Before the listeners are closed: what workers still hold of them would stay in the watch. May be called
        again."""
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def _put_right(self) -> None:
        if self._watch is None:
            return
        shut = self._watch.take_shut()
        for sock in shut:  # all of them, in their order, before the first listens again
            door = self._listeners.door_of(sock)
            door.ceased(sock)
            _logger.error("a worker has shut down the listener at %s: what waited there is lost", door.url_of(sock))
        for sock in shut:
            self._mend(sock)
        self._listeners.attach()

    def _mend(self, sock: socket.socket, *, again: bool = False) -> None:
        """Now, or as soon as it can be done."""
        if self._watch is None:
            return
        try:
            if sock.family != socket.AF_UNIX:
                self._listen_again(sock, self._watch)
            elif self._listeners.uds is not None:
                self._renew(self._listeners.uds)
            else:
                _logger.error("it was given to this cluster, which cannot bind it anew: start the cluster again")
        except (OSError, OptionsError) as error:
            if not again:
                _logger.error("it cannot listen again, which is tried every second: %s", error)
            asyncio.get_running_loop().call_later(RETRY, lambda: self._mend(sock, again=True))

    def _listen_again(self, sock: socket.socket, watch: ShutdownWatch) -> None:
        try:
            sock.bind(self._addresses[sock])  # a port that the kernel had chosen is lost with the shutdown
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: it is bound still
                raise
        sock.listen(self._backlog)
        watch.add(sock)
        door = self._listeners.door_of(sock)
        door.began(sock)
        self._listeners.attach()
        _logger.info("the listener at %s listens again", door.url_of(sock))

    def _renew(self, path: str) -> None:
        new = bind_uds(path)
        try:
            new.listen(self._backlog)
        except OSError:
            new.close()
            raise
        self._listeners.replace_uds(new)
        _logger.warning("there is a new socket at %s, and the workers are replaced, so that they have it", path)
        self._reload()
        asyncio.get_running_loop().call_later(REST, self._watch_renewed, new)

    def _watch_renewed(self, new: socket.socket) -> None:
        if self._watch is not None:
            self._watch.add(new)
