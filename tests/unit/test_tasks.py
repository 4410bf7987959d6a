"""Tasks that run beside their starter, and complaints that are throttled."""

import asyncio
import gc

import pytest

from eggcluster.kernel.tasks import TaskSet, is_cancellation
from eggcluster.kernel.throttle import Throttle
from tests.waiting import DEADLINE


def test_a_task_is_kept_until_it_ends() -> None:
    async def main() -> None:
        tasks, go, done = TaskSet(), asyncio.Event(), asyncio.Event()

        async def work() -> None:
            await go.wait()
            done.set()

        tasks.start(work())
        await asyncio.sleep(0)
        gc.collect()
        assert len(tasks) == 1
        go.set()
        await asyncio.wait_for(done.wait(), DEADLINE)
        await tasks.wait(DEADLINE)
        assert len(tasks) == 0

    asyncio.run(main())


def test_all_tasks_are_cancelled_at_once() -> None:
    async def main() -> None:
        tasks = TaskSet()
        seen: list[bool] = []

        async def work() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError as error:
                seen.append(is_cancellation(error))
                raise

        for _ in range(3):
            tasks.start(work())
        await asyncio.sleep(0)
        tasks.cancel()
        await tasks.wait(DEADLINE)
        assert seen == [True] * 3
        assert not list(tasks)

    asyncio.run(main())


def test_a_foreign_cancelled_error_is_no_cancellation() -> None:
    async def main() -> None:
        foreign = asyncio.get_running_loop().create_future()
        foreign.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await foreign
        assert not is_cancellation(caught.value)

    asyncio.run(main())


def test_one_complaint_passes_in_each_interval_and_for_each_key() -> None:
    throttle = Throttle(3600.0)
    assert [throttle.allows() for _ in range(3)] == [True, False, False]
    assert throttle.allows("another")
    throttle.reset()
    assert throttle.allows()
    assert not throttle.allows("another")
    assert all(Throttle(0.0).allows() for _ in range(3))
