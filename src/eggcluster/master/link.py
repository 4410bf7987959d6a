"""One channel of the master with the child, or the parent, at its other end. Runs in the master."""

import asyncio
from collections import deque

from eggcluster.errors import FrameError
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import Frame
from eggcluster.model.role import Address
from eggcluster.model.worker import Worker

MAX_QUEUE_BYTES = 64 * 1024 * 1024  # for each receiver; the contract's default


class Mailbox:
    """Frames for a receiver that is not there yet: kept in order, bounded in bytes."""

    def __init__(self, max_bytes: int = MAX_QUEUE_BYTES) -> None:
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._max_bytes = max_bytes

    def put(self, frame: Frame) -> bool:
        """Keep the frame; False where there is no room for it."""
        if self._bytes + len(frame.raw) > self._max_bytes:
            return False
        self._frames.append(frame)
        self._bytes += len(frame.raw)
        return True

    def take(self) -> list[Frame]:
        """All frames, the oldest first; the mailbox is empty afterwards."""
        frames = list(self._frames)
        self._frames.clear()
        self._bytes = 0
        return frames

    def __len__(self) -> int:
        return len(self._frames)


class Link:
    """The master's end of one channel. `worker` is None for the parent. A link is live once its worker has started;
    until then frames for it wait in its mailbox."""

    def __init__(self, address: Address, worker: Worker | None = None) -> None:
        self.address = address
        self.packed = address.pack()
        self.worker = worker
        self.channel: Channel | None = None
        self.mailbox = Mailbox()
        self.live = worker is None
        self.gone = asyncio.Event()
        self.failure: FrameError | None = None
        self.sent = 0
        self.relayed = 0
        self.dropped = 0

    @property
    def queued_bytes(self) -> int:
        return self.channel.queued_bytes if self.channel is not None else 0

    def write(self, raw: bytes) -> bool:
        """Send whole frames; False where the other side is gone, or has not read for too long."""
        if self.channel is None or self.channel.closed or self.queued_bytes > MAX_QUEUE_BYTES:
            return False
        self.channel.write(raw)
        return True

    def counters(self) -> dict[str, int]:
        """For the status: messages this one sent, messages relayed to it, messages to it that were dropped."""
        return {
            "sent": self.sent,
            "relayed": self.relayed,
            "dropped": self.dropped,
            "queued_bytes": self.queued_bytes,
        }
