"""The clocks of a schedule, and the series of instants behind a task's terms. Runs in the worker."""

import time

from eggcluster.model.schedule.schedule_terms import ScheduleTerms
from eggcluster.model.schedule.timetable import Grid, Times


class Clock:
    """Seconds. Tests put another one in its place."""

    def monotonic(self) -> float:
        """The same in all processes of this boot of the machine: CLOCK_MONOTONIC, clock_gettime(2)."""
        return time.monotonic()

    def wall(self) -> float:
        """Unix time."""
        return time.time()


def time_text(instant: float) -> str:
    """An instant of the wall clock for a log line: `16:02:19.790`, local time."""
    return f"{time.strftime('%H:%M:%S', time.localtime(instant))}.{int(instant % 1 * 1000):03}"


def times_of(terms: ScheduleTerms, anchor: float) -> Times | None:
    """A grid from `anchor` on, or a cron's; None for a task that only its strategy brings about. ValueError for
    what is no expression or no zone."""
    if terms.interval is not None:
        return Grid(anchor, terms.interval)
    if terms.cron is not None:
        from eggcluster.worker.schedule.cron import Cron  # with its library and zoneinfo: only where there is a cron

        return Cron(terms.cron, terms.timezone)
    return None
