"""The state of one background task as the status shows it, and its restarts. Pure; runs in all workers."""

from dataclasses import dataclass
from typing import Any

RESTARTS = ("always", "on-error", "never")
FIRST_RESTART_DELAY = 0.5  # seconds
MAX_RESTART_DELAY = 30.0  # seconds; also a usual limit for the reconnects of a broker's client
DELAY_RESET_AFTER = 60.0  # seconds; after a longer run the delays begin anew


@dataclass
class BackgroundState:
    """`state` is "running", "waiting" (for its next start), "ended", "failed" (it raised and is not restarted),
    "stopped" (by the worker's close) or "abandoned" (it did not stop in time)."""

    name: str
    restart: str = "on-error"
    state: str = "waiting"
    restarts: int = 0
    last_error: str | None = None
    _began: float = 0.0
    _delay: float = FIRST_RESTART_DELAY

    def begin(self, now: float) -> None:
        """Record a start."""
        self.state, self._began = "running", now

    def end(self, now: float, error: str | None) -> float | None:
        """Record that the function raised `error` or (None) returned. Return the seconds until its restart, or None."""
        self.last_error = error or self.last_error
        if self.restart == "never" or (self.restart == "on-error" and error is None):
            self.state = "failed" if error is not None else "ended"
            return None
        if now - self._began > DELAY_RESET_AFTER:
            self._delay = FIRST_RESTART_DELAY
        delay, self._delay = self._delay, min(self._delay * 2, MAX_RESTART_DELAY)
        self.state = "waiting"
        self.restarts += 1
        return delay

    def plain(self) -> dict[str, Any]:
        """Return plain values for the status."""
        return {"name": self.name, "state": self.state, "restarts": self.restarts, "last_error": self.last_error}
