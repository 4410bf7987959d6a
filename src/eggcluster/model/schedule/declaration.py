"""What may be declared as a scheduled or background function: its name, its interval. Pure."""

import contextlib
import functools
import inspect
import re
from datetime import timedelta
from typing import Any

from eggcluster.wording import short

NAME_LENGTH = 100  # characters: names stand in log lines and in tables


def is_function(function: Any) -> bool:
    """Whether it is a function, a method or an object that can be called; a class would only make an object."""
    return callable(function) and not isinstance(function, type)


def check_runs(function: Any) -> None:
    """ValueError for a function that has `yield` in it: calling it runs nothing."""
    while isinstance(function, functools.partial):
        function = function.func
    called = type(function).__call__
    for each in (function, called):
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise ValueError("it is a generator, and calling it runs nothing: take the yield out of it")


def check_name(name: Any, term: str = "name") -> str:
    """The name; ValueError for one that does not fit in a line of a log or a table."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{term}={short(name)} is no text")
    if not name.isprintable():
        raise ValueError(f"{term}={short(name)} has characters that cannot be printed")
    if len(name) > NAME_LENGTH:
        raise ValueError(f"{term}={short(name)} has more than {NAME_LENGTH} characters")
    return name


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST = 100 * 365.25 * _UNITS["d"]  # seconds; no date beyond it need be shown
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_interval(interval: str | float | timedelta) -> float:
    """The interval in seconds, above 0 and up to 100 years; ValueError with what would be right."""
    seconds: float | None = None
    if isinstance(interval, timedelta):
        seconds = interval.total_seconds()
    elif isinstance(interval, str):
        if match := _PATTERN.fullmatch(interval.strip()):
            seconds = float(match[1]) * _UNITS[match[2]]
    elif isinstance(interval, (int, float)) and not isinstance(interval, bool):
        with contextlib.suppress(OverflowError):
            seconds = float(interval)
    if seconds is None or not 0 < seconds < float("inf"):
        raise ValueError(f'{short(interval)} is no interval: use "500ms", "10s", "5m", "2h", "1d" or seconds above 0')
    if seconds > LONGEST:
        raise ValueError(f"{short(interval)} is more than 100 years")
    return seconds


def interval_text(seconds: float) -> str:
    """The interval as people write it, in the largest unit that has no fraction."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / _UNITS[unit]
        if count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"
