"""The settings that the supervisor decides by, and when a worker is due for recycling. Pure; runs in the master."""

from dataclasses import dataclass, field

from eggcluster.model.lives.worker import Worker
from eggcluster.wording import duration

# The share of a limit by which a worker may be early: otherwise workers that start together are replaced together.
EARLY_SHARE = 0.1
# Without it, a memory limit that a fresh worker exceeds would make the cluster replace workers without end.
MEMORY_GRACE = 5.0  # seconds of listening before the limit of memory applies
CLOSE_MARGIN = 5.0  # seconds of the closing that are the master's own
RECYCLE_PAUSE = 1.0  # seconds between two recyclings
RECYCLE_PAUSE_AFTER_FAILURE = 60.0  # seconds, if the successor did not start; the old worker goes on meanwhile


@dataclass(frozen=True)
class RecycleLimits:
    """How much a worker may use or lose until it is recycled; 0: no limit. `rss` is in bytes, `lifetime` in seconds."""

    requests: int = 0
    lifetime: float = 0.0
    rss: int = 0
    lost_threads: int = 0


@dataclass(frozen=True)
class SupervisorSettings:
    """The part of the options that the supervisor decides by. All times are in seconds."""

    workers: int
    app_start_timeout: float = 60.0
    agent_start_timeout: float = 60.0
    app_close_timeout: float = 5.0
    agent_close_timeout: float = 5.0
    close_timeout: float = 15.0
    worker_timeout: float = 0.0  # without a heartbeat for so long, an app worker counts as hung; 0: never
    agent_timeout: float = 0.0  # the same for the agent
    limits: RecycleLimits = field(default_factory=RecycleLimits)
    replace_apps: bool = True  # False: the slot of an app worker that died stays empty
    max_draining: int = 0  # app workers that may drain at a time before a reload goes on; 0: as many as there are slots
    retries_boot: bool = False  # what could not boot is started again at a reload; else the cluster closes
    strict: bool = False  # close when there is no agent for three checks in a row

    @property
    def close_limit(self) -> float:
        """How long the whole closing may take. It always leaves the app workers and the agent their own time."""
        return max(self.close_timeout, self.app_close_timeout + self.agent_close_timeout + CLOSE_MARGIN)

    @property
    def most_draining(self) -> int:
        """How many app workers may drain at a time before a reload goes on: the cluster has so many more at most."""
        return self.max_draining or self.workers

    def grace(self, slot: int) -> float:
        """Return how long the worker in this slot may take to close. Slot 0 is the agent's."""
        return self.app_close_timeout if slot else self.agent_close_timeout

    def hang_timeout(self, slot: int) -> float:
        """Return after how long without a heartbeat the worker in this slot counts as hung; 0: never."""
        return self.worker_timeout if slot else self.agent_timeout


def recycle_pause(*, failed: bool) -> float:
    """Return the seconds until the next recycling; `failed`: the last successor did not start."""
    return RECYCLE_PAUSE_AFTER_FAILURE if failed else RECYCLE_PAUSE


def recycle_reason(worker: Worker, limits: RecycleLimits, now: float) -> str | None:
    """Return why this worker is due for recycling, for the log; None if it is not."""
    if worker.listening_since is None:
        return None
    share = 1 - EARLY_SHARE * worker.jitter
    age = now - worker.listening_since
    if limits.requests and worker.heartbeat.requests >= limits.requests * share:
        return f"{worker.heartbeat.requests} requests"
    if limits.lifetime and age >= limits.lifetime * share:
        return f"{duration(age)} of age"
    if limits.rss and worker.rss > limits.rss and age >= MEMORY_GRACE:
        return f"{worker.rss / 1024 / 1024:.0f} MiB of memory"
    if limits.lost_threads and worker.heartbeat.lost_threads >= limits.lost_threads:
        return f"losing {worker.heartbeat.lost_threads} of its WSGI threads"
    return None
