"""Owns a started server: waiting for it, what its processes' clocks say, who answers. Runs in the benchmark."""

import ctypes
import http.client
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from benchmarks.boot import HOST, BenchmarkError, Contestant, descendants, free_port, parents, started, wait_until

START_TIMEOUT = 30.0  # s
SETTLE = 0.3  # s; what a server does for itself after its ready line is not a request's


@dataclass(frozen=True)
class Server:
    """One that serves. `processes`: all of its own, and nothing that was started later."""

    name: str
    port: int
    processes: list[int]

    def cpu_seconds(self) -> float:
        """User and system time that its processes have used, exact to the microsecond."""
        return sum(map(cpu_seconds, self.processes))

    def busiest(self) -> int:
        """The process that has used the most CPU time: of a server with one worker, that worker."""
        return max(self.processes, key=cpu_seconds)

    def answer_size(self) -> int:
        """The bytes of an answer, headers included, on a connection that stays."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=START_TIMEOUT)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            if response.status != 200 or response.read() != b"hello world":
                raise BenchmarkError(f"{self.name} does not say hello: {response.status}")
            headers = sum(len(f"{name}: {value}\r\n") for name, value in response.getheaders())
            return len(f"HTTP/1.1 {response.status} {response.reason}\r\n\r\n") + headers + len("hello world")
        finally:
            connection.close()


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used; 0 if it has ended.

    clock_getcpuclockid(3): a process's clock counts its ended threads, too; /proc/PID/stat in ticks of 10 ms.
    """
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        return 0.0
    return time.clock_gettime(clock.value)


@contextmanager
def served(contestant: Contestant) -> Iterator[Server]:
    """Start it, wait until all of it is ready; all its processes have ended afterwards."""
    port = free_port()
    with started(contestant, port) as (_, output):
        if not wait_until(lambda: output.seen_at is not None or not output.is_alive(), START_TIMEOUT):
            raise BenchmarkError(f"{contestant.name} was not ready in {START_TIMEOUT} s:\n{output.text()}")
        if output.seen_at is None:
            raise BenchmarkError(f"{contestant.name} ended:\n{output.text()}")
        time.sleep(SETTLE)
        try:
            yield Server(contestant.name, port, descendants())
        except BenchmarkError as error:
            raise BenchmarkError(f"{error}\n{output.text()}") from error


@contextmanager
def all_served(contestants: Iterable[Contestant]) -> Iterator[list[Server]]:
    """Several at once, each in turn to be loaded."""
    servers: list[Server] = []
    with ExitStack() as stack:
        try:
            for contestant in contestants:
                earlier = set(descendants())
                server = stack.enter_context(served(contestant))
                own = [pid for pid in server.processes if pid not in earlier]
                servers.append(replace(server, processes=own))
            yield servers
        finally:
            # All are asked to end before the first one is waited for, because it is waited until nobody is left.
            for pid in [pid for pid, parent in parents().items() if parent == os.getpid()]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
