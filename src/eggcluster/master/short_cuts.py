"""Short cuts through the switchboard: what was judged once is not judged again. Runs in the master.

A small frame whose header differs from an earlier one's in nothing but length and request id goes the same way, until
somebody comes, goes or looks on. What is rare takes the long way: answers that are failures, cancellations, messages
to many or to a random one, and all that meets a queue.
"""

from collections.abc import Iterable

from eggcluster.ipc.channel import Way
from eggcluster.ipc.frame import WAY, Frame, answered_by, question_of
from eggcluster.master.link import Link
from eggcluster.master.open_requests import OpenRequests
from eggcluster.model.message import Kind, Target

_TO_ONE = frozenset((Target.AGENT, Target.PARENT, Target.SLOT, Target.WORKER, Target.ADDRESS))


class ShortCuts:
    """Belongs to the switchboard that has these `links` and `requests`."""

    def __init__(self, links: Iterable[Link], requests: OpenRequests) -> None:
        self._links = links
        self._requests = requests

    def learn(self, sender: Link, frame: Frame, receiver: Link) -> None:
        """A frame of `sender` has just been relayed to `receiver`."""
        if sender.channel is None or receiver.channel is None or frame.target not in _TO_ONE:
            return  # who has no channel is the master itself
        if frame.kind is Kind.MESSAGE:
            way = _message_way(sender, receiver)
        elif frame.kind is Kind.REQUEST:
            way = _request_way(sender, receiver, self._requests)
        elif frame.kind is Kind.REPLY:
            way = _reply_way(sender, self._requests)
        else:
            return
        sender.channel.ways[bytes(frame.raw[WAY])] = way

    def forget(self) -> None:
        """Nothing is as it was."""
        for link in self._links:
            if link.channel is not None:
                link.channel.ways.clear()


def _message_way(sender: Link, receiver: Link) -> Way:
    pass_on = receiver.opened.pass_on

    def relay(raw: bytes) -> bool:
        if not pass_on(raw):
            return False
        sender.sent += 1
        receiver.relayed += 1
        return True

    return relay


def _request_way(sender: Link, receiver: Link, requests: OpenRequests) -> Way:
    pass_on = receiver.opened.pass_on

    def relay(raw: bytes) -> bool:
        key = question_of(raw)
        if not requests.open(key, sender, receiver):
            return False
        if not pass_on(raw):
            requests.cancelled(key)
            return False
        sender.sent += 1
        receiver.relayed += 1
        return True

    return relay


def _reply_way(sender: Link, requests: OpenRequests) -> Way:
    def relay(raw: bytes) -> bool:
        key = answered_by(raw)
        asker = requests.answered(key, sender)
        if asker is None:
            return False
        if not asker.opened.pass_on(raw):
            requests.open(key, asker, sender)  # the long way closes it again
            return False
        sender.sent += 1
        return True

    return relay
