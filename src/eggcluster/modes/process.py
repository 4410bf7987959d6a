"""Process mode: each worker is a process, a fresh interpreter that leads its own session. Runs in the master."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.ipc.worker_spec import WorkerSpec, send_first
from eggcluster.kernel.memory import resident_bytes
from eggcluster.kernel.process_exit import ChildProcess, wait_exited
from eggcluster.kernel.process_tree import CLUSTER_MARK, WORKER_MARK, is_out_of_reach, session_members, signal_all
from eggcluster.kernel.signal_actions import signal_name
from eggcluster.kernel.threads import await_steadily
from eggcluster.model.lives.worker import ExitReport
from eggcluster.modes.worker_handle import StopOutcome, WorkerHandle
from eggcluster.options import ResolvedOptions

TREE_POLL_INTERVAL = 0.02  # seconds; the kernel has no event for "a session is empty"
MIN_LEFTOVER_GRACE = 0.5  # seconds between SIGTERM and SIGKILL for children that outlive their worker
# seconds in which a worker that serves may read the order to close from its channel; then the order is a signal
ORDER_GRACE = 0.25
ORDER_SHARE = 0.05  # of the close timeout at most: a blocked worker tells where it is shortly before the end of it
# seconds in which a hung worker may write its stacks; with many threads on a busy machine that takes milliseconds
ABORT_GRACE = 1.0
ORDER_POLL_INTERVAL = 0.01  # seconds between two looks at the worker's page
TITLE_ROOM = " " * 64  # an argument that the process title overwrites

_logger = logging.getLogger("eggcluster.master")


def start_by_process(spec: WorkerSpec, fds: Sequence[int]) -> "ProcessWorker":
    """Start a worker as a process that inherits `fds`; OSError if the system refuses.

    The spec travels over the channel, because it may hold secrets, and every user can read a command line.
    """
    page = HeartbeatPage.create(f"egg-{spec.role}#{spec.slot}")
    try:
        process, channel = start_interpreter(msgspec.structs.replace(spec, heartbeat_fd=page.fd), (page.fd, *fds))
    except OSError:
        page.close()
        raise
    return ProcessWorker(process, channel, page, mark_of(spec))


def start_interpreter(spec: WorkerSpec, fds: Sequence[int]) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """Start a fresh interpreter that inherits `fds`, and send it `spec`. Return it and the master's end of its channel.
    OSError if the system refuses."""
    ours, theirs = socket.socketpair()
    place = place_now(spec.options)
    with theirs:
        try:
            # -P: the current directory must not shadow the standard library before the worker sets its path.
            process = subprocess.Popen(
                [place.interpreter, "-P", "-m", "eggcluster.worker", str(theirs.fileno()), TITLE_ROOM],
                pass_fds=(theirs.fileno(), *fds),
                env=environment(spec.cluster_id, mark_of(spec), place.directory),
                cwd=place.directory,
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
    with contextlib.suppress(BrokenPipeError):  # the worker has died already; its exit follows
        send_first(ours, spec)
    return process, ours


def mark_of(spec: WorkerSpec) -> str:
    """Return the mark that the worker and its children carry in their environment."""
    return f"{spec.cluster_id}/{spec.role}#{spec.slot}.{spec.generation}"


def environment(cluster_id: str, mark: str, directory: str | None) -> dict[str, str]:
    """Return the environment of a process of the cluster that starts in `directory`, or (None) in the master's."""
    # SPT_NOENV: the process title must not overwrite the environment, where the marks are looked for. It overwrites
    # the blank argument instead.
    places = {} if directory is None else {"PWD": directory}
    return {**os.environ, CLUSTER_MARK: cluster_id, WORKER_MARK: mark, "SPT_NOENV": "1", **places}


class Place(NamedTuple):
    """The directory that a new process enters (None: it stays in the master's), and the Python that it runs."""

    directory: str | None
    interpreter: str


def place_now(options: ResolvedOptions) -> Place:
    """Return the place of a new process. The links on its paths are resolved when the process starts, so that a worker
    belongs to the release that is current. What was removed is the master's own."""
    directory, interpreter = options.working_dir or None, options.interpreter or sys.executable
    if directory is not None and not os.path.isdir(directory):
        _logger.warning("the working directory %s was removed: the worker starts in the master's", directory)
        directory = None
    if not os.access(interpreter, os.X_OK):
        _logger.warning("the interpreter %s was removed: the worker runs %s", interpreter, sys.executable)
        interpreter = sys.executable
    return Place(directory, interpreter)


