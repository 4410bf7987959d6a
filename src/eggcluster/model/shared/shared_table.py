"""What is shared, as one process knows it: entries by key, and how far they are up to date. Pure; in agent and workers.

Every change has a version, and versions grow over all keys together. So a copy that knows version N knows everything
up to it, and of two copies the one that knows more is the whole truth.
"""

from collections.abc import Iterable
from typing import NamedTuple


class SharedEntry(NamedTuple):
    """The state of one key: its value as MessagePack, None where it has been deleted.

    `expires` is an instant of CLOCK_MONOTONIC, which is the same in all processes of a machine.
    """

    version: int
    raw: bytes | None
    expires: float | None = None

    def lives(self, now: float) -> bool:
        """Whether there is a value, and its time has not run out."""
        return self.raw is not None and (self.expires is None or now < self.expires)


Change = tuple[str, SharedEntry]


class Table:
    """The entries by key. `version` is that of the last change that is known here."""

    def __init__(self) -> None:
        self.version = 0
        self.entries: dict[str, SharedEntry] = {}

    def find(self, key: str, now: float) -> SharedEntry | None:
        """The living entry of `key`."""
        entry = self.entries.get(key)
        return entry if entry is not None and entry.lives(now) else None

    def apply(self, key: str, entry: SharedEntry) -> bool:
        """Take a change over; False where it is known already."""
        if entry.version <= self.version:
            return False
        self.version = entry.version
        if entry.raw is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = entry
        return True

    def replace(self, version: int, entries: Iterable[Change]) -> list[Change]:
        """Become a copy of another table; gives what is different from before."""
        before, self.entries, self.version = self.entries, dict(entries), version
        changed = [(key, entry) for key, entry in self.entries.items() if before.get(key) != entry]
        return changed + [(key, SharedEntry(version, None)) for key in before if key not in self.entries]
