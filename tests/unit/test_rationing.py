"""A child's requests and reports to the master itself are rationed: no flood holds the master up or fills the log."""

import asyncio
from typing import Any

import pytest

from eggcluster.errors import FrameError
from eggcluster.master.control.requests import MasterRequests
from eggcluster.master.events import BootFailed, Inbox, Started
from eggcluster.master.relay import ration
from eggcluster.master.relay.ration import MAX_OWN_BYTES, MOST_UNITS, REQUEST_UNITS, UNITS_PER_SECOND, Ration, price
from eggcluster.model.lives.worker import AppWorker
from eggcluster.model.messages.message import FrameKind, Target
from tests.unit.conftest import Run
from tests.unit.wires import Child, Wires, until

FLOOD = 100_000
SLOTS = 2
STATUS = 1 + REQUEST_UNITS + SLOTS  # units


def flood(child: Child, kind: FrameKind, content: Any, count: int = FLOOD) -> None:
    target = Target.MASTER if kind is FrameKind.REQUEST else Target.ADDRESS
    for number in range(count):
        child.write(kind, target, content, request_id=number)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "too many requests" in record.getMessage()]


def test_a_ration_is_spent_at_once_and_comes_back_with_time() -> None:
    own = Ration()
    assert own.spend(MOST_UNITS, 100.0) == 0
    assert own.spend(UNITS_PER_SECOND, 100.0) == 1.0
    assert own.spend(0, 100.75) == 0.25
    assert own.spend(1, 101.5) == 0
    assert own.spend(MOST_UNITS, 1000.0) == 0
    assert own.spend(UNITS_PER_SECOND, 1000.0) == 1.0, "time alone gives no more than the most"


@pytest.mark.parametrize(
    ("kind", "content"), [(FrameKind.REQUEST, ["status", None]), (FrameKind.REPORT, ["app-start", {}])]
)
def test_a_flood_is_slowed_down_and_others_are_served_meanwhile(
    run: Run, caplog: pytest.LogCaptureFixture, kind: FrameKind, content: Any
) -> None:
    async def work() -> None:
        wires = Wires(slots=SLOTS)
        agent, one, two = await wires.agent(), await wires.app(1), await wires.app(2)
        began = asyncio.get_running_loop().time()
        flood(one, kind, content)
        await until(lambda: wires.link(one).was_rationed)
        two.messenger.send_to_agent("note", "from another")
        await until(lambda: agent.got == ["from another"])
        took = asyncio.get_running_loop().time() - began
        served = wires.link(one).sent
        units = STATUS if kind is FrameKind.REQUEST else 1
        assert served * units <= MOST_UNITS + took * UNITS_PER_SECOND + units
        assert len(warnings(caplog)) == 1

    run(work())


def test_all_is_answered_in_the_end_and_nothing_overtakes(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ration, "MOST_UNITS", 100)

    async def work() -> None:
        wires = Wires(slots=SLOTS)
        asked: list[int] = []
        wires.switchboard._on_request = lambda link, request_id, action, data: asked.append(request_id)
        agent, one = await wires.agent(), await wires.app(1)
        for number in range(3):
            flood(one, FrameKind.REQUEST, ["status", None], count=200)
            one.messenger.send_to_agent("note", number)
        await until(lambda: agent.got == [0, 1, 2])
        assert asked == 3 * list(range(200))
        await until(lambda: not wires.link(one).rests)
        assert not wires.link(one).slowed_by
        assert len(warnings(caplog)) == 1
        one.messenger.send_to_agent("note", 3)
        await until(lambda: agent.got == [0, 1, 2, 3])

    run(work())


def test_what_a_child_sent_to_others_before_it_died_arrives(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ration, "UNITS_PER_SECOND", 0.1)  # it would have to wait for hours

    async def work() -> None:
        wires = Wires(slots=SLOTS)
        agent, one = await wires.agent(), await wires.app(1)
        flood(one, FrameKind.REPORT, ["background", {}], count=MOST_UNITS + 1)
        one.messenger.send_to_agent("note", "the last")
        await until(lambda: bool(wires.link(one).held))
        await until(lambda: wires.link(one).held[-1].kind is FrameKind.MESSAGE)
        reports = len(wires.reports)
        wires.dies(one)
        await until(lambda: agent.got == ["the last"])
        assert len(wires.reports) == reports

    run(work())


def test_a_requester_that_does_not_read_gets_no_more_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eggcluster.master.relay.rationing.UNREAD_REST", 0.01)

    async def work() -> None:
        wires = Wires(slots=SLOTS)
        wires.switchboard._on_request = lambda link, request_id, action, data: wires.switchboard.answer(
            link, request_id, FrameKind.REPLY, bytes(1_000_000)
        )
        one = await wires.app(1)
        one.channel.pause_reading()
        flood(one, FrameKind.REQUEST, ["status", None], count=200)
        await until(lambda: wires.link(one).was_rationed)
        assert wires.link(one).queued_bytes < 16_000_000
        one.channel.resume_reading()
        await until(lambda: len(one.frames) > 20)
        wires.dies(one)

    run(work())


def test_a_large_report_costs_more_and_one_that_is_too_large_ends_its_sender(run: Run) -> None:
    async def work() -> None:
        wires = Wires(slots=SLOTS)
        one, two = await wires.app(1), await wires.app(2)
        one.write(FrameKind.REPORT, Target.ADDRESS, ["background", {"tasks": bytes(MAX_OWN_BYTES // 2)}])
        one.write(FrameKind.REPORT, Target.ADDRESS, ["background", {"tasks": bytes(MAX_OWN_BYTES)}])
        two.write(FrameKind.REQUEST, Target.MASTER, ["status", bytes(MAX_OWN_BYTES)])
        await until(lambda: len(wires.broken) == 2)
        assert [report for _, report in wires.reports] == ["background"]
        assert all(isinstance(error, FrameError) and str(MAX_OWN_BYTES) in str(error) for _, error in wires.broken)

    run(work())


def test_the_price_counts_bytes_and_slots() -> None:
    from tests.unit.test_watchers import message

    _, small = message(None)
    _, large = message(bytes(1024 * 1024))
    assert price(small, 64) == 1
    assert 1024 <= price(large, 64) <= 1026


def test_a_start_and_a_failed_boot_are_reported_once() -> None:
    async def work() -> None:
        inbox = Inbox()
        requests = MasterRequests(inbox, dict, list)
        one, two = AppWorker(1, 1, 0, 60), AppWorker(2, 1, 0, 60)
        for worker in (one, two, one, two, one):
            requests.report(worker, "app-start", {})
            requests.report(worker, "boot-failed", {"report": "x" * 1_000_000})
        events = []
        while (event := await inbox.next(0)) is not None:
            events.append(event)
        assert [(type(e), e.worker) for e in events] == [  # type: ignore[union-attr]
            (Started, one),
            (BootFailed, one),
            (Started, two),
            (BootFailed, two),
        ]
        assert all(len(event.report) < 100_000 for event in events if isinstance(event, BootFailed))

    asyncio.run(work())


def test_foreign_text_in_an_error_is_cut() -> None:
    async def work() -> None:
        with pytest.raises(FrameError) as raised:
            MasterRequests(Inbox(), dict, list).report(AppWorker(1, 1, 0, 60), "x" * 1_000_000, {})
        assert len(str(raised.value)) < 500

    asyncio.run(work())
