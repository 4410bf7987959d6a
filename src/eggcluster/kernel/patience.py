"""Waiting in which only that time counts in which this process runs. Runs in the master and in the workers.

CLOCK_MONOTONIC stands still while the machine is suspended, but it goes on while processes are stopped (SIGSTOP,
Ctrl-Z), frozen (a paused container) or starved. Who then finds its deadline past has not had its time.
"""

import asyncio
import threading
import time
from collections.abc import Callable

from eggcluster.model.vital_signs import OVERSLEPT_AFTER

SLICE = 1.0  # seconds of one wait: one that took much longer counts as no more than that


def wait_steadily(event: threading.Event, seconds: float, clock: Callable[[], float] = time.monotonic) -> bool:
    """Wait for `event`, for as long; False: in vain."""
    while seconds > 0:
        part, began = min(SLICE, seconds), clock()
        if event.wait(part):
            return True
        seconds -= _counted(part, clock() - began)
    return event.is_set()


async def await_steadily(event: asyncio.Event, seconds: float) -> bool:
    """As `wait_steadily`, in an event loop."""
    while seconds > 0 and not event.is_set():
        part, began = min(SLICE, seconds), time.monotonic()
        try:
            async with asyncio.timeout(part):
                await event.wait()
        except TimeoutError:
            seconds -= _counted(part, time.monotonic() - began)
    return event.is_set()


def _counted(part: float, took: float) -> float:
    return took if took < part + OVERSLEPT_AFTER else part
