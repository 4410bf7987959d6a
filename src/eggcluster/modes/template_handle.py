"""The master's end of a template: starts it, asks it for workers, notices its death. Runs in the master; Linux only."""

import asyncio
import contextlib
import logging
import socket
import subprocess
from collections import deque
from collections.abc import Callable

from eggcluster.ipc.fork_request import ForkAnswer, ForkRequest, read_answer, send_end, send_request
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.process_exit import wait_exited
from eggcluster.kernel.process_mark import with_room
from eggcluster.kernel.surroundings import surroundings
from eggcluster.kernel.tasks import TaskSet
from eggcluster.kernel.threads import await_steadily
from eggcluster.modes.forked_worker import ForkedWorker
from eggcluster.modes.process import TITLE_ROOM, Place, environment

# Seconds in which the master could run. A fork takes milliseconds; the first one waits for the template's imports.
FORK_TIMEOUT = 3.0
LOAD_TIMEOUT = 10.0

_logger = logging.getLogger("eggcluster.master")


class TemplateHandle:
    """One template. `on_settled` is called when a request has come to its end, `on_unfit` if it cannot fork at all."""

    def __init__(self, spec: WorkerSpec, place: Place, on_settled: Callable[[], None], on_unfit: Callable[[], None]):
        """Start a template for the cluster of `spec`; OSError if the system refuses the process."""
        self._on_settled, self._on_unfit = on_settled, on_unfit
        self._pending: deque[ForkedWorker] = deque()
        self._is_wanted = True  # its end would be a surprise
        self._has_answered = False
        self.is_dead = False
        self._gone = asyncio.Event()
        self.surroundings = surroundings(*place)
        name = spec.options.name
        self._sock, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [place.interpreter, "-P", "-m", "eggcluster.template", str(theirs.fileno()), name, TITLE_ROOM],
                    pass_fds=(theirs.fileno(),),
                    env=environment(spec.cluster_id, with_room(f"{spec.cluster_id}/template"), place.directory),
                    cwd=place.directory,
                    start_new_session=True,
                )
            except OSError:
                self._sock.close()
                raise
        self._sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._on_readable)
        self._tasks = TaskSet()
        self._tasks.start(self._watch())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended and is reaped."""
        return self._gone.is_set()

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    def ask(self, worker: ForkedWorker) -> None:
        """Ask for a worker. It is settled later, whatever happens: at the end of the time limit at the latest. OSError
        if it cannot be asked for."""
        send_request(self._sock, ForkRequest(worker.mark, worker.fds))
        self._pending.append(worker)
        self._tasks.start(self._limit(worker, FORK_TIMEOUT if self._has_answered else LOAD_TIMEOUT))

    def retire(self) -> None:
        """Let it answer what it was asked, and end."""
        if not self.is_dead:
            self._is_wanted = False
            with contextlib.suppress(OSError):  # it has died, and will be noticed; or it does not read, and stays
                send_end(self._sock)

    async def end(self, limit: float) -> None:
        """End it now, and wait until it is reaped, for `limit` seconds. Workers that are pending never start."""
        self._is_wanted = False
        for worker in self._pending:
            worker.kill()
        self._process.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._gone.wait()
        self._die()
        self._tasks.cancel()

    # -- answers -----------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        """Take all answers that have come; if the template has ended, settle what it has not answered."""
        with contextlib.suppress(BlockingIOError):
            while self._pending and (answer := read_answer(self._sock)) is not None:
                self._has_answered = True
                self._settle(self._pending.popleft(), answer)
                self._on_settled()
            if self._pending or read_answer(self._sock) is None:
                self._die()

    def _settle(self, worker: ForkedWorker, answer: ForkAnswer) -> None:
        if answer.refused:
            worker.refused(OSError(answer.refused))
        elif answer.unfit:
            self._give_up(worker, f"it has {answer.unfit}")
        else:
            try:
                worker.forked(answer.pid)
            except ChildProcessError:
                self._give_up(worker, "the system gives its workers to another process")

    def _give_up(self, worker: ForkedWorker, why: str) -> None:
        if self._is_wanted:
            self._is_wanted = False
            _logger.warning("workers are started as fresh interpreters, the template forks none: %s", why)
            self._on_unfit()
        worker.start_itself()

    async def _limit(self, worker: ForkedWorker, seconds: float) -> None:
        """End the template if the worker is not settled in time: it was stopped, perhaps."""
        if not await await_steadily(worker.settled, seconds) and not self.is_dead:
            self._is_wanted = False
            _logger.warning("the template %d does not answer within %gs, it is killed", self.pid, seconds)
            self._process.kill()
            self._die()
        if not worker.settled.is_set():
            worker.start_itself()  # its answer could not be used

    # -- its end -----------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        code = await wait_exited(self._process)
        self._gone.set()
        if self._is_wanted:
            text = "the template %d died (code: %d), the next worker gets a new one"
            _logger.warning(text, self.pid, code)
        if not self.is_dead:
            self._on_readable()  # its last answers
        self._die()

    def _die(self) -> None:
        """Start the workers that are pending in another way: nothing more comes from this template."""
        if self.is_dead:
            return
        self.is_dead = True
        self._loop.remove_reader(self._sock)
        self._sock.close()
        for worker in self._pending:
            worker.start_itself()
        self._pending.clear()
        self._on_settled()
