"""Cron expressions in a time zone. Runs in the worker; loaded only where there is one, and so are cronsim and zoneinfo.

cronsim finds the local times that match. What becomes of the hours that a zone skips or repeats is decided here, the
same for five fields and for six, as in Debian's cron:

- A task at fixed times (neither its minute nor its hour begins with `*`) runs once for each of them: one that falls
  into a skipped hour runs when the hour is over, one in a repeated hour runs the first time.
- Any other goes by real time: whenever the local time matches, so twice in a repeated hour and not in a skipped one.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from eggcluster.wording import short

AHEAD = timedelta(hours=3)  # no zone's clock is set back by more
MINUTE = timedelta(minutes=1)

# crontab(5) has these words, and @reboot, which is `immediate` here.
WORDS = {
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
    as `@daily`. Without a zone it goes by the machine's local time. ValueError for what is no expression or no zone."""

    def __init__(self, expression: str, timezone: str | None = None) -> None:
        self._zone = _zone(timezone) if timezone is not None else None
        self._expression = WORDS.get(expression.lower(), expression)
        try:
            CronSim(self._expression, datetime(2000, 1, 1))
        except CronSimError as error:
            raise ValueError(f"cron={short(expression)} is no cron expression: {error}") from None
        minute, hour = self._expression.split()[-5:-3]
        self._fixed = not (minute.startswith("*") or hour.startswith("*"))

    def after(self, instant: float) -> float | None:
        """The first instant later than `instant`; None where none comes within 50 years."""
        start = self._local(instant)
        if self._fixed:
            return next(self._at_fixed_times(start, instant), None)
        found = [self._by_real_time(start, instant)]
        set_back = start + AHEAD - self._local(instant + AHEAD.total_seconds())
        if set_back > timedelta():  # local times from before `start` are about to come again
            found.append(self._by_real_time(start - set_back, instant))
        return min((each for each in found if each is not None), default=None)

    def latest(self, first: float, now: float) -> float:
        """The last instant up to `now`; `first` is one of them, not later than `now`."""
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
        """The local times later than `start` that match, without a zone."""
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
        """The wall clock's time, without zone and fold."""
        return datetime.fromtimestamp(instant, self._zone).replace(tzinfo=None, fold=0)

    def _instant(self, local: datetime) -> float:
        return local.replace(tzinfo=self._zone).timestamp()

    def _exists(self, local: datetime) -> bool:
        return self._local(self._instant(local)) == local


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except Exception:  # it raises what the file system does, too, for names such as "..", "Europe" or ""
        raise ValueError(f'timezone={short(name)} is no time zone, such as "Europe/Berlin" or "UTC"') from None
