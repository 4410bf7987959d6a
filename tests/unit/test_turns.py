"""Loops over members: what one of them raises is logged, and ends no other's turn."""

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from eggcluster.kernel.exit_flag import exit_flag
from eggcluster.master import signals
from eggcluster.master.listening.binding import detect_ports
from eggcluster.master.listening.listener_guard import ListenerGuard
from eggcluster.master.listening.listeners import Listeners
from eggcluster.master.master import Master
from eggcluster.master.signals import MasterSignals, ThreadExitFlag
from eggcluster.model.lives.commands import Log, PublishPids
from eggcluster.model.lives.health import BEAT_INTERVAL
from eggcluster.model.lives.worker import Heartbeat
from eggcluster.options import ResolvedOptions
from eggcluster.worker.engines.engine import Load
from eggcluster.worker.lifecycle.close_request import CloseRequest, CloseSignals
from eggcluster.worker.lifecycle.heartbeats import HeartbeatWriter
from eggcluster.worker.sharing.shared_writer import SharedWriter
from tests.unit.clock import in_no_time
from tests.unit.conftest import Run
from tests.unit.test_schedule import Watched
from tests.unit.wires import Wires, until


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[Listeners]:
    made = detect_ports(ResolvedOptions(workers=2, ports=(), port=0), str(tmp_path / "agent.sock"))
    yield made
    made.close()


# -- in the master ---------------------------------------------------------------------------------------------


def test_a_command_that_fails_does_not_keep_back_those_after_it(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        master = Master(ResolvedOptions(workers=1))
        master._carry_out([PublishPids(), Log(logging.WARNING, "the next one")])  # nothing is bound that could steer

    asyncio.run(main())
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["BUG: PublishPids could not be carried out", "the next one"]


def test_a_watcher_that_raises_holds_no_message_up(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*given: object) -> None:
        raise RecursionError

    async def work() -> None:
        wires, seen = Wires(), []
        agent, one = await wires.agent(), await wires.app(1)
        wires.switchboard.observers.add(fail)
        wires.switchboard.observers.add(lambda sender, frame: seen.append(frame))
        one.messenger.send_to_agent("note", 1)
        await until(lambda: agent.got == [1])
        assert seen

    run(work())
    assert "BUG: a message could not be shown" in caplog.text


class Refusing:
    """An endpoint whose listeners the kernel does not steer."""

    def __init__(self) -> None:
        self.asked = 0
        self.sockets: list[Any] = []

    def steer(self, plan: object) -> None:
        self.asked += 1
        raise OSError("no memory")

    def url(self, slot: int) -> str:
        return "http://127.0.0.1:1"


def test_an_endpoint_that_cannot_be_steered_does_not_keep_the_others_from_it(listeners: Listeners) -> None:
    endpoints, listeners.endpoints = listeners.endpoints, cast(Any, [Refusing(), Refusing()])
    refusing = cast(list[Refusing], listeners.endpoints)
    listeners.attach()
    listeners.endpoints = endpoints
    assert [each.asked for each in refusing] == [1, 1]


def test_an_endpoint_that_cannot_be_repaired_does_not_keep_the_others_from_it(
    listeners: Listeners, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    guard, mended = ListenerGuard(listeners, 16, lambda since: True), []
    endpoints, listeners.endpoints = listeners.endpoints, cast(Any, [Refusing(), Refusing()])

    def fail(endpoint: object, shut: object) -> None:
        mended.append(endpoint)
        raise RuntimeError("no repair")

    monkeypatch.setattr(guard, "_mend", fail)
    guard._look_again()
    listeners.endpoints = endpoints
    assert len(mended) == 2
    assert "could not be repaired" in caplog.text


def test_a_signal_reaches_the_other_masters_where_the_loop_of_one_is_closed() -> None:
    taken: list[int] = []

    async def begin() -> MasterSignals:
        return MasterSignals(taken.append, print)

    async def main() -> None:
        signals._active[:] = [closed, await begin()]
        signals._dispatch(signal.SIGTERM, None)
        await asyncio.sleep(0)

    closed = asyncio.run(begin())
    try:
        asyncio.run(main())
    finally:
        signals._active.clear()
    assert taken == [signal.SIGTERM]


# -- in a worker -----------------------------------------------------------------------------------------------


class Page:
    """A heartbeat page that keeps what is written."""

    def __init__(self) -> None:
        self.beats: list[Heartbeat] = []

    def write(self, beat: Heartbeat) -> None:
        self.beats.append(beat)


def test_a_load_that_cannot_be_told_ends_no_heartbeat(caplog: pytest.LogCaptureFixture) -> None:
    page = Page()

    def fail() -> Load:
        raise RuntimeError("no load")

    async def main() -> None:
        HeartbeatWriter(cast(Any, page), fail).start()
        await asyncio.sleep(BEAT_INTERVAL * 3.5)

    in_no_time(main())
    assert len(page.beats) == 4
    assert len(caplog.records) == 1, "it is not said five times a second"


def test_a_write_that_cannot_be_acknowledged_does_not_keep_the_others_from_it() -> None:
    seen: list[str] = []

    def fail() -> None:
        raise RuntimeError("no answer")

    async def main() -> None:
        writer = SharedWriter(0, lambda change: None, sweeps=False)
        writer._waiting = [fail, lambda: seen.append("acknowledged")]
        writer._end_turn()

    asyncio.run(main())
    assert seen == ["acknowledged"]


def test_a_schedule_that_cannot_be_ended_does_not_keep_the_others_from_it(caplog: pytest.LogCaptureFixture) -> None:
    watched, ended = Watched(), []
    watched.schedule("10s")

    class Sticking:
        async def disarm(self) -> None:
            raise RuntimeError("it sticks")

        async def close(self) -> None:
            ended.append("closed")

    async def main() -> None:
        await watched.agent.run_start()
        scheduler = watched.agent._scheduler
        assert scheduler is not None
        scheduler._tasks = {"a": cast(Any, Sticking()), **scheduler._tasks, "b": cast(Any, Sticking())}
        assert await watched.agent.run_close()
        assert scheduler._tasks["poll"].strategy is None

    in_no_time(main())
    assert ended == ["closed", "closed"]
    assert "RuntimeError: it sticks" in caplog.text


# -- whether the worker is closing, where libraries look -------------------------------------------------------


def test_the_owner_of_a_workers_sigterm_handler_says_when_it_closes() -> None:
    close_request = CloseSignals()
    owner = close_request._on_signal.__self__  # type: ignore[attr-defined]  # what signal.getsignal gives has it
    assert owner.should_exit is False
    close_request.set()
    assert owner.should_exit is True


def test_the_owner_of_the_masters_handler_answers_for_the_thread_that_asks() -> None:
    owner = ThreadExitFlag().dispatch.__self__  # type: ignore[attr-defined]
    answers: list[bool] = []

    def worker(closes: bool) -> None:
        close_request = CloseRequest()
        exit_flag.bind(close_request)
        if closes:
            close_request.set()
        answers.append(owner.should_exit)

    for closes in (True, False):
        thread = threading.Thread(target=worker, args=(closes,))
        thread.start()
        thread.join()
    assert [*answers, owner.should_exit] == [True, False, False]
