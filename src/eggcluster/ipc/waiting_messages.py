"""Messages that wait because too many handlers run. Runs in all workers and the parent, in an event loop."""

import asyncio
from collections import deque
from collections.abc import Callable

from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import Frame, RequestKey
from eggcluster.ipc.handler_progress import HandlerProgress
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES
from eggcluster.ipc.pending_requests import PendingRequests

_OVERHEAD = 200  # bytes that a waiting message costs besides its own


class WaitingMessages:
    """The rest of what was read when the last free place was taken. Until it is handled, nothing more is read.

    But while this process waits for answers (`pending`), it reads on, and up to MAX_QUEUE_BYTES of messages wait here:
    the handlers that hold the places may wait for just those answers, which come behind the messages. `take` handles
    a message when its turn has come. `cancelled` are the requests that need no answer any more.
    """

    def __init__(
        self,
        channel: Channel,
        progress: HandlerProgress,
        pending: PendingRequests,
        take: Callable[[Frame, memoryview], None],
    ) -> None:
        self._channel = channel
        self._progress = progress
        self._pending = pending
        self._take = take
        self._queue: deque[tuple[Frame, memoryview]] = deque()
        self._bytes = 0
        self.cancelled: set[RequestKey] = set()
        self._paused = False
        self._scheduled = False
        progress.on_room = self._drain_soon

    def put(self, frame: Frame, body: memoryview) -> None:
        """Let a message wait, and read nothing more unless an answer is expected."""
        self._queue.append((frame, body))
        self._bytes += len(body) + _OVERHEAD
        self._progress.waits = True
        self._progress.update()
        if not self._paused and (not self._pending or self._bytes > MAX_QUEUE_BYTES):
            self._paused = True
            self._channel.pause_reading()

    def expect_answer(self) -> None:
        """Read on: this process has just made a request."""
        if self._paused and self._bytes <= MAX_QUEUE_BYTES:
            self._resume()

    def cancel(self, key: RequestKey) -> None:
        """Note that a request that may wait here is cancelled."""
        if self._queue or not self._progress.in_order:
            self.cancelled.add(key)

    def is_cancelled(self, key: RequestKey) -> bool:
        """Return whether a request was cancelled while it waited; forget it then."""
        if key not in self.cancelled:
            return False
        self.cancelled.remove(key)
        return True

    def _drain_soon(self) -> None:
        if not self._scheduled:  # not at once: the caller is another handler's task
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        while self._queue and not self._progress.is_full:
            frame, body = self._queue.popleft()
            self._bytes -= len(body) + _OVERHEAD
            self._take(frame, body)
        if not self._queue:
            self._progress.waits = False
            self._progress.update()
            self.cancelled.clear()
            if self._paused:
                self._resume()

    def _resume(self) -> None:
        self._paused = False
        self._channel.resume_reading()
