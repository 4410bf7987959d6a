"""A rolling replacement of all workers or of one, step by step. Pure; runs in the master."""

import logging
from collections.abc import Callable, Sequence

from eggcluster.model.lives.commands import Command, Fork, Log, PublishPids, ReloadEnded, Stop
from eggcluster.model.lives.roster import Slot
from eggcluster.model.lives.worker import Worker, WorkerState

ForkIn = Callable[[Slot, float], Fork]


class Rollout:
    """The replacement of the workers in some slots, one slot after the other.

    An app worker's successor starts first and then takes over. The agent's successor starts when the old agent is known
    dead: there are never two. `over` is True once nothing is left to do; `failed` says that a successor did not start.
    """

    def __init__(self, slots: Sequence[Slot], now: float, fork: ForkIn, grace: Callable[[int], float]) -> None:
        self._slots = list(slots)  # those that are still to come; the first of them is under way
        self._count = sum(1 for slot in slots if slot.number)
        self._began = now
        self._fork = fork
        self._grace = grace
        self.failed = False

    # -- what is reported; a reload and a recycling differ in nothing else -------------------------------------

    def _done(self) -> list[Command]:
        return [Log(logging.INFO, "reload done", progress=True), ReloadEnded(None)]

    def _replaced(self, worker: Worker) -> list[Command]:
        what = f"slot {worker.slot} of {self._count} reloaded" if worker.slot else "agent reloaded"
        return [Log(logging.INFO, f"{what}: {worker}", progress=True)]

    def _broken(self, why: str) -> list[Command]:
        text = f"reload stopped, the current workers go on: {why.splitlines()[0]}"
        return [Log(logging.ERROR, text, progress=True), ReloadEnded(why)]

    def abort(self) -> list[Command]:
        """End the rollout: the cluster closes."""
        self._slots.clear()
        return [ReloadEnded("the cluster is closing")]

    # -- the steps -------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return not self._slots

    def step(self, now: float) -> list[Command]:
        """Begin with the next slot; report the end if there is none."""
        if self.over:
            return self._done()
        slot = self._slots[0]
        slot.budget.forgive()
        if slot.number == 0:
            return self._step_agent(slot, now)
        if slot.current is not None and not slot.listening:
            return []  # a new worker is starting there: with a second one, it would be unclear which of them fails
        return [self._fork(slot, now)]

    def _step_agent(self, slot: Slot, now: float) -> list[Command]:
        """Stop the agent. If it has died and its next start is only planned, start it at once."""
        old = slot.current
        if old is None:
            return [self._fork(slot, now)] if not slot.retiring else []
        slot.retire(old)
        return [Stop((old,), self._grace(slot.number))]  # its successor starts when it is dead: see `retired`

    def started(self, slot: Slot, worker: Worker, now: float) -> list[Command]:
        """Act on a worker's start: if the rollout waits for it, stop its predecessor, or go on to the next slot."""
        if not self._is_under_way(slot):
            return []
        if worker.born < self._began:
            # It was starting when the rollout began, so it may run the old version. (An agent was stopped then.)
            return [self._fork(slot, now)]
        commands = self._replaced(worker)
        if worker is slot.successor and slot.current is not None:
            old = slot.current
            slot.retire(old)
            return [*commands, Stop((old,), self._grace(slot.number))]
        return commands + self._next(now)

    def retired(self, slot: Slot, now: float) -> list[Command]:
        """Act on a stopped worker's end: if the rollout waits for it, start the agent, or go on to the next slot."""
        if not self._is_under_way(slot) or slot.successor is not None:
            return []
        if slot.number == 0:
            return [PublishPids(), self._fork(slot, now)] if slot.current is None and not slot.retiring else []
        if not slot.listening:
            return []  # the new worker died meanwhile; the start of its replacement ends this step
        return self._next(now)

    def died(self, slot: Slot, worker: Worker, before: WorkerState, stays_empty: bool) -> list[Command]:
        """Act on the death of `worker`, which was in the state `before`. End the rollout if the new version does not
        start, or if no worker is left to wait for."""
        if not self._is_under_way(slot):
            return []
        is_new = worker.born >= self._began
        if not stays_empty and not (before is WorkerState.STARTING and is_new):
            return []
        self._slots.clear()
        self.failed = True
        return self._broken(worker.failure or f"{worker} died")

    def _next(self, now: float) -> list[Command]:
        self._slots.pop(0)
        return self.step(now)

    def _is_under_way(self, slot: Slot) -> bool:
        return not self.over and self._slots[0] is slot


class Recycling(Rollout):
    """The replacement of one worker that has reached a limit. No requester waits for its end."""

    def _done(self) -> list[Command]:
        return []

    def _replaced(self, worker: Worker) -> list[Command]:
        return [Log(logging.INFO, f"{worker} has taken over")]

    def _broken(self, why: str) -> list[Command]:
        return [Log(logging.ERROR, f"recycling stopped, the old worker goes on: {why.splitlines()[0]}")]

    def abort(self) -> list[Command]:
        self._slots.clear()
        return []
