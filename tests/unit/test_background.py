"""Background tasks, and the other hooks on a worker's life."""

import asyncio
import itertools
import logging

import pytest

from eggcluster import Agent, Application
from eggcluster.worker.background import keep_running
from tests.unit.clock import in_no_time, now

LOGGER = logging.getLogger("test")


def test_a_task_that_raises_is_started_again_with_growing_delays() -> None:
    starts: list[float] = []

    async def task() -> None:
        starts.append(now())
        if len(starts) < 9:
            raise ConnectionError

    in_no_time(keep_running(task, LOGGER))
    delays = [after - before for before, after in itertools.pairwise(starts)]
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_after_a_minute_of_running_the_delays_start_anew() -> None:
    starts: list[float] = []

    async def task() -> None:
        starts.append(now())
        if len(starts) == 5:
            await asyncio.sleep(61)
        if len(starts) < 7:
            raise ConnectionError

    in_no_time(keep_running(task, LOGGER))
    assert starts[5] - starts[4] == 61.5
    assert starts[6] - starts[5] == 1


def test_a_task_that_returns_is_done() -> None:
    starts = []

    async def task() -> None:
        starts.append(now())

    in_no_time(keep_running(task, LOGGER))
    assert starts == [0]


def test_each_exception_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    async def consume() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("broken pipe")

    in_no_time(keep_running(consume, LOGGER))
    assert "consume raised, next try in 0.5s" in caplog.text
    assert "ConnectionError: broken pipe" in caplog.text


def test_the_hooks_of_a_life_run_in_their_order_and_the_background_is_cancelled_first() -> None:
    seen: list[str] = []
    agent = Agent()

    @agent.on_start
    async def first() -> None:
        seen.append("start 1")

    @agent.on_start
    def second() -> None:
        seen.append("start 2")

    @agent.background
    async def listen() -> None:
        seen.append("background")
        try:
            await asyncio.sleep(1e6)
        finally:
            seen.append("cancelled")

    @agent.on_close
    async def opened_first() -> None:
        seen.append("close 1")

    @agent.on_close
    def opened_last() -> None:
        seen.append("close 2")

    async def work() -> None:
        await agent.run_start()
        await asyncio.sleep(1)
        await agent.run_close()

    in_no_time(work())
    assert seen == ["start 1", "start 2", "background", "cancelled", "close 2", "close 1"]


def test_a_start_hook_that_raises_fails_the_start_and_starts_no_background() -> None:
    agent = Agent()
    seen = []

    @agent.on_start
    def fail() -> None:
        raise RuntimeError("no database")

    @agent.background
    async def listen() -> None:
        seen.append(1)

    async def work() -> None:
        with pytest.raises(RuntimeError, match="no database"):
            await agent.run_start()
        await asyncio.sleep(1)

    in_no_time(work())
    assert not seen


@pytest.mark.parametrize("kind", ["on_ready", "on_close"])
def test_a_ready_or_close_hook_that_raises_is_logged_and_stops_no_other(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Application(print)
    seen = []

    async def fail() -> None:
        raise RuntimeError("oh")

    for hook in (lambda: seen.append(1), fail, lambda: seen.append(2)):
        getattr(app, kind)(hook)

    in_no_time(app.run_ready() if kind == "on_ready" else app.run_close())
    assert sorted(seen) == [1, 2]
    assert f"{kind}: " in caplog.text
    assert "RuntimeError: oh" in caplog.text


def test_a_task_whose_cleanup_raises_is_not_started_again_while_closing() -> None:
    agent = Agent()
    seen = []

    @agent.background
    async def stubborn() -> None:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            raise RuntimeError("while disconnecting") from None

    agent.on_close(lambda: seen.append("closed"))

    async def work() -> None:
        await agent.run_start()
        await asyncio.sleep(1)
        async with asyncio.timeout(300):
            await agent.run_close()

    in_no_time(work())
    assert seen == ["closed"]


def test_a_cancellation_that_comes_from_within_is_an_exception_as_any_other() -> None:
    starts = []

    async def task() -> None:
        starts.append(now())
        if len(starts) == 1:
            lost = asyncio.get_running_loop().create_future()
            lost.cancel()
            await lost

    in_no_time(keep_running(task, LOGGER))
    assert starts == [0, 0.5]
