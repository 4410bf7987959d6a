"""A program with a cluster: as a child (`Cluster`), or in its own process (`start_cluster`)."""

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvloop

from eggcluster import (
    BootError,
    Cluster,
    ClusterOptions,
    ControlError,
    MessengerClosed,
    OptionsError,
    ReceiverDied,
    start_cluster,
)
from tests.cluster.harness import AGENT, HELLO, Project
from tests.cluster.remote import ask, marks, obedient
from tests.waiting import DEADLINE, until, wait_until


@pytest.fixture
def ours(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An obedient project whose clusters this process may start; nothing of theirs is left afterwards."""
    monkeypatch.setenv("EGG_RUNTIME_DIR", project.environ["EGG_RUNTIME_DIR"])
    return obedient(project)


def wanted(project: Project, **more: Any) -> dict[str, Any]:
    return {"workers": 2, "port": 0, "base_dir": str(project.folder), **more}


_strangers: set[int] = set()


@pytest.fixture(autouse=True)
def _know_strangers() -> None:
    """Other files' tests run in this process, too, and may have a child in it that is just ending."""
    _strangers.clear()
    _strangers.update(children())


def children() -> set[int]:
    """Whatever this process, or a child of it, has started."""
    return {child.pid for child in psutil.Process().children(recursive=True)} - _strangers


def nothing_left(project: Project) -> bool:
    runtime = Path(project.environ["EGG_RUNTIME_DIR"])
    return not children() and not list(runtime.rglob("*"))


async def get(address: str) -> dict[str, Any]:
    async with httpx.AsyncClient() as client:
        return dict((await client.get(address, timeout=DEADLINE)).json())


# -- a master of its own -----------------------------------------------------------------------------------------


def test_a_cluster_tells_its_address_and_workers_and_closes_with_the_block(ours: Project) -> None:
    async def scenario() -> None:
        async with Cluster("app:app", **wanted(ours)) as cluster:
            assert cluster.exit_code is None
            answer = await get(cluster.address)
            assert {worker.slot: worker.worker_id for worker in cluster.workers}[answer["slot"]] == answer["pid"]
            assert [(worker.slot, worker.generation) for worker in cluster.workers] == [(1, 1), (2, 1)]
            status = await cluster.status()
            assert status["pid"] == cluster.pid
            assert status["phase"] == "serving"
            assert status["address"] == cluster.address
            assert await ask(cluster.messenger, "agent", "return me.role.value") == "agent"
        assert cluster.exit_code == 0
        assert await cluster.close() == 0
        with pytest.raises(MessengerClosed):
            cluster.messenger.send_to_agent("note")

    asyncio.run(scenario())
    assert nothing_left(ours)


def test_a_cluster_takes_options_as_one_value(ours: Project) -> None:
    async def scenario() -> None:
        async with Cluster(ClusterOptions("app:app", **wanted(ours, workers=1, name="one-value"))) as cluster:
            assert (await cluster.status())["name"] == "one-value"

    asyncio.run(scenario())


def test_a_reload_replaces_the_workers_and_returns_when_it_is_done(ours: Project) -> None:
    async def scenario() -> None:
        async with Cluster("app:app", **wanted(ours)) as cluster:
            before = {worker.worker_id for worker in cluster.workers}
            await cluster.reload()
            assert [worker.generation for worker in cluster.workers] == [2, 2]
            assert not before & {worker.worker_id for worker in cluster.workers}

    asyncio.run(scenario())


def test_a_reload_that_fails_raises_and_the_old_workers_go_on(ours: Project) -> None:
    async def scenario() -> None:
        async with Cluster("app:app", **wanted(ours)) as cluster:
            before = cluster.workers
            ours.write(app="raise RuntimeError('half-written')")
            with pytest.raises(ControlError, match="half-written"):
                await cluster.reload()
            assert cluster.workers == before
            await get(cluster.address)

    asyncio.run(scenario())


def test_the_parent_is_told_of_readiness_and_of_deaths(ours: Project) -> None:
    heard: list[tuple[str, Any]] = []

    async def scenario() -> None:
        cluster = Cluster("app:app", **wanted(ours, workers=1))
        for action in ("realport", "egg-ready", "app-worker-died", "app-exit", "agent-worker-died", "agent-exit"):
            cluster.messenger.on(action, lambda data, action=action: heard.append((action, data)))
        async with cluster:
            port = int(cluster.address.rpartition(":")[2])
            assert heard == [(a, {"address": cluster.address, "port": port}) for a in ("realport", "egg-ready")]
            heard.clear()
            pid = cluster.workers[0].worker_id
            agent = await ask(cluster.messenger, "agent", "return os.getpid()")
            os.kill(pid, signal.SIGKILL)
            os.kill(agent, signal.SIGKILL)
            await until(lambda: len(heard) == 4)
            app_died = {"worker_id": pid, "slot": 1, "code": None, "signal": "SIGKILL"}
            agent_died = {"worker_id": agent, "slot": 0, "code": None, "signal": "SIGKILL"}
            assert sorted(heard, key=lambda one: one[0]) == [
                ("agent-exit", agent_died),
                ("agent-worker-died", agent_died),
                ("app-exit", app_died),
                ("app-worker-died", app_died),
            ]

    asyncio.run(scenario())


def test_entering_raises_what_the_application_raised(ours: Project) -> None:
    ours.write(app="app = print\ndef connect():\n    raise ConnectionError('no database')\nconnect()\n")

    async def scenario() -> None:
        cluster = Cluster("app:app", **wanted(ours))
        with pytest.raises(BootError, match="ConnectionError: no database") as raised:
            await cluster.start()
        assert "in connect" in str(raised.value)
        assert cluster.exit_code == 1

    asyncio.run(scenario())
    assert nothing_left(ours)


def test_entering_raises_for_bad_options_wherever_they_are_found(ours: Project) -> None:
    async def scenario() -> None:
        with pytest.raises(OptionsError, match="workers"):
            await Cluster("app:app", **wanted(ours, workers=0)).start()
        with pytest.raises(OptionsError, match="nothing_here"):
            await Cluster("app:nothing_here", **wanted(ours)).start()
        async with Cluster("app:app", **wanted(ours)) as first:
            port = int(first.address.rpartition(":")[2])
            second = Cluster("app:app", **wanted(ours, port=port, name="second"))
            with pytest.raises(OptionsError, match=f"port: {port}"):
                await second.start()
            assert second.exit_code == 2
            with pytest.raises(OptionsError, match="name"):
                await Cluster("app:app", **wanted(ours)).start()
            await get(first.address)

    asyncio.run(scenario())
    assert nothing_left(ours)


def test_a_cancelled_start_leaves_nothing(ours: Project) -> None:
    ours.write(app="import time\napp = print\ntime.sleep(1000)")

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                await Cluster("app:app", **wanted(ours, app_close_timeout=300)).start()

    asyncio.run(scenario())
    assert nothing_left(ours)


def test_the_end_of_the_master_is_noticed(ours: Project) -> None:
    async def scenario() -> None:
        async with Cluster("app:app", **wanted(ours, workers=1)) as cluster:
            asked = asyncio.ensure_future(ask(cluster.messenger, "agent", "await asyncio.sleep(1000)"))
            await asyncio.sleep(0)
            os.kill(cluster.pid, signal.SIGTERM)
            assert await cluster.wait_closed() == 0
            with pytest.raises((ReceiverDied, MessengerClosed)):
                await asked

    asyncio.run(scenario())
    assert nothing_left(ours)


def test_the_cluster_of_a_program_that_is_killed_closes_in_order(ours: Project) -> None:
    program = """
import asyncio, json, sys
from eggcluster import Cluster

async def main():
    async with Cluster("app:app", **json.loads(sys.argv[1])) as cluster:
        print(cluster.pid, *(worker.worker_id for worker in cluster.workers), flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(wanted(ours))],
        env=ours.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        pids = [int(word) for word in parent.stdout.readline().split()]
        processes = [psutil.Process(pid) for pid in pids]
        parent.kill()
        wait_until(lambda: not any(process.is_running() for process in processes), "the cluster is gone", 5)
    wait_until(lambda: nothing_left(ours), "nothing is left", 5)
    assert marks(ours, "closing")[-1][:2] == ["agent", "on_close"]


def test_two_clusters_live_in_one_program(ours: Project) -> None:
    async def scenario() -> None:
        one = Cluster("app:app", **wanted(ours, workers=1, name="one"))
        two = Cluster("app:app", **wanted(ours, workers=1, name="two"))
        async with one, two:
            assert one.address != two.address
            assert (await get(one.address))["pid"] == one.workers[0].worker_id
            assert (await get(two.address))["pid"] == two.workers[0].worker_id
            os.kill(one.pid, signal.SIGKILL)
            assert await one.wait_closed() == -signal.SIGKILL
            assert (await get(two.address))["pid"] == two.workers[0].worker_id
        assert two.exit_code == 0

    asyncio.run(scenario())
    wait_until(lambda: not children(), "the killed one's workers are gone", 3)


# -- the master in this process ----------------------------------------------------------------------------------


def test_start_cluster_runs_the_master_here_and_gives_everything_back(ours: Project) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)

    async def scenario() -> None:
        signals = [signal.getsignal(number) for number in numbers]
        tasks, fds = asyncio.all_tasks(), open_fds()
        cluster = await start_cluster("app:app", **wanted(ours))
        assert (await get(cluster.address))["slot"] in (1, 2)
        assert (await cluster.status())["pid"] == os.getpid()
        assert await ask(cluster.messenger, "agent", "return os.getppid()") == os.getpid()
        assert [signal.getsignal(number) for number in numbers] != signals
        assert await cluster.close() == 0
        assert await cluster.close() == 0
        assert [signal.getsignal(number) for number in numbers] == signals
        await until(lambda: asyncio.all_tasks() == tasks)
        await until(lambda: open_fds() == fds)

    asyncio.run(scenario())
    assert nothing_left(ours)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("waits_before", [False, True])
def test_the_programs_own_children_end_as_ever_beside_a_cluster_in_this_process(
    ours: Project, waits_before: bool, ignored: bool
) -> None:
    """uvloop waits for them by SIGCHLD, with a handler that Python does not know and could not give back; also in a
    program that had it ignored, whether it has a child when the cluster comes, or when it goes."""

    async def wait_for(child: asyncio.subprocess.Process) -> None:
        child.terminate()
        assert await asyncio.wait_for(child.wait(), DEADLINE) == -signal.SIGTERM

    async def scenario() -> None:
        waiting = [await asyncio.create_subprocess_exec("sleep", "1000")] if waits_before else []
        async with await start_cluster("app:app", **wanted(ours, workers=1)) as cluster:
            waiting.append(await asyncio.create_subprocess_exec("sleep", "1000"))
            await wait_for(waiting.pop(0))
            waiting.append(await asyncio.create_subprocess_exec("sleep", "1000"))
            os.kill(cluster.workers[0].worker_id, signal.SIGKILL)
            await until(lambda: [worker.generation for worker in cluster.workers] == [2])
        waiting.append(await asyncio.create_subprocess_exec("sleep", "1000"))
        for child in waiting:
            await wait_for(child)

    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(scenario())
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert nothing_left(ours)


def test_a_program_without_a_file_descriptor_left_can_still_have_a_worker_killed_and_replaced(
    ours: Project, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with await start_cluster("app:app", **wanted(ours, workers=1)) as cluster:
            worker = cluster.master.supervisor.slots[0].current
            assert worker is not None
            with no_descriptor_left():
                cluster.master.worker_manager.kill(worker)  # as for one whose start took too long
                await until(lambda: not cluster.workers)
            await until(lambda: [worker.generation > 1 for worker in cluster.workers] == [True])

    asyncio.run(scenario())
    assert "BUG" not in caplog.text
    assert nothing_left(ours)


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_fds()) + 2, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in taken:
            os.close(fd)


def test_closing_without_a_waiting_caller_is_not_cut_short_by_closing_again(ours: Project) -> None:
    slow = "\n@agent.on_close\nasync def rest():\n    await remote.asyncio.sleep(0.5)\n"
    obedient(ours, agent=slow)

    async def scenario() -> None:
        cluster = Cluster("app:app", **wanted(ours))
        await cluster.start()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cluster.close(), 0.1)
        assert await cluster.close() == 0
        assert await cluster.close() == 0

    asyncio.run(scenario())
    assert nothing_left(ours)
    assert len(marks(ours, "closing")) == 5


def open_fds() -> set[int]:
    """What this process has open, without the descriptor that looks."""
    return {int(fd) for fd in os.listdir("/proc/self/fd") if _is_open(int(fd))}


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_signal_closes_the_cluster_in_this_process(ours: Project) -> None:
    async def scenario() -> None:
        cluster = await start_cluster("app:app", **wanted(ours, workers=1))
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(DEADLINE):
            assert await cluster.wait_closed() == 0

    asyncio.run(scenario())
    assert nothing_left(ours)


def test_start_cluster_raises_what_the_application_raised_and_leaves_nothing(
    ours: Project, caplog: pytest.LogCaptureFixture
) -> None:
    ours.write(app="app = print\nraise ValueError('unwell')")

    async def scenario() -> None:
        fds, tasks = open_fds(), asyncio.all_tasks()
        with pytest.raises(BootError, match="ValueError: unwell"):
            await start_cluster("app:app", **wanted(ours))
        await until(lambda: asyncio.all_tasks() == tasks)
        await until(lambda: open_fds() == fds)

    asyncio.run(scenario())
    assert nothing_left(ours)
    assert "never retrieved" not in caplog.text


def test_start_cluster_raises_for_a_taken_port_and_leaves_nothing(
    ours: Project, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            fds, tasks = open_fds(), asyncio.all_tasks()
            with pytest.raises(OptionsError, match=r"port: .* is taken"):
                await start_cluster("app:app", **wanted(ours, port=taken.getsockname()[1]))
            await until(lambda: asyncio.all_tasks() == tasks)
            await until(lambda: open_fds() == fds)

    asyncio.run(scenario())
    gc.collect()
    assert nothing_left(ours)
    assert "never retrieved" not in caplog.text


def test_two_clusters_may_have_their_masters_here_and_close_in_any_order(ours: Project) -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def scenario() -> None:
        one = await start_cluster("app:app", **wanted(ours, workers=1, name="one"))
        two = await start_cluster("app:app", **wanted(ours, workers=1, name="two"))
        assert (await get(one.address))["pid"] == one.workers[0].worker_id
        assert (await get(two.address))["pid"] == two.workers[0].worker_id
        assert await one.close() == 0
        assert (await get(two.address))["pid"] == two.workers[0].worker_id
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(DEADLINE):
            assert await two.wait_closed() == 0

    asyncio.run(scenario())
    assert signal.getsignal(signal.SIGTERM) is before
    assert nothing_left(ours)


def test_a_cluster_is_started_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGG_RUNTIME_DIR", project.environ["EGG_RUNTIME_DIR"])
    project.write(app=HELLO, agent=AGENT)

    async def scenario() -> None:
        cluster = Cluster("app:app", workers=1, port=0, base_dir=str(project.folder))
        with pytest.raises(RuntimeError, match="not been started"):
            await cluster.wait_closed()
        async with cluster:
            pass
        with pytest.raises(RuntimeError, match="started before"):
            await cluster.start()

    asyncio.run(scenario())
