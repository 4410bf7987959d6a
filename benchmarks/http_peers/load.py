"""Owns what a server is loaded with: wrk, or clients with addresses of their own. Runs in the benchmark."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.boot import HOST, BenchmarkError
from benchmarks.http_peers.server import Server

CONNECTIONS = 32
SOURCES = 32  # client addresses: one for each connection, or in turn for one connection a request
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
REPORT = HERE / "report.lua"


@dataclass(frozen=True)
class Load:
    """What one run has shown: requests/s, latencies in seconds, the servers' CPU seconds a request."""

    rate: float
    p50: float
    p99: float
    p999: float
    cpu: float
    failed: int = 0


@dataclass(frozen=True)
class Result:
    """What a generator has told."""

    requests: int
    seconds: float
    cuts: tuple[float, float, float]
    failed: int = 0


def under_wrk(server: Server, seconds: int, *, close: bool, path: str = "/", script: Path = REPORT) -> Load:
    """32 connections that stay, or a new one for each request (`close`); all from one address.

    `script` tells the result as report.lua does.
    """
    command = ["wrk", "--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds}s", "--latency"]
    command += [f"--script={script}", *(["--header=Connection: close"] if close else [])]

    def read(text: str) -> Result:
        line = next(line for line in text.splitlines() if line.startswith("RESULT "))
        requests, microseconds, failed, *cuts = map(int, line.split()[1:])
        p50, p99, p999 = (cut / 1e6 for cut in cuts)
        return Result(requests, microseconds / 1e6, (p50, p99, p999), failed)

    return run_generator(server, [*command, f"http://{HOST}:{server.port}{path}"], read, seconds)


def under_clients(server: Server, seconds: float, first: int, *, close: bool) -> Load:
    """The same from 32 addresses, the first of which is number `first`."""
    numbers = [server.port, seconds, CONNECTIONS, first, SOURCES]
    command = [sys.executable, "-m", "benchmarks.http_peers.clients", *map(str, numbers), *(["close"] if close else [])]

    def read(text: str) -> Result:
        said = json.loads(text)
        return Result(said["requests"], said["seconds"], (said["p50"], said["p99"], said["p99.9"]))

    return run_generator(server, command, read, seconds)


def run_generator(server: Server, command: list[str], read: Callable[[str], Result], seconds: float) -> Load:
    """Run a generator in the repository's root to its end; `read` understands what it prints."""
    before = server.cpu_seconds()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 30)
    spent = server.cpu_seconds() - before
    if done.returncode != 0:
        raise BenchmarkError(f"{command[0]} failed at {server.name}: {done.stderr or done.stdout}")
    result = read(done.stdout)
    if not result.requests:
        raise BenchmarkError(f"{server.name} answered nothing: {done.stdout}")
    return Load(result.requests / result.seconds, *result.cuts, spent / result.requests, result.failed)
