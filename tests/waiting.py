"""Waiting for conditions with a deadline: the only way in which the tests wait."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 20.0  # seconds; generous, because the machine may be busy: a test that passes never waits for it


def wait_until(condition: Callable[[], T | None], what: str = "", deadline: float = DEADLINE) -> T:
    """Wait until `condition` gives something true, and give it; AssertionError after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        if result := condition():
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g}s: {what or condition}; it was {result!r}")
        time.sleep(0.01)
