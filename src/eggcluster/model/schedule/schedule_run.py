"""One run of a scheduled task, the last ones of each, and whether the next may begin. Pure."""

from collections import deque
from dataclasses import asdict, dataclass, field
from enum import Enum, auto
from typing import Any

KEPT = 20  # runs of each task

# How a run may end.
OK = "ok"
FAILED = "failed"  # the function raised
TIMEOUT = "timeout"  # it ran longer than its timeout, and was cancelled
STOPPED = "stopped"  # its worker closed before it had ended
LOST = "lost"  # its worker died
NOBODY = "nobody"  # no worker was there to run it
SKIPPED = "skipped"  # the one before was still running
REFUSED = "refused"  # by a worker that is closing, or has no such task: another one gets it


@dataclass(frozen=True)
class RunEnd:
    """How a run ended, as its worker reports it; `error` is one line."""

    outcome: str
    error: str = ""


@dataclass
class ScheduleRun:
    """`due` is its tick; `trigger` what made it: "time", "catch up", "immediate", "hand", or a strategy's "own".
    `where` is its place, such as "agent", "app#2:4711" or "3 workers"; `outcome` is None while it runs."""

    name: str
    due: float
    trigger: str
    began: float | None = None
    where: str = ""
    seconds: float | None = None
    outcome: str | None = None
    error: str = ""

    def finish(self, end: RunEnd, now: float) -> None:
        """It has ended, at `now`."""
        self.outcome, self.error = end.outcome, end.error
        if self.began is not None:
            self.seconds = max(0.0, now - self.began)

    def plain(self) -> dict[str, Any]:
        """As plain values, to be sent."""
        return asdict(self)


@dataclass
class RunHistory:
    """The last runs of one task, the newest last, and how many there have been since the agent's start."""

    runs: deque[ScheduleRun] = field(default_factory=lambda: deque(maxlen=KEPT))
    counts: dict[str, int] = field(default_factory=dict)

    def begin(self, run: ScheduleRun) -> None:
        self.runs.append(run)

    def count(self, run: ScheduleRun) -> None:
        """It has ended."""
        if run.outcome is not None:
            self.counts[run.outcome] = self.counts.get(run.outcome, 0) + 1

    @property
    def last(self) -> ScheduleRun | None:
        """The last one that really began."""
        return next((run for run in reversed(self.runs) if run.began is not None), None)


class Admission(Enum):
    """What becomes of a run that wants to begin."""

    RUN = auto()
    WAIT = auto()
    SKIP = auto()


class OverlapGuard:
    """One task's. `overlap` is "skip", "queue" (one waits, those beyond it are skipped) or "allow"."""

    def __init__(self, overlap: str) -> None:
        self.overlap = overlap
        self.running = 0
        self.waiting = 0

    def arrive(self) -> Admission:
        """A run wants to begin; one that may run, or waits, is counted."""
        if not self.running or self.overlap == "allow":
            self.running += 1
            return Admission.RUN
        if self.overlap == "queue" and not self.waiting:
            self.waiting += 1
            return Admission.WAIT
        return Admission.SKIP

    def adopt(self) -> None:
        """A run is under way that began before this gate was there."""
        self.running += 1

    def leave(self) -> bool:
        """A run has ended; True where the one that waits may begin now, and is counted as running."""
        self.running -= 1
        if self.running or not self.waiting:
            return False
        self.waiting -= 1
        self.running += 1
        return True
