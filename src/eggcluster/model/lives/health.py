"""Heartbeats: which worker is stalled or hung, and whether the cluster still has workers at all. Pure.

Unlike Egg's it has patience with who is just booting: an application that loads its models for half a minute must not
be lost because its only worker died once.
"""

from collections.abc import Iterable

from eggcluster.model.lives.worker import Worker

BEAT_INTERVAL = 0.2  # seconds between two beats of a worker's loop
LOOK_INTERVAL = 0.2  # seconds between two looks of the master
IDLE_LOOK_INTERVAL = 0.5  # where nothing is to do: to be woken costs more than the look
# A slot whose loop stands still gets no new connections: within a second, the idle look and a late one included.
STALLED_AFTER = 0.45
LEAST_TIMEOUT = 1.0  # seconds of silence; after less, one that just waits for its next beat, or a CPU, would be hung
OVERSLEPT_AFTER = 1.0  # seconds that a look may be late before the master takes itself for the one who slept


class HangDetector:
    """Judges by their beats whose loop moves. A master that slept itself accuses nobody: it looks anew from then on."""

    def __init__(self) -> None:
        self._watching_since = 0.0

    def restart(self, now: float) -> None:
        """Whatever was silent up to now may have had no chance to speak."""
        self._watching_since = now

    def silence(self, worker: Worker, now: float) -> float:
        """For how long its loop has not moved, in seconds."""
        heard = max(worker.heartbeat.beat, worker.listening_since or 0.0, self._watching_since)
        return max(0.0, now - heard)

    def look(self, workers: Iterable[Worker], now: float) -> list[Worker]:
        """Note who stands still; gives those for whom that has changed."""
        changed = []
        for worker in workers:
            stalled = self.silence(worker, now) >= STALLED_AFTER
            if stalled is not worker.stalled:
                worker.stalled = stalled
                changed.append(worker)
        return changed


CHECK_INTERVAL = 10.0  # seconds between two looks at whether anybody serves; Egg's
CHECKS_FAILED = 3  # looks in a row with nobody there before the cluster gives up; Egg's


class HealthCheck:
    """Counts the looks that found nobody. `due` is the instant of the next one, None while there is none."""

    def __init__(self) -> None:
        self.due: float | None = None
        self._without_app = 0
        self._without_agent = 0

    def begin(self, now: float) -> None:
        self.due = now + CHECK_INTERVAL

    def postpone(self, seconds: float) -> None:
        if self.due is not None:
            self.due += seconds

    def end(self) -> None:
        self.due = None

    def look(self, now: float, *, apps: bool, booting: bool, agent: bool) -> None:
        """Note who is there: an app worker that listens, or one that boots as usual, and an agent."""
        self.due = now + CHECK_INTERVAL
        if apps:
            self._without_app = 0
        elif not booting:
            self._without_app += 1
        self._without_agent = 0 if agent else self._without_agent + 1

    @property
    def no_app(self) -> bool:
        """For three looks in a row no app worker has been listening."""
        return self._without_app >= CHECKS_FAILED

    @property
    def no_agent(self) -> bool:
        return self._without_agent >= CHECKS_FAILED
