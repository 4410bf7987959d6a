"""Owns how each server of the faults benchmark is installed and started. Runs in the benchmark."""

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.boot import HOST, INSTALL_TIMEOUT

ROOT = Path(__file__).resolve().parents[2]
STAGE = "tests.chaos.served.stage:api"
WORKERS = 2
HUNG = 5  # seconds until a server that looks for hung workers gives one up: the same for all that can be told
PACKAGES = ("gunicorn", "uvicorn[standard]", "uvicorn-worker", "granian", "hypercorn")


@dataclass(frozen=True)
class Contestant:
    """One server. `reloads`: whether a SIGHUP to its leader replaces the workers, as its documents say."""

    name: str
    version: str
    command: Callable[[int], list[str]]  # argument: the port
    reloads: bool = True


def contestants(cache: Path, names: list[str]) -> list[Contestant]:
    """Those of `names`; what is not there yet is installed into a virtual environment in `cache`."""
    folder = cache / "fault-peers"
    if set(names) - {"eggcluster"}:
        install(folder)
    everybody = [
        eggcluster(),
        gunicorn(folder, "gunicorn, own ASGI worker", "asgi"),
        gunicorn(folder, "gunicorn, uvicorn worker", "uvicorn_worker.UvicornWorker"),
        uvicorn(folder),
        granian(folder),
        hypercorn(folder),
    ]
    return [contestant for contestant in everybody if contestant.name in names]


NAMES = (
    "eggcluster",
    "gunicorn, own ASGI worker",
    "gunicorn, uvicorn worker",
    "uvicorn",
    "granian",
    "hypercorn",
)


def install(folder: Path, packages: Sequence[str] = PACKAGES) -> None:
    """A virtual environment with all peers, made once."""
    installed = folder / ".installed"
    if installed.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=INSTALL_TIMEOUT)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *packages], check=True, timeout=INSTALL_TIMEOUT)
    installed.touch()


def version(folder: Path, *names: str) -> str:
    found = next((folder / "lib").glob("python*/site-packages"), folder)
    parts = []
    for name in names:
        (distribution,) = importlib.metadata.distributions(name=name, path=[str(found)])
        parts.append(f"{name} {distribution.version}")
    return ", ".join(parts)


def eggcluster() -> Contestant:
    program = str(Path(sys.executable).with_name("eggcluster"))

    def command(port: int) -> list[str]:
        fixed = ["--no-agent", "--worker-timeout", str(HUNG), "--name", f"faults-{os.getpid()}"]
        return [program, "start", STAGE, "--workers", str(WORKERS), "--port", str(port), *fixed]

    own = importlib.metadata.version("eggcluster")
    return Contestant("eggcluster", f"eggcluster {own}, uvicorn {importlib.metadata.version('uvicorn')}", command)


def gunicorn(folder: Path, name: str, worker: str) -> Contestant:
    def command(port: int) -> list[str]:
        fixed = ["--worker-class", worker, "--timeout", str(HUNG), "--no-control-socket"]
        return [str(folder / "bin" / "gunicorn"), STAGE, "-w", str(WORKERS), "-b", f"{HOST}:{port}", *fixed]

    parts = ("gunicorn",) if worker == "asgi" else ("gunicorn", "uvicorn-worker", "uvicorn")
    return Contestant(name, version(folder, *parts), command)


def uvicorn(folder: Path) -> Contestant:
    def command(port: int) -> list[str]:
        fixed = ["--no-access-log", "--timeout-worker-healthcheck", str(HUNG)]
        return [str(folder / "bin" / "uvicorn"), STAGE, "--workers", str(WORKERS), "--port", str(port), *fixed]

    return Contestant("uvicorn", version(folder, "uvicorn"), command)


def granian(folder: Path) -> Contestant:
    def command(port: int) -> list[str]:
        fixed = ["--interface", "asgi", "--respawn-failed-workers", "--workers-kill-timeout", str(HUNG)]
        return [str(folder / "bin" / "granian"), STAGE, "--workers", str(WORKERS), "--port", str(port), *fixed]

    return Contestant("granian", version(folder, "granian"), command)


def hypercorn(folder: Path) -> Contestant:
    def command(port: int) -> list[str]:
        return [str(folder / "bin" / "hypercorn"), STAGE, "--workers", str(WORKERS), "--bind", f"{HOST}:{port}"]

    return Contestant("hypercorn", version(folder, "hypercorn"), command, reloads=False)
