"""Heartbeats of the event loop, and the report of a boot that takes too long. Runs in agent and app workers.

The master has a limit of its own, for workers that cannot run Python at all (a C extension that holds the GIL).
"""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.kernel.stacks import called_stacks, stack_of, thread_frames, waiting
from eggcluster.kernel.threads import start_daemon, wait_steadily
from eggcluster.kernel.throttle import Throttle
from eggcluster.model.lives.health import BEAT_INTERVAL
from eggcluster.model.lives.worker import Heartbeat
from eggcluster.worker.engines.engine import Load

COMPLAINT_INTERVAL = 60.0  # seconds

_logger = logging.getLogger("eggcluster.worker")


class HeartbeatWriter:
    """Writes a heartbeat every BEAT_INTERVAL from `start` on, for as long as the loop runs."""

    def __init__(self, record: HeartbeatPage, load: Callable[[], Load]) -> None:
        self._record = record
        self._load = load
        self._throttle = Throttle(COMPLAINT_INTERVAL)

    def start(self) -> None:
        """Write the first heartbeat at once."""
        self._beat(time.monotonic())

    def _beat(self, due: float) -> None:
        now = time.monotonic()  # not the loop's own clock, which uvloop rounds to milliseconds
        self._record.write(self._heartbeat(now, late=max(0.0, now - due)))
        asyncio.get_running_loop().call_later(BEAT_INTERVAL, self._beat, now + BEAT_INTERVAL)

    def _heartbeat(self, now: float, late: float) -> Heartbeat:
        load = self._current_load()
        return Heartbeat(
            beat=now,
            lag=late,
            requests=load.requests,
            connections=load.connections,
            accepting=load.accepting,
            accepted=load.accepted,
            full=load.full,
            lost_threads=load.lost_threads,
        )

    def _current_load(self) -> Load:
        """Return the load. One that cannot be told ends no heartbeat: a worker that serves would be killed as hung."""
        try:
            return self._load()
        except Exception:
            if self._throttle.allows():
                _logger.exception("BUG: the load of this worker is unknown")
            return Load()


REPORT_LEAD = 0.1  # of the start timeout: the report has to reach the master before the master acts
MAX_REPORT_LEAD = 0.3  # seconds


class StartWatch:
    """Calls `report` with the stack of the boot shortly before `deadline`, unless `stop` is called before.

    `deadline` is an instant of CLOCK_MONOTONIC, which is the same in all processes. `coroutine` returns the boot's
    coroutine once there is one: while that waits, the main thread's own stack shows only the event loop.
    """

    def __init__(
        self, deadline: float, timeout: float, report: Callable[[str], None], coroutine: Callable[[], Any]
    ) -> None:
        self._timeout = timeout
        self._report = report
        self._coroutine = coroutine
        self._main = threading.get_ident()
        delay = deadline - min(MAX_REPORT_LEAD, timeout * REPORT_LEAD) - time.monotonic()
        self._stopped = threading.Event()
        start_daemon(self._watch, delay, name="egg-start-watch")

    def stop(self) -> None:
        """End the watch: the boot is over. May be called again; the thread ends soon and no longer knows the worker."""
        self._stopped.set()
        self._report, self._coroutine = lambda text: None, lambda: None

    def _watch(self, delay: float) -> None:
        if not wait_steadily(self._stopped, delay):
            self._tell()

    def _tell(self) -> None:
        boot = self._coroutine()
        if boot is not None and not boot.cr_running:
            stack = stack_of(waiting(boot)) or called_stacks(self._main)
        else:
            stack = stack_of(thread_frames(self._main))
        text = f"start timeout: not ready after {self._timeout:g}s"
        self._report(f"{text}; it was at\n{stack}".rstrip() if stack else text)


def send_from_thread(sock: socket.socket, frame: bytes) -> None:
    """Write a whole frame without the event loop, which may be blocked; the socket takes all of it or nothing."""
    with contextlib.suppress(OSError):
        sock.send(frame)
