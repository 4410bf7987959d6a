"""The project under fire: a cluster that runs `served/`. Runs in the test."""

import os
import time
from pathlib import Path

from tests.cluster.harness import Launched, Project
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SETTLE = 60.0  # seconds until all is well again: the longest backoff, the longest boot, a reload of all slots


def served(project: Project, *arguments: str, workers: int, **environ: str) -> Launched:
    """A running cluster with the application that the load knows."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    (project.folder / "said").mkdir()
    project.environ |= {"EGG_CHAOS_SAID": str(project.folder / "said")}
    project.environ |= {"PYTHONPATH": os.pathsep.join(paths), "EGG_CHAOS_LEDGER": str(project.folder / "ledger")}
    project.environ |= environ
    agent = ["--agent", "tests.chaos.served.agent:agent"]
    more = ["--workers", str(workers), "--log-level", "info", *arguments]
    return project.start("tests.chaos.served.app:app", *agent, *more).wait_ready()


def settle(cluster: Launched) -> None:
    """Wait until every slot and the agent are there, and nothing is going on any more."""
    wait_until(lambda: stays_well(cluster), "every slot is served again", SETTLE)


def stays_well(cluster: Launched) -> bool:
    """What waits in a listener's queue may still be a fault: one good moment is not enough."""
    for _ in range(10):
        if not is_well(cluster):
            return False
        time.sleep(0.1)
    return True


def is_well(cluster: Launched) -> bool:
    status = cluster.status()
    assert status is not None
    seats = [status["agent"], *status["workers"]]
    return all(seat["state"] == "listening" and seat["successor"] is None for seat in seats)
