"""Intervals as people write them: "500ms", "10s", "5m", "2h", "1d", or seconds as a number. Pure."""

import contextlib
import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_interval(interval: str | float | timedelta) -> float:
    """The interval in seconds, above 0; ValueError with what would be right."""
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
        raise ValueError(f'{interval!r} is no interval: use "500ms", "10s", "5m", "2h", "1d" or seconds above 0')
    return seconds


def next_run(planned: float, now: float, interval: float) -> float:
    """The next instant of a series: on its own grid, and the runs that were missed are left out."""
    missed = max(0, int((now - planned) // interval))
    return planned + (missed + 1) * interval
