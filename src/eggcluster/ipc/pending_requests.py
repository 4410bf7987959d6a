"""The requests made by this process: the futures of their answers, and timeouts. Runs in all workers and the parent.

A timer of the event loop for each request would cost more than the rest of the request. Requests with the same timeout
expire in the order in which they began, so one timer serves them all.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from eggcluster.errors import FrameError, MessengerClosed, ReceiverDied, RemoteError, RequestTimeout
from eggcluster.ipc.frame import HEADER_SIZE, Frame, decode_body, reply_key_of
from eggcluster.model.messages.message import FrameKind

TIMER_SLACK = 0.001  # seconds; uvloop's clock ticks in milliseconds, so a timer may fire one tick early
MAX_IDLE_TIMERS = 16  # timers that are kept without a request: the next one is likely to have the same timeout


class Deadlines:
    """The deadlines of requests in one event loop. `expire` is called with the id and timeout of an expired request."""

    def __init__(self, expire: Callable[[int, float], None]) -> None:
        self._expire = expire
        self._loop = asyncio.get_running_loop()
        self._deadlines: dict[float, dict[int, float]] = {}  # timeout -> request id -> instant, the earliest first
        self._timers: dict[float, asyncio.TimerHandle] = {}

    def begin(self, request_id: int, timeout: float) -> None:
        """Let the request expire in `timeout` seconds."""
        deadlines = self._deadlines.get(timeout)
        if deadlines is None:
            deadlines = self._deadlines[timeout] = {}
            self._timers[timeout] = self._loop.call_later(timeout, self._check, timeout)
        deadlines[request_id] = self._loop.time() + timeout

    def end(self, request_id: int, timeout: float) -> None:
        """Forget the deadline of a request that has ended. May be called again."""
        deadlines = self._deadlines.get(timeout)
        if deadlines is not None:
            deadlines.pop(request_id, None)
            if not deadlines and len(self._deadlines) > MAX_IDLE_TIMERS:
                self._stop_timer(timeout)

    def stop(self) -> None:
        """Stop all timers: nothing expires any more."""
        for timeout in [*self._deadlines]:
            self._stop_timer(timeout)

    def _check(self, timeout: float) -> None:
        deadlines, now = self._deadlines[timeout], self._loop.time()
        expired = []
        for request_id, deadline in deadlines.items():
            if deadline > now + TIMER_SLACK:
                self._timers[timeout] = self._loop.call_later(deadline - now, self._check, timeout)
                break
            expired.append(request_id)
        else:
            self._stop_timer(timeout)
        for request_id in expired:
            deadlines.pop(request_id, None)
            self._expire(request_id, timeout)

    def _stop_timer(self, timeout: float) -> None:
        del self._deadlines[timeout]
        self._timers.pop(timeout).cancel()


class PendingRequests:
    """The requests of one event loop that wait for an answer. Each is a future that its answer resolves."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last_id = random.getrandbits(32)  # random: a successor must not get the answers to its predecessor
        self._waiting: dict[int, tuple[asyncio.Future[Any], str]] = {}
        self._deadlines = Deadlines(self._expire)

    def next_id(self) -> int:
        """Return the request id of the next request."""
        self._last_id = (self._last_id + 1) & 0xFFFFFFFF
        return self._last_id

    def begin(self, request_id: int, action: str, timeout: float) -> asyncio.Future[Any]:
        """Return the future of the answer; it fails with RequestTimeout after `timeout` seconds.

        However the request ends, call `end` then.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting[request_id] = (future, action)
        self._deadlines.begin(request_id, timeout)
        return future

    def end(self, request_id: int, timeout: float) -> None:
        """Drop the request: its answer is not awaited any more. Call it once."""
        del self._waiting[request_id]
        self._deadlines.end(request_id, timeout)

    def end_all(self) -> None:
        """Let all requests fail with MessengerClosed: the channel is closed."""
        self._deadlines.stop()
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(MessengerClosed("the channel was closed before the answer came"))

    def resolve(self, frame: Frame) -> None:
        """Resolve the request that a REPLY, FAILURE or LOST frame answers. A late answer is dropped.

        Raises FrameError for a body that cannot be read.
        """
        future = self._unresolved(frame.request_id)
        if future is None:
            return
        if frame.kind is FrameKind.REPLY:
            future.set_result(decode_body(frame.body))
        elif frame.kind is FrameKind.LOST:
            future.set_exception(ReceiverDied(decode_body(frame.body, str)))
        else:
            future.set_exception(RemoteError(*decode_body(frame.body, tuple[str, str, str])))

    def resolve_raw(self, raw: bytes) -> bool:
        """Resolve the request that a REPLY frame's bytes answer; return False if its body cannot be read."""
        future = self._unresolved(reply_key_of(raw)[1])
        if future is not None:
            try:
                future.set_result(decode_body(raw[HEADER_SIZE:]))
            except FrameError:
                return False
        return True

    def _unresolved(self, request_id: int) -> asyncio.Future[Any] | None:
        future, _ = self._waiting.get(request_id, (None, ""))
        return None if future is None or future.done() else future

    def _expire(self, request_id: int, timeout: float) -> None:
        future, action = self._waiting[request_id]
        if not future.done():
            future.set_exception(RequestTimeout(f'no answer to "{action}" within {timeout:g}s'))

    def __len__(self) -> int:
        return len(self._waiting)
