"""The master's signals, taken while a cluster runs and given back afterwards. Runs in the master."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from eggcluster.kernel.signal_actions import follow_hang_ups, is_handled, is_ignored

CLOSE = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
RELOAD = signal.SIGHUP
# They end a process by default. Other servers have a use for them, so somebody's log rotation will send them.
MEANINGLESS = (signal.SIGUSR1, signal.SIGUSR2)

_logger = logging.getLogger("eggcluster.master")

# One process may hold several masters (`start_cluster`), which end in any order. So the handlers are the process's:
# the first master sets them, the last one gives them back, and a signal goes to all of them.
_taking: list["MasterSignals"] = []
_before: dict[int, object] = {}


class MasterSignals:
    """Within the `with` block, `on_signal` gets the number of each signal to close or reload. Outside of the main
    thread, where Python has no signals, it does nothing.

    `on_hang_up`: the process is nothing but the master. It ends with the block, and with an exit code that no late
    signal may change any more; signals that mean nothing to a master do nothing to it; `on_child` is called at
    SIGCHLD, `on_hang_up` where SIGHUP says that its terminal has gone.
    """

    def __init__(
        self,
        on_signal: Callable[[int], None],
        on_child: Callable[[], None],
        on_hang_up: Callable[[], None] | None = None,
    ) -> None:
        self._on_signal = on_signal
        self._on_child = on_child
        self._on_hang_up = on_hang_up
        self._for_good = on_hang_up is not None
        self._pending: set[int] = set()  # came, and not yet delivered
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if not _taking:
            # Not the loop's add_signal_handler: several masters may have them, and uvloop keeps SIGCHLD's.
            for number in (*CLOSE, RELOAD):
                _take(number, _pass_on)
        if not self._for_good:
            # Else it stays the program's: its loop may wait for children of its own by it, as uvloop does. Ignored, it
            # would take the workers' exit codes away.
            if is_ignored(signal.SIGCHLD):
                _take(signal.SIGCHLD, signal.SIG_DFL)
        else:
            for number in (signal.SIGCHLD, *MEANINGLESS):
                _take(number, _pass_on)
            # Under `stty tostop` a log line would stop a master in the background.
            _take(signal.SIGTTOU, signal.SIG_IGN)
            if signal.getsignal(RELOAD) is not signal.SIG_IGN:
                follow_hang_ups(self._hang_up_or_reload)
        _taking.append(self)
        if self._for_good:
            self.take(signal.SIGCHLD)  # who ended before that, of a shell that became the master, has told nobody

    def take(self, number: int) -> None:
        """A signal has come; what it means is done in the master's loop. As in the kernel, the same one again is
        none as long as the first waits: a hail of signals must not keep the loop from everything else."""
        if number not in self._pending:
            self._pending.add(number)
            self._loop.call_soon_threadsafe(self._deliver, number)

    def _hang_up_or_reload(self, is_hang_up: bool) -> None:
        """Called in a thread."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed: the process ends
            if not is_hang_up:
                self.take(RELOAD)
            elif self._on_hang_up is not None:
                self._loop.call_soon_threadsafe(self._on_hang_up)

    def _deliver(self, number: int) -> None:
        self._pending.discard(number)
        if number == signal.SIGCHLD:
            self._on_child()
        elif number in MEANINGLESS:
            _logger.warning("receive signal %s, which means nothing to a master", signal.Signals(number).name)
        else:
            self._on_signal(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self not in _taking:
            return
        _taking.remove(self)
        if self._for_good:
            sys.unraisablehook = _report_unraisable
            for number in (*CLOSE, RELOAD, *MEANINGLESS):  # not blocked, which would be this thread's affair alone
                signal.signal(number, signal.SIG_IGN)
        elif not _taking:
            _give_back()


def _take(number: signal.Signals, handler: Callable[[int, object], None] | signal.Handlers) -> None:
    """Set a handler; but whoever starts a program with SIGHUP ignored, as nohup does, means it."""
    if number == RELOAD and signal.getsignal(number) is signal.SIG_IGN:
        return
    _before[number] = signal.signal(number, handler)


def _pass_on(number: int, frame: object) -> None:
    for master in list(_taking):
        master.take(number)


def _report_unraisable(what: "sys.UnraisableHookArgs") -> None:
    """As ever; but that a signal came a moment before it was ignored is nothing to tell, and Python tells it so."""
    if not (isinstance(what.exc_value, OSError) and "ignored due to race condition" in str(what.exc_value)):
        sys.__unraisablehook__(what)


def _forget() -> None:
    """In a process that was forked, by the application in a worker's thread say: its signals are its own."""
    if _taking:
        _taking.clear()
        signal.set_wakeup_fd(-1)  # the loop's, which is its parent's, too
        _give_back()


os.register_at_fork(after_in_child=_forget)


def _give_back() -> None:
    for number, before in _before.items():
        if before is None:  # a handler that was not set by Python, which cannot set it again either
            continue
        if number == signal.SIGCHLD and not callable(signal.getsignal(number)) and is_handled(number):
            continue  # by somebody in C: the program waits for children of its own by now
        signal.signal(number, before)  # type: ignore[arg-type]  # it came from signal.signal
    _before.clear()
