"""Owns the faults: what is done to a running server. Runs in the benchmark."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.boot import HOST
from tests.chaos.ledger import Ledger, hold_still


@dataclass
class Patient:
    """A running server, and what the faults need to know of it."""

    port: int
    leader: int
    workers: list[int]
    ledger: Ledger
    folder: Path

    @property
    def broken(self) -> Path:
        """While this file is there no worker can boot."""
        return self.folder / "broken"


@dataclass(frozen=True)
class Fault:
    """`act` gives the pids of the workers that it takes from the server for good."""

    name: str
    title: str
    act: Callable[[Patient], set[int]]
    watch: float = 15.0  # seconds for which a recovery is waited for
    heal: float = 0.0  # seconds after which what prevents a boot is mended; 0: nothing does
    needs_reload: bool = False
    ends_leader: bool = False


def strike(patient: Patient, number: signal.Signals) -> set[int]:
    """A signal to a worker; what it held is noted while it stands still."""
    victim = patient.workers[0]
    patient.ledger.write(hold_still(victim, patient.port, number.name))
    os.kill(victim, number)
    return {victim}


def ask(patient: Patient, kind: str) -> set[int]:
    """One of the workers does it to itself, and notes what it held."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, patient.port), timeout=2) as connection:
        connection.sendall(f"POST /fault/{kind} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        connection.settimeout(0.5)
        connection.recv(1)
    return {held.pid for held in patient.ledger.read()}


def kill_for_good(patient: Patient) -> set[int]:
    """From now on nothing boots; and a worker dies."""
    patient.broken.touch()
    return strike(patient, signal.SIGKILL)


def reload(patient: Patient) -> set[int]:
    os.kill(patient.leader, signal.SIGHUP)
    return set(patient.workers)


def reload_broken(patient: Patient) -> set[int]:
    """A new version that does not boot."""
    patient.broken.touch()
    os.kill(patient.leader, signal.SIGHUP)
    return set()


def end_leader(patient: Patient) -> set[int]:
    os.kill(patient.leader, signal.SIGKILL)
    return set()


FAULTS = (
    Fault("sigkill", "a worker gets SIGKILL", lambda patient: strike(patient, signal.SIGKILL)),
    Fault("exit", "a worker exits by itself (os._exit)", lambda patient: ask(patient, "exit")),
    Fault("sigstop", "a worker gets SIGSTOP", lambda patient: strike(patient, signal.SIGSTOP), watch=20),
    Fault("sleep", "a worker's loop is blocked (time.sleep)", lambda patient: ask(patient, "sleep"), watch=20),
    Fault("gil", "a worker is blocked in C and holds the GIL", lambda patient: ask(patient, "gil"), watch=20),
    Fault("reload", "reload (SIGHUP)", reload, needs_reload=True),
    Fault("reload-broken", "reload to a version that does not boot", reload_broken, heal=8, needs_reload=True),
    Fault("broken", "a worker gets SIGKILL, nothing boots for 10 s", kill_for_good, watch=30, heal=10),
    Fault("leader", "the master gets SIGKILL", end_leader, watch=5, ends_leader=True),
)
