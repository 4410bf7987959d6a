"""The master's end of a preload template, which a base template forks. Runs in the master; Linux only."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable

import msgspec

from eggcluster.ipc.fork_request import ForkRequest, LoadReport, read_answer, send_order
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.process_adoption import AdoptedProcess
from eggcluster.kernel.process_mark import with_room
from eggcluster.kernel.process_tree import signal_all
from eggcluster.kernel.threads import await_steadily
from eggcluster.modes.template_handle import Forkable, TemplateHandle, TemplateUser

LOAD_LEAD = 0.1  # of the start timeout, at most MAX_LOAD_LEAD: the stacks are in the log before the workers are ended
MAX_LOAD_LEAD = 0.3  # seconds
ABORT_GRACE = 1.0  # seconds in which a template may write its stacks

_logger = logging.getLogger("eggcluster.master")


class PreloadTemplate(TemplateHandle):
    """A template with the application. Until it has imported that, what it is asked for waits here.

    It is itself a `Forkable`, pending until the base template has forked it.
    """

    kind = "template of --preload"

    def __init__(self, spec: WorkerSpec, user: TemplateUser, on_loaded: Callable[["PreloadTemplate"], None]) -> None:
        """`spec` is that of an app worker; OSError if the system refuses the socket pair. A base template has to be
        asked for it."""
        super().__init__(user)
        self.reloads = spec.reloads
        self.is_loaded = False
        self.has_failed = False  # to import the application; it forks workers that report why
        self.settled = asyncio.Event()
        self._on_loaded = on_loaded
        self._load_is_over = asyncio.Event()
        self._waiting: list[Forkable] = []
        self._spec = _order(spec)
        self._mark = with_room(f"{spec.cluster_id}/preload")

    # -- as what a base template forks -------------------------------------------------------------------

    @property
    def request(self) -> ForkRequest:
        return ForkRequest(self._mark, [self.theirs.fileno()], is_template=True)

    @property
    def sent_fds(self) -> list[int]:
        return [self.theirs.fileno()]

    def forked(self, pid: int) -> None:
        """It runs, as that process: tell it what to import. ChildProcessError if it is not this process's child."""
        process = AdoptedProcess(pid)
        if self.is_dead:
            os.kill(pid, signal.SIGKILL)  # it is no other process: nothing has waited for it
            return
        with contextlib.suppress(OSError):  # it has died already, which is noticed
            send_order(self._sock, self._spec)
        self.theirs.close()
        self.run_as(process)
        self.settled.set()
        timeout = self._spec.options.app_start_timeout
        self._tasks.start(self._limit_load(timeout - min(MAX_LOAD_LEAD, timeout * LOAD_LEAD)))

    def start_itself(self) -> None:
        """No base template forks it: its workers start without it."""
        self.die()

    def refused(self, error: OSError) -> None:
        """The system has refused it."""
        if self.is_wanted:
            _logger.warning("the %s could not be started: %s", self.kind, error)
        self.die()

    # -- as a template -----------------------------------------------------------------------------------

    def ask(self, order: Forkable) -> None:
        if self.is_loaded:
            super().ask(order)
        else:
            self._waiting.append(order)

    def retire(self) -> None:
        self.is_wanted = False
        if self.is_loaded:
            super().retire()  # else its import has to end first

    def orders(self) -> list[Forkable]:
        return [*super().orders(), *self._waiting]

    def read_one(self) -> bool:
        if self.is_loaded:
            return super().read_one()
        report = read_answer(self._sock, LoadReport)
        if report is not None:
            self._loaded(report)
        return report is not None

    def _loaded(self, report: LoadReport) -> None:
        """The import has ended: ask for the workers that have waited for it."""
        self.is_loaded, self.has_failed, self._has_answered = True, report.failed, True
        self._load_is_over.set()
        waiting, self._waiting = self._waiting, []
        for order in waiting:
            try:
                if not order.settled.is_set():  # else it was ended meanwhile
                    self.ask(order)
            except OSError:
                self.user.start_without(order)
        self._on_loaded(self)
        if not self.is_wanted:
            self.retire()

    async def _limit_load(self, seconds: float) -> None:
        """Let a template whose import does not end, not even at its own limit (because of code in C), write its stacks,
        and end it."""
        if not await await_steadily(self._load_is_over, seconds):
            _logger.error("the %s has not imported the application within %gs; where it is:", self.kind, seconds)
            self.is_wanted = False
            signal_all([self.pid], signal.SIGABRT)
            await asyncio.sleep(ABORT_GRACE)
            self.kill()

    def die(self) -> None:
        super().die()
        self._waiting.clear()
        self.theirs.close()
        self.settled.set()
        self._load_is_over.set()


def _order(spec: WorkerSpec) -> WorkerSpec:
    """Return what the template has to know, without what is the worker's own."""
    without_fds = msgspec.structs.replace(spec, listeners=[], handover_fd=None, cluster_fd=None, keys_fd=None)
    return msgspec.structs.replace(without_fds, slot=0, generation=0, key_part=(0, 0), journal={}, survivors=[])
