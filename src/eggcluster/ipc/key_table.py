"""The key table: which keys live in which worker. In memory that master and app workers share.

The master makes the memory before the first worker starts. Each app worker has a part of its own, which it alone
writes; all workers read all parts, without a lock and without a message. The master writes which part belongs to which
worker, and which slots are open.

An entry is a key's digest and the instant at which it was learned. A part is divided into buckets by the digest. All
numbers are aligned, and each is written as a whole. A digest that is just being written is not equal to any other.
"""

import hashlib
import mmap
import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from threading import Lock

from eggcluster.kernel.memory import memory_file
from eggcluster.model.steering.key_home import DIGEST_BYTES, NO_PART, Part

MOST_KEYS = 32_768  # of one worker; after that the one that was used the longest time ago is forgotten
ENTRY_BYTES = 24
BUCKET_ENTRIES = 16  # four times the mean of a full part: that a bucket overflows is a matter of one in a million
BUCKETS = MOST_KEYS // (BUCKET_ENTRIES // 4)
BUCKET_BYTES = BUCKET_ENTRIES * ENTRY_BYTES
PART_BYTES = BUCKETS * BUCKET_BYTES
PARTS_PER_SLOT = 4  # at a reload, old workers have theirs until they have closed
SECRET_BYTES = 32
_EMPTY = bytes(DIGEST_BYTES)

_OUT, _HELD = 0, 1  # of a slot: it takes no part; its clients wait; from 2 on: 1 + the number of its worker's part
# Behind the slots: the highest number of a part that has a worker.
# Of a part: its worker's incarnation (0: none, or it has left), how many keys it has, and how many connections its
# worker has given away.
_OWNER, _KEYS, _HANDED = range(3)
_PART_NUMBERS = 4


