"""A seat: the agent's place or one slot, with the incarnations that sit in it. Pure bookkeeping."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from eggcluster.model.restart_budget import RestartBudget
from eggcluster.model.worker import AgentWorker, AppWorker, Worker, WorkerState

USUAL = 2.0  # times what a boot took the last time: a machine that has just lost its workers is busy


@dataclass
class Seat:
    """Who sits where, and when the next one may come.

    `current` serves or is starting; `successor` is starting to take its place (a reload); `retiring` are those
    that are being stopped. `next_try` is the monotonic instant of the next start, None when none is due.
    """

    slot: int
    start_timeout: float
    budget: RestartBudget
    generation: int = 0
    current: Worker | None = None
    successor: Worker | None = None
    retiring: list[Worker] = field(default_factory=list)
    next_try: float | None = None
    last_death: str | None = None
    boot_took: float = 0.0  # seconds, the last one that succeeded

    def seat_new(self, now: float, jitter: float = 0.0) -> Worker:
        """A new incarnation in this seat: the current one, or the successor of one that lives."""
        self.generation += 1
        self.next_try = None
        kind = AppWorker if self.slot else AgentWorker
        worker = kind(self.slot, self.generation, now, now + self.start_timeout, jitter=jitter)
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
        return f"app_worker#{self.slot}" if self.slot else "agent_worker"

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
