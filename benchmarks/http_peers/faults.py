"""Owns how long new connections wait while one of four workers is blocked or being replaced. Runs in the benchmark."""

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.boot import HOST, BenchmarkError
from benchmarks.http_peers.contestants import OWN, Entry
from benchmarks.http_peers.server import Server, served
from benchmarks.http_peers.turn import Record
from rich.console import Console

FAULTY = (OWN, "uvicorn", "gunicorn", "granian", "hypercorn")
WORKERS = 4
BLOCKED = 10  # s
REPLACED = 3.0  # s: how long the replacement boots; `served/hello.py`
INTERVAL = 0.01  # s between two new connections, whatever happens to the earlier ones
PATIENCE = 13.0  # s


@dataclass(frozen=True)
class Probe:
    """One request on a connection of its own: when it began, and after how long it was answered."""

    began: float
    seconds: float | None = None  # None: refused, reset, or not answered for `PATIENCE`
    worker: int = 0


def every_fault(present: dict[str, Entry], folder: Path, console: Console) -> list[Record]:
    records: list[Record] = []
    for name, entry in present.items():
        for fault in (blocked, killed):
            with served(entry.build(WORKERS)) as server:
                records += asyncio.run(fault(server, folder))
            shown = ", ".join(f"{r.case}: {r.metric} {r.value:.3f}" for r in records if r.name == name)
            console.print(f"{name} {shown}", style="dim")
    return records


async def blocked(server: Server, folder: Path) -> list[Record]:
    """A worker's event loop stands still for ten seconds."""
    stuck = asyncio.create_task(probe(server.port, f"/block?{BLOCKED}"))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    probes = await stream(server.port, BLOCKED - 0.1)
    if (await stuck).seconds is None:
        raise BenchmarkError(f"{server.name} gave up on the worker that was blocked")
    return [
        *_figures(server.name, "blocked, first second", [p for p in probes if p.began < began + 1]),
        *_figures(server.name, "blocked, later", [p for p in probes if p.began >= began + 1]),
    ]


async def killed(server: Server, folder: Path) -> list[Record]:
    """A worker gets SIGKILL; its replacement takes three seconds to boot."""
    victim = (await probe(server.port, "/pid")).worker
    (folder / "slow").touch()

    def kill() -> None:
        os.kill(victim, signal.SIGKILL)

    try:
        asyncio.get_running_loop().call_later(0.5, kill)
        return _figures(server.name, "killed", await stream(server.port, 0.5 + REPLACED + 1))
    finally:
        (folder / "slow").unlink()


def _figures(name: str, case: str, probes: list[Probe]) -> list[Record]:
    waits = [probe.seconds for probe in probes if probe.seconds is not None]
    return [
        Record(name, case, "slowest", max(waits, default=0.0)),
        Record(name, case, "failed", len(probes) - len(waits)),
        Record(name, case, "connections", len(probes)),
    ]


async def stream(port: int, seconds: float, path: str = "/pid") -> list[Probe]:
    """New connections, one each `INTERVAL`, for so long."""
    loop, tasks = asyncio.get_running_loop(), list[asyncio.Task[Probe]]()
    due = loop.time()
    end = due + seconds
    while due < end:
        tasks.append(asyncio.create_task(probe(port, path)))
        due += INTERVAL
        await asyncio.sleep(due - loop.time())
    return await asyncio.gather(*tasks)


async def probe(port: int, path: str) -> Probe:
    began, writer = time.monotonic(), None
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.read(64)
        if not head.startswith(b"HTTP/1.1 200"):
            return Probe(began)
        return Probe(began, time.monotonic() - began, int(body))
    except (OSError, EOFError, TimeoutError, ValueError):
        return Probe(began)
    finally:
        if writer is not None:
            writer.close()
