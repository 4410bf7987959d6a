"""The listener guard: repairs a listener that application code has shut down (shutdown(2)). Runs in the master.

A worker shares its listener with the master, so a shutdown outlasts the worker: that address would refuse every client
until the master ends, while every worker looks healthy.
"""

import asyncio
import contextlib
import errno
import logging
import select
import socket
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from eggcluster.errors import OptionsError
from eggcluster.kernel.listen_socket import ShutdownWatch, is_shut, undo_shutdown
from eggcluster.master.listening.binding import bind_uds
from eggcluster.master.listening.listeners import Endpoint, Listeners
from eggcluster.model.steering.reuseport_program import GroupOrder

RETRY = 1.0  # seconds until the next try if another process has taken the address meanwhile
LONGEST_PAUSE = 60.0  # seconds between two attempts to replace the workers
WATCH_DELAY = 10.0  # seconds until a new socket is watched: each new socket means that all workers are replaced
COMPLAINT_INTERVAL = 10.0  # seconds between two log lines about the same listener

_logger = logging.getLogger("eggcluster.master")


class ListenerAddress(NamedTuple):
    """A listener's socket address, and its URL for the log."""

    address: Any
    url: str


class ListenerGuard:
    """Watches the listeners from `start` to `close`. A listener that was shut down listens again at once, also in the
    workers that share it. If it cannot, as a Unix socket never can, a new socket takes its place. Then `renew` is
    called with the loop's time, and again until it returns True: no worker has the old socket any more.
    """

    def __init__(self, listeners: Listeners, backlog: int, renew: Callable[[float], bool]) -> None:
        self._listeners = listeners
        self._backlog = backlog
        self._renew = renew
        # Read now: a socket that was shut down may have lost its address.
        self._places = {
            sock: ListenerAddress(sock.getsockname(), endpoint.url_of(sock))
            for sock, endpoint in listeners.everything()
        }
        self._told: dict[socket.socket, float] = {}  # when its shutdown was last logged
        self._failing: set[socket.socket] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._watch: ShutdownWatch | None = None

    def start(self) -> None:
        """Watch from now on, in the running loop. Without epoll(7), which only Linux has, do nothing."""
        if not hasattr(select, "epoll"):
            return
        try:
            self._watch = ShutdownWatch()
            for sock in self._places:
                self._watch.add(sock)
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self._look)
        except OSError as error:
            _logger.warning("the listeners cannot be watched (%s): if a worker shuts one down, it stays so", error)
            self.close()

    def close(self) -> None:
        """Stop watching. Call it before the listeners are closed, because those that workers still have would stay in
        the epoll set. May be called again."""
        if self._watch is None:
            return
        asyncio.get_running_loop().remove_reader(self._watch.fileno())
        self._watch.close()
        self._watch = None
        for timer in self._timers:
            timer.cancel()

    def _look(self) -> None:
        if self._watch is None:
            return
        self._mend_all(self._watch.take_shut())

    def _look_again(self) -> None:
        self._retry = None
        self._mend_all(())

    def _mend_all(self, shut: Collection[socket.socket]) -> None:
        for endpoint in self._listeners.endpoints:
            try:
                self._mend(endpoint, shut)
            except Exception:
                _logger.exception("BUG: the listeners of %s could not be repaired", endpoint.url(1))

    def _mend(self, endpoint: Endpoint, shut: Collection[socket.socket]) -> None:
        """Make all sockets of the endpoint listen: those that were found `shut`, and those that are shut by now."""
        down = [sock for sock in endpoint.sockets if sock in shut or is_shut(sock)]
        self._tell(down)
        if not down:
            return
        if not endpoint.is_group:
            for sock in down:
                self._reopen(endpoint, sock)
        elif len(down) > 1 or not self._begin_alone(endpoint, down[0]):
            self._reset(endpoint)
        self._listeners.attach()

    # -- a group -------------------------------------------------------------------------------------------------

    def _begin_alone(self, endpoint: Endpoint, sock: socket.socket) -> bool:
        """Make one listener of a group listen again, without effect on the others. Return False if another one has been
        shut down, too: then the order of the group is unknown."""
        slot = endpoint.sockets.index(sock) + 1
        endpoint.order.remove(slot)
        others = [each for each in endpoint.sockets if each is not sock]
        if len(endpoint.order.slots) < len(others):
            return False
        if self._reopen(endpoint, sock):
            endpoint.order.append(slot)
        return not any(map(is_shut, others))

    def _reset(self, endpoint: Endpoint) -> None:
        """Make all listeners of a group begin again, in the order of their slots. That takes microseconds; connections
        that waited at any of them are lost."""
        for sock in endpoint.sockets:
            with contextlib.suppress(OSError):
                undo_shutdown(sock)
        listening = [slot for slot, sock in enumerate(list(endpoint.sockets), 1) if self._reopen(endpoint, sock)]
        # If one of them was shut down meanwhile, the kernel's own hash decides until that is repaired.
        endpoint.order = GroupOrder(listening if not any(map(is_shut, endpoint.sockets)) else ())

    # -- one of them ---------------------------------------------------------------------------------------------

    def _reopen(self, endpoint: Endpoint, sock: socket.socket) -> bool:
        """Make a listener listen again, or a new socket in its place. Return False if neither can; then it is tried
        again later."""
        if sock.family == socket.AF_UNIX:
            return self._replace(endpoint, sock)
        try:
            self._listen_again(endpoint, sock)
        except OSError:
            return self._replace(endpoint, sock)
        self._keep_watching(sock)
        if sock in self._failing:
            self._failing.remove(sock)
            _logger.info("the listener at %s listens again", self._places[sock].url)
        return True

    def _listen_again(self, endpoint: Endpoint, sock: socket.socket) -> None:
        undo_shutdown(sock)
        self._prepare(endpoint, sock)
        try:
            sock.bind(self._places[sock].address)  # a port that the kernel had chosen is lost by a shutdown
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: it is still bound
                raise
        sock.listen(self._backlog)

    def _prepare(self, endpoint: Endpoint, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if endpoint.is_group:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    def _replace(self, endpoint: Endpoint, sock: socket.socket) -> bool:
        """Put a new socket at the address of `sock` into its place. Return False if it cannot be bound."""
        assert self._watch is not None
        place = self._places[sock]
        if sock.family == socket.AF_UNIX and self._listeners.uds is None:
            self._tell_failure(sock, "it was given to this cluster, which cannot bind it anew; start the cluster again")
            return False
        try:
            new = self._bind(endpoint, sock)
        except (OSError, OptionsError) as error:
            self._tell_failure(sock, f"{error}; trying again every second")
            if self._retry is None:
                self._retry = self._later(RETRY, self._look_again)
            return False
        self._watch.remove(sock)
        self._listeners.replace(sock, new)
        self._places[new] = self._places.pop(sock)
        self._failing.discard(sock)
        _logger.warning("a new socket listens at %s: the workers are replaced, so that they get it", place.url)
        self._renew_workers(asyncio.get_running_loop().time(), RETRY)
        self._later(WATCH_DELAY, lambda: self._keep_watching(new))
        return True

    def _bind(self, endpoint: Endpoint, sock: socket.socket) -> socket.socket:
        with contextlib.ExitStack() as on_failure:
            if self._listeners.uds is not None and sock.family == socket.AF_UNIX:
                new = on_failure.enter_context(bind_uds(self._listeners.uds, self._listeners.uds_mode))
            else:
                new = on_failure.enter_context(socket.socket(sock.family))
                self._prepare(endpoint, new)
                new.bind(self._places[sock].address)
            new.listen(self._backlog)
            on_failure.pop_all()
        return new

    # -- afterwards ----------------------------------------------------------------------------------------------

    def _renew_workers(self, since: float, pause: float) -> None:
        if not self._renew(since):
            self._later(pause, lambda: self._renew_workers(since, min(2 * pause, LONGEST_PAUSE)))

    def _keep_watching(self, sock: socket.socket) -> None:
        if self._watch is None or sock not in self._places:
            return
        try:
            self._watch.add(sock)
        except OSError as error:
            _logger.warning("the listener at %s cannot be watched any more: %s", self._places[sock].url, error)

    def _tell(self, down: list[socket.socket]) -> None:
        now = asyncio.get_running_loop().time()
        for sock in down:
            if now > self._told.get(sock, float("-inf")) + COMPLAINT_INTERVAL:
                self._told[sock] = now
                url = self._places[sock].url
                _logger.error("a worker has shut down the listener at %s: connections that waited there are lost", url)

    def _tell_failure(self, sock: socket.socket, why: str) -> None:
        if sock not in self._failing:
            self._failing.add(sock)
            _logger.error("the listener at %s cannot listen again: %s", self._places[sock].url, why)

    def _later(self, seconds: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(seconds, act)
        self._timers = [*(timer for timer in self._timers if timer.when() > loop.time()), timer]
        return timer
