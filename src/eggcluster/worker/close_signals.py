"""The signals that tell a worker's process to close. Runs in its main thread."""

import _thread
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from eggcluster.kernel.patience import wait_steadily
from eggcluster.worker.close_order import CloseOrder, LeaveEarly

CLOSE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
OWN_END = 0.5  # seconds after the close timeout; nobody else ends a worker that was not closed by its master


class CloseSignals(CloseOrder):
    """An order that comes as a signal, from `take` on. It may interrupt what cannot be awaited, an import, by raising
    LeaveEarly in the main thread; and a process that does not close in time kills itself."""

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
                raise LeaveEarly(0)
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
            raise LeaveEarly(0)


def _forget_signals() -> None:
    """In a process that the application forks. It shares the socket on which signals wake this worker's loop: a
    SIGTERM meant for it alone would close the worker, and never reach it."""
    signal.set_wakeup_fd(-1)
    for number in CLOSE_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
