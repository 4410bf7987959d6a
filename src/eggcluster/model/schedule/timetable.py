"""The ticks of a task's series, one after the other, none twice. Pure; runs in all workers.

A tick is identified by its instant in the series. It is given out at most once, however the clock jumps.
"""

from dataclasses import dataclass
from typing import Protocol

# A tick may come late because the event loop was blocked. A tick that is later than this has been missed: the machine
# was suspended, or the clock was set forward. A minute is cron's usual step.
MISSED_AFTER = 60.0  # seconds

# A clock that is set back by less has been corrected: the series waits until the clock has caught up. A clock that is
# set back by more was wrong before, and the series begins anew. Vixie cron has the same limit.
CLOCK_RESET_AFTER = 3 * 3600.0  # seconds


class Times(Protocol):
    """A series of instants, in seconds of its own clock."""

    def after(self, instant: float) -> float | None:
        """Return the first instant later than `instant`; None if there is none."""

    def latest(self, first: float, now: float) -> float:
        """Return the last instant up to `now`; `first` is an instant of the series, not later than `now`."""


@dataclass(frozen=True)
class Grid:
    """Every `interval` seconds from `anchor` on. Each instant is computed from `anchor`, so there is no drift."""

    anchor: float
    interval: float

    def after(self, instant: float) -> float:
        near = self._near(instant)
        return self._at(near) if self._at(near) > instant else self._at(near + 1)

    def latest(self, first: float, now: float) -> float:
        near = self._near(now)
        return max(first, self._at(near) if self._at(near) <= now else self._at(near - 1))

    def _at(self, step: int) -> float:
        return self.anchor + step * self.interval

    def _near(self, instant: float) -> int:
        """Return the step nearest to an instant. Callers compare it with its neighbours, so rounding does no harm."""
        return round((instant - self.anchor) / self.interval)


class Timetable:
    """Gives out ticks. `last` is the last one, or the instant at which the series began; `planned` is the next."""

    def __init__(self, times: Times, last: float) -> None:
        self.times = times
        self.last = last
        self.planned = times.after(last)

    def take(self, now: float, allowed: float) -> float | None:
        """Return the latest tick up to `now`, once; None if there is none, or it is more than `allowed` seconds late.
        Earlier ticks are left out."""
        tick = None
        if self.planned is not None and self.planned <= now:
            tick = self.times.latest(self.planned, now)
            self.last = tick
            self.planned = self.times.after(tick)
        return tick if tick is not None and now - tick <= allowed else None

    def begins_anew(self, now: float) -> bool:
        """Return whether the clock was set back so far that it was wrong before; if so, begin the series at `now`."""
        if now >= self.last - CLOCK_RESET_AFTER:
            return False
        self.last = now
        self.planned = self.times.after(now)
        return True
