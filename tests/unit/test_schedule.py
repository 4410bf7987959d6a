"""Scheduled functions: on a grid, never two at once, and no exception ends them."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from eggcluster import Agent
from eggcluster.worker.schedule import run_every
from tests.unit.clock import in_no_time, now

LOGGER = logging.getLogger("test")


async def scheduled(function: Callable[[], Any], *, for_seconds: float, immediate: bool = False) -> None:
    """Run it every 10 s for a while."""
    task = asyncio.ensure_future(run_every(10, function, LOGGER, immediate=immediate))
    await asyncio.sleep(for_seconds)
    assert not task.done()
    task.cancel()


@pytest.mark.parametrize(("immediate", "expected"), [(False, [10, 20, 30]), (True, [0, 10, 20, 30])])
def test_it_runs_every_interval_the_first_time_after_one_or_at_once(immediate: bool, expected: list[float]) -> None:
    runs: list[float] = []
    in_no_time(scheduled(lambda: runs.append(now()), for_seconds=35, immediate=immediate))
    assert runs == expected


def test_a_run_that_takes_longer_than_the_interval_makes_the_next_ones_fall_out() -> None:
    runs: list[float] = []
    running = 0

    async def slow() -> None:
        nonlocal running
        running += 1
        assert running == 1, "it overlaps itself"
        runs.append(now())
        await asyncio.sleep(25)
        running -= 1

    in_no_time(scheduled(slow, for_seconds=100))
    assert runs == [10, 40, 70, 100][: len(runs)]
    assert len(runs) >= 3


def test_what_it_raises_is_logged_and_the_next_run_comes(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[float] = []

    def fail() -> None:
        runs.append(now())
        raise RuntimeError("oh")

    async def fail_later() -> None:
        fail()

    in_no_time(scheduled(fail, for_seconds=35))
    in_no_time(scheduled(fail_later, for_seconds=35))
    assert runs == [10, 20, 30] * 2
    assert caplog.text.count("RuntimeError: oh") == 6
    assert "fail_later raised" in caplog.text


def test_an_agents_schedules_start_with_it_and_end_with_its_close() -> None:
    runs: list[float] = []
    agent = Agent()
    agent.schedule("10s", immediate=True)(lambda: runs.append(now()))

    async def work() -> None:
        await agent.run_start()
        await asyncio.sleep(15)
        await agent.run_close()
        await asyncio.sleep(100)

    in_no_time(work())
    assert runs == [0, 10]


def test_what_is_no_interval_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="is no interval"):
        Agent().schedule("often")


def test_a_run_whose_cleanup_raises_is_the_last_one_when_the_agent_closes() -> None:
    agent = Agent()
    runs = []

    @agent.schedule("10s", immediate=True)
    async def report() -> None:
        runs.append(now())
        try:
            await asyncio.sleep(1000)
        finally:
            raise RuntimeError("while disconnecting")

    async def work() -> None:
        await agent.run_start()
        await asyncio.sleep(1)
        async with asyncio.timeout(300):
            await agent.run_close()

    in_no_time(work())
    assert runs == [0]
