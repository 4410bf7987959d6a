"""The ration: how much work a child may give to the master itself, by requests and reports. Pure; runs in the master.

Relaying is not rationed: a flood of messages is slowed down to its receiver's pace. The master as a receiver is never
slow, it only has no time left for anything else.
"""

from eggcluster.ipc.frame import Frame
from eggcluster.model.messages.message import FrameKind, Target

# A unit is some 5 µs of the master's time.
UNITS_PER_SECOND = 5_000  # of one child, on average: 2.5 % of the master's time
MOST_UNITS = 20_000  # of one child at once: the master stands still for 0.1 s
UNIT_BYTES = 1024  # that are decoded for one unit
REQUEST_UNITS = 5  # for one answer of the master, besides one for each slot that a status describes
MAX_OWN_BYTES = 4 * 1024 * 1024  # of one request or report: decoded, it takes fifty times as much in the worst case


class Ration:
    """A child's units. What it spends beyond them it has to wait for; instants and times are in seconds."""

    def __init__(self) -> None:
        self._left = float(MOST_UNITS)
        self._at = float("-inf")

    def spend(self, units: int, now: float) -> float:
        """Spend units; return for how long the child has to wait before it may spend more."""
        self._left = min(float(MOST_UNITS), self._left + (now - self._at) * UNITS_PER_SECOND) - units
        self._at = now
        return max(0.0, -self._left / UNITS_PER_SECOND)


def is_own(frame: Frame) -> bool:
    """Return whether the master itself has to act on the frame."""
    return frame.kind is FrameKind.REPORT or frame.target is Target.MASTER


def price(frame: Frame, slots: int) -> int:
    """Return how many units a frame to the master costs in a cluster with so many slots."""
    answer = REQUEST_UNITS + slots if frame.kind is FrameKind.REQUEST else 0
    return 1 + len(frame.raw) // UNIT_BYTES + answer
