"""Watching the cluster over the control socket: `eggcluster events` and `messages`. Runs in the master.

A watcher may be slow or stand still: a pager, a terminal with Ctrl-Z. What waits for it is bounded in bytes, for each
watcher and for all of them, and is given back once the watcher is gone.
"""

import asyncio
import time
from collections import deque
from typing import Any

import msgspec

from eggcluster.errors import FrameError
from eggcluster.ipc.frame import Frame
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.preview import preview_message
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import Address

MAX_WATCHER_BYTES = 4 * 1024 * 1024  # that wait for one watcher; one that falls back further misses some
MAX_WATCHERS_BYTES = 16 * 1024 * 1024  # that wait for all watchers; each has an equal share
LINE_OVERHEAD = 120  # bytes that a waiting line costs besides its own
PIECE_BYTES = 64 * 1024  # that are given to the socket at once, more or less
MAX_TEXT = 2_000  # characters of an action, of data or of a reason that a description shows

_encode = msgspec.json.Encoder().encode


class Watcher:
    """A queue of descriptions, bounded in bytes. Those that do not fit are only counted, so a watcher slows nothing
    down. The next one that fits says in `missed` how many were left out before it."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self.closed = False
        self._lines: deque[tuple[bytes, int]] = deque()  # each with how many were missed before it
        self._max_bytes = MAX_WATCHER_BYTES
        self._missed = 0
        self._wake = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether the next description is left out."""
        return self.waiting_bytes >= self._max_bytes

    def show(self, description: dict[str, Any]) -> None:
        """Queue a description of what has happened, as a line of the control protocol."""
        if self.full or self.closed:
            self._missed += 1
            return
        missed, self._missed = self._missed, 0
        line = _encode({"progress": {**description, "missed": missed} if missed else description}) + b"\n"
        self._lines.append((line, missed))
        self.waiting_bytes += len(line) + LINE_OVERHEAD
        self._wake.set()

    async def next(self) -> bytes:
        """Wait for descriptions and return the oldest ones, whole lines; b"" once the watcher is closed."""
        while not self._lines and not self.closed:
            self._wake.clear()
            await self._wake.wait()
        piece: list[bytes] = []
        size = 0
        while self._lines and size < PIECE_BYTES:
            line, _ = self._lines.popleft()
            self.waiting_bytes -= len(line) + LINE_OVERHEAD
            size += len(line)
            piece.append(line)
        return b"".join(piece)

    def set_share(self, max_bytes: int) -> None:
        """Let at most about `max_bytes` wait from now on. The newest lines that exceed it count as missed."""
        self._max_bytes = max_bytes
        while self.waiting_bytes > max_bytes and self._lines:
            line, missed = self._lines.pop()
            self.waiting_bytes -= len(line) + LINE_OVERHEAD
            self._missed += missed + 1

    def close(self) -> None:
        """Drop what waits, and end `next`. May be called again."""
        self.closed = True
        self._lines.clear()
        self.waiting_bytes = 0
        self._wake.set()


class Watchers:
    """All watchers of the cluster. They share the memory for what waits."""

    def __init__(self) -> None:
        self._all: set[Watcher] = set()

    @property
    def waiting_bytes(self) -> int:
        """How many bytes wait for all of them."""
        return sum(watcher.waiting_bytes for watcher in self._all)

    def add(self, watcher: Watcher) -> None:
        """Give the watcher its share; those of the others shrink."""
        self._all.add(watcher)
        self._divide()

    def remove(self, watcher: Watcher) -> None:
        """Close the watcher, and divide its share among the others."""
        self._all.discard(watcher)
        watcher.close()
        self._divide()

    def _divide(self) -> None:
        share = min(MAX_WATCHER_BYTES, MAX_WATCHERS_BYTES // max(1, len(self._all)))
        for watcher in self._all:
            watcher.set_share(share)


class MessageWatcher(Watcher):
    """A watcher of frames. With `payload`, its descriptions hold the beginning of the data, as text."""

    def __init__(self, payload: bool) -> None:
        super().__init__()
        self._payload = payload

    def see(self, sender: Link, frame: Frame) -> None:
        """Describe a frame that passes."""
        # Nothing is described in vain, and nothing of a frame is kept but its first characters.
        self.show({} if self.full else self._describe(sender, frame))

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
                action, data = preview_message(frame.body, MAX_TEXT)
            except FrameError:
                return description
            description["action"] = action
            if self._payload:
                description["data"] = data()
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
