"""What the supervisor's decisions depend on, and when a worker is recycled. Pure."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eggcluster.model.lives.worker import Worker


# The share of a limit by which a worker may be early: without it workers that started together would wear out together.
JITTER = 0.1
# A limit that a fresh worker exceeds must not have the cluster do nothing but replace workers.
LEAST_LIFE = 5.0  # seconds of listening before memory counts
PAUSE = 1.0  # seconds between two replacements
PAUSE_AFTER_FAILURE = 60.0  # seconds after one whose successor did not start: the worn worker goes on meanwhile


@dataclass(frozen=True)
class RecycleLimits:
    """What a worker may do before it is recycled; 0: no limit. `rss` in bytes, `lifetime` in seconds."""

    requests: int = 0
    lifetime: float = 0.0
    rss: int = 0


def recycle_reason(worker: "Worker", limits: RecycleLimits, now: float) -> str | None:
    """Return why this worker is to be replaced; None while it is not."""
    if worker.listening_since is None:
        return None
    share = 1 - JITTER * worker.jitter
    age = now - worker.listening_since
    if limits.requests and worker.heartbeat.requests >= limits.requests * share:
        return f"{worker.heartbeat.requests} requests"
    if limits.lifetime and age >= limits.lifetime * share:
        return f"{age:.0f}s of age"
    if limits.rss and worker.rss > limits.rss and age >= LEAST_LIFE:
        return f"{worker.rss / 1024 / 1024:.0f} MiB of memory"
    return None


@dataclass(frozen=True)
class SupervisorSettings:
    """How a cluster is to live. All times in seconds."""

    workers: int
    app_start_timeout: float = 60.0
    agent_start_timeout: float = 60.0
    app_close_timeout: float = 5.0
    agent_close_timeout: float = 5.0
    close_timeout: float = 15.0
    worker_timeout: float = 0.0  # for which an app worker's loop may stand still; 0: for ever
    agent_timeout: float = 0.0
    limits: RecycleLimits = field(default_factory=RecycleLimits)
    replace_apps: bool = True
    strict: bool = False

    @property
    def close_limit(self) -> float:
        """The whole closing's limit: never so short that the two parts of it could not have theirs."""
        return max(self.close_timeout, self.app_close_timeout + self.agent_close_timeout + 5.0)

    def grace(self, slot: int) -> float:
        """What the worker of this slot has to close; slot 0 is the agent's."""
        return self.app_close_timeout if slot else self.agent_close_timeout

    def hang_timeout(self, slot: int) -> float:
        """For how long its loop may stand still."""
        return self.worker_timeout if slot else self.agent_timeout
