"""What a dead worker has not begun goes to its successor; what it had begun is named. Runs in the master."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from eggcluster.ipc.frame import Frame
from eggcluster.master.relay.ledger import Unread
from eggcluster.master.relay.link import KeptFrame, Link
from eggcluster.master.relay.routing import RelayedRequests, Router
from eggcluster.model.messages.begun import Begun
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import Address
from eggcluster.wording import printable

Deliver = Callable[[Address, Frame, Link | None], bool]
HandOver = Callable[[Link, Frame, Link | None], bool]
Lose = Callable[[Link | None, Frame, str], None]

_logger = logging.getLogger("eggcluster.master")


class Redelivery:
    """Hands on what was relayed to a worker that is dead. The three functions are the switchboard's."""

    def __init__(
        self, router: Router, requests: RelayedRequests, deliver: Deliver, hand_over: HandOver, lose: Lose
    ) -> None:
        self._router = router
        self._requests = requests
        self._deliver = deliver
        self._hand_over = hand_over
        self._lose = lose

    def hand_on(self, link: Link, begun: Begun) -> None:
        """Give each message that has not begun to its next receiver, in their order: to the worker that is live at the
        same address, or to the next one before anything newer; one to a random worker, to another one. Log which had
        begun. Requests that are not handed on stay open.
        """
        names, unread = link.ledger.close(begun)
        if names:
            _logger.warning("%s died while it handled %s: not repeated", link, _listed(names))
        own: list[tuple[Unread, Link | None]] = []
        for each in unread:
            wanted, sender = self._claim(link, each.frame)
            if wanted and (each.frame.target is not Target.RANDOM or not self._give_to_another(each.frame, sender)):
                own.append((each, sender))
        self._give_to_successor(link, own)

    def _claim(self, link: Link, frame: Frame) -> tuple[bool, Link | None]:
        """Return whether the frame is to be handed on, and its requester."""
        if frame.kind is FrameKind.REQUEST:
            if frame.target in (Target.WORKER, Target.ADDRESS):
                return False, None  # it was meant for this worker alone, and fails with it
            requester = self._requests.answered(frame.request_key, link)  # closed; opened anew when it is handed over
            return requester is not None, requester
        if frame.target is Target.WORKER:
            self._lose(None, frame, f"{link} died before it began it")
            return False, None
        return True, None

    def _give_to_another(self, frame: Frame, sender: Link | None) -> bool:
        return any(self._deliver(address, frame, sender) for address in self._router.addresses(frame))

    def _give_to_successor(self, link: Link, unread: Sequence[tuple[Unread, Link | None]]) -> None:
        live, booting = self._router.live.get(link.address), self._router.booting.get(link.address)
        if live is not None:
            for each, sender in unread:
                if _copy_of(link, each) is None and not self._hand_over(live, each.frame, sender):
                    self._lose(sender, each.frame, f"{live} has gone")
            return
        kept: list[KeptFrame] = []
        copies = 0
        for each, sender in unread:
            copy = _copy_of(link, each)
            if copy is not None and copy is booting:  # in this place among the others, not in front of them
                copies += 1
                kept.append((each.whole, sender))
            elif copy is None:
                kept.append((each.frame, sender))
        for frame, sender in self._router.keep_early(link.address, kept, copies):
            self._lose(sender, frame, f"{link} has died, and too much waits for its successor")


def _copy_of(link: Link, unread: Unread) -> Link | None:
    """Return the link of the successor that has its own copy of a broadcast."""
    copy = link.copies.get(unread.number)
    return None if copy is None or copy.never_lived else copy


def _listed(names: Sequence[str]) -> str:
    many = Counter(names)
    return printable(", ".join(name if count == 1 else f"{name} ({count} times)" for name, count in many.items()))
