"""The scheduler: the only part of the cluster that decides when a task runs. Runs in the agent.

It keeps the times of the agent's own tasks from the agent's start on, and those of the app workers' tasks from the
moment the cluster is ready. The strategies decide where a task runs.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from eggcluster.kernel.tasks import TaskSet
from eggcluster.model.schedule.schedule_directory import ScheduleDirectory, WorkerTasks
from eggcluster.model.schedule.schedule_run import LOST, STOPPED, RunEnd, ScheduleRun
from eggcluster.model.schedule.schedule_terms import ScheduleTerms
from eggcluster.packing import convert
from eggcluster.worker.schedule.journal import AGENT_ITSELF, Journal
from eggcluster.worker.schedule.run_sender import RunSender
from eggcluster.worker.schedule.runner import Runner
from eggcluster.worker.schedule.scheduled_task import ScheduledTask
from eggcluster.worker.schedule.schedules import AgentSchedules
from eggcluster.worker.schedule.strategy import BUILT_IN, Here, ScheduleStrategy, StrategyAgent, cause


class Scheduler:
    """The scheduler of `agent`. `journal` holds what the predecessor left."""

    def __init__(self, agent: StrategyAgent, schedule: AgentSchedules, journal: Journal, runner: Runner) -> None:
        self._agent = agent
        self._schedule = schedule
        self._journal = journal
        self._runner = runner
        self._clock = schedule.clock
        self._logger: logging.Logger = agent.logger
        self._types: Mapping[str, type[ScheduleStrategy]] = {**BUILT_IN, **schedule.strategies}
        self._directory = ScheduleDirectory(schedule.tasks, self._types)
        messenger = agent.messenger.internal
        self._run_sender = RunSender(messenger, self._directory, journal, self._logger, agent.generation)
        self._tasks: dict[str, ScheduledTask] = {}
        self._ready = False
        self._arming = asyncio.Lock()
        self._renewing = TaskSet()
        messenger.on("egg-schedule-report", self._on_report)
        messenger.on("egg-schedule-now", self._on_now)
        messenger.on("egg-schedules", lambda data: self.plain())

    # -- the cluster's life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to keep the times of the agent's own tasks."""
        for task in self._schedule.tasks.values():
            await self._arm(task.terms, Here)

    def cluster_ready(self) -> None:
        """Begin to keep the times of the app workers' tasks: the cluster is ready, or this agent is a replacement."""
        self._ready = True
        if self._agent.generation > 1:
            self._agent.messenger.internal.send("egg-schedule-ask", None, "app")
        self._renew()

    def listening_workers(self, worker_ids: list[int]) -> None:
        """Note which app workers listen now (`egg-pids`)."""
        self._directory.listen(worker_ids)
        self._renew()

    async def close(self, grace: float) -> None:
        """Stop all tasks because the agent closes; its own runs have `grace` seconds to finish."""
        tasks = [*self._tasks.values()]
        await self._end(task.disarm() for task in tasks)
        await self._runner.close(grace)
        await self._end(task.close() for task in tasks)

    async def _end(self, works: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Wait for all of them at once: a strategy that is slow to close, or raises, is its own task's affair."""
        for raised in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(raised, BaseException):
                self._logger.error("the schedule could not be ended in order", exc_info=raised)

    # -- which worker has which tasks ----------------------------------------------------------------------

    def _on_report(self, data: Any) -> str | None:
        worker_tasks = convert(data, WorkerTasks)
        problem = self._directory.problem(worker_tasks, booting=not self._ready)
        if problem is not None and self._ready:
            self._logger.error("%s", problem)
        self._directory.report(worker_tasks)
        self._renew()
        return problem

    def _renew(self) -> None:
        """Follow the directory, which may have changed."""
        self._run_sender.workers_changed()
        if self._ready:
            self._renewing.start(self._follow_directory())

    async def _follow_directory(self) -> None:
        async with self._arming:
            wanted = self._directory.terms
            for name, terms in wanted.items():
                if self._task(name).terms != terms:
                    await self._arm_or_log(terms)
            for name, task in self._tasks.items():
                if task.terms is not None and task.terms.type != "agent" and name not in wanted:
                    self._logger.info("schedule %s is gone: no listening worker has it", name)
                    await task.disarm()

    async def _arm_or_log(self, terms: ScheduleTerms) -> None:
        """Arm a task; one whose strategy raises when it is made is logged, and holds up no other task."""
        try:
            await self._arm(terms, self._types[terms.type])
        except Exception:
            self._logger.exception("schedule %s cannot be kept", terms.name)

    def _task(self, name: str) -> ScheduledTask:
        """Return the task of that name; a new one takes over the runs that the predecessor left open."""
        if name not in self._tasks:
            task = self._tasks[name] = ScheduledTask(name, self._journal, self._clock, self._logger)
            for run_id, worker_ids in list(self._journal.of(name).open.items()):
                self._adopt(task, run_id, worker_ids)
        return self._tasks[name]

    async def _arm(self, terms: ScheduleTerms, strategy: type[ScheduleStrategy]) -> None:
        task = self._task(terms.name)
        sender = _StrategySender(task, terms, self._run_sender, self._run_here)
        await task.arm(terms, strategy(terms, self._agent, sender), self._agent.env)

    def _adopt(self, task: ScheduledTask, run_id: str, worker_ids: list[int]) -> None:
        run = ScheduleRun(task.name, self._clock.wall(), "by the agent before")

        async def wait(run: ScheduleRun) -> RunEnd:
            if AGENT_ITSELF in worker_ids:
                self._journal.end(task.name, run_id)
                return RunEnd(LOST, "the agent died")
            run.where = ", ".join(map(self._directory.name_of, worker_ids))
            return await self._run_sender.join(task.name, run_id, worker_ids)

        task.adopt(run, wait)

    # -- runs ----------------------------------------------------------------------------------------------

    async def _run_here(self, run: ScheduleRun, args: tuple[Any, ...]) -> RunEnd:
        if self._runner.closing:
            return RunEnd(STOPPED, "the agent closes")
        run.where, run_id = "agent", self._run_sender.new_id()
        task = self._schedule.tasks[run.name]
        await self._journal.begin(run.name, run_id, [AGENT_ITSELF])
        try:
            return await asyncio.shield(self._runner.begin(task, run_id, run.due, args))
        finally:
            self._journal.end(run.name, run_id)

    async def run_now(self, name: str, args: tuple[Any, ...] = ()) -> ScheduleRun | None:
        """Run a task now, as a tick would; return None if there is no task of that name."""
        task = self._tasks.get(name)
        if task is None or task.strategy is None:
            return None
        token = cause.set(("hand", None))
        try:
            return await task.strategy.run(*args)
        finally:
            cause.reset(token)

    async def _on_now(self, data: Any) -> dict[str, Any] | None:
        name, args = convert(data, tuple[str, tuple[Any, ...]])
        run = await self.run_now(name, args)
        return None if run is None else run.plain()

    # -- its state -----------------------------------------------------------------------------------------

    def plain(self) -> list[dict[str, Any]]:
        """Return all tasks as plain values, for `eggcluster schedules`."""
        return [task.plain() for _, task in sorted(self._tasks.items()) if task.terms is not None]


class _StrategySender:
    """Carries out the runs that a strategy sends."""

    def __init__(
        self,
        task: ScheduledTask,
        terms: ScheduleTerms,
        run_sender: RunSender,
        run_here: Callable[..., Any],
    ) -> None:
        self._task = task
        self._terms = terms
        self._run_sender = run_sender
        self._run_here = run_here

    async def send_one(self, args: tuple[Any, ...]) -> ScheduleRun:
        return await self._task.run(lambda run: self._run_sender.send_one(run, args, self._terms.retry))

    async def send_all(self, args: tuple[Any, ...]) -> ScheduleRun:
        return await self._task.run(lambda run: self._run_sender.send_all(run, args))

    async def run_here(self, args: tuple[Any, ...]) -> ScheduleRun:
        return await self._task.run(lambda run: self._run_here(run, args))
