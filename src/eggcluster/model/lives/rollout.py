"""A rolling replacement, step by step: of all slots, or of one worn worker. Pure."""

import logging
from collections.abc import Callable, Sequence

from eggcluster.model.lives.commands import Command, Fork, Log, PublishPids, ReloadEnded, Stop
from eggcluster.model.lives.roster import Slot
from eggcluster.model.lives.worker import Worker, WorkerState

ForkIn = Callable[[Slot, float], Fork]


class Rollout:
    """A rollout over the slots that are still to come; the first of them is under way.

    An app worker's successor starts first and then takes over. The agent's successor starts when the old agent is known
    dead: there are never two. `over` is True once nothing is left to do; `failed` says that a successor did not start.
    """

    def __init__(self, slots: Sequence[Slot], now: float, fork: ForkIn, grace: Callable[[int], float]) -> None:
        self._slots = list(slots)
        self._count = sum(1 for slot in slots if slot.number)
        self._began = now
        self._fork = fork
        self._grace = grace
        self.failed = False

    # A reload and a recycling differ only in what is reported.

    def _done(self) -> list[Command]:
        return [Log(logging.INFO, "reload done", progress=True), ReloadEnded(None)]

    def _replaced(self, worker: Worker) -> list[Command]:
        what = f"slot {worker.slot} of {self._count} reloaded" if worker.slot else "agent reloaded"
        return [Log(logging.INFO, f"{what}: {worker}", progress=True)]

    def _broken(self, why: str) -> list[Command]:
        text = f"reload stopped, the workers so far go on: {why.splitlines()[0]}"
        return [Log(logging.ERROR, text, progress=True), ReloadEnded(why)]

    def aborted(self) -> list[Command]:
        """The cluster closes: end the rollout."""
        self._slots.clear()
        return [ReloadEnded("the cluster is closing")]

    # -- the steps -------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return not self._slots

    def step(self, now: float) -> list[Command]:
        """Begin with the next slot, or report the end."""
        if self.over:
            return self._done()
        slot = self._slots[0]
        slot.budget.forgive()
        if slot.number == 0:
            return self._step_agent(slot, now)
        if slot.current is not None and not slot.listening:
            return []  # its replacement is starting: two at once would hide which of them fails
        return [self._fork(slot, now)]

    def _step_agent(self, slot: Slot, now: float) -> list[Command]:
        """Stop the agent. If it has died and waits for its next start, start it at once."""
        old = slot.current
        if old is None:
            return [self._fork(slot, now)] if not slot.retiring else []
        slot.retire(old)
        return [Stop((old,), self._grace(slot.number))]  # it goes on until it is dead: `retired` publishes that

    def started(self, slot: Slot, worker: Worker, now: float) -> list[Command]:
        """A worker has started. If the rollout waits for it, stop its predecessor, or go on to the next slot."""
        if not self._is_under_way(slot):
            return []
        if worker.born < self._began:
            # It was starting when the rollout began, so it may run the old version. (An agent would have been stopped.)
            return [self._fork(slot, now)]
        commands = self._replaced(worker)
        if worker is slot.successor and slot.current is not None:
            old = slot.current
            slot.retire(old)
            return [*commands, Stop((old,), self._grace(slot.number))]
        return commands + self._next(now)

    def retired(self, slot: Slot, now: float) -> list[Command]:
        """A worker that was stopped is gone. If the rollout waits for that, go on to the next slot."""
        if not self._is_under_way(slot) or slot.successor is not None:
            return []
        if slot.number == 0:
            return [PublishPids(), self._fork(slot, now)] if slot.current is None and not slot.retiring else []
        if not slot.listening:
            return []  # the new worker died meanwhile; its replacement ends this step
        return self._next(now)

    def died(self, slot: Slot, worker: Worker, before: WorkerState, stays_empty: bool) -> list[Command]:
        """`worker`, in the state `before`, died. The rollout ends if the new version does not start, or if no worker is
        left to wait for."""
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
    """The replacement of one worn worker. It was not requested, so its end is not reported to a requester."""

    def _done(self) -> list[Command]:
        return []

    def _replaced(self, worker: Worker) -> list[Command]:
        return [Log(logging.INFO, f"{worker} has taken over")]

    def _broken(self, why: str) -> list[Command]:
        return [Log(logging.ERROR, f"the worn worker goes on, its successor did not start: {why.splitlines()[0]}")]

    def aborted(self) -> list[Command]:
        self._slots.clear()
        return []
