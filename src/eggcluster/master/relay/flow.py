"""Flow control: who sends faster than the receiver reads is read more slowly himself. Runs in the master.

A receiver that stops reading altogether must not hold up those who also send to others: after a while nobody waits
for it any more, and what does not fit its queue is dropped, its own messages alone.
"""

import asyncio
import logging
from collections.abc import Iterable

from eggcluster.master.relay.link import Link

STALL_CHECK = 0.5  # seconds between two looks at whether a congested receiver reads anything
STALLED_AFTER = 4  # looks in a row without progress: 2 s, long for a kernel, short for a person

_logger = logging.getLogger("eggcluster.master")


class FlowControl:
    """Slows senders down, and lets them go again. `links` are all that there are, as they are now."""

    def __init__(self, links: Iterable[Link]) -> None:
        self._links = links
        self._watched: set[Link] = set()

    def congested(self, sender: Link, receiver: Link) -> None:
        """`sender` has just sent to `receiver`, for whom too much is waiting already."""
        if receiver.stalled:
            return
        sender.slow_down(receiver)
        if receiver not in self._watched:
            self._watched.add(receiver)
            self._look_later(receiver, receiver.delivered_bytes, 0)

    def relieved(self, receiver: Link) -> None:
        """`receiver` has caught up, or is gone."""
        if receiver.stalled:
            _logger.info("%s reads again", receiver.worker or receiver.address)
        receiver.stalled = False
        self._let_go(receiver)

    def _let_go(self, receiver: Link) -> None:
        self._watched.discard(receiver)
        for sender in self._links:
            sender.speed_up(receiver)

    def _look_later(self, receiver: Link, delivered: int, idle: int) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(STALL_CHECK, self._look, receiver, delivered, idle)

    def _look(self, receiver: Link, delivered: int, idle: int) -> None:
        if receiver not in self._watched:
            return
        now = receiver.delivered_bytes
        idle = 0 if now > delivered else idle + 1
        if idle < STALLED_AFTER:
            self._look_later(receiver, now, idle)
            return
        receiver.stalled = True
        _logger.warning("%s has stopped reading its messages", receiver.worker or receiver.address)
        self._let_go(receiver)
