"""Throttling: a complaint about a lasting trouble is repeated at most once per interval. Runs in all processes."""

import time
from collections.abc import Hashable


class Throttle:
    """Lets one event per key through in each `interval` (seconds of the monotonic clock), the first one at once."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last: dict[Hashable, float] = {}

    def allows(self, key: Hashable = None) -> bool:
        """Return whether the event may be reported now; if so, the key's interval begins anew."""
        now = time.monotonic()
        if now < self._last.get(key, float("-inf")) + self._interval:
            return False
        self._last[key] = now
        return True

    def reset(self, key: Hashable = None) -> None:
        """Let the next event through at once, because the trouble has passed."""
        self._last.pop(key, None)