class KeyTable:
    """The table as one process sees it. `fd` is the memory file; `close` closes that, too."""

    def __init__(self, fd: int, slots: int) -> None:
        self.fd = fd
        self.slots = slots
        self.parts = min(slots * PARTS_PER_SLOT, 0xFFFF)
        self._head_bytes = _head_bytes(slots, self.parts)
        self._map = mmap.mmap(fd, self._head_bytes + self.parts * PART_BYTES)
        self._bytes = memoryview(self._map)
        self._numbers = self._bytes[SECRET_BYTES : self._head_bytes].cast("Q")
        self.secret = bytes(self._bytes[:SECRET_BYTES])
        self._homes: tuple[bytes, dict[int, Part]] = b"", {}  # what `homes` has read, as bytes and as a mapping
        self._given: set[int] = set()  # by this process: parts of workers that have left, and live on, are not free

    @classmethod
    def create(cls, slots: int) -> "KeyTable":
        """Return a new, empty table with a random secret; OSError if the system refuses."""
        parts = min(slots * PARTS_PER_SLOT, 0xFFFF)
        fd = memory_file("egg-keys", _head_bytes(slots, parts) + parts * PART_BYTES)
        try:
            os.pwrite(fd, os.urandom(SECRET_BYTES), 0)
            return cls(fd, slots)
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        """Release the memory; may be called again."""
        if self.fd >= 0:
            self._numbers.release()
            self._bytes.release()
            self._map.close()
            os.close(self.fd)
            self.fd = -1

    # -- parts -----------------------------------------------------------------------------------------------

    def give(self, incarnation: int) -> Part:
        """Give a free part to a worker that is about to start; NO_PART if none is free. Called by the master."""
        for number in range(1, self.parts + 1):
            if number not in self._given:
                self._given.add(number)
                self._numbers[self.slots] = max(self._given)
                self._numbers[self._at(number, _HANDED)] = 0
                self._numbers[self._at(number, _OWNER)] = incarnation
                return Part(number, incarnation)
        return NO_PART

    def vacate(self, part: Part) -> None:
        """Forget all keys of a worker that is dead: its part is free. Called by the master."""
        if part == NO_PART or self.fd < 0:
            return
        self.leave(part)
        start = self._start(part.number)
        _clear(self._map, start, PART_BYTES)
        self._numbers[self._at(part.number, _KEYS)] = 0
        self._given.discard(part.number)
        self._numbers[self.slots] = max(self._given, default=0)

    def leave(self, part: Part) -> None:
        """Let the others find none of this worker's keys from now on. Called by the worker that closes, too."""
        if self.is_live(part):
            self._numbers[self._at(part.number, _OWNER)] = 0

    def is_live(self, part: Part) -> bool:
        """Return whether the worker with this part lives and has not left; False after `close`."""
        if self.fd < 0:
            return False
        return 0 < part.number <= self.parts and self._numbers[self._at(part.number, _OWNER)] == part.incarnation

    def keys_of(self, part: Part) -> int:
        """Return how many keys live in the worker with this part."""
        return self._numbers[self._at(part.number, _KEYS)] if self.is_live(part) else 0

    def handovers_of(self, part: Part) -> int:
        """Return how many connections the worker with this part has given away, also after it has left; 0 after
        `close`."""
        return self._numbers[self._at(part.number, _HANDED)] if part != NO_PART and self.fd >= 0 else 0

    def count_handover(self, part: Part) -> None:
        """Count one more. Called by the worker with this part alone."""
        if part != NO_PART:
            self._numbers[self._at(part.number, _HANDED)] += 1

    # -- slots -----------------------------------------------------------------------------------------------

    def write_homes(self, homes: Mapping[int, Part]) -> None:
        """Write the slots that take part in the hashing; see `destination`. Called by the master."""
        for slot in range(1, self.slots + 1) if self.fd >= 0 else ():
            part = homes.get(slot)
            state = _OUT if part is None else _HELD + part.number
            if self._numbers[slot - 1] != state:
                self._numbers[slot - 1] = state

    def homes(self) -> dict[int, Part]:
        """Return what `write_homes` wrote last, in rising order; the parts as of the first look after that."""
        numbers = self._numbers[: self.slots]
        states = numbers.tobytes()
        if states != self._homes[0]:
            found = {slot: self._part(state - _HELD) for slot, state in enumerate(numbers, 1) if state != _OUT}
            self._homes = states, found
        return self._homes[1]

    def home(self, slot: int) -> Part | None:
        """Return one of `homes`; None if the slot takes no part in the hashing."""
        state = self._numbers[slot - 1]
        return self._part(state - _HELD) if state != _OUT else None

    def _part(self, number: int) -> Part:
        return Part(number, self._numbers[self._at(number, _OWNER)]) if number else NO_PART

    # -- keys ------------------------------------------------------------------------------------------------

    def digest(self, key: bytes) -> bytes:
        """Return the digest by which a key is found. No client can make two keys with the same one."""
        return hashlib.blake2b(key, digest_size=DIGEST_BYTES, key=self.secret).digest()

    def find(self, digest: bytes) -> Part:
        """Return the part of the live worker that has learned the key last; NO_PART if none has."""
        latest, found = 0, NO_PART
        offset = _bucket(digest) * BUCKET_BYTES
        numbers = self._numbers
        places = range(self._at(1, _OWNER), self._at(numbers[self.slots] + 1, _OWNER), _PART_NUMBERS)
        for number, at in enumerate(places, 1):
            if numbers[at + _KEYS] and (incarnation := numbers[at]):
                learned = self._learned(digest, self._start(number) + offset)
                if learned > latest:
                    latest, found = learned, Part(number, incarnation)
        return found

    def _learned(self, digest: bytes, start: int) -> int:
        """Return when the key was learned whose entry is in the bucket at `start`; 0 if none is."""
        at = self._map.find(digest, start, start + BUCKET_BYTES)
        return int.from_bytes(self._map[at + DIGEST_BYTES : at + ENTRY_BYTES], "little") if at >= 0 else 0

    def entry(self, part: Part, digest: bytes) -> Iterator[int]:
        """Yield the places of the key's bucket in this part."""
        start = self._start(part.number) + _bucket(digest) * BUCKET_BYTES
        yield from range(start, start + BUCKET_BYTES, ENTRY_BYTES)

    def is_free(self, place: int) -> bool:
        """Return whether no key is at this place."""
        return self._map[place : place + DIGEST_BYTES] == _EMPTY

    def put(self, place: int, digest: bytes, learned: int) -> None:
        """Write a key to its place: the instant first, because the digest makes the entry valid."""
        self._map[place + DIGEST_BYTES : place + ENTRY_BYTES] = learned.to_bytes(8, "little")
        self._map[place : place + DIGEST_BYTES] = digest

    def clear(self, place: int) -> None:
        """Free a place."""
        self._map[place : place + DIGEST_BYTES] = _EMPTY

    def write_keys(self, part: Part, keys: int) -> None:
        """Write how many keys the part has."""
        self._numbers[self._at(part.number, _KEYS)] = keys

    def _start(self, number: int) -> int:
        return self._head_bytes + (number - 1) * PART_BYTES

    def _at(self, number: int, which: int) -> int:
        return self.slots + 1 + (number - 1) * _PART_NUMBERS + which


