"""Owns how each server of the engine benchmark is started, and why one is absent. Runs in the benchmark.

One worker each, on the interpreter that runs the benchmark. Idle connections stay open for longer than a turn lasts.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.boot import HOST, BenchmarkError, Contestant, python_versions
from benchmarks.http_peers.contestants import END_SOON, STARTED

Interface = Literal["asgi", "wsgi"]
THREADS = 8  # for WSGI
KEPT = 600  # s that an idle connection is kept
HEAD_TIMEOUT = 60_000  # ms; granian closes an idle connection by it, and allows no more
BACKLOG = 16_384  # granian serves no more connections than that at a time
OWN = "eggcluster"
NAMES = (OWN, "uvicorn", "granian", "gunicorn", "hypercorn")
PROBE_TIMEOUT = 30.0  # s


@dataclass(frozen=True)
class Launch:
    """How a server is started for one interface. `label`: its name in the table."""

    label: str
    command: Callable[[str, int], list[str]]  # arguments: the application, as module:attribute, and the port
    ready: re.Pattern[bytes]


@dataclass(frozen=True)
class Engine:
    """A server that can be measured; `tree`: the folder that its eggcluster is to be imported from."""

    versions: dict[str, str]
    launches: dict[Interface, Launch]
    environment: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tree: Path | None = None

    def contestant(self, interface: Interface, target: str, folder: Path, core: int) -> Contestant:
        """Its processes run on `core` alone."""
        launch = self.launches[interface]

        def command(port: int) -> list[str]:
            return ["taskset", "--cpu-list", str(core), *launch.command(target, port)]

        return Contestant(launch.label, self.versions, command, folder, launch.ready, environment=self.environment)


def engines(names: list[str], own: list[str], trees: dict[str, Path]) -> tuple[dict[str, Engine], dict[str, str]]:
    """Those that can be measured; for the others the reason why not. `own`: the command that is eggcluster."""
    make: dict[str, Callable[[], Engine]] = {OWN: lambda: eggcluster(OWN, own, None)}
    make |= {name: lambda name=name, tree=tree: eggcluster(name, own, tree) for name, tree in trees.items()}  # type: ignore[misc]
    make |= {"uvicorn": uvicorn, "granian": granian, "gunicorn": gunicorn, "hypercorn": hypercorn}
    present: dict[str, Engine] = {}
    absent: dict[str, str] = {}
    for name in names:
        try:
            present[name] = make[name]()
        except importlib.metadata.PackageNotFoundError as error:
            absent[name] = f"{error.name} is not installed"
    return present, absent


def eggcluster(name: str, own: list[str], tree: Path | None) -> Engine:
    environment = {"PYTHONPATH": str(tree)} if tree else {}
    version = said([*own, "--version"], environment).split()[-1]
    has_threads = "--threads " in said([*own, "start", "--help"], environment)
    notes = () if has_threads else ("WSGI with its fixed number of threads: it has no option --threads",)
    threads = ["--threads", str(THREADS)] if has_threads else []
    fixed = ["--workers", "1", "--host", HOST, "--keep-alive-timeout", str(KEPT), "--no-access-log", *threads]

    def command(target: str, port: int) -> list[str]:
        return [*own, "start", target, *fixed, "--port", str(port), "--name", f"bench-{port}"]

    launch = Launch(name, command, STARTED)
    versions = {"eggcluster": version} | python_versions("uvloop", "httptools", "websockets")
    return Engine(versions, {"asgi": launch, "wsgi": launch}, environment, notes, tree)


def said(command: list[str], environment: dict[str, str]) -> str:
    """What a command prints; raises BenchmarkError if it fails."""
    surroundings = os.environ | environment
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=PROBE_TIMEOUT)
    if done.returncode != 0:
        raise BenchmarkError(f"{' '.join(command)} failed: {done.stderr}")
    return done.stdout


def uvicorn() -> Engine:
    program = module("uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--host", HOST)
    fixed = [*program, "--timeout-keep-alive", str(KEPT)]
    launch = Launch(
        "uvicorn",
        lambda target, port: [*fixed, target, "--port", str(port)],
        re.compile(rb"Application startup complete"),
    )
    return Engine(python_versions("uvicorn", "uvloop", "httptools", "websockets"), {"asgi": launch})


def granian() -> Engine:
    limits = ["--backlog", str(BACKLOG), "--backpressure", str(BACKLOG), "--http1-header-read-timeout"]
    program = module("granian", "--workers", "1", "--runtime-threads", "1", "--host", HOST, *limits, str(HEAD_TIMEOUT))

    def launch(*interface: str) -> Launch:
        fixed = [*program, "--interface", *interface]
        return Launch(
            "granian", lambda target, port: [*fixed, "--port", str(port), target], re.compile(rb"Started worker")
        )

    asgi, wsgi = launch("asgi", "--loop", "uvloop"), launch("wsgi", "--blocking-threads", str(THREADS))
    return Engine(python_versions("granian", "uvloop"), {"asgi": asgi, "wsgi": wsgi})


def gunicorn() -> Engine:
    """uvicorn's worker for ASGI, where it is installed; gthread for WSGI."""
    program = module("gunicorn", "--workers", "1", "--no-control-socket", "--keep-alive", str(KEPT), *END_SOON)

    def launch(label: str, ready: bytes, *kind: str) -> Launch:
        fixed = [*program, "--worker-class", *kind]
        return Launch(label, lambda target, port: [*fixed, "--bind", f"{HOST}:{port}", target], re.compile(ready))

    wsgi = launch("gunicorn, gthread", rb"Booting worker", "gthread", "--threads", str(THREADS))
    versions, launches = python_versions("gunicorn"), dict[Interface, Launch]({"wsgi": wsgi})
    try:
        versions |= python_versions("uvicorn-worker", "uvicorn")
    except importlib.metadata.PackageNotFoundError:
        return Engine(versions, launches, notes=("no ASGI: uvicorn-worker is not installed",))
    worker = "uvicorn_worker.UvicornWorker"
    launches["asgi"] = launch("gunicorn, uvicorn worker", rb"Application startup complete", worker)
    return Engine(versions, launches)


def hypercorn() -> Engine:
    fixed = module("hypercorn", "--workers", "1", "--worker-class", "uvloop", "--keep-alive", str(KEPT), *END_SOON)
    launch = Launch(
        "hypercorn", lambda target, port: [*fixed, "--bind", f"{HOST}:{port}", target], re.compile(rb"Running on")
    )
    return Engine(python_versions("hypercorn", "uvloop"), {"asgi": launch})


def module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]
