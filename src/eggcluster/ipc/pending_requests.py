"""Deadlines: the time-outs of this process's requests. Runs in every child.

A timer of the event loop for each request would cost more than the rest of asking. Time-outs of the same length end in
the order in which they began, so one timer serves all of a length.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from eggcluster.errors import FrameError, MessengerClosed, ReceiverDied, RemoteError, RequestTimeout
from eggcluster.ipc.frame import HEADER_SIZE, Frame, decode_body, reply_key_of
from eggcluster.model.messages.message import FrameKind

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


class PendingRequests:
    """Belongs to the event loop in which it was made. Each question is a future that its answer resolves."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last_id = random.getrandbits(32)  # a successor must not take its predecessor's answers for its own
        self._waiting: dict[int, tuple[asyncio.Future[Any], str]] = {}
        self._deadlines = Deadlines(self._expire)

    def next_id(self) -> int:
        """The number of the next question."""
        self._last_id = (self._last_id + 1) & 0xFFFFFFFF
        return self._last_id

    def begin(self, request_id: int, action: str, timeout: float) -> asyncio.Future[Any]:
        """The answer to be; RequestTimeout after `timeout` seconds. `end` it, however it ends."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting[request_id] = (answer, action)
        self._deadlines.begin(request_id, timeout)
        return answer

    def end(self, request_id: int, timeout: float) -> None:
        """Nobody waits for the answer any more."""
        del self._waiting[request_id]
        self._deadlines.end(request_id, timeout)

    def end_all(self) -> None:
        """The channel is gone: nobody will answer."""
        self._deadlines.stop()
        for answer, _ in self._waiting.values():
            if not answer.done():
                answer.set_exception(MessengerClosed("the channel to the master was closed"))

    def resolve(self, frame: Frame) -> None:
        """An answer came; one for which nobody waits any more is dropped. FrameError for what cannot be read."""
        answer = self._open(frame.request_id)
        if answer is None:
            return
        if frame.kind is FrameKind.REPLY:
            answer.set_result(decode_body(frame.body))
        elif frame.kind is FrameKind.LOST:
            answer.set_exception(ReceiverDied(decode_body(frame.body, str)))
        else:
            answer.set_exception(RemoteError(*decode_body(frame.body, tuple[str, str, str])))

    def resolve_reply(self, raw: bytes) -> bool:
        """The same for the bytes of a reply; False where it cannot be read."""
        answer = self._open(reply_key_of(raw)[1])
        if answer is not None:
            try:
                answer.set_result(decode_body(raw[HEADER_SIZE:]))
            except FrameError:
                return False
        return True

    def _open(self, request_id: int) -> asyncio.Future[Any] | None:
        answer, _ = self._waiting.get(request_id, (None, ""))
        return None if answer is None or answer.done() else answer

    def _expire(self, request_id: int, timeout: float) -> None:
        answer, action = self._waiting[request_id]
        if not answer.done():
            answer.set_exception(RequestTimeout(f'no answer to "{action}" within {timeout:g}s'))

    def __len__(self) -> int:
        return len(self._waiting)
