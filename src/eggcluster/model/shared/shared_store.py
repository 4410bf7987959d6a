"""The writes to the shared dictionary: their order and limits. Pure; runs in the agent."""

import math
from array import array
from bisect import bisect_right
from typing import Annotated, Any

from eggcluster.errors import FrameError, SharedFull, SharedTooLarge
from eggcluster.model.shared.shared_table import (
    EPOCH_BITS,
    MAX_BASES,
    Change,
    SharedEntry,
    Table,
    TableCopy,
    all_bases,
    knows,
)
from eggcluster.packing import DecodeError, Meta, Struct, encode
from eggcluster.packing import decode as unpack

# Every worker holds the whole table and gets it in one frame: it serves for coordination, and is not a database.
MAX_KEYS = 10_000
MAX_KEY_BYTES = 1024
MAX_VALUE_BYTES = 64 * 1024
MAX_TOTAL_BYTES = 8 * 1024 * 1024

Seconds = Annotated[float, Meta(gt=0)]


class Set(Struct, array_like=True, frozen=True, tag=True):
    """Give `key` a value, for `ttl` seconds or for good."""

    key: str
    raw: bytes
    ttl: Seconds | None = None


class CompareAndSet(Struct, array_like=True, frozen=True, tag=True):
    """Set the key if its version is still `expected`; 0: if there is no such key."""

    key: str
    expected: int
    raw: bytes
    ttl: Seconds | None = None


class Increment(Struct, array_like=True, frozen=True, tag=True):
    """Add to a number. A missing key counts as 0 and then lives for `ttl` seconds, or for good; it stays missing
    without `create`."""

    key: str
    by: int | float
    ttl: Seconds | None = None
    create: bool = True


class Admit(Struct, array_like=True, frozen=True, tag=True):
    """Record `amount` admissions now, if at most `limit` then lie within the last `window` seconds."""

    key: str
    limit: int
    window: Seconds
    amount: int = 1


class Delete(Struct, array_like=True, frozen=True, tag=True):
    """Delete a key."""

    key: str


Write = Set | CompareAndSet | Increment | Admit | Delete


