"""Shared clients with real processes: one connection for all, through replacements of the agent, too."""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.harness import AGENT, HELLO, Launched, Project
from tests.cluster.remote import Connection, connect, marks, obedient
from tests.cluster.surroundings import redis_server
from tests.waiting import wait_until

NEWS = """
import asyncio
import os
import redis.asyncio as redis
from remote import mark

class News:
    '''Redis' messages, over one connection.'''

    def __init__(self, path):
        self.redis = redis.Redis(unix_socket_path=path, decode_responses=True)
        self.listeners = {}

    async def start(self):
        self.pubsub = self.redis.pubsub(ignore_subscribe_messages=True)
        self.reading = None
        mark("clients", "start", os.getpid())

    async def close(self):
        if self.reading:
            self.reading.cancel()
        await self.pubsub.aclose()
        mark("clients", "close", os.getpid())

    async def subscribe(self, channel, listener):
        self.listeners[channel] = listener
        await self.pubsub.subscribe(channel)
        self.reading = self.reading or asyncio.create_task(self.read())

    async def read(self):
        while True:
            message = await self.pubsub.get_message(timeout=None)
            if message is not None:
                self.listeners[message["channel"]](message["data"])

    async def pid(self):
        return os.getpid()

    async def fail(self):
        raise LookupError("no such thing")
"""
LEADER = """
from news import News
news = agent.cluster(News).create(os.environ["NEWS"])
"""
FOLLOWER = """
from news import News
remote.news = app.cluster(News).create(remote.os.environ["NEWS"])
remote.news.subscribe("news", lambda text: remote.mark("heard", app.slot, text))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    with redis_server(tmp_path) as client:
        yield client


def start(project: Project, *arguments: str, agent: str = LEADER, app: str = FOLLOWER, news: str = NEWS) -> Launched:
    """A cluster of four that follows the news, if not said otherwise."""
    obedient(project, app=app, agent=f"import os\n{agent}").write(news=news)
    return project.start("--workers", "4", *arguments, NEWS=str(project.folder / "redis.sock"))


def connections(server: Any) -> list[Any]:
    """Redis' clients, but for the test itself."""
    mine = server.client_id()
    return [each for each in server.client_list() if int(each["id"]) != mine]


def all_hear(project: Project, server: Any, text: str) -> None:
    """Publish it once the agent listens, and wait until each of the four has heard it."""
    wait_until(lambda: server.pubsub_numsub("news") == [("news", 1)], "the agent has subscribed")
    server.publish("news", text)
    wait_until(lambda: sorted(slot for slot, heard in marks(project, "heard") if heard == text) == list("1234"), text)


def kill_agent(cluster: Launched) -> int:
    """SIGKILL for the agent; gives its pid."""
    pid = wait_until(cluster.agent, "an agent")
    os.kill(pid, signal.SIGKILL)
    return pid


def test_four_workers_have_one_connection_to_redis_whatever_becomes_of_the_agent(project: Project, server: Any) -> None:
    cluster = start(project).wait_ready()
    counts: list[int] = []

    def look() -> int:
        counts.append(len(connections(server)))
        return counts[-1]

    for round in range(3):
        wait_until(lambda: look() == 1, "one connection")
        all_hear(project, server, f"message-{round}")
        assert look() == 1
        if round < 2:
            before = kill_agent(cluster)
            wait_until(lambda before=before: look() >= 0 and cluster.agent() not in (None, before), "a new agent")  # type: ignore[misc]
    assert set(counts) <= {0, 1}, "never a second one, not even for a moment"
    assert len(marks(project, "heard")) == 3 * 4, "no worker hears a message twice"
    assert cluster.close() == 0
    lives = marks(project, "clients")
    assert [what for what, _ in lives] == ["start", "start", "start", "close"]
    assert connections(server) == []


def test_workers_that_are_replaced_follow_again(project: Project, server: Any) -> None:
    cluster = start(project).wait_ready()
    before = cluster.workers()
    os.kill(before[2], signal.SIGKILL)
    wait_until(lambda: set(cluster.workers()) == {1, 2, 3, 4} and cluster.workers() != before, "a new worker")
    all_hear(project, server, "after")
    assert len(connections(server)) == 1


