"""The monkey: faults at random, the same ones in the same order when its seed is given again. Runs in the test."""

import contextlib
import ctypes
import http.client
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

import psutil

from tests.chaos.ledger import Ledger, hold_still
from tests.chaos.onlookers import Onlookers
from tests.chaos.served.stage import FATAL
from tests.cluster.harness import Launched

PAUSE = (0.1, 2.0)  # seconds between two faults
FAULT_TIMEOUT = 60.0  # seconds for a worker to answer, or to be killed


class Monkey:
    """Does one thing after the other to a running cluster.

    It leaves the last listening worker alone, with rare exceptions: without a worker for three looks, the contract
    says that the cluster ends, and that is not what is tested here.
    """

    def __init__(self, cluster: Launched, ledger: Ledger, seed: int, faults: dict[str, int] | None = None) -> None:
        self.cluster, self.ledger = cluster, ledger
        self.dice = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.weights = faults or WEIGHTS
        self._port = urlsplit(cluster.address).port or 0
        self._reload: subprocess.Popen[bytes] | None = None
        self.onlookers = Onlookers(cluster, self.dice)

    def play(self, seconds: float, each_time: Callable[[], None]) -> None:
        """Faults for so long; `each_time` is called after each."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fault = self.dice.choices(list(self.weights), list(self.weights.values()))[0]
            pause = self.dice.uniform(*PAUSE)
            self.commit(fault)
            each_time()
            time.sleep(min(pause, max(0.0, end - time.monotonic())))

    def commit(self, fault: str) -> None:
        """Do this one, if the time is right for it."""
        if fault.removeprefix("http ") in LETHAL and len(self.cluster.workers()) < 2:
            return
        self.done[fault] += 1
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):  # it was faster
            if fault.startswith("http "):
                self._ask(fault.removeprefix("http "))
            else:
                ACTS[fault](self)

    # -- targets ---------------------------------------------------------------------------------------------------

    def children(self) -> list[int]:
        """The master's own ones: workers that boot, listen or close, and the agent."""
        return [child.pid for child in psutil.Process(self.cluster.pid).children()]

    def some_worker(self) -> int:
        """The pid of any app worker, whatever it is doing just now."""
        workers = [pid for pid in self.children() if pid != self.agent()]
        if not workers:
            raise ProcessLookupError
        return self.dice.choice(sorted(workers))

    def agent(self) -> int | None:
        status = self.cluster.status()
        assert status is not None
        pid: int | None = status["agent"]["worker_id"]
        return pid

    # -- how -------------------------------------------------------------------------------------------------------

    def strike(self, number: signal.Signals) -> None:
        """A signal for a worker whose connections have been noted."""
        self._strike(self.some_worker(), number)

    def _strike(self, pid: int, number: signal.Signals) -> None:
        self.ledger.write(hold_still(pid, self._port, number.name))
        if number is signal.SIGABRT:
            signal_main_thread(pid, number)
            os.kill(pid, signal.SIGCONT)
        else:
            os.kill(pid, number)

    def massacre(self) -> None:
        """All app workers at once."""
        for pid in self.children():
            if pid != self.agent():
                with contextlib.suppress(ProcessLookupError):
                    self._strike(pid, signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM for a worker: it closes in order, nothing is excused."""
        os.kill(self.some_worker(), signal.SIGTERM)

    def signal_agent(self, number: signal.Signals) -> None:
        if pid := self.agent():
            os.kill(pid, number)

    def kill_agent_of_blocked_workers(self) -> None:
        """Every event loop stands still, and the agent dies meanwhile."""
        self._ask("doze")
        time.sleep(self.dice.uniform(0, 0.5))
        self.signal_agent(signal.SIGKILL)

    def bring_onlooker(self) -> None:
        self.onlookers.come()

    def stop_onlooker(self) -> None:
        self.onlookers.stop_one()

    def reload(self, *arguments: str) -> None:
        """`eggcluster reload`, not waited for; the one before may still be running."""
        if self._reload is not None and self._reload.poll() is None:
            return
        command = [sys.executable, "-m", "eggcluster", "reload", *arguments]
        folder, environ, nowhere = self.cluster.folder, self.cluster.environ, subprocess.DEVNULL
        self._reload = subprocess.Popen(command, cwd=folder, env=environ, stdout=nowhere, stderr=nowhere)

    def rest(self) -> None:
        """Wait for what has been set going."""
        if self._reload is not None:
            self._reload.wait(120)

    def leave(self) -> None:
        """End what it has started beside the cluster."""
        self.onlookers.leave()

    def _ask(self, kind: str) -> None:
        """A fault that one of the workers does to itself; the kernel chooses the worker. It may never answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=0.3)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("POST", f"/fault/{kind}")
            connection.getresponse().read()
        connection.close()


def signal_main_thread(pid: int, number: signal.Signals) -> None:
    """A signal for the thread of the event loop: sent to the process any thread may take it, and while that one
    writes down the stacks the loop would accept connections that the ledger does not know."""
    if ctypes.CDLL(None, use_errno=True).tgkill(pid, pid, number) != 0:
        raise ProcessLookupError(ctypes.get_errno(), "tgkill")


LETHAL = {"SIGKILL", "SIGABRT", "SIGSTOP", *FATAL}
ACTS: dict[str, Callable[[Monkey], None]] = {
    "SIGKILL": lambda monkey: monkey.strike(signal.SIGKILL),
    "SIGABRT": lambda monkey: monkey.strike(signal.SIGABRT),
    "SIGSTOP": lambda monkey: monkey.strike(signal.SIGSTOP),
    "SIGTERM": Monkey.terminate,
    "massacre": Monkey.massacre,
    "reload": Monkey.reload,
    "SIGHUP": lambda monkey: monkey.cluster.signal(signal.SIGHUP),
    "reload --agent": lambda monkey: monkey.reload("--agent"),
    "agent SIGKILL": lambda monkey: monkey.signal_agent(signal.SIGKILL),
    "agent SIGSTOP": lambda monkey: monkey.signal_agent(signal.SIGSTOP),
    "agent SIGKILL, loops blocked": Monkey.kill_agent_of_blocked_workers,
    "onlooker": Monkey.bring_onlooker,
    "onlooker SIGSTOP": Monkey.stop_onlooker,
    "agent SIGTERM": lambda monkey: monkey.signal_agent(signal.SIGTERM),
}
# How often each, relative to the others. Recycling goes on beside them.
WEIGHTS = {
    "SIGKILL": 4,
    "SIGABRT": 2,
    "SIGSTOP": 2,
    "SIGTERM": 4,
    "massacre": 1,
    "reload": 4,
    "reload --agent": 1,
    "SIGHUP": 1,
    "http exit": 2,
    "http abort": 1,
    "http sleep": 1,
    "http gil": 1,
    "http spin": 1,
    "http nap": 3,
    "http sysexit": 2,
    "http hoard": 2,
    "http daemon": 1,
    "http close": 1,
    "agent SIGKILL": 2,
    "agent SIGKILL, loops blocked": 2,
    "onlooker": 2,
    "onlooker SIGSTOP": 4,
    "agent SIGTERM": 1,
    "agent SIGSTOP": 1,
    "http agent-exit": 1,
    "http agent-sleep": 1,
}
