"""The switchboard: relays frames between agent, app workers and parent by their headers. Runs in the master."""

import socket
from collections.abc import Callable, Iterable
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import MAX_MESSAGE_BYTES, Frame, decode_body, decode_message, encode_frame, read_limit
from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES
from eggcluster.master.relay.link import HIGH_WATER, FlowControl, Link, LostMessages
from eggcluster.master.relay.observers import Observers
from eggcluster.master.relay.rationing import Rationing
from eggcluster.master.relay.redelivery import Redelivery
from eggcluster.master.relay.routing import RelayedRequests, Router, ShortCuts
from eggcluster.model.lives.worker import Worker
from eggcluster.model.messages.begun import Begun
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import MASTER, PARENT, Address, Role

OnReport = Callable[[Worker, str, dict[str, Any]], None]
OnBroken = Callable[[Worker, FrameError | None], None]
OnRequest = Callable[[Link, int, str, Any], None]


class Switchboard:
    """Knows every channel and where each frame goes.

    A frame is checked before it is relayed: its source must be the process at the other end of its channel, and only
    the master may send the master's kinds of frames. A process that breaks either rule is disconnected.

    Requests and reports to the master itself are rationed. From a child that has spent its ration nothing is read for a
    while; nothing is lost.

    `on_report` gets what workers report to the master, `on_request` the requests to the master itself. `on_broken` is
    called when a worker's channel is closed or has broken the protocol.
    """

    def __init__(
        self,
        slots: int,
        on_report: OnReport,
        on_broken: OnBroken,
        on_request: OnRequest,
        max_queue_bytes: int = MAX_QUEUE_BYTES,
    ) -> None:
        self.lost = LostMessages("not delivered")
        self.dropped = LostMessages("dropped")
        self._on_report = on_report
        self._on_broken = on_broken
        self._on_request = on_request
        self._max_queue_bytes = max_queue_bytes
        self._router = Router(slots, max_queue_bytes)
        self._flow = FlowControl(self._router.links)
        self._rationing = Rationing(slots, self._receive)
        self._requests = RelayedRequests()
        self._short_cuts = ShortCuts(self._router.links, self._requests)
        self.observers = Observers(self._router.links, self._short_cuts)
        self._redelivery = Redelivery(self._router, self._requests, self._deliver, self._hand_over, self._lose)

    # -- links -------------------------------------------------------------------------------------------

    async def connect(
        self, sock: socket.socket, worker: Worker | None = None, max_bytes: int = MAX_MESSAGE_BYTES
    ) -> Link:
        """Take over the master's end of a channel to the parent (None), or to a worker without a heartbeat page."""
        link = self.add_link(worker)
        await self.open_link(link, sock, max_bytes)
        return link

    def add_link(self, worker: Worker | None, page: HeartbeatPage | None = None) -> Link:
        """Return a new link, to be opened later. Messages to its worker are kept for it from now on. `page` tells which
        of them have begun."""
        self._short_cuts.clear()
        return self._router.add(worker, page)

    async def open_link(self, link: Link, sock: socket.socket, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        """Open an added link over the master's end of its channel. Its worker has its id by now."""
        self._router.open(link)
        link.channel = await Channel.open(
            sock,
            lambda frames: self._receive(link, frames),
            lambda failure: self._on_closed(link, failure),
            read_limit(max_bytes),
            high_water=min(HIGH_WATER, self._max_queue_bytes // 2),
            on_relieved=lambda: self._flow.relieved(link),
            runs=not self.observers,
        )

    def go_live(self, worker: Worker) -> None:
        """Deliver to a worker that has started, first what was kept for it. A second call does nothing."""
        link = self.link_of(worker)
        if link is None or link.live or link.gone.is_set():
            return  # the report came twice, or the worker has died meanwhile
        self._short_cuts.clear()
        for frame, sender in self._router.go_live(link):
            self._hand_over(link, frame, sender)

    def keep_for_successor(self, worker: Worker) -> None:
        """Keep new messages to the worker's address for its successor, because it closes before that starts."""
        link = self.link_of(worker)
        if link is not None:
            self._vacate(link)

    def disconnect(self, worker: Worker, begun: Begun) -> None:
        """Remove the link of a dead worker. The messages and requests that it had not begun are handed on; requests
        that it had begun fail."""
        link = self.link_of(worker)
        if link is None:
            return
        self._vacate(link)
        self._router.remove(link)
        self._redelivery.hand_on(link, begun)
        self._end_requests(link)
        self._flow.relieved(link)
        if link.channel is not None:
            link.channel.close()

    def link_of(self, worker: Worker) -> Link | None:
        """Return the worker's link, None once it is disconnected."""
        return next((link for link in self._router.links if link.worker is worker), None)

    def forget_begun(self) -> None:
        """Drop what has begun from the ledgers of workers to which nothing more is sent."""
        for link in self._router.links:
            link.forget_begun()

    def lose_kept(self) -> None:
        """Count as lost what is kept for workers that will never start: the cluster closes."""
        for address, mailbox in self._router.kept.items():
            if count := len(mailbox):
                self.lost.add(count, f"no {address} follows, the cluster closes")

    @property
    def parent(self) -> Link | None:
        """The link to the process that started the master; None if there is none."""
        return self._router.live.get(PARENT)

    def live_addresses(self) -> list[Address]:
        """Return all addresses with a live worker, and the parent's."""
        return list(self._router.live)

    def _vacate(self, link: Link) -> None:
        self._short_cuts.clear()
        for frame, sender in self._router.vacate(link):
            self._lose(sender, frame, f"{link.worker} has died")

    def _on_closed(self, link: Link, failure: FrameError | None) -> None:
        link.failure = failure
        self._rationing.relay_held(link)
        link.gone.set()
        if link.worker is not None:
            self._vacate(link)  # now, and not when it is known dead: its children may take a while to end
            self._on_broken(link.worker, failure)
        elif self.parent is link:
            self._vacate(link)
            self._router.remove(link)
            self._end_requests(link)
        self._flow.relieved(link)

    # -- the master's own messages -----------------------------------------------------------------------

    def tell(self, addresses: Iterable[Address], action: str, data: Any) -> None:
        """Send a lifecycle message to those of `addresses` that are live."""
        for address in addresses:
            link = self._router.live.get(address)
            if link is not None:
                raw = encode_frame(FrameKind.EVENT, Target.ADDRESS, [action, data], target_id=address.pack())
                self._write_own(link, raw)

    def tell_apps(self, action: str, data: Any) -> None:
        """Send an event to every app worker that has a channel, whether it is live or boots."""
        for link in self._router.links:
            if link.address.role is Role.APP and link.worker is not None:
                self.tell_worker(link.worker, action, data)

    def tell_worker(self, worker: Worker, action: str, data: Any) -> None:
        """Send an event to this very worker, if it has a channel, although its address may be its successor's."""
        if (link := self.link_of(worker)) is not None:
            raw = encode_frame(FrameKind.EVENT, Target.ADDRESS, [action, data], target_id=link.packed)
            self._write_own(link, raw)

    def ask(self, address: Address, frame: Frame, requester: Link) -> bool:
        """Send a request of the master's own to `address`; `requester` gets the answer. Return False if no worker is
        live there."""
        receiver = self._router.live.get(address)
        return receiver is not None and self._hand_over(receiver, frame, requester)

    def answer(self, link: Link, request_id: int, kind: FrameKind, content: Any) -> None:
        """Answer a request that was made to the master."""
        raw = encode_frame(kind, Target.ADDRESS, content, source=MASTER.pack(), request_id=request_id)
        self._write_own(link, raw)

    def _write_own(self, link: Link, raw: bytes) -> None:
        if not link.write(raw) and not link.closed:
            link.dropped += 1
            self.dropped.add(1, f"{link} does not read")

    # -- relaying ----------------------------------------------------------------------------------------

    def _receive(self, link: Link, frames: list[Frame]) -> None:
        if link.rests:
            link.held += frames
            return
        for number, frame in enumerate(frames):
            try:
                self._accept(link, frame)
            except FrameError as error:
                link.failure = error
                if link.channel is not None:
                    link.channel.fail(error)
                return
            if link.rests:
                self._rationing.hold(link, frames[number + 1 :])
                return

    def _accept(self, link: Link, frame: Frame) -> None:
        if frame.source != link.packed:
            raise FrameError(f"{link.address} sent a frame in the name of {frame.source:#x}")
        link.sent += frame.count
        if self.observers:
            self.observers.show(link, frame)
        if frame.kind is FrameKind.MESSAGE or frame.kind is FrameKind.REQUEST:
            self._relay(link, frame)
        elif frame.kind is FrameKind.REPLY or frame.kind is FrameKind.FAILURE:
            self._relay_answer(link, frame)
        elif frame.kind is FrameKind.CANCEL:
            self.cancel(frame)
        elif frame.kind is FrameKind.REPORT and link.worker is not None:
            self._rationing.charge(link, frame)
            action, details = decode_body(frame.body, tuple[str, dict[str, Any]])
            self._on_report(link.worker, action, details)
        else:
            raise FrameError(f"{link.address} sent a frame of kind {frame.kind.name}, which only the master may send")

    def _relay(self, link: Link, frame: Frame) -> None:
        if frame.target is Target.MASTER:
            self._receive_own(link, frame)
        elif frame.target is Target.WORKER:
            receiver = self._router.by_worker_id.get(frame.target_id)
            if receiver is None or not self._deliver_to(receiver, frame, link):
                self._lose(link, frame)
        else:
            reached = False
            for address in self._router.addresses(frame):
                reached = self._deliver(address, frame, link) or reached
            if not reached:
                self._lose(link, frame)

    def _deliver(self, address: Address, frame: Frame, requester: Link | None) -> bool:
        """Give a frame to the live worker at `address`, or keep it for the next one. Return False if neither works."""
        live, booting = self._router.live.get(address), self._router.booting.get(address)
        if live is None:
            if booting is not None:
                return booting.mailbox.put(frame, requester)
            return address is not PARENT and self._router.keep(address, frame, requester)
        number = live.relayed + 1
        reached = self._hand_over(live, frame, requester)
        # A successor that boots beside the old one must not miss a broadcast.
        is_missed = booting is not None and frame.target in (Target.APPS, Target.ALL)
        if booting is not None and is_missed and booting.mailbox.put_copy(frame, requester) and live.relayed >= number:
            live.copies[number] = booting
        return reached

    def _deliver_to(self, link: Link, frame: Frame, requester: Link) -> bool:
        return self._hand_over(link, frame, requester) if link.live else link.mailbox.put(frame, requester)

    def _hand_over(self, receiver: Link, frame: Frame, sender: Link | None) -> bool:
        if receiver.closed:
            return False
        requester = sender if frame.kind is FrameKind.REQUEST else None
        if requester is not None and not self._requests.open(frame.request_key, requester, receiver):
            self._drop(receiver, frame, sender, f"{requester.address} has too many open requests")
            return True
        # While the receiver reads, its queue is bounded by slowing its senders down: each of them may have sent
        # something large in the same turn, and none of that may be lost.
        if not receiver.write(frame.raw, bounded=sender is None or receiver.not_reading):
            self._requests.cancelled(frame.request_key)
            self._drop(receiver, frame, sender, f"{receiver} does not read")
            return True
        receiver.keep(frame)
        if sender is not None:
            self._on_written(sender, frame, receiver)
        return True

    def _on_written(self, sender: Link, frame: Frame, receiver: Link) -> None:
        if receiver.congested:
            self._flow.congested(sender, receiver)
        elif not self.observers:
            self._short_cuts.learn(sender, frame, receiver)

    def _drop(self, receiver: Link, frame: Frame, sender: Link | None, why: str) -> None:
        """Count a frame for which there is no room."""
        receiver.dropped += frame.count
        self.dropped.add(frame.count, why)
        if frame.kind is FrameKind.REQUEST and sender is not None:
            self.answer(sender, frame.request_id, FrameKind.LOST, why)

    def _lose(self, sender: Link | None, frame: Frame, why: str = "") -> None:
        """Count a frame that has no receiver."""
        where = f"{frame.target.name.lower()} {frame.target_id or ''}".strip()
        name = sender.address if sender is not None else "a sender that has gone"
        self.lost.add(frame.count, f"{why or f'no receiver: {where}'}, from {name}")
        if frame.kind is FrameKind.REQUEST and sender is not None:
            self.answer(sender, frame.request_id, FrameKind.LOST, why or f"no receiver: {where}")

    # -- requests ----------------------------------------------------------------------------------------

    def _receive_own(self, link: Link, frame: Frame) -> None:
        """Handle a frame to the master itself."""
        self._rationing.charge(link, frame)
        try:
            action, data = decode_message(frame.body)
        except FrameError as error:
            if frame.kind is FrameKind.REQUEST:
                self.answer(link, frame.request_id, FrameKind.FAILURE, ["FrameError", str(error), ""])
            return
        if frame.kind is FrameKind.REQUEST:
            self._on_request(link, frame.request_id, action, data)
        else:
            self.lost.add(1, f'the master does not listen to "{action}", from {link.address}')

    def _relay_answer(self, link: Link, frame: Frame) -> None:
        requester = self._requests.answered(frame.reply_key, link)
        if requester is None:
            return  # the answer is late, or there was no such request
        if not requester.write(frame.raw, bounded=requester.not_reading):
            self._drop(requester, frame, None, f"{requester} does not read")
        else:
            self._on_written(link, frame, requester)

    def cancel(self, frame: Frame) -> None:
        """Cancel a request, because its requester no longer waits: tell its receiver, or drop it from the mailbox."""
        if (receiver := self._requests.cancelled(frame.request_key)) is not None:
            receiver.write(frame.raw)
        else:
            self._router.cancel_kept(frame.request_key)

    def _end_requests(self, link: Link) -> None:
        """Close the requests from and to `link`, which is gone. The requesters that wait for it get LOST."""
        for requester, request_id in self._requests.close_all_of(link):
            self.answer(requester, request_id, FrameKind.LOST, f"{link} died before it answered")
