"""Watching the cluster over the control socket: `eggcluster events` and `messages`. Runs in the master."""

import asyncio
import time
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.ipc.frame import Frame, decode_message
from eggcluster.master.relay.link import Link
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import Address

MAX_WAITING = 10_000  # descriptions; who reads more slowly than things happen misses some, and is told how many


class Watcher:
    """A bounded queue of descriptions. What does not fit is counted only: nobody who looks on slows anything down."""

    def __init__(self) -> None:
        self._seen: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING)
        self._missed = 0

    def show(self, description: dict[str, Any]) -> None:
        """Something happened."""
        try:
            self._seen.put_nowait(description)
        except asyncio.QueueFull:
            self._missed += 1

    async def next(self) -> dict[str, Any]:
        """The next description; `missed` in it says how many passed unseen before it."""
        description = await self._seen.get()
        missed, self._missed = self._missed, 0
        return {**description, "missed": missed} if missed else description


class MessageWatcher:
    """Turns frames into descriptions, for one who looks on. `payload`: with the data, as text."""

    def __init__(self, payload: bool) -> None:
        self._payload = payload
        self._seen: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING)
        self._missed = 0

    def see(self, sender: Link, frame: Frame) -> None:
        """One frame passes; a full queue counts it only."""
        try:
            self._seen.put_nowait(self._describe(sender, frame))
        except asyncio.QueueFull:
            self._missed += 1

    async def next(self) -> dict[str, Any]:
        """The next description; `missed` in it says how many passed unseen before it."""
        description = await self._seen.get()
        missed, self._missed = self._missed, 0
        return {**description, "missed": missed} if missed else description

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
