"""Agents and workers are killed in a flood: what they had not begun reaches their successors, the rest is named."""

import asyncio
import os
import re
import signal
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eggcluster import Cluster, ReceiverDied
from tests.cluster.harness import Project
from tests.cluster.remote import ask, obedient
from tests.cluster.test_messenger import log_of
from tests.cluster.test_messenger_load import LONG, MIB, agent_after, impatient
from tests.waiting import until

# Each message leaves a number when its handler begins, and one when it ends, in a file that is mapped into memory: that
# costs next to nothing and outlives a SIGKILL. Every fifth action has an async handler, of which several run at a time.
RECEIVING = """
import mmap, os
place, marks = 0, None

def mark(data, ends):
    global place, marks
    if marks is None:
        with open(os.path.join(os.path.dirname(__file__), f"book-{os.getpid()}"), "wb+") as file:
            file.truncate(1 << 27)  # with holes
            marks = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
    marks[place] = data[1] << 8 | data[0] << 1 | ends
    place += 1

def plain(data):
    mark(data, 0)
    mark(data, 1)

async def in_task(data):
    mark(data, 0)
    await remote.asyncio.sleep(0.003)
    mark(data, 1)

for number in range(10):
    remote.messenger.on(f"number-{number}", in_task if number % 5 == 4 else plain)
"""
SENDING = """
state = sys.modules["remote"].state = {"sent": 0, "on": True}
async def flood():
    last = time.monotonic()
    while state["on"]:
        now = time.monotonic()  # what a slow receiver or machine has held up is not sent at once later
        due, last = state["sent"] + min(0.05, now - last) * given["rate"], now
        try:
            while state["sent"] < due:
                number = state["sent"]
                messenger.send_to(given["to"], f"number-{number % 10}", [me.slot, number + 1])
                state["sent"] += 1
                if number % 100 == 0:
                    await asyncio.sleep(0)
        except eggcluster.MessengerBusy:
            pass
        await messenger.drain()  # else what it holds back for a slow receiver exceeds the bound when that dies
        await asyncio.sleep(0.005)
state["task"] = asyncio.ensure_future(flood())
"""
STOPPING = "sys.modules['remote'].state['on'] = False"
ENDING = """
state = sys.modules["remote"].state
state["on"] = False
await state["task"]
await messenger.drain()
await messenger.request("run", ["pass", None], to=given, timeout=100)
return state["sent"]
"""
Note = tuple[str, int]


def name_of(slot: int) -> str:
    return f"app#{slot}" if slot else "agent"


class Book:
    """What one life has begun and has ended."""

    def __init__(self, path: Path) -> None:
        self.begun: list[Note] = []
        self.ended: set[Note] = set()
        with path.open("rb") as file:
            while mark := int.from_bytes(file.read(8), "little"):
                note = name_of(mark >> 1 & 0x7F), (mark >> 8) - 1
                if mark & 1:
                    self.ended.add(note)
                else:
                    self.begun.append(note)

    @property
    def unfinished(self) -> set[Note]:
        return set(self.begun) - self.ended


def has_begun(book: Path, marks: int) -> bool:
    if not book.exists():
        return False
    with book.open("rb") as file:
        file.seek(8 * marks)
        return any(file.read(8))


def check(project: Project, lives: list[int], sent: dict[str, int]) -> None:
    """None is lost, none is doubled, none out of order, and those that had begun at a death are named."""
    books = [Book(project.folder / f"book-{life}") for life in lives]
    begun = [note for book in books for note in book.begun]
    assert len(begun) == len(set(begun)), "doubled"
    by_sender: dict[str, list[int]] = defaultdict(list)
    for name, number in begun:
        by_sender[name].append(number)
    for name, numbers in by_sender.items():
        assert numbers == sorted(numbers), f"{name}: out of order"
    missing = {(name, number) for name, count in sent.items() for number in range(count)} - set(begun)
    named_of = named_in(log_of(project))
    named_in_all: Counter[tuple[str, str]] = Counter()
    for life, book in zip(lives, books, strict=True):
        named = named_of.get(life, Counter())
        wanted = Counter((f"number-{number % 10}", name) for name, number in book.unfinished)
        assert wanted <= named, f"{life}: {wanted - named} not named"
        # A message is marked before its first line writes, and after its last one has: a kill may come between.
        assert (named - wanted).total() <= 2, f"{life}: {named - wanted} named, too"
        named_in_all += named - wanted
    assert Counter((f"number-{number % 10}", name) for name, number in missing) <= named_in_all, f"lost: {missing}"


