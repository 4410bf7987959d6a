"""Owns the benchmark of the agent's work: how late a tick starts, against APScheduler. Runs by hand, on Linux.

    python -m benchmarks.agent [--quick] [--json FILE] [--markdown FILE]

What is measured, and how it is kept fair, is in `benchmarks/README.md`.
"""

import argparse
import datetime
import importlib.util
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.pop(0)  # not this file's own folder: the `http` in there is a benchmark, not the standard library's
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.boot import (
    BenchmarkError,
    Contestant,
    adopt_orphans,
    free_port,
    machine,
    python_versions,
    started,
    wait_until,
)

HERE = Path(__file__).resolve().parent / "schedule_peers"
WORKERS = 1
READY_TIMEOUT = 30.0  # s
NOT_COUNTED = 2.0  # s of ticks at the beginning, while everything is done for the first time
LOADS = ("idle", "loaded")


@dataclass
class Result:
    """Seconds late of each tick, by load and by who ran it; APScheduler's reason where it is absent."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    absent: str | None
    seconds: float
    rounds: int = 0
    late: dict[str, dict[str, list[float]]] = field(default_factory=lambda: {load: {} for load in LOADS})


def run(options: argparse.Namespace, console: Console) -> Result:
    """Rounds in which each has a turn under each load, each round starting with the other one."""
    missing = importlib.util.find_spec("apscheduler") is None
    versions = python_versions("eggcluster", "cronsim", "uvloop", *([] if missing else ["apscheduler"]))
    result = Result(
        datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        machine(),
        versions,
        "APScheduler is not installed" if missing else None,
        options.seconds,
    )
    for turn in range(options.rounds):
        names = ["eggcluster"] if missing else ["eggcluster", "APScheduler"]
        for name in names if turn % 2 else reversed(names):
            for load in LOADS:
                console.print(f"round {turn + 1}: {name}, {load}", style="dim")
                take_turn(name, load, options.seconds, result)
        result.rounds += 1
    return result


def take_turn(name: str, load: str, seconds: float, result: Result) -> None:
    with tempfile.TemporaryDirectory(prefix="eggcluster-bench-") as folder:
        base = Path(shutil.copytree(HERE, Path(folder) / "schedule-benchmark"))
        lines = base / "lateness.txt"
        contestant = build(name, base, {"LATENESS_FILE": str(lines), "LOAD": "1" if load == "loaded" else ""})
        with started(contestant, free_port()) as (_, output):
            if not wait_until(lambda: output.seen_at is not None, READY_TIMEOUT):
                raise BenchmarkError(f"{name} did not start:\n{output.text()}")
            time.sleep(NOT_COUNTED)
            begin = lines.stat().st_size
            time.sleep(seconds)
            counted = lines.read_bytes()[begin:].decode().splitlines()
        for line in counted:
            task, late = line.rsplit(" ", 1)
            result.late[load].setdefault(f"{name}: {task}", []).append(float(late))


def build(name: str, base: Path, environment: dict[str, str]) -> Contestant:
    if name == "APScheduler":
        command, ready = [sys.executable, "apscheduler_peer.py"], re.compile(rb"^ready")
        return Contestant(name, {}, lambda port: command, base, ready, environment=environment)
    program = str(Path(sys.executable).with_name("eggcluster"))
    arguments = [program, "start", "--workers", str(WORKERS), "--port"]
    ready = re.compile(rb"\[master\] .*started on ")
    return Contestant(name, {}, lambda port: [*arguments, str(port)], base, ready, environment=environment)


# --- The result ---------------------------------------------------------------------------------------------


def rows(result: Result) -> list[list[str]]:
    """Milliseconds, and the ratio to APScheduler's p99 of the same kind (interval or cron) and load."""
    heading = ["ticks of", "load", "ticks", "early", "p50, ms", "p99, ms", "worst, ms", "p99 : APScheduler"]
    table = [heading]
    for load in LOADS:
        for who, late in sorted(result.late[load].items()):
            rival = result.late[load].get(f"APScheduler: {'cron' if ': cron' in who else 'interval'}")
            ratio = f"{quantile(late, 99) / quantile(rival, 99):.2f}" if rival else "-"
            early = sum(each < 0 for each in late)
            figures = [quantile(late, 50), quantile(late, 99), max(late)]
            table.append([who, load, str(len(late)), str(early), *(f"{1e3 * f:.2f}" for f in figures), ratio])
    return table


def quantile(late: list[float], percent: int) -> float:
    return statistics.quantiles(late, n=100, method="inclusive")[percent - 1]


def facts(result: Result) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    here = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    lines = [here, versions, f"{result.rounds} rounds of {result.seconds:g} s each"]
    return [*lines, f"absent: {result.absent}"] if result.absent else lines


def markdown(result: Result) -> str:
    heading, *body = rows(result)
    lines = [f"# How late a tick starts, {result.date}", "", "Made by `benchmarks/agent.py`.", ""]
    lines += [f"- {fact}" for fact in facts(result)]
    lines += ["", *(f"| {' | '.join(line)} |" for line in [heading, ["---"] * len(heading), *body])]
    return "\n".join(lines) + "\n"


def show(result: Result, console: Console) -> None:
    heading, *body = rows(result)
    table = Table(title="How late a tick starts", caption="\n".join(facts(result)), caption_justify="left")
    for number, column in enumerate(heading):
        table.add_column(column, justify="right" if number > 1 else "left")
    for line in body:
        table.add_row(*line)
    console.print(table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How late a tick starts: idle, and beside a busy event loop.")
    parser.add_argument("--quick", action="store_true", help="one short round, less than a minute")
    parser.add_argument("--rounds", type=int, help="so many rounds (default: 3, quick: 1)")
    parser.add_argument("--seconds", type=float, help="length of each measurement (default: 20, quick: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a dated page")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (5.0 if options.quick else 20.0)
    return options


def main() -> int:
    options = parse_arguments()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    adopt_orphans()
    os.environ.setdefault("EGG_RUNTIME_DIR", tempfile.mkdtemp(prefix="eggcluster-bench-run-"))
    try:
        result = run(options, console)
        show(result, console)
        if options.json:
            options.json.write_text(json.dumps(asdict(result), indent=1) + "\n")
        if options.markdown:
            options.markdown.write_text(markdown(result))
    except (BenchmarkError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
