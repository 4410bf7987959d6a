"""Cron expressions in a time zone. Runs in agent and app workers; only a cron task loads it, cronsim and zoneinfo.

cronsim finds the local times that match. This module handles the hours that a zone skips or repeats, for five fields
and for six alike, as Debian's cron does:

- A task at fixed times (neither its minute nor its hour begins with `*`) runs once for each of them. In a skipped
  hour it runs when the hour is over; in a repeated hour it runs the first time.
- Any other task runs whenever the local time matches: twice in a repeated hour, and not in a skipped one.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from eggcluster.wording import short

MAX_SET_BACK = timedelta(hours=3)  # no zone's clock is set back by more
MINUTE = timedelta(minutes=1)

# The nicknames of crontab(5), except @reboot, which is `immediate` here.
NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Cron:
    """The instants, as Unix seconds, of an expression of five fields, of six with the seconds first, or of a word such
    as `@daily`. Without a zone it follows local time. Raises ValueError for an invalid expression or zone."""

    def __init__(self, expression: str, timezone: str | None = None) -> None:
        self._zone = _zone(timezone) if timezone is not None else None
        self._expression = NICKNAMES.get(expression.lower(), expression)
        try:
            CronSim(self._expression, datetime(2000, 1, 1))
        except CronSimError as error:
            raise ValueError(f"cron={short(expression)} is not a cron expression: {error}") from None
        minute, hour = self._expression.split()[-5:-3]
        self._fixed = not (minute.startswith("*") or hour.startswith("*"))

    def after(self, instant: float) -> float | None:
        """Return the first instant later than `instant`; None if there is none within 50 years."""
        start = self._local(instant)
        if self._fixed:
            return next(self._at_fixed_times(start, instant), None)
        found = [self._by_real_time(start, instant)]
        set_back = start + MAX_SET_BACK - self._local(instant + MAX_SET_BACK.total_seconds())
        if set_back > timedelta():  # local times from before `start` are about to come again
            found.append(self._by_real_time(start - set_back, instant))
        return min((each for each in found if each is not None), default=None)

    def latest(self, first: float, now: float) -> float:
        """Return the last instant up to `now`; `first` is an instant of the series, not later than `now`."""
        back = 1.0
        while now - back > first:
            found = self.after(now - back)
            if found is not None and found <= now:
                first = found
                break
            back *= 60
        while (following := self.after(first)) is not None and following <= now:
            first = following
        return first

    def _matches(self, start: datetime) -> Iterator[datetime]:
        """Yield the matching local times later than `start`, without a zone."""
        yield from CronSim(self._expression, start)

    def _at_fixed_times(self, start: datetime, instant: float) -> Iterator[float]:
        for local in self._matches(start):
            while not self._exists(local):
                local = local.replace(second=0) + MINUTE
            if (found := self._instant(local)) > instant:
                yield found

    def _by_real_time(self, start: datetime, instant: float) -> float | None:
        for local in self._matches(start):
            if self._exists(local):
                for found in (self._instant(local), self._instant(local.replace(fold=1))):
                    if found > instant:
                        return found
        return None

    def _local(self, instant: float) -> datetime:
        """Return the local time of an instant, without zone and fold."""
        return datetime.fromtimestamp(instant, self._zone).replace(tzinfo=None, fold=0)

    def _instant(self, local: datetime) -> float:
        return local.replace(tzinfo=self._zone).timestamp()

    def _exists(self, local: datetime) -> bool:
        return self._local(self._instant(local)) == local


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except Exception:  # ZoneInfo also raises the file system's errors, for names such as "..", "Europe" or ""
        raise ValueError(f'timezone={short(name)} is not a time zone, such as "Europe/Berlin" or "UTC"') from None
