"""Rationing: reads nothing for a while from a child that gives the master itself too much to do. Runs in the master."""

import asyncio
import logging
from collections.abc import Callable

from eggcluster.errors import FrameError
from eggcluster.ipc.frame import Frame
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.ration import MAX_OWN_BYTES, UNITS_PER_SECOND, is_own, price
from eggcluster.model.messages.message import FrameKind

UNREAD_REST = 0.5  # seconds until the next look at a requester that does not read the master's answers

_logger = logging.getLogger("eggcluster.master")


class Rationing:
    """Charges each child for its requests and reports to the master. Nothing is lost: what a child has sent beyond its
    ration waits, all its frames in their order, and `receive` gets them later.

    It writes three fields of a `Link`: `rests`, `held` and `was_rationed`.
    """

    def __init__(self, slots: int, receive: Callable[[Link, list[Frame]], None]) -> None:
        self._slots = slots
        self._receive = receive

    def charge(self, link: Link, frame: Frame) -> None:
        """Charge a child for a frame to the master itself. FrameError if the frame is too large."""
        size = len(frame.raw)
        if size > MAX_OWN_BYTES:
            raise FrameError(f"{link.address} sent {size} bytes to the master itself; the limit is {MAX_OWN_BYTES}")
        link.rests = link.ration.spend(price(frame, self._slots), asyncio.get_running_loop().time())
        if frame.kind is FrameKind.REQUEST and link.congested:
            link.rests = max(link.rests, UNREAD_REST)

    def hold(self, link: Link, rest: list[Frame]) -> None:
        """Take nothing more from a link that has to rest; `rest` are frames that have been read already."""
        if not link.was_rationed:
            link.was_rationed = True
            text = "%s sends the master itself too many requests and reports; it is slowed down to %d reports a second"
            _logger.warning(text, link, UNITS_PER_SECOND)
        link.held = rest
        link.slow_down(link.ration)
        asyncio.get_running_loop().call_later(link.rests, self._go_on, link)

    def relay_held(self, link: Link) -> None:
        """Relay what a child had sent to others before its channel closed. Its own requests and reports end with it."""
        link.rests = 0.0
        held, link.held = link.held, []
        self._receive(link, [frame for frame in held if not is_own(frame)])

    def _go_on(self, link: Link) -> None:
        link.rests = 0.0
        held, link.held = link.held, []
        self._receive(link, held)
        if not link.rests:
            link.speed_up(link.ration)
