"""Owns the benchmark of shared clients and `shared` against Redis and gunicorn's dirty workers. Runs by hand, on Linux.

    python benchmarks/shared.py [--seconds 0.5] [--rounds 5] [--workers 4] [--markdown FILE]

What is measured, and how it is kept fair, is in `benchmarks/README.md`.
"""

import argparse
import asyncio
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.pop(0)  # not this file's own folder: the `http` in there is a benchmark, not the standard library's
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.boot import machine

from eggcluster import Cluster

PEERS = Path(__file__).resolve().parent / "shared_peers"
TRIPS = ("invoke", "messenger request", "Redis ECHO", "shared.increment", "Redis INCR", "Redis GET")
BURST, PACED, PAUSE = 20_000, 500, 0.002  # values; seconds between two paced ones
SIZE = 256  # bytes
Figures = dict[str, list[dict[str, float]]]


@contextlib.contextmanager
def redis_server(folder: str) -> Iterator[str]:
    """A Redis of our own on a Unix socket; gives its path."""
    path = f"{folder}/redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
    limit = ["--client-output-buffer-limit", "pubsub 0 0 0"]  # by default it cuts slow subscribers off
    with subprocess.Popen([*command, *limit], stdout=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: Path(path).exists())
            yield path
        finally:
            server.terminate()


@contextlib.contextmanager
def gunicorn(folder: str) -> Iterator[str | None]:
    """One worker and one dirty worker; gives their address, None where there is no gunicorn that has them."""
    if importlib.util.find_spec("gunicorn.dirty") is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "gunicorn", "-k", "asgi", "-w", "1", "-b", address, "--timeout", "300"]
    dirty = ["--dirty-app", "app:Echo", "--dirty-workers", "1", "--no-control-socket", "app:app"]
    environ = {**os.environ, "PYTHONPATH": f"{PEERS}{os.pathsep}{PEERS / 'dirty'}"}
    with subprocess.Popen([*command, *dirty], cwd=folder, env=environ, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: answers(address))
            time.sleep(1)  # the dirty worker says nowhere else that it is there
            yield address
        finally:
            server.terminate()


def wait_for(condition: Any, limit: float = 20.0) -> None:
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("a peer did not start")
        time.sleep(0.01)


def answers(address: str) -> bool:
    host, _, port = address.partition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False


async def fan_out(cluster: Cluster, over: str, order: tuple[int, int, float], workers: int) -> dict[str, float]:
    """Have values pushed to all workers, and wait until nothing comes any more."""
    ask = cluster.messenger.request
    slots = [f"app#{slot}" for slot in range(1, workers + 1)]
    for slot in slots:
        await ask("listen", to=slot)
    action, to = ("push", "app#1") if over == "subscribe" else ("redis burst", "agent")
    await ask(action, order, to=to, timeout=120)
    before = -1
    while True:
        heard = [await ask("heard", to=slot) for slot in slots]
        if before == (before := sum(each["count"] for each in heard)):
            break
        await asyncio.sleep(0.2)
    seconds = (max(each["last"] for each in heard) - min(each["first"] for each in heard)) / 1e9
    return {
        "per second": before / seconds,
        "delivered": before / workers / order[0],
        "p50": statistics.median(each["p50"] for each in heard),
        "p99": max(each["p99"] for each in heard),
    }


async def one_round(cluster: Cluster, figures: Figures, options: argparse.Namespace, turn: int) -> None:
    """Everybody once; each round begins with another one."""
    names = [*TRIPS[turn % len(TRIPS) :], *TRIPS[: turn % len(TRIPS)]]
    for name in names:
        answer = await cluster.messenger.request("round trips", (name, options.seconds), to="app#1", timeout=60)
        figures.setdefault(name, []).append(answer)
    figures.setdefault("shared read", []).append(await cluster.messenger.request("reads", 0, to="app#1", timeout=60))
    for over in ("subscribe", "Redis pub/sub")[:: -1 if turn % 2 else 1]:
        burst = await fan_out(cluster, over, (BURST, SIZE, 0), options.workers)
        paced = await fan_out(cluster, over, (PACED, SIZE, PAUSE), options.workers)
        figures.setdefault(over, []).append(paced | {key: burst[key] for key in ("per second", "delivered")})


