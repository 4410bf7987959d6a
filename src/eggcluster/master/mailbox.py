"""Frames for a receiver that is not there yet: kept in order, bounded in bytes. Runs in the master."""

from collections import deque

from eggcluster.ipc.frame import Frame
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES
from eggcluster.model.message import Kind

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
        if frame.kind is Kind.REQUEST:
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
        wanted = [f for f in self._frames if f.kind is not Kind.REQUEST or (f.source, f.request_id) in self._requests]
        self._frames.clear()
        self._requests.clear()
        self._bytes = 0
        return wanted

    def __len__(self) -> int:
        return len(self._frames)