class Store(Table):
    """The authoritative table. Each change gets the next version; `changes` holds the unpublished changes."""

    def __init__(self, generation: int = 0) -> None:
        super().__init__()
        self.version = generation << EPOCH_BITS
        self.generation = generation
        self.changes: list[Change] = []
        self.expiring: dict[str, float] = {}
        self._deleted: set[str] | None = set()  # by this agent; None: too many to remember
        self._bytes = 0

    def restore(self, copy: TableCopy) -> None:
        """Continue from a worker's copy. The next versions are above all earlier ones."""
        ours, generation = self.version, self.generation
        self.replace(copy)
        self.version, self.generation, self.bases = max(copy.version, ours), generation, all_bases(copy)
        self.expiring = {key: entry.expires for key, entry in self.entries.items() if entry.expires is not None}
        self._bytes = sum(_size(key, entry.raw) for key, entry in self.entries.items())

    def contains(self, version: int, generation: int) -> bool:
        """Return whether this table contains every change up to `version` of the agent `generation`."""
        return generation >= self.generation or knows(self.bases, version)

    def adopt(self, copy: TableCopy, now: float) -> list[str]:
        """Merge a former agent's table that came too late to be restored: take the changes that are unknown here.

        They keep their versions, so the whole table is to be sent to the workers again. A key that was written on both
        sides keeps its value here. Return the keys whose value in the late copy is lost by that, or for lack of room.
        """
        theirs, known = dict(copy.entries), all_bases(copy)
        self.version += 1
        for key in [key for key, entry in self.entries.items() if key not in theirs and knows(known, entry.version)]:
            self._place(key, SharedEntry(self.version, None))  # the former agent deleted it
        lost = [key for key, entry in theirs.items() if not self._adopt(key, entry, known, now)]
        versions = {each: max(known.get(each, 0), self.bases.get(each, 0)) for each in known | self.bases}
        self.bases = {each: versions[each] for each in sorted(versions)[-MAX_BASES:]}
        return lost

    def _adopt(self, key: str, entry: SharedEntry, known: dict[int, int], now: float) -> bool:
        """Take an entry of a late copy if it is newer; return False if its value is lost."""
        if knows(self.bases, entry.version) or entry.raw is None or not entry.lives(now):
            return True
        ours = self.entries.get(key)
        if not self._is_unchanged(key) if ours is None else not knows(known, ours.version):
            return False
        try:
            self._check_room(key, entry.raw, now)
        except SharedFull:
            return False
        self._place(key, entry)
        return True

    def _is_unchanged(self, key: str) -> bool:
        """Return whether this agent has not deleted the key."""
        return self._deleted is not None and key not in self._deleted

    def carry_out(self, write: Write, now: float) -> Any:
        """Carry out a write and return its result. For `Set` and `CompareAndSet` that is the new version (None if
        another write came first), for `Increment` the new number (None if there was none to add to), for `Admit`
        whether there was room, for `Delete` whether the key existed.

        Raise SharedFull, TypeError or ValueError if the write is not possible, FrameError if the value is not
        MessagePack. Then the table is unchanged.
        """
        match write:
            case Set(key, raw, ttl):
                return self._put(key, raw, _end(ttl, now), now)
            case CompareAndSet(key, expected, raw, ttl):
                entry = self.find(key, now)
                is_current = expected == (entry.version if entry is not None else 0)
                return self._put(key, raw, _end(ttl, now), now) if is_current else None
            case Increment():
                return self._increment(write, now)
            case Admit():
                return self._admit(write, now)
            case Delete(key):
                found = self.find(key, now) is not None
                self._drop(key)
                return found
        raise AssertionError(f"BUG: {write!r} is not a write")

    def expire(self, now: float) -> None:
        """Delete the entries that have expired."""
        for key in [key for key, end in self.expiring.items() if end <= now]:
            self._drop(key)

    def _increment(self, write: Increment, now: float) -> int | float | None:
        entry = self.find(write.key, now)
        if entry is None and not write.create:
            return None
        before = decode(entry.raw) if entry is not None and entry.raw is not None else 0
        if isinstance(before, bool) or not isinstance(before, (int, float)):
            raise TypeError(f"{write.key!r} holds a {type(before).__name__}; only a number can be incremented")
        after = before + write.by
        try:
            raw = encode(after)
        except OverflowError:
            raise ValueError(f"{write.key!r} would become {after}, which does not fit 64 bits") from None
        self._put(write.key, raw, entry.expires if entry is not None else _end(write.ttl, now), now)
        return after

    def _admit(self, write: Admit, now: float) -> bool:
        entry = self.find(write.key, now)
        instants = read_admissions(write.key, entry, now - write.window)
        if len(instants) + write.amount > write.limit:
            return False
        instants.extend([now] * write.amount)
        self._put(write.key, encode(instants.tobytes()), now + write.window, now)
        return True

    def _put(self, key: str, raw: bytes, expires: float | None, now: float) -> int:
        decode(raw)
        self._check_room(key, raw, now)
        self._note(key, raw, expires)
        return self.version

    def _drop(self, key: str) -> None:
        if key in self.entries:
            self._note(key, None, None)
            self._remember_deleted(key)

    def _remember_deleted(self, key: str) -> None:
        if self._deleted is not None:
            self._deleted.add(key)
            if len(self._deleted) > MAX_KEYS:
                self._deleted = None

    def _note(self, key: str, raw: bytes | None, expires: float | None) -> None:
        """Give a key its new value, with the next version."""
        self.version += 1
        self._place(key, SharedEntry(self.version, raw, expires))

    def _place(self, key: str, entry: SharedEntry) -> None:
        old = self.entries.pop(key, None)
        self._bytes += _size(key, entry.raw) - _size(key, old.raw if old is not None else None)
        if entry.raw is not None:
            self.entries[key] = entry
        self.expiring.pop(key, None)
        if entry.expires is not None:
            self.expiring[key] = entry.expires
        self.changes.append((key, entry))

    def _check_room(self, key: str, raw: bytes, now: float) -> None:
        check_size(key, raw)
        if self._exceeded(key, raw):
            self.expire(now)
            if limit := self._exceeded(key, raw):
                raise SharedFull(f"{key!r} does not fit: {limit} are shared already")

    def _exceeded(self, key: str, raw: bytes) -> str:
        """Return the limit that this entry would exceed, for an error; "" if there is none."""
        old = self.entries.get(key)
        if old is None and len(self.entries) >= MAX_KEYS:
            return f"{MAX_KEYS} keys"
        more = _size(key, raw) - _size(key, old.raw if old is not None else None)
        return f"{self._bytes} of {MAX_TOTAL_BYTES} bytes" if self._bytes + more > MAX_TOTAL_BYTES else ""


def read_admissions(key: str, entry: SharedEntry | None, begin: float) -> "array[float]":
    """Return the instants of the admissions after `begin`, the oldest first; TypeError if the entry holds none. They
    are kept as C doubles: 8 bytes each, and they never leave the machine."""
    if entry is None or entry.raw is None:
        return array("d")
    raw = decode(entry.raw)
    if not isinstance(raw, bytes) or len(raw) % 8:
        raise TypeError(f"{key!r} holds a {type(raw).__name__}; only what `admit` has made can admit")
    instants = array("d", raw)
    return instants[bisect_right(instants, begin) :]


def check_size(key: str, raw: bytes) -> None:
    """Raise SharedTooLarge if the key or the value alone is too large."""
    if len(key.encode()) > MAX_KEY_BYTES:
        raise SharedTooLarge(f"the key has {len(key.encode())} bytes; the limit is {MAX_KEY_BYTES}")
    if len(raw) > MAX_VALUE_BYTES:
        raise SharedTooLarge(f"{key!r}: the value has {len(raw)} bytes; the limit is {MAX_VALUE_BYTES}")


def decode(raw: bytes) -> Any:
    """Return the value of an entry's bytes; raise FrameError if they are not MessagePack."""
    try:
        return unpack(raw)
    except (DecodeError, ValueError, RecursionError, MemoryError) as error:
        raise FrameError(f"the shared value cannot be read: {error}") from None


def _end(ttl: float | None, now: float) -> float | None:
    return None if ttl is None or math.isinf(ttl) else now + ttl


def _size(key: str, raw: bytes | None) -> int:
    return 0 if raw is None else len(key.encode()) + len(raw)
