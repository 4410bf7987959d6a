"""Whom the requests with keys belong to: parts of the key table, and slots. Runs in the master.

The master gives each app worker its part before the worker starts, takes it back when the worker is dead, and tells
the workers through the table which slots are open. It also finds the way of a connection that one worker gives to
another. It never reads a request.
"""

from collections.abc import Sequence
from itertools import count
from typing import Any

from eggcluster.ipc.key_table import KeyTable
from eggcluster.model.lives.worker import Worker, WorkerState
from eggcluster.model.steering.key_home import NO_PART, NOWHERE, Destination, Part
from eggcluster.model.steering.steering_plan import SlotState, SlotView, Steering

RATE_TIME = 1.0  # seconds, at least, over which the handovers a second are counted


class KeySteering:
    """Holds the key table. A slot that is not open is first held for `hold` seconds; then the others take its keys."""

    def __init__(self, slots: int, hold: float) -> None:
        self.table = KeyTable.create(slots)
        self._steering = Steering(slots, sticky=True, hold=hold)
        self._parts: dict[Worker, Part] = {}
        self._incarnations = count(1)
        self._handed_over = 0  # by workers that are dead
        self._rate = 0.0
        self._counted = (0, 0.0)  # handovers, and when they were counted

    # -- workers ---------------------------------------------------------------------------------------------

    def open_part(self, worker: Worker) -> dict[str, Any]:
        """Give its part to a worker that is about to start: NO_PART if too many old workers have theirs still. Return
        the fields of the worker's spec for it."""
        part = self.table.give(next(self._incarnations))
        if part != NO_PART:
            self._parts[worker] = part
        return {"keys_fd": self.table.fd, "key_part": tuple(part)}

    def close_part(self, worker: Worker) -> None:
        """Forget the keys of a worker that is dead."""
        part = self._parts.pop(worker, NO_PART)
        self._handed_over += self.table.handovers_of(part)
        self.table.vacate(part)

    def name_of(self, worker: Worker) -> bytes:
        """Return what other workers know the worker by; empty if it has no part."""
        part = self._parts.get(worker, NO_PART)
        return part.pack() if part != NO_PART else b""

    def keys_of(self, worker: Worker) -> int:
        """Return how many keys live in the worker."""
        return self.table.keys_of(self._parts.get(worker, NO_PART))

    # -- slots -----------------------------------------------------------------------------------------------

    def follow(self, views: Sequence[SlotView], now: float) -> None:
        """Tell the workers which slots are open now."""
        self._count(now)
        plan = self._steering.update(views, now)
        listening = {worker.slot: part for worker, part in self._parts.items() if worker.state is WorkerState.LISTENING}
        opened = {slot: part for slot, part in listening.items() if plan.states[slot] is SlotState.OPEN}
        self.table.write_homes({slot: opened.get(slot, NO_PART) for slot in plan.homes})

    def stop(self) -> None:
        """Let each worker keep the requests that it gets: all of them are being closed. Keys that workers have learned
        still belong to these."""
        self.table.write_homes({})

    def next_deadline(self) -> float | None:
        """Return when to `follow` again: when a slot's hold ends."""
        return self._steering.next_deadline()

    # -- connections -----------------------------------------------------------------------------------------

    def targets(self, request: bytes, listening: Sequence[Worker], *, closing: bool) -> list[Worker]:
        """Return the workers that may get a connection with this request, the first choice first; none while it has
        to wait. `listening` may get it if its own worker is gone."""
        where, _ = Destination.unpack(request)
        if where.slot == NOWHERE and self.table.is_live(where.part):
            return [worker for worker, part in self._parts.items() if part == where.part]
        if where.slot == NOWHERE or closing:
            return [*listening]  # whoever gets it looks for its worker again
        home = self.table.home(where.slot)
        if home == NO_PART:
            return []
        first = [worker for worker, part in self._parts.items() if part == home]
        return [*first, *(worker for worker in listening if worker not in first)]

    @property
    def handovers(self) -> int:
        """How many connections have been given away."""
        return self._handed_over + sum(map(self.table.handovers_of, self._parts.values()))

    def _count(self, now: float) -> None:
        before, since = self._counted
        if now >= since + RATE_TIME:
            handovers = self.handovers
            self._rate = (handovers - before) / (now - since) if since else 0.0
            self._counted = handovers, now

    def describe(self) -> dict[str, Any]:
        """Return what the status shows, as plain values."""
        return {
            "keys": sum(map(self.table.keys_of, self._parts.values())),
            "handovers": self.handovers,
            "handovers_a_second": round(self._rate, 1),
        }

    def close(self) -> None:
        """Release the table; may be called again."""
        self._parts.clear()
        self.table.close()
