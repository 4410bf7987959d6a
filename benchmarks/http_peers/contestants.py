"""Owns how each server of the HTTP benchmark is installed and started, and why one is absent. Runs in the benchmark."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.boot import HOST, Contestant, install_egg, python_versions
from benchmarks.fault_peers.contestants import install, version

HERE = Path(__file__).resolve().parent
OWN = "eggcluster"
OWN_BPF = "eggcluster, sticky by BPF"
OWN_ACCEPTOR = "eggcluster, sticky by acceptor"
EGG = "Egg"
EGG_STICKY = "Egg, sticky"
SERVERS = (OWN, "uvicorn", "gunicorn", "granian", "hypercorn", EGG)
SPREAD = (OWN, OWN_BPF, OWN_ACCEPTOR, EGG, EGG_STICKY)  # who gets clients with addresses of their own
NAMES = (*SERVERS, OWN_BPF, OWN_ACCEPTOR, EGG_STICKY)
PACKAGES = ("gunicorn", "gunicorn_h1c", "granian", "hypercorn", "uvloop", "httptools")
END_SOON = ("--graceful-timeout", "1")  # s; all that it changes is how long the benchmark waits for their end
STARTED = re.compile(rb"\[master\] .*started on ")

Build = Callable[[int], Contestant]  # argument: the number of workers


@dataclass(frozen=True)
class Entry:
    """A server that can be measured."""

    build: Build
    versions: dict[str, str]


def entries(names: list[str], folder: Path, cache: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Those that can be measured; for the others the reason why not. `folder` is for what they need on disk."""
    shutil.copy(HERE / "served" / "hello.py", folder)
    peers = cache / "http-peers"
    if {"gunicorn", "granian", "hypercorn"} & set(names):
        install(peers, PACKAGES)
    make: dict[str, Callable[[], Entry | str]] = {
        OWN: lambda: own(folder, OWN),
        "uvicorn": lambda: uvicorn(folder),
        "gunicorn": lambda: gunicorn(peers, folder),
        "granian": lambda: granian(peers, folder),
        "hypercorn": lambda: hypercorn(peers, folder),
        EGG: lambda: egg(folder / "egg", cache, EGG),
        OWN_BPF: lambda: own(folder, OWN_BPF, "--sticky", "--sticky-via", "bpf"),
        OWN_ACCEPTOR: lambda: own(folder, OWN_ACCEPTOR, "--sticky", "--sticky-via", "acceptor"),
        EGG_STICKY: lambda: egg(folder / "egg-sticky", cache, EGG_STICKY, sticky=True),
    }
    made = {name: make[name]() if name in names else "not asked for" for name in NAMES}
    present = {name: entry for name, entry in made.items() if isinstance(entry, Entry)}
    return present, {name: reason for name, reason in made.items() if isinstance(reason, str)}


def own(folder: Path, name: str, *sticky: str) -> Entry:
    program = [str(Path(sys.executable).with_name("eggcluster")), "start", "hello:app", "--host", HOST, *sticky]
    versions = python_versions("eggcluster", "uvicorn", "uvloop", "httptools")

    def build(workers: int) -> Contestant:
        def command(port: int) -> list[str]:
            return [*program, "--workers", str(workers), "--port", str(port), "--name", f"bench-{port}"]

        return Contestant(name, versions, command, folder, STARTED)

    return Entry(build, versions)


def uvicorn(folder: Path) -> Entry:
    """The one that eggcluster's workers run as their engine, from the same environment."""
    program = [str(Path(sys.executable).with_name("uvicorn")), "hello:app", "--host", HOST, "--no-access-log"]
    versions = python_versions("uvicorn", "uvloop", "httptools")
    return _peer("uvicorn", versions, program, "--port", rb"Application startup complete", folder)


def gunicorn(peers: Path, folder: Path) -> Entry:
    program = [str(peers / "bin" / "gunicorn"), "hello:app", "--worker-class", "asgi", "--no-control-socket"]
    versions = _versions(peers, "gunicorn", "gunicorn_h1c", "uvloop")
    more = ["--http-parser", "fast", *END_SOON]
    return _peer("gunicorn", versions, [*program, *more], f"--bind={HOST}:", rb"ASGI server listening", folder)


def granian(peers: Path, folder: Path) -> Entry:
    program = [str(peers / "bin" / "granian"), "hello:app", "--interface", "asgi", "--loop", "uvloop"]
    more = ["--host", HOST, "--respawn-failed-workers"]
    return _peer(
        "granian", _versions(peers, "granian", "uvloop"), [*program, *more], "--port", rb"Started worker", folder
    )


def hypercorn(peers: Path, folder: Path) -> Entry:
    program = [str(peers / "bin" / "hypercorn"), "hello:app", "--worker-class", "uvloop", *END_SOON]
    return _peer(
        "hypercorn", _versions(peers, "hypercorn", "uvloop"), program, f"--bind={HOST}:", rb"Running on", folder
    )


def _versions(peers: Path, *names: str) -> dict[str, str]:
    return dict(part.split(" ") for part in version(peers, *names).split(", "))


def _peer(name: str, versions: dict[str, str], program: list[str], port: str, line: bytes, folder: Path) -> Entry:
    """A server whose every worker prints `line`; `port` is the option for it, or all of it but the number."""

    def build(workers: int) -> Contestant:
        def command(number: int) -> list[str]:
            where = [f"{port}{number}"] if port.endswith(":") else [port, str(number)]
            return [*program, "--workers", str(workers), *where]

        return Contestant(name, versions, command, folder, re.compile(line), ready_count=workers)

    return Entry(build, versions)


def egg(base: Path, cache: Path, name: str, *, sticky: bool = False) -> Entry | str:
    """An application of its own, on the Egg that `boot.py` installs."""
    node = shutil.which("node")
    if node is None:
        return "no node"
    problem = install_egg(cache / "egg")
    if problem:
        return problem
    shutil.copytree(HERE / "egg", base)
    (base / "node_modules").symlink_to(cache / "egg" / "node_modules")
    manifest = json.loads((base / "node_modules/egg/package.json").read_text())
    node_version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=30)
    versions = {"egg": manifest["version"], "node": node_version.stdout.strip().lstrip("v")}
    environment = {"NODE_ENV": "production", "EGG_SERVER_ENV": "prod", "HOME": str(base)}  # HOME: its logs

    def build(workers: int) -> Contestant:
        def command(port: int) -> list[str]:
            options = {"baseDir": str(base), "workers": workers, "port": port, "sticky": sticky}
            return [node, "--no-deprecation", "--trace-warnings", "start.js", json.dumps(options)]

        return Contestant(name, versions, command, base, STARTED, environment=environment)

    return Entry(build, versions)
