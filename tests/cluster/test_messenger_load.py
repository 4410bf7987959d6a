"""The messenger under load and under attack: what is promised holds for floods, for the deaf, and for garbage."""

import asyncio
import os
import random
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from eggcluster import Cluster
from tests.cluster.harness import Project
from tests.cluster.remote import Connection, ask, obedient
from tests.cluster.test_messenger import WRITE, log_of, running
from tests.waiting import until

MIB = 1024 * 1024
BOUND = 4 * MIB  # max_queue_bytes where a test wants it reached
LONG = bool(os.environ.get("EGG_LONG"))  # the long suite does more of the same

# A receiver of numbered messages keeps the last of each sender, and notes what came twice or too late.
TALLY = """
last, wrong, count = {}, [], [0]

@remote.messenger.on("number")
def tally(data):
    who, number = data[:2]
    count[0] += 1
    if number <= last.get(who, -1):
        wrong.append([who, number, last[who]])
    last[who] = number

remote.last, remote.wrong, remote.count = last, wrong, count
"""
SEND = """
busy = 0
for number in range({count}):
    while True:
        try:
            messenger.{call}
            break
        except eggcluster.MessengerBusy:
            busy += 1
            await messenger.drain()
await messenger.drain()
return busy
"""
# The restart budget makes a seat that dies again and again wait for minutes. Its patience is not what is tested here.
IMPATIENT = """
from eggcluster.model.lives.roster import RestartBudget
RestartBudget.delay = lambda self, chance: 0.02
"""


@asynccontextmanager
async def impatient(project: Project, **options: Any) -> AsyncIterator[Cluster]:
    """A running cluster whose master starts the next incarnation at once, however many have died."""
    site = project.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(IMPATIENT)
    environ = pytest.MonkeyPatch()
    environ.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    with environ.context():
        try:
            async with running(project, **options) as cluster:
                yield cluster
        finally:
            environ.undo()


async def master_of(cluster: Cluster) -> psutil.Process:
    return psutil.Process((await cluster.status())["pid"])


async def agent_after(cluster: Cluster, last: int) -> int:
    """The pid of the next agent, once it listens."""
    while True:
        agent = (await cluster.status())["agent"]
        if agent["state"] == "listening" and agent["worker_id"] != last:
            return int(agent["worker_id"])
        await asyncio.sleep(0.01)


async def messages(cluster: Cluster, slot: int) -> dict[str, Any]:
    """What the status says of a worker's channel."""
    counters: dict[str, Any] = (await cluster.status())["workers"][slot - 1]["messages"]
    return counters


async def until_it_reads_again(cluster: Cluster, slot: int) -> None:
    async with asyncio.timeout(60):
        while (await messages(cluster, slot))["stalled"]:
            await asyncio.sleep(0.01)


async def until_sent(cluster: Cluster, place: str, source: str) -> None:
    """Wait until `source` gives something true in a worker."""
    async with asyncio.timeout(60):
        while not await ask(cluster.messenger, place, source):
            await asyncio.sleep(0.05)


def test_eight_senders_at_once_lose_nothing_double_nothing_and_keep_their_order(project: Project) -> None:
    obedient(project, agent=TALLY)
    each = 10_000

    async def scenario() -> None:
        async with running(project, workers=8) as cluster:
            flood = SEND.format(count=each, call="send_to_agent('number', [me.slot, number])")
            await asyncio.gather(*(ask(cluster.messenger, f"app#{slot}", flood) for slot in range(1, 9)))
            await until_sent(cluster, "agent", f"return count[0] >= {8 * each}")
            assert await ask(cluster.messenger, "agent", "return [count[0], wrong]") == [8 * each, []]
            last = await ask(cluster.messenger, "agent", "return last")
            assert last == dict.fromkeys(range(1, 9), each - 1)
            status = await cluster.status()
            assert status.get("messages_dropped") == 0
            assert status["messages_to_nobody"] == 0

    asyncio.run(scenario())


