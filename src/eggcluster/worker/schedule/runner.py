"""Calls the scheduled functions of this process, each within its timeout. Runs in agent and app workers."""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from eggcluster.kernel.tasks import is_cancellation
from eggcluster.model.schedule.declaration import interval_text
from eggcluster.model.schedule.schedule_run import FAILED, OK, STOPPED, TIMEOUT, RunEnd
from eggcluster.wording import described
from eggcluster.worker.function_calls import call_off_loop
from eggcluster.worker.schedule.schedules import Task

_due: ContextVar[float | None] = ContextVar("scheduled_for", default=None)


def scheduled_for() -> float | None:
    """Return the instant (Unix seconds) for which the current scheduled function runs; None outside of one.

    Name and instant identify a tick, so an external system can tell a repetition (`retry`) from a new tick.
    """
    return _due.get()


def set_scheduled_for(due: float) -> None:
    """Set the instant that `scheduled_for` returns in the current asyncio task."""
    _due.set(due)


ENDED_RUNS_KEPT = 256  # ended runs whose outcome a new agent can still ask for
CLEANUP_TIMEOUT = 0.5  # seconds that a cancelled run has for its cleanup before the runner complains or stops waiting


class Runner:
    """Holds each run by its id. An exception in a function is logged with its traceback and ends only that run."""

    def __init__(self, logger: logging.Logger) -> None:
        self.closing = False
        self._logger = logger
        self._runs: OrderedDict[str, asyncio.Task[RunEnd]] = OrderedDict()

    def begin(self, task: Task, run_id: str, due: float, args: tuple[Any, ...] = ()) -> "asyncio.Task[RunEnd]":
        """Start a run for the tick at `due`. Return the existing run if this id has been started already."""
        if run_id not in self._runs:
            self._forget_old()
            self._runs[run_id] = asyncio.get_running_loop().create_task(self._run(task, due, args))
        return self._runs[run_id]

    def find(self, run_id: str) -> "asyncio.Task[RunEnd] | None":
        """Return a run that is under way here or has ended recently."""
        return self._runs.get(run_id)

    async def close(self, grace: float) -> None:
        """Accept no more runs. Give those under way `grace` seconds to finish, then cancel them."""
        self.closing = True
        running = {run for run in self._runs.values() if not run.done()}
        if not running:
            return
        _, running = await asyncio.wait(running, timeout=grace)
        for run in running:
            run.cancel()
        if running:
            await asyncio.wait(running, timeout=CLEANUP_TIMEOUT)
        for _ in range(3):  # the handlers that await these runs answer in the next turns of the loop
            await asyncio.sleep(0)

    async def _run(self, task: Task, due: float, args: tuple[Any, ...]) -> RunEnd:
        name = task.terms.name
        set_scheduled_for(due)
        try:
            with self._complain_if_endless(name, task.terms.timeout):
                async with asyncio.timeout(task.terms.timeout) as limit:
                    await call_off_loop(task.function, *args)
        except BaseException as error:
            if is_cancellation(error):
                self._logger.warning("scheduled function %s was stopped by the close", name)
                return RunEnd(STOPPED, "its worker closed")
            if not limit.expired():
                self._logger.exception("scheduled function %s raised", name)
                return RunEnd(FAILED, described(error))
        if limit.expired():
            self._logger.error("scheduled function %s exceeded its timeout of %gs", name, task.terms.timeout)
            return RunEnd(TIMEOUT, f"longer than {task.terms.timeout:g}s")
        return RunEnd(OK)

    @contextlib.contextmanager
    def _complain_if_endless(self, name: str, timeout: float | None) -> Iterator[None]:
        """Log a warning if the run outlives its timeout: a thread, or a coroutine that swallows its cancellation."""
        if timeout is None:
            yield
            return
        text = "scheduled function %s exceeded its timeout of %s and does not end; it counts as running"
        complaint = asyncio.get_running_loop().call_later(
            timeout + CLEANUP_TIMEOUT, self._logger.warning, text, name, interval_text(timeout)
        )
        try:
            yield
        finally:
            complaint.cancel()

    def _forget_old(self) -> None:
        ended = [run_id for run_id, run in self._runs.items() if run.done()]
        for run_id in ended[: max(0, len(ended) - ENDED_RUNS_KEPT)]:
            del self._runs[run_id]
