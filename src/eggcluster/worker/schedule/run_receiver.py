"""The schedule in an app worker: takes run requests from the agent, and runs tasks by hand. Runs in the app workers."""

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
    """The agent's request to run a task once."""

    name: str
    run_id: str
    due: float
    args: tuple[Any, ...] = ()


class RunReceiver:
    """Answers the agent's requests from `open` on; `report` tells the agent which tasks this worker has."""

    def __init__(self, messenger: InternalMessenger, schedules: Schedules, runner: Runner) -> None:
        self._messenger = messenger
        self._schedules = schedules
        self._runner = runner
        self._about: dict[str, Any] = {}

    def open(self, worker_id: int, slot: int, generation: int, loaded_at: float) -> None:
        """Answer the agent from now on, under this worker id."""
        self._about = {"worker_id": worker_id, "slot": slot, "generation": generation, "loaded_at": loaded_at}
        self._messenger.on("egg-schedule-ask", lambda data: self._tell())
        self._messenger.on("egg-schedule-run", self._run)
        self._messenger.on("egg-schedule-join", self._join)

    async def report(self) -> None:
        """Tell the agent which tasks this worker has, before the worker reports itself started.

        While the cluster boots (the first generation), wait for the agent's answer; raise BootError if the agent
        objects. Later the agent may be away, and this worker's terms are the newest: send them without waiting.
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
        """Run the task and answer with the outcome. The run continues if the agent goes away meanwhile."""
        request = convert(data, RunRequest)
        task = self._schedules.tasks.get(request.name)
        if task is None or self._runner.closing:
            return _plain(RunEnd(REFUSED))
        return _plain(await asyncio.shield(self._runner.begin(task, request.run_id, request.due, request.args)))

    async def _join(self, run_id: str) -> dict[str, str] | None:
        """Return the outcome of a run that an earlier agent requested; None if it never began here."""
        run = self._runner.find(run_id)
        return None if run is None else _plain(await asyncio.shield(run))


def _plain(end: RunEnd) -> dict[str, str]:
    return {"outcome": end.outcome, "error": end.error}


async def run_locally(name: str, args: tuple[Any, ...], schedules: Schedules, runner: Runner) -> ScheduleRun | None:
    """Call the function in this process, outside of a cluster; return None for an unknown name."""
    task = schedules.tasks.get(name)
    if task is None:
        return None
    clock = schedules.clock
    began = clock.wall()
    run = ScheduleRun(name, began, "hand", began, "here")
    run.finish(await runner.begin(task, f"alone-{clock.monotonic()}", began, args), clock.wall())
    return run


def require_ok(name: str, run: ScheduleRun | None) -> ScheduleRun:
    """Return the run; raise RunFailed if no such schedule exists or the run did not succeed."""
    if run is None:
        raise RunFailed(f'no schedule is called "{name}"')
    if run.outcome != OK:
        raise RunFailed(f'schedule "{name}" {run.outcome}: {run.error}')
    return run
