"""`eggcluster schedules`: the scheduled tasks, their next runs and their last ones. Runs in the user's shell."""

import sys
import time

import click
import msgspec

from eggcluster.cli.control_client import answer_to
from eggcluster.cli.status_table import WIDE, age
from eggcluster.errors import ControlError
from eggcluster.model.lives.phase import ExitCode
from eggcluster.runtime.runtime_dir import Description

HEADINGS = ("name", "type", "when", "next run", "last run", "where", "took", "result", "runs")
HISTORY_HEADINGS = ("due", "by", "began", "where", "took", "result")
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
        outcome = self.outcome or "running"
        return f"{outcome}: {self.error}" if self.error else outcome


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
            known = ", ".join(_line(task.name) for task in tasks) or "none"
            raise ControlError(f'no schedule is called "{name}" (there are: {known})')
        answer = [each for each in answer if each["name"] == name]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2))
    elif name is not None:
        _print(HISTORY_HEADINGS, [_run_row(run) for run in chosen[0].history])
    else:
        _print(HEADINGS, [_row(task, time.time()) for task in tasks])
    return ExitCode.CLOSED


def _print(headings: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDE)
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading not in ("result", "when"))
    for row in rows:
        cells = zip(headings, row, strict=True)
        # Text, not str, in which rich would look for its markup: an error's text may be anything.
        table.add_row(
            *(Text(_line(cell), COLOURS.get(cell, "red") if heading == "result" else "") for heading, cell in cells)
        )
    console.print(table if rows else "nothing is scheduled")


def _line(text: str) -> str:
    """Replace what cannot be printed by blanks: it could move the terminal's cursor, or do worse."""
    return "".join(each if each.isprintable() else " " for each in text)


def _row(task: Schedule, now: float) -> list[str]:
    last = next((run for run in reversed(task.history) if run.began is not None), None)
    coming = "-" if task.next is None else f"in {age(max(0.0, task.next - now))}"
    row = [task.name, task.type, task.when, coming if task.timed else "off"]
    if last is None or last.began is None:
        return [*row, "-", "-", "-", "-", _counts(task)]
    return [*row, f"{age(max(0.0, now - last.began))} ago", last.where, _took(last), last.result, _counts(task)]


def _counts(task: Schedule) -> str:
    """Return the number of runs that ended, and in brackets those that did not end well: `12 (1 failed, 3 skipped)`."""
    bad = ", ".join(f"{count} {outcome}" for outcome, count in sorted(task.counts.items()) if outcome != "ok")
    return f"{sum(task.counts.values())} ({bad})" if bad else str(sum(task.counts.values()))


def _run_row(run: Run) -> list[str]:
    return [
        _clock(run.due),
        run.trigger,
        "-" if run.began is None else _clock(run.began),
        run.where,
        _took(run),
        run.result,
    ]


def _took(run: Run) -> str:
    return "-" if run.seconds is None else f"{run.seconds:.3g}s"


def _clock(instant: float) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(instant))}.{int(instant % 1 * 1000):03}"
