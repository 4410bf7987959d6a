"""Owns the benchmark of HTTP against uvicorn, gunicorn, granian, hypercorn and Egg; runs by hand, on Linux.

    python benchmarks/http.py [--quick] [--only eggcluster] [--faults] [--json FILE] [--markdown FILE] [--png FILE]

What is measured, and how it is kept fair, is in `benchmarks/README.md`.
"""

import sys

sys.path.pop(0)  # before all else: in its own folder this file would be taken for the standard library's `http`

import argparse
import datetime
import importlib.util
import json
import os
import shutil
import signal
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.boot import BenchmarkError, adopt_orphans, machine
from benchmarks.http_peers.contestants import NAMES, entries
from benchmarks.http_peers.faults import FAULTY, every_fault
from benchmarks.http_peers.plot import draw
from benchmarks.http_peers.report import markdown, show
from benchmarks.http_peers.result import Result
from benchmarks.http_peers.turn import SupervisorSettings, take_round

BALANCE_RUNS = 20


def run(options: argparse.Namespace, console: Console) -> Result:
    """Rounds in which all take their runs in turn; then the faults."""
    plan = SupervisorSettings(options.seconds, 0.6 * options.seconds, -(-BALANCE_RUNS // options.rounds))
    with tempfile.TemporaryDirectory(prefix="eggcluster-bench-") as folder:
        present, absent = entries(options.only or list(NAMES), Path(folder), options.cache)
        result = Result(
            date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            machine=machine(),
            versions={name: entry.versions for name, entry in present.items()},
            absent=absent,
            plan=plan,
            load_before=os.getloadavg()[0],
        )
        for done in range(options.rounds):
            began = time.monotonic()
            result.records += take_round(present, plan, done)
            result.rounds += 1
            console.print(f"round {done + 1}: {time.monotonic() - began:.1f} s", style="dim")
        if options.faults:
            tried = {name: entry for name, entry in present.items() if name in FAULTY}
            result.records += every_fault(tried, Path(folder), console)
    result.load_after = os.getloadavg()[0]
    return result


def parse_arguments() -> argparse.Namespace:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description="HTTP under load, balance and sticky, against what is used today.")
    parser.add_argument("--quick", action="store_true", help="one short round, about a minute")
    parser.add_argument("--rounds", type=int, help="default: 4, quick: 1")
    parser.add_argument("--seconds", type=int, default=1, help="length of each run of wrk (default: 1)")
    parser.add_argument("--faults", action="store_true", help="also a blocked and a killed worker: 2 minutes more")
    parser.add_argument("--only", action="append", choices=NAMES, help="measure this one, not all (repeatable)")
    parser.add_argument("--cache", type=Path, default=home / "eggcluster-bench", help="the peers are installed there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every run")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a dated page")
    parser.add_argument("--png", type=Path, metavar="FILE", help="write a plot (needs matplotlib)")
    options = parser.parse_args()
    if options.png and importlib.util.find_spec("matplotlib") is None:
        parser.error("--png: matplotlib is not installed")  # now, not after eight minutes
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed")
    options.rounds = options.rounds or (1 if options.quick else 4)
    options.cache = options.cache.absolute()
    return options


def write(result: Result, options: argparse.Namespace) -> None:
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(result, options.png))
    if options.png:
        draw(result, options.png)


def main() -> int:
    options = parse_arguments()
    # A file or a pipe has no width of its own, and rich's 80 columns would break every cell of the widest table.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 190)
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    try:
        result = run(options, console)
        show(result, console)
        write(result, options)
    except (BenchmarkError, OSError, ImportError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
