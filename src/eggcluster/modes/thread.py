"""Thread mode: each worker is a thread of the master's process, with an event loop of its own. Runs in the master.

A thread cannot be killed. Where a process gets signals, a thread gets bytes (`worker/threads/thread_signals.py`). A
thread that does not react is abandoned: it still runs, and the master no longer waits for it.
"""

import asyncio
import contextlib
import contextvars
import importlib
import logging
import os
import socket
import threading
from collections.abc import Sequence

import msgspec

from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.ipc.worker_spec import CLOSE_REQUEST, STACKS_REQUEST, WorkerSpec, send_first, with_copies
from eggcluster.kernel.threads import await_steadily
from eggcluster.model.lives.phase import ExitCode
from eggcluster.model.lives.worker import ExitReport
from eggcluster.model.messages.role import Role
from eggcluster.modes.worker_handle import StopOutcome, WorkerHandle

STACKS_TIMEOUT = 1.0  # seconds in which a hung thread may write its stacks
HUNG_CLOSE_GRACE = 0.2  # seconds in which a hung thread may close; after that it is abandoned
ENTRY = "eggcluster.worker.threads.thread_worker"  # by name: the worker's side is loaded in the worker's thread only

_logger = logging.getLogger("eggcluster.master")


def start_by_worker_threads(spec: WorkerSpec, fds: Sequence[int]) -> "ThreadWorker":
    """Start a worker as a thread that gets copies of `fds`; OSError if the system refuses."""
    return ThreadWorker(spec, fds)


class ThreadWorker(WorkerHandle):
    """A worker that is a thread. The threads and processes that it starts cannot be told from others."""

    last_resort = "abandon"

    def __init__(self, spec: WorkerSpec, fds: Sequence[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()  # the master's
        self._speaker = spec.speaker
        self._ended = asyncio.Event()  # the thread has ended
        self._gone = asyncio.Event()  # the thread has ended or is abandoned, so the worker is gone for the master
        self._abandoned = False
        self._stopping = False
        self._code: int = ExitCode.FAILED
        self._name = f"egg-agent#{spec.slot}" if spec.role == Role.AGENT.value else f"egg-app#{spec.slot}"
        with contextlib.ExitStack() as unless_started:
            self.heartbeat_page = unless_started.enter_context(contextlib.closing(HeartbeatPage.create(self._name)))
            self.channel, channel = _pair(unless_started)
            self._signals, signals = _pair(unless_started)
            spec = msgspec.structs.replace(spec, heartbeat_fd=self.heartbeat_page.fd)
            copies = {fd: _copy(fd, unless_started) for fd in (*fds, spec.heartbeat_fd)}
            self._thread = threading.Thread(
                target=self._live, args=(channel.fileno(), signals.fileno()), name=self._name, daemon=True
            )
            send_first(self.channel, with_copies(spec, copies))
            self._start()
            unless_started.pop_all()
        channel.detach()
        signals.detach()
        self._signals.setblocking(False)
        native_id = self._thread.native_id
        assert native_id is not None
        self.worker_id = native_id

    @property
    def lives_on(self) -> bool:
        return self._abandoned and not self._ended.is_set()

    async def wait_exit(self) -> ExitReport:
        await self._gone.wait()
        self._signals.close()
        return ExitReport(abandoned=True) if self._abandoned else ExitReport(code=self._code)

    async def stop(self, *, grace: float) -> StopOutcome:
        if not self._stopping:
            self._stopping = True
            self._send_signal(CLOSE_REQUEST)
            if not await await_steadily(self._ended, grace):
                self.kill()
        await self._gone.wait()
        return StopOutcome.ABANDONED if self._abandoned else StopOutcome.GRACEFUL

    async def abort(self) -> None:
        self._send_signal(STACKS_REQUEST)
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(STACKS_TIMEOUT):
                await self._loop.sock_recv(self._signals, len(STACKS_REQUEST))
        await self.stop(grace=HUNG_CLOSE_GRACE)

    def kill(self) -> None:
        if not self._gone.is_set():
            self._send_signal(CLOSE_REQUEST)  # the worker closes if it ever runs again
            self.heartbeat_page.write_fence()  # and begins no message that others will get
            self._abandoned = True
            self._gone.set()

    def resident_bytes(self) -> int:
        return 0

    def run(self, channel: int, signals: int) -> int:
        """Run the worker in this thread; return its exit code."""
        code: int = importlib.import_module(ENTRY).live(channel, signals, shares_modules=True)
        return code

    def _live(self, channel: int, signals: int) -> None:
        try:
            self._code = self.run(channel, signals)
        except BaseException:
            _logger.exception("BUG: %s was ended by an exception", self._name)
        finally:
            with contextlib.suppress(RuntimeError):  # the master's loop is closed already
                self._loop.call_soon_threadsafe(self._on_end, context=self._context)

    def _on_end(self) -> None:
        self._ended.set()
        self._gone.set()
        if self._abandoned:
            _logger.info("%s:%d, which was abandoned, has ended", self._speaker, self.worker_id)

    def _start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError as error:  # Python's way to report that the system refuses
            raise OSError(str(error)) from None

    def _send_signal(self, number: bytes) -> None:
        with contextlib.suppress(OSError):  # the thread has ended already
            self._signals.send(number)


def _pair(unless_started: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    unless_started.enter_context(ours)
    unless_started.enter_context(theirs)
    return ours, theirs


def _copy(fd: int, unless_started: contextlib.ExitStack) -> int:
    copy = os.dup(fd)
    unless_started.callback(os.close, copy)
    return copy
