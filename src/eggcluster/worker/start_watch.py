"""The start watch: a worker that is not ready in time says where it was. Runs as a thread in every worker process.

The master's own limit stands behind it, for workers that cannot run Python at all (a C extension that holds the GIL).
"""

import contextlib
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

from eggcluster.model.vital_signs import OVERSLEPT_AFTER
from eggcluster.worker.boot_failure import is_machinery

MARGIN = 0.1  # of the start timeout, 0.3 s at most: the report has to reach the master before it acts
MAX_MARGIN = 0.3
SLICE = 1.0  # seconds of one wait: a process that was stopped meanwhile had less time than the clock says


class StartWatch:
    """Calls `report` with the stack of the boot shortly before `deadline`, unless `stop` was called before.

    `deadline` is an instant of CLOCK_MONOTONIC, which is the same in all processes. `coroutine` gives the boot's
    coroutine once there is one: while it waits, the main thread's own stack shows the event loop only.
    """

    def __init__(
        self, deadline: float, timeout: float, report: Callable[[str], None], coroutine: Callable[[], Any]
    ) -> None:
        self._timeout = timeout
        self._report = report
        self._coroutine = coroutine
        self._main = threading.get_ident()
        self._left = max(0.0, deadline - min(MAX_MARGIN, timeout * MARGIN) - time.monotonic())
        self._over = threading.Event()
        threading.Thread(target=self._run, name="egg-start-watch", daemon=True).start()

    def stop(self) -> None:
        """The boot is over; may be called again."""
        self._over.set()

    def _run(self) -> None:
        while self._left > 0:
            slice = min(SLICE, self._left)
            began = time.monotonic()
            if self._over.wait(slice):
                return
            took = time.monotonic() - began
            self._left -= took if took < slice + OVERSLEPT_AFTER else slice
        self._tell()

    def _tell(self) -> None:
        boot = self._coroutine()
        if boot is not None and not boot.cr_running:
            frames = [*_waiting(boot)]
        else:
            frames = [*traceback.walk_stack(sys._current_frames()[self._main])][::-1]
        own = [(frame, line) for frame, line in frames if not is_machinery(frame.f_code.co_filename)]
        stack = "".join(traceback.StackSummary.extract(iter(own)).format())
        text = f"start timeout: not ready after {self._timeout:g}s"
        self._report(f"{text}; it was at\n{stack}".rstrip() if stack else text)


def _waiting(coroutine: Any) -> Iterator[tuple[FrameType, int]]:
    """The frames of a coroutine and of what it awaits, the outermost first."""
    while isinstance(coroutine, Coroutine) and (frame := getattr(coroutine, "cr_frame", None)) is not None:
        yield frame, frame.f_lineno
        coroutine = getattr(coroutine, "cr_await", None)


def send_from_thread(sock: socket.socket, frame: bytes) -> None:
    """Write a whole frame past the event loop, which may be blocked; the socket takes it in one piece or not at all."""
    with contextlib.suppress(OSError):
        sock.send(frame)
