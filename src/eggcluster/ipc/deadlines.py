"""Deadlines: the time-outs of this process's requests. Runs in every child.

A timer of the event loop for each request would cost more than the rest of asking. Time-outs of the same length end in
the order in which they began, so one timer serves all of a length.
"""

import asyncio
from collections.abc import Callable

EARLY = 0.001  # seconds; the clock of uvloop ticks in milliseconds, and a timer may ring within the one before
MAX_RESTING = 16  # lengths whose timer is kept while nothing waits for it: who asks once more asks with the same one


class Deadlines:
    """Belongs to one event loop. `expire` is called with the number of each request whose time is up."""

    def __init__(self, expire: Callable[[int, float], None]) -> None:
        self._expire = expire
        self._loop = asyncio.get_running_loop()
        self._ends: dict[float, dict[int, float]] = {}  # timeout -> request id -> instant, the earliest first
        self._timers: dict[float, asyncio.TimerHandle] = {}

    def begin(self, request_id: int, timeout: float) -> None:
        """In `timeout` seconds the time of this request is up."""
        ends = self._ends.get(timeout)
        if ends is None:
            ends = self._ends[timeout] = {}
            self._timers[timeout] = self._loop.call_later(timeout, self._look, timeout)
        ends[request_id] = self._loop.time() + timeout

    def end(self, request_id: int, timeout: float) -> None:
        """The request has ended; may be called again."""
        ends = self._ends.get(timeout)
        if ends is not None:
            ends.pop(request_id, None)
            if not ends and len(self._ends) > MAX_RESTING:
                self._forget(timeout)

    def stop(self) -> None:
        """Nothing expires any more."""
        for timeout in [*self._ends]:
            self._forget(timeout)

    def _look(self, timeout: float) -> None:
        ends, now = self._ends[timeout], self._loop.time()
        due = []
        for request_id, end in ends.items():
            if end > now + EARLY:
                self._timers[timeout] = self._loop.call_later(end - now, self._look, timeout)
                break
            due.append(request_id)
        else:
            self._forget(timeout)
        for request_id in due:
            ends.pop(request_id, None)
            self._expire(request_id, timeout)

    def _forget(self, timeout: float) -> None:
        del self._ends[timeout]
        self._timers.pop(timeout).cancel()
