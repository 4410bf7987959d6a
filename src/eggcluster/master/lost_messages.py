"""Messages that went nowhere: counted, and logged once a second at the most. Runs in the master."""

import asyncio
import logging

_logger = logging.getLogger("eggcluster.master")
INTERVAL = 1.0  # seconds; a flood to nobody must not flood the log


class LostMessages:
    """`total` is how many there were; `verb` says what happened to them. The last reason of each second is logged."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self.total = 0
        self._unsaid = 0
        self._reason = ""
        self._resting = False

    def add(self, count: int, reason: str) -> None:
        """`count` messages are lost, because of `reason`."""
        self.total += count
        self._unsaid += count
        self._reason = reason
        if not self._resting:
            self._say()

    def _say(self) -> None:
        if self._unsaid:
            many = "a message" if self._unsaid == 1 else f"{self._unsaid} messages"
            _logger.warning("%s %s: %s", many, self._verb, self._reason)
        self._resting = self._unsaid > 0
        self._unsaid = 0
        if self._resting:
            asyncio.get_running_loop().call_later(INTERVAL, self._say)
