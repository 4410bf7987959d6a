"""Mailboxes for receivers that are not there yet, and the count of messages that were lost. Runs in the master."""

import asyncio
import logging
from collections import deque

from eggcluster.ipc.frame import Frame
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES
from eggcluster.model.messages.message import FrameKind

FRAME_OVERHEAD = 200  # bytes that a kept frame costs beside its own: the bound must hold for tiny ones, too


class Mailbox:
    """What was sent to one seat, or to one incarnation that boots."""

    def __init__(self, max_bytes: int = MAX_QUEUE_BYTES) -> None:
        self._frames: deque[Frame] = deque()
        self._requests: set[tuple[int, int]] = set()
        self._bytes = 0
        self._max_bytes = max_bytes

    def put(self, frame: Frame) -> bool:
        """Keep the frame; False where there is no room for it."""
        size = len(frame.raw) + FRAME_OVERHEAD
        if self._bytes + size > self._max_bytes:
            return False
        self._frames.append(frame)
        self._bytes += size
        if frame.kind is FrameKind.REQUEST:
            self._requests.add((frame.source, frame.request_id))
        return True

    def cancel(self, source: int, request_id: int) -> bool:
        """Whoever asked does not wait any more; whether the request was in here."""
        if (source, request_id) not in self._requests:
            return False
        self._requests.remove((source, request_id))
        return True

    def take(self) -> list[Frame]:
        """All frames that are still wanted, the oldest first; the mailbox is empty afterwards."""
        wanted = [
            f for f in self._frames if f.kind is not FrameKind.REQUEST or (f.source, f.request_id) in self._requests
        ]
        self._frames.clear()
        self._requests.clear()
        self._bytes = 0
        return wanted

    def __len__(self) -> int:
        return len(self._frames)


_logger = logging.getLogger("eggcluster.master")
INTERVAL = 1.0  # seconds; a flood to nobody must not flood the log


class LostMessages:
    """`total` is how many there were; `verb` says what happened to them. The last reason of each second is logged."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self.total = 0
        self._unsaid = 0
        self._reason = ""
        self._resting = False

    def add(self, count: int, reason: str) -> None:
        """`count` messages are lost, because of `reason`."""
        self.total += count
        self._unsaid += count
        self._reason = reason
        if not self._resting:
            self._say()

    def _say(self) -> None:
        if self._unsaid:
            many = "a message" if self._unsaid == 1 else f"{self._unsaid} messages"
            _logger.warning("%s %s: %s", many, self._verb, self._reason)
        self._resting = self._unsaid > 0
        self._unsaid = 0
        if self._resting:
            asyncio.get_running_loop().call_later(INTERVAL, self._say)
