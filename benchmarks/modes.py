"""Owns the benchmark of the start modes against each other. Runs by hand, on Linux.

    python benchmarks/modes.py [--seconds 3] [--rounds 3] [--python NAME=COMMAND]... [--markdown FILE]

What is measured, and how it is kept fair, is in `benchmarks/README.md`.
"""

import argparse
import contextlib
import datetime
import json
import re
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

sys.path.pop(0)  # not this file's own folder: the `http` in there is a benchmark, not the standard library's
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import urllib.request

from benchmarks.boot import HOST, BenchmarkError, machine

PEERS = Path(__file__).resolve().parent / "mode_peers"
WORKERS = (1, 2, 4)
CONNECTIONS = 32
MESSAGES = 20_000
DEADLINE = 30.0  # seconds
PROBE = "import sys; print(sys.version.split()[0], sys.version_info >= (3, 14))"
MIB = 2**20
Figures = dict[str, float]


class Cluster:
    """One cluster of a mode; its log goes to a file."""

    def __init__(self, python: list[str], mode: str, workers: int, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        self._log = folder / "log"
        command = [*python, "-m", "eggcluster", "start", "app:app", "--base-dir", str(PEERS), "--agent", "agent:agent"]
        command += [
            "--start-mode",
            mode,
            "--workers",
            str(workers),
            "--port",
            str(self.port),
            "--name",
            f"b{self.port}",
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stderr=log)
        self.ready = float(self.logged(r"\[master\] b\d+ started on .*\((\d+)ms\)"))
        self.pid = int(self.logged(r"env \w+, pid (\d+)"))

    def logged(self, pattern: str) -> str:
        """What the log says, as soon as it does."""
        end = time.monotonic() + DEADLINE
        while (found := re.search(pattern, self._log.read_text())) is None:
            if time.monotonic() > end or self._process.poll() is not None:
                raise BenchmarkError(f"no {pattern!r} in the log:\n{self._log.read_text()}")
            time.sleep(0.01)
        return found[1]

    def ask(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=DEADLINE) as answer:
            body: bytes = answer.read()
        return body

    def rate(self, seconds: int) -> float:
        """Requests/s under wrk."""
        load = ["wrk", "--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds}s"]
        said = subprocess.run([*load, f"http://{HOST}:{self.port}/"], capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in said:
            raise BenchmarkError(said)
        return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])  # type: ignore[index]  # wrk says it always

    def memory(self) -> float:
        """MiB of the whole tree, pages that are shared divided (PSS)."""
        return sum(_pss(pid) for pid in _tree(self.pid)) / MIB

    def replacement(self) -> float:
        """Milliseconds that the successor of a worker that died took from its start to its readiness."""
        self.ask("/die")
        return float(self.logged(r"(?s)died \(.*?started at .*?\((\d+)ms\)"))

    def close(self) -> None:
        self._process.terminate()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            subprocess.run(
                ["kill", str(self.pid)], stderr=subprocess.DEVNULL
            )  # below a script that does not pass it on
        self._process.wait(DEADLINE)


@contextlib.contextmanager
def cluster(python: list[str], mode: str, workers: int) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="eggcluster-bench-") as folder:
        running = Cluster(python, mode, workers, Path(folder))
        try:
            yield running
        finally:
            running.close()


def turn(python: list[str], mode: str, seconds: int) -> Figures:
    """Every figure of a mode, once."""
    figures: Figures = {}
    memory: dict[int, float] = {}
    for workers in WORKERS:
        with cluster(python, mode, workers) as running:
            figures[f"{workers} workers, requests/s"] = running.rate(seconds)
            memory[workers] = running.memory()
            if workers == 2:
                figures["start to ready, ms"] = running.ready
                figures["messages/s to the agent"] = MESSAGES / float(json.loads(running.ask(f"/flood?{MESSAGES}")))
                figures["a replacement's start, ms"] = running.replacement()
    figures["memory with 2 workers, MiB"] = memory[2]
    figures["memory of one worker more, MiB"] = (memory[4] - memory[1]) / 3
    figures["2 workers : 1"] = figures["2 workers, requests/s"] / figures["1 workers, requests/s"]
    return figures


def entries(pythons: list[str]) -> dict[str, tuple[list[str], str]]:
    """By name, how Python is run and the mode."""
    found = {}
    for given in pythons:
        _, _, command = given.rpartition("=")
        words = shlex.split(command)
        version, has_interpreters = subprocess.check_output([*words, "-c", PROBE], text=True).split()
        for mode in ("process", "thread", *(["interpreter"] if has_interpreters == "True" else [])):
            found[f"{mode}, {version}"] = words, mode
    return found


def _tree(root: int) -> list[int]:
    children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    return [root, *(pid for child in children for pid in _tree(int(child)))]


def _pss(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024  # type: ignore[index]  # always there


def table(results: dict[str, list[Figures]]) -> list[str]:
    """Medians, the lowest and the highest beside them."""
    lines = ["| | " + " | ".join(results) + " |", "| --- |" + " ---: |" * len(results)]
    for name in next(iter(results.values()))[0]:
        cells = []
        for rounds in results.values():
            values = sorted(figures[name] for figures in rounds)
            digits = 2 if ":" in name else 0
            median, low, high = (f"{value:,.{digits}f}" for value in (statistics.median(values), values[0], values[-1]))
            cells.append(f"{median} ({low}…{high})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", action="append", help="NAME=COMMAND that runs a Python with eggcluster installed")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    console = Console()
    contestants = entries(options.python or [sys.executable])
    results: dict[str, list[Figures]] = {name: [] for name in contestants}
    for done in range(options.rounds):
        names = [*contestants][done % len(contestants) :] + [*contestants][: done % len(contestants)]
        for name in names:
            results[name].append(turn(*contestants[name], options.seconds))
            console.print(f"round {done + 1}, {name}", style="dim")
    lines = table(results)
    console.print("\n".join(lines), soft_wrap=True)
    if options.markdown:
        date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
        about = ", ".join(f"{name} {value}" for name, value in machine().items())
        about += f"; {options.rounds} rounds, wrk with {CONNECTIONS} connections for {options.seconds} s."
        text = [f"# The start modes, {date}", "", "Made by `benchmarks/modes.py`.", "", about, "", *lines, ""]
        options.markdown.write_text("\n".join(text))


if __name__ == "__main__":
    main()
