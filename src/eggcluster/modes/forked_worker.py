"""A worker that a template forks. Runs in the master; Linux only."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Sequence

import msgspec

from eggcluster.ipc.fork_request import ForkRequest
from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.ipc.worker_spec import WorkerSpec, send_first, with_copies
from eggcluster.kernel.process_adoption import AdoptedProcess
from eggcluster.kernel.process_exit import ChildProcess
from eggcluster.model.lives.phase import ExitCode
from eggcluster.model.lives.worker import ExitReport
from eggcluster.modes.process import ProcessWorker, mark_of, start_interpreter
from eggcluster.modes.worker_handle import StopOutcome


class ForkedWorker(ProcessWorker):
    """A worker that is a process, forked on request. It is pending until `forked`, `start_itself` or `refused`.

    A forked process does nothing before it has its spec, and gets that when the master knows its pid. So a worker that
    is ended while it is pending never runs. The file descriptors are kept as copies meanwhile: the worker is started as
    a fresh interpreter if its template dies. `settled` is set when the worker is no longer pending.
    """

    def __init__(self, spec: WorkerSpec, fds: Sequence[int]) -> None:
        self.worker_id = 0
        self.mark = mark_of(spec)
        with contextlib.ExitStack() as unless_made:
            page = unless_made.enter_context(contextlib.closing(HeartbeatPage.create(f"egg-{spec.role}#{spec.slot}")))
            self.spec = msgspec.structs.replace(spec, heartbeat_fd=page.fd)
            ours, self._theirs = socket.socketpair()
            unless_made.enter_context(ours)
            unless_made.enter_context(self._theirs)
            self._kept = contextlib.ExitStack()
            unless_made.enter_context(self._kept)
            self._copies = {fd: _copy(fd, self._kept) for fd in (page.fd, *fds)}
            self.settled = asyncio.Event()
            unless_made.pop_all()
        self._kept.callback(lambda: self._theirs.close())
        self._started = False
        self._cancelled = False
        self._failure: OSError | None = None
        super().__init__(_Nothing(), ours, page, self.mark)

    @property
    def request(self) -> ForkRequest:
        """The request for it; `sent_fds` come along."""
        return ForkRequest(self.mark, [self._theirs.fileno(), *self._copies])

    @property
    def sent_fds(self) -> list[int]:
        return [self._theirs.fileno(), *self._copies.values()]

    # -- what comes of the request -----------------------------------------------------------------------

    def forked(self, pid: int) -> None:
        """The template has forked the worker: give it its spec. ChildProcessError if it is not this process's child."""
        process = AdoptedProcess(pid)
        if self._cancelled:
            os.kill(pid, signal.SIGKILL)  # it is no other process: nothing has waited for it
            return
        with contextlib.suppress(BrokenPipeError):  # the worker has died already; its exit follows
            send_first(self.channel, self.spec)
        self._start_as(process)

    def renew_channel(self) -> None:
        """Let another template fork the worker: a process that the first one may have forked sees its channel closed,
        and ends. OSError if the system refuses."""
        ours, theirs = socket.socketpair()
        self.channel.close()
        self._theirs.close()
        self.channel, self._theirs = ours, theirs

    def start_itself(self) -> None:
        """Start the worker as a fresh interpreter, because no template will fork it."""
        if self.settled.is_set():
            return
        try:
            process, channel = start_interpreter(with_copies(self.spec, self._copies), [*self._copies.values()])
        except OSError as error:
            self.refused(error)
            return
        self.channel.close()  # a process that a dying template has forked sees it, and ends
        self.channel = channel
        self._start_as(process)

    def refused(self, error: OSError) -> None:
        """The system has refused the worker."""
        self._failure = error
        self._settle()

    def _start_as(self, process: ChildProcess) -> None:
        self._process, self.worker_id, self._started = process, process.pid, True
        self._settle()

    def _settle(self) -> None:
        self._kept.close()
        self.settled.set()

    # -- the handle --------------------------------------------------------------------------------------

    async def wait_start(self) -> None:
        await self.settled.wait()
        if self._failure is not None:
            self._gone.set()
            raise self._failure

    async def wait_exit(self) -> ExitReport:
        await self.settled.wait()
        if self._started:
            return await super().wait_exit()
        self._gone.set()
        return ExitReport(code=ExitCode.CLOSED)  # it has nothing to close

    async def stop(self, *, grace: float) -> StopOutcome:
        if self._cancel():
            await self._gone.wait()
            return StopOutcome.GRACEFUL
        return await super().stop(grace=grace)

    async def abort(self) -> None:
        if not self._cancel():
            await super().abort()

    def kill(self) -> None:
        if not self._cancel():
            super().kill()

    def resident_bytes(self) -> int:
        return super().resident_bytes() if self._started else 0

    def _cancel(self) -> bool:
        """End a worker that is pending; return whether it never started."""
        if not self.settled.is_set():
            self._cancelled = True
            self.channel.shutdown(socket.SHUT_RDWR)
            self._settle()
        return not self._started


class _Nothing:
    """Stands for the process of a worker that has none yet."""

    pid = 0

    def wait(self) -> int:
        raise AssertionError("BUG: a worker was waited for before it was forked")


def _copy(fd: int, kept: contextlib.ExitStack) -> int:
    copy = os.dup(fd)
    kept.callback(os.close, copy)
    return copy
