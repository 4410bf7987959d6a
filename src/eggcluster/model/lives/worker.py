"""One incarnation in the cluster, the agent's or an app worker's, and the states it may go through."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from eggcluster.model.messages.role import AGENT, Address, app


class WorkerState(Enum):
    """Where an incarnation is in its life. The value is the word in logs and in the status."""

    STARTING = "starting"
    LISTENING = "listening"
    STOPPING = "stopping"
    DEAD = "dead"


# An incarnation only moves forward and is never used again: its successor is a new object.
TRANSITIONS: dict[WorkerState, frozenset[WorkerState]] = {
    WorkerState.STARTING: frozenset({WorkerState.LISTENING, WorkerState.STOPPING, WorkerState.DEAD}),
    WorkerState.LISTENING: frozenset({WorkerState.STOPPING, WorkerState.DEAD}),
    WorkerState.STOPPING: frozenset({WorkerState.DEAD}),
    WorkerState.DEAD: frozenset(),
}


@dataclass(frozen=True)
class ExitReport:
    """How an incarnation ended: its exit code, or the signal that ended it (its name, such as "SIGKILL"); or that it
    did not, and was abandoned."""

    code: int | None = None
    signal: str | None = None
    abandoned: bool = False

    def __str__(self) -> str:
        if self.abandoned:
            return "abandoned: a thread that does not stop cannot be killed"
        return f"code: {self.code}, signal: {self.signal}"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker last wrote. `beat` is an instant of CLOCK_MONOTONIC, 0 before the first; `lag` is by how much
    that beat came too late, in seconds; `accepting` is False while it takes no new connections of its own accord;
    `accepted` is how many it has got since its start."""

    beat: float = 0.0
    lag: float = 0.0
    requests: int = 0
    connections: int = 0
    accepting: bool = True
    accepted: int = 0

    def is_idle_since(self, before: "Heartbeat") -> bool:
        """Whether nothing has been served since."""
        return self.requests == before.requests and self.load == before.load

    @property
    def load(self) -> tuple[int, bool]:
        """What matters for the next connection."""
        return self.connections, self.accepting


@dataclass(eq=False)
class Worker:
    """The master's record of one incarnation. Only the supervisor changes it; the fork fills in, once,
    what is known only then: `worker_id`, `listening_at`, or the `failure` of a fork that the system refused.

    `worker_id` is the pid in process mode. `failure` is the finished report of a boot that failed, as the worker itself
    or the supervisor told it; `verdict` is why the supervisor ended one that had told of no failure itself: hung, or
    without its channel. `signs` and `rss` (bytes, 0: not looked at) are from the last look at it, `moves` is what
    they say of its event loop. `jitter`, from 0 to 1, spreads what would else happen to all workers at once.
    `background` are the states of its background tasks, as it last told them, for the status alone.
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
    verdict: str | None = None
    signs: Heartbeat = field(default_factory=Heartbeat)
    rss: int = 0
    moves: bool = True
    jitter: float = 0.0
    background: list[dict[str, Any]] = field(default_factory=list)

    address = AGENT  # of the seat; AppWorker has its slot's

    def advance(self, state: WorkerState) -> None:
        """Move to `state`; a move that the table does not hold is a bug of ours."""
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"BUG: {self!r} cannot become {state.value}")
        self.state = state

    @property
    def label(self) -> str:
        """The one way to name it in logs: `app_worker#2:4711`."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.label

    def __repr__(self) -> str:
        return f"<{self.label} gen {self.generation} {self.state.value}>"


class AgentWorker(Worker):
    """An incarnation of the agent."""

    @property
    def label(self) -> str:
        return f"agent_worker#1:{self.worker_id}"  # Egg's spelling; there is never a #2


class AppWorker(Worker):
    """An incarnation in one of the slots 1..N."""

    @property
    def address(self) -> Address:  # type: ignore[override]
        return app(self.slot)

    @property
    def label(self) -> str:
        return f"app_worker#{self.slot}:{self.worker_id}"
