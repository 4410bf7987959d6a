"""Links: the master's ends of the channels, with mailboxes, flow control and lost messages. Runs in the master.

A sender that is faster than its receiver is slowed down: the master reads nothing from it for a while. A receiver that
stops reading altogether must not hold up senders that also send to others. After 2 s it counts as not reading: no
sender waits for it any more, and messages that do not fit its queue are dropped.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable

from eggcluster.errors import FrameError
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import Frame
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES
from eggcluster.master.relay.ration import Ration
from eggcluster.model.lives.worker import Worker
from eggcluster.model.messages.message import FrameKind
from eggcluster.model.messages.role import Address
from eggcluster.wording import MAX_ERROR, printable

HIGH_WATER = 1024 * 1024  # bytes that may wait for a receiver before its senders are slowed down
FRAME_OVERHEAD = 200  # bytes that a kept frame costs besides its own, so that the bound holds for tiny frames, too
READ_CHECK_INTERVAL = 0.5  # seconds between two checks whether a congested receiver reads anything
READ_CHECKS = 4  # checks in a row without progress: 2 s, long for a kernel, short for a person
LOSS_LOG_INTERVAL = 1.0  # seconds; a flood of lost messages must not flood the log

_logger = logging.getLogger("eggcluster.master")


class Mailbox:
    """Frames for a receiver that is not live yet, bounded in bytes."""

    def __init__(self, max_bytes: int = MAX_QUEUE_BYTES) -> None:
        self._frames: deque[Frame] = deque()
        self._requests: set[tuple[int, int]] = set()
        self._bytes = 0
        self._max_bytes = max_bytes

    def put(self, frame: Frame) -> bool:
        """Keep the frame; return False if there is no room for it."""
        size = len(frame.raw) + FRAME_OVERHEAD
        if self._bytes + size > self._max_bytes:
            return False
        self._frames.append(frame)
        self._bytes += size
        if frame.kind is FrameKind.REQUEST:
            self._requests.add((frame.source, frame.request_id))
        return True

    def cancel(self, source: int, request_id: int) -> bool:
        """Drop a cancelled request; return whether it was in here."""
        if (source, request_id) not in self._requests:
            return False
        self._requests.remove((source, request_id))
        return True

    def take(self) -> list[Frame]:
        """Empty the mailbox: return all frames that are still wanted, the oldest first."""
        wanted = [
            f for f in self._frames if f.kind is not FrameKind.REQUEST or (f.source, f.request_id) in self._requests
        ]
        self._frames.clear()
        self._requests.clear()
        self._bytes = 0
        return wanted

    def __len__(self) -> int:
        return len(self._frames)


class Link:
    """The master's end of one channel. `worker` is None for the parent. A link is live once its worker has started;
    until then, frames for it wait in its mailbox.

    `slowed_by` are the reasons for which nothing is read from this link: congested receivers, or its spent ration.
    `held` are the frames that have been read already, but wait for the ration. `not_reading` says that this link's own
    process has stopped reading, so that no sender waits for it.
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
        self.slowed_by: set[object] = set()
        self.ration = Ration()
        self.rests = 0.0  # seconds for which nothing more is taken from it, because its ration is spent
        self.held: list[Frame] = []
        self.was_rationed = False
        self.not_reading = False
        self.sent = 0
        self.relayed = 0
        self.dropped = 0
        self.open_requests = 0
        self._max_queue_bytes = max_queue_bytes

    def __str__(self) -> str:
        """Name the process at the other end, as log lines and errors do."""
        return str(self.worker or self.address)

    @property
    def opened(self) -> Channel:
        """The channel of a link over which something has been sent."""
        if self.channel is None:
            raise AssertionError(f"BUG: the link to {self.address} was never opened")
        return self.channel

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait because the other end does not read."""
        return self.channel.queued_bytes if self.channel is not None else 0

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent: the channel is closed, or not opened yet."""
        return self.channel is None or self.channel.closed

    @property
    def congested(self) -> bool:
        """Whether the other end reads more slowly than others send to it."""
        return self.channel is not None and self.channel.congested

    @property
    def delivered_bytes(self) -> int:
        """How many bytes have left for the other end so far; the count stops while that does not read."""
        return self.channel.written - self.channel.queued_bytes if self.channel is not None else 0

    def write(self, raw: bytes | bytearray, *, bounded: bool = True) -> bool:
        """Send whole frames; return False if the other end is gone or, if `bounded`, the queue is full."""
        channel = self.channel
        if channel is None or channel.closed:
            return False
        if bounded and channel.congested and channel.queued_bytes + len(raw) > self._max_queue_bytes:
            return False
        channel.write(raw)
        return True

    def slow_down(self, reason: object) -> None:
        """Read nothing more from this sender until `speed_up` with the same reason: a receiver, or its ration."""
        if not self.slowed_by and self.channel is not None:
            self.channel.pause_reading()
        self.slowed_by.add(reason)

    def speed_up(self, reason: object) -> None:
        """Stop waiting for `reason`; read from this sender again if it was the last one."""
        if reason in self.slowed_by:
            self.slowed_by.remove(reason)
            if not self.slowed_by and self.channel is not None:
                self.channel.resume_reading()

    def counters(self) -> dict[str, int | bool]:
        """Return the counters for the status: messages that the other end sent, that were relayed to it, and that were
        dropped because it did not read."""
        return {
            "sent": self.sent,
            "relayed": self.relayed,
            "dropped": self.dropped,
            "queued_bytes": self.queued_bytes,
            "stalled": self.not_reading,
        }