def test_calls_go_to_the_agent_and_errors_come_back(project: Project, server: Any) -> None:
    cluster = start(project).wait_ready()
    cluster.allows_traceback = True
    with connect(cluster, 3) as worker:
        assert worker.tell("return await news.pid()") == cluster.agent()
        said = worker.tell("try: await news.fail()\nexcept eggcluster.RemoteError as error: return str(error)")
        assert said == "LookupError: no such thing"


def test_a_call_during_a_replacement_fails_or_waits(project: Project, server: Any) -> None:
    cluster = start(project).wait_ready()
    with connect(cluster, 1) as worker:
        before = kill_agent(cluster)
        after = worker.tell(
            """
            while True:
                try:
                    pid = await news.pid()
                    if pid != %d:
                        return pid
                except eggcluster.LeaderGone:
                    pass
        """.replace("\n            ", "\n")
            % before
        )
    assert after == wait_until(cluster.agent, "the agent")


@pytest.mark.parametrize("agent_file", [True, False])
def test_a_client_that_the_agent_lacks_fails_the_boot_and_is_named(project: Project, agent_file: bool) -> None:
    cluster = start(project, agent="")
    if not agent_file:
        (project.folder / "agent.py").unlink()
    assert cluster.wait_exit() == 1
    assert (
        'the agent has no client "News": put the same line, agent.cluster(News).create(...), into agent.py'
        in cluster.log
    )
    cluster.allows_traceback = True


def test_a_client_that_cannot_start_fails_the_boot_with_its_own_traceback(project: Project) -> None:
    cluster = start(
        project, news=NEWS.replace("        mark(", '        raise ConnectionError("no news today")\n        mark(', 1)
    )
    assert cluster.wait_exit() == 1
    assert "ConnectionError: no news today" in cluster.log
    assert "news.py" in cluster.log
    assert "eggcluster/worker/sharing" not in cluster.log
    cluster.allows_traceback = True


def test_only_the_owner_can_reach_the_agent(project: Project) -> None:
    cluster = project.write(app=HELLO, agent=AGENT).start("--workers", "1").wait_ready()
    (path,) = Path(project.environ["EGG_RUNTIME_DIR"]).glob("*/agent.sock")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert cluster.close() == 0


def test_a_worker_that_shares_nothing_pays_for_nothing(project: Project) -> None:
    cluster = obedient(project).start("--workers", "1").wait_ready()
    with connect(cluster, 1) as worker:
        assert _loaded(worker, "") == _loaded(worker, "agent") == []
        worker.tell("await me.shared.ready()")
        assert _loaded(worker, "") != []
        assert _loaded(worker, "agent") != [], "an agent that shares nothing itself serves all the same"


def _loaded(worker: Connection, where: str) -> Any:
    """The modules for sharing that the worker, or the agent, has loaded."""
    look = "return [n for n in sys.modules if 'worker.sharing' in n or n == 'eggcluster.ipc.direct_connection']"
    return worker.tell(f"return await messenger.request('run', [{look!r}, None], to='agent')" if where else look)


def test_an_application_can_be_tested_without_a_cluster(project: Project) -> None:
    obedient(project, app=FOLLOWER).write(news=NEWS)
    code = "import app, asyncio, remote, os; assert asyncio.run(remote.news.pid()) == os.getpid()"
    with contextlib.chdir(project.folder):
        assert os.spawnve(os.P_WAIT, sys.executable, [sys.executable, "-c", code], {**os.environ, "NEWS": "x"}) == 0


def test_where_its_socket_cannot_be_bound_anew_agent_and_worker_say_so_in_a_line(project: Project) -> None:
    cluster = obedient(project, app="remote.shared = app.shared\n").start("--workers", "1").wait_ready()
    shutil.rmtree(project.environ["EGG_RUNTIME_DIR"])
    cluster.wait_log("agent.sock is gone and cannot be bound anew (No such file or directory)")
    (pid,) = [process.pid for process in cluster.family() if "egg-agent" in " ".join(process.cmdline())]
    os.kill(pid, signal.SIGKILL)
    cluster.wait_log("the agent cannot be reached: [Errno 2] No such file or directory")
    wait_until(lambda: cluster.log.count("cannot be bound anew") == 2, "each agent says it")
    assert cluster.close() == 0
    assert cluster.log.count("cannot be bound anew") == 2, "and once"
