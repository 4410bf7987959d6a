"""Owns one trial: a server is started, loaded, hurt, watched and ended. Runs in the benchmark."""

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.boot import DROPPED_VARIABLES, BenchmarkError, descendants, end_everything, free_port
from benchmarks.fault_peers.contestants import ROOT, WORKERS, Contestant
from benchmarks.fault_peers.fault import Fault, Patient
from benchmarks.fault_peers.probe import Prober
from tests.chaos.ledger import Ledger
from tests.chaos.load import Load
from tests.chaos.tally import Failure, Tally

KINDS = ("one-shot=6/0.06", "keep-alive=6/0.06")  # 200 requests/s
PATIENCE = 8.0  # s that a client waits for an answer
READY_LIMIT = 20.0  # s
IMPORT = "0.5"  # s that the application's import takes
WARM = 2.0  # s of load before the fault
AFTERMATH = 2.0  # s of load after the recovery
ORPHANS_AFTER = 5.0  # s after the leader's death


@dataclass
class Trial:
    """What was seen. `held`: failures on connections that the lost worker had; `others`: all other ones."""

    name: str
    fault: str
    requests: int = 0
    held: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    recovery: float | None = None  # s from the fault, or from the mending, until it is whole; None: not while watched
    slowest: float = 0.0  # s, of the answers after the fault
    survived: bool = True  # the leader lives, and new connections are answered, at least some
    orphans: int | None = None  # processes left 5 s after the leader's death
    gone_after: float | None = None  # s until the last of them was gone


def run_trial(contestant: Contestant, fault: Fault) -> Trial:
    """Everything that was started is ended afterwards."""
    with tempfile.TemporaryDirectory(prefix="eggcluster-faults-") as folder:
        port = free_port()
        with started(contestant, port, Path(folder)) as leader:
            return asyncio.run(watch(contestant, fault, leader, port, Path(folder)))


@contextlib.contextmanager
def started(contestant: Contestant, port: int, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    ledger = Ledger(folder / "ledger")
    environ = {name: value for name, value in os.environ.items() if name not in DROPPED_VARIABLES}
    paths = os.pathsep.join([str(ROOT), *filter(None, [environ.get("PYTHONPATH")])])
    environ |= {"EGG_CHAOS_LEDGER": str(ledger.path), "EGG_CHAOS_IMPORT": IMPORT, "PYTHONPATH": paths}
    with (folder / "output").open("wb") as output:
        leader = subprocess.Popen(
            contestant.command(port),
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=hear_hang_ups,
        )
    try:
        yield leader
    finally:
        for held in ledger.read():  # a stopped or blocked worker would hold up the end of some servers
            with contextlib.suppress(ProcessLookupError):
                os.kill(held.pid, signal.SIGKILL)
        (folder / "broken").unlink(missing_ok=True)
        end_everything(leader)


def hear_hang_ups() -> None:
    """A benchmark under nohup ignores SIGHUP, and a server that inherits that may rightly not reload."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


async def watch(
    contestant: Contestant, fault: Fault, leader: "subprocess.Popen[bytes]", port: int, folder: Path
) -> Trial:
    prober = Prober(port)
    probing = asyncio.create_task(prober.run())
    try:
        if not await reached(lambda: len(prober.workers()) >= WORKERS, READY_LIMIT):
            raise BenchmarkError(f"{contestant.name} is not ready:\n{(folder / 'output').read_text()[-2000:]}")
        patient = Patient(port, leader.pid, sorted(prober.workers()), Ledger(folder / "ledger"), folder)
        trial = Trial(contestant.name, fault.name)
        with Load(port, folder / "tally", 1, KINDS, PATIENCE) as load:
            await asyncio.sleep(WARM)
            began = time.monotonic()
            await hurt(patient, fault, prober, leader, load.pid, trial)
            tally = await asyncio.to_thread(load.stop)
        count(trial, tally, patient.ledger, began)
    finally:
        probing.cancel()
    return trial


async def hurt(
    patient: Patient, fault: Fault, prober: Prober, leader: "subprocess.Popen[bytes]", load: int, trial: Trial
) -> None:
    """Do it, and wait for the recovery."""
    lost = await asyncio.to_thread(fault.act, patient)
    since = time.monotonic()
    if fault.ends_leader:
        await count_orphans(leader, load, trial)
        return
    if fault.heal:
        await asyncio.sleep(fault.heal)
        patient.broken.unlink()
        since = time.monotonic()
    await reached(lambda: prober.whole_since(since, WORKERS, lost) is not None, fault.watch)
    trial.recovery = prober.whole_since(since, WORKERS, lost)
    await asyncio.sleep(AFTERMATH)
    trial.survived = leader.poll() is None and prober.is_answered


async def count_orphans(leader: "subprocess.Popen[bytes]", load: int, trial: Trial) -> None:
    began = time.monotonic()
    leader.wait()

    def all_gone() -> bool:
        return not set(descendants()) - {load}

    if await reached(all_gone, ORPHANS_AFTER):
        trial.gone_after = time.monotonic() - began
    trial.orphans = len(set(descendants()) - {load})
    trial.survived = False


def count(trial: Trial, tally: Tally, ledger: Ledger, began: float) -> None:
    """Sort the failures: whose connection was the lost worker's own?"""
    trial.requests = sum(tally.counts.values())
    trial.slowest = max((seconds for end, seconds in tally.prompt if end >= began), default=0.0)
    lost = ledger.read()

    def was_held(failure: Failure) -> bool:
        return any(failure.port in held.ports and failure.opened <= held.at <= failure.failed for held in lost)

    trial.held = dict(Counter(str(f.outcome) for f in tally.failures if was_held(f)))
    trial.others = dict(Counter(str(f.outcome) for f in tally.failures if not was_held(f)))


async def reached(condition: Callable[[], bool], limit: float) -> bool:
    deadline = time.monotonic() + limit
    while not (there := condition()) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return there
