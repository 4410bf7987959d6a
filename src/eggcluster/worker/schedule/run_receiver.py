"""An app worker's end of the schedule, and runs by hand. Runs in the worker."""

import asyncio
from typing import Any

from eggcluster.errors import BootError, RunFailed
from eggcluster.ipc.internal_messenger import InternalMessenger
from eggcluster.model.schedule.schedule_directory import WorkerTasks
from eggcluster.model.schedule.schedule_run import OK, REFUSED, RunEnd, ScheduleRun
from eggcluster.packing import Struct, convert
from eggcluster.worker.schedule.runner import Runner
from eggcluster.worker.schedule.schedules import Schedules


class RunRequest(Struct):
    """A run, as the agent orders it."""

    name: str
    run_id: str
    due: float
    args: tuple[Any, ...] = ()


class RunReceiver:
    """From `open` on it answers the agent; the agent learns of the tasks by `report`."""

    def __init__(self, messenger: InternalMessenger, schedules: Schedules, runner: Runner) -> None:
        self._messenger = messenger
        self._schedules = schedules
        self._runner = runner
        self._about: dict[str, Any] = {}

    def open(self, worker_id: int, slot: int, generation: int, loaded_at: float) -> None:
        """Listen to the agent, as this incarnation."""
        self._about = {"worker_id": worker_id, "slot": slot, "generation": generation, "loaded_at": loaded_at}
        self._messenger.on("egg-schedule-ask", lambda data: self._tell())
        self._messenger.on("egg-schedule-run", self._run)
        self._messenger.on("egg-schedule-join", self._join)

    async def report(self) -> None:
        """Tell the agent which tasks there are, before this worker reports itself started.

        While the cluster boots (the first generation) the agent's answer is waited for: BootError where it cannot
        be. Later on the agent may be away, and whatever this worker has is the newest: it is told, no more.
        """
        self._schedules.close_registration()
        if self._about["generation"] > 1:
            self._tell()
        elif self._schedules.tasks:
            problem = await self._messenger.request("egg-schedule-report", self._worker_tasks(), "agent")
            if problem:
                raise BootError(str(problem))

    def _tell(self) -> None:
        self._messenger.send("egg-schedule-report", self._worker_tasks(), "agent")

    def _worker_tasks(self) -> WorkerTasks:
        tasks = tuple(task.terms for task in self._schedules.tasks.values())
        return WorkerTasks(**self._about, tasks=tasks)

    async def _run(self, data: Any) -> dict[str, str]:
        """Begin a run and answer with its end. If the requester goes away meanwhile, the run goes on."""
        order = convert(data, RunRequest)
        task = self._schedules.tasks.get(order.name)
        if task is None or self._runner.closing:
            return _plain(RunEnd(REFUSED))
        return _plain(await asyncio.shield(self._runner.begin(task, order.run_id, order.due, order.args)))

    async def _join(self, run_id: str) -> dict[str, str] | None:
        """How a run ends, or has ended, that another agent ordered; None where it never began here."""
        run = self._runner.find(run_id)
        return None if run is None else _plain(await asyncio.shield(run))


def _plain(end: RunEnd) -> dict[str, str]:
    return {"outcome": end.outcome, "error": end.error}


async def run_alone(name: str, args: tuple[Any, ...], schedules: Schedules, runner: Runner) -> ScheduleRun | None:
    """Where there is no cluster around, such as in a test: call the function in this process."""
    task = schedules.tasks.get(name)
    if task is None:
        return None
    clock = schedules.clock
    began = clock.wall()
    run = ScheduleRun(name, began, "hand", began, "here")
    run.finish(await runner.begin(task, f"alone-{clock.monotonic()}", began, args), clock.wall())
    return run


def ran(name: str, run: ScheduleRun | None) -> ScheduleRun:
    """The run; RunFailed where there was none, or it did not end well."""
    if run is None:
        raise RunFailed(f'no schedule is called "{name}"')
    if run.outcome != OK:
        raise RunFailed(f'schedule "{name}" {run.outcome}: {run.error}')
    return run
