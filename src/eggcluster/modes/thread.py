"""Thread mode: each worker is a thread of the master's process, with an event loop of its own. Runs in the master.

A thread cannot be killed. Where a process gets signals, a thread gets bytes (`worker/threads/thread_signals.py`); one
that obeys none of them is abandoned: it is not waited for any more.
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
from eggcluster.ipc.worker_spec import CLOSE_REQUEST, STACKS_REQUEST, ListenerSpec, WorkerSpec, send_first
from eggcluster.kernel.threads import await_steadily
from eggcluster.model.lives.phase import ExitCode
from eggcluster.model.lives.worker import ExitReport
from eggcluster.model.messages.role import Role
from eggcluster.modes.worker_handle import StopOutcome, WorkerHandle

TELL_GRACE = 1.0  # seconds to write the stacks in
OBEY_GRACE = 0.2  # seconds for a hung thread that is asked to close; after that it is abandoned
ENTRY = "eggcluster.worker.threads.thread_worker"  # by name: the worker's side is loaded in the worker's thread only

_logger = logging.getLogger("eggcluster.master")


def start_by_worker_threads(order: WorkerSpec, fds: Sequence[int]) -> "ThreadWorker":
    """Start a worker as a thread that gets copies of `fds`; OSError where the system refuses."""
    return ThreadWorker(order, fds)


class ThreadWorker(WorkerHandle):
    """A worker that is a thread. What it started itself, threads and processes, is not known apart from the others'."""

    last_resort = "abandon"

    def __init__(self, order: WorkerSpec, fds: Sequence[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()  # the master's
        self._speaker = order.speaker
        self._ended = asyncio.Event()  # the thread has
        self._gone = asyncio.Event()  # for the master: it has ended, or is abandoned
        self._abandoned = False
        self._stopping = False
        self._code: int = ExitCode.FAILED
        self._name = f"egg-agent#{order.slot}" if order.role == Role.AGENT.value else f"egg-app#{order.slot}"
        with contextlib.ExitStack() as unless_started:
            self.record = unless_started.enter_context(contextlib.closing(HeartbeatPage.create(self._name)))
            self.channel, channel = _pair(unless_started)
            self._orders, orders = _pair(unless_started)
            copies = {fd: _copy(fd, unless_started) for fd in (*fds, self.record.fd)}
            self._thread = threading.Thread(
                target=self._live, args=(channel.fileno(), orders.fileno()), name=self._name, daemon=True
            )
            send_first(self.channel, _with_copies(order, self.record.fd, copies))
            self._start()
            unless_started.pop_all()
        channel.detach()
        orders.detach()
        self._orders.setblocking(False)
        native_id = self._thread.native_id
        assert native_id is not None
        self.worker_id = native_id

    @property
    def lives_on(self) -> bool:
        return self._abandoned and not self._ended.is_set()

    async def wait_exit(self) -> ExitReport:
        await self._gone.wait()
        self._orders.close()
        return ExitReport(abandoned=True) if self._abandoned else ExitReport(code=self._code)

    async def stop(self, *, grace: float) -> StopOutcome:
        if not self._stopping:
            self._stopping = True
            self._order(CLOSE_REQUEST)
            if not await await_steadily(self._ended, grace):
                self.kill()
        await self._gone.wait()
        return StopOutcome.ABANDONED if self._abandoned else StopOutcome.GRACEFUL

    async def abort(self) -> None:
        self._order(STACKS_REQUEST)
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(TELL_GRACE):
                await self._loop.sock_recv(self._orders, len(STACKS_REQUEST))
        await self.stop(grace=OBEY_GRACE)

    def kill(self) -> None:
        if not self._gone.is_set():
            self._order(CLOSE_REQUEST)  # for the time when it comes to
            self._abandoned = True
            self._gone.set()

    def resident_bytes(self) -> int:
        return 0

    def run(self, channel: int, orders: int) -> int:
        """Be the worker; gives its exit code. In its thread."""
        code: int = importlib.import_module(ENTRY).live(channel, orders, shares_modules=True)
        return code

    def _live(self, channel: int, orders: int) -> None:
        try:
            self._code = self.run(channel, orders)
        except BaseException:
            _logger.exception("BUG: %s was ended by an exception", self._name)
        finally:
            with contextlib.suppress(RuntimeError):  # the master's loop has been closed before
                self._loop.call_soon_threadsafe(self._on_end, context=self._context)

    def _on_end(self) -> None:
        self._ended.set()
        self._gone.set()
        if self._abandoned:
            _logger.info("%s:%d, which was abandoned, has ended", self._speaker, self.worker_id)

    def _start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError as error:  # how Python says that the system refuses
            raise OSError(str(error)) from None

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended already
            self._orders.send(order)


def _pair(unless_started: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    unless_started.enter_context(ours)
    unless_started.enter_context(theirs)
    return ours, theirs


def _copy(fd: int, unless_started: contextlib.ExitStack) -> int:
    copy = os.dup(fd)
    unless_started.callback(os.close, copy)
    return copy


def _with_copies(order: WorkerSpec, heartbeat_fd: int, copies: dict[int, int]) -> WorkerSpec:
    """The same order, with file descriptors that are the worker's own to close."""

    def own(fd: int | None) -> int | None:
        return None if fd is None else copies[fd]

    return msgspec.structs.replace(
        order,
        heartbeat_fd=copies[heartbeat_fd],
        listeners=[ListenerSpec(own(each.fd), each.tls) for each in order.listeners],
        cluster_fd=own(order.cluster_fd),
        handover_fd=own(order.handover_fd),
    )
