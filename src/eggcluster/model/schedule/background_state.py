"""One background task as the status shows it, and when it is started again. Pure: the clock is an argument."""

from dataclasses import dataclass
from typing import Any

RESTARTS = ("always", "on-error", "never")
FIRST_DELAY = 0.5  # seconds
MAX_DELAY = 30.0  # seconds; as long as a broker's own reconnects take at most
STEADY_AFTER = 60.0  # seconds of running after which the delays start anew


@dataclass
class BackgroundState:
    """`state` is "running", "waiting" (for its next start), "ended", "failed" (it raised, and that was the last time),
    "stopped" (by the worker's close) or "abandoned" (it did not stop in time)."""

    name: str
    restart: str = "on-error"
    state: str = "waiting"
    restarts: int = 0
    last_error: str | None = None
    _began: float = 0.0
    _delay: float = FIRST_DELAY

    def begin(self, now: float) -> None:
        """It is started."""
        self.state, self._began = "running", now

    def end(self, now: float, error: str | None) -> float | None:
        """It returned, or raised `error`: the seconds until its next start, None where that was the last time."""
        self.last_error = error or self.last_error
        if self.restart == "never" or (self.restart == "on-error" and error is None):
            self.state = "failed" if error is not None else "ended"
            return None
        if now - self._began > STEADY_AFTER:
            self._delay = FIRST_DELAY
        delay, self._delay = self._delay, min(self._delay * 2, MAX_DELAY)
        self.state = "waiting"
        self.restarts += 1
        return delay

    def plain(self) -> dict[str, Any]:
        """As plain values, for the status."""
        return {"name": self.name, "state": self.state, "restarts": self.restarts, "last_error": self.last_error}