class OwnKeys:
    """A worker's own part: the keys that it has learned, at most MOST_KEYS. May be used from any thread."""

    def __init__(self, table: KeyTable, part: Part) -> None:
        self.table = table
        self.part = part
        self._places: OrderedDict[bytes, int] = OrderedDict()  # by digest, the one used last at the end
        self._lock = Lock()  # of WSGI's threads

    def __len__(self) -> int:
        return len(self._places)

    def learn(self, key: bytes) -> None:
        """Say that the key lives in this worker, whoever had it before."""
        if not self.table.is_live(self.part):
            return
        digest = self.table.digest(key)
        with self._lock:
            place = self._places.pop(digest, None)
            if place is None:
                place = self._free_place(digest)
            self._places[digest] = place
            self.table.put(place, digest, time.monotonic_ns())
            self.table.write_keys(self.part, len(self._places))

    def forget(self, key: bytes) -> None:
        """Say that the key lives in no worker, if it lives in this one."""
        digest = self.table.digest(key)
        with self._lock:
            if self.table.is_live(self.part) and digest in self._places:
                self._drop(digest)
                self.table.write_keys(self.part, len(self._places))

    def used(self, digest: bytes) -> None:
        """A request with this key has come: others are forgotten before it."""
        with self._lock:
            if digest in self._places:
                self._places.move_to_end(digest)

    def _free_place(self, digest: bytes) -> int:
        if len(self._places) >= MOST_KEYS:
            self._drop(next(iter(self._places)))
        places = list(self.table.entry(self.part, digest))
        for place in places:
            if self.table.is_free(place):
                return place
        mates = set(places)
        oldest = next(each for each, place in self._places.items() if place in mates)
        place = self._places[oldest]
        self._drop(oldest)
        return place

    def _drop(self, digest: bytes) -> None:
        self.table.clear(self._places.pop(digest))


def _bucket(digest: bytes) -> int:
    return int.from_bytes(digest[-4:]) % BUCKETS


def _head_bytes(slots: int, parts: int) -> int:
    needed = SECRET_BYTES + 8 * (slots + 1 + parts * _PART_NUMBERS)
    return -(-needed // mmap.PAGESIZE) * mmap.PAGESIZE


def _clear(memory: mmap.mmap, start: int, size: int) -> None:
    """Set a part of the memory to zero, and give its pages back where the system can."""
    try:
        memory.madvise(mmap.MADV_REMOVE, start, size)
    except (AttributeError, OSError):  # not Linux
        memory[start : start + size] = bytes(size)
