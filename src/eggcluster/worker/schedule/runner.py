"""Runs the scheduled functions of this process, each within its timeout. In the agent and in the app workers."""

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
    """In a scheduled function, and in what it calls: the instant for which it runs, in Unix seconds; else None.

    Name and instant identify a tick: with them an outside system can tell a repetition (`retry`) from a new one.
    """
    return _due.get()


def set_scheduled_for(due: float) -> None:
    """What runs in this task from now on runs for that instant."""
    _due.set(due)


KEPT = 256  # runs that have ended, for a new agent that asks what became of them
LAST_MOMENT = 0.5  # seconds that a cancelled run has for its cleanup, before it is given up or complained of


class Runner:
    """Knows each run by its id. What a function raises is logged with its traceback, and ends nothing."""

    def __init__(self, logger: logging.Logger) -> None:
        self.closing = False
        self._logger = logger
        self._runs: OrderedDict[str, asyncio.Task[RunEnd]] = OrderedDict()

    def begin(self, task: Task, run_id: str, due: float, args: tuple[Any, ...] = ()) -> "asyncio.Task[RunEnd]":
        """Start a run for the tick of `due`; the same id is the same run, and is not started again."""
        if run_id not in self._runs:
            self._forget_old()
            self._runs[run_id] = asyncio.get_running_loop().create_task(self._run(task, due, args))
        return self._runs[run_id]

    def find(self, run_id: str) -> "asyncio.Task[RunEnd] | None":
        """A run that is under way here, or ended not long ago."""
        return self._runs.get(run_id)

    async def close(self, grace: float) -> None:
        """Begin nothing more; let the runs finish for `grace` seconds, then cancel them."""
        self.closing = True
        running = {run for run in self._runs.values() if not run.done()}
        if not running:
            return
        _, running = await asyncio.wait(running, timeout=grace)
        for run in running:
            run.cancel()
        if running:
            await asyncio.wait(running, timeout=LAST_MOMENT)
        for _ in range(3):  # what waits for the ends answers in the next turns of the loop
            await asyncio.sleep(0)

    async def _run(self, task: Task, due: float, args: tuple[Any, ...]) -> RunEnd:
        name = task.terms.name
        set_scheduled_for(due)
        try:
            with self._told_if_endless(name, task.terms.timeout):
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
    def _told_if_endless(self, name: str, timeout: float | None) -> Iterator[None]:
        """Say so when what has exceeded its timeout goes on: a thread, or one that keeps its cancellation to itself."""
        if timeout is None:
            yield
            return
        text = "scheduled function %s exceeded its timeout of %s and does not end; it counts as running"
        complaint = asyncio.get_running_loop().call_later(
            timeout + LAST_MOMENT, self._logger.warning, text, name, interval_text(timeout)
        )
        try:
            yield
        finally:
            complaint.cancel()

    def _forget_old(self) -> None:
        ended = [run_id for run_id, run in self._runs.items() if run.done()]
        for run_id in ended[: max(0, len(ended) - KEPT)]:
            del self._runs[run_id]