async def run(options: argparse.Namespace, folder: str) -> Figures:
    """All rounds."""
    figures: Figures = {}
    with redis_server(folder) as path, gunicorn(folder) as dirty:
        os.environ |= {"BENCH_REDIS": path, "PYTHONPATH": f"{PEERS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        where = {"base_dir": str(PEERS / "egg"), "name": "bench", "port": 0, "log_level": "WARNING"}
        cluster = Cluster("app:app", workers=options.workers, **where)
        async with cluster:
            for turn in range(options.rounds):
                await one_round(cluster, figures, options, turn)
                if dirty is not None:
                    url = f"http://{dirty}/?{options.seconds}"
                    body = await asyncio.to_thread(lambda url=url: urllib.request.urlopen(url, timeout=60).read())  # type: ignore[misc]
                    figures.setdefault("gunicorn dirty", []).append(json.loads(body))
    return figures


def versions() -> str:
    """Who was compared."""
    server = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    found = [f"redis-server {server.split('v=')[1].split()[0]}", f"CPython {platform.python_version()}"]
    for name in ("eggcluster", "uvloop", "redis", "gunicorn"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def page(figures: Figures, options: argparse.Namespace) -> str:
    """The results as Markdown: medians over the rounds, and ratios to Redis."""
    middle = {
        name: {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        for name, rounds in figures.items()
    }
    peers = {"invoke": "Redis ECHO", "messenger request": "Redis ECHO", "gunicorn dirty": "Redis ECHO"}
    peers |= {"shared.increment": "Redis INCR", "shared read": "Redis GET", "subscribe": "Redis pub/sub"}
    lines = ["| round trip, 16 B | p50, µs | p99, µs | calls/s, 32 callers | p50 : Redis |", "| --- " * 5 + "|"]
    for name in (*TRIPS[:3], "gunicorn dirty", *TRIPS[3:], "shared read"):
        found = middle.get(name)
        if found is None:
            lines.append(f"| {name} | absent: gunicorn 25 or later is not installed | | | |")
            continue
        ratio = f"{found['p50'] / middle[peers[name]]['p50']:.3g}" if name in peers else ""
        p99, rate = (f"{found[key]:,.0f}" if key in found else "" for key in ("p99", "per second"))
        lines.append(f"| {name} | {found['p50']:,.3g} | {p99} | {rate} | {ratio} |")
    lines += [
        "",
        f"| to {options.workers} workers, {SIZE} B | deliveries/s, burst | of them delivered | p50, µs, paced ",
    ]
    lines[-1] += "| p99, µs, paced | p50 : Redis |"
    lines.append("| --- " * 6 + "|")
    for name in ("subscribe", "Redis pub/sub"):
        found = middle[name]
        ratio = f"{found['p50'] / middle['Redis pub/sub']['p50']:.3g}"
        lines.append(
            f"| {name} | {found['per second']:,.0f} | {found['delivered']:.0%} | {found['p50']:,.0f} "
            f"| {found['p99']:,.0f} | {ratio} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Shared clients and `shared` against Redis and gunicorn.")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        raise SystemExit("redis-server is not installed: there is nothing to compare with")
    with tempfile.TemporaryDirectory(prefix="egg-") as folder:
        os.environ["EGG_RUNTIME_DIR"] = f"{folder}/run"
        figures = asyncio.run(run(options, folder))
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    about = ", ".join(f"{key}: {value}" for key, value in machine().items())
    load = f"1-minute load average at the end: {os.getloadavg()[0]:.1f}"
    head = f"# Shared clients and `shared`, {date}\n\nMade by `benchmarks/shared.py`.\n\n"
    head += f"- {versions()}\n"
    head += f"- {date}, median of {options.rounds} interleaved rounds, {options.seconds:g} s a measurement\n"
    text = f"{head}- {about}\n- {load}\n\n{page(figures, options)}\n"
    sys.stdout.write(text)
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
