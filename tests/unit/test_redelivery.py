"""Where each kind of message goes whose receiver has died before it began it."""

import asyncio

import pytest

from eggcluster.errors import FrameError, ReceiverDied
from tests.unit.conftest import Run
from tests.unit.test_switchboard import settle
from tests.unit.wires import Child, Wires, until


def hang(child: Child) -> None:
    """The child reads nothing any more."""
    child.channel.pause_reading()


def die(wires: Wires, child: Child) -> None:
    child.channel.fail(FrameError("killed"))
    wires.dies(child)


def test_a_message_to_a_random_worker_goes_to_another_one(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        hang(one)
        agent.messenger.send_random("note", "any")
        asking = asyncio.ensure_future(agent.messenger.request("who", to="app", timeout=15))
        await settle(agent)
        two = await wires.app(2)
        two.messenger.on("who", lambda data: "two")
        die(wires, one)
        await until(lambda: two.got == ["any"])
        assert await asking == "two"

    run(work())


def test_a_message_to_a_random_worker_waits_if_there_is_no_other(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        hang(one)
        agent.messenger.send_random("note", "any")
        await settle(agent)
        die(wires, one)
        successor = await wires.app(1)
        await until(lambda: successor.got == ["any"])
        assert wires.switchboard.lost.total == 0

    run(work())


def test_a_successor_that_boots_gets_broadcasts_and_others_in_their_order_once(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, old = await wires.agent(), await wires.app(1)
        agent.messenger.send_to("app#1", "note", 0)
        new = await wires.app(1, live=False)
        agent.messenger.send_to_app("note", 1)
        await until(lambda: old.got == [0, 1])  # the copy of this one reaches the new one all the same
        hang(old)
        for number in range(2, 8):
            agent.messenger.send_to("app#1" if number % 2 else "app", "note", number)
            await settle(agent)
        die(wires, old)
        agent.messenger.send_to_app("note", 8)
        agent.messenger.send_to("app#1", "note", 9)
        await settle(agent)
        wires.go_live(new)
        await until(lambda: len(new.got) >= 9)
        assert new.got == [*range(1, 10)]

    run(work())


def test_what_an_old_worker_leaves_at_a_reload_reaches_the_live_one_late_and_broadcasts_only_once(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, old = await wires.agent(), await wires.app(1)
        hang(old)
        agent.messenger.send_to("app#1", "note", 1)
        new = await wires.app(1, live=False)
        agent.messenger.send_to_app("note", 2)
        agent.messenger.send_to("app#1", "note", 3)
        await settle(agent)
        wires.go_live(new)
        agent.messenger.send_to("app#1", "note", 4)
        await until(lambda: new.got == [2, 4])
        die(wires, old)
        await until(lambda: len(new.got) >= 4)
        await settle(agent)
        assert new.got == [2, 4, 1, 3]

    run(work())


def test_a_message_to_a_worker_id_dies_with_the_worker_and_a_request_fails(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        assert one.worker is not None
        worker_id = one.worker.worker_id or 0
        hang(one)
        agent.messenger.send_to(worker_id, "note", 1)
        asking = asyncio.ensure_future(agent.messenger.request("who", to=worker_id, timeout=15))
        await settle(agent)
        successor = await wires.app(1)
        die(wires, one)
        with pytest.raises(ReceiverDied, match="died before it answered"):
            await asking
        assert wires.switchboard.lost.total == 1
        assert successor.got == []

    run(work())


def test_what_no_worker_gets_any_more_is_counted(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        hang(agent)
        for number in range(3):
            one.messenger.send_to_agent("note", number)
        await settle(one)
        die(wires, agent)
        assert wires.switchboard.lost.total == 0
        wires.switchboard.lose_kept()
        assert wires.switchboard.lost.total == 3

    run(work())


def test_a_request_whose_requester_has_gone_is_not_handed_on(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        hang(agent)
        asking = asyncio.ensure_future(one.messenger.request("note", "asked", timeout=15))
        one.messenger.send_to_agent("note", "told")
        await settle(await wires.app(2))
        await until(lambda: wires.link(agent).relayed == 2)
        die(wires, one)
        die(wires, agent)
        asking.cancel()
        successor = await wires.agent()
        await until(lambda: successor.got == ["told"])

    run(work())
