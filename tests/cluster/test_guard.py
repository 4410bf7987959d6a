"""The guard: a worker that dies is replaced, the others notice nothing, and the agent is never there twice."""

import asyncio
import http.client
import os
import signal
import socket
import time
from typing import Any

import pytest

from eggcluster import Cluster
from eggcluster.ipc.frame import Frame, FrameReader, encode_frame
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.model.lives.worker import AgentWorker, AppWorker, Worker
from eggcluster.model.messages.begun import Begun
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import app
from tests.cluster.harness import Launched, Project
from tests.cluster.remote import ask, connect, marks, obedient
from tests.waiting import DEADLINE, wait_until


def start(project: Project, *arguments: str) -> Launched:
    return obedient(project).start("--workers", "2", *arguments).wait_ready()


def replaced(cluster: Launched, slot: int, pid: int) -> int | None:
    """The pid of the worker in `slot` that listens, once it is another one than `pid`."""
    now = cluster.workers().get(slot)
    return now if now != pid else None


def born(project: Project, name: str) -> list[tuple[int, float]]:
    """Generation and monotonic instant of each start of `name`."""
    return [(int(words[1]), float(words[3])) for words in marks(project, "births") if words[0] == name]


# -- app workers -----------------------------------------------------------------------------------------------


def test_a_killed_app_worker_is_replaced_at_once_and_the_other_ones_clients_notice_nothing(project: Project) -> None:
    cluster = start(project)
    before = cluster.workers()
    with connect(cluster, 1) as unharmed, connect(cluster, 2) as cut:
        os.kill(before[2], signal.SIGKILL)
        killed_at = time.monotonic()

        def served_until_replaced() -> int | None:
            assert unharmed.tell("return me.slot") == 1
            return replaced(cluster, 2, before[2])

        wait_until(served_until_replaced, "slot 2 has a new worker")
        with pytest.raises((OSError, http.client.HTTPException)):
            cut.tell()
        assert unharmed.tell("return os.getpid()") == before[1]
    (first, _), (second, second_at) = born(project, "app#2")
    assert (first, second) == (1, 2)
    assert second_at - killed_at < 2
    assert "try to start a new app_worker" not in cluster.log
    assert len(born(project, "app#1")) == 1
    line = (
        f"[master] app_worker#2:{before[2]} died (code: None, signal: SIGKILL, state: listening), "
        f"current workers: [app_worker#1:{before[1]}]"
    )
    assert line in cluster.log


def test_a_death_is_told_to_the_parent_the_agent_and_the_apps(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGG_RUNTIME_DIR", project.environ["EGG_RUNTIME_DIR"])
    noting = "\nremote.messenger.on('egg-pids', lambda pids: remote.seen.append(pids))\n"
    obedient(project, app=noting, agent=noting)

    async def scenario() -> None:
        async with Cluster("app:app", workers=2, port=0, base_dir=str(project.folder)) as cluster:
            first, victim = (worker.worker_id for worker in cluster.workers)
            agent = await ask(cluster.messenger, "agent", "return os.getpid()")
            died = asyncio.ensure_future(cluster.messenger.wait_for("app-worker-died", DEADLINE))
            await asyncio.sleep(0)
            os.kill(victim, signal.SIGKILL)
            told = await died
            assert told == {"worker_id": victim, "slot": 2, "code": None, "signal": "SIGKILL"}
            successor = await ask(cluster.messenger, "app#2", "return os.getpid()")
            lists = await ask(cluster.messenger, "agent", "return seen")
            assert lists == [[first, victim], [first], [first, successor]]
            assert await ask(cluster.messenger, "app#1", "return seen") == [[agent]] * 3
            assert await ask(cluster.messenger, "app#2", "return seen") == [[agent]]
            assert [worker.worker_id for worker in cluster.workers] == [first, successor]
            assert [worker.generation for worker in cluster.workers] == [1, 2]

    asyncio.run(scenario())


@pytest.mark.parametrize("code", [0, 7])
def test_a_worker_that_exits_by_itself_is_replaced(project: Project, code: int) -> None:
    cluster = start(project)
    pid = cluster.workers()[1]
    with connect(cluster, 1) as connection:
        connection.send(f"os._exit({code})")
        wait_until(lambda: replaced(cluster, 1, pid), "slot 1 has a new worker")
    assert f"app_worker#1:{pid} died (code: {code}, signal: None, state: listening)" in cluster.log


def test_a_worker_that_gets_a_sigterm_from_outside_closes_in_order_and_is_replaced(project: Project) -> None:
    cluster = start(project)
    pid = cluster.workers()[1]
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: replaced(cluster, 1, pid), "slot 1 has a new worker")
    assert [words[:2] for words in marks(project, "closing")] == [["app#1", "lifespan"], ["app#1", "on_close"]]
    assert f"app_worker#1:{pid} died (code: 0, signal: None, state: listening)" in cluster.log


