"""The runs of scheduled tasks: one run, the recent ones, whether the next may begin. Pure; runs in all workers."""

from collections import deque
from dataclasses import asdict, dataclass, field
from enum import Enum, auto
from typing import Any

HISTORY_LENGTH = 20  # runs of each task

# The outcomes of a run.
OK = "ok"
FAILED = "failed"  # the function raised
TIMEOUT = "timeout"  # it ran longer than its timeout and was cancelled
STOPPED = "stopped"  # its worker closed before the run ended
LOST = "lost"  # its worker died
NO_WORKER = "nobody"  # no worker was there to run it
SKIPPED = "skipped"  # the previous run was still under way
REFUSED = "refused"  # by a worker that is closing or does not have the task; another worker gets the run


@dataclass(frozen=True)
class RunEnd:
    """The outcome of a run, as its worker reports it; `error` is one line."""

    outcome: str
    error: str = ""


@dataclass
class ScheduleRun:
    """One run. `due` is its tick, in Unix seconds. `trigger` is its cause, such as "time", "catch up", "immediate",
    "hand" or "own" (the strategy). `where` says where it runs, such as "agent", "app#2:4711" or "3 workers". `outcome`
    is None while it runs."""

    name: str
    due: float
    trigger: str
    began: float | None = None
    where: str = ""
    seconds: float | None = None
    outcome: str | None = None
    error: str = ""

    def finish(self, end: RunEnd, now: float) -> None:
        """Record the outcome; the run ended at `now`."""
        self.outcome, self.error = end.outcome, end.error
        if self.began is not None:
            self.seconds = max(0.0, now - self.began)

    def plain(self) -> dict[str, Any]:
        """Return plain values, to be sent."""
        return asdict(self)


@dataclass
class RunHistory:
    """The recent runs of one task, the newest last, and the number of runs by outcome since the agent's start."""

    runs: deque[ScheduleRun] = field(default_factory=lambda: deque(maxlen=HISTORY_LENGTH))
    counts: dict[str, int] = field(default_factory=dict)

    def begin(self, run: ScheduleRun) -> None:
        """Add a run that begins."""
        self.runs.append(run)

    def count(self, run: ScheduleRun) -> None:
        """Count a run that has ended."""
        if run.outcome is not None:
            self.counts[run.outcome] = self.counts.get(run.outcome, 0) + 1


class Admission(Enum):
    """The decision on a run that wants to begin."""

    RUN = auto()
    WAIT = auto()
    SKIP = auto()


class OverlapGuard:
    """Decides whether runs of one task may overlap. `overlap` is "skip", "queue" (one run waits, further ones are
    skipped) or "allow"."""

    def __init__(self, overlap: str) -> None:
        self.overlap = overlap
        self.running = 0
        self.waiting = 0

    def arrive(self) -> Admission:
        """Decide on a run that wants to begin. Count it if it may run or waits."""
        if not self.running or self.overlap == "allow":
            self.running += 1
            return Admission.RUN
        if self.overlap == "queue" and not self.waiting:
            self.waiting += 1
            return Admission.WAIT
        return Admission.SKIP

    def adopt(self) -> None:
        """Count a run that an earlier agent began."""
        self.running += 1

    def leave(self) -> bool:
        """Count a run as ended. Return True if the waiting run may begin now; it is counted as running then."""
        self.running -= 1
        if self.running or not self.waiting:
            return False
        self.waiting -= 1
        self.running += 1
        return True
