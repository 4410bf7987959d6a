"""What follows the death of a worker that was not told to close. Pure; runs in the master."""

import logging

from eggcluster.model.lives.commands import Log
from eggcluster.model.lives.roster import Roster
from eggcluster.model.lives.worker import Worker


def after_death(
    roster: Roster, worker: Worker, now: float, chance: float, *, stays_empty: bool
) -> tuple[list[Log], bool]:
    """Count the death of `worker`, and plan the next start in its slot if that is not due at once. Return what to log,
    and whether another worker is to be started now."""
    slot, since = roster.slot_of(worker), worker.listening_since
    delay = slot.budget.died(now, None if since is None else now - since, chance)
    if slot.current is not None:
        return [], False  # the dead worker's successor was starting already, and is now the current worker
    if stays_empty:
        return [Log(logging.WARNING, f"slot {slot.number} stays empty in this environment until a reload")], False
    deaths = slot.budget.keeps_dying(now)
    logs = [Log(logging.WARNING, f"{slot.name} keeps dying: {deaths} deaths in ten minutes")] if deaths else []
    slot.next_try = now + delay
    roster.hasten_agent(now)
    if delay:
        logs.append(Log(logging.INFO, f"try to start a new {slot.name} after {slot.next_try - now:.3g}s ..."))
    return logs, not delay
