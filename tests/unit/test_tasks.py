"""Tasks that run beside their starter, and complaints that are throttled."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from eggcluster.kernel.tasks import TaskSet, is_cancellation, take_turns, turn_time
from eggcluster.kernel.throttle import Throttle
from tests.unit.clock import in_no_time, now
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


# -- turns -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "following", "patient"),
    [(5.0, 1, 4.75), (5.0, 4, 4.0), (0.4, 1, 0.2), (0.4, 9, 0.2), (0.0, 1, 0.0), (-1.0, 1, 0.0), (2.0, 0, 2.0)],
)
def test_a_part_of_the_time_is_kept_for_those_that_follow(left: float, following: int, patient: float) -> None:
    assert turn_time(left, following) == patient


def played(seconds: list[float], limit: float) -> tuple[list[int], list[tuple[int, float]], list[tuple[int, float]]]:
    """Run turns that take so long; return what they returned, when each began, and which were slow."""
    began: list[tuple[int, float]] = []
    slow: list[tuple[int, float]] = []
    results: list[int] = []

    def turn(index: int) -> Callable[[], Coroutine[Any, Any, int]]:
        async def work() -> int:
            began.append((index, now()))
            await asyncio.sleep(seconds[index])
            return index

        return work

    async def main() -> None:
        turns = [turn(index) for index in range(len(seconds))]
        results.extend(await take_turns(turns, limit, lambda index, taken: slow.append((index, taken))))

    in_no_time(main())
    return results, began, slow


def test_turns_follow_one_another_and_return_what_they_return_in_order() -> None:
    assert played([1, 2, 1], 10) == ([0, 1, 2], [(0, 0), (1, 1), (2, 3)], [])


def test_a_slow_turn_ends_no_other_one_and_is_waited_for() -> None:
    results, began, slow = played([100, 1, 1], 5)
    assert results == [0, 1, 2]
    assert began == [(0, 0), (1, 4.5), (2, 4.75)]
    assert slow == [(0, 4.5), (1, 0.25)]


def test_no_turns_take_no_time() -> None:
    assert played([], 5) == ([], [], [])


def test_cancelling_cancels_the_turns_that_run() -> None:
    async def main() -> None:
        cancelled = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                cancelled.set()

        turns = asyncio.ensure_future(take_turns([work], 1, lambda index, taken: None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        turns.cancel()
        await asyncio.wait({turns})
        await asyncio.wait_for(cancelled.wait(), DEADLINE)

    asyncio.run(main())
