"""Owns the benchmark of the messenger against multiprocessing.Queue, pyzmq, Redis and Egg; runs by hand, on Linux.

    python -m benchmarks.messenger [--quick] [--only eggcluster] [--json FILE] [--markdown FILE] [--png FILE]

What is measured, and how it is kept fair, is in `benchmarks/README.md`.
"""

import argparse
import datetime
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

sys.path.pop(0)  # not this file's own folder: the `http` in there is a benchmark, not the standard library's
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.boot import BenchmarkError, adopt_orphans, machine
from benchmarks.messenger_peers.contestants import NAMES, Entry, entries
from benchmarks.messenger_peers.measure import SupervisorSettings, take_turn
from benchmarks.messenger_peers.plot import draw
from benchmarks.messenger_peers.report import Result, markdown, show

SIZES = (16, 256, 4 * 2**10, 64 * 2**10, 2**20)  # bytes
RECEIVERS = (2, 8)
RUN_LIMIT, QUICK_LIMIT = 240.0, 60.0  # s
MAX_ROUNDS = 9


def plan_of(options: argparse.Namespace) -> SupervisorSettings:
    sizes, receivers = ((), RECEIVERS[:1]) if options.trips else (SIZES, RECEIVERS)
    return SupervisorSettings(sizes, receivers, options.seconds or (0.1 if options.quick else 0.25))


def run(options: argparse.Namespace, console: Console) -> Result:
    """Rounds in which everyone has one turn, each starting with another one, for as long as there is time."""
    plan, began = plan_of(options), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="eggcluster-bench-") as folder:
        present, absent = entries(options.only or list(NAMES), Path(folder), options.cache)
        result = Result(
            date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            machine=machine(),
            versions={name: entry.versions for name, entry in present.items()},
            absent=absent,
            seconds=plan.seconds,
        )
        limit, longest = options.limit or (QUICK_LIMIT if options.quick else RUN_LIMIT), 0.0
        for turn in range(options.rounds):
            round_began = time.monotonic()
            if turn and round_began - began + longest > limit:
                break
            one_round(present, turn, plan, result, console)
            longest = max(longest, time.monotonic() - round_began)
    return result


def one_round(present: dict[str, Entry], turn: int, plan: SupervisorSettings, result: Result, console: Console) -> None:
    names = list(present)
    first = turn % len(names)  # nobody always comes after the same neighbour
    for name in names[first:] + names[:first]:
        began = time.monotonic()
        result.records += take_turn(present[name].build, present[name].has_request, plan)
        console.print(f"round {turn + 1}: {name} {time.monotonic() - began:.1f} s", style="dim")
    result.rounds += 1


def parse_arguments() -> argparse.Namespace:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description="Messages a second, round trips and CPU, against what is used today.")
    parser.add_argument("--quick", action="store_true", help="one short round, less than a minute")
    parser.add_argument("--rounds", type=int, help=f"at most so many (default: {MAX_ROUNDS}, quick: 1)")
    parser.add_argument("--limit", type=float, help="no round begins that would end after so many seconds")
    parser.add_argument("--seconds", type=float, help="length of each measurement")
    parser.add_argument("--trips", action="store_true", help="measure the round trips alone")
    parser.add_argument("--only", action="append", choices=NAMES, help="measure this one, not all (repeatable)")
    parser.add_argument("--cache", type=Path, default=home / "eggcluster-bench", help="Egg is installed there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a dated page")
    parser.add_argument("--png", type=Path, metavar="FILE", help="write a plot (needs matplotlib)")
    options = parser.parse_args()
    if options.png and importlib.util.find_spec("matplotlib") is None:
        parser.error("--png: matplotlib is not installed")  # now, not after four minutes
    options.rounds = options.rounds or (1 if options.quick else MAX_ROUNDS)
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
