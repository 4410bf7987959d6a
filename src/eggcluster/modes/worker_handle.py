"""The master's handle of a worker: what every start mode can promise. Runs in the master."""

import socket
from abc import ABC, abstractmethod
from enum import Enum, auto

from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.model.lives.worker import ExitReport


class StopOutcome(Enum):
    """How a stop went."""

    GRACEFUL = auto()  # the worker ended by itself within the grace period
    KILLED = auto()  # SIGKILL was needed
    ABANDONED = auto()  # the worker is a thread that did not stop: it still runs, because Python cannot kill it


class WorkerHandle(ABC):
    """The master's handle of one worker, whatever it is made of.

    `channel` is the master's end of the worker's socket pair. The holder of the handle closes it and `heartbeat_page`.
    """

    worker_id: int
    channel: socket.socket
    heartbeat_page: HeartbeatPage
    last_resort = "kill"  # what is done to a worker that does not close in time, as a word for the log

    @property
    def lives_on(self) -> bool:
        """Whether the worker was abandoned and still runs."""
        return False

    async def wait_start(self) -> None:  # noqa: B027  # a mode whose workers start at once has nothing to wait for
        """Wait until the worker has started, or was ended before it; until then `worker_id` may be 0. OSError if the
        system refuses the worker."""

    @abstractmethod
    def resident_bytes(self) -> int:
        """Return how many bytes of memory the worker holds; 0 if that is unknown."""

    @abstractmethod
    async def wait_exit(self) -> ExitReport:
        """Wait until the worker and all that it started are known dead, or the worker is abandoned. Return how it
        ended. Await it once, in one task."""

    @abstractmethod
    async def stop(self, *, grace: float) -> StopOutcome:
        """Ask the worker to close; after `grace` seconds end it by force. Return once it and its children are gone.

        A second call, with any grace, only waits. How a worker is ended by force depends on the mode.
        """

    @abstractmethod
    async def abort(self) -> None:
        """Let a hung worker write the stacks of its threads as its final message, then end it and all that it started
        by force, as far as possible. Return once it is known dead or abandoned. A second call only waits."""

    @abstractmethod
    def kill(self) -> None:
        """End the worker and all that it started by force, or abandon it. Return at once; `wait_exit` waits for the
        end."""
