"""Links: the master's ends of the channels, with mailboxes, flow control and lost messages. Runs in the master.

A sender that is faster than its receiver is slowed down: the master reads nothing from it for a while. A receiver that
stops reading altogether must not hold up senders that also send to others. After 2 s it counts as not reading: no
sender waits for it any more, and messages that do not fit its queue are dropped.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence

from eggcluster.errors import FrameError
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import Frame, RequestKey
from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES
from eggcluster.master.relay.ledger import FRAME_OVERHEAD, Ledger
from eggcluster.master.relay.ration import Ration
from eggcluster.model.lives.worker import Worker
from eggcluster.model.messages.message import FrameKind
from eggcluster.model.messages.role import Address
from eggcluster.wording import MAX_ERROR, printable

HIGH_WATER = 1024 * 1024  # bytes that may wait for a receiver before its senders are slowed down
READ_CHECK_INTERVAL = 0.5  # seconds between two checks whether a congested receiver reads anything
READ_CHECKS = 4  # checks in a row without progress: 2 s, long for a kernel, short for a person
LOSS_LOG_INTERVAL = 1.0  # seconds; a flood of lost messages must not flood the log

KeptFrame = tuple[Frame, "Link | None"]  # and its sender, if that is known

_logger = logging.getLogger("eggcluster.master")


class Mailbox:
    """Frames for a receiver that is not live yet, each with its sender's link, bounded in bytes.

    The first `copies` of them are broadcasts that its predecessor, which is still live, has got, too.
    """

    def __init__(self, max_bytes: int = MAX_QUEUE_BYTES) -> None:
        self._frames: deque[KeptFrame] = deque()
        self._requests: set[RequestKey] = set()
        self._bytes = 0
        self._max_bytes = max_bytes
        self.copies = 0

    def put(self, frame: Frame, sender: "Link | None") -> bool:
        """Keep the frame; return False if there is no room for it."""
        if not self._has_room_for(frame):
            return False
        self._frames.append((frame, sender))
        return True

    def put_copy(self, frame: Frame, sender: "Link | None") -> bool:
        """Keep a copy of a frame that the predecessor gets, too."""
        if self.copies < len(self._frames) or not self.put(frame, sender):
            return False
        self.copies += 1
        return True

    def put_early(self, frames: Sequence[KeptFrame], instead_of: int = 0) -> Sequence[KeptFrame]:
        """Keep what the predecessor has left, before all that came later, and instead of its last `instead_of` copies.
        Return those frames for which there is no room, which are the last ones."""
        self._frames.rotate(-self.copies)  # the copies are at the right end now
        for _ in range(min(instead_of, self.copies)):
            self._bytes -= _size(self._frames.pop()[0])
            self.copies -= 1
        fitting = 0
        while fitting < len(frames) and self._has_room_for(frames[fitting][0]):
            self._frames.append(frames[fitting])
            fitting += 1
        self._frames.rotate(self.copies + fitting)
        return frames[fitting:]

    def _has_room_for(self, frame: Frame) -> bool:
        size = _size(frame)
        if self._bytes + size > self._max_bytes:
            return False
        self._bytes += size
        if frame.kind is FrameKind.REQUEST:
            self._requests.add(frame.request_key)
        return True

    def cancel(self, key: RequestKey) -> bool:
        """Drop a cancelled request; return whether it was in here."""
        if key not in self._requests:
            return False
        self._requests.remove(key)
        return True

    def take(self) -> list[KeptFrame]:
        """Empty the mailbox: return all frames that are still wanted, the oldest first."""
        wanted = [kept for kept in self._frames if self._is_wanted(*kept)]
        self._frames.clear()
        self._requests.clear()
        self._bytes = self.copies = 0
        return wanted

    def _is_wanted(self, frame: Frame, sender: "Link | None") -> bool:
        if frame.kind is not FrameKind.REQUEST:
            return True
        return frame.request_key in self._requests and (sender is None or not sender.gone.is_set())

    def __len__(self) -> int:
        return sum(frame.count for frame, _ in self._frames)


def _size(frame: Frame) -> int:
    return len(frame.raw) + FRAME_OVERHEAD


class Link:
    """The master's end of one channel. `worker` is None for the parent. A link is live once its worker has started;
    until then, frames for it wait in its mailbox.

    `slowed_by` are the reasons for which nothing is read from this link: congested receivers, or its spent ration.
    `held` are the frames that have been read already, but wait for the ration. `not_reading` says that this link's own
    process has stopped reading, so that no sender waits for it.

    `page` tells which messages have begun; without it nothing is kept in the `ledger`. `copies` says of which
    broadcasts in there a successor that boots has its own copy: the number of the entry's first message, and that
    successor's link. `never_lived` says that this link's worker died before it was live, beside its live predecessor,
    and its copies with it.
    """

    def __init__(
        self,
        address: Address,
        worker: Worker | None = None,
        max_queue_bytes: int = MAX_QUEUE_BYTES,
        page: HeartbeatPage | None = None,
    ) -> None:
        self.address = address
        self.packed = address.pack()
        self.worker = worker
        self.channel: Channel | None = None
        self.mailbox = Mailbox(max_queue_bytes)
        self.page = page
        self.ledger = Ledger(kept=page is not None)
        self.copies: dict[int, Link] = {}
        self.never_lived = False
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
    def taken(self) -> int:
        """A number that grows while the other end reads: the bytes that have left for it, and the messages that it has
        begun. (The kernel takes the next bytes only when it has passed on most of its own, which may be megabytes.)"""
        delivered = self.channel.written - self.channel.queued_bytes if self.channel is not None else 0
        return delivered + (self.page.begun().count if self.page is not None and not self.page.closed else 0)

    def write(self, raw: bytes | bytearray, *, bounded: bool = True) -> bool:
        """Send whole frames; return False if the other end is gone or, if `bounded`, the queue is full."""
        channel = self.channel
        if channel is None or channel.closed:
            return False
        if bounded and channel.congested and self._kept_bytes + len(raw) > self._max_queue_bytes:
            return False
        channel.write(raw)
        return True

    @property
    def _kept_bytes(self) -> int:
        return max(self.queued_bytes, self.ledger.bytes)

    def keep(self, frame: Frame) -> None:
        """Count a frame that was relayed to this link, and keep it until it has begun."""
        self.relayed += frame.count
        if self.page is not None and self.ledger.add(frame):
            self.forget_begun()

    def forget_begun(self) -> None:
        """Drop from the ledger what has begun."""
        if self.page is not None and not self.page.closed:
            self.ledger.forget(self.page.begun())
            if self.copies:
                before = self.ledger.before
                self.copies = {number: link for number, link in self.copies.items() if number > before}

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
            self._check_later(receiver, receiver.taken, 0)

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

    def _check_later(self, receiver: Link, taken: int, idle_checks: int) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(READ_CHECK_INTERVAL, self._check, receiver, taken, idle_checks)

    def _check(self, receiver: Link, taken: int, idle_checks: int) -> None:
        if receiver not in self._watched:
            return
        now = receiver.taken
        idle_checks = 0 if now > taken else idle_checks + 1
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
