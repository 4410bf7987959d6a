"""The slots of a cluster, the agent's and the app workers', and the workers in them. Pure; runs in the master."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from eggcluster.model.lives.settings import SupervisorSettings
from eggcluster.model.lives.worker import AgentWorker, AppWorker, Worker, WorkerState

MAX_DELAY = 15.0  # seconds; as in docs/restarts.md
HEALTHY_AFTER = 30.0  # seconds of listening; a death after that counts as the first in a row
# seconds; with the default of Erlang and systemd (100 ms) a worker that fails at its import would restart in a loop
SECOND_DELAY = 0.5
MINUTE = 60.0
SUSTAINED_PERIOD = 600.0  # seconds in which deaths are remembered
SUSTAINED_DEATHS = 10  # in that period: worth a warning
MAX_INSTANTS = 1000  # deaths that are remembered; at the longest delay there are 40 in the period
USUAL_BOOT = 2.0  # times the length of the last boot: a machine that has just lost its workers is busy


@dataclass
class RestartBudget:
    """Counts the deaths in one slot, and says how long its next worker waits: not at all, then longer with each death.

    A burst (deaths in a row without a healthy time between them) makes the slot wait. The sustained rate (deaths in the
    last ten minutes) is counted separately and only logged: each of those workers did serve. `first_delay` is the delay
    after the first death in a row (the agent: 1 s).
    """

    first_delay: float = 0.0
    deaths_in_a_row: int = 0
    deaths: int = 0
    _instants: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_INSTANTS))
    _warned: float = float("-inf")

    def died(self, now: float, healthy_for: float | None, chance: float = 1.0) -> float:
        """Count a death; return the delay in seconds before the next start.

        `healthy_for` is how long the worker had been listening, None if it never did. `chance`, from 0 to 1,
        says where in its step the delay lies, so that workers that died together do not start together each time.
        """
        if healthy_for is not None and healthy_for >= HEALTHY_AFTER:
            self.deaths_in_a_row = 0
        self.deaths_in_a_row += 1
        self.deaths += 1
        self._instants.append(now)
        return self.delay(chance)

    def delay(self, chance: float = 1.0) -> float:
        """Return the delay after the deaths so far. It grows with each death, up to the longest.

        Jitter over the whole range from 0, as clients of a busy server use it, would sometimes start a worker at once
        after ten deaths in a row.
        """
        longest = self._step(self.deaths_in_a_row)
        if self.deaths_in_a_row <= 1:
            return longest
        shortest = min(self._step(self.deaths_in_a_row - 1), MAX_DELAY / 2)
        return shortest + chance * (longest - shortest)

    def _step(self, deaths: int) -> float:
        if deaths <= 1:
            return self.first_delay
        doubled = max(self.first_delay, SECOND_DELAY / 2) * 2.0 ** min(deaths - 1, 10)
        return min(MAX_DELAY, doubled)

    def deaths_within(self, seconds: float, now: float) -> int:
        """Return how many of the remembered deaths were in the last `seconds`."""
        return sum(1 for instant in self._instants if instant > now - seconds)

    def keeps_dying(self, now: float) -> int:
        """Return the number of deaths in the last ten minutes if it is worth a warning, else 0. It is worth one warning
        in that time at most."""
        recent = self.deaths_within(SUSTAINED_PERIOD, now)
        if recent < SUSTAINED_DEATHS or now < self._warned + SUSTAINED_PERIOD:
            return 0
        self._warned = now
        return recent

    def forgive(self) -> None:
        """Forget the deaths in a row: a reload asks for a new start."""
        self.deaths_in_a_row = 0


@dataclass
class Slot:
    """The agent's slot (number 0) or an app worker's (1..N), with its workers and the time of the next start.

    `current` serves or is starting. `successor` is starting to replace it, in a rollout. `retiring` are being stopped.
    `next_try` is the monotonic instant of the next start, None while none is planned.
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
    boot_took: float = 0.0  # seconds, of the last boot that succeeded

    def new_worker(self, now: float, jitter: float = 0.0) -> Worker:
        """Return a new worker for this slot: the current one or, while a current one lives, its successor."""
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
        """Yield the workers that take too long to start, each of them once, with their `failure`."""
        for worker in self.living():
            if worker.state is WorkerState.STARTING and now >= worker.start_deadline:
                # A worker that can still run Python has just reported where it was, and its report is the better one.
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
        """Yield all workers that are not known dead."""
        yield from (worker for worker in (self.current, self.successor, *self.retiring) if worker is not None)

    @property
    def listening(self) -> bool:
        """Whether the current worker listens."""
        return self.current is not None and self.current.state is WorkerState.LISTENING

    @property
    def state(self) -> WorkerState:
        """The slot's state, as the status shows it."""
        if self.current is not None:
            return self.current.state
        return WorkerState.STOPPING if self.retiring else WorkerState.DEAD


