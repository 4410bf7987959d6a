"""Looking on at the messages that pass through the master: `eggcluster messages`. Runs in the master, while asked."""

import asyncio
import time
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.ipc.frame import Frame, decode_message
from eggcluster.master.link import Link
from eggcluster.model.message import Kind, Target
from eggcluster.model.role import Address

MAX_WAITING = 10_000  # messages; who looks on more slowly than they pass misses some, and is told how many


class MessageWatch:
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
        if frame.kind in (Kind.MESSAGE, Kind.REQUEST, Kind.REPORT):
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
