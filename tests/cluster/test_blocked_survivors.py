"""The agent dies while the workers' event loops stand still: what was acknowledged is there afterwards.

The long suite (EGG_LONG) does the same for minutes, with blocks of random lengths at random moments.
"""

import os
import random
import signal
import threading
import time

import pytest

from tests.cluster.harness import Launched, Project
from tests.cluster.remote import connect, marks, obedient
from tests.waiting import wait_until

LONG = bool(os.environ.get("EGG_LONG"))
SHARED = "\nremote.shared = app.shared\n"
AGENT_SHARES = "\nagent.shared\n"

ACQUIRE = """
done = 0
for number in range(given["count"]):
    await shared.set(f"k{number}", given["round"])
    done += 1
return done
"""


def start(project: Project, workers: int, agent: str = "") -> Launched:
    cluster = obedient(project, app=SHARED, agent=agent).start("--workers", str(workers)).wait_ready()
    cluster.allows_traceback = True  # the stacks of loops that stand still
    return cluster


def block(cluster: Launched, pauses: dict[int, tuple[float, float]]) -> list[threading.Thread]:
    """Let the loop of each slot stand still: after a pause, for some seconds. Returns at once."""

    def one(slot: int, pause: float, seconds: float) -> None:
        time.sleep(pause)
        with connect(cluster, slot) as worker:
            worker.tell(f"time.sleep({seconds})")

    threads = [threading.Thread(target=one, args=(slot, *each)) for slot, each in pauses.items()]
    for thread in threads:
        thread.start()
    return threads


def kill_agent(cluster: Launched) -> int:
    before = wait_until(cluster.agent, "an agent")
    os.kill(before, signal.SIGKILL)
    return before


def write(cluster: Launched, round_: int) -> None:
    with connect(cluster, 1) as worker:
        assert worker.tell(f"given = {{'count': 20, 'round': {round_}}}\n{ACQUIRE}") == 20


def expect(cluster: Launched, round_: int, slots: int) -> None:
    """Every worker and the agent know what was acknowledged in this round, as soon as a write is possible again."""
    for slot in range(1, slots + 1):
        with connect(cluster, slot) as worker:
            worker.tell("await shared.increment('after')")
            assert worker.tell("return {key: shared[key] for key in shared if key != 'after'}") == {
                f"k{number}": round_ for number in range(20)
            }


def replaced(cluster: Launched, before: int) -> bool:
    return cluster.agent() not in (None, before)


@pytest.mark.parametrize(
    ("workers", "pause", "seconds", "agent"),
    [(2, 0.0, 1.5, ""), (2, 0.1, 1.5, ""), (1, 0.0, 6.0, ""), (1, 0.0, 6.0, AGENT_SHARES)],
    ids=["short", "after the end was seen", "long", "the agent shares, too"],
)
def test_nothing_is_lost_when_the_agent_dies_while_every_loop_stands_still(
    project: Project, workers: int, pause: float, seconds: float, agent: str
) -> None:
    cluster = start(project, workers, agent)
    write(cluster, 1)
    blocking = block(cluster, dict.fromkeys(range(1, workers + 1), (pause, seconds)))
    before = kill_agent(cluster)
    for each in blocking:
        each.join()
    wait_until(lambda: replaced(cluster, before), "a new agent", 40)
    expect(cluster, 1, workers)
    assert "is lost" not in cluster.log
    assert "did not send its copy" not in cluster.log
    assert cluster.close() == 0


def test_what_died_with_the_last_worker_is_an_error_in_the_log(project: Project) -> None:
    cluster = start(project, 1, AGENT_SHARES)
    write(cluster, 1)
    os.kill(cluster.workers()[1], signal.SIGSTOP)
    before = kill_agent(cluster)
    wait_until(lambda: "wait for copies of app workers that live and do not answer" in cluster.log, "it says so", 30)
    os.kill(cluster.workers()[1], signal.SIGKILL)
    wait_until(lambda: "the shared dictionary is lost" in cluster.log, "the log says what is lost")
    wait_until(lambda: replaced(cluster, before) and len(cluster.workers()) == 1, "all are back", 40)
    with connect(cluster, 1) as worker:
        assert worker.tell("await shared.ready(); return len(shared)") == 0
        assert worker.tell("return await shared.increment('n')") == 1
    assert cluster.close() == 0


IN_ON_START = """
@agent.on_start
async def first():
    await agent.shared.ready()
    await agent.shared.set("starts", agent.shared.get("starts", 0) + 1)
    remote.mark("starts", agent.shared["starts"])
"""


def test_the_agents_on_start_may_be_the_first_to_use_it(project: Project) -> None:
    cluster = start(project, 2, IN_ON_START)
    before = kill_agent(cluster)
    wait_until(lambda: replaced(cluster, before), "a new agent", 40)
    assert marks(project, "starts") == [["1"], ["2"]]
    assert cluster.close() == 0


@pytest.mark.skipif(not LONG, reason="the long suite: EGG_LONG=1")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_soak_of_agent_deaths_and_blocked_loops(project: Project, workers: int) -> None:
    cluster, chance = start(project, workers, AGENT_SHARES), random.Random(workers)
    for number in range(1, 16):
        write(cluster, number)
        lengths = {slot: (chance.uniform(0, 1.5), chance.choice([0.2, 1.5, 4.0])) for slot in range(1, workers + 1)}
        blocking = block(cluster, lengths)
        time.sleep(chance.uniform(0, 0.3))
        before = kill_agent(cluster)
        for each in blocking:
            each.join()
        wait_until(lambda before=before: replaced(cluster, before), "a new agent", 60)  # type: ignore[misc]
        expect(cluster, number, workers)
    assert "is lost" not in cluster.log
    assert cluster.close() == 0
