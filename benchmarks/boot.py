"""Owns the benchmark of start-to-ready and steady memory against uvicorn and Egg; runs by hand, on Linux.

    python benchmarks/boot.py [--runs 7] [--workers 2] [--only uvicorn] [--json FILE] [--markdown FILE]

What is measured, and how it is kept fair, is in `benchmarks/README.md`.
"""

import argparse
import contextlib
import ctypes
import datetime
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

HOST = "127.0.0.1"
POLL_INTERVAL = 0.002  # s; a refused connection costs 30 us here, so the polling takes under 2 % of one core
REQUESTS = 10
STOP_TIMEOUT = 20.0  # s; above the 15 s that eggcluster allows itself
INSTALL_TIMEOUT = 300.0  # s
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)

# What would make a contestant start differently from an ordinary shell. The first one is the expensive one:
# without byte code caches every start compiles every module again.
DROPPED_VARIABLES = (
    "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "PYTHONMALLOC",
    "NODE_ENV", "NODE_OPTIONS", "HOST", "PORT", "WEB_CONCURRENCY", "EGG_WORKERS", "EGG_SERVER_ENV",
)  # fmt: skip

ASGI_APP = """\
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"11")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello world"})
"""
PYTHON_AGENT = """\
from eggcluster import Agent

agent = Agent()


@agent.on_ready
async def ready():
    pass
"""
EGG_FILES = {
    "config/config.default.js": (
        # Loopback only: Egg's default is every interface.
        f"exports.keys = 'benchmark';\nexports.cluster = {{ listen: {{ hostname: '{HOST}' }} }};\n"
    ),
    "app/router.js": "module.exports = app => { app.router.get('/', app.controller.home.index); };\n",
    "app/controller/home.js": (
        "const { Controller } = require('egg');\n"
        "module.exports = class extends Controller { async index() { this.ctx.body = 'hello world'; } };\n"
    ),
    "agent.js": "module.exports = class { async didReady() {} };\n",
    # The file that `egg-scripts start` spawns, less its command line: Egg is spared that extra process.
    "start.js": "require('egg').startCluster(JSON.parse(process.argv[2]));\n",
}


@dataclass(frozen=True)
class Contestant:
    """One server: how it is started, and which output line says how often that it is ready as a whole."""

    name: str
    versions: dict[str, str]
    command: Callable[[int], list[str]]  # argument: the port
    folder: Path
    ready_line: re.Pattern[bytes]
    ready_count: int = 1
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """What one start has shown; times are seconds since just before the exec."""

    ready: float
    answer: float
    pss: int  # bytes, the whole tree
    processes: list[tuple[str, int]]  # command line and PSS of each


class BenchmarkError(Exception):
    """A contestant did not start, did not answer or did not end: there is no honest number to print."""


# --- The contestants --------------------------------------------------------------------------------------


def python_versions(*distributions: str) -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in distributions}
    return versions | {platform.python_implementation(): platform.python_version()}


def eggcluster_contestant(folder: Path, workers: int) -> Contestant:
    command = str(Path(sys.executable).with_name("eggcluster"))
    return Contestant(
        name="eggcluster",
        versions=python_versions("eggcluster", "uvloop"),
        command=lambda port: [command, "start", "app:app", "--workers", str(workers), "--port", str(port)],
        folder=folder,
        ready_line=re.compile(rb"\[master\] .*started on "),
    )


def uvicorn_contestant(folder: Path, workers: int) -> Contestant:
    command = str(Path(sys.executable).with_name("uvicorn"))
    return Contestant(
        name="uvicorn",
        versions=python_versions("uvicorn", "uvloop"),
        command=lambda port: [command, "app:app", "--workers", str(workers), "--port", str(port)],
        folder=folder,
        # It has no line for the whole; each worker prints this one just before it listens.
        ready_line=re.compile(rb"Application startup complete"),
        ready_count=workers,
    )


