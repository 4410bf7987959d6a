"""The ledger: what was relayed to one worker and is not known to have begun. Pure bookkeeping; runs in the master."""

from collections import deque
from typing import NamedTuple

from eggcluster.ipc.frame import Frame, action_of, frame_of
from eggcluster.model.messages.begun import Begun
from eggcluster.model.messages.role import Address

FRAME_OVERHEAD = 200  # bytes that a kept frame costs besides its own, so that the bound holds for tiny frames, too
MAX_FORGETTABLE = 64  # small frames that may be kept though they have begun; forgetting costs more than one of them
MAX_FORGETTABLE_BYTES = 256 * 1024  # the same for others; as much as is read at once


class Unread(NamedTuple):
    """An entry of which `frame` has not begun: all of it, or the rest of a run. `number` is its first message's."""

    number: int
    whole: Frame
    frame: Frame


class Ledger:
    """Keeps the messages and requests that were relayed to a worker until they have begun, and then their names until
    they have finished. They are counted from 1, as `Begun` counts them.

    `entries` gets a whole frame or a run by `add`, or by `append` a small frame's bytes that took a short cut; after
    that `forget` is due if there are more than `limit`. `before` is how many messages came before the first entry. A
    ledger that is not `kept` keeps nothing.
    """

    def __init__(self, *, kept: bool = True) -> None:
        self.entries: deque[Frame | bytes] = deque(maxlen=None if kept else 0)
        self.limit = MAX_FORGETTABLE
        self.bytes = 0
        self._bytes_limit = MAX_FORGETTABLE_BYTES
        self.before = 0
        self._frames = 0  # entries that came by `add`
        self._names: dict[int, str] = {}  # of messages that have begun, and had not finished when they were forgotten

    def add(self, frame: Frame) -> bool:
        """Keep a frame or a run; return whether `forget` is due."""
        self.entries.append(frame)
        self._frames += 1
        self.bytes += len(frame.raw) + FRAME_OVERHEAD
        return len(self.entries) > self.limit or self.bytes > self._bytes_limit

    def forget(self, begun: Begun) -> None:
        """Drop what has begun."""
        entries = self.entries
        if self._names:
            self._names = {number: name for number, name in self._names.items() if number in begun.unfinished}
        if not self._frames and not begun.unfinished and begun.count - self.before >= len(entries):
            self.before += len(entries)  # the usual case without a flood, as fast as it can be
            entries.clear()
        while entries and self.before + _count(entries[0]) <= begun.count:
            self._forget_first(begun.unfinished)
        self.limit = len(entries) + MAX_FORGETTABLE
        self._bytes_limit = self.bytes + MAX_FORGETTABLE_BYTES

    def _forget_first(self, unfinished: frozenset[int]) -> None:
        entry = self.entries.popleft()
        if isinstance(entry, Frame):
            self._frames -= 1
            self.bytes -= len(entry.raw) + FRAME_OVERHEAD
        if unfinished:
            self._note_names(entry, unfinished)
        self.before += _count(entry)

    def close(self, begun: Begun) -> "tuple[list[str], list[Unread]]":
        """Return the names of the messages that have begun and not finished, and what has not begun, the oldest first.
        Nothing is kept after that."""
        self.forget(begun)
        unread, number = [], self.before + 1
        for entry in self.entries:
            frame = entry if isinstance(entry, Frame) else frame_of(entry)
            unread.append(Unread(number, frame, frame))
            number += frame.count
        self.entries.clear()
        if unread and self.before < begun.count:  # it has begun a part of a run
            whole = unread[0].whole
            self._note_names(whole, begun.unfinished)
            unread[0] = Unread(self.before + 1, whole, whole.without_first(begun.count - self.before))
        return [name for _, name in sorted(self._names.items())], unread

    def _note_names(self, entry: Frame | bytes, unfinished: frozenset[int]) -> None:
        frame = entry if isinstance(entry, Frame) else frame_of(entry)
        wanted = {number for number in unfinished if self.before < number <= self.before + frame.count}
        if wanted:
            sender = Address.unpack(frame.source)
            for number, body in enumerate(frame.bodies(), self.before + 1):
                if number in wanted:
                    self._names[number] = f'"{action_of(body)}" from {sender}'


def _count(entry: Frame | bytes) -> int:
    return entry.count if isinstance(entry, Frame) else 1
