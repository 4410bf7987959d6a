"""A cluster's wires in one event loop: a switchboard, and children at the other ends of real socket pairs."""

import socket
import weakref
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import Frame, encode_frame
from eggcluster.ipc.handler_progress import HandlerProgress
from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.ipc.messenger import Messenger
from eggcluster.ipc.outbox import MAX_QUEUE_BYTES
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.model.lives.worker import AgentWorker, AppWorker, Worker
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import PARENT, Address
from tests.waiting import until as until


class Child:
    """What a worker (or the parent) has: a channel and a messenger. `got` is every "note" that came."""

    def __init__(self, address: Address, worker: Worker | None) -> None:
        self.address = address
        self.worker = worker
        self.messenger = Messenger(address.role)
        self.messenger.on("note", lambda data: self.got.append(data))
        self.got: list[Any] = []
        self.frames: list[Frame] = []
        self.closed = False
        self.channel: Channel
        self.page: HeartbeatPage | None = None if worker is None else HeartbeatPage.create("test")
        if self.page is not None:
            weakref.finalize(self, self.page.close)  # else each test would leave descriptors open

    async def attach(self, sock: socket.socket) -> None:
        self.channel = await Channel.open(sock, self._on_frames, self._on_closed)
        progress = None if self.page is None else HandlerProgress(self.page.messages)
        self.messenger.attach(self.channel, self.address, progress=progress)

    def write(self, kind: FrameKind, target: Target, content: Any, **more: int) -> None:
        """A frame as no messenger would send it."""
        self.channel.write(encode_frame(kind, target, content, **{"source": self.address.pack(), **more}))

    def _on_frames(self, frames: list[Frame]) -> None:
        self.frames += frames
        for frame in frames:
            self.messenger.receive(frame)

    def _on_closed(self, failure: FrameError | None) -> None:
        self.closed = True
        self.messenger.detach()


class Wires:
    """The switchboard, and what it tells the master."""

    def __init__(self, slots: int = 2, max_queue_bytes: int = MAX_QUEUE_BYTES) -> None:
        self.switchboard = Switchboard(slots, self._on_report, self._on_broken, self._on_ask, max_queue_bytes)
        self.reports: list[tuple[Worker, str]] = []
        self.broken: list[tuple[Worker, FrameError | None]] = []
        self._last_id = 100

    async def agent(self, live: bool = True) -> Child:
        return await self.join(AgentWorker(0, 1, 0, 60), live)

    async def app(self, slot: int, live: bool = True) -> Child:
        return await self.join(AppWorker(slot, 1, 0, 60), live)

    async def parent(self) -> Child:
        return await self.join(None, True)

    async def join(self, worker: Worker | None, live: bool) -> Child:
        child = Child(worker.address if worker is not None else PARENT, worker)
        ours, theirs = socket.socketpair()
        if worker is not None:
            worker.worker_id = self._last_id = self._last_id + 1
        link = self.switchboard.add_link(worker, child.page)
        await self.switchboard.open_link(link, ours)
        await child.attach(theirs)
        if live and worker is not None:
            self.switchboard.go_live(worker)
        return child

    def go_live(self, child: Child) -> None:
        assert child.worker is not None
        self.switchboard.go_live(child.worker)

    def dies(self, child: Child) -> None:
        """The child is known dead."""
        assert child.worker is not None
        assert child.page is not None
        self.switchboard.disconnect(child.worker, child.page.begun())

    def link(self, child: Child) -> Link:
        assert child.worker is not None
        link = self.switchboard.link_of(child.worker)
        assert link is not None
        return link

    def _on_report(self, worker: Worker, action: str, details: dict[str, Any]) -> None:
        self.reports.append((worker, action))

    def _on_broken(self, worker: Worker, error: FrameError | None) -> None:
        self.broken.append((worker, error))

    def _on_ask(self, link: Link, request_id: int, action: str, data: Any) -> None:
        self.switchboard.answer(link, request_id, FrameKind.REPLY, [action, data])
