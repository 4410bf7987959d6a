"""The ticks of one task in real time. Runs in the agent; `model/schedule/timetable.py` decides."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from typing import NamedTuple

from eggcluster.model.schedule.schedule_terms import ScheduleTerms
from eggcluster.model.schedule.timetable import MISSED_AFTER, Times, Timetable
from eggcluster.worker.schedule.clock import Clock, time_text, times_of
from eggcluster.worker.schedule.journal import JournalEntry

CLOCK_CHECK_INTERVAL = 1.0  # seconds; the wall clock may be set, or the machine suspended, while a cron task waits


class Tick(NamedTuple):
    """`due` is in Unix seconds. `last` is the same instant, or the last one before it, by the series' own clock."""

    due: float
    trigger: str
    last: float


class Timeline:
    """A series that begins now, or goes on where the predecessor's `entry` ends. Without a series, `table` is None."""

    def __init__(self, terms: ScheduleTerms, entry: JournalEntry, clock: Clock, logger: logging.Logger) -> None:
        self._terms = terms
        self._clock = clock
        self._logger = logger
        self.goes_on = bool(entry.when) and entry.when == terms.when
        began = entry.last if self.goes_on else self.now()
        times: Times | None = times_of(terms, began)
        self.table = Timetable(times, began) if times is not None else None

    def now(self) -> float:
        """Return the time by this series' own clock."""
        return self._clock.wall() if self._terms.cron is not None else self._clock.monotonic()

    @property
    def next_due(self) -> float | None:
        """The next tick in Unix seconds, without jitter."""
        planned = self.table.planned if self.table is not None else None
        return None if planned is None else self._to_wall(planned)

    async def ticks(self) -> AsyncIterator[Tick]:
        """Yield each tick when it comes due."""
        table = self.table
        if self._terms.immediate and not (self.goes_on and self._terms.type != "agent"):
            yield Tick(self._clock.wall(), "immediate", table.last if table is not None else 0.0)
        if table is None:
            return
        if self.goes_on and (missed := table.take(self.now(), self._terms.catch_up)) is not None:
            yield Tick(self._to_wall(missed), "catch up", table.last)
        while table.planned is not None:
            delay = random.uniform(0, self._terms.jitter)
            if not await self._until(table, table.planned + delay):
                continue
            planned = table.planned
            tick = table.take(self.now(), max(MISSED_AFTER, self._terms.catch_up) + delay)
            if tick != planned:
                self._log_left_out(planned, table.last, tick is None)
            if tick is not None:
                yield Tick(self._to_wall(tick), "time", table.last)

    def _log_left_out(self, first: float, last: float, last_too: bool) -> None:
        """Log that ticks were left out, because the loop was blocked or the clock was set."""
        span = (time_text(self._to_wall(first)), "to" if last_too else "until before", time_text(self._to_wall(last)))
        self._logger.warning("schedule %s: left out %s %s %s, it is too late for them", self._terms.name, *span)

    async def _until(self, table: Timetable, due: float) -> bool:
        """Wait until `due`. Return False if the clock was set back and the series has begun anew."""
        while (left := due - self.now()) > 0:
            if table.begins_anew(self.now()):
                self._logger.warning("schedule %s: the clock was set back, it begins anew", self._terms.name)
                return False
            await asyncio.sleep(min(left, CLOCK_CHECK_INTERVAL) if self._terms.cron is not None else left)
        return True

    def _to_wall(self, instant: float) -> float:
        return instant if self._terms.cron is not None else self._clock.wall() + instant - self._clock.monotonic()
