"""How long a slot waits before its next worker: not at all, then longer with each death, then not at all again.

A burst (deaths in a row, none of them after a while of health) makes it wait. The sustained rate (deaths in the last
minutes, whatever lay between them) is counted apart, and only told: each of those workers did serve.
"""

from collections import deque
from dataclasses import dataclass, field

MAX_DELAY = 15.0  # seconds; as in docs/restarts.md
HEALTHY_AFTER = 30.0  # seconds of listening after which a death counts as the first again
SECOND_DELAY = 0.5  # seconds; Erlang's and systemd's default (100 ms) spin on a worker that fails at its import
MINUTE = 60.0
SUSTAINED_PERIOD = 600.0  # seconds in which deaths are remembered
SUSTAINED_DEATHS = 10  # in that period: somebody should know of it
REMEMBERED = 1000  # deaths; at the longest delays there are 40 in the period


@dataclass
class RestartBudget:
    """Counts the deaths in one slot. `first_delay` is what the first one in a row waits (the agent: 1 s)."""

    first_delay: float = 0.0
    deaths_in_a_row: int = 0
    deaths: int = 0
    _instants: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _warned: float = float("-inf")

    def died(self, now: float, healthy_for: float | None, chance: float = 1.0) -> float:
        """Count a death; gives the delay in seconds before the next start.

        `healthy_for` is for how long the incarnation had been listening, None if it never did. `chance`, from 0 to 1,
        says where in its step the delay lies, so that slots that die together do not start together for ever.
        """
        if healthy_for is not None and healthy_for >= HEALTHY_AFTER:
            self.deaths_in_a_row = 0
        self.deaths_in_a_row += 1
        self.deaths += 1
        self._instants.append(now)
        return self.delay(chance)

    def delay(self, chance: float = 1.0) -> float:
        """The delay that the deaths so far ask for: never shorter than the step before, until there is no longer one.

        Jitter over the whole range from 0 on, as it is usual for clients of a crowded server, would now and then
        start a worker at once that has just died ten times.
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
        """Forget the deaths in a row: somebody asked for a new start by hand (a reload)."""
        self.deaths_in_a_row = 0
