"""Telling a cancellation of ours from whatever else the application's code raises. Runs in every child.

What a handler, hook or task of the application raises is logged and ends nothing of ours, SystemExit and the like
included; only when our own task is being cancelled it has to end.
"""

import asyncio


def is_cancelled() -> bool:
    """Whether the current task is being cancelled: it must end then, also where the cleanup raised something else.

    A CancelledError alone does not tell: it may come from a future that somebody else has cancelled.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


def is_cancellation(error: BaseException) -> bool:
    """Whether `error`, which is being handled, is the cancellation of the current task."""
    return isinstance(error, asyncio.CancelledError) and is_cancelled()
