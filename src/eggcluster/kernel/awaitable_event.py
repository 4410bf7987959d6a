"""An event that threads wait for and coroutines await. Runs in agent and app workers."""

import asyncio
import threading
from collections.abc import Generator

Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class AwaitableEvent(threading.Event):
    """A `threading.Event` that can be awaited, too: `await event` returns once it is set, in any event loop.

    `wait(timeout)` blocks its thread, so call it in plain functions only. Cancelling `await` ends only that wait. Once
    it is set, do not clear it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiters: set[Waiter] = set()
        self._waiters_lock = threading.Lock()

    def set(self) -> None:
        super().set()
        with self._waiters_lock:
            waiters, self._waiters = self._waiters, set()
        for loop, future in waiters:
            try:
                loop.call_soon_threadsafe(_wake, future)
            except RuntimeError:  # that loop has been closed, and its waiter with it
                continue

    def __await__(self) -> Generator["asyncio.Future[None]", None, None]:
        loop = asyncio.get_running_loop()
        waiter = loop, loop.create_future()
        with self._waiters_lock:
            if self.is_set():
                return
            self._waiters.add(waiter)
        try:
            yield from waiter[1]
        finally:
            with self._waiters_lock:
                self._waiters.discard(waiter)


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
