"""Where new connections go: a course, set anew whenever a slot's state or load changes. Pure.

The kernel runs the course's program for each new connection of a SO_REUSEPORT group (socket(7),
SO_ATTACH_REUSEPORT_CBPF); what it returns is the index of a listener in the group. The acceptor asks the same course.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from eggcluster.model.steering.affinity import affinity_program, home_of
from eggcluster.model.steering.balance import EVEN, slot_at, spread_program, weigh
from eggcluster.model.steering.reuseport_program import IndexOf, Instruction, in_order

EVENED_IN = 1.0  # seconds in which a difference in load is made up for, if as many connections come as in the last
ARRIVALS_UNKNOWN = 2000.0  # in that time, where the workers do not tell: many, so that the load cannot swing
_GOLDEN = 40_503  # 65536 / the golden ratio: turns that fill the circle evenly


class SlotView(NamedTuple):
    """How a slot looks at the moment. `open`: its worker listens, its loop moves, and it is not draining.

    `accepted` is how many connections its worker has got since it started, 0 where nobody counts.
    """

    slot: int
    open: bool
    connections: int = 0
    accepted: int = 0


class SlotState(Enum):
    """What a slot is to new connections."""

    OPEN = auto()
    HELD = auto()  # not open, but not for long: its clients wait for it
    OUT = auto()  # not open: others take its clients


@dataclass(frozen=True)
class SteeringPlan:
    """Where new connections go. With `homes` each client has a slot of its own among them, else `weights` decide."""

    states: dict[int, SlotState]
    weights: dict[int, int] = field(default_factory=dict)
    homes: tuple[int, ...] = ()

    @property
    def any_open(self) -> bool:
        return SlotState.OPEN in self.states.values()

    @property
    def abandoned(self) -> list[int]:
        """The slots whose waiting connections others are to take over; none while nobody could."""
        return [slot for slot, state in self.states.items() if state is SlotState.OUT] if self.any_open else []

    @property
    def closed(self) -> list[int]:
        return [slot for slot, state in self.states.items() if state is not SlotState.OPEN]

    def program(self, index_of: IndexOf = in_order) -> list[Instruction]:
        """What the kernel is to run; `index_of` a slot is its listener's in the group."""
        return affinity_program(self.homes, index_of) if self.homes else spread_program(self.weights, index_of)

    def home(self, key: int) -> int | None:
        """The client's slot, None while it is not open."""
        slot = home_of(key, self.homes)
        return slot if self.states[slot] is SlotState.OPEN else None

    def by_weight(self, count: int) -> list[int]:
        """The open slots for the connection number `count`: first whose turn it is, then the others."""
        if not self.weights:
            return []
        first = slot_at(self.weights, count * _GOLDEN % 65_536)
        return [first, *(slot for slot in self.weights if slot != first)]


class Steering:
    """Sets the course. Without `sticky` a slot that is not open is out at once; with it only after `hold` seconds,
    in which its clients wait: then they go to the next slot in their own ranking, and come back when it is open."""

    def __init__(self, slots: int, *, sticky: bool, hold: float) -> None:
        self._slots = range(1, slots + 1)
        self._sticky = sticky
        self._hold = hold if sticky else 0.0
        self._closed_since: dict[int, float] = {}
        self._accepted: dict[int, int] = {}
        self._arrivals = 0.0
        self._looked = 0.0
        # Before anybody is there they wait, with sticky where they will be served.
        self.course = self._course(dict.fromkeys(self._slots, SlotState.HELD if sticky else SlotState.OUT), {})

    def look(self, views: Sequence[SlotView], now: float) -> SteeringPlan:
        """The course from now on; the same value as before where nothing is to change."""
        arrivals = self._count_arrivals(views, now)
        opened = {view.slot: view.connections for view in views if view.open}
        states = {slot: self._state(slot, slot in opened, now) for slot in self._slots}
        weights = weigh(opened, arrivals) if opened and not self._sticky else {}
        self.course = self._course(states, weights)
        return self.course

    def next_deadline(self) -> float | None:
        """When a slot's hold ends: `look` again then. None while none is held."""
        states = self.course.states
        held = (since for slot, since in self._closed_since.items() if states[slot] is SlotState.HELD)
        return min((since + self._hold for since in held), default=None)

    def widest(self) -> SteeringPlan:
        """The course with the longest program there can be: what the kernel must be able to take."""
        states = dict.fromkeys(self._slots, SlotState.OPEN)
        return self._course(states, {} if self._sticky else dict.fromkeys(self._slots, EVEN))

    def _course(self, states: dict[int, SlotState], weights: dict[int, int]) -> SteeringPlan:
        if not self._sticky:
            return SteeringPlan(states, weights)
        homes = tuple(slot for slot, state in states.items() if state is not SlotState.OUT)
        return SteeringPlan(states, homes=homes or tuple(self._slots))  # nobody is there: they wait where they belong

    def _state(self, slot: int, is_open: bool, now: float) -> SlotState:
        if is_open:
            self._closed_since.pop(slot, None)
            return SlotState.OPEN
        since = self._closed_since.setdefault(slot, now)
        return SlotState.HELD if now < since + self._hold else SlotState.OUT

    def _count_arrivals(self, views: Iterable[SlotView], now: float) -> float:
        """About as many connections as came in the last `EVENED_IN` seconds."""
        accepted = {view.slot: view.accepted for view in views}
        # A new incarnation counts from 0 again.
        came = sum(max(0, count - self._accepted.get(slot, count)) for slot, count in accepted.items())
        left = max(0.0, 1 - (now - self._looked) / EVENED_IN)  # at a steady rate this comes to rest at its count
        self._arrivals = self._arrivals * left + came
        self._accepted, self._looked = accepted, now
        return self._arrivals if any(accepted.values()) else ARRIVALS_UNKNOWN
