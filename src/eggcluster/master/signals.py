"""The master's signals, taken while a cluster runs and given back afterwards. Runs in the master."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from types import TracebackType

CLOSE = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
RELOAD = signal.SIGHUP


class MasterSignals:
    """Within the `with` block, `on_signal` gets the number of each signal to close or reload, `on_child` is called
    at SIGCHLD. Outside of the main thread, where Python has no signals, it does nothing."""

    def __init__(self, on_signal: Callable[[int], None], on_child: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self._on_child = on_child
        self._before: dict[int, object] = {}
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (*CLOSE, RELOAD):
            self._before[number] = signal.getsignal(number)
            self._loop.add_signal_handler(number, self._on_signal, number)
        # uvloop keeps add_signal_handler(SIGCHLD) to itself, for subprocesses that we do not start through it.
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, self._wake_for_child)

    def _wake_for_child(self, number: int, frame: object) -> None:
        self._loop.call_soon_threadsafe(self._on_child)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            # SIGCHLD: not the loop's
            with contextlib.suppress(RuntimeError, ValueError):
                self._loop.remove_signal_handler(number)
            if before is not None:
                signal.signal(number, before)  # type: ignore[arg-type]  # it came from getsignal
