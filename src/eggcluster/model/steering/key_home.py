"""Key homes: which worker a request with keys belongs to. Pure; runs in the app workers and the master.

A key that a worker has learned belongs to that worker, named by its part of the key table. A key that no worker has
learned belongs to a slot, by the same rendezvous hashing as an address (`affinity.py`).
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Self

from eggcluster.model.steering.affinity import home_of

DIGEST_BYTES = 16
MOST_HOPS = 8  # of one request: after so many handovers it is served where it is
NO_DIGEST = bytes(DIGEST_BYTES)
MOST_PLACED = 16_384  # hashed keys whose slots are remembered: to find one again costs 2 us with two slots
NOWHERE = 0  # of a part, an incarnation or a slot: none


class Part(NamedTuple):
    """One worker's part of the key table. No two workers have the same `incarnation`."""

    number: int  # from 1
    incarnation: int

    def pack(self) -> bytes:
        """Return the part as the name of its worker's handover."""
        return _NAME.pack(*self)

    @classmethod
    def unpack(cls, name: bytes) -> Self:
        """Return the part that `pack` has named."""
        return cls(*_NAME.unpack(name))


NO_PART = Part(NOWHERE, NOWHERE)


class Destination(NamedTuple):
    """Where a request belongs: to the worker with this part, which has learned the key with this `digest`, or to this
    slot. Then the part is that of the slot's worker as the sender knows it; the slot may have another one by now, or
    none. With neither, any worker will do. `hops` counts its handovers."""

    part: Part = NO_PART
    slot: int = NOWHERE
    hops: int = 0
    digest: bytes = NO_DIGEST

    def pack(self) -> bytes:
        """Return the destination as the beginning of a handed-over request."""
        return _PACKED.pack(*self.part, self.slot, self.hops, self.digest)

    @classmethod
    def unpack(cls, data: bytes) -> tuple[Self, bytes]:
        """Return the destination at the beginning of `data`, and what follows it."""
        number, incarnation, slot, hops, digest = _PACKED.unpack_from(data)
        return cls(Part(number, incarnation), slot, hops, digest), data[_PACKED.size :]


_NAME = struct.Struct("!HQ")
_PACKED = struct.Struct(f"!HQHB{DIGEST_BYTES}s")


def destination(
    digests: Sequence[bytes],
    find: Callable[[bytes], Part],
    read_homes: Callable[[], Mapping[int, Part]],
    own: Part,
) -> Destination | None:
    """Return where a request with these keys, the first one of the highest rank, belongs; None: to this worker.

    `find` returns the part of the worker that has learned a key, or NO_PART. `read_homes` returns the slots that take
    part in the hashing, in rising order, each with the part of its open worker; NO_PART for a slot whose clients wait.
    While no slot is open, each worker keeps what it has. `own` is this worker's part.
    """
    for digest in digests:
        part = find(digest)
        if part != NO_PART:
            return None if part == own else Destination(part, digest=digest)
    homes = read_homes() if digests else {}
    if not any(part != NO_PART for part in homes.values()):
        return None
    slot = _placed(digests[0], tuple(homes))
    return None if homes[slot] == own else Destination(homes[slot], slot)


def slot_of(digest: bytes, slots: Sequence[int]) -> int:
    """Return which of `slots` (in rising order) a key belongs to that no worker has learned."""
    return home_of(int.from_bytes(digest[:4]), slots)


_placed = lru_cache(MOST_PLACED)(slot_of)
