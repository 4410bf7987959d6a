"""The request to close: from the master, by a signal, at any moment of a worker's life. Runs in every worker."""

import _thread
import asyncio
import contextlib
import contextvars
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from eggcluster.kernel.threads import start_daemon, wait_steadily
from eggcluster.worker.lifecycle.stacks import application_stacks

_logger = logging.getLogger("eggcluster.worker")
MARGIN = 0.1  # of the close timeout, 0.3 s at most: what holds it up is told before the master's patience ends
MAX_MARGIN = 0.3


class ClosedDuringImport(SystemExit):
    """The order to close came while the application was being imported: there is nothing to close yet."""


class CloseRequest:
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
        """This block cannot await: ClosedDuringImport if the request has come, or comes meanwhile (at its end)."""
        if self.given:
            raise ClosedDuringImport(0)
        yield
        if self.given:
            raise ClosedDuringImport(0)

    def start_watch(self, limit: float) -> None:
        """Have `watch` called in a thread of its own."""
        start_daemon(self.watch, limit, name="egg-close-watch")

    def too_late(self, margin: float) -> None:
        """The close timeout ends in `margin` seconds. Who started the worker ends it."""

    def watch(self, limit: float) -> None:
        margin = min(MAX_MARGIN, limit * MARGIN)
        if wait_steadily(self._over, limit - margin):
            return
        where = application_stacks(self._loop, self._thread) or "no code of the application"
        if (context := self._context) is not None:
            context.run(_logger.warning, "close timeout: not done after %gs; it was at\n%s", limit, where)
            self.too_late(margin)


CLOSE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
OWN_END = 0.5  # seconds after the close timeout; nobody else ends a worker that was not closed by its master


class CloseSignals(CloseRequest):
    """An order that comes as a signal, from `take` on. It may interrupt what cannot be awaited, an import, by raising
    ClosedDuringImport in the main thread; and a process that does not close in time kills itself."""

    def __init__(self) -> None:
        super().__init__()
        self._interrupts = False

    def take(self) -> None:
        """Take the signals over."""
        for number in CLOSE_SIGNALS:
            signal.signal(number, self._on_signal)
        os.register_at_fork(after_in_child=_forget_signals)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        self._interrupts = True
        try:
            if self.given:
                raise ClosedDuringImport(0)
            yield
        finally:
            self._interrupts = False

    def start_watch(self, limit: float) -> None:
        # Not `threading`, whose locks the main thread may hold just now.
        _thread.start_new_thread(self.watch, (limit,))

    def too_late(self, margin: float) -> None:
        wait_steadily(threading.Event(), margin + OWN_END)
        os.kill(os.getpid(), signal.SIGKILL)

    def _on_signal(self, number: int, frame: Any) -> None:
        self.give()
        if self._interrupts:
            raise ClosedDuringImport(0)


def _forget_signals() -> None:
    """In a process that the application forks. It shares the socket on which signals wake this worker's loop: a
    SIGTERM meant for it alone would close the worker, and never reach it."""
    signal.set_wakeup_fd(-1)
    for number in CLOSE_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
