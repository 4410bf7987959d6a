"""The shared dictionary as one process knows it: entries by key, up to a version. Pure; runs in all workers.

Every change has a version, and all keys share one count of versions. So a copy at version N contains every change up to
N, and the copy with the highest version is complete.
"""

from typing import NamedTuple

# Versions of the agent's generation g begin above g << 40, so no version is used twice, and a version says which agent
# gave it: one agent gives 2^40 in three years at 10,000 a second.
EPOCH_BITS = 40
MAX_BASES = 16  # former agents of which a table says how much of theirs it contains


class SharedEntry(NamedTuple):
    """The state of one key: its value as MessagePack, None if it has been deleted.

    `expires` is an instant of CLOCK_MONOTONIC, which is the same in all processes of a machine.
    """

    version: int
    raw: bytes | None
    expires: float | None = None

    def lives(self, now: float) -> bool:
        """Return whether there is a value that has not expired."""
        return self.raw is not None and (self.expires is None or now < self.expires)


Change = tuple[str, SharedEntry]


class TableCopy(NamedTuple):
    """A whole table, as it is sent. `generation` is that of the agent that owned it.

    `bases` maps the generations of former agents to the versions up to which the table contains their changes.
    """

    version: int
    generation: int
    entries: list[Change]
    bases: dict[int, int]


def all_bases(copy: TableCopy) -> dict[int, int]:
    """Return the bases of a table that continues from `copy`."""
    return dict(sorted((copy.bases | {copy.generation: copy.version}).items())[-MAX_BASES:])


def knows(bases: dict[int, int], version: int) -> bool:
    """Return whether a table with these bases contains the change of this version, or a later one of the same key.

    What is older than all bases of a full list counts as contained.
    """
    generation = version >> EPOCH_BITS
    return version <= bases.get(generation, 0) or (len(bases) >= MAX_BASES and generation < min(bases))


class Table:
    """The entries by key. `version` is the version of the last known change; `generation` and `bases` are a copy's."""

    def __init__(self) -> None:
        self.version = 0
        self.generation = 0
        self.bases: dict[int, int] = {}
        self.entries: dict[str, SharedEntry] = {}

    def find(self, key: str, now: float) -> SharedEntry | None:
        """Return the entry of `key`; None if there is none or it has expired."""
        entry = self.entries.get(key)
        return entry if entry is not None and entry.lives(now) else None

    def apply(self, key: str, entry: SharedEntry) -> bool:
        """Apply a change; return False, and change nothing, if it is known already."""
        if entry.version <= self.version:
            return False
        self.version = entry.version
        if entry.raw is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = entry
        return True

    def copy(self) -> TableCopy:
        """Return the whole table, to be sent."""
        return TableCopy(self.version, self.generation, list(self.entries.items()), self.bases)

    def replace(self, copy: TableCopy) -> list[Change]:
        """Become a copy of another table; return the differences."""
        before, self.entries = self.entries, dict(copy.entries)
        self.version, self.generation, self.bases = copy.version, copy.generation, copy.bases
        changed = [(key, entry) for key, entry in self.entries.items() if before.get(key) != entry]
        return changed + [(key, SharedEntry(copy.version, None)) for key in before if key not in self.entries]
