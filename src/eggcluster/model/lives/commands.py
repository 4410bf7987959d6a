"""What the supervisor wants done: imperatives, carried out by the master. What happened is told by its methods."""

from dataclasses import dataclass

from eggcluster.model.lives.worker import ExitReport, Worker


@dataclass(frozen=True)
class Fork:
    """Start the agent, or these app workers."""

    workers: tuple[Worker, ...]


@dataclass(frozen=True)
class Stop:
    """Ask the agent, or these app workers, to close; after `grace` seconds kill their process trees."""

    workers: tuple[Worker, ...]
    grace: float


@dataclass(frozen=True)
class Kill:
    """Kill its process tree now."""

    worker: Worker


@dataclass(frozen=True)
class Abort:
    """Its event loop stands still: let it write all its stacks and die, then kill its process tree."""

    worker: Worker


@dataclass(frozen=True)
class NotifyReady:
    """Send `egg-ready` to this worker; None: to all workers and the parent."""

    worker: Worker | None


@dataclass(frozen=True)
class PublishPids:
    """The agent or the set of listening workers changed: send `egg-pids`."""


@dataclass(frozen=True)
class ReadHeartbeats:
    """See how the workers are, and tell it with `heartbeats_read`."""


@dataclass(frozen=True)
class Steer:
    """The loops of `changed` stopped or move again, or the load of some has changed: tell the kernel where new
    connections go."""

    changed: tuple[Worker, ...]


@dataclass(frozen=True)
class ReportDeath:
    """It exited unexpectedly: tell the log and the parent."""

    worker: Worker
    exit: ExitReport
    state: str


@dataclass(frozen=True)
class CloseListeners:
    """No worker accepts any more: let the kernel refuse new connections instead of queueing them."""


@dataclass(frozen=True)
class Log:
    """Write a log line; with `progress`, send it to those that requested the reload, too."""

    level: int
    text: str
    progress: bool = False


@dataclass(frozen=True)
class ReloadEnded:
    """The reload is over; `failure` is why it stopped half-way, None when every slot runs a new worker."""

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