class ProcessWorker(WorkerHandle):
    """A worker that is a process. Its tree is its session, and every process that carries its mark."""

    def __init__(self, process: ChildProcess, channel: socket.socket, heartbeat_page: HeartbeatPage, mark: str) -> None:
        self.worker_id = process.pid
        self.channel = channel
        self.heartbeat_page = heartbeat_page
        self._process = process
        self._mark = f"{WORKER_MARK}={mark}"
        self._leader_gone = asyncio.Event()
        self._gone = asyncio.Event()
        self._term_deadline: float | None = None
        self._killed = False

    def resident_bytes(self) -> int:
        return resident_bytes(self.worker_id)

    async def wait_exit(self) -> ExitReport:
        code = await wait_exited(self._process)
        self._leader_gone.set()
        await self._end_leftovers()
        self._gone.set()
        return ExitReport(signal=signal_name(-code)) if code < 0 else ExitReport(code=code)

    async def stop(self, *, grace: float) -> StopOutcome:
        if self._term_deadline is None:
            self._term_deadline = asyncio.get_running_loop().time() + grace
            if not await self._has_heard(min(ORDER_GRACE, grace * ORDER_SHARE)):
                self._signal(signal.SIGTERM)
            if not await await_steadily(self._leader_gone, self._term_deadline - asyncio.get_running_loop().time()):
                self.kill()
        await self._gone.wait()
        return StopOutcome.KILLED if self._killed else StopOutcome.GRACEFUL

    async def _has_heard(self, limit: float) -> bool:
        """Wait until the worker has read the order to close, which has no way but the channel where the application
        has taken SIGTERM: at its default action it would end a worker in the middle of its requests. Return False if
        the event loop of the worker does not run (it boots, or is blocked), or stays silent for `limit` seconds."""
        deadline = asyncio.get_running_loop().time() + limit
        while not self._leader_gone.is_set() and self.heartbeat_page.read().beat:
            if self.heartbeat_page.close_heard():
                return True
            if asyncio.get_running_loop().time() >= deadline:
                break
            await asyncio.sleep(ORDER_POLL_INTERVAL)
        return False

    async def abort(self) -> None:
        # faulthandler answers SIGABRT in C, whichever thread holds the GIL; a stopped process has to be woken for it.
        self._signal(signal.SIGABRT)
        self._signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(ABORT_GRACE):
                await self._leader_gone.wait()
        except TimeoutError:
            self.kill()
        await self._gone.wait()

    def kill(self) -> None:
        if self._gone.is_set():
            return
        self._killed = True
        try:
            members = self._tree()
        except OSError as error:  # no file descriptor is free, not even for a moment
            _logger.error("worker %d is killed, but its children cannot be looked for: %s", self.worker_id, error)
            members = []
        if not self._leader_gone.is_set():
            # The leader last: while it lives, its pid is not reused, and all of its children are found.
            members = [*(pid for pid in members if pid != self.worker_id), self.worker_id]
        signal_all(members, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Signal the worker alone. Once it is dead do nothing, because another process may have its pid."""
        if not self._leader_gone.is_set():
            signal_all([self.worker_id], number)

    def _tree(self) -> list[int]:
        return [pid for pid in session_members(self.worker_id, self._mark) if not is_out_of_reach(pid)]

    def _log_out_of_reach(self) -> None:
        """Log the processes of the tree that the master may not signal. They may never end, so it does not wait."""
        left = [pid for pid in session_members(self.worker_id, self._mark) if is_out_of_reach(pid)]
        if left:
            _logger.warning(
                "worker %d left behind processes of another user, which the master may not end: %s",
                self.worker_id,
                left,
            )

    async def _end_leftovers(self) -> None:
        """End what the dead worker left behind: SIGTERM, then SIGKILL after the rest of the grace period.

        After an unexpected death there is no such period, because the slot is wanted at once.
        """
        logged = False
        while True:
            try:
                return await self._end_leftovers_once()
            except OSError as error:  # no file descriptor is free; the slot stays taken while its children may live
                if not logged:
                    text = "worker %d is not replaced before its children can be looked for: %s"
                    _logger.error(text, self.worker_id, error)
                logged = True
                await asyncio.sleep(TREE_POLL_INTERVAL)

    async def _end_leftovers_once(self) -> None:
        self._log_out_of_reach()
        left = self._tree()
        if left and self._term_deadline is not None and not self._killed:
            signal_all(left, signal.SIGTERM)
            now = asyncio.get_running_loop().time()
            deadline = max(self._term_deadline, now + MIN_LEFTOVER_GRACE)
            while self._tree() and asyncio.get_running_loop().time() < deadline and not self._killed:
                await asyncio.sleep(TREE_POLL_INTERVAL)
        while left := self._tree():
            signal_all(left, signal.SIGKILL)
            await asyncio.sleep(TREE_POLL_INTERVAL)
