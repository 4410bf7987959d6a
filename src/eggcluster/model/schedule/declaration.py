"""Checks of declared functions, scheduled and background: function, name, interval. Pure; runs in all workers."""

import contextlib
import functools
import inspect
import re
from datetime import timedelta
from typing import Any

from eggcluster.wording import short

NAME_LENGTH = 100  # characters; names are shown in log lines and tables


def is_function(function: Any) -> bool:
    """Return whether it is a function, a method or a callable object, but not a class: calling that runs nothing."""
    return callable(function) and not isinstance(function, type)


def check_runs(function: Any) -> None:
    """Raise ValueError for a generator function: calling it runs nothing."""
    while isinstance(function, functools.partial):
        function = function.func
    called = type(function).__call__
    for each in (function, called):
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise ValueError("it is a generator, and calling it runs nothing: take the yield out of it")


def check_name(name: Any, term: str = "name") -> str:
    """Return the name; raise ValueError if it does not fit in a log line or a table."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{term}={short(name)} is not a non-empty string")
    if not name.isprintable():
        raise ValueError(f"{term}={short(name)} has characters that cannot be printed")
    if len(name) > NAME_LENGTH:
        raise ValueError(f"{term}={short(name)} has more than {NAME_LENGTH} characters")
    return name


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_INTERVAL = 100 * 365.25 * _UNITS["d"]  # seconds; later dates cannot be shown
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_interval(interval: str | float | timedelta) -> float:
    """Return the interval in seconds, above 0 and up to 100 years; raise ValueError with what would be right."""
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
        raise ValueError(
            f'{short(interval)} is not an interval: use "500ms", "10s", "5m", "2h", "1d" or seconds above 0'
        )
    if seconds > MAX_INTERVAL:
        raise ValueError(f"{short(interval)} is more than 100 years")
    return seconds


def interval_text(seconds: float) -> str:
    """Return the interval as text, in the largest unit without a fraction."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / _UNITS[unit]
        if count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"
