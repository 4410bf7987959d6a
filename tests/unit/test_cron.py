"""Cron expressions: against another implementation, and against the wall clocks of several zones, minute by minute."""

import contextlib
import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from croniter import CroniterBadDateError, croniter

from eggcluster.worker.schedule.cron import NICKNAMES, Cron

EXPRESSIONS = 3000
TICKS = 4  # of each expression

NAMED_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
NAMED_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


def instants(cron: Cron, start: datetime, count: int) -> list[datetime]:
    """The first instants after `start`, in its zone."""
    found: list[datetime] = []
    instant: float | None = start.timestamp()
    while len(found) < count and instant is not None and (instant := cron.after(instant)) is not None:
        found.append(datetime.fromtimestamp(instant, start.tzinfo))
    return found


# -- against another implementation ------------------------------------------------------------------------------


class Expressions:
    """Random ones, of every form that both implementations read alike."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def field(self, first: int, last: int, names: list[str] | None = None) -> str:
        pick = self.random.randint
        form = self.random.choice(["*", "*", "number", "number", "range", "step", "range step", "list", "name"])
        low = pick(first, last - 1)
        high = pick(low + 1, last)  # the other implementation reads 5-5 as all
        match form:
            case "number":
                return str(low)
            case "range":
                return f"{low}-{high}"
            case "step":
                return f"*/{pick(1, max(2, (last - first) // 2))}"
            case "range step":
                return f"{low}-{high}/{pick(1, 5)}"
            case "list":
                return ",".join(str(n) for n in sorted({pick(first, last) for _ in range(pick(2, 4))}))
            case "name" if names is not None:
                return self.random.choice(names)
        return "*"

    def days(self) -> tuple[str, str]:
        """Day of month and day of week; L and # stand alone, because the other implementation has no or for them."""
        chance = self.random.random()
        if chance < 0.08:
            return "L", "*"
        if chance < 0.2:
            return "*", f"{self.random.randint(0, 6)}{self.random.choice(['L', '#1', '#2', '#3', '#4', '#5'])}"
        day, weekday = self.field(1, 28 if chance < 0.8 else 31), self.field(0, 6, NAMED_DAYS)
        return self.random.choice([(day, "*"), ("*", weekday), (day, weekday)])

    def five_fields(self) -> str:
        day, weekday = self.days()
        return f"{self.field(0, 59)} {self.field(0, 23)} {day} {self.field(1, 12, NAMED_MONTHS)} {weekday}"


def to_croniter(expression: str) -> str:
    """The same in its dialect: the last Friday is L5 there, and 5L here."""
    *fields, weekday = expression.split()
    return " ".join([*fields, f"L{weekday[0]}" if weekday[1:] == "L" else weekday])


def by_croniter(expression: str, start: datetime, *, seconds_first: bool = False) -> Iterator[datetime]:
    # Debian's rule, which is ours: day and weekday must both match where either begins with a star.
    other = croniter(to_croniter(expression), start, implement_cron_bug=True, second_at_beginning=seconds_first)
    with contextlib.suppress(CroniterBadDateError):  # such as the 31st of February
        while True:
            yield other.get_next(datetime)


def by_ours(expression: str, start: datetime) -> list[datetime]:
    try:
        return instants(Cron(expression, "UTC"), start, TICKS)
    except ValueError:
        return []  # it is known at once that it never comes


def compare(seed: int, count: int) -> None:
    """Random expressions from random dates on."""
    expressions, compared = Expressions(seed), 0
    for _ in range(count):
        expression = expressions.five_fields()
        start = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=expressions.random.randrange(4 * 366 * 86400))
        expected = list(itertools.islice(by_croniter(expression, start), TICKS))
        assert by_ours(expression, start) == expected, (expression, start, seed)
        compared += len(expected)
    assert compared > count * TICKS * 0.9


@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_random_expressions_come_when_another_implementation_says(seed: int) -> None:
    compare(seed, EXPRESSIONS // 4)


def test_six_fields_have_the_seconds_first() -> None:
    expressions = Expressions(99)
    for _ in range(500):
        expression = f"{expressions.field(0, 59)} {expressions.five_fields()}"
        start = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=expressions.random.randrange(366 * 86400))
        expected = list(itertools.islice(by_croniter(expression, start, seconds_first=True), TICKS))
        assert by_ours(expression, start) == expected, (expression, start)


@pytest.mark.parametrize("word", [*NICKNAMES, "@Daily"])
def test_the_words_of_crontab(word: str) -> None:
    start = datetime(2025, 3, 5, 7, 8, 9, tzinfo=UTC)
    assert by_ours(word, start) == list(itertools.islice(by_croniter(word.lower(), start), TICKS))


@pytest.mark.parametrize("word", ["@reboot", "@", "@daily *", "daily"])
def test_no_other_word_is_an_expression(word: str) -> None:
    with pytest.raises(ValueError, match="is not a cron expression"):
        Cron(word)


# -- against the clocks on the wall ------------------------------------------------------------------------------

