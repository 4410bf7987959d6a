"""Daemon threads, and waits that do not count the time in which the machine slept. Runs in all.

CLOCK_MONOTONIC stands still while the machine is suspended, but it goes on while processes are stopped (SIGSTOP,
Ctrl-Z), frozen (a paused container) or starved. A deadline that has passed meanwhile proves nothing.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from eggcluster.model.lives.health import MASTER_SLEPT_AFTER


def accept_daemons() -> None:
    """In a subinterpreter, which refuses daemon threads: give libraries that ask for one an ordinary thread. They are
    joined at the interpreter's end, which is theirs, too."""
    init = threading.Thread.__init__

    def ordinary(self: threading.Thread, *args: Any, daemon: bool | None = None, **kwargs: Any) -> None:
        init(self, *args, daemon=False, **kwargs)

    threading.Thread.__init__ = ordinary  # type: ignore[method-assign]  # in this interpreter, which is a worker's own
    threading.Thread.daemon = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]


def start_daemon(target: Callable[..., Any], *args: Any, name: str) -> threading.Thread:
    """Start a thread that does not hold up the end of the process. A subinterpreter has no such threads: there its end
    waits for this one, too, so its starter should tell it when it is over."""
    thread = threading.Thread(target=target, args=args, name=name)
    with contextlib.suppress(RuntimeError):
        thread.daemon = True
    thread.start()
    return thread


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
    return took if took < part + MASTER_SLEPT_AFTER else part
