"""Owns the benchmark of HTTP engines: one worker against one of uvicorn, granian, gunicorn, hypercorn. Runs by hand, on
Linux.

    python benchmarks/engines.py [--rows asgi wsgi] [--servers eggcluster uvicorn] [--rounds 5] [--seconds 2]
                                 [--eggcluster "python -m eggcluster"] [--also NAME=PYTHONPATH]...
                                 [--json FILE] [--markdown FILE]

What is measured, and how it is kept fair, is in `benchmarks/README.md`.
"""

import sys

sys.path.pop(0)  # before all else: in its own folder `http` would be a benchmark, not the standard library's

import argparse
import datetime
import json
import os
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.boot import BenchmarkError, adopt_orphans, descendants, machine
from benchmarks.engine_peers.contestants import NAMES, OWN, Engine, engines
from benchmarks.engine_peers.idle import allow_descriptors
from benchmarks.engine_peers.report import markdown, page
from benchmarks.engine_peers.result import Record, Result
from benchmarks.engine_peers.row import ROWS, Row, ask
from benchmarks.http_peers.server import Server, served

SERVED = Path(__file__).resolve().parent / "engine_peers" / "served"
OPTIONAL = "hypercorn"  # measured where it is asked for


# --- One turn ---------------------------------------------------------------------------------------------


def take_turn(engine: Engine, row: Row, folder: Path, core: int, seconds: int) -> list[Record]:
    """A fresh start, the answer checked, the row measured, the end."""
    contestant = engine.contestant(row.interface, row.target, folder, core)
    with served(contestant) as server:
        row.check(server)
        if engine.tree and row.target == "plain:app":
            check_tree(server, engine.tree)
        figures = row.measure(row, server, seconds)
        if later := set(descendants()) - set(server.processes):
            raise BenchmarkError(f"{server.name} has started processes under load: {later}")
    return [Record(row.name, contestant.name, metric, value) for metric, value in figures.items()]


def check_tree(server: Server, tree: Path) -> None:
    """Raise BenchmarkError if the worker runs another eggcluster than the one that was asked for."""
    loaded = ask(server, "/tree").decode()
    if not Path(loaded).is_relative_to(tree):
        raise BenchmarkError(f"{server.name} runs {loaded}, which is not in {tree}")


# --- The run ----------------------------------------------------------------------------------------------


def turns(rows: list[Row], present: dict[str, Engine], round_: int) -> Iterator[tuple[Row, str]]:
    """Each row and each server that can do it; each round starts with another server."""
    for row in rows:
        names = [name for name, engine in present.items() if row.interface in engine.launches]
        first = round_ % max(1, len(names))
        for name in names[first:] + names[:first]:
            yield row, name


def run(result: Result, present: dict[str, Engine], options: argparse.Namespace, console: Console) -> None:
    """Rounds in which each server takes its turn at each row. The records go into `result` as they come."""
    server_core, client_core = pin()
    result.notes.append(f"servers on CPU {server_core}, clients on CPU {client_core}")
    with tempfile.TemporaryDirectory(prefix="eggcluster-bench-") as parent:
        folder = Path(shutil.copytree(SERVED, Path(parent) / "served"))
        for round_ in range(options.rounds):
            began = time.monotonic()
            for row, name in turns(options.rows, present, round_):
                result.records += take_turn(present[name], row, folder, server_core, options.seconds)
            result.rounds += 1
            console.print(f"round {round_ + 1}: {time.monotonic() - began:.0f} s", style="dim")


def pin() -> tuple[int, int]:
    """The CPU for the servers, and the one that the benchmark and the generators it starts are pinned to."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    return cores[0], cores[-1]


def begin(options: argparse.Namespace) -> tuple[Result, dict[str, Engine]]:
    """Nothing is measured yet."""
    present, absent = engines(options.servers, shlex.split(options.eggcluster), options.also)
    notes = [f"{name}: {note}" for name, engine in present.items() for note in engine.notes]
    options.rows = [row for row in options.rows if may_hold_connections(row, notes)]
    result = Result(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        machine=machine(),
        versions={name: engine.versions for name, engine in present.items()},
        absent=absent,
        notes=notes,
        seconds=options.seconds,
        load_before=os.getloadavg()[0],
    )
    return result, present


def may_hold_connections(row: Row, notes: list[str]) -> bool:
    """Whether the row's connections are allowed; a note says if not."""
    allowed = allow_descriptors(row.idle)
    if not allowed:
        notes.append(f"{row.title}: skipped, RLIMIT_NOFILE cannot be raised far enough")
    return allowed


# --- The command ------------------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description="One worker under load: HTTP/1.1 and WebSocket, ASGI and WSGI.")
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="ROW", help=", ".join(names))
    parser.add_argument("--servers", nargs="+", metavar="SERVER", help=f"{', '.join(NAMES)}, or a NAME of --also")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="length of each load (default: 2)")
    parser.add_argument("--eggcluster", default=shlex.join([sys.executable, "-m", OWN]), help="the command that is it")
    parser.add_argument("--also", action="append", type=tree, default=[], metavar="NAME=PYTHONPATH",
                        help="another eggcluster, imported from there (repeatable)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every turn")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a dated page")
    options = parser.parse_args()
    options.also = dict(options.also)
    options.rows = [row for row in ROWS if row.name in options.rows]
    known = [OWN, *options.also, *NAMES[1:]]
    options.servers = options.servers or [name for name in known if name != OPTIONAL]
    if unknown := set(options.servers) - set(known):
        parser.error(f"--servers: unknown {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    if missing := [program for program in ("wrk", "taskset") if shutil.which(program) is None]:
        parser.error(f"{', '.join(missing)} not installed (Debian: wrk, util-linux)")
    return options


def tree(text: str) -> tuple[str, Path]:
    """NAME=PYTHONPATH; for argparse."""
    name, _, folder = text.partition("=")
    path = Path(folder).resolve()
    if not name or name in NAMES or "," in name or not (path / OWN).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=FOLDER with a new name and a folder that has {OWN}/")
    return name, path


def end_on_signals() -> None:
    """SIGINT and SIGTERM end the benchmark once: a second one does not stop it from ending what it has started."""

    def end(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def show(result: Result, options: argparse.Namespace, console: Console) -> None:
    result.load_after = os.getloadavg()[0]
    console.print(markdown(result), soft_wrap=True, markup=False)
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(page(result))


def main() -> int:
    """What was measured before an error or a signal is shown, too."""
    options, console = parse_arguments(), Console(highlight=False)
    adopt_orphans()
    end_on_signals()
    problem, result = "", None
    try:
        result, present = begin(options)
        run(result, present, options, console)
    except (BenchmarkError, OSError) as error:
        problem = f"error: {error}"
    except KeyboardInterrupt as error:
        problem = f"ended by {error}"
    finally:
        for pid in descendants():  # none, unless a signal came between a start and its `with`
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if result is not None and result.records:
        show(result, options, console)
    if problem:
        console.print(problem, style="red", markup=False)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