def egg_contestant(cache: Path, workers: int) -> Contestant | str:
    """Egg 4, installed once into `cache`; or the reason why it is absent."""
    node = shutil.which("node")
    if node is None:
        return "no node"
    folder = cache / "egg"
    problem = install_egg(folder)
    if problem:
        return problem
    options = {"baseDir": str(folder), "workers": workers}
    flags = ["--no-deprecation", "--trace-warnings"]  # as `egg-scripts start` does
    manifest = json.loads((folder / "node_modules/egg/package.json").read_text())
    node_version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=30)
    return Contestant(
        name="Egg",
        versions={"egg": manifest["version"], "node": node_version.stdout.strip().lstrip("v")},
        command=lambda port: [node, *flags, "start.js", json.dumps(options | {"port": port})],
        folder=folder,
        ready_line=re.compile(rb"\[master\] .*started on "),
        # HOME: its log files go to $HOME/logs.
        environment={"NODE_ENV": "production", "EGG_SERVER_ENV": "prod", "HOME": str(folder)},
    )


def install_egg(folder: Path) -> str | None:
    """Writes the application and installs `egg@4` beside it, once; gives the reason when that fails."""
    for name, text in EGG_FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    installed = folder / ".installed"  # node_modules alone may be half of an interrupted installation
    if installed.exists():
        return None
    (folder / "package.json").write_text('{"name": "hello-egg", "version": "1.0.0", "private": true}\n')
    command = ["npm", "install", "egg@4", "--no-audit", "--no-fund"]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=INSTALL_TIMEOUT)
    except (OSError, subprocess.SubprocessError) as error:
        return f"npm install failed: {error}"
    installed.touch()
    return None


# --- Process trees ----------------------------------------------------------------------------------------


def adopt_orphans() -> None:
    """Makes this process the reaper of all it starts: nothing that a contestant leaves behind can hide."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def parents() -> dict[int, int]:
    """The parent of each living process; zombies are left out, and ours among them are reaped."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            # proc(5): the name is in parentheses and may hold anything, also parentheses.
            state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(entry)] = int(parent)
            elif int(parent) == os.getpid():
                os.waitpid(int(entry), os.WNOHANG)
    return found


def descendants() -> list[int]:
    """All that lives below this process, which is one contestant at most."""
    table, tree = parents(), [os.getpid()]
    for pid in tree:  # grows while it is walked
        tree += [child for child, parent in table.items() if parent == pid]
    return tree[1:]


