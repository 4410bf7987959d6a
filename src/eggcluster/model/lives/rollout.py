"""A rolling replacement of all workers or of one, slot by slot. Pure; runs in the master."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eggcluster.model.lives.commands import Command, Fork, Log, PublishPids, ReloadEnded, Stop
from eggcluster.model.lives.roster import Slot
from eggcluster.model.lives.worker import ExitReport, Worker, WorkerState

ForkIn = Callable[[Slot, float], Fork]


@dataclass(frozen=True)
class RolloutTerms:
    """What a rollout takes from the supervisor: how a worker of a slot is started, how long one of a slot may take to
    close, and whether one more app worker may drain at this moment."""

    fork: ForkIn
    grace: Callable[[int], float]
    may_drain: Callable[[], bool] = lambda: True


class Rollout:
    """The replacement of the workers in some slots: their starts follow one another, their ends overlap.

    An app worker's successor starts first and then takes over. The next slot has its turn as soon as it listens: a
    worker that is slow to close holds up no other slot, as long as `may_drain` allows one more. The agent's successor
    starts when the old agent is known dead: there are never two. So the agent comes second: a version that does not
    boot is found by the first app worker, whose failure costs nothing. `over` is True once every slot has its new
    worker and every old one is gone; `failed` says that a successor did not start.
    """

    def __init__(self, slots: Sequence[Slot], now: float, terms: RolloutTerms) -> None:
        self._all = slots
        self._slots = list(slots)  # those that are still to come; the first of them is under way, or waits for room
        self._count = sum(1 for slot in slots if slot.number)
        self._began = now
        self._terms = terms
        self._under_way: Slot | None = None
        self._unfinished: list[Slot] = []  # they have had their turn, but the old worker still closes
        self._closed_badly: list[str] = []
        self._ends_after_agent: str | None = None  # why it ends once the new agent has started
        self.failed = False

    # -- what is reported; a reload and a recycling differ in nothing else -------------------------------------

    def _done(self) -> list[Command]:
        if not self._closed_badly:
            return [Log(logging.INFO, "reload done", progress=True), ReloadEnded(None)]
        text = f"reload done, but not closed in order: {', '.join(self._closed_badly)}"
        return [Log(logging.WARNING, text, progress=True), ReloadEnded(None)]

    def _replaced(self, worker: Worker) -> list[Command]:
        what = f"slot {worker.slot} of {self._count} reloaded" if worker.slot else "agent reloaded"
        return [Log(logging.INFO, f"{what}: {worker}", progress=True)]

    def _all_started(self) -> list[Command]:
        """Tell what a reload still waits for, once every slot has had its turn."""
        if self._slots or not self._unfinished:
            return []
        left = ", ".join(str(worker) for slot in self._unfinished for worker in slot.retiring)
        return [Log(logging.INFO, f"every slot has its new worker, still closing: {left}", progress=True)]

    def _broken(self, why: str) -> list[Command]:
        text = f"reload stopped{self._left()}: {why.splitlines()[0]}"
        return [Log(logging.ERROR, text, progress=True), ReloadEnded(why)]

    def _left(self) -> str:
        """Tell which version each slot has, now that the reload has stopped."""
        new, old, none = (
            [slot.name for slot in self._all if slot.current is not None and slot.current.born >= self._began],
            [slot.name for slot in self._all if slot.current is not None and slot.current.born < self._began],
            [slot.name for slot in self._all if slot.current is None],
        )
        if not new and not none:
            return ", the current workers go on"
        parts = (("new version", new), ("old version", old), ("no worker", none))
        said = (f"{what}: {', '.join(names)}" for what, names in parts if names)
        return f" half-way ({'; '.join(said)})"

    def abort(self) -> list[Command]:
        """End the rollout: the cluster closes."""
        self._forget_all()
        return [ReloadEnded("the cluster is closing")]

    # -- the steps -------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return not self._slots and not self._unfinished

    def step(self, now: float) -> list[Command]:
        """Begin with the next slot, if there is room for one more draining worker; report the end of the rollout."""
        self._under_way = None
        if self._ends_after_agent is not None:
            return self._fail(self._ends_after_agent)
        if self.over:
            return self._done()
        if not self._slots or (self._slots[0].number and not self._terms.may_drain()):
            return []  # the end of a draining worker goes on from here: see `retired`
        self._under_way = slot = self._slots[0]
        slot.budget.forgive()
        if slot.number == 0:
            return self._step_agent(slot, now)
        if slot.current is not None and not slot.listening:
            return []  # a new worker is starting there: with a second one, it would be unclear which of them fails
        return [self._terms.fork(slot, now)]

    def _step_agent(self, slot: Slot, now: float) -> list[Command]:
        """Stop the agent. If it has died and its next start is only planned, start it at once."""
        old = slot.current
        if old is None:
            return [self._terms.fork(slot, now)] if not slot.retiring else []
        return self._retire(slot, old)  # its successor starts when it is dead: see `retired`

    def started(self, slot: Slot, worker: Worker, now: float) -> list[Command]:
        """Act on a worker's start: if the rollout waits for it, stop its predecessor and go on to the next slot."""
        if slot in self._unfinished:  # a new worker had died while the old one closed; this one replaces it
            return self._finish(slot, now)
        if slot is not self._under_way:
            return []
        if worker.born < self._began:
            # It was starting when the rollout began, so it may run the old version. (An agent was stopped then.)
            return self.step(now)
        commands = self._replaced(worker)
        if worker is slot.successor and slot.current is not None:
            commands += self._retire(slot, slot.current)
        if slot.retiring:
            self._unfinished.append(slot)
        self._slots.pop(0)
        return commands + (self._all_started() if self._ends_after_agent is None else []) + self.step(now)

    def retired(self, slot: Slot, worker: Worker, exit: ExitReport, now: float) -> list[Command]:
        """Act on the end of a worker that was told to close: finish its slot, or start the agent; go on if the rollout
        waited for that."""
        if exit.closed_badly and (slot in self._unfinished or slot is self._under_way):
            self._closed_badly.append(str(worker))
        if slot in self._unfinished:
            return self._finish(slot, now)
        if slot is self._under_way:
            may_start = slot.number == 0 and slot.current is None and not slot.retiring
            return [PublishPids(), self._terms.fork(slot, now)] if may_start else []
        return self.step(now) if self._slots and self._under_way is None else []

    def died(self, slot: Slot, worker: Worker, before: WorkerState, stays_empty: bool) -> list[Command]:
        """Act on the death of `worker`, which was in the state `before`. End the rollout if the new version does not
        start, or if no worker is left to wait for."""
        if slot is not self._under_way and slot not in self._unfinished:
            return []
        is_new = worker.born >= self._began
        if not stays_empty and not (before is WorkerState.STARTING and is_new):
            return []
        why = worker.failure or f"{worker} died"
        if slot.number and self._under_way is not None and self._under_way.number == 0:
            # The agent has been stopped, and only this rollout starts its successor: that comes first.
            self._ends_after_agent = why
            return []
        return self._fail(why)

    def _fail(self, why: str) -> list[Command]:
        self._forget_all()
        self.failed = True
        return self._broken(why)

    def _retire(self, slot: Slot, old: Worker) -> list[Command]:
        slot.retire(old)
        return [Stop((old,), self._terms.grace(slot.number))]

    def _finish(self, slot: Slot, now: float) -> list[Command]:
        """Tick the slot off if its old worker is gone and its new one listens, in whichever order that comes."""
        if slot.listening and not slot.retiring:
            self._unfinished.remove(slot)
        return self.step(now) if self._under_way is None and (self._slots or self.over) else []

    def _forget_all(self) -> None:
        self._slots.clear()
        self._unfinished.clear()
        self._under_way = None


class Recycling(Rollout):
    """The replacement of one worker that has reached a limit. No requester waits for its end."""

    def _done(self) -> list[Command]:
        return []

    def _replaced(self, worker: Worker) -> list[Command]:
        return [Log(logging.INFO, f"{worker} has taken over")]

    def _all_started(self) -> list[Command]:
        return []

    def _broken(self, why: str) -> list[Command]:
        return [Log(logging.ERROR, f"recycling stopped, the old worker goes on: {why.splitlines()[0]}")]

    def abort(self) -> list[Command]:
        self._forget_all()
        return []
