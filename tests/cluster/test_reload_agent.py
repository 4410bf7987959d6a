"""The agent's part in a reload: taken along when its code has changed or one says so, and no message is lost by it."""

import os
import signal
from typing import Any

import pytest

from tests.cluster.harness import AGENT, HELLO, Launched, Project
from tests.cluster.remote import obedient
from tests.waiting import wait_until

COUNTED = """
@agent.messenger.on("number")
async def number(n):
    await remote.asyncio.sleep(0)
    remote.mark("numbers", n)
"""
COUNTING = """
@app.background
async def count():
    n = 0
    while not remote.os.path.exists("enough"):
        n += 1
        app.messenger.send_to_agent("number", app.worker_id * 1_000_000 + n)
        await remote.asyncio.sleep(0.002)
    remote.mark("sent", app.worker_id, n)
"""


def agent(cluster: Launched) -> dict[str, Any]:
    status = cluster.status()
    assert status is not None
    return dict(status["agent"])


def test_a_reload_takes_the_agent_along_only_if_its_code_has_changed(project: Project) -> None:
    cluster = (
        project.write(app=HELLO, agent=AGENT + "import helper\n", helper="one = 1\n").start("-w", "1").wait_ready()
    )
    first = agent(cluster)["worker_id"]
    assert cluster.command("reload").returncode == 0
    assert agent(cluster)["worker_id"] == first
    project.write(helper="one = 11\n")
    told = cluster.command("reload")
    assert told.returncode == 0
    first_slot, then_agent = told.stdout.splitlines()[1:3]
    assert first_slot.startswith("slot 1 of 1 reloaded: app_worker#1:")
    assert then_agent.startswith("agent reloaded: agent_worker#1:")
    assert agent(cluster)["worker_id"] != first
    assert agent(cluster)["deaths"] == 0
    assert cluster.close() == 0


@pytest.mark.parametrize(("flag", "generation"), [("--agent", 2), ("--no-agent", 1)])
def test_one_may_say_so(project: Project, flag: str, generation: int) -> None:
    cluster = project.write(app=HELLO, agent=AGENT).start("-w", "1").wait_ready()
    project.write(agent=AGENT + "changed = True\n")
    assert cluster.command("reload", flag).returncode == 0
    assert agent(cluster)["generation"] == generation
    assert cluster.close() == 0


def test_a_version_that_does_not_boot_costs_no_agent(project: Project) -> None:
    cluster = project.write(app=HELLO, agent=AGENT).start("-w", "2").wait_ready()
    cluster.allows_traceback = True
    before = (agent(cluster)["worker_id"], cluster.workers())
    project.write(app="raise RuntimeError('not today')\n", agent=AGENT + "changed = True\n")
    told = cluster.command("reload")
    assert told.returncode == 1
    assert "reload stopped, the current workers go on: RuntimeError: not today" in told.stdout
    assert (agent(cluster)["worker_id"], cluster.workers()) == before
    assert cluster.close() == 0


def test_a_new_agent_that_does_not_start_stops_the_reload_and_the_workers_go_on(project: Project) -> None:
    cluster = project.write(app=HELLO, agent=AGENT).start("-w", "1").wait_ready()
    cluster.allows_traceback = True
    old = cluster.workers()
    project.write(agent="raise RuntimeError('not today')\n")
    told = cluster.command("reload")
    assert told.returncode == 1
    assert "RuntimeError: not today" in told.stderr
    assert "half-way (new version: app_worker#1; no worker: agent_worker): RuntimeError: not today" in told.stdout
    assert cluster.workers().keys() == old.keys()
    assert cluster.get().status_code == 200
    project.write(agent=AGENT)
    wait_until(lambda: agent(cluster)["state"] == "listening", "the mended agent is there")
    assert cluster.close() == 0


def test_no_message_is_lost_or_doubled_when_the_agent_is_replaced_in_order(project: Project) -> None:
    """By a reload, and by a SIGTERM from outside."""
    cluster = obedient(project, app=COUNTING, agent=COUNTED).start("--workers", "2").wait_ready()
    for _ in range(3):
        assert cluster.command("reload", "--agent").returncode == 0
    last = agent(cluster)
    os.kill(last["worker_id"], signal.SIGTERM)
    wait_until(lambda: agent(cluster)["generation"] > last["generation"], "there is another agent")
    (project.folder / "enough").touch()

    def lines(file: str) -> list[list[str]]:
        path = project.folder / file
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    alive = set(map(str, cluster.workers().values()))
    wait_until(lambda: {words[0] for words in lines("sent")} >= alive, "all has been sent")
    sent = sum(int(words[1]) for words in lines("sent") if words[0] in alive)

    def got() -> list[str]:
        return [words[0] for words in lines("numbers") if words[0][:-6] in alive]

    wait_until(lambda: len(got()) >= sent, "all of it has come")
    numbers = got()
    assert len(numbers) == len(set(numbers)) == sent
    assert cluster.status()["messages_dropped"] == 0  # type: ignore[index]
    assert cluster.close() == 0
