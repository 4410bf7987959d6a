"""Short cuts: what comes one by one goes the same way as before, and not one of the rules of the long way is lost."""

import asyncio
import logging
from typing import Any

import pytest

from eggcluster.errors import ReceiverDied
from eggcluster.ipc import channel
from eggcluster.ipc.frame import MAX_SINGLE, ROUTE, encode_frame
from eggcluster.master.relay.link import Link
from eggcluster.model.messages.message import FrameKind, Target
from tests.unit.conftest import Run
from tests.unit.wires import Child, Wires, until

MIB = 1024 * 1024


async def one_by_one(sender: Child, receiver: Child, *notes: Any) -> None:
    """Each note to the agent leaves only when the one before has arrived: each read of the master's brings one."""
    for note in notes:
        sender.messenger.send_to_agent("note", note)
        await until(lambda: receiver.got and receiver.got[-1] == note)  # noqa: B023 - awaited before the next one


def ways(wires: Wires, child: Child) -> set[int]:
    """The kinds for which the master knows a short cut from `child`."""
    return {way[0] for way in wires.link(child).opened.short_cuts}


def test_what_comes_one_by_one_takes_the_short_cut_and_is_counted_as_ever(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        agent.messenger.on("echo", lambda data: data)
        await one_by_one(one, agent, "the long way")
        assert ways(wires, one) == {FrameKind.MESSAGE}
        _forbid_the_long_way(wires)
        await one_by_one(one, agent, *range(5))
        assert agent.got == ["the long way", *range(5)]
        assert (wires.link(one).sent, wires.link(agent).relayed) == (6, 6)

    run(work())


def _forbid_the_long_way(wires: Wires) -> None:
    def refuse(link: Link, frame: Any) -> None:
        raise AssertionError(f"a frame from {link.address} took the long way")

    wires.switchboard._accept = refuse  # type: ignore[method-assign]


def test_with_short_cuts_off_every_frame_takes_the_long_way(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "SHORT_CUTS", False)

    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        agent.messenger.on("echo", lambda data: data)
        await one_by_one(one, agent, *range(3))
        assert [await one.messenger.request("echo", number) for number in range(3)] == [0, 1, 2]
        assert (ways(wires, one), ways(wires, agent)) == (set(), set())

    run(work())


def test_requests_and_replies_take_it_too_and_leave_nothing(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        agent.messenger.on("echo", lambda data: data)
        assert await one.messenger.request("echo", 0) == 0
        assert (ways(wires, one), ways(wires, agent)) == ({FrameKind.REQUEST}, {FrameKind.REPLY})
        _forbid_the_long_way(wires)
        assert [await one.messenger.request("echo", number) for number in range(5)] == [*range(5)]
        assert not wires.switchboard._requests
        assert wires.link(one).open_requests == 0
        assert (wires.link(one).sent, wires.link(agent).relayed, wires.link(agent).sent) == (6, 6, 6)

    run(work())


def test_many_requests_at_once_and_some_alone_get_their_own_answers(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        agent.messenger.on("echo", lambda data: data)

        async def ask(number: int) -> int:
            await asyncio.sleep(number % 7 * 0.002)
            answer: int = await one.messenger.request("echo", number)
            return answer

        assert await asyncio.gather(*map(ask, range(200))) == [*range(200)]
        assert not wires.switchboard._requests

    run(work())


def test_a_new_worker_in_the_slot_gets_what_is_sent_from_then_on(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        await one_by_one(one, agent, 1, 2)
        wires.dies(agent)
        one.messenger.send_to_agent("note", 3)
        successor = await wires.agent()
        await until(lambda: successor.got == [3])
        await one_by_one(one, successor, 4, 5)
        assert agent.got == [1, 2]

    run(work())


def test_a_successor_that_boots_beside_the_old_one_ends_the_short_cut_when_it_is_live(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, old = await wires.agent(), await wires.app(1)
        for number in range(3):
            agent.messenger.send_to("app#1", "note", number)
            await until(lambda: len(old.got) == number + 1)  # noqa: B023
        new = await wires.app(1, live=False)
        agent.messenger.send_to("app#1", "note", 3)
        await until(lambda: len(old.got) == 4)
        wires.go_live(new)
        agent.messenger.send_to("app#1", "note", 4)
        await until(lambda: new.got == [4])
        assert old.got == [0, 1, 2, 3]

    run(work())


def test_a_watcher_sees_every_message(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        await one_by_one(one, agent, 1, 2)
        seen: list[int] = []

        def observe(link: Link, frame: Any) -> None:
            seen.append(frame.kind)

        wires.switchboard.observers.add(observe)
        await one_by_one(one, agent, 3, 4)
        assert seen == [FrameKind.MESSAGE] * 2
        wires.switchboard.observers.remove(observe)
        await one_by_one(one, agent, 5, 6)
        assert len(seen) == 2
        assert ways(wires, one) == {FrameKind.MESSAGE}

    run(work())


@pytest.mark.parametrize("source", [0, 1 << 24, (2 << 24) + 2, 0xFFFFFFFF])
def test_a_forged_sender_finds_no_short_cut(run: Run, source: int) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one, two = await wires.agent(), await wires.app(1), await wires.app(2)
        await one_by_one(one, agent, 1, 2)
        await one_by_one(two, agent, 3, 4)
        one.write(FrameKind.MESSAGE, Target.AGENT, ["note", "forged"], source=source)
        await until(lambda: one.closed)
        await one_by_one(two, agent, 5)
        assert agent.got == [1, 2, 3, 4, 5]

    run(work())


@pytest.mark.parametrize(
    ("message", "said"), [(["egg-ready", None], "does not come from the master"), (7, "cannot be read")]
)
def test_a_wrong_message_of_an_application_is_dropped_behind_true_messages_too(
    run: Run, caplog: pytest.LogCaptureFixture, message: object, said: str
) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        agent.messenger.on("egg-ready", lambda data: agent.got.append("believed"))
        await one_by_one(one, agent, 1, 2)
        one.write(FrameKind.MESSAGE, Target.AGENT, message)
        await until(lambda: said in caplog.text)
        await one_by_one(one, agent, 3)
        assert agent.got == [1, 2, 3]

    caplog.set_level(logging.WARNING, "eggcluster")
    run(work())


def test_a_reply_without_a_request_and_one_that_cannot_be_read_do_no_harm(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        agent.messenger.on("echo", lambda data: data)
        assert await one.messenger.request("echo", 1) == 1
        asker = one.address.pack()
        agent.write(FrameKind.REPLY, Target.ADDRESS, "nobody asked", target_id=asker, request_id=12345)
        assert await one.messenger.request("echo", 2) == 2
        assert not agent.closed

    run(work())


def test_a_receivers_death_is_told_to_the_workers_that_asked_by_the_short_cut(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        agent.messenger.on("maybe", lambda data: asyncio.sleep(60) if data else "at once")
        assert await one.messenger.request("maybe", False) == "at once"
        _forbid_the_long_way(wires)
        asking = asyncio.ensure_future(one.messenger.request("maybe", True, timeout=15))
        page = agent.page
        assert page is not None
        await until(lambda: page.begun().count == 2)
        wires.dies(agent)
        with pytest.raises(ReceiverDied):
            await asking

    run(work())


def test_small_messages_one_by_one_slow_their_sender_down_as_floods_do(run: Run) -> None:
    """The receiver does not read. Each message comes alone, and the first ones have left a short cut."""

    async def work() -> None:
        wires = Wires(max_queue_bytes=2 * MIB)
        agent, one = await wires.agent(), await wires.app(1)
        await one_by_one(one, agent, 1, 2)
        agent.channel.pause_reading()
        raw = encode_frame(
            FrameKind.MESSAGE, Target.AGENT, ["note", bytes(MAX_SINGLE - 100)], source=one.address.pack()
        )
        link, sent = wires.link(one), 0
        assert raw[ROUTE] in link.opened.short_cuts
        while not link.slowed_by:
            one.channel.write(raw)
            sent += 1
            await asyncio.sleep(0)
            assert wires.link(agent).queued_bytes < 2 * MIB
        agent.channel.resume_reading()
        await until(lambda: len(agent.got) == 2 + sent)
        assert wires.switchboard.dropped.total == 0

    run(work())


def test_a_large_frame_takes_the_long_way(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        await one_by_one(one, agent, 1, bytes(MAX_SINGLE), 2, bytes(MIB), 3)
        assert [note if isinstance(note, int) else len(note) for note in agent.got] == [1, MAX_SINGLE, 2, MIB, 3]

    run(work())


def test_the_masters_own_message_to_a_worker_that_does_not_read_is_counted_as_dropped(run: Run) -> None:
    async def work() -> None:
        wires = Wires(max_queue_bytes=MIB)
        agent = await wires.agent()
        agent.channel.pause_reading()
        link = wires.link(agent)
        for _ in range(100):
            wires.switchboard.tell([agent.address], "egg-pids", list(range(100_000)))
        assert link.queued_bytes <= MIB
        assert link.dropped == wires.switchboard.dropped.total > 0
        wires.switchboard.answer(link, 1, FrameKind.REPLY, bytes(MIB))
        assert link.dropped == wires.switchboard.dropped.total

    run(work())