def named_in(log: str) -> dict[int, Counter[tuple[str, str]]]:
    found: dict[int, Counter[tuple[str, str]]] = {}
    for pid, listed in re.findall(r":(\d+) died while it handled (.*): not repeated", log):
        found[int(pid)] = Counter()
        for action, sender, count in re.findall(r'"([^"]+)" from (app#\d|agent)(?: \((\d+) times\))?', listed):
            found[int(pid)][action, sender] += int(count or 1)
    return found


async def app_after(cluster: Cluster, slot: int, last: int) -> int:
    """The pid of the next worker in a slot, once it listens."""
    while True:
        worker = (await cluster.status())["workers"][slot - 1]
        if worker["state"] == "listening" and worker["worker_id"] != last:
            return int(worker["worker_id"])
        await asyncio.sleep(0.01)


async def until_caught_up(cluster: Cluster, receiver: str) -> None:
    """Wait until a receiver is no further behind than flow control lets it be."""
    async with asyncio.timeout(60):
        while True:
            status = await cluster.status()
            worker = status["agent"] if receiver == "agent" else status["workers"][1]
            if worker["messages"]["queued_bytes"] < 8 * MIB:
                return
            await asyncio.sleep(0.05)


@pytest.mark.timeout(1500 if LONG else 120)
@pytest.mark.parametrize("rate", [1_000, 20_000, 200_000] if LONG else [1_000, 20_000])
@pytest.mark.parametrize("receiver", ["agent", "app#2"])
def test_kills_in_a_flood_lose_nothing_double_nothing_and_keep_the_order(
    project: Project, receiver: str, rate: int
) -> None:
    obedient(project, agent=RECEIVING, app=RECEIVING)
    senders = [name for name in ("agent", "app#1", "app#2", "app#3", "app#4") if name != receiver]
    kills = 50 if LONG else 4

    async def scenario() -> None:
        async with impatient(project, workers=4) as cluster:
            for sender in senders:
                await ask(cluster.messenger, sender, SENDING, {"to": receiver, "rate": rate / len(senders)})
            lives = [0]

            async def next_life() -> None:
                last = lives[-1]
                lives.append(await (agent_after(cluster, last) if receiver == "agent" else app_after(cluster, 2, last)))

            for number in range(kills):
                await next_life()
                book = project.folder / f"book-{lives[-1]}"
                await until(lambda book=book: has_begun(book, 100))  # type: ignore[misc]
                # It catches up first: what is sent while there is no receiver is kept within a bound only.
                await until_caught_up(cluster, receiver)
                if number % 2:  # what was sent to one that hangs waits in the kernel, and in the master
                    os.kill(lives[-1], signal.SIGSTOP)
                    await asyncio.sleep(0.2)
                os.kill(lives[-1], signal.SIGKILL)
            await next_life()
            for sender in senders:
                await ask(cluster.messenger, sender, STOPPING)
            run = partial(cluster.messenger.request, "run", [ENDING, receiver], timeout=120)
            sent = {sender: await run(to=sender) for sender in senders}
            print(f"{sum(sent.values())} sent")  # noqa: T201
            status = await cluster.status()
            assert (status.get("messages_dropped"), status.get("messages_to_nobody")) == (0, 0)
            last = project.folder / f"book-{lives[-1]}"
            await until(lambda: not Book(last).unfinished, "the last life has ended what it has begun")
            check(project, lives[1:], sent)

    asyncio.run(scenario())


