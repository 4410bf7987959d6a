"""The order to close, which may come at any moment of a worker's life. Runs in every worker."""

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Iterator

from eggcluster.kernel.daemon_thread import start_daemon
from eggcluster.kernel.patience import wait_steadily
from eggcluster.worker.whereabouts import whereabouts

_logger = logging.getLogger("eggcluster.worker")
MARGIN = 0.1  # of the close timeout, 0.3 s at most: what holds it up is told before the master's patience ends
MAX_MARGIN = 0.3


class LeaveEarly(SystemExit):
    """The order to close came while the application was being imported: there is nothing to close yet."""


class CloseOrder:
    """Say with `tell` who wants to hear of it; what comes before that is remembered. What runs as `interruptible`
    is not begun once it has come.

    `limit` is the close timeout in seconds. With the order it begins to run, whatever the event loop does: shortly
    before its end the log tells what holds the closing up. `thread` is the worker's, where it is one of several.
    """

    def __init__(self, thread: int | None = None) -> None:
        self._thread = thread
        self.given = False
        self.limit: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None
        self._context: contextvars.Context | None = None  # in whose name the log speaks
        self._over = threading.Event()

    def end(self) -> None:
        """The worker has closed; its process may go on. The watch, which ends soon, keeps nothing of it."""
        self._over.set()
        self._event = self._loop = self._context = None

    def give(self) -> None:
        """The order has come; from any thread, and at any point of a signal's handler. May come again."""
        if not self.given:
            self.given = True
            if self.limit is not None:
                with contextlib.suppress(RuntimeError):  # the interpreter is ending already
                    self._context = contextvars.copy_context()
                    self.start_watch(self.limit)
        if self._event is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed: it is on its way out
                self._loop.call_soon_threadsafe(self._event.set)

    def tell(self, event: asyncio.Event) -> None:
        """From now on the order sets `event`, of the running loop; at once if it has come already."""
        self._event, self._loop = event, asyncio.get_running_loop()
        if self.given:
            event.set()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """This block cannot await the order: LeaveEarly if it has come already, and at its end if it came meanwhile."""
        if self.given:
            raise LeaveEarly(0)
        yield
        if self.given:
            raise LeaveEarly(0)

    def start_watch(self, limit: float) -> None:
        """Have `watch` called in a thread of its own."""
        start_daemon(self.watch, limit, name="egg-close-watch")

    def too_late(self, margin: float) -> None:
        """The close timeout ends in `margin` seconds. Who started the worker ends it."""

    def watch(self, limit: float) -> None:
        margin = min(MAX_MARGIN, limit * MARGIN)
        if wait_steadily(self._over, limit - margin):
            return
        where = whereabouts(self._loop, self._thread) or "no code of the application"
        if (context := self._context) is not None:
            context.run(_logger.warning, "close timeout: not done after %gs; it was at\n%s", limit, where)
            self.too_late(margin)