def test_senders_at_their_bound_wait_and_lose_nothing(project: Project) -> None:
    """1000 bytes a message, 16 MB a sender, through queues of 4 MiB: each sender is told to wait, and waits."""
    obedient(project, agent=TALLY)
    each = 16_000

    async def scenario() -> None:
        async with running(project, workers=4, max_queue_bytes=BOUND) as cluster:
            flood = SEND.format(count=each, call="send_to_agent('number', [me.slot, number, b'x' * 1000])")
            busy = await asyncio.gather(*(ask(cluster.messenger, f"app#{slot}", flood) for slot in range(1, 5)))
            assert min(busy) > 0
            await until_sent(cluster, "agent", f"return count[0] >= {4 * each}")
            assert await ask(cluster.messenger, "agent", "return [count[0], wrong]") == [4 * each, []]
            assert (await cluster.status()).get("messages_dropped") == 0

    asyncio.run(scenario())


def test_large_messages_of_many_senders_at_once_all_arrive_while_the_receiver_reads(project: Project) -> None:
    """Together they are far more than a queue may hold."""
    obedient(project, agent=TALLY)

    async def scenario() -> None:
        async with running(project, workers=8, max_queue_bytes=BOUND) as cluster:
            flood = SEND.format(count=4, call="send_to_agent('number', [me.slot, number, bytes(2 * 2**20)])")
            await asyncio.gather(*(ask(cluster.messenger, f"app#{slot}", flood) for slot in range(1, 9)))
            # Behind each sender's last message: what is not there by now does not come any more.
            for slot in range(1, 9):
                await ask(cluster.messenger, f"app#{slot}", "await messenger.request('run', ['pass', None])")
            assert (await cluster.status()).get("messages_dropped") == 0
            assert await ask(cluster.messenger, "agent", "return [count[0], wrong]") == [32, []]

    asyncio.run(scenario())


def test_a_receiver_that_has_stopped_loses_only_its_own_and_the_masters_memory_is_bounded(project: Project) -> None:
    obedient(project, app=TALLY)
    total, size = 6_000, 10_000  # 60 MB for each receiver

    async def scenario() -> None:
        async with running(project, workers=3, max_queue_bytes=BOUND) as cluster:
            master = await master_of(cluster)
            deaf = await ask(cluster.messenger, "app#2", "return os.getpid()")
            warm = SEND.format(count=500, call=f"send_to_app('warm', bytes({size}))")
            await ask(cluster.messenger, "agent", warm)
            before = master.memory_info().rss
            os.kill(deaf, signal.SIGSTOP)
            try:
                flood = SEND.format(count=total, call=f"send_to_app('number', ['agent', number, bytes({size})])")
                await ask(cluster.messenger, "agent", flood)
                for place in ("app#1", "app#3"):
                    await until_sent(cluster, place, f"return count[0] >= {total}")
                    assert await ask(cluster.messenger, place, "return [count[0], wrong]") == [total, []]
                stopped = await messages(cluster, 2)
                grown = master.memory_info().rss - before
                assert stopped["stalled"] is True
                assert stopped["dropped"] > 0
                assert stopped["queued_bytes"] <= 2 * BOUND
                assert grown < 6 * BOUND, f"{grown / MIB:.1f} MiB"
                for slot in (1, 3):
                    others = await messages(cluster, slot)
                    assert (others["dropped"], others["stalled"]) == (0, False)
            finally:
                os.kill(deaf, signal.SIGCONT)

            await until_it_reads_again(cluster, 2)
            await until_sent(cluster, "app#2", f"return count[0] >= {total - stopped['dropped']}")
            await ask(cluster.messenger, "agent", "messenger.send_to_app('number', ['agent', 10**9])")
            await until_sent(cluster, "app#2", "return last['agent'] == 10**9")
            received, wrong = await ask(cluster.messenger, "app#2", "return [count[0], wrong]")
            assert (received + stopped["dropped"], wrong) == (total + 1, [])
            again = await messages(cluster, 2)
            assert (again["stalled"], again["dropped"]) == (False, stopped["dropped"])
            assert (await cluster.status()).get("messages_dropped") == stopped["dropped"]
            assert [worker.generation for worker in cluster.workers] == [1, 1, 1]
            said = re.findall(r"WARNING.*messages? dropped", log_of(project))
            assert len(said) <= 10, said  # once a second at the most

    asyncio.run(scenario())


