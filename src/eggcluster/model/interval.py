"""Intervals as people write them: "500ms", "10s", "5m", "2h", "1d", or seconds as a number. Pure."""

import contextlib
import re
from datetime import timedelta

from eggcluster.model.declaration import short

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
