"""When a task comes due: the ticks of its series, one after the other, none twice. Pure: the clock is an argument.

A tick is an instant of the series, and that is its identity: what is given out once is never given out again, however
the clock jumps.
"""

from dataclasses import dataclass
from typing import Protocol

# A tick may come late, because the event loop was held up. Later than this it has been missed: the machine was
# suspended, or the clock was set forward. As long as the usual step of cron, a minute.
LATE = 60.0  # seconds

# A clock that is set back by less has been corrected, and the series waits until it is there again; by more it was
# wrong before, and the series begins anew. As Vixie's cron does it.
SET_BACK = 3 * 3600.0  # seconds


class Times(Protocol):
    """A series of instants, in seconds of whichever clock it goes by."""

    def after(self, instant: float) -> float | None:
        """The first one later than `instant`; None where none ever comes."""

    def latest(self, first: float, now: float) -> float:
        """The last one up to `now`; `first` is one of them, not later than `now`."""


@dataclass(frozen=True)
class Grid:
    """Every `interval` seconds from `anchor` on. Each instant is a multiple, so that nothing adds up to a drift."""

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
        """The step nearest to an instant: its neighbours are compared as they are, whatever a division rounds to."""
        return round((instant - self.anchor) / self.interval)


class Timetable:
    """`last` is the last tick that was given out, or the instant at which the series began; `planned` is the next."""

    def __init__(self, times: Times, last: float) -> None:
        self.times = times
        self.last = last
        self.planned = times.after(last)

    def take(self, now: float, allowed: float) -> float | None:
        """Give out what has come due: of the ticks up to `now` the latest one, if it is no more than `allowed`
        seconds late. All others up to `now` are left out."""
        tick = None
        if self.planned is not None and self.planned <= now:
            tick = self.times.latest(self.planned, now)
            self.last = tick
            self.planned = self.times.after(tick)
        return tick if tick is not None and now - tick <= allowed else None

    def begins_anew(self, now: float) -> bool:
        """Whether the clock was set back so far that it was wrong before; then the series begins at `now`."""
        if now >= self.last - SET_BACK:
            return False
        self.last = now
        self.planned = self.times.after(now)
        return True
