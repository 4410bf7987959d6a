"""A replacement that cannot boot, and then can: the healthy slots never notice, the slot comes back by itself."""

import os
import signal
import time
from urllib.parse import urlsplit

import pytest

from tests.chaos.ledger import Ledger, hold_still
from tests.chaos.load import Load
from tests.chaos.log_check import unexpected_tracebacks
from tests.chaos.project import served, settle
from tests.chaos.test_reloads import describe
from tests.cluster.harness import Launched, Project

BROKEN = 60.0 if os.environ.get("EGG_LONG") else 10.0  # seconds for which nothing boots
LONGEST_WAIT = 20.0  # seconds until the slot tries again, at most 15, and boots
SLOWEST = 2.0  # seconds; a busy machine's hiccups, and far from waiting for the slot to come back
LOAD = ("one-shot=4/0.1", "keep-alive=4/0.1", "stream=2/0.2", "websocket=2/0.2")


@pytest.mark.timeout(240)
def test_a_slot_that_cannot_boot_for_a_while_costs_the_others_nothing_and_comes_back(project: Project) -> None:
    ledger = Ledger(project.folder / "ledger")
    flag = project.folder / "broken"
    cluster = served(project, workers=3)
    cluster.allows_traceback = True  # looked at one by one
    before, port = cluster.workers(), urlsplit(cluster.address).port or 0
    with Load(port, project.folder / "tally", 1, LOAD) as load:
        time.sleep(BROKEN / 4)
        flag.touch()
        ledger.write(hold_still(before[2], port, "SIGKILL"))
        os.kill(before[2], signal.SIGKILL)
        broken_at = time.monotonic()
        time.sleep(BROKEN)
        deaths = deaths_of(cluster, 2)
        flag.unlink()
        mended_at = time.monotonic()
        settle(cluster)
        back_after = time.monotonic() - mended_at
        tally = load.stop()
    assert deaths >= 3  # it has tried again and again
    after = cluster.workers()
    assert (after[1], after[3]) == (before[1], before[3])
    assert after[2] != before[2]
    assert ledger.unexcused(tally.failures) == []
    waiting = [seconds for end, seconds in tally.prompt if broken_at < end < mended_at]
    print(f"back after {back_after:.1f}s; {describe(sorted(waiting))}")  # noqa: T201
    assert back_after < LONGEST_WAIT
    assert max(waiting) < SLOWEST  # also for clients in the dead slot's queue
    assert unexpected_tracebacks(cluster.log) == []


def deaths_of(cluster: Launched, slot: int) -> int:
    status = cluster.status()
    assert status is not None
    return int(status["workers"][slot - 1]["deaths"])
