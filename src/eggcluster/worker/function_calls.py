"""Calls application functions without blocking the event loop: plain ones in a thread. Runs in agent and app workers.

Each call gets a thread of its own, not one of the loop's pool: a call may last as long as the worker, and the pool's
few threads belong to the application. The threads are daemons: Python cannot end a thread, and one that still runs must
not hold up the exit.
"""

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from eggcluster.kernel.stacks import note_call
from eggcluster.kernel.threads import start_daemon


async def call_off_loop(function: Callable[..., Any], *args: Any, waits: bool = True) -> Any:
    """Await an async function here, or a plain one in a thread; return its result.

    Cancelling cancels an async function. A thread cannot be cancelled: a first cancellation takes effect when the
    thread has ended. A second one takes effect at once: the thread goes on, and the call no longer waits for it.
    Without `waits` the first one does that.
    """
    if inspect.iscoroutinefunction(function):
        return await function(*args)
    result = await in_thread(function, *args, waits=waits)
    return await result if isinstance(result, Awaitable) else result


async def in_thread(function: Callable[..., Any], *args: Any, waits: bool = True) -> Any:
    """Call a plain function in a thread of its own, with a copy of the caller's context; return its result. For `waits`
    see `call_off_loop`."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if done.done():
            return  # cancelled meanwhile
        if error is None:
            done.set_result(result)
        else:  # a future refuses StopIteration
            done.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)

    def work() -> None:
        result, error = None, None
        try:
            result = context.run(function, *args)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(settle, result, error)

    note_call(start_daemon(work, name=f"egg-{function_name(function)}"))
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if waits:
            await asyncio.wait({done})
        raise


def function_name(function: Callable[..., Any]) -> str:
    """Return the short name of any callable, for logs and the status."""
    return str(getattr(function, "__name__", None) or type(function).__name__)


def function_place(function: Callable[..., Any]) -> str:
    """Return where a callable is defined, as `module.qualified_name`, for error messages."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
