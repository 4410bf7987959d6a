"""Owns the benchmark of faults against gunicorn, uvicorn, granian and hypercorn; runs by hand, on Linux.

    python benchmarks/faults.py [--fault sigkill] [--only eggcluster] [--runs 1] [--json FILE] [--markdown FILE]

What is measured, and how it is kept fair, is in `benchmarks/README.md`.
"""

import argparse
import datetime
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

sys.path.pop(0)  # not this file's own folder: the `http` in there is a benchmark, not the standard library's
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.boot import BenchmarkError, adopt_orphans, machine
from benchmarks.fault_peers.contestants import NAMES, contestants
from benchmarks.fault_peers.fault import FAULTS
from benchmarks.fault_peers.report import Result, kinds, markdown, show
from benchmarks.fault_peers.trial import run_trial


def run(options: argparse.Namespace, console: Console) -> Result:
    """Fault by fault, everyone after the other: what the machine does meanwhile is the same for all."""
    present = contestants(options.cache, options.only or list(NAMES))
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    result = Result(date, machine(), {contestant.name: contestant.version for contestant in present})
    for fault in FAULTS:
        if options.fault and fault.name not in options.fault:
            continue
        for _ in range(options.runs):
            for contestant in present:
                if fault.needs_reload and not contestant.reloads:
                    continue
                trial = run_trial(contestant, fault)
                console.print(f"{fault.name}: {contestant.name}: others {kinds(trial.others)}, {trial}", style="dim")
                result.trials.append(trial)
    return result


def parse_arguments() -> argparse.Namespace:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description="Faults under load: failed requests, time to recovery, orphans.")
    parser.add_argument("--runs", type=int, default=1, help="of each fault and server (default: 1)")
    parser.add_argument("--fault", action="append", choices=[f.name for f in FAULTS], help="this one (repeatable)")
    parser.add_argument("--only", action="append", choices=NAMES, help="this server, not all (repeatable)")
    parser.add_argument("--cache", type=Path, default=home / "eggcluster-bench", help="the peers are installed there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every trial")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a dated page")
    options = parser.parse_args()
    options.cache = options.cache.absolute()
    return options


def main() -> int:
    options = parse_arguments()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 190)
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    try:
        result = run(options, console)
    except (BenchmarkError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    show(result, console)
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
