"""How a worker shows that its loop moves, and says where its boot stood still. Runs in every worker.

The master's own limit stands behind it, for workers that cannot run Python at all (a C extension that holds the GIL).
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.kernel.threads import start_daemon, wait_steadily
from eggcluster.model.lives.health import BEAT_INTERVAL
from eggcluster.model.lives.worker import Heartbeat
from eggcluster.worker.engines.engine import Load
from eggcluster.worker.lifecycle.stacks import stack_of, thread_frames, waiting


class HeartbeatWriter:
    """Beats from `start` on as long as the loop runs; a loop that stands still is one that is silent."""

    def __init__(self, record: HeartbeatPage, load: Callable[[], Load]) -> None:
        self._record = record
        self._load = load

    def start(self) -> None:
        """Beat for the first time, at once."""
        self._beat(time.monotonic())

    def _beat(self, due: float) -> None:
        now = time.monotonic()  # not the loop's own clock, which uvloop rounds to milliseconds
        self._record.write(Heartbeat(now, max(0.0, now - due), *self._load()))
        asyncio.get_running_loop().call_later(BEAT_INTERVAL, self._beat, now + BEAT_INTERVAL)


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
        delay = deadline - min(MAX_MARGIN, timeout * MARGIN) - time.monotonic()
        self._stopped = threading.Event()
        start_daemon(self._watch, delay, name="egg-start-watch")

    def stop(self) -> None:
        """The boot is over; may be called again. The thread, which ends soon, keeps nothing of it."""
        self._stopped.set()
        self._report, self._coroutine = lambda text: None, lambda: None

    def _watch(self, delay: float) -> None:
        if not wait_steadily(self._stopped, delay):
            self._tell()

    def _tell(self) -> None:
        boot = self._coroutine()
        if boot is not None and not boot.cr_running:
            stack = stack_of(waiting(boot))
        else:
            stack = stack_of(thread_frames(self._main))
        text = f"start timeout: not ready after {self._timeout:g}s"
        self._report(f"{text}; it was at\n{stack}".rstrip() if stack else text)


def send_from_thread(sock: socket.socket, frame: bytes) -> None:
    """Write a whole frame past the event loop, which may be blocked; the socket takes it in one piece or not at all."""
    with contextlib.suppress(OSError):
        sock.send(frame)
