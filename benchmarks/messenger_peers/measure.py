"""Owns one contestant's turn: which tasks it gets, how large a burst is, what is recorded. Runs in the benchmark."""

import ctypes
import http.client
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from benchmarks.boot import HOST, BenchmarkError, Contestant, descendants, free_port, started, wait_until

PING_SIZE = 16  # bytes
LOAD_RATE = 20_000  # messages/s; below what the slowest contestant can do, the same for all
LOAD_SIZE = 256  # bytes
MAX_BURST = 32 * 2**20  # bytes that one burst may hold back somewhere: half of what eggcluster's master keeps
OVERHEAD = 64  # bytes that a message has beside its payload, about
BATCH_MESSAGES, BATCH_BYTES = 500, 2**20  # sent between two waits
TASK_TIMEOUT = 90.0  # s
START_TIMEOUT = 30.0  # s


@dataclass(frozen=True)
class Record:
    """One figure of one round. Rates are deliveries/s, times seconds; `receivers` is 1 for app → agent."""

    name: str
    metric: str
    receivers: int
    size: int
    value: float


@dataclass(frozen=True)
class SupervisorSettings:
    """What is measured in a round, and for how long each."""

    sizes: tuple[int, ...]
    receivers: tuple[int, ...]
    seconds: float


class Session:
    """A started contestant that waits for tasks."""

    def __init__(self, name: str, port: int, receivers: int) -> None:
        self.name = name
        self.receivers = receivers
        self._port = port
        self.records: list[Record] = []

    def record(self, metric: str, receivers: int, size: int, value: float) -> None:
        self.records.append(Record(self.name, metric, receivers, size, value))

    def ask(self, task: str, **numbers: float) -> dict[str, Any]:
        """Let it run a task; BenchmarkError for what did not work."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=TASK_TIMEOUT)
        try:
            connection.request("GET", "/?" + urlencode({"task": task, **numbers}))
            result: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, ValueError) as error:
            raise BenchmarkError(f"{self.name} did not answer to {task} {numbers}: {error!r}") from error
        finally:
            connection.close()
        if "error" in result:
            raise BenchmarkError(f"{self.name} failed at {task} {numbers}: {result['error']}")
        return result

    def throughput(self, task: str, receivers: int, size: int, seconds: float) -> None:
        """Bursts until `seconds` of them have been timed. Each ends when every receiver has told what it counted,
        so that nothing waits anywhere before the next one. The first, small one says how large they may be."""
        limit = max(4, MAX_BURST // (size + OVERHEAD) // receivers)
        burst = min(limit, 2000 // receivers)
        for _ in range(2):  # the second of them warms up what the first one was too short for
            took = self._burst(task, receivers, size, burst)
            burst = max(4, min(limit, math.ceil(burst * seconds / took)))
        timed, sent, before = 0.0, 0, cpu_seconds()
        while timed < seconds:
            timed += self._burst(task, receivers, size, burst)
            sent += burst
        self.record("cpu", receivers, size, (cpu_seconds() - before) / (sent * receivers))
        self.record("rate", receivers, size, sent * receivers / timed)

    def _burst(self, task: str, receivers: int, size: int, count: int) -> float:
        batch = max(1, min(BATCH_MESSAGES, BATCH_BYTES // size))
        return float(self.ask(task, size=size, count=count, batch=batch, receivers=receivers)["seconds"])

    def latency(self, task: str, seconds: float, rate: int) -> None:
        """Percentiles of round trips, one after the other; `rate`: while that many other messages a second arrive."""
        self.ask(task, size=PING_SIZE, seconds=seconds / 4, rate=0, bulk=LOAD_SIZE)
        result = self.ask(task, size=PING_SIZE, seconds=seconds, rate=rate, bulk=LOAD_SIZE)
        state = "load" if rate else "idle"
        for name, value in percentiles(result["laps"]).items():
            self.record(f"{task} {state} {name}", 1, PING_SIZE, value)
        if rate:
            self.record(f"{task} load arrived", 1, LOAD_SIZE, result["load"])


def percentiles(laps: list[float]) -> dict[str, float]:
    """p50, p99 and p99.9."""
    cuts = statistics.quantiles(laps, n=1000, method="inclusive")
    return {"p50": cuts[499], "p99": cuts[989], "p99.9": cuts[998]}


@contextmanager
def session(contestant: Contestant, receivers: int) -> Iterator[Session]:
    """Start it, wait until it is ready; all its processes have ended afterwards."""
    port = free_port()
    with started(contestant, port) as (_, output):
        if not wait_until(lambda: output.seen_at is not None or not output.is_alive(), START_TIMEOUT):
            raise BenchmarkError(f"{contestant.name} was not ready in {START_TIMEOUT} s:\n{output.text()}")
        if output.seen_at is None:
            raise BenchmarkError(f"{contestant.name} ended:\n{output.text()}")
        time.sleep(0.1)  # the workers' own work after `ready` is not a message's
        try:
            yield Session(contestant.name, port, receivers)
        except BenchmarkError as error:
            raise BenchmarkError(f"{error}\n{output.text()}") from error


def take_turn(build: Callable[[int], Contestant], has_request: bool, plan: SupervisorSettings) -> list[Record]:
    """Everything of one contestant, once; a fresh start for each number of receivers."""
    records: list[Record] = []
    for receivers in plan.receivers:
        with session(build(receivers), receivers) as now:
            if receivers == plan.receivers[0]:
                one_receiver(now, has_request, plan)
            for size in plan.sizes:
                now.throughput("broadcast", receivers, size, plan.seconds)
        records += now.records
    return records


def one_receiver(now: Session, has_request: bool, plan: SupervisorSettings) -> None:
    for size in plan.sizes:
        now.throughput("flood", 1, size, plan.seconds)
    for task in ("ping", "request") if has_request else ("ping",):
        now.latency(task, plan.seconds * 2, 0)
        now.latency(task, plan.seconds * 2, LOAD_RATE)


# --- CPU ----------------------------------------------------------------------------------------------------


def cpu_seconds() -> float:
    """User and system time that all processes of the contestant have used, exact to the microsecond.

    clock_getcpuclockid(3): a process's clock counts its ended threads, too; /proc/PID/stat counts in ticks of 10 ms.
    """
    libc = ctypes.CDLL(None)
    total = 0.0
    for pid in descendants():
        clock = ctypes.c_int()
        if libc.clock_getcpuclockid(pid, ctypes.byref(clock)) == 0:
            total += time.clock_gettime(clock.value)
    return total
