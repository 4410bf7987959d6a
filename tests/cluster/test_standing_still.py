"""All of a cluster stops for a while, as in a paused container or a suspended machine: no process is killed for it.

The tests let time pass, because it is time that must do nothing.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.cluster.harness import AGENT, HELLO, Launched, Project
from tests.cluster.remote import connect, marks, obedient
from tests.waiting import wait_until

BOOTING = """
import os, time
open("importing", "w").close()
while not os.path.exists("go on"):
    time.sleep(0.01)
"""


@contextmanager
def standing_still(cluster: Launched) -> Iterator[None]:
    """Within the block no process of the cluster runs."""
    pids = [cluster.pid, *(process.pid for process in cluster.family())]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_a_start_timeout_does_not_run_while_all_stand_still(project: Project) -> None:
    cluster = project.write(app=BOOTING + HELLO, agent=AGENT).start("--workers", "1", "--app-start-timeout", "4")
    wait_until((project.folder / "importing").exists, "the worker imports")
    with standing_still(cluster):
        time.sleep(4.5)
    time.sleep(0.5)  # a process that is late must find out now
    (project.folder / "go on").touch()
    cluster.wait_ready()
    assert cluster.close() == 0
    assert "timeout: not" not in cluster.log


def test_a_close_timeout_does_not_run_while_all_stand_still(project: Project) -> None:
    slow = "\n@app.on_close\nasync def slow():\n    remote.mark('slow', 1)\n    await remote.asyncio.sleep(0.5)\n"
    cluster = obedient(project, app=slow).start("--workers", "1", "--app-close-timeout", "1500").wait_ready()
    cluster.signal(signal.SIGTERM)
    wait_until(lambda: marks(project, "slow"), "it is closing")
    with standing_still(cluster):
        time.sleep(2.5)
    assert cluster.wait_exit(5) == 0
    assert "killed" not in cluster.log
    assert "timeout: not" not in cluster.log


def test_a_cluster_that_stood_still_serves_on_with_the_same_workers(project: Project) -> None:
    cluster = obedient(project).start("--workers", "2").wait_ready()
    before, agent = cluster.workers(), cluster.agent()
    with connect(cluster, 1) as connection:
        with standing_still(cluster):
            time.sleep(2.5)
        assert connection.tell("return 'the same connection'") == "the same connection"
    assert cluster.workers() == before
    assert cluster.agent() == agent
    assert cluster.close() == 0
