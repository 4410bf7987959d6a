"""How long a slot waits before its next worker: not at all, then longer with each death, then not at all again.

A burst (deaths in a row without a healthy time between them) makes the slot wait. The sustained rate (deaths in the
last ten minutes) is counted separately and only logged: each of those workers did serve.
"""

from collections import deque
from dataclasses import dataclass, field

MAX_DELAY = 15.0  # seconds; as in docs/restarts.md
HEALTHY_AFTER = 30.0  # seconds of listening; a death after that counts as the first in a row
# seconds; with the defaults of Erlang and systemd (100 ms) a worker that fails at its import would spin
SECOND_DELAY = 0.5
MINUTE = 60.0
SUSTAINED_PERIOD = 600.0  # seconds in which deaths are remembered
SUSTAINED_DEATHS = 10  # in that period: worth a warning
MAX_INSTANTS = 1000  # deaths; at the longest delay there are 40 in the period


@dataclass
class RestartBudget:
    """Counts the deaths in one slot. `first_delay` is the delay after the first in a row (the agent: 1 s)."""

    first_delay: float = 0.0
    deaths_in_a_row: int = 0
    deaths: int = 0
    _instants: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_INSTANTS))
    _warned: float = float("-inf")

    def died(self, now: float, healthy_for: float | None, chance: float = 1.0) -> float:
        """Count a death; return the delay in seconds before the next start.

        `healthy_for` is how long the worker had been listening, None if it never did. `chance`, from 0 to 1,
        says where in its step the delay lies, so that slots that die together do not start together for ever.
        """
        if healthy_for is not None and healthy_for >= HEALTHY_AFTER:
            self.deaths_in_a_row = 0
        self.deaths_in_a_row += 1
        self.deaths += 1
        self._instants.append(now)
        return self.delay(chance)

    def delay(self, chance: float = 1.0) -> float:
        """Return the delay after the deaths so far. It is never shorter than the one before, up to the longest.

        Jitter over the whole range from 0, as clients of a busy server use it, would sometimes start a worker at once
        that has just died ten times.
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
        """How many died in the last `seconds`, ten minutes at most."""
        return sum(1 for instant in self._instants if instant > now - seconds)

    def keeps_dying(self, now: float) -> int:
        """The number of deaths in the last ten minutes where that is worth a warning, which it is once in that time."""
        recent = self.deaths_within(SUSTAINED_PERIOD, now)
        if recent < SUSTAINED_DEATHS or now < self._warned + SUSTAINED_PERIOD:
            return 0
        self._warned = now
        return recent

    def forgive(self) -> None:
        """Forget the deaths in a row: a reload asks for a new start."""
        self.deaths_in_a_row = 0