@pytest.mark.parametrize("receiver", ["agent", "app#1"])
def test_an_exit_loses_nothing_either(project: Project, receiver: str) -> None:
    obedient(project, agent=RECEIVING, app=RECEIVING)

    async def scenario() -> None:
        async with impatient(project, workers=2, env="prod") as cluster:
            sender = "app#2" if receiver == "agent" else "agent"
            await ask(cluster.messenger, sender, SENDING, {"to": receiver, "rate": 3000})
            for _ in range(2):
                last = await ask(cluster.messenger, receiver, "return os.getpid()")
                await until(lambda life=last: has_begun(project.folder / f"book-{life}", 9))  # type: ignore[misc]
                with pytest.raises(ReceiverDied):
                    await cluster.messenger.request("run", ["os._exit(3)", None], to=receiver)
                await (agent_after(cluster, last) if receiver == "agent" else app_after(cluster, 1, last))
            sent = {sender: await ask(cluster.messenger, sender, ENDING, receiver)}
            books = [Book(path) for path in project.folder.glob("book-*")]
            begun = sorted(note for book in books for note in book.begun)
            assert begun == [(sender, number) for number in range(sent[sender])]

    asyncio.run(scenario())


def test_a_reload_in_a_flood_loses_nothing_and_doubles_nothing(project: Project) -> None:
    """The parent sends, because every worker is replaced. Broadcasts reach old and new workers, each at most once."""
    obedient(project, agent=RECEIVING, app=RECEIVING)

    async def scenario() -> None:
        async with impatient(project, workers=2) as cluster:
            sent = 0

            async def flood() -> None:
                nonlocal sent
                while True:
                    for receiver in ("agent", "app#1", "all"):
                        for _ in range(5):
                            cluster.messenger.send_to(
                                receiver, f"number-{sent % 10}", [PLACES.index(receiver), sent + 1]
                            )
                            sent += 1
                    await asyncio.sleep(0.005)

            flooding = asyncio.ensure_future(flood())
            for number in range(1, 3):
                while sent < number * 300:
                    await asyncio.sleep(0.01)
                await cluster.reload(agent=True)
            flooding.cancel()
            await cluster.messenger.drain()
            for place in ("agent", "app#1", "app#2"):
                await ask(cluster.messenger, place, "pass")  # it follows all that was sent before
            books = [Book(path) for path in project.folder.glob("book-*")]
            for book in books:
                assert len(set(book.begun)) == len(book.begun)
            begun = Counter(note for book in books for note in book.begun)
            for number in range(sent):
                kind = number // 5 % 3
                count = begun[name_of(kind), number]
                assert count == 1 if kind < 2 else 3 <= count <= 5, (number, count)

    asyncio.run(scenario())


PLACES = ["agent", "app#1", "all"]


def test_a_request_to_an_agent_that_hangs_is_answered_by_the_next_one(project: Project) -> None:
    obedient(project)

    async def scenario() -> None:
        async with impatient(project, workers=1) as cluster:
            agent = await ask(cluster.messenger, "agent", "return os.getpid()")
            os.kill(agent, signal.SIGSTOP)
            before = (await cluster.status())["agent"]["messages"]["relayed"]
            asking = asyncio.ensure_future(ask(cluster.messenger, "agent", "return os.getpid()"))
            async with asyncio.timeout(20):
                while (await cluster.status())["agent"]["messages"]["relayed"] == before:
                    await asyncio.sleep(0.01)
            os.kill(agent, signal.SIGKILL)
            assert await asking not in (None, agent)

    asyncio.run(scenario())


def test_what_a_random_worker_had_not_begun_goes_to_another(project: Project) -> None:
    obedient(project)

    async def scenario() -> None:
        async with impatient(project, workers=2) as cluster:
            one = await ask(cluster.messenger, "app#1", "return os.getpid()")
            os.kill(one, signal.SIGSTOP)
            source = "for number in range(40): messenger.send_random('note', number)\nawait messenger.drain()"
            await ask(cluster.messenger, "agent", source)
            await until_relayed(cluster, 40)
            os.kill(one, signal.SIGKILL)
            last = await app_after(cluster, 1, one)
            seen: list[Any] = []

            async def all_came() -> bool:
                seen[:] = [number for slot in (1, 2) for number in await ask(cluster.messenger, f"app#{slot}", SEEN)]
                return len(seen) >= 40

            async with asyncio.timeout(20):
                while not await all_came():
                    await asyncio.sleep(0.02)
            assert sorted(seen) == [*range(40)]
            assert last != one

    asyncio.run(scenario())


SEEN = "return seen"


async def until_relayed(cluster: Cluster, count: int) -> None:
    async with asyncio.timeout(20):
        while sum(worker["messages"]["relayed"] for worker in (await cluster.status())["workers"]) < count:
            await asyncio.sleep(0.01)
