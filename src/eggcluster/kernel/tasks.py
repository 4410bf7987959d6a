"""Tasks of an event loop: kept until they end, and told apart by why they are cancelled. Runs in all processes.

An exception of the application's handlers, hooks or tasks is logged and ends no task of eggcluster, not even SystemExit
and the like. Only its own cancellation ends such a task.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
TURN_RESERVE = 0.25  # seconds of a limit that are kept for each of those whose turn is still to come


class TaskSet:
    """Tasks that run beside the code that starts them. The event loop holds tasks only weakly (asyncio.create_task): a
    task that is stored nowhere may be collected before it ends.

    The work handles its own exceptions. If one escapes, asyncio logs it when the task is collected.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Start `work` as a task of the running loop, and keep it until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self, timeout: float) -> None:
        """Wait until all tasks have ended, for `timeout` seconds at most. Cancelling ends only the waiting."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    def cancel(self) -> None:
        """Cancel all tasks; return at once."""
        for task in list(self._tasks):
            task.cancel()

    def __iter__(self) -> "Iterator[asyncio.Task[Any]]":
        return iter(set(self._tasks))

    def __len__(self) -> int:
        return len(self._tasks)


def turn_time(left: float, following: int) -> float:
    """Return for how many of the `left` seconds one may hold up the `following` ones: nearly all, but half at most if
    little is left."""
    return max(0.0, left / 2, left - TURN_RESERVE * following)


async def take_turns(
    turns: Sequence[Callable[[], Coroutine[Any, Any, T]]], limit: float, on_slow: Callable[[int, float], None]
) -> list[T]:
    """Run the turns one after the other; return what they return, when the last one has ended.

    A turn that is slow does not end those after it: when its time is over (`limit` is for all of them, in seconds),
    `on_slow` is called with its index and the seconds that it has taken, and the next one begins beside it. The turns
    handle their own exceptions. Cancelling cancels those that run.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + limit
    tasks: list[asyncio.Task[T]] = []
    try:
        for index, turn in enumerate(turns):
            began = loop.time()
            tasks.append(task := loop.create_task(turn()))
            following = len(turns) - index - 1
            if following and (await asyncio.wait({task}, timeout=turn_time(end - began, following)))[1]:
                on_slow(index, loop.time() - began)
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def is_cancelled() -> bool:
    """Return whether the current task is being cancelled. It must end then, even if its cleanup raised another error.

    A CancelledError alone is no proof: it may come from a future that other code has cancelled.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


def is_cancellation(error: BaseException) -> bool:
    """Return whether `error`, which is being handled, is the cancellation of the current task."""
    return isinstance(error, asyncio.CancelledError) and is_cancelled()
