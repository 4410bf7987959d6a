"""Waiting for conditions, with a deadline: how tests wait for what other tasks, threads and processes do."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 20.0  # seconds; generous, because the machine may be busy: a test that passes never waits for it


def wait_until(condition: Callable[[], T | None], what: str = "", deadline: float = DEADLINE) -> T:
    """Wait until `condition` is true, and return its value; AssertionError after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        if result := condition():
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g}s: {what or condition}; it was {result!r}")
        time.sleep(0.01)


async def until(condition: Callable[[], object], what: str = "", deadline: float = DEADLINE) -> None:
    """As `wait_until`, while the running event loop goes on."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g}s: {what or condition}")
        await asyncio.sleep(0.001)
