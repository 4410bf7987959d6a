"""Watching the cluster over the control socket: `eggcluster events` and `messages`. Runs in the master."""

import asyncio
import time
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.ipc.frame import Frame, decode_message
from eggcluster.master.relay.link import Link
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import Address

MAX_QUEUED = 10_000  # descriptions; a watcher that falls back further misses some, and learns how many


class Watcher:
    """A bounded queue of descriptions. Those that do not fit are only counted, so a watcher slows nothing down."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_QUEUED)
        self._missed = 0

    def show(self, description: dict[str, Any]) -> None:
        """Queue a description of what has happened."""
        try:
            self._queue.put_nowait(description)
        except asyncio.QueueFull:
            self._missed += 1

    async def next(self) -> dict[str, Any]:
        """Wait for the next description; `missed` in it says how many were left out before it."""
        description = await self._queue.get()
        missed, self._missed = self._missed, 0
        return {**description, "missed": missed} if missed else description


class MessageWatcher(Watcher):
    """A watcher of frames. With `payload`, its descriptions hold the data, as text."""

    def __init__(self, payload: bool) -> None:
        super().__init__()
        self._payload = payload

    def see(self, sender: Link, frame: Frame) -> None:
        """Describe a frame that passes."""
        if self._queue.full():
            self._missed += 1
        else:
            self.show(self._describe(sender, frame))

    def _describe(self, sender: Link, frame: Frame) -> dict[str, Any]:
        description: dict[str, Any] = {
            "time": time.time(),
            "from": str(sender.address),
            "to": _receiver(frame),
            "kind": frame.kind.name.lower(),
            "size": len(frame.body),
        }
        if frame.kind in (FrameKind.MESSAGE, FrameKind.REQUEST, FrameKind.REPORT):
            try:
                action, data = decode_message(frame.body)
            except FrameError:
                return description
            description["action"] = action
            if self._payload:
                description["data"] = repr(data)
        return description


def _receiver(frame: Frame) -> str:
    match frame.target:
        case Target.SLOT:
            return f"app#{frame.target_id}"
        case Target.WORKER:
            return str(frame.target_id)
        case Target.ADDRESS:
            try:
                return str(Address.unpack(frame.target_id))
            except ValueError:
                return f"{frame.target_id:#x}"
        case target:
            return target.name.lower()
