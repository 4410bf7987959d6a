"""Routing: which links a frame goes to, and the short cuts for what was routed once. Runs in the master.

A small frame whose header differs from an earlier one's in nothing but length and request id goes the same way, until
somebody comes, goes or looks on. What is rare takes the long way: answers that are failures, cancellations, messages
to many or to a random one, and all that meets a queue.
"""

import random
from collections.abc import Collection, Iterable

from eggcluster.ipc.channel import Route
from eggcluster.ipc.frame import ROUTE, Frame, reply_key_of, request_key_of
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.relayed_requests import RelayedRequests
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import AGENT, PARENT, Address, Role, app


class Router:
    """Knows the seats of a cluster. `live` are those in which somebody sits now."""

    def __init__(self, slots: int, live: Collection[Address]) -> None:
        self._apps = {slot: app(slot) for slot in range(1, slots + 1)}
        self._live = live

    def seats(self, frame: Frame) -> Iterable[Address]:
        """Where a frame goes; nowhere for a target without a seat, such as a slot that is none."""
        match frame.target:
            case Target.AGENT:
                return [AGENT]
            case Target.PARENT:
                return [PARENT]
            case Target.APPS:
                return self._apps.values()
            case Target.ALL:
                return [AGENT, *self._apps.values()]
            case Target.SLOT if frame.target_id in self._apps:
                return [self._apps[frame.target_id]]
            case Target.RANDOM:
                listening = [address for address in self._live if address.role is Role.APP]
                return [random.choice(listening)] if listening else []
            case _:
                return []


_TO_ONE = frozenset((Target.AGENT, Target.PARENT, Target.SLOT, Target.WORKER, Target.ADDRESS))


class ShortCuts:
    """Belongs to the switchboard that has these `links` and `requests`."""

    def __init__(self, links: Iterable[Link], requests: RelayedRequests) -> None:
        self._links = links
        self._requests = requests

    def learn(self, sender: Link, frame: Frame, receiver: Link) -> None:
        """A frame of `sender` has just been relayed to `receiver`."""
        if sender.channel is None or receiver.channel is None or frame.target not in _TO_ONE:
            return  # who has no channel is the master itself
        if frame.kind is FrameKind.MESSAGE:
            way = _message_way(sender, receiver)
        elif frame.kind is FrameKind.REQUEST:
            way = _request_way(sender, receiver, self._requests)
        elif frame.kind is FrameKind.REPLY:
            way = _reply_way(sender, self._requests)
        else:
            return
        sender.channel.ways[bytes(frame.raw[ROUTE])] = way

    def forget(self) -> None:
        """Nothing is as it was."""
        for link in self._links:
            if link.channel is not None:
                link.channel.ways.clear()


def _message_way(sender: Link, receiver: Link) -> Route:
    pass_on = receiver.opened.pass_on

    def relay(raw: bytes) -> bool:
        if not pass_on(raw):
            return False
        sender.sent += 1
        receiver.relayed += 1
        return True

    return relay


def _request_way(sender: Link, receiver: Link, requests: RelayedRequests) -> Route:
    pass_on = receiver.opened.pass_on

    def relay(raw: bytes) -> bool:
        key = request_key_of(raw)
        if not requests.open(key, sender, receiver):
            return False
        if not pass_on(raw):
            requests.cancelled(key)
            return False
        sender.sent += 1
        receiver.relayed += 1
        return True

    return relay


def _reply_way(sender: Link, requests: RelayedRequests) -> Route:
    def relay(raw: bytes) -> bool:
        key = reply_key_of(raw)
        asker = requests.answered(key, sender)
        if asker is None:
            return False
        if not asker.opened.pass_on(raw):
            requests.open(key, asker, sender)  # the long way closes it again
            return False
        sender.sent += 1
        return True

    return relay
