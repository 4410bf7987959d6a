"""Running a scheduled task by hand: what its caller gets. Runs in the worker."""

from typing import Any

from eggcluster.errors import RunFailed
from eggcluster.model.schedule_run import OK, ScheduleRun
from eggcluster.worker.schedule.runner import Runner
from eggcluster.worker.schedule.schedules import Schedules


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
