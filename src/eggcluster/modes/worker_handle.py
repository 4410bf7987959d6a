"""The master's grip on one incarnation: what every start mode can truly promise."""

import socket
from abc import ABC, abstractmethod
from enum import Enum, auto

from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.model.lives.worker import ExitReport


class StopOutcome(Enum):
    """How a stop went."""

    GRACEFUL = auto()  # it ended by itself within the grace period
    KILLED = auto()  # SIGKILL was needed
    ABANDONED = auto()  # a thread that would not stop: it still runs, Python cannot kill it


class WorkerHandle(ABC):
    """One incarnation, whatever it is made of. `channel` is the master's end of its socket pair, `record` of its vital
    record; the holder of the handle closes both."""

    worker_id: int
    channel: socket.socket
    record: HeartbeatPage
    last_resort = "kill"  # what becomes of one that does not close in time

    @property
    def lives_on(self) -> bool:
        """Whether it was abandoned, and still runs."""
        return False

    @abstractmethod
    def resident_bytes(self) -> int:
        """How much memory it holds; 0 where that cannot be told."""

    @abstractmethod
    async def wait_exit(self) -> ExitReport:
        """Wait until it and all that it started are known dead, or it is abandoned. To be awaited once, by one task."""

    @abstractmethod
    async def stop(self, *, grace: float) -> StopOutcome:
        """Ask it to close; after `grace` seconds end it by force. Returns once it is gone, and all its children.

        Called again while it waits, with any grace, it only waits. What escalation means is the mode's business.
        """

    @abstractmethod
    async def abort(self) -> None:
        """Let a hung worker write the stacks of its threads as its final message, and end it and all
        that it started by force, as far as that can be. Returns once it is known dead, or abandoned; called again while
        it waits, it only waits."""

    @abstractmethod
    def kill(self) -> None:
        """End it and all that it started by force, or abandon it. Returns at once; `wait_exit` tells of its end."""
