"""The switchboard: relays frames between agent, app workers and parent without reading them. Runs in the master."""

import socket
from collections.abc import Callable, Iterable
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import MAX_MESSAGE_BYTES, Frame, decode_body, decode_message, encode_frame, read_limit
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES
from eggcluster.master.relay.flow import FlowControl
from eggcluster.master.relay.link import HIGH_WATER, Link
from eggcluster.master.relay.mailbox import LostMessages, Mailbox
from eggcluster.master.relay.relayed_requests import RelayedRequests
from eggcluster.master.relay.routing import Router, ShortCuts
from eggcluster.model.lives.worker import Worker
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import MASTER, PARENT, Address

Report = Callable[[Worker, str, dict[str, Any]], None]
Broken = Callable[[Worker, FrameError | None], None]
Ask = Callable[[Link, int, str, Any], None]
Observe = Callable[[Link, Frame], None]


class Switchboard:
    """Knows every channel and where each frame goes.

    A frame is checked before it is relayed: its source must be the one whose channel it came from, and a child may
    not speak the master's language; who breaks that is disconnected. `on_report` gets what children tell the
    master, `on_broken` whose channel is no good any more, `on_ask` the requests to the master itself.
    """

    def __init__(
        self,
        slots: int,
        on_report: Report,
        on_broken: Broken,
        on_ask: Ask,
        max_queue_bytes: int = MAX_QUEUE_BYTES,
    ) -> None:
        self.lost = LostMessages("went to nobody")
        self.dropped = LostMessages("dropped")
        self._on_report = on_report
        self._on_broken = on_broken
        self._on_ask = on_ask
        self._max_queue_bytes = max_queue_bytes
        self._links: list[Link] = []
        self._by_id: dict[int, Link] = {}
        self._live: dict[Address, Link] = {}
        self._addressing = Router(slots, self._live)
        self._booting: dict[Address, Link] = {}
        self._vacant: dict[Address, Mailbox] = {}  # for seats in which nobody sits at the moment
        self._flow = FlowControl(self._links)
        self._requests = RelayedRequests()
        self._short_cuts = ShortCuts(self._links, self._requests)
        self._observers: list[Observe] = []

    # -- connections -----------------------------------------------------------------------------------

    async def connect(
        self, sock: socket.socket, worker: Worker | None = None, max_bytes: int = MAX_MESSAGE_BYTES
    ) -> Link:
        """Take over the master's end of a channel: a worker's, or the parent's where `worker` is None."""
        link = self.expect(worker)
        await self.open(link, sock, max_bytes)
        return link

    def expect(self, worker: Worker | None) -> Link:
        """A link that is to be opened: from now on what is sent to its worker is kept for it."""
        self._short_cuts.forget()
        link = Link(worker.address if worker is not None else PARENT, worker, self._max_queue_bytes)
        self._links.append(link)
        if worker is not None and worker.worker_id is not None:
            self._by_id[worker.worker_id] = link
        (self._live if link.live else self._booting)[link.address] = link
        return link

    async def open(self, link: Link, sock: socket.socket, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        """Open an expected link over the master's end of its channel."""
        link.channel = await Channel.open(
            sock,
            lambda frames: self._receive(link, frames),
            lambda failure: self._on_closed(link, failure),
            read_limit(max_bytes),
            high_water=min(HIGH_WATER, self._max_queue_bytes // 2),
            on_relieved=lambda: self._flow.relieved(link),
            runs=not self._observers,
        )

    def go_live(self, worker: Worker) -> None:
        """The worker has started: it takes its seat, and gets what was kept for it."""
        link = self.link_of(worker)
        if link is None or link.live or link.gone.is_set():
            return  # it says so again, or has died since it said so
        self._short_cuts.forget()
        link.live = True
        if self._booting.get(link.address) is link:
            del self._booting[link.address]
        self._live[link.address] = link
        vacant = self._vacant.pop(link.address, None)
        for frame in [*(vacant.take() if vacant else ()), *link.mailbox.take()]:
            self._hand_over(link, frame, self._sitting_at(Address.unpack(frame.source)))

    def leave(self, worker: Worker) -> None:
        """The worker closes, and its successor starts only then: what is sent to its seat is kept from now on."""
        link = self.link_of(worker)
        if link is not None:
            self._vacate(link)

    def disconnect(self, worker: Worker, read: int | None = None) -> None:
        """The worker is dead: whoever waits for its answer is told so, what was kept for it is kept for the next.
        `read` is how many of the messages that were relayed to it it has read; None: all."""
        link = self.link_of(worker)
        if link is None:
            return
        self._links.remove(link)
        if worker.worker_id is not None and self._by_id.get(worker.worker_id) is link:
            del self._by_id[worker.worker_id]
        self._vacate(link)
        self._end_requests(link)
        self._flow.relieved(link)
        if read is not None and read < link.relayed:
            self.dropped.add(link.relayed - read, f"{worker} died before it had read them")
        if link.channel is not None:
            link.channel.close()

    def _vacate(self, link: Link) -> None:
        """Nobody can be reached over it any more: what was kept for it, and what comes now, is the next one's."""
        self._short_cuts.forget()
        for seats in (self._live, self._booting):
            if seats.get(link.address) is link:
                del seats[link.address]
        if link.address not in self._live:
            for frame in link.mailbox.take():
                if frame.target is Target.WORKER or not self._keep(link.address, frame):
                    self._lose(self._sitting_at(Address.unpack(frame.source)), frame, f"{link.worker} has died")

    def link_of(self, worker: Worker) -> Link | None:
        """The worker's link, None once it is disconnected."""
        return next((link for link in self._links if link.worker is worker), None)

    @property
    def parent(self) -> Link | None:
        """The link to the process that started the master, where there is one."""
        return self._live.get(PARENT)

    def _on_closed(self, link: Link, failure: FrameError | None) -> None:
        link.failure = failure
        link.gone.set()
        if link.worker is not None:
            self._vacate(link)  # not only once it is known dead: its children may take a while to end
            self._on_broken(link.worker, failure)
        elif self._live.get(PARENT) is link:
            self._short_cuts.forget()
            del self._live[PARENT]
            self._links.remove(link)
            self._end_requests(link)
        self._flow.relieved(link)

    # -- the master's own messages -----------------------------------------------------------------------

    def tell(self, addresses: Iterable[Address], action: str, data: Any) -> None:
        """Send a lifecycle message to those of `addresses` that are there."""
        for address in addresses:
            link = self._live.get(address)
            if link is not None:
                raw = encode_frame(FrameKind.EVENT, Target.ADDRESS, [action, data], target_id=address.pack())
                self._write_own(link, raw)

    def ask(self, address: Address, frame: Frame, asker: Link) -> bool:
        """Hand a request of the master's own to whoever lives at `address`; `asker` gets the answer. False: nobody."""
        receiver = self._live.get(address)
        return receiver is not None and self._hand_over(receiver, frame, asker)

    def answer(self, link: Link, request_id: int, kind: FrameKind, content: Any) -> None:
        """Answer a request that was made to the master."""
        raw = encode_frame(kind, Target.ADDRESS, content, source=MASTER.pack(), request_id=request_id)
        self._write_own(link, raw)

    def _write_own(self, link: Link, raw: bytes) -> None:
        if not link.write(raw) and not link.closed:
            link.dropped += 1
            self.dropped.add(1, f"{link.worker or link.address} does not read")

    def everyone(self) -> list[Address]:
        """All addresses with somebody live at them."""
        return list(self._live)

    # -- looking on ----------------------------------------------------------------------------------------

    def observe(self, observer: Observe) -> None:
        """Show every frame that is sent to `observer`, one by one, until `ignore`; it must not raise."""
        self._observers.append(observer)
        self._read_runs(False)

    def ignore(self, observer: Observe) -> None:
        """Show it nothing more."""
        self._observers.remove(observer)
        self._read_runs(not self._observers)

    def _read_runs(self, runs: bool) -> None:
        self._short_cuts.forget()
        for link in self._links:
            if link.channel is not None:
                link.channel.reader.runs = runs

    # -- relaying ----------------------------------------------------------------------------------------

    def _receive(self, link: Link, frames: list[Frame]) -> None:
        for frame in frames:
            try:
                self._accept(link, frame)
            except FrameError as error:
                link.failure = error
                if link.channel is not None:
                    link.channel.fail(error)
                return

    def _accept(self, link: Link, frame: Frame) -> None:
        if frame.source != link.packed:
            raise FrameError(f"{link.address} sent a frame as {frame.source:#x}")
        link.sent += frame.count
        for observer in self._observers:
            observer(link, frame)
        if frame.kind is FrameKind.MESSAGE or frame.kind is FrameKind.REQUEST:
            self._relay(link, frame)
        elif frame.kind is FrameKind.REPLY or frame.kind is FrameKind.FAILURE:
            self._relay_answer(link, frame)
        elif frame.kind is FrameKind.CANCEL:
            self.cancel(frame)
        elif frame.kind is FrameKind.REPORT and link.worker is not None:
            action, details = decode_body(frame.body, tuple[str, dict[str, Any]])
            self._on_report(link.worker, action, details)
        else:
            raise FrameError(f"{link.address} sent a frame of kind {frame.kind.name}, which only the master may")

    def _relay(self, link: Link, frame: Frame) -> None:
        if frame.target is Target.MASTER:
            self._ask_master(link, frame)
        elif frame.target is Target.WORKER:
            receiver = self._by_id.get(frame.target_id)
            if receiver is None or not self._deliver_to(receiver, frame, link):
                self._lose(link, frame)
        else:
            reached = False
            for address in self._addressing.seats(frame):
                reached = self._deliver(address, frame, link) or reached
            if not reached:
                self._lose(link, frame)

    def _deliver(self, address: Address, frame: Frame, asker: Link) -> bool:
        """Give a frame to whoever sits at `address`, or keep it for the one who will; False: it went nowhere."""
        live, booting = self._live.get(address), self._booting.get(address)
        if live is None:
            if booting is not None:
                return booting.mailbox.put(frame)
            return address is not PARENT and self._keep(address, frame)
        if booting is not None and frame.target in (Target.APPS, Target.ALL):
            booting.mailbox.put(frame)  # a successor that boots beside the old one must not miss a broadcast
        return self._hand_over(live, frame, asker)

    def _deliver_to(self, link: Link, frame: Frame, asker: Link) -> bool:
        return self._hand_over(link, frame, asker) if link.live else link.mailbox.put(frame)

    def _keep(self, address: Address, frame: Frame) -> bool:
        return self._vacant.setdefault(address, Mailbox(self._max_queue_bytes)).put(frame)

    def _hand_over(self, receiver: Link, frame: Frame, sender: Link | None) -> bool:
        if receiver.closed:
            return False
        asker = sender if frame.kind is FrameKind.REQUEST else None
        if asker is not None and not self._requests.open(frame.request_key, asker, receiver):
            self._drop(receiver, frame, sender, f"{asker.address} has too many open requests")
            return True
        # While the receiver reads, its queue is bounded by slowing its senders down: each of them may have sent
        # something large in the same turn, and none of that may be lost.
        if not receiver.write(frame.raw, bounded=sender is None or receiver.stalled):
            self._requests.cancelled(frame.request_key)
            self._drop(receiver, frame, sender, f"{receiver.worker or receiver.address} does not read")
            return True
        receiver.relayed += frame.count
        if sender is not None:
            self._written(sender, frame, receiver)
        return True

    def _written(self, sender: Link, frame: Frame, receiver: Link) -> None:
        if receiver.congested:
            self._flow.congested(sender, receiver)
        elif not self._observers:
            self._short_cuts.learn(sender, frame, receiver)

    def _sitting_at(self, address: Address) -> Link | None:
        """Who waits for the answer to a request that was kept: it may still be booting itself."""
        return self._live.get(address) or self._booting.get(address)

    def _drop(self, receiver: Link, frame: Frame, sender: Link | None, why: str) -> None:
        """There is no room for this frame."""
        receiver.dropped += frame.count
        self.dropped.add(frame.count, why)
        if frame.kind is FrameKind.REQUEST and sender is not None:
            self.answer(sender, frame.request_id, FrameKind.LOST, why)

    def _lose(self, sender: Link | None, frame: Frame, why: str = "") -> None:
        """Nobody gets this frame."""
        where = f"{frame.target.name.lower()} {frame.target_id or ''}".strip()
        name = sender.address if sender is not None else "somebody who has gone"
        self.lost.add(frame.count, f"{why or f'nobody there: {where}'}, from {name}")
        if frame.kind is FrameKind.REQUEST and sender is not None:
            self.answer(sender, frame.request_id, FrameKind.LOST, why or f"nobody there: {where}")

    # -- requests ----------------------------------------------------------------------------------------

    def _ask_master(self, link: Link, frame: Frame) -> None:
        try:
            action, data = decode_message(frame.body)
        except FrameError as error:
            if frame.kind is FrameKind.REQUEST:
                self.answer(link, frame.request_id, FrameKind.FAILURE, ["FrameError", str(error), ""])
            return
        if frame.kind is FrameKind.REQUEST:
            self._on_ask(link, frame.request_id, action, data)
        else:
            self.lost.add(1, f'the master does not listen to "{action}", from {link.address}')

    def _relay_answer(self, link: Link, frame: Frame) -> None:
        asker = self._requests.answered(frame.reply_key, link)
        if asker is None:
            return  # it is late, or was never asked for
        if not asker.write(frame.raw, bounded=asker.stalled):
            self._drop(asker, frame, None, f"{asker.worker or asker.address} does not read")
        else:
            self._written(link, frame, asker)

    def cancel(self, frame: Frame) -> None:
        """Whoever asked does not wait any more: tell the one who answers, or forget what was kept for it."""
        if (receiver := self._requests.cancelled(frame.request_key)) is not None:
            receiver.write(frame.raw)
            return
        for mailbox in [*self._vacant.values(), *(link.mailbox for link in self._booting.values())]:
            if mailbox.cancel(*frame.request_key):
                return

    def _end_requests(self, link: Link) -> None:
        """`link` is gone: nobody waits for it, and it waits for nobody."""
        for asker, request_id in self._requests.gone(link):
            text = f"{link.worker or link.address} died before it answered"
            self.answer(asker, request_id, FrameKind.LOST, text)
