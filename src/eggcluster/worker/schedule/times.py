"""The series of instants behind a task's terms. Runs in the worker."""

from eggcluster.model.schedule_terms import ScheduleTerms
from eggcluster.model.timetable import Grid, Times


def times_of(terms: ScheduleTerms, anchor: float) -> Times | None:
    """A grid from `anchor` on, or a cron's; None for a task that only its strategy brings about. ValueError for
    what is no expression or no zone."""
    if terms.interval is not None:
        return Grid(anchor, terms.interval)
    if terms.cron is not None:
        from eggcluster.worker.schedule.cron import Cron  # with its library and zoneinfo: only where there is a cron

        return Cron(terms.cron, terms.timezone)
    return None
