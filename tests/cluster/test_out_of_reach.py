"""What a worker started as another user: the master may not end it, and must not wait for it either."""

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.cluster.harness import Launched, Project
from tests.cluster.remote import connect, obedient
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start what is another user's")

# A root that may signal its own processes only, as any user.
UNPRIVILEGED = ("setpriv", "--bounding-set=-kill", "--inh-caps=-kill")
FOREIGN_CHILD = "return subprocess.Popen(['sleep', '1000'], user=65534, group=65534, extra_groups=[]).pid"


@pytest.fixture
def left(project: Project) -> Iterator[tuple[Launched, int]]:
    """A cluster, and the pid of what its worker has started out of its reach."""
    cluster = obedient(project).start("--workers", "1", launcher=UNPRIVILEGED).wait_ready()
    with connect(cluster, 1) as connection:
        pid = connection.tell(FOREIGN_CHILD)
    yield cluster, pid
    os.kill(pid, signal.SIGKILL)


def test_a_dead_worker_is_replaced_and_the_log_names_what_it_left(left: tuple[Launched, int]) -> None:
    cluster, pid = left
    worker = cluster.workers()[1]
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: cluster.workers().get(1) not in (None, worker), "the worker is replaced")
    left_behind = f"left behind processes of another user, which the master may not end: [{pid}]"
    assert f"worker {worker} {left_behind}" in cluster.log
    assert psutil.pid_exists(pid)


def test_the_cluster_closes_in_order_without_it(left: tuple[Launched, int]) -> None:
    cluster, pid = left
    assert cluster.close() == 0
    assert "killed" not in cluster.log
    assert psutil.pid_exists(pid)