class FlowControl:
    """Slows senders down while their receiver is congested. `links` holds all links at any time."""

    def __init__(self, links: Iterable[Link]) -> None:
        self._links = links
        self._watched: set[Link] = set()

    def congested(self, sender: Link, receiver: Link) -> None:
        """Slow `sender` down: it has just sent to `receiver`, for which too much is waiting already."""
        if receiver.not_reading:
            return
        sender.slow_down(receiver)
        if receiver not in self._watched:
            self._watched.add(receiver)
            self._check_later(receiver, receiver.delivered_bytes, 0)

    def relieved(self, receiver: Link) -> None:
        """Speed up the senders of `receiver`, which has caught up or is gone."""
        if receiver.not_reading:
            _logger.info("%s reads again", receiver)
        receiver.not_reading = False
        self._speed_up_senders(receiver)

    def _speed_up_senders(self, receiver: Link) -> None:
        self._watched.discard(receiver)
        for sender in self._links:
            sender.speed_up(receiver)

    def _check_later(self, receiver: Link, delivered: int, idle_checks: int) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(READ_CHECK_INTERVAL, self._check, receiver, delivered, idle_checks)

    def _check(self, receiver: Link, delivered: int, idle_checks: int) -> None:
        if receiver not in self._watched:
            return
        now = receiver.delivered_bytes
        idle_checks = 0 if now > delivered else idle_checks + 1
        if idle_checks < READ_CHECKS:
            self._check_later(receiver, now, idle_checks)
            return
        receiver.not_reading = True
        _logger.warning("%s has stopped reading its messages", receiver)
        self._speed_up_senders(receiver)


class LostMessages:
    """Counts lost messages in `total`; `verb` says what happened to them. Logs the last reason of each second."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self.total = 0
        self._unlogged = 0
        self._reason = ""
        self._resting = False

    def add(self, count: int, reason: str) -> None:
        """Count `count` messages that are lost because of `reason`."""
        self.total += count
        self._unlogged += count
        self._reason = reason
        if not self._resting:
            self._log()

    def _log(self) -> None:
        if self._unlogged:
            many = "a message" if self._unlogged == 1 else f"{self._unlogged} messages"
            _logger.warning("%s %s: %s", many, self._verb, printable(self._reason, MAX_ERROR))
        self._resting = self._unlogged > 0
        self._unlogged = 0
        if self._resting:
            asyncio.get_running_loop().call_later(LOSS_LOG_INTERVAL, self._log)
