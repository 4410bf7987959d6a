"""Recycling: when a worker has done enough and is replaced by a fresh one. Pure."""

from dataclasses import dataclass

from eggcluster.model.lives.worker import Worker

# The share of a limit by which a worker may be early: otherwise workers that start together are replaced together.
EARLY_SHARE = 0.1
# Without it, a memory limit that a fresh worker exceeds would make the cluster replace workers without end.
MEMORY_GRACE = 5.0  # seconds of listening before memory counts
RECYCLE_PAUSE = 1.0  # seconds between two replacements
RECYCLE_PAUSE_AFTER_FAILURE = 60.0  # seconds, if the successor did not start; the worn worker goes on meanwhile


@dataclass(frozen=True)
class RecycleLimits:
    """What a worker may do before it is recycled; 0: no limit. `rss` in bytes, `lifetime` in seconds."""

    requests: int = 0
    lifetime: float = 0.0
    rss: int = 0


def recycle_reason(worker: Worker, limits: RecycleLimits, now: float) -> str | None:
    """Return why this worker is to be replaced; None while it is not."""
    if worker.listening_since is None:
        return None
    share = 1 - EARLY_SHARE * worker.jitter
    age = now - worker.listening_since
    if limits.requests and worker.heartbeat.requests >= limits.requests * share:
        return f"{worker.heartbeat.requests} requests"
    if limits.lifetime and age >= limits.lifetime * share:
        return f"{age:.0f}s of age"
    if limits.rss and worker.rss > limits.rss and age >= MEMORY_GRACE:
        return f"{worker.rss / 1024 / 1024:.0f} MiB of memory"
    return None