AGENT_FIRST_DELAY = 1.0  # seconds, as in Egg: an agent that fails at once must not be restarted in a tight loop


class Roster:
    """All slots of a cluster. Iterating yields the agent's first, then the app workers' in order."""

    def __init__(self, settings: SupervisorSettings) -> None:
        self._most_draining = settings.most_draining
        self.agent = Slot(0, settings.agent_start_timeout, RestartBudget(AGENT_FIRST_DELAY))
        self.slots = [Slot(n, settings.app_start_timeout, RestartBudget()) for n in range(1, settings.workers + 1)]

    def __iter__(self) -> Iterator[Slot]:
        yield self.agent
        yield from self.slots

    def slot_of(self, worker: Worker) -> Slot:
        return self.slots[worker.slot - 1] if worker.slot else self.agent

    def to_reload(self, *, agent: bool) -> list[Slot]:
        """Return the slots in the order of a reload: an app worker tries the new version before the agent's turn."""
        return [self.slots[0], self.agent, *self.slots[1:]] if agent else self.slots

    def listening(self) -> list[Worker]:
        """Return the workers that listen, in the order of their slots."""
        return [slot.current for slot in self if slot.current is not None and slot.listening]

    def living(self) -> list[Worker]:
        """Return all workers that are not known dead."""
        return [worker for slot in self for worker in slot.living()]

    def sharing_apps(self) -> list[int]:
        """Return the ids of the app workers that may have a copy of the shared dictionary, and are not known dead."""
        return [each.worker_id for each in self.living() if each.slot and each.shares and each.worker_id is not None]

    def dead_agent(self) -> int:
        """Return the generation of the last agent that is known dead; 0 if none is."""
        return min((agent.generation for agent in self.agent.living()), default=self.agent.generation + 1) - 1

    @property
    def draining(self) -> int:
        """How many app workers are being stopped."""
        return sum(len(slot.retiring) for slot in self.slots)

    def may_drain(self) -> bool:
        """Return whether one more app worker may be stopped while the cluster serves on."""
        return self.draining < self._most_draining

    @property
    def has_apps(self) -> bool:
        """Whether an app worker lives."""
        return any(worker.slot for worker in self.living())

    def deadlines(self) -> Iterator[float]:
        """Yield the instants at which something is due in a slot."""
        for slot in self:
            if slot.next_try is not None:
                yield slot.next_try
            yield from (w.start_deadline for w in slot.living() if w.state is WorkerState.STARTING)

    def hasten_agent(self, now: float) -> None:
        """Without a listening app worker, let no agent wait for longer than after a first death: app workers that start
        may need one, for their copy of the shared dictionary."""
        agent = self.agent
        if agent.next_try is not None and not any(slot.listening for slot in self.slots):
            agent.next_try = min(agent.next_try, now + agent.budget.first_delay)

    def postpone(self, seconds: float) -> None:
        """Move everything that is planned, and every start deadline, to `seconds` later."""
        for slot in self:
            if slot.next_try is not None:
                slot.next_try += seconds
            for worker in slot.living():
                worker.start_deadline += seconds
