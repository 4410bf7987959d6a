"""Scheduled functions: in the agent, so in exactly one process of the cluster."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from eggcluster.ipc.cancellation import is_cancellation, is_cancelled
from eggcluster.model.interval import next_run


async def run_every(interval: float, function: Callable[[], Any], logger: logging.Logger, *, immediate: bool) -> None:
    """Call a plain or async `function` every `interval` seconds until cancelled; the first time after one interval,
    or at once. It never overlaps itself: a run that takes longer makes the next ones fall out. What it raises is
    logged."""
    loop = asyncio.get_running_loop()
    planned = loop.time() if immediate else loop.time() + interval
    while True:
        await asyncio.sleep(planned - loop.time())
        try:
            result = function()
            if asyncio.iscoroutine(result):
                await result
        except BaseException as error:
            if is_cancellation(error):
                raise
            logger.exception("scheduled function %s raised", getattr(function, "__qualname__", function))
            if is_cancelled():
                return
        planned = next_run(planned, loop.time(), interval)
