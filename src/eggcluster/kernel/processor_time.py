"""Processor time of processes that follow one another under one name. Runs in the master."""

import os
from collections import Counter
from collections.abc import Mapping

_TICKS = os.sysconf("SC_CLK_TCK")


def processor_time(pid: int) -> float | None:
    """Return the seconds of processor time that a process has used (proc(5), stat); None if that is unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, IndexError, ValueError):
        return None


class ProcessorTimes:
    """Sums by name. What a process used between the last reading and its death is missing."""

    def __init__(self) -> None:
        self._past: Counter[str] = Counter()
        self._latest: dict[int, tuple[str, float]] = {}  # by process id

    def read(self, names: Mapping[int, str]) -> Mapping[str, float]:
        """Read the times of these processes, whose names are given; return the sums by name, of dead ones, too."""
        before, self._latest = self._latest, {}
        for pid, name in names.items():
            seconds = processor_time(pid)
            if seconds is not None:
                self._latest[pid] = name, seconds
        for pid, (name, seconds) in before.items():
            if pid not in self._latest or self._latest[pid] < (name, seconds):  # it is dead; its id may be another's
                self._past[name] += seconds  # type: ignore[assignment]
        sums = self._past.copy()
        for name, seconds in self._latest.values():
            sums[name] += seconds  # type: ignore[assignment]
        return sums
