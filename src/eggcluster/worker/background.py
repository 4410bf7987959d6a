"""Background tasks: long connections that are started again when they break. Runs in the worker."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from eggcluster.ipc.cancellation import is_cancellation, is_cancelled

FIRST_DELAY = 0.5  # seconds
MAX_DELAY = 30.0  # seconds; as long as a broker's own reconnects take at most
STEADY_AFTER = 60.0  # seconds of running after which the delays start anew


async def keep_running(task: Callable[[], Awaitable[Any]], logger: logging.Logger) -> None:
    """Await `task()`; after an exception, log it and do so again. Returns when it returns, or when cancelled."""
    loop = asyncio.get_running_loop()
    delay = FIRST_DELAY
    while True:
        began = loop.time()
        try:
            await task()
            return
        except BaseException as error:
            if is_cancellation(error):
                raise
            if loop.time() - began > STEADY_AFTER:
                delay = FIRST_DELAY
            name = getattr(task, "__qualname__", task)
            if is_cancelled():
                logger.exception("background task %s raised while it was cancelled", name)
                return
            logger.exception("background task %s raised, next try in %gs", name, delay)
        await asyncio.sleep(delay)
        delay = min(delay * 2, MAX_DELAY)
