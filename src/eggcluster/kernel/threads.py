"""Daemon threads, and waits that do not count the time in which the process could not run. Runs in all processes.

CLOCK_MONOTONIC stands still while the machine is suspended, but runs on while processes are stopped (SIGSTOP, Ctrl-Z),
frozen (a paused container) or starved. A deadline that passes meanwhile proves nothing.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from eggcluster.model.lives.health import MASTER_SLEPT_AFTER


def accept_daemons() -> None:
    """Give libraries that ask for a daemon thread an ordinary one, in a subinterpreter, which refuses daemon threads.
    The interpreter's end waits for ordinary threads."""
    init = threading.Thread.__init__

    def ordinary(self: threading.Thread, *args: Any, daemon: bool | None = None, **kwargs: Any) -> None:
        init(self, *args, daemon=False, **kwargs)

    threading.Thread.__init__ = ordinary  # type: ignore[method-assign]  # in this interpreter, which is a worker's own
    threading.Thread.daemon = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]


def start_daemon(target: Callable[..., Any], *args: Any, name: str) -> threading.Thread:
    """Start a thread that does not delay the end of the process. A subinterpreter has no such threads: its end waits
    for this one, too, so the caller should tell the thread to end."""
    thread = threading.Thread(target=target, args=args, name=name)
    with contextlib.suppress(RuntimeError):
        thread.daemon = True
    thread.start()
    return thread


SLICE = 1.0  # seconds of one part of a wait; a part that took much longer counts as no more than its length


def wait_steadily(event: threading.Event, seconds: float, clock: Callable[[], float] = time.monotonic) -> bool:
    """Wait for `event`, for `seconds` in which the process could run; return whether it is set."""
    while seconds > 0:
        part, began = min(SLICE, seconds), clock()
        if event.wait(part):
            return True
        seconds -= _counted(part, clock() - began)
    return event.is_set()


async def await_steadily(event: asyncio.Event, seconds: float) -> bool:
    """Do the same as `wait_steadily` in an event loop."""
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
