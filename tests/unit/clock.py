"""An event loop whose clock jumps to whatever comes next: hours pass in no time, and exactly."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

PATIENCE = 30.0  # real seconds for a thread to do something


class _JumpingSelector(selectors.SelectSelector):
    skipped = 0.0
    are_threads_busy: Callable[[], bool] = staticmethod(lambda: False)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout != 0 and self.are_threads_busy():
            found = super().select(PATIENCE)
            assert found, "a thread is busy, and nothing comes of it"
        if not found:
            assert timeout is not None, "nothing will ever happen any more"
            self.skipped += max(0.0, timeout)
        return found


class JumpingLoop(asyncio.SelectorEventLoop):
    """Where another loop would wait, its clock is set forward; but not while `are_threads_busy()`.

    A thread that ceases to be busy has to wake the loop.
    """

    def __init__(self, are_threads_busy: Callable[[], bool] | None = None) -> None:
        self._jumping = _JumpingSelector()
        if are_threads_busy is not None:
            self._jumping.are_threads_busy = are_threads_busy
        super().__init__(self._jumping)

    def time(self) -> float:
        return 1000.0 + self._jumping.skipped


def in_no_time(work: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine in a loop whose clock jumps."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(work)


def now() -> float:
    """Seconds since the loop began."""
    return round(asyncio.get_running_loop().time() - 1000.0, 6)
