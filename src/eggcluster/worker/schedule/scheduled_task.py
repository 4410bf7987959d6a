"""One scheduled task: its times, its runs and its history. Runs in the agent."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from eggcluster.kernel.tasks import TaskSet, is_cancellation
from eggcluster.model.schedule.background_state import BackgroundState
from eggcluster.model.schedule.schedule_run import (
    LOST,
    NO_WORKER,
    SKIPPED,
    Admission,
    OverlapGuard,
    RunEnd,
    RunHistory,
    ScheduleRun,
)
from eggcluster.model.schedule.schedule_terms import ScheduleTerms
from eggcluster.worker.background import BackgroundTask
from eggcluster.worker.schedule.clock import Clock, time_text
from eggcluster.worker.schedule.journal import Journal
from eggcluster.worker.schedule.strategy import ScheduleStrategy, cause
from eggcluster.worker.schedule.timeline import Timeline

STRATEGY_END_TIMEOUT = 1.0  # seconds for a strategy's cancelled `start`, then for its `close`; other tasks wait

Work = Callable[[ScheduleRun], Awaitable[RunEnd]]


class ScheduledTask:
    """One task. It outlives its terms: a reload may change them while a run on the old ones is under way."""

    def __init__(self, name: str, journal: Journal, clock: Clock, logger: logging.Logger) -> None:
        self.name = name
        self.terms: ScheduleTerms | None = None  # None while no worker has it
        self.strategy: ScheduleStrategy | None = None
        self.history = RunHistory()
        self._overlap_guard = OverlapGuard("skip")
        self._turn: asyncio.Future[None] | None = None
        self._journal = journal
        self._clock = clock
        self._logger = logger
        self._timeline: Timeline | None = None
        self._keeping: list[asyncio.Task[None]] = []
        self._running = TaskSet()

    # -- its terms ---------------------------------------------------------------------------------------

    async def arm(self, terms: ScheduleTerms, strategy: ScheduleStrategy, env: str) -> None:
        """Replace the terms and keep time by the new ones. If they exclude the environment `env`, the task runs by hand
        only."""
        await self.disarm()
        self.terms, self.strategy, self._overlap_guard.overlap = terms, strategy, terms.overlap
        if not terms.runs_in(env):
            return
        entry = self._journal.of(self.name)
        self._timeline = timeline = Timeline(terms, entry, self._clock, self._logger)
        if not timeline.goes_on:
            self._journal.tick(self.name, terms.when, timeline.now())
        waiting = BackgroundTask(strategy.start, BackgroundState(f"{self.name}.start"), self._logger)
        loop = asyncio.get_running_loop()
        self._keeping = [loop.create_task(self._keep_time(timeline)), loop.create_task(waiting.run())]

    async def disarm(self) -> None:
        """Stop keeping time. Runs under way continue."""
        for task in self._keeping:
            task.cancel()
        if self._keeping and (await asyncio.wait(self._keeping, timeout=STRATEGY_END_TIMEOUT))[1]:
            self._logger.error("the strategy of schedule %s goes on although it was cancelled", self.name)
        strategy, self.terms, self.strategy, self._timeline, self._keeping = self.strategy, None, None, None, []
        if strategy is not None:
            await self._logged(asyncio.wait_for(strategy.close(), STRATEGY_END_TIMEOUT), "close")

    async def _keep_time(self, timeline: Timeline) -> None:
        assert self.terms is not None
        assert self.strategy is not None
        async for tick in timeline.ticks():
            self._journal.tick(self.name, self.terms.when, tick.last)
            self._running.start(self._handle(self.strategy, tick.trigger, tick.due))

    async def _handle(self, strategy: ScheduleStrategy, trigger: str, due: float) -> None:
        cause.set((trigger, due))
        await self._logged(strategy.handle(), "handle")

    async def _logged(self, work: Awaitable[Any], what: str) -> None:
        try:
            await work
        except BaseException as error:
            if is_cancellation(error):
                raise
            self._logger.exception("the strategy of schedule %s raised in %s", self.name, what)

    # -- its runs ----------------------------------------------------------------------------------------

    async def run(self, work: Work) -> ScheduleRun:
        """Let `work` carry out one run as soon as the task's `overlap` allows it. Cancelling ends only the wait."""
        return await asyncio.shield(self._running.start(self._run(work)))

    async def _run(self, work: Work) -> ScheduleRun:
        trigger, due = cause.get()
        run = ScheduleRun(self.name, due if due is not None else self._clock.wall(), trigger)
        admission = self._overlap_guard.arrive()
        if admission is Admission.SKIP:
            run.finish(RunEnd(SKIPPED, "a run before it had not ended"), self._clock.wall())
            self.history.count(run)
            self._logger.info("schedule %s: skipped %s, the run before has not ended", self.name, time_text(run.due))
            return run
        if admission is Admission.WAIT:
            self._turn = asyncio.get_running_loop().create_future()
            await self._turn
        await self._carry_out(run, work)
        return run

    def adopt(self, run: ScheduleRun, work: Work) -> None:
        """Take over a run that an earlier agent began; `work` waits for its end."""
        self._overlap_guard.adopt()
        self._running.start(self._carry_out(run, work))

    async def _carry_out(self, run: ScheduleRun, work: Work) -> None:
        run.began = self._clock.wall()
        self.history.begin(run)
        try:
            end = await work(run)
            run.finish(end, self._clock.wall())
            self.history.count(run)
            if end.outcome in (LOST, NO_WORKER):  # the other outcomes are logged where the run took place
                text = (self.name, end.outcome, time_text(run.due), end.error)
                self._logger.warning("schedule %s: %s %s, %s", *text)
        finally:
            if self._overlap_guard.leave() and self._turn is not None:
                self._turn.set_result(None)

    async def close(self) -> None:
        """Stop keeping time because the agent closes; do not wait for runs in app workers."""
        await self.disarm()
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._running, return_exceptions=True)

    # -- its state ---------------------------------------------------------------------------------------

    def plain(self) -> dict[str, Any]:
        """Return its terms, its next tick and its history as plain values."""
        assert self.terms is not None
        terms = self.terms
        return {
            "name": self.name,
            "function": terms.function,
            "type": terms.type,
            "when": terms.when,
            "timed": self._timeline is not None,
            "next": self._timeline.next_due if self._timeline is not None else None,
            "running": [run.plain() for run in self.history.runs if run.outcome is None],
            "counts": dict(self.history.counts),
            "history": [run.plain() for run in self.history.runs],
            "terms": terms.plain(),
        }
