"""`eggcluster schedules`: the scheduled tasks, their next runs and their last ones. Runs in the user's shell."""

import time

import msgspec

from eggcluster.cli.control_client import answer_to
from eggcluster.cli.output import say, say_json, say_painted
from eggcluster.cli.screen import standard_output
from eggcluster.cli.text_table import Column, Row, table_lines
from eggcluster.errors import ControlError
from eggcluster.model.lives.phase import ExitCode
from eggcluster.runtime.runtime_dir import Description
from eggcluster.wording import duration

# In the order of importance: a narrow terminal shows the last ones below the row.
COLUMNS = tuple(
    Column(heading) for heading in ("name", "when", "next run", "last run", "result", "took", "runs", "type", "where")
)
HISTORY_COLUMNS = tuple(Column(heading) for heading in ("due", "result", "took", "by", "where", "began"))
COLOURS = {"ok": "green", "running": "yellow", "-": ""}


class Run(msgspec.Struct):
    """A run, as the agent reports it. Times are in seconds since the epoch."""

    due: float
    trigger: str
    began: float | None
    where: str
    seconds: float | None
    outcome: str | None
    error: str

    @property
    def result(self) -> str:
        return self.outcome or "running"

    @property
    def notes(self) -> tuple[str, ...]:
        return (f"{self.result}: {self.error}",) if self.error else ()


class Schedule(msgspec.Struct):
    """A scheduled task, as the agent reports it."""

    name: str
    type: str
    when: str
    timed: bool
    next: float | None
    counts: dict[str, int]
    history: list[Run]


def show_schedules(cluster: Description, name: str | None, *, as_json: bool) -> int:
    """Print all scheduled tasks of a running cluster, or the last runs of the one called `name`.

    ControlError if there is no such task, or if the cluster does not answer.
    """
    answer = answer_to(cluster, "schedules")
    try:
        tasks = msgspec.convert(answer, list[Schedule])
    except msgspec.ValidationError as error:
        raise ControlError(f"the agent's answer is not a list of schedules: {error}") from None
    if name is not None:
        chosen = [task for task in tasks if task.name == name]
        if not chosen:
            known = ", ".join(task.name for task in tasks) or "none"
            raise ControlError(f'no schedule is called "{name}" (there are: {known})')
        answer = [each for each in answer if each["name"] == name]
    if as_json:
        say_json(answer, indent=2)
    elif name is not None:
        _print_one(chosen[0])
    else:
        _print(COLUMNS, [_row(task, time.time()) for task in tasks])
    return ExitCode.CLOSED


def run_schedule(cluster: Description, name: str) -> int:
    """Run a task by hand, as a tick would, and print how it ended; return the exit code. Wait for its end without a
    limit; a run that has begun goes on if the wait is interrupted.

    ControlError if there is no such task, if it did not succeed, or if the cluster does not answer.
    """
    answer = answer_to(cluster, "run-schedule", None, schedule=name)
    if answer is None:
        raise ControlError(f'no schedule is called "{name}"; `eggcluster schedules` lists them')
    try:
        run = msgspec.convert(answer, Run)
    except msgspec.ValidationError as error:
        raise ControlError(f"the agent's answer is not a run: {error}") from None
    if run.outcome != "ok":
        raise ControlError(f'schedule "{name}" {"; ".join(run.notes) or run.result}')
    say(f"{name} ok, {run.where}, {_took(run)}")
    return ExitCode.CLOSED


def _print_one(task: Schedule) -> None:
    """Print the last runs of a task; before its first run, the task itself."""
    if task.history:
        _print(HISTORY_COLUMNS, [_run_row(run) for run in task.history])
    else:
        _print(COLUMNS, [_row(task, time.time())])
        say("no run is known yet")


def _print(columns: tuple[Column, ...], rows: list[Row]) -> None:
    for line in table_lines(columns, rows, standard_output()) if rows else ["nothing is scheduled"]:
        say_painted(line)


def _row(task: Schedule, now: float) -> Row:
    last = next((run for run in reversed(task.history) if run.began is not None), None)
    coming = "-" if task.next is None else f"in {duration(task.next - now)}"
    result = "-" if last is None else last.result
    cells = (
        task.name,
        task.when,
        coming if task.timed else "off",
        "-" if last is None or last.began is None else f"{duration(now - last.began)} ago",
        result,
        "-" if last is None else _took(last),
        _counts(task),
        task.type,
        "-" if last is None else last.where,
    )
    return Row(cells, last.notes if last else (), (("result", COLOURS.get(result, "red")),))


def _counts(task: Schedule) -> str:
    """Return the number of runs that ended, and in brackets those that did not end well: `12 (1 failed, 3 skipped)`."""
    bad = ", ".join(f"{count} {outcome}" for outcome, count in sorted(task.counts.items()) if outcome != "ok")
    return f"{sum(task.counts.values())} ({bad})" if bad else str(sum(task.counts.values()))


def _run_row(run: Run) -> Row:
    began = "-" if run.began is None else _clock(run.began)
    cells = (_clock(run.due), run.result, _took(run), run.trigger, run.where, began)
    return Row(cells, run.notes, (("result", COLOURS.get(run.result, "red")),))


def _took(run: Run) -> str:
    return "-" if run.seconds is None else duration(run.seconds)


def _clock(instant: float) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(instant))}.{int(instant % 1 * 1000):03}"
