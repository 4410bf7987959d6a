"""`eggcluster status`: the cluster as a table, or as JSON. Runs in the user's shell."""

import re
from collections.abc import Iterator
from typing import Any

from eggcluster.cli.control_client import answer_to
from eggcluster.cli.output import say_json, say_painted
from eggcluster.cli.screen import Screen, cell_width, standard_output
from eggcluster.cli.text_table import Column, Row, table_lines
from eggcluster.model.lives.phase import ExitCode
from eggcluster.runtime.runtime_dir import Description
from eggcluster.wording import duration, one_line

# In the order of importance: a narrow terminal shows the last ones below the row.
COLUMNS = (
    Column("who"),
    Column("worker id", right=True),
    Column("gen", right=True),
    Column("state"),
    Column("age", right=True),
    Column("deaths", right=True),
    Column("requests", right=True),
    Column("memory", right=True),
    Column("conns", right=True),
    Column("delay", right=True),
)
COLOURS = {"listening": "green", "starting": "yellow", "stopping": "yellow", "dead": "red"}
_EXIT = re.compile(r"code: (?:None, signal: (?P<signal>SIG\w+)|(?P<code>-?\d+), signal: None)")


def show_status(cluster: Description, *, as_json: bool) -> int:
    """Print the state of a running cluster; return the exit code. ControlError if the cluster does not answer."""
    status = answer_to(cluster, "status")
    status["rss"] = _rss(status["pid"])
    for worker in (status["agent"], *status["workers"]):
        # For a thread, the system would report the memory of the whole process.
        worker["rss"] = _rss(worker["worker_id"]) if status["start_mode"] == "process" else None
    if as_json:
        say_json(status, indent=2)
    else:
        for line in status_lines(status, standard_output()):
            say_painted(line)
    return ExitCode.CLOSED


def status_lines(status: dict[str, Any], screen: Screen) -> list[str]:
    """Return the lines for a status as the master gives it, with an `rss` for each process."""
    rows = [("agent", status["agent"]), *((f"app#{worker['slot']}", worker) for worker in status["workers"])]
    lines = _headline(status, screen)
    lines += table_lines(COLUMNS, [_master_row(status), *(_row(*each) for each in rows)], screen)
    lines += [one_line(f"{name} background {_task(task)}") for name, worker in rows for task in worker["background"]]
    return lines


def _task(task: dict[str, Any]) -> str:
    line = f"{task['name']}: {task['state']}"
    if task["restarts"]:
        line += f", {task['restarts']} restart{'s' if task['restarts'] > 1 else ''}"
    return line + (f", last error: {task['last_error']}" if task["last_error"] else "")


def _headline(status: dict[str, Any], screen: Screen) -> list[str]:
    """Return the first line, or two lines on a terminal that is too narrow for it."""
    more = [
        f"env {status['env']}",
        f"{status['start_mode']} mode",
        *_steering(status["steering"]),
        *_abandoned(status["abandoned"]),
        *(["no agent for three checks in a row"] if status["agent_missing"] else []),
        f"eggcluster {status['version']}",
    ]
    name, where, details = (
        one_line(status["name"]),
        one_line(f" {status['phase']} on {status['address']}"),
        one_line(", ".join(more)),
    )
    first = screen.paint(name, "bold") + where
    whole = f"{first}  ({details})"
    if screen.width is None or cell_width(f"{name}{where}  ({details})") <= screen.width:
        return [whole]
    return [first, details]


def _steering(steering: dict[str, Any]) -> list[str]:
    """Return what is worth a word about steering. A cluster that steers without sticky is the normal case."""
    sticky = [f"sticky by {steering['by']}"] if steering["sticky"] and steering["by"] != "single" else []
    refused = [f"the kernel does not steer: {steering['refused']}"] if steering["refused"] else []
    by_key = steering.get("by_key")
    keys = [f"{by_key['keys']} keys, {by_key['handovers_a_second']:g} handovers/s"] if by_key else []
    return sticky + keys + refused


def _abandoned(labels: list[str]) -> list[str]:
    return [f"abandoned, still running: {', '.join(labels)}"] if labels else []


def _master_row(status: dict[str, Any]) -> Row:
    cells = {"who": "master", "worker id": str(status["pid"]), "memory": _memory(status["rss"])}
    return Row(tuple(cells.get(column.heading, "") for column in COLUMNS))


def _row(name: str, worker: dict[str, Any]) -> Row:
    is_app = bool(worker.get("slot"))
    colour = "yellow" if worker["stalled_for"] is not None else COLOURS.get(worker["state"], "")
    cells = (
        name,
        str(worker["worker_id"] or "-"),
        str(worker["generation"]),
        str(worker["state"]),
        _time(worker["age"]),
        str(worker["deaths"]),
        str(worker["requests"]) if is_app and worker["requests"] is not None else "",
        _memory(worker["rss"]),
        str(worker["connections"]) if is_app and worker["connections"] is not None else "",
        _time(worker["loop_delay"]),
    )
    return Row(cells, tuple(_notes(worker)), (("state", colour), ("deaths", "red" if worker["deaths"] else "")))


def _notes(worker: dict[str, Any]) -> Iterator[str]:
    """Yield what is unusual about a worker: what it waits for, then why the one before died."""
    if worker["stalled_for"] is not None:
        yield f"loop has not moved for {duration(worker['stalled_for'])}"
    if worker["next_try"] is not None:
        yield f"next try in {duration(worker['next_try'])}"
    if worker["successor"] is not None:
        yield f"successor {worker['successor']} starting"
    recent = worker["deaths_last_minute"]
    often = f" ({_deaths(recent)} in the last minute)" if recent else ""
    if worker["last_death"]:
        yield f"last death: {short_death(worker['last_death'])}{often}"
    elif often:
        yield often.strip(" ()")


def _deaths(count: int) -> str:
    return "1 death" if count == 1 else f"{count} deaths"


def short_death(text: str) -> str:
    """Shorten `code: None, signal: SIGKILL` to `SIGKILL`, `code: 1, signal: None` to `exit 1`; keep all other text."""
    return _EXIT.sub(lambda found: found["signal"] or f"exit {found['code']}", text)


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _rss(pid: int | None) -> int | None:
    """Return a process's resident memory in bytes. It is read here, so that the master need not load psutil."""
    if pid is None:
        return None
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def _memory(size: int | None) -> str:
    return "-" if size is None else f"{size / 1024 / 1024:.0f} MB"
