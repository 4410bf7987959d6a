"""Calling the application's listeners: whatever they raise is logged and ends nothing. Runs in agent and workers."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from eggcluster.ipc.cancellation import is_cancellation

Listener = Callable[[Any], Any]

_logger = logging.getLogger("eggcluster.cluster_client")
_running: set[asyncio.Task[None]] = set()  # a task that nobody holds may be collected as garbage


def check_listener(listener: Any) -> None:
    """TypeError for what cannot be called, where it is handed over and not when the first value comes."""
    if not callable(listener):
        raise TypeError(f"a listener is a function of one argument, not {listener!r}")


def call_listener(listener: Listener, value: Any, what: str) -> None:
    """Call a plain listener now, let an async one run. `what` says in the log what it listens to."""
    try:
        result = listener(value)
    except BaseException:
        _logger.exception("a listener of %s raised", what)
        return
    if isinstance(result, Coroutine):
        task = asyncio.get_running_loop().create_task(_logged(result, what))
        _running.add(task)
        task.add_done_callback(_running.discard)


async def _logged(work: Coroutine[Any, Any, Any], what: str) -> None:
    try:
        await work
    except BaseException as error:
        if is_cancellation(error):
            raise
        _logger.exception("a listener of %s raised", what)