def test_a_slot_that_cannot_boot_waits_longer_each_time_and_comes_back_when_mended(project: Project) -> None:
    flag = project.folder / "broken"
    fails = (
        "\nif os.path.exists('broken'):"
        "\n    remote.mark('tries', remote.time.monotonic())"
        "\n    raise RuntimeError('broken for now')\n"
    )
    cluster = obedient(project, app=f"\nimport os{fails}").start("--workers", "2").wait_ready()
    cluster.allows_traceback = True
    healthy, victim = cluster.workers().values()
    flag.touch()

    def tried_three_times() -> bool:
        assert connection.tell("return os.getpid()") == healthy
        return len(marks(project, "tries")) >= 3

    with connect(cluster, 1) as connection:
        os.kill(victim, signal.SIGKILL)
        wait_until(tried_three_times, "three replacements have failed")
        wait_until(lambda: slot(cluster, 2)["next_try"], "the slot waits")
        assert "RuntimeError: broken for now" in slot(cluster, 2)["last_death"]
        flag.unlink()
        wait_until(lambda: replaced(cluster, 2, victim), "the mended slot listens")
        assert connection.tell("return os.getpid()") == healthy
    _, second, third = (float(words[0]) for words in marks(project, "tries"))
    assert third - second > 0.5
    assert born(project, "app#2")[-1][1] - third > 1.0
    assert len(born(project, "app#1")) == 1


def slot(cluster: Launched, number: int) -> dict[str, Any]:
    status = cluster.status()
    assert status is not None
    return dict(status["workers"][number - 1])


def test_in_local_a_dead_worker_stays_away_until_a_reload(project: Project) -> None:
    cluster = start(project, "--env", "local")
    healthy, victim = cluster.workers().values()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: slot(cluster, 2)["state"] == "dead", "slot 2 is empty")
    assert slot(cluster, 2)["next_try"] is None
    assert cluster.workers() == {1: healthy}
    answer = cluster.command("reload")
    assert answer.returncode == 0, answer.stderr
    assert sorted(cluster.workers()) == [1, 2]
    assert [generation for generation, _ in born(project, "app#2")] == [1, 2]


# -- the agent ---------------------------------------------------------------------------------------------------

# Holds a lock for its whole life; its child, in a session of its own and deaf to SIGTERM, holds it as well.
LOCKED_WITH_CHILD = """
import fcntl
lock = open("agent.lock", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    remote.mark("overlaps", agent.generation)

@agent.on_start
def have_a_child():
    remote.subprocess.Popen(["sh", "-c", "trap '' TERM; exec sleep 1000"], pass_fds=[lock.fileno()],
                            start_new_session=True)
"""


def test_a_killed_agent_comes_back_after_a_second_and_gets_what_was_sent_meanwhile(project: Project) -> None:
    cluster = obedient(project, agent=LOCKED_WITH_CHILD).start("-w", "2", "--agent-close-timeout", "300").wait_ready()
    first = cluster.agent()
    assert first is not None
    with connect(cluster, 1) as connection:
        os.kill(first, signal.SIGKILL)
        killed_at = time.monotonic()
        wait_until(lambda: cluster.agent() is None, "the agent is known dead")
        connection.tell("for n in range(10): messenger.send_to_agent('note', n)")
        sent = 10

        def served_until_replaced() -> bool:
            nonlocal sent
            connection.tell(f"messenger.send_to_agent('note', {sent})")
            sent += 1
            return cluster.agent() is not None  # it was None a moment ago

        wait_until(served_until_replaced, "there is a new agent")
        ask_agent = "return await messenger.request('run', ['return seen', None], to='agent')"
        assert connection.tell(ask_agent) == list(range(sent))
    (_, _), (generation, born_at) = born(project, "agent")
    assert generation == 2
    assert 0.95 < born_at - killed_at < 6
    assert not marks(project, "overlaps")
    assert f"agent_worker#1:{first} died (code: None, signal: SIGKILL, state: listening)" in cluster.log
    assert len(born(project, "app#1")) == len(born(project, "app#2")) == 1


