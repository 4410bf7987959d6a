"""`eggcluster status`: the cluster as a table, or as JSON. Runs in the user's shell."""

from typing import Any

import click

from eggcluster.cli.control import answer_to
from eggcluster.master.runtime_dir import Description
from eggcluster.model.phase import ExitCode

_COLOURS = {"listening": "green", "starting": "yellow", "stopping": "yellow", "dead": "red"}


def show_status(cluster: Description, *, as_json: bool) -> int:
    """Print the state of a running cluster."""
    status = answer_to(cluster, "status")
    status["rss"] = _rss(status["pid"])
    for seat in (status["agent"], *status["workers"]):
        seat["rss"] = _rss(seat["worker_id"])
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(status), indent=2))
    else:
        _print_table(status)
    return ExitCode.CLOSED


def _print_table(status: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"[bold]{status['name']}[/] {status['phase']} on {status['address']}  "
        f"(env {status['env']}, {status['start_mode']} mode, eggcluster {status['version']})",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("who", "worker id", "gen", "state", "age", "deaths", "last death", "memory"):
        table.add_column(heading, justify="right" if heading in ("worker id", "gen", "age", "memory") else "left")
    table.add_row("master", str(status["pid"]), "", "", "", "", "", _memory(status["rss"]))
    table.add_row("agent", *_row(status["agent"]))
    for seat in status["workers"]:
        table.add_row(f"app#{seat['slot']}", *_row(seat))
    console.print(table)


def _row(seat: dict[str, Any]) -> list[str]:
    state = f"[{_COLOURS.get(seat['state'], 'white')}]{seat['state']}[/]"
    if seat["next_try"] is not None:
        state += f", next try in {seat['next_try']:.1f}s"
    if seat["successor"] is not None:
        state += f", successor {seat['successor']} starting"
    return [
        str(seat["worker_id"] or "-"),
        str(seat["generation"]),
        state,
        "-" if seat["age"] is None else _age(seat["age"]),
        str(seat["deaths"]),
        seat["last_death"] or "",
        _memory(seat["rss"]),
    ]


def _age(seconds: float) -> str:
    """Two units at most: `4.2s`, `3m07s`, `5h12m`, `9d03h`."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 24 else f"{hours // 24}d{hours % 24:02}h"


def _rss(pid: int | None) -> int | None:
    """Resident memory in bytes; read here, so that the master need not load psutil."""
    if pid is None:
        return None
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def _memory(size: int | None) -> str:
    return "-" if size is None else f"{size / 1024 / 1024:.0f} MB"
