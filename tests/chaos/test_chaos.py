"""Chaos: whatever dies, hangs or misbehaves, nothing fails but what a killed worker held, and nothing is left over."""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest

from eggcluster.master.master_process import KEPT_MEMORY
from tests.chaos.census import Census, Scale
from tests.chaos.ledger import NO_COPY, Held, Ledger
from tests.chaos.load import LONG, USUAL, Load
from tests.chaos.log_check import misprinted, unexpected_tracebacks
from tests.chaos.losses import losses
from tests.chaos.monkey import Monkey
from tests.chaos.project import served, settle
from tests.chaos.tally import Tally
from tests.cluster.harness import Launched, Project
from tests.waiting import wait_until

SECONDS = float(os.environ.get("EGG_CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("EGG_CHAOS_SEED") or random.randrange(2**32))
WORKERS = 3
# Hung after three seconds; worn after seconds too, so that recycling goes on all the time.
HUNG = ["--worker-timeout", "3", "--agent-timeout", "3"]
WORN = ["--max-requests", "1000", "--max-lifetime", "20", "--max-rss", "180MiB"]
BOOT = 3.0  # seconds that a boot takes at most
KINDS = (*USUAL, *LONG, "shared=2/0.2")
MIB = 2**20
# Of the master; measured: 1 to 3 MiB. Of what it relays it keeps freed memory for the next messages, up to KEPT_MEMORY.
GROWTH = KEPT_MEMORY + 3 * MIB


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("world", [[], ["--preload"]], ids=["each imports", "preloaded"])
def test_under_random_faults_nothing_fails_but_what_a_killed_worker_held(project: Project, world: list[str]) -> None:
    print(f"EGG_CHAOS_SEED={SEED} EGG_CHAOS_SECONDS={SECONDS:g}")  # noqa: T201  # pytest shows it where it fails
    ledger = Ledger(project.folder / "ledger")
    cluster = served(project, *HUNG, *WORN, *world, workers=WORKERS, EGG_CHAOS_SEED=str(SEED), EGG_CHAOS_BOOT=str(BOOT))
    cluster.allows_traceback = True  # looked at one by one
    before = Census.of(cluster)
    port = urlsplit(cluster.address).port
    assert port is not None
    scale = Scale(cluster.pid)
    with leaving(Monkey(cluster, ledger, SEED)) as monkey, Load(port, project.folder / "tally", SEED, KINDS) as load:

        def look() -> None:
            load.assert_running()
            assert cluster.process.poll() is None, cluster.log[-5000:]
            scale.weigh()

        monkey.play(SECONDS, look)
        monkey.rest()
        settle(cluster)
        tally = load.stop()
        seen = monkey.onlookers.seen()
        after_reload(cluster)
        monkey.onlookers.assert_witness_sees("reload done", after=seen)
    needless = noted_losses(ledger, cluster.log)
    print(report(tally, monkey, ledger, scale))  # noqa: T201
    assert needless == []
    assert ledger.unexcused(tally.failures) == []
    with suppress(AssertionError):  # the next line says what is different
        wait_until(lambda: Census.of(cluster) == before, "as many of everything as before")
    assert Census.of(cluster) == before
    assert scale.growth() < GROWTH
    assert not (project.folder / "agent.overlaps").exists()
    assert cluster.close() == 0
    assert unexpected_tracebacks(cluster.log) == []
    assert misprinted(cluster.log, project.folder / "said") == []
    assert ledger.unheard(tally.left, cluster.log) == []


def noted_losses(ledger: Ledger, log: str) -> list[str]:
    """Note the losses of the shared dictionary that were inevitable; return those that were not."""
    inevitable, needless = losses(log)
    for at in inevitable:
        ledger.write(Held(NO_COPY, 0, at - time.time() + time.monotonic(), []))
    return needless


@contextmanager
def leaving(monkey: Monkey) -> Iterator[Monkey]:
    try:
        yield monkey
    finally:
        monkey.leave()


def after_reload(cluster: Launched) -> None:
    """Fresh workers: what the old ones had of children and memory is gone with them."""
    answer = cluster.command("reload")
    assert answer.returncode == 0, answer.stderr
    settle(cluster)


def report(tally: Tally, monkey: Monkey, ledger: Ledger, scale: Scale) -> str:
    slowest = max((seconds for _, seconds in tally.prompt), default=0)
    return "\n".join(
        [
            f"faults: {dict(monkey.done)}",
            f"requests: {dict(sorted(tally.counts.items()))}",
            f"notes: {dict(tally.notes)}",
            f"excused: {len(tally.failures) - len(ledger.unexcused(tally.failures))} of {len(tally.failures)} failures",
            f"slowest prompt answer: {slowest:.2f}s; master: {scale.weights[0] / MIB:.1f} MiB, "
            f"growth {scale.growth() / MIB:+.2f} MiB",
        ]
    )
