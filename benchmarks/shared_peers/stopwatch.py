"""Owns the clock of the round trips. Runs in whichever worker asks."""

import asyncio
import time
from collections.abc import Awaitable, Callable

Call = Callable[[], Awaitable[object]]


async def round_trips(call: Call, seconds: float) -> dict[str, float]:
    """One after the other for so long: microseconds at the median and at the 99th percentile."""
    for _ in range(200):
        await call()
    took: list[int] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter_ns()
        await call()
        took.append(time.perf_counter_ns() - began)
    return percentiles(took)


async def at_once(call: Call, seconds: float, callers: int) -> float:
    """Calls a second of so many callers, each asking again as soon as it has its answer."""
    count, began = 0, time.monotonic()

    async def ask() -> None:
        nonlocal count
        while time.monotonic() < began + seconds:
            await call()
            count += 1

    await asyncio.gather(*(ask() for _ in range(callers)))
    return count / (time.monotonic() - began)


def percentiles(nanoseconds: list[int]) -> dict[str, float]:
    """In microseconds."""
    ordered = sorted(nanoseconds)
    return {"p50": ordered[len(ordered) // 2] / 1000, "p99": ordered[len(ordered) * 99 // 100] / 1000}
