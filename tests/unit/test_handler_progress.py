"""What a worker writes of its messages: begun at the first line of the handler, in order, at most 1,000 unfinished."""

import asyncio
import logging
from functools import partial, wraps
from typing import Any

import pytest

from eggcluster.errors import FrameError, ReceiverDied
from eggcluster.ipc.handler_progress import BEGUN, FENCED, MAX_UNFINISHED, HandlerProgress
from eggcluster.ipc.handlers import Handler, begins_in_task
from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.model.messages.begun import Begun
from tests.unit.conftest import Run
from tests.unit.wires import Child, Wires, until


def begun(child: Child) -> Begun:
    assert child.page is not None
    return child.page.begun()


def test_a_message_has_begun_at_the_first_line_of_its_handler_and_they_begin_in_order(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        agent.channel.reader.runs = True  # as in a worker
        seen: list[tuple[Any, int]] = []

        def plain(data: Any) -> None:
            seen.append((data, begun(agent).count))

        async def in_task(data: Any) -> None:
            plain(data)
            await asyncio.sleep(0)

        agent.messenger.on("plain", plain)
        agent.messenger.on("task", in_task)
        agent.messenger.on("both", in_task)
        agent.messenger.on("both", lambda data: None)
        agent.messenger.on("ask", in_task)
        order = ["plain", "task", "task", "plain", "none", "both", "task", "plain", "plain"] * 20
        for number, action in enumerate(order, 1):
            one.messenger.send_to_agent(action, number)
        await one.messenger.request("ask", len(order) + 1)
        wanted = [number for number, action in enumerate(order, 1) if action not in ("none", "both")]
        assert [data for data, _ in seen if data in wanted] == wanted
        assert [count for data, count in seen if data in wanted] == wanted
        assert begun(agent) == Begun(len(order) + 1, frozenset())

    run(work())


def test_the_unfinished_are_exactly_those_whose_handlers_run(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        gates = {number: asyncio.Event() for number in range(1, 8)}
        agent.messenger.on("wait", lambda data: gates[data].wait())  # a plain function that returns a coroutine
        for number in gates:
            one.messenger.send_to_agent("wait", number)
        await until(lambda: begun(agent) == Begun(7, frozenset(range(1, 8))))
        for number in (4, 1, 7):
            gates[number].set()
        await until(lambda: begun(agent) == Begun(7, frozenset({2, 3, 5, 6})))

    run(work())


def test_a_handler_that_raises_has_finished(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)

        async def fail(data: Any) -> None:
            raise SystemExit(data)

        agent.messenger.on("fail", fail)
        agent.messenger.on("fail", lambda data: 1 / 0)
        for number in range(3):
            one.messenger.send_to_agent("fail", number)
        await until(lambda: begun(agent) == Begun(3))

    run(work())


def test_a_handler_that_is_cancelled_before_its_first_line_holds_none_up(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)

        async def never(data: Any) -> None:
            agent.got.append("never")

        def cancel_all(data: Any) -> None:
            for task in asyncio.all_tasks():
                if "_logged" in repr(task):
                    task.cancel()

        agent.messenger.on("never", never)
        one.messenger.send_to_agent("never", 1)
        one.messenger.send_to_agent("note", 2)
        await until(lambda: agent.frames)
        cancel_all(None)
        await until(lambda: begun(agent) == Begun(2))
        assert agent.got in ([2], ["never", 2])

    run(work())


def test_a_thousand_handlers_run_and_the_rest_waits_unread(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        open_gate, order = asyncio.Event(), []

        async def wait(data: Any) -> None:
            order.append(data)
            await open_gate.wait()

        agent.messenger.on("wait", wait)
        total = 30_000
        for number in range(total):
            one.messenger.send_to_agent("wait", number)
            if number % 500 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(order) == MAX_UNFINISHED)
        await until(lambda: agent.channel._transport is not None and not agent.channel._transport.is_reading())
        assert begun(agent) == Begun(MAX_UNFINISHED, frozenset(range(1, MAX_UNFINISHED + 1)))
        open_gate.set()
        await until(lambda: len(order) == total)
        assert order == [*range(total)]
        await until(lambda: begun(agent) == Begun(total))

    asyncio.run(work())


def test_handlers_that_wait_for_answers_get_them_from_behind_the_messages(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        done: list[Any] = []

        async def ask_back(data: Any) -> None:
            done.append(await agent.messenger.request("echo", data, to="app#1", timeout=15))

        agent.messenger.on("work", ask_back)
        one.messenger.on("echo", lambda data: data)
        for number in range(5 * MAX_UNFINISHED):
            one.messenger.send_to_agent("work", [number, "x" * 300])
        await until(lambda: len(done) == 5 * MAX_UNFINISHED)

    run(work())


def test_a_request_that_is_cancelled_while_it_waits_never_begins(run: Run) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        open_gate = asyncio.Event()
        asked: list[Any] = []

        async def wait(data: Any) -> None:
            await open_gate.wait()

        agent.messenger.on("wait", wait)
        agent.messenger.on("ask", asked.append)
        agent.messenger.on("own", lambda data: data)
        keeps_reading = asyncio.ensure_future(agent.messenger.request("never", to="app#1", timeout=15))
        one.messenger.on("never", lambda data: asyncio.sleep(60))
        for _ in range(MAX_UNFINISHED):
            one.messenger.send_to_agent("wait")
        asking = asyncio.ensure_future(one.messenger.request("ask", 1, timeout=15))
        await until(lambda: agent.messenger._dispatcher is not None and agent.messenger._dispatcher._progress.waits)
        asking.cancel()
        await until(lambda: any(frame.kind.name == "CANCEL" for frame in agent.frames))
        open_gate.set()
        assert await one.messenger.request("own", 5) == 5
        assert asked == []
        assert begun(agent) == Begun(MAX_UNFINISHED + 2)
        keeps_reading.cancel()

    run(work())


def test_a_request_that_had_not_begun_is_answered_by_the_successor_and_one_that_had_fails_at_once(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        wires = Wires()
        agent, one = await wires.agent(), await wires.app(1)
        agent.messenger.on("slow", lambda data: asyncio.sleep(60))
        begun_one = asyncio.ensure_future(one.messenger.request("slow", timeout=15))
        await until(lambda: begun(agent).count == 1)
        agent.channel.pause_reading()  # it hangs
        waiting = asyncio.ensure_future(one.messenger.request("who", timeout=15))
        one.messenger.send_to_agent("note", 1)
        await until(lambda: wires.link(agent).relayed == 3)
        agent.channel.fail(FrameError("killed"))
        wires.dies(agent)
        with pytest.raises(ReceiverDied, match="died before it answered"):
            await begun_one
        one.messenger.send_to_agent("note", 2)
        successor = await wires.agent(live=False)
        successor.messenger.on("who", lambda data: "the successor")
        wires.go_live(successor)
        assert await waiting == "the successor"
        await until(lambda: successor.got == [1, 2])
        assert 'died while it handled "slow" from app#1: not repeated' in caplog.text

    caplog.set_level(logging.WARNING, "eggcluster")
    run(work())


def test_a_fenced_worker_begins_nothing_that_it_had_not_read() -> None:
    page = HeartbeatPage.create("test")
    progress = HandlerProgress(page.messages, may_be_fenced=True)
    assert progress.admits(5)
    page.messages[BEGUN] = 2
    page.write_fence()
    assert not progress.admits(1)
    assert page.messages[FENCED]
    assert page.begun() == Begun(5, frozenset({2, 3, 4, 5}))
    page.close()


class Receiver:
    async def __call__(self, data: Any) -> None: ...
    async def method(self, data: Any) -> None: ...
    def plain(self, data: Any) -> None: ...


async def an_async(data: Any) -> None: ...


def test_what_begins_in_a_task() -> None:
    @wraps(an_async)
    def wrapped(data: Any) -> Any:
        return an_async(data)

    in_task: list[Handler] = [an_async, Receiver(), Receiver().method, partial(an_async)]
    at_once: list[Handler] = [wrapped, Receiver().plain, print, len, lambda data: an_async(data)]
    assert [begins_in_task(each) for each in in_task + at_once] == [True] * 4 + [False] * 5
