"""No process is late because all of them stood still."""

import ast
import threading
import time
from pathlib import Path

import pytest

import eggcluster
from eggcluster.kernel.threads import wait_steadily

ROOT = Path(eggcluster.__file__).parent
# They tell a person when something happened, and decide nothing; but cron's clock is the wall's (docs/schedule.md).
WALL_CLOCKS = {
    "cli/live_feeds.py",
    "integrations/rate_counter.py",  # limits wants the ends of windows in it
    "cli/schedules_table.py",
    "http/server.py",
    "logs/line_format.py",
    "master/control/event_feed.py",
    "master/master.py",
    "master/relay/watchers.py",
    "worker/engines/access_logger.py",
    "worker/schedule/clock.py",
}


class Late:
    """An event that is never set, in a process that is stopped each time it waits: only the clock passes."""

    def __init__(self, clock: list[float], late: float) -> None:
        self.clock, self.late, self.waits = clock, late, 0

    def wait(self, seconds: float) -> bool:
        self.clock[0] += seconds + self.late
        self.waits += 1
        return False

    def is_set(self) -> bool:
        return False


@pytest.mark.parametrize(("late", "waits"), [(0.0, 10), (0.9, 6), (1.1, 10), (3600.0, 10)])
def test_a_wait_that_took_much_too_long_counts_as_one_slice(late: float, waits: int) -> None:
    clock = [0.0]
    event = Late(clock, late)
    assert not wait_steadily(event, 10.0, lambda: clock[0])  # type: ignore[arg-type]
    assert event.waits == waits


def test_a_wait_that_is_answered_ends_at_once() -> None:
    event = threading.Event()
    event.set()
    began = time.monotonic()
    assert wait_steadily(event, 60)
    assert time.monotonic() - began < 5


def test_a_wait_in_vain_takes_its_time() -> None:
    began = time.monotonic()
    assert not wait_steadily(threading.Event(), 0.05)
    assert time.monotonic() - began >= 0.05


def test_the_wall_clock_decides_nothing() -> None:
    """It jumps: with NTP, after a suspend, by hand. The modules that use it are listed above."""
    asked = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if name in {"time.time", "time.time_ns", "datetime.now", "time.localtime", "time.gmtime", "date.today"}:
                asked.add(str(path.relative_to(ROOT)))
    assert asked == WALL_CLOCKS
