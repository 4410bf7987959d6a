"""A boot that goes on when files change: what could not start is started again. Pure; runs in the master."""

import logging
from collections.abc import Callable, Sequence

from eggcluster.model.lives.commands import Command, Fork, Log, ReloadEnded
from eggcluster.model.lives.roster import Roster, Slot
from eggcluster.model.lives.worker import Worker


class BootRetry:
    """Remembers what has changed during a boot, and starts again what could not start.

    `fork` makes the command that starts workers. A worker that was started before a change may run the older version.
    So a change is remembered (`wanted`), and a reload follows the boot, or the next try.
    """

    def __init__(self, roster: Roster, fork: Callable[[Sequence[Slot], float], Fork]) -> None:
        self._roster = roster
        self._fork = fork
        self._is_asked = False  # a requester waits for the end of the boot
        self.wanted: bool | None = None  # a reload is to follow; True: with the agent

    def failed(self, worker: Worker, now: float) -> list[Command]:
        """Act on a worker that could not start: try again if files have changed meanwhile, else wait for a change."""
        if self.wanted is not None:
            wanted, self.wanted = self.wanted, None
            return self.again(now, agent=wanted)
        text = f"{worker} is started again when its files change"
        return [Log(logging.WARNING, text), *self.end(worker.failure)]

    def again(self, now: float, *, agent: bool) -> list[Command]:
        """Act on a change: start what could not start. `agent`: the agent's files are among those that changed."""
        slots = self._roster.slots if self._roster.agent.listening else [self._roster.agent]
        empty = [slot for slot in slots if slot.current is None]
        self._is_asked = True
        if len(empty) < len(slots) or (agent and self._roster.agent.listening):
            self.wanted = agent or bool(self.wanted)
        return [self._fork(empty, now)] if empty else []

    def succeeded(self) -> tuple[list[Command], bool | None]:
        """Act on the end of the boot: return also whether a reload has to follow, and with the agent."""
        wanted, self.wanted = self.wanted, None
        ended = self.end(None)
        return (ended if wanted is None else []), wanted

    def end(self, failure: str | None) -> list[Command]:
        """Tell the requesters of a reload how the boot has ended."""
        asked, self._is_asked = self._is_asked, False
        return [ReloadEnded(failure)] if asked else []
