"""The supervisor's commands, as imperatives, which the master carries out. Pure; runs in the master."""

from dataclasses import dataclass

from eggcluster.model.lives.worker import ExitReport, Worker


@dataclass(frozen=True)
class Fork:
    """Start the agent, or these app workers."""

    workers: tuple[Worker, ...]


@dataclass(frozen=True)
class Stop:
    """Ask the agent, or these app workers, to close; after `grace` seconds kill or abandon them, as `Kill` does."""

    workers: tuple[Worker, ...]
    grace: float


@dataclass(frozen=True)
class Kill:
    """Kill the worker's process tree now, or abandon its thread."""

    worker: Worker


@dataclass(frozen=True)
class Abort:
    """Let a hung worker write the stacks of its threads and die, then kill its process tree."""

    worker: Worker


@dataclass(frozen=True)
class NotifyReady:
    """Send `egg-ready` to this worker, or (None) to all workers and the parent."""

    worker: Worker | None


@dataclass(frozen=True)
class PublishPids:
    """Send `egg-pids`, and steer anew: the agent or the set of listening workers has changed."""


@dataclass(frozen=True)
class ReadHeartbeats:
    """Read the heartbeats of the workers, and pass them to `heartbeats_read`."""


@dataclass(frozen=True)
class Steer:
    """Steer anew: the workers in `changed` have stalled or move again, or the load of some worker has changed."""

    changed: tuple[Worker, ...]


@dataclass(frozen=True)
class ReportDeath:
    """Log an unexpected exit and report it to the parent. `state` is the worker's state before, as a word."""

    worker: Worker
    exit: ExitReport
    state: str


@dataclass(frozen=True)
class CloseListeners:
    """Let the kernel refuse new connections instead of queueing them: no worker accepts any more."""


@dataclass(frozen=True)
class Log:
    """Write a log line; with `progress`, send it to the requesters of the reload, too."""

    level: int
    text: str
    progress: bool = False


@dataclass(frozen=True)
class ReloadEnded:
    """End the requests for a reload. `failure` is why it stopped half-way; None: every slot has a new worker."""

    failure: str | None


Command = (
    Fork
    | Stop
    | Kill
    | Abort
    | NotifyReady
    | PublishPids
    | ReadHeartbeats
    | Steer
    | ReportDeath
    | CloseListeners
    | Log
    | ReloadEnded
)
