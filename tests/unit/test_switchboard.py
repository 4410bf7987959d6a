"""The switchboard: which message reaches which worker, what is kept, and which worker is cut off."""

import asyncio
import contextlib
import socket

import pytest

from eggcluster.errors import FrameError
from eggcluster.ipc.frame import FrameReader, encode_frame
from eggcluster.master.relay.ledger import FRAME_OVERHEAD
from eggcluster.master.relay.link import Mailbox
from eggcluster.model.lives.worker import AppWorker
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import AGENT, app
from tests.unit.conftest import Run
from tests.unit.wires import Child, Wires, until
from tests.waiting import DEADLINE


async def settle(*children: Child) -> None:
    """All that was sent so far has been relayed: the master answers a later question."""
    for child in children:
        await child.messenger.request("anything", to="master", timeout=DEADLINE)


# -- kept for later --------------------------------------------------------------------------------------------


def test_what_is_sent_to_a_booting_worker_is_handed_over_in_order_once_it_has_started(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent = await wires.agent()
        booting = await wires.app(1, live=False)
        assert booting.worker is not None
        receivers: list[int | str] = ["app#1", "app", "all", booting.worker.worker_id or 0]
        for number, receiver in enumerate(receivers):
            agent.messenger.send_to(receiver, "note", number)
        await settle(agent)
        assert booting.got == []
        wires.go_live(booting)
        agent.messenger.send_to_app("note", 4)
        await until(lambda: booting.got == [0, 1, 2, 3, 4])

    run(work())


def test_what_is_sent_to_an_empty_slot_is_kept_for_the_next_worker(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        one = await wires.app(1)
        one.messenger.send_to_agent("note", "while the slot is empty")
        await settle(one)
        agent = await wires.agent(live=False)
        one.messenger.send_to_agent("note", "while it boots")
        await settle(one)
        wires.go_live(agent)
        await until(lambda: agent.got == ["while the slot is empty", "while it boots"])

    run(work())


def test_what_was_kept_for_a_worker_that_died_booting_is_kept_for_the_next(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        one = await wires.app(1)
        first = await wires.agent(live=False)
        one.messenger.send_to_agent("note", 1)
        await settle(one)
        wires.dies(first)
        one.messenger.send_to_agent("note", 2)
        await settle(one)
        second = await wires.agent(live=False)
        one.messenger.send_to_agent("note", 3)
        await settle(one)
        wires.go_live(second)
        await until(lambda: second.got == [1, 2, 3])
        assert first.got == []

    run(work())


def test_a_successor_that_boots_beside_the_old_one_misses_no_broadcast(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent = await wires.agent()
        old = await wires.app(1)
        new = await wires.app(1, live=False)
        agent.messenger.send_to_app("note", "all")
        agent.messenger.send_to("app#1", "note", "the one in the slot")
        await until(lambda: old.got == ["all", "the one in the slot"])
        wires.go_live(new)
        agent.messenger.send_to("app#1", "note", "the new one")
        await until(lambda: new.got == ["all", "the new one"])
        assert len(old.got) == 2

    run(work())


def test_a_retired_worker_can_still_ask_and_answer(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, old = await wires.agent(), await wires.app(1)
        old.messenger.on("slow", lambda data: asyncio.sleep(0.02, "from the old one"))
        agent.messenger.on("who", lambda data: "the agent")
        asking = asyncio.ensure_future(agent.messenger.request("slow", to="app#1"))
        await until(lambda: wires.switchboard._requests)
        await wires.app(1)
        assert await old.messenger.request("who") == "the agent"
        assert await asking == "from the old one"

    run(work())


def test_a_successor_that_dies_leaves_the_seat_to_the_old_one(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, old = await wires.agent(), await wires.app(1)
        wires.dies(await wires.app(1, live=False))
        agent.messenger.send_to("app#1", "note", 1)
        await until(lambda: old.got == [1])
        assert not wires.switchboard._router.kept

    run(work())


def test_a_worker_that_reports_itself_started_twice_harms_no_other(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        successor = await wires.app(1, live=False)
        wires.go_live(one)
        agent.messenger.send_to("app#1", "note", 1)
        await until(lambda: one.got == [1])
        wires.go_live(successor)
        wires.dies(one)
        wires.go_live(one)
        agent.messenger.send_to("app#1", "note", 2)
        await until(lambda: successor.got == [2])

    run(work())


def test_a_mailbox_keeps_the_order_and_is_bounded_in_bytes() -> None:
    (frame,) = FrameReader().feed(encode_frame(FrameKind.MESSAGE, Target.AGENT, b"x" * 100))
    mailbox = Mailbox(max_bytes=3 * (len(frame.raw) + FRAME_OVERHEAD))
    assert [mailbox.put(frame, None) for _ in range(5)] == [True, True, True, False, False]
    assert mailbox.take() == [(frame, None)] * 3
    assert len(mailbox) == 0
    assert mailbox.put(frame, None)


def test_a_message_to_a_full_mailbox_has_no_receiver_and_a_request_fails_at_once(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        one = await wires.app(1)
        wires.switchboard._router.kept[AGENT] = Mailbox(max_bytes=10)
        one.messenger.send_to_agent("note", 1)
        await settle(one)
        assert wires.switchboard.lost.total == 1

    run(work())


# -- workers that read or do not -------------------------------------------------------------------------------


async def deaf_worker(wires: Wires, slot: int) -> tuple[AppWorker, socket.socket]:
    """A live worker that never reads."""
    ours, theirs = socket.socketpair()
    worker = AppWorker(slot, 1, 0, 60, worker_id=900 + slot)
    await wires.switchboard.connect(ours, worker)
    wires.switchboard.go_live(worker)
    return worker, theirs


def test_a_receiver_that_does_not_read_costs_only_its_own_messages(run: Run) -> None:
    async def work() -> None:
        wires = Wires(max_queue_bytes=1 << 20)
        agent, one = await wires.agent(), await wires.app(1)
        deaf, sock = await deaf_worker(wires, 2)
        for number in range(200):
            agent.messenger.send_to_app("note", b"x" * (1 << 16))
            await settle(agent)
            assert len(one.got) <= number + 1
        await until(lambda: len(one.got) == 200)
        link = wires.switchboard.link_of(deaf)
        assert link is not None
        assert link.queued_bytes < 2 << 20
        assert link.dropped > 0
        sock.close()

    run(work())


# -- workers that break the rules ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (FrameKind.MESSAGE, AGENT.pack()),
        (FrameKind.MESSAGE, app(2).pack()),
        (FrameKind.MESSAGE, 0xFFFFFFFF),
        (FrameKind.REQUEST, AGENT.pack()),
        (FrameKind.EVENT, app(1).pack()),
        (FrameKind.LOST, app(1).pack()),
        (FrameKind.REPORT, AGENT.pack()),
    ],
)
def test_a_worker_that_forges_a_sender_or_speaks_as_the_master_is_cut_off_alone(
    run: Run, kind: FrameKind, source: int
) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one, two = await wires.agent(), await wires.app(1), await wires.app(2)
        one.write(kind, Target.AGENT, ["note", "forged"], source=source)
        await until(lambda: wires.broken)
        ((worker, error),) = wires.broken
        assert worker is one.worker
        assert isinstance(error, FrameError)
        await until(lambda: one.closed)
        two.messenger.send_to_agent("note", "true")
        await until(lambda: agent.got == ["true"])
        assert not wires.reports

    run(work())


@pytest.mark.parametrize("content", [None, "app-start", ["app-start"], ["app-start", 1], [1, {}]])
def test_a_report_of_another_shape_is_garbage(run: Run, content: object) -> None:
    async def work() -> None:
        wires = Wires()
        one = await wires.app(1)
        one.write(FrameKind.REPORT, Target.MASTER, content)
        await until(lambda: wires.broken)
        assert not wires.reports

    run(work())


def test_a_report_reaches_only_the_master(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        one = await wires.app(1, live=False)
        one.write(FrameKind.REPORT, Target.MASTER, ["app-start", {"address": "x"}])
        await until(lambda: wires.reports == [(one.worker, "app-start")])

    run(work())


def test_no_worker_can_answer_for_another(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one, two = await wires.agent(), await wires.app(1), await wires.app(2)
        agent.messenger.on("ask", lambda data: asyncio.sleep(0.02, "true"))
        asking = asyncio.ensure_future(one.messenger.request("ask"))
        await until(lambda: wires.switchboard._requests)
        ((source, request_id),) = wires.switchboard._requests
        two.write(FrameKind.REPLY, Target.ADDRESS, "forged", target_id=source, request_id=request_id)
        await settle(two)
        assert await asking == "true"

    run(work())


def test_no_worker_can_cancel_for_another(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one, two = await wires.agent(), await wires.app(1), await wires.app(2)
        agent.messenger.on("ask", lambda data: asyncio.sleep(0.02, "true"))
        asking = asyncio.ensure_future(one.messenger.request("ask"))
        await until(lambda: wires.switchboard._requests)
        ((_, request_id),) = wires.switchboard._requests
        two.write(FrameKind.CANCEL, Target.AGENT, None, request_id=request_id)
        assert await asking == "true"

    run(work())


def test_a_child_that_goes_is_told_to_the_master_once(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        one = await wires.app(1)
        one.channel.close()
        await until(lambda: wires.broken)
        assert wires.broken == [(one.worker, None)]
        wires.dies(one)
        await settle(await wires.agent())
        assert len(wires.broken) == 1

    run(work())


def test_a_parent_that_goes_leaves_nothing(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, parent = await wires.agent(), await wires.parent()
        agent.messenger.on("never", lambda data: asyncio.sleep(60))
        asking = asyncio.ensure_future(parent.messenger.request("never", to="agent"))
        await until(lambda: wires.switchboard._requests)
        parent.channel.close()
        await until(lambda: wires.switchboard.parent is None)
        assert not wires.switchboard._requests
        asking.cancel()

    run(work())


def test_the_master_answers_requests_that_are_made_to_it(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        one = await wires.app(1)
        assert await one.messenger.request("status", 7, to="master") == ["status", 7]

    run(work())


def test_lifecycle_messages_reach_all_that_have_started(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, booting = await wires.agent(), await wires.app(1, live=False)
        for child in (agent, booting):
            child.messenger.on("egg-ready", child.got.append)
        wires.switchboard.tell([AGENT, app(1), app(2)], "egg-ready", {"port": 1})
        await until(lambda: agent.got == [{"port": 1}])
        assert booting.got == []
        assert wires.switchboard.live_addresses() == [AGENT]

    run(work())


def test_an_event_for_the_app_workers_reaches_those_that_boot_too(run: Run) -> None:
    """One that boots may have connected to an agent that has died since."""

    async def work() -> None:
        wires = Wires()
        agent, listening, booting = await wires.agent(), await wires.app(1), await wires.app(2, live=False)
        wires.switchboard.tell_apps("egg-agent-gone", 1)
        await until(lambda: [len(each.frames) for each in (listening, booting)] == [1, 1])
        wires.switchboard.tell([AGENT], "egg-ready", {"port": 1})
        await until(lambda: [frame.kind for frame in agent.frames] == [FrameKind.EVENT])

    run(work())


def test_a_flood_slows_its_sender_down_and_loses_nothing_while_the_receiver_reads(run: Run) -> None:
    async def work() -> None:
        wires = Wires(max_queue_bytes=1 << 20)
        agent = await wires.agent()
        worker, sock = await deaf_worker(wires, 1)
        link = wires.switchboard.link_of(worker)
        assert link is not None
        total = 100 * len(encode_frame(FrameKind.MESSAGE, Target.SLOT, ["note", b"x" * (1 << 16)]))
        read = 0

        async def read_slowly() -> None:
            nonlocal read
            while read < total and not link.dropped:
                with contextlib.suppress(BlockingIOError):
                    read += len(sock.recv(1 << 16, socket.MSG_DONTWAIT))
                await asyncio.sleep(0.001)

        reading = asyncio.ensure_future(read_slowly())
        for _ in range(100):
            agent.messenger.send_to("app#1", "note", b"x" * (1 << 16))
            await agent.messenger.drain()
        await reading
        sock.close()
        assert read == total

    run(work())


def test_the_table_of_requests_is_bounded_also_without_answers_and_cancellations() -> None:
    async def work() -> None:
        wires = Wires()
        one = await wires.app(1)
        _, sock = await deaf_worker(wires, 2)
        for number in range(100_000):
            one.write(FrameKind.REQUEST, Target.SLOT, ["never", None], target_id=2, request_id=number)
        await settle(one)
        sock.close()
        assert len(wires.switchboard._requests) < 100_000

    asyncio.run(work())
