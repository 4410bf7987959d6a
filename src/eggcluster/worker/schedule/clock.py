"""The two clocks of a schedule: one that never jumps, for intervals, and the wall's, for cron. Runs in the worker."""

import time


class Clock:
    """Seconds. Tests put another one in its place."""

    def monotonic(self) -> float:
        """The same in all processes of this boot of the machine: CLOCK_MONOTONIC, clock_gettime(2)."""
        return time.monotonic()

    def wall(self) -> float:
        """Unix time."""
        return time.time()


def time_text(instant: float) -> str:
    """An instant of the wall clock for a log line: `16:02:19.790`, local time."""
    return f"{time.strftime('%H:%M:%S', time.localtime(instant))}.{int(instant % 1 * 1000):03}"
