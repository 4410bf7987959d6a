"""How long a seat waits before its next incarnation: at once, then longer with each death, then at once again."""

from dataclasses import dataclass

MAX_DELAY = 15.0  # seconds; as in docs/restarts.md
HEALTHY_AFTER = 30.0  # seconds of listening after which a death counts as the first again
SECOND_DELAY = 0.5  # seconds; Erlang's and systemd's default (100 ms) spin on a worker that fails at its import


@dataclass
class RestartBudget:
    """Counts the deaths of one seat in a row. `first_delay` is what the first one waits (the agent: 1 s)."""

    first_delay: float = 0.0
    deaths_in_a_row: int = 0
    deaths: int = 0

    def died(self, healthy_for: float | None) -> float:
        """Count a death; gives the delay in seconds before the next start.

        `healthy_for` is for how long the incarnation had been listening, None if it never did.
        """
        if healthy_for is not None and healthy_for >= HEALTHY_AFTER:
            self.deaths_in_a_row = 0
        self.deaths_in_a_row += 1
        self.deaths += 1
        return self.delay()

    def delay(self) -> float:
        """The delay that the deaths so far ask for."""
        if self.deaths_in_a_row <= 1:
            return self.first_delay
        doubled = max(self.first_delay, SECOND_DELAY / 2) * 2.0 ** min(self.deaths_in_a_row - 1, 10)
        return min(MAX_DELAY, doubled)

    def forgive(self) -> None:
        """Forget the deaths in a row: somebody asked for a new start by hand (a reload)."""
        self.deaths_in_a_row = 0
