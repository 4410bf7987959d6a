"""What is seen of a living worker from outside: whether its event loop moves, and how much it has to do. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eggcluster.model.worker import Worker

BEAT_INTERVAL = 0.2  # seconds between two beats of a worker's loop
LOOK_INTERVAL = 0.2  # seconds between two looks of the master
IDLE_LOOK_INTERVAL = 0.5  # where nothing is to do: to be woken costs more than the look
# A slot whose loop stands still gets no new connections: within a second, the idle look and a late one included.
STALLED_AFTER = 0.45
LEAST_TIMEOUT = 1.0  # seconds of silence; after less, one that just waits for its next beat, or a CPU, would be hung
OVERSLEPT_AFTER = 1.0  # seconds that a look may be late before the master takes itself for the one who slept


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """What a worker last wrote. `beat` is an instant of CLOCK_MONOTONIC, 0 before the first; `lag` is by how much
    that beat came too late, in seconds; `accepting` is False while it takes no new connections of its own accord;
    `accepted` is how many it has got since its start."""

    beat: float = 0.0
    lag: float = 0.0
    requests: int = 0
    connections: int = 0
    accepting: bool = True
    accepted: int = 0

    def is_idle_since(self, before: "VitalSigns") -> bool:
        """Whether nothing has been served since."""
        return self.requests == before.requests and self.load == before.load

    @property
    def load(self) -> tuple[int, bool]:
        """What matters for the next connection."""
        return self.connections, self.accepting


class Vigil:
    """Judges by their beats whose loop moves. A master that slept itself accuses nobody: it looks anew from then on."""

    def __init__(self) -> None:
        self._watching_since = 0.0

    def restart(self, now: float) -> None:
        """Whatever was silent up to now may have had no chance to speak."""
        self._watching_since = now

    def silence(self, worker: "Worker", now: float) -> float:
        """For how long its loop has not moved, in seconds."""
        heard = max(worker.signs.beat, worker.listening_since or 0.0, self._watching_since)
        return max(0.0, now - heard)

    def look(self, workers: Iterable["Worker"], now: float) -> list["Worker"]:
        """Note who stands still; gives those for whom that has changed."""
        changed = []
        for worker in workers:
            moves = self.silence(worker, now) < STALLED_AFTER
            if moves is not worker.moves:
                worker.moves = moves
                changed.append(worker)
        return changed
