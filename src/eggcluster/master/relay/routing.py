"""Routing: which link a frame goes to, which requests are open, and learned short cuts. Runs in the master.

Short cuts: a small frame that differs from an earlier one only in its body and request id goes the same way as that
one, past the switchboard. Once a worker comes or goes, or a watcher comes, frames take the long way again. Rare frames
always take it: failures, cancellations, messages to many or to a random worker; so do frames during congestion.
The master's short cuts save 13 of the 108 µs of CPU time that a small request and its answer cost all three processes.
EGG_NO_SHORT_CUTS=1 turns them off (ipc/channel.py), so that a breakpoint in the switchboard sees every frame.
"""

import random
from collections.abc import Iterable, Iterator, Sequence

from eggcluster.ipc.channel import ShortCut
from eggcluster.ipc.frame import Frame, RequestKey, reply_key_of, request_key_of
from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES
from eggcluster.master.relay.link import KeptFrame, Link, Mailbox
from eggcluster.model.lives.worker import Worker
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import AGENT, PARENT, Address, Role, app

MAX_OPEN_REQUESTS = 65_536  # of one requester; with more it has long stopped waiting, without cancelling


class Router:
    """The links of a cluster, by address. At an address at most one link is live and at most one is booting."""

    def __init__(self, slots: int, max_queue_bytes: int = MAX_QUEUE_BYTES) -> None:
        self.links: list[Link] = []
        self.live: dict[Address, Link] = {}
        self.booting: dict[Address, Link] = {}
        self.by_worker_id: dict[int, Link] = {}
        self.kept: dict[Address, Mailbox] = {}  # for addresses without a live or booting worker
        self._apps = {slot: app(slot) for slot in range(1, slots + 1)}
        self._max_queue_bytes = max_queue_bytes

    def add(self, worker: Worker | None, page: HeartbeatPage | None = None) -> Link:
        """Return a new link to a worker that starts now, or to the parent (None)."""
        link = Link(worker.address if worker is not None else PARENT, worker, self._max_queue_bytes, page)
        self.links.append(link)
        (self.live if link.live else self.booting)[link.address] = link
        return link

    def open(self, link: Link) -> None:
        """Let the worker of `link` be found by its worker id, which it has by now."""
        if link.worker is not None and link.worker.worker_id is not None:
            self.by_worker_id[link.worker.worker_id] = link

    def go_live(self, link: Link) -> list[KeptFrame]:
        """Make `link` the live one at its address; return the frames that were kept for it, the oldest first."""
        link.live = True
        if self.booting.get(link.address) is link:
            del self.booting[link.address]
        self.live[link.address] = link
        kept = self.kept.pop(link.address, None)
        return [*(kept.take() if kept else ()), *link.mailbox.take()]

    def vacate(self, link: Link) -> list[KeptFrame]:
        """Make `link` unreachable by its address. Frames that were kept for it are kept for its successor; return those
        that cannot be kept."""
        for table in (self.live, self.booting):
            if table.get(link.address) is link:
                del table[link.address]
        if link.address in self.live:
            link.never_lived = True  # all that waited for it were copies of what the live one has got
            return []
        return [
            (frame, sender)
            for frame, sender in link.mailbox.take()
            if frame.target is Target.WORKER or not self.keep(link.address, frame, sender)
        ]

    def remove(self, link: Link) -> None:
        """Drop a vacated link, because its process is gone."""
        self.links.remove(link)
        worker_id = link.worker.worker_id if link.worker is not None else None
        if worker_id is not None and self.by_worker_id.get(worker_id) is link:
            del self.by_worker_id[worker_id]

    def keep(self, address: Address, frame: Frame, sender: Link | None) -> bool:
        """Keep a frame for the next worker at `address`; return False if there is no room for it."""
        return self._kept_at(address).put(frame, sender)

    def keep_early(self, address: Address, frames: Sequence[KeptFrame], instead_of: int) -> Sequence[KeptFrame]:
        """Keep what a worker has left for its successor, before anything newer; return what there is no room for. The
        successor that boots has its own copies of the last `instead_of` broadcasts before."""
        booting = self.booting.get(address)
        if booting is not None and address not in self.kept:
            return booting.mailbox.put_early(frames, instead_of)
        return self._kept_at(address).put_early(frames)

    def _kept_at(self, address: Address) -> Mailbox:
        return self.kept.setdefault(address, Mailbox(self._max_queue_bytes))

    def cancel_kept(self, key: RequestKey) -> None:
        """Drop a request that waits in a mailbox."""
        for mailbox in [*self.kept.values(), *(link.mailbox for link in self.booting.values())]:
            if mailbox.cancel(key):
                return

    def addresses(self, frame: Frame) -> Iterable[Address]:
        """Return the addresses that a frame goes to; none if there is no such address, as for an unknown slot."""
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
                listening = [address for address in self.live if address.role is Role.APP]
                return [random.choice(listening)] if listening else []
            case _:
                return []


