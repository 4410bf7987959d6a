"""The terms of one scheduled task: the checked arguments of `schedule(...)`. Pure; runs in all workers."""

from dataclasses import asdict, dataclass, field, fields
from datetime import timedelta
from typing import Any, TypedDict

from eggcluster.model.schedule.declaration import check_name, interval_text, parse_interval
from eggcluster.wording import short

OVERLAPS = ("skip", "queue", "allow")
SAY_WHEN = 'say when: interval="10s", or cron="0 3 * * *"'
MAX_RETRIES = 1000  # a run that has ended this many workers will end the next one, too
DEFAULT_CATCH_UP = 60.0  # seconds; what `catch_up=True` means

Interval = str | float | timedelta


class GivenTerms(TypedDict, total=False):
    """The keyword arguments of `schedule(...)`; docs/schedule.md describes each."""

    cron: str
    timezone: str
    type: str
    name: str
    immediate: bool
    disable: bool
    env: list[str]
    jitter: Interval
    timeout: Interval
    overlap: str
    catch_up: bool | Interval
    retry: int
    options: dict[str, Any]


@dataclass(frozen=True)
class ScheduleTerms:
    """One task's terms. Times are in seconds. `function` says where the function is defined. Tasks with equal terms are
    the same task."""

    name: str
    function: str
    type: str
    interval: float | None = None
    cron: str | None = None
    timezone: str | None = None
    immediate: bool = False
    disable: bool = False
    env: tuple[str, ...] | None = None
    jitter: float = 0.0
    timeout: float | None = None
    overlap: str = "skip"
    catch_up: float = 0.0
    retry: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def when(self) -> str:
        """The times in words. A series of ticks continues as long as this text stays the same."""
        if self.interval is not None:
            return f"every {interval_text(self.interval)}"
        if self.cron is not None:
            return f"cron {self.cron}" + (f" {self.timezone}" if self.timezone else "")
        return "-"

    def describe(self) -> str:
        """Return where the function is defined and which terms are not the defaults, for messages about two tasks."""
        told = [self.when, f"type {self.type}"]
        for each in fields(self)[6:]:
            value = getattr(self, each.name)
            if value not in (each.default, {}):
                told.append(f"{each.name} {value}")
        return f"{self.function} ({', '.join(told)})"

    def runs_in(self, env: str) -> bool:
        """Return whether the task runs at its times in that environment."""
        return not self.disable and (self.env is None or not env or env in self.env)

    def plain(self) -> dict[str, Any]:
        """Return plain values, to be sent."""
        return asdict(self)


def check_terms(name: str, function: str, type: str, interval: Interval | None, given: GivenTerms) -> ScheduleTerms:
    """Return the checked terms; ValueError says what is wrong. Cron, time zone and type are checked elsewhere."""
    unknown = set(given) - set(GivenTerms.__annotations__)
    if unknown:
        raise ValueError(f"{min(unknown)} is not one of its terms: interval, {', '.join(GivenTerms.__annotations__)}")
    cron = given.get("cron")
    if interval is not None and cron is not None:
        raise ValueError("interval and cron exclude each other")
    if cron is None and "timezone" in given:
        raise ValueError("timezone belongs to cron")
    terms = ScheduleTerms(
        name=check_name(given.get("name", name)),
        function=function,
        type=check_name(given.get("type", type), "type"),
        interval=_seconds("interval", interval),
        cron=None if cron is None else " ".join(_text("cron", cron).split()),
        timezone=given.get("timezone"),
        immediate=_flag("immediate", given.get("immediate", False)),
        disable=_flag("disable", given.get("disable", False)),
        env=_env(given.get("env")),
        jitter=0.0 if given.get("jitter") == 0 else _seconds("jitter", given.get("jitter")) or 0.0,
        timeout=_seconds("timeout", given.get("timeout")),
        overlap=_overlap(given.get("overlap", "skip")),
        catch_up=_catch_up(given.get("catch_up", False)),
        retry=_retry(given.get("retry", 0)),
        options=_options(given.get("options", {})),
    )
    return _check_combination(terms)


def _check_combination(terms: ScheduleTerms) -> ScheduleTerms:
    """Check the terms against each other."""
    if terms.type in ("agent", "worker", "all") and terms.interval is None and terms.cron is None:
        raise ValueError(SAY_WHEN)
    if terms.interval is not None and terms.jitter >= terms.interval:
        raise ValueError(f"jitter must be less than the interval, {interval_text(terms.interval)}")
    if terms.retry and terms.type == "agent":
        raise ValueError("retry is for tasks that run in app workers")
    return terms


def _text(term: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{term}={short(value)} is not a non-empty string")
    return value


def _flag(term: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{term}={short(value)} is neither True nor False")
    return value


def _seconds(term: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        return parse_interval(value)
    except ValueError as error:
        raise ValueError(f"{term}={error}") from None


def _env(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(env, str) for env in value):
        raise ValueError(f'env={short(value)} is not a list of environments, such as ["prod"]')
    return tuple(value)


def _overlap(value: Any) -> str:
    if value not in OVERLAPS:
        raise ValueError(f"overlap={short(value)} is not one of {', '.join(OVERLAPS)}")
    return str(value)


def _catch_up(value: Any) -> float:
    if isinstance(value, bool):
        return DEFAULT_CATCH_UP if value else 0.0
    return _seconds("catch_up", value) or 0.0


def _retry(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_RETRIES:
        raise ValueError(f"retry={short(value)} is not a number of further attempts, from 0 to {MAX_RETRIES}")
    return value


def _options(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(
            f'options={short(value)} is not a dictionary of names and values, such as {{"queue": "mails"}}'
        )
    return value
