"""The journal: ticks given out and runs under way, for the next agent. Written in the agent, kept by the master.

An entry leaves this process before the tick or run that it records begins. So the next agent never repeats a tick
that has begun, however suddenly this agent dies. A tick that was recorded but had not begun is lost.
"""

from collections.abc import Awaitable, Callable, Mapping

from eggcluster.packing import DecodeError, Struct, decode, encode

AGENT_ITSELF = 0  # the worker id of a run in the agent


class JournalEntry(Struct):
    """The state of one task. `when` describes its times in words. `last` is the last tick (or the beginning of the
    series) by the series' own clock. `open` maps the id of each run under way to the ids of its workers."""

    when: str = ""
    last: float = 0.0
    open: dict[str, list[int]] = {}


class Journal:
    """The entries of all tasks. `kept` is what the predecessor left. `keep` hands a task's entry to the master; `drain`
    waits until all entries handed over have left this process."""

    def __init__(
        self, kept: Mapping[str, bytes], keep: Callable[[str, bytes], None], drain: Callable[[], Awaitable[None]]
    ) -> None:
        self._keep = keep
        self._drain = drain
        self._entries = {name: entry for name, data in kept.items() if (entry := _decode(data)) is not None}

    def of(self, name: str) -> JournalEntry:
        """Return the task's entry; an empty one for a task that the journal does not know."""
        return self._entries.setdefault(name, JournalEntry())

    def tick(self, name: str, when: str, last: float) -> None:
        """Record that a tick is given out, or that a series begins. A run for it is recorded later, by `begin`."""
        entry = self.of(name)
        entry.when, entry.last = when, last
        self._hand_over(name)

    async def begin(self, name: str, run_id: str, worker_ids: list[int]) -> None:
        """Record that a run is about to begin in these workers; return when the entry has left this process."""
        self.of(name).open[run_id] = worker_ids
        self._hand_over(name)
        await self._drain()

    def end(self, name: str, run_id: str) -> None:
        """Record that the run has ended."""
        if self.of(name).open.pop(run_id, None) is not None:
            self._hand_over(name)

    def _hand_over(self, name: str) -> None:
        self._keep(name, encode(self.of(name)))


def _decode(data: bytes) -> JournalEntry | None:
    """Return the entry; None if another version of this code has left another format."""
    try:
        return decode(data, type=JournalEntry)
    except DecodeError:
        return None
