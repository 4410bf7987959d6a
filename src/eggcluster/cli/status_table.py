"""`eggcluster status`: the cluster as a table, or as JSON. Runs in the user's shell."""

import re
import sys
from typing import Any

import click

from eggcluster.cli.control_client import answer_to
from eggcluster.model.lives.phase import ExitCode
from eggcluster.runtime.runtime_dir import Description

HEADINGS = ("who", "worker id", "gen", "state", "age", "requests", "conns", "delay", "memory", "deaths", "last death")
RIGHT = ("worker id", "gen", "age", "requests", "conns", "delay", "memory")
COLOURS = {"listening": "green", "starting": "yellow", "stopping": "yellow", "dead": "red"}
WIDE = 240  # columns if standard output is not a terminal: a log or a pipe needs one line for each worker
_EXIT = re.compile(r"code: (?:None, signal: (?P<signal>SIG\w+)|(?P<code>-?\d+), signal: None)")


def show_status(cluster: Description, *, as_json: bool) -> int:
    """Print the state of a running cluster; return the exit code. ControlError if the cluster does not answer."""
    status = answer_to(cluster, "status")
    status["rss"] = _rss(status["pid"])
    for worker in (status["agent"], *status["workers"]):
        # For a thread, the system would report the memory of the whole process.
        worker["rss"] = _rss(worker["worker_id"]) if status["start_mode"] == "process" else None
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(status), indent=2))
    else:
        print_table(status)
    return ExitCode.CLOSED


def print_table(status: dict[str, Any]) -> None:
    """Print a status as the master gives it, with an `rss` for each process. Colours appear only on a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDE)
    console.print(Text.assemble((status["name"], "bold"), f" {_headline(status)}"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in RIGHT else "left", no_wrap=heading != "last death")
    table.add_row("master", str(status["pid"]), *[""] * 6, _memory(status["rss"]))
    rows = [("agent", status["agent"]), *((f"app#{worker['slot']}", worker) for worker in status["workers"])]
    for name, worker in rows:
        colour = COLOURS.get(worker["state"], "")
        # Text, not str, in which rich would look for its markup: a death's reason may be any exception's text.
        cells = zip(HEADINGS, (name, *_row(worker)), strict=True)
        table.add_row(*(Text(cell, colour if heading == "state" else "") for heading, cell in cells))
    console.print(table)
    for name, worker in rows:
        for task in worker["background"]:
            console.print(Text(f"{name} background {_task(task)}"), soft_wrap=True)


def _task(task: dict[str, Any]) -> str:
    line = f"{task['name']}: {task['state']}"
    if task["restarts"]:
        line += f", {task['restarts']} restart{'s' if task['restarts'] > 1 else ''}"
    return line + (f", last error: {task['last_error']}" if task["last_error"] else "")


def _headline(status: dict[str, Any]) -> str:
    more = [
        f"env {status['env']}",
        f"{status['start_mode']} mode",
        *_steering(status["steering"]),
        *_abandoned(status["abandoned"]),
        *(["no agent for three checks in a row"] if status["agent_missing"] else []),
    ]
    return f"{status['phase']} on {status['address']}  ({', '.join(more)}, eggcluster {status['version']})"


def _steering(steering: dict[str, Any]) -> list[str]:
    """Return what is worth a word about steering. A cluster that steers without sticky is the normal case."""
    sticky = [f"sticky by {steering['by']}"] if steering["sticky"] and steering["by"] != "single" else []
    refused = [f"the kernel does not steer: {steering['refused']}"] if steering["refused"] else []
    return sticky + refused


def _abandoned(labels: list[str]) -> list[str]:
    return [f"abandoned, still running: {', '.join(labels)}"] if labels else []


def _row(worker: dict[str, Any]) -> list[str]:
    return [
        str(worker["worker_id"] or "-"),
        str(worker["generation"]),
        _state(worker),
        "-" if worker["age"] is None else age(worker["age"]),
        str(worker["requests"]) if worker.get("slot") and worker["requests"] is not None else "",
        str(worker["connections"]) if worker.get("slot") and worker["connections"] is not None else "",
        "-" if worker["loop_delay"] is None else f"{worker['loop_delay'] * 1000:.0f} ms",
        _memory(worker["rss"]),
        str(worker["deaths"]),
        short_death(worker["last_death"] or ""),
    ]


def _state(worker: dict[str, Any]) -> str:
    state = str(worker["state"])
    if worker["stalled_for"] is not None:
        state += f", loop has not moved for {worker['stalled_for']:.1f}s"
    if worker["next_try"] is not None:
        state += f", next try in {worker['next_try']:.1f}s"
    if worker["deaths_last_minute"]:
        state += f", {_deaths(worker['deaths_last_minute'])} in the last minute"
    if worker["successor"] is not None:
        state += f", successor {worker['successor']} starting"
    return state


def _deaths(count: int) -> str:
    return "1 death" if count == 1 else f"{count} deaths"


def short_death(text: str) -> str:
    """Shorten `code: None, signal: SIGKILL` to `SIGKILL`, `code: 1, signal: None` to `exit 1`; keep all other text."""
    return _EXIT.sub(lambda found: found["signal"] or f"exit {found['code']}", text)


def age(seconds: float) -> str:
    """Format a duration with two units at most: `4.2s`, `3m07s`, `5h12m`, `9d03h`."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 24 else f"{hours // 24}d{hours % 24:02}h"


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
