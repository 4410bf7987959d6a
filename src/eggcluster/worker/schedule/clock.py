"""The clocks of a schedule, and the series of instants behind a task's terms. Runs in agent and app workers."""

import time

from eggcluster.model.schedule.schedule_terms import ScheduleTerms
from eggcluster.model.schedule.timetable import Grid, Times


class Clock:
    """Returns the time in seconds. Tests replace it."""

    def monotonic(self) -> float:
        """Return CLOCK_MONOTONIC, which all processes of one machine share: clock_gettime(2)."""
        return time.monotonic()

    def wall(self) -> float:
        """Return the Unix time."""
        return time.time()


def time_text(instant: float) -> str:
    """Return an instant of the wall clock for a log line: `16:02:19.790`, local time."""
    return f"{time.strftime('%H:%M:%S', time.localtime(instant))}.{int(instant % 1 * 1000):03}"


def times_of(terms: ScheduleTerms, anchor: float) -> Times | None:
    """Return a grid from `anchor` on, or the times of the cron expression; None for a task that only its strategy
    triggers. Raise ValueError for an invalid expression or time zone."""
    if terms.interval is not None:
        return Grid(anchor, terms.interval)
    if terms.cron is not None:
        from eggcluster.worker.schedule.cron import Cron  # loads cronsim and zoneinfo: only for a cron task

        return Cron(terms.cron, terms.timezone)
    return None