def test_an_agent_that_dies_again_and_again_is_never_there_twice(project: Project) -> None:
    cluster = obedient(project, agent=LOCKED_WITH_CHILD).start("-w", "1", "--agent-close-timeout", "300").wait_ready()
    for generation in (1, 2):
        pid = wait_until(cluster.agent, f"the agent of generation {generation} is there")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: cluster.agent() not in (pid, None), "there is a new agent")  # type: ignore[misc]
    first, second, third = (instant for _, instant in born(project, "agent"))
    assert second - first > 0.95
    assert third - second > 0.95
    assert not marks(project, "overlaps")


def test_a_message_to_an_agent_that_is_dying_is_kept_before_it_is_known_dead() -> None:
    async def scenario() -> None:
        switchboard = Switchboard(1, lambda *_: None, lambda *_: None, lambda *_: None)
        sender, agent, successor = AppWorker(1, 1, 0, 0), AgentWorker(0, 1, 0, 0), AgentWorker(0, 2, 0, 0)
        with await seated(switchboard, sender) as app_end:
            dying = await seated(switchboard, agent)
            dying.close()
            link = switchboard.link_of(agent)
            assert link is not None
            await link.gone.wait()
            raw = encode_frame(FrameKind.MESSAGE, Target.AGENT, ["note", 1], source=app(1).pack())
            app_end.sendall(raw)
            sender_link = switchboard.link_of(sender)
            assert sender_link is not None
            while not sender_link.sent:
                await asyncio.sleep(0)
            switchboard.disconnect(agent, Begun())
            with await seated(switchboard, successor) as agent_end:
                async with asyncio.timeout(DEADLINE):
                    received = await asyncio.get_running_loop().sock_recv(agent_end, 1000)
                assert [frame.raw for frame in frames(received)] == [raw]
                assert switchboard.lost.total == 0
            switchboard.disconnect(sender, Begun())
            switchboard.disconnect(successor, Begun())

    asyncio.run(scenario())


async def seated(switchboard: Switchboard, worker: Worker) -> socket.socket:
    """Connect `worker` and let it go live; gives its end of the channel."""
    ours, theirs = socket.socketpair()
    await switchboard.connect(ours, worker)
    switchboard.go_live(worker)
    theirs.setblocking(False)
    return theirs


def frames(data: bytes) -> list[Frame]:
    return FrameReader().feed(data)


# -- exceptions --------------------------------------------------------------------------------------------------

RAISING_AGENT = """
@agent.messenger.on("fail")
def fail_at_once(data):
    raise ValueError("a plain handler")

@agent.messenger.on("fail")
async def fail_later(data):
    raise ValueError("an async handler")

@agent.background
async def consume():
    remote.mark("background", remote.time.monotonic())
    if len(open("background").readlines()) < 3:
        raise ConnectionError("lost for now")
    await remote.asyncio.sleep(1000)

@agent.schedule(interval="100ms")
async def poll():
    remote.mark("polls", "begin")
    await remote.asyncio.sleep(0.25)
    remote.mark("polls", "end")
    raise LookupError("nothing to poll")
"""


def test_exceptions_in_application_code_are_logged_and_end_nothing(project: Project) -> None:
    app = "\n@app.messenger.on('fail')\nasync def fail(data):\n    raise OSError('a handler in an app')\n"
    cluster = obedient(project, app=app, agent=RAISING_AGENT).start("--workers", "1").wait_ready()
    cluster.allows_traceback = True
    agent, workers = cluster.agent(), cluster.workers()
    with connect(cluster, 1) as connection:
        connection.tell("messenger.broadcast('fail')")
        wait_until(lambda: len(marks(project, "background")) == 3, "the background task was restarted twice")
        wait_until(lambda: len(marks(project, "polls")) >= 6, "the scheduled function goes on")
        assert connection.tell("return await messenger.request('run', ['return 1', None])") == 1
    assert (cluster.agent(), cluster.workers()) == (agent, workers)
    polls = [words[0] for words in marks(project, "polls")]
    assert polls[:6] == ["begin", "end"] * 3
    first, second, third = (float(words[0]) for words in marks(project, "background"))
    assert second - first > 0.45
    assert third - second > 0.95
    for text in (
        "ValueError: a plain handler",
        "ValueError: an async handler",
        "OSError: a handler in an app",
        "ConnectionError: lost for now",
        "LookupError: nothing to poll",
    ):
        assert text in cluster.log
    assert cluster.log.count("Traceback") >= 5
