"""The master's signal handlers: set while a cluster runs, and restored afterwards. Runs in the master."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from eggcluster.kernel.exit_flag import exit_flag
from eggcluster.kernel.signal_actions import (
    TERMINAL_SIGNALS,
    follow_blocked,
    has_terminal,
    is_handled,
    is_ignored,
    is_terminals_end,
    signal_name,
    unblock_signals,
)

CLOSE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
RELOAD_SIGNAL = signal.SIGHUP
# By default they end a process. Other servers reopen log files or upgrade at SIGUSR1 and SIGUSR2, so a log rotation may
# send them; a timer or a profiler sends others. (SIGPWR and SIGSTKFLT are Linux's, as are the real-time signals.)
_UNUSED = ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPROF", "SIGVTALRM", "SIGIO", "SIGPWR", "SIGSTKFLT")
_REAL_TIME = range(signal.SIGRTMIN, signal.SIGRTMAX + 1) if hasattr(signal, "SIGRTMIN") else range(0)
UNUSED_SIGNALS = (*(getattr(signal, name) for name in _UNUSED if hasattr(signal, name)), *_REAL_TIME)

_logger = logging.getLogger("eggcluster.master")

# A process may hold several masters (`start_cluster`), which end in any order. So the handlers belong to the process:
# the first master sets them, the last one restores the previous ones, and a signal goes to all masters.
_active: list["MasterSignals"] = []
_previous_handlers: dict[int, object] = {}


class MasterSignals:
    """Within the `with` block, calls `on_signal` with the number of each signal to close or reload. In another thread
    than the main thread, where Python handles no signals, it does nothing.

    With `on_hang_up` the process is nothing but the master, and ends soon after the block. Then `on_child` is called
    at SIGCHLD, and `on_hang_up` at a SIGHUP that came because the terminal has gone. Unused signals are logged, also
    SIGTTIN and SIGTTOU, which are blocked (`block_terminal_signals`). After the block signals are ignored, so that a
    late one does not change the exit code. With `for_threads` the workers are threads: their libraries find
    `should_exit` at the owner of the handlers.
    """

    def __init__(
        self,
        on_signal: Callable[[int], None],
        on_child: Callable[[], None],
        on_hang_up: Callable[[], None] | None = None,
        *,
        for_threads: bool = False,
    ) -> None:
        self._on_signal = on_signal
        self._on_child = on_child
        self._on_hang_up = on_hang_up
        self._owns_process = on_hang_up is not None
        self._handler = ThreadExitFlag().dispatch if for_threads else _dispatch
        self._pending: set[int] = set()  # received, and not yet delivered
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if not _active:
            # Not the loop's add_signal_handler: it has one callback per signal, and uvloop keeps SIGCHLD for itself.
            for number in (*CLOSE_SIGNALS, RELOAD_SIGNAL):
                _set_handler(number, self._handler)
        _active.append(self)
        if self._owns_process:
            self._enter_own_process()
        elif is_ignored(signal.SIGCHLD):
            # While SIGCHLD is ignored, the kernel discards exit codes (waitpid(2)), the workers' included. A handler
            # stays the program's: its loop may wait for children of its own with it, as uvloop does.
            _set_handler(signal.SIGCHLD, signal.SIG_DFL)

    def _enter_own_process(self) -> None:
        for number in (signal.SIGCHLD, *UNUSED_SIGNALS):
            _set_handler(number, self._handler)
        hangs_up = signal.getsignal(RELOAD_SIGNAL) is not signal.SIG_IGN and has_terminal()
        follow_blocked({*TERMINAL_SIGNALS, *([RELOAD_SIGNAL] if hangs_up else [])}, self._take_blocked)
        # Children of a shell that became the master may have ended before the handler was set.
        self.take(signal.SIGCHLD)

    def take(self, number: int) -> None:
        """Pass a signal to the master's loop. As in the kernel, a signal that is pending already is not queued again:
        a flood of signals must not keep the loop busy."""
        if number not in self._pending:
            self._pending.add(number)
            self._loop.call_soon_threadsafe(self._deliver, number)

    def _take_blocked(self, info: signal.struct_siginfo) -> None:
        """Handle a signal that is blocked; called in a thread."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed: the process ends
            if info.si_signo != RELOAD_SIGNAL or not is_terminals_end(info):
                self.take(info.si_signo)
            elif self._on_hang_up is not None:
                self._loop.call_soon_threadsafe(self._on_hang_up)

    def _deliver(self, number: int) -> None:
        self._pending.discard(number)
        if number == signal.SIGCHLD:
            self._on_child()
        elif number in UNUSED_SIGNALS or number in TERMINAL_SIGNALS:
            _logger.warning("receive signal %s, which a master does not use", signal_name(number))
        else:
            self._on_signal(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self not in _active:
            return
        _active.remove(self)
        if self._owns_process:
            sys.unraisablehook = _report_unraisable
            for number in (*CLOSE_SIGNALS, RELOAD_SIGNAL, *UNUSED_SIGNALS):
                signal.signal(number, signal.SIG_IGN)  # not blocked: that would hold for this thread alone
        elif not _active:
            _restore_handlers()


def _set_handler(number: int, handler: Callable[[int, object], None] | signal.Handlers) -> None:
    """Set a handler. A SIGHUP that is ignored from the start, as by nohup(1), stays ignored."""
    if number == RELOAD_SIGNAL and signal.getsignal(number) is signal.SIG_IGN:
        return
    _previous_handlers[number] = signal.signal(number, handler)


def _dispatch(number: int, frame: object) -> None:
    for master in list(_active):
        with contextlib.suppress(RuntimeError):  # that master's loop has been closed, and it ends
            master.take(number)


class ThreadExitFlag:
    """Owns the handlers where workers are threads of this process; answers for the worker that asks.

    Not where they have interpreters of their own: those see the same handler, and would run this code of another one.
    """

    @property
    def should_exit(self) -> bool:
        return exit_flag.get().should_exit

    def dispatch(self, number: int, frame: object) -> None:
        """Pass a signal to every master of this process."""
        _dispatch(number, frame)


def _report_unraisable(what: "sys.UnraisableHookArgs") -> None:
    """Report as Python does, but not "ignored due to race condition": so Modules/signalmodule.c reports a signal that
    came a moment before it was ignored."""
    if not (isinstance(what.exc_value, OSError) and "ignored due to race condition" in str(what.exc_value)):
        sys.__unraisablehook__(what)


def _restore_after_fork() -> None:
    """Restore the handlers in a forked child, such as one that the application forks in a worker's thread."""
    if _active:
        if any(master._owns_process for master in _active):
            unblock_signals()
        _active.clear()
        signal.set_wakeup_fd(-1)  # the fd of the loop, which the child shares with its parent
        _restore_handlers()


os.register_at_fork(after_in_child=_restore_after_fork)


def _restore_handlers() -> None:
    for number, previous in _previous_handlers.items():
        if previous is None:  # a handler that was not set by Python, so Python cannot set it again
            continue
        if number == signal.SIGCHLD and not callable(signal.getsignal(number)) and is_handled(number):
            continue  # set in C meanwhile, as uvloop does: the program waits for children of its own
        signal.signal(number, previous)  # type: ignore[arg-type]  # it came from signal.signal
    _previous_handlers.clear()
