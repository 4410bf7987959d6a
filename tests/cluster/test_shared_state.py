"""`shared` with real processes: what was acknowledged is not lost, whatever process dies."""

import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.harness import Launched, Project
from tests.cluster.remote import connect, marks, obedient
from tests.waiting import wait_until

LONG = os.environ.get("EGG_LONG")
SHARED = """
remote.shared = app.shared
"""

# Increments as fast as they come, from the moment in which all are ready; for each slot the file `counted-SLOT`
# outlives the process: a "!" for each increment that was asked for, an "a" for each that was acknowledged.
COUNTING = """
remote.shared = app.shared

@app.on_ready
async def begin():
    remote.counting = remote.asyncio.create_task(count())

async def count():
    from eggcluster import LeaderGone, RequestTimeout
    with open(f"counted-{app.slot}", "ab", buffering=0) as file:
        while not remote.os.path.exists("enough"):
            file.write(b"!")
            try:
                await app.shared.increment("n")
            except (LeaderGone, RequestTimeout):
                pass
            else:
                file.write(b"a")
        remote.mark("stopped", app.slot, app.worker_id)
"""


def start(project: Project, *arguments: str, app: str = SHARED, agent: str = "") -> Launched:
    return obedient(project, app=app, agent=agent).start("--workers", "4", *arguments).wait_ready()


def everywhere(cluster: Launched, source: str) -> list[Any]:
    """What that expression is in each of the workers."""
    answers = []
    for slot in sorted(cluster.workers()):
        with connect(cluster, slot) as worker:
            answers.append(worker.tell(f"return {source}"))
    return answers


def replace_agent(cluster: Launched, *others: int) -> None:
    """SIGKILL for the agent, and these workers in the same moment; returns when there is another one."""
    before = wait_until(cluster.agent, "an agent")
    for pid in (before, *others):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: cluster.agent() not in (None, before), "a new agent", 40)


def counted(project: Project) -> tuple[int, int]:
    """How many increments were acknowledged, and how many may have been done besides."""
    acknowledged = doubtful = 0
    for path in project.folder.glob("counted-*"):
        text = path.read_text()
        acknowledged += text.count("a")
        doubtful += text.count("!") - text.count("a")
    return acknowledged, doubtful


def end_counting(project: Project, cluster: Launched) -> None:
    """Let the workers stop, and compare what they were told with what there is."""
    (project.folder / "enough").touch()
    living = {str(pid) for pid in cluster.workers().values()}
    wait_until(lambda: living <= {pid for _, pid in marks(project, "stopped")}, "all have stopped counting")
    acknowledged, doubtful = counted(project)
    everywhere(cluster, "await shared.set('the last', 1)")  # all earlier changes are known where this is known
    wait_until(lambda: all(everywhere(cluster, "'the last' in shared")), "everybody knows everything")
    (total,) = set(everywhere(cluster, "shared['n']"))
    assert acknowledged <= total <= acknowledged + doubtful, "an acknowledged increment was lost, or one done twice"
    assert acknowledged > 100


def test_all_workers_read_what_one_has_written(project: Project) -> None:
    cluster = start(project)
    with connect(cluster, 2) as worker:
        assert worker.tell("await shared.set('k', [1, 2]); return shared['k']") == [1, 2]
    wait_until(lambda: everywhere(cluster, "shared.get('k')") == [[1, 2]] * 4, "all read it")
    assert sum(everywhere(cluster, "await shared.increment('n')")) == 1 + 2 + 3 + 4


@pytest.mark.parametrize("arguments", [[], ["--no-agent"]])
def test_it_needs_no_agent_file(project: Project, arguments: list[str]) -> None:
    obedient(project, app=SHARED)
    (project.folder / "agent.py").unlink()
    cluster = project.start("--workers", "2", *arguments).wait_ready()
    everywhere(cluster, "await shared.increment('n')")
    replace_agent(cluster)
    everywhere(cluster, "await shared.increment('n')")
    wait_until(lambda: everywhere(cluster, "shared['n']") == [4, 4], "all know the sum")


@pytest.mark.timeout(400 if LONG else 120)
def test_no_acknowledged_increment_is_lost_when_the_agent_is_killed_again_and_again(project: Project) -> None:
    cluster = start(project, app=COUNTING)
    for _ in range(12 if LONG else 3):
        before = counted(project)[0]
        wait_until(lambda before=before: counted(project)[0] > before + 100, "they count")  # type: ignore[misc]
        replace_agent(cluster)
    before = counted(project)[0]
    wait_until(lambda: counted(project)[0] > before, "they go on")
    end_counting(project, cluster)


def test_nor_when_workers_are_killed_with_it(project: Project) -> None:
    cluster = start(project, app=COUNTING)
    wait_until(lambda: counted(project)[0] > 100, "they count")
    workers = cluster.workers()
    replace_agent(cluster, workers[1], workers[2], workers[3])
    wait_until(lambda: len(cluster.workers()) == 4, "all are back")
    end_counting(project, cluster)


def test_nor_when_agent_and_workers_are_replaced_in_order(project: Project) -> None:
    cluster = start(project, app=COUNTING)
    wait_until(lambda: counted(project)[0] > 100, "they count")
    done = cluster.command("reload", "--agent")
    assert done.returncode == 0, done.stderr
    end_counting(project, cluster)


def test_times_to_live_go_on_over_a_replacement(project: Project) -> None:
    cluster = start(project)
    with connect(cluster, 1) as worker:
        worker.tell("await shared.set('short', 1, ttl=1); await shared.set('long', 1, ttl=1000)")
        assert worker.tell("return sorted(shared)") == ["long", "short"]
        replace_agent(cluster)
        wait_until(lambda: worker.tell("return sorted(shared)") == ["long"], "the short one is over")
    left = "{key: entry.expires - time.monotonic() for key, entry in me.shared._table.entries.items()}"
    agent = f"await me.shared.ready(); return {left}"
    with connect(cluster, 2) as worker:
        ask = f"return await messenger.request('run', [{agent!r}, None], to='agent')"
        wait_until(lambda: set(worker.tell(ask)) == {"long"}, "the agent has deleted it")
        assert 900 < worker.tell(ask)["long"] < 1000


def test_a_replaced_agent_has_it_before_its_own_on_start(project: Project) -> None:
    agent = """
shared = agent.shared

@agent.on_start
async def count():
    remote.mark("starts", await shared.increment("starts"), len(shared))
"""
    cluster = start(project, agent=agent)
    replace_agent(cluster)
    assert marks(project, "starts") == [["1", "1"], ["2", "1"]]


def test_a_socket_that_was_removed_is_bound_anew_by_each_agent(project: Project) -> None:
    cluster = start(project)
    (path,) = Path(project.environ["EGG_RUNTIME_DIR"]).glob("*/agent.sock")
    everywhere(cluster, "await shared.increment('n')")
    path.unlink()
    wait_until(path.exists, "it is bound anew")
    before = cluster.workers()[1]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: cluster.workers().get(1) not in (None, before), "the worker is replaced")
    assert everywhere(cluster, "await shared.increment('n')") == [5, 6, 7, 8]
    replace_agent(cluster)  # the file that it leaves belongs to no process
    assert everywhere(cluster, "await shared.increment('n')") == [9, 10, 11, 12]
    assert cluster.command("reload", "--agent").returncode == 0
    assert everywhere(cluster, "await shared.increment('n')") == [13, 14, 15, 16]
    assert cluster.log.count("agent.sock was gone, it is bound anew") == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert cluster.close() == 0
