"""The master's record of a worker, its states, heartbeat and exit report. Pure; runs in the master and all workers."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from eggcluster.model.messages.role import AGENT, Address, app


class WorkerState(Enum):
    """Where a worker is in its life. The value is the word in logs and in the status."""

    STARTING = "starting"
    LISTENING = "listening"
    STOPPING = "stopping"
    DEAD = "dead"


# A worker only moves forward, and its record is never used again: its successor has a new one.
TRANSITIONS: dict[WorkerState, frozenset[WorkerState]] = {
    WorkerState.STARTING: frozenset({WorkerState.LISTENING, WorkerState.STOPPING, WorkerState.DEAD}),
    WorkerState.LISTENING: frozenset({WorkerState.STOPPING, WorkerState.DEAD}),
    WorkerState.STOPPING: frozenset({WorkerState.DEAD}),
    WorkerState.DEAD: frozenset(),
}


@dataclass(frozen=True)
class ExitReport:
    """How a worker ended: by an exit code, by a signal (its name, such as "SIGKILL"), or not at all (an abandoned
    thread)."""

    code: int | None = None
    signal: str | None = None
    abandoned: bool = False

    @property
    def closed_badly(self) -> str | None:
        """What is wrong with this exit of a worker that was told to close, for the log; None if it closed in order."""
        if self.code:
            return f"failed while closing ({self})"
        if self.abandoned:
            return "did not close in order, it is abandoned: a thread cannot be killed"
        if self.signal is None:
            return None
        how = "it was killed" if self.signal == "SIGKILL" else f"{self.signal} ended it"
        return f"did not close in order, {how}"

    def __str__(self) -> str:
        if self.abandoned:
            return "abandoned: a thread that does not stop cannot be killed"
        return f"code: {self.code}, signal: {self.signal}"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker last wrote into its heartbeat page.

    `beat` is an instant of CLOCK_MONOTONIC, 0 before the first; `lag` is how late that beat came, in seconds.
    `accepting` is False while the worker itself takes no new connections. `accepted` counts the connections that it has
    taken since its start. `full` says that requests wait for its threads: other workers should get the new connections.
    `lost_threads` counts the threads that do not come back from the application.
    """

    beat: float = 0.0
    lag: float = 0.0
    requests: int = 0
    connections: int = 0
    accepting: bool = True
    accepted: int = 0
    full: bool = False
    lost_threads: int = 0

    def is_idle_since(self, before: "Heartbeat") -> bool:
        """Return whether nothing has been served since `before`."""
        return self.requests == before.requests and self.load == before.load

    @property
    def load(self) -> tuple[int, bool, bool]:
        """The part of the heartbeat that steering decides by."""
        return self.connections, self.accepting, self.full


@dataclass(eq=False)
class Worker:
    """The master's record of one worker.

    The supervisor alone changes its state. Other parts of the master fill in what only they learn: the fork writes
    `worker_id`, `listening_at`, or the `failure` of a fork that the system refused; each reading of the heartbeats
    writes `rss`; the worker's own report writes `background`, the states of its background tasks, which only the
    status shows, and `shares`: whether it may have a copy of the shared dictionary.

    `worker_id` is the pid in process mode. `failure` is the finished report of a failed boot, from the worker itself or
    from the supervisor; `misused_option` says that an option is at fault. `kill_reason` says why the supervisor ended a
    worker that reported no failure: it was hung, or had lost its channel. `heartbeat` and `rss` (bytes, 0: unknown) are
    the last ones read; `stalled` says whether the heartbeat was overdue then. `jitter`, from 0 to 1, spreads what would
    otherwise happen to all workers at once. Instants are monotonic, in seconds.
    """

    slot: int
    generation: int
    born: float
    start_deadline: float
    worker_id: int | None = None
    state: WorkerState = WorkerState.STARTING
    listening_since: float | None = None
    listening_at: str | None = None
    failure: str | None = None
    misused_option: bool = False
    kill_reason: str | None = None
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    rss: int = 0
    stalled: bool = False
    jitter: float = 0.0
    shares: bool = False
    background: list[dict[str, Any]] = field(default_factory=list)

    address = AGENT  # an AppWorker has its slot's

    def advance(self, state: WorkerState) -> None:
        """Move to `state`. AssertionError if TRANSITIONS does not have this move, which is a bug of ours."""
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"BUG: {self!r} cannot become {state.value}")
        self.state = state

    @property
    def label(self) -> str:
        """The worker's name in logs and in the status: `app_worker#2:4711`."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.label

    def __repr__(self) -> str:
        return f"<{self.label} gen {self.generation} {self.state.value}>"


class AgentWorker(Worker):
    """One life of the agent."""

    @property
    def label(self) -> str:
        return f"agent_worker#1:{self.worker_id}"  # Egg's spelling; there is never a #2


class AppWorker(Worker):
    """One life of an app worker, in one of the slots 1..N."""

    @property
    def address(self) -> Address:  # type: ignore[override]
        return app(self.slot)

    @property
    def label(self) -> str:
        return f"app_worker#{self.slot}:{self.worker_id}"
