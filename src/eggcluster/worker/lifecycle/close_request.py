"""The close request, which may come at any moment of a worker's life. Runs in agent and app workers."""

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

from eggcluster.kernel.stacks import application_stacks
from eggcluster.kernel.threads import start_daemon, wait_steadily
from eggcluster.logs import Report
from eggcluster.worker.lifecycle.debugger_prompt import quit_debugger
from eggcluster.worker.lifecycle.signal_takers import SignalTakers

_logger = logging.getLogger("eggcluster.worker")
REPORT_MARGIN = 0.1  # of the close timeout: this long before its end the log says what holds the closing up
MAX_REPORT_MARGIN = 0.3  # seconds


def report_at(limit: float) -> float:
    """Return after how many of the `limit` seconds the log says what holds the closing up."""
    return limit - min(MAX_REPORT_MARGIN, limit * REPORT_MARGIN)


class ClosedDuringImport(SystemExit):
    """The close request came while the application was being imported: there is nothing to close yet."""


class CloseRequest:
    """The close request of one worker. It sets the event given to `notify`, also if it came earlier. Once it has come,
    no `interruptible` block begins.

    `limit` is the close timeout in seconds. The request starts it, even if the event loop is blocked; shortly before
    its end the log says what holds the closing up. `thread` is the worker's thread if several workers share the
    process.
    """

    def __init__(self, thread: int | None = None) -> None:
        self._thread = thread
        self.is_set = False
        self.limit: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None
        self._context: contextvars.Context | None = None  # the log lines carry the name of its worker
        self._over = threading.Event()

    @property
    def should_exit(self) -> bool:
        """The same as `is_set`, under the name by which libraries ask for it: see kernel/exit_flag.py."""
        return self.is_set

    def end(self) -> None:
        """Release the event and the loop: the worker has closed, but its process may go on. The watch's thread ends
        later."""
        self._over.set()
        self._event = self._loop = self._context = None

    def set(self) -> None:
        """Record the request. May be called from any thread, within a signal handler, and again."""
        if not self.is_set:
            self.is_set = True
            if self.limit is not None:
                with contextlib.suppress(RuntimeError):  # the interpreter is ending already
                    self._context = contextvars.copy_context()
                    self.start_watch(self.limit)
        if self._event is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed: the worker is ending
                self._loop.call_soon_threadsafe(self._event.set)

    def order(self) -> None:
        """Take the master's order to close, which has come over the channel."""
        self.set()

    def notify(self, event: asyncio.Event) -> None:
        """Set `event`, which belongs to the running loop, when the request comes; at once if it has come already."""
        self._event, self._loop = event, asyncio.get_running_loop()
        if self.is_set:
            event.set()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Run a block that cannot await. Raise ClosedDuringImport if the request has come: before the block, or at its
        end if the request came meanwhile."""
        if self.is_set:
            raise ClosedDuringImport(0)
        yield
        if self.is_set:
            raise ClosedDuringImport(0)

    def start_watch(self, limit: float) -> None:
        """Call `watch` in a thread of its own."""
        start_daemon(self.watch, limit, name="egg-close-watch")

    def too_late(self, margin: float) -> None:
        """Do nothing: the close timeout ends in `margin` seconds, and then the master ends the worker."""

    def watch(self, limit: float) -> None:
        """Wait for `end`. If it does not come in time, log what holds the closing up, and call `too_late`."""
        if wait_steadily(self._over, report_at(limit)):
            return
        where = application_stacks(self._loop, self._thread) or "no code of the application"
        if (context := self._context) is not None:
            context.run(_logger.warning, "close timeout: not done after %gs; it was at%s", limit, Report(f"\n{where}"))
            self.too_late(limit - report_at(limit))


CLOSE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
SELF_KILL_DELAY = 0.5  # seconds after the close timeout; else only a closing that the master began would end the worker


class CloseSignals(CloseRequest):
    """A close request that comes as a signal, from `take` on. It interrupts an import, which cannot be awaited, by
    raising ClosedDuringImport in the main thread. A process that does not close in time kills itself."""

    def __init__(self) -> None:
        super().__init__()
        self._interrupts = False
        self._takers = SignalTakers()

    def take(self) -> None:
        """Install the signal handlers; processes that the application forks do not keep them."""
        for number in CLOSE_SIGNALS:
            signal.signal(number, self._on_signal)
        os.register_at_fork(after_in_child=_forget_signals)

    def order(self) -> None:
        super().order()
        if (taker := self._takers.of(signal.SIGTERM, self._on_signal)) is not None:
            _logger.warning("SIGTERM is not eggcluster's any more, %s; closing by the master's order", taker)
            self._takers.pass_on(signal.SIGTERM)

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note what the application gives to `loop.add_signal_handler`."""
        self._takers.follow(loop)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        self._interrupts = True
        try:
            if self.is_set:
                raise ClosedDuringImport(0)
            yield
        finally:
            self._interrupts = False

    def start_watch(self, limit: float) -> None:
        # Not `threading`: the main thread may hold its locks at this moment.
        _thread.start_new_thread(self.watch, (limit,))

    def too_late(self, margin: float) -> None:
        wait_steadily(threading.Event(), margin + SELF_KILL_DELAY)
        os.kill(os.getpid(), signal.SIGKILL)

    def _on_signal(self, number: int, frame: Any) -> None:
        self.set()
        if self._interrupts:
            raise ClosedDuringImport(0)
        quit_debugger(frame)


def _forget_signals() -> None:
    """Reset the signals in a process that the application has forked. It shares the socket on which signals wake this
    worker's loop: a SIGTERM meant for it would close the worker instead."""
    signal.set_wakeup_fd(-1)
    for number in CLOSE_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
