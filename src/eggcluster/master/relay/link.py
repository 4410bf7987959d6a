"""One channel of the master with the child, or the parent, at its other end. Runs in the master."""

import asyncio

from eggcluster.errors import FrameError
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES
from eggcluster.master.relay.mailbox import Mailbox
from eggcluster.model.lives.worker import Worker
from eggcluster.model.messages.role import Address

HIGH_WATER = 1024 * 1024  # bytes that may wait for a receiver before those who send to it are slowed down


class Link:
    """The master's end of one channel. `worker` is None for the parent. A link is live once its worker has started;
    until then frames for it wait in its mailbox.

    `slowed_by` are the receivers for whose sake nothing is read from this one; `stalled` says that it has stopped
    reading itself, so that nobody waits for it any more.
    """

    def __init__(self, address: Address, worker: Worker | None = None, max_queue_bytes: int = MAX_QUEUE_BYTES) -> None:
        self.address = address
        self.packed = address.pack()
        self.worker = worker
        self.channel: Channel | None = None
        self.mailbox = Mailbox(max_queue_bytes)
        self.live = worker is None
        self.gone = asyncio.Event()
        self.failure: FrameError | None = None
        self.slowed_by: set[Link] = set()
        self.stalled = False
        self.sent = 0
        self.relayed = 0
        self.dropped = 0
        self.open_requests = 0
        self._max_queue_bytes = max_queue_bytes

    @property
    def opened(self) -> Channel:
        """The channel of a link over which something has come or gone."""
        if self.channel is None:
            raise AssertionError(f"BUG: the link to {self.address} was never opened")
        return self.channel

    @property
    def queued_bytes(self) -> int:
        return self.channel.queued_bytes if self.channel is not None else 0

    @property
    def closed(self) -> bool:
        return self.channel is None or self.channel.closed

    @property
    def congested(self) -> bool:
        """Whether it reads more slowly than others send to it."""
        return self.channel is not None and self.channel.congested

    @property
    def delivered_bytes(self) -> int:
        """What has left for it so far; it stands still when the other side does not read."""
        return self.channel.written - self.channel.queued_bytes if self.channel is not None else 0

    def write(self, raw: bytes | bytearray, *, bounded: bool = True) -> bool:
        """Send whole frames; False where the other side is gone, or, if `bounded`, where the queue is full."""
        channel = self.channel
        if channel is None or channel.closed:
            return False
        if bounded and channel.congested and channel.queued_bytes + len(raw) > self._max_queue_bytes:
            return False
        channel.write(raw)
        return True

    def slow_down(self, receiver: "Link") -> None:
        """Read nothing more from this sender until `receiver` has caught up."""
        if not self.slowed_by and self.channel is not None:
            self.channel.pause_reading()
        self.slowed_by.add(receiver)

    def speed_up(self, receiver: "Link") -> None:
        """`receiver` is no reason any more; with the last reason gone this sender is read again."""
        if receiver in self.slowed_by:
            self.slowed_by.remove(receiver)
            if not self.slowed_by and self.channel is not None:
                self.channel.resume_reading()

    def counters(self) -> dict[str, int | bool]:
        """For the status: messages this one sent, messages relayed to it, messages to it that were dropped."""
        return {
            "sent": self.sent,
            "relayed": self.relayed,
            "dropped": self.dropped,
            "queued_bytes": self.queued_bytes,
            "stalled": self.stalled,
        }
