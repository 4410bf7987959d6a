"""The steering plan: where new connections go, anew whenever a slot's state or load changes. Pure; in the master.

The kernel runs the plan's program for each new connection of a SO_REUSEPORT group (socket(7),
SO_ATTACH_REUSEPORT_CBPF); the program returns the index of a listener in the group. The acceptor follows the same plan.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from eggcluster.model.steering.affinity import affinity_program, home_of
from eggcluster.model.steering.balance import EVEN, slot_at, spread_program, weigh
from eggcluster.model.steering.reuseport_program import IndexOf, Instruction, original_index

BALANCING_TIME = 1.0  # seconds in which a difference in load is made up for, at the arrival rate of the last second
ARRIVALS_UNKNOWN = 2000.0  # in that time, if the workers do not count: many, so that the load cannot swing
_GOLDEN = 40_503  # 65536 / the golden ratio: turns that fill the circle evenly


class SlotView(NamedTuple):
    """A slot as it is now. `open`: its worker listens, is not stalled, and is not draining.

    `accepted` is how many connections its worker has got since it started, 0 if that is not counted. `full`: requests
    wait there already; the slot stays open, and gets new connections only if all open slots are full.
    """

    slot: int
    open: bool
    connections: int = 0
    accepted: int = 0
    full: bool = False


class SlotState(Enum):
    """Whether new connections go to a slot."""

    OPEN = auto()
    HELD = auto()  # not open for a short time: its clients wait for it
    OUT = auto()  # not open: other slots take its clients


@dataclass(frozen=True)
class SteeringPlan:
    """Where new connections go. With `homes`, each client has one of these slots as its own; else `weights` decide."""

    states: dict[int, SlotState]
    weights: dict[int, int] = field(default_factory=dict)
    homes: tuple[int, ...] = ()

    @property
    def any_open(self) -> bool:
        return SlotState.OPEN in self.states.values()

    @property
    def taken_over(self) -> list[int]:
        """The slots from which other slots take over the waiting connections; none while no slot is open."""
        return [slot for slot, state in self.states.items() if state is SlotState.OUT] if self.any_open else []

    @property
    def closed(self) -> list[int]:
        """The slots that are not open, held ones included."""
        return [slot for slot, state in self.states.items() if state is not SlotState.OPEN]

    def program(self, index_of: IndexOf = original_index) -> list[Instruction]:
        """Return the program for the kernel; `index_of` returns the index of a slot's listener in the group."""
        return affinity_program(self.homes, index_of) if self.homes else spread_program(self.weights, index_of)

    def home_slot(self, key: int) -> int | None:
        """Return the client's own slot, None while it is not open."""
        slot = home_of(key, self.homes)
        return slot if self.states[slot] is SlotState.OPEN else None

    def by_weight(self, count: int) -> list[int]:
        """Return the open slots for connection number `count`: first the one whose turn it is, then the others."""
        if not self.weights:
            return []
        first = slot_at(self.weights, count * _GOLDEN % 65_536)
        return [first, *(slot for slot in self.weights if slot != first)]


class Steering:
    """Makes the plan. Without `sticky`, a slot that is not open is out at once. With `sticky`, it is first held for
    `hold` seconds, in which its clients wait. Then each client goes to the next slot in its own ranking, until its own
    slot is open again."""

    def __init__(self, slots: int, *, sticky: bool, hold: float) -> None:
        self._slots = range(1, slots + 1)
        self._sticky = sticky
        self._hold = hold if sticky else 0.0
        self._closed_since: dict[int, float] = {}
        self._accepted: dict[int, int] = {}
        self._arrivals = 0.0
        self._updated_at = 0.0
        # Before any slot is open, connections wait; with sticky, at the slot that will serve them.
        self.plan = self._make_plan(dict.fromkeys(self._slots, SlotState.HELD if sticky else SlotState.OUT), {})

    def update(self, views: Sequence[SlotView], now: float) -> SteeringPlan:
        """Return the plan that holds from now on; an equal one if nothing has changed."""
        arrivals = self._count_arrivals(views, now)
        opened = {view.slot: view.connections for view in views if view.open}
        states = {slot: self._state(slot, slot in opened, now) for slot in self._slots}
        roomy = {view.slot: view.connections for view in views if view.open and not view.full} or opened
        weights = weigh(roomy, arrivals) if opened and not self._sticky else {}
        self.plan = self._make_plan(states, weights)
        return self.plan

    def next_deadline(self) -> float | None:
        """Return when a slot's hold ends, which is when to `update` again; None while no slot is held."""
        states = self.plan.states
        held = (since for slot, since in self._closed_since.items() if states[slot] is SlotState.HELD)
        return min((since + self._hold for since in held), default=None)

    def longest(self) -> SteeringPlan:
        """Return the plan with the longest possible program: the kernel must be able to take it."""
        states = dict.fromkeys(self._slots, SlotState.OPEN)
        return self._make_plan(states, {} if self._sticky else dict.fromkeys(self._slots, EVEN))

    def _make_plan(self, states: dict[int, SlotState], weights: dict[int, int]) -> SteeringPlan:
        if not self._sticky:
            return SteeringPlan(states, weights)
        homes = tuple(slot for slot, state in states.items() if state is not SlotState.OUT)
        return SteeringPlan(states, homes=homes or tuple(self._slots))  # if all are out, clients wait at their own

    def _state(self, slot: int, is_open: bool, now: float) -> SlotState:
        if is_open:
            self._closed_since.pop(slot, None)
            return SlotState.OPEN
        since = self._closed_since.setdefault(slot, now)
        return SlotState.HELD if now < since + self._hold else SlotState.OUT

    def _count_arrivals(self, views: Iterable[SlotView], now: float) -> float:
        """Return about how many connections came in the last `BALANCING_TIME` seconds."""
        accepted = {view.slot: view.accepted for view in views}
        # A count that has fallen is a new worker's, which began at 0.
        came = sum(max(0, count - self._accepted.get(slot, count)) for slot, count in accepted.items())
        remaining = max(0.0, 1 - (now - self._updated_at) / BALANCING_TIME)  # converges to the rate
        self._arrivals = self._arrivals * remaining + came
        self._accepted, self._updated_at = accepted, now
        return self._arrivals if any(accepted.values()) else ARRIVALS_UNKNOWN
