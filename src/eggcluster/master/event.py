"""What reaches the master's inbox: facts, in the past tense."""

from dataclasses import dataclass, field

from eggcluster.errors import FrameError
from eggcluster.kernel.source_stamps import Stamp
from eggcluster.master.progress import Progress
from eggcluster.model.worker import ExitReport, Worker


@dataclass(frozen=True)
class Started:
    """`agent-start` or `app-start` came from it; `sources` are the files that its code was loaded from."""

    worker: Worker
    sources: tuple[Stamp, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class BootFailed:
    """It told why it cannot boot; its exit follows."""

    worker: Worker
    report: str
    bad_option: bool


@dataclass(frozen=True)
class Exited:
    """It and all that it started are known dead."""

    worker: Worker
    exit: ExitReport


@dataclass(frozen=True)
class ChannelBroke:
    """It sent what is no frame, or closed its channel and lives on (None)."""

    worker: Worker
    error: FrameError | None


@dataclass(frozen=True)
class SignalReceived:
    """The master got a signal."""

    number: int


@dataclass(frozen=True)
class CloseRequested:
    """Somebody with the right to asked for the end; `why` is for the log."""

    why: str
    progress: Progress | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ReloadRequested:
    """Somebody with the right to asked for new workers, and for a new agent, too; None: if its code has changed."""

    agent: bool | None = None
    progress: Progress | None = field(default=None, repr=False)


Event = Started | BootFailed | Exited | ChannelBroke | SignalReceived | CloseRequested | ReloadRequested