class RelayedRequests:
    """Requests that wait for an answer, each with its requester and its receiver: pure bookkeeping.

    It is bounded: a requester with too many open requests opens no more.
    """

    def __init__(self) -> None:
        self._open: dict[RequestKey, tuple[Link, Link]] = {}  # requester, receiver

    def open(self, key: RequestKey, requester: Link, receiver: Link) -> bool:
        """Note a request of `requester` to `receiver`; return False if the requester has too many open already."""
        if requester.open_requests >= MAX_OPEN_REQUESTS:
            return False
        requester.open_requests += 1
        self._open[key] = (requester, receiver)
        return True

    def answered(self, key: RequestKey, receiver: Link) -> Link | None:
        """Close the request that `receiver` answered and return its requester; None if `receiver` was not asked."""
        found = self._open.get(key)
        if found is None or found[1] is not receiver:
            return None
        return self._close(key)[0]

    def cancelled(self, key: RequestKey) -> Link | None:
        """Close a cancelled request; return its receiver, None if no receiver has it."""
        return self._close(key)[1] if key in self._open else None

    def close_all_of(self, link: Link) -> list[tuple[Link, int]]:
        """Close all requests from and to `link`, which is gone. Return the requesters that wait for it, each with its
        number for the request."""
        keys = [key for key, pair in self._open.items() if link in pair]
        closed = [(self._close(key)[0], key[1]) for key in keys]
        return [(requester, request_id) for requester, request_id in closed if requester is not link]

    def _close(self, key: RequestKey) -> tuple[Link, Link]:
        pair = self._open.pop(key)
        pair[0].open_requests -= 1
        return pair

    def __iter__(self) -> Iterator[RequestKey]:
        return iter(self._open)

    def __len__(self) -> int:
        return len(self._open)


_SINGLE_TARGETS = frozenset((Target.AGENT, Target.PARENT, Target.SLOT, Target.WORKER, Target.ADDRESS))


class ShortCuts:
    """Puts a function into the sender's channel for each way that frames have taken (`Channel.short_cuts`)."""

    def __init__(self, links: Iterable[Link], requests: RelayedRequests) -> None:
        self._links = links
        self._requests = requests

    def learn(self, sender: Link, frame: Frame, receiver: Link) -> None:
        """Learn from a frame of `sender` that has just been relayed to `receiver`."""
        if sender.channel is None or receiver.channel is None or frame.target not in _SINGLE_TARGETS:
            return  # a link without a channel is the master's own
        if frame.kind is FrameKind.MESSAGE:
            way = _message_way(sender, receiver)
        elif frame.kind is FrameKind.REQUEST:
            way = _request_way(sender, receiver, self._requests)
        elif frame.kind is FrameKind.REPLY:
            way = _reply_way(sender, self._requests)
        else:
            return
        sender.channel.learn(frame, way)

    def clear(self) -> None:
        """Remove all short cuts: a link has come or gone, or a watcher has come."""
        for link in self._links:
            if link.channel is not None:
                link.channel.short_cuts.clear()


def _message_way(sender: Link, receiver: Link) -> ShortCut:
    pass_on, ledger, entries = receiver.opened.pass_on, receiver.ledger, receiver.ledger.entries

    def relay(raw: bytes) -> bool:
        if not pass_on(raw):
            return False
        sender.sent += 1
        receiver.relayed += 1
        entries.append(raw)
        if len(entries) > ledger.limit:
            receiver.forget_begun()
        return True

    return relay


def _request_way(sender: Link, receiver: Link, requests: RelayedRequests) -> ShortCut:
    pass_on, ledger, entries = receiver.opened.pass_on, receiver.ledger, receiver.ledger.entries

    def relay(raw: bytes) -> bool:
        key = request_key_of(raw)
        if not requests.open(key, sender, receiver):
            return False
        if not pass_on(raw):
            requests.cancelled(key)
            return False
        sender.sent += 1
        receiver.relayed += 1
        entries.append(raw)
        if len(entries) > ledger.limit:
            receiver.forget_begun()
        return True

    return relay


def _reply_way(sender: Link, requests: RelayedRequests) -> ShortCut:
    def relay(raw: bytes) -> bool:
        key = reply_key_of(raw)
        requester = requests.answered(key, sender)
        if requester is None:
            return False
        if not requester.opened.pass_on(raw):
            requests.open(key, requester, sender)  # the long way closes it again
            return False
        sender.sent += 1
        return True

    return relay
