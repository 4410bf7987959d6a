"""When a worker has done enough and is replaced by a fresh one: requests, age, memory. Pure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eggcluster.model.worker import Worker

# The share of a limit by which a worker may be early: without it workers that started together would wear out together.
JITTER = 0.1
# A limit that a fresh worker exceeds must not have the cluster do nothing but replace workers.
LEAST_LIFE = 5.0  # seconds of listening before memory counts
PAUSE = 1.0  # seconds between two replacements
PAUSE_AFTER_FAILURE = 60.0  # seconds after one whose successor did not start: the worn worker goes on meanwhile


@dataclass(frozen=True)
class Limits:
    """What a worker may do; 0: no limit. `rss` in bytes, `lifetime` in seconds."""

    requests: int = 0
    lifetime: float = 0.0
    rss: int = 0

    @property
    def any(self) -> bool:
        return bool(self.requests or self.lifetime or self.rss)


def worn_out(worker: "Worker", limits: Limits, now: float) -> str | None:
    """Why this worker should be replaced, None while it should not."""
    if worker.listening_since is None:
        return None
    share = 1 - JITTER * worker.jitter
    age = now - worker.listening_since
    if limits.requests and worker.signs.requests >= limits.requests * share:
        return f"{worker.signs.requests} requests"
    if limits.lifetime and age >= limits.lifetime * share:
        return f"{age:.0f}s of age"
    if limits.rss and worker.rss > limits.rss and age >= LEAST_LIFE:
        return f"{worker.rss / 1024 / 1024:.0f} MiB of memory"
    return None