def test_a_worker_that_floods_gets_an_error_at_its_bound_and_its_http_goes_on(project: Project) -> None:
    obedient(project)

    async def scenario() -> None:
        async with running(project, workers=2, max_queue_bytes=BOUND) as cluster:
            http = await asyncio.to_thread(Connection, cluster.address, 1)
            deaf = await ask(cluster.messenger, "app#2", "return os.getpid()")
            os.kill(deaf, signal.SIGSTOP)
            try:
                flood = """
state = sys.modules["remote"].state = {"phase": "sending"}
async def flood():
    for _ in range(300):  # 30 MB: more than all queues and the kernel take before the master gives the receiver up
        while True:
            try:
                messenger.send_to("app#2", "number", bytes(100_000))
                break
            except eggcluster.MessengerBusy:
                state["phase"] = "waiting"
                await messenger.drain()
                state["phase"] = "sending"
    await messenger.drain()
    state["phase"] = "drained"
state["task"] = asyncio.ensure_future(flood())
"""
                await asyncio.to_thread(http.tell, flood)
                ask_phase = "return sys.modules['remote'].state['phase']"
                phases = [await asyncio.to_thread(http.tell, ask_phase) for _ in range(20)]
                assert "waiting" in phases  # twenty answers, while it waits for room
                async with asyncio.timeout(20):
                    while await asyncio.to_thread(http.tell, ask_phase) != "drained":
                        pass
            finally:
                os.kill(deaf, signal.SIGCONT)
                await asyncio.to_thread(http.close)
            await until_it_reads_again(cluster, 2)
            assert await ask(cluster.messenger, "app#2", "return me.slot") == 2

    asyncio.run(scenario())


def garbage(rolls: random.Random) -> bytes:
    """Bytes that cannot all be frames: the first length is beyond any limit, or the kind or target is none's."""
    noise = rolls.randbytes(rolls.randrange(24, 4096))
    return noise if noise[4] not in range(10) and noise[3] else b"\xff" * 24 + noise


@pytest.mark.timeout(1500 if LONG else 120)
def test_a_worker_that_writes_garbage_is_replaced_each_time_and_the_others_go_on(project: Project) -> None:
    obedient(project)
    rolls = random.Random(20_26)

    async def scenario() -> None:
        async with impatient(project, workers=2) as cluster:
            master = await master_of(cluster)
            other, agent = [await ask(cluster.messenger, place, "return os.getpid()") for place in ("app#2", "agent")]
            fds: list[int] = []
            memory: list[int] = []
            for death in range(1000 if LONG else 20):
                cluster.messenger.send_to(cluster.workers[0].worker_id, "run", [WRITE, garbage(rolls)])
                await until(lambda n=death + 2: [w.generation for w in cluster.workers] == [n, 1])  # type: ignore[misc]
                if death >= 5:
                    fds.append(master.num_fds())
                    memory.append(master.memory_info().rss)
            assert await ask(cluster.messenger, "app#2", "return os.getpid()") == other
            assert await ask(cluster.messenger, "agent", "return [os.getpid(), seen]") == [agent, []]
            assert fds[-1] <= fds[0] + 2, fds  # one incarnation's may still be closing
            assert memory[-1] - memory[0] < 6 * MIB, memory

    asyncio.run(scenario())
