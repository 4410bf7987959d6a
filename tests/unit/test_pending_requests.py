"""Deadlines: requests expire in time, and those that ended before leave nothing."""

import asyncio
import time

from eggcluster.ipc.pending_requests import MAX_IDLE_TIMERS, Deadlines
from tests.unit.conftest import Run
from tests.unit.wires import until


def test_each_request_expires_once_after_its_own_timeout(run: Run) -> None:
    async def work() -> None:
        expired: list[tuple[int, float]] = []
        began = time.monotonic()
        deadlines = Deadlines(lambda number, timeout: expired.append((number, time.monotonic() - began)))
        for number, timeout in enumerate((0.06, 0.02, 0.06, 0.04)):
            deadlines.begin(number, timeout)
        await asyncio.sleep(0.01)
        deadlines.begin(4, 0.02)
        await until(lambda: len(expired) == 5)
        assert sorted(number for number, _ in expired) == [0, 1, 2, 3, 4]
        for number, after in expired:
            assert after > (0.06, 0.02, 0.06, 0.04, 0.03)[number] - 0.003
        # Those of one timeout in their order; between several a busy machine may be late for all at once.
        assert [number for number, _ in expired if number in (0, 2)] == [0, 2]
        assert [number for number, _ in expired if number in (1, 4)] == [1, 4]

    run(work())


def test_ended_requests_do_not_expire_and_delay_no_others(run: Run) -> None:
    async def work() -> None:
        expired: list[int] = []
        deadlines = Deadlines(lambda number, timeout: expired.append(number))
        for number in range(5):
            deadlines.begin(number, 0.02)
        for number in (0, 2, 4):
            deadlines.end(number, 0.02)
        deadlines.end(4, 0.02)
        await until(lambda: len(expired) == 2)
        assert expired == [1, 3]

    run(work())


def test_one_timer_serves_all_requests_with_the_same_timeout(run: Run) -> None:
    async def work() -> None:
        deadlines = Deadlines(lambda number, timeout: None)
        for number in range(1000):
            deadlines.begin(number, 0.03)
            deadlines.end(number, 0.03)
        assert len(deadlines._timers) == 1
        await until(lambda: not deadlines._timers)
        assert not deadlines._deadlines

    run(work())


def test_timeouts_that_are_never_used_again_leave_nothing(run: Run) -> None:
    async def work() -> None:
        deadlines = Deadlines(lambda number, timeout: None)
        for number in range(10_000):
            deadlines.begin(number, 3600 + number / 1000)
            deadlines.end(number, 3600 + number / 1000)
        assert len(deadlines._timers) <= MAX_IDLE_TIMERS
        assert len(deadlines._deadlines) <= MAX_IDLE_TIMERS
        deadlines.stop()
        assert not deadlines._timers

    run(work())


def test_many_requests_that_expire_together_cost_little(run: Run) -> None:
    async def work() -> None:
        expired: list[int] = []
        deadlines = Deadlines(lambda number, timeout: expired.append(number))
        for number in range(65_536):
            deadlines.begin(number, 0.05)
        began = time.process_time()
        await until(lambda: len(expired) == 65_536)
        assert time.process_time() - began < 2
        assert expired == sorted(expired)

    run(work())
