"""Owns how each contestant of the messenger benchmark is started, and why one is absent. Runs in the benchmark.

A contestant is a function of the number of receivers: for eggcluster and Egg that many app workers beside the agent,
for the direct transports that many receiving processes.
"""

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.boot import Contestant, install_egg, python_versions

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NAMES = ("eggcluster", "mp.Queue", "pyzmq", "Redis", "Egg")
MASTER_READY = re.compile(rb"\[master\] .*started on ")

Build = Callable[[int], Contestant]


@dataclass(frozen=True)
class Entry:
    """A contestant that can be measured. `tasks`: what it can do beside flood, broadcast and ping."""

    build: Build
    versions: dict[str, str]
    has_request: bool = False


def entries(names: list[str], folder: Path, cache: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Those that can be measured; for the others the reason why not. `folder` is for what they need on disk."""
    make: dict[str, Callable[[], Entry | str]] = {
        "eggcluster": lambda: eggcluster_entry(folder),
        "mp.Queue": queue_entry,
        "pyzmq": lambda: peer_entry("pyzmq", "zmq"),
        "Redis": redis_entry,
        "Egg": lambda: egg_entry(folder / "egg", cache),
    }
    made = {name: make[name]() if name in names else "not asked for" for name in NAMES}
    present = {name: entry for name, entry in made.items() if isinstance(entry, Entry)}
    return present, {name: reason for name, reason in made.items() if isinstance(reason, str)}


def eggcluster_entry(folder: Path) -> Entry:
    base = folder / "messenger-benchmark"  # the cluster's name, too
    base.mkdir()
    shutil.copy(HERE / "cluster_station.py", base)
    program = str(Path(sys.executable).with_name("eggcluster"))
    target = ["start", "cluster_station:app", "--agent", "cluster_station:agent"]
    versions = python_versions("eggcluster", "uvloop", "msgspec")

    def build(receivers: int) -> Contestant:
        def command(port: int) -> list[str]:
            return [program, *target, "--workers", str(receivers), "--port", str(port)]

        return Contestant("eggcluster", versions, command, base, MASTER_READY)

    return Entry(build, versions, has_request=True)


def egg_entry(base: Path, cache: Path) -> Entry | str:
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

    def build(receivers: int) -> Contestant:
        def command(port: int) -> list[str]:
            options = json.dumps({"baseDir": str(base), "workers": receivers, "port": port})
            return [node, "--no-deprecation", "--trace-warnings", "start.js", options]

        return Contestant("Egg", versions, command, base, MASTER_READY, environment=environment)

    return Entry(build, versions)


def queue_entry() -> Entry:
    return direct("mp.Queue", "queue_peer", python_versions())


def peer_entry(distribution: str, module: str) -> Entry | str:
    if importlib.util.find_spec(module) is None:
        return f"{distribution} is not installed"
    return direct(distribution, f"{module}_peer", python_versions(distribution))


def redis_entry() -> Entry | str:
    server = shutil.which("redis-server")
    if server is None:
        return "no redis-server"
    if importlib.util.find_spec("redis") is None:
        return "the package redis is not installed"
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    found = re.search(r"v=(\S+)", said)
    versions = {"redis-server": found[1] if found else "?", "redis-py": importlib.metadata.version("redis")}
    return direct("Redis", "redis_peer", versions)


def direct(name: str, module: str, versions: dict[str, str]) -> Entry:
    """A transport without a master: one script that forks its receivers."""

    def build(receivers: int) -> Contestant:
        def command(port: int) -> list[str]:
            return [sys.executable, "-m", f"benchmarks.messenger_peers.{module}", str(port), str(receivers)]

        return Contestant(name, versions, command, ROOT, re.compile(rb"^ready$", re.MULTILINE))

    return Entry(build, versions)
