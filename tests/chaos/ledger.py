"""The connections that a killed worker held: the only ones that may fail. Runs in the test.

How strict can this honestly be? A worker that kills or blocks itself writes down the peers of all its sockets as its
last act: its event loop does not return, so it accepts no connection after that. One that gets a signal is stopped
first (SIGSTOP, waited for), and while it stands still the kernel is asked which connections its file descriptors are.
So the set is exact. What waits in a listener's queue is in no set: another worker must serve it. What a worker held
when it was asked to close, by a signal, a reload or a recycling, is in no set either: it must be finished.
"""

import contextlib
import json
import math
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.chaos.tally import Failure, Outcome
from tests.waiting import wait_until

CLOSING = "closing"  # the worker closes in order: its drain cuts what has no end
CUT = (3.0, 12.0)  # seconds from there to the cut: less than the close timeout, 5 s; more where the machine is busy
NO_COPY = "no copy left"  # the agent and all workers are gone: the shared dictionary is lost
LOSS = (-1.0, 40.0)  # seconds from there to the loss that a client sees
HEARD = 10.0  # seconds for an application to hear that a client has left: its loop may be blocked, or its worker close
CUT_CLIENTS = ("endless-deaf", "endless-listening")


@dataclass(frozen=True)
class Held:
    """What one worker held when it was lost."""

    fault: str
    pid: int
    at: float  # system-wide monotonic clock
    ports: list[int]  # the clients'

    def excuses(self, failure: Failure) -> bool:
        """Whether it broke because this worker died: it was open then, on this worker, and failed after."""
        if self.fault == NO_COPY:
            return (failure.outcome, failure.client) == (Outcome.WRONG, "shared") and self._led_to(failure, LOSS)
        is_its_own = failure.port in self.ports and failure.opened <= self.at <= failure.failed
        may_be_cut = failure.client in CUT_CLIENTS and self._led_to(failure, CUT)
        return failure.outcome == Outcome.RESET and is_its_own and (self.fault != CLOSING or may_be_cut)

    def _led_to(self, failure: Failure, span: tuple[float, float]) -> bool:
        return span[0] <= failure.failed - self.at <= span[1]


class Ledger:
    """The file that workers and the test write to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def write(self, held: Held) -> None:
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps(asdict(held)).encode() + b"\n")

    def read(self) -> list[Held]:
        return [Held(**json.loads(line)) for line in self.path.read_text().splitlines()]

    def unexcused(self, failures: list[Failure]) -> list[Failure]:
        """The failures that no worker's death explains."""
        by_port: dict[int, list[Held]] = {}
        everywhere = [held for held in self.read() if held.fault == NO_COPY]
        for held in self.read():
            for port in held.ports:
                by_port.setdefault(port, []).append(held)
        return [f for f in failures if not any(held.excuses(f) for held in [*by_port.get(f.port, []), *everywhere])]

    def unheard(self, left: list[tuple[str, int, float]], log: str) -> list[str]:
        """The nonces of streams whose applications did not hear in time that the client had left.

        A worker that was killed excuses its own; one that closes has to tell them all the same.
        """
        heard = {nonce: float(at) for nonce, at in re.findall(r" left ([0-9a-f]{16}) (\d+\.\d+) ", log)}
        lost = {held.pid for held in self.read() if held.fault != CLOSING}
        late = {nonce for nonce, _, at in left if heard.get(nonce, math.inf) - at > HEARD}
        return [nonce for nonce, worker, _ in left if nonce in late and worker not in lost]


def hold_still(pid: int, server_port: int, fault: str) -> Held:
    """Stop a process and note what it holds. ProcessLookupError if it is gone."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state_of(pid) in "TtZX", f"{pid} stands still", 5)
    return Held(fault, pid, time.monotonic(), ports_of(pid, server_port))


def state_of(pid: int) -> str:
    """One letter, proc_pid_stat(5); "X" if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def ports_of(pid: int, server_port: int) -> list[int]:
    """The ports of the peers of all connections to `server_port` that the process has accepted.

    The kernel's table goes on changing while it is read, and an entry may be missed for it: so it is read twice.
    """
    inodes = sockets_of(pid)
    found = {port for _ in range(2) for port, inode in connections_to(server_port) if inode in inodes}
    return sorted(found)


def connections_to(server_port: int) -> Iterator[tuple[int, str]]:
    """The peer's port and the server's inode of each accepted connection, as proc_net(5) has it for IPv4."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        (local, remote), inode = (int(field.partition(":")[2], 16) for field in fields[1:3]), fields[9]
        if local == server_port and remote and inode != "0":
            yield remote, inode


def sockets_of(pid: int) -> set[str]:
    """The inodes of all sockets of a process."""
    found = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found