def proportional_set_size(pid: int) -> int:
    """Bytes; proc_pid_smaps(5): a page that n processes share counts as 1/n of a page in each."""
    found = re.search(r"^Pss:\s+(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found, "BUG: smaps_rollup without a Pss line"
    return int(found[1]) * 1024


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def end_everything(leader: subprocess.Popen[bytes]) -> list[str]:
    """Asks the leader to end, kills what is left, and gives the titles of what had to be killed.

    Raises BenchmarkError if something survives even that.
    """
    with contextlib.suppress(ProcessLookupError):
        leader.terminate()
    # Looking at the whole tree, not at the leader alone: a helper process ends a moment after its master.
    wait_until(lambda: not descendants(), STOP_TIMEOUT)
    stubborn = []
    for pid in descendants():
        with contextlib.suppress(OSError):
            stubborn.append(title(pid))
            os.kill(pid, signal.SIGKILL)
    if not wait_until(lambda: not descendants(), STOP_TIMEOUT):
        raise BenchmarkError(f"processes survived SIGKILL: {descendants()}")
    leader.wait(STOP_TIMEOUT)
    return stubborn


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not (reached := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return reached


# --- One start --------------------------------------------------------------------------------------------


class ReadyLine(threading.Thread):
    """Reads a contestant's output to its end and notes when the ready line has come often enough."""

    def __init__(self, contestant: Contestant, process: subprocess.Popen[bytes]) -> None:
        super().__init__(name=f"output of {contestant.name}", daemon=True)
        self.seen_at: float | None = None
        self.tail: deque[bytes] = deque(maxlen=20)
        self._pattern, self._missing = contestant.ready_line, contestant.ready_count
        self._process = process

    def run(self) -> None:
        assert self._process.stdout is not None, "BUG: started without a pipe"
        for line in self._process.stdout:
            self.tail.append(line)
            if self._missing and self._pattern.search(line):
                self._missing -= 1
                if not self._missing:
                    self.seen_at = time.monotonic()

    def text(self) -> str:
        return b"".join(self.tail).decode(errors="replace")


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def answers(port: int, timeout: float) -> bool:
    """Whether a request on a new connection is answered with 200; once connected it waits for the answer."""
    request = f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode()
    try:
        with socket.create_connection((HOST, port), timeout=timeout) as connection:
            connection.sendall(request)
            return connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    except (ConnectionError, TimeoutError):
        return False


@contextlib.contextmanager
def started(contestant: Contestant, port: int) -> Iterator[tuple[float, ReadyLine]]:
    """The time just before the exec, and the output. Everything that was started is dead afterwards."""
    environment = {name: value for name, value in os.environ.items() if name not in DROPPED_VARIABLES}
    command = contestant.command(port)
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=contestant.folder,
        env=environment | contestant.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    output = ReadyLine(contestant, process)
    output.start()
    try:
        yield began, output
    finally:
        stubborn = end_everything(process)
        output.join(STOP_TIMEOUT)
    if stubborn:
        raise BenchmarkError(f"{contestant.name} did not end within {STOP_TIMEOUT} s: {stubborn}")


def measure(contestant: Contestant, rest: float, timeout: float) -> Sample:
    """Starts it, waits for the first answer and the ready line, lets it rest, weighs it, ends it."""
    port = free_port()
    with started(contestant, port) as (began, output):
        while not answers(port, timeout):
            if time.monotonic() > began + timeout or not output.is_alive():
                raise BenchmarkError(f"{contestant.name} gave no answer:\n{output.text()}")
            time.sleep(POLL_INTERVAL)
        answer = time.monotonic() - began
        if not wait_until(lambda: output.seen_at is not None, timeout):
            raise BenchmarkError(f"{contestant.name} printed no ready line:\n{output.text()}")
        assert output.seen_at is not None, "BUG: waited for it"
        failed = [n for n in range(REQUESTS) if not answers(port, timeout)]
        if failed:
            raise BenchmarkError(f"{contestant.name} failed requests {failed}:\n{output.text()}")
        time.sleep(rest)
        processes = [(title(pid), proportional_set_size(pid)) for pid in descendants()]
    return Sample(output.seen_at - began, answer, sum(pss for _, pss in processes), processes)


# --- The run and its result -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """The samples of all rounds; a contestant without a sample has its reason in `absent`."""

    date: str
    machine: dict[str, str]
    workers: int
    versions: dict[str, dict[str, str]]
    absent: dict[str, str]
    samples: dict[str, list[Sample]]

    def values(self, name: str, metric: str) -> list[float]:
        return [float(getattr(sample, metric)) for sample in self.samples.get(name, [])]

    def ratio(self, rival: str, metric: str) -> str:
        own, other = self.values("eggcluster", metric), self.values(rival, metric)
        return f"{statistics.median(own) / statistics.median(other):.2f}" if own and other else "-"


METRICS: dict[str, tuple[str, float, str]] = {  # of Sample: heading, divisor, format
    "ready": ("start to ready, s", 1, ".3f"),
    "answer": ("start to first answer, s", 1, ".3f"),
    "pss": ("steady memory (PSS), MiB", 2**20, ".1f"),
}
NAMES = ("eggcluster", "uvicorn", "Egg")
RIVALS = ("Egg", "uvicorn")


def machine() -> dict[str, str]:
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cores = str(len(os.sched_getaffinity(0)))
    return {"CPU": cpu[1] if cpu else platform.machine(), "cores": cores, "kernel": platform.release()}


def contestants(options: argparse.Namespace, folder: Path) -> tuple[list[Contestant], dict[str, str]]:
    """Those that can be measured, and for the others the reason why not."""
    (folder / "app.py").write_text(ASGI_APP)
    (folder / "agent.py").write_text(PYTHON_AGENT)
    build: dict[str, Callable[[], Contestant | str]] = {
        "eggcluster": lambda: eggcluster_contestant(folder, options.workers),
        "uvicorn": lambda: uvicorn_contestant(folder, options.workers),
        "Egg": lambda: egg_contestant(options.cache, options.workers),
    }
    asked = options.only or NAMES
    built = {name: build[name]() if name in asked else "not asked for" for name in NAMES}
    present = [item for item in built.values() if isinstance(item, Contestant)]
    return present, {name: item for name, item in built.items() if isinstance(item, str)}


def run(options: argparse.Namespace, console: Console) -> Result:
    with tempfile.TemporaryDirectory(prefix="eggcluster-bench-") as folder:
        present, absent = contestants(options, Path(folder))
        samples: dict[str, list[Sample]] = {contestant.name: [] for contestant in present}
        for turn in range(options.runs + 1):  # turn 0 fills the byte code and page caches: not counted
            first = turn % len(present)  # nobody always comes after the same neighbour
            for contestant in present[first:] + present[:first]:
                sample = measure(contestant, options.rest if turn else 0.0, options.timeout)
                console.print(
                    f"{turn or 'warm-up'}: {contestant.name} ready {sample.ready:.3f} s, "
                    f"first answer {sample.answer:.3f} s, {sample.pss / 2**20:.1f} MiB",
                    style="dim",
                )
                if turn:
                    samples[contestant.name].append(sample)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    versions = {contestant.name: contestant.versions for contestant in present}
    return Result(date, machine(), options.workers, versions, absent, samples)


def cell(values: list[float], divisor: float, spec: str) -> str:
    if not values:
        return "absent"
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle / divisor:{spec}} ({low / divisor:{spec}} to {high / divisor:{spec}})"


def rows(result: Result) -> list[list[str]]:
    """The result's table, its heading first."""
    lines = [["median (lowest to highest)", *NAMES, *(f"eggcluster : {rival}" for rival in RIVALS)]]
    for metric, (heading, divisor, spec) in METRICS.items():
        cells = [cell(result.values(name, metric), divisor, spec) for name in NAMES]
        lines.append([heading, *cells, *(result.ratio(rival, metric) for rival in RIVALS)])
    counts = [str(len(samples[-1].processes)) if (samples := result.samples.get(n)) else "-" for n in NAMES]
    lines.append(["processes", *counts, *("" for _ in RIVALS)])
    return lines


def facts(result: Result) -> list[str]:
    """The lines that every table needs beside it: machine, versions, what is missing."""
    runs = max(len(samples) for samples in result.samples.values())
    lines = [f"{result.date}, {runs} runs, {result.workers} workers"]
    lines.append(", ".join(f"{name}: {value}" for name, value in result.machine.items()))
    for name, versions in result.versions.items():
        lines.append(f"{name}: " + ", ".join(f"{part} {version}" for part, version in versions.items()))
    return lines + [f"{name}: absent ({reason})" for name, reason in result.absent.items()]


def markdown(result: Result) -> str:
    heading, *body = rows(result)
    table = [heading, ["---"] * len(heading), *body]
    lines = [f"# Boot and memory, {result.date}", "", "Made by `benchmarks/boot.py`.", ""]
    lines += [f"- {fact}" for fact in facts(result)]
    lines += ["", *(f"| {' | '.join(line)} |" for line in table)]
    lines += ["", "Where the memory is, in the last run:", ""]
    lines += ["| | process | PSS, MiB |", "| --- | --- | --- |"]
    for name, samples in result.samples.items():
        for command, pss in samples[-1].processes:
            lines.append(f"| {name} | `{short(command)}` | {pss / 2**20:.1f} |")
    return "\n".join(lines) + "\n"


def short(command: str) -> str:
    """A command line without the folders of this machine, and not longer than a table bears."""
    text = re.sub(r"/[^\s\"']*/", "", command)
    return (text if len(text) <= 70 else text[:67] + "...").replace("|", "\\|")


def show(result: Result, console: Console) -> None:
    heading, *body = rows(result)
    table = Table(title="Boot and memory", caption="\n".join(facts(result)), caption_justify="left")
    for number, column in enumerate(heading):
        table.add_column(column, justify="right" if number else "left")
    for line in body:
        table.add_row(*line)
    console.print(table)


def parse_arguments() -> argparse.Namespace:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description="Start-to-ready and memory against Egg and uvicorn.")
    parser.add_argument("--runs", type=int, default=7, help="counted runs of each (default: 7)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", action="append", choices=NAMES, help="measure this one, not all (repeatable)")
    parser.add_argument("--rest", type=float, default=3.0, help="seconds of rest before memory is read")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds that one start may take")
    parser.add_argument("--cache", type=Path, default=home / "eggcluster-bench", help="Egg is installed there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a dated page")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    # A file or a pipe has no width of its own, and rich's 80 columns would break every cell of the table.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    options.cache = options.cache.absolute()
    adopt_orphans()
    try:
        result = run(options, console)
    except (BenchmarkError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    show(result, console)
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
