"""What the next agent must know of this one's work: ticks given out, runs under way. The master keeps it. In the agent.

Each note has left this process before what it tells of begins. So a tick that began is never begun again, however
suddenly the agent dies; one that was noted and did not begin before that is lost.
"""

from collections.abc import Awaitable, Callable, Mapping

from eggcluster.packing import DecodeError, Struct, decode, encode

HERE = 0  # as a worker id: the agent itself


class JournalEntry(Struct):
    """One task's. `when` are its times in words, `last` the last tick (or the beginning of the series) by its own
    clock; `open` has the worker ids of each run that is under way."""

    when: str = ""
    last: float = 0.0
    open: dict[str, list[int]] = {}


class Journal:
    """`kept` is what the predecessor left. `keep` hands a task's note to the master, `drain` waits until all that was
    handed over has left this process."""

    def __init__(
        self, kept: Mapping[str, bytes], keep: Callable[[str, bytes], None], drain: Callable[[], Awaitable[None]]
    ) -> None:
        self._keep = keep
        self._drain = drain
        self._notes = {name: note for name, data in kept.items() if (note := _decode(data)) is not None}

    def of(self, name: str) -> JournalEntry:
        """Return the task's entry; an empty one for a task that the journal does not know."""
        return self._notes.setdefault(name, JournalEntry())

    def tick(self, name: str, when: str, last: float) -> None:
        """A tick is given out, or a series begins. Any run for it begins with a note of its own, after this one."""
        note = self.of(name)
        note.when, note.last = when, last
        self._hand_over(name)

    async def begin(self, name: str, run_id: str, worker_ids: list[int]) -> None:
        """A run is about to begin in these workers; returns when that has left this process."""
        self.of(name).open[run_id] = worker_ids
        self._hand_over(name)
        await self._drain()

    def end(self, name: str, run_id: str) -> None:
        """It has ended, wherever it ran."""
        if self.of(name).open.pop(run_id, None) is not None:
            self._hand_over(name)

    def _hand_over(self, name: str) -> None:
        self._keep(name, encode(self.of(name)))


def _decode(data: bytes) -> JournalEntry | None:
    """A note; None where another version of this code has left something else."""
    try:
        return decode(data, type=JournalEntry)
    except DecodeError:
        return None
