"""The roster: all seats of a cluster, and who sits there. Pure bookkeeping."""

from collections.abc import Iterator

from eggcluster.model.plan import Plan
from eggcluster.model.restart_budget import RestartBudget
from eggcluster.model.seat import Seat
from eggcluster.model.worker import Worker, WorkerState

AGENT_FIRST_DELAY = 1.0  # seconds; Egg's: an agent that fails at once must not spin


class Roster:
    """The agent's seat and the slots; iterating gives all of them, the agent's first."""

    def __init__(self, plan: Plan) -> None:
        self.agent = Seat(0, plan.agent_start_timeout, RestartBudget(AGENT_FIRST_DELAY))
        self.slots = [Seat(n, plan.app_start_timeout, RestartBudget()) for n in range(1, plan.workers + 1)]

    def __iter__(self) -> Iterator[Seat]:
        yield self.agent
        yield from self.slots

    def seat_of(self, worker: Worker) -> Seat:
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
