"""Workers whose event loop stands still: found whatever holds it, shown with their stacks, replaced; others are not."""

import os
import signal
import time
from typing import Any

import pytest

from tests.cluster.harness import Launched, Project
from tests.cluster.remote import connect, obedient
from tests.waiting import wait_until

BLOCKED = {
    "sleep": "time.sleep(60)",
    "the GIL held in C": "import ctypes; ctypes.PyDLL(None).sleep(60)",
    "an endless loop": "\nwhile True: pass",
    "a thread that one waits for": "import threading; threading.Event().wait()",
}


def start(project: Project, *arguments: str) -> Launched:
    launched = obedient(project).start("--workers", "2", *arguments).wait_ready()
    launched.allows_traceback = True  # the stacks are what is wanted
    return launched


def seat(cluster: Launched, slot: int) -> dict[str, Any]:
    status = cluster.status()
    assert status is not None
    return dict(status["workers"][slot - 1] if slot else status["agent"])


def replaced(cluster: Launched, slot: int, pid: int) -> bool:
    now = seat(cluster, slot)
    return bool(now["state"] == "listening" and now["worker_id"] != pid)


@pytest.mark.parametrize("how", BLOCKED)
def test_a_blocked_worker_is_replaced_and_says_where_it_was(project: Project, how: str) -> None:
    cluster = start(project, "--worker-timeout", "1")
    before = cluster.workers()
    with connect(cluster, 1) as unharmed, connect(cluster, 2) as blocked:
        blocked.send(BLOCKED[how])
        wait_until(lambda: replaced(cluster, 2, before[2]), "slot 2 has a new worker")
        assert unharmed.tell("return os.getpid()") == before[1]
    assert seat(cluster, 2)["last_death"] == "its event loop had not moved for 1s"
    assert f"app_worker#2:{before[2]} is hung: its event loop had not moved for 1s" in cluster.log
    assert f"app_worker#2:{before[2]}, where its threads were: Fatal Python error: Aborted" in cluster.log
    assert 'remote.py", line' in cluster.log, "the user's own frame"
    assert cluster.close() == 0


def test_a_stopped_worker_is_replaced(project: Project) -> None:
    cluster = start(project, "--worker-timeout", "1")
    before = cluster.workers()
    os.kill(before[1], signal.SIGSTOP)
    wait_until(lambda: seat(cluster, 1)["stalled_for"], "the status says that it is silent")
    wait_until(lambda: replaced(cluster, 1, before[1]), "slot 1 has a new worker")
    assert cluster.workers()[2] == before[2]
    assert cluster.close() == 0


def test_a_blocked_agent_is_replaced_and_there_is_never_a_second_one(project: Project) -> None:
    cluster = start(project, "--agent-timeout", "1")
    before, workers = cluster.agent(), cluster.workers()
    assert before is not None
    os.kill(before, signal.SIGSTOP)
    wait_until(lambda: replaced(cluster, 0, before), "there is a new agent")
    assert seat(cluster, 0)["generation"] == 2
    assert cluster.workers() == workers
    assert cluster.close() == 0


def test_a_busy_worker_that_moves_is_left_alone(project: Project) -> None:
    cluster = start(project, "--worker-timeout", "1")
    before = cluster.workers()
    with connect(cluster, 1) as busy:
        busy.tell(
            """
            end = time.monotonic() + 3
            while time.monotonic() < end:
                time.sleep(0.2)
                await asyncio.sleep(0)
            """
        )
    assert cluster.workers() == before
    assert "hung" not in cluster.log
    assert cluster.close() == 0


def test_in_env_local_a_developer_may_stop_in_the_debugger(project: Project) -> None:
    cluster = obedient(project).start("--workers", "1", "--env", "local").wait_ready()
    with connect(cluster, 1) as stopped:
        stopped.tell("time.sleep(2)")
    assert "hung" not in cluster.log
    assert "--worker-timeout" not in cluster.log
    assert cluster.close() == 0


def test_the_children_of_a_hung_worker_go_with_it(project: Project) -> None:
    cluster = start(project, "--worker-timeout", "1")
    with connect(cluster, 1) as worker:
        child = worker.tell("return subprocess.Popen(['sleep', '60']).pid")
    os.kill(cluster.workers()[1], signal.SIGSTOP)
    wait_until(lambda: not os.path.exists(f"/proc/{child}"), "its child is gone, too")
    assert cluster.close() == 0


def test_new_connections_do_not_wait_for_a_worker_that_stands_still(project: Project) -> None:
    cluster = start(project)
    os.kill(cluster.workers()[1], signal.SIGSTOP)
    wait_until(lambda: seat(cluster, 1)["stalled_for"], "it is known to stand still")
    for _ in range(20):
        assert cluster.get().json()["slot"] == 2
    os.kill(cluster.workers()[1], signal.SIGCONT)
    wait_until(lambda: cluster.get().json()["slot"] == 1, "it is served again")
    assert cluster.close() == 0


def test_a_crash_in_c_shows_where_it_was(project: Project) -> None:
    cluster = start(project)
    before = cluster.workers()
    with connect(cluster, 1) as crashing:
        crashing.send("import ctypes; ctypes.string_at(0)")
        wait_until(lambda: replaced(cluster, 1, before[1]), "slot 1 has a new worker")
    assert "where its threads were: Fatal Python error: Segmentation fault" in cluster.log
    assert cluster.close() == 0


def test_a_cluster_that_was_stopped_as_a_whole_goes_on_as_if_nothing_had_been(project: Project) -> None:
    cluster = start(project, "--worker-timeout", "1", "--agent-timeout", "1")
    before, agent = cluster.workers(), cluster.agent()
    everybody = [cluster.pid, agent, *before.values()]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in everybody:
            assert pid is not None
            os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(3)  # for which nothing is to happen
    cluster.wait_log("no worker is blamed for that")
    for _ in range(10):
        assert cluster.get().json()["slot"] in (1, 2)
    assert (cluster.workers(), cluster.agent()) == (before, agent)
    assert cluster.close() == 0