# A zone, and a moment shortly before its clock is set: forward or back by an hour, by half of one, around midnight.
CHANGES = {
    "Europe/Berlin, forward": ("Europe/Berlin", datetime(2026, 3, 28, 20, tzinfo=UTC)),
    "Europe/Berlin, back": ("Europe/Berlin", datetime(2026, 10, 24, 20, tzinfo=UTC)),
    "America/New_York, forward": ("America/New_York", datetime(2026, 3, 8, 2, tzinfo=UTC)),
    "America/New_York, back": ("America/New_York", datetime(2026, 11, 1, 2, tzinfo=UTC)),
    "Australia/Lord_Howe, forward": ("Australia/Lord_Howe", datetime(2026, 10, 3, 10, tzinfo=UTC)),
    "Australia/Lord_Howe, back": ("Australia/Lord_Howe", datetime(2026, 4, 4, 10, tzinfo=UTC)),
    "Africa/Cairo, forward at midnight": ("Africa/Cairo", datetime(2026, 4, 23, 16, tzinfo=UTC)),
    "America/Havana, back to midnight": ("America/Havana", datetime(2026, 10, 31, 20, tzinfo=UTC)),
    "Antarctica/Troll, by two hours": ("Antarctica/Troll", datetime(2026, 10, 24, 18, tzinfo=UTC)),
}
HOURS = 14  # to look at from there


def walls(zone: tzinfo, start: datetime) -> list[tuple[datetime, datetime]]:
    """Each minute as an instant, and what a clock on the wall shows then."""
    minutes = (start + timedelta(minutes=n) for n in range(1, HOURS * 60))
    return [(minute, minute.astimezone(zone).replace(tzinfo=None)) for minute in minutes]


def at_fixed_times(hour: int, minute: int, zone: tzinfo, start: datetime) -> list[datetime]:
    """When a task at that time of the day has to run: when a wall clock shows it for the first time that day, or when
    it first shows a later time than the one that it skips."""
    due: list[datetime] = []
    done = set()
    before = start.astimezone(zone).replace(tzinfo=None)
    for instant, wall in walls(zone, start):
        target = wall.replace(hour=hour, minute=minute)
        reached = wall == target or before < target < wall
        if reached and target not in done:
            done.add(target)
            due.append(instant)
        before = wall
    return due


@pytest.mark.parametrize("change", CHANGES)
def test_a_task_at_a_fixed_time_runs_once_a_day_also_when_the_clock_is_set(change: str) -> None:
    zone_name, start = CHANGES[change]
    zone = ZoneInfo(zone_name)
    for hour, minute in itertools.product(range(24), (0, 1, 20, 30, 59)):
        expected = at_fixed_times(hour, minute, zone, start)
        for expression in (f"{minute} {hour} * * *", f"0 {minute} {hour} * * *"):
            found = instants(Cron(expression, zone_name), start, 3)
            assert [each for each in found if each < start + timedelta(hours=HOURS)] == expected, expression


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "expression",
    ["* * * * *", "*/7 * * * *", "30 * * * *", "5,50 */2 * * *", "* 2 * * *", "*/10 1-2 * * *", "0 * * * *"],
)
def test_any_other_runs_whenever_the_wall_clock_shows_it(change: str, expression: str) -> None:
    zone_name, start = CHANGES[change]
    fields = Cron(expression, "UTC")

    def matches(wall: datetime) -> bool:
        instant = wall.replace(tzinfo=UTC).timestamp()
        return fields.after(instant - 1) == instant

    expected = [instant for instant, wall in walls(ZoneInfo(zone_name), start) if matches(wall)]
    for form in (expression, f"0 {expression}"):
        found = instants(Cron(form, zone_name), start, len(expected))
        assert found == expected
    # From anywhere in between, the next one is the same.
    for moment in range(7, HOURS * 60, 29):
        now = start + timedelta(minutes=moment, seconds=30)
        following = next((each for each in expected if each > now), None)
        if following is not None:
            assert instants(Cron(expression, zone_name), now, 1) == [following]


def test_several_that_fall_into_one_skipped_hour_run_once_when_it_is_over() -> None:
    start = datetime(2026, 3, 29, 0, 0, tzinfo=ZoneInfo("Europe/Berlin"))
    found = instants(Cron("0,20,40 2 * * *", "Europe/Berlin"), start, 2)
    assert [f"{each:%d %H:%M}" for each in found] == ["29 03:00", "30 02:00"]


def test_without_a_zone_it_goes_by_the_machines_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    start = datetime(2026, 3, 28, 20, tzinfo=UTC).timestamp()
    local, berlin = Cron("30 2 * * *"), Cron("30 2 * * *", "Europe/Berlin")
    import time

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        found = [local.after(start + n * 3600) for n in range(40)]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == [berlin.after(start + n * 3600) for n in range(40)]


# -- the last one ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", ["* * * * * *", "*/7 * * * *", "0 3 * * *", "0 0 1 1 *"])
@pytest.mark.parametrize("late", [0, 1, 59, 3600, 86400, 400 * 86400])
def test_the_latest_up_to_now_is_found_without_going_through_all(expression: str, late: float) -> None:
    cron = Cron(expression, "Europe/Berlin")
    first = cron.after(1_800_000_000)
    assert first is not None
    now = first + late
    latest = cron.latest(first, now)
    assert first <= latest <= now
    following = cron.after(latest)
    assert following is not None
    assert following > now
    assert latest == first or cron.after(latest - 1) == latest


def test_an_expression_that_never_comes_has_no_next_instant() -> None:
    assert Cron("0 0 29 2 mon#5", "UTC").after(datetime(2050, 1, 1, tzinfo=UTC).timestamp()) is not None
    assert Cron("0 0 30 2 mon", "UTC").after(0) is not None  # either of them
    assert Cron("0 0 1-7 2 mon#5", "UTC").after(datetime(2045, 1, 1, tzinfo=UTC).timestamp()) is not None
