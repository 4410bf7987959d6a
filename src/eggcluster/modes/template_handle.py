"""The master's end of a template: asks it for workers, notices its death. Runs in the master; Linux only."""

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from eggcluster.ipc.fork_request import ForkAnswer, ForkRequest, read_answer, send_end, send_request
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.process_exit import ChildProcess, wait_exited
from eggcluster.kernel.process_mark import with_room
from eggcluster.kernel.process_tree import signal_all
from eggcluster.kernel.surroundings import surroundings
from eggcluster.kernel.tasks import TaskSet
from eggcluster.kernel.threads import await_steadily
from eggcluster.modes.process import TITLE_ROOM, Place, environment

# Seconds in which the master could run. A fork takes milliseconds; the first one waits for the template's imports.
FORK_TIMEOUT = 3.0
LOAD_TIMEOUT = 10.0

_logger = logging.getLogger("eggcluster.master")


class Forkable(Protocol):
    """What a template is asked to fork: a worker, or another template. It is pending until one of the last three."""

    @property
    def request(self) -> ForkRequest: ...
    @property
    def sent_fds(self) -> list[int]: ...
    @property
    def settled(self) -> asyncio.Event: ...

    def kill(self) -> None: ...
    def forked(self, pid: int) -> None: ...
    def start_itself(self) -> None: ...
    def refused(self, error: OSError) -> None: ...


@dataclass(frozen=True)
class TemplateUser:
    """What a template calls: `on_settled` when a request has come to its end, `on_unfit` (with the reason) if it cannot
    fork at all, `on_death` if it has died unexpectedly. `start_without` starts what it does not fork."""

    on_settled: Callable[[], None]
    on_unfit: Callable[[str], None]
    start_without: Callable[[Forkable], None]
    on_death: Callable[[], None] = lambda: None


class TemplateHandle:
    """One template. A subclass makes its process, and calls `run_as`."""

    kind = "template"

    def __init__(self, user: TemplateUser) -> None:
        """OSError if the system refuses the socket pair. Its other end is `theirs`, for the subclass to close."""
        self.user = user
        self.pid = 0
        self.is_wanted = True  # its end would be a surprise
        self.is_dead = False
        self._pending: deque[Forkable] = deque()
        self._has_answered = self._is_told = False
        self._gone = asyncio.Event()
        self._process: ChildProcess | None = None
        self._sock, self.theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self._sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._on_readable)
        self._tasks = TaskSet()

    def run_as(self, process: ChildProcess) -> None:
        """The template runs, as that process."""
        self._process, self.pid = process, process.pid
        self._tasks.start(self._watch(process))

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended and is reaped, or never was."""
        return self._gone.is_set() or (self.is_dead and self._process is None)

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    def ask(self, order: Forkable) -> None:
        """Ask for a process. It is settled later, whatever happens: at the end of the time limit at the latest. OSError
        if it cannot be asked for."""
        send_request(self._sock, order.request, order.sent_fds)
        self._pending.append(order)
        self._tasks.start(self._limit(order, FORK_TIMEOUT if self._has_answered else LOAD_TIMEOUT))

    def retire(self) -> None:
        """Let it answer what it was asked, and end."""
        self.is_wanted = False
        if not self.is_dead and not self._is_told:
            self._is_told = True  # once: what it does not read resets the socket, and takes its last answers away
            with contextlib.suppress(OSError):  # it has died, and will be noticed; or it does not read, and stays
                send_end(self._sock)

    async def end(self, limit: float) -> None:
        """End it now, and wait until it is reaped, for `limit` seconds. What is pending never starts."""
        self.is_wanted = False
        for order in self.orders():
            order.kill()
        if self._process is not None:
            self.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    await self._gone.wait()
        self.die()
        self._tasks.cancel()

    def orders(self) -> list[Forkable]:
        """Return what is not settled yet."""
        return list(self._pending)

    def kill(self) -> None:
        """SIGKILL the process, if it runs. Return at once."""
        if self._process is not None and not self._gone.is_set():
            signal_all([self.pid], signal.SIGKILL)

    # -- answers -----------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        """Take all answers that have come; if the template has ended, settle what it has not answered."""
        with contextlib.suppress(BlockingIOError):
            while self.read_one():
                pass
            self.die()

    def read_one(self) -> bool:
        """Take the next answer; return False if the template has ended. BlockingIOError if there is none yet."""
        answer = read_answer(self._sock, ForkAnswer)
        if answer is None:
            return False
        self._has_answered = True
        if self._pending:
            order = self._pending.popleft()
            try:
                self._settle(order, answer)
            except Exception:
                _logger.exception("BUG: an answer of the %s could not be used", self.kind)
                order.start_itself()
            self.user.on_settled()
        return True

    def _settle(self, order: Forkable, answer: ForkAnswer) -> None:
        if answer.refused:
            order.refused(OSError(answer.refused))
        elif answer.unfit:
            self._give_up(order, f"it has {answer.unfit}")
        else:
            try:
                order.forked(answer.pid)
            except ChildProcessError:
                self._give_up(order, "the system gives its workers to another process")

    def _give_up(self, order: Forkable, why: str) -> None:
        _logger.debug("the %s %d does not fork: %s", self.kind, self.pid, why)
        if self.is_wanted:
            self.is_wanted = False
            self.user.on_unfit(why)
        self.user.start_without(order)

    async def _limit(self, order: Forkable, seconds: float) -> None:
        """End the template if the process is not settled in time: it was stopped, perhaps."""
        if not await await_steadily(order.settled, seconds) and order in self._pending:
            self.is_wanted = False
            _logger.warning("the %s %d does not answer within %gs, it is killed", self.kind, self.pid, seconds)
            self.kill()
            self.die()

    # -- its end -----------------------------------------------------------------------------------------

    async def _watch(self, process: ChildProcess) -> None:
        code = await wait_exited(process)
        self._gone.set()
        surprise = self.is_wanted
        if surprise:
            text = "the %s %d died (code: %d), the next worker gets a new one"
            _logger.warning(text, self.kind, self.pid, code)
        if not self.is_dead:
            self._on_readable()  # its last answers
        self.die()
        if surprise:
            self.user.on_death()

    def die(self) -> None:
        """Start what is pending in another way: nothing more comes from this template."""
        if self.is_dead:
            return
        self.is_dead = True
        self._loop.remove_reader(self._sock)
        self._sock.close()
        left = self.orders()
        self._pending.clear()
        for order in left:
            self.user.start_without(order)
        self.user.on_settled()


class BaseTemplate(TemplateHandle):
    """A template that is started as an interpreter of its own."""

    def __init__(self, spec: WorkerSpec, place: Place, user: TemplateUser) -> None:
        """Start it for the cluster of `spec`; OSError if the system refuses."""
        super().__init__(user)
        self.surroundings = surroundings(*place)
        with self.theirs as theirs:
            arguments = [str(theirs.fileno()), spec.options.name, TITLE_ROOM]
            try:
                process = subprocess.Popen(
                    [place.interpreter, "-P", "-m", "eggcluster.template", *arguments],
                    pass_fds=(theirs.fileno(),),
                    env=environment(spec.cluster_id, with_room(f"{spec.cluster_id}/template"), place.directory),
                    cwd=place.directory,
                    start_new_session=True,
                )
            except OSError:
                self.is_wanted = False
                self.die()
                raise
        self.run_as(process)
