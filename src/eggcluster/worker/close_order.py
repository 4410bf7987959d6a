"""The order to close, which comes as a signal at any moment of a worker's life. Runs in the worker's main thread."""

import _thread
import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from eggcluster.kernel.patience import wait_steadily
from eggcluster.worker.whereabouts import whereabouts

_logger = logging.getLogger("eggcluster.worker")
CLOSE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
MARGIN = 0.1  # of the close timeout, 0.3 s at most: what holds it up is told before the master's SIGKILL comes
MAX_MARGIN = 0.3
OWN_END = 0.5  # seconds after the close timeout; nobody else ends a worker that was not closed by its master


class LeaveEarly(SystemExit):
    """A signal to close came while the application was being imported: there is nothing to close yet."""


class CloseOrder:
    """`take` the signals, then say with `tell` who wants to hear of it. What comes before that is remembered; only
    while something runs as `interruptible` LeaveEarly is raised in the main thread, as an import cannot be awaited.

    `limit` is the close timeout in seconds. With the first signal it begins to run, whatever the event loop does:
    shortly before its end the log tells what holds the closing up, after it the worker kills itself.
    """

    def __init__(self) -> None:
        self.given = False
        self.limit: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None
        self._interrupts = False

    def take(self) -> None:
        for number in CLOSE_SIGNALS:
            signal.signal(number, self._on_signal)
        os.register_at_fork(after_in_child=_forget_signals)

    def tell(self, event: asyncio.Event) -> None:
        """From now on the order sets `event`, of the running loop; at once if it has come already."""
        self._event, self._loop = event, asyncio.get_running_loop()
        if self.given:
            event.set()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """In this block the order raises LeaveEarly; so it does at once if it has come already."""
        self._interrupts = True
        try:
            if self.given:
                raise LeaveEarly(0)
            yield
        finally:
            self._interrupts = False

    def _on_signal(self, number: int, frame: Any) -> None:
        if not self.given:
            self.given = True
            if self.limit is not None:
                # Not `threading`, whose locks the main thread may hold just now.
                with contextlib.suppress(RuntimeError):  # the interpreter is ending already
                    _thread.start_new_thread(self._watch, (self.limit,))
        if self._interrupts:
            raise LeaveEarly(0)
        if self._event is None or self._loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has been closed: it is on its way out
            self._loop.call_soon_threadsafe(self._event.set)

    def _watch(self, limit: float) -> None:
        never = threading.Event()
        margin = min(MAX_MARGIN, limit * MARGIN)
        wait_steadily(never, limit - margin)
        where = whereabouts(self._loop) or "no code of the application"
        _logger.warning("close timeout: not done after %gs; it was at\n%s", limit, where)
        wait_steadily(never, margin + OWN_END)
        os.kill(os.getpid(), signal.SIGKILL)


def _forget_signals() -> None:
    """In a process that the application forks. It shares the socket on which signals wake this worker's loop: a
    SIGTERM meant for it alone would close the worker, and never reach it."""
    signal.set_wakeup_fd(-1)
    for number in CLOSE_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
