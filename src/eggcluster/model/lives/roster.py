"""The slots of a cluster, the agent's and the app workers', and the workers in them. Pure bookkeeping."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from eggcluster.model.lives.restart_budget import RestartBudget
from eggcluster.model.lives.settings import SupervisorSettings
from eggcluster.model.lives.worker import AgentWorker, AppWorker, Worker, WorkerState

USUAL = 2.0  # times what a boot took the last time: a machine that has just lost its workers is busy


@dataclass
class Slot:
    """Who sits where, and when the next one may come.

    `current` serves or is starting; `successor` is starting to take its place (a reload); `retiring` are those
    that are being stopped. `next_try` is the monotonic instant of the next start, None when none is due.
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
        """A new incarnation in this seat: the current one, or the successor of one that lives."""
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
        """An incarnation listens."""
        worker.advance(WorkerState.LISTENING)
        worker.listening_since = now
        self.boot_took = now - worker.born

    def boots_as_usual(self, now: float) -> bool:
        """Whether somebody starts here, and not for much longer than the last one took."""
        if self.current is None or self.current.state is not WorkerState.STARTING:
            return False
        return now - self.current.born < USUAL * self.boot_took

    def retire(self, worker: Worker) -> None:
        """Mark a living incarnation as being stopped; the successor, if there is one, moves up."""
        worker.advance(WorkerState.STOPPING)
        self.retiring.append(worker)
        self._vacate(worker)

    def bury(self, worker: Worker) -> None:
        """An incarnation is known dead."""
        worker.advance(WorkerState.DEAD)
        if worker in self.retiring:
            self.retiring.remove(worker)
        self._vacate(worker)

    def overdue(self, now: float) -> Iterator[Worker]:
        """Those whose start takes too long; each is given once."""
        for worker in self.living():
            if worker.state is WorkerState.STARTING and now >= worker.start_deadline:
                # A worker that can still run Python has just told where it was: that report is the better one.
                worker.failure = worker.failure or f"start timeout: not ready after {self.start_timeout:g}s"
                worker.start_deadline = float("inf")
                yield worker

    @property
    def name(self) -> str:
        """How the log calls the place, whoever sits there."""
        return f"app_worker#{self.number}" if self.number else "agent_worker"

    def _vacate(self, worker: Worker) -> None:
        if worker is self.successor:
            self.successor = None
        elif worker is self.current:
            self.current, self.successor = self.successor, None

    def living(self) -> Iterator[Worker]:
        """All incarnations that are not known dead."""
        yield from (worker for worker in (self.current, self.successor, *self.retiring) if worker is not None)

    @property
    def listening(self) -> bool:
        return self.current is not None and self.current.state is WorkerState.LISTENING

    @property
    def state(self) -> WorkerState:
        """What the status shows of this seat."""
        if self.current is not None:
            return self.current.state
        return WorkerState.STOPPING if self.retiring else WorkerState.DEAD


AGENT_FIRST_DELAY = 1.0  # seconds; Egg's: an agent that fails at once must not spin


class Roster:
    """The agent's seat and the slots; iterating gives all of them, the agent's first."""

    def __init__(self, plan: SupervisorSettings) -> None:
        self.agent = Slot(0, plan.agent_start_timeout, RestartBudget(AGENT_FIRST_DELAY))
        self.slots = [Slot(n, plan.app_start_timeout, RestartBudget()) for n in range(1, plan.workers + 1)]

    def __iter__(self) -> Iterator[Slot]:
        yield self.agent
        yield from self.slots

    def slot_of(self, worker: Worker) -> Slot:
        return self.slots[worker.slot - 1] if worker.slot else self.agent

    def listening(self) -> list[Worker]:
        """Those who serve, agent and app workers, in the order of their seats."""
        return [seat.current for seat in self if seat.current is not None and seat.listening]

    def everybody(self) -> list[Worker]:
        """All incarnations that are not known dead."""
        return [worker for seat in self for worker in seat.living()]

    @property
    def any_app(self) -> bool:
        """Whether an app worker is left."""
        return any(worker.slot for worker in self.everybody())

    def deadlines(self) -> Iterator[float]:
        """The instants at which something is due in a seat."""
        for seat in self:
            if seat.next_try is not None:
                yield seat.next_try
            yield from (w.start_deadline for w in seat.living() if w.state is WorkerState.STARTING)

    def put_off(self, seconds: float) -> None:
        """Nothing that is due comes to pass earlier than so much later."""
        for seat in self:
            if seat.next_try is not None:
                seat.next_try += seconds
            for worker in seat.living():
                worker.start_deadline += seconds
