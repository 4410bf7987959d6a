"""Health: which worker is stalled or hung, and whether the cluster still has workers. Pure; runs in the master.

Unlike Egg's, the health check waits for a worker that is booting: a cluster with an application that loads its models
for half a minute must not close because its only worker died once.
"""

from collections.abc import Iterable

from eggcluster.model.lives.worker import Worker

BEAT_INTERVAL = 0.2  # seconds between two heartbeats of a worker
HEARTBEAT_CHECK_INTERVAL = 0.2  # seconds between two checks by the master
IDLE_CHECK_INTERVAL = 0.5  # seconds, while no worker has anything to do: waking up costs more than the check
# seconds; so a stalled worker gets no new connections after one second, even if the check is an idle one and late
STALLED_AFTER = 0.45
MIN_HANG_TIMEOUT = 1.0  # seconds; with less, a worker that waits for its next beat, or for a CPU, would count as hung
MASTER_SLEPT_AFTER = 1.0  # seconds; a check that is later than this means that the master itself did not run


def next_heartbeat_check(now: float, *, idle: bool = False) -> float:
    """Return the instant of the next check; `idle`: no worker has anything to do."""
    return now + (IDLE_CHECK_INTERVAL if idle else HEARTBEAT_CHECK_INTERVAL)


def has_slept(late: float) -> bool:
    """Return whether a check that comes `late` seconds too late means that the master itself did not run."""
    return late > MASTER_SLEPT_AFTER


class HangDetector:
    """Finds stalled workers by their heartbeats. After a pause of the master itself it starts to watch anew."""

    def __init__(self) -> None:
        self._watching_since = 0.0

    def restart(self, now: float) -> None:
        """Ignore heartbeats that were missing up to now: the workers may have had no chance to write them."""
        self._watching_since = now

    def stalled_for(self, worker: Worker, now: float) -> float:
        """Return for how many seconds the worker has written no heartbeat."""
        heard = max(worker.heartbeat.beat, worker.listening_since or 0.0, self._watching_since)
        return max(0.0, now - heard)

    def update(self, workers: Iterable[Worker], now: float) -> list[Worker]:
        """Update `stalled` of the workers; return those for which it has changed."""
        changed = []
        for worker in workers:
            stalled = self.stalled_for(worker, now) >= STALLED_AFTER
            if stalled is not worker.stalled:
                worker.stalled = stalled
                changed.append(worker)
        return changed


CHECK_INTERVAL = 10.0  # seconds between two checks that a worker listens; as in Egg
MAX_FAILED_CHECKS = 3  # in a row, before the cluster closes; as in Egg


class HealthCheck:
    """Counts the checks that found no worker. `due` is the instant of the next check, None while there is none."""

    def __init__(self) -> None:
        self.due: float | None = None
        self._without_app = 0
        self._without_agent = 0

    def begin(self, now: float) -> None:
        """Plan the first check."""
        self.due = now + CHECK_INTERVAL

    def postpone(self, seconds: float) -> None:
        """Move the next check, if there is one, to `seconds` later."""
        if self.due is not None:
            self.due += seconds

    def end(self) -> None:
        """Plan no more checks."""
        self.due = None

    def update(self, now: float, *, apps: bool, booting: bool, agent: bool) -> None:
        """Record a check, and plan the next: does an app worker listen, does one boot as usual, does the agent listen?

        A check without an app worker counts only if none boots as usual.
        """
        self.due = now + CHECK_INTERVAL
        if apps:
            self._without_app = 0
        elif not booting:
            self._without_app += 1
        self._without_agent = 0 if agent else self._without_agent + 1

    @property
    def no_app(self) -> bool:
        """Whether no app worker listened in MAX_FAILED_CHECKS checks in a row."""
        return self._without_app >= MAX_FAILED_CHECKS

    @property
    def no_agent(self) -> bool:
        """Whether no agent listened in MAX_FAILED_CHECKS checks in a row."""
        return self._without_agent >= MAX_FAILED_CHECKS
