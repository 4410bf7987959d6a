"""The slots of a cluster, the agent's and the app workers', and the workers in them. Pure bookkeeping."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from eggcluster.model.lives.restart_budget import RestartBudget
from eggcluster.model.lives.settings import SupervisorSettings
from eggcluster.model.lives.worker import AgentWorker, AppWorker, Worker, WorkerState

USUAL_BOOT = 2.0  # times the last boot: a machine that has just lost its workers is busy


@dataclass
class Slot:
    """The agent's slot (number 0) or an app worker's (1..N), with its workers and the time of the next start.

    `current` serves or is starting. `successor` is starting to replace it (a reload). `retiring` are being stopped.
    `next_try` is the monotonic instant of the next start, None while none is due.
    """

    number: int
    start_timeout: float
    budget: RestartBudget
    generation: int = 0
    current: Worker | None = None
    successor: Worker | None = None
    retiring: list[Worker] = field(default_factory=list)
    next_try: float | None = None
    last_death: str | None = None
    boot_took: float = 0.0  # seconds, the last one that succeeded

    def new_worker(self, now: float, jitter: float = 0.0) -> Worker:
        """Return a new worker for this slot: the current one, or the successor of one that lives."""
        self.generation += 1
        self.next_try = None
        kind = AppWorker if self.number else AgentWorker
        worker = kind(self.number, self.generation, now, now + self.start_timeout, jitter=jitter)
        if self.current is None:
            self.current = worker
        else:
            self.successor = worker
        return worker

    def opened(self, worker: Worker, now: float) -> None:
        """Record that the worker listens."""
        worker.advance(WorkerState.LISTENING)
        worker.listening_since = now
        self.boot_took = now - worker.born

    def boots_as_usual(self, now: float) -> bool:
        """Return whether a worker boots here, and not for much longer than the last boot took."""
        if self.current is None or self.current.state is not WorkerState.STARTING:
            return False
        return now - self.current.born < USUAL_BOOT * self.boot_took

    def retire(self, worker: Worker) -> None:
        """Record that a living worker is being stopped; its successor, if there is one, becomes the current one."""
        worker.advance(WorkerState.STOPPING)
        self.retiring.append(worker)
        self._vacate(worker)

    def remove_dead(self, worker: Worker) -> None:
        """Record that a worker is known dead."""
        worker.advance(WorkerState.DEAD)
        if worker in self.retiring:
            self.retiring.remove(worker)
        self._vacate(worker)

    def overdue(self, now: float) -> Iterator[Worker]:
        """Yield the workers whose start takes too long, each of them once."""
        for worker in self.living():
            if worker.state is WorkerState.STARTING and now >= worker.start_deadline:
                # A worker that can still run Python has just told where it was: that report is the better one.
                worker.failure = worker.failure or f"start timeout: not ready after {self.start_timeout:g}s"
                worker.start_deadline = float("inf")
                yield worker

    @property
    def name(self) -> str:
        """The slot's name in the log, whichever worker is in it."""
        return f"app_worker#{self.number}" if self.number else "agent_worker"

    def _vacate(self, worker: Worker) -> None:
        if worker is self.successor:
            self.successor = None
        elif worker is self.current:
            self.current, self.successor = self.successor, None

    def living(self) -> Iterator[Worker]:
        """All workers that are not known dead."""
        yield from (worker for worker in (self.current, self.successor, *self.retiring) if worker is not None)

    @property
    def listening(self) -> bool:
        return self.current is not None and self.current.state is WorkerState.LISTENING

    @property
    def state(self) -> WorkerState:
        """The slot's state, as the status shows it."""
        if self.current is not None:
            return self.current.state
        return WorkerState.STOPPING if self.retiring else WorkerState.DEAD


AGENT_FIRST_DELAY = 1.0  # seconds, as in Egg: an agent that fails at once must not be restarted in a tight loop


class Roster:
    """All slots of a cluster; iterating yields the agent's first, then the app workers' in order."""

    def __init__(self, settings: SupervisorSettings) -> None:
        self.agent = Slot(0, settings.agent_start_timeout, RestartBudget(AGENT_FIRST_DELAY))
        self.slots = [Slot(n, settings.app_start_timeout, RestartBudget()) for n in range(1, settings.workers + 1)]

    def __iter__(self) -> Iterator[Slot]:
        yield self.agent
        yield from self.slots

    def slot_of(self, worker: Worker) -> Slot:
        return self.slots[worker.slot - 1] if worker.slot else self.agent

    def listening(self) -> list[Worker]:
        """The workers that listen, in the order of their slots."""
        return [slot.current for slot in self if slot.current is not None and slot.listening]

    def living(self) -> list[Worker]:
        """All workers that are not known dead."""
        return [worker for slot in self for worker in slot.living()]

    @property
    def has_apps(self) -> bool:
        """Whether an app worker lives."""
        return any(worker.slot for worker in self.living())

    def deadlines(self) -> Iterator[float]:
        """The instants at which something is due in a slot."""
        for slot in self:
            if slot.next_try is not None:
                yield slot.next_try
            yield from (w.start_deadline for w in slot.living() if w.state is WorkerState.STARTING)

    def postpone(self, seconds: float) -> None:
        """Move everything that is due to `seconds` later."""
        for slot in self:
            if slot.next_try is not None:
                slot.next_try += seconds
            for worker in slot.living():
                worker.start_deadline += seconds
